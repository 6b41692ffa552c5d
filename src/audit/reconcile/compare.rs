//! The comparison itself, once journal and ledger are read.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::decisions::{Decision, Decisions};
use super::journal::{Journal, JournalEntry};
use super::openings::Openings;
use super::{Difference, Links, Reconciliation, Sources};
use crate::domain::time::UnixMillis;

pub(super) fn compare(
    journal: &Journal,
    decisions: &Decisions,
    openings: Option<Openings>,
    sources: &Sources<'_>,
) -> Reconciliation {
    let mut comparison = Comparison {
        journal,
        decisions,
        sources,
        tied: HashMap::new(),
        lines: vec![None; journal.entries.len()],
        found: Reconciliation::default(),
    };
    comparison.tie(openings.as_ref());
    comparison.check_lines();
    comparison.check_decisions();
    let mut found = comparison.found;
    found.refused.clone_from(&journal.refused);
    found.refused_openings = openings.map(|openings| openings.refused).unwrap_or_default();
    found.lines = count(journal.entries.len());
    found.decisions = count(decisions.all.len());
    found.other_operations = decisions.other_operations;
    found.from = journal.entries.first().map(|entry| entry.time.rfc3339());
    found.until = journal.entries.last().map(|entry| entry.time.rfc3339());
    let unverified = decisions.unverified.iter().map(|text| Difference {
        rule: "unverified",
        line: None,
        origin: None,
        index: None,
        text: text.clone(),
    });
    found.differences.extend(unverified);
    found
}

struct Comparison<'a> {
    journal: &'a Journal,
    decisions: &'a Decisions,
    sources: &'a Sources<'a>,
    /// The line that each decision is tied to.
    tied: HashMap<usize, usize>,
    /// The decision that each line is tied to.
    lines: Vec<Option<usize>>,
    found: Reconciliation,
}

