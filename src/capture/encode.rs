//! Pixels to a PNG file, for pictures that are made here: the demonstration's and the tests'.

use std::io::Cursor;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder as _, ImageFormat, RgbImage};

use super::{DecodedImage, GreyImage};

/// The picture as a PNG file; `None` if it cannot be encoded.
#[must_use]
pub fn encode_png(picture: &DecodedImage) -> Option<Vec<u8>> {
    let pixels = RgbImage::from_raw(picture.width(), picture.height(), picture.rgb().to_vec())?;
    let mut file = Cursor::new(Vec::new());
    pixels.write_to(&mut file, ImageFormat::Png).ok()?;
    Some(file.into_inner())
}

/// The finger's picture as a PNG file that tells its resolution; `None` if it cannot be encoded.
#[must_use]
pub fn encode_grey_png(picture: &GreyImage) -> Option<Vec<u8>> {
    let mut file = Vec::new();
    let (width, height) = (picture.width(), picture.height());
    PngEncoder::new(&mut file)
        .write_image(picture.pixels(), width, height, ExtendedColorType::L8)
        .ok()?;
    let (start, rest) = file.split_at_checked(PNG_START_BYTES)?;
    Some([start, &resolution_chunk(picture.pixels_per_inch()), rest].concat())
}

/// The chunk `pHYs` (PNG specification, 11.3.4.3), which the `image` crate does not write: pixels a metre
/// across and down.
fn resolution_chunk(pixels_per_inch: u16) -> Vec<u8> {
    // An inch is 254 tenths of a millimetre.
    let per_metre = (u32::from(pixels_per_inch) * 10_000 + 127) / 254;
    let across = per_metre.to_be_bytes();
    let body = [b"pHYs", &across[..], &across[..], &[METRE]].concat();
    let length = 9u32.to_be_bytes();
    let check = crc32(&body).to_be_bytes();
    [&length[..], &body, &check].concat()
}

/// The check sum of a PNG chunk (PNG specification, annex D), bit by bit: a chunk has 13 bytes.
fn crc32(bytes: &[u8]) -> u32 {
    let mut rest = u32::MAX;
    for byte in bytes {
        rest ^= u32::from(*byte);
        for _ in 0..8 {
            rest = if rest & 1 == 1 { rest >> 1 ^ 0xedb8_8320 } else { rest >> 1 };
        }
    }
    !rest
}

/// The signature and the header chunk, which must be the first.
const PNG_START_BYTES: usize = 8 + 4 + 4 + 13 + 4;
/// The unit of a resolution.
const METRE: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    /// From the same picture written by another program at 500 pixels an inch.
    #[test]
    fn the_resolution_is_told_in_pixels_a_metre() {
        let chunk = b"\0\0\0\x09pHYs\0\0\x4c\xe5\0\0\x4c\xe5\x01\x75\xce\xf0\x95";
        assert_eq!(resolution_chunk(500), chunk);
    }

    #[test]
    fn a_grey_picture_decodes_to_its_pixels() {
        let pixels: Vec<u8> = (0..64 * 48).map(|at| u8::try_from(at % 253).unwrap()).collect();
        let picture = GreyImage::from_pixels(64, 48, 500, pixels.clone()).unwrap();
        let limits = DecodeLimits { side_px_min: 1, ..DecodeLimits::default() };
        let file = encode_grey_png(&picture).unwrap();
        let again = decode(&EncodedImage::new(file), &limits).unwrap();
        assert!(again.rgb().chunks(3).zip(&pixels).all(|(rgb, grey)| rgb == [*grey; 3]));
    }
    use crate::capture::{DecodeLimits, EncodedImage, decode};

    #[test]
    fn what_was_encoded_decodes_to_the_same_pixels() {
        let rgb: Vec<u8> =
            (0..64 * 48 * 3).map(|place| u8::try_from(place % 251).unwrap()).collect();
        let picture = DecodedImage::from_rgb(64, 48, rgb).unwrap();
        let limits = DecodeLimits { side_px_min: 1, ..DecodeLimits::default() };
        let again = decode(&EncodedImage::new(encode_png(&picture).unwrap()), &limits).unwrap();
        assert_eq!(again.rgb(), picture.rgb());
    }
}
