//! The register of sensors that sign captures.

use super::Gateway;
use super::act::{Write, receipt_actor};
use super::error::GatewayError;
use super::request::Actor;
use super::sequencer::Slot;
use crate::crypto::{Digest, PublicKey, length_prefixed, sha256};
use crate::domain::id::{SensorId, SensorKeyId, TerminalId};
use crate::domain::sensor::{SensorModality, TrustLevel};
use crate::domain::time::UnixMillis;
use crate::receipt::{Administration, Content};
use crate::store::{SensorKeyRow, StoreError, UnitOfWork};

/// Longest time in which two keys of a sensor count, in milliseconds: 30 days.
pub const OVERLAP_MS_MAX: i64 = 30 * 86_400_000;

/// A sensor, as an administrator registers it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewSensor {
    /// At which terminal it is.
    pub terminal: TerminalId,
    /// The sensor.
    pub sensor: SensorId,
    /// What it captures.
    pub modality: SensorModality,
    /// Its key.
    pub key: NewSensorKey,
    /// Its firmware; may be empty.
    pub firmware: String,
    /// The camera or scanner in it; may be empty.
    pub camera: String,
}

/// A key of a sensor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewSensorKey {
    /// Its name.
    pub id: SensorKeyId,
    /// The key.
    pub key: PublicKey,
    /// How well it is kept.
    pub level: TrustLevel,
}

/// One write about a sensor.
pub(super) enum SensorWrite {
    /// Adds a sensor that has no key that counts.
    Register(SensorKeyRow),
    /// Adds a key of a sensor that has one; the others stop counting so many milliseconds from then.
    Rotate(SensorKeyRow, i64),
    Suspend(SensorId),
    Resume(SensorId),
    /// Revokes one key, or all.
    Revoke(SensorId, Option<SensorKeyId>),
}

impl SensorWrite {
    pub async fn apply(&self, unit: &mut dyn UnitOfWork, slot: &Slot) -> Result<(), GatewayError> {
        match self {
            Self::Register(row) => register(unit, row, slot).await,
            Self::Rotate(row, overlap_ms) => rotate(unit, row, *overlap_ms, slot).await,
            Self::Suspend(sensor) => {
                suspend(unit, sensor, Some(slot.now), "the sensor is suspended", slot).await
            }
            Self::Resume(sensor) => {
                suspend(unit, sensor, None, "the sensor is not suspended", slot).await
            }
            Self::Revoke(sensor, key) => revoke(unit, sensor, key.as_ref(), slot).await,
        }
    }
}

async fn register(
    unit: &mut dyn UnitOfWork,
    row: &SensorKeyRow,
    slot: &Slot,
) -> Result<(), GatewayError> {
    let keys = unit.keys_of_terminal(&row.terminal).await?;
    if keys.iter().all(|key| key.revoked_at.is_some()) {
        return Err(GatewayError::NotFound("terminal"));
    }
    if !live_keys(unit, &row.sensor, slot).await?.is_empty() {
        return Err(GatewayError::Exists("sensor"));
    }
    insert(unit, row, slot).await
}

async fn rotate(
    unit: &mut dyn UnitOfWork,
    row: &SensorKeyRow,
    overlap_ms: i64,
    slot: &Slot,
) -> Result<(), GatewayError> {
    let live = live_keys(unit, &row.sensor, slot).await?;
    let fits = |old: &SensorKeyRow| old.terminal == row.terminal && old.modality == row.modality;
    if live.is_empty() || !live.iter().all(fits) {
        return Err(GatewayError::NotFound("sensor"));
    }
    if live.iter().any(|old| old.suspended_at.is_some()) {
        return Err(GatewayError::State("the sensor is suspended"));
    }
    let until = slot.now.plus_millis(overlap_ms);
    for old in live {
        // A key that was to end sooner still does.
        let counts_until = Some(old.counts_until.map_or(until, |end| end.min(until)));
        unit.update_sensor_key(&SensorKeyRow { counts_until, ..old }).await?;
    }
    insert(unit, row, slot).await
}

