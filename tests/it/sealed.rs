//! Captures sealed to the gateway: what opens, what does not, and what a pack may want.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::transport::Channel;
use tulga::app::{DataDir, KeyFolder};
use tulga::clock::{Clock as _, ManualClock, SystemClock};
use tulga::crypto::{SystemEntropy, length_prefixed, seal_to, sha256};
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::key_service_client::KeyServiceClient;
use tulga::proto::verification_service_client::VerificationServiceClient;
use tulga::receipt::KeyRegister;

use crate::bank::said;
use crate::envelope::{Camera, office, record};
use crate::process::{Home, has};
use crate::site::{Site, begin, demo, dev_pack_with, payload, reason, verify};

const IIN: &str = "000000300017";
const CARD: &str = "card-token-1";
const RATE: &str = "[rate]\nper_terminal_per_minute = 10000\n";

type Terminal = VerificationServiceClient<Channel>;

/// Everything that a capture is sealed for, by the words of `docs/sensors.md` and by none of the gateway's code.
#[derive(Clone)]
pub struct Sealing {
    pub context: &'static str,
    pub challenge: Vec<u8>,
    pub answer: Vec<u8>,
    pub terminal: String,
    pub key_id: String,
    pub public_key: [u8; 32],
    pub sensor: String,
    pub place: u64,
}

impl Sealing {
    pub fn of(opened: &proto::BeginCaptureResponse) -> Self {
        let key = opened.capture_key.as_ref().unwrap();
        Self {
            context: "tulga-sealed-capture-v1",
            challenge: opened.challenge.clone(),
            answer: opened.encode_to_vec(),
            terminal: "ATM-1".into(),
            key_id: key.key_id.clone(),
            public_key: key.public_key.as_slice().try_into().unwrap(),
            sensor: String::new(),
            place: 0,
        }
    }

    fn info(&self) -> Vec<u8> {
        length_prefixed(&[
            self.context.as_bytes(),
            &self.challenge,
            sha256(&self.answer).as_bytes(),
            self.terminal.as_bytes(),
            self.key_id.as_bytes(),
            self.sensor.as_bytes(),
            &self.place.to_be_bytes(),
        ])
    }

    /// What is sent in these words, of what was sealed for `bound`.
    pub fn seals(&self, image: &[u8], bound: &Self) -> proto::SealedImage {
        let sealed = seal_to(&bound.public_key, &bound.info(), image, &SystemEntropy).unwrap();
        proto::SealedImage {
            key_id: self.key_id.clone(),
            sensor_id: self.sensor.clone(),
            sealed: sealed.into(),
        }
    }
}

async fn opened(terminal: &mut Terminal, id: &str) -> proto::BeginCaptureResponse {
    terminal.begin_capture(begin(id, CARD)).await.unwrap().into_inner()
}

async fn refused(terminal: &mut Terminal, request: proto::VerifyRequest) -> String {
    reason(&terminal.verify(request).await.unwrap_err())
}

fn sent(
    id: &str,
    opened: &proto::BeginCaptureResponse,
    sealed: proto::SealedImage,
) -> proto::VerifyRequest {
    let mut request = verify(id, 1, &opened.challenge, Bytes::new());
    request.capture.as_mut().unwrap().sealed = Some(sealed);
    request
}

/// As a terminal does that seals.
fn sealed(id: &str, opened: &proto::BeginCaptureResponse, name: &str) -> proto::VerifyRequest {
    let sealing = Sealing::of(opened);
    sent(id, opened, sealing.seals(&demo(name), &sealing))
}

/// The key that is given out is signed by a receipt key of the register that the root key signed.
fn is_vouched_for(site: &Site, key: &proto::CaptureKey) {
    let files = KeyFolder::register(&DataDir::at(site.data())).unwrap();
    let register = KeyRegister::parse(&files.register).unwrap();
    let signer = register.keys().iter().find(|record| record.kid == key.signed_by).unwrap();
    let until = key.seal_until.as_ref().unwrap().unix_ms;
    let message = length_prefixed(&[
        b"tulga-capture-key-v1",
        tulga::config::Config::from_toml("").unwrap().identity.issuer.as_bytes(),
        b"DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305",
        key.key_id.as_bytes(),
        &key.public_key,
        &until.to_be_bytes(),
    ]);
    signer.public_key.verify(&message, &key.signature).unwrap();
    let days = (until - SystemClock.now().get()) / 86_400_000;
    assert!((3..7).contains(&days), "{days}");
}

