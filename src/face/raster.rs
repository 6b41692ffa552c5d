//! Pixel arithmetic: resize, warp, and what is counted over pixels.
//!
//! Sampling follows `OpenCV` (`resize` with `INTER_LINEAR` and `INTER_AREA`, `warpAffine` with
//! `INTER_LINEAR`, 8-bit rounding included), because the models were trained and are compared that
//! way.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    clippy::indexing_slicing,
    reason = "the one place of pixel arithmetic; every index is clamped to the picture it reads"
)]

use super::geometry::{Point, SimilarityTransform};
use crate::capture::DecodedImage;
use crate::inference::{Colour, ModelSource};

/// An aligned face: a square picture in three planes (red, green, blue), values 0 to 255.
#[derive(Clone)]
pub struct Chip {
    side: usize,
    planes: Vec<f32>,
}

impl Chip {
    /// The numbers a model takes: its order of colours, its range.
    pub(super) fn input(&self, source: &ModelSource) -> Vec<f32> {
        let plane = self.side * self.side;
        let order = match source.colour {
            Colour::Rgb => [0, 1, 2],
            Colour::Bgr => [2, 1, 0],
        };
        let mut input = Vec::with_capacity(3 * plane);
        for channel in order {
            let values = &self.planes[channel * plane..(channel + 1) * plane];
            input.extend(values.iter().map(|value| source.input_value(*value)));
        }
        input
    }

    /// Left and right exchanged.
    pub(super) fn mirrored(&self) -> Self {
        let mut planes = self.planes.clone();
        planes.chunks_exact_mut(self.side).for_each(<[f32]>::reverse);
        Self { side: self.side, planes }
    }

    /// Brightness (ITU-R BT.601 luma, 0 to 255) of the middle part, `inset` of the side left out on
    /// each edge; row-major, and how long a row is.
    fn luma(&self, inset: f32) -> (Vec<f32>, usize) {
        let edge = (self.side as f32 * inset) as usize;
        let plane = self.side * self.side;
        let width = self.side - 2 * edge;
        let mut luma = Vec::with_capacity(width * width);
        for y in edge..self.side - edge {
            for x in edge..self.side - edge {
                let at = y * self.side + x;
                let (r, g, b) =
                    (self.planes[at], self.planes[plane + at], self.planes[2 * plane + at]);
                luma.push(0.299 * r + 0.587 * g + 0.114 * b);
            }
        }
        (luma, width)
    }

    /// Mean brightness of the face, 0 to 1, and mean square of the Laplacian of its brightness.
    pub(super) fn brightness_and_detail(&self) -> (f32, f32) {
        let (luma, width) = self.luma(FACE_INSET);
        let mean = luma.iter().sum::<f32>() / luma.len().max(1) as f32 / 255.0;
        let (mut sum, mut count) = (0.0f32, 0.0f32);
        for y in 1..width.saturating_sub(1) {
            for x in 1..width - 1 {
                let at = y * width + x;
                let around = luma[at - 1] + luma[at + 1] + luma[at - width] + luma[at + width];
                let laplacian = around - 4.0 * luma[at];
                sum += laplacian * laplacian;
                count += 1.0;
            }
        }
        (mean, sum / count.max(1.0))
    }
}

impl Drop for Chip {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.planes);
    }
}

/// Hair, ears and background lie within this share of an aligned face's edges.
const FACE_INSET: f32 = 0.2;

/// The picture shrunk or enlarged into the top-left corner of a black square, and by how much.
pub(super) fn letterbox(image: &DecodedImage, side: usize) -> (Chip, f32) {
    let (width, height) = size(image);
    let scale = (side as f64 / width as f64).min(side as f64 / height as f64);
    let fitted =
        |length: usize| ((length as f64 * scale).round_ties_even() as usize).clamp(1, side);
    let (to_width, to_height) = (fitted(width), fitted(height));
    let (columns, rows) = if scale > 1.0 {
        (Taps::linear(width, to_width), Taps::linear(height, to_height))
    } else {
        (Taps::area(width, to_width), Taps::area(height, to_height))
    };
    let region = Region { x: 0, y: 0, width, height };
    (resample(image, region, &columns, &rows, side), scale as f32)
}

/// A part of the picture, resized to a square without regard to its proportions.
pub(super) fn crop_to(image: &DecodedImage, region: Region, side: usize) -> Chip {
    let columns = Taps::linear(region.width, side);
    let rows = Taps::linear(region.height, side);
    resample(image, region, &columns, &rows, side)
}

/// A rectangle of whole pixels inside a picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Region {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
}

