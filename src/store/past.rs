//! What is known of somebody's past beside sums: counts, and caps that run.

use async_trait::async_trait;

use super::StoreError;
use crate::crypto::Digest;
use crate::domain::decision::RuleId;
use crate::domain::id::{CustomerId, TerminalId};
use crate::domain::time::UnixMillis;

/// What somebody's movements are looked at by, to see whether they had to do with a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Links {
    /// Keyed index of the account's token.
    pub account: Digest,
    /// Keyed index of the card's token, where there is a card.
    pub card: Option<Digest>,
    /// The terminal.
    pub terminal: TerminalId,
}

/// The past inside a write transaction, where rules look at it.
#[async_trait]
pub trait Past: Send {
    /// Notes that a withdrawal of the customer was denied.
    async fn insert_refusal(
        &mut self,
        customer: &CustomerId,
        at: UnixMillis,
    ) -> Result<(), StoreError>;
    /// How many withdrawals of the customer were denied since.
    async fn refusals(
        &mut self,
        customer: &CustomerId,
        since: UnixMillis,
    ) -> Result<i64, StoreError>;
    /// Deletes refusals from before; how many.
    async fn delete_refusals(&mut self, before: UnixMillis) -> Result<u64, StoreError>;

    /// How many people other than the customer moved cash on the account since.
    async fn others_on_account(
        &mut self,
        account: &Digest,
        customer: &CustomerId,
        since: UnixMillis,
    ) -> Result<i64, StoreError>;
    /// How many people other than the customer moved cash with the card since.
    async fn others_on_card(
        &mut self,
        card: &Digest,
        customer: &CustomerId,
        since: UnixMillis,
    ) -> Result<i64, StoreError>;
    /// At how many terminals other than this one the customer moved cash since.
    async fn other_terminals(
        &mut self,
        terminal: &TerminalId,
        customer: &CustomerId,
        since: UnixMillis,
    ) -> Result<i64, StoreError>;
    /// Whether the customer moved cash on the account, with the card or at the terminal since.
    async fn is_linked(
        &mut self,
        customer: &CustomerId,
        links: &Links,
        since: UnixMillis,
    ) -> Result<bool, StoreError>;
    /// Cards bound to the customer that have not expired at `now`.
    async fn cards(&mut self, customer: &CustomerId, now: UnixMillis) -> Result<i64, StoreError>;
    /// Whether the customer, on either side, is of a suspected pair that nobody has decided about.
    async fn has_open_duplicate(&mut self, customer: &CustomerId) -> Result<bool, StoreError>;

    /// Lets a cap run for the customer by a rule; of two the one that runs longer stands.
    async fn put_cap(
        &mut self,
        customer: &CustomerId,
        rule: &RuleId,
        until: UnixMillis,
    ) -> Result<(), StoreError>;
    /// The caps that run at `now`, by rule.
    async fn caps(
        &mut self,
        customer: &CustomerId,
        now: UnixMillis,
    ) -> Result<Vec<(RuleId, UnixMillis)>, StoreError>;
}
