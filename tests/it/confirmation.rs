//! Step-up through the API: a customer agrees in the bank's application, refuses, or never answers.

use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING};
use tulga::domain::id::ConfirmationId;
use tulga::gateway::{Shown, confirmation_message};
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::customer_reference::Reference;
use tulga::proto::enrollment_service_client::EnrollmentServiceClient;
use tulga::proto::receipt_service_client::ReceiptServiceClient;
use tulga::proto::terminal_service_client::TerminalServiceClient;
use tulga::proto::verification_service_client::VerificationServiceClient;

use crate::bank::{
    Ask, Bank, Device, LARGE, PAYEE, PLACE, awaiting, body, decided, hex, named, said,
};
use crate::site::{field, reason};

const OTHER_IIN: &str = "000000300029";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_01_a_large_deposit_is_approved_after_the_customers_key_has_signed_it() {
    let mut bank = Bank::open("").await;
    let device = Device::ed25519(7);
    let customer = bank.customer.clone();
    let key_id = bank.bind(&device, &customer).await;
    // At the threshold nothing is asked for, and nothing waits.
    let at = bank.ask(&Ask { amount_minor: 1, ..Ask::new("T0") }).await;
    assert_eq!(said(&at), (proto::Outcome::Approved, vec![]));
    let first = bank.stepped_up("T1").await;
    let waiting = bank.waiting("T1", 0).await;
    assert_eq!(waiting.state(), proto::AwaitState::Waiting);
    assert!(waiting.decision.is_none());
    let [pending] = bank.pending().await.try_into().unwrap();
    assert_eq!(pending.operation(), proto::Operation::Deposit);
    assert_eq!((pending.amount_minor, pending.currency.as_str()), (LARGE, "KZT"));
    assert_eq!((pending.payee.as_str(), pending.place.as_str()), (PAYEE, PLACE));
    assert_eq!(pending.terminal_id, "ATM-1");
    assert_eq!(pending.customer_id, customer);
    assert!(pending.displayed_at.ends_with("+05:00"), "{}", pending.displayed_at);
    assert_eq!(pending.position, first.position);

    refused_answers(&mut bank, &device, &key_id, &pending).await;
    let right = device.confirms(&key_id, &pending);
    let confirmed = bank.app.confirm(right.clone()).await.unwrap().into_inner();
    let again = bank.app.confirm(right).await.unwrap_err();
    assert_eq!(reason(&again), "REQ_STATE");
    assert!(bank.pending().await.is_empty());

    // Asked for twice at one moment, and once more: one decision, the same bytes.
    let mut other = bank.terminal.clone();
    let (one, two) =
        tokio::join!(other.await_decision(awaiting("T1", 1, 5_000)), bank.waiting("T1", 5_000));
    let last = decided(one.unwrap().into_inner());
    assert_eq!(last, decided(two));
    assert_eq!(last, decided(bank.waiting("T1", 0).await));
    assert_eq!(said(&last), (proto::Outcome::Approved, vec![]));
    assert_ne!(last.receipt_jws, first.receipt_jws);
    let receipt = body(&last);
    assert_eq!(receipt["refers"], named(&first));
    assert_eq!(receipt["confirmation"]["by"], "customer_key");
    let entry = &receipt["confirmation"]["ref"];
    assert_eq!(entry["index"], confirmed.position.unwrap().index);
    assert!(body(&first)["refers"].is_null() && body(&first)["confirmation"].is_null());

    counts_like_any_approval(&mut bank, &first, &last).await;
    assert!(bank.audited().await > 0);
    bank.close().await;
}