impl Region {
    /// The rectangle `scale` times as large as a box about its centre, no larger than the picture
    /// and shifted into it. As the authors of `MiniFASNet` crop.
    pub(super) fn enlarged(
        image: &DecodedImage,
        face: &super::geometry::BoundingBox,
        scale: f32,
    ) -> Self {
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

/// The picture through a transform into a square: `to_chip` brings its points to the chip's.
/// What lies outside the picture is black.
pub(super) fn warp(image: &DecodedImage, to_chip: &SimilarityTransform, side: usize) -> Chip {
    let (width, height) = size(image);
    let rgb = image.rgb();
    let back = to_chip.inverse();
    let plane = side * side;
    let mut planes = vec![0.0f32; 3 * plane];
    let at = |x: i64, y: i64, channel: usize| -> f32 {
        let inside = x >= 0 && y >= 0 && x < width as i64 && y < height as i64;
        if inside { f32::from(rgb[(y as usize * width + x as usize) * 3 + channel]) } else { 0.0 }
    };
    for row in 0..side {
        for column in 0..side {
            let from = back.apply(Point { x: column as f32, y: row as f32 });
            let (x, y) = (from.x.floor(), from.y.floor());
            let (fx, fy) = (from.x - x, from.y - y);
            let (x, y) = (x as i64, y as i64);
            for channel in 0..3 {
                let top = at(x, y, channel) * (1.0 - fx) + at(x + 1, y, channel) * fx;
                let bottom = at(x, y + 1, channel) * (1.0 - fx) + at(x + 1, y + 1, channel) * fx;
                let value = top * (1.0 - fy) + bottom * fy;
                planes[channel * plane + row * side + column] = (value + 0.5).floor();
            }
        }
    }
    Chip { side, planes }
}

fn size(image: &DecodedImage) -> (usize, usize) {
    (image.width() as usize, image.height() as usize)
}

/// For each target place along one axis: which source places it is made of, and their weights.
struct Taps {
    starts: Vec<usize>,
    weights: Vec<Vec<f32>>,
}

impl Taps {
    /// Two neighbours, by distance between pixel centres.
    fn linear(from: usize, to: usize) -> Self {
        let ratio = from as f64 / to as f64;
        let mut taps = Self { starts: Vec::with_capacity(to), weights: Vec::with_capacity(to) };
        for place in 0..to {
            let centre = ((place as f64 + 0.5) * ratio - 0.5).clamp(0.0, (from - 1) as f64);
            let start = (centre as usize).min(from.saturating_sub(2));
            let share = (centre - start as f64) as f32;
            taps.starts.push(start);
            taps.weights.push(if from == 1 { vec![1.0] } else { vec![1.0 - share, share] });
        }
        taps
    }

    /// All that a target place covers, by how much of each it covers.
    fn area(from: usize, to: usize) -> Self {
        let ratio = from as f64 / to as f64;
        let mut taps = Self { starts: Vec::with_capacity(to), weights: Vec::with_capacity(to) };
        for place in 0..to {
            let (begin, end) =
                (place as f64 * ratio, ((place + 1) as f64 * ratio).min(from as f64));
            let start = (begin + 1e-6) as usize;
            let last = ((end - 1e-6).ceil() as usize).clamp(start + 1, from);
            let covered =
                |source: usize| (end.min((source + 1) as f64) - begin.max(source as f64)).max(0.0);
            let total: f64 = (start..last).map(covered).sum();
            taps.starts.push(start);
            taps.weights.push((start..last).map(|s| (covered(s) / total) as f32).collect());
        }
        taps
    }
}

/// Resamples a region into the top-left of a black square, columns first, then rows.
fn resample(
    image: &DecodedImage,
    region: Region,
    columns: &Taps,
    rows: &Taps,
    side: usize,
) -> Chip {
    let (full_width, _) = size(image);
    let row_length = columns.starts.len() * 3;
    let narrow = |y: usize| {
        let start = ((region.y + y) * full_width + region.x) * 3;
        let source = &image.rgb()[start..start + region.width * 3];
        let mut narrowed = vec![0.0f32; row_length];
        let places = columns.starts.iter().zip(&columns.weights);
        for (target, (start, weights)) in narrowed.chunks_exact_mut(3).zip(places) {
            let pixels = source[start * 3..].chunks_exact(3);
            let (mut r, mut g, mut b) = (0.0f32, 0.0f32, 0.0f32);
            for (pixel, weight) in pixels.zip(weights) {
                r += f32::from(pixel[0]) * weight;
                g += f32::from(pixel[1]) * weight;
                b += f32::from(pixel[2]) * weight;
            }
            target[0] = r;
            target[1] = g;
            target[2] = b;
        }
        narrowed
    };
    let plane = side * side;
    let mut planes = vec![0.0f32; 3 * plane];
    // Neighbouring targets share source rows: keep the last few.
    let mut kept: Vec<(usize, Vec<f32>)> = Vec::new();
    for (row, (start, weights)) in rows.starts.iter().zip(&rows.weights).enumerate() {
        kept.retain(|(y, _)| y >= start);
        let mut mixed = vec![0.0f32; row_length];
        for (offset, weight) in weights.iter().enumerate() {
            let y = start + offset;
            let position = kept.iter().position(|(known, _)| *known == y).unwrap_or_else(|| {
                kept.push((y, narrow(y)));
                kept.len() - 1
            });
            let source = &kept[position].1;
            mixed.iter_mut().zip(source).for_each(|(sum, value)| *sum += value * weight);
        }
        for (column, pixel) in mixed.chunks_exact(3).enumerate() {
            for (channel, value) in pixel.iter().enumerate() {
                planes[channel * plane + row * side + column] = (value + 0.5).floor().min(255.0);
            }
        }
    }
    Chip { side, planes }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "whole numbers below 256 are exact")]
mod tests {
    use super::super::geometry::BoundingBox;
    use super::*;
    use proptest::prelude::*;

