//! What takes two people: another person of another unit, by registered keys, in its time, once.

mod command_line;

use std::sync::Arc;

use tonic::transport::Channel;
use tonic::{Code, Status};
use tulga::clock::{Clock as _, ManualClock, SystemClock};
use tulga::domain::four_eyes::StaffRole;
use tulga::domain::id::{PrincipalName, UnitName};
use tulga::domain::iin::Iin;
use tulga::domain::time::UnixMillis;
use tulga::gateway::{GatewayError, NewPrincipal, RootAct};
use tulga::pki::{KeyedCertificate, Role, identify};
use tulga::proto;
use tulga::proto::audit_service_client::AuditServiceClient;
use tulga::proto::enrollment_service_client::EnrollmentServiceClient;
use tulga::proto::key_service_client::KeyServiceClient;
use tulga::proto::policy_service_client::PolicyServiceClient;
use tulga::proto::principal_service_client::PrincipalServiceClient;
use tulga::proto::proposal_service_client::ProposalServiceClient;
use tulga::proto::terminal_service_client::TerminalServiceClient;

use crate::site::{Site, consent, demo, field, payload, reason};

/// How long after its proposal an act may be approved here.
const DELAY_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;

/// A bank where erasures, captures and people take two, in a minute at the earliest.
struct Office {
    site: Site,
    clock: Arc<ManualClock>,
    /// `dev` of the unit operations.
    one: Channel,
    /// `dev-second` of the unit control.
    two: Channel,
    /// An active customer.
    customer: String,
}

impl Office {
    async fn open() -> Self {
        let delays = "acts = ['erasure', 'further_capture']\n[four_eyes.delay_s]\nerasure = 60\n\
                      further_capture = 60\nprincipal_registration = 60\nprincipal_revocation = 60\n\
                      activation = 60";
        let rate = "[rate]\nper_terminal_per_minute = 10000\n";
        // In the middle of a half-year, so that all entries are of one ledger.
        let begun = UnixMillis::parse_rfc3339("2026-08-03T06:00:00Z").unwrap();
        let clock = Arc::new(ManualClock::new(begun));
        let dir = tempfile::tempdir().unwrap();
        let site = Site::by_two(dir, 0, delays, rate, Arc::clone(&clock) as _).await;
        let customer = site.enroll("000000300017", "card-1", &["obama.jpg"]).await;
        let one = site.staff(Role::Admin).await;
        let two = site.staff_named(Role::Admin, "dev-second").await;
        Self { site, clock, one, two, customer }
    }

    async fn close(self) {
        let Self { site, one, two, .. } = self;
        drop((one, two));
        site.finish().await;
    }

    /// Somebody registered in a unit.
    async fn colleague(&self, name: &str, unit: &str) -> (Channel, KeyedCertificate) {
        let certificate = self.site.certified(Role::Admin, name);
        self.site.pinned(&certificate, unit).await;
        (self.connect(&certificate).await, certificate)
    }

    async fn connect(&self, certificate: &KeyedCertificate) -> Channel {
        self.site.connect(&certificate.certificate_pem, &certificate.key_pem).await
    }

    async fn status_of(&self, id: &str) -> proto::Proposal {
        let asked = proto::ListProposalsRequest { closed_too: true, ..Default::default() };
        let mut desk = ProposalServiceClient::new(self.one.clone());
        let listed = desk.list_proposals(asked).await.unwrap().into_inner().proposals;
        listed.into_iter().find(|proposal| proposal.proposal_id == id).unwrap()
    }

    /// What the entries say, those about people at the door left out: act, or kind, and actor and subject.
    async fn said(&self) -> Vec<(String, String, String)> {
        let mut auditor = AuditServiceClient::new(self.site.staff(Role::Auditor).await);
        let asked = proto::ListReceiptsRequest { page_size: 1000, ..Default::default() };
        let page = auditor.list_receipts(asked).await.unwrap().into_inner();
        let body = |receipt: proto::Receipt| payload(&receipt.receipt_jws);
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        page.receipts
            .into_iter()
            .map(body)
            .map(|it| {
                let act = if it["act"].is_null() { &it["kind"] } else { &it["act"] };
                (text(act), text(&it["actor"]["name"]), text(&it["subject"]))
            })
            // Who was turned away at the door is counted, and the counts are entered by the minute.
            .filter(|(act, ..)| act != "incidents")
            .collect()
    }
}

async fn approve(who: &Channel, id: &str) -> Result<proto::ApproveProposalResponse, Status> {
    let asked = proto::ApproveProposalRequest { proposal_id: id.into() };
    let answer = ProposalServiceClient::new(who.clone()).approve_proposal(asked).await;
    answer.map(tonic::Response::into_inner)
}

async fn withdraw(who: &Channel, id: &str) -> Result<proto::WithdrawProposalResponse, Status> {
    let asked = proto::WithdrawProposalRequest { proposal_id: id.into() };
    let answer = ProposalServiceClient::new(who.clone()).withdraw_proposal(asked).await;
    answer.map(tonic::Response::into_inner)
}

async fn register(
    who: &Channel,
    certificate: &KeyedCertificate,
    unit: &str,
) -> Result<proto::Proposal, Status> {
    let certificate_pem = certificate.certificate_pem.clone();
    let asked = proto::RegisterPrincipalRequest { certificate_pem, unit: unit.into() };
    let answer = PrincipalServiceClient::new(who.clone()).register_principal(asked).await;
    answer.map(|answer| answer.into_inner().proposal.unwrap())
}

