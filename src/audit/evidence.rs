//! Evidence from outside the export: what a rewritten ledger cannot rewrite.

use std::path::{Path, PathBuf};

use super::export::{lines_of, read_dir_sorted};
use super::report::Findings;
use super::{AuditError, open_checkpoint, read_note};
use crate::ledger::{Origin, Tree};
use crate::receipt::{KeyRegister, VerifiedReceipt, verify};

/// Checks that every receipt that others hold is in the ledger; how many there are.
pub(super) fn check_held(
    dir: &Path,
    register: &KeyRegister,
    origin: &Origin,
    tree: &Tree,
    findings: &mut Findings,
) -> Result<u64, AuditError> {
    let mut count = 0;
    for file in read_dir_sorted(dir)? {
        lines_of(&file, &mut |first, lines| {
            for (number, line) in (first..).zip(lines) {
                count += 1;
                if let Err((index, text)) = held(line, register, origin, tree) {
                    findings.add("held", index, format!("{}: {text}", place(&file, number)));
                }
            }
        })?;
    }
    Ok(count)
}

/// Checks that a checkpoint received earlier is of this ledger; its size.
pub(super) fn check_earlier(
    file: &Path,
    register: &KeyRegister,
    origin: &Origin,
    tree: &Tree,
    findings: &mut Findings,
) -> Result<u64, AuditError> {
    let note = read_note(file)?;
    let earlier = match open_checkpoint(&note, origin, register) {
        Ok(earlier) => earlier,
        Err(fault) => {
            findings.add("earlier", None, format!("{}: {fault}", file.display()));
            return Ok(0);
        }
    };
    match tree.root_at(earlier.size) {
        Ok(root) if root == earlier.root => {}
        Ok(_) => findings.add(
            "earlier",
            None,
            format!("the checkpoint of {} entries received earlier is signed with the ledger's key, but is not of this history", earlier.size),
        ),
        Err(_) => findings.add(
            "earlier",
            Some(tree.size()),
            format!("the checkpoint received earlier covers {} entries, the export fewer", earlier.size),
        ),
    }
    Ok(earlier.size)
}

fn held(
    jws: &str,
    register: &KeyRegister,
    origin: &Origin,
    tree: &Tree,
) -> Result<(), (Option<u64>, String)> {
    let receipt: VerifiedReceipt = verify(jws, register).map_err(|fault| {
        (None, format!("a held receipt does not verify by this register: {fault}"))
    })?;
    let log = &receipt.body().log;
    let fault = |text: &str| Err((Some(log.index), text.to_owned()));
    if log.origin != origin.as_str() {
        return fault("the held receipt is of another ledger");
    }
    match tree.leaf(log.index) {
        None => fault("the ledger ends before a receipt that is held"),
        Some(leaf) if leaf != receipt.leaf() => {
            fault("the ledger has another entry where the held receipt stood")
        }
        Some(_) if tree.root_at(log.prior_size) != Ok(*receipt.prior_root()) => {
            fault("the head that the held receipt names is not this ledger's")
        }
        Some(_) => Ok(()),
    }
}

fn place(file: &Path, number: u64) -> String {
    let name = file.file_name().map_or_else(PathBuf::new, PathBuf::from);
    format!("{}, line {number}", name.display())
}
