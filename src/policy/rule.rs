//! What a rule means when it holds: read once from its annotations.

use std::sync::Arc;

use cedar_policy::{Effect, Policy};

use super::facts::Facts;
use crate::domain::case::CaseKind;
use crate::domain::decision::{Outcome, RuleId, SignCode, StepUp};
use crate::domain::reason::Reason;
use crate::domain::time::UnixMillis;
use crate::domain::turnover::{Direction, Party, Window};
use crate::domain::working_days::{WorkingCalendar, WorkingEnd};

/// A rule's name and what follows when it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) id: RuleId,
    pub(super) reason: Option<Reason>,
    /// By which sign whatever it holds of is suspicious; never told to terminals.
    pub(super) sign: Option<SignCode>,
    /// The kind of case that it opens.
    case: Option<CaseKind>,
    consequence: Consequence,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Consequence {
    Approve,
    Cap(CapRule),
    StepUp(StepUp),
    Inconclusive,
    Hold(Hold),
    Deny,
}

/// How long a hold lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hold {
    Hours(i64),
    WorkingDays(i64, Arc<WorkingCalendar>),
}

impl Hold {
    fn of(
        policy: &Policy,
        calendar: Option<&Arc<WorkingCalendar>>,
    ) -> Result<(Self, &'static [&'static str]), RuleError> {
        if policy.annotation("hold_days").is_none() {
            let hours = positive(policy, "hold_hours", HOURS_MAX)?;
            return Ok((Self::Hours(hours), &["hold_hours"]));
        }
        let days = positive(policy, "hold_days", HOLD_DAYS_MAX)?;
        let calendar = calendar.ok_or(RuleError::NoCalendar)?;
        Ok((Self::WorkingDays(days, Arc::clone(calendar)), &["hold_days"]))
    }

    fn end(&self, now: UnixMillis) -> WorkingEnd {
        match self {
            Self::Hours(hours) => WorkingEnd { until: after(now, *hours), beyond_calendar: false },
            Self::WorkingDays(days, calendar) => calendar.end(now, *days),
        }
    }
}

/// A case that a rule opens, or adds to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseBegun {
    /// What the rule calls it; none for a hold whose rule names no case.
    pub kind: Option<CaseKind>,
    /// When the hold ends, where the rule holds.
    pub hold: Option<WorkingEnd>,
}

/// The most that may be paid: of one transaction, or together with what moved in a window.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CapRule {
    cap_minor: i64,
    counted: Option<(Party, Direction, Window)>,
    lasts: Lasts,
}

