//! KZ-13: nobody is enrolled without a consent that names operator, subject, purpose and term.

use serde_json::{Value, json};
use tonic::transport::Channel;
use tulga::app::DataDir;
use tulga::clock::{Clock as _, ManualClock};
use tulga::config::Config;
use tulga::domain::id::CustomerId;
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::Outcome::{Approved, Denied};
use tulga::proto::audit_service_client::AuditServiceClient;
use tulga::proto::consent::Term;
use tulga::proto::customer_reference::Reference;
use tulga::proto::enrollment_service_client::EnrollmentServiceClient;
use tulga::store::Store as _;
use tulga::store::sql::SqliteStore;
use tulga::vault::{Place, Vault};

use crate::bank::{body, unhex};
use crate::rules::{Bank, CARD, bind, said};
use crate::site::{Site, begin, consent, demo, field, reason, verify};

const IIN: &str = "000000300029";
const DAY_MS: i64 = 86_400_000;

type Desk = EnrollmentServiceClient<Channel>;

/// What a consent lacks, and the field that the refusal names.
type Spoil = fn(&mut proto::Consent, &ManualClock);

fn spoiled() -> [(&'static str, Spoil); 12] {
    [
        ("consent.operator", |it, _| it.operator.clear()),
        ("consent.subject", |it, _| it.subject.clear()),
        ("consent.purpose", |it, _| it.purpose.clear()),
        ("consent.evidence_ref", |it, _| it.evidence_ref.clear()),
        ("consent.given_at", |it, _| it.given_at.clear()),
        ("consent.term", |it, _| it.term = None),
        ("consent.days", |it, _| it.term = Some(Term::Days(0))),
        ("consent.until", |it, _| it.term = Some(Term::Until("soon".into()))),
        // It ended before it was given.
        ("consent.term", |it, _| it.term = Some(Term::Until("2025-12-31".into()))),
        // It is over: long since, by its last day, and by this very instant.
        ("consent.term", |it, _| {
            (it.given_at, it.term) = ("2020-01-01T00:00:00Z".into(), Some(Term::Days(365)));
        }),
        ("consent.term", |it, _| {
            it.given_at = "2020-01-01T00:00:00Z".into();
            it.term = Some(Term::Until("2020-01-31".into()));
        }),
        ("consent.term", |it, clock| {
            it.given_at = clock.now().plus_millis(-30 * DAY_MS).rfc3339();
            it.term = Some(Term::Days(30));
        }),
    ]
}

async fn customers(site: &Site) -> Vec<proto::Customer> {
    let mut desk = Desk::new(site.staff(Role::Admin).await);
    let listed = desk.list_customers(proto::ListCustomersRequest::default()).await.unwrap();
    listed.into_inner().customers
}

async fn entries(site: &Site) -> u64 {
    let mut auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);
    let latest = auditor.get_checkpoint(proto::GetCheckpointRequest::default()).await.unwrap();
    latest.into_inner().checkpoint.lines().nth(1).unwrap().parse().unwrap()
}

