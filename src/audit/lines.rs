//! Long files read in batches of bounded pieces: receipts line by line, checkpoints note by note.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use super::AuditError;
use crate::ledger::NOTE_BYTES_MAX;
use crate::receipt::JWS_BYTES_MAX;

/// Lines in one piece of memory.
#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Batch {
    /// How many lines.
    pub(super) const fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The line at a place, without its newline; empty beyond the end.
    pub(super) fn line(&self, place: usize) -> &[u8] {
        let start = place.checked_sub(1).and_then(|before| self.ends.get(before)).copied();
        let end = self.ends.get(place).copied().unwrap_or_default();
        self.bytes.get(start.unwrap_or_default()..end).unwrap_or_default()
    }
}

/// The lines of a file of receipts, each bounded.
pub(super) struct Lines {
    file: PathBuf,
    reader: BufReader<File>,
    done: u64,
}

impl Lines {
    pub(super) fn open(file: &Path) -> Result<Self, AuditError> {
        let opened = File::open(file).map_err(|source| unread(file, source))?;
        let reader = BufReader::with_capacity(READ_BYTES, opened);
        Ok(Self { file: file.to_owned(), reader, done: 0 })
    }

    /// How many bytes were read.
    pub(super) const fn done_bytes(&self) -> u64 {
        self.done
    }

    /// The next lines; none at the end of the file.
    pub(super) fn batch(&mut self) -> Result<Batch, AuditError> {
        let mut batch = Batch::default();
        while batch.len() < BATCH_LINES && batch.bytes.len() < BATCH_BYTES {
            let some = self.line(&mut batch).map_err(|source| unread(&self.file, source))?;
            if !some {
                break;
            }
        }
        Ok(batch)
    }

    /// Takes the next line, if there is one. Of one that is too long only the beginning is kept, one
    /// byte more than a receipt can have, so that it is refused as too long.
    fn line(&mut self, batch: &mut Batch) -> std::io::Result<bool> {
        let start = batch.bytes.len();
        let mut any = false;
        loop {
            let available = self.reader.fill_buf()?;
            if available.is_empty() {
                break;
            }
            any = true;
            let end = memchr::memchr(b'\n', available);
            let (piece, used) = match end {
                Some(end) => (available.get(..end).unwrap_or_default(), end + 1),
                None => (available, available.len()),
            };
            let kept = batch.bytes.len() - start;
            let room = (JWS_BYTES_MAX + 1).saturating_sub(kept).min(piece.len());
            batch.bytes.extend_from_slice(piece.get(..room).unwrap_or_default());
            self.reader.consume(used);
            self.done = self.done.saturating_add(u64::try_from(used).unwrap_or(u64::MAX));
            if end.is_some() {
                break;
            }
        }
        if any {
            batch.ends.push(batch.bytes.len());
        }
        Ok(any)
    }
}

/// The signed notes of a file of checkpoints, each bounded.
pub(super) struct Notes {
    lines: Lines,
    batch: Batch,
    place: usize,
    /// The note that is being put together.
    note: String,
    signed: bool,
    /// The file is at its end.
    ended: bool,
}

impl Notes {
    pub(super) fn open(file: &Path) -> Result<Self, AuditError> {
        let lines = Lines::open(file)?;
        let (note, batch) = (String::new(), Batch::default());
        Ok(Self { lines, batch, place: 0, note, signed: false, ended: false })
    }

    /// The next notes; none at the end of the file. It only cuts: each is still to be opened.
    pub(super) fn batch(&mut self) -> Result<Vec<String>, AuditError> {
        let mut notes = Vec::new();
        while notes.len() < BATCH_LINES && !self.ended {
            if self.place == self.batch.len() {
                self.batch = self.lines.batch()?;
                self.place = 0;
                self.ended = self.batch.is_empty();
                if self.ended {
                    notes.extend(Some(std::mem::take(&mut self.note)).filter(|it| !it.is_empty()));
                    break;
                }
            }
            notes.extend(self.take_line());
        }
        Ok(notes)
    }

    /// Takes the line at hand; the note that ended before it, if one did.
    fn take_line(&mut self) -> Option<String> {
        let line = String::from_utf8_lossy(self.batch.line(self.place));
        self.place += 1;
        let is_signature = line.starts_with(SIGNATURE_MARK);
        let ended = (self.signed && !is_signature).then(|| std::mem::take(&mut self.note));
        self.signed = is_signature;
        // What is longer than a note is refused when it is opened; more of it need not be kept.
        let is_between = self.note.is_empty() && line.is_empty();
        if !is_between && self.note.len() <= NOTE_BYTES_MAX {
            self.note.push_str(&line);
            self.note.push('\n');
        }
        ended
    }
}

