//! Registers in memory.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::{MemoryStore, MemoryUnit, State, at_most, insert};
use crate::crypto::Digest;
use crate::domain::register::Register;
use crate::domain::time::UnixMillis;
use crate::store::{
    RegisterQuestion, RegisterReads, RegisterRow, RegisterValueRow, Registers, StoreError,
};

impl State {
    fn registers_in_force(&self) -> Vec<RegisterRow> {
        let rows = &self.registers;
        let mut newest: Vec<_> = Register::ALL
            .into_iter()
            .filter_map(|register| {
                rows.range((register, 0)..=(register, u64::MAX)).next_back().map(|(_, row)| row)
            })
            .cloned()
            .collect();
        newest.sort_by_key(|row| row.register.as_str());
        newest
    }
}

#[async_trait]
impl RegisterReads for MemoryStore {
    async fn registers(&self) -> Result<Vec<RegisterRow>, StoreError> {
        Ok(self.read()?.registers_in_force())
    }

    async fn register_values(
        &self,
        register: Register,
        version: u64,
        after: Option<&Digest>,
        limit: u32,
    ) -> Result<Vec<RegisterValueRow>, StoreError> {
        let state = self.read()?;
        let values = state.register_values.iter();
        let of = values.filter(|((of, number, value), _)| {
            (*of, *number) == (register, version) && after.is_none_or(|after| value > after)
        });
        Ok(at_most(of.map(|(_, row)| row.clone()), limit))
    }
}

#[async_trait]
impl Registers for MemoryUnit {
    async fn registers(&mut self) -> Result<Vec<RegisterRow>, StoreError> {
        Ok(self.state()?.registers_in_force())
    }

    async fn insert_register(&mut self, row: &RegisterRow) -> Result<(), StoreError> {
        insert(&mut self.state()?.registers, (row.register, row.version), row.clone())
    }

    async fn insert_register_values(
        &mut self,
        register: Register,
        version: u64,
        rows: &[RegisterValueRow],
    ) -> Result<(), StoreError> {
        let values = &mut self.state()?.register_values;
        rows.iter().try_for_each(|row| insert(values, (register, version, row.value), row.clone()))
    }

    async fn delete_register_values(
        &mut self,
        register: Register,
        kept: u64,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let values = &mut self.state()?.register_values;
        let old = values.keys().filter(|(of, version, _)| *of == register && *version != kept);
        let old = at_most(old.copied(), limit);
        for key in &old {
            values.remove(key);
        }
        Ok(u64::try_from(old.len()).unwrap_or(u64::MAX))
    }

    async fn listed(
        &mut self,
        questions: &[RegisterQuestion],
        now: UnixMillis,
    ) -> Result<Vec<Register>, StoreError> {
        let values = &self.state()?.register_values;
        let listed = questions.iter().filter(|question| {
            let row = values.get(&(question.register, question.version, question.value));
            row.is_some_and(|row| row.valid_until.is_none_or(|until| until > now))
        });
        let listed: BTreeSet<_> = listed.map(|question| question.register).collect();
        let mut listed: Vec<_> = listed.into_iter().collect();
        listed.sort_by_key(|register| register.as_str());
        Ok(listed)
    }
}
