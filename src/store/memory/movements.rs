//! Movements in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{MemoryUnit, insert};
use crate::domain::id::CustomerId;
use crate::domain::money::Currency;
use crate::domain::time::UnixMillis;
use crate::domain::transaction::DecisionKey;
use crate::domain::turnover::{Direction, Turnover};
use crate::store::{GuestRow, MovedRow, MovementRow, Movements, MovementsOf, StoreError};

/// A movement, and what moved in truth.
#[derive(Clone)]
pub(super) struct Moved {
    row: MovementRow,
    moved_minor: i64,
    index: Option<u64>,
}

impl Moved {
    /// The movement, whatever moved.
    pub(super) const fn row(&self) -> &MovementRow {
        &self.row
    }

    /// The movement, if anything moved.
    pub(super) fn counted(&self) -> Option<&MovementRow> {
        (self.moved_minor > 0).then_some(&self.row)
    }

    /// What moved in truth, or the approved amount while nobody has said.
    pub const fn moved_minor(&self) -> i64 {
        self.moved_minor
    }
}

impl MovementsOf {
    fn includes(&self, row: &MovementRow, guests: &BTreeMap<CustomerId, GuestRow>) -> bool {
        match self {
            Self::Customer(id) => row.customer == *id,
            Self::Account(index) => row.account == *index,
            Self::Card(index) => row.card == Some(*index),
            Self::Terminal(id) => row.key.terminal == *id,
            Self::GuestsOfNumber(index) => {
                guests.get(&row.customer).is_some_and(|guest| guest.number_index == *index)
            }
            Self::CustomerAtTerminal(id, terminal) => {
                row.customer == *id && row.key.terminal == *terminal
            }
        }
    }
}

#[async_trait]
impl Movements for MemoryUnit {
    async fn insert_movement(&mut self, row: &MovementRow) -> Result<(), StoreError> {
        let moved = Moved { row: row.clone(), moved_minor: row.approved_minor, index: None };
        insert(&mut self.state()?.movements, row.key.clone(), moved)
    }

    async fn set_moved(
        &mut self,
        key: &DecisionKey,
        moved_minor: i64,
        index: u64,
    ) -> Result<bool, StoreError> {
        let Some(moved) = self.state()?.movements.get_mut(key) else { return Ok(false) };
        (moved.moved_minor, moved.index) = (moved_minor, Some(index));
        Ok(true)
    }

    async fn moved(&mut self, key: &DecisionKey) -> Result<Option<MovedRow>, StoreError> {
        Ok(self.state()?.movements.get(key).map(|moved| MovedRow {
            approved_minor: moved.row.approved_minor,
            moved_minor: moved.moved_minor,
            currency: moved.row.currency,
            index: moved.index,
        }))
    }

    async fn turnover(
        &mut self,
        of: &MovementsOf,
        currency: Currency,
        direction: Direction,
        since: UnixMillis,
    ) -> Result<Turnover, StoreError> {
        let state = self.state()?;
        let counted = state.movements.values().filter(|moved| {
            let row = &moved.row;
            let is_asked = row.currency == currency && row.direction == direction;
            of.includes(row, &state.guests) && is_asked && row.at >= since && moved.moved_minor > 0
        });
        Ok(counted.fold(Turnover::default(), |sum, moved| Turnover {
            count: sum.count + 1,
            amount_minor: sum.amount_minor.saturating_add(moved.moved_minor),
        }))
    }
}
