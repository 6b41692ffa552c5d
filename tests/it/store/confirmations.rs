//! Confirmations, device keys, final decisions, terminals' places.

use tulga::domain::id::{Attempt, ConfirmationId, PrincipalName};
use tulga::domain::money::Currency;
use tulga::domain::time::UnixMillis;
use tulga::domain::transaction::CashOutcome;
use tulga::store::{
    AnswerKind, AppKeyRow, ConfirmationAnswer, ConfirmationRow, OutcomeRow, PendingOf, Store,
    StoreError, TellerProposal, UnableRow,
};

use super::fixtures::{add_customer, customer_id, decision, digest, receipt, terminal, write};

fn id(number: u8) -> ConfirmationId {
    ConfirmationId::new([number; 16])
}

fn attempt(number: u32) -> Attempt {
    Attempt::try_from(number).unwrap()
}

/// The confirmation that the first attempt of a transaction asks for.
pub fn confirmation(number: u8, of: u8) -> ConfirmationRow {
    ConfirmationRow {
        id: id(number),
        customer: customer_id(of),
        key: decision(&number.to_string(), 1).key,
        receipt: receipt(number),
        index: u64::from(number),
        sealed: vec![number; 30],
        created_at: UnixMillis::new(i64::from(number)),
        expires_at: UnixMillis::new(i64::from(number) + 100),
        proposal: None,
        answer: None,
        settled_by: None,
    }
}

fn answer(kind: AnswerKind) -> ConfirmationAnswer {
    let is_signed = kind == AnswerKind::CustomerKey;
    ConfirmationAnswer {
        kind,
        at: UnixMillis::new(50),
        counts_until: UnixMillis::new(150),
        receipt: receipt(99),
        index: 40,
        app_key: is_signed.then(|| digest(7)),
        signature: if is_signed { vec![8; 64] } else { Vec::new() },
    }
}

async fn add(store: &dyn Store, rows: &[ConfirmationRow]) {
    write(store, async |unit| {
        for row in rows {
            unit.insert_confirmation(row).await?;
        }
        Ok(())
    })
    .await
    .unwrap();
}

pub async fn a_confirmation_is_asked_for_once_answered_once_and_settled_once(store: &dyn Store) {
    add_customer(store, 1).await;
    let row = confirmation(3, 1);
    add(store, std::slice::from_ref(&row)).await;
    assert_eq!(store.confirmation(&id(3)).await.unwrap(), Some(row.clone()));
    assert_eq!(store.confirmation_of(&row.key).await.unwrap(), Some(row.clone()));
    assert_eq!(store.confirmation(&id(4)).await.unwrap(), None);
    assert_eq!(store.confirmation_of(&decision("3", 2).key).await.unwrap(), None);
    // Its decision asks for no other.
    let second = ConfirmationRow { id: id(4), ..row.clone() };
    let twice = write(store, async |unit| unit.insert_confirmation(&second).await).await;
    assert!(matches!(twice, Err(StoreError::Exists)), "{twice:?}");
    for (kind, first) in [(AnswerKind::CustomerKey, true), (AnswerKind::Declined, false)] {
        let given = answer(kind);
        let taken = write(store, async |unit| unit.answer_confirmation(&id(3), &given).await).await;
        assert_eq!(taken.unwrap(), first, "{kind:?}");
    }
    let expected = ConfirmationRow { answer: Some(answer(AnswerKind::CustomerKey)), ..row.clone() };
    assert_eq!(store.confirmation(&id(3)).await.unwrap(), Some(expected.clone()));
    for (number, first) in [(2, true), (3, false)] {
        let settle = async |unit: &mut dyn tulga::store::UnitOfWork| {
            unit.settle_confirmation(&id(3), attempt(number)).await
        };
        assert_eq!(write(store, settle).await.unwrap(), first);
    }
    let expected = ConfirmationRow { settled_by: Some(attempt(2)), ..expected };
    let inside = write(store, async |unit| unit.confirmation(&id(3)).await).await.unwrap();
    assert_eq!(inside, Some(expected));
    let given = answer(AnswerKind::BackEnd);
    let unknown = write(store, async |unit| unit.answer_confirmation(&id(9), &given).await).await;
    assert!(!unknown.unwrap());
}

