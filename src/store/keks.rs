//! Key-encryption keys, by name only, and what is wrapped under which.

use async_trait::async_trait;

use super::{CustomerKeyRow, StoreError};
use crate::domain::id::ReceiptId;
use crate::domain::time::UnixMillis;

/// A key-encryption key that was current once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KekRow {
    /// Its place in the order in which they became current, from 0.
    pub ordinal: u64,
    /// Its id, by which rows name it.
    pub kek_id: String,
    /// How its file is called.
    pub name: String,
    /// When it became current.
    pub begun_at: UnixMillis,
    /// When nothing was wrapped under another any more.
    pub ended_at: Option<UnixMillis>,
    /// When it was destroyed.
    pub retired_at: Option<UnixMillis>,
}

/// One of the vault's own keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnKeyRow {
    /// What it is for.
    pub purpose: String,
    /// Under which key it is wrapped.
    pub kek_id: String,
    /// The wrapped key.
    pub wrapped: Vec<u8>,
}

/// The key of a kept picture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EvidenceKeyRow {
    /// The decision's entry.
    pub index: u64,
    /// The decision's receipt.
    pub receipt: ReceiptId,
    /// Under which key it is wrapped; none where the row does not say.
    pub kek_id: Option<String>,
    /// The wrapped key.
    pub wrapped: Vec<u8>,
}

/// Questions about key-encryption keys.
#[async_trait]
pub trait KekReads: Send + Sync {
    /// All of them in the order in which they became current; none in a store that is older than they are.
    async fn keks(&self) -> Result<Vec<KekRow>, StoreError>;

    /// The vault's own keys.
    async fn own_keys(&self) -> Result<Vec<OwnKeyRow>, StoreError>;

    /// How many keys are wrapped under others than this one.
    async fn wrapped_under_others(&self, kek_id: &str) -> Result<u64, StoreError>;
}

/// Key-encryption keys inside a write transaction.
#[async_trait]
pub trait KekWrites: Send {
    /// All of them in the order in which they became current.
    async fn keks(&mut self) -> Result<Vec<KekRow>, StoreError>;

    /// Adds one; [`StoreError::Exists`] for a known ordinal or id.
    async fn insert_kek(&mut self, row: &KekRow) -> Result<(), StoreError>;

    /// Notes that nothing is wrapped under another any more; false if that was noted before. What was
    /// wrapped under others leaves the journal after the commit.
    async fn end_kek(&mut self, kek_id: &str, at: UnixMillis) -> Result<bool, StoreError>;

    /// Notes that one is destroyed: nothing that is wrapped under it can be added from now on. False if that
    /// was noted before.
    async fn retire_kek(&mut self, kek_id: &str, at: UnixMillis) -> Result<bool, StoreError>;

    /// Keeps one of the vault's own keys in place of an earlier row of its purpose.
    async fn put_own_key(&mut self, row: &OwnKeyRow) -> Result<(), StoreError>;

    /// Some customers' keys that are wrapped under others than this one.
    async fn customer_keys_under_others(
        &mut self,
        kek_id: &str,
        limit: u32,
    ) -> Result<Vec<CustomerKeyRow>, StoreError>;

    /// Some pictures' keys that are wrapped under others than this one.
    async fn evidence_keys_under_others(
        &mut self,
        kek_id: &str,
        limit: u32,
    ) -> Result<Vec<EvidenceKeyRow>, StoreError>;

    /// Puts a customer's keys, wrapped anew, in place of theirs; nothing for somebody who has none.
    async fn rewrap_customer_key(&mut self, row: &CustomerKeyRow) -> Result<(), StoreError>;

    /// Puts a picture's key, wrapped anew, in place of its own; nothing where it is destroyed.
    async fn rewrap_evidence_key(&mut self, row: &EvidenceKeyRow) -> Result<(), StoreError>;

    /// How many keys are wrapped under this one, or do not say under which.
    async fn wrapped_under(&mut self, kek_id: &str) -> Result<u64, StoreError>;

    /// How many keys are wrapped under others than this one, inside this transaction.
    async fn wrapped_under_others(&mut self, kek_id: &str) -> Result<u64, StoreError>;
}
