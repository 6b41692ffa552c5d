//! Captures at enrolment that the desk's sensor signs, or that are sealed to the gateway.
//!
//! The enroller's desk is a registered terminal with a registered sensor. A challenge is for one capture of one
//! characteristic of one customer, by one enroller at one desk; the sensor signs all of it, so that nobody
//! puts another person's picture, or this one under another name, in its place. Everything of the envelope is
//! checked before a pixel is looked at; the challenge is used up and the counter moved in one transaction before
//! that, and the key is looked up once more in the transaction that adds the capture.

use std::sync::Arc;

use super::Gateway;
use super::consent::require_consent;
use super::envelope::{CaptureFor, DeviceFault, SignedBy, require_level};
use super::error::GatewayError;
use super::packs::Packs;
use super::request::{
    Actor, BeginEnrolmentCapture, Capture, EnrolmentChallenge, OfferedCapture, Picture, SentCapture,
};
use super::sealing::Call;
use super::sequencer::Slot;
use crate::crypto::{Digest, random_bytes, sha256};
use crate::domain::id::{Challenge, CustomerId, TerminalId};
use crate::domain::modality::Modality;
use crate::domain::time::UnixMillis;
use crate::policy::DeviceLevel;
use crate::store::{EnrolmentChallengeRow, UnitOfWork};

/// A capture that was offered, as it may be looked at.
pub(super) struct Offered {
    pub capture: Capture,
    /// What signed it, and where; none for one that answers no challenge.
    pub signed: Option<SignedAt>,
}

/// What signed a capture at enrolment.
pub(super) struct SignedAt {
    pub terminal: TerminalId,
    pub by: SignedBy,
    /// By which it is known again; none where the gateway is not to know it.
    index: Option<Digest>,
}

/// What must still stand where a signed capture joins a template.
pub(super) struct SignedCapture {
    by: SignedBy,
    index: Option<Digest>,
    /// How long the capture may not come again, in milliseconds.
    seen_ms: i64,
    packs: Arc<Packs>,
}

impl SignedCapture {
    pub async fn apply(&self, unit: &mut dyn UnitOfWork, slot: &Slot) -> Result<(), GatewayError> {
        self.by.require_counting(unit, slot.now).await?;
        let pack = self.packs.at(unit, slot.now).await?;
        require_level(self.by.level(), pack.bars().enrolment_capture_signed)?;
        if let Some(index) = &self.index {
            if unit.is_capture_seen(index, slot.now).await? {
                return Err(DeviceFault::Replay.into());
            }
            unit.note_capture(index, slot.now.plus_millis(self.seen_ms)).await?;
        }
        Ok(())
    }
}

impl Gateway {
    /// Issues a challenge for one capture of a customer at an enroller's desk, in place of the enroller's last one
    /// for this characteristic of the customer. `answer_bytes` are those that the desk will receive: sensors sign
    /// their hash.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when there is no such customer, or no such terminal that is registered;
    /// [`GatewayError::State`] where the customer's consent does not hold.
    pub async fn begin_enrolment_capture(
        &self,
        actor: &Actor,
        of: BeginEnrolmentCapture,
        answer_bytes: fn(&EnrolmentChallenge) -> Vec<u8>,
    ) -> Result<EnrolmentChallenge, GatewayError> {
        self.subject_of(&of.customer).await?;
        if matches!(of.modality, Modality::Finger(_)) && self.vision.fingers().is_none() {
            let problem = "fingers are not offered by this gateway";
            return Err(GatewayError::Invalid { field: "modality", problem });
        }
        let challenge = Challenge::new(random_bytes(&*self.entropy)?);
        let expires_at = self.clock.now().plus_millis(self.settings.challenge_ttl_ms);
        let capture_key = self.capture_key().await;
        let issued = EnrolmentChallenge { challenge, expires_at, of, capture_key };
        let row = EnrolmentChallengeRow {
            hash: sha256(issued.challenge.as_bytes()),
            customer: issued.of.customer,
            modality: issued.of.modality,
            terminal: issued.of.terminal.clone(),
            opened_by: actor.spki,
            answer: sha256(&answer_bytes(&issued)),
            expires_at,
        };
        let mut unit = self.store.begin().await?;
        let keys = unit.keys_of_terminal(&row.terminal).await?;
        if keys.iter().all(|key| key.revoked_at.is_some()) {
            return Err(GatewayError::NotFound("terminal"));
        }
        require_consent(&mut *unit, &row.customer, self.clock.now()).await?;
        unit.drop_enrolment_challenges(&row).await?;
        unit.insert_enrolment_challenge(&row).await?;
        unit.commit().await?;
        Ok(issued)
    }

    /// Refuses templates from unsigned sources where the pack in force wants captures signed.
    pub(super) async fn require_unsigned_enrolment(&self) -> Result<(), GatewayError> {
        let pack = self.packs.current(self.clock.now()).await?;
        let least = pack.bars().enrolment_capture_signed;
        Ok(require_level(DeviceLevel::Certificate, least)?)
    }

