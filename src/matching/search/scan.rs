//! The scan: all rows by their codes, the few that could count in full.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;

use rayon::prelude::*;

use super::kernels::{Kernel, LANES, Marks, Panel, Sums, is_below};
use super::people::People;
use super::quantise::{Bar, Coded, Reach};
use super::segment::{Bound, SEGMENT_BLOCKS, SEGMENT_ROWS, Segment};
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
    let mut together = Scratch::new(kernel);
    let mut single = Scratch::new(kernel);
    for (segment, number) in segments.iter().zip(first_segment..) {
        let first = number * SEGMENT_ROWS;
        let (full, rest) = questions.as_chunks_mut();
        for (panel, questions) in panels.full.iter().zip(full) {
            together.ask(questions, panel, segment, first);
        }
        for (panel, question) in panels.single.iter().zip(rest) {
            single.ask(std::array::from_mut(question), panel, segment, first);
        }
    }
    questions
}

/// What is known of one segment's codes with `P` probes.
struct Scratch<const P: usize> {
    kernel: Kernel,
    sums: Vec<Sums<P>>,
    marks: Vec<Marks<P>>,
}

impl<const P: usize> Scratch<P> {
    fn new(kernel: Kernel) -> Self {
        Self {
            kernel,
            sums: vec![[[0; LANES]; P]; SEGMENT_BLOCKS],
            marks: vec![[0; P]; SEGMENT_BLOCKS],
        }
    }

    /// Asks one segment, whose first row is at the position `first`.
    fn ask<K>(
        &mut self,
        questions: &mut [Question<'_>; P],
        panel: &Panel<P>,
        segment: &Segment<K>,
        first: usize,
    ) {
        let bounds = segment.bounds();
        let bars = questions.each_ref().map(|question| question.bar);
        self.kernel.multiply(segment.groups(), panel, &mut self.sums);
        self.kernel.mark(&self.sums, bounds, &bars, &mut self.marks);
        for (block, ((sums, marks), bound)) in
            self.sums.iter().zip(&self.marks).zip(bounds).enumerate()
        {
            if *marks == [0; P] {
                continue;
            }
            for ((question, sums), mark) in questions.iter_mut().zip(sums).zip(marks) {
                if *mark != 0 {
                    question.pick(segment, first, block, bound, sums);
                }
            }
        }
    }
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

    /// Compares the candidates of one block in full.
    fn pick<K>(
        &mut self,
        segment: &Segment<K>,
        first: usize,
        block: usize,
        bound: &Bound,
        sums: &[i32; LANES],
    ) {
        for (lane, (sum, scale)) in sums.iter().zip(&bound.scales).enumerate() {
            let slot = block * LANES + lane;
            // The bar may have risen since the block was marked.
            if !is_below(*sum, *scale, self.bar.limit(bound.error, bound.norm))
                && let Some(row) = segment.row(slot)
            {
                self.compare(row, first + slot);
            }
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
