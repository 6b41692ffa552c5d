//! Models: manifest, digest-checked tract plans, typed tensors. Synchronous.
//!
//! A model is loaded once, from bytes whose SHA-256 the manifest states, and then shared by all
//! threads: a plan is immutable, and each run keeps its own state.

mod fast;
mod fold;
mod isa;
mod manifest;
mod model;
#[cfg(target_arch = "x86_64")]
mod nhwc;
mod prelu;

pub use isa::{Isa, IsaError};
pub use manifest::{
    Colour, DetectorSpec, EmbedderSpec, FingerSpec, LivenessSpec, ManifestError, ModelManifest,
    ModelSource,
};
pub use model::{InputShape, LoadError, Model, Output, RunError};

/// Wipes and frees the memory that models ran in on this thread, which holds what they computed last.
pub fn forget() {
    #[cfg(target_arch = "x86_64")]
    nhwc::forget();
}

/// Whether this thread holds such memory.
#[cfg(test)]
pub(crate) fn remembers() -> bool {
    #[cfg(target_arch = "x86_64")]
    return nhwc::remembers();
    #[cfg(not(target_arch = "x86_64"))]
    false
}
