//! `manifest.toml`: which file plays which role, how it is fed, and what its scores mean.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::model::{LoadError, Model};
use crate::crypto::{Digest, sha256};
use crate::domain::embedding::ModelId;
use crate::domain::quality::{Bar, QualityBars};
use crate::domain::score::{
    Calibration, Fusion, FusionTerm, InvalidCalibration, MatchingParameters, Strength,
};

/// A checked manifest: every number is in range, every name is known.
///
/// The files it names are read, and their digests checked, by [`ModelSource::load`].
#[derive(Clone, Debug)]
pub struct ModelManifest {
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
}

/// A file and where it came from.
#[derive(Clone, Debug)]
pub struct ModelSource {
    /// Where the file lies.
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// Package, project or person that published it.
    pub origin: String,
    /// SPDX name of the weights' licence.
    pub licence: String,
    /// Order of the input's planes.
    pub colour: Colour,
    /// Input value of a black pixel and of a white one.
    pub range: (f32, f32),
}

/// Order of colour planes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
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
        } = raw;
        require(version == 1, "version")?;
        require(liveness.len() <= LIVENESS_MODELS_MAX, "number of liveness models")?;
        Ok(Self {
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
            },
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
        sources
    }
}

impl ModelSource {
    /// The id of the model that the manifest names.
    #[must_use]
    pub const fn id(&self) -> ModelId {
        ModelId::new(*self.sha256.as_bytes())
    }

    /// Reads the file, and refuses any other than the manifest names.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] when it cannot be read, is too large, or has another digest.
    pub fn read(&self) -> Result<Vec<u8>, ManifestError> {
        let unreadable = |source| ManifestError::Unreadable { path: self.path.clone(), source };
        if fs::metadata(&self.path).map_err(unreadable)?.len() > MODEL_BYTES_MAX {
            return Err(ManifestError::TooLarge { path: self.path.clone() });
        }
        let bytes = fs::read(&self.path).map_err(unreadable)?;
        let found = sha256(&bytes);
        if found == self.sha256 {
            return Ok(bytes);
        }
        let (path, expected) = (self.path.clone(), self.sha256);
        Err(ManifestError::DigestMismatch { path, expected, found })
    }

    /// Reads, checks and compiles the model for a square input.
    ///
    /// # Errors
    ///
    /// [`ManifestError`], as [`Self::read`], and when the model does not load.
    pub fn load(&self, side_px: usize) -> Result<Model, ManifestError> {
        Model::compile(self.id(), &self.read()?, side_px)
            .map_err(|source| ManifestError::Load { path: self.path.clone(), source })
    }

