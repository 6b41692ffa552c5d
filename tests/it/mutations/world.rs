//! A gateway's ledgers as an auditor gets them: 2,200 entries in two ledgers, a witness, and what others
//! hold. What an attacker does to them is a [`Script`].

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use tulga::crypto::{Ed25519Key, Signer as _, sha256};
use tulga::domain::id::ReceiptId;
use tulga::domain::time::UnixMillis;
use tulga::ledger::{
    Checkpoint, ClosedShard, LogOfLogs, Origin, TileAddress, TileKind, Tree, WitnessKey,
    append_entry, cosign, entry, leaf_hash,
};
use tulga::receipt::{
    Administration, Content, ErasedBody, KeyAlgorithm, KeyRange, KeyRecord, KeyRegister, KeyStatus,
    KeyUse, LogBlock, Refers, Salt, TrustFingerprint, Verification, Witnessed, audit_commit,
    erasures_json, issue, rid_text,
};

use crate::receipts::{actor, administration, draft, erasure_of_bodies, outcome, verification};

pub const ISSUER: &str = "cash.bank.example/gw07";
pub const HALVES: [&str; 2] = ["cash.bank.example/gw07/2026h1", "cash.bank.example/gw07/2026h2"];
/// How many entries each ledger has.
pub const SIZES: [u64; 2] = [900, 1300];
/// Where the second ledger's receipt key was rotated.
pub const ROTATED_AT: u64 = 400;
/// Entries between two checkpoints.
const BATCH: u64 = 10;
/// From one entry to the next.
const STEP_MS: i64 = 2_000;
/// 2026-06-30T20:00:00Z: the half-year turns while the first ledger is written.
const BEGUN: UnixMillis = UnixMillis::new(1_782_849_600_000);
const OLD_KEY: &str = "gw07-2026a";
const NEW_KEY: &str = "gw07-2026b";
/// Who stands outside the bank, and cannot be made to sign.
const WITNESS: &str = "witness.example/w1";

/// All keys. Who holds which is each attack's own.
pub struct Keys {
    pub root: Ed25519Key,
    pub ledger: Ed25519Key,
    pub old_receipt: Ed25519Key,
    pub receipt: Ed25519Key,
    pub witness: Ed25519Key,
}

impl Keys {
    pub fn new(seed: u8) -> Self {
        let key = |n: u8| Ed25519Key::from_seed([seed.wrapping_add(n); 32]).unwrap();
        Self { root: key(1), ledger: key(2), old_receipt: key(3), receipt: key(4), witness: key(5) }
    }

    pub fn trust(&self) -> TrustFingerprint {
        TrustFingerprint::of(&self.root.public_key())
    }

    /// The register: the old receipt key closed where the new one begins.
    pub fn register(&self) -> KeyRegister {
        let range = |origin: &str, first_index, last_index| KeyRange {
            origin: origin.to_owned(),
            first_index,
            last_index,
        };
        let record = |kid: &str, usage, key: &Ed25519Key, origins, status| KeyRecord {
            kid: kid.to_owned(),
            algorithm: KeyAlgorithm::EdDsa,
            usage,
            public_key: key.public_key(),
            not_before: BEGUN,
            not_after: None,
            origins,
            status,
        };
        let [first, second] = HALVES;
        let ledgers = vec![
            range(first, 0, None),
            range(second, 0, None),
            range(&format!("{ISSUER}/log-of-logs"), 0, None),
        ];
        let old = vec![range(first, 0, Some(SIZES[0] - 1)), range(second, 0, Some(ROTATED_AT - 1))];
        let new = vec![range(second, ROTATED_AT, None)];
        KeyRegister::new(vec![
            record("root-2026", KeyUse::Root, &self.root, Vec::new(), KeyStatus::Active),
            record("gw07-ledger", KeyUse::Ledger, &self.ledger, ledgers, KeyStatus::Active),
            record(OLD_KEY, KeyUse::Receipt, &self.old_receipt, old, KeyStatus::Retired),
            record(NEW_KEY, KeyUse::Receipt, &self.receipt, new, KeyStatus::Active),
        ])
        .unwrap()
    }

    pub fn policy(&self) -> String {
        let name = Origin::try_from(WITNESS).unwrap();
        format!("witness w1 {}\nquorum w1\n", WitnessKey::new(name, self.witness.public_key()))
    }
}

/// What is done otherwise than by the honest gateway.
#[derive(Clone, Copy, Default)]
pub struct Script {
    /// The second ledger ends here.
    pub cut_at: Option<u64>,
    /// Entries of the second ledger from here on say something else.
    pub rewritten_from: Option<u64>,
    /// Entries of the second ledger in this range claim to be so much older.
    pub back_dated: Option<(u64, u64, i64)>,
    /// This entry of the second ledger is signed with the old receipt key.
    pub old_key_at: Option<u64>,
    /// The witness saw nothing of the second ledger from here on.
    pub unwitnessed_from: Option<u64>,
    /// Cosignatures from there on are made with another key, in the witness's name.
    pub forged_cosignatures: bool,
}

