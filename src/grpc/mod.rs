//! The gRPC server: one file a service, conversions, peers, statuses, limits.

mod audit;
mod caller;
mod case;
mod confirmation;
mod convert;
mod cut;
mod enrollment;
mod footage;
mod key;
pub mod limits;
pub mod peer;
mod policy;
mod principal;
mod proposal;
mod receipt;
pub mod reference;
mod register;
mod report;
mod sensor;
pub mod server;
pub mod status;
mod teller;
mod terminal;
mod verification;
#[cfg(feature = "test-support")]
pub mod wire;
