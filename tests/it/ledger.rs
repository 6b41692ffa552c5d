//! The ledger against two implementations that share no code with it, and against chance.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use sha2::Sha256;
use tlog_tiles::tlog;

use tulga::crypto::Digest;
use tulga::ledger::{
    Checkpoint, ClosedShard, LeafHash, LogOfLogs, Origin, SignedNote, TILE_WIDTH, TileAddress,
    TileKind, TileWriter, TlogProof, Tree, append_entry, split_checkpoints, verify_consistency,
    verify_inclusion,
};

/// The same entries in our tree and in both oracles.
struct Trees {
    ours: Tree,
    ct: MemoryBackedTree<Sha256, Vec<u8>>,
    tiles: StoredHashes,
}

/// The storage that `tlog_tiles` reads: its hashes in its dense order.
#[derive(Default)]
struct StoredHashes(Vec<tlog::Hash>);

impl tlog::HashReader for StoredHashes {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, tlog::Error> {
        Ok(indexes.iter().map(|&i| self.0[usize::try_from(i).unwrap()]).collect())
    }
}

fn entry(index: u64, salt: u64) -> Vec<u8> {
    [index.to_be_bytes(), salt.to_be_bytes()].concat()
}

fn trees(size: u64, salt: u64) -> Trees {
    let mut all =
        Trees { ours: Tree::new(), ct: MemoryBackedTree::new(), tiles: StoredHashes::default() };
    for index in 0..size {
        let entry = entry(index, salt);
        all.ours.push(LeafHash::of_entry(&entry));
        let stored = tlog::stored_hashes(index, &entry, &all.tiles).unwrap();
        all.tiles.0.extend(stored);
        all.ct.push(entry);
    }
    all
}

