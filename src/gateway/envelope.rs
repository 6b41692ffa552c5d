//! Envelopes: what a sensor signed about its captures, checked before a pixel of them is looked at.
//!
//! The signature binds the captures to their challenge, and through it to the transaction; to the answer of
//! `BeginCapture`, as the terminal received it; to the terminal, the sensor and its key. The sensor's counter is
//! moved in the transaction that uses the challenge up, so that of two calls with one counter one is refused,
//! and the key is looked up once more where the decision becomes durable.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Gateway;
use super::confirming::Stage;
use super::error::GatewayError;
use super::request::{Capture, Verify};
use super::sequencer::Slot;
use super::session::Session;
use super::verification_job::VerificationJob;
use crate::crypto::{Digest, length_prefixed, sha256};
use crate::domain::id::{Challenge, SensorId, SensorKeyId, TerminalId};
use crate::domain::modality::Modality;
use crate::domain::sensor::{SensorKeyStanding, SensorModality, SensorVerdict, TrustLevel};
use crate::domain::time::UnixMillis;
use crate::policy::{Bars, DeviceLevel};
use crate::store::{EnrolmentChallengeRow, SensorKeyRow, UnitOfWork};

/// What a sensor says of its captures, with its signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// The sensor.
    pub sensor: SensorId,
    /// Which of its keys signed.
    pub key_id: SensorKeyId,
    /// Greater than in every envelope under this key before.
    pub counter: u64,
    /// When it was captured, by the sensor's clock: informational.
    pub captured_at: UnixMillis,
    /// What the sensor says of liveness.
    pub verdict: SensorVerdict,
    /// Over [`envelope_message`].
    pub signature: Vec<u8>,
}

/// What something is captured for: what is signed or sealed for the one counts for nothing in the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CaptureFor {
    /// A transaction at a terminal.
    Verification,
    /// A customer's template, at an enroller's desk.
    Enrolment,
}

/// What an envelope binds its captures to.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'a> {
    /// What they are captured for.
    pub purpose: CaptureFor,
    /// The challenge that they answer.
    pub challenge: &'a Challenge,
    /// SHA-256 of the answer of `BeginCapture` or `BeginAddCapture`, as it was sent.
    pub answer: &'a Digest,
    /// The terminal.
    pub terminal: &'a TerminalId,
    /// What the sensor captures.
    pub modality: SensorModality,
    /// SHA-256 of each picture's bytes, in the order of the request.
    pub captures: &'a [Digest],
}

/// The bytes that a sensor signs; `docs/sensors.md` has them with a vector.
#[must_use]
pub fn envelope_message(envelope: &Envelope, bound: &Bound<'_>) -> Vec<u8> {
    let Envelope { sensor, key_id, counter, captured_at, verdict, signature: _ } = envelope;
    let Bound { purpose, challenge, answer, terminal, modality, captures } = bound;
    let context: &[u8] = match purpose {
        CaptureFor::Verification => b"tulga-capture-v1",
        CaptureFor::Enrolment => b"tulga-enrolment-capture-v1",
    };
    let (counter, captured_at) = (counter.to_be_bytes(), captured_at.get().to_be_bytes());
    let mut fields: Vec<&[u8]> = vec![
        context,
        challenge.as_bytes(),
        answer.as_bytes(),
        terminal.as_str().as_bytes(),
        sensor.as_str().as_bytes(),
        key_id.as_str().as_bytes(),
        modality.as_str().as_bytes(),
    ];
    fields.extend(captures.iter().map(|hash| hash.as_bytes().as_slice()));
    fields.extend([verdict.as_str().as_bytes(), &counter, &captured_at]);
    length_prefixed(&fields)
}

