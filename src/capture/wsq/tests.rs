use super::encoder::{Encoder, segment, waves};
use super::*;

fn limits() -> DecodeLimits {
    DecodeLimits::default()
}

fn decoded(file: &[u8]) -> Result<WsqImage, WsqError> {
    decode(file, &limits())
}

fn error(file: &[u8]) -> WsqError {
    decoded(file).err().expect("it was decoded")
}

fn greatest_difference(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

/// Where the content of the first segment with this marker begins.
fn content_of(file: &[u8], marker: u8) -> usize {
    file.windows(2).position(|pair| pair == [0xff, marker]).unwrap() + 4
}

#[test]
fn what_was_encoded_finely_comes_back_within_a_grey_level() {
    for encoder in [Encoder::default(), Encoder::even()] {
        for (width, height) in [(64, 64), (65, 71), (100, 37), (33, 150)] {
            let pixels = waves(width, height);
            let image = decoded(&encoder.encode(width, height, &pixels)).unwrap();
            assert_eq!((image.width as usize, image.height as usize), (width, height));
            assert_eq!(image.pixels_per_inch, Some(500));
            // Corners are kinks both ways, in the subbands that are never sent.
            let differences = image.pixels.iter().zip(&pixels).map(|(a, b)| a.abs_diff(*b));
            let off = differences.filter(|difference| *difference > 1).count();
            assert!(off <= pixels.len() / 200, "{width}x{height}, {}: {off}", encoder.is_even);
        }
    }
}

#[test]
fn restart_marks_change_nothing() {
    let pixels = waves(70, 66);
    let plain = Encoder::default();
    let marked = Encoder { restart_every: Some(97), ..plain.clone() };
    let file = marked.encode(70, 66, &pixels);
    assert!(file.windows(2).any(|pair| pair == [0xff, 0xb7]));
    let whole = decoded(&plain.encode(70, 66, &pixels)).unwrap();
    assert_eq!(decoded(&file).unwrap().pixels, whole.pixels);
}

#[test]
fn a_restart_mark_out_of_turn_is_refused() {
    let marked = Encoder { restart_every: Some(97), ..Encoder::default() };
    let file = marked.encode(70, 66, &waves(70, 66));
    let mut swapped = file.clone();
    let at = swapped.windows(2).position(|pair| pair == [0xff, 0xb1]).unwrap();
    swapped[at + 1] = 0xb2;
    assert!(matches!(error(&swapped), WsqError::Malformed(_)));
    // Without an interval there are none.
    let mut undeclared = file;
    let interval = content_of(&undeclared, 0xa7);
    undeclared[interval..interval + 2].copy_from_slice(&[0, 0]);
    assert!(matches!(error(&undeclared), WsqError::Malformed(_)));
}

#[test]
fn a_subband_that_was_not_sent_is_zero() {
    let pixels = waves(64, 64);
    let some = Encoder { unsent: (30..60).collect(), ..Encoder::default() };
    let image = decoded(&some.encode(64, 64, &pixels)).unwrap();
    assert!(greatest_difference(&image.pixels, &pixels) > 2);
    // Nothing but the mean of one grey level.
    let none = Encoder { unsent: (0..60).collect(), ..Encoder::default() };
    let image = decoded(&none.encode(64, 64, &[77; 64 * 64])).unwrap();
    assert!(image.pixels.iter().all(|grey| *grey == 77));
}

#[test]
fn coarse_bins_and_long_runs_are_read() {
    // Half black, half white: the finest subbands are runs of zeros, the coarsest need 16 bits.
    let pixels: Vec<u8> = (0..128 * 128).map(|n| if n % 128 < 64 { 0 } else { 255 }).collect();
    for (bin, at_most) in [(0.1, 1), (0.5, 1), (20.0, 60)] {
        let encoder = Encoder { bin, ..Encoder::default() };
        let image = decoded(&encoder.encode(128, 128, &pixels)).unwrap();
        let most = greatest_difference(&image.pixels, &pixels);
        assert!(most <= at_most, "{bin}: {most}");
    }
}

#[test]
fn every_truncation_is_refused() {
    let file = Encoder::default().encode(64, 64, &waves(64, 64));
    for length in 0..file.len() {
        assert_eq!(error(&file[..length]), WsqError::Truncated, "{length} of {}", file.len());
    }
}

#[test]
fn each_table_is_required_before_the_first_block() {
    let file = Encoder::default().encode(64, 64, &waves(64, 64));
    for marker in [0xa2, 0xa4, 0xa5, 0xa6] {
        let from = content_of(&file, marker);
        let length = usize::from(u16::from_be_bytes([file[from - 2], file[from - 1]]));
        let without = [&file[..from - 4], &file[from - 2 + length..]].concat();
        assert!(matches!(error(&without), WsqError::Malformed(_)), "{marker:x}");
    }
}

#[test]
fn a_frame_that_claims_too_much_or_too_little_is_refused_at_once() {
    let claims = |width: u16, height: u16, limits: DecodeLimits| {
        let mut file = vec![0xff, 0xa0];
        let frame: [&[u8]; 4] =
            [&[0, 255], &height.to_be_bytes(), &width.to_be_bytes(), &[0, 0, 0, 0, 0, 0, 2, 0, 0]];
        segment(&mut file, 0xa2, &frame.concat());
        decode(&file, &limits).err()
    };
    assert_eq!(claims(65_535, 65_535, limits()), Some(WsqError::TooManyPixels));
    assert_eq!(claims(8_000, 8_000, limits()), Some(WsqError::TooManyPixels));
    assert_eq!(claims(31, 400, limits()), Some(WsqError::TooFewPixels));
    assert_eq!(claims(0, 0, limits()), Some(WsqError::TooFewPixels));
    // A caller's lower bar does not lower that of the transform.
    let low = DecodeLimits { side_px_min: 1, ..limits() };
    assert_eq!(claims(31, 400, low), Some(WsqError::TooFewPixels));
    assert_eq!(claims(32, 32, low), Some(WsqError::Truncated));
}

#[test]
fn a_great_frame_over_little_data_is_refused() {
    let mut file = Encoder::default().encode(64, 64, &waves(64, 64));
    let frame = content_of(&file, 0xa2);
    file[frame + 2..frame + 6].copy_from_slice(&[0x0f, 0xa0, 0x0f, 0xa0]);
    assert!(matches!(error(&file), WsqError::Malformed(what) if what.contains("fewer")));
    file[frame + 2..frame + 6].copy_from_slice(&[0, 40, 0, 40]);
    assert!(matches!(error(&file), WsqError::Malformed(what) if what.contains("more")));
}

#[test]
fn segments_that_are_doubled_late_or_unknown_are_refused() {
    let file = Encoder::default().encode(64, 64, &waves(64, 64));
    let first_block = content_of(&file, 0xa3) - 4;
    let second_block = {
        let behind = first_block + 5;
        behind + content_of(&file[behind..], 0xa3) - 4
    };
    let part = |marker: u8| {
        let from = content_of(&file, marker);
        let length = usize::from(u16::from_be_bytes([file[from - 2], file[from - 1]]));
        file[from - 4..from - 2 + length].to_vec()
    };
    let with = |at: usize, part: &[u8]| error(&[&file[..at], part, &file[at..]].concat());
    assert!(matches!(with(first_block, &part(0xa2)), WsqError::Malformed(_)));
    for marker in [0xa4, 0xa5] {
        assert!(matches!(with(second_block, &part(marker)), WsqError::Malformed(_)), "{marker:x}");
    }
    for unknown in [0xa0, 0xa9, 0x9f, 0xd8] {
        let what = [0xff, unknown, 0, 2];
        assert!(matches!(with(first_block, &what), WsqError::Malformed(_)), "{unknown:x}");
    }
    assert!(matches!(with(first_block, &[0xff, 0xa8, 0, 1]), WsqError::Malformed(_)));
    // A Huffman table or a note between two blocks is as it should be.
    for marker in [0xa6, 0xa8] {
        let file = [&file[..second_block], &part(marker), &file[second_block..]].concat();
        assert!(decoded(&file).is_ok());
    }
}

#[test]
fn bytes_behind_the_end_mark_are_ignored() {
    let mut file = Encoder::default().encode(64, 64, &waves(64, 64));
    file.extend([0; 9]);
    assert!(decoded(&file).is_ok());
}
