//! What a witness remembers: of each ledger the largest checkpoint that it cosigned.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::crypto::{Digest, sha256};
use crate::domain::time::UnixMillis;
use crate::ledger::{Checkpoint, NOTE_BYTES_MAX, Origin, SignedNote};

/// A folder that one process at a time remembers in.
#[derive(Debug)]
pub struct StateDir {
    dir: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

/// The largest checkpoint of a ledger that was cosigned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The note, with the ledger's signature: what the ledger cannot deny.
    pub note: String,
    /// When it was cosigned.
    pub time: UnixMillis,
}

impl StateDir {
    /// Takes the folder over; it is made if there is none.
    ///
    /// # Errors
    ///
    /// [`StateError`] when it cannot be used, or another witness remembers in it: two would cosign two
    /// histories.
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        let fault = |source| StateError::Io { path: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fault)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join("lock"))
            .map_err(fault)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse(dir.to_owned())),
            Err(TryLockError::Error(source)) => Err(fault(source)),
        }
    }

    /// What is remembered of a ledger; none if nothing of it was ever cosigned.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the file cannot be read, or is not as it was written.
    pub fn read(&self, origin: &Origin) -> Result<Option<Seen>, StateError> {
        let path = self.file(origin);
        let mut text = String::new();
        match File::open(&path) {
            Ok(file) => file.take(FILE_BYTES_MAX).read_to_string(&mut text),
            Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => Err(source),
        }
        .map_err(|source| StateError::Io { path: path.clone(), source })?;
        parse(&text, origin).map(Some).ok_or(StateError::Damaged(path))
    }

    /// Remembers a larger checkpoint, durably before it returns.
    ///
    /// # Errors
    ///
    /// [`StateError::NotLarger`] unless it is larger than what is remembered now; otherwise whatever
    /// keeps it from being durable, after which either may be remembered.
    pub fn advance(&self, seen: &Seen) -> Result<(), StateError> {
        let origin = &seen.checkpoint.origin;
        if self.read(origin)?.is_some_and(|old| old.checkpoint.size >= seen.checkpoint.size) {
            return Err(StateError::NotLarger);
        }
        let path = self.file(origin);
        let fresh = path.with_extension("new");
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&fresh)?;
            file.write_all(compose(seen).as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            // The new name is not there after a power cut unless the folder says so.
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(|source| StateError::Io { path: path.clone(), source })
    }

    /// Keeps a request that its ledger signed and that does not fit what is remembered: it may prove that
    /// the ledger has two histories. At most `EVIDENCE_MAX` are kept,
    /// one a checkpoint; none says that there is no more room.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] when it cannot be written.
    pub fn keep_evidence(
        &self,
        checkpoint: &Checkpoint,
        request: &str,
    ) -> Result<Option<PathBuf>, StateError> {
        let dir = self.dir.join("evidence");
        // By what the ledger signed: anybody may send that again with other proofs, and fills nothing so.
        let path = dir.join(format!("{}.txt", sha256(checkpoint.text().as_bytes()).hex()));
        let write = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
            if path.exists() {
                return Ok(true);
            }
            if fs::read_dir(&dir)?.count() >= EVIDENCE_MAX {
                return Ok(false);
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&path)?;
            file.write_all(request.as_bytes())?;
            file.sync_all()?;
            Ok(true)
        };
        let is_kept = write().map_err(|source| StateError::Io { path: path.clone(), source })?;
        Ok(is_kept.then_some(path))
    }

    /// Origins may hold any letters: the file is named by their hash and says the origin inside.
    fn file(&self, origin: &Origin) -> PathBuf {
        self.dir.join(format!("{}.state", sha256(origin.as_str().as_bytes()).hex()))
    }
}

/// The witness cannot remember, and must not cosign.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The disk.
    #[error("{path:?} cannot be read or written")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that is not as it was written.
    #[error("{0:?} is damaged: what it held of the ledger is not known")]
    Damaged(PathBuf),
    /// Another process has the folder.
    #[error("another witness remembers in {0:?}")]
    InUse(PathBuf),
    /// A smaller or equal size would be a step back.
    #[error("the checkpoint is not larger than the one remembered")]
    NotLarger,
}

impl StateError {
    /// The word for logs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "WITNESS_STATE"
    }
}

