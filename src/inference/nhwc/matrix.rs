//! Dense convolution as a matrix product that is never written out (implicit GEMM).
//!
//! With channels innermost, what one output pixel reads of one kernel row is `width · channels`
//! numbers in a run. So a convolution is, for each output pixel, `kernel height` dot products of such
//! runs with the weights; a 1×1 convolution is the case of one run.
//!
//! The **tile** computes some pixels (rows) by two registers of output channels, and keeps all its
//! sums in registers: 12 × 32 numbers with AVX-512, 6 × 16 with AVX2. For each number of the run it
//! loads two registers of weights, and multiplies them with one number of each pixel; so each load
//! feeds many multiplications. Bias, residual and activation are applied before the sums leave the
//! registers. Weights are **packed** in the order in which the tile reads them.
//!
//! Pixels are taken in chunks whose input stays in the second-level cache while all the channels of
//! the output are made of it.
#![expect(
    clippy::indexing_slicing,
    clippy::inline_always,
    reason = "sizes are checked once a tile, where slices are cut; registers do not cross a call"
)]

use super::memory::{Aligned, View, ViewMut, padded};
use super::simd::{Kernel, Simd};

/// Weights of a dense convolution, packed, with what follows the product.
#[derive(Debug)]
pub(super) struct Matrix {
    weights: Aligned,
    bias: Aligned,
    slope: Option<Aligned>,
    /// Runs a pixel: one a kernel row.
    runs: usize,
    /// Numbers a run.
    depth: usize,
}

impl Matrix {
    /// Packs weights: `weight(output channel, run, position)`, zero where the channel is padding.
    ///
    /// `block` is the count of output channels that one tile makes.
    pub(super) fn pack(
        [outputs, runs, depth]: [usize; 3],
        block: usize,
        weight: impl Fn(usize, usize, usize) -> f32,
        bias: &[f32],
        slope: Option<&[f32]>,
    ) -> Self {
        let width = padded(outputs);
        let mut packed = Vec::with_capacity(width * runs * depth);
        for first in (0..width).step_by(block) {
            let channels = first..(first + block).min(width);
            for run in 0..runs {
                for position in 0..depth {
                    packed.extend(channels.clone().map(|channel| {
                        if channel < outputs { weight(channel, run, position) } else { 0.0 }
                    }));
                }
            }
        }
        Self {
            weights: Aligned::from_slice(&packed),
            bias: per_channel(bias, width),
            slope: slope.map(|slope| per_channel(slope, width)),
            runs,
            depth,
        }
    }

    /// Output channels as they are stored.
    pub(super) fn width(&self) -> usize {
        self.bias.as_slice().len()
    }

    /// The block of output channels that begins at `first`.
    #[inline(always)]
    pub(super) fn block<S: Simd, const WIDE: usize>(&self, first: usize) -> Block<'_, S, WIDE> {
        let panel = self.runs * self.depth;
        let weights = S::vectors(&self.weights.as_slice()[first * panel..]).as_chunks().0;
        let channels = |numbers: &'_ Aligned| first..numbers.as_slice().len();
        let bias = S::vectors(&self.bias.as_slice()[channels(&self.bias)]);
        let slope = self.slope.as_ref().map(|slope| S::vectors(&slope.as_slice()[channels(slope)]));
        Block {
            weights: &weights[..panel],
            bias: &bias[..WIDE],
            slope: slope.map(|slope| &slope[..WIDE]),
            depth: self.depth,
            first,
        }
    }
}

/// Numbers a channel, with zeros for the channels that are padding.
pub(super) fn per_channel(numbers: &[f32], width: usize) -> Aligned {
    let mut aligned = Aligned::default();
    let place = aligned.resize(width);
    place.fill(0.0);
    place.iter_mut().zip(numbers).for_each(|(place, number)| *place = *number);
    aligned
}

/// `WIDE` registers of output channels.
pub(super) struct Block<'a, S: Simd, const WIDE: usize> {
    pub(super) weights: &'a [[S::Array; WIDE]],
    bias: &'a [S::Array],
    slope: Option<&'a [S::Array]>,
    depth: usize,
    first: usize,
}

impl<S: Simd, const WIDE: usize> Block<'_, S, WIDE> {
    /// Sums that hold the bias.
    #[inline(always)]
    pub(super) fn begin<const ROWS: usize>(&self, simd: S) -> [[S::V; WIDE]; ROWS] {
        [simd.load_each(self.bias); ROWS]
    }

    /// Applies residual and activation, and writes the sums of each pixel.
    #[inline(always)]
    pub(super) fn finish<const ROWS: usize>(
        &self,
        simd: S,
        mut sums: [[S::V; WIDE]; ROWS],
        residual: Option<(&View<'_>, [usize; ROWS])>,
        output: &mut [f32],
        places: [usize; ROWS],
    ) {
        if let Some((residual, pixels)) = residual {
            // A residual of fewer channels counts as zero in the others.
            let there = residual.pixel.saturating_sub(self.first) / S::LEN;
            for (row, pixel) in sums.iter_mut().zip(pixels) {
                let numbers = S::vectors(&residual.data[pixel + self.first.min(residual.pixel)..]);
                for (sum, number) in row.iter_mut().zip(numbers).take(there) {
                    *sum = simd.add(*sum, simd.load(number));
                }
            }
        }
        if let Some(slope) = self.slope {
            let slope = simd.load_each::<WIDE>(slope);
            for row in &mut sums {
                for (sum, slope) in row.iter_mut().zip(slope) {
                    *sum = simd.prelu(*sum, slope);
                }
            }
        }
        for (row, place) in sums.iter().zip(places) {
            let place = S::vectors_mut(&mut output[place + self.first..][..WIDE * S::LEN]);
            for (place, sum) in place.iter_mut().zip(row) {
                simd.store(place, *sum);
            }
        }
    }
}

