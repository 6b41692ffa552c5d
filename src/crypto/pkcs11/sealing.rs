//! Secret keys of a token, which seal and open what is kept outside it: AES-256-GCM.

use std::ffi::c_ulong;

use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use zeroize::Zeroizing;

use super::super::{Entropy, random_bytes};
use super::{Token, TokenError};

impl Token {
    /// Makes an AES-256 key in the token that never leaves it; it seals and opens.
    ///
    /// # Errors
    ///
    /// [`TokenError::KeyTwice`] when the token has one of this label; any other when it cannot make it.
    pub fn generate_sealing_key(
        &self,
        label: &str,
        entropy: &dyn Entropy,
    ) -> Result<(), TokenError> {
        let id: [u8; 16] = random_bytes(entropy).map_err(|_| TokenError::Chance)?;
        let template = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::KeyType(KeyType::AES),
            Attribute::ValueLen(KEY_BYTES.into()),
            Attribute::Label(label.as_bytes().to_vec()),
            Attribute::Id(id.to_vec()),
            Attribute::Encrypt(true),
            Attribute::Decrypt(true),
        ];
        self.in_session(|session| {
            if !self.objects(session, ObjectClass::SECRET_KEY, label, None)?.is_empty() {
                return Err(self.twice(label));
            }
            let made = session.generate_key(&Mechanism::AesKeyGen, &template);
            made.map(drop).map_err(|cause| self.fault(cause))
        })
    }

    /// Seals under the key of this label: nonce ‖ ciphertext ‖ tag, bound to `aad`.
    ///
    /// # Errors
    ///
    /// [`TokenError`] when the token does not do it, or holds no such key.
    pub fn seal(
        &self,
        label: &str,
        aad: &[u8],
        plain: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, TokenError> {
        self.in_session(|session| {
            let nonce: Result<[u8; NONCE_BYTES], _> = random_bytes(entropy);
            let mut nonce = nonce.map_err(|_| TokenError::Chance)?;
            let key = self.sealing_key(session, label)?;
            let text = {
                let params = GcmParams::new(&mut nonce, aad, TAG_BITS.into());
                let mechanism = Mechanism::AesGcm(params.map_err(|cause| self.fault(cause))?);
                session.encrypt(&mechanism, key, plain).map_err(|cause| self.fault(cause))?
            };
            // A token that insists on a nonce of its own has written it in place of ours.
            Ok([nonce.as_slice(), &text].concat())
        })
    }

    /// Opens what [`Self::seal`] made.
    ///
    /// # Errors
    ///
    /// [`TokenError`] for another key, another `aad`, altered bytes, or a token that does not answer.
    pub fn open_sealed(
        &self,
        label: &str,
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        let altered = || TokenError::Altered { token: self.label.clone(), key: label.to_owned() };
        let (nonce, text) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or_else(altered)?;
        self.in_session(|session| {
            let mut nonce = *nonce;
            let key = self.sealing_key(session, label)?;
            let params = GcmParams::new(&mut nonce, aad, TAG_BITS.into());
            let mechanism = Mechanism::AesGcm(params.map_err(|cause| self.fault(cause))?);
            match session.decrypt(&mechanism, key, text) {
                Ok(plain) => Ok(Zeroizing::new(plain)),
                // Tokens differ in what they call a text that does not open. One that answers another
                // question was reached.
                Err(_) if session.get_session_info().is_ok() => Err(altered()),
                Err(cause) => Err(self.fault(cause)),
            }
        })
    }

    /// Destroys the key of this label; nothing that it sealed opens again. False where there was none.
    ///
    /// # Errors
    ///
    /// [`TokenError`] when the token does not do it.
    pub fn destroy_sealing_key(&self, label: &str) -> Result<bool, TokenError> {
        self.in_session(|session| {
            let found = self.objects(session, ObjectClass::SECRET_KEY, label, None)?;
            for object in &found {
                session.destroy_object(*object).map_err(|cause| self.fault(cause))?;
            }
            Ok(!found.is_empty())
        })
    }

    fn sealing_key(&self, session: &Session, label: &str) -> Result<ObjectHandle, TokenError> {
        match self.objects(session, ObjectClass::SECRET_KEY, label, None)?.as_slice() {
            [key] => Ok(*key),
            [] => Err(TokenError::SealingKeyMissing {
                token: self.label.clone(),
                key: label.to_owned(),
            }),
            _ => Err(self.twice(label)),
        }
    }

    fn twice(&self, label: &str) -> TokenError {
        TokenError::KeyTwice { token: self.label.clone(), key: label.to_owned() }
    }

    /// Works in the present session; where the token does not answer in it, in another one.
    fn in_session<T>(
        &self,
        work: impl Fn(&Session) -> Result<T, TokenError>,
    ) -> Result<T, TokenError> {
        let (first, number) = {
            let held = self.session()?;
            let (session, number) = held.open()?;
            (work(session), number)
        };
        let Err(TokenError::Silent { .. }) = first else { return first };
        self.lose(number)?;
        let held = self.session()?;
        let (session, _) = held.open()?;
        work(session)
    }
}

const KEY_BYTES: c_ulong = 32;
const NONCE_BYTES: usize = 12;
const TAG_BITS: c_ulong = 128;
