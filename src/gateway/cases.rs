//! Cases: opened in the transaction of a decision, closed by two people.

use std::collections::BTreeMap;

use super::Gateway;
use super::act::{Act, Write};
use super::consent::has_case;
use super::error::GatewayError;
use super::people::{Person, require_another};
use super::request::Actor;
use super::sequencer::Slot;
use super::verification_job::VerificationJob;
use crate::crypto::{length_prefixed, sha256};
use crate::domain::case::{CaseKind, CaseStatus, Resolution};
use crate::domain::decision::{Decision, Outcome};
use crate::domain::id::{CaseId, CustomerId, PrincipalName};
use crate::domain::time::UnixMillis;
use crate::domain::working_days::WorkingEnd;
use crate::policy::{CaseBegun, Confirmation, Facts};
use crate::store::{
    CaseEvidenceRow, CaseFile, CaseRow, CustomerStatus, ProposalRow, Stays, UnitOfWork,
};

/// Most decisions of a case that are shown.
const EVIDENCE_MAX: u32 = 1_000;

/// Most linked customers that are shown.
const LINKED_MAX: u32 = 100;

/// What a register, a face under two numbers, or another person's face weighs.
const LISTED_WEIGHT: i64 = 20;

/// What each other person or terminal weighs, and how many of a sort count.
const OTHER_WEIGHT: i64 = 5;
const OTHERS_MAX: i64 = 4;

/// Most that further decisions add to a score.
const FURTHER_MAX: u32 = 50;

impl VerificationJob {
    /// Whether the person's transactions are held: by a case whose hold runs, or that was refused. A case
    /// about the account's owner holds nobody else: who pays in to them would be held, and so on from
    /// account to account.
    pub(super) async fn case_open(
        &self,
        unit: &mut dyn UnitOfWork,
        customer: Option<CustomerId>,
        slot: &Slot,
    ) -> Result<bool, GatewayError> {
        if !self.pack.sees("case_open") {
            return Ok(false);
        }
        let Some(customer) = customer else { return Ok(false) };
        let cases = unit.cases_of(&customer).await?;
        Ok(cases.iter().any(|row| match row.status {
            CaseStatus::Open => runs(row, slot.now),
            CaseStatus::Released => false,
            CaseStatus::Refused => true,
        }))
    }

    /// Opens the cases that the decision begins, or adds it to those that there are. A hold that runs is
    /// not made longer by trying again, and the decision says when it ends.
    pub(super) async fn keep_cases(
        &self,
        unit: &mut dyn UnitOfWork,
        facts: &Facts,
        decision: Decision,
        slot: &Slot,
    ) -> Result<Decision, GatewayError> {
        let is_held = matches!(decision.outcome(), Outcome::Held { .. });
        // Somebody with another face, or with none, must not be able to open a case about the person.
        let is_proved = self.challenge_hash.is_some() || facts.confirmation != Confirmation::None;
        let may_begin = (is_held && is_proved) || self.is_them(facts);
        let customer = self.session.customer()?.filter(|_| may_begin);
        let begun = self.pack.cases_begun(&decision, slot.now);
        let Some(customer) = customer.filter(|_| !begun.is_empty()) else { return Ok(decision) };
        let known = unit.cases_of(&customer).await?;
        let lookalikes = self.lookalikes(unit, slot).await?;
        let mut held_until = None;
        for (kind, hold) in by_kind(begun, &known, slot.now) {
            let row = self.case_with(&known, customer, kind, hold, facts, slot);
            unit.put_case(&row).await?;
            unit.insert_case_evidence(&self.case_evidence(&row, &decision, facts, slot)).await?;
            for other in &lookalikes {
                unit.put_case_lookalike(&row.id, other).await?;
            }
            held_until = held_until.max(row.held_until.filter(|until| *until > slot.now));
        }
        Ok(match held_until.filter(|_| is_held) {
            Some(until) => Decision::new(
                Outcome::Held { until },
                decision.reasons().to_vec(),
                decision.rules().to_vec(),
            ),
            None => decision,
        })
    }

