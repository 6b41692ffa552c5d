//! Cases in SQL.

use async_trait::async_trait;

use super::SqliteStore;
use super::engine::{Link, out_of_the_way, query};
use super::parse::{Fields, stored};
use super::write::SqlUnit;
use crate::domain::case::CaseStatus;
use crate::domain::decision::RuleId;
use crate::domain::id::{CaseId, CustomerId};
use crate::domain::time::UnixMillis;
use crate::store::{CaseEvidenceRow, CaseFile, CaseReads, CaseRow, Cases, StoreError};

fn case(connection: &Link, id: &CaseId) -> Result<Option<CaseRow>, StoreError> {
    let row = query("SELECT * FROM cases WHERE id = $1").bind(id.as_bytes().as_slice());
    let row = row.one(connection)?;
    row.map(|row| Fields::of("cases", &row).case()).transpose()
}

fn case_evidence(
    connection: &Link,
    id: &CaseId,
    limit: u32,
) -> Result<Vec<CaseEvidenceRow>, StoreError> {
    let sql = "SELECT * FROM case_evidence WHERE case_id = $1 ORDER BY entry_index LIMIT $2";
    let rows = query(sql).bind(id.as_bytes().as_slice()).bind(i64::from(limit));
    let rows = rows.all(connection)?;
    rows.iter().map(|row| Fields::of("case_evidence", row).case_evidence()).collect()
}

fn linked(
    connection: &Link,
    customer: &CustomerId,
    limit: u32,
) -> Result<Vec<CustomerId>, StoreError> {
    let sql = "SELECT other.customer AS id FROM movements AS own \
               JOIN movements AS other ON other.account = own.account \
               WHERE own.customer = $1 AND other.customer <> $1 \
               UNION SELECT other.customer FROM movements AS own \
               JOIN movements AS other ON other.card = own.card \
               WHERE own.customer = $1 AND other.customer <> $1 \
               UNION SELECT other FROM duplicates WHERE customer = $1 \
               UNION SELECT customer FROM duplicates WHERE other = $1 \
               UNION SELECT case_lookalikes.other FROM case_lookalikes \
               JOIN cases ON cases.id = case_id WHERE cases.customer = $1 \
               UNION SELECT cases.customer FROM case_lookalikes \
               JOIN cases ON cases.id = case_id WHERE case_lookalikes.other = $1 \
               ORDER BY id LIMIT $2";
    let rows = query(sql).bind(customer.as_bytes().as_slice()).bind(i64::from(limit));
    let rows = rows.all(connection)?;
    rows.iter().map(|row| Fields::of("movements", row).customer("id")).collect()
}

#[async_trait]
impl CaseReads for SqliteStore {
    async fn cases(
        &self,
        status: Option<CaseStatus>,
        after: Option<(u32, CaseId)>,
        limit: u32,
    ) -> Result<Vec<CaseRow>, StoreError> {
        let sql = "SELECT * FROM cases WHERE ($1 IS NULL OR status = $1) \
                   AND (score < $2 OR (score = $2 AND id > $3)) \
                   ORDER BY score DESC, id LIMIT $4";
        let (score, id) = after.map_or((i64::MAX, Vec::new()), |(score, id)| {
            (i64::from(score), id.as_bytes().to_vec())
        });
        let rows = query(sql).bind(status.map(CaseStatus::as_str)).bind(score).bind(id);
        let rows = self.many(rows.bind(i64::from(limit))).await?;
        rows.iter().map(|row| Fields::of("cases", row).case()).collect()
    }

    async fn case_file(
        &self,
        id: &CaseId,
        evidence_max: u32,
        linked_max: u32,
    ) -> Result<Option<CaseFile>, StoreError> {
        // A transaction of a reader sees one instant, and keeps no writer waiting.
        let reader = self.readers.acquire().await?;
        out_of_the_way(|| {
            reader.at_one_moment(|link| {
                let Some(case) = case(link, id)? else { return Ok(None) };
                let evidence = case_evidence(link, id, evidence_max)?;
                let linked = linked(link, &case.customer, linked_max)?;
                Ok(Some(CaseFile { case, evidence, linked }))
            })
        })
    }
}