/// Whatever does not fit is refused, and confirms nothing.
async fn refused_answers(
    bank: &mut Bank,
    device: &Device,
    key_id: &str,
    pending: &proto::PendingConfirmation,
) {
    let stranger = bank.site.enroll(OTHER_IIN, "card-token-2", &["biden.jpg"]).await;
    let strangers = Device::ed25519(8);
    let strangers_id = bank.bind(&strangers, &stranger).await;
    let shown = |spoil: fn(&mut proto::PendingConfirmation)| {
        let mut shown = pending.clone();
        spoil(&mut shown);
        device.confirms(key_id, &shown)
    };
    let right = || device.confirms(key_id, pending);
    let mut elsewhere = right();
    elsewhere.confirmation_id = "00".repeat(16);
    let cases = [
        ("REQ_INVALID", "signature", shown(|it| it.amount_minor -= 1)),
        ("REQ_INVALID", "signature", shown(|it| it.payee = "somebody else".into())),
        ("REQ_INVALID", "signature", shown(|it| it.currency = "USD".into())),
        ("REQ_INVALID", "signature", shown(|it| it.terminal_id = "ATM-2".into())),
        ("REQ_INVALID", "signature", shown(|it| it.place.clear())),
        ("REQ_INVALID", "signature", shown(|it| it.displayed_at.push('Z'))),
        ("REQ_INVALID", "signature", shown(|it| it.set_operation(proto::Operation::Withdrawal))),
        ("REQ_INVALID", "signature", proto::ConfirmRequest { signature: vec![1; 64], ..right() }),
        ("REQ_INVALID", "signature", proto::ConfirmRequest { signature: vec![1; 129], ..right() }),
        ("REQ_INVALID", "signature", proto::ConfirmRequest { signature: vec![], ..right() }),
        // Another customer's key, though its signature is right; nobody's key; no key.
        ("REQ_INVALID", "key_id", strangers.confirms(&strangers_id, pending)),
        ("REQ_INVALID", "key_id", proto::ConfirmRequest { key_id: "00".repeat(32), ..right() }),
        ("REQ_INVALID", "key_id", proto::ConfirmRequest { key_id: "K".into(), ..right() }),
        ("REQ_INVALID", "key_id", proto::ConfirmRequest { key_id: String::new(), ..right() }),
        // The key of the right customer named with the signature of another's.
        ("REQ_INVALID", "signature", strangers.confirms(key_id, pending)),
        // The back end's own word, which this pack does not take.
        (
            "REQ_INVALID",
            "signature",
            proto::ConfirmRequest { key_id: String::new(), signature: vec![], ..right() },
        ),
        (
            "REQ_INVALID",
            "confirmation_id",
            proto::ConfirmRequest { confirmation_id: "X".into(), ..right() },
        ),
        ("REQ_NOT_FOUND", "", elsewhere),
    ];
    let before = bank.ledger_size().await;
    for (number, (expected, path, request)) in cases.into_iter().enumerate() {
        let status = bank.app.confirm(request).await.unwrap_err();
        assert_eq!(
            (reason(&status).as_str(), field(&status).as_str()),
            (expected, path),
            "{number}"
        );
    }
    assert_eq!(bank.ledger_size().await, before, "a refused answer leaves no entry");
    assert_eq!(bank.waiting("T1", 0).await.state(), proto::AwaitState::Waiting);
}

