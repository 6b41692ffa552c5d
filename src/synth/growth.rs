//! Ridges that grow out of noise: the picture is filtered again and again by a Gabor filter that at
//! each place lies along the pattern (Cappelli's `SFinGe`, 2000).
//!
//! Whole numbers only, so that the order of a sum does not matter and the compiler may use vectors.

#![expect(clippy::indexing_slicing, reason = "windows are cut inside the margin of the picture")]

use std::f32::consts::PI;
use std::sync::LazyLock;

use super::math::{exp, index, real, sin, sin_cos, to_i16};
use super::pattern::{FINGER_PX, Pattern};
use super::rng::Rng;

/// Full ridge; a full valley is its negative.
pub(super) const FULL: i16 = 1023;

/// Rows of a filter, and its columns but for the last, which is empty so that rows are whole vectors.
const RADIUS: usize = 11;
const ROWS: usize = 2 * RADIUS + 1;
const COLUMNS: usize = ROWS + 1;

const DIRECTIONS: usize = 64;
const PERIODS: usize = 10;
const PERIOD_FIRST: f32 = 7.0;
const PERIOD_STEP: f32 = 0.5;

/// Deviations of a filter across and along the ridge, in ridge periods.
const ACROSS: f32 = 0.42;
const ALONG: f32 = 0.7;

const PASSES: usize = 11;
const GAIN: i32 = 5;
/// A filter's weights have this absolute sum.
const WEIGHT_BITS: u32 = 13;

type Filter = [[i16; COLUMNS]; ROWS];

static FILTERS: LazyLock<Vec<Filter>> = LazyLock::new(|| {
    let periods = (0..PERIODS).map(|step| PERIOD_FIRST + PERIOD_STEP * real(step));
    periods
        .flat_map(|period| {
            (0..DIRECTIONS).map(move |step| filter(period, PI * real(step) / real(DIRECTIONS)))
        })
        .collect()
});

/// A Gabor filter for ridges of this period along this direction, without a mean.
fn filter(period: f32, direction: f32) -> Filter {
    let (sine, cosine) = sin_cos(direction);
    let mut weights = [[0.0f32; ROWS]; ROWS];
    for (row, line) in weights.iter_mut().enumerate() {
        for (column, weight) in line.iter_mut().enumerate() {
            let (x, y) = (real(column) - real(RADIUS), real(row) - real(RADIUS));
            let across = (x * sine + y * cosine) / period;
            let along = (x * cosine - y * sine) / period;
            let fall =
                across * across / (2.0 * ACROSS * ACROSS) + along * along / (2.0 * ALONG * ALONG);
            *weight = exp(-fall) * sin(2.0 * PI * across + PI / 2.0);
        }
    }
    let count = real(ROWS * ROWS);
    let mean = weights.iter().flatten().sum::<f32>() / count;
    let total: f32 = weights.iter().flatten().map(|weight| (weight - mean).abs()).sum();
    let scale = real(1 << WEIGHT_BITS) / total;
    let mut filter = [[0; COLUMNS]; ROWS];
    for (line, weights) in filter.iter_mut().zip(&weights) {
        for (place, weight) in line.iter_mut().zip(weights) {
            *place = to_i16((weight - mean) * scale);
        }
    }
    filter
}

/// The ridges of a finger: [`FINGER_PX`] numbers of -[`FULL`] to [`FULL`], zero off the finger.
pub(super) fn grow(pattern: &Pattern, rng: &mut Rng) -> Vec<i16> {
    let spans = Spans::of(pattern);
    let mut now = Sheet::empty();
    for span in &spans.0 {
        let begin = (span.row + RADIUS) * Sheet::WIDTH + RADIUS + span.first;
        for place in &mut now.0[begin..begin + span.filters.len()] {
            *place = to_i16(rng.normal() * 300.0);
        }
    }
    let mut next = Sheet::empty();
    for pass in 0..PASSES {
        let gain = if pass + 1 == PASSES { 2 } else { GAIN };
        pass_over(&spans, &now, &mut next, gain);
        std::mem::swap(&mut now, &mut next);
    }
    now.without_margin()
}

