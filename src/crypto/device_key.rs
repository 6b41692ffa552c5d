//! Public keys of customers' devices: Ed25519 (RFC 8032), or ECDSA over P-256 with SHA-256 (ES256).

use std::fmt;

use ring::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

use super::signature::{KeyError, PublicKey, SPKI_PREFIX, SignatureError};
use super::{Digest, sha256};

/// A device's public key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum DeviceKey {
    /// Ed25519.
    Ed25519(PublicKey),
    /// P-256: the uncompressed point.
    P256([u8; 65]),
}

impl DeviceKey {
    /// Reads a SubjectPublicKeyInfo, DER. Whether a P-256 point lies on the curve is found out when a
    /// signature is checked: ask for one before the key is trusted.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotDeviceKey`] for another kind of key, or one written otherwise.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, KeyError> {
        if let Some(key) = der.strip_prefix(&SPKI_PREFIX) {
            let key: [u8; 32] = key.try_into().map_err(|_| KeyError::NotDeviceKey)?;
            return Ok(Self::Ed25519(PublicKey::new(key)));
        }
        let point = der.strip_prefix(&P256_PREFIX).ok_or(KeyError::NotDeviceKey)?;
        let point: [u8; 65] = point.try_into().map_err(|_| KeyError::NotDeviceKey)?;
        if point.first() == Some(&UNCOMPRESSED) {
            Ok(Self::P256(point))
        } else {
            Err(KeyError::NotDeviceKey)
        }
    }

    /// The SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn to_spki_der(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => super::ed25519_spki_der(key),
            Self::P256(point) => [P256_PREFIX.as_slice(), point.as_slice()].concat(),
        }
    }

    /// SHA-256 of the SubjectPublicKeyInfo: the key's name.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        sha256(&self.to_spki_der())
    }

    /// Checks a signature over `message`. An ECDSA signature may be 64 bytes (r and s) or ASN.1 DER:
    /// devices make either.
    ///
    /// # Errors
    ///
    /// [`SignatureError::Verify`] when it is not this key's signature of this message.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        match self {
            Self::Ed25519(key) => key.verify(message, signature),
            Self::P256(point) => {
                let fixed = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
                let der = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
                fixed
                    .verify(message, signature)
                    .or_else(|_| der.verify(message, signature))
                    .map_err(|_| SignatureError::Verify)
            }
        }
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceKey({})", self.fingerprint().hex())
    }
}

/// `id-ecPublicKey` with `prime256v1` (RFC 5480), up to the point.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const UNCOMPRESSED: u8 = 0x04;

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    };

    use super::super::{Ed25519Key, SeededEntropy, Signer as _};
    use super::*;

    #[test]
    fn a_p_256_signature_is_taken_in_either_form_and_for_its_own_message_only() {
        let chance = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &chance).unwrap();
        for form in [&ECDSA_P256_SHA256_FIXED_SIGNING, &ECDSA_P256_SHA256_ASN1_SIGNING] {
            let pair = EcdsaKeyPair::from_pkcs8(form, der.as_ref(), &chance).unwrap();
            let spki = [P256_PREFIX.as_slice(), pair.public_key().as_ref()].concat();
            let key = DeviceKey::from_spki_der(&spki).unwrap();
            assert_eq!(key.to_spki_der(), spki);
            let signature = pair.sign(&chance, b"m").unwrap();
            assert_eq!(key.verify(b"m", signature.as_ref()), Ok(()));
            assert_eq!(key.verify(b"n", signature.as_ref()), Err(SignatureError::Verify));
            assert_eq!(key.verify(b"m", &signature.as_ref()[1..]), Err(SignatureError::Verify));
            assert_eq!(key.verify(b"m", &[]), Err(SignatureError::Verify));
        }
    }

    #[test]
    fn only_the_two_kinds_of_key_are_taken_and_only_written_in_one_way() {
        let signer = Ed25519Key::generate(&SeededEntropy::new(7)).unwrap();
        let spki = super::super::ed25519_spki_der(&signer.public_key());
        let key = DeviceKey::from_spki_der(&spki).unwrap();
        assert_eq!(key.fingerprint(), signer.public_key().fingerprint());
        assert_eq!(key.verify(b"m", &signer.sign(b"m").unwrap()), Ok(()));
        let compressed = [P256_PREFIX.as_slice(), &[2], &[7; 64]].concat();
        let short = [P256_PREFIX.as_slice(), &[4], &[7; 63]].concat();
        for wrong in [&[][..], &spki[1..], &spki[..43], &compressed, &short, &[4; 65]] {
            assert_eq!(DeviceKey::from_spki_der(wrong), Err(KeyError::NotDeviceKey));
        }
        // A point off the curve is read, and signs nothing.
        let off = [P256_PREFIX.as_slice(), &[4], &[7; 64]].concat();
        let off = DeviceKey::from_spki_der(&off).unwrap();
        assert_eq!(off.verify(b"m", &[1; 64]), Err(SignatureError::Verify));
    }
}
