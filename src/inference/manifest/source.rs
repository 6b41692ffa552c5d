//! A model's file: where it lies, what it must be, how it is fed.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{ManifestError, require};
use crate::crypto::{Digest, sha256};
use crate::domain::embedding::ModelId;
use crate::inference::isa::Isa;
use crate::inference::model::{InputShape, Model};

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
    /// The input's planes.
    pub colour: Colour,
    /// Input value of a black pixel and of a white one.
    pub range: (f32, f32),
}

/// Which planes an input has, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One plane of brightness.
    Grey,
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

    /// Reads, checks and compiles the model for an input; a number alone is the side of a square one.
    ///
    /// # Errors
    ///
    /// [`ManifestError`], as [`Self::read`], and when the model does not load.
    pub fn load(&self, input: impl Into<InputShape>) -> Result<Model, ManifestError> {
        Model::compile(self.id(), &self.read()?, input)
            .map_err(|source| ManifestError::Load { path: self.path.clone(), source })
    }

    /// Reads, checks and compiles the model for grey pictures of several sizes (width and height), in their
    /// order; they share their weights where the fast kernels compute all of it.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub fn load_sizes(&self, sizes_px: &[(usize, usize)]) -> Result<Vec<Model>, ManifestError> {
        let Some(((width_px, height_px), others)) = sizes_px.split_first() else {
            return Ok(Vec::new());
        };
        let failed = |source| ManifestError::Load { path: self.path.clone(), source };
        let first = InputShape { planes: 1, height_px: *height_px, width_px: *width_px };
        let isa = Isa::chosen().map_err(|cause| failed(cause.into()))?;
        let first = Model::compile_sized(self.id(), &self.read()?, first, isa).map_err(failed)?;
        let others = others.iter().map(|(width, height)| first.resized(*height, *width));
        let mut models = others.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        models.insert(0, first);
        Ok(models)
    }

    /// The input value of a pixel's channel.
    #[must_use]
    pub fn input_value(&self, channel: f32) -> f32 {
        self.range.0 + (self.range.1 - self.range.0) * channel / 255.0
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSource {
    path: PathBuf,
    sha256: String,
    origin: String,
    licence: String,
    colour: Colour,
    range: [f32; 2],
}

impl RawSource {
    /// A file of a face's role.
    pub(super) fn check_in_colour(self, models_dir: &Path) -> Result<ModelSource, ManifestError> {
        let source = self.check(models_dir)?;
        require(source.colour != Colour::Grey, "colour")?;
        Ok(source)
    }

    /// A file of any role.
    pub(super) fn check(self, models_dir: &Path) -> Result<ModelSource, ManifestError> {
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

/// More than any model on a gateway should need.
const MODEL_BYTES_MAX: u64 = 512 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_under_the_name_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let mut source = super::super::ModelManifest::load(&models).unwrap().detector.source;
        source.path = dir.path().join("yunet.onnx");
        assert!(matches!(source.read(), Err(ManifestError::Unreadable { .. })));
        fs::write(&source.path, b"another model").unwrap();
        assert!(matches!(source.read(), Err(ManifestError::DigestMismatch { .. })));
        assert!(source.load(320).is_err());
    }
}
