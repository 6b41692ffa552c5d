//! An export's folder: what stands in it once, and where the files of each ledger are.

use std::path::{Path, PathBuf};

use super::AuditError;
use super::lines::{read_bytes, read_dir_sorted, read_text, unread};
use crate::ledger::{NOTE_BYTES_MAX, Origin};
use crate::receipt::{
    AUDIT_FOLDER, CHECKPOINT_FILE, CHECKPOINTS_FILE, ERASURES_BYTES_MAX, ERASURES_FILE, KEYS_FILE,
    KEYS_SIGNATURE_FILE, LOG_OF_LOGS_FILE, POLICY_FILE, RECEIPTS_FILE, REGISTER_BYTES_MAX,
    TILE_FOLDER, TSA_FOLDER,
};

/// An export: small files in memory, and where the ledgers are.
pub(super) struct Folder {
    pub keys: Vec<u8>,
    pub keys_signature: String,
    pub log_of_logs: Option<String>,
    pub policy: Option<Vec<u8>>,
    /// By path. At least one.
    pub ledgers: Vec<LedgerFiles>,
}

/// The files of one ledger.
pub(super) struct LedgerFiles {
    dir: PathBuf,
    /// The ledger's name as the folder says it; none where the files stand at the top.
    pub named: Option<Origin>,
    pub checkpoint: String,
    pub erasures: Vec<u8>,
    /// The length of the file of receipts.
    pub receipts_bytes: u64,
}

impl Folder {
    pub(super) fn open(dir: &Path) -> Result<Self, AuditError> {
        if !dir.is_dir() {
            return Err(AuditError::NoExport(dir.to_owned()));
        }
        let keys = read_bytes(&dir.join(KEYS_FILE), REGISTER_BYTES_MAX)?;
        let keys_signature = read_text(&dir.join(KEYS_SIGNATURE_FILE), SIGNATURE_BYTES_MAX)?;
        let there = |name: &str| Some(dir.join(name)).filter(|file| file.exists());
        let log_of_logs =
            there(LOG_OF_LOGS_FILE).map(|file| read_text(&file, NOTE_BYTES_MAX)).transpose()?;
        let policy =
            there(POLICY_FILE).map(|file| read_bytes(&file, POLICY_BYTES_MAX)).transpose()?;
        let mut ledgers = Vec::new();
        find_ledgers(dir, "", 0, &mut ledgers)?;
        if ledgers.is_empty() {
            // Says which file is missing.
            ledgers.push(LedgerFiles::open(dir, None)?);
        }
        Ok(Self { keys, keys_signature, log_of_logs, policy, ledgers })
    }
}

impl LedgerFiles {
    fn open(dir: &Path, named: Option<Origin>) -> Result<Self, AuditError> {
        let receipts = dir.join(RECEIPTS_FILE);
        let length = std::fs::metadata(&receipts).map_err(|source| unread(&receipts, source))?;
        let kept = dir.join(CHECKPOINTS_FILE);
        std::fs::metadata(&kept).map_err(|source| unread(&kept, source))?;
        Ok(Self {
            checkpoint: read_text(&dir.join(CHECKPOINT_FILE), NOTE_BYTES_MAX)?,
            erasures: read_bytes(&dir.join(ERASURES_FILE), ERASURES_BYTES_MAX)?,
            receipts_bytes: length.len(),
            dir: dir.to_owned(),
            named,
        })
    }

    pub(super) fn receipts(&self) -> PathBuf {
        self.dir.join(RECEIPTS_FILE)
    }

    pub(super) fn checkpoints(&self) -> PathBuf {
        self.dir.join(CHECKPOINTS_FILE)
    }

    /// The folder above `tile/`, where there are tiles.
    pub(super) fn tiles(&self) -> Option<&Path> {
        self.dir.join(TILE_FOLDER).is_dir().then_some(&self.dir)
    }

    /// The folder of time-stamps, where there is one.
    pub(super) fn stamps(&self) -> Option<PathBuf> {
        Some(self.dir.join(TSA_FOLDER)).filter(|folder| folder.is_dir())
    }

    /// The folder of audit records, where they were given.
    pub(super) fn records(&self) -> Option<PathBuf> {
        Some(self.dir.join(AUDIT_FOLDER)).filter(|folder| folder.is_dir())
    }
}

/// Looks for ledgers in `dir` and below: a ledger's folder is named as the ledger, its slashes
/// separate folders.
fn find_ledgers(
    dir: &Path,
    name: &str,
    depth: usize,
    found: &mut Vec<LedgerFiles>,
) -> Result<(), AuditError> {
    if [RECEIPTS_FILE, CHECKPOINT_FILE, CHECKPOINTS_FILE].iter().any(|it| dir.join(it).exists()) {
        let named = Origin::try_from(name).ok();
        found.push(LedgerFiles::open(dir, named)?);
    }
    if found.len() > LEDGERS_MAX || depth > DEPTH_MAX {
        return Err(AuditError::TooLong(dir.to_owned()));
    }
    for path in read_dir_sorted(dir)?.into_iter().filter(|path| path.is_dir()) {
        let Some(part) = path.file_name().and_then(|it| it.to_str()) else { continue };
        if [TILE_FOLDER, TSA_FOLDER, AUDIT_FOLDER].contains(&part) {
            continue;
        }
        let below = if name.is_empty() { part.to_owned() } else { format!("{name}/{part}") };
        find_ledgers(&path, &below, depth + 1, found)?;
    }
    Ok(())
}

const SIGNATURE_BYTES_MAX: usize = 1024;
/// Longest policy read, in bytes.
pub(super) const POLICY_BYTES_MAX: usize = 1024 * 1024;
/// Ledgers of one export: five hundred years of half-years.
const LEDGERS_MAX: usize = 1000;
const DEPTH_MAX: usize = 32;
