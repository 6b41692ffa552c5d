//! The pack: rules, bars and cases that belong together, checked whole, named by their hash.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use cedar_policy::{
    CedarSchemaError, Effect, Entities, ParseErrors, Policy, PolicyId, PolicySet, Schema,
    ValidationMode, Validator,
};
use serde::Deserialize;

use super::after_consent::{AfterConsent, RawAfterConsent};
use super::asked::Asked;
use super::calendar;
use super::cases::{self, CaseError};
use super::compiled::Compiled;
use super::decide::Uids;
use super::document::without_annotations;
use super::facts::DeviceLevel;
use super::limits::{RawTryLimits, TryLimits};
use super::rule::{CaseBegun, Rule, RuleError};
use super::view::View;
use crate::crypto::{Digest, length_prefixed, sha256};
use crate::domain::decision::{Decision, RuleId, SignCode};
use crate::domain::money::{AmountMinor, Currency};
use crate::domain::reason::Reason;
use crate::domain::time::UnixMillis;
use crate::domain::working_days::WorkingCalendar;

/// A checked policy pack; see the room's documentation for what it consists of.
#[derive(Debug, Clone)]
pub struct PolicyPack {
    id: PackId,
    version: u32,
    jurisdiction: String,
    effective_from: UnixMillis,
    effective_until: Option<UnixMillis>,
    bars: Bars,
    retention: Retention,
    after_consent: AfterConsent,
    hash: Digest,
    entities: Entities,
    permits: PolicySet,
    forbids: PolicySet,
    rules: HashMap<PolicyId, Rule>,
    /// Rules that are checked and tested and do not decide.
    off: Vec<(Policy, Rule)>,
    described: Vec<Described>,
    /// Every rule in force; `None` for a pack that Cedar alone can evaluate.
    compiled: Option<Vec<(Effect, Compiled, Rule)>>,
    view: View,
    /// What the rules in force ask of it.
    asked: Asked,
    uids: Uids,
    cases: usize,
}

/// The name of a pack, such as `kz-2026`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PackId(String);

/// A rule, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub id: RuleId,
    /// What follows: the outcome's word, with its cap, hold or further proof.
    pub effect: String,
    /// The reason's code; `None` for a plain approval.
    pub reason: Option<Reason>,
    /// The law behind it, as the pack states it.
    pub law: Option<String>,
    /// Whether it decides.
    pub in_force: bool,
    /// Why it does or does not, where the pack says.
    pub legal_basis: Option<String>,
    /// The rule itself, without annotations.
    pub text: String,
}

impl Described {
    fn of(policy: &Policy, rule: &Rule, state: Option<&RawRule>) -> Self {
        Self {
            id: rule.id.clone(),
            effect: rule.effect(),
            reason: rule.reason,
            law: policy.annotation("law").map(str::to_owned),
            in_force: state.is_none_or(|state| state.in_force),
            legal_basis: state.map(|state| state.legal_basis.clone()),
            text: without_annotations(&policy.to_string()).to_owned(),
        }
    }
}

/// The numbers that the rules compare with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bars {
    /// Least strength of a match, -10·log10(false match rate), 0..=60.
    pub required_db: i64,
    /// Attempts in one transaction, 1..=100.
    pub attempts_max: u32,
    /// Least liveness score in ten-thousandths, 0..=10,000.
    pub liveness_min_e4: i64,
    /// How long a customer may take to confirm in the bank's application, and how long that counts, in
    /// seconds, 1..=3600.
    pub confirmation_ttl_s: u32,
    /// How long somebody who is unable to give a biometric may take to confirm, in the application or at a
    /// desk, and how long the word of two tellers counts, in seconds, 1..=3600.
    pub exception_ttl_s: u32,
    /// How old a capture may be when cash moves on a confirmation, in seconds, 1..=3600.
    pub capture_fresh_s: u32,
    /// Whether the application's back end may confirm by its own word, without the customer's key.
    pub accept_back_end_word: bool,
    /// How well captures must be signed: less well they are refused before they are looked at.
    pub capture_signed: DeviceLevel,
    /// How well captures for a template must be signed; where any must be, nothing is imported either.
    pub enrolment_capture_signed: DeviceLevel,
    /// Whether captures must be sealed to the gateway: what others on the way could read is refused.
    pub capture_sealed: bool,
    /// How many failures a customer and a terminal may have beyond one transaction.
    pub tries: TryLimits,
    amount_max_minor: HashMap<Currency, AmountMinor>,
}

