//! Pixel arithmetic: resize, warp, and what is counted over pixels.
//!
//! Sampling follows `OpenCV` (`resize` with `INTER_LINEAR` and `INTER_AREA`, `warpAffine` with
//! `INTER_LINEAR`, 8-bit rounding included), because the models were trained and are compared that
//! way. What a model only looks at is resized straight into its input; what is also measured, or
//! mirrored, is a [`Chip`].
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    clippy::indexing_slicing,
    clippy::inline_always,
    reason = "the one place of pixel arithmetic; every index is clamped to the picture it reads, and \
              wide registers do not cross a call"
)]

mod reduce;
mod resize;
mod warp;
mod wide;

use crate::capture::DecodedImage;
use crate::inference::{Colour, ModelSource};

pub(super) use reduce::Reduced;
pub(super) use resize::{Region, draw_crop, draw_letterbox, draw_window};
pub(super) use warp::warp;

/// An aligned face: a square picture in three planes (red, green, blue), values 0 to 255.
#[derive(Clone)]
pub struct Chip {
    side: usize,
    planes: Vec<f32>,
}

impl Chip {
    /// Pixels in a row, and rows.
    pub(super) const fn side(&self) -> usize {
        self.side
    }

    /// Draws it into a model's input: its order of colours, its range.
    pub(super) fn draw(&self, source: &ModelSource, input: &mut [f32]) {
        let plane = self.side * self.side;
        for (to, channel) in input.chunks_exact_mut(plane).zip(order(source.colour)) {
            let values = &self.planes[channel * plane..(channel + 1) * plane];
            to.iter_mut().zip(values).for_each(|(to, value)| *to = source.input_value(*value));
        }
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

    /// Mean brightness, 0 to 255, of each of `cells` × `cells` squares that cover the picture; row-major.
    pub(super) fn brightness(&self, cells: usize) -> Vec<f32> {
        let (luma, width) = self.luma(0.0);
        let edge = |cell: usize| cell * width / cells.max(1);
        let mut means = Vec::with_capacity(cells * cells);
        for row in 0..cells {
            for column in 0..cells {
                let (mut sum, mut count) = (0.0f32, 0.0f32);
                for y in edge(row)..edge(row + 1) {
                    for x in edge(column)..edge(column + 1) {
                        sum += luma[y * width + x];
                        count += 1.0;
                    }
                }
                means.push(sum / count.max(1.0));
            }
        }
        means
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
        // As of a picture: in long even runs. It has no room to spare.
        self.planes.fill(0.0);
        zeroize::optimization_barrier(self.planes.as_slice());
    }
}

/// Hair, ears and background lie within this share of an aligned face's edges.
const FACE_INSET: f32 = 0.2;

fn size(image: &DecodedImage) -> (usize, usize) {
    (image.width() as usize, image.height() as usize)
}

/// Which of red, green and blue each plane of an input is.
const fn order(colour: Colour) -> [usize; 3] {
    match colour {
        Colour::Rgb => [0, 1, 2],
        Colour::Bgr => [2, 1, 0],
        // No face model is grey: the manifest refuses it. Green is nearest to brightness.
        Colour::Grey => [1, 1, 1],
    }
}

/// The nearest whole number of 0 to 255, halves upwards, and 0 for what is no number. As a conversion to an
/// integer it would cost several times as much, and the library's is a call where there is no AVX2.
#[inline(always)]
fn rounded(value: f32) -> f32 {
    // Beyond this there are whole numbers only, so that adding it rounds.
    const WHOLE_FROM: f32 = 8_388_608.0;
    let raised = value + 0.5;
    let near = (raised + WHOLE_FROM) - WHOLE_FROM;
    let below = if near > raised { near - 1.0 } else { near };
    // Each is one instruction, which gives the second number where the first is none.
    let positive = if below > 0.0 { below } else { 0.0 };
    if positive < 255.0 { positive } else { 255.0 }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "whole numbers below 256 are exact")]
mod tests {
    use super::*;
    use crate::face::geometry::{Point, SimilarityTransform};

    pub(super) fn image(
        width: u32,
        height: u32,
        pixel: impl Fn(u32, u32) -> [u8; 3],
    ) -> DecodedImage {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let rgb = pixels.flat_map(|(x, y)| pixel(x, y)).collect();
        DecodedImage::from_rgb(width, height, rgb).unwrap()
    }

    /// A pixel that has nothing to do with its neighbours.
    pub(super) fn noise(x: u32, y: u32, seed: u32) -> [u8; 3] {
        [0u32, 1, 2].map(|channel| {
            let mixed = (x * 7 + y * 613 + channel * 71).wrapping_mul(seed | 1);
            (mixed >> 13) as u8
        })
    }

    /// A picture as the chip of its own size.
    pub(super) fn unmoved(picture: &DecodedImage, side: usize) -> Chip {
        let corners = [(0.0, 0.0), (5.0, 0.0), (0.0, 5.0), (5.0, 5.0), (2.0, 2.0)]
            .map(|(x, y)| Point { x, y });
        let still = SimilarityTransform::between(&corners, &corners).unwrap();
        warp(picture, &still, side)
    }

    #[test]
    fn the_identity_warp_copies_and_outside_is_black() {
        let chip = unmoved(&image(6, 6, |x, y| [x as u8 * 10, y as u8 * 10, 7]), 8);
        assert_eq!(chip.planes[3], 30.0);
        assert_eq!(chip.planes[64 + 8 * 4], 40.0);
        assert_eq!(chip.planes[128 + 8 * 5 + 5], 7.0);
        assert_eq!(chip.planes[7], 0.0);
    }

    #[test]
    fn a_mirror_image_mirrored_is_the_image() {
        let chip = unmoved(&image(5, 5, |x, y| [x as u8, y as u8, 9]), 5);
        assert_eq!(chip.mirrored().planes[0..5], [4.0, 3.0, 2.0, 1.0, 0.0]);
        assert_eq!(chip.mirrored().mirrored().planes, chip.planes);
    }

    #[test]
    fn blur_lowers_detail_and_light_raises_brightness() {
        let noise = |x: u32, y: u32| ((x * 7919 + y * 104_729) % 97) as u8;
        let sharp = image(112, 112, |x, y| [noise(x, y); 3]);
        let soft = image(112, 112, |x, y| [(x / 2 + y / 2) as u8; 3]);
        let bright = image(112, 112, |_, _| [200; 3]);
        let measured = |image| unmoved(image, 112).brightness_and_detail();
        assert!(measured(&sharp).1 > 100.0 * measured(&soft).1.max(0.1));
        assert!((measured(&bright).0 - 200.0 / 255.0).abs() < 1e-3);
        assert!(measured(&bright).1 < 1e-3);
    }
}
