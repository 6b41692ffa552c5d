//! From one ledger to the next: where the entries of a batch stand, and with which keys they are
//! signed.
//!
//! A ledger is closed by the first batch of the next half-year, in that batch's transaction: the
//! closed head, its checkpoint, the new ledger's first entry, which names what was closed, and the new
//! head. A crash leaves all of it or nothing. Where the key register has no range for the new ledger
//! the old one goes on: what is not in order in an office is no reason to keep cash from people.

use std::sync::Arc;

use rayon::prelude::*;

use super::Gateway;
use super::error::GatewayError;
use super::keyring::Keyring;
use super::ledgers::Ledgers;
use super::sequencer::NewEntry;
use super::witnessing::Witnessing;
use crate::crypto::{Entropy, random_bytes};
use crate::domain::id::ReceiptId;
use crate::domain::time::UnixMillis;
use crate::ledger::{Checkpoint, ClosedShard, LedgerNames, Origin, leaf_hash};
use crate::receipt::{
    self, Administration, Content, KeyUse, LogBlock, ReceiptDraft, issue, rid_text,
};
use crate::store::{CheckpointRow, ClosedLedgerRow, EntryRow, HeadRow, UnitOfWork};

/// The word of a ledger's first entry.
const LEDGER_OPENED: &str = "ledger_opened";

/// Fewer receipts than these are signed by one thread: waking others takes longer.
const SIGNED_BY_ONE_MAX: usize = 8;

/// What the sequencer signs with, and under which names.
#[derive(Debug)]
pub(super) struct Signing {
    pub names: LedgerNames,
    pub issuer: String,
    pub tenant: String,
    pub keyring: Arc<Keyring>,
    pub entropy: Arc<dyn Entropy>,
    pub witnessing: Arc<Witnessing>,
}

impl Signing {
    /// The ledger to begin with.
    pub fn first_ledger(&self, now: UnixMillis) -> Result<Origin, GatewayError> {
        let wanted = self.wanted(now)?;
        if self.may_sign(&wanted)? {
            return Ok(wanted);
        }
        let installed = self.keyring.installed()?;
        let keys = installed.register.keys().iter();
        let range = keys
            .filter(|key| key.usage == KeyUse::Receipt)
            .find_map(|key| key.origins.first())
            .ok_or(GatewayError::broken("no receipt key has a ledger"))?;
        Origin::try_from(range.origin.as_str())
            .map_err(|cause| GatewayError::internal("key register", cause))
    }

    /// The ledger that the clock asks for.
    pub fn wanted(&self, now: UnixMillis) -> Result<Origin, GatewayError> {
        self.names.at(now).map_err(|cause| GatewayError::internal("the ledger's name", cause))
    }

    /// Whether the register names keys for a ledger from its first entry on.
    pub fn may_sign(&self, origin: &Origin) -> Result<bool, GatewayError> {
        let register = &self.keyring.installed()?.register;
        let origin = origin.as_str();
        Ok(register.receipt_key(origin, 0).is_some() && register.ledger_key(origin, 1).is_some())
    }

    /// Whether it is time for another ledger than the open one, and the register names no key for it.
    pub fn lacks_ledger(&self, ledgers: &Ledgers, now: UnixMillis) -> Result<bool, GatewayError> {
        let wanted = self.wanted(now)?;
        Ok(!ledgers.knows(&wanted) && !self.may_sign(&wanted)?)
    }

    /// The gateway as an actor: known by the key that it signs a ledger's receipts with.
    pub fn own_actor(&self, origin: &Origin) -> Result<receipt::Actor, GatewayError> {
        let key = self.keyring.own_key(origin)?;
        let cert = key.signer.public_key().fingerprint().labelled();
        Ok(receipt::Actor { role: "gateway".to_owned(), name: key.kid, cert })
    }
}

impl Gateway {
    /// Says in the log that the old ledger goes on, and what helps.
    pub(super) fn warn_of_missing_ledger(&self, now: UnixMillis) {
        let lacks = self.view.recorded().and_then(|(it, _)| self.signing.lacks_ledger(&it, now));
        if !matches!(lacks, Ok(false)) {
            tracing::error!(
                "the key register names no keys for this half-year's ledger, and the old one goes on: \
                 run `tulga keys rotate`, which names the half-years to come"
            );
        }
    }
}

/// Where the entries of a batch will stand.
pub(super) struct Ground {
    /// The ledgers, with the one that the batch opens, if it opens one.
    pub ledgers: Arc<Ledgers>,
    /// The open ledger's head before the batch.
    pub prior: HeadRow,
    /// The ledger that the batch closes.
    pub closing: Option<ClosedShard>,
}

