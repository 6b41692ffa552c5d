//! The export: all that an auditor needs, as files, while the gateway goes on.
//!
//! Entries are read page by page, and tiles are cut while they go by, so that memory does not grow
//! with the ledger. The tree that goes by must give the checkpoint's root, or the export fails.

use tokio::sync::mpsc;

use super::Gateway;
use super::error::GatewayError;
use crate::ledger::{
    LogKey, LogOfLogs, LogPosition, Origin, TileError, TileWriter, WrittenTile, entry,
};
use crate::receipt::{
    AUDIT_FOLDER, CHECKPOINT_FILE, CHECKPOINTS_FILE, ERASURES_FILE, KEYS_FILE, KEYS_SIGNATURE_FILE,
    LOG_OF_LOGS_FILE, POLICY_FILE, RECEIPTS_FILE, TSA_FOLDER, erasures_json,
};
use crate::store::{CheckpointRow, EntryFilter, EntryRow, TimestampRow};

/// Entries read at a time.
const PAGE: u32 = 1000;

/// What an export has beside what every export has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExportOptions {
    /// The salted audit records, opened: `audit/<index>`, 32 bytes of salt and the record's JSON.
    pub audit_records: bool,
}

/// A piece of an exported ledger: append `bytes` to the file `path`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportFile {
    /// The file, relative to the export's folder.
    pub path: String,
    /// The next bytes of it.
    pub bytes: Vec<u8>,
    /// Entries that went by.
    pub entries_done: u64,
    /// Entries in all.
    pub entries_total: u64,
}

/// Whoever takes the pieces is gone, or something failed.
enum Stopped {
    Gone,
    Failed(GatewayError),
}

impl<E: Into<GatewayError>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Where pieces go.
struct Outlet<'a> {
    out: &'a mpsc::Sender<ExportFile>,
    /// The ledger's folder, with the slash; empty where the files stand at the top.
    folder: String,
    done: u64,
    total: u64,
}

impl Outlet<'_> {
    async fn top(&self, name: &str, bytes: Vec<u8>) -> Result<(), Stopped> {
        self.send(name.to_owned(), bytes).await
    }

    async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), Stopped> {
        self.send(format!("{}{name}", self.folder), bytes).await
    }

    async fn send(&self, path: String, bytes: Vec<u8>) -> Result<(), Stopped> {
        let (entries_done, entries_total) = (self.done, self.total);
        let piece = ExportFile { path, bytes, entries_done, entries_total };
        self.out.send(piece).await.map_err(|_| Stopped::Gone)
    }

    async fn tiles(&self, tiles: Result<Vec<WrittenTile>, TileError>) -> Result<(), Stopped> {
        let tiles = tiles.map_err(|cause| GatewayError::internal("tiles", cause))?;
        for (address, bytes) in tiles {
            self.put(&address.path(), bytes).await?;
        }
        Ok(())
    }
}

impl Gateway {
    /// Sends all ledgers as files, the open one up to a checkpoint made now. The receiver is bounded: a
    /// slow one slows the reading, and one that is gone ends it.
    ///
    /// # Errors
    ///
    /// What the store cannot do, and a ledger whose entries do not give its checkpoint.
    pub async fn export(
        &self,
        options: ExportOptions,
        out: &mpsc::Sender<ExportFile>,
    ) -> Result<(), GatewayError> {
        match self.export_all(options, out).await {
            Ok(()) | Err(Stopped::Gone) => Ok(()),
            Err(Stopped::Failed(error)) => Err(error),
        }
    }

    async fn export_all(
        &self,
        options: ExportOptions,
        out: &mpsc::Sender<ExportFile>,
    ) -> Result<(), Stopped> {
        // The open ledger first: whatever it is then, those before it are closed.
        let (open, latest) = self.latest_checkpoint(None).await?;
        let (ledgers, _) = self.view.recorded()?;
        let mut parts = Vec::new();
        for shard in ledgers.closed().iter().take_while(|shard| shard.origin != open) {
            parts
                .push((shard.origin.clone(), self.latest_checkpoint(Some(&shard.origin)).await?.1));
        }
        let closed: Vec<_> = ledgers.closed().iter().take(parts.len()).cloned().collect();
        parts.push((open, latest));
        let total = parts.iter().map(|(_, checkpoint)| checkpoint.size).sum();
        let mut outlet = Outlet { out, folder: String::new(), done: 0, total };
        // After the checkpoint, so that it names every key that signed under it.
        let keys = self.keyring.installed()?;
        outlet.top(KEYS_FILE, keys.files.register.clone()).await?;
        outlet.top(KEYS_SIGNATURE_FILE, keys.files.signature.clone()).await?;
        if !closed.is_empty() {
            let log = LogOfLogs::new(&self.settings.issuer, closed)
                .map_err(|cause| GatewayError::internal("log of logs", cause))?;
            let size = u64::try_from(log.shards().len()).unwrap_or(u64::MAX);
            let key = self.keyring.ledger_key(log.origin(), size)?;
            let note = log.sign(&*key).map_err(GatewayError::from)?;
            outlet.top(LOG_OF_LOGS_FILE, note.into_bytes()).await?;
        }
        if let Some((open, latest)) = parts.last() {
            let key = self.keyring.ledger_key(open, latest.size)?.public_key();
            let key = LogKey::new(open.clone(), key);
            if let Some(policy) = self.signing.witnessing.policy_file(&key) {
                outlet.top(POLICY_FILE, policy.into_bytes()).await?;
            }
        }
        let is_alone = parts.len() == 1;
        for (origin, latest) in parts {
            if !is_alone {
                let folder = origin.folder();
                let folder = folder.ok_or(GatewayError::broken("an origin that is no folder"))?;
                outlet.folder = format!("{folder}/");
            }
            self.export_ledger(&origin, &latest, options, &mut outlet).await?;
        }
        Ok(())
    }

