//! What can be wrong with a token, and what to do about it.

use std::fmt;
use std::path::PathBuf;

/// A token that cannot be used, with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The module cannot be loaded or initialised.
    #[error(
        "the PKCS#11 module {module:?} cannot be loaded: install it, or mend `module` in [keys.pkcs11]"
    )]
    ModuleMissing {
        /// Its file.
        module: PathBuf,
        /// Why.
        #[source]
        cause: TokenReply,
    },
    /// No slot holds a token of this label.
    #[error(
        "the module {module:?} shows no token labelled {token:?}: connect it, or mend `token_label` in \
         [keys.pkcs11]"
    )]
    TokenMissing {
        /// Its label.
        token: String,
        /// The module.
        module: PathBuf,
    },
    /// Two tokens have this label.
    #[error("two tokens are labelled {token:?}: disconnect or relabel one")]
    TokenTwice {
        /// Their label.
        token: String,
    },
    /// The PIN is not the token's.
    #[error(
        "the token {token:?} refuses the PIN: put the right one into `pin_file` of [keys.pkcs11] and \
         start again; it is not tried again, since a few wrong ones lock the token"
    )]
    WrongPin {
        /// Which token.
        token: String,
    },
    /// Too many wrong PINs, or an old one.
    #[error(
        "the PIN of the token {token:?} is locked or expired: its security officer must reset it"
    )]
    PinLocked {
        /// Which token.
        token: String,
    },
    /// No such key.
    #[error(
        "the token {token:?} holds no key labelled {key:?} with the public half that keys.json names: \
         restore the token's backup, or rotate to a new key"
    )]
    KeyMissing {
        /// Which token.
        token: String,
        /// The key's label.
        key: String,
    },
    /// No such secret key.
    #[error(
        "the token {token:?} holds no secret key labelled {key:?}, which opens the file of that name in the \
         folder keys: restore the token's backup"
    )]
    SealingKeyMissing {
        /// Which token.
        token: String,
        /// The key's label.
        key: String,
    },
    /// Two secret keys of one label, or one where another was to be made.
    #[error(
        "the token {token:?} holds a secret key labelled {key:?} already: relabel or remove the one that \
         no file in the folder keys belongs to"
    )]
    KeyTwice {
        /// Which token.
        token: String,
        /// The key's label.
        key: String,
    },
    /// What it sealed was altered, or another key sealed it.
    #[error(
        "what the key {key:?} of the token {token:?} sealed does not open: put the file of that name in the \
         folder keys back from its backup"
    )]
    Altered {
        /// Which token.
        token: String,
        /// The key's label.
        key: String,
    },
    /// The token knows no such keys.
    #[error(
        "the token makes no keys of this kind: choose another `receipt_alg` in [keys], or a file"
    )]
    OtherKind,
    /// The signature is not the key's.
    #[error(
        "the token {token:?} signed wrongly with {key:?}; nothing was issued: have the token looked at"
    )]
    Wrong {
        /// Which token.
        token: String,
        /// The key's label.
        key: String,
    },
    /// It failed otherwise; a new session was tried.
    #[error("the token {token:?} does not answer: look whether it is connected, and at its log")]
    Silent {
        /// Which token.
        token: String,
        /// What was called, and the reply.
        #[source]
        cause: TokenReply,
    },
    /// No chance for a key's id.
    #[error("the system's source of randomness failed")]
    Chance,
    /// A thread broke off while it held the token.
    #[error("the token's state is unknown: start again")]
    Broken,
}

impl TokenError {
    /// The word in statuses, metrics and logs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::WrongPin { .. } | Self::PinLocked { .. } => "KEY_TOKEN_PIN",
            Self::KeyMissing { .. }
            | Self::SealingKeyMissing { .. }
            | Self::KeyTwice { .. }
            | Self::Altered { .. }
            | Self::OtherKind => "KEY_TOKEN_KEY",
            _ => "KEY_TOKEN",
        }
    }
}

/// What the module answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenReply(pub(super) String);

impl fmt::Display for TokenReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TokenReply {}
