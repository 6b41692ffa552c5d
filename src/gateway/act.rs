//! Acts of the bank's staff: what is written, and the entry that says so, in one transaction.

use async_trait::async_trait;

use super::Gateway;
use super::cases::{close as close_case, propose as propose_case};
use super::confirmation::APP_KEYS_MAX;
use super::consent::{EndsConsent, erase_ended, has_case, require_consent};
use super::enrolment_capture::SignedCapture;
use super::error::GatewayError;
use super::footage::confirm_deleted;
use super::kek_rotation::KekWrite;
use super::locks::LockWrite;
use super::people::{PeopleWrite, Person, require_another};
use super::proposal::{ProposalWrite, end_proposals_about};
use super::register::put_register;
use super::request::{Actor, Logged};
use super::sealing::CaptureKeyWrite;
use super::sensor::SensorWrite;
use super::sequencer::{Job, NewEntry, Slot, Step};
use super::teller::{propose as propose_exception, require_second as require_second_teller};
use crate::crypto::{Digest, random_bytes};
use crate::domain::four_eyes::TwoPersonAct;
use crate::domain::id::{
    CaptureId, CaseId, CaseReference, ConfirmationId, CustomerId, PrincipalName, ReceiptId,
    TerminalId,
};
use crate::domain::money::Currency;
use crate::domain::time::UnixMillis;
use crate::domain::transaction::DecisionKey;
use crate::receipt::{self, Administration, Content, ReceiptDraft, rid_text};
use crate::store::{
    AppKeyRow, CaptureRow, ConfirmationAnswer, ConsentRow, CustomerKeyRow, CustomerRow,
    CustomerStatus, DuplicateRow, ProposalRow, RedemptionRow, RegisterRow, SAME_PERSON, StoreError,
    TellerProposal, TerminalKeyRow, TokenRow, UnableRow, UnitOfWork,
};

/// How a duplicate was resolved that is two people.
pub(super) const DIFFERENT_PEOPLE: &str = "different_people";

