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

use std::num::FpCategory;
use std::ops::Range;

use super::matrix::{Dense, Ending, Pixel, Room};
use super::memory::{Aligned, LANE, View};
use super::simd::Simd;
use super::tiles::{Block, DEPTH, SIDE, Sums, TileKernel, Tiles};

/// Weights in pieces: for each sixteen channels their blocks, one behind the other.
#[derive(Debug)]
pub(super) struct Pieces {
    blocks: Aligned<Block>,
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
        let mut packed = Aligned::<Block>::default();
        let tiles = packed.resize(width.div_ceil(SIDE) * blocks).chunks_exact_mut(blocks);
        for (tile, channels) in tiles.enumerate() {
            for (at, channel) in (0..blocks * DEPTH).flat_map(|at| (0..SIDE).map(move |n| (at, n)))
            {
                let (run, position) = (at / padded, at % padded);
                let stored = tile * SIDE + channel;
                let is_there = run < runs && position < depth && stored < width;
                let number = if is_there { weight(stored, run, position) } else { 0.0 };
                let Block { high, low } = &mut channels[at / DEPTH];
                let (pair, place) = (at % DEPTH / 2, 2 * channel + at % 2);
                [high[pair][place], low[pair][place]] = cut(number);
            }
        }
        Self { blocks: packed, depth: blocks }
    }

    /// Blocks of the sixteen channels that begin at `first`.
    #[inline(always)]
    fn channels(&self, first: usize, blocks: Range<usize>) -> &[Block] {
        &self.blocks.as_slice()[first / SIDE * self.depth..][blocks]
    }
}

/// A number's high and low piece, as the processor cuts it.
pub(super) fn cut(number: f32) -> [u16; 2] {
    let high = nearest(number);
    [high, nearest(number - widened(high))]
}

