//! The one builder of [`tonic::Status`].
//!
//! A refusal's message is a fixed sentence. What went wrong in detail is logged once, here, and never
//! sent; a field's fault is sent as `google.rpc.BadRequest`, in words that never repeat its value.

use std::error::Error;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::capture::FingerDecodeError;
use crate::gateway::GatewayError;

/// The domain of `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "tulga";

/// A row of the error table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// `google.rpc.ErrorInfo.reason`; also the word in metrics and logs.
    pub reason: &'static str,
    /// The gRPC code.
    pub code: Code,
    /// The sentence that is sent.
    pub message: &'static str,
    /// `google.rpc.RetryInfo`: how long to wait before the same call.
    pub retry_after: Option<Duration>,
}

const fn row(reason: &'static str, code: Code, message: &'static str) -> Row {
    Row { reason, code, message, retry_after: None }
}

const fn retry(reason: &'static str, code: Code, after_ms: u64, message: &'static str) -> Row {
    Row { reason, code, message, retry_after: Some(Duration::from_millis(after_ms)) }
}

/// The error table: every reason that a status can carry.
pub const TABLE: [Row; 29] = [
    row("REQ_INVALID", Code::InvalidArgument, "a field of the request is missing or wrong"),
    row("REQ_MALFORMED", Code::InvalidArgument, "the message is not valid protobuf"),
    row("REQ_TOO_LARGE", Code::InvalidArgument, "the message is larger than the limit"),
    row(
        "CAP_UNREADABLE",
        Code::InvalidArgument,
        "the picture cannot be read; begin again with the same attempt",
    ),
    row(
        "CAP_RESOLUTION",
        Code::InvalidArgument,
        "the picture's resolution is not told, or none of a scanner; begin again with the same attempt",
    ),
    row(
        "CAP_STALE",
        Code::FailedPrecondition,
        "the challenge is unknown, used or expired; begin again with the same attempt",
    ),
    row("DEV_SIGNATURE", Code::FailedPrecondition, "the capture's signature is wrong; begin again"),
    row(
        "DEV_SENSOR_UNKNOWN",
        Code::FailedPrecondition,
        "the sensor's key is not registered for this terminal; call the operator",
    ),
    row(
        "DEV_SENSOR_BLOCKED",
        Code::FailedPrecondition,
        "the sensor's key is suspended, replaced or revoked; call the operator",
    ),
    row(
        "DEV_COUNTER",
        Code::FailedPrecondition,
        "the sensor's counter was taken before; sign again with a greater one",
    ),
    row(
        "DEV_UNSIGNED",
        Code::FailedPrecondition,
        "the capture must be signed by a sensor of a higher level; call the operator",
    ),
    row(
        "DEV_REPLAY",
        Code::FailedPrecondition,
        "these bytes were decided on before; capture again with the same attempt",
    ),
    row(
        "DEV_SEALED",
        Code::FailedPrecondition,
        "the sealed capture does not open in this call; begin again with the same attempt",
    ),
    row(
        "DEV_UNSEALED",
        Code::FailedPrecondition,
        "the capture must be sealed to the gateway; call the operator",
    ),
    row("REQ_STATE", Code::FailedPrecondition, "this cannot be done in the present state"),
    row("REQ_NOT_FOUND", Code::NotFound, "there is no such thing"),
    row("REQ_EXISTS", Code::AlreadyExists, "this exists already"),
    row(
        "REQ_ID_REUSED",
        Code::AlreadyExists,
        "this attempt was made with other content; use the next attempt",
    ),
    row("REQ_UNKNOWN_METHOD", Code::Unimplemented, "there is no such method"),
    row("DEV_UNKNOWN", Code::Unauthenticated, "the caller is not known; call the operator"),
    row(
        "ROLE_NOT_ALLOWED",
        Code::PermissionDenied,
        "the caller's role may not do this; call the operator",
    ),
    retry("LIM_RATE", Code::ResourceExhausted, 1_000, "too many calls; wait"),
    retry(
        "LIM_TERMINAL",
        Code::ResourceExhausted,
        30_000,
        "too many verifications failed at this terminal; wait",
    ),
    retry("SYS_OVERLOADED", Code::ResourceExhausted, 500, "the gateway is busy; wait"),
    retry("SYS_NOT_READY", Code::Unavailable, 1_000, "the gateway is not ready; wait"),
    retry(
        "SYS_STORE",
        Code::Unavailable,
        1_000,
        "the store did not answer; do not pay, and repeat the same call",
    ),
    row(
        "SYS_DEADLINE",
        Code::DeadlineExceeded,
        "the time was up; do not pay, and repeat the same call",
    ),
    row(
        "SYS_CANCELLED",
        Code::Cancelled,
        "the call was cancelled; do not pay, and repeat the same call",
    ),
    INTERNAL,
];

