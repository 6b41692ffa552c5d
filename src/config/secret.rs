//! Secrets are files that nobody else may read.

use std::path::{Path, PathBuf};

/// Refuses a secret file that its group or others may read, write or execute.
///
/// On systems without Unix modes only its presence is checked.
///
/// # Errors
///
/// [`SecretFileError`]; it names the path, never the content.
pub fn refuse_if_exposed(path: &Path) -> Result<(), SecretFileError> {
    let metadata = std::fs::metadata(path)
        .map_err(|source| SecretFileError::Read { path: path.to_owned(), source })?;
    if !metadata.is_file() {
        return Err(SecretFileError::NotAFile { path: path.to_owned() });
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = metadata.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(SecretFileError::Exposed { path: path.to_owned(), mode: mode & 0o777 });
        }
    }
    Ok(())
}

/// A secret file that must not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretFileError {
    /// It is not there, or cannot be looked at.
    #[error("the secret file {path:?} cannot be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A folder or something else.
    #[error("{path:?} is not a file")]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// Others have rights on it.
    #[error("the secret file {path:?} has mode {mode:03o}: others may use it; chmod 600 it")]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl SecretFileError {
    /// The word for logs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "SECRET_UNREADABLE",
            Self::NotAFile { .. } => "SECRET_NOT_A_FILE",
            Self::Exposed { .. } => "SECRET_EXPOSED",
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "secret").unwrap();
        for (mode, code) in [
            (0o600, None),
            (0o400, None),
            (0o640, Some("SECRET_EXPOSED")),
            (0o604, Some("SECRET_EXPOSED")),
            (0o620, Some("SECRET_EXPOSED")),
            (0o610, Some("SECRET_EXPOSED")),
        ] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let refused = refuse_if_exposed(&path).err();
            assert_eq!(refused.as_ref().map(SecretFileError::code), code, "{mode:o}");
        }
        assert_eq!(refuse_if_exposed(dir.path()).unwrap_err().code(), "SECRET_NOT_A_FILE");
        let nowhere = dir.path().join("nowhere");
        assert_eq!(refuse_if_exposed(&nowhere).unwrap_err().code(), "SECRET_UNREADABLE");
    }
}