/// What lies sealed of a customer, once the gateway has stopped.
async fn record_of(data: &std::path::Path, customer_id: &str) -> Value {
    let data = DataDir::at(data);
    let vault = Vault::load(&data.path().join("keys/kek")).unwrap();
    let tenant = Config::from_toml("").unwrap().identity.tenant;
    let store = SqliteStore::open(&data.path().join("tulga.sqlite")).await.unwrap();
    let id = CustomerId::try_from(unhex(customer_id).as_slice()).unwrap();
    let row = store.customer(&id).await.unwrap().unwrap();
    let key = store.customer_key(&id).await.unwrap().unwrap();
    let keys = vault.open_keys(&tenant, &key).unwrap();
    let place =
        Place::of_customer("customers", "sealed_record", tenant.as_str(), &id, id.as_bytes());
    let plain = keys.open(&place, &row.sealed_record).unwrap();
    store.close().await;
    serde_json::from_slice(&plain).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_13_without_a_whole_consent_that_holds_nobody_is_enrolled() {
    let bank = Bank::by("kz-2026").await;
    let mut desk = Desk::new(bank.site.staff(Role::Enroller).await);
    let before = (customers(&bank.site).await, entries(&bank.site).await);
    let mut asked = vec![("consent", None)];
    for (path, spoil) in spoiled() {
        let mut consent = consent();
        spoil(&mut consent, &bank.clock);
        asked.push((path, Some(consent)));
    }
    for (path, consent) in asked {
        let request = proto::CreateCustomerRequest { iin: IIN.into(), consent: consent.clone() };
        let status = desk.create_customer(request).await.unwrap_err();
        assert_eq!((reason(&status).as_str(), field(&status).as_str()), ("REQ_INVALID", path));
        let row = proto::BulkImportRequest {
            row: 7,
            iin: IIN.into(),
            consent,
            tokens: Vec::new(),
            images: vec![demo("biden.jpg")],
            language: "en".into(),
            fingers: Vec::new(),
        };
        let mut answers = desk.bulk_import(tokio_stream::iter([row])).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!((answer.row, answer.customer_id.as_str()), (7, ""));
        assert_eq!(
            (answer.error_reason.as_str(), answer.error_field.as_str()),
            ("REQ_INVALID", path)
        );
    }
    assert_eq!((customers(&bank.site).await, entries(&bank.site).await), before);
    // A millisecond earlier the last one still held.
    let mut last = consent();
    last.given_at = bank.clock.now().plus_millis(1 - 30 * DAY_MS).rfc3339();
    last.term = Some(Term::Days(30));
    let request = proto::CreateCustomerRequest { iin: IIN.into(), consent: Some(last) };
    desk.create_customer(request).await.unwrap();
    drop(desk);
    bank.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_13_a_consent_is_kept_sealed_and_its_taking_is_an_entry() {
    let site = Site::start().await;
    let given = proto::Consent {
        operator: "operator-canary".into(),
        subject: "subject-canary".into(),
        purpose: "purpose-canary".into(),
        term: Some(Term::Until("2099-12-31".into())),
        given_at: "2026-01-02T03:04:05Z".into(),
        evidence_ref: "archive-canary".into(),
    };
    let mut desk = Desk::new(site.staff(Role::Enroller).await);
    let request = proto::CreateCustomerRequest { iin: IIN.into(), consent: Some(given) };
    let customer_id = desk.create_customer(request).await.unwrap().into_inner().customer_id;
    drop(desk);
    let mut auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);
    let selector = Some(proto::get_receipt_request::Selector::Index(entries(&site).await - 1));
    let entry = auditor
        .get_receipt(proto::GetReceiptRequest { selector, ..proto::GetReceiptRequest::default() })
        .await
        .unwrap();
    let receipt_jws = entry.into_inner().receipt_jws;
    let entry = body(&proto::Decision { receipt_jws, ..proto::Decision::default() });
    assert_eq!(
        (&entry["kind"], &entry["act"]),
        (&"administration".into(), &"customer_created".into())
    );
    assert_eq!(entry["actor"]["name"], "dev");
    assert!(entry["subject"].is_string());
    assert!(!entry.to_string().contains("canary"), "{entry}");
    drop(auditor);
    for name in ["tulga.sqlite", "tulga.sqlite-wal"] {
        let bytes = std::fs::read(site.data().join(name)).unwrap();
        assert!(!bytes.windows(7).any(|run| run == b"-canary"), "the consent is open in {name}");
    }
    let data = site.stopped().await;
    let expected = json!({
        "iin": IIN,
        "consent": {
            "operator": "operator-canary",
            "subject": "subject-canary",
            "purpose": "purpose-canary",
            // The first instant after its last day.
            "until": "2100-01-01T00:00:00.000Z",
            "given_at": "2026-01-02T03:04:05.000Z",
            "evidence_ref": "archive-canary",
        },
    });
    assert_eq!(record_of(&data.path().join("data"), &customer_id).await, expected);
}

/// A stranger's deposit to a customer's account.
fn deposit(id: &str, consent: Option<proto::Consent>) -> proto::BeginCaptureRequest {
    let mut request = begin(id, CARD);
    let reference = Some(Reference::Iin(IIN.into()));
    request.customer = Some(proto::CustomerReference { reference });
    request.consent = consent;
    let transaction = request.transaction.as_mut().unwrap();
    transaction.operation = proto::Operation::DepositThirdParty.into();
    transaction.account = "owner-account".into();
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_13_a_guest_without_consent_is_denied_and_leaves_nothing() {
    let mut bank = Bank::by("kz-2026").await;
    bind(&bank, proto::TokenKind::Account, "owner-account").await;
    let guests = async |site: &Site| {
        let guest = |it: &proto::Customer| it.status() == proto::CustomerStatus::Guest;
        customers(site).await.into_iter().filter(guest).collect::<Vec<_>>()
    };
    for (path, spoil) in spoiled() {
        let mut consent = consent();
        spoil(&mut consent, &bank.clock);
        let status = bank.terminal.begin_capture(deposit("T0", Some(consent))).await.unwrap_err();
        assert_eq!((reason(&status).as_str(), field(&status).as_str()), ("REQ_INVALID", path));
    }
    for (id, consent, outcome, reasons) in
        [("T1", None, Denied, vec!["MAT_NOT_CONFIRMED"]), ("T2", Some(consent()), Approved, vec![])]
    {
        assert_eq!(guests(&bank.site).await, []);
        let opened = bank.terminal.begin_capture(deposit(id, consent)).await.unwrap().into_inner();
        let asked = verify(id, 1, &opened.challenge, demo("biden.jpg"));
        let decision = bank.terminal.verify(asked).await.unwrap().into_inner();
        assert_eq!(said(&decision), (outcome, reasons));
    }
    let [guest] = guests(&bank.site).await.try_into().unwrap();
    let Bank { site, terminal, .. } = bank;
    drop(terminal);
    let data = site.stopped().await;
    let record = record_of(&data.path().join("data"), &guest.customer_id).await;
    assert_eq!(
        (&record["iin"], &record["consent"]["purpose"]),
        (&IIN.into(), &consent().purpose.into())
    );
}
