//! Cash that moved, added up.

use tulga::crypto::Digest;
use tulga::domain::id::{CustomerId, HostTransactionId};
use tulga::domain::money::Currency;
use tulga::domain::time::UnixMillis;
use tulga::domain::transaction::DecisionKey;
use tulga::domain::turnover::{Direction, Turnover, Window};
use tulga::store::{MovedRow, MovementRow, MovementsOf, Store, StoreError};

use super::fixtures::{add_customer, customer_id, decision, digest, terminal, write};

/// The windows of the tests begin at these instants, in the order of [`Window::ALL`].
const STARTS: [UnixMillis; Window::ALL.len()] = [
    UnixMillis::new(400),
    UnixMillis::new(300),
    UnixMillis::new(200),
    UnixMillis::new(100),
    UnixMillis::new(250),
];

pub fn movement(host: u32, customer: CustomerId, amount: i64, at: i64) -> MovementRow {
    MovementRow {
        key: DecisionKey {
            host_id: HostTransactionId::try_from(host.to_string().as_str()).unwrap(),
            ..decision("1", 1).key
        },
        customer,
        account: digest(11),
        card: None,
        direction: Direction::Withdrawals,
        approved_minor: amount,
        currency: kzt(),
        at: UnixMillis::new(at),
    }
}

fn kzt() -> Currency {
    Currency::try_from("KZT").unwrap()
}

fn of(count: i64, amount_minor: i64) -> Turnover {
    Turnover { count, amount_minor }
}

async fn withdrawn(store: &dyn Store, party: &MovementsOf) -> [Turnover; Window::ALL.len()] {
    let sums = write(store, async |unit| unit.turnover(party, kzt(), &STARTS).await).await;
    sums.unwrap()[0]
}

async fn insert(store: &dyn Store, rows: &[MovementRow]) {
    write(store, async |unit| {
        for row in rows {
            unit.insert_movement(row).await?;
        }
        Ok(())
    })
    .await
    .unwrap();
}

pub async fn movements_add_up_for_each_party_window_and_currency(store: &dyn Store) {
    add_customer(store, 1).await;
    add_customer(store, 2).await;
    let (one, other) = (customer_id(1), customer_id(2));
    let (card, at_two) = (digest(21), terminal("ATM-2"));
    let mut elsewhere = movement(6, one, 32, 400);
    elsewhere.key.terminal = at_two.clone();
    let rows = [
        movement(1, one, 1, 99),
        movement(2, one, 2, 100),
        MovementRow { card: Some(card), ..movement(3, one, 4, 399) },
        MovementRow { account: digest(12), ..movement(4, one, 8, 400) },
        MovementRow { currency: Currency::try_from("USD").unwrap(), ..movement(5, one, 16, 400) },
        elsewhere,
        MovementRow { direction: Direction::Deposits, ..movement(7, one, 64, 400) },
        movement(8, other, 128, 400),
    ];
    insert(store, &rows).await;

    let mine = withdrawn(store, &MovementsOf::Customer(one)).await;
    assert_eq!(mine, [of(2, 40), of(3, 44), of(3, 44), of(4, 46), of(3, 44)]);
    let account = withdrawn(store, &MovementsOf::Account(digest(12))).await;
    assert_eq!(account, [of(1, 8); 5]);
    let card = withdrawn(store, &MovementsOf::Card(card)).await;
    assert_eq!(card, [of(0, 0), of(1, 4), of(1, 4), of(1, 4), of(1, 4)]);
    let there = withdrawn(store, &MovementsOf::Terminal(at_two.clone())).await;
    assert_eq!(there, [of(1, 32); 5]);
    let both = withdrawn(store, &MovementsOf::CustomerAtTerminal(one, at_two.clone())).await;
    assert_eq!(both, [of(1, 32); 5]);
    let nobody = withdrawn(store, &MovementsOf::CustomerAtTerminal(other, at_two)).await;
    assert_eq!(nobody, [of(0, 0); 5]);
    let unknown = withdrawn(store, &MovementsOf::Account(Digest::new([99; 32]))).await;
    assert_eq!(unknown, [of(0, 0); 5]);

    let deposits = MovementsOf::Customer(one);
    let sums = write(store, async |unit| unit.turnover(&deposits, kzt(), &STARTS).await).await;
    assert_eq!(sums.unwrap()[1], [of(1, 64); 5]);
    let again = write(store, async |unit| unit.insert_movement(&rows[0]).await).await;
    assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
}

pub async fn a_movement_counts_for_what_moved_in_truth(store: &dyn Store) {
    add_customer(store, 1).await;
    let row = movement(1, customer_id(1), 100, 500);
    insert(store, std::slice::from_ref(&row)).await;
    let party = MovementsOf::Customer(customer_id(1));
    for (index, (moved_minor, expected)) in
        (7..).zip([(40, of(1, 40)), (0, of(0, 0)), (100, of(1, 100))])
    {
        write(store, async |unit| {
            assert!(unit.set_moved(&row.key, moved_minor, index).await?);
            let currency = kzt();
            let index = Some(index);
            let moved = MovedRow { approved_minor: 100, moved_minor, currency, index };
            assert_eq!(unit.moved(&row.key).await?, Some(moved));
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(withdrawn(store, &party).await, [expected; 5], "{moved_minor}");
    }
    let other = decision("999", 1).key;
    write(store, async |unit| {
        assert!(!unit.set_moved(&other, 0, 1).await?);
        assert_eq!(unit.moved(&other).await?, None);
        Ok(())
    })
    .await
    .unwrap();
}
