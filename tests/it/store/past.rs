//! Counts over the past, and caps that run.

use tulga::domain::decision::RuleId;
use tulga::domain::time::UnixMillis;
use tulga::domain::transaction::TokenKind;
use tulga::store::{CustomerStatus, Links, MovementRow, Store, StoreError};

use super::fixtures::{add_customer, customer_id, digest, duplicate, terminal, token, write};
use super::movements::movement;

const fn at(ms: i64) -> UnixMillis {
    UnixMillis::new(ms)
}

pub async fn refusals_are_counted_since(store: &dyn Store) {
    add_customer(store, 1).await;
    add_customer(store, 2).await;
    write(store, async |unit| {
        for (customer, ms) in [(1, 10), (1, 20), (1, 20), (2, 30)] {
            unit.insert_refusal(&customer_id(customer), at(ms)).await?;
        }
        for (since, count) in [(10, 3), (11, 2), (20, 2), (21, 0)] {
            assert_eq!(unit.refusals(&customer_id(1), at(since)).await?, count, "{since}");
        }
        assert_eq!(unit.delete_refusals(at(20)).await?, 1);
        assert_eq!(unit.refusals(&customer_id(1), at(0)).await?, 2);
        Ok(())
    })
    .await
    .unwrap();
    let nobody = write(store, async |unit| unit.insert_refusal(&customer_id(9), at(1)).await).await;
    assert!(matches!(nobody, Err(StoreError::Inconsistent { .. } | StoreError::Unavailable(_))));
}

pub async fn others_and_other_terminals_are_counted_once_each(store: &dyn Store) {
    for number in 1..=3 {
        add_customer(store, number).await;
    }
    let by = |host, customer, ms| MovementRow {
        card: Some(digest(21)),
        ..movement(host, customer_id(customer), 5, ms)
    };
    let mut elsewhere = by(6, 1, 100);
    elsewhere.key.terminal = terminal("ATM-2");
    elsewhere.account = digest(12);
    let rows =
        [by(1, 1, 100), by(2, 2, 100), by(3, 2, 110), by(4, 3, 120), by(5, 3, 50), elsewhere];
    write(store, async |unit| {
        for row in &rows {
            unit.insert_movement(row).await?;
        }
        let (one, account, card) = (customer_id(1), digest(11), digest(21));
        for (since, others) in [(0, 2), (111, 1), (121, 0)] {
            assert_eq!(unit.others_on_account(&account, &one, at(since)).await?, others, "{since}");
            assert_eq!(unit.others_on_card(&card, &one, at(since)).await?, others, "{since}");
        }
        assert_eq!(unit.others_on_account(&digest(12), &one, at(0)).await?, 0, "only oneself");
        assert_eq!(unit.other_terminals(&terminal("ATM-1"), &one, at(100)).await?, 1);
        assert_eq!(unit.other_terminals(&terminal("ATM-1"), &one, at(101)).await?, 0);
        assert_eq!(unit.other_terminals(&terminal("ATM-3"), &one, at(0)).await?, 2);
        // What was given back did not move.
        assert!(unit.set_moved(&rows[3].key, 0, 7).await?);
        assert_eq!(unit.others_on_account(&account, &one, at(100)).await?, 1);
        Ok(())
    })
    .await
    .unwrap();
}

pub async fn somebody_is_linked_by_account_card_or_terminal(store: &dyn Store) {
    add_customer(store, 1).await;
    add_customer(store, 2).await;
    // At ATM-1, on the account 11 and with the card 21; and without a card.
    let with_card = MovementRow { card: Some(digest(21)), ..movement(1, customer_id(1), 5, 100) };
    let without = MovementRow { account: digest(12), ..movement(2, customer_id(2), 5, 100) };
    write(store, async |unit| {
        unit.insert_movement(&with_card).await?;
        unit.insert_movement(&without).await?;
        let links = |account: u8, card: Option<u8>, name: &str| Links {
            account: digest(account),
            card: card.map(digest),
            terminal: terminal(name),
        };
        for (customer, by, is_linked) in [
            (1, links(11, None, "ATM-9"), true),
            (1, links(99, Some(21), "ATM-9"), true),
            (1, links(99, None, "ATM-1"), true),
            (1, links(99, Some(99), "ATM-9"), false),
            (1, links(12, None, "ATM-9"), false),
            // Neither has a card, and that links nobody.
            (2, links(99, None, "ATM-9"), false),
            (2, links(11, Some(21), "ATM-9"), false),
            (3, links(11, Some(21), "ATM-1"), false),
        ] {
            let id = customer_id(customer);
            assert_eq!(unit.is_linked(&id, &by, at(100)).await?, is_linked, "{customer} {by:?}");
            assert!(!unit.is_linked(&id, &by, at(101)).await?, "it was earlier");
        }
        // What was given back did not move.
        assert!(unit.set_moved(&with_card.key, 0, 7).await?);
        assert!(!unit.is_linked(&customer_id(1), &links(11, Some(21), "ATM-1"), at(0)).await?);
        Ok(())
    })
    .await
    .unwrap();
}