    /// Takes what an enroller offers: opens it, checks its envelope, and uses its challenge up.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Stale`] for a challenge that is not for this capture, [`GatewayError::Device`] for what
    /// the desk's sensor sent or did not send.
    pub(super) async fn take_offered(
        &self,
        actor: &Actor,
        customer: &CustomerId,
        modality: Modality,
        offered: OfferedCapture,
    ) -> Result<Offered, GatewayError> {
        let Some(challenge) = offered.challenge else {
            self.require_unsigned_enrolment().await?;
            return match offered.capture.picture {
                Picture::Open(image) => {
                    let declared = offered.capture.declared;
                    Ok(Offered { capture: Capture { image, declared }, signed: None })
                }
                // Without a challenge there is nothing that it could be sealed for.
                Picture::Sealed(_) => Err(DeviceFault::Sealed.into()),
            };
        };
        let now = self.clock.now();
        let found = self.challenge_for(actor, customer, modality, &challenge, now).await;
        let row = found.inspect_err(|error| self.count_refused(None, error))?;
        let checked = self.check_offered_capture(&row, &challenge, &offered, now).await;
        let (capture, signed) =
            checked.inspect_err(|error| self.count_refused(Some(&row.terminal), error))?;
        let used = self.use_challenge(&row, &signed.by, now).await;
        used.inspect_err(|error| self.count_refused(Some(&row.terminal), error))?;
        Ok(Offered { capture, signed: Some(signed) })
    }

    fn count_refused(&self, terminal: Option<&TerminalId>, error: &GatewayError) {
        if matches!(error, GatewayError::Stale | GatewayError::Device(_)) {
            self.count_incident(terminal, error.code());
        }
    }

    async fn challenge_for(
        &self,
        actor: &Actor,
        customer: &CustomerId,
        modality: Modality,
        challenge: &Challenge,
        now: UnixMillis,
    ) -> Result<EnrolmentChallengeRow, GatewayError> {
        let row = self.store.enrolment_challenge(&sha256(challenge.as_bytes())).await?;
        let row = row.filter(|row| {
            row.customer == *customer
                && row.modality == modality
                && row.opened_by == actor.spki
                && now <= row.expires_at
        });
        row.ok_or(GatewayError::Stale)
    }

    /// All of it before a pixel is looked at, and before anything is used up.
    async fn check_offered_capture(
        &self,
        row: &EnrolmentChallengeRow,
        challenge: &Challenge,
        offered: &OfferedCapture,
        now: UnixMillis,
    ) -> Result<(Capture, SignedAt), GatewayError> {
        let OfferedCapture { capture: sent, challenge: _, envelope } = offered;
        let pack = self.packs.current(now).await?;
        let call = Call {
            purpose: CaptureFor::Enrolment,
            challenge,
            answer: Some(&row.answer),
            terminal: &row.terminal,
            envelopes: envelope.as_slice(),
        };
        let capture = self.open_one(call, sent, now).await?;
        let by = match envelope {
            Some(envelope) => {
                self.check_enrolment_envelope(row, challenge, envelope, &capture, now).await?
            }
            None => SignedBy::default(),
        };
        require_level(by.level(), pack.bars().enrolment_capture_signed)?;
        let index = self.capture_indices(std::slice::from_ref(&capture)).pop();
        self.refuse_seen(index.as_slice(), now).await?;
        Ok((capture, SignedAt { terminal: row.terminal.clone(), by, index }))
    }

    async fn open_one(
        &self,
        call: Call<'_>,
        sent: &SentCapture,
        now: UnixMillis,
    ) -> Result<Capture, GatewayError> {
        let opened = self.unseal_captures(call, std::slice::from_ref(sent), now).await?;
        opened.captures.into_iter().next().ok_or(GatewayError::broken("a capture is missing"))
    }

    /// Of two calls with one challenge, or with one counter, one is refused.
    async fn use_challenge(
        &self,
        row: &EnrolmentChallengeRow,
        by: &SignedBy,
        now: UnixMillis,
    ) -> Result<(), GatewayError> {
        let mut unit = self.store.begin().await?;
        if !unit.take_enrolment_challenge(&row.hash).await? {
            return Err(GatewayError::Stale);
        }
        by.take_counters(&mut *unit, now).await?;
        Ok(unit.commit().await?)
    }

    /// What must still stand where a capture that was signed so joins a template.
    pub(super) fn signed_capture(&self, signed: &SignedAt) -> SignedCapture {
        SignedCapture {
            by: signed.by.clone(),
            index: signed.index,
            seen_ms: self.settings.capture_seen_ms,
            packs: Arc::clone(&self.packs),
        }
    }

    /// The same where it was proposed, and noted then.
    pub(super) fn noted_capture(&self, by: SignedBy) -> SignedCapture {
        SignedCapture { by, index: None, seen_ms: 0, packs: Arc::clone(&self.packs) }
    }
}
