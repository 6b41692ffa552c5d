//! The decision: made inside the sequencer's transaction, on facts that include what it finds there.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::Settings;
use super::answer::KeptAnswer;
use super::attempts::Tried;
use super::confirming::{Confirming, Stage, refused_for};
use super::consent::holds;
use super::customer::standing_of;
use super::envelope::SignedBy;
use super::error::GatewayError;
use super::evidence::KeptEvidence;
use super::footage::commit_of;
use super::guest::{GuestIs, NewGuest};
use super::packs::Packs;
use super::record::LookedBy;
use super::register::used;
use super::request::Salts;
use super::sequencer::{Job, NewEntry, Slot, Step};
use super::session::{Session, customer_from_hex};
use super::verification::{CallingTerminal, Which, answer_place};
use crate::crypto::{Digest, Entropy};
use crate::domain::decision::{Decision, Outcome};
use crate::domain::face_print::FacePrint;
use crate::domain::id::{CustomerId, ReceiptId};
use crate::domain::liveness::LivenessScore;
use crate::domain::modality::Captured;
use crate::domain::reason::Reason;
use crate::domain::score::Strength;
use crate::domain::time::UnixMillis;
use crate::domain::transaction::{DecisionKey, Operation};
use crate::domain::turnover::Direction;
use crate::ledger::LogPosition;
use crate::policy::{self, Bars, CaptureFact, CustomerStanding, Facts, LivenessFact, PolicyPack};
use crate::receipt::{
    Bio, Cap, Content, Exception, Policy, ReceiptDraft, ReportingTerminal, Salt, Terminal,
    TransactionFields, Txn, Verification, audit_commit, rid_text, transaction_commit,
};
use crate::store::{ClipRow, DecisionRow, FacePrintRow, MovementRow, RegisterRow, UnitOfWork};
use crate::vault::{CustomerKeys, Place, Vault};

/// What the models saw, reduced to what rules and the audit record may hold: it may be kept, sealed, to
/// decide on it again.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Seen {
    /// Codes of why the capture cannot be compared; none for one that can.
    refused: Vec<String>,
    pub(super) strength_db: Option<i64>,
    pub(super) strength_tenth_db: Option<i64>,
    pub(super) liveness_e4: Option<i64>,
    /// Measures by their names.
    pub(super) quality: Option<BTreeMap<String, String>>,
    /// The raw numbers that decided, by their names; none where nothing was compared with somebody's template.
    #[serde(default)]
    pub(super) scores: Option<BTreeMap<String, String>>,
    /// Whom else it looks like, by their identifiers' digits, the most alike first; none where nobody was
    /// searched.
    #[serde(default)]
    others: Option<Vec<String>>,
    /// Whether the face differs by little from one that was shown for the person a short while ago.
    #[serde(default)]
    pub(super) near_duplicate: bool,
    /// How the face looks; it is kept apart, for a day.
    #[serde(skip)]
    pub(super) print: Option<FacePrint>,
}

impl Seen {
    /// Whether it was compared with somebody's template.
    pub const fn was_compared(&self) -> bool {
        self.strength_db.is_some()
    }

    /// Whether everything that was captured could be compared.
    pub const fn is_usable(&self) -> bool {
        self.refused.is_empty()
    }

    /// A picture that could be compared, with its measures by their names.
    pub fn usable(liveness: Option<LivenessScore>, quality: BTreeMap<String, String>) -> Self {
        Self {
            liveness_e4: liveness.map(|score| score.per_mille() * 10),
            quality: Some(quality),
            ..Self::nothing()
        }
    }

    /// A picture that could not, by the code of why.
    pub fn refused(code: &str, quality: Option<BTreeMap<String, String>>) -> Self {
        // A refusal without a row in the table is a broken build; it must refuse all the same.
        let reason = Reason::from_code(code).unwrap_or(Reason::CapLowQuality);
        Self { refused: vec![reason.code().to_owned()], quality, ..Self::nothing() }
    }

