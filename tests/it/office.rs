//! The bank's office over real TLS: what enrollers, administrators, auditors and the host may ask,
//! what they are told, and what every wrong field gets.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;
use tulga::crypto::sha256;
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::audit_service_client::AuditServiceClient;
use tulga::proto::enrollment_service_client::EnrollmentServiceClient;
use tulga::proto::receipt_service_client::ReceiptServiceClient;
use tulga::proto::terminal_service_client::TerminalServiceClient;
use tulga::proto::verification_service_client::VerificationServiceClient;

use crate::site::{Site, begin, consent, demo, field, reason, verify};

const IIN: &str = "000000300017";
const CARD: &str = "card-token-1";

type Desk = EnrollmentServiceClient<Channel>;
type Terminal = VerificationServiceClient<Channel>;

/// A customer's life after enrolment, seen from the terminal at each turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_is_suspended_resumed_re_enrolled_and_erased() {
    let site = Site::start().await;
    let customer_id = site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    let mut desk = EnrollmentServiceClient::new(site.staff(Role::Admin).await);
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let mut auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);

    let approved = outcome_of(&mut terminal, "T1").await;
    assert_eq!(approved.outcome(), proto::Outcome::Approved);
    opens_its_audit_record(&mut auditor, &approved, "approved").await;

    let suspend = proto::SuspendRequest { customer_id: customer_id.clone() };
    desk.suspend(suspend.clone()).await.unwrap();
    let twice = desk.suspend(suspend).await.unwrap_err();
    assert_eq!((twice.code(), reason(&twice).as_str()), (Code::FailedPrecondition, "REQ_STATE"));
    let denied = outcome_of(&mut terminal, "T2").await;
    assert_eq!(denied.outcome(), proto::Outcome::Denied);
    opens_its_audit_record(&mut auditor, &denied, "SUB_SUSPENDED").await;
    let resume = proto::ResumeRequest { customer_id: customer_id.clone() };
    desk.resume(resume.clone()).await.unwrap();
    assert_eq!(outcome_of(&mut terminal, "T3").await.outcome(), proto::Outcome::Approved);
    let twice = desk.resume(resume).await.unwrap_err();
    assert_eq!((twice.code(), reason(&twice).as_str()), (Code::FailedPrecondition, "REQ_STATE"));

    without_captures(&mut desk, &mut terminal, &customer_id).await;
    without_the_token(&mut desk, &mut terminal, &customer_id).await;

    let erased = desk.erase(proto::EraseRequest { customer_id: customer_id.clone() }).await;
    assert!(!erased.unwrap().into_inner().receipt_jws.is_empty());
    let gone = outcome_of(&mut terminal, "T8").await;
    assert_eq!(gone.outcome(), proto::Outcome::Denied);
    assert_eq!(gone.reasons, denied.reasons, "nobody is told that somebody was erased");
    // The number is free again, and the erased face is found no more.
    let again = site.enroll(IIN, CARD, &["obama.jpg"]).await;
    assert_ne!(again, customer_id);
    assert_eq!(outcome_of(&mut terminal, "T9").await.outcome(), proto::Outcome::Approved);
    // The receipts of the erased customer stay, under a pseudonym that is nobody's now.
    let pseudonyms = [&approved, &outcome_of(&mut terminal, "T10").await].map(subject);
    assert_ne!(pseudonyms[0], pseudonyms[1]);
    drop((desk, terminal, auditor));
    site.finish().await;
}

/// A face that was taken away is found no more, and the next person with it is no duplicate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capture_that_was_removed_is_searched_no_more() {
    let site = Site::start().await;
    let mistaken = site.enroll(IIN, CARD, &["obama.jpg"]).await;
    let mut desk = EnrollmentServiceClient::new(site.staff(Role::Admin).await);
    let ask = proto::GetCustomerRequest { customer_id: mistaken.clone() };
    let capture_id = desk.get_customer(ask).await.unwrap().into_inner().capture_ids.remove(0);
    let remove = proto::RemoveCaptureRequest { customer_id: mistaken, capture_id };
    desk.remove_capture(remove).await.unwrap();
    // `enroll` asserts that the customer became active.
    site.enroll("000000300029", "card-token-2", &["obama3.jpg"]).await;
    drop(desk);
    site.finish().await;
}

