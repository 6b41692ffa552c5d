//! Error rates of a set of comparisons, exact, in the words of ISO/IEC 19795-1.
//!
//! A comparison is accepted when its score reaches the threshold. FMR is the share of impostor
//! comparisons that are accepted, FNMR the share of genuine ones that are not, and EER the rate at
//! which both are the same.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use rayon::prelude::*;

use super::number::{fraction, real};

/// One comparison: its score and whose pictures were compared, by position in the data set.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Trial {
    /// The fused score.
    pub score: f32,
    /// Whose picture was the probe.
    pub probe: u32,
    /// Whose picture or template it was compared with.
    pub reference: u32,
}

/// Which impostor comparisons there are, so that their weighted number needs no walk over them.
///
/// Both list, for each identity, how many of its pictures take part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pairing {
    /// Each picture with each of other identities, once.
    EachWithEach {
        /// Pictures of each identity.
        pictures: Vec<u64>,
    },
    /// Each probe with every other identity's templates.
    ProbeWithTemplate {
        /// Probes of each identity.
        probes: Vec<u64>,
        /// Templates of each identity.
        templates: Vec<u64>,
    },
    /// Several sets that are compared each within itself; of an identity of another set each lists none.
    Sets(Vec<Self>),
}

impl Pairing {
    /// How many identities it speaks of.
    fn identities(&self) -> usize {
        match self {
            Self::EachWithEach { pictures } => pictures.len(),
            Self::ProbeWithTemplate { probes, .. } => probes.len(),
            Self::Sets(sets) => sets.first().map_or(0, Self::identities),
        }
    }

    /// How many impostor comparisons there are when identity `i` is in the data `weights[i]` times
    /// and its copies are not compared with each other.
    fn impostors(&self, weights: &[u64]) -> u64 {
        match self {
            Self::EachWithEach { pictures } => {
                let (sum, squares) = sums(pictures, pictures, weights);
                (sum.0 * sum.1 - squares) / 2
            }
            Self::ProbeWithTemplate { probes, templates } => {
                let (sum, squares) = sums(probes, templates, weights);
                sum.0 * sum.1 - squares
            }
            Self::Sets(sets) => sets.iter().map(|set| set.impostors(weights)).sum(),
        }
    }
}

/// A false match rate to be held, strictly between 0 and 1.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub struct FalseMatchRate(f64);

/// Text or a number that is no false match rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a false match rate is a number between 0 and 1, such as 1e-4")]
pub struct InvalidRate;

impl FalseMatchRate {
    /// Checks a rate.
    ///
    /// # Errors
    ///
    /// [`InvalidRate`] for NaN and for anything that is not between 0 and 1.
    pub fn new(rate: f64) -> Result<Self, InvalidRate> {
        if rate > 0.0 && rate < 1.0 { Ok(Self(rate)) } else { Err(InvalidRate) }
    }

    /// The rate at a strength in decibels: 10^(−db/10).
    ///
    /// # Errors
    ///
    /// [`InvalidRate`] unless the strength is above 0.
    pub fn from_db(db: f64) -> Result<Self, InvalidRate> {
        Self::new(10f64.powf(-db / 10.0))
    }

    /// The rate.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }

    /// The most of `total` comparisons that may be accepted.
    fn allows(self, total: u64) -> u64 {
        // The tiny part forgives products such as 0.003 · 1000 that round to just below a number.
        let allowed = (self.0 * real(total) * (1.0 + 1e-12)).floor();
        super::number::whole(allowed)
    }
}

impl FromStr for FalseMatchRate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text.trim().parse().map_err(|_| InvalidRate)?)
    }
}

impl fmt::Display for FalseMatchRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:e}", self.0)
    }
}

/// Genuine and impostor comparisons, neither empty, each sorted by falling score.
#[derive(Clone, Debug)]
pub struct Trials {
    genuine: Vec<Trial>,
    impostor: Vec<Trial>,
    pairing: Pairing,
}

