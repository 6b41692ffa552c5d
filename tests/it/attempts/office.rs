//! Locks through the API and at the command line.

use std::sync::Arc;

use tonic::Code;
use tulga::clock::Clock as _;
use tulga::domain::id::CustomerId;
use tulga::gateway::{HolderWish, biometric_lock_message};
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::BiometricLockCause as Cause;
use tulga::proto::customer_reference::Reference;
use tulga::proto::verification_service_client::VerificationServiceClient;

use crate::bank::{Bank, CARD, Device, unhex};
use crate::site::{begin, demo, field, reason, verify};

/// One failure delays, and two lock.
const TRIES: &str =
    "tries = { delay_after_failures = 2, lock_after_failures = 2, terminal_failures_max = 4 }";

async fn shown(bank: &mut Bank, id: &str, photograph: &str) -> proto::Decision {
    let opened = bank.terminal.begin_capture(begin(id, CARD)).await.unwrap().into_inner();
    let asked = verify(id, 1, &opened.challenge, demo(photograph));
    bank.terminal.verify(asked).await.unwrap().into_inner()
}

async fn causes(bank: &mut Bank) -> Vec<(Cause, String)> {
    let asked = proto::GetCustomerRequest { customer_id: bank.customer.clone() };
    let customer = bank.desk.get_customer(asked).await.unwrap().into_inner();
    let locks = customer.biometric_locks.into_iter();
    locks.map(|lock| (lock.cause(), lock.unlock_proposed_by)).collect()
}

