//! The key register, `keys.json`: which key may sign what, where and when; itself signed by a root
//! key whose fingerprint is published outside.

use std::collections::HashSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::{is_key_id, strict_json};
use crate::crypto::{Digest, KeyKind, PublicKey, SignatureError, Signer, spki_pem};
use crate::domain::time::UnixMillis;

/// Longest register read, in bytes.
pub const REGISTER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// SHA-256 of the root key's `SubjectPublicKeyInfo`: what a verifier must learn from elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrustFingerprint(Digest);

impl TrustFingerprint {
    /// The fingerprint of a root key.
    #[must_use]
    pub fn of(root: &PublicKey) -> Self {
        Self(root.fingerprint())
    }

    /// Reads `sha256:` and 64 hexadecimal digits, or the digits alone.
    ///
    /// # Errors
    ///
    /// [`InvalidFingerprint`] for anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidFingerprint> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        Digest::from_hex(digits).map(Self).map_err(|_| InvalidFingerprint)
    }
}

impl fmt::Display for TrustFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0.hex())
    }
}

impl std::str::FromStr for TrustFingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// A text that is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a trust fingerprint is sha256: and 64 hexadecimal digits")]
pub struct InvalidFingerprint;

/// How a key signs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum KeyAlgorithm {
    /// Ed25519 (RFC 8032), called `EdDSA` in JOSE.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// ECDSA over P-256 with SHA-256 (RFC 7518, section 3.4): receipt and root keys only.
    #[serde(rename = "ES256")]
    Es256,
}

impl KeyAlgorithm {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::EdDsa, Self::Es256];

    /// How keys of a kind sign.
    #[must_use]
    pub const fn of(kind: KeyKind) -> Self {
        match kind {
            KeyKind::Ed25519 => Self::EdDsa,
            KeyKind::P256 => Self::Es256,
        }
    }

    /// Its name in JOSE, as registers and headers write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
        }
    }

    /// Whether a header may call it so: RFC 9864 renames `EdDSA` with its curve to `Ed25519`.
    #[must_use]
    pub fn is_called(self, alg: &str) -> bool {
        alg == self.as_str() || (self == Self::EdDsa && alg == "Ed25519")
    }
}

/// What a key is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum KeyUse {
    /// Signs receipts.
    Receipt,
    /// Signs checkpoints.
    Ledger,
    /// Cosigns checkpoints, elsewhere.
    Witness,
    /// Signs the register.
    Root,
}

/// Where a key stands. What it signed inside its ranges stays valid, and until a ledger has reached the
/// end of a range that was closed ahead of it, the key goes on signing there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyStatus {
    /// Signs.
    Active,
    /// Another key has taken over where its ranges end.
    Retired,
    /// The same, and its private half may be in other hands: nothing but its ranges speaks for it.
    Revoked,
}

/// Indices of one ledger that a key may sign at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyRange {
    /// The ledger.
    pub origin: String,
    /// The first index.
    pub first_index: u64,
    /// The last index, included; none while the key is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_index: Option<u64>,
}

/// One key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRecord {
    /// Its name, unique in the register.
    pub kid: String,
    /// How it signs.
    pub algorithm: KeyAlgorithm,
    /// What it is for.
    pub usage: KeyUse,
    /// Its public half.
    pub public_key: PublicKey,
    /// It signs nothing before.
    pub not_before: UnixMillis,
    /// It signs nothing after.
    pub not_after: Option<UnixMillis>,
    /// Where it may sign.
    pub origins: Vec<KeyRange>,
    /// Where it stands.
    pub status: KeyStatus,
}

impl KeyRecord {
    /// Whether the key may sign entry `index` of a ledger; for a ledger key, the checkpoint whose last
    /// entry that is.
    #[must_use]
    pub fn covers(&self, origin: &str, index: u64) -> bool {
        self.origins.iter().any(|range| {
            range.origin == origin
                && range.first_index <= index
                && range.last_index.is_none_or(|last| index <= last)
        })
    }

