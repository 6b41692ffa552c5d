//! The decision: made inside the sequencer's transaction, on facts that include what it finds there.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::Settings;
use super::answer::KeptAnswer;
use super::customer::standing_of;
use super::error::GatewayError;
use super::request::Salts;
use super::sequencer::{Job, NewEntry, Slot, Step};
use super::session::Session;
use super::verification::{CallingTerminal, answer_place};
use crate::crypto::{Digest, Entropy};
use crate::domain::decision::{Decision, Outcome, RuleId};
use crate::domain::id::ReceiptId;
use crate::domain::liveness::LivenessScore;
use crate::domain::quality::QualityReport;
use crate::domain::reason::Reason;
use crate::domain::score::Strength;
use crate::domain::transaction::{DecisionKey, Operation};
use crate::domain::turnover::Direction;
use crate::face::Refusal;
use crate::policy::{self, CaptureFact, CustomerStanding, Facts, PolicyPack};
use crate::receipt::{
    Bio, Cap, Content, Policy, ReceiptDraft, Salt, Terminal, TransactionFields, Txn, Verification,
    audit_commit, rid_text, transaction_commit,
};
use crate::store::{DecisionRow, MovementRow, UnitOfWork};
use crate::vault::{Place, Vault};

/// What the models saw, reduced to what rules and the audit record may hold.
pub(super) struct Seen {
    pub(super) capture: CaptureFact,
    pub(super) strength: Option<Strength>,
    pub(super) liveness: Option<LivenessScore>,
    quality: Option<QualityReport>,
}

impl Seen {
    /// A face that could be compared.
    pub fn usable(
        strength: Option<Strength>,
        liveness: Option<LivenessScore>,
        quality: QualityReport,
    ) -> Self {
        Self { capture: CaptureFact::Usable, strength, liveness, quality: Some(quality) }
    }

    /// A picture that could not.
    pub fn refused(refusal: Refusal) -> Self {
        let Refusal { cause, quality } = refusal;
        // A refusal without a row in the table is a broken build; it must refuse all the same.
        let reason = Reason::from_code(cause.code()).unwrap_or(Reason::CapLowQuality);
        Self {
            capture: CaptureFact::Refused(vec![reason]),
            strength: None,
            liveness: None,
            quality,
        }
    }
}

/// One verification on its way into the ledger.
pub(super) struct VerificationJob {
    pub vault: Arc<Vault>,
    pub pack: Arc<PolicyPack>,
    pub entropy: Arc<dyn Entropy>,
    pub settings: Settings,
    pub models: Vec<Digest>,
    pub receipt: ReceiptId,
    pub terminal: CallingTerminal,
    pub key: DecisionKey,
    pub request_hash: Digest,
    pub challenge_hash: Digest,
    pub session: Session,
    pub attempts_key: Digest,
    pub attempts: u32,
    pub standing: CustomerStanding,
    pub subject: String,
    pub seen: Seen,
    pub salts: Salts,
    /// Opens the receipt's commitment to the audit record; for auditors only.
    pub audit_salt: [u8; 32],
    /// After it nothing is decided: a late approval is none.
    pub deadline: Instant,
}

