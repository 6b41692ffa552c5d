//! Movements in SQL.

use async_trait::async_trait;

use super::engine::{Statement, query};
use super::parse::{Fields, stored};
use super::read::keyed;
use super::write::SqlUnit;
use crate::domain::money::Currency;
use crate::domain::time::UnixMillis;
use crate::domain::transaction::DecisionKey;
use crate::domain::turnover::{Direction, Turnover};
use crate::store::{MovedRow, MovementRow, Movements, MovementsOf, StoreError};

/// How many, and their sum, behind a condition on the party from $4 on.
macro_rules! sum_where {
    ($party:literal) => {
        concat!(
            "SELECT COUNT(*) AS count, COALESCE(SUM(moved_minor), 0) AS sum FROM movements ",
            "WHERE at >= $1 AND currency = $2 AND direction = $3 AND moved_minor > 0 AND ",
            $party
        )
    };
}

#[async_trait]
impl Movements for SqlUnit {
    async fn insert_movement(&mut self, row: &MovementRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO movements (terminal, business_date, host_id, attempt, customer, account, \
                   card, direction, approved_minor, moved_minor, currency, at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11)";
        let statement = keyed(sql, &row.key)
            .bind(row.customer.as_bytes().as_slice())
            .bind(row.account.as_bytes().as_slice())
            .bind(row.card.as_ref().map(|index| index.as_bytes().as_slice()))
            .bind(row.direction.as_str())
            .bind(row.approved_minor)
            .bind(row.currency.as_str())
            .bind(row.at.get());
        self.run(statement).map(drop)
    }

    async fn set_moved(
        &mut self,
        key: &DecisionKey,
        moved_minor: i64,
        index: u64,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE movements SET moved_minor = $5, moved_index = $6 \
                   WHERE terminal = $1 AND business_date = $2 AND host_id = $3 AND attempt = $4";
        let statement = keyed(sql, key).bind(moved_minor).bind(stored(index));
        Ok(self.run(statement)? > 0)
    }

    async fn moved(&mut self, key: &DecisionKey) -> Result<Option<MovedRow>, StoreError> {
        let sql = "SELECT approved_minor, moved_minor, currency, moved_index FROM movements \
                   WHERE terminal = $1 AND business_date = $2 AND host_id = $3 AND attempt = $4";
        let row = keyed(sql, key).one(self.connection())?;
        row.map(|row| Fields::of("movements", &row).moved()).transpose()
    }

    async fn turnover(
        &mut self,
        of: &MovementsOf,
        currency: Currency,
        direction: Direction,
        since: UnixMillis,
    ) -> Result<Turnover, StoreError> {
        let sum = |sql: &'static str| -> Statement<'_> {
            query(sql).bind(since.get()).bind(currency.as_str().to_owned()).bind(direction.as_str())
        };
        let statement = match of {
            MovementsOf::Customer(id) => {
                sum(sum_where!("customer = $4")).bind(id.as_bytes().as_slice())
            }
            MovementsOf::Account(index) => {
                sum(sum_where!("account = $4")).bind(index.as_bytes().as_slice())
            }
            MovementsOf::Card(index) => {
                sum(sum_where!("card = $4")).bind(index.as_bytes().as_slice())
            }
            MovementsOf::Terminal(id) => sum(sum_where!("terminal = $4")).bind(id.as_str()),
            MovementsOf::GuestsOfNumber(index) => {
                sum(sum_where!("customer IN (SELECT customer FROM guests WHERE number_index = $4)"))
                    .bind(index.as_bytes().as_slice())
            }
            MovementsOf::CustomerAtTerminal(id, terminal) => {
                sum(sum_where!("customer = $4 AND terminal = $5"))
                    .bind(id.as_bytes().as_slice())
                    .bind(terminal.as_str())
            }
        };
        let row = statement.single(self.connection())?;
        let fields = Fields::of("movements", &row);
        Ok(Turnover { count: fields.integer("count")?, amount_minor: fields.integer("sum")? })
    }
}
