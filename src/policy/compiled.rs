//! Rules as small trees over the facts: what Cedar says of them, many times faster.
//!
//! A pack is written, validated and meant in Cedar. Its rules mostly compare facts with numbers and words, and
//! for that part of the language this module has an evaluator of its own, which reads the facts where they
//! are. A pack with anything else in it is left to Cedar whole. That both say the same is held by each case of
//! a pack when it is loaded, and by tests on arbitrary facts.

use cedar_policy::Policy;
use serde_json::Value as Json;

use super::facts::Facts;
use super::pack::Bars;
use super::view::{Source, Value, source_of};
use crate::domain::transaction::Operation;

/// One rule's conditions.
#[derive(Debug, Clone)]
pub(super) struct Compiled {
    operations: Vec<Operation>,
    condition: Expr,
}

/// A rule that could not be evaluated: a sum that overflowed, or a fact that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failed;

#[derive(Debug, Clone)]
enum Expr {
    Bool(bool),
    Long(i64),
    Text(String),
    Words(Vec<Self>),
    Fact(Source),
    Has(Source),
    Not(Box<Self>),
    Negative(Box<Self>),
    IsEmpty(Box<Self>),
    Both(Binary, Box<(Self, Self)>),
    If(Box<(Self, Self, Self)>),
}

#[derive(Debug, Clone, Copy)]
enum Binary {
    And,
    Or,
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Contains,
    ContainsAny,
    ContainsAll,
}

impl Compiled {
    /// The rule, or `None` for one that uses more of Cedar than is compiled.
    pub fn of(policy: &Policy) -> Option<Self> {
        let json = policy.to_json().ok()?;
        for any in ["principal", "resource"] {
            if json.get(any)?.get("op")?.as_str()? != "All" {
                return None;
            }
        }
        let mut condition = Expr::Bool(true);
        for part in json.get("conditions")?.as_array()? {
            let body = expression(part.get("body")?)?;
            let body = match part.get("kind")?.as_str()? {
                "when" => body,
                "unless" => Expr::Not(Box::new(body)),
                _ => return None,
            };
            condition = Expr::Both(Binary::And, Box::new((condition, body)));
        }
        Some(Self { operations: operations(json.get("action")?)?, condition })
    }

    /// Whether the rule holds.
    pub fn holds(&self, facts: &Facts, bars: &Bars) -> Result<bool, Failed> {
        if !self.operations.contains(&facts.operation) {
            return Ok(false);
        }
        self.condition.value(facts, bars)?.bool()
    }
}

/// The operations that an action's scope names.
fn operations(action: &Json) -> Option<Vec<Operation>> {
    let named = |entity: &Json| {
        let is_action = entity.get("type")?.as_str()? == "Action";
        Operation::from_word(entity.get("id")?.as_str()?).filter(|_| is_action)
    };
    match (action.get("op")?.as_str()?, action.get("entity"), action.get("entities")) {
        ("All", _, _) => Some(Operation::ALL.to_vec()),
        ("==" | "in", Some(entity), _) => Some(vec![named(entity)?]),
        ("in", None, Some(entities)) => entities.as_array()?.iter().map(named).collect(),
        _ => None,
    }
}

/// An expression of Cedar's JSON form.
fn expression(json: &Json) -> Option<Expr> {
    let (operator, operand) = json.as_object()?.iter().next()?;
    if let Some(operator) = Binary::from_word(operator) {
        let (left, right) = (operand.get("left")?, operand.get("right")?);
        return Some(Expr::Both(operator, Box::new((expression(left)?, expression(right)?))));
    }
    let argument = || Some(Box::new(expression(operand.get("arg")?)?));
    Some(match operator.as_str() {
        "Value" => literal(operand)?,
        "Set" => Expr::Words(operand.as_array()?.iter().map(word).collect::<Option<_>>()?),
        "." => Expr::Fact(source_of(&path(json)?)?),
        "has" => Expr::Has(source_of(&joined(operand)?)?),
        "!" => Expr::Not(argument()?),
        "neg" => Expr::Negative(argument()?),
        "isEmpty" => Expr::IsEmpty(argument()?),
        "if-then-else" => {
            let part = |name| expression(operand.get(name)?);
            Expr::If(Box::new((part("if")?, part("then")?, part("else")?)))
        }
        _ => return None,
    })
}

fn literal(json: &Json) -> Option<Expr> {
    match json {
        Json::Bool(value) => Some(Expr::Bool(*value)),
        Json::Number(value) => value.as_i64().map(Expr::Long),
        Json::String(value) => Some(Expr::Text(value.clone())),
        _ => None,
    }
}

/// An element of a set: only words are.
fn word(json: &Json) -> Option<Expr> {
    let element = expression(json)?;
    matches!(element, Expr::Text(_) | Expr::Fact(Source::Text(_))).then_some(element)
}

/// `context.a.b` as `a.b`; empty for the context itself.
pub(super) fn path(json: &Json) -> Option<String> {
    if json.get("Var").and_then(Json::as_str) == Some("context") {
        return Some(String::new());
    }
    joined(json.get(".")?)
}

