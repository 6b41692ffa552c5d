//! `SQLite`: the embedded default.
//!
//! One writer connection, whose transactions begin `IMMEDIATE`, and a pool of readers. The journal is
//! a write-ahead log with `synchronous = FULL`: a commit is on the disk before it returns.
//! `secure_delete` overwrites what an erasure deletes, and the journal is emptied after it.

mod attempts;
mod cases;
mod confirmations;
mod consents;
mod engine;
mod evidence;
mod footage;
mod guests;
mod keks;
mod ledgers;
mod migration;
mod movements;
mod packs;
mod parse;
mod past;
mod principals;
mod prints;
mod proposals;
mod read;
mod registers;
mod sealing;
mod sensors;
mod unable;
mod verifications;
mod witnesses;
mod write;

use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, OwnedMutexGuard};

use self::engine::{Link, Opening, Readers, out_of_the_way, query};
use super::StoreError;

/// A store in one `SQLite` file.
#[derive(Clone)]
pub struct SqliteStore {
    writer: Arc<Mutex<Writer>>,
    readers: Arc<Readers>,
}

/// The connection that writes.
struct Writer {
    opening: Opening,
    /// None after a fault that leaves it in doubt, and once the store is closed.
    link: Option<Link>,
    is_closed: bool,
    /// Something was destroyed, and its bytes stand in the log yet.
    log_must_be_emptied: bool,
    /// When emptying it failed last.
    emptying_failed: Option<Instant>,
}

/// Readers at once.
const READERS: usize = 4;
/// Longest wait for another process's lock, and for the writer.
const BUSY: Duration = Duration::from_secs(5);
/// Longest wait for readers that hold the log back.
const EMPTYING: Duration = Duration::from_millis(100);
/// Behind a failure to empty it, until whoever comes next tries again: others would wait for each try.
const EMPTYING_AGAIN: Duration = Duration::from_secs(1);

const EMPTY_LOG: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

impl SqliteStore {
    /// Opens the file, makes it if there is none, and brings its tables up to date.
    ///
    /// # Errors
    ///
    /// [`StoreError::Migration`] when the tables were made by another version or altered;
    /// [`StoreError::Unavailable`] when the file cannot be used.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, true).await
    }

    /// As [`Self::open`], without ever waiting for the disk: only to learn what that waiting costs.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    #[cfg(any(test, feature = "test-support"))]
    pub async fn open_unsynced(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, false).await
    }

    async fn open_with(path: &Path, is_synced: bool) -> Result<Self, StoreError> {
        // Made here rather than by SQLite, so that nobody else may ever read it.
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(|cause| StoreError::Unavailable(Box::new(cause)))?;
        let opening = Opening { path: path.to_owned(), is_synced, busy: BUSY };
        let mut writer = Writer {
            opening: opening.clone(),
            link: None,
            is_closed: false,
            log_must_be_emptied: true,
            emptying_failed: None,
        };
        out_of_the_way(|| {
            migration::migrate(writer.link()?)?;
            writer.empty_log();
            Ok(())
        })?;
        let readers = Arc::new(Readers::new(opening, READERS));
        // A file that cannot be read is noticed now.
        drop(readers.acquire().await?);
        Ok(Self { writer: Arc::new(Mutex::new(writer)), readers })
    }

    /// Closes every connection; what was committed is in the file.
    pub async fn close(&self) {
        self.readers.close();
        let mut writer = self.writer.lock().await;
        writer.is_closed = true;
        let link = writer.link.take();
        out_of_the_way(|| drop(link));
    }

    /// The writer, once nobody else has it.
    async fn writer(&self) -> Result<OwnedMutexGuard<Writer>, StoreError> {
        let turn = Arc::clone(&self.writer).lock_owned();
        let turn = tokio::time::timeout(BUSY, turn).await;
        turn.map_err(|cause| StoreError::Unavailable(Box::new(cause)))
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SqliteStore")
    }
}

impl Writer {
    /// Its connection, made anew where a fault took the last one.
    fn link(&mut self) -> Result<&Link, StoreError> {
        if self.is_closed {
            return Err(StoreError::Unavailable("the store is closed".into()));
        }
        let link = match self.link.take() {
            Some(link) => link,
            None => self.opening.writer()?,
        };
        Ok(self.link.insert(link))
    }

