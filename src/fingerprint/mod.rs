//! Segment, quality, minutiae.
//!
//! ```text
//! GreyImage -> FingerRegion -> AssessedFinger -> FingerView
//!         segment         assess            require
//! ```
//!
//! A picture that cannot be used is a value ([`FingerAcquisition::Refused`]); a model that broke is
//! an error ([`FingerError`]). The two never mix: a technical failure is no mismatch.

mod extract;
mod quality;
mod segment;

use std::path::Path;

use crate::capture::GreyImage;
use crate::domain::embedding::ModelId;
use crate::domain::finger::{FingerView, PIXELS_PER_INCH};
use crate::domain::finger_quality::{FingerQualityRefusal, FingerQualityReport};
use crate::domain::score::FingerMatchingParameters;
use crate::inference::{FingerSpec, Isa, ManifestError, ModelManifest, RunError};

use extract::Extractor;
use segment::Foreground;

/// The minutiae model of a manifest and its bars, loaded and checked; shared by all threads.
#[derive(Clone, Debug)]
pub struct FingerprintPipeline {
    spec: FingerSpec,
    extractor: Extractor,
}

/// Work that was not done: a technical failure, never a mismatch or a refusal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FingerError {
    /// The model failed, or yielded NaN.
    #[error("the minutiae model failed")]
    Run(#[from] RunError),
    /// The model yielded what its role does not allow.
    #[error("impossible model output: {0}")]
    Impossible(&'static str),
    /// The picture was not brought to 500 pixels an inch.
    #[error("a finger's picture has {0} pixels an inch, not {PIXELS_PER_INCH}")]
    Resolution(u16),
    /// The picture is larger than places in it can be told.
    #[error("a finger's picture has more than {SIDE_PX_MAX} pixels on a side")]
    TooLarge,
}

impl FingerError {
    /// The stable word for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "SYS_INTERNAL"
    }
}

/// What became of a picture.
#[derive(Clone, Debug)]
#[must_use = "a refusal that is dropped is a customer who is told nothing"]
pub enum FingerAcquisition {
    /// It shows one finger, well enough.
    Usable(FingerProbe),
    /// It cannot be used, and the person can mend why.
    Refused(FingerRefusal),
}

/// A finger that was found good enough.
#[derive(Clone, Debug)]
pub struct FingerProbe {
    /// Its minutiae, in the picture's pixels.
    pub view: FingerView,
    /// Every component with its bar, all met.
    pub quality: FingerQualityReport,
}

/// Why a picture cannot be used.
#[derive(Clone, Debug)]
pub struct FingerRefusal {
    /// What to mend first.
    pub cause: FingerQualityRefusal,
    /// What was measured until then.
    pub quality: FingerQualityReport,
}

/// Where a finger lies in a picture, the picture's own quality measured.
pub struct FingerRegion<'a> {
    image: &'a GreyImage,
    foreground: Foreground,
    report: FingerQualityReport,
}

/// A finger's minutiae with all that was measured, not yet judged.
pub struct AssessedFinger {
    view: FingerView,
    report: FingerQualityReport,
}

impl FingerRegion<'_> {
    /// What was measured of the picture.
    #[must_use]
    pub const fn report(&self) -> &FingerQualityReport {
        &self.report
    }
}

impl AssessedFinger {
    /// What was measured.
    #[must_use]
    pub const fn report(&self) -> &FingerQualityReport {
        &self.report
    }

    /// The finger as one that can be used, if it meets every bar.
    ///
    /// # Errors
    ///
    /// The [`FingerRefusal`] that names the first thing to mend.
    pub fn require(self) -> Result<FingerProbe, FingerRefusal> {
        let Self { view, report: quality } = self;
        match quality.refusal() {
            None => Ok(FingerProbe { view, quality }),
            Some(cause) => Err(FingerRefusal { cause, quality }),
        }
    }
}

