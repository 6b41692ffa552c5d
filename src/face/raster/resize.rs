//! Resizing into a model's input: rows are mixed first, in long even runs, then columns.

use zeroize::Zeroizing;

use super::super::geometry::BoundingBox;
use super::wide::{self, Wide};
use super::{order, rounded, size};
use crate::capture::DecodedImage;
use crate::inference::ModelSource;

/// Draws the picture, shrunk or enlarged into the top-left corner of a black square, into a model's input
/// of zeros; by how much.
pub(in crate::face) fn draw_letterbox(
    image: &DecodedImage,
    side: usize,
    source: &ModelSource,
    input: &mut [f32],
) -> f32 {
    let (width, height) = size(image);
    draw_window(image, Region { x: 0, y: 0, width, height }, side, source, input)
}

/// As [`draw_letterbox`], of a part of the picture.
pub(in crate::face) fn draw_window(
    image: &DecodedImage,
    region: Region,
    side: usize,
    source: &ModelSource,
    input: &mut [f32],
) -> f32 {
    let Region { width, height, .. } = region;
    let scale = (side as f64 / width as f64).min(side as f64 / height as f64);
    let fitted =
        |length: usize| ((length as f64 * scale).round_ties_even() as usize).clamp(1, side);
    let (to_width, to_height) = (fitted(width), fitted(height));
    let (columns, rows) = if scale > 1.0 {
        (Taps::linear(width, to_width), Taps::linear(height, to_height))
    } else {
        (Taps::area(width, to_width), Taps::area(height, to_height))
    };
    wide::run(Resampling { image, region, columns: &columns, rows: &rows, side, source, input });
    scale as f32
}

/// Draws a part of the picture, resized to a square without regard to its proportions, into a model's
/// input of zeros.
pub(in crate::face) fn draw_crop(
    image: &DecodedImage,
    region: Region,
    side: usize,
    source: &ModelSource,
    input: &mut [f32],
) {
    let columns = Taps::linear(region.width, side);
    let rows = Taps::linear(region.height, side);
    wide::run(Resampling { image, region, columns: &columns, rows: &rows, side, source, input });
}

/// A rectangle of whole pixels inside a picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::face) struct Region {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
}

impl Region {
    /// The square `scale` times as large as a box's longer side, about its centre, as far as it lies in
    /// the picture.
    pub fn around(image: &DecodedImage, face: &BoundingBox, scale: f32) -> Self {
        let (width, height) = size(image);
        let half = face.width.max(face.height) * scale / 2.0;
        let centre = face.centre();
        let place = |centre: f32, length: usize| {
            let start = (centre - half).clamp(0.0, length as f32 - 1.0) as usize;
            let end = ((centre + half).ceil().max(0.0) as usize).clamp(start + 1, length);
            (start, end - start)
        };
        let (x, width) = place(centre.x, width);
        let (y, height) = place(centre.y, height);
        Self { x, y, width, height }
    }

    /// The rectangle `scale` times as large as a box about its centre, no larger than the picture
    /// and shifted into it. As the authors of `MiniFASNet` crop.
    pub fn enlarged(image: &DecodedImage, face: &BoundingBox, scale: f32) -> Self {
        let (width, height) = size(image);
        let (right, bottom) = (width as f32 - 1.0, height as f32 - 1.0);
        let scale = scale.min(bottom / face.height.max(1.0)).min(right / face.width.max(1.0));
        let (new_width, new_height) = (face.width * scale, face.height * scale);
        let centre = face.centre();
        let place = |centre: f32, length: f32, end: f32| {
            let start = (centre - length / 2.0).min(end - length).max(0.0);
            (start as usize, ((start + length).min(end)) as usize)
        };
        let (x0, x1) = place(centre.x, new_width, right);
        let (y0, y1) = place(centre.y, new_height, bottom);
        Self { x: x0, y: y0, width: x1.max(x0) - x0 + 1, height: y1.max(y0) - y0 + 1 }
    }
}

/// For each target place along one axis: where its source places begin, and their weights, the same
/// number for all.
struct Taps {
    starts: Vec<usize>,
    weights: Vec<f32>,
    each: usize,
}

impl Taps {
    /// Two neighbours, by distance between pixel centres.
    fn linear(from: usize, to: usize) -> Self {
        let ratio = from as f64 / to as f64;
        let centre =
            |place: usize| ((place as f64 + 0.5) * ratio - 0.5).clamp(0.0, (from - 1) as f64);
        Self::new(
            [from, to],
            2,
            |place| centre(place) as usize,
            |place, source| (1.0 - (centre(place) - source as f64).abs()).max(0.0),
        )
    }

