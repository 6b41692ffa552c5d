//! Consents that end: withdrawn or over, with a law that wants something kept and without one; and the clerk
//! who does what it says it would do.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Code;
use tonic::transport::Channel;
use tulga::app::adopt_head;
use tulga::clock::Clock as _;
use tulga::config::Config;
use tulga::domain::id::CustomerId;
use tulga::domain::time::UnixMillis;
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::CustomerStatus::{Active, Erased, Pending, Withdrawn};
use tulga::proto::audit_service_client::AuditServiceClient;
use tulga::proto::consent::Term;
use tulga::proto::enrollment_service_client::EnrollmentServiceClient;
use tulga::proto::retention_service_client::RetentionServiceClient;
use tulga::proto::verification_service_client::VerificationServiceClient;
use tulga::store::Store as _;
use tulga::store::sql::SqliteStore;

use crate::bank::unhex;
use crate::site::{SetClock, Site, begin, consent, demo, dev_pack_with, payload, reason, verify};

const IIN: &str = "000000300017";
const CARD: &str = "card-token-1";
const RATE: &str = "[rate]\nper_terminal_per_minute = 10000\n";
const MORNING: &str = "2026-11-21T02:00:00.000Z";
const DAY_MS: i64 = 86_400_000;

type Desk = EnrollmentServiceClient<Channel>;
type Clerk = RetentionServiceClient<Channel>;
type Terminal = VerificationServiceClient<Channel>;

/// The pack `dev` with a law, or without one, and captures kept for some days.
fn pack(keep_days: u32, keep_templates: bool, evidence_days: u32) -> TempDir {
    let law = match keep_days {
        0 => String::new(),
        days => format!(
            "[consent]\nkeep_days = {days}\nkeep_templates = {keep_templates}\nlegal_basis = 'a law'\n"
        ),
    };
    dev_pack_with(&format!("evidence_days = {evidence_days}\n{law}"), "")
}

fn by(pack: &TempDir) -> String {
    format!("policy_dir = '{}'\n{RATE}", pack.path().display())
}

fn withdraw(customer_id: &str) -> proto::WithdrawConsentRequest {
    proto::WithdrawConsentRequest {
        customer_id: customer_id.into(),
        evidence_ref: "letter-canary-7".into(),
    }
}

fn refused<T: std::fmt::Debug>(answer: Result<T, tonic::Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), reason(&status))
}

async fn status(desk: &mut Desk, customer_id: &str) -> proto::CustomerStatus {
    customer(desk, customer_id).await.status()
}

async fn customer(desk: &mut Desk, customer_id: &str) -> proto::Customer {
    let request = proto::GetCustomerRequest { customer_id: customer_id.into() };
    desk.get_customer(request).await.unwrap().into_inner()
}

/// What a terminal learns of whoever a card stands for.
async fn told(terminal: &mut Terminal, id: &str, card: &str) -> Value {
    let opened = terminal.begin_capture(begin(id, card)).await.unwrap().into_inner();
    let asked = verify(id, 1, &opened.challenge, demo("obama2.jpg"));
    let decision = terminal.verify(asked).await.unwrap().into_inner();
    let reasons: Vec<_> = decision.reasons.iter().map(|reason| reason.code.clone()).collect();
    json!([
        decision.outcome().as_str_name(),
        reasons,
        decision.next_screen().as_str_name(),
        opened.attempts_left,
        decision.attempts_left,
    ])
}

/// Everything that the ledger's entries say.
async fn bodies(site: &Site) -> Vec<Value> {
    let mut auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);
    let request =
        proto::ListReceiptsRequest { page_size: 1000, ..proto::ListReceiptsRequest::default() };
    let entries = auditor.list_receipts(request).await.unwrap().into_inner().receipts;
    entries.iter().map(|entry| payload(&entry.receipt_jws)).collect()
}

async fn plan(clerk: &mut Clerk, at: &str) -> proto::RetentionPlan {
    let request = proto::PlanRetentionRequest { at: at.into() };
    clerk.plan_retention(request).await.unwrap().into_inner()
}

async fn run(clerk: &mut Clerk) -> proto::RunRetentionResponse {
    clerk.run_retention(proto::RunRetentionRequest {}).await.unwrap().into_inner()
}

