//! Packs in memory.

use async_trait::async_trait;

use super::{MemoryStore, MemoryUnit, State, at_most, insert};
use crate::crypto::Digest;
use crate::domain::time::UnixMillis;
use crate::store::{ActivationRow, PackRow, PackShelf, PackSignature, Packs, StoreError};

impl State {
    fn activation_at(&self, now: UnixMillis) -> Option<ActivationRow> {
        let past = self.activations.values();
        let past = past.filter(|row| !row.from_folder && row.effective_at <= now);
        past.max_by_key(|row| (row.effective_at, row.index)).cloned()
    }
}

#[async_trait]
impl PackShelf for MemoryStore {
    async fn pack(&self, hash: &Digest) -> Result<Option<PackRow>, StoreError> {
        Ok(self.read()?.packs.get(hash).map(|(row, _)| row.clone()))
    }

    async fn pack_files(&self, hash: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.read()?.packs.get(hash).map(|(_, files)| files.clone()))
    }

    async fn packs(&self, after: Option<u64>, limit: u32) -> Result<Vec<PackRow>, StoreError> {
        let state = self.read()?;
        let mut rows: Vec<_> = state.packs.values().map(|(row, _)| row.clone()).collect();
        rows.sort_by_key(|row| row.proposed.index);
        let later = rows.into_iter().filter(|row| after.is_none_or(|it| row.proposed.index > it));
        Ok(at_most(later, limit))
    }

    async fn activation_at(&self, now: UnixMillis) -> Result<Option<ActivationRow>, StoreError> {
        Ok(self.read()?.activation_at(now))
    }

    async fn activation(&self, index: u64) -> Result<Option<ActivationRow>, StoreError> {
        Ok(self.read()?.activations.get(&index).cloned())
    }

    async fn folder_activation(&self) -> Result<Option<ActivationRow>, StoreError> {
        let state = self.read()?;
        Ok(state.activations.values().rev().find(|row| row.from_folder).cloned())
    }

    async fn activations_after(
        &self,
        now: UnixMillis,
        limit: u32,
    ) -> Result<Vec<ActivationRow>, StoreError> {
        let state = self.read()?;
        let coming = state.activations.values();
        let coming = coming.filter(|row| !row.from_folder && row.effective_at > now);
        let mut coming: Vec<_> = coming.cloned().collect();
        coming.sort_by_key(|row| (row.effective_at, row.index));
        Ok(at_most(coming.into_iter(), limit))
    }
}

#[async_trait]
impl Packs for MemoryUnit {
    async fn insert_pack(&mut self, row: &PackRow, files: &[u8]) -> Result<(), StoreError> {
        insert(&mut self.state()?.packs, row.hash, (row.clone(), files.to_vec()))
    }

    async fn pack(&mut self, hash: &Digest) -> Result<Option<PackRow>, StoreError> {
        Ok(self.state()?.packs.get(hash).map(|(row, _)| row.clone()))
    }

    async fn packs_of(&mut self, id: &str) -> Result<Vec<PackRow>, StoreError> {
        let packs = self.state()?.packs.values();
        let mut rows: Vec<_> =
            packs.filter(|(row, _)| row.id == id).map(|(row, _)| row.clone()).collect();
        rows.sort_by_key(|row| row.proposed.index);
        Ok(rows)
    }

    async fn packs_waiting(&mut self) -> Result<u64, StoreError> {
        let waiting = self.state()?.packs.values().filter(|(row, _)| row.approved.is_none());
        Ok(u64::try_from(waiting.count()).unwrap_or(u64::MAX))
    }

    async fn approve_pack(
        &mut self,
        hash: &Digest,
        approved: &PackSignature,
    ) -> Result<bool, StoreError> {
        let pack = self.state()?.packs.get_mut(hash);
        let Some((row, _)) = pack.filter(|(row, _)| row.approved.is_none()) else {
            return Ok(false);
        };
        row.approved = Some(approved.clone());
        Ok(true)
    }

    async fn delete_expired_packs(&mut self, now: UnixMillis) -> Result<u64, StoreError> {
        let packs = &mut self.state()?.packs;
        let count = packs.len();
        packs.retain(|_, (row, _)| row.approved.is_some() || row.expires_at >= now);
        Ok(u64::try_from(count - packs.len()).unwrap_or(u64::MAX))
    }

    async fn insert_activation(&mut self, row: &ActivationRow) -> Result<(), StoreError> {
        insert(&mut self.state()?.activations, row.index, row.clone())
    }

    async fn activation_at(
        &mut self,
        now: UnixMillis,
    ) -> Result<Option<ActivationRow>, StoreError> {
        Ok(self.state()?.activation_at(now))
    }

    async fn activations_of(&mut self, id: &str) -> Result<Vec<ActivationRow>, StoreError> {
        Ok(self.state()?.activations.values().filter(|row| row.id == id).cloned().collect())
    }
}
