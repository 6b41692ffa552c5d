//! Verifies an exported ledger, or one receipt with its proof, from outside: no gateway, no database.
//!
//! What is found wrong is a value, a [`Finding`]; an [`AuditError`] means that there was nothing to
//! verify. A report is good only with no findings *and* a trust fingerprint from elsewhere: without
//! one, a ledger made anew with other keys would verify.
//!
//! An export holds one ledger, or several that follow each other (`chain`). Of each its heads are
//! opened first (`heads`), so that the walk over its receipts (`walk`) knows what witnesses saw when
//! (`timeline`); then heads and tiles are compared with the tree that the receipts give, and what
//! others hold with all ledgers together (`evidence`).

mod chain;
mod claim;
mod evidence;
mod export;
mod folder;
mod heads;
mod lines;
mod past;
pub mod reconcile;
mod records;
mod report;
mod rules;
mod single;
mod stamps;
mod tiles;
mod timeline;
mod verify;
mod walk;
mod witnesses;

use std::path::PathBuf;

use crate::crypto::CertificateError;
use crate::receipt::KeyRegisterError;

pub use export::{ExportWriteError, ExportWriter, find_receipt};
pub use report::{
    AuditReport, Established, Evidence, FINDINGS_PER_RULE_MAX, Finding, LedgerReport, PolicySource,
};
pub use rules::RULES;
pub use single::{SingleError, SingleReport, verify_single};
pub use verify::verify_export;
pub use walk::SKEW_MS;

/// Evidence from outside the export, and what the bank has published.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A folder of receipts that terminals or hosts hold, one JWS a line, of any of the ledgers.
    pub held: Option<PathBuf>,
    /// A file of checkpoints that were received earlier, of any of the ledgers.
    pub earlier: Option<PathBuf>,
    /// Who the witnesses are (c2sp.org/tlog-policy), in place of what the export says.
    pub policy: Option<PathBuf>,
    /// Certificates of the time-stamping authorities that count, PEM.
    pub stamp_authorities: Option<PathBuf>,
    /// How long, as the bank has published, witnesses may take to see an entry, in milliseconds; nothing
    /// is said about it without. It needs witnesses.
    pub bound_ms: Option<i64>,
}

/// How far the walk over the receipts has come, in bytes of their files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Read so far.
    pub done_bytes: u64,
    /// The files' length.
    pub total_bytes: u64,
}

/// There was nothing to verify.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// No such folder.
    #[error("{} is not a folder with an export", .0.display())]
    NoExport(PathBuf),
    /// A file is missing or cannot be read.
    #[error("{} cannot be read", .file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is longer, or a folder holds more, than it can.
    #[error("{} is longer than it can be", .0.display())]
    TooLong(PathBuf),
    /// The key register cannot be read: nothing can be checked by it.
    #[error("the key register cannot be read")]
    Register(#[from] KeyRegisterError),
    /// The certificates of time-stamping authorities cannot be used.
    #[error("{} holds no certificate that can be used", .file.display())]
    Authorities {
        /// Which file.
        file: PathBuf,
        /// Why.
        #[source]
        source: CertificateError,
    },
    /// Neither checkpoint nor receipts nor register name a ledger.
    #[error("neither checkpoint, receipts nor key register name a ledger")]
    NoOrigin,
}

impl AuditError {
    /// The word in machine-readable output.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoExport(_) => "AUDIT_NO_EXPORT",
            Self::Read { .. } | Self::TooLong(_) | Self::Authorities { .. } => "AUDIT_UNREADABLE",
            Self::Register(_) | Self::NoOrigin => "AUDIT_REGISTER",
        }
    }
}
