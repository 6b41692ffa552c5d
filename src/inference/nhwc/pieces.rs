//! The matrix kernel by tiles: numbers in two pieces of 16 bits each ([`super::tiles`]).
//!
//! The pixels of a chunk are cut into pieces once, and lie block by block as the tiles read them; so do the weights,
//! which were cut when they were packed. Two times sixteen pixels by two times sixteen channels are multiplied at a
//! time, with all their sums in tiles; then bias, residual and activation follow as in [`super::matrix`].
#![expect(
    clippy::indexing_slicing,
    clippy::inline_always,
    reason = "sizes are checked once a pixel and once a tile, where slices are cut; registers do not cross a call"
)]

use std::ops::Range;

use super::matrix::{Dense, Ending, Pixel};
use super::memory::{Aligned, LANE, View};
use super::simd::Simd;
use super::tiles::{Block, DEPTH, SIDE, Sums, TileKernel, Tiles};

/// Weights in pieces: for each sixteen channels their blocks, one behind the other.
#[derive(Debug)]
pub(super) struct Pieces {
    numbers: Aligned<u16>,
    /// Blocks of sixteen channels.
    depth: usize,
}

impl Pieces {
    /// Whether tiles are worth it for so many channels and pixels, and for runs of this depth. They compute sixteen
    /// pixels and whole registers of a run, be there fewer or not; and what is soon multiplied gains less than the
    /// digits that cutting costs.
    pub(super) fn is_worth([runs, depth]: [usize; 2], width: usize, pixels: usize) -> bool {
        let padded = depth.next_multiple_of(LANE);
        pixels >= SIDE && 4 * depth >= 3 * padded && runs * depth * width >= WEIGHTS_MIN
    }

    /// Cuts weights: `weight(output channel as stored, run, position)`.
    pub(super) fn pack(
        width: usize,
        [runs, depth]: [usize; 2],
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Self {
        let padded = depth.next_multiple_of(LANE);
        let blocks = (runs * padded).div_ceil(DEPTH);
        let mut numbers = Aligned::default();
        let packed = numbers.resize(width.div_ceil(SIDE) * blocks * size_of::<Block>() / 2);
        for (tile, channels) in as_blocks_mut(packed).chunks_exact_mut(blocks).enumerate() {
            for (at, channel) in (0..blocks * DEPTH).flat_map(|at| (0..SIDE).map(move |n| (at, n)))
            {
                let (run, position) = (at / padded, at % padded);
                let stored = tile * SIDE + channel;
                let is_there = run < runs && position < depth && stored < width;
                let number = if is_there { weight(stored, run, position) } else { 0.0 };
                let (block, within) = (at / DEPTH, at % DEPTH);
                let place = within / 2 * DEPTH + 2 * channel + within % 2;
                let [high, low] = cut(number);
                channels[block][place] = high;
                channels[block][SIDE * DEPTH + place] = low;
            }
        }
        Self { numbers, depth: blocks }
    }

    /// Blocks of the sixteen channels that begin at `first`.
    #[inline(always)]
    fn channels(&self, first: usize, blocks: Range<usize>) -> &[Block] {
        &as_blocks(self.numbers.as_slice())[first / SIDE * self.depth..][blocks]
    }
}

/// A number's high and low piece.
pub(super) fn cut(number: f32) -> [u16; 2] {
    let high = nearest(number);
    [high, nearest(number - f32::from_bits(u32::from(high) << 16))]
}

/// The nearest bf16, to the even one of two.
const fn nearest(number: f32) -> u16 {
    let bits = number.to_bits();
    if !number.is_finite() {
        return (bits >> 16) as u16;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

#[inline(always)]
fn as_blocks(pieces: &[u16]) -> &[Block] {
    pieces.as_chunks().0
}

#[inline(always)]
fn as_blocks_mut(pieces: &mut [u16]) -> &mut [Block] {
    pieces.as_chunks_mut().0
}

/// A dense convolution whose weights are in pieces.
pub(super) struct Tiled<'a>(pub(super) Dense<'a>, pub(super) &'a Pieces);

impl TileKernel for Tiled<'_> {
    #[inline(always)]
    fn run<T: Tiles>(self, tiles: T) {
        let Self(mut dense, weights) = self;
        let lanes = dense.part.positions.len().div_ceil(LANE);
        let depth = (dense.starts.len() * lanes).div_ceil(DEPTH / LANE);
        let first = dense.part.positions.start / DEPTH;
        let bytes = depth * size_of::<Block>() / SIDE;
        let at_once = (CHUNK_BYTES / bytes.max(1)).clamp(2 * SIDE, 1024) / (2 * SIDE) * 2 * SIDE;
        let total = dense.height * dense.width;
        for start in (0..total).step_by(at_once) {
            dense.locate(start..(start + at_once).min(total));
            let rows = dense.room.pixels.len().div_ceil(SIDE);
            let room = dense.room.pieces.resize(rows * depth * size_of::<Block>() / 2);
            let cut = Cut { starts: dense.starts, input: dense.input, lanes, depth };
            cut.pixels(tiles, &dense.room.pixels, room);
            let Range { start: mut channel, end: width } = dense.part.channels;
            while channel < width {
                let blocks = first..first + depth;
                if width - channel >= 2 * SIDE {
                    let columns =
                        [channel, channel + SIDE].map(|at| weights.channels(at, blocks.clone()));
                    channels(tiles, &mut dense, channel, columns);
                    channel += 2 * SIDE;
                } else {
                    let column = weights.channels(channel, blocks);
                    channels(tiles, &mut dense, channel, [column]);
                    channel += SIDE;
                }
            }
        }
    }
}

/// How pixels are cut.
struct Cut<'a> {
    starts: &'a [usize],
    input: View<'a>,
    /// Registers of a run.
    lanes: usize,
    /// Blocks of a pixel.
    depth: usize,
}

impl Cut<'_> {
    /// Cuts each pixel into its row of the blocks.
    #[inline(always)]
    fn pixels<T: Tiles>(&self, tiles: T, pixels: &[Pixel], room: &mut [u16]) {
        let rows = as_blocks_mut(room).chunks_exact_mut(self.depth);
        for (blocks, pixels) in rows.zip(pixels.chunks(SIDE)) {
            for (row, pixel) in pixels.iter().enumerate() {
                let mut lane = 0;
                for start in self.starts {
                    let run = T::Simd::vectors(&self.input.data[pixel.input + start..]);
                    for numbers in &run[..self.lanes] {
                        let (high, low) = halves(blocks, row, lane);
                        tiles.cut(tiles.simd().load(numbers), high, low);
                        lane += 1;
                    }
                }
                if lane % 2 == 1 {
                    let (high, low) = halves(blocks, row, lane);
                    (*high, *low) = ([0; LANE], [0; LANE]);
                }
            }
        }
    }
}

