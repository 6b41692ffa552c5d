//! Whether a capture can be used, and if not, what the person should do about it.

/// A measured property of a face picture, by its name in OFIQ (ISO/IEC 29794-5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum QualityComponent {
    /// Pixels between the eyes' centres.
    InterEyeDistance,
    /// Mean brightness of the face, 0 to 1.
    LuminanceMean,
    /// Energy of fine detail in the face: mean square of the Laplacian of its brightness (0 to 255).
    Sharpness,
    /// Degrees to the left or right.
    HeadPoseYaw,
    /// Degrees up or down.
    HeadPosePitch,
    /// Degrees of tilt towards a shoulder.
    HeadPoseRoll,
    /// Length of the raw `SFace` embedding, which falls with everything that hurts recognition.
    UnifiedQualityScore,
}

impl QualityComponent {
    /// The name of OFIQ's component (ISO/IEC 29794-5) that is nearest in meaning; the value is ours.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InterEyeDistance => "InterEyeDistance",
            Self::LuminanceMean => "LuminanceMean",
            Self::Sharpness => "Sharpness",
            Self::HeadPoseYaw => "HeadPoseYaw",
            Self::HeadPosePitch => "HeadPosePitch",
            Self::HeadPoseRoll => "HeadPoseRoll",
            Self::UnifiedQualityScore => "UnifiedQualityScore",
        }
    }
}

/// Why a picture that decodes cannot be used. Each names one thing that the person can mend.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum QualityRefusal {
    /// Nobody is seen.
    NoFace,
    /// A second face is over a quarter of the largest one's area.
    MultipleFaces,
    /// Too far from the camera.
    FaceTooSmall,
    /// Too little light on the face.
    TooDark,
    /// Too much light on the face.
    TooBright,
    /// Moved, or out of focus.
    Blurred,
    /// Turned away or tilted.
    Pose,
    /// Hidden, noisy, or otherwise beyond what recognition can use.
    LowQuality,
}

impl QualityRefusal {
    /// The reason's code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoFace => "CAP_NO_FACE",
            Self::MultipleFaces => "CAP_MULTIPLE_FACES",
            Self::FaceTooSmall => "CAP_FACE_TOO_SMALL",
            Self::TooDark => "CAP_TOO_DARK",
            Self::TooBright => "CAP_TOO_BRIGHT",
            Self::Blurred => "CAP_BLURRED",
            Self::Pose => "CAP_POSE",
            Self::LowQuality => "CAP_LOW_QUALITY",
        }
    }
}

/// The values between which a component must lie; both ends are good enough.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bar {
    /// Lowest good value.
    pub min: f32,
    /// Highest good value; infinite where more is always better.
    pub max: f32,
}

impl Bar {
    /// Whether a value is good enough. NaN never is.
    #[must_use]
    pub fn is_met_by(self, value: f32) -> bool {
        self.min <= value && value <= self.max
    }
}

/// The bars of all components: what a capture must reach to be used.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct QualityBars {
    /// Least pixels between the eyes.
    pub inter_eye_distance_px_min: f32,
    /// Brightness of the face, 0 to 1.
    pub luminance: Bar,
    /// Least energy of fine detail.
    pub sharpness_min: f32,
    /// Most degrees to either side.
    pub yaw_deg_max: f32,
    /// Most degrees up or down.
    pub pitch_deg_max: f32,
    /// Most degrees of tilt.
    pub roll_deg_max: f32,
    /// Least length of the raw embedding.
    pub unified_min: f32,
}

/// One component's value beside its bar.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct QualityMeasure {
    /// What was measured.
    pub component: QualityComponent,
    /// The value, in the component's unit.
    pub value: f32,
    /// What it must be.
    pub bar: Bar,
}

impl QualityMeasure {
    /// What to tell the person, if the bar is missed.
    #[must_use]
    pub fn refusal(&self) -> Option<QualityRefusal> {
        if self.bar.is_met_by(self.value) {
            return None;
        }
        Some(match self.component {
            QualityComponent::InterEyeDistance => QualityRefusal::FaceTooSmall,
            QualityComponent::LuminanceMean if self.value > self.bar.max => {
                QualityRefusal::TooBright
            }
            QualityComponent::LuminanceMean => QualityRefusal::TooDark,
            QualityComponent::Sharpness => QualityRefusal::Blurred,
            QualityComponent::HeadPoseYaw
            | QualityComponent::HeadPosePitch
            | QualityComponent::HeadPoseRoll => QualityRefusal::Pose,
            QualityComponent::UnifiedQualityScore => QualityRefusal::LowQuality,
        })
    }
}

/// All components of one face, the most actionable first.
#[derive(Clone, PartialEq, Debug)]
pub struct QualityReport {
    measures: Vec<QualityMeasure>,
}

impl QualityReport {
    /// A report of these measures, in the order in which a refusal should name them.
    #[must_use]
    pub fn new(measures: Vec<QualityMeasure>) -> Self {
        Self { measures }
    }

    /// Every component with its value and bar.
    #[must_use]
    pub fn measures(&self) -> &[QualityMeasure] {
        &self.measures
    }

    /// The value of one component, if it was measured.
    #[must_use]
    pub fn value(&self, component: QualityComponent) -> Option<f32> {
        self.measures.iter().find(|measure| measure.component == component).map(|m| m.value)
    }

    /// The first thing to mend; `None` when the face can be used.
    #[must_use]
    pub fn refusal(&self) -> Option<QualityRefusal> {
        self.measures.iter().find_map(QualityMeasure::refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(component: QualityComponent, value: f32) -> QualityMeasure {
        QualityMeasure { component, value, bar: Bar { min: 1.0, max: 2.0 } }
    }

    #[test]
    fn the_ends_of_a_bar_are_good_enough_and_nan_is_not() {
        let bar = Bar { min: 1.0, max: 2.0 };
        assert!(bar.is_met_by(1.0) && bar.is_met_by(2.0));
        assert!(!bar.is_met_by(0.999) && !bar.is_met_by(2.001) && !bar.is_met_by(f32::NAN));
    }

    #[test]
    fn a_refusal_says_what_to_mend() {
        let dark = measure(QualityComponent::LuminanceMean, 0.5);
        let bright = measure(QualityComponent::LuminanceMean, 2.5);
        let turned = measure(QualityComponent::HeadPoseYaw, 9.0);
        let good = measure(QualityComponent::Sharpness, 1.5);
        assert_eq!(dark.refusal(), Some(QualityRefusal::TooDark));
        assert_eq!(bright.refusal(), Some(QualityRefusal::TooBright));
        assert_eq!(
            QualityReport::new(vec![good, turned, dark]).refusal(),
            Some(QualityRefusal::Pose)
        );
        assert_eq!(QualityReport::new(vec![good]).refusal(), None);
    }
}
