//! Captures that are sealed to the gateway: nobody on the way reads them, a vendor's switch that ends TLS included.
//!
//! The gateway's key pairs lie sealed in the store. Whoever is given a challenge is given the public half with it,
//! signed by the key that signs receipts, which the register of keys names and the root key signs: a switch that
//! puts a key of its own in its place is found out before anything is sealed to it. What is sealed is bound to
//! the challenge, the answer that gave it out, the terminal, the sensor and the capture's place, so it opens in
//! no other call.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use zeroize::Zeroizing;

use super::Gateway;
use super::act::{Write, receipt_actor};
use super::envelope::{CaptureFor, DeviceFault, Envelope};
use super::error::GatewayError;
use super::request::{Actor, Capture, Logged, Picture, SealedPicture, SentCapture};
use super::sequencer::Slot;
use crate::capture::DecodeError;
use crate::crypto::{
    Digest, HYBRID_OVERHEAD_BYTES, HYBRID_SUITE, OpeningKey, length_prefixed, sha256,
};
use crate::domain::id::{CaptureKeyId, Challenge, SensorId, TerminalId};
use crate::domain::time::UnixMillis;
use crate::receipt::{Administration, Content};
use crate::store::{CaptureKeyRow, UnitOfWork};
use crate::vault::Place;

/// Longest time for which a replaced key still opens, in milliseconds: a day. No challenge lasts longer.
pub const CAPTURE_KEY_OVERLAP_MS_MAX: i64 = 86_400_000;

/// A key that captures may be sealed to, with what speaks for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaptureKey {
    /// Its name.
    pub id: CaptureKeyId,
    /// X25519, 32 bytes.
    pub public_key: [u8; 32],
    /// Nothing is to be sealed to it later, in the words of this signature.
    pub until: UnixMillis,
    /// Which key of the register signed.
    pub kid: String,
    /// Over [`capture_key_message`].
    pub signature: Vec<u8>,
}

/// The bytes that speak for a key; `docs/sensors.md` has them with a vector.
#[must_use]
pub fn capture_key_message(
    issuer: &str,
    id: &CaptureKeyId,
    public_key: &[u8; 32],
    until: UnixMillis,
) -> Vec<u8> {
    length_prefixed(&[
        b"tulga-capture-key-v1",
        issuer.as_bytes(),
        HYBRID_SUITE.as_bytes(),
        id.as_str().as_bytes(),
        public_key,
        &until.get().to_be_bytes(),
    ])
}

/// What a sealed capture is bound to.
#[derive(Clone, Copy, Debug)]
pub struct SealedFor<'a> {
    /// What it is captured for.
    pub purpose: CaptureFor,
    /// The challenge that it answers.
    pub challenge: &'a Challenge,
    /// SHA-256 of the answer that gave the challenge out, as it was sent.
    pub answer: &'a Digest,
    /// The terminal.
    pub terminal: &'a TerminalId,
    /// The key that it is sealed to.
    pub key_id: &'a CaptureKeyId,
    /// The sensor that sealed it; none where the terminal's PC did.
    pub sensor: Option<&'a SensorId>,
    /// Its place among the captures of the request, from 0.
    pub place: u64,
}

/// HPKE's `info` of a sealed capture; `docs/sensors.md` has it with a vector.
#[must_use]
pub fn sealing_info(bound: &SealedFor<'_>) -> Vec<u8> {
    let SealedFor { purpose, challenge, answer, terminal, key_id, sensor, place } = bound;
    let context: &[u8] = match purpose {
        CaptureFor::Verification => b"tulga-sealed-capture-v1",
        CaptureFor::Enrolment => b"tulga-sealed-enrolment-v1",
    };
    length_prefixed(&[
        context,
        challenge.as_bytes(),
        answer.as_bytes(),
        terminal.as_str().as_bytes(),
        key_id.as_str().as_bytes(),
        sensor.map_or("", SensorId::as_str).as_bytes(),
        &place.to_be_bytes(),
    ])
}

/// What was signed about the present key, for as long as it may be given out.
#[derive(Debug, Default)]
pub(super) struct Signed(Mutex<Option<CaptureKey>>);

