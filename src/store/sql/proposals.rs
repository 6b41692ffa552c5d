//! Acts that one person proposed and another one must approve, in SQL.

use async_trait::async_trait;

use super::SqliteStore;
use super::engine::{Statement, query};
use super::parse::{Fields, stored};
use super::read::parsed;
use super::write::SqlUnit;
use crate::domain::four_eyes::{ProposalState, TwoPersonAct};
use crate::domain::id::{CustomerId, PrincipalName, ProposalId};
use crate::domain::time::UnixMillis;
use crate::store::{Closure, ProposalReads, ProposalWrites, ProposedRow, StoreError};

const TABLE: &str = "proposals";

/// Every column of a proposal, behind a condition.
macro_rules! proposals_where {
    ($condition:literal) => {
        concat!(
            "SELECT id, act, customer, subject, content, commitment, proposed_by, proposed_key, ",
            "proposed_at, entry_index, not_before, expires_at, state, closed_by, closed_key, ",
            "closed_at, closed_index FROM proposals WHERE ",
            $condition
        )
    };
}

impl Fields<'_> {
    fn proposed(&self) -> Result<ProposedRow, StoreError> {
        let id = ProposalId::try_from(self.bytes("id")?.as_slice());
        let customer = self.maybe_bytes("customer")?;
        let customer = customer.map(|bytes| CustomerId::try_from(bytes.as_slice())).transpose();
        Ok(ProposedRow {
            id: id.map_err(|_| self.broken("id"))?,
            act: self.word("act", &TwoPersonAct::ALL, TwoPersonAct::as_str)?,
            customer: customer.map_err(|_| self.broken("customer"))?,
            subject: self.text("subject")?,
            content: self.bytes("content")?,
            commit: self.digest("commitment")?,
            proposed_by: self.principal_name("proposed_by")?,
            proposed_key: self.digest("proposed_key")?,
            proposed_at: self.time("proposed_at")?,
            index: self.natural("entry_index")?,
            not_before: self.time("not_before")?,
            expires_at: self.time("expires_at")?,
            closed: self.closure()?,
        })
    }

    fn closure(&self) -> Result<Option<Closure>, StoreError> {
        let state = self.word("state", &ProposalState::ALL, ProposalState::as_str)?;
        if state == ProposalState::Open {
            return Ok(None);
        }
        let by = match self.maybe_text("closed_by")? {
            Some(_) => Some((self.principal_name("closed_by")?, self.digest("closed_key")?)),
            None => None,
        };
        let (at, index) = (self.time("closed_at")?, self.natural("closed_index")?);
        Ok(Some(Closure { state, by, at, index }))
    }
}

#[async_trait]
impl ProposalReads for SqliteStore {
    async fn proposal(&self, id: &ProposalId) -> Result<Option<ProposedRow>, StoreError> {
        let sql = proposals_where!("id = $1");
        let row = self.one(query(sql).bind(id.as_bytes().as_slice())).await?;
        row.map(|row| Fields::of(TABLE, &row).proposed()).transpose()
    }

    async fn proposals(
        &self,
        open: bool,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<ProposedRow>, StoreError> {
        let sql = if open {
            proposals_where!("entry_index > $1 AND state = 'open' ORDER BY entry_index LIMIT $2")
        } else {
            proposals_where!("entry_index > $1 ORDER BY entry_index LIMIT $2")
        };
        let after = after.map_or(-1, stored);
        let rows = self.many(query(sql).bind(after).bind(i64::from(limit))).await?;
        parsed(TABLE, &rows, Fields::proposed)
    }

    async fn latest_open_proposal(
        &self,
        act: TwoPersonAct,
        customer: &CustomerId,
    ) -> Result<Option<ProposedRow>, StoreError> {
        let sql = proposals_where!(
            "state = 'open' AND act = $1 AND customer = $2 ORDER BY entry_index DESC LIMIT 1"
        );
        let statement = query(sql).bind(act.as_str()).bind(customer.as_bytes().as_slice());
        let row = self.one(statement).await?;
        row.map(|row| Fields::of(TABLE, &row).proposed()).transpose()
    }

    async fn proposals_expired(
        &self,
        now: UnixMillis,
        limit: u32,
    ) -> Result<Vec<ProposedRow>, StoreError> {
        let sql =
            proposals_where!("state = 'open' AND expires_at <= $1 ORDER BY entry_index LIMIT $2");
        let rows = self.many(query(sql).bind(now.get()).bind(i64::from(limit))).await?;
        parsed(TABLE, &rows, Fields::proposed)
    }
}

#[async_trait]
impl ProposalWrites for SqlUnit {
    async fn proposal(&mut self, id: &ProposalId) -> Result<Option<ProposedRow>, StoreError> {
        let sql = proposals_where!("id = $1");
        let row = query(sql).bind(id.as_bytes().as_slice()).one(self.connection())?;
        row.map(|row| Fields::of(TABLE, &row).proposed()).transpose()
    }

