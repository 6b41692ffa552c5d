//! A pack's own cases: facts, and what must come of them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::decide::decide;
use super::facts::{CaptureFact, CustomerStanding, DeviceLevel, Facts, LivenessFact};
use super::pack::PolicyPack;
use crate::domain::decision::RuleId;
use crate::domain::money::{AmountMinor, Currency};
use crate::domain::reason::{Reason, ReasonFamily};
use crate::domain::time::UnixMillis;
use crate::domain::transaction::{HolderVerification, Operation};
use crate::domain::turnover::{Direction, Party, Turnover, Turnovers, Window};

/// Runs the cases of one file; their number.
///
/// # Errors
///
/// [`CaseError`] for a malformed file, or all the cases that come out otherwise than they say.
pub(super) fn run(pack: &PolicyPack, text: &str) -> Result<usize, CaseError> {
    let RawCases { base, case: cases } = toml::from_str(text)?;
    let mut failures = Vec::new();
    let count = cases.len();
    for case in cases {
        failures.extend(run_one(pack, &base, case)?);
    }
    if failures.is_empty() { Ok(count) } else { Err(CaseError::Failed { failures }) }
}

/// A file of cases that does not hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaseError {
    /// Not TOML, or not of a case's shape.
    #[error("the cases are malformed")]
    Malformed(#[from] toml::de::Error),
    /// A fact with a value that it cannot have.
    #[error("in the case {case:?}, {field} has a value that it cannot have")]
    Fact {
        /// The case's name.
        case: String,
        /// The fact.
        field: &'static str,
    },
    /// Cases that come out otherwise.
    #[error("cases come out otherwise: {failures:?}")]
    Failed {
        /// All of them.
        failures: Vec<CaseFailure>,
    },
}

/// A case that came out otherwise than it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseFailure {
    /// The case's name.
    pub case: String,
    /// What it says.
    pub expected: String,
    /// What came.
    pub actual: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCases {
    base: toml::Table,
    #[serde(default)]
    case: Vec<RawCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    name: String,
    /// RFC 3339; when the pack comes into force where it is left out.
    at: Option<String>,
    #[serde(default)]
    with: toml::Table,
    #[serde(default)]
    without: Vec<String>,
    outcome: String,
    #[serde(default)]
    reasons: Vec<String>,
    /// The rules that hold, in the order of their names; not looked at where it is left out.
    rules: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFacts {
    operation: String,
    amount_minor: i64,
    currency: String,
    account_currency: String,
    customer: String,
    /// Why the capture cannot be used; empty for one that can.
    #[serde(default)]
    capture: Vec<String>,
    strength_db: Option<i64>,
    liveness: String,
    liveness_score_e4: Option<i64>,
    attempts_in_transaction: u32,
    holder_verification: String,
    device_level: String,
    #[serde(default)]
    iin_given: bool,
    /// `"customer.withdrawals.day" = [2, 900_000]`: how many, and how much in minor units.
    #[serde(default)]
    turnover: BTreeMap<String, [i64; 2]>,
}

fn run_one(
    pack: &PolicyPack,
    base: &toml::Table,
    case: RawCase,
) -> Result<Option<CaseFailure>, CaseError> {
    let RawCase { name, at, with, without, outcome, reasons, rules } = case;
    let wrong = |field| CaseError::Fact { case: name.clone(), field };
    let mut table = base.clone();
    table.extend(with);
    for fact in &without {
        // Taking away what is not there is a mistyped name.
        table.remove(fact).ok_or_else(|| wrong("without"))?;
    }
    let facts = table.try_into::<RawFacts>()?.check().map_err(wrong)?;
    let at = at.as_deref().map_or(Ok(pack.effective_from()), UnixMillis::parse_rfc3339);
    let decision = decide(&facts, pack, at.map_err(|_| wrong("at"))?);
    let codes: Vec<_> = decision.reasons().iter().map(|reason| reason.code()).collect();
    let mut actual = format!("{} {codes:?}", decision.outcome().as_str());
    let mut expected = format!("{outcome} {reasons:?}");
    if let Some(rules) = rules {
        let held: Vec<_> = decision.rules().iter().map(RuleId::as_str).collect();
        actual.extend([" by ", &format!("{held:?}")]);
        expected.extend([" by ", &format!("{rules:?}")]);
    }
    Ok((actual != expected).then_some(CaseFailure { case: name, expected, actual }))
}

impl RawFacts {
    /// The facts, or the name of the first that cannot be.
    fn check(self) -> Result<Facts, &'static str> {
        let Self {
            operation,
            amount_minor,
            currency,
            account_currency,
            customer,
            capture,
            strength_db,
            liveness,
            liveness_score_e4,
            attempts_in_transaction,
            holder_verification,
            device_level,
            iin_given,
            turnover,
        } = self;
        Ok(Facts {
            operation: Operation::from_word(&operation).ok_or("operation")?,
            amount: AmountMinor::try_from(amount_minor).map_err(|_| "amount_minor")?,
            currency: Currency::try_from(currency.as_str()).map_err(|_| "currency")?,
            account_currency: Currency::try_from(account_currency.as_str())
                .map_err(|_| "account_currency")?,
            customer: CustomerStanding::from_word(&customer).ok_or("customer")?,
            capture: capture_fact(&capture).ok_or("capture")?,
            strength_db,
            liveness: match (liveness.as_str(), liveness_score_e4) {
                ("no_model", None) => LivenessFact::NoModel,
                ("live", Some(score_e4)) => LivenessFact::Live { score_e4 },
                ("suspect", Some(score_e4)) => LivenessFact::Suspect { score_e4 },
                _ => return Err("liveness"),
            },
            attempts_in_transaction,
            holder_verification: HolderVerification::from_word(&holder_verification)
                .ok_or("holder_verification")?,
            device_level: DeviceLevel::from_word(&device_level).ok_or("device_level")?,
            iin_given,
            turnovers: turnovers(&turnover).ok_or("turnover")?,
        })
    }
}

fn turnovers(raw: &BTreeMap<String, [i64; 2]>) -> Option<Turnovers> {
    let mut turnovers = Turnovers::default();
    for (path, [count, amount_minor]) in raw {
        let mut words = path.split('.');
        let (party, direction, window) = (words.next()?, words.next()?, words.next()?);
        let is_sum = words.next().is_none() && *count >= 0 && *amount_minor >= 0;
        turnovers.set(
            Party::ALL.into_iter().find(|each| each.as_str() == party && is_sum)?,
            Direction::ALL.into_iter().find(|each| each.as_str() == direction)?,
            Window::ALL.into_iter().find(|each| each.as_str() == window)?,
            Turnover { count: *count, amount_minor: *amount_minor },
        );
    }
    Some(turnovers)
}

fn capture_fact(codes: &[String]) -> Option<CaptureFact> {
    if codes.is_empty() {
        return Some(CaptureFact::Usable);
    }
    let reasons = codes.iter().map(|code| Reason::from_code(code).ok());
    let reasons = reasons.collect::<Option<Vec<_>>>()?;
    let of_captures = reasons.iter().all(|reason| reason.family() == ReasonFamily::Capture);
    of_captures.then_some(CaptureFact::Refused(reasons))
}
