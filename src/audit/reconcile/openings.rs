//! The host's record of redemptions: what opens the commitments of receipts.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::decisions::Decisions;
use super::journal::JournalEntry;
use super::table::{ReconcileError, RefusedLine, Row, Table};
use crate::crypto::Digest;
use crate::domain::id::Attempt;
use crate::receipt::{Salt, TransactionFields, parse, transaction_commit};

/// The receipts whose commitments opened, by the host's transaction id.
pub(super) struct Openings {
    /// The business date, and the decision's place.
    by_transaction: HashMap<String, Vec<(String, usize)>>,
    pub refused: Vec<RefusedLine>,
}

impl Openings {
    /// Reads the record: the receipt (its number, or the whole JWS), the salt, and the fields that the
    /// commitment is over.
    pub(super) fn read(file: &Path, decisions: &Decisions) -> Result<Self, ReconcileError> {
        let needed =
            ["receipt", "salt", "host_transaction_id", "business_date", "attempt", "account"];
        let table = Table::read(file, &needed)?;
        let mut refused = table.refused.clone();
        let mut by_transaction: HashMap<String, Vec<(String, usize)>> = HashMap::new();
        for row in table.rows() {
            match open(&row, decisions) {
                Ok((transaction, date, place)) => {
                    let receipts = by_transaction.entry(transaction).or_default();
                    if !receipts.contains(&(date.clone(), place)) {
                        receipts.push((date, place));
                    }
                }
                Err(reason) => refused.push(RefusedLine { line: row.line, reason }),
            }
        }
        refused.sort_by_key(|refused| refused.line);
        Ok(Self { by_transaction, refused })
    }

    /// The decisions that a line of the journal is about.
    pub(super) fn of(&self, entry: &JournalEntry) -> Vec<usize> {
        let receipts = self.by_transaction.get(&entry.transaction);
        let same_day = |date: &str| entry.business_date.as_deref().is_none_or(|day| day == date);
        let places = receipts.into_iter().flatten().filter(|(date, _)| same_day(date));
        places.map(|(_, place)| *place).collect()
    }
}

fn open(row: &Row<'_>, decisions: &Decisions) -> Result<(String, String, usize), String> {
    let rid = rid_of(row.needed("receipt")?)?;
    let place = decisions.of_rid(&rid).ok_or("no decision in the ledger has this receipt")?;
    let decision = decisions.all.get(place).ok_or("no decision in the ledger has this receipt")?;
    let salt = salt_of(row.needed("salt")?).ok_or("the salt is not 32 bytes")?;
    let attempt: u32 = row.needed("attempt")?.parse().map_err(|_| "attempt is no number")?;
    let attempt = Attempt::try_from(attempt).map_err(|_| "attempt is no number of an attempt")?;
    let (transaction, date) = (row.needed("host_transaction_id")?, row.needed("business_date")?);
    let commit = transaction_commit(
        &salt,
        &TransactionFields {
            host_transaction_id: transaction,
            business_date: date,
            attempt,
            account: row.needed("account")?,
            counterparty: row.text("counterparty"),
        },
    );
    if commit == decision.commit {
        Ok((transaction.to_owned(), date.to_owned(), place))
    } else {
        Err("the receipt's commitment does not open with these: another transaction or salt".into())
    }
}

/// A receipt's number, or that of a whole JWS.
fn rid_of(text: &str) -> Result<String, String> {
    if !text.contains('.') {
        return Ok(text.to_owned());
    }
    let receipt = parse(text).map_err(|fault| fault.to_string())?;
    Ok(receipt.unverified_body().rid.clone())
}

/// A salt in base64url or in hexadecimal.
fn salt_of(text: &str) -> Option<Salt> {
    if let Ok(digits) = Digest::from_hex(text) {
        return Some(Salt::new(*digits.as_bytes()));
    }
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
    Salt::try_from(bytes.as_slice()).ok()
}
