//! Acts that take two people: proposed by one, done when another one approves.
//!
//! The transaction that closes a proposal is the one in which the act is done, so it is done once or not at
//! all. A proposal never changes: what is approved is what was proposed. The delay between the two is time
//! for others to see it, and to withdraw it.

mod content;

use std::sync::Arc;

use super::Gateway;
use super::act::{Write, receipt_actor};
use super::error::GatewayError;
use super::locks::LockWrite;
use super::people::{PeopleWrite, Person, REGISTERED, SAYS_ELSE, registered, require_another};
use super::request::{Actor, Logged};
use super::sequencer::Slot;
use super::templates::Agreed;
use crate::crypto::random_bytes;
use crate::domain::four_eyes::{ProposalState, StaffRole, TwoPersonAct};
use crate::domain::id::{CustomerId, PrincipalName, ProposalId};
use crate::domain::time::UnixMillis;
use crate::matching::TEMPLATE_CAPTURES_MAX;
use crate::receipt::{Administration, Content as Said};
use crate::store::{Closure, ProposedRow, UnitOfWork};

pub(super) use content::{Content, Doubt, captures_digest, commit_of, details_of};

/// Most proposals of one act by one person that may wait: nobody's flood stands in the way of what others
/// propose, or of the flood's end, which is a revocation. Activations are as many as customers who are pending.
const OPEN_MAX: u64 = 1000;

/// Most proposals that the clerk closes at once.
const EXPIRED_MAX: u32 = 100;

/// A proposal, as people look at it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    /// The proposal.
    pub row: ProposedRow,
    /// Where it stands now.
    pub state: ProposalState,
    /// What is proposed about the subject, in words; empty once it is closed.
    pub what: String,
}

/// An act that one person asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Acted<T> {
    /// It is done.
    Done(T),
    /// Another person must approve it.
    Waits(Box<Proposal>),
}

impl Gateway {
    /// Proposes an act. Its exact content is kept, and the entry commits to it; what is written beside it is
    /// written at once.
    pub(super) async fn propose_act(
        &self,
        actor: &Actor,
        act: TwoPersonAct,
        customer: Option<CustomerId>,
        subject: String,
        content: Content,
        beside: Vec<Write>,
    ) -> Result<Proposal, GatewayError> {
        let id = ProposalId::new(random_bytes(&*self.entropy)?);
        let four_eyes = &self.settings.four_eyes;
        let now = self.clock.now();
        let commit = commit_of(&id, act, &content);
        let row = ProposedRow {
            id,
            act,
            customer,
            subject: subject.clone(),
            commit,
            content: content.to_bytes(),
            proposed_by: actor.name.clone(),
            proposed_key: actor.spki,
            // These four are set once the entry has its place.
            proposed_at: now,
            index: 0,
            not_before: now,
            expires_at: now,
            closed: None,
        };
        let said = Said::Administration(Administration {
            act: proposed_word(act).to_owned(),
            actor: receipt_actor(actor),
            subject: Some(subject),
            details: Some(details_of(act, &commit)),
        });
        let write = ProposalWrite::Open {
            row: Box::new(row),
            delay_ms: four_eyes.delay_ms(act),
            expires_ms: four_eyes.expires_ms,
        };
        let mut writes = beside;
        writes.push(Write::Proposal(write));
        match content.record(&id) {
            Some(salted) => self.perform_with_record(said, salted, writes).await?,
            None => self.perform_as(said, None, writes).await?,
        };
        self.proposal(&id).await
    }

    /// The proposal of an act about a customer that may yet be approved.
    pub(super) async fn open_proposal(
        &self,
        act: TwoPersonAct,
        customer: &CustomerId,
    ) -> Result<Option<ProposedRow>, GatewayError> {
        let row = self.store.latest_open_proposal(act, customer).await?;
        let Some(row) = row.filter(|row| self.clock.now() < row.expires_at) else {
            return Ok(None);
        };
        // Whose key counts no more is the first of no two people, and stands in nobody's way.
        let first = self.store.principal(&row.proposed_key).await?;
        Ok(first.is_none_or(|first| first.revoked.is_none()).then_some(row))
    }

