//! A pack's own cases: facts, and what must come of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::decide::{decide, decide_by_cedar};
use super::facts::{
    BankFacts, CaptureFact, Confirmation, CustomerStanding, DeviceLevel, Facts, History,
    LivenessFact,
};
use super::pack::PolicyPack;
use crate::domain::decision::RuleId;
use crate::domain::modality::Captured;
use crate::domain::money::{AmountMinor, Currency};
use crate::domain::reason::{Reason, ReasonFamily};
use crate::domain::register::Register;
use crate::domain::supplied::{BusinessClass, RiskSign};
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
    /// The cap, in minor units; not looked at where it is left out.
    cap_minor: Option<i64>,
    /// RFC 3339: when the cap or the hold ends; not looked at where it is left out.
    until: Option<String>,
    /// Rules that are switched off in the pack, and on for this case.
    #[serde(default)]
    switch_on: Vec<String>,
    /// The rules that hold, in the order of their names; not looked at where it is left out.
    rules: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "facts that are true or not")]
pub(super) struct RawFacts {
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
    modality: Option<String>,
    #[serde(default)]
    iin_given: bool,
    /// `"customer.withdrawals.day" = [2, 900_000]`: how many, and how much in minor units.
    #[serde(default)]
    turnover: BTreeMap<String, [i64; 2]>,
    /// `day = "2026-01-02T00:00:00.000Z"`: when a window ends that has begun.
    #[serde(default)]
    turnover_ends: BTreeMap<String, String>,
    #[serde(default)]
    confirmation: Option<String>,
    #[serde(default)]
    unable: bool,
    #[serde(default)]
    owner_known: bool,
    #[serde(default)]
    registers: Vec<String>,
    #[serde(default)]
    case_open: bool,
    #[serde(default)]
    shared_face: bool,
    #[serde(default)]
    face_of_another: bool,
    #[serde(default)]
    near_duplicate: bool,
    #[serde(default)]
    footage_named: bool,
    #[serde(default)]
    cards: i64,
    #[serde(default)]
    others_on_account_h24: i64,
    #[serde(default)]
    others_on_card_h24: i64,
    #[serde(default)]
    other_terminals_h1: i64,
    #[serde(default)]
    failures_h24: i64,
    active_hours: Option<i64>,
    business: Option<String>,
    #[serde(default)]
    other_banks_month_minor: i64,
    account_data_age_hours: Option<i64>,
    #[serde(default)]
    risk_signs: Vec<String>,
    #[serde(default)]
    social_payment: bool,
    /// `"RU-01" = "2026-01-02T00:00:00.000Z"`: caps that run, until when.
    #[serde(default)]
    capped: BTreeMap<String, String>,
}

fn run_one(
    pack: &PolicyPack,
    base: &toml::Table,
    case: RawCase,
) -> Result<Option<CaseFailure>, CaseError> {
    let RawCase { name, at, with, without, outcome, reasons, cap_minor, until, switch_on, rules } =
        case;
    let wrong = |field| CaseError::Fact { case: name.clone(), field };
    let mut table = base.clone();
    table.extend(with);
    for fact in &without {
        // Taking away what is not there is a mistyped name.
        table.remove(fact).ok_or_else(|| wrong("without"))?;
    }
    let facts = table.try_into::<RawFacts>()?.check().map_err(wrong)?;
    let at = at.as_deref().map_or(Ok(pack.effective_from()), UnixMillis::parse_rfc3339);
    let switched = pack.with_switched_on(&switch_on).ok_or_else(|| wrong("switch_on"))?;
    let at = at.map_err(|_| wrong("at"))?;
    let decision = decide(&facts, &switched, at);
    let by_cedar = decide_by_cedar(&facts, &switched, at);
    if by_cedar != decision {
        let (expected, actual) = (format!("{by_cedar:?}"), format!("{decision:?}"));
        return Ok(Some(CaseFailure { case: name, expected, actual }));
    }
    let codes: Vec<_> = decision.reasons().iter().map(|reason| reason.code()).collect();
    let mut actual = format!("{} {codes:?}", decision.outcome().as_str());
    let mut expected = format!("{outcome} {reasons:?}");
    if let Some(rules) = rules {
        let held: Vec<_> = decision.rules().iter().map(RuleId::as_str).collect();
        actual.extend([" by ", &format!("{held:?}")]);
        expected.extend([" by ", &format!("{rules:?}")]);
    }
    if let Some(cap_minor) = cap_minor {
        actual.extend([" at most ", &format!("{:?}", decision.outcome().cap_minor())]);
        expected.extend([" at most ", &format!("{:?}", Some(cap_minor))]);
    }
    if let Some(until) = until {
        let ends = decision.outcome().until().map(UnixMillis::rfc3339);
        actual.extend([" until ", &format!("{ends:?}")]);
        expected.extend([" until ", &format!("{:?}", Some(until))]);
    }
    Ok((actual != expected).then_some(CaseFailure { case: name, expected, actual }))
}

