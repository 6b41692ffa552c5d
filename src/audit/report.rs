//! What an audit found.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;

use super::rules::{SIGNATURE_RULES, WITNESS_RULES, meaning};
use super::walk::SKEW_MS;
use crate::ledger::Origin;

/// How many findings of one rule a report lists; the rest are counted.
pub const FINDINGS_PER_RULE_MAX: u64 = 20;

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// The ledger it is about, where it is about one.
    pub origin: Option<String>,
    /// The receipt it is about, where it is about one.
    pub index: Option<u64>,
    /// Which check.
    pub rule: &'static str,
    /// What is wrong, in a sentence.
    pub text: Cow<'static, str>,
    /// What that means to whoever relies on the ledger.
    pub means: &'static str,
}

/// Which of the three things that can be known of a ledger was established.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Established {
    /// Trusted keys signed every receipt, each in its range.
    pub signed: bool,
    /// The receipts are, complete and in order, what the signed checkpoints cover.
    pub logged: bool,
    /// Witnesses whom the auditor named cosigned, by a quorum, a head of each ledger; which head,
    /// [`LedgerReport::witnessed_size`] says.
    pub witnessed: bool,
}

/// Which evidence from outside the export was given.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Evidence {
    /// The root key's fingerprint.
    pub trust: Option<String>,
    /// How many receipts that others hold.
    pub held_receipts: Option<u64>,
    /// The sizes of checkpoints received earlier, in the order of their file.
    pub earlier_sizes: Option<Vec<u64>>,
    /// Whether the auditor said who the witnesses are; otherwise the export itself did, if anybody.
    pub policy: PolicySource,
    /// Whether the auditor said which authorities' time-stamps count.
    pub stamp_authorities: bool,
}

/// Who said who the witnesses are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicySource {
    /// The auditor.
    Auditor,
    /// The export: the bank may have chosen them for this export.
    Export,
    /// Nobody.
    Nobody,
}

/// What one ledger of an export is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct LedgerReport {
    /// The ledger.
    pub origin: String,
    /// How many entries the export has, erased bodies too.
    pub entries: u64,
    /// The size that the latest checkpoint covers.
    pub checkpoint_size: Option<u64>,
    /// The size that the largest checkpoint covers which a quorum of witnesses cosigned.
    pub witnessed_size: Option<u64>,
    /// The root over all entries, hexadecimal.
    pub root: String,
    /// How many entries of each kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// How many bodies were erased, with an entry that says so.
    pub erased: u64,
    /// How many kept checkpoints.
    pub checkpoints: u64,
    /// How many of them a quorum of witnesses cosigned.
    pub witnessed_checkpoints: u64,
    /// How many tiles.
    pub tiles: u64,
    /// How many time-stamps of checkpoints.
    pub stamps: u64,
    /// How many audit records.
    pub audit_records: u64,
    /// The first receipt's time.
    pub first_time: Option<String>,
    /// The last receipt's time.
    pub last_time: Option<String>,
    /// The widest interval between two witnessed heads in which an entry was made: by so much more
    /// than [`SKEW_MS`] could that entry's time have been chosen. None where nothing bounds any time.
    pub widest_interval_ms: Option<i64>,
    /// That entry.
    pub widest_interval_index: Option<u64>,
    /// The longest time that an entry, as it says, waited until somebody outside saw it, or has waited
    /// until the last entry. None where nobody outside saw anything.
    pub longest_wait_ms: Option<i64>,
    /// That entry.
    pub longest_wait_index: Option<u64>,
}

/// The report of an audit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct AuditReport {
    /// The ledgers, in the order in which they follow each other.
    pub ledgers: Vec<LedgerReport>,
    /// How many ledgers the log of logs says are closed; none without one.
    pub closed_ledgers: Option<u64>,
    /// What was established.
    pub established: Established,
    /// What was brought to it from outside.
    pub evidence: Evidence,
    /// What is wrong: at most [`FINDINGS_PER_RULE_MAX`] of each rule.
    pub findings: Vec<Finding>,
    /// How often each rule found something.
    pub counts: BTreeMap<&'static str, u64>,
    /// Receipts that name a witnessed head while nobody says who the witnesses are.
    pub unchecked_witnessed_heads: u64,
}

