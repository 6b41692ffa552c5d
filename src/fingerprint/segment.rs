//! Where in a picture a finger lies: ridges make the brightness vary, what is beside them does not.
//!
//! All sums are of whole numbers, so that one picture always has one foreground.

use crate::capture::GreyImage;

/// The part of a picture that shows ridges, in blocks of [`BLOCK_PX`] pixels.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Foreground {
    mask: Mask,
    /// Its smallest upright rectangle, in pixels.
    pub(super) bounds: Area,
    /// How many pixels it has.
    pub(super) pixels: u32,
    /// The area of the largest part that lies beside the largest one, as a share of that one.
    pub(super) second_share: f32,
    /// What is beside it: the median brightness there, white where there is next to nothing.
    pub(super) background: u8,
}

/// An upright rectangle of pixels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Area {
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Foreground {
    /// The foreground of a picture; none where nothing varies as ridges do.
    pub(super) fn find(image: &GreyImage) -> Option<Self> {
        let ridged = ridged(image);
        let mut mask = ridged.closed(GAP_BLOCKS, GAP_BLOCKS).opened(SPECK_BLOCKS);
        mask.fill_holes();
        mask.drop_small_parts();
        Some(Self {
            bounds: mask.bounds(image)?,
            pixels: mask.pixels(image),
            second_share: ridged.closed(0, GAP_ABOVE_BLOCKS).opened(SPECK_BLOCKS).second_share(),
            background: background(image, &mask),
            mask,
        })
    }

    /// Whether a pixel lies on the foreground or within a block of it.
    pub(super) fn is_near(&self, x: usize, y: usize) -> bool {
        let around = |at: usize| (at / BLOCK_PX).saturating_sub(1)..=at / BLOCK_PX + 1;
        around(y).any(|row| around(x).any(|column| self.mask.at(column, row)))
    }
}

/// Which blocks of a picture are meant.
#[derive(Clone, PartialEq, Debug)]
struct Mask {
    columns: usize,
    rows: usize,
    blocks: Vec<bool>,
}

impl Mask {
    /// A mask of the blocks for which `is_in` holds, by column and row.
    fn of(columns: usize, rows: usize, is_in: impl Fn(usize, usize) -> bool) -> Self {
        let blocks = (0..rows).flat_map(|row| (0..columns).map(move |column| (column, row)));
        Self { columns, rows, blocks: blocks.map(|(column, row)| is_in(column, row)).collect() }
    }

    /// Whether a block is meant; none beyond the edge is.
    fn at(&self, column: usize, row: usize) -> bool {
        let inside = column < self.columns && row < self.rows;
        inside && self.blocks.get(row * self.columns + column).copied().unwrap_or(false)
    }

    /// Blocks with a meant one within so many columns and rows, or (`all`) with meant ones only.
    /// Beyond the edge nothing is asked.
    fn spread(&self, columns: usize, rows: usize, all: bool) -> Self {
        let near = |at: usize, radius: usize, end: usize| {
            at.saturating_sub(radius)..(at + radius + 1).min(end)
        };
        Self::of(self.columns, self.rows, |column, row| {
            let mut around = near(row, rows, self.rows)
                .flat_map(|row| near(column, columns, self.columns).map(move |it| (it, row)));
            let differs = around.any(|(column, row)| self.at(column, row) != all);
            differs != all
        })
    }

    /// Without gaps up to twice these radii.
    fn closed(&self, columns: usize, rows: usize) -> Self {
        self.spread(columns, rows, false).spread(columns, rows, true)
    }

    /// Without specks and threads up to twice the radius.
    fn opened(&self, radius: usize) -> Self {
        self.spread(radius, radius, true).spread(radius, radius, false)
    }

    /// The connected parts (over edges) of the blocks that are meant, or that are not.
    fn parts(&self, meant: bool) -> Vec<Vec<usize>> {
        let mut seen = vec![false; self.blocks.len()];
        let mut parts = Vec::new();
        for start in 0..self.blocks.len() {
            let mut part = Vec::new();
            let mut waiting = vec![start];
            while let Some(block) = waiting.pop() {
                let (Some(seen), Some(found)) = (seen.get_mut(block), self.blocks.get(block))
                else {
                    continue;
                };
                if *seen || *found != meant {
                    continue;
                }
                *seen = true;
                part.push(block);
                waiting.extend(self.neighbours(block));
            }
            if !part.is_empty() {
                parts.push(part);
            }
        }
        parts
    }

    fn neighbours(&self, block: usize) -> impl Iterator<Item = usize> {
        let column = block % self.columns;
        [
            (column > 0).then(|| block - 1),
            (column + 1 < self.columns).then_some(block + 1),
            block.checked_sub(self.columns),
            (block + self.columns < self.blocks.len()).then_some(block + self.columns),
        ]
        .into_iter()
        .flatten()
    }

