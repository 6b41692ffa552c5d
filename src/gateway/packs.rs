//! Which pack decides: found by time, in one place.
//!
//! People's activations are rows in the store. A decision asks for the one that holds at its own time,
//! inside its own transaction, so an activation counts from its place in the ledger on, without a
//! restart. Until people activate a pack the configured one decides.
//!
//! A stored pack must be the bytes that its hash is of, and its activation must be told by a signed entry
//! of the ledger. If it is not, nothing is decided.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use tokio::sync::{Mutex, MutexGuard};
use tokio::task::spawn_blocking;

use super::error::GatewayError;
use super::keyring::Keyring;
use super::ledger_view::LedgerView;
use crate::crypto::{Digest, length_prefixed, sha256};
use crate::domain::time::UnixMillis;
use crate::policy::{PackError, PackFiles, PolicyPack};
use crate::receipt::{Content, verify};
use crate::store::{ActivationRow, Store, UnitOfWork};

/// The word of entries that say from when a pack decides.
pub(super) const ACTIVATED: &str = "policy_activated";

/// Longest fault told, in characters.
const FAULT_CHARS_MAX: usize = 1000;

/// The stack on which a pack is checked.
const STACK_BYTES: usize = 64 << 20;

/// The packs that decide, decided or will decide.
#[derive(Debug)]
pub(super) struct Packs {
    store: Arc<dyn Store>,
    view: Arc<LedgerView>,
    keyring: Arc<Keyring>,
    configured: Arc<PolicyPack>,
    /// By the entries of their activations, with what was activated.
    loaded: RwLock<BTreeMap<u64, (ActivationRow, Arc<PolicyPack>)>>,
    /// Held while a pack is checked: that costs much, and one at a time is enough.
    checking: Mutex<()>,
}

impl Packs {
    pub fn new(
        store: Arc<dyn Store>,
        view: Arc<LedgerView>,
        keyring: Arc<Keyring>,
        configured: Arc<PolicyPack>,
    ) -> Self {
        let (loaded, checking) = (RwLock::default(), Mutex::new(()));
        Self { store, view, keyring, configured, loaded, checking }
    }

    /// The configured pack.
    pub const fn configured(&self) -> &Arc<PolicyPack> {
        &self.configured
    }

    /// The pack that decides at `now`, inside the transaction of a decision.
    pub async fn at(
        &self,
        unit: &mut dyn UnitOfWork,
        now: UnixMillis,
    ) -> Result<Arc<PolicyPack>, GatewayError> {
        match unit.activation_at(now).await? {
            Some(row) => self.of(&row).await,
            None => Ok(Arc::clone(&self.configured)),
        }
    }

    /// The pack that would decide at `now` by what is committed: for what is told before a decision.
    pub async fn current(&self, now: UnixMillis) -> Result<Arc<PolicyPack>, GatewayError> {
        match self.store.activation_at(now).await? {
            Some(row) => self.of(&row).await,
            None => Ok(Arc::clone(&self.configured)),
        }
    }

    /// Loads what decides now and what is to decide later, so that what cannot decide is noticed before
    /// anybody stands at a terminal.
    pub async fn open(&self, now: UnixMillis, scheduled_max: u32) -> Result<(), GatewayError> {
        self.current(now).await?;
        for row in self.store.activations_after(now, scheduled_max).await? {
            self.of(&row).await?;
        }
        Ok(())
    }

    /// Keeps a checked pack for the activation that is being written.
    pub fn keep(&self, row: &ActivationRow, pack: &Arc<PolicyPack>) -> Result<(), GatewayError> {
        let mut loaded = self.loaded.write().map_err(|_| GatewayError::broken("packs lock"))?;
        loaded.insert(row.index, (row.clone(), Arc::clone(pack)));
        Ok(())
    }

