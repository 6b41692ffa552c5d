//! Tiles (c2sp.org/tlog-tiles): a ledger's hashes and entries as files that never change, so that
//! anybody can fetch what a proof needs from a plain file server.
//!
//! A hash tile of level `l` holds up to 256 roots of complete subtrees of `256^l` entries; an entry
//! bundle holds the entries under one tile of level 0. The rightmost of each level may be partial.

use super::tree::node;
use super::{LeafHash, OutsideTree, Tree, empty_root};
use crate::crypto::Digest;

/// Hashes in a full tile, entries in a full bundle.
pub const TILE_WIDTH: u16 = 256;

/// Longest path of a tile, in bytes.
const PATH_BYTES_MAX: usize = 64;
/// The highest level that a ledger of fewer than 2^63 entries has.
const LEVEL_MAX: u8 = 7;
const HASH_BYTES: usize = 32;

/// What a tile holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TileKind {
    /// Roots of complete subtrees of `256^level` entries.
    Hashes {
        /// 0 for leaf hashes.
        level: u8,
    },
    /// The entries themselves.
    Entries,
}

/// Which tile: what it holds, its place in its level, and how much of it is there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TileAddress {
    kind: TileKind,
    index: u64,
    width: u16,
}

impl TileAddress {
    /// A tile of `width` hashes or entries.
    ///
    /// # Errors
    ///
    /// [`TileError::Address`] for a level, place or width that no ledger's tile has.
    pub fn new(kind: TileKind, index: u64, width: u16) -> Result<Self, TileError> {
        let shift = match kind {
            TileKind::Hashes { level } if level > LEVEL_MAX => return Err(TileError::Address),
            TileKind::Hashes { level } => 8 * (u32::from(level) + 1),
            TileKind::Entries => 8,
        };
        // The last entry under it must have an index below 2^63.
        let last_place = u64::MAX.checked_shr(shift + 1).unwrap_or(0);
        if index > last_place || !(1..=TILE_WIDTH).contains(&width) {
            return Err(TileError::Address);
        }
        Ok(Self { kind, index, width })
    }

    /// Every tile that a ledger of `size` entries consists of: bundles, then hashes level by level.
    pub fn all(size: u64) -> impl Iterator<Item = Self> {
        let levels = (0..=LEVEL_MAX).map(|level| TileKind::Hashes { level });
        std::iter::once(TileKind::Entries).chain(levels).flat_map(move |kind| {
            let items = kind.items(size);
            let full = items / u64::from(TILE_WIDTH);
            let rest = u16::try_from(items % u64::from(TILE_WIDTH)).unwrap_or(0);
            let partial = (rest > 0).then_some(Self { kind, index: full, width: rest });
            (0..full).map(move |index| Self { kind, index, width: TILE_WIDTH }).chain(partial)
        })
    }

    /// What it holds.
    #[must_use]
    pub const fn kind(&self) -> TileKind {
        self.kind
    }

    /// Its place in its level.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// How many hashes or entries it holds, 1 to [`TILE_WIDTH`].
    #[must_use]
    pub const fn width(&self) -> u16 {
        self.width
    }

    /// The place of its first hash or entry in its level.
    #[must_use]
    pub const fn first(&self) -> u64 {
        self.index.saturating_mul(TILE_WIDTH as u64)
    }

    /// Whether a ledger of `size` entries reaches this far.
    #[must_use]
    pub fn is_within(&self, size: u64) -> bool {
        self.first().saturating_add(u64::from(self.width)) <= self.kind.items(size)
    }

    /// Its path: `tile/<L>/<N>`, `tile/entries/<N>`, with `.p/<W>` when it is partial.
    #[must_use]
    pub fn path(&self) -> String {
        let level = match self.kind {
            TileKind::Hashes { level } => level.to_string(),
            TileKind::Entries => ENTRIES.to_owned(),
        };
        let mut number = format!("{:03}", self.index % 1000);
        let mut rest = self.index / 1000;
        while rest > 0 {
            number = format!("x{:03}/{number}", rest % 1000);
            rest /= 1000;
        }
        let partial = if self.width == TILE_WIDTH { "" } else { &format!(".p/{}", self.width) };
        format!("{FOLDER}/{level}/{number}{partial}")
    }

