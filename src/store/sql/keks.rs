//! Key-encryption keys in SQL.

use async_trait::async_trait;

use super::SqliteStore;
use super::engine::{Link, out_of_the_way, query};
use super::parse::{Fields, stored};
use super::read::parsed;
use super::write::SqlUnit;
use crate::domain::time::UnixMillis;
use crate::store::{
    CustomerKeyRow, EvidenceKeyRow, KekReads, KekRow, KekWrites, OwnKeyRow, StoreError,
};

const SELECT_KEKS: &str =
    "SELECT ordinal, kek_id, name, begun_at, ended_at, retired_at FROM keks ORDER BY ordinal";

/// Ranges instead of `<>`, so that each part is found by its index.
const COUNT_OTHERS: &str = "SELECT \
     (SELECT COUNT(*) FROM customer_keys WHERE kek_id < $1 OR kek_id > $1) \
     + (SELECT COUNT(*) FROM evidence WHERE wrapped IS NOT NULL \
        AND (kek_id IS NULL OR kek_id < $1 OR kek_id > $1)) \
     + (SELECT COUNT(*) FROM own_keys WHERE kek_id <> $1) AS keys";

impl Fields<'_> {
    fn kek(&self) -> Result<KekRow, StoreError> {
        Ok(KekRow {
            ordinal: self.natural("ordinal")?,
            kek_id: self.text("kek_id")?,
            name: self.text("name")?,
            begun_at: self.time("begun_at")?,
            ended_at: self.maybe_time("ended_at")?,
            retired_at: self.maybe_time("retired_at")?,
        })
    }

    fn own_key(&self) -> Result<OwnKeyRow, StoreError> {
        Ok(OwnKeyRow {
            purpose: self.text("purpose")?,
            kek_id: self.text("kek_id")?,
            wrapped: self.bytes("wrapped")?,
        })
    }

    fn evidence_key(&self) -> Result<EvidenceKeyRow, StoreError> {
        Ok(EvidenceKeyRow {
            index: self.natural("entry_index")?,
            receipt: self.receipt("receipt")?,
            kek_id: self.maybe_text("kek_id")?,
            wrapped: self.bytes("wrapped")?,
        })
    }
}

#[async_trait]
impl KekReads for SqliteStore {
    async fn keks(&self) -> Result<Vec<KekRow>, StoreError> {
        parsed("keks", &self.many(query(SELECT_KEKS)).await?, Fields::kek)
    }

    async fn own_keys(&self) -> Result<Vec<OwnKeyRow>, StoreError> {
        let statement = query("SELECT purpose, kek_id, wrapped FROM own_keys ORDER BY purpose");
        parsed("own_keys", &self.many(statement).await?, Fields::own_key)
    }

    async fn wrapped_under_others(&self, kek_id: &str) -> Result<u64, StoreError> {
        let row = self.sum(query(COUNT_OTHERS).bind(kek_id)).await?;
        row.map_or(Ok(0), |row| Fields::of("customer_keys", &row).natural("keys"))
    }
}

#[async_trait]
impl KekWrites for SqlUnit {
    async fn keks(&mut self) -> Result<Vec<KekRow>, StoreError> {
        let rows = query(SELECT_KEKS).all(self.connection())?;
        parsed("keks", &rows, Fields::kek)
    }

    async fn insert_kek(&mut self, row: &KekRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO keks (ordinal, kek_id, name, begun_at, ended_at, retired_at) \
                   VALUES ($1, $2, $3, $4, $5, $6)";
        let statement = query(sql)
            .bind(stored(row.ordinal))
            .bind(row.kek_id.as_str())
            .bind(row.name.as_str())
            .bind(row.begun_at.get())
            .bind(row.ended_at.map(UnixMillis::get))
            .bind(row.retired_at.map(UnixMillis::get));
        self.run(statement).map(drop)
    }

    async fn end_kek(&mut self, kek_id: &str, at: UnixMillis) -> Result<bool, StoreError> {
        self.destroys();
        let sql = "UPDATE keks SET ended_at = $2 WHERE kek_id = $1 AND ended_at IS NULL";
        Ok(self.run(query(sql).bind(kek_id).bind(at.get()))? > 0)
    }

