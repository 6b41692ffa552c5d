//! Merkle tree, signed notes, checkpoints, inclusion and consistency proofs.
//!
//! The tree is that of RFC 6962 over SHA-256; the texts are those of C2SP (signed-note,
//! tlog-checkpoint, tlog-cosignature, tlog-policy, tlog-proof, tlog-tiles), so that an auditor's own
//! tools read them. Time-stamps are those of RFC 3161.

mod checkpoint;
mod cosignature;
mod der;
mod half_year;
mod names;
mod note;
mod policy;
mod proof;
mod shards;
mod submission;
mod tile;
mod timestamp;
mod tree;

pub use checkpoint::{Checkpoint, CheckpointError, split_checkpoints};
pub use cosignature::{
    Cosignature, CosignatureError, LogKey, VerifierKeyError, WitnessKey, WitnessTimes, cosign,
};
pub use half_year::half_years_after;
pub use names::{LedgerNames, LogPosition};
pub use note::{InvalidOrigin, KeyId, NOTE_BYTES_MAX, NoteError, Origin, SignedNote, sign_note};
pub use policy::{
    LineFault, POLICY_BYTES_MAX, PolicyError, Quorum, QuorumState, WitnessPolicy, WitnessRecord,
};
pub use proof::{ProofTextError, TlogProof};
pub use shards::{ClosedShard, LogOfLogs};
pub use submission::{SUBMISSION_BYTES_MAX, Submission, SubmissionError};
pub use tile::{
    TILE_WIDTH, TileAddress, TileError, TileKind, TileWriter, WrittenTile, append_entry,
};
pub use timestamp::{Nonce, TIMESTAMP_BYTES_MAX, TimestampError, TimestampRequest, TimestampToken};
pub use tree::{
    LeafHash, OutsideTree, ProofError, Tree, empty_root, verify_consistency, verify_inclusion,
};

use crate::crypto::sha256;

/// What is logged for a receipt: a context line and SHA-256 of the exact JWS bytes.
#[must_use]
pub fn entry(jws: &str) -> Vec<u8> {
    [ENTRY_CONTEXT, sha256(jws.as_bytes()).as_bytes().as_slice()].concat()
}

/// The leaf hash of a receipt: RFC 6962's leaf hash of its [`entry`].
#[must_use]
pub fn leaf_hash(jws: &str) -> LeafHash {
    LeafHash::of_entry(&entry(jws))
}

const ENTRY_CONTEXT: &[u8] = b"tulga-receipt-v1\n";