#[async_trait]
impl Job for VerificationJob {
    async fn run(&mut self, unit: &mut dyn UnitOfWork, slot: &Slot) -> Result<Step, GatewayError> {
        if let Some(row) = unit.decision(&self.key).await? {
            // Two calls with one key raced; the first one's decision stands.
            return if row.request_hash == self.request_hash {
                Ok(Step::Existing(row.index))
            } else {
                Err(GatewayError::IdReused)
            };
        }
        if Instant::now() > self.deadline {
            return Err(GatewayError::Deadline);
        }
        if unit.has_approval(&self.key).await? {
            return Err(GatewayError::State("the transaction was approved in another attempt"));
        }
        self.look_again(unit, slot).await?;
        let facts = self.facts(unit, slot).await?;
        let decision = policy::decide(&facts, &self.pack, slot.now);
        let attempts = if matches!(decision.outcome(), Outcome::Inconclusive) {
            // Nothing was learnt about the person, so it costs no try.
            unit.add_to_counter(&self.attempts_key, -1, slot.now).await?
        } else {
            self.attempts
        };
        let attempts_left = self.pack.bars().attempts_max.saturating_sub(attempts);
        let audit = self.audit_record(&facts, &decision, slot)?;
        unit.insert_decision(&DecisionRow {
            key: self.key.clone(),
            request_hash: self.request_hash,
            index: slot.index,
            approves: decision.outcome().approves(),
            sealed_answer: self.sealed_answer(&decision, attempts_left)?,
        })
        .await?;
        // The salt stands before the record, in the order in which they are hashed.
        let salted = Zeroizing::new([&self.audit_salt, audit.as_slice()].concat());
        if let Some(movement) = self.movement(&decision, slot)? {
            unit.insert_movement(&movement).await?;
        }
        self.remember(unit, &decision, slot).await?;
        let sealed_audit = self.vault.seal_system(
            &audit_place(&self.settings, slot.index),
            &salted,
            &*self.entropy,
        )?;
        Ok(Step::Append(Box::new(NewEntry {
            receipt: self.receipt,
            terminal: Some(self.terminal.id.clone()),
            draft: self.draft(&decision, &audit)?,
            sealed_audit: Some(sealed_audit),
        })))
    }

    fn receipt(&self) -> Option<ReceiptId> {
        Some(self.receipt)
    }
}

impl VerificationJob {
    /// The cash that an approval lets move.
    fn movement(
        &self,
        decision: &Decision,
        slot: &Slot,
    ) -> Result<Option<MovementRow>, GatewayError> {
        let outcome = decision.outcome();
        let Some(customer) = self.session.customer()?.filter(|_| outcome.approves()) else {
            return Ok(None);
        };
        let asked = self.session.amount_minor;
        Ok(Some(MovementRow {
            key: self.key.clone(),
            customer,
            account: self.session.account_index()?,
            card: self.session.card()?,
            direction: match self.session.operation()? {
                Operation::CashWithdrawal => Direction::Withdrawals,
                Operation::CashDeposit | Operation::ThirdPartyDeposit => Direction::Deposits,
            },
            approved_minor: outcome.cap_minor().map_or(asked, |cap| cap.min(asked)),
            currency: self.currency()?,
            at: slot.now,
        }))
    }

    /// Notes what later decisions about the person look at.
    async fn remember(
        &self,
        unit: &mut dyn UnitOfWork,
        decision: &Decision,
        slot: &Slot,
    ) -> Result<(), GatewayError> {
        let Some(customer) = self.session.customer()? else { return Ok(()) };
        for (rule, until) in self.pack.caps_begun(decision, slot.now) {
            unit.put_cap(&customer, &rule, until).await?;
        }
        let is_withdrawal = self.session.operation()? == Operation::CashWithdrawal;
        if is_withdrawal && decision.outcome() == Outcome::Denied {
            unit.insert_refusal(&customer, slot.now).await?;
        }
        Ok(())
    }

    /// What the bank's office changed while the picture was looked at counts.
    async fn look_again(
        &mut self,
        unit: &mut dyn UnitOfWork,
        slot: &Slot,
    ) -> Result<(), GatewayError> {
        let Some(id) = self.session.customer()? else { return Ok(()) };
        let leads_there = match self.session.token()? {
            Some(token) => unit.customer_by_token(&token, slot.now).await? == Some(id),
            None => true,
        };
        let status = unit.customer(&id).await?.map(|row| standing_of(row.status));
        let standing = status.filter(|_| leads_there).unwrap_or(CustomerStanding::Unknown);
        if standing != CustomerStanding::Active {
            self.standing = standing;
        }
        Ok(())
    }

    fn sealed_answer(
        &self,
        decision: &Decision,
        attempts_left: u32,
    ) -> Result<Vec<u8>, GatewayError> {
        let kept = KeptAnswer::new(
            &decision.outcome(),
            &decision.public_reasons(),
            decision.next_screen(attempts_left),
            attempts_left,
            &self.salts,
        );
        let plain =
            serde_json::to_vec(&kept).map_err(|cause| GatewayError::internal("answer", cause))?;
        let place = answer_place(self.settings.tenant.as_str(), &self.key);
        Ok(self.vault.seal_system(&place, &plain, &*self.entropy)?)
    }

