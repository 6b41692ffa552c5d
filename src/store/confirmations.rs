//! Confirmations that customers are asked for, the keys they answer with, and final decisions.

use async_trait::async_trait;

use super::{DecisionRow, StoreError};
use crate::crypto::Digest;
use crate::domain::id::{
    Attempt, ConfirmationId, CustomerId, PrincipalName, ReceiptId, TerminalId,
};
use crate::domain::time::UnixMillis;
use crate::domain::transaction::DecisionKey;

/// A confirmation that a customer is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfirmationRow {
    /// The confirmation.
    pub id: ConfirmationId,
    /// Whose it is.
    pub customer: CustomerId,
    /// The decision that asks for it; it has one at most.
    pub key: DecisionKey,
    /// That decision's receipt.
    pub receipt: ReceiptId,
    /// And where it stands in the ledger.
    pub index: u64,
    /// What is shown to the customer and what was seen of them, sealed under their data key and bound to
    /// this row.
    pub sealed: Vec<u8>,
    /// Since when.
    pub created_at: UnixMillis,
    /// Until when it may be answered.
    pub expires_at: UnixMillis,
    /// What one teller proposes, where tellers may agree in place of the customer.
    pub proposal: Option<TellerProposal>,
    /// The answer.
    pub answer: Option<ConfirmationAnswer>,
    /// The attempt whose decision it ended in: its own, or a later one of the same transaction.
    pub settled_by: Option<Attempt>,
}

/// The word of the first of two tellers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TellerProposal {
    /// Who.
    pub by: PrincipalName,
    /// With which key.
    pub key: Digest,
    /// Where the evidence of who stood at the desk is kept, sealed under the customer's data key.
    pub sealed: Vec<u8>,
    /// When.
    pub at: UnixMillis,
    /// The entry that says so.
    pub index: u64,
}

/// Whose confirmations are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PendingOf<'a> {
    /// Everybody's.
    Anybody,
    /// One customer's.
    Customer(&'a CustomerId),
    /// Those that one terminal waits for.
    Terminal(&'a TerminalId),
}

/// How a confirmation was answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfirmationAnswer {
    /// What was answered, and on whose word.
    pub kind: AnswerKind,
    /// When.
    pub at: UnixMillis,
    /// Until when it counts.
    pub counts_until: UnixMillis,
    /// The entry that says so.
    pub receipt: ReceiptId,
    /// And where it stands.
    pub index: u64,
    /// The key that signed it.
    pub app_key: Option<Digest>,
    /// The signature; empty without a key.
    pub signature: Vec<u8>,
}

/// What was answered, and on whose word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnswerKind {
    /// Yes, signed with the customer's key.
    CustomerKey,
    /// Yes, by the back end's word.
    BackEnd,
    /// Yes, by two tellers.
    TwoTellers,
    /// No.
    Declined,
}

impl AnswerKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::CustomerKey, Self::BackEnd, Self::TwoTellers, Self::Declined];

    /// The word that is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CustomerKey => "customer_key",
            Self::BackEnd => "back_end",
            Self::TwoTellers => "two_tellers",
            Self::Declined => "declined",
        }
    }
}

/// A key of a customer's device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppKeyRow {
    /// SHA-256 of the `SubjectPublicKeyInfo`.
    pub fingerprint: Digest,
    /// Whose it is.
    pub customer: CustomerId,
    /// The `SubjectPublicKeyInfo`, DER.
    pub spki: Vec<u8>,
    /// Since when.
    pub bound_at: UnixMillis,
}

/// Questions about confirmations, answered from committed state.
#[async_trait]
pub trait ConfirmationQuestions {
    /// One confirmation.
    async fn confirmation(
        &self,
        id: &ConfirmationId,
    ) -> Result<Option<ConfirmationRow>, StoreError>;
    /// The confirmation that a decision asks for.
    async fn confirmation_of(
        &self,
        key: &DecisionKey,
    ) -> Result<Option<ConfirmationRow>, StoreError>;
    /// What may be answered at `now`, behind an index of the ledger, in the order of the indices.
    async fn pending_confirmations(
        &self,
        of: PendingOf<'_>,
        after: u64,
        now: UnixMillis,
        limit: u32,
    ) -> Result<Vec<ConfirmationRow>, StoreError>;
    /// The final decision under the key of the one that asked for a confirmation.
    async fn final_decision(&self, key: &DecisionKey) -> Result<Option<DecisionRow>, StoreError>;
    /// A customer's device keys, the oldest first.
    async fn app_keys(&self, customer: &CustomerId) -> Result<Vec<AppKeyRow>, StoreError>;
    /// Where a terminal stands, in words.
    async fn terminal_place(&self, terminal: &TerminalId) -> Result<Option<String>, StoreError>;
}

/// Confirmations inside a write transaction.
#[async_trait]
pub trait Confirmations: Send {
    /// Adds one; [`StoreError::Exists`] if its decision has one.
    async fn insert_confirmation(&mut self, row: &ConfirmationRow) -> Result<(), StoreError>;
    /// One confirmation.
    async fn confirmation(
        &mut self,
        id: &ConfirmationId,
    ) -> Result<Option<ConfirmationRow>, StoreError>;
    /// All of one transaction, whatever the attempt, in the order of the ledger.
    async fn confirmations_of_transaction(
        &mut self,
        key: &DecisionKey,
    ) -> Result<Vec<ConfirmationRow>, StoreError>;
    /// Notes a first teller's word in place of an earlier one; false if it is answered or unknown.
    async fn propose_confirmation(
        &mut self,
        id: &ConfirmationId,
        proposal: &TellerProposal,
    ) -> Result<bool, StoreError>;
    /// Answers one; false if it is answered or unknown.
    async fn answer_confirmation(
        &mut self,
        id: &ConfirmationId,
        answer: &ConfirmationAnswer,
    ) -> Result<bool, StoreError>;
    /// Notes the decision that it ended in; false if there is one, or it is unknown.
    async fn settle_confirmation(
        &mut self,
        id: &ConfirmationId,
        attempt: Attempt,
    ) -> Result<bool, StoreError>;
    /// Deletes those made before `before`, settled or not; how many.
    async fn delete_confirmations(&mut self, before: UnixMillis) -> Result<u64, StoreError>;

    /// The final decision, inside this transaction.
    async fn final_decision(
        &mut self,
        key: &DecisionKey,
    ) -> Result<Option<DecisionRow>, StoreError>;
    /// Stores a final decision; [`StoreError::Exists`] if there is one. An outcome that was reported for
    /// the key before was the first decision's and counts no more.
    async fn insert_final_decision(&mut self, row: &DecisionRow) -> Result<(), StoreError>;

    /// Binds a key; [`StoreError::Exists`] if it is bound to anyone.
    async fn insert_app_key(&mut self, row: &AppKeyRow) -> Result<(), StoreError>;
    /// Unbinds a key of this customer; false if it was not bound to them.
    async fn delete_app_key(
        &mut self,
        fingerprint: &Digest,
        customer: &CustomerId,
    ) -> Result<bool, StoreError>;
    /// A customer's device keys, inside this transaction.
    async fn app_keys(&mut self, customer: &CustomerId) -> Result<Vec<AppKeyRow>, StoreError>;
    /// Says where a terminal stands, in place of what was said before.
    async fn put_terminal_place(
        &mut self,
        terminal: &TerminalId,
        place: &str,
    ) -> Result<(), StoreError>;
}
