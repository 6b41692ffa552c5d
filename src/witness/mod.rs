//! An independent witness (c2sp.org/tlog-witness): cosigns only what extends what it has seen, and has
//! made that durable before it says so.
//!
//! Here are its rules and its memory; [`crate::web`] is how it is reached. A witness is run by somebody
//! else than the ledger: a regulator, another bank. What it remembers must outlive it, and must never be
//! put back from a backup: a witness that forgets would cosign a second history.

mod rules;
mod state;

pub use rules::{Refusal, TrustedLog, Witness};
pub use state::{Seen, StateDir, StateError};
