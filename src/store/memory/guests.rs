//! Guests in memory.

use async_trait::async_trait;

use super::{MemoryUnit, insert};
use crate::domain::id::TerminalId;
use crate::domain::time::UnixMillis;
use crate::store::{GuestRow, Guests, StoreError};

#[async_trait]
impl Guests for MemoryUnit {
    async fn insert_guest(&mut self, row: &GuestRow) -> Result<(), StoreError> {
        let state = self.state()?;
        state.require_customer(&row.customer)?;
        insert(&mut state.guests, row.customer, row.clone())
    }

    async fn guests_of_terminal(
        &mut self,
        terminal: &TerminalId,
        since: UnixMillis,
    ) -> Result<i64, StoreError> {
        let guests = self.state()?.guests.values();
        let count = guests.filter(|row| row.terminal == *terminal && row.at >= since).count();
        Ok(i64::try_from(count).unwrap_or(i64::MAX))
    }
}
