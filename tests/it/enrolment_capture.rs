//! Captures at enrolment that the desk's sensor signs: whom it signed for, and what counts for nobody.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use serde_json::json;
use tonic::transport::Channel;
use tulga::clock::{Clock as _, ManualClock, SystemClock};
use tulga::crypto::sha256;
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::audit_service_client::AuditServiceClient;
use tulga::proto::enrollment_service_client::EnrollmentServiceClient;
use tulga::proto::proposal_service_client::ProposalServiceClient;
use tulga::proto::verification_service_client::VerificationServiceClient;

use crate::bank::Device;
use crate::envelope::{Camera, Said, office, taken_anew};
use crate::sealed::{Sealing, pack_with_bar};
use crate::site::{Site, begin, consent, demo, payload, reason, verify};

const IIN: &str = "000000300017";
const OTHER_IIN: &str = "000000300029";
const CARD: &str = "card-token-1";
const RATE: &str = "[rate]\nper_terminal_per_minute = 10000\n";

type Desk = EnrollmentServiceClient<Channel>;

/// The enroller's desk: a terminal of that name with a camera.
async fn desk(site: &Site, level: proto::SensorLevel) -> (Desk, Camera) {
    drop(site.terminal("DESK-1").await);
    let camera = Camera::new("DESK-1", "CAM-D1", "cam-d1", 7);
    office(site).await.register_sensor(camera.registration(level)).await.unwrap();
    (EnrollmentServiceClient::new(site.staff(Role::Enroller).await), camera)
}

async fn created(desk: &mut Desk, iin: &str) -> String {
    let request = proto::CreateCustomerRequest { iin: iin.into(), consent: Some(consent()) };
    desk.create_customer(request).await.unwrap().into_inner().customer_id
}

fn asks(customer_id: &str) -> proto::BeginAddCaptureRequest {
    proto::BeginAddCaptureRequest {
        customer_id: customer_id.into(),
        terminal_id: "DESK-1".into(),
        modality: proto::Modality::Face.into(),
        finger_position: 0,
    }
}

async fn begun(desk: &mut Desk, customer_id: &str) -> proto::BeginAddCaptureResponse {
    desk.begin_add_capture(asks(customer_id)).await.unwrap().into_inner()
}

/// What the camera says of a picture taken for the challenge.
fn says(
    camera: &Camera,
    begun: &proto::BeginAddCaptureResponse,
    counter: u64,
    image: &Bytes,
) -> Said {
    Said {
        context: "tulga-enrolment-capture-v1",
        challenge: begun.challenge.clone(),
        answer: begun.encode_to_vec(),
        terminal: camera.terminal.into(),
        sensor: camera.sensor.into(),
        key_id: camera.key_id.into(),
        modality: "face",
        captures: vec![image.clone()],
        verdict: proto::SensorVerdict::Live,
        counter,
        captured_at_ms: 1_795_226_594_123,
    }
}

fn offers(
    customer_id: &str,
    begun: &proto::BeginAddCaptureResponse,
    envelope: proto::CaptureEnvelope,
    image: Bytes,
) -> proto::AddCaptureRequest {
    proto::AddCaptureRequest {
        customer_id: customer_id.into(),
        image,
        language: "en".into(),
        challenge: begun.challenge.clone(),
        envelope: Some(envelope),
        ..proto::AddCaptureRequest::default()
    }
}

/// As a desk does that does as it should.
fn signed(
    camera: &Camera,
    begun: &proto::BeginAddCaptureResponse,
    counter: u64,
    image: Bytes,
) -> proto::AddCaptureRequest {
    let said = says(camera, begun, counter, &image);
    offers(&begun.customer_id, begun, camera.signs(&said, &said), image)
}

