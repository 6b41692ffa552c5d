//! The gRPC server: one file a service, conversions, peers, statuses, limits.

mod convert;
pub mod limits;
pub mod peer;
pub mod server;
pub mod status;
