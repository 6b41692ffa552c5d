//! What a ledger says of cash: decisions to pay, what terminals reported, and what the host corrected.

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;

use super::super::AuditError;
use super::super::folder::Folder;
use super::super::lines::Lines;
use crate::domain::time::UnixMillis;
use crate::receipt::{
    Content, KeyRegister, Outcome, Refers, Reversal, Txn, VerifiedReceipt, verify,
};

/// A decision about a withdrawal, with what became of it.
pub(super) struct Decision {
    pub origin: String,
    pub index: u64,
    pub time: UnixMillis,
    pub terminal: String,
    pub commit: String,
    pub asked_minor: i64,
    pub currency: String,
    /// The most that was approved; none where nothing was.
    pub approved_minor: Option<i64>,
    /// What the terminal reported last, and when.
    pub reported: Option<(i64, UnixMillis)>,
    /// What the host said last.
    pub corrected: Option<i64>,
}

/// The decisions of an export.
#[derive(Default)]
pub(super) struct Decisions {
    pub all: Vec<Decision>,
    by_rid: HashMap<String, usize>,
    /// Places of lines whose signature or form is not right: they count for nothing.
    pub unverified: Vec<String>,
    /// Decisions about other operations.
    pub other_operations: u64,
}

impl Decision {
    /// What moved, as far as the ledger knows: the host's word stands above the terminal's.
    pub(super) fn moved_minor(&self) -> Option<i64> {
        self.corrected.or(self.reported.map(|(minor, _)| minor))
    }

    /// When cash moved, as near as the ledger knows.
    pub(super) fn moved_at(&self) -> UnixMillis {
        self.reported.map_or(self.time, |(_, time)| time)
    }
}

impl Decisions {
    /// Reads all ledgers of an export. Each receipt's signature is checked, not the ledgers.
    pub(super) fn read(dir: &Path) -> Result<Self, AuditError> {
        let folder = Folder::open(dir)?;
        let register = KeyRegister::parse(&folder.keys)?;
        let mut decisions = Self::default();
        for files in &folder.ledgers {
            let file = files.receipts();
            let mut lines = Lines::open(&file)?;
            let mut number = 0;
            loop {
                let batch = lines.batch()?;
                if batch.is_empty() {
                    break;
                }
                let read: Vec<_> = (0..batch.len())
                    .into_par_iter()
                    .map(|place| verify(&String::from_utf8_lossy(batch.line(place)), &register))
                    .collect();
                for receipt in read {
                    number += 1;
                    match receipt {
                        Ok(receipt) => decisions.take(&receipt),
                        Err(fault) => decisions
                            .unverified
                            .push(format!("{}, line {number}: {fault}", file.display())),
                    }
                }
            }
        }
        Ok(decisions)
    }

    /// The decision whose receipt has this number.
    pub(super) fn of_rid(&self, rid: &str) -> Option<usize> {
        self.by_rid.get(rid).copied()
    }

    fn take(&mut self, receipt: &VerifiedReceipt) {
        match &receipt.body().content {
            Content::Verification(it) => {
                let cap = it.cap.as_ref().map(|cap| cap.amount_minor);
                self.decided(receipt, &it.terminal.id, &it.txn, &it.outcome, cap);
            }
            Content::Exception(it) => {
                let cap = it.cap.as_ref().map(|cap| cap.amount_minor);
                self.decided(receipt, &it.terminal.id, &it.txn, &it.outcome, cap);
            }
            Content::Outcome(Outcome { refers, dispensed_minor, .. }) => {
                let report = (*dispensed_minor, receipt.time());
                self.about(refers, |decision| decision.reported = Some(report));
            }
            Content::Reversal(Reversal { refers, moved_minor, .. }) => {
                self.about(refers, |decision| decision.corrected = Some(*moved_minor));
            }
            _ => {}
        }
    }

    fn about(&mut self, refers: &Refers, change: impl FnOnce(&mut Decision)) {
        if let Some(decision) = self.of_rid(&refers.rid).and_then(|at| self.all.get_mut(at)) {
            change(decision);
        }
    }

    fn decided(
        &mut self,
        receipt: &VerifiedReceipt,
        terminal: &str,
        txn: &Txn,
        outcome: &str,
        cap: Option<i64>,
    ) {
        if txn.op != WITHDRAWAL {
            self.other_operations += 1;
            return;
        }
        let body = receipt.body();
        let approved_minor = match outcome {
            "APPROVED" => Some(txn.amount_minor),
            "APPROVED_CAPPED" => cap.map(|cap| cap.min(txn.amount_minor)),
            _ => None,
        };
        self.by_rid.insert(body.rid.clone(), self.all.len());
        self.all.push(Decision {
            origin: body.log.origin.clone(),
            index: body.log.index,
            time: receipt.time(),
            terminal: terminal.to_owned(),
            commit: txn.commit.clone(),
            asked_minor: txn.amount_minor,
            currency: txn.currency.clone(),
            approved_minor,
            reported: None,
            corrected: None,
        });
    }
}

/// The one operation in which a machine gives cash.
const WITHDRAWAL: &str = "cash_withdrawal";
