//! What the application's back end asks and answers for customers, and what the terminal waits for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Gateway;
use super::act::{Act, Write, receipt_actor};
use super::confirming::{Kept, NOT_YET, Shown, Stage, Standing, confirmation_message, seconds_ms};
use super::customer::standing_of;
use super::error::GatewayError;
use super::request::{Actor, Answer, Logged, Salts};
use super::session::digest_from_hex;
use super::verification::{CallingTerminal, Which};
use super::verification_job::VerificationJob;
use crate::crypto::{Digest, PublicKey, length_prefixed, random_bytes, sha256};
use crate::domain::id::{ConfirmationId, CustomerId, PrincipalName, TerminalId};
use crate::domain::time::UnixMillis;
use crate::domain::transaction::{CustomerReference, DecisionKey};
use crate::ledger::{LogPosition, Origin};
use crate::policy::CustomerStanding;
use crate::receipt::{Administration, Content};
use crate::store::{AnswerKind, AppKeyRow, ConfirmationAnswer, ConfirmationRow, PendingOf};

/// Most confirmations in one answer.
const PENDING_MAX: u32 = 100;
/// Most keys of one customer's devices.
pub(super) const APP_KEYS_MAX: usize = 5;
/// Between two looks at a confirmation that was not ready after all.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Kept free at the end of a call's time, for the answer to be made.
const ANSWER_TIME: Duration = Duration::from_millis(500);

/// A transaction that waits for its customer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pending {
    /// The confirmation.
    pub id: ConfirmationId,
    /// Whose it is.
    pub customer: CustomerId,
    /// What is shown and signed.
    pub shown: Shown,
    /// Until when it may be answered.
    pub expires_at: UnixMillis,
    /// Where the first decision stands.
    pub position: LogPosition,
    /// Whether it is of somebody who is unable to give a biometric: then two tellers may agree.
    pub is_exception: bool,
    /// The first of two tellers, and when they agreed.
    pub first: Option<(PrincipalName, UnixMillis)>,
}

/// A customer's signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed {
    /// Which key.
    pub key: Digest,
    /// Its signature.
    pub signature: Vec<u8>,
}

/// An agreement that stands in the ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Confirmed {
    /// The entry.
    pub entry: Logged,
    /// Until when it counts.
    pub counts_until: UnixMillis,
}

/// What a terminal finds that waits for its customer.
#[derive(Debug)]
pub enum Awaited {
    /// The customer has not answered; they may until then.
    Waiting(UnixMillis),
    /// They agreed, and it counts until then; but a fresh capture is needed.
    CaptureAgain(UnixMillis),
    /// The final decision.
    Decided(Box<Answer>),
}

impl Gateway {
    /// What waits for one customer; nothing for nobody.
    ///
    /// # Errors
    ///
    /// What the store cannot do.
    pub async fn pending_of(
        &self,
        reference: &CustomerReference,
    ) -> Result<Vec<Pending>, GatewayError> {
        match self.resolve(reference, self.clock.now()).await?.customer {
            Some(customer) => self.pending(PendingOf::Customer(&customer), 0).await,
            None => Ok(Vec::new()),
        }
    }

    /// The place to go on behind: of an index of a ledger, of the open one where none is named.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] for a ledger that is not this gateway's.
    pub fn pending_after(&self, origin: Option<&Origin>, index: u64) -> Result<u64, GatewayError> {
        let (ledgers, _) = self.view.recorded()?;
        if origin.is_none() && index == 0 {
            return Ok(0);
        }
        let place = ledgers.place(origin.unwrap_or_else(|| ledgers.open()), index);
        place.ok_or(GatewayError::NotFound("receipt"))
    }

    /// What waits for anybody behind an index of the ledger; waits for something to come up.
    ///
    /// # Errors
    ///
    /// What the store cannot do.
    pub async fn await_pending(
        &self,
        after: u64,
        until: Instant,
    ) -> Result<Vec<Pending>, GatewayError> {
        let mut changes = self.confirmations.subscribe();
        loop {
            changes.borrow_and_update();
            let pending = self.pending(PendingOf::Anybody, after).await?;
            if !pending.is_empty() || timeout_at(until, changes.changed()).await.is_err() {
                return Ok(pending);
            }
        }
    }

    pub(super) async fn pending(
        &self,
        of: PendingOf<'_>,
        after: u64,
    ) -> Result<Vec<Pending>, GatewayError> {
        let now = self.clock.now();
        let rows = self.store.pending_confirmations(of, after, now, PENDING_MAX).await?;
        let mut pending = Vec::with_capacity(rows.len());
        for row in rows {
            // Erased in between: nothing waits for nobody.
            let Some(kept) = self.kept_for(&row).await? else { continue };
            let is_exception = kept.is_exception();
            let first = row.proposal.map(|first| (first.by, first.at));
            let ConfirmationRow { id, customer, expires_at, index, .. } = row;
            let shown = kept.shown;
            let position = self.position(index)?;
            pending.push(Pending {
                id,
                customer,
                shown,
                expires_at,
                position,
                is_exception,
                first,
            });
        }
        Ok(pending)
    }

