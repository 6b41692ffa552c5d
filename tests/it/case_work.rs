//! Cases through the API: held, looked at, released or refused by two people.

use std::fs;

use tempfile::TempDir;
use tonic::transport::Channel;
use tulga::clock::Clock as _;
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::RegisterKind as Kind;
use tulga::proto::case_service_client::CaseServiceClient;
use tulga::proto::customer_reference::Reference;
use tulga::proto::enrollment_service_client::EnrollmentServiceClient;
use tulga::proto::register_service_client::RegisterServiceClient;
use tulga::proto::{CaseResolution as Resolution, CaseStatus};

use crate::registers::{dev_with, replace};
use crate::rules::{Ask, Bank, IIN, bind};
use crate::site::{consent, field, reason};

type Desk = CaseServiceClient<Channel>;

const DAY_MS: i64 = 86_400_000;

fn holds_droppers() -> TempDir {
    let facts = "  registers: Set<String>,\n  case_open: Bool,\n  social_payment: Bool,\n";
    let rules = r#"@id("KZ-08.dropper") @outcome("HELD") @hold_days("5") @reason("POL_HELD") @case("MULE")
        forbid (principal, action, resource)
        when { context.registers.contains("dropper") && !context.social_payment };
        @id("KZ-08.case") @outcome("HELD") @hold_days("5") @reason("POL_HELD")
        forbid (principal, action, resource)
        when { context.case_open && !context.social_payment };"#;
    let dir = dev_with(facts, rules);
    let calendar = "zone = \"Asia/Almaty\"\nweekend = [\"saturday\", \"sunday\"]\n";
    fs::write(dir.path().join("calendar.toml"), calendar).unwrap();
    dir
}

fn withdrawal() -> Ask {
    Ask::new(proto::Operation::Withdrawal, 100, "KZT")
}

async fn open_cases(desk: &mut Desk) -> Vec<proto::Case> {
    let ask = proto::ListCasesRequest { status: CaseStatus::Open.into(), ..Default::default() };
    desk.list_cases(ask).await.unwrap().into_inner().cases
}

fn propose(case_id: &str, resolution: Resolution) -> proto::ProposeResolutionRequest {
    proto::ProposeResolutionRequest { case_id: case_id.into(), resolution: resolution.into() }
}

fn approve(case_id: &str, resolution: Resolution) -> proto::ApproveResolutionRequest {
    proto::ApproveResolutionRequest { case_id: case_id.into(), resolution: resolution.into() }
}

/// A person who is held, and was then taken off the register.
async fn held() -> (Bank, Desk, Desk, proto::Case) {
    let pack = holds_droppers();
    let mut bank = Bank::new_by(pack.path(), 0).await;
    let mut registers = RegisterServiceClient::new(bank.site.staff(Role::Admin).await);
    let mut desk = CaseServiceClient::new(bank.site.staff(Role::Admin).await);
    let second = CaseServiceClient::new(bank.site.named(Role::Admin, "second").await);
    // Another face in front of the terminal opens nothing about the person.
    replace(&mut registers, Kind::Dropper, &[IIN]).await;
    let other = Ask { face: "biden.jpg", ..withdrawal() };
    assert_eq!(bank.decide(other, "T0").await.outcome(), Denied);
    assert_eq!(open_cases(&mut desk).await, []);
    bank.expect(withdrawal(), "T1", Held, &["POL_HELD"]).await;
    replace(&mut registers, Kind::Dropper, &[]).await;
    let mut cases = open_cases(&mut desk).await;
    assert_eq!(cases.len(), 1);
    let case = cases.remove(0);
    assert_eq!((case.kind.as_str(), &case.customer_id), ("MULE", &bank.customer));
    assert_eq!(case.score, 20);
    (bank, desk, second, case)
}

use proto::Outcome::{Approved, Denied, Held};

