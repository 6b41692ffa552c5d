//! Eight bits a number, and a bound on what that hides.
//!
//! A vector `v` of `W` numbers is coded as `v̂ = s·q`: a scale `s`, and whole numbers `q` from -127 to
//! 127. With it are kept `e ≥ ‖v - v̂‖`, what the code leaves out, and `n ≥ ‖v̂‖`. The scan has the exact
//! integer `D = Σ q_p·q_r` of a probe `p` and a row `r`, so it knows `⟨p̂, r̂⟩ = s_p·s_r·D`. It may leave a
//! row alone only if the score that the full comparison would compute cannot reach the bar.
//!
//! # What the bound says, and why it holds
//!
//! The comparison computes `score = fl(fl⟨p, r⟩ + o)` in 32-bit floats, `o` being the fusion's constant
//! part, and `u = 2⁻²⁴` the most by which a result is rounded, relative to its size. Suppose `score ≥ L`.
//!
//! 1. A sum rounds up by less than the gap below `L`, so `fl⟨p, r⟩ + o ≥ L - 2u·|L|`.
//! 2. However `W` products are added, no product is rounded more than `W` times on its way (the sum's
//!    first terms, 0, round nothing; 16 more are allowed for), so by Higham, "Accuracy and Stability of
//!    Numerical Algorithms", section 3.1, and Cauchy and Schwarz,
//!    `|fl⟨p, r⟩ - ⟨p, r⟩| ≤ γ·Σ|p_i·r_i| ≤ γ·‖p‖·‖r‖ ≤ γ·‖p‖·(n_r + e_r)`, with `m = W + 16` and
//!    `γ = m·u / (1 - m·u)`.
//! 3. `⟨p, r⟩ - ⟨p̂, r̂⟩ = ⟨p, r - r̂⟩ + ⟨p - p̂, r̂⟩ ≤ ‖p‖·e_r + e_p·n_r`, again by Cauchy and Schwarz.
//!
//! Together, divided by `s_p`:
//!
//! ```text
//! s_r·D ≥ (L - 2u·|L| - o) / s_p - e_r·‖p‖·(1 + γ) / s_p - n_r·(e_p + γ·‖p‖) / s_p
//! ```
//!
//! 4. The scan computes `fl(fl(D)·s_r)`, two roundings, which moves it by at most `3u·s_r·|D|`, and
//!    `s_r·|D| = |⟨q_p, r̂⟩| ≤ n_r·‖p̂‖ / s_p ≤ n_r·(‖p‖ + e_p) / s_p`: one more addend for `n_r`.
//!
//! So a row is a candidate unless what was computed lies under `at - e_r·by_error - n_r·by_norm`, the
//! [`Bar`]. That limit is computed in floats too, with four roundings, each of at most `u` of an
//! intermediate result. The two factors are made larger by `8u`, and `at` smaller by `4u·|at|`, which
//! is more than the roundings can add and leaves room for those of the 64-bit floats in which the three
//! numbers are made, and for products too small to have all their digits (with `at` near 0,
//! [`f32::MIN_POSITIVE`] is taken off for these). Norms are rounded up. A comparison with NaN makes a
//! candidate, as do infinities, so that nothing is left out where arithmetic ends.
//!
//! A candidate is compared in full, and that comparison alone counts. So hits, scores and their order
//! are those of a scan that compares everybody in full.

use zeroize::Zeroize;

use super::kernels::QUAD;

/// A vector in eight bits a number.
pub(super) struct Coded {
    /// Whole numbers from -127 to 127; zeros at the end make their count a multiple of four.
    pub codes: Vec<i8>,
    pub fit: Fit,
}

/// How a code stands to its vector.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fit {
    /// What a code's 1 stands for; 0 when every code is 0.
    pub scale: f32,
    /// At least the length of the difference.
    pub error: f32,
    /// At least the length of the coded vector.
    pub norm: f32,
}

impl Coded {
    /// Codes a vector.
    pub(super) fn of(values: &[f32]) -> Self {
        let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        // Below the range no inverse is finite; the code is 0 then, and the error the vector's length.
        let scale = if CODED.contains(&largest) { largest / CODE_MAX } else { 0.0 };
        let inverse = if scale > 0.0 { scale.recip() } else { 0.0 };
        let mut codes = Vec::with_capacity(values.len().next_multiple_of(QUAD));
        let (mut error, mut norm) = (0.0f64, 0.0f64);
        for value in values {
            let code = nearest(value * inverse);
            let kept = f64::from(scale) * f64::from(code);
            error += (f64::from(*value) - kept).powi(2);
            norm += kept * kept;
            codes.push(code);
        }
        codes.resize(values.len().next_multiple_of(QUAD), 0);
        Self { codes, fit: Fit { scale, error: root_above(error), norm: root_above(norm) } }
    }
}

impl Drop for Coded {
    fn drop(&mut self) {
        self.codes.zeroize();
    }
}

/// A probe's part of the bound: everything about it but the bar.
pub(super) struct Reach {
    scale: f64,
    by_error: f32,
    by_norm: f32,
}

