//! The first convolution: from the picture's planes (NCHW) straight into rows of pixels.
//!
//! With three channels, pixels padded to sixteen would be mostly zeros. Instead the rows that one
//! output row needs are copied into a strip with their padding, columns sorted by their remainder
//! modulo the stride; then neighbouring output pixels read neighbouring numbers, whatever the stride,
//! and each weight of the kernel is one run of length one for the tile of [`super::matrix`].
#![expect(
    clippy::indexing_slicing,
    clippy::inline_always,
    reason = "sizes are checked once a tile, where slices are cut; registers do not cross a call"
)]

use std::ops::Range;

use super::matrix::{Block, Matrix};
use super::memory::{Aligned, ViewMut};
use super::simd::{Kernel, Simd};

/// Planes of a picture, and the convolution's way over them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planes {
    pub(super) count: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) dilation: [usize; 2],
    pub(super) padding: [usize; 2],
    /// Output rows, and pixels a row.
    pub(super) output: [usize; 2],
}

impl Planes {
    /// Columns of one remainder that an output row reads.
    const fn columns(&self) -> usize {
        self.output[1] + (self.kernel[1] - 1) * self.dilation[1] / self.stride[1]
    }

    /// Where in the strip each weight of the kernel begins to read, in the order of the weights:
    /// plane, kernel row, kernel column.
    pub(super) fn taps(&self) -> Vec<usize> {
        let (columns, step, apart) = (self.columns(), self.stride[1], self.dilation[1]);
        (0..self.count * self.kernel[0])
            .flat_map(|line| {
                let reads = (0..self.kernel[1]).map(move |x| x * apart);
                reads.map(move |x| (line * step + x % step) * columns + x / step)
            })
            .collect()
    }

    /// Copies what output row `y` reads.
    #[inline(always)]
    fn gather(&self, picture: &[f32], y: usize, strip: &mut [f32]) {
        let lines = strip.chunks_exact_mut(self.stride[1] * self.columns());
        for (line, strip) in lines.enumerate() {
            let (plane, ky) = (line / self.kernel[0], line % self.kernel[0]);
            let row = (y * self.stride[0] + ky * self.dilation[0])
                .checked_sub(self.padding[0])
                .filter(|row| *row < self.height)
                .map(|row| &picture[(plane * self.height + row) * self.width..][..self.width]);
            for (remainder, strip) in strip.chunks_exact_mut(self.columns()).enumerate() {
                match row {
                    Some(row) => self.sort_columns(row, remainder, strip),
                    None => strip.fill(0.0),
                }
            }
        }
    }

    /// Columns `remainder`, `remainder + stride`, … of a row with its padding.
    #[inline(always)]
    fn sort_columns(&self, row: &[f32], remainder: usize, strip: &mut [f32]) {
        let (step, padding) = (self.stride[1], self.padding[1]);
        let before = padding.saturating_sub(remainder).div_ceil(step).min(strip.len());
        let (zeros, strip) = strip.split_at_mut(before);
        zeros.fill(0.0);
        let from = (before * step + remainder).saturating_sub(padding).min(row.len());
        let row = &row[from..];
        let there = row.len().div_ceil(step).min(strip.len());
        let (numbers, zeros) = strip.split_at_mut(there);
        zeros.fill(0.0);
        match step {
            1 => numbers.copy_from_slice(&row[..there]),
            2 => {
                let (pairs, last) = row.as_chunks::<2>();
                for (to, [from, _]) in numbers.iter_mut().zip(pairs) {
                    *to = *from;
                }
                if let (Some(to), [from]) = (numbers.get_mut(pairs.len()), last) {
                    *to = *from;
                }
            }
            _ => {
                let columns = row.iter().step_by(step);
                numbers.iter_mut().zip(columns).for_each(|(to, from)| *to = *from);
            }
        }
    }
}

/// The first convolution of one picture.
pub(super) struct FromPlanes<'a> {
    pub(super) planes: &'a Planes,
    pub(super) taps: &'a [usize],
    pub(super) matrix: &'a Matrix,
    pub(super) picture: &'a [f32],
    /// The rows that are made, and where the first of them lies.
    pub(super) rows: Range<usize>,
    pub(super) output: ViewMut<'a>,
    /// Scratch: the rows that one output row reads.
    pub(super) strip: &'a mut Aligned,
}

impl Kernel for FromPlanes<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { planes, taps, matrix, picture, rows, mut output, strip } = self;
        let lines = planes.count * planes.kernel[0] * planes.stride[1];
        let len = lines * planes.columns();
        let strip = &mut strip.resize(len)[..len];
        for (number, y) in rows.enumerate() {
            planes.gather(picture, y, strip);
            let mut row = output.down(number);
            let mut first = 0;
            while first < matrix.width() {
                if matrix.width() - first >= 2 * S::LEN {
                    channels(simd, &matrix.block::<S, 2>(first), taps, strip, planes, &mut row);
                    first += 2 * S::LEN;
                } else {
                    channels(simd, &matrix.block::<S, 1>(first), taps, strip, planes, &mut row);
                    first += S::LEN;
                }
            }
        }
    }
}

/// Makes one block of output channels for one output row, in tiles of like size.
#[inline(always)]
fn channels<S: Simd, const WIDE: usize>(
    simd: S,
    block: &Block<'_, S, WIDE>,
    taps: &[usize],
    strip: &[f32],
    planes: &Planes,
    row: &mut ViewMut<'_>,
) {
    let mut x = 0;
    for left in (1..=planes.output[1].div_ceil(S::ROWS)).rev() {
        let size = (planes.output[1] - x).div_ceil(left);
        macro_rules! tile {
            ($($rows:literal)*) => { match size {
                $($rows if $rows <= S::ROWS => {
                    tile::<S, $rows, WIDE>(simd, block, taps, &strip[x..], row, x);
                })*
                _ => {}
            } };
        }
        tile!(1 2 3 4 5 6 7 8 9 10 11 12);
        x += size;
    }
}

#[inline(always)]
fn tile<S: Simd, const ROWS: usize, const WIDE: usize>(
    simd: S,
    block: &Block<'_, S, WIDE>,
    taps: &[usize],
    strip: &[f32],
    row: &mut ViewMut<'_>,
    x: usize,
) {
    let mut sums = block.ending.begin::<ROWS>(simd);
    for (tap, weights) in taps.iter().zip(block.weights) {
        let numbers = &strip[*tap..][..ROWS];
        let weights = simd.load_each::<WIDE>(weights);
        for (sums, number) in sums.iter_mut().zip(numbers) {
            let number = simd.splat(*number);
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = simd.mul_add(number, weight, *sum);
            }
        }
    }
    let mut places = [x * row.pixel; ROWS];
    for (number, place) in places.iter_mut().enumerate() {
        *place += number * row.pixel;
    }
    block.ending.finish(simd, sums, None, row.data, places);
}