type Swap = fn(&mut Sealing);

/// Each part of what a capture is sealed for, changed.
const SWAPS: [(&str, Swap); 8] = [
    ("purpose", |s| s.context = "tulga-sealed-enrolment-v1"),
    ("challenge", |s| s.challenge = vec![1; 32]),
    ("answer", |s| s.answer.push(0)),
    ("terminal", |s| s.terminal = "ATM-2".into()),
    ("key's name", |s| s.key_id = "capture-2".into()),
    ("key", |s| s.public_key = [9; 32]),
    ("sensor", |s| s.sensor = "CAM-1".into()),
    ("place", |s| s.place = 1),
];

/// One challenge for all of them: what is refused costs neither challenge nor attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_capture_opens_in_its_own_call_and_in_no_other() {
    let site = Site::start().await;
    site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let begun = opened(&mut terminal, "T1").await;
    let other = opened(&mut terminal, "T2").await;
    is_vouched_for(&site, begun.capture_key.as_ref().unwrap());
    assert_eq!(begun.capture_key, other.capture_key, "one signature for both");

    let right = Sealing::of(&begun);
    let image = demo("obama2.jpg");
    for (what, swap) in SWAPS {
        let mut bound = right.clone();
        swap(&mut bound);
        let request = sent("T1", &begun, right.seals(&image, &bound));
        assert_eq!(refused(&mut terminal, request).await, "DEV_SEALED", "{what}");
    }
    // Named otherwise than it was sealed for; and what was sealed for another call.
    let mut named = right.clone();
    let swaps: [Swap; 2] = [|s| s.key_id = "capture-2".into(), |s| s.sensor = "CAM-1".into()];
    for swap in swaps {
        swap(&mut named);
        let request = sent("T1", &begun, named.seals(&image, &right));
        assert_eq!(refused(&mut terminal, request).await, "DEV_SEALED");
    }
    let elsewhere = Sealing::of(&other);
    let request = sent("T1", &begun, elsewhere.seals(&image, &elsewhere));
    assert_eq!(refused(&mut terminal, request).await, "DEV_SEALED");
    // Altered, cut short, nothing in it.
    let good = right.seals(&image, &right);
    for place in [0, 31, 32, 100, good.sealed.len() - 1] {
        let mut bytes = good.sealed.to_vec();
        bytes[place] ^= 1;
        let request =
            sent("T1", &begun, proto::SealedImage { sealed: bytes.into(), ..good.clone() });
        assert_eq!(refused(&mut terminal, request).await, "DEV_SEALED", "{place}");
    }
    let cut = proto::SealedImage { sealed: good.sealed.slice(..200), ..good.clone() };
    assert_eq!(refused(&mut terminal, sent("T1", &begun, cut)).await, "DEV_SEALED");
    bad_fields_are_refused(&mut terminal, &begun, &right).await;

    let request = sent("T1", &begun, good);
    let approved = terminal.verify(request.clone()).await.unwrap().into_inner();
    assert_eq!(said(&approved), (proto::Outcome::Approved, vec![]));
    assert_eq!(approved.attempts_left, 2, "what was refused counted as an attempt");
    assert_eq!(record(&site, &approved).await["sealed_to"], json!(right.key_id));
    // The answer was lost: the same bytes have the same answer; sealed again they are another call.
    assert_eq!(terminal.verify(request).await.unwrap().into_inner(), approved);
    let again = sent("T1", &begun, right.seals(&image, &right));
    assert_eq!(refused(&mut terminal, again).await, "REQ_ID_REUSED");
    // Whatever is in it is looked at like anything else.
    let rubbish = elsewhere.seals(b"no picture", &elsewhere);
    assert_eq!(refused(&mut terminal, sent("T2", &other, rubbish)).await, "CAP_UNREADABLE");
    let third = opened(&mut terminal, "T3").await;
    let denied = terminal.verify(sealed("T3", &third, "biden.jpg")).await.unwrap().into_inner();
    assert_eq!(denied.outcome(), proto::Outcome::Denied);
    let fourth = opened(&mut terminal, "T4").await;
    let open = verify("T4", 1, &fourth.challenge, demo("obama2.jpg"));
    let approved = terminal.verify(open).await.unwrap().into_inner();
    assert_eq!(record(&site, &approved).await["sealed_to"], Value::Null);
    drop(terminal);
    site.finish().await;
}

