//! The acts of a pack's life, each with its ledger entry, in one transaction.

use std::sync::Arc;

use async_trait::async_trait;

use super::error::GatewayError;
use super::packs::{ACTIVATED, Packs, activation_details};
use super::people::{Person, require_another};
use super::sequencer::{Job, NewEntry, Slot, Step};
use crate::crypto::{Digest, PublicKey, length_prefixed, sha256};
use crate::domain::id::{PrincipalName, ReceiptId};
use crate::domain::time::UnixMillis;
use crate::policy::PolicyPack;
use crate::receipt::{Actor, Administration, Content, ReceiptDraft, rid_text};
use crate::store::{ActivationRow, PackRow, PackSignature, UnitOfWork};

/// How long a proposal waits for an approval.
const PROPOSAL_MS: i64 = 7 * 24 * 3_600_000;

/// Most proposals that may wait.
const WAITING_MAX: u64 = 32;

/// One act on its way into the ledger.
pub(super) struct PackJob {
    pub receipt: ReceiptId,
    pub issuer: String,
    pub tenant: String,
    pub actor: Actor,
    pub act: PackAct,
}

/// A signature that was verified.
pub(super) struct Signed {
    pub name: PrincipalName,
    pub key: PublicKey,
    pub signature: Vec<u8>,
}

/// What happens to a pack.
pub(super) enum PackAct {
    /// Its author proposes it.
    Propose { pack: Arc<PolicyPack>, files: Vec<u8>, signed: Signed },
    /// A second person approves it.
    Approve { hash: Digest, signed: Signed },
    /// It decides from a time on; from this act on where none is given.
    Activate { pack: Arc<PolicyPack>, effective_at: Option<UnixMillis>, packs: Arc<Packs> },
    /// The gateway notes that its configured pack decides.
    Note { pack: Arc<PolicyPack> },
}

/// What the entry says.
struct Said {
    act: &'static str,
    id: String,
    details: Digest,
}

#[async_trait]
impl Job for PackJob {
    async fn run(&mut self, unit: &mut dyn UnitOfWork, slot: &Slot) -> Result<Step, GatewayError> {
        let Said { act, id, details } = self.act.apply(unit, slot).await?;
        Ok(Step::Append(Box::new(NewEntry {
            receipt: self.receipt,
            terminal: None,
            draft: ReceiptDraft {
                rid: rid_text(&self.receipt),
                iss: self.issuer.clone(),
                aud: None,
                valid_for_ms: None,
                tenant: self.tenant.clone(),
                content: Content::Administration(Administration {
                    act: act.to_owned(),
                    actor: self.actor.clone(),
                    subject: Some(id),
                    details: Some(details.labelled()),
                }),
            },
            sealed_audit: None,
        })))
    }

    fn receipt(&self) -> Option<ReceiptId> {
        Some(self.receipt)
    }
}

impl PackAct {
    async fn apply(&self, unit: &mut dyn UnitOfWork, slot: &Slot) -> Result<Said, GatewayError> {
        match self {
            Self::Propose { pack, files, signed } => propose(unit, slot, pack, files, signed).await,
            Self::Approve { hash, signed } => approve(unit, slot, hash, signed).await,
            Self::Activate { pack, effective_at, packs } => {
                let row = activate(unit, slot, pack, *effective_at).await?;
                packs.keep(&row, pack)?;
                Ok(row.said())
            }
            Self::Note { pack } => {
                let row = ActivationRow::of(pack, slot, slot.now, true);
                unit.insert_activation(&row).await?;
                Ok(row.said())
            }
        }
    }
}

