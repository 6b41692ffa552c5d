//! The vault of a running gateway: key-encryption keys that change, memory that is never dumped.

mod erased;
mod moved;
mod sealed_by_a_token;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use rusqlite::types::FromSql;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use tonic::transport::Channel;
use tulga::app::{App, DataDir, init};
use tulga::config::Config;
use tulga::crypto::SystemEntropy;
use tulga::domain::time::UnixMillis;
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::audit_service_client::AuditServiceClient;
use tulga::proto::enrollment_service_client::EnrollmentServiceClient;
use tulga::proto::key_service_client::KeyServiceClient;
use tulga::proto::verification_service_client::VerificationServiceClient;
use tulga::store::sql::SqliteStore;
use tulga::store::{KekRow, Store as _};
use tulga::vault::Vault;

use crate::process::{Gateway, Home};
use crate::site::{Site, begin, consent, demo, dev_pack_with, payload, reason, verify};

const IIN: &str = "000000300017";
const CARD: &str = "card-token-1";
const TERMINAL: &str = "ATM-1";

type Desk = EnrollmentServiceClient<Channel>;
type Keys = KeyServiceClient<Channel>;
type Terminal = VerificationServiceClient<Channel>;

/// Numbers that nobody has: made up, with their check digit.
fn iins() -> impl Iterator<Item = String> {
    (100..10_000).filter_map(|serial| {
        let text = format!("0000003{serial:04}");
        let digits: Vec<u32> = text.chars().map(|it| it.to_digit(10).unwrap()).collect();
        let pass = |weights: [u32; 11]| -> u32 {
            digits.iter().zip(weights).map(|(digit, weight)| digit * weight).sum::<u32>() % 11
        };
        let check = match pass([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]) {
            10 => pass([3, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2]),
            check => check,
        };
        (check < 10).then(|| format!("{text}{check}"))
    })
}

async fn create(desk: &mut Desk, iin: &str) -> String {
    let request = proto::CreateCustomerRequest { iin: iin.into(), consent: Some(consent()) };
    desk.create_customer(request).await.unwrap().into_inner().customer_id
}

/// Binds a token, which opens the customer's keys.
async fn bind(desk: &mut Desk, customer_id: &str, token: &str) -> Result<(), tonic::Status> {
    let request = proto::BindTokenRequest {
        customer_id: customer_id.into(),
        kind: proto::TokenKind::Account.into(),
        token: token.into(),
        expires_at: None,
    };
    desk.bind_token(request).await.map(drop)
}

async fn decided(terminal: &mut Terminal, id: &str) -> proto::Decision {
    decided_of(terminal, id, CARD).await
}

async fn decided_of(terminal: &mut Terminal, id: &str, card: &str) -> proto::Decision {
    let opened = terminal.begin_capture(begin(id, card)).await.unwrap().into_inner();
    let asked = verify(id, 1, &opened.challenge, demo("obama2.jpg"));
    terminal.verify(asked).await.unwrap().into_inner()
}

/// The database of a gateway that has stopped, or of one that serves.
fn database(data: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(data.join("tulga.sqlite"), flags).unwrap()
}

