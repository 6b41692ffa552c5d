//! What auditors and the host ask: receipts, proofs, checkpoints, redemption.

use super::Gateway;
use super::act::{Write, receipt_actor};
use super::error::GatewayError;
use super::ledger_view::{keep_checkpoint, load_tree};
use super::request::{Actor, Redemption};
use super::verification_job::audit_place;
use crate::crypto::Digest;
use crate::domain::id::{Attempt, ReceiptId, TerminalId};
use crate::domain::money::Currency;
use crate::domain::time::UnixMillis;
use crate::domain::transaction::Operation;
use crate::ledger::{LogPosition, Origin, TlogProof, Tree};
use crate::receipt::{Content, Refers, Salt, TransactionFields, transaction_commit, verify};
use crate::store::{CheckpointRow, EntryFilter, EntryRow};

const NO_RECEIPT: GatewayError = GatewayError::NotFound("receipt");

/// A ledger entry, and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its ledger, and its index there.
    pub position: LogPosition,
    /// Its place among the entries of all the gateway's ledgers: what pages go on from.
    pub place: u64,
    /// The receipt's id.
    pub receipt: ReceiptId,
    /// `verification`, `outcome`, `administration`…
    pub kind: String,
    /// The terminal it concerns.
    pub terminal: Option<TerminalId>,
    /// The time in the receipt.
    pub time: UnixMillis,
    /// The receipt's exact bytes.
    pub jws: String,
    /// The salted audit record, sealed; none for entries that have none.
    pub sealed_audit: Option<Vec<u8>>,
}

impl Entry {
    fn new(row: EntryRow, place: u64, origin: &Origin) -> Self {
        let EntryRow { index, receipt, kind, terminal, time, jws, leaf: _, sealed_audit } = row;
        let position = LogPosition { origin: origin.clone(), index };
        Self { position, place, receipt, kind, terminal, time, jws, sealed_audit }
    }
}

/// What the host presents to redeem a receipt.
#[derive(Clone, Debug)]
pub struct Redeem {
    /// The receipt's exact bytes.
    pub receipt_jws: String,
    /// The salt that opens its commitment.
    pub transaction_salt: [u8; 32],
    /// The transaction that the host is about to authorise.
    pub host_transaction_id: String,
    /// The bank's day.
    pub business_date: String,
    /// Which try.
    pub attempt: Attempt,
    /// The account.
    pub account: String,
    /// The other side, where there is one.
    pub counterparty: Option<String>,
    /// The amount that the host is about to authorise, in minor units.
    pub amount_minor: i64,
    /// Of which currency.
    pub currency: Currency,
    /// What the host is about to do.
    pub operation: Operation,
}

/// What a receipt's `audit` commits to: SHA-256 over the salt and the record's exact bytes.
#[derive(Clone)]
pub struct AuditRecord {
    /// Opens the commitment.
    pub salt: [u8; 32],
    /// JSON.
    pub record: Vec<u8>,
}

impl Gateway {
    /// The entry at a place.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] beyond the ledger's end.
    pub async fn entry(&self, place: u64) -> Result<Entry, GatewayError> {
        let (ledgers, recorded) = self.view.recorded()?;
        // An entry is shown once the head that covers it is recorded.
        if place >= recorded {
            return Err(NO_RECEIPT);
        }
        let LogPosition { origin, index } = ledgers.position(place);
        let row = self.store.entry(origin.as_str(), index).await?.ok_or(NO_RECEIPT)?;
        Ok(Entry::new(row, place, &origin))
    }

    /// The entry of a receipt, in whichever ledger it stands.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when there is none.
    pub async fn entry_of(&self, receipt: &ReceiptId) -> Result<Entry, GatewayError> {
        let (ledgers, recorded) = self.view.recorded()?;
        let origins: Vec<_> = ledgers.origins().collect();
        for origin in origins.into_iter().rev() {
            if let Some(row) = self.store.entry_by_receipt(origin.as_str(), receipt).await? {
                let place = ledgers.place(origin, row.index).filter(|place| *place < recorded);
                return Ok(Entry::new(row, place.ok_or(NO_RECEIPT)?, origin));
            }
        }
        Err(NO_RECEIPT)
    }

    /// Entries by time and terminal, from a place on, through all ledgers.
    ///
    /// # Errors
    ///
    /// What the store cannot do.
    pub async fn entries(
        &self,
        from: u64,
        filter: &EntryFilter,
        limit: u32,
    ) -> Result<Vec<Entry>, GatewayError> {
        let (ledgers, recorded) = self.view.recorded()?;
        let mut entries = Vec::new();
        for (origin, begin, end) in ledgers.spans(recorded) {
            let left = limit.saturating_sub(u32::try_from(entries.len()).unwrap_or(u32::MAX));
            if from >= end || left == 0 {
                continue;
            }
            let first = from.saturating_sub(begin);
            let rows = self.store.entries(origin.as_str(), first, filter, left).await?;
            let shown = rows.into_iter().filter(|row| row.index < end - begin);
            entries.extend(shown.map(|row| {
                let place = begin + row.index;
                Entry::new(row, place, origin)
            }));
        }
        Ok(entries)
    }