    async fn proposals_about(
        &mut self,
        act: TwoPersonAct,
        subject: &str,
    ) -> Result<Vec<ProposedRow>, StoreError> {
        let sql =
            proposals_where!("state = 'open' AND act = $1 AND subject = $2 ORDER BY entry_index");
        let rows = query(sql).bind(act.as_str()).bind(subject).all(self.connection())?;
        parsed(TABLE, &rows, Fields::proposed)
    }

    async fn proposals_open(
        &mut self,
        act: TwoPersonAct,
        by: &PrincipalName,
    ) -> Result<u64, StoreError> {
        let sql = "SELECT COUNT(*) AS open FROM proposals \
                   WHERE state = 'open' AND act = $1 AND proposed_by = $2";
        let row = query(sql).bind(act.as_str()).bind(by.as_str()).single(self.connection())?;
        Fields::of(TABLE, &row).natural("open")
    }

    async fn insert_proposal(&mut self, row: &ProposedRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO proposals (id, act, customer, subject, content, commitment, \
                   proposed_by, proposed_key, proposed_at, entry_index, not_before, expires_at, state) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
        let statement = query(sql)
            .bind(row.id.as_bytes().as_slice())
            .bind(row.act.as_str())
            .bind(row.customer.as_ref().map(|id| id.as_bytes().as_slice()))
            .bind(row.subject.as_str())
            .bind(row.content.as_slice())
            .bind(row.commit.as_bytes().as_slice())
            .bind(row.proposed_by.as_str())
            .bind(row.proposed_key.as_bytes().as_slice())
            .bind(row.proposed_at.get())
            .bind(stored(row.index))
            .bind(row.not_before.get())
            .bind(row.expires_at.get())
            .bind(ProposalState::Open.as_str());
        self.run(statement).map(drop)
    }

    async fn close_proposal(
        &mut self,
        id: &ProposalId,
        closure: &Closure,
    ) -> Result<bool, StoreError> {
        self.destroys();
        Ok(self.run(closed("id = $1", id.as_bytes(), closure))? > 0)
    }

    async fn close_proposals_of(
        &mut self,
        customer: &CustomerId,
        act: Option<TwoPersonAct>,
        closure: &Closure,
    ) -> Result<u64, StoreError> {
        self.destroys();
        let id = customer.as_bytes();
        match act {
            None => self.run(closed("customer = $1", id, closure)),
            Some(act) => {
                self.run(closed("customer = $1 AND act = $7", id, closure).bind(act.as_str()))
            }
        }
    }
}

/// A statement that closes the open proposals for which a condition on `$1` holds, which is `of`.
fn closed<'q>(condition: &'static str, of: &'q [u8; 16], closure: &'q Closure) -> Statement<'q> {
    let sql = format!(
        "UPDATE proposals SET content = x'', state = $2, closed_by = $3, closed_key = $4, \
         closed_at = $5, closed_index = $6 WHERE {condition} AND state = 'open'"
    );
    query(sql)
        .bind(of)
        .bind(closure.state.as_str())
        .bind(closure.by.as_ref().map(|(name, _)| name.as_str()))
        .bind(closure.by.as_ref().map(|(_, key)| key.as_bytes().as_slice()))
        .bind(closure.at.get())
        .bind(stored(closure.index))
}
