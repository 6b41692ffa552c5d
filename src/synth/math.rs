//! Arithmetic that gives the same bits on every machine.
//!
//! IEEE 754 fixes `+ - * / sqrt`, rounding and comparisons, and Rust neither reorders nor fuses them;
//! the sine of a system's library it does not fix. So what is needed of it stands here, of those.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the one place of pixel arithmetic; pictures are far below the 24 bits of an f32"
)]

use std::f32::consts::{FRAC_PI_2, FRAC_PI_4, PI, TAU};

/// Sine and cosine of an angle in radians, to 1e-6.
pub(super) fn sin_cos(angle: f32) -> (f32, f32) {
    (sin(angle), sin(angle + FRAC_PI_2))
}

/// Sine of an angle in radians, to 1e-6 within a few turns.
pub(super) fn sin(angle: f32) -> f32 {
    let turns = angle / TAU;
    let turn = turns - (turns + 0.5).floor();
    // Folded to the quarters around zero, where the series is short.
    let folded = if turn > 0.25 {
        0.5 - turn
    } else if turn < -0.25 {
        -0.5 - turn
    } else {
        turn
    };
    let x = folded * TAU;
    let square = x * x;
    let tail = square * (1.0 / 362_880.0 - square / 39_916_800.0);
    x * (1.0 - square * (1.0 / 6.0 - square * (1.0 / 120.0 - square * (1.0 / 5_040.0 - tail))))
}

/// The angle of a direction, -π to π, to 1e-5.
pub(super) fn atan2(y: f32, x: f32) -> f32 {
    let (small, large) = (x.abs().min(y.abs()), x.abs().max(y.abs()));
    if large <= 0.0 {
        return 0.0;
    }
    let first = octant(small / large);
    let quadrant = if y.abs() > x.abs() { FRAC_PI_2 - first } else { first };
    let half = if x < 0.0 { PI - quadrant } else { quadrant };
    if y < 0.0 { -half } else { half }
}

/// The arc tangent of 0 to 1: one step of halving the angle, then the series.
fn octant(tangent: f32) -> f32 {
    let (base, rest) = if tangent > 0.414_213_57 {
        (FRAC_PI_4, (tangent - 1.0) / (tangent + 1.0))
    } else {
        (0.0, tangent)
    };
    let square = rest * rest;
    let tail = square * (1.0 / 9.0 - square / 11.0);
    base + rest * (1.0 - square * (1.0 / 3.0 - square * (1.0 / 5.0 - square * (1.0 / 7.0 - tail))))
}

/// `e` to the power of a number that is not positive.
pub(super) fn exp(power: f32) -> f32 {
    let part = power.max(-80.0) / 256.0;
    let mut value = 1.0 + part * (1.0 + part * (0.5 + part / 6.0));
    for _ in 0..8 {
        value *= value;
    }
    value
}

/// From 0 to 1, steepest at 0 and half there: a soft threshold.
pub(super) fn soft_step(x: f32) -> f32 {
    0.5 + 0.5 * x / (1.0 + x * x).sqrt()
}

/// A number of pixels as a coordinate.
pub(super) fn real(pixels: usize) -> f32 {
    pixels as f32
}

/// The whole part of a coordinate, from 0 to `last`.
pub(super) fn index(coordinate: f32, last: usize) -> usize {
    (coordinate.max(0.0) as usize).min(last)
}

/// The nearest whole number, within what an `i16` holds.
pub(super) fn to_i16(value: f32) -> i16 {
    value.round() as i16
}

/// A brightness, 0 to 1, as a byte.
pub(super) fn to_byte(brightness: f32) -> u8 {
    (brightness * 255.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_are_those_of_their_names() {
        for step in -2000i16..=2000 {
            let x = f32::from(step) * 0.005;
            let (sine, cosine) = sin_cos(x);
            assert!((sine - x.sin()).abs() < 2e-6 && (cosine - x.cos()).abs() < 3e-6, "{x}");
            let turned = atan2(2.0 * sine, 2.0 * cosine) - sine.atan2(cosine);
            assert!(turned.abs() < 2e-5 || (turned.abs() - TAU).abs() < 2e-5, "{x}");
            assert!((exp(-x.abs()) - (-x.abs()).exp()).abs() < 1e-4, "{x}");
        }
        assert!(atan2(0.0, 0.0).abs() < f32::EPSILON);
    }
}
