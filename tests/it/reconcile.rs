//! A journal of cash against an exported ledger: every kind of difference is found, and only it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tempfile::TempDir;

use tulga::audit::reconcile::{JournalFormat, Reconciliation, Sources, reconcile};
use tulga::domain::id::Attempt;
use tulga::receipt::{
    Content, Outcome, Refers, Reversal, Salt, TransactionFields, Verification, transaction_commit,
};

use crate::audit::Book;
use crate::receipts::{actor, outcome, verification};

/// A ledger of withdrawals, with its export and what the host knows.
struct Bank {
    book: Book,
    openings: String,
    dir: Option<TempDir>,
}

const SALT: [u8; 32] = [9; 32];
/// The book's entries are a second apart from 2026-11-21T02:03:15.123Z on.
const JOURNAL: &str = "time;host_transaction_id;amount;dispensed\n";

impl Bank {
    fn new() -> Self {
        let openings =
            "receipt,salt,host_transaction_id,business_date,attempt,account,counterparty\n".into();
        Self { book: Book::new(20), openings, dir: None }
    }

    /// A decision; its index. The host can open it.
    fn decide(&mut self, transaction: &str, amount: i64, word: &str) -> u64 {
        let fields = TransactionFields {
            host_transaction_id: transaction,
            business_date: "2026-11-21",
            attempt: Attempt::try_from(1).unwrap(),
            account: "acct-1",
            counterparty: None,
        };
        let Content::Verification(mut decision) = verification() else { panic!() };
        decision.txn.commit = transaction_commit(&Salt::new(SALT), &fields);
        decision.txn.amount_minor = amount;
        let decision = Verification { outcome: word.into(), cap: None, ..decision };
        let index = self.book.tree.size();
        self.book.append(Content::Verification(decision));
        let (rid, salt) = (crate::audit::rid(index), URL_SAFE_NO_PAD.encode(SALT));
        writeln!(self.openings, "{rid},{salt},{transaction},2026-11-21,1,acct-1,").unwrap();
        index
    }

    fn report(&mut self, decision: u64, minor: i64) {
        let Content::Outcome(report) = outcome(&crate::audit::rid(decision), decision) else {
            panic!()
        };
        self.book.append(Content::Outcome(Outcome { dispensed_minor: minor, ..report }));
    }

    fn correct(&mut self, decision: u64, minor: i64) {
        let refers = Refers { rid: crate::audit::rid(decision), index: decision, origin: None };
        self.book.append(Content::Reversal(Reversal {
            refers,
            moved_minor: minor,
            currency: "KZT".into(),
            actor: actor(),
        }));
    }

    /// Approved, given and reported.
    fn paid(&mut self, transaction: &str, amount: i64) -> u64 {
        let index = self.decide(transaction, amount, "APPROVED");
        self.report(index, amount);
        index
    }

    fn path(&mut self, name: &str, text: &str) -> PathBuf {
        let dir = self.dir.get_or_insert_with(|| self.book.export());
        let file = dir.path().join(name);
        fs::write(&file, text).unwrap();
        file
    }

    fn compare(&mut self, journal: &str, with_salts: bool) -> Reconciliation {
        let journal = self.path("journal.csv", journal);
        let openings = self.openings.clone();
        let openings = with_salts.then(|| self.path("redemptions.csv", &openings));
        let sources = Sources {
            journal: &journal,
            format: &JournalFormat { zone: None, decimals: None },
            openings: openings.as_deref(),
            terminal: Some("ATM-004211"),
            window_ms: 1_500,
        };
        let dir = self.dir.as_ref().unwrap().path().to_owned();
        reconcile(&dir, &sources).unwrap()
    }
}

fn rules(found: &Reconciliation) -> BTreeMap<&'static str, usize> {
    found.differences.iter().fold(BTreeMap::new(), |mut rules, it| {
        *rules.entry(it.rule).or_default() += 1;
        rules
    })
}

/// A line of a journal: so many seconds after the first entry.
fn line(second: u64, transaction: &str, amount: i64, given: i64) -> String {
    format!("2026-11-21T02:03:{:02}.123Z;{transaction};{amount};{given}\n", 15 + second)
}

