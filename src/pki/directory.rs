//! The PKI as files.
//!
//! ```text
//! pki/ca.pem           the authority's certificate: what both sides trust
//! pki/ca.key           its private key
//! pki/server.pem       the gateway's certificate
//! pki/server.key       its private key
//! pki/clients/<role>-<name>.pem
//! pki/clients/<role>-<name>.key
//! ```
//!
//! Private keys are written with mode 0600 and refused when group or others may read them.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::authority::{Authority, IssueError, KeyedCertificate, Validity};
use super::identity::Role;
use crate::domain::id::{PrincipalName, TenantId};
use crate::domain::time::UnixMillis;

/// Largest file read, in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Where a PKI's files are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// The PKI under `path`, which need not exist yet.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Makes an authority and a server certificate, and writes them. Nothing is overwritten.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] when a file is there already, cannot be written, or no key can be made.
    pub fn create(
        &self,
        tenant: TenantId,
        hosts: &[&str],
        now: UnixMillis,
    ) -> Result<Authority, DirectoryError> {
        let authority = Authority::generate(tenant, Validity::of_authority(now))?;
        let server = authority.issue_server(hosts, Validity::of_leaf(now))?;
        make_directory(&self.0)?;
        make_directory(&self.0.join("clients"))?;
        write_new(&self.authority_key_path(), authority.key_pem().as_bytes(), 0o600)?;
        write_new(&self.authority_path(), authority.certificate_pem().as_bytes(), 0o644)?;
        write_new(&self.server_key_path(), server.key_pem.as_bytes(), 0o600)?;
        write_new(&self.server_path(), server.certificate_pem.as_bytes(), 0o644)?;
        Ok(authority)
    }

    /// The authority that [`Directory::create`] wrote.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] when a file is missing, open to others, or no authority's.
    pub fn load_authority(&self, tenant: TenantId) -> Result<Authority, DirectoryError> {
        let certificate = self.read_certificate(&self.authority_path())?;
        let key = read_secret(&self.authority_key_path())?;
        Ok(Authority::from_pem(tenant, &certificate, &key)?)
    }

    /// Issues a client certificate and writes it with its key. Nothing is overwritten.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] when a file is there already, cannot be written, or no key can be made.
    pub fn create_client(
        &self,
        authority: &Authority,
        role: Role,
        name: &PrincipalName,
        now: UnixMillis,
    ) -> Result<KeyedCertificate, DirectoryError> {
        let client = authority.issue_client(role, name, Validity::of_leaf(now))?;
        make_directory(&self.0.join("clients"))?;
        write_new(&self.client_key_path(role, name), client.key_pem.as_bytes(), 0o600)?;
        write_new(&self.client_path(role, name), client.certificate_pem.as_bytes(), 0o644)?;
        Ok(client)
    }

    /// Writes a client certificate that was issued elsewhere, with its key, in place of a former one.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] when a file cannot be written.
    pub fn store_client(
        &self,
        role: Role,
        name: &PrincipalName,
        certificate_pem: &str,
        key_pem: &str,
    ) -> Result<(), DirectoryError> {
        make_directory(&self.0.join("clients"))?;
        for path in [self.client_key_path(role, name), self.client_path(role, name)] {
            if path.exists() {
                fs::remove_file(&path).map_err(|source| DirectoryError::io(&path, source))?;
            }
        }
        write_new(&self.client_key_path(role, name), key_pem.as_bytes(), 0o600)?;
        write_new(&self.client_path(role, name), certificate_pem.as_bytes(), 0o644)
    }

    /// Whether an authority's certificate is there.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.authority_path().exists()
    }

    /// A certificate's PEM.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] when the file is missing, too long or no text.
    pub fn read_certificate(&self, path: &Path) -> Result<String, DirectoryError> {
        let file = fs::File::open(path).map_err(|source| DirectoryError::io(path, source))?;
        read_text(path, file)
    }

    /// A private key's PEM.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] when the file is missing, too long, no text, or open to others.
    pub fn read_key(&self, path: &Path) -> Result<Zeroizing<String>, DirectoryError> {
        read_secret(path)
    }

    /// The authority's certificate.
    #[must_use]
    pub fn authority_path(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    /// The authority's private key.
    #[must_use]
    pub fn authority_key_path(&self) -> PathBuf {
        self.0.join("ca.key")
    }

    /// The gateway's certificate.
    #[must_use]
    pub fn server_path(&self) -> PathBuf {
        self.0.join("server.pem")
    }

    /// The gateway's private key.
    #[must_use]
    pub fn server_key_path(&self) -> PathBuf {
        self.0.join("server.key")
    }

    /// A client's certificate.
    #[must_use]
    pub fn client_path(&self, role: Role, name: &PrincipalName) -> PathBuf {
        self.0.join("clients").join(format!("{}-{name}.pem", role.as_str()))
    }

    /// A client's private key.
    #[must_use]
    pub fn client_key_path(&self, role: Role, name: &PrincipalName) -> PathBuf {
        self.0.join("clients").join(format!("{}-{name}.key", role.as_str()))
    }
}