    /// Reads a path. There is one way to write each, so that no file has two names.
    ///
    /// # Errors
    ///
    /// [`TileError::Address`] for any other text.
    pub fn parse(path: &str) -> Result<Self, TileError> {
        let read = || {
            if path.len() > PATH_BYTES_MAX {
                return None;
            }
            let (level, rest) = path.strip_prefix(FOLDER)?.strip_prefix('/')?.split_once('/')?;
            let kind = match level {
                ENTRIES => TileKind::Entries,
                level => TileKind::Hashes { level: level.parse().ok()? },
            };
            let (number, width) = match rest.split_once(".p/") {
                Some((number, width)) => (number, width.parse().ok()?),
                None => (rest, TILE_WIDTH),
            };
            let digits = |part: &str| part.len() == 3 && part.bytes().all(|b| b.is_ascii_digit());
            let mut index = 0u64;
            for part in number.split('/') {
                let part = part.strip_prefix('x').unwrap_or(part);
                let part = Some(part).filter(|part| digits(part))?;
                index = index.checked_mul(1000)?.checked_add(part.parse().ok()?)?;
            }
            Self::new(kind, index, width).ok()
        };
        // Signs, leading zeros and missing `x` marks are read above, and are not what is written.
        read().filter(|address| address.path() == path).ok_or(TileError::Address)
    }

    /// The bytes of this hash tile of a tree.
    ///
    /// # Errors
    ///
    /// [`OutsideTree`] where the tree does not reach, and for an entry bundle: a tree has no entries.
    pub fn hashes(&self, tree: &Tree) -> Result<Vec<u8>, OutsideTree> {
        let TileKind::Hashes { level } = self.kind else { return Err(OutsideTree) };
        let row = tree.subtrees(8 * level, self.first(), self.width).ok_or(OutsideTree)?;
        Ok(bytes_of(row))
    }

    /// Checks the bytes of a hash tile against a tree.
    ///
    /// # Errors
    ///
    /// [`TileError`] unless they are this tree's, all of them and nothing else.
    pub fn check_hashes(&self, bytes: &[u8], tree: &Tree) -> Result<(), TileError> {
        let expected = self.hashes(tree).map_err(|_| TileError::Outside)?;
        if bytes.len() != expected.len() {
            return Err(TileError::Length);
        }
        if bytes == expected { Ok(()) } else { Err(TileError::OtherHash) }
    }