/// Where the pieces of sixteen numbers of a row lie.
#[inline(always)]
fn halves(blocks: &mut [Block], row: usize, lane: usize) -> (&mut [u16; LANE], &mut [u16; LANE]) {
    let (high, low) = blocks[lane / 2].as_chunks_mut::<LANE>().0.split_at_mut(2 * SIDE);
    let at = 2 * row + lane % 2;
    (&mut high[at], &mut low[at])
}

/// Makes `WIDE` times sixteen channels for all pixels of the chunk.
#[inline(always)]
fn channels<T: Tiles, const WIDE: usize>(
    tiles: T,
    dense: &mut Dense<'_>,
    first: usize,
    columns: [&[Block]; WIDE],
) {
    let depth = columns[0].len();
    let ending = dense.matrix.ending::<T::Simd, WIDE>(first).part(&dense.part);
    let residual = if dense.part.begins { dense.residual } else { None };
    let rows = as_blocks(dense.room.pieces.as_slice());
    let mut sums = [[[0.0; SIDE * SIDE]; WIDE]; 2];
    for (pair, pixels) in dense.room.pixels.chunks(2 * SIDE).enumerate() {
        let above = &rows[2 * pair * depth..][..depth];
        // Where there are no more than sixteen left, they are multiplied twice.
        let is_one = pixels.len() <= SIDE;
        let below = if is_one { above } else { &rows[(2 * pair + 1) * depth..][..depth] };
        tiles.multiply([above, below], columns, &mut sums);
        let (simd, begins) = (tiles.simd(), dense.part.begins);
        finish(simd, &ending, &sums, pixels, begins, residual, dense.output.data);
    }
}

/// Lets what follows the sums follow them.
#[inline(always)]
fn finish<S: Simd, const WIDE: usize>(
    simd: S,
    ending: &Ending<'_, S, WIDE>,
    products: &[[Sums; WIDE]; 2],
    pixels: &[Pixel],
    begins: bool,
    residual: Option<View<'_>>,
    output: &mut [f32],
) {
    for (products, pixels) in products.iter().zip(pixels.chunks(SIDE)) {
        for (row, pixel) in pixels.iter().enumerate() {
            let pixel = std::slice::from_ref(pixel);
            let mut sums: [_; 1] =
                if begins { ending.begin(simd) } else { ending.go_on(simd, pixel, output) };
            for (sum, products) in sums[0].iter_mut().zip(products) {
                *sum = simd.add(*sum, simd.load(&S::vectors(products)[row]));
            }
            let residual = residual.as_ref().map(|view| (view, [pixel[0].residual]));
            ending.finish(simd, sums, residual, output, [pixel[0].output]);
        }
    }
    ending.bend(simd, pixels, output);
}

