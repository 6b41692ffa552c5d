//! Footage and evidence through the API: KZ-02 and KZ-05, from the naming of a clip to its end.

use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tonic::Code;
use tonic::transport::Channel;
use tulga::crypto::{SystemEntropy, random_bytes};
use tulga::domain::id::{ReceiptId, TenantId};
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::audit_service_client::AuditServiceClient;
use tulga::proto::enrollment_service_client::EnrollmentServiceClient;
use tulga::proto::footage_service_client::FootageServiceClient;
use tulga::proto::retention_service_client::RetentionServiceClient;
use tulga::proto::verification_service_client::VerificationServiceClient;
use tulga::store::sql::SqliteStore;
use tulga::store::{FileShelves, Shelves as _, Store as _};
use tulga::vault::Vault;

use crate::site::{
    SetClock, Site, begin, demo, dev_pack_with, field, payload, reason, taken, verify,
};

const IIN: &str = "000000300017";
const CARD: &str = "card-token-1";
const RATE: &str = "[rate]\nper_terminal_per_minute = 10000\n";

type Terminal = VerificationServiceClient<Channel>;
type Footage = FootageServiceClient<Channel>;

/// Seven in the morning of 21 November 2026 in Almaty.
const MORNING: &str = "2026-11-21T02:00:00.000Z";
/// Where 180 whole days after it are over.
const JUST_BEFORE_END: &str = "2027-05-20T18:59:59.999Z";
const END: &str = "2027-05-20T19:00:00.000Z";

fn clip(camera: &str, hash: u8) -> proto::Footage {
    proto::Footage {
        camera_id: camera.into(),
        from: "2026-11-21T01:59:30.000Z".into(),
        to: "2026-11-21T02:00:00.000Z".into(),
        clip_sha256: vec![hash; 32],
    }
}

async fn asked(
    terminal: &mut Terminal,
    id: &str,
    footage: Option<proto::Footage>,
) -> proto::VerifyRequest {
    let opened = terminal.begin_capture(begin(id, CARD)).await.unwrap().into_inner();
    proto::VerifyRequest { footage, ..verify(id, 1, &opened.challenge, demo("obama2.jpg")) }
}

async fn approved(
    terminal: &mut Terminal,
    id: &str,
    footage: Option<proto::Footage>,
) -> proto::Decision {
    let asked = asked(terminal, id, footage).await;
    let decision = terminal.verify(asked).await.unwrap().into_inner();
    assert_eq!(decision.outcome(), proto::Outcome::Approved, "{:?}", decision.reasons);
    decision
}

fn index_of(position: Option<&proto::LogPosition>) -> u64 {
    position.unwrap().index
}

/// The commitment, computed as another program would.
fn commitment(salt: &[u8], clip: &proto::Footage) -> String {
    let mut hash = Sha256::new();
    let hash_fields = [salt, clip.camera_id.as_bytes(), clip.from.as_bytes(), clip.to.as_bytes()];
    for part in hash_fields.into_iter().chain([clip.clip_sha256.as_slice()]) {
        hash.update(u64::try_from(part.len()).unwrap().to_be_bytes());
        hash.update(part);
    }
    let engine = &base64::engine::general_purpose::URL_SAFE_NO_PAD;
    base64::Engine::encode(engine, hash.finalize())
}

async fn listed(footage: &mut Footage, filter: proto::FootageFilter) -> Vec<u64> {
    let mut indices = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = proto::ListFootageRequest {
            filter: filter.into(),
            page_size: 1,
            page_token,
            ..proto::ListFootageRequest::default()
        };
        let page = footage.list_footage(request).await.unwrap().into_inner();
        indices.extend(page.duties.iter().map(|duty| index_of(duty.position.as_ref())));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return indices;
        }
    }
}

fn said<T: std::fmt::Debug>(answer: Result<T, tonic::Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), reason(&status))
}