fn flat(path: &[Digest]) -> Vec<u8> {
    path.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

fn hashes(path: &[Digest]) -> Vec<tlog::Hash> {
    path.iter().map(|hash| tlog::Hash(*hash.as_bytes())).collect()
}

#[test]
fn every_root_path_and_consistency_proof_of_small_trees_is_the_oracles() {
    let all = trees(70, 9);
    for size in 1..=70 {
        let root = all.ours.root_at(size).unwrap();
        assert_eq!(root.as_bytes(), &tlog::tree_hash(size, &all.tiles).unwrap().0, "{size}");
        for index in 0..size {
            let path = all.ours.inclusion(index, size).unwrap();
            assert_eq!(hashes(&path), tlog::prove_record(size, index, &all.tiles).unwrap());
            let leaf = LeafHash::of_entry(&entry(index, 9));
            assert_eq!(verify_inclusion(&leaf, index, size, &path, &root), Ok(()));
        }
        for old in 1..=size {
            let proof = all.ours.consistency(old, size).unwrap();
            assert_eq!(hashes(&proof), tlog::prove_tree(size, old, &all.tiles).unwrap());
            let old_root = all.ours.root_at(old).unwrap();
            assert_eq!(verify_consistency(old, &old_root, size, &root, &proof), Ok(()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_tree_is_that_of_ct_merkle(size in 1u64..700, salt: u64, at: u64, from: u64) {
        let all = trees(size, salt);
        let root = all.ct.root();
        let ours = all.ours.root();
        prop_assert_eq!(root.as_bytes().as_slice(), ours.as_bytes().as_slice());
        let index = at % size;
        let path = all.ct.prove_inclusion(usize::try_from(index).unwrap());
        prop_assert_eq!(path.as_bytes(), flat(&all.ours.inclusion(index, size).unwrap()));
        let old = 1 + from % size;
        let proof = all.ct.prove_consistency(usize::try_from(size - old).unwrap());
        prop_assert_eq!(proof.as_bytes(), flat(&all.ours.consistency(old, size).unwrap()));
    }

    #[test]
    fn any_flipped_bit_of_a_proof_is_refused(
        size in 2u64..300, salt: u64, at: u64, from: u64, bit in 0usize..256, which: prop::sample::Index,
    ) {
        let tree = trees(size, salt).ours;
        let root = tree.root();
        let flip = |hash: &Digest| {
            let mut bytes = *hash.as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            Digest::new(bytes)
        };
        let index = at % size;
        let leaf = tree.leaf(index).unwrap();
        let path = tree.inclusion(index, size).unwrap();
        let mut altered = path.clone();
        let place = which.index(path.len());
        altered[place] = flip(&path[place]);
        prop_assert!(verify_inclusion(&leaf, index, size, &altered, &root).is_err());
        prop_assert!(verify_inclusion(&leaf, index, size, &path, &flip(&root)).is_err());
        let flipped = LeafHash::new(flip(leaf.digest()));
        prop_assert!(verify_inclusion(&flipped, index, size, &path, &root).is_err());
        prop_assert!(verify_inclusion(&leaf, index, size, &path[1..], &root).is_err());

        let old = 1 + from % (size - 1);
        let old_root = tree.root_at(old).unwrap();
        let proof = tree.consistency(old, size).unwrap();
        let mut altered = proof.clone();
        let place = which.index(proof.len());
        altered[place] = flip(&proof[place]);
        prop_assert!(verify_consistency(old, &old_root, size, &root, &altered).is_err());
        prop_assert!(verify_consistency(old, &flip(&old_root), size, &root, &proof).is_err());
        prop_assert!(verify_consistency(old, &old_root, size, &flip(&root), &proof).is_err());
        let longer = [proof.as_slice(), &[root]].concat();
        prop_assert!(verify_consistency(old, &old_root, size, &root, &longer).is_err());
    }

    #[test]
    fn a_proof_never_serves_another_index(size in 2u64..200, salt: u64, at: u64, other: u64) {
        let tree = trees(size, salt).ours;
        let (index, other) = (at % size, other % size);
        prop_assume!(index != other);
        let path = tree.inclusion(index, size).unwrap();
        let leaf = tree.leaf(index).unwrap();
        prop_assert!(verify_inclusion(&leaf, other, size, &path, &tree.root()).is_err());
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let text = String::from_utf8_lossy(&bytes);
        prop_assert!(SignedNote::parse(&text).is_err());
        prop_assert!(Checkpoint::from_text(&text).is_err());
        prop_assert!(TlogProof::parse(&text).is_err());
        prop_assert!(split_checkpoints(&text).len() <= text.len());
        prop_assert!(LogOfLogs::peek(&text).is_err());
        prop_assert!(TileAddress::parse(&text).is_err());
        let _taken = Origin::try_from(text.as_ref());
    }

    #[test]
    fn near_misses_do_not_make_the_parsers_panic(
        text in "(c2sp.org/tlog-proof@v1\n)?(index [0-9]{0,21}\n)?([A-Za-z0-9+/=]{0,50}\n){0,4}\n?(— [a-z.+ ]{0,9} [A-Za-z0-9+/=]{0,20}\n){0,3}",
    ) {
        // Nothing in this shape carries a signature of 64 bytes, so nothing verifies.
        let _note = SignedNote::parse(&text);
        let _checkpoint = Checkpoint::peek(&text);
        let _proof = TlogProof::parse(&text);
        let cut: usize = split_checkpoints(&text).iter().map(|note| note.len()).sum();
        prop_assert!(cut <= text.len());
    }
}

/// Every tile of the oracle for a tree of `size`, by its path, with its bytes. Its paths name the
/// height, which is always 8 here.
fn oracle_tiles(size: u64, hashes: &StoredHashes) -> Vec<(String, Vec<u8>)> {
    let tiles = tlog_tiles::Tile::new_tiles(8, 0, size).into_iter();
    let mut tiles: Vec<_> = tiles
        .map(|tile| (tile.path().replacen("tile/8/", "tile/", 1), tile.read_data(hashes).unwrap()))
        .collect();
    tiles.sort();
    tiles
}

fn our_hash_tiles(size: u64, tree: &Tree) -> Vec<(String, Vec<u8>)> {
    let tiles =
        TileAddress::all(size).filter(|tile| matches!(tile.kind(), TileKind::Hashes { .. }));
    let mut tiles: Vec<_> = tiles.map(|tile| (tile.path(), tile.hashes(tree).unwrap())).collect();
    tiles.sort();
    tiles
}

#[test]
fn every_tile_of_small_trees_is_the_oracle_s() {
    let all = trees(300, 4);
    for size in 0..=300 {
        assert_eq!(our_hash_tiles(size, &all.ours), oracle_tiles(size, &all.tiles), "{size}");
    }
}

#[test]
fn every_root_to_300_is_that_of_both_oracles() {
    let all = trees(300, 5);
    let mut ct = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    for size in 1..=300 {
        ct.push(entry(size - 1, 5));
        let root = all.ours.root_at(size).unwrap();
        assert_eq!(root.as_bytes().as_slice(), ct.root().as_bytes().as_slice(), "{size}");
        assert_eq!(root.as_bytes(), &tlog::tree_hash(size, &all.tiles).unwrap().0, "{size}");
    }
}

#[test]
fn a_million_entries_have_the_oracle_s_tiles_roots_and_proofs() {
    let all = trees(1_000_000, 6);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let sizes = prop::collection::vec((1u64..=1_000_000, any::<u64>(), any::<u64>()), 12);
    let mut cases = sizes.new_tree(&mut runner).unwrap().current();
    cases.push((1_000_000, 0, 1));
    for (size, at, from) in cases {
        assert_eq!(our_hash_tiles(size, &all.ours), oracle_tiles(size, &all.tiles), "{size}");
        let root = all.ours.root_at(size).unwrap();
        assert_eq!(root.as_bytes(), &tlog::tree_hash(size, &all.tiles).unwrap().0, "{size}");
        let (index, old) = (at % size, 1 + from % size);
        let path = hashes(&all.ours.inclusion(index, size).unwrap());
        assert_eq!(path, tlog::prove_record(size, index, &all.tiles).unwrap());
        let proof = hashes(&all.ours.consistency(old, size).unwrap());
        assert_eq!(proof, tlog::prove_tree(size, old, &all.tiles).unwrap());
    }
}

/// The tiles that come out while entries go by, of which each comes once.
fn written_tiles(size: u64, salt: u64) -> (Digest, Vec<(String, Vec<u8>)>) {
    let mut writer = TileWriter::default();
    let mut tiles = Vec::new();
    for index in 0..size {
        tiles.extend(writer.push(&entry(index, salt)).unwrap());
    }
    let root = writer.root();
    tiles.extend(writer.finish().unwrap());
    let mut tiles: Vec<_> = tiles.into_iter().map(|(tile, bytes)| (tile.path(), bytes)).collect();
    tiles.sort();
    (root, tiles)
}

#[test]
fn a_ledger_that_goes_by_leaves_the_tiles_of_its_tree() {
    let all = trees(70_000, 8);
    for size in (0..=600).chain([65_535, 65_536, 65_537, 70_000]) {
        let (root, written) = written_tiles(size, 8);
        assert_eq!(root, all.ours.root_at(size).unwrap(), "{size}");
        let hashes: Vec<_> = written
            .iter()
            .filter(|(path, _)| !path.starts_with("tile/entries/"))
            .cloned()
            .collect();
        assert_eq!(hashes, our_hash_tiles(size, &all.ours), "{size}");
        let mut paths: Vec<_> = TileAddress::all(size).map(|tile| tile.path()).collect();
        paths.sort();
        assert!(written.iter().map(|(path, _)| path).eq(paths.iter()), "{size}");
        for (path, bytes) in written.iter().filter(|(path, _)| path.starts_with("tile/entries/")) {
            let tile = TileAddress::parse(path).unwrap();
            assert_eq!(tile.check_entries(bytes, &all.ours), Ok(()), "{size} {path}");
        }
    }
}

#[test]
fn the_bytes_of_a_bundle_hash_to_the_tile_beside_it() {
    let all = trees(600, 7);
    for tile in TileAddress::all(600).filter(|tile| tile.kind() == TileKind::Entries) {
        let mut bytes = Vec::new();
        for index in (tile.first()..).take(usize::from(tile.width())) {
            append_entry(&mut bytes, &entry(index, 7)).unwrap();
        }
        assert_eq!(tile.check_entries(&bytes, &all.ours), Ok(()));
        let leaves = TileKind::Hashes { level: 0 };
        let beside = TileAddress::new(leaves, tile.index(), tile.width()).unwrap();
        let leaf_bytes = beside.hashes(&all.ours).unwrap();
        let hashes = beside.read_hashes(&leaf_bytes).unwrap();
        let entries = tile.read_entries(&bytes).unwrap();
        let of_entries: Vec<_> =
            entries.into_iter().map(|entry| *LeafHash::of_entry(entry).digest()).collect();
        assert_eq!(hashes, of_entries);
        assert!(tile.width() == TILE_WIDTH || tile.index() == 2);
    }
}

#[test]
fn the_log_of_logs_has_the_oracle_s_root() {
    let mut ct = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    let mut shards = Vec::new();
    for half in 1..=9u64 {
        let origin = format!("a.example/gw/{}h{}", 2026 + half / 2, 1 + half % 2);
        let origin = Origin::try_from(origin.as_str()).unwrap();
        shards.push(ClosedShard { origin, size: half, root: trees(half, half).ours.root() });
        ct.push(shards.last().unwrap().entry());
        let log = LogOfLogs::new("a.example/gw", shards.clone()).unwrap();
        assert_eq!(log.root().as_bytes().as_slice(), ct.root().as_bytes().as_slice());
        assert_eq!(LogOfLogs::from_text(&log.text()), Ok(log));
    }
}

proptest! {
    #[test]
    fn a_tile_s_path_leads_back_to_it(
        level in 0u8..=8, index: u64, shift in 0u32..64, width in 0u16..=257, entries: bool,
    ) {
        let kind = if entries { TileKind::Entries } else { TileKind::Hashes { level } };
        if let Ok(tile) = TileAddress::new(kind, index >> shift, width) {
            prop_assert_eq!(TileAddress::parse(&tile.path()), Ok(tile));
        }
    }
}

#[test]
fn a_checkpoint_s_text_is_that_of_tlog_tiles() {
    let tree = trees(13, 0).ours;
    let origin = Origin::try_from("cash.bank.example/gw07/2026h2").unwrap();
    let ours = Checkpoint { origin, size: 13, root: tree.root() };
    let theirs = tlog_tiles::Checkpoint::from_bytes(ours.text().as_bytes()).unwrap();
    assert_eq!(theirs.origin(), "cash.bank.example/gw07/2026h2");
    assert_eq!(theirs.size(), 13);
    assert_eq!(&theirs.hash().0, ours.root.as_bytes());
    assert_eq!(theirs.to_bytes(), ours.text().into_bytes());
}

#[test]
fn every_path_and_every_consistency_proof_to_300_is_that_of_both_oracles() {
    let all = trees(300, 8);
    let mut ct = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    for size in 1..=300 {
        ct.push(entry(size - 1, 8));
        for index in 0..size {
            let ours = all.ours.inclusion(index, size).unwrap();
            let theirs = ct.prove_inclusion(usize::try_from(index).unwrap());
            assert_eq!(theirs.as_bytes(), flat(&ours), "entry {index} of {size}");
            let tiles = tlog::prove_record(size, index, &all.tiles).unwrap();
            assert_eq!(hashes(&ours), tiles, "entry {index} of {size}");
        }
        for old in 1..=size {
            let ours = all.ours.consistency(old, size).unwrap();
            let theirs = ct.prove_consistency(usize::try_from(size - old).unwrap());
            assert_eq!(theirs.as_bytes(), flat(&ours), "{old} to {size}");
            let tiles = tlog::prove_tree(size, old, &all.tiles).unwrap();
            assert_eq!(hashes(&ours), tiles, "{old} to {size}");
        }
    }
}

/// The eight entries that implementations of Certificate Transparency (RFC 6962) are tested with, and
/// the roots that all of them publish.
#[test]
fn the_published_roots_of_certificate_transparency_are_ours() {
    let entries: [&[u8]; 8] =
        [b"", b"\x00", b"\x10", b" !", b"01", b"@ABC", b"PQRSTUVW", b"`abcdefghijklmno"];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut tree = Tree::new();
    for (entry, root) in entries.into_iter().zip(roots) {
        tree.push(LeafHash::of_entry(entry));
        assert_eq!(tree.root().hex(), root, "{} entries", tree.size());
    }
}

/// The example of c2sp.org/tlog-checkpoint, and of c2sp.org/tlog-proof as far as that one is printed whole.
#[test]
fn the_examples_of_the_specifications_are_read() {
    let text =
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    let line = "\u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";
    let note = format!("{text}\n{line}");
    let checkpoint = Checkpoint::peek(&note).unwrap();
    assert_eq!(
        (checkpoint.origin.as_str(), checkpoint.size),
        ("example.com/behind-the-sofa", 20_852_163)
    );
    assert_eq!(checkpoint.text(), text);
    let proof = format!(
        "c2sp.org/tlog-proof@v1\nindex 73894\n\
         B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=\n\
         EKNzoDWG8LGC0Yp9o+sv3qllpMP9uHQ9B20KNL+Q1zs=\n\
         RoopEkOdqkYqMB4MJXrbt/hMjOxsVn0IrWjpz1ZMMes=\n\n{note}"
    );
    let read = TlogProof::parse(&proof).unwrap();
    assert_eq!(
        (read.index(), read.checkpoint(), read.to_text()),
        (73_894, note.as_str(), proof.clone())
    );
}
