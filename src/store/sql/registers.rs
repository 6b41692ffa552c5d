//! Registers in SQL.

use async_trait::async_trait;

use super::SqliteStore;
use super::engine::{Builder, query};
use super::parse::{Fields, stored};
use super::write::SqlUnit;
use crate::crypto::Digest;
use crate::domain::register::{Register, SourceCode};
use crate::domain::time::UnixMillis;
use crate::store::{
    RegisterQuestion, RegisterReads, RegisterRow, RegisterValueRow, Registers, StoreError,
};

/// Values in one statement: five arguments each, of 32,766 at most.
const VALUES_MAX: usize = 1_000;

const SELECT_IN_FORCE: &str = "SELECT register, version, hash, row_count, imported_at, entry_index \
     FROM registers AS newest WHERE version = \
     (SELECT MAX(version) FROM registers WHERE register = newest.register) ORDER BY register";

#[async_trait]
impl RegisterReads for SqliteStore {
    async fn registers(&self) -> Result<Vec<RegisterRow>, StoreError> {
        let rows = self.many(query(SELECT_IN_FORCE)).await?;
        rows.iter().map(|row| Fields::of("registers", row).register_version()).collect()
    }

    async fn register_values(
        &self,
        register: Register,
        version: u64,
        after: Option<&Digest>,
        limit: u32,
    ) -> Result<Vec<RegisterValueRow>, StoreError> {
        let sql = "SELECT value_index, note, valid_until FROM register_rows \
                   WHERE register = $1 AND version = $2 AND value_index > $3 \
                   ORDER BY value_index LIMIT $4";
        // Nothing comes before every digest but the empty text of bytes.
        let after = after.map_or(&[][..], |value| value.as_bytes().as_slice());
        let statement = query(sql).bind(register.as_str()).bind(stored(version)).bind(after);
        let rows = self.many(statement.bind(i64::from(limit))).await?;
        rows.iter().map(|row| Fields::of("register_rows", row).register_value()).collect()
    }
}

#[async_trait]
impl Registers for SqlUnit {
    async fn registers(&mut self) -> Result<Vec<RegisterRow>, StoreError> {
        let rows = query(SELECT_IN_FORCE).all(self.connection())?;
        rows.iter().map(|row| Fields::of("registers", row).register_version()).collect()
    }

    async fn insert_register(&mut self, row: &RegisterRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO registers \
                   (register, version, hash, row_count, imported_at, entry_index) \
                   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
        let statement = query(sql)
            .bind(row.register.as_str())
            .bind(stored(row.version))
            .bind(row.hash.as_bytes().as_slice())
            .bind(stored(row.count))
            .bind(row.imported_at.get())
            .bind(stored(row.index));
        if self.run(statement)? == 1 { Ok(()) } else { Err(StoreError::Exists) }
    }

    async fn insert_register_values(
        &mut self,
        register: Register,
        version: u64,
        rows: &[RegisterValueRow],
    ) -> Result<(), StoreError> {
        for rows in rows.chunks(VALUES_MAX) {
            let mut builder = Builder::new(
                "INSERT INTO register_rows (register, version, value_index, note, valid_until) VALUES ",
            );
            for (place, row) in rows.iter().enumerate() {
                builder.push(if place == 0 { "(" } else { ", (" });
                builder.push_bind(register.as_str()).push(", ").push_bind(stored(version));
                builder.push(", ").push_bind(row.value.as_bytes().as_slice());
                builder.push(", ").push_bind(row.note.as_ref().map(SourceCode::as_str));
                builder.push(", ").push_bind(row.valid_until.map(UnixMillis::get)).push(")");
            }
            builder.push(" ON CONFLICT DO NOTHING");
            let inserted = self.run(builder.build())?;
            if inserted != u64::try_from(rows.len()).unwrap_or(u64::MAX) {
                return Err(StoreError::Exists);
            }
        }
        Ok(())
    }

    async fn delete_register_values(
        &mut self,
        register: Register,
        kept: u64,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let sql = "DELETE FROM register_rows WHERE (register, version, value_index) IN \
                   (SELECT register, version, value_index FROM register_rows \
                   WHERE register = $1 AND version <> $2 LIMIT $3)";
        let statement = query(sql).bind(register.as_str()).bind(stored(kept));
        self.run(statement.bind(i64::from(limit)))
    }

    async fn listed(
        &mut self,
        questions: &[RegisterQuestion],
        now: UnixMillis,
    ) -> Result<Vec<Register>, StoreError> {
        if questions.is_empty() {
            return Ok(Vec::new());
        }
        let mut builder = Builder::new("");
        for (place, question) in questions.iter().enumerate() {
            if place > 0 {
                builder.push(" UNION ");
            }
            builder.push("SELECT register FROM register_rows WHERE register = ");
            builder.push_bind(question.register.as_str());
            builder.push(" AND version = ").push_bind(stored(question.version));
            builder.push(" AND value_index = ").push_bind(question.value.as_bytes().as_slice());
            builder.push(" AND (valid_until IS NULL OR valid_until > ").push_bind(now.get());
            builder.push(")");
        }
        let rows = builder.build().all(self.connection())?;
        rows.iter().map(|row| Fields::of("register_rows", row).register()).collect()
    }
}
