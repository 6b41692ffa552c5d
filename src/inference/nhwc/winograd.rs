//! 3×3 convolutions with fewer products: Winograd's F(2×2, 3×3).
//!
//! Four results that lie in a square, a **quad**, are made of a window of 4×4 numbers a channel. Window and kernel
//! are transformed by sums, multiplied place by place, and what comes of it is transformed back: 16 products where
//! there would be 36 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, with its
//! matrices B, G and A). Over all channels the products of one place are those of a 1×1 convolution, so that the
//! kernel of these makes them ([`super::matrix`]).
//!
//! Quads are taken so many at a time that what lies between the transforms stays in the second-level cache.
#![expect(
    clippy::indexing_slicing,
    clippy::inline_always,
    reason = "what is read of windows and products is cut once a quad; registers do not cross a call"
)]

use std::ops::Range;

use super::curve::Curve;
use super::matrix::{Dense, Follow, Matrix, Room};
use super::memory::{Aligned, Extent, LANE, View, ViewMut, padded};
use super::simd::{Kernel, Simd, Vectors, dispatch};

/// Rows and columns of a window, and of a quad.
const WINDOW: usize = 4;
const QUAD: usize = 2;
/// Products a window and channel.
pub(super) const PLACES: usize = WINDOW * WINDOW;

/// A convolution, packed.
#[derive(Debug)]
pub(super) struct Winograd {
    /// One a place of the window, row by row.
    pub(super) places: Vec<Matrix>,
    pub(super) follow: Follow,
}

/// What it works with.
pub(super) struct Quads<'a> {
    pub(super) input: View<'a>,
    /// Rows and columns that may be read of the input, its padding included.
    pub(super) readable: [usize; 2],
    pub(super) residual: Option<View<'a>>,
    pub(super) output: ViewMut<'a>,
    pub(super) height: usize,
    pub(super) width: usize,
    /// Scratch: what lies between the transforms.
    pub(super) between: &'a mut Aligned,
    pub(super) room: &'a mut Room,
}

/// Whether that makes results of so many rows, columns and channels sooner: quads hang over an odd edge, and
/// each place has weights of its own, which are read for too few quads where channels are many.
pub(super) fn is_worth(from: Extent, to: Extent) -> bool {
    let quads = quads(to);
    let is_filled = 4 * quads * QUAD * QUAD <= 5 * to.height * to.width;
    let is_reused = padded(from.channels) * padded(to.channels) <= WEIGHTS_A_QUAD * quads;
    let has_many = from.channels >= LANE && to.channels >= LANE;
    is_filled && is_reused && has_many
}

/// Quads of results of this size.
const fn quads(to: Extent) -> usize {
    to.height.div_ceil(QUAD) * to.width.div_ceil(QUAD)
}

/// A kernel of 3×3 at each place of the window: G·g·Gᵀ.
pub(super) fn kernel_places(kernel: [f32; 9]) -> [f32; PLACES] {
    // In f64, so that what is rounded is rounded once.
    let g = kernel.map(f64::from);
    let column = |[a, b, c]: [f64; 3]| [a, 0.5 * (a + b + c), 0.5 * (a - b + c), c];
    let columns = [0, 1, 2].map(|x| column([g[x], g[3 + x], g[6 + x]]));
    let mut places = [0.0; PLACES];
    for (y, row) in places.as_chunks_mut::<WINDOW>().0.iter_mut().enumerate() {
        *row = column(columns.map(|column| column[y])).map(rounded);
    }
    places
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "it is rounded here, and of the size of an f32"
)]
const fn rounded(number: f64) -> f32 {
    number as f32
}

