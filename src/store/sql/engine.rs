//! Statements, rows and the connections that they run on.
//!
//! A statement runs where it is asked: handing each to a thread of its own would cost more than the
//! statement. What waits for the disk, a commit or many rows, steps out of the runtime's way.

use std::borrow::Cow;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, Value};
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::block_in_place;

use crate::store::StoreError;

/// How a connection is made.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    pub path: PathBuf,
    /// Whether a commit waits for the disk.
    pub is_synced: bool,
    /// Longest wait for another process's lock.
    pub busy: Duration,
}

/// A connection.
pub(super) struct Link(Connection);

impl Opening {
    /// A connection that writes.
    pub fn writer(&self) -> Result<Link, StoreError> {
        let link = self.open(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let synchronous = if self.is_synced { "FULL" } else { "OFF" };
        for (name, value) in
            [("journal_mode", "WAL"), ("synchronous", synchronous), ("secure_delete", "ON")]
        {
            let set = link.0.pragma_update_and_check(None, name, value, |_| Ok(()));
            // `synchronous` answers nothing.
            set.or_else(|error| match error {
                rusqlite::Error::QueryReturnedNoRows => Ok(()),
                other => Err(unavailable(other)),
            })?;
        }
        Ok(link)
    }

    /// A connection that cannot write.
    pub fn reader(&self) -> Result<Link, StoreError> {
        self.open(OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    fn open(&self, access: OpenFlags) -> Result<Link, StoreError> {
        // One thread at a time holds a connection.
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(unavailable)?;
        connection.busy_timeout(self.busy).map_err(unavailable)?;
        connection.pragma_update(None, "foreign_keys", "ON").map_err(unavailable)?;
        connection.set_prepared_statement_cache_capacity(PREPARED_MAX);
        // A prepared statement keeps its plan; without this many are compiled anew with each argument.
        let is_stable = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true);
        is_stable.map_err(unavailable)?;
        Ok(Link(connection))
    }
}

impl Link {
    /// Runs statements that take no arguments and answer nothing.
    pub fn script(&self, sql: &str) -> rusqlite::Result<()> {
        self.0.execute_batch(sql)
    }

    /// Whether a transaction is open.
    pub fn is_in_transaction(&self) -> bool {
        !self.0.is_autocommit()
    }

    /// Another wait for another process's lock.
    pub fn set_busy(&self, wait: Duration) -> rusqlite::Result<()> {
        self.0.busy_timeout(wait)
    }
}

/// A statement with its arguments, `$1` the first.
pub(super) struct Statement<'q> {
    sql: Cow<'q, str>,
    arguments: Vec<ToSqlOutput<'q>>,
}

/// A statement without its arguments yet.
pub(super) fn query<'q>(sql: impl Into<Cow<'q, str>>) -> Statement<'q> {
    Statement { sql: sql.into(), arguments: Vec::new() }
}

impl<'q> Statement<'q> {
    /// The statement with its next argument.
    #[must_use]
    pub fn bind(mut self, argument: impl Argument<'q>) -> Self {
        self.arguments.push(argument.output());
        self
    }

    /// How many rows it touched.
    pub fn run(&self, link: &Link) -> Result<u64, StoreError> {
        self.prepared(link, |statement| {
            let touched = statement.raw_execute()?;
            Ok(u64::try_from(touched).unwrap_or(u64::MAX))
        })
    }

    /// Every row.
    pub fn all(&self, link: &Link) -> Result<Vec<Row>, StoreError> {
        self.prepared(link, |statement| {
            let columns: Arc<[String]> = statement.column_names().map(str::to_owned).collect();
            let mut rows = statement.raw_query();
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let values = (0..columns.len()).map(|at| row.get::<_, Value>(at));
                let values = values.collect::<rusqlite::Result<_>>()?;
                all.push(Row { columns: Arc::clone(&columns), values });
            }
            Ok(all)
        })
    }

    /// The first row, where there is one.
    pub fn one(&self, link: &Link) -> Result<Option<Row>, StoreError> {
        Ok(self.all(link)?.into_iter().next())
    }

    /// The row of a statement that always gives one.
    pub fn single(&self, link: &Link) -> Result<Row, StoreError> {
        self.one(link)?.ok_or_else(|| unavailable(rusqlite::Error::QueryReturnedNoRows))
    }

    fn prepared<T>(
        &self,
        link: &Link,
        work: impl FnOnce(&mut rusqlite::CachedStatement<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut statement = link.0.prepare_cached(&self.sql).map_err(unavailable)?;
        for at in 1..=statement.parameter_count() {
            let name = statement.parameter_name(at).unwrap_or_default();
            let number = name.get(1..).and_then(|digits| digits.parse::<usize>().ok());
            let argument = number.and_then(|number| self.arguments.get(number.checked_sub(1)?));
            let argument = argument.ok_or(rusqlite::Error::InvalidParameterName(name.to_owned()));
            let bound = argument.and_then(|argument| statement.raw_bind_parameter(at, argument));
            bound.map_err(unavailable)?;
        }
        work(&mut statement).map_err(unavailable)
    }
}

