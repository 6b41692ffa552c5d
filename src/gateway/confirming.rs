//! How a decision and a confirmation meet: one is asked for, counts as a fact, and ends in a decision.
//!
//! A decision that asks for one keeps what it was made on, sealed under the customer's key: the final
//! decision is made by the same job on that and on everything else again, never on the terminal's word.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::envelope::SignedBy;
use super::error::GatewayError;
use super::record::LookedBy;
use super::sequencer::Slot;
use super::session::Session;
use super::verification::Which;
use super::verification_job::{Seen, VerificationJob};
use crate::crypto::{Digest, length_prefixed, random_bytes};
use crate::domain::decision::{Decision, Outcome, StepUp};
use crate::domain::id::ConfirmationId;
use crate::domain::reason::Reason;
use crate::domain::time::UnixMillis;
use crate::policy::Confirmation;
use crate::receipt::{self, Refers};
use crate::store::{AnswerKind, ConfirmationRow, UnitOfWork};
use crate::vault::{CustomerKeys, Place};

/// What a job decides about.
pub(super) enum Stage {
    /// What a terminal asks now.
    Asked,
    /// What it asked before, now that the customer has answered or their time is over.
    Answered(ConfirmationId),
}

/// What a customer is shown, and signs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The operation's word.
    pub operation: String,
    /// How much, in minor units.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// The other side, or else the account.
    pub payee: String,
    /// The terminal.
    pub terminal: String,
    /// Where it stands; empty where nobody said.
    pub place: String,
    /// The time, in the bank's zone.
    pub displayed_at: String,
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shown(…)")
    }
}

/// The bytes that a customer's device signs; `docs/confirmation.md` has them with a vector.
#[must_use]
pub fn confirmation_message(id: &ConfirmationId, shown: &Shown) -> Vec<u8> {
    let Shown { operation, amount_minor, currency, payee, terminal, place, displayed_at } = shown;
    length_prefixed(&[
        b"tulga-confirmation-v1",
        id.as_bytes(),
        operation.as_bytes(),
        &amount_minor.to_be_bytes(),
        currency.as_bytes(),
        payee.as_bytes(),
        terminal.as_bytes(),
        place.as_bytes(),
        displayed_at.as_bytes(),
    ])
}

/// What is kept of a decision until its customer has answered.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    pub session: Session,
    pub seen: Seen,
    /// When what was seen arrived.
    pub captured_at: UnixMillis,
    pub attempts: u32,
    /// Hexadecimal digits.
    pub attempts_key: String,
    /// None where nothing was captured.
    pub challenge_hash: Option<String>,
    pub models: Vec<String>,
    /// The hash of the captures that are kept, as hexadecimal digits.
    #[serde(default)]
    pub kept_hash: Option<String>,
    /// What looked; none where nothing was captured, and in what an older version kept.
    #[serde(default)]
    pub looked_by: Option<LookedBy>,
    /// What signed the captures.
    #[serde(default)]
    pub signed_by: SignedBy,
    /// The keys that the captures were sealed to, where all of them were.
    #[serde(default)]
    pub sealed_to: Option<String>,
    pub shown: Shown,
}

impl Kept {
    /// Opens what a confirmation keeps.
    pub fn open(
        tenant: &str,
        keys: &CustomerKeys,
        row: &ConfirmationRow,
    ) -> Result<Self, GatewayError> {
        let plain = keys.open(&place_of(tenant, row), &row.sealed)?;
        serde_json::from_slice(&plain).map_err(|cause| GatewayError::internal(KEPT, cause))
    }

    /// Whether nothing was captured.
    pub const fn is_exception(&self) -> bool {
        self.challenge_hash.is_none()
    }

    /// Whether cash may still move on what was captured; what was not captured does not age.
    pub fn is_fresh(&self, seconds: u32, now: UnixMillis) -> bool {
        self.is_exception() || is_fresh(self.captured_at, seconds, now)
    }

