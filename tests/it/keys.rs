//! Keys that change while the gateway serves, and keys of both kinds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;
use tempfile::TempDir;
use tonic::Status;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;
use tulga::app::{App, DataDir, KeyFolder};
use tulga::config::Config;
use tulga::crypto::{Ed25519Key, PublicKey, SeededEntropy, Signer, read_private_key, sha256};
use tulga::domain::id::ReceiptId;
use tulga::domain::time::UnixMillis;
use tulga::gateway::{KeyEvent, KeyRegisterFiles, KeyStore as _};
use tulga::ledger::{TlogProof, Tree, leaf_hash};
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::key_service_client::KeyServiceClient;
use tulga::proto::terminal_service_client::TerminalServiceClient;
use tulga::receipt::{
    KeyRegister, KeyStatus, KeyUse, LedgerPlace, LedgerState, LogBlock, NewKey, ReceiptError,
    TrustFingerprint, issue, verify,
};

use crate::process::{Gateway, Home, has};
use crate::receipts::{actor, administration, draft};
use crate::site::{Site, payload};

const TERMINAL: &str = "ATM-1";

/// An act that makes one entry.
async fn act(admin: &mut TerminalServiceClient<Channel>) -> Result<(), Status> {
    let place = "Abay Ave 10, Almaty".to_owned();
    let request = proto::SetTerminalPlaceRequest { terminal_id: TERMINAL.into(), place };
    admin.set_terminal_place(request).await.map(drop)
}

