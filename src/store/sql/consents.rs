//! Consents in SQL.

use async_trait::async_trait;

use super::SqliteStore;
use super::engine::query;
use super::parse::{Fields, stored};
use super::read::parsed;
use super::write::SqlUnit;
use crate::domain::id::CustomerId;
use crate::domain::time::UnixMillis;
use crate::store::{
    ConsentCause, ConsentEnd, ConsentReads, ConsentRow, Consents, CustomerStatus, LapsedConsent,
    Stays, StoreError,
};

const TABLE: &str = "consents";
const SELECT_CONSENT: &str = "SELECT customer, until, cause, ended_at, keep_until, entry_index \
     FROM consents WHERE customer = $1";

/// What ends with a customer's consent, and with the customer.
pub(super) const ENDS_WITH_CONSENT: [&str; 9] = [
    "DELETE FROM tokens WHERE customer = $1",
    "DELETE FROM app_keys WHERE customer = $1",
    "DELETE FROM unable WHERE customer = $1",
    "DELETE FROM guests WHERE customer = $1",
    "DELETE FROM enrolment_challenges WHERE customer = $1",
    "DELETE FROM biometric_locks WHERE customer = $1",
    "DELETE FROM holder_locks WHERE customer = $1",
    "DELETE FROM face_prints WHERE customer = $1",
    // Somebody else who was, or may be, found to be this customer is not freed by the customer's going.
    "DELETE FROM duplicates WHERE customer = $1 \
     OR (other = $1 AND resolution IS NOT NULL AND resolution <> 'same_person')",
];

impl Fields<'_> {
    fn consent(&self) -> Result<ConsentRow, StoreError> {
        let end = match self.maybe_time("ended_at")? {
            None => None,
            Some(at) => Some(ConsentEnd {
                cause: self.word("cause", &ConsentCause::ALL, ConsentCause::as_str)?,
                at,
                keep_until: self.time("keep_until")?,
                index: self.natural("entry_index")?,
            }),
        };
        Ok(ConsentRow { customer: self.customer("customer")?, until: self.time("until")?, end })
    }
}

#[async_trait]
impl ConsentReads for SqliteStore {
    async fn consent(&self, customer: &CustomerId) -> Result<Option<ConsentRow>, StoreError> {
        let row = self.one(query(SELECT_CONSENT).bind(customer.as_bytes().as_slice())).await?;
        row.map(|row| Fields::of(TABLE, &row).consent()).transpose()
    }

    async fn consents(
        &self,
        after: Option<&CustomerId>,
        limit: u32,
    ) -> Result<Vec<ConsentRow>, StoreError> {
        let sql = "SELECT customer, until, cause, ended_at, keep_until, entry_index FROM consents \
                   WHERE customer > $1 ORDER BY customer LIMIT $2";
        // Every identifier comes after no bytes at all.
        let after = after.map_or(&[][..], |id| id.as_bytes());
        let statement = query(sql).bind(after).bind(i64::from(limit));
        parsed(TABLE, &self.many(statement).await?, Fields::consent)
    }

    async fn lapsed_consents(
        &self,
        now: UnixMillis,
        limit: u32,
    ) -> Result<Vec<LapsedConsent>, StoreError> {
        let sql = "SELECT customer, until, cause, ended_at, keep_until, entry_index, \
                   EXISTS (SELECT 1 FROM cases WHERE cases.customer = consents.customer \
                           AND cases.status <> 'released') AS has_case \
                   FROM consents WHERE ended_at IS NULL AND until <= $1 ORDER BY customer LIMIT $2";
        let statement = query(sql).bind(now.get()).bind(i64::from(limit));
        parsed(TABLE, &self.many(statement).await?, |fields| {
            Ok(LapsedConsent { consent: fields.consent()?, has_case: fields.flag("has_case")? })
        })
    }

