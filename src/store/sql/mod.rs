//! `SQLite`: the embedded default.
//!
//! One writer connection, whose transactions begin `IMMEDIATE`, and a pool of readers. The journal is
//! a write-ahead log with `synchronous = FULL`: a commit is on the disk before it returns.
//! `secure_delete` overwrites what an erasure deletes, and the journal is emptied after it.

mod activations;
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
use std::time::Duration;

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
}

/// Readers at once.
const READERS: usize = 4;
/// Longest wait for another process's lock, and for the writer.
const BUSY: Duration = Duration::from_secs(5);
/// Longest wait for readers that hold the log back; whoever comes next tries again.
const EMPTYING: Duration = Duration::from_millis(100);

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

    /// Overwrites what the log holds, where that is due; a reader may hold the log back, and then the next
    /// transaction's end tries again.
    fn empty_log(&mut self) {
        let Some(link) = self.link.as_ref().filter(|_| self.log_must_be_emptied) else { return };
        let is_emptied = || {
            link.set_busy(EMPTYING).ok()?;
            let row = query(EMPTY_LOG).single(link).ok();
            link.set_busy(BUSY).ok()?;
            Some(row?.get::<i64>("busy")? == 0)
        };
        self.log_must_be_emptied = !is_emptied().unwrap_or(false);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::store::{CheckpointRow, Store as _};

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
