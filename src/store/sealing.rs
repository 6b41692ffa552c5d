//! Keys that captures are sealed to, and the challenges of captures at enrolment.

use async_trait::async_trait;

use super::StoreError;
use crate::crypto::Digest;
use crate::domain::id::{CaptureKeyId, CustomerId, TerminalId};
use crate::domain::modality::Modality;
use crate::domain::time::UnixMillis;

/// A key pair that captures are sealed to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaptureKeyRow {
    /// Its name.
    pub id: CaptureKeyId,
    /// The public half.
    pub public_key: [u8; 32],
    /// The private half, sealed.
    pub sealed: Vec<u8>,
    /// When it was made.
    pub made_at: UnixMillis,
    /// Until when it opens anything; none for the key that is given out.
    pub counts_until: Option<UnixMillis>,
}

/// A challenge for one capture of a customer at an enroller's desk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EnrolmentChallengeRow {
    /// SHA-256 of its bytes.
    pub hash: Digest,
    /// Of whom the capture will be.
    pub customer: CustomerId,
    /// What will be captured.
    pub modality: Modality,
    /// The desk's terminal, at which the sensor is.
    pub terminal: TerminalId,
    /// SHA-256 of the enroller's public key: nobody else uses it.
    pub opened_by: Digest,
    /// SHA-256 of the answer that gave it out.
    pub answer: Digest,
    /// Until when it may be used.
    pub expires_at: UnixMillis,
}

/// Questions about keys and challenges of captures.
#[async_trait]
pub trait SealingReads: Send + Sync {
    /// The keys that captures are sealed to, the oldest first.
    async fn capture_keys(&self) -> Result<Vec<CaptureKeyRow>, StoreError>;
    /// A key by its name.
    async fn capture_key(&self, id: &CaptureKeyId) -> Result<Option<CaptureKeyRow>, StoreError>;
    /// A challenge of an enrolment by the SHA-256 of its bytes.
    async fn enrolment_challenge(
        &self,
        hash: &Digest,
    ) -> Result<Option<EnrolmentChallengeRow>, StoreError>;
}

/// Keys and challenges of captures, inside a write transaction.
#[async_trait]
pub trait SealingWrites: Send {
    /// Adds a key; [`StoreError::Exists`] for a name that is there already.
    async fn insert_capture_key(&mut self, row: &CaptureKeyRow) -> Result<(), StoreError>;
    /// Ends every key at `until` that would count longer.
    async fn end_capture_keys(&mut self, until: UnixMillis) -> Result<(), StoreError>;
    /// Destroys the keys that count no more at `now`; how many. They leave the journal after the commit.
    async fn forget_capture_keys(&mut self, now: UnixMillis) -> Result<u64, StoreError>;
    /// Adds a challenge; [`StoreError::Exists`] for a known one.
    async fn insert_enrolment_challenge(
        &mut self,
        row: &EnrolmentChallengeRow,
    ) -> Result<(), StoreError>;
    /// Forgets the challenges of the same enroller for the same characteristic of the same customer; how many.
    async fn drop_enrolment_challenges(
        &mut self,
        like: &EnrolmentChallengeRow,
    ) -> Result<u64, StoreError>;
    /// Uses a challenge up; false if it is not there.
    async fn take_enrolment_challenge(&mut self, hash: &Digest) -> Result<bool, StoreError>;
    /// Forgets challenges that expired before `now`; how many.
    async fn forget_enrolment_challenges(&mut self, now: UnixMillis) -> Result<u64, StoreError>;
}
