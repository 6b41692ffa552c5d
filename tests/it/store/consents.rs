//! Consents, what stays after they have ended, and prints of faces.

use tulga::domain::case::CaseStatus;
use tulga::domain::id::CaptureId;
use tulga::domain::modality::Modality;
use tulga::domain::time::UnixMillis;
use tulga::domain::transaction::TokenKind;
use tulga::store::{
    ConsentCause, ConsentEnd, ConsentRow, CustomerStatus, DuplicateRow, EnrolmentChallengeRow,
    FacePrintRow, LapsedConsent, PendingOf, Stays, Store,
};

use super::cases::case;
use super::confirmations::confirmation;
use super::fixtures::{
    add_customer, capture, customer_id, digest, duplicate, terminal, token, write,
};
use super::people::proposed;

fn consent(of: u8, until: i64) -> ConsentRow {
    ConsentRow { customer: customer_id(of), until: UnixMillis::new(until), end: None }
}

fn ended(of: u8, until: i64, keep_until: i64) -> ConsentRow {
    let end = ConsentEnd {
        cause: ConsentCause::ALL[usize::from(of % 2)],
        at: UnixMillis::new(until),
        keep_until: UnixMillis::new(keep_until),
        index: u64::from(of),
    };
    ConsentRow { end: Some(end), ..consent(of, until) }
}

async fn put(store: &dyn Store, rows: &[ConsentRow]) {
    write(store, async |unit| {
        for row in rows {
            unit.put_consent(row).await?;
            assert_eq!(unit.consent(&row.customer).await?.as_ref(), Some(row));
        }
        Ok(())
    })
    .await
    .unwrap();
}

pub async fn a_consent_is_found_lapsed_over_and_gone(store: &dyn Store) {
    let at = UnixMillis::new;
    for number in 1..=6 {
        add_customer(store, number).await;
    }
    // Who is erased, and who has a row, lacks none.
    write(store, async |unit| unit.erase_customer(&customer_id(6), at(1)).await).await.unwrap();
    let lacking = store.customers_without_consent(None, 4).await.unwrap();
    assert_eq!(lacking, [1, 2, 3, 4].map(customer_id));
    let lacking = store.customers_without_consent(Some(&customer_id(4)), 4).await.unwrap();
    assert_eq!(lacking, [customer_id(5)]);
    let rows =
        [consent(1, 100), consent(2, 100), consent(3, 101), ended(4, 50, 200), ended(5, 50, 201)];
    put(store, &rows).await;
    assert_eq!(store.customers_without_consent(None, 9).await.unwrap(), []);
    assert_eq!(store.consent(&customer_id(4)).await.unwrap(), Some(rows[3].clone()));
    assert_eq!(store.consent(&customer_id(6)).await.unwrap(), None);
    assert_eq!(store.consents(None, 2).await.unwrap(), rows[..2]);
    assert_eq!(store.consents(Some(&customer_id(2)), 9).await.unwrap(), rows[2..]);

    // By the instant, and not while a case is open.
    write(store, async |unit| {
        unit.put_case(&case(1, 2, 1)).await?;
        unit.put_case(&case(2, 4, 1)).await
    })
    .await
    .unwrap();
    let lapsed = async |now: i64| store.lapsed_consents(at(now), 9).await.unwrap();
    let row = |row: &ConsentRow, has_case| LapsedConsent { consent: row.clone(), has_case };
    assert_eq!(lapsed(99).await, []);
    assert_eq!(lapsed(100).await, [row(&rows[0], false), row(&rows[1], true)]);
    assert_eq!(lapsed(101).await.len(), 3);
    assert_eq!(store.lapsed_consents(at(101), 1).await.unwrap().len(), 1);
    let due = async |now: i64| store.customers_to_erase(at(now), 9).await.unwrap();
    assert_eq!(due(200).await, []);
    assert_eq!(due(201).await, [customer_id(5)]);
    let released = tulga::store::CaseRow { status: CaseStatus::Released, ..case(2, 4, 1) };
    write(store, async |unit| unit.put_case(&released).await).await.unwrap();
    assert_eq!(due(199).await, []);
    assert_eq!(due(200).await, [customer_id(4)]);
    assert_eq!(due(201).await, [4, 5].map(customer_id));

    // It goes with the customer.
    write(store, async |unit| unit.erase_customer(&customer_id(5), at(9)).await).await.unwrap();
    assert_eq!(store.consent(&customer_id(5)).await.unwrap(), None);
    assert_eq!(due(201).await, [customer_id(4)]);
    assert!(rows[0].holds(at(99)) && !rows[0].holds(at(100)) && !rows[4].holds(at(1)));
}

