//! Captures that a sensor signs: what is refused before a pixel is looked at, and what an auditor sees.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::transport::Channel;
use tulga::clock::{Clock, ManualClock, SystemClock};
use tulga::crypto::{PublicKey, length_prefixed, sha256, spki_pem};
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::SensorKeyState::{Replaced, Revoked};
use tulga::proto::audit_service_client::AuditServiceClient;
use tulga::proto::sensor_service_client::SensorServiceClient;
use tulga::proto::verification_service_client::VerificationServiceClient;

use crate::bank::{Ask, Bank, Device, decided, said};
use crate::process::has;
use crate::site::{Site, begin, demo, dev_pack_with, payload, reason, verify};

const IIN: &str = "000000300017";
const CARD: &str = "card-token-1";
const HOUR_MS: i64 = 3_600_000;

type Terminal = VerificationServiceClient<Channel>;
type Office = SensorServiceClient<Channel>;

/// A camera with a key, at a terminal.
pub struct Camera {
    pub terminal: &'static str,
    pub sensor: &'static str,
    pub key_id: &'static str,
    pub key: Device,
}

/// Everything that a sensor signs, by the words of `docs/sensors.md` and by none of the gateway's code.
#[derive(Clone)]
pub struct Said {
    pub context: &'static str,
    pub challenge: Vec<u8>,
    pub answer: Vec<u8>,
    pub terminal: String,
    pub sensor: String,
    pub key_id: String,
    pub modality: &'static str,
    pub captures: Vec<Bytes>,
    pub verdict: proto::SensorVerdict,
    pub counter: u64,
    pub captured_at_ms: i64,
}

impl Said {
    pub fn bytes(&self) -> Vec<u8> {
        let verdict = match self.verdict {
            proto::SensorVerdict::Unspecified => "none",
            proto::SensorVerdict::Live => "live",
            proto::SensorVerdict::Suspect => "suspect",
        };
        let answer = sha256(&self.answer);
        let (counter, at) = (self.counter.to_be_bytes(), self.captured_at_ms.to_be_bytes());
        let captures: Vec<_> = self.captures.iter().map(|image| sha256(image)).collect();
        let mut fields: Vec<&[u8]> = vec![
            self.context.as_bytes(),
            &self.challenge,
            answer.as_bytes(),
            self.terminal.as_bytes(),
            self.sensor.as_bytes(),
            self.key_id.as_bytes(),
            self.modality.as_bytes(),
        ];
        fields.extend(captures.iter().map(|hash| hash.as_bytes().as_slice()));
        fields.extend([verdict.as_bytes(), &counter[..], &at[..]]);
        length_prefixed(&fields)
    }
}

impl Camera {
    pub fn new(
        terminal: &'static str,
        sensor: &'static str,
        key_id: &'static str,
        seed: u8,
    ) -> Self {
        Self { terminal, sensor, key_id, key: Device::ed25519(seed) }
    }

    pub fn sensor_key(&self, level: proto::SensorLevel) -> proto::SensorKey {
        proto::SensorKey {
            key_id: self.key_id.into(),
            public_key_pem: spki_pem(&PublicKey::from_spki_der(&self.key.spki()).unwrap()),
            level: level.into(),
        }
    }

    pub fn registration(&self, level: proto::SensorLevel) -> proto::RegisterSensorRequest {
        proto::RegisterSensorRequest {
            terminal_id: self.terminal.into(),
            sensor_id: self.sensor.into(),
            modality: proto::Modality::Face.into(),
            key: Some(self.sensor_key(level)),
            firmware: "3.1.7".into(),
            camera: "IMX477".into(),
        }
    }

    pub fn says(&self, opened: &proto::BeginCaptureResponse, counter: u64, image: &Bytes) -> Said {
        Said {
            context: "tulga-capture-v1",
            challenge: opened.challenge.clone(),
            answer: opened.encode_to_vec(),
            terminal: self.terminal.into(),
            sensor: self.sensor.into(),
            key_id: self.key_id.into(),
            modality: "face",
            captures: vec![image.clone()],
            verdict: proto::SensorVerdict::Unspecified,
            counter,
            captured_at_ms: 1_795_226_594_123,
        }
    }

