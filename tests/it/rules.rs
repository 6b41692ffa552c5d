//! The packs' rules through the API: just under, at, and just over each number.

use std::path::Path;
use std::sync::Arc;

use tonic::transport::Channel;
use tulga::clock::{Clock as _, ManualClock, SystemClock};
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::customer_reference::Reference;
use tulga::proto::enrollment_service_client::EnrollmentServiceClient;
use tulga::proto::receipt_service_client::ReceiptServiceClient;
use tulga::proto::verification_service_client::VerificationServiceClient;

use crate::site::{Site, begin, demo, verify};

pub const IIN: &str = "000000300017";
pub const CARD: &str = "card-token-1";
const HOUR_MS: i64 = 3_600_000;

/// A gateway that decides by one pack, a customer of it, and a terminal.
pub struct Bank {
    pub site: Site,
    pub clock: Arc<ManualClock>,
    pub customer: String,
    pub terminal: VerificationServiceClient<Channel>,
    pub others: Vec<VerificationServiceClient<Channel>>,
}

impl Bank {
    /// A bank by a pack of the tree. The customer has been enrolled for a week.
    pub async fn by(pack: &str) -> Self {
        let dir = unsigned(pack);
        let bank = Self::new_by(dir.path(), 0).await;
        bank.clock.advance_millis(7 * 24 * HOUR_MS);
        bank
    }

    /// As [`Self::by`], with more terminals.
    pub async fn with_others(pack: &str, others: usize) -> Self {
        let dir = unsigned(pack);
        let bank = Self::new_by(dir.path(), others).await;
        bank.clock.advance_millis(7 * 24 * HOUR_MS);
        bank
    }

    /// A bank whose customer was enrolled this moment.
    pub async fn new_by(dir: &Path, others: usize) -> Self {
        Self::with_config(dir, others, "").await
    }

    /// As [`Self::new_by`], with more of the configuration.
    pub async fn with_config(dir: &Path, others: usize, more: &str) -> Self {
        let more = format!(
            "policy_dir = '{}'\n[rate]\nper_terminal_per_minute = 10000\n{more}",
            dir.display()
        );
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        let site = Site::at(&more, Arc::clone(&clock) as _).await;
        let customer = site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
        let terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
        // Before the clock moves: a certificate counts from when it is issued.
        let mut more = Vec::new();
        for number in 0..others {
            let channel = site.terminal(&format!("ATM-{}", number + 2)).await;
            more.push(VerificationServiceClient::new(channel));
        }
        Self { site, clock, customer, terminal, others: more }
    }

    pub async fn decide(&mut self, ask: Ask, id: &str) -> proto::Decision {
        ask.decided(&mut self.terminal, id).await
    }

    /// Decides and compares with what must come.
    pub async fn expect(&mut self, ask: Ask, id: &str, outcome: proto::Outcome, reasons: &[&str]) {
        let decision = self.decide(ask, id).await;
        assert_eq!(said(&decision), (outcome, reasons.to_vec()), "{id}");
    }

    /// The host says what moved.
    pub async fn reverse(
        &self,
        decision: &proto::Decision,
        id: &str,
        moved_minor: i64,
        currency: &str,
    ) {
        let mut host = ReceiptServiceClient::new(self.site.staff(Role::Host).await);
        let request = proto::ReverseRequest {
            receipt_jws: decision.receipt_jws.clone(),
            host_transaction_id: id.into(),
            business_date: "2026-11-21".into(),
            attempt: 1,
            moved_minor,
            currency: currency.into(),
        };
        let first = host.reverse(request.clone()).await.unwrap().into_inner();
        let again = host.reverse(request).await.unwrap().into_inner();
        assert_eq!(first, again, "the same again is the same entry");
    }

    pub async fn finish(self) {
        drop((self.terminal, self.others));
        self.site.finish().await;
    }
}

/// What the customer asks for; the face is always theirs.
#[derive(Clone)]
pub struct Ask {
    pub operation: proto::Operation,
    pub amount_minor: i64,
    pub currency: &'static str,
    pub account: String,
    pub reference: Reference,
    pub holder: proto::HolderVerification,
    pub bank: Option<proto::BankFacts>,
    pub face: &'static str,
    pub consent: Option<proto::Consent>,
}

impl Ask {
    pub fn new(operation: proto::Operation, amount_minor: i64, currency: &'static str) -> Self {
        Self {
            operation,
            amount_minor,
            currency,
            account: "account-token-1".into(),
            reference: Reference::CardToken(CARD.into()),
            holder: proto::HolderVerification::CardAndPin,
            bank: None,
            face: "obama2.jpg",
            consent: None,
        }
    }

