//! Enrolment: a customer, their tokens and captures, activation with the search for duplicates.

use serde_json::json;
use zeroize::Zeroizing;

use super::Gateway;
use super::act::{Act, DIFFERENT_PEOPLE, Write, receipt_actor};
use super::error::GatewayError;
use super::locks::LockWrite;
use super::proposal::{Acted, Content as Proposed};
use super::request::{
    Actor, BindToken, Consent, ConsentTerm, CreateCustomer, CustomerAnswer, DuplicateResolution,
    Logged,
};
use crate::crypto::random_bytes;
use crate::domain::four_eyes::TwoPersonAct;
use crate::domain::id::CustomerId;
use crate::domain::time::UnixMillis;
use crate::domain::transaction::{OpaqueToken, TokenKind};
use crate::receipt::{Content, Erasure};
use crate::store::{ConsentRow, CustomerRow, CustomerStatus, SAME_PERSON, TokenRow};
use crate::vault::Place;

impl Gateway {
    /// Creates a customer with a consent; they cannot be verified before activation.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Exists`] when the IIN is enrolled; [`GatewayError::Invalid`] for a consent
    /// without its fields.
    pub async fn create_customer(
        &self,
        actor: &Actor,
        request: CreateCustomer,
    ) -> Result<CustomerId, GatewayError> {
        let CreateCustomer { iin, consent } = request;
        check_consent(&consent, self.clock.now())?;
        let tenant = &self.settings.tenant;
        let id = CustomerId::new(random_bytes(&*self.entropy)?);
        let (keys, key_row) = self.vault.new_customer(tenant, &id, &*self.entropy)?;
        let iin_text = std::str::from_utf8(iin.expose())
            .map_err(|cause| GatewayError::internal("IIN", cause))?;
        let record = json!({
            "iin": iin_text,
            "consent": consent_json(&consent),
        });
        let plain = Zeroizing::new(record.to_string().into_bytes());
        let place =
            Place::of_customer("customers", "sealed_record", tenant.as_str(), &id, id.as_bytes());
        let now = self.clock.now();
        let row = CustomerRow {
            id,
            status: CustomerStatus::Pending,
            iin_index: Some(self.vault.iin_index(tenant, &iin)),
            sealed_record: keys.seal(&place, &plain, &*self.entropy)?,
            created_at: now,
            updated_at: now,
            activated_at: None,
        };
        let subject = Some(keys.pseudonym(tenant, &id));
        let act = Act { act: "customer_created", actor, subject, terminal: None };
        let consent = ConsentRow { customer: id, until: ends_at(&consent), end: None };
        let writes =
            vec![Write::InsertCustomer(Box::new(row), key_row), Write::PutConsent(consent)];
        self.perform(act, writes).await?;
        Ok(id)
    }

    /// Binds a token that terminals will know the customer by.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Exists`] when it is bound to anyone.
    pub async fn bind_token(&self, actor: &Actor, request: BindToken) -> Result<(), GatewayError> {
        let BindToken { customer, kind, token, expires_at } = request;
        let now = self.clock.now();
        if expires_at.is_some_and(|at| at <= now) {
            return Err(GatewayError::Invalid {
                field: "expires_at",
                problem: "it is in the past",
            });
        }
        let subject = self.subject_of(&customer).await?;
        let index = self.vault.token_index(&self.settings.tenant, kind, &token);
        let row = TokenRow { index, customer, kind, bound_at: now, expires_at };
        let act = Act { act: "token_bound", actor, subject: Some(subject), terminal: None };
        self.perform(act, vec![Write::InsertToken(row)]).await.map(drop)
    }

    /// Removes a token.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when it is not bound to this customer.
    pub async fn unbind_token(
        &self,
        actor: &Actor,
        customer: &CustomerId,
        kind: TokenKind,
        token: &OpaqueToken,
    ) -> Result<(), GatewayError> {
        let subject = self.subject_of(customer).await?;
        let index = self.vault.token_index(&self.settings.tenant, kind, token);
        let act = Act { act: "token_unbound", actor, subject: Some(subject), terminal: None };
        self.perform(act, vec![Write::DeleteToken(index, *customer)]).await.map(drop)
    }

