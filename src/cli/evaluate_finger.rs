//! `tulga evaluate finger`: error rates on folders of labelled prints.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use super::evaluate::{
    add, add_acquisitions, add_rates, new_table, percent, progress_bar, usage_fault,
};
use crate::evaluate::{
    Bootstrap, EvaluateError, FalseMatchRate, FingerEvaluation, PrintFiles, PrintSet, ViewSource,
    det_svg_of, evaluate_fingers,
};
use crate::fingerprint::FingerprintPipeline;
use crate::interchange::Maker;
use crate::matching::FingerMatcher;

/// What `tulga evaluate finger` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folders of prints, a finger and its impression in each name (such as `101_1.png`); each is compared within itself
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Impressions of a template, in the second part
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=5))]
    enrol: u8,
    /// Resolution of the pictures, where the files do not tell it
    #[arg(long, value_name = "PIXELS_PER_INCH")]
    ppi: Option<u16>,
    /// Compare the folders' ISO/IEC 19794-2 records (.iso, .fmr) by this maker instead of pictures
    #[arg(long, value_name = "MAKER", value_parser = |name: &str| Maker::new(name))]
    records_of: Option<Maker>,
    /// The folder of the models and their manifest
    #[arg(long, value_name = "DIR", default_value = "models")]
    models: PathBuf,
    /// Print report.json instead of tables
    #[arg(long)]
    json: bool,
    /// False match rates at which to state the false non-match rate
    #[arg(
        long,
        value_name = "RATES",
        value_delimiter = ',',
        default_value = "1e-2,1e-3,1e-4",
        num_args = 1..=16
    )]
    fmr: Vec<FalseMatchRate>,
    /// Write report.json, calibration.toml and det.svg into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Threads; as many as there are processors when not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Draws of the bootstrap behind the 95 % intervals
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
/// When a model fails or a file cannot be written. A folder with which nothing can be measured is a usage
/// fault: it is told on stderr, and the exit code is 64.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let prepared = match Prepared::new(&args) {
        Ok(prepared) => prepared,
        Err(fault) => return Ok(usage_fault(&fault)),
    };
    let Prepared { sets, pipeline } = prepared;
    let source = match &args.records_of {
        Some(maker) => ViewSource::Records(maker),
        None => ViewSource::Pictures(&pipeline, args.ppi),
    };
    let matcher = FingerMatcher::new(pipeline.matching().clone());
    let bar = progress_bar(sets.iter().map(|set| set.prints.len()).sum());
    let bootstrap = Bootstrap { draws: args.draws, ..Bootstrap::default() };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(args.threads.map_or(0, usize::from))
        .build()
        .context("the threads cannot be started")?;
    let found = pool.install(|| {
        let enrol = usize::from(args.enrol);
        evaluate_fingers(&sets, source, &matcher, enrol, (&args.fmr, bootstrap), &|| bar.inc(1))
    });
    bar.finish_and_clear();
    let evaluation = match found {
        Ok(evaluation) => evaluation,
        Err(fault @ EvaluateError::NoComparison) => return Ok(usage_fault(&fault.into())),
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

/// What there must be before the long part.
struct Prepared {
    sets: Vec<PrintSet>,
    pipeline: FingerprintPipeline,
}

impl Prepared {
    fn new(args: &Args) -> anyhow::Result<Self> {
        let files = match &args.records_of {
            Some(_) => PrintFiles::Records,
            None => PrintFiles::Pictures,
        };
        let sets = args.dirs.iter().map(|dir| PrintSet::scan(dir, files));
        let sets = sets.collect::<Result<_, _>>()?;
        if let Some(out) = &args.out {
            fs::create_dir_all(out)
                .with_context(|| format!("the report's folder {} cannot be made", out.display()))?;
        }
        let pipeline = FingerprintPipeline::load(&args.models).with_context(|| {
            format!(
                "the models of {} cannot be used; give their folder by --models",
                args.models.display()
            )
        })?;
        let pipeline = pipeline.with_context(|| {
            format!("the manifest of {} has no model for fingers", args.models.display())
        })?;
        Ok(Self { sets, pipeline })
    }
}

fn print_tables(evaluation: &FingerEvaluation, targets: &[FalseMatchRate]) {
    println!("All cross pairs within each folder, by one threshold, no gates");
    let all = &evaluation.all;
    let mut text = new_table();
    add_acquisitions(&mut text, all.images, all.identities, all.fta, &all.fta_reasons);
    add_rates(&mut text, all, targets);
    add(&mut text, "EER by the FVC protocol", &percent(evaluation.fvc.eer), "", "");
    println!("{text}\n");
    if evaluation.sets.len() > 1 {
        println!("Each folder by its own threshold");
        let mut text = new_table();
        for set in &evaluation.sets {
            add(&mut text, &format!("{}: EER", set.name), &percent(set.all.eer), "", "");
            add(&mut text, "  by the FVC protocol", &percent(set.fvc_eer), "", "");
        }
        println!("{text}\n");
    }
    if let Some(enrolled) = &evaluation.enrolled {
        println!("Against templates of the first {} impressions", enrolled.impressions);
        let mut text = new_table();
        add_rates(&mut text, &enrolled.table, targets);
        println!("{text}\n");
    }
    if let Some(gate) = &evaluation.gate {
        println!("What the gateway's gates refuse of these pictures: {}", percent(gate.fta));
        for (reason, count) in &gate.fta_reasons {
            println!("  {reason}: {count}");
        }
    }
    println!("Intervals: 95 %, {} draws of whole fingers.", evaluation.bootstrap.draws);
    for path in &evaluation.unreadable {
        println!(
            "Not readable within the gateway's limits (a resolution may be missing: --ppi): {}",
            path.display()
        );
    }
}

fn write_report(evaluation: &FingerEvaluation, out: &Path) -> anyhow::Result<()> {
    let mut json = serde_json::to_string_pretty(evaluation)?;
    json.push('\n');
    let enrolled = evaluation.enrolled.as_ref();
    let mut curves = vec![("one impression against one", &evaluation.all)];
    curves.extend(enrolled.map(|it| ("one impression against a template of several", &it.table)));
    let files = [
        ("report.json", json),
        ("det.svg", det_svg_of(&curves)),
        ("calibration.toml", evaluation.calibration.to_toml()),
    ];
    for (name, text) in files {
        let path = out.join(name);
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}
