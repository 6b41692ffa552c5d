use image::{DynamicImage, GrayAlphaImage, ImageFormat, RgbaImage};
use proptest::prelude::*;

use super::samples::{self, HEIGHT, Record, WIDTH, pixels};
use super::{
    DecodeLimits, FingerDecodeError as E, FingerImageDeclaration, FingerImageKind, GreyImage,
    decode_finger,
};

const METRE: (u32, u32) = (19_685, 19_685);

fn decoded(bytes: &[u8]) -> Result<GreyImage, E> {
    decode_finger(bytes, &FingerImageDeclaration::default(), &DecodeLimits::for_fingers())
}

fn decoded_at(bytes: &[u8], pixels_per_inch: u16) -> Result<GreyImage, E> {
    let pixels_per_inch = Some(pixels_per_inch);
    let declared = FingerImageDeclaration { pixels_per_inch, ..Default::default() };
    decode_finger(bytes, &declared, &DecodeLimits::for_fingers())
}

fn raw(size_px: Option<(u32, u32)>) -> FingerImageDeclaration {
    let kind = Some(FingerImageKind::Raw);
    FingerImageDeclaration { kind, size_px, pixels_per_inch: Some(500) }
}

/// One file of each kind that tells its resolution.
fn one_of_each() -> Vec<(&'static str, Vec<u8>)> {
    let grey = samples::grey();
    let png = samples::png(&grey, METRE);
    vec![
        ("little TIFF", samples::tiff(true, (500, 500), 2)),
        ("big TIFF", samples::tiff(false, (197, 197), 3)),
        ("BMP", samples::bmp(&grey, METRE)),
        ("WSQ", samples::wsq()),
        ("ISO raw", Record::iso(0, pixels()).bytes()),
        ("ANSI raw", Record::ansi(1, pixels()).bytes()),
        ("ISO PNG", Record::iso(5, png.clone()).bytes()),
        ("ANSI WSQ", Record::ansi(2, samples::wsq()).bytes()),
        ("ISO JPEG", Record::iso(3, samples::written(&grey, ImageFormat::Jpeg)).bytes()),
        ("PNG", png),
    ]
}

