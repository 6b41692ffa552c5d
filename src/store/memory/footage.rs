//! Duties to keep clips, in memory.

use async_trait::async_trait;

use super::{MemoryStore, MemoryUnit, State, at_most, insert};
use crate::domain::id::CaseReference;
use crate::domain::time::UnixMillis;
use crate::store::{
    FootageCounts, FootageDuty, FootageFilter, FootageReads, FootageRow, FootageState, Footages,
    StoreError,
};

impl State {
    pub(super) fn is_held(&self, decision: u64) -> bool {
        self.holds.iter().any(|(held, _)| *held == decision)
    }

    fn duty(&self, row: &FootageRow) -> FootageDuty {
        let of_decision = self.holds.iter().filter(|(held, _)| *held == row.decision);
        FootageDuty { row: row.clone(), cases: of_decision.map(|(_, case)| case.clone()).collect() }
    }

    fn is_in(&self, row: &FootageRow, state: FootageState) -> bool {
        match state {
            FootageState::Any => true,
            FootageState::Missing => row.is_missing,
            FootageState::Due(now) => {
                row.clip.is_some()
                    && row.deleted_at.is_none()
                    && row.keep_until <= now
                    && !self.is_held(row.decision)
            }
            FootageState::OnHold => self.is_held(row.decision),
        }
    }

    fn count_in(&self, state: FootageState) -> u64 {
        self.footage.values().filter(|row| self.is_in(row, state)).map(|_| 1).sum()
    }
}

#[async_trait]
impl FootageReads for MemoryStore {
    async fn footage(&self, index: u64) -> Result<Option<FootageDuty>, StoreError> {
        let state = self.read()?;
        Ok(state.footage.get(&index).map(|row| state.duty(row)))
    }

    async fn footage_page(
        &self,
        filter: &FootageFilter,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<FootageDuty>, StoreError> {
        let state = self.read()?;
        let rows = state.footage.values().filter(|row| {
            after.is_none_or(|after| row.index > after)
                && state.is_in(row, filter.state)
                && filter.from.is_none_or(|from| row.at >= from)
                && filter.until.is_none_or(|until| row.at < until)
                && filter.terminal.as_ref().is_none_or(|terminal| row.terminal == *terminal)
        });
        Ok(at_most(rows.map(|row| state.duty(row)), limit))
    }

    async fn footage_counts(&self, now: UnixMillis) -> Result<FootageCounts, StoreError> {
        let state = self.read()?;
        Ok(FootageCounts {
            due: state.count_in(FootageState::Due(now)),
            missing: state.count_in(FootageState::Missing),
            on_hold: state.count_in(FootageState::OnHold),
        })
    }
}

#[async_trait]
impl Footages for MemoryUnit {
    async fn insert_footage(&mut self, row: &FootageRow) -> Result<(), StoreError> {
        let state = self.state()?;
        insert(&mut state.footage, row.index, row.clone())?;
        if row.clip.is_some() && row.decision != row.index {
            for of_attempt in state.footage.values_mut().filter(|it| it.decision == row.decision) {
                of_attempt.is_missing = false;
            }
        }
        Ok(())
    }

    async fn footage(&mut self, index: u64) -> Result<Option<FootageDuty>, StoreError> {
        let state = self.state()?;
        Ok(state.footage.get(&index).map(|row| state.duty(row)))
    }

    async fn delete_footage(&mut self, index: u64, at: UnixMillis) -> Result<bool, StoreError> {
        let row = self.state()?.footage.get_mut(&index);
        let Some(row) = row.filter(|row| row.clip.is_some() && row.deleted_at.is_none()) else {
            return Ok(false);
        };
        row.deleted_at = Some(at);
        Ok(true)
    }

    async fn insert_hold(
        &mut self,
        decision: u64,
        case: &CaseReference,
        _at: UnixMillis,
    ) -> Result<(), StoreError> {
        let is_new = self.state()?.holds.insert((decision, case.clone()));
        if is_new { Ok(()) } else { Err(StoreError::Exists) }
    }

    async fn delete_hold(
        &mut self,
        decision: u64,
        case: &CaseReference,
    ) -> Result<bool, StoreError> {
        Ok(self.state()?.holds.remove(&(decision, case.clone())))
    }
}
