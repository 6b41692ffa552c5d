//! `tulga policy validate|test|document`: what an author of rules runs before anybody decides by them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::{REFUSED, USAGE};
use crate::policy::{CaseError, PackError, PolicyPack, document};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Check a pack's manifest, schema and rules, without running its cases
    Validate(Args),
    /// Check packs and run their cases
    Test(Args),
    /// Print a pack as a page for people, in Markdown
    Document {
        /// The pack's folder
        dir: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folders of packs
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
    /// For machines
    #[arg(long)]
    json: bool,
}

/// 0 when every pack is good, 1 when one is not, 64 when a folder cannot be read.
pub(super) fn run(command: &Command) -> ExitCode {
    match command {
        Command::Validate(args) => check(args, PolicyPack::load_without_cases),
        Command::Test(args) => check(args, PolicyPack::load),
        Command::Document { dir } => match PolicyPack::load(dir) {
            Ok(pack) => {
                print!("{}", document(&pack));
                ExitCode::SUCCESS
            }
            Err(fault) => {
                eprintln!("{}: {}", dir.display(), faults(&fault).join("; "));
                ExitCode::from(REFUSED)
            }
        },
    }
}

fn check(args: &Args, load: fn(&Path) -> Result<PolicyPack, PackError>) -> ExitCode {
    let mut worst = 0;
    let mut seen = Vec::new();
    for dir in &args.dirs {
        let loaded = load(dir);
        match &loaded {
            Ok(_) => {}
            Err(PackError::Read { .. } | PackError::Missing { .. }) => worst = USAGE,
            Err(_) => worst = worst.max(REFUSED),
        }
        seen.push((dir, loaded));
    }
    if args.json {
        let rows: Vec<_> = seen
            .iter()
            .map(|(dir, loaded)| match loaded {
                Ok(pack) => json!({
                    "dir": dir, "good": true, "id": pack.id().as_str(), "version": pack.version(),
                    "rules": pack.rules(), "cases": pack.cases(), "hash": pack.hash().labelled(),
                }),
                Err(fault) => json!({
                    "dir": dir, "good": false, "code": fault.code(), "faults": faults(fault),
                }),
            })
            .collect();
        println!("{}", json!(rows));
        return ExitCode::from(worst);
    }
    for (dir, loaded) in &seen {
        match loaded {
            Ok(pack) => println!(
                "good  {} version {}: {} rules, {} cases, {}",
                pack.id().as_str(),
                pack.version(),
                pack.rules(),
                pack.cases(),
                pack.hash().labelled(),
            ),
            Err(fault) => {
                println!("bad   {} ({})", dir.display(), fault.code());
                for line in faults(fault) {
                    println!("      {line}");
                }
            }
        }
    }
    ExitCode::from(worst)
}

/// Every fault that is known, a line each: of cases all that came out otherwise.
fn faults(fault: &PackError) -> Vec<String> {
    if let PackError::Cases { name, source: CaseError::Failed { failures } } = fault {
        return failures
            .iter()
            .map(|failed| {
                format!(
                    "{name}: {}: expected {}, got {}",
                    failed.case, failed.expected, failed.actual
                )
            })
            .collect();
    }
    let mut text = fault.to_string();
    let mut cause = std::error::Error::source(fault);
    while let Some(error) = cause {
        text.extend([": ", &error.to_string()]);
        cause = error.source();
    }
    vec![text]
}