impl Winograd {
    /// Runs it.
    pub(super) fn run(&self, vectors: Vectors, quads: Quads<'_>) {
        let Quads { input, readable, residual, mut output, height, width, between, room } = quads;
        let (from, to) = (input.channels, self.follow.bias.as_slice().len());
        let across = width.div_ceil(QUAD);
        let all = height.div_ceil(QUAD) * across;
        let at_once = BETWEEN_BYTES / (PLACES * (from + to) * size_of::<f32>());
        let chunks = all.div_ceil(at_once.max(1)).max(1);
        let at_once = all.div_ceil(chunks);
        let (windows, products) =
            between.resize(PLACES * at_once * (from + to)).split_at_mut(PLACES * at_once * from);
        for start in (0..all).step_by(at_once.max(1)) {
            let quads = Span { quads: start..(start + at_once).min(all), across };
            let count = quads.quads.len();
            let to_places = ToPlaces { input, readable, span: &quads, windows };
            dispatch(vectors, to_places);
            let of_places =
                windows.chunks_exact(count * from).zip(products.chunks_exact_mut(count * to));
            for (matrix, (window, product)) in self.places.iter().zip(of_places) {
                let dense = Dense {
                    matrix,
                    part: matrix.whole(),
                    stride: [1, 1],
                    starts: &[0],
                    input: View { data: window, row: count * from, pixel: from, channels: from },
                    residual: None,
                    output: ViewMut { data: product, row: count * to, pixel: to, channels: to },
                    height: 1,
                    width: count,
                    room,
                };
                dense.make(vectors);
            }
            let output = output.down(0);
            let (follow, span) = (&self.follow, &quads);
            dispatch(
                vectors,
                FromPlaces { products, follow, span, residual, output, height, width },
            );
        }
    }
}

/// Quads that are made together, counted row by row.
struct Span {
    quads: Range<usize>,
    /// Quads a row.
    across: usize,
}

impl Span {
    /// Each quad's number among these, and the row and column of its first result.
    #[inline(always)]
    fn each(&self) -> impl Iterator<Item = (usize, [usize; 2])> {
        let across = self.across.max(1);
        let corner = move |quad: usize| [quad / across * QUAD, quad % across * QUAD];
        self.quads.clone().enumerate().map(move |(number, quad)| (number, corner(quad)))
    }
}

/// Windows to their places: Bᵀ·d·B.
struct ToPlaces<'a> {
    input: View<'a>,
    readable: [usize; 2],
    span: &'a Span,
    windows: &'a mut [f32],
}

impl Kernel for ToPlaces<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { input: View { data, row, pixel, channels }, readable, span, windows } = self;
        let mut places = places_mut::<S>(windows, span.quads.len() * channels);
        let vectors = channels / S::LEN;
        for (number, [top, left]) in span.each() {
            // Cut once a quad, so that no size is checked where the numbers go by.
            let mut window: [&[S::Array]; PLACES] = [&[]; PLACES];
            let mut to: [&mut [S::Array]; PLACES] = Default::default();
            let of_window = window.iter_mut().zip(&mut to).zip(&mut places).enumerate();
            for (at, ((from, to), place)) in of_window {
                // What lies beyond the edge counts in results only that hang over it too.
                let y = (top + at / WINDOW).min(readable[0] - 1);
                let x = (left + at % WINDOW).min(readable[1] - 1);
                *from = &S::vectors(&data[y * row + x * pixel..])[..vectors];
                *to = &mut place[number * vectors..][..vectors];
            }
            for vector in 0..vectors {
                let mut lines = [[simd.splat(0.0); WINDOW]; WINDOW];
                for (at, from) in window.iter().enumerate() {
                    lines[at / WINDOW][at % WINDOW] = simd.load(&from[vector]);
                }
                for line in &mut lines {
                    *line = transformed(simd, *line);
                }
                for x in 0..WINDOW {
                    for (y, value) in transformed(simd, column(&lines, x)).into_iter().enumerate() {
                        simd.store(&mut to[y * WINDOW + x][vector], value);
                    }
                }
            }
        }
    }
}

/// Numbers place by place, `len` each, as vectors.
#[inline(always)]
fn places_mut<S: Simd>(numbers: &mut [f32], len: usize) -> [&mut [S::Array]; PLACES] {
    let mut places: [&mut [S::Array]; PLACES] = Default::default();
    for (place, numbers) in places.iter_mut().zip(numbers.chunks_exact_mut(len)) {
        *place = S::vectors_mut(numbers);
    }
    places
}

/// One column of four lines.
#[inline(always)]
const fn column<V: Copy, const N: usize>(lines: &[[V; N]; WINDOW], x: usize) -> [V; WINDOW] {
    [lines[0][x], lines[1][x], lines[2][x], lines[3][x]]
}

/// Bᵀ·d for one line.
#[inline(always)]
fn transformed<S: Simd>(simd: S, [a, b, c, d]: [S::V; WINDOW]) -> [S::V; WINDOW] {
    [minus(simd, a, c), simd.add(b, c), minus(simd, c, b), minus(simd, b, d)]
}

/// a − b.
#[inline(always)]
fn minus<S: Simd>(simd: S, a: S::V, b: S::V) -> S::V {
    simd.mul_add(b, simd.splat(-1.0), a)
}

