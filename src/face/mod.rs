//! Detect, align, quality, liveness, embed.
//!
//! ```text
//! DecodedImage -> DetectedFace -> AssessedFace -> UsableFace -> FaceEmbedding
//!           locate         assess        require        embed
//! ```
//!
//! A picture that cannot be used is a value ([`Acquisition::Refused`]); a model that broke is an
//! error ([`FaceError`]). The two never mix: a technical failure is no mismatch.

mod detect;
mod embed;
mod geometry;
mod liveness;
mod print;
mod quality;
mod raster;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::capture::DecodedImage;
use crate::domain::embedding::{FaceEmbedding, InvalidEmbedding, Making, ModelId};
use crate::domain::face_print::FacePrint;
use crate::domain::liveness::LivenessScore;
use crate::domain::quality::{QualityRefusal, QualityReport};
use crate::inference::{self, Isa, ManifestError, ModelManifest, RunError};

use detect::Detector;
use embed::{Embedder, RawEmbedding};
use liveness::LivenessModel;

pub use detect::DetectedFace;
pub use geometry::{BoundingBox, HeadPose, Landmarks, Point, SimilarityTransform};
pub use raster::Chip;

/// All face models of a manifest, loaded and checked; shared by all threads.
#[derive(Clone, Debug)]
pub struct FacePipeline {
    manifest: ModelManifest,
    detector: Detector,
    sface: Embedder,
    dlib: Embedder,
    liveness: Vec<LivenessModel>,
    /// How often a model was run.
    passes: Arc<AtomicU64>,
}

/// A model that did not do its work: a technical failure, never a mismatch or a refusal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FaceError {
    /// A model failed, or yielded NaN.
    #[error("a face model failed")]
    Run(#[from] RunError),
    /// A model yielded an embedding without a direction.
    #[error("a face model yielded no embedding")]
    Embedding(#[from] InvalidEmbedding),
    /// A model yielded what its role does not allow.
    #[error("impossible model output: {0}")]
    Impossible(&'static str),
}

impl FaceError {
    /// The stable word for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "SYS_INTERNAL"
    }
}

/// What became of a picture.
#[derive(Clone, Debug)]
#[must_use = "a refusal that is dropped is a customer who is told nothing"]
pub enum Acquisition {
    /// It shows one face, well enough.
    Usable(Probe),
    /// It cannot be used, and the person can mend why.
    Refused(Refusal),
}

/// A face that was found good enough, embedded.
#[derive(Clone, Debug)]
pub struct Probe {
    /// As both models see it.
    pub embedding: FaceEmbedding,
    /// Every component with its bar, all met.
    pub quality: QualityReport,
    /// The liveness models' mean; `None` when the operator has added none.
    pub liveness: Option<LivenessScore>,
    /// How it looks, coarsely.
    pub print: FacePrint,
}

/// Why a picture cannot be used.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// What to mend first.
    pub cause: QualityRefusal,
    /// What was measured; `None` when no single face was there to measure.
    pub quality: Option<QualityReport>,
}

/// A face, measured but not yet judged.
pub struct AssessedFace<'a> {
    image: &'a DecodedImage,
    face: DetectedFace,
    chip: Chip,
    raw_sface: RawEmbedding,
    report: QualityReport,
}

/// What does not wait for `SFace`.
struct Rest {
    dlib: DlibView,
    liveness: Option<LivenessScore>,
}

/// A face as dlib wants it, and what dlib yields for it.
struct DlibView {
    chip: Chip,
    raw: RawEmbedding,
}

/// A face that meets every bar: the only kind that is embedded for a decision.
pub struct UsableFace<'a>(AssessedFace<'a>);

impl<'a> AssessedFace<'a> {
    /// What was measured.
    #[must_use]
    pub const fn report(&self) -> &QualityReport {
        &self.report
    }

    /// The face as one that can be used, if it meets every bar.
    ///
    /// # Errors
    ///
    /// The [`Refusal`] that names the first thing to mend.
    pub fn require(self) -> Result<UsableFace<'a>, Refusal> {
        match self.report.refusal() {
            None => Ok(UsableFace(self)),
            Some(cause) => Err(Refusal { cause, quality: Some(self.report) }),
        }
    }
}

