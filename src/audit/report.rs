//! What an audit found.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;

use super::walk::Walked;
use crate::ledger::Origin;

/// How many findings of one rule a report lists; the rest are counted.
pub const FINDINGS_PER_RULE_MAX: u64 = 20;

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// The receipt it is about, where it is about one.
    pub index: Option<u64>,
    /// Which check.
    pub rule: &'static str,
    /// What is wrong, in a sentence.
    pub text: Cow<'static, str>,
}

/// Which of the three things that can be known of a ledger was established.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Established {
    /// Trusted keys signed every receipt, each in its range.
    pub signed: bool,
    /// The receipts are, complete and in order, what the signed checkpoints cover.
    pub logged: bool,
    /// Independent witnesses cosigned. This version checks no cosignatures, so never.
    pub witnessed: bool,
}

/// Which evidence from outside the export was given.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Evidence {
    /// The root key's fingerprint.
    pub trust: Option<String>,
    /// How many receipts that others hold.
    pub held_receipts: Option<u64>,
    /// The size of a checkpoint received earlier.
    pub earlier_size: Option<u64>,
}

/// The report of an audit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct AuditReport {
    /// The ledger.
    pub origin: String,
    /// How many entries the export has, erased bodies too.
    pub entries: u64,
    /// The size that the latest checkpoint covers.
    pub checkpoint_size: Option<u64>,
    /// The root over all entries, hexadecimal.
    pub root: String,
    /// How many entries of each kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// How many bodies were erased, with an entry that says so.
    pub erased: u64,
    /// How many kept checkpoints.
    pub checkpoints: u64,
    /// The first receipt's time.
    pub first_time: Option<String>,
    /// The last receipt's time.
    pub last_time: Option<String>,
    /// What was established.
    pub established: Established,
    /// What was brought to it from outside.
    pub evidence: Evidence,
    /// What is wrong: at most [`FINDINGS_PER_RULE_MAX`] of each rule.
    pub findings: Vec<Finding>,
    /// How often each rule found something.
    pub counts: BTreeMap<&'static str, u64>,
}

impl AuditReport {
    pub(super) fn new(
        origin: &Origin,
        walked: Walked,
        checkpoints: u64,
        checkpoint_size: Option<u64>,
        evidence: Evidence,
        findings: Findings,
    ) -> Self {
        let signed = !SIGNATURE_RULES.iter().any(|rule| findings.counts.contains_key(rule));
        let established =
            Established { signed, logged: findings.counts.is_empty(), witnessed: false };
        Self {
            origin: origin.to_string(),
            entries: walked.tree.size(),
            checkpoint_size,
            root: walked.tree.root().hex(),
            kinds: walked.kinds,
            erased: walked.erased,
            checkpoints,
            first_time: walked.first_time.map(crate::domain::time::UnixMillis::rfc3339),
            last_time: walked.last_time.map(crate::domain::time::UnixMillis::rfc3339),
            established,
            evidence,
            findings: findings.list,
            counts: findings.counts,
        }
    }

    /// Whether nothing is wrong and trust came from outside.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.counts.is_empty() && self.evidence.trust.is_some()
    }

    /// What could still be wrong without this evidence seeing it, in sentences.
    #[must_use]
    pub fn unseen(&self) -> Vec<&'static str> {
        let mut unseen = Vec::new();
        if self.evidence.trust.is_none() {
            unseen.push("a ledger made anew with other keys (give --trust)");
        }
        if self.evidence.held_receipts.is_none_or(|count| count == 0)
            && self.evidence.earlier_size.is_none()
        {
            unseen.push(
                "a cut-off end, a restored database, or a second history signed with the same key \
                 (give --earlier or --held)",
            );
        }
        unseen.push("back-dating and a split view (needs witnesses, which are not checked yet)");
        unseen
    }
}

/// Findings as they come, each rule up to its bound.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
    counts: BTreeMap<&'static str, u64>,
}

impl Findings {
    pub(super) fn add(
        &mut self,
        rule: &'static str,
        index: Option<u64>,
        text: impl Into<Cow<'static, str>>,
    ) {
        let count = self.counts.entry(rule).or_default();
        *count += 1;
        if *count <= FINDINGS_PER_RULE_MAX {
            self.list.push(Finding { index, rule, text: text.into() });
        }
    }
}

/// Rules after which receipts cannot be called signed.
const SIGNATURE_RULES: [&str; 7] =
    ["trust-missing", "keys", "receipt", "key", "signature", "key-range", "key-time"];
