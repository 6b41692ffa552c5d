//! A minutia's nearest neighbours, as the minutia itself sees them.

#![expect(
    clippy::cast_possible_truncation,
    reason = "scaled to 16 bits: every bound is beside its scale"
)]

use std::f32::consts::TAU;

use zeroize::Zeroize;

/// Neighbours that are kept: what one 128-bit register holds. More reach further, where stretched
/// skin no longer agrees, and find more agreement by chance.
pub(super) const NEIGHBOURS: usize = 8;

/// Neighbours, nearest first. Sixteen-bit numbers: angles wrap round by themselves.
#[derive(Clone, Copy, PartialEq, Zeroize)]
pub(super) struct Neighbourhood {
    /// How far, in 2⁻⁶ pixels; [`NOBODY`] in places that are not in use.
    distance: [i16; NEIGHBOURS],
    /// In which bearing from the minutia's own direction, in 2⁻¹⁶ of a turn.
    bearing: [i16; NEIGHBOURS],
    /// The neighbour's direction from the minutia's own, in 2⁻¹⁶ of a turn.
    direction: [i16; NEIGHBOURS],
    count: u8,
}

impl Neighbourhood {
    /// Of (pixels, radians, radians), nearest first; what is beyond [`NEIGHBOURS`] is left out.
    pub(super) fn new(nearest: impl Iterator<Item = (f32, f32, i16)>) -> Self {
        let mut made = Self {
            distance: [NOBODY; NEIGHBOURS],
            bearing: [0; NEIGHBOURS],
            direction: [0; NEIGHBOURS],
            count: 0,
        };
        let places = made.distance.iter_mut().zip(&mut made.bearing).zip(&mut made.direction);
        for ((pixels, bearing, direction), ((d, b), r)) in nearest.zip(places) {
            *d = (pixels * DISTANCE_STEPS) as i16;
            *b = turn(bearing);
            *r = direction;
            made.count += 1;
        }
        made
    }

    /// How many neighbours.
    pub(super) const fn count(&self) -> u8 {
        self.count
    }

    /// How many of the other's neighbours are where this one has one too, each counted by how well it
    /// fits: [`WHOLE`] for exactly, nothing at the edge of the tolerances.
    #[inline]
    pub(super) fn shared(&self, tolerances: &Tolerances, other: &Self) -> i32 {
        let mut best = [0i16; NEIGHBOURS];
        let own = self.distance.iter().zip(&self.bearing).zip(&self.direction);
        let scales = tolerances.distance.iter().zip(&tolerances.bearing);
        for (((d, b), r), (d_scale, b_scale)) in own.zip(scales).take(usize::from(self.count)) {
            let theirs = other.distance.iter().zip(&other.bearing).zip(&other.direction);
            for (best, ((their_d, their_b), their_r)) in best.iter_mut().zip(theirs) {
                let far = steps(their_d.saturating_sub(*d), *d_scale);
                let aside = steps(their_b.wrapping_sub(*b), *b_scale);
                let turned = steps(their_r.wrapping_sub(*r), DIRECTION_SCALE);
                let fit = WHOLE - (far * far + aside * aside + turned * turned);
                *best = (*best).max(fit);
            }
        }
        best.iter().map(|fit| i32::from(*fit)).sum()
    }
}

/// What makes [`EDGE`] of each of a neighbourhood's tolerances.
#[derive(Clone, Copy, Zeroize)]
pub(super) struct Tolerances {
    distance: [i16; NEIGHBOURS],
    bearing: [i16; NEIGHBOURS],
}

impl Tolerances {
    /// The tolerances around a neighbourhood.
    pub(super) fn of(neighbourhood: &Neighbourhood) -> Self {
        let pixels = |steps: i16| f32::from(steps.max(0)) / DISTANCE_STEPS;
        let distance = neighbourhood.distance.map(|steps| {
            let tolerance = RADIAL_PX + RADIAL_SHARE * pixels(steps);
            (EDGE * POWER / (tolerance * DISTANCE_STEPS)) as i16
        });
        let bearing = neighbourhood.distance.map(|steps| {
            let pixels = pixels(steps);
            let radians = (TANGENTIAL_PX + TANGENTIAL_SHARE * pixels) / pixels.max(NEAR_PX);
            (EDGE * POWER / (radians * TURN_STEPS / TAU)) as i16
        });
        Self { distance, bearing }
    }
}

/// Radians as 2⁻¹⁶ of a turn.
pub(super) fn turn(radians: f32) -> i16 {
    let steps = (radians / TAU).rem_euclid(1.0) * TURN_STEPS;
    // A turn that rounds up to a whole one is none, which is what wrapping to 16 bits says.
    (steps.round() as i32) as i16
}

/// A difference in parts of its tolerance, [`EDGE`] at the edge of it and no more than a little beyond.
#[inline]
fn steps(difference: i16, scale: i16) -> i16 {
    // The bits of a negative number flipped: its size less one, and never an overflow.
    let size = difference ^ (difference >> 15);
    ((i32::from(size) * i32::from(scale)) >> 16).min(BEYOND) as i16
}

/// A fit without any difference: [`EDGE`] squared, so that the sum of three squares stays in 16 bits.
pub(super) const WHOLE: i16 = 10_000;

/// Parts of a tolerance.
const EDGE: f32 = 100.0;

/// Above [`EDGE`], and three times its square still below 2¹⁵.
const BEYOND: i32 = 104;

/// The shift that follows a multiplication.
const POWER: f32 = 65_536.0;

/// Steps of a turn.
const TURN_STEPS: f32 = 65_536.0;

/// Steps of a pixel: 511 pixels fit in 16 bits.
const DISTANCE_STEPS: f32 = 64.0;

/// Further from every neighbour than any tolerance.
const NOBODY: i16 = -32_000;

/// A ridge's width: how far apart two finders put the same minutia at most.
const RADIAL_PX: f32 = 9.0;

/// How much skin stretches.
const RADIAL_SHARE: f32 = 0.06;

/// Sideways the error of the minutia's own direction comes on top.
const TANGENTIAL_PX: f32 = 14.0;
const TANGENTIAL_SHARE: f32 = 0.08;

/// Nearer than this a bearing says nothing.
const NEAR_PX: f32 = 15.0;

/// Two directions, each known to about 10°, differ by no more: 0.65 rad.
const DIRECTION_SCALE: i16 = (EDGE * POWER / (0.65 * TURN_STEPS / TAU)) as i16;
