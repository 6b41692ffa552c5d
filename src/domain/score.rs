//! From likeness to evidence: similarity, fused score, and strength as a false match rate.

use std::collections::BTreeMap;
use std::fmt;

use super::embedding::ModelId;
use super::likelihood::LikelihoodMap;

/// A number outside the range that its meaning allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a score is not finite or out of its range")]
pub struct OutOfRange;

/// Cosine of the angle between two embeddings, -1 to 1.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub struct Similarity(f32);

impl Similarity {
    /// Checks a cosine.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] for NaN, infinities, and values outside -1..=1: a model that yields them is
    /// broken, and a broken model must not approve anybody.
    pub fn new(similarity: f32) -> Result<Self, OutOfRange> {
        // Comparisons with NaN are false, so NaN is refused here too.
        if (-1.0..=1.0).contains(&similarity) { Ok(Self(similarity)) } else { Err(OutOfRange) }
    }

    /// The cosine.
    #[must_use]
    pub const fn get(self) -> f32 {
        self.0
    }
}

/// The fused score of one comparison, in deviations of the impostors' scores.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub struct MatchScore(f32);

impl MatchScore {
    /// Checks a fused score.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] for NaN and infinities.
    pub fn new(score: f32) -> Result<Self, OutOfRange> {
        if score.is_finite() { Ok(Self(score)) } else { Err(OutOfRange) }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> f32 {
        self.0
    }
}

/// How strong a match is: -10·log10 of the false match rate at its score, in decibels.
///
/// 40 dB means that one impostor in 10,000 scores as high. Never above 60 dB: the pairs behind the
/// calibration support no claim below a rate of 1e-6. Kept in whole tenths of a decibel, rounded
/// down.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Strength(u16);

impl Strength {
    /// No evidence at all.
    pub const NONE: Self = Self(0);

    /// The strongest claim that is made.
    pub const MAX: Self = Self(600);

    /// So many whole decibels, at most 60.
    #[must_use]
    pub const fn from_db(decibels: u8) -> Self {
        let tenths = decibels as u16 * 10;
        if tenths > Self::MAX.0 { Self::MAX } else { Self(tenths) }
    }

    /// So many tenths of a decibel, at most 600.
    #[must_use]
    pub const fn from_tenths(tenths: u16) -> Self {
        if tenths > Self::MAX.0 { Self::MAX } else { Self(tenths) }
    }

    /// Whole decibels, rounded down: what rules compare and receipts state.
    #[must_use]
    pub fn db(self) -> i64 {
        i64::from(self.0 / 10)
    }

    /// The strength of the best of so many comparisons: an impostor has as many chances, so the false match
    /// rate is at most so many times as high (Bonferroni).
    #[must_use]
    pub fn of_best_of(self, comparisons: usize) -> Self {
        let chances = u16::try_from(comparisons.max(1)).unwrap_or(u16::MAX);
        Self(self.0.saturating_sub(tenths_of_factor(chances)))
    }

    /// Tenths of a decibel.
    #[must_use]
    pub fn tenths(self) -> i64 {
        i64::from(self.0)
    }
}

impl fmt::Display for Strength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} dB", self.0 / 10, self.0 % 10)
    }
}

/// One model's share in the fused score.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct FusionTerm {
    weight: f32,
    mean: f32,
    deviation: f32,
}

impl FusionTerm {
    /// A weight, and the mean and deviation of this model's impostor similarities, frozen when the
    /// calibration was made.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] unless the weight is in 0..=1, the mean in -1..=1 and the deviation in
    /// 0.001..=1.
    pub fn new(weight: f32, mean: f32, deviation: f32) -> Result<Self, OutOfRange> {
        let held = (0.0..=1.0).contains(&weight)
            && (-1.0..=1.0).contains(&mean)
            && (0.001..=1.0).contains(&deviation);
        if held { Ok(Self { weight, mean, deviation }) } else { Err(OutOfRange) }
    }

    /// Its share of the fused score.
    #[must_use]
    pub const fn weight(self) -> f32 {
        self.weight
    }

