//! Hybrid public-key encryption, RFC 9180: whoever knows a public key seals, and only its holder opens.
//!
//! One suite: X25519 with HKDF-SHA256, HKDF-SHA256, ChaCha20-Poly1305, which takes the same time for every key on
//! small processors that have no AES of their own. One message a key exchange, in the mode without a sender's key:
//! who took a capture is said by its sensor's signature. What is sealed is the encapsulated key (32 bytes),
//! followed by the ciphertext with its tag (16 bytes). It is bound to `info`; there are no additional data, since
//! not every implementation of one-message HPKE takes some.

use std::convert::Infallible;
use std::fmt;

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, single_shot_open,
    single_shot_seal_with_rng,
};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::{AeadError, Entropy, EntropyError, random_bytes};

/// The suite's name, by the registry of RFC 9180: what a signature over a public key says that it is for.
pub const HYBRID_SUITE: &str = "DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305";

/// What a sealed text is longer than its plain text, in bytes.
pub const HYBRID_OVERHEAD_BYTES: usize = ENCAPSULATED_BYTES + 16;

type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;
type PublicKey = <X25519HkdfSha256 as Kem>::PublicKey;
type Encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey;

/// A private key that opens what was sealed to its public half.
#[derive(Clone, ZeroizeOnDrop)]
pub struct OpeningKey([u8; 32]);

impl OpeningKey {
    /// A fresh key.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] when the source of chance fails.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        random_bytes(entropy).map(Self)
    }

    /// The key made of these bytes: an X25519 private key as RFC 7748 has it.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's bytes, for sealing at rest only.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The public half, 32 bytes.
    ///
    /// # Errors
    ///
    /// [`AeadError::Open`] for a key that the suite does not take; none of 32 bytes is known.
    pub fn public_key(&self) -> Result<[u8; 32], AeadError> {
        Ok(X25519HkdfSha256::sk_to_pk(&self.private()?).to_bytes().into())
    }

    /// Opens what [`seal_to`] made, or another implementation of the suite.
    ///
    /// # Errors
    ///
    /// [`AeadError::Open`] for another key, another `info`, or altered bytes.
    pub fn open(&self, info: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, AeadError> {
        let (encapsulated, text) =
            sealed.split_at_checked(ENCAPSULATED_BYTES).ok_or(AeadError::Open)?;
        let encapsulated = Encapsulated::from_bytes(encapsulated).map_err(|_| AeadError::Open)?;
        let plain = single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &self.private()?,
            &encapsulated,
            info,
            text,
            &[],
        );
        plain.map(Zeroizing::new).map_err(|_| AeadError::Open)
    }

    fn private(&self) -> Result<PrivateKey, AeadError> {
        PrivateKey::from_bytes(&self.0).map_err(|_| AeadError::Open)
    }
}

impl fmt::Debug for OpeningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpeningKey(…)")
    }
}

/// Seals `plain` to the holder of a public key's private half; it opens only with the same `info`.
///
/// # Errors
///
/// [`AeadError::Seal`] for 32 bytes that are no public key, or when the source of chance fails.
pub fn seal_to(
    public_key: &[u8; 32],
    info: &[u8],
    plain: &[u8],
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, AeadError> {
    let public_key = PublicKey::from_bytes(public_key).map_err(|_| AeadError::Seal)?;
    let mut chance = Chance { entropy, has_failed: false };
    let sealed = single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &public_key,
        info,
        plain,
        &[],
        &mut chance,
    );
    let (encapsulated, text) = sealed.map_err(|_| AeadError::Seal)?;
    if chance.has_failed {
        return Err(AeadError::Seal);
    }
    Ok([encapsulated.to_bytes().as_slice(), &text].concat())
}

/// Our source of chance, as the crate takes one: that cannot fail, so whether it did is asked afterwards.
struct Chance<'a> {
    entropy: &'a dyn Entropy,
    has_failed: bool,
}

impl TryRng for Chance<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.has_failed |= self.entropy.fill(bytes).is_err();
        Ok(())
    }
}

impl TryCryptoRng for Chance<'_> {}

