//! What a pack's rules see: the facts that its schema names, and no others.
//!
//! The schema is checked against the facts once, when the pack is loaded: each name must be a fact, of
//! that type, and be optional where the fact may be missing. A context that is then built from it needs no
//! second check, and facts that no rule may see are neither found out nor carried.

use std::collections::BTreeMap;

use cedar_policy::{Context, RestrictedExpression, SchemaFragment};
use serde_json::Value as Json;

use super::asked::is_within;
use super::facts::Facts;
use super::pack::{Bars, PackError};
use crate::domain::decision::RuleId;
use crate::domain::turnover::{Direction, Party, Window};

/// The facts of a schema's type `Facts`.
#[derive(Debug, Clone)]
pub(super) struct View {
    top: Vec<(String, Node)>,
    paths: Vec<String>,
}

#[derive(Debug, Clone)]
enum Node {
    Fact(Source),
    Record(Vec<(String, Node)>),
}

/// Where a fact's value comes from, by its type in Cedar.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    Long(fn(&Facts, &Bars) -> i64),
    MaybeLong(fn(&Facts, &Bars) -> Option<i64>),
    Bool(fn(&Facts) -> bool),
    Text(fn(&Facts) -> &str),
    Words(fn(&Facts) -> Vec<&str>),
    Count(Party, Direction, Window),
    Amount(Party, Direction, Window),
}

/// Every fact but the turnovers, which are named `turnover.<party>.<direction>.<window>.<count or
/// amount_minor>`.
const FACTS: &[(&str, Source)] = &[
    ("amount_minor", Source::Long(|facts, _| facts.amount.get())),
    ("currency", Source::Text(|facts| facts.currency.as_str())),
    ("account_currency", Source::Text(|facts| facts.account_currency.as_str())),
    ("customer", Source::Text(|facts| facts.customer.as_str())),
    ("strength_db", Source::MaybeLong(|facts, _| facts.strength_db)),
    ("liveness", Source::Text(|facts| facts.liveness.as_str())),
    ("liveness_score_e4", Source::MaybeLong(|facts, _| facts.liveness.score_e4())),
    ("attempts_in_transaction", Source::Long(|f, _| i64::from(f.attempts_in_transaction))),
    ("holder_verification", Source::Text(|facts| facts.holder_verification.as_str())),
    ("device_level", Source::Text(|facts| facts.device_level.as_str())),
    ("modality", Source::Text(|facts| facts.modality.as_str())),
    ("iin_given", Source::Bool(|facts| facts.iin_given)),
    ("confirmation", Source::Text(|facts| facts.confirmation.as_str())),
    ("unable", Source::Bool(|facts| facts.unable)),
    ("owner_known", Source::Bool(|facts| facts.owner_known)),
    ("case_open", Source::Bool(|facts| facts.case_open)),
    ("shared_face", Source::Bool(|facts| facts.shared_face)),
    (Facts::FACE_OF_ANOTHER, Source::Bool(|facts| facts.face_of_another)),
    ("near_duplicate", Source::Bool(|facts| facts.near_duplicate)),
    ("footage_named", Source::Bool(|facts| facts.footage_named)),
    (
        "registers",
        Source::Words(|facts| facts.registers.iter().map(|each| each.as_str()).collect()),
    ),
    ("capped", Source::Words(|facts| facts.capped.keys().map(RuleId::as_str).collect())),
    ("cards", Source::Long(|facts, _| facts.history.cards)),
    ("others_on_account_h24", Source::Long(|facts, _| facts.history.others_on_account_h24)),
    ("others_on_card_h24", Source::Long(|facts, _| facts.history.others_on_card_h24)),
    ("other_terminals_h1", Source::Long(|facts, _| facts.history.other_terminals_h1)),
    ("failures_h24", Source::Long(|facts, _| facts.history.failures_h24)),
    ("active_hours", Source::MaybeLong(|facts, _| facts.history.active_hours)),
    ("business", Source::Text(|facts| facts.bank.business.as_str())),
    ("other_banks_month_minor", Source::Long(|facts, _| facts.bank.other_banks_month_minor)),
    ("account_data_age_hours", Source::MaybeLong(|facts, _| facts.bank.account_data_age_hours)),
    (
        "risk_signs",
        Source::Words(|facts| facts.bank.risk_signs.iter().map(|each| each.as_str()).collect()),
    ),
    ("social_payment", Source::Bool(|facts| facts.bank.social_payment)),
    ("bars.required_db", Source::Long(|_, bars| bars.required_db)),
    ("bars.attempts_max", Source::Long(|_, bars| i64::from(bars.attempts_max))),
    ("bars.liveness_min_e4", Source::Long(|_, bars| bars.liveness_min_e4)),
    (
        "bars.amount_max_minor",
        Source::MaybeLong(|facts, bars| bars.amount_max_minor(facts.currency)),
    ),
];