impl FacePipeline {
    /// Loads the manifest of a folder and every model it names, and runs each once.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] when the manifest is bad, a file has another digest, or a model does not
    /// run.
    pub fn load(models_dir: &Path) -> Result<Self, ManifestError> {
        let manifest = ModelManifest::load(models_dir)?;
        Ok(Self {
            detector: Detector::load(&manifest.detector)?,
            sface: Embedder::load(&manifest.sface)?,
            dlib: Embedder::load(&manifest.dlib)?,
            liveness: manifest
                .liveness
                .iter()
                .map(LivenessModel::load)
                .collect::<Result<_, _>>()?,
            manifest,
            passes: Arc::default(),
        })
    }

    /// What was loaded; its `matching` part makes a [`crate::matching::Matcher`].
    #[must_use]
    pub const fn manifest(&self) -> &ModelManifest {
        &self.manifest
    }

    /// The embedding models, `SFace` first: what a receipt names.
    #[must_use]
    pub fn embedding_models(&self) -> [ModelId; 2] {
        [self.sface.id(), self.dlib.id()]
    }

    /// The instructions that the models run on, as audit records have it.
    #[must_use]
    pub fn instructions(&self) -> String {
        let embedders = [self.sface.isa(), self.dlib.isa()];
        let liveness = self.liveness.iter().map(LivenessModel::isa);
        Isa::described(self.detector.isas().into_iter().chain(embedders).chain(liveness))
    }

    /// Whether captures are scored for liveness.
    #[must_use]
    pub fn has_liveness(&self) -> bool {
        !self.liveness.is_empty()
    }

    /// How often a model was run since it was loaded, or since it is counted apart.
    #[cfg(any(test, feature = "test-support"))]
    #[must_use]
    pub fn passes(&self) -> u64 {
        self.passes.load(Ordering::Relaxed)
    }

    /// The same models, whose runs are counted apart from those of all clones.
    #[cfg(any(test, feature = "test-support"))]
    #[must_use]
    pub fn counted_apart(&self) -> Self {
        Self { passes: Arc::default(), ..self.clone() }
    }

    fn note_passes(&self, passes: u64) {
        self.passes.fetch_add(passes, Ordering::Relaxed);
    }

    /// Everything `Verify` needs of a picture: one face, good enough, embedded.
    ///
    /// # Errors
    ///
    /// [`FaceError`] when a model failed. A picture that cannot be used is no error.
    pub fn probe(&self, image: &DecodedImage) -> Result<Acquisition, FaceError> {
        self.acquire(image, Making::Single, nobody)
    }

    /// As [`Self::probe`], on a thread of a rayon pool. `helper` stands for another of its threads that has nothing to
    /// do, if there is one, until what does not wait for `SFace` has run there (or here, if that thread comes late). The
    /// answer is the same.
    ///
    /// # Errors
    ///
    /// [`FaceError`] when a model failed. A picture that cannot be used is no error.
    pub fn probe_with<P: Send>(
        &self,
        image: &DecodedImage,
        helper: impl FnOnce() -> Option<P>,
    ) -> Result<Acquisition, FaceError> {
        self.acquire(image, Making::Single, helper)
    }

    /// As [`Self::probe`], with the mirror image averaged in: for templates, where time is free.
    ///
    /// # Errors
    ///
    /// [`FaceError`] when a model failed. A picture that cannot be used is no error.
    pub fn enrol(&self, image: &DecodedImage) -> Result<Acquisition, FaceError> {
        self.acquire(image, Making::MirrorAveraged, nobody)
    }

    /// As [`Self::enrol`], helped as [`Self::probe_with`] is.
    ///
    /// # Errors
    ///
    /// [`FaceError`] when a model failed. A picture that cannot be used is no error.
    pub fn enrol_with<P: Send>(
        &self,
        image: &DecodedImage,
        helper: impl FnOnce() -> Option<P>,
    ) -> Result<Acquisition, FaceError> {
        self.acquire(image, Making::MirrorAveraged, helper)
    }