    /// What an auditor under agreement may see and a terminal may not: scores, quality, rules.
    fn audit_record(
        &self,
        facts: &Facts,
        decision: &Decision,
        slot: &Slot,
    ) -> Result<Vec<u8>, GatewayError> {
        let quality = self.seen.quality.as_ref().map(|report| {
            let measures = report.measures().iter();
            measures
                .map(|m| (m.component.as_str(), json!(format!("{:.3}", m.value))))
                .collect::<std::collections::BTreeMap<_, _>>()
        });
        let record = json!({
            "v": 1,
            "rid": rid_text(&self.receipt),
            "time": slot.now.rfc3339(),
            "facts": {
                "operation": facts.operation.as_str(),
                "amount_minor": facts.amount.get(),
                "currency": facts.currency.as_str(),
                "account_currency": facts.account_currency.as_str(),
                "customer": facts.customer.as_str(),
                "strength_db": facts.strength_db,
                "strength_tenth_db": self.seen.strength.map(Strength::tenths),
                "liveness": facts.liveness.as_str(),
                "liveness_e4": facts.liveness.score_e4(),
                "attempts_in_transaction": facts.attempts_in_transaction,
                "holder_verification": facts.holder_verification.as_str(),
                "device_level": facts.device_level.as_str(),
            },
            "quality": quality,
            "outcome": decision.outcome().as_str(),
            "reasons": decision.reasons().iter().map(|reason| reason.code()).collect::<Vec<_>>(),
            "rules": decision.rules().iter().map(RuleId::as_str).collect::<Vec<_>>(),
            "models": self.models.iter().map(Digest::labelled).collect::<Vec<_>>(),
            "build": self.settings.build.labelled(),
        });
        serde_json::to_vec(&record).map_err(|cause| GatewayError::internal("audit record", cause))
    }

    fn draft(&self, decision: &Decision, audit: &[u8]) -> Result<ReceiptDraft, GatewayError> {
        let outcome = decision.outcome();
        let commit = transaction_commit(
            &Salt::new(self.salts.transaction),
            &TransactionFields {
                host_transaction_id: &self.session.host_id,
                business_date: &self.session.business_date,
                attempt: self.key.attempt,
                account: &self.session.account,
                counterparty: self.session.counterparty.as_deref(),
            },
        );
        let cap = outcome.cap_minor().zip(outcome.until());
        let content = Verification {
            terminal: Terminal {
                id: self.terminal.id.as_str().to_owned(),
                cert: self.terminal.spki.labelled(),
                sensor: None,
                challenge: self.challenge_hash.labelled(),
                envelope: None,
            },
            txn: Txn {
                commit,
                op: self.session.operation()?.as_str().to_owned(),
                amount_minor: self.session.amount_minor,
                currency: self.session.currency.clone(),
            },
            subject: Some(self.subject.clone()),
            bio: Bio {
                modality: "face".to_owned(),
                models: self.models.iter().map(Digest::labelled).collect(),
                required_db: self.pack.bars().required_db,
            },
            policy: Policy {
                id: self.pack.id().as_str().to_owned(),
                version: i64::from(self.pack.version()),
                hash: self.pack.hash().labelled(),
            },
            build: self.settings.build.labelled(),
            outcome: outcome.as_str().to_owned(),
            cap: cap.map(|(amount_minor, until)| Cap { amount_minor, until: until.rfc3339() }),
            reasons: decision
                .public_reasons()
                .iter()
                .map(|reason| reason.code().to_owned())
                .collect(),
            footage: None,
            audit: audit_commit(&Salt::new(self.audit_salt), audit),
        };
        Ok(ReceiptDraft {
            rid: rid_text(&self.receipt),
            iss: self.settings.issuer.clone(),
            aud: Some(self.settings.audience.clone()),
            valid_for_ms: Some(self.settings.receipt_valid_ms),
            tenant: self.settings.tenant.as_str().to_owned(),
            content: Content::Verification(content),
        })
    }
}

/// Where an audit record is sealed to.
pub(super) fn audit_place(settings: &Settings, index: u64) -> Place {
    let row = crate::crypto::length_prefixed(&[
        settings.origin.as_str().as_bytes(),
        &index.to_be_bytes(),
    ]);
    Place::system("entries", "sealed_audit", settings.tenant.as_str(), &row)
}
