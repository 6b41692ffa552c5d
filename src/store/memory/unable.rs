//! Marks of inability in memory.

use async_trait::async_trait;

use super::{MemoryStore, MemoryUnit};
use crate::domain::id::CustomerId;
use crate::domain::time::UnixMillis;
use crate::store::{StoreError, Unable, UnableQuestions, UnableRow};

#[async_trait]
impl UnableQuestions for MemoryStore {
    async fn unable(&self, customer: &CustomerId) -> Result<Option<UnableRow>, StoreError> {
        Ok(self.read()?.unable.get(customer).cloned())
    }
}

#[async_trait]
impl Unable for MemoryUnit {
    async fn unable(&mut self, customer: &CustomerId) -> Result<Option<UnableRow>, StoreError> {
        Ok(self.state()?.unable.get(customer).cloned())
    }

    async fn put_unable(&mut self, row: &UnableRow) -> Result<(), StoreError> {
        let state = self.state()?;
        state.require_customer(&row.customer)?;
        if state.unable.get(&row.customer).is_some_and(|held| held.approved_at.is_some()) {
            return Err(StoreError::Exists);
        }
        state.unable.insert(row.customer, row.clone());
        Ok(())
    }

    async fn approve_unable(
        &mut self,
        customer: &CustomerId,
        at: UnixMillis,
    ) -> Result<bool, StoreError> {
        let row = self.state()?.unable.get_mut(customer);
        let proposed = row.filter(|row| row.approved_at.is_none());
        Ok(proposed.map(|row| row.approved_at = Some(at)).is_some())
    }

    async fn delete_unable(&mut self, customer: &CustomerId) -> Result<bool, StoreError> {
        Ok(self.state()?.unable.remove(customer).is_some())
    }
}
