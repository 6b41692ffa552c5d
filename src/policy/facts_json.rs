//! Facts as JSON, for audit records and for trying rules on them: in the shape of a case's table.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::PolicyPack;
use super::cases::RawFacts;
use super::facts::{BankFacts, CaptureFact, Facts, History, LivenessFact};
use crate::domain::modality::Captured;
use crate::domain::turnover::{Turnover, Turnovers};

/// Longest text of facts read, in bytes.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// A text that is no facts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FactsError {
    /// Not of the shape of a case's table.
    #[error("not facts in the shape of a case's table: {0}")]
    Shape(String),
    /// A fact with a value that it cannot have.
    #[error("{0} has a value that it cannot have")]
    Value(&'static str),
}

impl Facts {
    /// The facts as JSON. What is missing, nothing or not so is left out.
    #[must_use]
    pub fn to_json(&self) -> Value {
        // Destructured so that a fact that is added is a compile error here.
        let Self {
            operation,
            amount,
            currency,
            account_currency,
            customer,
            capture,
            strength_db,
            liveness,
            attempts_in_transaction,
            holder_verification,
            device_level,
            modality,
            iin_given,
            confirmation,
            unable,
            owner_known,
            turnovers,
            history,
            registers,
            case_open,
            shared_face,
            face_of_another,
            near_duplicate,
            footage_named,
            bank,
            capped,
        } = self;
        let mut map = Map::new();
        let mut set = |name: &str, value: Value| drop(map.insert(name.to_owned(), value));
        set("operation", operation.as_str().into());
        set("amount_minor", amount.get().into());
        set("currency", currency.as_str().into());
        set("account_currency", account_currency.as_str().into());
        set("customer", customer.as_str().into());
        if let CaptureFact::Refused(reasons) = capture {
            set("capture", reasons.iter().map(|reason| reason.code()).collect());
        }
        if let Some(strength_db) = strength_db {
            set("strength_db", (*strength_db).into());
        }
        set("liveness", liveness.as_str().into());
        if let Some(score_e4) = liveness.score_e4() {
            set("liveness_score_e4", score_e4.into());
        }
        set("attempts_in_transaction", (*attempts_in_transaction).into());
        set("holder_verification", holder_verification.as_str().into());
        set("device_level", device_level.as_str().into());
        if *modality != Captured::Face {
            set("modality", modality.as_str().into());
        }
        set("confirmation", confirmation.as_str().into());
        let flags = [
            ("iin_given", iin_given),
            ("unable", unable),
            ("owner_known", owner_known),
            ("case_open", case_open),
            ("shared_face", shared_face),
            (Self::FACE_OF_ANOTHER, face_of_another),
            ("near_duplicate", near_duplicate),
            ("footage_named", footage_named),
        ];
        for (name, _) in flags.into_iter().filter(|(_, holds)| **holds) {
            set(name, true.into());
        }
        if !registers.is_empty() {
            set("registers", registers.iter().map(|register| register.as_str()).collect());
        }
        if !capped.is_empty() {
            let capped = capped.iter().map(|(rule, until)| (rule.to_string(), until.rfc3339()));
            set("capped", json!(capped.collect::<BTreeMap<_, _>>()));
        }
        write_turnovers(&mut map, turnovers);
        write_history(&mut map, history);
        write_bank(&mut map, bank);
        Value::Object(map)
    }

    /// Reads what [`Facts::to_json`] writes.
    ///
    /// # Errors
    ///
    /// [`FactsError`], also for a fact that nobody knows.
    pub fn from_json(value: Value) -> Result<Self, FactsError> {
        let raw: RawFacts =
            serde_json::from_value(value).map_err(|error| FactsError::Shape(error.to_string()))?;
        raw.check().map_err(FactsError::Value)
    }

