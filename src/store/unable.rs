//! People who are marked as unable to give a biometric.

use async_trait::async_trait;

use super::StoreError;
use crate::crypto::Digest;
use crate::domain::id::{CustomerId, PrincipalName};
use crate::domain::time::UnixMillis;

/// A mark, which counts once a second person has approved it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnableRow {
    /// Who is unable.
    pub customer: CustomerId,
    /// Who proposed it.
    pub proposed_by: PrincipalName,
    /// With which key.
    pub proposed_key: Digest,
    /// Where the evidence is kept, sealed under the customer's data key.
    pub sealed: Vec<u8>,
    /// When it was proposed.
    pub proposed_at: UnixMillis,
    /// When it was approved.
    pub approved_at: Option<UnixMillis>,
}

/// Questions about marks, answered from committed state.
#[async_trait]
pub trait UnableQuestions {
    /// A customer's mark, proposed or approved.
    async fn unable(&self, customer: &CustomerId) -> Result<Option<UnableRow>, StoreError>;
}

/// Marks inside a write transaction.
#[async_trait]
pub trait Unable: Send {
    /// A customer's mark, proposed or approved.
    async fn unable(&mut self, customer: &CustomerId) -> Result<Option<UnableRow>, StoreError>;
    /// Proposes a mark in place of one that was proposed; [`StoreError::Exists`] if one is approved.
    async fn put_unable(&mut self, row: &UnableRow) -> Result<(), StoreError>;
    /// Approves what is proposed; false if nothing is.
    async fn approve_unable(
        &mut self,
        customer: &CustomerId,
        at: UnixMillis,
    ) -> Result<bool, StoreError>;
    /// Takes a mark away; false if there was none.
    async fn delete_unable(&mut self, customer: &CustomerId) -> Result<bool, StoreError>;
}
