//! A terminal's calls: challenge, capture, decision, cancellation, and what became of the cash.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Gateway;
use super::answer::KeptAnswer;
use super::attempts::{Asking, Tried};
use super::confirming::Stage;
use super::decoy::Decoy;
use super::enrollment::check_consent;
use super::error::GatewayError;
use super::evidence::KeptEvidence;
use super::footage::{check_footage, clip_row, new_salt};
use super::kept_captures::KeptCaptures;
use super::look::Looked;
use super::near_duplicates::NEAR_DUPLICATE;
use super::presented::Presented;
use super::request::{Answer, BeginCapture, FootageSalt, IssuedChallenge, Logged, Salts, Verify};
use super::same_call::request_hash;
use super::sequencer::AwaitRecord;
use super::session::{NamedBy, Resolved, Session};
use super::under_way::Found;
use super::verification_job::VerificationJob;
use crate::crypto::{Digest, length_prefixed, random_bytes, sha256};
use crate::domain::footage::Footage;
use crate::domain::id::{Challenge, ReceiptId, TerminalId};
use crate::domain::time::UnixMillis;
use crate::domain::transaction::{CustomerReference, DecisionKey, TokenKind};
use crate::policy::PolicyPack;
use crate::store::{ChallengeRow, ChallengeState, ClipRow, DecisionRow};
use crate::vault::Place;

/// How long after the deadline an answer that is being committed is still waited for.
const ANSWER_GRACE: Duration = Duration::from_millis(250);

/// How far the bank's clock may be ahead, in milliseconds.
const AHEAD_MAX_MS: i64 = 60_000;

/// The terminal that calls, as its certificate and the register know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallingTerminal {
    /// The terminal.
    pub id: TerminalId,
    /// SHA-256 of its certificate's SubjectPublicKeyInfo.
    pub spki: Digest,
}

/// A call of `Verify`, as it arrived.
struct Asked {
    terminal: CallingTerminal,
    key: DecisionKey,
    request: Verify,
    request_hash: Digest,
    arrived_at: UnixMillis,
    deadline: Instant,
}

/// A challenge that was debited, with everything needed to decide.
struct Debited {
    session: Session,
    attempts_key: Digest,
    attempts: u32,
    pack: Arc<PolicyPack>,
    presented: Presented,
    tried: Tried,
}

impl Gateway {
    /// Fixes customer, transaction and modality, and issues a challenge for them.
    ///
    /// An unknown customer gets a challenge like everybody: who is enrolled is not told here. `answer_bytes`
    /// are those that the terminal will receive: sensors sign their hash.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Overloaded`], [`GatewayError::Throttled`] for a terminal that had too many failures,
    /// and what the store cannot do.
    pub async fn begin_capture(
        &self,
        terminal: &CallingTerminal,
        request: BeginCapture,
        answer_bytes: fn(&IssuedChallenge) -> Vec<u8>,
    ) -> Result<IssuedChallenge, GatewayError> {
        self.check_offered(&request)?;
        if !self.vision.has_room() {
            // The capture would be turned away: nobody is asked to look into a camera for that.
            return Err(GatewayError::Overloaded);
        }
        let now = self.clock.now();
        let pack = self.packs.current(now).await?;
        self.require_unthrottled(&terminal.id, &pack.bars().tries, now).await?;
        let mut session = self.session_for(&request, now).await?;
        let attempts_key = session.attempts_key(self.settings.tenant.as_str(), &terminal.id);
        let attempts = self.store.counter(&attempts_key).await?;

        let challenge = Challenge::new(random_bytes(&*self.entropy)?);
        let hash = sha256(challenge.as_bytes());
        let expires_at = now.plus_millis(self.settings.challenge_ttl_ms);
        let attempts_left = pack.bars().attempts_max.saturating_sub(attempts);
        let capture_key = self.capture_key().await;
        let issued = IssuedChallenge { challenge, expires_at, attempts_left, capture_key };
        session.answered(&answer_bytes(&issued));
        let plain = zeroize::Zeroizing::new(
            serde_json::to_vec(&session)
                .map_err(|cause| GatewayError::internal("session", cause))?,
        );
        let row = ChallengeRow {
            hash,
            terminal: terminal.id.clone(),
            sealed_session: self.vault.seal_system(
                &self.session_place(&hash),
                &plain,
                &*self.entropy,
            )?,
            issued_at: now,
            expires_at,
            state: ChallengeState::Open,
        };
        let mut unit = self.store.begin().await?;
        unit.insert_challenge(&row).await?;
        unit.commit().await?;
        Ok(issued)
    }

