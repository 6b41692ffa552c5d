//! The noun: reason.
