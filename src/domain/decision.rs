//! The noun: decision.
