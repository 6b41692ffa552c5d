//! Decisions as reports look at them, in SQL.

use async_trait::async_trait;

use super::SqliteStore;
use super::engine::query;
use super::parse::{Fields, stored};
use super::read::parsed;
use super::write::SqlUnit;
use crate::domain::decision::SignCode;
use crate::domain::id::{Attempt, HostTransactionId};
use crate::domain::reason::Reason;
use crate::domain::time::{BusinessDate, UnixMillis};
use crate::domain::transaction::{DecisionKey, Operation};
use crate::store::{
    ApprovedSum, EntryCount, OutcomeCount, StoreError, VerificationReads, VerificationRow,
    Verifications,
};

const OPERATIONS: [Operation; 3] =
    [Operation::CashWithdrawal, Operation::CashDeposit, Operation::ThirdPartyDeposit];

/// Codes between spaces, the outer ones included; nothing for none.
fn spaced<'a>(codes: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for code in codes {
        if text.is_empty() {
            text.push(' ');
        }
        text.extend([code, " "]);
    }
    text
}

impl Fields<'_> {
    fn reasons(&self) -> Result<Vec<Reason>, StoreError> {
        let text = self.text("reasons")?;
        let reasons = text.split_whitespace().map(Reason::from_code).collect::<Result<_, _>>();
        reasons.map_err(|_| self.broken("reasons"))
    }

    fn signs(&self) -> Result<Vec<SignCode>, StoreError> {
        let text = self.text("signs")?;
        let signs = text.split_whitespace().map(SignCode::try_from).collect::<Result<_, _>>();
        signs.map_err(|_| self.broken("signs"))
    }

    fn operation(&self) -> Result<Operation, StoreError> {
        self.word("operation", &OPERATIONS, Operation::as_str)
    }

    fn verification(&self) -> Result<VerificationRow, StoreError> {
        let date = self.text("business_date")?;
        let host = self.text("host_id")?;
        let attempt = u32::try_from(self.natural("attempt")?).ok();
        let attempt = attempt.and_then(|number| Attempt::try_from(number).ok());
        Ok(VerificationRow {
            index: self.natural("entry_index")?,
            at: self.time("at")?,
            key: DecisionKey {
                terminal: self.terminal("terminal")?,
                business_date: BusinessDate::try_from(date.as_str())
                    .map_err(|_| self.broken("business_date"))?,
                host_id: HostTransactionId::try_from(host.as_str())
                    .map_err(|_| self.broken("host_id"))?,
                attempt: attempt.ok_or_else(|| self.broken("attempt"))?,
            },
            operation: self.operation()?,
            amount_minor: self.integer("amount_minor")?,
            approved_minor: self.maybe_integer("approved_minor")?,
            currency: self.currency("currency")?,
            outcome: self.text("outcome")?,
            reasons: self.reasons()?,
            signs: self.signs()?,
            subject: self.text("subject")?,
        })
    }

    fn approved_sum(&self) -> Result<ApprovedSum, StoreError> {
        Ok(ApprovedSum {
            terminal: self.terminal("terminal")?,
            operation: self.operation()?,
            currency: self.currency("currency")?,
            approved: self.integer("approved")?,
            approved_minor: self.integer("approved_minor")?,
            moved: self.integer("moved")?,
            moved_minor: self.integer("moved_minor")?,
        })
    }

    fn outcome_count(&self) -> Result<OutcomeCount, StoreError> {
        Ok(OutcomeCount {
            terminal: self.terminal("terminal")?,
            outcome: self.text("outcome")?,
            reasons: self.reasons()?,
            count: self.integer("count")?,
            after_mismatch: self.integer("after_mismatch")?,
        })
    }

    fn entry_count(&self) -> Result<EntryCount, StoreError> {
        Ok(EntryCount { terminal: self.terminal("terminal")?, count: self.integer("count")? })
    }
}

