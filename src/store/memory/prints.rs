//! Prints of faces in memory.

use std::cmp::Reverse;

use async_trait::async_trait;

use super::{MemoryStore, MemoryUnit, at_most, insert};
use crate::domain::id::CustomerId;
use crate::domain::time::UnixMillis;
use crate::store::{FacePrintRow, PrintReads, Prints, StoreError};

#[async_trait]
impl PrintReads for MemoryStore {
    async fn face_prints(
        &self,
        customer: &CustomerId,
        now: UnixMillis,
        limit: u32,
    ) -> Result<Vec<FacePrintRow>, StoreError> {
        let state = self.read()?;
        let rows = state.face_prints.values();
        let mut rows: Vec<_> =
            rows.filter(|row| row.customer == *customer && row.until > now).cloned().collect();
        rows.sort_by_key(|row| (Reverse(row.at), row.id));
        Ok(at_most(rows.into_iter(), limit))
    }
}

#[async_trait]
impl Prints for MemoryUnit {
    async fn insert_face_print(&mut self, row: &FacePrintRow) -> Result<(), StoreError> {
        let state = self.state()?;
        state.require_customer(&row.customer)?;
        insert(&mut state.face_prints, row.id, row.clone())
    }

    async fn forget_face_prints(&mut self, now: UnixMillis) -> Result<u64, StoreError> {
        let prints = &mut self.state()?.face_prints;
        let held = prints.len();
        prints.retain(|_, row| row.until > now);
        Ok(u64::try_from(held - prints.len()).unwrap_or(u64::MAX))
    }
}
