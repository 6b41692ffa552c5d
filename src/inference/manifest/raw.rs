//! The manifest as it is written, for what faces need; each part checks itself.

use std::path::Path;

use serde::Deserialize;

use super::source::RawSource;
use super::{DetectorSpec, EmbedderSpec, LivenessSpec, ManifestError, require};
use crate::domain::likelihood::LikelihoodMap;
use crate::domain::quality::{Bar, QualityBars};
use crate::domain::score::{Calibration, FaceLikelihood, Fusion, FusionTerm, Strength};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDetector {
    file: RawSource,
    side_px: usize,
    retry_side_px: usize,
    close_side_px: usize,
    close_scale: f32,
    score_min: f32,
    overlap_max: f32,
    second_area_max: f32,
}

impl RawDetector {
    pub(super) fn check(self, models_dir: &Path) -> Result<DetectorSpec, ManifestError> {
        let Self {
            file,
            side_px,
            retry_side_px,
            close_side_px,
            close_scale,
            score_min,
            overlap_max,
            second_area_max,
        } = self;
        let whole_strides = |side: usize| side.is_multiple_of(32) && (32..=2048).contains(&side);
        require(whole_strides(side_px), "detector.side_px")?;
        require(whole_strides(retry_side_px), "detector.retry_side_px")?;
        require(whole_strides(close_side_px), "detector.close_side_px")?;
        require((1.0..=4.0).contains(&close_scale), "detector.close_scale")?;
        require((0.01..1.0).contains(&score_min), "detector.score_min")?;
        require((0.0..1.0).contains(&overlap_max), "detector.overlap_max")?;
        require((0.0..=1.0).contains(&second_area_max), "detector.second_area_max")?;
        let source = file.check_in_colour(models_dir)?;
        Ok(DetectorSpec {
            source,
            side_px,
            retry_side_px,
            close_side_px,
            close_scale,
            score_min,
            overlap_max,
            second_area_max,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEmbedder {
    file: RawSource,
    side_px: usize,
    length: usize,
    alignment: [[f32; 2]; 5],
}

impl RawEmbedder {
    pub(super) fn check(self, models_dir: &Path) -> Result<EmbedderSpec, ManifestError> {
        let Self { file, side_px, length, alignment } = self;
        require((32..=512).contains(&side_px), "embedder's side_px")?;
        require((16..=1024).contains(&length), "embedder's length")?;
        let inside = |[x, y]: &[f32; 2]| {
            let side = 0.0..512.0f32;
            side.contains(x) && side.contains(y)
        };
        require(alignment.iter().all(inside), "embedder's alignment")?;
        let alignment = alignment.map(|[x, y]| (x, y));
        Ok(EmbedderSpec { source: file.check_in_colour(models_dir)?, side_px, length, alignment })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLiveness {
    file: RawSource,
    side_px: usize,
    crop_scale: f32,
    live_class: usize,
}

impl RawLiveness {
    pub(super) fn check(self, models_dir: &Path) -> Result<LivenessSpec, ManifestError> {
        let Self { file, side_px, crop_scale, live_class } = self;
        require((32..=512).contains(&side_px), "liveness side_px")?;
        require((1.0..=8.0).contains(&crop_scale), "liveness crop_scale")?;
        require(live_class < 16, "liveness live_class")?;
        Ok(LivenessSpec {
            source: file.check_in_colour(models_dir)?,
            side_px,
            crop_scale,
            live_class,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawQuality {
    inter_eye_distance_px_min: f32,
    luminance_min: f32,
    luminance_max: f32,
    sharpness_min: f32,
    yaw_deg_max: f32,
    pitch_deg_max: f32,
    roll_deg_max: f32,
    unified_min: f32,
}

impl RawQuality {
    pub(super) fn check(self) -> Result<QualityBars, ManifestError> {
        let Self {
            inter_eye_distance_px_min,
            luminance_min,
            luminance_max,
            sharpness_min,
            yaw_deg_max,
            pitch_deg_max,
            roll_deg_max,
            unified_min,
        } = self;
        let angle = |degrees: f32| (1.0..=90.0).contains(&degrees);
        let angles = angle(yaw_deg_max) && angle(pitch_deg_max) && angle(roll_deg_max);
        require(angles, "quality's head pose")?;
        require((4.0..=1000.0).contains(&inter_eye_distance_px_min), "quality's eye distance")?;
        require(0.0 <= luminance_min && luminance_min < luminance_max, "quality's luminance")?;
        require(luminance_max <= 1.0, "quality.luminance_max")?;
        require((0.0..=10_000.0).contains(&sharpness_min), "quality.sharpness_min")?;
        require((0.0..=1000.0).contains(&unified_min), "quality.unified_min")?;
        Ok(QualityBars {
            inter_eye_distance_px_min,
            luminance: Bar { min: luminance_min, max: luminance_max },
            sharpness_min,
            yaw_deg_max,
            pitch_deg_max,
            roll_deg_max,
            unified_min,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFusion {
    sface: RawTerm,
    dlib: RawTerm,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTerm {
    weight: f32,
    mean: f32,
    deviation: f32,
}

impl RawFusion {
    pub(super) fn check(self) -> Result<Fusion, ManifestError> {
        let term = |RawTerm { weight, mean, deviation }, field| {
            FusionTerm::new(weight, mean, deviation)
                .map_err(|_| ManifestError::OutOfRange { field })
        };
        Ok(Fusion {
            sface: term(self.sface, "fusion.sface")?,
            dlib: term(self.dlib, "fusion.dlib")?,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCalibration {
    pub(super) single: Vec<[f32; 2]>,
    pub(super) template: Vec<[f32; 2]>,
}

pub(super) fn table(
    name: &'static str,
    points: Vec<[f32; 2]>,
) -> Result<Calibration, ManifestError> {
    Calibration::new(points.into_iter().map(|[score, db]| (score, db)).collect())
        .map_err(|source| ManifestError::Calibration { table: name, source })
}

pub(super) fn map(
    name: &'static str,
    steps: Vec<[f32; 2]>,
) -> Result<LikelihoodMap, ManifestError> {
    LikelihoodMap::new(steps.into_iter().map(|[score, nats]| (score, nats)).collect())
        .map_err(|source| ManifestError::Likelihood { map: name, source })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLikelihood {
    single: Vec<[f32; 2]>,
    template: Vec<[f32; 2]>,
}

impl RawLikelihood {
    pub(super) fn check(self) -> Result<FaceLikelihood, ManifestError> {
        let Self { single, template } = self;
        Ok(FaceLikelihood {
            single: map("likelihood.single", single)?,
            template: map("likelihood.template", template)?,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBars {
    pub(super) search_db_min: u8,
    pub(super) captures_agree_db_min: u8,
}

pub(super) fn bar(db: u8, field: &'static str) -> Result<Strength, ManifestError> {
    require((10..=60).contains(&db), field)?;
    Ok(Strength::from_db(db))
}