/// Where one output pixel's numbers are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pixel {
    input: usize,
    residual: usize,
    output: usize,
}

/// A dense convolution over `height` × `width` output pixels.
pub(super) struct Dense<'a> {
    pub(super) matrix: &'a Matrix,
    pub(super) stride: [usize; 2],
    pub(super) input: View<'a>,
    pub(super) residual: Option<View<'a>>,
    pub(super) output: ViewMut<'a>,
    pub(super) height: usize,
    pub(super) width: usize,
    /// Scratch: the chunk's pixels.
    pub(super) pixels: &'a mut Vec<Pixel>,
}

impl Kernel for Dense<'_> {
    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let total = self.height * self.width;
        let run_bytes = self.matrix.depth * self.matrix.runs.min(3) * size_of::<f32>();
        let chunk = (CHUNK_BYTES / run_bytes).clamp(4 * S::ROWS, 80 * S::ROWS);
        let chunk = chunk / S::ROWS * S::ROWS;
        for start in (0..total).step_by(chunk) {
            self.locate(start..(start + chunk).min(total));
            let width = self.matrix.width();
            let mut first = 0;
            while first < width {
                if width - first >= 2 * S::LEN {
                    self.channels::<S, 2>(simd, first);
                    first += 2 * S::LEN;
                } else {
                    self.channels::<S, 1>(simd, first);
                    first += S::LEN;
                }
            }
        }
    }
}

impl Dense<'_> {
    /// Notes where each pixel of a chunk reads and writes.
    #[inline(always)]
    fn locate(&mut self, chunk: std::ops::Range<usize>) {
        let (mut y, mut x) = (chunk.start / self.width, chunk.start % self.width);
        self.pixels.clear();
        for _ in chunk {
            self.pixels.push(Pixel {
                input: y * self.stride[0] * self.input.row + x * self.stride[1] * self.input.pixel,
                residual: self.residual.map_or(0, |view| y * view.row + x * view.pixel),
                output: y * self.output.row + x * self.output.pixel,
            });
            x += 1;
            if x == self.width {
                (x, y) = (0, y + 1);
            }
        }
    }

    /// Makes one block of output channels for all pixels of the chunk, in tiles of like size.
    #[inline(always)]
    fn channels<S: Simd, const WIDE: usize>(&mut self, simd: S, first: usize) {
        let block = self.matrix.block::<S, WIDE>(first);
        let mut rest = self.pixels.as_slice();
        for left in (1..=rest.len().div_ceil(S::ROWS)).rev() {
            let (pixels, after) = rest.split_at(rest.len().div_ceil(left));
            rest = after;
            macro_rules! tile {
                ($($rows:literal)*) => { match pixels.len() {
                    $($rows if $rows <= S::ROWS => tile::<S, $rows, WIDE>(
                        simd, &block, pixels, &self.input, self.residual.as_ref(), self.output.data,
                    ),)*
                    _ => {}
                } };
            }
            tile!(1 2 3 4 5 6 7 8 9 10 11 12);
        }
    }
}

#[inline(always)]
fn tile<S: Simd, const ROWS: usize, const WIDE: usize>(
    simd: S,
    block: &Block<'_, S, WIDE>,
    pixels: &[Pixel],
    input: &View<'_>,
    residual: Option<&View<'_>>,
    output: &mut [f32],
) {
    let pixels = &pixels[..ROWS];
    let mut sums = block.begin::<ROWS>(simd);
    for (run, weights) in block.weights.chunks_exact(block.depth).enumerate() {
        let mut rows: [&[f32]; ROWS] = [&[]; ROWS];
        for (row, pixel) in rows.iter_mut().zip(pixels) {
            *row = &input.data[pixel.input + run * input.row..][..weights.len()];
        }
        for (position, weights) in weights.iter().enumerate() {
            let weights = simd.load_each::<WIDE>(weights);
            for (sums, row) in sums.iter_mut().zip(&rows) {
                let number = simd.splat(row[position]);
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum = simd.mul_add(number, weight, *sum);
                }
            }
        }
    }
    let (mut residuals, mut places) = ([0; ROWS], [0; ROWS]);
    for ((residual, place), pixel) in residuals.iter_mut().zip(&mut places).zip(pixels) {
        (*residual, *place) = (pixel.residual, pixel.output);
    }
    block.finish(simd, sums, residual.map(|view| (view, residuals)), output, places);
}

/// Input that a chunk of pixels may touch: a part of the second-level cache.
const CHUNK_BYTES: usize = 192 * 1024;