    /// What a terminal's request fixes.
    pub(super) async fn session_for(
        &self,
        request: &BeginCapture,
        now: UnixMillis,
    ) -> Result<Session, GatewayError> {
        let as_of = request.supplied.account_data_as_of;
        if as_of.is_some_and(|as_of| as_of > now.plus_millis(AHEAD_MAX_MS)) {
            let field = "bank.account_data_as_of";
            return Err(GatewayError::Invalid { field, problem: "it is in the future" });
        }
        let resolved = self.resolve(&request.customer, now).await?;
        let account = &request.transaction.account;
        let account_index =
            self.vault.token_index(&self.settings.tenant, TokenKind::Account, account);
        let mut session = Session::new(resolved, request, &account_index);
        if let (Some(consent), CustomerReference::Iin(iin)) =
            (&request.guest_consent, &request.customer)
        {
            check_consent(consent, now)?;
            if session.customer()?.is_none() {
                session.guest = Some(self.kept_guest(iin, consent)?);
            }
        }
        Ok(session)
    }

    /// Decides about a capture.
    ///
    /// The work goes on when the caller goes away: the answer is then found by
    /// [`Gateway::decision`].
    ///
    /// # Errors
    ///
    /// [`GatewayError`]: no decision was made, there is no receipt, nothing may be paid.
    pub async fn verify(
        self: &Arc<Self>,
        terminal: &CallingTerminal,
        request: Verify,
        deadline: Instant,
    ) -> Result<Answer, GatewayError> {
        let asked = Asked {
            terminal: terminal.clone(),
            arrived_at: self.clock.now(),
            key: DecisionKey {
                terminal: terminal.id.clone(),
                business_date: request.business_date.clone(),
                host_id: request.host_id.clone(),
                attempt: request.attempt,
            },
            request_hash: request_hash(&request),
            request,
            deadline: deadline.min(Instant::now() + self.settings.deadline),
        };
        let (key, hash, deadline) = (asked.key.clone(), asked.request_hash, asked.deadline);
        let gateway = Arc::clone(self);
        // On the heap: with what is looked at in it the future is large.
        let work = Box::pin(async move { gateway.settle(asked).await });
        let ended = self.once(&key, hash, deadline, work);
        self.count_refusal(&terminal.id, ended.await)
    }

    /// Does the work of an attempt, or joins the same call that does it.
    pub(super) async fn once(
        &self,
        key: &DecisionKey,
        request_hash: Digest,
        deadline: Instant,
        work: impl Future<Output = Result<Answer, GatewayError>> + Send + 'static,
    ) -> Result<Answer, GatewayError> {
        let until = deadline + ANSWER_GRACE;
        match self.under_way.enter(key, request_hash) {
            Found::Other => Err(GatewayError::IdReused),
            Found::Same(ending) => {
                timeout_at(until, ending.wait()).await.map_err(|_| GatewayError::Deadline)?;
                let row = self.store.decision(key).await?.ok_or(GatewayError::Stale)?;
                self.repeated(row, &request_hash).await
            }
            Found::Nobody(turn) => {
                let work = tokio::spawn(async move {
                    let _turn = turn;
                    work.await
                });
                // Not the work is cut off here but the waiting: whether there was a decision, and so
                // whether the attempt is given back, is settled by the work itself.
                match timeout_at(until, work).await {
                    Ok(ended) => {
                        ended.map_err(|cause| GatewayError::internal("verification", cause))?
                    }
                    Err(_) => Err(GatewayError::Deadline),
                }
            }
        }
    }

    /// The kept answer, or the first and only decision.
    async fn settle(&self, asked: Asked) -> Result<Answer, GatewayError> {
        // Before the challenge: a repeated call shows a used one.
        if let Some(row) = self.store.decision(&asked.key).await? {
            return self.repeated(row, &asked.request_hash).await;
        }
        if let Some(footage) = &asked.request.footage {
            check_footage(footage, asked.arrived_at)?;
        }
        // Before anything is used up that no decision could follow.
        self.signing.witnessing.require(asked.arrived_at)?;
        let _admitted = self.vision.admit()?;
        let debited = self.debit(&asked).await?;
        let (key, attempts_key) = (asked.key.clone(), debited.attempts_key);
        let (tried, locks) = (debited.tried.id(), debited.tried.locks());
        let result = self.decide(asked, debited).await;
        if let Err(error) = &result {
            tracing::debug!(code = error.code(), "a verification ended without a decision");
            self.refund(&key, &attempts_key, tried).await;
        }
        self.enter_if_locked(&locks).await;
        result
    }

