//! Keys that change while the gateway serves: a key is prepared, a register is installed, the ledger
//! says so.
//!
//! A register is in force from the moment at which the key store has it durably. What the ledger must say
//! of it is kept beside it until it does: whatever ends the gateway in between, the next start finds both,
//! and the register is never in force by half.

use tokio::task::block_in_place;

use super::act::receipt_actor;
use super::error::GatewayError;
use super::key_store::{KeyEvent, KeyRegisterFiles};
use super::keyring::LedgerSet;
use super::request::{Actor, Logged};
use super::{Gateway, Installed};
use crate::crypto::{PublicKey, sha256};
use crate::domain::id::ReceiptId;
use crate::domain::time::UnixMillis;
use crate::ledger::{LogOfLogs, half_years_after};
use crate::receipt::{
    self, Administration, Content, KeyRecord, KeyRegister, KeyStatus, KeyUse, LedgerPlace,
};

/// A key begins so long before it was made: the clock may step back a little.
const NOT_BEFORE_MARGIN_MS: i64 = 60_000;

/// Half-years to come whose ledgers a register names.
pub const HALF_YEARS_AHEAD: usize = 3;

/// A key that no register names yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PreparedKey {
    /// The name that the register must give it.
    pub kid: String,
    /// Its public half.
    pub public_key: PublicKey,
    /// It signs nothing before.
    pub not_before: UnixMillis,
    /// Where its private half is: `file` or `token`.
    pub home: &'static str,
}

impl Gateway {
    /// The register in force, and where each ledger stands.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Internal`] after a thread broke off.
    pub fn keys(&self) -> Result<(std::sync::Arc<Installed>, Vec<LedgerPlace>), GatewayError> {
        Ok((self.keyring.installed()?, self.keyring.places(&self.ledger_set()?)?))
    }

    /// Makes a key for receipts or checkpoints.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Keys`] when it cannot be made or kept.
    pub async fn prepare_key(&self, usage: KeyUse) -> Result<PreparedKey, GatewayError> {
        if !matches!(usage, KeyUse::Receipt | KeyUse::Ledger) {
            return Err(GatewayError::Invalid {
                field: "use",
                problem: "it is no use of the gateway",
            });
        }
        // A name is given once: nobody installs a register while a key is made.
        let _turn = self.key_change.lock().await;
        let kid = self.keyring.installed()?.register.next_kid(usage);
        let store = self.keyring.store();
        let made = block_in_place(|| store.create(&kid, usage));
        let public_key = made.map_err(GatewayError::Keys)?;
        let not_before = self.clock.now().plus_millis(-NOT_BEFORE_MARGIN_MS);
        Ok(PreparedKey { kid, public_key, not_before, home: store.home(usage) })
    }

    /// Puts a register in force, and logs what it changes; the entries of this and of what was due before.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Register`] and [`GatewayError::State`] when it must not follow the one in force.
    /// [`GatewayError::Store`] when it is in force, and the ledger is to say so yet.
    pub async fn install_register(
        &self,
        actor: &Actor,
        register: Vec<u8>,
        signature: String,
    ) -> Result<Vec<Logged>, GatewayError> {
        let _turn = self.key_change.lock().await;
        let mut logged = self.settle_due().await?;
        let installed = self.keyring.installed()?;
        if installed.files.register == register {
            return Ok(logged);
        }
        let root = installed.files.root;
        let files = KeyRegisterFiles { register, signature: signature.into_bytes(), root };
        let hash = sha256(&files.register).labelled();
        let actor = receipt_actor(actor);
        let ledgers = self.ledger_set()?;
        let events = |old: &KeyRegister, new: &KeyRegister| {
            events(old, new, &hash, &actor, || self.new_receipt())
        };
        block_in_place(|| self.keyring.install(files, &ledgers, events))?;
        logged.extend(self.settle_due().await?);
        Ok(logged)
    }

    /// Logs what the ledger must say yet of the register in force.
    ///
    /// # Errors
    ///
    /// What store and disk cannot do; it stays due.
    pub(super) async fn settle_keys(&self) -> Result<Vec<Logged>, GatewayError> {
        let _turn = self.key_change.lock().await;
        self.settle_due().await
    }

    async fn settle_due(&self) -> Result<Vec<Logged>, GatewayError> {
        let due = self.keyring.store().due().map_err(GatewayError::Keys)?;
        let mut logged = Vec::new();
        for event in due {
            match self.entry_of(&event.receipt).await {
                Ok(_) => continue,
                Err(GatewayError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
            let KeyEvent { receipt, act, kid, register, actor } = event;
            let content = Content::Administration(Administration {
                act,
                actor,
                subject: Some(kid),
                details: Some(register),
            });
            logged.push(self.perform_under(receipt, content, None, Vec::new()).await?);
        }
        let store = self.keyring.store();
        block_in_place(|| store.settle()).map_err(GatewayError::Keys)?;
        Ok(logged)
    }

    fn ledger_set(&self) -> Result<LedgerSet, GatewayError> {
        let current = self.open_ledger()?;
        let log_of_logs = LogOfLogs::origin_of(&self.settings.issuer)
            .map_err(|cause| GatewayError::internal("log of logs", cause))?;
        let ahead = half_years_after(&current, HALF_YEARS_AHEAD);
        Ok(LedgerSet { current, ahead, log_of_logs })
    }
}

/// What the ledger must say of `new` after `old`: each key that is new or revoked, and where neither is,
/// each whose ranges or status change.
fn events(
    old: &KeyRegister,
    new: &KeyRegister,
    hash: &str,
    actor: &receipt::Actor,
    new_receipt: impl Fn() -> Result<ReceiptId, GatewayError>,
) -> Result<Vec<KeyEvent>, GatewayError> {
    let is_new = |key: &KeyRecord| old.key(&key.kid).is_none();
    let is_revoked = |key: &KeyRecord| {
        let was = old.key(&key.kid).map(|key| key.status);
        key.status == KeyStatus::Revoked && was != Some(KeyStatus::Revoked)
    };
    let of = |test: &dyn Fn(&KeyRecord) -> bool, act: &'static str| {
        let keys = new.keys().iter().filter(|key| test(key));
        keys.map(|key| (act, key.kid.clone())).collect::<Vec<_>>()
    };
    let mut acts = of(&is_new, "key_rotated");
    acts.extend(of(&is_revoked, "key_revoked"));
    if acts.is_empty() {
        acts = of(&|key| old.key(&key.kid) != Some(key), "key_ranges_changed");
    }
    let event = |(act, kid): (&str, String)| {
        Ok(KeyEvent {
            receipt: new_receipt()?,
            act: act.to_owned(),
            kid,
            register: hash.to_owned(),
            actor: actor.clone(),
        })
    };
    acts.into_iter().map(event).collect()
}