/// What is wrong with what a terminal's sensor sent: no decision is made, and no attempt counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceFault {
    /// No such key, or another sensor's, terminal's or kind of capture's.
    #[error("no such key is registered for this sensor, terminal and kind of capture")]
    UnknownSensor,
    /// Suspended, revoked, or replaced and its overlap is over.
    #[error("the sensor's key does not count now")]
    BlockedSensor,
    /// The signature is of something else, or by another key.
    #[error("the signature is not the sensor's over these captures, this challenge and terminal")]
    Signature,
    /// The counter is not above the last one.
    #[error("the sensor's counter is not above the last one that was taken")]
    Counter,
    /// The pack wants captures signed by a sensor of a higher level.
    #[error("the rules want captures signed by a sensor of a higher level")]
    Unsigned,
    /// The captures were decided on before.
    #[error("a capture was decided on before")]
    Replay,
    /// A sealed capture does not open: which of its parts is wrong is told to nobody.
    #[error("a sealed capture does not open in this call")]
    Sealed,
    /// The pack wants captures sealed to the gateway.
    #[error("the rules want captures sealed to the gateway")]
    Unsealed,
}

impl DeviceFault {
    /// The word in statuses, incidents, metrics and logs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::UnknownSensor => "DEV_SENSOR_UNKNOWN",
            Self::BlockedSensor => "DEV_SENSOR_BLOCKED",
            Self::Signature => "DEV_SIGNATURE",
            Self::Counter => "DEV_COUNTER",
            Self::Unsigned => "DEV_UNSIGNED",
            Self::Replay => "DEV_REPLAY",
            Self::Sealed => "DEV_SEALED",
            Self::Unsealed => "DEV_UNSEALED",
        }
    }
}

/// What signed the captures of a decision; nothing, where they are unsigned. It is made of envelopes that
/// hold, one for each kind of what was captured, and may be kept, sealed, to decide on it again.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct SignedBy(Vec<Seal>);

/// One envelope that holds, in words.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seal {
    pub sensor: String,
    pub key_id: String,
    pub level: String,
    pub verdict: String,
    pub counter: u64,
    pub captured_at_ms: i64,
    /// SHA-256 of what was signed, as receipts write it.
    pub envelope: String,
}

impl Seal {
    fn of(row: &SensorKeyRow, envelope: &Envelope, message: &[u8]) -> Self {
        Self {
            sensor: row.sensor.as_str().to_owned(),
            key_id: row.key_id.as_str().to_owned(),
            level: row.level.as_str().to_owned(),
            verdict: envelope.verdict.as_str().to_owned(),
            counter: envelope.counter,
            captured_at_ms: envelope.captured_at.get(),
            envelope: sha256(message).labelled(),
        }
    }

    fn key(&self) -> Result<SensorKeyId, GatewayError> {
        SensorKeyId::try_from(self.key_id.as_str()).map_err(|_| GatewayError::broken(SEAL))
    }
}

impl SignedBy {
    /// The level of the weakest signature.
    pub fn level(&self) -> DeviceLevel {
        let levels = self.0.iter().map(|seal| match TrustLevel::from_word(&seal.level) {
            Some(TrustLevel::SecureElement) => DeviceLevel::SecureElement,
            Some(TrustLevel::SoftwareKey) => DeviceLevel::SoftwareKey,
            None => DeviceLevel::Certificate,
        });
        levels.min().unwrap_or(DeviceLevel::Certificate)
    }

    /// Whether a sensor takes what it captured for an attack.
    pub fn is_suspected(&self) -> bool {
        self.0.iter().any(|seal| seal.verdict == SensorVerdict::Suspect.as_str())
    }

    /// The keys' names, for the receipt.
    pub fn key_ids(&self) -> Option<String> {
        let ids: Vec<_> = self.0.iter().map(|seal| seal.key_id.as_str()).collect();
        (!ids.is_empty()).then(|| ids.join("+"))
    }

    /// What commits to the envelopes, for the receipt: one's hash, or the hash of several ones' hashes.
    pub fn envelope(&self) -> Option<String> {
        match self.0.as_slice() {
            [] => None,
            [seal] => Some(seal.envelope.clone()),
            several => {
                let hashes: Vec<_> = several.iter().map(|seal| seal.envelope.as_bytes()).collect();
                Some(sha256(&length_prefixed(&hashes)).labelled())
            }
        }
    }