/// What a threshold costs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct OperatingPoint {
    /// The lowest score that is accepted.
    pub threshold: f32,
    /// The false match rate there, never above the one that was asked for.
    pub fmr: f64,
    /// The false non-match rate there.
    pub fnmr: f64,
}

/// The rates of a set of comparisons.
#[derive(Clone, PartialEq, Debug)]
pub struct Estimate {
    /// Equal error rate.
    pub eer: f64,
    /// One for each false match rate that was asked for, in that order.
    pub points: Vec<OperatingPoint>,
}

impl Trials {
    /// Sorts the comparisons. `None` when there are no genuine ones or no impostors.
    #[must_use]
    pub fn new(
        mut genuine: Vec<Trial>,
        mut impostor: Vec<Trial>,
        pairing: Pairing,
    ) -> Option<Self> {
        if genuine.is_empty() || impostor.is_empty() {
            return None;
        }
        genuine.par_sort_unstable_by(|a, b| b.score.total_cmp(&a.score));
        impostor.par_sort_unstable_by(|a, b| b.score.total_cmp(&a.score));
        Some(Self { genuine, impostor, pairing })
    }

    /// How many genuine comparisons there are.
    #[must_use]
    pub fn genuine(&self) -> usize {
        self.genuine.len()
    }

    /// How many impostor comparisons there are.
    #[must_use]
    pub fn impostor(&self) -> usize {
        self.impostor.len()
    }

    /// The genuine scores, falling.
    pub fn genuine_scores(&self) -> impl Iterator<Item = f32> {
        self.genuine.iter().map(|trial| trial.score)
    }

    /// The impostors' scores, falling.
    pub fn impostor_scores(&self) -> impl Iterator<Item = f32> {
        self.impostor.iter().map(|trial| trial.score)
    }

    /// How many identities the pairing speaks of.
    #[must_use]
    pub fn identities(&self) -> usize {
        self.pairing.identities()
    }

    /// How many identities have a genuine comparison.
    #[must_use]
    pub fn genuine_identities(&self) -> usize {
        self.genuine.iter().map(|trial| trial.probe).collect::<HashSet<_>>().len()
    }

    /// The rates of the comparisons as they are.
    #[must_use]
    pub fn estimate(&self, targets: &[FalseMatchRate]) -> Estimate {
        let once = vec![1; self.identities()];
        // With every identity there once, neither total is zero.
        self.estimate_weighted(&once, targets).unwrap_or(Estimate { eer: 1.0, points: Vec::new() })
    }

    /// The rates when identity `i` is in the data `weights[i]` times: a genuine comparison counts
    /// as often as its identity, an impostor comparison as often as the product of both.
    ///
    /// Walks only over impostors that score above the lowest threshold it needs. `None` when no
    /// genuine or no impostor comparison is left.
    #[must_use]
    pub fn estimate_weighted(
        &self,
        weights: &[u64],
        targets: &[FalseMatchRate],
    ) -> Option<Estimate> {
        let weight = |identity: u32| {
            usize::try_from(identity).ok().and_then(|at| weights.get(at)).copied().unwrap_or(0)
        };
        let mut accepted = Vec::with_capacity(self.genuine.len() + 1);
        let mut total = 0u64;
        accepted.push(total);
        for trial in &self.genuine {
            total += weight(trial.probe);
            accepted.push(total);
        }
        let walk = Walk {
            trials: self,
            weight,
            accepted,
            genuine_total: total,
            impostor_total: self.pairing.impostors(weights),
        };
        if walk.genuine_total == 0 || walk.impostor_total == 0 {
            return None;
        }
        Some(Estimate {
            eer: walk.equal_error_rate(),
            points: targets.iter().map(|target| walk.operating_point(*target)).collect(),
        })
    }
}