    /// Whether the key may sign at an instant.
    #[must_use]
    pub fn valid_at(&self, time: UnixMillis) -> bool {
        self.not_before <= time && self.not_after.is_none_or(|last| time <= last)
    }

    fn check(&self) -> Result<(), KeyRegisterError> {
        let fault = |rule| Err(KeyRegisterError::Key { kid: self.kid.clone(), rule });
        if !is_key_id(&self.kid) {
            return fault("its id has other characters than A-Z, a-z, 0-9, '.', '_' and '-'");
        }
        if self.algorithm != KeyAlgorithm::of(self.public_key.kind()) {
            return fault("its algorithm is not that of its public key");
        }
        if self.algorithm == KeyAlgorithm::Es256
            && !matches!(self.usage, KeyUse::Receipt | KeyUse::Root)
        {
            return fault("checkpoints and cosignatures are signed with Ed25519 only");
        }
        if self.not_after.is_some_and(|last| last < self.not_before) {
            return fault("it ends before it begins");
        }
        for range in &self.origins {
            if range.last_index.is_some_and(|last| last < range.first_index) {
                return fault("a range ends before it begins");
            }
            if range.last_index.is_none() && self.status != KeyStatus::Active {
                return fault("it is not active, but a range is open");
            }
        }
        Ok(())
    }
}

/// All keys of a gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRegister {
    keys: Vec<KeyRecord>,
}

impl KeyRegister {
    /// The register of these keys.
    ///
    /// # Errors
    ///
    /// [`KeyRegisterError`] when two have one id, one contradicts itself, or two receipt keys may
    /// sign at one index.
    pub fn new(keys: Vec<KeyRecord>) -> Result<Self, KeyRegisterError> {
        let mut ids = HashSet::new();
        for key in &keys {
            key.check()?;
            if !ids.insert(key.kid.as_str()) {
                let rule = "another key has its id";
                return Err(KeyRegisterError::Key { kid: key.kid.clone(), rule });
            }
        }
        refuse_overlap(&keys)?;
        Ok(Self { keys })
    }

    /// The keys, in the order of the file.
    #[must_use]
    pub fn keys(&self) -> &[KeyRecord] {
        &self.keys
    }

    /// The key with this id.
    #[must_use]
    pub fn key(&self, kid: &str) -> Option<&KeyRecord> {
        self.keys.iter().find(|key| key.kid == kid)
    }

    /// The key that signs the receipt at `index` of a ledger.
    #[must_use]
    pub fn receipt_key(&self, origin: &str, index: u64) -> Option<&KeyRecord> {
        self.covering(KeyUse::Receipt, origin, index)
    }

    /// The key that signs a ledger's checkpoint of `size` entries: the one whose range its last entry
    /// lies in, the first one's for the empty ledger.
    #[must_use]
    pub fn ledger_key(&self, origin: &str, size: u64) -> Option<&KeyRecord> {
        self.covering(KeyUse::Ledger, origin, size.saturating_sub(1))
    }

    fn covering(&self, usage: KeyUse, origin: &str, index: u64) -> Option<&KeyRecord> {
        self.keys.iter().find(|key| key.usage == usage && key.covers(origin, index))
    }

    /// The keys that sign checkpoints of a ledger.
    pub fn ledger_keys<'a>(&'a self, origin: &'a str) -> impl Iterator<Item = &'a KeyRecord> {
        self.keys.iter().filter(move |key| {
            key.usage == KeyUse::Ledger && key.origins.iter().any(|range| range.origin == origin)
        })
    }

