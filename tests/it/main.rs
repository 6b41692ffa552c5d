//! Integration tests: one binary, one module a subject.

mod door;
mod ledger;
mod policy;
mod reasons;
mod receipts;
