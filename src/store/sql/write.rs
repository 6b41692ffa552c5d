//! One write transaction.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OwnedMutexGuard;

use super::consents::ENDS_WITH_CONSENT;
use super::engine::{Link, Statement, is_busy, out_of_the_way, query, unavailable, uncommitted};
use super::parse::{Fields, stored};
use super::read::{
    SELECT_CAPTURES, SELECT_CUSTOMER, SELECT_CUSTOMER_BY_TOKEN, SELECT_DECISION, SELECT_DUPLICATES,
    SELECT_OUTCOME, SELECT_REDEMPTION, head, keyed,
};
use super::{BUSY, Writer};
use crate::crypto::Digest;
use crate::domain::id::{CaptureId, CustomerId, ReceiptId, TerminalId};
use crate::domain::time::UnixMillis;
use crate::domain::transaction::DecisionKey;
use crate::store::{
    CaptureRow, ChallengeRow, ChallengeState, CheckpointRow, CustomerKeyRow, CustomerRow,
    CustomerStatus, DecisionRow, DuplicateRow, HeadRow, OutcomeRow, RedemptionRow, StoreError,
    TerminalKeyRow, TokenRow, UnitOfWork,
};

/// A transaction on the one connection that writes; rolled back when it is dropped.
pub(super) struct SqlUnit {
    writer: OwnedMutexGuard<Writer>,
    /// Something was destroyed: its bytes must leave the journal too.
    destroys: bool,
}

impl SqlUnit {
    /// Begins it. The lock is taken at once: who begins by reading cannot be sure to get it later.
    pub fn begin(mut writer: OwnedMutexGuard<Writer>) -> Result<Self, StoreError> {
        writer.link()?;
        // Before the lock is taken: whatever fails from here on, dropping this gives it back.
        let unit = Self { writer, destroys: false };
        let link = unit.connection();
        let take_lock = || link.script("BEGIN IMMEDIATE");
        // Another process hardly ever has the lock; only then it is waited for.
        link.set_busy(Duration::ZERO).map_err(unavailable)?;
        let first = take_lock();
        link.set_busy(BUSY).map_err(unavailable)?;
        let taken = match first {
            Err(cause) if is_busy(&cause) => out_of_the_way(take_lock),
            first => first,
        };
        taken.map_err(unavailable)?;
        Ok(unit)
    }

    /// Runs a statement; how many rows it touched.
    pub fn run(&self, statement: Statement<'_>) -> Result<u64, StoreError> {
        statement.run(self.connection())
    }

    /// Runs statements that ask for nothing but one row's identifier.
    pub fn run_each(&self, statements: &[&'static str], id: &[u8]) -> Result<(), StoreError> {
        statements.iter().try_for_each(|sql| self.run(query(*sql).bind(id)).map(drop))
    }

    /// Something is destroyed: its bytes leave the journal after the commit.
    pub const fn destroys(&mut self) {
        self.destroys = true;
    }

    /// For questions inside the transaction.
    #[allow(clippy::expect_used, reason = "it is there from the beginning to the end of this")]
    pub fn connection(&self) -> &Link {
        self.writer.link.as_ref().expect("a transaction has its connection")
    }

    fn end(&mut self) -> Result<(), StoreError> {
        // Before, since a commit whose fate is unclear may have destroyed what it was to.
        self.writer.log_must_be_emptied |= self.destroys;
        let committed = self.connection().script("COMMIT").map_err(uncommitted);
        if let Err(StoreError::CommitUnclear(_)) = &committed {
            // What state the connection is in nobody knows; closed, it takes back what it can.
            self.writer.link = None;
        }
        committed
    }
}

impl Drop for SqlUnit {
    fn drop(&mut self) {
        let is_open = self.writer.link.as_ref().is_some_and(Link::is_in_transaction);
        if !is_open && !self.writer.must_empty_log() {
            return;
        }
        out_of_the_way(|| {
            let is_stuck = |link: &Link| {
                link.is_in_transaction()
                    && (link.script("ROLLBACK").is_err() || link.is_in_transaction())
            };
            if self.writer.link.as_ref().is_some_and(is_stuck) {
                self.writer.link = None;
            }
            self.writer.empty_log();
        });
    }
}

#[async_trait]
impl UnitOfWork for SqlUnit {
    async fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        // It waits for the disk, and so does what its end brings with it.
        out_of_the_way(|| {
            let committed = self.end();
            drop(self);
            committed
        })
    }

