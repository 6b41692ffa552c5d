//! Pairs of minutiae with like neighbourhoods, and which of them agree on how the views lie.

#![expect(
    clippy::indexing_slicing,
    reason = "indices of minutiae and seeds, all below the lengths that they were counted from"
)]

use std::f32::consts::TAU;
use std::ops::Range;

use zeroize::Zeroize;

use super::neighbourhood::{Tolerances, WHOLE};
use super::prepared::PreparedView;
use super::scratch::Scratch;

/// A minutia of the first view, one of the second, and what speaks for them.
#[derive(Clone, Copy, Default, PartialEq, Zeroize)]
pub(super) struct Seed {
    /// Likeness of the neighbourhoods; after a vote, of all that agree.
    pub vote: f32,
    /// The minutia of the first view.
    pub a: u8,
    /// The minutia of the second.
    pub b: u8,
}

/// The best seeds' geometry, number by number.
#[derive(Default)]
pub(super) struct Seeds {
    pub likeness: Vec<f32>,
    pub from_x: Vec<f32>,
    pub from_y: Vec<f32>,
    pub to_x: Vec<f32>,
    pub to_y: Vec<f32>,
    /// In 2⁻³² of a turn, so that it wraps round by itself.
    pub rotation: Vec<i32>,
    pub a: Vec<i32>,
    pub b: Vec<i32>,
}

/// How well the best guess of how two views lie is agreed on: a fifth of a full comparison's work, and
/// nearly as telling.
pub(crate) fn agreement(a: &PreparedView, b: &PreparedView, scratch: &mut Scratch) -> f32 {
    rank(a, b, SEEDS_QUICK, scratch);
    scratch.ranked.first().map_or(0.0, |best| best.vote)
}

/// Ranks the guesses, those that most others agree with first.
pub(super) fn rank(a: &PreparedView, b: &PreparedView, seeds_max: usize, scratch: &mut Scratch) {
    scratch.ranked.clear();
    if a.len().min(b.len()) < MINUTIAE_MIN {
        return;
    }
    compare_neighbourhoods(a, b, scratch);
    let ranked = &mut scratch.ranked;
    // Ties by place, so that the order does not depend on how the best were picked out.
    let before = |one: &Seed, other: &Seed| {
        other.vote.total_cmp(&one.vote).then((one.a, one.b).cmp(&(other.a, other.b)))
    };
    if ranked.len() > seeds_max {
        ranked.select_nth_unstable_by(seeds_max, before);
        ranked.truncate(seeds_max);
    }
    scratch.seeds.fill(ranked, a, b);
    for (number, seed) in ranked.iter_mut().enumerate() {
        seed.vote = scratch.seeds.vote(number);
    }
    ranked.sort_unstable_by(before);
}

/// Fills the table of likenesses, and lists what is worth a guess.
fn compare_neighbourhoods(a: &PreparedView, b: &PreparedView, scratch: &mut Scratch) {
    let Scratch { tolerances, alike, ranked, .. } = scratch;
    tolerances.clear();
    tolerances.extend(a.neighbourhoods().iter().map(Tolerances::of));
    alike.clear();
    alike.resize(a.len() * b.len(), 0.0);
    let own = a.neighbourhoods().iter().zip(tolerances.iter()).zip(&a.points().turn);
    let rows = alike.chunks_exact_mut(b.len());
    for ((at, row), ((neighbours, tolerances), turn)) in (0u8..).zip(rows).zip(own) {
        if neighbours.count() < NEIGHBOURS_MIN {
            continue;
        }
        for range in turned_at_most(&b.points().turn, *turn) {
            for index in range {
                let theirs = &b.neighbourhoods()[index];
                if theirs.count() < NEIGHBOURS_MIN {
                    continue;
                }
                let count = neighbours.count().min(theirs.count());
                let shared = neighbours.shared(tolerances, theirs);
                let share = share(shared, count);
                row[index] = share;
                if share > SHARE_MIN
                    && let Ok(b) = u8::try_from(index)
                {
                    ranked.push(Seed { vote: share, a: at, b });
                }
            }
        }
    }
}

/// The neighbours shared, of those that could be; few that could be are taken for more, as they may
/// agree by chance.
#[inline]
#[expect(clippy::cast_precision_loss, reason = "at most 80,000")]
fn share(shared: i32, count: u8) -> f32 {
    shared as f32 / (f32::from(WHOLE) * f32::from(count.max(NEIGHBOURS_FULL)))
}

/// Of minutiae by rising direction, those turned by no more than [`ROTATION_MAX`]: one range, or two
/// where the turn ends.
fn turned_at_most(turns: &[i16], from: i16) -> [Range<usize>; 2] {
    let (low, high) = (from.wrapping_sub(ROTATION_MAX), from.wrapping_add(ROTATION_MAX));
    let start = turns.partition_point(|turn| *turn < low);
    let end = turns.partition_point(|turn| *turn <= high);
    if low <= high { [start..end, 0..0] } else { [0..end, start..turns.len()] }
}

