//! An export on disk: read with bounds, written by name.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::{AuditError, Progress};
use crate::receipt::{
    AUDIT_FOLDER, CHECKPOINT_FILE, CHECKPOINTS_FILE, ERASURES_BYTES_MAX, ERASURES_FILE,
    EXPORT_FILES, JWS_BYTES_MAX, KEYS_FILE, KEYS_SIGNATURE_FILE, LOG_OF_LOGS_FILE, POLICY_FILE,
    RECEIPTS_FILE, REGISTER_BYTES_MAX, TILE_FOLDER, TSA_FOLDER, parse,
};

/// An export's small files in memory, and where its receipts are.
pub(super) struct Export {
    dir: PathBuf,
    pub keys: Vec<u8>,
    pub keys_signature: String,
    pub checkpoint: String,
    pub checkpoints: String,
    pub erasures: Vec<u8>,
}

impl Export {
    pub(super) fn open(dir: &Path) -> Result<Self, AuditError> {
        if !dir.is_dir() {
            return Err(AuditError::NoExport(dir.to_owned()));
        }
        Ok(Self {
            keys: read_bytes(&dir.join(KEYS_FILE), REGISTER_BYTES_MAX)?,
            keys_signature: read_text(&dir.join(KEYS_SIGNATURE_FILE), SIGNATURE_BYTES_MAX)?,
            checkpoint: read_text(&dir.join(CHECKPOINT_FILE), crate::ledger::NOTE_BYTES_MAX)?,
            checkpoints: read_text(&dir.join(CHECKPOINTS_FILE), CHECKPOINTS_BYTES_MAX)?,
            erasures: read_bytes(&dir.join(ERASURES_FILE), ERASURES_BYTES_MAX)?,
            dir: dir.to_owned(),
        })
    }

    /// Gives the receipts' lines in batches.
    pub(super) fn receipts(
        &self,
        each: &mut dyn FnMut(&[String], Progress),
    ) -> Result<(), AuditError> {
        let file = self.dir.join(RECEIPTS_FILE);
        let mut lines = Lines::open(&file)?;
        let total_bytes = lines.length;
        loop {
            let batch = lines.batch()?;
            if batch.is_empty() {
                return Ok(());
            }
            each(&batch, Progress { done_bytes: lines.done, total_bytes });
        }
    }
}

/// The receipt at `index` of the export in `dir`, unverified; none if there is none.
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
        let is_it = |line: &String| {
            parse(line).is_ok_and(|receipt| receipt.unverified_body().log.index == index)
        };
        if let Some(found) = batch.into_iter().find(is_it) {
            return Ok(Some(found));
        }
    }
}

/// Writes the pieces of an export as they arrive from a gateway, which names only files that an
/// export has.
#[derive(Debug)]
pub struct ExportWriter {
    dir: PathBuf,
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
        if let Some(name) = EXPORT_FILES.into_iter().find(|name| dir.join(name).exists()) {
            return Err(ExportWriteError::Exists(dir.join(name)));
        }
        let writer = Self { dir: dir.to_owned() };
        // Every file is there even when nothing is ever appended to it.
        EXPORT_FILES.into_iter().try_for_each(|name| writer.append(name, &[]))?;
        Ok(writer)
    }

    /// Appends the next bytes of a file.
    ///
    /// # Errors
    ///
    /// [`ExportWriteError::Name`] for a name that no export has; nothing is written outside `dir`.
    pub fn append(&self, name: &str, bytes: &[u8]) -> Result<(), ExportWriteError> {
        if !EXPORT_FILES.contains(&name) && !is_further_file(name) {
            return Err(ExportWriteError::Name);
        }
        let path = self.dir.join(name);
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        folder
            .and_then(|()| OpenOptions::new().create(true).append(true).open(&path))
            .and_then(|mut file| file.write_all(bytes))
            .map_err(|source| ExportWriteError::Write(path, source))
    }
}

