//! A pack's files as they travel and are kept: bounded, under names that only a pack's files have, in
//! exactly the bytes that the pack's hash is of.

use std::collections::BTreeMap;
use std::path::Path;

use super::nesting::is_bounded;
use super::pack::{CALENDAR, CASES_DIR, FILE_BYTES_MAX, FILES_MAX, MANIFEST, SCHEMA, read_pack};
use super::{CaseError, CaseFailure, PackError, PolicyPack};
use crate::crypto::{Digest, length_prefixed, sha256};

/// Most bytes of all files of a proposed pack together, names included.
pub const PACK_BYTES_MAX: usize = 3 << 20;

/// Longest name of a file.
const NAME_BYTES_MAX: usize = 128;

/// The files of one pack; they need not be a good one.
#[derive(Clone, PartialEq, Eq)]
pub struct PackFiles(BTreeMap<String, String>);

impl std::fmt::Debug for PackFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackFiles({} files, {})", self.0.len(), self.hash().hex())
    }
}

impl PackFiles {
    /// Takes files by their names relative to the pack's folder.
    ///
    /// # Errors
    ///
    /// [`PackError::TooLarge`], [`PackError::File`] and [`PackError::Nested`].
    pub fn new(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<Self, PackError> {
        let mut taken = BTreeMap::new();
        let mut bytes = 0_usize;
        for (name, content) in files {
            bytes = bytes.saturating_add(name.len()).saturating_add(content.len());
            let is_long = u64::try_from(content.len()).map_or(true, |len| len > FILE_BYTES_MAX);
            if taken.len() >= FILES_MAX || is_long || bytes > PACK_BYTES_MAX {
                return Err(PackError::TooLarge);
            }
            let text = String::from_utf8(content).map_err(|_| PackError::File)?;
            if !is_name(&name) {
                return Err(PackError::File);
            }
            if !name.starts_with(CASES_DIR) && !is_bounded(&text, name == SCHEMA) {
                return Err(PackError::Nested { name });
            }
            if taken.insert(name, text).is_some() {
                return Err(PackError::File);
            }
        }
        Ok(Self(taken))
    }

    /// Reads a pack's folder; files with other names than a pack's are left where they are.
    ///
    /// # Errors
    ///
    /// [`PackError`] when a file is missing, cannot be read, or is too large.
    pub fn read(dir: &Path) -> Result<Self, PackError> {
        Self::new(read_pack(dir)?.into_iter().map(|(name, text)| (name, text.into_bytes())))
    }

    /// Reads what [`PackFiles::to_bytes`] writes.
    ///
    /// # Errors
    ///
    /// [`PackError::File`] for anything else.
    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self, PackError> {
        let mut field = || {
            let (length, rest) = bytes.split_first_chunk()?;
            let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
            let (field, rest) = rest.split_at_checked(length)?;
            bytes = rest;
            Some((field.to_vec(), rest.is_empty()))
        };
        let mut files = Vec::new();
        loop {
            let (name, _) = field().ok_or(PackError::File)?;
            let (content, is_last) = field().ok_or(PackError::File)?;
            files.push((String::from_utf8(name).map_err(|_| PackError::File)?, content));
            if is_last {
                return Self::new(files);
            }
        }
    }

    /// Names and contents, each behind its length, in the order of the names.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let fields = self.0.iter().flat_map(|(name, text)| [name.as_bytes(), text.as_bytes()]);
        length_prefixed(&fields.collect::<Vec<_>>())
    }

    /// SHA-256 of [`PackFiles::to_bytes`]: the pack's hash.
    #[must_use]
    pub fn hash(&self) -> Digest {
        sha256(&self.to_bytes())
    }

    /// Checks the pack and runs its cases.
    ///
    /// # Errors
    ///
    /// [`PackError`], the first fault found.
    pub fn load(&self) -> Result<PolicyPack, PackError> {
        PolicyPack::from_files(&self.0)
    }

