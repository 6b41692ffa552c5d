//! What somebody altered behind the gateway: each step of a replay finds it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::types::FromSql;
use rusqlite::{Connection, Params, params};
use serde_json::Value;
use tempfile::TempDir;
use tulga::config::Config;
use tulga::crypto::{Ed25519Key, SystemEntropy, length_prefixed, sha256};
use tulga::domain::id::{CustomerId, ReceiptId, TenantId};
use tulga::gateway::{FileGuard, HeadGuard as _, SignedHead};
use tulga::ledger::{LeafHash, Tree, leaf_hash};
use tulga::pki::Role;
use tulga::proto::{self, ReplayEnd, ReplayVerdict};
use tulga::receipt::{self, Content, Salt, audit_commit, rid_text};
use tulga::store::sql::SqliteStore;
use tulga::store::{CustomerKeyRow, OwnKeyRow, Store as _};
use tulga::vault::{CustomerKeys, Place, Vault};

use super::{
    Auditor, CARD, Desk, IIN, MORNING, OTHER_CARD, OTHER_IIN, Terminal, assert_ended, assert_found,
    assert_same, by, decided, findings, flipped, index_of, keeping, replay,
};
use crate::site::{SetClock, Site, demo};

/// Somebody who writes to the database behind the gateway, and may have its key-encryption key.
pub(super) struct Intruder {
    db: Connection,
    vault: Vault,
    tenant: TenantId,
    origin: String,
}

impl Intruder {
    fn in_folder(data: &Path, origin: &str) -> Self {
        let path = data.join("tulga.sqlite");
        let db = Connection::open(path).unwrap();
        let tenant = Config::from_toml("").unwrap().identity.tenant;
        let vault = Vault::load(&data.join("keys").join("kek")).unwrap();
        let mut own = db.prepare("SELECT purpose, kek_id, wrapped FROM own_keys").unwrap();
        let row = |row: &rusqlite::Row<'_>| {
            Ok(OwnKeyRow { purpose: row.get(0)?, kek_id: row.get(1)?, wrapped: row.get(2)? })
        };
        let rows: Vec<_> = own.query_map([], row).unwrap().map(Result::unwrap).collect();
        drop(own);
        vault.take_own(&tenant, &rows).unwrap();
        Self { db, vault, tenant, origin: origin.to_owned() }
    }

    pub(super) fn of(site: &Site) -> Self {
        let origin = site.gateway.upgrade().unwrap().open_ledger().unwrap().as_str().to_owned();
        Self::in_folder(&site.data(), &origin)
    }

    fn audit_place(&self, index: u64) -> Place {
        let row = length_prefixed(&[self.origin.as_bytes(), &index.to_be_bytes()]);
        Place::system("entries", "sealed_audit", self.tenant.as_str(), &row)
    }

    pub(super) fn run(&self, sql: &str, values: impl Params) {
        self.db.execute(sql, values).unwrap();
    }

    fn value<T: FromSql>(&self, sql: &str, values: impl Params) -> T {
        self.db.query_row(sql, values, |row| row.get(0)).unwrap()
    }

    fn sealed_audit(&self, index: u64) -> Vec<u8> {
        self.value("SELECT sealed_audit FROM entries WHERE entry_index = ?1", [stored(index)])
    }

    fn put_sealed_audit(&self, index: u64, sealed: Option<&[u8]>) {
        let sql = "UPDATE entries SET sealed_audit = ?2 WHERE entry_index = ?1";
        self.run(sql, params![stored(index), sealed]);
    }

    /// The record with its salt before it, altered and sealed anew; what it was, and what it is.
    fn reseal_audit(&self, index: u64, alter: impl Fn(&mut Value)) -> (Vec<u8>, Vec<u8>) {
        let sealed = self.sealed_audit(index);
        let place = self.audit_place(index);
        let plain = self.vault.open_system(&place, &sealed).unwrap();
        let mut record: Value = serde_json::from_slice(&plain[32..]).unwrap();
        alter(&mut record);
        let altered = [&plain[..32], &serde_json::to_vec(&record).unwrap()].concat();
        let resealed = self.vault.seal_system(&place, &altered, &SystemEntropy).unwrap();
        self.put_sealed_audit(index, Some(&resealed));
        (sealed, altered)
    }

    fn keys_of(&self, customer: &CustomerId) -> CustomerKeys {
        let sql = "SELECT kek_id, wrapped FROM customer_keys WHERE customer = ?1";
        let pair = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let (kek_id, wrapped) = self.db.query_row(sql, [customer.as_bytes()], pair).unwrap();
        let row = CustomerKeyRow { customer: *customer, kek_id, wrapped };
        self.vault.open_keys(&self.tenant, &row).unwrap()
    }

    fn captures_of(&self, customer: &CustomerId) -> Vec<(Vec<u8>, Vec<u8>)> {
        let sql = "SELECT id, sealed FROM captures WHERE customer = ?1 ORDER BY created_at, id";
        let mut statement = self.db.prepare(sql).unwrap();
        let pair = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let rows = statement.query_map([customer.as_bytes()], pair).unwrap();
        rows.map(Result::unwrap).collect()
    }

    fn put_capture(&self, id: &[u8], sealed: &[u8]) {
        self.run("UPDATE captures SET sealed = ?2 WHERE id = ?1", params![id, sealed]);
    }

    fn capture_place(&self, customer: &CustomerId, id: &[u8]) -> Place {
        Place::of_customer("captures", "sealed", self.tenant.as_str(), customer, id)
            .with_modality("face")
    }
}

