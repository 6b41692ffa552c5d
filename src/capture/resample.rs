//! Separable cubic resampling of a grey picture.
//!
//! Cubic convolution (R. Keys, "Cubic Convolution Interpolation for Digital Image Processing", 1981,
//! a = −½). Where the picture shrinks the kernel is stretched by as much, so that it averages over
//! what falls together and nothing is aliased.

use zeroize::Zeroizing;

/// `pixels`, rows of `width`, as rows of `new_width` in number `new_height`; a new pixel is `ratio`
/// old ones wide and high, and the upper left corner stays where it is.
pub(super) fn resampled(
    pixels: &[u8],
    width: usize,
    new_width: usize,
    new_height: usize,
    ratio: f64,
) -> Vec<u8> {
    let height = pixels.len() / width.max(1);
    let columns = Windows::new(width, new_width, ratio);
    let mut narrow = Zeroizing::new(Vec::with_capacity(new_width * height));
    for row in pixels.chunks_exact(width.max(1)) {
        narrow.extend(columns.iter().map(|(start, weights)| {
            let run = row.iter().skip(start).zip(weights);
            run.map(|(grey, weight)| f32::from(*grey) * weight).sum::<f32>()
        }));
    }
    let mut new = Vec::with_capacity(new_width * new_height);
    let mut sums = Zeroizing::new(vec![0.0f32; new_width]);
    for (start, weights) in Windows::new(height, new_height, ratio).iter() {
        sums.fill(0.0);
        for (row, weight) in narrow.chunks_exact(new_width.max(1)).skip(start).zip(weights) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += value * weight;
            }
        }
        new.extend(sums.iter().map(|sum| grey(*sum)));
    }
    new
}

/// For each new sample of a line: the old ones under its kernel, and their weights.
struct Windows {
    starts: Vec<usize>,
    weights: Vec<f32>,
    /// Weights a sample.
    size: usize,
}

impl Windows {
    fn new(length: usize, new_length: usize, ratio: f64) -> Self {
        let stretch = ratio.max(1.0);
        let reach = KERNEL_REACH * stretch;
        let size = whole(2.0 * reach).saturating_add(1).min(length);
        let mut windows = Self { starts: Vec::new(), weights: Vec::new(), size };
        for place in 0..new_length {
            let centre = (float(place) + 0.5) * ratio - 0.5;
            // At the edges the window stays inside, and what lies outside counts nothing.
            let start = whole((centre - reach).ceil().max(0.0)).min(length - size);
            let weights = (start..start + size).map(|at| cubic((float(at) - centre) / stretch));
            let total: f64 = weights.clone().sum();
            windows.starts.push(start);
            windows.weights.extend(weights.map(|weight| narrow(weight / total)));
        }
        windows
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[f32])> {
        self.starts.iter().copied().zip(self.weights.chunks_exact(self.size.max(1)))
    }
}

/// Keys' kernel with a = −½.
fn cubic(distance: f64) -> f64 {
    let d = distance.abs();
    if d < 1.0 {
        (1.5 * d - 2.5) * d * d + 1.0
    } else if d < KERNEL_REACH {
        ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
    } else {
        0.0
    }
}

#[expect(clippy::cast_precision_loss, reason = "a place in a line of pixels")]
fn float(place: usize) -> f64 {
    place as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in a line of pixels, not below zero"
)]
fn whole(place: f64) -> usize {
    place as usize
}

#[expect(clippy::cast_possible_truncation, reason = "a weight to the precision of the sums")]
fn narrow(weight: f64) -> f32 {
    weight as f32
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of floats to u8 cuts at 0 and 255, where the kernel overshoots"
)]
fn grey(sum: f32) -> u8 {
    (sum + 0.5) as u8
}

const KERNEL_REACH: f64 = 2.0;
