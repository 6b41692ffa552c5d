//! Registers: versions, their values, and what is listed.

use std::time::Instant;

use tulga::crypto::{Digest, sha256};
use tulga::domain::register::{Register, SourceCode};
use tulga::domain::time::UnixMillis;
use tulga::store::sql::SqliteStore;
use tulga::store::{RegisterQuestion, RegisterRow, RegisterValueRow, Store, StoreError};

use super::fixtures::{digest, write};

const fn at(ms: i64) -> UnixMillis {
    UnixMillis::new(ms)
}

fn version(register: Register, version: u64) -> RegisterRow {
    let hash = digest(7);
    RegisterRow { register, version, hash, count: 3, imported_at: at(5), index: 9 }
}

fn value(number: u8, valid_until: Option<i64>) -> RegisterValueRow {
    let note = Some(SourceCode::try_from("AFC-7").unwrap());
    RegisterValueRow { value: digest(number), note, valid_until: valid_until.map(at) }
}

pub async fn a_register_counts_by_its_highest_version(store: &dyn Store) {
    let (dropper, card) = (Register::Dropper, Register::HotlistCard);
    write(store, async |unit| {
        assert_eq!(unit.registers().await?, []);
        unit.insert_register(&version(card, 1)).await?;
        unit.insert_register(&version(dropper, 1)).await?;
        unit.insert_register(&version(dropper, 2)).await?;
        assert_eq!(unit.registers().await?, [version(dropper, 2), version(card, 1)]);
        // Questions see what was committed.
        assert_eq!(store.registers().await?, []);
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(store.registers().await.unwrap(), [version(dropper, 2), version(card, 1)]);
    let again = write(store, async |unit| unit.insert_register(&version(dropper, 2)).await).await;
    assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
}

pub async fn values_of_a_register_come_in_pages_and_old_versions_go(store: &dyn Store) {
    let register = Register::Dropper;
    let rows = [value(1, None), value(2, Some(50)), value(3, None)];
    write(store, async |unit| {
        unit.insert_register_values(register, 1, &rows).await?;
        unit.insert_register_values(register, 2, &rows[..1]).await?;
        Ok(())
    })
    .await
    .unwrap();
    let values = async |register, version, after: Option<&Digest>| {
        store.register_values(register, version, after, 2).await.unwrap()
    };
    assert_eq!(values(register, 1, None).await, rows[..2]);
    assert_eq!(values(register, 1, Some(&rows[1].value)).await, rows[2..]);
    assert_eq!(values(Register::HotlistCard, 1, None).await, []);
    write(store, async |unit| {
        assert_eq!(unit.delete_register_values(register, 2, 2).await?, 2);
        assert_eq!(unit.delete_register_values(register, 2, 2).await?, 1);
        assert_eq!(unit.delete_register_values(register, 2, 2).await?, 0);
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(values(register, 2, None).await, rows[..1]);
    assert_eq!(values(register, 1, None).await, []);
    let twice = [value(5, None), value(5, None)];
    let twice = write(store, async |unit| unit.insert_register_values(register, 3, &twice).await);
    let twice = twice.await;
    assert!(matches!(twice, Err(StoreError::Exists)), "{twice:?}");
}

pub async fn a_value_is_listed_in_its_register_and_version_until_its_end(store: &dyn Store) {
    let (dropper, card) = (Register::Dropper, Register::HotlistCard);
    let ask =
        |register, version, number| RegisterQuestion { register, version, value: digest(number) };
    write(store, async |unit| {
        unit.insert_register_values(dropper, 1, &[value(1, Some(50))]).await?;
        unit.insert_register_values(card, 4, &[value(1, None), value(2, None)]).await?;
        assert_eq!(unit.listed(&[], at(0)).await?, []);
        let all = [ask(dropper, 1, 1), ask(card, 4, 1), ask(card, 4, 2)];
        assert_eq!(unit.listed(&all, at(49)).await?, [dropper, card]);
        assert_eq!(unit.listed(&all, at(50)).await?, [card]);
        let others = [ask(dropper, 2, 1), ask(dropper, 1, 2), ask(card, 1, 1)];
        assert_eq!(unit.listed(&others, at(0)).await?, []);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: it writes a million rows"]
async fn what_a_question_costs_with_a_million_values() {
    const VALUES: u32 = 1_000_000;
    const QUESTIONS: u32 = 2_000;
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("tulga.sqlite")).await.unwrap();
    let hashed = |number: u32| sha256(&number.to_be_bytes());
    let begun = Instant::now();
    for first in (0..VALUES).step_by(5_000) {
        let rows: Vec<_> = (first..first + 5_000)
            .map(|number| RegisterValueRow { value: hashed(number), note: None, valid_until: None })
            .collect();
        let mut unit = store.begin().await.unwrap();
        unit.insert_register_values(Register::Dropper, 1, &rows).await.unwrap();
        unit.commit().await.unwrap();
    }
    println!("{VALUES} values staged in {:?}", begun.elapsed());
    let mut unit = store.begin().await.unwrap();
    for (what, from) in [("hit", 0), ("miss", VALUES)] {
        let begun = Instant::now();
        for number in 0..QUESTIONS {
            let value = hashed(from + number * 400 % VALUES);
            let ask = RegisterQuestion { register: Register::Dropper, version: 1, value };
            let listed = unit.listed(&[ask; 6], at(0)).await.unwrap();
            assert_eq!(listed.is_empty(), from > 0);
        }
        println!("{what}: {:?} for a question about six values", begun.elapsed() / QUESTIONS);
    }
}
