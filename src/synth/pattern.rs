//! The pattern of a finger: its class, where its ridges run and how far apart.
//!
//! Directions follow the zero-pole model (Sherlock, Monro 1993) with corrections in the manner of
//! Vizcaya and Gerhardt (1996); arches, which have no core, a model of their own (Cappelli 2009).
//! Places are pixels at 500 an inch from the centre of the finger, y down; directions run
//! counter-clockwise as one sees them.

use std::f32::consts::{PI, TAU};

use super::field::Field;
use super::math::{atan2, sin};
use super::rng::Rng;

/// The classes of Henry's system, as the shares of `CLASSES` have them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum PatternClass {
    /// Ridges rise and fall across the finger, without a core.
    Arch,
    /// An arch with a core right above its delta.
    TentedArch,
    /// A loop that opens to the lower left, with its delta on the right.
    LeftLoop,
    /// A loop that opens to the lower right, with its delta on the left.
    RightLoop,
    /// Two cores between two deltas; double loops too.
    Whorl,
}

impl PatternClass {
    /// Its name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Arch => "arch",
            Self::TentedArch => "tented-arch",
            Self::LeftLoop => "left-loop",
            Self::RightLoop => "right-loop",
            Self::Whorl => "whorl",
        }
    }

    fn drawn(rng: &mut Rng) -> Self {
        let mut left = rng.unit();
        for (class, share) in CLASSES {
            if left < share {
                return class;
            }
            left -= share;
        }
        Self::Whorl
    }
}

/// How often each class is found: Wilson, Candela, Watson (1993).
const CLASSES: [(PatternClass, f32); 4] = [
    (PatternClass::Arch, 0.037),
    (PatternClass::TentedArch, 0.029),
    (PatternClass::LeftLoop, 0.338),
    (PatternClass::RightLoop, 0.317),
];

/// Width and height of what is grown of a finger, in pixels at 500 an inch.
pub(super) const FINGER_PX: [usize; 2] = [368, 512];

const WIDTH: f32 = 368.0;
const HEIGHT: f32 = 512.0;

/// Where a finger's ridges run.
pub(super) struct Pattern {
    class: PatternClass,
    cores: Vec<Pole>,
    deltas: Vec<Pole>,
    arch: Arch,
    /// How much the ridges of the tip follow its outline.
    tip_bend: f32,
    swing: Field,
    swing_size: f32,
    period: f32,
    period_change: Field,
    below: f32,
}

/// A place around which directions turn by half a turn, and how unevenly they do.
struct Pole {
    x: f32,
    y: f32,
    /// Where a core opens, or a delta sees its core.
    axis: f32,
    /// A core: how parallel the legs of its loop are. A delta: how far it turns its core, in radians.
    shape: Shape,
    uneven: [(f32, f32); 2],
}

enum Shape {
    Core { parallel: f32 },
    Delta { lean: f32 },
}

impl Pole {
    fn core(rng: &mut Rng, x: f32, y: f32, axis: f32) -> Self {
        let shape = Shape::Core { parallel: rng.between(0.45, 0.8) };
        Self { x, y, axis, shape, uneven: uneven(rng) }
    }

    /// A delta that sees its core under `axis`, and turns the loop there so that it opens `lean` more
    /// downwards.
    fn delta(rng: &mut Rng, x: f32, y: f32, axis: f32, lean: f32) -> Self {
        Self { x, y, axis, shape: Shape::Delta { lean }, uneven: uneven(rng) }
    }

    /// The angle under which the place is seen, corrected.
    fn angle(&self, x: f32, y: f32) -> f32 {
        let angle = atan2(self.y - y, x - self.x);
        let [(first, at), (second, at_second)] = self.uneven;
        let angle = angle + first * sin(angle + at) + second * sin(2.0 * angle + at_second);
        let off = angle - self.axis;
        match self.shape {
            Shape::Core { parallel } => angle - parallel * sin(off),
            Shape::Delta { lean } => angle + lean * (1.0 + sin(off + PI / 2.0)) / 2.0,
        }
    }
}

fn uneven(rng: &mut Rng) -> [(f32, f32); 2] {
    [0.08, 0.06].map(|size| (rng.between(-size, size), rng.between(0.0, TAU)))
}

struct Arch {
    x: f32,
    height: f32,
    steepness: f32,
}

impl Arch {
    fn direction(&self, x: f32, y: f32) -> f32 {
        let off = (y - self.height).abs() / HEIGHT;
        let rise = (self.steepness * (1.0 - 1.7 * off)).max(0.0);
        atan2(rise * sin((self.x - x) / WIDTH * PI), 1.0)
    }
}