    /// All that a target place covers, by how much of each it covers.
    fn area(from: usize, to: usize) -> Self {
        let ratio = from as f64 / to as f64;
        let first = |place: usize| (place as f64 * ratio + 1e-6) as usize;
        Self::new([from, to], ratio.ceil() as usize + 1, first, |place, source| {
            let (begin, end) = (place as f64 * ratio, (place + 1) as f64 * ratio);
            (end.min((source + 1) as f64) - begin.max(source as f64)).max(0.0)
        })
    }

    /// `each` sources at most from `first` on, as many as there are; weights add up to one.
    fn new(
        [from, to]: [usize; 2],
        each: usize,
        first: impl Fn(usize) -> usize,
        weight: impl Fn(usize, usize) -> f64,
    ) -> Self {
        // No more than the place needs that needs most.
        let counted = |place: usize| {
            let start = first(place);
            let sources = start..(start + each).min(from);
            let last = sources.rev().find(|source| weight(place, *source) > 0.0);
            last.map_or(1, |last| last + 1 - start)
        };
        let each = (0..to).map(counted).max().unwrap_or(1);
        let mut taps = Self { starts: Vec::with_capacity(to), weights: Vec::new(), each };
        taps.weights.reserve(to * each);
        for place in 0..to {
            let start = first(place).min(from - each);
            let sources = start..start + each;
            let total: f64 = sources.clone().map(|source| weight(place, source)).sum();
            debug_assert!(total > 0.0, "a place that covers nothing");
            taps.starts.push(start);
            taps.weights.extend(sources.map(|source| (weight(place, source) / total) as f32));
        }
        taps
    }
}

/// Resamples a region into the top-left of a black square of three planes.
struct Resampling<'a> {
    image: &'a DecodedImage,
    region: Region,
    columns: &'a Taps,
    rows: &'a Taps,
    side: usize,
    source: &'a ModelSource,
    input: &'a mut [f32],
}

impl Wide for Resampling<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { image, region, columns, rows, side, source, input } = self;
        let (full_width, _) = size(image);
        let (stride, length) = (full_width * 3, region.width * 3);
        let (plane, width) = (side * side, columns.starts.len());
        let (black, step) =
            (source.input_value(0.0), source.input_value(1.0) - source.input_value(0.0));
        // Zeros before.
        if black.abs() > 0.0 {
            input.fill(black);
        }
        // One number more: a pixel is read as four.
        let mut mixed = Zeroizing::new(vec![0.0f32; length + 1]);
        let mut line = Zeroizing::new(vec![[0.0f32; 4]; width]);
        let order = order(source.colour);
        for (row, (start, weights)) in
            rows.starts.iter().zip(rows.weights.chunks_exact(rows.each)).enumerate()
        {
            let begin = (region.y + start) * stride + region.x * 3;
            let pixels = &image.rgb()[begin..];
            match rows.each {
                1 => mix::<1>(pixels, stride, weights, &mut mixed[..length]),
                2 => mix::<2>(pixels, stride, weights, &mut mixed[..length]),
                3 => mix::<3>(pixels, stride, weights, &mut mixed[..length]),
                4 => mix::<4>(pixels, stride, weights, &mut mixed[..length]),
                _ => mix_any(pixels, stride, weights, &mut mixed[..length]),
            }
            match columns.each {
                1 => across::<1>(&mixed, columns, &mut line),
                2 => across::<2>(&mixed, columns, &mut line),
                3 => across::<3>(&mixed, columns, &mut line),
                4 => across::<4>(&mixed, columns, &mut line),
                _ => across_any(&mixed, columns, &mut line),
            }
            for (target, channel) in input.chunks_exact_mut(plane).zip(order) {
                let target = &mut target[row * side..][..width];
                for (to, pixel) in target.iter_mut().zip(line.iter()) {
                    *to = rounded(pixel[channel]) * step + black;
                }
            }
        }
    }
}

