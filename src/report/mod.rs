//! Reports to the regulators: how they are written, and what proves them.
//!
//! A report is rows of cells under the columns of its kind. [`ReportWriter`] writes them as CSV, JSON or
//! XML, a row at a time. What proves it is a [`Seal`]: a header with the content's hash, and the receipt
//! of the ledger entry that says that this header's report was made.

mod seal;
mod write;

pub(crate) use seal::ACT;
pub use seal::{ReportHeader, SEAL_BYTES_MAX, Seal, SealError, VerifiedReport, header_digest};
pub use write::{Cell, ReportWriter};

/// What is reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReportKind {
    /// Operations with a sign's code, one row each.
    Suspicious,
    /// Turnover by day, terminal, operation and currency.
    Totals,
    /// Failures by day and terminal.
    Failures,
}

impl ReportKind {
    /// The word in headers, ledger entries and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Suspicious => "suspicious",
            Self::Totals => "totals",
            Self::Failures => "failures",
        }
    }

    /// The columns, in order.
    #[must_use]
    pub const fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Suspicious => &[
                "time",
                "terminal",
                "operation",
                "amount_minor",
                "currency",
                "outcome",
                "approved_minor",
                "signs",
                "receipt_index",
                "subject",
            ],
            Self::Totals => &[
                "day",
                "terminal",
                "operation",
                "currency",
                "approved",
                "approved_minor",
                "moved",
                "moved_minor",
            ],
            Self::Failures => &["day", "terminal", "measure", "reason", "count", "of", "rate"],
        }
    }
}

/// How a report is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReportFormat {
    /// RFC 4180, with a header line.
    Csv,
    /// One object with an array of rows.
    Json,
    /// XML 1.0.
    Xml,
}

impl ReportFormat {
    /// The word in headers and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Xml => "xml",
        }
    }
}
