//! Tries and locks in memory.

use async_trait::async_trait;

use super::{MemoryStore, MemoryUnit, State, at_most, insert};
use crate::crypto::Digest;
use crate::domain::id::CustomerId;
use crate::domain::time::UnixMillis;
use crate::store::{
    AttemptQuestions, Attempts, HolderLockRow, LockRow, LockedWho, StoreError, Tries, TryRow,
};

/// When a try was debited, and whether it failed.
#[derive(Clone, Copy)]
pub(super) struct Debited {
    at: UnixMillis,
    failed: bool,
}

impl State {
    fn tries(&self, subject: &Digest, since: UnixMillis) -> Tries {
        let mut tries = Tries::default();
        let of = self.tries.iter().filter(|((_, party), _)| party == subject);
        for (_, debited) in of.filter(|(_, debited)| debited.at > since) {
            tries.counted += 1;
            tries.failed += u32::from(debited.failed);
            tries.latest = tries.latest.max(Some(debited.at));
        }
        tries
    }

    /// What an erasure takes with it.
    pub(super) fn forget_locks(&mut self, customer: &CustomerId) {
        self.holder_locks.remove(customer);
        let theirs = LockedWho::Customer(*customer);
        self.biometric_locks.retain(|_, row| row.who != theirs);
    }

    /// How many tries are left out of those that `stays` names.
    fn keep_tries(&mut self, stays: impl Fn(&(Digest, Digest), &Debited) -> bool) -> u64 {
        let held = self.tries.len();
        self.tries.retain(|key, debited| stays(key, debited));
        u64::try_from(held - self.tries.len()).unwrap_or(u64::MAX)
    }
}

#[async_trait]
impl AttemptQuestions for MemoryStore {
    async fn tries(&self, subject: &Digest, since: UnixMillis) -> Result<Tries, StoreError> {
        Ok(self.read()?.tries(subject, since))
    }

    async fn biometric_lock(&self, subject: &Digest) -> Result<Option<LockRow>, StoreError> {
        Ok(self.read()?.biometric_locks.get(subject).cloned())
    }

    async fn locks_not_entered(&self, limit: u32) -> Result<Vec<LockRow>, StoreError> {
        let state = self.read()?;
        let mut due: Vec<_> =
            state.biometric_locks.values().filter(|row| row.index.is_none()).collect();
        due.sort_by_key(|row| (row.locked_at, row.subject));
        Ok(at_most(due.into_iter().cloned(), limit))
    }

    async fn holder_lock(
        &self,
        customer: &CustomerId,
    ) -> Result<Option<HolderLockRow>, StoreError> {
        Ok(self.read()?.holder_locks.get(customer).cloned())
    }
}

#[async_trait]
impl Attempts for MemoryUnit {
    async fn insert_try(&mut self, row: &TryRow) -> Result<(), StoreError> {
        let debited = Debited { at: row.at, failed: false };
        insert(&mut self.state()?.tries, (row.id, row.subject), debited)
    }

    async fn tries(&mut self, subject: &Digest, since: UnixMillis) -> Result<Tries, StoreError> {
        Ok(self.state()?.tries(subject, since))
    }

    async fn fail_try(&mut self, id: &Digest, subject: &Digest) -> Result<bool, StoreError> {
        let debited = self.state()?.tries.get_mut(&(*id, *subject));
        Ok(debited.map(|debited| debited.failed = true).is_some())
    }

    async fn delete_try(&mut self, id: &Digest, subject: &Digest) -> Result<bool, StoreError> {
        Ok(self.state()?.tries.remove(&(*id, *subject)).is_some())
    }

    async fn refund_try(&mut self, id: &Digest) -> Result<u64, StoreError> {
        Ok(self.state()?.keep_tries(|(of, _), _| of != id))
    }

    async fn forget_tries(
        &mut self,
        subject: &Digest,
        before: UnixMillis,
    ) -> Result<u64, StoreError> {
        let goes = |debited: &Debited| debited.failed || debited.at < before;
        Ok(self.state()?.keep_tries(|(_, party), debited| party != subject || !goes(debited)))
    }

    async fn delete_tries(&mut self, before: UnixMillis) -> Result<u64, StoreError> {
        Ok(self.state()?.keep_tries(|_, debited| debited.at >= before))
    }

    async fn biometric_lock(&mut self, subject: &Digest) -> Result<Option<LockRow>, StoreError> {
        Ok(self.state()?.biometric_locks.get(subject).cloned())
    }

    async fn put_biometric_lock(&mut self, row: &LockRow) -> Result<(), StoreError> {
        let state = self.state()?;
        if let LockedWho::Customer(customer) = &row.who {
            state.require_customer(customer)?;
        }
        state.biometric_locks.insert(row.subject, row.clone());
        Ok(())
    }

    async fn delete_biometric_lock(&mut self, subject: &Digest) -> Result<bool, StoreError> {
        Ok(self.state()?.biometric_locks.remove(subject).is_some())
    }

    async fn delete_locks_of_nobody(&mut self, before: UnixMillis) -> Result<u64, StoreError> {
        let locks = &mut self.state()?.biometric_locks;
        let held = locks.len();
        locks.retain(|_, row| {
            let is_nobodys = matches!(row.who, LockedWho::Nobody(_));
            !is_nobodys || row.index.is_none() || row.locked_at >= before
        });
        Ok(u64::try_from(held - locks.len()).unwrap_or(u64::MAX))
    }

    async fn holder_lock(
        &mut self,
        customer: &CustomerId,
    ) -> Result<Option<HolderLockRow>, StoreError> {
        Ok(self.state()?.holder_locks.get(customer).cloned())
    }

    async fn put_holder_lock(&mut self, row: &HolderLockRow) -> Result<(), StoreError> {
        let state = self.state()?;
        state.require_customer(&row.customer)?;
        state.holder_locks.insert(row.customer, row.clone());
        Ok(())
    }
}
