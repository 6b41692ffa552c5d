//! From picture files to embeddings, in both ways that are reported.

use std::fs;
use std::path::Path;

use rayon::prelude::*;

use super::EvaluateError;
use super::dataset::Dataset;
use crate::capture::{DecodeLimits, DecodedImage, EncodedImage, decode};
use crate::domain::embedding::{FaceEmbedding, Making};
use crate::face::{FaceError, FacePipeline};

/// What became of one picture.
#[derive(Clone, Debug)]
pub(super) struct Acquired {
    /// Whose picture, by position in the data set.
    pub(super) identity: u32,
    /// The face nearest the centre, without any gate; or the failure's code.
    pub(super) nearest: Result<FaceEmbedding, &'static str>,
    /// Through the gateway's gates; or the code of the gate that refused.
    pub(super) gated: Result<Gated, &'static str>,
}

/// A picture that passed every gate.
#[derive(Clone, Debug)]
pub(super) struct Gated {
    /// As `Verify` embeds it.
    pub(super) probe: FaceEmbedding,
    /// As enrolment embeds it.
    pub(super) capture: FaceEmbedding,
}

/// Embeds every picture, on all threads of the current pool. `progress` is told of each one done.
///
/// A file that cannot be read or decoded is a failure to acquire, not an error; a model that fails
/// ends the evaluation.
pub(super) fn acquire_all(
    dataset: &Dataset,
    pipeline: &FacePipeline,
    progress: &(dyn Fn() + Sync),
) -> Result<Vec<Acquired>, EvaluateError> {
    dataset
        .images()
        .par_iter()
        .map(|image| {
            let acquired = acquire(&image.path, image.identity, pipeline)
                .map_err(|source| EvaluateError::Face { path: image.path.clone(), source });
            progress();
            acquired
        })
        .collect()
}

fn acquire(path: &Path, identity: u32, pipeline: &FacePipeline) -> Result<Acquired, FaceError> {
    let Some(image) = read(path) else {
        return Ok(Acquired { identity, nearest: Err(UNREADABLE), gated: Err(UNREADABLE) });
    };
    let nearest = pipeline.nearest_centre_as(&image, Making::Single)?.ok_or(NO_FACE);
    Ok(Acquired { identity, nearest, gated: pass_gates(&image, pipeline)? })
}

/// The steps of [`FacePipeline::probe`] and of [`FacePipeline::enrol`], which part only at the last,
/// so that a picture is searched and measured once for both.
fn pass_gates(
    image: &DecodedImage,
    pipeline: &FacePipeline,
) -> Result<Result<Gated, &'static str>, FaceError> {
    let face = match pipeline.locate(image)? {
        Ok(face) => face,
        Err(cause) => return Ok(Err(cause.code())),
    };
    let Some(assessed) = pipeline.assess(image, face)? else { return Ok(Err(NO_FACE)) };
    let usable = match assessed.require() {
        Ok(usable) => usable,
        Err(refusal) => return Ok(Err(refusal.cause.code())),
    };
    Ok(Ok(Gated {
        probe: pipeline.embed(&usable, Making::Single)?,
        capture: pipeline.embed(&usable, Making::MirrorAveraged)?,
    }))
}

/// `None` for whatever the gateway, too, would not decode.
fn read(path: &Path) -> Option<DecodedImage> {
    let limits = DecodeLimits::default();
    let length = usize::try_from(fs::metadata(path).ok()?.len()).ok()?;
    if length > limits.encoded_bytes_max {
        return None;
    }
    decode(&EncodedImage::new(fs::read(path).ok()?), &limits).ok()
}

/// The code of a file that is no picture.
pub(super) const UNREADABLE: &str = "CAP_UNREADABLE";

const NO_FACE: &str = "CAP_NO_FACE";