    /// The same person was captured once more, of another characteristic.
    pub fn join(&mut self, other: Self) {
        let Self {
            refused,
            strength_db: _,
            strength_tenth_db: _,
            liveness_e4,
            quality,
            scores: _,
            others: _,
            near_duplicate: _,
            print,
        } = other;
        self.print = self.print.or(print);
        let unsaid = refused.into_iter().filter(|code| !self.refused.contains(code));
        let unsaid = unsaid.collect::<Vec<_>>();
        self.refused.extend(unsaid);
        self.liveness_e4 = self.liveness_e4.or(liveness_e4);
        if let Some(quality) = quality {
            self.quality.get_or_insert_default().extend(quality);
        }
    }

    /// How strongly the captures match the person, with the numbers behind it; none where there was nothing to
    /// compare with.
    pub fn matched(&mut self, strength: Option<Strength>, scores: BTreeMap<String, String>) {
        self.strength_db = strength.map(Strength::db);
        self.strength_tenth_db = strength.map(Strength::tenths);
        self.scores = strength.map(|_| scores);
    }

    /// The sensor takes what it captured for an attack: the rules see it as they see a model's suspicion.
    pub fn suspected_by_sensor(&mut self) {
        self.liveness_e4 = Some(0);
    }

    /// Nothing was captured, so nothing speaks against it either: the rules decide by what else there is.
    pub const fn nothing() -> Self {
        Self {
            refused: Vec::new(),
            strength_db: None,
            strength_tenth_db: None,
            liveness_e4: None,
            quality: None,
            scores: None,
            others: None,
            near_duplicate: false,
            print: None,
        }
    }

    /// Holds the face against those that were shown for the person a short while ago.
    pub fn compared_with_earlier(&mut self, earlier: &[FacePrint]) {
        self.near_duplicate =
            self.print.is_some_and(|print| earlier.iter().any(|other| other.is_near(&print)));
    }

    /// Whether it looks alive, by a pack's bar.
    pub fn liveness(&self, bars: &Bars) -> LivenessFact {
        match self.liveness_e4 {
            None => LivenessFact::NoModel,
            Some(score_e4) if score_e4 >= bars.liveness_min_e4 => LivenessFact::Live { score_e4 },
            Some(score_e4) => LivenessFact::Suspect { score_e4 },
        }
    }

    /// Whom else it looks like, after a search among everybody.
    pub fn found(&mut self, others: impl Iterator<Item = CustomerId>) {
        self.others = Some(others.map(|id| id.to_string()).collect());
    }

    /// Whether everybody was searched for whom else it looks like.
    pub const fn was_searched(&self) -> bool {
        self.others.is_some()
    }

    /// Whom else it looks like, as far as anybody searched.
    pub fn others(&self) -> Result<Vec<CustomerId>, GatewayError> {
        self.others.iter().flatten().map(|hex| customer_from_hex(hex)).collect()
    }

    pub fn capture(&self) -> CaptureFact {
        if self.refused.is_empty() {
            return CaptureFact::Usable;
        }
        let reasons = self.refused.iter();
        let reasons = reasons.map(|code| Reason::from_code(code).unwrap_or(Reason::CapLowQuality));
        CaptureFact::Refused(reasons.collect())
    }
}