#[async_trait]
impl Cases for SqlUnit {
    async fn case(&mut self, id: &CaseId) -> Result<Option<CaseRow>, StoreError> {
        case(self.connection(), id)
    }

    async fn cases_of(&mut self, customer: &CustomerId) -> Result<Vec<CaseRow>, StoreError> {
        let sql = "SELECT * FROM cases WHERE customer = $1 ORDER BY opened_at, id";
        let rows = query(sql).bind(customer.as_bytes().as_slice());
        let rows = rows.all(self.connection())?;
        rows.iter().map(|row| Fields::of("cases", row).case()).collect()
    }

    async fn put_case(&mut self, row: &CaseRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO cases (id, customer, kind, status, opened_at, held_until, \
                   beyond_calendar, weight, decisions, score, proposal, proposed_by, proposed_key, \
                   proposed_at, closed_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
                   ON CONFLICT (id) DO UPDATE SET status = excluded.status, \
                   held_until = excluded.held_until, beyond_calendar = excluded.beyond_calendar, \
                   weight = excluded.weight, decisions = excluded.decisions, \
                   score = excluded.score, proposal = excluded.proposal, \
                   proposed_by = excluded.proposed_by, proposed_key = excluded.proposed_key, \
                   proposed_at = excluded.proposed_at, closed_at = excluded.closed_at";
        let proposal = row.proposal.as_ref();
        let statement = query(sql)
            .bind(row.id.as_bytes().as_slice())
            .bind(row.customer.as_bytes().as_slice())
            .bind(row.kind.as_str())
            .bind(row.status.as_str())
            .bind(row.opened_at.get())
            .bind(row.held_until.map(UnixMillis::get))
            .bind(row.beyond_calendar)
            .bind(i64::from(row.weight))
            .bind(i64::from(row.decisions))
            .bind(i64::from(row.score))
            .bind(proposal.map(|proposal| proposal.resolution.as_str()))
            .bind(proposal.map(|proposal| proposal.by.as_str()))
            .bind(proposal.map(|proposal| proposal.key.as_bytes().as_slice()))
            .bind(proposal.map(|proposal| proposal.at.get()))
            .bind(row.closed_at.map(UnixMillis::get));
        self.run(statement).map(drop)
    }

    async fn insert_case_evidence(&mut self, row: &CaseEvidenceRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO case_evidence \
                   (case_id, entry_index, at, outcome, rules, operation, amount_minor, currency) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
        let rules: Vec<_> = row.rules.iter().map(RuleId::as_str).collect();
        let statement = query(sql)
            .bind(row.case.as_bytes().as_slice())
            .bind(stored(row.index))
            .bind(row.at.get())
            .bind(row.outcome.as_str())
            .bind(rules.join(" "))
            .bind(row.operation.as_str())
            .bind(row.amount_minor)
            .bind(row.currency.as_str());
        if self.run(statement)? == 1 { Ok(()) } else { Err(StoreError::Exists) }
    }

    async fn put_case_lookalike(
        &mut self,
        case: &CaseId,
        other: &CustomerId,
    ) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO case_lookalikes (case_id, other) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        let statement = query(sql).bind(case.as_bytes().as_slice());
        self.run(statement.bind(other.as_bytes().as_slice())).map(drop)
    }

    async fn was_lookalike_released(
        &mut self,
        one: &CustomerId,
        other: &CustomerId,
    ) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM case_lookalikes JOIN cases ON cases.id = case_id \
                   WHERE status = $3 AND ((customer = $1 AND other = $2) \
                   OR (customer = $2 AND other = $1)))";
        let statement = query(sql)
            .bind(one.as_bytes().as_slice())
            .bind(other.as_bytes().as_slice())
            .bind(CaseStatus::Released.as_str());
        Ok(self.number(statement)? != 0)
    }
}