    /// Whether it was the same that is asked now.
    fn fits(&self, session: &Session) -> bool {
        self.session.asks_the_same(session)
    }
}

/// How a confirmation stands at an instant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The customer may still answer.
    Waiting,
    /// They agreed, and it counts.
    Agreed(Confirmation),
    /// They refused.
    Declined,
    /// They did not answer in time, or agreed too long ago.
    Expired,
}

impl Standing {
    pub fn of(row: &ConfirmationRow, now: UnixMillis) -> Self {
        match &row.answer {
            None if now <= row.expires_at => Self::Waiting,
            None => Self::Expired,
            Some(answer) => match answer.kind {
                AnswerKind::Declined => Self::Declined,
                _ if now > answer.counts_until => Self::Expired,
                AnswerKind::CustomerKey => Self::Agreed(Confirmation::CustomerKey),
                AnswerKind::BackEnd => Self::Agreed(Confirmation::BackEnd),
                AnswerKind::TwoTellers => Self::Agreed(Confirmation::TwoTellers),
            },
        }
    }
}

/// The confirmation that a decision rests on, or ends.
pub(super) struct Confirming {
    row: Option<ConfirmationRow>,
    pub fact: Confirmation,
    /// Why there is none, where one was asked for.
    refusal: Option<Reason>,
}

impl Confirming {
    /// Why the pack's decision does not stand, if it does not: the customer refused or never answered, or the
    /// word that was given in the end is not the one that the rules want. Nobody is asked again by a final
    /// decision.
    pub fn refusal_of(&self, decision: &Decision, which: Which) -> Option<Reason> {
        let is_not_enough = which == Which::Final && asks_app(decision);
        self.refusal.or(is_not_enough.then_some(Reason::PolAppNeeded))
    }

    /// What the receipt says of it: the first decision, and on whose word the customer agreed.
    pub fn in_receipt(&self, slot: &Slot) -> (Option<Refers>, Option<receipt::Confirmation>) {
        let refers = self.row.as_ref().map(|row| slot.refers(&row.receipt, row.index));
        let agreed = self.row.as_ref().and_then(|row| row.answer.as_ref());
        let agreed = agreed.filter(|_| self.fact != Confirmation::None);
        let confirmation = agreed.map(|answer| receipt::Confirmation {
            by: self.fact.as_str().to_owned(),
            at: answer.at.rfc3339(),
            entry: slot.refers(&answer.receipt, answer.index),
        });
        (refers, confirmation)
    }

    /// What an auditor may see of it: with the key and what was shown, the signature can be checked.
    pub fn in_audit_record(&self, slot: &Slot) -> serde_json::Value {
        let Some(row) = &self.row else { return serde_json::Value::Null };
        let answer = row.answer.as_ref();
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let first = row.proposal.as_ref().map(|first| {
            let position = slot.ledgers.position(first.index);
            serde_json::json!({
                "name": first.by.as_str(),
                "cert": first.key.labelled(),
                "origin": position.origin.as_str(),
                "index": position.index,
            })
        });
        serde_json::json!({
            "id": row.id.to_string(),
            // The first of two tellers; the second one's entry is the agreement.
            "first": first,
            "answer": answer.map(|answer| answer.kind.as_str()),
            "at": answer.map(|answer| answer.at.rfc3339()),
            "key": answer.and_then(|answer| answer.app_key).map(|key| key.labelled()),
            "signature": answer.map(|answer| hex(&answer.signature)),
        })
    }
}