    pub(super) async fn kept_for(
        &self,
        row: &ConfirmationRow,
    ) -> Result<Option<Kept>, GatewayError> {
        let Some(keys) = self.customer_keys(&row.customer).await? else { return Ok(None) };
        Kept::open(self.settings.tenant.as_str(), &keys, row).map(Some)
    }

    /// Takes a customer's agreement: with their key's signature, or by the back end's word where the
    /// rules take it.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Invalid`] for a signature or key that does not fit, [`GatewayError::State`] when
    /// it is answered or its time is over. Whatever is refused confirms nothing.
    pub async fn confirm(
        &self,
        actor: &Actor,
        id: &ConfirmationId,
        signed: Option<Signed>,
    ) -> Result<Confirmed, GatewayError> {
        let missing = GatewayError::NotFound("confirmation");
        let Some(row) = self.store.confirmation(id).await? else { return Err(missing) };
        let pack = self.packs.current(self.clock.now()).await?;
        let answering = match signed {
            None if pack.bars().accept_back_end_word => {
                Answering::unsigned(AnswerKind::BackEnd, "transaction_confirmed")
            }
            None => {
                return Err(GatewayError::Invalid {
                    field: "signature",
                    problem: "it is missing, and the rules do not take the back end's word",
                });
            }
            Some(Signed { key, signature }) => {
                let kept = self.kept_for(&row).await?.ok_or(missing)?;
                let message = confirmation_message(id, &kept.shown);
                let device = self.device_key(&row.customer, &key).await?;
                device.verify_either_form(&message, &signature).map_err(|_| {
                    GatewayError::Invalid {
                        field: "signature",
                        problem: "it is not this key's over what was shown",
                    }
                })?;
                let proof = [&b"tulga-confirmation-proof-v1"[..], &message, &signature];
                let details = sha256(&length_prefixed(&proof)).labelled();
                Answering {
                    app_key: Some(key),
                    signature,
                    details: Some(details),
                    ..Answering::unsigned(AnswerKind::CustomerKey, "transaction_confirmed")
                }
            }
        };
        self.agree(actor, row, answering).await
    }

    /// Takes an agreement; until when it counts is known with its entry.
    pub(super) async fn agree(
        &self,
        actor: &Actor,
        row: ConfirmationRow,
        answering: Answering,
    ) -> Result<Confirmed, GatewayError> {
        let id = row.id;
        let entry = self.answer(actor, row, answering).await?;
        let answer = self.store.confirmation(&id).await?.and_then(|row| row.answer);
        let answer = answer.ok_or(GatewayError::broken("an answer is missing"))?;
        Ok(Confirmed { entry, counts_until: answer.counts_until })
    }

    /// Takes a customer's refusal.
    ///
    /// # Errors
    ///
    /// [`GatewayError::State`] when it is answered or its time is over.
    pub async fn decline(
        &self,
        actor: &Actor,
        id: &ConfirmationId,
    ) -> Result<Logged, GatewayError> {
        let row = self.store.confirmation(id).await?;
        let row = row.ok_or(GatewayError::NotFound("confirmation"))?;
        let answering = Answering::unsigned(AnswerKind::Declined, "transaction_declined");
        self.answer(actor, row, answering).await
    }

    async fn answer(
        &self,
        actor: &Actor,
        row: ConfirmationRow,
        answering: Answering,
    ) -> Result<Logged, GatewayError> {
        let Answering { kind, act, details, app_key, signature, before } = answering;
        let receipt = self.new_receipt()?;
        let subject = self.customer_keys(&row.customer).await?;
        let subject = subject.map(|keys| keys.pseudonym(&self.settings.tenant, &row.customer));
        let content = Content::Administration(Administration {
            act: act.to_owned(),
            actor: receipt_actor(actor),
            subject,
            details,
        });
        let pack = self.packs.current(self.clock.now()).await?;
        let counts_s = match kind {
            AnswerKind::TwoTellers => pack.bars().exception_ttl_s,
            _ => pack.bars().confirmation_ttl_s,
        };
        // Time and place are the entry's own, and are set where they are known.
        let answer = ConfirmationAnswer {
            kind,
            at: row.created_at,
            counts_until: row.created_at,
            receipt,
            index: 0,
            app_key,
            signature,
        };
        let write = Write::AnswerConfirmation(row.id, Box::new(answer), seconds_ms(counts_s));
        let writes = before.into_iter().chain([write]).collect();
        let terminal = Some(row.key.terminal.clone());
        let logged = self.perform_under(receipt, content, terminal, writes).await;
        // Whatever became of it: who waits looks again.
        self.confirmations.send_replace(());
        logged
    }

