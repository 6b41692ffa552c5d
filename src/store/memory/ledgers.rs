//! Ledgers in memory.

use std::sync::Arc;

use async_trait::async_trait;

use super::{MemoryStore, MemoryUnit, insert};
use crate::store::{ClosedLedgerRow, EntryRow, LedgerReads, LedgerWrites, StoreError};

#[async_trait]
impl LedgerReads for MemoryStore {
    async fn closed_ledgers(&self) -> Result<Vec<ClosedLedgerRow>, StoreError> {
        Ok(self.read()?.closed_ledgers.clone())
    }

    async fn open_ledgers(&self) -> Result<Vec<String>, StoreError> {
        let state = self.read()?;
        let is_open =
            |origin: &&String| state.closed_ledgers.iter().all(|it| it.origin != **origin);
        Ok(state.heads.keys().filter(is_open).cloned().collect())
    }
}

#[async_trait]
impl LedgerWrites for MemoryUnit {
    async fn close_ledger(&mut self, row: &ClosedLedgerRow) -> Result<(), StoreError> {
        let closed = &mut self.state()?.closed_ledgers;
        if closed.iter().any(|held| held.origin == row.origin) {
            return Err(StoreError::Exists);
        }
        closed.push(row.clone());
        Ok(())
    }

    async fn insert_entries(&mut self, origin: &str, rows: &[EntryRow]) -> Result<(), StoreError> {
        let state = self.state()?;
        for row in rows {
            if state.entries(origin, 0).any(|held| held.receipt == row.receipt) {
                return Err(StoreError::Exists);
            }
            insert(&mut state.entries, (origin.to_owned(), row.index), Arc::new(row.clone()))?;
        }
        Ok(())
    }
}
