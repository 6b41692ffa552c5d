//! Fingers, and what is read off one: its position, its minutiae, the view of one impression.
//!
//! Coordinates are pixels at 500 per inch, x to the right and y down from the upper left corner of
//! the picture; angles run counter-clockwise from the positive x axis as one sees it (ISO/IEC
//! 19794-2:2005, clause 6.4).

use std::f32::consts::TAU;
use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::embedding::ModelId;

/// Most minutiae that a view keeps: the best ones by quality.
pub const MINUTIAE_MAX: usize = 120;

/// The resolution in which minutiae are told, in pixels an inch.
pub const PIXELS_PER_INCH: u16 = 500;

/// Which finger, by the codes of ISO/IEC 19794-2:2005, table 2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum FingerPosition {
    /// Right thumb.
    RightThumb = 1,
    /// Right index finger.
    RightIndex = 2,
    /// Right middle finger.
    RightMiddle = 3,
    /// Right ring finger.
    RightRing = 4,
    /// Right little finger.
    RightLittle = 5,
    /// Left thumb.
    LeftThumb = 6,
    /// Left index finger.
    LeftIndex = 7,
    /// Left middle finger.
    LeftMiddle = 8,
    /// Left ring finger.
    LeftRing = 9,
    /// Left little finger.
    LeftLittle = 10,
}

impl FingerPosition {
    /// All ten, in the order of their codes.
    pub const ALL: [Self; 10] = [
        Self::RightThumb,
        Self::RightIndex,
        Self::RightMiddle,
        Self::RightRing,
        Self::RightLittle,
        Self::LeftThumb,
        Self::LeftIndex,
        Self::LeftMiddle,
        Self::LeftRing,
        Self::LeftLittle,
    ];

    /// The finger of an ISO code; none for 0 (unknown) and for palms and pairs.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|finger| finger.code() == code)
    }

    /// Its ISO code.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Its name on the command line and in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RightThumb => "right-thumb",
            Self::RightIndex => "right-index",
            Self::RightMiddle => "right-middle",
            Self::RightRing => "right-ring",
            Self::RightLittle => "right-little",
            Self::LeftThumb => "left-thumb",
            Self::LeftIndex => "left-index",
            Self::LeftMiddle => "left-middle",
            Self::LeftRing => "left-ring",
            Self::LeftLittle => "left-little",
        }
    }

    /// The finger that [`Self::as_str`] names.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|finger| finger.as_str() == name)
    }
}

/// What a ridge does at a minutia.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum MinutiaKind {
    /// Neither is sure.
    Other = 0,
    /// It ends.
    Ending = 1,
    /// It forks.
    Bifurcation = 2,
}

/// One minutia, in whole steps so that what is stored is what was compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Zeroize)]
pub struct Minutia {
    x_sixteenths: u16,
    y_sixteenths: u16,
    turn: u16,
    #[zeroize(skip)]
    kind: MinutiaKind,
    quality: u8,
}

impl Minutia {
    /// A minutia at `x`, `y` (pixels at 500 per inch, rounded to a sixteenth) with `angle` (radians,
    /// counter-clockwise, any turn) and `quality` (0 to 1).
    ///
    /// # Errors
    ///
    /// [`InvalidMinutia`] for NaN, infinities, a place outside 0 to 4095, a quality outside 0 to 1.
    pub fn new(
        x: f32,
        y: f32,
        angle: f32,
        kind: MinutiaKind,
        quality: f32,
    ) -> Result<Self, InvalidMinutia> {
        let is_inside = |value: f32| (0.0..=COORDINATE_MAX).contains(&value);
        let is_sound =
            is_inside(x) && is_inside(y) && angle.is_finite() && (0.0..=1.0).contains(&quality);
        if !is_sound {
            return Err(InvalidMinutia);
        }
        let turn = (angle / TAU).rem_euclid(1.0);
        Ok(Self {
            x_sixteenths: whole(x * STEPS),
            y_sixteenths: whole(y * STEPS),
            // A turn that rounds up to a whole one is none.
            turn: whole((turn * TURN_STEPS).round().rem_euclid(TURN_STEPS)),
            kind,
            quality: u8::try_from(whole(quality * 255.0)).unwrap_or(u8::MAX),
        })
    }

    /// Pixels from the left edge.
    #[must_use]
    pub fn x(&self) -> f32 {
        f32::from(self.x_sixteenths) / STEPS
    }

    /// Pixels from the upper edge.
    #[must_use]
    pub fn y(&self) -> f32 {
        f32::from(self.y_sixteenths) / STEPS
    }

