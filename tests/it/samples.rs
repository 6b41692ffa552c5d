//! A bank with two ledgers, three witnesses and keys of both kinds: what verifiers that share no code with
//! ours are shown, whole and tampered with.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use tulga::crypto::{Ed25519Key, P256Key, Signer, sha256};
use tulga::domain::id::ReceiptId;
use tulga::domain::time::UnixMillis;
use tulga::ledger::{
    Checkpoint, ClosedShard, LogOfLogs, Origin, TileAddress, TileKind, TlogProof, Tree, WitnessKey,
    append_entry, cosign, entry,
};
use tulga::receipt::{
    Administration, Content, ErasedBody, KeyAlgorithm, KeyRange, KeyRecord, KeyRegister, KeyStatus,
    KeyUse, LogBlock, ReceiptBody, Salt, TrustFingerprint, audit_commit, erasures_json, issue,
    rid_text,
};

use crate::receipts::{
    TIME, actor, administration, draft, erasure_of_bodies, outcome, verification,
};

pub const ISSUER: &str = "cash.bank.example/gw07";
pub const CLOSED: &str = "cash.bank.example/gw07/2026h1";
pub const OPEN: &str = "cash.bank.example/gw07/2026h2";
pub const AUDIT_RECORD: &[u8] = br#"{"strength_db":52}"#;

/// Who signs.
pub struct Bank {
    pub root: Ed25519Key,
    pub ledger: Ed25519Key,
    pub receipt: Ed25519Key,
    pub p256: P256Key,
    pub witnesses: Vec<(Origin, Ed25519Key)>,
}

impl Bank {
    pub fn new() -> Self {
        let key = |n: u8| Ed25519Key::from_seed([n; 32]).unwrap();
        let witness = |n: u8| (Origin::try_from(format!("w{n}.example").as_str()).unwrap(), key(n));
        Self {
            root: key(71),
            ledger: key(72),
            receipt: key(73),
            p256: P256Key::generate().unwrap(),
            witnesses: vec![witness(1), witness(2), witness(3)],
        }
    }

    pub fn trust(&self) -> TrustFingerprint {
        TrustFingerprint::of(&self.root.public_key())
    }

    /// `gw07-2026a` signed both ledgers up to index 3 of the open one, `gw07-es256` signs from there on.
    pub fn records(&self) -> Vec<KeyRecord> {
        let range = |origin: &str, first_index, last_index| KeyRange {
            origin: origin.to_owned(),
            first_index,
            last_index,
        };
        let log = format!("{ISSUER}/log-of-logs");
        let everywhere = || [CLOSED, OPEN, &log].map(|origin| range(origin, 0, None)).to_vec();
        let record = |kid: &str, usage, signer: &dyn Signer, origins| KeyRecord {
            kid: kid.to_owned(),
            algorithm: KeyAlgorithm::of(signer.public_key().kind()),
            usage,
            public_key: signer.public_key(),
            not_before: TIME.plus_millis(-3_600_000),
            not_after: None,
            origins,
            status: KeyStatus::Active,
        };
        let first = vec![range(CLOSED, 0, None), range(OPEN, 0, Some(3))];
        vec![
            record("root-2026", KeyUse::Root, &self.root, everywhere()),
            record("gw07-ledger", KeyUse::Ledger, &self.ledger, everywhere()),
            record("gw07-2026a", KeyUse::Receipt, &self.receipt, first),
            record("gw07-es256", KeyUse::Receipt, &self.p256, vec![range(OPEN, 4, None)]),
        ]
    }

    /// Two of three witnesses.
    pub fn policy(&self) -> String {
        let mut text = String::from("# published by the bank\n");
        for (number, (name, key)) in self.witnesses.iter().enumerate() {
            let key = WitnessKey::new(name.clone(), key.public_key());
            writeln!(text, "witness w{number} {key}").unwrap();
        }
        text + "group all-of-them 2 w0 w1 w2\nquorum all-of-them\n"
    }

    fn signer_at(&self, origin: &str, index: u64) -> (&'static str, &dyn Signer) {
        if origin == OPEN && index >= 4 {
            ("gw07-es256", &self.p256)
        } else {
            ("gw07-2026a", &self.receipt)
        }
    }
}

/// Writes a register and its signature.
pub fn write_register(dir: &Path, records: Vec<KeyRecord>, root: &Ed25519Key) {
    let json = KeyRegister::new(records).unwrap().to_json().unwrap();
    fs::write(dir.join("keys.json.sig"), KeyRegister::sign(json.as_bytes(), root).unwrap())
        .unwrap();
    fs::write(dir.join("keys.json"), json).unwrap();
}

/// One ledger, a checkpoint after every second entry.
pub struct Shard<'a> {
    pub bank: &'a Bank,
    pub origin: &'static str,
    pub lines: Vec<String>,
    pub tree: Tree,
    pub notes: Vec<String>,
    pub erased: Vec<ErasedBody>,
    time: UnixMillis,
    prior: (u64, tulga::crypto::Digest),
}

impl<'a> Shard<'a> {
    pub fn new(bank: &'a Bank, origin: &'static str, time: UnixMillis) -> Self {
        let tree = Tree::new();
        let prior = (0, tree.root());
        Self { bank, origin, lines: vec![], tree, notes: vec![], erased: vec![], time, prior }
    }

    /// The body of the next entry.
    pub fn body(&self, content: Content) -> ReceiptBody {
        let index = self.tree.size();
        let log = LogBlock::new(self.origin, index, self.prior.0, &self.prior.1);
        // Ids differ between ledgers.
        let number = index + u64::from(self.origin == CLOSED) * 1000;
        draft(number, content).complete(self.time, log)
    }