/// How long a cap stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Lasts {
    /// From the decision on. It then runs for the person, and other rules may look at it.
    Hours(i64),
    /// As long as the cap that another rule began.
    AsLongAs(RuleId),
    /// Until the counted window ends, or for as long as a rolling one is.
    Window(Window),
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
    /// Working days are counted by the pack's calendar, and it has none.
    #[error("@hold_days needs a calendar.toml in the pack")]
    NoCalendar,
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
    pub(super) fn of(
        policy: &Policy,
        calendar: Option<&Arc<WorkingCalendar>>,
    ) -> Result<Self, RuleError> {
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
                let keys = &["cap_minor", "cap_counts", "cap_hours", "cap_runs"];
                (Consequence::Cap(CapRule::of(policy)?), keys)
            }
            "STEP_UP" => {
                let what = word("step_up").ok_or(RuleError::Missing("step_up"))?;
                let what = StepUp::from_word(what).ok_or(RuleError::Value("step_up"))?;
                (Consequence::StepUp(what), &["step_up"])
            }
            "INCONCLUSIVE" => (Consequence::Inconclusive, &[]),
            "HELD" => {
                let (hold, keys) = Hold::of(policy, calendar)?;
                (Consequence::Hold(hold), keys)
            }
            "DENIED" => (Consequence::Deny, &[]),
            _ => return Err(RuleError::Value("outcome")),
        };
        let approves = matches!(consequence, Consequence::Approve | Consequence::Cap(_));
        if (permits && !approves) || (!permits && consequence == Consequence::Approve) {
            return Err(RuleError::Contradiction);
        }
        let reason = reason_of(policy, consequence != Consequence::Approve)?;
        let sign = word("sign").map(SignCode::try_from).transpose();
        let sign = sign.map_err(|_| RuleError::Value("sign"))?;
        for (key, _) in policy.annotations() {
            if !COMMON_KEYS.contains(&key) && !own_keys.contains(&key) {
                return Err(RuleError::Meaningless(key.to_owned()));
            }
        }
        let case = word("case").map(CaseKind::try_from).transpose();
        let case = case.map_err(|_| RuleError::Value("case"))?;
        Ok(Self { id, reason, sign, case, consequence })
    }

    /// What follows when the rule holds now.
    pub(super) fn outcome(&self, facts: &Facts, now: UnixMillis) -> Outcome {
        match &self.consequence {
            Consequence::Approve => Outcome::Approved,
            Consequence::Cap(cap) => cap.outcome(facts, now),
            Consequence::StepUp(what) => Outcome::StepUp { what: *what },
            Consequence::Inconclusive => Outcome::Inconclusive,
            Consequence::Hold(hold) => Outcome::Held { until: hold.end(now).until },
            Consequence::Deny => Outcome::Denied,
        }
    }

    /// The outcome in words.
    pub(super) fn effect(&self) -> String {
        match &self.consequence {
            Consequence::Approve => "APPROVED".to_owned(),
            Consequence::Cap(CapRule { cap_minor, counted, lasts }) => {
                let counted = counted.map_or(String::new(), |(party, direction, window)| {
                    let (party, direction) = (party.as_str(), direction.as_str());
                    format!(" together with {party}.{direction}.{}", window.as_str())
                });
                let lasts = match lasts {
                    Lasts::Hours(hours) => format!(", for {hours} hours"),
                    Lasts::AsLongAs(rule) => format!(", as long as {rule} runs"),
                    Lasts::Window(_) => String::new(),
                };
                format!("APPROVED_CAPPED: {cap_minor} minor units{counted}{lasts}")
            }
            Consequence::StepUp(what) => format!("STEP_UP: {}", what.as_str()),
            Consequence::Inconclusive => "INCONCLUSIVE".to_owned(),
            Consequence::Hold(Hold::Hours(hours)) => format!("HELD: {hours} hours"),
            Consequence::Hold(Hold::WorkingDays(days, _)) => format!("HELD: {days} working days"),
            Consequence::Deny => "DENIED".to_owned(),
        }
    }

    /// The case that it opens when it holds now.
    pub(super) fn begins_case(&self, now: UnixMillis) -> Option<CaseBegun> {
        let hold = match &self.consequence {
            Consequence::Hold(hold) => Some(hold.end(now)),
            _ => None,
        };
        let kind = self.case.clone();
        (kind.is_some() || hold.is_some()).then_some(CaseBegun { kind, hold })
    }

    /// The turnover that its cap counts, as the schema must name it.
    pub(super) fn counts(&self) -> Option<String> {
        let Consequence::Cap(CapRule { counted: Some((party, direction, window)), .. }) =
            &self.consequence
        else {
            return None;
        };
        let path = [party.as_str(), direction.as_str(), window.as_str()].join(".");
        Some(format!("turnover.{path}"))
    }

    /// Until when the cap runs that begins when the rule holds now; `None` for a rule that begins none.
    pub(super) fn begins_cap(&self, now: UnixMillis) -> Option<UnixMillis> {
        match &self.consequence {
            Consequence::Cap(CapRule { lasts: Lasts::Hours(hours), .. }) => {
                Some(after(now, *hours))
            }
            _ => None,
        }
    }
}

