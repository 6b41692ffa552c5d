//! Durable receipts a second through the real sequencer and `SQLite`, proofs a second, and what the
//! sync costs: `ledger.py` runs this beside PostgreSQL.
//!
//! `ledger receipts CALLERS SECONDS FULL|OFF DIR` registers terminals: one receipt each, no model and
//! no picture. `ledger proofs ENTRIES SECONDS DIR` proves entries of a ledger. Each prints one line.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench that fails may panic, and prints its figures"
)]

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tulga::capture::DecodeLimits;
use tulga::clock::SystemClock;
use tulga::crypto::{Digest, Ed25519Key, PublicKey, Signer, SystemEntropy, sha256};
use tulga::domain::id::{PrincipalName, TenantId, TerminalId};
use tulga::domain::time::UnixMillis;
use tulga::domain::turnover::BankZone;
use tulga::face::FacePipeline;
use tulga::gateway::request::Actor;
use tulga::gateway::{
    CertificateAuthority, FileGuard, Gateway, GuardError, HeadGuard, IssueError, KeyEvent,
    KeyRegisterFiles, KeyStore, KeyStoreError, Keyring, Parts, Settings, SignedHead, Tasks,
    TerminalCertificate, VisionLimits,
};
use tulga::ledger::LedgerNames;
use tulga::policy::PolicyPack;
use tulga::receipt::{KeyAlgorithm, KeyRange, KeyRecord, KeyRegister, KeyStatus, KeyUse};
use tulga::store::FileShelves;
use tulga::store::sql::SqliteStore;
use tulga::vault::Vault;

const ORIGIN: &str = "cash.bank.example/bench/2026h2";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match words.as_slice() {
        ["receipts", callers, seconds, sync, dir] => runtime.block_on(receipts(
            callers.parse().unwrap(),
            Duration::from_secs(seconds.parse().unwrap()),
            *sync != "OFF",
            Path::new(dir),
        )),
        ["proofs", entries, seconds, dir] => runtime.block_on(proofs(
            entries.parse().unwrap(),
            Duration::from_secs(seconds.parse().unwrap()),
            Path::new(dir),
        )),
        // `cargo bench` runs every bench without arguments: this one is run by its script.
        _ => println!("run benches/side_by_side/ledger.py"),
    }
}

/// `rate p50_us p99_us count`
async fn receipts(callers: usize, time: Duration, sync: bool, dir: &Path) {
    let (gateway, tasks) = open(dir, sync).await;
    register_all(&gateway, callers, Duration::from_millis(500), 0).await;
    let begun = Instant::now();
    let mut taken = register_all(&gateway, callers, time, 1).await;
    let rate = taken.len() as f64 / begun.elapsed().as_secs_f64();
    taken.sort_unstable();
    let at = |percent: usize| taken[(taken.len() - 1) * percent / 100].as_secs_f64() * 1e6;
    println!("{rate:.1} {:.1} {:.1} {}", at(50), at(99), taken.len());
    drop(gateway);
    tasks.finish().await;
}

/// `rate p50_us count entries`
async fn proofs(entries: u64, time: Duration, dir: &Path) {
    let (gateway, tasks) = open(dir, false).await;
    let mut phase = 0;
    while size(&gateway).await < entries {
        register_all(&gateway, 256, Duration::from_millis(500), phase).await;
        phase += 1;
    }
    let size = size(&gateway).await;
    let (begun, mut taken) = (Instant::now(), Vec::new());
    let mut place = 0;
    while begun.elapsed() < time {
        let one = Instant::now();
        place = (place + 7919) % size;
        assert!(gateway.proof(place).await.unwrap().starts_with("c2sp.org/tlog-proof@v1\n"));
        taken.push(one.elapsed());
    }
    let rate = taken.len() as f64 / begun.elapsed().as_secs_f64();
    taken.sort_unstable();
    println!("{rate:.1} {:.1} {} {size}", taken[taken.len() / 2].as_secs_f64() * 1e6, taken.len());
    drop(gateway);
    tasks.finish().await;
}

async fn size(gateway: &Gateway) -> u64 {
    let checkpoint = gateway.checkpoint(None).await.unwrap();
    checkpoint.lines().nth(1).unwrap().parse().unwrap()
}

/// Each caller asks for the next receipt once it has the last; how long each took.
async fn register_all(
    gateway: &Arc<Gateway>,
    callers: usize,
    time: Duration,
    phase: u32,
) -> Vec<Duration> {
    let over = Arc::new(AtomicBool::new(false));
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for _ in 0..callers {
        let (gateway, over, next) = (Arc::clone(gateway), Arc::clone(&over), Arc::clone(&next));
        tasks.push(tokio::spawn(async move {
            let actor = Actor {
                role: "admin",
                name: PrincipalName::try_from("bench").unwrap(),
                spki: Digest::new([5; 32]),
            };
            let mut taken = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let terminal = TerminalId::try_from(format!("ATM-{phase}-{number}").as_str());
                let one = Instant::now();
                gateway.register_terminal(&actor, &terminal.unwrap(), "").await.unwrap();
                taken.push(one.elapsed());
            }
            taken
        }));
    }
    tokio::time::sleep(time).await;
    over.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    all
}

