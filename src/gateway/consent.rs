//! Consents: whose holds, what ends one, and what is done with somebody whose consent has ended.
//!
//! An end is an entry, and from its transaction on nothing can be done with the person: whatever names them at
//! a terminal is gone, and they are compared with no more. What no law wants kept is destroyed in the same
//! transaction. The rest stays sealed until its time is over; then the retention clerk erases it, behind an
//! entry of its own. A consent whose term is over holds no more from that instant on, whether or not the clerk
//! has entered it yet.
//!
//! Who withdrew is remembered outside the database like who was erased, so that a restored one brings no
//! consent back.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Gateway;
use super::act::{Write, erase, receipt_actor};
use super::error::GatewayError;
use super::evidence::unavailable;
use super::locks::LockWrite;
use super::packs::Packs;
use super::proposal::end_proposals_about;
use super::request::{Actor, Logged};
use super::sequencer::Slot;
use crate::crypto::Digest;
use crate::domain::case::CaseStatus;
use crate::domain::id::CustomerId;
use crate::domain::time::UnixMillis;
use crate::receipt::{self, Administration, Content, Erasure};
use crate::store::{ConsentCause, ConsentEnd, ConsentRow, CustomerRow, Stays, UnitOfWork};
use crate::vault::{CustomerKeys, Place};

/// What anything that rests on a consent is refused with where there is none.
pub(super) const NO_CONSENT: GatewayError =
    GatewayError::State("the customer's consent was withdrawn, or its term is over");

/// What a write is refused with that another one has overtaken.
pub(super) const NOTHING_DUE: &str = "nothing is due";

/// A withdrawn consent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Withdrawal {
    /// The entry that says so.
    pub entry: Logged,
    /// The entry of the erasure, where this call erased.
    pub erasure: Option<Logged>,
    /// Until when something is kept; none of somebody who is erased.
    pub kept_until: Option<UnixMillis>,
    /// Whether a case that was not released is what keeps them from being erased.
    pub waits_for_case: bool,
}

/// The end of a consent before its entry.
#[derive(Clone)]
pub(super) struct EndsConsent {
    customer: CustomerId,
    cause: ConsentCause,
    /// When it ended.
    at: UnixMillis,
    keep_until: UnixMillis,
    keeps_templates: bool,
    /// Which pack says what is kept; it must be in force at the entry.
    policy: Digest,
    packs: Arc<Packs>,
}

impl EndsConsent {
    /// Ends the consent and blocks the customer; the index of the entry that told of it before.
    pub async fn apply(
        &self,
        unit: &mut dyn UnitOfWork,
        slot: &Slot,
    ) -> Result<Option<u64>, GatewayError> {
        let Self { customer, cause, at, keep_until, keeps_templates, policy, packs } = self;
        let row = unit.consent(customer).await?.ok_or(GatewayError::NotFound("customer"))?;
        match row.end {
            Some(end) if end.cause == *cause => return Ok(Some(end.index)),
            Some(_) => return Err(GatewayError::State("the consent has ended already")),
            None => {}
        }
        if *cause == ConsentCause::Expired && row.until > slot.now {
            return Err(GatewayError::State(NOTHING_DUE));
        }
        if packs.at(unit, slot.now).await?.hash() != *policy {
            return Err(GatewayError::State("another pack came into force: ask again"));
        }
        let end = ConsentEnd { cause: *cause, at: *at, keep_until: *keep_until, index: slot.place };
        unit.put_consent(&ConsentRow { end: Some(end), ..row }).await?;
        // Ending and enrolling again must not lift a hold.
        let number = has_case(unit, customer).await?;
        let stays = Stays { templates: *keeps_templates, number };
        end_proposals_about(unit, customer, None, slot).await?;
        if unit.block_customer(customer, stays, slot.now).await? {
            Ok(None)
        } else {
            Err(GatewayError::NotFound("customer"))
        }
    }
}

/// Erases somebody whose consent has ended and of whom nothing must be kept any more.
pub(super) async fn erase_ended(
    unit: &mut dyn UnitOfWork,
    customer: &CustomerId,
    slot: &Slot,
) -> Result<(), GatewayError> {
    let end = unit.consent(customer).await?.and_then(|row| row.end);
    let is_due = end.is_some_and(|end| end.keep_until <= slot.now);
    if !is_due || has_case(unit, customer).await? {
        return Err(GatewayError::State(NOTHING_DUE));
    }
    erase(unit, customer, slot).await
}

/// Refuses, inside a transaction, what rests on a consent that does not hold.
pub(super) async fn require_consent(
    unit: &mut dyn UnitOfWork,
    customer: &CustomerId,
    now: UnixMillis,
) -> Result<(), GatewayError> {
    if holds(unit, customer, now).await? { Ok(()) } else { Err(NO_CONSENT) }
}

