//! `tulga audit verify` and `tulga audit show`: an export read without a gateway.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use comfy_table::{Cell, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::audit_report::{established, print_report};
use super::audit_words::words;
use super::{REFUSED, USAGE};
use crate::audit::{
    AuditError, Options, Progress, SingleReport, find_receipt, verify_export, verify_single,
};
use crate::ledger::NOTE_BYTES_MAX;
use crate::receipt::{
    JWS_BYTES_MAX, KEYS_FILE, KEYS_SIGNATURE_FILE, REGISTER_BYTES_MAX, TrustFingerprint, parse,
};

/// Verify an exported ledger, or one receipt with its proof, without a gateway.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder that `tulga audit export` wrote, or the address of one behind a web server
    #[arg(required_unless_present = "receipt", value_name = "DIR|URL")]
    dir: Option<PathBuf>,
    /// Fingerprint of the root key, as it was published: without it nothing is good
    #[arg(long, value_name = "FINGERPRINT")]
    trust: Option<TrustFingerprint>,
    /// Folder of receipts that terminals or hosts hold, one JWS a line
    #[arg(long, value_name = "DIR", conflicts_with = "receipt")]
    held: Option<PathBuf>,
    /// Checkpoints that were received earlier, from an audit before or from a witness
    #[arg(long, value_name = "FILE", conflicts_with = "receipt")]
    earlier: Option<PathBuf>,
    /// Who the witnesses are and how many must have cosigned (c2sp.org/tlog-policy), in place of what
    /// the export says
    #[arg(long, value_name = "FILE", conflicts_with = "receipt")]
    policy: Option<PathBuf>,
    /// Certificates of the time-stamping authorities that count, PEM
    #[arg(long, value_name = "FILE", conflicts_with = "receipt")]
    tsa: Option<PathBuf>,
    /// How long, as the bank has published, witnesses may take to see an entry (by default a gateway
    /// issues no more once they have been away for 900 s); counts where there are witnesses
    #[arg(long, value_name = "SECONDS", default_value_t = 900, conflicts_with = "receipt", value_parser = clap::value_parser!(i64).range(0..=31_536_000))]
    bound: i64,
    /// One receipt, verified alone; needs --proof, --keys and --trust
    #[arg(long, value_name = "FILE", requires_all = ["proof", "keys", "trust"], conflicts_with = "dir")]
    receipt: Option<PathBuf>,
    /// The receipt's c2sp.org/tlog-proof@v1
    #[arg(long, value_name = "FILE", requires = "receipt")]
    proof: Option<PathBuf>,
    /// Folder with keys.json and keys.json.sig
    #[arg(long, value_name = "DIR", requires = "receipt")]
    keys: Option<PathBuf>,
    /// For machines
    #[arg(long)]
    json: bool,
}

/// Print one receipt of an export in plain words.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// Index in the ledger, from 0
    index: u64,
    /// Folder that `tulga audit export` wrote
    #[arg(long)]
    dir: PathBuf,
    /// The payload as it was signed
    #[arg(long)]
    json: bool,
}

/// Verifies; 0 when everything is good, 1 when something is not, 64 when there is nothing to verify.
///
/// # Errors
///
/// When what was found cannot be written as JSON.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { dir, trust, held, earlier, policy, tsa, bound, receipt, proof, keys, json } = args;
    match (dir, receipt, proof, keys, trust) {
        (Some(dir), None, None, None, trust) => {
            let bound_ms = Some(bound.saturating_mul(1000));
            let options = Options { held, earlier, policy, stamp_authorities: tsa, bound_ms };
            verify_dir(&dir, trust.as_ref(), &options, json)
        }
        (None, Some(receipt), Some(proof), Some(keys), Some(trust)) => {
            verify_one(&receipt, &proof, &keys, &trust, json)
        }
        _ => {
            eprintln!("give a folder, or --receipt with --proof, --keys and --trust");
            Ok(ExitCode::from(USAGE))
        }
    }
}

/// Prints one receipt; 1 when the export has none at that index.
///
/// # Errors
///
/// When the export cannot be read.
pub fn show(args: &ShowArgs) -> anyhow::Result<ExitCode> {
    let found = find_receipt(&args.dir, args.index)
        .with_context(|| format!("no receipts in {}", args.dir.display()))?;
    let Some(jws) = found else {
        eprintln!("the export has no readable receipt at index {}", args.index);
        return Ok(ExitCode::from(REFUSED));
    };
    if args.json {
        let payload = jws.split('.').nth(1).unwrap_or_default();
        let payload = URL_SAFE_NO_PAD.decode(payload).context("the payload is not base64url")?;
        println!("{}", String::from_utf8_lossy(&payload));
        return Ok(ExitCode::SUCCESS);
    }
    let receipt = parse(&jws).context("the receipt cannot be read")?;
    let mut table = plain_table();
    for (what, text) in words(receipt.unverified_body(), receipt.kid()) {
        table.add_row([Cell::new(what), Cell::new(printable(&text))]);
    }
    println!("{table}");
    println!("Its signature was not checked here: run `tulga audit verify`.");
    Ok(ExitCode::SUCCESS)
}

