//! Activations that are curves: GELU and the logistic function.

#![expect(clippy::inline_always, reason = "registers do not cross a call")]

use super::simd::Simd;

/// An activation without parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Curve {
    /// x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2, the GELU that most networks are trained with.
    Gelu,
    /// 1/(1 + e⁻ˣ).
    Logistic,
}

impl Curve {
    /// The curve at each x; within 1e-6 of max(1, |x|).
    #[inline(always)]
    pub(super) fn at<S: Simd>(self, simd: S, x: S::V) -> S::V {
        match self {
            // (1 + tanh u)/2 = 1/(1 + e⁻²ᵘ): one exponential and one division.
            Self::Gelu => {
                let square = simd.mul(x, x);
                let cubic = simd.mul_add(square, simd.splat(GELU[1]), simd.splat(GELU[0]));
                simd.div(x, one_and_power(simd, simd.mul(x, cubic)))
            }
            Self::Logistic => {
                let power = simd.mul(x, simd.splat(-std::f32::consts::LOG2_E));
                simd.div(simd.splat(1.0), one_and_power(simd, power))
            }
        }
    }
}

/// 1 + 2ˣ; from 2¹²⁶ on the same. What is no number stays so: of two the processor gives the second.
#[inline(always)]
fn one_and_power<S: Simd>(simd: S, x: S::V) -> S::V {
    let x = simd.max(simd.splat(-126.0), simd.min(simd.splat(126.0), x));
    let whole = simd.round(x);
    let part = simd.mul_add(whole, simd.splat(-1.0), x);
    let mut sum = simd.splat(POWER[0]);
    for coefficient in POWER.into_iter().skip(1) {
        sum = simd.mul_add(sum, part, simd.splat(coefficient));
    }
    simd.add(simd.scale(sum, whole), simd.splat(1.0))
}

/// -2·√(2/π)·log₂e, and the same times 0.044715.
const GELU: [f32; 2] = [-2.302_208_2, -0.102_943_24];

/// 2ˣ from -½ to ½, the highest power first: Cephes' `exp2f`, by Stephen Moshier.
const POWER: [f32; 7] = [
    1.535_336_2e-4,
    1.339_887_5e-3,
    9.618_437e-3,
    5.550_332_5e-2,
    2.402_264_8e-1,
    6.931_472e-1,
    1.0,
];