async fn refused(desk: &mut Desk, request: proto::AddCaptureRequest) -> String {
    reason(&desk.add_capture(request).await.unwrap_err())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_capture_is_enrolled_and_its_entry_names_the_desk_and_the_envelope() {
    let site = Site::start().await;
    let (mut desk, camera) = desk(&site, proto::SensorLevel::SecureElement).await;
    let customer_id = created(&mut desk, IIN).await;
    let mut envelopes = Vec::new();
    for (counter, name) in [(3, "obama.jpg"), (4, "obama3.jpg")] {
        let begun = begun(&mut desk, &customer_id).await;
        assert_eq!((&begun.customer_id, begun.terminal_id.as_str()), (&customer_id, "DESK-1"));
        let request = signed(&camera, &begun, counter, demo(name));
        assert!(desk.add_capture(request.clone()).await.unwrap().into_inner().accepted);
        envelopes.push(sha256(&says(&camera, &begun, counter, &demo(name)).bytes()).labelled());
        // The same call again: its challenge is used.
        assert_eq!(refused(&mut desk, request).await, "CAP_STALE");
    }
    let kind = proto::TokenKind::Card.into();
    let bind = proto::BindTokenRequest {
        customer_id: customer_id.clone(),
        kind,
        token: CARD.into(),
        expires_at: None,
    };
    desk.bind_token(bind).await.unwrap();
    let activated = desk.activate(proto::ActivateRequest { customer_id }).await.unwrap();
    assert_eq!(activated.into_inner().status(), proto::CustomerStatus::Active);
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let opened = terminal.begin_capture(begin("T1", CARD)).await.unwrap().into_inner();
    let asked = verify("T1", 1, &opened.challenge, demo("obama2.jpg"));
    let decision = terminal.verify(asked).await.unwrap().into_inner();
    assert_eq!(decision.outcome(), proto::Outcome::Approved);

    let mut auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);
    let entries = auditor.list_receipts(proto::ListReceiptsRequest::default()).await.unwrap();
    let bodies = entries.into_inner().receipts.into_iter().map(|it| payload(&it.receipt_jws));
    let added: Vec<_> = bodies.filter(|body| body["act"] == "capture_added").collect();
    let details: Vec<_> = added.iter().map(|body| body["details"].clone()).collect();
    assert_eq!(details, envelopes.iter().map(|it| json!(it)).collect::<Vec<_>>());
    drop((desk, terminal, auditor));
    site.finish().await;
}

/// Where a further capture takes two people, what signed it counts where the second one approves it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_capture_that_waits_for_approval_is_signed_by_a_key_that_counts_still() {
    let dir = tempfile::tempdir().unwrap();
    let acts = "acts = ['further_capture']";
    let site = Site::by_two(dir, 0, acts, RATE, Arc::new(SystemClock)).await;
    let (mut desk, camera) = desk(&site, proto::SensorLevel::SoftwareKey).await;
    let customer_id = created(&mut desk, IIN).await;
    let first = begun(&mut desk, &customer_id).await;
    let request = signed(&camera, &first, 1, demo("obama.jpg"));
    assert!(desk.add_capture(request).await.unwrap().into_inner().accepted);
    desk.activate(proto::ActivateRequest { customer_id: customer_id.clone() }).await.unwrap();
    let further = begun(&mut desk, &customer_id).await;
    let request = signed(&camera, &further, 2, demo("obama3.jpg"));
    let proposal_id = {
        let waits = desk.add_capture(request).await.unwrap().into_inner().proposal.unwrap();
        assert_eq!(waits.what, "face");
        waits.proposal_id
    };
    let mut second = ProposalServiceClient::new(site.staff_named(Role::Admin, "dev-second").await);
    let approve = proto::ApproveProposalRequest { proposal_id };
    let sensor_id = "CAM-D1".to_owned();
    let suspend = proto::SuspendSensorRequest { sensor_id: sensor_id.clone() };
    office(&site).await.suspend_sensor(suspend).await.unwrap();
    let blocked = second.approve_proposal(approve.clone()).await.unwrap_err();
    assert_eq!(reason(&blocked), "DEV_SENSOR_BLOCKED");
    office(&site).await.resume_sensor(proto::ResumeSensorRequest { sensor_id }).await.unwrap();
    let done = second.approve_proposal(approve).await.unwrap().into_inner();

    // The entry is the desk's, and commits to what the proposal's does.
    let mut auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);
    let asked = proto::ListReceiptsRequest { page_size: 1000, ..Default::default() };
    let entries = auditor.list_receipts(asked.clone()).await.unwrap().into_inner().receipts;
    let bodies: Vec<_> = entries.iter().map(|it| payload(&it.receipt_jws)).collect();
    let proposed = bodies.iter().find(|body| body["act"] == "capture_proposed").unwrap();
    assert_eq!(payload(&done.receipt_jws)["details"], proposed["details"]);
    let of_desk = proto::ListReceiptsRequest { terminal_id: "DESK-1".into(), ..asked };
    let entries = auditor.list_receipts(of_desk).await.unwrap().into_inner().receipts;
    assert!(entries.iter().any(|it| it.receipt_jws == done.receipt_jws));
    drop((desk, second, auditor));
    site.finish().await;
}

type Swap = fn(&mut Said);