impl RawFacts {
    /// The facts, or the name of the first that cannot be.
    pub(super) fn check(self) -> Result<Facts, &'static str> {
        let history = self.history()?;
        let bank = self.bank()?;
        let mut turnovers = turnovers(&self.turnover).ok_or("turnover")?;
        for (window, end) in &self.turnover_ends {
            let end = UnixMillis::parse_rfc3339(end).map_err(|_| "turnover_ends")?;
            turnovers.set_end(Window::from_word(window).ok_or("turnover_ends")?, end);
        }
        Ok(Facts {
            operation: Operation::from_word(&self.operation).ok_or("operation")?,
            amount: AmountMinor::try_from(self.amount_minor).map_err(|_| "amount_minor")?,
            currency: Currency::try_from(self.currency.as_str()).map_err(|_| "currency")?,
            account_currency: Currency::try_from(self.account_currency.as_str())
                .map_err(|_| "account_currency")?,
            customer: CustomerStanding::from_word(&self.customer).ok_or("customer")?,
            capture: capture_fact(&self.capture).ok_or("capture")?,
            strength_db: self.strength_db,
            liveness: match (self.liveness.as_str(), self.liveness_score_e4) {
                ("no_model", None) => LivenessFact::NoModel,
                ("live", Some(score_e4)) => LivenessFact::Live { score_e4 },
                ("suspect", Some(score_e4)) => LivenessFact::Suspect { score_e4 },
                _ => return Err("liveness"),
            },
            attempts_in_transaction: self.attempts_in_transaction,
            holder_verification: HolderVerification::from_word(&self.holder_verification)
                .ok_or("holder_verification")?,
            device_level: DeviceLevel::from_word(&self.device_level).ok_or("device_level")?,
            modality: word_or(self.modality.as_deref(), Captured::Face, |word| {
                Captured::from_word(word)
            })
            .ok_or("modality")?,
            iin_given: self.iin_given,
            confirmation: word_or(self.confirmation.as_deref(), Confirmation::None, |word| {
                Confirmation::from_word(word)
            })
            .ok_or("confirmation")?,
            unable: self.unable,
            owner_known: self.owner_known,
            turnovers,
            history,
            registers: words(&self.registers, Register::from_word).ok_or("registers")?,
            case_open: self.case_open,
            shared_face: self.shared_face,
            face_of_another: self.face_of_another,
            near_duplicate: self.near_duplicate,
            footage_named: self.footage_named,
            bank,
            capped: capped(&self.capped).ok_or("capped")?,
        })
    }

    fn history(&self) -> Result<History, &'static str> {
        let count = |count: i64, field| if count >= 0 { Ok(count) } else { Err(field) };
        Ok(History {
            cards: count(self.cards, "cards")?,
            others_on_account_h24: count(self.others_on_account_h24, "others_on_account_h24")?,
            others_on_card_h24: count(self.others_on_card_h24, "others_on_card_h24")?,
            other_terminals_h1: count(self.other_terminals_h1, "other_terminals_h1")?,
            failures_h24: count(self.failures_h24, "failures_h24")?,
            active_hours: self.active_hours,
        })
    }

    fn bank(&self) -> Result<BankFacts, &'static str> {
        Ok(BankFacts {
            business: word_or(self.business.as_deref(), BusinessClass::None, |word| {
                BusinessClass::from_word(word)
            })
            .ok_or("business")?,
            other_banks_month_minor: self.other_banks_month_minor,
            account_data_age_hours: self.account_data_age_hours,
            risk_signs: words(&self.risk_signs, RiskSign::from_word).ok_or("risk_signs")?,
            social_payment: self.social_payment,
        })
    }
}

/// The word's meaning, or what holds where nothing is said.
fn word_or<T>(word: Option<&str>, default: T, of: impl Fn(&str) -> Option<T>) -> Option<T> {
    word.map_or(Some(default), of)
}

fn words<T: Ord>(words: &[String], of: impl Fn(&str) -> Option<T>) -> Option<BTreeSet<T>> {
    words.iter().map(|word| of(word)).collect()
}

fn capped(raw: &BTreeMap<String, String>) -> Option<BTreeMap<RuleId, UnixMillis>> {
    let each = |(rule, until): (&String, &String)| {
        Some((RuleId::try_from(rule.as_str()).ok()?, UnixMillis::parse_rfc3339(until).ok()?))
    };
    raw.iter().map(each).collect()
}

fn turnovers(raw: &BTreeMap<String, [i64; 2]>) -> Option<Turnovers> {
    let mut turnovers = Turnovers::default();
    for (path, [count, amount_minor]) in raw {
        let mut words = path.split('.');
        let (party, direction, window) = (words.next()?, words.next()?, words.next()?);
        let is_sum = words.next().is_none() && *count >= 0 && *amount_minor >= 0;
        turnovers.set(
            Party::from_word(party).filter(|_| is_sum)?,
            Direction::from_word(direction)?,
            Window::from_word(window)?,
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