/// One ledger as it is exported.
pub struct Ledger {
    pub origin: Origin,
    pub lines: Vec<String>,
    pub tree: Tree,
    pub checkpoints: Vec<String>,
    pub erased: Vec<ErasedBody>,
    /// Index, salt and record.
    pub records: Vec<(u64, Vec<u8>)>,
    entries: Vec<Vec<u8>>,
}

/// Both ledgers with what belongs to them.
pub struct World {
    pub keys: Keys,
    pub ledgers: Vec<Ledger>,
    pub log_of_logs: String,
}

impl World {
    pub fn build(keys: Keys, script: Script) -> Self {
        let first = Writer::new(&keys, HALVES[0], Script::default()).write(None);
        let closing = ClosedShard {
            origin: first.origin.clone(),
            size: first.tree.size(),
            root: first.tree.root(),
        };
        let second = Writer::new(&keys, HALVES[1], script).write(Some(&closing));
        let log_of_logs =
            LogOfLogs::new(ISSUER, vec![closing]).unwrap().sign(&keys.ledger).unwrap();
        Self { keys, ledgers: vec![first, second], log_of_logs }
    }

    /// Writes the export as a gateway does.
    pub fn export(&self) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let register = self.keys.register().to_json().unwrap();
        let signature = KeyRegister::sign(register.as_bytes(), &self.keys.root).unwrap();
        let policy = self.keys.policy();
        for (name, text) in [
            ("keys.json", &register),
            ("keys.json.sig", &signature),
            ("log-of-logs", &self.log_of_logs),
            ("policy", &policy),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        for ledger in &self.ledgers {
            ledger.write(&dir.path().join(ledger.origin.as_str()));
        }
        dir
    }
}

impl Ledger {
    fn write(&self, dir: &Path) {
        let put = |name: &str, bytes: &[u8]| {
            let file: PathBuf = dir.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, bytes).unwrap();
        };
        put("receipts.jws", (self.lines.join("\n") + "\n").as_bytes());
        put("checkpoint", self.checkpoints.last().unwrap().as_bytes());
        put("checkpoints", self.checkpoints.join("\n").as_bytes());
        put("erasures.json", erasures_json(&self.erased).unwrap().as_bytes());
        for (index, record) in &self.records {
            put(&format!("audit/{index}"), record);
        }
        for tile in TileAddress::all(self.tree.size()) {
            let mut bytes = Vec::new();
            match tile.kind() {
                TileKind::Hashes { .. } => bytes = tile.hashes(&self.tree).unwrap(),
                TileKind::Entries => {
                    let first = usize::try_from(tile.first()).unwrap();
                    for entry in self.entries.iter().skip(first).take(tile.width().into()) {
                        append_entry(&mut bytes, entry).unwrap();
                    }
                }
            }
            put(&tile.path(), &bytes);
        }
    }
}

/// Writes one ledger, entry by entry.
struct Writer<'a> {
    keys: &'a Keys,
    script: Script,
    ledger: Ledger,
    /// Which of the two: times and ids go on.
    half: u64,
    prior: LogBlock,
}

impl<'a> Writer<'a> {
    fn new(keys: &'a Keys, origin: &str, script: Script) -> Self {
        let tree = Tree::new();
        let prior = LogBlock::new(origin, 0, 0, &tree.root());
        let half = u64::from(origin == HALVES[1]);
        let ledger = Ledger {
            origin: Origin::try_from(origin).unwrap(),
            lines: Vec::new(),
            tree,
            checkpoints: Vec::new(),
            erased: Vec::new(),
            records: Vec::new(),
            entries: Vec::new(),
        };
        Self { keys, script, ledger, half, prior }
    }

    fn write(mut self, before: Option<&ClosedShard>) -> Ledger {
        let size = SIZES[usize::try_from(self.half).unwrap()];
        for index in 0..self.script.cut_at.unwrap_or(size) {
            let content = match index {
                0 => opening(before),
                50 if self.half == 1 => follows_the_first(),
                700 => erasure_of_bodies(20, 29),
                _ => self.content(index),
            };
            self.append(index, content);
        }
        if !self.ledger.tree.size().is_multiple_of(BATCH) {
            self.checkpoint();
        }
        self.erase(20..30);
        self.ledger
    }

    fn content(&mut self, index: u64) -> Content {
        let rewritten = self.script.rewritten_from.is_some_and(|from| index >= from);
        match index % 4 {
            1 => outcome(&rid(self.half, index - 1), index - 1),
            3 => administration(if rewritten { "terminal_revoked" } else { "policy_activated" }),
            _ => {
                let Content::Verification(decision) = verification() else { panic!() };
                let record = format!("{{\"entry\":{index},\"strength_db\":{}}}", 40 + index % 20);
                let salt = *sha256(record.as_bytes()).as_bytes();
                let audit = audit_commit(&Salt::new(salt), record.as_bytes());
                // Some records were given to the auditor.
                if index.is_multiple_of(100) {
                    let bytes = [salt.as_slice(), record.as_bytes()].concat();
                    self.ledger.records.push((index, bytes));
                }
                let outcome = if rewritten { "DENIED" } else { "APPROVED" }.to_owned();
                Content::Verification(Verification { audit, outcome, cap: None, ..decision })
            }
        }
    }

