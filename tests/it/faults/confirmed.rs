//! Faults at each step of a confirmation: nothing is confirmed, decided or approved twice, and whoever
//! repeats the call finds what was made.

use tulga::crypto::{Ed25519Key, Signer as _};
use tulga::gateway::request::RequestException;
use tulga::gateway::{Awaited, Pending, Signed, app_key_message, confirmation_message};

use super::*;
use crate::rules::unsigned;

/// Each fault at each step of the three calls, and the call again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_at_any_step_of_a_confirmation_costs_no_more_than_a_repeat() {
    for call in 0..3 {
        let mut struck = 0;
        for fault in FAULTS {
            for step in 0.. {
                let marked = Marked::new().await;
                let strike = |at: u32| {
                    if at == call {
                        marked.rig.store.fail_after(step, fault);
                    }
                };
                let at = format!("{fault:?} at {step} of call {call}");
                let has_struck = |at: u32| at != call || marked.rig.store.script_is_done();
                strike(0);
                let first = marked.asked().await;
                if !has_struck(0) {
                    break;
                }
                let first = repeated(first, || marked.asked(), &at).await;
                assert!(matches!(first.outcome, Outcome::StepUp { .. }), "{at}");
                let pending = marked.pending().await;
                strike(1);
                let confirmed = marked.confirm(&pending).await;
                if !has_struck(1) {
                    break;
                }
                if confirmed.is_err() {
                    match marked.confirm(&pending).await {
                        // It had been taken: a second answer is one too many.
                        Ok(()) | Err(GatewayError::State(_)) => {}
                        Err(error) => panic!("{at}: {error:?}"),
                    }
                }
                strike(2);
                let last = marked.awaited().await;
                if !has_struck(2) {
                    break;
                }
                let last = repeated(last, || marked.awaited(), &at).await;
                assert!(last.outcome.approves(), "{at}: {:?}", last.outcome);
                assert_eq!(marked.awaited().await.unwrap(), last, "{at}");
                assert_eq!(marked.asked().await.unwrap(), first, "{at}");
                assert!(first.attempts_left <= 2, "{at}: an attempt was won");
                let entries = marked.entries().await;
                let decisions = entries.iter().filter(|kind| *kind == "exception").count();
                assert_eq!(decisions, 2, "{at}: {entries:?}");
                struck += 1;
            }
        }
        assert!(struck >= 8, "only {struck} faults struck call {call}");
    }
}

/// Each fault at each step of the tellers' two calls and of the terminal's, and the call again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_at_any_step_of_two_tellers_words_costs_no_more_than_a_repeat() {
    for call in 0..3 {
        let mut struck = 0;
        for fault in FAULTS {
            for step in 0.. {
                let marked = Marked::new().await;
                let at = format!("{fault:?} at {step} of call {call}");
                marked.asked().await.unwrap();
                let pending = marked.pending().await;
                let strike = |at: u32| {
                    if at == call {
                        marked.rig.store.fail_after(step, fault);
                    }
                };
                let has_struck = |at: u32| at != call || marked.rig.store.script_is_done();
                strike(0);
                let proposed = marked.propose(&pending).await;
                if !has_struck(0) {
                    break;
                }
                if proposed.is_err() {
                    marked
                        .propose(&pending)
                        .await
                        .unwrap_or_else(|error| panic!("{at}: {error:?}"));
                }
                strike(1);
                let approved = marked.approve(&pending).await;
                if !has_struck(1) {
                    break;
                }
                if approved.is_err() {
                    match marked.approve(&pending).await {
                        // It had been taken: a second answer is one too many.
                        Ok(()) | Err(GatewayError::State(_)) => {}
                        Err(error) => panic!("{at}: {error:?}"),
                    }
                }
                strike(2);
                let last = marked.awaited().await;
                if !has_struck(2) {
                    break;
                }
                let last = repeated(last, || marked.awaited(), &at).await;
                assert!(last.outcome.approves(), "{at}: {:?}", last.outcome);
                assert_eq!(marked.awaited().await.unwrap(), last, "{at}");
                let entries = marked.entries().await;
                let decisions = entries.iter().filter(|kind| *kind == "exception").count();
                assert_eq!(decisions, 2, "{at}: {entries:?}");
                struck += 1;
            }
        }
        assert!(struck >= 8, "only {struck} faults struck call {call}");
    }
}

