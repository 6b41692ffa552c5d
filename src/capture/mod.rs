//! `EncodedImage` to `DecodedImage`, a finger's picture to [`GreyImage`]; every bound checked before
//! memory is spent.
//!
//! Architecture invariant: pixels leave this room as [`DecodedImage`] and [`GreyImage`] only, and
//! nothing else names the `image` crate.

mod container;
mod decode;
mod encode;
mod finger;
mod grey;
mod reader;
mod resample;
mod wsq;

use std::fmt;

use bytes::Bytes;
use zeroize::{Zeroize, optimization_barrier};

pub use decode::{DecodeError, decode};
pub use encode::{encode_grey_png, encode_png};
pub use finger::{
    Fault, FingerDecodeError, FingerImageDeclaration, FingerImageKind, decode_finger,
};
pub use grey::GreyImage;

/// A picture as it came: bytes of a JPEG or PNG file, not yet looked at.
#[derive(Clone)]
pub struct EncodedImage {
    bytes: Bytes,
    media_type: Option<MediaType>,
}

/// What a sender says that a picture is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MediaType {
    /// `image/jpeg`
    Jpeg,
    /// `image/png`
    Png,
}

impl MediaType {
    /// As IANA registers it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
        }
    }

    /// The kind that a file is by its first bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
            Some(Self::Jpeg)
        } else if bytes.starts_with(container::PNG_SIGNATURE) {
            Some(Self::Png)
        } else {
            None
        }
    }

    /// The kind that [`MediaType::as_str`] names.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Jpeg, Self::Png].into_iter().find(|kind| kind.as_str() == name)
    }
}

impl EncodedImage {
    /// A picture whose kind is told by its first bytes.
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), media_type: None }
    }

    /// A picture that claims a kind; bytes of another kind are refused.
    #[must_use]
    pub fn declared(bytes: impl Into<Bytes>, media_type: MediaType) -> Self {
        Self { bytes: bytes.into(), media_type: Some(media_type) }
    }

    /// The file's bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl fmt::Debug for EncodedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodedImage({} bytes)", self.bytes.len())
    }
}

/// Bounds on one picture, each checked before it costs memory or time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecodeLimits {
    /// Most bytes of the encoded file.
    pub encoded_bytes_max: usize,
    /// Most pixels on a side.
    pub side_px_max: u32,
    /// Least pixels on a side.
    pub side_px_min: u32,
    /// Most pixels altogether.
    pub pixels_max: u64,
    /// Most scans of a progressive JPEG, each of which is a pass over the whole picture.
    pub scans_max: u32,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            encoded_bytes_max: 4 << 20,
            side_px_max: 8_192,
            side_px_min: 32,
            pixels_max: 16_000_000,
            scans_max: 64,
        }
    }
}

/// An upright picture: 8-bit RGB, three bytes a pixel, row-major. Wiped when dropped.
#[derive(Clone)]
pub struct DecodedImage {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl DecodedImage {
    /// A picture from its pixels; `None` unless there are exactly `width · height · 3` bytes and
    /// at least one pixel.
    #[must_use]
    pub fn from_rgb(width: u32, height: u32, rgb: Vec<u8>) -> Option<Self> {
        let count = u64::from(width).checked_mul(u64::from(height))?.checked_mul(3)?;
        let held = count > 0 && usize::try_from(count) == Ok(rgb.len());
        held.then_some(Self { width, height, rgb })
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

    /// Red, green and blue of each pixel, row by row.
    #[must_use]
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }
}

impl Drop for DecodedImage {
    fn drop(&mut self) {
        // `zeroize` of the whole would write byte by byte: for a large picture that takes as long as resizing it.
        self.rgb.spare_capacity_mut().zeroize();
        self.rgb.fill(0);
        optimization_barrier(self.rgb.as_slice());
    }
}

impl fmt::Debug for DecodedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecodedImage({}x{})", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_sizes_only() {
        let encoded = EncodedImage::new(vec![0xabu8; 3]);
        assert_eq!(format!("{encoded:?}"), "EncodedImage(3 bytes)");
        let decoded = DecodedImage::from_rgb(2, 1, vec![0xab; 6]).unwrap();
        assert_eq!(format!("{decoded:?}"), "DecodedImage(2x1)");
    }

    #[test]
    fn pixels_must_fill_the_picture() {
        assert!(DecodedImage::from_rgb(2, 2, vec![0; 11]).is_none());
        assert!(DecodedImage::from_rgb(0, 2, vec![]).is_none());
        assert!(DecodedImage::from_rgb(u32::MAX, u32::MAX, vec![0; 3]).is_none());
    }
}