impl CapRule {
    fn of(policy: &Policy) -> Result<Self, RuleError> {
        let cap_minor = positive(policy, "cap_minor", i64::MAX)?;
        let counted = policy.annotation("cap_counts").map(counted);
        let counted = counted.map(|path| path.ok_or(RuleError::Value("cap_counts"))).transpose()?;
        let runs = policy.annotation("cap_runs").map(RuleId::try_from);
        let runs = runs.transpose().map_err(|_| RuleError::Value("cap_runs"))?;
        let lasts = match (runs, policy.annotation("cap_hours"), counted) {
            (Some(_), Some(_), _) => return Err(RuleError::Meaningless("cap_hours".to_owned())),
            (Some(rule), None, _) => Lasts::AsLongAs(rule),
            (None, None, Some((_, _, window))) => Lasts::Window(window),
            (None, _, _) => Lasts::Hours(positive(policy, "cap_hours", HOURS_MAX)?),
        };
        Ok(Self { cap_minor, counted, lasts })
    }

    /// What the cap leaves after what moved; nothing left is a refusal.
    fn outcome(&self, facts: &Facts, now: UnixMillis) -> Outcome {
        let moved = self.counted.map_or(0, |(party, direction, window)| {
            facts.turnovers.get(party, direction, window).amount_minor
        });
        let cap_minor = self.cap_minor.saturating_sub(moved);
        if cap_minor <= 0 {
            return Outcome::Denied;
        }
        let until = match &self.lasts {
            Lasts::Hours(hours) => after(now, *hours),
            Lasts::AsLongAs(rule) => facts.capped.get(rule).copied().unwrap_or(now),
            Lasts::Window(window) => facts.turnovers.end(*window, now),
        };
        Outcome::ApprovedCapped { cap_minor, until }
    }
}

/// `customer.withdrawals.day`.
fn counted(path: &str) -> Option<(Party, Direction, Window)> {
    let mut words = path.split('.');
    let party = Party::from_word(words.next()?)?;
    let direction = Direction::from_word(words.next()?)?;
    let window = Window::from_word(words.next()?)?;
    words.next().is_none().then_some((party, direction, window))
}