    /// A proposal.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when there is none.
    pub async fn proposal(&self, id: &ProposalId) -> Result<Proposal, GatewayError> {
        let row = self.store.proposal(id).await?.ok_or(GatewayError::NotFound("proposal"))?;
        self.describe_proposal(row)
    }

    /// Proposals in the order of their entries, after the given place; `open` leaves out those that wait no
    /// more.
    ///
    /// # Errors
    ///
    /// What the store cannot do.
    pub async fn proposals(
        &self,
        open: bool,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Proposal>, GatewayError> {
        let rows = self.store.proposals(open, after, limit).await?;
        rows.into_iter().map(|row| self.describe_proposal(row)).collect()
    }

    fn describe_proposal(&self, row: ProposedRow) -> Result<Proposal, GatewayError> {
        let state = match row.state() {
            ProposalState::Open if self.clock.now() >= row.expires_at => ProposalState::Expired,
            state => state,
        };
        // Of an erased customer nothing is left of it.
        let what = if row.content.is_empty() { String::new() } else { Content::of(&row)?.words() };
        Ok(Proposal { row, state, what })
    }

    /// Another person approves a proposal, and what it proposes is done.
    ///
    /// # Errors
    ///
    /// [`GatewayError::State`] when it may not be approved: too early, too late, closed, by the same person or
    /// one of the same unit; and whatever the act itself cannot do. [`GatewayError::Store`] also when somebody
    /// is erased and that could not be remembered outside the database: the same call again remembers it.
    pub async fn approve_proposal(
        self: &Arc<Self>,
        actor: &Actor,
        id: &ProposalId,
    ) -> Result<Logged, GatewayError> {
        let (row, content) = self.approvable(actor, id).await?;
        let (act, commit, subject) = (row.act, row.commit, row.subject.clone());
        let (proposal, customer) = (row.id, customer_of(&row));
        if let (TwoPersonAct::Activation, Content::Doubt(_)) = (act, &content) {
            return self.activate_agreed(actor, id).await.map(|(_, logged)| logged);
        }
        let close = self.close_write(row, ProposalState::Done, Some(actor));
        let (word, write) = match (act, content) {
            (TwoPersonAct::Erasure, Content::Nothing) => {
                return self.erase_now(actor, &customer?, vec![close]).await;
            }
            (TwoPersonAct::FurtherCapture, Content::Captures(rows)) => {
                let agreed = Agreed { rows, desk: None, is_import: false, close, commit };
                return self.insert_agreed(actor, &customer?, agreed).await;
            }
            (TwoPersonAct::FurtherCapture, Content::AtDesk(row, desk, signed_by)) => {
                let desk = Some((desk, signed_by));
                let agreed = Agreed { rows: vec![*row], desk, is_import: false, close, commit };
                return self.insert_agreed(actor, &customer?, agreed).await;
            }
            (TwoPersonAct::TemplateImport, Content::Captures(rows)) => {
                let agreed = Agreed { rows, desk: None, is_import: true, close, commit };
                return self.insert_agreed(actor, &customer?, agreed).await;
            }
            (TwoPersonAct::PrincipalRegistration, Content::Person(person)) => {
                let write = PeopleWrite::Register(vec![person], Some(proposal));
                (REGISTERED, Write::People(write))
            }
            (TwoPersonAct::PrincipalRevocation, Content::Person(person)) => {
                ("principal_revoked", Write::People(PeopleWrite::Revoke(vec![person.spki])))
            }
            (TwoPersonAct::Unlock, Content::Nothing) => {
                let lock = self.vault.tries_of_customer(&self.settings.tenant, &customer?);
                ("biometric_unlocked", Write::Lock(LockWrite::End(lock)))
            }
            _ => return Err(GatewayError::broken("a proposal's content is another act's")),
        };
        let said = Said::Administration(Administration {
            act: word.to_owned(),
            actor: receipt_actor(actor),
            subject: Some(subject),
            details: Some(commit.labelled()),
        });
        self.perform_as(said, None, vec![close, write]).await
    }

    /// A proposal that somebody is about to approve, and its content, if their role may and the ledger tells of
    /// all of it; who else they are than its first person is looked up where it is closed.
    pub(super) async fn approvable(
        &self,
        actor: &Actor,
        id: &ProposalId,
    ) -> Result<(ProposedRow, Content), GatewayError> {
        let row = self.open_row(id).await?;
        require_role(actor, row.act)?;
        self.require_both_told(&row, actor).await?;
        if row.content.is_empty() {
            // An erasure took it.
            return Err(GatewayError::NotFound("customer"));
        }
        let content = Content::of(&row)?;
        self.require_proposed(&row, &content).await?;
        Ok((row, content))
    }

    /// Refuses a proposal that no signed entry of its first person tells of, or that is about somebody else by
    /// now: whoever writes the database would be the first of two people.
    async fn require_proposed(
        &self,
        row: &ProposedRow,
        content: &Content,
    ) -> Result<(), GatewayError> {
        if let Some(customer) = &row.customer
            && self.subject_of(customer).await? != row.subject
        {
            return Err(SAYS_ELSE);
        }
        let said = self.act_at(row.index).await?;
        let is_as_told = said.act == proposed_word(row.act)
            && said.actor.name == row.proposed_by.as_str()
            && said.actor.cert == row.proposed_key.labelled()
            && said.subject.as_deref() == Some(row.subject.as_str())
            && said.details == Some(details_of(row.act, &row.commit))
            && commit_of(&row.id, row.act, content) == row.commit;
        if is_as_told { Ok(()) } else { Err(SAYS_ELSE) }
    }

    /// Who the two are stands in the ledger, or they are nobody.
    async fn require_both_told(
        &self,
        row: &ProposedRow,
        second: &Actor,
    ) -> Result<(), GatewayError> {
        for key in [&row.proposed_key, &second.spki] {
            if let Some(person) = self.store.principal(key).await? {
                self.require_told(&person).await?;
            }
        }
        Ok(())
    }

    /// Whoever proposed it takes a proposal back, or an administrator stops it.
    ///
    /// # Errors
    ///
    /// [`GatewayError::State`] when it waits no more, is somebody else's, or is the revocation of whoever asks.
    pub async fn withdraw_proposal(
        &self,
        actor: &Actor,
        id: &ProposalId,
    ) -> Result<Logged, GatewayError> {
        let row = self.open_row(id).await?;
        let is_theirs = row.proposed_by == actor.name && row.proposed_key == actor.spki;
        if !is_theirs && actor.role != StaffRole::Admin.as_str() {
            return Err(GatewayError::State(
                "only whoever proposed it, or an administrator, withdraws a proposal",
            ));
        }
        let said = Said::Administration(Administration {
            act: "proposal_withdrawn".to_owned(),
            actor: receipt_actor(actor),
            subject: Some(row.subject.clone()),
            details: Some(details_of(row.act, &row.commit)),
        });
        let close = self.close_write(row, ProposalState::Withdrawn, Some(actor));
        self.perform_as(said, None, vec![close]).await
    }

    /// Enters that nobody approved in time, and destroys what was proposed; the clerk does it each minute.
    ///
    /// # Errors
    ///
    /// What the store or the ledger cannot do; the clerk does it later.
    pub async fn expire_proposals(&self) -> Result<(), GatewayError> {
        for row in self.store.proposals_expired(self.clock.now(), EXPIRED_MAX).await? {
            let said = Said::Administration(Administration {
                act: "proposal_expired".to_owned(),
                actor: self.signing.own_actor(&self.open_ledger()?)?,
                subject: Some(row.subject.clone()),
                details: Some(details_of(row.act, &row.commit)),
            });
            let close = self.close_write(row, ProposalState::Expired, None);
            match self.perform_as(said, None, vec![close]).await {
                // Somebody closed it in between; the others wait yet.
                Ok(_) | Err(GatewayError::State(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn open_row(&self, id: &ProposalId) -> Result<ProposedRow, GatewayError> {
        let row = self.store.proposal(id).await?.ok_or(GatewayError::NotFound("proposal"))?;
        match (row.act, row.state(), &row.customer) {
            (_, ProposalState::Open, _) => Ok(row),
            (TwoPersonAct::Erasure, ProposalState::Done, Some(customer)) => {
                // Whoever approved it may have been told that it failed after its commit.
                self.mark_if_erased(customer).await?;
                Err(WAITS_NO_MORE)
            }
            _ => Err(WAITS_NO_MORE),
        }
    }

    pub(super) fn close_write(
        &self,
        row: ProposedRow,
        state: ProposalState,
        by: Option<&Actor>,
    ) -> Write {
        let by = by.map(|actor| (actor.name.clone(), actor.spki));
        // When and by which entry is known once that has its place.
        let closure = Closure { state, by, at: self.clock.now(), index: 0 };
        Write::Proposal(ProposalWrite::Close(Box::new(row), closure))
    }
}

const WAITS_NO_MORE: GatewayError =
    GatewayError::State("the proposal is done, withdrawn or expired");

/// Whom a proposal is about that is about a customer.
pub(super) fn customer_of(row: &ProposedRow) -> Result<CustomerId, GatewayError> {
    row.customer.ok_or(GatewayError::broken("a proposal is about nobody"))
}

/// Who erases, unlocks and registers people may approve it; captures and activations are the enrollers' work
/// too.
fn require_role(actor: &Actor, act: TwoPersonAct) -> Result<(), GatewayError> {
    let is_admin = actor.role == StaffRole::Admin.as_str();
    let may = match act {
        TwoPersonAct::FurtherCapture | TwoPersonAct::TemplateImport | TwoPersonAct::Activation => {
            is_admin || actor.role == StaffRole::Enroller.as_str()
        }
        TwoPersonAct::Erasure
        | TwoPersonAct::PrincipalRegistration
        | TwoPersonAct::PrincipalRevocation
        | TwoPersonAct::Unlock => is_admin,
    };
    if may { Ok(()) } else { Err(GatewayError::State("an administrator must approve this")) }
}

const fn proposed_word(act: TwoPersonAct) -> &'static str {
    match act {
        TwoPersonAct::Erasure => "erasure_proposed",
        TwoPersonAct::FurtherCapture => "capture_proposed",
        TwoPersonAct::TemplateImport => "template_import_proposed",
        TwoPersonAct::PrincipalRegistration => "principal_proposed",
        TwoPersonAct::PrincipalRevocation => "principal_revocation_proposed",
        TwoPersonAct::Activation => "activation_proposed",
        TwoPersonAct::Unlock => "unlock_proposed",
    }
}

/// One write about a proposal.
pub(super) enum ProposalWrite {
    /// Keeps one; it may be approved after so many milliseconds, and waits so many.
    Open { row: Box<ProposedRow>, delay_ms: i64, expires_ms: i64 },
    /// Ends this very one.
    Close(Box<ProposedRow>, Closure),
}

impl ProposalWrite {
    pub async fn apply(&self, unit: &mut dyn UnitOfWork, slot: &Slot) -> Result<(), GatewayError> {
        match self {
            Self::Open { row, delay_ms, expires_ms } => {
                let row = ProposedRow {
                    proposed_at: slot.now,
                    index: slot.place,
                    not_before: slot.now.plus_millis(*delay_ms),
                    expires_at: slot.now.plus_millis(*expires_ms),
                    ..ProposedRow::clone(row)
                };
                open(unit, &row, slot.now).await
            }
            Self::Close(row, closure) => {
                let closure = Closure { at: slot.now, index: slot.place, ..closure.clone() };
                close(unit, row, &closure).await
            }
        }
    }
}

async fn open(
    unit: &mut dyn UnitOfWork,
    row: &ProposedRow,
    now: UnixMillis,
) -> Result<(), GatewayError> {
    let may_flood = row.act == TwoPersonAct::Activation;
    if !may_flood && unit.proposals_open(row.act, &row.proposed_by).await? >= OPEN_MAX {
        return Err(GatewayError::State("too many proposals of one person wait for an approval"));
    }
    let mut same = unit.proposals_about(row.act, &row.subject).await?;
    same.retain(|other| now < other.expires_at);
    let mut counting = Vec::with_capacity(same.len());
    for other in same {
        // Whose key was revoked is the first of no two people any more.
        let first = unit.principal(&other.proposed_key).await?;
        if first.is_none_or(|first| first.revoked.is_none()) {
            counting.push(other);
        }
    }
    let mut same = counting;
    if row.act == TwoPersonAct::PrincipalRevocation {
        // Or whoever is to be revoked could propose it first, and take it back in time.
        same.retain(|other| other.proposed_key == row.proposed_key);
    }
    // Captures add up; of anything else two proposals are one.
    let most = match row.act {
        TwoPersonAct::FurtherCapture | TwoPersonAct::TemplateImport => TEMPLATE_CAPTURES_MAX,
        TwoPersonAct::Erasure
        | TwoPersonAct::PrincipalRegistration
        | TwoPersonAct::PrincipalRevocation
        | TwoPersonAct::Activation
        | TwoPersonAct::Unlock => 1,
    };
    if same.len() >= most {
        return Err(GatewayError::Exists("proposal"));
    }
    Ok(unit.insert_proposal(row).await?)
}

/// Ends what waits about a customer, or what of one act does, because of something else that happens to them:
/// its entry is the one that says so.
pub(super) async fn end_proposals_about(
    unit: &mut dyn UnitOfWork,
    customer: &CustomerId,
    act: Option<TwoPersonAct>,
    slot: &Slot,
) -> Result<(), GatewayError> {
    let (state, at, index) = (ProposalState::Withdrawn, slot.now, slot.place);
    unit.close_proposals_of(customer, act, &Closure { state, by: None, at, index }).await?;
    Ok(())
}

async fn close(
    unit: &mut dyn UnitOfWork,
    seen: &ProposedRow,
    closure: &Closure,
) -> Result<(), GatewayError> {
    // A proposal never changes but to be closed.
    let row = unit.proposal(&seen.id).await?.ok_or(GatewayError::NotFound("proposal"))?;
    if row != *seen || row.closed.is_some() {
        return Err(WAITS_NO_MORE);
    }
    match (closure.state, &closure.by) {
        (ProposalState::Done, Some((name, key))) => {
            require_approval(unit, &row, name, key, closure.at).await?;
        }
        (ProposalState::Withdrawn, Some((name, key))) => {
            require_withdrawal(unit, &row, Person::of(name, key)).await?;
        }
        (ProposalState::Expired, None) if closure.at >= row.expires_at => {}
        _ => return Err(GatewayError::broken("a proposal does not end like this")),
    }
    if unit.close_proposal(&row.id, closure).await? { Ok(()) } else { Err(WAITS_NO_MORE) }
}

/// Nobody whose key counts no more stops anything, nor does whoever is to be revoked, unless they asked for it.
async fn require_withdrawal(
    unit: &mut dyn UnitOfWork,
    row: &ProposedRow,
    who: Person<'_>,
) -> Result<(), GatewayError> {
    if registered(unit, who).await?.is_none() {
        return Err(GatewayError::State(
            "the key of whoever withdraws is not registered, or was revoked",
        ));
    }
    let is_theirs = row.proposed_by == *who.name && row.proposed_key == *who.key;
    if is_theirs || row.act != TwoPersonAct::PrincipalRevocation {
        return Ok(());
    }
    let Content::Person(about) = Content::of(row)? else {
        return Err(GatewayError::broken("a proposal's content is another act's"));
    };
    if Person::of(&about.name, &about.spki).is(&who) {
        return Err(GatewayError::State("whoever a revocation is about does not withdraw it"));
    }
    Ok(())
}

async fn require_approval(
    unit: &mut dyn UnitOfWork,
    row: &ProposedRow,
    name: &PrincipalName,
    key: &crate::crypto::Digest,
    now: UnixMillis,
) -> Result<(), GatewayError> {
    if now < row.not_before {
        return Err(GatewayError::State("the proposal may not be approved yet"));
    }
    if now >= row.expires_at {
        return Err(GatewayError::State("the proposal has expired"));
    }
    let first = Person::of(&row.proposed_by, &row.proposed_key);
    require_another(unit, first, Person::of(name, key)).await
}
