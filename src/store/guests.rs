//! Guests: people who paid in to somebody else's account and were enrolled for that alone.

use async_trait::async_trait;

use super::StoreError;
use crate::crypto::Digest;
use crate::domain::id::{CustomerId, TerminalId};
use crate::domain::time::UnixMillis;

/// Most guests under one number that are compared with.
pub const GUESTS_OF_NUMBER_MAX: u32 = 5;

/// A guest beside their row among the customers, where they have no IIN index: they never stand in the way of
/// the number's owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GuestRow {
    /// The guest.
    pub customer: CustomerId,
    /// Keyed hash of the number that they gave, apart from customers' hashes; several may have one.
    pub number_index: Digest,
    /// Where they were enrolled.
    pub terminal: TerminalId,
    /// When.
    pub at: UnixMillis,
}

/// Guests inside a write transaction.
#[async_trait]
pub trait Guests: Send {
    /// Adds a guest whose customer row is there; [`StoreError::Exists`] if they are one.
    async fn insert_guest(&mut self, row: &GuestRow) -> Result<(), StoreError>;
    /// How many guests the terminal enrolled since.
    async fn guests_of_terminal(
        &mut self,
        terminal: &TerminalId,
        since: UnixMillis,
    ) -> Result<i64, StoreError>;
}