    fn image(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [u8; 3]) -> DecodedImage {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let rgb = pixels.flat_map(|(x, y)| pixel(x, y)).collect();
        DecodedImage::from_rgb(width, height, rgb).unwrap()
    }

    #[test]
    fn halving_averages_and_the_rest_of_the_square_is_black() {
        let checks = image(8, 4, |x, _| if x % 2 == 0 { [0, 100, 200] } else { [50, 100, 0] });
        let (chip, scale) = letterbox(&checks, 4);
        assert!((scale - 0.5).abs() < 1e-6);
        assert_eq!(chip.planes[0..4], [25.0; 4]);
        assert_eq!(chip.planes[16..20], [100.0; 4]);
        assert_eq!(chip.planes[32..36], [100.0; 4]);
        assert_eq!(chip.planes[8..16], [0.0; 8]);
    }

    #[test]
    fn enlarging_interpolates_between_pixel_centres() {
        let two = image(2, 1, |x, _| if x == 0 { [0; 3] } else { [100; 3] });
        let (chip, _) = letterbox(&two, 4);
        // OpenCV's resize of [0, 100] to four places.
        assert_eq!(chip.planes[0..4], [0.0, 25.0, 75.0, 100.0]);
    }

    #[test]
    fn the_identity_warp_copies_and_outside_is_black() {
        let picture = image(6, 6, |x, y| [x as u8 * 10, y as u8 * 10, 7]);
        let corners = [(0.0, 0.0), (5.0, 0.0), (0.0, 5.0), (5.0, 5.0), (2.0, 2.0)]
            .map(|(x, y)| Point { x, y });
        let still = SimilarityTransform::between(&corners, &corners).unwrap();
        let chip = warp(&picture, &still, 8);
        assert_eq!(chip.planes[3], 30.0);
        assert_eq!(chip.planes[64 + 8 * 4], 40.0);
        assert_eq!(chip.planes[128 + 8 * 5 + 5], 7.0);
        assert_eq!(chip.planes[7], 0.0);
    }

    #[test]
    fn a_mirror_image_mirrored_is_the_image() {
        let (chip, _) = letterbox(&image(5, 5, |x, y| [x as u8, y as u8, 9]), 5);
        assert_eq!(chip.mirrored().planes[0..5], [4.0, 3.0, 2.0, 1.0, 0.0]);
        assert_eq!(chip.mirrored().mirrored().planes, chip.planes);
    }

    #[test]
    fn blur_lowers_detail_and_light_raises_brightness() {
        let noise = |x: u32, y: u32| ((x * 7919 + y * 104_729) % 97) as u8;
        let sharp = image(112, 112, |x, y| [noise(x, y); 3]);
        let soft = image(112, 112, |x, y| [(x / 2 + y / 2) as u8; 3]);
        let bright = image(112, 112, |_, _| [200; 3]);
        let measured = |image| letterbox(image, 112).0.brightness_and_detail();
        assert!(measured(&sharp).1 > 100.0 * measured(&soft).1.max(0.1));
        assert!((measured(&bright).0 - 200.0 / 255.0).abs() < 1e-3);
        assert!(measured(&bright).1 < 1e-3);
    }

    proptest! {
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
            let chip = crop_to(&picture, region, 16);
            prop_assert!(chip.planes.iter().all(|value| *value == 1.0));
        }

        #[test]
        fn any_size_fits_any_square(width in 1u32..90, height in 1u32..90, side in 1usize..70) {
            let (chip, scale) = letterbox(&image(width, height, |_, _| [200, 100, 0]), side);
            prop_assert_eq!(chip.planes.len(), 3 * side * side);
            prop_assert!(scale > 0.0);
            prop_assert_eq!(chip.planes[0], 200.0);
        }
    }
}
