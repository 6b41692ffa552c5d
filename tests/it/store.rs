//! One suite that every store passes, and what is particular to each.

mod attempts;
mod cases;
mod confirmations;
mod consents;
#[cfg(feature = "test-support")]
mod faults;
mod fixtures;
mod guests;
mod keks;
mod ledger;
mod movements;
mod oversight;
mod packs;
mod past;
mod people;
mod registers;
mod sealing;
mod sensors;
mod sqlite_file;

use std::time::Duration;

use tulga::crypto::Digest;
use tulga::domain::id::{Attempt, HostTransactionId};
use tulga::domain::money::Currency;
use tulga::domain::time::{BusinessDate, UnixMillis};
use tulga::domain::transaction::{CashOutcome, TokenKind};
use tulga::store::sql::SqliteStore;
use tulga::store::{
    ChallengeRow, ChallengeState, CustomerRow, CustomerStatus, DecisionRow, OutcomeRow,
    RedemptionRow, Store, StoreError, TerminalKeyRow,
};

use self::attempts::{
    a_biometric_lock_is_entered_and_goes_with_the_customer,
    a_holders_wish_is_replaced_and_goes_with_them,
    a_try_counts_until_it_is_given_back_or_forgotten,
    locks_of_nobody_go_once_they_are_old_and_entered,
};
use self::cases::{
    a_case_keeps_each_decision_once,
    a_lookalike_goes_with_either_of_two_and_is_released_with_the_case,
    cases_come_by_score_and_change, linked_people_share_an_account_a_card_or_a_face,
};
use self::confirmations::{
    a_confirmation_is_asked_for_once_answered_once_and_settled_once,
    a_device_key_is_one_customers_and_goes_with_them,
    a_final_decision_stands_beside_the_first_and_counts_as_an_approval,
    a_mark_of_inability_is_proposed_and_approved_and_goes_with_the_customer,
    a_tellers_word_is_replaced_until_there_is_an_answer,
    a_terminal_stands_where_it_was_last_said_to,
    what_waits_comes_in_the_order_of_the_ledger_until_its_time_is_over,
};
use self::consents::{
    a_blocked_customer_keeps_what_must_stay_and_nothing_else,
    a_consent_is_found_lapsed_over_and_gone,
    prints_come_newest_first_and_go_with_their_time_and_customer,
};
use self::fixtures::{
    add_customer, capture, challenge, customer, customer_id, decision, digest, duplicate, entry,
    receipt, terminal, terminal_key, token, write,
};
use self::guests::guests_come_by_number_the_newest_first_and_are_counted_by_terminal;
use self::keks::{
    a_kek_is_current_ended_and_retired_once,
    what_is_wrapped_under_others_is_counted_found_and_wrapped_anew,
};
use self::ledger::{
    a_batch_of_any_length_is_appended_whole_or_not_at_all, a_gap_among_the_leaves_is_noticed,
    a_ledger_is_closed_once_and_closed_ones_come_in_their_order,
    an_index_and_a_receipt_are_taken_once, checkpoints_come_by_size_and_the_first_of_a_size_stays,
    entries_come_in_order_in_pages_and_by_filter, ledgers_are_apart,
    the_head_moves_from_where_it_is_only, what_others_say_is_kept_with_its_checkpoint,
};
use self::movements::{
    a_movement_counts_for_what_moved_in_truth, movements_add_up_for_each_party_window_and_currency,
};
use self::oversight::{
    approvals_add_up_with_what_moved_in_truth, decisions_with_signs_come_by_time_and_page,
    entries_of_a_kind_are_counted_by_terminal, evidence_is_destroyed_when_it_is_due_and_not_held,
    footage_comes_in_pages_and_by_filter, footage_is_missing_due_or_on_hold,
    outcomes_are_counted_by_terminal_and_reason,
};
use self::packs::{
    a_pack_is_proposed_once_and_approved_once, the_latest_activation_to_take_effect_holds,
};
use self::past::{
    a_cap_runs_until_its_end_and_is_never_shortened,
    an_activation_is_remembered_and_a_resumption_is_none, an_open_pair_is_seen_from_both_sides,
    cards_that_have_not_expired_are_counted, others_and_other_terminals_are_counted_once_each,
    refusals_are_counted_since, somebody_is_linked_by_account_card_or_terminal,
};
use self::people::{
    a_key_of_a_person_is_registered_once_and_revoked_once,
    a_proposal_is_closed_once_and_its_content_goes,
};
use self::registers::{
    a_register_counts_by_its_highest_version,
    a_value_is_listed_in_its_register_and_version_until_its_end,
    values_of_a_register_come_in_pages_and_old_versions_go,
};

