//! `manifest.toml`: which file plays which role, how it is fed, and what its scores mean.

mod finger;
mod raw;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::model::LoadError;
use crate::crypto::{Digest, sha256};
use crate::domain::likelihood::InvalidLikelihood;
use crate::domain::quality::QualityBars;
use crate::domain::score::{InvalidCalibration, MatchingParameters};

use finger::RawFinger;
use raw::{
    RawBars, RawCalibration, RawDetector, RawEmbedder, RawFusion, RawLikelihood, RawLiveness,
    RawQuality, bar, table,
};

pub use finger::FingerSpec;
pub use source::{Colour, ModelSource};

/// A checked manifest: every number is in range, every name is known.
///
/// The files it names are read, and their digests checked, by [`ModelSource::load`].
#[derive(Clone, Debug)]
pub struct ModelManifest {
    /// SHA-256 of its text. The text names each model by its digest and states every parameter: two gateways
    /// with one manifest look at a picture in one way.
    pub digest: Digest,
    /// Finds faces and their landmarks.
    pub detector: DetectorSpec,
    /// The first embedding.
    pub sface: EmbedderSpec,
    /// The second embedding.
    pub dlib: EmbedderSpec,
    /// Passive liveness models, averaged; empty when the operator has added none.
    pub liveness: Vec<LivenessSpec>,
    /// What a capture must reach.
    pub quality: QualityBars,
    /// What scores mean.
    pub matching: MatchingParameters,
    /// Finds minutiae; `None` where the gateway takes no fingers.
    pub finger: Option<FingerSpec>,
}

/// The detector's role.
#[derive(Clone, Debug)]
pub struct DetectorSpec {
    /// Its file.
    pub source: ModelSource,
    /// Side of the input that every picture is tried at, in pixels.
    pub side_px: usize,
    /// Side of the input that is tried when nothing is found, in pixels.
    pub retry_side_px: usize,
    /// Side of the input for a close look at a face that was found, in pixels.
    pub close_side_px: usize,
    /// How many times the face's longer side a close look takes in.
    pub close_scale: f32,
    /// Least score of a face.
    pub score_min: f32,
    /// Two boxes that overlap by more than this share of their union are one face.
    pub overlap_max: f32,
    /// A second face over this share of the largest one's area makes the capture ambiguous.
    pub second_area_max: f32,
}

/// An embedding model's role.
#[derive(Clone, Debug)]
pub struct EmbedderSpec {
    /// Its file.
    pub source: ModelSource,
    /// Side of its aligned input, in pixels.
    pub side_px: usize,
    /// How many numbers it yields.
    pub length: usize,
    /// Where the right eye, left eye, nose, right and left mouth corner of the subject must lie in
    /// the input, in pixels.
    pub alignment: [(f32, f32); 5],
}

/// A passive liveness model's role.
#[derive(Clone, Debug)]
pub struct LivenessSpec {
    /// Its file.
    pub source: ModelSource,
    /// Side of its input, in pixels.
    pub side_px: usize,
    /// How many times larger than the face's box its crop is.
    pub crop_scale: f32,
    /// Which of its classes means a live person.
    pub live_class: usize,
}

/// A manifest, or a file it names, that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The manifest is no TOML of the expected shape.
    #[error("{} is not a manifest", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value is out of range.
    #[error("the manifest's {field} is out of range")]
    OutOfRange {
        /// Which value.
        field: &'static str,
    },
    /// A calibration table does not rise, or leaves 0 to 60 dB.
    #[error("the manifest's calibration table {table:?} cannot be used")]
    Calibration {
        /// Which table.
        table: &'static str,
        /// Why.
        #[source]
        source: InvalidCalibration,
    },
    /// A likelihood map does not rise, or leaves 60 dB either way.
    #[error("the manifest's likelihood map {map:?} cannot be used")]
    Likelihood {
        /// Which map.
        map: &'static str,
        /// Why.
        #[source]
        source: InvalidLikelihood,
    },
    /// A model's file is not the one that the manifest names.
    #[error("{} has the digest {found:?}, not the manifest's {expected:?}", path.display())]
    DigestMismatch {
        /// Which file.
        path: PathBuf,
        /// What the manifest says.
        expected: Digest,
        /// What the file has.
        found: Digest,
    },
    /// A model's file is larger than any model may be.
    #[error("{} is larger than a model may be", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// A model does not load.
    #[error("{} cannot be loaded", path.display())]
    Load {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: LoadError,
    },
}

impl ManifestError {
    /// The stable word for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "SYS_MODEL"
    }
}

impl ModelManifest {
    /// Reads and checks `manifest.toml` in a folder. Models' paths are relative to that folder.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] when it cannot be read, is malformed, or holds a value out of range.
    pub fn load(models_dir: &Path) -> Result<Self, ManifestError> {
        let path = models_dir.join(MANIFEST_NAME);
        let text = fs::read_to_string(&path)
            .map_err(|source| ManifestError::Unreadable { path: path.clone(), source })?;
        Self::parse(&text, models_dir).map_err(|error| match error {
            ManifestError::Malformed { source, .. } => ManifestError::Malformed { path, source },
            other => other,
        })
    }