/// One verification on its way into the ledger.
pub(super) struct VerificationJob {
    pub vault: Arc<Vault>,
    pub packs: Arc<Packs>,
    /// What decides: found again at the decision's own time.
    pub pack: Arc<PolicyPack>,
    pub entropy: Arc<dyn Entropy>,
    pub settings: Settings,
    pub models: Vec<Digest>,
    pub receipt: ReceiptId,
    pub terminal: CallingTerminal,
    pub key: DecisionKey,
    pub request_hash: Digest,
    /// Of the capture; none where nothing was captured.
    pub challenge_hash: Option<Digest>,
    /// What signed the captures.
    pub signed_by: SignedBy,
    /// The keys that the captures were sealed to, where all of them were.
    pub sealed_to: Option<String>,
    /// By which the captures are known again; none for a decision on captures of an earlier one.
    pub capture_indices: Vec<Digest>,
    pub session: Session,
    pub attempts_key: Digest,
    pub attempts: u32,
    /// The try beyond the transaction; none where nothing was captured.
    pub tried: Option<Tried>,
    pub standing: CustomerStanding,
    pub subject: String,
    /// The customer's keys; nobody has none.
    pub keys: Option<CustomerKeys>,
    /// The guest, where a guest stands there.
    pub guest: Option<GuestIs>,
    pub seen: Seen,
    /// When what was seen arrived.
    pub captured_at: UnixMillis,
    /// Where the terminal stands, in words for the customer.
    pub place: String,
    pub stage: Stage,
    pub salts: Salts,
    /// The camera's clip, where the terminal named it.
    pub clip: Option<ClipRow>,
    /// The captures as evidence, where this decision keeps them.
    pub evidence: Option<KeptEvidence>,
    /// The hash of the captures that are kept of the attempt, by this decision or by its first one.
    pub kept_hash: Option<Digest>,
    /// How the face looks, sealed under the customer's key; none where it is not to be known again.
    pub face_print: Option<FacePrintRow>,
    /// What looked at the captures; none where nothing was captured.
    pub looked_by: Option<LookedBy>,
    /// Opens the receipt's commitment to the audit record; for auditors only.
    pub audit_salt: [u8; 32],
    /// After it nothing is decided: a late approval is none.
    pub deadline: Instant,
}

#[async_trait]
impl Job for VerificationJob {
    async fn run(&mut self, unit: &mut dyn UnitOfWork, slot: &Slot) -> Result<Step, GatewayError> {
        if let Some(row) = self.decided(unit).await? {
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
        self.pack = self.packs.at(unit, slot.now).await?;
        self.require_device(unit, slot).await?;
        self.look_again(unit, slot).await?;
        let confirming = self.confirming(unit, slot).await?;
        let registers = self.registers_in_force(unit).await?;
        let facts = self.facts(unit, slot, &confirming, &registers).await?;
        let by_rules = policy::decide(&facts, &self.pack, slot.now);
        let rules_outcome = by_rules.outcome();
        let blocked = self.blocked(unit, &by_rules).await?;
        let refusal = blocked.or(confirming.refusal_of(&by_rules, self.which()));
        let decision = refused_for(by_rules, refusal);
        if let Some(guest) = self.new_guest().filter(|_| self.is_written(&decision)) {
            guest.insert(unit).await?;
        }
        let decision = self.keep_cases(unit, &facts, decision, slot).await?;
        let attempts = if matches!(decision.outcome(), Outcome::Inconclusive) {
            // Nothing was learnt about the person, so it costs no try.
            unit.add_to_counter(&self.attempts_key, -1, slot.now).await?
        } else {
            self.attempts
        };
        self.settle_try(unit, &facts, &decision, slot).await?;
        let attempts_left = self.pack.bars().attempts_max.saturating_sub(attempts);
        let audit =
            self.audit_record(&facts, rules_outcome, refusal, &decision, &confirming, slot)?;
        let row = DecisionRow {
            key: self.key.clone(),
            request_hash: self.request_hash,
            index: slot.place,
            approves: decision.outcome().approves(),
            sealed_answer: self.sealed_answer(&decision, attempts_left)?,
        };
        match self.which() {
            Which::First => unit.insert_decision(&row).await?,
            Which::Final => unit.insert_final_decision(&row).await?,
        }
        self.conclude(unit, slot, &decision, &confirming).await?;
        // The salt stands before the record, in the order in which they are hashed.
        let salted = Zeroizing::new([&self.audit_salt, audit.as_slice()].concat());
        if let Some(movement) = self.movement(&decision, slot)? {
            unit.insert_movement(&movement).await?;
        }
        self.remember(unit, &facts, &decision, slot).await?;
        self.leave_for_oversight(unit, &decision, slot).await?;
        let sealed_audit = self.vault.seal_system(
            &audit_place(self.settings.tenant.as_str(), &slot.position()),
            &salted,
            &*self.entropy,
        )?;
        Ok(Step::Append(Box::new(NewEntry {
            receipt: self.receipt,
            terminal: Some(self.terminal.id.clone()),
            draft: self.draft(&decision, &confirming, &audit, &registers, slot)?,
            sealed_audit: Some(sealed_audit),
        })))
    }

    fn receipt(&self) -> Option<ReceiptId> {
        Some(self.receipt)
    }
}

impl VerificationJob {
    fn which(&self) -> Which {
        match self.stage {
            Stage::Asked => Which::First,
            Stage::Answered(_) => Which::Final,
        }
    }