impl Reach {
    /// Of a probe and its code.
    pub(super) fn new(probe: &[f32], coded: &Coded) -> Self {
        let Fit { scale, error, .. } = coded.fit;
        let (scale, error) = (f64::from(scale), f64::from(error));
        let norm =
            f64::from(root_above(probe.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>()));
        let rounded = f64::from(u16::try_from(probe.len() + 16).unwrap_or(u16::MAX)) * UNIT;
        let gamma = rounded / (1.0 - rounded);
        let by_error = norm * (1.0 + gamma) / scale;
        let by_norm = (error + gamma * norm + 3.0 * UNIT * (norm + error)) / scale;
        let enlarged = |factor: f64| above(factor * (1.0 + 8.0 * UNIT));
        Self { scale, by_error: enlarged(by_error), by_norm: enlarged(by_norm) }
    }

    /// The bar for a score of at least `score_min`, of which `offset` is the constant part.
    pub(super) fn bar(&self, score_min: f32, offset: f32) -> Bar {
        let score_min = f64::from(score_min);
        let product_min = score_min - 2.0 * UNIT * score_min.abs() - f64::from(offset);
        let at = (product_min - f64::from(f32::MIN_POSITIVE)) / self.scale;
        let at = at - 4.0 * UNIT * at.abs() - f64::from(f32::MIN_POSITIVE);
        Bar { at: below(at), by_error: self.by_error, by_norm: self.by_norm }
    }
}

/// What a row's scaled integer must reach for the row to be a candidate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bar {
    at: f32,
    by_error: f32,
    by_norm: f32,
}

impl Bar {
    /// The limit for rows whose codes leave out at most `error` and are at most `norm` long.
    pub(super) fn limit(self, error: f32, norm: f32) -> f32 {
        self.at - self.by_error * error - self.by_norm * norm
    }
}

/// The largest code. -128 is left out, so that a code's size fits into seven bits.
const CODE_MAX: f32 = 127.0;

/// Largest numbers of the vectors that are coded; the templates' are between 0.1 and 10.
const CODED: std::ops::RangeInclusive<f32> = 1e-30..=1e30;

/// Half the distance from 1 to the next 32-bit float.
const UNIT: f64 = 0.5 * (f32::EPSILON as f64);

#[expect(clippy::cast_possible_truncation, reason = "clamped before, and cut off on purpose")]
fn nearest(number: f32) -> i8 {
    // Not `round`: without SSE4.1 that is a call for each number.
    (number + 0.5f32.copysign(number)).clamp(-CODE_MAX, CODE_MAX) as i8
}

/// A float at least the root of a sum of squares, whose own rounding is below 2⁻⁴⁰.
fn root_above(sum: f64) -> f32 {
    if sum.is_finite() { above(sum.sqrt() * (1.0 + 1e-12)) } else { f32::INFINITY }
}

#[expect(clippy::cast_possible_truncation, reason = "rounded away from what was cut off")]
fn above(number: f64) -> f32 {
    if number == 0.0 { 0.0 } else { (number as f32).next_up() }
}

#[expect(clippy::cast_possible_truncation, reason = "rounded away from what was cut off")]
fn below(number: f64) -> f32 {
    (number as f32).next_down()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_fit_bounds_what_its_codes_leave_out(
            values in prop::collection::vec(-1.0f32..1.0, 1..300),
            power in prop::sample::select(vec![0.0f32, 1e-40, 1e-31, 1e-20, 1.0, 1e20, 1e31, 3e38]),
        ) {
            let values: Vec<f32> = values.into_iter().map(|value| value * power).collect();
            let Coded { codes, fit } = &Coded::of(&values);
            prop_assert!(codes.len().is_multiple_of(QUAD));
            prop_assert!(codes.iter().all(|code| *code >= -127));
            let value_of = |code: i8| f64::from(fit.scale) * f64::from(code);
            let length = |squares: f64| squares.sqrt() * (1.0 - 1e-12);
            let left: f64 =
                values.iter().zip(codes).map(|(v, code)| (f64::from(*v) - value_of(*code)).powi(2)).sum();
            let kept: f64 = codes.iter().map(|code| value_of(*code).powi(2)).sum();
            prop_assert!(f64::from(fit.error) >= length(left));
            prop_assert!(f64::from(fit.norm) >= length(kept));
            // And it is not merely large: half a step a number at most, but for the smallest.
            let steps = f64::from(fit.scale) * 0.5001 * (values.len() as f64).sqrt();
            prop_assert!(f64::from(fit.error) <= steps || fit.scale == 0.0);
        }

        #[test]
        fn a_pair_s_own_score_never_rules_it_out(
            pair in prop::collection::vec((-1.0f32..1.0, -1.0f32..1.0), 1..300),
            offset in -10.0f32..10.0,
            (a_power, b_power) in (-20i32..20, -20i32..20),
        ) {
            let (a, b): (Vec<f32>, Vec<f32>) =
                pair.iter().map(|(a, b)| (a * 2.0f32.powi(a_power), b * 2.0f32.powi(b_power))).unzip();
            let (probe, row) = (Coded::of(&a), Coded::of(&b));
            let score = super::super::scan::dot(&a, &b) + offset;
            let limit = Reach::new(&a, &probe).bar(score, offset).limit(row.fit.error, row.fit.norm);
            let sum: i32 =
                probe.codes.iter().zip(&row.codes).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
            prop_assert!(sum as f32 * row.fit.scale >= limit);
        }
    }
}
