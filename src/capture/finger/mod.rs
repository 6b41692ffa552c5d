//! A picture of one finger, from whatever sensors and registers write, to a [`GreyImage`].
//!
//! PNG, TIFF and BMP; raw bytes with a declared size; WSQ; finger image records of ISO/IEC
//! 19794-4:2005 and ANSI/INCITS 381-2004 around raw, PNG, JPEG or WSQ data. A resolution is required,
//! declared or told by the file, and whoever tells one must agree.

mod error;
mod file;
#[cfg(test)]
mod fuzz;
mod header;
mod record;
mod resolution;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

use std::mem;

use zeroize::Zeroizing;

use super::container::PNG_SIGNATURE;
use super::grey::side_at_500;
use super::{DecodeLimits, GreyImage, wsq};
use error::malformed;
pub use error::{Fault, FingerDecodeError};
use file::{FileKind, decode_file};
use record::{Compression, View};
use resolution::{Told, settle};

/// What a sender says of a finger's picture; everything is optional but the size of raw pixels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FingerImageDeclaration {
    /// Its kind; told by the first bytes where it is not declared.
    pub kind: Option<FingerImageKind>,
    /// Width and height in pixels: required of raw pixels, must be true of anything else.
    pub size_px: Option<(u32, u32)>,
    /// Pixels an inch, the same both ways.
    pub pixels_per_inch: Option<u16>,
}

/// What a finger's picture is written as.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FingerImageKind {
    /// A PNG file.
    Png,
    /// A TIFF file of one page.
    Tiff,
    /// A BMP file that is not compressed.
    Bmp,
    /// A WSQ file.
    Wsq,
    /// Bytes of grey, row by row, 0 black.
    Raw,
    /// A record of ISO/IEC 19794-4:2005 or ANSI/INCITS 381-2004.
    Record,
}

impl FingerImageKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Png, Self::Tiff, Self::Bmp, Self::Wsq, Self::Raw, Self::Record];

    /// Its media type. IANA has none for the last three: WSQ's is the usual one, the others are ours.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Tiff => "image/tiff",
            Self::Bmp => "image/bmp",
            Self::Wsq => "image/x-wsq",
            Self::Raw => "image/x-grey8",
            Self::Record => "application/x-finger-image-record",
        }
    }

    /// The kind that [`Self::as_str`] names.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The kind that a file is by its first bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let found = SIGNATURES.iter().find(|(signature, _)| bytes.starts_with(signature));
        found.map(|(_, kind)| *kind)
    }
}

/// Decodes the picture of one finger, with the resolution that it has.
///
/// 16-bit grey is reduced to 8. A colour picture whose channels are equal is grey. An alpha channel
/// must be opaque throughout, since nobody knows what lies behind. For comparison see
/// [`GreyImage::resampled_to_500`].
///
/// # Errors
///
/// [`FingerDecodeError`] for anything but one complete grey picture of one finger with a sound
/// resolution, within the limits as it is and at 500 pixels an inch.
pub fn decode_finger(
    bytes: &[u8],
    declared: &FingerImageDeclaration,
    limits: &DecodeLimits,
) -> Result<GreyImage, FingerDecodeError> {
    if bytes.is_empty() {
        return Err(FingerDecodeError::Empty);
    }
    if bytes.len() > limits.encoded_bytes_max {
        return Err(FingerDecodeError::TooManyBytes);
    }
    let mut picture = match kind_of(bytes, declared)? {
        FingerImageKind::Png => decode_file(bytes, FileKind::Png, limits)?,
        FingerImageKind::Tiff => decode_file(bytes, FileKind::Tiff, limits)?,
        FingerImageKind::Bmp => decode_file(bytes, FileKind::Bmp, limits)?,
        FingerImageKind::Wsq => decode_wsq(bytes, limits)?,
        FingerImageKind::Raw => {
            let (width, height) = declared.size_px.ok_or(FingerDecodeError::NoSize)?;
            decode_raw(bytes, width, height, limits)?
        }
        FingerImageKind::Record => decode_record(bytes, limits)?,
    };
    let Picture { width, height, .. } = picture;
    if declared.size_px.is_some_and(|size| size != (width, height)) {
        return Err(FingerDecodeError::OtherSize);
    }
    let pixels_per_inch = settle(declared.pixels_per_inch, &picture.told)?;
    limits.check_finger_at_500(width, height, pixels_per_inch)?;
    let pixels = mem::take(&mut *picture.pixels);
    GreyImage::from_pixels(width, height, pixels_per_inch, pixels)
        .ok_or(malformed("its pixels do not fill its size"))
}

/// Pixels before their resolution is settled.
struct Picture {
    width: u32,
    height: u32,
    pixels: Zeroizing<Vec<u8>>,
    told: Vec<Told>,
}

