//! Questions answered from committed state.

use async_trait::async_trait;

use super::SqliteStore;
use super::engine::{Builder, Link, Row, Statement, query};
use super::guests::SELECT_GUESTS;
use super::parse::{Fields, stored};
use super::write::SqlUnit;
use crate::crypto::Digest;
use crate::domain::id::{CustomerId, ReceiptId};
use crate::domain::time::UnixMillis;
use crate::domain::transaction::DecisionKey;
use crate::store::{
    CaptureRow, ChallengeRow, CheckpointRow, CustomerKeyRow, CustomerRow, DecisionRow,
    DuplicateRow, EntryFilter, EntryRow, GUESTS_OF_NUMBER_MAX, HeadRow, OutcomeRow, RedemptionRow,
    Store, StoreError, TerminalKeyRow, TokenRow, UnitOfWork,
};

pub(super) const SELECT_DECISION: &str = "SELECT request_hash, entry_index, approves, sealed_answer FROM decisions \
     WHERE terminal = $1 AND business_date = $2 AND host_id = $3 AND attempt = $4";
pub(super) const SELECT_OUTCOME: &str = "SELECT outcome, dispensed_minor, currency, entry_index FROM outcomes \
     WHERE terminal = $1 AND business_date = $2 AND host_id = $3 AND attempt = $4";
pub(super) const SELECT_DUPLICATES: &str = "SELECT customer, other, strength_db, found_at, resolution FROM duplicates \
     WHERE customer = $1 ORDER BY strength_db DESC, other";
pub(super) const SELECT_CUSTOMER_BY_TOKEN: &str = "SELECT customer FROM tokens \
     WHERE token_index = $1 AND (expires_at IS NULL OR expires_at > $2)";
pub(super) const SELECT_REDEMPTION: &str =
    "SELECT receipt, redeemed_at, entry_index FROM redemptions WHERE receipt = $1";
pub(super) const SELECT_HEAD: &str =
    "SELECT origin, size, root, epoch FROM heads WHERE origin = $1";
pub(super) const SELECT_CUSTOMER: &str = "SELECT id, status, iin_index, sealed_record, created_at, updated_at, activated_at FROM customers WHERE id = $1";
pub(super) const SELECT_CAPTURES: &str = "SELECT id, customer, modality, sealed, created_at FROM captures \
     WHERE customer = $1 ORDER BY created_at, id";

/// The statement with a decision's key as its first four arguments.
pub(super) fn keyed<'q>(sql: &'static str, key: &'q DecisionKey) -> Statement<'q> {
    query(sql)
        .bind(key.terminal.as_str())
        .bind(key.business_date.as_str())
        .bind(key.host_id.as_str())
        .bind(i64::from(key.attempt.get()))
}

/// The head of a ledger; that of an empty tree if it was never written.
pub(super) fn head(connection: &Link, origin: &str) -> Result<HeadRow, StoreError> {
    let row = query(SELECT_HEAD).bind(origin).one(connection)?;
    match row {
        Some(row) => Fields::of("heads", &row).head(),
        None => Ok(HeadRow::empty()),
    }
}

impl SqliteStore {
    pub(super) async fn one(&self, statement: Statement<'_>) -> Result<Option<Row>, StoreError> {
        statement.one(&*self.readers.acquire().await?)
    }

    /// The row of a question that looks at many: out of the runtime's way.
    pub(super) async fn sum(&self, statement: Statement<'_>) -> Result<Option<Row>, StoreError> {
        Ok(self.many(statement).await?.into_iter().next())
    }

    pub(super) async fn many(&self, statement: Statement<'_>) -> Result<Vec<Row>, StoreError> {
        self.readers.acquire().await?.all(&statement)
    }
}

/// Every row as a value.
pub(super) fn parsed<'r, T>(
    table: &'static str,
    rows: &'r [Row],
    parse: impl Fn(&Fields<'r>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    rows.iter().map(|row| parse(&Fields::of(table, row))).collect()
}

#[async_trait]
impl Store for SqliteStore {
    async fn begin(&self) -> Result<Box<dyn UnitOfWork>, StoreError> {
        Ok(Box::new(SqlUnit::begin(self.writer().await?)?))
    }

    async fn terminal_key(&self, spki: &Digest) -> Result<Option<TerminalKeyRow>, StoreError> {
        let sql =
            "SELECT spki, terminal, registered_at, revoked_at FROM terminal_keys WHERE spki = $1";
        let row = self.one(query(sql).bind(spki.as_bytes().as_slice())).await?;
        row.map(|row| Fields::of("terminal_keys", &row).terminal_key()).transpose()
    }