    /// The case of a kind with one more decision.
    fn case_with(
        &self,
        known: &[CaseRow],
        customer: CustomerId,
        kind: CaseKind,
        hold: Option<WorkingEnd>,
        facts: &Facts,
        slot: &Slot,
    ) -> CaseRow {
        let mut row = standing(known, &kind).cloned().unwrap_or_else(|| CaseRow {
            id: self.case_id(&kind),
            customer,
            kind,
            status: CaseStatus::Open,
            opened_at: slot.now,
            held_until: None,
            beyond_calendar: false,
            weight: 0,
            decisions: 0,
            score: 0,
            proposal: None,
            closed_at: None,
        });
        let runs = row.held_until.is_some_and(|until| until > slot.now);
        if let Some(hold) = hold.filter(|_| !runs && row.status == CaseStatus::Open) {
            row.held_until = Some(hold.until);
            row.beyond_calendar = hold.beyond_calendar;
        }
        row.weight = row.weight.max(weight(facts));
        row.score = row.weight.saturating_add(row.decisions.min(FURTHER_MAX));
        row.decisions = row.decisions.saturating_add(1);
        row
    }

    /// The same each time that the decision is made anew.
    fn case_id(&self, kind: &CaseKind) -> CaseId {
        let name = [&b"tulga-case-v1"[..], self.receipt.as_bytes(), kind.as_str().as_bytes()];
        let hash = sha256(&length_prefixed(&name));
        let mut id = [0; 16];
        id.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
        CaseId::new(id)
    }

    fn case_evidence(
        &self,
        row: &CaseRow,
        decision: &Decision,
        facts: &Facts,
        slot: &Slot,
    ) -> CaseEvidenceRow {
        CaseEvidenceRow {
            case: row.id,
            index: slot.place,
            at: slot.now,
            outcome: decision.outcome().as_str().to_owned(),
            rules: decision.rules().to_vec(),
            operation: facts.operation,
            amount_minor: facts.amount.get(),
            currency: facts.currency,
        }
    }
}

impl Gateway {
    /// Cases, the highest score first.
    ///
    /// # Errors
    ///
    /// What the store cannot do.
    pub async fn cases(
        &self,
        status: Option<CaseStatus>,
        after: Option<(u32, CaseId)>,
        limit: u32,
    ) -> Result<Vec<CaseRow>, GatewayError> {
        Ok(self.store.cases(status, after, limit).await?)
    }

    /// A case with its evidence.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when there is none.
    pub async fn case(&self, id: &CaseId) -> Result<CaseFile, GatewayError> {
        let file = self.store.case_file(id, EVIDENCE_MAX, LINKED_MAX).await?;
        file.ok_or(GatewayError::NotFound("case"))
    }

    /// One person proposes how a case ends.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`], or [`GatewayError::State`] for a case that is closed.
    pub async fn propose_resolution(
        &self,
        actor: &Actor,
        id: &CaseId,
        resolution: Resolution,
    ) -> Result<CaseRow, GatewayError> {
        let act = match resolution {
            Resolution::Release => "case_release_proposed",
            Resolution::Refuse => "case_refusal_proposed",
        };
        let write = Write::ProposeCase(*id, self.signed_by(actor, resolution));
        self.decide_case(actor, id, act, write).await
    }

    /// Another person, by name and key, approves what was proposed.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`], or [`GatewayError::State`] for a case that is closed, for another
    /// proposal than this, and for one's own.
    pub async fn approve_resolution(
        &self,
        actor: &Actor,
        id: &CaseId,
        resolution: Resolution,
    ) -> Result<CaseRow, GatewayError> {
        let act = match resolution {
            Resolution::Release => "case_released",
            Resolution::Refuse => "case_refused",
        };
        let write = Write::CloseCase(*id, self.signed_by(actor, resolution));
        self.decide_case(actor, id, act, write).await
    }

    fn signed_by(&self, actor: &Actor, resolution: Resolution) -> ProposalRow {
        let by = actor.name.as_str().to_owned();
        ProposalRow { resolution, by, key: actor.spki, at: self.clock.now() }
    }

    async fn decide_case(
        &self,
        actor: &Actor,
        id: &CaseId,
        act: &'static str,
        write: Write,
    ) -> Result<CaseRow, GatewayError> {
        let act = Act { act, actor, subject: Some(id.to_string()), terminal: None };
        self.perform(act, vec![write]).await?;
        let file = self.store.case_file(id, 0, 0).await?;
        file.map(|file| file.case).ok_or(GatewayError::NotFound("case"))
    }
}

/// Notes a proposal.
pub(super) async fn propose(
    unit: &mut dyn UnitOfWork,
    id: &CaseId,
    proposal: &ProposalRow,
    slot: &Slot,
) -> Result<(), GatewayError> {
    let row = open_case(unit, id).await?;
    let proposal = Some(ProposalRow { at: slot.now, ..proposal.clone() });
    Ok(unit.put_case(&CaseRow { proposal, ..row }).await?)
}