/// How long what belongs to a decision is kept, in whole days of the bank's after its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// A camera's clip, 1..=36,500.
    pub footage_days: u32,
    /// The capture, as evidence, 0..=36,500; 0 is not at all.
    pub evidence_days: u32,
}

impl PolicyPack {
    /// Reads and checks the pack in a folder, and runs its cases.
    ///
    /// Files with other names than a pack's are not read and not part of its hash.
    ///
    /// # Errors
    ///
    /// [`PackError`], the first fault found.
    pub fn load(dir: &Path) -> Result<Self, PackError> {
        Self::from_files(&read_pack(dir)?)
    }

    /// As [`Self::load`], without its cases: it must not decide, but an author may look at it.
    ///
    /// # Errors
    ///
    /// [`PackError`], the first fault found.
    pub fn load_without_cases(dir: &Path) -> Result<Self, PackError> {
        Self::checked(&read_pack(dir)?)
    }

    /// The pack in the binary, which a gateway without a policy folder decides by.
    ///
    /// # Errors
    ///
    /// None in a binary whose tests passed; [`PackError`] otherwise.
    pub fn embedded_dev() -> Result<Self, PackError> {
        let files = EMBEDDED.map(|(name, text)| (name.to_owned(), text.to_owned()));
        Self::from_files(&BTreeMap::from(files))
    }

