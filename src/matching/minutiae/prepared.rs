//! A view with what every comparison of it needs, made once.

use std::f32::consts::TAU;
use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::neighbourhood::{NEIGHBOURS, Neighbourhood, turn};
use crate::domain::embedding::ModelId;
use crate::domain::finger::{FingerView, Minutia, MinutiaKind};

/// A finger view, ready to be compared: about 70 bytes a minutia.
///
/// Wiped from memory when dropped; `Debug` shows its number of minutiae and model only.
#[derive(Clone, ZeroizeOnDrop)]
pub struct PreparedView {
    #[zeroize(skip)]
    model: ModelId,
    points: Points,
    neighbourhoods: Vec<Neighbourhood>,
}

/// Minutiae by rising direction, number by number, so that loops over them use vector registers.
#[derive(Clone, PartialEq, Zeroize, ZeroizeOnDrop)]
pub(super) struct Points {
    /// Pixels to the right.
    pub x: Vec<f32>,
    /// Pixels upward: angles turn as in mathematics.
    pub y: Vec<f32>,
    /// The direction, in 2⁻¹⁶ of a turn.
    pub turn: Vec<i16>,
    /// 1 for an ending, 0 for a fork, ½ for neither.
    pub ending: Vec<f32>,
    /// How much it counts, ½ to 1.
    pub weight: Vec<f32>,
}

/// One minutia before it is in its place.
#[derive(Clone, Copy, Zeroize)]
struct Point {
    x: f32,
    y: f32,
    turn: i16,
    ending: f32,
    weight: f32,
}

impl PreparedView {
    /// Prepares a view.
    #[must_use]
    pub fn new(view: &FingerView) -> Self {
        Self::of(view.model(), view.minutiae().iter().copied().map(Point::of).collect())
    }

    /// The view as a mirror shows it: of nobody, but as much work to compare.
    #[must_use]
    pub fn mirrored(&self) -> Self {
        let Points { x, y, turn, ending, weight } = &self.points;
        let places = x.iter().zip(y).zip(turn);
        let points =
            places.zip(ending.iter().zip(weight)).map(|(((x, y), turn), (&ending, &weight))| {
                Point { x: -x, y: *y, turn: i16::MIN.wrapping_sub(*turn), ending, weight }
            });
        Self::of(self.model, points.collect())
    }

    fn of(model: ModelId, mut points: Vec<Point>) -> Self {
        // A total order: in whichever order they come, the same minutiae give the same view.
        points.sort_by(|a, b| {
            let by_place = || a.x.total_cmp(&b.x).then(a.y.total_cmp(&b.y));
            let by_kind = || a.ending.total_cmp(&b.ending).then(a.weight.total_cmp(&b.weight));
            a.turn.cmp(&b.turn).then_with(by_place).then_with(by_kind)
        });
        let mut nearest = Vec::with_capacity(points.len());
        let neighbourhoods = points.iter().map(|of| neighbourhood(*of, &points, &mut nearest));
        let neighbourhoods = neighbourhoods.collect();
        let made = Points {
            x: points.iter().map(|point| point.x).collect(),
            y: points.iter().map(|point| point.y).collect(),
            turn: points.iter().map(|point| point.turn).collect(),
            ending: points.iter().map(|point| point.ending).collect(),
            weight: points.iter().map(|point| point.weight).collect(),
        };
        nearest.zeroize();
        points.zeroize();
        Self { model, points: made, neighbourhoods }
    }

    /// The model that found the minutiae.
    #[must_use]
    pub const fn model(&self) -> ModelId {
        self.model
    }

    /// How many minutiae.
    #[must_use]
    pub fn len(&self) -> usize {
        self.points.turn.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) const fn points(&self) -> &Points {
        &self.points
    }

    pub(super) fn neighbourhoods(&self) -> &[Neighbourhood] {
        &self.neighbourhoods
    }

    /// The two in an order that does not depend on which comes first: fewer minutiae first.
    pub(super) fn ordered<'a>(one: &'a Self, other: &'a Self) -> (&'a Self, &'a Self) {
        let by_place = |a: &[f32], b: &[f32]| {
            a.iter().zip(b).map(|(a, b)| a.total_cmp(b)).find(|order| order.is_ne())
        };
        let (a, b) = (&one.points, &other.points);
        let order = one.len().cmp(&other.len()).then_with(|| a.turn.cmp(&b.turn)).then_with(|| {
            by_place(&a.x, &b.x).or_else(|| by_place(&a.y, &b.y)).unwrap_or_else(|| {
                let by_kind = || by_place(&a.ending, &b.ending);
                let by_weight = || by_place(&a.weight, &b.weight);
                by_kind().or_else(by_weight).unwrap_or(std::cmp::Ordering::Equal)
            })
        });
        if order.is_le() { (one, other) } else { (other, one) }
    }
}

impl fmt::Debug for PreparedView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PreparedView({} minutiae of {})", self.len(), self.model)
    }
}

impl Point {
    fn of(minutia: Minutia) -> Self {
        Self {
            x: minutia.x(),
            y: -minutia.y(),
            turn: turn(minutia.angle()),
            ending: match minutia.kind() {
                MinutiaKind::Ending => 1.0,
                MinutiaKind::Other => 0.5,
                MinutiaKind::Bifurcation => 0.0,
            },
            // A format without qualities says 0: that must not make a minutia worth nothing.
            weight: f32::midpoint(minutia.quality(), 1.0),
        }
    }
}

/// The nearest around one of the points, none further than [`REACH_PX`].
fn neighbourhood(of: Point, points: &[Point], nearest: &mut Vec<(f32, usize)>) -> Neighbourhood {
    nearest.clear();
    nearest.extend(points.iter().enumerate().filter_map(|(at, point)| {
        let (dx, dy) = (point.x - of.x, point.y - of.y);
        let square = dx * dx + dy * dy;
        // Two minutiae nearer than half a ridge are one, found twice.
        (square > APART_PX * APART_PX && square < REACH_PX * REACH_PX).then_some((square, at))
    }));
    // Ties by place in the total order of the points.
    let nearer = |a: &(f32, usize), b: &(f32, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
    if nearest.len() > NEIGHBOURS {
        nearest.select_nth_unstable_by(NEIGHBOURS, nearer);
        nearest.truncate(NEIGHBOURS);
    }
    nearest.sort_unstable_by(nearer);
    let own = f32::from(of.turn) / 65_536.0 * TAU;
    Neighbourhood::new(nearest.iter().filter_map(|(square, at)| {
        let point = points.get(*at)?;
        let bearing = (point.y - of.y).atan2(point.x - of.x) - own;
        Some((square.sqrt(), bearing, point.turn.wrapping_sub(of.turn)))
    }))
}

/// About twelve ridges: further away, skin stretches by more than a ridge.
pub(super) const REACH_PX: f32 = 110.0;

const APART_PX: f32 = 5.0;
