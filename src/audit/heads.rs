//! The heads of a ledger: its latest checkpoint and all kept ones, who signed and who cosigned them,
//! and whether they are of the tree that the receipts give.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::AuditError;
use super::folder::LedgerFiles;
use super::lines::Notes;
use super::report::Findings;
use super::timeline::Sightings;
use super::witnesses::Witnesses;
use crate::crypto::Digest;
use crate::domain::time::UnixMillis;
use crate::ledger::{
    Checkpoint, CheckpointError, NoteError, Origin, QuorumState, SignedNote, Tree,
};
use crate::receipt::{CHECKPOINT_FILE, CHECKPOINTS_FILE, KeyRegister};

/// The heads that a ledger's key signed.
#[derive(Default)]
pub(super) struct Heads {
    pub latest: Option<Checkpoint>,
    /// Each kept one that its key signed, with its number in the file. 48 bytes each.
    kept: Vec<Kept>,
    /// How many were kept.
    pub count: u64,
    /// How many of them a quorum cosigned.
    pub witnessed_count: u64,
    /// The largest that a quorum cosigned.
    pub witnessed_size: Option<u64>,
    pub sightings: Sightings,
}

struct Kept {
    number: u64,
    size: u64,
    root: Digest,
}

/// A checkpoint that its ledger's key signed, and what witnesses say of it.
struct Opened {
    checkpoint: Checkpoint,
    cosigned: Vec<UnixMillis>,
    forged: Vec<String>,
    reached: Option<UnixMillis>,
}

/// Reads and opens all heads of a ledger.
pub(super) fn read_heads(
    files: &LedgerFiles,
    origin: &Origin,
    register: &KeyRegister,
    witnesses: &Witnesses,
    findings: &mut Findings,
) -> Result<Heads, AuditError> {
    let mut heads = Heads::default();
    heads.sightings.has_witnesses = witnesses.asks();
    match open(&files.checkpoint, origin, register, witnesses) {
        Ok(opened) => {
            heads.see(&opened, CHECKPOINT_FILE, findings);
            heads.latest = Some(opened.checkpoint);
        }
        Err(fault) => findings.add("checkpoint", None, format!("{CHECKPOINT_FILE}: {fault}")),
    }
    let mut notes = Notes::open(&files.checkpoints())?;
    loop {
        let batch = notes.batch()?;
        if batch.is_empty() {
            return Ok(heads);
        }
        let opened: Vec<_> =
            batch.par_iter().map(|note| open(note, origin, register, witnesses)).collect();
        for opened in opened {
            heads.keep(opened, findings);
        }
    }
}

impl Heads {
    fn keep(&mut self, opened: Result<Opened, CheckpointError>, findings: &mut Findings) {
        self.count += 1;
        match opened {
            Err(fault) => {
                findings.add("checkpoint", None, format!("{}: {fault}", numbered(self.count)));
            }
            Ok(opened) => {
                self.witnessed_count += u64::from(opened.reached.is_some());
                self.see(&opened, &numbered(self.count), findings);
                let Checkpoint { size, root, .. } = opened.checkpoint;
                self.kept.push(Kept { number: self.count, size, root });
            }
        }
    }

    fn see(&mut self, opened: &Opened, place: &str, findings: &mut Findings) {
        let size = opened.checkpoint.size;
        for fault in &opened.forged {
            findings.add("cosignature", None, format!("{place}, of {size} entries: {fault}"));
        }
        self.sightings.cosigned.extend(opened.cosigned.iter().map(|time| (size, *time)));
        if let Some(time) = opened.reached {
            self.sightings.witnessed.push((size, time));
            self.witnessed_size = self.witnessed_size.max(Some(size));
        }
    }

    /// The roots of the heads of these sizes, as far as there are any.
    pub(super) fn roots_of(&self, sizes: &BTreeSet<u64>) -> BTreeMap<u64, Digest> {
        let latest = self.latest.iter().map(|it| (it.size, it.root));
        let all = self.kept.iter().map(|it| (it.size, it.root)).chain(latest);
        all.filter(|(size, _)| sizes.contains(size)).collect()
    }

    /// Compares every head with the tree of the receipts.
    pub(super) fn check(&self, tree: &Tree, findings: &mut Findings) {
        self.check_latest(tree, findings);
        let latest = self.latest.as_ref();
        for Kept { number, size, root } in &self.kept {
            let place = numbered(*number);
            if latest.is_some_and(|latest| *size > latest.size) {
                let text = format!("{place} covers {size} entries, the latest fewer");
                findings.add("truncated", None, text);
                continue;
            }
            match tree.root_at(*size) {
                Ok(seen) if seen == *root => {}
                Ok(_) => {
                    let text =
                        format!("{place}, of {size} entries, is signed but is not of this ledger");
                    findings.add("fork", None, text);
                }
                Err(_) => {
                    let text = format!("{place} covers {size} entries, the export fewer");
                    findings.add("truncated", None, text);
                }
            }
        }
    }

    fn check_latest(&self, tree: &Tree, findings: &mut Findings) {
        let Some(head) = &self.latest else { return };
        if tree.size() < head.size {
            let text = format!(
                "the checkpoint covers {} entries, the export has {}: the end is missing",
                head.size,
                tree.size()
            );
            findings.add("truncated", Some(tree.size()), text);
            return;
        }
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

/// Opens a checkpoint with whichever of the register's keys may sign it.
pub(super) fn open_checkpoint(
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

fn open(
    note: &str,
    origin: &Origin,
    register: &KeyRegister,
    witnesses: &Witnesses,
) -> Result<Opened, CheckpointError> {
    let checkpoint = open_checkpoint(note, origin, register)?;
    let (mut cosigned, mut forged, mut reached) = (Vec::new(), Vec::new(), None);
    if let Some(policy) = witnesses.policy() {
        let quorum = policy.count(&SignedNote::parse(note)?);
        for (place, fault) in quorum.forged {
            let name = policy.witnesses().get(place).map_or("", |it| it.name.as_str());
            forged.push(format!("in the name of the witness {name:?}: {fault}"));
        }
        cosigned = quorum.cosigned.into_iter().map(|(_, time)| time).collect();
        reached = match quorum.state {
            QuorumState::Reached(time) if forged.is_empty() => Some(time),
            _ => None,
        };
    }
    Ok(Opened { checkpoint, cosigned, forged, reached })
}

fn numbered(number: u64) -> String {
    format!("{CHECKPOINTS_FILE}, number {number}")
}