    async fn terminal_keys(
        &self,
        after: Option<&Digest>,
        limit: u32,
    ) -> Result<Vec<TerminalKeyRow>, StoreError> {
        let sql = "SELECT spki, terminal, registered_at, revoked_at FROM terminal_keys WHERE $1 IS NULL \
                   OR (terminal, registered_at, spki) > \
                   (SELECT terminal, registered_at, spki FROM terminal_keys WHERE spki = $1) \
                   ORDER BY terminal, registered_at, spki LIMIT $2";
        let after = after.map(|digest| digest.as_bytes().as_slice());
        parsed(
            "terminal_keys",
            &self.many(query(sql).bind(after).bind(i64::from(limit))).await?,
            Fields::terminal_key,
        )
    }

    async fn customer(&self, id: &CustomerId) -> Result<Option<CustomerRow>, StoreError> {
        let row = self.one(query(SELECT_CUSTOMER).bind(id.as_bytes().as_slice())).await?;
        row.map(|row| Fields::of("customers", &row).customer_row()).transpose()
    }

    async fn customer_by_iin(&self, index: &Digest) -> Result<Option<CustomerId>, StoreError> {
        let sql = "SELECT id FROM customers WHERE iin_index = $1";
        let row = self.one(query(sql).bind(index.as_bytes().as_slice())).await?;
        row.map(|row| Fields::of("customers", &row).customer("id")).transpose()
    }

    async fn customer_by_token(
        &self,
        index: &Digest,
        now: UnixMillis,
    ) -> Result<Option<CustomerId>, StoreError> {
        let statement = query(SELECT_CUSTOMER_BY_TOKEN);
        let row = self.one(statement.bind(index.as_bytes().as_slice()).bind(now.get())).await?;
        row.map(|row| Fields::of("tokens", &row).customer("customer")).transpose()
    }

    async fn guests(&self, number_index: &Digest) -> Result<Vec<CustomerId>, StoreError> {
        let statement = query(SELECT_GUESTS).bind(number_index.as_bytes().as_slice());
        let rows = self.many(statement.bind(i64::from(GUESTS_OF_NUMBER_MAX))).await?;
        parsed("guests", &rows, |fields| fields.customer("customer"))
    }

    async fn customers(
        &self,
        after: Option<&CustomerId>,
        limit: u32,
    ) -> Result<Vec<CustomerRow>, StoreError> {
        let sql = "SELECT id, status, iin_index, sealed_record, created_at, updated_at, activated_at FROM customers \
                   WHERE id > $1 ORDER BY id LIMIT $2";
        let after = after.map_or(&[][..], |id| id.as_bytes());
        parsed(
            "customers",
            &self.many(query(sql).bind(after).bind(i64::from(limit))).await?,
            Fields::customer_row,
        )
    }

    async fn customer_key(&self, id: &CustomerId) -> Result<Option<CustomerKeyRow>, StoreError> {
        let sql = "SELECT customer, kek_id, wrapped FROM customer_keys WHERE customer = $1";
        let row = self.one(query(sql).bind(id.as_bytes().as_slice())).await?;
        row.map(|row| Fields::of("customer_keys", &row).customer_key()).transpose()
    }

    async fn captures(&self, id: &CustomerId) -> Result<Vec<CaptureRow>, StoreError> {
        let statement = query(SELECT_CAPTURES).bind(id.as_bytes().as_slice());
        parsed("captures", &self.many(statement).await?, Fields::capture)
    }

    async fn tokens(&self, id: &CustomerId) -> Result<Vec<TokenRow>, StoreError> {
        let sql = "SELECT token_index, customer, kind, bound_at, expires_at FROM tokens WHERE customer = $1 \
                   ORDER BY bound_at, token_index";
        parsed(
            "tokens",
            &self.many(query(sql).bind(id.as_bytes().as_slice())).await?,
            Fields::token,
        )
    }

    async fn duplicates(&self, id: &CustomerId) -> Result<Vec<DuplicateRow>, StoreError> {
        parsed(
            "duplicates",
            &self.many(query(SELECT_DUPLICATES).bind(id.as_bytes().as_slice())).await?,
            Fields::duplicate,
        )
    }

    async fn challenge(&self, hash: &Digest) -> Result<Option<ChallengeRow>, StoreError> {
        let sql = "SELECT hash, terminal, sealed_session, issued_at, expires_at, state FROM challenges WHERE hash = $1";
        let row = self.one(query(sql).bind(hash.as_bytes().as_slice())).await?;
        row.map(|row| Fields::of("challenges", &row).challenge()).transpose()
    }

    async fn counter(&self, key: &Digest) -> Result<u32, StoreError> {
        let sql = "SELECT key, value FROM counters WHERE key = $1";
        let row = self.one(query(sql).bind(key.as_bytes().as_slice())).await?;
        row.map_or(Ok(0), |row| Fields::of("counters", &row).counter())
    }