    /// All faces of a picture as one pass of the detector marks them, the largest first.
    ///
    /// # Errors
    ///
    /// [`FaceError`] when the detector failed.
    pub fn detect(&self, image: &DecodedImage) -> Result<Vec<DetectedFace>, FaceError> {
        self.detector.find(&self.detector.reduced(image))
    }

    /// The one face that a picture is about, its landmarks refined, or why there is none.
    ///
    /// # Errors
    ///
    /// [`FaceError`] when the detector failed.
    pub fn locate(
        &self,
        image: &DecodedImage,
    ) -> Result<Result<DetectedFace, QualityRefusal>, FaceError> {
        let reduced = self.detector.reduced(image);
        self.note_passes(1);
        let faces = self.detector.find(&reduced)?;
        Ok(match faces.first() {
            None => Err(QualityRefusal::NoFace),
            Some(_) if self.detector.is_ambiguous(&faces) => Err(QualityRefusal::MultipleFaces),
            Some(face) => {
                self.note_passes(1);
                Ok(self.detector.refine(&reduced, face)?)
            }
        })
    }

    /// A face turned, scaled and cut out as `SFace` wants it. `None` when its landmarks fall together.
    #[must_use]
    pub fn align(&self, image: &DecodedImage, face: &DetectedFace) -> Option<Chip> {
        self.sface.align(image, &face.landmarks)
    }

