//! What became of the cash, as a terminal reports it.

use super::Gateway;
use super::error::GatewayError;
use super::footage::{Keep, commit_of, new_salt};
use super::request::{FootageSalt, ReportOutcome, ReportedOutcome};
use super::sequencer::{Job, NewEntry, Slot, Step};
use super::verification::CallingTerminal;
use crate::crypto::Digest;
use crate::domain::id::ReceiptId;
use crate::domain::money::AMOUNT_MINOR_MAX;
use crate::domain::transaction::DecisionKey;
use crate::receipt::{self, Content, ReceiptDraft, Refers, ReportingTerminal, rid_text};
use crate::store::{ClipRow, OutcomeRow, UnitOfWork};

impl Gateway {
    /// Logs what became of the cash.
    ///
    /// The same report again gives the same entry; another report adds one.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when there is no such decision of this terminal.
    pub async fn report_outcome(
        &self,
        terminal: &CallingTerminal,
        report: ReportOutcome,
    ) -> Result<ReportedOutcome, GatewayError> {
        if !(0..=AMOUNT_MINOR_MAX).contains(&report.dispensed_minor) {
            return Err(GatewayError::Invalid {
                field: "dispensed_minor",
                problem: "it is negative or too large",
            });
        }
        let key = DecisionKey {
            terminal: terminal.id.clone(),
            business_date: report.business_date.clone(),
            host_id: report.host_id.clone(),
            attempt: report.attempt,
        };
        let standing = self.standing_decision(&key).await?;
        let (decision, _) = standing.ok_or(GatewayError::NotFound("decision"))?;
        let entry = self.entry(decision.index).await?;
        let receipt = self.new_receipt()?;
        let footage_salt = report.footage.as_ref().map(|_| new_salt(&*self.entropy)).transpose()?;
        let clip = match (&report.footage, &footage_salt) {
            (Some(footage), Some(salt)) => Some(self.outcome_clip(footage, salt, &receipt)?),
            _ => None,
        };
        let pack = self.packs.current(self.clock.now()).await?;
        let footage_days = pack.retention().footage_days;
        let job = OutcomeJob {
            key,
            refers: Refers::to(&entry.receipt, entry.position),
            decision: decision.index,
            spki: terminal.spki,
            receipt,
            issuer: self.settings.issuer.clone(),
            tenant: self.settings.tenant.as_str().to_owned(),
            clip,
            footage_salt,
            keep: Keep { zone: self.settings.zone.clone(), footage_days },
            report,
        };
        let logged = self.sequencer.submit(Box::new(job)).await?;
        self.reported(logged).await
    }
}

/// One report of what became of the cash.
struct OutcomeJob {
    key: DecisionKey,
    refers: Refers,
    /// The place of the decision's entry.
    decision: u64,
    spki: Digest,
    receipt: ReceiptId,
    issuer: String,
    tenant: String,
    clip: Option<ClipRow>,
    footage_salt: Option<FootageSalt>,
    keep: Keep,
    report: ReportOutcome,
}

#[async_trait::async_trait]
impl Job for OutcomeJob {
    async fn run(&mut self, unit: &mut dyn UnitOfWork, slot: &Slot) -> Result<Step, GatewayError> {
        let ReportOutcome { outcome, dispensed_minor, currency, .. } = &self.report;
        if let Some(row) = unit.outcome(&self.key).await?
            && row.outcome == *outcome
            && row.dispensed_minor == *dispensed_minor
            && row.currency == *currency
        {
            let named = unit.footage(row.index).await?.and_then(|duty| duty.row.clip);
            if named.map(|clip| clip.footage) == self.report.footage {
                return Ok(Step::Existing(row.index));
            }
        }
        unit.put_outcome(&OutcomeRow {
            key: self.key.clone(),
            outcome: *outcome,
            dispensed_minor: *dispensed_minor,
            currency: *currency,
            index: slot.place,
        })
        .await?;
        if let Some(clip) = &self.clip {
            let of = unit.footage(self.decision).await?;
            let first = of.map_or(self.decision, |duty| duty.row.decision);
            let row = self.keep.row(first, &self.key.terminal, false, Some(clip), slot);
            unit.insert_footage(&row).await?;
        }
        let content = receipt::Outcome {
            refers: self.refers.clone(),
            outcome: outcome.as_str().to_owned(),
            dispensed_minor: *dispensed_minor,
            currency: currency.as_str().to_owned(),
            terminal: ReportingTerminal {
                id: self.key.terminal.as_str().to_owned(),
                cert: self.spki.labelled(),
            },
            footage: commit_of(self.clip.as_ref(), self.footage_salt),
        };
        Ok(Step::Append(Box::new(NewEntry {
            receipt: self.receipt,
            terminal: Some(self.key.terminal.clone()),
            draft: ReceiptDraft {
                rid: rid_text(&self.receipt),
                iss: self.issuer.clone(),
                aud: None,
                valid_for_ms: None,
                tenant: self.tenant.clone(),
                content: Content::Outcome(content),
            },
            sealed_audit: None,
        })))
    }

    fn receipt(&self) -> Option<ReceiptId> {
        Some(self.receipt)
    }
}