    async fn decision(&self, key: &DecisionKey) -> Result<Option<DecisionRow>, StoreError> {
        let row = self.one(keyed(SELECT_DECISION, key)).await?;
        row.map(|row| Fields::of("decisions", &row).decision(key)).transpose()
    }

    async fn outcome(&self, key: &DecisionKey) -> Result<Option<OutcomeRow>, StoreError> {
        let row = self.one(keyed(SELECT_OUTCOME, key)).await?;
        row.map(|row| Fields::of("outcomes", &row).outcome(key)).transpose()
    }

    async fn redemption(&self, receipt: &ReceiptId) -> Result<Option<RedemptionRow>, StoreError> {
        let row = self.one(query(SELECT_REDEMPTION).bind(receipt.as_bytes().as_slice())).await?;
        row.map(|row| Fields::of("redemptions", &row).redemption()).transpose()
    }

    async fn head(&self, origin: &str) -> Result<HeadRow, StoreError> {
        head(&*self.readers.acquire().await?, origin)
    }

    async fn leaves(&self, origin: &str, from: u64, limit: u32) -> Result<Vec<Digest>, StoreError> {
        let sql = "SELECT entry_index, leaf FROM entries WHERE origin = $1 AND entry_index >= $2 \
                   ORDER BY entry_index LIMIT $3";
        let statement = query(sql).bind(origin).bind(stored(from)).bind(i64::from(limit));
        let leaves = parsed("entries", &self.many(statement).await?, |row| {
            Ok((row.natural("entry_index")?, row.digest("leaf")?))
        })?;
        // A gap would shift every leaf behind it.
        let gap = (from..).zip(&leaves).find(|(expected, (index, _))| expected != index);
        match gap {
            Some((index, _)) => Err(StoreError::Inconsistent {
                table: "entries",
                column: "entry_index",
                row: index.to_string(),
            }),
            None => Ok(leaves.into_iter().map(|(_, leaf)| leaf).collect()),
        }
    }

    async fn entry(&self, origin: &str, index: u64) -> Result<Option<EntryRow>, StoreError> {
        let sql = "SELECT entry_index, receipt, kind, terminal, time, jws, leaf, sealed_audit FROM entries \
                   WHERE origin = $1 AND entry_index = $2";
        let row = self.one(query(sql).bind(origin).bind(stored(index))).await?;
        row.map(|row| Fields::of("entries", &row).entry()).transpose()
    }

    async fn entry_by_receipt(
        &self,
        origin: &str,
        receipt: &ReceiptId,
    ) -> Result<Option<EntryRow>, StoreError> {
        let sql = "SELECT entry_index, receipt, kind, terminal, time, jws, leaf, sealed_audit FROM entries \
                   WHERE origin = $1 AND receipt = $2";
        let row = self.one(query(sql).bind(origin).bind(receipt.as_bytes().as_slice())).await?;
        row.map(|row| Fields::of("entries", &row).entry()).transpose()
    }

    async fn entries(
        &self,
        origin: &str,
        from: u64,
        filter: &EntryFilter,
        limit: u32,
    ) -> Result<Vec<EntryRow>, StoreError> {
        let EntryFilter { from: not_before, until, terminal } = filter;
        // Only what is asked for is written: each combination then finds its own index.
        let mut sql = Builder::new(
            "SELECT entry_index, receipt, kind, terminal, time, jws, leaf, sealed_audit FROM entries WHERE origin = ",
        );
        sql.push_bind(origin).push(" AND entry_index >= ").push_bind(stored(from));
        if let Some(not_before) = not_before {
            sql.push(" AND time >= ").push_bind(not_before.get());
        }
        if let Some(until) = until {
            sql.push(" AND time < ").push_bind(until.get());
        }
        if let Some(terminal) = terminal {
            sql.push(" AND terminal = ").push_bind(terminal.as_str());
        }
        sql.push(" ORDER BY entry_index LIMIT ").push_bind(i64::from(limit));
        parsed("entries", &self.many(sql.build()).await?, Fields::entry)
    }

    async fn checkpoints(
        &self,
        origin: &str,
        from_size: u64,
        limit: u32,
    ) -> Result<Vec<CheckpointRow>, StoreError> {
        let sql = "SELECT size, text, time FROM checkpoints WHERE origin = $1 AND size >= $2 ORDER BY size LIMIT $3";
        let statement = query(sql).bind(origin).bind(stored(from_size)).bind(i64::from(limit));
        parsed("checkpoints", &self.many(statement).await?, Fields::checkpoint)
    }

    async fn latest_checkpoint(&self, origin: &str) -> Result<Option<CheckpointRow>, StoreError> {
        let sql =
            "SELECT size, text, time FROM checkpoints WHERE origin = $1 ORDER BY size DESC LIMIT 1";
        let row = self.one(query(sql).bind(origin)).await?;
        row.map(|row| Fields::of("checkpoints", &row).checkpoint()).transpose()
    }
}
