//! Activation: the reference image, a second person where it leaves a doubt, the search for duplicates.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::Gateway;
use super::act::{ActJob, Write, receipt_actor};
use super::customer::Templates;
use super::error::GatewayError;
use super::people::Person;
use super::proposal::{Content as Proposed, Doubt, captures_digest, customer_of};
use super::request::{Actor, Logged};
use super::sequencer::{Job, Slot, Step};
use super::templates::IMPRESSIONS_MIN;
use super::verification_job::audit_place;
use crate::crypto::{Digest, Entropy};
use crate::domain::four_eyes::{ProposalState, TwoPersonAct};
use crate::domain::id::{CustomerId, ProposalId, ReceiptId};
use crate::domain::reference::SecondPersonReason;
use crate::domain::time::UnixMillis;
use crate::fingerprint::FingerprintPipeline;
use crate::matching::FingerTemplate;
use crate::receipt::{Administration, Content, Salt, audit_commit};
use crate::store::{CustomerStatus, DuplicateRow, ProposedRow, UnitOfWork};
use crate::vault::Vault;

/// What an activation came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Activation {
    /// Active, waiting for a person to decide about duplicates, or still pending.
    pub status: CustomerStatus,
    /// Who looks alike, and how strongly in dB.
    pub duplicates: Vec<(CustomerId, i64)>,
    /// Set when this call was the first of two people's.
    pub needs_second_person: Option<SecondPerson>,
}

/// An activation that waits for a second person.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SecondPerson {
    /// Why one is not enough.
    pub reason: SecondPersonReason,
    /// Until when the first person's call counts.
    pub until: UnixMillis,
    /// The proposal that it made.
    pub proposal: ProposalId,
}

impl Gateway {
    /// Makes a customer active whom the reference image confirms, or two people; unless somebody enrolled
    /// looks like them: then a person decides.
    ///
    /// Where one person cannot be sure, their call proposes it, and another one's approves it.
    ///
    /// # Errors
    ///
    /// [`GatewayError::State`] without captures, when the status is another, or when the same person
    /// calls twice; [`GatewayError::Reference`] when the source does not answer: nothing has changed then.
    pub async fn activate(
        &self,
        actor: &Actor,
        customer: &CustomerId,
    ) -> Result<Activation, GatewayError> {
        let subject = self.subject_of(customer).await?;
        self.require_consent(customer).await?;
        self.require_pending(customer).await?;
        // The second person is not asked to wait for the source again: the first one's doubt stands.
        let reference = match self.open_proposal(TwoPersonAct::Activation, customer).await? {
            Some(_) => None,
            None => Some(self.reference_of(customer).await?),
        };
        let _turn = self.activation.lock().await;
        // Somebody may have proposed it, or taken it back, while the source was asked.
        let open = self.open_proposal(TwoPersonAct::Activation, customer).await?;
        let reference = match (open, reference) {
            (Some(row), _) => {
                let (row, content) = self.approvable(actor, &row.id).await?;
                let activated = self.activate_in_turn(actor, row, doubt_in(&content)?).await;
                return activated.map(|(activation, _)| activation);
            }
            (None, Some(reference)) => reference,
            (None, None) => {
                return Err(GatewayError::State("the first person's call counts no more"));
            }
        };
        let (templates, captures) = self.activable(customer).await?;
        let doubt = self.doubt(&reference, templates.face.as_ref()).await?;
        if let Some(reason) = doubt.or(self.active_before(customer).await?) {
            let doubt = Doubt { reason, captures, salt: Salt::generate(&*self.entropy)? };
            return self.propose_activation(actor, customer, subject, doubt).await;
        }
        let activated = self.search_and_activate(actor, customer, subject, templates, None).await;
        activated.map(|(activation, _)| activation)
    }

    /// Goes on with an activation that one person proposed, on another one's word.
    pub(super) async fn activate_agreed(
        &self,
        actor: &Actor,
        id: &ProposalId,
    ) -> Result<(Activation, Logged), GatewayError> {
        let _turn = self.activation.lock().await;
        // A capture that came or went in the meantime has closed it.
        let (row, content) = self.approvable(actor, id).await?;
        self.activate_in_turn(actor, row, doubt_in(&content)?).await
    }

