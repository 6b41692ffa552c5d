//! Who ends a lock: two administrators where failures locked a customer's biometric, and the holder where it
//! was their own wish.

use std::sync::Arc;

use super::Gateway;
use super::act::{Write, receipt_actor};
use super::attempts::UNDER_WAY_MAX_MS;
use super::confirmation::Signed;
use super::consent::holds;
use super::error::GatewayError;
use super::proposal::{Content as Proposed, Proposal};
use super::request::{Actor, Logged};
use super::sequencer::Slot;
use crate::crypto::{Digest, length_prefixed, sha256};
use crate::domain::four_eyes::TwoPersonAct;
use crate::domain::id::{CustomerId, PrincipalName};
use crate::domain::time::UnixMillis;
use crate::domain::transaction::CustomerReference;
use crate::receipt::{Administration, Content};
use crate::store::{HolderLockRow, LockRow, UnitOfWork};

/// How far a holder's wish may be from the gateway's clock, in milliseconds.
const ASKED_WITHIN_MS: i64 = 300_000;

const NOT_LOCKED: GatewayError = GatewayError::State("the customer's biometric is not locked");

/// What a holder wants of their own biometric, as their device signs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HolderWish {
    /// Whether no comparison may approve.
    pub locked: bool,
    /// When they said so, RFC 3339, by their device.
    pub asked_at: String,
}

/// How a customer's biometric is locked; nothing in it where it is not.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BiometricLocks {
    /// Since when too many failures lock it.
    pub by_failures: Option<UnixMillis>,
    /// Who proposes to unlock it, and until when that counts.
    pub proposal: Option<(PrincipalName, UnixMillis)>,
    /// Since when the holder wants it locked.
    pub by_holder: Option<UnixMillis>,
}

/// The bytes that a customer's device signs; `docs/attempts.md` has them.
#[must_use]
pub fn biometric_lock_message(customer: &CustomerId, wish: &HolderWish) -> Vec<u8> {
    let HolderWish { locked, asked_at } = wish;
    length_prefixed(&[
        b"tulga-biometric-lock-v1",
        customer.as_bytes(),
        if *locked { b"lock" } else { b"unlock" },
        asked_at.as_bytes(),
    ])
}

impl Gateway {
    /// One administrator proposes to unlock what failures locked.
    ///
    /// # Errors
    ///
    /// [`GatewayError::State`] when it is not locked; [`GatewayError::Exists`] when it is proposed already.
    pub async fn propose_unlock(
        &self,
        actor: &Actor,
        customer: &CustomerId,
    ) -> Result<Proposal, GatewayError> {
        let subject = self.subject_of(customer).await?;
        // In the ledger's order: locked, proposed, unlocked.
        self.enter_locks().await?;
        let lock = self.vault.tries_of_customer(&self.settings.tenant, customer);
        let beside = vec![Write::Lock(LockWrite::RequireLocked(lock))];
        let (act, of) = (TwoPersonAct::Unlock, Some(*customer));
        self.propose_act(actor, act, of, subject, Proposed::Nothing, beside).await
    }

    /// Approves what was proposed so: another administrator of another unit unlocks it, and the row of failures
    /// begins anew.
    ///
    /// # Errors
    ///
    /// [`GatewayError::State`] when nothing is proposed, and as [`Gateway::approve_proposal`].
    pub async fn approve_unlock(
        self: &Arc<Self>,
        actor: &Actor,
        customer: &CustomerId,
    ) -> Result<Logged, GatewayError> {
        self.subject_of(customer).await?;
        let row = self.open_proposal(TwoPersonAct::Unlock, customer).await?;
        let row =
            row.ok_or(GatewayError::State("nobody proposed to unlock it, or too long ago"))?;
        self.approve_proposal(actor, &row.id).await
    }

    /// Locks a customer's biometric by their own wish, or lifts that lock. It lifts no other.
    ///
    /// The same wish again gives the same entry.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] for a reference that leads to nobody, [`GatewayError::Invalid`] for a
    /// signature, key or time that does not fit, [`GatewayError::State`] after a later wish.
    pub async fn set_biometric_lock(
        &self,
        actor: &Actor,
        reference: &CustomerReference,
        wish: &HolderWish,
        signed: Option<Signed>,
    ) -> Result<Logged, GatewayError> {
        let now = self.clock.now();
        let customer = self.resolve(reference, now).await?.customer;
        let customer = customer.ok_or(GatewayError::NotFound("customer"))?;
        let asked_at = asked_at(wish, now)?;
        let subject = self.subject_of(&customer).await?;
        let (app_key, details) = self.holders_word(&customer, wish, signed).await?;
        let row = HolderLockRow {
            customer,
            locked: wish.locked,
            asked_at,
            // Both are known once the entry has its place.
            set_at: now,
            index: 0,
        };
        let act = if wish.locked { "biometric_lock_set" } else { "biometric_lock_lifted" };
        let content = Content::Administration(Administration {
            act: act.to_owned(),
            actor: receipt_actor(actor),
            subject: Some(subject),
            details,
        });
        let write = Write::Lock(LockWrite::SetByHolder(Box::new(row), app_key));
        self.perform_as(content, None, vec![write]).await
    }