    /// Radians, 0 to 2π, counter-clockwise.
    #[must_use]
    pub fn angle(&self) -> f32 {
        f32::from(self.turn) / TURN_STEPS * TAU
    }

    /// What the ridge does there.
    #[must_use]
    pub const fn kind(&self) -> MinutiaKind {
        self.kind
    }

    /// How sure its finder was, 0 to 1.
    #[must_use]
    pub fn quality(&self) -> f32 {
        f32::from(self.quality) / 255.0
    }

    fn to_bytes(self) -> [u8; MINUTIA_BYTES] {
        let [x0, x1] = self.x_sixteenths.to_le_bytes();
        let [y0, y1] = self.y_sixteenths.to_le_bytes();
        let [t0, t1] = self.turn.to_le_bytes();
        [x0, x1, y0, y1, t0, t1, self.kind as u8, self.quality]
    }

    fn from_bytes([x0, x1, y0, y1, t0, t1, kind, quality]: [u8; MINUTIA_BYTES]) -> Option<Self> {
        let kind = match kind {
            0 => MinutiaKind::Other,
            1 => MinutiaKind::Ending,
            2 => MinutiaKind::Bifurcation,
            _ => return None,
        };
        Some(Self {
            x_sixteenths: u16::from_le_bytes([x0, x1]),
            y_sixteenths: u16::from_le_bytes([y0, y1]),
            turn: u16::from_le_bytes([t0, t1]),
            kind,
            quality,
        })
    }
}

impl fmt::Debug for Minutia {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Minutia({:?})", self.kind)
    }
}

/// Numbers that are no minutia: a broken model must not approve anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a minutia's place, angle or quality is not a number in its range")]
pub struct InvalidMinutia;

/// The minutiae of one impression of one finger (ISO/IEC 19794-2: a finger view), tagged with the
/// model that found them: views of different models are not compared without a calibration of their
/// own.
///
/// Wiped from memory when dropped; `Debug` shows their number and model only.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct FingerView {
    #[zeroize(skip)]
    model: ModelId,
    minutiae: Vec<Minutia>,
}

impl FingerView {
    /// A view of these minutiae, best quality first; beyond [`MINUTIAE_MAX`] the worst are left out.
    #[must_use]
    pub fn new(model: ModelId, mut minutiae: Vec<Minutia>) -> Self {
        // By place after quality, so that one picture always gives one view.
        minutiae.sort_by_key(|minutia| {
            (u8::MAX - minutia.quality, minutia.y_sixteenths, minutia.x_sixteenths, minutia.turn)
        });
        for left_out in minutiae.iter_mut().skip(MINUTIAE_MAX) {
            left_out.zeroize();
        }
        minutiae.truncate(MINUTIAE_MAX);
        Self { model, minutiae }
    }

    /// The model that found them.
    #[must_use]
    pub const fn model(&self) -> ModelId {
        self.model
    }

    /// The minutiae, best quality first.
    #[must_use]
    pub fn minutiae(&self) -> &[Minutia] {
        &self.minutiae
    }

    /// The bytes that a vault seals: a version, the model's id, their number, then for each x, y
    /// (sixteenths of a pixel, u16), angle (2⁻¹⁶ of a turn, u16), kind and quality (u8); all little
    /// endian.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let length = HEADER_BYTES + MINUTIA_BYTES * self.minutiae.len();
        // With its capacity from the start, no unwiped copy is left behind by growth.
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        bytes.push(BYTES_VERSION);
        bytes.extend_from_slice(self.model.as_bytes());
        bytes.push(u8::try_from(self.minutiae.len()).unwrap_or(u8::MAX));
        for minutia in &self.minutiae {
            bytes.extend_from_slice(&minutia.to_bytes());
        }
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// [`InvalidFingerBytes`] for another version, another length, or what is no minutia.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidFingerBytes> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(InvalidFingerBytes)?;
        let [version, model @ .., count] = *header;
        let (minutiae, left) = rest.as_chunks::<MINUTIA_BYTES>();
        let is_whole = version == BYTES_VERSION
            && left.is_empty()
            && minutiae.len() == usize::from(count)
            && minutiae.len() <= MINUTIAE_MAX;
        if !is_whole {
            return Err(InvalidFingerBytes);
        }
        let minutiae = minutiae.iter().map(|bytes| Minutia::from_bytes(*bytes));
        let minutiae = minutiae.collect::<Option<Vec<_>>>().ok_or(InvalidFingerBytes)?;
        Ok(Self { model: ModelId::new(model), minutiae })
    }
}

impl fmt::Debug for FingerView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FingerView({} minutiae of {})", self.minutiae.len(), self.model)
    }
}