    /// The place of an index of a ledger; of the open ledger, where none is named.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] for a ledger that is not this gateway's, and beyond its end.
    pub fn place(&self, origin: Option<&Origin>, index: u64) -> Result<u64, GatewayError> {
        let (ledgers, recorded) = self.view.recorded()?;
        let place = ledgers.place(origin.unwrap_or_else(|| ledgers.open()), index);
        place.filter(|place| *place < recorded).ok_or(NO_RECEIPT)
    }

    /// The ledger of the entry at a place, and its index there.
    ///
    /// # Errors
    ///
    /// A broken invariant of this process only.
    pub fn position(&self, place: u64) -> Result<LogPosition, GatewayError> {
        Ok(self.view.recorded()?.0.position(place))
    }

    /// The ledger that takes entries now.
    ///
    /// # Errors
    ///
    /// A broken invariant of this process only.
    pub fn open_ledger(&self) -> Result<Origin, GatewayError> {
        Ok(self.view.recorded()?.0.open().clone())
    }

    /// The latest checkpoint of a ledger, else of the open one; a fresh one if none covers its end.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] for a ledger that is not this gateway's.
    pub async fn checkpoint(&self, origin: Option<&Origin>) -> Result<String, GatewayError> {
        Ok(self.latest_checkpoint(origin).await?.1.text)
    }

    /// A ledger and its latest checkpoint.
    pub(super) async fn latest_checkpoint(
        &self,
        origin: Option<&Origin>,
    ) -> Result<(Origin, CheckpointRow), GatewayError> {
        let (ledgers, _) = self.view.recorded()?;
        if let Some(origin) = origin.filter(|origin| *origin != ledgers.open()) {
            if !ledgers.knows(origin) {
                return Err(GatewayError::NotFound("ledger"));
            }
            let row = self.store.latest_checkpoint(origin.as_str()).await?;
            let row = row.ok_or(GatewayError::broken("a closed ledger has no checkpoint"))?;
            return Ok((origin.clone(), row));
        }
        keep_checkpoint(&*self.store, &self.signing, &self.view, self.clock.now()).await
    }

    /// The proof that an entry is in its ledger, as c2sp.org/tlog-proof text.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] beyond the ledger's end.
    pub async fn proof(&self, place: u64) -> Result<String, GatewayError> {
        let LogPosition { origin, index } = self.entry_position(place)?;
        let (origin, row) = match self.witnessed_checkpoint(&origin, index).await? {
            Some(row) => (origin, row),
            None => self.latest_checkpoint(Some(&origin)).await?,
        };
        let make = |tree: &Tree| TlogProof::make(tree, index, row.size, row.text.clone());
        let proof = self.with_tree(&origin, make).await?;
        Ok(proof.map_err(|cause| GatewayError::internal("proof", cause))?.to_text())
    }

    /// The latest checkpoint that enough witnesses cosigned, where it covers an entry: it proves more than
    /// a later one that they have not seen yet.
    async fn witnessed_checkpoint(
        &self,
        origin: &Origin,
        index: u64,
    ) -> Result<Option<CheckpointRow>, GatewayError> {
        let head = self.store.witnessed(origin.as_str()).await?;
        let Some(head) = head.filter(|head| head.size > index) else { return Ok(None) };
        let rows = self.store.checkpoints(origin.as_str(), head.size, 1).await?;
        Ok(rows.into_iter().find(|row| row.size == head.size))
    }

    /// The proof that a ledger of `old` entries is the beginning of the same ledger of `new` entries,
    /// and the checkpoint that has the latter's end in it.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Invalid`] unless `old <= new <=` the ledger's size.
    pub async fn consistency(
        &self,
        origin: Option<&Origin>,
        old: u64,
        new: u64,
    ) -> Result<Vec<Digest>, GatewayError> {
        let (origin, row) = self.latest_checkpoint(origin).await?;
        if old > new {
            return Err(GatewayError::Invalid {
                field: "old_size",
                problem: "it is larger than new_size",
            });
        }
        if new > row.size {
            return Err(GatewayError::Invalid {
                field: "new_size",
                problem: "the ledger has fewer entries",
            });
        }
        let proof = self.with_tree(&origin, |tree| tree.consistency(old, new)).await?;
        proof.map_err(|cause| GatewayError::internal("proof", cause))
    }

    /// Asks the tree of a ledger. That of a closed one is read from the store, and the last one is kept.
    pub(super) async fn with_tree<T>(
        &self,
        origin: &Origin,
        question: impl Fn(&Tree) -> T,
    ) -> Result<T, GatewayError> {
        let open = self.view.read(|open, tree, _| (open == origin).then(|| question(tree)))?;
        if let Some(answer) = open {
            return Ok(answer);
        }
        let mut kept = self.closed_tree.lock().await;
        if let Some((of, tree)) = &*kept
            && of == origin
        {
            return Ok(question(tree));
        }
        let (tree, _) = load_tree(&*self.store, origin).await?;
        let answer = question(&tree);
        *kept = Some((origin.clone(), tree));
        Ok(answer)
    }

