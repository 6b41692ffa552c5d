//! Ledgers in SQL.

use std::sync::LazyLock;

use async_trait::async_trait;

use super::SqliteStore;
use super::engine::query;
use super::parse::{Fields, stored};
use super::read::parsed;
use super::write::SqlUnit;
use crate::domain::id::TerminalId;
use crate::store::{ClosedLedgerRow, EntryRow, LedgerReads, LedgerWrites, StoreError};

#[async_trait]
impl LedgerReads for SqliteStore {
    async fn closed_ledgers(&self) -> Result<Vec<ClosedLedgerRow>, StoreError> {
        let sql = "SELECT origin, size, root FROM closed_ledgers ORDER BY ordinal";
        parsed("closed_ledgers", &self.many(query(sql)).await?, |row| {
            Ok(ClosedLedgerRow {
                origin: row.text("origin")?,
                size: row.natural("size")?,
                root: row.digest("root")?,
            })
        })
    }

    async fn open_ledgers(&self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT origin FROM heads \
                   WHERE origin NOT IN (SELECT origin FROM closed_ledgers) ORDER BY origin";
        parsed("heads", &self.many(query(sql)).await?, |row: &Fields<'_>| row.text("origin"))
    }
}

#[async_trait]
impl LedgerWrites for SqlUnit {
    async fn close_ledger(&mut self, row: &ClosedLedgerRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO closed_ledgers (ordinal, origin, size, root) \
                   SELECT COUNT(*), $1, $2, $3 FROM closed_ledgers";
        let statement = query(sql)
            .bind(row.origin.as_str())
            .bind(stored(row.size))
            .bind(row.root.as_bytes().as_slice());
        self.run(statement).map(drop)
    }

    async fn insert_entries(&mut self, origin: &str, rows: &[EntryRow]) -> Result<(), StoreError> {
        let mut rest = rows;
        for insert in &*INSERTS {
            while let Some((rows, after)) = rest.split_at_checked(insert.rows) {
                let statement =
                    rows.iter().fold(query(insert.sql.as_str()).bind(origin), |it, row| {
                        it.bind(stored(row.index))
                            .bind(row.receipt.as_bytes().as_slice())
                            .bind(row.kind.as_str())
                            .bind(row.terminal.as_ref().map(TerminalId::as_str))
                            .bind(row.time.get())
                            .bind(row.jws.as_str())
                            .bind(row.leaf.as_bytes().as_slice())
                            .bind(row.sealed_audit.as_deref())
                    });
                self.run(statement)?;
                rest = after;
            }
        }
        Ok(())
    }
}

/// A statement that inserts so many entries: each is prepared once, and a batch takes few of them,
/// since each is a round trip to the connection's thread.
struct Insert {
    rows: usize,
    sql: String,
}

impl Insert {
    fn of(rows: usize) -> Self {
        let tuple = |row: usize| {
            let columns: String = (0..8).map(|at| format!(", ${}", 2 + 8 * row + at)).collect();
            format!("($1{columns})")
        };
        let tuples: Vec<_> = (0..rows).map(tuple).collect();
        let sql = format!(
            "INSERT INTO entries \
             (origin, entry_index, receipt, kind, terminal, time, jws, leaf, sealed_audit) VALUES {}",
            tuples.join(", ")
        );
        Self { rows, sql }
    }
}

static INSERTS: LazyLock<[Insert; 4]> = LazyLock::new(|| [256, 32, 4, 1].map(Insert::of));
