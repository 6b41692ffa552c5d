//! The retention clerk: enters consents whose term is over, erases whose time to be kept is over, destroys
//! evidence whose time is over, and says where the footage stands.
//!
//! What is due is found out in one place, for a run and for whoever asks what a run would do. Each thing done
//! and its entry are one transaction, in which it is asked once more whether it is due; a crash in between
//! leaves work for the next run and nothing else. The file of a picture is unreadable once its key is
//! destroyed, and is removed after it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::Gateway;
use super::consent::NOTHING_DUE;
use super::error::GatewayError;
use super::evidence::unavailable;
use super::footage::ERASED_AT_ONCE_MAX;
use super::request::{Actor, Logged};
use super::sequencer::{Job, NewEntry, Slot, Step};
use crate::domain::id::{CustomerId, ReceiptId};
use crate::domain::time::UnixMillis;
use crate::ledger::LogPosition;
use crate::receipt::{self, Content, Erasure, IndexRange, ReceiptDraft, rid_text};
use crate::store::{ConsentRow, EvidenceCounts, FootageCounts, LapsedConsent, UnitOfWork};

/// A file without a row this long after it was written is of a call that never came to a decision.
const ORPHAN_AGE: Duration = Duration::from_hours(1);

/// Shelves looked through for such files: each day's is looked through on days after it, too.
const ORPHAN_SHELVES: usize = 3;

/// Files removed between two commits.
const FILES_AT_ONCE: u32 = 500;

/// What is due.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RetentionPlan {
    /// As of when.
    pub time: UnixMillis,
    /// What a run would do then.
    pub work: RetentionWork,
    /// Captures.
    pub evidence: EvidenceCounts,
    /// Clips.
    pub footage: FootageCounts,
}

/// What a run would do, or did: each in the order in which it is done.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RetentionWork {
    /// Consents whose term is over: their ends are entered.
    pub consents: Vec<LapsingConsent>,
    /// Customers whose consent has ended and of whom nothing must be kept any more: they are erased.
    pub customers: Vec<CustomerId>,
    /// Decisions whose captures have been kept for their time: the captures are destroyed.
    pub evidence: Vec<u64>,
    /// Whether there is more than is told here.
    pub is_cut: bool,
}

/// A consent whose term is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LapsingConsent {
    /// Whose.
    pub customer: CustomerId,
    /// When it ended.
    pub until: UnixMillis,
    /// Until when something of them is kept; the same instant where nothing is.
    pub keep_until: UnixMillis,
}

/// What a run did.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RetentionRun {
    /// What it did.
    pub work: RetentionWork,
    /// Captures destroyed.
    pub destroyed: u64,
    /// Files removed.
    pub files_removed: u64,
    /// Where the entries stand, of ends and erasures; as many as are told.
    pub entries: Vec<LogPosition>,
    /// How many entries there are.
    pub entered: u64,
}

impl RetentionRun {
    fn enter(&mut self, entry: &Logged) {
        self.entered = self.entered.saturating_add(1);
        tell(&mut self.entries, [entry.position().clone()], &mut self.work.is_cut);
    }
}

/// Most of each kind that a plan tells, that is done before what is due is asked anew, and that a run tells.
const WORK_MAX: usize = 10_000;

impl RetentionWork {
    const fn is_empty(&self) -> bool {
        self.consents.is_empty() && self.customers.is_empty() && self.evidence.is_empty()
    }
}

/// Adds as much as is told.
fn tell<T>(told: &mut Vec<T>, more: impl IntoIterator<Item = T>, is_cut: &mut bool) {
    for one in more {
        if told.len() < WORK_MAX {
            told.push(one);
        } else {
            *is_cut = true;
        }
    }
}

/// Destroys the keys of some captures whose time is over.
struct RetireJob {
    receipt: ReceiptId,
    actor: receipt::Actor,
    issuer: String,
    tenant: String,
    /// What the plan found due: nothing else is destroyed.
    planned: Vec<u64>,
    destroyed: Arc<Mutex<Vec<u64>>>,
}

