//! Duties to keep clips, in SQL.

use async_trait::async_trait;

use super::SqliteStore;
use super::engine::{Builder, query};
use super::parse::{Fields, stored};
use super::read::parsed;
use super::write::SqlUnit;
use crate::domain::footage::Footage;
use crate::domain::id::{CameraId, CaseReference, ClipHash};
use crate::domain::time::UnixMillis;
use crate::store::{
    ClipRow, FootageCounts, FootageDuty, FootageFilter, FootageReads, FootageRow, FootageState,
    Footages, StoreError,
};

/// A duty with the cases that hold it, behind which conditions follow.
const SELECT: &str = "SELECT f.entry_index, f.decision, f.terminal, f.at, f.is_missing, f.camera, f.clip_from, \
     f.clip_to, f.clip, f.sealed_salt, f.keep_until, f.deleted_at, \
     (SELECT group_concat(h.case_reference, ' ') FROM legal_holds h WHERE h.decision = f.decision) AS cases \
     FROM footage f WHERE ";

const SELECT_ONE: &str = "SELECT f.entry_index, f.decision, f.terminal, f.at, f.is_missing, f.camera, f.clip_from, \
     f.clip_to, f.clip, f.sealed_salt, f.keep_until, f.deleted_at, \
     (SELECT group_concat(h.case_reference, ' ') FROM legal_holds h WHERE h.decision = f.decision) AS cases \
     FROM footage f WHERE f.entry_index = $1";

const NOT_HELD: &str = "NOT EXISTS (SELECT 1 FROM legal_holds h WHERE h.decision = f.decision)";

impl Fields<'_> {
    fn clip(&self) -> Result<Option<ClipRow>, StoreError> {
        let Some(camera) = self.maybe_text("camera")? else { return Ok(None) };
        let camera = CameraId::try_from(camera.as_str()).map_err(|_| self.broken("camera"))?;
        let clip = ClipHash::try_from(self.bytes("clip")?.as_slice());
        let clip = clip.map_err(|_| self.broken("clip"))?;
        let footage = Footage::new(camera, self.time("clip_from")?, self.time("clip_to")?, clip);
        Ok(Some(ClipRow {
            footage: footage.map_err(|_| self.broken("clip_to"))?,
            sealed_salt: self.bytes("sealed_salt")?,
        }))
    }

    fn duty(&self) -> Result<FootageDuty, StoreError> {
        let cases = self.maybe_text("cases")?.unwrap_or_default();
        let cases = cases.split_whitespace().map(CaseReference::try_from).collect();
        let mut cases: Vec<_> = Result::<_, _>::map_err(cases, |_| self.broken("case_reference"))?;
        cases.sort_unstable();
        let row = FootageRow {
            index: self.natural("entry_index")?,
            decision: self.natural("decision")?,
            terminal: self.terminal("terminal")?,
            at: self.time("at")?,
            is_missing: self.flag("is_missing")?,
            clip: self.clip()?,
            keep_until: self.time("keep_until")?,
            deleted_at: self.maybe_time("deleted_at")?,
        };
        Ok(FootageDuty { row, cases })
    }
}

#[async_trait]
impl FootageReads for SqliteStore {
    async fn footage(&self, index: u64) -> Result<Option<FootageDuty>, StoreError> {
        let row = self.one(query(SELECT_ONE).bind(stored(index))).await?;
        row.map(|row| Fields::of("footage", &row).duty()).transpose()
    }

