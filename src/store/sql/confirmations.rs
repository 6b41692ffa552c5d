//! Confirmations in SQL.

use async_trait::async_trait;

use super::SqliteStore;
use super::engine::{Link, Row, Statement, query};
use super::parse::{Fields, stored};
use super::read::keyed;
use super::write::SqlUnit;
use crate::crypto::Digest;
use crate::domain::id::{Attempt, ConfirmationId, CustomerId, TerminalId};
use crate::domain::time::UnixMillis;
use crate::domain::transaction::DecisionKey;
use crate::store::{
    AppKeyRow, ConfirmationAnswer, ConfirmationQuestions, ConfirmationRow, Confirmations,
    DecisionRow, PendingOf, StoreError, TellerProposal,
};

/// Every column of a confirmation, behind a condition.
macro_rules! confirmations_where {
    ($condition:literal) => {
        concat!(
            "SELECT id, customer, terminal, business_date, host_id, attempt, receipt, entry_index, ",
            "sealed, created_at, expires_at, answer, answered_at, counts_until, answer_receipt, ",
            "answer_index, app_key, signature, settled_by, proposed_by, proposed_key, ",
            "proposal_sealed, proposed_at, proposal_index FROM confirmations WHERE ",
            $condition
        )
    };
}

const BY_ID: &str = confirmations_where!("id = $1");
const SELECT_FINAL: &str = "SELECT request_hash, entry_index, approves, sealed_answer \
     FROM final_decisions \
     WHERE terminal = $1 AND business_date = $2 AND host_id = $3 AND attempt = $4";
const SELECT_APP_KEYS: &str = "SELECT fingerprint, customer, spki, bound_at FROM app_keys \
     WHERE customer = $1 ORDER BY bound_at, fingerprint";

fn confirmation(row: &Row) -> Result<ConfirmationRow, StoreError> {
    Fields::of("confirmations", row).confirmation()
}

fn final_decision(row: &Row, key: &DecisionKey) -> Result<DecisionRow, StoreError> {
    Fields::of("final_decisions", row).decision(key)
}

fn app_keys_of(connection: &Link, customer: &CustomerId) -> Result<Vec<AppKeyRow>, StoreError> {
    let statement = query(SELECT_APP_KEYS).bind(customer.as_bytes().as_slice());
    let rows = statement.all(connection)?;
    rows.iter().map(|row| Fields::of("app_keys", row).app_key()).collect()
}

#[async_trait]
impl ConfirmationQuestions for SqliteStore {
    async fn confirmation(
        &self,
        id: &ConfirmationId,
    ) -> Result<Option<ConfirmationRow>, StoreError> {
        let row = self.one(query(BY_ID).bind(id.as_bytes().as_slice())).await?;
        row.as_ref().map(confirmation).transpose()
    }

    async fn confirmation_of(
        &self,
        key: &DecisionKey,
    ) -> Result<Option<ConfirmationRow>, StoreError> {
        let sql = confirmations_where!(
            "terminal = $1 AND business_date = $2 AND host_id = $3 AND attempt = $4"
        );
        self.one(keyed(sql, key)).await?.as_ref().map(confirmation).transpose()
    }

    async fn pending_confirmations(
        &self,
        of: PendingOf<'_>,
        after: u64,
        now: UnixMillis,
        limit: u32,
    ) -> Result<Vec<ConfirmationRow>, StoreError> {
        let common = |sql: &'static str| -> Statement<'_> {
            query(sql).bind(stored(after)).bind(now.get()).bind(i64::from(limit))
        };
        let statement = match of {
            PendingOf::Anybody => common(confirmations_where!(
                "entry_index > $1 AND expires_at >= $2 AND answer IS NULL AND settled_by IS NULL \
                 ORDER BY entry_index LIMIT $3"
            )),
            PendingOf::Customer(id) => common(confirmations_where!(
                "entry_index > $1 AND expires_at >= $2 AND answer IS NULL AND settled_by IS NULL \
                 AND customer = $4 ORDER BY entry_index LIMIT $3"
            ))
            .bind(id.as_bytes().as_slice()),
            PendingOf::Terminal(id) => common(confirmations_where!(
                "entry_index > $1 AND expires_at >= $2 AND answer IS NULL AND settled_by IS NULL \
                 AND terminal = $4 ORDER BY entry_index LIMIT $3"
            ))
            .bind(id.as_str()),
        };
        self.many(statement).await?.iter().map(confirmation).collect()
    }

    async fn final_decision(&self, key: &DecisionKey) -> Result<Option<DecisionRow>, StoreError> {
        let row = self.one(keyed(SELECT_FINAL, key)).await?;
        row.map(|row| final_decision(&row, key)).transpose()
    }

    async fn app_keys(&self, customer: &CustomerId) -> Result<Vec<AppKeyRow>, StoreError> {
        let statement = query(SELECT_APP_KEYS).bind(customer.as_bytes().as_slice());
        let rows = self.many(statement).await?;
        rows.iter().map(|row| Fields::of("app_keys", row).app_key()).collect()
    }

    async fn terminal_place(&self, terminal: &TerminalId) -> Result<Option<String>, StoreError> {
        let sql = "SELECT terminal, place FROM terminal_places WHERE terminal = $1";
        let row = self.one(query(sql).bind(terminal.as_str())).await?;
        row.map(|row| Fields::of("terminal_places", &row).text("place")).transpose()
    }
}

