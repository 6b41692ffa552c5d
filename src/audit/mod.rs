//! Verifies an exported ledger, or one receipt with its proof, from outside: no gateway, no database.
//!
//! What is found wrong is a value, a [`Finding`]; an [`AuditError`] means that there was nothing to
//! verify. A report is good only with no findings *and* a trust fingerprint from elsewhere: without
//! one, a ledger made anew with other keys would verify.

mod evidence;
mod export;
mod report;
mod single;
mod walk;

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::ledger::{Checkpoint, CheckpointError, NoteError, Origin, Tree, split_checkpoints};
use crate::receipt::{
    CHECKPOINT_FILE, CHECKPOINTS_FILE, ErasedBody, KeyRegister, KeyRegisterError, TrustFingerprint,
    parse_erasures,
};

pub use export::{ExportWriteError, ExportWriter, find_receipt};
pub use report::{AuditReport, Established, Evidence, FINDINGS_PER_RULE_MAX, Finding};
pub use single::{SingleError, SingleReport, verify_single};
pub use walk::SKEW_MS;

use export::{Export, read_text};
use report::Findings;
use walk::Walk;

/// Evidence from outside the export.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A folder of receipts that terminals or hosts hold, one JWS a line.
    pub held: Option<PathBuf>,
    /// A checkpoint that was received earlier.
    pub earlier: Option<PathBuf>,
}

/// How far the walk over the receipts has come, in bytes of their file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Read so far.
    pub done_bytes: u64,
    /// The file's length.
    pub total_bytes: u64,
}

/// Verifies the export in `dir`.
///
/// # Errors
///
/// [`AuditError`] when a file that every export has is missing or cannot be read at all.
pub fn verify_export(
    dir: &Path,
    trust: Option<&TrustFingerprint>,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<AuditReport, AuditError> {
    let export = Export::open(dir)?;
    let mut findings = Findings::default();
    let register = believed_register(&export, trust, &mut findings)?;
    let latest = head(&export, &register, &mut findings);
    let origin = latest.as_ref().map(|it| it.origin.clone()).or_else(|| only_origin(&register));
    let origin = origin.ok_or(AuditError::NoOrigin)?;
    let erased = erased_bodies(&export, &mut findings);

    let mut walk = Walk::new(&register, &origin, &erased, &mut findings);
    export.receipts(&mut |batch, at| {
        walk.take(batch);
        progress(at);
    })?;
    let walked = walk.finish();
    check_head(latest.as_ref(), &walked.tree, &mut findings);
    let kept =
        check_kept(&export, &register, &origin, &walked.tree, latest.as_ref(), &mut findings);

    let held = options
        .held
        .as_deref()
        .map(|held| evidence::check_held(held, &register, &origin, &walked.tree, &mut findings));
    let earlier = options.earlier.as_deref().map(|earlier| {
        evidence::check_earlier(earlier, &register, &origin, &walked.tree, &mut findings)
    });
    let evidence = Evidence {
        trust: trust.map(ToString::to_string),
        held_receipts: held.transpose()?,
        earlier_size: earlier.transpose()?,
    };
    Ok(AuditReport::new(&origin, walked, kept, latest.map(|it| it.size), evidence, findings))
}

/// There was nothing to verify.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// No such folder.
    #[error("{} is not a folder with an export", .0.display())]
    NoExport(PathBuf),
    /// A file is missing or cannot be read.
    #[error("{} cannot be read", .file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is longer than it can be.
    #[error("{} is longer than it can be", .0.display())]
    TooLong(PathBuf),
    /// The key register cannot be read: nothing can be checked by it.
    #[error("the key register cannot be read")]
    Register(#[from] KeyRegisterError),
    /// Neither checkpoint nor register names a ledger.
    #[error("neither the checkpoint nor the key register names a ledger")]
    NoOrigin,
}

impl AuditError {
    /// The word in machine-readable output.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoExport(_) => "AUDIT_NO_EXPORT",
            Self::Read { .. } | Self::TooLong(_) => "AUDIT_UNREADABLE",
            Self::Register(_) | Self::NoOrigin => "AUDIT_REGISTER",
        }
    }
}

