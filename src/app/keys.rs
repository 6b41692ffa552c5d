//! The keys of a data folder: their files, the token that may hold some of them, and the signed register.
//!
//! The register in force is `keys.json` with `keys.json.sig`, unless there is a file `keys.install`: then
//! it is what that one holds, and the two files are written anew from it. That file comes into being by a
//! renaming, so that a register is in force whole or not at all, and it goes when the ledger says what
//! was changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::DataDir;
use super::disk::{Step, io_fault, read_bounded, replace, run};
use crate::config::{Config, Pkcs11Config, refuse_if_exposed};
use crate::crypto::{
    Ed25519Key, KeyKind, P256Key, PublicKey, Signer, SystemEntropy, Token, TokenError,
    read_private_key,
};
use crate::domain::id::ReceiptId;
use crate::gateway::{KeyEvent, KeyRegisterFiles, KeyStore, KeyStoreError};
use crate::receipt::{Actor, KeyRecord, KeyRegister, KeyUse, TrustFingerprint, rid_text};

/// The keys of a data folder.
#[derive(Debug)]
pub struct KeyFolder {
    dir: PathBuf,
    receipt_kind: KeyKind,
    token: Option<(Arc<Token>, Pkcs11Config)>,
}

impl KeyFolder {
    /// The keys of the configured data folder; the token is opened if one is configured.
    ///
    /// # Errors
    ///
    /// When the token, or the file with its PIN, cannot be used.
    pub fn open(config: &Config) -> Result<Self> {
        let keys = &config.keys;
        let token = keys.pkcs11.as_ref().map(open_token).transpose()?;
        let token = token.zip(keys.pkcs11.clone());
        let dir = config.paths.data_dir.clone();
        Ok(Self { dir, receipt_kind: keys.receipt_kind, token })
    }

    /// The register in force, as far as its own root key says; whether that one is to be trusted is known
    /// outside.
    ///
    /// # Errors
    ///
    /// When there is none that its root key signed.
    pub fn register(data: &DataDir) -> Result<KeyRegisterFiles> {
        let dir = data.path();
        let read = |name: &str| {
            let path = dir.join(name);
            read_bounded(&path, FILE_BYTES_MAX)?
                .with_context(|| format!("{} is missing", path.display()))
        };
        let (register, signature) = if let Some(pending) = read_pending(dir)? {
            (pending.keys_json.into_bytes(), pending.keys_json_sig.into_bytes())
        } else {
            (read(REGISTER)?, read(SIGNATURE)?)
        };
        let root = root_of(&KeyRegister::parse(&register)?)?;
        let text = String::from_utf8_lossy(&signature);
        KeyRegister::verify(&register, &text, &TrustFingerprint::of(&root))?;
        Ok(KeyRegisterFiles { register, signature, root })
    }

    /// Makes a root key, or takes the one that was put there before.
    pub(super) fn create_root(&self) -> Result<Arc<dyn Signer>> {
        let key = match self.token_for(KeyUse::Root) {
            Some(token) => match token.public_keys(ROOT)?.as_slice() {
                [] => self.create(ROOT, KeyUse::Root)?,
                [key] => *key,
                _ => bail!("the token holds more than one key labelled {ROOT:?}"),
            },
            None => self.create(ROOT, KeyUse::Root)?,
        };
        match self.token_for(KeyUse::Root) {
            Some(token) => Ok(Arc::new(token.key(ROOT, &key)?)),
            None => read_key(&self.key_file(ROOT))?.context("the root key is gone"),
        }
    }

    /// Whether the private half of a key can be used now.
    pub(super) fn require(&self, key: &KeyRecord) -> Result<()> {
        let here = self.signer(key)?.is_some();
        ensure!(here, "the private half of {} is missing", key.kid);
        Ok(())
    }

    fn token_for(&self, usage: KeyUse) -> Option<&Arc<Token>> {
        let (token, held) = self.token.as_ref()?;
        let is_held = match usage {
            KeyUse::Receipt => held.holds_receipt,
            KeyUse::Ledger => held.holds_ledger,
            KeyUse::Root => held.holds_root,
            _ => false,
        };
        is_held.then_some(token)
    }

    fn kind(&self, usage: KeyUse) -> KeyKind {
        if usage == KeyUse::Receipt { self.receipt_kind } else { KeyKind::Ed25519 }
    }

