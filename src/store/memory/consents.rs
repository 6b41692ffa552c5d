//! Consents in memory.

use async_trait::async_trait;

use super::{MemoryStore, MemoryUnit, State, at_most};
use crate::domain::case::CaseStatus;
use crate::domain::id::CustomerId;
use crate::domain::time::UnixMillis;
use crate::store::{
    ConsentReads, ConsentRow, Consents, CustomerStatus, LapsedConsent, SAME_PERSON, Stays,
    StoreError,
};

impl State {
    /// What ends with a customer's consent, and with the customer.
    pub(super) fn end_with_consent(&mut self, customer: &CustomerId) {
        self.tokens.retain(|_, row| row.customer != *customer);
        self.app_keys.retain(|_, row| row.customer != *customer);
        self.unable.remove(customer);
        self.guests.remove(customer);
        self.enrolment_challenges.retain(|_, row| row.customer != *customer);
        self.forget_locks(customer);
        self.face_prints.retain(|_, row| row.customer != *customer);
        self.forget_duplicates(customer);
    }

    /// Somebody else who was, or may be, found to be this customer is not freed by the customer's going.
    fn forget_duplicates(&mut self, customer: &CustomerId) {
        self.duplicates.retain(|(of, other), row| {
            let resolution = row.resolution.as_deref();
            let stands = resolution.is_none_or(|word| word == SAME_PERSON);
            of != customer && (other != customer || stands)
        });
    }

    fn has_case(&self, customer: &CustomerId) -> bool {
        let mut cases = self.cases.values();
        cases.any(|case| case.customer == *customer && case.status != CaseStatus::Released)
    }
}

#[async_trait]
impl ConsentReads for MemoryStore {
    async fn consent(&self, customer: &CustomerId) -> Result<Option<ConsentRow>, StoreError> {
        Ok(self.read()?.consents.get(customer).cloned())
    }

    async fn consents(
        &self,
        after: Option<&CustomerId>,
        limit: u32,
    ) -> Result<Vec<ConsentRow>, StoreError> {
        let state = self.read()?;
        let rows = state.consents.values();
        let rows = rows.filter(|row| after.is_none_or(|after| row.customer > *after));
        Ok(at_most(rows.cloned(), limit))
    }

    async fn lapsed_consents(
        &self,
        now: UnixMillis,
        limit: u32,
    ) -> Result<Vec<LapsedConsent>, StoreError> {
        let state = self.read()?;
        let lapsed = state.consents.values().filter(|row| row.end.is_none() && row.until <= now);
        let lapsed = lapsed.map(|row| LapsedConsent {
            consent: row.clone(),
            has_case: state.has_case(&row.customer),
        });
        Ok(at_most(lapsed, limit))
    }

    async fn customers_to_erase(
        &self,
        now: UnixMillis,
        limit: u32,
    ) -> Result<Vec<CustomerId>, StoreError> {
        let state = self.read()?;
        let is_over = |row: &&ConsentRow| row.end.is_some_and(|end| end.keep_until <= now);
        let over = state.consents.values().filter(is_over).map(|row| row.customer);
        Ok(at_most(over.filter(|customer| !state.has_case(customer)), limit))
    }

    async fn customers_without_consent(
        &self,
        after: Option<&CustomerId>,
        limit: u32,
    ) -> Result<Vec<CustomerId>, StoreError> {
        let state = self.read()?;
        let rows = state.customers.values();
        let rows = rows.filter(|row| row.status != CustomerStatus::Erased).map(|row| row.id);
        let rows = rows.filter(|id| !state.consents.contains_key(id));
        Ok(at_most(rows.filter(|id| after.is_none_or(|after| id > after)), limit))
    }
}

#[async_trait]
impl Consents for MemoryUnit {
    async fn consent(&mut self, customer: &CustomerId) -> Result<Option<ConsentRow>, StoreError> {
        Ok(self.state()?.consents.get(customer).cloned())
    }

    async fn put_consent(&mut self, row: &ConsentRow) -> Result<(), StoreError> {
        let state = self.state()?;
        state.require_customer(&row.customer)?;
        state.consents.insert(row.customer, row.clone());
        Ok(())
    }

    async fn block_customer(
        &mut self,
        customer: &CustomerId,
        stays: Stays,
        at: UnixMillis,
    ) -> Result<bool, StoreError> {
        let state = self.state()?;
        state.end_with_consent(customer);
        state.end_confirmations(customer);
        if !stays.templates {
            state.captures.retain(|_, row| row.customer != *customer);
            state.proposals_of(customer).for_each(|row| row.content.clear());
        }
        let row = state.customers.get_mut(customer);
        let Some(row) = row.filter(|row| row.status != CustomerStatus::Erased) else {
            return Ok(false);
        };
        row.status = CustomerStatus::Withdrawn;
        row.updated_at = at;
        row.iin_index = row.iin_index.filter(|_| stays.number);
        Ok(true)
    }
}