#[test]
fn every_kind_gives_its_picture_and_resolution() {
    for (name, file) in one_of_each() {
        let image = decoded(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((image.width(), image.height()), (WIDTH, HEIGHT), "{name}");
        assert_eq!(image.pixels_per_inch(), 500, "{name}");
        let off = image.pixels().iter().zip(pixels()).map(|(a, b)| u64::from(a.abs_diff(b)));
        let mean = off.sum::<u64>() as f64 / f64::from(WIDTH * HEIGHT);
        let is_lossy = name.contains("JPEG") || name.contains("WSQ");
        assert!(mean < if is_lossy { 6.0 } else { f64::EPSILON }, "{name}: {mean}");
    }
}

#[test]
fn every_truncation_is_refused() {
    for (name, file) in one_of_each() {
        for length in 0..file.len() {
            assert!(decoded(&file[..length]).is_err(), "{name}: {length} of {}", file.len());
        }
    }
    let compressed = samples::plain_tiff(&samples::grey());
    for length in 0..compressed.len() {
        assert!(decoded_at(&compressed[..length], 500).is_err(), "{length}");
    }
}

#[test]
fn a_kind_is_told_by_its_first_bytes_and_may_be_declared() {
    for (name, file) in one_of_each() {
        let right = FingerImageKind::of(&file).unwrap();
        for kind in FingerImageKind::ALL {
            let declared = FingerImageDeclaration { kind: Some(kind), ..Default::default() };
            let outcome = decode_finger(&file, &declared, &DecodeLimits::for_fingers());
            match kind {
                kind if kind == right => assert!(outcome.is_ok(), "{name}"),
                FingerImageKind::Raw => assert!(matches!(outcome, Err(E::NoSize)), "{name}"),
                _ => assert!(matches!(outcome, Err(E::OtherKind)), "{name} {kind:?}"),
            }
        }
    }
    for kind in FingerImageKind::ALL {
        assert_eq!(FingerImageKind::from_name(kind.as_str()), Some(kind));
    }
    assert!(matches!(decoded(b"GIF89a...."), Err(E::UnknownKind)));
    let jpeg = samples::written(&samples::grey(), ImageFormat::Jpeg);
    assert!(matches!(decoded_at(&jpeg, 500), Err(E::UnknownKind)));
    assert!(matches!(decoded(&[]), Err(E::Empty)));
    assert!(matches!(decoded(b"\x89PN"), Err(E::Truncated)));
}

#[test]
fn raw_pixels_need_their_size_and_resolution() {
    let limits = DecodeLimits::for_fingers();
    let bytes = pixels();
    let with = |declared: FingerImageDeclaration| decode_finger(&bytes, &declared, &limits);
    assert_eq!(with(raw(Some((WIDTH, HEIGHT)))).unwrap().pixels(), bytes);
    assert!(matches!(with(raw(None)), Err(E::NoSize)));
    assert!(matches!(with(raw(Some((WIDTH, HEIGHT + 1)))), Err(E::Truncated)));
    assert!(matches!(with(raw(Some((WIDTH, HEIGHT - 1)))), Err(E::OtherSize)));
    assert!(matches!(with(raw(Some((u32::MAX, u32::MAX)))), Err(E::TooManyPixels)));
    assert!(matches!(with(raw(Some((0, HEIGHT)))), Err(E::TooFewPixels)));
    let unknown = FingerImageDeclaration { pixels_per_inch: None, ..raw(Some((WIDTH, HEIGHT))) };
    assert!(matches!(with(unknown), Err(E::NoResolution)));
}

#[test]
fn a_resolution_is_required_and_all_who_tell_it_must_agree() {
    let grey = samples::grey();
    let plain = [
        samples::written(&grey, ImageFormat::Png),
        samples::plain_tiff(&grey),
        samples::tiff(true, (500, 500), 1),
        samples::bmp(&grey, (0, 0)),
        samples::wsq_without_resolution(),
    ];
    for file in &plain {
        assert!(matches!(decoded(file), Err(E::NoResolution | E::ResolutionTooLow { .. })));
        assert_eq!(decoded_at(file, 500).unwrap().pixels_per_inch(), 500);
    }
    assert!(matches!(decoded(&samples::wsq_without_resolution()), Err(E::NoResolution)));
    for (name, file) in one_of_each() {
        assert!(decoded_at(&file, 500).is_ok(), "{name}");
        let other = decoded_at(&file, 1_000);
        assert!(matches!(other, Err(E::ResolutionsDisagree { one: 1_000, other: 500 })), "{name}");
    }
    for file in [
        samples::png(&grey, (19_685, 39_370)),
        samples::bmp(&grey, (39_370, 19_685)),
        samples::tiff(true, (500, 250), 2),
    ] {
        assert!(matches!(decoded(&file), Err(E::ResolutionUneven { .. })));
    }
    let around = Record::iso(5, samples::png(&grey, (39_370, 39_370))).bytes();
    assert!(matches!(decoded(&around), Err(E::ResolutionsDisagree { one: 500, other: 1_000 })));
}

#[test]
fn a_resolution_that_no_sensor_has_is_refused_in_plain_words() {
    let error = decoded(&samples::tiff(true, (8_000, 8_000), 2)).unwrap_err();
    assert!(matches!(error, E::ResolutionTooHigh { pixels_per_inch: 8_000 }));
    assert_eq!(error.code(), "CAP_RESOLUTION");
    assert!(error.to_string().contains("8000 pixels per inch, more than the 1,200"), "{error}");
    assert!(decoded_at(&samples::plain_tiff(&samples::grey()), 8_000).is_err());
    let coarse = decoded(&samples::tiff(true, (200, 200), 2));
    assert!(matches!(coarse, Err(E::ResolutionTooLow { pixels_per_inch: 200 })));
}

#[test]
fn a_picture_in_colour_is_refused_and_a_grey_one_written_so_is_not() {
    for format in [ImageFormat::Png, ImageFormat::Tiff, ImageFormat::Bmp] {
        let file = samples::written(&samples::rgb(false), format);
        assert_eq!(decoded_at(&file, 500).unwrap().pixels(), pixels(), "{format:?}");
        let file = samples::written(&samples::rgb(true), format);
        let error = decoded_at(&file, 500).unwrap_err();
        assert!(matches!(error, E::Coloured), "{format:?}");
        assert_eq!(error.code(), "CAP_UNREADABLE");
    }
}

#[test]
fn an_alpha_channel_must_be_opaque() {
    let grey = samples::grey();
    for opaque in [true, false] {
        let mut two: GrayAlphaImage = grey.to_luma_alpha8();
        let mut four: RgbaImage = grey.to_rgba8();
        if !opaque {
            two.get_pixel_mut(50, 50).0[1] = 254;
            four.get_pixel_mut(50, 50).0[3] = 254;
        }
        for picture in [DynamicImage::from(two), DynamicImage::from(four)] {
            let outcome = decoded_at(&samples::written(&picture, ImageFormat::Png), 500);
            match outcome {
                Ok(image) => assert!(opaque && image.pixels() == pixels()),
                Err(error) => assert!(!opaque && matches!(error, E::Transparent)),
            }
        }
    }
}

#[test]
fn sixteen_bits_are_reduced_to_eight() {
    let wide = DynamicImage::from(samples::grey().to_luma16());
    for format in [ImageFormat::Png, ImageFormat::Tiff] {
        let image = decoded_at(&samples::written(&wide, format), 500).unwrap();
        assert_eq!(image.pixels(), pixels(), "{format:?}");
    }
    let float = DynamicImage::from(samples::grey().to_rgb32f());
    let error = decoded_at(&samples::written(&float, ImageFormat::Tiff), 500).unwrap_err();
    assert!(matches!(error, E::Unsupported(_)), "{error}");
}

#[test]
fn a_header_that_claims_a_vast_picture_costs_nothing() {
    let vast = 4_000_000u32;
    let grey = samples::grey();
    let mut png = samples::png(&grey, METRE);
    png[16..20].copy_from_slice(&vast.to_be_bytes());
    let mut bmp = samples::bmp(&grey, METRE);
    // A bitmap of no bits a pixel takes no bytes, however large.
    bmp[18..22].copy_from_slice(&vast.to_le_bytes());
    bmp[28] = 0;
    let mut tiff = samples::tiff(true, (500, 500), 2);
    let entry = tiff.windows(4).rposition(|bytes| bytes == [0, 1, 4, 0]).unwrap();
    tiff[entry + 8..entry + 12].copy_from_slice(&vast.to_le_bytes());
    let record = Record { size: (65_535, 65_535), ..Record::iso(0, pixels()) }.bytes();
    for file in [png, bmp, tiff, record] {
        assert!(matches!(decoded(&file), Err(E::TooManyPixels)));
    }
    // Values outside the file, and more of them than a picture has use for.
    let mut tiff = samples::tiff(true, (500, 500), 2);
    let bits = tiff.windows(4).rposition(|bytes| bytes == [2, 1, 3, 0]).unwrap();
    tiff[bits + 4..bits + 8].copy_from_slice(&0x0fff_ffff_u32.to_le_bytes());
    assert!(matches!(decoded(&tiff), Err(E::Truncated)));
    tiff[bits + 4..bits + 8].copy_from_slice(&200_001_u32.to_le_bytes());
    tiff.resize(600_000, 0);
    assert!(matches!(decoded(&tiff), Err(E::Malformed(_))));
    let jpeg = Record::iso(3, samples::written(&samples::grey(), ImageFormat::Jpeg)).bytes();
    let limits = DecodeLimits { scans_max: 0, ..DecodeLimits::for_fingers() };
    let outcome = decode_finger(&jpeg, &FingerImageDeclaration::default(), &limits);
    assert!(matches!(outcome, Err(E::TooManyPixels)));
    // Small at 1,200 pixels an inch, or great at 250.
    assert!(matches!(decoded(&samples::tiff(true, (1_200, 1_200), 2)), Err(E::TooFewPixels)));
    let limits = DecodeLimits { side_px_max: 150, ..DecodeLimits::for_fingers() };
    let file = samples::tiff(true, (250, 250), 2);
    let outcome = decode_finger(&file, &FingerImageDeclaration::default(), &limits);
    assert!(matches!(outcome, Err(E::TooManyPixels)));
    let limits = DecodeLimits { encoded_bytes_max: file.len() - 1, ..limits };
    let outcome = decode_finger(&file, &FingerImageDeclaration::default(), &limits);
    assert!(matches!(outcome, Err(E::TooManyBytes)));
}

#[test]
fn a_declared_size_must_be_true() {
    let declared = |size| FingerImageDeclaration { size_px: Some(size), ..Default::default() };
    for (name, file) in one_of_each() {
        let limits = DecodeLimits::for_fingers();
        assert!(decode_finger(&file, &declared((WIDTH, HEIGHT)), &limits).is_ok(), "{name}");
        let outcome = decode_finger(&file, &declared((HEIGHT, WIDTH)), &limits);
        assert!(matches!(outcome, Err(E::OtherSize)), "{name}");
    }
}

#[test]
fn a_record_of_several_views_or_fingers_is_refused_with_their_number() {
    for record in [Record::iso(0, pixels()), Record::ansi(0, pixels())] {
        let three = Record { views: vec![pixels(); 3], ..record.clone() }.bytes();
        let error = decoded(&three).unwrap_err();
        assert!(error.to_string().contains("3 pictures"), "{error}");
        for (position, is_one) in [(0, true), (12, true), (13, false), (15, false), (21, false)] {
            let outcome = decoded(&Record { position, ..record.clone() }.bytes());
            assert_eq!(outcome.is_ok(), is_one, "{position}");
        }
    }
}

#[test]
fn a_tiff_of_several_pages_is_refused_with_their_number() {
    let mut file = samples::tiff(true, (500, 500), 2);
    // A second page as the first one, and so for ever.
    let directory = file[4..8].to_vec();
    let next = file.len() - 4;
    file[next..].copy_from_slice(&directory);
    assert!(matches!(decoded(&file), Err(E::SeveralPictures { count: 1_000 })));
    file[next..].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(decoded(&file), Err(E::Truncated)));
}