    fn append(&mut self, index: u64, content: Content) {
        let back = self.script.back_dated.filter(|(from, to, _)| (*from..*to).contains(&index));
        let time = self.time(index).plus_millis(-back.map_or(0, |(_, _, millis)| millis));
        let log = LogBlock { index, ..self.prior.clone() };
        let mut draft = draft(0, content);
        draft.rid = rid(self.half, index);
        let is_old = self.half == 0 || index < ROTATED_AT || self.script.old_key_at == Some(index);
        let (kid, key) =
            if is_old { (OLD_KEY, &self.keys.old_receipt) } else { (NEW_KEY, &self.keys.receipt) };
        let jws = issue(&draft.complete(time, log), kid, key).unwrap().into_string();
        self.ledger.tree.push(leaf_hash(&jws));
        self.ledger.entries.push(entry(&jws));
        self.ledger.lines.push(jws);
        if self.ledger.tree.size().is_multiple_of(BATCH) {
            self.checkpoint();
        }
    }

    fn time(&self, index: u64) -> UnixMillis {
        let entries = self.half * SIZES[0] + index;
        BEGUN.plus_millis(i64::try_from(entries).unwrap() * STEP_MS)
    }

    fn checkpoint(&mut self) {
        let (size, root) = (self.ledger.tree.size(), self.ledger.tree.root());
        let head = Checkpoint { origin: self.ledger.origin.clone(), size, root };
        let mut note = head.sign(&self.keys.ledger).unwrap();
        // The witness answers within a second of the last entry, by its own clock.
        let time = UnixMillis::new((self.time(size - 1).get() + 999) / 1000 * 1000);
        let name = Origin::try_from(WITNESS).unwrap();
        let unseen = self.script.unwitnessed_from.is_some_and(|from| size > from);
        let witnessed = self.prior.witnessed.take();
        self.prior = LogBlock::new(head.origin.as_str(), 0, size, &root);
        self.prior.witnessed = witnessed;
        if !unseen || self.script.forged_cosignatures {
            let forger = Ed25519Key::from_seed([0xee; 32]).unwrap();
            let key = if unseen { &forger } else { &self.keys.witness };
            let line = cosign(&head.text(), time, &name, key).unwrap();
            // A forger writes the id of the key that they do not have.
            let honest_id = cosign(&head.text(), time, &name, &self.keys.witness).unwrap();
            note.push_str(&if unseen { with_id_of(&line, &honest_id) } else { line });
            self.prior.witnessed = Some(Witnessed { size, time: time.rfc3339() });
        }
        self.ledger.checkpoints.push(note);
    }

    /// Bodies that the erasure at 700 lists.
    fn erase(&mut self, indices: std::ops::Range<u64>) {
        if self.ledger.tree.size() <= 700 {
            return;
        }
        for index in indices.rev() {
            let leaf = self.ledger.tree.leaf(index).unwrap();
            self.ledger.erased.insert(0, ErasedBody { index, erasure: 700, leaf });
            self.ledger.lines.remove(usize::try_from(index).unwrap());
        }
    }
}

/// The first entry of a ledger.
fn opening(before: Option<&ClosedShard>) -> Content {
    Content::Administration(Administration {
        act: "ledger_opened".into(),
        actor: actor(),
        subject: before.map(|shard| shard.origin.to_string()),
        details: before.map(ClosedShard::labelled_digest),
    })
}

/// An entry of the second ledger that speaks of one of the first.
fn follows_the_first() -> Content {
    let Content::Outcome(mut report) = outcome("", 0) else { panic!() };
    let (rid, origin) = (rid(0, 898), Some(HALVES[0].to_owned()));
    report.refers = Refers { rid, index: 898, origin };
    Content::Outcome(report)
}

pub fn rid(half: u64, index: u64) -> String {
    let mut id = [0u8; 16];
    id[..8].copy_from_slice(&(half + 1).to_be_bytes());
    id[8..].copy_from_slice(&index.to_be_bytes());
    rid_text(&ReceiptId::new(id))
}

/// A signature line with the four bytes of another's key id.
fn with_id_of(line: &str, other: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let bytes = |line: &str| STANDARD.decode(line.trim().rsplit(' ').next().unwrap()).unwrap();
    let both = [&bytes(other)[..4], &bytes(line)[4..]].concat();
    let name = line.rsplit_once(' ').unwrap().0;
    format!("{name} {}\n", STANDARD.encode(both))
}
