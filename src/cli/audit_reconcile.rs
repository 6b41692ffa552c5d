//! `tulga audit reconcile`: a journal of cash against an exported ledger.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use comfy_table::Cell;
use jiff::tz::TimeZone;
use serde_json::json;

use super::audit_verify::{chain, plain_table, printable};
use super::{REFUSED, USAGE};
use crate::audit::reconcile::{
    Difference, JournalFormat, Links, Reconciliation, RefusedLine, Sources, reconcile,
};
use crate::audit::{AuditError, Options, verify_export};
use crate::receipt::TrustFingerprint;

/// Compare a journal of cash with an exported ledger.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder that `tulga audit export` wrote
    dir: PathBuf,
    /// A terminal's cash journal, or the journal of the host's switch: CSV with a line of column names,
    /// `;` or `,` between: time, `host_transaction_id`, amount, dispensed; and where it has them
    /// `business_date`, terminal, currency, receipt
    #[arg(long, value_name = "FILE")]
    journal: PathBuf,
    /// The host's record of redemptions, CSV: receipt, salt, `host_transaction_id`, `business_date`, attempt,
    /// account, counterparty. It opens the receipts' commitments, so that pairs are proved
    #[arg(long, value_name = "FILE")]
    salts: Option<PathBuf>,
    /// Zone of times that say none, such as Asia/Almaty
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Amounts are decimal numbers of major units with at most so many digits behind the point; without
    /// it they are integers of minor units
    #[arg(long, value_name = "DIGITS", value_parser = clap::value_parser!(u32).range(0..=4))]
    decimals: Option<u32>,
    /// The machine whose journal it is, where no column says so
    #[arg(long, value_name = "ID")]
    terminal: Option<String>,
    /// How far the journal's clock and the ledger's may lie apart
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(i64).range(0..=86_400))]
    window: i64,
    /// Fingerprint of the root key: verifies the export, too
    #[arg(long, value_name = "FINGERPRINT")]
    trust: Option<TrustFingerprint>,
    /// For machines
    #[arg(long)]
    json: bool,
}

/// Compares; 0 when nothing differs, 1 when something does or a line cannot be read, 64 when nothing can
/// be compared.
///
/// # Errors
///
/// When what was found cannot be written as JSON.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let zone = args.zone.as_deref().map(TimeZone::get).transpose();
    let Ok(zone) = zone else {
        eprintln!("{:?} is no time zone", args.zone.as_deref().unwrap_or_default());
        return Ok(ExitCode::from(USAGE));
    };
    let format = JournalFormat { zone, decimals: args.decimals };
    let sources = Sources {
        journal: &args.journal,
        format: &format,
        openings: args.salts.as_deref(),
        terminal: args.terminal.as_deref(),
        window_ms: args.window.saturating_mul(1000),
    };
    let found = match reconcile(&args.dir, &sources) {
        Ok(found) => found,
        Err(fault) => {
            eprintln!("{}", chain(&fault));
            return Ok(ExitCode::from(USAGE));
        }
    };
    let verified = match args.trust.as_ref().map(|trust| is_good(args, trust)).transpose() {
        Ok(verified) => verified,
        Err(fault) => {
            eprintln!("{}", chain(&fault));
            return Ok(ExitCode::from(USAGE));
        }
    };
    let clean = found.is_clean() && verified != Some(false);
    if args.json {
        let seen = json!({ "clean": clean, "ledger_verified": verified, "reconciliation": &found });
        println!(
            "{}",
            serde_json::to_string_pretty(&seen).context("the result cannot be written")?
        );
    } else {
        print(&found, verified, args.salts.is_some());
        println!("{}", if clean { "CLEAN" } else { "NOT CLEAN" });
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

fn is_good(args: &Args, trust: &TrustFingerprint) -> Result<bool, AuditError> {
    let options = Options::default();
    verify_export(&args.dir, Some(trust), &options, &mut |_| ()).map(|report| report.is_good())
}

fn print(found: &Reconciliation, verified: Option<bool>, has_salts: bool) {
    let Links { openings, named, by_time } = found.links;
    let span = found.from.as_deref().zip(found.until.as_deref());
    let rows = [
        ("journal lines", found.lines.to_string()),
        ("lines left out", (found.refused.len() + found.refused_openings.len()).to_string()),
        (
            "times",
            span.map_or_else(|| "—".to_owned(), |(from, until)| format!("{from} to {until}")),
        ),
        ("withdrawals decided", format!("{}, of them covered {}", found.decisions, found.covered)),
        ("other operations", format!("{}, not compared", found.other_operations)),
        ("tied", format!("{openings} proved, {named} by receipt, {by_time} by time and amount")),
        ("cash by the journal", format!("{} minor units", found.journal_minor)),
        ("cash by the ledger", format!("{} minor units", found.ledger_minor)),
    ];
    let mut table = plain_table();
    for (what, text) in rows {
        table.add_row([Cell::new(what), Cell::new(text)]);
    }
    println!("{table}");
    print_refused("journal", &found.refused);
    print_refused("record of redemptions", &found.refused_openings);
    if !found.differences.is_empty() {
        print_differences(&found.differences);
    }
    if by_time > 0 || !has_salts {
        println!(
            "Pairs by time and amount are likely, not proved: give --salts, the host's record of \
             redemptions, to tie each line to its receipt."
        );
    }
    match verified {
        Some(true) => println!("The ledger itself verifies."),
        Some(false) => println!("THE LEDGER ITSELF DOES NOT VERIFY: run tulga audit verify."),
        None => println!("The ledger itself was not verified: give --trust."),
    }
}

fn print_refused(of: &str, refused: &[RefusedLine]) {
    for RefusedLine { line, reason } in refused {
        println!("left out of the {of}: line {line}: {}", printable(reason));
    }
}

fn print_differences(differences: &[Difference]) {
    let mut table = plain_table();
    table.set_header(["line", "entry", "what", "difference"]);
    for Difference { rule, line, origin, index, text } in differences {
        let or = |number: &Option<u64>| number.map_or_else(|| "—".to_owned(), |it| it.to_string());
        let ledger = origin.as_deref().map(|it| format!(" of {}", printable(it)));
        let entry = or(index) + ledger.as_deref().unwrap_or_default();
        table.add_row([or(line).as_str(), entry.as_str(), rule, printable(text).as_str()]);
    }
    println!("{table}");
}
