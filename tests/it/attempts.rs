//! Failures beyond one transaction: whom they count against, what follows, who ends it, and that a terminal
//! learns nothing of it.

pub mod alike;
mod faults;
mod locks;
mod office;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::time::Instant;
use tulga::crypto::Digest;
use tulga::domain::decision::Outcome;
use tulga::domain::id::{Attempt, CustomerId, HostTransactionId, TerminalId};
use tulga::domain::iin::Iin;
use tulga::domain::transaction::{CustomerReference, HolderVerification, OpaqueToken, TokenKind};
use tulga::face::FacePipeline;
use tulga::gateway::request::{Answer, Capture, Declared, Verify};
use tulga::gateway::{CallingTerminal, EntryFilter, GatewayError};
use tulga::policy::PolicyPack;
use tulga::store::memory::Fault;

use crate::faults::{CARD, Rig, business_date, nobody, question};
use crate::packs::pack_of;
use crate::site::{demo, payload};
use crate::vision::PIPELINE;

const WRONG: &str = "biden.jpg";
const RIGHT: &str = "obama2.jpg";

/// A gateway with one customer, by the pack `dev` with other limits.
struct Bank {
    rig: Rig,
    customer: CustomerId,
    transactions: AtomicU32,
}

/// One try: at which terminal, of whom, what else was presented, and the picture.
#[derive(Clone)]
struct Shown {
    terminal: String,
    reference: CustomerReference,
    holder: HolderVerification,
    image: Bytes,
}

impl Shown {
    /// With the customer's card and PIN.
    fn face(image: &str) -> Self {
        Self {
            terminal: "ATM-1".into(),
            reference: card(CARD),
            holder: HolderVerification::CardAndPin,
            image: demo(image),
        }
    }

    fn at(self, terminal: &str) -> Self {
        Self { terminal: terminal.into(), ..self }
    }

    fn of(self, reference: CustomerReference) -> Self {
        Self { reference, ..self }
    }

    fn with(self, holder: HolderVerification) -> Self {
        Self { holder, ..self }
    }
}

fn card(token: &str) -> CustomerReference {
    CustomerReference::Token(TokenKind::Card, OpaqueToken::try_from(token).unwrap())
}

fn calling(terminal: &str) -> CallingTerminal {
    CallingTerminal { id: TerminalId::try_from(terminal).unwrap(), spki: Digest::new([4; 32]) }
}

/// The pack `dev` with these lines under `[bars.tries]`, and these under `[bars]`.
fn pack(tries: &str, bars: &str) -> PolicyPack {
    let with = format!("{bars}\n[bars.tries]\n{tries}\n[bars.amount_max_minor]");
    pack_of(&[("[bars.amount_max_minor]", &with)]).load().unwrap()
}

impl Bank {
    async fn open(tries: &str) -> Self {
        Self::looking(pack(tries, ""), PIPELINE.clone()).await
    }

    async fn looking(pack: PolicyPack, faces: FacePipeline) -> Self {
        let rig = Rig::looking(pack, faces).await;
        let customer = rig.enrol().await;
        Self { rig, customer, transactions: 0.into() }
    }

    /// A transaction of its own, in one try.
    async fn shows(&self, shown: &Shown) -> Result<Answer, GatewayError> {
        let id = self.transactions.fetch_add(1, Ordering::SeqCst);
        let id = HostTransactionId::try_from(format!("T{id}").as_str()).unwrap();
        let terminal = calling(&shown.terminal);
        let mut asked = question(id.as_str());
        asked.customer = shown.reference.clone();
        asked.holder_verification = shown.holder;
        let challenge =
            self.rig.gateway().begin_capture(&terminal, asked, |_| Vec::new()).await?.challenge;
        let capture = Capture { image: shown.image.clone(), declared: Declared::default() };
        let verify = Verify {
            challenge,
            host_id: id,
            business_date: business_date(),
            attempt: Attempt::try_from(1).unwrap(),
            captures: vec![capture.into()],
            envelopes: Vec::new(),
            footage: None,
        };
        let deadline = Instant::now() + Duration::from_mins(1);
        self.rig.gateway().verify(&terminal, verify, deadline).await
    }

    /// So many wrong faces, each with card and PIN and as soon as may be.
    async fn fails(&self, times: u32) {
        for _ in 0..times {
            let answer = self.shows(&Shown::face(WRONG)).await.unwrap();
            assert!(self.was_compared(&answer).await, "{:?}", self.reasons(&answer).await);
            assert_eq!(answer.outcome, Outcome::Denied);
        }
    }