    /// The files by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// The text of `pack.toml`.
    #[must_use]
    pub fn manifest(&self) -> Option<&str> {
        self.0.get(MANIFEST).map(String::as_str)
    }
}

/// Whether only a pack's file has this name: it can lead to no other folder.
fn is_name(name: &str) -> bool {
    let within = |name: &str, extension: &str| {
        let stem = name.strip_suffix(extension).unwrap_or_default();
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        !stem.is_empty() && !stem.starts_with('.') && stem.bytes().all(plain)
    };
    let case = name.strip_prefix(CASES_DIR).and_then(|rest| rest.strip_prefix('/'));
    name.len() <= NAME_BYTES_MAX
        && (name == MANIFEST
            || name == SCHEMA
            || name == CALENDAR
            || within(name, ".cedar")
            || case.is_some_and(|case| within(case, ".toml")))
}

impl PackError {
    /// Every fault that is known, a line each: of cases all that came out otherwise.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        if let Self::Cases { name, source: CaseError::Failed { failures } } = self {
            let line = |failed: &CaseFailure| {
                let CaseFailure { case, expected, actual } = failed;
                format!("{name}: {case}: expected {expected}, got {actual}")
            };
            return failures.iter().map(line).collect();
        }
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.extend([": ", &error.to_string()]);
            cause = error.source();
        }
        vec![text]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str) -> Result<PackFiles, PackError> {
        PackFiles::new([(name.to_owned(), b"text".to_vec())])
    }

    #[test]
    fn files_survive_their_bytes_and_nothing_else_is_taken() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/dev");
        let files = PackFiles::read(&dir).unwrap();
        let bytes = files.to_bytes();
        assert_eq!(PackFiles::from_bytes(&bytes).unwrap(), files);
        assert_eq!(files.hash(), PolicyPack::load(&dir).unwrap().hash());
        for end in [0, 1, 7, 8, 9, bytes.len() - 1] {
            assert!(PackFiles::from_bytes(&bytes[..end]).is_err(), "{end}");
        }
        let longer = [bytes.as_slice(), b"\0"].concat();
        assert!(PackFiles::from_bytes(&longer).is_err());
        assert!(PackFiles::from_bytes(&[0xff; 64]).is_err());
    }

    #[test]
    fn only_a_packs_own_names_are_taken() {
        for good in ["pack.toml", "schema.cedarschema", "10-a_b.cedar", "tests/a.toml"] {
            assert!(one(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "other.toml",
            ".cedar",
            "..cedar",
            "../a.cedar",
            "/a.cedar",
            "a/b.cedar",
            "a b.cedar",
            "tests/../a.toml",
            "tests/a/b.toml",
            "tests/.toml",
            "tests\\a.toml",
            "a\0.cedar",
        ] {
            assert!(matches!(one(bad), Err(PackError::File)), "{bad:?}");
        }
        assert!(one(&format!("{}.cedar", "a".repeat(122))).is_ok());
        assert!(one(&format!("{}.cedar", "a".repeat(123))).is_err());
        let no_text = PackFiles::new([("pack.toml".to_owned(), vec![0xff])]);
        assert!(matches!(no_text, Err(PackError::File)));
        let twice = [("pack.toml".to_owned(), vec![]), ("pack.toml".to_owned(), vec![])];
        assert!(matches!(PackFiles::new(twice), Err(PackError::File)));
    }

    #[test]
    fn a_pack_has_its_bounds() {
        let file = |number: usize, bytes| (format!("{number}.cedar"), vec![b'a'; bytes]);
        assert!(PackFiles::new((0..256).map(|n| file(n, 1))).is_ok());
        let too_large = [
            PackFiles::new((0..257).map(|n| file(n, 1))),
            PackFiles::new([file(1, (1 << 20) + 1)]),
            PackFiles::new((0..3).map(|n| file(n, 1 << 20))),
        ];
        for refused in too_large {
            assert!(matches!(refused, Err(PackError::TooLarge)), "{refused:?}");
        }
    }
}