    pub fn append(&mut self, content: Content) {
        let (kid, signer) = self.bank.signer_at(self.origin, self.tree.size());
        self.append_signed(issue(&self.body(content), kid, signer).unwrap().into_string());
    }

    /// Appends any line, as no gateway would.
    pub fn append_signed(&mut self, jws: String) {
        self.tree.push(tulga::ledger::leaf_hash(&jws));
        self.lines.push(jws);
        self.time = self.time.plus_millis(1_000);
        if self.tree.size().is_multiple_of(2) {
            let note = self.head(2);
            self.prior = (self.tree.size(), self.tree.root());
            self.notes.push(note);
        }
    }

    /// The head, cosigned by so many witnesses a second later.
    pub fn head(&self, witnesses: usize) -> String {
        let origin = Origin::try_from(self.origin).unwrap();
        let checkpoint = Checkpoint { origin, size: self.tree.size(), root: self.tree.root() };
        let mut note = checkpoint.sign(&self.bank.ledger).unwrap();
        for (name, key) in self.bank.witnesses.iter().take(witnesses) {
            note.push_str(&cosign(&checkpoint.text(), self.time, name, key).unwrap());
        }
        note
    }

    pub fn proof(&self, index: u64, witnesses: usize) -> String {
        let (tree, size) = (&self.tree, self.tree.size());
        TlogProof::make(tree, index, size, self.head(witnesses)).unwrap().to_text()
    }

    pub fn closed(&self) -> ClosedShard {
        let origin = Origin::try_from(self.origin).unwrap();
        ClosedShard { origin, size: self.tree.size(), root: self.tree.root() }
    }

    pub fn write(&self, dir: &Path) {
        fs::create_dir_all(dir).unwrap();
        let put = |name: &str, text: String| fs::write(dir.join(name), text).unwrap();
        put("receipts.jws", self.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect());
        put("checkpoint", self.head(2));
        put("checkpoints", self.notes.join("\n"));
        put("erasures.json", erasures_json(&self.erased).unwrap());
        self.write_tiles(dir);
    }

    fn write_tiles(&self, dir: &Path) {
        if !self.erased.is_empty() {
            return;
        }
        for address in TileAddress::all(self.tree.size()) {
            let bytes = match address.kind() {
                TileKind::Hashes { .. } => address.hashes(&self.tree).unwrap(),
                TileKind::Entries => {
                    let mut bundle = Vec::new();
                    self.lines
                        .iter()
                        .for_each(|jws| append_entry(&mut bundle, &entry(jws)).unwrap());
                    bundle
                }
            };
            let path = dir.join(address.path());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
}

/// The first ledger, closed with four entries.
pub fn closed(bank: &Bank) -> Shard<'_> {
    let mut shard = Shard::new(bank, CLOSED, TIME.plus_millis(-60_000));
    shard.append(opened(None));
    shard.append(administration("policy_activated"));
    shard.append(verification());
    shard.append(outcome(&shard_rid(CLOSED, 2), 2));
    shard
}

/// The second, open, with seven: the key changes at 4.
pub fn open<'a>(bank: &'a Bank, before: &ClosedShard) -> Shard<'a> {
    let mut shard = Shard::new(bank, OPEN, TIME);
    shard.append(opened(Some(before)));
    for _ in 0..2 {
        shard.append(verification());
    }
    shard.append(outcome(&shard_rid(OPEN, 2), 2));
    shard.append(verification());
    shard.append(erasure_of_bodies(3, 3));
    shard.append(verification());
    shard
}

/// Writes both ledgers with all that an export has; the open one comes back.
pub fn write_export<'a>(bank: &'a Bank, dir: &Path) -> Shard<'a> {
    let first = closed(bank);
    let second = open(bank, &first.closed());
    write_ledgers(dir, &[&first, &second]);
    let log = LogOfLogs::new(ISSUER, vec![first.closed()]).unwrap();
    fs::write(dir.join("log-of-logs"), log.sign(&bank.ledger).unwrap()).unwrap();
    second
}

fn write_ledgers(dir: &Path, shards: &[&Shard<'_>]) {
    write_register(dir, shards[0].bank.records(), &shards[0].bank.root);
    fs::write(dir.join("policy"), shards[0].bank.policy()).unwrap();
    for shard in shards {
        let below = dir.join(shard.origin);
        shard.write(&below);
        fs::create_dir_all(below.join("audit")).unwrap();
        // The verification at 2 commits to this record under this salt.
        let record = [salt().expose().as_slice(), AUDIT_RECORD].concat();
        fs::write(below.join("audit/2"), record).unwrap();
    }
}

pub fn salt() -> Salt {
    let salt = Salt::new([7; 32]);
    let Content::Verification(decision) = verification() else { panic!() };
    assert_eq!(decision.audit, audit_commit(&salt, AUDIT_RECORD));
    salt
}

fn opened(before: Option<&ClosedShard>) -> Content {
    Content::Administration(Administration {
        act: "ledger_opened".into(),
        actor: actor(),
        subject: before.map(|shard| shard.origin.to_string()),
        details: before.map(ClosedShard::labelled_digest),
    })
}

fn shard_rid(origin: &str, index: u64) -> String {
    let mut id = [0u8; 16];
    id[8..].copy_from_slice(&(index + u64::from(origin == CLOSED) * 1000).to_be_bytes());
    rid_text(&ReceiptId::new(id))
}

/// 64 zeros: nobody's fingerprint.
pub fn nobody() -> String {
    sha256(b"nobody").hex()
}