    /// What an auditor may see of it.
    pub fn in_audit_record(&self) -> Value {
        let seals = self.0.iter().map(|seal| {
            json!({
                "sensor": seal.sensor,
                "key_id": seal.key_id,
                "level": seal.level,
                "verdict": seal.verdict,
                "counter": seal.counter,
                "captured_at": UnixMillis::new(seal.captured_at_ms).rfc3339(),
                "envelope": seal.envelope,
            })
        });
        seals.collect()
    }

    /// Refuses where a key counts no more.
    pub async fn require_counting(
        &self,
        unit: &mut dyn UnitOfWork,
        now: UnixMillis,
    ) -> Result<(), GatewayError> {
        for seal in &self.0 {
            counting(unit.sensor_key(&seal.key()?).await?, now)?;
        }
        Ok(())
    }

    /// Moves the counters of the keys, each of which must still count.
    pub async fn take_counters(
        &self,
        unit: &mut dyn UnitOfWork,
        now: UnixMillis,
    ) -> Result<(), GatewayError> {
        for seal in &self.0 {
            let row = counting(unit.sensor_key(&seal.key()?).await?, now)?;
            if seal.counter <= row.counter {
                return Err(DeviceFault::Counter.into());
            }
            unit.update_sensor_key(&SensorKeyRow { counter: seal.counter, ..row }).await?;
        }
        Ok(())
    }
}

/// The key, if it counts.
fn counting(row: Option<SensorKeyRow>, now: UnixMillis) -> Result<SensorKeyRow, DeviceFault> {
    let row = row.ok_or(DeviceFault::UnknownSensor)?;
    match row.standing(now) {
        SensorKeyStanding::Active => Ok(row),
        _ => Err(DeviceFault::BlockedSensor),
    }
}

impl Gateway {
    /// Checks everything of the envelopes but their counters, which are moved where the challenge is used up.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Device`]; [`GatewayError::Invalid`] when some captures have an envelope and others
    /// have none.
    pub(super) async fn check_envelopes(
        &self,
        session: &Session,
        terminal: &TerminalId,
        request: &Verify,
        captures: &[Capture],
        now: UnixMillis,
    ) -> Result<SignedBy, GatewayError> {
        if request.envelopes.is_empty() {
            return Ok(SignedBy::default());
        }
        let mut kinds = by_kind(&session.modalities()?, captures);
        if kinds.len() != request.envelopes.len() {
            let problem = "there must be one for each kind of what was captured, or none";
            return Err(GatewayError::Invalid { field: "envelopes", problem });
        }
        // A challenge that an older version issued: there is none whose answer is known a minute later.
        let answer = session.answer()?.ok_or(GatewayError::Stale)?;
        let mut seals = Vec::with_capacity(request.envelopes.len());
        for envelope in &request.envelopes {
            let row = self.key_of_envelope(envelope, terminal).await?;
            let kind = row.as_ref().and_then(|row| kinds.remove(&row.modality));
            let shown = kind.ok_or(DeviceFault::UnknownSensor)?;
            let row = counting(row, now)?;
            let bound = Bound {
                purpose: CaptureFor::Verification,
                challenge: &request.challenge,
                answer: &answer,
                terminal,
                modality: row.modality,
                captures: &shown,
            };
            seals.push(checked(envelope, &row, &bound)?);
        }
        Ok(SignedBy(seals))
    }

    /// Checks everything of the envelope of one capture at enrolment but its counter.
    pub(super) async fn check_enrolment_envelope(
        &self,
        row: &EnrolmentChallengeRow,
        challenge: &Challenge,
        envelope: &Envelope,
        capture: &Capture,
        now: UnixMillis,
    ) -> Result<SignedBy, GatewayError> {
        let EnrolmentChallengeRow { terminal, modality, answer, .. } = row;
        let key = self.key_of_envelope(envelope, terminal).await?;
        let key = counting(key.filter(|key| key.modality == kind_of(*modality)), now)?;
        let bound = Bound {
            purpose: CaptureFor::Enrolment,
            challenge,
            answer,
            terminal,
            modality: key.modality,
            captures: &[sha256(&capture.image)],
        };
        Ok(SignedBy(vec![checked(envelope, &key, &bound)?]))
    }

