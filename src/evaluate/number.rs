//! The only casts between counts and fractions.

/// A count as a real number.
#[expect(clippy::cast_precision_loss, reason = "counts of comparisons stay far below 2^53")]
pub(super) const fn real(count: u64) -> f64 {
    count as f64
}

/// As [`real`], of a length.
#[expect(clippy::cast_precision_loss, reason = "lengths stay far below 2^53")]
pub(super) const fn real_len(length: usize) -> f64 {
    length as f64
}

/// `part / total`.
pub(super) fn fraction(part: u64, total: u64) -> f64 {
    real(part) / real(total)
}

/// The whole part of a number that is not negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float-to-int cast saturates; callers pass numbers that are not negative"
)]
pub(super) const fn whole(number: f64) -> u64 {
    number as u64
}

/// A cosine's mean or deviation at the precision in which it is kept.
#[expect(clippy::cast_possible_truncation, reason = "statistics are kept as scores are, in f32")]
pub(super) const fn narrow(number: f64) -> f32 {
    number as f32
}