/// What the captures of one call are bound to, as far as they have it in common.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub purpose: CaptureFor,
    pub challenge: &'a Challenge,
    pub answer: Option<&'a Digest>,
    pub terminal: &'a TerminalId,
    pub envelopes: &'a [Envelope],
}

/// The captures of one call, open.
pub(super) struct Opened {
    pub captures: Vec<Capture>,
    /// The names of the keys that they were sealed to; none where any of them was not sealed.
    pub sealed_to: Option<String>,
}

impl Gateway {
    /// Makes the first key of a gateway that has none.
    pub(super) async fn settle_capture_keys(&self) -> Result<(), GatewayError> {
        if self.current_capture_key().await?.is_some() {
            return Ok(());
        }
        let row = self.new_capture_key()?;
        let mut unit = self.store.begin().await?;
        unit.insert_capture_key(&row).await?;
        Ok(unit.commit().await?)
    }

    async fn current_capture_key(&self) -> Result<Option<CaptureKeyRow>, GatewayError> {
        let keys = self.store.capture_keys().await?;
        Ok(keys.into_iter().rev().find(|row| row.counts_until.is_none()))
    }

    fn new_capture_key(&self) -> Result<CaptureKeyRow, GatewayError> {
        let key = OpeningKey::generate(&*self.entropy)?;
        let public_key = key.public_key()?;
        let hex: String = sha256(&public_key).hex().chars().take(ID_DIGITS).collect();
        let id = CaptureKeyId::try_from(format!("capture-{hex}").as_str());
        let id = id.map_err(|cause| GatewayError::internal("the name of a key", cause))?;
        let sealed = self.vault.seal_system(&self.key_place(&id), key.expose(), &*self.entropy)?;
        Ok(CaptureKeyRow { id, public_key, sealed, made_at: self.clock.now(), counts_until: None })
    }

    fn key_place(&self, id: &CaptureKeyId) -> Place {
        let tenant = self.settings.tenant.as_str();
        Place::system("capture_keys", "sealed", tenant, id.as_str().as_bytes())
    }

    /// The key that captures may be sealed to now. None where there is none that can be spoken for: that is no
    /// reason to give no challenge, since no rule may want a capture sealed.
    pub(super) async fn capture_key(&self) -> Option<CaptureKey> {
        let key = self.vouched_key().await;
        key.inspect_err(|error| {
            tracing::warn!(code = error.code(), error = %error, "no key to seal captures to is given out");
        })
        .ok()
    }

    async fn vouched_key(&self) -> Result<CaptureKey, GatewayError> {
        let row = self.current_capture_key().await?;
        self.vouch_for(row.ok_or(GatewayError::broken("no key to seal captures to"))?)
    }

    /// The key with a signature by whatever signs receipts now: the one of before, while it is young.
    fn vouch_for(&self, row: CaptureKeyRow) -> Result<CaptureKey, GatewayError> {
        let own = self.keyring.own_key(&self.open_ledger()?)?;
        let now = self.clock.now();
        let mut held = self.signed.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_young = |key: &&CaptureKey| {
            let left_ms = key.until.get().saturating_sub(now.get());
            let may_be_left_ms = SIGNED_MS / 2..=SIGNED_MS;
            let is_same = key.id == row.id && key.public_key == row.public_key;
            is_same && key.kid == own.kid && may_be_left_ms.contains(&left_ms)
        };
        if let Some(key) = held.as_ref().filter(is_young) {
            return Ok(key.clone());
        }
        // Whoever writes the database must not have the gateway speak for a key of their own.
        if self.opening_key(&row)?.public_key()? != row.public_key {
            return Err(GatewayError::broken("a key's public half is another key's"));
        }
        let until = now.plus_millis(SIGNED_MS);
        let CaptureKeyRow { id, public_key, .. } = row;
        let message = capture_key_message(&self.settings.issuer, &id, &public_key, until);
        let signature = own.signer.sign(&message)?;
        let key = CaptureKey { id, public_key, until, kid: own.kid, signature };
        *held = Some(key.clone());
        Ok(key)
    }

