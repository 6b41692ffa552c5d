//! Cash that moved, added up for limits.

use async_trait::async_trait;

use super::StoreError;
use crate::crypto::Digest;
use crate::domain::id::{CustomerId, TerminalId};
use crate::domain::money::Currency;
use crate::domain::time::UnixMillis;
use crate::domain::transaction::DecisionKey;
use crate::domain::turnover::{Direction, Turnover};

/// Cash that an approval lets move. It counts as moved in full until the host says otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MovementRow {
    /// The decision that approved it.
    pub key: DecisionKey,
    /// The person.
    pub customer: CustomerId,
    /// Keyed index of the account's token.
    pub account: Digest,
    /// Keyed index of the card's token, where the terminal knew the person by one.
    pub card: Option<Digest>,
    /// Which way.
    pub direction: Direction,
    /// What was approved, in minor units.
    pub approved_minor: i64,
    /// Of which currency.
    pub currency: Currency,
    /// When it was approved.
    pub at: UnixMillis,
}

/// What moved in truth under an approval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MovedRow {
    /// What was approved, in minor units.
    pub approved_minor: i64,
    /// What moved, as far as is known.
    pub moved_minor: i64,
    /// Of which currency.
    pub currency: Currency,
    /// The entry that says what moved; `None` while nobody has.
    pub index: Option<u64>,
}

/// Whose movements are asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MovementsOf {
    /// A person's.
    Customer(CustomerId),
    /// An account's.
    Account(Digest),
    /// A card's.
    Card(Digest),
    /// A terminal's.
    Terminal(TerminalId),
    /// Those of all guests who gave this number, by its keyed hash.
    GuestsOfNumber(Digest),
    /// A person's at one terminal.
    CustomerAtTerminal(CustomerId, TerminalId),
}

/// Movements inside a write transaction, where limits must be decided to hold.
#[async_trait]
pub trait Movements: Send {
    /// Adds a movement; [`StoreError::Exists`] if its decision has one.
    async fn insert_movement(&mut self, row: &MovementRow) -> Result<(), StoreError>;

    /// A movement, and what moved in truth.
    async fn moved(&mut self, key: &DecisionKey) -> Result<Option<MovedRow>, StoreError>;

    /// What moved in truth, by the entry that says so; false if there is no such movement.
    async fn set_moved(
        &mut self,
        key: &DecisionKey,
        moved_minor: i64,
        index: u64,
    ) -> Result<bool, StoreError>;

    /// How many movements of one currency and direction there were since, and their sum. A movement of
    /// nothing is none.
    async fn turnover(
        &mut self,
        of: &MovementsOf,
        currency: Currency,
        direction: Direction,
        since: UnixMillis,
    ) -> Result<Turnover, StoreError>;
}
