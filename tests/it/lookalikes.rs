//! One face under several numbers, at transactions (KZ-08): searched for only where a bank has switched it on,
//! and held for people to look at.

use serde_json::Value;
use tempfile::TempDir;
use tonic::transport::Channel;
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::Outcome::{Approved, Denied, Held};
use tulga::proto::audit_service_client::AuditServiceClient;
use tulga::proto::case_service_client::CaseServiceClient;
use tulga::proto::customer_reference::Reference;
use tulga::proto::enrollment_service_client::EnrollmentServiceClient;
use tulga::proto::verification_service_client::VerificationServiceClient;
use tulga::proto::{CaseResolution, CaseStatus, DuplicateResolution};

use crate::rules::{Ask, Bank, CARD, altered, said, second_enrollment};
use crate::site::consent;

const DAY_MS: i64 = 86_400_000;

/// Numbers that nobody is enrolled under.
const NUMBERS: [&str; 4] = ["000000300030", "000000300042", "000000300054", "000000300066"];

/// The owner of the account that guests pay in to, and their card.
const OWNER: &str = "000000300029";
const OWNERS_CARD: &str = "card-token-2";
const ACCOUNT: &str = "owner-account";

/// `kz-2026` with the rule switched on. The pack's cases say that it is off; one that holds all the same is
/// enough here.
fn switched_on() -> TempDir {
    let rule = "[rules.\"KZ-08.face_of_another\"]\nin_force = ";
    let dir = altered("kz-2026", "pack.toml", &format!("{rule}false"), &format!("{rule}true"));
    let cases = dir.path().join("tests/kz-2026.toml");
    let text = std::fs::read_to_string(&cases).unwrap();
    let one = text.split("[[case]]").take(2).collect::<Vec<_>>().join("[[case]]");
    std::fs::write(cases, one).unwrap();
    dir
}

/// A bank with the customer, whose face is Obama's, and the owner, whose face is Biden's.
struct Street {
    bank: Bank,
    desk: EnrollmentServiceClient<Channel>,
    auditor: AuditServiceClient<Channel>,
    cases: CaseServiceClient<Channel>,
    second: CaseServiceClient<Channel>,
    _pack: TempDir,
}

impl Street {
    async fn by(pack: TempDir, others: usize) -> Self {
        let bank = Bank::new_by(pack.path(), others).await;
        let mut desk = EnrollmentServiceClient::new(bank.site.staff(Role::Admin).await);
        let owner = bank.site.enroll(OWNER, OWNERS_CARD, &["biden.jpg"]).await;
        let bind = proto::BindTokenRequest {
            customer_id: owner,
            kind: proto::TokenKind::Account.into(),
            token: ACCOUNT.into(),
            expires_at: None,
        };
        desk.bind_token(bind).await.unwrap();
        let auditor = AuditServiceClient::new(bank.site.staff(Role::Auditor).await);
        let cases = CaseServiceClient::new(bank.site.staff(Role::Admin).await);
        let second = CaseServiceClient::new(bank.site.named(Role::Admin, "second").await);
        bank.clock.advance_millis(7 * DAY_MS);
        Self { bank, desk, auditor, cases, second, _pack: pack }
    }

    /// Decides at the first terminal, and compares with what must come; the auditors' record.
    async fn expect(&mut self, ask: Ask, id: &str, expected: (proto::Outcome, &[&str])) -> Value {
        let decision = self.bank.decide(ask, id).await;
        assert_eq!(said(&decision), (expected.0, expected.1.to_vec()), "{id}");
        self.record(&decision).await
    }

    async fn at(
        &mut self,
        other: usize,
        ask: Ask,
        id: &str,
        expected: (proto::Outcome, &[&str]),
    ) -> Value {
        let decision = ask.decided(&mut self.bank.others[other], id).await;
        assert_eq!(said(&decision), (expected.0, expected.1.to_vec()), "{id}");
        self.record(&decision).await
    }

