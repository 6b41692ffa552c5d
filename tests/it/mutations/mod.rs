//! What an attacker may do to an exported ledger, with which keys, and whether an auditor sees it: by
//! `tulga audit verify`, and by a verifier that shares no code with it.
//!
//! Each row of the table states the keys that the attacker holds and the evidence that the auditor has.
//! Rows that nobody can see from an export alone are there too, and are asserted to be so.

mod attacks;
mod world;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rayon::prelude::*;
use tempfile::TempDir;

use tulga::audit::{AuditReport, Options, verify_export};
use tulga::receipt::TrustFingerprint;

use self::attacks::{ATTACKS, Attack};
use self::world::{HALVES, Keys, ROTATED_AT, SIZES, Script, World};
use crate::process::has;

/// What an auditor has beside the export and the trust fingerprint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Evidence {
    /// Nothing.
    Export,
    /// A policy that names the honest witness.
    Policy,
    /// A checkpoint that was received earlier, near the honest ledger's end.
    Earlier,
    /// Receipts that terminals hold.
    Held,
    /// A log of logs that was received earlier.
    EarlierChain,
}

/// The honest ledgers, and what others hold of them.
pub struct Honest {
    pub world: World,
    outside: TempDir,
}

impl Honest {
    fn new() -> Self {
        let world = World::build(Keys::new(10), Script::default());
        let outside = tempfile::tempdir().unwrap();
        let second = &world.ledgers[1];
        let held = outside.path().join("held");
        fs::create_dir(&held).unwrap();
        let ten_erased_before = |index: usize| second.lines[index - 10].as_str();
        let lines = [ten_erased_before(350), ten_erased_before(1200), &world.ledgers[0].lines[3]];
        fs::write(held.join("terminal.jws"), lines.join("\n") + "\n").unwrap();
        let put = |name: &str, text: &str| fs::write(outside.path().join(name), text).unwrap();
        put("earlier", &second.checkpoints[125]);
        put("earlier-chain", &world.log_of_logs);
        put("policy", &world.keys.policy());
        Self { world, outside }
    }

    /// The evidence as both verifiers take it.
    fn options(&self, evidence: Evidence) -> Options {
        let at = |name: &str| Some(self.outside.path().join(name));
        let none = Options { bound_ms: Some(60_000), ..Options::default() };
        match evidence {
            Evidence::Export => none,
            Evidence::Policy => Options { policy: at("policy"), ..none },
            Evidence::Earlier => Options { earlier: at("earlier"), ..none },
            Evidence::Held => Options { held: at("held"), ..none },
            Evidence::EarlierChain => Options { earlier: at("earlier-chain"), ..none },
        }
    }

    fn audit(&self, dir: &Path, evidence: Evidence) -> AuditReport {
        let trust = self.world.keys.trust();
        verify_export(dir, Some(&trust), &self.options(evidence), &mut |_| ()).unwrap()
    }

    /// What the stand-alone verifier says: nothing, or why it refuses.
    fn stand_alone(&self, dir: &Path, evidence: Evidence) -> Result<String, String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/verify_ledger.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(dir).arg(self.world.keys.trust().to_string());
        let Options { held, earlier, policy, bound_ms, .. } = self.options(evidence);
        let files = [("--held", held), ("--earlier", earlier), ("--policy", policy)];
        for (name, file) in files.into_iter().filter_map(|(name, file)| Some((name, file?))) {
            command.arg(name).arg(file);
        }
        command.arg("--bound").arg((bound_ms.unwrap() / 1000).to_string());
        let output = command.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        let error = text(&output.stderr);
        let why = error.strip_prefix("REFUSED: ");
        Err(why.unwrap_or_else(|| panic!("it failed instead of refusing: {error}")).to_owned())
    }
}

/// The honest export, for other tests, and the fingerprint that it is trusted by.
pub fn honest_export() -> (TempDir, TrustFingerprint) {
    let world = World::build(Keys::new(10), Script::default());
    (world.export(), world.keys.trust())
}

/// How one row came out.
struct Row {
    attack: &'static Attack,
    rules: Vec<&'static str>,
    stand_alone: Option<Result<String, String>>,
}