/// The nearest bf16, to the even one of two; zero for what is nearer to it than [`f32::MIN_POSITIVE`].
fn nearest(number: f32) -> u16 {
    let bits = number.to_bits();
    let rounded = match number.classify() {
        FpCategory::Nan => bits | 0x0040_0000,
        FpCategory::Zero | FpCategory::Subnormal => bits & 0x8000_0000,
        FpCategory::Infinite => bits,
        FpCategory::Normal => bits + 0x7fff + (bits >> 16 & 1),
    };
    let [_, _, low, high] = rounded.to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// The number that a piece stands for.
pub(super) fn widened(piece: u16) -> f32 {
    f32::from_bits(u32::from(piece) << 16)
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
            let Room { pixels, pieces, .. } = &mut *dense.room;
            let blocks = pieces.resize(pixels.len().div_ceil(SIDE) * depth);
            Cut { starts: dense.starts, input: dense.input, lanes, depth }
                .pixels(tiles, pixels, blocks);
            let Range { start: mut channel, end: width } = dense.part.channels;
            while channel < width {
                let column = |at| weights.channels(at, first..first + depth);
                if width - channel >= 2 * SIDE {
                    let columns = [column(channel), column(channel + SIDE)];
                    channels::<T, 2>(tiles, &mut dense, channel, columns);
                    channel += 2 * SIDE;
                } else {
                    // Sixteen channels alone are multiplied twice.
                    channels::<T, 1>(tiles, &mut dense, channel, [column(channel); 2]);
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
    fn pixels<T: Tiles>(&self, tiles: T, pixels: &[Pixel], blocks: &mut [Block]) {
        let rows = blocks.chunks_exact_mut(self.depth);
        for (blocks, pixels) in rows.zip(pixels.chunks(SIDE)) {
            for (row, pixel) in pixels.iter().enumerate() {
                let mut lane = 0;
                for start in self.starts {
                    let run = T::Simd::vectors(&self.input.data[pixel.input + start..]);
                    for numbers in &run[..self.lanes] {
                        let [high, low] = halves(blocks, row, lane);
                        tiles.cut(tiles.simd().load(numbers), high, low);
                        lane += 1;
                    }
                }
                if lane % 2 == 1 {
                    let [high, low] = halves(blocks, row, lane);
                    (*high, *low) = ([0; LANE], [0; LANE]);
                }
            }
        }
    }
}

/// Where the pieces of sixteen numbers of a row lie.
#[inline(always)]
fn halves(blocks: &mut [Block], row: usize, lane: usize) -> [&mut [u16; LANE]; 2] {
    let Block { high, low } = &mut blocks[lane / 2];
    [high, low].map(|pieces| &mut pieces[row].as_chunks_mut().0[lane % 2])
}

/// Makes `WIDE` times sixteen channels for all pixels of the chunk.
#[inline(always)]
fn channels<T: Tiles, const WIDE: usize>(
    tiles: T,
    dense: &mut Dense<'_>,
    first: usize,
    columns: [&[Block]; 2],
) {
    let depth = columns[0].len();
    let ending = dense.matrix.ending::<T::Simd, WIDE>(first).part(&dense.part);
    let begins = dense.part.begins;
    let residual = if begins { dense.residual } else { None };
    let Room { pixels, pieces, sums } = &mut *dense.room;
    let sums = &mut sums.resize(1)[0];
    for (pixels, rows) in pixels.chunks(2 * SIDE).zip(pieces.as_slice().chunks(2 * depth)) {
        // So are sixteen pixels alone.
        let (above, below) = rows.split_at(depth);
        let below = if pixels.len() <= SIDE { above } else { below };
        tiles.multiply([above, below], columns, sums);
        finish(tiles.simd(), &ending, sums, pixels, begins, residual, dense.output.data);
    }
}

/// Lets what follows the sums follow them.
#[inline(always)]
fn finish<S: Simd, const WIDE: usize>(
    simd: S,
    ending: &Ending<'_, S, WIDE>,
    products: &Sums,
    pixels: &[Pixel],
    begins: bool,
    residual: Option<View<'_>>,
    output: &mut [f32],
) {
    for (products, pixels) in products.0.iter().zip(pixels.chunks(SIDE)) {
        for (row, pixel) in pixels.iter().enumerate() {
            let pixel = std::slice::from_ref(pixel);
            let mut sums: [_; 1] =
                if begins { ending.begin(simd) } else { ending.go_on(simd, pixel, output) };
            for (sum, products) in sums[0].iter_mut().zip(products) {
                *sum = simd.add(*sum, simd.load(&S::vectors(&products[row])[0]));
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
    use super::*;

    /// Numbers of the sizes that networks compute with, and zero.
    fn number() -> impl Strategy<Value = f32> {
        prop_oneof![9 => -1e6..1e6f32, 9 => -1.0..1.0f32, 1 => Just(0.0f32)]
    }

    /// Any at all, and often one at an end of what there is.
    fn any_number() -> impl Strategy<Value = f32> {
        let ends = vec![f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1), f32::INFINITY, f32::NAN];
        let signed = (prop::sample::select(ends), prop::sample::select(vec![1.0f32, -1.0]));
        prop_oneof![
            number(),
            any::<u32>().prop_map(f32::from_bits),
            signed.prop_map(|(end, sign)| end.copysign(sign)),
        ]
    }

    /// Cuts sixteen numbers.
    struct CutOnce<'a>([f32; SIDE], [&'a mut [u16; SIDE]; 2]);

    impl TileKernel for CutOnce<'_> {
        #[inline(always)]
        fn run<T: Tiles>(self, tiles: T) {
            let Self(numbers, [high, low]) = self;
            tiles.cut(tiles.simd().load(&T::Simd::vectors(&numbers)[0]), high, low);
        }
    }

    /// Multiplies two rows of blocks by two columns of them.
    struct Multiply<'a>([&'a [Block]; 2], [&'a [Block]; 2], &'a mut Sums);

    impl TileKernel for Multiply<'_> {
        #[inline(always)]
        fn run<T: Tiles>(self, tiles: T) {
            tiles.multiply(self.0, self.1, self.2);
        }
    }

    /// The vectors that have tiles.
    fn tiled() -> impl Iterator<Item = Vectors> {
        Vectors::all().into_iter().filter(|vectors| vectors.have_tiles())
    }

    fn run(vectors: Vectors, kernel: impl TileKernel) {
        match vectors {
            Vectors::Amx(amx) => dispatch(amx, kernel),
            Vectors::TwiceTiled(twice) => kernel.run(twice),
            _ => unreachable!("vectors without tiles"),
        }
    }

    /// Numbers of either sign and full precision.
    fn numbers(seed: u32) -> impl FnMut() -> f32 {
        let mut state = seed | 1;
        move || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            f32::from_bits(0x3f80_0000 | state >> 9) - 1.5
        }
    }

    #[test]
    fn numbers_are_cut_as_ieee_754_rounds_and_as_bf16_is_defined() {
        // A number's bits, its high piece, and its low one.
        let cases: [(u32, u16, u16); 14] = [
            (0x0000_0000, 0x0000, 0x0000),
            (0x8000_0000, 0x8000, 0x0000),
            (0x3f80_0000, 0x3f80, 0x0000),
            // Halfway between two: to the even one, down and up; what is left has the other sign after up.
            (0x3f80_8000, 0x3f80, 0x3b80),
            (0x3f81_8000, 0x3f82, 0xbb80),
            // One bit to either side of halfway.
            (0x3f80_7fff, 0x3f80, 0x3b80),
            (0x3f80_8001, 0x3f81, 0xbb80),
            (0xc049_0fdb, 0xc049, 0xba7e),
            // What is left of the least normal numbers is none, and counts as zero.
            (0x0080_0001, 0x0080, 0x0000),
            // What is none itself, of either sign.
            (0x007f_ffff, 0x0000, 0x0000),
            (0x8000_0001, 0x8000, 0x8000),
            // The greatest is rounded to an infinite number, of which it is infinitely far.
            (0x7f7f_ffff, 0x7f80, 0xff80),
            (0xff7f_ffff, 0xff80, 0x7f80),
            (0x7f7f_7fff, 0x7f7f, 0x7b00),
        ];
        for (bits, high, low) in cases {
            assert_eq!(cut(f32::from_bits(bits)), [high, low], "{bits:#010x}");
        }
        // What has no rest.
        for (bits, high) in [
            (0x7f80_0000, 0x7f80),
            (0xff80_0000, 0xff80),
            (0x7fc1_2345, 0x7fc1),
            // One that signals is quiet afterwards.
            (0x7f80_0001, 0x7fc0),
            (0xffa0_0000, 0xffe0),
        ] {
            let made = cut(f32::from_bits(bits));
            assert_eq!((made[0], widened(made[1]).is_nan()), (high, true), "{bits:#010x}");
        }
    }

    #[test]
    fn numbers_are_cut_as_the_processor_cuts_them() {
        let Some(vectors) = Vectors::of(Isa::Amx) else {
            eprintln!("skipped: this processor, or its system, has no tiles");
            return;
        };
        proptest!(|(numbers in prop::array::uniform16(any_number()))| {
            let [mut high, mut low] = [[1; SIDE]; 2];
            run(vectors, CutOnce(numbers, [&mut high, &mut low]));
            for (number, made) in numbers.into_iter().zip(high.into_iter().zip(low)) {
                let [high, low] = cut(number);
                prop_assert_eq!(made.0, high, "{}", number);
                // What is not a number may say so in more than one way.
                let neither = widened(made.1).is_nan() && widened(low).is_nan();
                prop_assert!(made.1 == low || neither, "{number}: {low:x}, not {:x}", made.1);
            }
        });
    }

    #[test]
    fn as_many_blocks_are_multiplied_as_each_of_the_four_has() {
        let one = cut(1.0)[0];
        let block = Block { high: [[one; DEPTH]; SIDE], ..Block::default() };
        let blocks = |count: usize| vec![block; count];
        for [above, below, left, right] in
            [[2, 3, 3, 4], [3, 2, 4, 3], [4, 3, 2, 3], [3, 4, 3, 2], [0, 1, 1, 1], [1, 0, 1, 1]]
        {
            let least = [above, below, left, right].into_iter().min().unwrap();
            let sum = f32::from(u16::try_from(least * DEPTH).unwrap());
            let [above, below, left, right] = [above, below, left, right].map(blocks);
            for vectors in tiled() {
                let mut sums = Sums([[[[f32::NAN; SIDE]; SIDE]; 2]; 2]);
                run(vectors, Multiply([&above, &below], [&left, &right], &mut sums));
                assert_eq!(sums.0, [[[[sum; SIDE]; SIDE]; 2]; 2], "{vectors:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn two_pieces_keep_what_17_bits_would(number in number()) {
            let [high, low] = cut(number);
            let lost = f64::from(number) - f64::from(widened(high)) - f64::from(widened(low));
            prop_assert!(lost.abs() <= f64::from(number.abs()) * 2f64.powi(-17));
        }

        #[test]
        fn sums_of_products_of_pieces_are_those_of_the_numbers(seed: u32, depth in 0..4usize) {
            let mut number = numbers(seed);
            let mut side = || -> Vec<[f32; SIDE]> {
                (0..2 * depth * DEPTH).map(|_| [(); SIDE].map(|()| number())).collect()
            };
            let (of_rows, of_columns) = (side(), side());
            let (mut rows, mut columns) =
                (vec![Block::default(); 2 * depth], vec![Block::default(); 2 * depth]);
            for (at, (in_row, in_column)) in of_rows.iter().zip(&of_columns).enumerate() {
                let (block, n) = (at / DEPTH, at % DEPTH);
                let (row, column) = (&mut rows[block], &mut columns[block]);
                for side in 0..SIDE {
                    [row.high[side][n], row.low[side][n]] = cut(in_row[side]);
                    let (pair, place) = (n / 2, 2 * side + n % 2);
                    [column.high[pair][place], column.low[pair][place]] = cut(in_column[side]);
                }
            }
            let halves = |blocks| -> [&[Block]; 2] { <[Block]>::split_at(blocks, depth).into() };
            for vectors in tiled() {
                // What is there before does not count.
                let mut sums = Sums([[[[f32::NAN; SIDE]; SIDE]; 2]; 2]);
                run(vectors, Multiply(halves(&rows), halves(&columns), &mut sums));
                for at in 0..4 * SIDE * SIDE {
                    let [below, right] = [at / 2 % 2, at % 2];
                    let (y, x) = (at / 4 / SIDE, at / 4 % SIDE);
                    let products = (0..depth * DEPTH).map(|n| {
                        f64::from(of_rows[below * depth * DEPTH + n][y])
                            * f64::from(of_columns[right * depth * DEPTH + n][x])
                    });
                    let (sum, size) = products
                        .fold((0.0, 0.0), |(sum, size), number| (sum + number, size + number.abs()));
                    let far = (sum - f64::from(sums.0[below][right][y][x])).abs();
                    prop_assert!(far <= size * 2f64.powi(-15), "{vectors:?}: off by {far}");
                }
            }
        }
    }
}