    /// Checks the bytes of an entry bundle against a tree: each entry must hash to its leaf.
    ///
    /// # Errors
    ///
    /// [`TileError`] unless they are this tree's entries, all of them and nothing else.
    pub fn check_entries(&self, bytes: &[u8], tree: &Tree) -> Result<(), TileError> {
        let entries = self.read_entries(bytes)?;
        for (index, entry) in (self.first()..).zip(entries) {
            match tree.leaf(index) {
                None => return Err(TileError::Outside),
                Some(leaf) if leaf != LeafHash::of_entry(entry) => {
                    return Err(TileError::OtherHash);
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The hashes of a hash tile's bytes.
    ///
    /// # Errors
    ///
    /// [`TileError::Length`] when they are not as many as its width says.
    pub fn read_hashes(&self, bytes: &[u8]) -> Result<Vec<Digest>, TileError> {
        let is_hashes = matches!(self.kind, TileKind::Hashes { .. });
        if !is_hashes || bytes.len() != usize::from(self.width) * HASH_BYTES {
            return Err(TileError::Length);
        }
        let hashes = bytes.chunks_exact(HASH_BYTES).map(Digest::try_from);
        hashes.collect::<Result<_, _>>().map_err(|_| TileError::Length)
    }

    /// The entries of a bundle's bytes.
    ///
    /// # Errors
    ///
    /// [`TileError::Length`] when they are not as many as its width says, or are cut off.
    pub fn read_entries<'a>(&self, bytes: &'a [u8]) -> Result<Vec<&'a [u8]>, TileError> {
        if self.kind != TileKind::Entries {
            return Err(TileError::Length);
        }
        let mut entries = Vec::with_capacity(usize::from(self.width));
        let mut rest = bytes;
        while !rest.is_empty() {
            if entries.len() == usize::from(self.width) {
                return Err(TileError::Length);
            }
            let (length, after) = rest.split_first_chunk::<2>().ok_or(TileError::Length)?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (entry, after) = after.split_at_checked(length).ok_or(TileError::Length)?;
            entries.push(entry);
            rest = after;
        }
        if entries.len() == usize::from(self.width) { Ok(entries) } else { Err(TileError::Length) }
    }
}

impl TileKind {
    /// How many hashes or entries of this kind a ledger of `size` entries has.
    fn items(self, size: u64) -> u64 {
        match self {
            Self::Entries => size,
            Self::Hashes { level } => size.checked_shr(8 * u32::from(level)).unwrap_or(0),
        }
    }
}

/// Appends an entry to the bytes of a bundle: its length in two bytes, then itself.
///
/// # Errors
///
/// [`TileError::Length`] for an entry of more than 65,535 bytes.
pub fn append_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), TileError> {
    let length = u16::try_from(entry.len()).map_err(|_| TileError::Length)?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// Cuts a ledger into tiles while its entries go by; it holds no more than the unfinished tile of each
/// level.
#[derive(Clone, Debug, Default)]
pub struct TileWriter {
    size: u64,
    bundle: Vec<u8>,
    /// Of each level the hashes of the unfinished tile.
    levels: Vec<Vec<Digest>>,
}

/// A tile and its bytes.
pub type WrittenTile = (TileAddress, Vec<u8>);

impl TileWriter {
    /// Appends the next entry; the tiles that it completes.
    ///
    /// # Errors
    ///
    /// [`TileError`] for an entry that no bundle can hold.
    pub fn push(&mut self, entry: &[u8]) -> Result<Vec<WrittenTile>, TileError> {
        let mut complete = Vec::new();
        append_entry(&mut self.bundle, entry)?;
        let index = self.size / u64::from(TILE_WIDTH);
        self.size += 1;
        if self.size.is_multiple_of(u64::from(TILE_WIDTH)) {
            let address = TileAddress::new(TileKind::Entries, index, TILE_WIDTH)?;
            complete.push((address, std::mem::take(&mut self.bundle)));
        }
        let mut hash = *LeafHash::of_entry(entry).digest();
        let mut index = index;
        for level in 0..=LEVEL_MAX {
            let at = usize::from(level);
            if self.levels.len() == at {
                self.levels.push(Vec::new());
            }
            let Some(row) = self.levels.get_mut(at) else { break };
            row.push(hash);
            if row.len() < usize::from(TILE_WIDTH) {
                break;
            }
            let row = std::mem::take(row);
            complete.push((
                TileAddress::new(TileKind::Hashes { level }, index, TILE_WIDTH)?,
                bytes_of(&row),
            ));
            hash = root_over(row, None).unwrap_or_else(empty_root);
            index /= u64::from(TILE_WIDTH);
        }
        Ok(complete)
    }

    /// The root over all entries so far.
    #[must_use]
    pub fn root(&self) -> Digest {
        let root = self.levels.iter().fold(None, |right, row| root_over(row.clone(), right));
        root.unwrap_or_else(empty_root)
    }

    /// The partial tiles at the ledger's end.
    ///
    /// # Errors
    ///
    /// None that a ledger of fewer than 2^63 entries can meet.
    pub fn finish(self) -> Result<Vec<WrittenTile>, TileError> {
        let mut partial = Vec::new();
        let width = u64::from(TILE_WIDTH);
        let mut items = self.size;
        if !self.bundle.is_empty() {
            let rest = u16::try_from(items % width).map_err(|_| TileError::Length)?;
            let address = TileAddress::new(TileKind::Entries, items / width, rest)?;
            partial.push((address, self.bundle));
        }
        for (level, row) in (0u8..).zip(self.levels) {
            if !row.is_empty() {
                let rest = u16::try_from(row.len()).map_err(|_| TileError::Length)?;
                let kind = TileKind::Hashes { level };
                partial.push((TileAddress::new(kind, items / width, rest)?, bytes_of(&row)));
            }
            items /= width;
        }
        Ok(partial)
    }
}

/// The root over neighbouring complete subtrees of one size, and over what stands to their right
/// (RFC 6962: from the right, the lone subtree of each size joins what is right of it).
fn root_over(row: Vec<Digest>, right: Option<Digest>) -> Option<Digest> {
    let (mut row, mut right) = (row, right);
    while !row.is_empty() {
        if !row.len().is_multiple_of(2)
            && let Some(lone) = row.pop()
        {
            right = Some(right.map_or(lone, |right| node(&lone, &right)));
        }
        let pairs = row.chunks_exact(2);
        row = pairs.filter_map(|pair| Some(node(pair.first()?, pair.last()?))).collect();
    }
    right
}

fn bytes_of(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

/// A tile that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TileError {
    /// No ledger has a tile there, or the path is not the one way to write it.
    #[error("no ledger has a tile of this path")]
    Address,
    /// Beyond the ledger's end.
    #[error("the ledger does not reach as far as the tile")]
    Outside,
    /// Not as many hashes or entries as its path says.
    #[error("the tile does not hold what its path says")]
    Length,
    /// A hash or entry that is not the ledger's.
    #[error("the tile holds a hash or an entry that is not this ledger's")]
    OtherHash,
}

impl TileError {
    /// The word in statuses, metrics and logs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "LOG_TILE"
    }
}

const FOLDER: &str = "tile";
const ENTRIES: &str = "entries";

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(level: u8, index: u64, width: u16) -> TileAddress {
        TileAddress::new(TileKind::Hashes { level }, index, width).unwrap()
    }

