//! Key-encryption keys: where they come from, and what each of them wraps.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use crate::crypto::{
    AeadError, Digest, Entropy, EntropyError, Locked, MacKey, SealingKey, TokenError, random_bytes,
};

/// The name of a gateway's first key-encryption key.
pub const FIRST_KEK: &str = "kek";

/// A key-encryption key as its home gives it.
pub struct KekSecret {
    /// How its file and, where a token holds it, its key there are called: `kek`, `kek-2`.
    pub name: String,
    /// Where it is kept: `file` or `token`.
    pub home: &'static str,
    /// The key, 32 bytes.
    pub bytes: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for KekSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KekSecret({:?}, {})", self.name, self.home)
    }
}

/// Keeps key-encryption keys. Its calls block.
pub trait KekHome: Send + Sync + fmt::Debug {
    /// All of them, in the order in which they were made.
    ///
    /// # Errors
    ///
    /// [`VaultError`] when one that is there cannot be read.
    fn load(&self) -> Result<Vec<KekSecret>, VaultError>;

    /// Makes another, durably, under a name that none has.
    ///
    /// # Errors
    ///
    /// [`VaultError`] when it cannot be made or kept.
    fn create(&self, entropy: &dyn Entropy) -> Result<KekSecret, VaultError>;

    /// Destroys the one of this name; it is no fault if it is gone.
    ///
    /// # Errors
    ///
    /// [`VaultError`] when it may be there still.
    fn destroy(&self, name: &str) -> Result<(), VaultError>;
}

/// Names a key-encryption key; says nothing of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KekName {
    /// Eight hexadecimal digits, by which rows say what they are wrapped under.
    pub id: String,
    /// How its file is called.
    pub name: String,
    /// Where it is kept: `file` or `token`.
    pub home: &'static str,
}

/// A key-encryption key in use.
pub(super) struct Kek {
    pub name: KekName,
    pub wrap: Locked<SealingKey>,
}

impl Kek {
    pub fn of(secret: &KekSecret) -> Self {
        let KekSecret { name, home, bytes } = secret;
        let id = Digest::new(*derive(bytes, b"id")).hex().chars().take(8).collect();
        Self {
            name: KekName { id, name: name.clone(), home },
            wrap: Locked::new(SealingKey::new(*derive(bytes, b"wrap"))),
        }
    }
}

/// The vault's own keys: of keyed indices, and of what belongs to no customer. They stay when the
/// key-encryption key changes, or no card and no number would be found again.
pub(super) struct OwnKeys {
    pub index: Locked<MacKey>,
    pub system: Locked<SealingKey>,
}

impl OwnKeys {
    /// As vaults had them that kept none of their own: derived from the first key-encryption key.
    pub fn derived(first: &KekSecret) -> Self {
        Self::new(&derive(&first.bytes, b"index"), &derive(&first.bytes, b"system"))
    }

    pub fn random(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        let index = Zeroizing::new(random_bytes(entropy)?);
        let system = Zeroizing::new(random_bytes(entropy)?);
        Ok(Self::new(&index, &system))
    }

    pub fn from_plain(index: &[u8], system: &[u8]) -> Result<Self, AeadError> {
        let key = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).map_err(|_| AeadError::Open);
        Ok(Self::new(&Zeroizing::new(key(index)?), &Zeroizing::new(key(system)?)))
    }

    fn new(index: &[u8; 32], system: &[u8; 32]) -> Self {
        Self {
            index: Locked::new(MacKey::new(*index)),
            system: Locked::new(SealingKey::new(*system)),
        }
    }
}

fn derive(root: &[u8; 32], label: &[u8]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(*MacKey::new(*root).mac(&[b"tulga-vault-v1", label]).as_bytes())
}

/// Reads a key-encryption key from a file of 64 hexadecimal digits.
///
/// # Errors
///
/// [`VaultError`] when the file cannot be read, others may read it too, or it is no key.
pub fn read_kek_file(path: &Path) -> Result<Zeroizing<[u8; 32]>, VaultError> {
    let text = read_private(path)?;
    let key = Digest::from_hex(text.trim()).map_err(|_| VaultError::NoKey)?;
    Ok(Zeroizing::new(*key.as_bytes()))
}

/// The text of a file that only its owner may read.
///
/// # Errors
///
/// [`VaultError`] when it cannot be read, or others may read it too.
pub fn read_private(path: &Path) -> Result<Zeroizing<String>, VaultError> {
    let mode = fs::metadata(path).map_err(VaultError::File)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(VaultError::Exposed);
    }
    fs::read_to_string(path).map(Zeroizing::new).map_err(VaultError::File)
}

/// Makes a fresh key-encryption key in a new file that only its owner may read.
///
/// # Errors
///
/// [`VaultError`] when the file exists or cannot be written.
pub fn create_kek_file(
    path: &Path,
    entropy: &dyn Entropy,
) -> Result<Zeroizing<[u8; 32]>, VaultError> {
    let key: [u8; 32] = random_bytes(entropy).map_err(VaultError::Chance)?;
    let key = Zeroizing::new(key);
    let text = Zeroizing::new(format!("{}\n", Digest::new(*key).hex()));
    write_private(path, text.as_bytes())?;
    Ok(key)
}

/// Writes a new file that only its owner may read, whole or not at all, and durably.
///
/// # Errors
///
/// [`VaultError`] when it exists or cannot be written.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), VaultError> {
    if path.try_exists().map_err(VaultError::File)? {
        return Err(VaultError::File(io::ErrorKind::AlreadyExists.into()));
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let fresh = Path::new(&name);
    // A crash may have left one behind, which nothing was ever wrapped under.
    match fs::remove_file(fresh) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            return Err(VaultError::File(cause));
        }
        _ => {}
    }
    let write = || {
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(fresh, path)?;
        fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(VaultError::File)
}

/// The vault cannot be opened, or its key-encryption keys cannot be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The key file cannot be read or written.
    #[error("the key-encryption key's file cannot be read or written")]
    File(#[source] io::Error),
    /// Others may read it.
    #[error("the key-encryption key's file may be read by others; chmod 600 it")]
    Exposed,
    /// It holds something else.
    #[error("the key-encryption key's file does not hold 64 hexadecimal digits")]
    NoKey,
    /// A sealed file holds something else.
    #[error(
        "the sealed file of a key-encryption key holds no label with what that key sealed: put it back from \
         its backup"
    )]
    NoSealedKey,
    /// The source of chance failed.
    #[error("no key can be made")]
    Chance(#[source] EntropyError),
    /// The token.
    #[error("the token with the key-encryption key cannot be used")]
    Token(#[from] TokenError),
    /// A file that a token sealed, and no token is configured.
    #[error(
        "the key-encryption key {name:?} is sealed by a token: configure the token in [keys.pkcs11]"
    )]
    NoToken {
        /// How it is called.
        name: String,
    },
    /// A key that rows are wrapped under is not here.
    #[error(
        "the key-encryption key {id} is missing: put its file back into the folder keys, or connect the \
         token that sealed it"
    )]
    Missing {
        /// Its id, or its name where no row names one.
        id: String,
    },
    /// This vault's keys have no home: none can be made.
    #[error("this vault was opened with a single key, and makes no others")]
    Homeless,
}