impl VerificationJob {
    /// The confirmation that counts for this decision, as it stands in the job's transaction.
    pub(super) async fn confirming(
        &self,
        unit: &mut dyn UnitOfWork,
        slot: &Slot,
    ) -> Result<Confirming, GatewayError> {
        match &self.stage {
            Stage::Asked => self.agreed_before(unit, slot).await,
            Stage::Answered(id) => {
                let row = unit.confirmation(id).await?.filter(|row| row.settled_by.is_none());
                let row = row.ok_or(GatewayError::State(NOT_YET))?;
                let none = Confirmation::None;
                let (fact, refusal) = match Standing::of(&row, slot.now) {
                    Standing::Agreed(fact) if self.is_fresh(slot.now) => {
                        if self.still_counts(unit, &row).await? {
                            (fact, None)
                        } else {
                            (none, Some(Reason::PolConfirmationExpired))
                        }
                    }
                    Standing::Waiting | Standing::Agreed(_) => {
                        return Err(GatewayError::State(NOT_YET));
                    }
                    Standing::Declined => (none, Some(Reason::PolConfirmationDeclined)),
                    Standing::Expired => (none, Some(Reason::PolConfirmationExpired)),
                };
                Ok(Confirming { row: Some(row), fact, refusal })
            }
        }
    }

    /// An agreement that the customer gave to the same transaction in an earlier attempt, after which
    /// the terminal had to capture again.
    async fn agreed_before(
        &self,
        unit: &mut dyn UnitOfWork,
        slot: &Slot,
    ) -> Result<Confirming, GatewayError> {
        let none = Confirming { row: None, fact: Confirmation::None, refusal: None };
        let (Some(customer), Some(keys)) = (self.session.customer()?, &self.keys) else {
            return Ok(none);
        };
        if !self.pack.sees("confirmation") {
            return Ok(none);
        }
        for row in unit.confirmations_of_transaction(&self.key).await?.into_iter().rev() {
            let Standing::Agreed(fact) = Standing::of(&row, slot.now) else { continue };
            if row.settled_by.is_some() || row.customer != customer {
                continue;
            }
            if !self.still_counts(unit, &row).await? {
                continue;
            }
            if Kept::open(self.settings.tenant.as_str(), keys, &row)?.fits(&self.session) {
                return Ok(Confirming { row: Some(row), fact, refusal: None });
            }
        }
        Ok(none)
    }

    /// Whether the word that a confirmation rests on is still taken: a key that was unbound since, as after
    /// a theft, speaks for nobody, nor does a back end that the pack in force does not trust.
    async fn still_counts(
        &self,
        unit: &mut dyn UnitOfWork,
        row: &ConfirmationRow,
    ) -> Result<bool, GatewayError> {
        let Some(answer) = &row.answer else { return Ok(false) };
        Ok(match (answer.kind, answer.app_key) {
            (AnswerKind::CustomerKey, Some(key)) => {
                let keys = unit.app_keys(&row.customer).await?;
                keys.iter().any(|bound| bound.fingerprint == key)
            }
            (AnswerKind::BackEnd, _) => self.pack.bars().accept_back_end_word,
            // Where somebody can be captured, no teller stands in for them.
            (AnswerKind::TwoTellers, _) => self.challenge_hash.is_none(),
            _ => false,
        })
    }

    /// Notes what the decision means for the confirmation, or asks the customer for one.
    pub(super) async fn conclude(
        &self,
        unit: &mut dyn UnitOfWork,
        slot: &Slot,
        decision: &Decision,
        confirming: &Confirming,
    ) -> Result<(), GatewayError> {
        let asks = asks_app(decision);
        if let Some(row) = &confirming.row {
            // A capture that failed does not use the customer's agreement up: the next one may rest on it.
            // One that is not the word which the rules want ends here, and another one is asked for.
            if decision.outcome().approves() || asks || matches!(self.stage, Stage::Answered(_)) {
                unit.settle_confirmation(&row.id, self.key.attempt).await?;
            }
        }
        if asks {
            self.ask_customer(unit, slot).await?;
        }
        Ok(())
    }

