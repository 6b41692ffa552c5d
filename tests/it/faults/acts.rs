//! Every store operation fails, "persisted" and "not persisted", under acts of several kinds: who asked
//! is told the truth or to ask again, and the ledger verifies.

use std::collections::BTreeMap;
use std::sync::Arc;

use tulga::crypto::Digest;
use tulga::domain::decision::Outcome;
use tulga::domain::four_eyes::{ProposalState, StaffRole, TwoPersonAct};
use tulga::domain::id::{Attempt, PrincipalName, UnitName};
use tulga::domain::money::Currency;
use tulga::domain::transaction::CashOutcome;
use tulga::gateway::request::{Actor, Answer, ReportOutcome};
use tulga::gateway::{Acted, EntryFilter, Gateway, GatewayError, NewPrincipal};

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

fn administrator(name: &str, key: u8) -> Actor {
    let name = PrincipalName::try_from(name).unwrap();
    Actor { role: "admin", name, spki: Digest::new([key; 32]) }
}

/// Every fault at every step of an approval: the act is done and its proposal closed, or neither, and asking
/// again tells or does it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_at_every_step_of_an_approval_leaves_it_done_once_or_waiting() {
    let mut struck = 0;
    for fault in FAULTS {
        for step in 0.. {
            let rig = Rig::new().await;
            let gateway = rig.gateway();
            let (one, two) = (administrator("one", 21), administrator("two", 22));
            rig.pin(&[&one, &two]).await;
            let new = NewPrincipal {
                role: StaffRole::Auditor,
                name: PrincipalName::try_from("new").unwrap(),
                unit: UnitName::try_from("branch").unwrap(),
                spki: Digest::new([23; 32]),
            };
            let id = gateway.propose_principal(&one, new.clone()).await.unwrap().row.id;
            let before = size(&rig).await;
            rig.store.fail_after(step, fault);
            let first = gateway.approve_proposal(&two, &id).await;
            if !rig.store.script_is_done() {
                first.unwrap();
                break;
            }
            struck += 1;
            let at = format!("{fault:?} at {step}");
            let (state, row) = (
                gateway.proposal(&id).await.unwrap().state,
                gateway
                    .principals(None, 10)
                    .await
                    .unwrap()
                    .into_iter()
                    .any(|row| row.spki == new.spki),
            );
            assert_eq!(state == ProposalState::Done, row, "{at}: half done");
            assert_eq!(size(&rig).await, before + usize::from(row), "{at}: its entry");
            let again = gateway.approve_proposal(&two, &id).await;
            match (&first, row, &again) {
                (Ok(_) | Err(GatewayError::Store(_)), true, Err(GatewayError::State(_)))
                | (Err(GatewayError::Store(_)), false, Ok(_)) => {}
                other => panic!("{at}: {other:?}"),
            }
            assert_eq!(gateway.proposal(&id).await.unwrap().state, ProposalState::Done, "{at}");
            assert_eq!(size(&rig).await, before + 1, "{at}: one act, one entry");
            assert!(gateway.admits_person(new.role, &new.name, &new.spki).await.unwrap(), "{at}");
            rig.audited().await;
        }
    }
    assert!(struck >= 15, "only {struck} faults struck");
}

/// Whatever fails under an erasure that a second person approves: once it is done, asking again remembers it
/// outside the store, or a backup would bring the customer back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_at_every_step_of_an_agreed_erasure_is_made_good_by_asking_again() {
    let mut struck = 0;
    for fault in FAULTS {
        for step in 0.. {
            let mut rig = Rig::new().await;
            rig.two_person_acts.insert(TwoPersonAct::Erasure);
            rig.restart().await;
            let gateway = rig.gateway();
            let (one, two) = (administrator("one", 21), administrator("two", 22));
            rig.pin(&[&one, &two]).await;
            let customer = rig.enrol().await;
            let Acted::Waits(waits) = gateway.erase(&one, &customer).await.unwrap() else {
                panic!("it takes two")
            };
            let id = waits.row.id;
            rig.store.fail_after(step, fault);
            let first = gateway.approve_proposal(&two, &id).await;
            if !rig.store.script_is_done() {
                first.unwrap();
                break;
            }
            struck += 1;
            let at = format!("{fault:?} at {step}");
            let again = gateway.approve_proposal(&two, &id).await;
            assert!(first.is_ok() || again.is_ok() || matches!(again, Err(GatewayError::State(_))));
            let state = gateway.proposal(&id).await.unwrap().state;
            assert_eq!(state, ProposalState::Done, "{at}: {first:?}, {again:?}");
            assert_eq!(rig.erased.lock().unwrap().len(), 1, "{at}: {first:?}, {again:?}");
            rig.audited().await;
        }
    }
    assert!(struck >= 15, "only {struck} faults struck");
}

async fn size(rig: &Rig) -> usize {
    rig.gateway().entries(0, &EntryFilter::default(), 1000).await.unwrap().len()
}
