//! Error rates of fingers: the FVC protocol, all cross pairs, and templates of several impressions.

mod dataset;
mod protocol;

use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use super::EvaluateError;
use super::bootstrap::Bootstrap;
use super::calibrate::{TableReport, grouped};
use super::likelihood::LikelihoodReport;
use super::rates::{FalseMatchRate, Trials};
use super::report::{Acquisitions, BootstrapReport, Table};
use crate::capture::{DecodeLimits, FingerImageDeclaration, decode_finger};
use crate::domain::finger::FingerView;
use crate::fingerprint::{FingerAcquisition, FingerprintPipeline};
use crate::interchange::{Maker, MinutiaeRecord};
use crate::matching::FingerMatcher;

use protocol::{Compared, SetViews, enrolled};

pub use dataset::{LabelledPrint, PrintFiles, PrintSet};

/// Where views come from.
#[derive(Clone, Copy, Debug)]
pub enum ViewSource<'a> {
    /// Pictures, through the pipeline; the resolution where the files do not tell it.
    Pictures(&'a FingerprintPipeline, Option<u16>),
    /// Records of a maker.
    Records(&'a Maker),
}

/// Everything an evaluation of fingers found. All cross pairs of all sets are the top level.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct FingerEvaluation {
    /// All cross pairs within each set, by one threshold, without gates.
    #[serde(flatten)]
    pub all: Table,
    /// The FVC protocol: impostors are pairs of first impressions only.
    pub fvc: Table,
    /// Each set's own cross pairs.
    pub sets: Vec<SetReport>,
    /// Prints against templates of the first impressions; absent when no finger has enough.
    pub enrolled: Option<EnrolledReport>,
    /// What the gateway's gates refuse of these pictures.
    pub gate: Option<Acquisitions>,
    /// Score to strength, as the manifest takes it.
    pub calibration: FingerCalibration,
    /// How the intervals were drawn.
    pub bootstrap: BootstrapReport,
    /// Files that are no print.
    pub unreadable: Vec<PathBuf>,
}

/// One folder's figures.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct SetReport {
    /// The folder's name.
    pub name: String,
    /// All cross pairs.
    #[serde(flatten)]
    pub all: Table,
    /// Equal error rate by the FVC protocol.
    pub fvc_eer: f64,
}

/// Prints against templates.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct EnrolledReport {
    /// Impressions of a template.
    pub impressions: usize,
    /// Its rates.
    #[serde(flatten)]
    pub table: Table,
}

/// The tables of the manifest's `[finger.matching]`: of one impression against one. What is told of several is
/// derived from them.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct FingerCalibration {
    /// Score to strength.
    pub calibration: TableReport,
    /// Score to log-likelihood ratio.
    pub likelihood: LikelihoodReport,
}

impl FingerCalibration {
    fn of(trials: &Trials) -> Self {
        Self { calibration: TableReport::of(trials), likelihood: LikelihoodReport::of(trials) }
    }

    /// The tables of `manifest.toml`.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let Self { calibration, likelihood } = self;
        format!(
            "# calibration: [score, -10·log10(false match rate)]; likelihood: [score from which it holds,\n# \
             natural logarithm of the likelihood ratio]. Made by `tulga evaluate finger`, from {} impostor\n# \
             pairs; they support {} dB at the most.\n{}{}",
            grouped(calibration.impostor),
            calibration.supported_db_max,
            calibration.to_toml("calibration"),
            likelihood.to_toml("likelihood"),
        )
    }
}

/// What became of one print.
struct Acquired {
    view: Result<FingerView, &'static str>,
    /// The gate that refuses it.
    refused: Option<&'static str>,
}

/// Runs all protocols on the threads of the current pool. `progress` is told of each print done.
///
/// # Errors
///
/// [`EvaluateError`] when a model fails, or when no comparison is left. A print that cannot be used is no
/// error; it is counted.
pub fn evaluate_fingers(
    sets: &[PrintSet],
    source: ViewSource<'_>,
    matcher: &FingerMatcher,
    impressions: usize,
    (targets, bootstrap): (&[FalseMatchRate], Bootstrap),
    progress: &(dyn Fn() + Sync),
) -> Result<FingerEvaluation, EvaluateError> {
    let acquired = sets
        .iter()
        .map(|set| acquire_all(set, source, progress))
        .collect::<Result<Vec<_>, EvaluateError>>()?;
    let fingers = sets.iter().map(|set| set.fingers).sum::<u32>();
    let count = usize::try_from(fingers).unwrap_or(usize::MAX);
    let views = views_of(sets, &acquired);
    let table = |of: &[&Vec<Acquired>], fingers, trials: &Trials| {
        let outcomes = of.iter().copied().flatten().map(|one| one.view.as_ref().err().copied());
        Table::new(Acquisitions::count(fingers, outcomes), trials, targets, bootstrap)
    };
    let everything = acquired.iter().collect::<Vec<_>>();
    let compared = Compared::new(&views, count, matcher)?;
    let all = compared.all().ok_or(EvaluateError::NoComparison)?;
    let fvc = compared.fvc().ok_or(EvaluateError::NoComparison)?;
    let mut reports = Vec::with_capacity(sets.len());
    for ((set, views), acquired) in sets.iter().zip(&views).zip(&acquired) {
        let compared = Compared::new(std::slice::from_ref(views), count, matcher)?;
        let (Some(all), Some(fvc)) = (compared.all(), compared.fvc()) else { continue };
        let fingers = usize::try_from(set.fingers).unwrap_or(usize::MAX);
        reports.push(SetReport {
            name: set.name.clone(),
            all: table(&[acquired], fingers, &all),
            fvc_eer: fvc.estimate(&[]).eer,
        });
    }
    let templates = enrolled(&views, count, impressions, matcher)?;
    let gate = match source {
        ViewSource::Records(_) => None,
        ViewSource::Pictures(..) => {
            let refused = acquired.iter().flatten().map(|one| one.refused);
            Some(Acquisitions::count(count, refused))
        }
    };
    Ok(FingerEvaluation {
        all: table(&everything, count, &all),
        fvc: table(&everything, count, &fvc),
        sets: reports,
        calibration: FingerCalibration::of(&all),
        enrolled: templates.map(|trials| EnrolledReport {
            impressions,
            table: table(&everything, count, &trials),
        }),
        gate,
        bootstrap: bootstrap.into(),
        unreadable: unreadable(sets, &acquired),
    })
}

