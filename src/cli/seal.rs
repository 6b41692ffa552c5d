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
    let (key_id, public_key) = trusted(config, key)?;
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
fn trusted(config: &Config, key: &proto::CaptureKey) -> Result<(CaptureKeyId, [u8; 32])> {
    let proto::CaptureKey { key_id, public_key, seal_until, signed_by, signature } = key;
    let id = CaptureKeyId::try_from(key_id.as_str()).context("the name of the key to seal to")?;
    let public_key = <[u8; 32]>::try_from(public_key.as_slice());
    let public_key = public_key.ok().context("the key to seal to is not 32 bytes")?;
    let until = seal_until.as_ref().context("the key to seal to has no end")?;
    let until = UnixMillis::new(until.unix_ms);
    ensure!(SystemClock.now() <= until, "the key to seal to is old: nothing is sealed to it");
    let files = KeyFolder::register(&DataDir::at(&config.paths.data_dir))?;
    let register = KeyRegister::parse(&files.register)?;
    let signer = register.keys().iter().find(|record| record.kid == *signed_by);
    let may = signer.filter(|it| it.usage == KeyUse::Receipt && it.status == KeyStatus::Active);
    let Some(signer) = may else {
        bail!(
            "{signed_by:?} is no receipt key of the register: nothing is sealed to what it signed"
        );
    };
    let message = capture_key_message(&config.identity.issuer, &id, &public_key, until);
    signer.public_key.verify(&message, signature).context(
        "the key to seal to is not signed by the gateway: something on the way may have replaced it",
    )?;
    Ok((id, public_key))
}
