//! Cases and their evidence.

use tulga::crypto::Digest;
use tulga::domain::case::{CaseKind, CaseStatus, Resolution};
use tulga::domain::decision::RuleId;
use tulga::domain::id::CaseId;
use tulga::domain::money::Currency;
use tulga::domain::time::UnixMillis;
use tulga::domain::transaction::Operation;
use tulga::store::{CaseEvidenceRow, CaseRow, MovementRow, ProposalRow, Store};

use super::fixtures::{add_customer, customer_id, digest, duplicate, write};
use super::movements::movement;

const fn at(ms: i64) -> UnixMillis {
    UnixMillis::new(ms)
}

pub fn case(number: u8, customer: u8, score: u32) -> CaseRow {
    CaseRow {
        id: CaseId::new([number; 16]),
        customer: customer_id(customer),
        kind: CaseKind::try_from(format!("K{number}").as_str()).unwrap(),
        status: CaseStatus::Open,
        opened_at: at(i64::from(number)),
        held_until: None,
        beyond_calendar: false,
        weight: score,
        decisions: 1,
        score,
        proposal: None,
        closed_at: None,
    }
}

pub async fn cases_come_by_score_and_change(store: &dyn Store) {
    add_customer(store, 1).await;
    add_customer(store, 2).await;
    let rows = [case(1, 1, 20), case(2, 2, 40), case(3, 1, 20), case(4, 2, 0)];
    let key: Digest = digest(3);
    let by = "second".to_owned();
    let closed = CaseRow {
        status: CaseStatus::Released,
        held_until: Some(at(77)),
        beyond_calendar: true,
        decisions: 5,
        proposal: Some(ProposalRow { resolution: Resolution::Release, by, key, at: at(8) }),
        closed_at: Some(at(9)),
        ..rows[2].clone()
    };
    write(store, async |unit| {
        for row in &rows {
            unit.put_case(row).await?;
        }
        // Questions see what was committed.
        assert_eq!(store.cases(None, None, 3).await?, []);
        Ok(())
    })
    .await
    .unwrap();
    let page = store.cases(None, None, 3).await.unwrap();
    assert_eq!(page, [rows[1].clone(), rows[0].clone(), rows[2].clone()]);
    let after = Some((page[2].score, page[2].id));
    assert_eq!(store.cases(None, after, 3).await.unwrap(), rows[3..]);
    write(store, async |unit| {
        unit.put_case(&closed).await?;
        assert_eq!(unit.case(&closed.id).await?.as_ref(), Some(&closed));
        let of_one = unit.cases_of(&customer_id(1)).await?;
        assert_eq!(of_one, [rows[0].clone(), closed.clone()]);
        assert_eq!(unit.case(&CaseId::new([9; 16])).await?, None);
        Ok(())
    })
    .await
    .unwrap();
    let released = store.cases(Some(CaseStatus::Released), None, 9).await.unwrap();
    assert_eq!(released, std::slice::from_ref(&closed));
    assert_eq!(store.cases(Some(CaseStatus::Open), None, 9).await.unwrap().len(), 3);
    assert_eq!(store.case_file(&closed.id, 9, 9).await.unwrap().unwrap().case, closed);
    assert_eq!(store.case_file(&CaseId::new([9; 16]), 9, 9).await.unwrap(), None);
    let nobody = write(store, async |unit| unit.put_case(&case(5, 9, 1)).await).await;
    assert!(nobody.is_err());
}

pub async fn a_case_keeps_each_decision_once(store: &dyn Store) {
    add_customer(store, 1).await;
    let rules = ["KZ-08.dropper", "kz-2026.permit"].map(|id| RuleId::try_from(id).unwrap());
    let decision = |index: u64| CaseEvidenceRow {
        case: CaseId::new([1; 16]),
        index,
        at: at(5),
        outcome: "HELD".to_owned(),
        rules: rules.to_vec(),
        operation: Operation::CashWithdrawal,
        amount_minor: 100,
        currency: Currency::try_from("KZT").unwrap(),
    };
    write(store, async |unit| {
        unit.put_case(&case(1, 1, 20)).await?;
        for index in [7, 3] {
            unit.insert_case_evidence(&decision(index)).await?;
        }
        Ok(())
    })
    .await
    .unwrap();
    let id = CaseId::new([1; 16]);
    for (evidence_max, expected) in [(9, &[decision(3), decision(7)][..]), (1, &[decision(3)])] {
        let file = store.case_file(&id, evidence_max, 0).await.unwrap().unwrap();
        assert_eq!(file.evidence, expected);
    }
    let again = write(store, async |unit| unit.insert_case_evidence(&decision(3)).await).await;
    assert!(again.is_err());
}

