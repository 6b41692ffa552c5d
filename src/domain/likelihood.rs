//! Evidence that adds up: the log-likelihood ratio of a score, its sum over fingers and face, and the
//! strength that such a sum can claim.
//!
//! A ratio says how many times likelier a score is when the same person gave both captures than when
//! another did. Of characteristics that are independent, given which of the two it is, ratios multiply
//! and their logarithms add.
//!
//! What a sum is worth needs no fitted curve. For an impostor a likelihood ratio is 1 in the mean, and
//! so is a product of independent ones; what is never negative and 1 in the mean reaches `x` with a
//! probability of at most `1/x` (Markov). So a sum of `s` nats claims a false match rate of `e⁻ˢ`, and
//! no more. This is safe rather than sharp: one finger's calibrated table often allows more than the
//! bound, so read one characteristic in its table and only several in the sum.

use std::f32::consts::LN_10;
use std::iter::Sum;

use super::score::{MatchScore, OutOfRange, Strength};

/// The natural logarithm of a likelihood ratio: above 0 for the claimed person, below 0 against.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Default)]
pub struct LogLikelihoodRatio(f32);

impl LogLikelihoodRatio {
    /// Says nothing either way.
    pub const NONE: Self = Self(0.0);

    /// Checks a number of nats.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] for NaN and infinities.
    pub fn new(nats: f32) -> Result<Self, OutOfRange> {
        if nats.is_finite() { Ok(Self(nats)) } else { Err(OutOfRange) }
    }

    /// In nats.
    #[must_use]
    pub const fn nats(self) -> f32 {
        self.0
    }

    /// The strength that the ratio, or a sum of independent ones, can claim: −10·log10 of the bound on
    /// the false match rate, never above [`Strength::MAX`].
    #[must_use]
    pub fn strength(self) -> Strength {
        Strength::from_tenths(tenths(self.0 * 10.0 / LN_10))
    }
}

impl LogLikelihoodRatio {
    /// The logarithm of the mean of several ratios: what several impressions of one characteristic say. They are
    /// not independent, so they do not multiply; but a mean of what is 1 in the mean for an impostor is so too.
    #[must_use]
    pub fn mean(ratios: &[Self]) -> Self {
        let most = ratios.iter().map(|ratio| ratio.0).fold(f32::NEG_INFINITY, f32::max);
        let Ok(count) = u16::try_from(ratios.len()) else { return Self::NONE };
        if count == 0 {
            return Self::NONE;
        }
        // The largest taken out, so that nothing overflows.
        let sum: f32 = ratios.iter().map(|ratio| (ratio.0 - most).exp()).sum();
        Self(most + (sum / f32::from(count)).ln())
    }
}

/// Of independent characteristics: different fingers, a finger and the face. Two captures of one finger
/// are not independent; of these only the mean counts.
impl Sum for LogLikelihoodRatio {
    fn sum<I: Iterator<Item = Self>>(ratios: I) -> Self {
        // Within what a float holds, so that a long sum stays a number.
        Self(ratios.map(|ratio| ratio.0).sum::<f32>().clamp(f32::MIN, f32::MAX))
    }
}

/// From a score to its log-likelihood ratio, for one characteristic and one way of comparing: frozen
/// steps, each from its score on, so that between two measured scores the lower claim stands.
#[derive(Clone, PartialEq, Debug)]
pub struct LikelihoodMap {
    steps: Vec<(f32, f32)>,
}

/// Steps that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidLikelihood {
    /// None, or more than 1,024.
    #[error("a likelihood map has 1 to 1024 steps")]
    Length,
    /// A NaN, an infinity, or a ratio beyond what 60 dB stand for.
    #[error("a likelihood step is not finite or outside 60 dB either way")]
    Range,
    /// Scores must rise from step to step, ratios must not fall.
    #[error("a likelihood map does not rise")]
    Order,
}

impl LikelihoodMap {
    /// Checks steps of (score from which it holds, nats).
    ///
    /// # Errors
    ///
    /// [`InvalidLikelihood`] when there are too few or many, out of range, or not monotone.
    pub fn new(steps: Vec<(f32, f32)>) -> Result<Self, InvalidLikelihood> {
        if !(1..=STEPS_MAX).contains(&steps.len()) {
            return Err(InvalidLikelihood::Length);
        }
        let is_held =
            |(score, nats): &(f32, f32)| score.is_finite() && (-NATS_MAX..=NATS_MAX).contains(nats);
        if !steps.iter().all(is_held) {
            return Err(InvalidLikelihood::Range);
        }
        let rises = steps.iter().zip(steps.iter().skip(1)).all(|(a, b)| a.0 < b.0 && a.1 <= b.1);
        if rises { Ok(Self { steps }) } else { Err(InvalidLikelihood::Order) }
    }