    async fn customers_to_erase(
        &self,
        now: UnixMillis,
        limit: u32,
    ) -> Result<Vec<CustomerId>, StoreError> {
        let sql = "SELECT customer FROM consents WHERE ended_at IS NOT NULL AND keep_until <= $1 \
                   AND NOT EXISTS (SELECT 1 FROM cases WHERE cases.customer = consents.customer \
                                   AND cases.status <> 'released') \
                   ORDER BY customer LIMIT $2";
        let statement = query(sql).bind(now.get()).bind(i64::from(limit));
        parsed(TABLE, &self.many(statement).await?, |fields| fields.customer("customer"))
    }

    async fn customers_without_consent(
        &self,
        after: Option<&CustomerId>,
        limit: u32,
    ) -> Result<Vec<CustomerId>, StoreError> {
        let sql = "SELECT id FROM customers WHERE id > $1 AND status <> $2 \
                   AND NOT EXISTS (SELECT 1 FROM consents WHERE consents.customer = customers.id) \
                   ORDER BY id LIMIT $3";
        let after = after.map_or(&[][..], |id| id.as_bytes());
        let statement =
            query(sql).bind(after).bind(CustomerStatus::Erased.as_str()).bind(i64::from(limit));
        parsed("customers", &self.many(statement).await?, |fields| fields.customer("id"))
    }
}

#[async_trait]
impl Consents for SqlUnit {
    async fn consent(&mut self, customer: &CustomerId) -> Result<Option<ConsentRow>, StoreError> {
        let statement = query(SELECT_CONSENT).bind(customer.as_bytes().as_slice());
        let row = statement.one(self.connection())?;
        row.map(|row| Fields::of(TABLE, &row).consent()).transpose()
    }

    async fn put_consent(&mut self, row: &ConsentRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO consents (customer, until, cause, ended_at, keep_until, entry_index) \
                   VALUES ($1, $2, $3, $4, $5, $6) \
                   ON CONFLICT (customer) DO UPDATE SET until = excluded.until, cause = excluded.cause, \
                   ended_at = excluded.ended_at, keep_until = excluded.keep_until, \
                   entry_index = excluded.entry_index";
        let end = row.end.as_ref();
        let statement = query(sql)
            .bind(row.customer.as_bytes().as_slice())
            .bind(row.until.get())
            .bind(end.map(|end| end.cause.as_str()))
            .bind(end.map(|end| end.at.get()))
            .bind(end.map(|end| end.keep_until.get()))
            .bind(end.map(|end| stored(end.index)));
        self.run(statement).map(drop)
    }

    async fn block_customer(
        &mut self,
        customer: &CustomerId,
        stays: Stays,
        at: UnixMillis,
    ) -> Result<bool, StoreError> {
        self.destroys();
        let id = customer.as_bytes().as_slice();
        self.run_each(&ENDS_WITH_CONSENT, id)?;
        for sql in [
            "UPDATE confirmations SET sealed = x'' WHERE customer = $1 AND settled_by IS NOT NULL",
            // What waits is decided without the customer, by whichever clock.
            "UPDATE confirmations SET expires_at = 0 WHERE customer = $1 AND settled_by IS NULL",
        ] {
            self.run(query(sql).bind(id))?;
        }
        if !stays.templates {
            self.run(query("DELETE FROM captures WHERE customer = $1").bind(id))?;
            // Captures that were proposed are captures.
            self.run(query("UPDATE proposals SET content = x'' WHERE customer = $1").bind(id))?;
        }
        if !stays.number {
            self.run(query("UPDATE customers SET iin_index = NULL WHERE id = $1").bind(id))?;
        }
        let sql =
            "UPDATE customers SET status = $2, updated_at = $3 WHERE id = $1 AND status <> $4";
        let statement = query(sql)
            .bind(id)
            .bind(CustomerStatus::Withdrawn.as_str())
            .bind(at.get())
            .bind(CustomerStatus::Erased.as_str());
        Ok(self.run(statement)? > 0)
    }
}
