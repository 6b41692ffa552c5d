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
    let (full_width, full_height) = size(image);
    let (width, height, stride) = (full_width as i32, full_height as i32, full_width * 3);
    let rgb = image.rgb();
    let pixel = |start: usize| -> [f32; 3] {
        let pixel = &rgb[start..start + 3];
        [f32::from(pixel[0]), f32::from(pixel[1]), f32::from(pixel[2])]
    };
    let anywhere = |x: i32, y: i32| {
        let inside = x >= 0 && y >= 0 && x < width && y < height;
        if inside { pixel(y as usize * stride + x as usize * 3) } else { [0.0; 3] }
    };
    let back = to_chip.inverse();
    let plane = side * side;
    let mut planes = vec![0.0f32; 3 * plane];
    for row in 0..side {
        for column in 0..side {
            let from = back.apply(Point { x: column as f32, y: row as f32 });
            let (x, y) = (floor(from.x), floor(from.y));
            let (right, below) = (from.x - x as f32, from.y - y as f32);
            let corners = if x >= 0 && y >= 0 && x < width - 1 && y < height - 1 {
                let start = y as usize * stride + x as usize * 3;
                [start, start + 3, start + stride, start + stride + 3].map(pixel)
            } else {
                let (next, under) = (x.saturating_add(1), y.saturating_add(1));
                [anywhere(x, y), anywhere(next, y), anywhere(x, under), anywhere(next, under)]
            };
            for channel in 0..3 {
                let [top_left, top_right, bottom_left, bottom_right] =
                    corners.map(|pixel| pixel[channel]);
                let top = top_left * (1.0 - right) + top_right * right;
                let bottom = bottom_left * (1.0 - right) + bottom_right * right;
                let value = top * (1.0 - below) + bottom * below;
                planes[channel * plane + row * side + column] = (value + 0.5) as i32 as f32;
            }
        }
    }
    Chip { side, planes }
}

/// Rounds down; the library's is a call where the processor's own is not known at compile time.
fn floor(value: f32) -> i32 {
    let whole = value as i32;
    if whole as f32 > value { whole.saturating_sub(1) } else { whole }
}