/// Pieces of pixels that are multiplied with all channels before others are cut: a part of the second-level cache.
const CHUNK_BYTES: usize = 256 * 1024;

/// Weights of a product that is worth cutting its numbers for.
const WEIGHTS_MIN: usize = 8192;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::isa::Isa;
    use super::super::simd::Vectors;
    use super::super::tiles::dispatch;
    use super::super::twice::Twice;
    use super::*;

    fn widened(piece: u16) -> f32 {
        f32::from_bits(u32::from(piece) << 16)
    }

    /// Numbers of the sizes that networks compute with, and zero.
    fn number() -> impl Strategy<Value = f32> {
        prop_oneof![9 => -1e6..1e6f32, 9 => -1.0..1.0f32, 1 => Just(0.0f32)]
    }

    /// Cuts sixteen numbers, and multiplies two blocks of rows by two of columns.
    struct Both<'a> {
        numbers: [f32; SIDE],
        blocks: &'a [Block],
        cut: &'a mut [[u16; SIDE]; 2],
        sums: &'a mut [[Sums; 2]; 2],
        alone: &'a mut [[Sums; 1]; 2],
    }

    impl TileKernel for Both<'_> {
        #[inline(always)]
        fn run<T: Tiles>(self, tiles: T) {
            let [high, low] = self.cut;
            tiles.cut(tiles.simd().load(&T::Simd::vectors(&self.numbers)[0]), high, low);
            let (rows, columns) = self.blocks.split_at(self.blocks.len() / 2);
            let depth = rows.len() / 2;
            let (above, below) = rows.split_at(depth);
            let (left, right) = columns.split_at(depth);
            tiles.multiply([above, below], [left, right], self.sums);
            tiles.multiply([above, below], [right], self.alone);
        }
    }

    type Made = ([[u16; SIDE]; 2], [[Sums; 2]; 2], [[Sums; 1]; 2]);

    fn make(vectors: Vectors, numbers: [f32; SIDE], blocks: &[Block]) -> Made {
        // What is there before does not count.
        let unused = [f32::NAN; SIDE * SIDE];
        let (mut cut, mut sums, mut alone) = ([[1; SIDE]; 2], [[unused; 2]; 2], [[unused; 1]; 2]);
        let both = Both { numbers, blocks, cut: &mut cut, sums: &mut sums, alone: &mut alone };
        match vectors {
            Vectors::Amx(amx) => dispatch(amx, both),
            Vectors::TwiceTiled(twice) => both.run::<Twice>(twice),
            _ => unreachable!("vectors without tiles"),
        }
        (cut, sums, alone)
    }

    proptest! {
        #[test]
        fn two_pieces_keep_what_17_bits_would(number in number()) {
            let [high, low] = cut(number);
            let lost = f64::from(number) - f64::from(widened(high)) - f64::from(widened(low));
            prop_assert!(lost.abs() <= f64::from(number.abs()) * 2f64.powi(-17));
        }

        #[test]
        fn the_processor_s_tiles_say_what_the_loops_of_tests_say(
            numbers in proptest::array::uniform16(number()), seed: u32, depth in 0..4usize,
        ) {
            if !Isa::Amx.is_present() {
                eprintln!("skipped: this processor, or its system, has no tiles");
                return Ok(());
            }
            let mut state = seed | 1;
            let mut next = || {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                f32::from(state.to_le_bytes()[2]) / 127.5 - 1.0
            };
            let blocks: Vec<Block> =
                (0..4 * depth).map(|_| std::array::from_fn(|_| cut(next())[0])).collect();
            let tiled = Vectors::all().into_iter().filter(|vectors| vectors.have_tiles());
            let made: Vec<_> = tiled.map(|vectors| make(vectors, numbers, &blocks)).collect();
            let [(cut_there, sums_there, alone_there), (cut_here, sums_here, alone_here)] =
                made.as_slice()
            else {
                return Err(TestCaseError::fail("there are two kinds of tiles"));
            };
            prop_assert_eq!(cut_there, cut_here);
            let there = sums_there.as_flattened().iter().chain(alone_there.as_flattened());
            let here = sums_here.as_flattened().iter().chain(alone_here.as_flattened());
            for (there, here) in there.flatten().zip(here.flatten()) {
                prop_assert!((there - here).abs() <= 1e-4, "{there}, not {here}");
            }
        }
    }
}
