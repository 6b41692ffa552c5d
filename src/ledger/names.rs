//! How a gateway's ledgers are called, and where an entry stands in them.

use super::{InvalidOrigin, Origin};
use crate::domain::time::UnixMillis;

/// Where an entry stands: in which ledger, and at which index of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LogPosition {
    /// The ledger.
    pub origin: Origin,
    /// The index in it, from 0.
    pub index: u64,
}

/// How a gateway calls its ledgers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LedgerNames {
    /// One ledger for ever, called so.
    Fixed(String),
    /// One a half-year in UTC: `cash.bank.example/gw07/2026h2`.
    HalfYears {
        /// What stands before the half-year.
        issuer: String,
    },
}

impl LedgerNames {
    /// The ledger that takes what happens at `now`.
    ///
    /// # Errors
    ///
    /// [`InvalidOrigin`] when the name cannot be an origin.
    pub fn at(&self, now: UnixMillis) -> Result<Origin, InvalidOrigin> {
        Origin::try_from(self.name_at(now).as_str())
    }

    /// The name of that ledger, whether it can be an origin or not.
    #[must_use]
    pub fn name_at(&self, now: UnixMillis) -> String {
        match self {
            Self::Fixed(name) => name.clone(),
            Self::HalfYears { issuer } => {
                let date = now.rfc3339();
                // `YYYY-MM-…`: months sort as text.
                let (year, month) =
                    (date.get(..4).unwrap_or("1970"), date.get(5..7).unwrap_or("01"));
                format!("{issuer}/{year}h{}", if month < "07" { 1 } else { 2 })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_is_called_by_its_half_year() {
        let names = LedgerNames::HalfYears { issuer: "cash.bank.example/gw07".into() };
        for (time, half) in [
            ("2026-01-01T00:00:00.000Z", "2026h1"),
            ("2026-06-30T23:59:59.999Z", "2026h1"),
            ("2026-07-01T00:00:00.000Z", "2026h2"),
            ("2026-12-31T23:59:59.999Z", "2026h2"),
            ("2027-01-01T00:00:00.000Z", "2027h1"),
        ] {
            let now = UnixMillis::parse_rfc3339(time).unwrap();
            let expected = format!("cash.bank.example/gw07/{half}");
            assert_eq!(names.at(now).unwrap().as_str(), expected, "{time}");
        }
        let fixed = LedgerNames::Fixed("a.example/log".into());
        assert_eq!(fixed.at(UnixMillis::new(0)).unwrap().as_str(), "a.example/log");
        let bad = LedgerNames::HalfYears { issuer: "a b".into() };
        assert!(bad.at(UnixMillis::new(0)).is_err());
    }
}