impl Pattern {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let class = PatternClass::drawn(rng);
        let (x, y) = (rng.between(-0.08, 0.08) * WIDTH, rng.between(-0.13, 0.01) * HEIGHT);
        let (cores, deltas) = poles(class, rng, x, y);
        Self {
            class,
            cores,
            deltas,
            arch: Arch {
                x: x + rng.between(-15.0, 15.0),
                height: rng.between(20.0, 80.0),
                steepness: rng.between(0.7, 1.7),
            },
            tip_bend: rng.between(0.25, 0.65),
            swing: Field::new(rng, 4, 5),
            swing_size: rng.between(0.03, 0.08),
            period: rng.between(8.2, 10.0),
            period_change: Field::new(rng, 4, 5),
            below: rng.between(0.02, 0.14),
        }
    }

    pub(super) const fn class(&self) -> PatternClass {
        self.class
    }

    /// Where the print is centred: somewhat below the first core.
    pub(super) fn centre(&self) -> (f32, f32) {
        self.cores.first().map_or((0.0, 10.0), |core| (core.x * 0.5, core.y * 0.5 + 20.0))
    }

    /// Which way a ridge runs, in radians; half turns more or less mean the same.
    pub(super) fn direction(&self, x: f32, y: f32) -> f32 {
        let (u, v) = unit(x, y);
        let swing = self.swing.at(u, v) * self.swing_size;
        // Over the core, and less so beside it, the ridges follow the outline of the tip.
        let (core_x, core_y) = self.cores.first().map_or((0.0, 40.0), |core| (core.x, core.y));
        let over = 1.0 - ((y - core_y) / 130.0).clamp(0.0, 1.0);
        let aside = ((x - 0.5 * core_x) / 125.0).clamp(-1.4, 1.4);
        let bend = self.tip_bend * over * over * (3.0 - 2.0 * over) * aside;
        if self.class == PatternClass::Arch {
            return self.arch.direction(x, y) - 0.5 * bend + swing;
        }
        let seen = |poles: &[Pole]| poles.iter().map(|pole| pole.angle(x, y)).sum::<f32>();
        (seen(&self.cores) - seen(&self.deltas)) / 2.0 - bend + swing
    }

    /// From ridge to ridge, in pixels: wider below, and uneven.
    pub(super) fn period(&self, x: f32, y: f32) -> f32 {
        let (u, v) = unit(x, y);
        let below = 1.0 + self.below * ((y - 60.0) / 120.0).clamp(0.0, 1.0);
        let change = 1.0 + 0.06 * self.period_change.at(u, v).clamp(-2.0, 2.0);
        self.period * below * change
    }
}

/// The cores and deltas of a class, with the first core at `x`, `y`.
fn poles(class: PatternClass, rng: &mut Rng, x: f32, y: f32) -> (Vec<Pole>, Vec<Pole>) {
    let down = -PI / 2.0;
    match class {
        PatternClass::Arch => (Vec::new(), Vec::new()),
        PatternClass::TentedArch => {
            let (shift, drop) = (rng.between(-10.0, 10.0), rng.between(45.0, 110.0));
            let core = Pole::core(rng, x, y, down);
            let seen = atan2(drop, -shift);
            (vec![core], vec![Pole::delta(rng, x + shift, y + drop, seen, 0.0)])
        }
        PatternClass::LeftLoop | PatternClass::RightLoop => {
            let side = if class == PatternClass::LeftLoop { 1.0 } else { -1.0 };
            let (aside, drop) = (rng.between(75.0, 145.0), rng.between(95.0, 170.0));
            let seen = atan2(drop, -side * aside);
            // The loop opens downwards, a little away from the delta.
            let opens = -PI / 2.0 - side * rng.between(0.1, 0.6);
            let core = Pole::core(rng, x, y, opens);
            (vec![core], vec![Pole::delta(rng, x + side * aside, y + drop, seen, -opens - seen)])
        }
        PatternClass::Whorl => {
            let apart = if rng.chance(0.3) { (50.0, 90.0) } else { (14.0, 50.0) };
            let apart = rng.between(apart.0, apart.1);
            let tilt = rng.between(-0.45, 0.45) + rng.normal() * 0.2;
            let (axis, second_x) = (down + tilt, x + apart * sin(tilt));
            let second_y = y + apart * sin(tilt + PI / 2.0);
            let cores =
                vec![Pole::core(rng, x, y, axis), Pole::core(rng, second_x, second_y, axis + PI)];
            let deltas = [-1.0, 1.0].map(|side| {
                let (aside, drop) = (rng.between(90.0, 155.0), rng.between(110.0, 185.0));
                Pole::delta(rng, x + side * aside, y + drop, atan2(drop, -side * aside), 0.0)
            });
            (cores, deltas.into())
        }
    }
}

fn unit(x: f32, y: f32) -> (f32, f32) {
    (x / WIDTH + 0.5, y / HEIGHT + 0.5)
}
