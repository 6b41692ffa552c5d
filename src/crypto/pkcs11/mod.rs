//! Keys that live in a PKCS#11 token: a hardware security module, or `softhsm2` in its place.
//!
//! A token is found by its label and opened with a PIN. A key is found by its label and, since labels are
//! nobody's promise, by its public half; so another key of that label is never signed with. What the
//! token signs is verified before it is handed on: a token that errs has not signed.
//!
//! A session that is lost is opened again, and where that does not help the module is initialised anew,
//! once for each signature. A PIN that was refused is never tried again: a few wrong ones lock the token.

mod error;
mod sealing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use super::{Entropy, KeyKind, PublicKey, SignatureError, Signer, random_bytes, sha256};
pub use error::{TokenError, TokenReply};

/// A token, logged in to while it can be reached.
pub struct Token {
    label: String,
    module: Arc<Module>,
    pin: Zeroizing<String>,
    session: Mutex<State>,
}

enum State {
    Open {
        session: Session,
        /// Counts sessions: object handles may be another session's.
        number: u64,
    },
    Closed {
        number: u64,
    },
    /// The PIN was refused.
    Refused(TokenError),
}

impl Token {
    /// Loads the module, finds the token and logs in.
    ///
    /// # Errors
    ///
    /// [`TokenError`] says what is missing or wrong, and what to do about it.
    pub fn open(
        module: &Path,
        label: &str,
        pin: Zeroizing<String>,
    ) -> Result<Arc<Self>, TokenError> {
        let token = Self {
            label: label.to_owned(),
            module: Module::load(module)?,
            pin,
            session: Mutex::new(State::Closed { number: 0 }),
        };
        drop(token.session()?);
        Ok(Arc::new(token))
    }

    /// Makes a key pair in the token, whose private half never leaves it.
    ///
    /// # Errors
    ///
    /// [`TokenError`] when the token cannot make such a key.
    pub fn generate(
        self: &Arc<Self>,
        label: &str,
        kind: KeyKind,
        entropy: &dyn Entropy,
    ) -> Result<TokenKey, TokenError> {
        let id: [u8; 16] = random_bytes(entropy).map_err(|_| TokenError::Chance)?;
        let (mechanism, curve) = match kind {
            KeyKind::Ed25519 => (Mechanism::EccEdwardsKeyPairGen, ED25519_NAME.as_slice()),
            KeyKind::P256 => (Mechanism::EccKeyPairGen, P256_OID.as_slice()),
        };
        let named = [
            Attribute::Token(true),
            Attribute::Label(label.as_bytes().to_vec()),
            Attribute::Id(id.to_vec()),
        ];
        let public =
            [&named[..], &[Attribute::Verify(true), Attribute::EcParams(curve.to_vec())]].concat();
        let private = [
            &named[..],
            &[
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Sign(true),
            ],
        ]
        .concat();
        let held = self.session()?;
        let (session, _) = held.open()?;
        let made = session.generate_key_pair(&mechanism, &public, &private);
        let (public, _) = made.map_err(|cause| self.fault(cause))?;
        let public_key = self.public_key(session, public)?.ok_or(TokenError::OtherKind)?;
        drop(held);
        self.key(label, &public_key)
    }

    /// The key of this label whose public half is `public_key`.
    ///
    /// # Errors
    ///
    /// [`TokenError::KeyMissing`] when the token holds none.
    pub fn key(
        self: &Arc<Self>,
        label: &str,
        public_key: &PublicKey,
    ) -> Result<TokenKey, TokenError> {
        let key = TokenKey {
            token: Arc::clone(self),
            label: label.to_owned(),
            public_key: *public_key,
            handle: Mutex::new(None),
        };
        let held = self.session()?;
        let (session, number) = held.open()?;
        let handle = self.find(session, label, public_key)?;
        drop(held);
        *key.handle()? = Some((number, handle));
        Ok(key)
    }