/// While a person looks at a suspected duplicate its captures stay as they were searched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_captures_of_a_suspected_duplicate_do_not_change() {
    let site = Site::start().await;
    site.enroll(IIN, CARD, &["obama.jpg"]).await;
    let mut desk = EnrollmentServiceClient::new(site.staff(Role::Admin).await);
    let request =
        proto::CreateCustomerRequest { iin: "000000300029".into(), consent: Some(consent()) };
    let customer_id = desk.create_customer(request).await.unwrap().into_inner().customer_id;
    let add = |photograph: &str| proto::AddCaptureRequest {
        customer_id: customer_id.clone(),
        image: demo(photograph),
        media_type: None,
        language: "en".into(),
        ..proto::AddCaptureRequest::default()
    };
    let capture_id = desk.add_capture(add("obama3.jpg")).await.unwrap().into_inner().capture_id;
    let activate = proto::ActivateRequest { customer_id: customer_id.clone() };
    let activated = desk.activate(activate).await.unwrap().into_inner();
    assert_eq!(activated.status(), proto::CustomerStatus::PendingDuplicate);
    let remove = proto::RemoveCaptureRequest { customer_id: customer_id.clone(), capture_id };
    let refused =
        [desk.add_capture(add("obama2.jpg")).await.err(), desk.remove_capture(remove).await.err()];
    for status in refused {
        assert_eq!(reason(&status.unwrap()), "REQ_STATE");
    }
    let ask = proto::GetCustomerRequest { customer_id };
    let found = desk.get_customer(ask).await.unwrap().into_inner();
    assert_eq!(found.capture_ids.len(), 1);
    assert_eq!(found.duplicate_ids.len(), 1);
    drop(desk);
    site.finish().await;
}

/// Captures are taken away one by one, and one is added again.
async fn without_captures(desk: &mut Desk, terminal: &mut Terminal, customer_id: &str) {
    let ask = proto::GetCustomerRequest { customer_id: customer_id.into() };
    let captures = desk.get_customer(ask.clone()).await.unwrap().into_inner().capture_ids;
    assert_eq!(captures.len(), 2);
    for capture_id in captures {
        let customer_id = customer_id.to_owned();
        let remove = proto::RemoveCaptureRequest { customer_id, capture_id };
        desk.remove_capture(remove.clone()).await.unwrap();
        let twice = desk.remove_capture(remove).await.unwrap_err();
        assert_eq!((twice.code(), reason(&twice).as_str()), (Code::NotFound, "REQ_NOT_FOUND"));
    }
    assert_eq!(outcome_of(terminal, "T4").await.outcome(), proto::Outcome::Denied);
    let add = proto::AddCaptureRequest {
        customer_id: customer_id.into(),
        image: demo("obama3.jpg"),
        media_type: Some("image/jpeg".into()),
        language: "en".into(),
        ..proto::AddCaptureRequest::default()
    };
    assert!(desk.add_capture(add).await.unwrap().into_inner().accepted);
    // A capture that agrees with nothing is searched among everybody before it counts.
    let ask = proto::GetCustomerRequest { customer_id: customer_id.into() };
    let found = desk.get_customer(ask).await.unwrap().into_inner();
    assert_eq!(found.status(), proto::CustomerStatus::Pending);
    assert_eq!(outcome_of(terminal, "T5").await.outcome(), proto::Outcome::Denied);
    desk.activate(proto::ActivateRequest { customer_id: customer_id.into() }).await.unwrap();
    assert_eq!(outcome_of(terminal, "T5b").await.outcome(), proto::Outcome::Approved);
}