/// Each field of what is signed, changed.
const SWAPS: [(&str, Swap); 9] = [
    ("purpose", |s| s.context = "tulga-capture-v1"),
    ("challenge", |s| s.challenge = vec![1; 32]),
    ("answer", |s| s.answer.push(0)),
    ("desk", |s| s.terminal = "ATM-1".into()),
    ("modality", |s| s.modality = "finger"),
    ("capture", |s| s.captures = vec![demo("biden.jpg")]),
    ("verdict", |s| s.verdict = proto::SensorVerdict::Unspecified),
    ("counter", |s| s.counter += 1),
    ("time", |s| s.captured_at_ms += 1),
];

/// One challenge for all of them: what is refused was not looked at, and in the end the right envelope counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_swapped_at_enrolment_is_refused_before_a_pixel_is_looked_at() {
    let site = Site::start().await;
    let (mut desk, camera) = desk(&site, proto::SensorLevel::SoftwareKey).await;
    drop(site.terminal("DESK-2").await);
    let elsewhere = Camera::new("DESK-2", "CAM-D2", "cam-d2", 8);
    let register = elsewhere.registration(proto::SensorLevel::SoftwareKey);
    office(&site).await.register_sensor(register).await.unwrap();
    let customer = created(&mut desk, IIN).await;
    let other = created(&mut desk, OTHER_IIN).await;
    let (one, two) = (begun(&mut desk, &customer).await, begun(&mut desk, &other).await);
    let image = demo("obama.jpg");
    let right = says(&camera, &one, 5, &image);

    // Another customer under a valid signature: by the challenge of the first, and by one of their own.
    let envelope = camera.signs(&right, &right);
    let request = offers(&other, &one, envelope.clone(), image.clone());
    assert_eq!(refused(&mut desk, request).await, "CAP_STALE");
    let request = offers(&other, &two, envelope.clone(), image.clone());
    assert_eq!(refused(&mut desk, request).await, "DEV_SIGNATURE");
    for (what, swap) in SWAPS {
        let mut other = right.clone();
        swap(&mut other);
        let request = offers(&customer, &one, camera.signs(&right, &other), image.clone());
        assert_eq!(refused(&mut desk, request).await, "DEV_SIGNATURE", "{what}");
    }
    // Another picture, and none at all, under the right signature.
    for other in [demo("biden.jpg"), Bytes::from_static(b"\xff\xd8\xff no picture")] {
        let request = offers(&customer, &one, envelope.clone(), other);
        assert_eq!(refused(&mut desk, request).await, "DEV_SIGNATURE");
    }
    // Another device signs in this one's name, and in its own from its own desk.
    let stranger =
        Camera { key: Device::ed25519(9), ..Camera::new("DESK-1", "CAM-D1", "cam-d1", 7) };
    let request = offers(&customer, &one, stranger.signs(&right, &right), image.clone());
    assert_eq!(refused(&mut desk, request).await, "DEV_SIGNATURE");
    let theirs = says(&elsewhere, &one, 5, &image);
    let request = offers(&customer, &one, elsewhere.signs(&theirs, &theirs), image.clone());
    assert_eq!(refused(&mut desk, request).await, "DEV_SENSOR_UNKNOWN");
    // Another enroller, a finger in place of the face, a challenge of nobody; and none of it at a terminal.
    let good = signed(&camera, &one, 5, image.clone());
    let mut second = Desk::new(site.named(Role::Enroller, "second").await);
    assert_eq!(refused(&mut second, good.clone()).await, "CAP_STALE");
    let mut finger = good.clone();
    (finger.modality, finger.finger_position) = (proto::Modality::Finger.into(), 2);
    assert_eq!(refused(&mut desk, finger).await, "CAP_STALE");
    let unknown = proto::AddCaptureRequest { challenge: vec![1; 32], ..good.clone() };
    assert_eq!(refused(&mut desk, unknown).await, "CAP_STALE");
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let status = terminal.verify(verify("T1", 1, &one.challenge, image.clone())).await.unwrap_err();
    assert_eq!(reason(&status), "CAP_STALE");

    assert!(desk.add_capture(good).await.unwrap().into_inner().accepted);
    // Its counter, and a smaller one, count no more: neither here nor for the other customer.
    for counter in [5, 4] {
        let stale = signed(&camera, &two, counter, demo("biden.jpg"));
        assert_eq!(refused(&mut desk, stale).await, "DEV_COUNTER", "{counter}");
    }
    let next = signed(&camera, &two, 6, demo("biden.jpg"));
    assert!(desk.add_capture(next).await.unwrap().into_inner().accepted);
    bad_fields_are_refused(&mut desk, &camera, &customer).await;
    drop((desk, second, terminal));
    site.finish().await;
}

