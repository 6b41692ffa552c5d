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
//! Where the processor has tiles of its own (AMX), those multiply instead ([`super::pieces`]).
//!
//! Pixels are taken in chunks whose input stays in the second-level cache while all the channels of
//! the output are made of it. A 1×1 convolution may be done in part: some output channels, or some of
//! the numbers that they are made of ([`Part`]).
#![expect(
    clippy::indexing_slicing,
    clippy::inline_always,
    reason = "sizes are checked once a tile, where slices are cut; registers do not cross a call"
)]

use std::ops::Range;

use super::curve::Curve;
use super::memory::{Aligned, View, ViewMut};
use super::pieces::{Pieces, Tiled};
use super::simd::{Kernel, Simd, Vectors, dispatch};
use super::tiles::{self, Sums};

/// Weights of a dense convolution, packed, with what follows the product.
#[derive(Debug)]
pub(super) struct Matrix {
    weights: Weights,
    follow: Follow,
    /// Runs a pixel: one a kernel row, or one a position of the kernel.
    runs: usize,
    /// Numbers a run.
    depth: usize,
}

#[derive(Debug)]
enum Weights {
    Numbers(Aligned),
    Pieces(Pieces),
}

/// What follows a sum, for each output channel as it is stored.
#[derive(Debug)]
pub(super) struct Follow {
    pub(super) bias: Aligned,
    pub(super) slope: Option<Aligned>,
    pub(super) curve: Option<Curve>,
}

impl Matrix {
    /// Packs weights, `weight(output channel as stored, run, position)`, as they are.
    pub(super) fn pack(
        [runs, depth]: [usize; 2],
        vectors: Vectors,
        weight: impl Fn(usize, usize, usize) -> f32,
        follow: Follow,
    ) -> Self {
        let block = vectors.block();
        let width = follow.bias.as_slice().len();
        // Behind the last block there are zeros, which are fetched ahead.
        let len = width * runs * depth + block * FETCHED_AHEAD;
        let mut packed = Vec::with_capacity(len);
        for first in (0..width).step_by(block) {
            let channels = first..(first + block).min(width);
            for run in 0..runs {
                for position in 0..depth {
                    packed.extend(channels.clone().map(|channel| weight(channel, run, position)));
                }
            }
        }
        packed.resize(len, 0.0);
        let weights = Weights::Numbers(Aligned::from_slice(&packed));
        Self { weights, follow, runs, depth }
    }

    /// Packs them in pieces, for tiles.
    pub(super) fn pack_pieces(
        [runs, depth]: [usize; 2],
        weight: impl Fn(usize, usize, usize) -> f32,
        follow: Follow,
    ) -> Self {
        let width = follow.bias.as_slice().len();
        let weights = Weights::Pieces(Pieces::pack(width, [runs, depth], weight));
        Self { weights, follow, runs, depth }
    }

    /// The whole of it.
    pub(super) fn whole(&self) -> Part {
        Part { channels: 0..self.width(), positions: 0..self.depth, begins: true, ends: true }
    }

    /// Output channels as they are stored.
    pub(super) fn width(&self) -> usize {
        self.follow.bias.as_slice().len()
    }

    /// Numbers a run.
    pub(super) const fn depth(&self) -> usize {
        self.depth
    }

    /// The block of output channels that begins at `first`, of weights that are numbers.
    #[inline(always)]
    pub(super) fn block<S: Simd, const WIDE: usize>(&self, first: usize) -> Block<'_, S, WIDE> {
        let panel = self.runs * self.depth;
        let numbers = match &self.weights {
            Weights::Numbers(numbers) => &numbers.as_slice()[first * panel..],
            // Nobody asks: `Dense::make` leaves pieces to the tiles, and nobody else is given them.
            Weights::Pieces(_) => &[],
        };
        let weights = S::vectors(numbers).as_chunks().0;
        Block {
            weights: &weights[..panel],
            later: &weights[FETCHED_AHEAD..][..panel],
            depth: self.depth,
            ending: self.ending(first),
        }
    }

    /// What follows the sums of the block that begins at `first`.
    #[inline(always)]
    pub(super) fn ending<S: Simd, const WIDE: usize>(&self, first: usize) -> Ending<'_, S, WIDE> {
        let Follow { bias, slope, curve } = &self.follow;
        let channels = |numbers: &'_ Aligned| first..numbers.as_slice().len();
        let bias = S::vectors(&bias.as_slice()[channels(bias)]);
        let slope = slope.as_ref().map(|slope| S::vectors(&slope.as_slice()[channels(slope)]));
        Ending {
            bias: &bias[..WIDE],
            slope: slope.map(|slope| &slope[..WIDE]),
            curve: *curve,
            first,
            place: first,
        }
    }
}

