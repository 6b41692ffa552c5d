//! Both sides known: somebody whom the bank does not know pays in to a customer's account.

use tulga::pki::Role;
use tulga::proto;
use tulga::proto::Outcome::{Approved, Denied, Held, StepUp};
use tulga::proto::customer_reference::Reference;
use tulga::proto::enrollment_service_client::EnrollmentServiceClient;
use tulga::receipt::{self, Content};

use crate::rules::{Ask, Bank, bind, said, unsigned};
use crate::site::{begin, consent, field, reason};

const STRANGER: &str = "000000300029";
const ACCOUNT: &str = "owner-account";

fn deposit(iin: &str, face: &'static str) -> Ask {
    Ask {
        account: ACCOUNT.into(),
        reference: Reference::Iin(iin.into()),
        face,
        consent: Some(consent()),
        ..Ask::new(proto::Operation::DepositThirdParty, 1_000_000, "KZT")
    }
}

/// What the receipt says of the guest, and of whom it is.
fn guest_of(decision: &proto::Decision) -> (Option<String>, String) {
    let jws = std::str::from_utf8(&decision.receipt_jws).unwrap();
    let receipt = receipt::parse(jws).unwrap();
    let Content::Verification(content) = &receipt.unverified_body().content else { panic!() };
    (content.guest.clone(), content.subject.clone().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_03_a_guest_is_enrolled_for_one_deposit_and_known_at_the_next() {
    let mut bank = Bank::by("kz-2026").await;
    // Without consent nobody is enrolled, and to an unknown account nobody pays.
    let without = Ask { consent: None, ..deposit(STRANGER, "biden.jpg") };
    bank.expect(without, "T1", Denied, &["MAT_NOT_CONFIRMED"]).await;
    bank.expect(deposit(STRANGER, "biden.jpg"), "T2", Denied, &["POL_NOT_PERMITTED"]).await;
    assert_eq!(guests(&bank).await, 0, "who was refused left nothing");
    bind(&bank, proto::TokenKind::Account, ACCOUNT).await;

    let first = bank.decide(deposit(STRANGER, "biden.jpg"), "T3").await;
    assert_eq!(said(&first), (Approved, vec![]));
    let (word, subject) = guest_of(&first);
    assert_eq!(word.as_deref(), Some("enrolled"));
    let again = bank.decide(deposit(STRANGER, "biden.jpg"), "T4").await;
    assert_eq!(guest_of(&again), (Some("known".into()), subject.clone()));
    // Another face under the same number is another guest, and does not keep the first one out.
    let other = bank.decide(deposit(STRANGER, "obama2.jpg"), "T5").await;
    assert_eq!(guest_of(&other).0.as_deref(), Some("enrolled"));
    assert_ne!(guest_of(&other).1, subject);
    let again = bank.decide(deposit(STRANGER, "biden.jpg"), "T6").await;
    assert_eq!(guest_of(&again), (Some("known".into()), subject));
    assert_eq!(guests(&bank).await, 2);

    // The threshold of KZ-01 holds over all deposits under the number, whatever the face.
    let large = Ask { amount_minor: 46_000_001, ..deposit(STRANGER, "biden.jpg") };
    bank.expect(large, "T7", StepUp, &["POL_STEP_UP"]).await;
    let at = Ask { amount_minor: 46_000_000, ..deposit(STRANGER, "biden.jpg") };
    bank.expect(at, "T8", Approved, &[]).await;
    a_guest_is_nothing_else(&mut bank).await;
    bank.finish().await;
}

/// A guest is not activated, has no tokens, and does not stand in the way of the number's owner.
async fn a_guest_is_nothing_else(bank: &mut Bank) {
    let withdraw = Ask {
        reference: Reference::Iin(STRANGER.into()),
        face: "biden.jpg",
        ..Ask::new(proto::Operation::Withdrawal, 1_000, "KZT")
    };
    bank.expect(withdraw, "W1", Denied, &["MAT_NOT_CONFIRMED"]).await;
    let mut desk = EnrollmentServiceClient::new(bank.site.staff(Role::Admin).await);
    let listed = desk.list_customers(proto::ListCustomersRequest::default()).await.unwrap();
    let listed = listed.into_inner().customers;
    let guest = listed.iter().find(|one| one.status() == proto::CustomerStatus::Guest).unwrap();
    let customer_id = guest.customer_id.clone();
    let activate = proto::ActivateRequest { customer_id: customer_id.clone() };
    let status = desk.activate(activate).await.unwrap_err();
    assert_eq!(reason(&status), "REQ_STATE");
    let bind = proto::BindTokenRequest {
        customer_id: customer_id.clone(),
        kind: proto::TokenKind::Card.into(),
        token: "card-of-a-guest".into(),
        expires_at: None,
    };
    assert_eq!(reason(&desk.bind_token(bind).await.unwrap_err()), "REQ_STATE");
    let suspend = proto::SuspendRequest { customer_id: customer_id.clone() };
    assert_eq!(reason(&desk.suspend(suspend).await.unwrap_err()), "REQ_STATE");
    // The owner of the number enrols, and no duplicate is suspected.
    bank.site.enroll(STRANGER, "card-token-9", &["biden.jpg"]).await;
    let owner = bank.decide(deposit(STRANGER, "biden.jpg"), "T9").await;
    assert_eq!((said(&owner).0, guest_of(&owner).0), (Approved, None));
    desk.erase(proto::EraseRequest { customer_id }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_enrols_so_many_guests_in_a_day_and_many_people_on_one_account_are_held() {
    let pack = unsigned("kz-2026");
    let mut bank = Bank::with_config(pack.path(), 1, "[guests]\nper_terminal_per_day = 4\n").await;
    bind(&bank, proto::TokenKind::Account, ACCOUNT).await;
    let numbers = ["000000300029", "000000300030", "000000300042", "000000300054"];
    for (number, iin) in numbers.into_iter().enumerate() {
        let id = format!("T{number}");
        bank.expect(deposit(iin, "biden.jpg"), &id, Approved, &[]).await;
    }
    // A fifth at this terminal is none, and elsewhere is one.
    let fifth = || deposit("000000300066", "biden.jpg");
    bank.expect(fifth(), "T5", Denied, &["MAT_NOT_CONFIRMED"]).await;
    let elsewhere = fifth().decided(&mut bank.others[0], "T6").await;
    assert_eq!(said(&elsewhere), (Approved, vec![]));
    // For a sixth person there are five others on the account.
    let sixth = deposit("000000300078", "biden.jpg").decided(&mut bank.others[0], "T7").await;
    assert_eq!(said(&sixth), (Held, vec!["POL_HELD"]));
    // Who was there before is still known, and has four others beside them.
    let known = bank.decide(deposit(numbers[0], "biden.jpg"), "T8").await;
    assert_eq!((said(&known).0, guest_of(&known).0.as_deref()), (Approved, Some("known")));
    bank.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consent_of_a_guest_where_there_can_be_none_is_refused() {
    let mut bank = Bank::by("kz-2026").await;
    let of_iin =
        || Some(proto::CustomerReference { reference: Some(Reference::Iin(STRANGER.into())) });
    for (path, operation, customer, consent) in [
        ("consent", proto::Operation::Deposit, of_iin(), consent()),
        ("consent", proto::Operation::DepositThirdParty, begin("T1", "card").customer, consent()),
        (
            "consent.term",
            proto::Operation::DepositThirdParty,
            of_iin(),
            proto::Consent { term: None, ..consent() },
        ),
        (
            "consent.operator",
            proto::Operation::DepositThirdParty,
            of_iin(),
            proto::Consent { operator: String::new(), ..consent() },
        ),
    ] {
        let mut request = begin("T1", "card");
        request.customer = customer;
        request.transaction.as_mut().unwrap().operation = operation.into();
        request.consent = Some(consent);
        let status = bank.terminal.begin_capture(request).await.unwrap_err();
        assert_eq!((reason(&status).as_str(), field(&status).as_str()), ("REQ_INVALID", path));
    }
    bank.finish().await;
}

async fn guests(bank: &Bank) -> usize {
    let mut desk = EnrollmentServiceClient::new(bank.site.staff(Role::Admin).await);
    let listed = desk.list_customers(proto::ListCustomersRequest::default()).await.unwrap();
    let listed = listed.into_inner().customers;
    listed.iter().filter(|one| one.status() == proto::CustomerStatus::Guest).count()
}
