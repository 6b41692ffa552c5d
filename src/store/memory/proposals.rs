//! Acts that one person proposed and another one must approve, in memory.

use async_trait::async_trait;

use super::{MemoryStore, MemoryUnit, State, at_most, insert};
use crate::domain::four_eyes::TwoPersonAct;
use crate::domain::id::{CustomerId, PrincipalName, ProposalId};
use crate::domain::time::UnixMillis;
use crate::store::{Closure, ProposalReads, ProposalWrites, ProposedRow, StoreError};

impl State {
    /// Proposals in the order of their entries.
    fn proposals_where(&self, stays: impl Fn(&ProposedRow) -> bool) -> Vec<ProposedRow> {
        let mut rows: Vec<_> = self.proposals.values().filter(|row| stays(row)).cloned().collect();
        rows.sort_by_key(|row| row.index);
        rows
    }

    /// What an erasure takes with it.
    pub(super) fn forget_proposals(&mut self, customer: &CustomerId) {
        for row in self.proposals_of(customer) {
            row.content.clear();
            row.subject.clear();
            row.customer = None;
        }
    }

    /// What was proposed about somebody.
    pub(super) fn proposals_of(
        &mut self,
        customer: &CustomerId,
    ) -> impl Iterator<Item = &mut ProposedRow> {
        self.proposals.values_mut().filter(|row| row.customer == Some(*customer))
    }
}

#[async_trait]
impl ProposalReads for MemoryStore {
    async fn proposal(&self, id: &ProposalId) -> Result<Option<ProposedRow>, StoreError> {
        Ok(self.read()?.proposals.get(id).cloned())
    }

    async fn proposals(
        &self,
        open: bool,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<ProposedRow>, StoreError> {
        let rows = self.read()?.proposals_where(|row| {
            (!open || row.closed.is_none()) && after.is_none_or(|index| row.index > index)
        });
        Ok(at_most(rows.into_iter(), limit))
    }

    async fn latest_open_proposal(
        &self,
        act: TwoPersonAct,
        customer: &CustomerId,
    ) -> Result<Option<ProposedRow>, StoreError> {
        let mut rows = self.read()?.proposals_where(|row| {
            row.closed.is_none() && row.act == act && row.customer == Some(*customer)
        });
        Ok(rows.pop())
    }

    async fn proposals_expired(
        &self,
        now: UnixMillis,
        limit: u32,
    ) -> Result<Vec<ProposedRow>, StoreError> {
        let is_over = |row: &ProposedRow| row.closed.is_none() && row.expires_at <= now;
        let rows = self.read()?.proposals_where(is_over);
        Ok(at_most(rows.into_iter(), limit))
    }
}

#[async_trait]
impl ProposalWrites for MemoryUnit {
    async fn proposal(&mut self, id: &ProposalId) -> Result<Option<ProposedRow>, StoreError> {
        Ok(self.state()?.proposals.get(id).cloned())
    }

    async fn proposals_about(
        &mut self,
        act: TwoPersonAct,
        subject: &str,
    ) -> Result<Vec<ProposedRow>, StoreError> {
        Ok(self.state()?.proposals_where(|row| {
            row.closed.is_none() && row.act == act && row.subject == subject
        }))
    }

    async fn proposals_open(
        &mut self,
        act: TwoPersonAct,
        by: &PrincipalName,
    ) -> Result<u64, StoreError> {
        let open = self.state()?.proposals_where(|row| {
            row.closed.is_none() && row.act == act && row.proposed_by == *by
        });
        Ok(u64::try_from(open.len()).unwrap_or(u64::MAX))
    }

    async fn insert_proposal(&mut self, row: &ProposedRow) -> Result<(), StoreError> {
        let state = self.state()?;
        if let Some(customer) = &row.customer {
            state.require_customer(customer)?;
        }
        insert(&mut state.proposals, row.id, row.clone())
    }

    async fn close_proposal(
        &mut self,
        id: &ProposalId,
        closure: &Closure,
    ) -> Result<bool, StoreError> {
        let held = self.state()?.proposals.get_mut(id);
        let Some(row) = held.filter(|row| row.closed.is_none()) else { return Ok(false) };
        row.content.clear();
        row.closed = Some(closure.clone());
        Ok(true)
    }

    async fn close_proposals_of(
        &mut self,
        customer: &CustomerId,
        act: Option<TwoPersonAct>,
        closure: &Closure,
    ) -> Result<u64, StoreError> {
        let mut closed = 0;
        let ends = |row: &ProposedRow| row.closed.is_none() && act.is_none_or(|act| row.act == act);
        for row in self.state()?.proposals_of(customer).filter(|row| ends(row)) {
            row.content.clear();
            row.closed = Some(closure.clone());
            closed += 1;
        }
        Ok(closed)
    }
}