/// Three withdrawals: decided at seconds 0, 2 and 4, reported a second later.
fn three() -> Bank {
    let mut bank = Bank::new();
    for (transaction, amount) in [("T1", 100), ("T2", 200), ("T3", 300)] {
        bank.paid(transaction, amount);
    }
    bank
}

fn journal_of_three() -> String {
    [JOURNAL, &line(1, "T1", 100, 100), &line(3, "T2", 200, 200), &line(5, "T3", 300, 300)].concat()
}

#[test]
fn a_journal_that_agrees_is_clean_whether_its_lines_are_proved_or_likely() {
    for with_salts in [true, false] {
        let found = three().compare(&journal_of_three(), with_salts);
        assert!(found.is_clean(), "{:?}", found.differences);
        assert_eq!((found.lines, found.decisions, found.covered), (3, 3, 3));
        assert_eq!((found.journal_minor, found.ledger_minor), (600, 600));
        let by = (found.links.openings, found.links.by_time);
        assert_eq!(by, if with_salts { (3, 0) } else { (0, 3) });
    }
}

#[test]
fn cash_without_a_receipt_and_a_receipt_without_cash_are_found() {
    for with_salts in [true, false] {
        let journal = journal_of_three() + &line(40, "T9", 500, 500);
        let found = three().compare(&journal, with_salts);
        assert_eq!(rules(&found), [("cash-without-receipt", 1)].into());
        assert_eq!(found.differences[0].line, Some(5));
        let journal = [JOURNAL, &line(1, "T1", 100, 100), &line(5, "T3", 300, 300)].concat();
        let found = three().compare(&journal, with_salts);
        assert_eq!(rules(&found), [("receipt-without-cash", 1)].into());
        assert_eq!(found.differences[0].index, Some(2));
    }
}

#[test]
fn amounts_that_differ_are_found() {
    let journal = journal_of_three().replace(";200;200", ";200;150");
    for with_salts in [true, false] {
        assert_eq!(rules(&three().compare(&journal, with_salts)), [("cash-differs", 1)].into());
    }
    let more = journal_of_three().replace(";200;200", ";200;250");
    let found = rules(&three().compare(&more, true));
    assert_eq!(found, [("cash-differs", 1), ("more-than-approved", 1)].into());
    let asked = journal_of_three().replace(";200;200", ";900;200");
    assert_eq!(rules(&three().compare(&asked, true)), [("asked-differs", 1)].into());
}

#[test]
fn the_host_s_word_stands_above_the_terminal_s() {
    let mut bank = three();
    bank.correct(2, 0);
    let journal = journal_of_three().replace(";200;200", ";200;0");
    assert!(bank.compare(&journal, true).is_clean());
    let mut bank = three();
    bank.correct(2, 0);
    assert_eq!(rules(&bank.compare(&journal_of_three(), true)), [("cash-differs", 1)].into());
}

#[test]
fn cash_on_a_denial_and_cash_that_nobody_reported_are_found() {
    let mut bank = three();
    bank.decide("T4", 400, "DENIED");
    let journal = journal_of_three() + &line(7, "T4", 400, 400);
    let found = rules(&bank.compare(&journal, true));
    assert_eq!(found, [("cash-without-report", 1), ("not-approved", 1)].into());
    let mut bank = three();
    bank.decide("T4", 400, "APPROVED");
    assert_eq!(rules(&bank.compare(&journal, true)), [("cash-without-report", 1)].into());
    let mut nothing_given = three();
    nothing_given.decide("T4", 400, "APPROVED");
    assert!(nothing_given.compare(&journal_of_three(), true).is_clean());
}

#[test]
fn one_transaction_or_one_receipt_twice_is_found() {
    let journal = journal_of_three() + &line(5, "T3", 300, 300);
    let found = rules(&three().compare(&journal, true));
    assert_eq!(found, [("receipt-twice", 1), ("transaction-twice", 1)].into());
}

