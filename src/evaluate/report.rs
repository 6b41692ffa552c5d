//! What an evaluation found, as `report.json` gives it: rates are fractions.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::bootstrap::{Bootstrap, Interval, intervals};
use super::calibrate::{CalibrationReport, FALSE_MATCHES_MIN};
use super::number::real_len;
use super::rates::{FalseMatchRate, OperatingPoint, Trials};

/// Everything an evaluation found. The recognition table is the top level.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Evaluation {
    /// Recognition only: the face nearest the centre, no gates, each picture with each.
    #[serde(flatten)]
    pub recognition: Table,
    /// Through the gateway's gates: each usable picture against templates.
    pub gateway: Gate,
    /// What `manifest.toml` takes.
    pub calibration: CalibrationReport,
    /// How the intervals were drawn.
    pub bootstrap: BootstrapReport,
    /// Files that are no picture, or not one that the gateway would decode.
    pub unreadable: Vec<PathBuf>,
}

/// Error rates of one protocol, in the words of ISO/IEC 19795-1.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Table {
    /// Pictures that were presented.
    pub images: usize,
    /// People they show.
    pub identities: usize,
    /// Failure to acquire: the share of pictures that yielded no embedding.
    pub fta: f64,
    /// Pictures that failed, by reason.
    pub fta_reasons: BTreeMap<String, usize>,
    /// Genuine comparisons.
    pub genuine: usize,
    /// Impostor comparisons.
    pub impostor: usize,
    /// Equal error rate.
    pub eer: f64,
    /// Its 95 % interval.
    pub eer_interval: Option<Interval>,
    /// False non-match rate at each false match rate.
    pub fnmr: BTreeMap<String, f64>,
    /// Their 95 % intervals.
    pub fnmr_interval: BTreeMap<String, Interval>,
    /// The lowest fused score accepted at each false match rate.
    pub threshold: BTreeMap<String, f32>,
    /// False match rates for which there are too few impostor comparisons to see even one.
    pub unsupported: Vec<String>,
    /// The curve from which `det.svg` is drawn: (FMR, FNMR).
    pub det: Vec<(f64, f64)>,
}

/// The gateway's table.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Gate {
    /// Identities of whom a template was made.
    pub enrolled: usize,
    /// Failure to enrol: the share of identities without a usable picture.
    pub fte: f64,
    /// Captures that enrolment refused because they did not match the identity's earlier ones.
    pub captures_refused: usize,
    /// False rejection rate at each false match rate: FTA + (1 − FTA) · FNMR.
    pub frr: BTreeMap<String, f64>,
    /// The error rates; absent, with what failed to acquire left, when too few pictures pass.
    #[serde(flatten)]
    pub table: GateTable,
}

/// Rates, or only what failed.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(untagged)]
pub enum GateTable {
    /// All rates.
    Measured(Table),
    /// No genuine or no impostor comparison was left.
    TooFew(Acquisitions),
}

/// How many pictures were presented, and what became of them.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Acquisitions {
    /// Pictures that were presented.
    pub images: usize,
    /// People they show.
    pub identities: usize,
    /// The share that yielded no embedding.
    pub fta: f64,
    /// Pictures that failed, by reason.
    pub fta_reasons: BTreeMap<String, usize>,
}

/// How intervals were drawn.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct BootstrapReport {
    /// What was drawn.
    pub unit: &'static str,
    /// How many draws.
    pub draws: u32,
    /// Where chance started.
    pub seed: u64,
    /// The share of draws within an interval.
    pub level: f64,
}

impl Acquisitions {
    pub(super) fn count<'a>(
        identities: usize,
        outcomes: impl Iterator<Item = Option<&'a str>>,
    ) -> Self {
        let mut images = 0;
        let mut fta_reasons = BTreeMap::new();
        for failure in outcomes {
            images += 1;
            if let Some(reason) = failure {
                *fta_reasons.entry(reason.to_owned()).or_insert(0) += 1;
            }
        }
        let failed: usize = fta_reasons.values().sum();
        let fta = real_len(failed) / real_len(images.max(1));
        Self { images, identities, fta, fta_reasons }
    }
}

impl Table {
    pub(super) fn new(
        acquisitions: Acquisitions,
        trials: &Trials,
        targets: &[FalseMatchRate],
        bootstrap: Bootstrap,
    ) -> Self {
        let Acquisitions { images, identities, fta, fta_reasons } = acquisitions;
        let estimate = trials.estimate(targets);
        let intervals = intervals(trials, targets, bootstrap);
        let named = || targets.iter().map(ToString::to_string);
        let of = |value: fn(&OperatingPoint) -> f64| {
            named().zip(estimate.points.iter().map(value)).collect()
        };
        let drawn = intervals.iter().flat_map(|intervals| intervals.fnmr.iter().copied());
        let is_unsupported =
            |target: &&FalseMatchRate| target.get() * real_len(trials.impostor()) < 1.0;
        Self {
            images,
            identities,
            fta,
            fta_reasons,
            genuine: trials.genuine(),
            impostor: trials.impostor(),
            eer: estimate.eer,
            eer_interval: intervals.as_ref().map(|intervals| intervals.eer),
            fnmr: of(|point| point.fnmr),
            fnmr_interval: named().zip(drawn).collect(),
            threshold: named().zip(estimate.points.iter().map(|point| point.threshold)).collect(),
            unsupported: targets.iter().filter(is_unsupported).map(ToString::to_string).collect(),
            det: det_curve(trials),
        }
    }
}

