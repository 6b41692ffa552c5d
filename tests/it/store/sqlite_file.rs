//! What is particular to a store in a file.

use tulga::domain::time::UnixMillis;
use tulga::store::sql::SqliteStore;
use tulga::store::{CaptureRow, Store as _, StoreError};

use super::fixtures::{add_customer, capture, customer_id, write};

#[tokio::test]
async fn what_was_erased_is_in_no_file_of_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tulga.sqlite");
    let store = SqliteStore::open(&path).await.unwrap();
    add_customer(&store, 1).await;
    let secret =
        CaptureRow { sealed: b"sealed-template-to-be-erased".repeat(40), ..capture(1, 1, 1) };
    write(&store, async |unit| unit.insert_capture(&secret).await).await.unwrap();
    assert!(lies_in(dir.path(), b"sealed-template-to-be-erased"), "the search finds what is there");
    let at = UnixMillis::new(2);
    write(&store, async |unit| unit.erase_customer(&customer_id(1), at).await).await.unwrap();
    // The journal is emptied when the writer is given back: the next transaction comes after that.
    drop(store.begin().await.unwrap());
    assert!(!lies_in(dir.path(), b"sealed-template-to-be-erased"));
    assert!(!lies_in(dir.path(), b"wrapped keys of customer 1"));
}

#[tokio::test]
async fn a_row_that_somebody_altered_does_not_parse() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tulga.sqlite");
    let store = SqliteStore::open(&path).await.unwrap();
    add_customer(&store, 1).await;
    store.close().await;
    // A status of the same length that no version ever wrote, put in by hand.
    let mut bytes = std::fs::read(&path).unwrap();
    let place = bytes.windows(6).position(|window| window == b"active").unwrap();
    bytes[place..place + 6].copy_from_slice(b"aktive");
    std::fs::write(&path, bytes).unwrap();
    let store = SqliteStore::open(&path).await.unwrap();
    let read = store.customer(&customer_id(1)).await;
    let Err(StoreError::Inconsistent { table, column, row }) = read else { panic!("{read:?}") };
    assert_eq!((table, column), ("customers", "status"));
    assert_eq!(row, "01".repeat(16), "the row is named by its key");
}

fn lies_in(dir: &std::path::Path, needle: &[u8]) -> bool {
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    files.into_iter().any(|path| {
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(needle.len()).any(|window| window == needle)
    })
}