/// One weighting of the comparisons, walked from the highest score down.
struct Walk<'a, W> {
    trials: &'a Trials,
    weight: W,
    /// Weight of the first `n` genuine comparisons.
    accepted: Vec<u64>,
    genuine_total: u64,
    impostor_total: u64,
}

impl<W: Fn(u32) -> u64> Walk<'_, W> {
    /// The lowest threshold that accepts no larger share of impostors than `target`.
    fn operating_point(&self, target: FalseMatchRate) -> OperatingPoint {
        let allowed = target.allows(self.impostor_total);
        let mut within = 0u64;
        let mut within_above_tie = 0u64;
        let mut tie = f32::INFINITY;
        for trial in &self.trials.impostor {
            if trial.score < tie {
                tie = trial.score;
                within_above_tie = within;
            }
            within += self.impostor_weight(trial);
            if within > allowed {
                // This score, and all that equal it, must be refused.
                return self.point_at(tie.next_up(), within_above_tie);
            }
        }
        self.point_at(tie, within)
    }

    fn point_at(&self, threshold: f32, impostors_accepted: u64) -> OperatingPoint {
        let count = self.trials.genuine.partition_point(|trial| trial.score >= threshold);
        let accepted = self.accepted.get(count).copied().unwrap_or(0);
        OperatingPoint {
            threshold,
            fmr: fraction(impostors_accepted, self.impostor_total),
            fnmr: fraction(self.genuine_total - accepted, self.genuine_total),
        }
    }

    /// Where FMR and FNMR cross, linear between the two thresholds around the crossing. Genuine and
    /// impostor comparisons of one score are crossed together.
    fn equal_error_rate(&self) -> f64 {
        let (genuine, impostor) = (&self.trials.genuine, &self.trials.impostor);
        let (mut g, mut i, mut impostors_accepted) = (0, 0, 0u64);
        let mut before = (0.0, 1.0);
        loop {
            let score_of = |trials: &[Trial], at: usize| trials.get(at).map(|trial| trial.score);
            let score = match (score_of(genuine, g), score_of(impostor, i)) {
                (Some(a), Some(b)) => a.max(b),
                (Some(score), None) | (None, Some(score)) => score,
                (None, None) => return before.0,
            };
            while genuine.get(g).is_some_and(|trial| trial.score >= score) {
                g += 1;
            }
            while let Some(trial) = impostor.get(i).filter(|trial| trial.score >= score) {
                impostors_accepted += self.impostor_weight(trial);
                i += 1;
            }
            let refused = self.genuine_total - self.accepted.get(g).copied().unwrap_or(0);
            let fmr = fraction(impostors_accepted, self.impostor_total);
            let after = (fmr, fraction(refused, self.genuine_total));
            if after.0 >= after.1 {
                let gap_before = before.1 - before.0;
                let gap_after = after.0 - after.1;
                return before.0 + (after.0 - before.0) * gap_before / (gap_before + gap_after);
            }
            before = after;
        }
    }

    fn impostor_weight(&self, trial: &Trial) -> u64 {
        (self.weight)(trial.probe) * (self.weight)(trial.reference)
    }
}

