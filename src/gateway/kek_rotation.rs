//! Key-encryption keys that change while the gateway serves.
//!
//! Beginning makes a key and, with an entry, makes it current: from then on whatever is wrapped is wrapped
//! under it. What is wrapped under others is wrapped anew in batches, each a transaction of its own between
//! those of the sequencer, for as long as somebody asks for the next; what was done stays done whatever
//! ends the process. When nothing is left, an entry says so. Retiring destroys keys that nothing is wrapped
//! under: that is counted in the transaction after which nothing can be added under them.

use tokio::task::block_in_place;

use super::Gateway;
use super::act::{Write, receipt_actor};
use super::error::GatewayError;
use super::request::{Actor, Logged};
use crate::crypto::AeadError;
use crate::domain::time::UnixMillis;
use crate::receipt::{Administration, Content};
use crate::store::{KekRow, UnitOfWork};
use crate::vault::{FIRST_KEK, KekName, VaultError};

/// Most keys that are wrapped anew in one transaction: it keeps decisions waiting meanwhile.
pub const REWRAPPED_AT_ONCE_MAX: u32 = 2_000;

/// A rotation that was begun.
#[derive(Debug)]
pub struct KekRotation {
    /// The key that is current.
    pub kek: KekName,
    /// How many keys are wrapped under others.
    pub left: u64,
    /// The entry of its beginning; none where one that was under way goes on.
    pub begun: Option<Logged>,
}

/// A batch.
#[derive(Debug)]
pub struct Rewrapped {
    /// How many keys were wrapped anew.
    pub rewrapped: u64,
    /// How many are left.
    pub left: u64,
    /// The entry that says that nothing is left; none if it was said before.
    pub ended: Option<Logged>,
}

/// A key-encryption key that is not current any more.
#[derive(Debug)]
pub struct OldKek {
    /// How its file is called.
    pub name: String,
    /// How many keys need it; it was destroyed where none does.
    pub needed_by: u64,
    /// The entry of its destruction; none if it was destroyed before, or is needed.
    pub retired: Option<Logged>,
}

impl Gateway {
    /// Tells the vault which of its keys is current, and takes the vault's own keys from the store, which gets
    /// them at the first start.
    pub(super) async fn open_vault(&self) -> Result<(), GatewayError> {
        let (keks, own) = (self.store.keks().await?, self.store.own_keys().await?);
        let Some(current) = keks.last() else { return self.settle_vault().await };
        // A key that is destroyed, or whose destruction a crash cut off, is no loss.
        for row in keks.iter().filter(|row| row.retired_at.is_none()) {
            self.require_kek(&row.kek_id)?;
        }
        self.vault.make_current(&current.kek_id).map_err(GatewayError::Vault)?;
        self.vault.take_own(&self.settings.tenant, &own)?;
        if !self.vault.is_locked() {
            tracing::warn!(
                "key-encryption keys may be written to swap space: the system lets this process lock no \
                 memory; raise its limit (LimitMEMLOCK=, ulimit -l), or turn swap off"
            );
        }
        Ok(())
    }

    fn require_kek(&self, id: &str) -> Result<(), GatewayError> {
        let is_held = self.vault.keks().iter().any(|kek| kek.id == id);
        let missing = || GatewayError::Vault(VaultError::Missing { id: id.to_owned() });
        is_held.then_some(()).ok_or_else(missing)
    }

    /// Writes down what a store of before does not say: its keys follow from the first key-encryption key. A
    /// fresh one gets keys that follow from nothing.
    async fn settle_vault(&self) -> Result<(), GatewayError> {
        let (_, entries) = self.view.recorded()?;
        let is_fresh = entries == 0 && self.store.customers(None, 1).await?.is_empty();
        let kek = self.vault.current_kek();
        if is_fresh {
            self.vault.make_own(&*self.entropy)?;
        } else if kek.name != FIRST_KEK {
            return Err(GatewayError::Vault(VaultError::Missing { id: FIRST_KEK.to_owned() }));
        }
        let now = self.clock.now();
        let mut unit = self.store.begin().await?;
        let row = KekRow {
            ordinal: 0,
            kek_id: kek.id,
            name: kek.name,
            begun_at: now,
            ended_at: Some(now),
            retired_at: None,
        };
        unit.insert_kek(&row).await?;
        self.put_own_keys(&mut *unit).await?;
        Ok(unit.commit().await?)
    }

