//! A capture sealed to the gateway, as a terminal or its sensor does it.

use anyhow::{Context as _, Result, bail, ensure};

use crate::app::{DataDir, KeyFolder};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::crypto::{SystemEntropy, seal_to, sha256};
use crate::domain::id::{CaptureKeyId, Challenge, TerminalId};
use crate::domain::time::UnixMillis;
use crate::gateway::{CaptureFor, SealedFor, capture_key_message, sealing_info};
use crate::proto;
use crate::receipt::{KeyRegister, KeyStatus, KeyUse};

/// Seals the captures of one call. The key counts only if the register of the data folder, which the root key
/// signed, names the key that signed it.
pub(super) fn seal(
    config: &Config,
    terminal: &str,
    opened: &proto::BeginCaptureResponse,
    captures: Vec<proto::Capture>,
) -> Result<Vec<proto::Capture>> {
    let key = opened.capture_key.as_ref().context("the gateway gives out no key to seal to now")?;
    let files = KeyFolder::register(&DataDir::at(&config.paths.data_dir))?;
    let register = KeyRegister::parse(&files.register)?;
    let (key_id, public_key) = trusted(&register, &config.identity.issuer, key, SystemClock.now())?;
    let terminal = TerminalId::try_from(terminal).context("the terminal's name")?;
    let challenge = <[u8; 32]>::try_from(opened.challenge.as_slice());
    let challenge = Challenge::new(challenge.ok().context("the challenge is not 32 bytes")?);
    let answer = sha256(&prost::Message::encode_to_vec(opened));
    let sealed = (0u64..).zip(captures).map(|(place, capture)| {
        let info = sealing_info(&SealedFor {
            purpose: CaptureFor::Verification,
            challenge: &challenge,
            answer: &answer,
            terminal: &terminal,
            key_id: &key_id,
            sensor: None,
            place,
        });
        let sealed = seal_to(&public_key, &info, &capture.image, &SystemEntropy)?;
        let sealed = proto::SealedImage {
            key_id: key_id.to_string(),
            sensor_id: String::new(),
            sealed: sealed.into(),
        };
        Ok(proto::Capture { image: bytes::Bytes::new(), sealed: Some(sealed), ..capture })
    });
    sealed.collect()
}

/// The key, if what signed it may.
fn trusted(
    register: &KeyRegister,
    issuer: &str,
    key: &proto::CaptureKey,
    now: UnixMillis,
) -> Result<(CaptureKeyId, [u8; 32])> {
    let proto::CaptureKey { key_id, public_key, seal_until, signed_by, signature } = key;
    let id = CaptureKeyId::try_from(key_id.as_str()).context("the name of the key to seal to")?;
    let public_key = <[u8; 32]>::try_from(public_key.as_slice());
    let public_key = public_key.ok().context("the key to seal to is not 32 bytes")?;
    let until = seal_until.as_ref().context("the key to seal to has no end")?;
    let until = UnixMillis::new(until.unix_ms);
    ensure!(now <= until, "the key to seal to is old: nothing is sealed to it");
    let signer = register.keys().iter().find(|record| record.kid == *signed_by);
    let may = signer.filter(|it| it.usage == KeyUse::Receipt && it.status == KeyStatus::Active);
    let Some(signer) = may else {
        bail!(
            "the register names no receipt key {signed_by:?}: nothing is sealed to what it signed"
        );
    };
    let message = capture_key_message(issuer, &id, &public_key, until);
    signer.public_key.verify(&message, signature).context(
        "the key to seal to is not signed by the gateway: something on the way may have replaced it",
    )?;
    Ok((id, public_key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Ed25519Key, Signer as _};
    use crate::receipt::{KeyAlgorithm, KeyRange, KeyRecord};

    const ISSUER: &str = "cash.bank.example/gw07";
    const NOW: UnixMillis = UnixMillis::new(1_000);

    fn record(kid: &str, usage: KeyUse, seed: u8) -> KeyRecord {
        let key = Ed25519Key::from_seed([seed; 32]).unwrap().public_key();
        let origin = "cash.bank.example/gw07/2026h2".to_owned();
        KeyRecord {
            kid: kid.into(),
            algorithm: KeyAlgorithm::of(key.kind()),
            usage,
            public_key: key,
            not_before: NOW,
            not_after: None,
            origins: vec![KeyRange { origin, first_index: 0, last_index: None }],
            status: KeyStatus::Active,
        }
    }

    fn given_out(seed: u8, signed_by: &str) -> proto::CaptureKey {
        let id = CaptureKeyId::try_from("capture-1").unwrap();
        let message = capture_key_message(ISSUER, &id, &[9; 32], NOW);
        proto::CaptureKey {
            key_id: "capture-1".into(),
            public_key: vec![9; 32],
            seal_until: Some(NOW.into()),
            signed_by: signed_by.into(),
            signature: Ed25519Key::from_seed([seed; 32]).unwrap().sign(&message).unwrap(),
        }
    }

    #[test]
    fn nothing_is_sealed_to_a_key_that_the_gateway_did_not_sign() {
        let root = KeyRecord { origins: Vec::new(), ..record("root-1", KeyUse::Root, 1) };
        let keys = vec![
            root,
            record("receipt-1", KeyUse::Receipt, 2),
            record("ledger-1", KeyUse::Ledger, 3),
        ];
        let mut revoked = keys.clone();
        revoked[1].status = KeyStatus::Revoked;
        revoked[1].origins[0].last_index = Some(9);
        let register = KeyRegister::new(keys).unwrap();
        let take = |key: &proto::CaptureKey, now| trusted(&register, ISSUER, key, now);
        let good = given_out(2, "receipt-1");
        assert_eq!(take(&good, NOW).unwrap().1, [9; 32]);
        assert!(take(&good, NOW.plus_millis(1)).is_err(), "it is old");
        assert!(trusted(&register, "another.example/gw", &good, NOW).is_err());
        assert!(take(&given_out(4, "receipt-1"), NOW).is_err(), "another key signed");
        assert!(take(&given_out(3, "ledger-1"), NOW).is_err(), "a key of another use signed");
        assert!(take(&given_out(2, "receipt-9"), NOW).is_err());
        let spoilt: [fn(&mut proto::CaptureKey); 7] = [
            |key| key.public_key = vec![8; 32],
            |key| key.public_key = vec![9; 31],
            |key| key.key_id = "capture-2".into(),
            |key| key.key_id.clear(),
            |key| key.seal_until = None,
            |key| key.seal_until = Some(NOW.plus_millis(1).into()),
            |key| key.signature.clear(),
        ];
        for spoil in spoilt {
            let mut other = good.clone();
            spoil(&mut other);
            assert!(take(&other, NOW).is_err(), "{other:?}");
        }
        let register = KeyRegister::new(revoked).unwrap();
        assert!(trusted(&register, ISSUER, &good, NOW).is_err(), "it was revoked");
    }
}
