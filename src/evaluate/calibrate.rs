//! From impostors' scores to the tables of `manifest.toml`.

use std::fmt::Write as _;

use super::EvaluateError;
use super::number::real_len;
use super::protocol::{Gateway, ImpostorMoments, Moments, Recognition};
use super::rates::{FalseMatchRate, Trials};
use crate::domain::score::{Fusion, FusionTerm, MatchingParameters};
use crate::matching::Matcher;

/// What `models/manifest.toml` takes: the fusion's normalisation and both tables, made together.
#[derive(Clone, PartialEq, Debug, serde::Serialize)]
pub struct CalibrationReport {
    /// `SFace`'s weight, and its impostors' mean and deviation.
    pub sface: TermReport,
    /// The same of dlib's network.
    pub dlib: TermReport,
    /// One picture against one picture.
    pub single: TableReport,
    /// One picture against a template; absent when too few pictures pass the gates.
    pub template: Option<TableReport>,
}

/// One model's part in the fusion.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize)]
pub struct TermReport {
    /// Its weight, as the manifest gives it.
    pub weight: f32,
    /// The mean of its impostors' similarities, measured.
    pub mean: f32,
    /// Their standard deviation, measured.
    pub deviation: f32,
}

/// A table from fused score to strength.
#[derive(Clone, PartialEq, Debug, serde::Serialize)]
pub struct TableReport {
    /// Impostor comparisons behind it.
    pub impostor: usize,
    /// The highest strength that so many comparisons support, in decibels.
    pub supported_db_max: u8,
    /// (fused score, −10·log10(false match rate)), rising.
    pub points: Vec<(f32, u8)>,
}

/// Normalises by the measured moments, then measures both tables with that fusion, so that what
/// goes into the manifest belongs together.
pub(super) fn calibrate(
    recognition: &Recognition<'_>,
    gateway: &Gateway<'_>,
    parameters: &MatchingParameters,
) -> Result<CalibrationReport, EvaluateError> {
    let ImpostorMoments { sface, dlib } = recognition.impostor_moments()?;
    let sface = TermReport::new(parameters.fusion.sface, sface);
    let dlib = TermReport::new(parameters.fusion.dlib, dlib);
    let fusion = Fusion { sface: sface.term()?, dlib: dlib.term()? };
    let matcher = Matcher::new(MatchingParameters { fusion, ..parameters.clone() });
    let single = recognition.trials(&matcher)?.ok_or(EvaluateError::NoComparison)?;
    let template = gateway.trials(&matcher)?;
    Ok(CalibrationReport {
        sface,
        dlib,
        single: TableReport::of(&single),
        template: template.as_ref().map(TableReport::of),
    })
}

impl TermReport {
    fn new(term: FusionTerm, moments: Moments) -> Self {
        // At the precision in which it is written down, so that the tables fit it exactly.
        let kept = |value: f32| (value * 1e5).round() / 1e5;
        let Moments { mean, deviation } = moments;
        Self { weight: term.weight(), mean: kept(mean), deviation: kept(deviation) }
    }

    fn term(self) -> Result<FusionTerm, EvaluateError> {
        FusionTerm::new(self.weight, self.mean, self.deviation)
            .map_err(|_| EvaluateError::Degenerate)
    }
}

impl TableReport {
    /// The score at each third decibel that the comparisons support.
    #[must_use]
    pub fn of(trials: &Trials) -> Self {
        let supported_db_max = supported_db_max(trials.impostor());
        let steps: Vec<u8> = (STEP_DB..=supported_db_max).step_by(usize::from(STEP_DB)).collect();
        let targets: Vec<_> =
            steps.iter().filter_map(|db| FalseMatchRate::from_db(f64::from(*db)).ok()).collect();
        let thresholds = trials.estimate(&targets).points;
        let mut points: Vec<(f32, u8)> = Vec::new();
        for (db, point) in steps.iter().zip(&thresholds) {
            // Rounded up: a score that is written down never claims more than was measured.
            let score = (point.threshold * 1e3).ceil() / 1e3;
            // Of scores that are the same the lowest strength stays.
            if points.last().is_none_or(|last| last.0 < score) {
                points.push((score, *db));
            }
        }
        Self { impostor: trials.impostor(), supported_db_max, points }
    }
}

impl TableReport {
    /// Leaves out what so many pairs of different identities do not support.
    ///
    /// Comparisons of the same two fingers are no news of each other: 80 prints of 10 fingers are 2,880
    /// impostor comparisons but 45 pairs of fingers, and support no more than 45 would.
    #[must_use]
    pub fn within_pairs(mut self, identity_pairs: usize) -> Self {
        self.supported_db_max = self.supported_db_max.min(supported_db_max(identity_pairs));
        self.points.retain(|(_, db)| *db <= self.supported_db_max);
        self
    }
}

/// The highest strength that is claimed from so many impostor comparisons: at least
/// [`FALSE_MATCHES_MIN`] of them must reach its score, and [`CLAIM_DB_MAX`] is never passed.
fn supported_db_max(impostor: usize) -> u8 {
    (0..=CLAIM_DB_MAX)
        .rev()
        .find(|db| real_len(impostor) * 10f64.powf(-f64::from(*db) / 10.0) >= FALSE_MATCHES_MIN)
        .unwrap_or(0)
}

