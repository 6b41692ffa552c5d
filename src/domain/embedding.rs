//! The noun: embedding.
