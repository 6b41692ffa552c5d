//! Reference images from a folder: one picture a person.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::reference::{ReferenceError, ReferenceSource};
use crate::crypto::{length_prefixed, sha256};
use crate::domain::id::TenantId;
use crate::domain::iin::Iin;

/// What a picture's file is named, without its ending: 64 lower-case hexadecimal digits. They say nothing
/// to a glance, and that is all: whoever can try a few billion numbers reads the name. The folder itself
/// must be kept from others.
#[must_use]
pub fn reference_name(tenant: &TenantId, iin: &Iin) -> String {
    let hashed = zeroize::Zeroizing::new(length_prefixed(&[
        CONTEXT,
        tenant.as_str().as_bytes(),
        iin.expose(),
    ]));
    sha256(&hashed).hex()
}

/// Pictures in a folder, named by [`reference_name`] and `.jpg` or `.png`; of two the `.jpg` counts.
#[derive(Clone, Debug)]
pub struct FileReferences {
    dir: PathBuf,
    tenant: TenantId,
    deadline: Duration,
    picture_bytes_max: usize,
}

impl FileReferences {
    /// The pictures in `dir`. Reading one takes no longer than the deadline: the folder may be on a
    /// network.
    ///
    /// # Errors
    ///
    /// When it is no folder that can be listed.
    pub fn open(
        dir: &Path,
        tenant: TenantId,
        deadline: Duration,
        picture_bytes_max: usize,
    ) -> io::Result<Self> {
        fs::read_dir(dir)?;
        Ok(Self { dir: dir.to_owned(), tenant, deadline, picture_bytes_max })
    }
}

#[async_trait]
impl ReferenceSource for FileReferences {
    async fn portrait(&self, iin: &Iin) -> Result<Option<Bytes>, ReferenceError> {
        let name = reference_name(&self.tenant, iin);
        let (dir, bytes_max) = (self.dir.clone(), self.picture_bytes_max);
        let read = tokio::task::spawn_blocking(move || read(&dir, &name, bytes_max));
        match tokio::time::timeout(self.deadline, read).await {
            Ok(Ok(read)) => read,
            Ok(Err(cause)) => Err(ReferenceError::Unreachable(Box::new(cause))),
            Err(_) => Err(ReferenceError::Deadline),
        }
    }
}

fn read(dir: &Path, name: &str, bytes_max: usize) -> Result<Option<Bytes>, ReferenceError> {
    for ending in ["jpg", "png"] {
        match read_file(&dir.join(format!("{name}.{ending}")), bytes_max) {
            Err(ReadError::Io(cause)) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(ReadError::Io(cause)) => return Err(unreachable(cause)),
            Err(ReadError::TooLarge) => return Err(ReferenceError::TooLarge),
            Ok(bytes) => return Ok(Some(bytes)),
        }
    }
    // Nobody by this name, if there is a folder with pictures at all.
    match fs::read_dir(dir).map_err(unreachable)?.next() {
        Some(Ok(_)) => Ok(None),
        Some(Err(cause)) => Err(unreachable(cause)),
        None => Err(ReferenceError::Empty),
    }
}

enum ReadError {
    Io(io::Error),
    TooLarge,
}

fn read_file(path: &Path, bytes_max: usize) -> Result<Bytes, ReadError> {
    // A pipe or a device would be opened for ever.
    if !fs::metadata(path).map_err(ReadError::Io)?.is_file() {
        return Err(ReadError::Io(io::Error::other("it is not a file")));
    }
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(ReadError::Io)?;
    file.take(limit).read_to_end(&mut bytes).map_err(ReadError::Io)?;
    if bytes.len() > bytes_max {
        return Err(ReadError::TooLarge);
    }
    Ok(bytes.into())
}

fn unreachable(cause: io::Error) -> ReferenceError {
    ReferenceError::Unreachable(Box::new(cause))
}

const CONTEXT: &[u8] = b"tulga-reference-v1";

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::try_from(name).unwrap()
    }

    fn iin() -> Iin {
        Iin::try_from("000000300017").unwrap()
    }

    /// Computed with Python's `hashlib`: folders that banks have built must go on being found.
    #[test]
    fn a_name_stays_as_it_was_and_is_one_bank_s() {
        let name = reference_name(&tenant("bank-a"), &iin());
        assert_eq!(name, "fc7094a4aef001b55ff466ea9b3db0463f02c98ccc601c3ed6832c28a908dab2");
        assert_ne!(name, reference_name(&tenant("bank-b"), &iin()));
    }

    #[tokio::test]
    async fn a_folder_without_the_person_is_told_from_a_folder_that_is_not_there() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("portraits");
        let open = |dir: &Path| FileReferences::open(dir, tenant("a"), Duration::from_secs(5), 8);
        assert!(open(&dir).is_err(), "there is no folder");
        fs::create_dir(&dir).unwrap();
        let source = open(&dir).unwrap();
        assert!(matches!(source.portrait(&iin()).await, Err(ReferenceError::Empty)));
        fs::write(dir.join("somebody-else.jpg"), b"x").unwrap();
        assert_eq!(source.portrait(&iin()).await.unwrap(), None);
        let picture = dir.join(format!("{}.png", reference_name(&tenant("a"), &iin())));
        fs::write(&picture, b"12345678").unwrap();
        assert_eq!(source.portrait(&iin()).await.unwrap().as_deref(), Some(&b"12345678"[..]));
        fs::write(&picture, b"123456789").unwrap();
        assert!(matches!(source.portrait(&iin()).await, Err(ReferenceError::TooLarge)));
        fs::write(picture.with_extension("jpg"), b"jpg").unwrap();
        assert_eq!(source.portrait(&iin()).await.unwrap().as_deref(), Some(&b"jpg"[..]));
        fs::remove_file(picture.with_extension("jpg")).unwrap();
        fs::create_dir(picture.with_extension("jpg")).unwrap();
        assert!(matches!(source.portrait(&iin()).await, Err(ReferenceError::Unreachable(_))));
        fs::remove_dir_all(&dir).unwrap();
        assert!(matches!(source.portrait(&iin()).await, Err(ReferenceError::Unreachable(_))));
    }
}
