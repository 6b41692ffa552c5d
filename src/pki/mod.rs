//! The development PKI and the certificates of terminals.
//!
//! A certificate says who its holder is in one URI SAN, `spiffe://<tenant>/<role>/<name>`, and
//! nothing else in it is read. A bank with its own authority issues certificates of that shape
//! itself; the development authority here makes a fresh clone run under real mutual TLS.
//!
//! Time is an argument: [`Validity`] is computed from the caller's clock.

mod authority;
mod directory;
mod identity;
mod request;

pub use authority::{
    Authority, CsrError, IssueError, IssuedCertificate, KeyedCertificate, Validity,
};
pub use directory::{Directory, DirectoryError};
pub use identity::{
    IdentityError, InvalidPrincipal, PeerIdentity, Principal, Role, identify, identify_pem,
};
pub use request::TerminalRequest;