    /// The key that an envelope names, if it is of the sensor it names, at this terminal.
    async fn key_of_envelope(
        &self,
        envelope: &Envelope,
        terminal: &TerminalId,
    ) -> Result<Option<SensorKeyRow>, GatewayError> {
        let row = self.store.sensor_key(&envelope.key_id).await?;
        Ok(row.filter(|row| row.sensor == envelope.sensor && row.terminal == *terminal))
    }

    /// The keyed hashes by which captures are known again; none where the gateway is not to know them.
    pub(super) fn capture_indices(&self, captures: &[Capture]) -> Vec<Digest> {
        if self.settings.capture_seen_ms == 0 {
            return Vec::new();
        }
        let index = |capture: &Capture| {
            self.vault.capture_index(&self.settings.tenant, &sha256(&capture.image))
        };
        captures.iter().map(index).collect()
    }

    /// Refuses captures that were decided on before, at whichever terminal.
    pub(super) async fn refuse_seen(
        &self,
        indices: &[Digest],
        now: UnixMillis,
    ) -> Result<(), GatewayError> {
        for index in indices {
            if self.store.is_capture_seen(index, now).await? {
                return Err(DeviceFault::Replay.into());
            }
        }
        Ok(())
    }
}

impl VerificationJob {
    /// What stood when the captures arrived must still stand where they are decided on; and what is decided
    /// on is not decided on again.
    pub(super) async fn require_device(
        &self,
        unit: &mut dyn UnitOfWork,
        slot: &Slot,
    ) -> Result<(), GatewayError> {
        if self.challenge_hash.is_none() {
            // Nothing was captured.
            return Ok(());
        }
        let least = least_level(&self.session, self.pack.bars());
        require_level(self.signed_by.level(), least)?;
        require_sealed(self.sealed_to.is_some(), self.pack.bars())?;
        self.signed_by.require_counting(unit, slot.now).await?;
        if matches!(self.stage, Stage::Answered(_)) {
            return Ok(());
        }
        let until = slot.now.plus_millis(self.settings.capture_seen_ms);
        for index in &self.capture_indices {
            if unit.is_capture_seen(index, slot.now).await? {
                return Err(DeviceFault::Replay.into());
            }
            unit.note_capture(index, until).await?;
        }
        Ok(())
    }
}

/// How well captures must be signed: a guest is enrolled from theirs.
pub(super) fn least_level(session: &Session, bars: &Bars) -> DeviceLevel {
    match session.guest {
        Some(_) => bars.capture_signed.max(bars.enrolment_capture_signed),
        None => bars.capture_signed,
    }
}

/// Refuses captures that are signed less well than a pack wants.
pub(super) fn require_level(level: DeviceLevel, least: DeviceLevel) -> Result<(), DeviceFault> {
    if level >= least { Ok(()) } else { Err(DeviceFault::Unsigned) }
}

/// Refuses captures that anybody on the way could read, where a pack wants them sealed.
pub(super) fn require_sealed(are_sealed: bool, bars: &Bars) -> Result<(), DeviceFault> {
    if are_sealed || !bars.capture_sealed { Ok(()) } else { Err(DeviceFault::Unsealed) }
}

/// The envelope with what its signature was found to cover.
fn checked(
    envelope: &Envelope,
    row: &SensorKeyRow,
    bound: &Bound<'_>,
) -> Result<Seal, DeviceFault> {
    let message = envelope_message(envelope, bound);
    let verdict = row.key.verify_either_form(&message, &envelope.signature);
    verdict.map_err(|_| DeviceFault::Signature)?;
    Ok(Seal::of(row, envelope, &message))
}

/// The kind of sensor that takes a capture.
const fn kind_of(modality: Modality) -> SensorModality {
    match modality {
        Modality::Face => SensorModality::Face,
        Modality::Finger(_) => SensorModality::Finger,
    }
}