/// The register, believed or not: without trust the rest is still worth checking.
fn believed_register(
    export: &Export,
    trust: Option<&TrustFingerprint>,
    findings: &mut Findings,
) -> Result<KeyRegister, AuditError> {
    let Some(trust) = trust else {
        findings.add(
            "trust-missing",
            None,
            "no trust fingerprint was given: a ledger made anew with other keys would look the same",
        );
        return Ok(KeyRegister::parse(&export.keys)?);
    };
    match KeyRegister::verify(&export.keys, &export.keys_signature, trust) {
        Ok(register) => Ok(register),
        Err(fault @ (KeyRegisterError::Untrusted | KeyRegisterError::Signature)) => {
            findings.add("keys", None, fault.to_string());
            Ok(KeyRegister::parse(&export.keys)?)
        }
        Err(fault) => Err(fault.into()),
    }
}

fn head(export: &Export, register: &KeyRegister, findings: &mut Findings) -> Option<Checkpoint> {
    let opened = Checkpoint::peek(&export.checkpoint)
        .and_then(|seen| open_checkpoint(&export.checkpoint, &seen.origin, register));
    opened
        .map_err(|fault| findings.add("checkpoint", None, format!("{CHECKPOINT_FILE}: {fault}")))
        .ok()
}

/// Opens a checkpoint with whichever of the register's keys may sign it.
fn open_checkpoint(
    note: &str,
    origin: &Origin,
    register: &KeyRegister,
) -> Result<Checkpoint, CheckpointError> {
    let mut fault = CheckpointError::Note(NoteError::NotSigned);
    for key in register.ledger_keys(origin.as_str()) {
        match Checkpoint::open(note, origin, &key.public_key) {
            Ok(checkpoint) if key.covers(origin.as_str(), checkpoint.size.saturating_sub(1)) => {
                return Ok(checkpoint);
            }
            Ok(_) | Err(CheckpointError::Note(NoteError::NotSigned)) => {}
            Err(other) => fault = other,
        }
    }
    Err(fault)
}

fn only_origin(register: &KeyRegister) -> Option<Origin> {
    let ranges = register.keys().iter().flat_map(|key| &key.origins);
    ranges.map(|range| range.origin.as_str()).find_map(|text| Origin::try_from(text).ok())
}

fn erased_bodies(export: &Export, findings: &mut Findings) -> Vec<ErasedBody> {
    parse_erasures(&export.erasures).unwrap_or_else(|| {
        findings.add("erasures", None, "erasures.json is not a list of erased bodies");
        Vec::new()
    })
}

fn check_head(head: Option<&Checkpoint>, tree: &Tree, findings: &mut Findings) {
    let Some(head) = head else { return };
    if tree.size() < head.size {
        let text = format!(
            "the checkpoint covers {} entries, the export has {}: the end is missing",
            head.size,
            tree.size()
        );
        findings.add("truncated", Some(tree.size()), text);
    } else {
        if tree.size() > head.size {
            let text = format!("no checkpoint covers the entries from {} on", head.size);
            findings.add("uncovered", Some(head.size), text);
        }
        if tree.root_at(head.size) != Ok(head.root) {
            let text = "the receipts do not give the checkpoint's root: some were altered, \
                        added, removed or moved";
            findings.add("root", None, text);
        }
    }
}

/// Checks every kept checkpoint; how many there are.
fn check_kept(
    export: &Export,
    register: &KeyRegister,
    origin: &Origin,
    tree: &Tree,
    head: Option<&Checkpoint>,
    findings: &mut Findings,
) -> u64 {
    let notes = split_checkpoints(&export.checkpoints);
    let opened: Vec<_> =
        notes.par_iter().map(|note| open_checkpoint(note, origin, register)).collect();
    for (number, checkpoint) in opened.iter().enumerate() {
        let place = format!("{CHECKPOINTS_FILE}, number {}", number + 1);
        match checkpoint {
            Err(fault) => findings.add("checkpoint", None, format!("{place}: {fault}")),
            Ok(kept) if head.is_some_and(|head| kept.size > head.size) => {
                let text = format!("{place} covers {} entries, the latest fewer", kept.size);
                findings.add("truncated", None, text);
            }
            Ok(kept) => match tree.root_at(kept.size) {
                Ok(root) if root == kept.root => {}
                Ok(_) => {
                    let text = format!(
                        "{place}, of {} entries, is signed but is not of this ledger",
                        kept.size
                    );
                    findings.add("fork", None, text);
                }
                Err(_) => {
                    let text = format!("{place} covers {} entries, the export fewer", kept.size);
                    findings.add("truncated", None, text);
                }
            },
        }
    }
    u64::try_from(notes.len()).unwrap_or(u64::MAX)
}

fn read_note(file: &Path) -> Result<String, AuditError> {
    read_text(file, crate::ledger::NOTE_BYTES_MAX)
}