/// A PKI that cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// A file or directory cannot be written or read.
    #[error("{} can be neither written nor read", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A private key that group or others may read.
    #[error("{} is open to group or others: its mode must be 0600", path.display())]
    OpenToOthers {
        /// Which.
        path: PathBuf,
    },
    /// A file that is longer than any certificate or key.
    #[error("{} is longer than any certificate or key", path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
    },
    /// A certificate or key can be neither made nor used.
    #[error("a certificate or key can be neither made nor used")]
    Issue(#[from] IssueError),
}

impl DirectoryError {
    /// The reason of the error table.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "SYS_INTERNAL"
    }

    fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

fn make_directory(path: &Path) -> Result<(), DirectoryError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| DirectoryError::io(path, source))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DirectoryError> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| DirectoryError::io(path, source))
}

fn read_secret(path: &Path) -> Result<Zeroizing<String>, DirectoryError> {
    let file = fs::File::open(path).map_err(|source| DirectoryError::io(path, source))?;
    let metadata = file.metadata().map_err(|source| DirectoryError::io(path, source))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(DirectoryError::OpenToOthers { path: path.to_owned() });
    }
    read_text(path, file).map(Zeroizing::new)
}

fn read_text(path: &Path, file: fs::File) -> Result<String, DirectoryError> {
    let mut text = String::new();
    let bytes = file
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|source| DirectoryError::io(path, source))?;
    if u64::try_from(bytes).is_ok_and(|bytes| bytes <= FILE_BYTES_MAX) {
        Ok(text)
    } else {
        Err(DirectoryError::TooLong { path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::identity::identify;
    use super::*;

    fn now() -> UnixMillis {
        UnixMillis::new(1_795_226_595_123)
    }

    fn tenant() -> TenantId {
        TenantId::try_from("bank-a").unwrap()
    }

    #[test]
    fn a_pki_is_written_once_and_found_again() {
        let root = tempfile::tempdir().unwrap();
        let pki = Directory::at(root.path().join("pki"));
        assert!(!pki.exists());
        pki.create(tenant(), &[], now()).unwrap();
        assert!(pki.exists());
        assert!(matches!(pki.create(tenant(), &[], now()), Err(DirectoryError::Io { .. })));

        let authority = pki.load_authority(tenant()).unwrap();
        let name = PrincipalName::try_from("ATM-1").unwrap();
        let client = pki.create_client(&authority, Role::Terminal, &name, now()).unwrap();
        let kept = pki.read_certificate(&pki.client_path(Role::Terminal, &name)).unwrap();
        assert_eq!(kept, client.certificate_pem);
        assert_eq!(identify(&client.certificate_der).unwrap().principal.role, Role::Terminal);
    }

    #[test]
    fn no_private_key_is_open_to_others() {
        let root = tempfile::tempdir().unwrap();
        let pki = Directory::at(root.path().join("pki"));
        let authority = pki.create(tenant(), &[], now()).unwrap();
        let name = PrincipalName::try_from("ops").unwrap();
        pki.create_client(&authority, Role::Admin, &name, now()).unwrap();
        let keys = [
            pki.authority_key_path(),
            pki.server_key_path(),
            pki.client_key_path(Role::Admin, &name),
        ];
        for key in keys {
            assert_eq!(fs::metadata(&key).unwrap().mode() & 0o777, 0o600);
            assert!(pki.read_key(&key).is_ok());
            fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
            assert!(matches!(pki.read_key(&key), Err(DirectoryError::OpenToOthers { .. })));
        }
        assert!(matches!(pki.load_authority(tenant()), Err(DirectoryError::OpenToOthers { .. })));
    }
}
