//! One press of a finger on a sensor's glass.
//!
//! Where the finger presses harder its ridges are broad, where it presses less they grow thin and end
//! in dots: so the border of a print, dry skin and worn ridges all come of one pressure.

#![expect(clippy::indexing_slicing, reason = "indexes are bounded by the picture just before")]

use super::Finger;
use super::field::Field;
use super::growth::FULL;
use super::math::{index, real, sin, sin_cos, soft_step, to_byte};
use super::pattern::FINGER_PX;
use super::rng::Rng;

/// Width and height of an impression's picture, in pixels at 500 an inch.
pub(super) const IMPRESSION_PX: [usize; 2] = [320, 416];

const WIDTH: usize = IMPRESSION_PX[0];
const HEIGHT: usize = IMPRESSION_PX[1];

/// A press, as chance made it.
pub(super) struct Press {
    rng: Rng,
    pose: Pose,
    /// How broad ridges are in the middle: -1 nothing, 0 as broad as valleys, 1 all ridge.
    pressure: f32,
    /// Half axes of the contact, in pixels.
    reach: (f32, f32),
    /// How sharply a ridge has an edge.
    sharpness: f32,
    dryness: f32,
    pores: f32,
    /// How deep the finger's creases show.
    creases: f32,
    sensor: Sensor,
}

/// From the sensor's glass to the finger.
struct Pose {
    centre: (f32, f32),
    finger: (f32, f32),
    turn: f32,
    twist: f32,
    stretch: f32,
    skin: f32,
}

struct Sensor {
    ground: f32,
    contrast: f32,
    noise: f32,
    blur: bool,
    smudge: f32,
}

impl Press {
    pub(super) fn new(finger: &Finger, number: u64) -> Self {
        let mut rng = finger.impressions.fork(number);
        let rng = &mut rng;
        // One in eight is poor: too dry or too wet, and touches with less of the finger.
        let (hard, size) = if rng.chance(0.125) { (1.8, 0.8) } else { (1.0, 1.0) };
        let wet = hard * rng.normal();
        let (x, y) = finger.pattern.centre();
        let shift = (rng.normal() * 14.0, rng.normal() * 20.0);
        let pose = Pose {
            centre: (
                real(WIDTH) / 2.0 + rng.normal() * 9.0,
                real(HEIGHT) / 2.0 + rng.normal() * 9.0,
            ),
            finger: (x + shift.0.clamp(-32.0, 32.0), y + shift.1.clamp(-45.0, 45.0)),
            turn: (rng.normal() * 0.14).clamp(-0.45, 0.45),
            twist: rng.normal() * 0.04,
            stretch: 1.0 + rng.normal() * 0.012,
            skin: rng.between(0.8, 4.5),
        };
        Self {
            pose,
            pressure: (0.12 + 0.22 * wet).clamp(-0.4, 0.6),
            reach: (size * rng.between(92.0, 138.0), size * rng.between(140.0, 210.0)),
            sharpness: rng.between(1.6, 3.6),
            dryness: rng.between(0.05, 0.45) + (-wet * 0.16).max(0.0),
            pores: rng.between(0.0, 0.9),
            creases: rng.between(0.5, 1.3),
            sensor: Sensor {
                ground: rng.between(0.86, 1.0),
                contrast: rng.between(0.62, 0.88),
                noise: rng.between(0.006, 0.03),
                blur: rng.chance(0.5),
                smudge: rng.between(0.0, 0.06),
            },
            rng: rng.clone(),
        }
    }

    /// The picture, row by row.
    pub(super) fn picture(mut self, finger: &Finger) -> Vec<u8> {
        let rng = &mut self.rng;
        let mut spread = |columns, rows| Field::new(rng, columns, rows).spread(WIDTH, HEIGHT);
        let (skin_x, skin_y) = (spread(4, 5), spread(4, 5));
        let pressure = spread(5, 6);
        let border = spread(16, 20);
        let grain = spread(128, 166);
        let patches = spread(40, 52);
        let ink = spread(4, 5);
        let smudge = spread(9, 11);
        let scratches = Scratch::several(rng);
        let (sine, cosine) = sin_cos(self.pose.turn);
        let mut picture = Vec::with_capacity(WIDTH * HEIGHT);
        for row in 0..HEIGHT {
            for column in 0..WIDTH {
                let at = row * WIDTH + column;
                let x = real(column) - self.pose.centre.0;
                let y = real(row) - self.pose.centre.1;
                let far = edge(x / self.reach.0, y / self.reach.1) + 0.05 * border[at];
                let fall = if far > 0.62 { (far - 0.62) * 2.4 } else { 0.0 };
                let mut ridge = 0.0;
                if fall < 2.2 {
                    let (x, y) =
                        self.pose.on_finger(x, y, (sine, cosine), [skin_x[at], skin_y[at]]);
                    let skin = finger.skin(x, y);
                    let force = self.pressure + 0.16 * pressure[at]
                        - fall * fall
                        - self.creases * skin.crease
                        - scratches.iter().map(|scratch| scratch.depth(column, row)).sum::<f32>();
                    let rough = self.dryness * (0.45 * grain[at] + 0.5 * patches[at].min(0.3));
                    let level =
                        skin.ridge - self.pores * skin.pore + force + rough + 0.22 * skin.rough;
                    ridge = soft_step(level * self.sharpness * 1.6)
                        * (1.0 + 0.16 * ink[at] + 0.25 * (force - 0.1)).clamp(0.45, 1.15)
                        * skin.there;
                }
                let residue = self.sensor.smudge * (smudge[at] - 0.2).clamp(0.0, 2.0);
                let noise = self.sensor.noise * rng.normal();
                let brightness = self.sensor.ground - (self.sensor.contrast * ridge).max(residue);
                picture.push((brightness + noise).clamp(0.0, 1.0));
            }
        }
        if self.sensor.blur {
            picture = blurred(&picture);
        }
        picture.into_iter().map(to_byte).collect()
    }
}