/// The hashes of the captures, by which kind of sensor takes them.
fn by_kind(modalities: &[Modality], captures: &[Capture]) -> BTreeMap<SensorModality, Vec<Digest>> {
    let mut kinds = BTreeMap::<_, Vec<_>>::new();
    for (modality, capture) in modalities.iter().zip(captures) {
        kinds.entry(kind_of(*modality)).or_default().push(sha256(&capture.image));
    }
    kinds
}

/// What is broken when a kept seal has another content than was kept.
const SEAL: &str = "a sensor's seal does not parse";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Ed25519Key, Signer as _};

    fn envelope() -> Envelope {
        Envelope {
            sensor: SensorId::try_from("CAM-1").unwrap(),
            key_id: SensorKeyId::try_from("cam-1-2026").unwrap(),
            counter: 7,
            captured_at: UnixMillis::new(1_795_226_594_123),
            verdict: SensorVerdict::Live,
            signature: Vec::new(),
        }
    }

    fn message(envelope: &Envelope, captures: &[Digest]) -> Vec<u8> {
        let bound = Bound {
            purpose: CaptureFor::Verification,
            challenge: &Challenge::new([3; 32]),
            answer: &sha256(b"the answer"),
            terminal: &TerminalId::try_from("ATM-1").unwrap(),
            modality: SensorModality::Face,
            captures,
        };
        envelope_message(envelope, &bound)
    }

    /// The vector of `docs/sensors.md`.
    #[test]
    fn the_signed_bytes_are_those_of_the_document() {
        let bytes = message(&envelope(), &[sha256(b"the picture")]);
        let key = Ed25519Key::from_seed([7; 32]).unwrap();
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let document = include_str!("../../docs/sensors.md");
        for (name, value) in [
            ("key", key.public_key().to_spki_der()),
            ("message", bytes.clone()),
            ("signature", key.sign(&bytes).unwrap()),
            ("envelope", sha256(&bytes).as_bytes().to_vec()),
        ] {
            let line = format!("{name} {}", hex(&value));
            assert!(document.contains(&line), "docs/sensors.md lacks: {line}");
        }
    }

    #[test]
    fn captures_cannot_move_into_a_neighbouring_field() {
        let (one, two) = (sha256(b"1"), sha256(b"2"));
        let both = message(&envelope(), &[one, two]);
        assert_ne!(both, message(&envelope(), &[two, one]));
        assert_ne!(both, message(&envelope(), &[one]));
        let suspect = Envelope { verdict: SensorVerdict::Suspect, ..envelope() };
        assert_ne!(both, message(&suspect, &[one, two]));
    }

    #[test]
    fn the_weakest_signature_counts_and_none_is_none() {
        let seal = |level: TrustLevel, verdict: SensorVerdict| Seal {
            sensor: "CAM-1".into(),
            key_id: level.as_str().into(),
            level: level.as_str().into(),
            verdict: verdict.as_str().into(),
            counter: 1,
            captured_at_ms: 0,
            envelope: sha256(level.as_str().as_bytes()).labelled(),
        };
        let soft = seal(TrustLevel::SoftwareKey, SensorVerdict::Live);
        let hard = seal(TrustLevel::SecureElement, SensorVerdict::Suspect);
        let none = SignedBy::default();
        assert_eq!((none.level(), none.is_suspected()), (DeviceLevel::Certificate, false));
        assert_eq!((none.key_ids(), none.envelope()), (None, None));
        let one = SignedBy(vec![hard.clone()]);
        assert_eq!((one.level(), one.is_suspected()), (DeviceLevel::SecureElement, true));
        assert_eq!(one.envelope(), Some(hard.envelope.clone()));
        let both = SignedBy(vec![hard, soft]);
        assert_eq!(both.level(), DeviceLevel::SoftwareKey);
        assert_eq!(both.key_ids().unwrap(), "secure_element+software_key");
        assert_ne!(both.envelope(), one.envelope());
        assert_eq!(
            require_level(both.level(), DeviceLevel::SecureElement),
            Err(DeviceFault::Unsigned)
        );
        assert_eq!(require_level(both.level(), DeviceLevel::SoftwareKey), Ok(()));
    }
}
