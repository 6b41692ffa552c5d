//! What the cameras of the demonstration see: public photographs, and nonsense.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::capture::{DecodeLimits, DecodedImage, EncodedImage, decode, encode_png};

/// The photographs, as files.
pub(super) struct Album {
    pub obama: Vec<u8>,
    pub obama2: Vec<u8>,
    pub obama3: Vec<u8>,
    pub biden: Vec<u8>,
    pub astronaut: Vec<u8>,
}

impl Album {
    pub fn read(dir: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read(&path).with_context(|| {
                format!(
                    "{} cannot be read; run this in the project's folder or give --photographs",
                    path.display()
                )
            })
        };
        Ok(Self {
            obama: read("obama.jpg")?,
            obama2: read("obama2.jpg")?,
            obama3: read("obama3.jpg")?,
            biden: read("biden.jpg")?,
            astronaut: read("astronaut.png")?,
        })
    }
}

/// A picture of a wall: soft shades and nobody.
pub(super) fn wall() -> Result<Vec<u8>> {
    let (width, height) = (640_u32, 480_u32);
    let shade = |x: u32, y: u32| u8::try_from(90 + (x + y) % 128 / 2).unwrap_or(128);
    let rgb = (0..height).flat_map(|y| (0..width).flat_map(move |x| [shade(x, y); 3])).collect();
    let wall = DecodedImage::from_rgb(width, height, rgb).context("the wall")?;
    encode_png(&wall).context("the wall cannot be encoded")
}

/// Two photographs in one picture, each cropped to the same height.
pub(super) fn side_by_side(left: &[u8], right: &[u8]) -> Result<Vec<u8>> {
    let limits = DecodeLimits::default();
    let left = decode(&EncodedImage::new(left.to_vec()), &limits)?;
    let right = decode(&EncodedImage::new(right.to_vec()), &limits)?;
    let height = left.height().min(right.height());
    let row = |picture: &DecodedImage, y: u32| -> Vec<u8> {
        let bytes = usize::try_from(picture.width()).unwrap_or(0) * 3;
        let mut rows = picture.rgb().chunks_exact(bytes.max(1));
        rows.nth(usize::try_from(y).unwrap_or(0)).unwrap_or_default().to_vec()
    };
    let rgb = (0..height).flat_map(|y| [row(&left, y), row(&right, y)].concat()).collect();
    let width = left.width() + right.width();
    let couple = DecodedImage::from_rgb(width, height, rgb).context("the couple")?;
    encode_png(&couple).context("the couple cannot be encoded")
}

/// The first bytes of a JPEG that claims 20,000×20,000 pixels.
pub(super) fn bomb() -> Vec<u8> {
    let side = 20_000_u16.to_be_bytes();
    let mut file = vec![0xff, 0xd8, 0xff, 0xc0, 0x00, 0x11, 0x08];
    file.extend(side);
    file.extend(side);
    file.extend([3, 1, 0x22, 0, 2, 0x11, 0, 3, 0x11, 0, 0xff, 0xd9]);
    file
}
