//! Cases in memory.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use async_trait::async_trait;

use super::movements::Moved;
use super::{MemoryUnit, at_most, insert};
use crate::domain::case::CaseStatus;
use crate::domain::id::{CaseId, CustomerId};
use crate::store::{CaseEvidenceRow, CaseRow, Cases, StoreError};

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

    async fn cases(
        &mut self,
        status: Option<CaseStatus>,
        after: Option<(u32, CaseId)>,
        limit: u32,
    ) -> Result<Vec<CaseRow>, StoreError> {
        let place = |score: u32, id: CaseId| (Reverse(score), id);
        let cases = self.state()?.cases.values();
        let wanted =
            cases.filter(|row| status.is_none_or(|status| row.status == status)).filter(|row| {
                after.is_none_or(|(score, id)| place(row.score, row.id) > place(score, id))
            });
        let mut wanted: Vec<_> = wanted.cloned().collect();
        wanted.sort_by_key(|row| place(row.score, row.id));
        Ok(at_most(wanted.into_iter(), limit))
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

    async fn case_evidence(
        &mut self,
        id: &CaseId,
        limit: u32,
    ) -> Result<Vec<CaseEvidenceRow>, StoreError> {
        let rows = self.state()?.case_evidence.range((*id, 0)..=(*id, u64::MAX));
        Ok(at_most(rows.map(|(_, row)| row.clone()), limit))
    }

    async fn linked(
        &mut self,
        customer: &CustomerId,
        limit: u32,
    ) -> Result<Vec<CustomerId>, StoreError> {
        let state = self.state()?;
        let rows: Vec<_> = state.movements.values().map(Moved::row).collect();
        let own = || rows.iter().filter(|row| row.customer == *customer);
        let shares = |account, card: Option<_>| {
            own().any(|row| row.account == account || (card.is_some() && row.card == card))
        };
        let linked = rows.iter().filter(|row| shares(row.account, row.card));
        let mut linked: BTreeSet<_> = linked.map(|row| row.customer).collect();
        let pairs = state.duplicates.values();
        linked.extend(pairs.filter_map(|row| match (row.customer, row.other) {
            (one, other) if one == *customer => Some(other),
            (one, other) if other == *customer => Some(one),
            _ => None,
        }));
        linked.remove(customer);
        Ok(at_most(linked.into_iter(), limit))
    }
}
