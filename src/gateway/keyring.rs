//! The keys in force: the signed register and the private halves, exchanged while the gateway serves.
//!
//! Which key signs an entry or a checkpoint is the register's to say, by ledger and index. The ring notes
//! what was signed, so that a register that would change a range behind it is refused: the check, the
//! register's way to the disk and the exchange are one step that no signature can come between.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use super::error::GatewayError;
use crate::crypto::{KeyError, PublicKey, Signer, TokenError};
use crate::domain::id::ReceiptId;
use crate::domain::time::UnixMillis;
use crate::ledger::Origin;
use crate::receipt::{
    self, KeyRecord, KeyRegister, KeyRegisterError, KeyStatus, KeyUse, LedgerPlace, LedgerState,
    SuccessionError, TrustFingerprint,
};

/// The signed key register, as exported.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRegisterFiles {
    /// `keys.json`.
    pub register: Vec<u8>,
    /// `keys.json.sig`.
    pub signature: Vec<u8>,
    /// The root key; its fingerprint is the trust fingerprint.
    pub root: PublicKey,
}

/// What a change of the register was, for the ledger to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyEvent {
    /// The id of its entry.
    pub receipt: ReceiptId,
    /// `key_rotated` or `key_revoked`.
    pub act: String,
    /// The key's name.
    pub kid: String,
    /// The hash of the register's bytes.
    pub register: String,
    /// Who installed it.
    pub actor: receipt::Actor,
}

/// Where private keys and the signed register are kept.
pub trait KeyStore: Send + Sync + std::fmt::Debug {
    /// The private half of a key; none when it is not here.
    ///
    /// # Errors
    ///
    /// [`KeyStoreError`] when it cannot be told, or the key must not be used.
    fn signer(&self, key: &KeyRecord) -> Result<Option<Arc<dyn Signer>>, KeyStoreError>;

    /// Makes a new key for a name that the register does not have.
    ///
    /// # Errors
    ///
    /// [`KeyStoreError`] when none can be made or kept.
    fn create(&self, kid: &str, usage: KeyUse) -> Result<PublicKey, KeyStoreError>;

    /// The word for where keys of a use are kept: `file` or `token`.
    fn home(&self, usage: KeyUse) -> &'static str;

    /// Puts a register in force, durably and whole or not at all, with what the ledger must say of it.
    ///
    /// # Errors
    ///
    /// [`KeyStoreError::Unclear`] when it may be in force after a restart or not; any other when the one
    /// before is in force still.
    fn install(&self, files: &KeyRegisterFiles, due: &[KeyEvent]) -> Result<(), KeyStoreError>;

    /// What the ledger must say yet of the register in force.
    ///
    /// # Errors
    ///
    /// [`KeyStoreError`] when it cannot be read.
    fn due(&self) -> Result<Vec<KeyEvent>, KeyStoreError>;

    /// Forgets what was due: the ledger says it.
    ///
    /// # Errors
    ///
    /// [`KeyStoreError`] when that is not durable.
    fn settle(&self) -> Result<(), KeyStoreError>;
}

