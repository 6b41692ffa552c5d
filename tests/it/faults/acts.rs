//! Every store operation fails, "persisted" and "not persisted", under acts of several kinds: who asked
//! is told the truth or to ask again, and the ledger verifies.

use std::collections::BTreeMap;
use std::sync::Arc;

use tulga::domain::decision::Outcome;
use tulga::domain::id::Attempt;
use tulga::domain::money::Currency;
use tulga::domain::transaction::CashOutcome;
use tulga::gateway::request::{Answer, ReportOutcome};
use tulga::gateway::{EntryFilter, Gateway, GatewayError};

use super::{FAULTS, Rig, business_date, demo, enroller, terminal};

/// An act that may be asked for again, and in the end stands in the ledger once.
#[derive(Clone, Copy, Debug)]
enum Act {
    Suspend,
    Redeem,
    ReportOutcome,
}

impl Act {
    const ALL: [Self; 3] = [Self::Suspend, Self::Redeem, Self::ReportOutcome];

    async fn ask(self, rig: &Rig, paid: &Answer) -> Result<Vec<String>, GatewayError> {
        let gateway: &Arc<Gateway> = rig.gateway();
        match self {
            Self::Suspend => {
                let customer = gateway.customers(None, 1).await?.pop().unwrap().id;
                gateway.suspend(&enroller(), &customer).await?;
                Ok(Vec::new())
            }
            Self::Redeem => {
                rig.redeem("T1", paid).await?;
                Ok(Vec::new())
            }
            Self::ReportOutcome => {
                let report = ReportOutcome {
                    host_id: tulga::domain::id::HostTransactionId::try_from("T1").unwrap(),
                    business_date: business_date(),
                    attempt: Attempt::try_from(1).unwrap(),
                    outcome: CashOutcome::Taken,
                    dispensed_minor: 5_000_000,
                    currency: Currency::try_from("KZT").unwrap(),
                    footage: None,
                };
                let reported = gateway.report_outcome(&terminal(), report).await?;
                Ok(vec![reported.receipt.jws().to_owned()])
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_at_every_step_of_an_act_leaves_it_done_once() {
    let mut table: BTreeMap<String, (u32, u32, u32)> = BTreeMap::new();
    for act in Act::ALL {
        for fault in FAULTS {
            for step in 0.. {
                let rig = Rig::with_customer().await;
                let challenge = rig.begin("T1").await.unwrap();
                let paid = rig.verify("T1", challenge, demo("obama2.jpg")).await.unwrap();
                assert_eq!(paid.outcome, Outcome::Approved);
                let before = size(&rig).await;
                rig.store.fail_after(step, fault);
                let first = act.ask(&rig, &paid).await;
                if !rig.store.script_is_done() {
                    first.unwrap();
                    break;
                }
                let at = format!("{act:?}, {fault:?} at {step}");
                let row = table.entry(format!("{act:?}, {fault:?}")).or_default();
                row.0 += 1;
                let again = act.ask(&rig, &paid).await;
                match (&first, &again) {
                    // Done at once: asked again, it is found, or cannot be done twice.
                    (Ok(held), Ok(found)) => {
                        row.1 += 1;
                        assert_eq!(held, found, "{at}");
                    }
                    (Ok(_), Err(GatewayError::State(_))) => row.1 += 1,
                    // Nobody knows what became of it: UNAVAILABLE, and the repeat tells.
                    (Err(GatewayError::Store(_)), Ok(_) | Err(GatewayError::State(_))) => {
                        row.2 += 1;
                    }
                    other => panic!("{at}: {other:?}"),
                }
                assert_eq!(size(&rig).await, before + 1, "{at}: one act, one entry");
                for jws in first.into_iter().chain(again).flatten() {
                    let entries =
                        rig.gateway().entries(0, &EntryFilter::default(), 1000).await.unwrap();
                    assert!(
                        entries.iter().any(|entry| entry.jws == jws),
                        "{at}: a receipt is lost"
                    );
                }
                rig.audited().await;
            }
        }
    }
    println!("| act, fault | steps struck | answered | UNAVAILABLE |");
    println!("| --- | --- | --- | --- |");
    for (what, (struck, answered, unavailable)) in &table {
        println!("| {what} | {struck} | {answered} | {unavailable} |");
    }
    let struck: u32 = table.values().map(|row| row.0).sum();
    assert!(struck >= 30, "only {struck} faults struck");
}

async fn size(rig: &Rig) -> usize {
    rig.gateway().entries(0, &EntryFilter::default(), 1000).await.unwrap().len()
}