/// Whether a customer's consent holds, inside a transaction.
pub(super) async fn holds(
    unit: &mut dyn UnitOfWork,
    customer: &CustomerId,
    now: UnixMillis,
) -> Result<bool, GatewayError> {
    Ok(unit.consent(customer).await?.is_some_and(|row| row.holds(now)))
}

/// Whether a case about a customer was not released.
pub(super) async fn has_case(
    unit: &mut dyn UnitOfWork,
    id: &CustomerId,
) -> Result<bool, GatewayError> {
    let cases = unit.cases_of(id).await?;
    Ok(cases.iter().any(|case| case.status != CaseStatus::Released))
}

impl Gateway {
    /// Ends a consent that the customer takes back, and erases what no law wants kept. The same call again finds
    /// the same entry, and does what a failure left undone.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when there is no such customer, or they are erased;
    /// [`GatewayError::State`] when the term was over before; [`GatewayError::Store`] also when it could not
    /// be remembered outside the database: the same call again remembers it.
    pub async fn withdraw_consent(
        &self,
        actor: &Actor,
        customer: &CustomerId,
        evidence_ref: &str,
    ) -> Result<Withdrawal, GatewayError> {
        let subject = match self.subject_of(customer).await {
            Ok(subject) => subject,
            Err(error) => {
                self.mark_if_erased(customer).await?;
                return Err(error);
            }
        };
        let told = json!({ "evidence_ref": evidence_ref });
        let ended = Ended { cause: ConsentCause::Withdrawn, subject: Some(subject), told };
        let entry = self.end_consent(receipt_actor(actor), customer, ended).await?;
        // A backup of before must not bring it back: that is remembered before anybody is told.
        self.mark_withdrawn(customer)?;
        let erasure = self.erase_if_due(receipt_actor(actor), customer).await?;
        let row = self.store.consent(customer).await?;
        let kept_until = row.and_then(|row| row.end).map(|end| end.keep_until);
        let waits_for_case = kept_until.is_some_and(|until| until <= self.clock.now());
        Ok(Withdrawal { entry, erasure, kept_until, waits_for_case })
    }

    /// Enters that a consent's term is over.
    pub(super) async fn expire_consent(
        &self,
        actor: receipt::Actor,
        customer: &CustomerId,
    ) -> Result<Logged, GatewayError> {
        // Keys that do not open keep nobody longer than they must be kept.
        let subject = self.subject_of(customer).await.ok();
        let ended = Ended { cause: ConsentCause::Expired, subject, told: json!({}) };
        self.end_consent(actor, customer, ended).await
    }

    async fn end_consent(
        &self,
        actor: receipt::Actor,
        customer: &CustomerId,
        Ended { cause, subject, told }: Ended,
    ) -> Result<Logged, GatewayError> {
        let row = self.store.consent(customer).await?;
        let row = row.ok_or(GatewayError::NotFound("customer"))?;
        let now = self.clock.now();
        let (act, at) = match cause {
            ConsentCause::Withdrawn => ("consent_withdrawn", now),
            ConsentCause::Expired => ("consent_expired", row.until),
        };
        let pack = self.packs.current(now).await?;
        let law = pack.after_consent();
        let ends = EndsConsent {
            customer: *customer,
            cause,
            at,
            keep_until: law.keep_until(at),
            keeps_templates: law.keeps_templates(),
            policy: pack.hash(),
            packs: Arc::clone(&self.packs),
        };
        let record = json!({
            "told": told,
            "ended_at": at.rfc3339(),
            "keep_until": ends.keep_until.rfc3339(),
            "keeps_templates": ends.keeps_templates,
            "legal_basis": law.legal_basis,
            "policy": pack.hash().labelled(),
        });
        let act = Administration { act: act.to_owned(), actor, subject, details: None };
        // Nobody activates them, or adds a capture, in between.
        let _turn = self.activation.lock().await;
        let writes = vec![Write::EndConsent(Box::new(ends))];
        let performed = self.perform_recorded(act, &record, writes).await;
        self.refresh_gallery(customer).await?;
        // Whoever waits for their confirmation waits no more.
        self.confirmations.send_replace(());
        performed
    }

