//! Refused protocol events: a challenge that was used before, a key that is not registered, a role that
//! may not call. They have no receipt of their own; they are counted, and the counts are entries of the
//! ledger, one a terminal and minute at most.
//!
//! An entry says that there were incidents and at which terminal. How many of which kind stands in its
//! audit record, to which it commits.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::json;

use super::Gateway;
use super::error::GatewayError;
use crate::domain::id::TerminalId;
use crate::domain::time::UnixMillis;
use crate::receipt::Administration;

/// Terminals that are counted apart in a minute; what others do is counted together.
const TERMINALS_MAX: usize = 1000;

/// How often each reason was given, by terminal; none for callers that are no terminals.
type Counts = BTreeMap<Option<TerminalId>, BTreeMap<&'static str, u64>>;

/// What was refused since the last entries of it.
#[derive(Debug, Default)]
pub(super) struct Incidents(Mutex<Counts>);

impl Incidents {
    fn add(&self, terminal: Option<TerminalId>, reason: &'static str, count: u64) {
        let mut counts = self.counts();
        let is_apart = counts.contains_key(&terminal) || counts.len() < TERMINALS_MAX;
        let of = counts.entry(terminal.filter(|_| is_apart)).or_default().entry(reason);
        let sum = of.or_default();
        *sum = sum.saturating_add(count);
    }

    /// A count is a number whatever became of the thread that held it.
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gateway {
    /// Counts a refused protocol event; of a caller that is no terminal nothing is kept but that.
    pub fn count_incident(&self, terminal: Option<&TerminalId>, reason: &'static str) {
        self.incidents.add(terminal.cloned(), reason, 1);
    }

    /// Counts what was refused for being no part of the protocol, and nothing else.
    pub(super) fn count_refusal<T>(
        &self,
        terminal: &TerminalId,
        result: Result<T, GatewayError>,
    ) -> Result<T, GatewayError> {
        let is_incident = |error: &&GatewayError| {
            matches!(error, GatewayError::Stale | GatewayError::IdReused | GatewayError::Device(_))
        };
        if let Some(error) = result.as_ref().err().filter(is_incident) {
            self.count_incident(Some(terminal), error.code());
        }
        result
    }

    /// Enters what was counted in the ledger. What cannot be entered stays counted.
    ///
    /// # Errors
    ///
    /// What the store cannot do.
    pub async fn log_incidents(&self) -> Result<(), GatewayError> {
        let now = self.clock.now();
        let taken = std::mem::take(&mut *self.incidents.counts());
        let mut failed = None;
        for (terminal, counts) in taken {
            if failed.is_none() {
                failed = self.log_incidents_of(terminal.as_ref(), &counts, now).await.err();
            }
            if failed.is_some() {
                for (reason, count) in counts {
                    self.incidents.add(terminal.clone(), reason, count);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn log_incidents_of(
        &self,
        terminal: Option<&TerminalId>,
        counts: &BTreeMap<&'static str, u64>,
        until: UnixMillis,
    ) -> Result<(), GatewayError> {
        let act = Administration {
            act: "incidents".to_owned(),
            actor: self.signing.own_actor(&self.open_ledger()?)?,
            subject: terminal.map(ToString::to_string),
            details: None,
        };
        let record = json!({ "until": until.rfc3339(), "counts": counts });
        self.perform_recorded(act, &record, Vec::new()).await.map(drop)
    }
}
