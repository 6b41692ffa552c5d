//! Audits of exports that somebody tampered with: every rule finds its fault.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tempfile::TempDir;

use tulga::audit::{
    AuditError, AuditReport, ExportWriter, FINDINGS_PER_RULE_MAX, Options, SKEW_MS, SingleError,
    find_receipt, verify_export, verify_single,
};
use tulga::crypto::Ed25519Key;
use tulga::domain::id::ReceiptId;
use tulga::domain::time::UnixMillis;
use tulga::ledger::{Checkpoint, Origin, TlogProof, Tree, leaf_hash};
use tulga::receipt::{
    Content, ErasedBody, KeyRegister, LogBlock, TrustFingerprint, erasures_json, issue, rid_text,
};

use crate::receipts::{
    Keys, ORIGIN, TIME, administration, draft, erasure_of_bodies, outcome, verification,
};

/// A small ledger: receipts in batches of four, a checkpoint after each.
pub struct Book {
    pub keys: Keys,
    pub lines: Vec<String>,
    pub tree: Tree,
    pub checkpoints: Vec<String>,
    pub erased: Vec<ErasedBody>,
    prior: (u64, tulga::crypto::Digest),
    time: UnixMillis,
}

impl Book {
    pub fn new(seed: u8) -> Self {
        let tree = Tree::new();
        let prior = (0, tree.root());
        let keys = Keys::new(seed);
        Self { keys, lines: vec![], tree, checkpoints: vec![], erased: vec![], prior, time: TIME }
    }

    /// A ledger of `size` entries of several kinds.
    pub fn of_size(seed: u8, size: u64) -> Self {
        let mut book = Self::new(seed);
        for index in 0..size {
            let content = match index % 4 {
                0 => administration("policy_activated"),
                1 => outcome(&rid(index - 1), index - 1),
                _ => verification(),
            };
            book.append(content);
        }
        book
    }

    pub fn append(&mut self, content: Content) {
        let number = self.tree.size();
        self.append_as(number, content);
    }

    fn append_as(&mut self, number: u64, content: Content) {
        let index = self.tree.size();
        self.time = self.time.plus_millis(1_000);
        let log = LogBlock::new(ORIGIN, index, self.prior.0, &self.prior.1);
        self.push_body(&draft(number, content).complete(self.time, log));
    }

    fn push_body(&mut self, body: &tulga::receipt::ReceiptBody) {
        let receipt = issue(body, "gw07-2026b", &self.keys.receipt).unwrap();
        self.tree.push(receipt.leaf());
        self.lines.push(receipt.into_string());
        if self.tree.size().is_multiple_of(4) {
            self.checkpoint();
        }
    }

    pub fn checkpoint(&mut self) {
        self.prior = (self.tree.size(), self.tree.root());
        self.checkpoints.push(self.signed_head(&self.tree));
    }

    fn signed_head(&self, tree: &Tree) -> String {
        let origin = Origin::try_from(ORIGIN).unwrap();
        let checkpoint = Checkpoint { origin, size: tree.size(), root: tree.root() };
        checkpoint.sign(&self.keys.ledger).unwrap()
    }

    pub fn trust(&self) -> TrustFingerprint {
        use tulga::crypto::Signer as _;
        TrustFingerprint::of(&self.keys.root.public_key())
    }

    /// Writes the export, as it would be with this register.
    pub fn export_with(&self, register: &KeyRegister, root: &Ed25519Key) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let writer = ExportWriter::create(dir.path()).unwrap();
        let keys = register.to_json().unwrap();
        let latest = self.signed_head(&self.tree);
        let erased = erasures_json(&self.erased).unwrap();
        let files = [
            ("receipts.jws", file_of(&self.lines)),
            ("checkpoint", latest),
            ("checkpoints", self.checkpoints.join("\n")),
            ("keys.json.sig", KeyRegister::sign(keys.as_bytes(), root).unwrap()),
            ("keys.json", keys),
            ("erasures.json", erased),
        ];
        for (name, text) in files {
            writer.append(name, text.as_bytes()).unwrap();
        }
        dir
    }

    pub fn export(&self) -> TempDir {
        self.export_with(&self.keys.register(0, None), &self.keys.root)
    }
}