    /// Opens the captures of a call that are sealed, each bounded before it is opened.
    ///
    /// # Errors
    ///
    /// [`DeviceFault::Sealed`] for whatever does not open, without telling why;
    /// [`GatewayError::Unreadable`] for more bytes than a picture may have.
    pub(super) async fn unseal_captures(
        &self,
        call: Call<'_>,
        sent: &[SentCapture],
        now: UnixMillis,
    ) -> Result<Opened, GatewayError> {
        let mut captures = Vec::with_capacity(sent.len());
        let mut keys = Vec::with_capacity(sent.len());
        for (place, SentCapture { picture, declared }) in (0u64..).zip(sent) {
            let image = match picture {
                Picture::Open(image) => image.clone(),
                Picture::Sealed(sealed) => {
                    keys.push(sealed.key_id.as_str());
                    self.unseal_capture(call, sealed, place, now).await?
                }
            };
            captures.push(Capture { image, declared: *declared });
        }
        let is_whole = keys.len() == sent.len();
        keys.dedup();
        Ok(Opened { captures, sealed_to: is_whole.then(|| keys.join("+")) })
    }

    async fn unseal_capture(
        &self,
        call: Call<'_>,
        picture: &SealedPicture,
        place: u64,
        now: UnixMillis,
    ) -> Result<Bytes, GatewayError> {
        let SealedPicture { key_id, sensor, sealed } = picture;
        let image_bytes = sealed.len().saturating_sub(HYBRID_OVERHEAD_BYTES);
        if image_bytes > self.settings.vision.decode.encoded_bytes_max {
            return Err(GatewayError::Unreadable(DecodeError::TooManyBytes));
        }
        // One sensor cannot seal what another one signs.
        let is_other = |sensor: &SensorId| {
            let mut signers = call.envelopes.iter();
            !call.envelopes.is_empty() && !signers.any(|envelope| envelope.sensor == *sensor)
        };
        if sensor.as_ref().is_some_and(is_other) {
            return Err(DeviceFault::Sealed.into());
        }
        // A challenge that an older version issued: there is none whose answer is known a minute later.
        let answer = call.answer.ok_or(GatewayError::Stale)?;
        let row = self.store.capture_key(key_id).await?;
        let row = row.filter(|row| row.counts_until.is_none_or(|until| until > now));
        let row = row.ok_or(DeviceFault::Sealed)?;
        let key = self.opening_key(&row)?;
        let info = sealing_info(&SealedFor {
            purpose: call.purpose,
            challenge: call.challenge,
            answer,
            terminal: call.terminal,
            key_id,
            sensor: sensor.as_ref(),
            place,
        });
        let mut image = key.open(&info, sealed).map_err(|_| DeviceFault::Sealed)?;
        if image.is_empty() {
            return Err(DeviceFault::Sealed.into());
        }
        Ok(std::mem::take(&mut *image).into())
    }

    fn opening_key(&self, row: &CaptureKeyRow) -> Result<OpeningKey, GatewayError> {
        let plain = self.vault.open_system(&self.key_place(&row.id), &row.sealed)?;
        let bytes = <[u8; 32]>::try_from(plain.as_slice());
        let bytes = Zeroizing::new(bytes.map_err(|_| GatewayError::broken("a key's length"))?);
        Ok(OpeningKey::new(*bytes))
    }

    /// Makes another key that captures are sealed to; the former one opens for so many milliseconds more, and is
    /// destroyed then.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Invalid`] for a longer overlap than any challenge lasts.
    pub async fn rotate_capture_key(
        &self,
        actor: &Actor,
        overlap_ms: i64,
    ) -> Result<(CaptureKeyId, Logged), GatewayError> {
        if !(0..=CAPTURE_KEY_OVERLAP_MS_MAX).contains(&overlap_ms) {
            let problem = "it must be at most 86400";
            return Err(GatewayError::Invalid { field: "overlap_s", problem });
        }
        let _turn = self.key_change.lock().await;
        let row = self.new_capture_key()?;
        let id = row.id.clone();
        let content = Content::Administration(Administration {
            act: "capture_key_rotated".to_owned(),
            actor: receipt_actor(actor),
            subject: Some(id.to_string()),
            details: Some(sha256(&details(&row, overlap_ms)).labelled()),
        });
        let write = Write::CaptureKey(Box::new(CaptureKeyWrite { row, overlap_ms }));
        let logged = self.perform_as(content, None, vec![write]).await?;
        Ok((id, logged))
    }
}