pub async fn linked_people_share_an_account_a_card_or_a_face(store: &dyn Store) {
    for number in 1..=6 {
        add_customer(store, number).await;
    }
    let by = |host, customer, account, card: Option<u8>| MovementRow {
        account: digest(account),
        card: card.map(digest),
        ..movement(host, customer_id(customer), 5, 100)
    };
    // 2 by the account, 3 by the card, 4 and 5 by the face from either side, 6 by nothing.
    let rows =
        [by(1, 1, 11, Some(21)), by(2, 2, 11, None), by(3, 3, 12, Some(21)), by(4, 6, 13, None)];
    write(store, async |unit| {
        for row in &rows {
            unit.insert_movement(row).await?;
        }
        unit.insert_duplicate(&duplicate(1, 4, 40)).await?;
        unit.insert_duplicate(&duplicate(5, 1, 40)).await?;
        for number in [1, 6] {
            unit.put_case(&case(number, number, 0)).await?;
        }
        Ok(())
    })
    .await
    .unwrap();
    for (about, linked_max, expected) in [(1, 9, &[2, 3, 4, 5][..]), (1, 2, &[2, 3]), (6, 9, &[])] {
        let file = store.case_file(&CaseId::new([about; 16]), 0, linked_max).await.unwrap();
        let expected: Vec<_> = expected.iter().map(|number| customer_id(*number)).collect();
        assert_eq!(file.unwrap().linked, expected, "{about}");
    }
}

pub async fn a_lookalike_goes_with_either_of_two_and_is_released_with_the_case(store: &dyn Store) {
    for number in 1..=4 {
        add_customer(store, number).await;
    }
    let id = |number: u8| CaseId::new([number; 16]);
    let linked =
        async |number: u8| store.case_file(&id(number), 0, 9).await.unwrap().unwrap().linked;
    let (one, two, three) = (customer_id(1), customer_id(2), customer_id(3));
    write(store, async |unit| {
        for number in 1..=3 {
            unit.put_case(&case(number, number, 0)).await?;
        }
        for other in [&two, &two, &three] {
            unit.put_case_lookalike(&id(1), other).await?;
        }
        assert!(!unit.was_lookalike_released(&one, &two).await?, "the case is open");
        Ok(())
    })
    .await
    .unwrap();
    // From either side, each once.
    assert_eq!(linked(1).await, [two, three]);
    assert_eq!((linked(2).await, linked(3).await), (vec![one], vec![one]));
    write(store, async |unit| {
        let released = CaseRow { status: CaseStatus::Released, ..case(1, 1, 0) };
        unit.put_case(&released).await?;
        for (of, other, is_released) in
            [(&one, &two, true), (&two, &one, true), (&two, &three, false), (&one, &one, false)]
        {
            assert_eq!(unit.was_lookalike_released(of, other).await?, is_released);
        }
        unit.put_case(&CaseRow { status: CaseStatus::Refused, ..released }).await?;
        assert!(!unit.was_lookalike_released(&one, &two).await?, "refused is not released");
        Ok(())
    })
    .await
    .unwrap();
    let nobody =
        write(store, async |unit| unit.put_case_lookalike(&id(1), &customer_id(9)).await).await;
    assert!(nobody.is_err());
    // Whoever is erased is nobody's lookalike, and nobody is theirs.
    write(store, async |unit| unit.erase_customer(&two, at(9)).await).await.unwrap();
    assert_eq!((linked(1).await, linked(2).await), (vec![three], vec![]));
    write(store, async |unit| unit.erase_customer(&one, at(9)).await).await.unwrap();
    assert_eq!((linked(1).await, linked(3).await), (vec![], vec![]));
}