    async fn record(&mut self, decision: &proto::Decision) -> Value {
        let index = decision.position.as_ref().unwrap().index;
        let asked =
            proto::GetAuditRecordRequest { index, ..proto::GetAuditRecordRequest::default() };
        let answer = self.auditor.get_audit_record(asked).await.unwrap().into_inner();
        let text = String::from_utf8(answer.record).unwrap();
        // Whom it was is for the case alone.
        let receipt = crate::site::payload(&decision.receipt_jws).to_string();
        for told in [&text, &receipt, &format!("{decision:?}")] {
            assert!(!told.contains(&self.bank.customer), "{told}");
        }
        assert!(!receipt.contains("face_of_another") && !receipt.contains("1035"), "{receipt}");
        serde_json::from_str(&text).unwrap()
    }

    async fn open_cases(&mut self) -> Vec<proto::GetCaseResponse> {
        let ask = proto::ListCasesRequest { status: CaseStatus::Open.into(), ..Default::default() };
        let mut files = Vec::new();
        for case in self.cases.list_cases(ask).await.unwrap().into_inner().cases {
            let ask = proto::GetCaseRequest { case_id: case.case_id };
            files.push(self.cases.get_case(ask).await.unwrap().into_inner());
        }
        files
    }

    async fn release(&mut self, case_id: &str) {
        let (case_id, resolution) = (case_id.to_owned(), CaseResolution::Release.into());
        let propose = proto::ProposeResolutionRequest { case_id: case_id.clone(), resolution };
        self.cases.propose_resolution(propose).await.unwrap();
        let approve = proto::ApproveResolutionRequest { case_id, resolution };
        self.second.approve_resolution(approve).await.unwrap();
    }

    async fn finish(self) {
        let Self { bank, desk, auditor, cases, second, _pack } = self;
        drop((desk, auditor, cases, second));
        bank.finish().await;
    }
}

const APPROVED: (proto::Outcome, &[&str]) = (Approved, &[]);
const HELD: (proto::Outcome, &[&str]) = (Held, &["POL_HELD"]);
const DENIED: (proto::Outcome, &[&str]) = (Denied, &["MAT_NOT_CONFIRMED"]);

/// The customer's own withdrawal, as themselves.
fn withdrawal() -> Ask {
    Ask::new(proto::Operation::Withdrawal, 1_000, "KZT")
}

/// The customer's face pays in to the owner's account under a number of nobody's.
fn as_guest(number: &str) -> Ask {
    Ask {
        account: ACCOUNT.into(),
        reference: Reference::Iin(number.into()),
        consent: Some(consent()),
        ..Ask::new(proto::Operation::DepositThirdParty, 1_000, "KZT")
    }
}

fn social(ask: Ask) -> Ask {
    Ask { bank: Some(proto::BankFacts { social_payment: true, ..Default::default() }), ..ask }
}

