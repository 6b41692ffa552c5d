//! The key-encryption keys of a data folder: files of their own, or files that a token sealed.
//!
//! They are called `kek`, `kek-2`, `kek-3`… in the order in which they were made. One that a token sealed has
//! the ending `.sealed`, and in it the label of the token's secret key that opens it and the sealed bytes, in
//! hexadecimal digits. It is opened at the start and stays in memory: a token that is away later stops no
//! verification. The label is nobody else's, since several gateways may share a token.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use zeroize::Zeroizing;

use super::keys::open_token;
use crate::config::Config;
use crate::crypto::{Entropy, SystemEntropy, Token, length_prefixed, random_bytes};
use crate::vault::{
    FIRST_KEK, KekHome, KekSecret, Vault, VaultError, create_kek_file, read_kek_file, read_private,
    write_private,
};

/// The key-encryption keys of a data folder.
#[derive(Debug)]
pub(super) struct KekFolder {
    dir: PathBuf,
    token: Option<Arc<Token>>,
    /// Whether the token seals those that are made.
    makes_sealed: bool,
}

/// Where one lies.
enum Lies {
    Open(PathBuf),
    Sealed(PathBuf),
}

impl KekFolder {
    /// The folder of the configuration; the token is opened if one is configured.
    pub fn open(config: &Config) -> Result<Self> {
        let token = config.keys.pkcs11.as_ref();
        let makes_sealed = token.is_some_and(|token| token.holds_kek);
        let dir = config.paths.data_dir.join("keys");
        // A token that holds none of them is not asked.
        let is_needed = makes_sealed || lying(&dir)?.iter().any(|(_, lies)| lies.is_sealed());
        let token = token.filter(|_| is_needed).map(open_token).transpose()?;
        Ok(Self { dir, token, makes_sealed })
    }

    /// The vault of all of them.
    pub fn vault(config: &Config) -> Result<Vault> {
        let folder = Self::open(config)?;
        Vault::open(Box::new(folder)).context("the key-encryption keys cannot be used")
    }

    /// Makes the first one of a new folder.
    pub fn create_first(config: &Config) -> Result<()> {
        let folder = Self::open(config)?;
        let made = folder.create_named(FIRST_KEK, &SystemEntropy);
        made.map(drop).context("the key-encryption key cannot be made")
    }

    fn token(&self, name: &str) -> Result<&Token, VaultError> {
        self.token.as_deref().ok_or_else(|| VaultError::NoToken { name: name.to_owned() })
    }

    fn read(&self, name: &str, lies: &Lies) -> Result<KekSecret, VaultError> {
        let (home, bytes) = match lies {
            Lies::Open(path) => (FILE, read_kek_file(path)?),
            Lies::Sealed(path) => {
                let (label, sealed) = read_sealed(path)?;
                let plain = self.token(name)?.open_sealed(&label, &bound_to(name), &sealed)?;
                let key = <[u8; 32]>::try_from(plain.as_slice());
                let key = key.map_err(|_| VaultError::NoSealedKey)?;
                (TOKEN, Zeroizing::new(key))
            }
        };
        Ok(KekSecret { name: name.to_owned(), home, bytes })
    }

    fn create_named(&self, name: &str, entropy: &dyn Entropy) -> Result<KekSecret, VaultError> {
        if !self.makes_sealed {
            let bytes = create_kek_file(&self.dir.join(name), entropy)?;
            return Ok(KekSecret { name: name.to_owned(), home: FILE, bytes });
        }
        let token = self.token(name)?;
        let key: [u8; 32] = random_bytes(entropy).map_err(VaultError::Chance)?;
        let bytes = Zeroizing::new(key);
        let mark: [u8; 8] = random_bytes(entropy).map_err(VaultError::Chance)?;
        let label = format!("{name}-{}", hex(&mark));
        token.generate_sealing_key(&label, entropy)?;
        let sealed = token.seal(&label, &bound_to(name), bytes.as_slice(), entropy)?;
        // What does not open now would not open at the next start.
        if token.open_sealed(&label, &bound_to(name), &sealed)?.as_slice() != bytes.as_slice() {
            return Err(VaultError::NoSealedKey);
        }
        write_private(&self.sealed(name), format!("{label} {}\n", hex(&sealed)).as_bytes())?;
        Ok(KekSecret { name: name.to_owned(), home: TOKEN, bytes })
    }

    fn sealed(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.{SEALED}"))
    }
}

impl KekHome for KekFolder {
    fn load(&self) -> Result<Vec<KekSecret>, VaultError> {
        let lying = lying(&self.dir).map_err(VaultError::File)?;
        lying.iter().map(|(number, lies)| self.read(&name_of(*number), lies)).collect()
    }

    fn create(&self, entropy: &dyn Entropy) -> Result<KekSecret, VaultError> {
        let lying = lying(&self.dir).map_err(VaultError::File)?;
        let last = lying.last().map_or(0, |(number, _)| *number);
        self.create_named(&name_of(last + 1), entropy)
    }

    fn destroy(&self, name: &str) -> Result<(), VaultError> {
        let sealed = self.sealed(name);
        if sealed.try_exists().map_err(VaultError::File)? {
            let (label, _) = read_sealed(&sealed)?;
            self.token(name)?.destroy_sealing_key(&label)?;
            return shred(&sealed).map_err(VaultError::File);
        }
        shred(&self.dir.join(name)).map_err(VaultError::File)
    }
}