    /// The decision that there is already.
    async fn decided(
        &self,
        unit: &mut dyn UnitOfWork,
    ) -> Result<Option<DecisionRow>, GatewayError> {
        Ok(match self.which() {
            Which::First => unit.decision(&self.key).await?,
            Which::Final => unit.final_decision(&self.key).await?,
        })
    }

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

    /// Whether the face is the person's, and alive as far as anybody looked.
    pub(super) fn is_them(&self, facts: &Facts) -> bool {
        let is_live = !matches!(facts.liveness, LivenessFact::Suspect { .. });
        is_live && facts.strength_db.is_some_and(|db| db >= self.pack.bars().required_db)
    }

    /// Whether the person is in the store after the decision: somebody new is not, unless cash may move
    /// or a person of the bank is to look at the case.
    fn is_written(&self, decision: &Decision) -> bool {
        self.new_guest().is_none() || stays(decision.outcome())
    }

    /// The pseudonym in receipt and reports. Of a guest it is told only who may pay in, or is held: a
    /// refusal tells no face from another.
    pub(super) fn told_subject(&self, decision: &Decision) -> &str {
        let is_told = self.guest.is_none() || stays(decision.outcome());
        if is_told { &self.subject } else { &self.session.nobody }
    }

    /// Somebody who is a guest once the deposit is approved or held.
    pub(super) fn new_guest(&self) -> Option<&NewGuest> {
        match &self.guest {
            Some(GuestIs::New(guest)) => Some(guest),
            _ => None,
        }
    }

