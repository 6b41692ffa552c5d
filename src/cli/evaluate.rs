//! `tulga evaluate face`: error rates on a folder of labelled pictures.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use comfy_table::{CellAlignment, Table as TextTable};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::evaluate::{
    Acquisitions, Bootstrap, Dataset, EvaluateError, Evaluation, FalseMatchRate, Gate, GateTable,
    Interval, Table, det_svg, evaluate,
};
use crate::face::FacePipeline;

/// What `tulga evaluate face` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One folder for each person, with JPEG or PNG pictures of that person.
    dir: PathBuf,
    /// The folder of the models and their manifest.
    #[arg(long, value_name = "DIR", default_value = "models")]
    models: PathBuf,
    /// Print report.json instead of tables.
    #[arg(long)]
    json: bool,
    /// False match rates at which to state the false non-match rate.
    #[arg(
        long,
        value_name = "RATES",
        value_delimiter = ',',
        default_value = "1e-3,1e-4,1e-5",
        num_args = 1..=16
    )]
    fmr: Vec<FalseMatchRate>,
    /// Write report.json, calibration.toml and det.svg into this folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Threads; as many as there are processors when not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Draws of the bootstrap behind the 95 % intervals.
    #[arg(
        long,
        value_name = "N",
        default_value_t = Bootstrap::default().draws,
        value_parser = clap::value_parser!(u32).range(40..=100_000)
    )]
    draws: u32,
}