/// The token is unbound, and bound again to run out at once.
async fn without_the_token(desk: &mut Desk, terminal: &mut Terminal, customer_id: &str) {
    let kind = proto::TokenKind::Card.into();
    let unbind =
        proto::UnbindTokenRequest { customer_id: customer_id.into(), kind, token: CARD.into() };
    desk.unbind_token(unbind.clone()).await.unwrap();
    let twice = desk.unbind_token(unbind).await.unwrap_err();
    assert_eq!((twice.code(), reason(&twice).as_str()), (Code::NotFound, "REQ_NOT_FOUND"));
    assert_eq!(outcome_of(terminal, "T6").await.outcome(), proto::Outcome::Denied);
    let expires_at = Some("2026-01-01T00:00:00Z".into());
    let token = CARD.to_owned();
    let bind = proto::BindTokenRequest { customer_id: customer_id.into(), kind, token, expires_at };
    is_invalid(desk.bind_token(bind.clone()).await, "expires_at");
    desk.bind_token(proto::BindTokenRequest { expires_at: None, ..bind }).await.unwrap();
    assert_eq!(outcome_of(terminal, "T7").await.outcome(), proto::Outcome::Approved);
}

async fn outcome_of(terminal: &mut Terminal, id: &str) -> proto::Decision {
    let opened = terminal.begin_capture(begin(id, CARD)).await.unwrap().into_inner();
    let asked = verify(id, 1, &opened.challenge, demo("obama2.jpg"));
    terminal.verify(asked).await.unwrap().into_inner()
}

fn payload(decision: &proto::Decision) -> serde_json::Value {
    let jws = std::str::from_utf8(&decision.receipt_jws).unwrap();
    let payload = URL_SAFE_NO_PAD.decode(jws.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

fn subject(decision: &proto::Decision) -> String {
    payload(decision)["subject"].as_str().unwrap().to_owned()
}

/// The record is the one that the receipt commits to, and says what the terminal is not told.
async fn opens_its_audit_record(
    auditor: &mut AuditServiceClient<Channel>,
    decision: &proto::Decision,
    says: &str,
) {
    let index = decision.position.as_ref().unwrap().index;
    let opened = auditor
        .get_audit_record(proto::GetAuditRecordRequest {
            index,
            ..proto::GetAuditRecordRequest::default()
        })
        .await;
    let proto::GetAuditRecordResponse { record, salt } = opened.unwrap().into_inner();
    assert_eq!(salt.len(), 32);
    let commitment = URL_SAFE_NO_PAD.encode(sha256(&[salt, record.clone()].concat()).as_bytes());
    assert_eq!(payload(decision)["audit"], commitment);
    let text = String::from_utf8(record).unwrap();
    assert!(text.to_lowercase().contains(&says.to_lowercase()), "{text}");
}

/// A challenge is for the terminal that asked for it, until it is given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_challenge_is_one_terminals_and_can_be_given_up() {
    let site = Site::start().await;
    let mut first = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let mut second = VerificationServiceClient::new(site.terminal("ATM-2").await);
    let opened = first.begin_capture(begin("T1", CARD)).await.unwrap().into_inner();
    let asked = verify("T1", 1, &opened.challenge, demo("biden.jpg"));
    let cancel = proto::CancelRequest { challenge: opened.challenge.clone() };
    let stale = (Code::FailedPrecondition, "CAP_STALE".to_owned());
    let answer = second.verify(asked.clone()).await.unwrap_err();
    assert_eq!((answer.code(), reason(&answer)), stale);
    let answer = second.cancel(cancel.clone()).await.unwrap_err();
    assert_eq!((answer.code(), reason(&answer)), stale);
    first.cancel(cancel.clone()).await.unwrap();
    let answer = first.cancel(cancel).await.unwrap_err();
    assert_eq!((answer.code(), reason(&answer)), stale);
    let answer = first.verify(asked).await.unwrap_err();
    assert_eq!((answer.code(), reason(&answer)), stale);
    // Neither terminal sees the other's decisions.
    let opened = first.begin_capture(begin("T1", CARD)).await.unwrap().into_inner();
    first.verify(verify("T1", 1, &opened.challenge, demo("biden.jpg"))).await.unwrap();
    let ask = proto::GetDecisionRequest {
        business_date: "2026-11-21".into(),
        host_transaction_id: "T1".into(),
        attempt: 1,
        language: "en".into(),
    };
    assert!(first.get_decision(ask.clone()).await.is_ok());
    let answer = second.get_decision(ask).await.unwrap_err();
    assert_eq!((answer.code(), reason(&answer).as_str()), (Code::NotFound, "REQ_NOT_FOUND"));
    drop((first, second));
    site.finish().await;
}

/// Each terminal has its own allowance, for all its calls together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_that_asks_too_often_is_told_to_wait() {
    let site = Site::with("[rate]\nper_terminal_per_minute = 3\n").await;
    let mut eager = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let mut other = VerificationServiceClient::new(site.terminal("ATM-2").await);
    for _ in 0..3 {
        eager.get_time(proto::GetTimeRequest {}).await.unwrap();
    }
    let status = eager.begin_capture(begin("T1", CARD)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "LIM_RATE"));
    assert!(status.get_details_retry_info().is_some(), "{status:?}");
    other.begin_capture(begin("T1", CARD)).await.unwrap();
    drop((eager, other));
    site.finish().await;
}

