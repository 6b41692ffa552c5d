//! The walk over the receipts: each is examined alone, in parallel, then put in its place.

use std::collections::{BTreeMap, HashMap, HashSet};

use rayon::prelude::*;

use super::report::Findings;
use crate::crypto::Digest;
use crate::domain::id::ReceiptId;
use crate::domain::time::UnixMillis;
use crate::ledger::{LeafHash, Origin, Tree, leaf_hash};
use crate::receipt::{
    Content, ErasedBody, IndexRange, KeyRegister, ReceiptError, Refers, UnverifiedReceipt, parse,
};

/// How far a receipt's time may lie before an earlier one's, in milliseconds.
pub const SKEW_MS: i64 = 5_000;

/// What a walk ends with.
pub(super) struct Walked {
    pub tree: Tree,
    pub kinds: BTreeMap<&'static str, u64>,
    pub erased: u64,
    pub first_time: Option<UnixMillis>,
    pub last_time: Option<UnixMillis>,
}

/// A walk under way.
pub(super) struct Walk<'a> {
    register: &'a KeyRegister,
    origin: &'a Origin,
    /// Erased bodies still ahead, by rising index.
    erased: &'a [ErasedBody],
    all_erased: &'a [ErasedBody],
    findings: &'a mut Findings,
    /// The index that the next line should have.
    expected: u64,
    /// Whether indices had no gap so far, so that entry `i` of the tree is receipt `i`.
    intact: bool,
    tree: Tree,
    ids: Vec<Option<ReceiptId>>,
    seen: HashSet<ReceiptId>,
    /// Which bodies each `erasure` entry lists.
    listed: HashMap<u64, Vec<IndexRange>>,
    prior: Option<(u64, Digest)>,
    kinds: BTreeMap<&'static str, u64>,
    first_time: Option<UnixMillis>,
    last_time: Option<UnixMillis>,
    highest_time: Option<UnixMillis>,
}

/// What one line is, seen alone.
struct Examined {
    leaf: LeafHash,
    claim: Option<Claim>,
    fault: Option<(&'static str, String)>,
}

/// What a well-formed receipt claims.
struct Claim {
    index: u64,
    origin: String,
    id: ReceiptId,
    time: UnixMillis,
    kind: &'static str,
    prior_size: u64,
    prior_root: Digest,
    refers: Option<Refers>,
    bodies: Vec<IndexRange>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        register: &'a KeyRegister,
        origin: &'a Origin,
        erased: &'a [ErasedBody],
        findings: &'a mut Findings,
    ) -> Self {
        Self {
            register,
            origin,
            erased,
            all_erased: erased,
            findings,
            expected: 0,
            intact: true,
            tree: Tree::new(),
            ids: Vec::new(),
            seen: HashSet::new(),
            listed: HashMap::new(),
            prior: None,
            kinds: BTreeMap::new(),
            first_time: None,
            last_time: None,
            highest_time: None,
        }
    }

    /// Takes the next lines.
    pub(super) fn take(&mut self, lines: &[String]) {
        let register = self.register;
        let examined: Vec<Examined> =
            lines.par_iter().map(|line| examine(line, register)).collect();
        for line in examined {
            self.place(line);
        }
    }