    async fn put_own_keys(&self, unit: &mut dyn UnitOfWork) -> Result<(), GatewayError> {
        for row in self.vault.own_rows(&self.settings.tenant, &*self.entropy)? {
            unit.put_own_key(&row).await?;
        }
        Ok(())
    }

    /// Makes a new key-encryption key current, or goes on with one that others are not wrapped under yet.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Vault`] when no key can be made or kept.
    pub async fn begin_kek_rotation(&self, actor: &Actor) -> Result<KekRotation, GatewayError> {
        let _turn = self.key_change.lock().await;
        let keks = self.store.keks().await?;
        let current = keks.last().ok_or(GatewayError::broken("no key-encryption key"))?;
        // After a commit whose fate was unclear it may be current without the vault's knowing.
        self.vault.make_current(&current.kek_id).map_err(GatewayError::Vault)?;
        let left = self.store.wrapped_under_others(&current.kek_id).await?;
        // Rows of before say no key, and with one key only nothing can be under way.
        let is_left = left > 0 && keks.len() > 1;
        if current.ended_at.is_none() || is_left {
            return Ok(KekRotation { kek: self.vault.current_kek(), left, begun: None });
        }
        let kek = self.unused_kek(&keks)?;
        let row = KekRow {
            ordinal: current.ordinal + 1,
            kek_id: kek.id.clone(),
            name: kek.name.clone(),
            begun_at: self.clock.now(),
            ended_at: None,
            retired_at: None,
        };
        let content = kek_act("kek_rotation_begun", actor, &kek.name);
        let begun = self.perform_as(content, None, vec![Write::Kek(KekWrite::Begin(row))]).await?;
        self.vault.make_current(&kek.id).map_err(GatewayError::Vault)?;
        let left = self.store.wrapped_under_others(&kek.id).await?;
        Ok(KekRotation { kek, left, begun: Some(begun) })
    }

    /// A key that was made and never became current, since something ended the call; else a new one.
    fn unused_kek(&self, keks: &[KekRow]) -> Result<KekName, GatewayError> {
        let held = self.vault.keks();
        let newest = held.last().filter(|kek| keks.iter().all(|row| row.kek_id != kek.id));
        match newest {
            Some(kek) => Ok(kek.clone()),
            None => {
                block_in_place(|| self.vault.make_kek(&*self.entropy)).map_err(GatewayError::Vault)
            }
        }
    }

    /// Wraps some keys anew under the current key-encryption key, and says in the ledger when none is left.
    ///
    /// # Errors
    ///
    /// What the store cannot do; [`GatewayError::Internal`] for a row that does not open. What was wrapped
    /// anew before stays so.
    pub async fn rewrap_keys(
        &self,
        actor: &Actor,
        at_most: u32,
    ) -> Result<Rewrapped, GatewayError> {
        let _turn = self.key_change.lock().await;
        let kek = self.vault.current_kek();
        let rewrapped = self.rewrap_batch(&kek.id, at_most.clamp(1, REWRAPPED_AT_ONCE_MAX)).await?;
        let left = self.store.wrapped_under_others(&kek.id).await?;
        let keks = self.store.keks().await?;
        let is_open = keks.last().is_some_and(|row| row.ended_at.is_none());
        if left > 0 || !is_open {
            return Ok(Rewrapped { rewrapped, left, ended: None });
        }
        let content = kek_act("kek_rotated", actor, &kek.name);
        match self.perform_as(content, None, vec![Write::Kek(KekWrite::End(kek.id))]).await {
            Ok(logged) => Ok(Rewrapped { rewrapped, left, ended: Some(logged) }),
            Err(GatewayError::State(MEANWHILE)) => {
                Ok(Rewrapped { rewrapped, left: 1, ended: None })
            }
            Err(error) => Err(error),
        }
    }