    /// The input value of a pixel's channel.
    #[must_use]
    pub fn input_value(&self, channel: f32) -> f32 {
        self.range.0 + (self.range.1 - self.range.0) * channel / 255.0
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
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSource {
    path: PathBuf,
    sha256: String,
    origin: String,
    licence: String,
    colour: Colour,
    range: [f32; 2],
}

impl RawSource {
    fn check(self, models_dir: &Path) -> Result<ModelSource, ManifestError> {
        let Self { path, sha256, origin, licence, colour, range: [black, white] } = self;
        require(
            black.is_finite() && white.is_finite() && (white - black).abs() > f32::EPSILON,
            "range",
        )?;
        Ok(ModelSource {
            path: models_dir.join(path),
            sha256: Digest::from_hex(&sha256)
                .map_err(|_| ManifestError::OutOfRange { field: "sha256" })?,
            origin,
            licence,
            colour,
            range: (black, white),
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDetector {
    file: RawSource,
    side_px: usize,
    retry_side_px: usize,
    score_min: f32,
    overlap_max: f32,
    second_area_max: f32,
}

impl RawDetector {
    fn check(self, models_dir: &Path) -> Result<DetectorSpec, ManifestError> {
        let Self { file, side_px, retry_side_px, score_min, overlap_max, second_area_max } = self;
        let whole_strides = |side: usize| side.is_multiple_of(32) && (32..=2048).contains(&side);
        require(whole_strides(side_px), "detector.side_px")?;
        require(whole_strides(retry_side_px), "detector.retry_side_px")?;
        require((0.01..1.0).contains(&score_min), "detector.score_min")?;
        require((0.0..1.0).contains(&overlap_max), "detector.overlap_max")?;
        require((0.0..=1.0).contains(&second_area_max), "detector.second_area_max")?;
        let source = file.check(models_dir)?;
        Ok(DetectorSpec { source, side_px, retry_side_px, score_min, overlap_max, second_area_max })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEmbedder {
    file: RawSource,
    side_px: usize,
    length: usize,
    alignment: [[f32; 2]; 5],
}

impl RawEmbedder {
    fn check(self, models_dir: &Path) -> Result<EmbedderSpec, ManifestError> {
        let Self { file, side_px, length, alignment } = self;
        require((32..=512).contains(&side_px), "embedder's side_px")?;
        require((16..=1024).contains(&length), "embedder's length")?;
        let inside = |[x, y]: &[f32; 2]| {
            let side = 0.0..512.0f32;
            side.contains(x) && side.contains(y)
        };
        require(alignment.iter().all(inside), "embedder's alignment")?;
        let alignment = alignment.map(|[x, y]| (x, y));
        Ok(EmbedderSpec { source: file.check(models_dir)?, side_px, length, alignment })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLiveness {
    file: RawSource,
    side_px: usize,
    crop_scale: f32,
    live_class: usize,
}

impl RawLiveness {
    fn check(self, models_dir: &Path) -> Result<LivenessSpec, ManifestError> {
        let Self { file, side_px, crop_scale, live_class } = self;
        require((32..=512).contains(&side_px), "liveness side_px")?;
        require((1.0..=8.0).contains(&crop_scale), "liveness crop_scale")?;
        require(live_class < 16, "liveness live_class")?;
        Ok(LivenessSpec { source: file.check(models_dir)?, side_px, crop_scale, live_class })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawQuality {
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
    fn check(self) -> Result<QualityBars, ManifestError> {
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
struct RawFusion {
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
    fn check(self) -> Result<Fusion, ManifestError> {
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
struct RawCalibration {
    single: Vec<[f32; 2]>,
    template: Vec<[f32; 2]>,
}

fn table(name: &'static str, points: Vec<[f32; 2]>) -> Result<Calibration, ManifestError> {
    Calibration::new(points.into_iter().map(|[score, db]| (score, db)).collect())
        .map_err(|source| ManifestError::Calibration { table: name, source })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBars {
    search_db_min: u8,
    captures_agree_db_min: u8,
}

fn bar(db: u8, field: &'static str) -> Result<Strength, ManifestError> {
    require((10..=60).contains(&db), field)?;
    Ok(Strength::from_db(db))
}

fn require(held: bool, field: &'static str) -> Result<(), ManifestError> {
    if held { Ok(()) } else { Err(ManifestError::OutOfRange { field }) }
}

const MANIFEST_NAME: &str = "manifest.toml";

/// More than any face model on a gateway should need.
const MODEL_BYTES_MAX: u64 = 512 << 20;

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
        assert_eq!(manifest.sources().len(), 3);
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
            ("version = 1", "version = 1\nsurprise = true"),
        ] {
            let text = committed();
            assert!(text.contains(from), "{from}");
            assert!(parse(&text.replacen(from, to, 1)).is_err(), "{to}");
        }
    }

    #[test]
    fn another_file_under_the_name_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut source = parse(&committed()).unwrap().detector.source;
        source.path = dir.path().join("yunet.onnx");
        assert!(matches!(source.read(), Err(ManifestError::Unreadable { .. })));
        fs::write(&source.path, b"another model").unwrap();
        assert!(matches!(source.read(), Err(ManifestError::DigestMismatch { .. })));
        assert!(source.load(320).is_err());
    }

    #[test]
    fn the_committed_models_have_the_manifest_s_digests() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        for (role, source) in ModelManifest::load(&dir).unwrap().sources() {
            assert!(source.read().is_ok(), "{role}");
        }
    }
}
