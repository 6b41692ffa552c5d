//! Keys that captures are sealed to, and challenges of captures at enrolment, in memory.

use async_trait::async_trait;

use super::{MemoryStore, MemoryUnit, insert};
use crate::crypto::Digest;
use crate::domain::id::CaptureKeyId;
use crate::domain::time::UnixMillis;
use crate::store::{CaptureKeyRow, EnrolmentChallengeRow, SealingReads, SealingWrites, StoreError};

#[async_trait]
impl SealingReads for MemoryStore {
    async fn capture_keys(&self) -> Result<Vec<CaptureKeyRow>, StoreError> {
        let mut rows: Vec<_> = self.read()?.capture_keys.values().cloned().collect();
        rows.sort_by(|a, b| (a.made_at, &a.id).cmp(&(b.made_at, &b.id)));
        Ok(rows)
    }

    async fn capture_key(&self, id: &CaptureKeyId) -> Result<Option<CaptureKeyRow>, StoreError> {
        Ok(self.read()?.capture_keys.get(id).cloned())
    }

    async fn enrolment_challenge(
        &self,
        hash: &Digest,
    ) -> Result<Option<EnrolmentChallengeRow>, StoreError> {
        Ok(self.read()?.enrolment_challenges.get(hash).cloned())
    }
}

#[async_trait]
impl SealingWrites for MemoryUnit {
    async fn insert_capture_key(&mut self, row: &CaptureKeyRow) -> Result<(), StoreError> {
        insert(&mut self.state()?.capture_keys, row.id.clone(), row.clone())
    }

    async fn end_capture_keys(&mut self, until: UnixMillis) -> Result<(), StoreError> {
        for row in self.state()?.capture_keys.values_mut() {
            row.counts_until = Some(row.counts_until.map_or(until, |end| end.min(until)));
        }
        Ok(())
    }

    async fn forget_capture_keys(&mut self, now: UnixMillis) -> Result<u64, StoreError> {
        let keys = &mut self.state()?.capture_keys;
        let held = keys.len();
        keys.retain(|_, row| row.counts_until.is_none_or(|until| until > now));
        Ok(u64::try_from(held - keys.len()).unwrap_or(u64::MAX))
    }

    async fn insert_enrolment_challenge(
        &mut self,
        row: &EnrolmentChallengeRow,
    ) -> Result<(), StoreError> {
        insert(&mut self.state()?.enrolment_challenges, row.hash, row.clone())
    }

    async fn drop_enrolment_challenges(
        &mut self,
        like: &EnrolmentChallengeRow,
    ) -> Result<u64, StoreError> {
        let rows = &mut self.state()?.enrolment_challenges;
        let held = rows.len();
        let key = |row: &EnrolmentChallengeRow| (row.customer, row.modality, row.opened_by);
        rows.retain(|_, row| key(row) != key(like));
        Ok(u64::try_from(held - rows.len()).unwrap_or(u64::MAX))
    }

    async fn take_enrolment_challenge(&mut self, hash: &Digest) -> Result<bool, StoreError> {
        Ok(self.state()?.enrolment_challenges.remove(hash).is_some())
    }

    async fn forget_enrolment_challenges(&mut self, now: UnixMillis) -> Result<u64, StoreError> {
        let held = self.state()?.enrolment_challenges.len();
        self.state()?.enrolment_challenges.retain(|_, row| row.expires_at >= now);
        let left = self.state()?.enrolment_challenges.len();
        Ok(u64::try_from(held - left).unwrap_or(u64::MAX))
    }
}
