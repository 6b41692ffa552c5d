//! Captures that are kept as evidence: their keys and times. The sealed pictures lie elsewhere.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::id::ReceiptId;
use crate::domain::time::UnixMillis;

/// One capture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EvidenceRow {
    /// The decision's entry.
    pub index: u64,
    /// The decision's receipt, by which the picture's file is named.
    pub receipt: ReceiptId,
    /// The shelf on which the file lies.
    pub shelf: String,
    /// What the picture is.
    pub media_type: String,
    /// The picture's own key, wrapped; none once it was destroyed.
    pub wrapped: Option<Vec<u8>>,
    /// Under which key-encryption key; none in a row that does not say.
    pub kek_id: Option<String>,
    /// From when on it may be destroyed.
    pub keep_until: UnixMillis,
}

/// How many captures there are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct EvidenceCounts {
    /// Whose time is over, without a hold.
    pub due: u64,
    /// Whose time is over, on hold.
    pub on_hold: u64,
    /// Whose time is not over.
    pub kept: u64,
}

/// Captures from committed state.
#[async_trait]
pub trait EvidenceReads: Send + Sync {
    /// The capture of a decision, destroyed ones too.
    async fn evidence(&self, index: u64) -> Result<Option<EvidenceRow>, StoreError>;

    /// Whether a receipt has a row, whatever became of its capture.
    async fn has_evidence(&self, receipt: &ReceiptId) -> Result<bool, StoreError>;

    /// Captures whose keys are destroyed and whose files are not known to be removed, after an index.
    async fn evidence_files_to_remove(
        &self,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<EvidenceRow>, StoreError>;

    /// As [`Evidences::evidence_due`], from committed state.
    async fn evidence_due(&self, now: UnixMillis, limit: u32) -> Result<Vec<u64>, StoreError>;

    /// How many captures there are of each kind at an instant.
    async fn evidence_counts(&self, now: UnixMillis) -> Result<EvidenceCounts, StoreError>;
}

/// Captures inside a write transaction.
#[async_trait]
pub trait Evidences: Send {
    /// Adds a capture; [`StoreError::Exists`] if its decision has one.
    async fn insert_evidence(&mut self, row: &EvidenceRow) -> Result<(), StoreError>;

    /// Captures whose time is over at `now`, that have their keys and no hold, at most `limit`, the
    /// oldest first.
    async fn evidence_due(&mut self, now: UnixMillis, limit: u32) -> Result<Vec<u64>, StoreError>;

    /// Destroys a capture's key; false if it has none.
    async fn destroy_evidence(&mut self, index: u64) -> Result<bool, StoreError>;

    /// Notes that the file of a destroyed capture is gone.
    async fn note_file_removed(&mut self, index: u64) -> Result<(), StoreError>;
}
