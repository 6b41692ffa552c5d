//! Puts the subbands together to the picture: the inverse of the wavelet transform.
//!
//! With N samples x, low half l and high half h of a line, and filters g and f:
//! `x[n] = Σ l[k]·g[n − 2k + o] + Σ h[k]·f[n − 2k + p]`, where o and p put the filters' middles over
//! the even and the odd samples. Lines go on behind their ends as their mirror image; for filters of
//! even length the high half changes its sign there.

use zeroize::Zeroizing;

use super::subbands::{Region, Split};
use super::tables::{Filters, TAPS_MAX};

/// Replaces the subbands in `plane`, whose rows are `stride` long, by the picture. `splits` is in the
/// order from the picture inwards.
pub(super) fn synthesise(plane: &mut [f32], stride: usize, splits: &[Split], filters: &Filters) {
    let mut between = Zeroizing::new(vec![0.0; plane.len()]);
    for split in splits.iter().rev() {
        let region = split.region;
        let columns = Line::new(region.height, split.high_above, filters);
        join_columns(plane, stride, region, &columns, &mut between);
        let rows = Line::new(region.width, split.high_left, filters);
        join_rows(&between, plane, stride, region, &rows, filters);
    }
}

/// How the lines of one direction of a split are made of their halves.
struct Line<'a> {
    low: Half<'a>,
    high: Half<'a>,
}

/// One half of a line, its filter, and how it goes on behind its ends.
#[derive(Clone, Copy)]
struct Half<'a> {
    filter: &'a [f32],
    /// What is added to n − 2k to find the filter's tap.
    offset: usize,
    /// Where in the line it begins.
    start: usize,
    length: usize,
    /// k and this minus k are one before the beginning.
    mirror_before: isize,
    /// k and this minus k are one behind the end.
    mirror_behind: isize,
    /// The sign of the mirror image.
    sign: f32,
}

impl<'a> Line<'a> {
    fn new(length: usize, high_first: bool, filters: &'a Filters) -> Self {
        let (low_length, high_length) = (length.div_ceil(2), length / 2);
        let last = length.cast_signed() - 1;
        let is_even = filters.low.len().is_multiple_of(2);
        let low = Half {
            filter: &filters.low,
            offset: (filters.low.len() - 1) / 2,
            start: if high_first { high_length } else { 0 },
            length: low_length,
            mirror_before: if is_even { -1 } else { 0 },
            mirror_behind: last,
            sign: 1.0,
        };
        let high = Half {
            filter: &filters.high,
            // Over the odd samples, where there is a middle.
            offset: (filters.high.len() - 1) / 2 - usize::from(!is_even),
            start: if high_first { 0 } else { low_length },
            length: high_length,
            mirror_before: -1,
            mirror_behind: if is_even { last } else { last - 1 },
            sign: if is_even { -1.0 } else { 1.0 },
        };
        Self { low, high }
    }
}

impl Half<'_> {
    /// The place within this half that stands for k, and its sign; none for a value that is zero.
    fn mirrored(&self, k: isize) -> Option<(usize, f32)> {
        if self.length == 1 && self.sign > 0.0 {
            return Some((0, 1.0));
        }
        let (mut k, mut sign) = (k, 1.0);
        // Each turn comes nearer by the line's length; the filter is no longer than this many.
        for _ in 0..=2 * TAPS_MAX {
            let mirror = if k < 0 {
                self.mirror_before
            } else if k >= self.length.cast_signed() {
                self.mirror_behind
            } else {
                return Some((k.cast_unsigned(), sign));
            };
            if mirror - k == k {
                return None;
            }
            k = mirror - k;
            sign *= self.sign;
        }
        None
    }

    /// The taps that make the samples n of one parity, each with k − (n / 2).
    fn taps(&self, parity: usize) -> impl Iterator<Item = (f32, isize)> {
        let first = (parity + self.offset) % 2;
        let centre = (parity + self.offset).cast_signed();
        let taps = self.filter.iter().enumerate().skip(first).step_by(2);
        taps.map(move |(tap, factor)| (*factor, (centre - tap.cast_signed()) / 2))
    }
}

/// Joins the halves of each column of `region` and leaves them in `into`, rows packed.
fn join_columns(plane: &[f32], stride: usize, region: Region, line: &Line<'_>, into: &mut [f32]) {
    let mut terms = Vec::with_capacity(2 * TAPS_MAX);
    for (n, row) in into.chunks_exact_mut(region.width).take(region.height).enumerate() {
        terms.clear();
        for half in [&line.low, &line.high] {
            for (factor, ahead) in half.taps(n % 2) {
                if let Some((k, sign)) = half.mirrored((n / 2).cast_signed() + ahead) {
                    let start = (region.y + half.start + k) * stride + region.x;
                    terms.push(Term { factor: factor * sign, start });
                }
            }
        }
        weighted_sum(row, plane, &terms);
    }
}

