//! A 1×1 convolution and the depthwise one behind it, strip by strip.
//!
//! What lies between the two is the largest value of such a network and is read once. So only some
//! rows of it are made at a time, as many as stay in the second-level cache; the rows that two strips
//! share are moved, not made twice.

use super::depthwise::{ByChannel, Depthwise};
use super::matrix::{Dense, Matrix, Room};
use super::memory::{Aligned, Extent, View, ViewMut};
use super::simd::{Vectors, dispatch};

/// The two convolutions, packed.
#[derive(Debug)]
pub(super) struct Strip {
    pub(super) matrix: Matrix,
    pub(super) weights: Depthwise,
    /// Rows above and columns left of what lies between.
    pub(super) padding: [usize; 2],
    /// Its rows and columns without padding.
    pub(super) height: usize,
    pub(super) width: usize,
    /// Its columns with padding.
    pub(super) columns: usize,
}

/// Runs both.
pub(super) fn strip(
    vectors: Vectors,
    work: &Strip,
    input: View<'_>,
    mut output: ViewMut<'_>,
    to: Extent,
    memory: &mut Aligned,
    room: &mut Room,
) {
    let row = work.columns * work.matrix.width();
    let (step, span) = (work.weights.step(), work.weights.span());
    let rows = (STRIP_BYTES / (row * size_of::<f32>()).max(1)).saturating_sub(span) / step + 1;
    let rows = rows.min(to.height.max(1));
    let len = ((rows - 1) * step + span) * row;
    let mut strip = Rows {
        work,
        row,
        numbers: memory.resize(len).get_mut(..len).unwrap_or_default(),
        held: 0..0,
    };
    for y in (0..to.height).step_by(rows) {
        let height = rows.min(to.height - y);
        strip.advance(y * step..(y + height - 1) * step + span, vectors, input, room);
        let pixel = work.matrix.width();
        let between = View { data: strip.numbers, row, pixel, channels: pixel };
        let output = output.down(y);
        let weights = &work.weights;
        dispatch(vectors, ByChannel { weights, input: between, output, height, width: to.width });
    }
}

/// Rows of what lies between, counted with padding.
struct Rows<'a> {
    work: &'a Strip,
    row: usize,
    numbers: &'a mut [f32],
    held: std::ops::Range<usize>,
}

impl Rows<'_> {
    /// Makes it hold `wanted`, which begins no earlier than what it holds.
    fn advance(
        &mut self,
        wanted: std::ops::Range<usize>,
        vectors: Vectors,
        input: View<'_>,
        room: &mut Room,
    ) {
        let kept = self.held.end.saturating_sub(wanted.start);
        if kept > 0 {
            let from = (wanted.start - self.held.start) * self.row;
            self.numbers.copy_within(from..from + kept * self.row, 0);
        }
        let [above, left] = self.work.padding;
        let made = wanted.start + kept..wanted.end;
        // Rows of the value itself, counted without padding.
        let first = made.start.saturating_sub(above).min(self.work.height);
        let last = made.end.saturating_sub(above).min(self.work.height);
        let pixel = self.work.matrix.width();
        let (begin, end) = (left * pixel, (left + self.work.width) * pixel);
        let inside = above..above + self.work.height;
        for (padded, line) in made.clone().zip(self.lines(kept)) {
            if inside.contains(&padded) {
                line.iter_mut().take(begin).for_each(|number| *number = 0.0);
                line.iter_mut().skip(end).for_each(|number| *number = 0.0);
            } else {
                line.fill(0.0);
            }
        }
        if first < last {
            let at = (first + above - wanted.start) * self.row + begin;
            let output = ViewMut {
                data: self.numbers.get_mut(at..).unwrap_or_default(),
                row: self.row,
                pixel,
                channels: pixel,
            };
            let dense = Dense {
                matrix: &self.work.matrix,
                part: self.work.matrix.whole(),
                stride: [1, 1],
                starts: &[0],
                input: input.down(first),
                residual: None,
                output,
                height: last - first,
                width: self.work.width,
                room,
            };
            dense.make(vectors);
        }
        self.held = wanted;
    }

    fn lines(&mut self, skipped: usize) -> impl Iterator<Item = &mut [f32]> {
        self.numbers.chunks_exact_mut(self.row.max(1)).skip(skipped)
    }
}

/// What lies between may take this much at a time.
const STRIP_BYTES: usize = 256 * 1024;
