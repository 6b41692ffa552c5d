//! Depthwise convolution: each channel with its own small kernel.
//!
//! The 3×3 **tile** makes a few neighbouring output pixels at once, one register of channels after
//! the other: each number is loaded once and used by all the outputs that read it. Two output rows
//! a tile where the stride is one; of these, with a 2×2 maximum behind the convolution, only the
//! greatest of each four leave the registers.
#![expect(
    clippy::indexing_slicing,
    clippy::inline_always,
    reason = "sizes are checked once a tile, where slices are cut; registers do not cross a call"
)]

use super::matrix::per_channel;
use super::memory::{Aligned, View, ViewMut, padded};
use super::simd::{Kernel, Simd};

/// Weights of a depthwise convolution, kernel position by kernel position.
#[derive(Debug)]
pub(super) struct Depthwise {
    weights: Aligned,
    bias: Aligned,
    slope: Option<Aligned>,
    kernel: [usize; 2],
    stride: [usize; 2],
    /// Whether the greatest of each 2×2 outputs is kept.
    pooled: bool,
}

impl Depthwise {
    /// Packs weights in the order channel, row, column.
    pub(super) fn pack(
        weights: &[f32],
        bias: &[f32],
        slope: Option<&[f32]>,
        kernel: [usize; 2],
        stride: [usize; 2],
        pooled: bool,
    ) -> Self {
        let (width, area) = (padded(bias.len()), kernel[0] * kernel[1]);
        let mut packed = vec![0.0; area * width];
        for (channel, weights) in weights.chunks_exact(area).enumerate() {
            for (position, weight) in weights.iter().enumerate() {
                packed[position * width + channel] = *weight;
            }
        }
        Self {
            weights: Aligned::from_slice(&packed),
            bias: per_channel(bias, width),
            slope: slope.map(|slope| per_channel(slope, width)),
            kernel,
            stride,
            pooled,
        }
    }

    /// Rows of input that lie between the windows of two rows of output.
    pub(super) const fn step(&self) -> usize {
        if self.pooled { 2 * self.stride[0] } else { self.stride[0] }
    }

    /// Rows of input that one row of output reads.
    pub(super) const fn span(&self) -> usize {
        if self.pooled { self.kernel[0] + self.stride[0] } else { self.kernel[0] }
    }
}

/// A depthwise convolution that yields `height` × `width` pixels.
pub(super) struct ByChannel<'a> {
    pub(super) weights: &'a Depthwise,
    pub(super) input: View<'a>,
    pub(super) output: ViewMut<'a>,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Kernel for ByChannel<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let weights = self.weights;
        let channels = Channels {
            simd,
            weights: S::vectors(weights.weights.as_slice()),
            bias: S::vectors(weights.bias.as_slice()),
            slope: weights.slope.as_ref().map(|slope| S::vectors(slope.as_slice())),
        };
        match (weights.kernel, weights.stride, weights.pooled) {
            ([3, 3], [1, 1], true) => self.three_by_three_pooled(&channels),
            ([3, 3], [1, 1], false) => self.three_by_three(&channels),
            ([3, 3], [2, 2], false) => self.three_by_three_apart(&channels),
            _ => self.any(&channels),
        }
    }
}

/// Numbers a channel, as vectors.
struct Channels<'a, S: Simd> {
    simd: S,
    weights: &'a [S::Array],
    bias: &'a [S::Array],
    slope: Option<&'a [S::Array]>,
}

