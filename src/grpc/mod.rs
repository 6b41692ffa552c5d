//! The gRPC server: one file a service, conversions, peers, statuses, limits.

pub mod limits;
pub mod peer;
pub mod status;
