//! Evidence in memory.

use async_trait::async_trait;

use super::{MemoryStore, MemoryUnit, State, at_most, insert};
use crate::domain::id::ReceiptId;
use crate::domain::time::UnixMillis;
use crate::store::{
    EvidenceCounts, EvidenceKeyRow, EvidenceReads, EvidenceRow, Evidences, StoreError,
};

/// A capture, and whether its file is known to be gone.
#[derive(Clone)]
pub(super) struct Kept {
    row: EvidenceRow,
    is_file_removed: bool,
}

impl Kept {
    pub const fn row(&self) -> &EvidenceRow {
        &self.row
    }

    /// Puts its key, wrapped anew, in place of its own, unless that is destroyed.
    pub fn rewrap(&mut self, key: &EvidenceKeyRow) {
        if self.row.wrapped.is_some() {
            self.row.wrapped = Some(key.wrapped.clone());
            self.row.kek_id.clone_from(&key.kek_id);
        }
    }
}

impl State {
    fn evidence_due(&self, now: UnixMillis, limit: u32) -> Vec<u64> {
        let rows = self.evidence.values().map(|kept| &kept.row);
        let mut due: Vec<_> = rows
            .filter(|row| row.wrapped.is_some() && row.keep_until <= now)
            .filter(|row| !self.is_held(row.index))
            .map(|row| (row.keep_until, row.index))
            .collect();
        due.sort_unstable();
        at_most(due.into_iter().map(|(_, index)| index), limit)
    }
}

#[async_trait]
impl EvidenceReads for MemoryStore {
    async fn evidence(&self, index: u64) -> Result<Option<EvidenceRow>, StoreError> {
        Ok(self.read()?.evidence.get(&index).map(|kept| kept.row.clone()))
    }

    async fn has_evidence(&self, receipt: &ReceiptId) -> Result<bool, StoreError> {
        Ok(self.read()?.evidence.values().any(|kept| kept.row.receipt == *receipt))
    }

    async fn evidence_files_to_remove(
        &self,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<EvidenceRow>, StoreError> {
        let state = self.read()?;
        let rows = state.evidence.values().filter(|kept| {
            kept.row.wrapped.is_none()
                && !kept.is_file_removed
                && after.is_none_or(|after| kept.row.index > after)
        });
        Ok(at_most(rows.map(|kept| kept.row.clone()), limit))
    }

    async fn evidence_due(&self, now: UnixMillis, limit: u32) -> Result<Vec<u64>, StoreError> {
        Ok(self.read()?.evidence_due(now, limit))
    }

    async fn evidence_counts(&self, now: UnixMillis) -> Result<EvidenceCounts, StoreError> {
        let state = self.read()?;
        let mut counts = EvidenceCounts::default();
        for kept in state.evidence.values().filter(|kept| kept.row.wrapped.is_some()) {
            let is_held = state.is_held(kept.row.index);
            *match (kept.row.keep_until > now, is_held) {
                (true, _) => &mut counts.kept,
                (false, true) => &mut counts.on_hold,
                (false, false) => &mut counts.due,
            } += 1;
        }
        Ok(counts)
    }
}

#[async_trait]
impl Evidences for MemoryUnit {
    async fn insert_evidence(&mut self, row: &EvidenceRow) -> Result<(), StoreError> {
        let kept = Kept { row: row.clone(), is_file_removed: false };
        let state = self.state()?;
        if let Some(kek_id) = &row.kek_id {
            state.require_live_kek(kek_id)?;
        }
        insert(&mut state.evidence, row.index, kept)
    }

    async fn evidence_due(&mut self, now: UnixMillis, limit: u32) -> Result<Vec<u64>, StoreError> {
        Ok(self.state()?.evidence_due(now, limit))
    }

    async fn destroy_evidence(&mut self, index: u64) -> Result<bool, StoreError> {
        let kept = self.state()?.evidence.get_mut(&index);
        Ok(kept.is_some_and(|kept| kept.row.wrapped.take().is_some()))
    }

    async fn note_file_removed(&mut self, index: u64) -> Result<(), StoreError> {
        if let Some(kept) = self.state()?.evidence.get_mut(&index) {
            kept.is_file_removed = kept.row.wrapped.is_none();
        }
        Ok(())
    }
}
