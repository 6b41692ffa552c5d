//! Integration tests: one binary, one module a subject.

mod api;
mod audit;
mod config;
mod door;
mod durability;
mod foreign_verifiers;
mod ledger;
mod policy;
mod reasons;
mod receipts;
mod store;
mod vision;
