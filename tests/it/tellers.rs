//! KZ-07 at a desk: two tellers agree for a person who is unable to give a biometric and has no application.

use tonic::Status;
use tonic::transport::Channel;
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::audit_service_client::AuditServiceClient;
use tulga::proto::customer_reference::Reference;
use tulga::proto::list_exceptions_request::Of;
use tulga::proto::teller_service_client::TellerServiceClient;

use crate::bank::{Ask, Bank, CARD, IIN, LARGE, PAYEE, awaiting, body, decided, named, said};
use crate::exception::{HANDLESS_CARD, HANDLESS_IIN, Marking, deposit, exception};
use crate::site::{field, reason};

const EVIDENCE: &str = "identity-card-canary-88";

type Teller = TellerServiceClient<Channel>;

/// Two people of the bank at a desk: `dev`, and `second` whom [`Marking`] enrolled.
struct Tellers {
    one: Teller,
    two: Teller,
}

impl Tellers {
    async fn at(bank: &Bank) -> Self {
        Self {
            one: TellerServiceClient::new(bank.site.staff(Role::Enroller).await),
            two: TellerServiceClient::new(bank.site.named(Role::Admin, "teller-two").await),
        }
    }

    async fn agree(&mut self, id: &str) -> proto::ApproveExceptionResponse {
        self.one.propose_exception(proposal(id)).await.unwrap();
        self.two.approve_exception(approval(id)).await.unwrap().into_inner()
    }

    /// What waits at the terminal; each one's confirmation.
    async fn waiting(&mut self) -> Vec<String> {
        let waiting = listed(&mut self.one, Of::TerminalId("ATM-1".into())).await;
        waiting.into_iter().map(|one| one.transaction.unwrap().confirmation_id).collect()
    }
}

async fn listed(teller: &mut Teller, of: Of) -> Vec<proto::WaitingException> {
    let request = proto::ListExceptionsRequest { of: Some(of) };
    teller.list_exceptions(request).await.unwrap().into_inner().exceptions
}

fn of_card(card: &str) -> Of {
    let reference = Some(Reference::CardToken(card.into()));
    Of::Customer(proto::CustomerReference { reference })
}

fn proposal(id: &str) -> proto::ProposeExceptionRequest {
    proto::ProposeExceptionRequest { confirmation_id: id.into(), evidence_ref: EVIDENCE.into() }
}

fn approval(id: &str) -> proto::ApproveExceptionRequest {
    proto::ApproveExceptionRequest { confirmation_id: id.into(), evidence_ref: EVIDENCE.into() }
}

fn refused(status: &Status) -> (String, String) {
    (reason(status), field(status))
}

fn is(reason: &str, field: &str) -> (String, String) {
    (reason.into(), field.into())
}

