//! Fingers over real TLS, with grown prints: enrolment, verification, two fingers and a face together, records
//! of other systems, and every way in which a print is not good enough.

use bytes::Bytes;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tulga::capture::encode_grey_png;
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::enrollment_service_client::EnrollmentServiceClient;
use tulga::proto::verification_service_client::VerificationServiceClient;
use tulga::synth::Finger;

use crate::site::{Site, begin, consent, demo, field, payload, reason, verify};

const IIN: &str = "000000300017";
const CARD: &str = "card-token-1";
const OTHER_IIN: &str = "000000300029";
const OTHER_CARD: &str = "card-token-2";

const INDEX: i32 = proto::FingerPosition::RightIndex as i32;
const MIDDLE: i32 = proto::FingerPosition::RightMiddle as i32;

type Desk = EnrollmentServiceClient<Channel>;
type Terminal = VerificationServiceClient<Channel>;

/// A picture of a finger that never was: the seed tells which, the number which impression.
fn print(seed: u64, impression: u64) -> Bytes {
    encode_grey_png(&Finger::new(seed).impression(impression)).unwrap().into()
}

fn offered(customer_id: &str, finger_position: i32, image: Bytes) -> proto::AddCaptureRequest {
    proto::AddCaptureRequest {
        customer_id: customer_id.into(),
        image,
        language: "en".into(),
        modality: proto::Modality::Finger.into(),
        finger_position,
        ..proto::AddCaptureRequest::default()
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

/// Offers three impressions of a finger.
async fn three(desk: &mut Desk, customer_id: &str, position: i32, seed: u64) {
    for impression in 1..=3 {
        let request = offered(customer_id, position, print(seed, impression));
        let answer = desk.add_capture(request).await.unwrap().into_inner();
        assert!(answer.accepted, "{impression}: {:?}", answer.reasons);
        assert!(answer.quality.iter().any(|it| it.name == "FingerprintImageWithMinutiae"));
    }
}

async fn activate(desk: &mut Desk, customer_id: &str) -> Result<proto::CustomerStatus, Status> {
    let request = proto::ActivateRequest { customer_id: customer_id.into() };
    Ok(desk.activate(request).await?.into_inner().status())
}

fn characteristic(finger_position: i32) -> proto::Characteristic {
    let modality = match finger_position {
        0 => proto::Modality::Face,
        _ => proto::Modality::Finger,
    };
    proto::Characteristic { modality: modality.into(), finger_position }
}

/// Captures of these at the terminal, in this order; 0 is the face.
async fn at_the_terminal(
    terminal: &mut Terminal,
    id: &str,
    card: &str,
    shown: Vec<(i32, Bytes)>,
) -> Result<proto::Decision, Status> {
    let mut asked = shown.iter().map(|(position, _)| characteristic(*position));
    let first = asked.next().unwrap();
    let request = proto::BeginCaptureRequest {
        modality: first.modality,
        finger_position: first.finger_position,
        further: asked.collect(),
        ..begin(id, card)
    };
    let challenge = terminal.begin_capture(request).await?.into_inner().challenge;
    let mut captured =
        shown.into_iter().map(|(_, image)| proto::Capture { image, ..proto::Capture::default() });
    let mut request = verify(id, 1, &challenge, Bytes::new());
    request.capture = captured.next();
    request.further = captured.collect();
    Ok(terminal.verify(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_fingers_and_a_face_are_enrolled_and_let_their_owner_withdraw() {
    let site = Site::start().await;
    let mut desk = EnrollmentServiceClient::new(site.staff(Role::Enroller).await);
    let customer_id = create(&mut desk, IIN, CARD).await;
    three(&mut desk, &customer_id, INDEX, 1).await;
    three(&mut desk, &customer_id, MIDDLE, 2).await;
    let face = proto::AddCaptureRequest {
        customer_id: customer_id.clone(),
        image: demo("obama.jpg"),
        language: "en".into(),
        ..proto::AddCaptureRequest::default()
    };
    assert!(desk.add_capture(face).await.unwrap().into_inner().accepted);
    assert_eq!(activate(&mut desk, &customer_id).await.unwrap(), proto::CustomerStatus::Active);
    let request = proto::GetCustomerRequest { customer_id: customer_id.clone() };
    let seen = desk.get_customer(request).await.unwrap().into_inner();
    let counts: Vec<_> = seen.characteristics.iter().map(|it| it.captures).collect();
    assert_eq!(counts, [1, 3, 3], "the face, the index and the middle finger");

    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let own = vec![(INDEX, print(1, 9)), (MIDDLE, print(2, 9))];
    let decided = at_the_terminal(&mut terminal, "T1", CARD, own).await.unwrap();
    assert_eq!(decided.outcome(), proto::Outcome::Approved, "{:?}", decided.reasons);
    let receipt = payload(&decided.receipt_jws);
    assert_eq!(receipt["bio"]["modality"], "finger");
    assert_eq!(receipt["bio"]["models"].as_array().unwrap().len(), 1);

    let with_face = vec![(0, demo("obama2.jpg")), (INDEX, print(1, 8))];
    let decided = at_the_terminal(&mut terminal, "T2", CARD, with_face).await.unwrap();
    assert_eq!(decided.outcome(), proto::Outcome::Approved, "{:?}", decided.reasons);
    let receipt = payload(&decided.receipt_jws);
    assert_eq!(receipt["bio"]["modality"], "face+finger");
    assert_eq!(receipt["bio"]["models"].as_array().unwrap().len(), 3);

    // A stranger's fingers, the fingers exchanged, and a finger nobody enrolled are told alike.
    let stranger = vec![(INDEX, print(77, 1)), (MIDDLE, print(78, 1))];
    let exchanged = vec![(INDEX, print(2, 7)), (MIDDLE, print(1, 7))];
    let ring = vec![(proto::FingerPosition::RightRing.into(), print(3, 1))];
    // Half of what is announced proves nothing of the whole.
    let half = vec![(INDEX, print(1, 6)), (proto::FingerPosition::RightRing.into(), print(3, 1))];
    let mut told = Vec::new();
    for (id, captures) in [("T3", stranger), ("T4", exchanged), ("T5", ring), ("T6", half)] {
        let denied = at_the_terminal(&mut terminal, id, CARD, captures).await.unwrap();
        assert_eq!(denied.outcome(), proto::Outcome::Denied, "{id}");
        told.push(denied.reasons);
    }
    assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:?}");
    drop((desk, terminal));
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finger_takes_three_impressions_that_match_and_belongs_to_one_person() {
    let site = Site::start().await;
    let mut desk = EnrollmentServiceClient::new(site.staff(Role::Enroller).await);
    let customer_id = create(&mut desk, IIN, CARD).await;
    for impression in [1, 2] {
        let request = offered(&customer_id, INDEX, print(5, impression));
        assert!(desk.add_capture(request).await.unwrap().into_inner().accepted);
    }
    let early = activate(&mut desk, &customer_id).await.unwrap_err();
    assert_eq!((early.code(), reason(&early).as_str()), (Code::FailedPrecondition, "REQ_STATE"));
    let other = offered(&customer_id, INDEX, print(6, 1));
    let refused = desk.add_capture(other).await.unwrap().into_inner();
    assert!(!refused.accepted);
    assert_eq!(refused.reasons[0].code, "CAP_CAPTURES_DISAGREE");
    let third = offered(&customer_id, INDEX, print(5, 3));
    assert!(desk.add_capture(third).await.unwrap().into_inner().accepted);
    assert_eq!(activate(&mut desk, &customer_id).await.unwrap(), proto::CustomerStatus::Active);

    // The same finger under another number, said to be another finger, is found.
    let second = create(&mut desk, OTHER_IIN, OTHER_CARD).await;
    for impression in 5..=7 {
        let request = offered(&second, MIDDLE, print(5, impression));
        assert!(desk.add_capture(request).await.unwrap().into_inner().accepted);
    }
    let found = activate(&mut desk, &second).await.unwrap();
    assert_eq!(found, proto::CustomerStatus::PendingDuplicate);
    drop(desk);
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prints_that_cannot_be_used_get_each_their_own_answer() {
    let site = Site::start().await;
    let mut desk = EnrollmentServiceClient::new(site.staff(Role::Enroller).await);
    let customer_id = create(&mut desk, IIN, CARD).await;
    let good = print(1, 1);
    let raw = |width: u32, height: u32, value: u8, ppi: u32| proto::AddCaptureRequest {
        pixels_per_inch: Some(ppi),
        raw_size: Some(proto::RawSize { width, height }),
        ..offered(&customer_id, INDEX, vec![value; (width * height) as usize].into())
    };
    for (what, request, expected) in [
        ("blank", raw(300, 400, 255, 500), "CAP_NO_FINGER"),
        ("small", raw(80, 90, 128, 500), "CAP_FINGER_TOO_SMALL"),
    ] {
        let answer = desk.add_capture(request).await.unwrap().into_inner();
        assert!(!answer.accepted, "{what}");
        assert_eq!(answer.reasons[0].code, expected, "{what}");
    }
    for (what, request, expected) in [
        ("8,000 dpi", raw(300, 400, 255, 8_000), "CAP_RESOLUTION"),
        (
            "no dpi",
            {
                let mut request = raw(300, 400, 255, 500);
                request.pixels_per_inch = None;
                request
            },
            "CAP_RESOLUTION",
        ),
        ("tiny", raw(40, 40, 128, 500), "CAP_UNREADABLE"),
        ("truncated", offered(&customer_id, INDEX, good.slice(..good.len() / 2)), "CAP_UNREADABLE"),
        ("colour", offered(&customer_id, INDEX, demo("obama.jpg")), "CAP_UNREADABLE"),
    ] {
        let refused = desk.add_capture(request).await.unwrap_err();
        assert_eq!(reason(&refused), expected, "{what}: {refused:?}");
    }
    let toe = offered(&customer_id, 0, good.clone());
    let refused = desk.add_capture(toe).await.unwrap_err();
    assert_eq!(field(&refused), "finger_position");
    let face_with_resolution = proto::AddCaptureRequest {
        modality: proto::Modality::Face.into(),
        finger_position: 0,
        pixels_per_inch: Some(500),
        ..offered(&customer_id, 0, demo("obama.jpg"))
    };
    let refused = desk.add_capture(face_with_resolution).await.unwrap_err();
    assert_eq!(field(&refused), "modality");
    drop(desk);
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_sends_as_many_captures_as_it_announced() {
    let site = Site::start().await;
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let request =
        proto::BeginCaptureRequest { further: vec![characteristic(INDEX)], ..begin("T1", CARD) };
    let challenge = terminal.begin_capture(request).await.unwrap().into_inner().challenge;
    let short = verify("T1", 1, &challenge, demo("obama.jpg"));
    let refused = terminal.verify(short.clone()).await.unwrap_err();
    assert_eq!((refused.code(), field(&refused).as_str()), (Code::InvalidArgument, "further"));
    // Nothing was spent: the same challenge still serves.
    let capture = proto::Capture { image: print(1, 1), ..proto::Capture::default() };
    let whole = proto::VerifyRequest { further: vec![capture], ..short };
    let denied = terminal.verify(whole).await.unwrap().into_inner();
    assert_eq!(denied.outcome(), proto::Outcome::Denied, "nobody is enrolled");
    drop(terminal);
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enrolled_finger_is_given_out_as_a_record_with_an_entry_that_says_so() {
    let site = Site::start().await;
    let mut desk = EnrollmentServiceClient::new(site.staff(Role::Enroller).await);
    let customer_id = create(&mut desk, IIN, CARD).await;
    three(&mut desk, &customer_id, INDEX, 4).await;
    let request =
        proto::ExportTemplateRequest { customer_id: customer_id.clone(), finger_position: INDEX };
    let refused = desk.export_template(request.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "an enroller may not");
    let mut admin = EnrollmentServiceClient::new(site.staff(Role::Admin).await);
    let exported = admin.export_template(request).await.unwrap().into_inner();
    let record = tulga::interchange::MinutiaeRecord::parse(&exported.record).unwrap();
    assert_eq!(record.views().len(), 3);
    assert_eq!(payload(&exported.receipt_jws)["act"], "template_exported");
    let none =
        proto::ExportTemplateRequest { customer_id: customer_id.clone(), finger_position: MIDDLE };
    assert_eq!(reason(&admin.export_template(none).await.unwrap_err()), "REQ_NOT_FOUND");

    // A maker of whom the models have no calibration is refused, whatever the record holds.
    let import = proto::ImportTemplateRequest {
        customer_id,
        finger_position: MIDDLE,
        record: exported.record.into(),
        maker: "vendor-sdk-7".into(),
    };
    let refused = desk.import_template(import.clone()).await.unwrap_err();
    assert_eq!(field(&refused), "maker");
    let nonsense = proto::ImportTemplateRequest { record: "FMR".into(), ..import };
    assert_eq!(field(&desk.import_template(nonsense).await.unwrap_err()), "record");
    drop((desk, admin));
    site.finish().await;
}