/// What of a product is done at a time. In parts only a product of one run can be.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Output channels; the first of them is written first in the output.
    pub(super) channels: Range<usize>,
    /// Numbers of the run.
    pub(super) positions: Range<usize>,
    /// Whether the sums begin at the bias, and not at what is in the output.
    pub(super) begins: bool,
    /// Whether the sums are complete then.
    pub(super) ends: bool,
}

/// `WIDE` registers of output channels.
pub(super) struct Block<'a, S: Simd, const WIDE: usize> {
    pub(super) weights: &'a [[S::Array; WIDE]],
    /// The weights [`FETCHED_AHEAD`] positions later, at the end those of the block behind it.
    later: &'a [[S::Array; WIDE]],
    depth: usize,
    pub(super) ending: Ending<'a, S, WIDE>,
}

impl<S: Simd, const WIDE: usize> Block<'_, S, WIDE> {
    /// The same, for a part.
    #[inline(always)]
    fn part(self, part: &Part) -> Self {
        let ending = self.ending.part(part);
        if part.positions.len() == self.depth {
            return Self { ending, ..self };
        }
        let weights = &self.weights[part.positions.clone()];
        let later = &self.later[part.positions.clone()];
        Self { weights, later, depth: weights.len(), ending }
    }
}

/// What follows the sums of `WIDE` registers of output channels.
pub(super) struct Ending<'a, S: Simd, const WIDE: usize> {
    bias: &'a [S::Array],
    slope: Option<&'a [S::Array]>,
    curve: Option<Curve>,
    /// Its first channel, and where that is written in a pixel.
    first: usize,
    place: usize,
}

impl<S: Simd, const WIDE: usize> Ending<'_, S, WIDE> {
    /// The same, for a part.
    #[inline(always)]
    pub(super) fn part(self, part: &Part) -> Self {
        let slope = if part.ends { self.slope } else { None };
        let curve = if part.ends { self.curve } else { None };
        Self { slope, curve, place: self.first - part.channels.start, ..self }
    }

    /// Sums that hold the bias.
    #[inline(always)]
    pub(super) fn begin<const ROWS: usize>(&self, simd: S) -> [[S::V; WIDE]; ROWS] {
        [simd.load_each(self.bias); ROWS]
    }

    /// Sums that go on from what is in the output.
    #[inline(always)]
    pub(super) fn go_on<const ROWS: usize>(
        &self,
        simd: S,
        pixels: &[Pixel],
        output: &[f32],
    ) -> [[S::V; WIDE]; ROWS] {
        let mut sums = [[simd.splat(0.0); WIDE]; ROWS];
        for (row, pixel) in sums.iter_mut().zip(pixels) {
            let place = pixel.output + self.place;
            *row = simd.load_each(S::vectors(&output[place..][..WIDE * S::LEN]));
        }
        sums
    }

    /// Bends what the pixels' sums were written to.
    #[inline(always)]
    pub(super) fn bend(&self, simd: S, pixels: &[Pixel], output: &mut [f32]) {
        if let Some(curve) = self.curve {
            for pixel in pixels {
                let place = &mut output[pixel.output + self.place..][..WIDE * S::LEN];
                for place in S::vectors_mut(place) {
                    let bent = curve.at(simd, simd.load(place));
                    simd.store(place, bent);
                }
            }
        }
    }

    /// Applies residual and slope, and writes the sums of each pixel.
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
            let there = residual.channels.saturating_sub(self.first) / S::LEN;
            for (row, pixel) in sums.iter_mut().zip(pixels) {
                let first = self.first.min(residual.channels);
                let numbers = S::vectors(&residual.data[pixel + first..]);
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
            let place = S::vectors_mut(&mut output[place + self.place..][..WIDE * S::LEN]);
            for (place, sum) in place.iter_mut().zip(row) {
                simd.store(place, *sum);
            }
        }
    }
}

/// Where one output pixel's numbers are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pixel {
    pub(super) input: usize,
    pub(super) residual: usize,
    pub(super) output: usize,
}

