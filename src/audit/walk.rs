//! The walk over a ledger's receipts: each is examined alone, in parallel, then put in its place.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use rayon::prelude::*;

use super::AuditError;
use super::claim::{Claim, Examined, Lens, Opened, WitnessedHead};
use super::lines::{Batch, Lines};
use super::past::Past;
use super::report::Findings;
use super::timeline::Timeline;
use crate::crypto::Digest;
use crate::domain::id::ReceiptId;
use crate::domain::time::UnixMillis;
use crate::ledger::Tree;
use crate::receipt::{ErasedBody, IndexRange, Refers};

/// How far a receipt's time may lie before an earlier one's or from what witnesses say, in
/// milliseconds.
pub const SKEW_MS: i64 = 5_000;

/// What a walk ends with.
#[derive(Default)]
pub(super) struct Walked {
    pub tree: Tree,
    pub ids: Ids,
    pub kinds: BTreeMap<&'static str, u64>,
    pub erased: u64,
    pub first_time: Option<UnixMillis>,
    pub last_time: Option<UnixMillis>,
    /// What the first entry says of the ledger before, if it is one that opens a ledger.
    pub opened: Option<Opened>,
    /// The widest interval in which a receipt's time could have been another, in milliseconds, and
    /// that receipt.
    pub widest: Option<(i64, u64)>,
    /// The longest that an entry, by its own time, waited until somebody outside saw it, in
    /// milliseconds, and that entry.
    longest_wait: Option<(i64, u64)>,
    /// The first entry behind the last head that somebody outside saw, and its time.
    unseen: Option<(UnixMillis, u64)>,
    /// Receipts that name a witnessed head.
    pub naming_witnesses: u64,
}

/// The ids of a ledger's entries, in order. 16 bytes an entry.
#[derive(Default)]
pub(super) struct Ids {
    ids: Vec<ReceiptId>,
    /// The places of those that cannot be read, rising.
    unreadable: Vec<usize>,
}

/// A walk under way.
pub(super) struct Walk<'a> {
    lens: &'a Lens<'a>,
    timeline: &'a Timeline,
    past: &'a Past,
    /// Erased bodies still ahead, by rising index.
    erased: &'a [ErasedBody],
    all_erased: &'a [ErasedBody],
    findings: &'a mut Findings,
    /// The index that the next line should have.
    expected: u64,
    /// Whether indices had no gap so far, so that entry `i` of the tree is receipt `i`.
    intact: bool,
    /// Which bodies each `erasure` entry lists.
    listed: HashMap<u64, Vec<IndexRange>>,
    prior: Option<(u64, Digest)>,
    /// The witnessed head that was last found to be one.
    witnessed: Option<WitnessedHead>,
    highest_time: Option<UnixMillis>,
    walked: Walked,
}

