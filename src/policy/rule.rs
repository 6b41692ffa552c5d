//! What a rule means when it holds: read once from its annotations.

use cedar_policy::{Effect, Policy};

use crate::domain::decision::{Outcome, RuleId, StepUp};
use crate::domain::reason::Reason;
use crate::domain::time::UnixMillis;

/// A rule's name and what follows when it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) id: RuleId,
    pub(super) reason: Option<Reason>,
    consequence: Consequence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Consequence {
    Approve,
    Cap { cap_minor: i64, hours: i64 },
    StepUp(StepUp),
    Inconclusive,
    Hold { hours: i64 },
    Deny,
}

/// An annotation that is missing, wrong, or without meaning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// It is needed here.
    #[error("@{0} is missing")]
    Missing(&'static str),
    /// Its text is not one that it may have.
    #[error("@{0} has a value that it cannot have")]
    Value(&'static str),
    /// It means nothing with this outcome, or at all.
    #[error("@{0} has no meaning here")]
    Meaningless(String),
    /// A permit that refuses, or a forbid that approves without a cap.
    #[error("a permit approves and a forbid does not: the outcome contradicts the effect")]
    Contradiction,
}

impl Rule {
    /// Reads a policy's annotations.
    ///
    /// # Errors
    ///
    /// [`RuleError`]: also for an annotation nobody reads, since a mistyped `@reason` must not pass.
    pub(super) fn of(policy: &Policy) -> Result<Self, RuleError> {
        let word = |key| policy.annotation(key);
        let id = word("id").ok_or(RuleError::Missing("id"))?;
        let id = RuleId::try_from(id).map_err(|_| RuleError::Value("id"))?;
        let permits = policy.effect() == Effect::Permit;
        let outcome = match word("outcome") {
            Some(outcome) => outcome,
            None if permits => "APPROVED",
            None => return Err(RuleError::Missing("outcome")),
        };
        let (consequence, own_keys): (_, &[&str]) = match outcome {
            "APPROVED" => (Consequence::Approve, &[]),
            "APPROVED_CAPPED" => {
                let cap_minor = positive(policy, "cap_minor", i64::MAX)?;
                let hours = positive(policy, "cap_hours", HOURS_MAX)?;
                (Consequence::Cap { cap_minor, hours }, &["cap_minor", "cap_hours"])
            }
            "STEP_UP" => {
                let what = word("step_up").ok_or(RuleError::Missing("step_up"))?;
                let what = StepUp::from_word(what).ok_or(RuleError::Value("step_up"))?;
                (Consequence::StepUp(what), &["step_up"])
            }
            "INCONCLUSIVE" => (Consequence::Inconclusive, &[]),
            "HELD" => {
                let hours = positive(policy, "hold_hours", HOURS_MAX)?;
                (Consequence::Hold { hours }, &["hold_hours"])
            }
            "DENIED" => (Consequence::Deny, &[]),
            _ => return Err(RuleError::Value("outcome")),
        };
        let approves = matches!(consequence, Consequence::Approve | Consequence::Cap { .. });
        if (permits && !approves) || (!permits && consequence == Consequence::Approve) {
            return Err(RuleError::Contradiction);
        }
        let reason = reason_of(policy, consequence != Consequence::Approve)?;
        for (key, _) in policy.annotations() {
            if !COMMON_KEYS.contains(&key) && !own_keys.contains(&key) {
                return Err(RuleError::Meaningless(key.to_owned()));
            }
        }
        Ok(Self { id, reason, consequence })
    }

    /// What follows when the rule holds now.
    pub(super) fn outcome(&self, now: UnixMillis) -> Outcome {
        let after = |hours: i64| now.plus_millis(hours.saturating_mul(HOUR_MS));
        match self.consequence {
            Consequence::Approve => Outcome::Approved,
            Consequence::Cap { cap_minor, hours } => {
                Outcome::ApprovedCapped { cap_minor, until: after(hours) }
            }
            Consequence::StepUp(what) => Outcome::StepUp { what },
            Consequence::Inconclusive => Outcome::Inconclusive,
            Consequence::Hold { hours } => Outcome::Held { until: after(hours) },
            Consequence::Deny => Outcome::Denied,
        }
    }
}

/// The `@reason`, which a plain approval cannot have and everything else must have.
fn reason_of(policy: &Policy, needed: bool) -> Result<Option<Reason>, RuleError> {
    match policy.annotation("reason") {
        None if needed => Err(RuleError::Missing("reason")),
        None => Ok(None),
        Some(_) if !needed => Err(RuleError::Meaningless("reason".to_owned())),
        Some(code) => Reason::from_code(code).map(Some).map_err(|_| RuleError::Value("reason")),
    }
}

/// A whole number in `1..=max`.
fn positive(policy: &Policy, key: &'static str, max: i64) -> Result<i64, RuleError> {
    let text = policy.annotation(key).ok_or(RuleError::Missing(key))?;
    let number = text.parse::<i64>().ok().filter(|number| (1..=max).contains(number));
    number.ok_or(RuleError::Value(key))
}

/// Annotations that any rule may have; `law` and `doc` are for people.
const COMMON_KEYS: [&str; 5] = ["id", "outcome", "reason", "law", "doc"];

const HOUR_MS: i64 = 3_600_000;

/// Ten years: whatever lasts longer is a refusal and should say so.
const HOURS_MAX: i64 = 87_600;

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    fn read(annotations: &str, effect: &str) -> Result<Rule, RuleError> {
        let source = format!("{annotations} {effect}(principal, action, resource);");
        Rule::of(&Policy::from_str(&source).unwrap())
    }

    #[test]
    fn a_cap_and_a_hold_end_when_the_rule_says() {
        let now = UnixMillis::new(1_000);
        let cap = r#"@id("RU-02") @outcome("APPROVED_CAPPED") @reason("LIM_DAILY_CAP")
            @cap_minor("5000000") @cap_hours("48") @law("161-FZ")"#;
        let until = UnixMillis::new(1_000 + 48 * 3_600_000);
        assert_eq!(
            read(cap, "forbid").unwrap().outcome(now),
            Outcome::ApprovedCapped { cap_minor: 5_000_000, until }
        );
        let hold =
            r#"@id("KZ-08") @outcome("HELD") @reason("POL_NOT_PERMITTED") @hold_hours("48")"#;
        assert_eq!(read(hold, "forbid").unwrap().outcome(now), Outcome::Held { until });
        let step = r#"@id("KZ-01") @outcome("STEP_UP") @reason("POL_STEP_UP") @step_up("TELLER")"#;
        let teller = Outcome::StepUp { what: StepUp::Teller };
        assert_eq!(read(step, "forbid").unwrap().outcome(now), teller);
        assert_eq!(read(r#"@id("a")"#, "permit").unwrap().outcome(now), Outcome::Approved);
    }

    #[test]
    fn each_wrong_annotation_is_named() {
        let deny = r#"@id("a") @outcome("DENIED")"#;
        let wrong = [
            ("", "permit", RuleError::Missing("id")),
            (r#"@id("a b")"#, "permit", RuleError::Value("id")),
            (r#"@id("a")"#, "forbid", RuleError::Missing("outcome")),
            (r#"@id("a") @outcome("NO")"#, "forbid", RuleError::Value("outcome")),
            (r#"@id("a") @outcome("APPROVED")"#, "forbid", RuleError::Contradiction),
            (
                r#"@id("a") @outcome("DENIED") @reason("POL_AMOUNT")"#,
                "permit",
                RuleError::Contradiction,
            ),
            (deny, "forbid", RuleError::Missing("reason")),
            (r#"@id("a") @outcome("DENIED") @reason("NO")"#, "forbid", RuleError::Value("reason")),
            (
                r#"@id("a") @reason("POL_AMOUNT")"#,
                "permit",
                RuleError::Meaningless("reason".to_owned()),
            ),
            (
                r#"@id("a") @outcom("DENIED")"#,
                "permit",
                RuleError::Meaningless("outcom".to_owned()),
            ),
            (
                r#"@id("a") @outcome("DENIED") @reason("POL_AMOUNT") @cap_hours("1")"#,
                "forbid",
                RuleError::Meaningless("cap_hours".to_owned()),
            ),
            (
                r#"@id("a") @outcome("HELD") @reason("POL_AMOUNT")"#,
                "forbid",
                RuleError::Missing("hold_hours"),
            ),
            (
                r#"@id("a") @outcome("HELD") @reason("POL_AMOUNT") @hold_hours("0")"#,
                "forbid",
                RuleError::Value("hold_hours"),
            ),
            (
                r#"@id("a") @outcome("HELD") @reason("POL_AMOUNT") @hold_hours("87601")"#,
                "forbid",
                RuleError::Value("hold_hours"),
            ),
            (
                r#"@id("a") @outcome("STEP_UP") @reason("POL_STEP_UP") @step_up("x")"#,
                "forbid",
                RuleError::Value("step_up"),
            ),
        ];
        for (annotations, effect, expected) in wrong {
            assert_eq!(read(annotations, effect), Err(expected), "{annotations} {effect}");
        }
    }
}