    /// Whether the log is to be emptied now.
    fn must_empty_log(&self) -> bool {
        let rests = |failed: Instant| failed.elapsed() < EMPTYING_AGAIN;
        self.log_must_be_emptied && !self.is_closed && !self.emptying_failed.is_some_and(rests)
    }

    /// Overwrites what the log holds, where that is due; a reader may hold the log back, and then the end of a
    /// later transaction tries again.
    fn empty_log(&mut self) {
        if !self.must_empty_log() {
            return;
        }
        let is_emptied = self.try_to_empty_log().unwrap_or(false);
        self.log_must_be_emptied = !is_emptied;
        self.emptying_failed = (!is_emptied).then(Instant::now);
    }

    /// A commit whose fate is unclear took the connection and left its bytes: another one empties the log.
    fn try_to_empty_log(&mut self) -> Option<bool> {
        let link = self.link().ok()?;
        link.set_busy(EMPTYING).ok()?;
        let row = query(EMPTY_LOG).single(link).ok();
        link.set_busy(BUSY).ok()?;
        Some(row?.get::<i64>("busy")? == 0)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::store::{CheckpointRow, Store as _, UnitOfWork as _};

    #[tokio::test]
    async fn what_is_committed_is_there_after_a_restart_and_what_is_dropped_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tulga.sqlite");
        let store = SqliteStore::open(&path).await.unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let row = |size| CheckpointRow {
            size,
            text: "note".into(),
            time: crate::domain::time::UnixMillis::new(1),
        };
        let mut unit = store.begin().await.unwrap();
        unit.insert_checkpoint("o", &row(1)).await.unwrap();
        unit.commit().await.unwrap();
        let mut unit = store.begin().await.unwrap();
        unit.insert_checkpoint("o", &row(2)).await.unwrap();
        drop(unit);
        store.close().await;
        let store = SqliteStore::open(&path).await.unwrap();
        assert_eq!(store.latest_checkpoint("o").await.unwrap(), Some(row(1)));
    }

    #[tokio::test]
    async fn a_reader_that_was_left_in_a_transaction_is_not_lent_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tulga.sqlite");
        let store = SqliteStore::open(&path).await.unwrap();
        let reader = store.readers.acquire().await.unwrap();
        reader.script("BEGIN").unwrap();
        assert!(reader.is_in_transaction());
        drop(reader);
        let reader = store.readers.acquire().await.unwrap();
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            reader.at_one_moment(|_| -> Result<(), StoreError> { panic!("in the middle of it") })
        }));
        assert!(broken.is_err());
        for _ in 0..2 {
            assert!(!store.readers.acquire().await.unwrap().is_in_transaction());
        }
    }

    #[tokio::test]
    async fn what_was_destroyed_leaves_the_log_also_where_the_connection_was_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tulga.sqlite");
        let store = SqliteStore::open(&path).await.unwrap();
        let log = dir.path().join("tulga.sqlite-wal");
        let size = || std::fs::metadata(&log).map_or(0, |file| file.len());
        let mut writer = store.writer().await.unwrap();
        writer.link().unwrap().script("CREATE TABLE t (x); DROP TABLE t").unwrap();
        // Somebody else has the file open, so that closing the writer leaves the log.
        assert_eq!(store.latest_checkpoint("o").await.unwrap(), None);
        assert!(size() > 0);
        let mut unit = write::SqlUnit::begin(writer).unwrap();
        unit.destroys();
        unit.connection().script("ROLLBACK").unwrap();
        let committed = Box::new(unit).commit().await;
        assert!(matches!(committed, Err(StoreError::CommitUnclear(_))), "{committed:?}");
        assert_eq!(size(), 0);
        let mut writer = store.writer().await.unwrap();
        assert!(!writer.log_must_be_emptied);
        writer.emptying_failed = Some(Instant::now());
        writer.log_must_be_emptied = true;
        assert!(!writer.must_empty_log(), "not again at once");
        writer.emptying_failed = Instant::now().checked_sub(EMPTYING_AGAIN);
        assert!(writer.must_empty_log());
    }

    #[tokio::test]
    async fn an_altered_history_of_migrations_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tulga.sqlite");
        let store = SqliteStore::open(&path).await.unwrap();
        let mut writer = store.writer().await.unwrap();
        writer.link().unwrap().script("UPDATE _sqlx_migrations SET checksum = x'00'").unwrap();
        drop(writer);
        store.close().await;
        assert!(matches!(SqliteStore::open(&path).await, Err(StoreError::Migration(_))));
    }
}