async fn bad_fields_are_refused(desk: &mut Desk, camera: &Camera, customer: &str) {
    type Spoil = fn(&mut proto::AddCaptureRequest);
    type Ask = fn(&mut proto::BeginAddCaptureRequest);
    let begun = begun(desk, customer).await;
    let cases: [(&str, Spoil); 5] = [
        ("no challenge", |r| r.challenge.clear()),
        ("a short challenge", |r| r.challenge.truncate(31)),
        ("no envelope", |r| r.envelope = None),
        ("no signature", |r| r.envelope.as_mut().unwrap().signature.clear()),
        ("no counter", |r| r.envelope.as_mut().unwrap().counter = 0),
    ];
    for (what, spoil) in cases {
        let mut request = signed(camera, &begun, 9, demo("obama3.jpg"));
        spoil(&mut request);
        assert_eq!(refused(desk, request).await, "REQ_INVALID", "{what}");
    }
    let cases: [(&str, Ask); 5] = [
        ("REQ_INVALID", |r| r.customer_id.clear()),
        ("REQ_INVALID", |r| r.terminal_id = "a b".into()),
        ("REQ_INVALID", |r| r.finger_position = 2),
        ("REQ_NOT_FOUND", |r| r.terminal_id = "DESK-9".into()),
        ("REQ_NOT_FOUND", |r| r.customer_id = "00".repeat(16)),
    ];
    for (wanted, spoil) in cases {
        let mut request = asks(customer);
        spoil(&mut request);
        let status = desk.begin_add_capture(request.clone()).await.unwrap_err();
        assert_eq!(reason(&status), wanted, "{request:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_challenge_ends_and_a_stopped_sensor_or_a_known_picture_enrols_nobody() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let dir = tempfile::tempdir().unwrap();
    let site = Site::knowing(dir, 24, RATE, Arc::clone(&clock) as _).await;
    clock.advance_millis(SystemClock.now().get() - clock.now().get());
    let (mut desk, camera) = desk(&site, proto::SensorLevel::SoftwareKey).await;
    let customer = created(&mut desk, IIN).await;
    let late = begun(&mut desk, &customer).await;
    clock.advance_millis(61_000);
    let request = signed(&camera, &late, 1, demo("obama.jpg"));
    assert_eq!(refused(&mut desk, request).await, "CAP_STALE");
    // Only the last one that an enroller was given counts.
    let replaced = begun(&mut desk, &customer).await;
    let first = begun(&mut desk, &customer).await;
    let request = signed(&camera, &replaced, 1, demo("obama.jpg"));
    assert_eq!(refused(&mut desk, request).await, "CAP_STALE");
    let request = signed(&camera, &first, 1, demo("obama.jpg"));
    assert!(desk.add_capture(request).await.unwrap().into_inner().accepted);
    // The very bytes again under a challenge of their own; another file of the picture is another look.
    let again = begun(&mut desk, &customer).await;
    let request = signed(&camera, &again, 2, demo("obama.jpg"));
    assert_eq!(refused(&mut desk, request).await, "DEV_REPLAY");
    let request = signed(&camera, &again, 2, taken_anew("obama.jpg", "again"));
    assert!(desk.add_capture(request).await.unwrap().into_inner().accepted);
    // Nor does what was enrolled prove anything at a terminal.
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let opened = terminal.begin_capture(begin("T1", CARD)).await.unwrap().into_inner();
    let asked = verify("T1", 1, &opened.challenge, demo("obama.jpg"));
    assert_eq!(reason(&terminal.verify(asked).await.unwrap_err()), "DEV_REPLAY");

    let stopped = begun(&mut desk, &customer).await;
    let suspend = proto::SuspendSensorRequest { sensor_id: "CAM-D1".into() };
    office(&site).await.suspend_sensor(suspend).await.unwrap();
    let request = signed(&camera, &stopped, 3, demo("obama3.jpg"));
    assert_eq!(refused(&mut desk, request).await, "DEV_SENSOR_BLOCKED");
    drop((desk, terminal));
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_unsigned_is_enrolled_where_the_pack_wants_it_signed() {
    let pack = pack_with_bar("enrolment_capture_signed = \"secure_element\"");
    let site = Site::with(&format!("policy_dir = '{}'\n{RATE}", pack.path().display())).await;
    let (mut desk, soft) = desk(&site, proto::SensorLevel::SoftwareKey).await;
    let customer = created(&mut desk, IIN).await;
    for image in [demo("obama.jpg"), Bytes::from_static(b"no picture")] {
        let unsigned = proto::AddCaptureRequest {
            customer_id: customer.clone(),
            image,
            language: "en".into(),
            ..proto::AddCaptureRequest::default()
        };
        assert_eq!(refused(&mut desk, unsigned).await, "DEV_UNSIGNED");
    }
    let opened = begun(&mut desk, &customer).await;
    let request = signed(&soft, &opened, 1, demo("obama.jpg"));
    assert_eq!(refused(&mut desk, request).await, "DEV_UNSIGNED");
    let row = proto::BulkImportRequest {
        row: 1,
        iin: OTHER_IIN.into(),
        consent: Some(consent()),
        images: vec![demo("biden.jpg")],
        language: "en".into(),
        ..proto::BulkImportRequest::default()
    };
    let mut answers = desk.bulk_import(tokio_stream::iter([row])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!((answer.error_reason.as_str(), answer.customer_id.as_str()), ("DEV_UNSIGNED", ""));
    let record = proto::ImportTemplateRequest {
        customer_id: customer.clone(),
        finger_position: 2,
        record: "FMR".into(),
        maker: "vendor-sdk-7".into(),
    };
    assert_eq!(reason(&desk.import_template(record).await.unwrap_err()), "DEV_UNSIGNED");

    let hard = Camera::new("DESK-1", "CAM-D1", "cam-d1-hard", 8);
    let rotate = proto::RotateSensorRequest {
        sensor_id: "CAM-D1".into(),
        key: Some(hard.sensor_key(proto::SensorLevel::SecureElement)),
        ..Default::default()
    };
    office(&site).await.rotate_sensor(rotate).await.unwrap();
    let request = signed(&hard, &opened, 1, demo("obama.jpg"));
    assert!(desk.add_capture(request).await.unwrap().into_inner().accepted);
    drop((desk, answers));
    site.finish().await;
    for wrong in ["certificate", "software", ""] {
        let pack = pack_with_bar(&format!("enrolment_capture_signed = \"{wrong}\""));
        let refused = tulga::policy::PolicyPack::load(pack.path()).unwrap_err();
        assert!(refused.to_string().contains("bars.enrolment_capture_signed"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capture_for_a_template_may_be_sealed_as_well() {
    let site = Site::start().await;
    let (mut desk, camera) = desk(&site, proto::SensorLevel::SoftwareKey).await;
    let customer = created(&mut desk, IIN).await;
    let begun = begun(&mut desk, &customer).await;
    let key = begun.capture_key.clone().unwrap();
    let own = Sealing {
        context: "tulga-sealed-enrolment-v1",
        challenge: begun.challenge.clone(),
        answer: begun.encode_to_vec(),
        terminal: "DESK-1".into(),
        key_id: key.key_id,
        public_key: key.public_key.as_slice().try_into().unwrap(),
        sensor: "CAM-D1".into(),
        place: 0,
    };
    let image = demo("obama.jpg");
    let with = |sealed: proto::SealedImage| proto::AddCaptureRequest {
        image: Bytes::new(),
        sealed: Some(sealed),
        ..signed(&camera, &begun, 1, image.clone())
    };
    let of_a_terminal = Sealing { context: "tulga-sealed-capture-v1", ..own.clone() };
    let request = with(own.seals(&image, &of_a_terminal));
    assert_eq!(refused(&mut desk, request).await, "DEV_SEALED");
    let both = proto::AddCaptureRequest { image: image.clone(), ..with(own.seals(&image, &own)) };
    assert_eq!(refused(&mut desk, both).await, "REQ_INVALID");
    let request = with(own.seals(&image, &own));
    assert!(desk.add_capture(request).await.unwrap().into_inner().accepted);
    // Sealed alone, without a signature.
    let begun = self::begun(&mut desk, &customer).await;
    let own = Sealing {
        challenge: begun.challenge.clone(),
        answer: begun.encode_to_vec(),
        sensor: String::new(),
        ..own
    };
    let alone = proto::AddCaptureRequest {
        image: Bytes::new(),
        envelope: None,
        sealed: Some(own.seals(&demo("obama3.jpg"), &own)),
        ..signed(&camera, &begun, 2, Bytes::new())
    };
    assert!(desk.add_capture(alone).await.unwrap().into_inner().accepted);
    drop(desk);
    site.finish().await;
}
