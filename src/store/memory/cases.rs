//! Cases in memory.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use async_trait::async_trait;

use super::movements::Moved;
use super::{MemoryStore, MemoryUnit, State, at_most, insert};
use crate::domain::case::CaseStatus;
use crate::domain::id::{CaseId, CustomerId};
use crate::store::{CaseEvidenceRow, CaseFile, CaseReads, CaseRow, Cases, StoreError};

impl State {
    fn linked(&self, customer: &CustomerId, limit: u32) -> Vec<CustomerId> {
        let rows: Vec<_> = self.movements.values().map(Moved::row).collect();
        let own = || rows.iter().filter(|row| row.customer == *customer);
        let shares = |account, card: Option<_>| {
            own().any(|row| row.account == account || (card.is_some() && row.card == card))
        };
        let linked = rows.iter().filter(|row| shares(row.account, row.card));
        let mut linked: BTreeSet<_> = linked.map(|row| row.customer).collect();
        let pairs = self.duplicates.values();
        linked.extend(pairs.filter_map(|row| match (row.customer, row.other) {
            (one, other) if one == *customer => Some(other),
            (one, other) if other == *customer => Some(one),
            _ => None,
        }));
        linked.extend(self.lookalikes().filter_map(|(of, other)| match (of, other) {
            (one, other) if one == *customer => Some(other),
            (one, other) if other == *customer => Some(one),
            _ => None,
        }));
        linked.remove(customer);
        at_most(linked.into_iter(), limit)
    }

    /// Whom the cases are about, each with whom else their face belongs to, perhaps.
    fn lookalikes(&self) -> impl Iterator<Item = (CustomerId, CustomerId)> {
        let of = |id| self.cases.get(id).map(|row| row.customer);
        self.case_lookalikes.iter().filter_map(move |(id, other)| Some((of(id)?, *other)))
    }
}

#[async_trait]
impl CaseReads for MemoryStore {
    async fn cases(
        &self,
        status: Option<CaseStatus>,
        after: Option<(u32, CaseId)>,
        limit: u32,
    ) -> Result<Vec<CaseRow>, StoreError> {
        let place = |score: u32, id: CaseId| (Reverse(score), id);
        let state = self.read()?;
        let cases = state.cases.values();
        let wanted =
            cases.filter(|row| status.is_none_or(|status| row.status == status)).filter(|row| {
                after.is_none_or(|(score, id)| place(row.score, row.id) > place(score, id))
            });
        let mut wanted: Vec<_> = wanted.cloned().collect();
        wanted.sort_by_key(|row| place(row.score, row.id));
        Ok(at_most(wanted.into_iter(), limit))
    }

    async fn case_file(
        &self,
        id: &CaseId,
        evidence_max: u32,
        linked_max: u32,
    ) -> Result<Option<CaseFile>, StoreError> {
        let state = self.read()?;
        let Some(case) = state.cases.get(id).cloned() else { return Ok(None) };
        let evidence = state.case_evidence.range((*id, 0)..=(*id, u64::MAX));
        let evidence = at_most(evidence.map(|(_, row)| row.clone()), evidence_max);
        let linked = state.linked(&case.customer, linked_max);
        Ok(Some(CaseFile { case, evidence, linked }))
    }
}

#[async_trait]
impl Cases for MemoryUnit {
    async fn case(&mut self, id: &CaseId) -> Result<Option<CaseRow>, StoreError> {
        Ok(self.state()?.cases.get(id).cloned())
    }

    async fn cases_of(&mut self, customer: &CustomerId) -> Result<Vec<CaseRow>, StoreError> {
        let cases = self.state()?.cases.values().filter(|row| row.customer == *customer);
        let mut cases: Vec<_> = cases.cloned().collect();
        cases.sort_by_key(|row| (row.opened_at, row.id));
        Ok(cases)
    }

    async fn put_case(&mut self, row: &CaseRow) -> Result<(), StoreError> {
        let state = self.state()?;
        state.require_customer(&row.customer)?;
        state.cases.insert(row.id, row.clone());
        Ok(())
    }

    async fn insert_case_evidence(&mut self, row: &CaseEvidenceRow) -> Result<(), StoreError> {
        insert(&mut self.state()?.case_evidence, (row.case, row.index), row.clone())
    }

    async fn put_case_lookalike(
        &mut self,
        case: &CaseId,
        other: &CustomerId,
    ) -> Result<(), StoreError> {
        let state = self.state()?;
        state.require_customer(other)?;
        state.case_lookalikes.insert((*case, *other));
        Ok(())
    }

    async fn was_lookalike_released(
        &mut self,
        one: &CustomerId,
        other: &CustomerId,
    ) -> Result<bool, StoreError> {
        let state = self.state()?;
        let released = state.cases.values().filter(|row| row.status == CaseStatus::Released);
        let mut pairs = released.filter_map(|row| match row.customer {
            of if of == *one => Some((row.id, *other)),
            of if of == *other => Some((row.id, *one)),
            _ => None,
        });
        Ok(pairs.any(|pair| state.case_lookalikes.contains(&pair)))
    }
}