/// A large deposit of the marked person, named by their IIN.
fn large(id: &str, attempt: u32) -> proto::RequestExceptionRequest {
    let mut request = deposit(id, HANDLESS_CARD);
    let reference = Some(Reference::Iin(HANDLESS_IIN.into()));
    request.customer = Some(proto::CustomerReference { reference });
    request.attempt = attempt;
    request.transaction.as_mut().unwrap().amount_minor = LARGE;
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_07_two_tellers_agree_and_the_receipt_says_so() {
    let mut marking = Marking::without_app("").await;
    let mut tellers = Tellers::at(&marking.bank).await;
    let first = marking.request(exception("T1", HANDLESS_CARD)).await.unwrap();
    assert_eq!(first.outcome(), proto::Outcome::StepUp);
    let [waits] = listed(&mut tellers.one, of_card(HANDLESS_CARD)).await.try_into().unwrap();
    let shown = waits.transaction.clone().unwrap();
    assert_eq!((shown.amount_minor, shown.terminal_id.as_str()), (5_000_000, "ATM-1"));
    assert_eq!(
        (&shown.customer_id, shown.position.as_ref()),
        (&marking.customer, first.position.as_ref())
    );
    assert!(waits.first.is_none());
    let id = shown.confirmation_id.as_str();
    assert_eq!(tellers.waiting().await, [id]);
    for of in [Of::TerminalId("ATM-2".into()), of_card(CARD), of_card("card-of-nobody")] {
        assert!(listed(&mut tellers.one, of).await.is_empty());
    }

    let proposed = tellers.one.propose_exception(proposal(id)).await.unwrap().into_inner();
    let [waits] = listed(&mut tellers.two, of_card(HANDLESS_CARD)).await.try_into().unwrap();
    assert_eq!(waits.first.unwrap().name, "dev");
    assert_eq!(marking.bank.waiting("T1", 0).await.state(), proto::AwaitState::Waiting);
    let approved = tellers.two.approve_exception(approval(id)).await.unwrap().into_inner();
    assert!(tellers.waiting().await.is_empty());
    let last = decided(marking.bank.waiting("T1", 5_000).await);
    assert_eq!(said(&last), (proto::Outcome::ApprovedCapped, vec!["LIM_DAILY_CAP"]));
    let receipt = body(&last);
    assert_eq!((&receipt["kind"], &receipt["refers"]), (&"exception".into(), &named(&first)));
    assert_eq!(receipt["confirmation"]["by"], "two_tellers");
    let agreed_at = approved.position.as_ref().unwrap().index;
    assert_eq!(receipt["confirmation"]["ref"]["index"], agreed_at);

    // Whoever repeats finds the decision, and changes nothing.
    for status in [
        tellers.two.approve_exception(approval(id)).await.unwrap_err(),
        tellers.one.approve_exception(approval(id)).await.unwrap_err(),
    ] {
        assert_eq!(reason(&status), "REQ_STATE");
    }
    let again = tellers.one.propose_exception(proposal(id)).await.unwrap_err();
    assert_eq!(reason(&again), "REQ_STATE");
    assert_eq!(decided(marking.bank.waiting("T1", 0).await), last);
    assert_eq!(marking.request(exception("T1", HANDLESS_CARD)).await.unwrap(), first);

    assert!(marking.bank.audited().await > 0);
    let first_at = proposed.position.unwrap().index;
    in_the_ledger(&marking.bank, &approved, first_at, last.position.unwrap().index).await;
    drop(tellers);
    marking.close().await;
}

/// Both words are entries about one transaction, and auditors find both from the decision.
async fn in_the_ledger(
    bank: &Bank,
    approved: &proto::ApproveExceptionResponse,
    first_at: u64,
    decided_at: u64,
) {
    let mut auditor = AuditServiceClient::new(bank.site.staff(Role::Auditor).await);
    let selector = Some(proto::get_receipt_request::Selector::Index(first_at));
    let asked = proto::GetReceiptRequest { selector, ..proto::GetReceiptRequest::default() };
    let proposed = auditor.get_receipt(asked).await.unwrap().into_inner().receipt_jws;
    let as_decision = |receipt_jws| body(&proto::Decision { receipt_jws, ..Default::default() });
    let (proposed, approved) = (as_decision(proposed), as_decision(approved.receipt_jws.clone()));
    assert_eq!(
        (&proposed["act"], &approved["act"]),
        (&"exception_proposed".into(), &"exception_approved".into())
    );
    assert_eq!(
        (&proposed["actor"]["name"], &approved["actor"]["name"]),
        (&"dev".into(), &"teller-two".into())
    );
    assert!(proposed["details"].as_str().unwrap().starts_with("sha-256:"));
    assert_eq!(proposed["details"], approved["details"]);
    assert_eq!(proposed["subject"], approved["subject"]);
    let asked = proto::GetAuditRecordRequest {
        index: decided_at,
        ..proto::GetAuditRecordRequest::default()
    };
    let record = auditor.get_audit_record(asked).await.unwrap().into_inner().record;
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["facts"]["confirmation"], "two_tellers");
    assert_eq!(record["confirmation"]["answer"], "two_tellers");
    assert_eq!(record["confirmation"]["first"]["name"], "dev");
    assert_eq!(record["confirmation"]["first"]["index"], first_at);
    for name in ["tulga.sqlite", "tulga.sqlite-wal"] {
        let bytes = std::fs::read(bank.site.data().join(name)).unwrap();
        let holds = bytes.windows(EVIDENCE.len()).any(|run| run == EVIDENCE.as_bytes());
        assert!(!holds, "the evidence is in {name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_07_one_teller_alone_or_the_same_person_twice_agrees_to_nothing() {
    let mut marking = Marking::without_app("").await;
    let mut tellers = Tellers::at(&marking.bank).await;
    marking.request(exception("T1", HANDLESS_CARD)).await.unwrap();
    let [id] = tellers.waiting().await.try_into().unwrap();
    let early = tellers.two.approve_exception(approval(&id)).await.unwrap_err();
    assert_eq!(refused(&early), is("REQ_STATE", ""));
    tellers.one.propose_exception(proposal(&id)).await.unwrap();
    let before = marking.bank.ledger_size().await;
    // Whoever proposed; somebody of the same name with another key; somebody who saw other evidence.
    let mut namesake = TellerServiceClient::new(marking.bank.site.staff(Role::Admin).await);
    for status in [
        tellers.one.approve_exception(approval(&id)).await.unwrap_err(),
        namesake.approve_exception(approval(&id)).await.unwrap_err(),
    ] {
        assert_eq!(refused(&status), is("REQ_STATE", ""));
    }
    let elsewhere =
        proto::ApproveExceptionRequest { evidence_ref: "another".into(), ..approval(&id) };
    let status = tellers.two.approve_exception(elsewhere).await.unwrap_err();
    assert_eq!(refused(&status), is("REQ_INVALID", "evidence_ref"));
    for role in [Role::AppBackend, Role::Host, Role::Auditor] {
        let mut other = TellerServiceClient::new(marking.bank.site.staff(role).await);
        let of = proto::ListExceptionsRequest { of: Some(of_card(HANDLESS_CARD)) };
        for status in [
            other.list_exceptions(of).await.unwrap_err(),
            other.propose_exception(proposal(&id)).await.unwrap_err(),
            other.approve_exception(approval(&id)).await.unwrap_err(),
        ] {
            assert_eq!(reason(&status), "ROLE_NOT_ALLOWED", "{role:?}");
        }
    }
    let mut terminal = TellerServiceClient::new(marking.bank.site.terminal("ATM-2").await);
    let status = terminal.approve_exception(approval(&id)).await.unwrap_err();
    assert_eq!(reason(&status), "ROLE_NOT_ALLOWED");
    drop((namesake, terminal));
    assert_eq!(marking.bank.ledger_size().await, before + 1, "ATM-2 was registered, and no more");
    assert_eq!(marking.bank.waiting("T1", 0).await.state(), proto::AwaitState::Waiting);

    // A later word replaces the first, and whoever gave it is the one who may not approve.
    tellers.two.propose_exception(proposal(&id)).await.unwrap();
    let own = tellers.two.approve_exception(approval(&id)).await.unwrap_err();
    assert_eq!(refused(&own), is("REQ_STATE", ""));
    tellers.one.approve_exception(approval(&id)).await.unwrap();
    assert!(
        decided(marking.bank.waiting("T1", 5_000).await).outcome()
            == proto::Outcome::ApprovedCapped
    );
    drop(tellers);
    marking.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_07_what_a_teller_sends_is_refused_by_its_field() {
    let marking = Marking::without_app("").await;
    let mut tellers = Tellers::at(&marking.bank).await;
    let nobody = "00".repeat(16);
    for (confirmation_id, evidence_ref, expected) in [
        ("", EVIDENCE, is("REQ_INVALID", "confirmation_id")),
        ("X", EVIDENCE, is("REQ_INVALID", "confirmation_id")),
        (nobody.as_str(), "", is("REQ_INVALID", "evidence_ref")),
        (nobody.as_str(), "a\nb", is("REQ_INVALID", "evidence_ref")),
        (nobody.as_str(), &"x".repeat(257), is("REQ_INVALID", "evidence_ref")),
        (nobody.as_str(), EVIDENCE, is("REQ_NOT_FOUND", "")),
    ] {
        let (confirmation_id, evidence_ref) = (confirmation_id.to_owned(), evidence_ref.to_owned());
        let propose = proto::ProposeExceptionRequest {
            confirmation_id: confirmation_id.clone(),
            evidence_ref: evidence_ref.clone(),
        };
        let approve = proto::ApproveExceptionRequest { confirmation_id, evidence_ref };
        for status in [
            tellers.one.propose_exception(propose).await.unwrap_err(),
            tellers.two.approve_exception(approve).await.unwrap_err(),
        ] {
            assert_eq!(refused(&status), expected);
        }
    }
    for (of, path) in [
        (None, "of"),
        (Some(Of::TerminalId("A T M".into())), "terminal_id"),
        (Some(of_card("")), "customer.card_token"),
    ] {
        let request = proto::ListExceptionsRequest { of };
        let status = tellers.one.list_exceptions(request).await.unwrap_err();
        assert_eq!(refused(&status), is("REQ_INVALID", path));
    }
    drop(tellers);
    marking.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_07_two_tellers_who_come_too_late_agree_to_nothing() {
    let mut marking = Marking::without_app("exception_ttl_s = 300").await;
    let mut tellers = Tellers::at(&marking.bank).await;
    for id in ["T1", "T2", "T3"] {
        marking.request(deposit(id, HANDLESS_CARD)).await.unwrap();
    }
    let [one, two, three] = tellers.waiting().await.try_into().unwrap();
    tellers.one.propose_exception(proposal(&one)).await.unwrap();
    // Longer than a customer has in the application, and not for ever.
    marking.bank.clock.advance_millis(299_000);
    tellers.agree(&two).await;
    tellers.agree(&three).await;
    marking.bank.clock.advance_millis(2_000);
    for status in [
        tellers.two.approve_exception(approval(&one)).await.unwrap_err(),
        tellers.two.propose_exception(proposal(&one)).await.map(drop).unwrap_err(),
    ] {
        assert_eq!(reason(&status), "REQ_STATE");
    }
    assert!(tellers.waiting().await.is_empty());
    let late = decided(marking.bank.waiting("T1", 0).await);
    assert_eq!(said(&late), (proto::Outcome::Denied, vec!["POL_CONFIRMATION_EXPIRED"]));
    assert!(body(&late)["confirmation"].is_null());
    // Nor may the terminal come later than the agreement counts.
    marking.bank.clock.advance_millis(290_000);
    let in_time = decided(marking.bank.waiting("T3", 0).await);
    assert_eq!(said(&in_time), (proto::Outcome::Approved, vec![]));
    marking.bank.clock.advance_millis(9_000);
    let late = decided(marking.bank.waiting("T2", 0).await);
    assert_eq!(said(&late), (proto::Outcome::Denied, vec!["POL_CONFIRMATION_EXPIRED"]));
    drop(tellers);
    marking.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_07_tellers_answer_for_nobody_who_can_be_captured() {
    let mut marking = Marking::without_app("").await;
    let mut tellers = Tellers::at(&marking.bank).await;
    marking.bank.stepped_up("T1").await;
    assert!(tellers.waiting().await.is_empty());
    let [pending] = marking.bank.pending().await.try_into().unwrap();
    let id = &pending.confirmation_id;
    let status = tellers.one.propose_exception(proposal(id)).await.unwrap_err();
    assert_eq!(refused(&status), is("REQ_STATE", ""));
    let status = tellers.two.approve_exception(approval(id)).await.unwrap_err();
    assert_eq!(refused(&status), is("REQ_STATE", ""));

    // Somebody who has captures is marked; what tellers agreed to has no part in a capture's decision.
    let customer_id = marking.bank.customer.clone();
    let mark = proto::ProposeUnableRequest {
        customer_id: customer_id.clone(),
        evidence_ref: "archive/9".into(),
    };
    marking.bank.desk.propose_unable(mark).await.unwrap();
    let mark = proto::ApproveUnableRequest { customer_id, evidence_ref: "archive/9".into() };
    marking.second.approve_unable(mark).await.unwrap();
    // The mark does not open the capture's confirmation to tellers either.
    let status = tellers.one.propose_exception(proposal(id)).await.unwrap_err();
    assert_eq!(refused(&status), is("REQ_STATE", ""));
    assert!(tellers.waiting().await.is_empty());
    let mut asked = large("T2", 1);
    let reference = Some(Reference::Iin(IIN.into()));
    asked.customer = Some(proto::CustomerReference { reference });
    asked.transaction.as_mut().unwrap().counterparty = Some(PAYEE.into());
    let first = marking.request(asked.clone()).await.unwrap();
    assert_eq!(first.outcome(), proto::Outcome::StepUp);
    let [id] = tellers.waiting().await.try_into().unwrap();
    tellers.agree(&id).await;
    let captured = marking.bank.ask(&Ask { attempt: 2, ..Ask::new("T2") }).await;
    assert_eq!(captured.outcome(), proto::Outcome::StepUp);
    assert!(body(&captured)["confirmation"].is_null() && body(&captured)["refers"].is_null());
    // In another attempt at the desk it would count.
    asked.attempt = 3;
    let at_desk = marking.request(asked).await.unwrap();
    assert_eq!(body(&at_desk)["confirmation"]["by"], "two_tellers");
    drop(tellers);
    marking.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_07_whoever_loses_the_mark_while_tellers_look_is_not_approved() {
    let mut marking = Marking::without_app("").await;
    let mut tellers = Tellers::at(&marking.bank).await;
    for id in ["T1", "T2"] {
        marking.request(deposit(id, HANDLESS_CARD)).await.unwrap();
    }
    let [one, two] = tellers.waiting().await.try_into().unwrap();
    tellers.agree(&one).await;
    tellers.one.propose_exception(proposal(&two)).await.unwrap();
    let clear = proto::ClearUnableRequest { customer_id: marking.customer.clone() };
    marking.second.clear_unable(clear).await.unwrap();
    let status = tellers.two.approve_exception(approval(&two)).await.unwrap_err();
    assert_eq!(refused(&status), is("REQ_STATE", ""));
    let status = tellers.two.propose_exception(proposal(&two)).await.unwrap_err();
    assert_eq!(refused(&status), is("REQ_STATE", ""));
    let last = decided(marking.bank.waiting("T1", 5_000).await);
    assert_eq!(said(&last), (proto::Outcome::Denied, vec!["MAT_NOT_CONFIRMED"]));
    drop(tellers);
    marking.close().await;
}

/// The law wants the app above the threshold: the end is a clear no, and the app is still open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_01_the_word_of_two_tellers_is_not_the_apps() {
    let (mut marking, device, key_id) = Marking::marked_by("").await;
    let mut tellers = Tellers::at(&marking.bank).await;
    assert_eq!(marking.request(large("T1", 1)).await.unwrap().outcome(), proto::Outcome::StepUp);
    let [id] = tellers.waiting().await.try_into().unwrap();
    tellers.agree(&id).await;
    let last = decided(marking.bank.waiting("T1", 5_000).await);
    assert_eq!(said(&last), (proto::Outcome::Denied, vec!["POL_APP_NEEDED"]));
    assert_eq!(body(&last)["confirmation"]["by"], "two_tellers");
    assert_eq!(decided(marking.bank.waiting("T1", 0).await), last);
    assert!(tellers.waiting().await.is_empty());

    assert_eq!(marking.request(large("T1", 2)).await.unwrap().outcome(), proto::Outcome::StepUp);
    let [pending] = marking.pending().await.try_into().unwrap();
    marking.bank.app.confirm(device.confirms(&key_id, &pending)).await.unwrap();
    let waited = marking.bank.terminal.await_decision(awaiting("T1", 2, 5_000)).await.unwrap();
    let approved = decided(waited.into_inner());
    assert_eq!(said(&approved), (proto::Outcome::Approved, vec![]));
    assert_eq!(body(&approved)["confirmation"]["by"], "customer_key");
    drop(tellers);
    marking.close().await;
}

/// An agreement that is not the one which the rules want leaves nobody waiting for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_07_after_the_back_ends_word_another_attempt_asks_for_the_customers_own() {
    let (mut marking, device, key_id) = Marking::marked_by("accept_back_end_word = true").await;
    let word = |pending: proto::PendingConfirmation| proto::ConfirmRequest {
        confirmation_id: pending.confirmation_id,
        ..Default::default()
    };
    let attempt = |id: &str, attempt| proto::RequestExceptionRequest {
        attempt,
        ..deposit(id, HANDLESS_CARD)
    };
    // The terminal waits: a clear no.
    marking.request(attempt("T1", 1)).await.unwrap();
    let [pending] = marking.pending().await.try_into().unwrap();
    marking.bank.app.confirm(word(pending)).await.unwrap();
    let last = decided(marking.bank.waiting("T1", 5_000).await);
    assert_eq!(said(&last), (proto::Outcome::Denied, vec!["POL_APP_NEEDED"]));

    // The terminal asks again instead: the customer is asked for their own word.
    let first = marking.request(attempt("T2", 1)).await.unwrap();
    let [pending] = marking.pending().await.try_into().unwrap();
    marking.bank.app.confirm(word(pending)).await.unwrap();
    let again = marking.request(attempt("T2", 2)).await.unwrap();
    assert_eq!(again.outcome(), proto::Outcome::StepUp);
    assert_eq!(body(&again)["refers"], named(&first));
    // Whoever still waits for the first attempt is told of the second.
    assert_eq!(decided(marking.bank.waiting("T2", 0).await), again);
    let [pending] = marking.pending().await.try_into().unwrap();
    assert_eq!(pending.position, again.position);
    marking.bank.app.confirm(device.confirms(&key_id, &pending)).await.unwrap();
    let waited = marking.bank.terminal.await_decision(awaiting("T2", 2, 5_000)).await.unwrap();
    let approved = decided(waited.into_inner());
    assert_eq!(said(&approved), (proto::Outcome::Approved, vec![]));
    assert_eq!(body(&approved)["refers"], named(&again));
    assert_eq!(decided(marking.bank.waiting("T2", 0).await), approved);
    marking.close().await;
}
