//! The one door from bytes to pixels.

use std::io::Cursor;

use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageResult, Limits};

use super::container::{Frame, FrameError, Kind, read_frame};
use super::{DecodeLimits, DecodedImage, EncodedImage, MediaType};

/// Bytes that are no usable picture: an error, not a decision, and no attempt is counted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// No bytes at all.
    #[error("the picture is empty")]
    Empty,
    /// Over [`DecodeLimits::encoded_bytes_max`].
    #[error("the picture's file is larger than allowed")]
    TooManyBytes,
    /// Neither JPEG nor PNG by its first bytes.
    #[error("the picture is neither JPEG nor PNG")]
    UnknownKind,
    /// JPEG bytes declared as PNG, or the other way round.
    #[error("the picture is not of the kind that it is declared to be")]
    OtherKind,
    /// The file ends before the picture does.
    #[error("the picture is cut off")]
    Truncated,
    /// Over a limit of [`DecodeLimits`] by its header; nothing was decoded.
    #[error("the picture claims more pixels or passes than allowed")]
    TooManyPixels,
    /// Under [`DecodeLimits::side_px_min`].
    #[error("the picture is smaller than any usable one")]
    TooFewPixels,
    /// The file contradicts itself.
    #[error("the picture cannot be decoded")]
    Malformed(#[source] Option<ImageError>),
}

impl DecodeError {
    /// The reason's code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "CAP_UNREADABLE"
    }
}

/// Decodes a JPEG or PNG to upright RGB: its EXIF orientation is applied, as terminals' and phones'
/// cameras write it instead of turning the pixels.
///
/// Size, completeness and number of passes are read from the file's frame before a pixel is
/// decoded.
///
/// # Errors
///
/// [`DecodeError`] for anything but one complete picture within the limits.
pub fn decode(image: &EncodedImage, limits: &DecodeLimits) -> Result<DecodedImage, DecodeError> {
    let bytes = image.bytes.as_ref();
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    if bytes.len() > limits.encoded_bytes_max {
        return Err(DecodeError::TooManyBytes);
    }
    let frame = read_frame(bytes).map_err(|error| match error {
        FrameError::Kind => DecodeError::UnknownKind,
        FrameError::Truncated => DecodeError::Truncated,
        FrameError::Malformed => DecodeError::Malformed(None),
    })?;
    let declared_otherwise = match (image.media_type, frame.kind) {
        (None, _) | (Some(MediaType::Jpeg), Kind::Jpeg) | (Some(MediaType::Png), Kind::Png) => {
            false
        }
        (Some(_), _) => true,
    };
    if declared_otherwise {
        return Err(DecodeError::OtherKind);
    }
    check_size(&frame, limits)?;
    let upright = decode_upright(bytes, &frame, limits)
        .map_err(|error| DecodeError::Malformed(Some(error)))?
        .ok_or(DecodeError::Malformed(None))?;
    let rgb = upright.into_rgb8();
    let (width, height) = rgb.dimensions();
    DecodedImage::from_rgb(width, height, rgb.into_raw()).ok_or(DecodeError::Malformed(None))
}

fn check_size(frame: &Frame, limits: &DecodeLimits) -> Result<(), DecodeError> {
    let (width, height) = (frame.width, frame.height);
    if width.max(height) > limits.side_px_max
        || u64::from(width) * u64::from(height) > limits.pixels_max
        || frame.scans > limits.scans_max
    {
        return Err(DecodeError::TooManyPixels);
    }
    if width.min(height) < limits.side_px_min { Err(DecodeError::TooFewPixels) } else { Ok(()) }
}

/// `None` when the decoder reads another size from the file than was checked.
fn decode_upright(
    bytes: &[u8],
    frame: &Frame,
    limits: &DecodeLimits,
) -> ImageResult<Option<DynamicImage>> {
    let mut bounds = Limits::no_limits();
    bounds.max_image_width = Some(limits.side_px_max);
    bounds.max_image_height = Some(limits.side_px_max);
    // 16-bit RGBA is the widest pixel a PNG has; as much again for the decoder's own buffers.
    bounds.max_alloc = Some(limits.pixels_max.saturating_mul(16));
    let cursor = Cursor::new(bytes);
    match frame.kind {
        Kind::Jpeg => pixels(JpegDecoder::new(cursor)?, frame, bounds),
        Kind::Png => pixels(PngDecoder::with_limits(cursor, bounds.clone())?, frame, bounds),
    }
}

