//! A thousand people: their codes for the scan, and their rows in full for the few that it picks.

use zeroize::{Zeroize, Zeroizing};

use super::kernels::{Group, LANES, QUAD};
use super::quantise::Coded;

/// Rows of a segment: what is copied, once, when somebody is inserted while a scan is under way.
pub(super) const SEGMENT_ROWS: usize = 1_024;

/// Blocks of a segment.
pub(super) const SEGMENT_BLOCKS: usize = SEGMENT_ROWS / LANES;

/// Up to [`SEGMENT_ROWS`] rows; wiped when dropped, and room that is given up is wiped at once.
///
/// A row costs a byte a number for the scan, four in full, and four and a half for its bound.
#[derive(Clone)]
pub(super) struct Segment<K> {
    width: usize,
    keys: Vec<K>,
    /// By block, then by group of four numbers.
    groups: Vec<Group>,
    bounds: Vec<Bound>,
    /// By row, in full. Of a fixed length, so that it never moves and leaves a copy behind.
    rows: Vec<f32>,
}

/// What the codes of one block's sixteen rows are worth.
#[derive(Clone, Copy)]
pub(super) struct Bound {
    /// What a code's 1 stands for, by row.
    pub scales: [f32; LANES],
    /// The most that any row's code has left out since the block was empty.
    pub error: f32,
    /// The greatest length of any row's code since the block was empty.
    pub norm: f32,
}

impl Bound {
    const EMPTY: Self = Self { scales: [0.0; LANES], error: 0.0, norm: 0.0 };
}

impl<K> Segment<K> {
    /// An empty segment for rows of so many numbers.
    pub(super) fn new(width: usize) -> Self {
        let groups = SEGMENT_BLOCKS * width.div_ceil(QUAD);
        Self {
            width,
            keys: Vec::with_capacity(SEGMENT_ROWS),
            groups: vec![Group::EMPTY; groups],
            bounds: vec![Bound::EMPTY; SEGMENT_BLOCKS],
            rows: vec![0.0; SEGMENT_ROWS * width],
        }
    }

    /// How many are in it.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() == SEGMENT_ROWS
    }

    /// Whose row it is.
    pub(super) fn key(&self, slot: usize) -> Option<&K> {
        self.keys.get(slot)
    }

    /// A row in full.
    pub(super) fn row(&self, slot: usize) -> Option<&[f32]> {
        if slot < self.len() { self.rows.chunks_exact(self.width).nth(slot) } else { None }
    }

    /// The codes of the blocks in use.
    pub(super) fn groups(&self) -> &[Group] {
        let used = self.len().div_ceil(LANES) * self.width.div_ceil(QUAD);
        self.groups.get(..used).unwrap_or(&self.groups)
    }

    /// The bounds of the blocks in use.
    pub(super) fn bounds(&self) -> &[Bound] {
        self.bounds.get(..self.len().div_ceil(LANES)).unwrap_or(&self.bounds)
    }

    /// Adds a row to a segment that is not full.
    pub(super) fn push(&mut self, key: K, row: &[f32]) {
        self.keys.push(key);
        self.write(self.len() - 1, row);
    }

    /// Puts another row into a slot that is in use.
    pub(super) fn replace(&mut self, slot: usize, key: K, row: &[f32]) {
        if let Some(place) = self.keys.get_mut(slot) {
            *place = key;
            self.write(slot, row);
        }
    }

    /// Takes the last row out.
    pub(super) fn pop(&mut self) -> Option<(K, Zeroizing<Vec<f32>>)> {
        let slot = self.len().checked_sub(1)?;
        let row = Zeroizing::new(self.row(slot)?.to_vec());
        self.write(slot, &Zeroizing::new(vec![0.0; self.width]));
        if slot.is_multiple_of(LANES)
            && let Some(bound) = self.bounds.get_mut(slot / LANES)
        {
            *bound = Bound::EMPTY;
        }
        Some((self.keys.pop()?, row))
    }

    fn write(&mut self, slot: usize, row: &[f32]) {
        let coded = Coded::of(row);
        let (block, lane) = (slot / LANES, slot % LANES);
        let quads = self.width.div_ceil(QUAD);
        let groups = self.groups.iter_mut().skip(block * quads);
        for (group, codes) in groups.zip(coded.codes.as_chunks().0) {
            group.set(lane, *codes);
        }
        if let Some(bound) = self.bounds.get_mut(block) {
            if let Some(scale) = bound.scales.get_mut(lane) {
                *scale = coded.fit.scale;
            }
            bound.error = bound.error.max(coded.fit.error);
            bound.norm = bound.norm.max(coded.fit.norm);
        }
        if let Some(place) = self.rows.chunks_exact_mut(self.width).nth(slot) {
            place.copy_from_slice(row);
        }
    }
}

impl<K> Drop for Segment<K> {
    fn drop(&mut self) {
        self.groups.zeroize();
        self.rows.zeroize();
        for bound in &mut self.bounds {
            bound.scales.zeroize();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_that_is_given_up_is_wiped() {
        let mut segment = Segment::new(3);
        let wiped = |segment: &Segment<u8>| {
            let nothing = Coded::of(&[0.0; 3]);
            let mut empty = Group::EMPTY;
            (0..LANES).for_each(|lane| empty.set(lane, nothing.codes.as_chunks().0[0]));
            segment.rows.iter().all(|value| value.to_bits() == 0)
                && segment.groups[0] == empty
                && segment.bounds[0].scales.iter().all(|scale| scale.to_bits() == 0)
                && segment.bounds[0].norm.to_bits() == 0
        };
        (0..LANES).for_each(|_| segment.push(1, &[0.5, -0.5, 0.25]));
        assert!(!wiped(&segment));
        for _ in 0..LANES {
            assert_eq!(*segment.pop().unwrap().1, [0.5, -0.5, 0.25]);
        }
        assert!(wiped(&segment));
        assert!(segment.pop().is_none());
    }
}
