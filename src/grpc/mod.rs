//! The gRPC server: one file a service, conversions, peers, statuses, limits.