    /// Means what is enclosed, too: a scar or a dry spot is part of the finger.
    fn fill_holes(&mut self) {
        for part in self.parts(false) {
            let is_at_edge = |block: &usize| {
                let (column, row) = (block % self.columns, block / self.columns);
                column == 0 || row == 0 || column + 1 == self.columns || row + 1 == self.rows
            };
            if !part.iter().any(is_at_edge) {
                self.set(&part, true);
            }
        }
    }

    /// Drops parts that are small beside the largest.
    fn drop_small_parts(&mut self) {
        let parts = self.parts(true);
        let largest = parts.iter().map(Vec::len).max().unwrap_or(0);
        for part in parts.iter().filter(|part| part.len() * PART_SHARE_MIN < largest) {
            self.set(part, false);
        }
    }

    /// The largest part that lies to the left or right of the largest one, as a share of that one: two
    /// fingers on a reader lie beside each other, two joints of one above each other.
    fn second_share(&self) -> f32 {
        let mut parts = self.parts(true);
        parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
        let Some((largest, others)) = parts.split_first() else { return 0.0 };
        let (left, right) = self.columns_of(largest);
        let beside = others.iter().find(|part| {
            let (start, end) = self.columns_of(part);
            let shared = (right.min(end) + 1).saturating_sub(left.max(start));
            let narrower = (right - left).min(end - start) + 1;
            shared * SHARED_COLUMNS_MAX <= narrower
        });
        beside.map_or(0.0, |part| share(part.len(), largest.len()))
    }

    /// The first and the last column of a part.
    fn columns_of(&self, part: &[usize]) -> (usize, usize) {
        let columns = || part.iter().map(|block| block % self.columns.max(1));
        (columns().min().unwrap_or(0), columns().max().unwrap_or(0))
    }

    fn set(&mut self, part: &[usize], meant: bool) {
        for block in part {
            if let Some(block) = self.blocks.get_mut(*block) {
                *block = meant;
            }
        }
    }

    fn bounds(&self, image: &GreyImage) -> Option<Area> {
        let meant = || self.blocks.iter().enumerate().filter(|(_, meant)| **meant);
        let columns = || meant().map(|(block, _)| block % self.columns);
        let rows = || meant().map(|(block, _)| block / self.columns);
        let (width, height) = sides(image);
        let span = |first: usize, last: usize, end: usize| {
            let start = first * BLOCK_PX;
            (start, ((last + 1) * BLOCK_PX).min(end) - start)
        };
        let (x, width) = span(columns().min()?, columns().max()?, width);
        let (y, height) = span(rows().min()?, rows().max()?, height);
        Some(Area { x, y, width, height })
    }

    fn pixels(&self, image: &GreyImage) -> u32 {
        let (width, height) = sides(image);
        let length = |at: usize, end: usize| ((at + 1) * BLOCK_PX).min(end) - at * BLOCK_PX;
        let blocks = self.blocks.iter().enumerate().filter(|(_, meant)| **meant);
        let pixels: usize = blocks
            .map(|(block, _)| {
                length(block % self.columns, width) * length(block / self.columns, height)
            })
            .sum();
        u32::try_from(pixels).unwrap_or(u32::MAX)
    }
}

/// Number, sum and sum of squares of the brightness of some pixels.
#[derive(Clone, Copy, Default)]
pub(super) struct Moments {
    count: u64,
    sum: u64,
    squares: u64,
}

impl Moments {
    /// Those of a picture's pixels in an area.
    pub(super) fn of(image: &GreyImage, area: Area) -> Self {
        let (width, _) = sides(image);
        let lines = image.pixels().chunks_exact(width.max(1)).skip(area.y).take(area.height);
        let pixels = lines.flat_map(|line| line.iter().skip(area.x).take(area.width));
        pixels.fold(Self::default(), |moments, pixel| moments.with(*pixel))
    }

    /// The mean brightness.
    #[expect(clippy::cast_precision_loss, reason = "sums over a few million pixels")]
    pub(super) fn mean(self) -> f32 {
        self.sum as f32 / self.count.max(1) as f32
    }

    /// The standard deviation of the brightness.
    #[expect(clippy::cast_precision_loss, reason = "a variance is under 2^14")]
    pub(super) fn deviation(self) -> f32 {
        (self.variance() as f32).sqrt()
    }

    fn with(self, pixel: u8) -> Self {
        let pixel = u64::from(pixel);
        self.plus(Self { count: 1, sum: pixel, squares: pixel * pixel })
    }

