//! The retention clerk: destroys evidence whose time is over, and says where the footage stands.
//!
//! Destroying a picture's key and the erasure entry are one transaction. Its file is unreadable from
//! then on and is removed after it; a crash in between leaves work for the next run and nothing else.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Gateway;
use super::error::GatewayError;
use super::evidence::unavailable;
use super::footage::ERASED_AT_ONCE_MAX;
use super::request::{Actor, Logged};
use super::sequencer::{Job, NewEntry, Slot, Step};
use crate::domain::id::ReceiptId;
use crate::domain::time::UnixMillis;
use crate::receipt::{self, Content, Erasure, IndexRange, ReceiptDraft, rid_text};
use crate::store::{EvidenceCounts, FootageCounts, UnitOfWork};

/// A file without a row this long after it was written is of a call that never came to a decision.
const ORPHAN_AGE: Duration = Duration::from_hours(1);

/// Shelves looked through for such files: each day's is looked through on days after it, too.
const ORPHAN_SHELVES: usize = 3;

/// Files removed between two commits.
const FILES_AT_ONCE: u32 = 500;

/// What is due.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RetentionPlan {
    /// When this was found out.
    pub time: UnixMillis,
    /// Captures.
    pub evidence: EvidenceCounts,
    /// Clips.
    pub footage: FootageCounts,
}

/// What a run did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RetentionRun {
    /// Captures destroyed.
    pub destroyed: u64,
    /// Files removed.
    pub files_removed: u64,
    /// The erasure entries.
    pub entries: Vec<Logged>,
}

/// Destroys the keys of some captures whose time is over.
struct RetireJob {
    receipt: ReceiptId,
    actor: receipt::Actor,
    issuer: String,
    tenant: String,
    destroyed: Arc<std::sync::atomic::AtomicU64>,
}

/// What a [`RetireJob`] is refused with when another run was quicker.
const NOTHING_DUE: &str = "nothing is due";

#[async_trait]
impl Job for RetireJob {
    async fn run(&mut self, unit: &mut dyn UnitOfWork, slot: &Slot) -> Result<Step, GatewayError> {
        let at_once = u32::try_from(ERASED_AT_ONCE_MAX).unwrap_or(u32::MAX);
        let due = unit.evidence_due(slot.now, at_once).await?;
        if due.is_empty() {
            return Err(GatewayError::State(NOTHING_DUE));
        }
        for index in &due {
            unit.destroy_evidence(*index).await?;
        }
        let count = u64::try_from(due.len()).unwrap_or(u64::MAX);
        // Set, not added to: a job may run more than once.
        self.destroyed.store(count, std::sync::atomic::Ordering::SeqCst);
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
                    evidence: IndexRange::covering(due.iter().map(|at| slot.ledgers.position(*at))),
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
    /// What a run would destroy now, and where the footage stands.
    ///
    /// # Errors
    ///
    /// What the store cannot do.
    pub async fn plan_retention(&self) -> Result<RetentionPlan, GatewayError> {
        let time = self.clock.now();
        Ok(RetentionPlan {
            time,
            evidence: self.store.evidence_counts(time).await?,
            footage: self.store.footage_counts(time).await?,
        })
    }

    /// Destroys what is due; by nobody's order it is the gateway's own act.
    ///
    /// # Errors
    ///
    /// What store and disk cannot do; what was done before stays done, and is in the ledger.
    pub async fn run_retention(&self, actor: Option<&Actor>) -> Result<RetentionRun, GatewayError> {
        // Two at once would do no harm, only each other's work.
        let _turn = self.retention.lock().await;
        let mut run = RetentionRun { destroyed: 0, files_removed: 0, entries: Vec::new() };
        while self.store.evidence_counts(self.clock.now()).await?.due > 0 {
            let destroyed = Arc::default();
            let job = RetireJob {
                receipt: self.new_receipt()?,
                actor: match actor {
                    Some(actor) => super::act::receipt_actor(actor),
                    None => self.signing.own_actor(&self.open_ledger()?)?,
                },
                issuer: self.settings.issuer.clone(),
                tenant: self.settings.tenant.as_str().to_owned(),
                destroyed: Arc::clone(&destroyed),
            };
            match self.sequencer.submit(Box::new(job)).await {
                Ok(logged) => run.entries.push(logged),
                Err(GatewayError::State(NOTHING_DUE)) => break,
                Err(error) => return Err(error),
            }
            run.destroyed += destroyed.load(std::sync::atomic::Ordering::SeqCst);
        }
        run.files_removed = self.remove_files().await? + self.remove_orphans().await?;
        Ok(run)
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
            Ok(run) if run.destroyed + run.files_removed > 0 => {
                let RetentionRun { destroyed, files_removed, .. } = run;
                tracing::info!(
                    destroyed,
                    files_removed,
                    "evidence whose time is over is destroyed"
                );
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(code = error.code(), error = %error, "the retention clerk failed");
            }
        }
        match gateway.plan_retention().await {
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
