//! An export as it is written to disk, and one receipt of it.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::AuditError;
use super::lines::Lines;
use crate::ledger::{Origin, TileAddress};
use crate::receipt::{
    AUDIT_FOLDER, CHECKPOINT_FILE, CHECKPOINTS_FILE, ERASURES_FILE, EXPORT_FILES, KEYS_FILE,
    KEYS_SIGNATURE_FILE, LOG_OF_LOGS_FILE, POLICY_FILE, RECEIPTS_FILE, TILE_FOLDER, TSA_FOLDER,
    parse,
};

/// The receipt at `index` of the export of one ledger in `dir`, unverified; none if there is none.
///
/// # Errors
///
/// [`AuditError`] when the receipts cannot be read.
pub fn find_receipt(dir: &Path, index: u64) -> Result<Option<String>, AuditError> {
    let mut lines = Lines::open(&dir.join(RECEIPTS_FILE))?;
    loop {
        let batch = lines.batch()?;
        if batch.is_empty() {
            return Ok(None);
        }
        for place in 0..batch.len() {
            let line = String::from_utf8_lossy(batch.line(place));
            if parse(&line).is_ok_and(|receipt| receipt.unverified_body().log.index == index) {
                return Ok(Some(line.into_owned()));
            }
        }
    }
}

/// Writes the pieces of an export as they arrive from a gateway, which names only files that an
/// export has.
#[derive(Debug)]
pub struct ExportWriter {
    dir: PathBuf,
    /// The folders of the ledgers that were begun.
    begun: Mutex<BTreeSet<String>>,
}

impl ExportWriter {
    /// An export to be written to `dir`, which is made if it is missing and must hold none of an
    /// export's files yet.
    ///
    /// # Errors
    ///
    /// [`ExportWriteError`] when it does, or cannot be made.
    pub fn create(dir: &Path) -> Result<Self, ExportWriteError> {
        fs::create_dir_all(dir).map_err(|source| ExportWriteError::Write(dir.into(), source))?;
        let names = EXPORT_FILES.into_iter().chain([LOG_OF_LOGS_FILE, POLICY_FILE]);
        if let Some(name) = names.into_iter().find(|name| dir.join(name).exists()) {
            return Err(ExportWriteError::Exists(dir.join(name)));
        }
        Ok(Self { dir: dir.to_owned(), begun: Mutex::new(BTreeSet::new()) })
    }

    /// Appends the next bytes of a file. Every file that each ledger has is there from the first piece
    /// of one on.
    ///
    /// # Errors
    ///
    /// [`ExportWriteError::Name`] for a name that no export has; nothing is written outside `dir`.
    pub fn append(&self, name: &str, bytes: &[u8]) -> Result<(), ExportWriteError> {
        match place_of(name).ok_or(ExportWriteError::Name)? {
            Place::Top => {}
            Place::Ledger(folder) => self.begin(folder)?,
        }
        self.write(name, bytes)
    }

    fn begin(&self, folder: &str) -> Result<(), ExportWriteError> {
        let is_new = self.begun.lock().is_ok_and(|mut begun| begun.insert(folder.to_owned()));
        let files = if is_new { LEDGER_FILES.as_slice() } else { &[] };
        files.iter().try_for_each(|file| {
            let name = if folder.is_empty() { (*file).into() } else { format!("{folder}/{file}") };
            if self.dir.join(&name).exists() {
                return Err(ExportWriteError::Exists(self.dir.join(name)));
            }
            self.write(&name, &[])
        })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), ExportWriteError> {
        let path = self.dir.join(name);
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        folder
            .and_then(|()| OpenOptions::new().create(true).append(true).open(&path))
            .and_then(|mut file| file.write_all(bytes))
            .map_err(|source| ExportWriteError::Write(path, source))
    }
}

/// Where a file of an export belongs.
enum Place<'a> {
    /// Once, at the top.
    Top,
    /// To the ledger of this folder; the empty one is the top.
    Ledger(&'a str),
}

