//! Norm over the channels of each pixel (layer norm): centred, divided by the deviation, scaled.
//!
//! Pixels are taken four at a time, so that the sums over the places of a register, which wait for
//! each other, overlap.
#![expect(
    clippy::indexing_slicing,
    clippy::inline_always,
    reason = "sizes are checked once a tile, where slices are cut; registers do not cross a call"
)]

use super::curve::Curve;
use super::memory::{Aligned, View, ViewMut};
use super::simd::{Kernel, Simd};

/// Numbers for each channel as it is stored.
#[derive(Debug)]
pub(super) struct Scales {
    pub(super) gain: Aligned,
    pub(super) offset: Aligned,
    /// One for a channel, zero for padding.
    pub(super) marks: Aligned,
    /// One, divided by the count of channels.
    pub(super) share: f32,
    /// What is added to the variance.
    pub(super) epsilon: f32,
    pub(super) curve: Option<Curve>,
}

/// The norm of `height` × `width` pixels.
pub(super) struct Norm<'a> {
    pub(super) scales: &'a Scales,
    pub(super) input: View<'a>,
    pub(super) output: ViewMut<'a>,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Kernel for Norm<'_> {
    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        for y in 0..self.height {
            let fours = self.width / 4 * 4;
            for x in (0..fours).step_by(4) {
                self.pixels::<S, 4>(simd, [y, x]);
            }
            for x in fours..self.width {
                self.pixels::<S, 1>(simd, [y, x]);
            }
        }
    }
}

impl Norm<'_> {
    #[inline(always)]
    fn pixels<S: Simd, const COUNT: usize>(&mut self, simd: S, [y, x]: [usize; 2]) {
        let Scales { gain, offset, marks, share, epsilon, curve } = self.scales;
        let [gain, offset, marks] = [gain, offset, marks].map(|each| S::vectors(each.as_slice()));
        let mut from: [&[S::Array]; COUNT] = [&[]; COUNT];
        for (number, from) in from.iter_mut().enumerate() {
            let pixel = y * self.input.row + (x + number) * self.input.pixel;
            *from = &S::vectors(&self.input.data[pixel..][..self.input.channels])[..marks.len()];
        }
        let mut sums = [simd.splat(0.0); COUNT];
        for (vector, mark) in marks.iter().enumerate() {
            let mark = simd.load(mark);
            for (sum, from) in sums.iter_mut().zip(&from) {
                *sum = simd.mul_add(simd.load(&from[vector]), mark, *sum);
            }
        }
        let mut means = [simd.splat(0.0); COUNT];
        for (mean, sum) in means.iter_mut().zip(sums) {
            *mean = simd.splat(-simd.total(sum) * share);
        }
        let mut squares = [simd.splat(0.0); COUNT];
        for (vector, mark) in marks.iter().enumerate() {
            let mark = simd.load(mark);
            for ((square, mean), from) in squares.iter_mut().zip(means).zip(&from) {
                let centred = simd.mul(simd.add(mean, simd.load(&from[vector])), mark);
                *square = simd.mul_add(centred, centred, *square);
            }
        }
        let mut factors = [simd.splat(0.0); COUNT];
        for (factor, square) in factors.iter_mut().zip(squares) {
            *factor = simd.splat(1.0 / (simd.total(square) * share + epsilon).sqrt());
        }
        for (vector, (gain, offset)) in gain.iter().zip(offset).enumerate() {
            let (gain, offset) = (simd.load(gain), simd.load(offset));
            for (number, from) in from.iter().enumerate() {
                let centred = simd.add(simd.load(&from[vector]), means[number]);
                let mut normed = simd.mul_add(simd.mul(centred, factors[number]), gain, offset);
                if let Some(curve) = curve {
                    normed = curve.at(simd, normed);
                }
                let place = y * self.output.row + (x + number) * self.output.pixel;
                let place = &mut self.output.data[place + vector * S::LEN..][..S::LEN];
                for place in S::vectors_mut(place) {
                    simd.store(place, normed);
                }
            }
        }
    }
}
