//! Guests, by the number that they gave.

use tulga::domain::money::Currency;
use tulga::domain::time::UnixMillis;
use tulga::domain::turnover::{Direction, Turnover};
use tulga::store::{GUESTS_OF_NUMBER_MAX, GuestRow, MovementsOf, Store, StoreError};

use super::fixtures::{add_customer, customer_id, digest, terminal, write};
use super::movements::movement;

fn guest(number: u8, index: u8, at: i64) -> GuestRow {
    GuestRow {
        customer: customer_id(number),
        number_index: digest(index),
        terminal: terminal("ATM-1"),
        at: UnixMillis::new(at),
    }
}

pub async fn guests_come_by_number_the_newest_first_and_are_counted_by_terminal(store: &dyn Store) {
    for number in 1..=8 {
        add_customer(store, number).await;
    }
    write(store, async |unit| {
        for number in 1..=7 {
            unit.insert_guest(&guest(number, 50, i64::from(number))).await?;
        }
        unit.insert_guest(&guest(8, 51, 8)).await?;
        assert_eq!(unit.guests_of_terminal(&terminal("ATM-1"), UnixMillis::new(3)).await?, 6);
        assert_eq!(unit.guests_of_terminal(&terminal("ATM-2"), UnixMillis::new(0)).await?, 0);
        Ok(())
    })
    .await
    .unwrap();
    let found = store.guests(&digest(50)).await.unwrap();
    assert_eq!(found, [7, 6, 5, 4, 3].map(customer_id));
    assert_eq!(u32::try_from(found.len()).unwrap(), GUESTS_OF_NUMBER_MAX);
    assert_eq!(store.guests(&digest(51)).await.unwrap(), [customer_id(8)]);
    assert_eq!(store.guests(&digest(52)).await.unwrap(), []);
    let kzt = Currency::try_from("KZT").unwrap();
    write(store, async |unit| {
        for (host, customer) in [(1, 1), (2, 2), (3, 8)] {
            unit.insert_movement(&movement(host, customer_id(customer), 5, 100)).await?;
        }
        for (index, count) in [(50, 2), (51, 1), (52, 0)] {
            let of = MovementsOf::GuestsOfNumber(digest(index));
            let since = UnixMillis::new(100);
            let sum = unit.turnover(&of, kzt, Direction::Withdrawals, since).await?;
            assert_eq!(sum, Turnover { count, amount_minor: 5 * count }, "{index}");
        }
        Ok(())
    })
    .await
    .unwrap();
    let again = write(store, async |unit| unit.insert_guest(&guest(8, 52, 9)).await).await;
    assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
}