    fn key_file(&self, kid: &str) -> PathBuf {
        self.dir.join("keys").join(format!("{kid}.pem"))
    }

    /// Makes a key file. One of that name may be there: it was made for a register that never came, or
    /// put there on purpose; it is taken if it is of the right kind.
    fn create_file(&self, kid: &str, usage: KeyUse) -> Result<PublicKey, KeyStoreError> {
        let (path, wanted) = (self.key_file(kid), self.kind(usage));
        if let Some(key) = read_key(&path)?
            && (usage == KeyUse::Root || key.public_key().kind() == wanted)
        {
            return Ok(key.public_key());
        }
        let (pem, public_key) = match wanted {
            KeyKind::Ed25519 => {
                let key = Ed25519Key::generate(&SystemEntropy)?;
                (key.to_pkcs8_pem(), key.public_key())
            }
            KeyKind::P256 => {
                let key = P256Key::generate()?;
                (key.to_pkcs8_pem(), key.public_key())
            }
        };
        run(&replace(&path, pem.as_bytes().to_vec(), 0o600))?;
        Ok(public_key)
    }
}

impl KeyStore for KeyFolder {
    fn signer(&self, key: &KeyRecord) -> Result<Option<Arc<dyn Signer>>, KeyStoreError> {
        // The first keys of older folders have the names of their uses.
        let older = match key.usage {
            KeyUse::Receipt => Some("receipt"),
            KeyUse::Ledger => Some("ledger"),
            _ => None,
        };
        for name in [Some(key.kid.as_str()), older].into_iter().flatten() {
            let signer = read_key(&self.key_file(name))?;
            if let Some(signer) = signer.filter(|it| it.public_key() == key.public_key) {
                return Ok(Some(signer));
            }
        }
        // A token is asked last: what is a file stays one until it is rotated.
        let Some((token, _)) = &self.token else { return Ok(None) };
        match token.key(&key.kid, &key.public_key) {
            Ok(signer) => Ok(Some(Arc::new(signer))),
            // It was never to be there.
            Err(TokenError::KeyMissing { .. }) if self.token_for(key.usage).is_none() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn create(&self, kid: &str, usage: KeyUse) -> Result<PublicKey, KeyStoreError> {
        match self.token_for(usage) {
            Some(token) => Ok(token.generate(kid, self.kind(usage), &SystemEntropy)?.public_key()),
            None => self.create_file(kid, usage),
        }
    }

    fn home(&self, usage: KeyUse) -> &'static str {
        if self.token_for(usage).is_some() { "token" } else { "file" }
    }

    fn install(&self, files: &KeyRegisterFiles, due: &[KeyEvent]) -> Result<(), KeyStoreError> {
        let steps = install_steps(&self.dir, files, due)?;
        let Some((last, before)) = steps.split_last() else { return Ok(()) };
        run(before)?;
        // The renaming is done; only whether it outlives a power cut is open.
        run(std::slice::from_ref(last)).map_err(|error| match error {
            KeyStoreError::Io { cause, .. } => KeyStoreError::Unclear(cause),
            other => other,
        })
    }

    fn due(&self) -> Result<Vec<KeyEvent>, KeyStoreError> {
        let pending = read_pending(&self.dir)?;
        let events = pending.map_or_else(Vec::new, |pending| pending.due);
        events.into_iter().map(|event| event.read(&self.dir)).collect()
    }

    fn settle(&self) -> Result<(), KeyStoreError> {
        match read_pending(&self.dir)? {
            Some(pending) => run(&settle_steps(&self.dir, &pending)),
            None => Ok(()),
        }
    }
}

/// The root key: in `file`, else where the configuration keeps it.
///
/// # Errors
///
/// When it is not there, others may read it, or it is another than the register's.
pub fn root_key(
    config: &Config,
    file: Option<&Path>,
    public_key: &PublicKey,
) -> Result<Arc<dyn Signer>> {
    if let (None, Some(held)) = (file, &config.keys.pkcs11)
        && held.holds_root
    {
        return Ok(Arc::new(open_token(held)?.key(ROOT, public_key)?));
    }
    let folder = || config.paths.data_dir.join("keys").join(format!("{ROOT}.pem"));
    let path = file.map_or_else(folder, Path::to_owned);
    let signer = read_key(&path)?.with_context(|| {
        format!("{} is missing: `--root FILE` says where the root key was taken", path.display())
    })?;
    ensure!(
        signer.public_key() == *public_key,
        "{} is not the root key that the register in force is signed with",
        path.display()
    );
    Ok(signer)
}

/// The fingerprint of the root key that a data folder's register is signed with.
///
/// # Errors
///
/// When the folder has no signed key register.
pub fn trust_fingerprint(data: &DataDir) -> Result<TrustFingerprint> {
    Ok(TrustFingerprint::of(&KeyFolder::register(data)?.root))
}

fn root_of(register: &KeyRegister) -> Result<PublicKey> {
    let root = register.keys().iter().find(|key| key.usage == KeyUse::Root);
    Ok(root.context("keys.json names no root key")?.public_key)
}

pub(super) fn open_token(held: &Pkcs11Config) -> Result<Arc<Token>> {
    refuse_if_exposed(&held.pin_file).context("the file with the token's PIN")?;
    let text = fs::read_to_string(&held.pin_file)
        .map(Zeroizing::new)
        .with_context(|| format!("{} cannot be read", held.pin_file.display()))?;
    let pin = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
    Token::open(&held.module, &held.token_label, pin).context("the token of [keys.pkcs11]")
}

/// A private key's file; none where there is no file.
fn read_key(path: &Path) -> Result<Option<Arc<dyn Signer>>, KeyStoreError> {
    if !path.try_exists().map_err(|cause| io_fault(path, cause))? {
        return Ok(None);
    }
    refuse_if_exposed(path).map_err(|cause| file_fault(path, cause))?;
    let pem = fs::read_to_string(path).map(Zeroizing::new);
    let pem = pem.map_err(|cause| io_fault(path, cause))?;
    let key = read_private_key(&pem);
    key.map(Some).map_err(|cause| KeyStoreError::Key { path: path.to_owned(), cause })
}

/// What `keys.install` holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pending {
    keys_json: String,
    keys_json_sig: String,
    due: Vec<PendingEvent>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PendingEvent {
    rid: String,
    act: String,
    kid: String,
    register: String,
    actor: Actor,
}

impl PendingEvent {
    fn read(self, dir: &Path) -> Result<KeyEvent, KeyStoreError> {
        let Self { rid, act, kid, register, actor } = self;
        let bytes = URL_SAFE_NO_PAD.decode(rid).unwrap_or_default();
        let receipt = ReceiptId::try_from(bytes.as_slice())
            .map_err(|cause| file_fault(&dir.join(PENDING), cause))?;
        Ok(KeyEvent { receipt, act, kid, register, actor })
    }
}

impl From<&KeyEvent> for PendingEvent {
    fn from(event: &KeyEvent) -> Self {
        let KeyEvent { receipt, act, kid, register, actor } = event.clone();
        Self { rid: rid_text(&receipt), act, kid, register, actor }
    }
}

fn read_pending(dir: &Path) -> Result<Option<Pending>, KeyStoreError> {
    let path = dir.join(PENDING);
    let Some(bytes) = read_bounded(&path, FILE_BYTES_MAX)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|cause| file_fault(&path, cause))
}

