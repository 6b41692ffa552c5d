//! A fault at each step of the failure that locks: it is locked once, and told of once.

use super::*;
use crate::faults::FAULTS;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_at_any_step_of_a_lock_leaves_it_done_once() {
    let mut struck = 0;
    for fault in FAULTS {
        for step in 0.. {
            // Of a card that leads to nobody: their failures are counted and locked as a customer's are.
            let rig = Rig::looking(pack("lock_after_failures = 1", ""), PIPELINE.clone()).await;
            let customer = CustomerId::new([1; 16]);
            let bank = Bank { rig, customer, transactions: 0.into() };
            let challenge = bank.rig.begin("T").await.unwrap();
            bank.rig.store.fail_after(step, fault);
            let first = bank.rig.verify("T", challenge, demo(WRONG)).await;
            if !bank.rig.store.script_is_done() {
                first.unwrap();
                break;
            }
            struck += 1;
            let at = format!("{fault:?} at {step}");
            match bank.rig.verify("T", challenge, demo(WRONG)).await {
                Ok(answer) => assert_eq!(answer.outcome, Outcome::Denied, "{at}"),
                Err(GatewayError::Stale) => assert!(first.is_err(), "{at}"),
                Err(error) => panic!("{at}: {error:?}"),
            }
            // The clerk enters what is not entered yet.
            bank.rig.gateway().enter_locks().await.unwrap();
            let before = bank.count_of("biometric_locked").await;
            let next = bank.shows(&Shown::face(WRONG)).await.unwrap();
            let reasons = bank.reasons(&next).await;
            bank.rig.gateway().enter_locks().await.unwrap();
            let locked = bank.count_of("biometric_locked").await;
            if before == 1 {
                assert!(reasons.contains(&"SUB_LOCKED".to_owned()), "{at}: {reasons:?}");
                assert_eq!(locked, 1, "{at}");
            } else {
                // Refunded, and so the next failure locked; or lost for good, and so nothing was compared.
                let was_blocked = reasons.contains(&"SUB_LOCKED".to_owned());
                assert_eq!(locked, usize::from(!was_blocked), "{at}: {reasons:?}");
            }
            bank.rig.audited().await;
        }
    }
    assert!(struck >= 20, "only {struck} faults struck");
}