    /// The public halves of the keys of this label.
    ///
    /// # Errors
    ///
    /// [`TokenError`] when the token does not answer.
    pub fn public_keys(&self, label: &str) -> Result<Vec<PublicKey>, TokenError> {
        let held = self.session()?;
        let (session, _) = held.open()?;
        let found = self.objects(session, ObjectClass::PUBLIC_KEY, label, None)?;
        let keys = found.into_iter().map(|object| self.public_key(session, object));
        Ok(keys.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// The private key of this label that belongs to this public one: a token ties halves by their id.
    fn find(
        &self,
        session: &Session,
        label: &str,
        public_key: &PublicKey,
    ) -> Result<ObjectHandle, TokenError> {
        for object in self.objects(session, ObjectClass::PUBLIC_KEY, label, None)? {
            if self.public_key(session, object)? != Some(*public_key) {
                continue;
            }
            let id = session.get_attributes(object, &[AttributeType::Id]);
            let id = id.map_err(|cause| self.fault(cause))?.into_iter().next();
            let private = self.objects(session, ObjectClass::PRIVATE_KEY, label, id)?;
            if let [handle] = private[..] {
                return Ok(handle);
            }
        }
        Err(TokenError::KeyMissing { token: self.label.clone(), key: label.to_owned() })
    }

    fn objects(
        &self,
        session: &Session,
        class: ObjectClass,
        label: &str,
        id: Option<Attribute>,
    ) -> Result<Vec<ObjectHandle>, TokenError> {
        let label = Attribute::Label(label.as_bytes().to_vec());
        let template: Vec<_> = [Attribute::Class(class), label].into_iter().chain(id).collect();
        session.find_objects(&template).map_err(|cause| self.fault(cause))
    }

    /// The public key of an object; none for another kind of key.
    fn public_key(
        &self,
        session: &Session,
        object: ObjectHandle,
    ) -> Result<Option<PublicKey>, TokenError> {
        let read =
            session.get_attributes(object, &[AttributeType::EcParams, AttributeType::EcPoint]);
        let read = read.map_err(|cause| self.fault(cause))?;
        let params = read.iter().find_map(|attribute| match attribute {
            Attribute::EcParams(bytes) => Some(bytes.as_slice()),
            _ => None,
        });
        let point = read.iter().find_map(|attribute| match attribute {
            Attribute::EcPoint(bytes) => Some(bytes.as_slice()),
            _ => None,
        });
        Ok(params.zip(point).and_then(|(params, point)| public_key_of(params, point)))
    }

    /// The session, opened if there is none.
    fn session(&self) -> Result<Held<'_>, TokenError> {
        let mut state = self.session.lock().map_err(|_| TokenError::Broken)?;
        let number = match &*state {
            State::Open { .. } => return Ok(Held { state }),
            State::Refused(refused) => return Err(refused.clone()),
            State::Closed { number } => number + 1,
        };
        match self.log_in() {
            Ok(session) => *state = State::Open { session, number },
            Err(refused @ (TokenError::WrongPin { .. } | TokenError::PinLocked { .. })) => {
                *state = State::Refused(refused.clone());
                return Err(refused);
            }
            Err(error) => return Err(error),
        }
        Ok(Held { state })
    }

    fn log_in(&self) -> Result<Session, TokenError> {
        let context = self.module.context()?;
        let slot = self.slot(&context)?;
        let session = context.open_rw_session(slot).map_err(|cause| self.fault(cause))?;
        let pin = AuthPin::new(self.pin.as_str().into());
        match session.login(UserType::User, Some(&pin)) {
            // A login is the whole process's.
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(cause) => Err(self.fault(cause)),
        }
    }

    fn slot(&self, context: &Pkcs11) -> Result<Slot, TokenError> {
        let slots = context.get_slots_with_token().map_err(|cause| self.fault(cause))?;
        let mut found = slots.into_iter().filter(|slot| {
            let info = context.get_token_info(*slot);
            info.is_ok_and(|info| info.label() == self.label)
        });
        match (found.next(), found.next()) {
            (Some(slot), None) => Ok(slot),
            (None, _) => Err(TokenError::TokenMissing {
                token: self.label.clone(),
                module: self.module.path.clone(),
            }),
            (Some(_), Some(_)) => Err(TokenError::TokenTwice { token: self.label.clone() }),
        }
    }

    fn fault(&self, cause: Error) -> TokenError {
        let token = self.label.clone();
        match cause {
            Error::Pkcs11(
                RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange,
                _,
            ) => TokenError::WrongPin { token },
            Error::Pkcs11(RvError::PinLocked | RvError::PinExpired, _) => {
                TokenError::PinLocked { token }
            }
            Error::Pkcs11(RvError::MechanismInvalid | RvError::CurveNotSupported, _) => {
                TokenError::OtherKind
            }
            cause => TokenError::Silent { token, cause: TokenReply(cause.to_string()) },
        }
    }

    /// Closes the session that was used, unless another has taken its place.
    fn lose(&self, lost: u64) -> Result<(), TokenError> {
        let mut state = self.session.lock().map_err(|_| TokenError::Broken)?;
        if matches!(&*state, State::Open { number, .. } if *number == lost) {
            *state = State::Closed { number: lost };
        }
        Ok(())
    }

    /// Begins with the module anew, where this token is all that uses it: some modules never find a
    /// token again that was away.
    fn restart(&self) -> Result<(), TokenError> {
        let mut state = self.session.lock().map_err(|_| TokenError::Broken)?;
        let (State::Open { number, .. } | State::Closed { number }) = *state else { return Ok(()) };
        *state = State::Closed { number };
        // The list of modules and this token.
        if Arc::strong_count(&self.module) > 2 {
            return Ok(());
        }
        self.module.restart()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:?})", self.label)
    }
}

/// The session, held: a session serves one thread at a time.
struct Held<'a> {
    state: MutexGuard<'a, State>,
}

impl Held<'_> {
    fn open(&self) -> Result<(&Session, u64), TokenError> {
        match &*self.state {
            State::Open { session, number } => Ok((session, *number)),
            State::Closed { .. } => Err(TokenError::Broken),
            State::Refused(refused) => Err(refused.clone()),
        }
    }
}

/// A private key in a token.
pub struct TokenKey {
    token: Arc<Token>,
    label: String,
    public_key: PublicKey,
    /// Where it is, and in which session.
    handle: Mutex<Option<(u64, ObjectHandle)>>,
}