    pub async fn decided(
        self,
        terminal: &mut VerificationServiceClient<Channel>,
        id: &str,
    ) -> proto::Decision {
        let mut request = begin(id, CARD);
        request.customer = Some(proto::CustomerReference { reference: Some(self.reference) });
        request.holder_verification = self.holder.into();
        request.bank = self.bank;
        request.consent = self.consent;
        let transaction = request.transaction.as_mut().unwrap();
        transaction.operation = self.operation.into();
        transaction.amount_minor = self.amount_minor;
        transaction.currency = self.currency.into();
        transaction.account_currency = self.currency.into();
        transaction.account = self.account;
        loop {
            let decided = match terminal.begin_capture(request.clone()).await {
                Ok(opened) => {
                    let challenge = opened.into_inner().challenge;
                    terminal.verify(verify(id, 1, &challenge, demo(self.face))).await
                }
                Err(status) => Err(status),
            };
            match decided {
                Ok(decision) => return decision.into_inner(),
                // Nothing was decided: the terminal waits and begins again.
                Err(status) => assert_eq!(crate::site::reason(&status), "SYS_OVERLOADED"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}

pub fn said(decision: &proto::Decision) -> (proto::Outcome, Vec<&str>) {
    (decision.outcome(), decision.reasons.iter().map(|reason| reason.code.as_str()).collect())
}

use proto::Outcome::{Approved, ApprovedCapped, Denied, Held, Inconclusive, StepUp};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_01_large_deposits_need_the_iin_and_the_app_however_they_are_split() {
    let mut bank = Bank::by("kz-2026").await;
    let deposit = |amount_minor| Ask::new(proto::Operation::Deposit, amount_minor, "KZT");
    let with_iin =
        |amount_minor| Ask { reference: Reference::Iin(IIN.into()), ..deposit(amount_minor) };
    // A withdrawal is no deposit, and does not count to one.
    let taken = Ask::new(proto::Operation::Withdrawal, 50_000_001, "KZT");
    bank.expect(taken, "T0", Approved, &[]).await;
    let first = bank.decide(deposit(30_000_000), "T1").await;
    assert_eq!(said(&first), (Approved, vec![]));
    bank.expect(deposit(20_000_001), "T2", Denied, &["POL_IIN_NEEDED"]).await;
    let over = bank.decide(with_iin(20_000_001), "T3").await;
    assert_eq!(said(&over), (StepUp, vec!["POL_STEP_UP"]));
    assert_eq!(over.step_up(), proto::StepUp::AppConfirmation);
    // What the terminal says of its customer's app is no confirmation.
    let app = Ask { holder: proto::HolderVerification::App, ..with_iin(20_000_001) };
    bank.expect(app, "T4", StepUp, &["POL_STEP_UP"]).await;
    // What was not approved did not move; 500,000 tenge in all are not above the threshold.
    bank.expect(deposit(20_000_000), "T5", Approved, &[]).await;
    bank.expect(with_iin(1), "T6", StepUp, &["POL_STEP_UP"]).await;
    // The terminal's word frees nothing; the host's does.
    let report = proto::ReportOutcomeRequest {
        business_date: "2026-11-21".into(),
        host_transaction_id: "T1".into(),
        attempt: 1,
        outcome: proto::CashOutcome::DepositedAndReturned.into(),
        dispensed_minor: 30_000_000,
        currency: "KZT".into(),
        footage: None,
    };
    bank.terminal.report_outcome(report).await.unwrap();
    bank.expect(with_iin(1), "T7", StepUp, &["POL_STEP_UP"]).await;
    bank.reverse(&first, "T1", 10_000_000, "KZT").await;
    bank.expect(with_iin(20_000_001), "T8", StepUp, &["POL_STEP_UP"]).await;
    bank.expect(deposit(20_000_000), "T9", Approved, &[]).await;
    // After 24 hours nothing of it counts, and a millisecond earlier all of it.
    bank.clock.advance_millis(24 * HOUR_MS - 60_000);
    bank.expect(with_iin(50_000_000), "T10", StepUp, &["POL_STEP_UP"]).await;
    bank.clock.advance_millis(60_000);
    bank.expect(deposit(50_000_000), "T11", Approved, &[]).await;
    bank.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_03_somebody_elses_account_and_its_owner() {
    // As it ships, the rule is off.
    let mut bank = Bank::by("kz-2026").await;
    let ask = || Ask {
        account: "owner-account".into(),
        ..Ask::new(proto::Operation::DepositThirdParty, 1_000_000, "KZT")
    };
    bank.expect(ask(), "T1", Approved, &[]).await;
    bank.finish().await;

    let switched = altered("kz-2026", "pack.toml", "in_force = false", "in_force = true");
    // Its cases say that the rule is off; one that holds all the same is enough here.
    let cases = switched.path().join("tests/kz-2026.toml");
    let text = std::fs::read_to_string(&cases).unwrap();
    let two = text.split("[[case]]").take(2).collect::<Vec<_>>().join("[[case]]");
    std::fs::write(cases, two).unwrap();
    let mut bank = Bank::new_by(switched.path(), 0).await;
    let with_iin = || Ask { reference: Reference::Iin(IIN.into()), ..ask() };
    bank.expect(with_iin(), "T1", Denied, &["POL_NOT_PERMITTED"]).await;
    bind(&bank, proto::TokenKind::Account, "owner-account").await;
    bank.expect(ask(), "T2", Denied, &["POL_NOT_PERMITTED"]).await;
    bank.expect(with_iin(), "T3", Approved, &[]).await;
    bank.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_08_one_face_and_many_terminals_are_held_and_social_payments_are_not() {
    let mut bank = Bank::with_others("kz-2026", 4).await;
    let ask = || Ask::new(proto::Operation::Withdrawal, 1_000, "KZT");
    let social = Some(proto::BankFacts { social_payment: true, ..Default::default() });
    let outcomes = [Approved, Approved, Approved, Held];
    for (terminal, outcome) in bank.others.iter_mut().zip(outcomes) {
        let decision = ask().decided(terminal, "T1").await;
        assert_eq!(decision.outcome(), outcome);
        if outcome == Held {
            assert_eq!(said(&decision), (Held, vec!["POL_HELD"]));
            assert!(decision.held_until.is_some());
            let paid = Ask { bank: social.clone(), ..ask() };
            assert_eq!(paid.decided(terminal, "T2").await.outcome(), Approved);
        }
    }
    // The hold lasts for working days, whatever comes of its first reason, and then lapses.
    bank.clock.advance_millis(HOUR_MS);
    bank.expect(ask(), "T3", Held, &["POL_HELD"]).await;
    bank.clock.advance_millis(14 * 24 * HOUR_MS);
    bank.expect(ask(), "T3b", Approved, &[]).await;

    // The same face under another number: both are held until a person has decided.
    let mut desk = EnrollmentServiceClient::new(bank.site.staff(Role::Admin).await);
    let other = second_enrollment(&mut desk).await;
    bank.expect(ask(), "T4", Held, &["POL_HELD"]).await;
    bank.expect(Ask { bank: social, ..ask() }, "T5", Approved, &[]).await;
    desk.resolve_duplicate(proto::ResolveDuplicateRequest {
        customer_id: other,
        resolution: proto::DuplicateResolution::DifferentPeople.into(),
    })
    .await
    .unwrap();
    bank.expect(ask(), "T6", Held, &["POL_HELD"]).await;
    bank.clock.advance_millis(14 * 24 * HOUR_MS);
    bank.expect(ask(), "T7", Approved, &[]).await;
    drop(desk);
    bank.finish().await;
}

/// Enrols the customer's face under another number, up to the point where a duplicate is suspected.
pub async fn second_enrollment(desk: &mut EnrollmentServiceClient<Channel>) -> String {
    let create = proto::CreateCustomerRequest {
        iin: "000000300029".into(),
        consent: Some(crate::site::consent()),
    };
    let customer_id = desk.create_customer(create).await.unwrap().into_inner().customer_id;
    let capture = proto::AddCaptureRequest {
        customer_id: customer_id.clone(),
        image: demo("obama2.jpg"),
        media_type: None,
        language: "en".into(),
        ..proto::AddCaptureRequest::default()
    };
    assert!(desk.add_capture(capture).await.unwrap().into_inner().accepted);
    let request = proto::ActivateRequest { customer_id: customer_id.clone() };
    let activated = desk.activate(request).await.unwrap().into_inner();
    assert_eq!(activated.status(), proto::CustomerStatus::PendingDuplicate);
    customer_id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_09_cards_of_one_person() {
    let mut bank = Bank::by("kz-2026").await;
    let ask = || Ask::new(proto::Operation::Withdrawal, 1_000, "KZT");
    let social = proto::BankFacts { social_payment: true, ..Default::default() };
    for number in 2..=11 {
        let (outcome, reasons): (_, &[&str]) = match number - 1 {
            ..=5 => (Approved, &[]),
            _ => (StepUp, &["POL_STEP_UP"]),
        };
        bank.expect(ask(), &format!("T{number}"), outcome, reasons).await;
        bind(&bank, proto::TokenKind::Card, &format!("card-token-{number}")).await;
    }
    bank.expect(ask(), "T12", Denied, &["POL_NOT_PERMITTED", "POL_STEP_UP"]).await;
    bank.expect(Ask { bank: Some(social), ..ask() }, "T13", Approved, &[]).await;
    bank.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_10_a_business_over_all_banks_in_a_month() {
    use proto::BusinessClass::{Large, Medium, Micro, Small};
    let mut bank = Bank::by("kz-2026").await;
    let now = bank.clock.now();
    let ask = |class: proto::BusinessClass, age_hours: i64, others: i64, amount_minor| Ask {
        account: format!("account-{}", class.as_str_name()),
        bank: Some(proto::BankFacts {
            business: class.into(),
            other_banks_month_minor: others,
            account_data_as_of: Some(now.plus_millis(-age_hours * HOUR_MS).rfc3339()),
            ..Default::default()
        }),
        ..Ask::new(proto::Operation::Withdrawal, amount_minor, "KZT")
    };
    for (class, limit) in
        [(Small, 2_000_000_000), (Medium, 12_000_000_000), (Large, 15_000_000_000)]
    {
        let name = class.as_str_name();
        let id = |what: &str| format!("{name}-{what}");
        bank.expect(ask(class, 23, limit - 1_000, 400), &id("under"), Approved, &[]).await;
        bank.expect(ask(class, 23, limit - 1_000, 601), &id("over"), Denied, &["LIM_MONTHLY_CAP"])
            .await;
        bank.expect(ask(class, 23, limit - 1_000, 600), &id("at"), Approved, &[]).await;
        bank.expect(ask(class, 23, limit - 1_000, 1), &id("full"), Denied, &["LIM_MONTHLY_CAP"])
            .await;
        bank.expect(ask(class, 24, 0, 1), &id("old"), Inconclusive, &["POL_DATA_MISSING"]).await;
        let mut without = ask(class, 0, 0, 1);
        without.bank.as_mut().unwrap().account_data_as_of = None;
        bank.expect(without, &id("none"), Inconclusive, &["POL_DATA_MISSING"]).await;
    }
    bank.expect(ask(Micro, 99, 90_000_000_000, 1_000), "micro", Approved, &[]).await;
    bank.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_11_is_off_until_a_bank_switches_it_on() {
    let pack = tulga::policy::PolicyPack::load(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/kz-2026"),
    )
    .unwrap();
    for id in ["KZ-03", "KZ-08.face_of_another", "KZ-11"] {
        let rule = pack.described().iter().find(|rule| rule.id.as_str() == id).unwrap();
        assert!(!rule.in_force && rule.legal_basis.is_some(), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_15_somebody_new_takes_little() {
    let pack = unsigned("kz-2026");
    let mut bank = Bank::new_by(pack.path(), 0).await;
    let ask = || Ask::new(proto::Operation::Withdrawal, 6_000_000, "KZT");
    for (id, left) in [("T1", 10_000_000), ("T2", 4_000_000)] {
        let capped = bank.decide(ask(), id).await;
        assert_eq!(said(&capped), (ApprovedCapped, vec!["LIM_DAILY_CAP"]));
        assert_eq!(capped.cap.unwrap().amount_minor, left);
    }
    bank.expect(ask(), "T2b", Denied, &["LIM_DAILY_CAP"]).await;
    bank.clock.advance_millis(48 * HOUR_MS - 60_000);
    bank.expect(ask(), "T2c", Denied, &["LIM_DAILY_CAP"]).await;
    bank.clock.advance_millis(60_000);
    bank.expect(ask(), "T3", Approved, &[]).await;
    bank.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ru_01_and_ru_02_one_sign_caps_the_day_for_48_hours() {
    use proto::RiskSign as Sign;
    let mut bank = Bank::by("ru-cbr-2025-09").await;
    let ask = |amount_minor| Ask::new(proto::Operation::Withdrawal, amount_minor, "RUB");
    let with = |sign: Sign, ask: Ask| Ask {
        bank: Some(proto::BankFacts { risk_signs: vec![sign.into()], ..Default::default() }),
        ..ask
    };
    bank.expect(ask(6_000_000), "T0", Approved, &[]).await;
    bank.clock.advance_millis(24 * HOUR_MS);
    let capped = bank.decide(with(Sign::UnusualTime, ask(6_000_000)), "T1").await;
    assert_eq!(said(&capped), (ApprovedCapped, vec!["LIM_DAILY_CAP"]));
    assert_eq!(capped.cap.as_ref().unwrap().amount_minor, 5_000_000);
    let until = bank.clock.now().plus_millis(48 * HOUR_MS);
    assert_eq!(capped.cap.unwrap().until.unwrap().unix_ms, until.get());
    // The day's cap is used up, though this time nobody sends a sign.
    bank.expect(ask(1), "T2", Denied, &["LIM_DAILY_CAP"]).await;
    let decision = bank
        .decide(
            with(Sign::UnusualTime, Ask { operation: proto::Operation::Deposit, ..ask(1) }),
            "T3",
        )
        .await;
    assert_eq!(decision.outcome(), Approved, "deposits stay open");
    // The next day: what is left of it, until just before the 48 hours are over.
    bank.clock.advance_millis(24 * HOUR_MS);
    let next = bank.decide(ask(4_000_000), "T4").await;
    assert_eq!(said(&next), (ApprovedCapped, vec!["LIM_DAILY_CAP"]));
    assert_eq!(next.cap.unwrap().until.unwrap().unix_ms, until.get(), "it does not grow longer");
    let rest = bank.decide(ask(4_000_000), "T5").await;
    assert_eq!(rest.cap.unwrap().amount_minor, 1_000_000);
    bank.clock.advance_millis(24 * HOUR_MS - 60_000);
    bank.expect(ask(1), "T6", ApprovedCapped, &["LIM_DAILY_CAP"]).await;
    bank.clock.advance_millis(60_000);
    bank.expect(ask(6_000_000), "T7", Approved, &[]).await;
    bank.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ru_01_each_sign_is_enough_and_five_failures_are_one() {
    let signs = (1..=10).map(|number| proto::RiskSign::try_from(number).unwrap());
    let mut bank = Bank::by("ru-cbr-2025-09").await;
    let ask = |face| Ask { face, ..Ask::new(proto::Operation::Withdrawal, 1, "RUB") };
    // Four failures are none, and the fifth is.
    for number in 1..=5 {
        bank.expect(ask("obama2.jpg"), &format!("T{number}"), Approved, &[]).await;
        bank.expect(ask("biden.jpg"), &format!("F{number}"), Denied, &["MAT_NOT_CONFIRMED"]).await;
    }
    bank.expect(ask("obama2.jpg"), "T6", ApprovedCapped, &["LIM_DAILY_CAP"]).await;
    for sign in signs {
        bank.clock.advance_millis(49 * HOUR_MS);
        let name = sign.as_str_name();
        bank.expect(ask("obama2.jpg"), &format!("none-{name}"), Approved, &[]).await;
        let told = Some(proto::BankFacts { risk_signs: vec![sign.into()], ..Default::default() });
        let told = Ask { bank: told, ..ask("obama2.jpg") };
        bank.expect(told.clone(), name, ApprovedCapped, &["LIM_DAILY_CAP"]).await;
        let deposit = Ask { operation: proto::Operation::Deposit, ..told };
        let (outcome, reasons): (_, &[&str]) = match sign {
            proto::RiskSign::TokenCard => (Denied, &["POL_NOT_PERMITTED"]),
            _ => (Approved, &[]),
        };
        bank.expect(deposit, &format!("deposit-{name}"), outcome, reasons).await;
    }
    bank.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_01_and_in_02_an_amount_and_a_count_at_each_terminal() {
    let mut bank = Bank::with_others("in-aeps", 1).await;
    let withdraw = |amount_minor| Ask::new(proto::Operation::Withdrawal, amount_minor, "INR");
    bank.expect(withdraw(1_000_001), "T0", Denied, &["POL_AMOUNT"]).await;
    let mut last = None;
    for number in 1..=5 {
        let decision = bank.decide(withdraw(1_000_000), &format!("T{number}")).await;
        assert_eq!(said(&decision), (Approved, vec![]), "{number}");
        last = Some(decision);
    }
    bank.expect(withdraw(1), "T6", Denied, &["LIM_DAILY_CAP"]).await;
    let elsewhere = withdraw(1).decided(&mut bank.others[0], "T7").await;
    assert_eq!(said(&elsewhere), (Approved, vec![]));
    // What the host reverses in full was no withdrawal.
    bank.reverse(&last.unwrap(), "T5", 0, "INR").await;
    bank.expect(withdraw(1), "T8", Approved, &[]).await;
    bank.expect(withdraw(1), "T9", Denied, &["LIM_DAILY_CAP"]).await;
    // The bank's next day.
    bank.clock.advance_millis(24 * HOUR_MS);
    bank.expect(withdraw(1), "T10", Approved, &[]).await;
    bank.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_03_five_tries_and_no_sixth() {
    let mut bank = Bank::by("in-aeps").await;
    let mut decided = async |attempt: u32, face: &str| {
        let mut request = begin("T1", CARD);
        let transaction = request.transaction.as_mut().unwrap();
        (transaction.currency, transaction.account_currency) = ("INR".into(), "INR".into());
        transaction.amount_minor = 1_000;
        let opened = bank.terminal.begin_capture(request).await.unwrap().into_inner();
        let asked = verify("T1", attempt, &opened.challenge, demo(face));
        bank.terminal.verify(asked).await.unwrap().into_inner()
    };
    for attempt in 1..=5 {
        let decision = decided(attempt, "biden.jpg").await;
        assert_eq!(said(&decision), (Denied, vec!["MAT_NOT_CONFIRMED"]));
        assert_eq!(decision.attempts_left, 5 - attempt);
    }
    let sixth = decided(6, "obama2.jpg").await;
    assert_eq!(said(&sixth), (Denied, vec!["MAT_NOT_CONFIRMED", "LIM_ATTEMPTS"]));
    bank.finish().await;
}

/// Two withdrawals at two terminals never together pass a cap, and no more do sixty-four.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_holds_when_64_terminals_ask_at_one_moment() {
    const TERMINALS: usize = 64;
    let mut bank = Bank::with_others("kz-2026", TERMINALS).await;
    let terminals = std::mem::take(&mut bank.others);
    // Seven of these pass 500,000 tenge; six do not.
    let asked = terminals.into_iter().enumerate().map(|(number, mut terminal)| {
        tokio::spawn(async move {
            let ask = Ask::new(proto::Operation::Deposit, 8_000_000, "KZT");
            ask.decided(&mut terminal, &format!("C{number}")).await
        })
    });
    let asked: Vec<_> = asked.collect();
    let mut approved = 0;
    for decision in asked {
        let decision = decision.await.unwrap();
        match decision.outcome() {
            Approved => approved += 1,
            outcome => assert_eq!(outcome, Denied),
        }
    }
    assert_eq!(approved, 6);
    bank.finish().await;
}

pub async fn bind(bank: &Bank, kind: proto::TokenKind, token: &str) {
    let mut desk = EnrollmentServiceClient::new(bank.site.staff(Role::Enroller).await);
    desk.bind_token(proto::BindTokenRequest {
        customer_id: bank.customer.clone(),
        kind: kind.into(),
        token: token.into(),
        expires_at: None,
    })
    .await
    .unwrap();
}

/// A copy of a pack that takes unsigned captures: what its rules say is tested apart from who signs, and
/// `envelope` has the packs as they ship.
pub fn unsigned(pack: &str) -> tempfile::TempDir {
    altered(pack, "pack.toml", "id = ", "id = ")
}

/// A copy of a pack with a text in one of its files replaced, which takes unsigned captures.
pub fn altered(pack: &str, file: &str, from: &str, to: &str) -> tempfile::TempDir {
    let from_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies").join(pack);
    let dir = tempfile::tempdir().unwrap();
    for folder in ["", "tests"] {
        std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        for entry in std::fs::read_dir(from_dir.join(folder)).unwrap() {
            let entry = entry.unwrap();
            if entry.path().is_file() {
                std::fs::copy(entry.path(), dir.path().join(folder).join(entry.file_name()))
                    .unwrap();
            }
        }
    }
    if pack != "dev" {
        replace(dir.path(), "pack.toml", SIGNED, UNSIGNED);
    }
    replace(dir.path(), file, from, to);
    dir
}

/// What the shipped packs of countries want of captures, and what `dev` does.
pub const SIGNED: &str = "capture_signed = \"software_key\"";
pub const UNSIGNED: &str = "capture_signed = \"none\"";

pub fn replace(dir: &Path, file: &str, from: &str, to: &str) {
    let path = dir.join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from:?}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}