    /// The files of [`Self::embedded_dev`], by their names relative to a pack's folder.
    pub(crate) const fn embedded_files() -> &'static [(&'static str, &'static str)] {
        &EMBEDDED
    }

    /// Checks a pack whose files are already read, by their names relative to its folder.
    ///
    /// # Errors
    ///
    /// [`PackError`], the first fault found.
    pub fn from_files(files: &BTreeMap<String, String>) -> Result<Self, PackError> {
        let mut pack = Self::checked(files)?;
        for (name, text) in files.iter().filter(|(name, _)| is_cases(name)) {
            pack.cases += cases::run(&pack, text)
                .map_err(|source| PackError::Cases { name: name.clone(), source })?;
        }
        if pack.cases == 0 { Err(PackError::NoCases) } else { Ok(pack) }
    }

    fn checked(files: &BTreeMap<String, String>) -> Result<Self, PackError> {
        let file = |name: &'static str| {
            files.get(name).ok_or_else(|| PackError::Missing { name: name.to_owned() })
        };
        let manifest: RawManifest = toml::from_str(file(MANIFEST)?)?;
        let (schema, _) = Schema::from_cedarschema_str(file(SCHEMA)?)
            .map_err(|source| PackError::Schema { source: Box::new(source) })?;
        let entities = schema.action_entities().map_err(|_| PackError::Field("schema actions"))?;
        let rules = read_rules(files)?;
        validate(&schema, &rules)?;
        let known = |id: &String| rules.iter().any(|(_, rule)| rule.id.as_str() == id);
        if !manifest.rules.keys().all(known) {
            return Err(PackError::Field("rules"));
        }
        let (effective_from, effective_until) = manifest.dates()?;
        let mut pack = Self {
            id: PackId::try_from(manifest.id.as_str())?,
            version: manifest.version,
            bars: manifest.bars.check()?,
            retention: manifest.retention.check()?,
            after_consent: manifest.consent.check()?,
            jurisdiction: manifest.jurisdiction,
            effective_from,
            effective_until,
            hash: hash(files),
            entities,
            permits: PolicySet::new(),
            forbids: PolicySet::new(),
            rules: HashMap::new(),
            off: Vec::new(),
            described: Vec::new(),
            compiled: Some(Vec::new()),
            view: View::of(file(SCHEMA)?)?,
            asked: Asked::default(),
            uids: Uids::new().ok_or(PackError::Field("schema actions"))?,
            cases: 0,
        };
        for path in rules.iter().filter_map(|(_, rule)| rule.counts()) {
            if !pack.view.sees(&path) {
                let finding = format!("a cap counts {path}, which the schema does not name");
                return Err(PackError::Invalid { finding });
            }
        }
        for (policy, rule) in rules {
            let state = manifest.rules.get(rule.id.as_str());
            pack.described.push(Described::of(&policy, &rule, state));
            if state.is_none_or(|state| state.in_force) {
                pack.put_in_force(policy, rule)?;
            } else {
                pack.off.push((policy, rule));
            }
        }
        Ok(pack)
    }

    /// The pack with rules in force that are switched off in it: for cases about them. `None` for a
    /// name that is not one of these.
    pub(super) fn with_switched_on(&self, names: &[String]) -> Option<Self> {
        let mut pack = self.clone();
        for name in names {
            let place = pack.off.iter().position(|(_, rule)| rule.id.as_str() == name)?;
            let (policy, rule) = pack.off.remove(place);
            pack.put_in_force(policy, rule).ok()?;
        }
        Some(pack)
    }

    fn put_in_force(&mut self, policy: Policy, rule: Rule) -> Result<(), PackError> {
        let unread = || PackError::Invalid { finding: format!("{} has no JSON form", rule.id) };
        self.asked.add(&policy).ok_or_else(unread)?;
        rule.counts().into_iter().for_each(|path| self.asked.add_path(path));
        let permits = policy.effect() == Effect::Permit;
        let set = if permits { &mut self.permits } else { &mut self.forbids };
        let id = policy.id().clone();
        let compiled =
            Compiled::of(&policy).map(|compiled| (policy.effect(), compiled, rule.clone()));
        match (&mut self.compiled, compiled) {
            (Some(rules), Some(compiled)) => rules.push(compiled),
            (rules, _) => *rules = None,
        }
        let duplicate = || PackError::Duplicate { id: rule.id.to_string() };
        set.add(policy).map_err(|_| duplicate())?;
        self.rules.insert(id, rule);
        Ok(())
    }

    /// Every rule, for people, in the order of the files.
    #[must_use]
    pub fn described(&self) -> &[Described] {
        &self.described
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> &PackId {
        &self.id
    }

    /// Its version, which grows with each change.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// Whose law it expresses, for people.
    #[must_use]
    pub fn jurisdiction(&self) -> &str {
        &self.jurisdiction
    }

    /// SHA-256 over the length-prefixed names and contents of its files, in the order of the names.
    #[must_use]
    pub const fn hash(&self) -> Digest {
        self.hash
    }

    /// The numbers that its rules compare with.
    #[must_use]
    pub const fn bars(&self) -> &Bars {
        &self.bars
    }

    /// How long what belongs to a decision is kept.
    #[must_use]
    pub const fn retention(&self) -> Retention {
        self.retention
    }

    /// What a law wants kept of somebody whose consent has ended.
    #[must_use]
    pub const fn after_consent(&self) -> &AfterConsent {
        &self.after_consent
    }

    /// How many of its own cases it passed when it was loaded.
    #[must_use]
    pub const fn cases(&self) -> usize {
        self.cases
    }

    /// How many rules it has.
    #[must_use]
    pub fn rules(&self) -> usize {
        self.rules.len()
    }

    /// From when it decides.
    #[must_use]
    pub const fn effective_from(&self) -> UnixMillis {
        self.effective_from
    }

    /// Whether it may decide now: from `effective_from`, until just before `effective_until`.
    #[must_use]
    pub fn in_force(&self, now: UnixMillis) -> bool {
        self.effective_from <= now && self.effective_until.is_none_or(|until| now < until)
    }

    /// Whether its rules may look at a fact: what they may not need not be found out.
    #[must_use]
    pub fn sees(&self, fact: &str) -> bool {
        self.view.sees(fact)
    }

    /// Whether a rule in force asks a fact: a rule that is switched off asks nothing.
    #[must_use]
    pub fn asks(&self, fact: &str) -> bool {
        self.asked.asks(fact)
    }

    /// The caps that begin with a decision, each by its rule, and until when they run.
    #[must_use]
    pub fn caps_begun(&self, decision: &Decision, now: UnixMillis) -> Vec<(RuleId, UnixMillis)> {
        let begun = |id: &RuleId| {
            let rule = self.rules.get(&PolicyId::new(id.as_str()))?;
            Some((id.clone(), rule.begins_cap(now)?))
        };
        decision.rules().iter().filter_map(begun).collect()
    }

    /// Whether its rules are evaluated the quicker way, without Cedar.
    #[must_use]
    pub const fn is_compiled(&self) -> bool {
        self.compiled.is_some()
    }

    /// Its rules in force in the quicker form; `None` where Cedar alone can evaluate them.
    pub(super) fn compiled(&self) -> Option<&[(Effect, Compiled, Rule)]> {
        self.compiled.as_deref()
    }

    /// The cases that a decision's rules open, or add to.
    #[must_use]
    pub fn cases_begun(&self, decision: &Decision, now: UnixMillis) -> Vec<CaseBegun> {
        let rules = decision.rules().iter();
        let rules = rules.filter_map(|id| self.rules.get(&PolicyId::new(id.as_str())));
        rules.filter_map(|rule| rule.begins_case(now)).collect()
    }

    pub(super) const fn view(&self) -> &View {
        &self.view
    }

    pub(super) const fn uids(&self) -> &Uids {
        &self.uids
    }

    /// The signs by which an operation is suspicious that these rules held of, in order, each once.
    #[must_use]
    pub fn signs(&self, rules: &[RuleId]) -> Vec<SignCode> {
        let sign = |id: &RuleId| self.rules.get(&PolicyId::new(id.as_str()))?.sign.clone();
        let signs: BTreeSet<_> = rules.iter().filter_map(sign).collect();
        signs.into_iter().collect()
    }

    pub(super) const fn entities(&self) -> &Entities {
        &self.entities
    }

    pub(super) const fn permits(&self) -> &PolicySet {
        &self.permits
    }

    pub(super) const fn forbids(&self) -> &PolicySet {
        &self.forbids
    }

    pub(super) fn rule(&self, id: &PolicyId) -> Option<&Rule> {
        self.rules.get(id)
    }
}

