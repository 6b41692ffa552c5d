//! Chance as an argument.

use ring::rand::SecureRandom as _;

/// Where random bytes come from.
pub trait Entropy: Send + Sync + std::fmt::Debug {
    /// Fills `bytes` with chance.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] when the source fails; nothing may then be issued.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError>;
}

/// The source of chance failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's source of randomness failed")]
pub struct EntropyError;

/// `N` random bytes.
///
/// # Errors
///
/// [`EntropyError`] when the source fails.
pub fn random_bytes<const N: usize>(entropy: &dyn Entropy) -> Result<[u8; N], EntropyError> {
    let mut bytes = [0u8; N];
    entropy.fill(&mut bytes)?;
    Ok(bytes)
}

/// The operating system's generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        ring::rand::SystemRandom::new().fill(bytes).map_err(|_| EntropyError)
    }
}

/// The same bytes for the same seed, for tests: SHA-256 in counter mode.
#[cfg(any(test, feature = "test-support"))]
#[derive(Debug)]
pub struct SeededEntropy {
    seed: u64,
    counter: std::sync::atomic::AtomicU64,
}

#[cfg(any(test, feature = "test-support"))]
impl SeededEntropy {
    /// A generator that starts at `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, counter: std::sync::atomic::AtomicU64::new(0) }
    }
}

#[cfg(any(test, feature = "test-support"))]
impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        for chunk in bytes.chunks_mut(32) {
            let block = self.counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let digest = super::sha256(&super::length_prefixed(&[
                &self.seed.to_be_bytes(),
                &block.to_be_bytes(),
            ]));
            for (to, from) in chunk.iter_mut().zip(digest.as_bytes()) {
                *to = *from;
            }
        }
        Ok(())
    }
}
