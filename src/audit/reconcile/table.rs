//! A CSV file as banks write them: with `;` or `,`, with quotes, with a byte-order mark, columns by the
//! names in the first line. A line that cannot be read is refused by itself.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;

use super::super::AuditError;
use super::super::lines::read_bytes;

/// A line that was left out, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RefusedLine {
    /// Its number in the file, from 1.
    pub line: u64,
    /// Why.
    pub reason: String,
}

/// A file whose first line names the columns.
pub(super) struct Table {
    columns: HashMap<String, usize>,
    records: Vec<(u64, csv::StringRecord)>,
    pub refused: Vec<RefusedLine>,
}

/// One line of a table.
pub(super) struct Row<'a> {
    pub line: u64,
    table: &'a Table,
    record: &'a csv::StringRecord,
}

impl Table {
    /// Reads a file that must have the columns of `needed`.
    pub(super) fn read(file: &Path, needed: &[&str]) -> Result<Self, ReconcileError> {
        let bytes = read_bytes(file, TABLE_BYTES_MAX)?;
        let fault = |reason: String| ReconcileError::Table { file: file.to_owned(), reason };
        let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
        let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let count = |of: u8| memchr::memchr_iter(of, first).count();
        let delimiter = if count(b';') > count(b',') { b';' } else { b',' };
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(text);
        let names = reader.headers().map_err(|cause| fault(cause.to_string()))?;
        let mut columns = HashMap::new();
        for (place, name) in names.iter().enumerate() {
            if columns.insert(name.to_ascii_lowercase(), place).is_some() {
                return Err(fault(format!("the column {name:?} stands twice")));
            }
        }
        let missing: Vec<&str> =
            needed.iter().copied().filter(|name| !columns.contains_key(*name)).collect();
        if !missing.is_empty() {
            return Err(fault(format!("its first line names no column {}", missing.join(", "))));
        }
        let (width, mut records, mut refused) = (names.len(), Vec::new(), Vec::new());
        for record in reader.records() {
            match record {
                Ok(record) => {
                    let line = record.position().map_or(0, csv::Position::line);
                    if record.len() == width {
                        records.push((line, record));
                    } else {
                        let reason = format!("it has {} columns, not {width}", record.len());
                        refused.push(RefusedLine { line, reason });
                    }
                }
                Err(cause) => {
                    let line = cause.position().map_or(0, csv::Position::line);
                    refused.push(RefusedLine { line, reason: "it is no text in UTF-8".to_owned() });
                }
            }
        }
        Ok(Self { columns, records, refused })
    }

    pub(super) fn has(&self, column: &str) -> bool {
        self.columns.contains_key(column)
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.records.iter().map(|(line, record)| Row { line: *line, table: self, record })
    }
}

impl Row<'_> {
    /// The text in a column; none where the column is missing or the text empty.
    pub(super) fn text(&self, column: &str) -> Option<&str> {
        let place = self.table.columns.get(column)?;
        self.record.get(*place).filter(|text| !text.is_empty())
    }

    /// The same, where there must be one.
    pub(super) fn needed(&self, column: &str) -> Result<&str, String> {
        self.text(column).ok_or_else(|| format!("{column} is empty"))
    }
}

/// Nothing could be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReconcileError {
    /// A file that cannot be read, or an export that is none.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A table whose columns are not those that are needed.
    #[error("{} cannot be compared: {reason}", .file.display())]
    Table {
        /// Which file.
        file: std::path::PathBuf,
        /// Why.
        reason: String,
    },
}

impl ReconcileError {
    /// The word in machine-readable output.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Audit(fault) => fault.code(),
            Self::Table { .. } => "AUDIT_TABLE",
        }
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const TABLE_BYTES_MAX: usize = 1024 * 1024 * 1024;