impl FingerprintPipeline {
    /// Loads the minutiae model that the manifest of a folder names, and runs it once in each of its
    /// sizes. `None` where the manifest names none: the gateway takes no fingers.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] when the manifest is bad, the file has another digest, or the model does not
    /// run.
    pub fn load(models_dir: &Path) -> Result<Option<Self>, ManifestError> {
        let manifest = ModelManifest::load(models_dir)?;
        manifest
            .finger
            .map(|spec| Ok(Self { extractor: Extractor::load(&spec)?, spec }))
            .transpose()
    }

    /// What scores of its views mean: what makes a matcher.
    #[must_use]
    pub const fn matching(&self) -> &FingerMatchingParameters {
        &self.spec.matching
    }

    /// The minutiae model: what views are tagged with.
    #[must_use]
    pub fn model(&self) -> ModelId {
        self.extractor.id()
    }

    /// The instructions that the model runs on, as audit records have it.
    #[must_use]
    pub fn instructions(&self) -> String {
        Isa::described(self.extractor.isas())
    }

    /// Everything `Verify` and enrolment need of a picture of 500 pixels an inch: one finger, good
    /// enough, with its minutiae.
    ///
    /// # Errors
    ///
    /// [`FingerError`] when the model failed, or the picture was not prepared. One that cannot be
    /// used is no error.
    pub fn probe(&self, image: &GreyImage) -> Result<FingerAcquisition, FingerError> {
        let region = match self.segment(image)? {
            Ok(region) => region,
            Err(refusal) => return Ok(FingerAcquisition::Refused(refusal)),
        };
        Ok(match self.assess(region)?.require() {
            Ok(probe) => FingerAcquisition::Usable(probe),
            Err(refusal) => FingerAcquisition::Refused(refusal),
        })
    }

    /// Where the one finger lies that a picture is about, or why there is none; what needs no model is
    /// measured, and refused, here.
    ///
    /// # Errors
    ///
    /// [`FingerError`] for a picture that was not prepared.
    pub fn segment<'a>(
        &self,
        image: &'a GreyImage,
    ) -> Result<Result<FingerRegion<'a>, FingerRefusal>, FingerError> {
        check(image)?;
        let refused = |cause, quality| Ok(Err(FingerRefusal { cause, quality }));
        if image.width().min(image.height()) < self.spec.side_px_min {
            return refused(FingerQualityRefusal::PictureTooSmall, FingerQualityReport::default());
        }
        let foreground = Foreground::find(image);
        let report = quality::measure_picture(image, foreground.as_ref(), &self.spec.quality);
        let Some(foreground) = foreground else {
            return refused(FingerQualityRefusal::NoFinger, report);
        };
        if foreground.second_share > self.spec.second_area_max {
            return refused(FingerQualityRefusal::MultipleFingers, report);
        }
        match report.refusal() {
            Some(cause) => refused(cause, report),
            None => Ok(Ok(FingerRegion { image, foreground, report })),
        }
    }

    /// Finds a region's minutiae and measures them.
    ///
    /// # Errors
    ///
    /// [`FingerError`] when the model failed.
    pub fn assess(&self, region: FingerRegion<'_>) -> Result<AssessedFinger, FingerError> {
        let FingerRegion { image, foreground, report } = region;
        let view = self.extractor.find(image, &foreground)?;
        let report = quality::measure_view(report, &view, &self.spec.quality);
        Ok(AssessedFinger { view, report })
    }

    /// The minutiae of a picture without any gate, for error rates. `None` where nothing looks like
    /// ridges.
    ///
    /// # Errors
    ///
    /// [`FingerError`] when the model failed, or the picture was not prepared.
    pub fn ungated(&self, image: &GreyImage) -> Result<Option<FingerView>, FingerError> {
        check(image)?;
        let Some(foreground) = Foreground::find(image) else { return Ok(None) };
        self.extractor.find(image, &foreground).map(Some)
    }
}

fn check(image: &GreyImage) -> Result<(), FingerError> {
    if image.pixels_per_inch() != PIXELS_PER_INCH {
        return Err(FingerError::Resolution(image.pixels_per_inch()));
    }
    if image.width().max(image.height()) > SIDE_PX_MAX {
        return Err(FingerError::TooLarge);
    }
    Ok(())
}

/// Places are told up to 4,095 pixels; that is over eight inches.
const SIDE_PX_MAX: u32 = 4096;
