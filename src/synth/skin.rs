//! What a finger has beside its ridges: pores and creases, the same in each impression.

#![expect(clippy::indexing_slicing, reason = "places are cut inside the finger's planes")]

use super::growth::FULL;
use super::impression::Scratch;
use super::math::{exp, index, real, to_i16};
use super::pattern::FINGER_PX;
use super::rng::Rng;

/// Sweat pores: dots on the ridges' middle.
pub(super) fn pores(ridges: &[i16], rng: &mut Rng) -> Vec<i16> {
    let [width, height] = FINGER_PX;
    let mut pores = vec![0i16; ridges.len()];
    for top in (4..height - 8).step_by(7) {
        for left in (4..width - 8).step_by(7) {
            let x = left + index(rng.between(0.0, 7.0), 6);
            let y = top + index(rng.between(0.0, 7.0), 6);
            let size = rng.between(0.7, 1.5);
            let depth = rng.between(0.4, 1.2) * f32::from(FULL);
            if ridges[y * width + x] < FULL / 5 * 4 {
                continue;
            }
            for row in y - 3..=y + 3 {
                for column in x - 3..=x + 3 {
                    let (off_x, off_y) = (real(column) - real(x), real(row) - real(y));
                    let far = (off_x * off_x + off_y * off_y) / (2.0 * size * size);
                    let deeper = to_i16(depth * exp(-far));
                    let place = &mut pores[row * width + column];
                    *place = (*place).max(deeper);
                }
            }
        }
    }
    pores
}

/// The lines that cross a finger's ridges for good.
pub(super) fn creases(rng: &mut Rng) -> Vec<i16> {
    let [width, height] = FINGER_PX;
    let count = (0..6).filter(|_| rng.chance(0.3)).count();
    let reach = [real(width), real(height)];
    let lines: Vec<_> = (0..count).map(|_| Scratch::new(rng, reach, (25.0, 130.0))).collect();
    let places = (0..height).flat_map(|row| (0..width).map(move |column| (column, row)));
    places
        .map(|(column, row)| {
            let depth: f32 = lines.iter().map(|line| line.depth(column, row)).sum();
            to_i16(depth.min(4.0) * f32::from(FULL))
        })
        .collect()
}