    /// The term's slope: what one unit of similarity adds to the fused score.
    #[must_use]
    pub fn slope(self) -> f32 {
        self.weight / self.deviation
    }

    fn of(self, similarity: Similarity) -> f32 {
        self.slope() * (similarity.get() - self.mean)
    }
}

/// The weighted sum of z-normalised similarities.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Fusion {
    /// `SFace`'s share.
    pub sface: FusionTerm,
    /// The share of dlib's network.
    pub dlib: FusionTerm,
}

impl Fusion {
    /// Σ weight · (similarity − mean) / deviation. Always finite, because its parts are bounded.
    #[must_use]
    pub fn fuse(&self, sface: Similarity, dlib: Similarity) -> MatchScore {
        MatchScore(self.sface.of(sface) + self.dlib.of(dlib))
    }

    /// The constant part of the fused score: what two similarities of zero give.
    #[must_use]
    pub fn offset(&self) -> f32 {
        self.sface.of(Similarity(0.0)) + self.dlib.of(Similarity(0.0))
    }
}

/// A table from fused score to strength, for one way of making templates.
///
/// Between its points strength is linear in score; below the first there is none, above the last
/// it stays (nothing is claimed beyond what was measured).
#[derive(Clone, PartialEq, Debug)]
pub struct Calibration {
    points: Vec<(f32, f32)>,
}

/// A calibration table that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCalibration {
    /// Fewer than two points, or more than 1,024.
    #[error("a calibration table has 2 to 1024 points")]
    Length,
    /// A NaN, an infinity, or a strength outside 0 to 60 dB.
    #[error("a calibration point is not finite or outside 0 to 60 dB")]
    Range,
    /// Scores must rise from point to point, strengths must not fall.
    #[error("a calibration table does not rise")]
    Order,
}

impl Calibration {
    /// Checks a table of (fused score, decibels).
    ///
    /// # Errors
    ///
    /// [`InvalidCalibration`] when it is too short or long, out of range, or not monotone.
    pub fn new(points: Vec<(f32, f32)>) -> Result<Self, InvalidCalibration> {
        if !(2..=1024).contains(&points.len()) {
            return Err(InvalidCalibration::Length);
        }
        if !points.iter().all(|(score, db)| score.is_finite() && (0.0..=60.0).contains(db)) {
            return Err(InvalidCalibration::Range);
        }
        let rises = points.iter().zip(points.iter().skip(1)).all(|(a, b)| a.0 < b.0 && a.1 <= b.1);
        if rises { Ok(Self { points }) } else { Err(InvalidCalibration::Order) }
    }

    /// The strength of a score.
    #[must_use]
    pub fn strength(&self, score: MatchScore) -> Strength {
        let score = score.get();
        let above = self.points.partition_point(|point| point.0 <= score);
        let below = above.checked_sub(1).and_then(|index| self.points.get(index));
        let db = match (below, self.points.get(above)) {
            (None, _) => 0.0,
            (Some(last), None) => last.1,
            (Some(a), Some(b)) => a.1 + (b.1 - a.1) * (score - a.0) / (b.0 - a.0),
        };
        Strength(floor_tenths(db))
    }

    /// The lowest score that [`Self::strength`] reads as at least this strength, to the last bit;
    /// `None` when it reads none so.
    #[must_use]
    pub fn score_at(&self, strength: Strength) -> Option<MatchScore> {
        if strength == Strength::NONE {
            return Some(MatchScore(f32::MIN));
        }
        let reaches = |score: f32| self.strength(MatchScore(score)) >= strength;
        for (a, b) in self.points.iter().zip(self.points.iter().skip(1)) {
            if reaches(a.0) {
                return Some(MatchScore(a.0));
            }
            // From one point to the next every rounded step is monotone, so halving finds the place.
            let (mut below, mut at) = (rank(a.0), rank(b.0.next_down()));
            if !reaches(unranked(at)) {
                continue;
            }
            while at - below > 1 {
                let middle = i64::midpoint(below, at);
                if reaches(unranked(middle)) { at = middle } else { below = middle }
            }
            return Some(MatchScore(unranked(at)));
        }
        let last = self.points.last()?.0;
        reaches(last).then_some(MatchScore(last))
    }

