//! Whether a finger's picture can be used, and if not, what the person should do about it.

use super::quality::Bar;

/// A measured property of a finger's picture. The first four have the names of NFIQ 2's actionable
/// quality feedback (ISO/IEC 29794-4); the values are ours.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum FingerQualityComponent {
    /// Standard deviation of the brightness (0 to 255) where the finger is.
    UniformImage,
    /// Mean brightness (0 to 255) where the finger is.
    EmptyImageOrContrastTooLow,
    /// Pixels, at 500 an inch, that show ridges.
    SufficientFingerprintForeground,
    /// Minutiae that count.
    FingerprintImageWithMinutiae,
    /// Mean quality of all minutiae, 0 to 1.
    MinutiaeQuality,
}

impl FingerQualityComponent {
    /// NFIQ 2's name where it has one.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UniformImage => "UniformImage",
            Self::EmptyImageOrContrastTooLow => "EmptyImageOrContrastTooLow",
            Self::SufficientFingerprintForeground => "SufficientFingerprintForeground",
            Self::FingerprintImageWithMinutiae => "FingerprintImageWithMinutiae",
            Self::MinutiaeQuality => "MinutiaeQuality",
        }
    }
}

/// Why a picture that decodes cannot be used. Each names one thing that can be mended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FingerQualityRefusal {
    /// Nothing but the reader's surface is seen.
    NoFinger,
    /// A second finger is over a stated part of the largest one's area.
    MultipleFingers,
    /// The picture is too small to hold a fingerprint.
    PictureTooSmall,
    /// Too little of the finger touches the reader.
    Partial,
    /// Too few minutiae that are sure.
    FewMinutiae,
    /// Minutiae that are all unsure: dirt, moisture, or something that is no finger.
    LowQuality,
}

impl FingerQualityRefusal {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::NoFinger,
        Self::MultipleFingers,
        Self::PictureTooSmall,
        Self::Partial,
        Self::FewMinutiae,
        Self::LowQuality,
    ];

    /// The reason's code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoFinger => "CAP_NO_FINGER",
            Self::MultipleFingers => "CAP_MULTIPLE_FINGERS",
            Self::PictureTooSmall => "CAP_FINGER_TOO_SMALL",
            Self::Partial => "CAP_FINGER_PARTIAL",
            Self::FewMinutiae => "CAP_FINGER_FEW_MINUTIAE",
            Self::LowQuality => "CAP_FINGER_LOW_QUALITY",
        }
    }
}

/// What a finger's picture must reach to be used.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct FingerQualityBars {
    /// Least standard deviation of the brightness where the finger is.
    pub grey_deviation_min: f32,
    /// Most mean brightness where the finger is.
    pub grey_mean_max: f32,
    /// Least pixels that show ridges.
    pub foreground_px_min: f32,
    /// Least minutiae that count.
    pub minutiae_min: f32,
    /// The quality from which on a minutia counts.
    pub counted_quality_min: f32,
    /// Least mean quality of all minutiae.
    pub minutiae_quality_min: f32,
}

impl FingerQualityBars {
    /// The bar of a component.
    #[must_use]
    pub fn of(&self, component: FingerQualityComponent) -> Bar {
        let at_least = |min| Bar { min, max: f32::INFINITY };
        match component {
            FingerQualityComponent::UniformImage => at_least(self.grey_deviation_min),
            FingerQualityComponent::EmptyImageOrContrastTooLow => {
                Bar { min: 0.0, max: self.grey_mean_max }
            }
            FingerQualityComponent::SufficientFingerprintForeground => {
                at_least(self.foreground_px_min)
            }
            FingerQualityComponent::FingerprintImageWithMinutiae => at_least(self.minutiae_min),
            FingerQualityComponent::MinutiaeQuality => at_least(self.minutiae_quality_min),
        }
    }
}

/// One component's value beside its bar.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct FingerQualityMeasure {
    /// What was measured.
    pub component: FingerQualityComponent,
    /// The value, in the component's unit.
    pub value: f32,
    /// What it must be.
    pub bar: Bar,
}

