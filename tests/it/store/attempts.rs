//! Tries and locks.

use tulga::domain::time::UnixMillis;
use tulga::store::{HolderLockRow, LockRow, LockedWho, Store, StoreError, Tries, TryRow};

use super::fixtures::{add_customer, customer_id, digest, write};

const fn at(millis: i64) -> UnixMillis {
    UnixMillis::new(millis)
}

fn debit(id: u8, subject: u8, millis: i64) -> TryRow {
    TryRow { id: digest(id), subject: digest(subject), at: at(millis) }
}

async fn debited(store: &dyn Store, rows: &[TryRow]) -> Result<(), StoreError> {
    write(store, async |unit| {
        for row in rows {
            unit.insert_try(row).await?;
        }
        Ok(())
    })
    .await
}

/// How many count and failed of a subject since an instant, and the latest.
async fn counted(store: &dyn Store, subject: u8, since: i64) -> (u32, u32, Option<i64>) {
    let subject = digest(subject);
    let committed = store.tries(&subject, at(since)).await.unwrap();
    let inside = write(store, async |unit| unit.tries(&subject, at(since)).await).await.unwrap();
    assert_eq!(committed, inside);
    let Tries { counted, failed, latest } = committed;
    (counted, failed, latest.map(UnixMillis::get))
}

pub async fn a_try_counts_until_it_is_given_back_or_forgotten(store: &dyn Store) {
    assert_eq!(counted(store, 1, 0).await, (0, 0, None));
    // Three tries of one party; two of them count against another one too.
    let rows =
        [debit(1, 1, 10), debit(1, 2, 10), debit(2, 1, 20), debit(3, 1, 30), debit(3, 2, 30)];
    debited(store, &rows).await.unwrap();
    let again = debited(store, &rows[..1]).await;
    assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
    assert_eq!(counted(store, 1, 0).await, (3, 0, Some(30)));
    assert_eq!(counted(store, 1, 10).await, (2, 0, Some(30)), "later than, not at");
    assert_eq!(counted(store, 2, 0).await, (2, 0, Some(30)));

    let failed = async |id, subject| {
        write(store, async |unit| unit.fail_try(&digest(id), &digest(subject)).await).await.unwrap()
    };
    assert!(failed(1, 1).await && failed(3, 2).await && !failed(2, 2).await);
    assert_eq!(counted(store, 1, 0).await, (3, 1, Some(30)));
    let given_back = write(store, async |unit| {
        Ok((
            unit.delete_try(&digest(2), &digest(2)).await?,
            unit.delete_try(&digest(2), &digest(1)).await?,
            unit.refund_try(&digest(3)).await?,
            unit.refund_try(&digest(3)).await?,
        ))
    })
    .await
    .unwrap();
    assert_eq!(given_back, (false, true, 2, 0));
    assert_eq!(counted(store, 1, 0).await, (1, 1, Some(10)));
    assert_eq!(counted(store, 2, 0).await, (1, 0, Some(10)));

    // What failed is forgotten, and what is too old to be under way still; nothing of anybody else.
    debited(store, &[debit(4, 1, 40), debit(5, 1, 50)]).await.unwrap();
    let forgotten =
        write(store, async |unit| unit.forget_tries(&digest(1), at(50)).await).await.unwrap();
    assert_eq!(forgotten, 2);
    assert_eq!(counted(store, 1, 0).await, (1, 0, Some(50)));
    assert_eq!(counted(store, 2, 0).await, (1, 0, Some(10)));
    let deleted = write(store, async |unit| unit.delete_tries(at(50)).await).await.unwrap();
    assert_eq!(deleted, 1);
    assert_eq!((counted(store, 1, 0).await.0, counted(store, 2, 0).await.0), (1, 0));
}

fn lock(subject: u8, who: LockedWho, millis: i64) -> LockRow {
    LockRow { subject: digest(subject), who, locked_at: at(millis), index: None }
}

async fn put(store: &dyn Store, row: &LockRow) -> Result<(), StoreError> {
    write(store, async |unit| unit.put_biometric_lock(row).await).await
}

