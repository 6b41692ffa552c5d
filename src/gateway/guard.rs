//! The last-signed-head record: a second witness beside the database, never restored from a backup.
//!
//! A database put back from a backup would sign a second history from its older head. The record
//! stands outside the database, is written after each commit and before each reply, and the gateway
//! refuses to start when the database is behind it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Mutex;

use crate::crypto::{Digest, sha256};

/// The head that was signed last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignedHead {
    /// SHA-256 of the ledger's origin; none in a record made when a gateway had one ledger only.
    pub origin: Option<Digest>,
    /// How many entries the gateway's ledgers have together.
    pub entries: u64,
    /// How many of them are in this ledger.
    pub size: u64,
    /// The root over these.
    pub root: Digest,
}

/// Where the last signed head is remembered.
pub trait HeadGuard: Send + Sync + std::fmt::Debug {
    /// The last recorded head; `None` if none was ever recorded.
    ///
    /// # Errors
    ///
    /// [`GuardError`] when the record cannot be read or is damaged.
    fn last(&self) -> Result<Option<SignedHead>, GuardError>;

    /// Records a head durably.
    ///
    /// # Errors
    ///
    /// [`GuardError`] when it cannot be made durable.
    fn record(&self, head: &SignedHead) -> Result<(), GuardError>;
}

/// The record in a file of two slots, written in turn, so that a torn write leaves the other whole.
///
/// Before them stand the two slots of an older form, which is read and written no more.
#[derive(Debug)]
pub struct FileGuard(Mutex<Record>);

#[derive(Debug)]
struct Record {
    file: File,
    /// Which slot is written next: the one that does not hold the last head.
    next: usize,
}

impl FileGuard {
    /// Opens or makes the record.
    ///
    /// # Errors
    ///
    /// [`GuardError::Io`] when the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, GuardError> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(GuardError::Io)?;
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            // A file just made is not there after a power cut unless its folder says so.
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(GuardError::Io)?;
        }
        let next = match parse(&read(&file)?) {
            Parsed { slots: [Some(first), Some(second)], .. } => {
                usize::from(first.entries > second.entries)
            }
            Parsed { slots: [Some(_), None], .. } => 1,
            Parsed { .. } => 0,
        };
        Ok(Self(Mutex::new(Record { file, next })))
    }

    fn locked(&self) -> Result<std::sync::MutexGuard<'_, Record>, GuardError> {
        self.0.lock().map_err(|_| GuardError::Damaged)
    }
}

impl HeadGuard for FileGuard {
    fn last(&self) -> Result<Option<SignedHead>, GuardError> {
        let bytes = read(&self.locked()?.file)?;
        let Parsed { old, slots } = parse(&bytes);
        let newest = slots.into_iter().flatten().max_by_key(|head| head.entries);
        match newest.or(old) {
            Some(head) => Ok(Some(head)),
            None if bytes.iter().all(|byte| *byte == 0) => Ok(None),
            None => Err(GuardError::Damaged),
        }
    }

    fn record(&self, head: &SignedHead) -> Result<(), GuardError> {
        let SignedHead { origin, entries, size, root } = head;
        let origin = origin.ok_or(GuardError::Damaged)?;
        let mut slot = [
            entries.to_be_bytes().as_slice(),
            &size.to_be_bytes(),
            root.as_bytes(),
            origin.as_bytes(),
        ]
        .concat();
        let sum = sha256(&slot);
        slot.extend_from_slice(sum.as_bytes());
        let mut record = self.locked()?;
        let at = OLD_BYTES + record.next * SLOT_BYTES;
        let at = u64::try_from(at).map_err(|_| GuardError::Damaged)?;
        record.file.write_all_at(&slot, at).map_err(GuardError::Io)?;
        record.file.sync_data().map_err(GuardError::Io)?;
        record.next = 1 - record.next;
        Ok(())
    }
}

/// What a file holds.
struct Parsed {
    /// The newer of the two slots of the older form.
    old: Option<SignedHead>,
    slots: [Option<SignedHead>; 2],
}

