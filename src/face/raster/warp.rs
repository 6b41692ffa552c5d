//! Turning, scaling and cutting out a face.

use zeroize::Zeroizing;

use super::super::geometry::{Point, SimilarityTransform};
use super::{Chip, rounded, size};
use crate::capture::DecodedImage;

/// The picture through a transform into a square: `to_chip` brings its points to the chip's.
/// What lies outside the picture is black.
pub(in crate::face) fn warp(
    image: &DecodedImage,
    to_chip: &SimilarityTransform,
    side: usize,
) -> Chip {
    let (width, height) = size(image);
    let picture =
        Picture { rgb: image.rgb(), stride: width * 3, width: width as i32, height: height as i32 };
    let back = to_chip.inverse();
    let plane = side * side;
    let mut planes = vec![0.0f32; 3 * plane];
    let (red, others) = planes.split_at_mut(plane);
    let (green, blue) = others.split_at_mut(plane);
    let rows = red
        .chunks_exact_mut(side)
        .zip(green.chunks_exact_mut(side))
        .zip(blue.chunks_exact_mut(side));
    // Pixels first, then planes: in long even runs.
    let mut line = Zeroizing::new(vec![[0.0; 4]; side]);
    for (row, ((red, green), blue)) in rows.enumerate() {
        for (column, pixel) in line.iter_mut().enumerate() {
            let from = back.apply(Point { x: column as f32, y: row as f32 });
            let (x, y) = (floor(from.x), floor(from.y));
            let (right, below) = (from.x - x as f32, from.y - y as f32);
            *pixel = mixed(picture.corners(x, y), right, below);
        }
        for (((red, green), blue), pixel) in red.iter_mut().zip(green).zip(blue).zip(line.iter()) {
            [*red, *green, *blue, _] = *pixel;
        }
    }
    Chip { side, planes }
}

/// Red, green, blue, and a fourth number that nobody reads: four are one register.
type Pixel = [f32; 4];

/// The pixels of a picture.
struct Picture<'a> {
    rgb: &'a [u8],
    stride: usize,
    width: i32,
    height: i32,
}

impl Picture<'_> {
    /// The pixel at a place, the one to its right, and the two below; black outside the picture.
    fn corners(&self, x: i32, y: i32) -> [Pixel; 4] {
        if x >= 0 && y >= 0 && x < self.width - 1 && y < self.height - 1 {
            let start = y as usize * self.stride + x as usize * 3;
            // A byte of the next pixel is read along, which behind the last one there is not.
            let above = self.rgb.get(start..start + 7);
            let under = self.rgb.get(start + self.stride..start + self.stride + 7);
            if let (Some(above), Some(under)) = (above, under) {
                return [four(above, 0), four(above, 3), four(under, 0), four(under, 3)];
            }
        }
        let (next, under) = (x.saturating_add(1), y.saturating_add(1));
        [self.at(x, y), self.at(next, y), self.at(x, under), self.at(next, under)]
    }

    fn at(&self, x: i32, y: i32) -> Pixel {
        if x < 0 || y < 0 || x >= self.width || y >= self.height {
            return [0.0; 4];
        }
        let start = y as usize * self.stride + x as usize * 3;
        let pixel = &self.rgb[start..start + 3];
        [f32::from(pixel[0]), f32::from(pixel[1]), f32::from(pixel[2]), 0.0]
    }
}

fn four(bytes: &[u8], first: usize) -> Pixel {
    let bytes = &bytes[first..first + 4];
    [bytes[0], bytes[1], bytes[2], bytes[3]].map(f32::from)
}

/// The mean of four pixels by how near each is, to the nearest whole number.
fn mixed(
    [top_left, top_right, bottom_left, bottom_right]: [Pixel; 4],
    right: f32,
    below: f32,
) -> Pixel {
    let (left, above) = (1.0 - right, 1.0 - below);
    let mut mixed = [0.0; 4];
    for (channel, mixed) in mixed.iter_mut().enumerate() {
        let top = top_left[channel] * left + top_right[channel] * right;
        let bottom = bottom_left[channel] * left + bottom_right[channel] * right;
        *mixed = rounded(top * above + bottom * below);
    }
    mixed
}

/// Rounds down; the library's is a call where the processor's own is not known at compile time.
fn floor(value: f32) -> i32 {
    let whole = value as i32;
    if whole as f32 > value { whole.saturating_sub(1) } else { whole }
}