/// The first column of every row.
fn column<T: FromSql>(db: &Connection, sql: &str) -> Vec<T> {
    let mut statement = db.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// Under which keys anything is wrapped, and every keyed index.
fn state_of(data: &Path) -> (BTreeSet<String>, Vec<Vec<u8>>) {
    let db = database(data);
    let sql = "SELECT kek_id FROM customer_keys UNION SELECT kek_id FROM own_keys \
               UNION SELECT kek_id FROM evidence WHERE wrapped IS NOT NULL";
    let keks: Vec<String> = column(&db, sql);
    let sql = "SELECT iin_index FROM customers WHERE iin_index IS NOT NULL \
               UNION SELECT token_index FROM tokens UNION SELECT account FROM movements";
    (keks.into_iter().collect(), column(&db, sql))
}

/// The acts about key-encryption keys in an export, each with its subject.
fn acts(export: &Path) -> Vec<(String, String)> {
    let receipts = fs::read_to_string(export.join("receipts.jws")).unwrap();
    let bodies = receipts.lines().map(|jws| payload(jws.as_bytes()));
    let text = |body: &Value, name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let acts = bodies.map(|body| (text(&body, "act"), text(&body, "subject")));
    acts.filter(|(act, _)| act.starts_with("kek_")).collect()
}

/// A data folder whose pack has captures kept, so that there are pictures' keys too.
fn home_with_evidence() -> (Home, tempfile::TempDir) {
    let (home, pack) = (Home::new(), dev_pack_with("evidence_days = 365", ""));
    let path = home.path().join("tulga.toml");
    let text = fs::read_to_string(&path).unwrap();
    let policy = format!("[paths]\npolicy_dir = '{}'\n", pack.path().display());
    fs::write(&path, text.replace("[paths]\n", &policy)).unwrap();
    (home, pack)
}

fn enroll(home: &Home, gateway: &Gateway) {
    let pictures = ["obama.jpg", "obama3.jpg"].map(crate::process::photograph);
    let mut arguments = vec!["enroll"];
    arguments.extend(pictures.iter().map(|path| path.to_str().unwrap()));
    arguments.extend(["--iin", IIN, "--card", CARD]);
    arguments.extend(["--subject", "the customer", "--consent-ref", "archive/7"]);
    gateway.tulga_ok(home, &arguments);
}

const ENROLLED: usize = 30;

/// A rotation that was begun and killed in its midst.
async fn half_a_rotation(home: &Home, gateway: &mut Gateway) -> (u64, Vec<String>) {
    let mut terminal = Terminal::new(gateway.connect(home, Role::Terminal, TERMINAL).await);
    let first = decided(&mut terminal, "BEFORE").await;
    assert_eq!(first.outcome(), proto::Outcome::Approved, "{:?}", first.reasons);
    let mut desk = Desk::new(gateway.connect(home, Role::Enroller, "dev").await);
    let mut customers = Vec::new();
    for iin in iins().take(ENROLLED) {
        customers.push(create(&mut desk, &iin).await);
    }
    let mut keys = Keys::new(gateway.connect(home, Role::KeyCustodian, "dev").await);
    let begun = keys.begin_kek_rotation(proto::BeginKekRotationRequest {}).await.unwrap();
    let begun = begun.into_inner();
    assert_eq!((begun.name.as_str(), begun.home.as_str()), ("kek-2", "file"));
    assert!(!begun.receipt_jws.is_empty());
    // Everybody's, one picture's, and the vault's own two.
    assert_eq!(begun.left, u64::try_from(ENROLLED).unwrap() + 4);
    let again = keys.begin_kek_rotation(proto::BeginKekRotationRequest {}).await.unwrap();
    let again = again.into_inner();
    assert_eq!((&again.kek_id, again.receipt_jws.is_empty()), (&begun.kek_id, true));
    let batch = keys.rewrap_keys(proto::RewrapKeysRequest { at_most: 7 }).await.unwrap();
    let batch = batch.into_inner();
    assert_eq!((batch.rewrapped, batch.left), (7, begun.left - 7));
    // The old key is needed, and stays.
    let kept = keys.retire_keks(proto::RetireKeksRequest {}).await.unwrap().into_inner().keks;
    let expected =
        proto::OldKek { name: "kek".into(), needed_by: batch.left, ..Default::default() };
    assert_eq!(kept, [expected]);
    // Somebody new is wrapped under the new key at once.
    customers.push(create(&mut desk, &iins().nth(ENROLLED).unwrap()).await);
    let now = keys.begin_kek_rotation(proto::BeginKekRotationRequest {}).await.unwrap();
    assert_eq!(now.into_inner().left, batch.left);
    gateway.kill();
    (first.position.unwrap().index, customers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_was_killed_goes_on_and_the_old_key_goes_when_nothing_needs_it() {
    let (home, _pack) = home_with_evidence();
    let mut gateway = home.serve();
    gateway.tulga_ok(&home, &["terminal", "register", TERMINAL]);
    enroll(&home, &gateway);
    let (decision, customers) = half_a_rotation(&home, &mut gateway).await;
    let data = home.data().path().to_owned();
    let (keks, before) = state_of(&data);
    assert_eq!(keks.len(), 2, "killed in the midst");

    let mut gateway = home.serve();
    let done = gateway.tulga(&home, &["keys", "rotate-kek", "--retire", "--json"]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    let done: Value = serde_json::from_slice(&done.stdout).expect(&said);
    assert_eq!(done["name"], "kek-2", "the same rotation goes on: {done}");
    assert_eq!(done["old"][0]["name"], "kek");
    assert_eq!(done["old"][0]["needed_by"], 0);
    assert!(!data.join("keys/kek").exists() && data.join("keys/kek-2").exists());
    assert!(!data.join("keys/kek-3").exists());
    let nothing = gateway.tulga(&home, &["keys", "retire-kek"]);
    assert!(String::from_utf8_lossy(&nothing.stdout).contains("no old key"), "{nothing:?}");
    // Twice more, and after a restart: who was enrolled before all of it is verified all the same.
    gateway.tulga_ok(&home, &["keys", "rotate-kek"]);
    let kept = gateway.tulga(&home, &["keys", "rotate-kek", "--retire"]);
    let kept = String::from_utf8_lossy(&kept.stdout).into_owned();
    assert!(kept.contains("kek-2 is destroyed") && kept.contains("kek-3 is destroyed"), "{kept}");
    assert!(gateway.terminate());
    let (keks, after) = state_of(&data);
    assert_eq!(keks, BTreeSet::from([done_id(&data)]));
    assert_eq!(after, before, "no keyed index changed");

    let mut gateway = home.serve();
    let mut terminal = Terminal::new(gateway.connect(&home, Role::Terminal, TERMINAL).await);
    let again = decided(&mut terminal, "AFTER").await;
    assert_eq!(again.outcome(), proto::Outcome::Approved);
    let mut auditor = AuditServiceClient::new(gateway.connect(&home, Role::Auditor, "dev").await);
    let read = proto::GetEvidenceRequest {
        index: decision,
        case_reference: "CASE-1".into(),
        ..proto::GetEvidenceRequest::default()
    };
    let evidence = auditor.get_evidence(read).await.unwrap().into_inner();
    assert_eq!(evidence.image, demo("obama2.jpg"));
    let mut desk = Desk::new(gateway.connect(&home, Role::Enroller, "dev").await);
    for (number, customer) in customers.iter().enumerate() {
        bind(&mut desk, customer, &format!("account-{number}")).await.unwrap();
    }
    let request = proto::CreateCustomerRequest { iin: IIN.into(), consent: Some(consent()) };
    let twice = desk.create_customer(request).await.unwrap_err();
    assert_eq!(reason(&twice), "REQ_EXISTS", "the number is found by the same index");
    audited(&home, &gateway);
    assert!(gateway.terminate());
}

/// The only key that is left.
fn done_id(data: &Path) -> String {
    let sql = "SELECT kek_id FROM keks WHERE retired_at IS NULL AND ended_at IS NOT NULL";
    column(&database(data), sql).remove(0)
}

/// Every step is an entry, once and in its order, and the ledger is good.
fn audited(home: &Home, gateway: &Gateway) {
    let export = home.path().join("export");
    gateway.tulga_ok(home, &["audit", "export", export.to_str().unwrap()]);
    let trust = tulga::app::trust_fingerprint(&home.data()).unwrap().to_string();
    let verified =
        home.command(&["audit", "verify", export.to_str().unwrap(), "--trust", &trust]).output();
    assert!(verified.unwrap().status.success());
    let expected = [
        ("kek_rotation_begun", "kek-2"),
        ("kek_rotated", "kek-2"),
        ("kek_retired", "kek"),
        ("kek_rotation_begun", "kek-3"),
        ("kek_rotated", "kek-3"),
        ("kek_rotation_begun", "kek-4"),
        ("kek_rotated", "kek-4"),
        ("kek_retired", "kek-2"),
        ("kek_retired", "kek-3"),
    ];
    let expected = expected.map(|(act, subject)| (act.to_owned(), subject.to_owned()));
    assert_eq!(acts(&export), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_desk_and_the_terminals_are_served_while_everything_is_wrapped_anew() {
    let site = Site::start().await;
    site.enroll(IIN, CARD, &["obama.jpg"]).await;
    let mut terminal = Terminal::new(site.terminal(TERMINAL).await);
    let mut desk = Desk::new(site.staff(Role::Enroller).await);
    let desks = tokio::spawn(async move {
        let mut made = Vec::new();
        for iin in iins().take(60) {
            let customer = create(&mut desk, &iin).await;
            bind(&mut desk, &customer, &format!("of-{iin}")).await.unwrap();
            made.push(customer);
        }
        (desk, made)
    });
    for number in 0..2 {
        let rotated = site.tulga(&["keys", "rotate-kek", "--retire"]).await;
        assert!(rotated.status.success(), "{rotated:?}");
        let decision = decided(&mut terminal, &format!("T{number}")).await;
        assert_eq!(decision.outcome(), proto::Outcome::Approved);
        // Whoever is not enrolled is answered as before, though their key was never anybody's.
        let decision = decided_of(&mut terminal, &format!("N{number}"), "nobodys-card").await;
        assert_eq!(decision.outcome(), proto::Outcome::Denied);
    }
    let (mut desk, made) = desks.await.unwrap();
    // Whoever's key was wrapped in the very moment of a change is found by the next run.
    let rotated = site.tulga(&["keys", "rotate-kek", "--retire"]).await;
    assert!(rotated.status.success(), "{rotated:?}");
    for (number, customer) in made.iter().enumerate() {
        bind(&mut desk, customer, &format!("again-{number}")).await.unwrap();
    }
    drop((desk, terminal));
    let dir = site.stopped().await;
    let (keks, _) = state_of(&dir.path().join("data"));
    assert_eq!(keks.len(), 1);
    let files = fs::read_dir(dir.path().join("data/keys")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("kek")).count(), 1);
}

fn config(data: &Path) -> Config {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    Config::from_toml(&format!(
        "[server]\ndeadline_ms = 60000\n[paths]\ndata_dir = '{}'\nmodels_dir = '{}'\n\
         [rate]\nper_terminal_per_minute = 10000\n",
        data.display(),
        root.join("models").display(),
    ))
    .unwrap()
}

/// A data folder whose vault's own keys follow from its first key-encryption key, as they did.
async fn derive_as_before(config: &Config, data: &Path) {
    init(config).unwrap();
    let vault = Vault::load(&data.join("keys/kek")).unwrap();
    let kek = vault.current_kek();
    let store = SqliteStore::open(&data.join("tulga.sqlite")).await.unwrap();
    let mut unit = store.begin().await.unwrap();
    let row = KekRow {
        ordinal: 0,
        kek_id: kek.id.clone(),
        name: kek.name,
        begun_at: UnixMillis::new(1),
        ended_at: Some(UnixMillis::new(1)),
        retired_at: None,
    };
    unit.insert_kek(&row).await.unwrap();
    for row in vault.own_rows(&config.identity.tenant, &SystemEntropy).unwrap() {
        unit.put_own_key(&row).await.unwrap();
    }
    unit.commit().await.unwrap();
    store.close().await;
}

/// Takes away what the last migration made: the database of a gateway of before.
const OF_BEFORE: [&str; 8] = [
    "DROP TRIGGER customer_keys_live",
    "DROP TRIGGER evidence_live",
    "DROP INDEX customer_keys_by_kek",
    "DROP INDEX evidence_by_kek",
    "DROP TABLE keks",
    "DROP TABLE own_keys",
    "ALTER TABLE evidence DROP COLUMN kek_id",
    "DELETE FROM _sqlx_migrations WHERE version = 14",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_before_goes_on_with_the_keys_that_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let config = config(&data);
    derive_as_before(&config, &data).await;
    let clock = || std::sync::Arc::new(tulga::clock::SystemClock);
    let rate = "[rate]\nper_terminal_per_minute = 10000\n";
    let pack = dev_pack_with("evidence_days = 365", "");
    let more = format!("policy_dir = '{}'\n{rate}", pack.path().display());
    let site = Site::again(dir, &more, clock()).await;
    site.enroll(IIN, CARD, &["obama.jpg"]).await;
    let mut terminal = Terminal::new(site.terminal(TERMINAL).await);
    let index = decided(&mut terminal, "BEFORE").await.position.unwrap().index;
    drop(terminal);
    let dir = site.stopped().await;
    let db = database(&data);
    for sql in OF_BEFORE {
        db.execute(sql, []).unwrap();
    }
    drop(db);

    let site = Site::again(dir, &more, clock()).await;
    let read = proto::GetEvidenceRequest {
        index,
        case_reference: "CASE-1".into(),
        ..proto::GetEvidenceRequest::default()
    };
    for rotations in 0..2 {
        let mut terminal = Terminal::new(site.terminal(&format!("ATM-2{rotations}")).await);
        let decision = decided(&mut terminal, "AFTER").await;
        assert_eq!(decision.outcome(), proto::Outcome::Approved, "by card, {rotations}");
        let mut auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);
        auditor.get_evidence(read.clone()).await.unwrap();
        let record = proto::GetAuditRecordRequest { index, ..Default::default() };
        auditor.get_audit_record(record).await.unwrap();
        let mut desk = Desk::new(site.staff(Role::Enroller).await);
        let request = proto::CreateCustomerRequest { iin: IIN.into(), consent: Some(consent()) };
        let twice = desk.create_customer(request).await.unwrap_err();
        assert_eq!(reason(&twice), "REQ_EXISTS", "by number, {rotations}");
        let rotated = site.tulga(&["keys", "rotate-kek", "--retire"]).await;
        assert!(rotated.status.success(), "{rotated:?}");
    }
    assert!(!data.join("keys/kek").exists() && data.join("keys/kek-3").exists());
    let dir = site.stopped().await;
    let (keks, _) = state_of(&data);
    assert_eq!(keks.len(), 1);

    // A key that rows need is missed at the start, by its id.
    let needed = data.join("keys/kek-3");
    let away = dir.path().join("away");
    fs::rename(&needed, &away).unwrap();
    assert!(App::open(&config).await.is_err());
    fs::copy(&away, data.join("keys/kek-4")).unwrap();
    fs::write(data.join("keys/kek-4"), format!("{}\n", "07".repeat(32))).unwrap();
    let refused = format!("{:#}", App::open(&config).await.err().unwrap());
    assert!(refused.contains(keks.first().unwrap()), "{refused}");
    assert!(refused.contains("put its file back"), "{refused}");
}

/// A line of `/proc/PID/FILE`.
fn line_of(gateway: &Gateway, file: &str, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{}/{file}", gateway.id())).unwrap();
    text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned()
}

#[test]
fn a_running_gateway_leaves_no_core_and_its_keys_lie_in_locked_memory() {
    let home = Home::new();
    let config = home.path().join("tulga.toml");
    let mut command = Command::new("sh");
    // Whatever the limit of whoever runs the tests is, the gateway begins with as much as it may have.
    command.args(["-c", "ulimit -c $(ulimit -H -c); exec \"$0\" \"$@\""]);
    command.arg(env!("CARGO_BIN_EXE_tulga")).arg("--config").arg(config).arg("serve");
    command.env("TULGA_LOG", "info");
    let mut gateway = home.serve_as(command);
    let limits = line_of(&gateway, "limits", "Max core file size");
    let limits: Vec<_> = limits.split_whitespace().skip(4).take(2).collect();
    assert_eq!(limits, ["0", "0"]);
    // Its own question to the kernel, after it had asked.
    let log = gateway.log();
    assert!(log.contains("memory can be neither dumped nor traced by others"), "{log}");
    assert!(!log.contains("not so:"), "{log}");
    let locked = line_of(&gateway, "status", "VmLck:");
    let is_locked = !locked.contains(" 0 kB");
    let says_so = log.contains("may be written to swap");
    assert!(is_locked != says_so, "{locked}: {log}");
    let pid = gateway.id().to_string();
    assert!(Command::new("kill").args(["-ABRT", &pid]).status().unwrap().success());
    let ended = gateway.wait();
    let signal = std::os::unix::process::ExitStatusExt::signal(&ended);
    let dumped = std::os::unix::process::ExitStatusExt::core_dumped(&ended);
    assert_eq!((signal, dumped), (Some(6), false));
    assert!(DataDir::at(home.path().join("data")).is_complete());
}