    /// The points, rising: (fused score, decibels).
    #[must_use]
    pub fn points(&self) -> &[(f32, f32)] {
        &self.points
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=600 before, so the cast is exact"
)]
fn floor_tenths(db: f32) -> u16 {
    // The hundredth forgives rounding in the interpolation at the table's own points.
    (db * 10.0 + 0.01).floor().clamp(0.0, 600.0) as u16
}

/// A number's place in the order of all that a float can be.
fn rank(number: f32) -> i64 {
    i64::from(flipped(number.to_bits().cast_signed()))
}

/// The number at a place that [`rank`] gave, or at one between two of them.
fn unranked(place: i64) -> f32 {
    f32::from_bits(flipped(i32::try_from(place).unwrap_or(i32::MAX)).cast_unsigned())
}

/// Turns the order of negative floats' bits round, there and back.
const fn flipped(bits: i32) -> i32 {
    if bits < 0 { bits ^ i32::MAX } else { bits }
}

/// Everything that turns two faces into a strength, frozen together in the model manifest.
#[derive(Clone, PartialEq, Debug)]
pub struct MatchingParameters {
    /// How the two models' similarities are fused.
    pub fusion: Fusion,
    /// For one picture against one picture.
    pub single: Calibration,
    /// For one picture against a template of mirror-averaged captures.
    pub template: Calibration,
    /// The bar of the 1:N duplicate search.
    pub search_strength_min: Strength,
    /// The bar that captures of one enrolment must reach with each other.
    pub captures_agree_strength_min: Strength,
    /// What a score adds to that of fingers; none where faces are never compared beside fingers.
    pub likelihood: Option<FaceLikelihood>,
}

/// What a face's score adds to the evidence of fingers.
#[derive(Clone, PartialEq, Debug)]
pub struct FaceLikelihood {
    /// For one picture against one picture.
    pub single: LikelihoodMap,
    /// For one picture against a template.
    pub template: LikelihoodMap,
}

/// Everything that turns two impressions of a finger into a strength, for one model's minutiae.
#[derive(Clone, PartialEq, Debug)]
pub struct FingerMatchingParameters {
    /// For templates by the model itself.
    pub own: FingerTable,
    /// For templates of other systems, by their models, against prints by the model itself.
    pub foreign: BTreeMap<ModelId, FingerTable>,
    /// The bar of the 1:N duplicate search: a score, since it lies beyond what tables claim.
    pub search_score_min: MatchScore,
    /// The bar that impressions of one enrolment must reach with each other.
    pub captures_agree_strength_min: Strength,
}

/// What the score of two impressions says, alone and beside other characteristics.
#[derive(Clone, PartialEq, Debug)]
pub struct FingerTable {
    /// Alone: how often an impostor scores so high.
    pub calibration: Calibration,
    /// Beside others: what it adds to their sum.
    pub likelihood: LikelihoodMap,
}