/// How far out a place is, in half axes: 1 on the border, round towards the tip of the finger and
/// rather a box below, where the finger goes on.
fn edge(u: f32, v: f32) -> f32 {
    let (v, round) = if v < 0.0 { (1.15 * v, 2.0) } else { (v, 1.2) };
    let (u, v) = (u * u, v * v);
    (u * u + v * v + round * u * v).sqrt().sqrt()
}

impl Pose {
    fn on_finger(&self, x: f32, y: f32, turned: (f32, f32), skin: [f32; 2]) -> (f32, f32) {
        // The skin twists more the further out it is.
        let twist = self.twist * (x * x + y * y).sqrt() / 150.0;
        let (sine, cosine) = (turned.0 + turned.1 * twist, turned.1 - turned.0 * twist);
        let (x, y) = (x + skin[0] * self.skin, y + skin[1] * self.skin);
        (
            self.finger.0 + (cosine * x - sine * y) * self.stretch,
            self.finger.1 + (sine * x + cosine * y) * self.stretch,
        )
    }
}

/// What is there of the finger at one place.
struct Skin {
    ridge: f32,
    pore: f32,
    rough: f32,
    crease: f32,
    there: f32,
}

impl Finger {
    fn skin(&self, x: f32, y: f32) -> Skin {
        let [width, height] = FINGER_PX;
        let (x, y) = (x + real(width) / 2.0 - 0.5, y + real(height) / 2.0 - 0.5);
        let is_there = x >= 0.0 && y >= 0.0 && x < real(width - 1) && y < real(height - 1);
        if !is_there {
            return Skin { ridge: -1.0, pore: 0.0, rough: 0.0, crease: 0.0, there: 0.0 };
        }
        let (column, row) = (index(x, width - 2), index(y, height - 2));
        let (right, down) = (x - real(column), y - real(row));
        let at = row * width + column;
        let mixed = |plane: &[i16]| {
            let pair =
                |at: usize| f32::from(plane[at]) * (1.0 - right) + f32::from(plane[at + 1]) * right;
            (pair(at) * (1.0 - down) + pair(at + width) * down) / f32::from(FULL)
        };
        let nearest = at;
        Skin {
            ridge: mixed(&self.ridges),
            pore: mixed(&self.pores),
            rough: mixed(&self.rough),
            crease: f32::from(self.creases[nearest]) / f32::from(FULL),
            there: if self.ridges[at] == 0 && self.ridges[at + width + 1] == 0 { 0.0 } else { 1.0 },
        }
    }
}

/// A scratch or a hair on the glass, or a fresh cut: a pale line.
pub(super) struct Scratch {
    at: (f32, f32),
    along: (f32, f32),
    length: f32,
    width: f32,
    bend: f32,
    depth: f32,
}

impl Scratch {
    fn several(rng: &mut Rng) -> Vec<Self> {
        let count = (0..3).filter(|_| rng.chance(0.28)).count();
        let reach = [real(WIDTH), real(HEIGHT)];
        (0..count).map(|_| Self::new(rng, reach, (12.0, 80.0))).collect()
    }

    pub(super) fn new(rng: &mut Rng, [width, height]: [f32; 2], length: (f32, f32)) -> Self {
        let (sine, cosine) = sin_cos(rng.between(0.0, 3.2));
        Self {
            at: (rng.between(0.15, 0.85) * width, rng.between(0.15, 0.85) * height),
            along: (cosine, sine),
            length: rng.between(length.0, length.1),
            width: rng.between(0.9, 2.6),
            bend: rng.between(-0.002, 0.002),
            depth: rng.between(0.7, 1.8),
        }
    }

    pub(super) fn depth(&self, column: usize, row: usize) -> f32 {
        let (x, y) = (real(column) - self.at.0, real(row) - self.at.1);
        let along = x * self.along.0 + y * self.along.1;
        if along.abs() > self.length {
            return 0.0;
        }
        let wave = 1.2 * sin(along * 0.11) + self.bend * along * along;
        let off = (y * self.along.0 - x * self.along.1 + wave) / self.width;
        // Thin at its ends.
        let end = 1.0 - (along / self.length) * (along / self.length);
        self.depth * (end - off * off).max(0.0)
    }
}

/// A light blur, three pixels wide.
fn blurred(picture: &[f32]) -> Vec<f32> {
    let near = |line: &[f32], at: usize, step: usize, first: bool, last: bool| {
        let before = if first { line[at] } else { line[at - step] };
        let after = if last { line[at] } else { line[at + step] };
        0.2 * before + 0.6 * line[at] + 0.2 * after
    };
    let across: Vec<f32> = (0..picture.len())
        .map(|at| near(picture, at, 1, at % WIDTH == 0, at % WIDTH == WIDTH - 1))
        .collect();
    (0..across.len())
        .map(|at| near(&across, at, WIDTH, at < WIDTH, at + WIDTH >= across.len()))
        .collect()
}
