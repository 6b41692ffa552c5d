//! Which ledgers were closed, and what a batch appends to the open one.

use async_trait::async_trait;

use super::{EntryRow, StoreError};
use crate::crypto::Digest;

/// A ledger that takes no more entries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClosedLedgerRow {
    /// Which ledger.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
}

/// Questions about ledgers, answered from committed state.
#[async_trait]
pub trait LedgerReads {
    /// The ledgers that take no more entries, in the order of their closing.
    async fn closed_ledgers(&self) -> Result<Vec<ClosedLedgerRow>, StoreError>;
    /// The ledgers that have a head and were not closed.
    async fn open_ledgers(&self) -> Result<Vec<String>, StoreError>;
}

/// Ledgers inside a write transaction.
#[async_trait]
pub trait LedgerWrites: Send {
    /// Closes a ledger, behind those that were closed before; [`StoreError::Exists`] if it was.
    async fn close_ledger(&mut self, row: &ClosedLedgerRow) -> Result<(), StoreError>;
    /// Appends entries in their order; [`StoreError::Exists`] if an index or a receipt is taken.
    async fn insert_entries(&mut self, origin: &str, rows: &[EntryRow]) -> Result<(), StoreError>;
}
