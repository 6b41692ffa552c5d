//! Evidence from outside the export: what a rewritten ledger cannot rewrite.

use std::path::{Path, PathBuf};

use super::AuditError;
use super::chain::{NAME_END, open_log_of_logs};
use super::heads::open_checkpoint;
use super::lines::{Lines, Notes, read_dir_sorted};
use super::past::Past;
use super::report::Findings;
use crate::ledger::{Checkpoint, CheckpointError, LogOfLogs};
use crate::receipt::{KeyRegister, VerifiedReceipt, verify};

/// What was held against the evidence from outside.
pub(super) struct Against<'a> {
    pub register: &'a KeyRegister,
    pub past: &'a Past,
    pub log_of_logs: Option<&'a str>,
}

impl Against<'_> {
    /// Checks that every receipt that others hold is in its ledger; how many there are.
    pub(super) fn check_held(
        &self,
        dir: &Path,
        findings: &mut Findings,
    ) -> Result<u64, AuditError> {
        let mut count = 0;
        for file in read_dir_sorted(dir)?.into_iter().filter(|path| path.is_file()) {
            let mut lines = Lines::open(&file)?;
            let mut number = 0;
            loop {
                let batch = lines.batch()?;
                if batch.is_empty() {
                    break;
                }
                for place in 0..batch.len() {
                    number += 1;
                    let line = String::from_utf8_lossy(batch.line(place));
                    if let Err((index, text)) = self.held(&line) {
                        let text = format!("{}: {text}", placed(&file, number));
                        findings.add("held", index, text);
                    }
                }
                count += u64::try_from(batch.len()).unwrap_or(u64::MAX);
            }
        }
        Ok(count)
    }

    /// Checks that checkpoints received earlier are of their ledgers; their sizes. A log of logs may be
    /// among them.
    pub(super) fn check_earlier(
        &self,
        file: &Path,
        findings: &mut Findings,
    ) -> Result<Vec<u64>, AuditError> {
        let mut sizes = Vec::new();
        let mut notes = Notes::open(file)?;
        loop {
            let batch = notes.batch()?;
            if batch.is_empty() {
                break;
            }
            for note in &batch {
                match self.earlier(note) {
                    Ok(size) => sizes.push(size),
                    Err((index, text)) => {
                        let text = format!("{}: {text}", placed(file, sizes.len() + 1));
                        sizes.push(0);
                        findings.add("earlier", index, text);
                    }
                }
            }
        }
        if sizes.is_empty() {
            let text = format!("{}: there is no checkpoint in it", file.display());
            findings.add("earlier", None, text);
        }
        Ok(sizes)
    }

    fn held(&self, jws: &str) -> Result<(), (Option<u64>, String)> {
        let receipt: VerifiedReceipt = verify(jws, self.register).map_err(|fault| {
            (None, format!("a held receipt does not verify by this register: {fault}"))
        })?;
        let log = &receipt.body().log;
        let fault = |text: &str| Err((Some(log.index), text.to_owned()));
        let Some(ledger) = self.past.ledger(&log.origin) else {
            return fault("the held receipt is of a ledger that is not here");
        };
        match ledger.tree.leaf(log.index) {
            None => fault("the ledger ends before a receipt that is held"),
            Some(leaf) if leaf != receipt.leaf() => {
                fault("the ledger has another entry where the held receipt stood")
            }
            Some(_) if ledger.tree.root_at(log.prior_size) != Ok(*receipt.prior_root()) => {
                fault("the head that the held receipt names is not this ledger's")
            }
            Some(_) => Ok(()),
        }
    }

    fn earlier(&self, note: &str) -> Result<u64, (Option<u64>, String)> {
        let is_log_of_logs = note.lines().next().is_some_and(|name| name.ends_with(NAME_END));
        if is_log_of_logs {
            return self.earlier_log_of_logs(note).map_err(|text| (None, text));
        }
        let earlier = Checkpoint::peek(note)
            .and_then(|seen| open_checkpoint(note, &seen.origin, self.register))
            .map_err(|fault| (None, fault.to_string()))?;
        let Checkpoint { origin, size, root } = earlier;
        let Some(ledger) = self.past.ledger(origin.as_str()) else {
            return Err((None, format!("the ledger {:?} is not here", origin.as_str())));
        };
        match ledger.tree.root_at(size) {
            Ok(seen) if seen == root => Ok(size),
            Ok(_) => {
                let text = format!(
                    "the checkpoint of {size} entries received earlier is signed with the ledger's \
                     key, but is not of this history"
                );
                Err((None, text))
            }
            Err(_) => {
                let text = format!(
                    "the checkpoint received earlier covers {size} entries, the export fewer"
                );
                Err((Some(ledger.tree.size()), text))
            }
        }
    }

    fn earlier_log_of_logs(&self, note: &str) -> Result<u64, String> {
        let earlier = open_log_of_logs(note, self.register).map_err(|fault| fault.to_string())?;
        let now: Option<Result<LogOfLogs, CheckpointError>> =
            self.log_of_logs.map(|note| open_log_of_logs(note, self.register));
        match now {
            Some(Ok(now)) if now.extends(&earlier) => {
                Ok(u64::try_from(earlier.shards().len()).unwrap_or(u64::MAX))
            }
            _ => Err("the log of logs received earlier is not what this one has grown from".into()),
        }
    }
}

fn placed(file: &Path, number: usize) -> String {
    let name = file.file_name().map_or_else(PathBuf::new, PathBuf::from);
    format!("{}, number {number}", name.display())
}