/// A new key for a terminal: the old one stops at once, on the connection that it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_terminals_old_key_stops_at_once() {
    let site = Site::start().await;
    let mut old = VerificationServiceClient::new(site.terminal("ATM-1").await);
    assert!(old.get_time(proto::GetTimeRequest {}).await.is_ok());
    let mut admin = TerminalServiceClient::new(site.staff(Role::Admin).await);
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    let rotate = proto::RotateTerminalRequest {
        terminal_id: "ATM-1".into(),
        csr_pem: request.pem().unwrap(),
    };
    let issued = admin.rotate_terminal(rotate.clone()).await.unwrap().into_inner();
    let status = old.get_time(proto::GetTimeRequest {}).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "DEV_UNKNOWN"));
    let channel = site.connect(&issued.certificate_pem, &key.serialize_pem()).await;
    let mut new = VerificationServiceClient::new(channel);
    assert!(new.get_time(proto::GetTimeRequest {}).await.is_ok());
    // The same key twice, a key for nobody, and a name that is taken.
    let taken = admin.rotate_terminal(rotate.clone()).await.unwrap_err();
    assert_eq!(reason(&taken), "REQ_EXISTS");
    let nobody = proto::RotateTerminalRequest { terminal_id: "ATM-9".into(), ..rotate.clone() };
    assert_eq!(reason(&admin.rotate_terminal(nobody).await.unwrap_err()), "REQ_NOT_FOUND");
    let proto::RotateTerminalRequest { terminal_id, csr_pem } = rotate;
    let register = proto::RegisterTerminalRequest { terminal_id, csr_pem };
    assert_eq!(reason(&admin.register_terminal(register).await.unwrap_err()), "REQ_EXISTS");
    drop((old, new, admin));
    site.finish().await;
}

/// A row whose token is somebody else's says which customer it made; a stream that breaks keeps the
/// rows before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_loses_no_customer() {
    let site = Site::start().await;
    site.enroll(IIN, CARD, &["obama.jpg"]).await;
    let mut desk = EnrollmentServiceClient::new(site.staff(Role::Admin).await);
    let row = |row, iin: &str, token: &str, photograph: &str| proto::BulkImportRequest {
        row,
        iin: iin.into(),
        consent: Some(consent()),
        tokens: vec![proto::ImportToken {
            kind: proto::TokenKind::Card.into(),
            token: token.into(),
        }],
        images: vec![demo(photograph)],
        language: "en".into(),
        fingers: Vec::new(),
    };
    let (rows, stream) = tokio::sync::mpsc::channel(1);
    let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
    let sending = tokio::spawn(async move {
        rows.send(row(1, "000000300029", CARD, "biden.jpg")).await.unwrap();
        rows.send(row(2, "000000300030", "card-2", "astronaut.png")).await.unwrap();
        rows
    });
    let mut answers = desk.bulk_import(stream).await.unwrap().into_inner();
    let taken = answers.message().await.unwrap().unwrap();
    assert_eq!((taken.row, taken.error_reason.as_str()), (1, "REQ_EXISTS"));
    assert_eq!(taken.status(), proto::CustomerStatus::Pending);
    let whole = answers.message().await.unwrap().unwrap();
    assert_eq!((whole.row, whole.error_reason.as_str()), (2, ""));
    assert_eq!(whole.status(), proto::CustomerStatus::Active);
    // The caller goes away in the middle.
    drop((answers, sending.await.unwrap()));
    for (customer_id, status) in [
        (taken.customer_id, proto::CustomerStatus::Pending),
        (whole.customer_id, proto::CustomerStatus::Active),
    ] {
        let found = desk.get_customer(proto::GetCustomerRequest { customer_id }).await.unwrap();
        assert_eq!(found.into_inner().status(), status);
    }
    drop(desk);
    site.finish().await;
}