pub async fn a_blocked_customer_keeps_what_must_stay_and_nothing_else(store: &dyn Store) {
    let at = UnixMillis::new;
    for (number, stays) in [
        (1, Stays { templates: false, number: false }),
        (2, Stays { templates: true, number: true }),
    ] {
        add_customer(store, number).await;
        let id = customer_id(number);
        let waiting = [confirmation(10 * number, number), confirmation(10 * number + 1, number)];
        write(store, async |unit| {
            unit.put_consent(&consent(number, 100)).await?;
            unit.insert_capture(&capture(number, number, 1)).await?;
            unit.insert_token(&token(number, number, TokenKind::Card, 1, None)).await?;
            unit.insert_face_print(&print(number, number, 1, 100)).await?;
            unit.insert_proposal(&proposed(number, Some(number))).await?;
            unit.insert_enrolment_challenge(&enrolment_challenge(number)).await?;
            for row in &waiting {
                unit.insert_confirmation(row).await?;
            }
            unit.settle_confirmation(&waiting[1].id, waiting[1].key.attempt).await?;
            assert!(unit.block_customer(&id, stays, at(7)).await?);
            Ok(())
        })
        .await
        .unwrap();
        let row = store.customer(&id).await.unwrap().unwrap();
        assert_eq!((row.status, row.updated_at), (CustomerStatus::Withdrawn, at(7)));
        assert!(!row.sealed_record.is_empty(), "what the law wants kept");
        assert_eq!(row.iin_index, stays.number.then(|| digest(number)));
        assert!(store.customer_key(&id).await.unwrap().is_some());
        assert_eq!(store.captures(&id).await.unwrap().len(), usize::from(stays.templates));
        assert_eq!(store.tokens(&id).await.unwrap(), []);
        assert_eq!(store.face_prints(&id, at(1), 9).await.unwrap(), []);
        assert!(store.consent(&id).await.unwrap().is_some());
        // What waits is over and can be decided on; what is settled is known by its decision.
        let of = PendingOf::Customer(&id);
        assert_eq!(store.pending_confirmations(of, 0, at(1), 9).await.unwrap(), []);
        let [waits, settled] = &waiting;
        let found = store.confirmation_of(&waits.key).await.unwrap().unwrap();
        assert_eq!((found.expires_at, &found.sealed), (at(0), &waits.sealed));
        let found = store.confirmation_of(&settled.key).await.unwrap().unwrap();
        assert_eq!((found.settled_by, found.sealed.len()), (Some(settled.key.attempt), 0));
        // Captures that were proposed are captures; a challenge for another one leads nowhere.
        let proposal = store.proposal(&proposed(number, None).id).await.unwrap().unwrap();
        assert_eq!(proposal.content.is_empty(), !stays.templates);
        let challenge = enrolment_challenge(number).hash;
        assert_eq!(store.enrolment_challenge(&challenge).await.unwrap(), None);
    }
    doubles_are_not_freed(store).await;
    let stays = Stays { templates: false, number: false };
    write(store, async |unit| {
        assert!(unit.erase_customer(&customer_id(1), at(8)).await?);
        assert!(!unit.block_customer(&customer_id(1), stays, at(9)).await?, "erased");
        assert!(!unit.block_customer(&customer_id(9), stays, at(9)).await?, "nobody");
        Ok(())
    })
    .await
    .unwrap();
}