pub async fn cards_that_have_not_expired_are_counted(store: &dyn Store) {
    add_customer(store, 1).await;
    let rows = [
        token(1, 1, TokenKind::Card, 1, None),
        token(2, 1, TokenKind::Card, 1, Some(100)),
        token(3, 1, TokenKind::Account, 1, None),
    ];
    write(store, async |unit| {
        for row in &rows {
            unit.insert_token(row).await?;
        }
        assert_eq!(unit.cards(&customer_id(1), at(99)).await?, 2);
        assert_eq!(unit.cards(&customer_id(1), at(100)).await?, 1);
        assert_eq!(unit.cards(&customer_id(2), at(99)).await?, 0);
        Ok(())
    })
    .await
    .unwrap();
}

pub async fn an_open_pair_is_seen_from_both_sides(store: &dyn Store) {
    add_customer(store, 1).await;
    add_customer(store, 2).await;
    write(store, async |unit| {
        assert!(!unit.has_open_duplicate(&customer_id(1)).await?);
        unit.insert_duplicate(&duplicate(1, 2, 50)).await?;
        assert!(unit.has_open_duplicate(&customer_id(1)).await?);
        assert!(unit.has_open_duplicate(&customer_id(2)).await?);
        unit.resolve_duplicates(&customer_id(1), "different_people", at(9)).await?;
        assert!(!unit.has_open_duplicate(&customer_id(2)).await?);
        Ok(())
    })
    .await
    .unwrap();
}

pub async fn a_cap_runs_until_its_end_and_is_never_shortened(store: &dyn Store) {
    add_customer(store, 1).await;
    let (rule, other) = (RuleId::try_from("RU-01").unwrap(), RuleId::try_from("A").unwrap());
    write(store, async |unit| {
        let one = customer_id(1);
        unit.put_cap(&one, &rule, at(100)).await?;
        unit.put_cap(&one, &rule, at(50)).await?;
        unit.put_cap(&one, &other, at(10)).await?;
        let both = vec![(other.clone(), at(10)), (rule.clone(), at(100))];
        assert_eq!(unit.caps(&one, at(9)).await?, both);
        assert_eq!(unit.caps(&one, at(10)).await?, [(rule.clone(), at(100))]);
        unit.put_cap(&one, &rule, at(200)).await?;
        assert_eq!(unit.caps(&one, at(199)).await?, [(rule.clone(), at(200))]);
        assert_eq!(unit.caps(&one, at(200)).await?, []);
        assert_eq!(unit.caps(&customer_id(2), at(0)).await?, []);
        Ok(())
    })
    .await
    .unwrap();
}

pub async fn an_activation_is_remembered_and_a_resumption_is_none(store: &dyn Store) {
    add_customer(store, 1).await;
    let one = customer_id(1);
    for (status, ms, activated_at) in [
        (CustomerStatus::Pending, 5, None),
        (CustomerStatus::Active, 10, Some(10)),
        (CustomerStatus::Suspended, 20, Some(10)),
        (CustomerStatus::Active, 30, Some(10)),
        (CustomerStatus::Pending, 40, Some(10)),
        (CustomerStatus::PendingDuplicate, 45, Some(10)),
        (CustomerStatus::Active, 50, Some(50)),
    ] {
        write(store, async |unit| unit.set_customer_status(&one, status, at(ms)).await)
            .await
            .unwrap();
        let row = store.customer(&one).await.unwrap().unwrap();
        assert_eq!(row.activated_at, activated_at.map(at), "{status:?} at {ms}");
    }
}
