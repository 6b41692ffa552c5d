//! The exception path: a person who is unable to give a biometric is served by what they can give.

use std::sync::Arc;

use serde_json::json;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::Gateway;
use super::act::{Act, Write};
use super::confirming::Stage;
use super::customer::Enrolled;
use super::envelope::SignedBy;
use super::error::GatewayError;
use super::request::{Actor, Answer, RequestException, Salts};
use super::session::Session;
use super::verification::{CallingTerminal, Which};
use super::verification_job::{Seen, VerificationJob};
use crate::crypto::{Digest, length_prefixed, random_bytes, sha256};
use crate::domain::id::CustomerId;
use crate::domain::time::UnixMillis;
use crate::domain::transaction::{DecisionKey, TokenKind};
use crate::store::UnableRow;
use crate::vault::Place;

/// A call of `RequestException`, as it arrived.
struct Asked {
    terminal: CallingTerminal,
    key: DecisionKey,
    session: Session,
    request_hash: Digest,
    arrived_at: UnixMillis,
    deadline: Instant,
}

impl Gateway {
    /// Decides without a capture, by what the rules have for people who are unable to give one.
    ///
    /// It counts as an attempt of its transaction. About somebody who is not marked as unable, or whom
    /// nobody knows, the rules decide as about a face that does not match.
    ///
    /// # Errors
    ///
    /// [`GatewayError`]: no decision was made, there is no receipt, nothing may be paid.
    pub async fn request_exception(
        self: &Arc<Self>,
        terminal: &CallingTerminal,
        request: RequestException,
        deadline: Instant,
    ) -> Result<Answer, GatewayError> {
        let arrived_at = self.clock.now();
        let RequestException { asked, attempt } = request;
        let session = self.session_for(&asked, arrived_at).await?;
        let transaction = &asked.transaction;
        let counterparty = transaction.counterparty.as_ref();
        let counterparty = counterparty
            .map(|token| self.vault.token_index(&self.settings.tenant, TokenKind::Account, token));
        let key = DecisionKey {
            terminal: terminal.id.clone(),
            business_date: transaction.business_date.clone(),
            host_id: transaction.host_id.clone(),
            attempt,
        };
        let request_hash = sha256(&length_prefixed(&[
            b"tulga-exception-v1",
            session.nobody.as_bytes(),
            key.business_date.as_str().as_bytes(),
            key.host_id.as_str().as_bytes(),
            &attempt.get().to_be_bytes(),
            transaction.operation.as_str().as_bytes(),
            &transaction.amount.get().to_be_bytes(),
            transaction.currency.as_str().as_bytes(),
            transaction.account_currency.as_str().as_bytes(),
            session.account_index()?.as_bytes(),
            counterparty.as_ref().map_or(&[][..], |index| index.as_bytes()),
            asked.holder_verification.as_str().as_bytes(),
        ]));
        let deadline = deadline.min(Instant::now() + self.settings.deadline);
        let asked = Asked {
            terminal: terminal.clone(),
            key: key.clone(),
            session,
            request_hash,
            arrived_at,
            deadline,
        };
        let gateway = Arc::clone(self);
        let work = async move { gateway.settle_exception(asked).await };
        self.once(&key, request_hash, deadline, work).await
    }

    async fn settle_exception(&self, asked: Asked) -> Result<Answer, GatewayError> {
        if let Some(row) = self.store.decision(&asked.key).await? {
            return self.repeated(row, &asked.request_hash).await;
        }
        let tenant = self.settings.tenant.as_str();
        let attempts_key = asked.session.attempts_key(tenant, &asked.terminal.id);
        let mut unit = self.store.begin().await?;
        let attempts = unit.add_to_counter(&attempts_key, 1, asked.arrived_at).await?;
        unit.commit().await?;
        let key = asked.key.clone();
        let result = self.decide_exception(asked, attempts_key, attempts).await;
        if result.is_err() {
            self.refund(&key, &attempts_key, None).await;
        }
        result
    }

