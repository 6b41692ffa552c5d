//! What proves a report.
//!
//! The header names kind, span, rows and the content's SHA-256. The ledger entry of the report's making
//! is an administrative receipt whose `details` is the header's SHA-256: its signature is the report's.

use serde::{Deserialize, Serialize};

use crate::crypto::{Digest, length_prefixed, sha256};
use crate::receipt::{
    Content, JWS_BYTES_MAX, KeyRegister, KeyRegisterError, REGISTER_BYTES_MAX, ReceiptError,
    TrustFingerprint, verify,
};

/// Longest seal read, in bytes.
pub const SEAL_BYTES_MAX: usize = 2 * REGISTER_BYTES_MAX;

/// The act under which a report's making is entered in the ledger.
pub(crate) const ACT: &str = "report_made";

/// What a report is, written once: its bytes are hashed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReportHeader {
    /// The header's version: 1.
    pub v: u8,
    /// The ledger.
    pub origin: String,
    /// The bank.
    pub tenant: String,
    /// `suspicious`, `totals` or `failures`.
    pub kind: String,
    /// `csv`, `json` or `xml`.
    pub format: String,
    /// The first day.
    pub from: String,
    /// The last day, included.
    pub to: String,
    /// The first instant that counts.
    pub since: String,
    /// The first that counts no more: the end of the last day, or when the report was made.
    pub until: String,
    /// The ledger's size when the report was made.
    pub ledger_size: u64,
    /// How many rows it has.
    pub rows: u64,
    /// How many bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes, in hexadecimal digits.
    pub sha256: String,
}

/// The hash of a header's exact text that a receipt's `details` holds.
#[must_use]
pub fn header_digest(header: &str) -> Digest {
    sha256(&length_prefixed(&[b"tulga-report-v1", header.as_bytes()]))
}

/// The file that goes with a report.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// The header's exact text: a JSON object.
    pub header: String,
    /// The receipt of the report's making: JWS compact.
    pub receipt: String,
    /// The key register's exact text.
    pub keys: String,
    /// Its signature by the root key.
    pub keys_signature: String,
}

/// A report that is the one that was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedReport {
    /// What it is.
    pub header: ReportHeader,
    /// Who had it made, as `role/name`.
    pub made_by: String,
    /// When.
    pub made_at: String,
    /// The index of the entry that says so.
    pub index: u64,
}

impl Seal {
    /// Reads a seal's file.
    ///
    /// # Errors
    ///
    /// [`SealError::Malformed`] for anything that no gateway writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, SealError> {
        if bytes.len() > SEAL_BYTES_MAX {
            return Err(SealError::Malformed);
        }
        serde_json::from_slice(bytes).map_err(|_| SealError::Malformed)
    }

    /// The bytes of its file.
    ///
    /// # Errors
    ///
    /// None for texts; [`serde_json::Error`] is the serialiser's.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Verifies that a content of so many bytes with this SHA-256 is the report that was made, by a root
    /// key whose fingerprint was learnt elsewhere.
    ///
    /// # Errors
    ///
    /// [`SealError`] names the first thing that is wrong.
    pub fn verify(
        &self,
        content: &Digest,
        bytes: u64,
        trust: &TrustFingerprint,
    ) -> Result<VerifiedReport, SealError> {
        if self.receipt.len() > JWS_BYTES_MAX {
            return Err(SealError::Malformed);
        }
        let register = KeyRegister::verify(self.keys.as_bytes(), &self.keys_signature, trust)?;
        let receipt = verify(&self.receipt, &register)?;
        let Content::Administration(act) = &receipt.body().content else {
            return Err(SealError::OtherAct);
        };
        if act.act != ACT {
            return Err(SealError::OtherAct);
        }
        if act.details.as_deref() != Some(header_digest(&self.header).labelled().as_str()) {
            return Err(SealError::OtherHeader);
        }
        let header: ReportHeader =
            serde_json::from_str(&self.header).map_err(|_| SealError::Malformed)?;
        if header.v != 1 {
            return Err(SealError::Version);
        }
        if header.sha256 != content.hex() || header.bytes != bytes {
            return Err(SealError::OtherContent);
        }
        if header.origin != receipt.body().log.origin || header.tenant != receipt.body().tenant {
            return Err(SealError::OtherHeader);
        }
        Ok(VerifiedReport {
            header,
            made_by: format!("{}/{}", act.actor.role, act.actor.name),
            made_at: receipt.body().time.clone(),
            index: receipt.body().log.index,
        })
    }
}

/// Why a report is not good.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The seal is not what a gateway writes.
    #[error("the seal is malformed")]
    Malformed,
    /// A header of another version.
    #[error("the header has a version that is not known here")]
    Version,
    /// The register of keys is not the trusted one.
    #[error("the keys are not those of the trusted root key")]
    Keys(#[from] KeyRegisterError),
    /// The receipt does not verify.
    #[error("the receipt does not verify")]
    Receipt(#[from] ReceiptError),
    /// The receipt is of something else.
    #[error("the receipt is not that of a report's making")]
    OtherAct,
    /// The receipt is of another report.
    #[error("the receipt is that of another report: the header was altered")]
    OtherHeader,
    /// The content is not the one that the header names.
    #[error("the content is not the one that was sealed")]
    OtherContent,
}

impl SealError {
    /// The word for machines.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "REPORT_MALFORMED",
            Self::Version => "REPORT_VERSION",
            Self::Keys(_) => "REPORT_KEYS",
            Self::Receipt(_) => "REPORT_RECEIPT",
            Self::OtherAct => "REPORT_OTHER_ACT",
            Self::OtherHeader => "REPORT_OTHER_HEADER",
            Self::OtherContent => "REPORT_OTHER_CONTENT",
        }
    }
}