    /// The answer to a call that was made before, if it was the same call.
    pub(super) async fn repeated(
        &self,
        row: DecisionRow,
        request_hash: &Digest,
    ) -> Result<Answer, GatewayError> {
        if row.request_hash != *request_hash {
            return Err(GatewayError::IdReused);
        }
        self.kept_answer(row, Which::First).await
    }

    /// The decision under an idempotency key, after a lost answer; the final one where there is one.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when none was made.
    pub async fn decision(&self, key: &DecisionKey) -> Result<Answer, GatewayError> {
        let standing = self.standing_decision(key).await?;
        let (row, which) = standing.ok_or(GatewayError::NotFound("decision"))?;
        self.kept_answer(row, which).await
    }

    /// The decision that stands under a key: the final one where there is one.
    pub(super) async fn standing_decision(
        &self,
        key: &DecisionKey,
    ) -> Result<Option<(DecisionRow, Which)>, GatewayError> {
        if let Some(row) = self.store.final_decision(key).await? {
            return Ok(Some((row, Which::Final)));
        }
        Ok(self.store.decision(key).await?.map(|row| (row, Which::First)))
    }

    /// Gives a challenge back unused.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Stale`] when it is not this terminal's, or no longer open.
    pub async fn cancel(
        &self,
        terminal: &CallingTerminal,
        challenge: &Challenge,
    ) -> Result<(), GatewayError> {
        self.count_refusal(&terminal.id, self.cancel_open(terminal, challenge).await)
    }

    async fn cancel_open(
        &self,
        terminal: &CallingTerminal,
        challenge: &Challenge,
    ) -> Result<(), GatewayError> {
        let hash = sha256(challenge.as_bytes());
        let row = self.store.challenge(&hash).await?.ok_or(GatewayError::Stale)?;
        if row.terminal != terminal.id {
            return Err(GatewayError::Stale);
        }
        let mut unit = self.store.begin().await?;
        if !unit.close_challenge(&hash, ChallengeState::Cancelled).await? {
            return Err(GatewayError::Stale);
        }
        Ok(unit.commit().await?)
    }

    pub(super) async fn resolve(
        &self,
        reference: &CustomerReference,
        now: UnixMillis,
    ) -> Result<Resolved, GatewayError> {
        let tenant = &self.settings.tenant;
        let (customer, token, index, named_by) = match reference {
            CustomerReference::Token(kind, token) => {
                let index = self.vault.token_index(tenant, *kind, token);
                let is_card = *kind == TokenKind::Card;
                let named_by = if is_card { NamedBy::Card } else { NamedBy::OtherToken };
                (self.store.customer_by_token(&index, now).await?, Some(index), index, named_by)
            }
            CustomerReference::Iin(iin) => {
                let index = self.vault.iin_index(tenant, iin);
                (self.store.customer_by_iin(&index).await?, None, index, NamedBy::Iin)
            }
        };
        // Whose consent does not hold is nobody here; the same is asked of the store whoever it is.
        let consents = self.consents(customer.as_ref().unwrap_or(&Decoy::ID), now).await?;
        let customer = customer.filter(|_| consents);
        let nobody = self.vault.pseudonym_of_nobody(tenant, &index);
        let number = (named_by == NamedBy::Iin).then_some(index);
        Ok(Resolved { customer, token, number, nobody, named_by })
    }