async fn tulga(bank: &Bank, arguments: &[&str]) -> (Option<i32>, String) {
    let output = bank.site.tulga(arguments).await;
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_administrators_unlock_at_the_command_line() {
    let mut bank = Bank::open(TRIES).await;
    drop(bank.site.named(Role::Admin, "second").await);
    let customer = bank.customer.clone();
    let (code, said) = tulga(&bank, &["customer", "unlock", &customer]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("REQ_STATE"), "{said}");
    for id in ["T1", "T2"] {
        let denied = shown(&mut bank, id, "biden.jpg").await;
        assert_eq!(denied.outcome(), proto::Outcome::Denied);
    }
    assert_eq!(causes(&mut bank).await, [(Cause::Failures, String::new())]);
    let (code, said) = tulga(&bank, &["customer", "unlock", &customer]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("waits for another administrator until 20"), "{said}");
    assert_eq!(causes(&mut bank).await, [(Cause::Failures, "dev".into())]);
    let (code, said) = tulga(&bank, &["customer", "approve-unlock", &customer]).await;
    assert_eq!(code, Some(1), "the first person again: {said}");
    assert!(said.contains("REQ_STATE"), "{said}");
    let approve = ["customer", "approve-unlock", &customer, "--as", "second"];
    let (code, said) = tulga(&bank, &approve).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("is unlocked; the entry at index "), "{said}");
    assert_eq!(causes(&mut bank).await, []);
    // Enrolled just now, they are under the pack's cap of new customers.
    let right = shown(&mut bank, "T3", "obama2.jpg").await;
    assert_eq!(right.outcome(), proto::Outcome::ApprovedCapped, "{:?}", right.reasons);

    // Strangers fail until the machine must wait.
    for number in 0..2 {
        let card = format!("card-of-nobody-{number}");
        let opened = bank.terminal.begin_capture(begin(&card, &card)).await.unwrap().into_inner();
        let asked = verify(&card, 1, &opened.challenge, demo("biden.jpg"));
        bank.terminal.verify(asked).await.unwrap();
    }
    let refused = bank.terminal.begin_capture(begin("T4", CARD)).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "LIM_TERMINAL")
    );
    let mut other = VerificationServiceClient::new(bank.site.terminal("ATM-2").await);
    other.begin_capture(begin("T4", CARD)).await.unwrap();
    drop(other);
    bank.audited().await;
    bank.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_locks_through_the_back_end() {
    type Spoil = fn(&mut proto::SetBiometricLockRequest);
    let mut bank = Bank::open("").await;
    let device = Device::ed25519(7);
    let customer = bank.customer.clone();
    let key_id = bank.bind(&device, &customer).await;
    let id = CustomerId::try_from(unhex(&customer).as_slice()).unwrap();
    let clock = Arc::clone(&bank.clock);
    let request = |locked: bool, ahead_ms: i64| {
        let asked_at = clock.now().plus_millis(ahead_ms).rfc3339();
        let wish = HolderWish { locked, asked_at: asked_at.clone() };
        proto::SetBiometricLockRequest {
            customer: Some(proto::CustomerReference {
                reference: Some(Reference::CardToken(CARD.into())),
            }),
            locked,
            asked_at,
            key_id: key_id.clone(),
            signature: device.sign(&biometric_lock_message(&id, &wish)),
        }
    };
    let cases: [(&str, Spoil); 6] = [
        ("customer", |r| r.customer = None),
        ("asked_at", |r| r.asked_at.clear()),
        ("asked_at", |r| r.asked_at = "soon".into()),
        ("key_id", |r| r.key_id.clear()),
        ("signature", |r| r.signature.clear()),
        ("signature", |r| r.locked = false),
    ];
    for (path, spoil) in cases {
        let mut spoiled = request(true, 0);
        spoil(&mut spoiled);
        let status = bank.app.set_biometric_lock(spoiled).await.unwrap_err();
        assert_eq!((reason(&status).as_str(), field(&status).as_str()), ("REQ_INVALID", path));
    }
    assert_eq!(causes(&mut bank).await, []);
    let set = bank.app.set_biometric_lock(request(true, 0)).await.unwrap().into_inner();
    let body = crate::site::payload(&set.receipt_jws);
    assert_eq!(
        (&body["act"], &body["actor"]["role"]),
        (&"biometric_lock_set".into(), &"app-backend".into())
    );
    assert!(body["details"].as_str().unwrap().starts_with("sha-256:"));
    assert_eq!(causes(&mut bank).await, [(Cause::Holder, String::new())]);
    let denied = shown(&mut bank, "T1", "obama2.jpg").await;
    assert_eq!(denied.outcome(), proto::Outcome::Denied);
    assert_eq!(denied.reasons[0].code, "MAT_NOT_CONFIRMED");
    bank.app.set_biometric_lock(request(false, 1_000)).await.unwrap();
    let right = shown(&mut bank, "T2", "obama2.jpg").await;
    assert_eq!(right.outcome(), proto::Outcome::ApprovedCapped, "{:?}", right.reasons);
    bank.close().await;
}

/// A customer is asked to confirm, and the holder's lock comes first: the capture that was compared before
/// approves nothing any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_set_while_a_confirmation_waits_stops_the_final_decision() {
    let mut bank = Bank::open("accept_back_end_word = true").await;
    bank.stepped_up("T1").await;
    let [pending] = bank.pending().await.try_into().unwrap();
    let reference = Some(Reference::CardToken(CARD.into()));
    let lock = proto::SetBiometricLockRequest {
        customer: Some(proto::CustomerReference { reference }),
        locked: true,
        asked_at: bank.clock.now().rfc3339(),
        ..proto::SetBiometricLockRequest::default()
    };
    bank.app.set_biometric_lock(lock).await.unwrap();
    let confirm = proto::ConfirmRequest {
        confirmation_id: pending.confirmation_id,
        ..proto::ConfirmRequest::default()
    };
    bank.app.confirm(confirm).await.unwrap();
    let last = crate::bank::decided(bank.waiting("T1", 5_000).await);
    assert_eq!(last.outcome(), proto::Outcome::Denied);
    assert!(last.reasons.iter().any(|reason| reason.code == "MAT_NOT_CONFIRMED"));
    bank.close().await;
}