/// The path of an access's operand: a record, and which of its attributes.
pub(super) fn joined(access: &Json) -> Option<String> {
    let (left, attribute) = (path(access.get("left")?)?, access.get("attr")?.as_str()?);
    Some(if left.is_empty() { attribute.to_owned() } else { format!("{left}.{attribute}") })
}

impl Binary {
    fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "&&" => Self::And,
            "||" => Self::Or,
            "==" => Self::Equal,
            "!=" => Self::Unequal,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            "+" => Self::Add,
            "-" => Self::Subtract,
            "*" => Self::Multiply,
            "contains" => Self::Contains,
            "containsAny" => Self::ContainsAny,
            "containsAll" => Self::ContainsAll,
            _ => return None,
        })
    }
}

impl Expr {
    fn value<'a>(&'a self, facts: &'a Facts, bars: &Bars) -> Result<Value<'a>, Failed> {
        let value = |of: &'a Self| of.value(facts, bars);
        Ok(match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Long(value) => Value::Long(*value),
            Self::Text(value) => Value::Text(value),
            Self::Words(words) => {
                let words = words.iter().map(|word| value(word)?.text());
                Value::Words(words.collect::<Result<_, _>>()?)
            }
            Self::Fact(source) => source.read(facts, bars).ok_or(Failed)?,
            Self::Has(source) => Value::Bool(source.read(facts, bars).is_some()),
            Self::Not(of) => Value::Bool(!value(of)?.bool()?),
            Self::Negative(of) => Value::Long(value(of)?.long()?.checked_neg().ok_or(Failed)?),
            Self::IsEmpty(of) => Value::Bool(value(of)?.words()?.is_empty()),
            Self::If(parts) => {
                let (condition, then, otherwise) = &**parts;
                value(if value(condition)?.bool()? { then } else { otherwise })?
            }
            Self::Both(operator, parts) => {
                let (left, right) = &**parts;
                operator.apply(value(left)?, || value(right))?
            }
        })
    }
}

impl Binary {
    /// The right side is evaluated unless the left one of `&&` or `||` has decided.
    fn apply<'a>(
        self,
        left: Value<'a>,
        right: impl FnOnce() -> Result<Value<'a>, Failed>,
    ) -> Result<Value<'a>, Failed> {
        let decided = match self {
            Self::And => Some(false),
            Self::Or => Some(true),
            _ => None,
        };
        if let Some(decided) = decided {
            let left = left.bool()?;
            return Ok(Value::Bool(if left == decided { left } else { right()?.bool()? }));
        }
        let right = right()?;
        let number = |apply: fn(i64, i64) -> Option<i64>| {
            apply(left.long()?, right.long()?).map(Value::Long).ok_or(Failed)
        };
        let holds = match self {
            Self::Add => return number(i64::checked_add),
            Self::Subtract => return number(i64::checked_sub),
            Self::Multiply => return number(i64::checked_mul),
            Self::Equal => left.equals(&right),
            Self::Unequal => !left.equals(&right),
            Self::Less => left.long()? < right.long()?,
            Self::LessOrEqual => left.long()? <= right.long()?,
            Self::Greater => left.long()? > right.long()?,
            Self::GreaterOrEqual => left.long()? >= right.long()?,
            Self::Contains => left.words()?.contains(&right.text()?),
            Self::ContainsAny => {
                let words = left.words()?;
                right.words()?.iter().any(|word| words.contains(word))
            }
            Self::ContainsAll => {
                let words = left.words()?;
                right.words()?.iter().all(|word| words.contains(word))
            }
            Self::And | Self::Or => return Err(Failed),
        };
        Ok(Value::Bool(holds))
    }
}

impl<'a> Value<'a> {
    fn bool(&self) -> Result<bool, Failed> {
        if let Self::Bool(value) = self { Ok(*value) } else { Err(Failed) }
    }

    fn long(&self) -> Result<i64, Failed> {
        if let Self::Long(value) = self { Ok(*value) } else { Err(Failed) }
    }

    fn text(&self) -> Result<&'a str, Failed> {
        if let Self::Text(value) = self { Ok(value) } else { Err(Failed) }
    }

    fn words(&self) -> Result<&[&'a str], Failed> {
        if let Self::Words(words) = self { Ok(words) } else { Err(Failed) }
    }

    /// Sets are equal when each has what the other has.
    fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bool(one), Self::Bool(other)) => one == other,
            (Self::Long(one), Self::Long(other)) => one == other,
            (Self::Text(one), Self::Text(other)) => one == other,
            (Self::Words(one), Self::Words(other)) => {
                one.iter().all(|word| other.contains(word))
                    && other.iter().all(|word| one.contains(word))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_of_the_tree_is_compiled() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
        for dir in std::fs::read_dir(root).unwrap() {
            let dir = dir.unwrap().path();
            for file in std::fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path()) {
                if file.extension().is_none_or(|found| found != "cedar") {
                    continue;
                }
                let text = std::fs::read_to_string(&file).unwrap();
                let rules: cedar_policy::PolicySet = text.parse().unwrap();
                for rule in rules.policies() {
                    let json = rule.to_json().unwrap();
                    assert!(Compiled::of(rule).is_some(), "{}: {json}", file.display());
                }
            }
        }
    }
}
