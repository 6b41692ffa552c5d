//! Decisions made again from what was kept of them: to the last bit, within the tolerance, or not at all; and
//! whatever somebody altered is found.

mod altered;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use tempfile::TempDir;
use tonic::Code;
use tonic::transport::Channel;
use tulga::capture::encode_grey_png;
use tulga::inference::Isa;
use tulga::pki::Role;
use tulga::policy::PackFiles;
use tulga::proto::audit_service_client::AuditServiceClient;
use tulga::proto::enrollment_service_client::EnrollmentServiceClient;
use tulga::proto::retention_service_client::RetentionServiceClient;
use tulga::proto::verification_service_client::VerificationServiceClient;
use tulga::proto::{self, Agreement, ReplayEnd, ReplayVerdict};
use tulga::synth::Finger;

use altered::Intruder;

use crate::bank::{Bank as AppBank, awaiting};
use crate::process::{Gateway, Home};
use crate::rules::{Ask, Bank, bind};
use crate::site::{
    SetClock, Site, begin, consent, demo, dev_pack_with, field, payload, reason, verify,
};

const IIN: &str = "000000300017";
const CARD: &str = "card-token-1";
const OTHER_IIN: &str = "000000300029";
const OTHER_CARD: &str = "card-token-2";
const MORNING: &str = "2026-11-21T02:00:00.000Z";
const RATE: &str = "[rate]\nper_terminal_per_minute = 10000\n";
const INDEX: i32 = proto::FingerPosition::RightIndex as i32;

type Terminal = VerificationServiceClient<Channel>;
type Auditor = AuditServiceClient<Channel>;
type Desk = EnrollmentServiceClient<Channel>;

/// A pack that has captures kept for a year.
fn keeping() -> TempDir {
    dev_pack_with("evidence_days = 365", "")
}

fn by(pack: &TempDir) -> String {
    format!("policy_dir = '{}'\n{RATE}", pack.path().display())
}

fn index_of(decision: &proto::Decision) -> u64 {
    decision.position.as_ref().unwrap().index
}

async fn decided(terminal: &mut Terminal, id: &str, card: &str, face: &str) -> proto::Decision {
    let opened = terminal.begin_capture(begin(id, card)).await.unwrap().into_inner();
    let asked = verify(id, 1, &opened.challenge, demo(face));
    terminal.verify(asked).await.unwrap().into_inner()
}

async fn replay(auditor: &mut Auditor, index: u64) -> proto::ReplayResponse {
    replay_of(auditor, "", index).await
}

/// The same of a ledger that need not be the open one.
async fn replay_of(auditor: &mut Auditor, origin: &str, index: u64) -> proto::ReplayResponse {
    let (case_reference, origin) = ("CASE-1".into(), origin.into());
    let request = proto::ReplayRequest { index, case_reference, origin };
    auditor.replay(request).await.unwrap().into_inner()
}

/// What was found, by its names.
fn findings(replay: &proto::ReplayResponse) -> Vec<&str> {
    let found = replay.compared.iter().filter(|it| it.agreement() == Agreement::Different);
    found.map(|it| it.name.as_str()).collect()
}

fn compared<'a>(replay: &'a proto::ReplayResponse, name: &str) -> &'a proto::Compared {
    replay.compared.iter().find(|it| it.name == name).unwrap_or_else(|| panic!("no {name}"))
}

fn assert_same(replay: &proto::ReplayResponse) {
    assert_eq!(findings(replay), Vec::<&str>::new());
    assert_eq!(replay.verdict(), ReplayVerdict::Same);
    assert_eq!((replay.end(), &replay.then), (ReplayEnd::Unspecified, &replay.now));
}

/// It found this and nothing else.
fn assert_found(replay: &proto::ReplayResponse, name: &str, what: &str) {
    assert_eq!(replay.verdict(), ReplayVerdict::Different, "{name}: {what}");
    assert_eq!(findings(replay), [name], "{what}");
    assert_eq!(compared(replay, name).found, what);
    // A replay that stopped here told nothing of the decision's numbers.
    assert!(!replay.compared.iter().any(|it| it.name.ends_with(".score")), "{name}");
}

fn assert_ended(replay: &proto::ReplayResponse, end: ReplayEnd) {
    assert_eq!(findings(replay), Vec::<&str>::new(), "{end:?}");
    assert_eq!((replay.verdict(), replay.end()), (ReplayVerdict::Ended, end));
    assert!(!replay.compared.iter().any(|it| it.name == "outcome"), "{end:?}");
}

