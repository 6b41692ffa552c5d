//! Decisions as oversight reports look at them.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::decision::SignCode;
use crate::domain::id::TerminalId;
use crate::domain::money::Currency;
use crate::domain::reason::Reason;
use crate::domain::time::UnixMillis;
use crate::domain::transaction::{DecisionKey, Operation};

/// One decision, without anything personal but the customer's pseudonym.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerificationRow {
    /// Where its receipt stands in the ledger.
    pub index: u64,
    /// When.
    pub at: UnixMillis,
    /// The transaction and attempt.
    pub key: DecisionKey,
    /// What was to happen to the cash.
    pub operation: Operation,
    /// How much was asked for, in minor units.
    pub amount_minor: i64,
    /// How much was approved; none where it was not.
    pub approved_minor: Option<i64>,
    /// Of which currency.
    pub currency: Currency,
    /// The outcome's word.
    pub outcome: String,
    /// Every reason, those too that no terminal is told.
    pub reasons: Vec<Reason>,
    /// The signs by which it is suspicious.
    pub signs: Vec<SignCode>,
    /// The customer's pseudonym.
    pub subject: String,
}

/// Approvals of one terminal, operation and currency, added up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApprovedSum {
    /// The terminal.
    pub terminal: TerminalId,
    /// What was to happen to the cash.
    pub operation: Operation,
    /// Of which currency.
    pub currency: Currency,
    /// How many approvals.
    pub approved: i64,
    /// Their sum, in minor units.
    pub approved_minor: i64,
    /// How many of them moved anything; one that the host did not reverse did.
    pub moved: i64,
    /// What they moved, in minor units.
    pub moved_minor: i64,
}

/// Decisions of one terminal with one outcome and the same reasons.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutcomeCount {
    /// The terminal.
    pub terminal: TerminalId,
    /// The outcome's word.
    pub outcome: String,
    /// The reasons.
    pub reasons: Vec<Reason>,
    /// How many.
    pub count: i64,
    /// How many of them are approvals that a refusal of the same customer preceded in the same
    /// transaction, because the face did not match.
    pub after_mismatch: i64,
}

/// Decisions of one terminal of some kind that has no facts about a face.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntryCount {
    /// The terminal.
    pub terminal: TerminalId,
    /// How many.
    pub count: i64,
}

/// Decisions from committed state, each question about `from <= at < until`.
#[async_trait]
pub trait VerificationReads: Send + Sync {
    /// Decisions with a sign, after an index, at most `limit`, in the order of the ledger.
    async fn with_signs(
        &self,
        from: UnixMillis,
        until: UnixMillis,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<VerificationRow>, StoreError>;

    /// Approvals added up, by terminal, operation and currency, in that order.
    async fn approved_sums(
        &self,
        from: UnixMillis,
        until: UnixMillis,
    ) -> Result<Vec<ApprovedSum>, StoreError>;

    /// Decisions counted by terminal, outcome and reasons, in that order.
    async fn outcome_counts(
        &self,
        from: UnixMillis,
        until: UnixMillis,
    ) -> Result<Vec<OutcomeCount>, StoreError>;

    /// Entries of a kind counted by terminal; those without a terminal are left out.
    async fn entry_counts(
        &self,
        origin: &str,
        kind: &str,
        from: UnixMillis,
        until: UnixMillis,
    ) -> Result<Vec<EntryCount>, StoreError>;
}

/// Decisions inside a write transaction.
#[async_trait]
pub trait Verifications: Send {
    /// Adds a decision; [`StoreError::Exists`] if its index has one.
    async fn insert_verification(&mut self, row: &VerificationRow) -> Result<(), StoreError>;
}