/// Walks over a file of receipts. While one batch is examined the one before is put in its place.
pub(super) fn walk(
    file: &Path,
    mut walk: Walk<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<Walked, AuditError> {
    let lens = walk.lens;
    let mut lines = Lines::open(file)?;
    let mut examined = Vec::new();
    let mut batch = lines.batch()?;
    while !batch.is_empty() {
        let (next, done) = rayon::join(
            || examine(lens, &batch),
            || {
                walk.place_all(std::mem::take(&mut examined));
                lines.batch().map(|following| (following, lines.done_bytes()))
            },
        );
        examined = next;
        let (following, done_bytes) = done?;
        batch = following;
        progress(done_bytes);
    }
    walk.place_all(examined);
    Ok(walk.finish())
}

fn examine(lens: &Lens<'_>, batch: &Batch) -> Vec<Examined> {
    (0..batch.len()).into_par_iter().map(|place| lens.examine(batch.line(place))).collect()
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        lens: &'a Lens<'a>,
        timeline: &'a Timeline,
        past: &'a Past,
        erased: &'a [ErasedBody],
        findings: &'a mut Findings,
    ) -> Self {
        Self {
            lens,
            timeline,
            past,
            erased,
            all_erased: erased,
            findings,
            expected: 0,
            intact: true,
            listed: HashMap::new(),
            prior: None,
            witnessed: None,
            highest_time: None,
            walked: Walked::default(),
        }
    }

    fn place_all(&mut self, examined: Vec<Examined>) {
        for line in examined {
            self.place(line);
        }
    }

    /// Ends the walk: what is erased behind the last line, and who says it might be.
    fn finish(mut self) -> Walked {
        self.skip_erased();
        for body in self.all_erased {
            let listed = self.listed.get(&body.erasure).is_some_and(|ranges| {
                // What was not there yet could not be erased.
                let range = ranges.iter().find(|it| (it.first..=it.last).contains(&body.index));
                range.is_some_and(|range| range.last < body.erasure)
            });
            if !listed {
                let text =
                    format!("the body is missing and entry {} does not say so", body.erasure);
                self.findings.add("erasure", Some(body.index), text);
            }
        }
        if let Some(body) = self.erased.first() {
            let text = "erasures.json names an entry that the ledger does not reach";
            self.findings.add("erasure", Some(body.index), text);
        }
        for place in self.walked.ids.repeated() {
            self.findings.add("rid", Some(place), "an earlier receipt has the same id");
        }
        let has_body = |index| self.walked.ids.has(index);
        self.lens.records.check_rest(has_body, self.findings);
        self.walked.erased = u64::try_from(self.all_erased.len()).unwrap_or(u64::MAX);
        self.walked
    }

    fn place(&mut self, line: Examined) {
        self.skip_erased();
        let Examined { leaf, claim, faults } = line;
        let index = claim.as_ref().map_or(self.expected, |claim| claim.index);
        for (rule, text) in faults {
            self.findings.add(rule, Some(index), text);
        }
        self.check_index(index);
        if let Some(claim) = &claim {
            self.check_claim(claim);
        }
        self.walked.tree.push(leaf);
        self.walked.ids.push(claim.map(|claim| claim.id));
    }

    fn skip_erased(&mut self) {
        while let Some((body, rest)) = self.erased.split_first() {
            if body.index != self.expected {
                return;
            }
            self.walked.tree.push(body.leaf);
            self.walked.ids.push(None);
            self.expected += 1;
            self.erased = rest;
        }
    }

    fn check_index(&mut self, index: u64) {
        if index > self.expected {
            let text = format!(
                "the entries from {} to {} are missing and no erasure says so",
                self.expected,
                index - 1
            );
            self.findings.add("gap", Some(self.expected), text);
            self.intact = false;
        } else if index < self.expected {
            let text = "the entry stands behind one of the same or a higher index";
            self.findings.add("order", Some(index), text);
            self.intact = false;
        }
        self.expected = self.expected.max(index.saturating_add(1));
    }

    fn check_claim(&mut self, claim: &Claim) {
        *self.walked.kinds.entry(claim.kind).or_default() += 1;
        self.check_time(claim);
        self.check_window(claim);
        self.check_prior(claim);
        self.check_witnessed(claim);
        if let Some(refers) = &claim.refers {
            self.check_refers(claim.index, refers);
        }
        if !claim.bodies.is_empty() {
            self.listed.insert(claim.index, claim.bodies.clone());
        }
        match &claim.opened {
            Some(opened) if self.walked.tree.size() == 0 && claim.index == 0 => {
                self.walked.opened = Some(opened.clone());
            }
            Some(_) => {
                let text = "it says that a ledger begins here, in the midst of one";
                self.findings.add("shard", Some(claim.index), text);
            }
            None => {}
        }
    }

    fn check_time(&mut self, claim: &Claim) {
        if self.highest_time.is_some_and(|high| claim.time < high.plus_millis(-SKEW_MS)) {
            let text = format!("its time {:?} lies before an earlier receipt's", claim.time);
            self.findings.add("time", Some(claim.index), text);
        }
        self.highest_time = self.highest_time.max(Some(claim.time));
        self.walked.first_time = self.walked.first_time.or(Some(claim.time));
        self.walked.last_time = Some(claim.time);
    }

    /// The back-dating rule: not before the witnesses saw the ledger without it, and not after they
    /// saw it.
    fn check_window(&mut self, claim: &Claim) {
        let (from, until) = self.timeline.window(claim.index);
        if let Some(from) = from.filter(|from| claim.time < from.plus_millis(-SKEW_MS)) {
            let text = format!(
                "its time is {:?}, but at {from:?} witnesses saw the ledger without it",
                claim.time
            );
            self.findings.add("back-dated", Some(claim.index), text);
        }
        if let Some(until) = until.filter(|until| claim.time > until.plus_millis(SKEW_MS)) {
            let text = format!(
                "its time is {:?}, but it was in the ledger by {until:?}, as a clock outside says",
                claim.time
            );
            self.findings.add("post-dated", Some(claim.index), text);
        }
        match until {
            Some(until) => {
                let wait = until.get().saturating_sub(claim.time.get());
                let longest = &mut self.walked.longest_wait;
                if longest.is_none_or(|(longest, _)| wait > longest) {
                    *longest = Some((wait, claim.index));
                }
            }
            None if self.timeline.has_witnesses() => {
                let unseen = &mut self.walked.unseen;
                *unseen = unseen.or(Some((claim.time, claim.index)));
            }
            None => {}
        }
        if let (Some(from), Some(until)) = (from, until) {
            let width = until.get().saturating_sub(from.get());
            if self.walked.widest.is_none_or(|(widest, _)| width > widest) {
                self.walked.widest = Some((width, claim.index));
            }
        }
    }

    fn check_prior(&mut self, claim: &Claim) {
        // Behind a gap no root can be right; the gap itself is the finding.
        if !self.intact {
            return;
        }
        let root = match self.prior {
            Some((size, root)) if size == claim.prior_size => Ok(root),
            _ => self.walked.tree.root_at(claim.prior_size),
        };
        self.prior = root.ok().map(|root| (claim.prior_size, root));
        if root != Ok(claim.prior_root) {
            let text = format!(
                "the head of {} entries that it names is not this ledger's",
                claim.prior_size
            );
            self.findings.add("prior-head", Some(claim.index), text);
        }
    }

    fn check_witnessed(&mut self, claim: &Claim) {
        let Some(head) = claim.witnessed else { return };
        self.walked.naming_witnesses += 1;
        if !self.timeline.has_witnesses() || self.witnessed == Some(head) {
            return;
        }
        let cosigned = head.time.is_some_and(|time| self.timeline.has_seen(head.size, time));
        if cosigned && head.size <= claim.index {
            self.witnessed = Some(head);
        } else {
            let text = format!(
                "no kept checkpoint of {} entries was cosigned when it says that one was",
                head.size
            );
            self.findings.add("witnessed-head", Some(claim.index), text);
        }
    }

    fn check_refers(&mut self, index: u64, refers: &Refers) {
        let right = match refers.origin.as_deref() {
            Some(origin) if origin != self.lens.origin.as_str() => {
                self.past.is_there(origin, refers.index, &refers.rid)
            }
            _ if !self.intact => return,
            _ => self.walked.ids.is_there(refers.index, &refers.rid),
        };
        if !right {
            let text = format!("it refers to entry {}, which is not what it names", refers.index);
            self.findings.add("refers", Some(index), text);
        }
    }
}

