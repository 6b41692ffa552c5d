//! Footage: which clip belongs to a decision, until when it must be kept, and for which cases longer.

use super::Gateway;
use super::Settings;
use super::act::{Write, receipt_actor};
use super::error::GatewayError;
use super::request::{Actor, FootageSalt, Logged, ReportedOutcome};
use super::sequencer::Slot;
use crate::crypto::{Entropy, length_prefixed, random_bytes, sha256};
use crate::domain::footage::Footage;
use crate::domain::id::{CaseReference, ReceiptId, TerminalId};
use crate::domain::time::UnixMillis;
use crate::domain::turnover::BankZone;
use crate::ledger::LogPosition;
use crate::receipt::{Administration, Content, Erasure, IndexRange, Salt, footage_commit};
use crate::store::{ClipRow, FootageDuty, FootageFilter, FootageRow, UnitOfWork};
use crate::vault::{Place, Vault};

/// How old a clip may be when it is named: a terminal that was cut off reports late.
const CLIP_AGE_MAX_MS: i64 = 31 * 86_400_000;

/// How far a terminal's clock may stand before the gateway's.
const CLIP_AHEAD_MAX_MS: i64 = 5 * 60_000;

/// Most clips whose deletion is confirmed at once, and captures destroyed at once: their indices must
/// fit into one receipt.
pub const ERASED_AT_ONCE_MAX: usize = 200;

/// Refuses a clip that cannot be: one that has not ended has no hash.
pub(super) fn check_footage(footage: &Footage, now: UnixMillis) -> Result<(), GatewayError> {
    let invalid = |field, problem| Err(GatewayError::Invalid { field, problem });
    if footage.to() > now.plus_millis(CLIP_AHEAD_MAX_MS) {
        return invalid("footage.to", "it is in the future");
    }
    if footage.from() < now.plus_millis(-CLIP_AGE_MAX_MS) {
        return invalid("footage.from", "it is more than 31 days ago");
    }
    Ok(())
}

/// The clip as a repeated call is told from another by.
pub(super) fn footage_bytes(footage: &Footage) -> Vec<u8> {
    length_prefixed(&[
        footage.camera().as_str().as_bytes(),
        &footage.from().get().to_be_bytes(),
        &footage.to().get().to_be_bytes(),
        footage.clip().as_bytes(),
    ])
}

/// A salt for a commitment to a clip.
pub(super) fn new_salt(entropy: &dyn Entropy) -> Result<FootageSalt, GatewayError> {
    Ok(FootageSalt(random_bytes(entropy)?))
}

/// The clip of a receipt as it is stored.
pub(super) fn clip_row(
    vault: &Vault,
    settings: &Settings,
    receipt: &ReceiptId,
    footage: Footage,
    FootageSalt(salt): FootageSalt,
    entropy: &dyn Entropy,
) -> Result<ClipRow, GatewayError> {
    let sealed_salt = vault.seal_system(&salt_place(settings, receipt), &salt, entropy)?;
    Ok(ClipRow { footage, sealed_salt })
}

/// What a receipt says of its clip.
pub(super) fn commit_of(clip: Option<&ClipRow>, salt: Option<FootageSalt>) -> Option<String> {
    let (clip, FootageSalt(salt)) = clip.zip(salt)?;
    Some(footage_commit(&Salt::new(salt), &clip.footage))
}

fn salt_place(settings: &Settings, receipt: &ReceiptId) -> Place {
    Place::system("footage", "sealed_salt", settings.tenant.as_str(), receipt.as_bytes())
}

/// How long clips are kept.
pub(super) struct Keep {
    pub zone: BankZone,
    pub footage_days: u32,
}

impl Keep {
    /// The duty of an entry; `decision` is the first one about its attempt.
    pub fn row(
        &self,
        decision: u64,
        terminal: &TerminalId,
        is_missing: bool,
        clip: Option<&ClipRow>,
        slot: &Slot,
    ) -> FootageRow {
        // The clip may end a little after the gateway's present, by the terminal's clock.
        let last = clip.map_or(slot.now, |clip| clip.footage.to().max(slot.now));
        FootageRow {
            index: slot.place,
            decision,
            terminal: terminal.clone(),
            at: slot.now,
            is_missing,
            clip: clip.cloned(),
            keep_until: self.zone.after_days(last, self.footage_days),
            deleted_at: None,
        }
    }
}

/// Notes that clips were destroyed. None of them may be one that had to be kept.
pub(super) async fn confirm_deleted(
    unit: &mut dyn UnitOfWork,
    indices: &[u64],
    slot: &Slot,
) -> Result<(), GatewayError> {
    for index in indices {
        let duty = unit.footage(*index).await?.ok_or(GatewayError::NotFound("clip"))?;
        let FootageDuty { row, cases } = duty;
        if row.clip.is_none() {
            return Err(GatewayError::NotFound("clip"));
        }
        if row.deleted_at.is_some() {
            return Err(GatewayError::State("a clip was confirmed as deleted before"));
        }
        if !cases.is_empty() {
            return Err(GatewayError::State("a clip is on legal hold"));
        }
        if slot.now < row.keep_until {
            return Err(GatewayError::State("a clip must still be kept"));
        }
        if !unit.delete_footage(*index, slot.now).await? {
            return Err(GatewayError::broken("a clip went away"));
        }
    }
    Ok(())
}

