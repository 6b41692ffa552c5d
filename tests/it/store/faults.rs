//! The memory store fails as it is told to.

use tulga::store::memory::{Fault, MemoryStore};
use tulga::store::{Store as _, StoreError};

use super::ORIGIN;
use super::fixtures::{entry, write};

async fn commit_one(store: &MemoryStore) -> Result<(), StoreError> {
    write(store, async |unit| unit.insert_entry(ORIGIN, &entry(0, None, 1)).await).await
}

#[tokio::test]
async fn a_fault_strikes_once_and_keeps_what_it_says() {
    for (fault, unclear, kept) in [
        (Fault::Begin, false, false),
        (Fault::Write, false, false),
        (Fault::BeforeCommit, false, false),
        (Fault::CommitLost, true, false),
        (Fault::AfterCommit, true, true),
    ] {
        let store = MemoryStore::default();
        store.fail_next(fault);
        let error = commit_one(&store).await.unwrap_err();
        assert_eq!(matches!(error, StoreError::CommitUnclear(_)), unclear, "{fault:?}");
        assert_eq!(matches!(error, StoreError::Unavailable(_)), !unclear, "{fault:?}");
        assert!(store.script_is_done());
        assert_eq!(store.entry(ORIGIN, 0).await.unwrap().is_some(), kept, "{fault:?}");
        let again = commit_one(&store).await;
        assert_eq!(matches!(again, Err(StoreError::Exists)), kept, "{fault:?}");
    }
}

#[tokio::test]
async fn a_fault_waits_for_its_turn_and_its_kind() {
    let store = MemoryStore::default();
    store.fail_after(1, Fault::Read);
    commit_one(&store).await.unwrap();
    assert!(store.entry(ORIGIN, 0).await.is_ok());
    assert!(matches!(store.entry(ORIGIN, 0).await, Err(StoreError::Unavailable(_))));
    assert!(store.entry(ORIGIN, 0).await.is_ok());
}

#[tokio::test]
async fn a_clone_is_the_same_store() {
    let store = MemoryStore::default();
    commit_one(&store.clone()).await.unwrap();
    assert!(store.entry(ORIGIN, 0).await.unwrap().is_some());
}