pub async fn a_tellers_word_is_replaced_until_there_is_an_answer(store: &dyn Store) {
    add_customer(store, 1).await;
    let row = confirmation(3, 1);
    add(store, std::slice::from_ref(&row)).await;
    let word = |number: u8| TellerProposal {
        by: PrincipalName::try_from(format!("desk-{number}").as_str()).unwrap(),
        key: digest(number),
        sealed: vec![number; 30],
        at: UnixMillis::new(i64::from(number)),
        index: u64::from(number),
    };
    let propose = async |of: u8, number: u8| {
        let (id, proposal) = (id(of), word(number));
        write(store, async |unit| unit.propose_confirmation(&id, &proposal).await).await.unwrap()
    };
    for number in [5, 6] {
        assert!(propose(3, number).await);
        let expected = ConfirmationRow { proposal: Some(word(number)), ..row.clone() };
        assert_eq!(store.confirmation(&id(3)).await.unwrap(), Some(expected));
    }
    assert!(!propose(4, 5).await, "an unknown one");
    let given = answer(AnswerKind::TwoTellers);
    let taken = write(store, async |unit| unit.answer_confirmation(&id(3), &given).await).await;
    assert!(taken.unwrap());
    assert!(!propose(3, 7).await, "an answered one");
    let expected = ConfirmationRow { proposal: Some(word(6)), answer: Some(given), ..row.clone() };
    assert_eq!(store.confirmation(&id(3)).await.unwrap(), Some(expected));
    // One that ended without an answer.
    let settled = confirmation(8, 1);
    add(store, std::slice::from_ref(&settled)).await;
    write(store, async |unit| unit.settle_confirmation(&id(8), attempt(1)).await).await.unwrap();
    assert!(!propose(8, 5).await, "a settled one");
}

pub async fn what_waits_comes_in_the_order_of_the_ledger_until_its_time_is_over(store: &dyn Store) {
    for number in 1..=2 {
        add_customer(store, number).await;
    }
    add(store, &[confirmation(5, 1), confirmation(3, 2), confirmation(4, 1), confirmation(6, 1)])
        .await;
    let given = answer(AnswerKind::Declined);
    write(store, async |unit| {
        unit.answer_confirmation(&id(6), &given).await?;
        Ok(())
    })
    .await
    .unwrap();
    let one = customer_id(1);
    let (here, elsewhere) = (terminal("ATM-1"), terminal("ATM-2"));
    for (of, after, now, limit, expected) in [
        (PendingOf::Anybody, 0, 50, 9, &[3, 4, 5][..]),
        (PendingOf::Anybody, 3, 50, 9, &[4, 5]),
        (PendingOf::Anybody, 0, 50, 2, &[3, 4]),
        (PendingOf::Customer(&one), 0, 50, 9, &[4, 5]),
        (PendingOf::Terminal(&here), 0, 50, 9, &[3, 4, 5]),
        (PendingOf::Terminal(&here), 3, 50, 1, &[4]),
        (PendingOf::Terminal(&elsewhere), 0, 50, 9, &[]),
        // The last instant counts.
        (PendingOf::Anybody, 0, 103, 9, &[3, 4, 5]),
        (PendingOf::Anybody, 0, 104, 9, &[4, 5]),
        (PendingOf::Anybody, 5, 50, 9, &[]),
    ] {
        let now = UnixMillis::new(now);
        let rows = store.pending_confirmations(of, after, now, limit).await.unwrap();
        let found: Vec<_> = rows.iter().map(|row| row.index).collect();
        assert_eq!(found, expected, "{of:?} after {after} at {now:?}");
    }
    // Of one transaction, whatever the attempt.
    let mut later = confirmation(8, 1);
    later.key = decision("5", 2).key;
    add(store, &[later]).await;
    let key = decision("5", 3).key;
    let rows = write(store, async |unit| unit.confirmations_of_transaction(&key).await).await;
    assert_eq!(rows.unwrap().iter().map(|row| row.index).collect::<Vec<_>>(), [5, 8]);
    let before = UnixMillis::new(5);
    let deleted = write(store, async |unit| unit.delete_confirmations(before).await).await;
    assert_eq!(deleted.unwrap(), 2);
    assert!(store.confirmation(&id(4)).await.unwrap().is_none());
    assert!(store.confirmation(&id(5)).await.unwrap().is_some());
}

pub async fn a_final_decision_stands_beside_the_first_and_counts_as_an_approval(store: &dyn Store) {
    let first = decision("1", 1);
    let mut last = decision("1", 1);
    (last.approves, last.index, last.sealed_answer) = (true, 30, vec![9]);
    write(store, async |unit| unit.insert_decision(&first).await).await.unwrap();
    let row = OutcomeRow {
        key: first.key.clone(),
        outcome: CashOutcome::NotDispensed,
        dispensed_minor: 0,
        currency: Currency::try_from("KZT").unwrap(),
        index: 20,
    };
    write(store, async |unit| unit.put_outcome(&row).await).await.unwrap();
    assert_eq!(store.final_decision(&first.key).await.unwrap(), None);
    write(store, async |unit| unit.insert_final_decision(&last).await).await.unwrap();
    assert_eq!(store.decision(&first.key).await.unwrap(), Some(first.clone()));
    assert_eq!(store.final_decision(&first.key).await.unwrap(), Some(last.clone()));
    // What was reported was about the first.
    assert_eq!(store.outcome(&first.key).await.unwrap(), None);
    let twice = write(store, async |unit| unit.insert_final_decision(&last).await).await;
    assert!(matches!(twice, Err(StoreError::Exists)), "{twice:?}");
    for (host, expected) in [("1", true), ("2", false)] {
        let key = decision(host, 7).key;
        let found = write(store, async |unit| unit.has_approval(&key).await).await;
        assert_eq!(found.unwrap(), expected, "{host}");
    }
    let inside = write(store, async |unit| unit.final_decision(&first.key).await).await;
    assert_eq!(inside.unwrap(), Some(last));
}