/// One write of an act.
pub(super) enum Write {
    InsertCustomer(Box<CustomerRow>, CustomerKeyRow),
    InsertToken(TokenRow),
    DeleteToken(Digest, CustomerId),
    /// Adds a capture if the customer has fewer than the most.
    InsertCapture(Box<CaptureRow>, usize),
    /// Removes a capture. Without any left the customer is pending again, so that whatever is added
    /// next is searched among everybody before it can be verified.
    DeleteCapture(CaptureId, CustomerId),
    InsertDuplicates(Vec<DuplicateRow>),
    ResolveDuplicates(CustomerId, &'static str),
    /// Moves a customer from one of the statuses to another.
    SetStatus(CustomerId, &'static [CustomerStatus], CustomerStatus),
    Erase(CustomerId),
    /// Ends a consent, or finds the entry that did.
    EndConsent(Box<EndsConsent>),
    /// Erases somebody whose consent has ended, once nothing of them must be kept.
    EraseEnded(CustomerId),
    /// Keeps what is known of a new customer's consent without opening it.
    PutConsent(ConsentRow),
    /// Erases somebody whom a restored database brought back; their cases stay.
    EraseAgain(CustomerId),
    /// Notes what becomes of a key-encryption key.
    Kek(KekWrite),
    /// Registers the key of a terminal that has none in force.
    InsertFirstTerminalKey(TerminalKeyRow),
    InsertTerminalKey(TerminalKeyRow),
    /// Revokes every key of a terminal.
    RevokeKeys(TerminalId),
    /// Redeems a receipt within its time, or finds that it was redeemed before.
    Redeem(ReceiptId, Option<UnixMillis>),
    /// What moved in truth of an approved amount, in minor units of the currency.
    SetMoved(DecisionKey, i64, Currency),
    /// Answers a confirmation while its time lasts; the answer counts for so many milliseconds.
    AnswerConfirmation(ConfirmationId, Box<ConfirmationAnswer>, i64),
    /// Notes the word of the first of two tellers on a confirmation.
    ProposeException(ConfirmationId, Box<TellerProposal>),
    /// Refuses whoever may not be the second of two tellers, the first's word being this one.
    RequireSecondTeller(ConfirmationId, Box<TellerProposal>, PrincipalName, Digest),
    /// Binds a key of a customer's device if they have fewer than the most.
    InsertAppKey(AppKeyRow),
    DeleteAppKey(Digest, CustomerId),
    /// Says where a terminal stands that has a key.
    PlaceTerminal(TerminalId, String),
    /// Proposes to mark somebody as unable to give a biometric.
    ProposeUnable(Box<UnableRow>),
    /// Approves this very proposal, by another name and key.
    ApproveUnable(Box<UnableRow>, PrincipalName, Digest),
    /// Takes a mark or a proposal away.
    ClearUnable(CustomerId),
    /// Holds a decision for a case.
    PlaceHold(u64, CaseReference),
    /// Ends a case's hold on a decision.
    LiftHold(u64, CaseReference),
    /// Notes clips that the video archive destroyed, where it might.
    ConfirmDeleted(Vec<u64>),
    /// Refuses whoever is not pending.
    RequirePending(CustomerId),
    /// Puts a version of a register in force, next after the one that is.
    PutRegister(RegisterRow),
    /// Proposes how an open case ends.
    ProposeCase(CaseId, ProposalRow),
    /// Ends a case as another person proposed.
    CloseCase(CaseId, ProposalRow),
    /// Sets or ends a lock of a biometric.
    Lock(LockWrite),
    /// Refuses to resume somebody who was found to be another customer.
    RefuseSamePerson(CustomerId),
    /// Changes the register of sensors.
    Sensor(Box<SensorWrite>),
    /// Changes the register of people.
    People(PeopleWrite),
    /// Keeps or ends a proposal.
    Proposal(ProposalWrite),
    /// Puts a key that captures are sealed to in the place of the others.
    CaptureKey(Box<CaptureKeyWrite>),
    /// Refuses a capture whose signature counts no more, or that was seen before, and notes it.
    Signed(Box<SignedCapture>),
}

/// An act on its way into the ledger.
pub(super) struct ActJob {
    receipt: ReceiptId,
    terminal: Option<TerminalId>,
    issuer: String,
    tenant: String,
    content: Content,
    writes: Vec<Write>,
}

#[async_trait]
impl Job for ActJob {
    async fn run(&mut self, unit: &mut dyn UnitOfWork, slot: &Slot) -> Result<Step, GatewayError> {
        for write in &self.writes {
            if let Some(existing) = write.apply(unit, slot).await? {
                return Ok(Step::Existing(existing));
            }
        }
        Ok(Step::Append(Box::new(NewEntry {
            receipt: self.receipt,
            terminal: self.terminal.clone(),
            draft: ReceiptDraft {
                rid: rid_text(&self.receipt),
                iss: self.issuer.clone(),
                aud: None,
                valid_for_ms: None,
                tenant: self.tenant.clone(),
                content: self.content.clone(),
            },
            sealed_audit: None,
        })))
    }

    fn receipt(&self) -> Option<ReceiptId> {
        Some(self.receipt)
    }
}

impl Write {
    /// Writes; the index of an entry that already says the same, where there is one.
    async fn apply(
        &self,
        unit: &mut dyn UnitOfWork,
        slot: &Slot,
    ) -> Result<Option<u64>, GatewayError> {
        match self {
            Self::InsertCustomer(row, key) => {
                exists("customer", unit.insert_customer(row, key).await)?;
            }
            Self::InsertToken(row) => insert_token(unit, row, slot.now).await?,
            Self::DeleteToken(index, customer) => {
                found("token", unit.delete_token(index, customer).await?)?;
            }
            Self::InsertCapture(row, captures_max) => {
                insert_capture(unit, row, *captures_max, slot).await?;
            }
            Self::DeleteCapture(id, customer) => {
                delete_capture(unit, id, customer, slot).await?;
            }
            Self::InsertDuplicates(rows) => {
                for row in rows {
                    unit.insert_duplicate(row).await?;
                }
            }
            Self::ResolveDuplicates(id, word) => {
                unit.resolve_duplicates(id, word, slot.now).await?;
            }
            Self::SetStatus(id, from, to) => set_status(unit, id, from, *to, slot.now).await?,
            Self::Erase(id) => erase(unit, id, slot).await?,
            Self::EndConsent(ends) => return ends.apply(unit, slot).await,
            Self::EraseEnded(id) => erase_ended(unit, id, slot).await?,
            Self::PutConsent(row) => unit.put_consent(row).await?,
            Self::EraseAgain(id) => erase_whole(unit, id, slot).await?,
            Self::Kek(write) => write.apply(unit, slot.now).await?,
            Self::InsertFirstTerminalKey(row) => {
                if !exists("terminal key", unit.insert_first_terminal_key(row).await)? {
                    return Err(GatewayError::Exists("terminal"));
                }
            }
            Self::InsertTerminalKey(row) => {
                exists("terminal key", unit.insert_terminal_key(row).await)?;
            }
            Self::RefuseSamePerson(id) => refuse_same_person(unit, id).await?,
            Self::AnswerConfirmation(id, answer, counts_ms) => {
                answer_confirmation(unit, id, answer, *counts_ms, slot).await?;
            }
            Self::ProposeException(id, first) => propose_exception(unit, id, first, slot).await?,
            Self::RequireSecondTeller(id, first, name, key) => {
                require_second_teller(unit, id, first, name, key).await?;
            }
            Self::InsertAppKey(row) => insert_app_key(unit, row, slot.now).await?,
            Self::DeleteAppKey(fingerprint, customer) => {
                found("key", unit.delete_app_key(fingerprint, customer).await?)?;
            }
            Self::PlaceTerminal(terminal, place) => place_terminal(unit, terminal, place).await?,
            Self::ProposeUnable(row) => {
                let customer = unit.customer(&row.customer).await?;
                found("customer", customer.is_some_and(|it| it.status != CustomerStatus::Erased))?;
                require_consent(unit, &row.customer, slot.now).await?;
                exists("mark of inability", unit.put_unable(row).await)?;
            }
            Self::ApproveUnable(row, name, key) => {
                approve_unable(unit, row, name, key, slot.now).await?;
            }
            Self::ClearUnable(customer) => {
                found("mark of inability", unit.delete_unable(customer).await?)?;
                move_without_captures(unit, customer, ACTIVE, CustomerStatus::Pending, slot.now)
                    .await?;
            }
            Self::PlaceHold(decision, case) => {
                exists("hold", unit.insert_hold(*decision, case, slot.now).await)?;
            }
            Self::LiftHold(decision, case) => {
                found("hold", unit.delete_hold(*decision, case).await?)?;
            }
            Self::ConfirmDeleted(indices) => confirm_deleted(unit, indices, slot).await?,
            Self::RequirePending(customer) => require_pending(unit, customer).await?,
            Self::PutRegister(row) => put_register(unit, row, slot).await?,
            Self::ProposeCase(id, proposal) => propose_case(unit, id, proposal, slot).await?,
            Self::CloseCase(id, approval) => close_case(unit, id, approval, slot).await?,
            Self::Sensor(write) => write.apply(unit, slot).await?,
            Self::People(write) => write.apply(unit, slot).await?,
            Self::Proposal(write) => write.apply(unit, slot).await?,
            Self::CaptureKey(write) => write.apply(unit, slot).await?,
            Self::Signed(write) => write.apply(unit, slot).await?,
            Self::Lock(write) => return write.apply(unit, slot).await,
            Self::RevokeKeys(terminal) => revoke_keys(unit, terminal, slot.now).await?,
            Self::SetMoved(key, moved_minor, currency) => {
                return set_moved(unit, key, *moved_minor, *currency, slot).await;
            }
            Self::Redeem(receipt, valid_until) => {
                return redeem(unit, receipt, *valid_until, slot).await;
            }
        }
        Ok(None)
    }
}

async fn place_terminal(
    unit: &mut dyn UnitOfWork,
    terminal: &TerminalId,
    place: &str,
) -> Result<(), GatewayError> {
    let keys = unit.keys_of_terminal(terminal).await?;
    found("terminal", keys.iter().any(|key| key.revoked_at.is_none()))?;
    Ok(unit.put_terminal_place(terminal, place).await?)
}

async fn refuse_same_person(
    unit: &mut dyn UnitOfWork,
    id: &CustomerId,
) -> Result<(), GatewayError> {
    let duplicates = unit.duplicates(id).await?;
    if duplicates.iter().any(|row| row.resolution.as_deref() == Some(SAME_PERSON)) {
        return Err(GatewayError::State("the customer was found to be somebody enrolled already"));
    }
    Ok(())
}

/// Redeems a receipt; the index of the entry that did so before, where there is one.
async fn redeem(
    unit: &mut dyn UnitOfWork,
    receipt: &ReceiptId,
    valid_until: Option<UnixMillis>,
    slot: &Slot,
) -> Result<Option<u64>, GatewayError> {
    if let Some(row) = unit.redemption(receipt).await? {
        return Ok(Some(row.index));
    }
    if valid_until.is_none_or(|until| slot.now > until) {
        return Err(GatewayError::Invalid {
            field: "receipt_jws",
            problem: "the receipt's time is over",
        });
    }
    let row = RedemptionRow { receipt: *receipt, redeemed_at: slot.now, index: slot.place };
    unit.insert_redemption(&row).await?;
    Ok(None)
}

/// The index of the entry that already says the same, where there is one.
async fn set_moved(
    unit: &mut dyn UnitOfWork,
    key: &DecisionKey,
    moved_minor: i64,
    currency: Currency,
    slot: &Slot,
) -> Result<Option<u64>, GatewayError> {
    let moved = unit.moved(key).await?.ok_or(GatewayError::NotFound("approval"))?;
    let invalid = |field, problem| GatewayError::Invalid { field, problem };
    if currency != moved.currency {
        return Err(invalid("currency", "the receipt is for another currency"));
    }
    if moved_minor > moved.approved_minor {
        return Err(invalid("moved_minor", "it is more than was approved"));
    }
    if moved.index.is_some() && moved_minor == moved.moved_minor {
        return Ok(moved.index);
    }
    unit.set_moved(key, moved_minor, slot.place).await?;
    Ok(None)
}

async fn insert_token(
    unit: &mut dyn UnitOfWork,
    row: &TokenRow,
    now: UnixMillis,
) -> Result<(), GatewayError> {
    require_consent(unit, &row.customer, now).await?;
    let customer = unit.customer(&row.customer).await?;
    if customer.is_some_and(|customer| customer.status == CustomerStatus::Guest) {
        return Err(GatewayError::State("a guest has no tokens"));
    }
    exists("token", unit.insert_token(row).await)
}

async fn set_status(
    unit: &mut dyn UnitOfWork,
    id: &CustomerId,
    from: &[CustomerStatus],
    to: CustomerStatus,
    now: UnixMillis,
) -> Result<(), GatewayError> {
    let customer = unit.customer(id).await?.ok_or(GatewayError::NotFound("customer"))?;
    if !from.contains(&customer.status) {
        return Err(GatewayError::State("the customer's status does not allow it"));
    }
    if to == ACTIVE {
        require_consent(unit, id, now).await?;
    }
    unit.set_customer_status(id, to, now).await?;
    Ok(())
}

/// Erasing and enrolling again must not lift a hold.
pub(super) async fn erase(
    unit: &mut dyn UnitOfWork,
    id: &CustomerId,
    slot: &Slot,
) -> Result<(), GatewayError> {
    if has_case(unit, id).await? {
        return Err(GatewayError::State("a case about the customer was not released"));
    }
    erase_whole(unit, id, slot).await
}

async fn erase_whole(
    unit: &mut dyn UnitOfWork,
    id: &CustomerId,
    slot: &Slot,
) -> Result<(), GatewayError> {
    end_proposals_about(unit, id, None, slot).await?;
    found("customer", unit.erase_customer(id, slot.now).await?)
}

/// Whoever proposed to activate a customer looked at other captures.
async fn end_activations(
    unit: &mut dyn UnitOfWork,
    customer: &CustomerId,
    slot: &Slot,
) -> Result<(), GatewayError> {
    end_proposals_about(unit, customer, Some(TwoPersonAct::Activation), slot).await
}

async fn require_pending(
    unit: &mut dyn UnitOfWork,
    customer: &CustomerId,
) -> Result<(), GatewayError> {
    let row = unit.customer(customer).await?.ok_or(GatewayError::NotFound("customer"))?;
    if row.status == PENDING {
        Ok(())
    } else {
        Err(GatewayError::State("the customer's status does not allow it"))
    }
}

/// The status is read here, where nobody can change it before the capture is in.
async fn insert_capture(
    unit: &mut dyn UnitOfWork,
    row: &CaptureRow,
    captures_max: usize,
    slot: &Slot,
) -> Result<(), GatewayError> {
    require_consent(unit, &row.customer, slot.now).await?;
    let customer = unit.customer(&row.customer).await?.ok_or(GatewayError::NotFound("customer"))?;
    let rows = unit.captures(&row.customer).await?;
    let captures = rows.iter().filter(|other| other.modality == row.modality).count();
    if captures >= captures_max {
        return Err(GatewayError::State("the customer has the most captures a template takes"));
    }
    // A first capture agrees with nothing, so only the search at activation can judge it; and what
    // that search was made with must not change while a person looks at what it found.
    let may = match customer.status {
        CustomerStatus::Pending => true,
        CustomerStatus::Active | CustomerStatus::Suspended => captures > 0,
        CustomerStatus::PendingDuplicate
        | CustomerStatus::Guest
        | CustomerStatus::Withdrawn
        | CustomerStatus::Erased => false,
    };
    if !may {
        return Err(GatewayError::State("the customer's status does not allow it"));
    }
    end_activations(unit, &row.customer, slot).await?;
    exists("capture", unit.insert_capture(row).await)
}

/// The first answer counts, and only in time; a key that was unbound in between signs nothing.
async fn answer_confirmation(
    unit: &mut dyn UnitOfWork,
    id: &ConfirmationId,
    answer: &ConfirmationAnswer,
    counts_ms: i64,
    slot: &Slot,
) -> Result<(), GatewayError> {
    let row = unit.confirmation(id).await?.ok_or(GatewayError::NotFound("confirmation"))?;
    if slot.now > row.expires_at {
        return Err(GatewayError::State("the confirmation's time is over"));
    }
    if let Some(key) = &answer.app_key {
        let keys = unit.app_keys(&row.customer).await?;
        found("key", keys.iter().any(|held| held.fingerprint == *key))?;
    }
    let answer = ConfirmationAnswer {
        at: slot.now,
        counts_until: slot.now.plus_millis(counts_ms),
        index: slot.place,
        ..answer.clone()
    };
    if unit.answer_confirmation(id, &answer).await? {
        Ok(())
    } else {
        Err(GatewayError::State("the confirmation was answered already"))
    }
}

async fn approve_unable(
    unit: &mut dyn UnitOfWork,
    row: &UnableRow,
    name: &PrincipalName,
    key: &Digest,
    now: UnixMillis,
) -> Result<(), GatewayError> {
    require_consent(unit, &row.customer, now).await?;
    if unit.unable(&row.customer).await?.as_ref() != Some(row) {
        return Err(GatewayError::State("another proposal was made in between"));
    }
    let first = Person::of(&row.proposed_by, &row.proposed_key);
    require_another(unit, first, Person::of(name, key)).await?;
    if !unit.approve_unable(&row.customer, now).await? {
        return Err(GatewayError::State("nothing is proposed for the customer"));
    }
    // There is nothing to search for among everybody: the two people answer for who it is.
    move_without_captures(unit, &row.customer, PENDING, CustomerStatus::Active, now).await
}

const ACTIVE: CustomerStatus = CustomerStatus::Active;
const PENDING: CustomerStatus = CustomerStatus::Pending;

/// Moves a customer who has no captures from one status to another; others stay as they are.
async fn move_without_captures(
    unit: &mut dyn UnitOfWork,
    customer: &CustomerId,
    from: CustomerStatus,
    to: CustomerStatus,
    now: UnixMillis,
) -> Result<(), GatewayError> {
    let status = unit.customer(customer).await?.map(|row| row.status);
    if status == Some(from) && unit.captures(customer).await?.is_empty() {
        unit.set_customer_status(customer, to, now).await?;
    }
    Ok(())
}

async fn insert_app_key(
    unit: &mut dyn UnitOfWork,
    row: &AppKeyRow,
    now: UnixMillis,
) -> Result<(), GatewayError> {
    let customer = unit.customer(&row.customer).await?;
    found("customer", customer.is_some_and(|row| row.status != CustomerStatus::Erased))?;
    require_consent(unit, &row.customer, now).await?;
    if unit.app_keys(&row.customer).await?.len() >= APP_KEYS_MAX {
        return Err(GatewayError::State("the customer has the most device keys"));
    }
    exists("key", unit.insert_app_key(row).await)
}

async fn delete_capture(
    unit: &mut dyn UnitOfWork,
    id: &CaptureId,
    customer: &CustomerId,
    slot: &Slot,
) -> Result<(), GatewayError> {
    let status = unit.customer(customer).await?.map(|row| row.status);
    found("capture", unit.delete_capture(id, customer).await?)?;
    end_activations(unit, customer, slot).await?;
    let is_last = unit.captures(customer).await?.is_empty();
    match status {
        Some(CustomerStatus::PendingDuplicate) => {
            Err(GatewayError::State("the customer waits for a decision about a duplicate"))
        }
        Some(CustomerStatus::Suspended) if is_last => Err(GatewayError::State(
            "the last capture of a suspended customer stays: resume or erase them",
        )),
        Some(CustomerStatus::Active) if is_last => {
            unit.set_customer_status(customer, CustomerStatus::Pending, slot.now).await?;
            Ok(())
        }
        _ => Ok(()),
    }
}

async fn revoke_keys(
    unit: &mut dyn UnitOfWork,
    terminal: &TerminalId,
    now: UnixMillis,
) -> Result<(), GatewayError> {
    let keys = unit.keys_of_terminal(terminal).await?;
    let live = keys.iter().filter(|key| key.revoked_at.is_none());
    let mut revoked = 0;
    for key in live {
        unit.revoke_terminal_key(&key.spki, now).await?;
        revoked += 1;
    }
    if revoked == 0 { Err(GatewayError::NotFound("terminal")) } else { Ok(()) }
}

fn exists<T>(what: &'static str, result: Result<T, StoreError>) -> Result<T, GatewayError> {
    result.map_err(|error| match error {
        StoreError::Exists => GatewayError::Exists(what),
        other => GatewayError::Store(other),
    })
}

fn found(what: &'static str, found: bool) -> Result<(), GatewayError> {
    if found { Ok(()) } else { Err(GatewayError::NotFound(what)) }
}

/// An administrative act before its entry: `customer_created`, by whom, to whom.
pub(super) struct Act<'a> {
    pub act: &'static str,
    pub actor: &'a Actor,
    pub subject: Option<String>,
    pub terminal: Option<TerminalId>,
}

impl Gateway {
    /// Writes and logs an administrative act.
    pub(super) async fn perform(
        &self,
        act: Act<'_>,
        writes: Vec<Write>,
    ) -> Result<Logged, GatewayError> {
        let Act { act, actor, subject, terminal } = act;
        let content = Content::Administration(Administration {
            act: act.to_owned(),
            actor: receipt_actor(actor),
            subject,
            details: None,
        });
        self.perform_as(content, terminal, writes).await
    }