    /// The envelope of what was said, with a signature over `signed`.
    pub fn signs(&self, said: &Said, signed: &Said) -> proto::CaptureEnvelope {
        proto::CaptureEnvelope {
            sensor_id: said.sensor.clone(),
            key_id: said.key_id.clone(),
            counter: said.counter,
            captured_at_ms: said.captured_at_ms,
            verdict: said.verdict.into(),
            signature: self.key.sign(&signed.bytes()),
        }
    }

    /// The request of a terminal that does as it should.
    pub fn request(
        &self,
        id: &str,
        opened: &proto::BeginCaptureResponse,
        counter: u64,
        image: Bytes,
    ) -> proto::VerifyRequest {
        let said = self.says(opened, counter, &image);
        let envelopes = vec![self.signs(&said, &said)];
        proto::VerifyRequest { envelopes, ..verify(id, 1, &opened.challenge, image) }
    }
}

async fn opened(terminal: &mut Terminal, id: &str) -> proto::BeginCaptureResponse {
    terminal.begin_capture(begin(id, CARD)).await.unwrap().into_inner()
}

pub async fn office(site: &Site) -> Office {
    SensorServiceClient::new(site.staff(Role::Admin).await)
}

async fn refused(terminal: &mut Terminal, request: proto::VerifyRequest) -> String {
    reason(&terminal.verify(request).await.unwrap_err())
}

/// What the auditor finds of a decision.
pub async fn record(site: &Site, decision: &proto::Decision) -> Value {
    let mut auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);
    let index = decision.position.as_ref().unwrap().index;
    let request = proto::GetAuditRecordRequest { index, ..Default::default() };
    let record = auditor.get_audit_record(request).await.unwrap().into_inner().record;
    serde_json::from_slice(&record).unwrap()
}

