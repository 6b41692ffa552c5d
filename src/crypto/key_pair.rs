//! Key pairs in this process's memory, and their PKCS#8 files.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use zeroize::Zeroizing;

use super::signature::pem_lines;
use super::{Entropy, EntropyError, KeyError, PublicKey, SignatureError, Signer, random_bytes};

/// Reads a private key of either kind: PKCS#8 in PEM, as this module and `openssl genpkey` write it.
///
/// # Errors
///
/// [`KeyError`] for anything else.
pub fn read_private_key(pem: &str) -> Result<Arc<dyn Signer>, KeyError> {
    match Ed25519Key::from_pkcs8_pem(pem) {
        Ok(key) => Ok(Arc::new(key)),
        Err(not_ed25519) => {
            let key = P256Key::from_pkcs8_pem(pem).map_err(|_| not_ed25519)?;
            Ok(Arc::new(key))
        }
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
        let der = Zeroizing::new([ED25519_PKCS8.as_slice(), self.seed.as_slice()].concat());
        private_pem(&der)
    }

    /// Reads what [`Ed25519Key::to_pkcs8_pem`] writes, and the later form that holds the public key too
    /// (RFC 5958).
    ///
    /// # Errors
    ///
    /// [`KeyError::NotEd25519`] for anything else.
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, KeyError> {
        let der = private_der(pem).ok_or(KeyError::NotEd25519)?;
        if let Some(seed) = der.strip_prefix(&ED25519_PKCS8) {
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
        PublicKey::Ed25519(bytes)
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

/// A P-256 key pair in this process's memory.
///
/// Its chance is the system's: ring takes no other for ECDSA. So a signature of the same message is
/// another one each time.
pub struct P256Key {
    pair: EcdsaKeyPair,
    public_key: PublicKey,
    pkcs8: Zeroizing<Vec<u8>>,
    chance: SystemRandom,
}

impl P256Key {
    /// A fresh key pair.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] when the system's source of chance fails.
    pub fn generate() -> Result<Self, EntropyError> {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .map_err(|_| EntropyError)?;
        Self::from_pkcs8(Zeroizing::new(pkcs8.as_ref().to_vec())).map_err(|_| EntropyError)
    }

    /// The private key as PKCS#8 PEM, as `openssl pkey` reads it.
    #[must_use]
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        private_pem(&self.pkcs8)
    }

    /// Reads a private key with its public half.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotP256`] for anything else.
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, KeyError> {
        Self::from_pkcs8(private_der(pem).ok_or(KeyError::NotP256)?)
    }

    fn from_pkcs8(pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        let chance = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &chance)
            .map_err(|_| KeyError::NotP256)?;
        let public_key =
            PublicKey::from_point(pair.public_key().as_ref()).map_err(|_| KeyError::NotP256)?;
        Ok(Self { pair, public_key, pkcs8, chance })
    }
}

impl Signer for P256Key {
    fn public_key(&self) -> PublicKey {
        self.public_key
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        let signature = self.pair.sign(&self.chance, message).map_err(|_| SignatureError::Sign)?;
        Ok(signature.as_ref().to_vec())
    }
}

impl fmt::Debug for P256Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P256Key({:?})", self.public_key)
    }
}

fn private_pem(der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(der));
    let lines = Zeroizing::new(pem_lines(&body));
    Zeroizing::new(format!("{PKCS8_BEGIN}\n{}{PKCS8_END}\n", lines.as_str()))
}

fn private_der(pem: &str) -> Option<Zeroizing<Vec<u8>>> {
    let body = pem.trim().strip_prefix(PKCS8_BEGIN)?.strip_suffix(PKCS8_END)?;
    let body = Zeroizing::new(body.split_whitespace().collect::<String>());
    STANDARD.decode(body.as_str()).ok().map(Zeroizing::new)
}

/// An Ed25519 private key as PKCS#8 v1, up to the seed.
const ED25519_PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// Where the seed begins in the later form: behind the lengths, the version and the algorithm.
const PKCS8_V2_SEED_AT: usize = 16;
const PKCS8_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PKCS8_END: &str = "-----END PRIVATE KEY-----";

#[cfg(test)]
mod tests {
    use ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING;

    use super::super::{Digest, SeededEntropy, spki_pem};
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
    fn keys_of_both_kinds_survive_their_pem_and_nothing_else_is_taken() {
        let ed25519 = Ed25519Key::generate(&SeededEntropy::new(7)).unwrap();
        let p256 = P256Key::generate().unwrap();
        let pems = [ed25519.to_pkcs8_pem(), p256.to_pkcs8_pem()];
        for (key, pem) in [&ed25519 as &dyn Signer, &p256].into_iter().zip(&pems) {
            let again = read_private_key(pem).unwrap();
            assert_eq!(again.public_key(), key.public_key());
            assert!(PublicKey::from_spki_pem(pem).is_err());
            assert!(read_private_key(&spki_pem(&key.public_key())).is_err());
            assert!(read_private_key(&pem.replace('M', "N")).is_err());
        }
        assert!(Ed25519Key::from_pkcs8_pem(&pems[1]).is_err());
        assert!(P256Key::from_pkcs8_pem(&pems[0]).is_err());
        assert!(read_private_key("").is_err());
    }

    #[test]
    fn a_signature_of_either_kind_is_64_bytes_and_for_its_own_message_only() {
        let ed25519 = Ed25519Key::generate(&SeededEntropy::new(7)).unwrap();
        let p256 = P256Key::generate().unwrap();
        for key in [&ed25519 as &dyn Signer, &p256] {
            let (public, signature) = (key.public_key(), key.sign(b"m").unwrap());
            assert_eq!(signature.len(), 64);
            assert_eq!(public.verify(b"m", &signature), Ok(()));
            assert_eq!(public.verify_either_form(b"m", &signature), Ok(()));
            for (message, signature) in [(b"n", &signature[..]), (b"m", &signature[..63])] {
                assert_eq!(public.verify(message, signature), Err(SignatureError::Verify));
                let either = public.verify_either_form(message, signature);
                assert_eq!(either, Err(SignatureError::Verify));
            }
        }
    }

    #[test]
    fn only_a_device_may_sign_in_der() {
        let key = P256Key::generate().unwrap();
        let chance = SystemRandom::new();
        let form = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(form, &key.pkcs8, &chance).unwrap();
        let signature = pair.sign(&chance, b"m").unwrap();
        let public = key.public_key();
        assert_eq!(public.verify_either_form(b"m", signature.as_ref()), Ok(()));
        assert_eq!(public.verify(b"m", signature.as_ref()), Err(SignatureError::Verify));
        let altered = public.verify_either_form(b"n", signature.as_ref());
        assert_eq!(altered, Err(SignatureError::Verify));
    }
}