async fn site_with_terminal(more: &str) -> (Site, TerminalServiceClient<Channel>) {
    let site = Site::with(&format!("[rate]\nper_terminal_per_minute = 10000\n{more}")).await;
    drop(site.terminal(TERMINAL).await);
    let admin = TerminalServiceClient::new(site.staff(Role::Admin).await);
    (site, admin)
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// `tulga keys … --json`, which must succeed.
async fn keys(site: &Site, arguments: &[&str]) -> Value {
    let output = site.tulga(&[&["keys"], arguments, &["--json"]].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What is exported now, and the receipts in it.
struct Exported {
    dir: TempDir,
    register: KeyRegister,
    receipts: Vec<String>,
}

impl Exported {
    async fn of(site: &Site) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("export");
        let output = site.tulga(&["audit", "export", to.to_str().unwrap()]).await;
        assert!(output.status.success(), "{}", said(&output));
        let register = KeyRegister::parse(&fs::read(to.join("keys.json")).unwrap()).unwrap();
        let receipts = fs::read_to_string(to.join("receipts.jws")).unwrap();
        let receipts = receipts.lines().map(str::to_owned).collect();
        Self { dir, register, receipts }
    }

    /// The whole of it is good under the trust fingerprint.
    async fn verify(&self, site: &Site) {
        let trust = tulga::app::trust_fingerprint(&DataDir::at(site.data())).unwrap().to_string();
        let dir = self.dir.path().join("export");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tulga"));
        command.args(["audit", "verify"]).arg(dir).args(["--trust", &trust]);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{}", said(&output));
        for receipt in &self.receipts {
            verify(receipt, &self.register).unwrap();
        }
    }

    fn kids(&self) -> Vec<String> {
        self.receipts.iter().map(|jws| header(jws)["kid"].as_str().unwrap().to_owned()).collect()
    }

    /// Key events in the order of the ledger: the act, the key, the hash of the register.
    fn events(&self) -> Vec<(String, String, String)> {
        let bodies = self.receipts.iter().map(|jws| payload(jws.as_bytes()));
        let acts =
            bodies.filter(|body| body["act"].as_str().is_some_and(|act| act.starts_with("key_")));
        acts.map(|body| {
            let text = |name: &str| body[name].as_str().unwrap().to_owned();
            (text("act"), text("subject"), text("details"))
        })
        .collect()
    }

    fn proof(&self, index: usize) -> String {
        let checkpoint = fs::read_to_string(self.dir.path().join("export/checkpoint")).unwrap();
        let tree: Tree = self.receipts.iter().map(|jws| leaf_hash(jws)).collect();
        let (index, size) = (index.try_into().unwrap(), tree.size());
        TlogProof::make(&tree, index, size, checkpoint).unwrap().to_text()
    }

    fn register_hash(&self) -> String {
        sha256(&fs::read(self.dir.path().join("export/keys.json")).unwrap()).labelled()
    }
}

fn header(jws: &str) -> Value {
    let part = jws.split('.').next().unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// Where the first range of a key begins that `tulga keys rotate` told of.
fn takes_over(told: &Value) -> usize {
    usize::try_from(told["origins"][0]["first_index"].as_u64().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_rotate_under_load_and_every_receipt_verifies_with_the_exported_register() {
    let (site, admin) = site_with_terminal("").await;
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (mut admin, stop) = (admin.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    act(&mut admin).await.unwrap();
                }
            })
        })
        .collect();
    // So narrow a margin that the ledger passes it, and wider ones are tried.
    let receipt = keys(&site, &["rotate", "receipt", "--margin", "0"]).await;
    assert_eq!((&receipt["kid"], &receipt["home"]), (&"receipt-2".into(), &"file".into()));
    let ledger = keys(&site, &["rotate", "ledger"]).await;
    assert_eq!(ledger["kid"], "ledger-2");
    let at = takes_over(&receipt).max(takes_over(&ledger));
    while Exported::of(&site).await.receipts.len() <= at + 20 {}
    stop.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }

    let revoked = keys(&site, &["revoke", "receipt-1"]).await;
    assert_eq!(revoked["revoked"], "receipt-1");
    let exported = Exported::of(&site).await;
    exported.verify(&site).await;
    let (kids, at) = (exported.kids(), takes_over(&receipt));
    assert!(kids[..at].iter().all(|kid| kid == "receipt-1"));
    assert!(kids[at..].iter().all(|kid| kid == "receipt-2"));
    let events: Vec<_> =
        exported.events().into_iter().map(|(act, kid, _)| format!("{act} {kid}")).collect();
    assert_eq!(events, ["key_rotated receipt-2", "key_rotated ledger-2", "key_revoked receipt-1"]);
    assert_eq!(exported.events().last().unwrap().2, exported.register_hash());
    assert_eq!(exported.register.key("receipt-1").unwrap().status, KeyStatus::Revoked);

    // What the gateway does with receipts follows the exchange: it listed and it restarts with it.
    let listed = keys(&site, &["list"]).await;
    assert_eq!(listed["keys"].as_array().unwrap().len(), 5);
    let dir = site.stopped().await;
    assert!(!dir.path().join("data/keys.install").exists());
    let again = open(&dir, "").await;
    assert_eq!(again.gateway.keys().unwrap().0.register, exported.register);
    close(again).await;
}

fn config(dir: &TempDir, more: &str) -> Config {
    Config::from_toml(&format!(
        "[paths]\ndata_dir = '{}'\nmodels_dir = '{}/models'\n{more}",
        dir.path().join("data").display(),
        env!("CARGO_MANIFEST_DIR"),
    ))
    .unwrap()
}

async fn open(dir: &TempDir, more: &str) -> App {
    App::open(&config(dir, more)).await.unwrap()
}