fn read(file: &File) -> Result<Vec<u8>, GuardError> {
    let mut bytes = vec![0; OLD_BYTES + 2 * SLOT_BYTES];
    let mut length = 0;
    while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
        let at = u64::try_from(length).map_err(|_| GuardError::Damaged)?;
        match file.read_at(rest, at).map_err(GuardError::Io)? {
            0 => break,
            more => length += more,
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

fn parse(bytes: &[u8]) -> Parsed {
    let (old, new) = bytes.split_at_checked(OLD_BYTES).unwrap_or((bytes, &[]));
    let old = old.chunks(OLD_SLOT_BYTES).filter_map(parse_old_slot);
    let mut slots = new.chunks(SLOT_BYTES).map(parse_slot);
    Parsed {
        old: old.max_by_key(|head| head.entries),
        slots: [slots.next().flatten(), slots.next().flatten()],
    }
}

/// Entries, size, root, origin, and SHA-256 of these.
fn parse_slot(slot: &[u8]) -> Option<SignedHead> {
    let (content, sum) = slot.split_at_checked(SLOT_BYTES - 32)?;
    if sha256(content).as_bytes() != sum {
        return None;
    }
    let (entries, rest) = content.split_first_chunk::<8>()?;
    let (size, rest) = rest.split_first_chunk::<8>()?;
    let (root, origin) = rest.split_first_chunk::<32>()?;
    Some(SignedHead {
        origin: Some(Digest::try_from(origin).ok()?),
        entries: u64::from_be_bytes(*entries),
        size: u64::from_be_bytes(*size),
        root: Digest::new(*root),
    })
}

/// Size, root, and SHA-256 of these.
fn parse_old_slot(slot: &[u8]) -> Option<SignedHead> {
    let (content, sum) = slot.split_at_checked(OLD_SLOT_BYTES - 32)?;
    if sha256(content).as_bytes() != sum {
        return None;
    }
    let (size, root) = content.split_first_chunk::<8>()?;
    let size = u64::from_be_bytes(*size);
    let root = Digest::try_from(root).ok()?;
    Some(SignedHead { origin: None, entries: size, size, root })
}

/// The record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The file cannot be read or written.
    #[error("the last-signed-head record cannot be read or written")]
    Io(#[source] std::io::Error),
    /// Both slots are damaged.
    #[error("the last-signed-head record is damaged")]
    Damaged,
}

const OLD_SLOT_BYTES: usize = 72;
const OLD_BYTES: usize = 2 * OLD_SLOT_BYTES;
const SLOT_BYTES: usize = 112;

#[cfg(test)]
mod tests {
    use super::*;

    fn head(entries: u64) -> SignedHead {
        let origin = Some(sha256(b"a.example/gw/2026h2"));
        SignedHead { origin, entries, size: entries / 2, root: sha256(&entries.to_be_bytes()) }
    }

    #[test]
    fn the_record_survives_a_torn_write_of_either_slot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("last-signed-head");
        let guard = FileGuard::open(&path).unwrap();
        assert_eq!(guard.last().unwrap(), None);
        for entries in 1..=5 {
            guard.record(&head(entries)).unwrap();
            assert_eq!(guard.last().unwrap(), Some(head(entries)));
        }
        let whole = std::fs::read(&path).unwrap();
        for place in OLD_BYTES..whole.len() {
            let mut torn = whole.clone();
            torn[place] ^= 0xff;
            std::fs::write(&path, &torn).unwrap();
            let guard = FileGuard::open(&path).unwrap();
            let last = guard.last().unwrap().unwrap();
            assert!(last == head(5) || last == head(4), "{place}: {last:?}");
            // And what is written next goes over the slot that is damaged or older.
            guard.record(&head(6)).unwrap();
            let next = std::fs::read(&path).unwrap();
            let kept = parse(&next).slots;
            assert!(kept.contains(&Some(head(6))), "{place}");
            assert!(kept.contains(&Some(last)), "{place}");
        }
        std::fs::write(&path, [7u8; 400]).unwrap();
        assert!(matches!(FileGuard::open(&path).unwrap().last(), Err(GuardError::Damaged)));
    }

    #[test]
    fn a_record_of_the_older_form_is_read_and_stays_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("last-signed-head");
        let slot = |size: u64| {
            let content = [size.to_be_bytes().as_slice(), sha256(b"root").as_bytes()].concat();
            [content.as_slice(), sha256(&content).as_bytes()].concat()
        };
        let old = [slot(8), slot(7)].concat();
        std::fs::write(&path, &old).unwrap();
        let guard = FileGuard::open(&path).unwrap();
        let read = SignedHead { origin: None, entries: 8, size: 8, root: sha256(b"root") };
        assert_eq!(guard.last().unwrap(), Some(read));
        guard.record(&head(9)).unwrap();
        assert_eq!(FileGuard::open(&path).unwrap().last().unwrap(), Some(head(9)));
        assert!(std::fs::read(&path).unwrap().starts_with(&old));
    }
}