/// What the entries of the kind say, in order: act and subject.
async fn acts(site: &Site) -> Vec<(String, String)> {
    let mut auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);
    let entries = auditor.list_receipts(proto::ListReceiptsRequest::default()).await.unwrap();
    let bodies = entries.into_inner().receipts.into_iter().map(|it| payload(&it.receipt_jws));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    bodies.map(|body| (text(&body["act"]), text(&body["subject"]))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_capture_is_approved_and_its_receipt_names_the_sensor() {
    let site = Site::start().await;
    site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let mut admin = office(&site).await;
    let camera = Camera::new("ATM-1", "CAM-1", "cam-1-a", 7);
    admin.register_sensor(camera.registration(proto::SensorLevel::SecureElement)).await.unwrap();

    let begun = opened(&mut terminal, "T1").await;
    let request = camera.request("T1", &begun, 7, demo("obama2.jpg"));
    let approved = terminal.verify(request.clone()).await.unwrap().into_inner();
    assert_eq!(said(&approved), (proto::Outcome::Approved, vec![]));
    let body = payload(&approved.receipt_jws);
    let envelope = sha256(&camera.says(&begun, 7, &demo("obama2.jpg")).bytes()).labelled();
    assert_eq!(body["terminal"]["sensor"], "cam-1-a");
    assert_eq!(body["terminal"]["envelope"], json!(envelope));
    let record = record(&site, &approved).await;
    assert_eq!(record["facts"]["device_level"], "secure_element");
    let seal = &record["signed_by"][0];
    assert_eq!((&seal["sensor"], &seal["counter"]), (&json!("CAM-1"), &json!(7)));
    assert_eq!(seal["captured_at"], "2026-11-21T02:03:14.123Z");
    // The answer was lost: the same call has the same answer, and another envelope is another call.
    assert_eq!(terminal.verify(request.clone()).await.unwrap().into_inner(), approved);
    let again = camera.request("T1", &begun, 8, demo("obama2.jpg"));
    assert_eq!(refused(&mut terminal, again).await, "REQ_ID_REUSED");

    // A sensor's own suspicion is to the rules a suspected attack, and to the terminal a face that does not match.
    let begun = opened(&mut terminal, "T2").await;
    let mut suspects = camera.says(&begun, 9, &demo("obama2.jpg"));
    suspects.verdict = proto::SensorVerdict::Suspect;
    let envelopes = vec![camera.signs(&suspects, &suspects)];
    let request = verify("T2", 1, &begun.challenge, demo("obama2.jpg"));
    let denied = terminal.verify(proto::VerifyRequest { envelopes, ..request }).await;
    let denied = denied.unwrap().into_inner();
    assert_eq!(said(&denied), (proto::Outcome::Denied, vec!["MAT_NOT_CONFIRMED"]));
    let record = self::record(&site, &denied).await;
    assert_eq!(record["reasons"], json!(["PAD_SUSPECTED"]));

    // P-256, signed as r and s and as DER, by the key that takes the first one's place.
    for (form, key_id) in [
        (&ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING, "cam-1-b"),
        (&ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING, "cam-1-c"),
    ] {
        let next =
            Camera { key_id, key: Device::p256(form), ..Camera::new("ATM-1", "CAM-1", "", 7) };
        let key = Some(next.sensor_key(proto::SensorLevel::SoftwareKey));
        let rotate =
            proto::RotateSensorRequest { sensor_id: "CAM-1".into(), key, ..Default::default() };
        admin.rotate_sensor(rotate).await.unwrap();
        let begun = opened(&mut terminal, key_id).await;
        let request = next.request(key_id, &begun, 1, demo("obama2.jpg"));
        let approved = terminal.verify(request).await.unwrap().into_inner();
        assert_eq!(payload(&approved.receipt_jws)["terminal"]["sensor"], key_id);
        assert_eq!(self::record(&site, &approved).await["facts"]["device_level"], "software_key");
    }
    let acts = acts(&site).await;
    for act in ["sensor_registered", "sensor_rotated"] {
        assert!(acts.contains(&(act.to_owned(), "CAM-1".to_owned())), "{acts:?}");
    }
    drop((terminal, admin));
    site.finish().await;
}

type Swap = fn(&mut Said);

/// Each field of what is signed, changed.
const SWAPS: [(&str, Swap); 12] = [
    ("purpose", |s| s.context = "tulga-enrolment-capture-v1"),
    ("challenge", |s| s.challenge = vec![1; 32]),
    ("answer", |s| s.answer.push(0)),
    ("terminal", |s| s.terminal = "ATM-2".into()),
    ("sensor", |s| s.sensor = "CAM-2".into()),
    ("key", |s| s.key_id = "cam-2".into()),
    ("modality", |s| s.modality = "finger"),
    ("capture", |s| s.captures = vec![demo("biden.jpg")]),
    ("one more capture", |s| s.captures.push(demo("biden.jpg"))),
    ("verdict", |s| s.verdict = proto::SensorVerdict::Live),
    ("counter", |s| s.counter += 1),
    ("time", |s| s.captured_at_ms += 1),
];

/// One challenge for all of them: what is refused costs neither challenge nor attempt, and so was not looked
/// at; in the end the right envelope is decided on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_swapped_is_refused_before_a_pixel_is_looked_at() {
    let site = Site::start().await;
    site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let mut elsewhere = VerificationServiceClient::new(site.terminal("ATM-2").await);
    let mut admin = office(&site).await;
    let camera = Camera::new("ATM-1", "CAM-1", "cam-1", 7);
    let other = Camera::new("ATM-2", "CAM-2", "cam-2", 8);
    for sensor in [&camera, &other] {
        admin.register_sensor(sensor.registration(proto::SensorLevel::SoftwareKey)).await.unwrap();
    }
    let begun = opened(&mut terminal, "T1").await;
    let image = demo("obama2.jpg");
    let right = camera.says(&begun, 5, &image);
    let sent = |envelope: proto::CaptureEnvelope, image: &Bytes| proto::VerifyRequest {
        envelopes: vec![envelope],
        ..verify("T1", 1, &begun.challenge, image.clone())
    };

    // Signed over something else than is sent.
    for (what, swap) in SWAPS {
        let mut signed = right.clone();
        swap(&mut signed);
        let request = sent(camera.signs(&right, &signed), &image);
        assert_eq!(refused(&mut terminal, request).await, "DEV_SIGNATURE", "{what}");
    }
    // A picture that cannot be decoded is not even tried while the signature is wrong.
    let rubbish = Bytes::from_static(b"\xff\xd8\xff no picture");
    let request = sent(camera.signs(&right, &right), &rubbish);
    assert_eq!(refused(&mut terminal, request).await, "DEV_SIGNATURE");
    // Another device signs in this one's name; and in its own, from another terminal.
    let request = sent(other.signs(&right, &right), &image);
    assert_eq!(refused(&mut terminal, request).await, "DEV_SIGNATURE");
    let others = other.says(&begun, 5, &image);
    let request = sent(other.signs(&others, &others), &image);
    assert_eq!(refused(&mut terminal, request).await, "DEV_SENSOR_UNKNOWN");
    for (name, swap) in [
        ("a sensor of nobody", (|s: &mut Said| s.sensor = "CAM-9".into()) as Swap),
        ("a key of nobody", |s| s.key_id = "cam-9".into()),
    ] {
        let mut said = right.clone();
        swap(&mut said);
        let request = sent(camera.signs(&said, &said), &image);
        assert_eq!(refused(&mut terminal, request).await, "DEV_SENSOR_UNKNOWN", "{name}");
    }
    // Two envelopes over one capture.
    let mut twice = sent(camera.signs(&right, &right), &image);
    twice.envelopes.push(camera.signs(&right, &right));
    assert_eq!(refused(&mut terminal, twice).await, "REQ_INVALID");
    // The right one at another terminal, and for another transaction.
    let request = sent(camera.signs(&right, &right), &image);
    assert_eq!(refused(&mut elsewhere, request.clone()).await, "CAP_STALE");
    let mut swapped = request.clone();
    swapped.host_transaction_id = "T2".into();
    assert_eq!(refused(&mut terminal, swapped).await, "CAP_STALE");

    let approved = terminal.verify(request).await.unwrap().into_inner();
    assert_eq!(said(&approved), (proto::Outcome::Approved, vec![]));
    assert_eq!(approved.attempts_left, 2, "what was refused counted as an attempt");
    drop((terminal, elsewhere, admin));
    let incidents = incidents_of(site).await;
    assert_eq!(incidents["DEV_SIGNATURE"], 14);
    assert_eq!(incidents["DEV_SENSOR_UNKNOWN"], 3);
}