    /// The internal reasons of a decision about the customer's own face.
    async fn right_face(&self) -> (Outcome, Vec<String>) {
        let answer = self.shows(&Shown::face(RIGHT)).await.unwrap();
        (answer.outcome, self.reasons(&answer).await)
    }

    async fn is_approved(&self) -> bool {
        self.right_face().await.0 == Outcome::Approved
    }

    async fn record(&self, answer: &Answer) -> Value {
        let record = self.rig.gateway().audit_record(answer.receipt.index()).await.unwrap();
        serde_json::from_slice(&record.record).unwrap()
    }

    async fn reasons(&self, answer: &Answer) -> Vec<String> {
        serde_json::from_value(self.record(answer).await["reasons"].clone()).unwrap()
    }

    async fn was_compared(&self, answer: &Answer) -> bool {
        self.record(answer).await["facts"]["strength_db"].is_i64()
    }

    fn wait_s(&self, seconds: i64) {
        self.rig.clock.advance_millis(seconds * 1_000);
    }

    /// The administrative acts of the ledger, in order, with whom they are about.
    async fn acts(&self) -> Vec<(String, String)> {
        let filter = EntryFilter::default();
        let rows = self.rig.gateway().entries(0, &filter, 10_000).await.unwrap();
        let bodies = rows.iter().map(|row| payload(row.jws.as_bytes()));
        let text = |body: &Value, name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let acts = bodies.filter(|body| body["kind"] == "administration");
        acts.map(|body| (text(&body, "act"), text(&body, "subject"))).collect()
    }

    async fn count_of(&self, act: &str) -> usize {
        self.acts().await.iter().filter(|(found, _)| found == act).count()
    }
}

