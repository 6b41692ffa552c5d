//! KZ-15: reference images at enrolment, from a folder and from a service; and the second person whom a
//! doubt calls for.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Channel, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};
use tonic_types::StatusExt as _;
use tulga::capture::{DecodedImage, encode_png};
use tulga::clock::{Clock as _, ManualClock, SystemClock};
use tulga::crypto::{Digest, sha256};
use tulga::domain::id::{CustomerId, PrincipalName, TenantId};
use tulga::domain::iin::Iin;
use tulga::gateway::request::Actor;
use tulga::gateway::{GatewayError, ReferenceError, ReferenceSource as _, reference_name};
use tulga::grpc::reference::ReferenceEndpoint;
use tulga::pki::{Authority, KeyedCertificate, Role, Validity};
use tulga::proto;
use tulga::proto::SecondPersonReason as Reason;
use tulga::proto::audit_service_client::AuditServiceClient;
use tulga::proto::enrollment_service_client::EnrollmentServiceClient;
use tulga::proto::get_portrait_response::Answer;
use tulga::proto::reference_service_server::{ReferenceService, ReferenceServiceServer};
use tulga::proto::verification_service_client::VerificationServiceClient;

use crate::rules::{Ask, CARD, IIN, said, unsigned};
use crate::site::{Site, consent, demo, reason};

const HOUR_MS: i64 = 3_600_000;
const IIN_B: &str = "000000300029";
const IIN_C: &str = "000000300030";

type Desk = EnrollmentServiceClient<Channel>;

/// A folder of reference images, by number.
fn folder(portraits: &[(&str, &str, Bytes)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let tenant = TenantId::try_from("dev").unwrap();
    // Somebody's: a folder without any picture is a share that is not mounted.
    std::fs::write(dir.path().join("readme.txt"), "portraits").unwrap();
    for (iin, ending, picture) in portraits {
        let name = reference_name(&tenant, &Iin::try_from(*iin).unwrap());
        std::fs::write(dir.path().join(format!("{name}.{ending}")), picture).unwrap();
    }
    dir
}

fn by_folder(dir: &TempDir, pack: &TempDir) -> String {
    format!(
        "policy_dir = '{}'\n[rate]\nper_terminal_per_minute = 10000\n[reference]\ndir = '{}'\n",
        pack.path().display(),
        dir.path().display()
    )
}

/// A customer with a card and captures, not active yet.
async fn pending(desk: &mut Desk, iin: &str, card: &str, photographs: &[&str]) -> String {
    let request = proto::CreateCustomerRequest { iin: iin.into(), consent: Some(consent()) };
    let customer_id = desk.create_customer(request).await.unwrap().into_inner().customer_id;
    let bind = proto::BindTokenRequest {
        customer_id: customer_id.clone(),
        kind: proto::TokenKind::Card.into(),
        token: card.into(),
        expires_at: None,
    };
    desk.bind_token(bind).await.unwrap();
    for photograph in photographs {
        add(desk, &customer_id, photograph).await;
    }
    customer_id
}

async fn add(desk: &mut Desk, customer_id: &str, photograph: &str) -> String {
    let request = proto::AddCaptureRequest {
        customer_id: customer_id.into(),
        image: demo(photograph),
        media_type: None,
        language: "en".into(),
        ..proto::AddCaptureRequest::default()
    };
    let added = desk.add_capture(request).await.unwrap().into_inner();
    assert!(added.accepted, "{photograph}");
    added.capture_id
}

async fn activate(desk: &mut Desk, customer_id: &str) -> Result<proto::ActivateResponse, Status> {
    let request = proto::ActivateRequest { customer_id: customer_id.into() };
    desk.activate(request).await.map(Response::into_inner)
}

/// The call left the customer pending, for this reason.
async fn waits(desk: &mut Desk, customer_id: &str, why: Reason) {
    let answer = activate(desk, customer_id).await.unwrap();
    assert_eq!(answer.status(), proto::CustomerStatus::Pending);
    let needs = answer.needs_second_person.unwrap();
    assert_eq!(needs.reason(), why);
    let found = get(desk, customer_id).await;
    assert_eq!(found.status(), proto::CustomerStatus::Pending);
    assert_eq!(found.needs_second_person, Some(needs));
}

async fn is_activated(desk: &mut Desk, customer_id: &str) {
    let answer = activate(desk, customer_id).await.unwrap();
    assert_eq!(answer.status(), proto::CustomerStatus::Active);
    assert_eq!(answer.needs_second_person, None);
    assert_eq!(get(desk, customer_id).await.needs_second_person, None);
}

async fn is_refused(desk: &mut Desk, customer_id: &str) {
    assert_eq!(reason(&activate(desk, customer_id).await.unwrap_err()), "REQ_STATE");
}

async fn get(desk: &mut Desk, customer_id: &str) -> proto::Customer {
    let request = proto::GetCustomerRequest { customer_id: customer_id.into() };
    desk.get_customer(request).await.unwrap().into_inner()
}

/// The acts in the ledger, with their commitments.
async fn acts(site: &Site) -> Vec<(u64, String, Option<String>)> {
    let mut auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);
    let request = proto::ListReceiptsRequest { page_size: 1000, ..Default::default() };
    let page = auditor.list_receipts(request).await.unwrap().into_inner();
    page.receipts
        .iter()
        .map(|receipt| {
            let jws = std::str::from_utf8(&receipt.receipt_jws).unwrap();
            let payload = URL_SAFE_NO_PAD.decode(jws.split('.').nth(1).unwrap()).unwrap();
            let body: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            let index = receipt.position.as_ref().unwrap().index;
            let text = |key: &str| body[key].as_str().map(ToOwned::to_owned);
            (index, text("act").unwrap_or_default(), text("details"))
        })
        .collect()
}