#[async_trait]
impl VerificationReads for SqliteStore {
    async fn with_signs(
        &self,
        from: UnixMillis,
        until: UnixMillis,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<VerificationRow>, StoreError> {
        let sql = "SELECT entry_index, at, terminal, business_date, host_id, attempt, operation, \
                   amount_minor, approved_minor, currency, outcome, reasons, signs, subject \
                   FROM verifications WHERE signs <> '' AND at >= $1 AND at < $2 AND entry_index > $3 \
                   ORDER BY entry_index LIMIT $4";
        let statement = query(sql)
            .bind(from.get())
            .bind(until.get())
            .bind(after.map_or(-1, stored))
            .bind(i64::from(limit));
        parsed("verifications", &self.many(statement).await?, Fields::verification)
    }

    async fn approved_sums(
        &self,
        from: UnixMillis,
        until: UnixMillis,
    ) -> Result<Vec<ApprovedSum>, StoreError> {
        let sql = "SELECT v.terminal, v.operation, v.currency, COUNT(*) AS approved, \
                   SUM(v.approved_minor) AS approved_minor, \
                   SUM(CASE WHEN COALESCE(m.moved_minor, v.approved_minor) > 0 THEN 1 ELSE 0 END) AS moved, \
                   SUM(COALESCE(m.moved_minor, v.approved_minor)) AS moved_minor \
                   FROM verifications v LEFT JOIN movements m ON m.terminal = v.terminal \
                   AND m.business_date = v.business_date AND m.host_id = v.host_id \
                   AND m.attempt = v.attempt \
                   WHERE v.at >= $1 AND v.at < $2 AND v.approved_minor IS NOT NULL \
                   GROUP BY v.terminal, v.operation, v.currency \
                   ORDER BY v.terminal, v.operation, v.currency";
        let statement = query(sql).bind(from.get()).bind(until.get());
        parsed("verifications", &self.many(statement).await?, Fields::approved_sum)
    }

    async fn outcome_counts(
        &self,
        from: UnixMillis,
        until: UnixMillis,
    ) -> Result<Vec<OutcomeCount>, StoreError> {
        let sql = "SELECT v.terminal, v.outcome, v.reasons, COUNT(*) AS count, \
                   SUM(CASE WHEN v.approved_minor IS NOT NULL AND EXISTS ( \
                       SELECT 1 FROM verifications e WHERE e.terminal = v.terminal \
                       AND e.business_date = v.business_date AND e.host_id = v.host_id \
                       AND e.entry_index < v.entry_index AND e.subject = v.subject \
                       AND e.outcome = 'DENIED' AND e.reasons LIKE '% MAT_NO_MATCH %' \
                   ) THEN 1 ELSE 0 END) AS after_mismatch \
                   FROM verifications v WHERE v.at >= $1 AND v.at < $2 \
                   GROUP BY v.terminal, v.outcome, v.reasons ORDER BY v.terminal, v.outcome, v.reasons";
        let statement = query(sql).bind(from.get()).bind(until.get());
        parsed("verifications", &self.many(statement).await?, Fields::outcome_count)
    }

    async fn entry_counts(
        &self,
        origin: &str,
        kind: &str,
        from: UnixMillis,
        until: UnixMillis,
    ) -> Result<Vec<EntryCount>, StoreError> {
        let sql = "SELECT terminal, COUNT(*) AS count FROM entries WHERE origin = $1 AND kind = $2 \
                   AND time >= $3 AND time < $4 AND terminal IS NOT NULL GROUP BY terminal ORDER BY terminal";
        let statement = query(sql).bind(origin).bind(kind).bind(from.get()).bind(until.get());
        parsed("entries", &self.many(statement).await?, Fields::entry_count)
    }
}

#[async_trait]
impl Verifications for SqlUnit {
    async fn insert_verification(&mut self, row: &VerificationRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO verifications (terminal, business_date, host_id, attempt, entry_index, at, \
                   operation, amount_minor, approved_minor, currency, outcome, reasons, signs, subject) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
        let statement = super::read::keyed(sql, &row.key)
            .bind(stored(row.index))
            .bind(row.at.get())
            .bind(row.operation.as_str())
            .bind(row.amount_minor)
            .bind(row.approved_minor)
            .bind(row.currency.as_str())
            .bind(row.outcome.as_str())
            .bind(spaced(row.reasons.iter().map(|reason| reason.code())))
            .bind(spaced(row.signs.iter().map(SignCode::as_str)))
            .bind(row.subject.as_str());
        self.run(statement).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_stands_between_spaces_wherever_it_stands() {
        assert_eq!(spaced(std::iter::empty()), "");
        assert_eq!(spaced(["A"].into_iter()), " A ");
        assert_eq!(spaced(["A", "B"].into_iter()), " A B ");
    }
}
