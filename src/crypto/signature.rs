//! Ed25519 signatures (RFC 8032) and SubjectPublicKeyInfo (RFC 8410).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use zeroize::Zeroizing;

use super::{Digest, Entropy, EntropyError, random_bytes, sha256};

/// Whatever holds a private key and signs with it.
pub trait Signer: Send + Sync + fmt::Debug {
    /// The public half.
    fn public_key(&self) -> PublicKey;

    /// The signature of `message`.
    ///
    /// # Errors
    ///
    /// [`SignatureError::Sign`] when the key's holder cannot sign now.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError>;
}

/// An Ed25519 public key, 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key made of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// SHA-256 of the key's SubjectPublicKeyInfo: its fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        sha256(&ed25519_spki_der(self))
    }

    /// Checks the 64 bytes of `signature` over `message`.
    ///
    /// # Errors
    ///
    /// [`SignatureError::Verify`] when it is not this key's signature of this message.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        UnparsedPublicKey::new(&ED25519, self.0)
            .verify(message, signature)
            .map_err(|_| SignatureError::Verify)
    }

    /// Reads `-----BEGIN PUBLIC KEY-----` of an Ed25519 key.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotEd25519`] for anything else.
    pub fn from_spki_pem(pem: &str) -> Result<Self, KeyError> {
        let body: String = pem
            .trim()
            .strip_prefix("-----BEGIN PUBLIC KEY-----")
            .and_then(|rest| rest.strip_suffix("-----END PUBLIC KEY-----"))
            .ok_or(KeyError::NotEd25519)?
            .split_whitespace()
            .collect();
        let der = STANDARD.decode(body).map_err(|_| KeyError::NotEd25519)?;
        let key = der.strip_prefix(&SPKI_PREFIX).ok_or(KeyError::NotEd25519)?;
        key.try_into().map(Self).map_err(|_| KeyError::NotEd25519)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint().hex())
    }
}

/// An Ed25519 key pair in this process's memory.
pub struct Ed25519Key {
    pair: Ed25519KeyPair,
    seed: Zeroizing<[u8; 32]>,
}

impl Ed25519Key {
    /// A fresh key pair.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] when the source of chance fails.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        let seed = random_bytes(entropy)?;
        Self::from_seed(seed).map_err(|_| EntropyError)
    }

    /// The key pair of a 32-byte seed (RFC 8032: the private key).
    ///
    /// # Errors
    ///
    /// [`KeyError::NotEd25519`] when ring refuses the seed.
    pub fn from_seed(seed: [u8; 32]) -> Result<Self, KeyError> {
        let seed = Zeroizing::new(seed);
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice())
            .map_err(|_| KeyError::NotEd25519)?;
        Ok(Self { pair, seed })
    }

    /// The private key as PKCS#8 v1 PEM (RFC 8410), as `openssl pkey` reads it.
    #[must_use]
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        let der = Zeroizing::new([PKCS8_PREFIX.as_slice(), self.seed.as_slice()].concat());
        let body = Zeroizing::new(STANDARD.encode(der.as_slice()));
        Zeroizing::new(format!("{PKCS8_BEGIN}\n{}\n{PKCS8_END}\n", body.as_str()))
    }

    /// Reads what [`Ed25519Key::to_pkcs8_pem`] writes, and the later form that holds the public key too
    /// (RFC 5958).
    ///
    /// # Errors
    ///
    /// [`KeyError::NotEd25519`] for anything else.
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, KeyError> {
        let body = pem
            .trim()
            .strip_prefix(PKCS8_BEGIN)
            .and_then(|rest| rest.strip_suffix(PKCS8_END))
            .ok_or(KeyError::NotEd25519)?
            .trim();
        let body = Zeroizing::new(body.split_whitespace().collect::<String>());
        let der = STANDARD.decode(body.as_str()).map_err(|_| KeyError::NotEd25519)?;
        let der = Zeroizing::new(der);
        if let Some(seed) = der.strip_prefix(&PKCS8_PREFIX) {
            return Self::from_seed(seed.try_into().map_err(|_| KeyError::NotEd25519)?);
        }
        let pair = Ed25519KeyPair::from_pkcs8(&der).map_err(|_| KeyError::NotEd25519)?;
        let (seed, _) = der
            .get(PKCS8_V2_SEED_AT..)
            .and_then(<[u8]>::split_first_chunk)
            .ok_or(KeyError::NotEd25519)?;
        let key = Self::from_seed(*seed)?;
        let is_same = key.pair.public_key().as_ref() == pair.public_key().as_ref();
        if is_same { Ok(key) } else { Err(KeyError::NotEd25519) }
    }
}

