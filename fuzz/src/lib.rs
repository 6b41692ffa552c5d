//! What is fuzzed, as plain functions: `cargo fuzz` runs them on what it makes up, and the test
//! `fuzz` of the gateway on the corpus of this folder.

mod targets;

pub use targets::*;