    /// The id of a receipt to be made now.
    pub(super) fn new_receipt(&self) -> Result<ReceiptId, GatewayError> {
        Ok(ReceiptId::at(self.clock.now(), random_bytes(&*self.entropy)?))
    }

    /// Writes and logs anything.
    pub(super) async fn perform_as(
        &self,
        content: Content,
        terminal: Option<TerminalId>,
        writes: Vec<Write>,
    ) -> Result<Logged, GatewayError> {
        let receipt = self.new_receipt()?;
        self.perform_under(receipt, content, terminal, writes).await
    }

    /// The same under a receipt id of the caller's, who can tell by it whether the entry is its own.
    pub(super) async fn perform_under(
        &self,
        receipt: ReceiptId,
        content: Content,
        terminal: Option<TerminalId>,
        writes: Vec<Write>,
    ) -> Result<Logged, GatewayError> {
        let job = self.act_job(receipt, content, terminal, writes);
        self.sequencer.submit(Box::new(job)).await
    }

    /// Writes and their entry, before the sequencer has them.
    pub(super) fn act_job(
        &self,
        receipt: ReceiptId,
        content: Content,
        terminal: Option<TerminalId>,
        writes: Vec<Write>,
    ) -> ActJob {
        ActJob {
            receipt,
            terminal,
            issuer: self.settings.issuer.clone(),
            tenant: self.settings.tenant.as_str().to_owned(),
            content,
            writes,
        }
    }
}

/// The actor as receipts write it.
pub(super) fn receipt_actor(actor: &Actor) -> receipt::Actor {
    receipt::Actor {
        role: actor.role.to_owned(),
        name: actor.name.as_str().to_owned(),
        cert: actor.spki.labelled(),
    }
}