    async fn export_ledger(
        &self,
        origin: &Origin,
        latest: &CheckpointRow,
        options: ExportOptions,
        outlet: &mut Outlet<'_>,
    ) -> Result<(), Stopped> {
        // Nothing deletes the body of a receipt yet, so none is missing.
        let erasures =
            erasures_json(&[]).map_err(|cause| GatewayError::internal("erasures", cause))?;
        outlet.put(ERASURES_FILE, erasures.into_bytes()).await?;
        outlet.put(CHECKPOINT_FILE, latest.text.clone().into_bytes()).await?;
        // The file exists even for a ledger without entries.
        outlet.put(RECEIPTS_FILE, Vec::new()).await?;
        let mut tiles = TileWriter::default();
        let mut from = 0;
        while from < latest.size {
            let rows = self
                .store
                .entries(origin.as_str(), from, &EntryFilter::default(), PAGE)
                .await
                .map_err(GatewayError::from)?;
            let rows: Vec<_> = rows.into_iter().filter(|row| row.index < latest.size).collect();
            let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
            if rows.first().is_none_or(|row| row.index != from) {
                return Err(GatewayError::broken("an entry is missing").into());
            }
            from += count;
            outlet.done += count;
            let lines: String = rows.iter().map(|row| format!("{}\n", row.jws)).collect();
            outlet.put(RECEIPTS_FILE, lines.into_bytes()).await?;
            for row in rows {
                outlet.tiles(tiles.push(&entry(&row.jws))).await?;
                if options.audit_records {
                    self.export_audit_record(origin, row, outlet).await?;
                }
            }
        }
        require_root(&tiles, latest)?;
        outlet.tiles(tiles.finish()).await?;
        self.export_checkpoints(origin, latest.size, outlet).await?;
        self.export_timestamps(origin, outlet).await
    }

    async fn export_timestamps(&self, origin: &Origin, outlet: &Outlet<'_>) -> Result<(), Stopped> {
        let mut from = 0;
        loop {
            let rows = self.store.timestamps(origin.as_str(), from, PAGE).await;
            let rows = rows.map_err(GatewayError::from)?;
            let Some(last) = rows.last() else { return Ok(()) };
            from = last.size + 1;
            for TimestampRow { size, answer, .. } in rows {
                outlet.put(&format!("{TSA_FOLDER}/{size}.tsr"), answer).await?;
            }
        }
    }

    async fn export_audit_record(
        &self,
        origin: &Origin,
        row: EntryRow,
        outlet: &Outlet<'_>,
    ) -> Result<(), Stopped> {
        let Some(sealed) = row.sealed_audit else { return Ok(()) };
        let position = LogPosition { origin: origin.clone(), index: row.index };
        let opened = self.open_audit(&position, &sealed)?;
        let bytes = [opened.salt.as_slice(), &opened.record].concat();
        outlet.put(&format!("{AUDIT_FOLDER}/{}", row.index), bytes).await
    }

    async fn export_checkpoints(
        &self,
        origin: &Origin,
        size: u64,
        outlet: &Outlet<'_>,
    ) -> Result<(), Stopped> {
        let mut from = 0;
        loop {
            let rows = self.store.checkpoints(origin.as_str(), from, PAGE).await;
            let rows = rows.map_err(GatewayError::from)?;
            let kept: Vec<_> = rows.iter().filter(|row| row.size <= size).collect();
            let Some(last) = kept.last() else { return Ok(()) };
            from = last.size + 1;
            let text = kept.iter().map(|row| format!("{}\n", row.text)).collect::<String>();
            outlet.put(CHECKPOINTS_FILE, text.into_bytes()).await?;
        }
    }
}

/// What went by is what the checkpoint says.
fn require_root(tiles: &TileWriter, latest: &CheckpointRow) -> Result<(), GatewayError> {
    let checkpoint = crate::ledger::Checkpoint::peek(&latest.text)
        .map_err(|cause| GatewayError::internal("a kept checkpoint", cause))?;
    if tiles.root() == checkpoint.root {
        Ok(())
    } else {
        Err(GatewayError::broken("the ledger's entries do not give its checkpoint"))
    }
}
