//! Proposed activations in SQL.

use async_trait::async_trait;

use super::SqliteStore;
use super::engine::query;
use super::parse::{Fields, stored};
use super::write::SqlUnit;
use crate::domain::id::CustomerId;
use crate::store::{ActivationProposalRow, ActivationQuestions, Activations, StoreError};

const SELECT: &str = "SELECT customer, proposed_by, proposed_key, reason, proposed_at, entry_index \
     FROM activation_proposals WHERE customer = $1";

#[async_trait]
impl ActivationQuestions for SqliteStore {
    async fn activation_proposal(
        &self,
        customer: &CustomerId,
    ) -> Result<Option<ActivationProposalRow>, StoreError> {
        let row = self.one(query(SELECT).bind(customer.as_bytes().as_slice())).await?;
        row.map(|row| Fields::of("activation_proposals", &row).activation_proposal()).transpose()
    }
}

#[async_trait]
impl Activations for SqlUnit {
    async fn activation_proposal(
        &mut self,
        customer: &CustomerId,
    ) -> Result<Option<ActivationProposalRow>, StoreError> {
        let statement = query(SELECT).bind(customer.as_bytes().as_slice());
        let row = statement.one(self.connection())?;
        row.map(|row| Fields::of("activation_proposals", &row).activation_proposal()).transpose()
    }

    async fn put_activation_proposal(
        &mut self,
        row: &ActivationProposalRow,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO activation_proposals \
                   (customer, proposed_by, proposed_key, reason, proposed_at, entry_index) \
                   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (customer) DO UPDATE SET \
                   proposed_by = excluded.proposed_by, proposed_key = excluded.proposed_key, \
                   reason = excluded.reason, proposed_at = excluded.proposed_at, \
                   entry_index = excluded.entry_index";
        let statement = query(sql)
            .bind(row.customer.as_bytes().as_slice())
            .bind(row.proposed_by.as_str())
            .bind(row.proposed_key.as_bytes().as_slice())
            .bind(row.reason.as_str())
            .bind(row.proposed_at.get())
            .bind(stored(row.index));
        self.run(statement).map(drop)
    }

    async fn delete_activation_proposal(
        &mut self,
        customer: &CustomerId,
    ) -> Result<bool, StoreError> {
        let sql = "DELETE FROM activation_proposals WHERE customer = $1";
        Ok(self.run(query(sql).bind(customer.as_bytes().as_slice()))? > 0)
    }
}
