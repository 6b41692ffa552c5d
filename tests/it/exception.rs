//! KZ-07 through the API: a person who is unable to give a biometric confirms in the application.

use std::fs;

use tonic::Status;
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::audit_service_client::AuditServiceClient;
use tulga::proto::customer_reference::Reference;
use tulga::proto::enrollment_service_client::EnrollmentServiceClient;
use tulga::proto::receipt_service_client::ReceiptServiceClient;

use crate::bank::{
    Ask, Bank, CARD, Desk, Device, LARGE, awaiting, body, decided, hex, named, said,
};
use crate::site::{begin, consent, field, reason};

pub const HANDLESS_IIN: &str = "000000300029";
pub const HANDLESS_CARD: &str = "card-token-2";
const EVIDENCE: &str = "certificate-canary-4711";

/// A customer who has no captures, and the desks of two people.
pub struct Marking {
    pub bank: Bank,
    pub customer: String,
    pub second: Desk,
}

impl Marking {
    async fn begin() -> Self {
        Self::begin_by("").await
    }

    /// By the pack with lines added to its bars.
    async fn begin_by(bars: &str) -> Self {
        let mut bank = Bank::open(bars).await;
        let request =
            proto::CreateCustomerRequest { iin: HANDLESS_IIN.into(), consent: Some(consent()) };
        let customer = bank.desk.create_customer(request).await.unwrap().into_inner().customer_id;
        let card = proto::BindTokenRequest {
            customer_id: customer.clone(),
            kind: proto::TokenKind::Card.into(),
            token: HANDLESS_CARD.into(),
            expires_at: None,
        };
        bank.desk.bind_token(card).await.unwrap();
        let second = EnrollmentServiceClient::new(bank.site.named(Role::Enroller, "second").await);
        Self { bank, customer, second }
    }

    /// With the mark, and no device.
    pub async fn without_app(bars: &str) -> Self {
        let mut marking = Self::begin_by(bars).await;
        marking.bank.desk.propose_unable(marking.proposal()).await.unwrap();
        marking.second.approve_unable(marking.approval()).await.unwrap();
        marking
    }

    /// With the mark, and a device's key.
    async fn marked() -> (Self, Device, String) {
        Self::marked_by("").await
    }

    pub async fn marked_by(bars: &str) -> (Self, Device, String) {
        let mut marking = Self::without_app(bars).await;
        let device = Device::ed25519(7);
        let customer = marking.customer.clone();
        let key_id = marking.bank.bind(&device, &customer).await;
        (marking, device, key_id)
    }

    fn proposal(&self) -> proto::ProposeUnableRequest {
        let customer_id = self.customer.clone();
        proto::ProposeUnableRequest { customer_id, evidence_ref: EVIDENCE.into() }
    }

    fn approval(&self) -> proto::ApproveUnableRequest {
        let customer_id = self.customer.clone();
        proto::ApproveUnableRequest { customer_id, evidence_ref: EVIDENCE.into() }
    }

    async fn status(&mut self) -> proto::CustomerStatus {
        let asked = proto::GetCustomerRequest { customer_id: self.customer.clone() };
        self.bank.desk.get_customer(asked).await.unwrap().into_inner().status()
    }

    pub async fn request(
        &mut self,
        request: proto::RequestExceptionRequest,
    ) -> Result<proto::Decision, Status> {
        Ok(self.bank.terminal.request_exception(request).await?.into_inner())
    }

    /// What waits for the marked customer.
    pub async fn pending(&mut self) -> Vec<proto::PendingConfirmation> {
        let reference = Some(Reference::CardToken(HANDLESS_CARD.into()));
        let customer = Some(proto::CustomerReference { reference });
        let asked = proto::ListPendingRequest { customer };
        self.bank.app.list_pending(asked).await.unwrap().into_inner().pending
    }

    pub async fn close(self) {
        let Self { bank, second, .. } = self;
        drop(second);
        bank.close().await;
    }
}

/// A small deposit: nothing but the person is in question.
pub fn deposit(id: &str, card: &str) -> proto::RequestExceptionRequest {
    let mut request = exception(id, card);
    request.transaction.as_mut().unwrap().operation = proto::Operation::Deposit.into();
    request
}