    /// The same, while nobody else activates or changes captures.
    async fn activate_in_turn(
        &self,
        actor: &Actor,
        row: ProposedRow,
        doubt: &Doubt,
    ) -> Result<(Activation, Logged), GatewayError> {
        let customer = customer_of(&row)?;
        let first = Person::of(&row.proposed_by, &row.proposed_key);
        // Before the search; who else is another person is looked up where the proposal is closed.
        if first.is(&Person::of(&actor.name, &actor.spki)) {
            return Err(GatewayError::State(
                "the activation waits for a second person, with another name and another key",
            ));
        }
        self.require_consent(&customer).await?;
        self.require_pending(&customer).await?;
        let (templates, captures) = self.activable(&customer).await?;
        if captures != doubt.captures {
            // A capture that comes or goes closes the proposal: somebody wrote past the gateway.
            return Err(GatewayError::broken("the captures are not those that were proposed"));
        }
        let position = self.position(row.index)?;
        let record = json!({
            "reason": doubt.reason.as_str(),
            "first": {
                "name": row.proposed_by.as_str(),
                "cert": row.proposed_key.labelled(),
                "origin": position.origin.as_str(),
                "index": position.index,
            },
        });
        let subject = row.subject.clone();
        let close = self.close_write(row, ProposalState::Done, Some(actor));
        let first = Some((record, close));
        self.search_and_activate(actor, &customer, subject, templates, first).await
    }

    /// For whom an activation waits, and why.
    pub(super) async fn needs_second_person(
        &self,
        customer: &CustomerId,
    ) -> Result<Option<SecondPerson>, GatewayError> {
        let Some(row) = self.open_proposal(TwoPersonAct::Activation, customer).await? else {
            return Ok(None);
        };
        let reason = doubt_in(&Proposed::of(&row)?)?.reason;
        Ok(Some(SecondPerson { reason, until: row.expires_at, proposal: row.id }))
    }

    /// The templates of somebody who has what an activation takes, and which captures they are of.
    async fn activable(&self, customer: &CustomerId) -> Result<(Templates, Digest), GatewayError> {
        let captures = self.store.captures(customer).await?;
        let templates = self.templates_made_of(customer, &captures).await?;
        if templates.is_empty() {
            return Err(GatewayError::State("the customer has no captures"));
        }
        self.require_impressions(&templates)?;
        Ok((templates, captures_digest(&captures)))
    }

    /// Before anybody outside is asked about the customer.
    async fn require_pending(&self, customer: &CustomerId) -> Result<(), GatewayError> {
        let row = self.store.customer(customer).await?.ok_or(GatewayError::NotFound("customer"))?;
        if row.status != CustomerStatus::Pending {
            return Err(GatewayError::State("the customer's status does not allow it"));
        }
        if self.store.captures(customer).await?.is_empty() {
            return Err(GatewayError::State("the customer has no captures"));
        }
        Ok(())
    }

    /// Whoever takes every capture of a customer away and adds others does what a further capture does.
    async fn active_before(
        &self,
        customer: &CustomerId,
    ) -> Result<Option<SecondPersonReason>, GatewayError> {
        if !self.settings.four_eyes.covers(TwoPersonAct::FurtherCapture) {
            return Ok(None);
        }
        let row = self.store.customer(customer).await?.ok_or(GatewayError::NotFound("customer"))?;
        Ok(row.activated_at.map(|_| SecondPersonReason::ActiveBefore))
    }

    /// A finger counts once there are enough impressions of it that match each other. Records of another
    /// vendor bring their own quality.
    fn require_impressions(&self, templates: &Templates) -> Result<(), GatewayError> {
        let own = self.vision.fingers().map(FingerprintPipeline::model);
        let is_short = |finger: &FingerTemplate| {
            finger.model() == own && finger.views().len() < IMPRESSIONS_MIN
        };
        if templates.fingers.values().any(is_short) {
            return Err(GatewayError::State(
                "a finger takes three impressions that match each other",
            ));
        }
        Ok(())
    }

    async fn propose_activation(
        &self,
        actor: &Actor,
        customer: &CustomerId,
        subject: String,
        doubt: Doubt,
    ) -> Result<Activation, GatewayError> {
        let reason = doubt.reason;
        let content = Proposed::Doubt(doubt);
        let (act, of) = (TwoPersonAct::Activation, Some(*customer));
        let beside = vec![Write::RequirePending(*customer)];
        let proposed = self.propose_act(actor, act, of, subject, content, beside).await?;
        let (until, proposal) = (proposed.row.expires_at, proposed.row.id);
        Ok(Activation {
            status: CustomerStatus::Pending,
            duplicates: Vec::new(),
            needs_second_person: Some(SecondPerson { reason, until, proposal }),
        })
    }