/// A statement that is put together piece by piece.
pub(super) struct Builder<'q> {
    sql: String,
    arguments: Vec<ToSqlOutput<'q>>,
}

impl<'q> Builder<'q> {
    pub fn new(sql: &str) -> Self {
        Self { sql: sql.to_owned(), arguments: Vec::new() }
    }

    /// Adds text.
    pub fn push(&mut self, sql: &str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    /// Adds an argument.
    pub fn push_bind(&mut self, argument: impl Argument<'q>) -> &mut Self {
        self.arguments.push(argument.output());
        self.sql.push('$');
        self.sql.push_str(&self.arguments.len().to_string());
        self
    }

    pub fn build(self) -> Statement<'q> {
        Statement { sql: self.sql.into(), arguments: self.arguments }
    }
}

/// What a statement takes.
pub(super) trait Argument<'q> {
    fn output(self) -> ToSqlOutput<'q>;
}

macro_rules! arguments {
    ($($type:ty: |$value:ident| $output:expr;)+) => { $(
        impl<'q> Argument<'q> for $type {
            fn output(self) -> ToSqlOutput<'q> {
                let $value = self;
                $output
            }
        }
    )+ };
}

arguments! {
    &'q str: |text| text.into();
    &'q String: |text| text.as_str().into();
    String: |text| ToSqlOutput::Owned(Value::Text(text));
    &'q [u8]: |bytes| bytes.into();
    &'q Vec<u8>: |bytes| bytes.as_slice().into();
    Vec<u8>: |bytes| ToSqlOutput::Owned(Value::Blob(bytes));
    i64: |number| ToSqlOutput::Owned(Value::Integer(number));
    i32: |number| ToSqlOutput::Owned(Value::Integer(number.into()));
    u32: |number| ToSqlOutput::Owned(Value::Integer(number.into()));
    bool: |flag| ToSqlOutput::Owned(Value::Integer(flag.into()));
}

impl<'q, const N: usize> Argument<'q> for &'q [u8; N] {
    fn output(self) -> ToSqlOutput<'q> {
        self.as_slice().into()
    }
}

impl<'q, T: Argument<'q>> Argument<'q> for Option<T> {
    fn output(self) -> ToSqlOutput<'q> {
        self.map_or(ToSqlOutput::Owned(Value::Null), Argument::output)
    }
}

/// A row that was read.
pub(super) struct Row {
    columns: Arc<[String]>,
    values: Vec<Value>,
}

impl Row {
    /// The value of a column, where there is such a column and its value is of the type.
    pub fn get<T: FromValue>(&self, column: &str) -> Option<T> {
        let at = self.columns.iter().position(|name| name == column)?;
        self.at(at)
    }

    /// The same by the column's place.
    pub fn at<T: FromValue>(&self, place: usize) -> Option<T> {
        self.values.get(place).and_then(T::from_value)
    }
}

/// What a column holds.
pub(super) trait FromValue: Sized {
    fn from_value(value: &Value) -> Option<Self>;
}

macro_rules! values {
    ($($type:ty: $pattern:pat => $value:expr;)+) => { $(
        impl FromValue for $type {
            fn from_value(value: &Value) -> Option<Self> {
                match value {
                    $pattern => Some($value),
                    _ => None,
                }
            }
        }
    )+ };
}

values! {
    String: Value::Text(text) => text.clone();
    Vec<u8>: Value::Blob(bytes) => bytes.clone();
    i64: Value::Integer(number) => *number;
    bool: Value::Integer(number) => *number != 0;
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}

/// Connections for questions, opened when they are first needed.
pub(super) struct Readers {
    opening: Opening,
    permits: Semaphore,
    idle: Mutex<Vec<Link>>,
}

