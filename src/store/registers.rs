//! Registers: lists that rules ask, by version.

use async_trait::async_trait;

use super::StoreError;
use crate::crypto::Digest;
use crate::domain::register::{Register, SourceCode};
use crate::domain::time::UnixMillis;

/// A version of a register.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegisterRow {
    /// Which register.
    pub register: Register,
    /// Counted from 1; the highest is in force.
    pub version: u64,
    /// Hash of its content.
    pub hash: Digest,
    /// How many values it has.
    pub count: u64,
    /// When it was imported.
    pub imported_at: UnixMillis,
    /// The ledger entry that says so.
    pub index: u64,
}

/// A value of a register.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegisterValueRow {
    /// Keyed hash of the value.
    pub value: Digest,
    /// The source's code.
    pub note: Option<SourceCode>,
    /// From this instant on it no longer counts.
    pub valid_until: Option<UnixMillis>,
}

/// A value that is looked for: in which register, and which version of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RegisterQuestion {
    /// Where.
    pub register: Register,
    /// In which version.
    pub version: u64,
    /// Keyed hash of the value.
    pub value: Digest,
}

/// Questions about registers, answered from committed state.
#[async_trait]
pub trait RegisterReads {
    /// The versions in force, by the registers' names.
    async fn registers(&self) -> Result<Vec<RegisterRow>, StoreError>;
    /// The values of a version in their order, after the given one.
    async fn register_values(
        &self,
        register: Register,
        version: u64,
        after: Option<&Digest>,
        limit: u32,
    ) -> Result<Vec<RegisterValueRow>, StoreError>;
}

/// Registers inside a write transaction, where rules ask them.
#[async_trait]
pub trait Registers: Send {
    /// The versions in force, by the registers' names.
    async fn registers(&mut self) -> Result<Vec<RegisterRow>, StoreError>;
    /// Puts a version in force; [`StoreError::Exists`] if the version is taken.
    async fn insert_register(&mut self, row: &RegisterRow) -> Result<(), StoreError>;
    /// Adds values to a version that is not in force yet; [`StoreError::Exists`] for a value twice.
    async fn insert_register_values(
        &mut self,
        register: Register,
        version: u64,
        rows: &[RegisterValueRow],
    ) -> Result<(), StoreError>;
    /// Deletes values of all versions but one, at most `limit`; how many.
    async fn delete_register_values(
        &mut self,
        register: Register,
        kept: u64,
        limit: u32,
    ) -> Result<u64, StoreError>;
    /// The registers in which any of the values stands at `now`.
    async fn listed(
        &mut self,
        questions: &[RegisterQuestion],
        now: UnixMillis,
    ) -> Result<Vec<Register>, StoreError>;
}
