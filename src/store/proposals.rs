//! Acts that one person proposed and another one must approve.

use std::fmt;

use async_trait::async_trait;

use super::StoreError;
use crate::crypto::Digest;
use crate::domain::four_eyes::{ProposalState, TwoPersonAct};
use crate::domain::id::{CustomerId, PrincipalName, ProposalId};
use crate::domain::time::UnixMillis;

/// An act that was proposed.
#[derive(Clone, PartialEq, Eq)]
pub struct ProposedRow {
    /// Its number.
    pub id: ProposalId,
    /// What it is.
    pub act: TwoPersonAct,
    /// About which customer, where it is about one who is not erased.
    pub customer: Option<CustomerId>,
    /// About whom, as receipts write it: a pseudonym, or a person of the staff. Empty once they are erased: the
    /// entry has it.
    pub subject: String,
    /// What is to be done, exactly; templates in it are sealed. Empty once the proposal is closed.
    pub content: Vec<u8>,
    /// What the entries of proposal and act commit to.
    pub commit: Digest,
    /// Who proposed it.
    pub proposed_by: PrincipalName,
    /// With which key.
    pub proposed_key: Digest,
    /// When.
    pub proposed_at: UnixMillis,
    /// The entry that says so.
    pub index: u64,
    /// The first instant at which it may be approved.
    pub not_before: UnixMillis,
    /// The first instant at which it may not any more.
    pub expires_at: UnixMillis,
    /// How it ended; none while it waits.
    pub closed: Option<Closure>,
}

impl ProposedRow {
    /// Where it stands, as far as anybody has said.
    #[must_use]
    pub fn state(&self) -> ProposalState {
        self.closed.as_ref().map_or(ProposalState::Open, |closure| closure.state)
    }
}

impl fmt::Debug for ProposedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProposedRow({} {}, {:?})", self.act.as_str(), self.id, self.state())
    }
}

/// How a proposal ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Closure {
    /// How; never open.
    pub state: ProposalState,
    /// Who ended it: a name and a key; none where its time did.
    pub by: Option<(PrincipalName, Digest)>,
    /// When.
    pub at: UnixMillis,
    /// The entry that says so.
    pub index: u64,
}

/// Questions about proposals, answered from committed state.
#[async_trait]
pub trait ProposalReads: Send + Sync {
    /// A proposal, closed ones too.
    async fn proposal(&self, id: &ProposalId) -> Result<Option<ProposedRow>, StoreError>;
    /// Proposals by the order of their entries, after the given entry; `open` leaves out closed ones.
    async fn proposals(
        &self,
        open: bool,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<ProposedRow>, StoreError>;
    /// The latest open proposal of an act about a customer, one whose time is over too.
    async fn latest_open_proposal(
        &self,
        act: TwoPersonAct,
        customer: &CustomerId,
    ) -> Result<Option<ProposedRow>, StoreError>;
    /// Open proposals whose time is over at `now`, the oldest first.
    async fn proposals_expired(
        &self,
        now: UnixMillis,
        limit: u32,
    ) -> Result<Vec<ProposedRow>, StoreError>;
}

/// Proposals inside a write transaction.
#[async_trait]
pub trait ProposalWrites: Send {
    /// A proposal, closed ones too.
    async fn proposal(&mut self, id: &ProposalId) -> Result<Option<ProposedRow>, StoreError>;
    /// The open proposals of an act about somebody, in the order of their entries.
    async fn proposals_about(
        &mut self,
        act: TwoPersonAct,
        subject: &str,
    ) -> Result<Vec<ProposedRow>, StoreError>;
    /// How many of an act are open that somebody of this name proposed.
    async fn proposals_open(
        &mut self,
        act: TwoPersonAct,
        by: &PrincipalName,
    ) -> Result<u64, StoreError>;
    /// Keeps a proposal; [`StoreError::Exists`] for a number that is there.
    async fn insert_proposal(&mut self, row: &ProposedRow) -> Result<(), StoreError>;
    /// Closes a proposal and destroys its content; false if none of the number is open.
    async fn close_proposal(
        &mut self,
        id: &ProposalId,
        closure: &Closure,
    ) -> Result<bool, StoreError>;
    /// Closes every open proposal about a customer in the same way, or every one of an act; how many.
    async fn close_proposals_of(
        &mut self,
        customer: &CustomerId,
        act: Option<TwoPersonAct>,
        closure: &Closure,
    ) -> Result<u64, StoreError>;
}
