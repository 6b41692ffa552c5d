//! Files of the data folder: written whole or not at all, in steps that a test can stop behind.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use zeroize::Zeroizing;

use crate::gateway::KeyStoreError;

/// One thing done to the disk. What is to happen is a list of these, so that a test can stop behind each.
#[derive(Debug)]
pub(super) enum Step {
    Write { path: PathBuf, bytes: Zeroizing<Vec<u8>>, mode: u32 },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
    SyncFolder { of: PathBuf },
}

/// A file's new content, in place of the old whole or not at all.
pub(super) fn replace(path: &Path, bytes: Vec<u8>, mode: u32) -> Vec<Step> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let fresh = PathBuf::from(name);
    vec![
        Step::Write { path: fresh.clone(), bytes: Zeroizing::new(bytes), mode },
        Step::Rename { from: fresh, to: path.to_owned() },
        Step::SyncFolder { of: path.to_owned() },
    ]
}

pub(super) fn run(steps: &[Step]) -> Result<(), KeyStoreError> {
    steps.iter().try_for_each(|step| match step {
        Step::Write { path, bytes, mode } => {
            write(path, bytes, *mode).map_err(|cause| io_fault(path, cause))
        }
        Step::Rename { from, to } => fs::rename(from, to).map_err(|cause| io_fault(to, cause)),
        Step::Remove { path } => fs::remove_file(path).map_err(|cause| io_fault(path, cause)),
        Step::SyncFolder { of } => {
            let folder = of.parent().unwrap_or(Path::new("."));
            let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(|cause| io_fault(folder, cause))
        }
    })
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // One that a crash left has perhaps another mode.
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

pub(super) fn make_private_dir(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("{} cannot be made", path.display()))
}

pub(super) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}

pub(super) fn io_fault(path: &Path, cause: io::Error) -> KeyStoreError {
    KeyStoreError::Io { path: path.to_owned(), cause }
}

/// A file's bytes; none where there is no file.
pub(super) fn read_bounded(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, KeyStoreError> {
    let mut bytes = Vec::new();
    match fs::File::open(path) {
        Ok(file) => file.take(bytes_max).read_to_end(&mut bytes),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => Err(cause),
    }
    .map_err(|cause| io_fault(path, cause))?;
    Ok(Some(bytes))
}