/// What is sent for everything that must not happen.
const INTERNAL: Row = row("SYS_INTERNAL", Code::Internal, "internal error");

/// A field whose value cannot be taken.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct InvalidField {
    /// The field's path in the request: `transaction.amount_minor`.
    pub path: &'static str,
    /// What is wrong with it, in words that never repeat the value.
    pub problem: String,
}

impl InvalidField {
    /// A field whose value a newtype refused. House errors never repeat the value.
    #[must_use]
    pub fn because(path: &'static str, cause: &dyn Error) -> Self {
        Self { path, problem: chain(cause) }
    }

    /// A field that must be there.
    #[must_use]
    pub fn missing(path: &'static str) -> Self {
        Self { path, problem: "it is missing".into() }
    }

    /// A field with a fault of another kind.
    #[must_use]
    pub fn wrong(path: &'static str, problem: &str) -> Self {
        Self { path, problem: problem.into() }
    }
}

/// The status for an error of the gateway, which is logged here with its causes.
#[must_use]
pub fn refuse(reason: &'static str, error: &dyn Error) -> Status {
    build(log(find(reason), &chain(error)), None)
}

/// The status for a reason that says everything.
#[must_use]
pub fn of(reason: &'static str) -> Status {
    let row = find(reason);
    tracing::info!(reason = row.reason, "refused");
    build(row, None)
}

impl From<InvalidField> for Status {
    fn from(fault: InvalidField) -> Self {
        let row = find("REQ_INVALID");
        tracing::info!(reason = row.reason, field = fault.path, problem = fault.problem, "refused");
        build(row, Some(&fault))
    }
}

impl From<GatewayError> for Status {
    fn from(error: GatewayError) -> Self {
        match error {
            GatewayError::Invalid { field, problem } => InvalidField::wrong(field, problem).into(),
            GatewayError::Pack { fault } => InvalidField::wrong("files", &fault).into(),
            GatewayError::Record { fault } => InvalidField::wrong("record", &fault).into(),
            GatewayError::Register { fault } => InvalidField::wrong("register", &fault).into(),
            GatewayError::UnreadableFinger(fault) => unreadable_finger(&fault),
            other => refuse(other.code(), &other),
        }
    }
}

/// What is wrong with a finger's picture is told in full: its words say what to mend, and nothing of the
/// picture.
fn unreadable_finger(fault: &FingerDecodeError) -> Status {
    let row = log(find(fault.code()), &chain(fault));
    build(row, Some(&InvalidField::wrong("capture.image", &fault.to_string())))
}

/// What a row of an import says of an error, which is logged here with its causes.
#[must_use]
pub fn reason_and_field(error: &GatewayError) -> (&'static str, &'static str) {
    let field = match error {
        GatewayError::Invalid { field, .. } => field,
        GatewayError::Pack { .. } => "files",
        GatewayError::Record { .. } => "record",
        GatewayError::Register { .. } => "register",
        _ => "",
    };
    (log(find(error.code()), &chain(error)).reason, field)
}