    /// The bytes of `keys.json`.
    ///
    /// # Errors
    ///
    /// What `serde_json` says; texts and integers always can be written.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let keys = self.keys.iter().map(WireKey::from).collect();
        serde_json::to_string_pretty(&WireRegister { keys }).map(|json| json + "\n")
    }

    /// Reads `keys.json`; whether to believe it is for [`KeyRegister::verify`] to say.
    ///
    /// # Errors
    ///
    /// [`KeyRegisterError`] for anything that no gateway writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyRegisterError> {
        if bytes.len() > REGISTER_BYTES_MAX {
            return Err(KeyRegisterError::TooLong);
        }
        let value = strict_json::parse(bytes).map_err(KeyRegisterError::Json)?;
        let wire = WireRegister::deserialize(&value).map_err(KeyRegisterError::Json)?;
        Self::new(wire.keys.into_iter().map(KeyRecord::try_from).collect::<Result<_, _>>()?)
    }

    /// The text of `keys.json.sig`: base64 of the 64 bytes of the root key's signature over the exact
    /// bytes of `keys.json`, and a newline.
    ///
    /// # Errors
    ///
    /// [`SignatureError`] when the key's holder cannot sign.
    pub fn sign(json: &[u8], root: &dyn Signer) -> Result<String, SignatureError> {
        root.sign(json).map(|signature| STANDARD.encode(signature) + "\n")
    }

    /// Reads a register that the trusted root key signed.
    ///
    /// # Errors
    ///
    /// [`KeyRegisterError`] when it names no root key of that fingerprint, or the signature is not
    /// that key's.
    pub fn verify(
        bytes: &[u8],
        signature: &str,
        trust: &TrustFingerprint,
    ) -> Result<Self, KeyRegisterError> {
        let register = Self::parse(bytes)?;
        let root = register
            .keys
            .iter()
            .find(|key| {
                key.usage == KeyUse::Root && TrustFingerprint::of(&key.public_key) == *trust
            })
            .ok_or(KeyRegisterError::Untrusted)?;
        let line = signature.strip_suffix('\n').unwrap_or(signature);
        let signature = STANDARD.decode(line).map_err(|_| KeyRegisterError::Signature)?;
        root.public_key.verify(bytes, &signature).map_err(|_| KeyRegisterError::Signature)?;
        Ok(register)
    }
}

/// Where two receipt keys may sign, an old one that leaked could make receipts beside the new one.
fn refuse_overlap(keys: &[KeyRecord]) -> Result<(), KeyRegisterError> {
    let mut ranges: Vec<(&KeyRange, &str)> = keys
        .iter()
        .filter(|key| key.usage == KeyUse::Receipt)
        .flat_map(|key| key.origins.iter().map(|range| (range, key.kid.as_str())))
        .collect();
    ranges.sort_by_key(|(range, _)| (&range.origin, range.first_index));
    for pair in ranges.windows(2) {
        let [(before, _), (after, kid)] = pair else { continue };
        let overlaps = before.last_index.is_none_or(|last| after.first_index <= last);
        if before.origin == after.origin && overlaps {
            let rule = "a range of it overlaps another receipt key's of the same ledger";
            return Err(KeyRegisterError::Key { kid: (*kid).to_owned(), rule });
        }
    }
    Ok(())
}

/// A register that is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRegisterError {
    /// More than [`REGISTER_BYTES_MAX`] bytes.
    #[error("the key register is longer than 4 MiB")]
    TooLong,
    /// Not the JSON of a register.
    #[error("the key register is not the JSON of one")]
    Json(#[source] serde_json::Error),
    /// A key that cannot be.
    #[error("key {kid:?} of the register cannot be: {rule}")]
    Key {
        /// Which key.
        kid: String,
        /// What is wrong.
        rule: &'static str,
    },
    /// No root key has the fingerprint.
    #[error("the key register names no root key with the trusted fingerprint")]
    Untrusted,
    /// The signature is not the root key's over these bytes.
    #[error("the key register is not signed by its trusted root key")]
    Signature,
}

impl KeyRegisterError {
    /// The word in statuses, metrics and logs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Untrusted | Self::Signature => "KEY_UNTRUSTED",
            _ => "KEY_REGISTER",
        }
    }
}

#[derive(Serialize, Deserialize)]
struct WireRegister {
    keys: Vec<WireKey>,
}

#[derive(Serialize, Deserialize)]
struct WireKey {
    kid: String,
    alg: KeyAlgorithm,
    #[serde(rename = "use")]
    usage: KeyUse,
    spki_pem: String,
    not_before: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
    origins: Vec<KeyRange>,
    status: KeyStatus,
}

