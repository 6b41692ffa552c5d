//! Receipt bodies, their issue and their verification.
//!
//! A receipt is a compact JWS (RFC 7515). Its exact ASCII bytes are what is signed, stored, hashed,
//! archived and returned; nobody ever writes them anew, so no canonical form is needed.
//!
//! Everything but time and place is known before the sequencer: a [`ReceiptDraft`]. Inside it,
//! [`ReceiptDraft::complete`] adds them, and [`issue`] signs.

mod body;
mod commit;
mod export;
mod issue;
mod keys;
mod rotation;
mod strict_json;
mod verify;

pub use body::{
    Actor, Administration, Bio, Cap, Confirmation, Content, Erasure, Exception, IndexRange,
    LogBlock, Outcome, Policy, ReceiptBody, ReceiptDraft, Redemption, Refers, RegisterUsed,
    ReportingTerminal, Reversal, Terminal, Txn, Verification, Witnessed, rid_text,
};
pub use commit::{
    InvalidSalt, Salt, TransactionFields, audit_commit, footage_commit, transaction_commit,
};
pub use export::{
    AUDIT_FOLDER, CHECKPOINT_FILE, CHECKPOINTS_FILE, ERASURES_BYTES_MAX, ERASURES_FILE,
    EXPORT_FILES, ErasedBody, KEYS_FILE, KEYS_SIGNATURE_FILE, LOG_OF_LOGS_FILE, POLICY_FILE,
    RECEIPTS_FILE, TILE_FOLDER, TSA_FOLDER, erasures_json, parse_erasures,
};
pub use issue::{IssueError, SignedReceipt, issue};
pub use keys::{
    InvalidFingerprint, KeyAlgorithm, KeyRange, KeyRecord, KeyRegister, KeyRegisterError,
    KeyStatus, KeyUse, REGISTER_BYTES_MAX, TrustFingerprint,
};
pub use rotation::{LedgerPlace, LedgerState, NewKey, SuccessionError};
pub use verify::{ReceiptError, UnverifiedReceipt, VerifiedReceipt, parse, verify};

/// Longest receipt issued or read, in bytes of its JWS.
pub const JWS_BYTES_MAX: usize = 16 * 1024;

/// Whether a key id can stand in a header: 1 to 64 of `A-Z a-z 0-9 . _ -`.
fn is_key_id(text: &str) -> bool {
    let in_alphabet = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(in_alphabet)
}

/// The header's text: its bytes are fixed, so that there is one way to write it.
fn header(alg: &str, kid: &str) -> String {
    format!(r#"{{"alg":"{alg}","kid":"{kid}","typ":"tulga-receipt+jwt"}}"#)
}
