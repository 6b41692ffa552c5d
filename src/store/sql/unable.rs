//! Marks of inability in SQL.

use async_trait::async_trait;

use super::SqliteStore;
use super::engine::query;
use super::parse::Fields;
use super::write::SqlUnit;
use crate::domain::id::CustomerId;
use crate::domain::time::UnixMillis;
use crate::store::{StoreError, Unable, UnableQuestions, UnableRow};

const SELECT: &str = "SELECT customer, proposed_by, proposed_key, sealed, proposed_at, approved_at \
     FROM unable WHERE customer = $1";

#[async_trait]
impl UnableQuestions for SqliteStore {
    async fn unable(&self, customer: &CustomerId) -> Result<Option<UnableRow>, StoreError> {
        let row = self.one(query(SELECT).bind(customer.as_bytes().as_slice())).await?;
        row.map(|row| Fields::of("unable", &row).unable()).transpose()
    }
}

#[async_trait]
impl Unable for SqlUnit {
    async fn unable(&mut self, customer: &CustomerId) -> Result<Option<UnableRow>, StoreError> {
        let statement = query(SELECT).bind(customer.as_bytes().as_slice());
        let row = statement.one(self.connection())?;
        row.map(|row| Fields::of("unable", &row).unable()).transpose()
    }

    async fn put_unable(&mut self, row: &UnableRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO unable (customer, proposed_by, proposed_key, sealed, proposed_at, approved_at) \
                   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (customer) DO UPDATE SET \
                   proposed_by = excluded.proposed_by, proposed_key = excluded.proposed_key, \
                   sealed = excluded.sealed, proposed_at = excluded.proposed_at \
                   WHERE unable.approved_at IS NULL";
        let statement = query(sql)
            .bind(row.customer.as_bytes().as_slice())
            .bind(row.proposed_by.as_str())
            .bind(row.proposed_key.as_bytes().as_slice())
            .bind(row.sealed.as_slice())
            .bind(row.proposed_at.get())
            .bind(row.approved_at.map(UnixMillis::get));
        if self.run(statement)? == 0 { Err(StoreError::Exists) } else { Ok(()) }
    }

    async fn approve_unable(
        &mut self,
        customer: &CustomerId,
        at: UnixMillis,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE unable SET approved_at = $2 WHERE customer = $1 AND approved_at IS NULL";
        let statement = query(sql).bind(customer.as_bytes().as_slice()).bind(at.get());
        Ok(self.run(statement)? > 0)
    }

    async fn delete_unable(&mut self, customer: &CustomerId) -> Result<bool, StoreError> {
        let sql = "DELETE FROM unable WHERE customer = $1";
        Ok(self.run(query(sql).bind(customer.as_bytes().as_slice()))? > 0)
    }
}