#[test]
fn a_tiff_whose_strips_lie_outside_the_file_or_lack_their_lengths_is_refused() {
    let file = samples::tiff(true, (500, 500), 2);
    let entry = |tag: [u8; 2]| {
        let long = [tag[0], tag[1], 4, 0];
        file.windows(4).rposition(|bytes| bytes == long).unwrap()
    };
    for (tag, value) in [([17, 1], u32::MAX), ([23, 1], WIDTH * HEIGHT + 1_000)] {
        let mut outside = file.clone();
        let at = entry(tag) + 8;
        outside[at..at + 4].copy_from_slice(&value.to_le_bytes());
        assert!(matches!(decoded(&outside), Err(E::Truncated)), "{tag:?}");
        let mut without = file.clone();
        without[entry(tag)] = 99;
        assert!(matches!(decoded(&without), Err(E::Malformed(_))), "{tag:?}");
    }
}

#[test]
fn a_record_whose_lengths_lie_is_refused() {
    for record in [Record::iso(0, pixels()), Record::ansi(0, pixels())] {
        let file = record.bytes();
        let header = if record.is_ansi { 36 } else { 32 };
        for (place, value) in [(13, 1), (header + 3, 1), (header, 1), (8, 1)] {
            let mut lies = file.clone();
            lies[place] = lies[place].wrapping_add(value);
            assert!(decoded(&lies).is_err(), "{place}");
        }
        // No view at all, a count that is not there, another unit, bytes behind the end.
        for (place, value) in [(header - 14, 0), (header - 14, 2), (header - 13, 3)] {
            let mut lies = file.clone();
            lies[place] = value;
            assert!(decoded(&lies).is_err(), "{place}");
        }
        // A view behind the end is not in the record.
        let longer = [&file[..], &file[header..]].concat();
        let error = decoded(&longer).unwrap_err();
        assert!(matches!(error, E::Malformed(_)), "{error}");
        let other_size = Record { size: (95, 80), ..record };
        assert!(matches!(decoded(&other_size.bytes()), Err(E::OtherSize)));
    }
}