    /// The position of an entry that may be shown.
    fn entry_position(&self, place: u64) -> Result<LogPosition, GatewayError> {
        let (ledgers, recorded) = self.view.recorded()?;
        if place < recorded { Ok(ledgers.position(place)) } else { Err(NO_RECEIPT) }
    }

    /// The opened audit record of an entry, and the salt that ties it to the receipt.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when the entry has none.
    pub async fn audit_record(&self, place: u64) -> Result<AuditRecord, GatewayError> {
        let Entry { position, sealed_audit, .. } = self.entry(place).await?;
        let sealed = sealed_audit.ok_or(GatewayError::NotFound("audit record"))?;
        self.open_audit(&position, &sealed)
    }

    pub(super) fn open_audit(
        &self,
        position: &LogPosition,
        sealed: &[u8],
    ) -> Result<AuditRecord, GatewayError> {
        let place = audit_place(self.settings.tenant.as_str(), position);
        let plain = self.vault.open_system(&place, sealed)?;
        let (salt, record) = plain
            .split_first_chunk()
            .ok_or(GatewayError::broken("an audit record is too short"))?;
        Ok(AuditRecord { salt: *salt, record: record.to_vec() })
    }

    /// Redeems a receipt once, for the host that it is addressed to.
    ///
    /// # Errors
    ///
    /// The reasons for which the host must not authorise, as [`GatewayError::Invalid`] with the
    /// field that does not fit.
    pub async fn redeem(&self, actor: &Actor, request: Redeem) -> Result<Redemption, GatewayError> {
        let invalid = |field, problem| GatewayError::Invalid { field, problem };
        let verified =
            verify(&request.receipt_jws, &self.keyring.installed()?.register).map_err(|error| {
                tracing::info!(code = error.code(), error = %error, "a receipt was not redeemed");
                invalid("receipt_jws", "it is not a receipt of this gateway")
            })?;
        let id = verified.id();
        let entry = self.entry_of(&id).await?;
        if entry.jws != request.receipt_jws {
            return Err(invalid("receipt_jws", "it is not the receipt in the ledger"));
        }
        let (txn, outcome, cap) = match &verified.body().content {
            Content::Verification(decision) => (&decision.txn, &decision.outcome, &decision.cap),
            Content::Exception(decision) => (&decision.txn, &decision.outcome, &decision.cap),
            _ => return Err(invalid("receipt_jws", "it is not the receipt of a decision")),
        };
        let commit = transaction_commit(
            &Salt::new(request.transaction_salt),
            &TransactionFields {
                host_transaction_id: &request.host_transaction_id,
                business_date: &request.business_date,
                attempt: request.attempt,
                account: &request.account,
                counterparty: request.counterparty.as_deref(),
            },
        );
        if !crate::crypto::constant_time_eq(commit.as_bytes(), txn.commit.as_bytes()) {
            return Err(invalid(
                "transaction_salt",
                "the commitment does not open: another transaction, or another salt",
            ));
        }
        let amount_max = match (outcome.as_str(), cap) {
            ("APPROVED", None) => txn.amount_minor,
            ("APPROVED_CAPPED", Some(cap)) => cap.amount_minor.min(txn.amount_minor),
            _ => return Err(invalid("receipt_jws", "the receipt does not approve")),
        };
        if !(1..=amount_max).contains(&request.amount_minor) {
            return Err(invalid("amount_minor", "it is more than the receipt approves"));
        }
        if request.operation.as_str() != txn.op {
            return Err(invalid("operation", "the receipt is for another operation"));
        }
        if request.currency.as_str() != txn.currency {
            return Err(invalid("currency", "the receipt is for another currency"));
        }
        if verified.body().aud.as_deref() != Some(self.settings.audience.as_str()) {
            return Err(invalid("receipt_jws", "the receipt is for another host"));
        }
        self.redeem_entry(actor, &entry, verified.valid_until()).await
    }

    async fn redeem_entry(
        &self,
        actor: &Actor,
        entry: &Entry,
        valid_until: Option<UnixMillis>,
    ) -> Result<Redemption, GatewayError> {
        let content = Content::Redemption(crate::receipt::Redemption {
            refers: Refers::to(&entry.receipt, entry.position.clone()),
            actor: receipt_actor(actor),
        });
        let mine = self.new_receipt()?;
        let writes = vec![Write::Redeem(entry.receipt, valid_until)];
        let logged = self.perform_under(mine, content, entry.terminal.clone(), writes).await?;
        // Of two calls at once both are told the one entry; it is one call's own.
        let redeemed_now = self.entry(logged.place()).await?.receipt == mine;
        let row = self.store.redemption(&entry.receipt).await?;
        let row = row.ok_or(GatewayError::broken("a redemption is missing"))?;
        Ok(Redemption { receipt: entry.receipt, first_redeemed_at: row.redeemed_at, redeemed_now })
    }
}