async fn captures_kept(data: &Path, customer_id: &str) -> usize {
    let store = SqliteStore::open(&data.join("tulga.sqlite")).await.unwrap();
    let id = CustomerId::try_from(unhex(customer_id).as_slice()).unwrap();
    let captures = store.captures(&id).await.unwrap().len();
    store.close().await;
    captures
}

/// Whatever rests on the consent is refused, by a word that says so.
async fn nothing_is_taken_without_it(desk: &mut Desk, customer_id: &str, refusal: &(Code, String)) {
    let capture = proto::AddCaptureRequest {
        customer_id: customer_id.into(),
        image: demo("obama.jpg"),
        language: "en".into(),
        ..proto::AddCaptureRequest::default()
    };
    assert_eq!(refused(desk.add_capture(capture).await), *refusal);
    let token = proto::BindTokenRequest {
        customer_id: customer_id.into(),
        kind: proto::TokenKind::Card.into(),
        token: "another-card".into(),
        expires_at: None,
    };
    assert_eq!(refused(desk.bind_token(token).await), *refusal);
    let activate = proto::ActivateRequest { customer_id: customer_id.into() };
    assert_eq!(refused(desk.activate(activate).await), *refusal);
    let challenge = proto::BeginAddCaptureRequest {
        customer_id: customer_id.into(),
        terminal_id: "ATM-1".into(),
        modality: proto::Modality::Face.into(),
        finger_position: 0,
    };
    assert_eq!(refused(desk.begin_add_capture(challenge).await), *refusal);
    let unable = proto::ProposeUnableRequest {
        customer_id: customer_id.into(),
        evidence_ref: "archive/9".into(),
    };
    assert_eq!(refused(desk.propose_unable(unable).await), *refusal);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawal_ends_all_use_at_once_and_keeps_what_the_pack_says() {
    for (keep_days, keep_templates) in [(0, false), (10, false), (10, true)] {
        let (pack, clock) = (pack(keep_days, keep_templates, 0), SetClock::at(MORNING));
        let site = Site::at(&by(&pack), Arc::clone(&clock) as _).await;
        let id = site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
        let mut desk = Desk::new(site.staff(Role::Enroller).await);
        let mut terminal = Terminal::new(site.terminal("ATM-1").await);
        assert_eq!(told(&mut terminal, "T1", CARD).await[0], "OUTCOME_APPROVED");
        // The terminal has a challenge in its hands while the customer signs.
        let opened = terminal.begin_capture(begin("T2", CARD)).await.unwrap().into_inner();

        let answer = desk.withdraw_consent(withdraw(&id)).await.unwrap().into_inner();
        let is_kept = keep_days > 0;
        assert_eq!(answer.erasure_position.is_none(), is_kept);
        let kept_until = answer.kept_until.as_ref().map(|until| until.rfc3339.as_str());
        assert_eq!(kept_until, is_kept.then_some("2026-12-01T02:00:00.000Z"));
        assert!(!answer.waits_for_case);
        assert_eq!(status(&mut desk, &id).await, if is_kept { Withdrawn } else { Erased });
        let state = customer(&mut desk, &id).await.consent;
        assert_eq!(state.is_some(), is_kept);

        let asked = verify("T2", 1, &opened.challenge, demo("obama2.jpg"));
        let decision = terminal.verify(asked).await.unwrap().into_inner();
        assert_eq!(decision.outcome(), proto::Outcome::Denied);
        let nobody = told(&mut terminal, "T3", "card-of-nobody").await;
        assert_eq!(told(&mut terminal, "T4", CARD).await, nobody, "alike to somebody unknown");

        // Once, and found again by the same call; an erased customer is not found.
        let again = desk.withdraw_consent(withdraw(&id)).await;
        if is_kept {
            assert_eq!(again.unwrap().into_inner(), answer);
        } else {
            assert_eq!(refused(again), (Code::NotFound, "REQ_NOT_FOUND".into()));
        }
        let gone = (Code::NotFound, "REQ_NOT_FOUND".to_owned());
        let ended = (Code::FailedPrecondition, "REQ_STATE".to_owned());
        nothing_is_taken_without_it(&mut desk, &id, if is_kept { &ended } else { &gone }).await;
        // Whoever changes their mind is enrolled anew, with another consent.
        let request = proto::CreateCustomerRequest { iin: IIN.into(), consent: Some(consent()) };
        let anew = desk.create_customer(request).await.unwrap().into_inner().customer_id;
        assert_eq!(status(&mut desk, &anew).await, Pending);

        let bodies = bodies(&site).await;
        let end: Vec<_> = bodies.iter().filter(|it| it["act"] == "consent_withdrawn").collect();
        let [end] = end.as_slice() else { panic!("one entry: {end:?}") };
        assert_eq!(
            (&end["actor"]["role"], &end["actor"]["name"]),
            (&json!("enroller"), &json!("dev"))
        );
        assert!(
            end["details"].is_string()
                && !bodies.iter().any(|it| it.to_string().contains("canary"))
        );
        let erased = bodies.iter().filter(|it| it["reason"] == "consent_ended").count();
        assert_eq!(erased, usize::from(!is_kept));

        // To the millisecond: what must be kept is kept, and no longer.
        let mut clerk = Clerk::new(site.staff(Role::Admin).await);
        clock.set("2026-12-01T01:59:59.999Z");
        assert_eq!(run(&mut clerk).await.positions, []);
        clock.set("2026-12-01T02:00:00.000Z");
        assert_eq!(run(&mut clerk).await.positions.len(), usize::from(is_kept));
        assert_eq!(status(&mut desk, &id).await, Erased);
        drop((desk, terminal, clerk));
        site.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_brings_no_withdrawn_consent_back_and_a_restart_loses_no_erasure() {
    let (pack, clock) = (pack(10, true, 0), SetClock::at(MORNING));
    let more = by(&pack);
    let site = Site::at(&more, Arc::clone(&clock) as _).await;
    let id = site.enroll(IIN, CARD, &["obama.jpg"]).await;
    let dir = site.stopped().await;
    let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
    put(&data, &backup);

    let site = Site::again(dir, &more, Arc::clone(&clock) as _).await;
    let mut desk = Desk::new(site.staff(Role::Enroller).await);
    desk.withdraw_consent(withdraw(&id)).await.unwrap();
    drop(desk);
    let dir = site.stopped().await;
    assert_eq!(captures_kept(&data, &id).await, 1, "a law wants them kept");

    put(&backup, &data);
    fs::remove_file(data.join("last-signed-head")).unwrap();
    let config = Config::from_toml(&format!(
        "[paths]\ndata_dir = '{}'\nmodels_dir = '{}'\n",
        data.display(),
        Path::new(env!("CARGO_MANIFEST_DIR")).join("models").display()
    ));
    adopt_head(&config.unwrap()).await.unwrap();
    let site = Site::again(dir, &more, Arc::clone(&clock) as _).await;
    let mut desk = Desk::new(site.staff(Role::Enroller).await);
    let mut terminal = Terminal::new(site.terminal("ATM-1").await);
    assert_eq!(status(&mut desk, &id).await, Withdrawn);
    let nobody = told(&mut terminal, "T1", "card-of-nobody").await;
    assert_eq!(told(&mut terminal, "T2", CARD).await, nobody);
    let ends = bodies(&site).await;
    let ends: Vec<_> = ends.iter().filter(|it| it["act"] == "consent_withdrawn").collect();
    assert_eq!((ends.len(), &ends[0]["actor"]["role"]), (1, &json!("gateway")));
    drop((desk, terminal));
    let dir = site.stopped().await;

    // Down while the time to keep runs out: whoever comes next does it, once.
    clock.set("2027-01-01T00:00:00.000Z");
    let site = Site::again(dir, &more, Arc::clone(&clock) as _).await;
    let mut desk = Desk::new(site.staff(Role::Enroller).await);
    let mut clerk = Clerk::new(site.staff(Role::Admin).await);
    assert_eq!(plan(&mut clerk, "").await.work.unwrap().customer_ids, [id.as_str()]);
    assert_eq!(run(&mut clerk).await.work.unwrap().customer_ids, [id.as_str()]);
    assert_eq!(run(&mut clerk).await.positions, []);
    assert_eq!(status(&mut desk, &id).await, Erased);
    drop((desk, clerk));
    drop(site.stopped().await);
}

/// The database's files, put from one folder into another.
fn put(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in ["tulga.sqlite", "tulga.sqlite-wal", "tulga.sqlite-shm"] {
        match fs::copy(from.join(name), to.join(name)) {
            Ok(_) => {}
            Err(_) => drop(fs::remove_file(to.join(name))),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_term_that_is_over_counts_before_the_clerk_comes() {
    let (pack, clock) = (pack(0, false, 0), SetClock::at(MORNING));
    let site = Site::at(&by(&pack), Arc::clone(&clock) as _).await;
    let id = site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    let mut desk = Desk::new(site.staff(Role::Enroller).await);
    let mut terminal = Terminal::new(site.terminal("ATM-1").await);
    let mut clerk = Clerk::new(site.staff(Role::Auditor).await);
    let until = customer(&mut desk, &id).await.consent.unwrap().until.unwrap().rfc3339;
    // 36,500 days after the first of January 2026.
    assert_eq!(until, "2125-12-08T00:00:00.000Z");
    clock.set("2125-12-07T23:59:59.999Z");
    assert_eq!(told(&mut terminal, "T1", CARD).await[0], "OUTCOME_APPROVED");
    let work = plan(&mut clerk, &until).await.work.unwrap();
    assert_eq!((work.consents.len(), work.customer_ids.len()), (1, 1));
    assert_eq!(plan(&mut clerk, "").await.work.unwrap(), proto::RetentionWork::default());
    clock.set(&until);
    let nobody = told(&mut terminal, "T2", "card-of-nobody").await;
    assert_eq!(told(&mut terminal, "T3", CARD).await, nobody);
    assert_eq!(status(&mut desk, &id).await, Active, "the clerk was not here yet");
    let ended = (Code::FailedPrecondition, "REQ_STATE".to_owned());
    nothing_is_taken_without_it(&mut desk, &id, &ended).await;
    // An auditor may ask and not act; the past is not planned.
    let refusal = refused(clerk.run_retention(proto::RunRetentionRequest {}).await);
    assert_eq!(refusal, (Code::PermissionDenied, "ROLE_NOT_ALLOWED".into()));
    for at in ["2125-12-07T23:59:59.999Z", "tomorrow"] {
        let request = proto::PlanRetentionRequest { at: at.into() };
        assert_eq!(
            refused(clerk.plan_retention(request).await),
            (Code::InvalidArgument, "REQ_INVALID".into())
        );
    }
    let mut admin = Clerk::new(site.staff(Role::Admin).await);
    assert_eq!(run(&mut admin).await.work.unwrap(), work);
    assert_eq!(status(&mut desk, &id).await, Erased);
    drop((desk, terminal, clerk, admin));
    site.finish().await;
}

/// Numbers by chance, the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Individual identification numbers of nobody.
fn iins() -> impl Iterator<Item = String> {
    let numbers = (0..).map(|number| format!("0000003{number:04}"));
    numbers.filter_map(|digits| {
        (0..10)
            .map(|check| format!("{digits}{check}"))
            .find(|iin| tulga::domain::iin::Iin::try_from(iin.as_str()).is_ok())
    })
}

/// People of chance terms and withdrawals under a law of chance: what is planned for a time is what is done then,
/// all of it and nothing else.
async fn a_world_of_chance(seed: u64) {
    let mut chance = Chance(seed);
    let keep_days = [0, 0, 3, 8][usize::try_from(chance.below(4)).unwrap()];
    let (pack, clock) = (pack(keep_days, chance.below(2) == 0, 4), SetClock::at(MORNING));
    let site = Site::at(&by(&pack), Arc::clone(&clock) as _).await;
    site.enroll(IIN, CARD, &["obama.jpg"]).await;
    let mut terminal = Terminal::new(site.terminal("ATM-1").await);
    assert_eq!(told(&mut terminal, "T1", CARD).await[0], "OUTCOME_APPROVED");
    let mut desk = Desk::new(site.staff(Role::Enroller).await);
    let mut people = Vec::new();
    for iin in iins().skip(100).take(14) {
        let days = u32::try_from(326 + chance.below(12)).unwrap();
        let consent = Some(proto::Consent { term: Some(Term::Days(days)), ..consent() });
        let request = proto::CreateCustomerRequest { iin, consent };
        people.push(desk.create_customer(request).await.unwrap().into_inner().customer_id);
    }
    let mut clerk = Clerk::new(site.staff(Role::Admin).await);
    let mut auditor = Clerk::new(site.staff(Role::Auditor).await);
    let mut done = 0;
    for _ in 0..8 {
        let who = &people[usize::try_from(chance.below(14)).unwrap()];
        // Perhaps it has ended, perhaps they are erased.
        let answer = desk.withdraw_consent(withdraw(who)).await;
        assert!(answer.is_ok() || ["REQ_STATE", "REQ_NOT_FOUND"].contains(&&*refused(answer).1));
        let ahead = i64::try_from(chance.below(4 * 86_400_000)).unwrap().min(4 * DAY_MS);
        let at = UnixMillis::new(clock.now().get() + ahead).rfc3339();
        let planned = plan(&mut auditor, &at).await;
        assert_eq!(plan(&mut auditor, &at).await, planned, "asking changes nothing");
        clock.set(&at);
        let ran = run(&mut clerk).await;
        assert_eq!(ran.work, planned.work, "seed {seed}");
        let work = ran.work.unwrap();
        let ledger = work.consents.len() + work.customer_ids.len() + work.evidence.len();
        assert_eq!(ran.positions.len(), ledger, "each behind an entry");
        assert_eq!(ran.evidence_destroyed, planned.evidence_due);
        assert_eq!(run(&mut clerk).await.positions, [], "nothing is left of it");
        for id in &work.customer_ids {
            assert_eq!(status(&mut desk, id).await, Erased);
        }
        done += ledger;
    }
    assert!(done > 5, "seed {seed} did nothing");
    drop((terminal, desk, clerk, auditor));
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_clerk_would_do_is_what_it_does() {
    for seed in 1..=5 {
        a_world_of_chance(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_and_other_roles_end_no_consent() {
    let site = Site::with(RATE).await;
    let mut desk = Desk::new(site.staff(Role::Enroller).await);
    let request = proto::CreateCustomerRequest { iin: IIN.into(), consent: Some(consent()) };
    let id = desk.create_customer(request).await.unwrap().into_inner().customer_id;
    for (request, code, word) in [
        (withdraw(""), Code::InvalidArgument, "REQ_INVALID"),
        (withdraw("nobody"), Code::InvalidArgument, "REQ_INVALID"),
        (withdraw(&"ab".repeat(16)), Code::NotFound, "REQ_NOT_FOUND"),
        (
            proto::WithdrawConsentRequest { evidence_ref: String::new(), ..withdraw(&id) },
            Code::InvalidArgument,
            "REQ_INVALID",
        ),
        (
            proto::WithdrawConsentRequest { evidence_ref: "x".repeat(257), ..withdraw(&id) },
            Code::InvalidArgument,
            "REQ_INVALID",
        ),
    ] {
        assert_eq!(refused(desk.withdraw_consent(request).await), (code, word.to_owned()));
    }
    for role in [Role::Auditor, Role::Host, Role::AppBackend] {
        let mut other = Desk::new(site.staff(role).await);
        let refusal = refused(other.withdraw_consent(withdraw(&id)).await);
        assert_eq!(refusal, (Code::PermissionDenied, "ROLE_NOT_ALLOWED".into()));
    }
    assert_eq!(status(&mut desk, &id).await, Pending);
    let ended =
        site.tulga(&["customer", "withdraw-consent", &id, "--evidence-ref", "letter/7"]).await;
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(ended.status.success() && said.contains("is erased; the entry at index"), "{said}");
    let asked =
        site.tulga(&["retention", "what-if", "--at", "2126-01-01T00:00:00Z", "--json"]).await;
    let plan: Value = serde_json::from_slice(&asked.stdout).unwrap();
    assert_eq!(
        plan["work"],
        json!({ "consents": [], "customers": [], "evidence": [], "is_cut": false })
    );
    drop(desk);
    site.finish().await;
}
