//! From a guess to pairs: which minutiae of two views are the same?

#![expect(
    clippy::indexing_slicing,
    reason = "indices of minutiae, all below the lengths that they were counted from"
)]

use std::f32::consts::TAU;

use zeroize::Zeroize;

use super::neighbourhood::turn;
use super::prepared::{Points, PreparedView, REACH_PX};
use super::scratch::Scratch;
use super::seed::Seed;

/// One minutia of each view, and how well they fit.
#[derive(Clone, Copy, Default, PartialEq, Zeroize)]
pub(super) struct Pair {
    /// 0 to a little over 1.
    pub fit: f32,
    /// The minutia of the first view.
    pub a: u8,
    /// The minutia of the second.
    pub b: u8,
}

/// Lays the first view on the second from one guess; `false` when too little fits.
///
/// Leaves the pairs, and where the first view's minutiae lie, in the scratch.
pub(super) fn align(a: &PreparedView, b: &PreparedView, seed: Seed, scratch: &mut Scratch) -> bool {
    let mut rigid = Rigid::of(a.points(), b.points(), seed);
    for round in 0..ROUNDS {
        rigid.lay(a.points(), scratch);
        scratch.x.clone_from(&scratch.rigid_x);
        scratch.y.clone_from(&scratch.rigid_y);
        if round == 0 {
            // One minutia's direction is known to some degrees: the further from it, the wider.
            pair(a, b, &rigid, scratch, |x, y| {
                let far = (x - rigid.to.0).hypot(y - rigid.to.1).min(GUESS_FAR_PX);
                GUESS_PX + GUESS_SHARE * far
            });
        } else {
            pair(a, b, &rigid, scratch, |_, _| RIGID_PX);
        }
        if scratch.pairs.len() < PAIRS_MIN {
            return false;
        }
        rigid = Rigid::fitted(a.points(), b.points(), &scratch.pairs);
    }
    rigid.lay(a.points(), scratch);
    bend(b.points(), scratch);
    pair(a, b, &rigid, scratch, |_, _| BENT_PX);
    scratch.pairs.len() >= PAIRS_MIN
}

/// A turn about one point that carries it to another.
#[derive(Clone, Copy)]
struct Rigid {
    cos: f32,
    sin: f32,
    turn: i16,
    from: (f32, f32),
    to: (f32, f32),
}

impl Rigid {
    /// As one pair has it.
    fn of(a: &Points, b: &Points, seed: Seed) -> Self {
        let (from, to) = (usize::from(seed.a), usize::from(seed.b));
        let turn = b.turn[to].wrapping_sub(a.turn[from]);
        let (sin, cos) = (f32::from(turn) / 65_536.0 * TAU).sin_cos();
        Self { cos, sin, turn, from: (a.x[from], a.y[from]), to: (b.x[to], b.y[to]) }
    }

    /// The least squares of all pairs, each by its fit.
    fn fitted(a: &Points, b: &Points, pairs: &[Pair]) -> Self {
        let places = |pair: &Pair| {
            let (from, to) = (usize::from(pair.a), usize::from(pair.b));
            ((a.x[from], a.y[from]), (b.x[to], b.y[to]), pair.fit)
        };
        let (mut from, mut to, mut sum) = ((0.0, 0.0), (0.0, 0.0), f32::MIN_POSITIVE);
        for (p, q, fit) in pairs.iter().map(places) {
            from = (from.0 + fit * p.0, from.1 + fit * p.1);
            to = (to.0 + fit * q.0, to.1 + fit * q.1);
            sum += fit;
        }
        let (from, to) = ((from.0 / sum, from.1 / sum), (to.0 / sum, to.1 / sum));
        let (mut along, mut across) = (0.0, 0.0);
        for (p, q, fit) in pairs.iter().map(places) {
            let (p, q) = ((p.0 - from.0, p.1 - from.1), (q.0 - to.0, q.1 - to.1));
            along += fit * (p.0 * q.0 + p.1 * q.1);
            across += fit * (p.0 * q.1 - p.1 * q.0);
        }
        // atan2 of two zeros is zero: no turn.
        let angle = f32::atan2(across, along);
        let (sin, cos) = angle.sin_cos();
        Self { cos, sin, turn: turn(angle), from, to }
    }

    /// Moves all minutiae.
    fn lay(&self, points: &Points, scratch: &mut Scratch) {
        let Scratch { rigid_x, rigid_y, .. } = scratch;
        let apart =
            || points.x.iter().zip(&points.y).map(|(x, y)| (x - self.from.0, y - self.from.1));
        rigid_x.clear();
        rigid_x.extend(apart().map(|(dx, dy)| self.to.0 + self.cos * dx - self.sin * dy));
        rigid_y.clear();
        rigid_y.extend(apart().map(|(dx, dy)| self.to.1 + self.sin * dx + self.cos * dy));
    }
}