impl View {
    /// The view of a schema in Cedar's own syntax.
    ///
    /// # Errors
    ///
    /// [`PackError::Schema`] or [`PackError::Invalid`] for what is no schema over the facts.
    pub fn of(schema: &str) -> Result<Self, PackError> {
        let (fragment, _) = SchemaFragment::from_cedarschema_str(schema)
            .map_err(|source| PackError::Schema { source: Box::new(source) })?;
        let json = fragment.to_json_value().map_err(|_| PackError::Field("schema"))?;
        let types = json.pointer("//commonTypes").and_then(Json::as_object);
        let facts = types.and_then(|types| types.get("Facts"));
        let (Some(types), Some(facts)) = (types, facts) else {
            return Err(invalid("the schema has no type Facts".to_owned()));
        };
        let mut reader = Reader { types, paths: Vec::new() };
        match reader.node(facts, "", true, 0)? {
            Node::Record(top) => Ok(Self { top, paths: reader.paths }),
            Node::Fact(_) => Err(invalid("the schema's type Facts is no record".to_owned())),
        }
    }

    /// Whether a fact, or any fact of a record, may be seen.
    pub fn sees(&self, path: &str) -> bool {
        self.paths.iter().any(|seen| is_within(seen, path))
    }

    /// The paths of all facts that may be seen.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(String::as_str)
    }

    /// The facts as Cedar takes them; `None` where it does not.
    pub fn context(&self, facts: &Facts, bars: &Bars) -> Option<Context> {
        Context::from_pairs(pairs_of(&self.top, facts, bars)?).ok()
    }
}

fn pairs_of(
    record: &[(String, Node)],
    facts: &Facts,
    bars: &Bars,
) -> Option<Vec<(String, RestrictedExpression)>> {
    let mut pairs = Vec::with_capacity(record.len());
    for (name, node) in record {
        let value = match node {
            Node::Fact(source) => match source.read(facts, bars) {
                Some(value) => value.into_cedar(),
                None => continue,
            },
            Node::Record(inner) => {
                RestrictedExpression::new_record(pairs_of(inner, facts, bars)?).ok()?
            }
        };
        pairs.push((name.clone(), value));
    }
    Some(pairs)
}

/// A fact's value.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    Bool(bool),
    Long(i64),
    Text(&'a str),
    Words(Vec<&'a str>),
}

impl Source {
    /// The fact; `None` where it is missing.
    pub fn read<'a>(self, facts: &'a Facts, bars: &Bars) -> Option<Value<'a>> {
        let turnover = |party, direction, window| facts.turnovers.get(party, direction, window);
        Some(match self {
            Self::Long(of) => Value::Long(of(facts, bars)),
            Self::MaybeLong(of) => Value::Long(of(facts, bars)?),
            Self::Bool(of) => Value::Bool(of(facts)),
            Self::Text(of) => Value::Text(of(facts)),
            Self::Words(of) => Value::Words(of(facts)),
            Self::Count(party, direction, window) => {
                Value::Long(turnover(party, direction, window).count)
            }
            Self::Amount(party, direction, window) => {
                Value::Long(turnover(party, direction, window).amount_minor)
            }
        })
    }

    const fn cedar_type(self) -> &'static str {
        match self {
            Self::Long(_) | Self::MaybeLong(_) | Self::Count(..) | Self::Amount(..) => "Long",
            Self::Bool(_) => "Bool",
            Self::Text(_) => "String",
            Self::Words(_) => "Set<String>",
        }
    }

    const fn may_be_missing(self) -> bool {
        matches!(self, Self::MaybeLong(_))
    }
}