    fn plus(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            sum: self.sum + other.sum,
            squares: self.squares + other.squares,
        }
    }

    /// The variance of the brightness, rounded down. Of up to 4,096² pixels, the sums fit.
    fn variance(self) -> u64 {
        let count = self.count.max(1);
        (self.squares * count).saturating_sub(self.sum * self.sum) / (count * count)
    }
}

/// The blocks about which the brightness varies as it does between ridges and valleys.
fn ridged(image: &GreyImage) -> Mask {
    let (width, height) = sides(image);
    let (columns, rows) = (width.div_ceil(BLOCK_PX), height.div_ceil(BLOCK_PX));
    let mut blocks = vec![Moments::default(); columns * rows];
    for (y, line) in image.pixels().chunks_exact(width.max(1)).enumerate() {
        let row = blocks.iter_mut().skip(y / BLOCK_PX * columns);
        for (block, pixels) in row.zip(line.chunks(BLOCK_PX)) {
            *block = pixels.iter().fold(*block, |moments, pixel| moments.with(*pixel));
        }
    }
    let at = |column: usize, row: usize| blocks.get(row * columns + column).copied();
    let near = |at: usize, end: usize| at.saturating_sub(1)..(at + 2).min(end);
    let variance = |column: usize, row: usize| {
        let around =
            near(row, rows).flat_map(|row| near(column, columns).map(move |column| (column, row)));
        let moments = around.filter_map(|(column, row)| at(column, row));
        moments.fold(Moments::default(), Moments::plus).variance()
    };
    let variances: Vec<u64> = (0..rows)
        .flat_map(|row| (0..columns).map(move |column| (column, row)))
        .map(|(column, row)| variance(column, row))
        .collect();
    let strong = quantile(variances.clone(), STRONG_PERCENT);
    let bar = (strong / STRONG_SHARE).max(VARIANCE_MIN);
    Mask::of(columns, rows, |column, row| {
        variances.get(row * columns + column).is_some_and(|variance| *variance >= bar)
    })
}

fn quantile(mut values: Vec<u64>, percent: usize) -> u64 {
    values.sort_unstable();
    values.get(values.len() * percent / 100).copied().unwrap_or(0)
}

/// The median brightness beside a mask.
fn background(image: &GreyImage, mask: &Mask) -> u8 {
    let (width, _) = sides(image);
    let mut counts = [0usize; 256];
    for (at, pixel) in image.pixels().iter().enumerate() {
        let (x, y) = (at % width.max(1), at / width.max(1));
        if !mask.at(x / BLOCK_PX, y / BLOCK_PX)
            && let Some(count) = counts.get_mut(usize::from(*pixel))
        {
            *count += 1;
        }
    }
    let total: usize = counts.iter().sum();
    if total * BACKGROUND_SHARE_MIN < image.pixels().len() {
        return u8::MAX;
    }
    let mut below = 0;
    let median = counts.iter().position(|count| {
        below += count;
        below * 2 >= total
    });
    median.and_then(|grey| u8::try_from(grey).ok()).unwrap_or(u8::MAX)
}

pub(super) fn sides(image: &GreyImage) -> (usize, usize) {
    let side = |length: u32| usize::try_from(length).unwrap_or(usize::MAX);
    (side(image.width()), side(image.height()))
}

#[expect(clippy::cast_precision_loss, reason = "a share of some thousand blocks")]
fn share(part: usize, whole: usize) -> f32 {
    part as f32 / whole.max(1) as f32
}

/// About one ridge and its valley at 500 pixels an inch.
const BLOCK_PX: usize = 8;

/// The variance that ridges have at least, over 24 pixels square: a deviation of 8 grey levels, over
/// what sensors' noise and JPEG leave.
const VARIANCE_MIN: u64 = 64;

/// A block's variance is compared with that of strong ridges, those of this percentile …
const STRONG_PERCENT: usize = 90;

/// … and must reach this part of it (a third of their deviation).
const STRONG_SHARE: u64 = 9;

/// Gaps up to 32 pixels are bridged: creases, scars, the joint's fold.
const GAP_BLOCKS: usize = 2;

/// Where two fingers are to be told apart, gaps up to 96 pixels are bridged above each other, and none
/// beside each other.
const GAP_ABOVE_BLOCKS: usize = 6;

/// Specks and threads up to 32 pixels are dropped: dust, the edge of the glass, writing.
const SPECK_BLOCKS: usize = 2;

/// Parts lie beside each other when they share at most this fraction of the narrower one's columns.
const SHARED_COLUMNS_MAX: usize = 4;

