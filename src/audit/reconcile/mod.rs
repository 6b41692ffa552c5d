//! A journal of cash against the ledger: cash without a receipt, receipts without cash, amounts that
//! differ.
//!
//! A receipt names its transaction only in a salted commitment. Who redeemed it at the host had the
//! receipt, the salt, and every field of the commitment: so the host's own record of redemptions opens
//! it ([`Links::openings`]) and ties a host transaction id to one receipt, provably. Where only a
//! terminal's journal is there, a receipt's number in it does the same by the journal's word, and without
//! one cash and receipts are paired by machine, amount and time: good for finding what is missing, no
//! proof of which belongs to which.

mod compare;
mod decisions;
mod journal;
mod openings;
mod table;

use std::path::Path;

use serde::Serialize;

use self::decisions::Decisions;
use self::journal::Journal;
use self::openings::Openings;

pub use self::journal::JournalFormat;
pub use self::table::{ReconcileError, RefusedLine};

/// What is compared with a ledger, and how.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The journal, CSV.
    pub journal: &'a Path,
    /// How it is written.
    pub format: &'a JournalFormat,
    /// The host's record of redemptions, CSV: what opens receipts' commitments.
    pub openings: Option<&'a Path>,
    /// The machine whose journal it is, where the journal does not say.
    pub terminal: Option<&'a str>,
    /// How far the journal's clock and the ledger's may lie apart, in milliseconds.
    pub window_ms: i64,
}

/// How lines of the journal were tied to receipts.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Links {
    /// By a commitment that opens: proved.
    pub openings: u64,
    /// By the receipt's number in the journal.
    pub named: u64,
    /// By machine, amount and time: a likely pair.
    pub by_time: u64,
}

/// Something that journal and ledger do not say alike.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Difference {
    /// Which kind.
    pub rule: &'static str,
    /// The line of the journal, where it is about one.
    pub line: Option<u64>,
    /// The receipt's ledger, where it is about one.
    pub origin: Option<String>,
    /// The receipt's index, where it is about one.
    pub index: Option<u64>,
    /// What differs, in a sentence.
    pub text: String,
}

/// What a comparison found.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Reconciliation {
    /// Lines of the journal that were compared.
    pub lines: u64,
    /// Lines of the journal that were left out.
    pub refused: Vec<RefusedLine>,
    /// Lines of the record of redemptions that were left out.
    pub refused_openings: Vec<RefusedLine>,
    /// Decisions about withdrawals in the ledger.
    pub decisions: u64,
    /// Those of them that lie in the time and at the machines of the journal.
    pub covered: u64,
    /// Decisions about other operations, which give no cash.
    pub other_operations: u64,
    /// How lines were tied to receipts.
    pub links: Links,
    /// Cash that left machines, by the journal, in minor units.
    pub journal_minor: i64,
    /// Cash that left machines, by the covered part of the ledger, in minor units.
    pub ledger_minor: i64,
    /// From the journal's first line to its last.
    pub from: Option<String>,
    /// To.
    pub until: Option<String>,
    /// What differs.
    pub differences: Vec<Difference>,
}

impl Reconciliation {
    /// Whether every line was compared and nothing differs.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.differences.is_empty() && self.refused.is_empty() && self.refused_openings.is_empty()
    }
}

/// Compares a journal with the ledgers exported to `dir`. Every receipt's signature is checked by the
/// export's own register; whether the ledgers are whole and the register the bank's,
/// [`super::verify_export`] says.
///
/// # Errors
///
/// [`ReconcileError`] when there is nothing that could be compared.
pub fn reconcile(dir: &Path, sources: &Sources<'_>) -> Result<Reconciliation, ReconcileError> {
    let journal = Journal::read(sources.journal, sources.format)?;
    let decisions = Decisions::read(dir)?;
    let openings = sources.openings.map(|file| Openings::read(file, &decisions)).transpose()?;
    Ok(compare::compare(&journal, &decisions, openings, sources))
}
