//! Rows to store: each told apart by a number.

use tulga::crypto::Digest;
use tulga::domain::id::{Attempt, CaptureId, CustomerId, HostTransactionId, ReceiptId, TerminalId};
use tulga::domain::modality::Modality;
use tulga::domain::time::{BusinessDate, UnixMillis};
use tulga::domain::transaction::{DecisionKey, TokenKind};
use tulga::store::{
    CaptureRow, ChallengeRow, ChallengeState, CheckpointRow, CustomerKeyRow, CustomerRow,
    CustomerStatus, DecisionRow, DuplicateRow, EntryRow, Store, StoreError, TerminalKeyRow,
    TokenRow, UnitOfWork,
};

use super::ORIGIN;

/// One transaction: begin, `work`, commit.
pub async fn write<T>(
    store: &dyn Store,
    work: impl AsyncFnOnce(&mut dyn UnitOfWork) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut unit = store.begin().await?;
    let value = work(&mut *unit).await?;
    unit.commit().await?;
    Ok(value)
}

pub async fn add_customer(store: &dyn Store, number: u8) {
    let (row, key) = customer(number);
    write(store, async |unit| unit.insert_customer(&row, &key).await).await.unwrap();
}

pub fn digest(number: u8) -> Digest {
    Digest::new([number; 32])
}

pub fn terminal(name: &str) -> TerminalId {
    TerminalId::try_from(name).unwrap()
}

pub fn customer_id(number: u8) -> CustomerId {
    CustomerId::new([number; 16])
}

pub fn receipt(number: u8) -> ReceiptId {
    ReceiptId::new([number; 16])
}

pub fn terminal_key(number: u8, name: &str, at: i64) -> TerminalKeyRow {
    TerminalKeyRow {
        spki: digest(number),
        terminal: terminal(name),
        registered_at: UnixMillis::new(at),
        revoked_at: None,
    }
}

pub fn customer(number: u8) -> (CustomerRow, CustomerKeyRow) {
    let id = customer_id(number);
    let row = CustomerRow {
        id,
        status: CustomerStatus::Active,
        iin_index: Some(digest(number)),
        sealed_record: vec![number; 40],
        created_at: UnixMillis::new(i64::from(number)),
        updated_at: UnixMillis::new(i64::from(number)),
        activated_at: None,
    };
    let wrapped = format!("wrapped keys of customer {number}").into_bytes();
    (row, CustomerKeyRow { customer: id, kek_id: "0badcafe".into(), wrapped })
}

pub fn token(number: u8, of: u8, kind: TokenKind, at: i64, until: Option<i64>) -> TokenRow {
    TokenRow {
        index: digest(number),
        customer: customer_id(of),
        kind,
        bound_at: UnixMillis::new(at),
        expires_at: until.map(UnixMillis::new),
    }
}

pub fn capture(number: u8, of: u8, at: i64) -> CaptureRow {
    CaptureRow {
        id: CaptureId::new([number; 16]),
        customer: customer_id(of),
        modality: Modality::Face,
        sealed: vec![number; 60],
        created_at: UnixMillis::new(at),
    }
}

pub fn duplicate(of: u8, other: u8, strength_db: i64) -> DuplicateRow {
    DuplicateRow {
        customer: customer_id(of),
        other: customer_id(other),
        strength_db,
        found_at: UnixMillis::new(7),
        resolution: None,
    }
}

pub fn challenge(number: u8, until: i64) -> ChallengeRow {
    ChallengeRow {
        hash: digest(number),
        terminal: terminal("ATM-1"),
        sealed_session: vec![number; 20],
        issued_at: UnixMillis::new(1),
        expires_at: UnixMillis::new(until),
        state: ChallengeState::Open,
    }
}

pub fn decision(host_id: &str, attempt: u32) -> DecisionRow {
    DecisionRow {
        key: DecisionKey {
            terminal: terminal("ATM-1"),
            business_date: BusinessDate::try_from("2026-11-21").unwrap(),
            host_id: HostTransactionId::try_from(host_id).unwrap(),
            attempt: Attempt::try_from(attempt).unwrap(),
        },
        request_hash: digest(1),
        index: 12,
        approves: false,
        sealed_answer: vec![1, 2, 3],
    }
}

pub fn entry(index: u64, name: Option<&str>, at: i64) -> EntryRow {
    let number = u8::try_from(index).unwrap();
    EntryRow {
        index,
        receipt: receipt(number),
        kind: "verification".into(),
        terminal: name.map(terminal),
        time: UnixMillis::new(at),
        jws: format!("header.payload.{index}"),
        leaf: digest(number),
        sealed_audit: name.map(|_| vec![number; 30]),
    }
}

pub fn checkpoint(size: u64) -> CheckpointRow {
    CheckpointRow { size, text: format!("{ORIGIN}\n{size}\n"), time: UnixMillis::new(1) }
}