    /// Makes somebody active, unless they look like somebody else. Where two people did it: what the record says
    /// of the first, and the write that closes the proposal.
    async fn search_and_activate(
        &self,
        actor: &Actor,
        customer: &CustomerId,
        subject: String,
        templates: Templates,
        first: Option<(Value, Write)>,
    ) -> Result<(Activation, Logged), GatewayError> {
        let rows = self.lookalikes(customer, templates).await?;
        let duplicates = rows.iter().map(|row| (row.other, row.strength_db)).collect::<Vec<_>>();
        let (act, status) = if rows.is_empty() {
            ("customer_activated", CustomerStatus::Active)
        } else {
            ("duplicate_suspected", CustomerStatus::PendingDuplicate)
        };
        let act = Administration {
            act: act.to_owned(),
            actor: receipt_actor(actor),
            subject: Some(subject),
            details: None,
        };
        let mut writes = vec![Write::SetStatus(*customer, &[CustomerStatus::Pending], status)];
        if !rows.is_empty() {
            writes.push(Write::InsertDuplicates(rows));
        }
        let performed = if let Some((record, close)) = first {
            writes.push(close);
            self.perform_recorded(act, &record, writes).await
        } else {
            self.perform_as(Content::Administration(act), None, writes).await
        };
        self.refresh_gallery(customer).await?;
        let logged = performed?;
        Ok((Activation { status, duplicates, needs_second_person: None }, logged))
    }

    async fn lookalikes(
        &self,
        customer: &CustomerId,
        templates: Templates,
    ) -> Result<Vec<DuplicateRow>, GatewayError> {
        let found_at = self.clock.now();
        let mut rows = Vec::new();
        for hit in self.search(templates).await? {
            // Nobody is compared with whose consent holds no more.
            if hit.key == *customer || !self.consents(&hit.key, found_at).await? {
                continue;
            }
            rows.push(DuplicateRow {
                customer: *customer,
                other: hit.key,
                strength_db: hit.strength.db(),
                found_at,
                resolution: None,
            });
        }
        Ok(rows)
    }

    /// Writes and logs an act whose particulars auditors may read: the entry commits to them, with salt.
    pub(super) async fn perform_recorded(
        &self,
        mut act: Administration,
        record: &Value,
        writes: Vec<Write>,
    ) -> Result<Logged, GatewayError> {
        let salt = Salt::generate(&*self.entropy)?;
        let record = record.to_string();
        act.details = Some(audit_commit(&salt, record.as_bytes()));
        let salted = Zeroizing::new([salt.expose().as_slice(), record.as_bytes()].concat());
        self.perform_with_record(Content::Administration(act), salted, writes).await
    }

    /// The same where the entry commits to them already; the salt stands before the record.
    pub(super) async fn perform_with_record(
        &self,
        content: Content,
        salted: Zeroizing<Vec<u8>>,
        writes: Vec<Write>,
    ) -> Result<Logged, GatewayError> {
        let receipt = self.new_receipt()?;
        let job = Recorded {
            job: self.act_job(receipt, content, None, writes),
            salted,
            vault: Arc::clone(&self.vault),
            entropy: Arc::clone(&self.entropy),
            tenant: self.settings.tenant.as_str().to_owned(),
        };
        self.sequencer.submit(Box::new(job)).await
    }
}

/// An act with particulars, which are sealed to the place of its entry.
struct Recorded {
    job: ActJob,
    /// The salt, then the record: the order in which they are hashed.
    salted: Zeroizing<Vec<u8>>,
    vault: Arc<Vault>,
    entropy: Arc<dyn Entropy>,
    tenant: String,
}

#[async_trait]
impl Job for Recorded {
    async fn run(&mut self, unit: &mut dyn UnitOfWork, slot: &Slot) -> Result<Step, GatewayError> {
        let step = self.job.run(unit, slot).await?;
        let Step::Append(mut entry) = step else { return Ok(step) };
        let place = audit_place(&self.tenant, &slot.position());
        entry.sealed_audit = Some(self.vault.seal_system(&place, &self.salted, &*self.entropy)?);
        Ok(Step::Append(entry))
    }

    fn receipt(&self) -> Option<ReceiptId> {
        self.job.receipt()
    }
}

/// Why one person could not be sure.
fn doubt_in(content: &Proposed) -> Result<&Doubt, GatewayError> {
    match content {
        Proposed::Doubt(doubt) => Ok(doubt),
        _ => Err(GatewayError::broken("a proposed activation gives no reason")),
    }
}
