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
        #[cfg(target_arch = "x86_64")]
        #[expect(
            unsafe_code,
            reason = "calling what every x86-64 has, but must be asked for by name"
        )]
        // SAFETY: SSE2 is part of x86-64 itself.
        return unsafe { registers::shared(self, tolerances, other) };
        #[cfg(not(target_arch = "x86_64"))]
        self.shared_plainly(tolerances, other)
    }

    /// The definition of [`Self::shared`].
    #[cfg(any(test, not(target_arch = "x86_64")))]
    fn shared_plainly(&self, tolerances: &Tolerances, other: &Self) -> i32 {
        let mut best = [0i16; NEIGHBOURS];
        for (d, b, r, d_scale, b_scale) in self.scaled(tolerances) {
            let theirs = other.distance.iter().zip(&other.bearing).zip(&other.direction);
            for (best, ((their_d, their_b), their_r)) in best.iter_mut().zip(theirs) {
                let far = steps(their_d.saturating_sub(d), d_scale);
                let aside = steps(their_b.wrapping_sub(b), b_scale);
                let turned = steps(their_r.wrapping_sub(r), DIRECTION_SCALE);
                let fit = WHOLE - (far * far + aside * aside + turned * turned);
                *best = (*best).max(fit);
            }
        }
        best.iter().map(|fit| i32::from(*fit)).sum()
    }

    /// Each neighbour's distance, bearing and direction, and the scales of the first two.
    #[inline]
    fn scaled(&self, tolerances: &Tolerances) -> impl Iterator<Item = (i16, i16, i16, i16, i16)> {
        let own = self.distance.iter().zip(&self.bearing).zip(&self.direction);
        let scales = tolerances.distance.iter().zip(&tolerances.bearing);
        own.zip(scales)
            .map(|(((d, b), r), (d_scale, b_scale))| (*d, *b, *r, *d_scale, *b_scale))
            .take(usize::from(self.count))
    }
}

/// The eight neighbours of the other side at once. Left to the compiler this became eight times as many
/// instructions whenever the code around it changed. None of these instructions touches memory.
#[cfg(target_arch = "x86_64")]
mod registers {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi16, _mm_add_epi32, _mm_cvtsi128_si32, _mm_madd_epi16, _mm_max_epi16,
        _mm_min_epi16, _mm_mulhi_epi16, _mm_mullo_epi16, _mm_set_epi16, _mm_set1_epi16,
        _mm_setzero_si128, _mm_shuffle_epi32, _mm_srai_epi16, _mm_sub_epi16, _mm_subs_epi16,
        _mm_xor_si128,
    };

    use super::{BEYOND, DIRECTION_SCALE, NEIGHBOURS, Neighbourhood, Tolerances, WHOLE};

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn shared(own: &Neighbourhood, scales: &Tolerances, other: &Neighbourhood) -> i32 {
        let (distance, bearing) = (load(&other.distance), load(&other.bearing));
        let direction = load(&other.direction);
        let direction_scale = _mm_set1_epi16(DIRECTION_SCALE);
        let mut best = _mm_setzero_si128();
        for (d, b, r, d_scale, b_scale) in own.scaled(scales) {
            let far = _mm_subs_epi16(distance, _mm_set1_epi16(d));
            let aside = _mm_sub_epi16(bearing, _mm_set1_epi16(b));
            let turned = _mm_sub_epi16(direction, _mm_set1_epi16(r));
            let squares = _mm_add_epi16(
                _mm_add_epi16(
                    square(far, _mm_set1_epi16(d_scale)),
                    square(aside, _mm_set1_epi16(b_scale)),
                ),
                square(turned, direction_scale),
            );
            best = _mm_max_epi16(best, _mm_sub_epi16(_mm_set1_epi16(WHOLE), squares));
        }
        // Two by two into 32 bits, then the four together.
        let pairs = _mm_madd_epi16(best, _mm_set1_epi16(1));
        let halves = _mm_add_epi32(pairs, _mm_shuffle_epi32::<0b00_00_11_10>(pairs));
        _mm_cvtsi128_si32(_mm_add_epi32(halves, _mm_shuffle_epi32::<0b00_00_00_01>(halves)))
    }

    /// Differences in parts of their tolerances, squared.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn square(difference: __m128i, scale: __m128i) -> __m128i {
        let size = _mm_xor_si128(difference, _mm_srai_epi16::<15>(difference));
        let steps = _mm_min_epi16(_mm_mulhi_epi16(size, scale), _mm_set1_epi16(BEYOND));
        _mm_mullo_epi16(steps, steps)
    }

    /// One load, once compiled.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn load(numbers: &[i16; NEIGHBOURS]) -> __m128i {
        let [n0, n1, n2, n3, n4, n5, n6, n7] = *numbers;
        _mm_set_epi16(n7, n6, n5, n4, n3, n2, n1, n0)
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
#[cfg(any(test, not(target_arch = "x86_64")))]
fn steps(difference: i16, scale: i16) -> i16 {
    // The bits of a negative number flipped: its size less one, and never an overflow.
    let size = difference ^ (difference >> 15);
    ((i32::from(size) * i32::from(scale)) >> 16).min(i32::from(BEYOND)) as i16
}

/// A fit without any difference: [`EDGE`] squared, so that the sum of three squares stays in 16 bits.
pub(super) const WHOLE: i16 = 10_000;

/// Parts of a tolerance.
const EDGE: f32 = 100.0;

/// Above [`EDGE`], and three times its square still below 2¹⁵.
const BEYOND: i16 = 104;

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // As numbers: what a neighbourhood holds is not for printing.
    fn any_neighbours() -> impl Strategy<Value = Vec<(f32, f32, i16)>> {
        prop::collection::vec((5.0f32..110.0, -10.0f32..10.0, any::<i16>()), 0..12)
    }

    #[test]
    fn a_neighbourhood_shares_all_with_itself() {
        let neighbours = [(20.0, 0.3, 5_000), (40.0, -2.0, -9_000), (100.0, 3.0, i16::MIN)];
        let neighbourhood = Neighbourhood::new(neighbours.into_iter());
        let tolerances = Tolerances::of(&neighbourhood);
        assert_eq!(neighbourhood.shared(&tolerances, &neighbourhood), 3 * i32::from(WHOLE));
        // Thirty pixels further, nobody is where one was.
        let moved = Neighbourhood::new(neighbours.map(|(d, b, r)| (d + 30.0, b, r)).into_iter());
        assert_eq!(neighbourhood.shared(&tolerances, &moved), 0);
    }

    proptest! {
        #[test]
        fn registers_give_what_plain_arithmetic_gives(
            one in any_neighbours(),
            other in any_neighbours(),
            near in any::<bool>(),
        ) {
            let [one, other] = [one, other].map(|all| Neighbourhood::new(all.into_iter()));
            // Strangers share little: half of the time it is the same one, nudged.
            let mut nudged = one;
            nudged.bearing = nudged.bearing.map(|bearing| bearing.wrapping_add(700));
            let other = if near { nudged } else { other };
            let tolerances = Tolerances::of(&one);
            let plain = one.shared_plainly(&tolerances, &other);
            prop_assert_eq!(one.shared(&tolerances, &other), plain);
        }
    }
}
