//! Registers as wide as those of AVX-512, each made of two of AVX2: what tests run where a processor lacks the
//! former. So tiles, blocks and strips of that width are seen to be right on a machine that cannot use them. The
//! tiles of AMX are loops here.
#![expect(clippy::inline_always, reason = "registers do not cross a call")]

use super::pieces::{cut, widened};
use super::simd::{Avx2, Avx512, Simd};
use super::tiles::{Block, DEPTH, SIDE, Sums, Tiles};

/// Sixteen numbers in two registers, and the tiles of [`Avx512`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Twice(pub(super) Avx2);

impl Simd for Twice {
    type V = [<Avx2 as Simd>::V; 2];
    type Array = <Avx512 as Simd>::Array;
    type Bytes = <Avx512 as Simd>::Bytes;
    const LEN: usize = Avx512::LEN;
    const ROWS: usize = Avx512::ROWS;

    #[inline(always)]
    fn vectors(numbers: &[f32]) -> &[Self::Array] {
        Avx512::vectors(numbers)
    }

    #[inline(always)]
    fn vectors_mut(numbers: &mut [f32]) -> &mut [Self::Array] {
        Avx512::vectors_mut(numbers)
    }

    #[inline(always)]
    fn bytes(numbers: &[i8]) -> &[Self::Bytes] {
        Avx512::bytes(numbers)
    }

    #[inline(always)]
    fn load_bytes(self, from: &Self::Bytes) -> Self::V {
        let halves = from.as_chunks().0;
        [self.0.load_bytes(&halves[0]), self.0.load_bytes(&halves[1])]
    }

    #[inline(always)]
    fn load(self, from: &Self::Array) -> Self::V {
        let halves = from.as_chunks().0;
        [self.0.load(&halves[0]), self.0.load(&halves[1])]
    }

    #[inline(always)]
    fn store(self, to: &mut Self::Array, [low, high]: Self::V) {
        let halves = to.as_chunks_mut().0;
        self.0.store(&mut halves[0], low);
        self.0.store(&mut halves[1], high);
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::V {
        [self.0.splat(value); 2]
    }

    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        [self.0.mul_add(a[0], b[0], c[0]), self.0.mul_add(a[1], b[1], c[1])]
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        [self.0.add(a[0], b[0]), self.0.add(a[1], b[1])]
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        [self.0.mul(a[0], b[0]), self.0.mul(a[1], b[1])]
    }

    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        [self.0.max(a[0], b[0]), self.0.max(a[1], b[1])]
    }

    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        [self.0.min(a[0], b[0]), self.0.min(a[1], b[1])]
    }

    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        [self.0.div(a[0], b[0]), self.0.div(a[1], b[1])]
    }

    #[inline(always)]
    fn prelu(self, x: Self::V, slope: Self::V) -> Self::V {
        [self.0.prelu(x[0], slope[0]), self.0.prelu(x[1], slope[1])]
    }

    #[inline(always)]
    fn round(self, x: Self::V) -> Self::V {
        [self.0.round(x[0]), self.0.round(x[1])]
    }

    #[inline(always)]
    fn scale(self, x: Self::V, n: Self::V) -> Self::V {
        [self.0.scale(x[0], n[0]), self.0.scale(x[1], n[1])]
    }

    #[inline(always)]
    fn total(self, [low, high]: Self::V) -> f32 {
        self.0.total(self.0.add(low, high))
    }
}

/// What the processor's tiles say, number by number.
impl Tiles for Twice {
    type Simd = Self;

    fn simd(self) -> Self {
        self
    }

    fn cut(self, numbers: <Self as Simd>::V, high: &mut [u16; SIDE], low: &mut [u16; SIDE]) {
        let mut whole = [0.0; SIDE];
        self.store(&mut whole, numbers);
        for (number, (high, low)) in whole.into_iter().zip(high.iter_mut().zip(low)) {
            [*high, *low] = cut(number);
        }
    }

    fn multiply(self, rows: [&[Block]; 2], columns: [&[Block]; 2], sums: &mut Sums) {
        *sums = Sums::default();
        let depth = rows.into_iter().chain(columns).map(<[Block]>::len).min().unwrap_or(0);
        for (rows, sums) in rows.into_iter().zip(&mut sums.0) {
            for (columns, sums) in columns.into_iter().zip(sums) {
                for (row, column) in rows.iter().zip(columns).take(depth) {
                    for (at, sum) in sums.as_flattened_mut().iter_mut().enumerate() {
                        *sum += product(row, at / SIDE, column, at % SIDE);
                    }
                }
            }
        }
    }
}

/// What three products of pieces make of one row and one column.
fn product(rows: &Block, y: usize, columns: &Block, x: usize) -> f32 {
    let pieces = |row: &[[u16; DEPTH]; SIDE], column: &[[u16; DEPTH]; SIDE]| -> f32 {
        let products = row[y].iter().enumerate().map(|(number, piece)| {
            widened(*piece) * widened(column[number / 2][2 * x + number % 2])
        });
        products.sum()
    };
    pieces(&rows.low, &columns.high)
        + pieces(&rows.high, &columns.high)
        + pieces(&rows.high, &columns.low)
}