    /// Checks a manifest's text.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] when it is malformed or holds a value out of range.
    pub fn parse(text: &str, models_dir: &Path) -> Result<Self, ManifestError> {
        let raw: RawManifest = toml::from_str(text).map_err(|source| ManifestError::Malformed {
            path: models_dir.join(MANIFEST_NAME),
            source: Box::new(source),
        })?;
        let RawManifest {
            version,
            detector,
            sface,
            dlib,
            liveness,
            quality,
            fusion,
            calibration,
            bars,
            likelihood,
            finger,
        } = raw;
        require(version == 1, "version")?;
        require(liveness.len() <= LIVENESS_MODELS_MAX, "number of liveness models")?;
        Ok(Self {
            digest: sha256(text.as_bytes()),
            detector: detector.check(models_dir)?,
            sface: sface.check(models_dir)?,
            dlib: dlib.check(models_dir)?,
            liveness: liveness
                .into_iter()
                .map(|slot| slot.check(models_dir))
                .collect::<Result<_, _>>()?,
            quality: quality.check()?,
            matching: MatchingParameters {
                fusion: fusion.check()?,
                single: table("single", calibration.single)?,
                template: table("template", calibration.template)?,
                search_strength_min: bar(bars.search_db_min, "bars.search_db_min")?,
                captures_agree_strength_min: bar(
                    bars.captures_agree_db_min,
                    "bars.captures_agree_db_min",
                )?,
                likelihood: likelihood.map(RawLikelihood::check).transpose()?,
            },
            finger: finger.map(|finger| finger.check(models_dir)).transpose()?,
        })
    }

    /// All files that the manifest names, with their roles.
    #[must_use]
    pub fn sources(&self) -> Vec<(&'static str, &ModelSource)> {
        let mut sources = vec![
            ("detector", &self.detector.source),
            ("sface", &self.sface.source),
            ("dlib", &self.dlib.source),
        ];
        sources.extend(self.liveness.iter().map(|slot| ("liveness", &slot.source)));
        sources.extend(self.finger.iter().map(|finger| ("finger", &finger.source)));
        sources
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    version: u32,
    detector: RawDetector,
    sface: RawEmbedder,
    dlib: RawEmbedder,
    #[serde(default)]
    liveness: Vec<RawLiveness>,
    quality: RawQuality,
    fusion: RawFusion,
    calibration: RawCalibration,
    bars: RawBars,
    likelihood: Option<RawLikelihood>,
    finger: Option<RawFinger>,
}

fn require(held: bool, field: &'static str) -> Result<(), ManifestError> {
    if held { Ok(()) } else { Err(ManifestError::OutOfRange { field }) }
}

const MANIFEST_NAME: &str = "manifest.toml";

const LIVENESS_MODELS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn committed() -> String {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        fs::read_to_string(dir.join(MANIFEST_NAME)).unwrap()
    }

    fn parse(text: &str) -> Result<ModelManifest, ManifestError> {
        ModelManifest::parse(text, Path::new("models"))
    }

    #[test]
    fn the_committed_manifest_is_good_and_has_no_liveness_model() {
        let manifest = parse(&committed()).unwrap();
        assert_eq!(manifest.sources().len(), 4);
        assert!(manifest.liveness.is_empty());
        assert_eq!(manifest.detector.side_px, 320);
    }

    #[test]
    fn each_value_out_of_range_is_refused() {
        for (from, to) in [
            ("version = 1", "version = 2"),
            ("side_px = 320", "side_px = 321"),
            ("score_min = 0.6", "score_min = nan"),
            ("length = 128", "length = 0"),
            ("luminance_max = ", "luminance_max = -"),
            ("yaw_deg_max = ", "yaw_deg_max = 1"),
            ("deviation = 0.", "deviation = -0."),
            ("search_db_min = ", "search_db_min = 1"),
            ("range = [0.0, 255.0]", "range = [0.0, 0.0]"),
            ("sha256 = \"49f0", "sha256 = \"49g0"),
            ("sha256 = \"49f0", "sha256 = \"9f0"),
            ("colour = \"bgr\"", "colour = \"cmyk\""),
            ("colour = \"bgr\"", "colour = \"grey\""),
            ("colour = \"grey\"", "colour = \"rgb\""),
            ("[256, 352]", "[256, 350]"),
            ("[256, 352]", "[512, 640]"),
            ("counted_quality_min = 0.5", "counted_quality_min = 5"),
            ("version = 1", "version = 1\nsurprise = true"),
        ] {
            let text = committed();
            assert!(text.contains(from), "{from}");
            assert!(parse(&text.replacen(from, to, 1)).is_err(), "{to}");
        }
    }

    #[test]
    fn without_its_part_there_are_no_fingers() {
        let text = committed();
        let (before, rest) = text.split_once("[finger]").unwrap();
        let (_, after) = rest.split_once("[quality]").unwrap();
        let manifest = parse(&format!("{before}[quality]{after}")).unwrap();
        assert!(manifest.finger.is_none());
        assert_eq!(manifest.sources().len(), 3);
    }

    #[test]
    fn the_committed_models_have_the_manifest_s_digests() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        for (role, source) in ModelManifest::load(&dir).unwrap().sources() {
            assert!(source.read().is_ok(), "{role}");
        }
    }
}
