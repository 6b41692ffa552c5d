//! Files of every kind, for the tests; their pictures are waves, nobody's finger.

use std::io::Cursor;

use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};

use crate::capture::wsq::encoder::{Encoder, waves};

pub(super) const WIDTH: u32 = 96;
pub(super) const HEIGHT: u32 = 80;

/// The picture that all samples hold.
pub(super) fn pixels() -> Vec<u8> {
    waves(WIDTH as usize, HEIGHT as usize)
}

pub(super) fn grey() -> DynamicImage {
    GrayImage::from_raw(WIDTH, HEIGHT, pixels()).unwrap().into()
}

/// The grey picture with one pixel in colour, or none.
pub(super) fn rgb(one_in_colour: bool) -> DynamicImage {
    let mut picture: RgbImage = grey().into_rgb8();
    if one_in_colour {
        picture.put_pixel(40, 40, image::Rgb([9, 9, 10]));
    }
    picture.into()
}

pub(super) fn written(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    picture.write_to(&mut file, format).unwrap();
    file.into_inner()
}

/// A PNG with a pHYs chunk.
pub(super) fn png(picture: &DynamicImage, per_metre: (u32, u32)) -> Vec<u8> {
    let mut file = written(picture, ImageFormat::Png);
    let mut chunk = b"pHYs".to_vec();
    chunk.extend(per_metre.0.to_be_bytes());
    chunk.extend(per_metre.1.to_be_bytes());
    chunk.push(1);
    let checksum = crc(&chunk).to_be_bytes();
    // Behind the signature and the header chunk.
    file.splice(33..33, [&[0, 0, 0, 9][..], &chunk, &checksum].concat());
    file
}

/// PNG specification, annex D.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// A BMP with so many pixels a metre.
pub(super) fn bmp(picture: &DynamicImage, per_metre: (u32, u32)) -> Vec<u8> {
    let mut file = written(picture, ImageFormat::Bmp);
    file[38..42].copy_from_slice(&per_metre.0.to_le_bytes());
    file[42..46].copy_from_slice(&per_metre.1.to_le_bytes());
    file
}

/// A grey TIFF of one strip, with a resolution in a unit (1 none, 2 inch, 3 centimetre).
pub(super) fn tiff(is_little: bool, per_unit: (u32, u32), unit: u16) -> Vec<u8> {
    let two = |value: u16| if is_little { value.to_le_bytes() } else { value.to_be_bytes() };
    let four = |value: u32| if is_little { value.to_le_bytes() } else { value.to_be_bytes() };
    let short =
        |tag: u16, value: u16| [&two(tag)[..], &two(3), &four(1), &two(value), &[0, 0]].concat();
    let other = |tag: u16, kind: u16, value: u32| {
        [&two(tag)[..], &two(kind), &four(1), &four(value)].concat()
    };
    let (ratios_at, pixels_at) = (8, 24);
    let directory_at = pixels_at + WIDTH * HEIGHT;
    let entries = [
        other(256, 4, WIDTH),
        other(257, 4, HEIGHT),
        short(258, 8),
        short(259, 1),
        short(262, 1),
        other(273, 4, pixels_at),
        short(277, 1),
        other(278, 4, HEIGHT),
        other(279, 4, WIDTH * HEIGHT),
        other(282, 5, ratios_at),
        other(283, 5, ratios_at + 8),
        short(296, unit),
    ];
    let ratio = |over: u32| [four(over), four(10)].concat();
    let parts = [
        if is_little { b"II".to_vec() } else { b"MM".to_vec() },
        [&two(42)[..], &four(directory_at)].concat(),
        ratio(per_unit.0 * 10),
        ratio(per_unit.1 * 10),
        pixels(),
        two(u16::try_from(entries.len()).unwrap()).to_vec(),
        entries.concat(),
        four(0).to_vec(),
    ];
    parts.concat()
}

/// A TIFF as the image library compresses it.
pub(super) fn plain_tiff(picture: &DynamicImage) -> Vec<u8> {
    written(picture, ImageFormat::Tiff)
}

pub(super) fn wsq() -> Vec<u8> {
    Encoder::default().encode(WIDTH as usize, HEIGHT as usize, &pixels())
}

pub(super) fn wsq_without_resolution() -> Vec<u8> {
    let encoder = Encoder { comment: None, ..Encoder::default() };
    encoder.encode(WIDTH as usize, HEIGHT as usize, &pixels())
}

/// A finger image record.
#[derive(Clone)]
pub(super) struct Record {
    pub is_ansi: bool,
    /// 1 inch, 2 centimetre.
    pub unit: u8,
    pub resolution: (u16, u16),
    pub depth: u8,
    pub compression: u8,
    pub position: u8,
    pub size: (u16, u16),
    pub views: Vec<Vec<u8>>,
}

impl Record {
    pub fn iso(compression: u8, data: Vec<u8>) -> Self {
        Self {
            is_ansi: false,
            unit: 1,
            resolution: (500, 500),
            depth: 8,
            compression,
            position: 2,
            size: (u16::try_from(WIDTH).unwrap(), u16::try_from(HEIGHT).unwrap()),
            views: vec![data],
        }
    }

    pub fn ansi(compression: u8, data: Vec<u8>) -> Self {
        Self { is_ansi: true, ..Self::iso(compression, data) }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let two = |value: u16| value.to_be_bytes();
        let mut views = Vec::new();
        for (number, data) in (1u8..).zip(&self.views) {
            let length = u32::try_from(14 + data.len()).unwrap();
            let count = u8::try_from(self.views.len()).unwrap();
            views.extend(length.to_be_bytes());
            views.extend([self.position, count, number, 80, 0]);
            views.extend([two(self.size.0), two(self.size.1)].concat());
            views.push(0);
            views.extend(data);
        }
        let product: &[u8] = if self.is_ansi { &[0, 15, 0, 1] } else { &[] };
        let length = 32 + product.len() + views.len();
        let mut record = b"FIR\x00010\0".to_vec();
        record.extend(&(length as u64).to_be_bytes()[2..]);
        record.extend(product);
        record.extend([0, 0, 0, 31, 1, self.unit]);
        for side in [self.resolution, self.resolution] {
            record.extend([two(side.0), two(side.1)].concat());
        }
        record.extend([self.depth, self.compression, 0, 0]);
        record.extend(views);
        record
    }
}
