//! Depthwise convolution: each channel with its own small kernel.
//!
//! The 3×3 **tile** makes a few neighbouring output pixels at once, one register of channels after
//! the other: each number is loaded once and used by all the outputs that read it. Two output rows
//! a tile where the stride is one; of these, with a 2×2 maximum behind the convolution, only the
//! greatest of each four leave the registers. Greater square kernels make up to eight neighbouring
//! outputs of one row, one register of channels along the whole row before the next.
#![expect(
    clippy::indexing_slicing,
    clippy::inline_always,
    reason = "sizes are checked once a tile, where slices are cut; registers do not cross a call"
)]

use super::memory::{Aligned, View, ViewMut};
use super::simd::{Kernel, Simd};

/// Weights of a depthwise convolution, kernel position by kernel position.
#[derive(Debug)]
pub(super) struct Depthwise {
    pub(super) weights: Aligned,
    pub(super) bias: Aligned,
    pub(super) slope: Option<Aligned>,
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) dilation: [usize; 2],
    /// Whether the greatest of each 2×2 outputs is kept.
    pub(super) pooled: bool,
}

impl Depthwise {
    /// Rows of input that lie between the windows of two rows of output.
    pub(super) const fn step(&self) -> usize {
        if self.pooled { 2 * self.stride[0] } else { self.stride[0] }
    }