impl TokenKey {
    fn handle(&self) -> Result<MutexGuard<'_, Option<(u64, ObjectHandle)>>, TokenError> {
        self.handle.lock().map_err(|_| TokenError::Broken)
    }

    /// Signs in a session of its own, and if need be after the module began anew.
    fn sign_again(&self, used: Option<u64>, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        if let Some(used) = used {
            self.token.lose(used)?;
            if let Ok(signature) = self.try_sign(message) {
                return Ok(signature);
            }
        }
        self.token.restart()?;
        self.try_sign(message).map_err(|(_, error)| error)
    }

    /// Signs in the present session; the number of the session that was used where that fails.
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, (Option<u64>, TokenError)> {
        let held = self.token.session().map_err(|error| (None, error))?;
        let (session, number) = held.open().map_err(|error| (None, error))?;
        let in_session = |error| (Some(number), error);
        let mut place = self.handle().map_err(in_session)?;
        let handle = match *place {
            Some((found_in, handle)) if found_in == number => handle,
            _ => self.token.find(session, &self.label, &self.public_key).map_err(in_session)?,
        };
        *place = Some((number, handle));
        let signed = match self.public_key {
            PublicKey::Ed25519(_) => {
                let scheme = EddsaParams::new(EddsaSignatureScheme::Ed25519);
                session.sign(&Mechanism::Eddsa(scheme), handle, message)
            }
            PublicKey::P256(_) => {
                session.sign(&Mechanism::Ecdsa, handle, sha256(message).as_bytes())
            }
        };
        signed.map_err(|cause| in_session(self.token.fault(cause)))
    }
}

impl Signer for TokenKey {
    fn public_key(&self) -> PublicKey {
        self.public_key
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        let signature = match self.try_sign(message) {
            Ok(signature) => signature,
            Err((used, _)) => self.sign_again(used, message)?,
        };
        self.public_key.verify(message, &signature).map_err(|_| TokenError::Wrong {
            token: self.token.label.clone(),
            key: self.label.clone(),
        })?;
        Ok(signature)
    }

    fn is_remote(&self) -> bool {
        true
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({:?}, {:?}, {:?})", self.token, self.label, self.public_key)
    }
}

/// The public key of `CKA_EC_PARAMS` and `CKA_EC_POINT`. The point is a DER OCTET STRING; some tokens give
/// the bare one. The curve of Ed25519 is named by a text or by its identifier.
fn public_key_of(params: &[u8], point: &[u8]) -> Option<PublicKey> {
    let bare = match point {
        [OCTET_STRING, length, rest @ ..] if usize::from(*length) == rest.len() => rest,
        bare => bare,
    };
    if params == P256_OID {
        PublicKey::from_point(bare).ok()
    } else if params == ED25519_NAME || params == ED25519_OID {
        bare.try_into().ok().map(PublicKey::Ed25519)
    } else {
        None
    }
}

/// A module, loaded and initialised once for the process: `C_Initialize` and `C_Finalize` are the whole
/// process's, whoever else still signs.
struct Module {
    path: PathBuf,
    context: Mutex<Pkcs11>,
}

impl Module {
    fn load(path: &Path) -> Result<Arc<Self>, TokenError> {
        static MODULES: Mutex<BTreeMap<PathBuf, Arc<Module>>> = Mutex::new(BTreeMap::new());
        let mut modules = MODULES.lock().map_err(|_| TokenError::Broken)?;
        if let Some(module) = modules.get(path) {
            return Ok(Arc::clone(module));
        }
        let context = Mutex::new(initialised(path)?);
        let module = Arc::new(Self { path: path.to_owned(), context });
        modules.insert(path.to_owned(), Arc::clone(&module));
        Ok(module)
    }

    fn context(&self) -> Result<Pkcs11, TokenError> {
        Ok(self.context.lock().map_err(|_| TokenError::Broken)?.clone())
    }

    fn restart(&self) -> Result<(), TokenError> {
        let mut context = self.context.lock().map_err(|_| TokenError::Broken)?;
        // What an ailing module says to that changes nothing.
        drop(context.clone().finalize());
        *context = initialised(&self.path)?;
        Ok(())
    }
}

fn initialised(path: &Path) -> Result<Pkcs11, TokenError> {
    let missing = |cause: Error| TokenError::ModuleMissing {
        module: path.to_owned(),
        cause: TokenReply(cause.to_string()),
    };
    let context = Pkcs11::new(path).map_err(missing)?;
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(context),
        Err(cause) => Err(missing(cause)),
    }
}

const OCTET_STRING: u8 = 0x04;
/// `prime256v1` (RFC 5480), DER.
const P256_OID: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// `edwards25519` as a `PrintableString` (PKCS#11 3.0, section 2.3.5).
const ED25519_NAME: [u8; 14] =
    [0x13, 0x0c, b'e', b'd', b'w', b'a', b'r', b'd', b's', b'2', b'5', b'5', b'1', b'9'];
/// `id-Ed25519` (RFC 8410), DER.
const ED25519_OID: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x70];