fn pass_over(spans: &Spans, now: &Sheet, next: &mut Sheet, gain: i32) {
    for span in &spans.0 {
        for (place, chosen) in span.filters.iter().enumerate() {
            let corner = span.row * Sheet::WIDTH + span.first + place;
            let mut sum = 0;
            for (line, weights) in FILTERS[usize::from(*chosen)].iter().enumerate() {
                let start = corner + line * Sheet::WIDTH;
                sum += dot(&now.0[start..start + COLUMNS], weights);
            }
            let level = (sum >> WEIGHT_BITS) * gain;
            let level = level.clamp(-i32::from(FULL), i32::from(FULL));
            next.0[corner + RADIUS * Sheet::WIDTH + RADIUS] = i16::try_from(level).unwrap_or(FULL);
        }
    }
}

fn dot(pixels: &[i16], weights: &[i16; COLUMNS]) -> i32 {
    pixels.iter().zip(weights).map(|(pixel, weight)| i32::from(*pixel) * i32::from(*weight)).sum()
}

/// The rows of a finger: where each begins, and which filter each of its pixels takes.
struct Spans(Vec<Span>);

struct Span {
    row: usize,
    first: usize,
    filters: Vec<u16>,
}

impl Spans {
    fn of(pattern: &Pattern) -> Self {
        let [width, height] = FINGER_PX;
        let (half_width, half_height) = (real(width) / 2.0, real(height) / 2.0);
        let rows = (0..height).map(|row| {
            let y = real(row) - half_height + 0.5;
            // A round tip, straight sides.
            let up = (-y - half_height * TIP).max(0.0) / (half_height * (1.0 - TIP));
            let reach = half_width * (1.0 - up * up).max(0.0).sqrt();
            let first = index(half_width - reach, width);
            let last = index(half_width + reach, width);
            let filters = (first..last).map(|column| {
                let x = real(column) - half_width + 0.5;
                number(pattern.direction(x, y), pattern.period(x, y))
            });
            Span { row, first, filters: filters.collect() }
        });
        Self(rows.collect())
    }
}

/// The tip begins at this part of the half height above the centre.
const TIP: f32 = 0.25;

/// The filter nearest to a direction and a period.
fn number(direction: f32, period: f32) -> u16 {
    let halves = direction / PI;
    let turned = (halves - halves.floor()) * real(DIRECTIONS);
    let direction = index(turned + 0.5, DIRECTIONS) % DIRECTIONS;
    let period = index((period - PERIOD_FIRST) / PERIOD_STEP + 0.5, PERIODS - 1);
    u16::try_from(period * DIRECTIONS + direction).unwrap_or(0)
}

/// A picture of the finger with a margin of zeros, as wide as a filter reaches.
struct Sheet(Vec<i16>);

impl Sheet {
    const WIDTH: usize = FINGER_PX[0] + COLUMNS;
    const HEIGHT: usize = FINGER_PX[1] + COLUMNS;

    fn empty() -> Self {
        Self(vec![0; Self::WIDTH * Self::HEIGHT])
    }

    fn without_margin(&self) -> Vec<i16> {
        let rows = self.0.chunks_exact(Self::WIDTH).skip(RADIUS).take(FINGER_PX[1]);
        rows.flat_map(|row| &row[RADIUS..RADIUS + FINGER_PX[0]]).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_answers_to_its_own_ridges_only() {
        let filter = filter(9.0, PI / 4.0);
        let answer = |direction: f32| -> i32 {
            let (sine, cosine) = sin_cos(direction);
            let rows = filter.iter().enumerate().map(|(row, weights)| {
                let pixels: Vec<i16> = (0..COLUMNS)
                    .map(|column| {
                        let (x, y) = (real(column) - real(RADIUS), real(row) - real(RADIUS));
                        let across = (x * sine + y * cosine) / 9.0;
                        to_i16(1000.0 * sin(2.0 * PI * across + PI / 2.0))
                    })
                    .collect();
                dot(&pixels, weights)
            });
            rows.sum::<i32>() >> WEIGHT_BITS
        };
        assert!(answer(PI / 4.0) > 600, "{}", answer(PI / 4.0));
        assert!(answer(3.0 * PI / 4.0).abs() < 30, "{}", answer(3.0 * PI / 4.0));
    }
}
