//! What others say of the ledger, in SQL.

use async_trait::async_trait;

use super::SqliteStore;
use super::engine::query;
use super::parse::{Fields, stored};
use super::read::parsed;
use super::write::SqlUnit;
use crate::store::{StoreError, TimestampRow, WitnessReads, WitnessWrites, WitnessedRow};

#[async_trait]
impl WitnessReads for SqliteStore {
    async fn witnessed(&self, origin: &str) -> Result<Option<WitnessedRow>, StoreError> {
        let sql = "SELECT size, time FROM witnessed WHERE origin = $1";
        let row = self.one(query(sql).bind(origin)).await?;
        row.map(|row| Fields::of("witnessed", &row).witnessed()).transpose()
    }

    async fn timestamps(
        &self,
        origin: &str,
        from_size: u64,
        limit: u32,
    ) -> Result<Vec<TimestampRow>, StoreError> {
        let sql = "SELECT size, answer, time FROM timestamps \
                   WHERE origin = $1 AND size >= $2 ORDER BY size LIMIT $3";
        let statement = query(sql).bind(origin).bind(stored(from_size)).bind(i64::from(limit));
        parsed("timestamps", &self.many(statement).await?, Fields::timestamp)
    }

    async fn latest_timestamp(&self, origin: &str) -> Result<Option<TimestampRow>, StoreError> {
        let sql = "SELECT size, answer, time FROM timestamps \
                   WHERE origin = $1 ORDER BY size DESC LIMIT 1";
        let row = self.one(query(sql).bind(origin)).await?;
        row.map(|row| Fields::of("timestamps", &row).timestamp()).transpose()
    }
}

#[async_trait]
impl WitnessWrites for SqlUnit {
    async fn add_cosignature(
        &mut self,
        origin: &str,
        size: u64,
        line: &str,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE checkpoints SET text = text || $3 \
                   WHERE origin = $1 AND size = $2 AND instr(text, $3) = 0";
        let statement = query(sql).bind(origin).bind(stored(size)).bind(line);
        self.run(statement).map(drop)
    }

    async fn put_witnessed(&mut self, origin: &str, row: &WitnessedRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO witnessed (origin, size, time) VALUES ($1, $2, $3) \
                   ON CONFLICT (origin) DO UPDATE SET size = excluded.size, time = excluded.time";
        let statement = query(sql).bind(origin).bind(stored(row.size)).bind(row.time.get());
        self.run(statement).map(drop)
    }

    async fn insert_timestamp(
        &mut self,
        origin: &str,
        row: &TimestampRow,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO timestamps (origin, size, answer, time) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT DO NOTHING";
        let statement = query(sql)
            .bind(origin)
            .bind(stored(row.size))
            .bind(row.answer.as_slice())
            .bind(row.time.get());
        self.run(statement).map(drop)
    }
}