    /// Ends the walk: what is erased behind the last line, and who says it might be.
    pub(super) fn finish(mut self) -> Walked {
        self.skip_erased();
        for body in self.all_erased {
            let listed = self.listed.get(&body.erasure).is_some_and(|ranges| {
                ranges.iter().any(|range| (range.first..=range.last).contains(&body.index))
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
        Walked {
            tree: self.tree,
            kinds: self.kinds,
            erased: u64::try_from(self.all_erased.len()).unwrap_or(u64::MAX),
            first_time: self.first_time,
            last_time: self.last_time,
        }
    }

    fn place(&mut self, line: Examined) {
        self.skip_erased();
        let Examined { leaf, claim, fault } = line;
        let index = claim.as_ref().map_or(self.expected, |claim| claim.index);
        if let Some((rule, text)) = fault {
            self.findings.add(rule, Some(index), text);
        }
        self.check_index(index);
        if let Some(claim) = &claim {
            self.check_claim(claim);
        }
        self.tree.push(leaf);
        self.ids.push(claim.as_ref().map(|claim| claim.id));
    }

    fn skip_erased(&mut self) {
        while let Some((body, rest)) = self.erased.split_first() {
            if body.index != self.expected {
                return;
            }
            self.tree.push(body.leaf);
            self.ids.push(None);
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
        let index = Some(claim.index);
        *self.kinds.entry(claim.kind).or_default() += 1;
        if claim.origin != self.origin.as_str() {
            let text = format!("the receipt is of another ledger: {:?}", claim.origin);
            self.findings.add("origin", index, text);
        }
        if !self.seen.insert(claim.id) {
            self.findings.add("rid", index, "an earlier receipt has the same id");
        }
        self.check_time(claim);
        self.check_prior(claim);
        if let Some(refers) = &claim.refers {
            self.check_refers(claim.index, refers);
        }
        if !claim.bodies.is_empty() {
            self.listed.insert(claim.index, claim.bodies.clone());
        }
    }

    fn check_time(&mut self, claim: &Claim) {
        if self.highest_time.is_some_and(|high| claim.time < high.plus_millis(-SKEW_MS)) {
            let text = format!("its time {:?} lies before an earlier receipt's", claim.time);
            self.findings.add("time", Some(claim.index), text);
        }
        self.highest_time = self.highest_time.max(Some(claim.time));
        self.first_time = self.first_time.or(Some(claim.time));
        self.last_time = Some(claim.time);
    }

    fn check_prior(&mut self, claim: &Claim) {
        // Behind a gap no root can be right; the gap itself is the finding.
        if !self.intact {
            return;
        }
        let root = match self.prior {
            Some((size, root)) if size == claim.prior_size => Ok(root),
            _ => self.tree.root_at(claim.prior_size),
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

    fn check_refers(&mut self, index: u64, refers: &Refers) {
        if !self.intact {
            return;
        }
        let place = usize::try_from(refers.index).ok();
        let right = match place.and_then(|place| self.ids.get(place)) {
            None => false,
            // The body is erased or unreadable: the id cannot be compared.
            Some(None) => true,
            Some(Some(id)) => crate::receipt::rid_text(id) == refers.rid,
        };
        if !right {
            let text = format!("it refers to entry {}, which is not what it names", refers.index);
            self.findings.add("refers", Some(index), text);
        }
    }
}

fn examine(line: &str, register: &KeyRegister) -> Examined {
    let leaf = leaf_hash(line);
    match parse(line) {
        Err(fault) => Examined { leaf, claim: None, fault: Some(told(&fault)) },
        Ok(receipt) => {
            let claim = Some(Claim::of(&receipt));
            let fault = receipt.verify(register).err().map(|fault| told(&fault));
            Examined { leaf, claim, fault }
        }
    }
}

impl Claim {
    fn of(receipt: &UnverifiedReceipt<'_>) -> Self {
        let body = receipt.unverified_body();
        let (refers, bodies) = match &body.content {
            Content::Outcome(outcome) => (Some(outcome.refers.clone()), Vec::new()),
            Content::Redemption(redemption) => (Some(redemption.refers.clone()), Vec::new()),
            Content::Reversal(reversal) => (Some(reversal.refers.clone()), Vec::new()),
            Content::Erasure(erasure) => (None, erasure.bodies.clone()),
            Content::Verification(decision) => (decision.refers.clone(), Vec::new()),
            Content::Exception(decision) => (decision.refers.clone(), Vec::new()),
            Content::Administration(_) => (None, Vec::new()),
        };
        Self {
            index: body.log.index,
            origin: body.log.origin.clone(),
            id: receipt.unverified_id(),
            time: receipt.unverified_time(),
            kind: body.content.kind(),
            prior_size: body.log.prior_size,
            prior_root: receipt.unverified_prior_root(),
            refers,
            bodies,
        }
    }
}

fn told(fault: &ReceiptError) -> (&'static str, String) {
    let rule = match fault {
        ReceiptError::UnknownKey | ReceiptError::KeyUse => "key",
        ReceiptError::Signature => "signature",
        ReceiptError::OutsideKeyRange => "key-range",
        ReceiptError::OutsideKeyTime => "key-time",
        _ => "receipt",
    };
    (rule, fault.to_string())
}