    async fn insert_terminal_key(&mut self, row: &TerminalKeyRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO terminal_keys (spki, terminal, registered_at, revoked_at) VALUES ($1, $2, $3, $4)";
        self.run(terminal_key(sql, row)).map(drop)
    }

    async fn insert_first_terminal_key(
        &mut self,
        row: &TerminalKeyRow,
    ) -> Result<bool, StoreError> {
        let sql = "INSERT INTO terminal_keys (spki, terminal, registered_at, revoked_at) \
                   SELECT $1, $2, $3, $4 WHERE NOT EXISTS \
                   (SELECT 1 FROM terminal_keys WHERE terminal = $2 AND revoked_at IS NULL)";
        Ok(self.run(terminal_key(sql, row))? > 0)
    }

    async fn revoke_terminal_key(
        &mut self,
        spki: &Digest,
        at: UnixMillis,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE terminal_keys SET revoked_at = $2 WHERE spki = $1 AND revoked_at IS NULL";
        Ok(self.run(query(sql).bind(spki.as_bytes().as_slice()).bind(at.get()))? > 0)
    }

    async fn keys_of_terminal(
        &mut self,
        terminal: &TerminalId,
    ) -> Result<Vec<TerminalKeyRow>, StoreError> {
        let sql = "SELECT spki, terminal, registered_at, revoked_at FROM terminal_keys WHERE terminal = $1 \
                   ORDER BY registered_at, spki";
        let rows = query(sql).bind(terminal.as_str()).all(self.connection())?;
        rows.iter().map(|row| Fields::of("terminal_keys", row).terminal_key()).collect()
    }

    async fn customer(&mut self, id: &CustomerId) -> Result<Option<CustomerRow>, StoreError> {
        let statement = query(SELECT_CUSTOMER).bind(id.as_bytes().as_slice());
        let row = statement.one(self.connection())?;
        row.map(|row| Fields::of("customers", &row).customer_row()).transpose()
    }

