//! What others say of the ledger: witnesses' cosignatures and time-stamps.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::time::UnixMillis;

/// The largest head of a ledger that enough witnesses cosigned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WitnessedRow {
    /// Its size.
    pub size: u64,
    /// Since when they were enough, by their clocks.
    pub time: UnixMillis,
}

/// A time-stamp of a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimestampRow {
    /// The checkpoint's size.
    pub size: u64,
    /// The authority's answer, DER.
    pub answer: Vec<u8>,
    /// The time in it.
    pub time: UnixMillis,
}

/// Questions about what others say.
#[async_trait]
pub trait WitnessReads: Send + Sync {
    /// The largest head of a ledger that was witnessed.
    async fn witnessed(&self, origin: &str) -> Result<Option<WitnessedRow>, StoreError>;
    /// Time-stamps of checkpoints of at least `from_size`, by size, at most `limit`.
    async fn timestamps(
        &self,
        origin: &str,
        from_size: u64,
        limit: u32,
    ) -> Result<Vec<TimestampRow>, StoreError>;
    /// The time-stamp of the largest checkpoint that has one.
    async fn latest_timestamp(&self, origin: &str) -> Result<Option<TimestampRow>, StoreError>;
}

/// What others say, inside a write transaction.
#[async_trait]
pub trait WitnessWrites: Send {
    /// Puts a cosignature's line behind a kept checkpoint, unless it stands there.
    async fn add_cosignature(
        &mut self,
        origin: &str,
        size: u64,
        line: &str,
    ) -> Result<(), StoreError>;
    /// Notes the head that was witnessed, in place of an earlier one.
    async fn put_witnessed(&mut self, origin: &str, row: &WitnessedRow) -> Result<(), StoreError>;
    /// Keeps a time-stamp; another of the same size changes nothing.
    async fn insert_timestamp(
        &mut self,
        origin: &str,
        row: &TimestampRow,
    ) -> Result<(), StoreError>;
}