fn kind_of(
    bytes: &[u8],
    declared: &FingerImageDeclaration,
) -> Result<FingerImageKind, FingerDecodeError> {
    match (declared.kind, FingerImageKind::of(bytes)) {
        // Anything can be raw, even what begins like something else.
        (Some(FingerImageKind::Raw), _) => Ok(FingerImageKind::Raw),
        (None, Some(kind)) => Ok(kind),
        (Some(declared), Some(kind)) if declared == kind => Ok(kind),
        (Some(_), Some(_)) => Err(FingerDecodeError::OtherKind),
        (_, None) if SIGNATURES.iter().any(|(signature, _)| signature.starts_with(bytes)) => {
            Err(FingerDecodeError::Truncated)
        }
        (_, None) => Err(FingerDecodeError::UnknownKind),
    }
}

fn decode_wsq(bytes: &[u8], limits: &DecodeLimits) -> Result<Picture, FingerDecodeError> {
    let wsq::WsqImage { width, height, pixels, pixels_per_inch } = wsq::decode(bytes, limits)?;
    let told = pixels_per_inch.map(f64::from).and_then(|told| Told::by_record(told, told));
    let pixels = Zeroizing::new(pixels);
    Ok(Picture { width, height, pixels, told: told.into_iter().collect() })
}

fn decode_raw(
    bytes: &[u8],
    width: u32,
    height: u32,
    limits: &DecodeLimits,
) -> Result<Picture, FingerDecodeError> {
    limits.check_finger(width, height)?;
    let count = u64::from(width) * u64::from(height);
    match (bytes.len() as u64).cmp(&count) {
        std::cmp::Ordering::Less => Err(FingerDecodeError::Truncated),
        std::cmp::Ordering::Greater => Err(FingerDecodeError::OtherSize),
        std::cmp::Ordering::Equal => {
            let pixels = Zeroizing::new(bytes.to_vec());
            Ok(Picture { width, height, pixels, told: Vec::new() })
        }
    }
}

fn decode_record(bytes: &[u8], limits: &DecodeLimits) -> Result<Picture, FingerDecodeError> {
    let View { width, height, told, compression, data } = record::read_view(bytes)?;
    limits.check_finger(width, height)?;
    let mut picture = match compression {
        Compression::Raw => decode_raw(data, width, height, limits)?,
        Compression::Wsq => decode_wsq(data, limits)?,
        Compression::Png if data.starts_with(PNG_SIGNATURE) => {
            decode_file(data, FileKind::Png, limits)?
        }
        Compression::Jpeg if data.starts_with(JPEG_SIGNATURE) => {
            decode_file(data, FileKind::Jpeg, limits)?
        }
        Compression::Png | Compression::Jpeg => {
            return Err(malformed("the record's data are of another kind than it says"));
        }
    };
    if (picture.width, picture.height) != (width, height) {
        return Err(malformed("the record and its data tell two sizes"));
    }
    // The record speaks first.
    picture.told.splice(0..0, told);
    Ok(picture)
}

impl DecodeLimits {
    /// Of one finger: up to 1,200 pixels an inch of a rolled one, and no less than what a matcher
    /// needs, 64 pixels or 3 mm at 500 an inch.
    #[must_use]
    pub const fn for_fingers() -> Self {
        Self {
            encoded_bytes_max: 8 << 20,
            side_px_max: 4_096,
            side_px_min: 64,
            pixels_max: 8_000_000,
            scans_max: 64,
        }
    }

    fn check_finger(&self, width: u32, height: u32) -> Result<(), FingerDecodeError> {
        let count = u64::from(width) * u64::from(height);
        if width.max(height) > self.side_px_max || count > self.pixels_max {
            return Err(FingerDecodeError::TooManyPixels);
        }
        if width.min(height) < self.side_px_min {
            return Err(FingerDecodeError::TooFewPixels);
        }
        Ok(())
    }

    /// The same of the picture that [`GreyImage::resampled_to_500`] makes.
    fn check_finger_at_500(
        &self,
        width: u32,
        height: u32,
        pixels_per_inch: u16,
    ) -> Result<(), FingerDecodeError> {
        let [width, height] = [width, height].map(|side| side_at_500(side, pixels_per_inch));
        self.check_finger(width, height)
    }
}

/// What a file of each kind begins with.
const SIGNATURES: [(&[u8], FingerImageKind); 6] = [
    (PNG_SIGNATURE, FingerImageKind::Png),
    (b"II*\0", FingerImageKind::Tiff),
    (b"MM\0*", FingerImageKind::Tiff),
    (b"BM", FingerImageKind::Bmp),
    (&[0xff, 0xa0], FingerImageKind::Wsq),
    (record::MAGIC, FingerImageKind::Record),
];
const JPEG_SIGNATURE: &[u8] = &[0xff, 0xd8, 0xff];
