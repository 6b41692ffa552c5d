//! Turning, scaling and cutting out a face.

use super::super::geometry::{Point, SimilarityTransform};
use super::{Chip, size};
use crate::capture::DecodedImage;

/// The picture through a transform into a square: `to_chip` brings its points to the chip's.
/// What lies outside the picture is black.
pub(in crate::face) fn warp(
    image: &DecodedImage,
    to_chip: &SimilarityTransform,
    side: usize,
) -> Chip {
    let back = to_chip.inverse();
    let plane = side * side;
    let mut planes = vec![0.0f32; 3 * plane];
    let pixels = Pixels::of(image);
    for place in 0..plane {
        let (row, column) = (place / side, place % side);
        let from = back.apply(Point { x: column as f32, y: row as f32 });
        let (x, y) = (floor(from.x), floor(from.y));
        let (right, below) = (from.x - x as f32, from.y - y as f32);
        let corners = pixels.square(x, y);
        for channel in 0..3 {
            let [top_left, top_right, bottom_left, bottom_right] =
                corners.map(|pixel| pixel[channel]);
            let top = top_left * (1.0 - right) + top_right * right;
            let bottom = bottom_left * (1.0 - right) + bottom_right * right;
            let value = top * (1.0 - below) + bottom * below;
            planes[channel * plane + place] = (value + 0.5) as i32 as f32;
        }
    }
    Chip { side, planes }
}

/// Rounds down; the library's is a call where the processor's own is not known at compile time.
fn floor(value: f32) -> i32 {
    let whole = value as i32;
    if whole as f32 > value { whole.saturating_sub(1) } else { whole }
}

struct Pixels<'a> {
    rgb: &'a [u8],
    width: i32,
    height: i32,
    stride: usize,
}

impl<'a> Pixels<'a> {
    fn of(image: &'a DecodedImage) -> Self {
        let (width, height) = size(image);
        Self { rgb: image.rgb(), width: width as i32, height: height as i32, stride: width * 3 }
    }

    /// The pixel and its neighbours to the right, below, and both.
    fn square(&self, x: i32, y: i32) -> [[f32; 3]; 4] {
        if x < 0 || y < 0 || x >= self.width - 1 || y >= self.height - 1 {
            let (right, below) = (x.saturating_add(1), y.saturating_add(1));
            return [(x, y), (right, y), (x, below), (right, below)].map(|(x, y)| self.at(x, y));
        }
        let start = y as usize * self.stride + x as usize * 3;
        let top = &self.rgb[start..][..6];
        let bottom = &self.rgb[start + self.stride..][..6];
        let numbers = |row: &[u8], from: usize| [0, 1, 2].map(|c| f32::from(row[from + c]));
        [numbers(top, 0), numbers(top, 3), numbers(bottom, 0), numbers(bottom, 3)]
    }

    fn at(&self, x: i32, y: i32) -> [f32; 3] {
        if x < 0 || y < 0 || x >= self.width || y >= self.height {
            return [0.0; 3];
        }
        let start = y as usize * self.stride + x as usize * 3;
        [0, 1, 2].map(|channel| f32::from(self.rgb[start + channel]))
    }
}
