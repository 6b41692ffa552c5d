//! The command line: one file a subcommand.

pub mod audit_verify;
pub mod evaluate;
