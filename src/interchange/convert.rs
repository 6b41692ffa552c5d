//! Records to finger views and back: their resolution, angles and qualities to ours.

use std::collections::BTreeMap;
use std::f32::consts::TAU;

use super::RECORD_BYTES_MAX;
use super::maker::{Maker, foreign_model};
use super::record::{
    CaptureDevice, Impression, MinutiaeRecord, RecordFormat, RecordMinutia, RecordView,
};
use crate::domain::finger::{FingerPosition, FingerView, InvalidMinutia, Minutia, PIXELS_PER_INCH};

/// One view of a record in our units.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForeignView {
    /// Which finger; none where the record does not say.
    pub position: Option<FingerPosition>,
    /// How it was pressed.
    pub impression: Impression,
    /// Its minutiae, tagged with the maker's model.
    pub view: FingerView,
}

/// What is written of one view.
#[derive(Clone, Copy, Debug)]
pub struct ExportedView<'a> {
    /// Which finger, if it is known.
    pub position: Option<FingerPosition>,
    /// Quality of the impression, 1 to 100, if it is known.
    pub quality: Option<u8>,
    /// Its minutiae.
    pub view: &'a FingerView,
}

impl MinutiaeRecord {
    /// Its views at 500 pixels an inch, tagged with the model of [`foreign_model`].
    ///
    /// Directions need no change: ours are those of the standard, counter-clockwise, along the
    /// ridge that ends or the valley that a fork encloses. A minutia whose quality is not told counts in full.
    /// Beyond [`crate::domain::finger::MINUTIAE_MAX`] the worst of a view are left out, and so are
    /// cores, deltas and ridge counts.
    ///
    /// # Errors
    ///
    /// [`ConversionError::Outside`] when a minutia lies further off than any finger reaches.
    pub fn finger_views(&self, maker: &Maker) -> Result<Vec<ForeignView>, ConversionError> {
        let model = foreign_model(self.format, maker);
        let scale = self.per_cm.map(to_500_per_inch);
        let converted = self.views.iter().enumerate().map(|(number, view)| {
            let minutiae = view.minutiae.iter().map(|it| it.to_ours(scale, self.format));
            let minutiae = minutiae
                .collect::<Result<_, _>>()
                .map_err(|source| ConversionError::Outside { view: number, source })?;
            let view_of_ours = FingerView::new(model, minutiae);
            let (position, impression) = (view.position, view.impression);
            Ok(ForeignView { position, impression, view: view_of_ours })
        });
        converted.collect()
    }

    /// An ISO record of these views, live and plain, in `per_cm` pixels a centimetre (197 for 500 an
    /// inch) of a picture of `size_px` pixels at 500 an inch.
    ///
    /// Places are rounded to whole pixels, angles to 360°/256, qualities to whole per cent.
    ///
    /// # Errors
    ///
    /// [`ConversionError`] for a resolution that the standard does not allow or in which a place has
    /// no room, and for more views than a record holds.
    pub fn of_views(
        size_px: [u16; 2],
        per_cm: u16,
        views: &[ExportedView<'_>],
    ) -> Result<Self, ConversionError> {
        if per_cm < PER_CM_MIN {
            return Err(ConversionError::Resolution);
        }
        let scale = 1.0 / to_500_per_inch(per_cm);
        let mut seen: BTreeMap<u8, u8> = BTreeMap::new();
        let written = views.iter().map(|ExportedView { position, quality, view }| {
            let next = seen.entry(position.map_or(0, FingerPosition::code)).or_default();
            let number = *next;
            *next += 1;
            if number > NUMBER_MAX {
                return Err(ConversionError::TooMany);
            }
            let minutiae = view.minutiae().iter();
            let minutiae = minutiae.map(|minutia| RecordMinutia::of_ours(*minutia, scale));
            Ok(RecordView {
                position: *position,
                number,
                impression: Impression::LIVE_PLAIN,
                quality: quality.unwrap_or(0).min(100),
                minutiae: minutiae.collect::<Option<_>>().ok_or(ConversionError::Resolution)?,
                extended: Vec::new(),
            })
        });
        let views: Vec<_> = written.collect::<Result<_, _>>()?;
        let [width, height] = size_px.map(|side| whole(f32::from(side) * scale, u16::MAX));
        let size_px = width.zip(height).ok_or(ConversionError::Resolution)?.into();
        let (format, device) = (RecordFormat::Iso2005, CaptureDevice::default());
        let record = Self { format, device, size_px, per_cm: [per_cm; 2], views };
        if record.views.is_empty() {
            return Err(ConversionError::NoView);
        }
        if record.views.len() > VIEWS_MAX || record.length() > RECORD_BYTES_MAX {
            return Err(ConversionError::TooMany);
        }
        Ok(record)
    }
}

impl RecordMinutia {
    fn to_ours(
        self,
        [across, down]: [f32; 2],
        format: RecordFormat,
    ) -> Result<Minutia, InvalidMinutia> {
        let turn = f32::from(self.angle) / f32::from(format.turn_steps());
        let mut angle = turn * TAU;
        // A picture of unequal resolutions is stretched to equal ones, and directions with it.
        if (across - down).abs() > f32::EPSILON {
            angle = (angle.sin() * down).atan2(angle.cos() * across);
        }
        let quality = self.quality().map_or(1.0, |percent| f32::from(percent) / 100.0);
        Minutia::new(
            f32::from(self.x) * across,
            f32::from(self.y) * down,
            angle,
            self.kind,
            quality,
        )
    }

