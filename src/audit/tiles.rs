//! The tiles of a ledger, compared with the tree that its receipts give.

use std::collections::BTreeSet;
use std::path::Path;

use rayon::prelude::*;

use super::AuditError;
use super::lines::{read_bytes, read_dir_sorted};
use super::report::Findings;
use crate::ledger::{TileAddress, TileKind, Tree};
use crate::receipt::TILE_FOLDER;

/// Compares every tile below `dir` with the tree, and looks for those that a ledger of `size` entries
/// must have; how many there are. One level of folders is in memory at a time.
pub(super) fn check_tiles(
    dir: &Path,
    size: u64,
    tree: &Tree,
    findings: &mut Findings,
) -> Result<u64, AuditError> {
    let needed = TileAddress::all(size).map(|tile| (tile.kind(), tile.index(), tile.width()));
    let mut missing: BTreeSet<_> = needed.collect();
    let mut count = 0;
    let mut folders = vec![TILE_FOLDER.to_owned()];
    while let Some(folder) = folders.pop() {
        let mut files = Vec::new();
        for path in read_dir_sorted(&dir.join(&folder))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let below = format!("{folder}/{name}");
            if !path.is_dir() {
                files.push(below);
            } else if below.len() > PATH_BYTES_MAX {
                findings.add("tile", None, format!("{below}: no ledger has a tile of this path"));
            } else {
                folders.push(below);
            }
        }
        count += u64::try_from(files.len()).unwrap_or(u64::MAX);
        let seen: Vec<_> = files.par_iter().map(|path| check_tile(dir, path, tree)).collect();
        for (path, seen) in files.iter().zip(seen) {
            if let Err(text) = seen {
                findings.add("tile", None, format!("{path}: {text}"));
            }
            // A wrong one is not missing.
            if let Ok(tile) = TileAddress::parse(path) {
                missing.remove(&(tile.kind(), tile.index(), tile.width()));
            }
        }
    }
    if !missing.is_empty() {
        let text = format!("{} tiles of a ledger of {size} entries are missing", missing.len());
        findings.add("tile", None, text);
    }
    Ok(count)
}

fn check_tile(dir: &Path, path: &str, tree: &Tree) -> Result<(), String> {
    let tile = TileAddress::parse(path).map_err(|fault| fault.to_string())?;
    let bytes = read_bytes(&dir.join(path), TILE_BYTES_MAX).map_err(|fault| fault.to_string())?;
    match tile.kind() {
        TileKind::Hashes { .. } => tile.check_hashes(&bytes, tree),
        TileKind::Entries => tile.check_entries(&bytes, tree),
    }
    .map_err(|fault| fault.to_string())
}

const PATH_BYTES_MAX: usize = 64;
/// A full bundle of the longest entries.
const TILE_BYTES_MAX: usize = 256 * (2 + 65_535);