/// Where a file of this name belongs; none for a name that no export has.
fn place_of(name: &str) -> Option<Place<'_>> {
    if [KEYS_FILE, KEYS_SIGNATURE_FILE, LOG_OF_LOGS_FILE, POLICY_FILE].contains(&name) {
        return Some(Place::Top);
    }
    let is_ledger = |folder: &str| {
        folder.is_empty()
            || Origin::try_from(folder).is_ok_and(|origin| origin.folder() == Some(folder))
    };
    // A ledger's name may have folders in it, and so may what lies in its folder.
    let cuts = name.match_indices('/').map(|(at, _)| (at, at + 1));
    for (end, start) in [(0, 0)].into_iter().chain(cuts) {
        let (folder, file) = (name.get(..end)?, name.get(start..)?);
        // A name that begins with a slash would lead to the root of the disk.
        let is_absolute = end == 0 && start > 0;
        if !is_absolute && is_ledger(folder) && is_ledger_file(file) {
            return Some(Place::Ledger(folder));
        }
    }
    None
}

/// Whether a ledger's folder has a file of this name.
fn is_ledger_file(name: &str) -> bool {
    let is_number = |text: &str| text.parse::<u64>().is_ok_and(|it| it.to_string() == text);
    match name.split_once('/') {
        None => LEDGER_FILES.contains(&name),
        Some((TILE_FOLDER, _)) => TileAddress::parse(name).is_ok(),
        Some((TSA_FOLDER, stamp)) => stamp.strip_suffix(STAMP_END).is_some_and(is_number),
        Some((AUDIT_FOLDER, index)) => is_number(index),
        Some(_) => false,
    }
}

/// An export cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportWriteError {
    /// A name that no export has.
    #[error("the gateway named a file that no export has")]
    Name,
    /// An export is there already.
    #[error("{} exists: an export is never written over", .0.display())]
    Exists(PathBuf),
    /// The disk.
    #[error("{} cannot be written", .0.display())]
    Write(PathBuf, #[source] std::io::Error),
}

impl ExportWriteError {
    /// The word in machine-readable output.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "AUDIT_EXPORT"
    }
}

/// How the name of a time-stamp ends, behind the size of its checkpoint.
pub(super) const STAMP_END: &str = ".tsr";
/// The files that each ledger of an export has.
const LEDGER_FILES: [&str; 4] = [RECEIPTS_FILE, CHECKPOINT_FILE, CHECKPOINTS_FILE, ERASURES_FILE];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_is_written_by_name_and_never_over_another() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("export");
        let writer = ExportWriter::create(&target).unwrap();
        writer.append(CHECKPOINT_FILE, b"a").unwrap();
        writer.append(CHECKPOINT_FILE, b"b").unwrap();
        assert_eq!(fs::read(target.join(CHECKPOINT_FILE)).unwrap(), b"ab");
        assert_eq!(fs::read(target.join(ERASURES_FILE)).unwrap(), b"", "each ledger has it");
        for name in [
            "../checkpoint",
            "/etc/passwd",
            "other",
            "",
            "a/other",
            "a/../checkpoint",
            "a//checkpoint",
            "/checkpoint",
            "a/keys.json",
            "tile/0/0",
            "tile/../checkpoint",
            "tsa/x.tsr",
            "tsa/07.tsr",
            "audit/../1",
            "audit/+1",
        ] {
            assert!(matches!(writer.append(name, b"x"), Err(ExportWriteError::Name)), "{name}");
        }
        assert!(matches!(ExportWriter::create(&target), Err(ExportWriteError::Exists(_))));
    }

    #[test]
    fn each_ledger_has_a_folder_of_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let writer = ExportWriter::create(dir.path()).unwrap();
        let ledger = "cash.bank.example/gw07/2026h2";
        for name in
            ["receipts.jws", "tile/0/000", "tile/entries/x001/000.p/7", "tsa/12.tsr", "audit/3"]
        {
            writer.append(&format!("{ledger}/{name}"), b"x").unwrap();
            assert_eq!(fs::read(dir.path().join(ledger).join(name)).unwrap(), b"x");
        }
        for name in [KEYS_FILE, LOG_OF_LOGS_FILE, POLICY_FILE] {
            writer.append(name, b"x").unwrap();
        }
        assert!(dir.path().join(ledger).join(CHECKPOINTS_FILE).exists());
        assert!(!dir.path().join(RECEIPTS_FILE).exists(), "no ledger stands at the top");
        // A second writer into the same ledger's folder.
        fs::remove_file(dir.path().join(KEYS_FILE)).unwrap();
        fs::remove_file(dir.path().join(LOG_OF_LOGS_FILE)).unwrap();
        fs::remove_file(dir.path().join(POLICY_FILE)).unwrap();
        let again = ExportWriter::create(dir.path()).unwrap();
        let refused = again.append(&format!("{ledger}/checkpoint"), b"x");
        assert!(matches!(refused, Err(ExportWriteError::Exists(_))));
    }
}