pub async fn a_biometric_lock_is_entered_and_goes_with_the_customer(store: &dyn Store) {
    for number in 1..=2 {
        add_customer(store, number).await;
    }
    let one = lock(11, LockedWho::Customer(customer_id(1)), 20);
    let two = lock(12, LockedWho::Customer(customer_id(2)), 10);
    for row in [&one, &two] {
        put(store, row).await.unwrap();
        assert_eq!(store.biometric_lock(&row.subject).await.unwrap().as_ref(), Some(row));
    }
    // What no entry tells of comes by age.
    assert_eq!(store.locks_not_entered(9).await.unwrap(), [two.clone(), one.clone()]);
    assert_eq!(store.locks_not_entered(1).await.unwrap(), std::slice::from_ref(&two));
    let told = LockRow { index: Some(4), ..one.clone() };
    put(store, &told).await.unwrap();
    assert_eq!(store.locks_not_entered(9).await.unwrap(), std::slice::from_ref(&two));
    let inside = write(store, async |unit| unit.biometric_lock(&told.subject).await).await;
    assert_eq!(inside.unwrap(), Some(told.clone()));
    for expected in [true, false] {
        let gone = write(store, async |unit| unit.delete_biometric_lock(&told.subject).await).await;
        assert_eq!(gone.unwrap(), expected);
    }
    write(store, async |unit| unit.erase_customer(&customer_id(2), at(40)).await).await.unwrap();
    assert_eq!(store.biometric_lock(&two.subject).await.unwrap(), None);
    let stranger = lock(13, LockedWho::Customer(customer_id(7)), 1);
    let refused = put(store, &stranger).await;
    assert!(matches!(refused, Err(StoreError::Inconsistent { .. })), "{refused:?}");
}

pub async fn locks_of_nobody_go_once_they_are_old_and_entered(store: &dyn Store) {
    add_customer(store, 1).await;
    let nobody = |name: &str| LockedWho::Nobody(name.to_owned());
    let entered = |row: LockRow| LockRow { index: Some(1), ..row };
    let rows = [
        entered(lock(1, nobody("a"), 10)),
        lock(2, nobody("b"), 10),
        entered(lock(3, nobody("c"), 20)),
        entered(lock(4, LockedWho::Customer(customer_id(1)), 10)),
    ];
    for row in &rows {
        put(store, row).await.unwrap();
        assert_eq!(store.biometric_lock(&row.subject).await.unwrap().as_ref(), Some(row));
    }
    let gone = write(store, async |unit| unit.delete_locks_of_nobody(at(20)).await).await;
    assert_eq!(gone.unwrap(), 1);
    for (row, stays) in rows.iter().zip([false, true, true, true]) {
        let held = store.biometric_lock(&row.subject).await.unwrap();
        assert_eq!(held.is_some(), stays, "{:?}", row.who);
    }
}

pub async fn a_holders_wish_is_replaced_and_goes_with_them(store: &dyn Store) {
    add_customer(store, 1).await;
    let one = customer_id(1);
    assert_eq!(store.holder_lock(&one).await.unwrap(), None);
    let wish = |locked, millis, index| HolderLockRow {
        customer: one,
        locked,
        asked_at: at(millis),
        set_at: at(millis + 1),
        index,
    };
    for row in [wish(true, 10, 3), wish(false, 20, 4)] {
        write(store, async |unit| {
            unit.put_holder_lock(&row).await?;
            assert_eq!(unit.holder_lock(&one).await?, Some(row.clone()));
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(store.holder_lock(&one).await.unwrap(), Some(row));
    }
    write(store, async |unit| unit.erase_customer(&one, at(30)).await).await.unwrap();
    assert_eq!(store.holder_lock(&one).await.unwrap(), None);
    let stranger = HolderLockRow { customer: customer_id(7), ..wish(true, 1, 1) };
    let refused = write(store, async |unit| unit.put_holder_lock(&stranger).await).await;
    assert!(matches!(refused, Err(StoreError::Inconsistent { .. })), "{refused:?}");
}
