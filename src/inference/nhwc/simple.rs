//! Steps that only compare, add or move: pooling, sums, enlarging, means, gates, and the ways
//! into the layout and out of it.
#![expect(
    clippy::indexing_slicing,
    clippy::inline_always,
    reason = "sizes are checked once a pixel, where slices are cut; registers do not cross a call"
)]

use super::curve::Curve;
use super::memory::{Aligned, Extent, View, ViewMut};
use super::simd::{Kernel, Simd};

/// What a pool keeps of its window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Keep {
    /// The greatest number.
    Greatest,
    /// The mean over the whole window.
    Mean,
    /// The greatest for the first channels, so many, and the mean for the others.
    Both(usize),
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
    /// One where the greatest is kept and zero elsewhere, if channels differ.
    pub(super) greatest: Option<&'a Aligned>,
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
        let marks = self.greatest.map(|marks| S::vectors(marks.as_slice()));
        for y in 0..self.to.height {
            let lines = y * stride[0]..(y * stride[0] + size[0]).min(self.from.height);
            for x in 0..self.to.width {
                let columns = x * stride[1]..(x * stride[1] + size[1]).min(self.from.width);
                let place = y * self.output.row + x * self.output.pixel;
                let place = &mut self.output.data[place..][..self.output.channels];
                for (vector, place) in S::vectors_mut(place).iter_mut().enumerate() {
                    let mut most = simd.splat(f32::NEG_INFINITY);
                    let mut sum = simd.splat(0.0);
                    for line in lines.clone() {
                        for column in columns.clone() {
                            let pixel = line * self.input.row + column * self.input.pixel;
                            let pixel =
                                S::vectors(&self.input.data[pixel..][..self.input.channels]);
                            let number = simd.load(&pixel[vector]);
                            if keep != Keep::Mean {
                                most = simd.max(most, number);
                            }
                            if keep != Keep::Greatest {
                                sum = simd.add(sum, number);
                            }
                        }
                    }
                    let mean = simd.mul(sum, share);
                    let kept = match (keep, marks) {
                        (Keep::Greatest, _) => most,
                        (Keep::Both(_), Some(marks)) => {
                            let mark = simd.load(&marks[vector]);
                            let other = simd.mul_add(mark, simd.splat(-1.0), simd.splat(1.0));
                            simd.mul_add(most, mark, simd.mul(mean, other))
                        }
                        _ => mean,
                    };
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
    pub(super) curve: Option<Curve>,
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
                        S::vectors(&view.data[y * view.row + x * view.pixel..][..view.channels])
                    }
                    _ => &[],
                });
                let place = y * self.output.row + x * self.output.pixel;
                let place = &mut self.output.data[place..][..self.output.channels];
                for (vector, place) in S::vectors_mut(place).iter_mut().enumerate() {
                    let mut sum = simd.splat(0.0);
                    for number in terms.iter().filter_map(|term| term.get(vector)) {
                        sum = simd.add(sum, simd.load(number));
                    }
                    if let Some(slope) = slope.and_then(|slope| slope.get(vector)) {
                        sum = simd.prelu(sum, simd.load(slope));
                    }
                    if let Some(curve) = self.curve {
                        sum = curve.at(simd, sum);
                    }
                    simd.store(place, sum);
                }
            }
        }
    }
}

/// Multiplies two values of one size.
pub(super) struct Product<'a> {
    pub(super) factors: [View<'a>; 2],
    pub(super) output: ViewMut<'a>,
    pub(super) to: Extent,
}

impl Kernel for Product<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for y in 0..self.to.height {
            for x in 0..self.to.width {
                let [first, second] = self.factors.map(|view| {
                    S::vectors(&view.data[y * view.row + x * view.pixel..][..view.channels])
                });
                let place = y * self.output.row + x * self.output.pixel;
                let place = &mut self.output.data[place..][..self.output.channels];
                let factors = first.iter().zip(second);
                for (place, (first, second)) in S::vectors_mut(place).iter_mut().zip(factors) {
                    let product = simd.mul(simd.load(first), simd.load(second));
                    simd.store(place, product);
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
            let pixel = &input.data[pixel..][..input.channels];
            let place = y * output.row + x * factor * output.pixel;
            let places = &mut output.data[place..];
            for place in places.chunks_mut(output.pixel).take(factor) {
                place[..output.channels].copy_from_slice(pixel);
            }
        }
    }
}

/// Spreads the phases of each pixel (channels innermost: channel, row, column) over `factor` rows
/// and columns; `places` tells where a phase lies.
pub(super) fn shuffle(
    input: View<'_>,
    from: Extent,
    factor: usize,
    places: &[usize],
    mut output: ViewMut<'_>,
) {
    for y in 0..from.height {
        for x in 0..from.width {
            let pixel = &input.data[y * input.row + x * input.pixel..][..input.channels];
            for phase in 0..factor * factor {
                let output = output.down(y * factor + phase / factor);
                let place = (x * factor + phase % factor) * output.pixel;
                let place = &mut output.data[place..][..output.channels];
                place.fill(0.0);
                let numbers = places.iter().skip(phase).step_by(factor * factor);
                place.iter_mut().zip(numbers).for_each(|(place, at)| *place = pixel[*at]);
            }
        }
    }
}

/// Adds all pixels up and divides, into one pixel.
pub(super) fn total(input: View<'_>, from: Extent, divisor: f32, output: ViewMut<'_>) {
    let place = &mut output.data[..output.channels];
    place.fill(0.0);
    for y in 0..from.height {
        for x in 0..from.width {
            let pixel = &input.data[y * input.row + x * input.pixel..][..input.channels];
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
        gate.data[..gate.channels].iter().map(|number| 1.0 / (1.0 + (-number).exp())).collect();
    for y in 0..from.height {
        for x in 0..from.width {
            let pixel = &input.data[y * input.row + x * input.pixel..][..input.channels];
            let place = &mut output.data[y * output.row + x * output.pixel..][..output.channels];
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
        for x in 0..from.width {
            let numbers = planes.iter().skip(y * from.width + x).step_by(area.max(1));
            let pixel = &mut output.data[y * output.row + x * output.pixel..][..output.channels];
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

/// The channels of a value that lie at `places`, out of the layout; with a `factor` over one, each
/// so many rows and columns of a plane are the phases of one pixel.
pub(super) fn export(
    input: View<'_>,
    from: Extent,
    places: &[usize],
    factor: usize,
    order: Order,
    output: &mut [f32],
) {
    let (channels, area) = (places.len(), from.height * from.width);
    let together = places.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    for y in 0..from.height {
        if order == Order::Planes {
            let row = &input.data[y * input.row..];
            for (plane, place) in places.iter().enumerate() {
                let (plane, phase) = (plane / (factor * factor), plane % (factor * factor));
                let first = (y * factor + phase / factor) * factor * from.width + phase % factor;
                let to = output[plane * area * factor * factor + first..].iter_mut();
                let pixels = row[*place..].iter().step_by(input.pixel).take(from.width);
                to.step_by(factor).zip(pixels).for_each(|(place, number)| *place = *number);
            }
            continue;
        }
        for x in 0..from.width {
            let pixel = &input.data[y * input.row + x * input.pixel..][..input.channels];
            let to = &mut output[(y * from.width + x) * channels..][..channels];
            match places.first() {
                Some(first) if together => to.copy_from_slice(&pixel[*first..][..channels]),
                _ => to.iter_mut().zip(places).for_each(|(to, place)| *to = pixel[*place]),
            }
        }
    }
}