impl AuditReport {
    pub(super) fn new(
        ledgers: Vec<LedgerReport>,
        closed_ledgers: Option<u64>,
        evidence: Evidence,
        unchecked_witnessed_heads: u64,
        findings: Findings,
    ) -> Self {
        let found = |rules: &[&str]| rules.iter().any(|rule| findings.counts.contains_key(rule));
        let signed = !found(&SIGNATURE_RULES);
        let logged = findings.counts.keys().all(|rule| WITNESS_RULES.contains(rule));
        let by_auditor = evidence.policy == PolicySource::Auditor;
        let seen = |it: &LedgerReport| it.witnessed_size.is_some() || it.entries == 0;
        let witnessed = findings.counts.is_empty() && by_auditor && ledgers.iter().all(seen);
        Self {
            ledgers,
            closed_ledgers,
            established: Established { signed, logged, witnessed },
            evidence,
            findings: findings.list,
            counts: findings.counts,
            unchecked_witnessed_heads,
        }
    }

    /// How many entries all ledgers have.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.ledgers.iter().map(|ledger| ledger.entries).sum()
    }

    /// Whether nothing is wrong and trust came from outside.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.counts.is_empty() && self.evidence.trust.is_some()
    }

    /// By how much the time of an entry could have been chosen at most, in milliseconds: the widest
    /// interval of all ledgers and the skew on both sides. None where nothing bounds it.
    #[must_use]
    pub fn back_dating_bound_ms(&self) -> Option<i64> {
        let widest = self.ledgers.iter().filter_map(|ledger| ledger.widest_interval_ms).max()?;
        Some(widest.saturating_add(SKEW_MS))
    }

    /// What could still be wrong without this evidence seeing it, in sentences.
    #[must_use]
    pub fn unseen(&self) -> Vec<String> {
        let mut unseen = Vec::new();
        let mut say = |text: &str| unseen.push(text.to_owned());
        let evidence = &self.evidence;
        if evidence.trust.is_none() {
            say("a ledger made anew with other keys (give --trust)");
        }
        if evidence.held_receipts.is_none_or(|count| count == 0)
            && evidence.earlier_sizes.as_ref().is_none_or(Vec::is_empty)
        {
            say(
                "a cut-off end, a restored database, or a second history signed with the same keys \
                 behind the last head that witnesses cosigned (give --earlier, from a witness or from \
                 an earlier audit, or --held)",
            );
        }
        match evidence.policy {
            PolicySource::Auditor => {}
            PolicySource::Export => say(
                "witnesses invented for this export (give --policy: the one in the export is the \
                 bank's own word)",
            ),
            PolicySource::Nobody => say(
                "back-dating, and another history shown to others (give --policy, if there are \
                 witnesses)",
            ),
        }
        for ledger in self.ledgers.iter().filter(|_| evidence.policy != PolicySource::Nobody) {
            let after = ledger.entries.saturating_sub(ledger.witnessed_size.unwrap_or_default());
            if after > 0 {
                unseen.push(format!(
                    "the last {after} entries of {}, which no witnessed head covers yet",
                    ledger.origin
                ));
            }
        }
        if self.unchecked_witnessed_heads > 0 {
            unseen.push(format!(
                "whether the witnessed heads that {} receipts name are real (give --policy)",
                self.unchecked_witnessed_heads
            ));
        }
        unseen
    }
}

/// Findings as they come, each rule up to its bound.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
    counts: BTreeMap<&'static str, u64>,
    about: Option<String>,
}

impl Findings {
    /// What is added from now on is about this ledger, or about none.
    pub(super) fn about(&mut self, origin: Option<&Origin>) {
        self.about = origin.map(ToString::to_string);
    }

    pub(super) fn add(
        &mut self,
        rule: &'static str,
        index: Option<u64>,
        text: impl Into<Cow<'static, str>>,
    ) {
        let count = self.counts.entry(rule).or_default();
        *count += 1;
        if *count <= FINDINGS_PER_RULE_MAX {
            let (origin, means) = (self.about.clone(), meaning(rule));
            self.list.push(Finding { origin, index, rule, text: text.into(), means });
        }
    }
}
