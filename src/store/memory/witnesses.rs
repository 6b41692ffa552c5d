//! What others say of the ledger, in memory.

use async_trait::async_trait;

use super::{MemoryStore, MemoryUnit, at_most};
use crate::store::{StoreError, TimestampRow, WitnessReads, WitnessWrites, WitnessedRow};

#[async_trait]
impl WitnessReads for MemoryStore {
    async fn witnessed(&self, origin: &str) -> Result<Option<WitnessedRow>, StoreError> {
        Ok(self.read()?.witnessed.get(origin).copied())
    }

    async fn timestamps(
        &self,
        origin: &str,
        from_size: u64,
        limit: u32,
    ) -> Result<Vec<TimestampRow>, StoreError> {
        let range = (origin.to_owned(), from_size)..=(origin.to_owned(), u64::MAX);
        let state = self.read()?;
        Ok(at_most(state.timestamps.range(range).map(|(_, row)| row.clone()), limit))
    }

    async fn latest_timestamp(&self, origin: &str) -> Result<Option<TimestampRow>, StoreError> {
        let range = (origin.to_owned(), 0)..=(origin.to_owned(), u64::MAX);
        Ok(self.read()?.timestamps.range(range).next_back().map(|(_, row)| row.clone()))
    }
}

#[async_trait]
impl WitnessWrites for MemoryUnit {
    async fn add_cosignature(
        &mut self,
        origin: &str,
        size: u64,
        line: &str,
    ) -> Result<(), StoreError> {
        let kept = self.state()?.checkpoints.get_mut(&(origin.to_owned(), size));
        if let Some(row) = kept.filter(|row| !row.text.contains(line)) {
            row.text.push_str(line);
        }
        Ok(())
    }

    async fn put_witnessed(&mut self, origin: &str, row: &WitnessedRow) -> Result<(), StoreError> {
        self.state()?.witnessed.insert(origin.to_owned(), *row);
        Ok(())
    }

    async fn insert_timestamp(
        &mut self,
        origin: &str,
        row: &TimestampRow,
    ) -> Result<(), StoreError> {
        let key = (origin.to_owned(), row.size);
        self.state()?.timestamps.entry(key).or_insert_with(|| row.clone());
        Ok(())
    }
}