/// Bytes that [`FingerView::to_bytes`] did not write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes hold no finger view of a known version")]
pub struct InvalidFingerBytes;

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "its callers checked the range"
)]
fn whole(value: f32) -> u16 {
    value.round() as u16
}

const BYTES_VERSION: u8 = 1;
const HEADER_BYTES: usize = 1 + 32 + 1;
const MINUTIA_BYTES: usize = 8;
const STEPS: f32 = 16.0;
const COORDINATE_MAX: f32 = 4095.0;
const TURN_STEPS: f32 = 65_536.0;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn minutia(x: f32, quality: f32) -> Minutia {
        Minutia::new(x, 20.5, 1.0, MinutiaKind::Ending, quality).unwrap()
    }

    fn view(count: u8) -> FingerView {
        let minutiae = (0..count).map(|n| minutia(f32::from(n), f32::from(n) / 255.0)).collect();
        FingerView::new(ModelId::new([1; 32]), minutiae)
    }

    #[test]
    fn codes_and_names_lead_back_to_their_finger() {
        for finger in FingerPosition::ALL {
            assert_eq!(FingerPosition::from_code(finger.code()), Some(finger));
            assert_eq!(FingerPosition::from_name(finger.as_str()), Some(finger));
        }
        assert_eq!(FingerPosition::from_code(0), None);
        assert_eq!(FingerPosition::from_code(11), None);
    }

    #[test]
    fn numbers_out_of_their_range_are_no_minutia() {
        let made = |x, angle, quality| Minutia::new(x, 1.0, angle, MinutiaKind::Other, quality);
        for (x, angle, quality) in [
            (-0.1, 0.0, 0.5),
            (4095.1, 0.0, 0.5),
            (f32::NAN, 0.0, 0.5),
            (1.0, f32::INFINITY, 0.5),
            (1.0, 0.0, 1.01),
            (1.0, 0.0, f32::NAN),
        ] {
            assert_eq!(made(x, angle, quality), Err(InvalidMinutia), "{x} {angle} {quality}");
        }
        assert!(made(4095.0, -100.0, 1.0).is_ok());
    }

    #[test]
    fn an_angle_is_kept_within_one_turn() {
        let angle = |radians: f32| {
            Minutia::new(0.0, 0.0, radians, MinutiaKind::Other, 0.0).unwrap().angle()
        };
        assert!((angle(-0.5) - (TAU - 0.5)).abs() < 1e-3);
        assert!((angle(TAU + 0.5) - 0.5).abs() < 1e-3);
        assert!(angle(-1e-9) < 1e-3, "a turn that rounds to a whole one is none");
    }

    #[test]
    fn the_best_minutiae_stay() {
        let view = view(200);
        assert_eq!(view.minutiae().len(), MINUTIAE_MAX);
        let qualities: Vec<_> = view.minutiae().iter().map(Minutia::quality).collect();
        assert!(qualities.is_sorted_by(|a, b| a >= b));
        assert!(qualities.last().unwrap() * 255.0 > 79.5);
    }

    #[test]
    fn every_truncation_and_extension_of_the_bytes_is_refused() {
        let bytes = view(3).to_bytes();
        for length in 0..bytes.len() {
            assert_eq!(FingerView::from_bytes(&bytes[..length]), Err(InvalidFingerBytes));
        }
        let longer = [bytes.as_slice(), &[0; 8]].concat();
        assert_eq!(FingerView::from_bytes(&longer), Err(InvalidFingerBytes));
        for (place, wrong) in [(0, 2), (HEADER_BYTES + 6, 3)] {
            let mut bytes = bytes.to_vec();
            bytes[place] = wrong;
            assert_eq!(FingerView::from_bytes(&bytes), Err(InvalidFingerBytes));
        }
    }

    #[test]
    fn debug_shows_no_place() {
        let shown = format!("{:?} {:?}", view(2), minutia(77.0, 0.5));
        assert!(shown.contains("2 minutiae") && !shown.contains("77"), "{shown}");
    }

    proptest! {
        #[test]
        fn bytes_give_the_view_back(
            raw in prop::collection::vec(
                (0.0f32..4095.0, 0.0f32..4095.0, -10.0f32..10.0, 0.0f32..1.0), 0..130),
        ) {
            let minutiae = raw.into_iter().map(|(x, y, angle, quality)| {
                Minutia::new(x, y, angle, MinutiaKind::Bifurcation, quality).unwrap()
            });
            let view = FingerView::new(ModelId::new([7; 32]), minutiae.collect());
            prop_assert_eq!(FingerView::from_bytes(&view.to_bytes()), Ok(view));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ignored = FingerView::from_bytes(&bytes);
        }
    }
}
