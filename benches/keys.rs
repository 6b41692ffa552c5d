//! What a signature costs in each back end, and its verification.
//!
//! `cargo bench --bench keys`; a PKCS#11 token is measured where `TULGA_BENCH_TOKEN` names one, as
//! `MODULE:LABEL:PIN` (with softhsm2, `SOFTHSM2_CONF` names its configuration). It makes two keys in it.

#![allow(clippy::unwrap_used, reason = "a bench that fails may panic")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use tulga::crypto::{Ed25519Key, KeyKind, P256Key, Signer, SystemEntropy, Token};
use zeroize::Zeroizing;

/// As long as what is signed of a receipt.
const MESSAGE: [u8; 1_600] = [b'a'; 1_600];

fn keys(c: &mut Criterion) {
    let mut group = c.benchmark_group("keys");
    let files: [(&str, Arc<dyn Signer>); 2] = [
        ("Ed25519, file", Arc::new(Ed25519Key::generate(&SystemEntropy).unwrap())),
        ("P-256, file", Arc::new(P256Key::generate().unwrap())),
    ];
    for (name, key) in files.into_iter().chain(token()) {
        group.bench_function(format!("sign {name}"), |b| {
            b.iter(|| key.sign(black_box(&MESSAGE)).unwrap());
        });
        let (public, signature) = (key.public_key(), key.sign(&MESSAGE).unwrap());
        group.bench_function(format!("verify {name}"), |b| {
            b.iter(|| public.verify(black_box(&MESSAGE), &signature).unwrap());
        });
    }
    group.finish();
}

fn token() -> Vec<(&'static str, Arc<dyn Signer>)> {
    let Ok(named) = std::env::var("TULGA_BENCH_TOKEN") else { return Vec::new() };
    let mut parts = named.splitn(3, ':');
    let mut part = || parts.next().unwrap();
    let (module, label) = (part(), part());
    let pin = Zeroizing::new(part().to_owned());
    let token = Token::open(Path::new(module), label, pin).unwrap();
    let key = |kind| -> Arc<dyn Signer> {
        Arc::new(token.generate("bench", kind, &SystemEntropy).unwrap())
    };
    vec![("Ed25519, token", key(KeyKind::Ed25519)), ("P-256, token", key(KeyKind::P256))]
}

criterion_group!(benches, keys);
criterion_main!(benches);