async fn audit_record(auditor: &mut Auditor, index: u64) -> Value {
    let record = auditor
        .get_audit_record(proto::GetAuditRecordRequest { index, origin: String::new() })
        .await
        .unwrap();
    serde_json::from_slice(&record.into_inner().record).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_is_made_again_to_the_last_bit() {
    let pack = keeping();
    let site = Site::at(&by(&pack), SetClock::at(MORNING)).await;
    site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    let mut terminal = Terminal::new(site.terminal("ATM-1").await);
    let mut auditor = Auditor::new(site.staff(Role::Auditor).await);
    let genuine = decided(&mut terminal, "T1", CARD, "obama2.jpg").await;
    let impostor = decided(&mut terminal, "T2", CARD, "biden.jpg").await;
    let nobody = decided(&mut terminal, "T3", "card-of-nobody", "biden.jpg").await;
    assert_eq!(genuine.outcome(), proto::Outcome::Approved);
    assert_eq!(impostor.outcome(), proto::Outcome::Denied);

    for (decision, outcome) in [(&genuine, "APPROVED"), (&impostor, "DENIED")] {
        let index = index_of(decision);
        let found = replay(&mut auditor, index).await;
        assert_same(&found);
        assert_eq!(compared(&found, "outcome").found, outcome);
        let record = audit_record(&mut auditor, index).await;
        assert_eq!(record["scores"]["face.score"], compared(&found, "face.score").recorded);
        assert!(record["scores"]["face.score"].as_str().unwrap().parse::<f32>().is_ok());
        let by = found.now.clone().unwrap();
        assert_eq!(record["looked_by"]["build"], by.build);
        assert_eq!(record["looked_by"]["isa"], by.isa);
        assert!(by.isa.starts_with(Isa::chosen().unwrap().word()), "{}", by.isa);
        // What the models and rules do not find out is named.
        for name in ["customer", "attempts_in_transaction", "holder_verification"] {
            assert!(found.as_recorded.iter().any(|it| it == name), "{name}");
        }
        // Whoever replays reads the captures, and the ledger says so.
        let selector = found.read_position.clone().unwrap().index;
        let selector = Some(proto::get_receipt_request::Selector::Index(selector));
        let entry = auditor
            .get_receipt(proto::GetReceiptRequest { selector, origin: String::new() })
            .await
            .unwrap();
        let body = payload(&entry.into_inner().receipt_jws);
        assert_eq!(
            (&body["act"], &body["subject"]),
            (&"evidence_read".into(), &format!("entry {index}").into())
        );
    }
    // Compared with nobody, so nothing was kept; an entry that is no decision; an entry that is not there.
    assert_ended(&replay(&mut auditor, index_of(&nobody)).await, ReplayEnd::NeverKept);
    let none = replay(&mut auditor, 0).await;
    assert_ended(&none, ReplayEnd::NoDecision);
    assert_eq!(none.read_position, None);
    let far = proto::ReplayRequest {
        index: 1_000_000,
        case_reference: "CASE-1".into(),
        origin: String::new(),
    };
    assert_eq!(reason(&auditor.replay(far).await.unwrap_err()), "REQ_NOT_FOUND");
    let bare = proto::ReplayRequest {
        index: index_of(&genuine),
        case_reference: String::new(),
        origin: String::new(),
    };
    let status = auditor.replay(bare.clone()).await.unwrap_err();
    assert_eq!((reason(&status), field(&status)), ("REQ_INVALID".into(), "case_reference".into()));
    let mut admin = Auditor::new(site.staff(Role::Admin).await);
    let status = admin.replay(bare).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::PermissionDenied, "ROLE_NOT_ALLOWED")
    );

    at_the_command_line(&site, index_of(&genuine), index_of(&nobody)).await;
    drop((terminal, auditor, admin));
    site.finish().await;
}