    /// Uses the challenge up and counts one try of the transaction, the customer and the terminal, durably,
    /// before anything is compared.
    async fn debit(&self, asked: &Asked) -> Result<Debited, GatewayError> {
        let Asked { key, request, arrived_at, .. } = asked;
        let hash = sha256(request.challenge.as_bytes());
        let row = self.store.challenge(&hash).await?.ok_or(GatewayError::Stale)?;
        let usable = row.terminal == key.terminal
            && row.state == ChallengeState::Open
            && *arrived_at <= row.expires_at;
        if !usable {
            return Err(GatewayError::Stale);
        }
        let plain = self.vault.open_system(&self.session_place(&hash), &row.sealed_session)?;
        let session: Session = serde_json::from_slice(&plain)
            .map_err(|cause| GatewayError::internal("session", cause))?;
        if session.host_id != key.host_id.as_str()
            || session.business_date != key.business_date.as_str()
        {
            return Err(GatewayError::Stale);
        }
        // All of it before a pixel is looked at, and before anything is used up.
        let pack = self.packs.current(self.clock.now()).await?;
        let presented =
            self.present(&session, &key.terminal, request, pack.bars(), *arrived_at).await?;
        let attempts_key = session.attempts_key(self.settings.tenant.as_str(), &key.terminal);
        let bars = pack.bars();
        let mut unit = self.store.begin().await?;
        if !unit.close_challenge(&hash, ChallengeState::Used).await? {
            return Err(GatewayError::Stale);
        }
        let attempts = unit.add_to_counter(&attempts_key, 1, *arrived_at).await?;
        let asking = Asking {
            session: &session,
            terminal: &key.terminal,
            id: hash,
            is_spent: attempts > bars.attempts_max,
            limits: &bars.tries,
            now: *arrived_at,
        };
        let tried = self.debit_try(&mut *unit, asking).await?;
        presented.signed_by.take_counters(&mut *unit, *arrived_at).await?;
        unit.commit().await?;
        Ok(Debited { session, attempts_key, attempts, pack, presented, tried })
    }

    /// Gives a try back after a technical failure; the challenge stays used. Never when a decision
    /// was made after all (a commit whose fate was unclear): that would be a free guess.
    pub(super) async fn refund(
        &self,
        key: &DecisionKey,
        attempts_key: &Digest,
        tried: Option<Digest>,
    ) {
        let refunded = async {
            let mut unit = self.store.begin().await?;
            if unit.decision(key).await?.is_none() {
                unit.add_to_counter(attempts_key, -1, self.clock.now()).await?;
                if let Some(id) = &tried {
                    unit.refund_try(id).await?;
                }
            }
            unit.commit().await
        };
        if let Err(error) = refunded.await {
            // The customer loses a try; nobody gains one.
            tracing::warn!(code = error.code(), error = %error, "a try could not be refunded");
        }
    }

    /// Looks, compares, and hands the facts to the sequencer, where the decision is made.
    async fn decide(&self, asked: Asked, debited: Debited) -> Result<Answer, GatewayError> {
        let Asked { terminal, key, request, request_hash, arrived_at, deadline } = asked;
        let Debited { mut session, attempts_key, attempts, pack, presented, tried } = debited;
        let Presented { captures, sealed_to, signed_by, capture_indices } = presented;
        let Verify { challenge, footage, .. } = request;
        let place = self.store.terminal_place(&terminal.id).await?.unwrap_or_default();
        // Beyond the last try, and while a delay or a lock runs, nothing is compared: the answer must not
        // depend on the face.
        let may_compare = attempts <= pack.bars().attempts_max && tried.may_compare();
        let modalities = session.modalities()?;
        let shown = modalities.iter().copied().zip(captures.iter().cloned()).collect();
        let looked = self.look_at(&session, &pack, may_compare, &terminal.id, captures);
        let looked = timeout_at(deadline, looked).await.map_err(|_| GatewayError::Deadline)??;
        let Looked { mut seen, standing, subject, keys, guest, face: _, compared_with } = looked;
        let is_near = seen.near_duplicate;
        let face_print = self.sealed_print(session.customer()?, keys.as_ref(), &seen)?;
        if signed_by.is_suspected() {
            seen.suspected_by_sensor();
        }
        if let Some(guest) = &guest {
            session.become_guest(&guest.id());
        }
        let receipt = self.new_receipt()?;
        let kept = KeptCaptures { captures: shown, compared_with };
        let evidence = timeout_at(deadline, self.keep_evidence(&receipt, kept, &seen)).await;
        let evidence = evidence.map_err(|_| GatewayError::Deadline)??;
        // Of what was compared with nobody no key is kept, so no record commits to it.
        let kept_hash = evidence.as_ref().filter(|_| seen.was_compared()).map(KeptEvidence::hash);
        let clip = footage.map(|footage| self.clip(&receipt, footage)).transpose()?;
        let (clip, footage_salt) = clip.unzip();
        let job = VerificationJob {
            vault: Arc::clone(&self.vault),
            packs: Arc::clone(&self.packs),
            pack,
            entropy: Arc::clone(&self.entropy),
            settings: self.settings.clone(),
            models: self.models_of(&modalities),
            receipt,
            terminal,
            key,
            request_hash,
            challenge_hash: Some(sha256(challenge.as_bytes())),
            signed_by,
            sealed_to,
            capture_indices,
            attempts_key,
            attempts,
            tried: Some(tried),
            standing,
            subject: subject.unwrap_or_else(|| session.nobody.clone()),
            session,
            keys,
            guest,
            seen,
            captured_at: arrived_at,
            place,
            stage: Stage::Asked,
            clip,
            evidence,
            kept_hash,
            face_print,
            looked_by: Some(self.looked_by()),
            salts: Salts { transaction: random_bytes(&*self.entropy)?, footage: footage_salt },
            audit_salt: random_bytes(&*self.entropy)?,
            deadline,
        };
        let at = job.terminal.id.clone();
        // On the heap: with the job in it the future is large.
        let answer = Box::pin(self.decided_by(job, Which::First)).await?;
        if is_near {
            self.count_incident(Some(&at), NEAR_DUPLICATE);
        }
        Ok(answer)
    }