#[async_trait]
impl Job for RetireJob {
    async fn run(&mut self, unit: &mut dyn UnitOfWork, slot: &Slot) -> Result<Step, GatewayError> {
        // A hold may have been placed since, and another run may have been quicker.
        let at_once = u32::try_from(2 * ERASED_AT_ONCE_MAX).unwrap_or(u32::MAX);
        let due: BTreeSet<_> = unit.evidence_due(slot.now, at_once).await?.into_iter().collect();
        let due: Vec<_> = self.planned.iter().copied().filter(|it| due.contains(it)).collect();
        if due.is_empty() {
            return Err(GatewayError::State(NOTHING_DUE));
        }
        for index in &due {
            unit.destroy_evidence(*index).await?;
        }
        let evidence = IndexRange::covering(due.iter().map(|at| slot.ledgers.position(*at)));
        // Set, not added to: a job may run more than once.
        *self.destroyed.lock().unwrap_or_else(PoisonError::into_inner) = due;
        Ok(Step::Append(Box::new(NewEntry {
            receipt: self.receipt,
            terminal: None,
            draft: ReceiptDraft {
                rid: rid_text(&self.receipt),
                iss: self.issuer.clone(),
                aud: None,
                valid_for_ms: None,
                tenant: self.tenant.clone(),
                content: Content::Erasure(Erasure {
                    actor: self.actor.clone(),
                    subject: None,
                    bodies: Vec::new(),
                    footage: Vec::new(),
                    evidence,
                    reason: "retention".to_owned(),
                }),
            },
            sealed_audit: None,
        })))
    }

    fn receipt(&self) -> Option<ReceiptId> {
        Some(self.receipt)
    }
}

impl Gateway {
    /// What a run would do at an instant, now where none is given, if nothing else happened until then; and
    /// where the footage would stand.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Invalid`] for an instant that has passed, and what the store cannot do.
    pub async fn plan_retention(
        &self,
        at: Option<UnixMillis>,
    ) -> Result<RetentionPlan, GatewayError> {
        let now = self.clock.now();
        if at.is_some_and(|at| at < now) {
            return Err(GatewayError::Invalid { field: "at", problem: "it is in the past" });
        }
        let time = at.unwrap_or(now);
        Ok(RetentionPlan {
            time,
            work: self.due(time).await?,
            evidence: self.store.evidence_counts(time).await?,
            footage: self.store.footage_counts(time).await?,
        })
    }

    /// What is due at an instant. A run does this and nothing else, so that what is planned is what is done.
    async fn due(&self, at: UnixMillis) -> Result<RetentionWork, GatewayError> {
        let limit = u32::try_from(WORK_MAX).unwrap_or(u32::MAX);
        let lapsed = self.store.lapsed_consents(at, limit).await?;
        let over = self.store.customers_to_erase(at, limit).await?;
        let evidence = self.store.evidence_due(at, limit).await?;
        let is_cut = [lapsed.len(), over.len(), evidence.len()].contains(&WORK_MAX);
        let pack = self.packs.current(at).await?;
        let (mut consents, mut customers) = (Vec::new(), BTreeSet::from_iter(over));
        for LapsedConsent { consent: ConsentRow { customer, until, .. }, has_case } in lapsed {
            let keep_until = pack.after_consent().keep_until(until);
            if keep_until <= at && !has_case {
                customers.insert(customer);
            }
            consents.push(LapsingConsent { customer, until, keep_until });
        }
        Ok(RetentionWork { consents, customers: customers.into_iter().collect(), evidence, is_cut })
    }

    /// Does what is due; by nobody's order it is the gateway's own act.
    ///
    /// # Errors
    ///
    /// What store and disk cannot do; what was done before stays done, and is in the ledger.
    pub async fn run_retention(&self, actor: Option<&Actor>) -> Result<RetentionRun, GatewayError> {
        // Two at once would do no harm, only each other's work.
        let _turn = self.retention.lock().await;
        let mut run = RetentionRun::default();
        loop {
            let due = self.due(self.clock.now()).await?;
            let before = run.entered;
            if !due.is_empty() {
                self.carry_out(due, actor, &mut run).await?;
            }
            if run.entered == before {
                break;
            }
        }
        run.files_removed = self.remove_files().await? + self.remove_orphans().await?;
        Ok(run)
    }

    /// Does what a plan says, each behind its entry. What has been overtaken in between is left out.
    async fn carry_out(
        &self,
        due: RetentionWork,
        actor: Option<&Actor>,
        run: &mut RetentionRun,
    ) -> Result<(), GatewayError> {
        for lapsing in due.consents {
            match self.expire_consent(self.clerk_or(actor)?, &lapsing.customer).await {
                Ok(entry) => run.enter(&entry),
                Err(GatewayError::State(_) | GatewayError::NotFound(_)) => continue,
                Err(error) => return Err(error),
            }
            tell(&mut run.work.consents, [lapsing], &mut run.work.is_cut);
        }
        for customer in due.customers {
            if let Some(entry) = self.erase_if_due(self.clerk_or(actor)?, &customer).await? {
                run.enter(&entry);
                tell(&mut run.work.customers, [customer], &mut run.work.is_cut);
            }
        }
        for planned in due.evidence.chunks(ERASED_AT_ONCE_MAX) {
            let gone = Arc::default();
            let job = RetireJob {
                receipt: self.new_receipt()?,
                actor: self.clerk_or(actor)?,
                issuer: self.settings.issuer.clone(),
                tenant: self.settings.tenant.as_str().to_owned(),
                planned: planned.to_vec(),
                destroyed: Arc::clone(&gone),
            };
            match self.sequencer.submit(Box::new(job)).await {
                Ok(entry) => run.enter(&entry),
                Err(GatewayError::State(NOTHING_DUE)) => continue,
                Err(error) => return Err(error),
            }
            let gone = std::mem::take(&mut *gone.lock().unwrap_or_else(PoisonError::into_inner));
            run.destroyed += u64::try_from(gone.len()).unwrap_or(u64::MAX);
            tell(&mut run.work.evidence, gone, &mut run.work.is_cut);
        }
        Ok(())
    }

