//! RFC 3161 time-stamps of checkpoints: a second clock beside the witnesses.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::AuditError;
use super::export::STAMP_END;
use super::heads::Heads;
use super::lines::{read_bytes, read_dir_sorted, read_text};
use super::report::Findings;
use crate::crypto::{Digest, StampAuthorities};
use crate::domain::time::UnixMillis;
use crate::ledger::{Checkpoint, Origin, TIMESTAMP_BYTES_MAX, TimestampToken};

/// The time-stamps of one ledger.
#[derive(Default)]
pub(super) struct Stamped {
    pub count: u64,
    /// Sizes and when an authority that counts saw them.
    pub sightings: Vec<(u64, UnixMillis)>,
}

/// Reads the authorities whose time-stamps count.
pub(super) fn read_authorities(
    file: Option<&Path>,
) -> Result<Option<StampAuthorities>, AuditError> {
    let Some(file) = file else { return Ok(None) };
    let pem = read_text(file, PEM_BYTES_MAX)?;
    StampAuthorities::from_pem(&pem)
        .map(Some)
        .map_err(|source| AuditError::Authorities { file: file.to_owned(), source })
}

/// Checks every time-stamp of a folder: it must be of a kept checkpoint. Without authorities nobody can
/// say whether it is true, and it is only counted.
pub(super) fn check_stamps(
    dir: Option<PathBuf>,
    origin: &Origin,
    heads: &Heads,
    authorities: Option<&StampAuthorities>,
    findings: &mut Findings,
) -> Result<Stamped, AuditError> {
    let Some(dir) = dir else { return Ok(Stamped::default()) };
    let mut sizes = BTreeMap::new();
    for file in read_dir_sorted(&dir)? {
        if let Some(size) = size_of(&file) {
            sizes.insert(size, file);
        } else {
            let text = format!("{}: its name is no size of a checkpoint", file.display());
            findings.add("stamp", None, text);
        }
    }
    let count = u64::try_from(sizes.len()).unwrap_or(u64::MAX);
    let mut stamped = Stamped { count, sightings: Vec::new() };
    let roots = heads.roots_of(&sizes.keys().copied().collect());
    for (size, file) in sizes {
        let root = roots.get(&size).copied();
        match check(&file, origin, size, root, authorities) {
            Ok(time) => stamped.sightings.extend(time.map(|time| (size, time))),
            Err(text) => findings.add("stamp", None, format!("{}: {text}", file.display())),
        }
    }
    Ok(stamped)
}

fn check(
    file: &Path,
    origin: &Origin,
    size: u64,
    root: Option<Digest>,
    authorities: Option<&StampAuthorities>,
) -> Result<Option<UnixMillis>, String> {
    let root = root.ok_or("no kept checkpoint has this size")?;
    let answer = read_bytes(file, TIMESTAMP_BYTES_MAX).map_err(|fault| fault.to_string())?;
    let Some(authorities) = authorities else { return Ok(None) };
    let text = Checkpoint { origin: origin.clone(), size, root }.text();
    let token = TimestampToken::verify(&answer, &text, None, authorities);
    token.map(|token| Some(token.time)).map_err(|fault| fault.to_string())
}

fn size_of(file: &Path) -> Option<u64> {
    let size = file.file_name()?.to_str()?.strip_suffix(STAMP_END)?;
    size.parse().ok().filter(|it: &u64| it.to_string() == size)
}

const PEM_BYTES_MAX: usize = 1024 * 1024;
