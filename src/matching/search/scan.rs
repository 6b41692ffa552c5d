//! The scan: all rows by their codes, the few that could count in full.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;

use rayon::prelude::*;

use super::kernels::{Kernel, LANES, Panel, Sums};
use super::people::People;
use super::quantise::{Bar, Coded, Reach};
use super::segment::{SEGMENT_BLOCKS, SEGMENT_ROWS, Segment};
use crate::domain::score::MatchScore;

/// What is looked for: the same for every probe of a scan.
pub(super) struct Wanted<'a> {
    /// The constant part of a score.
    pub offset: f32,
    /// No lower score is accepted.
    pub score_min: f32,
    /// Whether a score reaches the bar: what decides.
    pub accepts: &'a (dyn Fn(MatchScore) -> bool + Sync),
    /// The most rows that are kept for each probe.
    pub hits_max: usize,
}

/// A row that was accepted. The greater one is the one with the higher score; of equal scores, the
/// one at the lower position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Found {
    pub score: MatchScore,
    pub position: usize,
}

impl Eq for Found {}

impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Found {
    fn cmp(&self, other: &Self) -> Ordering {
        // Scores are finite, so they always compare.
        let by_score = self.score.partial_cmp(&other.score).unwrap_or(Ordering::Equal);
        by_score.then_with(|| other.position.cmp(&self.position))
    }
}

/// The best rows for each probe, best first: those that comparing every row in full would give.
pub(super) fn scan<K: Send + Sync>(
    people: &People<K>,
    probes: &[&[f32]],
    wanted: &Wanted<'_>,
    kernel: Kernel,
) -> Vec<Vec<Found>> {
    let questions: Vec<_> = probes.iter().map(|probe| Question::new(probe, wanted)).collect();
    let segments = people.segments();
    let best = if wanted.hits_max == 0 {
        questions
    } else if people.len() < PARALLEL_ROWS_MIN {
        scan_part(questions.clone(), &panels(&questions), segments, 0, kernel)
    } else {
        let panels = panels(&questions);
        let part = segments.len().div_ceil(rayon::current_num_threads() * PARTS_A_THREAD);
        let parts = segments.par_chunks(part).enumerate().map(|(number, segments)| {
            scan_part(questions.clone(), &panels, segments, number * part, kernel)
        });
        parts.reduce(|| questions.clone(), merge)
    };
    best.into_iter().map(Question::into_best).collect()
}

fn merge<'a>(mut into: Vec<Question<'a>>, from: Vec<Question<'a>>) -> Vec<Question<'a>> {
    for (into, from) in into.iter_mut().zip(from) {
        from.best.into_iter().for_each(|Reverse(found)| into.keep(found));
    }
    into
}

/// The probes' codes, as the kernels take them: [`TOGETHER`] at once, and the rest one by one.
struct Panels {
    full: Vec<Panel<TOGETHER>>,
    single: Vec<Panel<1>>,
}

fn panels(questions: &[Question<'_>]) -> Panels {
    let codes: Vec<&[i8]> = questions.iter().map(|question| &*question.coded.codes).collect();
    let (full, rest) = codes.as_chunks();
    Panels {
        full: full.iter().map(|codes| Panel::new(*codes)).collect(),
        single: rest.iter().map(|codes| Panel::new([codes])).collect(),
    }
}

fn scan_part<'a, K>(
    mut questions: Vec<Question<'a>>,
    panels: &Panels,
    segments: &[Arc<Segment<K>>],
    first_segment: usize,
    kernel: Kernel,
) -> Vec<Question<'a>> {
    let mut sums = vec![[[0; LANES]; TOGETHER]; SEGMENT_BLOCKS];
    let mut single_sums = vec![[[0; LANES]; 1]; SEGMENT_BLOCKS];
    for (segment, number) in segments.iter().zip(first_segment..) {
        let first = number * SEGMENT_ROWS;
        let (together, rest) = questions.as_chunks_mut();
        for (panel, questions) in panels.full.iter().zip(together) {
            kernel.multiply(segment.groups(), panel, &mut sums);
            pick(questions, segment, first, &sums);
        }
        for (panel, question) in panels.single.iter().zip(rest) {
            kernel.multiply(segment.groups(), panel, &mut single_sums);
            pick(std::array::from_mut(question), segment, first, &single_sums);
        }
    }
    questions
}

