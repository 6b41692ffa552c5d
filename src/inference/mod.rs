//! Models: manifest, digest-checked tract plans, typed tensors. Synchronous.
//!
//! A model is loaded once, from bytes whose SHA-256 the manifest states, and then shared by all
//! threads: a plan is immutable, and each run keeps its own state.

mod fold;
mod manifest;
mod model;
mod prelu;

pub use manifest::{
    Colour, DetectorSpec, EmbedderSpec, LivenessSpec, ManifestError, ModelManifest, ModelSource,
};
pub use model::{LoadError, Model, Output, RunError};