impl From<&KeyRecord> for WireKey {
    fn from(key: &KeyRecord) -> Self {
        let KeyRecord { kid, algorithm, usage, public_key, not_before, not_after, origins, status } =
            key;
        Self {
            kid: kid.clone(),
            alg: *algorithm,
            usage: *usage,
            spki_pem: spki_pem(public_key),
            not_before: not_before.rfc3339(),
            not_after: not_after.map(UnixMillis::rfc3339),
            origins: origins.clone(),
            status: *status,
        }
    }
}

impl TryFrom<WireKey> for KeyRecord {
    type Error = KeyRegisterError;

    fn try_from(wire: WireKey) -> Result<Self, Self::Error> {
        let WireKey { kid, alg, usage, spki_pem, not_before, not_after, origins, status } = wire;
        let fault = |rule| KeyRegisterError::Key { kid: kid.clone(), rule };
        let instant =
            |text: &str| UnixMillis::parse_rfc3339(text).map_err(|_| fault("a time is malformed"));
        let public_key = PublicKey::from_spki_pem(&spki_pem)
            .map_err(|_| fault("it is not an Ed25519 or P-256 public key in PEM"))?;
        let not_before = instant(&not_before)?;
        let not_after = not_after.as_deref().map(instant).transpose()?;
        Ok(Self { kid, algorithm: alg, usage, public_key, not_before, not_after, origins, status })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Ed25519Key, P256Key, SeededEntropy};

    fn key(seed: u64) -> Ed25519Key {
        Ed25519Key::generate(&SeededEntropy::new(seed)).unwrap()
    }

    fn record(kid: &str, usage: KeyUse, seed: u64) -> KeyRecord {
        let origin = "a.example/log".to_owned();
        KeyRecord {
            kid: kid.to_owned(),
            algorithm: KeyAlgorithm::EdDsa,
            usage,
            public_key: key(seed).public_key(),
            not_before: UnixMillis::new(0),
            not_after: None,
            origins: vec![KeyRange { origin, first_index: 0, last_index: None }],
            status: KeyStatus::Active,
        }
    }

    fn register() -> KeyRegister {
        KeyRegister::new(vec![record("root-1", KeyUse::Root, 1), record("r-1", KeyUse::Receipt, 2)])
            .unwrap()
    }

    #[test]
    fn a_register_is_believed_only_under_its_root_s_fingerprint() {
        let json = register().to_json().unwrap();
        let signature = KeyRegister::sign(json.as_bytes(), &key(1)).unwrap();
        let trust = TrustFingerprint::of(&key(1).public_key());
        let verify = |json: &str, signature: &str, trust| {
            KeyRegister::verify(json.as_bytes(), signature, trust)
        };
        assert_eq!(verify(&json, &signature, &trust).unwrap(), register());
        // The receipt key is in the register, but is no root.
        let other = TrustFingerprint::of(&key(2).public_key());
        assert_eq!(verify(&json, &signature, &other).unwrap_err().code(), "KEY_UNTRUSTED");
        let altered = json.replace("r-1", "r-2");
        assert_eq!(verify(&altered, &signature, &trust).unwrap_err().code(), "KEY_UNTRUSTED");
        let foreign = KeyRegister::sign(json.as_bytes(), &key(2)).unwrap();
        assert_eq!(verify(&json, &foreign, &trust).unwrap_err().code(), "KEY_UNTRUSTED");
    }

