//! Error rates with their protocol: genuine and impostor comparisons, DET curve, bootstrap
//! intervals, calibration.
//!
//! Two protocols are run on the same pictures:
//!
//! - *recognition only*: the face nearest the centre of each picture, no gates, one picture against
//!   one picture, all cross pairs. It measures models, and compares with other people's figures.
//! - *gateway*: each picture through exactly the gates of `Verify`, against templates made as
//!   enrolment makes them: up to five captures, each mirror-averaged, that match each other. A probe
//!   is never part of the template it is compared with. It measures what a customer meets.
//!
//! Words and definitions are those of ISO/IEC 19795-1: FTA and FTE (failure to acquire, to enrol),
//! FMR and FNMR (of comparisons), FRR (of transactions: FTA + (1 − FTA) · FNMR), EER.
//!
//! Architecture invariant: the names of identities leave this room only within the paths of files
//! that cannot be read.

mod acquire;
mod bootstrap;
mod calibrate;
mod dataset;
mod det;
mod finger;
mod likelihood;
mod number;
mod protocol;
mod rates;
mod report;

use std::path::PathBuf;

use crate::domain::embedding::Incomparable;
use crate::face::{FaceError, FacePipeline};
use crate::fingerprint::FingerError;
use crate::matching::{FingerTemplateError, Matcher, TemplateError};

use acquire::Acquired;
use protocol::{Gateway, Recognition};

pub use bootstrap::{Bootstrap, Interval, Intervals, intervals};
pub use calibrate::{CalibrationReport, TableReport, TermReport};
pub use dataset::{Dataset, DatasetError, IMAGES_MAX, LabelledImage};
pub use det::{det_svg, det_svg_of};
pub use finger::{
    EnrolledReport, FingerCalibration, FingerEvaluation, LabelledPrint, PrintFiles, PrintSet,
    SetReport, ViewSource, evaluate_fingers,
};
pub use likelihood::LikelihoodReport;
pub use rates::{Estimate, FalseMatchRate, InvalidRate, OperatingPoint, Pairing, Trial, Trials};
pub use report::{Acquisitions, BootstrapReport, Evaluation, Gate, GateTable, Table};

/// An evaluation that could not be finished.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// A model failed.
    #[error("a model failed at {}", path.display())]
    Face {
        /// The picture at which it failed.
        path: PathBuf,
        /// Why.
        #[source]
        source: FaceError,
    },
    /// A model for fingers failed.
    #[error("a model failed at {}", path.display())]
    Finger {
        /// The print at which it failed.
        path: PathBuf,
        /// Why.
        #[source]
        source: FingerError,
    },
    /// Embeddings of different models: a broken invariant.
    #[error("embeddings cannot be compared")]
    Incomparable(#[from] Incomparable),
    /// Captures of which no template can be made: a broken invariant.
    #[error("captures make no template")]
    Template(#[from] TemplateError),
    /// Impressions of which no template can be made: a broken invariant.
    #[error("impressions make no template")]
    FingerTemplate(#[from] FingerTemplateError),
    /// So few faces were found that no genuine or no impostor comparison is left.
    #[error(
        "too few pictures could be read and showed a face: no genuine or no impostor comparison is \
         left; check that the folder holds pictures of faces, two or more of somebody"
    )]
    NoComparison,
    /// All impostors' similarities are the same.
    #[error(
        "the impostors' scores do not differ, so they cannot be normalised; check that the folder \
         holds different pictures"
    )]
    Degenerate,
}

impl EvaluateError {
    /// The stable word for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Face { .. }
            | Self::Finger { .. }
            | Self::Incomparable(_)
            | Self::Template(_)
            | Self::FingerTemplate(_) => "SYS_INTERNAL",
            Self::NoComparison | Self::Degenerate => "EVAL_DATASET",
        }
    }
}