impl CalibrationReport {
    /// The sections `[fusion]` and `[calibration]` of `manifest.toml`.
    ///
    /// # Errors
    ///
    /// `None` when there is no template table, without which a manifest is not whole.
    #[must_use]
    pub fn to_toml(&self) -> Option<String> {
        let template = self.template.as_ref()?;
        let mut text = String::from(
            "# Weight, and mean and deviation of the impostors' cosines, frozen with the tables \
             below.\n[fusion]\n",
        );
        for (name, TermReport { weight, mean, deviation }) in
            [("sface", &self.sface), ("dlib", &self.dlib)]
        {
            let _infallible = writeln!(
                text,
                "{name} = {{ weight = {weight}, mean = {mean:.5}, deviation = {deviation:.5} }}"
            );
        }
        let _infallible = write!(
            text,
            "\n# [fused score, -10·log10(false match rate)]: what share of impostors scores at \
             least as high.\n# Made by `tulga evaluate face`, from {} pairs of pictures (at most {} dB\n# are \
             claimed from so many) and {} pairs of picture and template (at most {} dB).\n\
             [calibration]\n",
            grouped(self.single.impostor),
            self.single.supported_db_max,
            grouped(template.impostor),
            template.supported_db_max,
        );
        for (name, table) in [("single", &self.single), ("template", template)] {
            let points: Vec<_> =
                table.points.iter().map(|(score, db)| format!("[{score:.3}, {db}.0]")).collect();
            let lines: Vec<_> = points.chunks(6).map(|line| line.join(", ")).collect();
            let _infallible = writeln!(text, "{name} = [\n  {},\n]", lines.join(",\n  "));
        }
        Some(text)
    }
}

/// A count with commas between thousands.
pub(super) fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Decibels between two points of a table.
const STEP_DB: u8 = 3;

/// With fewer false matches than this at a score, its rate is not known even roughly.
pub(super) const FALSE_MATCHES_MIN: f64 = 3.0;

/// No claim is made below a false match rate of 1e-6, however many comparisons there are: they are
/// of the same few people again and again.
const CLAIM_DB_MAX: u8 = 60;

#[cfg(test)]
mod tests {
    use super::super::rates::tests::trials;
    use super::*;
    use crate::domain::score::{Calibration, MatchScore};

    fn ladder(count: u16) -> Trials {
        let impostor: Vec<f32> = (0..count).map(|step| f32::from(step) / 100.0).collect();
        trials(&[1.0], &impostor)
    }

    #[test]
    fn a_table_holds_the_rate_that_it_states() {
        let table = TableReport::of(&ladder(10_000));
        // 3 of 10,000 are 35.2 dB.
        assert_eq!(table.supported_db_max, 35);
        assert_eq!(table.points.last().map(|point| point.1), Some(33));
        for (score, db) in &table.points {
            let accepted = (0..10_000u16).filter(|step| f32::from(*step) / 100.0 >= *score).count();
            assert!(real_len(accepted) <= 10_000.0 * 10f64.powf(-f64::from(*db) / 10.0), "{db}");
        }
        let points = table.points.iter().map(|(score, db)| (*score, f32::from(*db))).collect();
        let calibration = Calibration::new(points).unwrap();
        // One in a thousand scores 99.90 or more.
        let strength = calibration.strength(MatchScore::new(99.91).unwrap());
        assert!((29..=31).contains(&strength.db()), "{strength}");
    }

    #[test]
    fn few_identities_support_little_however_often_they_are_compared() {
        let table = TableReport::of(&ladder(10_000)).within_pairs(45);
        // 3 of 45 are 11.8 dB.
        assert_eq!((table.supported_db_max, table.points.len()), (11, 3));
        assert_eq!(TableReport::of(&ladder(100)).within_pairs(1_000_000).supported_db_max, 15);
    }

    #[test]
    fn no_claim_outruns_the_comparisons_or_60_db() {
        let claims = [0, 2, 3, 30, 3_000, 3_000_000, 4_719_512, 900_000_000].map(supported_db_max);
        assert_eq!(claims, [0, 0, 0, 10, 30, 60, 60, 60]);
    }

    #[test]
    fn scores_that_are_the_same_give_one_point() {
        let table = TableReport::of(&trials(&[1.0], &[0.5; 1_000]));
        assert_eq!(table.points.len(), 1);
        assert_eq!(table.points[0].1, 3);
    }

    #[test]
    fn what_is_written_is_what_the_manifest_reads() {
        let term = TermReport { weight: 0.7, mean: 0.1, deviation: 0.05 };
        let table = TableReport::of(&ladder(10_000));
        let report = CalibrationReport {
            sface: term,
            dlib: TermReport { weight: 0.3, ..term },
            single: table.clone(),
            template: Some(table.clone()),
        };
        let text = report.to_toml().unwrap();
        let read: toml::Table = text.parse().unwrap();
        let points = read["calibration"]["template"].as_array().unwrap();
        assert_eq!(points.len(), table.points.len());
        assert_eq!(points[0][1].as_float(), Some(3.0));
        assert_eq!(read["fusion"]["sface"]["weight"].as_float(), Some(0.7));
        assert!(text.contains("10,000 pairs"));
        assert!(CalibrationReport { template: None, ..report }.to_toml().is_none());
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1_000, 4_719_512].map(grouped), ["0", "999", "1,000", "4,719,512"]);
    }
}
