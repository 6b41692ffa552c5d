//! The past in memory.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::MemoryUnit;
use super::movements::Moved;
use crate::crypto::Digest;
use crate::domain::decision::RuleId;
use crate::domain::id::{CustomerId, TerminalId};
use crate::domain::time::UnixMillis;
use crate::domain::transaction::TokenKind;
use crate::store::{Links, MovementRow, Past, StoreError};

impl MemoryUnit {
    /// How many different things the movements that count since have.
    fn different<T: Ord>(
        &mut self,
        since: UnixMillis,
        of: impl Fn(&MovementRow) -> Option<T>,
    ) -> Result<i64, StoreError> {
        let moved = self.state()?.movements.values();
        let rows = moved.filter_map(Moved::counted).filter(|row| row.at >= since);
        let different: BTreeSet<_> = rows.filter_map(of).collect();
        Ok(i64::try_from(different.len()).unwrap_or(i64::MAX))
    }
}

#[async_trait]
impl Past for MemoryUnit {
    async fn insert_refusal(
        &mut self,
        customer: &CustomerId,
        at: UnixMillis,
    ) -> Result<(), StoreError> {
        let state = self.state()?;
        state.require_customer(customer)?;
        state.refusals.push((*customer, at));
        Ok(())
    }

    async fn refusals(
        &mut self,
        customer: &CustomerId,
        since: UnixMillis,
    ) -> Result<i64, StoreError> {
        let refusals = self.state()?.refusals.iter();
        let count = refusals.filter(|(of, at)| of == customer && *at >= since).count();
        Ok(i64::try_from(count).unwrap_or(i64::MAX))
    }

    async fn delete_refusals(&mut self, before: UnixMillis) -> Result<u64, StoreError> {
        let refusals = &mut self.state()?.refusals;
        let count = refusals.len();
        refusals.retain(|(_, at)| *at >= before);
        Ok(u64::try_from(count - refusals.len()).unwrap_or(u64::MAX))
    }

    async fn others_on_account(
        &mut self,
        account: &Digest,
        customer: &CustomerId,
        since: UnixMillis,
    ) -> Result<i64, StoreError> {
        self.different(since, |row| {
            (row.account == *account && row.customer != *customer).then_some(row.customer)
        })
    }

    async fn others_on_card(
        &mut self,
        card: &Digest,
        customer: &CustomerId,
        since: UnixMillis,
    ) -> Result<i64, StoreError> {
        self.different(since, |row| {
            (row.card == Some(*card) && row.customer != *customer).then_some(row.customer)
        })
    }

    async fn other_terminals(
        &mut self,
        terminal: &TerminalId,
        customer: &CustomerId,
        since: UnixMillis,
    ) -> Result<i64, StoreError> {
        self.different(since, |row| {
            let is_other = row.customer == *customer && row.key.terminal != *terminal;
            is_other.then(|| row.key.terminal.clone())
        })
    }

    async fn is_linked(
        &mut self,
        customer: &CustomerId,
        links: &Links,
        since: UnixMillis,
    ) -> Result<bool, StoreError> {
        let Links { account, card, terminal } = links;
        let mut moved = self.state()?.movements.values().filter_map(Moved::counted);
        Ok(moved.any(|row| {
            let has_card = card.is_some() && row.card == *card;
            let is_here = row.account == *account || has_card || row.key.terminal == *terminal;
            row.customer == *customer && row.at >= since && is_here
        }))
    }

    async fn cards(&mut self, customer: &CustomerId, now: UnixMillis) -> Result<i64, StoreError> {
        let tokens = self.state()?.tokens.values();
        let cards = tokens
            .filter(|row| row.customer == *customer && row.kind == TokenKind::Card)
            .filter(|row| row.expires_at.is_none_or(|expires_at| expires_at > now));
        Ok(i64::try_from(cards.count()).unwrap_or(i64::MAX))
    }

    async fn has_open_duplicate(&mut self, customer: &CustomerId) -> Result<bool, StoreError> {
        let mut pairs = self.state()?.duplicates.values();
        Ok(pairs.any(|row| {
            (row.customer == *customer || row.other == *customer) && row.resolution.is_none()
        }))
    }

    async fn put_cap(
        &mut self,
        customer: &CustomerId,
        rule: &RuleId,
        until: UnixMillis,
    ) -> Result<(), StoreError> {
        let state = self.state()?;
        state.require_customer(customer)?;
        let cap = state.caps.entry((*customer, rule.clone())).or_insert(until);
        *cap = until.max(*cap);
        Ok(())
    }

    async fn caps(
        &mut self,
        customer: &CustomerId,
        now: UnixMillis,
    ) -> Result<Vec<(RuleId, UnixMillis)>, StoreError> {
        let caps = self.state()?.caps.iter();
        let running = caps.filter(|((of, _), until)| of == customer && **until > now);
        Ok(running.map(|((_, rule), until)| (rule.clone(), *until)).collect())
    }
}
