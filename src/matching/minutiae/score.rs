//! One number for how alike two views are.

#![expect(
    clippy::indexing_slicing,
    reason = "indices of minutiae, all below the lengths that they were counted from"
)]

use super::alignment::align;
use super::prepared::PreparedView;
use super::scratch::Scratch;
use super::seed::{SEEDS_FULL, rank};

/// How alike two views are: 0 for nothing in common, about 3 for the same picture; never NaN.
///
/// The order of the two does not matter, nor that of their minutiae.
pub(crate) fn likeness(one: &PreparedView, other: &PreparedView, scratch: &mut Scratch) -> f32 {
    let (a, b) = PreparedView::ordered(one, other);
    rank(a, b, SEEDS_FULL, scratch);
    let mut best = 0.0f32;
    // What earlier alignments paired would only lead to them again.
    let mut tried = [0u128; 128];
    let mut alignments = 0;
    let mut next = 0;
    while alignments < ALIGNMENTS
        && let Some(seed) = scratch.ranked.get(next).copied()
    {
        next += 1;
        if tried[usize::from(seed.a & 127)] & (1 << (seed.b & 127)) != 0 {
            continue;
        }
        alignments += 1;
        if align(a, b, seed, scratch) {
            for pair in &scratch.pairs {
                tried[usize::from(pair.a & 127)] |= 1 << (pair.b & 127);
            }
            best = best.max(score(a, b, scratch));
        }
    }
    best
}

/// What is paired, over the ⅔ power of what could be: between how much agrees (power 0) and which
/// share of it (power 1), either of which alone tells strangers with many minutiae, or with few in
/// common, worse apart.
fn score(a: &PreparedView, b: &PreparedView, scratch: &mut Scratch) -> f32 {
    let (first, second) = (a.points(), b.points());
    let paired: f32 = scratch
        .pairs
        .iter()
        .map(|pair| {
            let (a, b) = (usize::from(pair.a), usize::from(pair.b));
            let kinds = 1.0 - OTHER_KIND * (first.ending[a] - second.ending[b]).abs();
            pair.fit * kinds * (first.weight[a] * second.weight[b]).sqrt()
        })
        .sum();
    let (of_a, of_b) = overlap(a, b, scratch);
    paired / ((of_a * of_b).sqrt() + SLACK).cbrt().powi(2)
}

/// The weight of each view's minutiae in the part of the finger that both show.
fn overlap(a: &PreparedView, b: &PreparedView, scratch: &mut Scratch) -> (f32, f32) {
    let Scratch { x, y, nearest, .. } = scratch;
    let (first, second) = (a.points(), b.points());
    nearest.clear();
    nearest.resize(b.len(), f32::MAX);
    let mut of_a = 0.0;
    for ((x, y), weight) in x.iter().zip(y.iter()).zip(&first.weight) {
        let mut own = f32::MAX;
        for ((their_x, their_y), theirs) in second.x.iter().zip(&second.y).zip(nearest.iter_mut()) {
            let (dx, dy) = (their_x - x, their_y - y);
            let off = dx * dx + dy * dy;
            *theirs = theirs.min(off);
            own = own.min(off);
        }
        if own < SHOWN_PX * SHOWN_PX {
            of_a += weight;
        }
    }
    let shown = second.weight.iter().zip(nearest.iter());
    let of_b = shown.filter(|(_, off)| **off < SHOWN_PX * SHOWN_PX).map(|(weight, _)| weight).sum();
    (of_a, of_b)
}

/// Guesses that are followed up.
const ALIGNMENTS: usize = 4;

/// A minutia lies in what the other view shows when that has one so near: minutiae lie about 30
/// pixels apart.
const SHOWN_PX: f32 = 40.0;

/// What a pair loses when one view has an ending and the other a fork. Not all: a print that is
/// pressed harder joins ridges, and finders err.
const OTHER_KIND: f32 = 0.5;

/// Missing minutiae that are expected in the smallest overlap.
const SLACK: f32 = 2.0;