    /// Records what a person decided about suspected duplicates.
    ///
    /// # Errors
    ///
    /// [`GatewayError::State`] when the customer waits for no such decision.
    pub async fn resolve_duplicate(
        &self,
        actor: &Actor,
        customer: &CustomerId,
        resolution: DuplicateResolution,
    ) -> Result<CustomerStatus, GatewayError> {
        let subject = self.subject_of(customer).await?;
        let _turn = self.activation.lock().await;
        let (word, to) = match resolution {
            DuplicateResolution::DifferentPeople => (DIFFERENT_PEOPLE, CustomerStatus::Active),
            DuplicateResolution::SamePerson => (SAME_PERSON, CustomerStatus::Suspended),
        };
        let act = Act { act: "duplicate_resolved", actor, subject: Some(subject), terminal: None };
        let writes = vec![
            Write::SetStatus(*customer, &[CustomerStatus::PendingDuplicate], to),
            Write::ResolveDuplicates(*customer, word),
        ];
        let performed = self.perform(act, writes).await;
        self.refresh_gallery(customer).await?;
        performed?;
        Ok(to)
    }

    /// Suspends an active customer.
    ///
    /// # Errors
    ///
    /// [`GatewayError::State`] when they are not active.
    pub async fn suspend(&self, actor: &Actor, customer: &CustomerId) -> Result<(), GatewayError> {
        let subject = Some(self.subject_of(customer).await?);
        let act = Act { act: "customer_suspended", actor, subject, terminal: None };
        let write =
            Write::SetStatus(*customer, &[CustomerStatus::Active], CustomerStatus::Suspended);
        self.perform(act, vec![write]).await.map(drop)
    }

    /// Makes a suspended customer active again.
    ///
    /// # Errors
    ///
    /// [`GatewayError::State`] when they are not suspended.
    pub async fn resume(&self, actor: &Actor, customer: &CustomerId) -> Result<(), GatewayError> {
        let subject = Some(self.subject_of(customer).await?);
        let act = Act { act: "customer_resumed", actor, subject, terminal: None };
        let writes = vec![
            Write::RefuseSamePerson(*customer),
            Write::SetStatus(*customer, &[CustomerStatus::Suspended], CustomerStatus::Active),
        ];
        self.perform(act, writes).await.map(drop)
    }

    /// Destroys a customer's keys and everything sealed under them, or proposes it where that takes two
    /// people. Receipts stay; nothing links them to the person any more.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when there is no such customer; [`GatewayError::Exists`] when it is proposed
    /// already; [`GatewayError::Store`] when they are erased and that could not be remembered outside the
    /// database: the same call again remembers it.
    pub async fn erase(
        &self,
        actor: &Actor,
        customer: &CustomerId,
    ) -> Result<Acted<Logged>, GatewayError> {
        let act = TwoPersonAct::Erasure;
        if !self.settings.four_eyes.covers(act) {
            return self.erase_now(actor, customer, Vec::new()).await.map(Acted::Done);
        }
        let subject = self.subject_to_erase(customer).await?;
        let asked =
            self.propose_act(actor, act, Some(*customer), subject, Proposed::Nothing, vec![]);
        Ok(Acted::Waits(Box::new(asked.await?)))
    }

    /// The pseudonym of somebody who is to be erased; whoever is erased is remembered so.
    async fn subject_to_erase(&self, customer: &CustomerId) -> Result<String, GatewayError> {
        match self.subject_of(customer).await {
            Ok(subject) => Ok(subject),
            Err(error) => {
                self.mark_if_erased(customer).await?;
                Err(error)
            }
        }
    }

