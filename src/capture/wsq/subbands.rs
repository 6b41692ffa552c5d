//! The 64 subbands of a WSQ picture: where each lies, and which splits made them.
//!
//! A split filters a region into a low and a high half both ways. The halves lie in the order of
//! their frequency: in a region that is itself a high half the two change places, since taking every
//! other sample has mirrored its spectrum (IAFIS-IC-0110, figure of the 64-band decomposition).

/// A rectangle of the plane of coefficients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Region {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
}

/// A region that was split both ways.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Split {
    pub region: Region,
    /// The high half of its columns lies left.
    pub high_left: bool,
    /// The high half of its rows lies above.
    pub high_above: bool,
}

/// All subbands in the order of the file, and the splits from the whole picture inwards.
pub(super) struct Subbands {
    pub regions: Vec<Region>,
    pub splits: Vec<Split>,
}

/// The subbands that are never sent: the highest frequencies in both directions.
pub(super) const UNSENT: std::ops::Range<usize> = 60..64;

/// How often a region is split on.
#[derive(Clone, Copy)]
enum Shape {
    /// The picture.
    Whole,
    /// Its low quarter.
    Low,
    /// The low quarter of that.
    LowLow,
    /// The low quarter of that.
    LowLowLow,
    /// Into sixteen.
    Twice,
    /// Into four.
    Once,
    /// Into four that are numbered and not sent: the standard leaves this quarter unfiltered.
    Unsent,
    /// Not at all: a subband.
    Leaf,
}

impl Shape {
    /// Of the quarters upper left, upper right, lower left, lower right.
    const fn quarters(self) -> [Self; 4] {
        match self {
            Self::Whole => [Self::Low, Self::Once, Self::Once, Self::Unsent],
            Self::Low => [Self::LowLow, Self::Twice, Self::Twice, Self::Leaf],
            Self::LowLow => [Self::LowLowLow, Self::Once, Self::Once, Self::Once],
            Self::LowLowLow => [Self::Once, Self::Leaf, Self::Leaf, Self::Leaf],
            Self::Twice => [Self::Once; 4],
            Self::Once | Self::Unsent | Self::Leaf => [Self::Leaf; 4],
        }
    }
}

impl Subbands {
    /// Those of a picture of this size.
    pub fn of(width: usize, height: usize) -> Self {
        let mut subbands =
            Self { regions: Vec::with_capacity(UNSENT.end), splits: Vec::with_capacity(20) };
        let region = Region { x: 0, y: 0, width, height };
        subbands.grow(Split { region, high_left: false, high_above: false }, Shape::Whole);
        subbands
    }

    fn grow(&mut self, split: Split, shape: Shape) {
        match shape {
            Shape::Leaf => return self.regions.push(split.region),
            Shape::Unsent => {}
            _ => self.splits.push(split),
        }
        for (quarter, shape) in split.quarters().into_iter().zip(shape.quarters()) {
            self.grow(quarter, shape);
        }
    }
}

impl Split {
    fn quarters(self) -> [Self; 4] {
        let Region { x, y, width, height } = self.region;
        let left = first_half(width, self.high_left);
        let above = first_half(height, self.high_above);
        let quarter = |is_right: bool, is_below: bool| {
            let (x, width) = if is_right { (x + left, width - left) } else { (x, left) };
            let (y, height) = if is_below { (y + above, height - above) } else { (y, above) };
            let region = Region { x, y, width, height };
            Self { region, high_left: is_right, high_above: is_below }
        };
        [quarter(false, false), quarter(true, false), quarter(false, true), quarter(true, true)]
    }
}

/// Of an odd length the low half has one more.
const fn first_half(length: usize, high_first: bool) -> usize {
    if high_first { length / 2 } else { length.div_ceil(2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subbands_tile_the_picture_whatever_its_size() {
        for (width, height) in [(32, 32), (33, 47), (300, 300), (301, 299), (545, 622)] {
            let Subbands { regions, splits } = Subbands::of(width, height);
            assert_eq!((regions.len(), splits.len()), (64, 20));
            let mut covered = vec![0u8; width * height];
            for Region { x, y, width: across, height: down } in regions {
                assert!(across > 0 && down > 0, "{width}x{height}");
                for row in y..y + down {
                    for column in x..x + across {
                        covered[row * width + column] += 1;
                    }
                }
            }
            assert!(covered.iter().all(|count| *count == 1), "{width}x{height}");
        }
    }

    #[test]
    fn a_high_half_is_split_with_its_high_half_first() {
        let Subbands { regions, .. } = Subbands::of(101, 64);
        // 101 columns are 51 low and 50 high; those 50 are 25 high and 25 low.
        assert_eq!(regions[52], Region { x: 51, y: 0, width: 25, height: 16 });
        // The 51 are 26 and 25; the 25 are mirrored: 12 high, then 13 low.
        assert_eq!(regions[19].x, 26);
        assert_eq!(regions[19].width + regions[20].width, 12);
    }
}
