//! The append-only tree of RFC 6962, section 2.1, and its proofs.

use crate::crypto::{Digest, Sha256, sha256};

/// The hash of one entry: SHA-256(0x00 ‖ entry).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LeafHash(Digest);

impl LeafHash {
    /// A leaf hash as it was stored.
    #[must_use]
    pub const fn new(digest: Digest) -> Self {
        Self(digest)
    }

    /// The leaf hash of an entry's bytes.
    #[must_use]
    pub fn of_entry(entry: &[u8]) -> Self {
        let mut hash = Sha256::default();
        hash.update(&[0]);
        hash.update(entry);
        Self(hash.finish())
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.0
    }
}

/// A whole tree in memory: every complete subtree's root, about 64 bytes an entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tree {
    /// `levels[k][i]` is the root of the complete subtree over entries `i·2^k .. (i+1)·2^k`.
    levels: Vec<Vec<Digest>>,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// The empty tree.
    #[must_use]
    pub const fn new() -> Self {
        Self { levels: Vec::new() }
    }

    /// How many entries.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| u64::try_from(leaves.len()).unwrap_or(u64::MAX))
    }

    /// Appends an entry.
    pub fn push(&mut self, leaf: LeafHash) {
        let mut hash = leaf.0;
        let mut level = 0;
        loop {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let Some(row) = self.levels.get_mut(level) else { return };
            row.push(hash);
            match row.as_slice() {
                [.., left, right] if row.len().is_multiple_of(2) => hash = node(left, right),
                _ => return,
            }
            level += 1;
        }
    }

    /// Forgets entries from `size` on: what a batch appended before its commit failed.
    pub fn truncate(&mut self, size: u64) {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        for (level, row) in self.levels.iter_mut().enumerate() {
            row.truncate(u32::try_from(level).ok().and_then(|l| size.checked_shr(l)).unwrap_or(0));
        }
    }

    /// The hash of entry `index`.
    #[must_use]
    pub fn leaf(&self, index: u64) -> Option<LeafHash> {
        self.levels.first()?.get(usize::try_from(index).ok()?).copied().map(LeafHash)
    }

    /// The roots of complete subtrees of `2^level` entries, `count` of them from the one at `first` on.
    #[must_use]
    pub fn subtrees(&self, level: u8, first: u64, count: u16) -> Option<&[Digest]> {
        let first = usize::try_from(first).ok()?;
        self.levels.get(usize::from(level))?.get(first..first.checked_add(usize::from(count))?)
    }

    /// The root over all entries.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.range(0, self.size()).unwrap_or_else(empty_root)
    }

    /// The root over the first `size` entries.
    ///
    /// # Errors
    ///
    /// [`OutsideTree`] when the tree has fewer.
    pub fn root_at(&self, size: u64) -> Result<Digest, OutsideTree> {
        match size {
            0 => Ok(empty_root()),
            _ if size > self.size() => Err(OutsideTree),
            _ => self.range(0, size).ok_or(OutsideTree),
        }
    }

    /// The path from entry `index` to the root over the first `size` entries (RFC 6962, 2.1.1),
    /// from the leaf's sibling up.
    ///
    /// # Errors
    ///
    /// [`OutsideTree`] unless `index < size <=` the tree's size.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Digest>, OutsideTree> {
        if index >= size || size > self.size() {
            return Err(OutsideTree);
        }
        let (mut low, mut high) = (0, size);
        let mut path = Vec::new();
        while high - low > 1 {
            let middle = low + split(high - low);
            if index < middle {
                path.push(self.range(middle, high).ok_or(OutsideTree)?);
                high = middle;
            } else {
                path.push(self.range(low, middle).ok_or(OutsideTree)?);
                low = middle;
            }
        }
        path.reverse();
        Ok(path)
    }

    /// The proof that the first `old` entries are a prefix of the first `new` ones (RFC 6962, 2.1.2).
    /// Empty for `old` of 0 or `new`.
    ///
    /// # Errors
    ///
    /// [`OutsideTree`] unless `old <= new <=` the tree's size.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<Digest>, OutsideTree> {
        if old > new || new > self.size() {
            return Err(OutsideTree);
        }
        let mut proof = Vec::new();
        if old == 0 || old == new {
            return Ok(proof);
        }
        let (mut low, mut high) = (0, new);
        while old != high {
            let middle = low + split(high - low);
            if old <= middle {
                proof.push(self.range(middle, high).ok_or(OutsideTree)?);
                high = middle;
            } else {
                proof.push(self.range(low, middle).ok_or(OutsideTree)?);
                low = middle;
            }
        }
        // A subtree that begins the log is the old root itself, which the verifier has.
        if low > 0 {
            proof.push(self.range(low, high).ok_or(OutsideTree)?);
        }
        proof.reverse();
        Ok(proof)
    }

    /// The root over entries `low..high`, which must be a subtree that RFC 6962's splits produce:
    /// `low` is a multiple of a power of two no smaller than `high - low`.
    fn range(&self, low: u64, high: u64) -> Option<Digest> {
        let mut low = low;
        let mut subtrees = Vec::new();
        while low < high {
            let level = (high - low).ilog2();
            let row = self.levels.get(usize::try_from(level).ok()?)?;
            subtrees.push(*row.get(usize::try_from(low >> level).ok()?)?);
            low += 1u64.checked_shl(level)?;
        }
        let mut from_the_right = subtrees.into_iter().rev();
        let first = from_the_right.next()?;
        Some(from_the_right.fold(first, |right, left| node(&left, &right)))
    }
}

