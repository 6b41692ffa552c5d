//! Where the numbers lie: aligned memory, and windows into it.

use zeroize::Zeroize;

/// How many channels are stored together: the count of channels is rounded up to a multiple, and
/// what is added holds zeros. One AVX-512 register, two of AVX2.
pub(super) const LANE: usize = 16;

/// A count of channels as it is stored.
pub(super) const fn padded(channels: usize) -> usize {
    channels.next_multiple_of(LANE)
}

/// Numbers that begin at a cache line, so that no vector load straddles two.
#[derive(Debug, Default)]
pub(super) struct Aligned<T: Zeroize = f32> {
    store: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Zeroize> Drop for Aligned<T> {
    fn drop(&mut self) {
        // What is left in it was made of somebody's face.
        self.store.zeroize();
    }
}

impl<T: Zeroize + Copy + Default> Aligned<T> {
    /// A copy of `numbers`.
    pub(super) fn from_slice(numbers: &[T]) -> Self {
        let mut aligned = Self::default();
        aligned.resize(numbers.len()).copy_from_slice(numbers);
        aligned
    }

    /// Room for `len` numbers, which hold whatever was there before; it keeps its greatest size.
    pub(super) fn resize(&mut self, len: usize) -> &mut [T] {
        if self.len < len {
            self.store.zeroize();
            self.store = vec![T::default(); len + CACHE_LINE / size_of::<T>()];
            let start = self.store.as_ptr().align_offset(CACHE_LINE);
            // Nobody promises that an offset is found; unaligned memory is slower, not wrong.
            self.start = if start < CACHE_LINE { start } else { 0 };
            self.len = len;
        }
        self.store.get_mut(self.start..self.start + len).unwrap_or_default()
    }

    /// All that there is room for.
    pub(super) fn as_slice(&self) -> &[T] {
        self.store.get(self.start..self.start + self.len).unwrap_or_default()
    }
}

/// Bytes that memory moves together.
pub(super) const CACHE_LINE: usize = 64;

/// Height, width and channels of one value of the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Extent {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
}

/// How a value lies in memory: rows of pixels of channels, and a border of zeros as wide as the
/// widest padding of those who read it, so that no reader has to mind the edge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    pub(super) extent: Extent,
    pub(super) border: usize,
    /// Numbers of a pixel: its channels as they are stored.
    pub(super) stored: usize,
    /// Numbers from one pixel to the next: more where the value is a part of a greater one.
    pub(super) pixel: usize,
    /// Where in such a pixel it begins.
    pub(super) first: usize,
}

impl Layout {
    pub(super) const fn row(self) -> usize {
        (self.extent.width + 2 * self.border) * self.pixel
    }

    pub(super) const fn len(self) -> usize {
        (self.extent.height + 2 * self.border) * self.row()
    }

    /// Where the window of the first output pixel begins for a reader with this padding.
    const fn origin(self, padding: [usize; 2]) -> usize {
        let above = (self.border - padding[0]) * self.row();
        above + (self.border - padding[1]) * self.pixel + self.first
    }

    /// The value for a reader with this padding (rows, columns).
    pub(super) fn view(self, numbers: &[f32], padding: [usize; 2]) -> View<'_> {
        let data = numbers.get(self.origin(padding)..self.len()).unwrap_or_default();
        View { data, row: self.row(), pixel: self.pixel, channels: self.stored }
    }

    /// The value for its writer.
    pub(super) fn view_mut(self, numbers: &mut [f32]) -> ViewMut<'_> {
        let data = numbers.get_mut(self.origin([0, 0])..).unwrap_or_default();
        ViewMut { data, row: self.row(), pixel: self.pixel, channels: self.stored }
    }

    /// Sets the border to zero, as far as it is this value's.
    pub(super) fn clear_border(self, numbers: &mut [f32]) {
        if self.border == 0 {
            return;
        }
        let inside = self.border..self.border + self.extent.height;
        for (y, line) in numbers.chunks_exact_mut(self.row()).enumerate() {
            let (left, rest) = line.split_at_mut(self.border * self.pixel);
            let (middle, right) = rest.split_at_mut(self.extent.width * self.pixel);
            self.clear(left);
            self.clear(right);
            if !inside.contains(&y) {
                self.clear(middle);
            }
        }
    }

    fn clear(self, pixels: &mut [f32]) {
        if self.stored == self.pixel {
            return pixels.fill(0.0);
        }
        for pixel in pixels.chunks_exact_mut(self.pixel) {
            pixel.iter_mut().skip(self.first).take(self.stored).for_each(|number| *number = 0.0);
        }
    }
}

/// A value to read; `data` begins at the pixel that the reader counts from.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) data: &'a [f32],
    /// Numbers from one row to the next.
    pub(super) row: usize,
    /// Numbers from one pixel to the next.
    pub(super) pixel: usize,
    /// Numbers of a pixel.
    pub(super) channels: usize,
}

impl View<'_> {
    /// The same, from a later row on.
    pub(super) fn down(self, rows: usize) -> Self {
        Self { data: self.data.get(rows * self.row..).unwrap_or_default(), ..self }
    }
}

/// A value to write.
pub(super) struct ViewMut<'a> {
    pub(super) data: &'a mut [f32],
    pub(super) row: usize,
    pub(super) pixel: usize,
    pub(super) channels: usize,
}

impl ViewMut<'_> {
    /// The same, from a later row on.
    pub(super) fn down(&mut self, rows: usize) -> ViewMut<'_> {
        let data = self.data.get_mut(rows * self.row..).unwrap_or_default();
        ViewMut { data, row: self.row, pixel: self.pixel, channels: self.channels }
    }
}