/// An X25519 public key.
const ENCAPSULATED_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::super::SeededEntropy;
    use super::*;

    fn unhex(text: &str) -> Vec<u8> {
        let pairs = text.as_bytes().chunks(2);
        let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        pairs.map(byte).collect()
    }

    fn array(text: &str) -> [u8; 32] {
        unhex(text).try_into().unwrap()
    }

    /// RFC 9180, appendix A.2.1 (base mode, X25519, HKDF-SHA256, ChaCha20-Poly1305): the key exchange and the first
    /// message. Its messages have additional data, which ours have not.
    #[test]
    fn the_suite_is_that_of_rfc_9180() {
        let key = OpeningKey::new(array(
            "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb",
        ));
        let public = "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a";
        assert_eq!(key.public_key().unwrap(), array(public));
        let encapsulated = "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a";
        let text = "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db\
                    21993c62ce81883d2dd1b51a28";
        let info = unhex("4f6465206f6e2061204772656369616e2055726e");
        let opened = single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &key.private().unwrap(),
            &Encapsulated::from_bytes(&unhex(encapsulated)).unwrap(),
            &info,
            &unhex(text),
            b"Count-0",
        );
        assert_eq!(opened.unwrap(), b"Beauty is truth, truth beauty");
        // The same bytes are none of ours, which have no additional data.
        let sealed = [unhex(encapsulated), unhex(text)].concat();
        assert_eq!(key.open(&info, &sealed), Err(AeadError::Open));
    }

    /// RFC 9180, A.2.1: the sender's side, from the chance that the appendix prints as `ikmE`.
    #[test]
    fn the_same_chance_gives_the_encapsulated_key_of_rfc_9180() {
        #[derive(Debug)]
        struct Printed;
        impl Entropy for Printed {
            fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
                bytes.copy_from_slice(&unhex(
                    "909a9b35d3dc4713a5e72a4da274b55d3d3821a37e5d099e74a647db583a904b",
                ));
                Ok(())
            }
        }
        let public = array("4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a");
        let sealed = seal_to(&public, b"Ode on a Grecian Urn", b"x", &Printed).unwrap();
        let encapsulated = "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a";
        assert_eq!(sealed[..32], unhex(encapsulated));
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_and_info_only_and_no_bit_may_change() {
        let chance = SeededEntropy::new(1);
        let key = OpeningKey::generate(&chance).unwrap();
        let public = key.public_key().unwrap();
        let sealed = seal_to(&public, b"this call", b"secret", &chance).unwrap();
        assert_eq!(sealed.len(), 6 + HYBRID_OVERHEAD_BYTES);
        assert_eq!(key.open(b"this call", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(key.open(b"another call", &sealed), Err(AeadError::Open));
        let other = OpeningKey::generate(&chance).unwrap();
        assert_eq!(other.open(b"this call", &sealed), Err(AeadError::Open));
        for place in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[place] ^= 1;
            assert_eq!(key.open(b"this call", &altered), Err(AeadError::Open), "{place}");
            assert_eq!(key.open(b"this call", &sealed[..place]), Err(AeadError::Open));
        }
        assert_ne!(sealed, seal_to(&public, b"this call", b"secret", &chance).unwrap());
        assert!(!format!("{key:?}").contains(char::is_numeric));
    }

    #[test]
    fn nothing_is_sealed_to_a_key_of_small_order_or_without_chance() {
        #[derive(Debug)]
        struct Broken;
        impl Entropy for Broken {
            fn fill(&self, _: &mut [u8]) -> Result<(), EntropyError> {
                Err(EntropyError)
            }
        }
        let chance = SeededEntropy::new(2);
        assert_eq!(seal_to(&[0; 32], b"", b"x", &chance), Err(AeadError::Seal));
        let key = OpeningKey::generate(&chance).unwrap();
        let public = key.public_key().unwrap();
        assert_eq!(seal_to(&public, b"", b"x", &Broken), Err(AeadError::Seal));
        assert_eq!(key.open(b"", &[0; 64]), Err(AeadError::Open));
    }
}
