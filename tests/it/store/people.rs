//! The people who may act in the bank's name, and what they propose.

use tulga::domain::four_eyes::{ProposalState, StaffRole, TwoPersonAct};
use tulga::domain::id::{PrincipalName, ProposalId, UnitName};
use tulga::domain::time::UnixMillis;
use tulga::store::{Closure, PrincipalRow, ProposedRow, Store, StoreError};

use super::fixtures::{add_customer, customer_id, digest, write};

fn principal(number: u8, name: &str, index: u64) -> PrincipalRow {
    PrincipalRow {
        spki: digest(number),
        role: StaffRole::ALL[usize::from(number) % StaffRole::ALL.len()],
        name: PrincipalName::try_from(name).unwrap(),
        unit: UnitName::try_from("operations").unwrap(),
        registered_at: UnixMillis::new(i64::from(number)),
        index,
        proposal: number.is_multiple_of(2).then(|| ProposalId::new([number; 16])),
        revoked: None,
    }
}

pub async fn a_key_of_a_person_is_registered_once_and_revoked_once(store: &dyn Store) {
    let rows = [principal(1, "one", 7), principal(2, "two", 7), principal(3, "one", 8)];
    write(store, async |unit| {
        for row in rows.iter().rev() {
            unit.insert_principal(row).await?;
        }
        assert_eq!(unit.principal(&rows[0].spki).await?, Some(rows[0].clone()));
        let named = unit.principals_named(&rows[0].name).await?;
        assert_eq!(named, [rows[0].clone(), rows[2].clone()]);
        Ok(())
    })
    .await
    .unwrap();
    let again = PrincipalRow { name: rows[1].name.clone(), ..rows[0].clone() };
    let again = write(store, async |unit| unit.insert_principal(&again).await).await;
    assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
    assert_eq!(store.principals(None, 2).await.unwrap(), rows[..2]);
    assert_eq!(store.principals(Some(&rows[1].spki), 2).await.unwrap(), rows[2..]);
    assert_eq!(store.principals_of_entry(7).await.unwrap(), rows[..2]);
    assert_eq!(store.principal(&digest(9)).await.unwrap(), None);

    let at = UnixMillis::new(50);
    for (key, expected) in [(digest(1), true), (digest(1), false), (digest(9), false)] {
        let done = write(store, async |unit| unit.revoke_principal(&key, at, 9).await).await;
        assert_eq!(done.unwrap(), expected);
    }
    let revoked = PrincipalRow { revoked: Some((at, 9)), ..rows[0].clone() };
    assert_eq!(store.principal(&digest(1)).await.unwrap(), Some(revoked.clone()));
    // What was revoked stays known: the key is never registered again.
    let again = write(store, async |unit| unit.insert_principal(&rows[0]).await).await;
    assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
    assert_eq!(store.principals(None, 1).await.unwrap(), [revoked]);
}

pub fn proposed(number: u8, customer: Option<u8>) -> ProposedRow {
    let at = |ms: i64| UnixMillis::new(i64::from(number) * 100 + ms);
    ProposedRow {
        id: ProposalId::new([number; 16]),
        act: TwoPersonAct::ALL[usize::from(number) % TwoPersonAct::ALL.len()],
        customer: customer.map(customer_id),
        subject: "subject".into(),
        content: vec![number; 20],
        commit: digest(number),
        proposed_by: PrincipalName::try_from("one").unwrap(),
        proposed_key: digest(number),
        proposed_at: at(0),
        index: u64::from(number) + 10,
        not_before: at(1),
        expires_at: at(50),
        closed: None,
    }
}

