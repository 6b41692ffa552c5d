//! Confirmations in memory.

use async_trait::async_trait;

use super::{MemoryStore, MemoryUnit, State, at_most, insert};
use crate::crypto::Digest;
use crate::domain::id::{Attempt, ConfirmationId, CustomerId, TerminalId};
use crate::domain::time::UnixMillis;
use crate::domain::transaction::DecisionKey;
use crate::store::{
    AppKeyRow, ConfirmationAnswer, ConfirmationQuestions, ConfirmationRow, Confirmations,
    DecisionRow, PendingOf, StoreError, TellerProposal,
};

impl State {
    fn app_keys(&self, customer: &CustomerId) -> Vec<AppKeyRow> {
        let mut keys: Vec<_> =
            self.app_keys.values().filter(|row| row.customer == *customer).cloned().collect();
        keys.sort_by_key(|row| (row.bound_at, row.fingerprint));
        keys
    }

    /// In the order of the ledger.
    fn confirmations(&self, wanted: impl Fn(&ConfirmationRow) -> bool) -> Vec<ConfirmationRow> {
        let mut rows: Vec<_> =
            self.confirmations.values().filter(|row| wanted(row)).cloned().collect();
        rows.sort_by_key(|row| row.index);
        rows
    }

    /// The end of a consent ends what waits for the customer.
    pub(super) fn end_confirmations(&mut self, customer: &CustomerId) {
        for row in self.confirmations.values_mut().filter(|row| row.customer == *customer) {
            if row.settled_by.is_some() {
                row.sealed.clear();
            } else {
                row.expires_at = UnixMillis::new(0);
            }
        }
    }
}

#[async_trait]
impl ConfirmationQuestions for MemoryStore {
    async fn confirmation(
        &self,
        id: &ConfirmationId,
    ) -> Result<Option<ConfirmationRow>, StoreError> {
        Ok(self.read()?.confirmations.get(id).cloned())
    }

    async fn confirmation_of(
        &self,
        key: &DecisionKey,
    ) -> Result<Option<ConfirmationRow>, StoreError> {
        Ok(self.read()?.confirmations.values().find(|row| row.key == *key).cloned())
    }

    async fn pending_confirmations(
        &self,
        of: PendingOf<'_>,
        after: u64,
        now: UnixMillis,
        limit: u32,
    ) -> Result<Vec<ConfirmationRow>, StoreError> {
        let rows = self.read()?.confirmations(|row| {
            row.index > after
                && row.expires_at >= now
                && row.answer.is_none()
                && row.settled_by.is_none()
                && match of {
                    PendingOf::Anybody => true,
                    PendingOf::Customer(id) => row.customer == *id,
                    PendingOf::Terminal(id) => row.key.terminal == *id,
                }
        });
        Ok(at_most(rows.into_iter(), limit))
    }

    async fn final_decision(&self, key: &DecisionKey) -> Result<Option<DecisionRow>, StoreError> {
        Ok(self.read()?.final_decisions.get(key).cloned())
    }

    async fn app_keys(&self, customer: &CustomerId) -> Result<Vec<AppKeyRow>, StoreError> {
        Ok(self.read()?.app_keys(customer))
    }

    async fn terminal_place(&self, terminal: &TerminalId) -> Result<Option<String>, StoreError> {
        Ok(self.read()?.terminal_places.get(terminal).cloned())
    }
}

#[async_trait]
impl Confirmations for MemoryUnit {
    async fn insert_confirmation(&mut self, row: &ConfirmationRow) -> Result<(), StoreError> {
        let state = self.state()?;
        state.require_customer(&row.customer)?;
        if state.confirmations.values().any(|held| held.key == row.key) {
            return Err(StoreError::Exists);
        }
        insert(&mut state.confirmations, row.id, row.clone())
    }

    async fn confirmation(
        &mut self,
        id: &ConfirmationId,
    ) -> Result<Option<ConfirmationRow>, StoreError> {
        Ok(self.state()?.confirmations.get(id).cloned())
    }

    async fn confirmations_of_transaction(
        &mut self,
        key: &DecisionKey,
    ) -> Result<Vec<ConfirmationRow>, StoreError> {
        let of = |key: &DecisionKey| {
            (key.terminal.clone(), key.business_date.clone(), key.host_id.clone())
        };
        Ok(self.state()?.confirmations(|row| of(&row.key) == of(key)))
    }

    async fn propose_confirmation(
        &mut self,
        id: &ConfirmationId,
        proposal: &TellerProposal,
    ) -> Result<bool, StoreError> {
        let row = self.state()?.confirmations.get_mut(id);
        let open = row.filter(|row| row.answer.is_none() && row.settled_by.is_none());
        Ok(open.map(|row| row.proposal = Some(proposal.clone())).is_some())
    }

    async fn answer_confirmation(
        &mut self,
        id: &ConfirmationId,
        answer: &ConfirmationAnswer,
    ) -> Result<bool, StoreError> {
        let row = self.state()?.confirmations.get_mut(id);
        let open = row.filter(|row| row.answer.is_none() && row.settled_by.is_none());
        Ok(open.map(|row| row.answer = Some(answer.clone())).is_some())
    }

    async fn settle_confirmation(
        &mut self,
        id: &ConfirmationId,
        attempt: Attempt,
    ) -> Result<bool, StoreError> {
        let row = self.state()?.confirmations.get_mut(id);
        let open = row.filter(|row| row.settled_by.is_none());
        Ok(open.map(|row| row.settled_by = Some(attempt)).is_some())
    }

    async fn delete_confirmations(&mut self, before: UnixMillis) -> Result<u64, StoreError> {
        let rows = &mut self.state()?.confirmations;
        let held = rows.len();
        rows.retain(|_, row| row.created_at >= before);
        Ok(u64::try_from(held - rows.len()).unwrap_or(u64::MAX))
    }

    async fn final_decision(
        &mut self,
        key: &DecisionKey,
    ) -> Result<Option<DecisionRow>, StoreError> {
        Ok(self.state()?.final_decisions.get(key).cloned())
    }

    async fn insert_final_decision(&mut self, row: &DecisionRow) -> Result<(), StoreError> {
        let state = self.state()?;
        insert(&mut state.final_decisions, row.key.clone(), row.clone())?;
        state.outcomes.remove(&row.key);
        Ok(())
    }

    async fn insert_app_key(&mut self, row: &AppKeyRow) -> Result<(), StoreError> {
        let state = self.state()?;
        state.require_customer(&row.customer)?;
        insert(&mut state.app_keys, row.fingerprint, row.clone())
    }

    async fn delete_app_key(
        &mut self,
        fingerprint: &Digest,
        customer: &CustomerId,
    ) -> Result<bool, StoreError> {
        let keys = &mut self.state()?.app_keys;
        let theirs = keys.get(fingerprint).is_some_and(|row| row.customer == *customer);
        Ok(theirs && keys.remove(fingerprint).is_some())
    }

    async fn app_keys(&mut self, customer: &CustomerId) -> Result<Vec<AppKeyRow>, StoreError> {
        Ok(self.state()?.app_keys(customer))
    }

    async fn put_terminal_place(
        &mut self,
        terminal: &TerminalId,
        place: &str,
    ) -> Result<(), StoreError> {
        self.state()?.terminal_places.insert(terminal.clone(), place.to_owned());
        Ok(())
    }
}