/// The record of the latest entry of an act; the entry commits to it.
async fn record(site: &Site, act: &str) -> serde_json::Value {
    let all = acts(site).await;
    let (index, _, details) = all.iter().rfind(|(_, name, _)| name == act).unwrap().clone();
    let mut auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);
    let opened = auditor
        .get_audit_record(proto::GetAuditRecordRequest {
            index,
            ..proto::GetAuditRecordRequest::default()
        })
        .await;
    let proto::GetAuditRecordResponse { record, salt } = opened.unwrap().into_inner();
    let commitment = URL_SAFE_NO_PAD.encode(sha256(&[salt, record.clone()].concat()).as_bytes());
    assert_eq!(details, Some(commitment));
    serde_json::from_slice(&record).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_15_a_reference_that_matches_activates_and_the_first_days_are_capped() {
    let dir = folder(&[(IIN, "jpg", demo("obama2.jpg"))]);
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let site = Site::at(&by_folder(&dir, &unsigned("kz-2026")), Arc::clone(&clock) as _).await;
    // `enroll` asserts that the one call made the customer active.
    site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    let all = acts(&site).await;
    let (_, _, details) = all.iter().find(|(_, act, _)| act == "customer_activated").unwrap();
    assert_eq!(*details, None, "nobody was needed beside");
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let ask = || Ask::new(proto::Operation::Withdrawal, 20_000_000, "KZT");
    let capped = ask().decided(&mut terminal, "T1").await;
    assert_eq!(said(&capped), (proto::Outcome::ApprovedCapped, vec!["LIM_DAILY_CAP"]));
    assert_eq!(capped.cap.unwrap().amount_minor, 10_000_000);
    clock.advance_millis(48 * HOUR_MS);
    let whole = ask().decided(&mut terminal, "T2").await;
    assert_eq!(said(&whole), (proto::Outcome::Approved, vec![]));
    drop(terminal);
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_15_a_reference_of_somebody_else_needs_a_second_person() {
    let dir = folder(&[(IIN, "jpg", demo("biden.jpg"))]);
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let site = Site::at(&by_folder(&dir, &unsigned("kz-2026")), Arc::clone(&clock) as _).await;
    let mut desk = Desk::new(site.staff(Role::Enroller).await);
    let mut namesake = Desk::new(site.staff(Role::Admin).await);
    let mut second = Desk::new(site.named(Role::Enroller, "desk-2").await);
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let customer = pending(&mut desk, IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    waits(&mut desk, &customer, Reason::ReferenceDiffers).await;
    let proposal = get(&mut desk, &customer).await.needs_second_person.unwrap().proposal_id;
    let captures = record(&site, "activation_proposed").await["captures"].clone();
    assert!(captures.as_str().unwrap().starts_with("sha-256:"), "{captures}");
    assert_eq!(
        record(&site, "activation_proposed").await,
        serde_json::json!({
            "proposal": proposal,
            "reason": "reference_differs",
            "captures": captures,
        }),
        "no score, no name"
    );
    let ask = || Ask::new(proto::Operation::Withdrawal, 20_000_000, "KZT");
    assert_eq!(ask().decided(&mut terminal, "T1").await.outcome(), proto::Outcome::Denied);
    // The same person, the same name with another key, another name with the same key.
    let before = acts(&site).await;
    is_refused(&mut desk, &customer).await;
    is_refused(&mut namesake, &customer).await;
    let gateway = site.gateway.upgrade().unwrap();
    let id = customer_id(&customer);
    let other_name = Actor {
        role: "enroller",
        name: PrincipalName::try_from("desk-3").unwrap(),
        spki: key_of_proposal(&site).await,
    };
    let refused = gateway.activate(&other_name, &id).await;
    assert!(matches!(refused, Err(GatewayError::State(_))), "{refused:?}");
    drop(gateway);
    assert_eq!(acts(&site).await, before, "a refusal is no entry");

    // Whatever changes the captures makes the first call void: the second person's is then a first.
    let added = add(&mut desk, &customer, "obama2.jpg").await;
    assert_eq!(get(&mut desk, &customer).await.needs_second_person, None);
    waits(&mut second, &customer, Reason::ReferenceDiffers).await;
    let remove = proto::RemoveCaptureRequest { customer_id: customer.clone(), capture_id: added };
    desk.remove_capture(remove).await.unwrap();
    waits(&mut desk, &customer, Reason::ReferenceDiffers).await;
    // Three days later it counts no more either; a moment before it does.
    clock.advance_millis(72 * HOUR_MS);
    waits(&mut second, &customer, Reason::ReferenceDiffers).await;
    clock.advance_millis(72 * HOUR_MS - 1);
    is_activated(&mut desk, &customer).await;
    let record = record(&site, "customer_activated").await;
    assert_eq!(record["reason"], "reference_differs");
    assert_eq!(record["first"]["name"], "desk-2");
    let all = acts(&site).await;
    let (proposed, _, _) = all.iter().rfind(|(_, act, _)| act == "activation_proposed").unwrap();
    assert_eq!(record["first"]["index"], *proposed);
    is_refused(&mut second, &customer).await;
    // Two people do not end the cooling-off.
    let capped = ask().decided(&mut terminal, "T2").await;
    assert_eq!(said(&capped), (proto::Outcome::ApprovedCapped, vec!["LIM_DAILY_CAP"]));
    drop((desk, namesake, second, terminal));
    site.finish().await;
}

fn customer_id(text: &str) -> CustomerId {
    let bytes = (0..16).map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap());
    CustomerId::new(bytes.collect::<Vec<_>>().try_into().unwrap())
}

/// The key in the actor of the latest proposal's entry.
async fn key_of_proposal(site: &Site) -> Digest {
    let mut auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);
    let request = proto::ListReceiptsRequest { page_size: 1000, ..Default::default() };
    let page = auditor.list_receipts(request).await.unwrap().into_inner();
    let mut bodies = page.receipts.iter().map(|receipt| {
        let jws = std::str::from_utf8(&receipt.receipt_jws).unwrap();
        let payload = URL_SAFE_NO_PAD.decode(jws.split('.').nth(1).unwrap()).unwrap();
        serde_json::from_slice::<serde_json::Value>(&payload).unwrap()
    });
    let body = bodies.rfind(|body| body["act"] == "activation_proposed").unwrap();
    let cert = body["actor"]["cert"].as_str().unwrap().strip_prefix("sha-256:").unwrap();
    Digest::try_from(URL_SAFE_NO_PAD.decode(cert).unwrap().as_slice()).unwrap()
}