/// The files of a folder, by name; at most [`FILES_MAX`].
pub(super) fn read_dir_sorted(dir: &Path) -> Result<Vec<PathBuf>, AuditError> {
    let entries = fs::read_dir(dir).map_err(|source| unread(dir, source))?;
    let mut files = entries
        .take(FILES_MAX + 1)
        .map(|entry| entry.map(|it| it.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| unread(dir, source))?;
    if files.len() > FILES_MAX {
        return Err(AuditError::TooLong(dir.to_owned()));
    }
    files.sort();
    Ok(files)
}

pub(super) fn read_text(file: &Path, bytes_max: usize) -> Result<String, AuditError> {
    // What is not UTF-8 is no note and no signature: let their parsers refuse it.
    read_bytes(file, bytes_max).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

pub(super) fn read_bytes(file: &Path, bytes_max: usize) -> Result<Vec<u8>, AuditError> {
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let read = File::open(file)
        .and_then(|opened| opened.take(limit.saturating_add(1)).read_to_end(&mut bytes));
    if read.map_err(|source| unread(file, source))? > bytes_max {
        return Err(AuditError::TooLong(file.to_owned()));
    }
    Ok(bytes)
}

pub(super) fn unread(file: &Path, source: std::io::Error) -> AuditError {
    AuditError::Read { file: file.to_owned(), source }
}

/// An em dash and a space: how a signature line begins.
const SIGNATURE_MARK: &str = "\u{2014} ";
const BATCH_LINES: usize = 4096;
const BATCH_BYTES: usize = 8 * 1024 * 1024;
const READ_BYTES: usize = 1024 * 1024;
/// Files in one folder: of a folder of held receipts, or of a folder of tiles.
const FILES_MAX: usize = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lines");
        fs::write(&file, text).unwrap();
        (dir, file)
    }

    #[test]
    fn a_line_is_cut_where_no_receipt_could_go_on() {
        let long = "x".repeat(3 * 1024 * 1024);
        let (_dir, file) = file(&format!("a\n{long}\n\nlast"));
        let mut lines = Lines::open(&file).unwrap();
        let batch = lines.batch().unwrap();
        let lengths: Vec<_> = (0..batch.len()).map(|place| batch.line(place).len()).collect();
        assert_eq!(lengths, [1, JWS_BYTES_MAX + 1, 0, 4]);
        assert_eq!(batch.line(3), b"last");
        assert!(lines.batch().unwrap().is_empty());
        assert_eq!(lines.done_bytes(), fs::metadata(&file).unwrap().len());
    }

    #[test]
    fn a_batch_is_bounded() {
        let (_dir, file) = file(&"x\n".repeat(2 * BATCH_LINES + 1));
        let mut lines = Lines::open(&file).unwrap();
        let sizes: Vec<_> = (0..4).map(|_| lines.batch().unwrap().len()).collect();
        assert_eq!(sizes, [BATCH_LINES, BATCH_LINES, 1, 0]);
    }

    #[test]
    fn notes_are_cut_where_they_meet() {
        let note = |size: u64, lines: usize| {
            format!("origin\n{size}\nroot\n\n{}", "\u{2014} name AAAA\n".repeat(lines))
        };
        let notes = [note(0, 1), note(1, 3), note(5, 2)];
        for between in ["", "\n", "\n\n"] {
            let (_dir, file) = file(&notes.join(between));
            assert_eq!(Notes::open(&file).unwrap().batch().unwrap(), notes, "{between:?}");
        }
        let (_dir, rest) = file(&format!("{}rubbish", notes[0]));
        let cut = Notes::open(&rest).unwrap().batch().unwrap();
        assert_eq!(cut, [notes[0].as_str(), "rubbish\n"]);
        let (_dir, long) = file(&"y\n".repeat(NOTE_BYTES_MAX));
        let cut = Notes::open(&long).unwrap().batch().unwrap();
        assert_eq!(cut.len(), 1);
        assert!(cut[0].len() > NOTE_BYTES_MAX && cut[0].len() < NOTE_BYTES_MAX + 4);
        let (_dir, empty) = file("");
        assert!(Notes::open(&empty).unwrap().batch().unwrap().is_empty());
    }
}
