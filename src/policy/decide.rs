//! The decision: every rule is asked, the gravest outcome stands.

use std::str::FromStr;

use cedar_policy::{
    Authorizer, Context, EntityId, EntityTypeName, EntityUid, PolicySet, Request, Response,
    RestrictedExpression,
};

use super::facts::{CaptureFact, Facts};
use super::pack::PolicyPack;
use crate::domain::decision::{Decision, Outcome, RuleId};
use crate::domain::reason::Reason;
use crate::domain::time::UnixMillis;
use crate::domain::turnover::{Direction, Party, Turnover, Turnovers, Window};

/// Decides by the pack's rules, which must be in force `now`.
///
/// It never fails: whatever keeps a rule from being evaluated is INCONCLUSIVE with `SYS_POLICY`.
pub fn decide(facts: &Facts, pack: &PolicyPack, now: UnixMillis) -> Decision {
    if !pack.in_force(now) {
        return Decision::inconclusive(Reason::SysPolicy);
    }
    // Before any rule, and whoever the customer is: what is said about a picture depends on the
    // picture alone, or it would tell who is enrolled.
    if let CaptureFact::Refused(reasons) = &facts.capture {
        return Decision::new(Outcome::Inconclusive, reasons.clone(), Vec::new());
    }
    let Some(request) = request(facts, pack) else {
        return Decision::inconclusive(Reason::SysPolicy);
    };
    // Asked apart: of a mixed set Cedar names the forbids that hold and is silent about whether
    // any permit did, and a forbid that only caps would then approve what nothing permits.
    let permits = ask(&request, pack.permits(), pack);
    let forbids = ask(&request, pack.forbids(), pack);
    let erring: Vec<_> = [&permits, &forbids].into_iter().flat_map(erring_rules).collect();
    if !erring.is_empty() {
        // Cedar has dropped these rules; without a forbid among them it may well have allowed.
        let rules = erring.into_iter().flatten().collect();
        return Decision::new(Outcome::Inconclusive, vec![Reason::SysPolicy], rules);
    }
    weigh(&permits, &forbids, pack, now)
}

/// The gravest outcome among the rules that hold, with all their reasons.
fn weigh(permits: &Response, forbids: &Response, pack: &PolicyPack, now: UnixMillis) -> Decision {
    let mut outcome = Outcome::Approved;
    let (mut reasons, mut rules) = (Vec::new(), Vec::new());
    let mut permitted = false;
    for (response, permits) in [(permits, true), (forbids, false)] {
        for policy_id in response.diagnostics().reason() {
            let Some(rule) = pack.rule(policy_id) else {
                return Decision::inconclusive(Reason::SysPolicy);
            };
            permitted |= permits;
            outcome = outcome.graver(rule.outcome(now));
            reasons.extend(rule.reason);
            rules.push(rule.id.clone());
        }
    }
    if !permitted {
        // Where a forbid already refuses, its reason is the reason: a second one that stood beside
        // some refusals only would tell them apart.
        if outcome != Outcome::Denied {
            reasons.push(Reason::PolNotPermitted);
        }
        outcome = Outcome::Denied;
    }
    Decision::new(outcome, reasons, rules)
}

fn ask(request: &Request, rules: &PolicySet, pack: &PolicyPack) -> Response {
    Authorizer::new().is_authorized(request, rules, pack.entities())
}

/// The rules that could not be evaluated; an error that names no rule of the pack counts too.
fn erring_rules(response: &Response) -> Vec<Option<RuleId>> {
    let name = |error: &cedar_policy::AuthorizationError| match error {
        cedar_policy::AuthorizationError::PolicyEvaluationError(error) => {
            let id: &str = error.policy_id().as_ref();
            RuleId::try_from(id).ok()
        }
    };
    response.diagnostics().errors().map(name).collect()
}

