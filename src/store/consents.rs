//! Consents: until when each holds, and what is still kept after it has ended.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::id::CustomerId;
use crate::domain::time::UnixMillis;

/// Why a consent has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConsentCause {
    /// The person took it back.
    Withdrawn,
    /// Its term is over.
    Expired,
}

impl ConsentCause {
    /// Every cause.
    pub const ALL: [Self; 2] = [Self::Withdrawn, Self::Expired];

    /// The word that is stored, and that entries have.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
        }
    }
}

/// What became of a consent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConsentEnd {
    /// Why.
    pub cause: ConsentCause,
    /// When.
    pub at: UnixMillis,
    /// From when on the customer may be erased.
    pub keep_until: UnixMillis,
    /// The entry that says so.
    pub index: u64,
}

/// A customer's consent, without its words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsentRow {
    /// Whose.
    pub customer: CustomerId,
    /// The first instant at which it holds no more.
    pub until: UnixMillis,
    /// What became of it; none while nothing did.
    pub end: Option<ConsentEnd>,
}

impl ConsentRow {
    /// Whether anything may be done on it.
    #[must_use]
    pub fn holds(&self, now: UnixMillis) -> bool {
        self.end.is_none() && now < self.until
    }
}

/// A consent whose term is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LapsedConsent {
    /// The consent.
    pub consent: ConsentRow,
    /// Whether a case about the customer was not released, so that nothing may be erased.
    pub has_case: bool,
}

/// What stays of a customer whose consent has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stays {
    /// The sealed captures.
    pub templates: bool,
    /// The keyed hash of the number, so that it cannot be enrolled anew.
    pub number: bool,
}

/// Consents from committed state.
#[async_trait]
pub trait ConsentReads: Send + Sync {
    /// A customer's consent; none once they are erased.
    async fn consent(&self, customer: &CustomerId) -> Result<Option<ConsentRow>, StoreError>;

    /// Consents in the order of the customers, after the given one.
    async fn consents(
        &self,
        after: Option<&CustomerId>,
        limit: u32,
    ) -> Result<Vec<ConsentRow>, StoreError>;

    /// Consents whose term is over at `now` and that nothing has become of, in the order of the customers.
    async fn lapsed_consents(
        &self,
        now: UnixMillis,
        limit: u32,
    ) -> Result<Vec<LapsedConsent>, StoreError>;

    /// Customers whose consent has ended, whose time is over at `now`, and about whom every case was
    /// released, in their order.
    async fn customers_to_erase(
        &self,
        now: UnixMillis,
        limit: u32,
    ) -> Result<Vec<CustomerId>, StoreError>;

    /// Customers who are not erased and of whose consent no row tells, after the given one.
    async fn customers_without_consent(
        &self,
        after: Option<&CustomerId>,
        limit: u32,
    ) -> Result<Vec<CustomerId>, StoreError>;
}

/// Consents inside a write transaction.
#[async_trait]
pub trait Consents: Send {
    /// A customer's consent.
    async fn consent(&mut self, customer: &CustomerId) -> Result<Option<ConsentRow>, StoreError>;

    /// Keeps a consent in place of an earlier one.
    async fn put_consent(&mut self, row: &ConsentRow) -> Result<(), StoreError>;

    /// Destroys what of a customer must not be used any more: tokens, keys of devices, locks and marks, and of
    /// captures, proposed ones too, and number what does not stay. The time of confirmations that wait is over;
    /// settled ones lose their content. False if there is no such customer, or they are erased.
    async fn block_customer(
        &mut self,
        customer: &CustomerId,
        stays: Stays,
        at: UnixMillis,
    ) -> Result<bool, StoreError>;
}