use self::sealing::{
    a_key_that_captures_are_sealed_to_opens_until_its_end_and_is_destroyed_then,
    an_enrolments_challenge_is_used_once_and_goes_with_its_end_or_the_customer,
};
use self::sensors::{
    a_capture_is_known_again_until_its_end,
    a_sensors_key_is_registered_once_and_changes_in_what_changes,
    sensors_keys_come_by_name_in_pages_and_by_sensor_and_age,
};

const ORIGIN: &str = "cash.bank.example/gw07/2026h2";

/// Makes each shared function a test on every store.
macro_rules! on_every_store {
    ($($case:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("tulga.sqlite");
                super::$case(&super::SqliteStore::open(&path).await.unwrap()).await;
            })*
        }

        #[cfg(feature = "test-support")]
        mod memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(&tulga::store::memory::MemoryStore::default()).await;
            })*
        }
    };
}

on_every_store!(
    a_consent_is_found_lapsed_over_and_gone,
    a_blocked_customer_keeps_what_must_stay_and_nothing_else,
    prints_come_newest_first_and_go_with_their_time_and_customer,
    a_try_counts_until_it_is_given_back_or_forgotten,
    a_biometric_lock_is_entered_and_goes_with_the_customer,
    locks_of_nobody_go_once_they_are_old_and_entered,
    a_holders_wish_is_replaced_and_goes_with_them,
    a_terminal_key_is_registered_once_and_revoked_once,
    terminal_keys_come_by_terminal_and_age_in_pages,
    a_customer_is_found_by_id_and_number_and_comes_once,
    a_kek_is_current_ended_and_retired_once,
    what_is_wrapped_under_others_is_counted_found_and_wrapped_anew,
    customers_come_in_the_order_of_their_ids_in_pages,
    a_token_stands_for_one_customer_until_it_expires,
    captures_come_in_the_order_of_their_creation,
    erasure_leaves_the_id_and_nothing_else,
    a_row_of_a_customer_who_is_not_there_is_refused,
    duplicates_are_noted_once_and_resolved_together,
    a_challenge_is_closed_once_and_deleted_when_it_is_old,
    a_counter_stops_at_zero,
    a_decision_is_stored_once,
    the_latest_outcome_replaces_the_earlier,
    a_receipt_is_redeemed_once,
    movements_add_up_for_each_party_window_and_currency,
    a_movement_counts_for_what_moved_in_truth,
    a_confirmation_is_asked_for_once_answered_once_and_settled_once,
    a_tellers_word_is_replaced_until_there_is_an_answer,
    what_waits_comes_in_the_order_of_the_ledger_until_its_time_is_over,
    a_final_decision_stands_beside_the_first_and_counts_as_an_approval,
    a_device_key_is_one_customers_and_goes_with_them,
    a_mark_of_inability_is_proposed_and_approved_and_goes_with_the_customer,
    a_terminal_stands_where_it_was_last_said_to,
    guests_come_by_number_the_newest_first_and_are_counted_by_terminal,
    a_pack_is_proposed_once_and_approved_once,
    the_latest_activation_to_take_effect_holds,
    refusals_are_counted_since,
    others_and_other_terminals_are_counted_once_each,
    cards_that_have_not_expired_are_counted,
    an_open_pair_is_seen_from_both_sides,
    somebody_is_linked_by_account_card_or_terminal,
    a_cap_runs_until_its_end_and_is_never_shortened,
    an_activation_is_remembered_and_a_resumption_is_none,
    decisions_with_signs_come_by_time_and_page,
    approvals_add_up_with_what_moved_in_truth,
    outcomes_are_counted_by_terminal_and_reason,
    entries_of_a_kind_are_counted_by_terminal,
    footage_is_missing_due_or_on_hold,
    footage_comes_in_pages_and_by_filter,
    evidence_is_destroyed_when_it_is_due_and_not_held,
    cases_come_by_score_and_change,
    a_case_keeps_each_decision_once,
    linked_people_share_an_account_a_card_or_a_face,
    a_lookalike_goes_with_either_of_two_and_is_released_with_the_case,
    a_register_counts_by_its_highest_version,
    values_of_a_register_come_in_pages_and_old_versions_go,
    a_value_is_listed_in_its_register_and_version_until_its_end,
    a_sensors_key_is_registered_once_and_changes_in_what_changes,
    sensors_keys_come_by_name_in_pages_and_by_sensor_and_age,
    a_capture_is_known_again_until_its_end,
    a_key_of_a_person_is_registered_once_and_revoked_once,
    a_proposal_is_closed_once_and_its_content_goes,
    a_key_that_captures_are_sealed_to_opens_until_its_end_and_is_destroyed_then,
    an_enrolments_challenge_is_used_once_and_goes_with_its_end_or_the_customer,
    the_head_moves_from_where_it_is_only,
    entries_come_in_order_in_pages_and_by_filter,
    a_gap_among_the_leaves_is_noticed,
    an_index_and_a_receipt_are_taken_once,
    checkpoints_come_by_size_and_the_first_of_a_size_stays,
    what_others_say_is_kept_with_its_checkpoint,
    ledgers_are_apart,
    a_batch_of_any_length_is_appended_whole_or_not_at_all,
    a_ledger_is_closed_once_and_closed_ones_come_in_their_order,
    a_transaction_that_is_dropped_leaves_no_trace,
    a_refused_row_does_not_end_the_transaction,
    what_is_not_committed_is_seen_inside_only,
    a_second_writer_waits_for_the_first,
);