/// Joins the halves of each row, packed in `from`, and leaves them in `region`.
fn join_rows(
    from: &[f32],
    plane: &mut [f32],
    stride: usize,
    region: Region,
    line: &Line<'_>,
    filters: &Filters,
) {
    // Both halves with as much of their mirror image at each end as the filters reach over.
    let reach = filters.low.len().max(filters.high.len()) / 2 + 1;
    let low_extent = line.low.length + 2 * reach;
    let mut extended = Zeroizing::new(vec![0.0; low_extent + line.high.length + 2 * reach]);
    let ends: Vec<_> = [(line.low, 0), (line.high, low_extent)]
        .into_iter()
        .flat_map(|(half, start)| ends(half, reach, start))
        .collect();
    let terms = [0, 1].map(|parity| {
        let mut terms = Vec::with_capacity(TAPS_MAX);
        for (half, start) in [(line.low, 0), (line.high, low_extent)] {
            for (factor, ahead) in half.taps(parity) {
                let start = (start + reach).checked_add_signed(ahead).unwrap_or_default();
                terms.push(Term { factor, start });
            }
        }
        terms
    });
    let mut even = Zeroizing::new(vec![0.0; region.width.div_ceil(2)]);
    let mut odd = Zeroizing::new(vec![0.0; region.width / 2]);
    let rows = plane.chunks_mut(stride).skip(region.y).zip(from.chunks_exact(region.width));
    for (row, halves) in rows.take(region.height) {
        for (half, start) in [(line.low, reach), (line.high, low_extent + reach)] {
            let source = halves.get(half.start..half.start + half.length).unwrap_or_default();
            let inside = extended.get_mut(start..start + half.length).unwrap_or_default();
            inside.copy_from_slice(source);
        }
        for &(to, from, sign) in &ends {
            let value = from.and_then(|from| halves.get(from)).map_or(0.0, |value| value * sign);
            if let Some(outside) = extended.get_mut(to) {
                *outside = value;
            }
        }
        let [even_terms, odd_terms] = &terms;
        weighted_sum(&mut even, &extended, even_terms);
        weighted_sum(&mut odd, &extended, odd_terms);
        let row = row.get_mut(region.x..region.x + region.width).unwrap_or_default();
        interleave(row, &even, &odd);
    }
}

/// Places of `half`'s extension, which begins at `start`, with the places of the line that they
/// mirror, none for zero, and the signs.
fn ends(
    half: Half<'_>,
    reach: usize,
    start: usize,
) -> impl Iterator<Item = (usize, Option<usize>, f32)> {
    let behind = (0..reach).map(move |place| half.length + place);
    let before = (0..reach).map(move |place| place.cast_signed() - reach.cast_signed());
    before.chain(behind.map(usize::cast_signed)).map(move |k| {
        let to = (start + reach).checked_add_signed(k).unwrap_or_default();
        match half.mirrored(k) {
            Some((k, sign)) if half.length > 0 => (to, Some(half.start + k), sign),
            _ => (to, None, 0.0),
        }
    })
}

fn interleave(row: &mut [f32], even: &[f32], odd: &[f32]) {
    let (pairs, last) = row.as_chunks_mut::<2>();
    for ((pair, even), odd) in pairs.iter_mut().zip(even).zip(odd) {
        *pair = [*even, *odd];
    }
    if let ([last], Some(even)) = (last, even.last()) {
        *last = *even;
    }
}

/// A run of samples that begins at `start`, times a factor.
#[derive(Clone, Copy)]
struct Term {
    factor: f32,
    start: usize,
}

/// `sum[i] = Σ factor · source[start + i]`, four terms at a time so that sums stay in registers.
fn weighted_sum(sum: &mut [f32], source: &[f32], terms: &[Term]) {
    sum.fill(0.0);
    let length = sum.len();
    let run = |term: &Term| source.get(term.start..term.start + length).unwrap_or_default();
    let (fours, rest) = terms.as_chunks::<4>();
    for four in fours {
        let [f0, f1, f2, f3] = four.map(|term| term.factor);
        let [s0, s1, s2, s3] = four.each_ref().map(run);
        for ((((sum, s0), s1), s2), s3) in sum.iter_mut().zip(s0).zip(s1).zip(s2).zip(s3) {
            *sum += f0 * s0 + f1 * s1 + f2 * s2 + f3 * s3;
        }
    }
    for term in rest {
        for (sum, sample) in sum.iter_mut().zip(run(term)) {
            *sum += term.factor * sample;
        }
    }
}