async fn at_the_command_line(site: &Site, genuine: u64, nobody: u64) {
    let (genuine, nobody) = (genuine.to_string(), nobody.to_string());
    let said = site.tulga(&["audit", "replay", &genuine, "--case", "CASE-1"]).await;
    let text = String::from_utf8(said.stdout).unwrap();
    assert_eq!(said.status.code(), Some(0), "{text}");
    for part in ["face.score", "bit for bit", "Taken as recorded", "isa "] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let said = site.tulga(&["audit", "replay", &genuine, "--case", "CASE-1", "--json"]).await;
    let json: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!((&json["verdict"], &json["end"]), (&"same".into(), &Value::Null));
    assert!(json["compared"].as_array().unwrap().iter().all(|it| it["agreement"] == "same"));
    let said = site.tulga(&["audit", "replay", &nobody, "--case", "CASE-1"]).await;
    let text = String::from_utf8(said.stdout).unwrap();
    assert_eq!(said.status.code(), Some(66), "{text}");
    assert!(text.contains("NOT REPLAYED: no captures were kept"), "{text}");
    let said = site.tulga(&["audit", "replay", &genuine, "--case", "two words"]).await;
    assert_eq!(said.status.code(), Some(1));
}

fn print(seed: u64, impression: u64) -> Bytes {
    encode_grey_png(&Finger::new(seed).impression(impression)).unwrap().into()
}

/// The bare pixels of an impression, as a scanner without a file format gives them.
fn bare(seed: u64, impression: u64) -> proto::Capture {
    let picture = Finger::new(seed).impression(impression);
    proto::Capture {
        image: picture.pixels().to_vec().into(),
        pixels_per_inch: Some(picture.pixels_per_inch().into()),
        raw_size: Some(proto::RawSize { width: picture.width(), height: picture.height() }),
        ..proto::Capture::default()
    }
}

async fn create(desk: &mut Desk, iin: &str, card: &str) -> String {
    let request = proto::CreateCustomerRequest { iin: iin.into(), consent: Some(consent()) };
    let customer_id = desk.create_customer(request).await.unwrap().into_inner().customer_id;
    let bind = proto::BindTokenRequest {
        customer_id: customer_id.clone(),
        kind: proto::TokenKind::Card.into(),
        token: card.into(),
        expires_at: None,
    };
    desk.bind_token(bind).await.unwrap();
    customer_id
}

/// Enrols a face and a finger.
async fn enroll_both(desk: &mut Desk, seed: u64) -> String {
    let customer_id = create(desk, IIN, CARD).await;
    let face = proto::AddCaptureRequest {
        customer_id: customer_id.clone(),
        image: demo("obama.jpg"),
        language: "en".into(),
        ..proto::AddCaptureRequest::default()
    };
    assert!(desk.add_capture(face.clone()).await.unwrap().into_inner().accepted);
    for impression in 1..=3 {
        let finger = proto::AddCaptureRequest {
            image: print(seed, impression),
            modality: proto::Modality::Finger.into(),
            finger_position: INDEX,
            ..face.clone()
        };
        assert!(desk.add_capture(finger).await.unwrap().into_inner().accepted);
    }
    let request = proto::ActivateRequest { customer_id: customer_id.clone() };
    let answer = desk.activate(request).await.unwrap().into_inner();
    assert_eq!(answer.status(), proto::CustomerStatus::Active);
    customer_id
}

/// Captures at the terminal, of what they say they are; 0 is the face.
async fn shown(
    terminal: &mut Terminal,
    id: &str,
    captures: Vec<(i32, proto::Capture)>,
) -> proto::Decision {
    let mut asked = captures.iter().map(|(position, _)| {
        let modality = if *position == 0 { proto::Modality::Face } else { proto::Modality::Finger };
        proto::Characteristic { modality: modality.into(), finger_position: *position }
    });
    let first = asked.next().unwrap();
    let request = proto::BeginCaptureRequest {
        modality: first.modality,
        finger_position: first.finger_position,
        further: asked.collect(),
        ..begin(id, CARD)
    };
    let challenge = terminal.begin_capture(request).await.unwrap().into_inner().challenge;
    let mut captures = captures.into_iter().map(|(_, capture)| capture);
    let mut request = verify(id, 1, &challenge, Bytes::new());
    request.capture = captures.next();
    request.further = captures.collect();
    terminal.verify(request).await.unwrap().into_inner()
}

