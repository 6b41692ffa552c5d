//! The manifest's part for fingers. A manifest without it is a gateway without fingers.

use std::path::Path;

use serde::Deserialize;

use super::raw::{bar, map, table};
use super::source::RawSource;
use super::{Colour, ManifestError, ModelSource, require};
use crate::crypto::Digest;
use crate::domain::embedding::ModelId;
use crate::domain::finger_quality::FingerQualityBars;
use crate::domain::score::{FingerMatchingParameters, FingerTable, MatchScore};

/// The minutiae model's role.
#[derive(Clone, Debug)]
pub struct FingerSpec {
    /// Its file.
    pub source: ModelSource,
    /// The sizes of its input, width and height in pixels at 500 an inch, the smallest area first.
    pub sizes_px: Vec<(usize, usize)>,
    /// Least side of a picture that can hold a fingerprint, in pixels.
    pub side_px_min: u32,
    /// A second finger over this share of the largest one's area makes the capture ambiguous.
    pub second_area_max: f32,
    /// Least likelihood of a minutia.
    pub score_min: f32,
    /// What a capture must reach.
    pub quality: FingerQualityBars,
    /// What scores mean.
    pub matching: FingerMatchingParameters,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFinger {
    file: RawSource,
    sizes_px: Vec<[usize; 2]>,
    side_px_min: u32,
    second_area_max: f32,
    score_min: f32,
    quality: RawFingerQuality,
    matching: RawFingerMatching,
    #[serde(default)]
    foreign: Vec<RawForeign>,
}

impl RawFinger {
    pub(super) fn check(self, models_dir: &Path) -> Result<FingerSpec, ManifestError> {
        let Self {
            file,
            sizes_px,
            side_px_min,
            second_area_max,
            score_min,
            quality,
            matching,
            foreign,
        } = self;
        let source = file.check(models_dir)?;
        require(source.colour == Colour::Grey, "finger.file's colour")?;
        let whole_strides = |side: &usize| side.is_multiple_of(32) && (64..=1024).contains(side);
        require(sizes_px.iter().flatten().all(whole_strides), "finger.sizes_px")?;
        let rising = sizes_px.is_sorted_by(|[w, h], [wider, higher]| w * h < wider * higher);
        require((1..=SIZES_MAX).contains(&sizes_px.len()) && rising, "finger.sizes_px")?;
        require((32..=512).contains(&side_px_min), "finger.side_px_min")?;
        require((0.0..=1.0).contains(&second_area_max), "finger.second_area_max")?;
        require((0.05..1.0).contains(&score_min), "finger.score_min")?;
        let sizes_px = sizes_px.into_iter().map(|[width, height]| (width, height)).collect();
        let quality = quality.check()?;
        let matching = matching.check(foreign)?;
        Ok(FingerSpec {
            source,
            sizes_px,
            side_px_min,
            second_area_max,
            score_min,
            quality,
            matching,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFingerMatching {
    search_score_min: f32,
    captures_agree_db_min: u8,
    calibration: Vec<[f32; 2]>,
    likelihood: Vec<[f32; 2]>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFingerTable {
    calibration: Vec<[f32; 2]>,
    likelihood: Vec<[f32; 2]>,
}

/// Templates of another system, by the model that stands for their maker.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawForeign {
    model: String,
    calibration: Vec<[f32; 2]>,
    likelihood: Vec<[f32; 2]>,
}

impl RawFingerMatching {
    fn check(self, foreign: Vec<RawForeign>) -> Result<FingerMatchingParameters, ManifestError> {
        let Self { search_score_min, captures_agree_db_min, calibration, likelihood } = self;
        let foreign = foreign.into_iter().map(|RawForeign { model, calibration, likelihood }| {
            let model = Digest::from_hex(&model)
                .map_err(|_| ManifestError::OutOfRange { field: "finger.foreign.model" })?;
            let table = RawFingerTable { calibration, likelihood }.check("finger.foreign")?;
            Ok((ModelId::new(*model.as_bytes()), table))
        });
        require((0.0..=1.0).contains(&search_score_min), "finger.matching.search_score_min")?;
        Ok(FingerMatchingParameters {
            own: RawFingerTable { calibration, likelihood }.check("finger.matching")?,
            foreign: foreign.collect::<Result<_, ManifestError>>()?,
            search_score_min: MatchScore::new(search_score_min).map_err(|_| {
                ManifestError::OutOfRange { field: "finger.matching.search_score_min" }
            })?,
            captures_agree_strength_min: bar(
                captures_agree_db_min,
                "finger.matching.captures_agree_db_min",
            )?,
        })
    }
}

impl RawFingerTable {
    fn check(self, name: &'static str) -> Result<FingerTable, ManifestError> {
        let Self { calibration, likelihood } = self;
        Ok(FingerTable {
            calibration: table(name, calibration)?,
            likelihood: map(name, likelihood)?,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFingerQuality {
    grey_deviation_min: f32,
    grey_mean_max: f32,
    foreground_px_min: f32,
    minutiae_min: f32,
    counted_quality_min: f32,
    minutiae_quality_min: f32,
}

impl RawFingerQuality {
    fn check(self) -> Result<FingerQualityBars, ManifestError> {
        let Self {
            grey_deviation_min,
            grey_mean_max,
            foreground_px_min,
            minutiae_min,
            counted_quality_min,
            minutiae_quality_min,
        } = self;
        let grey = |value: f32| (0.0..=255.0).contains(&value);
        let likelihood = |value: f32| (0.0..=1.0).contains(&value);
        require(grey(grey_deviation_min), "finger.quality.grey_deviation_min")?;
        require(grey(grey_mean_max), "finger.quality.grey_mean_max")?;
        require((1e3..=1e6).contains(&foreground_px_min), "finger.quality.foreground_px_min")?;
        require((1.0..=100.0).contains(&minutiae_min), "finger.quality.minutiae_min")?;
        require(likelihood(counted_quality_min), "finger.quality.counted_quality_min")?;
        require(likelihood(minutiae_quality_min), "finger.quality.minutiae_quality_min")?;
        Ok(FingerQualityBars {
            grey_deviation_min,
            grey_mean_max,
            foreground_px_min,
            minutiae_min,
            counted_quality_min,
            minutiae_quality_min,
        })
    }
}

/// Each size is a plan of its own, with tens of megabytes of intermediate numbers while it runs.
const SIZES_MAX: usize = 6;