/// What was counted at ATM-1, as the ledger has it after the gateway has drained.
async fn incidents_of(site: Site) -> Value {
    let dir = site.stopped().await;
    let site = Site::again(dir, "", Arc::new(SystemClock)).await;
    let mut auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);
    let entries = auditor.list_receipts(proto::ListReceiptsRequest::default()).await.unwrap();
    let entry = entries.into_inner().receipts.into_iter().find(|entry| {
        let body = payload(&entry.receipt_jws);
        body["act"] == "incidents" && body["subject"] == "ATM-1"
    });
    let index = entry.unwrap().position.unwrap().index;
    let request = proto::GetAuditRecordRequest { index, ..Default::default() };
    let record = auditor.get_audit_record(request).await.unwrap().into_inner().record;
    drop(auditor);
    site.finish().await;
    serde_json::from_slice::<Value>(&record).unwrap()["counts"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counter_is_taken_once() {
    let site = Site::start().await;
    site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let mut admin = office(&site).await;
    let camera = Camera::new("ATM-1", "CAM-1", "cam-1", 7);
    admin.register_sensor(camera.registration(proto::SensorLevel::SoftwareKey)).await.unwrap();
    // Two calls at one moment, each with a challenge of its own and one counter.
    let requests = [opened(&mut terminal, "T1").await, opened(&mut terminal, "T2").await];
    let requests = [("T1", &requests[0]), ("T2", &requests[1])]
        .map(|(id, begun)| camera.request(id, begun, 5, demo("obama2.jpg")));
    let mut beside = terminal.clone();
    let [one, two] = requests.clone();
    let (one, two) = tokio::join!(terminal.verify(one), beside.verify(two));
    let ended = [one, two];
    let approved = ended.iter().position(Result::is_ok).unwrap();
    let status = ended[1 - approved].as_ref().unwrap_err();
    assert_eq!(reason(status), "DEV_COUNTER");
    // Neither that counter nor a smaller one counts, until there is a greater one.
    let late = ["T1", "T2"][1 - approved];
    let begun = opened(&mut terminal, late).await;
    for counter in [5, 4, 1] {
        let request = camera.request(late, &begun, counter, demo("obama2.jpg"));
        assert_eq!(refused(&mut terminal, request).await, "DEV_COUNTER", "{counter}");
    }
    // A counter stays used whatever comes of the call.
    let request = camera.request(late, &begun, 6, Bytes::from_static(b"\xff\xd8\xff no picture"));
    assert_eq!(refused(&mut terminal, request).await, "CAP_UNREADABLE");
    let begun = opened(&mut terminal, late).await;
    let request = camera.request(late, &begun, 6, demo("obama2.jpg"));
    assert_eq!(refused(&mut terminal, request).await, "DEV_COUNTER");
    let request = camera.request(late, &begun, 7, demo("obama2.jpg"));
    let answer = terminal.verify(request).await.unwrap().into_inner();
    assert_eq!((answer.outcome(), answer.attempts_left), (proto::Outcome::Approved, 2));
    drop((terminal, beside, admin));
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_stopped_stops_at_once() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let more = "[rate]\nper_terminal_per_minute = 10000\n";
    let site = Site::at(more, Arc::clone(&clock) as _).await;
    clock.advance_millis(SystemClock.now().get() - clock.now().get());
    site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let mut admin = office(&site).await;
    let level = proto::SensorLevel::SecureElement;
    let old = Camera::new("ATM-1", "CAM-1", "cam-1-a", 7);
    let new = Camera::new("ATM-1", "CAM-1", "cam-1-b", 8);
    let nowhere = Camera::new("ATM-9", "CAM-1", "cam-1-a", 7);
    let status = admin.register_sensor(nowhere.registration(level)).await.unwrap_err();
    assert_eq!(reason(&status), "REQ_NOT_FOUND");
    admin.register_sensor(old.registration(level)).await.unwrap();
    let status = admin.register_sensor(new.registration(level)).await.unwrap_err();
    assert_eq!(reason(&status), "REQ_EXISTS");

    // Signed before, sent after.
    let begun = opened(&mut terminal, "T1").await;
    let request = old.request("T1", &begun, 1, demo("obama2.jpg"));
    let sensor_id = || "CAM-1".to_owned();
    let suspend = proto::SuspendSensorRequest { sensor_id: sensor_id() };
    admin.suspend_sensor(suspend.clone()).await.unwrap();
    assert_eq!(reason(&admin.suspend_sensor(suspend).await.unwrap_err()), "REQ_STATE");
    assert_eq!(refused(&mut terminal, request.clone()).await, "DEV_SENSOR_BLOCKED");
    let rotate = |camera: &Camera, overlap_s| proto::RotateSensorRequest {
        sensor_id: sensor_id(),
        key: Some(camera.sensor_key(level)),
        overlap_s,
        firmware: String::new(),
    };
    assert_eq!(reason(&admin.rotate_sensor(rotate(&new, 0)).await.unwrap_err()), "REQ_STATE");
    let resume = proto::ResumeSensorRequest { sensor_id: sensor_id() };
    admin.resume_sensor(resume.clone()).await.unwrap();
    assert_eq!(reason(&admin.resume_sensor(resume).await.unwrap_err()), "REQ_STATE");
    assert!(terminal.verify(request).await.is_ok());

    // Both count in the overlap, each by its own counter; then the new one alone.
    let status = admin.rotate_sensor(rotate(&new, 2_592_001)).await.unwrap_err();
    assert_eq!(reason(&status), "REQ_INVALID");
    assert_eq!(reason(&admin.rotate_sensor(rotate(&old, 3_600)).await.unwrap_err()), "REQ_EXISTS");
    admin.rotate_sensor(rotate(&new, 3_600)).await.unwrap();
    for (id, camera, counter) in [("T2", &old, 2), ("T3", &new, 1)] {
        let begun = opened(&mut terminal, id).await;
        let request = camera.request(id, &begun, counter, demo("obama2.jpg"));
        assert!(terminal.verify(request).await.is_ok(), "{id}");
    }
    clock.advance_millis(HOUR_MS);
    let begun = opened(&mut terminal, "T4").await;
    let late = old.request("T4", &begun, 3, demo("obama2.jpg"));
    assert_eq!(refused(&mut terminal, late).await, "DEV_SENSOR_BLOCKED");
    let request = new.request("T4", &begun, 2, demo("obama2.jpg"));
    let revoke =
        |key_id: &str| proto::RevokeSensorRequest { sensor_id: sensor_id(), key_id: key_id.into() };
    let status = admin.revoke_sensor(revoke("cam-1-a")).await.unwrap_err();
    assert_eq!(reason(&status), "REQ_NOT_FOUND", "it counts no more");
    admin.revoke_sensor(revoke("")).await.unwrap();
    assert_eq!(refused(&mut terminal, request).await, "DEV_SENSOR_BLOCKED");

    lists_the_replaced_and_the_revoked_key(&mut admin).await;
    drop((terminal, admin));
    site.finish().await;
}

async fn lists_the_replaced_and_the_revoked_key(admin: &mut Office) {
    let listed =
        admin.list_sensors(proto::ListSensorsRequest { page_size: 1, ..Default::default() });
    let first = listed.await.unwrap().into_inner();
    let page_token = first.next_page_token;
    let listed = admin.list_sensors(proto::ListSensorsRequest { page_size: 0, page_token });
    let second = listed.await.unwrap().into_inner();
    let stand = [&first.sensors[0], &second.sensors[0]].map(|it| (it.state(), it.counter));
    assert_eq!(stand, [(Replaced, 2), (Revoked, 1)]);
    assert_eq!((first.sensors[0].firmware.as_str(), second.sensors.len()), ("3.1.7", 1));
}

/// The key is looked up in the transaction of the decision too: also of the one after a confirmation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_revoked_while_the_customer_answered_decides_nothing() {
    let mut bank = Bank::open("").await;
    let mut admin = office(&bank.site).await;
    let camera = Camera::new("ATM-1", "CAM-1", "cam-1", 7);
    admin.register_sensor(camera.registration(proto::SensorLevel::SoftwareKey)).await.unwrap();
    let device = Device::ed25519(9);
    let customer = bank.customer.clone();
    let key_id = bank.bind(&device, &customer).await;
    for (id, counter, is_revoked) in [("T1", 1, false), ("T2", 2, true)] {
        let (begun, asked) = bank.opened(&Ask::new(id)).await;
        let image = asked.capture.clone().unwrap().image;
        let envelopes = camera.request(id, &begun, counter, image).envelopes;
        let asked = proto::VerifyRequest { envelopes, ..asked };
        let first = bank.terminal.verify(asked).await.unwrap().into_inner();
        assert_eq!(first.outcome(), proto::Outcome::StepUp);
        let pending = bank.pending().await.remove(0);
        bank.app.confirm(device.confirms(&key_id, &pending)).await.unwrap();
        if is_revoked {
            let revoke =
                proto::RevokeSensorRequest { sensor_id: "CAM-1".into(), key_id: String::new() };
            admin.revoke_sensor(revoke).await.unwrap();
            let awaiting = crate::bank::awaiting(id, 1, 0);
            let status = bank.terminal.await_decision(awaiting).await.unwrap_err();
            assert_eq!(reason(&status), "DEV_SENSOR_BLOCKED");
        } else {
            let last = decided(bank.waiting(id, 0).await);
            assert_eq!(last.outcome(), proto::Outcome::Approved);
            let [first, last] =
                [&first, &last].map(|it| payload(&it.receipt_jws)["terminal"].clone());
            assert_eq!((&first["sensor"], &first), (&json!("cam-1"), &last));
        }
    }
    drop(admin);
    bank.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_decided_on_is_not_decided_on_again_for_a_day() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let dir = tempfile::tempdir().unwrap();
    let site = Site::knowing(dir, 24, "", Arc::clone(&clock) as _).await;
    clock.advance_millis(SystemClock.now().get() - clock.now().get());
    site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let mut other = VerificationServiceClient::new(site.terminal("ATM-2").await);
    // What is no picture ends without a decision, and so is not remembered.
    let rubbish = Bytes::from_static(b"\xff\xd8\xff no picture");
    for _ in 0..2 {
        let begun = opened(&mut terminal, "T0").await;
        let request = verify("T0", 1, &begun.challenge, rubbish.clone());
        assert_eq!(refused(&mut terminal, request).await, "CAP_UNREADABLE");
    }
    let begun = opened(&mut terminal, "T1").await;
    let request = verify("T1", 1, &begun.challenge, demo("obama2.jpg"));
    let approved = terminal.verify(request.clone()).await.unwrap().into_inner();
    assert_eq!(terminal.verify(request).await.unwrap().into_inner(), approved, "a repeated call");
    for (terminal, id) in [(&mut terminal, "T2"), (&mut other, "T3")] {
        let begun = opened(terminal, id).await;
        let request = verify(id, 1, &begun.challenge, demo("obama2.jpg"));
        assert_eq!(refused(terminal, request).await, "DEV_REPLAY", "{id}");
        // The challenge is still open, for another look into the camera.
        let answer =
            terminal.verify(verify(id, 1, &begun.challenge, taken_anew("obama2.jpg", id))).await;
        let answer = answer.unwrap().into_inner();
        assert_eq!((answer.outcome(), answer.attempts_left), (proto::Outcome::Approved, 2));
    }
    // Of two calls at one moment with one picture one is decided.
    let begun = [opened(&mut terminal, "T4").await, opened(&mut other, "T5").await];
    let image = taken_anew("obama2.jpg", "T4");
    let (one, two) = tokio::join!(
        terminal.verify(verify("T4", 1, &begun[0].challenge, image.clone())),
        other.verify(verify("T5", 1, &begun[1].challenge, image.clone())),
    );
    let refusals = [one, two].into_iter().filter_map(Result::err).map(|status| reason(&status));
    assert_eq!(refusals.collect::<Vec<_>>(), ["DEV_REPLAY"]);
    drop((terminal, other));

    // A restart forgets nothing; a day does.
    let dir = site.stopped().await;
    let site = Site::knowing(dir, 24, "", Arc::clone(&clock) as _).await;
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-3").await);
    let ask = async |terminal: &mut Terminal, id: &str| {
        let begun = opened(terminal, id).await;
        terminal.verify(verify(id, 1, &begun.challenge, demo("obama2.jpg"))).await
    };
    clock.advance_millis(23 * HOUR_MS);
    assert_eq!(reason(&ask(&mut terminal, "T6").await.unwrap_err()), "DEV_REPLAY");
    clock.advance_millis(HOUR_MS);
    assert_eq!(ask(&mut terminal, "T6").await.unwrap().into_inner().attempts_left, 2);
    drop(terminal);
    site.finish().await;
}

