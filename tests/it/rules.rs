//! The packs' rules through the API: just under, at, and just over each number.

use std::path::Path;

use tonic::transport::Channel;
use tulga::proto;
use tulga::proto::customer_reference::Reference;
use tulga::proto::verification_service_client::VerificationServiceClient;

use crate::site::{Site, begin, demo, verify};

const IIN: &str = "000000300017";
const CARD: &str = "card-token-1";

type Terminal = VerificationServiceClient<Channel>;

async fn site_by(pack: &str) -> Site {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies").join(pack);
    let more =
        format!("policy_dir = '{}'\n[rate]\nper_terminal_per_minute = 10000\n", dir.display());
    let site = Site::with(&more).await;
    site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    site
}

/// What the customer asks for; the face is always theirs.
struct Ask {
    operation: proto::Operation,
    amount_minor: i64,
    currency: &'static str,
    reference: Reference,
    holder: proto::HolderVerification,
}

impl Ask {
    fn new(operation: proto::Operation, amount_minor: i64, currency: &'static str) -> Self {
        let reference = Reference::CardToken(CARD.into());
        let holder = proto::HolderVerification::CardAndPin;
        Self { operation, amount_minor, currency, reference, holder }
    }

    async fn decided(self, terminal: &mut Terminal, id: &str) -> proto::Decision {
        let mut request = begin(id, CARD);
        request.customer = Some(proto::CustomerReference { reference: Some(self.reference) });
        request.holder_verification = self.holder.into();
        let transaction = request.transaction.as_mut().unwrap();
        transaction.operation = self.operation.into();
        transaction.amount_minor = self.amount_minor;
        transaction.currency = self.currency.into();
        transaction.account_currency = self.currency.into();
        let opened = terminal.begin_capture(request).await.unwrap().into_inner();
        let asked = verify(id, 1, &opened.challenge, demo("obama2.jpg"));
        terminal.verify(asked).await.unwrap().into_inner()
    }
}

fn said(decision: &proto::Decision) -> (proto::Outcome, Vec<&str>) {
    (decision.outcome(), decision.reasons.iter().map(|reason| reason.code.as_str()).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_01_large_deposits_are_confirmed_however_they_are_split() {
    let site = site_by("kz-2026").await;
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let deposit = |amount_minor| Ask::new(proto::Operation::Deposit, amount_minor, "KZT");
    // A withdrawal is no deposit, and does not count to one.
    let taken = Ask::new(proto::Operation::Withdrawal, 50_000_001, "KZT");
    assert_eq!(taken.decided(&mut terminal, "T0").await.outcome(), proto::Outcome::Approved);
    let first = deposit(30_000_000).decided(&mut terminal, "T1").await;
    assert_eq!(said(&first), (proto::Outcome::Approved, vec![]));
    let over = deposit(20_000_001).decided(&mut terminal, "T2").await;
    assert_eq!(said(&over), (proto::Outcome::StepUp, vec!["POL_STEP_UP"]));
    assert_eq!(over.step_up(), proto::StepUp::AppConfirmation);
    // What was not approved did not move; 500,000 tenge in all are not above the threshold.
    let at = deposit(20_000_000).decided(&mut terminal, "T3").await;
    assert_eq!(said(&at), (proto::Outcome::Approved, vec![]));
    let over = deposit(1).decided(&mut terminal, "T4").await;
    assert_eq!(over.outcome(), proto::Outcome::StepUp);
    // With the IIN and the app, and with either alone.
    for (id, reference, holder, outcome) in [
        (
            "T5",
            Reference::Iin(IIN.into()),
            proto::HolderVerification::App,
            proto::Outcome::Approved,
        ),
        (
            "T6",
            Reference::Iin(IIN.into()),
            proto::HolderVerification::CardAndPin,
            proto::Outcome::StepUp,
        ),
        (
            "T7",
            Reference::CardToken(CARD.into()),
            proto::HolderVerification::App,
            proto::Outcome::StepUp,
        ),
    ] {
        let ask = Ask { reference, holder, ..deposit(1) };
        assert_eq!(ask.decided(&mut terminal, id).await.outcome(), outcome, "{id}");
    }
    // A deposit that was given back frees what it took.
    for (id, minor) in [("T1", 30_000_000), ("T5", 1)] {
        let report = proto::ReportOutcomeRequest {
            business_date: "2026-11-21".into(),
            host_transaction_id: id.into(),
            attempt: 1,
            outcome: proto::CashOutcome::DepositedAndReturned.into(),
            dispensed_minor: minor,
            currency: "KZT".into(),
        };
        terminal.report_outcome(report).await.unwrap();
    }
    let freed = deposit(30_000_000).decided(&mut terminal, "T8").await;
    assert_eq!(said(&freed), (proto::Outcome::Approved, vec![]));
    drop(terminal);
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_01_and_in_02_an_amount_and_a_count_at_each_terminal() {
    let site = site_by("in-aeps").await;
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let mut other = VerificationServiceClient::new(site.terminal("ATM-2").await);
    let withdraw = |amount_minor| Ask::new(proto::Operation::Withdrawal, amount_minor, "INR");
    let over = withdraw(1_000_001).decided(&mut terminal, "T0").await;
    assert_eq!(said(&over), (proto::Outcome::Denied, vec!["POL_AMOUNT"]));
    for number in 1..=5 {
        let id = format!("T{number}");
        let at = withdraw(1_000_000).decided(&mut terminal, &id).await;
        assert_eq!(said(&at), (proto::Outcome::Approved, vec![]), "{id}");
    }
    let sixth = withdraw(1).decided(&mut terminal, "T6").await;
    assert_eq!(said(&sixth), (proto::Outcome::Denied, vec!["LIM_DAILY_CAP"]));
    let elsewhere = withdraw(1).decided(&mut other, "T7").await;
    assert_eq!(said(&elsewhere), (proto::Outcome::Approved, vec![]));
    // What was not dispensed was no withdrawal; what nobody knows was one.
    for (outcome, expected) in [
        (proto::CashOutcome::NotDispensed, proto::Outcome::Approved),
        (proto::CashOutcome::Unknown, proto::Outcome::Denied),
    ] {
        let report = proto::ReportOutcomeRequest {
            business_date: "2026-11-21".into(),
            host_transaction_id: "T5".into(),
            attempt: 1,
            outcome: outcome.into(),
            dispensed_minor: 0,
            currency: "INR".into(),
        };
        terminal.report_outcome(report).await.unwrap();
        let id = format!("after-{}", outcome.as_str_name());
        let again = withdraw(1).decided(&mut terminal, &id).await;
        assert_eq!(again.outcome(), expected, "{id}");
    }
    drop((terminal, other));
    site.finish().await;
}