/// Keys or their register cannot be read, made or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyStoreError {
    /// The disk.
    #[error("the file {path:?} cannot be read or written")]
    Io {
        /// Which file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// A file that others may read, or of another shape.
    #[error("the file {path:?} cannot be used")]
    File {
        /// Which file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A key file.
    #[error("the key in {path:?} cannot be used")]
    Key {
        /// Which file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        cause: KeyError,
    },
    /// Whether a register would be in force after a power cut is not known.
    #[error("whether the register is durable is not known: mend the disk and start again")]
    Unclear(#[source] std::io::Error),
    /// The token.
    #[error("the token cannot be used")]
    Token(#[from] TokenError),
    /// The system's randomness.
    #[error("no key can be made")]
    Chance(#[from] crate::crypto::EntropyError),
}

/// The keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// The register.
    #[error("the key register cannot be used")]
    Register(#[from] KeyRegisterError),
    /// The register does not follow the one in force.
    #[error("the key register cannot follow the one in force")]
    Succession(#[from] SuccessionError),
    /// Keys or files.
    #[error("the keys cannot be used")]
    Store(#[from] KeyStoreError),
    /// An active key is not here.
    #[error(
        "the private half of key {kid:?} is missing: put its file back into the folder keys, or connect \
         its token; if it is lost, docs/keys.md says how to go on"
    )]
    Missing {
        /// Which.
        kid: String,
    },
    /// A thread broke off while it held the ring.
    #[error("the ring's state is unknown")]
    Broken,
}

impl From<KeyringError> for GatewayError {
    fn from(cause: KeyringError) -> Self {
        match cause {
            KeyringError::Succession(SuccessionError::Passed { .. }) => {
                Self::State("a ledger has passed the index from which the new key was to sign")
            }
            KeyringError::Succession(fault) => Self::Register { fault: fault.to_string() },
            KeyringError::Register(fault) => Self::Register { fault: fault.to_string() },
            KeyringError::Missing { .. } => {
                Self::State("the private half of a key of the register is not here")
            }
            KeyringError::Store(cause) => Self::Keys(cause),
            cause @ KeyringError::Broken => Self::internal("keys", cause),
        }
    }
}

/// A register in force.
#[derive(Debug)]
pub struct Installed {
    /// As it is exported.
    pub files: KeyRegisterFiles,
    /// As it is read.
    pub register: KeyRegister,
}

/// What signs one receipt.
#[derive(Clone, Debug)]
pub(super) struct ReceiptKey {
    pub kid: String,
    pub signer: Arc<dyn Signer>,
}

/// The names of a gateway's ledgers, for whoever changes keys.
#[derive(Clone, Debug)]
pub(super) struct LedgerSet {
    pub current: Origin,
    /// Those of the half-years to come, which may be among the present ones.
    pub ahead: Vec<Origin>,
    pub log_of_logs: Origin,
}

/// The register in force and the private halves of its keys.
#[derive(Debug)]
pub struct Keyring {
    store: Arc<dyn KeyStore>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    installed: Arc<Installed>,
    signers: HashMap<String, Arc<dyn Signer>>,
    /// For each ledger the first index that nothing was signed at.
    next: BTreeMap<String, u64>,
    /// Set when it is not known which register a restart would find: then nothing is signed.
    is_unclear: bool,
}

impl Keyring {
    /// The ring of the register in force.
    ///
    /// # Errors
    ///
    /// [`KeyringError`] when the register is not its root key's, or an active key is not here that is not
    /// among the `lost` ones.
    pub fn open(
        files: KeyRegisterFiles,
        store: Arc<dyn KeyStore>,
        lost: &[String],
    ) -> Result<Self, KeyringError> {
        let register = verified(&files)?;
        let signers = load(&register, &*store, lost)?;
        let installed = Arc::new(Installed { files, register });
        let state = State { installed, signers, next: BTreeMap::new(), is_unclear: false };
        Ok(Self { store, state: Mutex::new(state) })
    }

    /// The register in force.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Internal`] after a thread broke off.
    pub fn installed(&self) -> Result<Arc<Installed>, GatewayError> {
        Ok(Arc::clone(&self.state()?.installed))
    }

    /// Where private keys are kept.
    pub(super) fn store(&self) -> &Arc<dyn KeyStore> {
        &self.store
    }

    /// Notes that a ledger has `size` entries, all signed.
    pub(super) fn note(&self, origin: &str, size: u64) -> Result<(), GatewayError> {
        self.state()?.note(origin, size);
        Ok(())
    }

    /// The key for the receipt at `index` of a ledger, issued at `now`.
    pub(super) fn receipt_key(
        &self,
        origin: &Origin,
        index: u64,
        now: UnixMillis,
    ) -> Result<ReceiptKey, GatewayError> {
        let mut state = self.state()?;
        let record = state.installed.register.receipt_key(origin.as_str(), index);
        let record = record.filter(|key| key.valid_at(now));
        let kid = record.ok_or(GatewayError::NotReady(NO_RECEIPT_KEY))?.kid.clone();
        let signer = state.signer(&kid)?;
        state.note(origin.as_str(), index.saturating_add(1));
        Ok(ReceiptKey { kid, signer })
    }

    /// The key for a ledger's checkpoint of `size` entries.
    pub(super) fn ledger_key(
        &self,
        origin: &Origin,
        size: u64,
    ) -> Result<Arc<dyn Signer>, GatewayError> {
        let mut state = self.state()?;
        let record = state.installed.register.ledger_key(origin.as_str(), size);
        let kid = record.ok_or(GatewayError::NotReady(NO_LEDGER_KEY))?.kid.clone();
        let signer = state.signer(&kid)?;
        state.note(origin.as_str(), size);
        Ok(signer)
    }

    /// The key that signs a ledger's next receipt: by it the gateway itself is known as an actor.
    pub(super) fn own_key(&self, origin: &Origin) -> Result<ReceiptKey, GatewayError> {
        let state = self.state()?;
        let next = state.next(origin.as_str());
        let record = state.installed.register.receipt_key(origin.as_str(), next);
        let kid = record.ok_or(GatewayError::NotReady(NO_RECEIPT_KEY))?.kid.clone();
        let signer = state.signer(&kid)?;
        Ok(ReceiptKey { kid, signer })
    }

    /// Where the ledgers stand: those that the register names, the present one and those to come.
    pub(super) fn places(&self, ledgers: &LedgerSet) -> Result<Vec<LedgerPlace>, GatewayError> {
        Ok(self.state()?.places(ledgers))
    }

    /// Puts a register in force that the same root key signed and that follows the present one. With it
    /// the ledger must say what `events` makes of the two.
    pub(super) fn install(
        &self,
        files: KeyRegisterFiles,
        ledgers: &LedgerSet,
        events: impl FnOnce(&KeyRegister, &KeyRegister) -> Result<Vec<KeyEvent>, GatewayError>,
    ) -> Result<(), GatewayError> {
        let register = verified(&files).map_err(GatewayError::from)?;
        // A token may take its time: not while the ring is held.
        let mut signers = load(&register, &*self.store, &[]).map_err(GatewayError::from)?;
        let mut state = self.state()?;
        let old = &state.installed.register;
        if state.installed.files.root != files.root {
            return Err(KeyringError::Register(KeyRegisterError::Untrusted).into());
        }
        old.precedes(&register, &state.places(ledgers)).map_err(KeyringError::from)?;
        let due = events(old, &register)?;
        // A key that signs on to the end of its range was here when the ring was made.
        for (kid, signer) in &state.signers {
            signers.entry(kid.clone()).or_insert_with(|| Arc::clone(signer));
        }
        let next = state.next(ledgers.current.as_str());
        let named = [
            register.receipt_key(ledgers.current.as_str(), next),
            register.ledger_key(ledgers.current.as_str(), next.saturating_add(1)),
        ];
        if let Some(key) = named.into_iter().flatten().find(|key| !signers.contains_key(&key.kid)) {
            return Err(KeyringError::Missing { kid: key.kid.clone() }.into());
        }
        let stored = self.store.install(&files, &due);
        state.is_unclear |= matches!(stored, Err(KeyStoreError::Unclear(_)));
        stored.map_err(KeyringError::from)?;
        state.installed = Arc::new(Installed { files, register });
        state.signers = signers;
        Ok(())
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, GatewayError> {
        self.state.lock().map_err(|_| KeyringError::Broken.into())
    }
}

impl State {
    fn note(&mut self, origin: &str, size: u64) {
        if let Some(next) = self.next.get_mut(origin) {
            *next = size.max(*next);
        } else {
            self.next.insert(origin.to_owned(), size);
        }
    }

    fn next(&self, origin: &str) -> u64 {
        self.next.get(origin).copied().unwrap_or(0)
    }

    fn signer(&self, kid: &str) -> Result<Arc<dyn Signer>, GatewayError> {
        if self.is_unclear {
            return Err(GatewayError::NotReady("which key register is in force is not known"));
        }
        let signer = self.signers.get(kid).map(Arc::clone);
        signer
            .ok_or(GatewayError::NotReady("the private half of the key that must sign is missing"))
    }

    fn places(&self, ledgers: &LedgerSet) -> Vec<LedgerPlace> {
        let named = self.installed.register.keys().iter().flat_map(|key| &key.origins);
        let mut states: BTreeMap<&str, LedgerState> =
            named.map(|range| (range.origin.as_str(), LedgerState::Closed)).collect();
        states.extend(ledgers.ahead.iter().map(|origin| (origin.as_str(), LedgerState::Ahead)));
        states.insert(ledgers.log_of_logs.as_str(), LedgerState::LogOfLogs);
        states.insert(ledgers.current.as_str(), LedgerState::Current);
        let place = |(origin, state): (&str, LedgerState)| LedgerPlace {
            origin: origin.to_owned(),
            state,
            next_index: self.next(origin),
        };
        states.into_iter().map(place).collect()
    }
}

fn verified(files: &KeyRegisterFiles) -> Result<KeyRegister, KeyringError> {
    let signature = String::from_utf8_lossy(&files.signature);
    let trust = TrustFingerprint::of(&files.root);
    Ok(KeyRegister::verify(&files.register, &signature, &trust)?)
}

/// The private halves that are here. Of a key that signs on they must be, unless it is known to be lost.
fn load(
    register: &KeyRegister,
    store: &dyn KeyStore,
    lost: &[String],
) -> Result<HashMap<String, Arc<dyn Signer>>, KeyringError> {
    let mut signers = HashMap::new();
    let signing =
        register.keys().iter().filter(|key| matches!(key.usage, KeyUse::Receipt | KeyUse::Ledger));
    for key in signing {
        let must_be_here = key.status == KeyStatus::Active && !lost.contains(&key.kid);
        let signer = match store.signer(key) {
            Ok(signer) => signer.filter(|signer| signer.public_key() == key.public_key),
            Err(cause) if must_be_here => return Err(cause.into()),
            Err(cause) => {
                tracing::warn!(kid = key.kid, error = %cause, "a key is not here");
                None
            }
        };
        match signer {
            Some(signer) => drop(signers.insert(key.kid.clone(), signer)),
            None if must_be_here => return Err(KeyringError::Missing { kid: key.kid.clone() }),
            None => {}
        }
    }
    Ok(signers)
}

const NO_RECEIPT_KEY: &str =
    "no key of the register may sign the next receipt now: `tulga keys rotate` names one";
const NO_LEDGER_KEY: &str =
    "no key of the register may sign the next checkpoint: `tulga keys rotate` names one";