impl FingerQualityMeasure {
    /// What to tell the person, if the bar is missed.
    #[must_use]
    pub fn refusal(&self) -> Option<FingerQualityRefusal> {
        if self.bar.is_met_by(self.value) {
            return None;
        }
        Some(match self.component {
            FingerQualityComponent::UniformImage
            | FingerQualityComponent::EmptyImageOrContrastTooLow => FingerQualityRefusal::NoFinger,
            FingerQualityComponent::SufficientFingerprintForeground => {
                FingerQualityRefusal::Partial
            }
            FingerQualityComponent::FingerprintImageWithMinutiae => {
                FingerQualityRefusal::FewMinutiae
            }
            FingerQualityComponent::MinutiaeQuality => FingerQualityRefusal::LowQuality,
        })
    }
}

/// What was measured of one picture, in the order in which a refusal should name it. A picture that
/// is refused early has fewer measures.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct FingerQualityReport {
    measures: Vec<FingerQualityMeasure>,
}

impl FingerQualityReport {
    /// A report of these measures.
    #[must_use]
    pub fn new(measures: Vec<FingerQualityMeasure>) -> Self {
        Self { measures }
    }

    /// The report with a further component, against its bar.
    #[must_use]
    pub fn with(
        mut self,
        component: FingerQualityComponent,
        value: f32,
        bars: &FingerQualityBars,
    ) -> Self {
        self.measures.push(FingerQualityMeasure { component, value, bar: bars.of(component) });
        self
    }

    /// Every component with its value and bar.
    #[must_use]
    pub fn measures(&self) -> &[FingerQualityMeasure] {
        &self.measures
    }

    /// The value of one component, if it was measured.
    #[must_use]
    pub fn value(&self, component: FingerQualityComponent) -> Option<f32> {
        self.measures.iter().find(|measure| measure.component == component).map(|m| m.value)
    }

    /// The first thing to mend; `None` when all bars are met.
    #[must_use]
    pub fn refusal(&self) -> Option<FingerQualityRefusal> {
        self.measures.iter().find_map(FingerQualityMeasure::refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::reason::{Reason, ReasonFamily};

    const BARS: FingerQualityBars = FingerQualityBars {
        grey_deviation_min: 10.0,
        grey_mean_max: 250.0,
        foreground_px_min: 20_000.0,
        minutiae_min: 12.0,
        counted_quality_min: 0.5,
        minutiae_quality_min: 0.6,
    };

    #[test]
    fn every_refusal_is_a_reason_of_capture() {
        for refusal in FingerQualityRefusal::ALL {
            let reason = Reason::from_code(refusal.code()).unwrap();
            assert_eq!(reason.family(), ReasonFamily::Capture, "{reason}");
        }
    }

    #[test]
    fn each_missed_bar_says_what_to_mend_and_the_first_speaks() {
        use FingerQualityComponent as Component;
        use FingerQualityRefusal as Refusal;
        let one = |component, value| FingerQualityReport::default().with(component, value, &BARS);
        for (component, good, bad, refusal) in [
            (Component::UniformImage, 10.0, 9.9, Refusal::NoFinger),
            (Component::EmptyImageOrContrastTooLow, 250.0, 250.1, Refusal::NoFinger),
            (Component::SufficientFingerprintForeground, 2e4, 19_999.0, Refusal::Partial),
            (Component::FingerprintImageWithMinutiae, 12.0, 11.0, Refusal::FewMinutiae),
            (Component::MinutiaeQuality, 0.6, f32::NAN, Refusal::LowQuality),
        ] {
            assert_eq!(one(component, good).refusal(), None, "{component:?}");
            assert_eq!(one(component, bad).refusal(), Some(refusal), "{component:?}");
        }
        let both = one(Component::FingerprintImageWithMinutiae, 3.0);
        let both = both.with(Component::MinutiaeQuality, 0.1, &BARS);
        assert_eq!(both.refusal(), Some(Refusal::FewMinutiae));
        assert_eq!(both.value(Component::MinutiaeQuality), Some(0.1));
        assert_eq!(both.value(Component::UniformImage), None);
    }
}
