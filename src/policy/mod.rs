//! Facts and rules give a decision; pure.
//!
//! Rules are [Cedar](https://www.cedarpolicy.com) policies in a *pack*: a folder with `pack.toml`
//! (identity, dates, bars), `schema.cedarschema` (what a rule may see), `*.cedar` (the rules) and
//! `tests/*.toml` (facts and what must come of them). A pack is checked whole before it is used,
//! its own cases included, and its hash goes into every receipt.
//!
//! A rule says in annotations what it means: `@id` (its name), `@outcome`, `@reason` (a code of
//! [`crate::domain::reason`]), and where the outcome needs them `@cap_minor` and `@cap_hours`,
//! `@hold_hours` or `@hold_days` (working days by the pack's `calendar.toml`), or `@step_up`; `@case`
//! names the kind of case that a rule opens; `@law` and `@doc` are for people. A `permit` is an approval, capped
//! or not; a `forbid` is anything but a plain approval.
//!
//! **Invariants.** Nothing is approved without a `permit` that holds. Every rule is asked, and the
//! gravest outcome among those that hold is the decision. A rule that cannot be evaluated makes the
//! decision INCONCLUSIVE: Cedar itself would drop that rule, and a dropped `forbid` approves. A
//! capture that cannot be used is INCONCLUSIVE before any rule is asked.

mod after_consent;
mod asked;
mod calendar;
mod cases;
mod compiled;
mod decide;
mod document;
mod facts;
mod facts_json;
mod files;
mod limits;
mod nesting;
mod pack;
mod rule;
mod signing;
mod view;

pub use after_consent::AfterConsent;
pub use calendar::CalendarError;
pub use cases::{CaseError, CaseFailure};
pub use decide::{decide, decide_by_cedar};
pub use document::document;
pub use facts::{
    BankFacts, CaptureFact, Confirmation, CustomerStanding, DeviceLevel, Facts, History,
    LivenessFact,
};
pub use facts_json::FactsError;
pub use files::{PACK_BYTES_MAX, PackFiles};
pub use limits::TryLimits;
pub use pack::{Bars, Described, PackError, PackId, PolicyPack, Retention};
pub use rule::{CaseBegun, RuleError};
pub use signing::PackConsent;