#[test]
fn what_a_record_may_hold_and_is_not_read_is_named() {
    let record = Record::iso(0, pixels());
    for other in [
        Record { compression: 4, ..record.clone() },
        Record { compression: 9, ..record.clone() },
        Record { depth: 16, ..record.clone() },
    ] {
        assert!(matches!(decoded(&other.bytes()), Err(E::Unsupported(_))));
    }
    let mut later = record.bytes();
    later[4..8].copy_from_slice(b"020\0");
    assert!(matches!(decoded(&later), Err(E::Unsupported(_))));
    // A PNG that is said to be a JPEG.
    let png = Record::iso(3, samples::png(&samples::grey(), METRE)).bytes();
    assert!(matches!(decoded(&png), Err(E::Malformed(_))));
    let large = samples::wsq();
    let smaller = Record { size: (90, 80), ..Record::iso(2, large) }.bytes();
    assert!(matches!(decoded(&smaller), Err(E::Malformed(_))));
}

#[test]
fn a_record_in_pixels_a_centimetre_is_read_in_inches() {
    let record = Record { unit: 2, resolution: (197, 197), ..Record::iso(0, pixels()) };
    assert_eq!(decoded(&record.bytes()).unwrap().pixels_per_inch(), 500);
    let silent = Record { resolution: (0, 0), ..record }.bytes();
    assert!(matches!(decoded(&silent), Err(E::NoResolution)));
    assert!(decoded_at(&silent, 500).is_ok());
}

