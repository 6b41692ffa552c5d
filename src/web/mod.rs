//! The HTTP side: a small bounded server, the witness on it, the auditor's page, and the clients by
//! which the gateway asks witnesses and a time-stamping authority, and an auditor fetches an export.
//!
//! The server speaks plain HTTP/1.1: what a witness signs needs no secrecy, and TLS is left to the proxy
//! that stands before it. The client speaks TLS to `https://` addresses, trusting the configured authority
//! alone.

mod address;
pub mod client;
pub mod files;
mod page;
pub mod server;
pub mod witness;

pub use page::{AUDIT, AUDIT_PAGE, HTML};
