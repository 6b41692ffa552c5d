//! Pixels per inch: who says how many, and whether they agree.

use super::error::FingerDecodeError;

/// What a file or a record says of its resolution.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Told {
    /// Pixels an inch along a row.
    across: f64,
    /// Along a column.
    down: f64,
    /// Programs write a screen's resolution into picture files when they know none.
    is_picture_file: bool,
}

impl Told {
    /// By a finger image record or a WSQ comment; none for zeros, which say nothing.
    pub fn by_record(across: f64, down: f64) -> Option<Self> {
        Self::new(across, down, false)
    }

    /// By a PNG, TIFF or BMP file; none for zeros, which say nothing.
    pub fn by_picture_file(across: f64, down: f64) -> Option<Self> {
        Self::new(across, down, true)
    }

    fn new(across: f64, down: f64, is_picture_file: bool) -> Option<Self> {
        let is_said = across > 0.0 && down > 0.0 && across.is_finite() && down.is_finite();
        is_said.then_some(Self { across, down, is_picture_file })
    }

    fn is_screen(&self) -> bool {
        self.is_picture_file && SCREENS.iter().any(|screen| agree(self.across, *screen))
    }
}

/// The one resolution that `declared` and all of `told` agree on.
///
/// A screen's resolution (72 or 96) in a picture file says nothing where anybody else says something.
pub(super) fn settle(declared: Option<u16>, told: &[Told]) -> Result<u16, FingerDecodeError> {
    for Told { across, down, .. } in told {
        if !agree(*across, *down) {
            let (across, down) = (whole(*across), whole(*down));
            return Err(FingerDecodeError::ResolutionUneven { across, down });
        }
    }
    let weighty = told.iter().filter(|told| !told.is_screen()).map(|told| told.across);
    let mut said: Vec<f64> = declared.map(f64::from).into_iter().chain(weighty).collect();
    if said.is_empty() {
        said.extend(told.iter().map(|told| told.across));
    }
    let one = *said.first().ok_or(FingerDecodeError::NoResolution)?;
    if let Some(other) = said.iter().find(|other| !agree(one, **other)) {
        let (one, other) = (whole(one), whole(*other));
        return Err(FingerDecodeError::ResolutionsDisagree { one, other });
    }
    let pixels_per_inch = whole(one);
    match u16::try_from(pixels_per_inch) {
        Ok(LOWEST..=HIGHEST) => Ok(u16::try_from(pixels_per_inch).unwrap_or(HIGHEST)),
        Ok(..LOWEST) => Err(FingerDecodeError::ResolutionTooLow { pixels_per_inch }),
        _ => Err(FingerDecodeError::ResolutionTooHigh { pixels_per_inch }),
    }
}

/// Whether two statements differ by no more than rounding does: to whole pixels a centimetre at 250
/// an inch that is 0.4 %.
fn agree(one: f64, other: f64) -> bool {
    (one - other).abs() <= ROUNDING * one.max(other)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of floats to u32 cuts at its ends; the value is above zero"
)]
fn whole(pixels_per_inch: f64) -> u32 {
    pixels_per_inch.round() as u32
}

pub(super) const CM_PER_INCH: f64 = 2.54;
pub(super) const METRES_PER_INCH: f64 = 0.0254;
const LOWEST: u16 = 250;
const HIGHEST: u16 = 1_200;
const ROUNDING: f64 = 0.005;
const SCREENS: [f64; 2] = [72.0, 96.0];

#[cfg(test)]
mod tests {
    use super::*;

    fn file(pixels_per_inch: f64) -> Told {
        Told::by_picture_file(pixels_per_inch, pixels_per_inch).unwrap()
    }

    fn record(pixels_per_inch: f64) -> Told {
        Told::by_record(pixels_per_inch, pixels_per_inch).unwrap()
    }

    #[test]
    fn statements_agree_within_rounding() {
        assert_eq!(settle(Some(500), &[]).unwrap(), 500);
        // 19,685 pixels a metre, and 197 a centimetre.
        assert_eq!(settle(None, &[file(19_685.0 * METRES_PER_INCH)]).unwrap(), 500);
        assert_eq!(settle(Some(500), &[record(197.0 * CM_PER_INCH)]).unwrap(), 500);
        assert_eq!(settle(Some(250), &[record(98.0 * CM_PER_INCH)]).unwrap(), 250);
        let error = settle(Some(500), &[record(508.0)]).unwrap_err();
        let expected = FingerDecodeError::ResolutionsDisagree { one: 500, other: 508 };
        assert_eq!(error.to_string(), expected.to_string());
        assert!(settle(None, &[record(500.0), file(1000.0)]).is_err());
    }

    #[test]
    fn a_screens_resolution_in_a_picture_file_counts_only_when_nobody_knows_better() {
        let screen = file(3_780.0 * METRES_PER_INCH);
        assert_eq!(settle(Some(500), &[screen]).unwrap(), 500);
        assert_eq!(settle(None, &[record(500.0), file(72.0)]).unwrap(), 500);
        let alone = settle(None, &[screen]);
        let too_low = FingerDecodeError::ResolutionTooLow { pixels_per_inch: 96 };
        assert_eq!(alone.unwrap_err().to_string(), too_low.to_string());
        // A record means what it says.
        assert!(settle(Some(500), &[record(96.0)]).is_err());
    }

    #[test]
    fn what_is_missing_uneven_or_out_of_range_has_its_own_answer() {
        use FingerDecodeError as E;
        assert!(matches!(settle(None, &[]), Err(E::NoResolution)));
        assert!(Told::by_record(0.0, 500.0).is_none());
        assert!(Told::by_picture_file(f64::NAN, f64::NAN).is_none());
        assert!(Told::by_picture_file(f64::INFINITY, f64::INFINITY).is_none());
        let uneven = Told::by_picture_file(500.0, 250.0).unwrap();
        assert!(matches!(
            settle(Some(500), &[uneven]),
            Err(E::ResolutionUneven { across: 500, down: 250 })
        ));
        assert!(matches!(
            settle(Some(249), &[]),
            Err(E::ResolutionTooLow { pixels_per_inch: 249 })
        ));
        assert!(settle(Some(1_200), &[]).is_ok());
        assert!(matches!(
            settle(Some(8_000), &[]),
            Err(E::ResolutionTooHigh { pixels_per_inch: 8_000 })
        ));
        assert!(matches!(
            settle(None, &[file(4e9)]),
            Err(E::ResolutionTooHigh { pixels_per_inch: 4_000_000_000 })
        ));
        assert!(matches!(settle(Some(0), &[]), Err(E::ResolutionTooLow { pixels_per_inch: 0 })));
    }
}
