//! What auditors and the host ask: receipts, proofs, checkpoints, the export, redemption.

use tokio::sync::mpsc;

use super::Gateway;
use super::act::{Write, receipt_actor};
use super::error::GatewayError;
use super::request::{Actor, Redemption};
use super::sequencer::keep_checkpoint;
use super::verification_job::audit_place;
use crate::crypto::random_bytes;
use crate::domain::id::{Attempt, ReceiptId};
use crate::domain::money::Currency;
use crate::domain::time::UnixMillis;
use crate::domain::transaction::Operation;
use crate::ledger::TlogProof;
use crate::receipt::{
    CHECKPOINT_FILE, CHECKPOINTS_FILE, Content, ERASURES_FILE, KEYS_FILE, KEYS_SIGNATURE_FILE,
    RECEIPTS_FILE, Refers, Salt, TransactionFields, erasures_json, rid_text, transaction_commit,
    verify,
};
use crate::store::{EntryFilter, EntryRow};

/// Entries read at a time during an export.
const EXPORT_PAGE: u32 = 1000;

/// A piece of an exported ledger: append `bytes` to the file `path`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportFile {
    /// The file, relative to the export's folder.
    pub path: &'static str,
    /// The next bytes of it.
    pub bytes: Vec<u8>,
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
    /// The entry at an index.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] beyond the ledger's end.
    pub async fn entry(&self, index: u64) -> Result<EntryRow, GatewayError> {
        let row = self.store.entry(self.settings.origin.as_str(), index).await?;
        self.if_recorded(row)
    }

    /// The entry of a receipt.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when there is none.
    pub async fn entry_of(&self, receipt: &ReceiptId) -> Result<EntryRow, GatewayError> {
        let row = self.store.entry_by_receipt(self.settings.origin.as_str(), receipt).await?;
        self.if_recorded(row)
    }

    /// An entry is shown once the head that covers it is recorded.
    fn if_recorded(&self, row: Option<EntryRow>) -> Result<EntryRow, GatewayError> {
        let recorded = self.view.read(|_, committed| committed)?;
        row.filter(|row| row.index < recorded).ok_or(GatewayError::NotFound("receipt"))
    }

    /// Entries by time and terminal, from an index on.
    ///
    /// # Errors
    ///
    /// What the store cannot do.
    pub async fn entries(
        &self,
        from: u64,
        filter: &EntryFilter,
        limit: u32,
    ) -> Result<Vec<EntryRow>, GatewayError> {
        let recorded = self.view.read(|_, committed| committed)?;
        let rows = self.store.entries(self.settings.origin.as_str(), from, filter, limit).await?;
        Ok(rows.into_iter().filter(|row| row.index < recorded).collect())
    }

    /// The latest checkpoint; a fresh one if none covers the ledger's end.
    ///
    /// # Errors
    ///
    /// What store and signer cannot do.
    pub async fn checkpoint(&self) -> Result<String, GatewayError> {
        let row =
            keep_checkpoint(&*self.store, &self.signing, &self.view, self.clock.now()).await?;
        Ok(row.text)
    }

    /// The proof that an entry is in the ledger, as c2sp.org/tlog-proof text.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] beyond the ledger's end.
    pub async fn proof(&self, index: u64) -> Result<String, GatewayError> {
        let row =
            keep_checkpoint(&*self.store, &self.signing, &self.view, self.clock.now()).await?;
        if index >= row.size {
            return Err(GatewayError::NotFound("receipt"));
        }
        let proof =
            self.view.read(|tree, _| TlogProof::make(tree, index, row.size, row.text.clone()))?;
        Ok(proof.map_err(|cause| GatewayError::internal("proof", cause))?.to_text())
    }

    /// The opened audit record of an entry, and the salt that ties it to the receipt.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when the entry has none.
    pub async fn audit_record(&self, index: u64) -> Result<AuditRecord, GatewayError> {
        let sealed =
            self.entry(index).await?.sealed_audit.ok_or(GatewayError::NotFound("audit record"))?;
        let plain = self.vault.open_system(&audit_place(&self.settings, index), &sealed)?;
        let (salt, record) = plain
            .split_first_chunk()
            .ok_or(GatewayError::broken("an audit record is too short"))?;
        Ok(AuditRecord { salt: *salt, record: record.to_vec() })
    }

    /// Sends the whole ledger as files, up to a checkpoint made now. The receiver is bounded: a slow
    /// one slows the reading, and one that is gone ends it.
    ///
    /// # Errors
    ///
    /// What the store cannot do.
    pub async fn export(&self, out: &mpsc::Sender<ExportFile>) -> Result<(), GatewayError> {
        let origin = self.settings.origin.as_str();
        let latest =
            keep_checkpoint(&*self.store, &self.signing, &self.view, self.clock.now()).await?;
        // After the checkpoint, so that it names every key that signed under it.
        let keys = self.keyring.installed()?;
        let send = async |path: &'static str, bytes: Vec<u8>| {
            out.send(ExportFile { path, bytes }).await.is_ok()
        };
        let erasures =
            erasures_json(&[]).map_err(|cause| GatewayError::internal("erasures", cause))?;
        let small = [
            (KEYS_FILE, keys.files.register.clone()),
            (KEYS_SIGNATURE_FILE, keys.files.signature.clone()),
            (ERASURES_FILE, erasures.into_bytes()),
            (CHECKPOINT_FILE, latest.text.clone().into_bytes()),
            // The file exists even for a ledger without entries.
            (RECEIPTS_FILE, Vec::new()),
        ];
        for (path, bytes) in small {
            if !send(path, bytes).await {
                return Ok(());
            }
        }
        let mut from = 0;
        while from < latest.size {
            let rows =
                self.store.entries(origin, from, &EntryFilter::default(), EXPORT_PAGE).await?;
            let Some(last) = rows.last() else {
                return Err(GatewayError::broken("an entry is missing"));
            };
            from = last.index + 1;
            let lines = rows
                .iter()
                .filter(|row| row.index < latest.size)
                .map(|row| format!("{}\n", row.jws));
            if !send(RECEIPTS_FILE, lines.collect::<String>().into_bytes()).await {
                return Ok(());
            }
        }
        self.export_checkpoints(latest.size, out).await
    }

    async fn export_checkpoints(
        &self,
        size: u64,
        out: &mpsc::Sender<ExportFile>,
    ) -> Result<(), GatewayError> {
        let mut from = 0;
        loop {
            let rows =
                self.store.checkpoints(self.settings.origin.as_str(), from, EXPORT_PAGE).await?;
            let kept: Vec<_> = rows.iter().filter(|row| row.size <= size).collect();
            let Some(last) = kept.last() else { return Ok(()) };
            from = last.size + 1;
            let text = kept.iter().map(|row| format!("{}\n", row.text)).collect::<String>();
            if out
                .send(ExportFile { path: CHECKPOINTS_FILE, bytes: text.into_bytes() })
                .await
                .is_err()
            {
                return Ok(());
            }
        }
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
        entry: &EntryRow,
        valid_until: Option<UnixMillis>,
    ) -> Result<Redemption, GatewayError> {
        let content = Content::Redemption(crate::receipt::Redemption {
            refers: Refers { rid: rid_text(&entry.receipt), index: entry.index, origin: None },
            actor: receipt_actor(actor),
        });
        let mine = ReceiptId::new(random_bytes(&*self.entropy)?);
        let writes = vec![Write::Redeem(entry.receipt, valid_until)];
        let logged = self.perform_under(mine, content, entry.terminal.clone(), writes).await?;
        // Of two calls at once both are told the one entry; it is one call's own.
        let redeemed_now = self.entry(logged.index()).await?.receipt == mine;
        let row = self.store.redemption(&entry.receipt).await?;
        let row = row.ok_or(GatewayError::broken("a redemption is missing"))?;
        Ok(Redemption { receipt: entry.receipt, first_redeemed_at: row.redeemed_at, redeemed_now })
    }
}
