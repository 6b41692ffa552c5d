//! The past in SQL.

use async_trait::async_trait;

use super::engine::{Statement, query};
use super::parse::Fields;
use super::write::SqlUnit;
use crate::crypto::Digest;
use crate::domain::decision::RuleId;
use crate::domain::id::{CustomerId, TerminalId};
use crate::domain::time::UnixMillis;
use crate::domain::transaction::TokenKind;
use crate::store::{Links, Past, StoreError};

impl SqlUnit {
    /// The one number that a statement gives.
    pub(super) fn number(&self, statement: Statement<'_>) -> Result<i64, StoreError> {
        let row = statement.single(self.connection())?;
        row.at(0).ok_or_else(|| Fields::of("number", &row).broken("number"))
    }
}

#[async_trait]
impl Past for SqlUnit {
    async fn insert_refusal(
        &mut self,
        customer: &CustomerId,
        at: UnixMillis,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO refusals (customer, at) VALUES ($1, $2)";
        self.run(query(sql).bind(customer.as_bytes().as_slice()).bind(at.get())).map(drop)
    }

    async fn refusals(
        &mut self,
        customer: &CustomerId,
        since: UnixMillis,
    ) -> Result<i64, StoreError> {
        let sql = "SELECT COUNT(*) FROM refusals WHERE customer = $1 AND at >= $2";
        self.number(query(sql).bind(customer.as_bytes().as_slice()).bind(since.get()))
    }

    async fn delete_refusals(&mut self, before: UnixMillis) -> Result<u64, StoreError> {
        self.run(query("DELETE FROM refusals WHERE at < $1").bind(before.get()))
    }

    async fn others_on_account(
        &mut self,
        account: &Digest,
        customer: &CustomerId,
        since: UnixMillis,
    ) -> Result<i64, StoreError> {
        let sql = "SELECT COUNT(DISTINCT customer) FROM movements \
                   WHERE account = $1 AND at >= $2 AND customer <> $3 AND moved_minor > 0";
        let statement = query(sql).bind(account.as_bytes().as_slice()).bind(since.get());
        self.number(statement.bind(customer.as_bytes().as_slice()))
    }

    async fn others_on_card(
        &mut self,
        card: &Digest,
        customer: &CustomerId,
        since: UnixMillis,
    ) -> Result<i64, StoreError> {
        let sql = "SELECT COUNT(DISTINCT customer) FROM movements \
                   WHERE card = $1 AND at >= $2 AND customer <> $3 AND moved_minor > 0";
        let statement = query(sql).bind(card.as_bytes().as_slice()).bind(since.get());
        self.number(statement.bind(customer.as_bytes().as_slice()))
    }

    async fn other_terminals(
        &mut self,
        terminal: &TerminalId,
        customer: &CustomerId,
        since: UnixMillis,
    ) -> Result<i64, StoreError> {
        let sql = "SELECT COUNT(DISTINCT terminal) FROM movements \
                   WHERE customer = $1 AND at >= $2 AND terminal <> $3 AND moved_minor > 0";
        let statement = query(sql).bind(customer.as_bytes().as_slice()).bind(since.get());
        self.number(statement.bind(terminal.as_str()))
    }

    async fn is_linked(
        &mut self,
        customer: &CustomerId,
        links: &Links,
        since: UnixMillis,
    ) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM movements \
                   WHERE customer = $1 AND at >= $2 AND moved_minor > 0 \
                   AND (account = $3 OR card = $4 OR terminal = $5))";
        let statement = query(sql)
            .bind(customer.as_bytes().as_slice())
            .bind(since.get())
            .bind(links.account.as_bytes().as_slice())
            // No row's card equals none.
            .bind(links.card.as_ref().map(|card| card.as_bytes().as_slice()))
            .bind(links.terminal.as_str());
        Ok(self.number(statement)? != 0)
    }

    async fn cards(&mut self, customer: &CustomerId, now: UnixMillis) -> Result<i64, StoreError> {
        let sql = "SELECT COUNT(*) FROM tokens \
                   WHERE customer = $1 AND kind = $2 AND (expires_at IS NULL OR expires_at > $3)";
        let statement = query(sql).bind(customer.as_bytes().as_slice());
        self.number(statement.bind(TokenKind::Card.as_str()).bind(now.get()))
    }

    async fn has_open_duplicate(&mut self, customer: &CustomerId) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM duplicates WHERE customer = $1 AND resolution IS NULL) \
                   OR EXISTS (SELECT 1 FROM duplicates WHERE other = $1 AND resolution IS NULL)";
        Ok(self.number(query(sql).bind(customer.as_bytes().as_slice()))? != 0)
    }

    async fn put_cap(
        &mut self,
        customer: &CustomerId,
        rule: &RuleId,
        until: UnixMillis,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO caps (customer, rule, until) VALUES ($1, $2, $3) \
                   ON CONFLICT (customer, rule) DO UPDATE SET until = excluded.until \
                   WHERE excluded.until > caps.until";
        let statement = query(sql).bind(customer.as_bytes().as_slice()).bind(rule.as_str());
        self.run(statement.bind(until.get())).map(drop)
    }

    async fn caps(
        &mut self,
        customer: &CustomerId,
        now: UnixMillis,
    ) -> Result<Vec<(RuleId, UnixMillis)>, StoreError> {
        let sql = "SELECT rule, until FROM caps WHERE customer = $1 AND until > $2 ORDER BY rule";
        let statement = query(sql).bind(customer.as_bytes().as_slice()).bind(now.get());
        let rows = statement.all(self.connection())?;
        rows.iter().map(|row| Fields::of("caps", row).cap()).collect()
    }
}