impl Value<'_> {
    fn into_cedar(self) -> RestrictedExpression {
        type Cedar = RestrictedExpression;
        let text = |text: &str| Cedar::new_string(text.to_owned());
        match self {
            Self::Bool(value) => Cedar::new_bool(value),
            Self::Long(value) => Cedar::new_long(value),
            Self::Text(value) => text(value),
            Self::Words(words) => Cedar::new_set(words.into_iter().map(text)),
        }
    }
}

/// The fact of a path.
pub(super) fn source_of(path: &str) -> Option<Source> {
    let named = FACTS.iter().find(|(name, _)| *name == path);
    named.map(|(_, source)| *source).or_else(|| turnover(path))
}

fn turnover(path: &str) -> Option<Source> {
    let mut words = path.strip_prefix("turnover.")?.split('.');
    let party = words.next().and_then(Party::from_word)?;
    let direction = words.next().and_then(Direction::from_word)?;
    let window = words.next().and_then(Window::from_word)?;
    match (words.next()?, words.next()) {
        ("count", None) => Some(Source::Count(party, direction, window)),
        ("amount_minor", None) => Some(Source::Amount(party, direction, window)),
        _ => None,
    }
}

/// Walks the schema's JSON form.
struct Reader<'a> {
    types: &'a serde_json::Map<String, Json>,
    paths: Vec<String>,
}

/// Deeper than any schema over the facts; a type that names itself ends here.
const DEPTH_MAX: u8 = 8;

impl Reader<'_> {
    fn node(
        &mut self,
        of_type: &Json,
        path: &str,
        required: bool,
        depth: u8,
    ) -> Result<Node, PackError> {
        let word = |key| of_type.get(key).and_then(Json::as_str);
        let named = word("name").map(|name| name.trim_start_matches("__cedar::"));
        if let Some(meant) =
            named.and_then(|name| self.types.get(name)).filter(|_| depth < DEPTH_MAX)
        {
            return self.node(meant, path, required, depth + 1);
        }
        if word("type") == Some("Record") {
            if !required {
                return Err(invalid(format!("{path} is a record and must not be optional")));
            }
            let attributes = of_type.get("attributes").and_then(Json::as_object);
            let mut record = BTreeMap::new();
            for (name, attribute) in attributes.into_iter().flatten() {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let required = attribute.get("required").and_then(Json::as_bool).unwrap_or(true);
                record.insert(name.clone(), self.node(attribute, &path, required, depth + 1)?);
            }
            return Ok(Node::Record(record.into_iter().collect()));
        }
        let source = source_of(path).ok_or_else(|| invalid(format!("{path} is no fact")))?;
        let given = match (word("type"), of_type.get("element")) {
            (Some("Set"), Some(element)) => {
                let element = element.get("name").or_else(|| element.get("type"));
                let element = element.and_then(Json::as_str).unwrap_or_default();
                format!("Set<{}>", element.trim_start_matches("__cedar::"))
            }
            (of_type, _) => named.or(of_type).unwrap_or_default().replace("Boolean", "Bool"),
        };
        if given != source.cedar_type() {
            let finding = format!("{path} is a {}, not a {given}", source.cedar_type());
            return Err(invalid(finding));
        }
        if required == source.may_be_missing() {
            let must = if required { "must be optional" } else { "is never missing" };
            return Err(invalid(format!("{path} {must}")));
        }
        self.paths.push(path.to_owned());
        Ok(Node::Fact(source))
    }
}

fn invalid(finding: String) -> PackError {
    PackError::Invalid { finding }
}
