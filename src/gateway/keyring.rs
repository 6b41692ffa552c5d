//! The keys in force: the signed register and the private halves, exchanged while the gateway serves.
//!
//! Which key signs an entry or a checkpoint is the register's to say, by ledger and index. The ring notes
//! what was signed, so that a register that would change a range behind it is refused: the check, the
//! register's way to the disk and the exchange are one step that no signature can come between.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use super::error::GatewayError;
use super::key_store::{KeyEvent, KeyRegisterFiles, KeyStore, KeyStoreError};
use crate::crypto::Signer;
use crate::domain::time::UnixMillis;
use crate::ledger::Origin;
use crate::receipt::{
    KeyRegister, KeyRegisterError, KeyStatus, KeyUse, LedgerPlace, LedgerState, SuccessionError,
    TrustFingerprint,
};

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
        // The log of logs has an entry for each closed ledger, noted here or not.
        let is_closed = |(origin, state): &(&&str, &LedgerState)| {
            **state == LedgerState::Closed && self.next(origin) > 0
        };
        let closed = u64::try_from(states.iter().filter(is_closed).count()).unwrap_or(u64::MAX);
        let place = |(origin, state): (&str, LedgerState)| LedgerPlace {
            origin: origin.to_owned(),
            state,
            next_index: match state {
                LedgerState::LogOfLogs => self.next(origin).max(closed),
                _ => self.next(origin),
            },
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Ed25519Key, PublicKey, SeededEntropy};
    use crate::receipt::{KeyAlgorithm, KeyRange, KeyRecord, NewKey};

    const ORIGIN: &str = "a.example/gw/2026h2";
    const NOW: UnixMillis = UnixMillis::new(1_000);

    fn key(seed: u64) -> Ed25519Key {
        Ed25519Key::generate(&SeededEntropy::new(seed)).unwrap()
    }

    /// Keys in memory, and what becomes of an installation.
    #[derive(Debug, Default)]
    struct Keys {
        here: Mutex<Vec<u64>>,
        fails: Mutex<Option<KeyStoreError>>,
    }

    impl KeyStore for Keys {
        fn signer(&self, record: &KeyRecord) -> Result<Option<Arc<dyn Signer>>, KeyStoreError> {
            let here = self.here.lock().unwrap();
            let found = here
                .iter()
                .map(|seed| key(*seed))
                .find(|key| key.public_key() == record.public_key);
            Ok(found.map(|key| Arc::new(key) as Arc<dyn Signer>))
        }

        fn create(&self, _: &str, _: KeyUse) -> Result<PublicKey, KeyStoreError> {
            panic!("not asked here")
        }

        fn home(&self, _: KeyUse) -> &'static str {
            "file"
        }

        fn install(&self, _: &KeyRegisterFiles, _: &[KeyEvent]) -> Result<(), KeyStoreError> {
            self.fails.lock().unwrap().take().map_or(Ok(()), Err)
        }

        fn due(&self) -> Result<Vec<KeyEvent>, KeyStoreError> {
            Ok(Vec::new())
        }

        fn settle(&self) -> Result<(), KeyStoreError> {
            Ok(())
        }
    }

    fn origin() -> Origin {
        Origin::try_from(ORIGIN).unwrap()
    }

    fn ledgers() -> LedgerSet {
        let log_of_logs = Origin::try_from("a.example/gw/log-of-logs").unwrap();
        LedgerSet { current: origin(), ahead: Vec::new(), log_of_logs }
    }

    fn register() -> KeyRegister {
        let record = |kid: &str, usage, seed| KeyRecord {
            kid: kid.to_owned(),
            algorithm: KeyAlgorithm::EdDsa,
            usage,
            public_key: key(seed).public_key(),
            not_before: UnixMillis::new(0),
            not_after: None,
            origins: vec![KeyRange { origin: ORIGIN.to_owned(), first_index: 0, last_index: None }],
            status: KeyStatus::Active,
        };
        KeyRegister::new(vec![
            record("root", KeyUse::Root, 1),
            record("receipt-1", KeyUse::Receipt, 2),
            record("ledger-1", KeyUse::Ledger, 3),
        ])
        .unwrap()
    }

    fn signed(register: &KeyRegister) -> KeyRegisterFiles {
        let json = register.to_json().unwrap().into_bytes();
        let signature = KeyRegister::sign(&json, &key(1)).unwrap().into_bytes();
        KeyRegisterFiles { register: json, signature, root: key(1).public_key() }
    }

    fn ring(here: &[u64], lost: &[String]) -> (Result<Keyring, KeyringError>, Arc<Keys>) {
        let keys = Arc::new(Keys { here: Mutex::new(here.to_vec()), ..Keys::default() });
        let store: Arc<dyn KeyStore> = keys.clone();
        (Keyring::open(signed(&register()), store, lost), keys)
    }

    fn rotated(ring: &Keyring, seed: u64, margin: u64) -> KeyRegisterFiles {
        let new = NewKey {
            kid: "receipt-2".to_owned(),
            usage: KeyUse::Receipt,
            public_key: key(seed).public_key(),
            not_before: UnixMillis::new(0),
        };
        let places = ring.places(&ledgers()).unwrap();
        signed(&ring.installed().unwrap().register.rotated(new, &places, margin).unwrap())
    }

    fn install(ring: &Keyring, files: KeyRegisterFiles) -> Result<(), GatewayError> {
        ring.install(files, &ledgers(), |_, _| Ok(Vec::new()))
    }

    fn kid(ring: &Keyring, index: u64) -> Result<String, GatewayError> {
        ring.receipt_key(&origin(), index, NOW).map(|key| key.kid)
    }

    #[test]
    fn the_register_says_which_key_signs_and_follows_the_exchange() {
        let (ring, keys) = ring(&[2, 3], &[]);
        let ring = ring.unwrap();
        assert_eq!(kid(&ring, 6).unwrap(), "receipt-1");
        let files = rotated(&ring, 4, 3);
        // Its private half is not here yet.
        assert!(matches!(install(&ring, files.clone()), Err(GatewayError::State(_))));
        keys.here.lock().unwrap().push(4);
        install(&ring, files).unwrap();
        assert_eq!(
            (kid(&ring, 9).unwrap(), kid(&ring, 10).unwrap()),
            ("receipt-1".into(), "receipt-2".into())
        );
        let own = ring.own_key(&origin()).unwrap();
        assert_eq!(own.signer.public_key(), key(4).public_key());
        let ledger = ring.ledger_key(&origin(), 0).unwrap();
        assert_eq!(ledger.public_key(), key(3).public_key());
        // Another ledger, or a time before the key's: nobody signs.
        let other = Origin::try_from("b.example").unwrap();
        assert!(ring.receipt_key(&other, 0, NOW).is_err());
        assert!(ring.receipt_key(&origin(), 11, UnixMillis::new(-1)).is_err());
    }

    #[test]
    fn the_log_of_logs_stands_where_so_many_ledgers_are_closed() {
        let (ring, _) = ring(&[2, 3], &[]);
        let ring = ring.unwrap();
        ring.note(ORIGIN, 9).unwrap();
        let next = Origin::try_from("a.example/gw/2027h1").unwrap();
        let later = LedgerSet { current: next.clone(), ahead: Vec::new(), ..ledgers() };
        let told = |ledgers: &LedgerSet| -> Vec<(LedgerState, u64)> {
            let places = ring.places(ledgers).unwrap();
            places.iter().map(|place| (place.state, place.next_index)).collect()
        };
        let now = LedgerSet { ahead: vec![next], ..ledgers() };
        let (ahead, closed) = ((LedgerState::Ahead, 0), (LedgerState::Closed, 9));
        assert_eq!(told(&now), [(LedgerState::Current, 9), ahead, (LedgerState::LogOfLogs, 0)]);
        assert_eq!(told(&later), [closed, (LedgerState::Current, 0), (LedgerState::LogOfLogs, 1)]);
    }

    #[test]
    fn a_change_behind_what_was_signed_is_refused() {
        let (ring, keys) = ring(&[2, 3, 4], &[]);
        let ring = ring.unwrap();
        drop(keys);
        ring.note(ORIGIN, 5).unwrap();
        let files = rotated(&ring, 4, 2);
        for index in 5..=7 {
            kid(&ring, index).unwrap();
        }
        // Index 7 is signed, though perhaps not committed.
        assert!(matches!(install(&ring, files), Err(GatewayError::State(_))));
        assert_eq!(kid(&ring, 8).unwrap(), "receipt-1");
        install(&ring, rotated(&ring, 4, 0)).unwrap();
        assert_eq!(kid(&ring, 9).unwrap(), "receipt-2");
    }

    #[test]
    fn what_the_disk_refuses_changes_nothing_and_what_it_leaves_open_stops_everything() {
        let (ring, keys) = ring(&[2, 3, 4], &[]);
        let ring = ring.unwrap();
        let files = rotated(&ring, 4, 0);
        let fault = || std::io::Error::other("no space");
        let refused = KeyStoreError::Io { path: "keys.install.new".into(), cause: fault() };
        *keys.fails.lock().unwrap() = Some(refused);
        assert!(matches!(install(&ring, files.clone()), Err(GatewayError::Keys(_))));
        assert_eq!(kid(&ring, 0).unwrap(), "receipt-1");
        let files = rotated(&ring, 4, 0);
        *keys.fails.lock().unwrap() = Some(KeyStoreError::Unclear(fault()));
        assert!(matches!(install(&ring, files), Err(GatewayError::Keys(_))));
        assert!(matches!(kid(&ring, 1), Err(GatewayError::NotReady(_))));
        assert!(matches!(ring.ledger_key(&origin(), 1), Err(GatewayError::NotReady(_))));
    }

    #[test]
    fn an_active_key_that_is_missing_stops_the_start_unless_it_is_known_to_be_lost() {
        let missing = ring(&[3], &[]).0.unwrap_err();
        assert!(missing.to_string().contains("receipt-1"), "{missing}");
        let (ring, keys) = ring(&[3], &["receipt-1".to_owned()]);
        let ring = ring.unwrap();
        assert!(matches!(kid(&ring, 0), Err(GatewayError::NotReady(_))));
        keys.here.lock().unwrap().push(4);
        assert!(install(&ring, rotated(&ring, 4, 5)).is_err(), "nobody could sign the next five");
        install(&ring, rotated(&ring, 4, 0)).unwrap();
        assert_eq!(kid(&ring, 0).unwrap(), "receipt-2");
    }

    #[test]
    fn only_the_same_root_s_register_is_taken() {
        let (ring, _) = ring(&[2, 3, 4], &[]);
        let ring = ring.unwrap();
        let mut files = rotated(&ring, 4, 0);
        files.signature = KeyRegister::sign(&files.register, &key(9)).unwrap().into_bytes();
        let refused = install(&ring, files.clone()).unwrap_err();
        assert!(matches!(refused, GatewayError::Register { .. }), "{refused}");
        files.root = key(9).public_key();
        assert!(install(&ring, files).is_err());
        assert_eq!(kid(&ring, 0).unwrap(), "receipt-1");
    }
}