/// Another file of the same picture: with a comment behind the first marker.
pub fn taken_anew(name: &str, comment: &str) -> Bytes {
    let file = demo(name);
    let length = u16::try_from(comment.len() + 2).unwrap().to_be_bytes();
    [&file[..2], &[0xff, 0xfe], &length, comment.as_bytes(), &file[2..]].concat().into()
}

/// The pack `dev` with a bar on signatures.
fn pack_that_wants(level: &str) -> TempDir {
    let pack = dev_pack_with("", "");
    let manifest = pack.path().join("pack.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let with =
        text.replacen("capture_signed = \"none\"", &format!("capture_signed = \"{level}\""), 1);
    assert_ne!(text, with);
    std::fs::write(&manifest, with).unwrap();
    pack
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsigned_captures_are_refused_where_the_pack_wants_signed_ones() {
    let pack = pack_that_wants("secure_element");
    let more = format!(
        "policy_dir = '{}'\n[rate]\nper_terminal_per_minute = 10000\n",
        pack.path().display()
    );
    let site = Site::with(&more).await;
    site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let mut admin = office(&site).await;
    let soft = Camera::new("ATM-1", "CAM-1", "cam-1-soft", 7);
    let hard = Camera::new("ATM-1", "CAM-1", "cam-1-hard", 8);
    admin.register_sensor(soft.registration(proto::SensorLevel::SoftwareKey)).await.unwrap();
    let begun = opened(&mut terminal, "T1").await;
    // The right face, a wrong one and no picture: one answer, and nothing is learnt.
    for image in [demo("obama2.jpg"), demo("biden.jpg"), Bytes::from_static(b"no picture")] {
        let request = verify("T1", 1, &begun.challenge, image);
        assert_eq!(refused(&mut terminal, request).await, "DEV_UNSIGNED");
    }
    let request = soft.request("T1", &begun, 1, demo("obama2.jpg"));
    assert_eq!(refused(&mut terminal, request).await, "DEV_UNSIGNED");
    let rotate = proto::RotateSensorRequest {
        sensor_id: "CAM-1".into(),
        key: Some(hard.sensor_key(proto::SensorLevel::SecureElement)),
        ..Default::default()
    };
    admin.rotate_sensor(rotate).await.unwrap();
    let request = hard.request("T1", &begun, 1, demo("obama2.jpg"));
    let approved = terminal.verify(request).await.unwrap().into_inner();
    assert_eq!((approved.outcome(), approved.attempts_left), (proto::Outcome::Approved, 2));
    drop((terminal, admin));
    site.finish().await;
    for wrong in ["certificate", "software", ""] {
        let pack = pack_that_wants(wrong);
        let refused = tulga::policy::PolicyPack::load(pack.path()).unwrap_err();
        assert!(refused.to_string().contains("bars.capture_signed"), "{wrong:?}: {refused}");
    }
}

/// What each shipped pack wants of captures, as it ships: the countries' a signature, `dev` none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_packs_of_countries_take_signed_captures_only() {
    for (pack, currency) in [("kz-2026", "KZT"), ("ru-cbr-2025-09", "RUB"), ("in-aeps", "INR")] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies").join(pack);
        let more =
            format!("policy_dir = '{}'\n[rate]\nper_terminal_per_minute = 10000\n", dir.display());
        let site = Site::with(&more).await;
        site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
        let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
        let camera = Camera::new("ATM-1", "CAM-1", "cam-1-soft", 7);
        let mut admin = office(&site).await;
        admin.register_sensor(camera.registration(proto::SensorLevel::SoftwareKey)).await.unwrap();
        let mut asked = begin("T1", CARD);
        let transaction = asked.transaction.as_mut().unwrap();
        transaction.amount_minor = 100_000;
        transaction.currency = currency.into();
        transaction.account_currency = currency.into();
        let begun = terminal.begin_capture(asked).await.unwrap().into_inner();
        let unsigned = verify("T1", 1, &begun.challenge, demo("obama2.jpg"));
        assert_eq!(refused(&mut terminal, unsigned).await, "DEV_UNSIGNED", "{pack}");
        // It cost neither the challenge nor a try.
        let request = camera.request("T1", &begun, 1, demo("obama2.jpg"));
        let decision = terminal.verify(request).await.unwrap().into_inner();
        let approvals = [proto::Outcome::Approved, proto::Outcome::ApprovedCapped];
        assert!(approvals.contains(&decision.outcome()), "{pack}: {:?}", decision.reasons);
        drop((terminal, admin));
        site.finish().await;
    }
    let dev = tulga::policy::PolicyPack::embedded_dev().unwrap();
    assert_eq!(dev.bars().capture_signed, tulga::policy::DeviceLevel::Certificate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sensors_are_kept_at_the_command_line() {
    let site = Site::start().await;
    drop(site.terminal("ATM-1").await);
    let dir = tempfile::tempdir().unwrap();
    let pem = |name: &str, seed: u8| {
        let path = dir.path().join(name);
        let key = PublicKey::from_spki_der(&Device::ed25519(seed).spki()).unwrap();
        std::fs::write(&path, spki_pem(&key)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (first, second) = (pem("first.pem", 7), pem("second.pem", 8));
    let run = async |arguments: &[&str]| {
        let output = site.tulga(&[&["sensor"], arguments].concat()).await;
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let register = ["register", "ATM-1", "CAM-1", "--key-id", "k1", "--key", &first];
    let (code, said) = run(&register).await;
    assert_eq!((code, said.as_str()), (Some(0), "CAM-1 is registered at ATM-1\n"));
    let (code, said) = run(&register).await;
    assert!(code == Some(1) && said.contains("REQ_EXISTS"), "{said}");
    let rotate =
        ["rotate", "CAM-1", "--key-id", "k2", "--key", &second, "--level", "secure-element"];
    assert_eq!(run(&[&rotate[..], &["--overlap-s", "60"]].concat()).await.0, Some(0));
    assert_eq!(run(&["suspend", "CAM-1"]).await.1, "CAM-1 is suspended\n");
    assert_eq!(run(&["resume", "CAM-1"]).await.1, "CAM-1 is resumed\n");
    assert_eq!(run(&["revoke", "CAM-1", "--key-id", "k1"]).await.1, "k1 of CAM-1 is revoked\n");
    let (code, said) = run(&["list"]).await;
    assert_eq!(code, Some(0));
    let rows: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    let expected = [
        ["ATM-1", "CAM-1", "k1", "face", "software_key", "revoked", "0"],
        ["ATM-1", "CAM-1", "k2", "face", "secure_element", "active", "0"],
    ];
    assert_eq!(rows, expected);
    let (code, said) =
        run(&["register", "ATM-1", "CAM-2", "--key-id", "k3", "--key", &first]).await;
    assert!(code == Some(1) && said.contains("REQ_EXISTS"), "a key is registered once: {said}");
    site.finish().await;
}

/// The document's own program, run by another language's libraries, prints the document's vector.
#[test]
fn the_documents_python_prints_its_vector() {
    if !has("python3", &["-c", "import cryptography"], "get it with: pip install cryptography") {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sensors.md");
    let text = std::fs::read_to_string(path).unwrap();
    let program = text.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let output = Command::new("python3").args(["-c", program]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed.lines().count(), 4, "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains(&format!("```\n{printed}```")), "{printed}");
}
