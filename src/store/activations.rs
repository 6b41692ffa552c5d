//! Activations that wait for a second person.

use async_trait::async_trait;

use super::StoreError;
use crate::crypto::Digest;
use crate::domain::id::{CustomerId, PrincipalName};
use crate::domain::reference::SecondPersonReason;
use crate::domain::time::UnixMillis;

/// A first person's call to activate a customer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActivationProposalRow {
    /// Who is to be activated.
    pub customer: CustomerId,
    /// Who proposed it.
    pub proposed_by: PrincipalName,
    /// With which key.
    pub proposed_key: Digest,
    /// Why a second person is needed.
    pub reason: SecondPersonReason,
    /// When it was proposed.
    pub proposed_at: UnixMillis,
    /// The ledger entry that says so.
    pub index: u64,
}

/// Questions about proposals, answered from committed state.
#[async_trait]
pub trait ActivationQuestions {
    /// The proposal to activate a customer, expired ones too.
    async fn activation_proposal(
        &self,
        customer: &CustomerId,
    ) -> Result<Option<ActivationProposalRow>, StoreError>;
}

/// Proposals inside a write transaction.
#[async_trait]
pub trait Activations: Send {
    /// The proposal to activate a customer, expired ones too.
    async fn activation_proposal(
        &mut self,
        customer: &CustomerId,
    ) -> Result<Option<ActivationProposalRow>, StoreError>;
    /// Keeps a proposal in place of an earlier one.
    async fn put_activation_proposal(
        &mut self,
        row: &ActivationProposalRow,
    ) -> Result<(), StoreError>;
    /// Takes a proposal away; false if there was none.
    async fn delete_activation_proposal(
        &mut self,
        customer: &CustomerId,
    ) -> Result<bool, StoreError>;
}
