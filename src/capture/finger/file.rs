//! PNG, TIFF, BMP and JPEG files to grey pixels.

use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::tiff::TiffDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, Limits};
use zeroize::Zeroizing;

use super::Picture;
use super::error::{FingerDecodeError, malformed};
use super::header::{self, Header};
use crate::capture::DecodeLimits;

/// The kinds that the image library unpacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FileKind {
    Png,
    Tiff,
    Bmp,
    /// Within records only.
    Jpeg,
}

/// The pixels of a file; its header is checked before they are unpacked.
pub(super) fn decode_file(
    bytes: &[u8],
    kind: FileKind,
    limits: &DecodeLimits,
) -> Result<Picture, FingerDecodeError> {
    let header = match kind {
        FileKind::Png | FileKind::Jpeg => header::png_or_jpeg(bytes, limits)?,
        FileKind::Tiff => header::tiff(bytes)?,
        FileKind::Bmp => header::bmp(bytes)?,
    };
    limits.check_finger(header.width, header.height)?;
    let mut bounds = Limits::no_limits();
    bounds.max_image_width = Some(header.width);
    bounds.max_image_height = Some(header.height);
    // 16-bit RGBA is the widest pixel that is read; as much again for the decoder's own buffers.
    let pixels = u64::from(header.width) * u64::from(header.height);
    bounds.max_alloc = Some(pixels * 2 * PIXEL_BYTES_MAX + SPARE_BYTES);
    let cursor = Cursor::new(bytes);
    let upright = match kind {
        FileKind::Png => {
            unpacked(PngDecoder::with_limits(cursor, bounds.clone())?, &header, bounds)
        }
        FileKind::Tiff => unpacked(TiffDecoder::new(cursor)?, &header, bounds),
        FileKind::Bmp => unpacked(BmpDecoder::new(cursor)?, &header, bounds),
        FileKind::Jpeg => unpacked(JpegDecoder::new(cursor)?, &header, bounds),
    }?;
    let (width, height) = (upright.width(), upright.height());
    let pixels = grey(&upright)?;
    Ok(Picture { width, height, pixels, told: header.told.into_iter().collect() })
}

fn unpacked(
    mut decoder: impl ImageDecoder,
    header: &Header,
    bounds: Limits,
) -> Result<DynamicImage, FingerDecodeError> {
    let pixels = u64::from(header.width) * u64::from(header.height);
    if decoder.dimensions() != (header.width, header.height) {
        return Err(malformed("its header tells two sizes"));
    }
    if decoder.total_bytes() > pixels * PIXEL_BYTES_MAX {
        return Err(FingerDecodeError::Unsupported("with pixels of more than 16 bits a channel"));
    }
    decoder.set_limits(bounds)?;
    // An unreadable note about orientation is no reason to refuse the picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// One byte a pixel of a picture that is grey, whatever it is written as. An alpha channel must be
/// opaque throughout.
fn grey(picture: &DynamicImage) -> Result<Zeroizing<Vec<u8>>, FingerDecodeError> {
    let eight = |samples, channels| narrowed(samples, channels, u8::MAX, |sample| sample);
    let sixteen = |samples, channels| narrowed(samples, channels, u16::MAX, eight_bits);
    match picture {
        DynamicImage::ImageLuma8(picture) => eight(picture.as_raw(), 1),
        DynamicImage::ImageLumaA8(picture) => eight(picture.as_raw(), 2),
        DynamicImage::ImageRgb8(picture) => eight(picture.as_raw(), 3),
        DynamicImage::ImageRgba8(picture) => eight(picture.as_raw(), 4),
        DynamicImage::ImageLuma16(picture) => sixteen(picture.as_raw(), 1),
        DynamicImage::ImageLumaA16(picture) => sixteen(picture.as_raw(), 2),
        DynamicImage::ImageRgb16(picture) => sixteen(picture.as_raw(), 3),
        DynamicImage::ImageRgba16(picture) => sixteen(picture.as_raw(), 4),
        _ => Err(FingerDecodeError::Unsupported("with pixels of floating point")),
    }
}

fn narrowed<T: Copy + PartialEq>(
    samples: &[T],
    channels: usize,
    opaque: T,
    narrow: impl Fn(T) -> u8,
) -> Result<Zeroizing<Vec<u8>>, FingerDecodeError> {
    let mut pixels = Zeroizing::new(Vec::with_capacity(samples.len() / channels));
    for pixel in samples.chunks_exact(channels) {
        let (grey, alpha) = match *pixel {
            [grey] => (grey, opaque),
            [grey, alpha] => (grey, alpha),
            [red, green, blue] if red == green && green == blue => (red, opaque),
            [red, green, blue, alpha] if red == green && green == blue => (red, alpha),
            _ => return Err(FingerDecodeError::Coloured),
        };
        if alpha != opaque {
            return Err(FingerDecodeError::Transparent);
        }
        pixels.push(narrow(grey));
    }
    Ok(pixels)
}

/// 16 bits to 8, rounded: 257 = 65,535 / 255.
fn eight_bits(sample: u16) -> u8 {
    u8::try_from((u32::from(sample) + 128) / 257).unwrap_or(u8::MAX)
}

const PIXEL_BYTES_MAX: u64 = 8;
const SPARE_BYTES: u64 = 1 << 16;