async fn insert(
    unit: &mut dyn UnitOfWork,
    row: &SensorKeyRow,
    slot: &Slot,
) -> Result<(), GatewayError> {
    let row = SensorKeyRow { registered_at: slot.now, ..row.clone() };
    unit.insert_sensor_key(&row).await.map_err(|error| match error {
        StoreError::Exists => GatewayError::Exists("sensor key"),
        other => GatewayError::Store(other),
    })
}

/// Suspends all keys that count, or lets them count again.
async fn suspend(
    unit: &mut dyn UnitOfWork,
    sensor: &SensorId,
    suspended_at: Option<UnixMillis>,
    already: &'static str,
    slot: &Slot,
) -> Result<(), GatewayError> {
    let live = live_keys(unit, sensor, slot).await?;
    if live.is_empty() {
        return Err(GatewayError::NotFound("sensor"));
    }
    if live.iter().all(|row| row.suspended_at.is_some() == suspended_at.is_some()) {
        return Err(GatewayError::State(already));
    }
    for row in live {
        unit.update_sensor_key(&SensorKeyRow { suspended_at, ..row }).await?;
    }
    Ok(())
}

async fn revoke(
    unit: &mut dyn UnitOfWork,
    sensor: &SensorId,
    key: Option<&SensorKeyId>,
    slot: &Slot,
) -> Result<(), GatewayError> {
    let mut live = live_keys(unit, sensor, slot).await?;
    live.retain(|row| key.is_none_or(|key| row.key_id == *key));
    if live.is_empty() {
        return Err(GatewayError::NotFound("sensor key"));
    }
    for row in live {
        let revoked_at = Some(slot.now);
        unit.update_sensor_key(&SensorKeyRow { revoked_at, ..row }).await?;
    }
    Ok(())
}

/// The keys of a sensor that count now, or would if it were resumed.
async fn live_keys(
    unit: &mut dyn UnitOfWork,
    sensor: &SensorId,
    slot: &Slot,
) -> Result<Vec<SensorKeyRow>, GatewayError> {
    let mut keys = unit.keys_of_sensor(sensor).await?;
    keys.retain(|row| row.is_live(slot.now));
    Ok(keys)
}

impl Gateway {
    /// Registers a sensor at a terminal by its first key.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when the terminal is not registered; [`GatewayError::Exists`] when the
    /// sensor has a key that counts, or the key or its name is there already.
    pub async fn register_sensor(
        &self,
        actor: &Actor,
        sensor: NewSensor,
    ) -> Result<(), GatewayError> {
        let NewSensor { terminal, sensor, modality, key, firmware, camera } = sensor;
        let row = SensorKeyRow {
            key_id: key.id,
            sensor,
            terminal,
            modality,
            level: key.level,
            key: key.key,
            firmware,
            camera,
            registered_at: self.clock.now(),
            counts_until: None,
            suspended_at: None,
            revoked_at: None,
            counter: 0,
        };
        let details = details(&row, 0);
        let (sensor, terminal) = (row.sensor.clone(), row.terminal.clone());
        let write = SensorWrite::Register(row);
        self.change_sensor(actor, "sensor_registered", &sensor, terminal, Some(details), write)
            .await
    }

    /// Gives a sensor another key; the former ones count for so many milliseconds more.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when it has no key that counts; [`GatewayError::State`] when it is
    /// suspended; [`GatewayError::Exists`] when the key or its name is there already.
    pub async fn rotate_sensor(
        &self,
        actor: &Actor,
        sensor: &SensorId,
        key: NewSensorKey,
        overlap_ms: i64,
        firmware: Option<String>,
    ) -> Result<(), GatewayError> {
        if !(0..=OVERLAP_MS_MAX).contains(&overlap_ms) {
            let problem = "it must be at most 2592000";
            return Err(GatewayError::Invalid { field: "overlap_s", problem });
        }
        let old = self.newest_key(sensor).await?;
        let row = SensorKeyRow {
            key_id: key.id,
            level: key.level,
            key: key.key,
            firmware: firmware.unwrap_or_else(|| old.firmware.clone()),
            registered_at: self.clock.now(),
            counts_until: None,
            suspended_at: None,
            revoked_at: None,
            counter: 0,
            ..old
        };
        let details = details(&row, overlap_ms);
        let terminal = row.terminal.clone();
        let write = SensorWrite::Rotate(row, overlap_ms);
        self.change_sensor(actor, "sensor_rotated", sensor, terminal, Some(details), write).await
    }

