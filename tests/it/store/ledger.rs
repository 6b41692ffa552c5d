//! Cases about heads, entries and checkpoints.

use tulga::crypto::sha256;
use tulga::domain::time::UnixMillis;
use tulga::store::{
    CheckpointRow, ClosedLedgerRow, EntryFilter, EntryRow, HeadRow, Store, StoreError,
    TimestampRow, WitnessedRow,
};

use super::ORIGIN;
use super::fixtures::{checkpoint, digest, entry, receipt, terminal, write};

pub async fn the_head_moves_from_where_it_is_only(store: &dyn Store) {
    let empty = HeadRow { size: 0, root: sha256(&[]), epoch: 0 };
    assert_eq!(store.head(ORIGIN).await.unwrap(), empty);
    let first = HeadRow { size: 2, root: digest(2), epoch: 1 };
    let second = HeadRow { size: 5, root: digest(5), epoch: 1 };
    let swap = async |old: &HeadRow, new: &HeadRow| {
        write(store, async |unit| unit.swap_head(ORIGIN, old, new).await).await
    };
    let refused = swap(&first, &second).await;
    assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    assert_eq!(store.head(ORIGIN).await.unwrap(), empty);
    swap(&empty, &first).await.unwrap();
    for wrong in [
        empty.clone(),
        HeadRow { size: 3, ..first.clone() },
        HeadRow { root: digest(9), ..first.clone() },
        HeadRow { epoch: 2, ..first.clone() },
    ] {
        let refused = swap(&wrong, &second).await;
        assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    }
    assert_eq!(store.head(ORIGIN).await.unwrap(), first);
    write(store, async |unit| {
        unit.swap_head(ORIGIN, &first, &second).await?;
        assert_eq!(unit.head(ORIGIN).await?, second);
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(store.head(ORIGIN).await.unwrap(), second);
}

pub async fn entries_come_in_order_in_pages_and_by_filter(store: &dyn Store) {
    // Times are not in the order of indices: clocks may step back by a little.
    let rows = [
        entry(0, Some("ATM-1"), 10),
        entry(1, Some("ATM-2"), 30),
        entry(2, None, 20),
        entry(3, Some("ATM-1"), 40),
    ];
    write(store, async |unit| {
        for row in rows.iter().rev() {
            unit.insert_entry(ORIGIN, row).await?;
        }
        Ok(())
    })
    .await
    .unwrap();
    let wanted = async |from: u64, filter: EntryFilter, limit: u32| {
        let entries = store.entries(ORIGIN, from, &filter, limit).await.unwrap();
        for row in &entries {
            assert_eq!(*row, rows[usize::try_from(row.index).unwrap()]);
        }
        entries.into_iter().map(|row| row.index).collect::<Vec<_>>()
    };
    let all = EntryFilter::default();
    let time = |millis| Some(UnixMillis::new(millis));
    assert_eq!(wanted(0, all.clone(), 10).await, [0, 1, 2, 3]);
    assert_eq!(wanted(0, all.clone(), 2).await, [0, 1]);
    assert_eq!(wanted(2, all.clone(), 10).await, [2, 3]);
    assert_eq!(wanted(4, all.clone(), 10).await, [] as [u64; 0]);
    let since = EntryFilter { from: time(20), ..all.clone() };
    assert_eq!(wanted(0, since, 10).await, [1, 2, 3], "the first instant is in");
    let until = EntryFilter { until: time(30), ..all.clone() };
    assert_eq!(wanted(0, until, 10).await, [0, 2], "the last instant is out");
    let between = EntryFilter { from: time(20), until: time(40), ..all.clone() };
    assert_eq!(wanted(0, between.clone(), 10).await, [1, 2]);
    assert_eq!(wanted(2, between, 10).await, [2]);
    let of_one = EntryFilter { terminal: Some(terminal("ATM-1")), ..all.clone() };
    assert_eq!(wanted(0, of_one.clone(), 10).await, [0, 3]);
    assert_eq!(wanted(0, EntryFilter { from: time(11), ..of_one.clone() }, 10).await, [3]);
    assert_eq!(wanted(0, of_one, 1).await, [0]);

    assert_eq!(store.entry(ORIGIN, 2).await.unwrap(), Some(rows[2].clone()));
    assert_eq!(store.entry(ORIGIN, 4).await.unwrap(), None);
    let found = store.entry_by_receipt(ORIGIN, &rows[1].receipt).await.unwrap();
    assert_eq!(found, Some(rows[1].clone()));
    assert_eq!(store.entry_by_receipt(ORIGIN, &receipt(99)).await.unwrap(), None);
    let leaves = rows.map(|row| row.leaf);
    assert_eq!(store.leaves(ORIGIN, 0, 10).await.unwrap(), leaves);
    assert_eq!(store.leaves(ORIGIN, 1, 2).await.unwrap(), leaves[1..3]);
    assert_eq!(store.leaves(ORIGIN, 4, 10).await.unwrap(), []);
}

pub async fn a_gap_among_the_leaves_is_noticed(store: &dyn Store) {
    write(store, async |unit| {
        unit.insert_entry(ORIGIN, &entry(0, None, 1)).await?;
        unit.insert_entry(ORIGIN, &entry(2, None, 1)).await
    })
    .await
    .unwrap();
    assert_eq!(store.leaves(ORIGIN, 0, 1).await.unwrap().len(), 1);
    let gap = store.leaves(ORIGIN, 0, 10).await;
    assert!(matches!(gap, Err(StoreError::Inconsistent { .. })), "{gap:?}");
}

pub async fn an_index_and_a_receipt_are_taken_once(store: &dyn Store) {
    write(store, async |unit| unit.insert_entry(ORIGIN, &entry(0, None, 1)).await).await.unwrap();
    let same_index = EntryRow { receipt: receipt(99), ..entry(0, None, 1) };
    let same_receipt = EntryRow { receipt: receipt(0), ..entry(1, None, 1) };
    for row in [same_index, same_receipt] {
        let again = write(store, async |unit| unit.insert_entry(ORIGIN, &row).await).await;
        assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
    }
    let all = store.entries(ORIGIN, 0, &EntryFilter::default(), 10).await.unwrap();
    assert_eq!(all, [entry(0, None, 1)]);
}

pub async fn checkpoints_come_by_size_and_the_first_of_a_size_stays(store: &dyn Store) {
    assert_eq!(store.latest_checkpoint(ORIGIN).await.unwrap(), None);
    let rows = [checkpoint(10), checkpoint(20), checkpoint(100)];
    write(store, async |unit| {
        for row in rows.iter().rev() {
            unit.insert_checkpoint(ORIGIN, row).await?;
        }
        let other = CheckpointRow { text: "another".into(), ..rows[0].clone() };
        unit.insert_checkpoint(ORIGIN, &other).await
    })
    .await
    .unwrap();
    assert_eq!(store.checkpoints(ORIGIN, 0, 10).await.unwrap(), rows);
    assert_eq!(store.checkpoints(ORIGIN, 0, 2).await.unwrap(), rows[..2]);
    assert_eq!(store.checkpoints(ORIGIN, 20, 10).await.unwrap(), rows[1..]);
    assert_eq!(store.latest_checkpoint(ORIGIN).await.unwrap(), Some(rows[2].clone()));
}

pub async fn ledgers_are_apart(store: &dyn Store) {
    let other = "cash.bank.example/gw08/2026h2";
    let head = HeadRow { size: 1, root: digest(1), epoch: 1 };
    write(store, async |unit| {
        unit.insert_entry(ORIGIN, &entry(0, None, 1)).await?;
        unit.insert_entry(other, &entry(0, None, 1)).await?;
        unit.insert_checkpoint(ORIGIN, &checkpoint(1)).await?;
        unit.swap_head(ORIGIN, &HeadRow { size: 0, root: sha256(&[]), epoch: 0 }, &head).await
    })
    .await
    .unwrap();
    assert_eq!(store.head(other).await.unwrap().size, 0);
    assert_eq!(store.latest_checkpoint(other).await.unwrap(), None);
    let all = store.entries(other, 0, &EntryFilter::default(), 10).await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(store.leaves(ORIGIN, 0, 10).await.unwrap().len(), 1);
}

pub async fn what_others_say_is_kept_with_its_checkpoint(store: &dyn Store) {
    let note = |size: u64| checkpoint(size).text;
    write(store, async |unit| {
        for size in [3, 7] {
            unit.insert_checkpoint(ORIGIN, &checkpoint(size)).await?;
        }
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(store.witnessed(ORIGIN).await.unwrap(), None);
    let head = |size, time| WitnessedRow { size, time: UnixMillis::new(time) };
    for (line, row) in [("— a AAAA\n", head(3, 1)), ("— b BBBB\n", head(7, 2))] {
        write(store, async |unit| {
            unit.add_cosignature(ORIGIN, 7, line).await?;
            // The same again, and of a checkpoint that there is not, changes nothing.
            unit.add_cosignature(ORIGIN, 7, line).await?;
            unit.add_cosignature(ORIGIN, 8, line).await?;
            unit.put_witnessed(ORIGIN, &row).await
        })
        .await
        .unwrap();
    }
    let texts = store.checkpoints(ORIGIN, 0, 10).await.unwrap();
    let texts: Vec<_> = texts.into_iter().map(|row| row.text).collect();
    assert_eq!(texts, [note(3), format!("{}— a AAAA\n— b BBBB\n", note(7))]);
    assert_eq!(store.witnessed(ORIGIN).await.unwrap(), Some(head(7, 2)));
    assert_eq!(store.witnessed("another").await.unwrap(), None);

    let stamp = |size: u64, answer: &[u8]| TimestampRow {
        size,
        answer: answer.to_vec(),
        time: UnixMillis::new(5),
    };
    assert_eq!(store.latest_timestamp(ORIGIN).await.unwrap(), None);
    write(store, async |unit| {
        unit.insert_timestamp(ORIGIN, &stamp(7, b"seven")).await?;
        unit.insert_timestamp(ORIGIN, &stamp(7, b"again")).await?;
        unit.insert_timestamp(ORIGIN, &stamp(3, b"three")).await
    })
    .await
    .unwrap();
    let all = store.timestamps(ORIGIN, 0, 10).await.unwrap();
    assert_eq!(all, [stamp(3, b"three"), stamp(7, b"seven")]);
    assert_eq!(store.timestamps(ORIGIN, 4, 10).await.unwrap(), [stamp(7, b"seven")]);
    assert_eq!(store.timestamps(ORIGIN, 0, 1).await.unwrap(), [stamp(3, b"three")]);
    assert_eq!(store.latest_timestamp(ORIGIN).await.unwrap(), Some(stamp(7, b"seven")));
}

pub async fn a_batch_of_any_length_is_appended_whole_or_not_at_all(store: &dyn Store) {
    let row = |index: u64| {
        let mut id = [0; 16];
        id[8..].copy_from_slice(&index.to_be_bytes());
        EntryRow {
            index,
            receipt: tulga::domain::id::ReceiptId::new(id),
            leaf: sha256(&id),
            ..entry(index % 200, Some("ATM-1"), 1)
        }
    };
    let mut next = 0;
    for length in [0, 1, 3, 4, 35, 36, 291, 300, 1024] {
        let rows: Vec<EntryRow> = (next..next + length).map(row).collect();
        write(store, async |unit| unit.insert_entries(ORIGIN, &rows).await).await.unwrap();
        next += length;
    }
    let mut taken: Vec<EntryRow> = (next..next + 40).map(row).collect();
    taken[39].receipt = row(7).receipt;
    let refused = write(store, async |unit| unit.insert_entries(ORIGIN, &taken).await).await;
    assert!(matches!(refused, Err(StoreError::Exists)), "{refused:?}");
    let limit = u32::try_from(next).unwrap() + 100;
    let all = store.entries(ORIGIN, 0, &EntryFilter::default(), limit).await.unwrap();
    assert!(all.into_iter().eq((0..next).map(row)));
}

pub async fn a_ledger_is_closed_once_and_closed_ones_come_in_their_order(store: &dyn Store) {
    let closed = |name: &str, size| ClosedLedgerRow { origin: name.into(), size, root: digest(1) };
    let empty = HeadRow { size: 0, root: sha256(&[]), epoch: 0 };
    let head = HeadRow { epoch: 1, ..empty.clone() };
    assert_eq!(store.open_ledgers().await.unwrap(), [] as [String; 0]);
    // Not in the order of their names.
    for (name, next) in [("c", "a"), ("a", "b")] {
        write(store, async |unit| {
            if store.open_ledgers().await?.is_empty() {
                unit.swap_head(name, &empty, &head).await?;
            }
            unit.close_ledger(&closed(name, 7)).await?;
            unit.swap_head(next, &empty, &head).await
        })
        .await
        .unwrap();
        assert_eq!(store.open_ledgers().await.unwrap(), [next]);
    }
    let again = write(store, async |unit| unit.close_ledger(&closed("c", 8)).await).await;
    assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
    assert_eq!(store.closed_ledgers().await.unwrap(), [closed("c", 7), closed("a", 7)]);
}
