//! The report of an audit, printed.

use comfy_table::Cell;

use super::audit_verify::{plain_table, printable};
use crate::audit::{
    AuditReport, Established, Evidence, Finding, LedgerReport, PolicySource, SKEW_MS,
};

/// Prints a report in tables.
pub(super) fn print_report(report: &AuditReport) {
    for ledger in &report.ledgers {
        print_ledger(ledger);
    }
    print_evidence(report);
    if !report.findings.is_empty() {
        print_findings(report);
    }
    println!("{}", bound(report));
    let unseen = report.unseen();
    if !unseen.is_empty() {
        println!("What this cannot have seen: {}.", unseen.join("; "));
    }
    println!("{}", if report.is_good() { "GOOD" } else { "NOT GOOD" });
}

/// `signed, logged, NOT witnessed`.
pub(super) fn established(it: Established) -> String {
    let Established { signed, logged, witnessed } = it;
    let word = |name: &str, holds: bool| {
        if holds { name.to_owned() } else { format!("NOT {name}") }
    };
    [word("signed", signed), word("logged", logged), word("witnessed", witnessed)].join(", ")
}

fn print_ledger(ledger: &LedgerReport) {
    let entries = |size: Option<u64>| size.map(|size| format!("{size} entries"));
    let kinds = ledger.kinds.iter().map(|(kind, count)| format!("{count} {kind}"));
    let times = format!(
        "{} to {}",
        ledger.first_time.as_deref().unwrap_or("—"),
        ledger.last_time.as_deref().unwrap_or("—")
    );
    let rows = [
        ("ledger", printable(&ledger.origin)),
        ("entries", ledger.entries.to_string()),
        ("of kinds", kinds.collect::<Vec<_>>().join(", ")),
        ("erased bodies", ledger.erased.to_string()),
        ("times", times),
        ("latest checkpoint", or(entries(ledger.checkpoint_size), "none that verifies")),
        ("witnessed head", or(entries(ledger.witnessed_size), "none")),
        (
            "kept checkpoints",
            format!("{}, witnessed {}", ledger.checkpoints, ledger.witnessed_checkpoints),
        ),
        ("tiles", ledger.tiles.to_string()),
        ("time-stamps", ledger.stamps.to_string()),
        ("audit records", ledger.audit_records.to_string()),
        ("root", ledger.root.clone()),
    ];
    let mut table = plain_table();
    for (what, text) in rows {
        table.add_row([Cell::new(what), Cell::new(text)]);
    }
    println!("{table}");
}

fn print_evidence(report: &AuditReport) {
    let Evidence { trust, held_receipts, earlier_sizes, policy, stamp_authorities } =
        &report.evidence;
    let sizes = |sizes: &Vec<u64>| sizes.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let witnesses = match policy {
        PolicySource::Auditor => "given",
        PolicySource::Export => "not given; those that the export names",
        PolicySource::Nobody => "not given",
    };
    let closed = report.closed_ledgers.map(|count| format!("{count} closed"));
    let rows = [
        ("log of logs", or(closed, "none")),
        ("trust", or(trust.clone(), NOT_GIVEN)),
        ("held receipts", or(held_receipts.map(|count| count.to_string()), NOT_GIVEN)),
        ("earlier checkpoints", or(earlier_sizes.as_ref().map(sizes), NOT_GIVEN)),
        ("witnesses", witnesses.to_owned()),
        ("authorities", or(stamp_authorities.then(|| "given".to_owned()), NOT_GIVEN)),
        ("established", established(report.established)),
    ];
    let mut table = plain_table();
    for (what, text) in rows {
        table.add_row([Cell::new(what), Cell::new(text)]);
    }
    println!("{table}");
}

fn print_findings(report: &AuditReport) {
    let mut table = plain_table();
    table.set_header(["ledger", "entry", "rule", "finding", "which means"]);
    for Finding { origin, index, rule, text, means } in &report.findings {
        let index = or(index.map(|index| index.to_string()), "—");
        let origin = printable(origin.as_deref().unwrap_or("—"));
        table.add_row([origin.as_str(), index.as_str(), rule, printable(text).as_str(), means]);
    }
    println!("{table}");
    let all: u64 = report.counts.values().sum();
    let listed = u64::try_from(report.findings.len()).unwrap_or(u64::MAX);
    if all > listed {
        println!("{} more findings of the same rules are not listed.", all - listed);
    }
}

/// The rule of back-dating in a sentence, with its bound.
fn bound(report: &AuditReport) -> String {
    let widest = report
        .ledgers
        .iter()
        .filter_map(|it| it.widest_interval_ms.zip(it.widest_interval_index).map(|w| (w, it)))
        .max_by_key(|((width, _), _)| *width);
    let waited = report.ledgers.iter().filter_map(|it| it.longest_wait_ms).max();
    let waited = waited.map_or_else(String::new, |waited| {
        format!(" The longest that an entry waited to be seen, by its own time, is {waited} ms.")
    });
    match (widest, report.back_dating_bound_ms()) {
        (Some(((width, index), ledger)), Some(bound)) => format!(
            "Back-dating: no time could have been chosen by more than {bound} ms: the widest interval \
             between two witnessed heads is {width} ms (entry {index} of {}), and {SKEW_MS} ms are \
             allowed for clocks.{waited}",
            printable(&ledger.origin)
        ),
        _ => "Back-dating: nothing bounds it, since no two heads were witnessed around an entry."
            .to_owned(),
    }
}

fn or(text: Option<String>, otherwise: &str) -> String {
    text.unwrap_or_else(|| otherwise.to_owned())
}

const NOT_GIVEN: &str = "not given";