/// Whoever was, or may be, found to be somebody who withdraws stays so; who was found not to be is tied no more.
async fn doubles_are_not_freed(store: &dyn Store) {
    let resolutions = [None, Some("same_person"), Some("different_people")];
    let rows: Vec<_> = (4..)
        .zip(resolutions)
        .map(|(of, word)| DuplicateRow {
            resolution: word.map(str::to_owned),
            ..duplicate(of, 3, 40)
        })
        .collect();
    for number in 3..=6 {
        add_customer(store, number).await;
    }
    let (three, stays) = (customer_id(3), Stays { templates: true, number: true });
    write(store, async |unit| {
        for row in &rows {
            unit.insert_duplicate(row).await?;
        }
        unit.insert_duplicate(&duplicate(3, 4, 40)).await?;
        unit.block_customer(&three, stays, UnixMillis::new(7)).await
    })
    .await
    .unwrap();
    let of = async |number: u8| store.duplicates(&customer_id(number)).await.unwrap();
    for _ in 0..2 {
        assert_eq!((of(3).await, of(6).await), (vec![], vec![]));
        assert_eq!((&of(4).await[..], &of(5).await[..]), (&rows[..1], &rows[1..2]));
        let at = UnixMillis::new(8);
        write(store, async |unit| unit.erase_customer(&three, at).await).await.unwrap();
    }
}

fn enrolment_challenge(of: u8) -> EnrolmentChallengeRow {
    EnrolmentChallengeRow {
        hash: digest(of),
        customer: customer_id(of),
        modality: Modality::Face,
        terminal: terminal("DESK-1"),
        opened_by: digest(90),
        answer: digest(91),
        expires_at: UnixMillis::new(100),
    }
}

fn print(number: u8, of: u8, at: i64, until: i64) -> FacePrintRow {
    FacePrintRow {
        id: CaptureId::new([number; 16]),
        customer: customer_id(of),
        sealed: vec![number; 60],
        at: UnixMillis::new(at),
        until: UnixMillis::new(until),
    }
}

pub async fn prints_come_newest_first_and_go_with_their_time_and_customer(store: &dyn Store) {
    let at = UnixMillis::new;
    add_customer(store, 1).await;
    add_customer(store, 2).await;
    let rows = [print(1, 1, 10, 100), print(2, 1, 20, 110), print(3, 1, 30, 120)];
    write(store, async |unit| {
        for row in rows.iter().chain([&print(4, 2, 5, 500)]) {
            unit.insert_face_print(row).await?;
        }
        Ok(())
    })
    .await
    .unwrap();
    let of = async |customer: u8, now: i64, limit: u32| {
        store.face_prints(&customer_id(customer), at(now), limit).await.unwrap()
    };
    assert_eq!(of(1, 99, 9).await, [rows[2].clone(), rows[1].clone(), rows[0].clone()]);
    assert_eq!(of(1, 99, 2).await, [rows[2].clone(), rows[1].clone()]);
    assert_eq!(of(1, 110, 9).await, [rows[2].clone()]);
    assert_eq!(of(2, 110, 9).await.len(), 1);
    assert_eq!(of(3, 1, 9).await, []);
    let forgotten = write(store, async |unit| unit.forget_face_prints(at(110)).await).await;
    assert_eq!(forgotten.unwrap(), 2);
    assert_eq!(of(1, 1, 9).await, [rows[2].clone()]);
    write(store, async |unit| unit.erase_customer(&customer_id(1), at(9)).await).await.unwrap();
    assert_eq!((of(1, 1, 9).await.len(), of(2, 1, 9).await.len()), (0, 1));
}
