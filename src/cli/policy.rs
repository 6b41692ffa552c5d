//! `tulga policy`: what authors and approvers of rules run before anybody decides by them, and to let
//! them decide.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::policy_backtest::{BacktestArgs, backtest};
use super::policy_desk::{self as desk, ActivateArgs, ApproveArgs, FetchArgs, ListArgs, SignArgs};
use super::policy_look::{DiffArgs, DryRunArgs, diff, dry_run};
use super::{REFUSED, USAGE};
use crate::config::Config;
use crate::policy::{PackError, PolicyPack, document};

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
    /// Sign a pack as its author and propose it to the gateway
    Sign(SignArgs),
    /// Sign the same pack as a second person
    Approve(ApproveArgs),
    /// Let an approved pack decide from a time on; an older one is a rollback
    Activate(ActivateArgs),
    /// List proposed and approved packs, and what decides
    List(ListArgs),
    /// Write a proposed pack's files to a folder, to read them before approving
    Fetch(FetchArgs),
    /// Tell what differs between two packs
    Diff(DiffArgs),
    /// Tell what a pack decides on given facts
    DryRun(DryRunArgs),
    /// Replay the facts of past decisions under another pack, and tell what would change
    Backtest(BacktestArgs),
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
pub(super) fn run(
    load: impl FnOnce() -> anyhow::Result<Config>,
    command: &Command,
) -> anyhow::Result<ExitCode> {
    Ok(match command {
        Command::Validate(args) => check(args, PolicyPack::load_without_cases),
        Command::Test(args) => check(args, PolicyPack::load),
        Command::Document { dir } => match PolicyPack::load(dir) {
            Ok(pack) => {
                print!("{}", document(&pack));
                ExitCode::SUCCESS
            }
            Err(fault) => {
                eprintln!("{}: {}", dir.display(), fault.faults().join("; "));
                ExitCode::from(REFUSED)
            }
        },
        Command::Sign(args) => desk::sign(&load()?, args)?,
        Command::Approve(args) => desk::approve(&load()?, args)?,
        Command::Activate(args) => desk::activate(&load()?, args)?,
        Command::List(args) => desk::list(&load()?, args)?,
        Command::Fetch(args) => desk::fetch(&load()?, args)?,
        Command::Diff(args) => diff(args)?,
        Command::DryRun(args) => dry_run(args)?,
        Command::Backtest(args) => backtest(&load()?, args)?,
    })
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
                    "dir": dir, "good": false, "code": fault.code(), "faults": fault.faults(),
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
                for line in fault.faults() {
                    println!("      {line}");
                }
            }
        }
    }
    ExitCode::from(worst)
}