async fn bad_fields_are_refused(
    terminal: &mut Terminal,
    begun: &proto::BeginCaptureResponse,
    right: &Sealing,
) {
    let mut both = sent("T1", begun, right.seals(b"x", right));
    both.capture.as_mut().unwrap().image = demo("obama2.jpg");
    assert_eq!(refused(terminal, both).await, "REQ_INVALID");
    // One byte more than a picture may have, found out before it is opened; none at all, once it is.
    let large = right.seals(&vec![0; 4 * 1024 * 1024 + 1], right);
    assert_eq!(refused(terminal, sent("T1", begun, large)).await, "CAP_UNREADABLE");
    let empty = right.seals(b"", right);
    assert_eq!(refused(terminal, sent("T1", begun, empty)).await, "REQ_INVALID");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sensor_that_signs_may_seal_what_it_signed() {
    let site = Site::start().await;
    site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let camera = Camera::new("ATM-1", "CAM-1", "cam-1", 7);
    let mut admin = office(&site).await;
    admin.register_sensor(camera.registration(proto::SensorLevel::SecureElement)).await.unwrap();
    let begun = opened(&mut terminal, "T1").await;
    let image = demo("obama2.jpg");
    let own = Sealing { sensor: "CAM-1".into(), ..Sealing::of(&begun) };
    let others = Sealing { sensor: "CAM-2".into(), ..own.clone() };
    let signed = camera.says(&begun, 1, &image);
    let with = |sealed: proto::SealedImage| proto::VerifyRequest {
        envelopes: vec![camera.signs(&signed, &signed)],
        ..sent("T1", &begun, sealed)
    };
    // Sealed by a sensor that did not sign; and another picture than the signed one.
    let request = with(others.seals(&image, &others));
    assert_eq!(refused(&mut terminal, request).await, "DEV_SEALED");
    let request = with(own.seals(&demo("biden.jpg"), &own));
    assert_eq!(refused(&mut terminal, request).await, "DEV_SIGNATURE");
    let approved = terminal.verify(with(own.seals(&image, &own))).await.unwrap().into_inner();
    assert_eq!(said(&approved), (proto::Outcome::Approved, vec![]));
    // The receipt commits to the picture, sealed or not.
    let envelope = sha256(&signed.bytes()).labelled();
    assert_eq!(payload(&approved.receipt_jws)["terminal"]["envelope"], json!(envelope));
    drop((terminal, admin));
    site.finish().await;
}

/// The pack `dev` with a line more among its bars.
pub fn pack_with_bar(line: &str) -> TempDir {
    let pack = dev_pack_with("", "");
    let manifest = pack.path().join("pack.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replacen("[bars]\n", &format!("[bars]\n{line}\n"), 1)).unwrap();
    pack
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_captures_are_refused_where_the_pack_wants_sealed_ones() {
    let pack = pack_with_bar("capture_sealed = true");
    let site = Site::with(&format!("policy_dir = '{}'\n{RATE}", pack.path().display())).await;
    site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let begun = opened(&mut terminal, "T1").await;
    // The right face, a wrong one and no picture: one answer, and nothing is learnt.
    for image in [demo("obama2.jpg"), demo("biden.jpg"), Bytes::from_static(b"no picture")] {
        let request = verify("T1", 1, &begun.challenge, image);
        assert_eq!(refused(&mut terminal, request).await, "DEV_UNSEALED");
    }
    let approved = terminal.verify(sealed("T1", &begun, "obama2.jpg")).await.unwrap().into_inner();
    assert_eq!((approved.outcome(), approved.attempts_left), (proto::Outcome::Approved, 2));
    drop(terminal);
    site.finish().await;
    let pack = pack_with_bar("capture_sealed = \"yes\"");
    assert!(tulga::policy::PolicyPack::load(pack.path()).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_key_opens_for_its_overlap_and_a_restart_changes_none() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let site = Site::at(RATE, Arc::clone(&clock) as _).await;
    clock.advance_millis(SystemClock.now().get() - clock.now().get());
    site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let mut admin = KeyServiceClient::new(site.staff(Role::KeyCustodian).await);
    let rotate = |overlap_s| proto::RotateCaptureKeyRequest { overlap_s };
    let status = admin.rotate_capture_key(rotate(86_401)).await.unwrap_err();
    assert_eq!(reason(&status), "REQ_INVALID");

    let first = opened(&mut terminal, "T1").await;
    let second = opened(&mut terminal, "T2").await;
    let rotated = admin.rotate_capture_key(rotate(30)).await.unwrap().into_inner();
    let entry = payload(&rotated.receipt_jws);
    assert_eq!(
        (&entry["act"], &entry["subject"]),
        (&json!("capture_key_rotated"), &json!(rotated.key_id),)
    );
    let third = opened(&mut terminal, "T3").await;
    let key = third.capture_key.clone().unwrap();
    assert_eq!(key.key_id, rotated.key_id);
    assert_ne!(Some(&key.public_key), first.capture_key.as_ref().map(|old| &old.public_key));
    is_vouched_for(&site, &key);
    // Begun before, sent within the overlap and after it.
    assert!(terminal.verify(sealed("T1", &first, "obama2.jpg")).await.is_ok());
    assert!(terminal.verify(sealed("T3", &third, "obama2.jpg")).await.is_ok());
    clock.advance_millis(30_000);
    let late = sealed("T2", &second, "obama2.jpg");
    assert_eq!(refused(&mut terminal, late).await, "DEV_SEALED");
    drop((terminal, admin));

    let dir = site.stopped().await;
    let site = Site::again(dir, RATE, Arc::clone(&clock) as _).await;
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-2").await);
    let begun = opened(&mut terminal, "T4").await;
    assert_eq!(begun.capture_key.as_ref().unwrap().public_key, key.public_key);
    let sealing = Sealing { terminal: "ATM-2".into(), ..Sealing::of(&begun) };
    let request = sent("T4", &begun, sealing.seals(&demo("obama2.jpg"), &sealing));
    assert!(terminal.verify(request).await.is_ok());
    drop(terminal);
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_seals_and_changes_the_key() {
    let pack = pack_with_bar("capture_sealed = true");
    let site = Site::with(&format!("policy_dir = '{}'\n{RATE}", pack.path().display())).await;
    site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    assert!(site.tulga(&["terminal", "register", "ATM-7"]).await.status.success());
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/obama2.jpg");
    let verify = ["verify", picture.to_str().unwrap(), "--terminal", "ATM-7", "--card", CARD];
    let open = site.tulga(&verify).await;
    assert!(String::from_utf8_lossy(&open.stderr).contains("DEV_UNSEALED"), "{open:?}");
    let rotated = site.tulga(&["keys", "rotate-capture-key", "--json"]).await;
    let rotated: Value = serde_json::from_slice(&rotated.stdout).unwrap();
    let sealed = site.tulga(&[&verify[..], &["--seal"]].concat()).await;
    let said = String::from_utf8_lossy(&sealed.stdout).into_owned();
    assert!(sealed.status.success() && said.contains("APPROVED"), "{sealed:?}");
    assert!(rotated["key_id"].as_str().unwrap().starts_with("capture-"));
    site.finish().await;
}

/// Another language's HPKE, by the documents alone: it verifies the key, seals, and is approved.
#[test]
fn a_python_terminal_seals_and_the_gateway_opens() {
    let imports =
        ["-c", "import grpc, grpc_tools; from cryptography.hazmat.primitives import hpke"];
    let how = "get it with: pip install grpcio grpcio-tools 'cryptography>=50'";
    if !has("python3", &imports, how) {
        return;
    }
    let home = Home::new();
    let gateway = home.serve();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("python3")
        .arg(root.join("tests/foreign/seal.py"))
        .arg(root.join("proto"))
        .arg(&gateway.address)
        .arg(home.data().path())
        .arg(root.join("demo"))
        .arg("localhost/tulga")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "ok: a sealed capture was approved");
}

/// The document's own program, run by another language's libraries, opens and prints the document's vector.
#[test]
fn the_documents_python_agrees_with_its_vector_of_sealing() {
    let import = ["-c", "from cryptography.hazmat.primitives import hpke"];
    if !has("python3", &import, "get it with: pip install 'cryptography>=50'") {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sensors.md");
    let text = std::fs::read_to_string(path).unwrap();
    let program = text.split("```python\n").nth(2).unwrap().split("```").next().unwrap();
    let sealed = text.split("\nsealed ").nth(1).unwrap().lines().next().unwrap();
    let output = Command::new("python3").args(["-c", program, sealed]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed.lines().count(), 5, "{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.ends_with("opened the picture\n"), "{printed}");
    for line in printed.lines().take(4) {
        assert!(text.contains(&format!("\n{line}\n")), "{line}");
    }
}