async fn propose(
    unit: &mut dyn UnitOfWork,
    slot: &Slot,
    pack: &PolicyPack,
    files: &[u8],
    signed: &Signed,
) -> Result<Said, GatewayError> {
    let (id, version, hash) = (pack.id().as_str(), pack.version(), pack.hash());
    unit.delete_expired_packs(slot.now).await?;
    if unit.pack(&hash).await?.is_some() {
        return Err(GatewayError::Exists("policy pack"));
    }
    if unit.packs_waiting().await? >= WAITING_MAX {
        return Err(GatewayError::State("too many proposals wait for an approval"));
    }
    let activations = unit.activations_of(id).await?;
    // The configured pack itself may be proposed, so that there is a way back to it.
    if !activations.iter().any(|row| row.hash == hash) {
        let packs = unit.packs_of(id).await?;
        let versions = packs.iter().map(|row| row.version);
        if versions.chain(activations.iter().map(|row| row.version)).any(|it| it >= version) {
            return Err(GatewayError::State("the version of a policy pack must grow"));
        }
    }
    let row = PackRow {
        hash,
        id: id.to_owned(),
        version,
        expires_at: slot.now.plus_millis(PROPOSAL_MS),
        proposed: signed.row(slot),
        approved: None,
    };
    unit.insert_pack(&row, files).await?;
    Ok(row.said("policy_proposed", signed))
}

async fn approve(
    unit: &mut dyn UnitOfWork,
    slot: &Slot,
    hash: &Digest,
    signed: &Signed,
) -> Result<Said, GatewayError> {
    let row = unit.pack(hash).await?.ok_or(GatewayError::NotFound("policy pack"))?;
    let (first, second) = (row.proposed.key.fingerprint(), signed.key.fingerprint());
    let first = Person::of(&row.proposed.name, &first);
    require_another(unit, first, Person::of(&signed.name, &second)).await?;
    if row.expires_at < slot.now {
        return Err(GatewayError::State("the proposal has expired"));
    }
    if !unit.approve_pack(hash, &signed.row(slot)).await? {
        return Err(GatewayError::State("the policy pack is approved already"));
    }
    Ok(row.said("policy_approved", signed))
}

async fn activate(
    unit: &mut dyn UnitOfWork,
    slot: &Slot,
    pack: &PolicyPack,
    effective_at: Option<UnixMillis>,
) -> Result<ActivationRow, GatewayError> {
    let row = unit.pack(&pack.hash()).await?.ok_or(GatewayError::NotFound("policy pack"))?;
    if row.approved.is_none() {
        return Err(GatewayError::State("the policy pack is not approved"));
    }
    let effective_at = effective_at.unwrap_or(slot.now);
    if effective_at < slot.now {
        return Err(GatewayError::Invalid { field: "effective_at", problem: "it is in the past" });
    }
    if !pack.in_force(effective_at) {
        return Err(GatewayError::State("the policy pack is not in force at that time"));
    }
    let row = ActivationRow::of(pack, slot, effective_at, false);
    unit.insert_activation(&row).await?;
    Ok(row)
}

impl Signed {
    fn row(&self, slot: &Slot) -> PackSignature {
        PackSignature {
            name: self.name.clone(),
            key: self.key,
            signature: self.signature.clone(),
            at: slot.now,
            index: slot.place,
        }
    }
}

impl PackRow {
    /// The entry of a signature: its particulars are the pack, the key and the signature.
    fn said(&self, act: &'static str, signed: &Signed) -> Said {
        let details = sha256(&length_prefixed(&[
            b"tulga-policy-signed-v1",
            act.as_bytes(),
            self.id.as_bytes(),
            &self.version.to_be_bytes(),
            self.hash.as_bytes(),
            signed.key.as_bytes(),
            &signed.signature,
        ]));
        Said { act, id: self.id.clone(), details }
    }
}

impl ActivationRow {
    fn of(pack: &PolicyPack, slot: &Slot, effective_at: UnixMillis, from_folder: bool) -> Self {
        Self {
            index: slot.place,
            hash: pack.hash(),
            id: pack.id().as_str().to_owned(),
            version: pack.version(),
            effective_at,
            from_folder,
        }
    }

    fn said(&self) -> Said {
        Said { act: ACTIVATED, id: self.id.clone(), details: activation_details(self) }
    }
}
