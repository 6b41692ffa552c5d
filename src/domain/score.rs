//! The noun: score.
