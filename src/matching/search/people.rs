//! All segments: what a scan reads, unmoved, while people come and go.
//!
//! A scan holds an `Arc` of the list. Whoever inserts or removes meanwhile copies the list (eight
//! bytes a thousand people) and the one or two segments that change; nobody waits for anybody. Without
//! a scan under way nothing is shared, and everything is changed in place.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::segment::{SEGMENT_ROWS, Segment};

/// Rows of one width, by position: all segments but the last are full.
pub(super) struct People<K> {
    width: usize,
    segments: Vec<Arc<Segment<K>>>,
}

// Not derived: that would ask for keys that can be cloned, which only a segment's copy needs.
impl<K> Clone for People<K> {
    fn clone(&self) -> Self {
        Self { width: self.width, segments: self.segments.clone() }
    }
}

impl<K> People<K> {
    /// Nobody yet, and rows of so many numbers.
    pub(super) const fn new(width: usize) -> Self {
        Self { width, segments: Vec::new() }
    }

    pub(super) const fn width(&self) -> usize {
        self.width
    }

    /// The segments, in the order of positions.
    pub(super) fn segments(&self) -> &[Arc<Segment<K>>] {
        &self.segments
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        let Some((last, full)) = self.segments.split_last() else { return 0 };
        full.len() * SEGMENT_ROWS + last.len()
    }

    /// Whose row is at a position.
    pub(super) fn key(&self, position: usize) -> Option<&K> {
        self.segments.get(position / SEGMENT_ROWS)?.key(position % SEGMENT_ROWS)
    }
}

impl<K: Clone> People<K> {
    /// Adds a row at the next position.
    pub(super) fn push(&mut self, key: K, row: &[f32]) {
        if self.segments.last().is_none_or(|last| last.is_full()) {
            self.segments.push(Arc::new(Segment::new(self.width)));
        }
        if let Some(last) = self.segments.last_mut() {
            Arc::make_mut(last).push(key, row);
        }
    }

    /// Takes the last row out.
    pub(super) fn pop(&mut self) -> Option<(K, Zeroizing<Vec<f32>>)> {
        let last = Arc::make_mut(self.segments.last_mut()?);
        let popped = last.pop();
        if last.len() == 0 {
            self.segments.pop();
        }
        popped
    }

    /// Puts another row at a position that is in use.
    pub(super) fn replace(&mut self, position: usize, key: K, row: &[f32]) {
        if let Some(segment) = self.segments.get_mut(position / SEGMENT_ROWS) {
            Arc::make_mut(segment).replace(position % SEGMENT_ROWS, key, row);
        }
    }
}