pub fn exception(id: &str, card: &str) -> proto::RequestExceptionRequest {
    let proto::BeginCaptureRequest { customer, transaction, holder_verification, .. } =
        begin(id, card);
    proto::RequestExceptionRequest {
        customer,
        transaction,
        attempt: 1,
        holder_verification,
        language: "en".into(),
        bank: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_07_a_marked_person_withdraws_by_their_own_key_and_the_receipt_is_an_exception() {
    let (mut marking, device, key_id) = Marking::marked().await;
    let first = marking.request(exception("T1", HANDLESS_CARD)).await.unwrap();
    // Enrolled just now, they are also under the pack's cap of new customers (KZ-15).
    assert_eq!(said(&first), (proto::Outcome::StepUp, vec!["LIM_DAILY_CAP", "POL_STEP_UP"]));
    assert_eq!(body(&first)["kind"], "exception");
    assert!(body(&first)["bio"].is_null() && body(&first)["terminal"]["challenge"].is_null());
    // The lost answer, and other content under the same key.
    let again = marking.request(exception("T1", HANDLESS_CARD)).await.unwrap();
    assert_eq!(again, first);
    let mut other = exception("T1", HANDLESS_CARD);
    other.transaction.as_mut().unwrap().amount_minor += 1;
    assert_eq!(reason(&marking.request(other).await.unwrap_err()), "REQ_ID_REUSED");

    let [pending] = marking.pending().await.try_into().unwrap();
    assert_eq!(pending.operation(), proto::Operation::Withdrawal);
    marking.bank.app.confirm(device.confirms(&key_id, &pending)).await.unwrap();
    let last = decided(marking.bank.waiting("T1", 5_000).await);
    assert_eq!(said(&last), (proto::Outcome::ApprovedCapped, vec!["LIM_DAILY_CAP"]));
    let receipt = body(&last);
    assert_eq!((&receipt["kind"], &receipt["refers"]), (&"exception".into(), &named(&first)));
    assert_eq!(receipt["confirmation"]["by"], "customer_key");

    let found = proto::GetDecisionRequest {
        business_date: "2026-11-21".into(),
        host_transaction_id: "T1".into(),
        attempt: 1,
        language: "en".into(),
    };
    assert_eq!(marking.bank.terminal.get_decision(found).await.unwrap().into_inner(), last);
    assert_eq!(receipt["cap"]["amount_minor"], last.cap.as_ref().unwrap().amount_minor);
    redeemed_reported_and_reversed(&mut marking.bank, &last).await;
    assert!(marking.bank.audited().await > 0);
    let mut auditor = AuditServiceClient::new(marking.bank.site.staff(Role::Auditor).await);
    let index = last.position.unwrap().index;
    let record = auditor
        .get_audit_record(proto::GetAuditRecordRequest {
            index,
            ..proto::GetAuditRecordRequest::default()
        })
        .await
        .unwrap();
    let record = String::from_utf8(record.into_inner().record).unwrap();
    assert!(record.contains(r#""unable":true"#) && record.contains(r#""answer":"customer_key""#));
    marking.close().await;
}

async fn redeemed_reported_and_reversed(bank: &mut Bank, last: &proto::Decision) {
    let mut host = ReceiptServiceClient::new(bank.site.staff(Role::Host).await);
    let redeem = proto::RedeemRequest {
        receipt_jws: last.receipt_jws.clone(),
        transaction_salt: last.salts.as_ref().unwrap().transaction.clone(),
        host_transaction_id: "T1".into(),
        business_date: "2026-11-21".into(),
        attempt: 1,
        account: "account-token-1".into(),
        counterparty: None,
        amount_minor: 5_000_000,
        currency: "KZT".into(),
        operation: proto::Operation::Withdrawal.into(),
    };
    assert!(host.redeem(redeem).await.unwrap().into_inner().redeemed);
    let report = proto::ReportOutcomeRequest {
        business_date: "2026-11-21".into(),
        host_transaction_id: "T1".into(),
        attempt: 1,
        outcome: proto::CashOutcome::NotDispensed.into(),
        dispensed_minor: 0,
        currency: "KZT".into(),
        footage: None,
    };
    bank.terminal.report_outcome(report).await.unwrap();
    let reverse = proto::ReverseRequest {
        receipt_jws: last.receipt_jws.clone(),
        host_transaction_id: "T1".into(),
        business_date: "2026-11-21".into(),
        attempt: 1,
        moved_minor: 0,
        currency: "KZT".into(),
    };
    host.reverse(reverse).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_07_a_mark_needs_two_people_and_ends_when_it_is_taken_away() {
    let mut marking = Marking::begin().await;
    let before = marking.request(exception("T0", HANDLESS_CARD)).await.unwrap();
    assert_eq!(said(&before), (proto::Outcome::Denied, vec!["MAT_NOT_CONFIRMED"]));
    let early = marking.second.approve_unable(marking.approval()).await.unwrap_err();
    assert_eq!(reason(&early), "REQ_STATE");
    marking.bank.desk.propose_unable(marking.proposal()).await.unwrap();
    // Whoever proposed; somebody of the same name with another key; somebody who looked at other evidence.
    let mut namesake = EnrollmentServiceClient::new(marking.bank.site.staff(Role::Admin).await);
    let mut elsewhere = marking.approval();
    elsewhere.evidence_ref.push('0');
    for status in [
        marking.bank.desk.approve_unable(marking.approval()).await.unwrap_err(),
        namesake.approve_unable(marking.approval()).await.unwrap_err(),
    ] {
        assert_eq!(reason(&status), "REQ_STATE");
    }
    let status = marking.second.approve_unable(elsewhere).await.unwrap_err();
    assert_eq!(
        (reason(&status).as_str(), field(&status).as_str()),
        ("REQ_INVALID", "evidence_ref")
    );
    drop(namesake);
    let proposed = marking.request(exception("T1", HANDLESS_CARD)).await.unwrap();
    assert_eq!(proposed.outcome(), proto::Outcome::Denied);
    assert_eq!(marking.status().await, proto::CustomerStatus::Pending);

    marking.second.approve_unable(marking.approval()).await.unwrap();
    assert_eq!(marking.status().await, proto::CustomerStatus::Active);
    let marked = marking.request(deposit("T2", HANDLESS_CARD)).await.unwrap();
    assert_eq!(marked.outcome(), proto::Outcome::StepUp);
    let twice = marking.second.propose_unable(marking.proposal()).await.unwrap_err();
    assert_eq!(reason(&twice), "REQ_EXISTS");

    // Taken away while the customer thinks: the agreement finds no rule any more.
    let device = Device::ed25519(7);
    let customer = marking.customer.clone();
    let key_id = marking.bank.bind(&device, &customer).await;
    let [pending] = marking.pending().await.try_into().unwrap();
    marking.bank.app.confirm(device.confirms(&key_id, &pending)).await.unwrap();
    let clear = proto::ClearUnableRequest { customer_id: customer };
    marking.second.clear_unable(clear.clone()).await.unwrap();
    assert_eq!(reason(&marking.second.clear_unable(clear).await.unwrap_err()), "REQ_NOT_FOUND");
    assert_eq!(marking.status().await, proto::CustomerStatus::Pending);
    let last = decided(marking.bank.waiting("T2", 5_000).await);
    assert_eq!(said(&last), (proto::Outcome::Denied, vec!["MAT_NOT_CONFIRMED"]));
    marking.close().await;
}

/// Nobody, somebody who is not marked, and a marked person with another's face get the words of a mismatch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_07_the_path_is_open_to_marked_people_only_and_tells_nothing_of_others() {
    let (mut marking, ..) = Marking::marked().await;
    let nobody = marking.request(deposit("T1", "card-of-nobody")).await.unwrap();
    let unmarked = marking.request(deposit("T2", CARD)).await.unwrap();
    for decision in [&nobody, &unmarked] {
        assert_eq!(said(decision), (proto::Outcome::Denied, vec!["MAT_NOT_CONFIRMED"]));
        assert_eq!(body(decision)["kind"], "exception");
    }
    assert_eq!(nobody.next_screen, unmarked.next_screen);
    assert_eq!(nobody.attempts_left, unmarked.attempts_left);
    assert!(marking.bank.pending().await.is_empty());
    // Beside a capture the mark is not looked at.
    let mut beside = begin("T3", HANDLESS_CARD);
    beside.transaction.as_mut().unwrap().operation = proto::Operation::Deposit.into();
    let opened = marking.bank.terminal.begin_capture(beside).await.unwrap();
    let challenge = opened.into_inner().challenge;
    let asked = crate::site::verify("T3", 1, &challenge, crate::site::demo("biden.jpg"));
    let captured = marking.bank.terminal.verify(asked).await.unwrap().into_inner();
    assert_eq!(said(&captured), (proto::Outcome::Denied, vec!["MAT_NOT_CONFIRMED"]));
    marking.close().await;
}

/// Amount, attempts and the other rules hold for them as for everybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_07_limits_apply_all_the_same() {
    let (mut marking, device, key_id) = Marking::marked().await;
    let with = |id: &str, attempt, operation: proto::Operation, amount_minor| {
        let mut request = exception(id, HANDLESS_CARD);
        request.attempt = attempt;
        let transaction = request.transaction.as_mut().unwrap();
        (transaction.amount_minor, transaction.operation) = (amount_minor, operation.into());
        request
    };
    let withdrawal = proto::Operation::Withdrawal;
    let over = marking.request(with("T1", 1, withdrawal, 20_000_000_001)).await.unwrap();
    assert_eq!(over.outcome(), proto::Outcome::Denied);
    assert!(said(&over).1.contains(&"POL_AMOUNT"), "{:?}", said(&over));
    for attempt in 1..=4 {
        let asked = marking.request(with("T2", attempt, withdrawal, 100)).await.unwrap();
        let expected = if attempt <= 3 { proto::Outcome::StepUp } else { proto::Outcome::Denied };
        assert_eq!(asked.outcome(), expected, "{attempt}");
        assert_eq!(asked.attempts_left, 3_u32.saturating_sub(attempt));
    }
    // A large deposit needs the IIN of whoever pays in, marked or not.
    let deposit = proto::Operation::Deposit;
    let large = marking.request(with("T3", 1, deposit, LARGE)).await.unwrap();
    assert!(said(&large).1.contains(&"POL_IIN_NEEDED"), "{:?}", said(&large));
    // What they moved counts: two halves make a large deposit.
    let half = marking.request(with("T4", 1, deposit, LARGE - 1)).await.unwrap();
    assert_eq!(half.outcome(), proto::Outcome::StepUp);
    let pending = marking.pending().await.into_iter().last().unwrap();
    marking.bank.app.confirm(device.confirms(&key_id, &pending)).await.unwrap();
    let half = decided(marking.bank.waiting("T4", 5_000).await);
    assert_eq!(half.outcome(), proto::Outcome::Approved);
    let more = marking.request(with("T5", 1, deposit, 1)).await.unwrap();
    assert!(said(&more).1.contains(&"POL_IIN_NEEDED"), "{:?}", said(&more));
    // An approved transaction has no further attempt, on either path.
    let again = marking.request(with("T4", 2, deposit, LARGE - 1)).await.unwrap_err();
    assert_eq!(reason(&again), "REQ_STATE");
    marking.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_07_bad_input_is_refused_by_its_field_and_the_evidence_lies_sealed() {
    type Spoil = fn(&mut proto::RequestExceptionRequest);
    let (mut marking, ..) = Marking::marked().await;
    let before = marking.bank.ledger_size().await;
    let cases: [(&str, Spoil); 9] = [
        ("customer", |r| r.customer = None),
        ("customer.card_token", |r| *r = exception("T1", "")),
        ("transaction", |r| r.transaction = None),
        ("transaction.amount_minor", |r| r.transaction.as_mut().unwrap().amount_minor = 0),
        ("attempt", |r| r.attempt = 0),
        ("attempt", |r| r.attempt = 100),
        ("holder_verification", |r| r.holder_verification = 77),
        ("language", |r| r.language.clear()),
        ("bank.account_data_as_of", |r| {
            r.bank = Some(proto::BankFacts {
                account_data_as_of: Some("2999-01-01T00:00:00Z".into()),
                ..proto::BankFacts::default()
            });
        }),
    ];
    for (path, spoil) in cases {
        let mut request = exception("T1", HANDLESS_CARD);
        spoil(&mut request);
        let status = marking.request(request).await.unwrap_err();
        assert_eq!((reason(&status).as_str(), field(&status).as_str()), ("REQ_INVALID", path));
    }
    for evidence_ref in ["", "a\nb", &"x".repeat(257)] {
        let evidence_ref = evidence_ref.to_owned();
        let proposal = proto::ProposeUnableRequest {
            evidence_ref: evidence_ref.clone(),
            ..marking.proposal()
        };
        let approval = proto::ApproveUnableRequest { evidence_ref, ..marking.approval() };
        for status in [
            marking.bank.desk.propose_unable(proposal).await.unwrap_err(),
            marking.second.approve_unable(approval).await.unwrap_err(),
        ] {
            assert_eq!(field(&status), "evidence_ref");
        }
    }
    let nobody = proto::ProposeUnableRequest { customer_id: "00".repeat(16), ..marking.proposal() };
    let status = marking.bank.desk.propose_unable(nobody).await.unwrap_err();
    assert_eq!(reason(&status), "REQ_NOT_FOUND");
    assert_eq!(marking.bank.ledger_size().await, before);
    let waits = marking.bank.terminal.await_decision(awaiting("T1", 1, 0)).await.unwrap_err();
    assert_eq!(reason(&waits), "REQ_NOT_FOUND");

    for name in ["tulga.sqlite", "tulga.sqlite-wal"] {
        let bytes = fs::read(marking.bank.site.data().join(name)).unwrap();
        for needle in [EVIDENCE.to_owned(), hex(EVIDENCE.as_bytes())] {
            let holds = bytes.windows(needle.len()).any(|run| run == needle.as_bytes());
            assert!(!holds, "the evidence is in {name}");
        }
    }
    // Captured customers are served as ever.
    let captured = marking.bank.ask(&Ask { amount_minor: 1, ..Ask::new("T7") }).await;
    assert_eq!(captured.outcome(), proto::Outcome::Approved);
    marking.close().await;
}