    /// Erases somebody whose consent has ended, if nothing of them must be kept any more; the entry, if this
    /// call did it.
    pub(super) async fn erase_if_due(
        &self,
        actor: receipt::Actor,
        customer: &CustomerId,
    ) -> Result<Option<Logged>, GatewayError> {
        let subject = self.subject_of(customer).await.ok();
        let content = Content::Erasure(Erasure {
            actor,
            subject,
            bodies: Vec::new(),
            footage: Vec::new(),
            evidence: Vec::new(),
            reason: "consent_ended".to_owned(),
        });
        let tries = self.vault.tries_of_customer(&self.settings.tenant, customer);
        let writes = vec![Write::EraseEnded(*customer), Write::Lock(LockWrite::ForgetTries(tries))];
        let _turn = self.activation.lock().await;
        let performed = self.perform_as(content, None, writes).await;
        match self.settle_erasure(customer, performed).await {
            Ok(logged) => Ok(Some(logged)),
            Err(GatewayError::State(NOTHING_DUE)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Refuses what rests on a consent that does not hold, before anything is looked at.
    pub(super) async fn require_consent(&self, customer: &CustomerId) -> Result<(), GatewayError> {
        let row = self.store.consent(customer).await?;
        if row.is_some_and(|row| row.holds(self.clock.now())) { Ok(()) } else { Err(NO_CONSENT) }
    }

    /// Whether a customer's consent holds, as far as it is committed.
    pub(super) async fn consents(
        &self,
        customer: &CustomerId,
        now: UnixMillis,
    ) -> Result<bool, GatewayError> {
        Ok(self.store.consent(customer).await?.is_some_and(|row| row.holds(now)))
    }

    fn mark_withdrawn(&self, customer: &CustomerId) -> Result<(), GatewayError> {
        let mark = self.vault.withdrawn_mark(&self.settings.tenant, customer);
        tokio::task::block_in_place(|| self.erased.add(&mark)).map_err(unavailable)
    }

    /// Notes the consents that no row tells of yet, and holds who withdrew against the record outside the
    /// database; before anything is served.
    pub(super) async fn settle_consents(&self) -> Result<(), GatewayError> {
        self.note_consents().await?;
        let marks = self.erased.marks();
        let (mut after, mut ended) = (None, 0u64);
        loop {
            let rows = self.store.consents(after.as_ref(), PAGE).await?;
            let Some(last) = rows.last() else { break };
            after = Some(last.customer);
            for row in rows {
                let mark = self.vault.withdrawn_mark(&self.settings.tenant, &row.customer);
                let cause = row.end.map(|end| end.cause);
                match (cause, marks.contains(&mark)) {
                    (Some(ConsentCause::Withdrawn), false) => self.mark_withdrawn(&row.customer)?,
                    (None, true) => {
                        self.withdraw_again(&row.customer).await?;
                        ended += 1;
                    }
                    _ => {}
                }
            }
        }
        if ended > 0 {
            tracing::warn!(
                ended,
                "the database was older than the record of withdrawn consents: they are withdrawn again"
            );
        }
        Ok(())
    }

    async fn withdraw_again(&self, customer: &CustomerId) -> Result<(), GatewayError> {
        let actor = self.signing.own_actor(&self.open_ledger()?)?;
        let subject = self.subject_of(customer).await.ok();
        let told = json!({ "restored_database": true });
        let ended = Ended { cause: ConsentCause::Withdrawn, subject, told };
        self.end_consent(actor, customer, ended).await.map(drop)
    }

    /// Customers of an older version, and of older backups: until when their consent holds stands in their
    /// sealed record alone.
    async fn note_consents(&self) -> Result<(), GatewayError> {
        let mut after = None;
        loop {
            let ids = self.store.customers_without_consent(after.as_ref(), PAGE).await?;
            let Some(last) = ids.last() else { return Ok(()) };
            after = Some(*last);
            let mut rows = Vec::with_capacity(ids.len());
            for id in ids {
                match self.consent_in_record(&id).await {
                    Ok(row) => rows.push(row),
                    // Whose record does not open cannot be verified; the others can.
                    Err(error) => {
                        tracing::error!(code = error.code(), error = %error, "a consent cannot be read: its customer is not verified");
                    }
                }
            }
            let mut unit = self.store.begin().await?;
            for row in &rows {
                unit.put_consent(row).await?;
            }
            unit.commit().await?;
        }
    }

    async fn consent_in_record(&self, id: &CustomerId) -> Result<ConsentRow, GatewayError> {
        const BROKEN: &str = "a sealed record does not parse";
        let row = self.store.customer(id).await?.ok_or(GatewayError::NotFound("customer"))?;
        let keys = self.customer_keys(id).await?.ok_or(GatewayError::NotFound("customer"))?;
        let plain = self.opened_record(&row, &keys)?;
        consent_row(*id, &plain).ok_or(GatewayError::broken(BROKEN))
    }

    fn opened_record(
        &self,
        row: &CustomerRow,
        keys: &CustomerKeys,
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, GatewayError> {
        let tenant = self.settings.tenant.as_str();
        let place =
            Place::of_customer("customers", "sealed_record", tenant, &row.id, row.id.as_bytes());
        Ok(keys.open(&place, &row.sealed_record)?)
    }
}

/// Why a consent ends, and what of it only an auditor may see.
struct Ended {
    cause: ConsentCause,
    subject: Option<String>,
    told: Value,
}

/// The row of a consent that stands in a sealed record.
pub(super) fn consent_row(customer: CustomerId, record: &[u8]) -> Option<ConsentRow> {
    let record: Value = serde_json::from_slice(record).ok()?;
    let until = record.get("consent")?.get("until")?.as_str()?;
    Some(ConsentRow { customer, until: UnixMillis::parse_rfc3339(until).ok()?, end: None })
}

/// Rows read at once.
const PAGE: u32 = 1_000;
