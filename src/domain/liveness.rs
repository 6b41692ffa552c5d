//! The noun: liveness.
