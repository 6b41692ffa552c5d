//! Salted audit records beside an export: each must open the commitment of its receipt.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::AuditError;
use super::lines::{read_bytes, read_dir_sorted};
use super::report::Findings;
use crate::receipt::{Salt, audit_commit};

/// The audit records that were given with a ledger.
#[derive(Default)]
pub(super) struct Records {
    dir: PathBuf,
    indices: BTreeSet<u64>,
    /// Files whose names are no indices.
    strangers: Vec<PathBuf>,
}

impl Records {
    /// The records of a folder; none without one.
    pub(super) fn of(dir: Option<PathBuf>) -> Result<Self, AuditError> {
        let Some(dir) = dir else { return Ok(Self::default()) };
        let mut records = Self { dir, ..Self::default() };
        for file in read_dir_sorted(&records.dir)? {
            match index_of(&file) {
                Some(index) => drop(records.indices.insert(index)),
                None => records.strangers.push(file),
            }
        }
        Ok(records)
    }

    /// How many.
    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.indices.len()).unwrap_or(u64::MAX)
    }

    /// Checks the record of a receipt, where there is one.
    pub(super) fn check(&self, index: u64, commit: Option<&str>) -> Result<(), String> {
        if self.indices.is_empty() || !self.indices.contains(&index) {
            return Ok(());
        }
        let commit = commit.ok_or("there is an audit record for a receipt that has none")?;
        let bytes = read_bytes(&self.dir.join(index.to_string()), RECORD_BYTES_MAX)
            .map_err(|fault| format!("the audit record cannot be read: {fault}"))?;
        let (salt, record) =
            bytes.split_first_chunk().ok_or("the audit record has no salt of 32 bytes")?;
        if audit_commit(&Salt::new(*salt), record) == commit {
            Ok(())
        } else {
            Err("the audit record is not the one that the receipt commits to".to_owned())
        }
    }

    /// What belongs to no receipt of the ledger; `has_body` says whether an index has one.
    pub(super) fn check_rest(&self, has_body: impl Fn(u64) -> bool, findings: &mut Findings) {
        for index in self.indices.iter().filter(|index| !has_body(**index)) {
            let text = "there is an audit record, but no readable receipt that could commit to it";
            findings.add("audit-record", Some(*index), text);
        }
        for file in &self.strangers {
            let text = format!("{}: its name is no index", file.display());
            findings.add("audit-record", None, text);
        }
    }
}

fn index_of(file: &Path) -> Option<u64> {
    let name = file.file_name()?.to_str()?;
    let index: u64 = name.parse().ok()?;
    (index.to_string() == name && file.is_file()).then_some(index)
}

const RECORD_BYTES_MAX: usize = 1024 * 1024;