impl Lies {
    const fn is_sealed(&self) -> bool {
        matches!(self, Self::Sealed(_))
    }
}

/// The keys that lie in a folder by their numbers; none where there is no folder.
fn lying(dir: &Path) -> io::Result<Vec<(u64, Lies)>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(cause),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let Some(file) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let (name, is_sealed) = match file.strip_suffix(&format!(".{SEALED}")) {
            Some(name) => (name, true),
            None => (file, false),
        };
        let Some(number) = number_of(name) else { continue };
        found.push((number, if is_sealed { Lies::Sealed(path) } else { Lies::Open(path) }));
    }
    found.sort_by_key(|(number, lies)| (*number, lies.is_sealed()));
    if found.windows(2).any(|pair| matches!(pair, [(a, _), (b, _)] if a == b)) {
        return Err(io::Error::other("a key-encryption key lies there both open and sealed"));
    }
    Ok(found)
}

fn name_of(number: u64) -> String {
    if number == 1 { FIRST_KEK.to_owned() } else { format!("{FIRST_KEK}-{number}") }
}

/// `kek` is the first; whatever is not called exactly so is something else.
fn number_of(name: &str) -> Option<u64> {
    let number = match name.strip_prefix(FIRST_KEK)? {
        "" => 1,
        rest => rest.strip_prefix('-')?.parse().ok()?,
    };
    (name_of(number) == name).then_some(number)
}

/// Writes zeros over a file before it is removed: not every disk writes them where the key was.
fn shred(path: &Path) -> io::Result<()> {
    let length = match fs::metadata(path) {
        Ok(file) => file.len(),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(cause),
    };
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    io::copy(&mut io::Read::take(io::repeat(0), length), &mut file)?;
    file.sync_all()?;
    fs::remove_file(path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn bound_to(name: &str) -> Vec<u8> {
    length_prefixed(&[b"tulga-kek-v1", name.as_bytes()])
}

/// The label of the token's key, and what it sealed.
fn read_sealed(path: &Path) -> Result<(String, Vec<u8>), VaultError> {
    let text = read_private(path)?;
    let (label, sealed) = text.trim().split_once(' ').ok_or(VaultError::NoSealedKey)?;
    Ok((label.to_owned(), unhex(sealed).ok_or(VaultError::NoSealedKey)?))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let byte = |[high, low]: &[u8; 2]| Some((digit(*high)? << 4) | digit(*low)?);
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

const FILE: &str = "file";
const TOKEN: &str = "token";
const SEALED: &str = "sealed";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn folder(dir: &Path) -> KekFolder {
        KekFolder { dir: dir.to_owned(), token: None, makes_sealed: false }
    }

    #[test]
    fn keys_come_in_the_order_in_which_they_were_made_and_go_from_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let keks = folder(dir.path());
        assert!(keks.load().unwrap().is_empty());
        for number in 1..=11 {
            let made = keks.create(&SystemEntropy).unwrap();
            assert_eq!((made.name, made.home), (name_of(number), "file"));
        }
        // What is no key of ours.
        for other in ["receipt-1.pem", "kek-", "kek-02", "kek-1", "kekk", "kek-3.bak", "kek-4.new"]
        {
            fs::write(dir.path().join(other), "x").unwrap();
        }
        let loaded = keks.load().unwrap();
        let names: Vec<_> = loaded.iter().map(|kek| kek.name.clone()).collect();
        assert_eq!(names, (1..=11).map(name_of).collect::<Vec<_>>());
        let again = keks.load().unwrap();
        assert!(loaded.iter().zip(&again).all(|(a, b)| a.bytes == b.bytes));
        let mode = fs::metadata(dir.path().join("kek-2")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        keks.destroy("kek").unwrap();
        keks.destroy("kek").unwrap();
        assert!(!dir.path().join("kek").exists());
        assert_eq!(keks.load().unwrap().len(), 10);
        assert_eq!(keks.create(&SystemEntropy).unwrap().name, "kek-12", "no name is given twice");
    }

    #[test]
    fn a_key_that_others_may_read_or_that_is_none_or_that_lies_twice_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let keks = folder(dir.path());
        keks.create(&SystemEntropy).unwrap();
        let path = dir.path().join("kek");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(keks.load(), Err(VaultError::Exposed)));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "no key\n").unwrap();
        assert!(matches!(keks.load(), Err(VaultError::NoKey)));
        write_private(&dir.path().join("kek-2.sealed"), b"kek-2-ab 00\n").unwrap();
        assert_eq!(
            read_sealed(&dir.path().join("kek-2.sealed")).unwrap(),
            ("kek-2-ab".into(), vec![0])
        );
        fs::remove_file(&path).unwrap();
        let refused = keks.load().unwrap_err();
        assert!(matches!(&refused, VaultError::NoToken { name } if name == "kek-2"), "{refused}");
        write_private(&dir.path().join("kek-2"), b"00\n").unwrap();
        assert!(matches!(keks.load(), Err(VaultError::File(_))));
    }

    #[test]
    fn sealed_text_is_pairs_of_digits() {
        assert_eq!(unhex("00fF"), Some(vec![0, 255]));
        for wrong in ["0", "0g", "é0"] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
    }
}