fn denied(reasons: &[&str]) -> (Outcome, Vec<String>) {
    (Outcome::Denied, reasons.iter().map(|&reason| reason.to_owned()).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_wrong_faces_with_card_and_pin_delay_and_more_lock() {
    let bank = Bank::open("lock_after_failures = 5").await;
    bank.fails(3).await;
    let delayed = denied(&["SUB_DELAYED", "MAT_NO_MATCH"]);
    assert_eq!(bank.right_face().await, delayed);
    bank.wait_s(29);
    // What is tried meanwhile is not compared, and makes the delay no longer.
    assert_eq!(bank.right_face().await, delayed);
    bank.wait_s(1);
    bank.fails(1).await;
    bank.wait_s(59);
    assert_eq!(bank.right_face().await, delayed, "it doubles");
    bank.wait_s(1);
    assert_eq!(bank.count_of("biometric_locked").await, 0);
    bank.fails(1).await;
    let locked = denied(&["SUB_LOCKED", "MAT_NO_MATCH"]);
    assert_eq!(bank.right_face().await, locked);
    bank.wait_s(8 * 86_400);
    assert_eq!(bank.right_face().await, locked, "no time ends a lock");
    assert_eq!(bank.count_of("biometric_locked").await, 1);
    bank.rig.audited().await;
}

/// A stranger who knows a card's token or a number, and whoever has a card and PIN of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_card_and_pin_or_the_app_of_the_customer_they_are_never_touched() {
    let bank = Bank::open("delay_after_failures = 1\nlock_after_failures = 2").await;
    let number = CustomerReference::Iin(Iin::try_from("000000300017").unwrap());
    let nothing = Shown::face(WRONG).with(HolderVerification::None);
    let own_card = Shown::face(WRONG).of(number.clone());
    for shown in [nothing.clone(), nothing.of(number), own_card] {
        for _ in 0..3 {
            let answer = bank.shows(&shown).await.unwrap();
            assert!(bank.was_compared(&answer).await);
        }
    }
    assert!(bank.is_approved().await);
    // The app speaks for the customer as card and PIN do.
    bank.shows(&Shown::face(WRONG).with(HolderVerification::App)).await.unwrap();
    assert_eq!(bank.right_face().await, denied(&["SUB_DELAYED", "MAT_NO_MATCH"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_begins_the_row_anew() {
    let bank = Bank::open("").await;
    for _ in 0..2 {
        bank.fails(2).await;
        assert!(bank.is_approved().await);
    }
    // A day later failures count no more, approval or not.
    bank.fails(2).await;
    bank.wait_s(86_400);
    bank.fails(2).await;
    assert!(bank.is_approved().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn technical_failures_and_pictures_that_cannot_be_used_count_nothing() {
    let bank = Bank::open("terminal_failures_max = 4").await;
    bank.fails(2).await;
    let unreadable = Bytes::from_static(b"\xff\xd8\xff\xe0 no picture");
    for image in [unreadable, nobody()] {
        for _ in 0..3 {
            let shown = Shown { image: image.clone(), ..Shown::face(WRONG) };
            match bank.shows(&shown).await {
                Ok(answer) => assert_eq!(answer.outcome, Outcome::Inconclusive),
                Err(error) => assert!(matches!(error, GatewayError::Unreadable(_)), "{error:?}"),
            }
        }
    }
    // The challenge's commit and the debit's succeed; no decision is committed, twice.
    for _ in 0..3 {
        bank.rig.store.fail_after(2, Fault::BeforeCommit);
        bank.rig.store.fail_after(3, Fault::BeforeCommit);
        let failed = bank.shows(&Shown::face(WRONG)).await;
        assert!(matches!(failed, Err(GatewayError::Store(_))), "{failed:?}");
        assert!(bank.rig.store.script_is_done());
    }
    // A third failure would delay; a fourth at the terminal would make it wait.
    assert!(bank.is_approved().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_with_too_many_failures_waits_and_others_do_not() {
    let bank = Bank::open("terminal_failures_max = 3\nterminal_window_s = 30").await;
    let stranger = Shown::face(WRONG).of(card("card-of-nobody"));
    let terminal = calling("ATM-1");
    let begun = bank
        .rig
        .gateway()
        .begin_capture(&terminal, question("BEFORE"), |_| Vec::new())
        .await
        .unwrap();
    for _ in 0..3 {
        bank.shows(&stranger).await.unwrap();
    }
    let refused = bank.shows(&Shown::face(RIGHT)).await;
    assert!(matches!(refused, Err(GatewayError::Throttled)), "{refused:?}");
    let verify = || bank.rig.verify("BEFORE", begun.challenge, demo(RIGHT));
    let refused = verify().await;
    assert!(matches!(refused, Err(GatewayError::Throttled)), "{refused:?}");
    let elsewhere = bank.shows(&Shown::face(RIGHT).at("ATM-2")).await.unwrap();
    assert_eq!(elsewhere.outcome, Outcome::Approved);
    // The challenge was not used up, and the failures are old.
    bank.wait_s(30);
    assert_eq!(verify().await.unwrap().outcome, Outcome::Approved);
}

/// Many terminals at one moment: each try is debited before it is compared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_terminals_at_once_cannot_exceed_a_limit() {
    for (tries, compared_max) in [("delay_after_failures = 100", 10), ("", 3)] {
        let bank = Arc::new(Bank::open(tries).await);
        let each = (0..64).map(|number| {
            let bank = Arc::clone(&bank);
            tokio::spawn(async move {
                let shown = Shown::face(WRONG).at(&format!("ATM-{number}"));
                loop {
                    match bank.shows(&shown).await {
                        Err(GatewayError::Overloaded) => {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        answer => break answer.unwrap(),
                    }
                }
            })
        });
        let each: Vec<_> = each.collect();
        let mut compared = 0;
        let mut told = BTreeSet::new();
        for answer in each {
            let answer = answer.await.unwrap();
            compared += usize::from(bank.was_compared(&answer).await);
            told.insert((answer.outcome.as_str(), answer.reasons.clone(), answer.attempts_left));
        }
        assert_eq!(compared, compared_max, "{tries}");
        assert_eq!(told.len(), 1, "{told:?}");
        let locks = usize::from(compared_max == 10);
        assert_eq!(bank.count_of("biometric_locked").await, locks);
    }
}

/// A thousand tries, one a second, at one machine; then at a machine of their own each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hill_climbing_stops_at_the_limits() {
    let bank = Bank::open("").await;
    let (mut compared, mut looked, mut throttled) = (0, 0, 0);
    for number in 0..1_000 {
        match bank.shows(&Shown::face(WRONG)).await {
            Err(GatewayError::Throttled) => throttled += 1,
            answer => {
                let answer = answer.unwrap();
                assert_eq!(answer.outcome, Outcome::Denied, "{number}");
                compared += usize::from(bank.was_compared(&answer).await);
                looked += 1;
            }
        }
        bank.wait_s(1);
    }
    assert!(compared <= 10 && looked <= 60 && throttled >= 940, "{compared} {looked} {throttled}");
    // Whoever has many machines and waits for the delays gets as far as the lock.
    for number in 0..12 {
        bank.wait_s(3_600);
        let answer = bank.shows(&Shown::face(WRONG).at(&format!("ATM-{number}"))).await.unwrap();
        compared += usize::from(bank.was_compared(&answer).await);
    }
    assert_eq!(compared, 10);
    assert_eq!(bank.right_face().await, denied(&["SUB_LOCKED", "MAT_NO_MATCH"]));
}
