//! The life of a pack of rules: proposed by its author, approved by a second person, activated.

use std::sync::Arc;

use super::Gateway;
use super::act::receipt_actor;
use super::error::GatewayError;
use super::pack_job::{PackAct, PackJob, Signed};
use super::packs::refused;
use super::request::{Actor, Logged};
use crate::crypto::{Digest, PublicKey};
use crate::domain::time::UnixMillis;
use crate::policy::{PackConsent, PackFiles};
use crate::receipt;
use crate::store::{ActivationRow, PackRow};

/// How far ahead a pack may be activated.
const AHEAD_MAX_MS: i64 = 366 * 24 * 3_600_000;

/// Most activations that are shown and kept ready before they take effect.
const SCHEDULED_MAX: u32 = 100;

/// Who decides, and who will.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActivePack {
    /// What decides now.
    pub active: ActivationRow,
    /// What takes effect later, in that order.
    pub scheduled: Vec<ActivationRow>,
}

impl Gateway {
    /// Takes an author's pack, after it has passed its check and its own cases.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Pack`] with its first fault; [`GatewayError::Exists`] for a pack that is known;
    /// [`GatewayError::State`] when the version does not grow or too many wait.
    pub async fn propose_pack(
        &self,
        actor: &Actor,
        files: Vec<(String, Vec<u8>)>,
        key: PublicKey,
        signature: Vec<u8>,
    ) -> Result<PackRow, GatewayError> {
        require_own_key(actor, &key)?;
        let files = PackFiles::new(files).map_err(|error| refused(&error))?;
        let bytes = files.to_bytes();
        let pack = self.packs.check(files).await?;
        let message = PackConsent::Propose.message_about(&self.settings.tenant, &pack);
        let signed = signed(actor, key, signature, &message)?;
        let hash = pack.hash();
        self.log_pack(actor, PackAct::Propose { pack, files: bytes, signed }).await?;
        self.pack(&hash).await
    }

    /// Takes a second person's approval.
    ///
    /// # Errors
    ///
    /// [`GatewayError::State`] for the author themself, and when there is nothing to approve any more.
    pub async fn approve_pack(
        &self,
        actor: &Actor,
        hash: Digest,
        key: PublicKey,
        signature: Vec<u8>,
    ) -> Result<PackRow, GatewayError> {
        require_own_key(actor, &key)?;
        let row = self.pack(&hash).await?;
        let consent = PackConsent::Approve;
        let message = consent.message(&self.settings.tenant, &row.id, row.version, &hash);
        let signed = signed(actor, key, signature, &message)?;
        self.log_pack(actor, PackAct::Approve { hash, signed }).await?;
        self.pack(&hash).await
    }

    /// Lets an approved pack decide from a time on; at once where none is given.
    ///
    /// # Errors
    ///
    /// [`GatewayError::State`] when it is not approved, or not in force then.
    pub async fn activate_pack(
        &self,
        actor: &Actor,
        hash: Digest,
        effective_at: Option<UnixMillis>,
    ) -> Result<ActivationRow, GatewayError> {
        let latest = self.clock.now().plus_millis(AHEAD_MAX_MS);
        if effective_at.is_some_and(|at| at > latest) {
            return Err(GatewayError::Invalid {
                field: "effective_at",
                problem: "it is more than 366 days ahead",
            });
        }
        self.pack(&hash).await?;
        let pack = self.packs.stored(hash).await?;
        let packs = Arc::clone(&self.packs);
        let logged = self.log_pack(actor, PackAct::Activate { pack, effective_at, packs }).await?;
        let row = self.store.activation(logged.place()).await?;
        row.ok_or(GatewayError::broken("an activation is missing"))
    }

    /// A pack that was proposed.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when there is none.
    pub async fn pack(&self, hash: &Digest) -> Result<PackRow, GatewayError> {
        self.store.pack(hash).await?.ok_or(GatewayError::NotFound("policy pack"))
    }

