//! What an auditor and a host spend on receipts: verified receipts and proofs a second, and a whole
//! export. `cargo bench --bench ledger`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench that fails may panic"
)]

#[path = "../tests/it/receipts.rs"]
#[allow(dead_code, unused_imports, reason = "the tests need more of it")]
mod receipts;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rayon::prelude::*;
use tulga::ledger::{LeafHash, TlogProof, Tree, leaf_hash, verify_consistency, verify_inclusion};
use tulga::receipt::{LogBlock, issue, parse, verify};

use receipts::{Keys, ORIGIN, TIME, draft, verification};

const RECEIPTS: u64 = 4096;

fn issued(keys: &Keys) -> Vec<String> {
    let root = Tree::new().root();
    let receipt = |index| {
        let log = LogBlock::new(ORIGIN, index, 0, &root);
        let body = draft(index, verification()).complete(TIME, log);
        issue(&body, "gw07-2026b", &keys.receipt).unwrap().into_string()
    };
    (0..RECEIPTS).map(receipt).collect()
}

/// Receipts of decisions with everything in them, about 1.9 kB each.
fn receipts(c: &mut Criterion) {
    let keys = Keys::new(10);
    let (register, all) = (keys.register(0, None), issued(&keys));
    let mut group = c.benchmark_group("receipt");
    group.throughput(Throughput::Elements(1));
    group.bench_function("parse", |b| b.iter(|| parse(black_box(&all[7])).unwrap()));
    group.bench_function("verify", |b| b.iter(|| verify(black_box(&all[7]), &register).unwrap()));
    group.bench_function("leaf", |b| b.iter(|| leaf_hash(black_box(&all[7]))));
    group.throughput(Throughput::Elements(RECEIPTS));
    group.bench_function("verify on all cores", |b| {
        b.iter(|| all.par_iter().filter(|jws| verify(jws, &register).is_ok()).count());
    });
    group.finish();
}

/// Proofs over a million entries.
fn proofs(c: &mut Criterion) {
    let tree: Tree = (0..1_000_000u64).map(|i| LeafHash::of_entry(&i.to_be_bytes())).collect();
    let (root, old_root) = (tree.root(), tree.root_at(765_432).unwrap());
    let path = tree.inclusion(543_210, 1_000_000).unwrap();
    let leaf = tree.leaf(543_210).unwrap();
    let consistency = tree.consistency(765_432, 1_000_000).unwrap();
    let mut group = c.benchmark_group("proof");
    group.throughput(Throughput::Elements(1));
    group.bench_function("make inclusion", |b| {
        b.iter(|| TlogProof::make(&tree, black_box(543_210), 1_000_000, String::new()).unwrap());
    });
    group.bench_function("verify inclusion", |b| {
        b.iter(|| verify_inclusion(&leaf, black_box(543_210), 1_000_000, &path, &root).unwrap());
    });
    group.bench_function("make consistency", |b| {
        b.iter(|| tree.consistency(black_box(765_432), 1_000_000).unwrap());
    });
    group.bench_function("verify consistency", |b| {
        b.iter(|| {
            let sizes = (black_box(765_432), 1_000_000);
            verify_consistency(sizes.0, &old_root, sizes.1, &root, &consistency).unwrap();
        });
    });
    group.finish();
}

criterion_group!(benches, receipts, proofs);
criterion_main!(benches);
