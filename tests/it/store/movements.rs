//! Cash that moved, added up.

use tulga::crypto::Digest;
use tulga::domain::id::{CustomerId, HostTransactionId};
use tulga::domain::money::Currency;
use tulga::domain::time::UnixMillis;
use tulga::domain::transaction::DecisionKey;
use tulga::domain::turnover::{Direction, Turnover, Window};
use tulga::store::sql::SqliteStore;
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
    sums(store, party, Direction::Withdrawals).await
}

async fn sums(
    store: &dyn Store,
    party: &MovementsOf,
    direction: Direction,
) -> [Turnover; Window::ALL.len()] {
    write(store, async |unit| {
        let mut sums = [Turnover::default(); Window::ALL.len()];
        for (sum, start) in sums.iter_mut().zip(STARTS) {
            *sum = unit.turnover(party, kzt(), direction, start).await?;
        }
        Ok(sums)
    })
    .await
    .unwrap()
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

    let deposits = sums(store, &MovementsOf::Customer(one), Direction::Deposits).await;
    assert_eq!(deposits, [of(1, 64); 5]);
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

/// What the facts of `kz-2026` cost for a customer with 10,000 past transactions, all of this month:
/// `cargo test --release --features test-support --test it ten_thousand -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, not a check"]
async fn the_facts_of_a_customer_with_ten_thousand_transactions() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("tulga.sqlite")).await.unwrap();
    add_customer(&store, 1).await;
    let one = customer_id(1);
    let rows: Vec<_> =
        (0..10_000).map(|number| movement(number, one, 5, 100 + i64::from(number))).collect();
    insert(&store, &rows).await;
    let (terminal, account) = (terminal("ATM-1"), digest(11));
    let mut times = Vec::new();
    for _ in 0..50 {
        let mut unit = store.begin().await.unwrap();
        let start = std::time::Instant::now();
        let day = UnixMillis::new(9_000);
        let (customer, account_of) = (MovementsOf::Customer(one), MovementsOf::Account(account));
        unit.turnover(&customer, kzt(), Direction::Deposits, day).await.unwrap();
        let month = UnixMillis::new(100);
        unit.turnover(&account_of, kzt(), Direction::Withdrawals, month).await.unwrap();
        unit.cards(&one, UnixMillis::new(10_000)).await.unwrap();
        unit.others_on_account(&account, &one, UnixMillis::new(9_000)).await.unwrap();
        unit.other_terminals(&terminal, &one, UnixMillis::new(9_900)).await.unwrap();
        unit.has_open_duplicate(&one).await.unwrap();
        times.push(start.elapsed());
    }
    times.sort_unstable();
    println!("median {:?}, worst {:?}", times[times.len() / 2], times[times.len() - 1]);
}