async fn a_terminal_key_is_registered_once_and_revoked_once(store: &dyn Store) {
    let row = terminal_key(1, "ATM-1", 10);
    write(store, async |unit| unit.insert_terminal_key(&row).await).await.unwrap();
    let again = write(store, async |unit| unit.insert_terminal_key(&row).await).await;
    assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
    assert_eq!(store.terminal_key(&row.spki).await.unwrap(), Some(row.clone()));
    assert_eq!(store.terminal_key(&digest(9)).await.unwrap(), None);
    let revoke = async |spki: Digest, at: i64| {
        write(store, async |unit| unit.revoke_terminal_key(&spki, UnixMillis::new(at)).await).await
    };
    assert!(revoke(row.spki, 20).await.unwrap());
    assert!(!revoke(row.spki, 30).await.unwrap(), "a key is revoked once");
    assert!(!revoke(digest(9), 30).await.unwrap());
    // A terminal whose keys are all revoked may be registered anew, and once.
    let first = async |n: u8| {
        let row = terminal_key(n, "ATM-1", 40);
        write(store, async |unit| unit.insert_first_terminal_key(&row).await).await
    };
    assert!(matches!(first(1).await, Err(StoreError::Exists)));
    assert!(first(2).await.unwrap());
    assert!(!first(3).await.unwrap());
    assert_eq!(store.terminal_key(&digest(3)).await.unwrap(), None);
    let revoked = TerminalKeyRow { revoked_at: Some(UnixMillis::new(20)), ..row.clone() };
    assert_eq!(store.terminal_key(&row.spki).await.unwrap(), Some(revoked));
}