    async fn decide_exception(
        &self,
        asked: Asked,
        attempts_key: Digest,
        attempts: u32,
    ) -> Result<Answer, GatewayError> {
        let Asked { terminal, key, session, request_hash, arrived_at, deadline } = asked;
        let enrolled = self.enrolled(session.customer()?.as_ref(), &[]).await?;
        let Enrolled { standing, subject, keys, templates: _, captures: _ } = enrolled;
        let job = VerificationJob {
            vault: Arc::clone(&self.vault),
            pack: self.packs.current(self.clock.now()).await?,
            packs: Arc::clone(&self.packs),
            entropy: Arc::clone(&self.entropy),
            settings: self.settings.clone(),
            models: Vec::new(),
            receipt: self.new_receipt()?,
            place: self.store.terminal_place(&terminal.id).await?.unwrap_or_default(),
            terminal,
            key,
            request_hash,
            challenge_hash: None,
            signed_by: SignedBy::default(),
            sealed_to: None,
            capture_indices: Vec::new(),
            attempts_key,
            attempts,
            tried: None,
            standing,
            subject: subject.unwrap_or_else(|| session.nobody.clone()),
            session,
            keys,
            guest: None,
            seen: Seen::nothing(),
            captured_at: arrived_at,
            stage: Stage::Asked,
            salts: Salts { transaction: random_bytes(&*self.entropy)?, footage: None },
            clip: None,
            evidence: None,
            kept_hash: None,
            face_print: None,
            looked_by: None,
            audit_salt: random_bytes(&*self.entropy)?,
            deadline,
        };
        // On the heap: with the job in it the future is large.
        Box::pin(self.decided_by(job, Which::First)).await
    }

    /// Proposes to mark a customer as unable to give a biometric.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Exists`] when they are marked.
    pub async fn propose_unable(
        &self,
        actor: &Actor,
        customer: &CustomerId,
        evidence_ref: &str,
    ) -> Result<(), GatewayError> {
        let keys = self.customer_keys(customer).await?.ok_or(GatewayError::NotFound("customer"))?;
        let record = Zeroizing::new(json!({ "evidence_ref": evidence_ref }).to_string());
        let sealed = keys.seal(&self.unable_place(customer), record.as_bytes(), &*self.entropy)?;
        let row = UnableRow {
            customer: *customer,
            proposed_by: actor.name.clone(),
            proposed_key: actor.spki,
            sealed,
            proposed_at: self.clock.now(),
            approved_at: None,
        };
        let subject = Some(keys.pseudonym(&self.settings.tenant, customer));
        let act = Act { act: "unable_proposed", actor, subject, terminal: None };
        self.perform(act, vec![Write::ProposeUnable(Box::new(row))]).await.map(drop)
    }

    /// Approves what somebody else proposed on the same evidence. A customer without captures becomes
    /// active by it.
    ///
    /// # Errors
    ///
    /// [`GatewayError::State`] when nothing is proposed, or by the same person.
    pub async fn approve_unable(
        &self,
        actor: &Actor,
        customer: &CustomerId,
        evidence_ref: &str,
    ) -> Result<(), GatewayError> {
        let keys = self.customer_keys(customer).await?.ok_or(GatewayError::NotFound("customer"))?;
        let row = self.store.unable(customer).await?.filter(|row| row.approved_at.is_none());
        let row = row.ok_or(GatewayError::State("nothing is proposed for the customer"))?;
        let plain = keys.open(&self.unable_place(customer), &row.sealed)?;
        let record: serde_json::Value = serde_json::from_slice(&plain)
            .map_err(|cause| GatewayError::internal("a mark of inability", cause))?;
        if record.get("evidence_ref").and_then(serde_json::Value::as_str) != Some(evidence_ref) {
            return Err(GatewayError::Invalid {
                field: "evidence_ref",
                problem: "it is not the evidence that was proposed",
            });
        }
        let subject = Some(keys.pseudonym(&self.settings.tenant, customer));
        let act = Act { act: "unable_approved", actor, subject, terminal: None };
        let (name, key) = (actor.name.clone(), actor.spki);
        // The very proposal that was looked at: another one in between is not approved by this.
        let write = Write::ApproveUnable(Box::new(row), name, key);
        self.perform(act, vec![write]).await.map(drop)
    }

    /// Takes a mark or a proposal away. A customer without captures is pending again.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when there is none.
    pub async fn clear_unable(
        &self,
        actor: &Actor,
        customer: &CustomerId,
    ) -> Result<(), GatewayError> {
        let subject = Some(self.subject_of(customer).await?);
        let act = Act { act: "unable_cleared", actor, subject, terminal: None };
        self.perform(act, vec![Write::ClearUnable(*customer)]).await.map(drop)
    }

    fn unable_place(&self, customer: &CustomerId) -> Place {
        let tenant = self.settings.tenant.as_str();
        Place::of_customer("unable", "sealed", tenant, customer, customer.as_bytes())
    }
}