/// The reason for a status that tonic itself made, before any method of ours ran or while a stream
/// was read.
#[must_use]
pub fn reason_of_foreign(code: Code) -> &'static str {
    match code {
        Code::OutOfRange => "REQ_TOO_LARGE",
        // tonic says INTERNAL for bytes that do not decode, UNKNOWN for a broken body.
        Code::Internal | Code::Unknown => "REQ_MALFORMED",
        Code::Unimplemented => "REQ_UNKNOWN_METHOD",
        Code::Cancelled => "SYS_CANCELLED",
        Code::DeadlineExceeded => "SYS_DEADLINE",
        Code::ResourceExhausted => "SYS_OVERLOADED",
        Code::Unavailable => "SYS_NOT_READY",
        _ => "SYS_INTERNAL",
    }
}

/// The row of a reason. A reason that is not in the table says nothing to a terminal, so it is an
/// internal error.
fn find(reason: &str) -> Row {
    TABLE.into_iter().find(|row| row.reason == reason).unwrap_or(INTERNAL)
}

/// Whether the fault is the gateway's own.
fn is_ours(reason: &str) -> bool {
    matches!(reason, "SYS_INTERNAL" | "SYS_STORE")
}

/// The one place where a refusal with its causes is logged.
fn log(row: Row, causes: &str) -> Row {
    if is_ours(row.reason) {
        tracing::error!(reason = row.reason, error = causes, "refused");
    } else {
        tracing::info!(reason = row.reason, error = causes, "refused");
    }
    row
}

fn build(row: Row, fault: Option<&InvalidField>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(row.reason, DOMAIN, std::collections::HashMap::<String, String>::new());
    if let Some(InvalidField { path, problem }) = fault {
        details.add_bad_request_violation(*path, problem);
    }
    if let Some(delay) = row.retry_after {
        details.set_retry_info(Some(delay));
    }
    Status::with_error_details(row.code, row.message, details)
}

/// An error and its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_sent_with_its_reason_and_never_as_ok() {
        for row in TABLE {
            let status = of(row.reason);
            assert_ne!(status.code(), Code::Ok);
            assert_eq!(status.code(), row.code, "{}", row.reason);
            let details = status.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!((info.reason.as_str(), info.domain.as_str()), (row.reason, DOMAIN));
            let delay = details.retry_info().and_then(|info| info.retry_delay);
            assert_eq!(delay, row.retry_after, "{}", row.reason);
        }
    }

    #[test]
    fn every_reason_stands_once() {
        let reasons: std::collections::BTreeSet<_> = TABLE.iter().map(|row| row.reason).collect();
        assert_eq!(reasons.len(), TABLE.len());
    }

    #[test]
    fn a_reason_outside_the_table_is_an_internal_error() {
        let status = of("SOMETHING_ELSE");
        assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
    }

    #[test]
    fn the_causes_of_an_error_are_not_sent() {
        let cause = std::io::Error::other("disk /var/lib/tulga is full");
        let status = refuse("SYS_STORE", &cause);
        assert!(!format!("{status:?}").contains("disk"));
    }

    #[test]
    fn a_wrong_field_is_named() {
        let status = Status::from(InvalidField::missing("transaction.currency"));
        let details = status.get_error_details();
        let violation = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(violation.field, "transaction.currency");
        assert_eq!(violation.description, "it is missing");
    }

    #[test]
    fn the_documented_table_is_this_one() {
        let documented = include_str!("../../docs/api.md");
        for row in TABLE {
            let line = documented
                .lines()
                .find(|line| line.starts_with(&format!("| `{}` |", row.reason)))
                .unwrap_or_else(|| panic!("{} is not in docs/api.md", row.reason));
            let code = format!("{:?}", row.code);
            let words = line.replace('_', "").to_lowercase();
            assert!(words.contains(&code.to_lowercase()), "{line} lacks {code}");
            assert!(line.contains(row.message), "{line} lacks {}", row.message);
        }
    }
}
