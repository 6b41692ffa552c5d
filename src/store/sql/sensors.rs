//! Sensors that sign captures, in SQL.

use async_trait::async_trait;

use super::SqliteStore;
use super::engine::query;
use super::parse::{Fields, stored};
use super::read::parsed;
use super::write::SqlUnit;
use crate::crypto::{Digest, PublicKey};
use crate::domain::id::{SensorId, SensorKeyId};
use crate::domain::sensor::{SensorModality, TrustLevel};
use crate::domain::time::UnixMillis;
use crate::store::{SensorKeyRow, SensorReads, SensorWrites, StoreError};

const TABLE: &str = "sensor_keys";
const SELECT_KEY: &str = "SELECT key_id, sensor, terminal, modality, level, spki, firmware, camera, registered_at, \
     counts_until, suspended_at, revoked_at, counter FROM sensor_keys WHERE key_id = $1";
const SELECT_KEYS_OF_SENSOR: &str = "SELECT key_id, sensor, terminal, modality, level, spki, firmware, camera, registered_at, \
     counts_until, suspended_at, revoked_at, counter FROM sensor_keys WHERE sensor = $1 \
     ORDER BY registered_at, key_id";
const SELECT_KEYS: &str = "SELECT key_id, sensor, terminal, modality, level, spki, firmware, camera, registered_at, \
     counts_until, suspended_at, revoked_at, counter FROM sensor_keys WHERE key_id > $1 \
     ORDER BY key_id LIMIT $2";
const SELECT_SEEN: &str =
    "SELECT capture_index FROM seen_captures WHERE capture_index = $1 AND until > $2";

impl Fields<'_> {
    fn sensor_key(&self) -> Result<SensorKeyRow, StoreError> {
        let key_id = SensorKeyId::try_from(self.text("key_id")?.as_str());
        let sensor = SensorId::try_from(self.text("sensor")?.as_str());
        let key = PublicKey::from_spki_der(&self.bytes("spki")?);
        Ok(SensorKeyRow {
            key_id: key_id.map_err(|_| self.broken("key_id"))?,
            sensor: sensor.map_err(|_| self.broken("sensor"))?,
            terminal: self.terminal("terminal")?,
            modality: self.word("modality", &SensorModality::ALL, SensorModality::as_str)?,
            level: self.word("level", &TrustLevel::ALL, TrustLevel::as_str)?,
            key: key.map_err(|_| self.broken("spki"))?,
            firmware: self.text("firmware")?,
            camera: self.text("camera")?,
            registered_at: self.time("registered_at")?,
            counts_until: self.maybe_time("counts_until")?,
            suspended_at: self.maybe_time("suspended_at")?,
            revoked_at: self.maybe_time("revoked_at")?,
            counter: self.natural("counter")?,
        })
    }
}

#[async_trait]
impl SensorReads for SqliteStore {
    async fn sensor_key(&self, id: &SensorKeyId) -> Result<Option<SensorKeyRow>, StoreError> {
        let row = self.one(query(SELECT_KEY).bind(id.as_str())).await?;
        row.map(|row| Fields::of(TABLE, &row).sensor_key()).transpose()
    }

    async fn sensor_keys(
        &self,
        after: Option<&SensorKeyId>,
        limit: u32,
    ) -> Result<Vec<SensorKeyRow>, StoreError> {
        // No name is empty, so every one comes after it.
        let after = after.map_or("", SensorKeyId::as_str);
        let statement = query(SELECT_KEYS).bind(after).bind(i64::from(limit));
        parsed(TABLE, &self.many(statement).await?, Fields::sensor_key)
    }

    async fn keys_of_sensor(&self, sensor: &SensorId) -> Result<Vec<SensorKeyRow>, StoreError> {
        let rows = self.many(query(SELECT_KEYS_OF_SENSOR).bind(sensor.as_str())).await?;
        parsed(TABLE, &rows, Fields::sensor_key)
    }

    async fn is_capture_seen(&self, index: &Digest, now: UnixMillis) -> Result<bool, StoreError> {
        let statement = query(SELECT_SEEN).bind(index.as_bytes().as_slice()).bind(now.get());
        Ok(self.one(statement).await?.is_some())
    }
}

#[async_trait]
impl SensorWrites for SqlUnit {
    async fn sensor_key(&mut self, id: &SensorKeyId) -> Result<Option<SensorKeyRow>, StoreError> {
        let statement = query(SELECT_KEY).bind(id.as_str());
        let row = statement.one(self.connection())?;
        row.map(|row| Fields::of(TABLE, &row).sensor_key()).transpose()
    }

    async fn keys_of_sensor(&mut self, sensor: &SensorId) -> Result<Vec<SensorKeyRow>, StoreError> {
        let statement = query(SELECT_KEYS_OF_SENSOR).bind(sensor.as_str());
        let rows = statement.all(self.connection())?;
        parsed(TABLE, &rows, Fields::sensor_key)
    }

    async fn insert_sensor_key(&mut self, row: &SensorKeyRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO sensor_keys (key_id, sensor, terminal, modality, level, spki, firmware, camera, \
                   registered_at, counts_until, suspended_at, revoked_at, counter) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
        let statement = query(sql)
            .bind(row.key_id.as_str())
            .bind(row.sensor.as_str())
            .bind(row.terminal.as_str())
            .bind(row.modality.as_str())
            .bind(row.level.as_str())
            .bind(row.key.to_spki_der())
            .bind(row.firmware.as_str())
            .bind(row.camera.as_str())
            .bind(row.registered_at.get())
            .bind(row.counts_until.map(UnixMillis::get))
            .bind(row.suspended_at.map(UnixMillis::get))
            .bind(row.revoked_at.map(UnixMillis::get))
            .bind(stored(row.counter));
        self.run(statement).map(drop)
    }

    async fn update_sensor_key(&mut self, row: &SensorKeyRow) -> Result<bool, StoreError> {
        let sql = "UPDATE sensor_keys SET counts_until = $2, suspended_at = $3, revoked_at = $4, counter = $5 \
                   WHERE key_id = $1";
        let statement = query(sql)
            .bind(row.key_id.as_str())
            .bind(row.counts_until.map(UnixMillis::get))
            .bind(row.suspended_at.map(UnixMillis::get))
            .bind(row.revoked_at.map(UnixMillis::get))
            .bind(stored(row.counter));
        Ok(self.run(statement)? > 0)
    }

    async fn is_capture_seen(
        &mut self,
        index: &Digest,
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        let statement = query(SELECT_SEEN).bind(index.as_bytes().as_slice()).bind(now.get());
        let row = statement.one(self.connection())?;
        Ok(row.is_some())
    }

    async fn note_capture(&mut self, index: &Digest, until: UnixMillis) -> Result<(), StoreError> {
        let sql = "INSERT INTO seen_captures (capture_index, until) VALUES ($1, $2) \
                   ON CONFLICT (capture_index) DO UPDATE SET until = excluded.until";
        let statement = query(sql).bind(index.as_bytes().as_slice()).bind(until.get());
        self.run(statement).map(drop)
    }

    async fn forget_captures(&mut self, now: UnixMillis) -> Result<u64, StoreError> {
        self.run(query("DELETE FROM seen_captures WHERE until <= $1").bind(now.get()))
    }
}
