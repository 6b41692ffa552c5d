//! A terminal's side: a fresh key, and the request to certify it.

use rcgen::{CertificateParams, KeyPair};
use zeroize::Zeroizing;

use super::authority::IssueError;

/// A fresh P-256 key with a signed PKCS #10 request for it.
pub struct TerminalRequest {
    /// The private key, PEM; it never leaves the terminal.
    pub key_pem: Zeroizing<String>,
    /// The request, PEM.
    pub csr_pem: String,
}

impl TerminalRequest {
    /// Makes key and request.
    ///
    /// # Errors
    ///
    /// [`IssueError`] when no key can be made.
    pub fn generate() -> Result<Self, IssueError> {
        let key = KeyPair::generate().map_err(IssueError::Certificate)?;
        let request = CertificateParams::default()
            .serialize_request(&key)
            .map_err(IssueError::Certificate)?;
        let csr_pem = request.pem().map_err(IssueError::Certificate)?;
        Ok(Self { key_pem: Zeroizing::new(key.serialize_pem()), csr_pem })
    }
}

impl std::fmt::Debug for TerminalRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TerminalRequest(…)")
    }
}