impl Walked {
    /// The longest that an entry waited until somebody outside saw it, or has waited until the last
    /// entry, and that entry.
    pub(super) fn waited(&self) -> Option<(i64, u64)> {
        let unseen = self
            .unseen
            .zip(self.last_time)
            .map(|((since, index), last)| (last.get().saturating_sub(since.get()), index));
        self.longest_wait.into_iter().chain(unseen).max_by_key(|(waited, _)| *waited)
    }
}

impl Ids {
    fn push(&mut self, id: Option<ReceiptId>) {
        if id.is_none() {
            self.unreadable.push(self.ids.len());
        }
        self.ids.push(id.unwrap_or(ReceiptId::new([0; 16])));
    }

    /// Whether there is an id at an index that can be read.
    fn has(&self, index: u64) -> bool {
        usize::try_from(index).is_ok_and(|place| place < self.ids.len() && self.is_readable(place))
    }

    fn is_readable(&self, place: usize) -> bool {
        self.unreadable.binary_search(&place).is_err()
    }

    /// Whether the entry may be the receipt `rid`: one that cannot be read may be any.
    pub(super) fn is_there(&self, index: u64, rid: &str) -> bool {
        let id = usize::try_from(index).ok().and_then(|place| self.ids.get(place));
        id.is_some_and(|id| !self.has(index) || crate::receipt::rid_text(id) == rid)
    }

    /// The places of ids that stand at an earlier place, too.
    fn repeated(&self) -> Vec<u64> {
        let mut order: Vec<usize> = (0..self.ids.len()).collect();
        order.retain(|place| self.unreadable.is_empty() || self.is_readable(*place));
        order.par_sort_unstable_by_key(|place| (self.ids.get(*place), *place));
        let pairs = order.iter().zip(order.iter().skip(1));
        let again = pairs.filter(|(first, second)| self.ids.get(**first) == self.ids.get(**second));
        let mut places: Vec<u64> =
            again.filter_map(|(_, second)| u64::try_from(*second).ok()).collect();
        places.sort_unstable();
        places
    }
}
