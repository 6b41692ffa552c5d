//! Sensors, their keys and their envelopes.
//!
//! Messages are destructured, so that a field added to the `.proto` is a compile error here.

use super::noun::{device_bytes, named, present, sentence, terminal_id, text};
use crate::crypto::PublicKey;
use crate::domain::id::{SensorId, SensorKeyId};
use crate::domain::sensor::{SensorKeyStanding, SensorModality, SensorVerdict, TrustLevel};
use crate::domain::time::UnixMillis;
use crate::gateway::{Envelope, NewSensor, NewSensorKey, SensorKeyRow};
use crate::grpc::status::InvalidField;
use crate::proto;

/// Most envelopes of one verification: one for the face, one for fingers.
const ENVELOPES_MAX: usize = 2;

/// Largest counter: what every store and language keeps as a whole number.
const COUNTER_MAX: u64 = i64::MAX.unsigned_abs();

/// What sensors signed about the captures of a verification.
pub fn envelopes(wire: Vec<proto::CaptureEnvelope>) -> Result<Vec<Envelope>, InvalidField> {
    if wire.len() > ENVELOPES_MAX {
        return Err(InvalidField::wrong("envelopes", "there are more than 2"));
    }
    wire.into_iter().map(envelope).collect()
}

/// What a sensor signed; its paths are those of `Verify`, where there are several.
pub fn envelope(wire: proto::CaptureEnvelope) -> Result<Envelope, InvalidField> {
    let proto::CaptureEnvelope { sensor_id, key_id, counter, captured_at_ms, verdict, signature } =
        wire;
    if !(1..=COUNTER_MAX).contains(&counter) {
        return Err(InvalidField::wrong("envelopes.counter", "it must be 1 to 2^63-1"));
    }
    Ok(Envelope {
        sensor: text("envelopes.sensor_id", &sensor_id)?,
        key_id: text("envelopes.key_id", &key_id)?,
        counter,
        captured_at: UnixMillis::new(captured_at_ms),
        verdict: match named("envelopes.verdict", verdict)? {
            proto::SensorVerdict::Unspecified => SensorVerdict::None,
            proto::SensorVerdict::Live => SensorVerdict::Live,
            proto::SensorVerdict::Suspect => SensorVerdict::Suspect,
        },
        signature: device_bytes("envelopes.signature", signature)?,
    })
}

/// An administrator registers a sensor.
pub fn new_sensor(wire: proto::RegisterSensorRequest) -> Result<NewSensor, InvalidField> {
    let proto::RegisterSensorRequest {
        terminal_id: terminal,
        sensor_id,
        modality,
        key,
        firmware,
        camera,
    } = wire;
    Ok(NewSensor {
        terminal: terminal_id(&terminal)?,
        sensor: self::sensor_id(&sensor_id)?,
        modality: match named("modality", modality)? {
            proto::Modality::Face => SensorModality::Face,
            proto::Modality::Finger => SensorModality::Finger,
            proto::Modality::Unspecified => return Err(InvalidField::missing("modality")),
            proto::Modality::Palm => {
                return Err(InvalidField::wrong("modality", "it is not offered by this gateway"));
            }
        },
        key: new_key(key)?,
        firmware: remark("firmware", firmware)?.unwrap_or_default(),
        camera: remark("camera", camera)?.unwrap_or_default(),
    })
}

/// A sensor's key.
pub fn new_key(wire: Option<proto::SensorKey>) -> Result<NewSensorKey, InvalidField> {
    let proto::SensorKey { key_id, public_key_pem, level } = present("key", wire)?;
    let path = "key.public_key_pem";
    Ok(NewSensorKey {
        id: text("key.key_id", &key_id)?,
        key: PublicKey::from_spki_pem(&public_key_pem)
            .map_err(|error| InvalidField::because(path, &error))?,
        level: match named("key.level", level)? {
            proto::SensorLevel::Unspecified => return Err(InvalidField::missing("key.level")),
            proto::SensorLevel::SoftwareKey => TrustLevel::SoftwareKey,
            proto::SensorLevel::SecureElement => TrustLevel::SecureElement,
        },
    })
}

/// A sensor's id.
pub fn sensor_id(wire: &str) -> Result<SensorId, InvalidField> {
    text("sensor_id", wire)
}

/// Which key is meant; all of them where none is named.
pub fn maybe_key_id(wire: &str) -> Result<Option<SensorKeyId>, InvalidField> {
    if wire.is_empty() { Ok(None) } else { text("key_id", wire).map(Some) }
}

/// A remark that may be left out.
pub fn remark(path: &'static str, wire: String) -> Result<Option<String>, InvalidField> {
    if wire.is_empty() { Ok(None) } else { sentence(path, wire).map(Some) }
}

/// A registered key, as it stands now.
pub fn sensor(row: SensorKeyRow, now: UnixMillis) -> proto::Sensor {
    let state = match row.standing(now) {
        SensorKeyStanding::Active => proto::SensorKeyState::Active,
        SensorKeyStanding::Suspended => proto::SensorKeyState::Suspended,
        SensorKeyStanding::Replaced => proto::SensorKeyState::Replaced,
        SensorKeyStanding::Revoked => proto::SensorKeyState::Revoked,
    };
    let modality = match row.modality {
        SensorModality::Face => proto::Modality::Face,
        SensorModality::Finger => proto::Modality::Finger,
    };
    let level = match row.level {
        TrustLevel::SoftwareKey => proto::SensorLevel::SoftwareKey,
        TrustLevel::SecureElement => proto::SensorLevel::SecureElement,
    };
    proto::Sensor {
        terminal_id: row.terminal.to_string(),
        sensor_id: row.sensor.to_string(),
        modality: modality.into(),
        key: Some(proto::SensorKey {
            key_id: row.key_id.to_string(),
            public_key_pem: crate::crypto::spki_pem(&row.key),
            level: level.into(),
        }),
        spki_sha256: row.key.fingerprint().hex(),
        firmware: row.firmware,
        camera: row.camera,
        state: state.into(),
        registered_at: Some(row.registered_at.into()),
        counts_until: row.counts_until.map(proto::Instant::from),
        counter: row.counter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_is_refused_by_its_path() {
        type Spoil = fn(&mut proto::CaptureEnvelope);
        let good = || proto::CaptureEnvelope {
            sensor_id: "CAM-1".into(),
            key_id: "k1".into(),
            counter: 1,
            captured_at_ms: -1,
            verdict: 0,
            signature: vec![7; 64],
        };
        assert_eq!(envelopes(vec![good(), good()]).unwrap().len(), 2);
        let cases: [(&str, Spoil); 7] = [
            ("envelopes.sensor_id", |e| e.sensor_id.clear()),
            ("envelopes.key_id", |e| e.key_id = "a b".into()),
            ("envelopes.counter", |e| e.counter = 0),
            ("envelopes.counter", |e| e.counter = COUNTER_MAX + 1),
            ("envelopes.verdict", |e| e.verdict = 9),
            ("envelopes.signature", |e| e.signature.clear()),
            ("envelopes.signature", |e| e.signature = vec![7; 129]),
        ];
        for (path, spoil) in cases {
            let mut wire = good();
            spoil(&mut wire);
            assert_eq!(envelopes(vec![wire]).unwrap_err().path, path);
        }
        assert_eq!(envelopes(vec![good(), good(), good()]).unwrap_err().path, "envelopes");
    }
}