/// Nobody by the number, a picture that is none, one without a face; rows of an import; and a lookalike,
/// whom two people do not make active either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_15_without_a_usable_reference_two_people_decide_and_an_import_says_so() {
    let grey = DecodedImage::from_rgb(400, 400, vec![128; 480_000]).unwrap();
    let dir = folder(&[
        (IIN_B, "png", encode_png(&grey).unwrap().into()),
        (IIN_C, "jpg", Bytes::from_static(b"no picture")),
    ]);
    let site = Site::with(&by_folder(&dir, &unsigned("kz-2026"))).await;
    let mut desk = Desk::new(site.staff(Role::Enroller).await);
    let mut second = Desk::new(site.named(Role::Enroller, "desk-2").await);
    let row = proto::BulkImportRequest {
        row: 1,
        iin: IIN.into(),
        consent: Some(consent()),
        tokens: Vec::new(),
        images: vec![demo("obama.jpg")],
        language: "en".into(),
        fingers: Vec::new(),
    };
    let mut answers = desk.bulk_import(tokio_stream::iter([row])).await.unwrap().into_inner();
    let imported = answers.message().await.unwrap().unwrap();
    assert_eq!((imported.error_reason.as_str(), imported.captures_accepted), ("", 1));
    assert_eq!(imported.status(), proto::CustomerStatus::Pending);
    assert_eq!(imported.needs_second_person.unwrap().reason(), Reason::NoReference);
    drop(answers);
    is_refused(&mut desk, &imported.customer_id).await;
    is_activated(&mut second, &imported.customer_id).await;
    assert_eq!(record(&site, "customer_activated").await["reason"], "no_reference");

    let unusable = pending(&mut desk, IIN_B, "card-2", &["biden.jpg"]).await;
    waits(&mut desk, &unusable, Reason::ReferenceUnusable).await;
    is_activated(&mut second, &unusable).await;

    let lookalike = pending(&mut desk, IIN_C, "card-3", &["obama3.jpg"]).await;
    waits(&mut desk, &lookalike, Reason::ReferenceUnusable).await;
    let found = activate(&mut second, &lookalike).await.unwrap();
    assert_eq!(found.status(), proto::CustomerStatus::PendingDuplicate);
    assert_eq!(found.needs_second_person, None);
    assert_eq!(record(&site, "duplicate_suspected").await["first"]["name"], "dev");
    drop((desk, second));
    site.finish().await;
}

