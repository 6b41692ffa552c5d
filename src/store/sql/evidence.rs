//! Evidence in SQL.

use async_trait::async_trait;

use super::SqliteStore;
use super::engine::query;
use super::parse::{Fields, stored};
use super::read::parsed;
use super::write::SqlUnit;
use crate::domain::id::ReceiptId;
use crate::domain::time::UnixMillis;
use crate::store::{EvidenceCounts, EvidenceReads, EvidenceRow, Evidences, StoreError};

const SELECT_DUE: &str = "SELECT entry_index FROM evidence e WHERE wrapped IS NOT NULL AND keep_until <= $1 \
     AND NOT EXISTS (SELECT 1 FROM legal_holds h WHERE h.decision = e.entry_index) \
     ORDER BY keep_until, entry_index LIMIT $2";

impl Fields<'_> {
    fn evidence(&self) -> Result<EvidenceRow, StoreError> {
        Ok(EvidenceRow {
            index: self.natural("entry_index")?,
            receipt: self.receipt("receipt")?,
            shelf: self.text("shelf")?,
            media_type: self.text("media_type")?,
            wrapped: self.maybe_bytes("wrapped")?,
            kek_id: self.maybe_text("kek_id")?,
            keep_until: self.time("keep_until")?,
        })
    }
}

#[async_trait]
impl EvidenceReads for SqliteStore {
    async fn evidence(&self, index: u64) -> Result<Option<EvidenceRow>, StoreError> {
        let sql = "SELECT entry_index, receipt, shelf, media_type, wrapped, kek_id, keep_until \
                   FROM evidence WHERE entry_index = $1";
        let row = self.one(query(sql).bind(stored(index))).await?;
        row.map(|row| Fields::of("evidence", &row).evidence()).transpose()
    }

    async fn has_evidence(&self, receipt: &ReceiptId) -> Result<bool, StoreError> {
        let sql = "SELECT entry_index FROM evidence WHERE receipt = $1";
        Ok(self.one(query(sql).bind(receipt.as_bytes().as_slice())).await?.is_some())
    }

    async fn evidence_files_to_remove(
        &self,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<EvidenceRow>, StoreError> {
        let sql = "SELECT entry_index, receipt, shelf, media_type, wrapped, kek_id, keep_until FROM evidence \
                   WHERE wrapped IS NULL AND NOT is_file_removed AND entry_index > $1 \
                   ORDER BY entry_index LIMIT $2";
        let statement = query(sql).bind(after.map_or(-1, stored)).bind(i64::from(limit));
        parsed("evidence", &self.many(statement).await?, Fields::evidence)
    }

    async fn evidence_due(&self, now: UnixMillis, limit: u32) -> Result<Vec<u64>, StoreError> {
        let statement = query(SELECT_DUE).bind(now.get()).bind(i64::from(limit));
        parsed("evidence", &self.many(statement).await?, |fields| fields.natural("entry_index"))
    }

    async fn evidence_counts(&self, now: UnixMillis) -> Result<EvidenceCounts, StoreError> {
        let sql = "SELECT 0 AS key, \
                   COALESCE(SUM(CASE WHEN keep_until > $1 THEN 1 ELSE 0 END), 0) AS kept, \
                   COALESCE(SUM(CASE WHEN keep_until <= $1 AND held THEN 1 ELSE 0 END), 0) AS on_hold, \
                   COALESCE(SUM(CASE WHEN keep_until <= $1 AND NOT held THEN 1 ELSE 0 END), 0) AS due \
                   FROM (SELECT e.keep_until, \
                         EXISTS (SELECT 1 FROM legal_holds h WHERE h.decision = e.entry_index) AS held \
                         FROM evidence e WHERE e.wrapped IS NOT NULL)";
        let Some(row) = self.sum(query(sql).bind(now.get())).await? else {
            return Ok(EvidenceCounts::default());
        };
        let fields = Fields::of("evidence", &row);
        Ok(EvidenceCounts {
            due: fields.natural("due")?,
            on_hold: fields.natural("on_hold")?,
            kept: fields.natural("kept")?,
        })
    }
}

#[async_trait]
impl Evidences for SqlUnit {
    async fn insert_evidence(&mut self, row: &EvidenceRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO evidence (entry_index, receipt, shelf, media_type, wrapped, keep_until, \
                   is_file_removed, kek_id) VALUES ($1, $2, $3, $4, $5, $6, FALSE, $7)";
        let statement = query(sql)
            .bind(stored(row.index))
            .bind(row.receipt.as_bytes().as_slice())
            .bind(row.shelf.as_str())
            .bind(row.media_type.as_str())
            .bind(row.wrapped.as_deref())
            .bind(row.keep_until.get())
            .bind(row.kek_id.as_deref());
        self.run(statement).map(drop)
    }

    async fn evidence_due(&mut self, now: UnixMillis, limit: u32) -> Result<Vec<u64>, StoreError> {
        let statement = query(SELECT_DUE).bind(now.get()).bind(i64::from(limit));
        let rows = statement.all(self.connection())?;
        rows.iter().map(|row| Fields::of("evidence", row).natural("entry_index")).collect()
    }

    async fn destroy_evidence(&mut self, index: u64) -> Result<bool, StoreError> {
        self.destroys();
        let sql =
            "UPDATE evidence SET wrapped = NULL WHERE entry_index = $1 AND wrapped IS NOT NULL";
        Ok(self.run(query(sql).bind(stored(index)))? > 0)
    }

    async fn note_file_removed(&mut self, index: u64) -> Result<(), StoreError> {
        let sql =
            "UPDATE evidence SET is_file_removed = TRUE WHERE entry_index = $1 AND wrapped IS NULL";
        self.run(query(sql).bind(stored(index))).map(drop)
    }
}