impl FromIterator<LeafHash> for Tree {
    fn from_iter<I: IntoIterator<Item = LeafHash>>(leaves: I) -> Self {
        let mut tree = Self::new();
        leaves.into_iter().for_each(|leaf| tree.push(leaf));
        tree
    }
}

/// The root of the empty tree: SHA-256 of nothing.
#[must_use]
pub fn empty_root() -> Digest {
    sha256(b"")
}

/// Checks that `leaf` is entry `index` of the tree of `size` entries with this root (RFC 9162,
/// 2.1.3.2).
///
/// # Errors
///
/// [`ProofError`] when the path does not lead from the leaf to the root.
pub fn verify_inclusion(
    leaf: &LeafHash,
    index: u64,
    size: u64,
    path: &[Digest],
    root: &Digest,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError);
    }
    let (mut index, mut last) = (index, size - 1);
    let mut hash = leaf.0;
    for sibling in path {
        if last == 0 {
            return Err(ProofError);
        }
        if index & 1 == 1 || index == last {
            hash = node(sibling, &hash);
            // On the right edge a subtree without a sibling is carried up unhashed.
            while index & 1 == 0 && index != 0 {
                index >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, sibling);
        }
        index >>= 1;
        last >>= 1;
    }
    if last == 0 && hash == *root { Ok(()) } else { Err(ProofError) }
}

/// Checks that the tree of `old` entries is a prefix of the tree of `new` entries (RFC 9162, 2.1.4.2).
///
/// # Errors
///
/// [`ProofError`] when the proof does not lead to both roots.
pub fn verify_consistency(
    old: u64,
    old_root: &Digest,
    new: u64,
    new_root: &Digest,
    proof: &[Digest],
) -> Result<(), ProofError> {
    let holds = |it: bool| if it { Ok(()) } else { Err(ProofError) };
    if old == 0 {
        // Every tree extends the empty one; at size 0 both roots must be its root.
        let new_is_possible = new > 0 || *new_root == empty_root();
        return holds(proof.is_empty() && *old_root == empty_root() && new_is_possible);
    }
    if old >= new {
        return holds(old == new && proof.is_empty() && old_root == new_root);
    }
    let mut hashes = proof.iter();
    let first = if old.is_power_of_two() { old_root } else { hashes.next().ok_or(ProofError)? };
    let (mut index, mut last) = (old - 1, new - 1);
    while index & 1 == 1 {
        index >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for hash in hashes {
        if last == 0 {
            return Err(ProofError);
        }
        if index & 1 == 1 || index == last {
            old_hash = node(hash, &old_hash);
            new_hash = node(hash, &new_hash);
            while index & 1 == 0 && index != 0 {
                index >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node(&new_hash, hash);
        }
        index >>= 1;
        last >>= 1;
    }
    holds(last == 0 && old_hash == *old_root && new_hash == *new_root)
}

/// An index or size that the tree does not reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tree does not reach that far")]
pub struct OutsideTree;

/// A proof that proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the proof does not lead to the root")]
pub struct ProofError;

/// The largest power of two below `size`, for `size` of at least 2.
const fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

pub(super) fn node(left: &Digest, right: &Digest) -> Digest {
    let mut hash = Sha256::default();
    hash.update(&[1]);
    hash.update(left.as_bytes());
    hash.update(right.as_bytes());
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(size: u64) -> Tree {
        (0..size).map(|i| LeafHash::of_entry(&i.to_be_bytes())).collect()
    }

    #[test]
    fn a_truncated_tree_is_the_tree_that_never_grew() {
        for size in 0..40 {
            let mut grown = tree(40);
            grown.truncate(size);
            assert_eq!(grown.root(), tree(size).root(), "{size}");
            grown.push(LeafHash::of_entry(&size.to_be_bytes()));
            assert_eq!(grown.root(), tree(size + 1).root(), "{size}");
        }
    }

    #[test]
    fn nothing_is_proved_beyond_the_tree() {
        let tree = tree(5);
        assert_eq!(tree.inclusion(5, 5), Err(OutsideTree));
        assert_eq!(tree.inclusion(0, 6), Err(OutsideTree));
        assert_eq!(tree.consistency(3, 6), Err(OutsideTree));
        assert_eq!(tree.consistency(4, 3), Err(OutsideTree));
        assert_eq!(tree.root_at(6), Err(OutsideTree));
        assert_eq!(tree.root_at(0), Ok(empty_root()));
        assert_eq!(tree.leaf(5), None);
    }

    #[test]
    fn the_empty_tree_has_one_root() {
        let root = tree(3).root();
        assert_eq!(verify_consistency(0, &empty_root(), 3, &root, &[]), Ok(()));
        assert_eq!(verify_consistency(0, &root, 3, &root, &[]), Err(ProofError));
        assert_eq!(verify_consistency(0, &empty_root(), 0, &root, &[]), Err(ProofError));
        assert_eq!(verify_consistency(3, &root, 3, &root, &[]), Ok(()));
        assert_eq!(verify_consistency(4, &root, 3, &root, &[]), Err(ProofError));
    }
}
