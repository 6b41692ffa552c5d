//! Sensors that sign captures, in memory.

use async_trait::async_trait;

use super::{MemoryStore, MemoryUnit, State, at_most, insert};
use crate::crypto::Digest;
use crate::domain::id::{SensorId, SensorKeyId};
use crate::domain::time::UnixMillis;
use crate::store::{SensorKeyRow, SensorReads, SensorWrites, StoreError};

impl State {
    fn is_capture_seen(&self, index: &Digest, now: UnixMillis) -> bool {
        self.seen_captures.get(index).is_some_and(|until| *until > now)
    }

    fn keys_of_sensor(&self, sensor: &SensorId) -> Vec<SensorKeyRow> {
        let rows = self.sensor_keys.values();
        let mut rows: Vec<_> = rows.filter(|row| row.sensor == *sensor).cloned().collect();
        rows.sort_by(|a, b| (a.registered_at, &a.key_id).cmp(&(b.registered_at, &b.key_id)));
        rows
    }
}

#[async_trait]
impl SensorReads for MemoryStore {
    async fn sensor_key(&self, id: &SensorKeyId) -> Result<Option<SensorKeyRow>, StoreError> {
        Ok(self.read()?.sensor_keys.get(id).cloned())
    }

    async fn sensor_keys(
        &self,
        after: Option<&SensorKeyId>,
        limit: u32,
    ) -> Result<Vec<SensorKeyRow>, StoreError> {
        let state = self.read()?;
        let rows = state.sensor_keys.values();
        let rows = rows.filter(|row| after.is_none_or(|id| row.key_id > *id));
        Ok(at_most(rows.cloned(), limit))
    }

    async fn keys_of_sensor(&self, sensor: &SensorId) -> Result<Vec<SensorKeyRow>, StoreError> {
        Ok(self.read()?.keys_of_sensor(sensor))
    }

    async fn is_capture_seen(&self, index: &Digest, now: UnixMillis) -> Result<bool, StoreError> {
        Ok(self.read()?.is_capture_seen(index, now))
    }
}

#[async_trait]
impl SensorWrites for MemoryUnit {
    async fn sensor_key(&mut self, id: &SensorKeyId) -> Result<Option<SensorKeyRow>, StoreError> {
        Ok(self.state()?.sensor_keys.get(id).cloned())
    }

    async fn keys_of_sensor(&mut self, sensor: &SensorId) -> Result<Vec<SensorKeyRow>, StoreError> {
        Ok(self.state()?.keys_of_sensor(sensor))
    }

    async fn insert_sensor_key(&mut self, row: &SensorKeyRow) -> Result<(), StoreError> {
        let keys = &mut self.state()?.sensor_keys;
        if keys.values().any(|other| other.key == row.key) {
            return Err(StoreError::Exists);
        }
        insert(keys, row.key_id.clone(), row.clone())
    }

    async fn update_sensor_key(&mut self, row: &SensorKeyRow) -> Result<bool, StoreError> {
        let Some(held) = self.state()?.sensor_keys.get_mut(&row.key_id) else { return Ok(false) };
        held.counts_until = row.counts_until;
        held.suspended_at = row.suspended_at;
        held.revoked_at = row.revoked_at;
        held.counter = row.counter;
        Ok(true)
    }

    async fn is_capture_seen(
        &mut self,
        index: &Digest,
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        Ok(self.state()?.is_capture_seen(index, now))
    }

    async fn note_capture(&mut self, index: &Digest, until: UnixMillis) -> Result<(), StoreError> {
        self.state()?.seen_captures.insert(*index, until);
        Ok(())
    }

    async fn forget_captures(&mut self, now: UnixMillis) -> Result<u64, StoreError> {
        let seen = &mut self.state()?.seen_captures;
        let held = seen.len();
        seen.retain(|_, until| *until > now);
        Ok(u64::try_from(held - seen.len()).unwrap_or(u64::MAX))
    }
}