fn verify_dir(
    dir: &Path,
    trust: Option<&TrustFingerprint>,
    options: &Options,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let mut bar = LateBar::new();
    let report = verify_export(dir, trust, options, &mut |at| bar.show(at));
    bar.finish();
    let report = match report {
        Ok(report) => report,
        Err(fault) => return refuse(&fault, json),
    };
    if json {
        let good = report.is_good();
        let seen = json!({ "good": good, "report": &report, "unseen": report.unseen() });
        println!("{}", serde_json::to_string_pretty(&seen)?);
    } else {
        print_report(&report);
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

/// There was nothing to verify: a wrong folder is the caller's fault, anything else a bad export.
fn refuse(fault: &AuditError, json: bool) -> anyhow::Result<ExitCode> {
    let text = chain(fault);
    if json {
        let seen = json!({ "good": false, "error": { "code": fault.code(), "text": text } });
        println!("{}", serde_json::to_string_pretty(&seen)?);
    } else {
        eprintln!("{text}");
    }
    let code = if matches!(fault, AuditError::NoExport(_)) { USAGE } else { REFUSED };
    Ok(ExitCode::from(code))
}

fn verify_one(
    receipt: &Path,
    proof: &Path,
    keys: &Path,
    trust: &TrustFingerprint,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let files = read(receipt, JWS_BYTES_MAX + 1).and_then(|jws| {
        let proof = read(proof, 2 * NOTE_BYTES_MAX)?;
        let register = read(&keys.join(KEYS_FILE), REGISTER_BYTES_MAX)?;
        Ok((jws, proof, register, read(&keys.join(KEYS_SIGNATURE_FILE), 1024)?))
    });
    let (jws, proof, register, signature) = match files {
        Ok(files) => files,
        Err(fault) => {
            eprintln!("{fault:#}");
            return Ok(ExitCode::from(USAGE));
        }
    };
    // A receipt in a file may end with a newline, which is not part of it.
    let jws = jws.strip_suffix('\n').unwrap_or(&jws);
    match verify_single(jws, &proof, register.as_bytes(), &signature, trust) {
        Ok(report) => {
            print_single(&report, json)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(fault) => {
            let text = chain(&fault);
            if json {
                let seen =
                    json!({ "good": false, "error": { "code": fault.code(), "text": text } });
                println!("{}", serde_json::to_string_pretty(&seen)?);
            } else {
                println!("NOT GOOD: {text}");
            }
            Ok(ExitCode::from(REFUSED))
        }
    }
}

fn print_single(report: &SingleReport, json: bool) -> anyhow::Result<()> {
    let body = report.receipt.body();
    if json {
        let seen = json!({
            "good": true,
            "rid": body.rid,
            "kind": body.content.kind(),
            "origin": body.log.origin,
            "index": body.log.index,
            "checkpoint_size": report.checkpoint.size,
            "established": report.established,
        });
        println!("{}", serde_json::to_string_pretty(&seen)?);
    } else {
        let mut table = plain_table();
        for (what, text) in words(body, report.receipt.kid()) {
            table.add_row([Cell::new(what), Cell::new(printable(&text))]);
        }
        let covers = format!("{} entries", report.checkpoint.size);
        table.add_row(["checkpoint covers", covers.as_str()]);
        table.add_row(["established", established(report.established).as_str()]);
        println!("{table}\nGOOD");
    }
    Ok(())
}

/// Text from an export without what could steer a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] })
        .collect()
}

pub(super) fn chain(fault: &dyn std::error::Error) -> String {
    let mut text = printable(&fault.to_string());
    let mut source = fault.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&printable(&cause.to_string()));
        source = cause.source();
    }
    text
}

pub(super) fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table
}

fn read(file: &Path, bytes_max: usize) -> anyhow::Result<String> {
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    let mut text = String::new();
    let opened = fs::File::open(file).with_context(|| format!("{} is missing", file.display()))?;
    opened
        .take(limit + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("{} cannot be read", file.display()))?;
    anyhow::ensure!(text.len() <= bytes_max, "{} is longer than it can be", file.display());
    Ok(text)
}

/// A progress bar that appears only when the work takes over a second.
struct LateBar {
    begun: Instant,
    bar: Option<ProgressBar>,
}

impl LateBar {
    fn new() -> Self {
        Self { begun: Instant::now(), bar: None }
    }

    fn show(&mut self, at: Progress) {
        if self.bar.is_none() && self.begun.elapsed() < Duration::from_secs(1) {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(at.total_bytes);
            if let Ok(style) = ProgressStyle::with_template(BAR) {
                bar.set_style(style);
            }
            bar
        });
        bar.set_position(at.done_bytes);
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

const BAR: &str = "verifying {wide_bar} {bytes}/{total_bytes}, {eta} left";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_an_export_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(printable("Алматы — ₸"), "Алматы — ₸");
    }
}