impl Signer for Ed25519Key {
    fn public_key(&self) -> PublicKey {
        let mut bytes = [0u8; 32];
        for (to, from) in bytes.iter_mut().zip(self.pair.public_key().as_ref()) {
            *to = *from;
        }
        PublicKey(bytes)
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        Ok(self.pair.sign(message).as_ref().to_vec())
    }
}

impl fmt::Debug for Ed25519Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ed25519Key({:?})", self.public_key())
    }
}

/// The DER of an Ed25519 SubjectPublicKeyInfo (RFC 8410, section 4).
#[must_use]
pub fn ed25519_spki_der(key: &PublicKey) -> Vec<u8> {
    [SPKI_PREFIX.as_slice(), key.as_bytes()].concat()
}

/// The same as PEM, as `openssl pkeyutl -pubin` reads it.
#[must_use]
pub fn spki_pem(key: &PublicKey) -> String {
    let body = STANDARD.encode(ed25519_spki_der(key));
    format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
}

/// A key that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not an Ed25519 key in the form expected.
    #[error("not an Ed25519 key in PEM")]
    NotEd25519,
    /// Neither an Ed25519 nor an uncompressed P-256 SubjectPublicKeyInfo.
    #[error("not an Ed25519 or uncompressed P-256 SubjectPublicKeyInfo")]
    NotDeviceKey,
}

/// A signature failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The key's holder could not sign.
    #[error("the key's holder could not sign")]
    Sign,
    /// Not this key's signature of this message.
    #[error("the signature is not this key's over this message")]
    Verify,
}

pub(super) const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// Where the seed begins in the later form: behind the lengths, the version and the algorithm.
const PKCS8_V2_SEED_AT: usize = 16;
const PKCS8_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PKCS8_END: &str = "-----END PRIVATE KEY-----";

#[cfg(test)]
mod tests {
    use super::super::SeededEntropy;
    use super::*;

    #[test]
    fn a_signature_is_that_of_rfc_8032() {
        // RFC 8032, 7.1, test 2: one byte 0x72.
        let seed =
            Digest::from_hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
                .unwrap();
        let key = Ed25519Key::from_seed(*seed.as_bytes()).unwrap();
        let signature: String =
            key.sign(&[0x72]).unwrap().iter().map(|b| format!("{b:02x}")).collect();
        assert!(
            signature
                .starts_with("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da")
        );
    }

    #[test]
    fn keys_survive_their_pem_and_nothing_else_is_taken() {
        let key = Ed25519Key::generate(&SeededEntropy::new(7)).unwrap();
        let again = Ed25519Key::from_pkcs8_pem(&key.to_pkcs8_pem()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(PublicKey::from_spki_pem(&spki_pem(&key.public_key())), Ok(key.public_key()));
        assert!(PublicKey::from_spki_pem("").is_err());
        assert!(PublicKey::from_spki_pem(&key.to_pkcs8_pem()).is_err());
        let signature = key.sign(b"m").unwrap();
        assert_eq!(key.public_key().verify(b"m", &signature), Ok(()));
        assert_eq!(key.public_key().verify(b"n", &signature), Err(SignatureError::Verify));
        assert_eq!(key.public_key().verify(b"m", &signature[..63]), Err(SignatureError::Verify));
    }
}
