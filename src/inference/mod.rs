//! Models: manifest, digest-checked tract plans, typed tensors. Synchronous.