    async fn footage_page(
        &self,
        filter: &FootageFilter,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<FootageDuty>, StoreError> {
        let FootageFilter { state, from, until, terminal } = filter;
        let mut sql = Builder::new(SELECT);
        sql.push("f.entry_index > ").push_bind(after.map_or(-1, stored));
        match state {
            FootageState::Any => {}
            FootageState::Missing => {
                sql.push(" AND f.is_missing");
            }
            FootageState::Due(now) => {
                sql.push(" AND f.clip IS NOT NULL AND f.deleted_at IS NULL AND f.keep_until <= ")
                    .push_bind(now.get());
                sql.push(" AND ").push(NOT_HELD);
            }
            FootageState::OnHold => {
                sql.push(" AND f.decision IN (SELECT decision FROM legal_holds)");
            }
        }
        if let Some(from) = from {
            sql.push(" AND f.at >= ").push_bind(from.get());
        }
        if let Some(until) = until {
            sql.push(" AND f.at < ").push_bind(until.get());
        }
        if let Some(terminal) = terminal {
            sql.push(" AND f.terminal = ").push_bind(terminal.as_str());
        }
        sql.push(" ORDER BY f.entry_index LIMIT ").push_bind(i64::from(limit));
        parsed("footage", &self.many(sql.build()).await?, Fields::duty)
    }

    async fn footage_counts(&self, now: UnixMillis) -> Result<FootageCounts, StoreError> {
        let sql = "SELECT 0 AS key, \
                   (SELECT COUNT(*) FROM footage f WHERE f.clip IS NOT NULL AND f.deleted_at IS NULL \
                    AND f.keep_until <= $1 \
                    AND NOT EXISTS (SELECT 1 FROM legal_holds h WHERE h.decision = f.decision)) AS due, \
                   (SELECT COUNT(*) FROM footage f WHERE f.is_missing) AS missing, \
                   (SELECT COUNT(*) FROM footage f \
                    WHERE f.decision IN (SELECT decision FROM legal_holds)) AS on_hold";
        let Some(row) = self.sum(query(sql).bind(now.get())).await? else {
            return Ok(FootageCounts::default());
        };
        let fields = Fields::of("footage", &row);
        Ok(FootageCounts {
            due: fields.natural("due")?,
            missing: fields.natural("missing")?,
            on_hold: fields.natural("on_hold")?,
        })
    }
}

#[async_trait]
impl Footages for SqlUnit {
    async fn insert_footage(&mut self, row: &FootageRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO footage (entry_index, decision, terminal, at, is_missing, camera, clip_from, \
                   clip_to, clip, sealed_salt, keep_until, deleted_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
        let clip = row.clip.as_ref();
        let footage = clip.map(|clip| &clip.footage);
        let statement = query(sql)
            .bind(stored(row.index))
            .bind(stored(row.decision))
            .bind(row.terminal.as_str())
            .bind(row.at.get())
            .bind(row.is_missing)
            .bind(footage.map(|footage| footage.camera().as_str()))
            .bind(footage.map(|footage| footage.from().get()))
            .bind(footage.map(|footage| footage.to().get()))
            .bind(footage.map(|footage| footage.clip().as_bytes().as_slice()))
            .bind(clip.map(|clip| clip.sealed_salt.as_slice()))
            .bind(row.keep_until.get())
            .bind(row.deleted_at.map(UnixMillis::get));
        self.run(statement)?;
        if row.clip.is_some() && row.decision != row.index {
            let sql = "UPDATE footage SET is_missing = FALSE WHERE decision = $1";
            self.run(query(sql).bind(stored(row.decision)))?;
        }
        Ok(())
    }

    async fn footage(&mut self, index: u64) -> Result<Option<FootageDuty>, StoreError> {
        let statement = query(SELECT_ONE).bind(stored(index));
        let row = statement.one(self.connection())?;
        row.map(|row| Fields::of("footage", &row).duty()).transpose()
    }

    async fn delete_footage(&mut self, index: u64, at: UnixMillis) -> Result<bool, StoreError> {
        let sql = "UPDATE footage SET deleted_at = $2 \
                   WHERE entry_index = $1 AND clip IS NOT NULL AND deleted_at IS NULL";
        Ok(self.run(query(sql).bind(stored(index)).bind(at.get()))? > 0)
    }

    async fn insert_hold(
        &mut self,
        decision: u64,
        case: &CaseReference,
        at: UnixMillis,
    ) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO legal_holds (decision, case_reference, placed_at) VALUES ($1, $2, $3)";
        let statement = query(sql).bind(stored(decision)).bind(case.as_str()).bind(at.get());
        self.run(statement).map(drop)
    }

    async fn delete_hold(
        &mut self,
        decision: u64,
        case: &CaseReference,
    ) -> Result<bool, StoreError> {
        let sql = "DELETE FROM legal_holds WHERE decision = $1 AND case_reference = $2";
        Ok(self.run(query(sql).bind(stored(decision)).bind(case.as_str()))? > 0)
    }
}