pub async fn a_proposal_is_closed_once_and_its_content_goes(store: &dyn Store) {
    for number in 1..=2 {
        add_customer(store, number).await;
    }
    let rows = [proposed(1, Some(1)), proposed(2, Some(2)), proposed(3, None), proposed(8, None)];
    write(store, async |unit| {
        for row in rows.iter().rev() {
            unit.insert_proposal(row).await?;
        }
        // Of one act and one person: the first row's act is the fourth's too.
        let [one, nobody] = ["one", "nobody"].map(|name| PrincipalName::try_from(name).unwrap());
        assert_eq!(unit.proposals_open(rows[0].act, &one).await?, 2);
        assert_eq!(unit.proposals_open(rows[1].act, &one).await?, 1);
        assert_eq!(unit.proposals_open(rows[0].act, &nobody).await?, 0);
        assert_eq!(unit.proposal(&rows[0].id).await?, Some(rows[0].clone()));
        // The same act about the same subject, in the order of the entries.
        let about = unit.proposals_about(rows[0].act, "subject").await?;
        assert_eq!(about, [rows[0].clone(), rows[3].clone()]);
        assert_eq!(unit.proposals_about(rows[0].act, "nobody").await?, []);
        Ok(())
    })
    .await
    .unwrap();
    let again = write(store, async |unit| unit.insert_proposal(&rows[0]).await).await;
    assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
    let nobodys = proposed(7, Some(9));
    let refused = write(store, async |unit| unit.insert_proposal(&nobodys).await).await;
    assert!(matches!(refused, Err(StoreError::Inconsistent { .. })), "{refused:?}");
    assert_eq!(store.proposals(false, None, 2).await.unwrap(), rows[..2]);
    assert_eq!(store.proposals(false, Some(rows[1].index), 9).await.unwrap(), rows[2..]);
    let over = store.proposals_expired(UnixMillis::new(250), 9).await.unwrap();
    assert_eq!(over, rows[..2]);
    assert_eq!(store.proposals_expired(UnixMillis::new(250), 1).await.unwrap(), rows[..1]);
    let latest = async |act, number| store.latest_open_proposal(act, &customer_id(number)).await;
    assert_eq!(latest(rows[1].act, 2).await.unwrap(), Some(rows[1].clone()));
    assert_eq!(latest(rows[0].act, 2).await.unwrap(), None);
    assert_eq!(latest(rows[1].act, 1).await.unwrap(), None);
    let later = proposed(16, Some(2));
    write(store, async |unit| {
        unit.insert_proposal(&later).await?;
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(latest(rows[1].act, 2).await.unwrap(), Some(later.clone()));
    let withdrawn =
        Closure { state: ProposalState::Withdrawn, by: None, at: UnixMillis::new(60), index: 60 };
    let closed = write(store, async |unit| unit.close_proposal(&later.id, &withdrawn).await).await;
    assert!(closed.unwrap());
    assert_eq!(latest(rows[1].act, 2).await.unwrap(), Some(rows[1].clone()));

    let who = Some((PrincipalName::try_from("two").unwrap(), digest(9)));
    let done = |state, by| Closure { state, by, at: UnixMillis::new(70), index: 70 };
    let ends = [
        (0, done(ProposalState::Done, who.clone())),
        (2, done(ProposalState::Withdrawn, who)),
        (3, done(ProposalState::Expired, None)),
    ];
    for (place, closure) in &ends {
        let id = rows[*place].id;
        for expected in [true, false] {
            let closed = write(store, async |unit| unit.close_proposal(&id, closure).await).await;
            assert_eq!(closed.unwrap(), expected);
        }
        let closed = ProposedRow {
            content: Vec::new(),
            closed: Some(closure.clone()),
            ..rows[*place].clone()
        };
        assert_eq!(closed.state(), closure.state);
        assert_eq!(store.proposal(&id).await.unwrap(), Some(closed));
    }
    assert_eq!(store.proposals(true, None, 9).await.unwrap(), rows[1..2]);
    let (nobody, closure) = (ProposalId::new([9; 16]), &ends[0].1);
    let none = write(store, async |unit| unit.close_proposal(&nobody, closure).await).await;
    assert!(!none.unwrap());
    // What waits about a customer ends at once; an erasure takes what was proposed with it, and whom it was about.
    let (two, at) = (customer_id(2), UnixMillis::new(80));
    let closure = done(ProposalState::Withdrawn, None);
    write(store, async |unit| {
        // One of another act, and a later one of the same.
        let (other, later) = (proposed(4, Some(2)), proposed(9, Some(2)));
        let act = rows[1].act;
        assert!(later.act == act && other.act != act);
        unit.insert_proposal(&other).await?;
        unit.insert_proposal(&later).await?;
        assert_eq!(unit.close_proposals_of(&two, Some(act), &closure).await?, 2);
        assert_eq!(unit.close_proposals_of(&two, Some(act), &closure).await?, 0);
        assert_eq!(unit.proposal(&other.id).await?, Some(other));
        assert_eq!(unit.close_proposals_of(&two, None, &closure).await?, 1);
        assert_eq!(unit.close_proposals_of(&two, None, &closure).await?, 0);
        let held = unit.proposal(&rows[1].id).await?.unwrap();
        assert_eq!((held.content.len(), held.closed.as_ref()), (0, Some(&closure)));
        assert_eq!((held.customer, held.subject.as_str()), (Some(two), "subject"));
        unit.erase_customer(&two, at).await
    })
    .await
    .unwrap();
    assert_eq!(latest(rows[1].act, 2).await.unwrap(), None);
    let left = store.proposal(&rows[1].id).await.unwrap().unwrap();
    assert_eq!((left.customer, left.subject.as_str()), (None, ""));
    let other = store.proposal(&rows[0].id).await.unwrap().unwrap();
    assert_eq!((other.customer, other.subject.as_str()), (Some(customer_id(1)), "subject"));
}