async fn revoke(who: &Channel, certificate: &KeyedCertificate) -> Result<proto::Proposal, Status> {
    let spki_sha256 = identify(&certificate.certificate_der).unwrap().spki.hex();
    let asked = proto::RevokePrincipalRequest { spki_sha256 };
    let answer = PrincipalServiceClient::new(who.clone()).revoke_principal(asked).await;
    answer.map(|answer| answer.into_inner().proposal.unwrap())
}

async fn terminals(who: &Channel) -> Result<(), Status> {
    let asked = proto::ListTerminalsRequest::default();
    TerminalServiceClient::new(who.clone()).list_terminals(asked).await.map(drop)
}

fn capture_of(customer_id: &str, photograph: &str) -> proto::AddCaptureRequest {
    proto::AddCaptureRequest {
        customer_id: customer_id.into(),
        image: demo(photograph),
        media_type: Some("image/jpeg".into()),
        language: "en".into(),
        ..Default::default()
    }
}

/// Twelve digits that nobody has: the month is 00.
fn iin_of_nobody(number: u32) -> String {
    (10..100)
        .map(|end| format!("000001{end}{number:04}"))
        .find(|digits| Iin::try_from(digits.as_str()).is_ok())
        .unwrap()
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Erasure,
    FurtherCapture,
    Registration,
    Revocation,
    Activation,
}