/// The facts as Cedar takes them, checked against the pack's schema; `None` where it refuses them.
fn request(facts: &Facts, pack: &PolicyPack) -> Option<Request> {
    let action = uid("Action", facts.operation.as_str())?;
    let context = context(facts, pack)?;
    let (principal, resource) = (uid("Customer", "presented")?, uid("Account", "presented")?);
    Request::new(principal, action, resource, context, Some(pack.schema())).ok()
}

fn uid(type_name: &str, id: &str) -> Option<EntityUid> {
    let type_name = EntityTypeName::from_str(type_name).ok()?;
    Some(EntityUid::from_type_name_and_id(type_name, EntityId::new(id)))
}

fn context(facts: &Facts, pack: &PolicyPack) -> Option<Context> {
    // Destructured so that a fact added is a compile error here.
    let Facts {
        operation: _,
        amount,
        currency,
        account_currency,
        customer,
        capture: _,
        strength_db,
        liveness,
        attempts_in_transaction,
        holder_verification,
        device_level,
        iin_given,
        turnovers,
    } = facts;
    let bars = pack.bars();
    let record = [
        long("required_db", bars.required_db),
        long("attempts_max", i64::from(bars.attempts_max)),
        long("liveness_min_e4", bars.liveness_min_e4),
    ];
    let amount_max = bars.amount_max_minor(*currency).map(|max| long("amount_max_minor", max));
    let record = RestrictedExpression::new_record(record.into_iter().chain(amount_max)).ok()?;
    let always = [
        long("amount_minor", amount.get()),
        text("currency", currency.as_str()),
        text("account_currency", account_currency.as_str()),
        text("customer", customer.as_str()),
        text("liveness", liveness.as_str()),
        long("attempts_in_transaction", i64::from(*attempts_in_transaction)),
        text("holder_verification", holder_verification.as_str()),
        text("device_level", device_level.as_str()),
        ("bars".to_owned(), record),
    ];
    // Only what the pack's schema names: the rest would be refused, and costs time to build.
    let iin_given = ("iin_given".to_owned(), RestrictedExpression::new_bool(*iin_given));
    let iin_given = pack.sees("iin_given").then_some(iin_given);
    let turnovers = if pack.sees("turnover") { Some(turnover_record(turnovers)?) } else { None };
    let more = iin_given.into_iter().chain(turnovers);
    let strength = strength_db.map(|db| long("strength_db", db));
    let liveness_score = liveness.score_e4().map(|score| long("liveness_score_e4", score));
    Context::from_pairs(always.into_iter().chain(strength).chain(liveness_score).chain(more)).ok()
}

/// `turnover.customer.withdrawals.day.amount_minor`, and so on for each party, direction and window.
fn turnover_record(turnovers: &Turnovers) -> Option<(String, RestrictedExpression)> {
    type Record = RestrictedExpression;
    let window = |party, direction, window: Window| {
        let Turnover { count, amount_minor } = turnovers.get(party, direction, window);
        let fields = [long("count", count), long("amount_minor", amount_minor)];
        Some((window.as_str().to_owned(), Record::new_record(fields).ok()?))
    };
    let direction = |party, direction: Direction| {
        let windows = Window::ALL.map(|each| window(party, direction, each));
        let windows = windows.into_iter().collect::<Option<Vec<_>>>()?;
        Some((direction.as_str().to_owned(), Record::new_record(windows).ok()?))
    };
    let party = |party: Party| {
        let directions = Direction::ALL.map(|each| direction(party, each));
        let directions = directions.into_iter().collect::<Option<Vec<_>>>()?;
        Some((party.as_str().to_owned(), Record::new_record(directions).ok()?))
    };
    let parties = Party::ALL.map(party).into_iter().collect::<Option<Vec<_>>>()?;
    Some(("turnover".to_owned(), Record::new_record(parties).ok()?))
}

fn long(name: &str, value: i64) -> (String, RestrictedExpression) {
    (name.to_owned(), RestrictedExpression::new_long(value))
}

fn text(name: &str, value: &str) -> (String, RestrictedExpression) {
    (name.to_owned(), RestrictedExpression::new_string(value.to_owned()))
}
