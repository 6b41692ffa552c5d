//! What a decision leaves for reports and for the retention clerk, in its own transaction.

use super::confirming::Stage;
use super::error::GatewayError;
use super::footage::Keep;
use super::sequencer::Slot;
use super::verification_job::VerificationJob;
use crate::domain::decision::Decision;
use crate::store::{UnitOfWork, VerificationRow};

/// The first decision about an attempt, where this is its final one.
pub(super) struct First {
    /// Its entry.
    pub index: u64,
    /// Whether a clip was named with its capture.
    pub is_named: bool,
}

impl VerificationJob {
    /// The first decision, where this one comes after the customer was asked to confirm.
    pub(super) async fn first(
        &self,
        unit: &mut dyn UnitOfWork,
    ) -> Result<Option<First>, GatewayError> {
        let Stage::Answered(_) = self.stage else { return Ok(None) };
        let Some(row) = unit.decision(&self.key).await? else { return Ok(None) };
        let clip = unit.footage(row.index).await?.and_then(|duty| duty.row.clip);
        Ok(Some(First { index: row.index, is_named: clip.is_some() }))
    }

    /// Writes the decision's rows: plain ones, so that no audit record is opened for a report.
    pub(super) async fn leave_for_oversight(
        &self,
        unit: &mut dyn UnitOfWork,
        decision: &Decision,
        slot: &Slot,
    ) -> Result<(), GatewayError> {
        let outcome = decision.outcome();
        let asked = self.session.amount_minor;
        let approved_minor = outcome.cap_minor().map_or(asked, |cap| cap.min(asked));
        unit.insert_verification(&VerificationRow {
            index: slot.place,
            at: slot.now,
            key: self.key.clone(),
            operation: self.session.operation()?,
            amount_minor: asked,
            approved_minor: outcome.approves().then_some(approved_minor),
            currency: self.currency()?,
            outcome: outcome.as_str().to_owned(),
            reasons: decision.reasons().to_vec(),
            signs: self.pack.signs(decision.rules()),
            subject: self.told_subject(decision).to_owned(),
        })
        .await?;
        let footage_days = self.pack.retention().footage_days;
        let keep = Keep { zone: self.settings.zone.clone(), footage_days };
        let clip = self.clip.as_ref();
        // What belongs to one attempt is kept together, under its first decision.
        let first = self.first(unit).await?.unwrap_or(First { index: slot.place, is_named: false });
        let is_missing = outcome.approves() && clip.is_none() && !first.is_named;
        let row = keep.row(first.index, &self.terminal.id, is_missing, clip, slot);
        unit.insert_footage(&row).await?;
        // A picture that nothing was compared with has no row: without its key it is never opened.
        if let Some(evidence) = self.evidence.as_ref().filter(|_| self.seen.was_compared()) {
            let days = self.pack.retention().evidence_days;
            let keep_until = self.settings.zone.after_days(slot.now, days);
            unit.insert_evidence(&evidence.row(slot.place, self.receipt, keep_until)).await?;
        }
        Ok(())
    }
}