#[test]
fn an_opening_that_does_not_open_is_refused_and_ties_nothing() {
    let mut bank = three();
    bank.openings = bank.openings.replace(",T2,", ",T8,") + "x,y\n";
    let found = bank.compare(&journal_of_three(), true);
    let lines: Vec<u64> = found.refused_openings.iter().map(|it| it.line).collect();
    assert_eq!(lines, [3, 5]);
    assert!(found.refused_openings[0].reason.contains("does not open"));
    assert_eq!(rules(&found), [("cash-without-receipt", 1), ("receipt-without-cash", 1)].into());
}

#[test]
fn a_journal_may_name_receipts_itself() {
    let mut bank = three();
    let rid = crate::audit::rid;
    let journal = format!(
        "\u{feff}Time,Host_Transaction_Id,Amount,Dispensed,Receipt\r\n\
         \"2026-11-21T02:03:16Z\",a,100,100,{}\r\n2026-11-21T02:03:18Z,\"b,c\",200,200,{}\r\n\
         2026-11-21T02:03:20Z,d,300,300,{}\r\n",
        rid(0),
        rid(2),
        rid(4)
    );
    let found = bank.compare(&journal, false);
    assert!(found.is_clean(), "{found:?}");
    assert_eq!(found.links.named, 3);
}

#[test]
fn each_line_that_cannot_be_read_is_named_with_its_reason() {
    let journal = journal_of_three()
        + "yesterday;T5;1;1\n2026-11-21T02:03:16Z;;1;1\n2026-11-21T02:03:16Z;T6;1,5;1\n1;2\n";
    let found = three().compare(&journal, true);
    let lines: Vec<u64> = found.refused.iter().map(|it| it.line).collect();
    assert_eq!(lines, [5, 6, 7, 8]);
    let reasons = ["none that is known", "is empty", "no integer", "2 columns, not 4"];
    for (refused, reason) in found.refused.iter().zip(reasons) {
        assert!(refused.reason.contains(reason), "{refused:?}");
    }
    assert!(!found.is_clean() && found.differences.is_empty());
}

#[derive(clap::Parser)]
struct CommandLine {
    #[command(flatten)]
    args: tulga::cli::audit_reconcile::Args,
}

#[test]
fn the_command_says_by_its_exit_code_whether_everything_agrees() {
    let mut bank = three();
    let good = bank.path("good.csv", &journal_of_three());
    let local = journal_of_three().replace("2026-11-21T02:03", "21.11.2026 07:03");
    let local = local.replace(".123Z", "").replace(";100;100", ";1,00;1,00");
    let local = local.replace(";200;200", ";2.00;2").replace(";300;300", ";3;3,0");
    let local = bank.path("local.csv", &local);
    let bad = bank.path("bad.csv", &journal_of_three().replace(";300;300", ";300;299"));
    let none = bank.path("none.csv", "a;b\n1;2\n");
    let openings = bank.openings.clone();
    let salts = bank.path("redemptions.csv", &openings);
    let dir = bank.dir.as_ref().unwrap().path().to_owned();
    let trust = bank.book.trust().to_string();
    let exit = |journal: &Path, more: &[&str]| {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let fixed = ["reconcile".into(), text(&dir), "--journal".into(), text(journal)];
        let line = fixed.into_iter().chain(more.iter().map(|it| (*it).to_owned()));
        let args = <CommandLine as clap::Parser>::try_parse_from(line).unwrap().args;
        tulga::cli::audit_reconcile::run(&args).unwrap()
    };
    let salts = salts.to_str().unwrap();
    let (clean, differs, usage) = (ExitCode::SUCCESS, ExitCode::from(1), ExitCode::from(64));
    assert_eq!(exit(&good, &["--salts", salts, "--trust", &trust]), clean);
    assert_eq!(exit(&good, &["--json"]), clean);
    assert_eq!(
        exit(&local, &["--zone", "Asia/Almaty", "--decimals", "2", "--salts", salts]),
        clean
    );
    assert_eq!(exit(&local, &["--decimals", "2"]), differs, "no zone");
    assert_eq!(exit(&bad, &["--salts", salts]), differs);
    assert_eq!(exit(&good, &["--trust", &"0".repeat(64)]), differs);
    assert_eq!(exit(&none, &[]), usage);
    assert_eq!(exit(Path::new("/nowhere"), &[]), usage);
    assert_eq!(exit(&good, &["--zone", "Mars/Olympus"]), usage);
}
