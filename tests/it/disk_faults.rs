//! A disk that refuses: each write and sync of a real gateway on `SQLite` fails in its turn, with an
//! error of the disk and with a full one.
//!
//! `strace` is attached to the running gateway and lets the n-th call of a kind on one file fail. What
//! the client asks for meanwhile is answered UNAVAILABLE or has its receipt in the ledger; afterwards the
//! gateway serves again, and in the end the ledger verifies, without a gap. By default a few turns of each
//! kind are tried, with `TULGA_FAULTS=full` many.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use tonic::Code;
use tonic::transport::Channel;
use tulga::app::trust_fingerprint;
use tulga::audit::{Options, find_receipt, verify_export};
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::verification_service_client::VerificationServiceClient;

use crate::process::{Gateway, Home, has, photograph};
use crate::site::{begin, verify};

const TERMINAL: &str = "ATM-DISK";
const CARD: &str = "card-token-1";
const ERRORS: [&str; 2] = ["EIO", "ENOSPC"];

/// A file that an answer waits for, and the calls on it that may fail.
struct Target {
    file: &'static str,
    calls: &'static str,
    /// The turns that are tried, and those of the full table.
    turns: (u32, u32),
    /// How many calls fail one behind the other: what is tried again at once must fail again to be refused.
    in_a_row: u32,
    /// Reports made while the tracer is attached.
    reports: u32,
}

const TARGETS: [Target; 6] = [
    Target { file: "tulga.sqlite-wal", calls: "pwrite64", turns: (4, 40), in_a_row: 2, reports: 4 },
    Target {
        file: "tulga.sqlite-wal",
        calls: "fdatasync,fsync",
        turns: (2, 6),
        in_a_row: 2,
        reports: 6,
    },
    Target { file: "last-signed-head", calls: "pwrite64", turns: (2, 6), in_a_row: 1, reports: 6 },
    Target {
        file: "last-signed-head",
        calls: "fdatasync,fsync",
        turns: (2, 6),
        in_a_row: 1,
        reports: 6,
    },
    // The journal is copied into the database once it is long.
    Target { file: "tulga.sqlite", calls: "pwrite64", turns: (1, 12), in_a_row: 1, reports: 250 },
    Target {
        file: "tulga.sqlite",
        calls: "fdatasync,fsync",
        turns: (1, 2),
        in_a_row: 1,
        reports: 250,
    },
];

/// What became of one fault.
struct Row {
    what: String,
    answered: u32,
    unavailable: u32,
    struck: u32,
}

#[test]
fn every_write_and_sync_may_fail_and_no_receipt_is_lost() {
    if !has("strace", &["true"], "get it with: apt-get install strace, and allow ptrace") {
        return;
    }
    let is_full = std::env::var_os("TULGA_FAULTS").is_some_and(|it| it == "full");
    let home = Home::new();
    let mut gateway = home.serve_as(home.traceable(&["serve"]));
    gateway.tulga_ok(&home, &["terminal", "register", TERMINAL]);
    enroll(&home, &gateway);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut load = runtime.block_on(Load::begin(&home, &gateway));
    let mut table = Vec::new();
    for target in &TARGETS {
        for error in ERRORS {
            let turns = if is_full { target.turns.1 } else { target.turns.0 };
            for turn in 1..=turns {
                let row = runtime.block_on(load.under(&home, &gateway, target, error, turn));
                table.push(row);
            }
        }
    }
    println!("| fault | struck | answered with a receipt | UNAVAILABLE |");
    println!("| --- | --- | --- | --- |");
    for Row { what, struck, answered, unavailable } in &table {
        println!("| {what} | {struck} | {answered} | {unavailable} |");
    }
    let struck: u32 = table.iter().map(|row| row.struck).sum();
    assert!(struck >= 20, "only {struck} calls failed");
    assert!(table.iter().any(|row| row.unavailable > 0), "nothing was ever refused");

    // The same after a clean end and a start, which reads everything again.
    drop(load.terminal);
    assert!(gateway.terminate(), "{}", gateway.log());
    let gateway = home.serve_as(home.traceable(&["serve"]));
    let export = home.path().join("export");
    gateway.tulga_ok(&home, &["audit", "export", export.to_str().unwrap()]);
    for (index, jws) in &load.held {
        let found = find_receipt(&export, *index).unwrap().map(String::into_bytes);
        assert_eq!(found.as_ref(), Some(jws), "receipt {index}");
    }
    let trust = trust_fingerprint(&home.data()).unwrap();
    let report = verify_export(&export, Some(&trust), &Options::default(), &mut |_| ()).unwrap();
    assert!(report.is_good(), "{:?}", report.findings);
    let lines = std::fs::read_to_string(export.join("receipts.jws")).unwrap().lines().count();
    let checkpoint = std::fs::read_to_string(export.join("checkpoint")).unwrap();
    assert_eq!(checkpoint.lines().nth(1), Some(lines.to_string().as_str()), "a gap");
}

