//! Synthetic fingers: prints and minutiae of nobody.
//!
//! A seed decides a finger, a seed and a number one impression of it, bit for bit on every machine
//! whose `f32` is that of IEEE 754: chance is whole numbers, and functions that a system's library
//! may round in its own way are made here (`math`). Another version of this program may draw
//! other fingers.
//!
//! For fixtures, the demonstration and load tests. They look and behave like prints; error rates on
//! them say nothing about people.

mod field;
mod growth;
mod impression;
mod math;
mod minutiae;
mod pattern;
mod resample;
mod rng;
mod skin;

use crate::capture::GreyImage;
use crate::domain::finger::PIXELS_PER_INCH;

use field::Field;
use impression::{IMPRESSION_PX, Press};
use math::to_i16;
use pattern::{FINGER_PX, Pattern};
use rng::Rng;

pub use minutiae::minutiae;
pub use pattern::PatternClass;

/// The seed of the finger of this number among those that `seed` stands for.
#[must_use]
pub fn finger_seed(seed: u64, number: u64) -> u64 {
    Rng::new(seed).fork(number).bits()
}

/// A finger that nobody has.
pub struct Finger {
    pattern: Pattern,
    /// Planes of [`FINGER_PX`]: the ridges, and what else is on the skin, in parts of a full ridge.
    ridges: Vec<i16>,
    pores: Vec<i16>,
    rough: Vec<i16>,
    creases: Vec<i16>,
    impressions: Rng,
}

impl Finger {
    /// The finger of this seed. It takes some tenths of a second to grow.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let rng = Rng::new(seed);
        let pattern = Pattern::new(&mut rng.fork(PATTERN));
        let ridges = growth::grow(&pattern, &mut rng.fork(RIDGES));
        let chance = &mut rng.fork(SKIN);
        let [width, height] = FINGER_PX;
        let rough = Field::new(chance, width / 4, height / 4).spread(width, height);
        let rough = rough.into_iter().map(|it| to_i16(it * f32::from(growth::FULL))).collect();
        let pores = skin::pores(&ridges, chance);
        Self {
            pattern,
            pores,
            rough,
            creases: skin::creases(chance),
            ridges,
            impressions: rng.fork(IMPRESSIONS),
        }
    }

    /// Its class.
    #[must_use]
    pub fn class(&self) -> PatternClass {
        self.pattern.class()
    }

    /// Its impression of this number: 320 by 416 pixels at 500 an inch.
    #[must_use]
    pub fn impression(&self, number: u64) -> GreyImage {
        picture(Press::new(self, number).picture(self), IMPRESSION_PX, PIXELS_PER_INCH)
    }

    /// The same impression as a sensor of `pixels_per_inch` would see it: 250 to 1000, or the
    /// nearest of these.
    #[must_use]
    pub fn impression_at(&self, number: u64, pixels_per_inch: u16) -> GreyImage {
        let pixels_per_inch = pixels_per_inch.clamp(PIXELS_PER_INCH / 2, PIXELS_PER_INCH * 2);
        if pixels_per_inch == PIXELS_PER_INCH {
            return self.impression(number);
        }
        let pixels = Press::new(self, number).picture(self);
        let factor = f32::from(pixels_per_inch) / f32::from(PIXELS_PER_INCH);
        let (pixels, size) = resample::resampled(&pixels, IMPRESSION_PX, factor);
        picture(pixels, size, pixels_per_inch)
    }
}

#[expect(
    clippy::expect_used,
    reason = "its callers have just made as many pixels as the size says"
)]
fn picture(pixels: Vec<u8>, size: [usize; 2], pixels_per_inch: u16) -> GreyImage {
    let [width, height] = size.map(|side| u32::try_from(side).unwrap_or(u32::MAX));
    GreyImage::from_pixels(width, height, pixels_per_inch, pixels).expect("pixels fill the picture")
}

const PATTERN: u64 = 1;
const RIDGES: u64 = 2;
const SKIN: u64 = 3;
const IMPRESSIONS: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sha256;

    /// Another hash means other pictures for every seed: fixtures and figures made with them change.
    #[test]
    fn a_seed_gives_the_same_picture_on_every_machine() {
        let finger = Finger::new(finger_seed(1, 1));
        let hash = |picture: &GreyImage| sha256(picture.pixels()).hex();
        let picture = finger.impression(1);
        assert_eq!(
            hash(&picture),
            "ae7b2686212866f1dcf8e56e399b60019ae18b7d3f36ff050f78e0b93f3a1dac"
        );
        assert_eq!(
            hash(&finger.impression_at(2, 1000)),
            "29a6eaf8888843be7878e1a11c4c3594322affe24adb1e738aebd4a3ef7c75e7"
        );
        assert_eq!(hash(&Finger::new(finger_seed(1, 1)).impression(1)), hash(&picture));
        assert_ne!(hash(&finger.impression(2)), hash(&picture));
    }

    #[test]
    fn a_print_is_dark_ridges_in_the_middle_of_a_bright_picture() {
        let finger = Finger::new(7);
        let picture = finger.impression(3);
        assert_eq!((picture.width(), picture.height(), picture.pixels_per_inch()), (320, 416, 500));
        let rows: Vec<&[u8]> = picture.pixels().chunks(320).collect();
        let corner = rows[..20].iter().flat_map(|row| &row[..20]);
        assert!(corner.clone().all(|pixel| *pixel > 180), "{:?}", corner.min());
        // Along a line through the middle, ridges are about nine pixels apart.
        let crossings = |line: Vec<u8>| {
            let dark: Vec<bool> = line.iter().map(|pixel| *pixel < 140).collect();
            dark.windows(2).filter(|two| two[0] != two[1]).count()
        };
        let down = crossings(rows[110..310].iter().map(|row| row[160]).collect());
        let across = crossings(rows[208][60..260].to_vec());
        assert!((20..=60).contains(&down.max(across)), "{down} {across}");
        let sharper = finger.impression_at(3, 1000);
        assert_eq!(
            (sharper.width(), sharper.height(), sharper.pixels_per_inch()),
            (640, 832, 1000)
        );
        assert_eq!(finger.impression_at(3, 100).pixels_per_inch(), 250);
    }

    #[test]
    fn classes_are_as_frequent_as_among_people() {
        let count = |class| {
            let classes = (0..2000).map(|number| {
                Pattern::new(&mut Rng::new(finger_seed(5, number)).fork(PATTERN)).class()
            });
            classes.filter(|found| *found == class).count()
        };
        assert!((600..750).contains(&count(PatternClass::LeftLoop)));
        assert!((500..640).contains(&count(PatternClass::Whorl)));
        assert!((40..100).contains(&count(PatternClass::Arch)));
    }
}