/// Runs the command.
///
/// # Errors
///
/// When a model fails or a file cannot be written. A folder with which nothing can be measured is
/// a usage fault: it is told on stderr, and the exit code is 64.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let dataset = match Dataset::scan(&args.dir) {
        Ok(dataset) => dataset,
        Err(fault) => return Ok(usage_fault(&fault.into())),
    };
    // Asked for now, so that a folder that cannot be made is not found out after the long part.
    if let Some(out) = &args.out
        && let Err(fault) = fs::create_dir_all(out)
            .with_context(|| format!("the report's folder {} cannot be made", out.display()))
    {
        return Ok(usage_fault(&fault));
    }
    let pipeline = match FacePipeline::load(&args.models).with_context(|| {
        format!(
            "the models of {} cannot be used; give their folder by --models",
            args.models.display()
        )
    }) {
        Ok(pipeline) => pipeline,
        Err(fault) => return Ok(usage_fault(&fault)),
    };
    let bar = progress_bar(dataset.images().len());
    let bootstrap = Bootstrap { draws: args.draws, ..Bootstrap::default() };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(args.threads.map_or(0, usize::from))
        .build()
        .context("the threads cannot be started")?;
    let found = pool.install(|| {
        evaluate(&dataset, &pipeline, &args.fmr, bootstrap, &|| {
            bar.inc(1);
            if bar.position() == bar.length().unwrap_or(0) {
                bar.set_message("comparing all pairs, drawing intervals");
            }
        })
    });
    bar.finish_and_clear();
    let evaluation = match found {
        Ok(evaluation) => evaluation,
        Err(fault @ (EvaluateError::NoComparison | EvaluateError::Degenerate)) => {
            return Ok(usage_fault(&fault.into()));
        }
        Err(failure) => return Err(failure).context("the evaluation could not be finished"),
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&evaluation)?);
    } else {
        print_tables(&evaluation, &args.fmr);
    }
    if let Some(out) = &args.out {
        write_report(&evaluation, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What was asked for cannot be done, and why.
pub(super) fn usage_fault(fault: &anyhow::Error) -> ExitCode {
    eprintln!("tulga: {fault:#}");
    ExitCode::from(super::USAGE)
}

pub(super) fn progress_bar(images: usize) -> ProgressBar {
    let length = u64::try_from(images).unwrap_or(u64::MAX);
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(
        "{bar:40} {pos}/{len} pictures, {elapsed} passed, {eta} left {msg}",
    ) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

fn print_tables(evaluation: &Evaluation, targets: &[FalseMatchRate]) {
    println!("Recognition only: the face nearest the centre, no gates, all cross pairs");
    println!("{}\n", recognition_table(&evaluation.recognition, targets));
    println!("Gateway: pictures that pass Verify's gates, each against templates");
    println!("{}\n", gateway_table(&evaluation.gateway, targets));
    println!("Intervals: 95 %, {} draws of whole identities.", evaluation.bootstrap.draws);
    if !evaluation.recognition.unsupported.is_empty() {
        println!(
            "* Too few impostor comparisons to see a false match at this rate: the figure is the \
             FNMR at which none was seen. Evaluate more people for a claim."
        );
    }
    for path in &evaluation.unreadable {
        println!("Not readable as JPEG or PNG within the gateway's limits: {}", path.display());
    }
}

fn recognition_table(table: &Table, targets: &[FalseMatchRate]) -> TextTable {
    let mut text = new_table();
    add_acquisitions(&mut text, table.images, table.identities, table.fta, &table.fta_reasons);
    add_rates(&mut text, table, targets);
    text
}

fn gateway_table(gate: &Gate, targets: &[FalseMatchRate]) -> TextTable {
    let mut text = new_table();
    let (images, identities, fta, reasons) = match &gate.table {
        GateTable::Measured(Table { images, identities, fta, fta_reasons, .. })
        | GateTable::TooFew(Acquisitions { images, identities, fta, fta_reasons }) => {
            (*images, *identities, *fta, fta_reasons)
        }
    };
    add_acquisitions(&mut text, images, identities, fta, reasons);
    add(&mut text, "Failure to enrol (FTE)", &percent(gate.fte), "", "");
    let refused = gate.captures_refused.to_string();
    add(&mut text, "Captures that did not match the template", &refused, "", "");
    let GateTable::Measured(table) = &gate.table else {
        add(&mut text, "Comparisons", "too few left", "", "");
        return text;
    };
    add_rates(&mut text, table, targets);
    for fmr in targets.iter().map(ToString::to_string) {
        if let Some(frr) = gate.frr.get(&fmr) {
            let name = format!("FRR, one try, at FMR {fmr}{}", mark(table, &fmr));
            add(&mut text, &name, &percent(*frr), "", "");
        }
    }
    text
}

pub(super) fn new_table() -> TextTable {
    let mut text = TextTable::new();
    text.set_header(["", "value", "95 % interval", "threshold"]);
    text
}

pub(super) fn add_acquisitions(
    text: &mut TextTable,
    images: usize,
    identities: usize,
    fta: f64,
    reasons: &std::collections::BTreeMap<String, usize>,
) {
    add(text, "Pictures", &images.to_string(), "", "");
    add(text, "Identities", &identities.to_string(), "", "");
    add(text, "Failure to acquire (FTA)", &percent(fta), "", "");
    for (reason, count) in reasons {
        add(text, &format!("  {reason}"), &count.to_string(), "", "");
    }
}

pub(super) fn add_rates(text: &mut TextTable, table: &Table, targets: &[FalseMatchRate]) {
    add(text, "Genuine comparisons", &table.genuine.to_string(), "", "");
    add(text, "Impostor comparisons", &table.impostor.to_string(), "", "");
    let eer_interval = table.eer_interval.map(range).unwrap_or_default();
    add(text, "Equal error rate (EER)", &percent(table.eer), &eer_interval, "");
    for fmr in targets.iter().map(ToString::to_string) {
        let (Some(fnmr), Some(threshold)) = (table.fnmr.get(&fmr), table.threshold.get(&fmr))
        else {
            continue;
        };
        let interval = table.fnmr_interval.get(&fmr).copied().map(range).unwrap_or_default();
        let name = format!("FNMR at FMR {fmr}{}", mark(table, &fmr));
        add(text, &name, &percent(*fnmr), &interval, &format!("{threshold:.3}"));
    }
}

fn mark(table: &Table, fmr: &String) -> &'static str {
    if table.unsupported.contains(fmr) { " *" } else { "" }
}

pub(super) fn add(text: &mut TextTable, name: &str, value: &str, interval: &str, threshold: &str) {
    text.add_row([name, value, interval, threshold]);
    for column in text.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

pub(super) fn percent(rate: f64) -> String {
    format!("{:.2} %", rate * 100.0)
}

fn range(interval: Interval) -> String {
    format!("{:.2}\u{2013}{:.2} %", interval.0 * 100.0, interval.1 * 100.0)
}

fn write_report(evaluation: &Evaluation, out: &Path) -> anyhow::Result<()> {
    let mut json = serde_json::to_string_pretty(evaluation)?;
    json.push('\n');
    let mut files = vec![("report.json", json), ("det.svg", det_svg(evaluation))];
    match evaluation.calibration.to_toml() {
        Some(toml) => files.push(("calibration.toml", toml)),
        None => eprintln!(
            "note: no calibration.toml, because too few pictures pass the gates for templates"
        ),
    }
    for (name, text) in files {
        let path = out.join(name);
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(line: &[&str]) -> Result<Args, clap::Error> {
        let words = ["face"].iter().chain(line);
        Ok(<Line as clap::Parser>::try_parse_from(words)?.args)
    }

    #[test]
    fn rates_are_a_list_and_have_defaults() {
        let shown =
            |args: Args| args.fmr.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(shown(parsed(&["faces"]).unwrap()), "1e-3 1e-4 1e-5");
        assert_eq!(shown(parsed(&["faces", "--fmr", "0.01,1e-6"]).unwrap()), "1e-2 1e-6");
        for bad in [&["faces", "--fmr", "2"][..], &["faces", "--threads", "0"], &[]] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_folder_without_pictures_is_a_usage_fault() {
        let dir = tempfile::tempdir().unwrap();
        let args = parsed(&[&dir.path().to_string_lossy()]).unwrap();
        let code = run(args).unwrap();
        assert_eq!(code, ExitCode::from(super::super::USAGE));
    }
}
