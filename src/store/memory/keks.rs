//! Key-encryption keys in memory.

use async_trait::async_trait;

use super::{MemoryStore, MemoryUnit, State, at_most};
use crate::domain::time::UnixMillis;
use crate::store::{
    CustomerKeyRow, EvidenceKeyRow, KekReads, KekRow, KekWrites, OwnKeyRow, StoreError,
};

impl State {
    /// Refuses what is wrapped under a key that is destroyed.
    pub(super) fn require_live_kek(&self, kek_id: &str) -> Result<(), StoreError> {
        let is_retired = |row: &KekRow| row.kek_id == kek_id && row.retired_at.is_some();
        if self.keks.values().any(is_retired) {
            return Err(StoreError::Unavailable("the key-encryption key is retired".into()));
        }
        Ok(())
    }

    fn customer_keys_where(&self, test: impl Fn(&str) -> bool) -> Vec<CustomerKeyRow> {
        self.customer_keys.values().filter(|row| test(&row.kek_id)).cloned().collect()
    }

    fn evidence_keys_where(&self, test: impl Fn(Option<&str>) -> bool) -> Vec<EvidenceKeyRow> {
        let rows = self.evidence.values().map(super::evidence::Kept::row);
        let keys = rows.filter_map(|row| {
            let wrapped = row.wrapped.clone()?;
            let (index, receipt, kek_id) = (row.index, row.receipt, row.kek_id.clone());
            Some(EvidenceKeyRow { index, receipt, kek_id, wrapped })
        });
        keys.filter(|row| test(row.kek_id.as_deref())).collect()
    }

    fn wrapped_where(&self, test: impl Fn(Option<&str>) -> bool) -> u64 {
        let own = self.own_keys.values().filter(|row| test(Some(&row.kek_id))).count();
        let customers = self.customer_keys_where(|id| test(Some(id))).len();
        let evidence = self.evidence_keys_where(&test).len();
        u64::try_from(own + customers + evidence).unwrap_or(u64::MAX)
    }
}

#[async_trait]
impl KekReads for MemoryStore {
    async fn keks(&self) -> Result<Vec<KekRow>, StoreError> {
        Ok(self.read()?.keks.values().cloned().collect())
    }

    async fn own_keys(&self) -> Result<Vec<OwnKeyRow>, StoreError> {
        Ok(self.read()?.own_keys.values().cloned().collect())
    }

    async fn wrapped_under_others(&self, kek_id: &str) -> Result<u64, StoreError> {
        Ok(self.read()?.wrapped_where(|id| id != Some(kek_id)))
    }
}

#[async_trait]
impl KekWrites for MemoryUnit {
    async fn keks(&mut self) -> Result<Vec<KekRow>, StoreError> {
        Ok(self.state()?.keks.values().cloned().collect())
    }

    async fn insert_kek(&mut self, row: &KekRow) -> Result<(), StoreError> {
        let keks = &mut self.state()?.keks;
        if keks.values().any(|held| held.kek_id == row.kek_id) {
            return Err(StoreError::Exists);
        }
        super::insert(keks, row.ordinal, row.clone())
    }

    async fn end_kek(&mut self, kek_id: &str, at: UnixMillis) -> Result<bool, StoreError> {
        let mut keks = self.state()?.keks.values_mut();
        let row = keks.find(|row| row.kek_id == kek_id && row.ended_at.is_none());
        Ok(row.map(|row| row.ended_at = Some(at)).is_some())
    }

    async fn retire_kek(&mut self, kek_id: &str, at: UnixMillis) -> Result<bool, StoreError> {
        let mut keks = self.state()?.keks.values_mut();
        let row = keks.find(|row| row.kek_id == kek_id && row.retired_at.is_none());
        Ok(row.map(|row| row.retired_at = Some(at)).is_some())
    }

    async fn put_own_key(&mut self, row: &OwnKeyRow) -> Result<(), StoreError> {
        self.state()?.own_keys.insert(row.purpose.clone(), row.clone());
        Ok(())
    }

    async fn customer_keys_under_others(
        &mut self,
        kek_id: &str,
        limit: u32,
    ) -> Result<Vec<CustomerKeyRow>, StoreError> {
        Ok(at_most(self.state()?.customer_keys_where(|id| id != kek_id).into_iter(), limit))
    }

    async fn evidence_keys_under_others(
        &mut self,
        kek_id: &str,
        limit: u32,
    ) -> Result<Vec<EvidenceKeyRow>, StoreError> {
        let rows = self.state()?.evidence_keys_where(|id| id != Some(kek_id));
        Ok(at_most(rows.into_iter(), limit))
    }

    async fn rewrap_customer_key(&mut self, row: &CustomerKeyRow) -> Result<(), StoreError> {
        if let Some(held) = self.state()?.customer_keys.get_mut(&row.customer) {
            *held = row.clone();
        }
        Ok(())
    }

    async fn rewrap_evidence_key(&mut self, row: &EvidenceKeyRow) -> Result<(), StoreError> {
        if let Some(kept) = self.state()?.evidence.get_mut(&row.index) {
            kept.rewrap(row);
        }
        Ok(())
    }

    async fn wrapped_under(&mut self, kek_id: &str) -> Result<u64, StoreError> {
        Ok(self.state()?.wrapped_where(|id| id.is_none_or(|id| id == kek_id)))
    }

    async fn wrapped_under_others(&mut self, kek_id: &str) -> Result<u64, StoreError> {
        Ok(self.state()?.wrapped_where(|id| id != Some(kek_id)))
    }
}