/// Pairs minutiae one to one, the best fits first.
fn pair(
    a: &PreparedView,
    b: &PreparedView,
    rigid: &Rigid,
    scratch: &mut Scratch,
    tolerance: impl Fn(f32, f32) -> f32,
) {
    let Scratch { alike, x, y, candidates, pairs, .. } = scratch;
    let (first, second) = (a.points(), b.points());
    candidates.clear();
    let rows = alike.chunks_exact(b.len());
    for ((at, (x, y)), (row, turn)) in
        (0u8..).zip(x.iter().zip(y.iter())).zip(rows.zip(&first.turn))
    {
        let tolerance = tolerance(*x, *y);
        let expected = turn.wrapping_add(rigid.turn);
        let theirs = second.x.iter().zip(&second.y).zip(second.turn.iter().zip(row));
        for (to, ((their_x, their_y), (their_turn, alike))) in (0u8..).zip(theirs) {
            let (dx, dy) = (their_x - x, their_y - y);
            let off = dx * dx + dy * dy;
            let turned = their_turn.wrapping_sub(expected);
            let turned = turned ^ (turned >> 15);
            if off > tolerance * tolerance || turned > TURNED_MAX {
                continue;
            }
            let near = 1.0 - AT_EDGE * off.sqrt() / tolerance;
            let straight = 1.0 - AT_EDGE * f32::from(turned) / f32::from(TURNED_MAX);
            let fit = near * straight * (ALONE + alike);
            candidates.push(Pair { fit, a: at, b: to });
        }
    }
    candidates.sort_unstable_by(|one, other| {
        other.fit.total_cmp(&one.fit).then((one.a, one.b).cmp(&(other.a, other.b)))
    });
    // A bit for each minutia: there are 120 at most.
    let (mut paired_a, mut paired_b) = (0u128, 0u128);
    pairs.clear();
    for pair in candidates.iter() {
        let (a, b) = (1u128 << (pair.a & 127), 1u128 << (pair.b & 127));
        if paired_a & a == 0 && paired_b & b == 0 {
            paired_a |= a;
            paired_b |= b;
            pairs.push(*pair);
        }
    }
}

/// Shifts each minutia by what the pairs around it are still off: skin stretches smoothly.
///
/// A pair does not shift itself, so a minutia paired by chance gains nothing.
fn bend(second: &Points, scratch: &mut Scratch) {
    let Scratch { x, y, rigid_x, rigid_y, pairs, .. } = scratch;
    x.clone_from(rigid_x);
    y.clone_from(rigid_y);
    for (at, (x, y)) in x.iter_mut().zip(y.iter_mut()).enumerate() {
        let (mut sum, mut off_x, mut off_y) = (STIFFNESS, 0.0, 0.0);
        for pair in pairs.iter() {
            let (from, to) = (usize::from(pair.a), usize::from(pair.b));
            let (from_x, from_y) = (rigid_x[from], rigid_y[from]);
            let (dx, dy) = (from_x - rigid_x[at], from_y - rigid_y[at]);
            let near = (1.0 - (dx * dx + dy * dy) / (REACH_PX * REACH_PX)).max(0.0);
            let weight = if from == at { 0.0 } else { pair.fit * near * near };
            sum += weight;
            off_x += weight * (second.x[to] - from_x);
            off_y += weight * (second.y[to] - from_y);
        }
        *x += off_x / sum;
        *y += off_y / sum;
    }
}

/// Rounds of pairing and fitting before the skin's stretch is looked at.
const ROUNDS: usize = 3;

/// Any two views have two pairs somewhere.
const PAIRS_MIN: usize = 3;

/// Tolerance about a guess: a ridge, and 4° more or less.
const GUESS_PX: f32 = 10.0;
const GUESS_SHARE: f32 = 0.07;
const GUESS_FAR_PX: f32 = 150.0;

/// Tolerance about a fitted motion: two ridges, for the skin has not been bent yet.
const RIGID_PX: f32 = 18.0;

/// Tolerance about the bent one: a ridge and a half.
const BENT_PX: f32 = 12.0;

/// How far two directions differ: 0.6 rad.
#[expect(clippy::cast_possible_truncation, reason = "a tenth of a turn fits in 16 bits")]
const TURNED_MAX: i16 = (0.6 * 65_536.0 / TAU) as i16;

/// What a fit loses at the edge of each tolerance.
const AT_EDGE: f32 = 0.6;

/// What a pair is worth whose neighbourhoods have nothing in common.
const ALONE: f32 = 0.1;

/// Half a good pair's weight holds a minutia where the rigid motion puts it.
const STIFFNESS: f32 = 0.5;