/// Memory that products use again.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// The chunk's pixels,
    pub(super) pixels: Vec<Pixel>,
    /// what they are made of, in pieces,
    pub(super) pieces: Aligned<tiles::Block>,
    /// and the sums of some of them.
    pub(super) sums: Aligned<Sums>,
}

/// A dense convolution over `height` × `width` output pixels.
pub(super) struct Dense<'a> {
    pub(super) matrix: &'a Matrix,
    pub(super) part: Part,
    pub(super) stride: [usize; 2],
    /// Where each run begins, counted from the first number that an output pixel may read.
    pub(super) starts: &'a [usize],
    pub(super) input: View<'a>,
    pub(super) residual: Option<View<'a>>,
    pub(super) output: ViewMut<'a>,
    pub(super) height: usize,
    pub(super) width: usize,
    /// Scratch.
    pub(super) room: &'a mut Room,
}

impl Dense<'_> {
    /// Makes it, with what its weights were packed for.
    pub(super) fn make(self, vectors: Vectors) {
        match (&self.matrix.weights, vectors) {
            (Weights::Pieces(pieces), Vectors::Amx(amx)) => {
                tiles::dispatch(amx, Tiled(self, pieces));
            }
            #[cfg(test)]
            (Weights::Pieces(pieces), Vectors::TwiceTiled(twice)) => {
                tiles::TileKernel::run(Tiled(self, pieces), twice);
            }
            _ => dispatch(vectors, self),
        }
    }
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
            let Range { start: mut first, end: width } = self.part.channels;
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
    pub(super) fn locate(&mut self, chunk: Range<usize>) {
        let (mut y, mut x) = (chunk.start / self.width, chunk.start % self.width);
        self.room.pixels.clear();
        for _ in chunk {
            self.room.pixels.push(Pixel {
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
        let block = self.matrix.block::<S, WIDE>(first).part(&self.part);
        let terms = Terms {
            starts: self.starts,
            input: self.input,
            residual: if self.part.begins { self.residual } else { None },
            begins: self.part.begins,
        };
        let mut rest = self.room.pixels.as_slice();
        for left in (1..=rest.len().div_ceil(S::ROWS)).rev() {
            let (pixels, after) = rest.split_at(rest.len().div_ceil(left));
            rest = after;
            macro_rules! tile {
                ($($rows:literal)*) => { match pixels.len() {
                    $($rows if $rows <= S::ROWS => tile::<S, $rows, WIDE>(
                        simd, &block, &terms, pixels, self.output.data,
                    ),)*
                    _ => {}
                } };
            }
            tile!(1 2 3 4 5 6 7 8 9 10 11 12);
            block.ending.bend(simd, pixels, self.output.data);
        }
    }
}

/// What a tile adds up.
struct Terms<'a> {
    starts: &'a [usize],
    input: View<'a>,
    residual: Option<View<'a>>,
    begins: bool,
}

#[inline(always)]
fn tile<S: Simd, const ROWS: usize, const WIDE: usize>(
    simd: S,
    block: &Block<'_, S, WIDE>,
    terms: &Terms<'_>,
    pixels: &[Pixel],
    output: &mut [f32],
) {
    let (pixels, ending) = (&pixels[..ROWS], &block.ending);
    let mut sums =
        if terms.begins { ending.begin::<ROWS>(simd) } else { ending.go_on(simd, pixels, output) };
    let panels = block.weights.chunks_exact(block.depth).zip(block.later.chunks_exact(block.depth));
    for (start, (weights, later)) in terms.starts.iter().zip(panels) {
        let depth = weights.len();
        let later = &later[..depth];
        let mut rows: [&[f32]; ROWS] = [&[]; ROWS];
        for (row, pixel) in rows.iter_mut().zip(pixels) {
            *row = &terms.input.data[pixel.input + start..][..depth];
        }
        for position in 0..depth {
            simd.fetch(&later[position]);
            let weights = simd.load_each::<WIDE>(&weights[position]);
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
    let residual = terms.residual.as_ref().map(|view| (view, residuals));
    ending.finish(simd, sums, residual, output, places);
}

/// How many positions before they are needed weights are fetched. Together they are more than the second-level
/// cache, so that each run of a model reads them from further away.
const FETCHED_AHEAD: usize = 16;

/// Input that a chunk of pixels may touch: a part of the second-level cache.
const CHUNK_BYTES: usize = 192 * 1024;