/// Whether everybody was searched, and what came of it.
fn searched(record: &Value) -> (bool, bool) {
    let sees = record["sees"].as_array().unwrap().contains(&"face_of_another".into());
    let found = &record["facts"]["face_of_another"];
    assert!(found.is_null() || *found == true, "{found}");
    let was_searched = record["searched"].as_bool().unwrap();
    assert!(sees || !(was_searched || *found == true), "{record}");
    (was_searched, *found == true)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_08_who_withdrew_as_themselves_and_pays_in_as_another_is_held_for_people_to_look_at() {
    let mut street = Street::by(switched_on(), 0).await;
    // Nobody who looks like the guest has been here, whoever is enrolled.
    let record = street.expect(as_guest(NUMBERS[0]), "T1", APPROVED).await;
    assert_eq!(searched(&record), (true, false));
    // One's own face is nobody else's.
    let record = street.expect(withdrawal(), "T2", APPROVED).await;
    assert_eq!(searched(&record), (true, false));

    let record = street.expect(as_guest(NUMBERS[1]), "T3", HELD).await;
    assert_eq!(searched(&record), (true, true));
    assert_eq!(record["rules"], serde_json::json!(["KZ-03.guest", "KZ-08.face_of_another"]));
    assert_eq!(record["signs"], serde_json::json!(["1035"]));
    let cases = street.open_cases().await;
    let [file] = cases.as_slice() else { panic!("{cases:?}") };
    let case = file.case.as_ref().unwrap();
    // 20 for the face, 5 for the other guest on the account.
    assert_eq!((case.kind.as_str(), case.score), ("MULE", 25));
    assert_ne!(case.customer_id, street.bank.customer, "it is about the guest");
    assert_eq!(file.linked_customer_ids, std::slice::from_ref(&street.bank.customer));
    // The other person is not held: a lookalike is no guilt of theirs.
    street.expect(withdrawal(), "T4", APPROVED).await;
    let record = street.expect(social(as_guest(NUMBERS[1])), "T5", APPROVED).await;
    assert_eq!(searched(&record), (true, true));
    street.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_08_only_who_moved_cash_on_the_account_or_at_the_terminal_within_30_days_counts() {
    let mut street = Street::by(switched_on(), 3).await;
    street.expect(withdrawal(), "T1", APPROVED).await;
    let record = street.at(0, as_guest(NUMBERS[0]), "T2", APPROVED).await;
    assert_eq!(searched(&record), (true, false), "another terminal, another account");
    // On the account, at a third terminal.
    let paid =
        Ask { reference: Reference::CardToken(CARD.into()), consent: None, ..as_guest(NUMBERS[0]) };
    street.at(1, paid, "T3", APPROVED).await;
    let record = street.at(2, as_guest(NUMBERS[1]), "T4", HELD).await;
    assert_eq!(searched(&record), (true, true));
    // 30 days after it, to the millisecond, and one later.
    street.bank.clock.advance_millis(30 * DAY_MS);
    let record = street.at(2, as_guest(NUMBERS[2]), "T5", HELD).await;
    assert_eq!(searched(&record), (true, true));
    street.bank.clock.advance_millis(1);
    let record = street.at(2, as_guest(NUMBERS[3]), "T6", APPROVED).await;
    assert_eq!(searched(&record), (true, false));
    street.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_08_as_it_ships_nobody_is_searched() {
    let pack = altered("kz-2026", "pack.toml", "KZ-08", "KZ-08");
    let mut street = Street::by(pack, 0).await;
    let mut records = vec![street.expect(withdrawal(), "T1", APPROVED).await];
    records.push(street.expect(as_guest(NUMBERS[0]), "T2", APPROVED).await);
    records.push(street.expect(as_guest(NUMBERS[0]), "T3", APPROVED).await);
    for record in &records {
        assert_eq!(searched(record), (false, false));
        let sees = record["sees"].as_array().unwrap();
        assert!(sees.contains(&"shared_face".into()) && !sees.contains(&"face_of_another".into()));
    }
    assert_eq!(street.open_cases().await, []);
    street.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_08_a_face_that_does_not_stand_there_by_right_is_not_searched() {
    let mut street = Street::by(switched_on(), 0).await;
    street.expect(withdrawal(), "T1", APPROVED).await;
    let owners =
        |face| Ask { reference: Reference::CardToken(OWNERS_CARD.into()), face, ..withdrawal() };
    // An impostor with somebody's card, a card of nobody's, and somebody without consent.
    let nobodys = Ask { reference: Reference::CardToken("nobody".into()), ..withdrawal() };
    let without = Ask { consent: None, ..as_guest(NUMBERS[0]) };
    for (ask, id) in [(owners("obama2.jpg"), "T2"), (nobodys, "T3"), (without, "T4")] {
        let record = street.expect(ask, id, DENIED).await;
        assert_eq!(searched(&record), (false, false), "{id}");
    }
    // The owner themselves, by right.
    let record = street.expect(owners("biden.jpg"), "T5", APPROVED).await;
    assert_eq!(searched(&record), (true, false));
    // Suspended by the bank: refused, whoever stands there.
    let customer_id = street.bank.customer.clone();
    street.desk.suspend(proto::SuspendRequest { customer_id }).await.unwrap();
    let record = street.expect(withdrawal(), "T6", DENIED).await;
    assert_eq!(searched(&record), (false, false));
    assert_eq!(street.open_cases().await, []);
    beyond_the_last_try(&mut street).await;
    street.finish().await;
}

/// The fourth try of a transaction is compared with nobody, not even a guest's.
async fn beyond_the_last_try(street: &mut Street) {
    let mut request = crate::site::begin("T9", CARD);
    let ask = as_guest(NUMBERS[0]);
    request.customer = Some(proto::CustomerReference { reference: Some(ask.reference) });
    request.consent = ask.consent;
    let transaction = request.transaction.as_mut().unwrap();
    transaction.operation = ask.operation.into();
    (transaction.amount_minor, transaction.account) = (1_000, "nobodys-account".into());
    for attempt in 1..=4 {
        let terminal: &mut VerificationServiceClient<Channel> = &mut street.bank.terminal;
        let opened = terminal.begin_capture(request.clone()).await.unwrap().into_inner();
        let image = crate::site::demo("obama2.jpg");
        let asked = crate::site::verify("T9", attempt, &opened.challenge, image);
        let decision = terminal.verify(asked).await.unwrap().into_inner();
        assert_eq!(decision.outcome(), Denied);
        let record = street.record(&decision).await;
        assert_eq!(searched(&record).0, attempt <= 3, "{attempt}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_08_who_is_suspended_or_erased_is_not_found() {
    let mut street = Street::by(switched_on(), 0).await;
    street.expect(withdrawal(), "T1", APPROVED).await;
    let customer_id = street.bank.customer.clone();
    let suspend = proto::SuspendRequest { customer_id: customer_id.clone() };
    street.desk.suspend(suspend).await.unwrap();
    street.expect(as_guest(NUMBERS[0]), "T2", APPROVED).await;
    street.desk.resume(proto::ResumeRequest { customer_id: customer_id.clone() }).await.unwrap();
    street.expect(as_guest(NUMBERS[1]), "T3", HELD).await;
    let [file] = street.open_cases().await.try_into().unwrap();
    assert_eq!(file.linked_customer_ids, std::slice::from_ref(&customer_id));
    street.desk.erase(proto::EraseRequest { customer_id }).await.unwrap();
    let record = street.expect(as_guest(NUMBERS[2]), "T4", APPROVED).await;
    assert_eq!(searched(&record), (true, false));
    let [file] = street.open_cases().await.try_into().unwrap();
    assert_eq!(file.linked_customer_ids, Vec::<String>::new(), "nor is their case's link");
    street.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_08_two_whom_people_have_told_apart_are_not_found_again() {
    let mut street = Street::by(switched_on(), 0).await;
    street.expect(withdrawal(), "T1", APPROVED).await;
    street.expect(as_guest(NUMBERS[0]), "T2", HELD).await;
    let [file] = street.open_cases().await.try_into().unwrap();
    street.release(&file.case.unwrap().case_id).await;
    let record = street.expect(as_guest(NUMBERS[0]), "T3", APPROVED).await;
    assert_eq!(searched(&record), (true, false), "two people released it");
    // Of another guest they have said nothing.
    street.expect(as_guest(NUMBERS[1]), "T4", HELD).await;
    street.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_08_twins_who_were_told_apart_at_enrolment_use_one_terminal() {
    let pack = switched_on();
    let bank = Bank::new_by(pack.path(), 0).await;
    let mut desk = EnrollmentServiceClient::new(bank.site.staff(Role::Admin).await);
    let twin = second_enrollment(&mut desk).await;
    let resolve = proto::ResolveDuplicateRequest {
        customer_id: twin.clone(),
        resolution: DuplicateResolution::DifferentPeople.into(),
    };
    desk.resolve_duplicate(resolve).await.unwrap();
    let card = proto::BindTokenRequest {
        customer_id: twin,
        kind: proto::TokenKind::Card.into(),
        token: "card-of-the-twin".into(),
        expires_at: None,
    };
    desk.bind_token(card).await.unwrap();
    let mut bank = bank;
    bank.clock.advance_millis(7 * DAY_MS);
    let of_twin =
        || Ask { reference: Reference::CardToken("card-of-the-twin".into()), ..withdrawal() };
    // Each after the other, from either side of the pair.
    for (ask, id) in [(withdrawal(), "T1"), (of_twin(), "T2"), (withdrawal(), "T3")] {
        bank.expect(ask, id, Approved, &[]).await;
    }
    drop(desk);
    bank.finish().await;
}