impl Comparison<'_> {
    /// Ties lines to decisions by the strongest evidence that there is.
    fn tie(&mut self, openings: Option<&Openings>) {
        let mut links = Links::default();
        self.check_repeated_transactions();
        for (line, entry) in self.journal.entries.iter().enumerate() {
            let opened = openings.map(|openings| openings.of(entry)).unwrap_or_default();
            let named = entry.rid.as_deref().and_then(|rid| self.decisions.of_rid(rid));
            let found = match self.paid(&opened) {
                Some(place) => Some((place, &mut links.openings)),
                None => named.map(|place| (place, &mut links.named)),
            };
            if let Some((place, count)) = found {
                *count += 1;
                self.tie_one(line, place);
            }
        }
        if openings.is_none() && !self.journal.names_receipts {
            links.by_time = self.tie_by_time(true) + self.tie_by_time(false);
        }
        self.found.links = links;
    }

    /// Of several attempts of one transaction the one that was approved.
    fn paid(&self, places: &[usize]) -> Option<usize> {
        let approved = |place: &&usize| {
            self.decisions.all.get(**place).is_some_and(|it| it.approved_minor.is_some())
        };
        places.iter().find(approved).or(places.first()).copied()
    }

    fn tie_one(&mut self, line: usize, place: usize) {
        if let (Some(before), Some(entry)) = (self.tied.get(&place), self.journal.entries.get(line))
        {
            let before = self.journal.entries.get(*before).map_or(0, |entry| entry.line);
            let text = format!("lines {before} and {} are of one receipt", entry.line);
            self.differ("receipt-twice", Some(entry.line), self.decisions.all.get(place), text);
        }
        self.tied.entry(place).or_insert(line);
        if let Some(slot) = self.lines.get_mut(line) {
            *slot = Some(place);
        }
    }

    /// Pairs what is left by machine, currency and time; with the same amount, or with any. How many.
    fn tie_by_time(&mut self, same_amount: bool) -> u64 {
        let mut by_time: BTreeMap<(UnixMillis, usize), &Decision> = BTreeMap::new();
        for (place, decision) in self.decisions.all.iter().enumerate() {
            if !self.tied.contains_key(&place) && decision.approved_minor.is_some() {
                by_time.insert((decision.moved_at(), place), decision);
            }
        }
        let mut pairs = Vec::new();
        for (line, entry) in self.journal.entries.iter().enumerate() {
            if entry.dispensed_minor == 0 || self.lines.get(line).copied().flatten().is_some() {
                continue;
            }
            let window = self.sources.window_ms;
            let range =
                (entry.time.plus_millis(-window), 0)..=(entry.time.plus_millis(window), usize::MAX);
            let fits = |decision: &Decision| {
                self.is_machine(entry, decision)
                    && entry.currency.as_ref().is_none_or(|it| *it == decision.currency)
                    && (!same_amount || decision.moved_minor() == Some(entry.dispensed_minor))
            };
            let nearest = by_time
                .range(range)
                .filter(|(_, decision)| fits(decision))
                .min_by_key(|((time, _), _)| time.get().abs_diff(entry.time.get()))
                .map(|(key, _)| *key);
            if let Some(key) = nearest {
                by_time.remove(&key);
                pairs.push((line, key.1));
            }
        }
        for (line, place) in &pairs {
            self.tie_one(*line, *place);
        }
        count(pairs.len())
    }

    /// The machine of a line, as far as anybody says: the line, or whoever gave the journal.
    fn is_machine(&self, entry: &JournalEntry, decision: &Decision) -> bool {
        let machine = entry.terminal.as_deref().or(self.sources.terminal);
        machine.is_none_or(|machine| machine == decision.terminal)
    }

    fn check_repeated_transactions(&mut self) {
        let mut seen: HashMap<(&str, Option<&str>), u64> = HashMap::new();
        for entry in self.journal.entries.iter().filter(|entry| entry.dispensed_minor > 0) {
            let key = (entry.transaction.as_str(), entry.business_date.as_deref());
            if let Some(before) = seen.insert(key, entry.line) {
                let text =
                    format!("transaction {:?} gave cash on line {before}, too", entry.transaction);
                self.differ("transaction-twice", Some(entry.line), None, text);
            }
        }
    }

    /// What the journal says and the ledger does not, or otherwise.
    fn check_lines(&mut self) {
        for (line, entry) in self.journal.entries.iter().enumerate() {
            self.found.journal_minor =
                self.found.journal_minor.saturating_add(entry.dispensed_minor);
            let place = self.lines.get(line).copied().flatten();
            match place.and_then(|place| self.decisions.all.get(place)) {
                Some(decision) => self.check_pair(entry, decision),
                None if entry.dispensed_minor > 0 => {
                    let text = format!(
                        "transaction {:?} gave {} at {:?}, and no receipt of it is found",
                        entry.transaction, entry.dispensed_minor, entry.time
                    );
                    self.differ("cash-without-receipt", Some(entry.line), None, text);
                }
                None => {}
            }
        }
    }

    fn check_pair(&mut self, entry: &JournalEntry, decision: &Decision) {
        let given = entry.dispensed_minor;
        let is_machine = self.is_machine(entry, decision);
        let window = self.sources.window_ms;
        let mut say = |rule, text| self.differ(rule, Some(entry.line), Some(decision), text);
        if let Some(currency) = entry.currency.as_ref().filter(|it| **it != decision.currency) {
            let text = format!("{currency} by the journal, {} by the receipt", decision.currency);
            say("currency-differs", text);
        }
        if !is_machine {
            say("machine-differs", format!("the receipt is of {:?}", decision.terminal));
        }
        let until = decision.moved_at().plus_millis(window);
        if given > 0 && !(decision.time.plus_millis(-window)..=until).contains(&entry.time) {
            let text =
                format!("cash at {:?} by the journal, decided at {:?}", entry.time, decision.time);
            say("time-differs", text);
        }
        if entry.amount_minor != decision.asked_minor {
            let text = format!(
                "{} was asked for by the journal, {} by the receipt",
                entry.amount_minor, decision.asked_minor
            );
            say("asked-differs", text);
        }
        match decision.approved_minor {
            None if given > 0 => {
                say(
                    "not-approved",
                    format!("{given} was given on a decision that approves nothing"),
                );
            }
            Some(most) if given > most => {
                say("more-than-approved", format!("{given} was given, {most} was approved"));
            }
            _ => {}
        }
        match decision.moved_minor() {
            None if given > 0 => {
                say(
                    "cash-without-report",
                    format!("{given} was given, and no report of it is there"),
                );
            }
            Some(moved) if moved != given => {
                let text = format!("{given} was given by the journal, {moved} by the ledger");
                say("cash-differs", text);
            }
            _ => {}
        }
    }

    /// What the ledger says and the journal does not.
    fn check_decisions(&mut self) {
        let window = self.sources.window_ms;
        let times = self.journal.entries.first().zip(self.journal.entries.last());
        // A journal without a line says that nothing moved at all.
        let (from, until) = times
            .map_or((UnixMillis::new(i64::MIN), UnixMillis::new(i64::MAX)), |(first, last)| {
                (first.time.plus_millis(-window), last.time.plus_millis(window))
            });
        let named = self.journal.entries.iter().filter_map(|entry| entry.terminal.as_deref());
        let machines: HashSet<&str> = named.chain(self.sources.terminal).collect();
        for (place, decision) in self.decisions.all.iter().enumerate() {
            let is_covered = (from..=until).contains(&decision.moved_at())
                && (machines.is_empty() || machines.contains(decision.terminal.as_str()));
            if !is_covered && !self.tied.contains_key(&place) {
                continue;
            }
            self.found.covered += 1;
            let moved = decision.moved_minor().unwrap_or(0);
            self.found.ledger_minor = self.found.ledger_minor.saturating_add(moved);
            if moved > 0 && !self.tied.contains_key(&place) {
                let text = format!(
                    "{moved} left {:?} at {:?} by the ledger, and the journal has no such line",
                    decision.terminal,
                    decision.moved_at()
                );
                self.differ("receipt-without-cash", None, Some(decision), text);
            }
        }
    }

    fn differ(
        &mut self,
        rule: &'static str,
        line: Option<u64>,
        decision: Option<&Decision>,
        text: String,
    ) {
        let (origin, index) = decision.map(|it| (it.origin.clone(), it.index)).unzip();
        self.found.differences.push(Difference { rule, line, origin, index, text });
    }
}

fn count(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}