/// Without a source the bank may want two people for everybody, again when the captures were replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_activate_where_the_bank_wants_it() {
    let site = Site::with("[enrolment]\ntwo_people = true\n").await;
    let mut desk = Desk::new(site.staff(Role::Enroller).await);
    let mut second = Desk::new(site.named(Role::Enroller, "desk-2").await);
    let customer = pending(&mut desk, IIN, CARD, &["obama.jpg"]).await;
    waits(&mut desk, &customer, Reason::TwoPeople).await;
    is_activated(&mut second, &customer).await;
    let capture_id = get(&mut desk, &customer).await.capture_ids.remove(0);
    let remove = proto::RemoveCaptureRequest { customer_id: customer.clone(), capture_id };
    desk.remove_capture(remove).await.unwrap();
    add(&mut desk, &customer, "biden.jpg").await;
    // Both at once: whichever comes first proposes it, and the other one's call is the second person's.
    let both = tokio::join!(activate(&mut desk, &customer), activate(&mut second, &customer));
    let mut answers = [both.0.unwrap(), both.1.unwrap()];
    answers.sort_by_key(|answer| answer.needs_second_person.is_some());
    assert_eq!(answers[0].status(), proto::CustomerStatus::Active);
    assert_eq!(answers[1].needs_second_person.as_ref().unwrap().reason(), Reason::TwoPeople);
    assert_eq!(get(&mut desk, &customer).await.needs_second_person, None);
    drop((desk, second));
    site.finish().await;
}

/// Where further captures take two, nobody replaces an active customer's captures alone: neither a few nor all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_was_active_before_is_activated_again_by_two_people() {
    let dir = tempfile::tempdir().unwrap();
    let acts = "acts = ['further_capture']";
    let site = Site::by_two(dir, 0, acts, "", Arc::new(SystemClock)).await;
    let mut desk = Desk::new(site.staff(Role::Enroller).await);
    let mut second = Desk::new(site.named(Role::Enroller, "desk-2").await);
    // The first time one person is enough, as configured.
    let customer = pending(&mut desk, IIN, CARD, &["obama.jpg"]).await;
    is_activated(&mut desk, &customer).await;
    let capture_id = get(&mut desk, &customer).await.capture_ids.remove(0);
    let remove = proto::RemoveCaptureRequest { customer_id: customer.clone(), capture_id };
    desk.remove_capture(remove).await.unwrap();
    add(&mut desk, &customer, "biden.jpg").await;
    waits(&mut desk, &customer, Reason::ActiveBefore).await;
    is_refused(&mut desk, &customer).await;
    is_activated(&mut second, &customer).await;
    drop((desk, second));
    site.finish().await;
}

/// What the service does with the next question.
#[derive(Clone)]
enum Mood {
    Portrait(Bytes),
    Nobody,
    Hangs,
    Huge,
    Errs(tonic::Code),
    Silent,
}