fn compose(seen: &Seen) -> String {
    let Seen { note, time, .. } = seen;
    let sum = sum(*time, note).hex();
    format!("{HEADER}\ntime {}\nsha256 {sum}\n\n{note}", time.get())
}

fn parse(text: &str, origin: &Origin) -> Option<Seen> {
    let (head, note) = text.split_once("\n\n")?;
    let mut lines = head.split('\n');
    let (Some(HEADER), Some(time), Some(written), None) =
        (lines.next(), lines.next(), lines.next(), lines.next())
    else {
        return None;
    };
    let time = UnixMillis::new(time.strip_prefix("time ")?.parse().ok()?);
    if written.strip_prefix("sha256 ")? != sum(time, note).hex() {
        return None;
    }
    let signed = SignedNote::parse(note).ok()?;
    let (checkpoint, _) = Checkpoint::with_extensions(signed.unverified_text()).ok()?;
    (checkpoint.origin == *origin).then(|| Seen { checkpoint, note: note.to_owned(), time })
}

fn sum(time: UnixMillis, note: &str) -> Digest {
    sha256(format!("{}\n{note}", time.get()).as_bytes())
}

/// Requests kept as evidence at most.
pub const EVIDENCE_MAX: usize = 64;

const HEADER: &str = "tulga-witness-state-v1";
const FILE_BYTES_MAX: u64 = (NOTE_BYTES_MAX + 4096) as u64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Ed25519Key, SeededEntropy};

    fn seen(size: u64) -> Seen {
        let origin = Origin::try_from("a.example/log").unwrap();
        let checkpoint = Checkpoint { origin, size, root: sha256(&size.to_be_bytes()) };
        let key = Ed25519Key::generate(&SeededEntropy::new(3)).unwrap();
        let note = checkpoint.sign(&key).unwrap();
        Seen { checkpoint, note, time: UnixMillis::new(1_700_000_000_123) }
    }

    #[test]
    fn what_is_remembered_grows_and_never_shrinks() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let origin = seen(1).checkpoint.origin;
        assert_eq!(state.read(&origin).unwrap(), None);
        state.advance(&seen(5)).unwrap();
        assert_eq!(state.read(&origin).unwrap(), Some(seen(5)));
        for size in [1, 4, 5] {
            assert!(matches!(state.advance(&seen(size)), Err(StateError::NotLarger)), "{size}");
        }
        state.advance(&seen(6)).unwrap();
        drop(state);
        let again = StateDir::open(dir.path()).unwrap();
        assert_eq!(again.read(&origin).unwrap(), Some(seen(6)));
    }

    #[test]
    fn a_folder_has_one_witness() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path()).unwrap();
        assert!(matches!(StateDir::open(dir.path()), Err(StateError::InUse(_))));
        drop(first);
        assert!(StateDir::open(dir.path()).is_ok());
    }

    #[test]
    fn no_bit_of_a_remembered_checkpoint_may_change() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        state.advance(&seen(5)).unwrap();
        let origin = seen(5).checkpoint.origin;
        let path = state.file(&origin);
        let whole = fs::read(&path).unwrap();
        for place in 0..whole.len() {
            let mut altered = whole.clone();
            altered[place] ^= 1;
            fs::write(&path, &altered).unwrap();
            assert!(state.read(&origin).is_err(), "{place}");
            assert!(state.advance(&seen(9)).is_err(), "nothing is written over what is damaged");
        }
        fs::write(&path, "").unwrap();
        assert!(matches!(state.read(&origin), Err(StateError::Damaged(_))), "an empty file");
    }

    #[test]
    fn evidence_is_kept_once_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let checkpoint = |size: usize| Checkpoint {
            origin: Origin::try_from("a.example/log").unwrap(),
            size: size as u64 + 1,
            root: sha256(b"another"),
        };
        let path = state.keep_evidence(&checkpoint(0), "one").unwrap().unwrap();
        // The same checkpoint with another proof says nothing new.
        assert_eq!(state.keep_evidence(&checkpoint(0), "two").unwrap(), Some(path.clone()));
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        let kept = (0..2 * EVIDENCE_MAX)
            .filter(|size| state.keep_evidence(&checkpoint(*size), "more").unwrap().is_some());
        assert_eq!(kept.count(), EVIDENCE_MAX);
        assert_eq!(fs::read_dir(dir.path().join("evidence")).unwrap().count(), EVIDENCE_MAX);
    }
}