    fn of_ours(minutia: Minutia, scale: f32) -> Option<Self> {
        let steps = f32::from(RecordFormat::Iso2005.turn_steps());
        let angle = (minutia.angle() / TAU * steps).round().rem_euclid(steps);
        // Zero would say that the quality is not told.
        let quality = (minutia.quality() * 100.0).max(1.0);
        Some(Self {
            kind: minutia.kind(),
            x: whole(minutia.x() * scale, COORDINATE_MAX)?,
            y: whole(minutia.y() * scale, COORDINATE_MAX)?,
            angle: u8::try_from(whole(angle, u16::from(u8::MAX))?).ok()?,
            quality: u8::try_from(whole(quality, 100)?).ok()?,
        })
    }
}

/// What a place in `per_cm` pixels a centimetre is multiplied by.
///
/// Devices are of 250, 500 or 1000 pixels an inch, and the field holds whole pixels a centimetre
/// only: where rounding it explains the difference, the device's own resolution is meant.
fn to_500_per_inch(per_cm: u16) -> f32 {
    let per_inch = f32::from(per_cm) * CM_PER_INCH;
    let nominal = (per_inch / NOMINAL_STEP).round() * NOMINAL_STEP;
    let meant = if (per_inch - nominal).abs() < CM_PER_INCH { nominal } else { per_inch };
    f32::from(PIXELS_PER_INCH) / meant
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked just before"
)]
fn whole(value: f32, most: u16) -> Option<u16> {
    let rounded = value.round();
    (0.0..=f32::from(most)).contains(&rounded).then_some(rounded as u16)
}

/// Why views and records cannot be turned into one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConversionError {
    /// A minutia beyond 4095 pixels at 500 an inch, which is 20 cm.
    #[error(
        "view {view} of the record has a minutia further off than any finger reaches; its resolution \
         may be wrong: export it with the true one"
    )]
    Outside {
        /// Which view, from 0.
        view: usize,
        /// What was refused.
        source: InvalidMinutia,
    },
    /// Too low, or so high that a place has no room in its field.
    #[error("the resolution does not suit a record; write it in 197 pixels a centimetre")]
    Resolution,
    /// No view at all.
    #[error("a record needs a view")]
    NoView,
    /// More than a record has room for.
    #[error("a record has room for 16 views of a finger and 65535 bytes; write several records")]
    TooMany,
}

impl ConversionError {
    /// The stable word for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Outside { .. } => "TPL_FIELD",
            Self::Resolution => "TPL_RESOLUTION",
            Self::NoView => "TPL_NO_VIEW",
            Self::TooMany => "TPL_TOO_LARGE",
        }
    }
}

