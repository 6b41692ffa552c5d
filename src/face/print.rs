//! The print of an aligned face: which of its coarsest waves are stronger than most.
//!
//! The brightness of the aligned face is averaged over 28 × 28 squares and written as a sum of cosines (the
//! discrete cosine transform, type II). Of the 12 × 12 slowest of them each gives one bit: whether it is above
//! the median. Brightness and contrast move none of them across it, and what encoding and scaling lose lies in
//! the faster ones: with 16 × 16 waves more copies were missed at the same number of alarms.

use std::f32::consts::PI;

use super::raster::Chip;
use crate::domain::face_print::FacePrint;

/// Squares a side: a quarter of the side of the face that `SFace` wants.
const CELLS: u8 = 28;
/// Waves a side.
const WAVES: u8 = 12;

/// The print of a face.
pub(super) fn print(chip: &Chip) -> FacePrint {
    print_of(&chip.brightness(usize::from(CELLS)))
}

/// The print of a face that is so bright, square by square.
fn print_of(brightness: &[f32]) -> FacePrint {
    let waves = waves(brightness);
    // The first is the mean brightness, which says nothing of the face.
    let mut sorted: Vec<f32> = waves.iter().skip(1).copied().collect();
    sorted.sort_by(f32::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    let mut bits = [0u8; FacePrint::BYTES];
    for (byte, of_byte) in bits.iter_mut().zip(waves.chunks(8)) {
        for (at, wave) in of_byte.iter().enumerate() {
            *byte |= u8::from(*wave > median) << at;
        }
    }
    if let Some(first) = bits.first_mut() {
        *first &= !1;
    }
    FacePrint::new(bits)
}

/// How strong each wave is: rows of slower to faster ones, from top to bottom.
fn waves(brightness: &[f32]) -> Vec<f32> {
    let cosines: Vec<Vec<f32>> = (0..WAVES).map(cosines).collect();
    let along_rows: Vec<Vec<f32>> = brightness
        .chunks(usize::from(CELLS))
        .map(|row| cosines.iter().map(|wave| product(row, wave)).collect())
        .collect();
    let mut waves = Vec::with_capacity(usize::from(WAVES) * usize::from(WAVES));
    for down in &cosines {
        for across in 0..usize::from(WAVES) {
            let column = along_rows.iter().filter_map(|row| row.get(across));
            waves.push(column.zip(down).map(|(value, weight)| value * weight).sum());
        }
    }
    waves
}

fn cosines(wave: u8) -> Vec<f32> {
    let at = |cell: u8| PI * (f32::from(cell) + 0.5) * f32::from(wave) / f32::from(CELLS);
    (0..CELLS).map(|cell| at(cell).cos()).collect()
}

fn product(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A face of nobody: light and dark that are no multiples of each other's.
    fn picture(cell: impl Fn(f32, f32) -> f32) -> Vec<f32> {
        let side = 0..CELLS;
        side.clone()
            .flat_map(|y| side.clone().map(move |x| (f32::from(x), f32::from(y))))
            .map(|(x, y)| cell(x, y))
            .collect()
    }

    #[test]
    fn a_wave_is_found_where_it_is_and_nowhere_else() {
        let across = |x: f32, _: f32| (PI * (x + 0.5) * 3.0 / f32::from(CELLS)).cos();
        let waves = waves(&picture(across));
        assert_eq!(waves.len(), 144);
        for (at, wave) in waves.iter().enumerate() {
            let expected = if at == 3 { 14.0 * 28.0 } else { 0.0 };
            assert!((wave - expected).abs() < 0.01, "{at}: {wave}");
        }
    }

    #[test]
    fn light_and_contrast_leave_a_print_as_it_is() {
        let face = picture(|x, y| 90.0 + 40.0 * (x * 0.31).sin() + 30.0 * (y * x * 0.013).cos());
        let brighter: Vec<_> = face.iter().map(|value| value * 1.3 + 12.0).collect();
        let differ = print_of(&face).distance(&print_of(&brighter));
        assert!(differ <= 2, "{differ}");
    }
}
