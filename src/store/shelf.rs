//! Where sealed pictures lie: files beside the database, written by many at once.
//!
//! The database has one writer, and every terminal waits for it; a picture of megabytes must not stand
//! in that queue. So pictures are files, a folder (a shelf) a day, each written and synced before its
//! decision is made. What a shelf holds is sealed: without its row in the database nobody can open it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::domain::id::ReceiptId;
use crate::domain::time::UnixMillis;

/// Keeps sealed pictures by shelf and receipt. Its calls block.
pub trait Shelves: Send + Sync + std::fmt::Debug {
    /// Writes a picture durably; it must not be there yet.
    ///
    /// # Errors
    ///
    /// [`io::Error`] when it is there, or the disk refuses.
    fn put(&self, day: &str, receipt: &ReceiptId, sealed: &[u8]) -> io::Result<()>;

    /// Reads a picture.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] when it is not there; the disk's own errors.
    fn get(&self, day: &str, receipt: &ReceiptId) -> io::Result<Vec<u8>>;

    /// Removes a picture, and its shelf with the last one; false if it was not there.
    ///
    /// # Errors
    ///
    /// [`io::Error`] when the disk refuses.
    fn remove(&self, day: &str, receipt: &ReceiptId) -> io::Result<bool>;

    /// The pictures of the last `shelves` shelves that were written at least so long ago.
    ///
    /// # Errors
    ///
    /// [`io::Error`] when the disk refuses.
    fn older_than(&self, age: Duration, shelves: usize) -> io::Result<Vec<(String, ReceiptId)>>;
}

/// The shelf of an instant: its day in UTC.
#[must_use]
pub fn shelf_of(at: UnixMillis) -> String {
    at.rfc3339().chars().take_while(|character| *character != 'T').collect()
}

/// Shelves in a folder that only its owner may read.
#[derive(Debug)]
pub struct FileShelves(PathBuf);

impl FileShelves {
    /// The shelves in a folder, which is made with the first picture.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self(dir.into())
    }

    fn path(&self, day: &str, receipt: &ReceiptId) -> PathBuf {
        self.0.join(day).join(receipt.to_string())
    }
}

impl Shelves for FileShelves {
    fn put(&self, day: &str, receipt: &ReceiptId, sealed: &[u8]) -> io::Result<()> {
        let dir = self.0.join(day);
        if !dir.is_dir() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
            sync_dir(&self.0)?;
        }
        let path = self.path(day, receipt);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(sealed)?;
        file.sync_all()?;
        // A file just made is not there after a power cut unless its folder says so.
        sync_dir(&dir)
    }

    fn get(&self, day: &str, receipt: &ReceiptId) -> io::Result<Vec<u8>> {
        fs::read(self.path(day, receipt))
    }

    fn remove(&self, day: &str, receipt: &ReceiptId) -> io::Result<bool> {
        let was_there = match fs::remove_file(self.path(day, receipt)) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        let dir = self.0.join(day);
        if was_there {
            sync_dir(&dir)?;
            // It stays while anything else lies on it.
            drop(fs::remove_dir(&dir));
        }
        Ok(was_there)
    }

    fn older_than(&self, age: Duration, shelves: usize) -> io::Result<Vec<(String, ReceiptId)>> {
        let mut names = names_in(&self.0)?;
        names.sort_unstable_by(|a, b| b.cmp(a));
        let mut found = Vec::new();
        for day in names.into_iter().take(shelves) {
            let dir = self.0.join(&day);
            for name in names_in(&dir)? {
                let Some(receipt) = receipt_of(&name) else { continue };
                let written = match fs::metadata(dir.join(&name)) {
                    Ok(file) => file.modified()?,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                // A time in the future is young.
                if written.elapsed().is_ok_and(|elapsed| elapsed >= age) {
                    found.push((day.clone(), receipt));
                }
            }
        }
        Ok(found)
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// The names in a folder; none where there is no folder.
fn names_in(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    entries
        .filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose())
        .collect()
}

/// The receipt that a file is named by; none for a file of somebody else's.
fn receipt_of(name: &str) -> Option<ReceiptId> {
    let is_hex = name.len() == 32 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let number = u128::from_str_radix(name, 16).ok().filter(|_| is_hex)?;
    Some(ReceiptId::new(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_picture_lies_on_its_shelf_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let shelves = FileShelves::at(dir.path().join("evidence"));
        let (one, two) = (ReceiptId::new([1; 16]), ReceiptId::new([0; 16]));
        assert_eq!(shelves.older_than(Duration::ZERO, 3).unwrap(), []);
        shelves.put("2026-11-21", &one, b"sealed").unwrap();
        assert!(shelves.put("2026-11-21", &one, b"other").is_err(), "nothing is overwritten");
        assert_eq!(shelves.get("2026-11-21", &one).unwrap(), b"sealed");
        let path = dir.path().join("evidence/2026-11-21").join(one.to_string());
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(dir.path().join("evidence/2026-11-21/README"), "of somebody else").unwrap();
        shelves.put("2026-11-20", &two, b"older").unwrap();
        let both = [("2026-11-21".to_owned(), one), ("2026-11-20".to_owned(), two)];
        assert_eq!(shelves.older_than(Duration::ZERO, 2).unwrap(), both);
        assert_eq!(shelves.older_than(Duration::ZERO, 1).unwrap(), both[..1]);
        assert_eq!(shelves.older_than(Duration::from_hours(1), 2).unwrap(), []);
        assert!(shelves.remove("2026-11-20", &two).unwrap());
        assert!(!shelves.remove("2026-11-20", &two).unwrap());
        assert!(!dir.path().join("evidence/2026-11-20").exists(), "an empty day goes");
        assert!(shelves.get("2026-11-20", &two).is_err());
    }

    #[test]
    fn a_shelf_is_a_day() {
        assert_eq!(shelf_of(UnixMillis::new(1_795_226_595_123)), "2026-11-21");
    }
}