impl<S: Simd> Channels<'_, S> {
    /// `ACROSS` neighbouring outputs of one register of channels, from the `COLUMNS` columns of
    /// three rows that they read.
    #[inline(always)]
    fn outputs<const STEP: usize, const ACROSS: usize, const COLUMNS: usize>(
        &self,
        lines: [&[S::Array]; 3],
        vector: usize,
    ) -> [S::V; ACROSS] {
        let (simd, count) = (self.simd, self.bias.len());
        let weights = &self.weights[..9 * count];
        let mut sums = [simd.load(&self.bias[vector]); ACROSS];
        for ky in 0..3 {
            let line = &lines[ky][..COLUMNS * count];
            let weights = [
                simd.load(&weights[3 * ky * count + vector]),
                simd.load(&weights[(3 * ky + 1) * count + vector]),
                simd.load(&weights[(3 * ky + 2) * count + vector]),
            ];
            for column in 0..COLUMNS {
                let number = simd.load(&line[column * count + vector]);
                for (across, sum) in sums.iter_mut().enumerate() {
                    for (kx, weight) in weights.into_iter().enumerate() {
                        if column == across * STEP + kx {
                            *sum = simd.mul_add(number, weight, *sum);
                        }
                    }
                }
            }
        }
        if let Some(slope) = self.slope {
            let slope = simd.load(&slope[vector]);
            for sum in &mut sums {
                *sum = simd.prelu(*sum, slope);
            }
        }
        sums
    }
}

/// `LINES` rows of input from row `y`, column `x` on, as many columns as a tile reads.
#[inline(always)]
fn lines<S: Simd, const LINES: usize>(
    input: View<'_>,
    [y, x]: [usize; 2],
    columns: usize,
    count: usize,
) -> [&[S::Array]; LINES] {
    let mut lines: [&[S::Array]; LINES] = [&[]; LINES];
    for (number, line) in lines.iter_mut().enumerate() {
        let from = (y + number) * input.row + x * input.pixel;
        *line = &S::vectors(&input.data[from..])[..columns * count];
    }
    lines
}

/// Takes the widest of the tiles 4, 3, 2 and 1 that still fits, until the row is full.
macro_rules! along_the_row {
    ($width:expr, |$x:ident, $across:ident| $tile:expr) => {{
        let mut $x = 0;
        while $x < $width {
            match $width - $x {
                0 => {}
                1 => {
                    const $across: usize = 1;
                    $tile;
                    $x += 1;
                }
                2 => {
                    const $across: usize = 2;
                    $tile;
                    $x += 2;
                }
                3 => {
                    const $across: usize = 3;
                    $tile;
                    $x += 3;
                }
                _ => {
                    const $across: usize = 4;
                    $tile;
                    $x += 4;
                }
            }
        }
    }};
}