/// Every wrong field of the office's calls, by its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_wrong_field_is_named() {
    let site = Site::start().await;
    let mut auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);
    let before = entries(&mut auditor).await;
    enrolment_fields(&mut EnrollmentServiceClient::new(site.staff(Role::Admin).await)).await;
    terminal_fields(&mut TerminalServiceClient::new(site.staff(Role::Admin).await)).await;
    receipt_fields(&mut ReceiptServiceClient::new(site.staff(Role::Host).await)).await;
    audit_fields(&mut auditor).await;
    report_fields(&mut VerificationServiceClient::new(site.terminal("ATM-1").await)).await;
    // The terminal's registration, and nothing else.
    assert_eq!(entries(&mut auditor).await, before + 1);
    drop(auditor);
    site.finish().await;
}

async fn entries(auditor: &mut AuditServiceClient<Channel>) -> u64 {
    let latest = auditor.get_checkpoint(proto::GetCheckpointRequest::default()).await.unwrap();
    latest.into_inner().checkpoint.lines().nth(1).unwrap().parse().unwrap()
}

#[track_caller]
fn is_invalid<T: std::fmt::Debug>(answer: Result<T, tonic::Status>, path: &str) {
    let status = answer.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str(), field(&status).as_str()),
        (Code::InvalidArgument, "REQ_INVALID", path)
    );
}

