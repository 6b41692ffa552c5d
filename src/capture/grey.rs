//! A finger's picture, once decoded.

use std::{fmt, mem};

use zeroize::Zeroize;

use super::resample::resampled;
use crate::domain::finger::PIXELS_PER_INCH;

/// A grey picture with its resolution: one byte a pixel, 0 black (ridges) to 255 white, row-major.
/// Wiped when dropped.
#[derive(Clone)]
pub struct GreyImage {
    width: u32,
    height: u32,
    pixels_per_inch: u16,
    pixels: Vec<u8>,
}

impl GreyImage {
    /// A picture from its pixels; `None` unless there are exactly `width · height` of them, at least
    /// one, and a resolution.
    #[must_use]
    pub fn from_pixels(
        width: u32,
        height: u32,
        pixels_per_inch: u16,
        pixels: Vec<u8>,
    ) -> Option<Self> {
        let count = u64::from(width).checked_mul(u64::from(height))?;
        let held = count > 0 && pixels_per_inch > 0 && usize::try_from(count) == Ok(pixels.len());
        held.then_some(Self { width, height, pixels_per_inch, pixels })
    }

    /// Pixels in a row.
    #[must_use]
    pub const fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    #[must_use]
    pub const fn height(&self) -> u32 {
        self.height
    }

    /// Pixels an inch, the same both ways.
    #[must_use]
    pub const fn pixels_per_inch(&self) -> u16 {
        self.pixels_per_inch
    }

    /// The brightness of each pixel, row by row.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The picture at 500 pixels an inch. Within 1 % of it nothing is done but to call it so.
    #[must_use]
    pub fn resampled_to_500(mut self) -> Self {
        if !is_500(self.pixels_per_inch) {
            let ratio = f64::from(self.pixels_per_inch) / f64::from(PIXELS_PER_INCH);
            let new = [self.width, self.height].map(|side| side_at_500(side, self.pixels_per_inch));
            let [width, new_width, new_height] = [self.width, new[0], new[1]].map(index);
            let mut pixels = resampled(&self.pixels, width, new_width, new_height, ratio);
            mem::swap(&mut self.pixels, &mut pixels);
            pixels.zeroize();
            [self.width, self.height] = new;
        }
        self.pixels_per_inch = PIXELS_PER_INCH;
        self
    }
}

/// Pixels of a side at 500 an inch, one at the least.
pub(super) fn side_at_500(side: u32, pixels_per_inch: u16) -> u32 {
    if is_500(pixels_per_inch) {
        return side;
    }
    let (from, to) = (u64::from(pixels_per_inch.max(1)), u64::from(PIXELS_PER_INCH));
    let scaled = (u64::from(side) * to + from / 2) / from;
    u32::try_from(scaled.max(1)).unwrap_or(u32::MAX)
}

fn is_500(pixels_per_inch: u16) -> bool {
    pixels_per_inch.abs_diff(PIXELS_PER_INCH) <= PIXELS_PER_INCH / 100
}

fn index(side: u32) -> usize {
    usize::try_from(side).unwrap_or(usize::MAX)
}

impl Drop for GreyImage {
    fn drop(&mut self) {
        self.pixels.zeroize();
    }
}

impl fmt::Debug for GreyImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GreyImage({}x{} at {})", self.width, self.height, self.pixels_per_inch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_must_fill_the_picture_and_have_a_resolution() {
        assert!(GreyImage::from_pixels(2, 2, 500, vec![0; 3]).is_none());
        assert!(GreyImage::from_pixels(0, 2, 500, vec![]).is_none());
        assert!(GreyImage::from_pixels(2, 2, 0, vec![0; 4]).is_none());
        assert!(GreyImage::from_pixels(u32::MAX, u32::MAX, 500, vec![0; 4]).is_none());
        let shown = format!("{:?}", GreyImage::from_pixels(2, 1, 500, vec![171; 2]).unwrap());
        assert_eq!(shown, "GreyImage(2x1 at 500)");
    }

    /// Waves of `period` new pixels, at a resolution.
    fn waves(width: u32, height: u32, pixels_per_inch: u16, period: f64) -> GreyImage {
        let step = f64::from(PIXELS_PER_INCH) / f64::from(pixels_per_inch);
        let at = |place: u32| (f64::from(place) + 0.5) * step;
        let wave = |x, y| {
            let phase = (at(x) + 0.7 * at(y)) * std::f64::consts::TAU / period;
            let grey = (127.5 + 100.0 * phase.sin()).round();
            (0..=255u8).find(|level| (f64::from(*level) - grey).abs() < 0.5).unwrap()
        };
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| wave(x, y))).collect();
        GreyImage::from_pixels(width, height, pixels_per_inch, pixels).unwrap()
    }

    #[test]
    fn waves_keep_their_places_whatever_the_resolution() {
        let expected = waves(120, 90, 500, 9.0);
        for (width, height, pixels_per_inch) in
            [(240, 180, 1_000), (120 * 6 / 5, 108, 600), (96, 72, 400), (288, 216, 1_200)]
        {
            let image = waves(width, height, pixels_per_inch, 9.0).resampled_to_500();
            assert_eq!((image.width(), image.height(), image.pixels_per_inch()), (120, 90, 500));
            let inside = |n: &usize| (4..116).contains(&(n % 120)) && (4..86).contains(&(n / 120));
            let off = (0..120 * 90)
                .filter(inside)
                .map(|n| u32::from(image.pixels()[n].abs_diff(expected.pixels()[n])));
            // Cubic interpolation flattens waves of nine pixels by a few grey levels.
            let most = off.max().unwrap();
            assert!(most <= 14, "{pixels_per_inch}: {most}");
        }
    }

    #[test]
    fn what_is_finer_than_the_new_pixels_is_averaged() {
        let stripes = (0..240 * 240).map(|n| if n % 2 == 0 { 0 } else { 255 }).collect();
        let image = GreyImage::from_pixels(240, 240, 1_200, stripes).unwrap().resampled_to_500();
        assert_eq!((image.width(), image.height()), (100, 100));
        let inside = image.pixels().chunks(100).flat_map(|row| &row[2..98]);
        assert!(inside.clone().all(|grey| (120..=135).contains(grey)), "{:?}", inside.max());
        let flat = GreyImage::from_pixels(70, 50, 730, vec![201; 70 * 50]).unwrap();
        assert!(flat.resampled_to_500().pixels().iter().all(|grey| *grey == 201));
    }

    #[test]
    fn what_is_500_within_one_in_a_hundred_is_left_alone() {
        let pixels: Vec<u8> = (0..=255).collect();
        for pixels_per_inch in [495, 500, 505] {
            let image = GreyImage::from_pixels(16, 16, pixels_per_inch, pixels.clone()).unwrap();
            let image = image.resampled_to_500();
            assert_eq!(image.pixels(), pixels);
            assert_eq!((image.width(), image.pixels_per_inch()), (16, 500));
        }
        let other = GreyImage::from_pixels(16, 16, 494, pixels).unwrap().resampled_to_500();
        assert_eq!(other.width(), 16);
        assert_ne!(other.pixels()[255], 255);
        let dot = GreyImage::from_pixels(1, 1, 1_200, vec![9]).unwrap().resampled_to_500();
        assert_eq!((dot.width(), dot.height(), dot.pixels()), (1, 1, &[9][..]));
    }
}