#[async_trait]
impl Confirmations for SqlUnit {
    async fn insert_confirmation(&mut self, row: &ConfirmationRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO confirmations (terminal, business_date, host_id, attempt, id, customer, \
                   receipt, entry_index, sealed, created_at, expires_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
        let statement = keyed(sql, &row.key)
            .bind(row.id.as_bytes().as_slice())
            .bind(row.customer.as_bytes().as_slice())
            .bind(row.receipt.as_bytes().as_slice())
            .bind(stored(row.index))
            .bind(row.sealed.as_slice())
            .bind(row.created_at.get())
            .bind(row.expires_at.get());
        self.run(statement).map(drop)
    }

    async fn confirmation(
        &mut self,
        id: &ConfirmationId,
    ) -> Result<Option<ConfirmationRow>, StoreError> {
        let statement = query(BY_ID).bind(id.as_bytes().as_slice());
        let row = statement.one(self.connection())?;
        row.as_ref().map(confirmation).transpose()
    }

    async fn confirmations_of_transaction(
        &mut self,
        key: &DecisionKey,
    ) -> Result<Vec<ConfirmationRow>, StoreError> {
        let sql = confirmations_where!(
            "terminal = $1 AND business_date = $2 AND host_id = $3 ORDER BY entry_index"
        );
        let statement = query(sql)
            .bind(key.terminal.as_str())
            .bind(key.business_date.as_str())
            .bind(key.host_id.as_str());
        let rows = statement.all(self.connection())?;
        rows.iter().map(confirmation).collect()
    }

    async fn propose_confirmation(
        &mut self,
        id: &ConfirmationId,
        proposal: &TellerProposal,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE confirmations SET proposed_by = $2, proposed_key = $3, \
                   proposal_sealed = $4, proposed_at = $5, proposal_index = $6 \
                   WHERE id = $1 AND answer IS NULL AND settled_by IS NULL";
        let statement = query(sql)
            .bind(id.as_bytes().as_slice())
            .bind(proposal.by.as_str())
            .bind(proposal.key.as_bytes().as_slice())
            .bind(proposal.sealed.as_slice())
            .bind(proposal.at.get())
            .bind(stored(proposal.index));
        Ok(self.run(statement)? > 0)
    }

    async fn answer_confirmation(
        &mut self,
        id: &ConfirmationId,
        answer: &ConfirmationAnswer,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE confirmations SET answer = $2, answered_at = $3, counts_until = $4, \
                   answer_receipt = $5, answer_index = $6, app_key = $7, signature = $8 \
                   WHERE id = $1 AND answer IS NULL AND settled_by IS NULL";
        let statement = query(sql)
            .bind(id.as_bytes().as_slice())
            .bind(answer.kind.as_str())
            .bind(answer.at.get())
            .bind(answer.counts_until.get())
            .bind(answer.receipt.as_bytes().as_slice())
            .bind(stored(answer.index))
            .bind(answer.app_key.as_ref().map(|key| key.as_bytes().as_slice()))
            .bind(answer.signature.as_slice());
        Ok(self.run(statement)? > 0)
    }

    async fn settle_confirmation(
        &mut self,
        id: &ConfirmationId,
        attempt: Attempt,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE confirmations SET settled_by = $2 WHERE id = $1 AND settled_by IS NULL";
        let statement = query(sql).bind(id.as_bytes().as_slice()).bind(i64::from(attempt.get()));
        Ok(self.run(statement)? > 0)
    }

    async fn delete_confirmations(&mut self, before: UnixMillis) -> Result<u64, StoreError> {
        self.run(query("DELETE FROM confirmations WHERE created_at < $1").bind(before.get()))
    }

    async fn final_decision(
        &mut self,
        key: &DecisionKey,
    ) -> Result<Option<DecisionRow>, StoreError> {
        let statement = keyed(SELECT_FINAL, key);
        let row = statement.one(self.connection())?;
        row.map(|row| final_decision(&row, key)).transpose()
    }

    async fn insert_final_decision(&mut self, row: &DecisionRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO final_decisions \
                   (terminal, business_date, host_id, attempt, request_hash, entry_index, approves, \
                   sealed_answer) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let statement = keyed(sql, &row.key)
            .bind(row.request_hash.as_bytes().as_slice())
            .bind(stored(row.index))
            .bind(row.approves)
            .bind(row.sealed_answer.as_slice());
        self.run(statement)?;
        let sql = "DELETE FROM outcomes \
                   WHERE terminal = $1 AND business_date = $2 AND host_id = $3 AND attempt = $4";
        self.run(keyed(sql, &row.key)).map(drop)
    }

    async fn insert_app_key(&mut self, row: &AppKeyRow) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO app_keys (fingerprint, customer, spki, bound_at) VALUES ($1, $2, $3, $4)";
        let statement = query(sql)
            .bind(row.fingerprint.as_bytes().as_slice())
            .bind(row.customer.as_bytes().as_slice())
            .bind(row.spki.as_slice())
            .bind(row.bound_at.get());
        self.run(statement).map(drop)
    }

    async fn delete_app_key(
        &mut self,
        fingerprint: &Digest,
        customer: &CustomerId,
    ) -> Result<bool, StoreError> {
        let sql = "DELETE FROM app_keys WHERE fingerprint = $1 AND customer = $2";
        let statement =
            query(sql).bind(fingerprint.as_bytes().as_slice()).bind(customer.as_bytes().as_slice());
        Ok(self.run(statement)? > 0)
    }

    async fn app_keys(&mut self, customer: &CustomerId) -> Result<Vec<AppKeyRow>, StoreError> {
        app_keys_of(self.connection(), customer)
    }

    async fn put_terminal_place(
        &mut self,
        terminal: &TerminalId,
        place: &str,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO terminal_places (terminal, place) VALUES ($1, $2) \
                   ON CONFLICT (terminal) DO UPDATE SET place = excluded.place";
        self.run(query(sql).bind(terminal.as_str()).bind(place)).map(drop)
    }
}
