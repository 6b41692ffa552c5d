//! Tries and locks in SQL.

use async_trait::async_trait;

use super::SqliteStore;
use super::engine::query;
use super::parse::{Fields, stored};
use super::write::SqlUnit;
use crate::crypto::Digest;
use crate::domain::id::CustomerId;
use crate::domain::time::UnixMillis;
use crate::store::{
    AttemptQuestions, Attempts, HolderLockRow, LockRow, LockedWho, StoreError, Tries, TryRow,
};

const SELECT_TRIES: &str = "SELECT COUNT(*) AS counted, COALESCE(SUM(failed), 0) AS failed, \
     MAX(at) AS latest FROM tries WHERE subject = $1 AND at > $2";
const SELECT_HOLDER_LOCK: &str = "SELECT customer, locked, asked_at, set_at, entry_index \
     FROM holder_locks WHERE customer = $1";

/// Every column of a lock, behind a condition.
macro_rules! locks_where {
    ($condition:literal) => {
        concat!(
            "SELECT subject, customer, nobody, locked_at, entry_index FROM biometric_locks WHERE ",
            $condition
        )
    };
}

impl Fields<'_> {
    fn tries(&self) -> Result<Tries, StoreError> {
        let count = |column| u32::try_from(self.integer(column)?).map_err(|_| self.broken(column));
        Ok(Tries {
            counted: count("counted")?,
            failed: count("failed")?,
            latest: self.maybe_time("latest")?,
        })
    }

    fn maybe_index(&self, column: &'static str) -> Result<Option<u64>, StoreError> {
        let index = self.maybe_integer(column)?.map(u64::try_from).transpose();
        index.map_err(|_| self.broken(column))
    }

    fn biometric_lock(&self) -> Result<LockRow, StoreError> {
        let who = match self.maybe_text("nobody")? {
            Some(nobody) => LockedWho::Nobody(nobody),
            None => LockedWho::Customer(self.customer("customer")?),
        };
        Ok(LockRow {
            subject: self.digest("subject")?,
            who,
            locked_at: self.time("locked_at")?,
            index: self.maybe_index("entry_index")?,
        })
    }

    fn holder_lock(&self) -> Result<HolderLockRow, StoreError> {
        Ok(HolderLockRow {
            customer: self.customer("customer")?,
            locked: self.flag("locked")?,
            asked_at: self.time("asked_at")?,
            set_at: self.time("set_at")?,
            index: self.natural("entry_index")?,
        })
    }
}

#[async_trait]
impl AttemptQuestions for SqliteStore {
    async fn tries(&self, subject: &Digest, since: UnixMillis) -> Result<Tries, StoreError> {
        let statement = query(SELECT_TRIES).bind(subject.as_bytes().as_slice()).bind(since.get());
        let row = self.one(statement).await?;
        row.map_or(Ok(Tries::default()), |row| Fields::of("tries", &row).tries())
    }

    async fn biometric_lock(&self, subject: &Digest) -> Result<Option<LockRow>, StoreError> {
        let statement = query(locks_where!("subject = $1")).bind(subject.as_bytes().as_slice());
        let row = self.one(statement).await?;
        row.map(|row| Fields::of("biometric_locks", &row).biometric_lock()).transpose()
    }

    async fn locks_not_entered(&self, limit: u32) -> Result<Vec<LockRow>, StoreError> {
        let sql = locks_where!("entry_index IS NULL ORDER BY locked_at, subject LIMIT $1");
        let rows = self.many(query(sql).bind(i64::from(limit))).await?;
        rows.iter().map(|row| Fields::of("biometric_locks", row).biometric_lock()).collect()
    }

    async fn holder_lock(
        &self,
        customer: &CustomerId,
    ) -> Result<Option<HolderLockRow>, StoreError> {
        let statement = query(SELECT_HOLDER_LOCK).bind(customer.as_bytes().as_slice());
        let row = self.one(statement).await?;
        row.map(|row| Fields::of("holder_locks", &row).holder_lock()).transpose()
    }
}

#[async_trait]
impl Attempts for SqlUnit {
    async fn insert_try(&mut self, row: &TryRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO tries (id, subject, at, failed) VALUES ($1, $2, $3, FALSE)";
        let statement = query(sql)
            .bind(row.id.as_bytes().as_slice())
            .bind(row.subject.as_bytes().as_slice())
            .bind(row.at.get());
        self.run(statement).map(drop)
    }

