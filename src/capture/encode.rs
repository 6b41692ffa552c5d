//! Pixels to a PNG file, for pictures that are made here: the demonstration's and the tests'.

use std::io::Cursor;

use image::{ImageFormat, RgbImage};

use super::DecodedImage;

/// The picture as a PNG file; `None` if it cannot be encoded.
#[must_use]
pub fn encode_png(picture: &DecodedImage) -> Option<Vec<u8>> {
    let pixels = RgbImage::from_raw(picture.width(), picture.height(), picture.rgb().to_vec())?;
    let mut file = Cursor::new(Vec::new());
    pixels.write_to(&mut file, ImageFormat::Png).ok()?;
    Some(file.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
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
