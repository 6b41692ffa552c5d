//! The decision: every rule is asked, the gravest outcome stands.

use std::str::FromStr;

use cedar_policy::{
    Authorizer, Effect, EntityId, EntityTypeName, EntityUid, PolicySet, Request, Response,
};

use super::compiled::{Compiled, Failed};
use super::facts::{CaptureFact, Facts};
use super::pack::PolicyPack;
use super::rule::Rule;
use crate::domain::decision::{Decision, Outcome, RuleId};
use crate::domain::reason::Reason;
use crate::domain::time::UnixMillis;
use crate::domain::transaction::Operation;

/// Decides by the pack's rules, which must be in force `now`.
///
/// It never fails: whatever keeps a rule from being evaluated is INCONCLUSIVE with `SYS_POLICY`.
pub fn decide(facts: &Facts, pack: &PolicyPack, now: UnixMillis) -> Decision {
    decide_with(facts, pack, now, |facts, pack| match pack.compiled() {
        Some(rules) => Some(hold_compiled(facts, pack, rules)),
        None => hold_by_cedar(facts, pack),
    })
}

/// As [`decide`], with every rule evaluated by Cedar itself: slower, and always the same.
pub fn decide_by_cedar(facts: &Facts, pack: &PolicyPack, now: UnixMillis) -> Decision {
    decide_with(facts, pack, now, hold_by_cedar)
}

/// The rules that hold, and those that could not be evaluated (`None` where it is not known which).
#[derive(Default)]
struct Held<'a> {
    permits: Vec<&'a Rule>,
    forbids: Vec<&'a Rule>,
    erring: Vec<Option<RuleId>>,
}

fn decide_with<'a>(
    facts: &Facts,
    pack: &'a PolicyPack,
    now: UnixMillis,
    hold: impl FnOnce(&Facts, &'a PolicyPack) -> Option<Held<'a>>,
) -> Decision {
    if !pack.in_force(now) {
        return Decision::inconclusive(Reason::SysPolicy);
    }
    // Before any rule, and whoever the customer is: what is said about a picture depends on the
    // picture alone, or it would tell who is enrolled.
    if let CaptureFact::Refused(reasons) = &facts.capture {
        return Decision::new(Outcome::Inconclusive, reasons.clone(), Vec::new());
    }
    let Some(found) = hold(facts, pack) else {
        return Decision::inconclusive(Reason::SysPolicy);
    };
    if !found.erring.is_empty() {
        // Cedar drops such a rule; without a forbid among them it might well allow.
        let rules = found.erring.into_iter().flatten().collect();
        return Decision::new(Outcome::Inconclusive, vec![Reason::SysPolicy], rules);
    }
    weigh(&found, facts, now)
}

/// The gravest outcome among the rules that hold, with all their reasons.
fn weigh(held: &Held<'_>, facts: &Facts, now: UnixMillis) -> Decision {
    let mut outcome = Outcome::Approved;
    let (mut reasons, mut rules) = (Vec::new(), Vec::new());
    for rule in held.permits.iter().chain(&held.forbids) {
        outcome = outcome.graver(rule.outcome(facts, now));
        reasons.extend(rule.reason);
        rules.push(rule.id.clone());
    }
    if held.permits.is_empty() {
        // Where a forbid already refuses, its reason is the reason: a second one that stood beside
        // some refusals only would tell them apart.
        if outcome != Outcome::Denied {
            reasons.push(Reason::PolNotPermitted);
        }
        outcome = Outcome::Denied;
    }
    Decision::new(outcome, reasons, rules)
}

fn hold_compiled<'a>(
    facts: &Facts,
    pack: &'a PolicyPack,
    rules: &'a [(Effect, Compiled, Rule)],
) -> Held<'a> {
    let mut held = Held::default();
    for (effect, compiled, rule) in rules {
        match (compiled.holds(facts, pack.bars()), effect) {
            (Ok(true), Effect::Permit) => held.permits.push(rule),
            (Ok(true), Effect::Forbid) => held.forbids.push(rule),
            (Ok(false), _) => {}
            (Err(Failed), _) => held.erring.push(Some(rule.id.clone())),
        }
    }
    held
}

/// `None` where Cedar does not take the facts, or names a rule that is none of the pack's.
fn hold_by_cedar<'a>(facts: &Facts, pack: &'a PolicyPack) -> Option<Held<'a>> {
    let request = request(facts, pack)?;
    // Asked apart: of a mixed set Cedar names the forbids that hold and is silent about whether
    // any permit did, and a forbid that only caps would then approve what nothing permits.
    let permits = ask(&request, pack.permits(), pack);
    let forbids = ask(&request, pack.forbids(), pack);
    let rules = |response: &Response| {
        response.diagnostics().reason().map(|id| pack.rule(id)).collect::<Option<Vec<_>>>()
    };
    Some(Held {
        permits: rules(&permits)?,
        forbids: rules(&forbids)?,
        erring: [&permits, &forbids].into_iter().flat_map(erring_rules).collect(),
    })
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

/// The facts as Cedar takes them; `None` where it does not. The pack's view was checked against its
/// schema when it was loaded, so no request is checked again.
fn request(facts: &Facts, pack: &PolicyPack) -> Option<Request> {
    let context = pack.view().context(facts, pack.bars())?;
    let Uids { customer, account, actions } = pack.uids();
    let (_, action) = actions.iter().find(|(operation, _)| *operation == facts.operation)?;
    Request::new(customer.clone(), action.clone(), account.clone(), context, None).ok()
}

/// The names that every request has: nothing in them names a person or an account.
#[derive(Debug, Clone)]
pub(super) struct Uids {
    customer: EntityUid,
    account: EntityUid,
    actions: Vec<(Operation, EntityUid)>,
}

impl Uids {
    /// `None` in no binary whose tests passed.
    pub fn new() -> Option<Self> {
        let action = |operation: Operation| Some((operation, uid("Action", operation.as_str())?));
        Some(Self {
            customer: uid("Customer", "presented")?,
            account: uid("Account", "presented")?,
            actions: Operation::ALL.into_iter().map(action).collect::<Option<_>>()?,
        })
    }
}

fn uid(type_name: &str, id: &str) -> Option<EntityUid> {
    let type_name = EntityTypeName::from_str(type_name).ok()?;
    Some(EntityUid::from_type_name_and_id(type_name, EntityId::new(id)))
}
