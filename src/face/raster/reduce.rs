//! A large picture, made smaller once for everything that only looks for faces.

use std::borrow::Cow;

use zeroize::Zeroizing;

use super::size;
use super::wide::{self, Wide};
use crate::capture::DecodedImage;

/// A picture no more than a detector needs, and how many times smaller it is.
pub(in crate::face) struct Reduced<'a> {
    image: Cow<'a, DecodedImage>,
    factor: usize,
}

impl<'a> Reduced<'a> {
    /// Each block of whole pixels becomes their mean, as long as the longer side keeps twice the
    /// detector's finest input; smaller pictures stay as they are.
    pub fn of(image: &'a DecodedImage, side_px: usize) -> Self {
        let (width, height) = size(image);
        let factor = (width.max(height) / (2 * side_px.max(1)))
            .min(FACTOR_MAX)
            .min(width.min(height))
            .max(1);
        let reduced = if factor > 1 { shrunk(image, factor) } else { None };
        match reduced {
            Some(reduced) => Self { image: Cow::Owned(reduced), factor },
            None => Self { image: Cow::Borrowed(image), factor: 1 },
        }
    }

    pub fn image(&self) -> &DecodedImage {
        &self.image
    }

    /// By how much its points are to be multiplied to be the picture's.
    pub fn factor(&self) -> f32 {
        self.factor as f32
    }
}

/// The greatest factor that [`shrunk`] knows; sums of so many bytes squared fit their integers.
const FACTOR_MAX: usize = 16;

/// Means of blocks of `factor` by `factor` pixels; what is left over at the edges is left out.
fn shrunk(image: &DecodedImage, factor: usize) -> Option<DecodedImage> {
    macro_rules! by {
        ($($factor:literal)*) => { match factor {
            $($factor => wide::run(Means::<$factor>(image)),)*
            _ => None,
        } };
    }
    by!(2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
}

/// The same, with a factor that the compiler knows.
struct Means<'a, const FACTOR: usize>(&'a DecodedImage);

impl<const FACTOR: usize> Wide for Means<'_, FACTOR> {
    type Output = Option<DecodedImage>;

    #[inline(always)]
    fn run(self) -> Option<DecodedImage> {
        let Self(image) = self;
        let (full_width, full_height) = size(image);
        let (width, height) = (full_width / FACTOR, full_height / FACTOR);
        let (stride, length) = (full_width * 3, width * FACTOR * 3);
        let area = (FACTOR * FACTOR) as u32;
        let mut rgb = vec![0; width * height * 3];
        // Rows first, in long even runs.
        let mut sums = Zeroizing::new(vec![0u16; length]);
        for (row, to) in rgb.chunks_exact_mut(width * 3).enumerate() {
            let mut rows: [&[u8]; FACTOR] = [&[]; FACTOR];
            for (at, pixels) in rows.iter_mut().enumerate() {
                *pixels = &image.rgb()[(row * FACTOR + at) * stride..][..length];
            }
            for (at, sum) in sums.iter_mut().enumerate() {
                *sum = rows.iter().map(|pixels| u16::from(pixels[at])).sum();
            }
            for (to, block) in
                to.as_chunks_mut::<3>().0.iter_mut().zip(sums.chunks_exact(3 * FACTOR))
            {
                for (channel, to) in to.iter_mut().enumerate() {
                    let total: u32 = (0..FACTOR).map(|at| u32::from(block[3 * at + channel])).sum();
                    *to = ((total + area / 2) / area) as u8;
                }
            }
        }
        DecodedImage::from_rgb(width as u32, height as u32, rgb)
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "small whole numbers are exact")]
mod tests {
    use super::super::tests::{image, noise};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_factor_makes_means_of_its_blocks(
            factor in 2..=FACTOR_MAX, width in 16u32..70, height in 16u32..40, seed in any::<u32>(),
        ) {
            let picture = image(width, height, |x, y| noise(x, y, seed));
            let small = shrunk(&picture, factor).unwrap();
            let step = factor as u32;
            prop_assert_eq!([small.width(), small.height()], [width / step, height / step]);
            for (at, mean) in small.rgb().iter().enumerate() {
                let (pixel, channel) = (at as u32 / 3, at % 3);
                let [x, y] = [pixel % small.width(), pixel / small.width()].map(|place| place * step);
                let block = (y..y + step).flat_map(|y| (x..x + step).map(move |x| (x, y)));
                let total: u32 = block.map(|(x, y)| u32::from(noise(x, y, seed)[channel])).sum();
                prop_assert_eq!(u32::from(*mean), (total + step * step / 2) / (step * step));
            }
        }
    }

    #[test]
    fn wide_registers_change_nothing() {
        let picture = image(133, 61, |x, y| noise(x, y, 0x9e37_79b9));
        let rgb = |reduced: Option<DecodedImage>| reduced.unwrap().rgb().to_vec();
        assert_eq!(rgb(Means::<3>(&picture).run()), rgb(wide::run(Means::<3>(&picture))));
        assert_eq!(rgb(Means::<16>(&picture).run()), rgb(wide::run(Means::<16>(&picture))));
    }

    #[test]
    fn a_large_picture_becomes_means_of_blocks_and_a_small_one_stays() {
        let large = image(41, 23, |x, y| [x as u8, y as u8, 200]);
        let reduced = Reduced::of(&large, 7);
        assert_eq!(reduced.factor(), 2.0);
        assert_eq!((reduced.image().width(), reduced.image().height()), (20, 11));
        // Columns 2 and 3, rows 0 and 1: means of a half are rounded up.
        assert_eq!(reduced.image().rgb()[3..6], [3, 1, 200]);
        let same = Reduced::of(&large, 11);
        assert_eq!((same.factor(), same.image().rgb()), (1.0, large.rgb()));
    }

    #[test]
    fn the_longest_picture_and_the_brightest_fit() {
        let long = image(4_000, 3, |_, _| [255; 3]);
        let reduced = Reduced::of(&long, 10);
        assert_eq!((reduced.image().width(), reduced.image().height()), (1_333, 1));
        assert!(reduced.image().rgb().iter().all(|value| *value == 255));
        let wide = image(4_000, 40, |_, _| [255; 3]);
        assert_eq!(Reduced::of(&wide, 10).factor(), 16.0);
        assert!(Reduced::of(&wide, 10).image().rgb().iter().all(|value| *value == 255));
    }
}