async fn enrolment_fields(desk: &mut Desk) {
    type Spoil = fn(&mut proto::CreateCustomerRequest);
    let creates: [(&str, Spoil); 12] = [
        ("iin", |r| r.iin.clear()),
        ("iin", |r| r.iin = "000000300018".into()),
        ("iin", |r| r.iin = "00000030001".into()),
        ("iin", |r| r.iin = "٠٠٠٠٠٠٣٠٠٠١٧".into()),
        ("consent", |r| r.consent = None),
        ("consent.operator", |r| r.consent.as_mut().unwrap().operator = " ".into()),
        ("consent.subject", |r| r.consent.as_mut().unwrap().subject = "x".repeat(257)),
        ("consent.purpose", |r| r.consent.as_mut().unwrap().purpose = "a\nb".into()),
        ("consent.term", |r| r.consent.as_mut().unwrap().term = None),
        ("consent.days", |r| {
            r.consent.as_mut().unwrap().term = Some(proto::consent::Term::Days(0));
        }),
        ("consent.given_at", |r| r.consent.as_mut().unwrap().given_at = "yesterday".into()),
        ("consent.evidence_ref", |r| r.consent.as_mut().unwrap().evidence_ref.clear()),
    ];
    for (path, spoil) in creates {
        let mut request =
            proto::CreateCustomerRequest { iin: IIN.into(), consent: Some(consent()) };
        spoil(&mut request);
        is_invalid(desk.create_customer(request).await, path);
    }
    // 256 Kazakh letters are 256 characters; the number is what is refused.
    let mut named = consent();
    named.subject = "ә".repeat(256);
    let request = proto::CreateCustomerRequest { iin: "1".into(), consent: Some(named) };
    is_invalid(desk.create_customer(request).await, "iin");
    let customer_id = "0".repeat(32);
    let ids = ["", "zz", "0123456789ABCDEF0123456789ABCDEF"];
    for wrong in ids.map(ToOwned::to_owned) {
        let ask = proto::GetCustomerRequest { customer_id: wrong.clone() };
        is_invalid(desk.get_customer(ask).await, "customer_id");
        let erase = proto::EraseRequest { customer_id: wrong };
        is_invalid(desk.erase(erase).await, "customer_id");
    }
    let bind = proto::BindTokenRequest {
        customer_id: customer_id.clone(),
        kind: proto::TokenKind::Card.into(),
        token: CARD.into(),
        expires_at: None,
    };
    let wrong = proto::BindTokenRequest { kind: 99, ..bind.clone() };
    is_invalid(desk.bind_token(wrong).await, "kind");
    let wrong = proto::BindTokenRequest { token: "x".repeat(129), ..bind.clone() };
    is_invalid(desk.bind_token(wrong).await, "token");
    let wrong = proto::BindTokenRequest { expires_at: Some("soon".into()), ..bind.clone() };
    is_invalid(desk.bind_token(wrong).await, "expires_at");
    assert_eq!(reason(&desk.bind_token(bind).await.unwrap_err()), "REQ_NOT_FOUND");
    let add = proto::AddCaptureRequest {
        customer_id: customer_id.clone(),
        image: demo("obama.jpg"),
        media_type: None,
        language: "en".into(),
        ..proto::AddCaptureRequest::default()
    };
    let wrong = proto::AddCaptureRequest { image: bytes::Bytes::new(), ..add.clone() };
    is_invalid(desk.add_capture(wrong).await, "image");
    let wrong = proto::AddCaptureRequest { media_type: Some("image/gif".into()), ..add.clone() };
    is_invalid(desk.add_capture(wrong).await, "media_type");
    let wrong = proto::AddCaptureRequest { language: "tlh".into(), ..add.clone() };
    is_invalid(desk.add_capture(wrong).await, "language");
    assert_eq!(reason(&desk.add_capture(add).await.unwrap_err()), "REQ_NOT_FOUND");
    let capture_id = "not hexadecimal".to_owned();
    let remove = proto::RemoveCaptureRequest { customer_id: customer_id.clone(), capture_id };
    is_invalid(desk.remove_capture(remove).await, "capture_id");
    let resolve = proto::ResolveDuplicateRequest { customer_id, resolution: 0 };
    is_invalid(desk.resolve_duplicate(resolve).await, "resolution");
    let list = proto::ListCustomersRequest { page_size: 1001, page_token: String::new() };
    is_invalid(desk.list_customers(list).await, "page_size");
    let list = proto::ListCustomersRequest { page_size: 1, page_token: "?".into() };
    is_invalid(desk.list_customers(list).await, "page_token");
}

async fn terminal_fields(admin: &mut TerminalServiceClient<Channel>) {
    let request = |terminal_id: &str, csr_pem: &str| proto::RegisterTerminalRequest {
        terminal_id: terminal_id.into(),
        csr_pem: csr_pem.into(),
    };
    let long = "x".repeat(65);
    for terminal_id in ["", "ATM 1", "../ATM", long.as_str()] {
        is_invalid(admin.register_terminal(request(terminal_id, "")).await, "terminal_id");
    }
    for csr_pem in [
        "",
        "no PEM",
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
    ] {
        is_invalid(admin.register_terminal(request("ATM-7", csr_pem)).await, "csr_pem");
    }
    let revoke = proto::RevokeTerminalRequest { terminal_id: "ATM-7".into() };
    assert_eq!(reason(&admin.revoke_terminal(revoke).await.unwrap_err()), "REQ_NOT_FOUND");
    let list = proto::ListTerminalsRequest { page_size: 0, page_token: "?".into() };
    is_invalid(admin.list_terminals(list).await, "page_token");
}

