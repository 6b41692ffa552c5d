//! The development PKI and the certificates of terminals.