impl PackId {
    /// The name as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for PackId {
    type Error = PackError;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(PackError::Field("id"))
        }
    }
}

impl Bars {
    /// Greatest amount of one transaction in minor units; `None` for a currency not served.
    #[must_use]
    pub fn amount_max_minor(&self, currency: Currency) -> Option<i64> {
        self.amount_max_minor.get(&currency).map(|amount| amount.get())
    }
}

/// A pack that must not decide.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// A file or folder of the pack cannot be read.
    #[error("{path:?} of the policy pack cannot be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that every pack has is not there.
    #[error("the policy pack has no {name}")]
    Missing {
        /// Which.
        name: String,
    },
    /// More or larger files than any pack needs.
    #[error(
        "the policy pack is too large: 256 files of 1 MiB at most, 3 MiB in all to be proposed"
    )]
    TooLarge,
    /// A file that no pack has, one that comes twice, or one that is no text.
    #[error("a file of the policy pack has another name than a pack's, comes twice, or is no text")]
    File,
    /// A rule or a schema that goes deeper than any pack needs.
    #[error("{name} is nested deeper, or has a longer rule, than a policy pack may have")]
    Nested {
        /// Which file.
        name: String,
    },
    /// `pack.toml` is not what it should be.
    #[error("pack.toml is malformed")]
    Manifest(#[from] toml::de::Error),
    /// A value of `pack.toml` is out of range.
    #[error("{0} in pack.toml is out of range")]
    Field(&'static str),
    /// `calendar.toml` is not what it should be.
    #[error("calendar.toml is malformed")]
    Calendar(#[from] calendar::CalendarError),
    /// The schema is not Cedar.
    #[error("the schema of the policy pack is malformed")]
    Schema {
        /// Why.
        source: Box<CedarSchemaError>,
    },
    /// A rules file is not Cedar.
    #[error("{name} is not Cedar")]
    Syntax {
        /// Which file.
        name: String,
        /// Why.
        source: Box<ParseErrors>,
    },
    /// A rule does not fit the schema.
    #[error("a rule does not fit the schema: {finding}")]
    Invalid {
        /// The validator's words.
        finding: String,
    },
    /// A rule's annotations are wrong.
    #[error("the rule {number} of {name} is annotated wrongly")]
    Rule {
        /// Which file.
        name: String,
        /// Which rule of it, from 1.
        number: usize,
        /// Why.
        source: RuleError,
    },
    /// Two rules have one name.
    #[error("two rules have the name {id}")]
    Duplicate {
        /// The name.
        id: String,
    },
    /// A case of the pack is malformed or does not come out as it says.
    #[error("{name} does not hold")]
    Cases {
        /// Which file.
        name: String,
        /// Why.
        source: CaseError,
    },
    /// There is no case: nobody has said what the rules should do.
    #[error("the policy pack has no cases in tests/")]
    NoCases,
}

impl PackError {
    /// The word for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "PACK_UNREADABLE",
            Self::Missing { .. } => "PACK_INCOMPLETE",
            Self::TooLarge => "PACK_TOO_LARGE",
            Self::File => "PACK_FILES",
            Self::Manifest(_) | Self::Field(_) => "PACK_MANIFEST",
            Self::Calendar(_) => "PACK_CALENDAR",
            Self::Schema { .. } => "PACK_SCHEMA",
            Self::Nested { .. }
            | Self::Syntax { .. }
            | Self::Invalid { .. }
            | Self::Rule { .. }
            | Self::Duplicate { .. } => "PACK_RULES",
            Self::Cases { .. } | Self::NoCases => "PACK_CASES",
        }
    }
}

