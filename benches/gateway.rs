//! What each step of a verification costs, and the whole of it: `cargo bench`.
//!
//! Times are of this machine; the README says of which machine its figures are.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::needless_pass_by_value,
    reason = "a bench that fails may panic"
)]

#[path = "../tests/it/site.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod site;
#[path = "support/verifications.rs"]
mod verifications;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use tulga::capture::{DecodeLimits, DecodedImage, EncodedImage, decode};
use tulga::clock::{Clock as _, SystemClock};
use tulga::crypto::{Digest, Ed25519Key, sha256};
use tulga::domain::embedding::{Embedding, FaceEmbedding, Making};
use tulga::domain::id::ReceiptId;
use tulga::domain::money::{AmountMinor, Currency};
use tulga::domain::transaction::{HolderVerification, Operation};
use tulga::face::{Acquisition, FacePipeline};
use tulga::ledger::{LeafHash, Tree, leaf_hash};
use tulga::matching::{Gallery, Matcher, Template};
use tulga::policy::{CustomerStanding, Facts, PolicyPack, decide};
use tulga::receipt::{Content, LogBlock, Outcome, ReceiptDraft, Refers, ReportingTerminal, issue};
use tulga::store::sql::SqliteStore;
use tulga::store::{EntryRow, HeadRow, Store as _};

use site::Site;
use verifications::{CARD, photograph, root, verify_in_process, verify_many};

const ORIGIN: &str = "cash.bank.example/gw07/2026h2";

fn decoded(name: &str) -> DecodedImage {
    decode(&EncodedImage::new(photograph(name)), &DecodeLimits::default()).unwrap()
}

fn embedded(pipeline: &FacePipeline, name: &str) -> FaceEmbedding {
    match pipeline.probe(&decoded(name)).unwrap() {
        Acquisition::Usable(probe) => probe.embedding,
        Acquisition::Refused(refusal) => panic!("{refusal:?}"),
    }
}

/// From the bytes of a picture to an embedding.
fn face_path(c: &mut Criterion) {
    let pipeline = FacePipeline::load(&root().join("models")).unwrap();
    let mut group = c.benchmark_group("face");
    group.sample_size(20).measurement_time(Duration::from_secs(5));
    let bytes = photograph("obama2.jpg");
    group.bench_function("decode", |b| {
        b.iter(|| decode(&EncodedImage::new(bytes.clone()), &DecodeLimits::default()).unwrap());
    });
    let picture = decoded("obama2.jpg");
    group.bench_function("detect", |b| b.iter(|| pipeline.detect(&picture).unwrap()));
    group.bench_function("locate (detect, refine)", |b| {
        b.iter(|| pipeline.locate(&picture).unwrap().unwrap());
    });
    let face = pipeline.locate(&picture).unwrap().unwrap();
    group.bench_function("align", |b| b.iter(|| pipeline.align(&picture, &face).unwrap()));
    group.bench_function("assess (align, SFace, quality)", |b| {
        b.iter(|| pipeline.assess(&picture, face).unwrap().unwrap().report().refusal());
    });
    let usable = pipeline.assess(&picture, face).unwrap().unwrap().require().ok().unwrap();
    group.bench_function("embed (align, dlib)", |b| {
        b.iter(|| pipeline.embed(&usable, Making::Single).unwrap());
    });
    group
        .bench_function("probe (all but decode)", |b| b.iter(|| pipeline.probe(&picture).unwrap()));
    group.finish();
}

/// One comparison, and the search for duplicates among many.
fn matching(c: &mut Criterion) {
    let pipeline = FacePipeline::load(&root().join("models")).unwrap();
    let matcher = Matcher::new(pipeline.manifest().matching.clone());
    let (probe, enrolled) = (embedded(&pipeline, "obama2.jpg"), embedded(&pipeline, "obama.jpg"));
    let template = Template::from_captures(std::slice::from_ref(&enrolled)).unwrap();
    let mut group = c.benchmark_group("matching");
    let fusion = &matcher.parameters().fusion;
    let sface = probe.sface.similarity(&enrolled.sface).unwrap();
    let dlib = probe.dlib.similarity(&enrolled.dlib).unwrap();
    group.bench_function("fuse", |b| b.iter(|| fusion.fuse(black_box(sface), black_box(dlib))));
    group.bench_function("compare (both models, fuse, strength)", |b| {
        b.iter(|| matcher.verify(black_box(&probe), black_box(&template)).unwrap());
    });
    group.sample_size(20);
    for people in [10_000u64, 100_000] {
        let mut gallery = Gallery::new(matcher.clone());
        for person in 0..people {
            gallery.insert(person, &somebody(&enrolled, person)).unwrap();
        }
        group.bench_function(format!("search among {people}"), |b| {
            b.iter(|| gallery.search(&template, 5).unwrap());
        });
    }
    group.finish();
}

/// A template of nobody: directions drawn from a hash of the number.
fn somebody(like: &FaceEmbedding, number: u64) -> Template {
    let draw = |embedding: &Embedding, label: &str| {
        let mut bytes = Vec::new();
        for block in 0..embedding.values().len().div_ceil(32) {
            let digest = sha256(format!("{label} {number} {block}").as_bytes());
            bytes.extend_from_slice(digest.as_bytes());
        }
        let values: Vec<f32> =
            bytes.iter().take(embedding.values().len()).map(|b| f32::from(*b) - 127.5).collect();
        Embedding::from_raw(embedding.model(), &values).unwrap()
    };
    let face = FaceEmbedding {
        sface: draw(&like.sface, "sface"),
        dlib: draw(&like.dlib, "dlib"),
        making: like.making,
    };
    Template::from_captures(&[face]).unwrap()
}