/// A part under this fraction of the largest is dropped.
const PART_SHARE_MIN: usize = 16;

/// With less than this fraction of the picture beside the finger, the background is not known.
const BACKGROUND_SHARE_MIN: usize = 64;

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    reason = "pictures drawn by hand, and numbers that are exact"
)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drawn(width: usize, height: usize, grey: impl Fn(usize, usize) -> u8) -> GreyImage {
        let pixels = (0..width * height).map(|at| grey(at % width, at / width)).collect();
        GreyImage::from_pixels(width as u32, height as u32, 500, pixels).unwrap()
    }

    /// Ridges of eight pixels.
    fn ridge(y: usize) -> u8 {
        if y % 8 < 4 { 40 } else { 200 }
    }

    #[test]
    fn ridges_are_foreground_and_what_is_even_is_not() {
        let inside = |x: usize, y: usize| (80..240).contains(&x) && (64..304).contains(&y);
        let image = drawn(320, 400, |x, y| if inside(x, y) { ridge(y) } else { 231 });
        let found = Foreground::find(&image).unwrap();
        let Area { x, y, width, height } = found.bounds;
        // To a block or two: a block counts with its neighbours.
        assert!((64..=80).contains(&x) && (240..=256).contains(&(x + width)), "{found:?}");
        assert!((48..=64).contains(&y) && (304..=320).contains(&(y + height)), "{found:?}");
        assert_eq!((found.background, found.second_share), (231, 0.0));
        assert!(found.is_near(160, 200) && !found.is_near(20, 200) && !found.is_near(160, 390));
        assert!((38_400..50_000).contains(&found.pixels), "{}", found.pixels);
        assert_eq!(Foreground::find(&drawn(320, 400, |x, _| (x / 4) as u8)), None);
    }

    #[test]
    fn a_hole_belongs_to_the_finger_and_a_speck_does_not() {
        let hole = |x: usize, y: usize| (130..190).contains(&x) && (150..210).contains(&y);
        let speck = |x: usize, y: usize| x >= 312 && y >= 392;
        let inside = |x: usize, y: usize| (80..240).contains(&x) && (64..304).contains(&y);
        let image = drawn(330, 410, |x, y| {
            let ridged = (inside(x, y) && !hole(x, y)) || speck(x, y);
            if ridged { ridge(y) } else { 255 }
        });
        let found = Foreground::find(&image).unwrap();
        assert!(found.is_near(160, 180) && !found.is_near(329, 409));
        assert!(found.bounds.x + found.bounds.width <= 256, "{found:?}");
    }

    #[test]
    fn parts_beside_each_other_are_two_fingers_and_parts_above_each_other_one() {
        let beside = |gap: usize| {
            drawn(340 + gap, 300, |x, y| {
                let ridged = (20..160).contains(&x) || (160 + gap..300 + gap).contains(&x);
                if ridged && (40..260).contains(&y) { ridge(y) } else { 255 }
            })
        };
        for gap in [32, 64, 128] {
            let share = Foreground::find(&beside(gap)).unwrap().second_share;
            assert!(share > 0.9, "{gap}: {share}");
        }
        for gap in [24, 64, 128] {
            let above = drawn(240, 400, |x, y| {
                let ridged = (20..180).contains(&y) || (180 + gap..260 + gap).contains(&y);
                if ridged && (40..200).contains(&x) { ridge(y) } else { 255 }
            });
            assert_eq!(Foreground::find(&above).unwrap().second_share, 0.0, "{gap}");
        }
    }

    #[test]
    fn moments_are_those_of_the_area() {
        let image = drawn(10, 10, |x, y| if x < 5 { 0 } else { 10 * u8::try_from(y % 2).unwrap() });
        let moments = Moments::of(&image, Area { x: 5, y: 2, width: 5, height: 8 });
        assert_eq!((moments.mean(), moments.deviation()), (5.0, 5.0));
        assert_eq!(Moments::default().mean(), 0.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_foreground_lies_within_any_picture(
            (width, pixels) in (1usize..70).prop_flat_map(|width| {
                let rows = 1usize..70;
                (Just(width), rows.prop_flat_map(move |rows| prop::collection::vec(any::<u8>(), width * rows)))
            }),
        ) {
            let height = pixels.len() / width;
            let image = GreyImage::from_pixels(width as u32, height as u32, 500, pixels).unwrap();
            if let Some(found) = Foreground::find(&image) {
                let Area { x, y, width: across, height: down } = found.bounds;
                prop_assert!(across > 0 && down > 0 && x + across <= width && y + down <= height);
                prop_assert!(found.pixels as usize <= width * height);
                prop_assert!(found.second_share <= 1.0);
            }
        }
    }
}