async fn receipt_fields(host: &mut ReceiptServiceClient<Channel>) {
    type Spoil = fn(&mut proto::RedeemRequest);
    let redeems: [(&str, Spoil); 10] = [
        ("receipt_jws", |_| {}),
        ("receipt_jws", |r| r.receipt_jws = vec![0xff]),
        ("transaction_salt", |r| r.transaction_salt.truncate(31)),
        ("host_transaction_id", |r| r.host_transaction_id.clear()),
        ("business_date", |r| r.business_date = "2026-02-30".into()),
        ("attempt", |r| r.attempt = 100),
        ("account", |r| r.account.clear()),
        ("amount_minor", |r| r.amount_minor = 0),
        ("currency", |r| r.currency = "kzt".into()),
        ("operation", |r| r.operation = 0),
    ];
    for (path, spoil) in redeems {
        let mut request = proto::RedeemRequest {
            receipt_jws: b"e30.e30.AAAA".to_vec(),
            transaction_salt: vec![7; 32],
            host_transaction_id: "T1".into(),
            business_date: "2026-11-21".into(),
            attempt: 1,
            account: "account".into(),
            counterparty: None,
            amount_minor: 1,
            currency: "KZT".into(),
            operation: proto::Operation::Withdrawal.into(),
        };
        spoil(&mut request);
        is_invalid(host.redeem(request).await, path);
    }
}

async fn audit_fields(auditor: &mut AuditServiceClient<Channel>) {
    type Spoil = fn(&mut proto::ListReceiptsRequest);
    let nothing =
        proto::GetReceiptRequest { selector: None, ..proto::GetReceiptRequest::default() };
    is_invalid(auditor.get_receipt(nothing).await, "selector");
    let selector = Some(proto::get_receipt_request::Selector::Rid("no rid".into()));
    is_invalid(
        auditor
            .get_receipt(proto::GetReceiptRequest {
                selector,
                ..proto::GetReceiptRequest::default()
            })
            .await,
        "rid",
    );
    for index in [1_000_000, u64::MAX] {
        let selector = Some(proto::get_receipt_request::Selector::Index(index));
        let answers = [
            auditor
                .get_receipt(proto::GetReceiptRequest {
                    selector,
                    ..proto::GetReceiptRequest::default()
                })
                .await
                .err(),
            auditor
                .get_proof(proto::GetProofRequest { index, ..proto::GetProofRequest::default() })
                .await
                .err(),
            auditor
                .get_audit_record(proto::GetAuditRecordRequest {
                    index,
                    ..proto::GetAuditRecordRequest::default()
                })
                .await
                .err(),
        ];
        for answer in answers {
            assert_eq!(reason(&answer.unwrap()), "REQ_NOT_FOUND", "{index}");
        }
    }
    let lists: [(&str, Spoil); 5] = [
        ("from", |r| r.from = "2026".into()),
        ("to", |r| r.to = "now".into()),
        ("terminal_id", |r| r.terminal_id = "ATM 1".into()),
        ("page_size", |r| r.page_size = u32::MAX),
        ("page_token", |r| r.page_token = "-1".into()),
    ];
    for (path, spoil) in lists {
        let mut request = proto::ListReceiptsRequest::default();
        spoil(&mut request);
        is_invalid(auditor.list_receipts(request).await, path);
    }
}

async fn report_fields(terminal: &mut Terminal) {
    type Spoil = fn(&mut proto::ReportOutcomeRequest);
    let reports: [(&str, Spoil); 9] = [
        ("business_date", |r| r.business_date.clear()),
        ("host_transaction_id", |r| r.host_transaction_id = "x".repeat(65)),
        ("attempt", |r| r.attempt = 0),
        ("outcome", |r| r.outcome = 0),
        ("outcome", |r| r.outcome = 88),
        ("dispensed_minor", |r| r.dispensed_minor = -1),
        ("currency", |r| r.currency.clear()),
        ("footage.camera_id", |r| r.footage = Some(proto::Footage::default())),
        ("footage.clip_sha256", |r| {
            let from = "2026-11-21T00:00:00Z".into();
            let to = "2026-11-21T00:00:01Z".into();
            let footage = proto::Footage { camera_id: "C".into(), from, to, clip_sha256: vec![] };
            r.footage = Some(footage);
        }),
    ];
    for (path, spoil) in reports {
        let mut request = proto::ReportOutcomeRequest {
            business_date: "2026-11-21".into(),
            host_transaction_id: "T1".into(),
            attempt: 1,
            outcome: proto::CashOutcome::Taken.into(),
            dispensed_minor: 1,
            currency: "KZT".into(),
            footage: None,
        };
        spoil(&mut request);
        is_invalid(terminal.report_outcome(request).await, path);
    }
}