/// What the entry of a rotation commits to.
fn details(row: &CaptureKeyRow, overlap_ms: i64) -> Vec<u8> {
    length_prefixed(&[
        b"tulga-capture-key-rotated-v1",
        row.id.as_str().as_bytes(),
        &row.public_key,
        &overlap_ms.to_be_bytes(),
    ])
}

/// A key that takes the place of the others.
pub(super) struct CaptureKeyWrite {
    row: CaptureKeyRow,
    overlap_ms: i64,
}

impl CaptureKeyWrite {
    pub async fn apply(&self, unit: &mut dyn UnitOfWork, slot: &Slot) -> Result<(), GatewayError> {
        unit.end_capture_keys(slot.now.plus_millis(self.overlap_ms)).await?;
        let row = CaptureKeyRow { made_at: slot.now, ..self.row.clone() };
        Ok(unit.insert_capture_key(&row).await?)
    }
}

/// Digits of a public key's hash in its name.
const ID_DIGITS: usize = 16;

/// How long a key may be given out on one signature, in milliseconds: seven days. Another one is made after half.
const SIGNED_MS: i64 = 7 * 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Ed25519Key, Signer as _};

    /// The vector of `docs/sensors.md`.
    #[test]
    fn the_bytes_about_sealing_are_those_of_the_document() {
        let document = include_str!("../../docs/sensors.md");
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let key = OpeningKey::new([5; 32]);
        let public_key = key.public_key().unwrap();
        let id = CaptureKeyId::try_from("capture-1").unwrap();
        let until = UnixMillis::new(1_795_226_594_123);
        let message = capture_key_message("cash.bank.example/gw07", &id, &public_key, until);
        let signature = Ed25519Key::from_seed([7; 32]).unwrap().sign(&message).unwrap();
        let sensor = SensorId::try_from("CAM-1").unwrap();
        let info = sealing_info(&SealedFor {
            purpose: CaptureFor::Verification,
            challenge: &Challenge::new([3; 32]),
            answer: &sha256(b"the answer"),
            terminal: &TerminalId::try_from("ATM-1").unwrap(),
            key_id: &id,
            sensor: Some(&sensor),
            place: 0,
        });
        for (name, value) in [
            ("sealing-key", public_key.to_vec()),
            ("key-message", message),
            ("key-signature", signature),
            ("info", info.clone()),
        ] {
            let line = format!("\n{name} {}\n", hex(&value));
            assert!(document.contains(&line), "the document lacks:{line}");
        }
        // Each sealing is another one: the document's opens.
        let sealed = document.split("\nsealed ").nth(1).unwrap().lines().next().unwrap();
        let pairs = sealed.as_bytes().chunks(2);
        let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        let sealed: Vec<u8> = pairs.map(byte).collect();
        assert_eq!(key.open(&info, &sealed).unwrap().as_slice(), b"the picture");
    }

    #[test]
    fn every_part_of_what_a_sealed_capture_is_bound_to_changes_its_info() {
        let (challenge, answer) = (Challenge::new([3; 32]), sha256(b"the answer"));
        let terminal = TerminalId::try_from("ATM-1").unwrap();
        let key_id = CaptureKeyId::try_from("capture-1").unwrap();
        let of = SealedFor {
            purpose: CaptureFor::Verification,
            challenge: &challenge,
            answer: &answer,
            terminal: &terminal,
            key_id: &key_id,
            sensor: None,
            place: 0,
        };
        let (other_challenge, other_answer) = (Challenge::new([4; 32]), sha256(b""));
        let other_terminal = TerminalId::try_from("ATM-2").unwrap();
        let other_key = CaptureKeyId::try_from("capture-2").unwrap();
        let sensor = SensorId::try_from("CAM-1").unwrap();
        let all = [
            of,
            SealedFor { purpose: CaptureFor::Enrolment, ..of },
            SealedFor { challenge: &other_challenge, ..of },
            SealedFor { answer: &other_answer, ..of },
            SealedFor { terminal: &other_terminal, ..of },
            SealedFor { key_id: &other_key, ..of },
            SealedFor { sensor: Some(&sensor), ..of },
            SealedFor { place: 1, ..of },
        ];
        let infos: std::collections::BTreeSet<_> = all.iter().map(sealing_info).collect();
        assert_eq!(infos.len(), all.len());
    }
}