    /// Who is said to have done it.
    fn clerk_or(&self, actor: Option<&Actor>) -> Result<receipt::Actor, GatewayError> {
        match actor {
            Some(actor) => Ok(super::act::receipt_actor(actor)),
            None => self.signing.own_actor(&self.open_ledger()?),
        }
    }

    /// Removes the files of captures whose keys are destroyed.
    async fn remove_files(&self) -> Result<u64, GatewayError> {
        let mut removed = 0;
        let mut after = None;
        loop {
            let rows = self.store.evidence_files_to_remove(after, FILES_AT_ONCE).await?;
            let Some(last) = rows.last() else { return Ok(removed) };
            after = Some(last.index);
            let files: Vec<_> = rows.iter().map(|row| (row.shelf.clone(), row.receipt)).collect();
            removed += self.remove(files).await?;
            let mut unit = self.store.begin().await?;
            for row in &rows {
                unit.note_file_removed(row.index).await?;
            }
            unit.commit().await?;
        }
    }

    /// Removes files that no decision came of.
    async fn remove_orphans(&self) -> Result<u64, GatewayError> {
        let shelves = Arc::clone(&self.shelves);
        let old =
            tokio::task::spawn_blocking(move || shelves.older_than(ORPHAN_AGE, ORPHAN_SHELVES));
        let old = old.await.map_err(|cause| GatewayError::internal("evidence", cause))?;
        let mut orphans = Vec::new();
        for (shelf, receipt) in old.map_err(unavailable)? {
            if !self.store.has_evidence(&receipt).await? {
                orphans.push((shelf, receipt));
            }
        }
        self.remove(orphans).await
    }

    async fn remove(&self, files: Vec<(String, ReceiptId)>) -> Result<u64, GatewayError> {
        let shelves = Arc::clone(&self.shelves);
        let removed = tokio::task::spawn_blocking(move || {
            let mut removed = 0;
            for (shelf, receipt) in files {
                removed += u64::from(shelves.remove(&shelf, &receipt)?);
            }
            Ok::<u64, std::io::Error>(removed)
        });
        let removed = removed.await.map_err(|cause| GatewayError::internal("evidence", cause))?;
        removed.map_err(unavailable)
    }
}

/// How long after the start the first run is, at most: a gateway that is often restarted runs too.
const FIRST_RUN: Duration = Duration::from_mins(1);

/// Runs at each interval.
pub(super) async fn clerk(gateway: std::sync::Weak<Gateway>, interval: Duration) {
    tokio::time::sleep(interval.min(FIRST_RUN)).await;
    loop {
        let Some(gateway) = gateway.upgrade() else { return };
        match gateway.run_retention(None).await {
            Ok(run) if run.files_removed > 0 || run.entered > 0 => {
                let RetentionRun { work, destroyed, files_removed, entered, .. } = run;
                tracing::info!(
                    consents = work.consents.len(),
                    customers = work.customers.len(),
                    destroyed,
                    files_removed,
                    entered,
                    "what is kept no longer than it must is ended, erased and destroyed"
                );
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(code = error.code(), error = %error, "the retention clerk failed");
            }
        }
        match gateway.plan_retention(None).await {
            Ok(RetentionPlan { footage: FootageCounts { due, missing, on_hold }, .. }) => {
                tracing::info!(due, missing, on_hold, "footage");
            }
            Err(error) => {
                tracing::error!(code = error.code(), error = %error, "footage cannot be counted");
            }
        }
        drop(gateway);
        tokio::time::sleep(interval).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_tells_is_bounded_and_what_it_counts_is_not() {
        let mut run = RetentionRun::default();
        let position = LogPosition { origin: "bank.example/log".try_into().unwrap(), index: 7 };
        let entry = Logged::committed(position.clone(), 7, "a receipt".to_owned());
        for _ in 0..WORK_MAX {
            run.enter(&entry);
        }
        assert_eq!((run.entries.len(), run.work.is_cut), (WORK_MAX, false));
        run.enter(&entry);
        assert_eq!((run.entries.len(), run.work.is_cut), (WORK_MAX, true));
        assert_eq!((run.entered, &run.entries[0]), (10_001, &position));
    }
}
