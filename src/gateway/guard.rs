//! The last-signed-head record: a second witness beside the database, never restored from a backup.
//!
//! A database put back from a backup would sign a second history from its older head. The record
//! stands outside the database, is written after each commit and before each reply, and the gateway
//! refuses to start when the database is behind it.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Mutex;

use crate::crypto::{Digest, sha256};

/// Where the last signed head is remembered.
pub trait HeadGuard: Send + Sync + std::fmt::Debug {
    /// The last recorded head; `None` if none was ever recorded.
    ///
    /// # Errors
    ///
    /// [`GuardError`] when the record cannot be read or is damaged.
    fn last(&self) -> Result<Option<(u64, Digest)>, GuardError>;

    /// Records a head durably.
    ///
    /// # Errors
    ///
    /// [`GuardError`] when it cannot be made durable.
    fn record(&self, size: u64, root: &Digest) -> Result<(), GuardError>;
}

/// The record in a file of two slots, written in turn, so that a torn write leaves the other whole.
#[derive(Debug)]
pub struct FileGuard(Mutex<File>);

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
        Ok(Self(Mutex::new(file)))
    }

    fn locked(&self) -> Result<std::sync::MutexGuard<'_, File>, GuardError> {
        self.0.lock().map_err(|_| GuardError::Damaged)
    }
}

impl HeadGuard for FileGuard {
    fn last(&self) -> Result<Option<(u64, Digest)>, GuardError> {
        let mut file = self.locked()?;
        file.seek(SeekFrom::Start(0)).map_err(GuardError::Io)?;
        let mut bytes = Vec::new();
        (&mut *file).take(2 * SLOT_BYTES).read_to_end(&mut bytes).map_err(GuardError::Io)?;
        let slots = bytes.chunks(SLOT_USIZE).filter_map(parse_slot);
        match slots.max_by_key(|(size, _)| *size) {
            Some(head) => Ok(Some(head)),
            None if bytes.iter().all(|byte| *byte == 0) => Ok(None),
            None => Err(GuardError::Damaged),
        }
    }

    fn record(&self, size: u64, root: &Digest) -> Result<(), GuardError> {
        let mut slot = Vec::with_capacity(SLOT_USIZE);
        slot.extend_from_slice(&size.to_be_bytes());
        slot.extend_from_slice(root.as_bytes());
        let sum = sha256(&slot);
        slot.extend_from_slice(sum.as_bytes());
        let mut file = self.locked()?;
        // The slot that does not hold the larger head is the one to overwrite.
        let at = self::slot_to_overwrite(&mut file)? * SLOT_BYTES;
        file.seek(SeekFrom::Start(at)).map_err(GuardError::Io)?;
        file.write_all(&slot).map_err(GuardError::Io)?;
        file.sync_data().map_err(GuardError::Io)
    }
}

fn slot_to_overwrite(file: &mut File) -> Result<u64, GuardError> {
    file.seek(SeekFrom::Start(0)).map_err(GuardError::Io)?;
    let mut bytes = Vec::new();
    file.take(2 * SLOT_BYTES).read_to_end(&mut bytes).map_err(GuardError::Io)?;
    let mut sizes = bytes.chunks(SLOT_USIZE).map(|slot| parse_slot(slot).map(|(size, _)| size));
    let (first, second) = (sizes.next().flatten(), sizes.next().flatten());
    Ok(u64::from(first > second))
}

fn parse_slot(slot: &[u8]) -> Option<(u64, Digest)> {
    let (content, sum) = slot.split_at_checked(40)?;
    if sha256(content).as_bytes() != sum {
        return None;
    }
    let (size, root) = content.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*size), Digest::try_from(root).ok()?))
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

const SLOT_BYTES: u64 = 72;
const SLOT_USIZE: usize = 72;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_survives_a_torn_write_of_either_slot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("last-signed-head");
        let guard = FileGuard::open(&path).unwrap();
        assert_eq!(guard.last().unwrap(), None);
        for size in 1..=5 {
            guard.record(size, &sha256(&[1])).unwrap();
            assert_eq!(guard.last().unwrap(), Some((size, sha256(&[1]))));
        }
        let whole = std::fs::read(&path).unwrap();
        for place in 0..whole.len() {
            let mut torn = whole.clone();
            torn[place] ^= 0xff;
            std::fs::write(&path, &torn).unwrap();
            let last = FileGuard::open(&path).unwrap().last().unwrap().unwrap().0;
            assert!(last == 5 || last == 4, "{place}: {last}");
        }
        std::fs::write(&path, [7u8; 144]).unwrap();
        assert!(matches!(FileGuard::open(&path).unwrap().last(), Err(GuardError::Damaged)));
    }
}