    async fn retire_kek(&mut self, kek_id: &str, at: UnixMillis) -> Result<bool, StoreError> {
        let sql = "UPDATE keks SET retired_at = $2 WHERE kek_id = $1 AND retired_at IS NULL";
        Ok(self.run(query(sql).bind(kek_id).bind(at.get()))? > 0)
    }

    async fn put_own_key(&mut self, row: &OwnKeyRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO own_keys (purpose, kek_id, wrapped) VALUES ($1, $2, $3) \
                   ON CONFLICT (purpose) DO UPDATE SET kek_id = excluded.kek_id, wrapped = excluded.wrapped";
        let statement = query(sql)
            .bind(row.purpose.as_str())
            .bind(row.kek_id.as_str())
            .bind(row.wrapped.as_slice());
        self.run(statement).map(drop)
    }

    async fn customer_keys_under_others(
        &mut self,
        kek_id: &str,
        limit: u32,
    ) -> Result<Vec<CustomerKeyRow>, StoreError> {
        let sql = "SELECT customer, kek_id, wrapped FROM customer_keys \
                   WHERE kek_id < $1 OR kek_id > $1 LIMIT $2";
        let statement = query(sql).bind(kek_id).bind(i64::from(limit));
        let rows = statement.all(self.connection())?;
        parsed("customer_keys", &rows, Fields::customer_key)
    }

    async fn evidence_keys_under_others(
        &mut self,
        kek_id: &str,
        limit: u32,
    ) -> Result<Vec<EvidenceKeyRow>, StoreError> {
        let sql = "SELECT entry_index, receipt, kek_id, wrapped FROM evidence \
                   WHERE wrapped IS NOT NULL AND (kek_id IS NULL OR kek_id < $1 OR kek_id > $1) LIMIT $2";
        let statement = query(sql).bind(kek_id).bind(i64::from(limit));
        let rows = statement.all(self.connection())?;
        parsed("evidence", &rows, Fields::evidence_key)
    }

    async fn rewrap_customer_key(&mut self, row: &CustomerKeyRow) -> Result<(), StoreError> {
        let sql = "UPDATE customer_keys SET kek_id = $2, wrapped = $3 WHERE customer = $1";
        let statement = query(sql)
            .bind(row.customer.as_bytes().as_slice())
            .bind(row.kek_id.as_str())
            .bind(row.wrapped.as_slice());
        self.run(statement).map(drop)
    }

    async fn rewrap_evidence_key(&mut self, row: &EvidenceKeyRow) -> Result<(), StoreError> {
        let sql = "UPDATE evidence SET kek_id = $2, wrapped = $3 \
                   WHERE entry_index = $1 AND wrapped IS NOT NULL";
        let statement = query(sql)
            .bind(stored(row.index))
            .bind(row.kek_id.as_deref())
            .bind(row.wrapped.as_slice());
        self.run(statement).map(drop)
    }

    async fn wrapped_under(&mut self, kek_id: &str) -> Result<u64, StoreError> {
        let sql = "SELECT (SELECT COUNT(*) FROM customer_keys WHERE kek_id = $1) \
                   + (SELECT COUNT(*) FROM evidence WHERE wrapped IS NOT NULL \
                      AND (kek_id IS NULL OR kek_id = $1)) \
                   + (SELECT COUNT(*) FROM own_keys WHERE kek_id = $1) AS keys";
        count(self.connection(), sql, kek_id)
    }

    async fn wrapped_under_others(&mut self, kek_id: &str) -> Result<u64, StoreError> {
        count(self.connection(), COUNT_OTHERS, kek_id)
    }
}

fn count(connection: &Link, sql: &'static str, kek_id: &str) -> Result<u64, StoreError> {
    let row = out_of_the_way(|| query(sql).bind(kek_id).single(connection))?;
    Fields::of("customer_keys", &row).natural("keys")
}
