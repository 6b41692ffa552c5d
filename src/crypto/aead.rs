//! AES-256-GCM with random nonces.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::{Entropy, EntropyError, random_bytes};

/// A key that seals: the output is nonce ‖ ciphertext ‖ tag, bound to additional data.
#[derive(Clone, ZeroizeOnDrop)]
pub struct SealingKey([u8; 32]);

impl SealingKey {
    /// What a sealed text is longer than its plain text, in bytes.
    pub const OVERHEAD_BYTES: usize = NONCE_LEN + 16;

    /// The key made of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A fresh key.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] when the source of chance fails.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        random_bytes(entropy).map(Self)
    }

    /// The key's bytes, for wrapping under another key only.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Seals `plain`; it opens only with the same `aad`.
    ///
    /// # Errors
    ///
    /// [`AeadError`] when the source of chance fails or the text is too long for the cipher.
    pub fn seal(
        &self,
        aad: &[u8],
        plain: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, AeadError> {
        let nonce: [u8; NONCE_LEN] = random_bytes(entropy).map_err(|_| AeadError::Seal)?;
        let mut text = plain.to_vec();
        self.cipher()?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(aad),
                &mut text,
            )
            .map_err(|_| AeadError::Seal)?;
        Ok([nonce.as_slice(), &text].concat())
    }

    /// Opens what [`SealingKey::seal`] made.
    ///
    /// # Errors
    ///
    /// [`AeadError::Open`] for another key, another `aad`, or altered bytes.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, AeadError> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(AeadError::Open)?;
        let mut plain = Zeroizing::new(text.to_vec());
        let length = self
            .cipher()?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), &mut plain)
            .map_err(|_| AeadError::Open)?
            .len();
        plain.truncate(length);
        Ok(plain)
    }

    fn cipher(&self) -> Result<LessSafeKey, AeadError> {
        UnboundKey::new(&AES_256_GCM, &self.0).map(LessSafeKey::new).map_err(|_| AeadError::Seal)
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey(…)")
    }
}

/// Sealing or opening failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AeadError {
    /// The text could not be sealed.
    #[error("the text could not be sealed")]
    Seal,
    /// Another key, another place, or altered bytes.
    #[error("the sealed text does not open: another key, another place, or altered bytes")]
    Open,
}

#[cfg(test)]
mod tests {
    use super::super::SeededEntropy;
    use super::*;

    #[test]
    fn a_sealed_text_opens_in_its_place_only_and_no_bit_may_change() {
        let chance = SeededEntropy::new(1);
        let key = SealingKey::generate(&chance).unwrap();
        let sealed = key.seal(b"here", b"secret", &chance).unwrap();
        assert_eq!(sealed.len(), 6 + SealingKey::OVERHEAD_BYTES);
        assert_eq!(key.open(b"here", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(key.open(b"there", &sealed), Err(AeadError::Open));
        assert!(SealingKey::generate(&chance).unwrap().open(b"here", &sealed).is_err());
        for place in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[place] ^= 1;
            assert_eq!(key.open(b"here", &altered), Err(AeadError::Open));
            assert_eq!(key.open(b"here", &sealed[..place]), Err(AeadError::Open));
        }
        assert_ne!(sealed, key.seal(b"here", b"secret", &chance).unwrap(), "nonces differ");
    }
}
