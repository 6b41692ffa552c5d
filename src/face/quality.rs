//! Measures a face against the manifest's bars.

use super::detect::DetectedFace;
use super::raster::Chip;
use crate::domain::quality::{Bar, QualityBars, QualityComponent, QualityMeasure, QualityReport};

/// All components, in the order in which a person can mend them: come nearer, mend the light, hold
/// still, look into the camera, and last what no advice covers.
pub(super) fn measure(
    face: &DetectedFace,
    chip: &Chip,
    embedding_norm: f32,
    bars: &QualityBars,
) -> QualityReport {
    let (luminance, detail) = chip.brightness_and_detail();
    let pose = face.landmarks.head_pose();
    let at_least = |min| Bar { min, max: f32::INFINITY };
    let within = |max: f32| Bar { min: -max, max };
    let measures = [
        (
            QualityComponent::InterEyeDistance,
            face.landmarks.inter_eye_distance(),
            at_least(bars.inter_eye_distance_px_min),
        ),
        (QualityComponent::LuminanceMean, luminance, bars.luminance),
        (QualityComponent::Sharpness, detail, at_least(bars.sharpness_min)),
        (QualityComponent::HeadPoseYaw, pose.yaw_deg, within(bars.yaw_deg_max)),
        (QualityComponent::HeadPosePitch, pose.pitch_deg, within(bars.pitch_deg_max)),
        (QualityComponent::HeadPoseRoll, pose.roll_deg, within(bars.roll_deg_max)),
        (QualityComponent::UnifiedQualityScore, embedding_norm, at_least(bars.unified_min)),
    ];
    QualityReport::new(
        measures
            .into_iter()
            .map(|(component, value, bar)| QualityMeasure { component, value, bar })
            .collect(),
    )
}