/// A duty, and what opens its entry's commitment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenedDuty {
    /// The duty.
    pub duty: FootageDuty,
    /// The salt, where a clip was named.
    pub salt: Option<FootageSalt>,
}

impl Gateway {
    /// The clip of an outcome report, as it is stored.
    pub(super) fn outcome_clip(
        &self,
        footage: &Footage,
        salt: &FootageSalt,
        receipt: &ReceiptId,
    ) -> Result<ClipRow, GatewayError> {
        check_footage(footage, self.clock.now())?;
        clip_row(&self.vault, &self.settings, receipt, footage.clone(), *salt, &*self.entropy)
    }

    /// The answer to a report, from what is stored: a repeated one gets the first one's salt.
    pub(super) async fn reported(&self, receipt: Logged) -> Result<ReportedOutcome, GatewayError> {
        let duty = self.store.footage(receipt.place()).await?;
        let footage_salt = match duty {
            Some(duty) => self.opened(duty).await?.salt,
            None => None,
        };
        Ok(ReportedOutcome { receipt, footage_salt })
    }

    async fn opened(&self, duty: FootageDuty) -> Result<OpenedDuty, GatewayError> {
        let Some(clip) = &duty.row.clip else { return Ok(OpenedDuty { duty, salt: None }) };
        let entry = self.entry(duty.row.index).await?;
        let place = salt_place(&self.settings, &entry.receipt);
        let plain = self.vault.open_system(&place, &clip.sealed_salt)?;
        let salt = <[u8; 32]>::try_from(plain.as_slice())
            .map_err(|_| GatewayError::broken("a clip's salt has another length"))?;
        Ok(OpenedDuty { duty, salt: Some(FootageSalt(salt)) })
    }

    /// Duties after a place, in the order of the ledgers.
    ///
    /// # Errors
    ///
    /// What the store cannot do.
    pub async fn footage(
        &self,
        filter: &FootageFilter,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<OpenedDuty>, GatewayError> {
        let (_, recorded) = self.view.recorded()?;
        let mut opened = Vec::new();
        for duty in self.store.footage_page(filter, after, limit).await? {
            if duty.row.index < recorded {
                opened.push(self.opened(duty).await?);
            }
        }
        Ok(opened)
    }

    /// Keeps a decision's clips and evidence for a case.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when there is no such decision, [`GatewayError::Exists`] when the
    /// case holds it.
    pub async fn place_hold(
        &self,
        actor: &Actor,
        decision: u64,
        case: CaseReference,
    ) -> Result<Logged, GatewayError> {
        let decision = self.first_decision(decision).await?;
        let content = hold_content("hold_placed", actor, &self.position(decision)?, &case);
        self.perform_as(content, None, vec![Write::PlaceHold(decision, case)]).await
    }

    /// Ends a case's hold.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when the case has no hold on the decision.
    pub async fn lift_hold(
        &self,
        actor: &Actor,
        decision: u64,
        case: CaseReference,
    ) -> Result<Logged, GatewayError> {
        let decision = self.first_decision(decision).await?;
        let content = hold_content("hold_lifted", actor, &self.position(decision)?, &case);
        self.perform_as(content, None, vec![Write::LiftHold(decision, case)]).await
    }

    /// Notes that the video archive destroyed clips.
    ///
    /// # Errors
    ///
    /// [`GatewayError::State`] when one of them had to be kept.
    pub async fn confirm_deleted(
        &self,
        actor: &Actor,
        places: Vec<u64>,
    ) -> Result<Logged, GatewayError> {
        let (ledgers, _) = self.view.recorded()?;
        let content = Content::Erasure(Erasure {
            actor: receipt_actor(actor),
            subject: None,
            bodies: Vec::new(),
            footage: IndexRange::covering(places.iter().map(|place| ledgers.position(*place))),
            evidence: Vec::new(),
            reason: "retention".to_owned(),
        });
        self.perform_as(content, None, vec![Write::ConfirmDeleted(places)]).await
    }

    /// The first decision about the attempt that an entry belongs to: what a hold stands on. A duty is
    /// never removed, so it need not be looked for inside the transaction.
    async fn first_decision(&self, place: u64) -> Result<u64, GatewayError> {
        let duty = self.store.footage(place).await?.ok_or(GatewayError::NotFound("decision"))?;
        Ok(duty.row.decision)
    }
}

/// What the ledger says of a hold: the decision in the clear, the case as a hash.
fn hold_content(act: &str, actor: &Actor, decision: &LogPosition, case: &CaseReference) -> Content {
    let index = decision.index.to_be_bytes();
    let details = length_prefixed(&[b"tulga-hold-v1", &index, case.as_str().as_bytes()]);
    Content::Administration(Administration {
        act: act.to_owned(),
        actor: receipt_actor(actor),
        subject: Some(Administration::entry_subject(decision)),
        details: Some(sha256(&details).labelled()),
    })
}