    /// Erases, after these writes.
    pub(super) async fn erase_now(
        &self,
        actor: &Actor,
        customer: &CustomerId,
        mut writes: Vec<Write>,
    ) -> Result<Logged, GatewayError> {
        let subject = self.subject_to_erase(customer).await?;
        let _turn = self.activation.lock().await;
        let content = Content::Erasure(Erasure {
            actor: receipt_actor(actor),
            subject: Some(subject),
            bodies: Vec::new(),
            footage: Vec::new(),
            evidence: Vec::new(),
            reason: "customer_request".to_owned(),
        });
        let tries = self.vault.tries_of_customer(&self.settings.tenant, customer);
        writes.push(Write::Erase(*customer));
        writes.push(Write::Lock(LockWrite::ForgetTries(tries)));
        let performed = self.perform_as(content, None, writes).await;
        self.settle_erasure(customer, performed).await
    }

    /// What follows an erasure's commit: a backup of before must not bring them back, which is remembered
    /// before anybody is told, whatever becomes of the gallery.
    pub(super) async fn settle_erasure(
        &self,
        customer: &CustomerId,
        performed: Result<Logged, GatewayError>,
    ) -> Result<Logged, GatewayError> {
        let marked = if performed.is_ok() { self.mark_erased(customer) } else { Ok(()) };
        self.refresh_gallery(customer).await?;
        marked?;
        performed
    }

    /// One customer, without anything personal.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when there is none.
    pub async fn customer(&self, id: &CustomerId) -> Result<CustomerAnswer, GatewayError> {
        let row = self.store.customer(id).await?.ok_or(GatewayError::NotFound("customer"))?;
        self.describe(row).await
    }

    /// Customers in the order of their ids, after the given one.
    ///
    /// # Errors
    ///
    /// What the store cannot do.
    pub async fn customers(
        &self,
        after: Option<&CustomerId>,
        limit: u32,
    ) -> Result<Vec<CustomerAnswer>, GatewayError> {
        let mut answers = Vec::new();
        for row in self.store.customers(after, limit).await? {
            answers.push(self.describe(row).await?);
        }
        Ok(answers)
    }

    async fn describe(&self, row: CustomerRow) -> Result<CustomerAnswer, GatewayError> {
        let captures = self.store.captures(&row.id).await?;
        let tokens = self.store.tokens(&row.id).await?;
        let duplicates = self.store.duplicates(&row.id).await?;
        let open = duplicates.iter().filter(|duplicate| duplicate.resolution.is_none());
        Ok(CustomerAnswer {
            id: row.id,
            status: row.status,
            created_at: row.created_at,
            updated_at: row.updated_at,
            captures: captures.iter().map(|capture| (capture.id, capture.modality)).collect(),
            tokens: tokens.iter().map(|token| token.kind).collect(),
            duplicates: open.map(|duplicate| duplicate.other).collect(),
            needs_second_person: self.needs_second_person(&row.id).await?,
            locks: self.locks_of(&row.id).await?,
            consent: self.store.consent(&row.id).await?,
        })
    }

    /// A customer's pseudonym; an erased customer has none and is not found.
    pub(super) async fn subject_of(&self, id: &CustomerId) -> Result<String, GatewayError> {
        let keys = self.customer_keys(id).await?.ok_or(GatewayError::NotFound("customer"))?;
        Ok(keys.pseudonym(&self.settings.tenant, id))
    }
}

/// A consent as it is sealed.
pub(super) fn consent_json(consent: &Consent) -> serde_json::Value {
    json!({
        "operator": consent.operator,
        "subject": consent.subject,
        "purpose": consent.purpose,
        "until": ends_at(consent).rfc3339(),
        "given_at": consent.given_at.rfc3339(),
        "evidence_ref": consent.evidence_ref,
    })
}

pub(super) fn check_consent(consent: &Consent, now: UnixMillis) -> Result<(), GatewayError> {
    let ends = ends_at(consent);
    let invalid = |problem| Err(GatewayError::Invalid { field: "consent.term", problem });
    if ends <= consent.given_at {
        return invalid("it ends before it begins");
    }
    if ends <= now {
        return invalid("it is over");
    }
    Ok(())
}

/// The first instant at which it holds no more.
fn ends_at(consent: &Consent) -> UnixMillis {
    match consent.until {
        ConsentTerm::Days(days) => consent.given_at.plus_millis(i64::from(days) * 86_400_000),
        ConsentTerm::Until(until) => until,
    }
}