/// `pack.toml` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    id: String,
    version: u32,
    jurisdiction: String,
    effective_from: String,
    effective_until: Option<String>,
    #[serde(default)]
    retention: RawRetention,
    #[serde(default)]
    consent: RawAfterConsent,
    bars: RawBars,
    #[serde(default)]
    rules: BTreeMap<String, RawRule>,
}

/// What the bank says about a rule whose law is not in force, or whose use it must justify.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    in_force: bool,
    legal_basis: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBars {
    required_db: i64,
    attempts_max: u32,
    liveness_min_e4: i64,
    #[serde(default = "two_minutes_s")]
    confirmation_ttl_s: u32,
    #[serde(default = "ten_minutes_s")]
    exception_ttl_s: u32,
    #[serde(default = "two_minutes_s")]
    capture_fresh_s: u32,
    #[serde(default)]
    accept_back_end_word: bool,
    /// None for a pack that says nothing of it, and decided on unsigned captures when it was written.
    #[serde(default = "unsigned")]
    capture_signed: String,
    #[serde(default = "unsigned")]
    enrolment_capture_signed: String,
    #[serde(default)]
    capture_sealed: bool,
    #[serde(default)]
    tries: RawTryLimits,
    amount_max_minor: BTreeMap<String, i64>,
}

/// The word in a pack for captures that nothing need sign.
const UNSIGNED: &str = "none";

fn unsigned() -> String {
    UNSIGNED.to_owned()
}

/// The least level that a word of a pack asks.
fn level(word: &str) -> Option<DeviceLevel> {
    match word {
        UNSIGNED => Some(DeviceLevel::Certificate),
        word => DeviceLevel::from_word(word).filter(|it| *it != DeviceLevel::Certificate),
    }
}

const fn two_minutes_s() -> u32 {
    120
}