/// A bank's service, which remembers whom it was asked about.
#[derive(Clone)]
struct Portraits {
    mood: Arc<Mutex<Mood>>,
    asked: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl ReferenceService for Portraits {
    async fn get_portrait(
        &self,
        request: Request<proto::GetPortraitRequest>,
    ) -> Result<Response<proto::GetPortraitResponse>, Status> {
        assert!(request.peer_certs().is_some_and(|chain| !chain.is_empty()));
        assert!(request.metadata().contains_key("grpc-timeout"));
        let iin = request.into_inner().iin;
        self.asked.lock().unwrap().push(iin.clone());
        let mood = self.mood.lock().unwrap().clone();
        let answer = match mood {
            Mood::Portrait(picture) => Some(Answer::Portrait(picture)),
            Mood::Nobody => Some(Answer::None(proto::NoPortrait {})),
            Mood::Hangs => {
                tokio::time::sleep(Duration::from_mins(1)).await;
                None
            }
            Mood::Huge => Some(Answer::Portrait(vec![0xff; 20 << 20].into())),
            Mood::Errs(code) => return Err(Status::new(code, format!("about {iin}"))),
            Mood::Silent => None,
        };
        Ok(Response::new(proto::GetPortraitResponse { answer }))
    }
}

/// A service that runs, the authority behind it, and the gateway's files for it.
struct Bank {
    portraits: Portraits,
    client: KeyedCertificate,
    authority: Authority,
    url: String,
    dir: TempDir,
}

impl Bank {
    async fn serve() -> Self {
        let now = SystemClock.now();
        let tenant = TenantId::try_from("portraits").unwrap();
        let authority = Authority::generate(tenant, Validity::of_authority(now)).unwrap();
        let server = authority.issue_server(&[], Validity::of_leaf(now)).unwrap();
        let name = PrincipalName::try_from("gateway").unwrap();
        let client = authority.issue_client(Role::Host, &name, Validity::of_leaf(now)).unwrap();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(&server.certificate_pem, server.key_pem.as_bytes()))
            .client_ca_root(Certificate::from_pem(authority.certificate_pem()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let portraits = Portraits {
            mood: Arc::new(Mutex::new(Mood::Nobody)),
            asked: Arc::new(Mutex::new(Vec::new())),
        };
        let service = ReferenceServiceServer::new(portraits.clone());
        let serving = Server::builder().tls_config(tls).unwrap().add_service(service);
        tokio::spawn(serving.serve_with_incoming(TcpIncoming::from(listener)));
        let dir = tempfile::tempdir().unwrap();
        let this = Self { portraits, client, authority, url, dir };
        this.write("gateway.pem", &this.client.certificate_pem);
        this.write("gateway.key", &this.client.key_pem);
        this.write("ca.pem", this.authority.certificate_pem());
        this
    }

    fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn config(&self) -> String {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        format!(
            "[reference]\nurl = '{}'\ncertificate = '{}'\nkey = '{}'\nauthority = '{}'\n\
             deadline_ms = 1500\n",
            self.url,
            at("gateway.pem"),
            at("gateway.key"),
            at("ca.pem")
        )
    }

    /// The gateway's side, without a gateway.
    fn endpoint(&self) -> ReferenceEndpoint {
        ReferenceEndpoint {
            url: self.url.clone(),
            certificate_pem: self.client.certificate_pem.clone(),
            key_pem: self.client.key_pem.clone(),
            authority_pem: self.authority.certificate_pem().to_owned(),
            deadline: Duration::from_millis(1500),
            picture_bytes_max: 1 << 20,
        }
    }

    fn is_in(&self, mood: Mood) {
        *self.portraits.mood.lock().unwrap() = mood;
    }

    fn asked(&self) -> usize {
        self.portraits.asked.lock().unwrap().len()
    }
}

/// A service that fails activates nobody and changes nothing; once it answers the same call goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_15_a_service_that_fails_activates_nobody_and_changes_nothing() {
    let bank = Bank::serve().await;
    let site = Site::with(&bank.config()).await;
    let mut desk = Desk::new(site.staff(Role::Enroller).await);
    let mut second = Desk::new(site.named(Role::Enroller, "desk-2").await);
    let customer = pending(&mut desk, IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    let before = acts(&site).await;
    for mood in [
        Mood::Errs(tonic::Code::Unavailable),
        Mood::Errs(tonic::Code::NotFound),
        Mood::Huge,
        Mood::Silent,
        Mood::Portrait(Bytes::new()),
        Mood::Hangs,
    ] {
        bank.is_in(mood);
        let began = Instant::now();
        let status = activate(&mut desk, &customer).await.unwrap_err();
        assert_eq!(reason(&status), "SYS_NOT_READY");
        assert!(status.get_details_retry_info().is_some());
        assert!(!format!("{status:?}").contains(IIN), "{status:?}");
        assert!(began.elapsed() < Duration::from_secs(20), "the deadline holds");
        let found = get(&mut desk, &customer).await;
        assert_eq!(found.status(), proto::CustomerStatus::Pending);
        assert_eq!(found.needs_second_person, None);
    }
    assert_eq!(acts(&site).await, before);
    assert_eq!(bank.asked(), 6, "one question a call");
    bank.is_in(Mood::Portrait(demo("biden.jpg")));
    waits(&mut desk, &customer, Reason::ReferenceDiffers).await;
    // The second person's word needs no source.
    bank.is_in(Mood::Errs(tonic::Code::Unavailable));
    is_activated(&mut second, &customer).await;
    assert_eq!(bank.asked(), 7);
    let other = pending(&mut desk, IIN_B, "card-2", &["biden.jpg"]).await;
    bank.is_in(Mood::Nobody);
    waits(&mut desk, &other, Reason::NoReference).await;
    // Nobody is asked about who is not pending, or has no captures.
    let nothing = pending(&mut desk, IIN_C, "card-3", &[]).await;
    for not_asked in [&customer, &nothing] {
        is_refused(&mut desk, not_asked).await;
    }
    assert_eq!(bank.asked(), 8);
    assert_eq!(bank.portraits.asked.lock().unwrap()[7], IIN_B);
    drop((desk, second));
    site.finish().await;
}

/// The adapter alone: what each failure is called, whom it trusts, and that it repeats nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_of_a_reference_service_is_bounded_and_repeats_nothing() {
    let bank = Bank::serve().await;
    let iin = Iin::try_from(IIN).unwrap();
    let source = bank.endpoint().source().unwrap();
    let picture = Bytes::from(vec![7; 1 << 20]);
    bank.is_in(Mood::Portrait(picture.clone()));
    assert_eq!(source.portrait(&iin).await.unwrap(), Some(picture));
    bank.is_in(Mood::Portrait(vec![7; (1 << 20) + 1].into()));
    assert!(matches!(source.portrait(&iin).await, Err(ReferenceError::TooLarge)));
    bank.is_in(Mood::Huge);
    assert!(matches!(source.portrait(&iin).await, Err(ReferenceError::TooLarge)));
    bank.is_in(Mood::Nobody);
    assert_eq!(source.portrait(&iin).await.unwrap(), None);
    bank.is_in(Mood::Silent);
    assert!(matches!(source.portrait(&iin).await, Err(ReferenceError::Malformed)));
    bank.is_in(Mood::Hangs);
    assert!(matches!(source.portrait(&iin).await, Err(ReferenceError::Deadline)));
    bank.is_in(Mood::Errs(tonic::Code::NotFound));
    let refused = source.portrait(&iin).await.unwrap_err();
    assert!(matches!(refused, ReferenceError::Refused("NOT_FOUND")), "{refused:?}");
    assert!(!format!("{refused:?} {refused}").contains(IIN));