fn of_case(index: u64, case: &str) -> proto::PlaceHoldRequest {
    proto::PlaceHoldRequest {
        index,
        case_reference: case.into(),
        ..proto::PlaceHoldRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_02_a_clip_is_bound_to_its_receipt_and_the_call_to_its_clip() {
    let clock = SetClock::at(MORNING);
    let site = Site::at(RATE, clock).await;
    site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);

    let named = asked(&mut terminal, "T1", Some(clip("CAM-1", 7))).await;
    let decision = terminal.verify(named.clone()).await.unwrap().into_inner();
    let salt = decision.salts.clone().unwrap().footage;
    let receipt = payload(&decision.receipt_jws);
    assert_eq!(receipt["footage"], commitment(&salt, &clip("CAM-1", 7)));
    assert_ne!(receipt["footage"], commitment(&salt, &clip("CAM-1", 8)));
    assert_eq!(terminal.verify(named.clone()).await.unwrap().into_inner(), decision);
    // The same call about another clip, or about none, is another call.
    for other in [Some(clip("CAM-1", 8)), Some(clip("CAM-2", 7)), None] {
        let answer =
            terminal.verify(proto::VerifyRequest { footage: other, ..named.clone() }).await;
        assert_eq!(said(answer), (Code::AlreadyExists, "REQ_ID_REUSED".into()));
    }
    // Without a clip there is no commitment and no salt.
    let bare = approved(&mut terminal, "T2", None).await;
    assert!(payload(&bare.receipt_jws).get("footage").is_none());
    assert!(bare.salts.clone().unwrap().footage.is_empty());

    // The clip that ends after the cash comes with the outcome; the same report again is the same entry.
    let report =
        proto::ReportOutcomeRequest { footage: Some(clip("CAM-1", 9)), ..taken("T2", 5_000_000) };
    let without = terminal.report_outcome(taken("T2", 5_000_000)).await.unwrap().into_inner();
    let entry = terminal.report_outcome(report.clone()).await.unwrap().into_inner();
    assert_ne!(entry.position, without.position);
    assert_eq!(without.salts, None);
    let salt = entry.salts.clone().unwrap().footage;
    let body = payload(&entry.receipt_jws);
    assert_eq!(body["footage"], commitment(&salt, &clip("CAM-1", 9)));
    assert_eq!(body["refers"]["index"], index_of(bare.position.as_ref()));
    assert_eq!(terminal.report_outcome(report.clone()).await.unwrap().into_inner(), entry);

    // A clip that has not ended, or is too old, decides nothing and costs no attempt.
    for (id, from, to, path) in [
        ("T3", "2026-11-21T02:04:00.000Z", "2026-11-21T02:05:00.001Z", "footage.to"),
        ("T4", "2026-10-21T01:59:59.999Z", "2026-10-21T02:00:01.000Z", "footage.from"),
    ] {
        let wrong = proto::Footage { from: from.into(), to: to.into(), ..clip("CAM-1", 7) };
        let asked = asked(&mut terminal, id, Some(wrong.clone())).await;
        let status = terminal.verify(asked.clone()).await.unwrap_err();
        assert_eq!((reason(&status).as_str(), field(&status).as_str()), ("REQ_INVALID", path));
        let mended = proto::VerifyRequest { footage: None, ..asked };
        let attempts_left =
            terminal.verify(mended.clone()).await.unwrap().into_inner().attempts_left;
        assert_eq!(attempts_left, 2);
        let report = proto::ReportOutcomeRequest { footage: Some(wrong), ..taken("T2", 1) };
        let status = terminal.report_outcome(report).await.unwrap_err();
        assert_eq!((reason(&status).as_str(), field(&status).as_str()), ("REQ_INVALID", path));
    }
    drop(terminal);
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_02_footage_is_kept_180_days_and_longer_on_hold() {
    use proto::FootageFilter::{Due, Missing, OnHold, Unspecified};
    let clock = SetClock::at(MORNING);
    let site = Site::at(RATE, std::sync::Arc::clone(&clock) as _).await;
    site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let mut footage = FootageServiceClient::new(site.staff(Role::Admin).await);

    let one = approved(&mut terminal, "T1", Some(clip("CAM-1", 1))).await;
    let two = approved(&mut terminal, "T2", None).await;
    let three = approved(&mut terminal, "T3", None).await;
    let [one, two, three] = [one, two, three].map(|d| index_of(d.position.as_ref()));
    assert_eq!(listed(&mut footage, Missing).await, [two, three]);
    let report =
        proto::ReportOutcomeRequest { footage: Some(clip("CAM-2", 2)), ..taken("T2", 5_000_000) };
    let later = terminal.report_outcome(report).await.unwrap().into_inner();
    let later = index_of(later.position.as_ref());
    assert_eq!(listed(&mut footage, Missing).await, [three]);
    assert_eq!(listed(&mut footage, Unspecified).await, [one, two, three, later]);

    let request = proto::ListFootageRequest { terminal_id: "ATM-1".into(), ..Default::default() };
    let page = footage.list_footage(request).await.unwrap().into_inner();
    let duty = &page.duties[3];
    assert_eq!(index_of(duty.decision.as_ref()), two);
    assert_eq!(duty.keep_until.as_ref().unwrap().rfc3339, END);
    let named = clip("CAM-2", 2);
    assert_eq!((duty.camera_id.as_str(), &duty.clip_sha256), ("CAM-2", &named.clip_sha256));
    let mut auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);
    let selector = Some(proto::get_receipt_request::Selector::Index(later));
    let entry = auditor
        .get_receipt(proto::GetReceiptRequest { selector, ..proto::GetReceiptRequest::default() })
        .await
        .unwrap();
    let body = payload(&entry.into_inner().receipt_jws);
    assert_eq!(body["footage"], commitment(&duty.salt, &named), "the auditor's salt opens it");

    // Just under, at, and on hold.
    // By then another half-year has begun, and with it another ledger.
    let origin = duty.decision.as_ref().unwrap().origin.clone();
    let confirm = |indices: &[u64]| proto::ConfirmDeletedRequest {
        indices: indices.to_vec(),
        origin: origin.clone(),
    };
    let hold =
        |case: &str| proto::PlaceHoldRequest { origin: origin.clone(), ..of_case(one, case) };
    let state = (Code::FailedPrecondition, "REQ_STATE".to_owned());
    clock.set(JUST_BEFORE_END);
    assert_eq!(listed(&mut footage, Due).await, Vec::<u64>::new());
    assert_eq!(said(footage.confirm_deleted(confirm(&[one])).await), state);
    clock.set(END);
    assert_eq!(listed(&mut footage, Due).await, [one, later]);
    footage.place_hold(hold("CASE-1")).await.unwrap();
    footage.place_hold(hold("CASE-2")).await.unwrap();
    let again = footage.place_hold(hold("CASE-1")).await;
    assert_eq!(said(again), (Code::AlreadyExists, "REQ_EXISTS".into()));
    // All or none.
    assert_eq!(said(footage.confirm_deleted(confirm(&[one, later])).await), state);
    assert_eq!(listed(&mut footage, Due).await, [later]);
    assert_eq!(listed(&mut footage, OnHold).await, [one]);
    let lift = |case: &str| proto::LiftHoldRequest {
        index: one,
        case_reference: case.into(),
        origin: origin.clone(),
    };
    footage.lift_hold(lift("CASE-1")).await.unwrap();
    assert_eq!(listed(&mut footage, OnHold).await, [one], "the other case still holds it");
    footage.lift_hold(lift("CASE-2")).await.unwrap();
    let gone = footage.lift_hold(lift("CASE-2")).await;
    assert_eq!(said(gone), (Code::NotFound, "REQ_NOT_FOUND".into()));
    let erased = footage.confirm_deleted(confirm(&[later, one])).await.unwrap().into_inner();
    let selector =
        Some(proto::get_receipt_request::Selector::Index(index_of(erased.position.as_ref())));
    let entry = auditor
        .get_receipt(proto::GetReceiptRequest { selector, ..proto::GetReceiptRequest::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(entry.kind, "erasure");
    let body = payload(&entry.receipt_jws);
    // They stand in the ledger before this one.
    let range = |index: u64| serde_json::json!({ "first": index, "last": index, "origin": origin });
    let ranges = serde_json::json!([range(one), range(later)]);
    assert_eq!(body["footage"], ranges);
    assert!(body.get("bodies").is_none(), "no receipt was deleted");
    assert_eq!(said(footage.confirm_deleted(confirm(&[one])).await), state);
    assert_eq!(listed(&mut footage, Due).await, Vec::<u64>::new());
    bad_input(&mut footage, three).await;
    drop((terminal, footage, auditor));
    site.finish().await;
}

async fn bad_input(footage: &mut Footage, decision: u64) {
    type Spoil = fn(&mut proto::ListFootageRequest);
    let invalid = |status: tonic::Status| (reason(&status), field(&status));
    for case in ["", "two words", "Иванов", &"x".repeat(65)] {
        let status = footage.place_hold(of_case(decision, case)).await.unwrap_err();
        assert_eq!(invalid(status), ("REQ_INVALID".into(), "case_reference".into()), "{case}");
    }
    for (indices, path) in
        [(vec![], "indices"), (vec![1, 1], "indices"), ((0..201).collect(), "indices")]
    {
        let status = footage
            .confirm_deleted(proto::ConfirmDeletedRequest {
                indices,
                ..proto::ConfirmDeletedRequest::default()
            })
            .await
            .unwrap_err();
        assert_eq!(invalid(status), ("REQ_INVALID".into(), path.into()));
    }
    let lists: [(&str, Spoil); 6] = [
        ("filter", |r| r.filter = 9),
        ("from", |r| r.from = "today".into()),
        ("to", |r| r.to = "2026-11-21".into()),
        ("terminal_id", |r| r.terminal_id = "ATM 1".into()),
        ("page_size", |r| r.page_size = 1001),
        ("page_token", |r| r.page_token = "-1".into()),
    ];
    for (path, spoil) in lists {
        let mut request = proto::ListFootageRequest::default();
        spoil(&mut request);
        let status = footage.list_footage(request).await.unwrap_err();
        assert_eq!(invalid(status), ("REQ_INVALID".into(), path.into()));
    }
    // Nothing there: no such entry, an entry that is no decision, a decision without a clip.
    let not_found = (Code::NotFound, "REQ_NOT_FOUND".to_owned());
    for index in [u64::MAX, 1_000_000, 0] {
        assert_eq!(said(footage.place_hold(of_case(index, "CASE-1")).await), not_found, "{index}");
    }
    let bare = proto::ConfirmDeletedRequest {
        indices: vec![decision],
        ..proto::ConfirmDeletedRequest::default()
    };
    assert_eq!(said(footage.confirm_deleted(bare).await), not_found);
}

/// The files on the shelves.
fn files(site: &Site) -> Vec<std::path::PathBuf> {
    let dir = site.data().join("evidence");
    let Ok(shelves) = std::fs::read_dir(dir) else { return Vec::new() };
    let shelves = shelves.map(|shelf| shelf.unwrap().path());
    let mut files: Vec<_> = shelves
        .flat_map(|shelf| std::fs::read_dir(shelf).unwrap().map(|file| file.unwrap().path()))
        .collect();
    files.sort();
    files
}

/// The transaction that destroys a key was committed, and the gateway died after it.
async fn a_crash_before_the_files_removal_leaves_only_that(
    site: &Site,
    terminal: &mut Terminal,
    retention: &mut RetentionServiceClient<Channel>,
) {
    site.enroll("000000300054", "card-token-2", &["biden.jpg"]).await;
    let opened = terminal.begin_capture(begin("T9", "card-token-2")).await.unwrap().into_inner();
    let asked = verify("T9", 1, &opened.challenge, demo("biden.jpg"));
    let decision = terminal.verify(asked).await.unwrap().into_inner();
    assert_eq!(files(site).len(), 1);
    let store = SqliteStore::open(&site.data().join("tulga.sqlite")).await.unwrap();
    let mut unit = store.begin().await.unwrap();
    assert!(unit.destroy_evidence(index_of(decision.position.as_ref())).await.unwrap());
    unit.commit().await.unwrap();
    store.close().await;
    let mut runs = Vec::new();
    for _ in 0..2 {
        let run = retention.run_retention(proto::RunRetentionRequest {}).await.unwrap();
        let run = run.into_inner();
        runs.push((run.evidence_destroyed, run.files_removed, run.positions.len()));
    }
    assert_eq!(runs, [(0, 1, 0), (0, 0, 0)]);
    assert_eq!(files(site), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_05_a_capture_is_kept_as_evidence_until_its_years_are_over() {
    let pack = dev_pack_with("evidence_days = 1826", "");
    let more = format!("policy_dir = '{}'\n{RATE}", pack.path().display());
    let clock = SetClock::at(MORNING);
    let site = Site::at(&more, std::sync::Arc::clone(&clock) as _).await;
    let customer_id = site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let mut auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);
    let admin = site.staff(Role::Admin).await;
    let mut retention = RetentionServiceClient::new(admin.clone());
    let mut footage = FootageServiceClient::new(admin.clone());
    let read = |index| proto::GetEvidenceRequest {
        index,
        case_reference: "CASE-1".into(),
        ..proto::GetEvidenceRequest::default()
    };
    let not_found = (Code::NotFound, "REQ_NOT_FOUND".to_owned());

    let kept = index_of(approved(&mut terminal, "T1", None).await.position.as_ref());
    let evidence = auditor.get_evidence(read(kept)).await.unwrap().into_inner();
    assert_eq!(evidence.image, demo("obama2.jpg"));
    assert_eq!(evidence.media_type, "image/jpeg");
    // 21 November 2026 and 1826 whole days: through 21 November 2031, in Almaty.
    let keep_until = "2031-11-21T19:00:00.000Z";
    assert_eq!(evidence.keep_until.unwrap().rfc3339, keep_until);
    let selector = Some(proto::get_receipt_request::Selector::Index(index_of(
        evidence.read_position.as_ref(),
    )));
    let entry = auditor
        .get_receipt(proto::GetReceiptRequest { selector, ..proto::GetReceiptRequest::default() })
        .await
        .unwrap();
    let body = payload(&entry.into_inner().receipt_jws);
    assert_eq!(
        (&body["act"], &body["actor"]["role"]),
        (&"evidence_read".into(), &"auditor".into())
    );
    // Sealed: the picture is nowhere in the clear.
    let [file] = files(&site).try_into().unwrap();
    let sealed = std::fs::read(&file).unwrap();
    assert!(!sealed.windows(64).any(|window| window == &demo("obama2.jpg")[..64]));

    // Of somebody who was compared with nobody nothing can be read, and the file goes.
    let opened = terminal.begin_capture(begin("T2", "card-of-nobody")).await.unwrap().into_inner();
    let asked = verify("T2", 1, &opened.challenge, demo("biden.jpg"));
    let stranger = terminal.verify(asked).await.unwrap().into_inner();
    let stranger = index_of(stranger.position.as_ref());
    assert_eq!(said(auditor.get_evidence(read(stranger)).await), not_found);
    let orphan = files(&site).into_iter().find(|other| *other != file).unwrap();
    let hours_ago = std::fs::metadata(&file).unwrap().modified().unwrap()
        - std::time::Duration::from_secs(3_700);
    for path in [&file, &orphan] {
        std::fs::File::options().write(true).open(path).unwrap().set_modified(hours_ago).unwrap();
    }
    let run = retention.run_retention(proto::RunRetentionRequest {}).await.unwrap().into_inner();
    assert_eq!((run.evidence_destroyed, run.files_removed, run.positions.len()), (0, 1, 0));
    assert_eq!(files(&site), std::slice::from_ref(&file));

    // Erasing the customer does not shorten what the law has the bank keep.
    let mut desk = EnrollmentServiceClient::new(admin);
    desk.erase(proto::EraseRequest { customer_id }).await.unwrap();
    assert!(auditor.get_evidence(read(kept)).await.is_ok());

    clock.set("2031-11-21T18:59:59.999Z");
    let plan = async |retention: &mut RetentionServiceClient<Channel>| {
        let asked = proto::PlanRetentionRequest::default();
        let plan = retention.plan_retention(asked).await.unwrap().into_inner();
        (plan.evidence_due, plan.evidence_on_hold, plan.evidence_kept)
    };
    assert_eq!(plan(&mut retention).await, (0, 0, 1));
    footage.place_hold(of_case(kept, "CASE-1")).await.unwrap();
    clock.set(keep_until);
    assert_eq!(plan(&mut retention).await, (0, 1, 0));
    let run = retention.run_retention(proto::RunRetentionRequest {}).await.unwrap().into_inner();
    assert_eq!((run.evidence_destroyed, run.positions.len()), (0, 0));
    let lift = proto::LiftHoldRequest {
        index: kept,
        case_reference: "CASE-1".into(),
        ..proto::LiftHoldRequest::default()
    };
    footage.lift_hold(lift).await.unwrap();
    assert_eq!(plan(&mut retention).await, (1, 0, 0));
    let run = retention.run_retention(proto::RunRetentionRequest {}).await.unwrap().into_inner();
    assert_eq!((run.evidence_destroyed, run.files_removed, run.positions.len()), (1, 1, 1));
    let selector = Some(proto::get_receipt_request::Selector::Index(run.positions[0].index));
    let entry = auditor
        .get_receipt(proto::GetReceiptRequest { selector, ..proto::GetReceiptRequest::default() })
        .await
        .unwrap()
        .into_inner();
    let body = payload(&entry.receipt_jws);
    assert_eq!(body["evidence"], serde_json::json!([{ "first": kept, "last": kept }]));
    assert_eq!(files(&site), Vec::<std::path::PathBuf>::new());
    assert_eq!(said(auditor.get_evidence(read(kept)).await), not_found);
    let run = retention.run_retention(proto::RunRetentionRequest {}).await.unwrap().into_inner();
    assert_eq!((run.evidence_destroyed, run.files_removed, run.positions.len()), (0, 0, 0));
    a_crash_before_the_files_removal_leaves_only_that(&site, &mut terminal, &mut retention).await;
    let bad = proto::GetEvidenceRequest {
        index: kept,
        case_reference: String::new(),
        ..proto::GetEvidenceRequest::default()
    };
    let status = auditor.get_evidence(bad).await.unwrap_err();
    assert_eq!(
        (reason(&status).as_str(), field(&status).as_str()),
        ("REQ_INVALID", "case_reference")
    );
    drop((terminal, auditor, retention, footage, desk));
    site.finish().await;
}

/// What each decision waits for where pictures are kept; docs/footage.md has the figures.
#[test]
#[ignore = "a measurement of the machine's disk"]
fn what_keeping_a_picture_costs() {
    const TIMES: usize = 101;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (shelves, vault) = (FileShelves::at(dir.path()), Vault::new([7; 32]));
    let tenant = TenantId::try_from("dev").unwrap();
    let median = |mut took: Vec<Duration>| {
        took.sort_unstable();
        took[took.len() / 2]
    };
    for bytes in [300_000, 4 << 20] {
        let picture = vec![0xA5; bytes];
        let (mut sealing, mut writing) = (Vec::new(), Vec::new());
        for _ in 0..TIMES {
            let receipt = ReceiptId::new(random_bytes(&SystemEntropy).unwrap());
            let begun = Instant::now();
            let sealed =
                vault.seal_evidence(&tenant, &receipt, &picture, &SystemEntropy).unwrap().sealed;
            sealing.push(begun.elapsed());
            let begun = Instant::now();
            shelves.put("2026-11-21", &receipt, &sealed).unwrap();
            writing.push(begun.elapsed());
        }
        let (sealing, writing) = (median(sealing), median(writing));
        println!("{bytes} bytes: sealed in {sealing:?}, written and synced in {writing:?}");
    }
}
