//! The people who may act in the bank's name, in memory.

use async_trait::async_trait;

use super::{MemoryStore, MemoryUnit, at_most, insert};
use crate::crypto::Digest;
use crate::domain::id::PrincipalName;
use crate::domain::time::UnixMillis;
use crate::store::{PrincipalReads, PrincipalRow, PrincipalWrites, StoreError};

#[async_trait]
impl PrincipalReads for MemoryStore {
    async fn principal(&self, spki: &Digest) -> Result<Option<PrincipalRow>, StoreError> {
        Ok(self.read()?.principals.get(spki).cloned())
    }

    async fn principals(
        &self,
        after: Option<&Digest>,
        limit: u32,
    ) -> Result<Vec<PrincipalRow>, StoreError> {
        let state = self.read()?;
        let rows = state.principals.values();
        let rows = rows.filter(|row| after.is_none_or(|spki| row.spki > *spki));
        Ok(at_most(rows.cloned(), limit))
    }

    async fn principals_of_entry(&self, index: u64) -> Result<Vec<PrincipalRow>, StoreError> {
        let state = self.read()?;
        Ok(state.principals.values().filter(|row| row.index == index).cloned().collect())
    }
}

#[async_trait]
impl PrincipalWrites for MemoryUnit {
    async fn principal(&mut self, spki: &Digest) -> Result<Option<PrincipalRow>, StoreError> {
        Ok(self.state()?.principals.get(spki).cloned())
    }

    async fn principals_named(
        &mut self,
        name: &PrincipalName,
    ) -> Result<Vec<PrincipalRow>, StoreError> {
        let rows = self.state()?.principals.values();
        Ok(rows.filter(|row| row.name == *name).cloned().collect())
    }

    async fn insert_principal(&mut self, row: &PrincipalRow) -> Result<(), StoreError> {
        insert(&mut self.state()?.principals, row.spki, row.clone())
    }

    async fn revoke_principal(
        &mut self,
        spki: &Digest,
        at: UnixMillis,
        index: u64,
    ) -> Result<bool, StoreError> {
        let held = self.state()?.principals.get_mut(spki);
        let Some(row) = held.filter(|row| row.revoked.is_none()) else { return Ok(false) };
        row.revoked = Some((at, index));
        Ok(true)
    }
}