fn stored(index: u64) -> i64 {
    i64::try_from(index).unwrap()
}

fn customer_of(hex: &str) -> CustomerId {
    CustomerId::from_hex(hex).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_altered_receipt_or_record_is_found() {
    let pack = keeping();
    let site = Site::at(&by(&pack), SetClock::at(MORNING)).await;
    site.enroll(IIN, CARD, &["obama.jpg"]).await;
    let mut terminal = Terminal::new(site.terminal("ATM-1").await);
    let mut auditor = Auditor::new(site.staff(Role::Auditor).await);
    let index = index_of(&decided(&mut terminal, "T1", CARD, "obama2.jpg").await);
    let other = index_of(&decided(&mut terminal, "T2", CARD, "biden.jpg").await);
    let intruder = Intruder::of(&site);

    // Sealed anew by somebody who has the key: the receipt commits to another one.
    for alter in [
        (|record: &mut Value| record["scores"]["face.score"] = "9.9".into()) as fn(&mut Value),
        |record| record["outcome"] = "DENIED".into(),
        |record| drop(record.as_object_mut().unwrap().remove("scores")),
        |record| record["evidence"] = Value::Null,
    ] {
        let (before, _) = intruder.reseal_audit(index, alter);
        assert_found(&replay(&mut auditor, index).await, "audit_record", "another one");
        intruder.put_sealed_audit(index, Some(&before));
    }
    let sealed = intruder.sealed_audit(index);
    for (altered, what) in [
        (Some(flipped(&sealed)), "it does not open"),
        (Some(intruder.sealed_audit(other)), "it does not open"),
        (None, "it is missing"),
    ] {
        intruder.put_sealed_audit(index, altered.as_deref());
        assert_found(&replay(&mut auditor, index).await, "audit_record", what);
    }
    intruder.put_sealed_audit(index, Some(&sealed));
    assert_same(&replay(&mut auditor, index).await);

    // Another decision's receipt, well signed, in this one's place.
    let sql = "UPDATE entries SET jws = (SELECT jws FROM entries WHERE entry_index = ?2) \
               WHERE entry_index = ?1";
    let (at, from) = (i64::try_from(index).unwrap(), i64::try_from(other).unwrap());
    intruder.run(sql, params![at, from]);
    assert_found(&replay(&mut auditor, index).await, "receipt", "not the ledger's");
    let sql =
        "UPDATE entries SET jws = substr(jws, 1, length(jws) - 4) || 'AAAA' WHERE entry_index = ?1";
    intruder.run(sql, params![at]);
    let found = replay(&mut auditor, index).await;
    assert_eq!(findings(&found), ["receipt"]);
    assert_eq!(found.read_position, None, "nothing was read for it");
    drop((terminal, auditor));
    site.finish().await;
}

/// The one file on the shelves that is named so.
fn shelved(site: &Site, receipt: &[u8]) -> PathBuf {
    let name = ReceiptId::try_from(receipt).unwrap().to_string();
    let shelves = std::fs::read_dir(site.data().join("evidence")).unwrap();
    let mut files = shelves.map(|shelf| shelf.unwrap().path().join(&name));
    files.find(|file| file.exists()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn altered_captures_are_found() {
    let pack = keeping();
    let site = Site::at(&by(&pack), SetClock::at(MORNING)).await;
    site.enroll(IIN, CARD, &["obama.jpg"]).await;
    let mut terminal = Terminal::new(site.terminal("ATM-1").await);
    let mut auditor = Auditor::new(site.staff(Role::Auditor).await);
    let index = index_of(&decided(&mut terminal, "T1", CARD, "obama2.jpg").await);
    let other = index_of(&decided(&mut terminal, "T2", CARD, "biden.jpg").await);
    let intruder = Intruder::of(&site);
    let store = SqliteStore::open(&site.data().join("tulga.sqlite")).await.unwrap();
    let entry = store.entry(&intruder.origin, index).await.unwrap().unwrap();
    let file = shelved(&site, entry.receipt.as_bytes());
    let whole = std::fs::read(&file).unwrap();

    std::fs::write(&file, flipped(&whole)).unwrap();
    assert_found(&replay(&mut auditor, index).await, "captures", "they do not open");
    std::fs::remove_file(&file).unwrap();
    assert_found(&replay(&mut auditor, index).await, "captures", "their file is missing");
    // Other pictures, sealed well by somebody who has the key: the record commits to others.
    let picture = demo("obama3.jpg");
    let forged =
        intruder.vault.seal_evidence(&intruder.tenant, &entry.receipt, &picture, &SystemEntropy);
    let forged = forged.unwrap();
    std::fs::write(&file, &forged.sealed).unwrap();
    let at = i64::try_from(index).unwrap();
    let sql = "UPDATE evidence SET wrapped = ?2 WHERE entry_index = ?1";
    let wrapped: Vec<u8> =
        intruder.value("SELECT wrapped FROM evidence WHERE entry_index = ?1", [at]);
    intruder.run(sql, params![at, forged.wrapped]);
    assert_found(&replay(&mut auditor, index).await, "captures", "others");
    std::fs::write(&file, &whole).unwrap();
    intruder.run(sql, params![at, &wrapped]);
    assert_same(&replay(&mut auditor, index).await);

    // The key destroyed before its time; the row gone, or another decision's.
    intruder.run(sql, params![at, None::<Vec<u8>>]);
    let early = "they were destroyed before their time was over";
    assert_found(&replay(&mut auditor, index).await, "captures", early);
    intruder.run(
        "DELETE FROM evidence WHERE entry_index = (SELECT MIN(entry_index) FROM evidence)",
        [],
    );
    assert_found(&replay(&mut auditor, index).await, "captures", "they are missing");
    let sql = "UPDATE evidence SET entry_index = ?1 WHERE entry_index = ?2";
    intruder.run(sql, [at, stored(other)]);
    assert_found(&replay(&mut auditor, index).await, "captures", "they do not open");
    drop((terminal, auditor));
    store.close().await;
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_altered_template_is_found_and_a_removed_one_ends_the_replay() {
    let pack = keeping();
    let site = Site::at(&by(&pack), SetClock::at(MORNING)).await;
    let one = site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    let two = site.enroll(OTHER_IIN, OTHER_CARD, &["biden.jpg"]).await;
    let mut terminal = Terminal::new(site.terminal("ATM-1").await);
    let mut auditor = Auditor::new(site.staff(Role::Auditor).await);
    let mut desk = Desk::new(site.staff(Role::Admin).await);
    let index = index_of(&decided(&mut terminal, "T1", CARD, "obama2.jpg").await);
    let erased = index_of(&decided(&mut terminal, "T2", OTHER_CARD, "biden.jpg").await);
    let intruder = Intruder::of(&site);
    let customer = customer_of(&one);
    let keys = intruder.keys_of(&customer);
    let captures = intruder.captures_of(&customer);
    let (id, sealed) = captures[0].clone();

    intruder.put_capture(&id, &flipped(&sealed));
    assert_found(&replay(&mut auditor, index).await, "template", "it does not open");
    // The person's other capture, or another person's, sealed well in its place.
    let other = customer_of(&two);
    let of_other = intruder.captures_of(&other).remove(0);
    let place = intruder.capture_place(&other, &of_other.0);
    let stranger = intruder.keys_of(&other).open(&place, &of_other.1).unwrap();
    let second = keys.open(&intruder.capture_place(&customer, &captures[1].0), &captures[1].1);
    for plain in [stranger, second.unwrap()] {
        let place = intruder.capture_place(&customer, &id);
        let forged = keys.seal(&place, &plain, &SystemEntropy).unwrap();
        intruder.put_capture(&id, &forged);
        assert_found(&replay(&mut auditor, index).await, "template", "another one");
    }
    intruder.put_capture(&id, &sealed);
    assert_same(&replay(&mut auditor, index).await);

    // What is enrolled since does not matter; what was compared and is removed does.
    let request = proto::AddCaptureRequest {
        customer_id: one.clone(),
        image: demo("obama2.jpg"),
        language: "en".into(),
        ..proto::AddCaptureRequest::default()
    };
    assert!(desk.add_capture(request).await.unwrap().into_inner().accepted);
    assert_same(&replay(&mut auditor, index).await);
    let capture_id = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let request = proto::RemoveCaptureRequest { customer_id: one, capture_id };
    desk.remove_capture(request).await.unwrap();
    assert_ended(&replay(&mut auditor, index).await, ReplayEnd::TemplateGone);

    // Keys that are gone without an erasure are a finding, with one they end it.
    let sql = "SELECT wrapped FROM customer_keys WHERE customer = ?1";
    let wrapped: Vec<u8> = intruder.value(sql, [other.as_bytes()]);
    let sql = "UPDATE customer_keys SET wrapped = ?2 WHERE customer = ?1";
    for (wrapped, what) in
        [(flipped(&wrapped), Some("the customer's keys do not open")), (wrapped, None)]
    {
        intruder.run(sql, params![other.as_bytes(), wrapped]);
        let found = replay(&mut auditor, erased).await;
        match what {
            Some(what) => assert_found(&found, "template", what),
            None => assert_same(&found),
        }
    }
    desk.erase(proto::EraseRequest { customer_id: two }).await.unwrap();
    assert_ended(&replay(&mut auditor, erased).await, ReplayEnd::CustomerErased);
    drop((terminal, auditor, desk));
    site.finish().await;
}

/// Somebody with every key of the gateway writes the last decision's scores anew, with its receipt, the ledger
/// and the record of its head: nothing contradicts anything, except what the captures show.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_written_anew_with_every_key_is_found_by_its_captures() {
    let pack = keeping();
    let clock = SetClock::at(MORNING);
    let site = Site::at(&by(&pack), Arc::clone(&clock) as _).await;
    site.enroll(IIN, CARD, &["obama.jpg"]).await;
    let mut terminal = Terminal::new(site.terminal("ATM-1").await);
    let decision = decided(&mut terminal, "T1", CARD, "biden.jpg").await;
    assert_eq!(decision.outcome(), proto::Outcome::Denied);
    let (index, origin) = {
        let position = decision.position.clone().unwrap();
        (position.index, position.origin)
    };
    drop(terminal);
    let dir = site.stopped().await;
    let data = dir.path().join("data");
    let intruder = Intruder::in_folder(&data, &origin);
    let mut sealed = intruder.sealed_audit(index);
    for (alter, expected) in [
        (
            (|record: &mut Value| record["scores"]["face.score"] = "1.5".into()) as fn(&mut Value),
            &["face.score"][..],
        ),
        (|record| record["strength_tenth_db"] = 1.into(), &["strength_tenth_db"]),
        // An approval for an impostor: rules, outcome, and what follows from them.
        (
            |record| {
                record["outcome"] = "APPROVED".into();
                record["rules_outcome"] = "APPROVED".into();
                record["reasons"] = Value::Array(Vec::new());
            },
            &["receipt.outcome", "rules_outcome", "reasons", "outcome"],
        ),
        (|record| record["facts"]["amount_minor"] = 1.into(), &["receipt.txn"]),
    ] {
        intruder.put_sealed_audit(index, Some(&sealed));
        let (before, altered) = intruder.reseal_audit(index, alter);
        sealed = before;
        write_anew(&intruder, &data, index, &altered);
        let copy = copied(dir.path());
        let site = Site::again(copy, &by(&pack), Arc::clone(&clock) as _).await;
        let mut auditor = Auditor::new(site.staff(Role::Auditor).await);
        let found = replay(&mut auditor, index).await;
        assert_eq!(findings(&found), expected);
        assert_eq!(found.verdict(), ReplayVerdict::Different);
        drop(auditor);
        site.finish().await;
    }
}

/// Signs the receipt of the last entry anew over an audit record, and the ledger with it.
fn write_anew(intruder: &Intruder, data: &Path, index: u64, salted: &[u8]) {
    let at = i64::try_from(index).unwrap();
    let pem = std::fs::read_to_string(data.join("keys").join("receipt-1.pem")).unwrap();
    let key = Ed25519Key::from_pkcs8_pem(&pem).unwrap();
    let jws: String = intruder.value("SELECT jws FROM entries WHERE entry_index = ?1", [at]);
    let parsed = receipt::parse(&jws).unwrap();
    let (mut body, kid) = (parsed.unverified_body().clone(), parsed.kid().to_owned());
    let Content::Verification(content) = &mut body.content else { panic!("no decision") };
    let salt = Salt::new(salted[..32].try_into().unwrap());
    content.audit = audit_commit(&salt, &salted[32..]);
    assert_eq!(body.rid, rid_text(&parsed.unverified_id()));
    let jws = receipt::issue(&body, &kid, &key).unwrap().into_string();
    let leaf = leaf_hash(&jws);
    let sql = "UPDATE entries SET jws = ?2, leaf = ?3 WHERE entry_index = ?1";
    let leaf = leaf.digest().as_bytes().as_slice();
    intruder.run(sql, params![at, &jws, leaf]);
    let mut tree = Tree::new();
    let mut leaves = intruder.db.prepare("SELECT leaf FROM entries ORDER BY entry_index").unwrap();
    for leaf in leaves.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap() {
        tree.push(LeafHash::new(leaf.unwrap().as_slice().try_into().unwrap()));
    }
    assert_eq!(tree.size(), index + 1, "it was the last entry");
    intruder.run("UPDATE heads SET root = ?1", [tree.root().as_bytes()]);
    intruder.run("DELETE FROM checkpoints WHERE size > ?1", [at]);
    intruder.value::<i64>("PRAGMA wal_checkpoint(TRUNCATE)", []);
    std::fs::remove_file(data.join("last-signed-head")).unwrap();
    let guard = FileGuard::open(&data.join("last-signed-head")).unwrap();
    let origin = Some(sha256(intruder.origin.as_bytes()));
    let (size, root) = (tree.size(), tree.root());
    guard.record(&SignedHead { origin, entries: size, size, root }).unwrap();
}

/// A copy of a folder.
fn copied(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(from.join("data"))
        .arg(to.path())
        .status()
        .unwrap();
    assert!(status.success());
    to
}