/// Closes a case as somebody else proposed.
pub(super) async fn close(
    unit: &mut dyn UnitOfWork,
    id: &CaseId,
    approval: &ProposalRow,
    slot: &Slot,
) -> Result<(), GatewayError> {
    let row = open_case(unit, id).await?;
    let proposal = row.proposal.as_ref();
    let proposal = proposal.filter(|proposal| proposal.resolution == approval.resolution);
    let proposal = proposal.ok_or(GatewayError::State("this was not proposed"))?;
    let first = PrincipalName::try_from(proposal.by.as_str());
    let second = PrincipalName::try_from(approval.by.as_str());
    let (Ok(first), Ok(second)) = (first, second) else {
        return Err(GatewayError::broken("a case was decided by nobody"));
    };
    let first = Person::of(&first, &proposal.key);
    require_another(unit, first, Person::of(&second, &approval.key)).await?;
    let (status, closed_at) = (approval.resolution.status(), Some(slot.now));
    let customer = row.customer;
    unit.put_case(&CaseRow { status, closed_at, ..row }).await?;
    free_number(unit, &customer, slot.now).await
}

/// The number of somebody whose consent has ended was kept for their case alone.
async fn free_number(
    unit: &mut dyn UnitOfWork,
    customer: &CustomerId,
    now: UnixMillis,
) -> Result<(), GatewayError> {
    let row = unit.customer(customer).await?;
    let is_withdrawn = row.is_some_and(|row| row.status == CustomerStatus::Withdrawn);
    if is_withdrawn && !has_case(unit, customer).await? {
        unit.block_customer(customer, Stays { templates: true, number: false }, now).await?;
    }
    Ok(())
}

async fn open_case(unit: &mut dyn UnitOfWork, id: &CaseId) -> Result<CaseRow, GatewayError> {
    let row = unit.case(id).await?.ok_or(GatewayError::NotFound("case"))?;
    match row.status {
        CaseStatus::Open => Ok(row),
        CaseStatus::Released | CaseStatus::Refused => {
            Err(GatewayError::State("the case is closed"))
        }
    }
}

/// The holds by the kinds of their cases. A hold that names no case is of the one that there is.
fn by_kind(
    begun: Vec<CaseBegun>,
    known: &[CaseRow],
    now: UnixMillis,
) -> BTreeMap<CaseKind, Option<WorkingEnd>> {
    let named = begun.iter().find_map(|case| case.kind.clone());
    let of = |status| known.iter().find(|row| row.status == status).map(|row| row.kind.clone());
    // First the case whose hold runs: on another one trying again would begin a new hold.
    let runs = known.iter().find(|row| row.status == CaseStatus::Open && runs(row, now));
    let known = runs.map(|row| row.kind.clone());
    let known = known.or_else(|| of(CaseStatus::Refused)).or_else(|| of(CaseStatus::Open));
    let unnamed = named.or(known).unwrap_or_else(CaseKind::hold);
    let mut kinds: BTreeMap<CaseKind, Option<WorkingEnd>> = BTreeMap::new();
    for CaseBegun { kind, hold } in begun {
        let held = kinds.entry(kind.unwrap_or_else(|| unnamed.clone())).or_default();
        let later = |hold: &WorkingEnd| held.is_none_or(|held| hold.until > held.until);
        if let Some(hold) = hold.filter(later) {
            *held = Some(hold);
        }
    }
    kinds
}

fn runs(row: &CaseRow, now: UnixMillis) -> bool {
    row.held_until.is_some_and(|until| until > now)
}

/// The case of a kind to which decisions are added: the open one, or one that was refused.
fn standing<'a>(known: &'a [CaseRow], kind: &CaseKind) -> Option<&'a CaseRow> {
    let of = |status| known.iter().find(move |row| row.status == status && row.kind == *kind);
    of(CaseStatus::Open).or_else(|| of(CaseStatus::Refused))
}

/// How much speaks for looking at a case early; nothing of it is guilt.
fn weight(facts: &Facts) -> u32 {
    let registers = i64::try_from(facts.registers.len()).unwrap_or(i64::MAX);
    let alike = i64::from(facts.shared_face) + i64::from(facts.face_of_another);
    let listed = registers.saturating_add(alike);
    let history = &facts.history;
    let others =
        [history.others_on_account_h24, history.others_on_card_h24, history.other_terminals_h1];
    let others: i64 = others.into_iter().map(|others| others.clamp(0, OTHERS_MAX)).sum();
    let weight = listed.saturating_mul(LISTED_WEIGHT).saturating_add(others * OTHER_WEIGHT);
    u32::try_from(weight).unwrap_or(u32::MAX)
}