impl Gate {
    pub(super) fn new(
        enrolled: usize,
        identities: usize,
        captures_refused: usize,
        table: GateTable,
    ) -> Self {
        let frr = match &table {
            GateTable::TooFew(_) => BTreeMap::new(),
            GateTable::Measured(Table { fta, fnmr, .. }) => {
                fnmr.iter().map(|(fmr, fnmr)| (fmr.clone(), fta + (1.0 - fta) * fnmr)).collect()
            }
        };
        let fte = 1.0 - real_len(enrolled) / real_len(identities.max(1));
        Self { enrolled, fte, captures_refused, frr, table }
    }
}

impl From<Bootstrap> for BootstrapReport {
    fn from(Bootstrap { draws, seed }: Bootstrap) -> Self {
        Self { unit: "identity", draws, seed, level: 0.95 }
    }
}

/// FNMR at false match rates from the least that is claimed ([`FALSE_MATCHES_MIN`] false matches,
/// and 1e-6) up to one half, evenly on a logarithmic scale.
fn det_curve(trials: &Trials) -> Vec<(f64, f64)> {
    let least = (FALSE_MATCHES_MIN / real_len(trials.impostor())).clamp(1e-6, 0.4).log10();
    let most = 0.5f64.log10();
    let targets: Vec<_> = (0..=DET_STEPS)
        .map(|step| least + (most - least) * f64::from(step) / f64::from(DET_STEPS))
        .filter_map(|power| FalseMatchRate::new(10f64.powf(power)).ok())
        .collect();
    let points = trials.estimate(&targets).points;
    targets.iter().zip(points).map(|(target, point)| (target.get(), point.fnmr)).collect()
}

const DET_STEPS: u16 = 160;

#[cfg(test)]
mod tests {
    use super::super::rates::tests::trials;
    use super::*;

    fn acquisitions() -> Acquisitions {
        let outcomes = [None, Some("CAP_NO_FACE"), None, Some("CAP_NO_FACE"), Some("CAP_POSE")];
        Acquisitions::count(2, outcomes.into_iter())
    }

    fn table() -> Table {
        let impostor: Vec<f32> = (0..1_000u16).map(|step| f32::from(step) / 1_000.0).collect();
        let targets = ["1e-2".parse().unwrap(), "1e-4".parse().unwrap()];
        let bootstrap = Bootstrap { draws: 10, seed: 1 };
        Table::new(acquisitions(), &trials(&[0.5, 2.0, 3.0, 4.0], &impostor), &targets, bootstrap)
    }

    #[test]
    fn failures_to_acquire_are_counted_by_reason() {
        let counted = acquisitions();
        assert_eq!(counted.images, 5);
        assert!((counted.fta - 0.6).abs() < 1e-12);
        assert_eq!(counted.fta_reasons["CAP_NO_FACE"], 2);
        assert_eq!(counted.fta_reasons["CAP_POSE"], 1);
    }

    #[test]
    fn rates_too_low_to_be_seen_are_named() {
        let table = table();
        assert_eq!(table.unsupported, ["1e-4"]);
        assert!((table.fnmr["1e-2"] - 0.25).abs() < 1e-12);
        assert!(table.det.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 >= pair[1].1));
    }

    #[test]
    fn a_rejection_is_a_failure_to_acquire_or_a_false_non_match() {
        let gate = Gate::new(1, 2, 0, GateTable::Measured(table()));
        assert!((gate.frr["1e-2"] - (0.6 + 0.4 * 0.25)).abs() < 1e-12);
        assert!((gate.fte - 0.5).abs() < 1e-12);
        let nothing = Gate::new(0, 2, 0, GateTable::TooFew(acquisitions()));
        assert!(nothing.frr.is_empty());
    }

    #[test]
    fn the_gateway_s_table_lies_beside_its_own_figures_in_json() {
        let gate = Gate::new(1, 2, 3, GateTable::Measured(table()));
        let json = serde_json::to_value(gate).unwrap();
        assert_eq!(json["captures_refused"], 3);
        assert_eq!(json["genuine"], 4);
        assert_eq!(json["fnmr"]["1e-2"], 0.25);
        let nothing = Gate::new(0, 2, 0, GateTable::TooFew(acquisitions()));
        let json = serde_json::to_value(nothing).unwrap();
        assert_eq!(json["images"], 5);
        assert!(json.get("eer").is_none());
    }
}