    /// A pack's files by name.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when there is none.
    pub async fn pack_files(&self, hash: &Digest) -> Result<Vec<(String, String)>, GatewayError> {
        let bytes = self.store.pack_files(hash).await?;
        let files = PackFiles::from_bytes(&bytes.ok_or(GatewayError::NotFound("policy pack"))?);
        let files = files.map_err(|cause| GatewayError::internal("a stored policy pack", cause))?;
        if files.hash() != *hash {
            return Err(GatewayError::broken("a stored policy pack was altered"));
        }
        Ok(files.iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect())
    }

    /// Packs in the order of their proposals, after the given entry.
    ///
    /// # Errors
    ///
    /// What the store cannot do.
    pub async fn packs(
        &self,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<PackRow>, GatewayError> {
        Ok(self.store.packs(after, limit).await?)
    }

    /// Who decides now, and who will.
    ///
    /// # Errors
    ///
    /// What the store cannot do.
    pub async fn active_pack(&self) -> Result<ActivePack, GatewayError> {
        let now = self.clock.now();
        let active = match self.store.activation_at(now).await? {
            Some(row) => Some(row),
            None => self.store.folder_activation().await?,
        };
        let active = active.ok_or(GatewayError::broken("no activation is noted"))?;
        let scheduled = self.store.activations_after(now, SCHEDULED_MAX).await?;
        Ok(ActivePack { active, scheduled })
    }

    /// Makes sure at start that what decides can, and notes the configured pack where it decides and was
    /// another before.
    pub(super) async fn open_packs(&self) -> Result<(), GatewayError> {
        let now = self.clock.now();
        self.packs.open(now, SCHEDULED_MAX).await?;
        let configured = self.packs.configured();
        if let Some(active) = self.store.activation_at(now).await? {
            if active.hash != configured.hash() {
                tracing::info!(
                    active = active.id,
                    version = active.version,
                    "an activated policy pack decides, not the configured one"
                );
            }
            return Ok(());
        }
        let noted = self.store.folder_activation().await?;
        if noted.is_some_and(|row| row.hash == configured.hash()) {
            return Ok(());
        }
        let key = self.keyring.own_key(&self.open_ledger()?)?;
        let actor = receipt::Actor {
            role: "gateway".to_owned(),
            name: "gateway".to_owned(),
            cert: key.signer.public_key().fingerprint().labelled(),
        };
        self.log_pack_as(actor, PackAct::Note { pack: Arc::clone(configured) }).await.map(drop)
    }

    async fn log_pack(&self, actor: &Actor, act: PackAct) -> Result<Logged, GatewayError> {
        self.log_pack_as(receipt_actor(actor), act).await
    }

    async fn log_pack_as(
        &self,
        actor: receipt::Actor,
        act: PackAct,
    ) -> Result<Logged, GatewayError> {
        let job = PackJob {
            receipt: self.new_receipt()?,
            issuer: self.settings.issuer.clone(),
            tenant: self.settings.tenant.as_str().to_owned(),
            actor,
            act,
        };
        self.sequencer.submit(Box::new(job)).await
    }
}

/// Who signs does so with the key that the door has just seen them hold.
fn require_own_key(actor: &Actor, key: &PublicKey) -> Result<(), GatewayError> {
    if key.fingerprint() == actor.spki {
        return Ok(());
    }
    Err(GatewayError::Invalid {
        field: "public_key",
        problem: "it is not the Ed25519 key of the caller's certificate",
    })
}

fn signed(
    actor: &Actor,
    key: PublicKey,
    signature: Vec<u8>,
    message: &[u8],
) -> Result<Signed, GatewayError> {
    key.verify(message, &signature).map_err(|_| GatewayError::Invalid {
        field: "signature",
        problem: "it is not this key's signature over this pack",
    })?;
    Ok(Signed { name: actor.name.clone(), key, signature })
}
