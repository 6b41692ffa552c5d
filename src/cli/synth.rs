//! `tulga synth`: pictures of fingers that nobody has.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rayon::prelude::*;
use serde_json::json;

use super::USAGE;
use crate::capture::encode_grey_png;
use crate::synth::{self, PatternClass};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Prints of synthetic fingers as `<finger>_<impression>.png`, the same for the same seed
    Finger(Finger),
}

#[derive(Debug, clap::Args)]
pub(super) struct Finger {
    /// How many fingers
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    ids: u32,
    /// Impressions of each
    #[arg(
        long,
        value_name = "K",
        default_value_t = 8,
        value_parser = clap::value_parser!(u32).range(1..=1_000)
    )]
    impressions: u32,
    /// What decides the fingers; another seed gives others
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// The folder to write into; it must be empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Pixels an inch
    #[arg(
        long,
        value_name = "PPI",
        default_value_t = 500,
        value_parser = clap::value_parser!(u16).range(250..=1000)
    )]
    ppi: u16,
    /// Write into a folder that holds something; files of the same name are replaced
    #[arg(long)]
    force: bool,
    /// For machines
    #[arg(long)]
    json: bool,
}

pub(super) fn run(Command::Finger(args): &Command) -> Result<ExitCode> {
    if let Err(fault) = prepare(&args.out, args.force) {
        eprintln!("tulga: {fault:#}");
        return Ok(ExitCode::from(USAGE));
    }
    let pictures = u64::from(args.ids) * u64::from(args.impressions);
    let bar = progress_bar(pictures, args.json)?;
    let made = (1..=args.ids).into_par_iter().map(|finger| make(args, finger, &bar));
    let classes = made.collect::<Result<Vec<_>>>()?;
    bar.finish_and_clear();
    let mut counts = BTreeMap::new();
    for class in classes {
        *counts.entry(class.as_str()).or_insert(0u32) += 1;
    }
    if args.json {
        let summary = json!({
            "out": args.out,
            "seed": args.seed,
            "fingers": args.ids,
            "impressions": args.impressions,
            "pictures": pictures,
            "pixels_per_inch": args.ppi,
            "classes": counts,
        });
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        let classes: Vec<_> =
            counts.iter().map(|(class, count)| format!("{count} {class}")).collect();
        println!(
            "{pictures} prints of {} fingers of nobody in {} ({})",
            args.ids,
            args.out.display(),
            classes.join(", ")
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// An empty folder, or any with `force`.
fn prepare(out: &Path, force: bool) -> Result<()> {
    fs::create_dir_all(out)
        .with_context(|| format!("the folder {} cannot be made", out.display()))?;
    let mut held =
        fs::read_dir(out).with_context(|| format!("{} cannot be read", out.display()))?;
    if !force && held.next().is_some() {
        bail!("{} is not empty; name another folder, or give --force", out.display());
    }
    Ok(())
}

/// One finger's files.
fn make(args: &Finger, number: u32, bar: &ProgressBar) -> Result<PatternClass> {
    let finger = synth::Finger::new(synth::finger_seed(args.seed, u64::from(number)));
    for impression in 1..=args.impressions {
        let picture = finger.impression_at(u64::from(impression), args.ppi);
        let file = encode_grey_png(&picture).context("a picture cannot be encoded")?;
        let path = args.out.join(format!("{number}_{impression}.png"));
        fs::write(&path, file).with_context(|| format!("{} cannot be written", path.display()))?;
        bar.inc(1);
    }
    Ok(finger.class())
}

/// Hidden for machines and where there is no terminal.
fn progress_bar(pictures: u64, json: bool) -> Result<ProgressBar> {
    if json {
        return Ok(ProgressBar::hidden());
    }
    let bar = ProgressBar::with_draw_target(Some(pictures), ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} pictures, {eta} left")?);
    bar.enable_steady_tick(Duration::from_millis(500));
    Ok(bar)
}