/// Runs both protocols on the threads of the current pool. `progress` is told of each picture done.
///
/// # Errors
///
/// [`EvaluateError`] when a model fails, or when no comparison is left. A picture that cannot be
/// used is no error; it is counted.
pub fn evaluate(
    dataset: &Dataset,
    pipeline: &FacePipeline,
    targets: &[FalseMatchRate],
    bootstrap: Bootstrap,
    progress: &(dyn Fn() + Sync),
) -> Result<Evaluation, EvaluateError> {
    let acquired = acquire::acquire_all(dataset, pipeline, progress)?;
    let matcher = Matcher::new(pipeline.manifest().matching.clone());
    let mut evaluation = judge(&acquired, dataset.identities(), &matcher, targets, bootstrap)?;
    let images = dataset.images().iter().zip(&acquired);
    evaluation.unreadable = images
        .filter(|(_, acquired)| acquired.nearest.as_ref().err() == Some(&acquire::UNREADABLE))
        .map(|(image, _)| image.path.clone())
        .collect();
    Ok(evaluation)
}

/// Everything after the models: comparisons, rates, calibration.
fn judge(
    acquired: &[Acquired],
    identities: u32,
    matcher: &Matcher,
    targets: &[FalseMatchRate],
    bootstrap: Bootstrap,
) -> Result<Evaluation, EvaluateError> {
    let identities = usize::try_from(identities).unwrap_or(usize::MAX);
    let recognition = Recognition::new(acquired, identities);
    let gateway = Gateway::new(acquired, identities, matcher)?;
    let found = Acquisitions::count(
        identities,
        acquired.iter().map(|one| one.nearest.as_ref().err().copied()),
    );
    let passed = Acquisitions::count(
        identities,
        acquired.iter().map(|one| one.gated.as_ref().err().copied()),
    );
    let trials = recognition.trials(matcher)?.ok_or(EvaluateError::NoComparison)?;
    let recognised = Table::new(found, &trials, targets, bootstrap);
    drop(trials);
    let gate_table = match gateway.trials(matcher)? {
        Some(trials) => GateTable::Measured(Table::new(passed, &trials, targets, bootstrap)),
        None => GateTable::TooFew(passed),
    };
    Ok(Evaluation {
        recognition: recognised,
        gateway: Gate::new(gateway.enrolled(), identities, gateway.captures_refused, gate_table),
        calibration: calibrate::calibrate(&recognition, &gateway, matcher.parameters())?,
        bootstrap: bootstrap.into(),
        unreadable: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::protocol::tests::{matcher, picture, refused};
    use super::*;

    #[test]
    fn the_top_level_is_recognition_and_the_gateway_lies_beside_it() {
        let acquired = [
            picture(0, 0.0),
            picture(0, 10.0),
            refused(0, 70.0),
            picture(1, 90.0),
            picture(1, 95.0),
            picture(2, 200.0),
        ];
        let targets = ["1e-1".parse().unwrap(), "1e-4".parse().unwrap()];
        let bootstrap = Bootstrap { draws: 50, seed: 1 };
        let evaluation = judge(&acquired, 3, &matcher(), &targets, bootstrap).unwrap();
        let json = serde_json::to_value(&evaluation).unwrap();
        assert_eq!(json["images"], 6);
        assert_eq!(json["identities"], 3);
        assert_eq!(json["fta"], 0.0);
        assert_eq!((&json["genuine"], &json["impostor"]), (&4.into(), &11.into()));
        // At 70 degrees identity 0's third picture is nearer to identity 1: 2 of 4 pairs fail.
        assert_eq!(json["fnmr"]["1e-4"], 0.5);
        let gateway = &json["gateway"];
        assert_eq!(gateway["fta_reasons"]["CAP_MULTIPLE_FACES"], 1);
        assert_eq!((&gateway["genuine"], &gateway["impostor"]), (&4.into(), &10.into()));
        assert_eq!(gateway["fnmr"]["1e-4"], 0.0);
        assert!(json["calibration"]["sface"]["deviation"].as_f64().unwrap() > 0.1);
        assert_eq!(json["bootstrap"]["unit"], "identity");
    }

    #[test]
    fn pictures_without_faces_leave_no_comparison() {
        let blank = |identity| Acquired {
            identity,
            nearest: Err("CAP_NO_FACE"),
            gated: Err("CAP_NO_FACE"),
        };
        let error =
            judge(&[blank(0), blank(0), blank(1)], 2, &matcher(), &[], Bootstrap::default())
                .unwrap_err();
        assert!(matches!(error, EvaluateError::NoComparison));
    }
}