/// Two people walk to a desk.
const fn ten_minutes_s() -> u32 {
    600
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawRetention {
    footage_days: u32,
    evidence_days: u32,
}

impl Default for RawRetention {
    fn default() -> Self {
        Self { footage_days: FOOTAGE_DAYS_BY_LAW, evidence_days: 0 }
    }
}

impl RawRetention {
    fn check(&self) -> Result<Retention, PackError> {
        let Self { footage_days, evidence_days } = *self;
        if !(1..=DAYS_MAX).contains(&footage_days) {
            return Err(PackError::Field("retention.footage_days"));
        }
        if evidence_days > DAYS_MAX {
            return Err(PackError::Field("retention.evidence_days"));
        }
        Ok(Retention { footage_days, evidence_days })
    }
}

impl RawManifest {
    fn dates(&self) -> Result<(UnixMillis, Option<UnixMillis>), PackError> {
        let from = UnixMillis::parse_rfc3339(&self.effective_from)
            .map_err(|_| PackError::Field("effective_from"))?;
        let until = self.effective_until.as_deref().map(UnixMillis::parse_rfc3339).transpose();
        let until = until.map_err(|_| PackError::Field("effective_until"))?;
        if until.is_some_and(|until| until <= from) {
            return Err(PackError::Field("effective_until"));
        }
        Ok((from, until))
    }
}

impl RawBars {
    fn check(self) -> Result<Bars, PackError> {
        if !(0..=60).contains(&self.required_db) {
            return Err(PackError::Field("bars.required_db"));
        }
        if !(1..=100).contains(&self.attempts_max) {
            return Err(PackError::Field("bars.attempts_max"));
        }
        if !(0..=10_000).contains(&self.liveness_min_e4) {
            return Err(PackError::Field("bars.liveness_min_e4"));
        }
        if !(1..=SECONDS_MAX).contains(&self.confirmation_ttl_s) {
            return Err(PackError::Field("bars.confirmation_ttl_s"));
        }
        if !(1..=SECONDS_MAX).contains(&self.exception_ttl_s) {
            return Err(PackError::Field("bars.exception_ttl_s"));
        }
        if !(1..=SECONDS_MAX).contains(&self.capture_fresh_s) {
            return Err(PackError::Field("bars.capture_fresh_s"));
        }
        let capture_signed =
            level(&self.capture_signed).ok_or(PackError::Field("bars.capture_signed"))?;
        let enrolment_capture_signed = level(&self.enrolment_capture_signed)
            .ok_or(PackError::Field("bars.enrolment_capture_signed"))?;
        let mut amount_max_minor = HashMap::new();
        for (currency, max) in &self.amount_max_minor {
            let currency = Currency::try_from(currency.as_str());
            let (Ok(currency), Ok(max)) = (currency, AmountMinor::try_from(*max)) else {
                return Err(PackError::Field("bars.amount_max_minor"));
            };
            amount_max_minor.insert(currency, max);
        }
        Ok(Bars {
            required_db: self.required_db,
            attempts_max: self.attempts_max,
            liveness_min_e4: self.liveness_min_e4,
            confirmation_ttl_s: self.confirmation_ttl_s,
            exception_ttl_s: self.exception_ttl_s,
            capture_fresh_s: self.capture_fresh_s,
            accept_back_end_word: self.accept_back_end_word,
            capture_signed,
            enrolment_capture_signed,
            capture_sealed: self.capture_sealed,
            tries: self.tries.check()?,
            amount_max_minor,
        })
    }
}

/// The files of a pack's folder, by their names relative to it.
pub(super) fn read_pack(dir: &Path) -> Result<BTreeMap<String, String>, PackError> {
    let mut files = BTreeMap::new();
    for name in [MANIFEST, SCHEMA] {
        read_into(&mut files, &dir.join(name), name.to_owned())?;
    }
    if dir.join(CALENDAR).exists() {
        read_into(&mut files, &dir.join(CALENDAR), CALENDAR.to_owned())?;
    }
    for (path, name) in listed(dir, "cedar")? {
        read_into(&mut files, &path, name)?;
    }
    for (path, name) in listed(&dir.join(CASES_DIR), "toml")? {
        read_into(&mut files, &path, format!("{CASES_DIR}/{name}"))?;
    }
    Ok(files)
}

/// Every rule of every file, in order; each name once.
fn read_rules(files: &BTreeMap<String, String>) -> Result<Vec<(Policy, Rule)>, PackError> {
    let calendar = files.get(CALENDAR).map(|text| calendar::read(text)).transpose()?.map(Arc::new);
    let mut rules: Vec<(Policy, Rule)> = Vec::new();
    for (name, text) in files.iter().filter(|(name, _)| is_rules(name)) {
        for (policy, rule) in rules_of(name, text, calendar.as_ref())? {
            if rules.iter().any(|(_, other)| other.id == rule.id) {
                return Err(PackError::Duplicate { id: rule.id.to_string() });
            }
            rules.push((policy, rule));
        }
    }
    Ok(rules)
}

/// The policies of one file, each under its rule's name.
fn rules_of(
    name: &str,
    text: &str,
    calendar: Option<&Arc<WorkingCalendar>>,
) -> Result<Vec<(Policy, Rule)>, PackError> {
    let parsed = PolicySet::from_str(text)
        .map_err(|source| PackError::Syntax { name: name.to_owned(), source: Box::new(source) })?;
    if parsed.templates().next().is_some() {
        return Err(PackError::Invalid { finding: format!("{name} has a template") });
    }
    let mut rules = Vec::new();
    for (index, policy) in parsed.policies().enumerate() {
        let rule = Rule::of(policy, calendar).map_err(|source| PackError::Rule {
            name: name.to_owned(),
            number: index + 1,
            source,
        })?;
        rules.push((policy.new_id(PolicyId::new(rule.id.as_str())), rule));
    }
    Ok(rules)
}

/// Strict, and warnings count: a rule that can never hold is a rule that nobody tested.
fn validate(schema: &Schema, rules: &[(Policy, Rule)]) -> Result<(), PackError> {
    let mut all = PolicySet::new();
    for (policy, rule) in rules {
        let duplicate = |_| PackError::Duplicate { id: rule.id.to_string() };
        all.add(policy.clone()).map_err(duplicate)?;
    }
    let result = Validator::new(schema.clone()).validate(&all, ValidationMode::Strict);
    let error = result.validation_errors().map(ToString::to_string).next();
    match error.or_else(|| result.validation_warnings().map(ToString::to_string).next()) {
        Some(finding) => Err(PackError::Invalid { finding }),
        None => Ok(()),
    }
}

fn hash(files: &BTreeMap<String, String>) -> Digest {
    let fields: Vec<&[u8]> =
        files.iter().flat_map(|(name, text)| [name.as_bytes(), text.as_bytes()]).collect();
    sha256(&length_prefixed(&fields))
}

/// The files of a folder with this extension; none where there is no folder.
fn listed(dir: &Path, extension: &str) -> Result<Vec<(PathBuf, String)>, PackError> {
    let unreadable = |source| PackError::Read { path: dir.to_owned(), source };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        match entry.file_name().into_string() {
            Ok(name) if has_extension(&name, extension) => found.push((entry.path(), name)),
            _ => {}
        }
    }
    Ok(found)
}