    /// The ratio of a score; below the first step that step's, which is the lowest.
    #[must_use]
    pub fn ratio(&self, score: MatchScore) -> LogLikelihoodRatio {
        let above = self.steps.partition_point(|step| step.0 <= score.get());
        let step = self.steps.get(above.saturating_sub(1));
        step.map_or(LogLikelihoodRatio::NONE, |step| LogLikelihoodRatio(step.1))
    }

    /// The steps, rising: (score from which it holds, nats).
    #[must_use]
    pub fn steps(&self) -> &[(f32, f32)] {
        &self.steps
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=600 before, so the cast is exact"
)]
fn tenths(db: f32) -> u16 {
    (db * 10.0).floor().clamp(0.0, 600.0) as u16
}

const STEPS_MAX: usize = 1024;

/// 60 dB in nats, rounded up.
const NATS_MAX: f32 = 13.82;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ratio(nats: f32) -> LogLikelihoodRatio {
        LogLikelihoodRatio::new(nats).unwrap()
    }

    fn score(value: f32) -> MatchScore {
        MatchScore::new(value).unwrap()
    }

    #[test]
    fn two_characteristics_add_their_decibels() {
        // A little over a thousand is 30 dB.
        let thousand = ratio(1_005f32.ln());
        assert_eq!(thousand.strength().db(), 30);
        let both: LogLikelihoodRatio = [thousand, ratio(100.5f32.ln())].into_iter().sum();
        assert_eq!(both.strength().db(), 50);
        let against: LogLikelihoodRatio = [thousand, ratio(-20.0)].into_iter().sum();
        assert_eq!(against.strength(), Strength::NONE);
    }

    #[test]
    fn nothing_claims_more_than_60_db() {
        let many: LogLikelihoodRatio = [ratio(13.0); 10].into_iter().sum();
        assert_eq!(many.strength(), Strength::MAX);
        let endless: LogLikelihoodRatio = [ratio(f32::MAX); 3].into_iter().sum();
        assert_eq!(endless.strength(), Strength::MAX);
        assert!(endless.nats().is_finite());
        assert_eq!(LogLikelihoodRatio::NONE.strength(), Strength::NONE);
        assert!(LogLikelihoodRatio::new(f32::NAN).is_err());
    }

    #[test]
    fn several_impressions_say_what_their_ratios_say_in_the_mean() {
        let mean = |nats: &[f32]| {
            LogLikelihoodRatio::mean(&nats.iter().map(|nats| ratio(*nats)).collect::<Vec<_>>())
                .nats()
        };
        assert!((mean(&[8.0]) - 8.0).abs() < 1e-6);
        // One that speaks loudly among three counts a third.
        assert!((mean(&[8.0, -7.0, -7.0]) - (8.0 - 3f32.ln())).abs() < 1e-5);
        assert!((mean(&[-7.0, -7.0]) + 7.0).abs() < 1e-6);
        assert_eq!(LogLikelihoodRatio::mean(&[]), LogLikelihoodRatio::NONE);
    }

    #[test]
    fn a_score_takes_the_step_below_it() {
        let map = LikelihoodMap::new(vec![(0.1, -4.0), (0.2, 1.0), (0.5, 8.0)]).unwrap();
        for (at, nats) in [(-1.0, -4.0), (0.1, -4.0), (0.199, -4.0), (0.2, 1.0), (9.0, 8.0)] {
            assert_eq!(map.ratio(score(at)), ratio(nats), "{at}");
        }
    }

    #[test]
    fn steps_that_fall_or_claim_too_much_are_refused() {
        let refused = |steps: &[(f32, f32)]| LikelihoodMap::new(steps.to_vec()).unwrap_err();
        assert_eq!(refused(&[]), InvalidLikelihood::Length);
        assert_eq!(refused(&[(0.0, 14.0)]), InvalidLikelihood::Range);
        assert_eq!(refused(&[(f32::NAN, 0.0)]), InvalidLikelihood::Range);
        assert_eq!(refused(&[(0.0, 0.0), (0.0, 1.0)]), InvalidLikelihood::Order);
        assert_eq!(refused(&[(0.0, 1.0), (1.0, 0.0)]), InvalidLikelihood::Order);
    }

    proptest! {
        #[test]
        fn more_likeness_is_never_less_evidence(a in -1.0f32..1.0, b in -1.0f32..1.0) {
            let map = LikelihoodMap::new(vec![(-0.3, -2.0), (0.0, 0.5), (0.4, 3.0)]).unwrap();
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            prop_assert!(map.ratio(score(low)) <= map.ratio(score(high)));
            prop_assert!(
                map.ratio(score(low)).strength() <= map.ratio(score(high)).strength());
        }
    }
}
