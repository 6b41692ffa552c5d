//! Where private keys and the signed register are kept: what the gateway asks of it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::crypto::{EntropyError, KeyError, PublicKey, Signer, TokenError};
use crate::domain::id::ReceiptId;
use crate::receipt::{self, KeyRecord, KeyUse};

/// The signed key register, as exported.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRegisterFiles {
    /// `keys.json`.
    pub register: Vec<u8>,
    /// `keys.json.sig`.
    pub signature: Vec<u8>,
    /// The root key; its fingerprint is the trust fingerprint.
    pub root: PublicKey,
}

/// What a change of the register was, for the ledger to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyEvent {
    /// The id of its entry.
    pub receipt: ReceiptId,
    /// `key_rotated` or `key_revoked`.
    pub act: String,
    /// The key's name.
    pub kid: String,
    /// The hash of the register's bytes.
    pub register: String,
    /// Who installed it.
    pub actor: receipt::Actor,
}

/// Where private keys and the signed register are kept.
pub trait KeyStore: Send + Sync + std::fmt::Debug {
    /// The private half of a key; none when it is not here.
    ///
    /// # Errors
    ///
    /// [`KeyStoreError`] when it cannot be told, or the key must not be used.
    fn signer(&self, key: &KeyRecord) -> Result<Option<Arc<dyn Signer>>, KeyStoreError>;

    /// Makes a new key for a name that the register does not have.
    ///
    /// # Errors
    ///
    /// [`KeyStoreError`] when none can be made or kept.
    fn create(&self, kid: &str, usage: KeyUse) -> Result<PublicKey, KeyStoreError>;

    /// The word for where keys of a use are kept: `file` or `token`.
    fn home(&self, usage: KeyUse) -> &'static str;

    /// Puts a register in force, durably and whole or not at all, with what the ledger must say of it.
    ///
    /// # Errors
    ///
    /// [`KeyStoreError::Unclear`] when it may be in force after a restart or not; any other when the one
    /// before is in force still.
    fn install(&self, files: &KeyRegisterFiles, due: &[KeyEvent]) -> Result<(), KeyStoreError>;

    /// What the ledger must say yet of the register in force.
    ///
    /// # Errors
    ///
    /// [`KeyStoreError`] when it cannot be read.
    fn due(&self) -> Result<Vec<KeyEvent>, KeyStoreError>;

    /// Forgets what was due: the ledger says it.
    ///
    /// # Errors
    ///
    /// [`KeyStoreError`] when that is not durable.
    fn settle(&self) -> Result<(), KeyStoreError>;
}

/// Keys or their register cannot be read, made or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyStoreError {
    /// The disk.
    #[error("the file {path:?} cannot be read or written")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A file that others may read, or of another shape.
    #[error("the file {path:?} cannot be used")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A key file.
    #[error("the key in {path:?} cannot be used")]
    Key {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: KeyError,
    },
    /// Whether a register would be in force after a power cut is not known.
    #[error("whether the register is durable is not known: mend the disk and start again")]
    Unclear(#[source] io::Error),
    /// The token.
    #[error("the token cannot be used")]
    Token(#[from] TokenError),
    /// The system's randomness.
    #[error("no key can be made")]
    Chance(#[from] EntropyError),
}
