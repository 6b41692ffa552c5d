//! Turning, scaling and cutting out a face.

use zeroize::Zeroizing;

use super::super::geometry::{Point, SimilarityTransform};
use super::wide::{self, Wide};
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
    let mut planes = vec![0.0f32; 3 * side * side];
    wide::run(Warping { picture, back: to_chip.inverse(), side, planes: &mut planes });
    Chip { side, planes }
}

struct Warping<'a> {
    picture: Picture<'a>,
    /// From the square to the picture.
    back: SimilarityTransform,
    side: usize,
    planes: &'a mut [f32],
}

impl Wide for Warping<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { picture, back, side, planes } = self;
        let (red, others) = planes.split_at_mut(side * side);
        let (green, blue) = others.split_at_mut(side * side);
        let rows = red
            .chunks_exact_mut(side)
            .zip(green.chunks_exact_mut(side))
            .zip(blue.chunks_exact_mut(side));
        // Places first, then pixels, then planes: each in a long even run.
        let mut places = vec![Place::default(); side];
        let mut line = Zeroizing::new(vec![[0.0; 4]; side]);
        for (row, ((red, green), blue)) in rows.enumerate() {
            for (column, place) in places.iter_mut().enumerate() {
                let from = back.apply(Point { x: column as f32, y: row as f32 });
                let (x, y) = (from.x.floor(), from.y.floor());
                *place = Place { x: x as i32, y: y as i32, right: from.x - x, below: from.y - y };
            }
            for (place, pixel) in places.iter().zip(line.iter_mut()) {
                *pixel = mixed(picture.corners(place.x, place.y), place.right, place.below);
            }
            for (((red, green), blue), pixel) in
                red.iter_mut().zip(green).zip(blue).zip(line.iter())
            {
                [*red, *green, *blue, _] = pixel.map(rounded);
            }
        }
    }
}

/// A place in the picture: a whole pixel, and how far to the right of it and below.
#[derive(Clone, Copy, Default)]
struct Place {
    x: i32,
    y: i32,
    right: f32,
    below: f32,
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
    #[inline(always)]
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

    #[inline(always)]
    fn at(&self, x: i32, y: i32) -> Pixel {
        if x < 0 || y < 0 || x >= self.width || y >= self.height {
            return [0.0; 4];
        }
        let start = y as usize * self.stride + x as usize * 3;
        let pixel = &self.rgb[start..start + 3];
        [f32::from(pixel[0]), f32::from(pixel[1]), f32::from(pixel[2]), 0.0]
    }
}

#[inline(always)]
fn four(bytes: &[u8], first: usize) -> Pixel {
    let bytes = &bytes[first..first + 4];
    [bytes[0], bytes[1], bytes[2], bytes[3]].map(f32::from)
}

/// The mean of four pixels by how near each is.
#[inline(always)]
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
        *mixed = top * above + bottom * below;
    }
    mixed
}

#[cfg(test)]
mod tests {
    use super::super::tests::{image, noise};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn far_outside_the_picture_all_is_black() {
        let picture = image(9, 9, |_, _| [200; 3]);
        let corners = [(0.0, 0.0), (5.0, 0.0), (0.0, 5.0), (5.0, 5.0), (2.5, 2.5)];
        let to = corners.map(|(x, y)| Point { x, y });
        for far in [-1e12, -3e9, 3e9, 1e12] {
            // Large, since so far away a small square is a point; of a larger one there is no transform.
            let from = corners.map(|(x, y)| Point { x: far + 8e6 * x, y: far + 8e6 * y });
            let transform = SimilarityTransform::between(&from, &to).unwrap();
            let chip = warp(&picture, &transform, 5);
            assert!(chip.planes.iter().all(|value| value.abs() < 0.5), "{far}");
        }
    }

    proptest! {
        #[test]
        fn wide_registers_change_nothing(
            corner in (-40.0f32..80.0, -40.0f32..80.0), along in (-30.0f32..30.0, -30.0f32..30.0),
            seed in any::<u32>(),
        ) {
            prop_assume!(along.0.abs() + along.1.abs() > 1.0);
            let picture = image(61, 47, |x, y| noise(x, y, seed));
            // A square that lies anywhere and is turned: partly, or all, outside the picture.
            let from = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.5, 0.5)].map(|(x, y)| {
                Point {
                    x: corner.0 + along.0 * x - along.1 * y,
                    y: corner.1 + along.1 * x + along.0 * y,
                }
            });
            let to = [(0.0, 0.0), (24.0, 0.0), (0.0, 24.0), (24.0, 24.0), (12.0, 12.0)];
            let to = to.map(|(x, y)| Point { x, y });
            let back = SimilarityTransform::between(&from, &to).unwrap().inverse();
            let (rgb, stride) = (picture.rgb(), 61 * 3);
            let warped = |warp: &dyn Fn(Warping<'_>)| {
                let mut planes = vec![0.0; 3 * 24 * 24];
                let picture = Picture { rgb, stride, width: 61, height: 47 };
                warp(Warping { picture, back, side: 24, planes: &mut planes });
                planes
            };
            prop_assert_eq!(warped(&|work| work.run()), warped(&|work| wide::run(work)));
        }
    }
}
