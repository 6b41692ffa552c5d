//! Duties to keep cameras' clips, and the legal holds that lengthen them.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::footage::Footage;
use crate::domain::id::{CaseReference, TerminalId};
use crate::domain::time::UnixMillis;

/// The duty of one entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FootageRow {
    /// The entry: a decision, or an outcome report that named a clip.
    pub index: u64,
    /// The first decision about the attempt that it belongs to: holds stand on it.
    pub decision: u64,
    /// The terminal.
    pub terminal: TerminalId,
    /// When the entry was made.
    pub at: UnixMillis,
    /// Whether it is an approval for which no clip was named, here or with an outcome.
    pub is_missing: bool,
    /// The clip, where one was named.
    pub clip: Option<ClipRow>,
    /// From when on the clip may be destroyed.
    pub keep_until: UnixMillis,
    /// When it was confirmed that it was.
    pub deleted_at: Option<UnixMillis>,
}

/// A clip that an entry commits to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClipRow {
    /// Camera, span and hash.
    pub footage: Footage,
    /// The commitment's salt, sealed.
    pub sealed_salt: Vec<u8>,
}

/// A duty with the cases that hold it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FootageDuty {
    /// The duty.
    pub row: FootageRow,
    /// The cases that hold its decision, in the order of their names.
    pub cases: Vec<CaseReference>,
}

/// Which duties are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FootageState {
    /// All of them.
    Any,
    /// Approvals without a clip.
    Missing,
    /// Clips that may be destroyed at this instant and were not.
    Due(UnixMillis),
    /// Those of decisions on hold.
    OnHold,
}

/// Which duties are wanted, and of which entries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FootageFilter {
    /// Which.
    pub state: FootageState,
    /// Not before.
    pub from: Option<UnixMillis>,
    /// Before.
    pub until: Option<UnixMillis>,
    /// Of this terminal.
    pub terminal: Option<TerminalId>,
}

/// How many duties there are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FootageCounts {
    /// Clips that may be destroyed.
    pub due: u64,
    /// Approvals without a clip.
    pub missing: u64,
    /// Entries of decisions on hold.
    pub on_hold: u64,
}

/// Duties from committed state.
#[async_trait]
pub trait FootageReads: Send + Sync {
    /// The duty of an entry.
    async fn footage(&self, index: u64) -> Result<Option<FootageDuty>, StoreError>;

    /// Duties after an index that the filter takes, at most `limit`, in the order of the ledger.
    async fn footage_page(
        &self,
        filter: &FootageFilter,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<FootageDuty>, StoreError>;

    /// How many duties there are of each kind at an instant.
    async fn footage_counts(&self, now: UnixMillis) -> Result<FootageCounts, StoreError>;
}

/// Duties inside a write transaction.
#[async_trait]
pub trait Footages: Send {
    /// Adds a duty; [`StoreError::Exists`] if its entry has one. A clip of an outcome report makes its
    /// decision's duty one that is not missing.
    async fn insert_footage(&mut self, row: &FootageRow) -> Result<(), StoreError>;

    /// The duty of an entry, inside this transaction.
    async fn footage(&mut self, index: u64) -> Result<Option<FootageDuty>, StoreError>;

    /// Notes that a clip was destroyed; false if there is no such clip that was not.
    async fn delete_footage(&mut self, index: u64, at: UnixMillis) -> Result<bool, StoreError>;

    /// Holds a decision for a case; [`StoreError::Exists`] if the case holds it.
    async fn insert_hold(
        &mut self,
        decision: u64,
        case: &CaseReference,
        at: UnixMillis,
    ) -> Result<(), StoreError>;

    /// Ends a case's hold; false if there was none.
    async fn delete_hold(
        &mut self,
        decision: u64,
        case: &CaseReference,
    ) -> Result<bool, StoreError>;
}
