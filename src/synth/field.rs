//! Smooth chance over an area: normal numbers on a coarse grid, joined by cubic B-splines.

#![expect(clippy::indexing_slicing, reason = "every index is bounded by the sizes cut just before")]

use super::math::{index, real};
use super::rng::Rng;

/// A smooth field over the unit square, of mean 0 and deviation about 1.
pub(super) struct Field {
    columns: usize,
    rows: usize,
    knots: Vec<f32>,
}

impl Field {
    /// A field of `columns` by `rows` cells.
    pub(super) fn new(rng: &mut Rng, columns: usize, rows: usize) -> Self {
        let count = (columns + MARGIN) * (rows + MARGIN);
        // A spline of independent knots has 0.48 of their deviation.
        let knots = (0..count).map(|_| rng.normal() / 0.48).collect();
        Self { columns, rows, knots }
    }

    /// Its value at `u`, `v` of the unit square.
    pub(super) fn at(&self, u: f32, v: f32) -> f32 {
        let (column, across) = place(u, self.columns);
        let (row, down) = place(v, self.rows);
        let stride = self.columns + MARGIN;
        let mut sum = 0.0;
        for (line, weight) in down.into_iter().enumerate() {
            let start = (row + line) * stride + column;
            sum += weight * blend(&self.knots[start..start + 4], across);
        }
        sum
    }

    /// Its values over a picture of `width` by `height` pixels, row by row.
    pub(super) fn spread(&self, width: usize, height: usize) -> Vec<f32> {
        let stride = self.columns + MARGIN;
        let places: Vec<_> =
            (0..width).map(|x| place((real(x) + 0.5) / real(width), self.columns)).collect();
        let mut values = Vec::with_capacity(width * height);
        let mut line = vec![0.0; stride];
        for y in 0..height {
            let (row, down) = place((real(y) + 0.5) / real(height), self.rows);
            for (column, sum) in line.iter_mut().enumerate() {
                *sum = (0..4).map(|n| down[n] * self.knots[(row + n) * stride + column]).sum();
            }
            values.extend(
                places.iter().map(|(column, across)| blend(&line[*column..column + 4], *across)),
            );
        }
        values
    }
}

fn blend(knots: &[f32], weights: [f32; 4]) -> f32 {
    knots.iter().zip(weights).map(|(knot, weight)| knot * weight).sum()
}

/// The cell of a coordinate and the weights of its four knots.
fn place(unit: f32, cells: usize) -> (usize, [f32; 4]) {
    let at = unit.clamp(0.0, 1.0) * real(cells);
    let cell = index(at, cells - 1);
    let t = at - real(cell);
    let (s, t2) = (1.0 - t, t * t);
    let t3 = t2 * t;
    let near = (3.0 * t3 - 6.0 * t2 + 4.0) / 6.0;
    let first = s * s * s / 6.0;
    let last = t3 / 6.0;
    (cell, [first, near, 1.0 - first - near - last, last])
}

/// Knots beyond the cells of a side.
const MARGIN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_field_is_the_field() {
        let field = Field::new(&mut Rng::new(4), 3, 5);
        let spread = field.spread(20, 30);
        for (y, x) in [(0, 0), (29, 19), (13, 7)] {
            let alone = field.at((real(x) + 0.5) / 20.0, (real(y) + 0.5) / 30.0);
            assert!((spread[y * 20 + x] - alone).abs() < 1e-4);
        }
    }

    #[test]
    fn a_field_is_smooth_and_of_deviation_one() {
        let spread = Field::new(&mut Rng::new(1), 40, 40).spread(400, 400);
        let variance = spread.iter().map(|it| it * it).sum::<f32>() / 160_000.0;
        assert!((variance - 1.0).abs() < 0.15, "{variance}");
        assert!(
            spread.chunks(400).all(|row| row.windows(2).all(|two| (two[0] - two[1]).abs() < 0.9))
        );
    }
}
