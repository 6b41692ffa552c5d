//! Tries that count against a customer or a terminal, and locks of a customer's biometric.

use async_trait::async_trait;

use super::StoreError;
use crate::crypto::Digest;
use crate::domain::id::CustomerId;
use crate::domain::time::UnixMillis;

/// A try, as it counts against one party from its debit on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TryRow {
    /// The try: SHA-256 of its challenge.
    pub id: Digest,
    /// Against whom: a keyed hash.
    pub subject: Digest,
    /// When it was debited.
    pub at: UnixMillis,
}

/// What counts against a party since an instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tries {
    /// Tries that were debited, whatever became of them.
    pub counted: u32,
    /// Those that are known to have failed.
    pub failed: u32,
    /// When the latest was debited.
    pub latest: Option<UnixMillis>,
}

/// Whose biometric is locked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LockedWho {
    /// A customer's.
    Customer(CustomerId),
    /// A reference leads to nobody: its pseudonym in receipts.
    Nobody(String),
}

/// A biometric that too many failures locked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockRow {
    /// Whose tries they were: a keyed hash.
    pub subject: Digest,
    /// Whose biometric it is.
    pub who: LockedWho,
    /// Since when.
    pub locked_at: UnixMillis,
    /// The entry that says so; none while it is due.
    pub index: Option<u64>,
}

/// What a holder wants of their own biometric.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HolderLockRow {
    /// The holder.
    pub customer: CustomerId,
    /// Whether no comparison may approve.
    pub locked: bool,
    /// When they said so, by their device: of two wishes the later counts.
    pub asked_at: UnixMillis,
    /// When it was taken.
    pub set_at: UnixMillis,
    /// The entry that says so.
    pub index: u64,
}

/// Questions about tries and locks, answered from committed state.
#[async_trait]
pub trait AttemptQuestions {
    /// What counts against a party, later than `since`.
    async fn tries(&self, subject: &Digest, since: UnixMillis) -> Result<Tries, StoreError>;
    /// The lock of a biometric.
    async fn biometric_lock(&self, subject: &Digest) -> Result<Option<LockRow>, StoreError>;
    /// Locks that no entry tells of yet, the oldest first.
    async fn locks_not_entered(&self, limit: u32) -> Result<Vec<LockRow>, StoreError>;
    /// What a holder wants.
    async fn holder_lock(&self, customer: &CustomerId)
    -> Result<Option<HolderLockRow>, StoreError>;
}

/// Tries and locks inside a write transaction.
#[async_trait]
pub trait Attempts: Send {
    /// Debits a try; [`StoreError::Exists`] if it is debited to this party.
    async fn insert_try(&mut self, row: &TryRow) -> Result<(), StoreError>;
    /// What counts against a party, later than `since`.
    async fn tries(&mut self, subject: &Digest, since: UnixMillis) -> Result<Tries, StoreError>;
    /// Notes that a try failed; false if it is not debited to this party.
    async fn fail_try(&mut self, id: &Digest, subject: &Digest) -> Result<bool, StoreError>;
    /// Gives a try back to one party; false if it is not debited to them.
    async fn delete_try(&mut self, id: &Digest, subject: &Digest) -> Result<bool, StoreError>;
    /// Gives a try back to everybody to whom it was debited; to how many.
    async fn refund_try(&mut self, id: &Digest) -> Result<u64, StoreError>;
    /// Forgets a party's tries that failed or were debited before `before`: what is under way still counts.
    async fn forget_tries(
        &mut self,
        subject: &Digest,
        before: UnixMillis,
    ) -> Result<u64, StoreError>;
    /// Deletes everybody's tries that were debited before `before`; how many.
    async fn delete_tries(&mut self, before: UnixMillis) -> Result<u64, StoreError>;

    /// The lock of a biometric.
    async fn biometric_lock(&mut self, subject: &Digest) -> Result<Option<LockRow>, StoreError>;
    /// Keeps a lock in place of what was kept of it.
    async fn put_biometric_lock(&mut self, row: &LockRow) -> Result<(), StoreError>;
    /// Takes a lock away; false if there was none.
    async fn delete_biometric_lock(&mut self, subject: &Digest) -> Result<bool, StoreError>;
    /// Deletes nobody's locks that began before `before` and are entered; how many.
    async fn delete_locks_of_nobody(&mut self, before: UnixMillis) -> Result<u64, StoreError>;

    /// What a holder wants.
    async fn holder_lock(
        &mut self,
        customer: &CustomerId,
    ) -> Result<Option<HolderLockRow>, StoreError>;
    /// Keeps what a holder wants in place of what they wanted before.
    async fn put_holder_lock(&mut self, row: &HolderLockRow) -> Result<(), StoreError>;
}
