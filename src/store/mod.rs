//! What the gateway needs kept: traits, and their implementations.