fn install_steps(
    dir: &Path,
    files: &KeyRegisterFiles,
    due: &[KeyEvent],
) -> Result<Vec<Step>, KeyStoreError> {
    let path = dir.join(PENDING);
    let text =
        |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|cause| file_fault(&path, cause));
    let pending = Pending {
        keys_json: text(&files.register)?,
        keys_json_sig: text(&files.signature)?,
        due: due.iter().map(PendingEvent::from).collect(),
    };
    let bytes = serde_json::to_vec(&pending).map_err(|cause| file_fault(&path, cause))?;
    Ok(replace(&path, bytes, 0o600))
}

fn settle_steps(dir: &Path, pending: &Pending) -> Vec<Step> {
    let mut steps = replace(&dir.join(REGISTER), pending.keys_json.clone().into_bytes(), 0o644);
    let signature = pending.keys_json_sig.clone().into_bytes();
    steps.extend(replace(&dir.join(SIGNATURE), signature, 0o644));
    let path = dir.join(PENDING);
    steps.extend([Step::Remove { path: path.clone() }, Step::SyncFolder { of: path }]);
    steps
}

fn file_fault(path: &Path, cause: impl std::error::Error + Send + Sync + 'static) -> KeyStoreError {
    KeyStoreError::File { path: path.to_owned(), cause: Box::new(cause) }
}