fn enroll(home: &Home, gateway: &Gateway) {
    let pictures = ["obama.jpg", "obama3.jpg"].map(photograph);
    let mut arguments = vec!["enroll"];
    arguments.extend(pictures.iter().map(|path| path.to_str().unwrap()));
    arguments.extend(["--iin", "000000300017", "--card", CARD]);
    arguments.extend(["--subject", "the customer", "--consent-ref", "archive/7"]);
    gateway.tulga_ok(home, &arguments);
}

/// One client that reports what became of the cash of one approval, again and again, each time another
/// amount: each report is an entry, and its receipt comes back.
struct Load {
    terminal: VerificationServiceClient<Channel>,
    /// Index to exact bytes of every receipt that came back.
    held: BTreeMap<u64, Vec<u8>>,
    next: i64,
}

impl Load {
    async fn begin(home: &Home, gateway: &Gateway) -> Self {
        let channel = gateway.connect(home, Role::Terminal, TERMINAL).await;
        let mut terminal = VerificationServiceClient::new(channel);
        let picture = std::fs::read(photograph("obama2.jpg")).unwrap();
        let opened = terminal.begin_capture(begin("PAID", CARD)).await.unwrap().into_inner();
        let asked = verify("PAID", 1, &opened.challenge, picture.into());
        let decision = terminal.verify(asked).await.unwrap().into_inner();
        assert_eq!(decision.outcome(), proto::Outcome::Approved, "{:?}", decision.reasons);
        let index = decision.position.unwrap().index;
        Self { terminal, held: BTreeMap::from([(index, decision.receipt_jws)]), next: 0 }
    }

    /// Makes reports while a call of the target fails in its turn.
    async fn under(
        &mut self,
        home: &Home,
        gateway: &Gateway,
        target: &Target,
        error: &str,
        turn: u32,
    ) -> Row {
        let what = format!("{} {}, turn {turn}, {error}", target.file, target.calls);
        let path = home.data().path().join(target.file);
        let tracer = Tracer::attach(gateway, &path, target, error, turn);
        let mut row = Row { what, answered: 0, unavailable: 0, struck: 0 };
        for _ in 0..target.reports {
            match self.report().await {
                Ok(()) => row.answered += 1,
                Err(Code::Unavailable) => row.unavailable += 1,
                Err(code) => panic!("{}: {code:?}\n{}", row.what, gateway.log()),
            }
        }
        row.struck = tracer.detach();
        // The disk is well again: so is the gateway.
        let until = Instant::now() + Duration::from_secs(10);
        while self.report().await.is_err() {
            assert!(Instant::now() < until, "{} is not got over: {}", row.what, gateway.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        row
    }

    async fn report(&mut self) -> Result<(), Code> {
        self.next += 1;
        let request = proto::ReportOutcomeRequest {
            business_date: "2026-11-21".into(),
            host_transaction_id: "PAID".into(),
            attempt: 1,
            outcome: proto::CashOutcome::Taken.into(),
            dispensed_minor: self.next,
            currency: "KZT".into(),
            footage: None,
        };
        let answer = self.terminal.report_outcome(request).await.map_err(|status| status.code())?;
        let proto::ReportOutcomeResponse { receipt_jws, position, salts: _ } = answer.into_inner();
        let index = position.unwrap().index;
        let before = self.held.insert(index, receipt_jws);
        assert!(before.is_none(), "two receipts at {index}");
        Ok(())
    }
}

/// A tracer on the running gateway, which lets one call of a kind on one file fail.
struct Tracer {
    strace: Child,
    log: PathBuf,
    /// What it says, which must have somewhere to go.
    _said: BufReader<ChildStderr>,
}

impl Tracer {
    fn attach(
        gateway: &Gateway,
        path: &std::path::Path,
        target: &Target,
        error: &str,
        turn: u32,
    ) -> Self {
        let (calls, last) = (target.calls, turn + target.in_a_row - 1);
        let log = path.with_extension("strace");
        let mut strace = Command::new("strace")
            .args(["-f", "-p", &gateway.id().to_string(), "-P", path.to_str().unwrap()])
            .args(["-e", &format!("trace={calls}"), "-e", "signal=none"])
            .args(["-e", &format!("inject={calls}:error={error}:when={turn}..{last}")])
            .arg("-o")
            .arg(&log)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // "strace: Process N attached with M threads" comes once it sees every thread.
        let mut said = BufReader::new(strace.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("attached"), "{line}");
        Self { strace, log, _said: said }
    }

    /// How many calls failed.
    fn detach(mut self) -> u32 {
        let pid = self.strace.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        self.strace.wait().unwrap();
        let log = std::fs::read_to_string(&self.log).unwrap();
        std::fs::remove_file(&self.log).unwrap();
        let injected = log.lines().filter(|line| line.ends_with("(INJECTED)")).count();
        u32::try_from(injected).unwrap()
    }
}