    /// The key that speaks for the holder, and what the entry commits to; neither for the back end's word.
    async fn holders_word(
        &self,
        customer: &CustomerId,
        wish: &HolderWish,
        signed: Option<Signed>,
    ) -> Result<(Option<Digest>, Option<String>), GatewayError> {
        let invalid = |problem| GatewayError::Invalid { field: "signature", problem };
        let Some(Signed { key, signature }) = signed else {
            let pack = self.packs.current(self.clock.now()).await?;
            if pack.bars().accept_back_end_word {
                return Ok((None, None));
            }
            return Err(invalid("it is missing, and the rules do not take the back end's word"));
        };
        let message = biometric_lock_message(customer, wish);
        let device = self.device_key(customer, &key).await?;
        device
            .verify_either_form(&message, &signature)
            .map_err(|_| invalid("it is not this key's over this customer and wish"))?;
        let proof = [&b"tulga-biometric-lock-proof-v1"[..], &message, &signature];
        Ok((Some(key), Some(sha256(&length_prefixed(&proof)).labelled())))
    }

    /// How a customer's biometric is locked now.
    pub(super) async fn locks_of(
        &self,
        customer: &CustomerId,
    ) -> Result<BiometricLocks, GatewayError> {
        let subject = self.vault.tries_of_customer(&self.settings.tenant, customer);
        let row = self.store.biometric_lock(&subject).await?;
        let proposed = self.open_proposal(TwoPersonAct::Unlock, customer).await?;
        let by_holder = self.store.holder_lock(customer).await?.filter(|row| row.locked);
        Ok(BiometricLocks {
            by_failures: row.as_ref().map(|row| row.locked_at),
            proposal: proposed.map(|row| (row.proposed_by, row.expires_at)),
            by_holder: by_holder.map(|row| row.set_at),
        })
    }
}

/// When the holder spoke; a wish from elsewhere in time may be one that was overheard.
fn asked_at(wish: &HolderWish, now: UnixMillis) -> Result<UnixMillis, GatewayError> {
    let invalid = |problem| GatewayError::Invalid { field: "asked_at", problem };
    let at = UnixMillis::parse_rfc3339(&wish.asked_at)
        .map_err(|_| invalid("it is no time of RFC 3339"))?;
    let near = now.plus_millis(-ASKED_WITHIN_MS)..=now.plus_millis(ASKED_WITHIN_MS);
    if near.contains(&at) { Ok(at) } else { Err(invalid("it is more than 5 minutes from now")) }
}

/// One write that sets or ends a lock.
pub(super) enum LockWrite {
    /// Notes that an entry tells of a lock, or finds the one that does.
    Enter(Digest),
    /// Refuses where there is no lock to end.
    RequireLocked(Digest),
    /// Ends a lock that failures set.
    End(Digest),
    /// Keeps what a holder wants of their biometric, on the word of this key.
    SetByHolder(Box<HolderLockRow>, Option<Digest>),
    /// Forgets somebody's tries.
    ForgetTries(Digest),
}

impl LockWrite {
    /// Writes; the index of an entry that already says the same, where there is one.
    pub async fn apply(
        &self,
        unit: &mut dyn UnitOfWork,
        slot: &Slot,
    ) -> Result<Option<u64>, GatewayError> {
        match self {
            Self::Enter(subject) => return enter(unit, subject, slot).await,
            Self::RequireLocked(subject) => {
                unit.biometric_lock(subject).await?.ok_or(NOT_LOCKED)?;
            }
            Self::End(subject) => unlock(unit, subject, slot).await?,
            Self::SetByHolder(row, app_key) => {
                return set_by_holder(unit, row, app_key.as_ref(), slot).await;
            }
            Self::ForgetTries(subject) => {
                unit.forget_tries(subject, slot.now.plus_millis(1)).await?;
            }
        }
        Ok(None)
    }
}

/// Notes the entry that tells of a lock; the index of the one that there is already.
async fn enter(
    unit: &mut dyn UnitOfWork,
    subject: &Digest,
    slot: &Slot,
) -> Result<Option<u64>, GatewayError> {
    let row = unit.biometric_lock(subject).await?.ok_or(NOT_LOCKED)?;
    if row.index.is_none() {
        unit.put_biometric_lock(&LockRow { index: Some(slot.place), ..row }).await?;
        return Ok(None);
    }
    Ok(row.index)
}

/// Unlocks, and the row of failures begins anew.
async fn unlock(
    unit: &mut dyn UnitOfWork,
    subject: &Digest,
    slot: &Slot,
) -> Result<(), GatewayError> {
    if !unit.delete_biometric_lock(subject).await? {
        return Err(NOT_LOCKED);
    }
    unit.forget_tries(subject, slot.now.plus_millis(-UNDER_WAY_MAX_MS)).await?;
    Ok(())
}

/// Keeps a holder's wish, unless it was overtaken; the index of the entry that tells of this very one.
async fn set_by_holder(
    unit: &mut dyn UnitOfWork,
    row: &HolderLockRow,
    app_key: Option<&Digest>,
    slot: &Slot,
) -> Result<Option<u64>, GatewayError> {
    // A customer without a consent is nobody to whoever calls from outside the bank.
    if !holds(unit, &row.customer, slot.now).await? {
        return Err(GatewayError::NotFound("customer"));
    }
    let keys = unit.app_keys(&row.customer).await?;
    if app_key.is_some_and(|key| keys.iter().all(|bound| bound.fingerprint != *key)) {
        return Err(GatewayError::NotFound("key"));
    }
    if let Some(held) = unit.holder_lock(&row.customer).await? {
        if held.asked_at == row.asked_at && held.locked == row.locked {
            return Ok(Some(held.index));
        }
        if held.asked_at >= row.asked_at {
            return Err(GatewayError::State("the holder has said something else since"));
        }
    }
    let row = HolderLockRow { set_at: slot.now, index: slot.place, ..row.clone() };
    unit.put_holder_lock(&row).await?;
    Ok(None)
}