const CM_PER_INCH: f32 = 2.54;
const NOMINAL_STEP: f32 = 250.0;
const PER_CM_MIN: u16 = 98;
const COORDINATE_MAX: u16 = 0x3fff;
const NUMBER_MAX: u8 = 15;
const VIEWS_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::embedding::ModelId;
    use crate::domain::finger::MinutiaKind;
    use proptest::prelude::*;

    fn maker() -> Maker {
        Maker::new("maker-1").unwrap()
    }

    fn minutia(x: f32, y: f32, degrees: f32) -> Minutia {
        Minutia::new(x, y, degrees.to_radians(), MinutiaKind::Bifurcation, 0.7).unwrap()
    }

    fn view(minutiae: Vec<Minutia>) -> FingerView {
        FingerView::new(ModelId::new([3; 32]), minutiae)
    }

    fn exported(view: &FingerView) -> ExportedView<'_> {
        ExportedView { position: Some(FingerPosition::LeftRing), quality: Some(66), view }
    }

    #[test]
    fn a_resolution_that_was_rounded_is_the_devices_own() {
        for (per_cm, factor) in [(197, 1.0), (196, 1.0), (394, 0.5), (98, 2.0), (100, 1.968_504)] {
            assert!((to_500_per_inch(per_cm) - factor).abs() < 1e-6, "{per_cm}");
        }
    }

    #[test]
    fn a_thousand_pixels_an_inch_have_twice_the_places_and_size() {
        let view = view(vec![minutia(100.5, 20.0, 90.0)]);
        let record = MinutiaeRecord::of_views([300, 400], 394, &[exported(&view)]).unwrap();
        assert_eq!(record.size_px(), [600, 800]);
        let [found] = record.views()[0].minutiae() else { panic!() };
        assert_eq!((found.x, found.y, found.angle, found.quality), (201, 40, 64, 70));
        let back = record.finger_views(&maker()).unwrap();
        assert_eq!(back[0].position, Some(FingerPosition::LeftRing));
        let [back] = back[0].view.minutiae() else { panic!() };
        assert!((back.x() - 100.5).abs() < 0.01 && (back.y() - 20.0).abs() < 0.01);
    }

    #[test]
    fn a_stretched_picture_has_its_directions_stretched() {
        let view = view(vec![minutia(100.0, 100.0, 45.0)]);
        let mut record = MinutiaeRecord::of_views([300, 400], 197, &[exported(&view)]).unwrap();
        record.per_cm = [394, 197];
        let back = record.finger_views(&maker()).unwrap();
        let [back] = back[0].view.minutiae() else { panic!() };
        assert!((back.x() - 50.0).abs() < 0.01 && (back.y() - 100.0).abs() < 0.01);
        // Half as wide: one across for two down.
        assert!((back.angle() - 2.0f32.atan()).abs() < 1e-3, "{}", back.angle());
    }

    #[test]
    fn a_quality_that_is_not_told_counts_in_full() {
        let view = view(vec![minutia(1.0, 1.0, 0.0)]);
        let mut record = MinutiaeRecord::of_views([300, 400], 197, &[exported(&view)]).unwrap();
        for (written, quality) in [(0, 1.0), (101, 1.0), (255, 1.0), (40, 0.4)] {
            record.views[0].minutiae[0].quality = written;
            let back = record.finger_views(&maker()).unwrap();
            assert!((back[0].view.minutiae()[0].quality() - quality).abs() < 0.003);
        }
    }

    #[test]
    fn impressions_of_a_finger_are_numbered_and_bounded() {
        let view = view(vec![minutia(1.0, 1.0, 0.0)]);
        let made = |count| MinutiaeRecord::of_views([9, 9], 197, &vec![exported(&view); count]);
        let numbers: Vec<_> = made(3).unwrap().views().iter().map(RecordView::number).collect();
        assert_eq!(numbers, [0, 1, 2]);
        assert!(made(16).is_ok());
        for count in [17, 300] {
            assert_eq!(made(count), Err(ConversionError::TooMany), "{count}");
        }
        assert_eq!(made(0), Err(ConversionError::NoView));
    }

    #[test]
    fn a_record_that_would_be_too_long_is_refused() {
        let minutiae = (0..120u16).map(|x| minutia(f32::from(x), 1.0, 0.0)).collect();
        let full = view(minutiae);
        let views: Vec<_> = FingerPosition::ALL
            .iter()
            .flat_map(|position| {
                [ExportedView { position: Some(*position), quality: None, view: &full }; 10]
            })
            .collect();
        let made = |views| MinutiaeRecord::of_views([300, 400], 197, views);
        assert_eq!(made(&views), Err(ConversionError::TooMany));
        let record = made(&views[..90]).unwrap();
        assert_eq!(MinutiaeRecord::parse(&record.to_bytes()), Ok(record));
    }

    #[test]
    fn a_resolution_without_room_is_refused() {
        let view = view(vec![minutia(4000.0, 1.0, 0.0)]);
        for per_cm in [0, 97, 2000, u16::MAX] {
            let made = MinutiaeRecord::of_views([300, 400], per_cm, &[exported(&view)]);
            assert_eq!(made, Err(ConversionError::Resolution), "{per_cm}");
        }
        let mut record = MinutiaeRecord::of_views([300, 400], 197, &[exported(&view)]).unwrap();
        record.views[0].minutiae[0].x = 4096;
        let refused = record.finger_views(&maker());
        assert!(matches!(refused, Err(ConversionError::Outside { view: 0, .. })));
    }

    proptest! {
        #[test]
        fn a_view_comes_back_within_the_steps_of_the_record(
            raw in prop::collection::vec(
                (0.0f32..1000.0, 0.0f32..1000.0, 0.0f32..360.0, 0.0f32..1.0), 1..60),
            per_cm in 98u16..600,
        ) {
            let minutiae = raw.iter().map(|&(x, y, degrees, quality)| {
                Minutia::new(x, y, degrees.to_radians(), MinutiaKind::Ending, quality).unwrap()
            });
            let ours = view(minutiae.collect());
            let record = MinutiaeRecord::of_views([500; 2], per_cm, &[exported(&ours)]).unwrap();
            let record = MinutiaeRecord::parse(&record.to_bytes()).unwrap();
            let back = record.finger_views(&maker()).unwrap();
            let back = back[0].view.minutiae();
            prop_assert_eq!(back.len(), ours.minutiae().len());
            let place = 0.5 * to_500_per_inch(per_cm) + 0.1;
            for minutia in ours.minutiae() {
                // Qualities that round alike may have changed places.
                let is_near = |other: &Minutia| {
                    let turned = (other.angle() - minutia.angle()).rem_euclid(TAU);
                    (other.x() - minutia.x()).abs() <= place
                        && (other.y() - minutia.y()).abs() <= place
                        && turned.min(TAU - turned) <= TAU / 512.0 + 1e-3
                        && (other.quality() - minutia.quality()).abs() <= 0.013
                };
                prop_assert!(back.iter().any(is_near));
            }
        }
    }
}