    /// Measures a face. `None` when its landmarks fall together, as those of no face do.
    ///
    /// # Errors
    ///
    /// [`FaceError`] when `SFace`, whose output's length is the unified score, failed.
    pub fn assess<'a>(
        &self,
        image: &'a DecodedImage,
        face: DetectedFace,
    ) -> Result<Option<AssessedFace<'a>>, FaceError> {
        let Some(chip) = self.align(image, &face) else { return Ok(None) };
        self.note_passes(1);
        let raw_sface = self.sface.run(&chip)?;
        let report = quality::measure(&face, &chip, raw_sface.norm(), &self.manifest.quality);
        Ok(Some(AssessedFace { image, face, chip, raw_sface, report }))
    }

    /// Embeds a face with both models, from the picture alone or with its mirror image.
    ///
    /// # Errors
    ///
    /// [`FaceError`] when a model failed.
    pub fn embed(&self, face: &UsableFace<'_>, making: Making) -> Result<FaceEmbedding, FaceError> {
        self.embed_any(&face.0, making)
    }

    /// The face nearest the picture's centre, embedded without any gate, for error rates: lower and
    /// lower detector scores are accepted until one is found. `None` when there is none at all.
    ///
    /// # Errors
    ///
    /// [`FaceError`] when a model failed.
    pub fn nearest_centre(&self, image: &DecodedImage) -> Result<Option<FaceEmbedding>, FaceError> {
        self.nearest_centre_as(image, Making::Single)
    }

    /// As [`Self::nearest_centre`], made in either way.
    ///
    /// # Errors
    ///
    /// [`FaceError`] when a model failed.
    pub fn nearest_centre_as(
        &self,
        image: &DecodedImage,
        making: Making,
    ) -> Result<Option<FaceEmbedding>, FaceError> {
        let reduced = self.detector.reduced(image);
        let faces = self.detector.find_at_any_score(&reduced)?;
        let Some(face) = nearest_to_centre(image, &faces) else { return Ok(None) };
        let face = self.detector.refine(&reduced, &face)?;
        let Some(assessed) = self.assess(image, face)? else { return Ok(None) };
        self.embed_any(&assessed, making).map(Some)
    }

    /// Wipes what this thread's models computed last, those of fingers too: they run in the same memory.
    pub fn forget() {
        inference::forget();
    }

    /// Whether there is something of that.
    #[cfg(test)]
    pub(crate) fn remembers() -> bool {
        inference::remembers()
    }

    fn acquire<P: Send>(
        &self,
        image: &DecodedImage,
        making: Making,
        helper: impl FnOnce() -> Option<P>,
    ) -> Result<Acquisition, FaceError> {
        let refused = |cause| Acquisition::Refused(Refusal { cause, quality: None });
        let face = match self.locate(image)? {
            Ok(face) => face,
            Err(cause) => return Ok(refused(cause)),
        };
        let rest = || self.rest(image, &face);
        let (assessed, early) = if let Some(helper) = helper() {
            let beside = || {
                let rest = rest();
                drop(helper);
                rest
            };
            let (assessed, rest) = rayon::join(|| self.assess(image, face), beside);
            (assessed, Some(rest))
        } else {
            (self.assess(image, face), None)
        };
        let Some(assessed) = assessed? else {
            return Ok(refused(QualityRefusal::NoFace));
        };
        let usable = match assessed.require() {
            Ok(usable) => usable,
            Err(refusal) => return Ok(Acquisition::Refused(refusal)),
        };
        let Rest { dlib, liveness } = early.unwrap_or_else(rest)?;
        Ok(Acquisition::Usable(Probe {
            liveness,
            embedding: self.finish(&usable.0, &dlib, making)?,
            print: print::print(&usable.0.chip),
            quality: usable.0.report,
        }))
    }

    fn rest(&self, image: &DecodedImage, face: &DetectedFace) -> Result<Rest, FaceError> {
        let dlib = self.run_dlib(image, face)?;
        self.note_passes(u64::try_from(self.liveness.len()).unwrap_or(u64::MAX));
        Ok(Rest { dlib, liveness: liveness::score(&self.liveness, image, &face.bounds)? })
    }

    fn run_dlib(&self, image: &DecodedImage, face: &DetectedFace) -> Result<DlibView, FaceError> {
        let chip = self
            .dlib
            .align(image, &face.landmarks)
            .ok_or(FaceError::Impossible("a face aligns for one model and not for the other"))?;
        self.note_passes(1);
        let raw = self.dlib.run(&chip)?;
        Ok(DlibView { chip, raw })
    }

    fn embed_any(
        &self,
        face: &AssessedFace<'_>,
        making: Making,
    ) -> Result<FaceEmbedding, FaceError> {
        self.finish(face, &self.run_dlib(face.image, &face.face)?, making)
    }

    fn finish(
        &self,
        AssessedFace { chip, raw_sface, .. }: &AssessedFace<'_>,
        dlib: &DlibView,
        making: Making,
    ) -> Result<FaceEmbedding, FaceError> {
        let (sface, dlib) = match making {
            Making::Single => (self.sface.finish(raw_sface)?, self.dlib.finish(&dlib.raw)?),
            Making::MirrorAveraged => {
                self.note_passes(2);
                (
                    self.sface.finish_mirrored(raw_sface, chip)?,
                    self.dlib.finish_mirrored(&dlib.raw, &dlib.chip)?,
                )
            }
        };
        Ok(FaceEmbedding { sface, dlib, making })
    }
}

/// Who helps on a thread that has no others beside it.
const fn nobody() -> Option<()> {
    None
}

#[expect(clippy::cast_precision_loss, reason = "pictures have thousands of pixels a side")]
fn nearest_to_centre(image: &DecodedImage, faces: &[DetectedFace]) -> Option<DetectedFace> {
    let middle = (image.width() as f32 / 2.0, image.height() as f32 / 2.0);
    let distance = |face: &DetectedFace| {
        let centre = face.bounds.centre();
        (centre.x - middle.0).hypot(centre.y - middle.1)
    };
    faces.iter().copied().min_by(|a, b| distance(a).total_cmp(&distance(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_face_nearest_the_centre_need_not_be_the_largest() {
        let image = DecodedImage::from_rgb(100, 100, vec![0; 30_000]).unwrap();
        let face = |x, size| DetectedFace {
            bounds: BoundingBox { x, y: 40.0, width: size, height: 20.0 },
            landmarks: Landmarks::default(),
            score: 0.9,
        };
        let chosen = nearest_to_centre(&image, &[face(0.0, 60.0), face(41.0, 20.0)]).unwrap();
        assert!((chosen.bounds.x - 41.0).abs() < f32::EPSILON);
        assert!(nearest_to_centre(&image, &[]).is_none());
    }
}
