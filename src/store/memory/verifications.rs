//! Decisions as reports look at them, in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{MemoryStore, MemoryUnit, State, at_most, insert};
use crate::domain::reason::Reason;
use crate::domain::time::UnixMillis;
use crate::store::{
    ApprovedSum, EntryCount, OutcomeCount, StoreError, VerificationReads, VerificationRow,
    Verifications,
};

impl State {
    fn verifications_of(
        &self,
        from: UnixMillis,
        until: UnixMillis,
    ) -> impl Iterator<Item = &VerificationRow> {
        self.verifications.values().filter(move |row| row.at >= from && row.at < until)
    }

    fn is_after_mismatch(&self, row: &VerificationRow) -> bool {
        row.approved_minor.is_some()
            && self.verifications.range(..row.index).any(|(_, earlier)| {
                earlier.key.terminal == row.key.terminal
                    && earlier.key.business_date == row.key.business_date
                    && earlier.key.host_id == row.key.host_id
                    && earlier.subject == row.subject
                    && earlier.outcome == "DENIED"
                    && earlier.reasons.contains(&Reason::MatNoMatch)
            })
    }
}

#[async_trait]
impl VerificationReads for MemoryStore {
    async fn with_signs(
        &self,
        from: UnixMillis,
        until: UnixMillis,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<VerificationRow>, StoreError> {
        let state = self.read()?;
        let rows = state
            .verifications_of(from, until)
            .filter(|row| !row.signs.is_empty() && after.is_none_or(|after| row.index > after));
        Ok(at_most(rows.cloned(), limit))
    }

    async fn approved_sums(
        &self,
        from: UnixMillis,
        until: UnixMillis,
    ) -> Result<Vec<ApprovedSum>, StoreError> {
        let state = self.read()?;
        let mut sums = BTreeMap::new();
        for row in state.verifications_of(from, until) {
            let Some(approved_minor) = row.approved_minor else { continue };
            let moved = state.movements.get(&row.key);
            let moved_minor = moved.map_or(approved_minor, super::movements::Moved::moved_minor);
            let terminal = row.key.terminal.clone();
            let key = (terminal.clone(), row.operation.as_str(), row.currency.as_str().to_owned());
            let sum = sums.entry(key).or_insert_with(|| ApprovedSum {
                terminal,
                operation: row.operation,
                currency: row.currency,
                approved: 0,
                approved_minor: 0,
                moved: 0,
                moved_minor: 0,
            });
            sum.approved += 1;
            sum.approved_minor += approved_minor;
            sum.moved += i64::from(moved_minor > 0);
            sum.moved_minor += moved_minor;
        }
        Ok(sums.into_values().collect())
    }

    async fn outcome_counts(
        &self,
        from: UnixMillis,
        until: UnixMillis,
    ) -> Result<Vec<OutcomeCount>, StoreError> {
        let state = self.read()?;
        let mut counts = BTreeMap::new();
        for row in state.verifications_of(from, until) {
            let terminal = row.key.terminal.clone();
            let codes: Vec<_> = row.reasons.iter().map(|reason| reason.code()).collect();
            let key = (terminal.clone(), row.outcome.clone(), codes);
            let count = counts.entry(key).or_insert_with(|| OutcomeCount {
                terminal,
                outcome: row.outcome.clone(),
                reasons: row.reasons.clone(),
                count: 0,
                after_mismatch: 0,
            });
            count.count += 1;
            count.after_mismatch += i64::from(state.is_after_mismatch(row));
        }
        Ok(counts.into_values().collect())
    }

    async fn entry_counts(
        &self,
        origin: &str,
        kind: &str,
        from: UnixMillis,
        until: UnixMillis,
    ) -> Result<Vec<EntryCount>, StoreError> {
        let state = self.read()?;
        let mut counts = BTreeMap::new();
        for row in state.entries(origin, 0) {
            let counts_here = row.kind == kind && row.time >= from && row.time < until;
            if let Some(terminal) = row.terminal.clone().filter(|_| counts_here) {
                *counts.entry(terminal).or_insert(0) += 1;
            }
        }
        let counts = counts.into_iter();
        Ok(counts.map(|(terminal, count)| EntryCount { terminal, count }).collect())
    }
}

#[async_trait]
impl Verifications for MemoryUnit {
    async fn insert_verification(&mut self, row: &VerificationRow) -> Result<(), StoreError> {
        insert(&mut self.state()?.verifications, row.index, row.clone())
    }
}