/// A factor in tenths of a decibel, rounded up.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "100·log10 of a u16 lies between 0 and 482"
)]
fn tenths_of_factor(factor: u16) -> u16 {
    (f64::from(factor.max(1)).log10() * 100.0).ceil() as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table() -> Calibration {
        Calibration::new(vec![(0.0, 3.0), (1.0, 10.0), (4.0, 40.0), (6.0, 60.0)]).unwrap()
    }

    fn score(value: f32) -> MatchScore {
        MatchScore::new(value).unwrap()
    }

    #[test]
    fn scores_refuse_what_a_broken_model_yields() {
        for bad in [f32::NAN, f32::INFINITY, -1.001, 1.001] {
            assert_eq!(Similarity::new(bad), Err(OutOfRange));
        }
        assert_eq!(MatchScore::new(f32::NAN), Err(OutOfRange));
        assert!(Similarity::new(1.0).is_ok() && Similarity::new(-1.0).is_ok());
    }

    #[test]
    fn nothing_is_claimed_outside_the_table() {
        assert_eq!(table().strength(score(-0.1)), Strength::NONE);
        assert_eq!(table().strength(score(0.0)), Strength::from_db(3));
        assert_eq!(table().strength(score(4.0)), Strength::from_db(40));
        assert_eq!(table().strength(score(5.0)), Strength::from_db(50));
        assert_eq!(table().strength(score(1e30)), Strength::MAX);
        assert_eq!(Strength::from_db(200), Strength::MAX);
        assert_eq!(table().strength(score(3.999)).db(), 39);
    }

    #[test]
    fn a_table_that_falls_is_refused() {
        let refused = |points: &[(f32, f32)]| Calibration::new(points.to_vec()).unwrap_err();
        assert_eq!(refused(&[(0.0, 0.0)]), InvalidCalibration::Length);
        assert_eq!(refused(&[(0.0, 0.0), (1.0, 61.0)]), InvalidCalibration::Range);
        assert_eq!(refused(&[(0.0, f32::NAN), (1.0, 6.0)]), InvalidCalibration::Range);
        assert_eq!(refused(&[(0.0, 5.0), (1.0, 4.0)]), InvalidCalibration::Order);
        assert_eq!(refused(&[(1.0, 5.0), (1.0, 6.0)]), InvalidCalibration::Order);
    }

    #[test]
    fn the_best_of_ten_is_ten_decibels_weaker() {
        let strength = Strength::from_db(40);
        let left =
            [0, 1, 2, 10, 1_000, usize::MAX].map(|count| strength.of_best_of(count).tenths());
        assert_eq!(left, [400, 400, 369, 300, 100, 0]);
    }

    #[test]
    fn fusing_is_the_weighted_sum_of_normalised_similarities() {
        let fusion = Fusion {
            sface: FusionTerm::new(0.7, 0.1, 0.1).unwrap(),
            dlib: FusionTerm::new(0.3, 0.5, 0.05).unwrap(),
        };
        let fused = fusion.fuse(Similarity(0.5), Similarity(0.6)).get();
        assert!((fused - (0.7 * 4.0 + 0.3 * 2.0)).abs() < 1e-5);
        assert!((fusion.offset() + 3.7).abs() < 1e-5);
        assert!(FusionTerm::new(0.7, 0.0, 0.0).is_err());
        assert!(FusionTerm::new(f32::NAN, 0.0, 1.0).is_err());
    }

    proptest! {
        #[test]
        fn strength_never_falls_with_score(a in -2.0f32..8.0, b in -2.0f32..8.0) {
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            prop_assert!(table().strength(score(low)) <= table().strength(score(high)));
        }

        #[test]
        fn a_strength_s_score_reaches_it(tenths in 30u16..600) {
            let strength = Strength::from_tenths(tenths);
            let at = table().score_at(strength).unwrap();
            prop_assert!(table().strength(at) >= strength);
            prop_assert!(table().strength(score(at.get().next_down())) < strength);
        }

        #[test]
        fn no_score_below_a_strength_s_score_reads_as_strong(
            points in prop::collection::vec((-1e3f32..1e3, 0.0f32..60.0), 2..9),
            tenths in 0u16..600,
            low in -1e3f32..1e3,
        ) {
            let (mut scores, mut decibels): (Vec<_>, Vec<_>) = points.into_iter().unzip();
            scores.sort_by(f32::total_cmp);
            scores.dedup();
            decibels.sort_by(f32::total_cmp);
            prop_assume!(scores.len() >= 2);
            let table = Calibration::new(scores.into_iter().zip(decibels).collect()).unwrap();
            let strength = Strength::from_tenths(tenths);
            let reads = |score_: f32| table.strength(score(score_)) >= strength;
            match table.score_at(strength) {
                None => prop_assert!(!reads(low) && !reads(f32::MAX)),
                Some(at) => {
                    prop_assert!(reads(at.get()));
                    prop_assert!(tenths == 0 || !reads(at.get().next_down()));
                    prop_assert!(low >= at.get() || !reads(low));
                }
            }
        }
    }
}