impl Readers {
    pub fn new(opening: Opening, count: usize) -> Self {
        Self { opening, permits: Semaphore::new(count), idle: Mutex::default() }
    }

    /// A connection, for as long as the answer is held.
    pub async fn acquire(&self) -> Result<Reader<'_>, StoreError> {
        let waiting = tokio::time::timeout(self.opening.busy, self.permits.acquire());
        let permit = waiting.await.map_err(|cause| StoreError::Unavailable(cause.into()))?;
        let permit = permit.map_err(|cause| StoreError::Unavailable(cause.into()))?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let link = idle.map_or_else(|| self.opening.reader(), Ok)?;
        Ok(Reader { readers: self, link: Some(link), _permit: permit })
    }

    /// No more are given; those that are idle are closed.
    pub fn close(&self) {
        self.permits.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A connection that is lent.
pub(super) struct Reader<'a> {
    readers: &'a Readers,
    link: Option<Link>,
    _permit: SemaphorePermit<'a>,
}

impl Reader<'_> {
    /// Asks it several times of one state.
    pub fn at_one_moment<T>(
        &self,
        work: impl FnOnce(&Link) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.script("BEGIN").map_err(unavailable)?;
        let answer = work(self);
        self.script("ROLLBACK").map_err(unavailable)?;
        answer
    }

    /// Asks it, out of the runtime's way where the answer may be long.
    pub fn all(&self, statement: &Statement<'_>) -> Result<Vec<Row>, StoreError> {
        out_of_the_way(|| statement.all(self))
    }
}

impl Deref for Reader<'_> {
    type Target = Link;

    #[allow(clippy::expect_used, reason = "it is taken when this is dropped, and not before")]
    fn deref(&self) -> &Link {
        self.link.as_ref().expect("a reader has its connection")
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        // In a transaction it would go on answering from the state of then.
        let link = self.link.take().filter(|link| !link.is_in_transaction());
        let mut idle = self.readers.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.readers.permits.is_closed() {
            idle.extend(link);
        }
    }
}

/// Does what may take long where the runtime's other tasks need not wait for it.
pub(super) fn out_of_the_way<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(work),
        _ => work(),
    }
}

/// An error after which nothing was written.
pub(super) fn unavailable(cause: rusqlite::Error) -> StoreError {
    match cause.sqlite_error().map(|error| error.extended_code) {
        Some(
            ffi::SQLITE_CONSTRAINT_UNIQUE
            | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
            | ffi::SQLITE_CONSTRAINT_ROWID,
        ) => StoreError::Exists,
        Some(ffi::SQLITE_CONSTRAINT_FOREIGNKEY) => StoreError::unknown_customer(),
        _ => StoreError::Unavailable(Box::new(cause)),
    }
}

/// Whether another connection has the lock.
pub(super) fn is_busy(cause: &rusqlite::Error) -> bool {
    cause.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

/// What a failed `COMMIT` means.
pub(super) fn uncommitted(cause: rusqlite::Error) -> StoreError {
    use ErrorCode::{ConstraintViolation, DatabaseBusy, DatabaseLocked, ReadOnly};
    match cause.sqlite_error_code() {
        // They are raised before a commit is written; an error of the disk may strike after it.
        Some(DatabaseBusy | DatabaseLocked | ReadOnly | ConstraintViolation) => {
            StoreError::Unavailable(Box::new(cause))
        }
        _ => StoreError::CommitUnclear(Box::new(cause)),
    }
}

/// More than there are statements.
const PREPARED_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn a_prepared_statement_is_not_compiled_anew_for_another_argument() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plans.sqlite");
        std::fs::File::create(&path).unwrap();
        let opening = Opening { path, is_synced: false, busy: Duration::ZERO };
        let link = opening.writer().unwrap();
        link.script("CREATE TABLE t (a, b, c); CREATE INDEX t_by_a ON t (a, b)").unwrap();
        let asked =
            |argument: i64| query("SELECT c FROM t WHERE a = $1 ORDER BY b, c").bind(argument);
        for argument in 0..3 {
            assert!(asked(argument).all(&link).unwrap().is_empty());
        }
        let times = asked(3).prepared(&link, |statement| {
            let status = |of| statement.get_status(of);
            Ok((status(StatementStatus::Run), status(StatementStatus::RePrepare)))
        });
        assert_eq!(times.unwrap(), (3, 0));
    }
}