/// Compares the candidates of one segment in full.
fn pick<const P: usize, K>(
    questions: &mut [Question<'_>; P],
    segment: &Segment<K>,
    first: usize,
    sums: &[Sums<P>],
) {
    for (block, (bound, sums)) in segment.bounds().iter().zip(sums).enumerate() {
        for (question, sums) in questions.iter_mut().zip(sums) {
            let limit = question.bar.limit(bound.error, bound.norm);
            // Without a branch in the loop, so that the compiler uses vector registers: it is
            // nearly always false.
            let any = sums
                .iter()
                .zip(&bound.scales)
                .fold(false, |any, (sum, scale)| any | !is_below(*sum, *scale, limit));
            if any {
                for (lane, (sum, scale)) in sums.iter().zip(&bound.scales).enumerate() {
                    let slot = block * LANES + lane;
                    if let Some(row) = segment.row(slot)
                        && !is_below(*sum, *scale, limit)
                    {
                        question.compare(row, first + slot);
                    }
                }
            }
        }
    }
}

/// Whether a row's codes rule it out; never with a number that is none.
#[expect(clippy::cast_precision_loss, reason = "the bound allows for the rounding")]
fn is_below(sum: i32, scale: f32, limit: f32) -> bool {
    (sum as f32) * scale < limit
}

/// A probe, and what was found for it so far.
#[derive(Clone)]
struct Question<'a> {
    probe: &'a [f32],
    wanted: &'a Wanted<'a>,
    coded: Arc<Coded>,
    reach: Arc<Reach>,
    bar: Bar,
    best: BinaryHeap<Reverse<Found>>,
}

impl<'a> Question<'a> {
    fn new(probe: &'a [f32], wanted: &'a Wanted<'a>) -> Self {
        let coded = Coded::of(probe);
        let reach = Reach::new(probe, &coded);
        let bar = reach.bar(wanted.score_min, wanted.offset);
        Self {
            probe,
            wanted,
            coded: Arc::new(coded),
            reach: Arc::new(reach),
            bar,
            best: BinaryHeap::new(),
        }
    }

    /// The full comparison: what alone decides.
    fn compare(&mut self, row: &[f32], position: usize) {
        if let Ok(score) = MatchScore::new(dot(self.probe, row) + self.wanted.offset)
            && (self.wanted.accepts)(score)
        {
            self.keep(Found { score, position });
        }
    }

    /// Keeps a row if it is among the best; the worst of these becomes the bar once there are enough.
    fn keep(&mut self, found: Found) {
        self.best.push(Reverse(found));
        if self.best.len() > self.wanted.hits_max {
            self.best.pop();
        }
        if self.best.len() == self.wanted.hits_max
            && let Some(Reverse(worst)) = self.best.peek()
        {
            let score_min = worst.score.get().max(self.wanted.score_min);
            self.bar = self.reach.bar(score_min, self.wanted.offset);
        }
    }

    fn into_best(self) -> Vec<Found> {
        self.best.into_sorted_vec().into_iter().map(|Reverse(found)| found).collect()
    }
}

/// The product of two vectors in full: the definition of a score.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Eight sums at once, so that the compiler can use vector registers.
    let mut sums = [0.0f32; 8];
    let (a_chunks, a_rest) = a.as_chunks::<8>();
    let (b_chunks, b_rest) = b.as_chunks::<8>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// Below this a scan costs less than waking other threads.
pub(super) const PARALLEL_ROWS_MIN: usize = 8_192;

/// Parts that each thread scans, so that one that is held up leaves some to the others.
const PARTS_A_THREAD: usize = 8;

/// Probes that a kernel multiplies at once.
const TOGETHER: usize = 8;