    async fn rewrap_batch(&self, kek_id: &str, at_most: u32) -> Result<u64, GatewayError> {
        let tenant = &self.settings.tenant;
        let own = self.store.own_keys().await?.iter().filter(|row| row.kek_id != kek_id).count();
        let room = at_most.saturating_sub(u32::try_from(own).unwrap_or(u32::MAX));
        let mut unit = self.store.begin().await?;
        if own > 0 {
            self.put_own_keys(&mut *unit).await?;
        }
        let customers = unit.customer_keys_under_others(kek_id, room).await?;
        for row in &customers {
            let row = self.vault.rewrap_customer(tenant, row, &*self.entropy).map_err(altered)?;
            unit.rewrap_customer_key(&row).await?;
        }
        let done = u32::try_from(customers.len()).unwrap_or(u32::MAX);
        let evidence = unit.evidence_keys_under_others(kek_id, room.saturating_sub(done)).await?;
        for row in &evidence {
            let row = self.vault.rewrap_evidence(tenant, row, &*self.entropy).map_err(altered)?;
            unit.rewrap_evidence_key(&row).await?;
        }
        unit.commit().await?;
        Ok(u64::try_from(own + customers.len() + evidence.len()).unwrap_or(u64::MAX))
    }

    /// Destroys every key-encryption key but the current one that nothing is wrapped under.
    ///
    /// # Errors
    ///
    /// What the store cannot do; [`GatewayError::Vault`] when a key may be there still: call again.
    pub async fn retire_keks(&self, actor: &Actor) -> Result<Vec<OldKek>, GatewayError> {
        let _turn = self.key_change.lock().await;
        let keks = self.store.keks().await?;
        let Some((_, old)) = keks.split_last() else { return Ok(Vec::new()) };
        let mut told = Vec::new();
        for row in old {
            let is_held = self.vault.keks().iter().any(|kek| kek.id == row.kek_id);
            let mut old = OldKek { name: row.name.clone(), needed_by: 0, retired: None };
            if row.retired_at.is_none() {
                let content = kek_act("kek_retired", actor, &row.name);
                let write = Write::Kek(KekWrite::Retire(row.kek_id.clone()));
                match self.perform_as(content, None, vec![write]).await {
                    Ok(logged) => old.retired = Some(logged),
                    Err(GatewayError::KekNeeded { by }) => old.needed_by = by,
                    Err(error) => return Err(error),
                }
            } else if !is_held {
                continue;
            }
            if old.needed_by == 0 && is_held {
                block_in_place(|| self.vault.destroy_kek(&row.kek_id))
                    .map_err(GatewayError::Vault)?;
            }
            told.push(old);
        }
        Ok(told)
    }
}

/// What ending is refused with where a call had wrapped a key just before the change.
const MEANWHILE: &str = "a key was wrapped under the old key-encryption key meanwhile";

fn altered(cause: AeadError) -> GatewayError {
    GatewayError::internal(
        "a wrapped key does not open: its row was altered, or names a key-encryption key that is not here",
        cause,
    )
}

fn kek_act(act: &str, actor: &Actor, name: &str) -> Content {
    Content::Administration(Administration {
        act: act.to_owned(),
        actor: receipt_actor(actor),
        subject: Some(name.to_owned()),
        details: None,
    })
}

/// What is written of a key-encryption key, with its entry.
pub(super) enum KekWrite {
    /// It is current.
    Begin(KekRow),
    /// Nothing is wrapped under another.
    End(String),
    /// It is destroyed.
    Retire(String),
}

impl KekWrite {
    /// Writes, where nothing stands against it.
    pub async fn apply(
        &self,
        unit: &mut dyn UnitOfWork,
        now: UnixMillis,
    ) -> Result<(), GatewayError> {
        match self {
            Self::Begin(row) => Ok(unit.insert_kek(row).await?),
            Self::End(id) => {
                if unit.wrapped_under_others(id).await? > 0 {
                    return Err(GatewayError::State(MEANWHILE));
                }
                if unit.end_kek(id, now).await? {
                    return Ok(());
                }
                Err(GatewayError::State("the rotation has ended"))
            }
            Self::Retire(id) => {
                let by = unit.wrapped_under(id).await?;
                if by > 0 {
                    return Err(GatewayError::KekNeeded { by });
                }
                if unit.retire_kek(id, now).await? {
                    return Ok(());
                }
                Err(GatewayError::State("the key-encryption key is retired already"))
            }
        }
    }
}