/// The root key's name.
pub(super) const ROOT: &str = "root";
pub(super) const REGISTER: &str = "keys.json";
pub(super) const SIGNATURE: &str = "keys.json.sig";
const PENDING: &str = "keys.install";
/// More than a register and its signature, in JSON.
const FILE_BYTES_MAX: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::UnixMillis;
    use crate::receipt::{KeyAlgorithm, KeyStatus};

    fn record(kid: &str, usage: KeyUse, public_key: PublicKey) -> KeyRecord {
        KeyRecord {
            kid: kid.to_owned(),
            algorithm: KeyAlgorithm::of(public_key.kind()),
            usage,
            public_key,
            not_before: UnixMillis::new(0),
            not_after: None,
            origins: Vec::new(),
            status: KeyStatus::Active,
        }
    }

    fn folder(dir: &Path, receipt_kind: KeyKind) -> KeyFolder {
        fs::create_dir_all(dir.join("keys")).unwrap();
        KeyFolder { dir: dir.to_owned(), receipt_kind, token: None }
    }

    /// A register of one more key for each number, signed.
    fn files(root: &Ed25519Key, number: u8) -> KeyRegisterFiles {
        let mut keys = vec![record("root", KeyUse::Root, root.public_key())];
        keys.extend(
            (0..number)
                .map(|n| record(&format!("receipt-{n}"), KeyUse::Receipt, PublicKey::new([n; 32]))),
        );
        let register = KeyRegister::new(keys).unwrap().to_json().unwrap().into_bytes();
        let signature = KeyRegister::sign(&register, root).unwrap().into_bytes();
        KeyRegisterFiles { register, signature, root: root.public_key() }
    }

    fn event(number: u8) -> KeyEvent {
        KeyEvent {
            receipt: ReceiptId::new([number; 16]),
            act: "key_rotated".into(),
            kid: format!("receipt-{number}"),
            register: "sha-256:x".into(),
            actor: Actor { role: "admin".into(), name: "a".into(), cert: "sha-256:y".into() },
        }
    }

    /// What a process that starts now finds.
    fn found(dir: &Path) -> (KeyRegisterFiles, Vec<KeyEvent>) {
        let due = folder(dir, KeyKind::Ed25519).due().unwrap();
        (KeyFolder::register(&DataDir::at(dir)).unwrap(), due)
    }

    /// A data folder with the first register in force and a root key.
    fn site() -> (tempfile::TempDir, Ed25519Key) {
        let dir = tempfile::tempdir().unwrap();
        let root = Ed25519Key::generate(&SystemEntropy).unwrap();
        let old = files(&root, 1);
        fs::write(dir.path().join(REGISTER), &old.register).unwrap();
        fs::write(dir.path().join(SIGNATURE), &old.signature).unwrap();
        (dir, root)
    }

    #[test]
    fn a_crash_behind_any_step_leaves_the_old_register_or_the_new_one_whole() {
        let count = {
            let (dir, root) = site();
            let steps = install_steps(dir.path(), &files(&root, 2), &[event(1)]).unwrap();
            run(&steps).unwrap();
            let pending = read_pending(dir.path()).unwrap().unwrap();
            steps.len() + settle_steps(dir.path(), &pending).len()
        };
        assert_eq!(count, 11, "each step was thought of");
        let mut seen = Vec::new();
        for done in 0..=count {
            for torn in [false, true] {
                let (dir, root) = site();
                let (old, new) = (files(&root, 1), files(&root, 2));
                let mut steps = install_steps(dir.path(), &new, &[event(1)]).unwrap();
                let install = steps.len();
                let bytes = |steps: &[Step]| match &steps[0] {
                    Step::Write { bytes, .. } => bytes.to_vec(),
                    _ => panic!("the first step writes"),
                };
                let pending: Pending = serde_json::from_slice(&bytes(&steps)).unwrap();
                steps.extend(settle_steps(dir.path(), &pending));
                run(&steps[..done]).unwrap();
                // A power cut in the middle of a write leaves half of it.
                if let (true, Some(Step::Write { path, bytes, .. })) = (torn, steps.get(done)) {
                    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
                }
                let (in_force, due) = found(dir.path());
                let renamed = done >= 2;
                assert_eq!(in_force, if renamed { new.clone() } else { old.clone() }, "{done}");
                let is_due = renamed && done < count - 1;
                assert_eq!(due, if is_due { vec![event(1)] } else { vec![] }, "{done}");
                seen.push(renamed);

                // The next start settles it, and another register can follow.
                let keys = folder(dir.path(), KeyKind::Ed25519);
                keys.settle().unwrap();
                assert_eq!(found(dir.path()), (in_force, vec![]), "{done}");
                assert!(install == 3);
                keys.install(&files(&root, 3), &[event(2)]).unwrap();
                assert_eq!(found(dir.path()), (files(&root, 3), vec![event(2)]), "{done}");
                keys.settle().unwrap();
                let written = fs::read(dir.path().join(REGISTER)).unwrap();
                assert_eq!(written, files(&root, 3).register);
                assert!(!dir.path().join(PENDING).exists());
            }
        }
        assert!(seen.contains(&true) && seen.contains(&false));
    }

    #[test]
    fn a_folder_that_takes_no_files_keeps_its_register() {
        let (dir, root) = site();
        let keys = folder(dir.path(), KeyKind::Ed25519);
        // The place of the new file is a folder: it can be neither removed nor written.
        fs::create_dir(dir.path().join("keys.install.new")).unwrap();
        let refused = keys.install(&files(&root, 2), &[event(1)]).unwrap_err();
        assert!(matches!(refused, KeyStoreError::Io { .. }), "{refused:?}");
        assert_eq!(found(dir.path()), (files(&root, 1), vec![]));
    }

    #[test]
    fn a_register_that_its_root_did_not_sign_is_not_in_force() {
        let (dir, root) = site();
        let other = Ed25519Key::generate(&SystemEntropy).unwrap();
        let mut forged = files(&root, 2);
        forged.signature = KeyRegister::sign(&forged.register, &other).unwrap().into_bytes();
        fs::write(dir.path().join(REGISTER), &forged.register).unwrap();
        fs::write(dir.path().join(SIGNATURE), &forged.signature).unwrap();
        assert!(KeyFolder::register(&DataDir::at(dir.path())).is_err());
    }

    #[test]
    fn keys_are_files_that_nobody_else_may_read_and_are_found_by_their_public_half() {
        use std::os::unix::fs::PermissionsExt as _;
        for (kind, usage) in [
            (KeyKind::Ed25519, KeyUse::Receipt),
            (KeyKind::P256, KeyUse::Receipt),
            (KeyKind::P256, KeyUse::Ledger),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let keys = folder(dir.path(), kind);
            let public = keys.create("k-2", usage).unwrap();
            let is_p256 = kind == KeyKind::P256 && usage == KeyUse::Receipt;
            assert_eq!(public.kind() == KeyKind::P256, is_p256, "checkpoints are Ed25519");
            // Prepared again before a register named it: the same key.
            assert_eq!(keys.create("k-2", usage).unwrap(), public);
            let path = dir.path().join("keys").join("k-2.pem");
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let record = record("k-2", usage, public);
            let signer = keys.signer(&record).unwrap().unwrap();
            assert_eq!(public.verify(b"m", &signer.sign(b"m").unwrap()), Ok(()));

            let other = KeyRecord { public_key: PublicKey::new([9; 32]), ..record.clone() };
            assert!(keys.signer(&other).unwrap().is_none());
            // The name that the first keys of older folders have.
            let older = if usage == KeyUse::Receipt { "receipt.pem" } else { "ledger.pem" };
            fs::rename(&path, dir.path().join("keys").join(older)).unwrap();
            assert!(keys.signer(&record).unwrap().is_some());
            fs::rename(dir.path().join("keys").join(older), &path).unwrap();

            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            let refused = keys.signer(&record).unwrap_err();
            assert!(matches!(refused, KeyStoreError::File { .. }), "{refused:?}");
        }
    }

    #[test]
    fn a_prepared_key_of_another_kind_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let first = folder(dir.path(), KeyKind::Ed25519).create("receipt-2", KeyUse::Receipt);
        let second = folder(dir.path(), KeyKind::P256).create("receipt-2", KeyUse::Receipt);
        assert_eq!(first.unwrap().kind(), KeyKind::Ed25519);
        assert_eq!(second.unwrap().kind(), KeyKind::P256);
    }
}