#[test]
fn an_honest_export_passes_with_every_evidence() {
    let honest = Honest::new();
    let dir = honest.world.export();
    let python = has_python();
    for evidence in [
        Evidence::Export,
        Evidence::Policy,
        Evidence::Earlier,
        Evidence::Held,
        Evidence::EarlierChain,
    ] {
        let report = honest.audit(dir.path(), evidence);
        assert!(report.is_good(), "{evidence:?}: {:#?}", report.findings);
        assert_eq!(report.entries(), SIZES.iter().sum::<u64>());
        assert_eq!(report.established.witnessed, evidence == Evidence::Policy);
        assert_eq!(report.closed_ledgers, Some(1));
        if python {
            let said = honest.stand_alone(dir.path(), evidence);
            assert_eq!(said.as_deref(), Ok("ok: 2200 entries in 2 ledgers, 220 kept checkpoints"));
        }
    }
}

#[test]
fn what_an_honest_report_says_of_each_ledger() {
    let honest = Honest::new();
    let dir = honest.world.export();
    let report = honest.audit(dir.path(), Evidence::Policy);
    let [first, second] = report.ledgers.as_slice() else { panic!() };
    assert_eq!([first.origin.as_str(), second.origin.as_str()], HALVES);
    assert_eq!((second.entries, second.checkpoint_size), (1300, Some(1300)));
    assert_eq!((second.witnessed_size, second.witnessed_checkpoints), (Some(1300), 130));
    assert_eq!((second.erased, second.audit_records), (10, 11));
    assert_eq!(second.tiles, 6 + 6 + 1, "bundles, leaves, and one tile above");
    // Ten entries two seconds apart, and the witness a second at most behind the last.
    assert_eq!(second.widest_interval_ms, Some(20_000));
    assert_eq!(report.back_dating_bound_ms(), Some(25_000));
    assert!(second.longest_wait_ms.is_some_and(|waited| (18_000..19_000).contains(&waited)));
}

#[test]
fn every_mutation_is_seen_by_both_verifiers() {
    let honest = Honest::new();
    let python = has_python();
    let rows: Vec<Row> = ATTACKS.par_iter().map(|attack| row(&honest, attack, python)).collect();
    print(&rows);
    for Row { attack, rules, stand_alone } in &rows {
        let name = attack.name;
        if attack.rules.is_empty() {
            assert!(rules.is_empty(), "{name} was thought to be unseen: {rules:?}");
            assert!(stand_alone.as_ref().is_none_or(Result::is_ok), "{name}: {stand_alone:?}");
        } else {
            let expected = attack.rules.iter().all(|rule| rules.contains(rule));
            assert!(expected, "{name}: {:?} expected, found {rules:?}", attack.rules);
            assert!(stand_alone.as_ref().is_none_or(Result::is_err), "{name}: {stand_alone:?}");
        }
    }
}

fn row(honest: &Honest, attack: &'static Attack, python: bool) -> Row {
    let dir = (attack.make)(honest);
    let report = honest.audit(dir.path(), attack.evidence);
    assert_eq!(report.is_good(), report.counts.is_empty(), "{}", attack.name);
    for finding in &report.findings {
        assert!(!finding.text.is_empty() && !finding.means.is_empty(), "{finding:?}");
    }
    let stand_alone = python.then(|| honest.stand_alone(dir.path(), attack.evidence));
    Row { attack, rules: report.counts.into_keys().collect(), stand_alone }
}

fn print(rows: &[Row]) {
    println!("| mutation | attacker holds | auditor has | tulga audit verify | verify_ledger.py |");
    println!("| --- | --- | --- | --- | --- |");
    for Row { attack, rules, stand_alone } in rows {
        let evidence = match attack.evidence {
            Evidence::Export => "the export",
            Evidence::Policy => "the honest witness's key",
            Evidence::Earlier => "an earlier checkpoint",
            Evidence::Held => "held receipts",
            Evidence::EarlierChain => "an earlier log of logs",
        };
        let rules = if rules.is_empty() { "unseen".to_owned() } else { rules.join(", ") };
        let said = match stand_alone {
            None => "not run",
            Some(Ok(_)) => "unseen",
            Some(Err(why)) => why,
        };
        println!("| {} | {} | {evidence} | {rules} | {said} |", attack.name, attack.keys);
    }
}

fn has_python() -> bool {
    has("python3", &["-c", "import cryptography"], "get it with: pip install cryptography")
}

/// The folder of one of the two ledgers in an export.
pub fn folder(dir: &Path, half: usize) -> PathBuf {
    dir.join(HALVES[half])
}

/// A receipt's place among the lines of its file: ten bodies before it are erased.
pub fn line_of(index: u64) -> usize {
    usize::try_from(index).unwrap() - if index < 20 { 0 } else { 10 }
}

/// The entry at which attacks on single receipts are tried.
pub const AT: u64 = ROTATED_AT + 50;
