//! Cases and their evidence.

use async_trait::async_trait;

use super::StoreError;
use crate::crypto::Digest;
use crate::domain::case::{CaseKind, CaseStatus, Resolution};
use crate::domain::decision::RuleId;
use crate::domain::id::{CaseId, CustomerId};
use crate::domain::money::Currency;
use crate::domain::time::UnixMillis;
use crate::domain::transaction::Operation;

/// A case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaseRow {
    /// The case.
    pub id: CaseId,
    /// About whom.
    pub customer: CustomerId,
    /// What about.
    pub kind: CaseKind,
    /// Where it stands.
    pub status: CaseStatus,
    /// Since when.
    pub opened_at: UnixMillis,
    /// Until when the person's withdrawals are held; none where nothing was held.
    pub held_until: Option<UnixMillis>,
    /// The hold was counted by weekends alone, since the calendar ends before it.
    pub beyond_calendar: bool,
    /// The greatest weight of signals that any of its decisions had.
    pub weight: u32,
    /// How many decisions belong to it.
    pub decisions: u32,
    /// By which cases are ordered.
    pub score: u32,
    /// What was proposed and waits.
    pub proposal: Option<ProposalRow>,
    /// When it was closed.
    pub closed_at: Option<UnixMillis>,
}

/// A proposal of how a case ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProposalRow {
    /// How.
    pub resolution: Resolution,
    /// The proposer's name.
    pub by: String,
    /// The proposer's key.
    pub key: Digest,
    /// When.
    pub at: UnixMillis,
}

/// A decision that belongs to a case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaseEvidenceRow {
    /// The case.
    pub case: CaseId,
    /// The decision's ledger entry.
    pub index: u64,
    /// When.
    pub at: UnixMillis,
    /// The outcome's word.
    pub outcome: String,
    /// The rules that held.
    pub rules: Vec<RuleId>,
    /// What was asked for.
    pub operation: Operation,
    /// How much, in minor units.
    pub amount_minor: i64,
    /// Of which currency.
    pub currency: Currency,
}

/// A case with what belongs to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaseFile {
    /// The case.
    pub case: CaseRow,
    /// Its decisions, oldest first.
    pub evidence: Vec<CaseEvidenceRow>,
    /// Customers who moved cash on an account or with a card that this one used, or whose face is alike, by
    /// a search at enrolment or by a decision of a case.
    pub linked: Vec<CustomerId>,
}

/// Questions about cases, answered from committed state.
#[async_trait]
pub trait CaseReads {
    /// Cases of a status or of all, the highest score first, after the given score and id.
    async fn cases(
        &self,
        status: Option<CaseStatus>,
        after: Option<(u32, CaseId)>,
        limit: u32,
    ) -> Result<Vec<CaseRow>, StoreError>;
    /// A case, with as many decisions and linked customers as are wanted, all as of one instant.
    async fn case_file(
        &self,
        id: &CaseId,
        evidence_max: u32,
        linked_max: u32,
    ) -> Result<Option<CaseFile>, StoreError>;
}

/// Cases inside a write transaction.
#[async_trait]
pub trait Cases: Send {
    /// A case.
    async fn case(&mut self, id: &CaseId) -> Result<Option<CaseRow>, StoreError>;
    /// The cases about a customer, oldest first, closed ones too.
    async fn cases_of(&mut self, customer: &CustomerId) -> Result<Vec<CaseRow>, StoreError>;
    /// Adds a case, or takes the place of the row with its id.
    async fn put_case(&mut self, row: &CaseRow) -> Result<(), StoreError>;
    /// Adds a decision to a case; [`StoreError::Exists`] if it has it.
    async fn insert_case_evidence(&mut self, row: &CaseEvidenceRow) -> Result<(), StoreError>;
    /// Notes whom else the face belongs to, perhaps, that a case is about; again changes nothing.
    async fn put_case_lookalike(
        &mut self,
        case: &CaseId,
        other: &CustomerId,
    ) -> Result<(), StoreError>;
    /// Whether a case about the one, with the other as its lookalike, was released; whichever is which.
    async fn was_lookalike_released(
        &mut self,
        one: &CustomerId,
        other: &CustomerId,
    ) -> Result<bool, StoreError>;
}