    // Another authority on either side, a plain url, nobody there.
    let now = SystemClock.now();
    let tenant = TenantId::try_from("strangers").unwrap();
    let stranger = Authority::generate(tenant, Validity::of_authority(now)).unwrap();
    let name = PrincipalName::try_from("gateway").unwrap();
    let leaf = stranger.issue_client(Role::Host, &name, Validity::of_leaf(now)).unwrap();
    let (certificate_pem, key_pem) = (leaf.certificate_pem, leaf.key_pem);
    let authority_pem = stranger.certificate_pem().to_owned();
    let asked = bank.asked();
    for endpoint in [
        ReferenceEndpoint { authority_pem, ..bank.endpoint() },
        ReferenceEndpoint { certificate_pem, key_pem, ..bank.endpoint() },
        ReferenceEndpoint { url: "https://127.0.0.1:9".into(), ..bank.endpoint() },
    ] {
        let failed = endpoint.source().unwrap().portrait(&iin).await.unwrap_err();
        assert!(matches!(failed, ReferenceError::Unreachable(_)), "{failed:?}");
    }
    assert_eq!(bank.asked(), asked);
    let broken = ReferenceEndpoint { authority_pem: "no certificate".into(), ..bank.endpoint() };
    let broken_key = ReferenceEndpoint { key_pem: String::new().into(), ..bank.endpoint() };
    for endpoint in [broken, broken_key] {
        assert!(endpoint.check().is_err());
    }
}