/// What was found, with fingers numbered through all sets.
fn views_of(sets: &[PrintSet], acquired: &[Vec<Acquired>]) -> Vec<SetViews> {
    let mut offset = 0;
    let mut views = Vec::with_capacity(sets.len());
    for (set, acquired) in sets.iter().zip(acquired) {
        let found = set.prints.iter().zip(acquired);
        let found = found.filter_map(|(print, one)| {
            Some((offset + print.finger, one.view.as_ref().ok()?.clone()))
        });
        views.push(SetViews { views: found.collect() });
        offset += set.fingers;
    }
    views
}

fn unreadable(sets: &[PrintSet], acquired: &[Vec<Acquired>]) -> Vec<PathBuf> {
    let prints = sets.iter().flat_map(|set| &set.prints).zip(acquired.iter().flatten());
    let unread = prints.filter(|(_, one)| one.view.as_ref().err() == Some(&UNREADABLE));
    unread.map(|(print, _)| print.path.clone()).collect()
}

fn acquire_all(
    set: &PrintSet,
    source: ViewSource<'_>,
    progress: &(dyn Fn() + Sync),
) -> Result<Vec<Acquired>, EvaluateError> {
    let acquire = |print: &LabelledPrint| {
        let acquired = match source {
            ViewSource::Pictures(pipeline, resolution) => look(&print.path, pipeline, resolution),
            ViewSource::Records(maker) => Ok(read_record(&print.path, maker)),
        };
        progress();
        acquired
    };
    set.prints.par_iter().map(acquire).collect()
}

fn look(
    path: &Path,
    pipeline: &FingerprintPipeline,
    resolution: Option<u16>,
) -> Result<Acquired, EvaluateError> {
    let failed = |source| EvaluateError::Finger { path: path.to_owned(), source };
    let declared =
        FingerImageDeclaration { pixels_per_inch: resolution, ..FingerImageDeclaration::default() };
    let limits = DecodeLimits::for_fingers();
    let decoded = read(path).and_then(|bytes| decode_finger(&bytes, &declared, &limits).ok());
    let Some(picture) = decoded else { return Ok(Acquired::failed(UNREADABLE)) };
    let picture = picture.resampled_to_500();
    let view = pipeline.ungated(&picture).map_err(failed)?.ok_or(NO_FINGER);
    let refused = match pipeline.probe(&picture).map_err(failed)? {
        FingerAcquisition::Usable(_) => None,
        FingerAcquisition::Refused(refusal) => Some(refusal.cause.code()),
    };
    Ok(Acquired { view, refused })
}

/// The first view of a record.
fn read_record(path: &Path, maker: &Maker) -> Acquired {
    let views = read(path)
        .and_then(|bytes| MinutiaeRecord::parse(&bytes).ok())
        .and_then(|record| record.finger_views(maker).ok());
    match views.and_then(|views| views.into_iter().next()) {
        Some(view) => Acquired { view: Ok(view.view), refused: None },
        None => Acquired::failed(UNREADABLE),
    }
}

impl Acquired {
    const fn failed(code: &'static str) -> Self {
        Self { view: Err(code), refused: Some(code) }
    }
}

/// `None` for whatever the gateway, too, would not read.
fn read(path: &Path) -> Option<Vec<u8>> {
    let length = usize::try_from(fs::metadata(path).ok()?.len()).ok()?;
    let is_small = length <= DecodeLimits::for_fingers().encoded_bytes_max;
    is_small.then(|| fs::read(path).ok()).flatten()
}

/// The code of a file that is no print.
const UNREADABLE: &str = "CAP_UNREADABLE";

const NO_FINGER: &str = "CAP_NO_FINGER";
