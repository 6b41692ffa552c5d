//! Two 1×1 convolutions with many channels between them, a block of those at a time.
//!
//! What lies between is several times larger than what goes in and comes out. So only some of its
//! channels are made, for some rows, and go into the sums of the output at once: it never leaves the
//! second-level cache, and neither do the weights that it is made with.

use super::matrix::{Dense, Matrix, Part, Room};
use super::memory::{Aligned, View, ViewMut};
use super::simd::Vectors;

/// The two convolutions, packed.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) first: Matrix,
    pub(super) second: Matrix,
}

/// What a pair works with.
pub(super) struct Pairing<'a> {
    pub(super) input: View<'a>,
    pub(super) residual: Option<View<'a>>,
    pub(super) output: ViewMut<'a>,
    pub(super) height: usize,
    pub(super) width: usize,
    /// Scratch: what lies between.
    pub(super) between: &'a mut Aligned,
    pub(super) room: &'a mut Room,
}

impl Pair {
    /// Runs both.
    pub(super) fn run(&self, vectors: Vectors, pairing: Pairing<'_>) {
        let Pairing { input, residual, mut output, height, width, between, room } = pairing;
        let hidden = self.first.width();
        let each = (self.first.depth() + self.second.width()) * size_of::<f32>();
        let blocks = hidden.div_ceil((WEIGHTS_BYTES / each).max(vectors.block()));
        let block = hidden.div_ceil(blocks).next_multiple_of(vectors.block()).min(hidden);
        let rows = (BETWEEN_BYTES / (block * width * size_of::<f32>())).clamp(1, height.max(1));
        let len = rows * width * block;
        let memory = between.resize(len);
        for y in (0..height).step_by(rows) {
            let rows = rows.min(height - y);
            for start in (0..hidden).step_by(block) {
                let channels = start..(start + block).min(hidden);
                let pixel = channels.len();
                let view = ViewMut { data: memory, row: width * pixel, pixel, channels: pixel };
                let first = Dense {
                    matrix: &self.first,
                    part: Part { channels: channels.clone(), ..self.first.whole() },
                    stride: [1, 1],
                    starts: &[0],
                    input: input.down(y),
                    residual: None,
                    output: view,
                    height: rows,
                    width,
                    room,
                };
                first.make(vectors);
                let view = View { data: memory, row: width * pixel, pixel, channels: pixel };
                // The last numbers of a run may be padding that no weight is kept for.
                let positions = start..channels.end.min(self.second.depth());
                let ends = channels.end == hidden;
                let second = Dense {
                    matrix: &self.second,
                    part: Part { positions, begins: start == 0, ends, ..self.second.whole() },
                    stride: [1, 1],
                    starts: &[0],
                    input: view,
                    residual: residual.map(|view| view.down(y)),
                    output: output.down(y),
                    height: rows,
                    width,
                    room,
                };
                second.make(vectors);
            }
        }
    }
}

/// Weights that are used for all pixels before others are: a part of the second-level cache.
const WEIGHTS_BYTES: usize = 256 * 1024;

/// What lies between may take this much at a time.
const BETWEEN_BYTES: usize = 192 * 1024;
