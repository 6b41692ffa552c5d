//! Public keys, their SubjectPublicKeyInfo, and signatures: Ed25519 (RFC 8032, RFC 8410), and ECDSA over
//! P-256 with SHA-256 (FIPS 186-5, RFC 5480).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey,
};

use super::{Digest, TokenError, sha256};

/// Whatever holds a private key and signs with it.
///
/// The signature of an Ed25519 key is that of RFC 8032; of a P-256 key it is the 64 bytes of r and s
/// (RFC 7518, section 3.4), never DER.
pub trait Signer: Send + Sync + fmt::Debug {
    /// The public half.
    fn public_key(&self) -> PublicKey;

    /// The signature of `message`.
    ///
    /// # Errors
    ///
    /// [`SignatureError`] when the key's holder cannot sign now.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError>;

    /// Whether signing asks another device, and may keep its thread waiting.
    fn is_remote(&self) -> bool {
        false
    }
}

/// The kinds of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyKind {
    /// Ed25519.
    Ed25519,
    /// ECDSA over P-256, with SHA-256.
    P256,
}

/// A public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum PublicKey {
    /// Ed25519.
    Ed25519([u8; 32]),
    /// P-256: the uncompressed point.
    P256([u8; 65]),
}

impl PublicKey {
    /// The Ed25519 key made of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self::Ed25519(bytes)
    }

    /// Which kind it is.
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        match self {
            Self::Ed25519(_) => KeyKind::Ed25519,
            Self::P256(_) => KeyKind::P256,
        }
    }

    /// The key's bytes: 32 of an Ed25519 key, the 65 of the uncompressed point of a P-256 key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Ed25519(bytes) => bytes,
            Self::P256(point) => point,
        }
    }

    /// The SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn to_spki_der(&self) -> Vec<u8> {
        let prefix = match self {
            Self::Ed25519(_) => ED25519_PREFIX.as_slice(),
            Self::P256(_) => P256_PREFIX.as_slice(),
        };
        [prefix, self.as_bytes()].concat()
    }

    /// SHA-256 of the SubjectPublicKeyInfo: the key's fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        sha256(&self.to_spki_der())
    }

    /// Checks the 64 bytes of `signature` over `message`.
    ///
    /// # Errors
    ///
    /// [`SignatureError::Verify`] when it is not this key's signature of this message.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        match self {
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
            Self::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
        }
        .map_err(|_| SignatureError::Verify)
    }

    /// As [`PublicKey::verify`], but an ECDSA signature may also be ASN.1 DER: customers' devices make
    /// either.
    ///
    /// # Errors
    ///
    /// [`SignatureError::Verify`] when it is not this key's signature of this message.
    pub fn verify_either_form(
        &self,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureError> {
        match (self.verify(message, signature), self) {
            (Err(_), Self::P256(point)) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
                .verify(message, signature)
                .map_err(|_| SignatureError::Verify),
            (verdict, _) => verdict,
        }
    }

    /// Reads a SubjectPublicKeyInfo, DER. Whether a P-256 point lies on the curve is found out when a
    /// signature is checked: ask for one before the key is trusted.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotPublicKey`] for another kind of key, or one written otherwise.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, KeyError> {
        if let Some(key) = der.strip_prefix(&ED25519_PREFIX) {
            return key.try_into().map(Self::Ed25519).map_err(|_| KeyError::NotPublicKey);
        }
        Self::from_point(der.strip_prefix(&P256_PREFIX).ok_or(KeyError::NotPublicKey)?)
    }

    /// The P-256 key of an uncompressed point.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotPublicKey`] for anything but 65 bytes that begin with 4.
    pub fn from_point(point: &[u8]) -> Result<Self, KeyError> {
        let point: [u8; 65] = point.try_into().map_err(|_| KeyError::NotPublicKey)?;
        if point.first() == Some(&UNCOMPRESSED) {
            Ok(Self::P256(point))
        } else {
            Err(KeyError::NotPublicKey)
        }
    }

    /// Reads `-----BEGIN PUBLIC KEY-----`.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotPublicKey`] for anything but the PEM of one key of the two kinds.
    pub fn from_spki_pem(pem: &str) -> Result<Self, KeyError> {
        let body: String = pem
            .trim()
            .strip_prefix("-----BEGIN PUBLIC KEY-----")
            .and_then(|rest| rest.strip_suffix("-----END PUBLIC KEY-----"))
            .ok_or(KeyError::NotPublicKey)?
            .split_whitespace()
            .collect();
        Self::from_spki_der(&STANDARD.decode(body).map_err(|_| KeyError::NotPublicKey)?)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint().hex())
    }
}

