//! `SQLite`: the embedded default.
//!
//! One writer connection, whose transactions begin `IMMEDIATE`, and a pool of readers. The journal is
//! a write-ahead log with `synchronous = FULL`: a commit is on the disk before it returns.
//! `secure_delete` overwrites what an erasure deletes, and the journal is emptied after it.

mod activations;
mod attempts;
mod cases;
mod confirmations;
mod evidence;
mod footage;
mod guests;
mod keks;
mod ledgers;
mod movements;
mod packs;
mod parse;
mod past;
mod read;
mod registers;
mod sensors;
mod unable;
mod verifications;
mod witnesses;
mod write;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::error::ErrorKind;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection as _, Row as _, SqliteConnection};

use super::StoreError;

/// A store in one `SQLite` file.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    after: Arc<After>,
}

/// What is left to do once the writer's connection is given back.
#[derive(Debug)]
struct After {
    /// Something was destroyed, and its bytes stand in the log yet.
    log_must_be_emptied: AtomicBool,
    /// The transaction was not seen to be committed.
    is_unclear: AtomicBool,
}

static MIGRATIONS: Migrator = sqlx::migrate!("src/store/sql/migrations");

/// Readers at once.
const READERS: u32 = 4;
/// Longest wait for another process's lock, and for the writer.
const BUSY: Duration = Duration::from_secs(5);

const EMPTY_LOG: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

impl SqliteStore {
    /// Opens the file, makes it if there is none, and brings its tables up to date.
    ///
    /// # Errors
    ///
    /// [`StoreError::Migration`] when the tables were made by another version or altered;
    /// [`StoreError::Unavailable`] when the file cannot be used.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, SqliteSynchronous::Full).await
    }

    /// As [`Self::open`], without ever waiting for the disk: only to learn what that waiting costs.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    #[cfg(any(test, feature = "test-support"))]
    pub async fn open_unsynced(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, SqliteSynchronous::Off).await
    }

    async fn open_with(path: &Path, synchronous: SqliteSynchronous) -> Result<Self, StoreError> {
        // Made here rather than by SQLite, so that nobody else may ever read it.
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(|cause| StoreError::Unavailable(Box::new(cause)))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            .foreign_keys(true)
            .busy_timeout(BUSY)
            .pragma("secure_delete", "ON");
        let after = Arc::new(After {
            log_must_be_emptied: AtomicBool::new(true),
            is_unclear: AtomicBool::new(true),
        });
        let left = Arc::clone(&after);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(BUSY)
            .after_release(move |connection, _| Box::pin(tidy(connection, Arc::clone(&left))))
            .connect_with(options.clone())
            .await
            .map_err(unavailable)?;
        MIGRATIONS.run(&writer).await.map_err(|cause| StoreError::Migration(Box::new(cause)))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(BUSY)
            .connect_with(options.read_only(true))
            .await
            .map_err(unavailable)?;
        Ok(Self { writer, readers, after })
    }

    /// Closes every connection; what was committed is in the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Whether the writing connection, given back, may be used again; empties its log when it must.
async fn tidy(connection: &mut SqliteConnection, after: Arc<After>) -> sqlx::Result<bool> {
    if after.is_unclear.swap(true, Ordering::SeqCst) {
        // A rollback that was asked for has been tried once the connection answers. After an error of
        // the disk SQLite rolls back by itself, and the driver then believes that it did not.
        connection.ping().await?;
    }
    if connection.is_in_transaction() {
        return Ok(false);
    }
    let empty = &after.log_must_be_emptied;
    if empty.swap(false, Ordering::SeqCst) {
        let row = sqlx::query(EMPTY_LOG).fetch_one(connection).await?;
        // A reader may hold the log back: then the next transaction's end tries again.
        empty.fetch_or(row.try_get::<i64, _>("busy")? != 0, Ordering::SeqCst);
    }
    Ok(true)
}

/// An error after which nothing was written.
fn unavailable(cause: sqlx::Error) -> StoreError {
    match cause.as_database_error().map(sqlx::error::DatabaseError::kind) {
        Some(ErrorKind::UniqueViolation) => StoreError::Exists,
        Some(ErrorKind::ForeignKeyViolation) => StoreError::unknown_customer(),
        _ => StoreError::Unavailable(Box::new(cause)),
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
        sqlx::query("UPDATE _sqlx_migrations SET checksum = x'00'")
            .execute(&store.writer)
            .await
            .unwrap();
        store.close().await;
        assert!(matches!(SqliteStore::open(&path).await, Err(StoreError::Migration(_))));
    }
}