    /// Reads facts from a text: JSON, or the lines of a case's table.
    ///
    /// # Errors
    ///
    /// [`FactsError`] for anything else, and for a text longer than 64 KiB.
    pub fn parse(text: &str) -> Result<Self, FactsError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(FactsError::Shape("it is longer than 64 KiB".to_owned()));
        }
        if text.trim_start().starts_with('{') {
            let value = serde_json::from_str(text);
            return Self::from_json(value.map_err(|error| FactsError::Shape(error.to_string()))?);
        }
        let raw: RawFacts =
            toml::from_str(text).map_err(|error| FactsError::Shape(error.message().to_owned()))?;
        raw.check().map_err(FactsError::Value)
    }

    /// The same facts as another pack would have them: whether a liveness score is that of a living face
    /// depends on the pack's bar.
    #[must_use]
    pub fn judged_by(mut self, pack: &PolicyPack) -> Self {
        if let Some(score_e4) = self.liveness.score_e4() {
            self.liveness = if score_e4 >= pack.bars().liveness_min_e4 {
                LivenessFact::Live { score_e4 }
            } else {
                LivenessFact::Suspect { score_e4 }
            };
        }
        self
    }
}

impl PolicyPack {
    /// The facts that its rules may see, turnovers by window, without its own bars. What is not among them
    /// is not found out for a decision; nor is a face searched for that no rule in force asks.
    #[must_use]
    pub fn facts_seen(&self) -> BTreeSet<String> {
        let name = |path: &str| {
            let mut words = path.split('.');
            match (words.next()?, words.next()) {
                ("bars", _) => None,
                ("turnover", Some(party)) => {
                    let (direction, window) = (words.next()?, words.next()?);
                    Some(format!("turnover.{party}.{direction}.{window}"))
                }
                (name, _) => Some(name.to_owned()),
            }
        };
        let is_found_out =
            |name: &String| name != Facts::FACE_OF_ANOTHER || self.asks(Facts::FACE_OF_ANOTHER);
        self.view().paths().filter_map(name).filter(is_found_out).collect()
    }
}

fn write_turnovers(map: &mut Map<String, Value>, turnovers: &Turnovers) {
    let sums: BTreeMap<_, _> = turnovers
        .sums()
        .filter(|(_, sum)| **sum != Turnover::default())
        .map(|((party, direction, window), sum)| {
            let path = format!("{}.{}.{}", party.as_str(), direction.as_str(), window.as_str());
            (path, [sum.count, sum.amount_minor])
        })
        .collect();
    let ends: BTreeMap<_, _> =
        turnovers.ends().map(|(window, end)| (window.as_str(), end.rfc3339())).collect();
    if !sums.is_empty() {
        map.insert("turnover".to_owned(), json!(sums));
    }
    if !ends.is_empty() {
        map.insert("turnover_ends".to_owned(), json!(ends));
    }
}

fn write_history(map: &mut Map<String, Value>, history: &History) {
    let History {
        cards,
        others_on_account_h24,
        others_on_card_h24,
        other_terminals_h1,
        failures_h24,
        active_hours,
    } = history;
    let counts = [
        ("cards", cards),
        ("others_on_account_h24", others_on_account_h24),
        ("others_on_card_h24", others_on_card_h24),
        ("other_terminals_h1", other_terminals_h1),
        ("failures_h24", failures_h24),
    ];
    for (name, count) in counts.into_iter().filter(|(_, count)| **count != 0) {
        map.insert(name.to_owned(), (*count).into());
    }
    if let Some(hours) = active_hours {
        map.insert("active_hours".to_owned(), (*hours).into());
    }
}

