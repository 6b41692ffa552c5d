//! What is particular to a store in a file.

use tulga::domain::time::UnixMillis;
use tulga::store::sql::SqliteStore;
use tulga::store::{
    AttemptQuestions as _, CaptureRow, LockRow, LockedWho, ProposalReads as _, Store as _,
    StoreError,
};

use super::fixtures::{add_customer, capture, customer_id, digest, write};

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

/// Takes away what step 18 made: a database in which an activation and an unlock waited in tables of their own.
const OF_BEFORE_18: &str = "
    DROP INDEX proposals_open_by;
    DROP INDEX proposals_open_about;
    CREATE TABLE activation_proposals (customer BLOB PRIMARY KEY REFERENCES customers (id),
        proposed_by TEXT NOT NULL, proposed_key BLOB NOT NULL, reason TEXT NOT NULL,
        proposed_at INTEGER NOT NULL, entry_index INTEGER NOT NULL);
    INSERT INTO activation_proposals SELECT id, 'one', x'07', 'no_reference', 5, 6 FROM customers;
    ALTER TABLE biometric_locks ADD COLUMN proposed_by TEXT;
    ALTER TABLE biometric_locks ADD COLUMN proposed_key BLOB;
    ALTER TABLE biometric_locks ADD COLUMN proposed_at INTEGER;
    ALTER TABLE biometric_locks ADD COLUMN proposal_index INTEGER;
    UPDATE biometric_locks SET proposed_by = 'one', proposed_key = x'07', proposed_at = 5, proposal_index = 6;
    DELETE FROM _sqlx_migrations WHERE version = 18;";

#[tokio::test]
async fn what_waited_in_tables_of_its_own_is_gone_and_the_locks_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tulga.sqlite");
    let store = SqliteStore::open(&path).await.unwrap();
    add_customer(&store, 1).await;
    let lock = LockRow {
        subject: digest(3),
        who: LockedWho::Customer(customer_id(1)),
        locked_at: UnixMillis::new(4),
        index: Some(9),
    };
    write(&store, async |unit| unit.put_biometric_lock(&lock).await).await.unwrap();
    store.close().await;
    let database = rusqlite::Connection::open(&path).unwrap();
    database.execute_batch(OF_BEFORE_18).unwrap();
    drop(database);
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(store.biometric_lock(&digest(3)).await.unwrap(), Some(lock));
    assert!(store.customer(&customer_id(1)).await.unwrap().is_some());
    assert_eq!(store.proposals(true, None, 9).await.unwrap(), []);
    store.close().await;
    let database = rusqlite::Connection::open(&path).unwrap();
    let left = "SELECT COUNT(*) FROM sqlite_master WHERE sql LIKE '%activation_proposals%' \
                OR (name = 'biometric_locks' AND sql LIKE '%proposed%')";
    let left: i64 = database.query_row(left, [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
}

fn lies_in(dir: &std::path::Path, needle: &[u8]) -> bool {
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    files.into_iter().any(|path| {
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(needle.len()).any(|window| window == needle)
    })
}