/// Whom or what it is about.
enum About {
    Customer(String),
    Person(Box<KeyedCertificate>),
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Erasure,
        Self::FurtherCapture,
        Self::Registration,
        Self::Revocation,
        Self::Activation,
    ];

    async fn about(self, office: &Office, number: u32) -> About {
        match self {
            Self::Erasure => {
                let mut desk = EnrollmentServiceClient::new(office.one.clone());
                let iin = iin_of_nobody(number);
                let created = proto::CreateCustomerRequest { iin, consent: Some(consent()) };
                let created = desk.create_customer(created).await.unwrap().into_inner();
                About::Customer(created.customer_id)
            }
            Self::FurtherCapture => About::Customer(office.customer.clone()),
            Self::Registration => {
                let name = format!("new-{number}");
                About::Person(Box::new(office.site.certified(Role::Enroller, &name)))
            }
            Self::Revocation => {
                let name = format!("old-{number}");
                About::Person(Box::new(office.colleague(&name, "branch").await.1))
            }
            Self::Activation => {
                // Active before, and with other captures since.
                let (iin, card) = (iin_of_nobody(number + 100), format!("card-of-{number}"));
                let customer_id = office.site.enroll(&iin, &card, &["biden.jpg"]).await;
                let mut desk = EnrollmentServiceClient::new(office.one.clone());
                let asked = proto::GetCustomerRequest { customer_id: customer_id.clone() };
                let capture_ids = desk.get_customer(asked).await.unwrap().into_inner().capture_ids;
                for capture_id in capture_ids {
                    let customer_id = customer_id.clone();
                    let asked = proto::RemoveCaptureRequest { customer_id, capture_id };
                    desk.remove_capture(asked).await.unwrap();
                }
                let added = desk.add_capture(capture_of(&customer_id, "biden.jpg")).await.unwrap();
                assert!(added.into_inner().accepted);
                About::Customer(customer_id)
            }
        }
    }

    async fn propose(self, office: &Office, about: &About) -> proto::Proposal {
        let mut desk = EnrollmentServiceClient::new(office.one.clone());
        match (self, about) {
            (Self::Erasure, About::Customer(customer_id)) => {
                let asked = proto::EraseRequest { customer_id: customer_id.clone() };
                let answer = desk.erase(asked).await.unwrap().into_inner();
                assert!(answer.receipt_jws.is_empty() && answer.position.is_none());
                answer.proposal.unwrap()
            }
            (Self::FurtherCapture, About::Customer(customer_id)) => {
                let asked = capture_of(customer_id, "obama3.jpg");
                let answer = desk.add_capture(asked).await.unwrap().into_inner();
                assert!(!answer.accepted && answer.capture_id.is_empty());
                answer.proposal.unwrap()
            }
            (Self::Registration, About::Person(person)) => {
                register(&office.one, person, "branch").await.unwrap()
            }
            (Self::Revocation, About::Person(person)) => revoke(&office.one, person).await.unwrap(),
            (Self::Activation, About::Customer(customer_id)) => {
                let asked = proto::ActivateRequest { customer_id: customer_id.clone() };
                let answer = desk.activate(asked).await.unwrap().into_inner();
                assert_eq!(answer.status(), proto::CustomerStatus::Pending);
                office.status_of(&answer.needs_second_person.unwrap().proposal_id).await
            }
            _ => unreachable!(),
        }
    }

    /// Whether what is proposed has been done, `times` so far.
    async fn is_done(self, office: &Office, about: &About, times: usize) -> bool {
        match about {
            About::Customer(customer_id) => {
                let asked = proto::GetCustomerRequest { customer_id: customer_id.clone() };
                let mut desk = EnrollmentServiceClient::new(office.one.clone());
                let customer = desk.get_customer(asked).await.unwrap().into_inner();
                match self {
                    Self::Erasure => customer.status() == proto::CustomerStatus::Erased,
                    Self::Activation => customer.status() == proto::CustomerStatus::Active,
                    _ => customer.capture_ids.len() == 1 + times,
                }
            }
            About::Person(person) => {
                let key = identify(&person.certificate_der).unwrap().spki;
                let gateway = office.site.gateway.upgrade().unwrap();
                let rows = gateway.principals(None, 1000).await.unwrap();
                let row = rows.into_iter().find(|row| row.spki == key);
                match self {
                    Self::Registration => row.is_some(),
                    _ => row.unwrap().revoked.is_some(),
                }
            }
        }
    }

    /// The words of the entries.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Erasure => ("erasure_proposed", "erasure"),
            Self::FurtherCapture => ("capture_proposed", "capture_added"),
            Self::Registration => ("principal_proposed", "principal_registered"),
            Self::Revocation => ("principal_revocation_proposed", "principal_revoked"),
            Self::Activation => ("activation_proposed", "customer_activated"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_is_done_once_by_another_person_of_another_unit_and_by_nobody_else() {
    let office = Office::open().await;
    let (same_unit, _) = office.colleague("colleague", "operations").await;
    let namesake = office.site.certified(Role::Auditor, "dev-second");
    let namesake = {
        // The second person's unit, the first one's name: whoever registers them is told no.
        let identity = identify(&namesake.certificate_der).unwrap();
        let person = NewPrincipal {
            role: StaffRole::Auditor,
            name: PrincipalName::try_from("dev").unwrap(),
            unit: UnitName::try_from("control").unwrap(),
            spki: identity.spki,
        };
        office.site.root_act(RootAct::Pin, vec![person]).await
    };
    assert!(matches!(namesake, Err(GatewayError::State(_))), "{namesake:?}");
    let stranger = office.connect(&office.site.certified(Role::Admin, "stranger")).await;
    let (revoked, certificate) = office.colleague("revoked", "control").await;
    terminals(&revoked).await.unwrap();
    let identity = identify(&certificate.certificate_der).unwrap();
    let person = NewPrincipal {
        role: StaffRole::Admin,
        name: identity.principal.name,
        unit: UnitName::try_from("control").unwrap(),
        spki: identity.spki,
    };
    office.site.root_act(RootAct::Unpin, vec![person]).await.unwrap();

    for kind in Kind::ALL {
        let about = kind.about(&office, 1).await;
        let proposed = kind.propose(&office, &about).await;
        let id = proposed.proposal_id.clone();
        assert_eq!(proposed.state(), proto::ProposalState::Open, "{kind:?}");
        let waits = [&proposed.proposed_at, &proposed.not_before, &proposed.expires_at];
        let [at, not_before, expires] = waits.map(|instant| instant.as_ref().unwrap().unix_ms);
        assert_eq!((not_before - at, expires - at), (DELAY_MS, 72 * HOUR_MS));
        let early = approve(&office.two, &id).await.unwrap_err();
        assert_eq!(reason(&early), "REQ_STATE", "{kind:?}: before its time");
        office.clock.advance_millis(DELAY_MS);
        let refused = [
            ("the same person", &office.one, Code::FailedPrecondition, "REQ_STATE"),
            ("of the same unit", &same_unit, Code::FailedPrecondition, "REQ_STATE"),
            ("an unregistered key", &stranger, Code::Unauthenticated, "DEV_UNKNOWN"),
            ("a revoked key", &revoked, Code::Unauthenticated, "DEV_UNKNOWN"),
        ];
        let before = office.said().await.len();
        for (who, channel, code, word) in refused {
            let status = approve(channel, &id).await.unwrap_err();
            assert_eq!((status.code(), reason(&status).as_str()), (code, word), "{kind:?}: {who}");
        }
        assert!(!kind.is_done(&office, &about, 1).await, "{kind:?}");
        assert_eq!(office.said().await.len(), before, "{kind:?}: a refusal is no entry");

        let done = approve(&office.two, &id).await.unwrap();
        assert!(kind.is_done(&office, &about, 1).await, "{kind:?}");
        let again = approve(&office.two, &id).await.unwrap_err();
        assert_eq!(reason(&again), "REQ_STATE", "{kind:?}: twice");
        assert_eq!(reason(&withdraw(&office.one, &id).await.unwrap_err()), "REQ_STATE");
        let body = payload(&done.receipt_jws);
        assert_eq!(body["actor"]["name"], "dev-second", "{kind:?}");
        let (first, second) = kind.words();
        let subject = body["subject"].as_str().unwrap();
        let said: Vec<_> = office.said().await.into_iter().filter(|it| it.2 == subject).collect();
        let of = |word: &str| said.iter().filter(|it| it.0 == word).collect::<Vec<_>>();
        assert_eq!(of(first).last().unwrap().1, "dev", "{kind:?}");
        assert_eq!(of(second).last().unwrap().1, "dev-second", "{kind:?}");
        let closed = office.status_of(&id).await;
        assert_eq!(closed.state(), proto::ProposalState::Done, "{kind:?}");
        assert_eq!((closed.closed_by.as_str(), closed.what.as_str()), ("dev-second", ""));
        assert_eq!(closed.closed_position, done.position, "{kind:?}");
    }
    drop((same_unit, stranger, revoked));
    office.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_that_is_withdrawn_or_too_old_is_approved_by_nobody() {
    let office = Office::open().await;
    let enroller = office.site.staff(Role::Enroller).await;
    for kind in Kind::ALL {
        let about = kind.about(&office, 1).await;
        let id = kind.propose(&office, &about).await.proposal_id;
        office.clock.advance_millis(DELAY_MS);
        let others = withdraw(&enroller, &id).await.unwrap_err();
        assert_eq!(reason(&others), "REQ_STATE", "{kind:?}: somebody else's");
        // Another administrator may stop it; whoever proposed it takes back the next one.
        withdraw(&office.two, &id).await.unwrap();
        let late = approve(&office.two, &id).await.unwrap_err();
        assert_eq!(reason(&late), "REQ_STATE", "{kind:?}: withdrawn");
        let id = kind.propose(&office, &about).await.proposal_id;
        withdraw(&office.one, &id).await.unwrap();
        assert_eq!(office.status_of(&id).await.state(), proto::ProposalState::Withdrawn);

        let id = kind.propose(&office, &about).await.proposal_id;
        office.clock.advance_millis(72 * HOUR_MS);
        let late = approve(&office.two, &id).await.unwrap_err();
        assert_eq!(reason(&late), "REQ_STATE", "{kind:?}: expired");
        assert_eq!(office.status_of(&id).await.state(), proto::ProposalState::Expired);
        // The clerk's work, whenever it comes: one entry, and a new proposal in the meantime.
        let next = kind.propose(&office, &about).await.proposal_id;
        let gateway = office.site.gateway.upgrade().unwrap();
        for _ in 0..2 {
            gateway.expire_proposals().await.unwrap();
        }
        drop(gateway);
        let expired = office.status_of(&id).await;
        assert!(expired.closed_position.is_some() && expired.closed_by.is_empty());
        let ended = office.said().await.into_iter().filter(|it| it.0 == "proposal_expired");
        let subject = &expired.subject;
        assert_eq!(ended.filter(|it| it.2 == *subject).count(), 1, "{kind:?}");
        assert!(!kind.is_done(&office, &about, 1).await, "{kind:?}");
        withdraw(&office.one, &next).await.unwrap();
    }
    drop(enroller);
    office.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_owns_the_authority_makes_nobody_a_second_person() {
    let office = Office::open().await;
    let before = office.said().await;
    for role in StaffRole::ALL {
        let role = Role::from_word(role.as_str()).unwrap();
        for name in ["dev", "dev-second", "somebody"] {
            // The names of people who are registered, with keys of the authority's owner.
            let tenant = tulga::domain::id::TenantId::try_from("dev").unwrap();
            let authority = office.site.pki().load_authority(tenant).unwrap();
            let name = PrincipalName::try_from(name).unwrap();
            let validity = tulga::pki::Validity::of_leaf(SystemClock.now());
            let made = authority.issue_client(role, &name, validity).unwrap();
            let channel = office.connect(&made).await;
            let refused = match role {
                Role::Oversight => {
                    let mut desk = tulga::proto::report_service_client::ReportServiceClient::new(
                        channel.clone(),
                    );
                    desk.make_report(proto::MakeReportRequest::default()).await.unwrap_err()
                }
                Role::PolicyAuthor | Role::PolicyApprover => {
                    let mut desk = PolicyServiceClient::new(channel.clone());
                    desk.list_packs(proto::ListPacksRequest::default()).await.unwrap_err()
                }
                Role::KeyCustodian => {
                    let mut desk = KeyServiceClient::new(channel.clone());
                    desk.list_keys(proto::ListKeysRequest {}).await.unwrap_err()
                }
                Role::Auditor => {
                    let mut desk = AuditServiceClient::new(channel.clone());
                    desk.get_checkpoint(proto::GetCheckpointRequest::default()).await.unwrap_err()
                }
                _ => approve(&channel, &"0".repeat(32)).await.unwrap_err(),
            };
            assert_eq!(
                (refused.code(), reason(&refused).as_str()),
                (Code::Unauthenticated, "DEV_UNKNOWN"),
                "{role:?} {name}"
            );
        }
    }
    assert_eq!(office.said().await, before);
    // Nor does a signature that is not the root key's register anybody.
    let gateway = office.site.gateway.upgrade().unwrap();
    let person = NewPrincipal {
        role: StaffRole::Admin,
        name: PrincipalName::try_from("somebody").unwrap(),
        unit: UnitName::try_from("branch").unwrap(),
        spki: tulga::crypto::Digest::new([7; 32]),
    };
    for signature in [vec![], vec![0; 64]] {
        for refused in [
            gateway.pin_principals(vec![person.clone()], &signature).await,
            gateway.unpin_principals(vec![person.clone()], &signature).await,
        ] {
            assert!(matches!(refused, Err(GatewayError::Invalid { field: "signature", .. })));
        }
    }
    drop(gateway);
    office.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_acts_from_their_registration_on_until_their_revocation() {
    let office = Office::open().await;
    let new = office.site.certified(Role::Admin, "aizhan");
    let channel = office.connect(&new).await;
    assert_eq!(reason(&terminals(&channel).await.unwrap_err()), "DEV_UNKNOWN");
    let waits = register(&office.one, &new, "branch-1").await.unwrap();
    assert_eq!(waits.subject, "admin/aizhan@branch-1");
    assert!(waits.what.starts_with("sha-256:"), "{}", waits.what);
    let again = register(&office.two, &new, "branch-1").await.unwrap_err();
    assert_eq!(reason(&again), "REQ_EXISTS", "the same is proposed");
    office.clock.advance_millis(DELAY_MS);
    approve(&office.two, &waits.proposal_id).await.unwrap();
    terminals(&channel).await.unwrap();
    let again = register(&office.one, &new, "branch-1").await.unwrap_err();
    assert_eq!(reason(&again), "REQ_EXISTS", "registered");
    // Their second key is of the same unit, or of none.
    let second_key = office.site.certified(Role::Enroller, "aizhan");
    let waits = register(&office.one, &second_key, "control").await.unwrap();
    office.clock.advance_millis(DELAY_MS);
    let moved = approve(&channel, &waits.proposal_id).await.unwrap_err();
    assert_eq!(reason(&moved), "REQ_STATE");
    assert_eq!(office.status_of(&waits.proposal_id).await.state(), proto::ProposalState::Open);

    // What she proposed counts no more once her key is revoked; nor does she, on an open connection.
    let customer = Kind::Erasure.about(&office, 9).await;
    let About::Customer(customer_id) = customer else { unreachable!() };
    let asked = proto::EraseRequest { customer_id };
    let mut desk = EnrollmentServiceClient::new(channel.clone());
    let hers = desk.erase(asked).await.unwrap().into_inner().proposal.unwrap().proposal_id;
    let waits = revoke(&office.one, &new).await.unwrap();
    office.clock.advance_millis(DELAY_MS);
    approve(&office.two, &waits.proposal_id).await.unwrap();
    assert_eq!(reason(&terminals(&channel).await.unwrap_err()), "DEV_UNKNOWN");
    let orphan = approve(&office.two, &hers).await.unwrap_err();
    assert_eq!(reason(&orphan), "REQ_STATE");
    assert_eq!(reason(&revoke(&office.one, &new).await.unwrap_err()), "REQ_NOT_FOUND");
    let again = register(&office.one, &new, "branch-1").await.unwrap_err();
    assert_eq!(reason(&again), "REQ_EXISTS", "a revoked key never comes back");
    let auditor = PrincipalServiceClient::new(office.site.staff(Role::Auditor).await);
    let rows = listed(auditor).await;
    let row = rows.iter().find(|row| row.name == "aizhan").unwrap();
    assert_eq!((row.role.as_str(), row.unit.as_str()), ("admin", "branch-1"));
    assert!(row.revoked_at.is_some() && row.revoked_position.is_some());
    assert_eq!(row.proposal_id.len(), 32);
    drop((channel, desk));
    office.close().await;
}

/// Two a page.
async fn listed(mut desk: PrincipalServiceClient<Channel>) -> Vec<proto::Principal> {
    let (mut rows, mut page_token) = (Vec::new(), String::new());
    loop {
        let asked = proto::ListPrincipalsRequest { page_size: 2, page_token };
        let answer = desk.list_principals(asked).await.unwrap().into_inner();
        rows.extend(answer.principals);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return rows;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_proposed_is_refused_by_its_field() {
    let office = Office::open().await;
    let good = office.site.certified(Role::Admin, "good").certificate_pem;
    let host = office.site.certified(Role::Host, "host").certificate_pem;
    let other_bank = {
        let tenant = tulga::domain::id::TenantId::try_from("other-bank").unwrap();
        let validity = tulga::pki::Validity::of_authority(SystemClock.now());
        let authority = tulga::pki::Authority::generate(tenant, validity).unwrap();
        let leaf = tulga::pki::Validity::of_leaf(SystemClock.now());
        let name = PrincipalName::try_from("good").unwrap();
        authority.issue_client(Role::Admin, &name, leaf).unwrap().certificate_pem
    };
    let mut people = PrincipalServiceClient::new(office.one.clone());
    let cases = [
        ("certificate_pem", String::new(), "branch"),
        ("certificate_pem", "-----BEGIN CERTIFICATE-----\nAA==\n".into(), "branch"),
        ("certificate_pem", host, "branch"),
        ("certificate_pem", other_bank, "branch"),
        ("unit", good.clone(), ""),
        ("unit", good.clone(), "a unit"),
        ("unit", good, &"x".repeat(65)),
    ];
    let before = office.said().await.len();
    for (path, certificate_pem, unit) in cases {
        let asked = proto::RegisterPrincipalRequest { certificate_pem, unit: unit.into() };
        let status = people.register_principal(asked).await.unwrap_err();
        assert_eq!((reason(&status).as_str(), field(&status).as_str()), ("REQ_INVALID", path));
    }
    for key in ["", "0", &"A".repeat(64)] {
        let asked = proto::RevokePrincipalRequest { spki_sha256: key.into() };
        let status = people.revoke_principal(asked).await.unwrap_err();
        assert_eq!(field(&status), "spki_sha256");
    }
    for id in ["", "0", &"A".repeat(32)] {
        assert_eq!(field(&approve(&office.two, id).await.unwrap_err()), "proposal_id");
        assert_eq!(field(&withdraw(&office.two, id).await.unwrap_err()), "proposal_id");
    }
    let nothing = "0".repeat(32);
    assert_eq!(reason(&approve(&office.two, &nothing).await.unwrap_err()), "REQ_NOT_FOUND");
    assert_eq!(reason(&withdraw(&office.two, &nothing).await.unwrap_err()), "REQ_NOT_FOUND");
    assert_eq!(office.said().await.len(), before);
    drop(people);
    office.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enrollers_agree_to_captures_and_to_nothing_of_the_administrators() {
    let office = Office::open().await;
    let second = office.site.certified(Role::Enroller, "desk-2");
    office.site.pinned(&second, "branch").await;
    let second = office.connect(&second).await;
    let erasure = Kind::Erasure.about(&office, 3).await;
    let erasure = Kind::Erasure.propose(&office, &erasure).await.proposal_id;
    let about = About::Customer(office.customer.clone());
    let capture = Kind::FurtherCapture.propose(&office, &about).await;
    assert_eq!(capture.what, "face");
    office.clock.advance_millis(DELAY_MS);
    assert_eq!(reason(&approve(&second, &erasure).await.unwrap_err()), "REQ_STATE");
    approve(&second, &capture.proposal_id).await.unwrap();
    assert!(Kind::FurtherCapture.is_done(&office, &about, 1).await);
    // An erasure takes what waits about the customer with it.
    let waits = Kind::FurtherCapture.propose(&office, &about).await.proposal_id;
    let erasure = Kind::Erasure.propose(&office, &about).await.proposal_id;
    office.clock.advance_millis(DELAY_MS);
    approve(&office.two, &erasure).await.unwrap();
    let ended = office.status_of(&waits).await;
    assert_eq!(ended.state(), proto::ProposalState::Withdrawn);
    assert_eq!((ended.what.as_str(), ended.subject.as_str()), ("", ""), "it leads to nobody");
    assert!(ended.closed_position.is_some() && ended.closed_by.is_empty());
    assert_eq!(reason(&approve(&second, &waits).await.unwrap_err()), "REQ_STATE");
    drop(second);
    office.close().await;
}

/// Whoever writes the database makes nobody: a row without its entry lets nobody in, and moves nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_no_entry_tells_of_is_nobody() {
    let office = Office::open().await;
    let made = office.site.certified(Role::Admin, "made-up");
    let spki = identify(&made.certificate_der).unwrap().spki;
    let path = office.site.data().join("tulga.sqlite");
    let database = rusqlite::Connection::open(&path).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    let write = |sql: &str, key: &[u8]| database.execute(sql, [key]).unwrap();
    write(
        "INSERT INTO principals (spki, role, name, unit, registered_at, entry_index) \
         VALUES ($1, 'admin', 'made-up', 'nowhere', 1, 0)",
        spki.as_bytes(),
    );
    let stranger = office.connect(&made).await;
    let status = terminals(&stranger).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Internal, "SYS_INTERNAL"));
    terminals(&office.one).await.unwrap();
    // Somebody of the same unit, moved to another one by hand.
    let (colleague, certificate) = office.colleague("colleague", "operations").await;
    let key = identify(&certificate.certificate_der).unwrap().spki;
    write("UPDATE principals SET unit = 'control' WHERE spki = $1", key.as_bytes());
    let status = terminals(&colleague).await.unwrap_err();
    assert_eq!(reason(&status), "SYS_INTERNAL");
    drop((database, stranger, colleague));
    office.close().await;
}

/// What two people agree on are the captures that the first one saw, whoever writes the database in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposed_activation_is_of_the_captures_that_were_seen() {
    let office = Office::open().await;
    let about = Kind::Activation.about(&office, 1).await;
    let About::Customer(customer_id) = &about else { unreachable!() };
    let proposed = Kind::Activation.propose(&office, &about).await;
    let id = proposed.proposal_id;
    assert_eq!(proposed.what, "active_before");
    office.clock.advance_millis(DELAY_MS);
    let database = rusqlite::Connection::open(office.site.data().join("tulga.sqlite")).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    let content = || {
        let sql = format!("SELECT content FROM proposals WHERE id = x'{id}'");
        database.query_row(&sql, [], |row| row.get::<_, Vec<u8>>(0)).unwrap()
    };
    let put = |content: &[u8]| {
        let sql = format!(
            "UPDATE proposals SET state = 'open', content = $1, closed_by = NULL, \
             closed_key = NULL, closed_at = NULL, closed_index = NULL WHERE id = x'{id}'"
        );
        assert_eq!(database.execute(&sql, [content]).unwrap(), 1);
    };
    // Another reason than the entry commits to.
    let seen = content();
    let told = String::from_utf8(seen.clone()).unwrap();
    put(told.replace("active_before", "no_reference").as_bytes());
    let refused = approve(&office.two, &id).await.unwrap_err();
    assert_eq!(reason(&refused), "SYS_INTERNAL");
    put(&seen);
    // A capture that comes ends the proposal; by hand it is opened again.
    let mut desk = EnrollmentServiceClient::new(office.one.clone());
    let added = desk.add_capture(capture_of(customer_id, "biden.jpg")).await.unwrap().into_inner();
    assert!(added.accepted);
    let ended = office.status_of(&id).await;
    assert_eq!(ended.state(), proto::ProposalState::Withdrawn);
    assert!(ended.closed_position.is_some() && content().is_empty());
    assert_eq!(reason(&approve(&office.two, &id).await.unwrap_err()), "REQ_STATE");
    put(&seen);
    let refused = approve(&office.two, &id).await.unwrap_err();
    assert_eq!(reason(&refused), "SYS_INTERNAL", "of other captures");
    assert!(!Kind::Activation.is_done(&office, &about, 1).await);
    // Without the capture that came they are those that were seen, but it is another's to propose it again.
    let customer_id = customer_id.clone();
    let asked = proto::RemoveCaptureRequest { customer_id, capture_id: added.capture_id };
    desk.remove_capture(asked).await.unwrap();
    drop((database, desk));
    let next = Kind::Activation.propose(&office, &about).await.proposal_id;
    office.clock.advance_millis(DELAY_MS);
    approve(&office.two, &next).await.unwrap();
    assert!(Kind::Activation.is_done(&office, &about, 1).await);
    office.close().await;
}

/// Nobody waits for the word of somebody whose key counts no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_proposed_whose_key_was_revoked_stands_in_nobodys_way() {
    let office = Office::open().await;
    let (leaver, certificate) = office.colleague("leaver", "branch").await;
    let about = Kind::Activation.about(&office, 1).await;
    let About::Customer(customer_id) = &about else { unreachable!() };
    let mut desk = EnrollmentServiceClient::new(leaver.clone());
    let asked = proto::ActivateRequest { customer_id: customer_id.clone() };
    let waits = desk.activate(asked).await.unwrap().into_inner().needs_second_person.unwrap();
    let identity = identify(&certificate.certificate_der).unwrap();
    let person = NewPrincipal {
        role: StaffRole::Admin,
        name: identity.principal.name,
        unit: UnitName::try_from("branch").unwrap(),
        spki: identity.spki,
    };
    office.site.root_act(RootAct::Unpin, vec![person]).await.unwrap();
    office.clock.advance_millis(DELAY_MS);
    assert_eq!(reason(&approve(&office.two, &waits.proposal_id).await.unwrap_err()), "REQ_STATE");
    let next = Kind::Activation.propose(&office, &about).await.proposal_id;
    assert!(next != waits.proposal_id);
    office.clock.advance_millis(DELAY_MS);
    approve(&office.two, &next).await.unwrap();
    assert!(Kind::Activation.is_done(&office, &about, 1).await);
    drop((leaver, desk));
    office.close().await;
}

/// Whoever writes the database is no first person: what was proposed, by whom and about whom, an entry says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_that_no_entry_tells_of_is_approved_by_nobody() {
    let office = Office::open().await;
    let made = Kind::Registration.about(&office, 1).await;
    let true_one = Kind::Registration.propose(&office, &made).await.proposal_id;
    let erased = Kind::Erasure.about(&office, 2).await;
    let other = Kind::Erasure.about(&office, 3).await;
    let erasure = Kind::Erasure.propose(&office, &erased).await.proposal_id;
    let About::Customer(other_id) = &other else { unreachable!() };
    office.clock.advance_millis(DELAY_MS);
    let database = rusqlite::Connection::open(office.site.data().join("tulga.sqlite")).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    let write = |sql: &str| assert_eq!(database.execute(sql, []).unwrap(), 1, "{sql}");
    // A copy under another number, at an entry that says something else.
    let forged = "7".repeat(32);
    write(&format!(
        "INSERT INTO proposals SELECT x'{forged}', act, customer, subject, content, commitment, \
         proposed_by, proposed_key, proposed_at, 0, not_before, expires_at, state, closed_by, \
         closed_key, closed_at, closed_index FROM proposals WHERE id = x'{true_one}'"
    ));
    let refused = approve(&office.two, &forged).await.unwrap_err();
    assert_eq!(reason(&refused), "SYS_INTERNAL", "another entry");
    // The true ones, altered and put back: for each what is altered.
    for (id, column, altered) in [
        (&true_one, "content", "CAST(replace(content, 'enroller', 'admin') AS BLOB)".to_owned()),
        (&true_one, "commitment", format!("x'{}'", "7".repeat(64))),
        (&true_one, "subject", "'enroller/dev@branch'".to_owned()),
        (&erasure, "customer", format!("x'{other_id}'")),
    ] {
        let read = format!("SELECT {column} FROM proposals WHERE id = x'{id}'");
        let before: rusqlite::types::Value =
            database.query_row(&read, [], |row| row.get(0)).unwrap();
        write(&format!("UPDATE proposals SET {column} = {altered} WHERE id = x'{id}'"));
        let refused = approve(&office.two, id).await.unwrap_err();
        assert_eq!(reason(&refused), "SYS_INTERNAL", "{column}");
        let back = format!("UPDATE proposals SET {column} = $1 WHERE id = x'{id}'");
        assert_eq!(database.execute(&back, [before]).unwrap(), 1);
    }
    // In the name of another administrator, who did not propose it.
    let (third, certificate) = office.colleague("third", "branch").await;
    let key = identify(&certificate.certificate_der).unwrap().spki.hex();
    write(&format!(
        "UPDATE proposals SET proposed_by = 'third', proposed_key = x'{key}' WHERE id = x'{true_one}'"
    ));
    let refused = approve(&office.two, &true_one).await.unwrap_err();
    assert_eq!(reason(&refused), "SYS_INTERNAL", "another first person");
    assert!(!Kind::Registration.is_done(&office, &made, 1).await);
    assert!(!Kind::Erasure.is_done(&office, &other, 1).await);
    approve(&office.two, &erasure).await.unwrap();
    assert!(Kind::Erasure.is_done(&office, &erased, 1).await);
    drop((database, third));
    office.close().await;
}

/// Who is to be revoked does not stop it: not with another key of theirs, and not by proposing it first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_withdraws_their_own_revocation_that_others_proposed() {
    let office = Office::open().await;
    let (bad, certificate) = office.colleague("bad", "branch").await;
    let second_key = {
        let tenant = tulga::domain::id::TenantId::try_from("dev").unwrap();
        let authority = office.site.pki().load_authority(tenant).unwrap();
        let name = PrincipalName::try_from("bad").unwrap();
        let validity = tulga::pki::Validity::of_leaf(SystemClock.now());
        authority.issue_client(Role::Admin, &name, validity).unwrap()
    };
    office.site.pinned(&second_key, "branch").await;
    let other_key = office.connect(&second_key).await;
    // Their own proposal is theirs, and stands in nobody's way.
    let own = revoke(&bad, &certificate).await.unwrap().proposal_id;
    let id = revoke(&office.one, &certificate).await.unwrap().proposal_id;
    let twice = revoke(&office.one, &certificate).await.unwrap_err();
    assert_eq!(reason(&twice), "REQ_EXISTS");
    for who in [&bad, &other_key] {
        assert_eq!(reason(&withdraw(who, &id).await.unwrap_err()), "REQ_STATE");
    }
    assert_eq!(office.status_of(&id).await.state(), proto::ProposalState::Open);
    withdraw(&bad, &own).await.unwrap();
    // Another administrator stops it, and proposes it anew.
    withdraw(&office.two, &id).await.unwrap();
    let id = revoke(&office.one, &certificate).await.unwrap().proposal_id;
    office.clock.advance_millis(DELAY_MS);
    approve(&office.two, &id).await.unwrap();
    assert_eq!(reason(&terminals(&bad).await.unwrap_err()), "DEV_UNKNOWN");
    drop((bad, other_key));
    office.close().await;
}

