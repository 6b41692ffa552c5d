//! Digests, HMAC, AEAD, HPKE, signatures, randomness: the only user of ring, of hpke and of PKCS#11.

mod aead;
#[cfg(feature = "gateway")]
mod certificate;
mod digest;
mod entropy;
#[cfg(feature = "gateway")]
mod hybrid;
mod key_pair;
#[cfg(feature = "gateway")]
mod locked;
#[cfg(feature = "gateway")]
mod pkcs11;
mod signature;

pub use aead::{AeadError, SealingKey};
#[cfg(feature = "gateway")]
pub use certificate::{CertificateError, StampAuthorities, StampDigest, StampKey, StampSignature};
pub use digest::{Digest, InvalidDigest, MacKey, Sha256, sha256, sha384};
#[cfg(any(test, feature = "test-support"))]
pub use entropy::SeededEntropy;
pub use entropy::{Entropy, EntropyError, SystemEntropy, random_bytes};
#[cfg(feature = "gateway")]
pub use hybrid::{HYBRID_OVERHEAD_BYTES, HYBRID_SUITE, OpeningKey, seal_to};
pub use key_pair::{Ed25519Key, P256Key, read_private_key};
#[cfg(feature = "gateway")]
pub use locked::Locked;
#[cfg(feature = "gateway")]
pub use pkcs11::{Token, TokenError, TokenReply};
pub use signature::{KeyError, KeyKind, PublicKey, SignatureError, Signer, spki_pem};

/// Length-prefixed concatenation: each field behind its length as eight big-endian bytes, so that no
/// two lists of fields give the same bytes.
#[must_use]
pub fn length_prefixed(fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(fields.iter().map(|field| field.len() + 8).sum());
    for field in fields {
        bytes.extend_from_slice(&u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend_from_slice(field);
    }
    bytes
}

/// Whether two byte strings are equal, in a time that depends on their lengths only.
#[must_use]
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0u8, |diff, (x, y)| diff | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_a_byte_between_fields_changes_the_bytes() {
        assert_ne!(length_prefixed(&[b"ab", b"c"]), length_prefixed(&[b"a", b"bc"]));
        assert_ne!(length_prefixed(&[b"", b"a"]), length_prefixed(&[b"a", b""]));
        assert_ne!(length_prefixed(&[]), length_prefixed(&[b""]));
    }
}