/// Adds up rows times their weights. As many rows as the compiler knows.
#[inline(always)]
fn mix<const EACH: usize>(pixels: &[u8], stride: usize, weights: &[f32], sums: &mut [f32]) {
    let mut rows: [&[u8]; EACH] = [&[]; EACH];
    let mut each = [0.0; EACH];
    for (tap, (row, weight)) in rows.iter_mut().zip(&mut each).enumerate() {
        *row = &pixels[tap * stride..][..sums.len()];
        *weight = weights[tap];
    }
    for (at, sum) in sums.iter_mut().enumerate() {
        let mut total = f32::from(rows[0][at]) * each[0];
        for tap in 1..EACH {
            total += f32::from(rows[tap][at]) * each[tap];
        }
        *sum = total;
    }
}

/// The same for any number of rows.
#[inline(always)]
fn mix_any(pixels: &[u8], stride: usize, weights: &[f32], sums: &mut [f32]) {
    sums.fill(0.0);
    for (tap, weight) in weights.iter().enumerate() {
        let row = &pixels[tap * stride..][..sums.len()];
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f32::from(*value) * weight);
    }
}

/// Mixes a row's columns into pixels of four numbers, of which the last means nothing: four go through
/// the processor as one. With as many sources as the compiler knows.
#[inline(always)]
fn across<const EACH: usize>(mixed: &[f32], columns: &Taps, line: &mut [[f32; 4]]) {
    let (weights, _) = columns.weights.as_chunks::<EACH>();
    for ((target, start), weights) in line.iter_mut().zip(&columns.starts).zip(weights) {
        *target = pixel(&mixed[start * 3..][..=EACH * 3], weights);
    }
}

/// The same for any number of sources.
#[inline(always)]
fn across_any(mixed: &[f32], columns: &Taps, line: &mut [[f32; 4]]) {
    let weights = columns.weights.chunks_exact(columns.each);
    for ((target, start), weights) in line.iter_mut().zip(&columns.starts).zip(weights) {
        *target = pixel(&mixed[start * 3..][..=columns.each * 3], weights);
    }
}

#[inline(always)]
fn pixel(sources: &[f32], weights: &[f32]) -> [f32; 4] {
    let mut sum = [0.0f32; 4];
    for (tap, weight) in weights.iter().enumerate() {
        for (channel, sum) in sum.iter_mut().enumerate() {
            *sum += sources[tap * 3 + channel] * weight;
        }
    }
    sum
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "whole numbers below 256 are exact")]
mod tests {
    use super::super::tests::{image, noise};
    use super::*;
    use crate::inference::Colour;
    use proptest::prelude::*;

    fn model(colour: Colour, range: (f32, f32)) -> ModelSource {
        let (origin, licence) = (String::new(), String::new());
        let sha256 = crate::crypto::sha256(b"no file");
        ModelSource { path: "none".into(), sha256, origin, licence, colour, range }
    }

    /// A model that takes pixels as they are.
    fn plain() -> ModelSource {
        model(Colour::Rgb, (0.0, 255.0))
    }

    fn taps(from: usize, to: usize) -> Taps {
        if from < to { Taps::linear(from, to) } else { Taps::area(from, to) }
    }

    fn letterboxed(image: &DecodedImage, side: usize, source: &ModelSource) -> (Vec<f32>, f32) {
        let mut input = vec![0.0; 3 * side * side];
        let scale = draw_letterbox(image, side, source, &mut input);
        (input, scale)
    }

    #[test]
    fn halving_averages_and_the_rest_of_the_square_is_black() {
        let checks = image(8, 4, |x, _| if x % 2 == 0 { [0, 100, 200] } else { [50, 100, 0] });
        let (input, scale) = letterboxed(&checks, 4, &plain());
        assert!((scale - 0.5).abs() < 1e-6);
        assert_eq!(input[0..4], [25.0; 4]);
        assert_eq!(input[16..20], [100.0; 4]);
        assert_eq!(input[32..36], [100.0; 4]);
        assert_eq!(input[8..16], [0.0; 8]);
    }

    #[test]
    fn a_model_gets_its_order_of_colours_and_its_range() {
        let picture = image(4, 2, |_, _| [0, 51, 255]);
        let source = model(Colour::Bgr, (-1.0, 1.0));
        let (input, _) = letterboxed(&picture, 4, &source);
        for (plane, expected) in input.chunks_exact(16).zip([1.0, -0.6, -1.0]) {
            assert!(plane[..8].iter().all(|value| (value - expected).abs() < 1e-6));
            assert_eq!(plane[8..], [-1.0; 8], "the rest is black");
        }
    }

