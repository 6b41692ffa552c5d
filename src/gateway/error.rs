//! Why no decision was made.

use super::envelope::DeviceFault;
use super::key_store::KeyStoreError;
use super::reference::ReferenceError;
use crate::capture::{DecodeError, FingerDecodeError};
use crate::crypto::{AeadError, EntropyError, SignatureError};
use crate::receipt::IssueError;
use crate::store::StoreError;
use crate::vault::VaultError;

/// The gateway did not do what was asked: there is no decision, and no receipt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// A field that cannot be acted on.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field, as the `.proto` names it.
        field: &'static str,
        /// What is wrong with it; never what was given.
        problem: &'static str,
    },
    /// A pack of rules that does not pass its check.
    #[error("the policy pack is refused: {fault}")]
    Pack {
        /// Its first fault, in words for its author; packs hold nothing personal.
        fault: String,
    },
    /// A finger's record that cannot be taken over.
    #[error("the record is refused: {fault}")]
    Record {
        /// Its first fault, in words that repeat nothing of it.
        fault: String,
    },
    /// The picture's bytes are no picture that can be read.
    #[error("the capture cannot be decoded")]
    Unreadable(#[source] DecodeError),
    /// The picture of a finger cannot be read, or its resolution is not known.
    #[error("the capture of a finger cannot be decoded")]
    UnreadableFinger(#[source] FingerDecodeError),
    /// The challenge is unknown, used, cancelled, expired, or was issued for something else.
    #[error("the challenge cannot be used")]
    Stale,
    /// What the terminal's sensor sent, or did not send, cannot be decided on.
    #[error("the captures are not taken from this sensor")]
    Device(#[from] DeviceFault),
    /// The idempotency key was used for something else.
    #[error("the transaction and attempt were used with other content")]
    IdReused,
    /// There is no such thing.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// It exists already.
    #[error("this {0} exists already")]
    Exists(&'static str),
    /// It cannot be done in the present state.
    #[error("not possible now: {0}")]
    State(&'static str),
    /// The terminal asks too often.
    #[error("the terminal asks too often")]
    Rate,
    /// The terminal had too many failures: it must wait until some are old.
    #[error("the terminal had too many failures")]
    Throttled,
    /// No free worker within the time that a request may wait.
    #[error("no worker became free in time")]
    Overloaded,
    /// The deadline passed before there was a decision.
    #[error("the deadline passed")]
    Deadline,
    /// Starting, draining, or the clock is behind the ledger.
    #[error("not ready: {0}")]
    NotReady(&'static str),
    /// The store or the ledger could not commit.
    #[error("the store could not commit")]
    Store(#[from] StoreError),
    /// The holder of the gateway's key could not sign.
    #[error("nothing can be signed")]
    Signing(#[from] SignatureError),
    /// Keys or their register could not be read, made or kept.
    #[error("the keys cannot be used")]
    Keys(#[source] KeyStoreError),
    /// Key-encryption keys could not be read, made, kept or destroyed.
    #[error("the key-encryption keys cannot be used")]
    Vault(#[source] VaultError),
    /// A key-encryption key that is to be destroyed is needed.
    #[error("{by} keys are wrapped under the key-encryption key")]
    KekNeeded {
        /// How many keys are wrapped under it.
        by: u64,
    },
    /// A key register that is not taken; the fault names what is wrong with it.
    #[error("the key register is refused")]
    Register {
        /// For whoever made it.
        fault: String,
    },
    /// The source of reference images did not say whether it has a portrait.
    #[error("no reference image could be asked for")]
    Reference(#[from] ReferenceError),
    /// A broken invariant or an impossible model output.
    #[error("internal: {0}")]
    Internal(&'static str, #[source] Option<Box<dyn std::error::Error + Send + Sync>>),
}

impl GatewayError {
    /// The word in statuses, metrics and logs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. }
            | Self::Pack { .. }
            | Self::Record { .. }
            | Self::Register { .. } => "REQ_INVALID",
            Self::Unreadable(_) => "CAP_UNREADABLE",
            Self::UnreadableFinger(cause) => cause.code(),
            Self::Stale => "CAP_STALE",
            Self::Device(fault) => fault.code(),
            Self::IdReused => "REQ_ID_REUSED",
            Self::NotFound(_) => "REQ_NOT_FOUND",
            Self::Exists(_) => "REQ_EXISTS",
            Self::State(_) | Self::KekNeeded { .. } => "REQ_STATE",
            Self::Rate => "LIM_RATE",
            Self::Throttled => "LIM_TERMINAL",
            Self::Overloaded => "SYS_OVERLOADED",
            Self::Deadline => "SYS_DEADLINE",
            Self::NotReady(_) => "SYS_NOT_READY",
            Self::Reference(cause) => cause.code(),
            // Without a signature there is no receipt, as without the store.
            Self::Store(_) | Self::Signing(_) | Self::Keys(_) | Self::Vault(_) => "SYS_STORE",
            Self::Internal(..) => "SYS_INTERNAL",
        }
    }

    /// A broken invariant with its cause.
    pub(super) fn internal(
        what: &'static str,
        cause: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Internal(what, Some(Box::new(cause)))
    }

    /// A broken invariant that has no cause but itself.
    pub(super) const fn broken(what: &'static str) -> Self {
        Self::Internal(what, None)
    }
}

impl From<EntropyError> for GatewayError {
    fn from(cause: EntropyError) -> Self {
        Self::internal("randomness", cause)
    }
}

impl From<AeadError> for GatewayError {
    fn from(cause: AeadError) -> Self {
        Self::internal("sealed data", cause)
    }
}

impl From<IssueError> for GatewayError {
    fn from(cause: IssueError) -> Self {
        match cause {
            IssueError::Signature(cause) => Self::Signing(cause),
            cause => Self::internal("receipt", cause),
        }
    }
}