    #[test]
    fn a_register_that_contradicts_itself_is_refused() {
        let open = |change: &dyn Fn(&mut KeyRecord)| {
            let mut key = record("r-1", KeyUse::Receipt, 2);
            change(&mut key);
            KeyRegister::new(vec![key])
        };
        assert!(open(&|_| ()).is_ok());
        assert!(open(&|key| key.kid = "a b".into()).is_err());
        assert!(open(&|key| key.status = KeyStatus::Revoked).is_err());
        assert!(open(&|key| key.not_after = Some(UnixMillis::new(-1))).is_err());
        assert!(open(&|key| key.origins[0].first_index = 5).is_ok());
        assert!(
            open(&|key| {
                key.origins[0].first_index = 5;
                key.origins[0].last_index = Some(4);
            })
            .is_err()
        );
        let twice = vec![record("a", KeyUse::Root, 1), record("a", KeyUse::Receipt, 2)];
        assert!(KeyRegister::new(twice).is_err());
        assert!(open(&|key| key.algorithm = KeyAlgorithm::Es256).is_err());
        let p256 = |usage| {
            open(&|key| {
                key.usage = usage;
                key.algorithm = KeyAlgorithm::Es256;
                key.public_key = P256Key::generate().unwrap().public_key();
            })
        };
        assert!(p256(KeyUse::Receipt).is_ok());
        assert!(p256(KeyUse::Root).is_ok());
        assert!(p256(KeyUse::Ledger).is_err());
        assert!(p256(KeyUse::Witness).is_err());
    }

    #[test]
    fn at_each_index_one_key_signs_at_the_most() {
        let of = |usage, first: (u64, Option<u64>), second: (u64, Option<u64>)| {
            let mut keys = vec![record("a", usage, 2), record("b", usage, 3)];
            for (key, (first_index, last_index)) in keys.iter_mut().zip([first, second]) {
                key.origins[0].first_index = first_index;
                key.origins[0].last_index = last_index;
            }
            KeyRegister::new(keys)
        };
        let receipt = |first, second| of(KeyUse::Receipt, first, second);
        let register = receipt((0, Some(9)), (10, None)).unwrap();
        let kid = |index| register.receipt_key("a.example/log", index).unwrap().kid.clone();
        assert_eq!((kid(9), kid(10)), ("a".to_owned(), "b".to_owned()));
        assert!(receipt((10, None), (0, Some(9))).is_ok());
        assert!(receipt((0, Some(9)), (11, None)).is_ok());
        assert!(receipt((0, Some(10)), (10, None)).is_err());
        assert!(receipt((0, None), (10, None)).is_err());
        assert!(receipt((5, Some(6)), (0, None)).is_err());
        // Two checkpoints of one size say the same, whoever signs them.
        assert!(of(KeyUse::Ledger, (0, None), (0, None)).is_ok());
        let register = of(KeyUse::Ledger, (0, Some(9)), (10, None)).unwrap();
        let kid = |size| register.ledger_key("a.example/log", size).unwrap().kid.clone();
        assert_eq!([kid(0), kid(10), kid(11)], ["a", "a", "b"]);
        assert_eq!(register.ledger_key("b.example/log", 0), None);
    }

    #[test]
    fn what_is_no_register_is_refused() {
        let json = register().to_json().unwrap();
        assert_eq!(KeyRegister::parse(json.as_bytes()).unwrap(), register());
        let bad = [
            String::new(),
            "{}".into(),
            json.replace("EdDSA", "none"),
            json.replace("\"root\"", "\"king\""),
            json.replace("1970-01-01", "1970-13-01"),
            json.replace("BEGIN PUBLIC", "BEGIN PRIVATE"),
            json.replace("\"first_index\": 0", "\"first_index\": 0.0"),
            json.replacen("\"alg\"", "\"kid\": \"x\", \"alg\"", 1),
        ];
        for altered in bad {
            assert!(KeyRegister::parse(altered.as_bytes()).is_err(), "{altered}");
        }
    }

    #[test]
    fn a_fingerprint_is_read_with_and_without_its_label() {
        let trust = TrustFingerprint::of(&key(1).public_key());
        let text = trust.to_string();
        assert_eq!(TrustFingerprint::parse(&text), Ok(trust));
        assert_eq!(TrustFingerprint::parse(&text[7..]), Ok(trust));
        assert_eq!(TrustFingerprint::parse(&text[8..]), Err(InvalidFingerprint));
        assert_eq!(
            TrustFingerprint::parse(&format!("sha512:{}", &text[7..])),
            Err(InvalidFingerprint)
        );
    }
}
