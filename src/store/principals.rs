//! The people who may act in the bank's name: whose key is registered, in which role and unit.

use async_trait::async_trait;

use super::StoreError;
use crate::crypto::Digest;
use crate::domain::four_eyes::StaffRole;
use crate::domain::id::{PrincipalName, ProposalId, UnitName};
use crate::domain::time::UnixMillis;

/// A person's registered key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PrincipalRow {
    /// SHA-256 of the key's `SubjectPublicKeyInfo`.
    pub spki: Digest,
    /// What its holder may do.
    pub role: StaffRole,
    /// Whose it is.
    pub name: PrincipalName,
    /// Where they work.
    pub unit: UnitName,
    /// Since when.
    pub registered_at: UnixMillis,
    /// The entry that says so.
    pub index: u64,
    /// The proposal that two people agreed on; none for an act of the root key's holder.
    pub proposal: Option<ProposalId>,
    /// When it was revoked, and the entry that says so.
    pub revoked: Option<(UnixMillis, u64)>,
}

/// Questions about people, answered from committed state.
#[async_trait]
pub trait PrincipalReads: Send + Sync {
    /// A key, revoked ones too.
    async fn principal(&self, spki: &Digest) -> Result<Option<PrincipalRow>, StoreError>;
    /// All keys in the order of their hashes, after the given one.
    async fn principals(
        &self,
        after: Option<&Digest>,
        limit: u32,
    ) -> Result<Vec<PrincipalRow>, StoreError>;
    /// The keys that one entry registered, in the order of their hashes.
    async fn principals_of_entry(&self, index: u64) -> Result<Vec<PrincipalRow>, StoreError>;
}

/// People inside a write transaction.
#[async_trait]
pub trait PrincipalWrites: Send {
    /// A key, revoked ones too.
    async fn principal(&mut self, spki: &Digest) -> Result<Option<PrincipalRow>, StoreError>;
    /// The keys of one name, revoked ones too, in the order of their hashes.
    async fn principals_named(
        &mut self,
        name: &PrincipalName,
    ) -> Result<Vec<PrincipalRow>, StoreError>;
    /// Registers a key; [`StoreError::Exists`] if it was ever registered.
    async fn insert_principal(&mut self, row: &PrincipalRow) -> Result<(), StoreError>;
    /// Revokes a key; false if there is none that is not revoked.
    async fn revoke_principal(
        &mut self,
        spki: &Digest,
        at: UnixMillis,
        index: u64,
    ) -> Result<bool, StoreError>;
}
