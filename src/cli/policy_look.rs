//! `tulga policy diff|dry-run`: what changes between two packs, and what one says about given facts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{REFUSED, USAGE};
use crate::clock::{Clock as _, SystemClock};
use crate::domain::decision::RuleId;
use crate::domain::time::UnixMillis;
use crate::policy::{Described, Facts, PackError, PackFiles, PolicyPack, decide};

#[derive(Debug, clap::Args)]
pub(super) struct DiffArgs {
    /// The pack's folder before
    before: PathBuf,
    /// The pack's folder after
    after: PathBuf,
    /// For machines
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct DryRunArgs {
    /// The pack's folder
    dir: PathBuf,
    /// Facts in the shape of a case's table, as TOML or JSON
    #[arg(long, value_name = "FILE")]
    facts: PathBuf,
    /// When the decision is made, RFC 3339; by default now
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// For machines
    #[arg(long)]
    json: bool,
}

/// What changed between two packs.
#[derive(Debug, Default, PartialEq)]
struct Difference {
    added: Vec<String>,
    removed: Vec<String>,
    changed: Vec<Changed>,
    /// By the path in `pack.toml`: before and after.
    manifest: BTreeMap<String, (Option<String>, Option<String>)>,
}

/// A rule with another text, effect, reason, law or state.
#[derive(Debug, PartialEq)]
struct Changed {
    rule: String,
    before: String,
    after: String,
}

/// 0 when the packs are alike, 1 when they differ, 64 when one cannot be read.
pub(super) fn diff(args: &DiffArgs) -> Result<ExitCode> {
    let DiffArgs { before, after, json } = args;
    let (Some(one), Some(other)) = (read(before), read(after)) else {
        return Ok(ExitCode::from(USAGE));
    };
    let found = difference(&one, &other)?;
    if *json {
        println!("{}", found.json());
    } else {
        found.print();
    }
    let same = found == Difference::default();
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

/// Prints what a pack decides on given facts.
pub(super) fn dry_run(args: &DryRunArgs) -> Result<ExitCode> {
    let DryRunArgs { dir, facts, at, json } = args;
    let Some((_, pack)) = read(dir) else { return Ok(ExitCode::from(USAGE)) };
    let text = std::fs::read_to_string(facts)
        .with_context(|| format!("{} cannot be read", facts.display()))?;
    let facts = match Facts::parse(&text) {
        Ok(facts) => facts.judged_by(&pack),
        Err(error) => {
            eprintln!("tulga: {}: {error}", facts.display());
            return Ok(ExitCode::from(USAGE));
        }
    };
    let at = match at.as_deref().map(UnixMillis::parse_rfc3339).transpose() {
        Ok(at) => at.unwrap_or_else(|| SystemClock.now()),
        Err(error) => {
            eprintln!("tulga: --at: {error}");
            return Ok(ExitCode::from(USAGE));
        }
    };
    let decision = decide(&facts, &pack, at);
    let outcome = decision.outcome();
    let reasons: Vec<_> = decision.reasons().iter().map(|reason| reason.code()).collect();
    let rules: Vec<_> = decision.rules().iter().map(RuleId::as_str).collect();
    let until = outcome.until().map(UnixMillis::rfc3339);
    if *json {
        let said = json!({
            "outcome": outcome.as_str(), "reasons": reasons, "rules": rules,
            "cap_minor": outcome.cap_minor(), "until": until, "in_force": pack.in_force(at),
            "hash": pack.hash().labelled(),
        });
        println!("{said}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("outcome  {}", outcome.as_str());
    if let Some(cap_minor) = outcome.cap_minor() {
        println!("cap      {cap_minor} in minor units");
    }
    if let Some(until) = until {
        println!("until    {until}");
    }
    println!("reasons  {}", reasons.join(", "));
    println!("rules    {}", rules.join(", "));
    if !pack.in_force(at) {
        println!("The pack is not in force at {}.", at.rfc3339());
    }
    Ok(ExitCode::SUCCESS)
}

/// A pack with its files; `None` for one that is told to be bad. Its cases are run.
pub(super) fn read(dir: &Path) -> Option<(PackFiles, PolicyPack)> {
    let loaded = PackFiles::read(dir).and_then(|files| {
        let pack = files.load()?;
        Ok::<_, PackError>((files, pack))
    });
    match loaded {
        Ok(read) => Some(read),
        Err(fault) => {
            eprintln!("tulga: {}: {}", dir.display(), fault.faults().join("; "));
            None
        }
    }
}

fn difference(
    before: &(PackFiles, PolicyPack),
    after: &(PackFiles, PolicyPack),
) -> Result<Difference> {
    let (old, new) = (rules(&before.1), rules(&after.1));
    let mut found = Difference::default();
    for (rule, text) in &old {
        match new.get(rule) {
            None => found.removed.push(rule.clone()),
            Some(other) if other != text => found.changed.push(Changed {
                rule: rule.clone(),
                before: text.clone(),
                after: other.clone(),
            }),
            Some(_) => {}
        }
    }
    found.added = new.into_keys().filter(|rule| !old.contains_key(rule)).collect();
    let (old, new) = (manifest(&before.0)?, manifest(&after.0)?);
    for path in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let (was, is) = (old.get(path).cloned(), new.get(path).cloned());
        if was != is {
            found.manifest.insert(path.clone(), (was, is));
        }
    }
    Ok(found)
}

/// Everything that a rule says, by its name.
fn rules(pack: &PolicyPack) -> BTreeMap<String, String> {
    let text = |rule: &Described| {
        let Described { id, effect, reason, law, in_force, legal_basis, text } = rule;
        let reason = reason.map_or("-", |reason| reason.code());
        let law = law.as_deref().unwrap_or("-");
        let state = match (in_force, legal_basis) {
            (true, None) => "in force".to_owned(),
            (true, Some(basis)) => format!("in force: {basis}"),
            (false, basis) => format!("off: {}", basis.as_deref().unwrap_or("-")),
        };
        (id.to_string(), format!("{effect}; {reason}; {law}; {state}\n{text}"))
    };
    pack.described().iter().map(text).collect()
}

/// The values of `pack.toml` by their paths.
fn manifest(files: &PackFiles) -> Result<BTreeMap<String, String>> {
    let table: toml::Table = files.manifest().unwrap_or_default().parse()?;
    let mut values = BTreeMap::new();
    flatten("", &toml::Value::Table(table), &mut values);
    Ok(values)
}

fn flatten(path: &str, value: &toml::Value, values: &mut BTreeMap<String, String>) {
    if let toml::Value::Table(table) = value {
        for (name, value) in table {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            flatten(&path, value, values);
        }
    } else {
        values.insert(path.to_owned(), value.to_string());
    }
}

impl Difference {
    fn json(&self) -> Value {
        let Self { added, removed, changed, manifest } = self;
        let changed: Vec<_> = changed
            .iter()
            .map(|it| json!({ "rule": it.rule, "before": it.before, "after": it.after }))
            .collect();
        let manifest: Vec<_> = manifest
            .iter()
            .map(
                |(path, (before, after))| json!({ "path": path, "before": before, "after": after }),
            )
            .collect();
        json!({ "added": added, "removed": removed, "changed": changed, "manifest": manifest })
    }

    fn print(&self) {
        let Self { added, removed, changed, manifest } = self;
        for (path, (before, after)) in manifest {
            let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
            println!("pack.toml  {path}: {} -> {}", shown(before), shown(after));
        }
        for rule in removed {
            println!("removed    {rule}");
        }
        for rule in added {
            println!("added      {rule}");
        }
        for Changed { rule, before, after } in changed {
            println!("changed    {rule}");
            let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
            for line in old.iter().filter(|line| !new.contains(line)) {
                println!("         - {line}");
            }
            for line in new.iter().filter(|line| !old.contains(line)) {
                println!("         + {line}");
            }
        }
    }
}
