//! A finger's picture, once decoded.

use std::fmt;

use zeroize::Zeroize;

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
}