fn after(now: UnixMillis, hours: i64) -> UnixMillis {
    now.plus_millis(hours.saturating_mul(HOUR_MS))
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
const COMMON_KEYS: [&str; 7] = ["id", "outcome", "reason", "case", "law", "doc", "sign"];

const HOUR_MS: i64 = 3_600_000;

/// Ten years: whatever lasts longer is a refusal and should say so.
const HOURS_MAX: i64 = 87_600;

/// Two years of working days: whatever lasts longer is a refusal and should say so.
const HOLD_DAYS_MAX: i64 = 500;

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;
    use crate::domain::money::{AmountMinor, Currency};
    use crate::domain::transaction::Operation;
    use crate::domain::turnover::Turnover;

    fn read(annotations: &str, effect: &str) -> Result<Rule, RuleError> {
        let source = format!("{annotations} {effect}(principal, action, resource);");
        Rule::of(&Policy::from_str(&source).unwrap(), None)
    }

    fn facts() -> Facts {
        let amount = AmountMinor::try_from(1).unwrap();
        Facts::of(Operation::CashWithdrawal, amount, Currency::try_from("RUB").unwrap())
    }

    #[test]
    fn a_cap_and_a_hold_end_when_the_rule_says() {
        let now = UnixMillis::new(1_000);
        let outcome = |annotations| read(annotations, "forbid").unwrap().outcome(&facts(), now);
        let cap = r#"@id("RU-02") @outcome("APPROVED_CAPPED") @reason("LIM_DAILY_CAP")
            @cap_minor("5000000") @cap_hours("48") @law("161-FZ")"#;
        let until = UnixMillis::new(1_000 + 48 * 3_600_000);
        assert_eq!(outcome(cap), Outcome::ApprovedCapped { cap_minor: 5_000_000, until });
        assert_eq!(read(cap, "forbid").unwrap().begins_cap(now), Some(until));
        let hold =
            r#"@id("KZ-08") @outcome("HELD") @reason("POL_NOT_PERMITTED") @hold_hours("48")"#;
        assert_eq!(outcome(hold), Outcome::Held { until });
        let step = r#"@id("KZ-01") @outcome("STEP_UP") @reason("POL_STEP_UP") @step_up("TELLER")"#;
        assert_eq!(outcome(step), Outcome::StepUp { what: StepUp::Teller });
        let permit = read(r#"@id("a")"#, "permit").unwrap();
        assert_eq!(permit.outcome(&facts(), now), Outcome::Approved);
        assert_eq!(permit.begins_cap(now), None);
    }

    #[test]
    fn a_cap_that_counts_leaves_what_has_not_moved() {
        let now = UnixMillis::new(1_000);
        let rule = read(
            r#"@id("RU-03") @outcome("APPROVED_CAPPED") @reason("LIM_DAILY_CAP")
            @cap_minor("100") @cap_counts("customer.withdrawals.month")"#,
            "forbid",
        )
        .unwrap();
        let until = UnixMillis::new(77);
        for (moved, outcome) in [
            (0, Outcome::ApprovedCapped { cap_minor: 100, until }),
            (99, Outcome::ApprovedCapped { cap_minor: 1, until }),
            (100, Outcome::Denied),
            (101, Outcome::Denied),
        ] {
            let mut facts = facts();
            let month = (Party::Customer, Direction::Withdrawals, Window::Month);
            let turnover = Turnover { count: 1, amount_minor: moved };
            facts.turnovers.set(month.0, month.1, month.2, turnover);
            facts.turnovers.set_end(Window::Month, until);
            assert_eq!(rule.outcome(&facts, now), outcome, "{moved}");
        }
        assert_eq!(rule.begins_cap(now), None);
    }

    #[test]
    fn a_cap_runs_as_long_as_the_one_that_began_it() {
        let rule = read(
            r#"@id("RU-02") @outcome("APPROVED_CAPPED") @reason("LIM_DAILY_CAP")
            @cap_minor("100") @cap_runs("RU-01")"#,
            "forbid",
        )
        .unwrap();
        let mut facts = facts();
        let until = UnixMillis::new(5_000);
        facts.capped.insert(RuleId::try_from("RU-01").unwrap(), until);
        let capped = Outcome::ApprovedCapped { cap_minor: 100, until };
        assert_eq!(rule.outcome(&facts, UnixMillis::new(1)), capped);
        assert_eq!(rule.begins_cap(UnixMillis::new(1)), None);
    }

    #[test]
    fn a_sign_has_four_digits() {
        let signed = read(r#"@id("a") @sign("1035")"#, "permit").unwrap();
        assert_eq!(signed.sign.unwrap().as_str(), "1035");
        for wrong in ["", "103", "10355", "10a5", "1035 1040", "١٠٣٥"] {
            let annotations = format!(r#"@id("a") @sign("{wrong}")"#);
            assert_eq!(read(&annotations, "permit"), Err(RuleError::Value("sign")), "{wrong}");
        }
    }

    #[test]
    fn each_wrong_annotation_is_named() {
        let deny = r#"@id("a") @outcome("DENIED")"#;
        let wrong = [
            (
                r#"@id("a") @outcome("HELD") @reason("POL_HELD") @hold_days("5")"#,
                "forbid",
                RuleError::NoCalendar,
            ),
            (
                r#"@id("a") @outcome("HELD") @reason("POL_HELD") @hold_hours("5") @case("mule")"#,
                "forbid",
                RuleError::Value("case"),
            ),
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
                r#"@id("a") @outcome("APPROVED_CAPPED") @reason("POL_AMOUNT") @cap_minor("1")"#,
                "forbid",
                RuleError::Missing("cap_hours"),
            ),
            (
                r#"@id("a") @outcome("APPROVED_CAPPED") @reason("POL_AMOUNT") @cap_minor("1")
                @cap_counts("customer.day")"#,
                "forbid",
                RuleError::Value("cap_counts"),
            ),
            (
                r#"@id("a") @outcome("APPROVED_CAPPED") @reason("POL_AMOUNT") @cap_minor("1")
                @cap_runs("b") @cap_hours("1")"#,
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