async fn open(dir: &Path, sync: bool) -> (Arc<Gateway>, Tasks) {
    let root_dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let key = |n: u8| Ed25519Key::from_seed([n; 32]).unwrap();
    let (root, ledger, receipt) = (key(1), key(2), key(3));
    let register = register(&root, &ledger, &receipt);
    let files = KeyRegisterFiles {
        signature: KeyRegister::sign(register.as_bytes(), &root).unwrap().into_bytes(),
        register: register.into_bytes(),
        root: root.public_key(),
    };
    let keys = Arc::new(GivenKeys(vec![Arc::new(receipt), Arc::new(ledger)]));
    let path = dir.join("bench.sqlite");
    let store = if sync {
        SqliteStore::open(&path).await.unwrap()
    } else {
        SqliteStore::open_unsynced(&path).await.unwrap()
    };
    let guard: Arc<dyn HeadGuard> = if sync {
        Arc::new(FileGuard::open(&dir.join("last-signed-head")).unwrap())
    } else {
        Arc::new(NoGuard::default())
    };
    Gateway::open(Parts {
        store: Arc::new(store),
        shelves: Arc::new(FileShelves::at(dir.join("shelves"))),
        vault: Arc::new(Vault::new([3; 32])),
        faces: Arc::new(FacePipeline::load(&root_dir.join("models")).unwrap()),
        fingers: None,
        pack: Arc::new(PolicyPack::embedded_dev().unwrap()),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        erased: Arc::new(Mutex::new(BTreeSet::<Digest>::new())),
        guard,
        references: None,
        authority: Arc::new(AnyCertificate),
        witnesses: None,
        timestamping: None,
        keyring: Keyring::open(files, keys, &[]).unwrap(),
        settings: settings(),
    })
    .await
    .unwrap()
}

fn register(root: &Ed25519Key, ledger: &Ed25519Key, receipt: &Ed25519Key) -> String {
    let record = |kid: &str, usage, key: &Ed25519Key| KeyRecord {
        kid: kid.to_owned(),
        algorithm: KeyAlgorithm::EdDsa,
        usage,
        public_key: key.public_key(),
        not_before: UnixMillis::new(0),
        not_after: None,
        origins: vec![KeyRange { origin: ORIGIN.to_owned(), first_index: 0, last_index: None }],
        status: KeyStatus::Active,
    };
    let keys = vec![
        record("bench-root", KeyUse::Root, root),
        record("bench-ledger", KeyUse::Ledger, ledger),
        record("bench-receipt", KeyUse::Receipt, receipt),
    ];
    KeyRegister::new(keys).unwrap().to_json().unwrap()
}

fn settings() -> Settings {
    Settings {
        tenant: TenantId::try_from("bank-a").unwrap(),
        ledgers: LedgerNames::Fixed(ORIGIN.into()),
        issuer: "cash.bank.example/bench".into(),
        audience: "cash.bank.example/host".into(),
        zone: BankZone::try_from("Asia/Almaty").unwrap(),
        guests_per_day: 20,
        capture_seen_ms: 0,
        build: Digest::new([8; 32]),
        two_people: false,
        four_eyes: tulga::domain::four_eyes::FourEyes {
            acts: std::collections::BTreeSet::new(),
            delay_ms: std::collections::BTreeMap::new(),
            expires_ms: 1,
        },
        challenge_ttl_ms: 60_000,
        receipt_valid_ms: 90_000,
        deadline: Duration::from_mins(1),
        checkpoint_interval: Duration::from_secs(1),
        retention_interval: Duration::from_hours(1),
        calls_per_terminal_per_minute: NonZeroU32::MAX,
        vision: VisionLimits {
            workers: 1,
            queue_wait: Duration::from_secs(1),
            waiting_max: 1,
            decode: DecodeLimits::default(),
        },
    }
}

/// Keys that were given, and a register that nobody changes.
#[derive(Debug)]
struct GivenKeys(Vec<Arc<dyn Signer>>);

impl KeyStore for GivenKeys {
    fn signer(&self, key: &KeyRecord) -> Result<Option<Arc<dyn Signer>>, KeyStoreError> {
        Ok(self.0.iter().find(|signer| signer.public_key() == key.public_key).cloned())
    }

    fn create(&self, _: &str, _: KeyUse) -> Result<PublicKey, KeyStoreError> {
        panic!("no key is made here")
    }

    fn home(&self, _: KeyUse) -> &'static str {
        "file"
    }

    fn install(&self, _: &KeyRegisterFiles, _: &[KeyEvent]) -> Result<(), KeyStoreError> {
        panic!("no register is installed here")
    }

    fn due(&self) -> Result<Vec<KeyEvent>, KeyStoreError> {
        Ok(Vec::new())
    }

    fn settle(&self) -> Result<(), KeyStoreError> {
        Ok(())
    }
}

/// Gives every request a certificate without looking at it.
#[derive(Debug)]
struct AnyCertificate;

impl CertificateAuthority for AnyCertificate {
    fn issue(
        &self,
        _csr_pem: &str,
        terminal: &TerminalId,
        _now: UnixMillis,
    ) -> Result<TerminalCertificate, IssueError> {
        let spki = sha256(terminal.as_str().as_bytes());
        Ok(TerminalCertificate { certificate_pem: String::new(), chain_pem: Vec::new(), spki })
    }
}

/// A record that is not on the disk: for the figures without syncs.
#[derive(Debug, Default)]
struct NoGuard(Mutex<Option<SignedHead>>);

impl HeadGuard for NoGuard {
    fn last(&self) -> Result<Option<SignedHead>, GuardError> {
        Ok(*self.0.lock().unwrap())
    }

    fn record(&self, head: &SignedHead) -> Result<(), GuardError> {
        *self.0.lock().unwrap() = Some(*head);
        Ok(())
    }
}