    async fn insert_customer(
        &mut self,
        row: &CustomerRow,
        key: &CustomerKeyRow,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO customers (id, status, iin_index, sealed_record, created_at, updated_at, \
                   activated_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let statement = query(sql)
            .bind(row.id.as_bytes().as_slice())
            .bind(row.status.as_str())
            .bind(row.iin_index.as_ref().map(|index| index.as_bytes().as_slice()))
            .bind(row.sealed_record.as_slice())
            .bind(row.created_at.get())
            .bind(row.updated_at.get())
            .bind(row.activated_at.map(UnixMillis::get));
        self.run(statement)?;
        let sql = "INSERT INTO customer_keys (customer, kek_id, wrapped) VALUES ($1, $2, $3)";
        let statement = query(sql)
            .bind(key.customer.as_bytes().as_slice())
            .bind(key.kek_id.as_str())
            .bind(key.wrapped.as_slice());
        self.run(statement).map(drop)
    }

    async fn set_customer_status(
        &mut self,
        id: &CustomerId,
        status: CustomerStatus,
        at: UnixMillis,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE customers SET activated_at = CASE \
                   WHEN $2 = 'active' AND status NOT IN ('active', 'suspended') THEN $3 ELSE activated_at END, \
                   status = $2, updated_at = $3 WHERE id = $1";
        let statement =
            query(sql).bind(id.as_bytes().as_slice()).bind(status.as_str()).bind(at.get());
        Ok(self.run(statement)? > 0)
    }

    async fn erase_customer(
        &mut self,
        id: &CustomerId,
        at: UnixMillis,
    ) -> Result<bool, StoreError> {
        self.destroys = true;
        let id = id.as_bytes().as_slice();
        self.run_each(&ENDS_WITH_CONSENT, id)?;
        self.run_each(&ENDS_WITH_ERASURE, id)?;
        let sql = "UPDATE customers SET status = $2, iin_index = NULL, sealed_record = x'', updated_at = $3 \
                   WHERE id = $1 AND status <> $2";
        let statement = query(sql).bind(id).bind(CustomerStatus::Erased.as_str()).bind(at.get());
        Ok(self.run(statement)? > 0)
    }

    async fn customer_by_token(
        &mut self,
        index: &Digest,
        now: UnixMillis,
    ) -> Result<Option<CustomerId>, StoreError> {
        let statement =
            query(SELECT_CUSTOMER_BY_TOKEN).bind(index.as_bytes().as_slice()).bind(now.get());
        let row = statement.one(self.connection())?;
        row.map(|row| Fields::of("tokens", &row).customer("customer")).transpose()
    }

    async fn insert_token(&mut self, row: &TokenRow) -> Result<(), StoreError> {
        // A token that has expired stands for nobody and may be bound anew.
        let sql = "INSERT INTO tokens (token_index, customer, kind, bound_at, expires_at) VALUES ($1, $2, $3, $4, $5) \
                   ON CONFLICT (token_index) DO UPDATE SET customer = excluded.customer, kind = excluded.kind, \
                   bound_at = excluded.bound_at, expires_at = excluded.expires_at \
                   WHERE tokens.expires_at IS NOT NULL AND tokens.expires_at <= excluded.bound_at";
        let statement = query(sql)
            .bind(row.index.as_bytes().as_slice())
            .bind(row.customer.as_bytes().as_slice())
            .bind(row.kind.as_str())
            .bind(row.bound_at.get())
            .bind(row.expires_at.map(UnixMillis::get));
        if self.run(statement)? == 0 { Err(StoreError::Exists) } else { Ok(()) }
    }

    async fn delete_token(
        &mut self,
        index: &Digest,
        customer: &CustomerId,
    ) -> Result<bool, StoreError> {
        let sql = "DELETE FROM tokens WHERE token_index = $1 AND customer = $2";
        let statement =
            query(sql).bind(index.as_bytes().as_slice()).bind(customer.as_bytes().as_slice());
        Ok(self.run(statement)? > 0)
    }

    async fn captures(&mut self, id: &CustomerId) -> Result<Vec<CaptureRow>, StoreError> {
        let statement = query(SELECT_CAPTURES).bind(id.as_bytes().as_slice());
        let rows = statement.all(self.connection())?;
        rows.iter().map(|row| Fields::of("captures", row).capture()).collect()
    }

    async fn insert_capture(&mut self, row: &CaptureRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO captures (id, customer, modality, sealed, created_at) VALUES ($1, $2, $3, $4, $5)";
        let statement = query(sql)
            .bind(row.id.as_bytes().as_slice())
            .bind(row.customer.as_bytes().as_slice())
            .bind(row.modality.characteristic())
            .bind(row.sealed.as_slice())
            .bind(row.created_at.get());
        self.run(statement).map(drop)
    }

    async fn delete_capture(
        &mut self,
        id: &CaptureId,
        customer: &CustomerId,
    ) -> Result<bool, StoreError> {
        self.destroys = true;
        let sql = "DELETE FROM captures WHERE id = $1 AND customer = $2";
        let statement =
            query(sql).bind(id.as_bytes().as_slice()).bind(customer.as_bytes().as_slice());
        Ok(self.run(statement)? > 0)
    }

    async fn insert_duplicate(&mut self, row: &DuplicateRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO duplicates (customer, other, strength_db, found_at, resolution) \
                   VALUES ($1, $2, $3, $4, $5) ON CONFLICT (customer, other) DO UPDATE SET \
                   strength_db = excluded.strength_db, found_at = excluded.found_at, resolution = NULL \
                   WHERE duplicates.resolution IS NOT NULL";
        let statement = query(sql)
            .bind(row.customer.as_bytes().as_slice())
            .bind(row.other.as_bytes().as_slice())
            .bind(row.strength_db)
            .bind(row.found_at.get())
            .bind(row.resolution.as_deref());
        self.run(statement).map(drop)
    }

    async fn duplicates(&mut self, id: &CustomerId) -> Result<Vec<DuplicateRow>, StoreError> {
        let statement = query(SELECT_DUPLICATES).bind(id.as_bytes().as_slice());
        let rows = statement.all(self.connection())?;
        rows.iter().map(|row| Fields::of("duplicates", row).duplicate()).collect()
    }

    async fn resolve_duplicates(
        &mut self,
        id: &CustomerId,
        resolution: &str,
        _at: UnixMillis,
    ) -> Result<u32, StoreError> {
        let sql =
            "UPDATE duplicates SET resolution = $2 WHERE customer = $1 AND resolution IS NULL";
        let resolved = self.run(query(sql).bind(id.as_bytes().as_slice()).bind(resolution))?;
        Ok(u32::try_from(resolved).unwrap_or(u32::MAX))
    }

    async fn insert_challenge(&mut self, row: &ChallengeRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO challenges (hash, terminal, sealed_session, issued_at, expires_at, state) \
                   VALUES ($1, $2, $3, $4, $5, $6)";
        let statement = query(sql)
            .bind(row.hash.as_bytes().as_slice())
            .bind(row.terminal.as_str())
            .bind(row.sealed_session.as_slice())
            .bind(row.issued_at.get())
            .bind(row.expires_at.get())
            .bind(row.state.as_str());
        self.run(statement).map(drop)
    }

    async fn close_challenge(
        &mut self,
        hash: &Digest,
        state: ChallengeState,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE challenges SET state = $2 WHERE hash = $1 AND state = $3";
        let statement = query(sql)
            .bind(hash.as_bytes().as_slice())
            .bind(state.as_str())
            .bind(ChallengeState::Open.as_str());
        Ok(self.run(statement)? > 0)
    }

    async fn delete_challenges(&mut self, before: UnixMillis) -> Result<u64, StoreError> {
        self.run(query("DELETE FROM challenges WHERE expires_at < $1").bind(before.get()))
    }

    async fn add_to_counter(
        &mut self,
        key: &Digest,
        delta: i32,
        at: UnixMillis,
    ) -> Result<u32, StoreError> {
        let sql = "INSERT INTO counters (key, value, updated_at) \
                   VALUES ($1, CASE WHEN $2 < 0 THEN 0 ELSE $2 END, $3) \
                   ON CONFLICT (key) DO UPDATE SET updated_at = $3, value = CASE \
                   WHEN counters.value + $2 < 0 THEN 0 \
                   WHEN counters.value + $2 > $4 THEN $4 \
                   ELSE counters.value + $2 END RETURNING key, value";
        let statement = query(sql)
            .bind(key.as_bytes().as_slice())
            .bind(i64::from(delta))
            .bind(at.get())
            .bind(i64::from(u32::MAX));
        let row = statement.single(self.connection())?;
        Fields::of("counters", &row).counter()
    }

    async fn decision(&mut self, key: &DecisionKey) -> Result<Option<DecisionRow>, StoreError> {
        let row = keyed(SELECT_DECISION, key).one(self.connection())?;
        row.map(|row| Fields::of("decisions", &row).decision(key)).transpose()
    }

    async fn has_approval(&mut self, key: &DecisionKey) -> Result<bool, StoreError> {
        let sql = "SELECT (SELECT COUNT(*) FROM decisions \
                   WHERE terminal = $1 AND business_date = $2 AND host_id = $3 AND approves) + \
                   (SELECT COUNT(*) FROM final_decisions \
                   WHERE terminal = $1 AND business_date = $2 AND host_id = $3 AND approves) AS approvals";
        let statement = query(sql)
            .bind(key.terminal.as_str())
            .bind(key.business_date.as_str())
            .bind(key.host_id.as_str());
        let row = statement.single(self.connection())?;
        Ok(Fields::of("decisions", &row).natural("approvals")? > 0)
    }

    async fn insert_decision(&mut self, row: &DecisionRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO decisions \
                   (terminal, business_date, host_id, attempt, request_hash, entry_index, approves, \
                   sealed_answer) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let statement = keyed(sql, &row.key)
            .bind(row.request_hash.as_bytes().as_slice())
            .bind(stored(row.index))
            .bind(row.approves)
            .bind(row.sealed_answer.as_slice());
        self.run(statement).map(drop)
    }

    async fn outcome(&mut self, key: &DecisionKey) -> Result<Option<OutcomeRow>, StoreError> {
        let row = keyed(SELECT_OUTCOME, key).one(self.connection())?;
        row.map(|row| Fields::of("outcomes", &row).outcome(key)).transpose()
    }

    async fn put_outcome(&mut self, row: &OutcomeRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO outcomes \
                   (terminal, business_date, host_id, attempt, outcome, dispensed_minor, currency, \
                   entry_index) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                   ON CONFLICT (terminal, business_date, host_id, attempt) DO UPDATE SET \
                   outcome = excluded.outcome, dispensed_minor = excluded.dispensed_minor, \
                   currency = excluded.currency, entry_index = excluded.entry_index";
        let statement = keyed(sql, &row.key)
            .bind(row.outcome.as_str())
            .bind(row.dispensed_minor)
            .bind(row.currency.as_str())
            .bind(stored(row.index));
        self.run(statement).map(drop)
    }

    async fn redemption(
        &mut self,
        receipt: &ReceiptId,
    ) -> Result<Option<RedemptionRow>, StoreError> {
        let statement = query(SELECT_REDEMPTION).bind(receipt.as_bytes().as_slice());
        let row = statement.one(self.connection())?;
        row.map(|row| Fields::of("redemptions", &row).redemption()).transpose()
    }

    async fn insert_redemption(&mut self, row: &RedemptionRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO redemptions (receipt, redeemed_at, entry_index) VALUES ($1, $2, $3)";
        let statement = query(sql)
            .bind(row.receipt.as_bytes().as_slice())
            .bind(row.redeemed_at.get())
            .bind(stored(row.index));
        self.run(statement).map(drop)
    }

    async fn head(&mut self, origin: &str) -> Result<HeadRow, StoreError> {
        head(self.connection(), origin)
    }

    async fn swap_head(
        &mut self,
        origin: &str,
        old: &HeadRow,
        new: &HeadRow,
    ) -> Result<(), StoreError> {
        let empty = HeadRow::empty();
        if *old == empty {
            let sql = "INSERT INTO heads (origin, size, root, epoch) VALUES ($1, 0, $2, 0) ON CONFLICT DO NOTHING";
            self.run(query(sql).bind(origin).bind(empty.root.as_bytes().as_slice()))?;
        }
        let sql = "UPDATE heads SET size = $2, root = $3, epoch = $4 \
                   WHERE origin = $1 AND size = $5 AND root = $6 AND epoch = $7";
        let statement = query(sql)
            .bind(origin)
            .bind(stored(new.size))
            .bind(new.root.as_bytes().as_slice())
            .bind(stored(new.epoch))
            .bind(stored(old.size))
            .bind(old.root.as_bytes().as_slice())
            .bind(stored(old.epoch));
        if self.run(statement)? == 0 { Err(StoreError::Conflict) } else { Ok(()) }
    }

    async fn insert_checkpoint(
        &mut self,
        origin: &str,
        row: &CheckpointRow,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO checkpoints (origin, size, text, time) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        let statement = query(sql)
            .bind(origin)
            .bind(stored(row.size))
            .bind(row.text.as_str())
            .bind(row.time.get());
        self.run(statement).map(drop)
    }
}

/// What erasure takes besides [`ENDS_WITH_CONSENT`].
const ENDS_WITH_ERASURE: [&str; 6] = [
    "DELETE FROM customer_keys WHERE customer = $1",
    "DELETE FROM captures WHERE customer = $1",
    "DELETE FROM confirmations WHERE customer = $1",
    "UPDATE proposals SET content = x'', customer = NULL, subject = '' WHERE customer = $1",
    "DELETE FROM consents WHERE customer = $1",
    "DELETE FROM case_lookalikes WHERE other = $1 \
     OR case_id IN (SELECT id FROM cases WHERE customer = $1)",
];

fn terminal_key<'q>(sql: &'static str, row: &'q TerminalKeyRow) -> Statement<'q> {
    query(sql)
        .bind(row.spki.as_bytes().as_slice())
        .bind(row.terminal.as_str())
        .bind(row.registered_at.get())
        .bind(row.revoked_at.map(UnixMillis::get))
}
