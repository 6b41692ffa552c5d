//! Integration tests: one binary, one module a subject.

mod audit;
mod door;
mod ledger;
mod policy;
mod reasons;
mod receipts;
mod vision;
