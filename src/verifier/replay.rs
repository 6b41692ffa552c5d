//! Which receipts the host has acted on: in memory, or in a file that survives a restart.

use std::collections::HashMap;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::crypto::{Digest, length_prefixed, sha256};
use crate::domain::time::UnixMillis;
use crate::receipt::VerifiedReceipt;

/// How long beyond its own time a redeemed receipt is remembered, in milliseconds: a day, so that a clock
/// that is set back does not let it be redeemed again.
pub const KEPT_AFTER_MS: i64 = 24 * 60 * 60 * 1000;

/// Most receipts remembered at once.
pub const REMEMBERED_MAX: usize = 4_000_000;

/// What is redeemed once: a hash of the issuer and the receipt's id, and not of its bytes. Of one ECDSA
/// signature another can be made that verifies too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RedemptionKey(Digest);

impl RedemptionKey {
    /// The key of a receipt.
    #[must_use]
    pub fn of(receipt: &VerifiedReceipt) -> Self {
        let body = receipt.body();
        Self(sha256(&length_prefixed(&[CONTEXT, body.iss.as_bytes(), body.rid.as_bytes()])))
    }
}

/// What the host has acted on. A host of several machines shares one table among them.
pub trait ReplayTable: Send + Sync + Debug {
    /// Writes down, for good, that a receipt is acted on; only the first call for it succeeds, of two at
    /// once one. It may be forgotten a day after `until`.
    ///
    /// # Errors
    ///
    /// [`ReplayError`]: the host must not act.
    fn redeem(
        &self,
        key: &RedemptionKey,
        until: UnixMillis,
        now: UnixMillis,
    ) -> Result<(), ReplayError>;
}

/// The host must not act on a receipt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// It did before.
    #[error("the receipt was redeemed before")]
    Redeemed,
    /// More than `REMEMBERED_MAX` that may still be acted on.
    #[error("the table of redeemed receipts is full")]
    Full,
    /// The disk.
    #[error("the table of redeemed receipts cannot be written")]
    Write(#[from] io::Error),
    /// A line of the file that no table writes.
    #[error("the table of redeemed receipts is damaged")]
    Damaged,
}

/// A table that ends with the process: for tests, and behind a store of the host's own.
#[derive(Debug, Default)]
pub struct MemoryTable {
    remembered: Mutex<Remembered>,
}

impl ReplayTable for MemoryTable {
    fn redeem(
        &self,
        key: &RedemptionKey,
        until: UnixMillis,
        now: UnixMillis,
    ) -> Result<(), ReplayError> {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.make_room(key, now)?;
        remembered.until.insert(key.0, until);
        Ok(())
    }
}

/// A table in a file: a line is written and synced before the host may act. One process has it open.
#[derive(Debug)]
pub struct FileTable {
    open: Mutex<OpenFile>,
}

impl FileTable {
    /// Opens or makes the table; `now` says what may be forgotten.
    ///
    /// # Errors
    ///
    /// [`ReplayError`] when another process has it open, when it cannot be read, or when it is damaged.
    pub fn open(path: &Path, now: UnixMillis) -> Result<Self, ReplayError> {
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(beside(path, ".lock"))?;
        lock.try_lock().map_err(io::Error::from)?;
        let remembered = read(path)?;
        let mut open =
            OpenFile { path: path.to_owned(), _lock: lock, file: None, lines: 0, remembered };
        open.rewrite(now)?;
        Ok(Self { open: Mutex::new(open) })
    }

    /// Goes on in another file: one that refuses, for a test.
    #[cfg(test)]
    pub(super) fn write_to(&self, path: &Path) {
        self.open.lock().unwrap().file = Some(OpenOptions::new().write(true).open(path).unwrap());
    }
}

impl ReplayTable for FileTable {
    fn redeem(
        &self,
        key: &RedemptionKey,
        until: UnixMillis,
        now: UnixMillis,
    ) -> Result<(), ReplayError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remembered.make_room(key, now)?;
        if open.lines > 2 * open.remembered.until.len() + REWRITE_LINES_MIN {
            open.rewrite(now)?;
        }
        // A file that failed once is not trusted again: what of the line is on the disk is not known.
        let mut file = open.file.take().ok_or(ReplayError::Write(io::ErrorKind::Other.into()))?;
        file.write_all(line(&key.0, until).as_bytes())?;
        file.sync_data()?;
        open.file = Some(file);
        open.lines += 1;
        open.remembered.until.insert(key.0, until);
        Ok(())
    }
}

/// Redeemed receipts and until when each might have been acted on.
#[derive(Debug, Default)]
struct Remembered {
    until: HashMap<Digest, UnixMillis>,
    forgotten_at: usize,
}

impl Remembered {
    fn make_room(&mut self, key: &RedemptionKey, now: UnixMillis) -> Result<(), ReplayError> {
        if self.until.contains_key(&key.0) {
            return Err(ReplayError::Redeemed);
        }
        // Looking at all of them each time would cost more with each; whenever they doubled costs little.
        if self.until.len() >= (2 * self.forgotten_at).max(REWRITE_LINES_MIN) {
            self.forget(now);
        }
        if self.until.len() < REMEMBERED_MAX { Ok(()) } else { Err(ReplayError::Full) }
    }

    fn forget(&mut self, now: UnixMillis) {
        self.until.retain(|_, until| until.plus_millis(KEPT_AFTER_MS) >= now);
        self.forgotten_at = self.until.len();
    }
}

#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    _lock: File,
    file: Option<File>,
    lines: usize,
    remembered: Remembered,
}

impl OpenFile {
    /// Writes the table anew without what may be forgotten, beside the old one and then over it.
    fn rewrite(&mut self, now: UnixMillis) -> Result<(), ReplayError> {
        // Should any of this fail, which file is the table is not known: nothing is written any more.
        self.file = None;
        self.remembered.forget(now);
        let fresh = beside(&self.path, ".new");
        let mut file = File::create(&fresh)?;
        let mut lines = String::from(HEADER);
        for (key, until) in &self.remembered.until {
            lines.push_str(&line(key, *until));
        }
        file.write_all(lines.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        self.lines = self.remembered.until.len();
        self.file = Some(file);
        Ok(())
    }
}

/// Reads a table. A last line without its end was never synced, so nobody acted on it.
fn read(path: &Path) -> Result<Remembered, ReplayError> {
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => file.take(FILE_BYTES_MAX).read_to_string(&mut text)?,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(Remembered::default()),
        Err(fault) => return Err(fault.into()),
    };
    let lines = text.strip_prefix(HEADER).ok_or(ReplayError::Damaged)?;
    let whole = lines.rfind('\n').map_or("", |end| lines.get(..=end).unwrap_or_default());
    let mut remembered = Remembered::default();
    for line in whole.lines() {
        let (key, until) = line.split_once(' ').ok_or(ReplayError::Damaged)?;
        let key = Digest::from_hex(key).map_err(|_| ReplayError::Damaged)?;
        let until = until.parse().map_err(|_| ReplayError::Damaged)?;
        remembered.until.insert(key, UnixMillis::new(until));
    }
    Ok(remembered)
}

fn line(key: &Digest, until: UnixMillis) -> String {
    format!("{} {}\n", key.hex(), until.get())
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

const CONTEXT: &[u8] = b"tulga-redeemed-v1";
const HEADER: &str = "tulga-redeemed-v1\n";
const REWRITE_LINES_MIN: usize = 1024;
const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;