impl Seeds {
    fn fill(&mut self, seeds: &[Seed], a: &PreparedView, b: &PreparedView) {
        let (from, to) = (a.points(), b.points());
        let each = |into: &mut Vec<f32>, of: &dyn Fn(&Seed) -> f32| {
            into.clear();
            into.extend(seeds.iter().map(of));
        };
        each(&mut self.likeness, &|seed| seed.vote);
        each(&mut self.from_x, &|seed| from.x[usize::from(seed.a)]);
        each(&mut self.from_y, &|seed| from.y[usize::from(seed.a)]);
        each(&mut self.to_x, &|seed| to.x[usize::from(seed.b)]);
        each(&mut self.to_y, &|seed| to.y[usize::from(seed.b)]);
        let each = |into: &mut Vec<i32>, of: &dyn Fn(&Seed) -> i32| {
            into.clear();
            into.extend(seeds.iter().map(of));
        };
        each(&mut self.rotation, &|seed| {
            let turn = to.turn[usize::from(seed.b)].wrapping_sub(from.turn[usize::from(seed.a)]);
            i32::from(turn) << 16
        });
        each(&mut self.a, &|seed| i32::from(seed.a));
        each(&mut self.b, &|seed| i32::from(seed.b));
    }

    /// One seed's likeness and that of every other whose minutiae lie where this one puts them.
    #[expect(clippy::cast_precision_loss, reason = "an angle, to 24 bits")]
    fn vote(&self, number: usize) -> f32 {
        let rotation = self.rotation[number];
        let (sin, cos) = (rotation as f32 * (TAU / 4_294_967_296.0)).sin_cos();
        let (from_x, from_y) = (self.from_x[number], self.from_y[number]);
        let (to_x, to_y) = (self.to_x[number], self.to_y[number]);
        let (a, b) = (self.a[number], self.b[number]);
        let count = self.likeness.len();
        // Slices of one length, which the compiler then need not check at each step.
        let (likeness, rotations) = (&self.likeness[..count], &self.rotation[..count]);
        let (firsts_x, firsts_y) = (&self.from_x[..count], &self.from_y[..count]);
        let (seconds_x, seconds_y) = (&self.to_x[..count], &self.to_y[..count]);
        let (first, second) = (&self.a[..count], &self.b[..count]);
        let mut votes = [0.0f32; LANES];
        for other in 0..count {
            let (dx, dy) = (firsts_x[other] - from_x, firsts_y[other] - from_y);
            let (ex, ey) = (seconds_x[other] - to_x, seconds_y[other] - to_y);
            let (off_x, off_y) = (cos * dx - sin * dy - ex, sin * dx + cos * dy - ey);
            let off = off_x * off_x + off_y * off_y;
            let distance = (dx * dx + dy * dy).sqrt().min(DISTANCE_MAX_PX);
            let tolerance = AGREE_PX + AGREE_SHARE * distance;
            let turned = rotations[other].wrapping_sub(rotation);
            // One minutia has one partner.
            let agrees =
                (turned ^ (turned >> 31)) <= AGREE_TURN && first[other] != a && second[other] != b;
            let fit = (1.0 - off / (tolerance * tolerance)).max(0.0);
            votes[other % LANES] += if agrees { likeness[other] * fit } else { 0.0 };
        }
        self.likeness[number] + votes.iter().sum::<f32>()
    }
}

/// Fewer minutiae say nothing about whose they are.
pub(super) const MINUTIAE_MIN: usize = 6;

/// Guesses that are voted on: in a full comparison, and in a quick one.
pub(super) const SEEDS_FULL: usize = 48;
const SEEDS_QUICK: usize = 24;

/// Fewer neighbours are no structure.
const NEIGHBOURS_MIN: u8 = 3;
const NEIGHBOURS_FULL: u8 = 6;

/// Less than one neighbour of eight is chance.
const SHARE_MIN: f32 = 0.12;

/// How far a finger is turned at most between two captures: 1.2 rad (69°).
#[expect(clippy::cast_possible_truncation, reason = "a fifth of a turn fits in 16 bits")]
const ROTATION_MAX: i16 = (1.2 * 65_536.0 / TAU) as i16;

/// By how much two guesses of one truth differ: in place, by the error of a direction times the
/// distance, and in direction, by 0.6 rad.
const AGREE_PX: f32 = 10.0;
const AGREE_SHARE: f32 = 0.15;
const DISTANCE_MAX_PX: f32 = 150.0;
#[expect(clippy::cast_possible_truncation, reason = "a tenth of a turn fits in 32 bits")]
const AGREE_TURN: i32 = (0.6 * 4_294_967_296.0 / TAU) as i32;

/// Sums kept side by side.
const LANES: usize = 4;