/// Products to results, Aᵀ·m·A, with bias, residual and activation.
struct FromPlaces<'a> {
    products: &'a [f32],
    follow: &'a Follow,
    span: &'a Span,
    residual: Option<View<'a>>,
    output: ViewMut<'a>,
    height: usize,
    width: usize,
}

impl Kernel for FromPlaces<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { products, follow, span, residual, output, height, width } = self;
        let bias = S::vectors(follow.bias.as_slice());
        let vectors = bias.len();
        let slope = follow.slope.as_ref().map(|slope| &S::vectors(slope.as_slice())[..vectors]);
        let following = Following { bias, slope, curve: follow.curve, residual };
        let (products, place_len) = (S::vectors(products), span.quads.len() * vectors);
        let [row, pixel] = [output.row / S::LEN, output.pixel / S::LEN];
        let output = S::vectors_mut(output.data);
        for (number, [top, left]) in span.each() {
            let mut places: [&[S::Array]; PLACES] = [&[]; PLACES];
            for (at, place) in places.iter_mut().enumerate() {
                *place = &products[at * place_len + number * vectors..][..vectors];
            }
            for vector in 0..vectors {
                let mut lines = [[simd.splat(0.0); QUAD]; WINDOW];
                for (line, places) in lines.iter_mut().zip(places.as_chunks::<WINDOW>().0) {
                    let mut products = [simd.splat(0.0); WINDOW];
                    for (product, place) in products.iter_mut().zip(places) {
                        *product = simd.load(&place[vector]);
                    }
                    *line = summed(simd, products);
                }
                for x in 0..QUAD {
                    for (y, sum) in summed(simd, column(&lines, x)).into_iter().enumerate() {
                        let [y, x] = [top + y, left + x];
                        if y < height && x < width {
                            let sum = following.applied(simd, sum, [y, x], vector);
                            simd.store(&mut output[y * row + x * pixel + vector], sum);
                        }
                    }
                }
            }
        }
    }
}

/// What follows the sums, as vectors.
struct Following<'a, S: Simd> {
    bias: &'a [S::Array],
    slope: Option<&'a [S::Array]>,
    curve: Option<Curve>,
    residual: Option<View<'a>>,
}

impl<S: Simd> Following<'_, S> {
    /// The result of one pixel and vector of channels.
    #[inline(always)]
    fn applied(&self, simd: S, sum: S::V, [y, x]: [usize; 2], vector: usize) -> S::V {
        let mut sum = simd.add(sum, simd.load(&self.bias[vector]));
        // A residual of fewer channels counts as zero in the others.
        if let Some(View { data, row, pixel, channels }) = self.residual
            && vector * S::LEN < channels
        {
            let numbers = &S::vectors(&data[y * row + x * pixel..])[vector];
            sum = simd.add(sum, simd.load(numbers));
        }
        if let Some(slope) = self.slope {
            sum = simd.prelu(sum, simd.load(&slope[vector]));
        }
        match self.curve {
            Some(curve) => curve.at(simd, sum),
            None => sum,
        }
    }
}

/// Aᵀ·m for one line.
#[inline(always)]
fn summed<S: Simd>(simd: S, [a, b, c, d]: [S::V; WINDOW]) -> [S::V; QUAD] {
    let (both, apart) = (simd.add(b, c), minus(simd, b, c));
    [simd.add(a, both), minus(simd, apart, d)]
}

/// What lies between the transforms at a time: a part of the second-level cache.
const BETWEEN_BYTES: usize = 384 * 1024;

/// Weights of one place that pay for a quad: with more of them, reading takes the time that multiplying saved.
const WEIGHTS_A_QUAD: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_at_its_places_keeps_its_sums() {
        // The corners are the kernel's own; a kernel of one number in the middle is half or quarter of it.
        let places = kernel_places([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        let near = |places: &[f32], wanted: &[f32]| {
            places.iter().zip(wanted).all(|(place, wanted)| (place - wanted).abs() < 1e-6)
        };
        let corners = [places[0], places[3], places[12], places[15]];
        assert!(near(&corners, &[1.0, 3.0, 7.0, 9.0]), "{places:?}");
        assert!(near(&places[5..6], &[45.0 / 4.0]), "{places:?}");
        let middle = kernel_places([0.0, 0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0]);
        assert!(near(&middle[5..7], &[1.0, -1.0]), "{middle:?}");
        assert!(near(&middle[9..11], &[-1.0, 1.0]), "{middle:?}");
    }
}