/// The answer, or that of the same call again.
async fn repeated<F: Future<Output = Result<Answer, GatewayError>>>(
    first: Result<Answer, GatewayError>,
    again: impl Fn() -> F,
    at: &str,
) -> Answer {
    match first {
        Ok(answer) => answer,
        Err(_) => again().await.unwrap_or_else(|error| panic!("{at}: {error:?}")),
    }
}

/// A gateway by `kz-2026`, and somebody who is marked as unable to give a biometric.
struct Marked {
    rig: Rig,
    key: Ed25519Key,
    key_id: Digest,
}

impl Marked {
    async fn new() -> Self {
        let pack = unsigned("kz-2026");
        let rig = Rig::by(PolicyPack::load(pack.path()).unwrap()).await;
        let gateway = rig.gateway();
        let (one, two) = (staff("one", 5), staff("two", 6));
        rig.pin(&[&one, &two]).await;
        let iin = Iin::try_from("000000300017").unwrap();
        let request = CreateCustomer { iin, consent: consent() };
        let customer = gateway.create_customer(&one, request).await.unwrap();
        let token = OpaqueToken::try_from(CARD).unwrap();
        let bind = BindToken { customer, kind: TokenKind::Card, token, expires_at: None };
        gateway.bind_token(&one, bind).await.unwrap();
        gateway.propose_unable(&one, &customer, "archive/9").await.unwrap();
        gateway.approve_unable(&two, &customer, "archive/9").await.unwrap();
        let key = Ed25519Key::from_seed([7; 32]).unwrap();
        let spki = key.public_key().to_spki_der();
        let proof = key.sign(&app_key_message(&customer, &spki)).unwrap();
        let key_id = gateway.bind_app_key(&one, &customer, spki, &proof).await.unwrap();
        Self { rig, key, key_id }
    }

    async fn asked(&self) -> Result<Answer, GatewayError> {
        let attempt = Attempt::try_from(1).unwrap();
        let request = RequestException { asked: question("T1"), attempt };
        let deadline = Instant::now() + Duration::from_mins(1);
        Box::pin(self.rig.gateway().request_exception(&terminal(), request, deadline)).await
    }

    async fn pending(&self) -> Pending {
        let pending = self.rig.gateway().await_pending(0, Instant::now()).await.unwrap();
        let [pending] = pending.try_into().unwrap();
        pending
    }

    async fn confirm(&self, pending: &Pending) -> Result<(), GatewayError> {
        let message = confirmation_message(&pending.id, &pending.shown);
        let signature = self.key.sign(&message).unwrap();
        let signed = Signed { key: self.key_id, signature };
        let back_end = staff("back-end", 7);
        self.rig.gateway().confirm(&back_end, &pending.id, Some(signed)).await.map(drop)
    }

    async fn propose(&self, pending: &Pending) -> Result<(), GatewayError> {
        let first = staff("one", 5);
        self.rig.gateway().propose_exception(&first, &pending.id, "archive/9").await.map(drop)
    }

    async fn approve(&self, pending: &Pending) -> Result<(), GatewayError> {
        let second = staff("two", 6);
        self.rig.gateway().approve_exception(&second, &pending.id, "archive/9").await.map(drop)
    }

    async fn awaited(&self) -> Result<Answer, GatewayError> {
        let key = tulga::domain::transaction::DecisionKey {
            terminal: terminal().id,
            business_date: business_date(),
            host_id: HostTransactionId::try_from("T1").unwrap(),
            attempt: Attempt::try_from(1).unwrap(),
        };
        let deadline = Instant::now() + Duration::from_mins(1);
        let gateway = self.rig.gateway();
        match gateway.await_decision(&terminal(), &key, Duration::ZERO, deadline).await? {
            Awaited::Decided(answer) => Ok(*answer),
            other => panic!("{other:?}"),
        }
    }

    /// The kinds of the ledger's entries, once it has been verified from outside.
    async fn entries(&self) -> Vec<String> {
        self.rig.audited().await;
        let filter = tulga::gateway::EntryFilter::default();
        let rows = self.rig.gateway().entries(0, &filter, 100).await.unwrap();
        rows.into_iter().map(|row| row.kind).collect()
    }
}

pub fn consent() -> Consent {
    Consent {
        operator: "the bank".into(),
        subject: "the customer".into(),
        purpose: "cash".into(),
        until: ConsentTerm::Days(365),
        given_at: TIME,
        evidence_ref: "archive/1".into(),
    }
}

fn staff(name: &str, number: u8) -> Actor {
    let name = PrincipalName::try_from(name).unwrap();
    Actor { role: "enroller", name, spki: Digest::new([number; 32]) }
}
