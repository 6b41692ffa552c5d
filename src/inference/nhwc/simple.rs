//! Steps that only compare, add or move: pooling, sums, enlarging, means, gates, and the ways
//! into the layout and out of it.
#![expect(
    clippy::indexing_slicing,
    clippy::inline_always,
    reason = "sizes are checked once a pixel, where slices are cut; registers do not cross a call"
)]

use super::memory::{Aligned, Extent, View, ViewMut};
use super::simd::{Kernel, Simd};

/// What a pool keeps of its window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Keep {
    /// The greatest number.
    Greatest,
    /// The mean over the whole window.
    Mean,
}

/// A pool without padding; windows may hang over the far edge, where there is nothing to compare.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Window {
    pub(super) keep: Keep,
    pub(super) size: [usize; 2],
    pub(super) stride: [usize; 2],
}

/// Pools `from` into `to`.
pub(super) struct Pool<'a> {
    pub(super) window: Window,
    pub(super) input: View<'a>,
    pub(super) from: Extent,
    pub(super) output: ViewMut<'a>,
    pub(super) to: Extent,
}

impl Kernel for Pool<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Window { keep, size, stride } = self.window;
        let share = simd.splat(reciprocal(size[0] * size[1]));
        for y in 0..self.to.height {
            let lines = y * stride[0]..(y * stride[0] + size[0]).min(self.from.height);
            for x in 0..self.to.width {
                let columns = x * stride[1]..(x * stride[1] + size[1]).min(self.from.width);
                let place = y * self.output.row + x * self.output.pixel;
                let place = &mut self.output.data[place..][..self.output.pixel];
                for (vector, place) in S::vectors_mut(place).iter_mut().enumerate() {
                    let mut kept = simd.splat(match keep {
                        Keep::Greatest => f32::NEG_INFINITY,
                        Keep::Mean => 0.0,
                    });
                    for line in lines.clone() {
                        for column in columns.clone() {
                            let pixel = line * self.input.row + column * self.input.pixel;
                            let pixel = S::vectors(&self.input.data[pixel..][..self.input.pixel]);
                            let number = simd.load(&pixel[vector]);
                            kept = match keep {
                                Keep::Greatest => simd.max(kept, number),
                                Keep::Mean => simd.add(kept, number),
                            };
                        }
                    }
                    if keep == Keep::Mean {
                        kept = simd.mul(kept, share);
                    }
                    simd.store(place, kept);
                }
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a window's area is exact as f32")]
fn reciprocal(area: usize) -> f32 {
    1.0 / area as f32
}

/// Adds two values, of which either may end early and counts as zero beyond; then the activation.
pub(super) struct Sum<'a> {
    pub(super) terms: [Option<(View<'a>, Extent)>; 2],
    pub(super) slope: Option<&'a Aligned>,
    pub(super) output: ViewMut<'a>,
    pub(super) to: Extent,
}

impl Kernel for Sum<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let slope = self.slope.map(|slope| S::vectors(slope.as_slice()));
        for y in 0..self.to.height {
            for x in 0..self.to.width {
                let terms = self.terms.map(|term| match term {
                    Some((view, extent)) if y < extent.height && x < extent.width => {
                        S::vectors(&view.data[y * view.row + x * view.pixel..][..view.pixel])
                    }
                    _ => &[],
                });
                let place = y * self.output.row + x * self.output.pixel;
                let place = &mut self.output.data[place..][..self.output.pixel];
                for (vector, place) in S::vectors_mut(place).iter_mut().enumerate() {
                    let mut sum = simd.splat(0.0);
                    for number in terms.iter().filter_map(|term| term.get(vector)) {
                        sum = simd.add(sum, simd.load(number));
                    }
                    if let Some(slope) = slope.and_then(|slope| slope.get(vector)) {
                        sum = simd.prelu(sum, simd.load(slope));
                    }
                    simd.store(place, sum);
                }
            }
        }
    }
}

/// Repeats each pixel `factor` times in both directions.
pub(super) fn enlarge(input: View<'_>, from: Extent, factor: usize, output: ViewMut<'_>) {
    for y in 0..from.height * factor {
        for x in 0..from.width {
            let pixel = (y / factor) * input.row + x * input.pixel;
            let pixel = &input.data[pixel..][..input.pixel];
            let place = y * output.row + x * factor * output.pixel;
            let places = &mut output.data[place..][..factor * output.pixel];
            places.chunks_exact_mut(output.pixel).for_each(|place| place.copy_from_slice(pixel));
        }
    }
}

/// Adds all pixels up and divides, into one pixel.
pub(super) fn total(input: View<'_>, from: Extent, divisor: f32, output: ViewMut<'_>) {
    let place = &mut output.data[..output.pixel];
    place.fill(0.0);
    for y in 0..from.height {
        let row = &input.data[y * input.row..][..from.width * input.pixel];
        for pixel in row.chunks_exact(input.pixel) {
            place.iter_mut().zip(pixel).for_each(|(sum, number)| *sum += number);
        }
    }
    for sum in place {
        *sum /= divisor;
    }
}

/// Multiplies each channel by the logistic function of its gate.
pub(super) fn gate(input: View<'_>, from: Extent, gate: View<'_>, output: ViewMut<'_>) {
    let factors: Vec<f32> =
        gate.data[..gate.pixel].iter().map(|number| 1.0 / (1.0 + (-number).exp())).collect();
    for y in 0..from.height {
        let numbers = &input.data[y * input.row..][..from.width * input.pixel];
        let places = &mut output.data[y * output.row..][..from.width * output.pixel];
        let pixels = numbers.chunks_exact(input.pixel);
        for (place, pixel) in places.chunks_exact_mut(output.pixel).zip(pixels) {
            for ((place, number), factor) in place.iter_mut().zip(pixel).zip(&factors) {
                *place = number * factor;
            }
        }
    }
}

/// Planes into pixels.
pub(super) fn import(planes: &[f32], from: Extent, output: ViewMut<'_>) {
    let area = from.height * from.width;
    for y in 0..from.height {
        let row = &mut output.data[y * output.row..][..from.width * output.pixel];
        for (x, pixel) in row.chunks_exact_mut(output.pixel).enumerate() {
            let numbers = planes.iter().skip(y * from.width + x).step_by(area.max(1));
            let (pixel, padding) = pixel.split_at_mut(from.channels);
            pixel.iter_mut().zip(numbers).for_each(|(place, number)| *place = *number);
            padding.fill(0.0);
        }
    }
}

/// Order of the numbers of a value that leaves the trunk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Order {
    /// One plane a channel.
    Planes,
    /// Channels innermost.
    Pixels,
}

/// Some channels of a value, from `first` on, out of the layout.
pub(super) fn export(
    input: View<'_>,
    from: Extent,
    first: usize,
    order: Order,
    output: &mut [f32],
) {
    let (channels, area) = (from.channels, from.height * from.width);
    for y in 0..from.height {
        let row = &input.data[y * input.row..][..from.width * input.pixel];
        for (x, pixel) in row.chunks_exact(input.pixel).enumerate() {
            let (pixel, at) = (&pixel[first..][..channels], y * from.width + x);
            match order {
                Order::Pixels => output[at * channels..][..channels].copy_from_slice(pixel),
                Order::Planes => {
                    let places = output[at..].iter_mut().step_by(area);
                    places.zip(pixel).for_each(|(place, number)| *place = *number);
                }
            }
        }
    }
}