    /// The row of the footage that a terminal named, and the salt of its commitment.
    fn clip(
        &self,
        receipt: &ReceiptId,
        footage: Footage,
    ) -> Result<(ClipRow, FootageSalt), GatewayError> {
        let salt = new_salt(&*self.entropy)?;
        let row = clip_row(&self.vault, &self.settings, receipt, footage, salt, &*self.entropy)?;
        Ok((row, salt))
    }

    /// Lets a job decide, and gives its answer.
    pub(super) async fn decided_by(
        &self,
        job: VerificationJob,
        which: Which,
    ) -> Result<Answer, GatewayError> {
        let key = job.key.clone();
        let logged = self.sequencer.submit(Box::new(job)).await?;
        let row = match which {
            Which::First => self.store.decision(&key).await?,
            Which::Final => self.store.final_decision(&key).await?,
        };
        let row = row.ok_or(GatewayError::broken("a decision is missing"))?;
        let answer = self.kept(row, which, logged)?;
        if answer.outcome.step_up().is_some() {
            // Perhaps a customer is asked now: who waits to tell them looks.
            self.confirmations.send_replace(());
        }
        Ok(answer)
    }

    async fn kept_answer(&self, row: DecisionRow, which: Which) -> Result<Answer, GatewayError> {
        let (_, recorded) = self.view.recorded()?;
        let logged = if row.index < recorded {
            let entry = self.entry(row.index).await?;
            Logged::committed(entry.position, row.index, entry.jws)
        } else {
            // The head's record failed after the commit: it is due before this is answered.
            self.sequencer.submit(Box::new(AwaitRecord(row.index))).await?
        };
        self.kept(row, which, logged)
    }

    fn kept(&self, row: DecisionRow, which: Which, logged: Logged) -> Result<Answer, GatewayError> {
        let plain = self.vault.open_system(
            &answer_place(self.settings.tenant.as_str(), &row.key, which),
            &row.sealed_answer,
        )?;
        let kept: KeptAnswer = serde_json::from_slice(&plain)
            .map_err(|cause| GatewayError::internal("a kept answer", cause))?;
        kept.with_receipt(logged)
    }

    fn session_place(&self, hash: &Digest) -> Place {
        Place::system(
            "challenges",
            "sealed_session",
            self.settings.tenant.as_str(),
            hash.as_bytes(),
        )
    }
}

/// Which of the two decisions that may stand under one key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// A call of `Verify` made it.
    First,
    /// The first asked for a confirmation; this one was made after it.
    Final,
}

/// Where a kept answer is sealed to.
pub(super) fn answer_place(tenant: &str, key: &DecisionKey, which: Which) -> Place {
    let row = length_prefixed(&[
        key.terminal.as_str().as_bytes(),
        key.business_date.as_str().as_bytes(),
        key.host_id.as_str().as_bytes(),
        &key.attempt.get().to_be_bytes(),
    ]);
    let table = match which {
        Which::First => "decisions",
        Which::Final => "final_decisions",
    };
    Place::system(table, "sealed_answer", tenant, &row)
}