pub async fn a_device_key_is_one_customers_and_goes_with_them(store: &dyn Store) {
    for number in 1..=2 {
        add_customer(store, number).await;
    }
    let key = |number: u8, of: u8| AppKeyRow {
        fingerprint: digest(number),
        customer: customer_id(of),
        spki: vec![number; 44],
        bound_at: UnixMillis::new(i64::from(100 - number)),
    };
    for row in [key(1, 1), key(2, 1), key(3, 2)] {
        write(store, async |unit| unit.insert_app_key(&row).await).await.unwrap();
    }
    let taken = write(store, async |unit| unit.insert_app_key(&key(1, 2)).await).await;
    assert!(matches!(taken, Err(StoreError::Exists)), "{taken:?}");
    let nobodys = write(store, async |unit| unit.insert_app_key(&key(9, 9)).await).await;
    assert!(matches!(nobodys, Err(StoreError::Inconsistent { .. })), "{nobodys:?}");
    assert_eq!(store.app_keys(&customer_id(1)).await.unwrap(), [key(2, 1), key(1, 1)]);
    for (of, expected) in [(2, false), (1, true), (1, false)] {
        let customer = customer_id(of);
        let gone =
            write(store, async |unit| unit.delete_app_key(&digest(1), &customer).await).await;
        assert_eq!(gone.unwrap(), expected);
    }
    add(store, &[confirmation(3, 1), confirmation(4, 2)]).await;
    let (one, at) = (customer_id(1), UnixMillis::new(1));
    write(store, async |unit| unit.erase_customer(&one, at).await).await.unwrap();
    let left = write(store, async |unit| unit.app_keys(&one).await).await.unwrap();
    assert_eq!(left, []);
    assert!(store.confirmation(&id(3)).await.unwrap().is_none());
    assert!(store.confirmation(&id(4)).await.unwrap().is_some());
    assert_eq!(store.app_keys(&customer_id(2)).await.unwrap(), [key(3, 2)]);
}

pub async fn a_terminal_stands_where_it_was_last_said_to(store: &dyn Store) {
    let name = terminal("ATM-1");
    assert_eq!(store.terminal_place(&name).await.unwrap(), None);
    for place in ["Абай 10", "Абай 12"] {
        write(store, async |unit| unit.put_terminal_place(&name, place).await).await.unwrap();
        assert_eq!(store.terminal_place(&name).await.unwrap().as_deref(), Some(place));
    }
}

pub async fn a_mark_of_inability_is_proposed_and_approved_and_goes_with_the_customer(
    store: &dyn Store,
) {
    for number in 1..=2 {
        add_customer(store, number).await;
    }
    let row = |of: u8, number: u8| UnableRow {
        customer: customer_id(of),
        proposed_by: PrincipalName::try_from(format!("desk-{number}").as_str()).unwrap(),
        proposed_key: digest(number),
        sealed: vec![number; 30],
        proposed_at: UnixMillis::new(5),
        approved_at: None,
    };
    let one = customer_id(1);
    assert_eq!(store.unable(&one).await.unwrap(), None);
    let at = UnixMillis::new(9);
    let early = write(store, async |unit| unit.approve_unable(&one, at).await).await;
    assert!(!early.unwrap());
    // A later proposal replaces one that nobody has approved.
    for proposed in [row(1, 3), row(1, 4)] {
        write(store, async |unit| unit.put_unable(&proposed).await).await.unwrap();
        assert_eq!(store.unable(&one).await.unwrap(), Some(proposed));
    }
    for expected in [true, false] {
        let approved = write(store, async |unit| unit.approve_unable(&one, at).await).await;
        assert_eq!(approved.unwrap(), expected);
    }
    let approved = UnableRow { approved_at: Some(at), ..row(1, 4) };
    let inside = write(store, async |unit| unit.unable(&one).await).await.unwrap();
    assert_eq!(inside, Some(approved));
    let again = write(store, async |unit| unit.put_unable(&row(1, 3)).await).await;
    assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
    for expected in [true, false] {
        let gone = write(store, async |unit| unit.delete_unable(&one).await).await;
        assert_eq!(gone.unwrap(), expected);
    }
    let two = customer_id(2);
    write(store, async |unit| unit.put_unable(&row(2, 3)).await).await.unwrap();
    write(store, async |unit| unit.erase_customer(&two, at).await).await.unwrap();
    assert_eq!(store.unable(&two).await.unwrap(), None);
    let nobody = write(store, async |unit| unit.put_unable(&row(9, 3)).await).await;
    assert!(matches!(nobody, Err(StoreError::Inconsistent { .. })), "{nobody:?}");
}