/// A hold does not spread from an account's owner to those who pay in, and on to those who pay in to them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_08_who_pays_in_to_a_held_person_is_not_held() {
    let (mut bank, mut desk, second, _) = held().await;
    bind(&bank, proto::TokenKind::Account, "account-of-the-held").await;
    bank.site.enroll("000000300029", "card-token-2", &["biden.jpg"]).await;
    let payer = |operation| Ask {
        reference: Reference::CardToken("card-token-2".into()),
        account: "account-of-the-held".into(),
        face: "biden.jpg",
        ..Ask::new(operation, 100, "KZT")
    };
    bank.expect(payer(proto::Operation::Deposit), "T2", Approved, &[]).await;
    bank.expect(payer(proto::Operation::Withdrawal), "T3", Approved, &[]).await;
    bank.expect(withdrawal(), "T4", Held, &["POL_HELD"]).await;
    assert_eq!(open_cases(&mut desk).await.len(), 1);
    drop((desk, second));
    bank.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_08_a_held_person_is_released_by_two_people_and_not_by_one() {
    let (mut bank, mut desk, mut second, case) = held().await;
    let id = &case.case_id;
    // What is tried meanwhile is held too, and makes the hold no longer.
    bank.clock.advance_millis(DAY_MS);
    bank.expect(withdrawal(), "T2", Held, &["POL_HELD"]).await;
    let social = Ask {
        bank: Some(proto::BankFacts { social_payment: true, ..Default::default() }),
        ..withdrawal()
    };
    bank.expect(social, "T3", Approved, &[]).await;
    let ask = proto::GetCaseRequest { case_id: id.clone() };
    let file = desk.get_case(ask.clone()).await.unwrap().into_inner();
    let rules: Vec<_> = file.evidence.iter().map(|decision| decision.rules.join(" ")).collect();
    assert_eq!(rules, ["KZ-08.dropper dev.permit", "KZ-08.case dev.permit"]);
    assert!(file.evidence.iter().all(|e| e.outcome() == Held && e.amount_minor == 100));
    let now = file.case.unwrap();
    assert_eq!((now.held_until.as_ref(), now.score), (case.held_until.as_ref(), 21));
    assert!(now.held_beyond_calendar, "the calendar has no years");

    let unproposed = second.approve_resolution(approve(id, Resolution::Release)).await;
    assert_eq!(reason(&unproposed.unwrap_err()), "REQ_STATE");
    let proposed = desk.propose_resolution(propose(id, Resolution::Release)).await.unwrap();
    let proposal = proposed.into_inner().case.unwrap().proposal.unwrap();
    assert_eq!(
        (proposal.proposed_by.as_str(), proposal.resolution()),
        ("dev", Resolution::Release)
    );
    // Not oneself, and nothing that was not proposed.
    let own = desk.approve_resolution(approve(id, Resolution::Release)).await.unwrap_err();
    assert_eq!(reason(&own), "REQ_STATE");
    let other = second.approve_resolution(approve(id, Resolution::Refuse)).await.unwrap_err();
    assert_eq!(reason(&other), "REQ_STATE");
    bank.expect(withdrawal(), "T4", Held, &["POL_HELD"]).await;
    let closed = second.approve_resolution(approve(id, Resolution::Release)).await.unwrap();
    assert_eq!(closed.into_inner().case.unwrap().status(), CaseStatus::Released);
    bank.expect(withdrawal(), "T5", Approved, &[]).await;
    let again = desk.propose_resolution(propose(id, Resolution::Refuse)).await.unwrap_err();
    assert_eq!(reason(&again), "REQ_STATE");
    assert_eq!(open_cases(&mut desk).await, []);
    drop((desk, second));
    bank.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_08_a_hold_lapses_at_its_end_and_the_case_stays_for_a_person() {
    let (mut bank, mut desk, second, case) = held().await;
    let until = case.held_until.unwrap().unix_ms;
    let left = until - bank.clock.now().get();
    bank.clock.advance_millis(left - 1);
    bank.expect(withdrawal(), "T2", Held, &["POL_HELD"]).await;
    bank.clock.advance_millis(1);
    bank.expect(withdrawal(), "T3", Approved, &[]).await;
    assert_eq!(open_cases(&mut desk).await.len(), 1);
    drop((desk, second));
    bank.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_somebody_who_withdrew_is_free_once_their_case_is_released() {
    let (bank, mut desk, mut second, case) = held().await;
    let id = &case.case_id;
    let mut enroller = EnrollmentServiceClient::new(bank.site.staff(Role::Enroller).await);
    let withdraw = proto::WithdrawConsentRequest {
        customer_id: bank.customer.clone(),
        evidence_ref: "letter/9".into(),
    };
    let ended = enroller.withdraw_consent(withdraw).await.unwrap().into_inner();
    assert!(ended.waits_for_case && ended.erasure_position.is_none());
    let anew = proto::CreateCustomerRequest { iin: IIN.into(), consent: Some(consent()) };
    let held = enroller.create_customer(anew.clone()).await.unwrap_err();
    assert_eq!(reason(&held), "REQ_EXISTS");
    desk.propose_resolution(propose(id, Resolution::Release)).await.unwrap();
    second.approve_resolution(approve(id, Resolution::Release)).await.unwrap();
    enroller.create_customer(anew).await.unwrap();
    drop((desk, second, enroller));
    bank.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_08_a_refused_person_stays_held() {
    let (mut bank, mut desk, mut second, case) = held().await;
    let id = &case.case_id;
    desk.propose_resolution(propose(id, Resolution::Refuse)).await.unwrap();
    second.approve_resolution(approve(id, Resolution::Refuse)).await.unwrap();
    bank.clock.advance_millis(30 * DAY_MS);
    bank.expect(withdrawal(), "T2", Held, &["POL_HELD"]).await;
    assert_eq!(open_cases(&mut desk).await, [], "no second case about it");
    let ask = proto::GetCaseRequest { case_id: id.clone() };
    let file = desk.get_case(ask).await.unwrap().into_inner();
    assert_eq!(file.evidence.len(), 2);
    // To be erased and enrolled again is no way out of it.
    let mut office = EnrollmentServiceClient::new(bank.site.staff(Role::Admin).await);
    let erase = proto::EraseRequest { customer_id: bank.customer.clone() };
    assert_eq!(reason(&office.erase(erase).await.unwrap_err()), "REQ_STATE");
    drop((desk, second, office));
    bank.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_wrong_field_about_cases_is_named() {
    let pack = holds_droppers();
    let bank = Bank::new_by(pack.path(), 0).await;
    let mut desk = CaseServiceClient::new(bank.site.staff(Role::Admin).await);
    let list = |status, page_size, token: &str| proto::ListCasesRequest {
        status,
        page_size,
        page_token: token.into(),
    };
    for (ask, path) in [
        (list(9, 0, ""), "status"),
        (list(0, 1_001, ""), "page_size"),
        (list(0, 0, "7-zz"), "page_token"),
    ] {
        let status = desk.list_cases(ask).await.unwrap_err();
        assert_eq!((reason(&status).as_str(), field(&status).as_str()), ("REQ_INVALID", path));
    }
    let unknown = "0".repeat(32);
    for (id, resolution, expected) in [
        ("7", Resolution::Release, "REQ_INVALID"),
        (unknown.as_str(), Resolution::Unspecified, "REQ_INVALID"),
        (unknown.as_str(), Resolution::Release, "REQ_NOT_FOUND"),
    ] {
        let refused = [
            desk.propose_resolution(propose(id, resolution)).await.unwrap_err(),
            desk.approve_resolution(approve(id, resolution)).await.unwrap_err(),
        ];
        assert_eq!(refused.map(|status| reason(&status)), [expected; 2]);
    }
    let ask = proto::GetCaseRequest { case_id: unknown };
    assert_eq!(reason(&desk.get_case(ask).await.unwrap_err()), "REQ_NOT_FOUND");
    drop(desk);
    bank.finish().await;
}