fn pixels(
    mut decoder: impl ImageDecoder,
    frame: &Frame,
    bounds: Limits,
) -> ImageResult<Option<DynamicImage>> {
    if decoder.dimensions() != (frame.width, frame.height) {
        return Ok(None);
    }
    decoder.set_limits(bounds)?;
    // An unreadable note about orientation is no reason to refuse the picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    Ok(Some(picture))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::jpeg::JpegEncoder;
    use image::codecs::png::PngEncoder;
    use image::{ExtendedColorType, ImageEncoder, RgbImage};
    use proptest::prelude::*;

    /// Red on the left, blue on the right, brighter towards the bottom.
    fn picture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let shade = u8::try_from(255 * y / height).unwrap() / 2;
            image::Rgb(if x < width / 2 { [250, shade, shade] } else { [shade, shade, 250] })
        })
    }

    fn jpeg_with(width: u32, height: u32, exif: Option<Vec<u8>>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 90);
        if let Some(exif) = exif {
            encoder.set_exif_metadata(exif).unwrap();
        }
        let picture = picture(width, height);
        encoder.write_image(&picture, width, height, ExtendedColorType::Rgb8).unwrap();
        bytes
    }

    fn jpeg(width: u32, height: u32) -> Vec<u8> {
        jpeg_with(width, height, None)
    }

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let picture = picture(width, height);
        PngEncoder::new(&mut bytes)
            .write_image(&picture, width, height, ExtendedColorType::Rgb8)
            .unwrap();
        bytes
    }

    fn decoded(bytes: Vec<u8>) -> Result<DecodedImage, DecodeError> {
        decode(&EncodedImage::new(bytes), &DecodeLimits::default())
    }

    fn pixel(image: &DecodedImage, x: u32, y: u32) -> [u8; 3] {
        let at = usize::try_from((y * image.width() + x) * 3).unwrap();
        image.rgb()[at..at + 3].try_into().unwrap()
    }

    #[test]
    fn a_png_is_decoded_exactly_and_a_jpeg_nearly() {
        let original = picture(64, 48);
        assert_eq!(decoded(png(64, 48)).unwrap().rgb(), original.as_raw());
        let image = decoded(jpeg(64, 48)).unwrap();
        assert_eq!((image.width(), image.height()), (64, 48));
        let differences = image.rgb().iter().zip(original.as_raw()).map(|(a, b)| a.abs_diff(*b));
        let mean = differences.map(u32::from).sum::<u32>() / (64 * 48 * 3);
        assert!(mean < 6, "{mean}");
    }

    #[test]
    fn every_truncation_of_a_jpeg_is_refused() {
        let whole = jpeg(96, 64);
        assert!(decoded(whole.clone()).is_ok());
        for length in 0..whole.len() {
            assert!(decoded(whole[..length].to_vec()).is_err(), "{length} of {}", whole.len());
        }
    }

    #[test]
    fn every_truncation_of_a_png_is_refused() {
        let whole = png(48, 40);
        for length in 0..whole.len() {
            assert!(decoded(whole[..length].to_vec()).is_err(), "{length} of {}", whole.len());
        }
    }

    #[test]
    fn a_header_that_claims_a_vast_picture_costs_nothing() {
        let claims = |mut bytes: Vec<u8>, width: u16, height: u16| {
            let start = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
            bytes[start + 5..start + 7].copy_from_slice(&height.to_be_bytes());
            bytes[start + 7..start + 9].copy_from_slice(&width.to_be_bytes());
            decoded(bytes)
        };
        assert!(matches!(claims(jpeg(64, 64), 20_000, 20_000), Err(DecodeError::TooManyPixels)));
        assert!(matches!(claims(jpeg(64, 64), 65_535, 40), Err(DecodeError::TooManyPixels)));
        assert!(matches!(claims(jpeg(64, 64), 0, 64), Err(DecodeError::Malformed(_))));
        let mut bomb = png(64, 64);
        bomb[16..20].copy_from_slice(&20_000u32.to_be_bytes());
        assert!(matches!(decoded(bomb), Err(DecodeError::TooManyPixels)));
        assert!(matches!(decoded(jpeg(31, 64)), Err(DecodeError::TooFewPixels)));
    }

    #[test]
    fn too_many_bytes_or_passes_are_refused_unread() {
        let whole = jpeg(64, 64);
        let with = |limits| decode(&EncodedImage::new(whole.clone()), &limits);
        let fewer = DecodeLimits { encoded_bytes_max: whole.len() - 1, ..Default::default() };
        assert!(matches!(with(fewer), Err(DecodeError::TooManyBytes)));
        let exact = DecodeLimits { encoded_bytes_max: whole.len(), ..Default::default() };
        assert!(with(exact).is_ok());
        let no_scan = DecodeLimits { scans_max: 0, ..Default::default() };
        assert!(matches!(with(no_scan), Err(DecodeError::TooManyPixels)));
    }

    #[test]
    fn a_picture_must_be_what_it_is_declared_to_be() {
        let as_declared = |bytes: Vec<u8>, kind| {
            decode(&EncodedImage::declared(bytes, kind), &DecodeLimits::default())
        };
        assert!(as_declared(jpeg(64, 64), MediaType::Jpeg).is_ok());
        assert!(as_declared(png(64, 64), MediaType::Png).is_ok());
        assert!(matches!(as_declared(jpeg(64, 64), MediaType::Png), Err(DecodeError::OtherKind)));
        assert!(matches!(decoded(b"GIF89a....".to_vec()), Err(DecodeError::UnknownKind)));
        assert!(matches!(decoded(Vec::new()), Err(DecodeError::Empty)));
    }

    #[test]
    fn a_portrait_written_sideways_is_turned_upright() {
        // Little-endian TIFF with one entry: tag 0x0112 (orientation), SHORT, one value.
        let exif = |orientation: u8| {
            let mut bytes = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
            bytes.extend_from_slice(&[orientation, 0, 0, 0, 0, 0, 0, 0]);
            bytes
        };
        let is_red = |[r, _, b]: [u8; 3]| r > 200 && b < 160;
        let upright = decoded(jpeg_with(64, 48, Some(exif(1)))).unwrap();
        assert!(is_red(pixel(&upright, 4, 4)));
        // 6: the right way up after a quarter turn clockwise; the left half becomes the top.
        let turned = decoded(jpeg_with(64, 48, Some(exif(6)))).unwrap();
        assert_eq!((turned.width(), turned.height()), (48, 64));
        assert!(is_red(pixel(&turned, 4, 4)) && is_red(pixel(&turned, 44, 4)));
        assert!(!is_red(pixel(&turned, 4, 60)));
        // 3: upside down.
        let over = decoded(jpeg_with(64, 48, Some(exif(3)))).unwrap();
        assert!(!is_red(pixel(&over, 4, 4)) && is_red(pixel(&over, 60, 4)));
    }

    #[test]
    fn bytes_behind_the_end_are_ignored_as_cameras_write_them() {
        let mut bytes = jpeg(64, 64);
        bytes.extend_from_slice(b"maker's notes");
        assert!(decoded(bytes).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn a_png_gives_its_pixels_back(width in 32u32..80, height in 32u32..80) {
            let image = decoded(png(width, height)).unwrap();
            prop_assert_eq!((image.width(), image.height()), (width, height));
            let original = picture(width, height);
            prop_assert_eq!(image.rgb(), original.as_raw().as_slice());
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ignored = decoded(bytes.clone());
            let _ignored = decoded([&[0xff, 0xd8, 0xff], bytes.as_slice()].concat());
            let _ignored = decoded([b"\x89PNG\r\n\x1a\n", bytes.as_slice()].concat());
        }

        #[test]
        fn no_damage_makes_the_decoder_panic(
            which in any::<bool>(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let mut bytes = if which { jpeg(64, 40) } else { png(40, 40) };
            for (at, value) in damage {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Ok(image) = decoded(bytes) {
                let (width, height) = (u64::from(image.width()), u64::from(image.height()));
                prop_assert!(width * height <= DecodeLimits::default().pixels_max);
            }
        }
    }
}
