//! Guests in SQL.

use async_trait::async_trait;

use super::engine::query;
use super::write::SqlUnit;
use crate::domain::id::TerminalId;
use crate::domain::time::UnixMillis;
use crate::store::{GuestRow, Guests, StoreError};

pub(super) const SELECT_GUESTS: &str =
    "SELECT customer FROM guests WHERE number_index = $1 ORDER BY at DESC, customer LIMIT $2";

#[async_trait]
impl Guests for SqlUnit {
    async fn insert_guest(&mut self, row: &GuestRow) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO guests (customer, number_index, terminal, at) VALUES ($1, $2, $3, $4)";
        let statement = query(sql)
            .bind(row.customer.as_bytes().as_slice())
            .bind(row.number_index.as_bytes().as_slice())
            .bind(row.terminal.as_str())
            .bind(row.at.get());
        self.run(statement).map(drop)
    }

    async fn guests_of_terminal(
        &mut self,
        terminal: &TerminalId,
        since: UnixMillis,
    ) -> Result<i64, StoreError> {
        let sql = "SELECT COUNT(*) FROM guests WHERE terminal = $1 AND at >= $2";
        self.number(query(sql).bind(terminal.as_str()).bind(since.get()))
    }
}