fn read_into(
    files: &mut BTreeMap<String, String>,
    path: &Path,
    name: String,
) -> Result<(), PackError> {
    if files.len() >= FILES_MAX {
        return Err(PackError::TooLarge);
    }
    let unreadable = |source| PackError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(PackError::TooLarge);
    }
    files.insert(name, text);
    Ok(())
}

fn is_rules(name: &str) -> bool {
    has_extension(name, "cedar")
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

fn is_cases(name: &str) -> bool {
    name.starts_with(CASES_DIR)
}

/// KZ-02: at least 180 calendar days.
const FOOTAGE_DAYS_BY_LAW: u32 = 180;
/// A hundred years.
const DAYS_MAX: u32 = 36_500;
/// The working days, where the pack counts them.
pub(super) const CALENDAR: &str = "calendar.toml";
pub(super) const MANIFEST: &str = "pack.toml";
pub(super) const SCHEMA: &str = "schema.cedarschema";
pub(super) const CASES_DIR: &str = "tests";
pub(super) const FILES_MAX: usize = 256;
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;
const SECONDS_MAX: u32 = 3_600;

macro_rules! embedded {
    ($($name:literal),+ $(,)?) => {
        [$((
            $name,
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/policies/dev/", $name)),
        )),+]
    };
}

const EMBEDDED: [(&str, &str); 6] = embedded![
    "pack.toml",
    "schema.cedarschema",
    "10-permit.cedar",
    "20-person.cedar",
    "30-transaction.cedar",
    "tests/dev.toml",
];