/// (Σ w·a, Σ w·b) and Σ (w·a)·(w·b).
fn sums(a: &[u64], b: &[u64], weights: &[u64]) -> ((u64, u64), u64) {
    let mut sum = (0, 0);
    let mut squares = 0;
    for ((a, b), weight) in a.iter().zip(b).zip(weights) {
        sum.0 += weight * a;
        sum.1 += weight * b;
        squares += (weight * a) * (weight * b);
    }
    (sum, squares)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Comparisons of one picture each: genuine ones of identity 0 with itself, impostors of
    /// identity 0 with templates of identity 1.
    pub(in crate::evaluate) fn trials(genuine: &[f32], impostor: &[f32]) -> Trials {
        let trial = |reference| move |score: &f32| Trial { score: *score, probe: 0, reference };
        let count = u64::try_from(impostor.len()).unwrap();
        let pairing = Pairing::ProbeWithTemplate { probes: vec![1, 0], templates: vec![0, count] };
        let genuine = genuine.iter().map(trial(0)).collect();
        Trials::new(genuine, impostor.iter().map(trial(1)).collect(), pairing).unwrap()
    }

    fn rate(rate: f64) -> FalseMatchRate {
        FalseMatchRate::new(rate).unwrap()
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn rates_of_a_small_set_are_those_worked_out_by_hand() {
        // Down the scores: 0.9 g, 0.8 g, 0.5 i (FMR 1/4, FNMR 1/3), 0.4 g (1/4, 0).
        let estimate =
            trials(&[0.9, 0.4, 0.8], &[0.1, 0.5, 0.05, 0.3]).estimate(&[rate(0.25), rate(0.2)]);
        assert!(near(estimate.eer, 0.25), "{estimate:?}");
        let [quarter, fifth] = estimate.points[..] else { panic!("two targets") };
        // One of four impostors may pass: just above 0.3, where every genuine one passes.
        assert!(near(quarter.fmr, 0.25) && near(quarter.fnmr, 0.0));
        assert!(quarter.threshold > 0.3 && quarter.threshold < 0.300_001);
        // None may pass: just above 0.5, where one of three genuine ones does not.
        assert!(near(fifth.fmr, 0.0) && near(fifth.fnmr, 1.0 / 3.0));
    }

    #[test]
    fn genuine_and_impostor_comparisons_of_one_score_cannot_be_told_apart() {
        // At 0.5 one genuine and one impostor pass together: (0, 1/2) -> (1/2, 0).
        let estimate = trials(&[0.9, 0.5], &[0.5, 0.1]).estimate(&[rate(0.4)]);
        assert!(near(estimate.eer, 0.25), "{estimate:?}");
        assert!(near(estimate.points[0].fnmr, 0.5), "the tie must be refused");
        // Of three equal impostors none may pass when two may.
        let tied = trials(&[0.9, 0.5], &[0.5, 0.5, 0.5, 0.1]).estimate(&[rate(0.5)]);
        assert!(near(tied.points[0].fmr, 0.0) && near(tied.points[0].fnmr, 0.5));
    }

    #[test]
    fn the_ends_of_the_scale_are_reached() {
        let apart = trials(&[0.9, 0.8], &[0.2, 0.1]).estimate(&[rate(0.01)]);
        assert!(near(apart.eer, 0.0) && near(apart.points[0].fnmr, 0.0));
        let reversed = trials(&[0.1, 0.2], &[0.8, 0.9]).estimate(&[rate(0.01)]);
        assert!(near(reversed.eer, 1.0) && near(reversed.points[0].fnmr, 1.0));
        let alike = trials(&[0.5; 7], &[0.5; 3]).estimate(&[rate(0.1)]);
        assert!(near(alike.eer, 0.5));
    }

    #[test]
    fn rates_are_read_and_written_in_one_form() {
        for (text, shown) in [("1e-4", "1e-4"), ("0.0001", "1e-4"), (" 2.5e-3 ", "2.5e-3")] {
            assert_eq!(text.parse::<FalseMatchRate>().unwrap().to_string(), shown);
        }
        for bad in ["", "0", "1", "-1e-4", "NaN", "inf", "1e-4x"] {
            assert_eq!(bad.parse::<FalseMatchRate>(), Err(InvalidRate), "{bad}");
        }
        assert!(near(FalseMatchRate::from_db(40.0).unwrap().get(), 1e-4));
    }

    #[test]
    fn a_pairing_counts_its_comparisons() {
        let each = Pairing::EachWithEach { pictures: vec![3, 2, 1] };
        assert_eq!(each.impostors(&[1, 1, 1]), 3 * 2 + 3 + 2);
        assert_eq!(each.impostors(&[2, 0, 1]), 2 * 3);
        let probes = Pairing::ProbeWithTemplate { probes: vec![3, 2, 0], templates: vec![1, 1, 1] };
        assert_eq!(probes.impostors(&[1, 1, 1]), 3 * 2 + 2 * 2);
        assert_eq!(probes.impostors(&[1, 2, 0]), 3 * 2 + 4);
    }

    #[test]
    fn nothing_can_be_said_without_both_kinds() {
        let pairing = Pairing::EachWithEach { pictures: vec![1, 1] };
        let trial = Trial { score: 0.5, probe: 0, reference: 1 };
        assert!(Trials::new(Vec::new(), vec![trial], pairing.clone()).is_none());
        assert!(Trials::new(vec![trial], Vec::new(), pairing).is_none());
        assert!(trials(&[0.5], &[0.1]).estimate_weighted(&[0, 1], &[]).is_none());
    }

    /// By definition, with no cleverness.
    fn share(scores: &[f32], accepted: impl Fn(f32) -> bool) -> f64 {
        let count = scores.iter().filter(|score| accepted(**score)).count();
        count as f64 / scores.len() as f64
    }

    proptest! {
        #[test]
        fn an_operating_point_is_what_the_definition_says(
            // Few distinct values, so that ties are common.
            genuine in prop::collection::vec((0u8..40).prop_map(f32::from), 1..60),
            impostor in prop::collection::vec((0u8..40).prop_map(f32::from), 1..60),
            target in 0.001f64..0.999,
        ) {
            let point = trials(&genuine, &impostor).estimate(&[rate(target)]).points[0];
            let at = point.threshold;
            prop_assert!(near(point.fmr, share(&impostor, |score| score >= at)));
            prop_assert!(near(point.fnmr, share(&genuine, |score| score < at)));
            prop_assert!(point.fmr <= target);
            // One step lower accepts too many.
            let lower = share(&impostor, |score| score >= at.next_down());
            prop_assert!(lower > target);
        }

        #[test]
        fn a_looser_rate_never_refuses_more(
            genuine in prop::collection::vec(-1.0f32..1.0, 1..60),
            impostor in prop::collection::vec(-1.0f32..1.0, 1..60),
            a in 0.001f64..0.999,
            b in 0.001f64..0.999,
        ) {
            let (strict, loose) = if a < b { (a, b) } else { (b, a) };
            let estimate = trials(&genuine, &impostor).estimate(&[rate(strict), rate(loose)]);
            prop_assert!(estimate.points[0].fnmr >= estimate.points[1].fnmr);
            prop_assert!(estimate.points[0].threshold >= estimate.points[1].threshold);
        }

        #[test]
        fn at_the_equal_error_rate_neither_side_can_do_better(
            genuine in prop::collection::vec(-1.0f32..1.0, 1..60),
            impostor in prop::collection::vec(-1.0f32..1.0, 1..60),
        ) {
            let eer = trials(&genuine, &impostor).estimate(&[]).eer;
            prop_assert!((0.0..=1.0).contains(&eer));
            for at in genuine.iter().chain(&impostor) {
                let fmr = share(&impostor, |score| score >= *at);
                let fnmr = share(&genuine, |score| score < *at);
                prop_assert!(fmr.max(fnmr) >= eer - 1e-12);
                prop_assert!(fmr.min(fnmr) <= eer + 1e-12);
            }
        }

        #[test]
        fn a_weight_of_two_is_the_same_as_being_there_twice(
            genuine in prop::collection::vec((0u8..30).prop_map(f32::from), 1..30),
            impostor in prop::collection::vec((0u8..30).prop_map(f32::from), 1..30),
        ) {
            let once = trials(&genuine, &impostor);
            let doubled = trials(&[&genuine[..], &genuine].concat(), &[&impostor[..], &impostor].concat());
            let weighted = once.estimate_weighted(&[2, 1], &[rate(0.1)]);
            prop_assert_eq!(weighted, Some(doubled.estimate(&[rate(0.1)])));
        }
    }
}