/// The door asks who somebody is once a call; an import asks again for each row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_ends_where_its_enroller_is_revoked() {
    let office = Office::open().await;
    let certificate = office.site.certified(Role::Enroller, "leaves");
    office.site.pinned(&certificate, "branch").await;
    let mut desk = EnrollmentServiceClient::new(office.connect(&certificate).await);
    let row = |row| proto::BulkImportRequest {
        row,
        iin: iin_of_nobody(u32::try_from(row).unwrap()),
        consent: Some(consent()),
        images: vec![demo("biden.jpg")],
        language: "en".into(),
        ..proto::BulkImportRequest::default()
    };
    let (rows, stream) = tokio::sync::mpsc::channel(1);
    let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
    rows.send(row(1)).await.unwrap();
    let mut answers = desk.bulk_import(stream).await.unwrap().into_inner();
    let taken = answers.message().await.unwrap().unwrap();
    assert_eq!((taken.row, taken.error_reason.as_str()), (1, ""));
    let identity = identify(&certificate.certificate_der).unwrap();
    let person = NewPrincipal {
        role: StaffRole::Enroller,
        name: identity.principal.name,
        unit: UnitName::try_from("branch").unwrap(),
        spki: identity.spki,
    };
    office.site.root_act(RootAct::Unpin, vec![person]).await.unwrap();
    let before = office.said().await.len();
    rows.send(row(2)).await.unwrap();
    let refused = answers.message().await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "DEV_UNKNOWN"));
    assert_eq!(office.said().await.len(), before, "nobody was created");
    drop((desk, answers, rows));
    office.close().await;
}