    async fn ask_customer(
        &self,
        unit: &mut dyn UnitOfWork,
        slot: &Slot,
    ) -> Result<(), GatewayError> {
        let (Some(customer), Some(keys)) = (self.session.customer()?, &self.keys) else {
            return Ok(());
        };
        let kept = Kept {
            session: self.session.clone(),
            seen: self.seen.clone(),
            captured_at: self.captured_at,
            attempts: self.attempts,
            attempts_key: self.attempts_key.hex(),
            challenge_hash: self.challenge_hash.as_ref().map(Digest::hex),
            models: self.models.iter().map(Digest::hex).collect(),
            kept_hash: self.kept_hash.as_ref().map(Digest::hex),
            looked_by: self.looked_by.clone(),
            signed_by: self.signed_by.clone(),
            sealed_to: self.sealed_to.clone(),
            shown: Shown {
                operation: self.session.operation()?.as_str().to_owned(),
                amount_minor: self.session.amount_minor,
                currency: self.session.currency.clone(),
                payee: self.session.counterparty.as_ref().unwrap_or(&self.session.account).clone(),
                terminal: self.terminal.id.as_str().to_owned(),
                place: self.place.clone(),
                displayed_at: self.settings.zone.displayed(slot.now),
            },
        };
        let plain = Zeroizing::new(
            serde_json::to_vec(&kept).map_err(|cause| GatewayError::internal(KEPT, cause))?,
        );
        let bars = self.pack.bars();
        let is_exception = self.challenge_hash.is_none();
        let ttl_s = if is_exception { bars.exception_ttl_s } else { bars.confirmation_ttl_s };
        let mut row = ConfirmationRow {
            id: ConfirmationId::new(random_bytes(&*self.entropy)?),
            customer,
            key: self.key.clone(),
            receipt: self.receipt,
            index: slot.place,
            sealed: Vec::new(),
            created_at: slot.now,
            expires_at: slot.now.plus_millis(seconds_ms(ttl_s)),
            proposal: None,
            answer: None,
            settled_by: None,
        };
        let place = place_of(self.settings.tenant.as_str(), &row);
        row.sealed = keys.seal(&place, &plain, &*self.entropy)?;
        Ok(unit.insert_confirmation(&row).await?)
    }

    fn is_fresh(&self, now: UnixMillis) -> bool {
        let seconds = self.pack.bars().capture_fresh_s;
        self.challenge_hash.is_none() || is_fresh(self.captured_at, seconds, now)
    }
}

/// The pack's decision, or the denial that takes its place for a reason of the confirmation's.
pub(super) fn refused_for(decision: Decision, refusal: Option<Reason>) -> Decision {
    let Some(reason) = refusal else { return decision };
    // That a confirmation is needed is no news to somebody who refused it.
    let mut reasons = match decision.outcome() {
        Outcome::StepUp { .. } => Vec::new(),
        _ => decision.reasons().to_vec(),
    };
    reasons.push(reason);
    Decision::new(Outcome::Denied, reasons, decision.rules().to_vec())
}

/// Whether the rules want nothing graver than a confirmation in the application.
fn asks_app(decision: &Decision) -> bool {
    decision.outcome().step_up() == Some(StepUp::AppConfirmation)
}

/// Whether cash may still move on a capture of that time.
fn is_fresh(captured_at: UnixMillis, seconds: u32, now: UnixMillis) -> bool {
    now <= captured_at.plus_millis(seconds_ms(seconds))
}

/// Seconds of a pack in milliseconds.
pub(super) fn seconds_ms(seconds: u32) -> i64 {
    i64::from(seconds) * 1_000
}

fn place_of(tenant: &str, row: &ConfirmationRow) -> Place {
    Place::of_customer("confirmations", "sealed", tenant, &row.customer, row.id.as_bytes())
}

/// The customer has not answered, or a fresh capture is needed: nothing can be decided finally.
pub(super) const NOT_YET: &str = "the confirmation is not ready for a final decision";

/// What is broken when a sealed row has another content than was sealed.
const KEPT: &str = "a kept confirmation does not parse";
