//! Proposed activations in memory.

use async_trait::async_trait;

use super::{MemoryStore, MemoryUnit};
use crate::domain::id::CustomerId;
use crate::store::{ActivationProposalRow, ActivationQuestions, Activations, StoreError};

#[async_trait]
impl ActivationQuestions for MemoryStore {
    async fn activation_proposal(
        &self,
        customer: &CustomerId,
    ) -> Result<Option<ActivationProposalRow>, StoreError> {
        Ok(self.read()?.activation_proposals.get(customer).cloned())
    }
}

#[async_trait]
impl Activations for MemoryUnit {
    async fn activation_proposal(
        &mut self,
        customer: &CustomerId,
    ) -> Result<Option<ActivationProposalRow>, StoreError> {
        Ok(self.state()?.activation_proposals.get(customer).cloned())
    }

    async fn put_activation_proposal(
        &mut self,
        row: &ActivationProposalRow,
    ) -> Result<(), StoreError> {
        let state = self.state()?;
        state.require_customer(&row.customer)?;
        state.activation_proposals.insert(row.customer, row.clone());
        Ok(())
    }

    async fn delete_activation_proposal(
        &mut self,
        customer: &CustomerId,
    ) -> Result<bool, StoreError> {
        Ok(self.state()?.activation_proposals.remove(customer).is_some())
    }
}