    /// Suspends a sensor: none of its keys counts until it is resumed.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when none counts; [`GatewayError::State`] when it is suspended.
    pub async fn suspend_sensor(
        &self,
        actor: &Actor,
        sensor: &SensorId,
    ) -> Result<(), GatewayError> {
        let terminal = self.newest_key(sensor).await?.terminal;
        let write = SensorWrite::Suspend(sensor.clone());
        self.change_sensor(actor, "sensor_suspended", sensor, terminal, None, write).await
    }

    /// Lets a suspended sensor's keys count again.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when there are none; [`GatewayError::State`] when it is not suspended.
    pub async fn resume_sensor(
        &self,
        actor: &Actor,
        sensor: &SensorId,
    ) -> Result<(), GatewayError> {
        let terminal = self.newest_key(sensor).await?.terminal;
        let write = SensorWrite::Resume(sensor.clone());
        self.change_sensor(actor, "sensor_resumed", sensor, terminal, None, write).await
    }

    /// Revokes a sensor's keys, or one of them.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when there is nothing that counts.
    pub async fn revoke_sensor(
        &self,
        actor: &Actor,
        sensor: &SensorId,
        key: Option<SensorKeyId>,
    ) -> Result<(), GatewayError> {
        let terminal = self.newest_key(sensor).await?.terminal;
        let details = key.as_ref().map(|key| {
            sha256(&length_prefixed(&[b"tulga-sensor-revoked-v1", key.as_str().as_bytes()]))
        });
        let write = SensorWrite::Revoke(sensor.clone(), key);
        self.change_sensor(actor, "sensor_revoked", sensor, terminal, details, write).await
    }

    /// Registered keys of sensors, those that count no more too.
    ///
    /// # Errors
    ///
    /// What the store cannot do.
    pub async fn sensor_keys(
        &self,
        after: Option<&SensorKeyId>,
        limit: u32,
    ) -> Result<Vec<SensorKeyRow>, GatewayError> {
        Ok(self.store.sensor_keys(after, limit).await?)
    }

    /// The key of a sensor that was registered last.
    async fn newest_key(&self, sensor: &SensorId) -> Result<SensorKeyRow, GatewayError> {
        let keys = self.store.keys_of_sensor(sensor).await?;
        keys.into_iter().next_back().ok_or(GatewayError::NotFound("sensor"))
    }

    async fn change_sensor(
        &self,
        actor: &Actor,
        act: &'static str,
        sensor: &SensorId,
        terminal: TerminalId,
        details: Option<Digest>,
        write: SensorWrite,
    ) -> Result<(), GatewayError> {
        let content = Content::Administration(Administration {
            act: act.to_owned(),
            actor: receipt_actor(actor),
            subject: Some(sensor.to_string()),
            details: details.as_ref().map(Digest::labelled),
        });
        let writes = vec![Write::Sensor(Box::new(write))];
        self.perform_as(content, Some(terminal), writes).await.map(drop)
    }
}

/// What an entry about a key commits to.
fn details(row: &SensorKeyRow, overlap_ms: i64) -> Digest {
    sha256(&length_prefixed(&[
        b"tulga-sensor-v1",
        row.terminal.as_str().as_bytes(),
        row.sensor.as_str().as_bytes(),
        row.key_id.as_str().as_bytes(),
        row.modality.as_str().as_bytes(),
        row.level.as_str().as_bytes(),
        &row.key.to_spki_der(),
        row.firmware.as_bytes(),
        row.camera.as_bytes(),
        &overlap_ms.to_be_bytes(),
    ]))
}