/// What a further capture was compared with may be gone by the time that it is approved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_further_capture_joins_no_template_that_it_does_not_agree_with() {
    let office = Office::open().await;
    let about = About::Customer(office.customer.clone());
    let id = Kind::FurtherCapture.propose(&office, &about).await.proposal_id;
    office.clock.advance_millis(DELAY_MS);
    let mut desk = EnrollmentServiceClient::new(office.one.clone());
    // Without the only capture, and then with somebody else's in its place.
    remove_all(&mut desk, &office.customer).await;
    assert_eq!(reason(&approve(&office.two, &id).await.unwrap_err()), "REQ_STATE", "none");
    for (photograph, agrees) in [("biden.jpg", false), ("obama.jpg", true)] {
        remove_all(&mut desk, &office.customer).await;
        let asked = proto::AddCaptureRequest {
            customer_id: office.customer.clone(),
            image: demo(photograph),
            language: "en".into(),
            ..Default::default()
        };
        assert!(desk.add_capture(asked).await.unwrap().into_inner().accepted, "{photograph}");
        let answer = approve(&office.two, &id).await;
        assert_eq!(answer.is_ok(), agrees, "{photograph}: {answer:?}");
        assert_eq!(Kind::FurtherCapture.is_done(&office, &about, 1).await, agrees);
    }
    drop(desk);
    office.close().await;
}

async fn remove_all(desk: &mut EnrollmentServiceClient<Channel>, customer: &str) {
    let asked = proto::GetCustomerRequest { customer_id: customer.into() };
    let captures = desk.get_customer(asked).await.unwrap().into_inner().capture_ids;
    for capture_id in captures {
        let asked = proto::RemoveCaptureRequest { customer_id: customer.into(), capture_id };
        desk.remove_capture(asked).await.unwrap();
    }
}
