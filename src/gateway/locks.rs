//! Who ends a lock: two administrators where failures locked a customer's biometric, and the holder where it
//! was their own wish.

use super::Gateway;
use super::act::{Act, Write, receipt_actor};
use super::attempts::UNDER_WAY_MAX_MS;
use super::confirmation::Signed;
use super::consent::holds;
use super::error::GatewayError;
use super::people::{Person, SECOND_PERSON_WITHIN_MS, require_another};
use super::request::{Actor, Logged};
use super::sequencer::Slot;
use crate::crypto::{Digest, length_prefixed, sha256};
use crate::domain::id::{CustomerId, PrincipalName};
use crate::domain::time::UnixMillis;
use crate::domain::transaction::CustomerReference;
use crate::receipt::{Administration, Content};
use crate::store::{HolderLockRow, LockRow, UnitOfWork, UnlockProposal};

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
    /// One administrator proposes to unlock what failures locked; until when that counts.
    ///
    /// # Errors
    ///
    /// [`GatewayError::State`] when it is not locked.
    pub async fn propose_unlock(
        &self,
        actor: &Actor,
        customer: &CustomerId,
    ) -> Result<UnixMillis, GatewayError> {
        let subject = Some(self.subject_of(customer).await?);
        // In the ledger's order: locked, proposed, unlocked.
        self.enter_locks().await?;
        let proposal = UnlockProposal {
            by: actor.name.clone(),
            key: actor.spki,
            // Both are known once the entry has its place.
            at: self.clock.now(),
            index: 0,
        };
        let lock = self.vault.tries_of_customer(&self.settings.tenant, customer);
        let act = Act { act: "unlock_proposed", actor, subject, terminal: None };
        self.perform(act, vec![Write::Lock(LockWrite::Propose(lock, Box::new(proposal)))]).await?;
        let row = self.store.biometric_lock(&lock).await?.ok_or(NOT_LOCKED)?;
        let first = row.proposal.ok_or(GatewayError::broken("a proposal is missing"))?;
        Ok(ends(&first))
    }

    /// Another administrator, by name and key, unlocks it: the row of failures begins anew.
    ///
    /// # Errors
    ///
    /// [`GatewayError::State`] when it is not locked, nothing is proposed, or by the same person.
    pub async fn approve_unlock(
        &self,
        actor: &Actor,
        customer: &CustomerId,
    ) -> Result<Logged, GatewayError> {
        let subject = Some(self.subject_of(customer).await?);
        let lock = self.vault.tries_of_customer(&self.settings.tenant, customer);
        let act = Act { act: "biometric_unlocked", actor, subject, terminal: None };
        let write = Write::Lock(LockWrite::Approve(lock, actor.name.clone(), actor.spki));
        self.perform(act, vec![write]).await
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
        let first = row.as_ref().and_then(|row| row.proposal.as_ref());
        let first = first.filter(|first| self.clock.now() < ends(first));
        let by_holder = self.store.holder_lock(customer).await?.filter(|row| row.locked);
        Ok(BiometricLocks {
            by_failures: row.as_ref().map(|row| row.locked_at),
            proposal: first.map(|first| (first.by.clone(), ends(first))),
            by_holder: by_holder.map(|row| row.set_at),
        })
    }
}

fn ends(first: &UnlockProposal) -> UnixMillis {
    first.at.plus_millis(SECOND_PERSON_WITHIN_MS)
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
    /// Proposes to unlock a biometric.
    Propose(Digest, Box<UnlockProposal>),
    /// Unlocks what somebody with another name and key proposed.
    Approve(Digest, PrincipalName, Digest),
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
            Self::Propose(subject, first) => propose(unit, subject, first, slot).await?,
            Self::Approve(subject, name, key) => unlock(unit, subject, name, key, slot).await?,
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

/// Notes a first administrator's word in place of an earlier one.
async fn propose(
    unit: &mut dyn UnitOfWork,
    subject: &Digest,
    first: &UnlockProposal,
    slot: &Slot,
) -> Result<(), GatewayError> {
    let row = unit.biometric_lock(subject).await?.ok_or(NOT_LOCKED)?;
    let first = UnlockProposal { at: slot.now, index: slot.place, ..first.clone() };
    Ok(unit.put_biometric_lock(&LockRow { proposal: Some(first), ..row }).await?)
}

/// Unlocks what somebody else proposed to unlock.
async fn unlock(
    unit: &mut dyn UnitOfWork,
    subject: &Digest,
    name: &PrincipalName,
    key: &Digest,
    slot: &Slot,
) -> Result<(), GatewayError> {
    let row = unit.biometric_lock(subject).await?.ok_or(NOT_LOCKED)?;
    let first = row.proposal.filter(|first| slot.now < ends(first));
    let first =
        first.ok_or(GatewayError::State("nobody proposed to unlock it, or too long ago"))?;
    require_another(unit, Person::of(&first.by, &first.key), Person::of(name, key)).await?;
    unit.delete_biometric_lock(subject).await?;
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
