//! Integration tests: one binary, one module a subject.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    clippy::needless_pass_by_value,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "a test that fails may panic, and says what it skipped"
)]

mod accuracy;
mod api;
mod architecture;
mod attacks;
#[cfg(feature = "test-support")]
mod attempts;
mod audit;
mod bank;
mod canaries;
mod case_work;
mod cli;
mod config;
mod confirmation;
mod consent;
mod crash;
mod disk_faults;
mod door;
mod durability;
mod enrolment_capture;
mod envelope;
mod exception;
#[cfg(feature = "test-support")]
mod faults;
mod fetch;
mod finger_pictures;
mod fingerprint;
mod fingers;
mod footage;
mod foreign;
#[cfg(feature = "test-support")]
mod fuzz;
mod guests;
mod hosts;
mod incidents;
mod interchange;
mod keys;
mod ledger;
mod limits;
mod lookalikes;
mod mutations;
mod near_duplicates;
mod office;
mod office_cli;
mod packs;
#[cfg(feature = "test-support")]
mod packs_in_time;
mod page;
mod page_cases;
mod policy;
mod process;
mod proposals;
mod reasons;
mod receipts;
mod reconcile;
mod reference;
mod registers;
mod replay;
mod reports;
mod rules;
mod samples;
mod sealed;
mod site;
mod store;
mod strength;
mod supply;
mod synth;
mod tellers;
mod vault;
mod vision;
mod withdrawal;
mod witness;
mod working_days;