    pub(super) async fn device_key(
        &self,
        customer: &CustomerId,
        fingerprint: &Digest,
    ) -> Result<PublicKey, GatewayError> {
        let keys = self.store.app_keys(customer).await?;
        let row = keys.into_iter().find(|row| row.fingerprint == *fingerprint);
        let row = row.ok_or(GatewayError::Invalid {
            field: "key_id",
            problem: "it is no key of this customer",
        })?;
        PublicKey::from_spki_der(&row.spki)
            .map_err(|cause| GatewayError::internal("a bound key", cause))
    }

    /// Waits for the customer's answer, and makes the final decision or finds it.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when the decision asked for no confirmation.
    pub async fn await_decision(
        self: &Arc<Self>,
        terminal: &CallingTerminal,
        key: &DecisionKey,
        wait: Duration,
        deadline: Instant,
    ) -> Result<Awaited, GatewayError> {
        let last = deadline.checked_sub(ANSWER_TIME).unwrap_or(deadline);
        let until = (Instant::now() + wait).min(last);
        let mut changes = self.confirmations.subscribe();
        loop {
            changes.borrow_and_update();
            let awaited = match self.awaited(terminal, key, deadline).await {
                // Somebody else was quicker, or its time passed between two looks. Not at once: the
                // ledger's clock may run a little ahead of the gateway's.
                Err(GatewayError::State(NOT_YET)) if Instant::now() < last => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    continue;
                }
                awaited => awaited?,
            };
            let Awaited::Waiting(expires_at) = awaited else { return Ok(awaited) };
            let left_ms = expires_at.get().saturating_sub(self.clock.now().get()).saturating_add(1);
            let left = Duration::from_millis(u64::try_from(left_ms).unwrap_or(0));
            let next = until.min(Instant::now() + left);
            let is_changed = timeout_at(next, changes.changed()).await.is_ok();
            if !is_changed && Instant::now() >= until {
                return Ok(awaited);
            }
        }
    }

    async fn awaited(
        self: &Arc<Self>,
        terminal: &CallingTerminal,
        key: &DecisionKey,
        deadline: Instant,
    ) -> Result<Awaited, GatewayError> {
        let row = self.store.confirmation_of(key).await?;
        let row = row.ok_or(GatewayError::NotFound("confirmation"))?;
        if let Some(attempt) = row.settled_by {
            let key = DecisionKey { attempt, ..key.clone() };
            return Ok(Awaited::Decided(Box::new(self.decision(&key).await?)));
        }
        let kept = self.kept_for(&row).await?.ok_or(GatewayError::NotFound("confirmation"))?;
        let now = self.clock.now();
        match Standing::of(&row, now) {
            Standing::Waiting => return Ok(Awaited::Waiting(row.expires_at)),
            Standing::Agreed(_) => {
                let pack = self.packs.current(now).await?;
                let is_fresh = kept.is_fresh(pack.bars().capture_fresh_s, now);
                let until = row.answer.as_ref().map_or(now, |answer| answer.counts_until);
                if !is_fresh {
                    return Ok(Awaited::CaptureAgain(until));
                }
            }
            Standing::Declined | Standing::Expired => {}
        }
        let gateway = Arc::clone(self);
        let terminal = terminal.clone();
        // It ends by itself when the caller goes away: the decision is then found by the next call.
        let work =
            tokio::spawn(
                async move { gateway.decide_finally(terminal, row, kept, deadline).await },
            );
        let ended = timeout_at(deadline, work).await.map_err(|_| GatewayError::Deadline)?;
        let answer = ended.map_err(|cause| GatewayError::internal("final decision", cause))??;
        Ok(Awaited::Decided(Box::new(answer)))
    }

    async fn decide_finally(
        &self,
        terminal: CallingTerminal,
        row: ConfirmationRow,
        kept: Kept,
        deadline: Instant,
    ) -> Result<Answer, GatewayError> {
        let keys = self.customer_keys(&row.customer).await?;
        let keys = keys.ok_or(GatewayError::NotFound("confirmation"))?;
        let standing = self.store.customer(&row.customer).await?;
        let standing =
            standing.map_or(CustomerStanding::Unknown, |customer| standing_of(customer.status));
        let Kept {
            session,
            seen,
            captured_at,
            attempts,
            attempts_key,
            challenge_hash,
            models,
            kept_hash,
            looked_by,
            signed_by,
            sealed_to,
            shown: _,
        } = kept;
        // Without a capture nothing is compared, so no lock of a biometric stands against it.
        let tried = challenge_hash.as_ref().map(|_| self.tried_before(&session)).transpose()?;
        let models = models.iter().map(|hex| digest_from_hex(hex)).collect::<Result<_, _>>()?;
        let id = row.id;
        let job = VerificationJob {
            vault: Arc::clone(&self.vault),
            pack: self.packs.current(self.clock.now()).await?,
            packs: Arc::clone(&self.packs),
            entropy: Arc::clone(&self.entropy),
            settings: self.settings.clone(),
            models,
            receipt: self.new_receipt()?,
            terminal,
            key: row.key.clone(),
            request_hash: sha256(&length_prefixed(&[b"tulga-final-v1", id.as_bytes()])),
            challenge_hash: challenge_hash.as_deref().map(digest_from_hex).transpose()?,
            signed_by,
            sealed_to,
            capture_indices: Vec::new(),
            session,
            attempts_key: digest_from_hex(&attempts_key)?,
            attempts,
            tried,
            standing,
            subject: keys.pseudonym(&self.settings.tenant, &row.customer),
            keys: Some(keys),
            guest: None,
            seen,
            captured_at,
            place: String::new(),
            stage: Stage::Answered(id),
            salts: Salts { transaction: random_bytes(&*self.entropy)?, footage: None },
            clip: None,
            evidence: None,
            kept_hash: kept_hash.as_deref().map(digest_from_hex).transpose()?,
            face_print: None,
            looked_by,
            audit_salt: random_bytes(&*self.entropy)?,
            deadline,
        };
        self.decided_by(job, Which::Final).await
    }

    /// Binds a key of a customer's device, which proves that it has it.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Exists`] when it is bound to anyone; [`GatewayError::State`] when the customer
    /// has the most keys.
    pub async fn bind_app_key(
        &self,
        actor: &Actor,
        customer: &CustomerId,
        spki: Vec<u8>,
        proof: &[u8],
    ) -> Result<Digest, GatewayError> {
        let invalid = |field, problem| GatewayError::Invalid { field, problem };
        let key = PublicKey::from_spki_der(&spki).map_err(|_| {
            invalid("public_key", "it is no Ed25519 or uncompressed P-256 SubjectPublicKeyInfo")
        })?;
        key.verify_either_form(&app_key_message(customer, &spki), proof)
            .map_err(|_| invalid("proof", "it is not this key's over this customer and key"))?;
        let subject = Some(self.subject_of(customer).await?);
        let fingerprint = key.fingerprint();
        let row = AppKeyRow { fingerprint, customer: *customer, spki, bound_at: self.clock.now() };
        let act = Act { act: "app_key_bound", actor, subject, terminal: None };
        self.perform(act, vec![Write::InsertAppKey(row)]).await?;
        Ok(fingerprint)
    }

    /// Unbinds a key.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when it is not bound to this customer.
    pub async fn unbind_app_key(
        &self,
        actor: &Actor,
        customer: &CustomerId,
        fingerprint: &Digest,
    ) -> Result<(), GatewayError> {
        let subject = Some(self.subject_of(customer).await?);
        let act = Act { act: "app_key_unbound", actor, subject, terminal: None };
        self.perform(act, vec![Write::DeleteAppKey(*fingerprint, *customer)]).await.map(drop)
    }

    /// Says where a terminal stands, in words for customers.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when it has no key that is not revoked.
    pub async fn place_terminal(
        &self,
        actor: &Actor,
        terminal: &TerminalId,
        place: String,
    ) -> Result<(), GatewayError> {
        let subject = Some(terminal.to_string());
        let act = Act { act: "terminal_placed", actor, subject, terminal: Some(terminal.clone()) };
        self.perform(act, vec![Write::PlaceTerminal(terminal.clone(), place)]).await.map(drop)
    }
}

/// An answer before it has its entry.
pub(super) struct Answering {
    pub kind: AnswerKind,
    pub act: &'static str,
    /// What the entry commits to.
    pub details: Option<String>,
    pub app_key: Option<Digest>,
    pub signature: Vec<u8>,
    /// What must hold first, in the answer's transaction.
    pub before: Option<Write>,
}

impl Answering {
    /// An answer without a key.
    pub const fn unsigned(kind: AnswerKind, act: &'static str) -> Self {
        Self { kind, act, details: None, app_key: None, signature: Vec::new(), before: None }
    }
}

/// The bytes by which a device proves at registration that it has a key.
#[must_use]
pub fn app_key_message(customer: &CustomerId, spki: &[u8]) -> Vec<u8> {
    length_prefixed(&[b"tulga-app-key-v1", customer.as_bytes(), spki])
}
