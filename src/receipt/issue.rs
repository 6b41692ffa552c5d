//! Signs a body: the only way a receipt comes to be.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{JWS_BYTES_MAX, KeyAlgorithm, ReceiptBody, header, is_key_id};
use crate::crypto::{SignatureError, Signer};
use crate::ledger::{LeafHash, leaf_hash};

/// The exact bytes of a receipt: ASCII, `header.payload.signature`.
#[derive(Clone, PartialEq, Eq)]
#[must_use = "a receipt that is dropped is a decision nobody can prove"]
pub struct SignedReceipt(String);

impl SignedReceipt {
    /// The compact JWS.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The compact JWS, taken.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }

    /// Its leaf in the ledger.
    #[must_use]
    pub fn leaf(&self) -> LeafHash {
        leaf_hash(&self.0)
    }
}

impl fmt::Debug for SignedReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedReceipt({} bytes)", self.0.len())
    }
}

/// Signs `body` with the key that the register calls `kid`. The header's `alg` is that of the key.
///
/// # Errors
///
/// [`IssueError`]; nothing was issued then.
pub fn issue(
    body: &ReceiptBody,
    kid: &str,
    signer: &dyn Signer,
) -> Result<SignedReceipt, IssueError> {
    if !is_key_id(kid) {
        return Err(IssueError::KeyId);
    }
    let payload = body.to_json().map_err(IssueError::Body)?;
    let algorithm = KeyAlgorithm::of(signer.public_key().kind());
    let header = URL_SAFE_NO_PAD.encode(header(algorithm.as_str(), kid));
    let mut jws = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
    let signature = signer.sign(jws.as_bytes())?;
    jws.push('.');
    jws.push_str(&URL_SAFE_NO_PAD.encode(signature));
    if jws.len() > JWS_BYTES_MAX {
        return Err(IssueError::TooLong);
    }
    Ok(SignedReceipt(jws))
}

/// No receipt was issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The key id cannot stand in a header.
    #[error("a key id has 1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-'")]
    KeyId,
    /// The body cannot be written as JSON.
    #[error("the receipt's body cannot be written")]
    Body(#[source] serde_json::Error),
    /// The receipt would be longer than any verifier reads.
    #[error("the receipt is longer than 16 KiB")]
    TooLong,
    /// The key's holder.
    #[error("the receipt cannot be signed")]
    Signature(#[from] SignatureError),
}

impl IssueError {
    /// The word in statuses, metrics and logs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "SYS_RECEIPT"
    }
}