/// One line each, each with its newline.
fn file_of(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

fn rid(number: u64) -> String {
    let mut id = [0u8; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    rid_text(&ReceiptId::new(id))
}

fn audit(dir: &Path, trust: Option<&TrustFingerprint>, options: &Options) -> AuditReport {
    verify_export(dir, trust, options, &mut |_| ()).unwrap()
}

/// Audits with trust and no other evidence; the rules that found something.
fn rules(book: &Book, dir: &Path) -> BTreeSet<&'static str> {
    let report = audit(dir, Some(&book.trust()), &Options::default());
    assert_eq!(report.is_good(), report.findings.is_empty());
    assert_eq!(report.established.logged, report.findings.is_empty());
    report.counts.into_keys().collect()
}

fn set<const N: usize>(rules: [&'static str; N]) -> BTreeSet<&'static str> {
    rules.into_iter().collect()
}

fn edit_lines(dir: &Path, change: impl FnOnce(&mut Vec<String>)) {
    let file = dir.join("receipts.jws");
    let mut lines: Vec<String> =
        fs::read_to_string(&file).unwrap().lines().map(ToOwned::to_owned).collect();
    change(&mut lines);
    fs::write(&file, file_of(&lines)).unwrap();
}

fn held(lines: &[&str]) -> (TempDir, Options) {
    let dir = tempfile::tempdir().unwrap();
    for (number, line) in lines.iter().enumerate() {
        fs::write(dir.path().join(format!("{number}.jws")), format!("{line}\n")).unwrap();
    }
    let options = Options { held: Some(dir.path().to_owned()), ..Options::default() };
    (dir, options)
}

fn earlier(note: &str) -> (TempDir, Options) {
    let dir = tempfile::tempdir().unwrap();
    let file: PathBuf = dir.path().join("checkpoint");
    fs::write(&file, note).unwrap();
    (dir, Options { earlier: Some(file), ..Options::default() })
}

#[test]
fn an_honest_export_is_good_and_says_what_was_established() {
    let book = Book::of_size(20, 22);
    let dir = book.export();
    let (_kept, mut options) = held(&[&book.lines[3], &book.lines[21]]);
    let (_file, with_earlier) = earlier(&book.checkpoints[2]);
    options.earlier = with_earlier.earlier;
    let mut last = None;
    let report =
        verify_export(dir.path(), Some(&book.trust()), &options, &mut |at| last = Some(at));
    let report = report.unwrap();
    assert!(report.is_good(), "{:?}", report.findings);
    assert!(report.established.signed && report.established.logged);
    assert!(!report.established.witnessed, "no witness was asked");
    let [ledger] = report.ledgers.as_slice() else { panic!() };
    assert_eq!((ledger.entries, ledger.checkpoint_size, ledger.checkpoints), (22, Some(22), 5));
    assert_eq!((ledger.origin.as_str(), ledger.kinds["administration"]), (ORIGIN, 6));
    assert_eq!(report.evidence.held_receipts, Some(2));
    assert_eq!(report.evidence.earlier_sizes, Some(vec![12]));
    assert_eq!(ledger.root, book.tree.root().hex());
    let at = last.unwrap();
    assert_eq!(at.done_bytes, at.total_bytes);
}

#[test]
fn an_empty_ledger_is_good() {
    let book = Book::new(20);
    assert_eq!(rules(&book, book.export().path()), set([]));
}

#[test]
fn without_a_trust_fingerprint_nothing_is_good() {
    let book = Book::of_size(20, 9);
    let report = audit(book.export().path(), None, &Options::default());
    assert!(!report.is_good() && !report.established.signed && !report.established.logged);
    assert_eq!(report.counts.into_keys().collect::<BTreeSet<_>>(), set(["trust-missing"]));
}

#[test]
fn a_flipped_bit_anywhere_in_a_receipt_is_found() {
    let book = Book::of_size(20, 9);
    let dir = book.export();
    let bits = book.lines[5].len() * 8;
    for place in (0..bits).step_by(97).chain([bits - 1]) {
        let mut bytes = book.lines[5].clone().into_bytes();
        bytes[place / 8] ^= 1 << (place % 8);
        if bytes.contains(&b'\n') {
            continue;
        }
        let mut lines: Vec<Vec<u8>> =
            book.lines.iter().map(|line| line.clone().into_bytes()).collect();
        lines[5] = bytes;
        fs::write(dir.path().join("receipts.jws"), lines.join(&b'\n')).unwrap();
        let found = rules(&book, dir.path());
        assert!(found.contains("root"), "{place}: {found:?}");
        assert!(!found.is_disjoint(&set(["signature", "receipt", "key"])), "{place}: {found:?}");
    }
}

#[test]
fn a_deleted_line_is_a_gap() {
    let book = Book::of_size(20, 14);
    let dir = book.export();
    edit_lines(dir.path(), |lines| drop(lines.remove(6)));
    let found = rules(&book, dir.path());
    assert!(found.is_superset(&set(["gap", "truncated"])), "{found:?}");
}

#[test]
fn reordered_and_repeated_lines_are_found() {
    let book = Book::of_size(20, 14);
    let dir = book.export();
    edit_lines(dir.path(), |lines| lines.swap(3, 4));
    assert!(rules(&book, dir.path()).is_superset(&set(["gap", "order", "root"])));
    let dir = book.export();
    edit_lines(dir.path(), |lines| lines.insert(4, lines[3].clone()));
    assert!(rules(&book, dir.path()).is_superset(&set(["order", "rid", "root", "uncovered"])));
}

#[test]
fn a_cut_off_tail_is_found_by_the_checkpoint() {
    let book = Book::of_size(20, 14);
    let dir = book.export();
    edit_lines(dir.path(), |lines| lines.truncate(11));
    assert_eq!(rules(&book, dir.path()), set(["truncated"]));
}

#[test]
fn a_cut_off_tail_with_an_older_checkpoint_needs_outside_evidence() {
    let long = Book::of_size(20, 14);
    let short = Book::of_size(20, 8);
    let dir = short.export();
    assert_eq!(rules(&short, dir.path()), set([]), "from inside it cannot be seen");
    let (_kept, options) = held(&[&long.lines[12]]);
    let report = audit(dir.path(), Some(&long.trust()), &options);
    assert_eq!(report.counts.into_keys().collect::<BTreeSet<_>>(), set(["held"]));
    let (_file, options) = earlier(&long.checkpoints[2]);
    let report = audit(dir.path(), Some(&long.trust()), &options);
    assert_eq!(report.counts.into_keys().collect::<BTreeSet<_>>(), set(["earlier"]));
    // A kept checkpoint that the latest does not reach is enough, too.
    fs::write(dir.path().join("checkpoints"), long.checkpoints.concat()).unwrap();
    assert_eq!(rules(&long, dir.path()), set(["truncated"]));
}

#[test]
fn a_ledger_made_anew_with_other_keys_is_not_trusted() {
    let honest = Book::of_size(20, 9);
    let made_anew = Book::of_size(90, 9);
    let dir = made_anew.export();
    assert_eq!(rules(&made_anew, dir.path()), set([]), "under its own fingerprint it is whole");
    assert_eq!(rules(&honest, dir.path()), set(["keys"]));
    // With the honest register put back, its signatures are nobody's.
    let register = honest.keys.register(0, None);
    let dir = made_anew.export_with(&register, &honest.keys.root);
    let found = rules(&honest, dir.path());
    assert!(found.is_superset(&set(["signature", "checkpoint"])), "{found:?}");
}

#[test]
fn a_second_history_with_the_same_keys_is_caught_by_outside_evidence() {
    let honest = Book::of_size(20, 14);
    let mut forked = Book::of_size(20, 6);
    for _ in 6..14 {
        forked.append(administration("terminal_revoked"));
    }
    let dir = forked.export();
    assert_eq!(rules(&forked, dir.path()), set([]), "from inside it cannot be seen");
    let (_file, options) = earlier(&honest.checkpoints[2]);
    let report = audit(dir.path(), Some(&honest.trust()), &options);
    assert_eq!(report.counts.into_keys().collect::<BTreeSet<_>>(), set(["earlier"]));
    let (_kept, options) = held(&[&honest.lines[2], &honest.lines[7]]);
    let report = audit(dir.path(), Some(&honest.trust()), &options);
    assert_eq!(report.counts["held"], 1, "the second differs, the first is common");
    // A checkpoint of the other history among the kept ones shows the fork from inside.
    let notes = [forked.checkpoints.concat(), honest.checkpoints[2].clone()].concat();
    fs::write(dir.path().join("checkpoints"), notes).unwrap();
    assert_eq!(rules(&honest, dir.path()), set(["fork"]));
}

#[test]
fn a_receipt_outside_its_key_s_range_or_time_is_found() {
    let book = Book::of_size(20, 9);
    let dir = book.export_with(&book.keys.register(0, Some(6)), &book.keys.root);
    let report = audit(dir.path(), Some(&book.trust()), &Options::default());
    assert_eq!(report.counts, [("key-range", 2)].into());
    assert_eq!(report.findings[0].index, Some(7));
    assert!(!report.established.signed);

    let mut keys = book.keys.register(0, None).keys().to_vec();
    keys[2].not_after = Some(TIME.plus_millis(3_500));
    let dir = book.export_with(&KeyRegister::new(keys).unwrap(), &book.keys.root);
    assert_eq!(rules(&book, dir.path()), set(["key-time"]));

    let mut keys = book.keys.register(0, None).keys().to_vec();
    keys[2].kid = "another".into();
    let dir = book.export_with(&KeyRegister::new(keys).unwrap(), &book.keys.root);
    assert_eq!(rules(&book, dir.path()), set(["key"]));

    let mut keys = book.keys.register(0, None).keys().to_vec();
    keys[1].origins[0].last_index = Some(3);
    let dir = book.export_with(&KeyRegister::new(keys).unwrap(), &book.keys.root);
    assert_eq!(rules(&book, dir.path()), set(["checkpoint"]), "the ledger key has a range, too");
}

#[test]
fn an_altered_register_is_not_believed() {
    let book = Book::of_size(20, 5);
    let dir = book.export();
    let file = dir.path().join("keys.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\"first_index\": 0", "\"first_index\":  0")).unwrap();
    assert_eq!(rules(&book, dir.path()), set(["keys"]));
    fs::write(&file, "{}").unwrap();
    let refused = verify_export(dir.path(), Some(&book.trust()), &Options::default(), &mut |_| ());
    assert!(matches!(refused, Err(AuditError::Register(_))));
}

#[test]
fn what_a_signed_receipt_claims_of_its_ledger_is_checked() {
    let build = |change: &dyn Fn(&mut Book)| {
        let mut book = Book::of_size(20, 6);
        change(&mut book);
        let dir = book.export();
        rules(&book, dir.path())
    };
    let body_of = |book: &Book, prior: (u64, tulga::crypto::Digest), time| {
        let log = LogBlock::new(ORIGIN, book.tree.size(), prior.0, &prior.1);
        draft(book.tree.size(), verification()).complete(time, log)
    };
    let wrong_head = build(&|book| {
        let body = body_of(book, (4, book.tree.root()), book.time);
        book.push_body(&body);
    });
    assert_eq!(wrong_head, set(["prior-head"]));
    let skewed = |millis| {
        build(&|book| {
            let body = body_of(book, book.prior, book.time.plus_millis(millis));
            book.push_body(&body);
        })
    };
    assert_eq!(skewed(-SKEW_MS), set([]));
    assert_eq!(skewed(-SKEW_MS - 1), set(["time"]));
    let foreign = build(&|book| {
        let mut body = body_of(book, book.prior, book.time);
        body.log.origin = "other.example/log".into();
        book.push_body(&body);
    });
    assert_eq!(foreign, set(["key-range", "origin"]));
    assert_eq!(build(&|book| book.append_as(2, verification())), set(["rid"]));
    assert_eq!(build(&|book| book.append(outcome(&rid(3), 3))), set([]));
    assert_eq!(build(&|book| book.append(outcome(&rid(2), 3))), set(["refers"]));
    assert_eq!(build(&|book| book.append(outcome(&rid(6), 6))), set(["refers"]));
}

#[test]
fn a_body_may_be_missing_only_with_an_entry_that_says_so() {
    let erased = |first, last, listed: std::ops::RangeInclusive<u64>| {
        let mut book = Book::of_size(20, 9);
        book.append(erasure_of_bodies(first, last));
        let leaf = |index: u64| leaf_hash(&book.lines[usize::try_from(index).unwrap()]);
        let bodies: Vec<_> =
            listed.map(|index| ErasedBody { index, erasure: 9, leaf: leaf(index) }).collect();
        for body in bodies.iter().rev() {
            book.lines.remove(usize::try_from(body.index).unwrap());
        }
        book.erased = bodies;
        book
    };
    let honest = erased(2, 4, 2..=4);
    assert_eq!(rules(&honest, honest.export().path()), set([]));
    let more_than_said = erased(2, 4, 2..=5);
    assert_eq!(rules(&more_than_said, more_than_said.export().path()), set(["erasure"]));
    let mut another_leaf = erased(2, 4, 2..=4);
    another_leaf.erased[1].leaf = leaf_hash("something else");
    let found = rules(&another_leaf, another_leaf.export().path());
    assert!(found.is_superset(&set(["root", "fork"])), "{found:?}");
    let dir = honest.export();
    fs::write(dir.path().join("erasures.json"), "{}").unwrap();
    assert!(rules(&honest, dir.path()).is_superset(&set(["erasures", "gap"])));
}

#[test]
fn entries_that_no_checkpoint_covers_and_rubbish_for_a_checkpoint_are_found() {
    let mut book = Book::of_size(20, 9);
    let dir = book.export();
    fs::write(dir.path().join("checkpoint"), &book.checkpoints[1]).unwrap();
    assert_eq!(rules(&book, dir.path()), set(["uncovered"]));
    fs::write(dir.path().join("checkpoint"), "rubbish").unwrap();
    assert_eq!(rules(&book, dir.path()), set(["checkpoint"]));
    book.checkpoints[0] = book.checkpoints[0].replace("\n4\n", "\n5\n");
    assert_eq!(rules(&book, book.export().path()), set(["checkpoint"]));
}

#[test]
fn a_held_receipt_of_other_keys_or_a_rubbish_one_is_found() {
    let book = Book::of_size(20, 9);
    let stranger = Book::of_size(90, 9);
    let (_kept, options) = held(&[&stranger.lines[2], "rubbish", &book.lines[2]]);
    let report = audit(book.export().path(), Some(&book.trust()), &options);
    assert_eq!(report.counts, [("held", 2)].into());
    let (_file, options) = earlier(&stranger.checkpoints[1]);
    let report = audit(book.export().path(), Some(&book.trust()), &options);
    assert_eq!(report.counts, [("earlier", 1)].into());
}

#[test]
fn one_broken_rule_does_not_flood_the_report() {
    let book = Book::of_size(20, 60);
    let dir = book.export_with(&book.keys.register(0, Some(3)), &book.keys.root);
    let report = audit(dir.path(), Some(&book.trust()), &Options::default());
    assert_eq!(report.counts["key-range"], 56);
    assert_eq!(u64::try_from(report.findings.len()).unwrap(), FINDINGS_PER_RULE_MAX);
}

#[test]
fn no_export_is_an_error_not_a_finding() {
    let book = Book::of_size(20, 5);
    let audit = |dir: &Path| {
        verify_export(dir, Some(&book.trust()), &Options::default(), &mut |_| ()).unwrap_err()
    };
    assert_eq!(audit(Path::new("/nowhere/at/all")).code(), "AUDIT_NO_EXPORT");
    for name in tulga::receipt::EXPORT_FILES {
        let dir = book.export();
        fs::remove_file(dir.path().join(name)).unwrap();
        assert_eq!(audit(dir.path()).code(), "AUDIT_UNREADABLE", "{name}");
    }
}

#[test]
fn one_receipt_with_its_proof_verifies_alone_and_no_other_does() {
    let book = Book::of_size(20, 11);
    let dir = book.export();
    let jws = find_receipt(dir.path(), 6).unwrap().unwrap();
    assert_eq!(jws, book.lines[6]);
    assert_eq!(find_receipt(dir.path(), 11).unwrap(), None);
    let note = fs::read_to_string(dir.path().join("checkpoint")).unwrap();
    let proof = |index| TlogProof::make(&book.tree, index, 11, note.clone()).unwrap().to_text();
    let keys = fs::read(dir.path().join("keys.json")).unwrap();
    let signature = fs::read_to_string(dir.path().join("keys.json.sig")).unwrap();
    let trust = book.trust();
    let verify = |jws: &str, proof: &str| verify_single(jws, proof, &keys, &signature, &trust);
    let report = verify(&jws, &proof(6)).unwrap();
    assert!(report.established.signed && report.established.logged);
    assert_eq!(report.checkpoint.size, 11);
    assert!(matches!(verify(&jws, &proof(7)), Err(SingleError::OtherIndex)));
    let mislabelled = proof(7).replace("index 7", "index 6");
    assert!(matches!(verify(&jws, &mislabelled), Err(SingleError::Proof(_))));
    assert!(matches!(verify("a.b.c", &proof(6)), Err(SingleError::Receipt(_))));
    let stranger = Book::of_size(90, 11);
    let refused = verify_single(&jws, &proof(6), &keys, &signature, &stranger.trust());
    assert_eq!(refused.unwrap_err().code(), "KEY_UNTRUSTED");
    let foreign = stranger.signed_head(&book.tree);
    let foreign = TlogProof::make(&book.tree, 6, 11, foreign).unwrap().to_text();
    assert!(matches!(verify(&jws, &foreign), Err(SingleError::Checkpoint(_))));
}

#[derive(clap::Parser)]
struct CommandLine {
    #[command(flatten)]
    args: tulga::cli::audit_verify::Args,
}

/// The exit code of `tulga audit verify` with these arguments; none when clap refuses them.
fn exit(arguments: &[&str]) -> Option<ExitCode> {
    let line = ["verify"].iter().chain(arguments);
    let args = <CommandLine as clap::Parser>::try_parse_from(line).ok()?.args;
    Some(tulga::cli::audit_verify::run(args).unwrap())
}

#[test]
fn the_command_exits_0_only_when_everything_is_good_and_trust_was_given() {
    let book = Book::of_size(20, 9);
    let dir = book.export();
    let proof = TlogProof::make(&book.tree, 6, 9, book.signed_head(&book.tree)).unwrap();
    fs::write(dir.path().join("6.tlog-proof"), proof.to_text()).unwrap();
    fs::write(dir.path().join("6.jws"), format!("{}\n", book.lines[6])).unwrap();
    fs::write(dir.path().join("7.jws"), &book.lines[7]).unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (export, trust) = (at(""), book.trust().to_string());
    let (good, findings, usage) = (ExitCode::SUCCESS, ExitCode::from(1), ExitCode::from(64));
    let other = "0".repeat(64);
    assert_eq!(exit(&[&export, "--trust", &trust]), Some(good));
    assert_eq!(exit(&[&export, "--trust", &trust[7..], "--json"]), Some(good));
    assert_eq!(exit(&[&export]), Some(findings));
    assert_eq!(exit(&[&export, "--trust", &other]), Some(findings));
    assert_eq!(exit(&["/nowhere", "--trust", &trust]), Some(usage));
    assert_eq!(exit(&[&export, "--trust", "rubbish"]), None);
    assert_eq!(exit(&[]), None);

    let (proof, keys) = (at("6.tlog-proof"), at(""));
    let single = |receipt: &str, trust: &str| {
        exit(&["--receipt", receipt, "--proof", &proof, "--keys", &keys, "--trust", trust])
    };
    assert_eq!(single(&at("6.jws"), &trust), Some(good));
    assert_eq!(single(&at("7.jws"), &trust), Some(findings));
    assert_eq!(single(&at("6.jws"), &other), Some(findings));
    assert_eq!(single(&at("8.jws"), &trust), Some(usage));
    assert_eq!(exit(&["--receipt", "x", "--proof", "x", "--keys", "x"]), None);
}