    fn bundle(index: u64, width: u16) -> TileAddress {
        TileAddress::new(TileKind::Entries, index, width).unwrap()
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        // c2sp.org/tlog-tiles: "index 1234067 will be encoded as x001/x234/067".
        assert_eq!(hashes(0, 1_234_067, 256).path(), "tile/0/x001/x234/067");
        assert_eq!(hashes(3, 1_234_067, 7).path(), "tile/3/x001/x234/067.p/7");
        assert_eq!(bundle(273, 112).path(), "tile/entries/273.p/112");
        assert_eq!(bundle(0, 256).path(), "tile/entries/000");
        assert_eq!(bundle(1_000_000, 1).path(), "tile/entries/x001/x000/000.p/1");
    }

    #[test]
    fn the_specification_s_tree_of_70_000_entries_has_its_tiles() {
        let tiles: Vec<_> = TileAddress::all(70_000).collect();
        let of = |kind| tiles.iter().filter(move |tile| tile.kind() == kind);
        let full = |kind| of(kind).filter(|tile| tile.width() == 256).count();
        let partial = |kind| of(kind).find(|tile| tile.width() < 256).map(|tile| tile.path());
        assert_eq!(full(TileKind::Hashes { level: 0 }), 273);
        assert_eq!(partial(TileKind::Hashes { level: 0 }).as_deref(), Some("tile/0/273.p/112"));
        assert_eq!(full(TileKind::Hashes { level: 1 }), 1);
        assert_eq!(partial(TileKind::Hashes { level: 1 }).as_deref(), Some("tile/1/001.p/17"));
        assert_eq!(full(TileKind::Hashes { level: 2 }), 0);
        assert_eq!(partial(TileKind::Hashes { level: 2 }).as_deref(), Some("tile/2/000.p/1"));
        assert_eq!(of(TileKind::Hashes { level: 3 }).count(), 0);
        assert_eq!(full(TileKind::Entries), 273);
        // And of 256: one full of level 0, one partial of level 1.
        let paths: Vec<_> = TileAddress::all(256).map(|tile| tile.path()).collect();
        assert_eq!(paths, ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]);
        assert_eq!(TileAddress::all(0).count(), 0);
    }

    #[test]
    fn a_path_is_written_in_one_way_only() {
        for good in ["tile/0/000", "tile/6/127.p/255", "tile/entries/x001/x234/067.p/1"] {
            assert_eq!(TileAddress::parse(good).map(|tile| tile.path()).as_deref(), Ok(good));
        }
        let bad = [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/0000",
            "tile/00/000",
            "tile/+0/000",
            "tile/8/000",
            "tile/-1/000",
            "tile/data/000",
            "tile/0/x000/000",
            "tile/0/001/000",
            "tile/0/x001/x000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/+1",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "tile/0/000.p/1/",
            "tile/0/000.p/1.p/1",
            "/tile/0/000",
            "tile//0/000",
            "tile/0/../000",
            "tile/0/x999/x999/x999/x999/x999/x999/999",
            "tile/6/128",
            "tile/7/001",
            "tile/entries/x036/x028/x797/x018/x963/968",
        ];
        for path in bad {
            assert_eq!(TileAddress::parse(path), Err(TileError::Address), "{path}");
        }
    }

    #[test]
    fn no_byte_of_a_tile_may_change() {
        let entries: Vec<Vec<u8>> = (0..300u32).map(|i| i.to_be_bytes().to_vec()).collect();
        let tree: Tree = entries.iter().map(|entry| LeafHash::of_entry(entry)).collect();
        for tile in TileAddress::all(300) {
            assert!(tile.is_within(300));
            let mut bytes = Vec::new();
            match tile.kind() {
                TileKind::Hashes { .. } => bytes = tile.hashes(&tree).unwrap(),
                TileKind::Entries => {
                    let first = usize::try_from(tile.first()).unwrap();
                    for entry in &entries[first..first + usize::from(tile.width())] {
                        append_entry(&mut bytes, entry).unwrap();
                    }
                }
            }
            let check = |bytes: &[u8]| match tile.kind() {
                TileKind::Hashes { .. } => tile.check_hashes(bytes, &tree),
                TileKind::Entries => tile.check_entries(bytes, &tree),
            };
            assert_eq!(check(&bytes), Ok(()));
            assert_eq!(check(&[bytes.as_slice(), &[0]].concat()), Err(TileError::Length));
            assert_eq!(check(&bytes[..bytes.len() - 1]), Err(TileError::Length));
            for place in 0..bytes.len() {
                let mut altered = bytes.clone();
                altered[place] ^= 1;
                assert!(check(&altered).is_err(), "{} {place}", tile.path());
            }
        }
        assert_eq!(hashes(0, 1, 45).check_hashes(&[0; 45 * 32], &tree), Err(TileError::Outside));
        assert!(!hashes(0, 1, 45).is_within(300));
    }
}