    /// Checks a pack that somebody sent, and runs its cases.
    pub async fn check(&self, files: PackFiles) -> Result<Arc<PolicyPack>, GatewayError> {
        let _turn: MutexGuard<'_, ()> =
            self.checking.try_lock().map_err(|_| GatewayError::Overloaded)?;
        run(move || files.load()).await?.map_err(|error| refused(&error))
    }

    /// The stored pack of this hash, whole and unaltered.
    pub async fn stored(&self, hash: Digest) -> Result<Arc<PolicyPack>, GatewayError> {
        let bytes = self.store.pack_files(&hash).await?;
        let bytes = bytes.ok_or(GatewayError::broken("a policy pack's files are missing"))?;
        if sha256(&bytes) != hash {
            return Err(GatewayError::broken("a stored policy pack was altered"));
        }
        let loaded = run(move || PackFiles::from_bytes(&bytes)?.load()).await?;
        loaded.map_err(|cause| GatewayError::internal("a stored policy pack", cause))
    }

    async fn of(&self, row: &ActivationRow) -> Result<Arc<PolicyPack>, GatewayError> {
        let known = {
            let loaded = self.loaded.read().map_err(|_| GatewayError::broken("packs lock"))?;
            loaded.get(&row.index).filter(|(known, _)| known == row).map(|(_, it)| Arc::clone(it))
        };
        if let Some(pack) = known {
            return Ok(pack);
        }
        self.require_entry(row).await?;
        let pack = self.stored(row.hash).await?;
        if pack.id().as_str() != row.id || pack.version() != row.version {
            return Err(GatewayError::broken("an activation is of another policy pack"));
        }
        self.keep(row, &pack)?;
        Ok(pack)
    }

    /// A row that no signed entry tells of was written by somebody else.
    async fn require_entry(&self, row: &ActivationRow) -> Result<(), GatewayError> {
        let position = self.view.recorded()?.0.position(row.index);
        let entry = self.store.entry(position.origin.as_str(), position.index).await?;
        let entry = entry.ok_or(GatewayError::broken("an activation has no ledger entry"))?;
        let verified = verify(&entry.jws, &self.keyring.installed()?.register)
            .map_err(|cause| GatewayError::internal("the entry of an activation", cause))?;
        let body = verified.body();
        let tells = match &body.content {
            Content::Administration(said) => {
                said.act == ACTIVATED
                    && said.subject.as_deref() == Some(row.id.as_str())
                    && said.details == Some(activation_details(row).labelled())
            }
            _ => false,
        };
        let is_there =
            body.log.origin == position.origin.as_str() && body.log.index == position.index;
        if tells && is_there {
            Ok(())
        } else {
            Err(GatewayError::broken("an activation's ledger entry says something else"))
        }
    }
}

/// The hash of an activation's particulars, as its entry has it.
pub(super) fn activation_details(row: &ActivationRow) -> Digest {
    sha256(&length_prefixed(&[
        b"tulga-policy-activated-v1",
        row.id.as_bytes(),
        &row.version.to_be_bytes(),
        row.hash.as_bytes(),
        row.effective_at.rfc3339().as_bytes(),
    ]))
}

/// A pack that is refused, with its first fault.
pub(super) fn refused(error: &PackError) -> GatewayError {
    let fault = error.faults().into_iter().next().unwrap_or_default();
    GatewayError::Pack { fault: fault.chars().take(FAULT_CHARS_MAX).collect() }
}

/// Runs what takes long away from the threads that answer.
async fn run(
    work: impl FnOnce() -> Result<PolicyPack, PackError> + Send + 'static,
) -> Result<Result<Arc<PolicyPack>, PackError>, GatewayError> {
    let failed = "check of a policy pack";
    let ended = spawn_blocking(move || {
        // Rules may be nested, within bounds, deeper than the stack of a thread that answers.
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work);
        thread.map(std::thread::JoinHandle::join)
    })
    .await
    .map_err(|cause| GatewayError::internal(failed, cause))?
    .map_err(|cause| GatewayError::internal(failed, cause))?;
    Ok(ended.map_err(|_| GatewayError::broken(failed))?.map(Arc::new))
}