    /// Rows of input that one row of output reads.
    pub(super) const fn span(&self) -> usize {
        let spread = (self.kernel[0] - 1) * self.dilation[0] + 1;
        if self.pooled { spread + self.stride[0] } else { spread }
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
        if weights.dilation != [1, 1] {
            return self.any(&channels);
        }
        match (weights.kernel, weights.stride, weights.pooled) {
            ([3, 3], [1, 1], true) => self.three_by_three_pooled(&channels),
            ([3, 3], [1, 1], false) => self.three_by_three(&channels),
            ([3, 3], [2, 2], false) => self.three_by_three_apart(&channels),
            ([5, 5], [1, 1], false) => self.square::<S, 5>(&channels),
            ([7, 7], [1, 1], false) => self.square::<S, 7>(&channels),
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
        pixel: usize,
        vector: usize,
    ) -> [S::V; ACROSS] {
        let (simd, count) = (self.simd, self.bias.len());
        let weights = &self.weights[..9 * count];
        let mut sums = [simd.load(&self.bias[vector]); ACROSS];
        for ky in 0..3 {
            let line = &lines[ky][..(COLUMNS - 1) * pixel + count];
            let weights = [
                simd.load(&weights[3 * ky * count + vector]),
                simd.load(&weights[(3 * ky + 1) * count + vector]),
                simd.load(&weights[(3 * ky + 2) * count + vector]),
            ];
            for column in 0..COLUMNS {
                let number = simd.load(&line[column * pixel + vector]);
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
        *line = &S::vectors(&input.data[from..])[..(columns - 1) * input.pixel / S::LEN + count];
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
        let [from, to] = [self.input.pixel / S::LEN, self.output.pixel / S::LEN];
        let row = &mut S::vectors_mut(&mut self.output.data[first..])[..(ACROSS - 1) * to + count];
        for vector in 0..count {
            let sums = channels.outputs::<STEP, ACROSS, COLUMNS>(lines, from, vector);
            for (across, sum) in sums.into_iter().enumerate() {
                channels.simd.store(&mut row[across * to + vector], sum);
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
        let [from, to] = [self.input.pixel / S::LEN, self.output.pixel / S::LEN];
        let upper = &mut S::vectors_mut(upper)[..(ACROSS - 1) * to + count];
        let lower = &mut S::vectors_mut(lower)[..(ACROSS - 1) * to + count];
        for vector in 0..count {
            let sums = channels.outputs::<1, ACROSS, COLUMNS>([above, first, second], from, vector);
            for (across, sum) in sums.into_iter().enumerate() {
                channels.simd.store(&mut upper[across * to + vector], sum);
            }
            let sums = channels.outputs::<1, ACROSS, COLUMNS>([first, second, below], from, vector);
            for (across, sum) in sums.into_iter().enumerate() {
                channels.simd.store(&mut lower[across * to + vector], sum);
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
        let [from, to] = [self.input.pixel / S::LEN, self.output.pixel / S::LEN];
        let row = &mut S::vectors_mut(&mut self.output.data[place..])[..(KEPT - 1) * to + count];
        for vector in 0..count {
            let upper =
                channels.outputs::<1, ACROSS, COLUMNS>([above, first, second], from, vector);
            let lower =
                channels.outputs::<1, ACROSS, COLUMNS>([first, second, below], from, vector);
            for kept in 0..KEPT {
                let (left, right) = (2 * kept, 2 * kept + 1);
                let upper = simd.max(upper[left], upper[right]);
                let lower = simd.max(lower[left], lower[right]);
                simd.store(&mut row[kept * to + vector], simd.max(upper, lower));
            }
        }
    }

    /// A square kernel of `SIDE`×`SIDE`, stride one.
    #[inline(always)]
    fn square<S: Simd, const SIDE: usize>(mut self, channels: &Channels<'_, S>) {
        // With sixteen registers there is room for half as many sums.
        let most = if S::LEN < 16 { 4 } else { 8 };
        for y in 0..self.height {
            for vector in 0..channels.bias.len() {
                let mut x = 0;
                while x < self.width {
                    match (self.width - x).min(most) {
                        8 => self.along::<S, SIDE, 8>(channels, [y, x], vector),
                        4.. => self.along::<S, SIDE, 4>(channels, [y, x], vector),
                        _ => self.along::<S, SIDE, 1>(channels, [y, x], vector),
                    }
                    x += match (self.width - x).min(most) {
                        8 => 8,
                        4.. => 4,
                        _ => 1,
                    };
                }
            }
        }
    }

    /// `ACROSS` neighbouring outputs of one register of channels.
    #[inline(always)]
    fn along<S: Simd, const SIDE: usize, const ACROSS: usize>(
        &mut self,
        channels: &Channels<'_, S>,
        [y, x]: [usize; 2],
        vector: usize,
    ) {
        let (simd, count) = (channels.simd, channels.bias.len());
        let [from, to] = [self.input.pixel / S::LEN, self.output.pixel / S::LEN];
        let mut sums = [simd.load(&channels.bias[vector]); ACROSS];
        for ky in 0..SIDE {
            let line = (y + ky) * self.input.row + x * self.input.pixel + vector * S::LEN;
            let line = &S::vectors(&self.input.data[line..])[..=(ACROSS + SIDE - 2) * from];
            let row = &channels.weights[ky * SIDE * count + vector..];
            let mut weights = [simd.splat(0.0); SIDE];
            for (kx, weight) in weights.iter_mut().enumerate() {
                *weight = simd.load(&row[kx * count]);
            }
            macro_rules! columns {
                ($($column:literal)*) => { $(
                    if $column < ACROSS + SIDE - 1 {
                        let number = simd.load(&line[$column * from]);
                        for (across, sum) in sums.iter_mut().enumerate() {
                            if $column >= across && $column - across < SIDE {
                                *sum = simd.mul_add(number, weights[$column - across], *sum);
                            }
                        }
                    }
                )* };
            }
            columns!(0 1 2 3 4 5 6 7 8 9 10 11 12 13);
        }
        if let Some(slope) = channels.slope {
            let slope = simd.load(&slope[vector]);
            for sum in &mut sums {
                *sum = simd.prelu(*sum, slope);
            }
        }
        let place = y * self.output.row + x * self.output.pixel + vector * S::LEN;
        let row = S::vectors_mut(&mut self.output.data[place..]);
        for (across, sum) in sums.into_iter().enumerate() {
            simd.store(&mut row[across * to], sum);
        }
    }

    /// Any kernel, stride and dilation, one pixel at a time.
    #[inline(always)]
    fn any<S: Simd>(self, channels: &Channels<'_, S>) {
        let (simd, count) = (channels.simd, channels.bias.len());
        let ([high, across], [down, right]) = (self.weights.kernel, self.weights.stride);
        let [below, beside] = self.weights.dilation;
        let (line_len, apart) = (
            (across - 1) * beside * self.input.pixel + self.input.channels,
            beside * self.input.pixel,
        );
        for y in 0..self.height {
            for x in 0..self.width {
                let from = y * down * self.input.row + x * right * self.input.pixel;
                let first = y * self.output.row + x * self.output.pixel;
                let row = S::vectors_mut(&mut self.output.data[first..][..self.output.channels]);
                for (vector, place) in row.iter_mut().enumerate() {
                    let mut sum = simd.load(&channels.bias[vector]);
                    for ky in 0..high {
                        let line = &self.input.data[from + ky * below * self.input.row..];
                        let line = S::vectors(&line[..line_len]);
                        for kx in 0..across {
                            let weight = &channels.weights[(ky * across + kx) * count + vector];
                            let number = simd.load(&line[kx * apart / S::LEN + vector]);
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