    /// Notes what later decisions about the person look at.
    async fn remember(
        &self,
        unit: &mut dyn UnitOfWork,
        facts: &Facts,
        decision: &Decision,
        slot: &Slot,
    ) -> Result<(), GatewayError> {
        let is_written = self.is_written(decision);
        let Some(customer) = self.session.customer()?.filter(|_| is_written) else {
            return Ok(());
        };
        // An impostor must not be able to keep a cap on the person running.
        let begun = self.pack.caps_begun(decision, slot.now);
        for (rule, until) in begun.into_iter().filter(|_| self.is_them(facts)) {
            unit.put_cap(&customer, &rule, until).await?;
        }
        // Others' faces would crowd out those that a copy could be made of; and nothing is sealed under a key that
        // was destroyed while the picture was looked at.
        if let Some(print) = &self.face_print
            && self.is_them(facts)
            && holds(unit, &customer, slot.now).await?
        {
            unit.insert_face_print(print).await?;
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
        if let Some(guest) = self.new_guest() {
            let Settings { zone, guests_per_day, .. } = &self.settings;
            if !guest.has_place(unit, zone, *guests_per_day, slot).await? {
                self.standing = CustomerStanding::Unknown;
            }
            return Ok(());
        }
        let Some(id) = self.session.customer()? else { return Ok(()) };
        let leads_there = match self.session.token()? {
            Some(token) => unit.customer_by_token(&token, slot.now).await? == Some(id),
            None => true,
        };
        let status = unit.customer(&id).await?.map(|row| standing_of(row.status));
        let consents = holds(unit, &id, slot.now).await?;
        let standing =
            status.filter(|_| leads_there && consents).unwrap_or(CustomerStanding::Unknown);
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
        let plain = serde_json::to_vec(&kept).map(Zeroizing::new);
        let plain = plain.map_err(|cause| GatewayError::internal("answer", cause))?;
        let place = answer_place(self.settings.tenant.as_str(), &self.key, self.which());
        Ok(self.vault.seal_system(&place, &plain, &*self.entropy)?)
    }

    fn draft(
        &self,
        decision: &Decision,
        confirming: &Confirming,
        audit: &[u8],
        registers: &[RegisterRow],
        slot: &Slot,
    ) -> Result<ReceiptDraft, GatewayError> {
        let outcome = decision.outcome();
        let (refers, confirmation) = confirming.in_receipt(slot);
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
        let txn = Txn {
            commit,
            op: self.session.operation()?.as_str().to_owned(),
            amount_minor: self.session.amount_minor,
            currency: self.session.currency.clone(),
        };
        let policy = Policy {
            id: self.pack.id().as_str().to_owned(),
            version: i64::from(self.pack.version()),
            hash: self.pack.hash().labelled(),
            registers: used(registers),
        };
        let cap = outcome.cap_minor().zip(outcome.until());
        let cap = cap.map(|(amount_minor, until)| Cap { amount_minor, until: until.rfc3339() });
        let reasons = decision.public_reasons();
        let reasons = reasons.iter().map(|reason| reason.code().to_owned()).collect();
        let audit = audit_commit(&Salt::new(self.audit_salt), audit);
        let (id, cert) = (self.terminal.id.as_str().to_owned(), self.terminal.spki.labelled());
        let guest = self.guest.as_ref().filter(|_| stays(outcome));
        let guest = guest.map(|guest| guest.as_str().to_owned());
        let subject = Some(self.told_subject(decision).to_owned());
        let build = self.settings.build.labelled();
        let outcome = outcome.as_str().to_owned();
        let content = match &self.challenge_hash {
            Some(challenge) => Content::Verification(Verification {
                terminal: Terminal {
                    id,
                    cert,
                    sensor: self.signed_by.key_ids(),
                    challenge: challenge.labelled(),
                    envelope: self.signed_by.envelope(),
                },
                txn,
                subject,
                guest,
                bio: Bio {
                    modality: Captured::of(&self.session.modalities()?).as_str().to_owned(),
                    models: self.models.iter().map(Digest::labelled).collect(),
                    required_db: self.pack.bars().required_db,
                },
                policy,
                build,
                outcome,
                cap,
                reasons,
                footage: commit_of(self.clip.as_ref(), self.salts.footage),
                refers,
                confirmation,
                audit,
            }),
            None => Content::Exception(Exception {
                terminal: ReportingTerminal { id, cert },
                txn,
                subject,
                policy,
                build,
                outcome,
                cap,
                reasons,
                refers,
                confirmation,
                audit,
            }),
        };
        Ok(ReceiptDraft {
            rid: rid_text(&self.receipt),
            iss: self.settings.issuer.clone(),
            aud: Some(self.settings.audience.clone()),
            valid_for_ms: Some(self.settings.receipt_valid_ms),
            tenant: self.settings.tenant.as_str().to_owned(),
            content,
        })
    }
}

/// Where an audit record is sealed to.
pub(super) fn audit_place(tenant: &str, position: &LogPosition) -> Place {
    let LogPosition { origin, index } = position;
    let row = crate::crypto::length_prefixed(&[origin.as_str().as_bytes(), &index.to_be_bytes()]);
    Place::system("entries", "sealed_audit", tenant, &row)
}

/// Whether somebody new is a guest after it.
const fn stays(outcome: Outcome) -> bool {
    outcome.approves() || matches!(outcome, Outcome::Held { .. })
}