async fn terminal_keys_come_by_terminal_and_age_in_pages(store: &dyn Store) {
    // The hashes run against the order that is asked for.
    let rows = [
        terminal_key(9, "ATM-1", 10),
        terminal_key(8, "ATM-1", 20),
        terminal_key(3, "ATM-2", 5),
        terminal_key(4, "ATM-2", 5),
    ];
    write(store, async |unit| {
        for row in rows.iter().rev() {
            unit.insert_terminal_key(row).await?;
        }
        let keys = unit.keys_of_terminal(&terminal("ATM-1")).await?;
        assert_eq!(keys, rows[..2]);
        assert_eq!(unit.keys_of_terminal(&terminal("ATM-3")).await?, []);
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(store.terminal_keys(None, 10).await.unwrap(), rows);
    assert_eq!(store.terminal_keys(None, 2).await.unwrap(), rows[..2]);
    assert_eq!(store.terminal_keys(Some(&rows[1].spki), 2).await.unwrap(), rows[2..]);
    assert_eq!(store.terminal_keys(Some(&rows[3].spki), 2).await.unwrap(), []);
}

async fn a_customer_is_found_by_id_and_number_and_comes_once(store: &dyn Store) {
    let (row, key) = customer(1);
    write(store, async |unit| unit.insert_customer(&row, &key).await).await.unwrap();
    assert_eq!(store.customer(&row.id).await.unwrap(), Some(row.clone()));
    assert_eq!(store.customer_key(&row.id).await.unwrap(), Some(key.clone()));
    assert_eq!(store.customer_by_iin(&row.iin_index.unwrap()).await.unwrap(), Some(row.id));
    assert_eq!(store.customer_by_iin(&digest(77)).await.unwrap(), None);
    assert_eq!(store.customer(&customer_id(2)).await.unwrap(), None);
    assert_eq!(store.customer_key(&customer_id(2)).await.unwrap(), None);

    let same_id = CustomerRow { iin_index: Some(digest(77)), ..row.clone() };
    let again = write(store, async |unit| unit.insert_customer(&same_id, &key).await).await;
    assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
    let (other, other_key) = customer(2);
    let same_number = CustomerRow { iin_index: row.iin_index, ..other };
    let again =
        write(store, async |unit| unit.insert_customer(&same_number, &other_key).await).await;
    assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");

    for (number, status) in CustomerStatus::ALL.into_iter().enumerate() {
        let at = UnixMillis::new(100 + i64::try_from(number).unwrap());
        write(store, async |unit| {
            assert!(unit.set_customer_status(&row.id, status, at).await?);
            assert!(!unit.set_customer_status(&customer_id(2), status, at).await?);
            let inside = unit.customer(&row.id).await?.unwrap();
            assert_eq!((inside.status, inside.updated_at), (status, at));
            Ok(())
        })
        .await
        .unwrap();
        let now = store.customer(&row.id).await.unwrap().unwrap();
        assert_eq!((now.status, now.updated_at, now.created_at), (status, at, row.created_at));
    }
}

async fn customers_come_in_the_order_of_their_ids_in_pages(store: &dyn Store) {
    for number in [3, 1, 2] {
        add_customer(store, number).await;
    }
    let ids = |rows: Vec<CustomerRow>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
    let of = |numbers: &[u8]| numbers.iter().copied().map(customer_id).collect::<Vec<_>>();
    assert_eq!(ids(store.customers(None, 10).await.unwrap()), of(&[1, 2, 3]));
    assert_eq!(ids(store.customers(None, 1).await.unwrap()), of(&[1]));
    assert_eq!(ids(store.customers(Some(&customer_id(1)), 10).await.unwrap()), of(&[2, 3]));
    assert_eq!(ids(store.customers(Some(&customer_id(3)), 10).await.unwrap()), of(&[]));
}

async fn a_token_stands_for_one_customer_until_it_expires(store: &dyn Store) {
    add_customer(store, 1).await;
    add_customer(store, 2).await;
    let card = token(1, 1, TokenKind::Card, 10, None);
    let code = token(2, 1, TokenKind::PhoneCode, 20, Some(100));
    let account = token(3, 1, TokenKind::Account, 5, None);
    write(store, async |unit| {
        unit.insert_token(&card).await?;
        unit.insert_token(&code).await?;
        unit.insert_token(&account).await
    })
    .await
    .unwrap();
    let all = [account, card.clone(), code.clone()];
    assert_eq!(store.tokens(&customer_id(1)).await.unwrap(), all);
    let stands_for = async |index: Digest, now: i64| {
        store.customer_by_token(&index, UnixMillis::new(now)).await.unwrap()
    };
    assert_eq!(stands_for(card.index, 1_000_000).await, Some(customer_id(1)));
    assert_eq!(stands_for(code.index, 99).await, Some(customer_id(1)));
    assert_eq!(stands_for(code.index, 100).await, None, "it expires at that very instant");
    assert_eq!(stands_for(digest(9), 1).await, None);

    let taken = token(1, 2, TokenKind::Card, 1_000, None);
    let early = token(2, 2, TokenKind::PhoneCode, 99, Some(500));
    for row in [&taken, &early] {
        let refused = write(store, async |unit| unit.insert_token(row).await).await;
        assert!(matches!(refused, Err(StoreError::Exists)), "{refused:?}");
    }
    let late = token(2, 2, TokenKind::PhoneCode, 100, Some(500));
    write(store, async |unit| unit.insert_token(&late).await).await.unwrap();
    assert_eq!(stands_for(late.index, 200).await, Some(customer_id(2)), "an expired one gives way");

    write(store, async |unit| {
        assert!(!unit.delete_token(&card.index, &customer_id(2)).await?, "not their token");
        assert!(unit.delete_token(&card.index, &customer_id(1)).await?);
        assert!(!unit.delete_token(&card.index, &customer_id(1)).await?);
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(stands_for(card.index, 1).await, None);
}

async fn captures_come_in_the_order_of_their_creation(store: &dyn Store) {
    add_customer(store, 1).await;
    let rows = [capture(9, 1, 10), capture(1, 1, 20), capture(2, 1, 20)];
    write(store, async |unit| {
        for row in rows.iter().rev() {
            unit.insert_capture(row).await?;
        }
        assert_eq!(unit.captures(&customer_id(1)).await?, rows);
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(store.captures(&customer_id(1)).await.unwrap(), rows);
    assert_eq!(store.captures(&customer_id(2)).await.unwrap(), []);
    let again = write(store, async |unit| unit.insert_capture(&rows[0]).await).await;
    assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
    write(store, async |unit| {
        assert!(!unit.delete_capture(&rows[1].id, &customer_id(2)).await?, "not their capture");
        assert!(unit.delete_capture(&rows[1].id, &customer_id(1)).await?);
        assert!(!unit.delete_capture(&rows[1].id, &customer_id(1)).await?);
        Ok(())
    })
    .await
    .unwrap();
    let left = store.captures(&customer_id(1)).await.unwrap();
    assert_eq!(left, [rows[0].clone(), rows[2].clone()]);
}

async fn erasure_leaves_the_id_and_nothing_else(store: &dyn Store) {
    for number in 1..=2 {
        add_customer(store, number).await;
        write(store, async |unit| {
            unit.insert_capture(&capture(number, number, 10)).await?;
            unit.insert_token(&token(number, number, TokenKind::Card, 10, None)).await
        })
        .await
        .unwrap();
    }
    write(store, async |unit| unit.insert_duplicate(&duplicate(1, 2, 40)).await).await.unwrap();
    write(store, async |unit| unit.insert_duplicate(&duplicate(2, 1, 40)).await).await.unwrap();
    let at = UnixMillis::new(99);
    let erase = async |number: u8| {
        write(store, async |unit| unit.erase_customer(&customer_id(number), at).await)
            .await
            .unwrap()
    };
    assert!(erase(1).await);
    assert!(!erase(1).await, "nobody is erased twice");
    assert!(!erase(7).await);

    let (whole, _) = customer(1);
    let erased = CustomerRow {
        status: CustomerStatus::Erased,
        iin_index: None,
        sealed_record: Vec::new(),
        updated_at: at,
        ..whole.clone()
    };
    assert_eq!(store.customer(&whole.id).await.unwrap(), Some(erased));
    assert_eq!(store.customer_key(&whole.id).await.unwrap(), None);
    assert_eq!(store.captures(&whole.id).await.unwrap(), []);
    assert_eq!(store.tokens(&whole.id).await.unwrap(), []);
    assert_eq!(store.duplicates(&whole.id).await.unwrap(), []);
    let doubt = [duplicate(2, 1, 40)];
    assert_eq!(store.duplicates(&customer_id(2)).await.unwrap(), doubt, "a double is not freed");
    assert_eq!(store.customer_by_iin(&whole.iin_index.unwrap()).await.unwrap(), None);
    assert_eq!(store.customer_by_token(&digest(1), UnixMillis::new(1)).await.unwrap(), None);

    // The neighbour has kept everything, and the number may be enrolled again under another id.
    assert_eq!(store.captures(&customer_id(2)).await.unwrap(), [capture(2, 2, 10)]);
    assert!(store.customer_key(&customer_id(2)).await.unwrap().is_some());
    assert_eq!(store.tokens(&customer_id(2)).await.unwrap().len(), 1);
    let (other, key) = customer(3);
    let same_person = CustomerRow { iin_index: whole.iin_index, ..other };
    write(store, async |unit| unit.insert_customer(&same_person, &key).await).await.unwrap();
}

async fn a_row_of_a_customer_who_is_not_there_is_refused(store: &dyn Store) {
    let row = capture(1, 1, 10);
    let orphan = write(store, async |unit| unit.insert_capture(&row).await).await;
    assert!(matches!(orphan, Err(StoreError::Inconsistent { .. })), "{orphan:?}");
    let row = token(1, 1, TokenKind::Card, 10, None);
    let orphan = write(store, async |unit| unit.insert_token(&row).await).await;
    assert!(matches!(orphan, Err(StoreError::Inconsistent { .. })), "{orphan:?}");
}

async fn duplicates_are_noted_once_and_resolved_together(store: &dyn Store) {
    for number in 1..=3 {
        add_customer(store, number).await;
    }
    write(store, async |unit| {
        unit.insert_duplicate(&duplicate(1, 3, 40)).await?;
        unit.insert_duplicate(&duplicate(1, 2, 60)).await?;
        unit.insert_duplicate(&duplicate(1, 2, 99)).await?;
        unit.insert_duplicate(&duplicate(2, 3, 50)).await
    })
    .await
    .unwrap();
    let of_first = [duplicate(1, 2, 60), duplicate(1, 3, 40)];
    assert_eq!(store.duplicates(&customer_id(1)).await.unwrap(), of_first, "the strongest first");
    let resolve = async |word: &str| {
        let at = UnixMillis::new(50);
        write(store, async |unit| unit.resolve_duplicates(&customer_id(1), word, at).await).await
    };
    assert_eq!(resolve("twins").await.unwrap(), 2);
    assert_eq!(resolve("fraud").await.unwrap(), 0, "what is resolved stays so");
    for row in store.duplicates(&customer_id(1)).await.unwrap() {
        assert_eq!(row.resolution.as_deref(), Some("twins"));
    }
    assert_eq!(store.duplicates(&customer_id(2)).await.unwrap(), [duplicate(2, 3, 50)]);
}

async fn a_challenge_is_closed_once_and_deleted_when_it_is_old(store: &dyn Store) {
    let rows = [challenge(1, 100), challenge(2, 200)];
    write(store, async |unit| {
        unit.insert_challenge(&rows[0]).await?;
        unit.insert_challenge(&rows[1]).await
    })
    .await
    .unwrap();
    let again = write(store, async |unit| unit.insert_challenge(&rows[0]).await).await;
    assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
    assert_eq!(store.challenge(&rows[0].hash).await.unwrap(), Some(rows[0].clone()));
    assert_eq!(store.challenge(&digest(9)).await.unwrap(), None);
    let close = async |hash: Digest, state: ChallengeState| {
        write(store, async |unit| unit.close_challenge(&hash, state).await).await.unwrap()
    };
    assert!(close(rows[0].hash, ChallengeState::Used).await);
    assert!(!close(rows[0].hash, ChallengeState::Used).await, "a challenge is used once");
    assert!(!close(rows[0].hash, ChallengeState::Cancelled).await);
    assert!(close(rows[1].hash, ChallengeState::Cancelled).await);
    assert!(!close(digest(9), ChallengeState::Used).await);
    let used = ChallengeRow { state: ChallengeState::Used, ..rows[0].clone() };
    assert_eq!(store.challenge(&rows[0].hash).await.unwrap(), Some(used));
    let delete = async |before: i64| {
        let before = UnixMillis::new(before);
        write(store, async |unit| unit.delete_challenges(before).await).await.unwrap()
    };
    assert_eq!(delete(100).await, 0, "one that expires at that instant stays");
    assert_eq!(delete(101).await, 1);
    assert_eq!(store.challenge(&rows[0].hash).await.unwrap(), None);
    assert!(store.challenge(&rows[1].hash).await.unwrap().is_some());
}

async fn a_counter_stops_at_zero(store: &dyn Store) {
    let name = digest(1);
    let add = async |delta: i32| {
        let at = UnixMillis::new(1);
        write(store, async |unit| unit.add_to_counter(&name, delta, at).await).await.unwrap()
    };
    assert_eq!(store.counter(&name).await.unwrap(), 0);
    assert_eq!(add(-1).await, 0, "a counter never raised");
    assert_eq!(add(3).await, 3);
    assert_eq!(add(2).await, 5);
    assert_eq!(add(-1).await, 4);
    assert_eq!(store.counter(&name).await.unwrap(), 4);
    assert_eq!(add(-5).await, 0);
    assert_eq!(add(i32::MIN).await, 0);
    assert_eq!(add(1).await, 1);
    assert_eq!(add(i32::MAX).await, 1 << 31);
    assert_eq!(add(i32::MAX).await, u32::MAX);
    assert_eq!(add(1).await, u32::MAX, "it stops at the top as well");
    assert_eq!(store.counter(&digest(2)).await.unwrap(), 0);
    let fresh = digest(3);
    let at = UnixMillis::new(1);
    let value = write(store, async |unit| {
        unit.add_to_counter(&fresh, 1, at).await?;
        unit.add_to_counter(&fresh, 1, at).await
    });
    assert_eq!(value.await.unwrap(), 2);
}

async fn a_decision_is_stored_once(store: &dyn Store) {
    let row = decision("100", 1);
    write(store, async |unit| {
        assert_eq!(unit.decision(&row.key).await?, None);
        unit.insert_decision(&row).await?;
        assert_eq!(unit.decision(&row.key).await?, Some(row.clone()));
        Ok(())
    })
    .await
    .unwrap();
    write(store, async |unit| {
        assert!(!unit.has_approval(&decision("100", 7).key).await?);
        let approved = DecisionRow { approves: true, ..decision("100", 5) };
        unit.insert_decision(&approved).await?;
        assert!(unit.has_approval(&decision("100", 7).key).await?, "of any attempt");
        assert!(!unit.has_approval(&decision("101", 2).key).await?, "of this transaction only");
        Ok(())
    })
    .await
    .unwrap();
    let other_content = DecisionRow { request_hash: digest(77), ..row.clone() };
    let again = write(store, async |unit| unit.insert_decision(&other_content).await).await;
    assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
    assert_eq!(store.decision(&row.key).await.unwrap(), Some(row.clone()));
    // Each part of the key tells decisions apart.
    let mut keys = [row.key.clone(), row.key.clone(), row.key.clone(), row.key.clone()];
    keys[0].terminal = terminal("ATM-2");
    keys[1].business_date = BusinessDate::try_from("2026-11-22").unwrap();
    keys[2].host_id = HostTransactionId::try_from("101").unwrap();
    keys[3].attempt = Attempt::try_from(2).unwrap();
    for key in keys {
        assert_eq!(store.decision(&key).await.unwrap(), None);
        let row = DecisionRow { key, ..row.clone() };
        write(store, async |unit| unit.insert_decision(&row).await).await.unwrap();
        assert_eq!(store.decision(&row.key).await.unwrap(), Some(row));
    }
}

async fn the_latest_outcome_replaces_the_earlier(store: &dyn Store) {
    let key = decision("100", 1).key;
    assert_eq!(store.outcome(&key).await.unwrap(), None);
    for (index, outcome) in (0..).zip(CashOutcome::ALL) {
        let dispensed_minor = i64::try_from(index).unwrap() * 100;
        let currency = Currency::try_from("KZT").unwrap();
        let row = OutcomeRow { key: key.clone(), outcome, dispensed_minor, currency, index };
        write(store, async |unit| {
            unit.put_outcome(&row).await?;
            assert_eq!(unit.outcome(&key).await?, Some(row.clone()));
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(store.outcome(&key).await.unwrap(), Some(row));
    }
    assert_eq!(store.outcome(&decision("100", 2).key).await.unwrap(), None);
}

async fn a_receipt_is_redeemed_once(store: &dyn Store) {
    let row = RedemptionRow { receipt: receipt(1), redeemed_at: UnixMillis::new(5), index: 3 };
    write(store, async |unit| {
        assert_eq!(unit.redemption(&row.receipt).await?, None);
        unit.insert_redemption(&row).await?;
        assert_eq!(unit.redemption(&row.receipt).await?, Some(row.clone()));
        Ok(())
    })
    .await
    .unwrap();
    let later = RedemptionRow { redeemed_at: UnixMillis::new(6), index: 4, ..row.clone() };
    let again = write(store, async |unit| unit.insert_redemption(&later).await).await;
    assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
    assert_eq!(store.redemption(&row.receipt).await.unwrap(), Some(row));
    assert_eq!(store.redemption(&receipt(2)).await.unwrap(), None);
}

async fn a_transaction_that_is_dropped_leaves_no_trace(store: &dyn Store) {
    add_customer(store, 1).await;
    let mut unit = store.begin().await.unwrap();
    unit.insert_capture(&capture(1, 1, 1)).await.unwrap();
    unit.erase_customer(&customer_id(1), UnixMillis::new(1)).await.unwrap();
    unit.add_to_counter(&digest(1), 1, UnixMillis::new(1)).await.unwrap();
    unit.insert_entry(ORIGIN, &entry(0, None, 1)).await.unwrap();
    drop(unit);
    let begun = tokio::time::timeout(Duration::from_secs(5), store.begin()).await;
    drop(begun.expect("the dropped transaction frees the writer").unwrap());
    assert_eq!(store.customer(&customer_id(1)).await.unwrap(), Some(customer(1).0));
    assert!(store.customer_key(&customer_id(1)).await.unwrap().is_some());
    assert_eq!(store.captures(&customer_id(1)).await.unwrap(), []);
    assert_eq!(store.counter(&digest(1)).await.unwrap(), 0);
    assert_eq!(store.entry(ORIGIN, 0).await.unwrap(), None);
}

async fn a_refused_row_does_not_end_the_transaction(store: &dyn Store) {
    add_customer(store, 1).await;
    let (row, key) = customer(1);
    write(store, async |unit| {
        unit.insert_entry(ORIGIN, &entry(0, None, 1)).await?;
        let again = unit.insert_customer(&row, &key).await;
        assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
        unit.insert_entry(ORIGIN, &entry(1, None, 1)).await
    })
    .await
    .unwrap();
    assert_eq!(store.leaves(ORIGIN, 0, 10).await.unwrap().len(), 2);
}

async fn what_is_not_committed_is_seen_inside_only(store: &dyn Store) {
    let mut unit = store.begin().await.unwrap();
    let (row, key) = customer(1);
    unit.insert_customer(&row, &key).await.unwrap();
    assert_eq!(unit.customer(&row.id).await.unwrap(), Some(row.clone()));
    assert_eq!(store.customer(&row.id).await.unwrap(), None, "readers see committed state");
    unit.commit().await.unwrap();
    assert_eq!(store.customer(&row.id).await.unwrap(), Some(row));
}

async fn a_second_writer_waits_for_the_first(store: &dyn Store) {
    let mut first = store.begin().await.unwrap();
    first.add_to_counter(&digest(1), 1, UnixMillis::new(1)).await.unwrap();
    {
        let second = store.begin();
        tokio::pin!(second);
        let early = tokio::time::timeout(Duration::from_millis(100), &mut second).await;
        assert!(early.is_err(), "the first transaction is open");
        first.commit().await.unwrap();
        let begun = tokio::time::timeout(Duration::from_secs(5), second).await;
        let mut unit = begun.expect("the first transaction is over").unwrap();
        let value = unit.add_to_counter(&digest(1), 1, UnixMillis::new(1)).await.unwrap();
        assert_eq!(value, 2, "the second sees what the first wrote");
        unit.commit().await.unwrap();
    }
    let counts = async || {
        for _ in 0..20 {
            let at = UnixMillis::new(1);
            write(store, async |unit| unit.add_to_counter(&digest(1), 1, at).await).await.unwrap();
        }
    };
    tokio::join!(counts(), counts(), counts());
    assert_eq!(store.counter(&digest(1)).await.unwrap(), 62, "no update is lost");
}