/// The decision, the signature and the durable append.
fn deciding(c: &mut Criterion) {
    let mut group = c.benchmark_group("deciding");
    let facts = genuine();
    let now = SystemClock.now();
    for name in ["dev", "kz-2026"] {
        let pack = PolicyPack::load(&root().join("policies").join(name)).unwrap();
        group.bench_function(format!("policy::decide by {name}"), |b| {
            b.iter(|| decide(black_box(&facts), &pack, now));
        });
    }
    let key = Ed25519Key::from_seed([7; 32]).unwrap();
    let body = draft(7).complete(now, LogBlock::new(ORIGIN, 7, 7, &Tree::new().root()));
    group.bench_function("sign", |b| b.iter(|| issue(black_box(&body), "gw07", &key).unwrap()));

    let runtime = Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bench.sqlite");
    let store = runtime.block_on(SqliteStore::open(&path)).unwrap();
    let mut ledger =
        Ledger { head: runtime.block_on(store.head(ORIGIN)).unwrap(), tree: Tree::new() };
    let jws = issue(&body, "gw07", &key).unwrap().into_string();
    group.sample_size(30);
    group.bench_function("append (entry, head, sync)", |b| {
        b.iter(|| runtime.block_on(ledger.append(&store, &jws)));
    });
    group.finish();
}

/// The head as the sequencer moves it.
struct Ledger {
    head: HeadRow,
    tree: Tree,
}

impl Ledger {
    async fn append(&mut self, store: &SqliteStore, jws: &str) {
        let index = self.tree.size();
        let leaf: LeafHash = leaf_hash(jws);
        self.tree.push(leaf);
        let head = HeadRow { size: index + 1, root: self.tree.root(), epoch: self.head.epoch };
        let mut id = [0; 16];
        id[8..].copy_from_slice(&index.to_be_bytes());
        let row = EntryRow {
            index,
            receipt: ReceiptId::new(id),
            kind: "outcome".into(),
            terminal: None,
            time: SystemClock.now(),
            jws: jws.to_owned(),
            leaf: *leaf.digest(),
            sealed_audit: None,
        };
        let mut unit = store.begin().await.unwrap();
        unit.insert_entry(ORIGIN, &row).await.unwrap();
        unit.swap_head(ORIGIN, &self.head, &head).await.unwrap();
        unit.commit().await.unwrap();
        self.head = head;
    }
}

fn genuine() -> Facts {
    let kzt = Currency::try_from("KZT").unwrap();
    let amount = AmountMinor::try_from(5_000_000).unwrap();
    Facts {
        customer: CustomerStanding::Active,
        strength_db: Some(52),
        holder_verification: HolderVerification::CardAndPin,
        ..Facts::of(Operation::CashWithdrawal, amount, kzt)
    }
}

fn draft(number: u64) -> ReceiptDraft {
    let digest = Digest::new([7; 32]).labelled();
    ReceiptDraft {
        rid: format!("AAAAAAAAAAAAAAAAAAAA{number:02}"),
        iss: "cash.bank.example/gw07".into(),
        aud: None,
        valid_for_ms: None,
        tenant: "bank-a".into(),
        content: Content::Outcome(Outcome {
            refers: Refers { rid: "AAAAAAAAAAAAAAAAAAAAAA".into(), index: number, origin: None },
            outcome: "taken".into(),
            dispensed_minor: 5_000_000,
            currency: "KZT".into(),
            terminal: ReportingTerminal { id: "ATM-1".into(), cert: digest },
            footage: None,
        }),
    }
}

/// `BeginCapture` and `Verify`, decided and durable: within the process, and over mutual TLS.
fn whole(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let (site, channels) = runtime.block_on(async {
        let site = Site::start().await;
        site.enroll("000000300017", CARD, &["obama.jpg", "obama3.jpg"]).await;
        let mut channels = Vec::new();
        for number in 0..16 {
            channels.push(site.terminal(&format!("ATM-{number}")).await);
        }
        (site, channels)
    });
    let picture = photograph("obama2.jpg");
    let next = Arc::new(AtomicU64::new(0));
    let mut group = c.benchmark_group("verify");
    group.sample_size(10).measurement_time(Duration::from_secs(15));
    for clients in [1, 16] {
        let channels = &channels[..clients];
        group.bench_function(format!("over mutual TLS, {clients} at once"), |b| {
            b.iter_custom(|rounds| {
                runtime.block_on(verify_many(channels, rounds, &picture, &next))
            });
        });
    }
    let gateway = site.gateway.upgrade().unwrap();
    group.bench_function("in process", |b| {
        b.iter(|| {
            let id = format!("P{}", next.fetch_add(1, Ordering::SeqCst));
            runtime.block_on(verify_in_process(&gateway, &id, &picture));
        });
    });
    group.finish();
    drop((channels, gateway));
    runtime.block_on(site.finish());
}

criterion_group!(benches, face_path, matching, deciding, whole);
criterion_main!(benches);
