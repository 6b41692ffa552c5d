//! Sensors that sign captures, and captures that were seen.

use async_trait::async_trait;

use super::StoreError;
use crate::crypto::{Digest, PublicKey};
use crate::domain::id::{SensorId, SensorKeyId, TerminalId};
use crate::domain::sensor::{SensorKeyStanding, SensorModality, TrustLevel};
use crate::domain::time::UnixMillis;

/// A sensor's registered public key. What stands there of the sensor itself stands with each of its keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SensorKeyRow {
    /// The key's name.
    pub key_id: SensorKeyId,
    /// Whose key it is.
    pub sensor: SensorId,
    /// At which terminal the sensor is.
    pub terminal: TerminalId,
    /// What it captures.
    pub modality: SensorModality,
    /// How well the key is kept.
    pub level: TrustLevel,
    /// The key.
    pub key: PublicKey,
    /// The sensor's firmware, in its maker's words; may be empty.
    pub firmware: String,
    /// The camera or scanner in it, in its maker's words; may be empty.
    pub camera: String,
    /// Since when.
    pub registered_at: UnixMillis,
    /// Until when it counts beside the key that takes its place.
    pub counts_until: Option<UnixMillis>,
    /// Since when it is suspended.
    pub suspended_at: Option<UnixMillis>,
    /// When it was revoked.
    pub revoked_at: Option<UnixMillis>,
    /// The counter of the last capture that was taken under it; 0 before the first. At most 2^63-1.
    pub counter: u64,
}

impl SensorKeyRow {
    /// Where it stands at an instant.
    #[must_use]
    pub fn standing(&self, now: UnixMillis) -> SensorKeyStanding {
        if self.revoked_at.is_some() {
            SensorKeyStanding::Revoked
        } else if self.counts_until.is_some_and(|until| until <= now) {
            SensorKeyStanding::Replaced
        } else if self.suspended_at.is_some() {
            SensorKeyStanding::Suspended
        } else {
            SensorKeyStanding::Active
        }
    }

    /// Whether it may count now or again.
    #[must_use]
    pub fn is_live(&self, now: UnixMillis) -> bool {
        matches!(self.standing(now), SensorKeyStanding::Active | SensorKeyStanding::Suspended)
    }
}

/// Questions about sensors and captures.
#[async_trait]
pub trait SensorReads: Send + Sync {
    /// A key by its name, whatever its standing.
    async fn sensor_key(&self, id: &SensorKeyId) -> Result<Option<SensorKeyRow>, StoreError>;
    /// All keys in the order of their names, after the given one.
    async fn sensor_keys(
        &self,
        after: Option<&SensorKeyId>,
        limit: u32,
    ) -> Result<Vec<SensorKeyRow>, StoreError>;
    /// The keys of one sensor by age, whatever their standing.
    async fn keys_of_sensor(&self, sensor: &SensorId) -> Result<Vec<SensorKeyRow>, StoreError>;
    /// Whether a capture was seen and may not come again at `now`.
    async fn is_capture_seen(&self, index: &Digest, now: UnixMillis) -> Result<bool, StoreError>;
}

/// Sensors and captures, inside a write transaction.
#[async_trait]
pub trait SensorWrites: Send {
    /// A key by its name, inside this transaction.
    async fn sensor_key(&mut self, id: &SensorKeyId) -> Result<Option<SensorKeyRow>, StoreError>;
    /// The keys of one sensor by age, whatever their standing.
    async fn keys_of_sensor(&mut self, sensor: &SensorId) -> Result<Vec<SensorKeyRow>, StoreError>;
    /// Adds a key; [`StoreError::Exists`] for a name or a key that is there already.
    async fn insert_sensor_key(&mut self, row: &SensorKeyRow) -> Result<(), StoreError>;
    /// Changes what changes of a key: its ends, its suspension, its counter. False if there is none of the
    /// name.
    async fn update_sensor_key(&mut self, row: &SensorKeyRow) -> Result<bool, StoreError>;
    /// Whether a capture was seen and may not come again at `now`, inside this transaction.
    async fn is_capture_seen(
        &mut self,
        index: &Digest,
        now: UnixMillis,
    ) -> Result<bool, StoreError>;
    /// Notes that a capture may not come again before `until`, in place of an earlier end.
    async fn note_capture(&mut self, index: &Digest, until: UnixMillis) -> Result<(), StoreError>;
    /// Forgets captures that may come again at `now`; how many.
    async fn forget_captures(&mut self, now: UnixMillis) -> Result<u64, StoreError>;
}