impl Ground {
    /// The open ledger, or the next one where it is time for it.
    pub fn of(
        signing: &Signing,
        ledgers: &Arc<Ledgers>,
        head: &HeadRow,
        now: UnixMillis,
    ) -> Result<Self, GatewayError> {
        let wanted = signing.wanted(now)?;
        // A clock that was set back asks for a ledger that is closed, and does not get it.
        if ledgers.knows(&wanted) || !signing.may_sign(&wanted)? {
            let (ledgers, prior) = (Arc::clone(ledgers), head.clone());
            return Ok(Self { ledgers, prior, closing: None });
        }
        let HeadRow { size, root, .. } = *head;
        let closing = ClosedShard { origin: ledgers.open().clone(), size, root };
        let ledgers = Arc::new(ledgers.rolled(closing.clone(), wanted)?);
        Ok(Self { ledgers, prior: HeadRow::empty(), closing: Some(closing) })
    }

    /// The place of the batch's first entry.
    pub fn begin(&self) -> u64 {
        self.ledgers.begin() + self.prior.size
    }

    /// Closes the old ledger, where there is one to close: what is written of it in the batch's
    /// transaction.
    pub async fn close(
        &self,
        unit: &mut dyn UnitOfWork,
        signing: &Signing,
        head: &HeadRow,
        now: UnixMillis,
    ) -> Result<(), GatewayError> {
        let Some(ClosedShard { origin, size, root }) = self.closing.clone() else {
            return Ok(());
        };
        // Nobody else has taken the old ledger over, or this fails.
        unit.swap_head(origin.as_str(), head, head).await?;
        let checkpoint = Checkpoint { origin: origin.clone(), size, root };
        let text = checkpoint.sign(&*signing.keyring.ledger_key(&origin, size)?)?;
        unit.insert_checkpoint(origin.as_str(), &CheckpointRow { size, text, time: now }).await?;
        let row = ClosedLedgerRow { origin: origin.as_str().to_owned(), size, root };
        Ok(unit.close_ledger(&row).await?)
    }
}

/// The first entry of a ledger: it names the ledger before it, and the hash of how that one ended.
pub(super) fn ledger_opened(
    signing: &Signing,
    ground: &Ground,
    now: UnixMillis,
) -> Result<NewEntry, GatewayError> {
    let before = ground.ledgers.closed().last();
    let receipt = ReceiptId::at(now, random_bytes(&*signing.entropy)?);
    let content = Content::Administration(Administration {
        act: LEDGER_OPENED.to_owned(),
        actor: signing.own_actor(ground.ledgers.open())?,
        subject: before.map(|shard| shard.origin.as_str().to_owned()),
        details: before.map(ClosedShard::labelled_digest),
    });
    Ok(NewEntry {
        receipt,
        terminal: None,
        draft: ReceiptDraft {
            rid: rid_text(&receipt),
            iss: signing.issuer.clone(),
            aud: None,
            valid_for_ms: None,
            tenant: signing.tenant.clone(),
            content,
        },
        sealed_audit: None,
    })
}

/// An entry of a batch that was not signed.
pub(super) struct Unsigned {
    pub error: GatewayError,
    /// The place in the batch of the job whose entry it was.
    pub job: Option<usize>,
}

/// Signs a batch's entries, which stand one behind the other, by as many threads as there are.
pub(super) fn sign_all(
    signing: &Signing,
    ground: &Ground,
    entries: Vec<(Option<usize>, NewEntry)>,
    now: UnixMillis,
) -> Result<Vec<EntryRow>, Unsigned> {
    let sign = |(at, (job, entry)): (usize, (Option<usize>, NewEntry))| {
        let index = ground.prior.size + u64::try_from(at).unwrap_or(u64::MAX);
        sign(signing, ground, entry, index, now).map_err(|error| {
            // The key's failure, not the job's: without a key nobody's turn comes.
            let is_key = matches!(error, GatewayError::Signing(_) | GatewayError::NotReady(_));
            Unsigned { error, job: job.filter(|_| !is_key) }
        })
    };
    if entries.len() <= SIGNED_BY_ONE_MAX {
        entries.into_iter().enumerate().map(sign).collect()
    } else {
        entries.into_par_iter().enumerate().map(sign).collect()
    }
}

fn sign(
    signing: &Signing,
    ground: &Ground,
    entry: NewEntry,
    index: u64,
    now: UnixMillis,
) -> Result<EntryRow, GatewayError> {
    let HeadRow { size, root, .. } = &ground.prior;
    let origin = ground.ledgers.open();
    let mut log = LogBlock::new(origin.as_str(), index, *size, root);
    log.witnessed = signing.witnessing.in_receipt(origin);
    let kind = entry.draft.content.kind().to_owned();
    let body = entry.draft.complete(now, log);
    let key = signing.keyring.receipt_key(ground.ledgers.open(), index, now)?;
    let jws = issue(&body, &key.kid, &*key.signer)?.into_string();
    let leaf = *leaf_hash(&jws).digest();
    Ok(EntryRow {
        index,
        receipt: entry.receipt,
        kind,
        terminal: entry.terminal,
        time: now,
        jws,
        leaf,
        sealed_audit: entry.sealed_audit,
    })
}