/// The final decision is found, redeemed, reported and added up like any other.
async fn counts_like_any_approval(
    bank: &mut Bank,
    first: &proto::Decision,
    last: &proto::Decision,
) {
    let found = proto::GetDecisionRequest {
        business_date: "2026-11-21".into(),
        host_transaction_id: "T1".into(),
        attempt: 1,
        language: "en".into(),
    };
    assert_eq!(bank.terminal.get_decision(found).await.unwrap().into_inner(), *last);
    let mut host = ReceiptServiceClient::new(bank.site.staff(Role::Host).await);
    let redeem = |decision: &proto::Decision| proto::RedeemRequest {
        receipt_jws: decision.receipt_jws.clone(),
        transaction_salt: decision.salts.as_ref().unwrap().transaction.clone(),
        host_transaction_id: "T1".into(),
        business_date: "2026-11-21".into(),
        attempt: 1,
        account: "account-token-1".into(),
        counterparty: Some(PAYEE.into()),
        amount_minor: LARGE,
        currency: "KZT".into(),
        operation: proto::Operation::Deposit.into(),
    };
    assert_eq!(reason(&host.redeem(redeem(first)).await.unwrap_err()), "REQ_INVALID");
    assert!(host.redeem(redeem(last)).await.unwrap().into_inner().redeemed);
    assert!(!host.redeem(redeem(last)).await.unwrap().into_inner().redeemed);
    let report = |outcome: proto::CashOutcome, dispensed_minor| proto::ReportOutcomeRequest {
        business_date: "2026-11-21".into(),
        host_transaction_id: "T1".into(),
        attempt: 1,
        outcome: outcome.into(),
        dispensed_minor,
        currency: "KZT".into(),
        footage: None,
    };
    let taken = report(proto::CashOutcome::Taken, LARGE);
    let reported = bank.terminal.report_outcome(taken).await.unwrap().into_inner();
    let reported = proto::Decision { receipt_jws: reported.receipt_jws, ..last.clone() };
    assert_eq!(body(&reported)["refers"], named(last));
    // It has moved: the least deposit is above the threshold now, and not any more once the host says that
    // it was given back.
    let more = bank.ask(&Ask { amount_minor: 1, ..Ask::new("T2") }).await;
    assert_eq!(more.outcome(), proto::Outcome::StepUp);
    let reverse = |decision: &proto::Decision| proto::ReverseRequest {
        receipt_jws: decision.receipt_jws.clone(),
        host_transaction_id: "T1".into(),
        business_date: "2026-11-21".into(),
        attempt: 1,
        moved_minor: 0,
        currency: "KZT".into(),
    };
    let status = host.reverse(reverse(first)).await.unwrap_err();
    assert_eq!(field(&status), "host_transaction_id", "the first decision moved nothing");
    host.reverse(reverse(last)).await.unwrap();
    let freed = bank.ask(&Ask { amount_minor: 1, ..Ask::new("T3") }).await;
    assert_eq!(freed.outcome(), proto::Outcome::Approved);
    // An approved transaction has no further attempt.
    let (_, asked) = bank.opened(&Ask { attempt: 2, ..Ask::new("T1") }).await;
    assert_eq!(reason(&bank.terminal.verify(asked).await.unwrap_err()), "REQ_STATE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_01_a_refusal_ends_the_wait_at_once_and_denies() {
    let mut bank = Bank::open("").await;
    bank.stepped_up("T1").await;
    let mut terminal = bank.terminal.clone();
    let waits = tokio::spawn(async move {
        let begun = Instant::now();
        (terminal.await_decision(awaiting("T1", 1, 60_000)).await, begun.elapsed())
    });
    let [pending] = bank.pending().await.try_into().unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let decline = proto::DeclineRequest { confirmation_id: pending.confirmation_id.clone() };
    bank.app.decline(decline.clone()).await.unwrap();
    let (awaited, waited) = waits.await.unwrap();
    let last = decided(awaited.unwrap().into_inner());
    assert_eq!(said(&last), (proto::Outcome::Denied, vec!["POL_CONFIRMATION_DECLINED"]));
    assert!(waited < Duration::from_secs(4), "{waited:?}");
    assert!(body(&last)["confirmation"].is_null());
    // An answer is given once.
    let device = Device::ed25519(7);
    let customer = bank.customer.clone();
    let key_id = bank.bind(&device, &customer).await;
    for status in [
        bank.app.decline(decline).await.unwrap_err(),
        bank.app.confirm(device.confirms(&key_id, &pending)).await.unwrap_err(),
    ] {
        assert_eq!(reason(&status), "REQ_STATE");
    }
    assert_eq!(decided(bank.waiting("T1", 0).await), last);
    bank.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawn_consent_ends_the_wait_at_once_and_denies() {
    let mut bank = Bank::open("").await;
    bank.stepped_up("T1").await;
    let mut terminal = bank.terminal.clone();
    let waits =
        tokio::spawn(async move { terminal.await_decision(awaiting("T1", 1, 60_000)).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let withdraw = proto::WithdrawConsentRequest {
        customer_id: bank.customer.clone(),
        evidence_ref: "letter/9".into(),
    };
    let ended = bank.desk.withdraw_consent(withdraw).await.unwrap().into_inner();
    assert!(ended.kept_until.is_some(), "the pack keeps what it is decided on");
    let last = decided(waits.await.unwrap().unwrap().into_inner());
    assert_eq!(last.outcome(), proto::Outcome::Denied, "{:?}", last.reasons);
    assert_eq!(body(&last)["kind"], "verification");
    assert_eq!(decided(bank.waiting("T1", 0).await), last);
    assert!(bank.audited().await > 0);
    bank.close().await;
}

/// 120 seconds are the pack's: the last millisecond counts, the next does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_01_an_answer_that_does_not_come_in_time_denies() {
    let mut bank = Bank::open("").await;
    let device = Device::ed25519(7);
    let customer = bank.customer.clone();
    let key_id = bank.bind(&device, &customer).await;
    bank.stepped_up("T1").await;
    let [shown] = bank.pending().await.try_into().unwrap();
    bank.clock.advance_millis(120_000);
    assert_eq!(bank.pending().await.len(), 1);
    assert_eq!(bank.waiting("T1", 0).await.state(), proto::AwaitState::Waiting);
    bank.clock.advance_millis(1);
    assert!(bank.pending().await.is_empty());
    let late = device.confirms(&key_id, &shown);
    assert_eq!(reason(&bank.app.confirm(late).await.unwrap_err()), "REQ_STATE");
    let decline = proto::DeclineRequest { confirmation_id: shown.confirmation_id };
    assert_eq!(reason(&bank.app.decline(decline).await.unwrap_err()), "REQ_STATE");
    let last = decided(bank.waiting("T1", 5_000).await);
    assert_eq!(said(&last), (proto::Outcome::Denied, vec!["POL_CONFIRMATION_EXPIRED"]));
    assert_eq!(decided(bank.waiting("T1", 0).await), last);
    bank.close().await;
}

/// An agreement that the terminal asks about too late counts for nothing; in the last millisecond it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agreement_counts_as_long_as_the_pack_says() {
    let mut bank = Bank::open("confirmation_ttl_s = 60").await;
    let device = Device::ed25519(7);
    let customer = bank.customer.clone();
    let key_id = bank.bind(&device, &customer).await;
    for (id, millis, outcome) in
        [("T1", 60_000, proto::Outcome::Approved), ("T2", 60_001, proto::Outcome::Denied)]
    {
        bank.stepped_up(id).await;
        let [pending] = bank.pending().await.try_into().unwrap();
        bank.app.confirm(device.confirms(&key_id, &pending)).await.unwrap();
        bank.clock.advance_millis(millis);
        let last = decided(bank.waiting(id, 0).await);
        assert_eq!(last.outcome(), outcome, "{id}: {:?}", last.reasons);
        assert_eq!(body(&last)["confirmation"].is_null(), outcome == proto::Outcome::Denied);
    }
    bank.close().await;
}

/// Time that passes while a call waits ends it: nobody has to ask twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_sees_the_time_run_out() {
    let mut bank = Bank::open("confirmation_ttl_s = 1").await;
    bank.stepped_up("T1").await;
    let mut terminal = bank.terminal.clone();
    let waits =
        tokio::spawn(async move { terminal.await_decision(awaiting("T1", 1, 60_000)).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    bank.clock.advance_millis(1_001);
    let last = decided(waits.await.unwrap().unwrap().into_inner());
    assert_eq!(said(&last), (proto::Outcome::Denied, vec!["POL_CONFIRMATION_EXPIRED"]));
    bank.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_capture_is_taken_again_and_the_agreement_counts_for_the_same_transaction_only() {
    let mut bank = Bank::open("confirmation_ttl_s = 300").await;
    let device = Device::p256(&ECDSA_P256_SHA256_ASN1_SIGNING);
    let customer = bank.customer.clone();
    let key_id = bank.bind(&device, &customer).await;
    let first = bank.stepped_up("T1").await;
    let [pending] = bank.pending().await.try_into().unwrap();
    bank.clock.advance_millis(120_001);
    bank.app.confirm(device.confirms(&key_id, &pending)).await.unwrap();
    let again = bank.waiting("T1", 0).await;
    assert_eq!(again.state(), proto::AwaitState::CaptureAgain);
    assert!(again.until.is_some() && again.decision.is_none());

    // Another transaction, and another amount in one, have no part in it; nor has another face.
    bank.stepped_up("T2").await;
    let impostor = Ask { attempt: 2, photograph: "biden.jpg", ..Ask::new("T1") };
    assert_eq!(bank.ask(&impostor).await.outcome(), proto::Outcome::Denied);
    assert_eq!(bank.waiting("T1", 0).await.state(), proto::AwaitState::CaptureAgain);
    let approved = bank.ask(&Ask { attempt: 3, ..Ask::new("T1") }).await;
    assert_eq!(said(&approved), (proto::Outcome::Approved, vec![]));
    assert_eq!(body(&approved)["refers"], named(&first));
    assert_eq!(body(&approved)["confirmation"]["by"], "customer_key");
    assert_eq!(decided(bank.waiting("T1", 0).await), approved);

    let [pending] = bank.pending().await.try_into().unwrap();
    bank.app.confirm(device.confirms(&key_id, &pending)).await.unwrap();
    let dearer = Ask { attempt: 2, amount_minor: LARGE + 1, ..Ask::new("T2") };
    let dearer = bank.ask(&dearer).await;
    assert_eq!(dearer.outcome(), proto::Outcome::StepUp);
    assert!(body(&dearer)["confirmation"].is_null());
    // Just fresh enough.
    bank.clock.advance_millis(120_000);
    assert_eq!(decided(bank.waiting("T2", 0).await).outcome(), proto::Outcome::Approved);
    bank.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_back_ends_word_counts_where_the_pack_takes_it_and_the_receipt_says_so() {
    let mut bank = Bank::open("accept_back_end_word = true").await;
    bank.stepped_up("T1").await;
    let [pending] = bank.pending().await.try_into().unwrap();
    let word = proto::ConfirmRequest {
        confirmation_id: pending.confirmation_id,
        ..proto::ConfirmRequest::default()
    };
    bank.app.confirm(word).await.unwrap();
    let last = decided(bank.waiting("T1", 5_000).await);
    assert_eq!(last.outcome(), proto::Outcome::Approved);
    assert_eq!(body(&last)["confirmation"]["by"], "back_end");
    bank.close().await;
}

/// What changed while the customer thought about it counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_final_decision_is_made_on_the_facts_of_its_own_moment() {
    let mut bank = Bank::open("").await;
    let device = Device::ed25519(7);
    let customer = bank.customer.clone();
    let key_id = bank.bind(&device, &customer).await;
    for id in ["T1", "T2"] {
        bank.stepped_up(id).await;
    }
    let [one, two] = bank.pending().await.try_into().unwrap();
    bank.app.confirm(device.confirms(&key_id, &one)).await.unwrap();
    bank.app.confirm(device.confirms(&key_id, &two)).await.unwrap();
    let suspend = proto::SuspendRequest { customer_id: customer.clone() };
    bank.desk.suspend(suspend).await.unwrap();
    let last = decided(bank.waiting("T1", 0).await);
    assert_eq!(said(&last), (proto::Outcome::Denied, vec!["MAT_NOT_CONFIRMED"]));
    bank.desk.resume(proto::ResumeRequest { customer_id: customer.clone() }).await.unwrap();
    assert_eq!(decided(bank.waiting("T1", 0).await), last, "a decision is made once");
    assert_eq!(decided(bank.waiting("T2", 0).await).outcome(), proto::Outcome::Approved);

    // Erasure takes what waits, and the keys.
    bank.stepped_up("T3").await;
    let [pending] = bank.pending().await.try_into().unwrap();
    let mut admin = EnrollmentServiceClient::new(bank.site.staff(Role::Admin).await);
    admin.erase(proto::EraseRequest { customer_id: customer.clone() }).await.unwrap();
    let status = bank.app.confirm(device.confirms(&key_id, &pending)).await.unwrap_err();
    assert_eq!(reason(&status), "REQ_NOT_FOUND");
    let status = bank.terminal.await_decision(awaiting("T3", 1, 0)).await.unwrap_err();
    assert_eq!(reason(&status), "REQ_NOT_FOUND");
    assert!(bank.pending().await.is_empty());
    bank.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_back_end_is_told_what_comes_up_and_can_go_on_from_where_it_was() {
    let mut bank = Bank::open("").await;
    let mut app = bank.app.clone();
    let nothing = proto::AwaitPendingRequest {
        after_index: 0,
        wait_ms: 0,
        ..proto::AwaitPendingRequest::default()
    };
    assert!(app.await_pending(nothing).await.unwrap().into_inner().pending.is_empty());
    let waits = tokio::spawn(async move {
        let asked = proto::AwaitPendingRequest {
            after_index: 0,
            wait_ms: 60_000,
            ..proto::AwaitPendingRequest::default()
        };
        app.await_pending(asked).await.unwrap().into_inner().pending
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let first = bank.stepped_up("T1").await;
    let [one] = waits.await.unwrap().try_into().unwrap();
    assert_eq!(one.position, first.position);
    let second = bank.stepped_up("T2").await;
    let after_index = one.position.unwrap().index;
    let asked = proto::AwaitPendingRequest {
        after_index,
        wait_ms: 60_000,
        ..proto::AwaitPendingRequest::default()
    };
    let [two] =
        bank.app.await_pending(asked).await.unwrap().into_inner().pending.try_into().unwrap();
    assert_eq!(two.position, second.position);
    let all = proto::AwaitPendingRequest {
        after_index: 0,
        wait_ms: 0,
        ..proto::AwaitPendingRequest::default()
    };
    assert_eq!(bank.app.await_pending(all).await.unwrap().into_inner().pending.len(), 2);
    // Whom nobody knows, nothing waits for.
    let reference = Some(Reference::PhoneCode("123456".into()));
    let nobody =
        proto::ListPendingRequest { customer: Some(proto::CustomerReference { reference }) };
    assert!(bank.app.list_pending(nobody).await.unwrap().into_inner().pending.is_empty());
    bank.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_devices_key_is_bound_with_its_proof_and_signs_nothing_once_it_is_unbound() {
    let mut bank = Bank::open("").await;
    let customer = bank.customer.clone();
    let device = Device::p256(&ECDSA_P256_SHA256_FIXED_SIGNING);
    let good = device.binding(&customer);
    let swapped = Device::ed25519(9);
    let cases = [
        (
            "REQ_INVALID",
            "customer_id",
            proto::BindAppKeyRequest { customer_id: "7".into(), ..good.clone() },
        ),
        (
            "REQ_INVALID",
            "public_key",
            proto::BindAppKeyRequest { public_key: vec![], ..good.clone() },
        ),
        (
            "REQ_INVALID",
            "public_key",
            proto::BindAppKeyRequest { public_key: vec![48; 91], ..good.clone() },
        ),
        (
            "REQ_INVALID",
            "public_key",
            proto::BindAppKeyRequest { public_key: vec![48; 129], ..good.clone() },
        ),
        ("REQ_INVALID", "proof", proto::BindAppKeyRequest { proof: vec![], ..good.clone() }),
        (
            "REQ_INVALID",
            "proof",
            proto::BindAppKeyRequest { proof: swapped.binding(&customer).proof, ..good.clone() },
        ),
        (
            "REQ_INVALID",
            "proof",
            proto::BindAppKeyRequest { customer_id: "00".repeat(16), ..good.clone() },
        ),
    ];
    for (expected, path, request) in cases {
        let status = bank.desk.bind_app_key(request).await.unwrap_err();
        assert_eq!((reason(&status).as_str(), field(&status).as_str()), (expected, path));
    }
    let key_id = bank.bind(&device, &customer).await;
    assert_eq!(reason(&bank.desk.bind_app_key(good).await.unwrap_err()), "REQ_EXISTS");
    for seed in 1..=4 {
        bank.bind(&Device::ed25519(seed), &customer).await;
    }
    let sixth = Device::ed25519(5).binding(&customer);
    assert_eq!(reason(&bank.desk.bind_app_key(sixth).await.unwrap_err()), "REQ_STATE");

    bank.stepped_up("T1").await;
    let [pending] = bank.pending().await.try_into().unwrap();
    let unbind = proto::UnbindAppKeyRequest { customer_id: customer, key_id: key_id.clone() };
    bank.desk.unbind_app_key(unbind.clone()).await.unwrap();
    assert_eq!(reason(&bank.desk.unbind_app_key(unbind).await.unwrap_err()), "REQ_NOT_FOUND");
    let status = bank.app.confirm(device.confirms(&key_id, &pending)).await.unwrap_err();
    assert_eq!((reason(&status).as_str(), field(&status).as_str()), ("REQ_INVALID", "key_id"));
    assert_eq!(bank.waiting("T1", 0).await.state(), proto::AwaitState::Waiting);
    bank.close().await;
}

/// A stolen phone signs, and its key is unbound before cash moves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agreement_does_not_outlive_the_key_that_gave_it() {
    let mut bank = Bank::open("").await;
    let (device, customer) = (Device::ed25519(7), bank.customer.clone());
    let key_id = bank.bind(&device, &customer).await;
    bank.stepped_up("T1").await;
    let [pending] = bank.pending().await.try_into().unwrap();
    bank.app.confirm(device.confirms(&key_id, &pending)).await.unwrap();
    let unbind = proto::UnbindAppKeyRequest { customer_id: customer, key_id };
    bank.desk.unbind_app_key(unbind).await.unwrap();
    let last = decided(bank.waiting("T1", 0).await);
    assert_eq!(said(&last), (proto::Outcome::Denied, vec!["POL_CONFIRMATION_EXPIRED"]));
    assert!(body(&last)["confirmation"].is_null());
    bank.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_waited_for_is_refused_by_its_field() {
    type Spoil = fn(&mut proto::AwaitDecisionRequest);
    let mut bank = Bank::open("").await;
    let approved = bank.ask(&Ask { amount_minor: 1, ..Ask::new("T0") }).await;
    assert_eq!(approved.outcome(), proto::Outcome::Approved);
    let cases: [(&str, &str, Spoil); 8] = [
        ("REQ_INVALID", "business_date", |r| r.business_date = "today".into()),
        ("REQ_INVALID", "host_transaction_id", |r| r.host_transaction_id.clear()),
        ("REQ_INVALID", "attempt", |r| r.attempt = 100),
        ("REQ_INVALID", "wait_ms", |r| r.wait_ms = 60_001),
        ("REQ_INVALID", "language", |r| r.language = "de".into()),
        // Decided at once; never asked.
        ("REQ_NOT_FOUND", "", |r| r.host_transaction_id = "T0".into()),
        ("REQ_NOT_FOUND", "", |r| r.attempt = 2),
        ("REQ_NOT_FOUND", "", |r| r.host_transaction_id = "T9".into()),
    ];
    for (expected, path, spoil) in cases {
        let mut request = awaiting("T0", 1, 0);
        spoil(&mut request);
        let status = bank.terminal.await_decision(request).await.unwrap_err();
        assert_eq!((reason(&status).as_str(), field(&status).as_str()), (expected, path));
    }
    // Another terminal does not find it.
    bank.stepped_up("T1").await;
    let mut other = VerificationServiceClient::new(bank.site.terminal("ATM-2").await);
    let status = other.await_decision(awaiting("T1", 1, 0)).await.unwrap_err();
    assert_eq!(reason(&status), "REQ_NOT_FOUND");
    drop(other);
    let mut admin = TerminalServiceClient::new(bank.site.staff(Role::Admin).await);
    for (terminal_id, place, expected, path) in [
        ("A T M", PLACE, "REQ_INVALID", "terminal_id"),
        ("ATM-1", "", "REQ_INVALID", "place"),
        ("ATM-1", "a\nb", "REQ_INVALID", "place"),
        ("ATM-9", PLACE, "REQ_NOT_FOUND", ""),
    ] {
        let (terminal_id, place) = (terminal_id.into(), place.into());
        let request = proto::SetTerminalPlaceRequest { terminal_id, place };
        let status = admin.set_terminal_place(request).await.unwrap_err();
        assert_eq!((reason(&status).as_str(), field(&status).as_str()), (expected, path));
    }
    let wait_ms = proto::AwaitPendingRequest {
        after_index: 0,
        wait_ms: 60_001,
        ..proto::AwaitPendingRequest::default()
    };
    let status = bank.app.await_pending(wait_ms).await.unwrap_err();
    assert_eq!(field(&status), "wait_ms");
    let nobody = proto::ListPendingRequest { customer: None };
    assert_eq!(field(&bank.app.list_pending(nobody).await.unwrap_err()), "customer");
    let none = proto::DeclineRequest { confirmation_id: String::new() };
    assert_eq!(field(&bank.app.decline(none).await.unwrap_err()), "confirmation_id");
    bank.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_customer_is_shown_lies_sealed_in_the_store() {
    let mut bank = Bank::open("").await;
    bank.stepped_up("T1").await;
    let [pending] = bank.pending().await.try_into().unwrap();
    assert_eq!(pending.payee, PAYEE);
    let mut found = Vec::new();
    let mut searched = 0;
    for name in ["tulga.sqlite", "tulga.sqlite-wal"] {
        let bytes = Bytes::from(fs::read(bank.site.data().join(name)).unwrap());
        let holds = |needle: &str| {
            let needles = [needle.as_bytes().to_vec(), hex(needle.as_bytes()).into_bytes()];
            needles.iter().any(|needle| bytes.windows(needle.len()).any(|run| run == needle))
        };
        searched += usize::from(holds("ATM-1"));
        found.extend(
            [PAYEE, "account-token-1", &pending.displayed_at].map(|it| (it.to_owned(), holds(it))),
        );
    }
    assert!(searched > 0, "the search reaches what is there");
    found.retain(|(_, is_there)| *is_there);
    assert!(found.is_empty(), "{found:?}");
    bank.close().await;
}

/// The bytes are an interface: applications in the field build them.
#[test]
fn what_is_signed_is_what_is_documented() {
    let id = ConfirmationId::new(std::array::from_fn(|place| u8::try_from(place).unwrap()));
    let shown = Shown {
        operation: "cash_deposit".into(),
        amount_minor: LARGE,
        currency: "KZT".into(),
        payee: "KZ-account-1".into(),
        terminal: "ATM-1".into(),
        place: "Абай 10".into(),
        displayed_at: "2026-11-21T07:03:14+05:00".into(),
    };
    let message = confirmation_message(&id, &shown);
    let signature = Device::ed25519(7).sign(&message);
    let key = Device::ed25519(7).spki();
    let lines = [("key", &key), ("message", &message), ("signature", &signature)]
        .map(|(name, bytes)| format!("{name} {}", hex(bytes)));
    let documented = include_str!("../../docs/confirmation.md");
    for line in lines {
        assert!(documented.contains(&format!("\n{line}\n")), "the document lacks {line}");
    }
    // Built by hand, as an application would.
    let mut built = Vec::new();
    for field in [
        &b"tulga-confirmation-v1"[..],
        &(0..16).collect::<Vec<u8>>(),
        b"cash_deposit",
        &LARGE.to_be_bytes(),
        b"KZT",
        b"KZ-account-1",
        b"ATM-1",
        "Абай 10".as_bytes(),
        b"2026-11-21T07:03:14+05:00",
    ] {
        built.extend(u64::try_from(field.len()).unwrap().to_be_bytes());
        built.extend(field);
    }
    assert_eq!(built, message);
}
