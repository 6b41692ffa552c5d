//! Aligns a face for a model, and embeds it.

use super::FaceError;
use super::geometry::{Landmarks, Point, SimilarityTransform};
use super::raster::{Chip, warp};
use crate::capture::DecodedImage;
use crate::domain::embedding::{Embedding, ModelId};
use crate::inference::{EmbedderSpec, Isa, ManifestError, Model};
use zeroize::Zeroizing;

/// An embedding model and how its input is aligned.
#[derive(Clone, Debug)]
pub(super) struct Embedder {
    spec: EmbedderSpec,
    model: Model,
}

/// What a model yields before its length is set to one.
pub(super) struct RawEmbedding(Zeroizing<Vec<f32>>);

impl RawEmbedding {
    /// The length, which for `SFace` falls with everything that hurts recognition.
    pub(super) fn norm(&self) -> f32 {
        self.0.iter().map(|value| value * value).sum::<f32>().sqrt()
    }
}

impl Embedder {
    pub(super) fn load(spec: &EmbedderSpec) -> Result<Self, ManifestError> {
        Ok(Self { spec: spec.clone(), model: spec.source.load(spec.side_px)? })
    }

    pub(super) fn id(&self) -> ModelId {
        self.model.id()
    }

    pub(super) fn isa(&self) -> Isa {
        self.model.isa()
    }

    /// The face's chip: its landmarks brought to where the model expects them. `None` when the
    /// landmarks fall together, so that there is nothing to align.
    pub(super) fn align(&self, image: &DecodedImage, landmarks: &Landmarks) -> Option<Chip> {
        let expected = self.spec.alignment.map(|(x, y)| Point { x, y });
        let transform = SimilarityTransform::between(&landmarks.0, &expected)?;
        Some(warp(image, &transform, self.spec.side_px))
    }

    pub(super) fn run(&self, chip: &Chip) -> Result<RawEmbedding, FaceError> {
        if chip.side() != self.spec.side_px {
            return Err(FaceError::Impossible("a face was aligned for another model"));
        }
        let (outputs, ()) = self.model.run_drawn(|input| chip.draw(&self.spec.source, input))?;
        match <[_; 1]>::try_from(outputs) {
            Ok([output]) if output.values.len() == self.spec.length => {
                Ok(RawEmbedding(Zeroizing::new(output.values)))
            }
            _ => Err(FaceError::Impossible("an embedding model's output has another length")),
        }
    }

    /// The embedding of unit length.
    pub(super) fn finish(&self, raw: &RawEmbedding) -> Result<Embedding, FaceError> {
        Ok(Embedding::from_raw(self.model.id(), &raw.0)?)
    }

    /// The mean of a face's embedding and its mirror image's.
    pub(super) fn finish_mirrored(
        &self,
        raw: &RawEmbedding,
        chip: &Chip,
    ) -> Result<Embedding, FaceError> {
        let plain = self.finish(raw)?;
        let mirrored = self.finish(&self.run(&chip.mirrored())?)?;
        Embedding::mean(&[&plain, &mirrored])
            .ok_or(FaceError::Impossible("a face and its mirror image are opposite"))
    }
}