    #[test]
    fn enlarging_interpolates_between_pixel_centres() {
        let two = image(2, 1, |x, _| if x == 0 { [0; 3] } else { [100; 3] });
        let (input, _) = letterboxed(&two, 4, &plain());
        // OpenCV's resize of [0, 100] to four places.
        assert_eq!(input[0..4], [0.0, 25.0, 75.0, 100.0]);
    }

    #[test]
    fn no_place_counts_more_sources_than_one_needs() {
        let each = |from, to| Taps::area(from, to).each;
        assert_eq!([each(8, 4), each(10, 3), each(17, 5), each(9, 9)], [2, 4, 5, 1]);
        assert_eq!([Taps::linear(9, 9).each, Taps::linear(3, 7).each], [1, 2]);
    }

    proptest! {
        #[test]
        fn rounding_is_that_of_the_library(value in 0.0f32..300.0, whole in 0u8..=255) {
            let by_library = |value: f32| (value + 0.5).floor().min(255.0);
            prop_assert_eq!(rounded(value), by_library(value));
            for near in [f32::from(whole), f32::from(whole) + 0.5, f32::from(whole) + 0.499_999_97] {
                prop_assert_eq!(rounded(near), by_library(near));
            }
            prop_assert_eq!([rounded(-value), rounded(f32::NAN)], [0.0; 2]);
        }

        #[test]
        fn wide_registers_change_nothing(
            (left, width) in (0usize..9, 1usize..150), (above, height) in (0usize..9, 1usize..90),
            side in 1usize..70, seed in any::<u32>(),
        ) {
            // Down to the last pixel, behind which there is nothing to read.
            let (full_width, full_height) = ((left + width) as u32, (above + height) as u32);
            let picture = image(full_width, full_height, |x, y| noise(x, y, seed));
            let (columns, rows) = (taps(width, side), taps(height, side));
            let source = model(Colour::Bgr, (-1.0, 1.0));
            let drawn = |draw: &dyn Fn(Resampling<'_>)| {
                let mut input = vec![0.0; 3 * side * side];
                let region = Region { x: left, y: above, width, height };
                let (image, columns, rows, input_of) = (&picture, &columns, &rows, &mut input);
                draw(Resampling {
                    image, region, columns, rows, side, source: &source, input: input_of,
                });
                input
            };
            prop_assert_eq!(drawn(&|work| work.run()), drawn(&|work| wide::run(work)));
        }

        #[test]
        fn every_weight_is_used_once(from in 1usize..400, to in 1usize..400) {
            let taps = taps(from, to);
            prop_assert_eq!(taps.starts.len(), to);
            for (start, weights) in taps.starts.iter().zip(taps.weights.chunks_exact(taps.each)) {
                prop_assert!(start + taps.each <= from);
                prop_assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                prop_assert!(weights.iter().all(|weight| *weight >= 0.0));
            }
            // Shrinking, each source counts as much as any other.
            if from >= to {
                let mut counts = vec![0.0f32; from];
                for (start, weights) in taps.starts.iter().zip(taps.weights.chunks_exact(taps.each)) {
                    for (offset, weight) in weights.iter().enumerate() {
                        counts[start + offset] += weight;
                    }
                }
                let even = to as f32 / from as f32;
                prop_assert!(counts.iter().all(|count| (count - even).abs() < 1e-3));
            }
        }

        #[test]
        fn crops_lie_inside_the_picture(
            width in 2u32..200, height in 2u32..200,
            x in -50.0f32..250.0, y in -50.0f32..250.0, w in 0.0f32..300.0, h in 0.0f32..300.0,
            scale in 1.0f32..5.0,
        ) {
            let picture = image(width, height, |_, _| [1; 3]);
            let face = BoundingBox { x, y, width: w, height: h };
            let region = Region::enlarged(&picture, &face, scale);
            prop_assert!(region.width >= 1 && region.height >= 1);
            prop_assert!(region.x + region.width <= width as usize);
            prop_assert!(region.y + region.height <= height as usize);
            let mut input = vec![0.0; 3 * 16 * 16];
            draw_crop(&picture, region, 16, &plain(), &mut input);
            prop_assert!(input.iter().all(|value| *value == 1.0));
        }

        #[test]
        fn any_size_fits_any_square(width in 1u32..90, height in 1u32..90, side in 1usize..70) {
            let picture = image(width, height, |_, _| [200, 100, 0]);
            let (input, scale) = letterboxed(&picture, side, &plain());
            prop_assert_eq!(input.len(), 3 * side * side);
            prop_assert!(scale > 0.0);
            prop_assert_eq!(input[0], 200.0);
        }
    }
}