    async fn tries(&mut self, subject: &Digest, since: UnixMillis) -> Result<Tries, StoreError> {
        let statement = query(SELECT_TRIES).bind(subject.as_bytes().as_slice()).bind(since.get());
        let row = statement.single(self.connection())?;
        Fields::of("tries", &row).tries()
    }

    async fn fail_try(&mut self, id: &Digest, subject: &Digest) -> Result<bool, StoreError> {
        let sql = "UPDATE tries SET failed = TRUE WHERE id = $1 AND subject = $2";
        let statement =
            query(sql).bind(id.as_bytes().as_slice()).bind(subject.as_bytes().as_slice());
        Ok(self.run(statement)? > 0)
    }

    async fn delete_try(&mut self, id: &Digest, subject: &Digest) -> Result<bool, StoreError> {
        let sql = "DELETE FROM tries WHERE id = $1 AND subject = $2";
        let statement =
            query(sql).bind(id.as_bytes().as_slice()).bind(subject.as_bytes().as_slice());
        Ok(self.run(statement)? > 0)
    }

    async fn refund_try(&mut self, id: &Digest) -> Result<u64, StoreError> {
        self.run(query("DELETE FROM tries WHERE id = $1").bind(id.as_bytes().as_slice()))
    }

    async fn forget_tries(
        &mut self,
        subject: &Digest,
        before: UnixMillis,
    ) -> Result<u64, StoreError> {
        let sql = "DELETE FROM tries WHERE subject = $1 AND (failed OR at < $2)";
        self.run(query(sql).bind(subject.as_bytes().as_slice()).bind(before.get()))
    }

    async fn delete_tries(&mut self, before: UnixMillis) -> Result<u64, StoreError> {
        self.run(query("DELETE FROM tries WHERE at < $1").bind(before.get()))
    }

    async fn biometric_lock(&mut self, subject: &Digest) -> Result<Option<LockRow>, StoreError> {
        let statement = query(locks_where!("subject = $1")).bind(subject.as_bytes().as_slice());
        let row = statement.one(self.connection())?;
        row.map(|row| Fields::of("biometric_locks", &row).biometric_lock()).transpose()
    }

    async fn put_biometric_lock(&mut self, row: &LockRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO biometric_locks (subject, customer, nobody, locked_at, entry_index) \
                   VALUES ($1, $2, $3, $4, $5) ON CONFLICT (subject) DO UPDATE SET \
                   customer = excluded.customer, nobody = excluded.nobody, \
                   locked_at = excluded.locked_at, entry_index = excluded.entry_index";
        let (customer, nobody) = match &row.who {
            LockedWho::Customer(id) => (Some(id.as_bytes().as_slice()), None),
            LockedWho::Nobody(name) => (None, Some(name.as_str())),
        };
        let statement = query(sql)
            .bind(row.subject.as_bytes().as_slice())
            .bind(customer)
            .bind(nobody)
            .bind(row.locked_at.get())
            .bind(row.index.map(stored));
        self.run(statement).map(drop)
    }

    async fn delete_biometric_lock(&mut self, subject: &Digest) -> Result<bool, StoreError> {
        let sql = "DELETE FROM biometric_locks WHERE subject = $1";
        Ok(self.run(query(sql).bind(subject.as_bytes().as_slice()))? > 0)
    }

    async fn delete_locks_of_nobody(&mut self, before: UnixMillis) -> Result<u64, StoreError> {
        let sql = "DELETE FROM biometric_locks WHERE nobody IS NOT NULL \
                   AND entry_index IS NOT NULL AND locked_at < $1";
        self.run(query(sql).bind(before.get()))
    }

    async fn holder_lock(
        &mut self,
        customer: &CustomerId,
    ) -> Result<Option<HolderLockRow>, StoreError> {
        let statement = query(SELECT_HOLDER_LOCK).bind(customer.as_bytes().as_slice());
        let row = statement.one(self.connection())?;
        row.map(|row| Fields::of("holder_locks", &row).holder_lock()).transpose()
    }

    async fn put_holder_lock(&mut self, row: &HolderLockRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO holder_locks (customer, locked, asked_at, set_at, entry_index) \
                   VALUES ($1, $2, $3, $4, $5) ON CONFLICT (customer) DO UPDATE SET \
                   locked = excluded.locked, asked_at = excluded.asked_at, \
                   set_at = excluded.set_at, entry_index = excluded.entry_index";
        let statement = query(sql)
            .bind(row.customer.as_bytes().as_slice())
            .bind(row.locked)
            .bind(row.asked_at.get())
            .bind(row.set_at.get())
            .bind(stored(row.index));
        self.run(statement).map(drop)
    }
}