fn write_bank(map: &mut Map<String, Value>, bank: &BankFacts) {
    let BankFacts {
        business,
        other_banks_month_minor,
        account_data_age_hours,
        risk_signs,
        social_payment,
    } = bank;
    map.insert("business".to_owned(), business.as_str().into());
    if *other_banks_month_minor != 0 {
        map.insert("other_banks_month_minor".to_owned(), (*other_banks_month_minor).into());
    }
    if let Some(hours) = account_data_age_hours {
        map.insert("account_data_age_hours".to_owned(), (*hours).into());
    }
    if !risk_signs.is_empty() {
        let signs: Value = risk_signs.iter().map(|sign| sign.as_str()).collect();
        map.insert("risk_signs".to_owned(), signs);
    }
    if *social_payment {
        map.insert("social_payment".to_owned(), true.into());
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Confirmation, CustomerStanding, DeviceLevel};
    use super::*;
    use crate::domain::decision::RuleId;
    use crate::domain::money::{AmountMinor, Currency};
    use crate::domain::reason::Reason;
    use crate::domain::register::Register;
    use crate::domain::supplied::{BusinessClass, RiskSign};
    use crate::domain::time::UnixMillis;
    use crate::domain::transaction::{HolderVerification, Operation};
    use crate::domain::turnover::{Direction, Party, Window};

    fn few() -> Facts {
        let kzt = Currency::try_from("KZT").unwrap();
        Facts::of(Operation::CashWithdrawal, AmountMinor::try_from(700).unwrap(), kzt)
    }

    /// No fact is left at what holds where nothing is said.
    fn all() -> Facts {
        let mut turnovers = Turnovers::default();
        for (number, party) in (1..).zip(Party::ALL) {
            for (direction, window) in Direction::ALL.into_iter().zip(Window::ALL) {
                let sum = Turnover { count: number, amount_minor: number * 100 };
                turnovers.set(party, direction, window, sum);
                turnovers.set_end(window, UnixMillis::new(number * 1000));
            }
        }
        Facts {
            operation: Operation::ThirdPartyDeposit,
            amount: AmountMinor::try_from(123).unwrap(),
            currency: Currency::try_from("USD").unwrap(),
            account_currency: Currency::try_from("EUR").unwrap(),
            customer: CustomerStanding::Guest,
            capture: CaptureFact::Refused(vec![Reason::CapLowQuality]),
            strength_db: Some(-3),
            liveness: LivenessFact::Suspect { score_e4: 4_999 },
            attempts_in_transaction: 7,
            holder_verification: HolderVerification::App,
            device_level: DeviceLevel::SecureElement,
            modality: Captured::FaceAndFinger,
            iin_given: true,
            confirmation: Confirmation::CustomerKey,
            unable: true,
            owner_known: true,
            turnovers,
            history: History {
                cards: 1,
                others_on_account_h24: 2,
                others_on_card_h24: 3,
                other_terminals_h1: 4,
                failures_h24: 5,
                active_hours: Some(0),
            },
            registers: Register::ALL.into_iter().collect(),
            case_open: true,
            shared_face: true,
            face_of_another: true,
            near_duplicate: true,
            footage_named: true,
            bank: BankFacts {
                business: BusinessClass::Small,
                other_banks_month_minor: 9,
                account_data_age_hours: Some(0),
                risk_signs: RiskSign::ALL.into_iter().collect(),
                social_payment: true,
            },
            capped: [(RuleId::try_from("RU-02").unwrap(), UnixMillis::new(5))].into(),
        }
    }

    #[test]
    fn facts_survive_their_json() {
        for facts in [few(), all()] {
            let json = facts.to_json();
            assert_eq!(Facts::from_json(json.clone()).unwrap(), facts);
            assert_eq!(Facts::parse(&json.to_string()).unwrap(), facts);
            let table: toml::Table = serde_json::from_value(json).unwrap();
            assert_eq!(Facts::parse(&toml::to_string(&table).unwrap()).unwrap(), facts);
        }
    }

    #[test]
    fn what_is_no_fact_is_refused() {
        let with = |name: &str, value: Value| {
            let mut json = few().to_json();
            json.as_object_mut().unwrap().insert(name.to_owned(), value);
            Facts::from_json(json)
        };
        assert!(matches!(with("unknown", 1.into()), Err(FactsError::Shape(_))));
        assert!(matches!(with("amount_minor", "1".into()), Err(FactsError::Shape(_))));
        assert_eq!(with("amount_minor", (-1).into()), Err(FactsError::Value("amount_minor")));
        assert_eq!(with("registers", json!(["x"])), Err(FactsError::Value("registers")));
        let ends = json!({ "day": "tomorrow" });
        assert_eq!(with("turnover_ends", ends), Err(FactsError::Value("turnover_ends")));
        for text in ["", "{", "[]", "amount_minor = 1", &" ".repeat(TEXT_BYTES_MAX + 1)] {
            assert!(matches!(Facts::parse(text), Err(FactsError::Shape(_))));
        }
    }

    #[test]
    fn a_living_face_is_one_by_the_packs_own_bar() {
        let pack = PolicyPack::embedded_dev().unwrap();
        for (score_e4, live) in [(4_999, false), (5_000, true)] {
            for liveness in [LivenessFact::Live { score_e4 }, LivenessFact::Suspect { score_e4 }] {
                let judged = Facts { liveness, ..few() }.judged_by(&pack);
                assert_eq!(judged.liveness == LivenessFact::Live { score_e4 }, live);
            }
        }
        assert_eq!(few().judged_by(&pack).liveness, LivenessFact::NoModel);
    }
}
