//! Packs of rules: proposed, approved, activated.

use async_trait::async_trait;

use super::StoreError;
use crate::crypto::{Digest, PublicKey};
use crate::domain::id::PrincipalName;
use crate::domain::time::UnixMillis;

/// A pack that was proposed; its files are kept beside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PackRow {
    /// SHA-256 of its files' bytes as they are kept.
    pub hash: Digest,
    /// Its name.
    pub id: String,
    /// Its version.
    pub version: u32,
    /// After which it can no longer be approved.
    pub expires_at: UnixMillis,
    /// By its author.
    pub proposed: PackSignature,
    /// By a second person.
    pub approved: Option<PackSignature>,
}

/// Who signed a pack, and the ledger entry that says so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PackSignature {
    /// The name in the certificate.
    pub name: PrincipalName,
    /// The certificate's key.
    pub key: PublicKey,
    /// Its signature.
    pub signature: Vec<u8>,
    /// When.
    pub at: UnixMillis,
    /// The entry.
    pub index: u64,
}

/// From when a pack decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActivationRow {
    /// The entry that says so.
    pub index: u64,
    /// The pack.
    pub hash: Digest,
    /// Its name.
    pub id: String,
    /// Its version.
    pub version: u32,
    /// From when.
    pub effective_at: UnixMillis,
    /// Whether it is the configured folder's pack rather than one that people activated.
    pub from_folder: bool,
}

/// Questions about packs, answered from committed state.
#[async_trait]
pub trait PackShelf: Send + Sync {
    /// A pack.
    async fn pack(&self, hash: &Digest) -> Result<Option<PackRow>, StoreError>;
    /// A pack's files, as they were kept.
    async fn pack_files(&self, hash: &Digest) -> Result<Option<Vec<u8>>, StoreError>;
    /// Packs in the order of their proposals, after the given entry.
    async fn packs(&self, after: Option<u64>, limit: u32) -> Result<Vec<PackRow>, StoreError>;
    /// The activation by people that holds at `now`: the latest to take effect, of two at one time the
    /// later entry.
    async fn activation_at(&self, now: UnixMillis) -> Result<Option<ActivationRow>, StoreError>;
    /// The activation of an entry.
    async fn activation(&self, index: u64) -> Result<Option<ActivationRow>, StoreError>;
    /// The latest note of the configured folder's pack.
    async fn folder_activation(&self) -> Result<Option<ActivationRow>, StoreError>;
    /// Activations by people that take effect after `now`, in the order in which they do.
    async fn activations_after(
        &self,
        now: UnixMillis,
        limit: u32,
    ) -> Result<Vec<ActivationRow>, StoreError>;
}

/// Packs inside a write transaction.
#[async_trait]
pub trait Packs: Send {
    /// Adds a proposal; [`StoreError::Exists`] if its hash is known.
    async fn insert_pack(&mut self, row: &PackRow, files: &[u8]) -> Result<(), StoreError>;
    /// A pack, inside this transaction.
    async fn pack(&mut self, hash: &Digest) -> Result<Option<PackRow>, StoreError>;
    /// The packs of one name.
    async fn packs_of(&mut self, id: &str) -> Result<Vec<PackRow>, StoreError>;
    /// How many packs wait for an approval.
    async fn packs_waiting(&mut self) -> Result<u64, StoreError>;
    /// Approves a pack; false if there is none that waits.
    async fn approve_pack(
        &mut self,
        hash: &Digest,
        approved: &PackSignature,
    ) -> Result<bool, StoreError>;
    /// Deletes proposals that nobody approved and that expired before `now`; how many.
    async fn delete_expired_packs(&mut self, now: UnixMillis) -> Result<u64, StoreError>;
    /// Notes an activation; [`StoreError::Exists`] if its entry has one.
    async fn insert_activation(&mut self, row: &ActivationRow) -> Result<(), StoreError>;
    /// As [`PackShelf::activation_at`], inside this transaction.
    async fn activation_at(&mut self, now: UnixMillis)
    -> Result<Option<ActivationRow>, StoreError>;
    /// The activations of one name, the folder's too, in the order of their entries.
    async fn activations_of(&mut self, id: &str) -> Result<Vec<ActivationRow>, StoreError>;
}
