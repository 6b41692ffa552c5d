//! The tables, brought up to date step by step.
//!
//! Which steps a file has is written in it with a checksum of each, so that a file of another version, or one
//! whose history was altered, is refused.

use std::collections::BTreeMap;

use super::engine::{Link, query, unavailable};
use crate::crypto::sha384;
use crate::store::StoreError;

macro_rules! steps {
    ($($file:literal,)+) => {
        [$(($file, include_str!(concat!("migrations/", $file, ".sql"))),)+]
    };
}

/// The steps in their order: a number and a name, and what is done.
const STEPS: &[(&str, &str)] = &steps![
    "0001_first",
    "0002_policies",
    "0003_confirmations",
    "0004_registers",
    "0005_footage",
    "0006_reference",
    "0007_tellers",
    "0008_lookalikes",
    "0009_ledgers",
    "0011_witnesses",
    "0012_sensors",
    "0013_attempts",
    "0014_keks",
    "0015_people",
    "0016_consents",
    "0017_sealing",
    "0018_one_mechanism",
];

/// The table that says which steps were done.
const HISTORY: &str = "CREATE TABLE IF NOT EXISTS _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
)";

/// Does the steps that a file lacks.
///
/// # Errors
///
/// [`StoreError::Migration`] for a file with steps that are not these.
pub(super) fn migrate(link: &Link) -> Result<(), StoreError> {
    link.script(HISTORY).map_err(unavailable)?;
    let mut done = history(link)?;
    for (name, sql) in STEPS {
        let (number, description) = name.split_once('_').unwrap_or((name, ""));
        let version: i64 = number.parse().map_err(|_| refused("a step without a number"))?;
        let checksum = sha384(sql.as_bytes());
        match done.remove(&version) {
            Some((true, sum)) if sum == checksum => {}
            Some((true, _)) => return Err(refused("a step of its history was altered")),
            Some((false, _)) => return Err(refused("a step was begun and not finished")),
            None => step(link, sql, version, &description.replace('_', " "), &checksum)?,
        }
    }
    if done.is_empty() { Ok(()) } else { Err(refused("it has a step that this build lacks")) }
}

/// Each step done: whether to its end, and the checksum.
fn history(link: &Link) -> Result<BTreeMap<i64, (bool, Vec<u8>)>, StoreError> {
    let rows = query("SELECT version, success, checksum FROM _sqlx_migrations").all(link)?;
    let parse = |row: &super::engine::Row| {
        Some((row.get("version")?, (row.get("success")?, row.get("checksum")?)))
    };
    let rows: Option<_> = rows.iter().map(parse).collect();
    rows.ok_or_else(|| refused("its history does not parse"))
}

/// Does one step, and notes it, or neither.
fn step(
    link: &Link,
    sql: &str,
    version: i64,
    description: &str,
    checksum: &[u8],
) -> Result<(), StoreError> {
    let failed = |cause| StoreError::Migration(Box::new(cause));
    link.script("BEGIN IMMEDIATE").map_err(failed)?;
    let done = link.script(sql).map_err(failed).and_then(|()| {
        let note = "INSERT INTO _sqlx_migrations \
                    (version, description, success, checksum, execution_time) \
                    VALUES ($1, $2, TRUE, $3, 0)";
        query(note).bind(version).bind(description).bind(checksum).run(link)?;
        link.script("COMMIT").map_err(failed)
    });
    if done.is_err() && link.is_in_transaction() {
        link.script("ROLLBACK").map_err(failed)?;
    }
    done
}

fn refused(why: &'static str) -> StoreError {
    StoreError::Migration(why.into())
}
