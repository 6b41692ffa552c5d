//! A picture at another resolution.

#![expect(clippy::indexing_slicing, reason = "indexes are bounded by the picture just before")]

use super::math::{index, real, to_byte};

/// A picture of `size` pixels drawn anew with `factor` times as many a side, at least two a side; by
/// bilinear interpolation, which suits factors of a half to two.
pub(super) fn resampled(
    pixels: &[u8],
    [width, height]: [usize; 2],
    factor: f32,
) -> (Vec<u8>, [usize; 2]) {
    let new = [width, height].map(|side| index(real(side) * factor + 0.5, usize::MAX).max(2));
    let across = places(width, new[0]);
    let down = places(height, new[1]);
    let mut drawn = Vec::with_capacity(new[0] * new[1]);
    for (row, below) in down {
        let (upper, lower) = (&pixels[row * width..], &pixels[(row + 1) * width..]);
        for &(column, right) in &across {
            let mixed = |line: &[u8]| {
                f32::from(line[column]) * (1.0 - right) + f32::from(line[column + 1]) * right
            };
            drawn.push(to_byte((mixed(upper) * (1.0 - below) + mixed(lower) * below) / 255.0));
        }
    }
    (drawn, new)
}

/// For each new place the old one before it, and how far beyond it is.
fn places(old: usize, new: usize) -> Vec<(usize, f32)> {
    let step = real(old) / real(new);
    let place = |at: usize| {
        let exact = ((real(at) + 0.5) * step - 0.5).clamp(0.0, real(old - 1));
        let before = index(exact, old - 2);
        (before, exact - real(before))
    };
    (0..new).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_the_resolution_is_the_mean_of_four() {
        let pixels = [0, 100, 10, 10, 200, 100, 30, 50, 4, 4, 8, 8, 4, 4, 8, 8];
        assert_eq!(resampled(&pixels, [4, 4], 0.5), (vec![100, 25, 4, 8], [2, 2]));
    }

    #[test]
    fn twice_the_resolution_keeps_corners_and_ramps() {
        let (drawn, size) = resampled(&[0, 80, 0, 80], [2, 2], 2.0);
        assert_eq!(size, [4, 4]);
        assert_eq!(&drawn[..4], [0, 20, 60, 80]);
    }
}
