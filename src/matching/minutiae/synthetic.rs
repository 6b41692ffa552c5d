//! Fingers of nobody, for tests and benches: minutiae scattered as real ones are, along a smooth field
//! of ridges, and impressions of them with pose, stretch, misses and false finds.

use std::f32::consts::{PI, TAU};

use crate::domain::embedding::ModelId;
use crate::domain::finger::{FingerView, Minutia, MinutiaKind};

/// The model that synthetic views say they are of.
pub const SYNTHETIC_MODEL: ModelId = ModelId::new([0x5e; 32]);

/// A finger of nobody.
#[derive(Clone, Debug)]
pub struct SyntheticFinger {
    minutiae: Vec<Spot>,
}

/// How an impression differs from its finger.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Wear {
    /// Greatest turn, in radians.
    pub turn_max: f32,
    /// Greatest shift either way, in pixels.
    pub shift_max_px: f32,
    /// Greatest stretch, in pixels.
    pub stretch_max_px: f32,
    /// Deviation of a place, in pixels.
    pub jitter_px: f32,
    /// Deviation of a direction, in radians.
    pub jitter_angle: f32,
    /// Share of minutiae that are missed.
    pub missed: f32,
    /// False finds, as a share of the minutiae.
    pub false_finds: f32,
}

impl Wear {
    /// As a willing person leaves it on a good sensor.
    pub const ORDINARY: Self = Self {
        turn_max: 0.4,
        shift_max_px: 30.0,
        stretch_max_px: 5.0,
        jitter_px: 1.5,
        jitter_angle: 0.08,
        missed: 0.12,
        false_finds: 0.08,
    };
}

#[derive(Clone, Copy, Debug)]
struct Spot {
    x: f32,
    y: f32,
    angle: f32,
    kind: MinutiaKind,
    quality: f32,
}

impl SyntheticFinger {
    /// A finger with so many minutiae, all by its seed.
    #[must_use]
    pub fn new(seed: u64, minutiae: usize) -> Self {
        let mut chance = Chance::new(seed);
        let field = Field::new(&mut chance);
        let mut made: Vec<Spot> = Vec::with_capacity(minutiae);
        // A ridge and a half apart at first, nearer when the finger is full.
        let mut apart = 14.0f32;
        while made.len() < minutiae {
            let (x, y) = (chance.within(SIDE_PX), chance.within(SIDE_PX));
            let is_free = made.iter().all(|other| (other.x - x).hypot(other.y - y) > apart);
            if !is_free {
                apart = (apart * 0.999).max(2.0);
                continue;
            }
            // Ridges have no direction, minutiae on them have one of two.
            let angle = field.at(x, y) + if chance.share() < 0.5 { 0.0 } else { PI };
            let kind = match chance.share() {
                share if share < 0.6 => MinutiaKind::Ending,
                _ => MinutiaKind::Bifurcation,
            };
            made.push(Spot { x, y, angle, kind, quality: 0.6 + 0.4 * chance.share() });
        }
        Self { minutiae: made }
    }

    /// The finger as one capture shows it.
    #[must_use]
    pub fn impression(&self, seed: u64, wear: Wear) -> FingerView {
        let mut chance = Chance::new(seed ^ 0x1d);
        let stretch = (chance.within(TAU), chance.within(TAU), wear.stretch_max_px);
        let pose = Pose {
            turn: chance.either(wear.turn_max),
            shift: (chance.either(wear.shift_max_px), chance.either(wear.shift_max_px)),
        };
        let mut found = Vec::with_capacity(self.minutiae.len());
        for spot in &self.minutiae {
            if chance.share() < wear.missed {
                continue;
            }
            // Skin stretches as a slow wave.
            let wave = |along: f32, phase: f32| stretch.2 * (along / SIDE_PX * TAU + phase).sin();
            let x = spot.x + wave(spot.y, stretch.0) + wear.jitter_px * chance.normal();
            let y = spot.y + wave(spot.x, stretch.1) + wear.jitter_px * chance.normal();
            let angle = spot.angle + wear.jitter_angle * chance.normal();
            found.extend(pose.place(Spot { x, y, angle, ..*spot }));
        }
        for spot in &self.minutiae {
            if chance.share() < wear.false_finds {
                let (x, y) = (chance.within(SIDE_PX), chance.within(SIDE_PX));
                found.extend(pose.place(Spot { x, y, angle: chance.within(TAU), ..*spot }));
            }
        }
        FingerView::new(SYNTHETIC_MODEL, found)
    }
}

struct Pose {
    turn: f32,
    shift: (f32, f32),
}

impl Pose {
    /// Turns about the middle, counter-clockwise as one sees it, and shifts.
    fn place(&self, spot: Spot) -> Option<Minutia> {
        let (sin, cos) = self.turn.sin_cos();
        let (dx, dy) = (spot.x - SIDE_PX / 2.0, spot.y - SIDE_PX / 2.0);
        // Downward is positive.
        let x = cos * dx + sin * dy + MIDDLE_PX + self.shift.0;
        let y = cos * dy - sin * dx + MIDDLE_PX + self.shift.1;
        Minutia::new(x, y, spot.angle + self.turn, spot.kind, spot.quality).ok()
    }
}

/// Ridges that turn slowly from place to place.
struct Field {
    base: f32,
    slopes: [(f32, f32, f32, f32); 3],
}

impl Field {
    fn new(chance: &mut Chance) -> Self {
        let slopes = [0; 3].map(|_| {
            (chance.either(1.0), chance.within(TAU), chance.either(2.0), chance.either(2.0))
        });
        Self { base: chance.within(PI), slopes }
    }

    fn at(&self, x: f32, y: f32) -> f32 {
        let waves = self.slopes.iter().map(|(size, phase, along_x, along_y)| {
            size * ((x * along_x + y * along_y) / SIDE_PX * PI + phase).sin()
        });
        self.base + waves.sum::<f32>()
    }
}

/// Chance by a seed: `SplitMix64`.
struct Chance(u64);

impl Chance {
    const fn new(seed: u64) -> Self {
        Self(seed)
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to 1.
    fn share(&mut self) -> f32 {
        let bits = u16::try_from(self.next() >> 48).unwrap_or(u16::MAX);
        f32::from(bits) / 65_536.0
    }

    fn within(&mut self, most: f32) -> f32 {
        most * self.share()
    }

    fn either(&mut self, most: f32) -> f32 {
        most * (2.0 * self.share() - 1.0)
    }

    /// Of mean 0 and deviation 1, nearly: the sum of twelve.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.share()).sum::<f32>() - 6.0
    }
}

/// The side of a finger's pad.
const SIDE_PX: f32 = 280.0;

/// Where its middle lies in a picture, far enough from the edges for any pose.
const MIDDLE_PX: f32 = 300.0;
