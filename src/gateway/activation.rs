//! Activation: the reference image, a second person where it leaves a doubt, the search for duplicates.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::Gateway;
use super::act::{ActJob, Write, receipt_actor};
use super::customer::Templates;
use super::error::GatewayError;
use super::people::{Person, SECOND_PERSON_WITHIN_MS, require_another};
use super::request::{Actor, Logged};
use super::sequencer::{Job, Slot, Step};
use super::templates::IMPRESSIONS_MIN;
use super::verification_job::audit_place;
use crate::crypto::Entropy;
use crate::domain::four_eyes::TwoPersonAct;
use crate::domain::id::{CustomerId, ReceiptId};
use crate::domain::reference::SecondPersonReason;
use crate::domain::time::UnixMillis;
use crate::fingerprint::FingerprintPipeline;
use crate::matching::FingerTemplate;
use crate::receipt::{Administration, Content, Salt, audit_commit};
use crate::store::{ActivationProposalRow, CustomerStatus, DuplicateRow, UnitOfWork};
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
}

impl SecondPerson {
    pub(super) fn of(row: &ActivationProposalRow) -> Self {
        Self { reason: row.reason, until: ends(row) }
    }
}

fn ends(row: &ActivationProposalRow) -> UnixMillis {
    row.proposed_at.plus_millis(SECOND_PERSON_WITHIN_MS)
}

impl Gateway {
    /// Makes a customer active whom the reference image confirms, or two people; unless somebody enrolled
    /// looks like them: then a person decides.
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
        let reference = match self.open_proposal(customer).await? {
            Some(_) => None,
            None => Some(self.reference_of(customer).await?),
        };
        let _turn = self.activation.lock().await;
        let templates = self.templates_of(customer).await?;
        if templates.is_empty() {
            return Err(GatewayError::State("the customer has no captures"));
        }
        self.require_impressions(&templates)?;
        let first = match (self.open_proposal(customer).await?, reference) {
            // Before the search; who is another person is looked up where the proposal is used up.
            (Some(row), _)
                if Person::of(&row.proposed_by, &row.proposed_key)
                    .is(&Person::of(&actor.name, &actor.spki)) =>
            {
                return Err(GatewayError::State(
                    "the activation waits for a second person, with another name and another key",
                ));
            }
            (Some(row), _) => Some(row),
            (None, None) => {
                return Err(GatewayError::State("the first person's call counts no more"));
            }
            (None, Some(reference)) => {
                let doubt = self.doubt(&reference, templates.face.as_ref()).await?;
                match doubt.or(self.active_before(customer).await?) {
                    Some(reason) => return self.propose(actor, customer, subject, reason).await,
                    None => None,
                }
            }
        };
        self.search_and_activate(actor, customer, subject, templates, first).await
    }

    /// The proposal to activate a customer that still counts.
    pub(super) async fn open_proposal(
        &self,
        customer: &CustomerId,
    ) -> Result<Option<ActivationProposalRow>, GatewayError> {
        let row = self.store.activation_proposal(customer).await?;
        Ok(row.filter(|row| self.clock.now() < ends(row)))
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

    async fn propose(
        &self,
        actor: &Actor,
        customer: &CustomerId,
        subject: String,
        reason: SecondPersonReason,
    ) -> Result<Activation, GatewayError> {
        let row = ActivationProposalRow {
            customer: *customer,
            proposed_by: actor.name.clone(),
            proposed_key: actor.spki,
            reason,
            // Both are known once the entry has its place.
            proposed_at: self.clock.now(),
            index: 0,
        };
        let act = Administration {
            act: "activation_proposed".to_owned(),
            actor: receipt_actor(actor),
            subject: Some(subject),
            details: None,
        };
        let record = json!({ "reason": reason.as_str() });
        let writes = vec![Write::ProposeActivation(Box::new(row))];
        self.perform_recorded(act, &record, writes).await?;
        let row = self.store.activation_proposal(customer).await?;
        let row = row.ok_or(GatewayError::broken("a proposal is missing"))?;
        Ok(Activation {
            status: CustomerStatus::Pending,
            duplicates: Vec::new(),
            needs_second_person: Some(SecondPerson::of(&row)),
        })
    }

    async fn search_and_activate(
        &self,
        actor: &Actor,
        customer: &CustomerId,
        subject: String,
        templates: Templates,
        first: Option<ActivationProposalRow>,
    ) -> Result<Activation, GatewayError> {
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
        let performed = if let Some(row) = first {
            let position = self.position(row.index)?;
            let record = json!({
                "reason": row.reason.as_str(),
                "first": {
                    "name": row.proposed_by.as_str(),
                    "cert": row.proposed_key.labelled(),
                    "origin": position.origin.as_str(),
                    "index": position.index,
                },
            });
            writes.push(Write::TakeProposal(Box::new(row), actor.name.clone(), actor.spki));
            self.perform_recorded(act, &record, writes).await
        } else {
            writes.push(Write::DropProposal(*customer));
            self.perform_as(Content::Administration(act), None, writes).await
        };
        self.refresh_gallery(customer).await?;
        performed?;
        Ok(Activation { status, duplicates, needs_second_person: None })
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
        let receipt = self.new_receipt()?;
        let job = Recorded {
            job: self.act_job(receipt, Content::Administration(act), None, writes),
            salted: Zeroizing::new([salt.expose().as_slice(), record.as_bytes()].concat()),
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

/// Keeps a proposal, if nobody was faster.
pub(super) async fn propose(
    unit: &mut dyn UnitOfWork,
    row: &ActivationProposalRow,
    slot: &Slot,
) -> Result<(), GatewayError> {
    let customer = unit.customer(&row.customer).await?.ok_or(GatewayError::NotFound("customer"))?;
    if customer.status != CustomerStatus::Pending {
        return Err(GatewayError::State("the customer's status does not allow it"));
    }
    let held = unit.activation_proposal(&row.customer).await?;
    if held.is_some_and(|held| slot.now < ends(&held)) {
        return Err(GatewayError::State("somebody else has proposed the activation"));
    }
    let row = ActivationProposalRow { proposed_at: slot.now, index: slot.place, ..row.clone() };
    Ok(unit.put_activation_proposal(&row).await?)
}

/// Uses a proposal up, if it is still the one that was seen, and counts, and this is another person.
pub(super) async fn take(
    unit: &mut dyn UnitOfWork,
    row: &ActivationProposalRow,
    second: Person<'_>,
    now: UnixMillis,
) -> Result<(), GatewayError> {
    if now >= ends(row) || unit.activation_proposal(&row.customer).await?.as_ref() != Some(row) {
        return Err(GatewayError::State("the first person's call counts no more"));
    }
    require_another(unit, Person::of(&row.proposed_by, &row.proposed_key), second).await?;
    unit.delete_activation_proposal(&row.customer).await?;
    Ok(())
}