/// Whether an export of one ledger may have a file of this name beside those that every export has.
fn is_further_file(name: &str) -> bool {
    let is_plain = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
    };
    match name.split_once('/') {
        None => [POLICY_FILE, LOG_OF_LOGS_FILE].contains(&name),
        Some((folder, rest)) => {
            [TILE_FOLDER, TSA_FOLDER, AUDIT_FOLDER].contains(&folder)
                && rest.split('/').all(is_plain)
        }
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

/// The files of a folder, by name.
pub(super) fn read_dir_sorted(dir: &Path) -> Result<Vec<PathBuf>, AuditError> {
    let fault = |source| AuditError::Read { file: dir.to_owned(), source };
    let entries = fs::read_dir(dir).map_err(fault)?;
    let mut files = entries
        .map(|entry| entry.map(|it| it.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(fault)?;
    files.retain(|path| path.is_file());
    files.sort();
    Ok(files)
}

/// Gives the lines of a file in batches, with the number of the first, from 1.
pub(super) fn lines_of(
    file: &Path,
    each: &mut dyn FnMut(u64, &[String]),
) -> Result<(), AuditError> {
    let mut lines = Lines::open(file)?;
    let mut first = 1;
    loop {
        let batch = lines.batch()?;
        if batch.is_empty() {
            return Ok(());
        }
        each(first, &batch);
        first += u64::try_from(batch.len()).unwrap_or(u64::MAX);
    }
}

pub(super) fn read_text(file: &Path, bytes_max: usize) -> Result<String, AuditError> {
    // What is not UTF-8 is no note and no signature: let their parsers refuse it.
    read_bytes(file, bytes_max).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn read_bytes(file: &Path, bytes_max: usize) -> Result<Vec<u8>, AuditError> {
    let fault = |source| AuditError::Read { file: file.to_owned(), source };
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|opened| opened.take(limit + 1).read_to_end(&mut bytes));
    if read.map_err(fault)? > bytes_max {
        return Err(AuditError::TooLong(file.to_owned()));
    }
    Ok(bytes)
}

/// The lines of a file of receipts, each bounded.
struct Lines {
    file: PathBuf,
    reader: BufReader<File>,
    length: u64,
    done: u64,
}

impl Lines {
    fn open(file: &Path) -> Result<Self, AuditError> {
        let fault = |source| AuditError::Read { file: file.to_owned(), source };
        let opened = File::open(file).map_err(fault)?;
        let length = opened.metadata().map_err(fault)?.len();
        let reader = BufReader::with_capacity(READ_BYTES, opened);
        Ok(Self { file: file.to_owned(), reader, length, done: 0 })
    }

    /// The next lines; empty at the end of the file.
    fn batch(&mut self) -> Result<Vec<String>, AuditError> {
        let mut batch = Vec::new();
        while batch.len() < BATCH_LINES {
            let line = self
                .line()
                .map_err(|source| AuditError::Read { file: self.file.clone(), source })?;
            match line {
                Some(line) => batch.push(line),
                None => break,
            }
        }
        Ok(batch)
    }

    /// The next line without its newline. Of one that is too long only the beginning is kept, one
    /// byte more than a receipt can have, so that it is refused as too long.
    fn line(&mut self) -> std::io::Result<Option<String>> {
        let mut line = Vec::new();
        let mut any = false;
        loop {
            let available = self.reader.fill_buf()?;
            if available.is_empty() {
                break;
            }
            any = true;
            let end = available.iter().position(|byte| *byte == b'\n');
            let (piece, used) = match end {
                Some(end) => (available.get(..end).unwrap_or_default(), end + 1),
                None => (available, available.len()),
            };
            let room = (JWS_BYTES_MAX + 1).saturating_sub(line.len()).min(piece.len());
            line.extend_from_slice(piece.get(..room).unwrap_or_default());
            self.reader.consume(used);
            self.done = self.done.saturating_add(u64::try_from(used).unwrap_or(u64::MAX));
            if end.is_some() {
                break;
            }
        }
        Ok(any.then(|| String::from_utf8_lossy(&line).into_owned()))
    }
}

const BATCH_LINES: usize = 4096;
const READ_BYTES: usize = 1024 * 1024;
const SIGNATURE_BYTES_MAX: usize = 1024;
const CHECKPOINTS_BYTES_MAX: usize = 4 * 1024 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_where_no_receipt_could_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lines");
        let long = "x".repeat(3 * 1024 * 1024);
        fs::write(&file, format!("a\n{long}\n\nlast")).unwrap();
        let mut seen = Vec::new();
        lines_of(&file, &mut |first, lines| seen.extend((first..).zip(lines.to_vec()))).unwrap();
        let lengths: Vec<_> = seen.iter().map(|(number, line)| (*number, line.len())).collect();
        assert_eq!(lengths, [(1, 1), (2, JWS_BYTES_MAX + 1), (3, 0), (4, 4)]);
    }

    #[test]
    fn an_export_is_written_by_name_and_never_over_another() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("export");
        let writer = ExportWriter::create(&target).unwrap();
        writer.append(CHECKPOINT_FILE, b"a").unwrap();
        writer.append(CHECKPOINT_FILE, b"b").unwrap();
        assert_eq!(fs::read(target.join(CHECKPOINT_FILE)).unwrap(), b"ab");
        for name in ["../checkpoint", "/etc/passwd", "other", ""] {
            assert!(matches!(writer.append(name, b"x"), Err(ExportWriteError::Name)), "{name}");
        }
        assert!(matches!(ExportWriter::create(&target), Err(ExportWriteError::Exists(_))));
    }
}