/// The SubjectPublicKeyInfo as PEM, as `openssl pkeyutl -pubin` reads it: lines of 64 characters.
#[must_use]
pub fn spki_pem(key: &PublicKey) -> String {
    let body = pem_lines(&STANDARD.encode(key.to_spki_der()));
    format!("-----BEGIN PUBLIC KEY-----\n{body}-----END PUBLIC KEY-----\n")
}

/// Base64 in lines of 64 characters, each with its newline (RFC 7468).
pub(super) fn pem_lines(base64: &str) -> String {
    let mut lines = String::with_capacity(base64.len() + base64.len() / 64 + 1);
    for (place, letter) in base64.chars().enumerate() {
        if place > 0 && place % 64 == 0 {
            lines.push('\n');
        }
        lines.push(letter);
    }
    lines.push('\n');
    lines
}

/// A key that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not an Ed25519 key in the form expected.
    #[error("not an Ed25519 key in PEM")]
    NotEd25519,
    /// Not a P-256 private key in the form expected.
    #[error("not a P-256 private key with its public half, as PKCS#8 in PEM")]
    NotP256,
    /// Neither an Ed25519 nor an uncompressed P-256 SubjectPublicKeyInfo.
    #[error("not an Ed25519 or uncompressed P-256 SubjectPublicKeyInfo")]
    NotPublicKey,
}

/// A signature failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The key's holder could not sign.
    #[error("the key's holder could not sign")]
    Sign,
    /// The token that holds the key could not sign.
    #[error("the token could not sign")]
    Token(#[from] TokenError),
    /// The format knows no keys of this kind.
    #[error("a key of this kind cannot sign here")]
    Kind,
    /// Not this key's signature of this message.
    #[error("the signature is not this key's over this message")]
    Verify,
}

/// An Ed25519 SubjectPublicKeyInfo up to the key (RFC 8410, section 4).
const ED25519_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// `id-ecPublicKey` with `prime256v1` (RFC 5480), up to the point.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const UNCOMPRESSED: u8 = 0x04;

#[cfg(test)]
mod tests {
    use super::super::{Ed25519Key, P256Key, SeededEntropy};
    use super::*;

    #[test]
    fn a_public_key_of_either_kind_survives_its_der_and_pem() {
        let ed25519 = Ed25519Key::generate(&SeededEntropy::new(7)).unwrap().public_key();
        let p256 = P256Key::generate().unwrap().public_key();
        for key in [ed25519, p256] {
            assert_eq!(PublicKey::from_spki_der(&key.to_spki_der()), Ok(key));
            assert_eq!(PublicKey::from_spki_pem(&spki_pem(&key)), Ok(key));
            assert!(spki_pem(&key).lines().all(|line| line.len() <= 64));
        }
        assert_eq!((ed25519.kind(), p256.kind()), (KeyKind::Ed25519, KeyKind::P256));
        assert!(PublicKey::from_spki_pem("").is_err());
    }

    #[test]
    fn only_the_two_kinds_of_key_are_taken_and_only_written_in_one_way() {
        let spki = Ed25519Key::generate(&SeededEntropy::new(7)).unwrap().public_key().to_spki_der();
        let compressed = [P256_PREFIX.as_slice(), &[2], &[7; 64]].concat();
        let short = [P256_PREFIX.as_slice(), &[4], &[7; 63]].concat();
        for wrong in [&[][..], &spki[1..], &spki[..43], &compressed, &short, &[4; 65]] {
            assert_eq!(PublicKey::from_spki_der(wrong), Err(KeyError::NotPublicKey));
        }
        // A point off the curve is read, and signs nothing.
        let off = [P256_PREFIX.as_slice(), &[4], &[7; 64]].concat();
        let off = PublicKey::from_spki_der(&off).unwrap();
        assert_eq!(off.verify_either_form(b"m", &[1; 64]), Err(SignatureError::Verify));
    }
}
