//! The noun: quality.