/// An audit that finds nothing.
fn audited(mut verify: Command) {
    let output = verify.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

/// Ends a gateway that never served.
pub async fn close(app: App) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    app.serve(listener, async {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_key_that_leaked_signs_nothing_at_a_new_index() {
    let (site, mut admin) = site_with_terminal("").await;
    let rotated = keys(&site, &["rotate", "receipt", "--margin", "2"]).await;
    let at = u64::try_from(takes_over(&rotated)).unwrap();
    for _ in 0..4 {
        act(&mut admin).await.unwrap();
    }
    let exported = Exported::of(&site).await;
    exported.verify(&site).await;
    let pem = fs::read_to_string(site.data().join("keys/receipt-1.pem")).unwrap();
    let leaked = read_private_key(&pem).unwrap();
    let origin = rotated["origins"][0]["origin"].as_str().unwrap();
    let forge = |index: u64| {
        let log = LogBlock::new(origin, index, 0, &Tree::new().root());
        let body = draft(index, administration("ledger_opened")).complete(now(), log);
        let jws = issue(&body, "receipt-1", &*leaked).unwrap().into_string();
        verify(&jws, &exported.register)
    };
    // Inside its range only the ledger itself tells which receipt is the real one.
    assert!(forge(at - 1).is_ok());
    assert!(matches!(forge(at), Err(ReceiptError::OutsideKeyRange)));
    assert!(matches!(forge(at + 1_000_000), Err(ReceiptError::OutsideKeyRange)));
    site.finish().await;
}

fn now() -> UnixMillis {
    tulga::clock::Clock::now(&tulga::clock::SystemClock)
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

/// The fault that the gateway names in the field `register`.
fn fault(status: &Status) -> String {
    status.get_details_bad_request().unwrap().field_violations.remove(0).description
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_register_that_must_not_follow_is_refused_and_changes_nothing() {
    let (site, mut admin) = site_with_terminal("").await;
    let mut desk = KeyServiceClient::new(site.staff(Role::KeyCustodian).await);
    let request = proto::PrepareKeyRequest { r#use: proto::KeyUse::Receipt.into() };
    for role in [Role::Admin, Role::Auditor] {
        let mut other = KeyServiceClient::new(site.staff(role).await);
        let refused = other.prepare_key(request).await.unwrap_err();
        assert_eq!(reason(&refused), "ROLE_NOT_ALLOWED", "{role:?}");
        other.list_keys(proto::ListKeysRequest {}).await.unwrap();
    }
    let prepared = desk.prepare_key(request).await.unwrap().into_inner();
    let old = KeyRegister::parse(&prepared.register).unwrap();
    let places: Vec<LedgerPlace> = prepared.ledgers.iter().map(place).collect();
    let new = NewKey {
        kid: prepared.kid.clone(),
        usage: KeyUse::Receipt,
        public_key: PublicKey::from_spki_pem(&prepared.spki_pem).unwrap(),
        not_before: UnixMillis::new(prepared.not_before.unwrap().unix_ms),
    };
    let root = read_private_key(&fs::read_to_string(site.data().join("keys/root.pem")).unwrap());
    let root = root.unwrap();
    let mut install = async |register: &KeyRegister, root: &dyn Signer| {
        let json = register.to_json().unwrap();
        let signature = KeyRegister::sign(json.as_bytes(), root).unwrap();
        let register = json.into_bytes();
        desk.install_register(proto::InstallRegisterRequest { register, signature }).await
    };
    let good = old.rotated(new.clone(), &places, 2).unwrap();

    // Somebody else's root key, though the register names the right one.
    let other = Ed25519Key::generate(&SeededEntropy::new(1)).unwrap();
    let status = install(&good, &other).await.unwrap_err();
    assert_eq!(reason(&status), "REQ_INVALID");
    assert!(fault(&status).contains("not signed by its trusted root key"), "{status:?}");
    // A key whose private half is not here.
    let foreign = NewKey { public_key: other.public_key(), ..new.clone() };
    let foreign = old.rotated(foreign, &places, 2).unwrap();
    assert_eq!(reason(&install(&foreign, &*root).await.unwrap_err()), "REQ_STATE");
    // A key is left out.
    let fewer = KeyRegister::new(good.keys()[2..].to_vec()).unwrap();
    assert_eq!(reason(&install(&fewer, &*root).await.unwrap_err()), "REQ_INVALID");
    let fewer = KeyRegister::new([&good.keys()[..1], &good.keys()[2..]].concat()).unwrap();
    let status = install(&fewer, &*root).await.unwrap_err();
    assert!(fault(&status).contains("receipt-1"), "{status:?}");
    // The ledger has passed the index.
    for _ in 0..3 {
        act(&mut admin).await.unwrap();
    }
    assert_eq!(reason(&install(&good, &*root).await.unwrap_err()), "REQ_STATE");

    let before = Exported::of(&site).await;
    assert_eq!((&before.register, before.events()), (&old, vec![]));
    let later = old.rotated(new, &places, 1_000).unwrap();
    let receipts = install(&later, &*root).await.unwrap().into_inner().receipt_jws;
    assert_eq!(receipts.len(), 1);
    // The same again: a retry after an answer that was lost.
    let again = install(&later, &*root).await.unwrap().into_inner();
    assert!(again.receipt_jws.is_empty());
    let after = Exported::of(&site).await;
    assert_eq!(after.register, later);
    assert_eq!(after.events().len(), 1);
    after.verify(&site).await;
    site.finish().await;
}

fn place(wire: &proto::LedgerPlace) -> LedgerPlace {
    let state = match wire.state() {
        proto::LedgerState::Closed => LedgerState::Closed,
        proto::LedgerState::Current => LedgerState::Current,
        proto::LedgerState::Ahead => LedgerState::Ahead,
        proto::LedgerState::LogOfLogs => LedgerState::LogOfLogs,
        proto::LedgerState::Unspecified => panic!("never sent"),
    };
    LedgerPlace { origin: wire.origin.clone(), state, next_index: wire.next_index }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_key_may_stay_on_another_machine() {
    let hint = "get it with: apt-get install openssl";
    if !has("openssl", &["version"], hint) {
        return;
    }
    let (site, _) = site_with_terminal("").await;
    // The custodian's machine.
    let away = tempfile::tempdir().unwrap();
    fs::rename(site.data().join("keys/root.pem"), away.path().join("root.pem")).unwrap();
    let refused = site.tulga(&["keys", "rotate", "receipt"]).await;
    assert_eq!(refused.status.code(), Some(70));
    assert!(said(&refused).contains("--root FILE"), "{}", said(&refused));

    let sheet = away.path().join("sheet");
    let sheet = sheet.to_str().unwrap();
    let written =
        site.tulga(&["keys", "rotate", "receipt", "--margin", "500", "--write", sheet]).await;
    assert_eq!(written.status.code(), Some(0), "{}", said(&written));
    // As docs/keys.md says.
    let line = "cd \"$1\" && openssl pkeyutl -sign -rawin -inkey ../root.pem -in keys.json | \
                base64 -w0 >keys.json.sig";
    let signed = Command::new("sh").args(["-c", line, "sh", sheet]).output().unwrap();
    assert!(signed.status.success(), "{}", said(&signed));
    let installed = site.tulga(&["keys", "install", sheet]).await;
    assert_eq!(installed.status.code(), Some(0), "{}", said(&installed));
    let exported = Exported::of(&site).await;
    exported.verify(&site).await;
    assert_eq!(exported.events()[0].1, "receipt-2");

    // Or it comes on a medium.
    let root = away.path().join("root.pem");
    let root = root.to_str().unwrap();
    let rotated = keys(&site, &["rotate", "ledger", "--root", root]).await;
    assert_eq!(rotated["kid"], "ledger-2");
    // A root key of somebody else's signs nothing.
    let strange = away.path().join("strange.pem");
    let other = Ed25519Key::generate(&SeededEntropy::new(5)).unwrap();
    fs::write(&strange, other.to_pkcs8_pem().as_bytes()).unwrap();
    fs::set_permissions(&strange, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let strange = strange.to_str().unwrap();
    let refused = site.tulga(&["keys", "rotate", "receipt", "--root", strange]).await;
    assert!(said(&refused).contains("is not the root key"), "{}", said(&refused));
    assert_eq!(refused.status.code(), Some(70));
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_register_installed_before_a_crash_is_in_force_after_it_and_its_entry_follows_once() {
    let (site, mut admin) = site_with_terminal("").await;
    act(&mut admin).await.unwrap();
    drop(admin);
    let exported = Exported::of(&site).await;
    let dir = site.stopped().await;
    let data = DataDir::at(dir.path().join("data"));

    // What a gateway leaves that is killed behind the renaming, before anything else.
    let folder = KeyFolder::open(&config(&dir, "")).unwrap();
    let public_key = folder.create("receipt-2", KeyUse::Receipt).unwrap();
    let old = KeyFolder::register(&data).unwrap();
    let origin = exported.register.keys()[1].origins[0].origin.clone();
    let next_index = u64::try_from(exported.receipts.len()).unwrap();
    let places: Vec<_> = exported.register.keys()[1]
        .origins
        .iter()
        .map(|range| LedgerPlace {
            origin: range.origin.clone(),
            state: if range.origin == origin { LedgerState::Current } else { LedgerState::Ahead },
            next_index: if range.origin == origin { next_index } else { 0 },
        })
        .collect();
    let new = NewKey {
        kid: "receipt-2".into(),
        usage: KeyUse::Receipt,
        public_key,
        not_before: UnixMillis::new(0),
    };
    let register = exported.register.rotated(new, &places, 1).unwrap();
    let json = register.to_json().unwrap().into_bytes();
    let root = fs::read_to_string(dir.path().join("data/keys/root.pem")).unwrap();
    let signature = KeyRegister::sign(&json, &*read_private_key(&root).unwrap()).unwrap();
    let event = KeyEvent {
        receipt: ReceiptId::new([7; 16]),
        act: "key_rotated".into(),
        kid: "receipt-2".into(),
        register: sha256(&json).labelled(),
        actor: actor(),
    };
    let files =
        KeyRegisterFiles { register: json, signature: signature.into_bytes(), root: old.root };
    folder.install(&files, std::slice::from_ref(&event)).unwrap();

    for start in 0..2 {
        let app = open(&dir, "").await;
        assert_eq!(app.gateway.keys().unwrap().0.register, register);
        let entry = app.gateway.entry_of(&event.receipt).await.unwrap();
        assert_eq!(entry.position.index, next_index, "start {start}");
        assert_eq!(payload(entry.jws.as_bytes())["act"], "key_rotated");
        close(app).await;
        assert!(!dir.path().join("data/keys.install").exists());
        assert_eq!(fs::read(dir.path().join("data/keys.json")).unwrap(), files.register);
        // Killed once more, behind the entry: it is found, and not made again.
        folder.install(&files, std::slice::from_ref(&event)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_may_be_es256_and_openssl_verifies_them() {
    if !has("openssl", &["version"], "get it with: apt-get install openssl") {
        return;
    }
    let (site, mut admin) = site_with_terminal("[keys]\nreceipt_alg = 'ES256'\n").await;
    act(&mut admin).await.unwrap();
    let exported = Exported::of(&site).await;
    exported.verify(&site).await;
    let jws = exported.receipts.last().unwrap();
    assert_eq!(header(jws)["alg"], "ES256");
    let (signed, signature) = jws.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    assert_eq!(signature.len(), 64);

    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let key = exported.register.key("receipt-1").unwrap().public_key;
    let key = file("key.pem", tulga::crypto::spki_pem(&key).as_bytes());
    let der = file("receipt.sig", &ecdsa_der(&signature));
    let input = file("input", signed.as_bytes());
    let altered = file("altered", &[signed.as_bytes(), b"x"].concat());
    let openssl = |arguments: &[&str], files: &[&PathBuf]| {
        Command::new("openssl").args(arguments).args(files).output().unwrap().status.success()
    };
    let verify = ["dgst", "-sha256", "-verify", key.to_str().unwrap(), "-signature"];
    assert!(openssl(&verify, &[&der, &input]));
    assert!(!openssl(&verify, &[&der, &altered]));

    let proof = exported.proof(exported.receipts.len() - 1);
    let (proof, receipt) = (file("proof", proof.as_bytes()), file("receipt", jws.as_bytes()));
    let trust = tulga::app::trust_fingerprint(&DataDir::at(site.data())).unwrap().to_string();
    foreign([&receipt, &proof, &exported.dir.path().join("export")], &trust);
    // The ledger's second key signs the checkpoint.
    keys(&site, &["rotate", "ledger", "--margin", "0"]).await;
    let after = Exported::of(&site).await;
    let jws = after.receipts.last().unwrap();
    let last = after.receipts.len() - 1;
    let (proof, receipt) =
        (file("proof", after.proof(last).as_bytes()), file("receipt", jws.as_bytes()));
    foreign([&receipt, &proof, &after.dir.path().join("export")], &trust);

    // From there to Ed25519 and back the ledger goes on.
    let dir = site.stopped().await;
    let app = open(&dir, "").await;
    let prepared = app.gateway.prepare_key(KeyUse::Receipt).await.unwrap();
    assert_eq!(prepared.public_key.kind(), tulga::crypto::KeyKind::Ed25519);
    close(app).await;
}

/// Verifiers that share no code with ours take the receipt, and not where a letter of it differs.
fn foreign(files: [&Path; 3], trust: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign");
    let python = ["-c", "import cryptography"];
    let has_python = has("python3", &python, "get it with: pip install cryptography");
    let scripts = [("sh", "verify_receipt.sh", true), ("python3", "verify_receipt.py", has_python)];
    for (program, script, is_there) in scripts {
        if !is_there {
            continue;
        }
        let run = |receipt: &Path| {
            let mut command = Command::new(program);
            command.arg(folder.join(script)).args([receipt, files[1], files[2]]).arg(trust);
            command.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap()
        };
        let taken = run(files[0]);
        assert!(taken.status.success(), "{script}: {}", said(&taken));
        let jws = fs::read_to_string(files[0]).unwrap();
        let (signed, signature) = jws.rsplit_once('.').unwrap();
        let first = if signature.starts_with('A') { "B" } else { "A" };
        let altered = files[0].with_extension("altered");
        fs::write(&altered, format!("{signed}.{first}{}", &signature[1..])).unwrap();
        let refused = run(&altered);
        assert_eq!(refused.status.code(), Some(1), "{script}: {}", said(&refused));
        assert!(said(&refused).contains("signature does not verify"), "{}", said(&refused));
    }
}

/// r and s as DER: `SEQUENCE { INTEGER r, INTEGER s }`.
fn ecdsa_der(fixed: &[u8]) -> Vec<u8> {
    let integer = |bytes: &[u8]| {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count().min(bytes.len() - 1);
        let mut value = bytes[zeros..].to_vec();
        if value[0] & 0x80 != 0 {
            value.insert(0, 0);
        }
        [&[2, u8::try_from(value.len()).unwrap()], value.as_slice()].concat()
    };
    let body = [integer(&fixed[..32]), integer(&fixed[32..])].concat();
    [&[0x30, u8::try_from(body.len()).unwrap()], body.as_slice()].concat()
}

/// A configuration, a data folder and a token that softhsm2 keeps in files.
pub struct TokenHome {
    pub home: Home,
}

impl TokenHome {
    const PIN: &str = "4711";

    pub fn new(holds: &str) -> Option<Self> {
        let hint = "get it with: apt-get install softhsm2";
        if !has("softhsm2-util", &["--version"], hint) {
            return None;
        }
        let arch = std::env::consts::ARCH;
        let places = [
            "/usr/lib/softhsm/libsofthsm2.so".to_owned(),
            format!("/usr/lib/{arch}-linux-gnu/softhsm/libsofthsm2.so"),
        ];
        let module = places.iter().find(|path| Path::new(path).exists()).expect("the module");
        let token = Self { home: Home::new() };
        let at = |name: &str| token.home.path().join(name);
        fs::create_dir(at("tokens")).unwrap();
        let conf = format!("directories.tokendir = {}\n", at("tokens").display());
        fs::write(at("softhsm2.conf"), conf).unwrap();
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", "bank", "--so-pin", "87654321", "--pin"])
            .arg(Self::PIN)
            .env("SOFTHSM2_CONF", at("softhsm2.conf"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", said(&made));
        token.put_pin(Self::PIN);
        let config = fs::read_to_string(at("tulga.toml")).unwrap();
        let keys = format!(
            "[keys]\nreceipt_alg = 'ES256'\n[keys.pkcs11]\nmodule = '{module}'\n\
             token_label = 'bank'\npin_file = '{}'\nholds = [{holds}]\n",
            at("pin").display()
        );
        fs::write(at("tulga.toml"), config + &keys).unwrap();
        Some(token)
    }

    fn put_pin(&self, pin: &str) {
        let path = self.home.path().join("pin");
        fs::write(&path, format!("{pin}\n")).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.command(arguments);
        command.env("SOFTHSM2_CONF", self.home.path().join("softhsm2.conf"));
        command
    }

    pub fn serve(&self) -> Gateway {
        self.home.serve_as(self.command(&["serve"]))
    }

    pub fn tulga(&self, gateway: &Gateway, arguments: &[&str]) -> Output {
        self.command(arguments).args(["--gateway", &gateway.address]).output().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_checkpoints_and_register_are_signed_in_a_token() {
    let Some(token) = TokenHome::new("'receipt', 'ledger', 'root'") else { return };
    let mut gateway = token.serve();
    let data = token.home.path().join("data");
    let files = fs::read_dir(data.join("keys")).unwrap();
    let names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names, ["kek"], "no private key but the token's");
    let checked = token.command(&["check-config"]).output().unwrap();
    assert!(said(&checked).contains("receipt-1, ES256, token"), "{}", said(&checked));

    let ok = |arguments: &[&str]| {
        let output = token.tulga(&gateway, arguments);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        output
    };
    ok(&["terminal", "register", TERMINAL]);
    let rotated = ok(&["keys", "rotate", "receipt", "--margin", "1", "--json"]);
    let rotated: Value = serde_json::from_slice(&rotated.stdout).unwrap();
    assert_eq!((&rotated["home"], &rotated["alg"]), (&"token".into(), &"ES256".into()));
    let mut admin =
        TerminalServiceClient::new(gateway.connect(&token.home, Role::Admin, "dev").await);
    for _ in 0..3 {
        act(&mut admin).await.unwrap();
    }
    let to = token.home.path().join("export");
    ok(&["audit", "export", to.to_str().unwrap()]);
    let trust = tulga::app::trust_fingerprint(&DataDir::at(&data)).unwrap();
    let trust = trust.to_string();
    audited(token.command(&["audit", "verify", to.to_str().unwrap(), "--trust", &trust]));
    let receipts = fs::read_to_string(to.join("receipts.jws")).unwrap();
    assert!(receipts.lines().all(|jws| header(jws)["alg"] == "ES256"));
    assert_eq!(header(receipts.lines().last().unwrap())["kid"], "receipt-2");
    assert!(gateway.terminate());
    // The same keys after a restart.
    let mut again = token.serve();
    assert!(again.terminate());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_token_a_gateway_issues_nothing_and_says_what_to_do() {
    let Some(token) = TokenHome::new("'receipt'") else { return };
    let mut gateway = token.serve();
    assert!(gateway.tulga(&token.home, &["terminal", "register", TERMINAL]).status.success());
    let mut admin =
        TerminalServiceClient::new(gateway.connect(&token.home, Role::Admin, "dev").await);
    act(&mut admin).await.unwrap();
    let (tokens, away) = (token.home.path().join("tokens"), token.home.path().join("away"));
    fs::rename(&tokens, &away).unwrap();
    let status = act(&mut admin).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (tonic::Code::Unavailable, "SYS_STORE".into()));
    gateway.assert_logs("[keys.pkcs11]");
    fs::rename(&away, &tokens).unwrap();
    act(&mut admin).await.unwrap();
    assert!(gateway.terminate());

    let refused = |arguments: &[&str], words: &[&str]| {
        let output = token.command(arguments).output().unwrap();
        assert!(!output.status.success());
        for word in words {
            assert!(said(&output).contains(word), "{word}: {}", said(&output));
        }
    };
    token.put_pin("0000");
    for arguments in [&["check-config"][..], &["serve"]] {
        refused(arguments, &["refuses the PIN", "pin_file"]);
    }
    token.put_pin(TokenHome::PIN);
    fs::set_permissions(
        token.home.path().join("pin"),
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    refused(&["check-config"], &["chmod 600"]);
    token.put_pin(TokenHome::PIN);
    fs::rename(&tokens, &away).unwrap();
    fs::create_dir(&tokens).unwrap();
    refused(&["check-config"], &["shows no token labelled \"bank\"", "token_label"]);
    fs::remove_dir(&tokens).unwrap();
    fs::rename(&away, &tokens).unwrap();
    assert!(token.command(&["check-config"]).output().unwrap().status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_key_stops_the_gateway_until_another_takes_over() {
    let home = Home::new();
    let mut gateway = home.serve();
    gateway.tulga_ok(&home, &["terminal", "register", TERMINAL]);
    assert!(gateway.terminate());
    fs::remove_file(home.path().join("data/keys/receipt-1.pem")).unwrap();
    let refused = home.command(&["serve"]).output().unwrap();
    assert!(!refused.status.success());
    assert!(said(&refused).contains("\"receipt-1\" is missing"), "{}", said(&refused));

    let mut gateway = home.serve_as(home.command(&["serve", "--lost-key", "receipt-1"]));
    let mut admin = TerminalServiceClient::new(gateway.connect(&home, Role::Admin, "dev").await);
    let status = act(&mut admin).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status)),
        (tonic::Code::Unavailable, "SYS_NOT_READY".into())
    );
    // The lost key cannot sign until a margin is over.
    let refused = gateway.tulga(&home, &["keys", "rotate", "receipt", "--margin", "5"]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    gateway.tulga_ok(&home, &["keys", "rotate", "receipt", "--margin", "0"]);
    act(&mut admin).await.unwrap();
    let to = home.path().join("export");
    gateway.tulga_ok(&home, &["audit", "export", to.to_str().unwrap()]);
    let trust = tulga::app::trust_fingerprint(&home.data()).unwrap().to_string();
    let verified = home.command(&["audit", "verify", to.to_str().unwrap(), "--trust", &trust]);
    audited(verified);
    assert!(gateway.terminate());
    let mut again = home.serve();
    assert!(again.terminate());
}

#[test]
fn a_register_s_root_may_be_p_256() {
    let root = tulga::crypto::P256Key::generate().unwrap();
    let mut keys = crate::receipts::Keys::new(3).register(0, None).keys().to_vec();
    keys[0].public_key = root.public_key();
    keys[0].algorithm = tulga::receipt::KeyAlgorithm::Es256;
    let json = KeyRegister::new(keys).unwrap().to_json().unwrap();
    let signature = KeyRegister::sign(json.as_bytes(), &root).unwrap();
    let trust = TrustFingerprint::of(&root.public_key());
    assert!(KeyRegister::verify(json.as_bytes(), &signature, &trust).is_ok());
    let der = STANDARD.encode(ecdsa_der(&STANDARD.decode(signature.trim()).unwrap()));
    assert!(KeyRegister::verify(json.as_bytes(), &der, &trust).is_err(), "r and s, never DER");
}
