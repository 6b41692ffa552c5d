//! Minutiae without a picture: galleries of millions for the search among everybody.

use std::f32::consts::PI;

use super::field::Field;
use super::impression::IMPRESSION_PX;
use super::math::{real, sin_cos};
use super::pattern::Pattern;
use super::rng::Rng;
use super::{IMPRESSIONS, PATTERN};
use crate::domain::embedding::ModelId;
use crate::domain::finger::{FingerView, Minutia, MinutiaKind};

/// The minutiae that an impression of the finger of `seed` might show: 20 to 60 in most cases, along a
/// pattern like that of [`super::Finger`], and moved, bent, lost and invented from impression to
/// impression.
///
/// It takes some tens of microseconds, and is the same on every machine. They are not those of the finger's
/// pictures.
#[must_use]
pub fn minutiae(model: ModelId, seed: u64, impression: u64) -> FingerView {
    let rng = Rng::new(seed);
    let pattern = Pattern::new(&mut rng.fork(PATTERN));
    let points = points(&pattern, &mut rng.fork(POINTS));
    let press = &mut rng.fork(IMPRESSIONS).fork(impression);
    FingerView::new(model, seen(&pattern, &points, press))
}

/// A minutia on the finger.
struct Point {
    x: f32,
    y: f32,
    angle: f32,
    kind: MinutiaKind,
    quality: f32,
}

impl Point {
    fn new(pattern: &Pattern, rng: &mut Rng) -> Self {
        let (x, y) = (rng.between(-REACH.0, REACH.0), rng.between(-REACH.1, REACH.1));
        // The end of a ridge may point either way along it.
        let back = if rng.chance(0.5) { PI } else { 0.0 };
        let kind = if rng.chance(0.6) { MinutiaKind::Ending } else { MinutiaKind::Bifurcation };
        let quality = rng.between(0.5, 1.0);
        Self { x, y, angle: pattern.direction(x, y) + back, kind, quality }
    }
}

/// The finger's own minutiae: within its outline, and not nearer to each other than ridges are.
fn points(pattern: &Pattern, rng: &mut Rng) -> Vec<Point> {
    let wanted = 45 + rng.bits() % 30;
    let mut points: Vec<Point> = Vec::new();
    for _ in 0..wanted * 2 {
        let point = Point::new(pattern, rng);
        let (u, v) = (point.x / REACH.0, point.y / REACH.1);
        let is_near = |other: &Point| {
            let (x, y) = (other.x - point.x, other.y - point.y);
            x * x + y * y < APART * APART
        };
        let is_placed = u * u + v * v < 1.0 && !points.iter().any(is_near);
        if is_placed && real(points.len()) < f32::from(u8::try_from(wanted).unwrap_or(u8::MAX)) {
            points.push(point);
        }
    }
    points
}

fn seen(pattern: &Pattern, points: &[Point], rng: &mut Rng) -> Vec<Minutia> {
    let [width, height] = IMPRESSION_PX.map(real);
    let turn = (rng.normal() * 0.14).clamp(-0.45, 0.45);
    let (sine, cosine) = sin_cos(turn);
    let centre = (width / 2.0 + rng.normal() * 14.0, height / 2.0 + rng.normal() * 18.0);
    let reach = (rng.between(95.0, 140.0), rng.between(140.0, 205.0));
    let (skin_x, skin_y) = (Field::new(rng, 3, 4), Field::new(rng, 3, 4));
    let skin = rng.between(0.5, 3.0);
    let lost = rng.between(0.03, 0.2);
    let invented = rng.bits() % 5;
    let strangers: Vec<_> = (0..invented).map(|_| Point::new(pattern, rng)).collect();
    let mut seen = Vec::with_capacity(points.len());
    for point in points.iter().chain(&strangers) {
        let (u, v) = (point.x / (2.0 * REACH.0) + 0.5, point.y / (2.0 * REACH.1) + 0.5);
        let across = point.x + skin * skin_x.at(u, v) + rng.normal();
        let down = point.y + skin * skin_y.at(u, v) + rng.normal();
        // With y down, a turn to the left takes what is on the right up.
        let x = cosine * across + sine * down;
        let y = cosine * down - sine * across;
        let is_lost = rng.chance(lost);
        let angle = point.angle + turn + 0.06 * rng.normal();
        let kind = if rng.chance(0.08) { MinutiaKind::Other } else { point.kind };
        let quality = (point.quality + 0.08 * rng.normal()).clamp(0.3, 1.0);
        let is_out = (x / reach.0) * (x / reach.0) + (y / reach.1) * (y / reach.1) > 1.0;
        let (x, y) = (x + centre.0, y + centre.1);
        let is_in_picture = x < width && y < height;
        if !is_lost && !is_out && is_in_picture {
            // A negative place is no minutia either.
            seen.extend(Minutia::new(x, y, angle, kind, quality));
        }
    }
    seen
}

/// Half axes of the area with minutiae, in pixels at 500 an inch.
const REACH: (f32, f32) = (135.0, 195.0);
/// Least distance of two.
const APART: f32 = 10.0;
const POINTS: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use std::f32::consts::TAU;

    fn view(seed: u64, impression: u64) -> FingerView {
        minutiae(ModelId::new([1; 32]), seed, impression)
    }

    /// The largest part of the smaller view that finds a partner under one movement of the other.
    fn agreement(a: &FingerView, b: &FingerView) -> f32 {
        let near = |first: f32, second: f32| {
            let off = (first - second).rem_euclid(TAU);
            off.min(TAU - off) < 0.35
        };
        let mut best = 0;
        for from in a.minutiae() {
            for to in b.minutiae() {
                let (sine, cosine) = (to.angle() - from.angle()).sin_cos();
                let moved = a.minutiae().iter().map(|it| {
                    let (x, y) = (it.x() - from.x(), it.y() - from.y());
                    let x_moved = to.x() + cosine * x + sine * y;
                    let y_moved = to.y() + cosine * y - sine * x;
                    (x_moved, y_moved, it.angle() + to.angle() - from.angle())
                });
                let paired = moved.filter(|(x, y, angle)| {
                    b.minutiae()
                        .iter()
                        .any(|it| (it.x() - x).hypot(it.y() - y) < 10.0 && near(it.angle(), *angle))
                });
                best = best.max(paired.count());
            }
        }
        best as f32 / a.minutiae().len().min(b.minutiae().len()) as f32
    }

    #[test]
    fn impressions_of_a_finger_agree_and_of_two_do_not() {
        for seed in 0..6 {
            let genuine = agreement(&view(seed, 1), &view(seed, 2));
            let impostor = agreement(&view(seed, 1), &view(seed + 100, 1));
            assert!(genuine > 0.65 && impostor < 0.5, "{seed}: {genuine} {impostor}");
        }
    }

    #[test]
    fn a_view_has_as_many_minutiae_as_a_print() {
        let counts: Vec<_> = (0..400).map(|seed| view(seed, 3).minutiae().len()).collect();
        let usual = counts.iter().filter(|count| (20..=60).contains(*count)).count();
        assert!(usual > 360, "{usual}");
        assert_eq!(view(9, 9), view(9, 9));
        assert_ne!(view(9, 9), view(9, 8));
    }
}