#[test]
fn a_wsq_file_is_decoded_as_nists_own_code_decoded_it() {
    // Their origin is beside them, in make_waves.py.
    let image = decoded(include_bytes!("../../../tests/fixtures/fingers/waves.wsq")).unwrap();
    let expected = include_bytes!("../../../tests/fixtures/fingers/waves.png");
    let expected = decoded_at(expected, 500).unwrap();
    assert_eq!((image.width(), image.height()), (161, 150));
    let differences = image.pixels().iter().zip(expected.pixels()).map(|(a, b)| a.abs_diff(*b));
    assert!(differences.clone().all(|difference| difference <= 1));
    // Sums of floats in another order.
    assert!(differences.map(usize::from).sum::<usize>() < 161 * 150 / 1_000);
}

#[test]
fn each_error_has_a_code_of_the_table() {
    let codes: Vec<_> =
        crate::domain::reason::Reason::ALL.iter().map(|reason| reason.row().code).collect();
    for error in [E::NoResolution, E::Truncated, E::ResolutionTooLow { pixels_per_inch: 72 }] {
        assert!(codes.contains(&error.code()), "{}", error.code());
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for (_, file) in [("", Vec::new())].into_iter().chain(one_of_each()) {
            let start = file.len().min(40);
            let _ignored = decoded_at(&[&file[..start], bytes.as_slice()].concat(), 500);
        }
    }
}