impl ByChannel<'_> {
    #[inline(always)]
    fn three_by_three<S: Simd>(mut self, channels: &Channels<'_, S>) {
        for y in (0..self.height / 2 * 2).step_by(2) {
            along_the_row!(self.width, |x, ACROSS| {
                self.two_rows::<S, ACROSS, { ACROSS + 2 }>(channels, y, x);
            });
        }
        if self.height % 2 == 1 {
            let y = self.height - 1;
            along_the_row!(self.width, |x, ACROSS| {
                self.one_row::<S, 1, ACROSS, { ACROSS + 2 }>(channels, y, x);
            });
        }
    }

    #[inline(always)]
    fn three_by_three_apart<S: Simd>(mut self, channels: &Channels<'_, S>) {
        for y in 0..self.height {
            along_the_row!(self.width, |x, ACROSS| {
                self.one_row::<S, 2, ACROSS, { 2 * ACROSS + 1 }>(channels, y, x);
            });
        }
    }

    #[inline(always)]
    fn one_row<S: Simd, const STEP: usize, const ACROSS: usize, const COLUMNS: usize>(
        &mut self,
        channels: &Channels<'_, S>,
        y: usize,
        x: usize,
    ) {
        let count = channels.bias.len();
        let lines = lines::<S, 3>(self.input, [y * STEP, x * STEP], COLUMNS, count);
        let first = y * self.output.row + x * self.output.pixel;
        let row = &mut S::vectors_mut(&mut self.output.data[first..])[..ACROSS * count];
        for vector in 0..count {
            let sums = channels.outputs::<STEP, ACROSS, COLUMNS>(lines, vector);
            for (across, sum) in sums.into_iter().enumerate() {
                channels.simd.store(&mut row[across * count + vector], sum);
            }
        }
    }

    #[inline(always)]
    fn two_rows<S: Simd, const ACROSS: usize, const COLUMNS: usize>(
        &mut self,
        channels: &Channels<'_, S>,
        y: usize,
        x: usize,
    ) {
        let count = channels.bias.len();
        let [above, first, second, below] = lines::<S, 4>(self.input, [y, x], COLUMNS, count);
        let place = y * self.output.row + x * self.output.pixel;
        let (upper, lower) = self.output.data[place..].split_at_mut(self.output.row);
        let upper = &mut S::vectors_mut(upper)[..ACROSS * count];
        let lower = &mut S::vectors_mut(lower)[..ACROSS * count];
        for vector in 0..count {
            let sums = channels.outputs::<1, ACROSS, COLUMNS>([above, first, second], vector);
            for (across, sum) in sums.into_iter().enumerate() {
                channels.simd.store(&mut upper[across * count + vector], sum);
            }
            let sums = channels.outputs::<1, ACROSS, COLUMNS>([first, second, below], vector);
            for (across, sum) in sums.into_iter().enumerate() {
                channels.simd.store(&mut lower[across * count + vector], sum);
            }
        }
    }

    #[inline(always)]
    fn three_by_three_pooled<S: Simd>(mut self, channels: &Channels<'_, S>) {
        for y in 0..self.height {
            for x in (0..self.width / 2 * 2).step_by(2) {
                self.greatest::<S, 4, 6, 2>(channels, y, x);
            }
            if self.width % 2 == 1 {
                self.greatest::<S, 2, 4, 1>(channels, y, self.width - 1);
            }
        }
    }

    /// `KEPT` pixels, each the greatest of 2×2 outputs of the convolution.
    #[inline(always)]
    fn greatest<S: Simd, const ACROSS: usize, const COLUMNS: usize, const KEPT: usize>(
        &mut self,
        channels: &Channels<'_, S>,
        y: usize,
        x: usize,
    ) {
        let (simd, count) = (channels.simd, channels.bias.len());
        let input = [2 * y, 2 * x];
        let [above, first, second, below] = lines::<S, 4>(self.input, input, COLUMNS, count);
        let place = y * self.output.row + x * self.output.pixel;
        let row = &mut S::vectors_mut(&mut self.output.data[place..])[..KEPT * count];
        for vector in 0..count {
            let upper = channels.outputs::<1, ACROSS, COLUMNS>([above, first, second], vector);
            let lower = channels.outputs::<1, ACROSS, COLUMNS>([first, second, below], vector);
            for kept in 0..KEPT {
                let (left, right) = (2 * kept, 2 * kept + 1);
                let upper = simd.max(upper[left], upper[right]);
                let lower = simd.max(lower[left], lower[right]);
                simd.store(&mut row[kept * count + vector], simd.max(upper, lower));
            }
        }
    }

    /// Any kernel and stride, one pixel at a time.
    #[inline(always)]
    fn any<S: Simd>(self, channels: &Channels<'_, S>) {
        let (simd, count) = (channels.simd, channels.bias.len());
        let ([high, across], [down, right]) = (self.weights.kernel, self.weights.stride);
        for y in 0..self.height {
            for x in 0..self.width {
                let from = y * down * self.input.row + x * right * self.input.pixel;
                let first = y * self.output.row + x * self.output.pixel;
                let row = S::vectors_mut(&mut self.output.data[first..][..self.output.pixel]);
                for (vector, place) in row.iter_mut().enumerate() {
                    let mut sum = simd.load(&channels.bias[vector]);
                    for ky in 0..high {
                        let line = &self.input.data[from + ky * self.input.row..];
                        let line = S::vectors(&line[..across * self.input.pixel]);
                        for kx in 0..across {
                            let weight = &channels.weights[(ky * across + kx) * count + vector];
                            let number = simd.load(&line[kx * count + vector]);
                            sum = simd.mul_add(number, simd.load(weight), sum);
                        }
                    }
                    if let Some(slope) = channels.slope {
                        sum = simd.prelu(sum, simd.load(&slope[vector]));
                    }
                    simd.store(place, sum);
                }
            }
        }
    }
}
