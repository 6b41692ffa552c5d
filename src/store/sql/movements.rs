//! Movements in SQL.

use async_trait::async_trait;
use sqlx::query;

use super::parse::{Fields, stored};
use super::read::{Statement, keyed};
use super::unavailable;
use super::write::SqlUnit;
use crate::domain::money::Currency;
use crate::domain::transaction::DecisionKey;
use crate::domain::turnover::{Direction, Turnover, Window};
use crate::store::{MovedRow, MovementRow, Movements, MovementsOf, Starts, StoreError};

/// The sums of one party's movements by direction, behind a condition on the party. The windows'
/// starts are $1 to $5, the earliest of them $6, the currency $7.
macro_rules! sums_where {
    ($party:literal) => {
        concat!(
            "SELECT direction, ",
            "SUM(at >= $1) AS count_0, SUM(CASE WHEN at >= $1 THEN moved_minor ELSE 0 END) AS sum_0, ",
            "SUM(at >= $2) AS count_1, SUM(CASE WHEN at >= $2 THEN moved_minor ELSE 0 END) AS sum_1, ",
            "SUM(at >= $3) AS count_2, SUM(CASE WHEN at >= $3 THEN moved_minor ELSE 0 END) AS sum_2, ",
            "SUM(at >= $4) AS count_3, SUM(CASE WHEN at >= $4 THEN moved_minor ELSE 0 END) AS sum_3, ",
            "SUM(at >= $5) AS count_4, SUM(CASE WHEN at >= $5 THEN moved_minor ELSE 0 END) AS sum_4 ",
            "FROM movements WHERE at >= $6 AND currency = $7 AND moved_minor > 0 AND ",
            $party,
            " GROUP BY direction"
        )
    };
}

const COLUMNS: [(&str, &str); Window::ALL.len()] = [
    ("count_0", "sum_0"),
    ("count_1", "sum_1"),
    ("count_2", "sum_2"),
    ("count_3", "sum_3"),
    ("count_4", "sum_4"),
];

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
        self.run(statement).await.map(drop)
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
        Ok(self.run(statement).await? > 0)
    }

    async fn moved(&mut self, key: &DecisionKey) -> Result<Option<MovedRow>, StoreError> {
        let sql = "SELECT approved_minor, moved_minor, currency, moved_index FROM movements \
                   WHERE terminal = $1 AND business_date = $2 AND host_id = $3 AND attempt = $4";
        let row = keyed(sql, key).fetch_optional(self.connection()).await.map_err(unavailable)?;
        row.map(|row| Fields::of("movements", &row).moved()).transpose()
    }

    async fn turnover(
        &mut self,
        of: &MovementsOf,
        currency: Currency,
        starts: &Starts,
    ) -> Result<[[Turnover; Window::ALL.len()]; Direction::ALL.len()], StoreError> {
        let sums = |sql: &'static str| -> Statement<'_> {
            let statement = starts.iter().fold(query(sql), |all, start| all.bind(start.get()));
            let earliest = starts.iter().min().map_or(0, |start| start.get());
            statement.bind(earliest).bind(currency.as_str().to_owned())
        };
        let statement = match of {
            MovementsOf::Customer(id) => {
                sums(sums_where!("customer = $8")).bind(id.as_bytes().as_slice())
            }
            MovementsOf::Account(index) => {
                sums(sums_where!("account = $8")).bind(index.as_bytes().as_slice())
            }
            MovementsOf::Card(index) => {
                sums(sums_where!("card = $8")).bind(index.as_bytes().as_slice())
            }
            MovementsOf::Terminal(id) => sums(sums_where!("terminal = $8")).bind(id.as_str()),
            MovementsOf::CustomerAtTerminal(id, terminal) => {
                sums(sums_where!("customer = $8 AND terminal = $9"))
                    .bind(id.as_bytes().as_slice())
                    .bind(terminal.as_str())
            }
        };
        let rows = statement.fetch_all(self.connection()).await.map_err(unavailable)?;
        let mut turnovers = [[Turnover::default(); Window::ALL.len()]; Direction::ALL.len()];
        for row in &rows {
            let fields = Fields::of("movements", row);
            let direction = fields.direction()?;
            let of_direction = turnovers
                .iter_mut()
                .zip(Direction::ALL)
                .filter_map(|(sums, each)| (each == direction).then_some(sums));
            for (turnover, (count, sum)) in of_direction.flatten().zip(COLUMNS) {
                *turnover =
                    Turnover { count: fields.integer(count)?, amount_minor: fields.integer(sum)? };
            }
        }
        Ok(turnovers)
    }
}
