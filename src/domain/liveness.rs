//! How much a capture looks like a person and not like a picture of one.

use super::score::OutOfRange;

/// Probability, by the passive liveness models' mean, that a live person was before the camera.
///
/// One signal among others: never the only gate.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub struct LivenessScore(f32);

impl LivenessScore {
    /// Checks a probability.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] for NaN and values outside 0..=1.
    pub fn new(probability: f32) -> Result<Self, OutOfRange> {
        if (0.0..=1.0).contains(&probability) { Ok(Self(probability)) } else { Err(OutOfRange) }
    }

    /// The probability, 0 to 1.
    #[must_use]
    pub const fn get(self) -> f32 {
        self.0
    }

    /// Thousandths, rounded down: what rules, which know no fractions, compare.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "at most 1000 by construction")]
    pub fn per_mille(self) -> i64 {
        (self.0 * 1000.0).floor() as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_probability_is_a_liveness_score() {
        for bad in [f32::NAN, -0.001, 1.001, f32::INFINITY] {
            assert_eq!(LivenessScore::new(bad), Err(OutOfRange));
        }
        assert_eq!(LivenessScore::new(0.0).map(LivenessScore::per_mille), Ok(0));
        assert_eq!(LivenessScore::new(0.9999).map(LivenessScore::per_mille), Ok(999));
        assert_eq!(LivenessScore::new(1.0).map(LivenessScore::per_mille), Ok(1000));
    }
}