fn of_face(name: &str) -> (i32, proto::Capture) {
    (0, proto::Capture { image: demo(name), ..proto::Capture::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finger_beside_a_face_is_replayed_with_what_was_declared_of_it() {
    let pack = keeping();
    let site = Site::at(&by(&pack), SetClock::at(MORNING)).await;
    let mut desk = Desk::new(site.staff(Role::Enroller).await);
    enroll_both(&mut desk, 1).await;
    let mut terminal = Terminal::new(site.terminal("ATM-1").await);
    let mut auditor = Auditor::new(site.staff(Role::Auditor).await);

    let both = shown(&mut terminal, "T1", vec![(INDEX, bare(1, 8)), of_face("obama2.jpg")]).await;
    assert_eq!(both.outcome(), proto::Outcome::Approved, "{:?}", both.reasons);
    let found = replay(&mut auditor, index_of(&both)).await;
    assert_same(&found);
    for name in [
        "face.sface",
        "face.dlib",
        "face.score",
        "face.ratio",
        "right-index.score",
        "right-index.ratio",
    ] {
        assert!(!compared(&found, name).found.is_empty());
    }
    assert_eq!(compared(&found, "modality").found, "face+finger");
    // The evidence that is shown is the face's, though the finger came first.
    let request = proto::GetEvidenceRequest {
        index: index_of(&both),
        case_reference: "CASE-1".into(),
        origin: String::new(),
    };
    let evidence = auditor.get_evidence(request).await.unwrap().into_inner();
    assert_eq!(evidence.image, demo("obama2.jpg"));
    assert_eq!(evidence.media_type, "image/jpeg");

    let alone = shown(&mut terminal, "T2", vec![(INDEX, bare(1, 9))]).await;
    let stranger = shown(&mut terminal, "T3", vec![(INDEX, bare(77, 1))]).await;
    assert_eq!(stranger.outcome(), proto::Outcome::Denied);
    for decision in [&alone, &stranger] {
        let found = replay(&mut auditor, index_of(decision)).await;
        assert_same(&found);
        assert_eq!(compared(&found, "receipt.bio.modality").found, "finger");
    }
    let request = proto::GetEvidenceRequest {
        index: index_of(&alone),
        case_reference: "CASE-1".into(),
        origin: String::new(),
    };
    let evidence = auditor.get_evidence(request).await.unwrap().into_inner();
    assert_eq!(evidence.image, bare(1, 9).image);
    assert_eq!(evidence.media_type, "image/x-grey8");
    drop((desk, terminal, auditor));
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_final_decision_is_replayed_from_the_captures_of_its_first() {
    let mut bank = AppBank::open("").await;
    let mut auditor = Auditor::new(bank.site.staff(Role::Auditor).await);
    let first = bank.stepped_up("T1").await;
    let found = replay(&mut auditor, index_of(&first)).await;
    assert_same(&found);
    assert_eq!(compared(&found, "outcome").found, "STEP_UP");
    let pending = bank.pending().await.remove(0);
    let decline = proto::DeclineRequest { confirmation_id: pending.confirmation_id };
    bank.app.decline(decline).await.unwrap();
    let awaited = bank.terminal.await_decision(awaiting("T1", 1, 1_000)).await.unwrap();
    let last = awaited.into_inner().decision.unwrap();
    assert_eq!(last.outcome(), proto::Outcome::Denied);

    let found = replay(&mut auditor, index_of(&last)).await;
    assert_same(&found);
    // The rules ask again; that the customer refused is as it was recorded.
    assert_eq!(compared(&found, "rules_outcome").found, "STEP_UP");
    assert_eq!(compared(&found, "outcome").found, "DENIED");
    assert!(found.as_recorded.iter().any(|it| it == "confirmation"));
    let selector = found.read_position.clone().unwrap().index;
    let selector = Some(proto::get_receipt_request::Selector::Index(selector));
    let entry = auditor
        .get_receipt(proto::GetReceiptRequest { selector, origin: String::new() })
        .await
        .unwrap();
    let subject = format!("entry {}", index_of(&first));
    assert_eq!(payload(&entry.into_inner().receipt_jws)["subject"], subject);
    drop(auditor);
    bank.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_known_guest_the_comparison_is_made_again_and_of_a_new_one_there_is_none() {
    const ACCOUNT: &str = "owner-account";
    let mut bank = Bank::by("kz-2026").await;
    bind(&bank, proto::TokenKind::Account, ACCOUNT).await;
    let mut auditor = Auditor::new(bank.site.staff(Role::Auditor).await);
    let deposit = || Ask {
        account: ACCOUNT.into(),
        reference: proto::customer_reference::Reference::Iin(OTHER_IIN.into()),
        face: "biden.jpg",
        consent: Some(consent()),
        ..Ask::new(proto::Operation::DepositThirdParty, 1_000_000, "KZT")
    };
    let first = bank.decide(deposit(), "T1").await;
    let again = bank.decide(deposit(), "T2").await;
    assert_ended(&replay(&mut auditor, index_of(&first)).await, ReplayEnd::NeverKept);
    let found = replay(&mut auditor, index_of(&again)).await;
    assert_same(&found);
    assert!(found.as_recorded.iter().any(|it| it == "other_guests_of_the_number"));
    assert!(!compared(&found, "receipt.subject").found.is_empty());
    drop(auditor);
    bank.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_that_has_expired_and_a_pack_that_is_gone_end_a_replay() {
    let pack = keeping();
    let clock = SetClock::at(MORNING);
    let site = Site::at(&by(&pack), Arc::clone(&clock) as _).await;
    site.enroll(IIN, CARD, &["obama.jpg"]).await;
    let mut terminal = Terminal::new(site.terminal("ATM-1").await);
    let decision = decided(&mut terminal, "T1", CARD, "obama2.jpg").await;
    let index = index_of(&decision);
    let origin = site.gateway.upgrade().unwrap().open_ledger().unwrap();
    let origin = origin.as_str();
    drop(terminal);

    // Other rules are configured, and those that decided are nowhere.
    let dir = site.stopped().await;
    let other = dev_pack_with("evidence_days = 30", "");
    let site = Site::again(dir, &by(&other), Arc::clone(&clock) as _).await;
    let mut auditor = Auditor::new(site.staff(Role::Auditor).await);
    let ended = replay(&mut auditor, index).await;
    assert_ended(&ended, ReplayEnd::PackGone);
    assert_eq!(ended.read_position, None, "no captures were read in vain");
    // They are kept with the proposals: unaltered they are found there by their hash.
    let files = PackFiles::read(pack.path()).unwrap();
    let intruder = Intruder::of(&site);
    let put = "INSERT INTO packs (hash, id, version, expires_at, files, author, author_key, \
               author_signature, proposed_at, proposed_index) \
               VALUES ($1, 'dev', 1, 0, $2, 'a', x'00', x'00', 0, 0)";
    intruder.run(put, rusqlite::params![files.hash().as_bytes(), files.to_bytes()]);
    assert_same(&replay(&mut auditor, index).await);
    let others = PackFiles::read(other.path()).unwrap();
    intruder.run("UPDATE packs SET files = $1", [others.to_bytes()]);
    let found = replay(&mut auditor, index).await;
    assert_found(&found, "pack", "others are kept in their place");
    drop(auditor);

    let dir = site.stopped().await;
    clock.set("2027-11-23T00:00:00.000Z");
    let site = Site::again(dir, &by(&pack), Arc::clone(&clock) as _).await;
    let mut auditor = Auditor::new(site.staff(Role::Auditor).await);
    // Due, and not destroyed yet. Since the start the ledger of another half-year is open.
    assert_same(&replay_of(&mut auditor, origin, index).await);
    let mut retention = RetentionServiceClient::new(site.staff(Role::Admin).await);
    let run = retention.run_retention(proto::RunRetentionRequest {}).await.unwrap().into_inner();
    assert_eq!(run.evidence_destroyed, 1);
    assert_ended(&replay_of(&mut auditor, origin, index).await, ReplayEnd::Expired);
    let entry = index.to_string();
    let asked = ["audit", "replay", &entry, "--case", "CASE-1", "--origin", origin];
    let said = site.tulga(&asked).await;
    assert_eq!(said.status.code(), Some(66));
    assert!(String::from_utf8(said.stdout).unwrap().contains("the evidence has expired"));
    drop((auditor, retention));
    site.finish().await;
}

fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    bytes
}

/// A home whose gateway keeps captures, with its own copy of the models.
fn home_with_models(pack: &TempDir) -> Home {
    let home = Home::new();
    let models = home.path().join("models");
    let theirs = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let status = std::process::Command::new("cp").arg("-a").arg(&theirs).arg(&models).status();
    assert!(status.unwrap().success());
    let path = home.path().join("tulga.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let own = format!(
        "policy_dir = \"{}\"\nmodels_dir = \"{}\"",
        pack.path().display(),
        models.display()
    );
    let line = format!("models_dir = \"{}\"", theirs.display());
    assert!(text.contains(&line));
    std::fs::write(&path, text.replace(&line, &own)).unwrap();
    home
}

fn served(home: &Home, isa: Isa) -> Gateway {
    let mut command = home.command(&["serve"]);
    command.env("TULGA_ISA", isa.word());
    home.serve_as(command)
}

fn replayed(gateway: &Gateway, home: &Home, index: u64) -> (Option<i32>, Value) {
    let index = index.to_string();
    let said = gateway.tulga(home, &["audit", "replay", &index, "--case", "CASE-1", "--json"]);
    let said = (said.status.code(), serde_json::from_slice(&said.stdout));
    (said.0, said.1.unwrap())
}

#[test]
fn other_instructions_come_within_the_tolerance_and_other_models_not_at_all() {
    let mut present = Isa::ALL.into_iter().filter(|isa| isa.is_present()).rev();
    let (best, others) = (present.next().unwrap(), present.collect::<Vec<_>>());
    let pack = keeping();
    let home = home_with_models(&pack);
    let mut gateway = served(&home, best);
    gateway.tulga_ok(&home, &["terminal", "register", "ATM-1"]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let indices = runtime.block_on(async {
        let mut desk = Desk::new(gateway.connect(&home, Role::Enroller, "dev").await);
        enroll_both(&mut desk, 1).await;
        let mut terminal = Terminal::new(gateway.connect(&home, Role::Terminal, "ATM-1").await);
        let mut indices = Vec::new();
        for (id, captures) in [
            ("T1", vec![of_face("obama2.jpg")]),
            ("T2", vec![of_face("biden.jpg")]),
            ("T3", vec![(INDEX, bare(1, 8))]),
            ("T4", vec![of_face("obama2.jpg"), (INDEX, bare(1, 9))]),
        ] {
            indices.push(index_of(&shown(&mut terminal, id, captures).await));
        }
        indices
    });
    let of = |gateway: &Gateway| {
        indices.iter().map(|index| replayed(gateway, &home, *index)).collect::<Vec<_>>()
    };
    for (code, json) in of(&gateway) {
        assert_eq!((code, &json["verdict"]), (Some(0), &"same".into()), "{json}");
    }
    assert!(gateway.terminate());
    for isa in others {
        let mut gateway = served(&home, isa);
        for (code, json) in of(&gateway) {
            let verdict = json["verdict"].as_str().unwrap();
            assert!(code == Some(0) && ["same", "within"].contains(&verdict), "{isa}: {json}");
            assert!(json["now"]["isa"].as_str().unwrap().starts_with(isa.word()));
            assert_ne!(json["now"]["isa"], json["then"]["isa"]);
            println!("{isa}: {}", differences(&json));
        }
        assert!(gateway.terminate());
    }
    // A parameter of the models is another one: nobody can say what they would have said.
    let manifest = home.path().join("models").join("manifest.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, format!("{text}\n# another version\n")).unwrap();
    let mut gateway = served(&home, best);
    for (code, json) in of(&gateway) {
        assert_eq!((code, &json["end"]), (Some(66), &"models_gone".into()), "{json}");
    }
    assert!(gateway.terminate());
    // The files themselves are checked at the start.
    let file = home.path().join("models").join("minutiae.onnx");
    let file = if file.exists() { file } else { any_model(&home.path().join("models")) };
    let bytes = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, flipped(&bytes)).unwrap();
    let said = home.command(&["check-config"]).output().unwrap();
    assert!(!said.status.success());
}

fn any_model(models: &Path) -> PathBuf {
    let files = std::fs::read_dir(models).unwrap().map(|file| file.unwrap().path());
    let mut files = files.filter(|path| path.extension().is_some_and(|it| it == "onnx"));
    files.next().unwrap()
}

/// How far the scores of a replay lie apart, by their names.
fn differences(json: &Value) -> String {
    let compared = json["compared"].as_array().unwrap();
    let scores = compared.iter().filter_map(|it| {
        let number = |key: &str| it[key].as_str()?.parse::<f64>().ok();
        let name = it["name"].as_str()?;
        let is_score = name.ends_with(".score") || name.ends_with(".ratio");
        Some((name, (number("recorded")? - number("found")?).abs())).filter(|_| is_score)
    });
    let scores: BTreeMap<_, _> = scores.collect();
    scores.iter().map(|(name, apart)| format!("{name} {apart:.1e} ")).collect()
}
