//! What is answered was on the disk before: seen from outside, in the system calls.
//!
//! A test that kills the process does not see this, since the kernel keeps what a dead process has
//! written: it passes without any sync.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tulga::capture::{DecodedImage, encode_png};
use tulga::domain::time::UnixMillis;
use tulga::pki::Role;
use tulga::proto::verification_service_client::VerificationServiceClient;
use tulga::store::sql::SqliteStore;
use tulga::store::{CheckpointRow, Store as _};

use crate::process::{Home, has};
use crate::site::{begin, verify};

#[test]
fn each_answer_comes_after_its_commit_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["durability::a_process_that_commits_and_then_answers", "--exact", "--ignored"])
        .env(DIR, dir.path());
    let Some((mut traced, trace)) = Trace::of(&command, dir.path()) else { return };
    let mut child = traced.stdout(Stdio::null()).spawn().unwrap();
    assert!(child.wait().unwrap().success());
    let calls = trace.calls_of(child.id(), 0);
    let is_answer = |line: &str| line.contains("\"answer ");
    assert_eq!(answers_after_sync(&calls, is_answer, is_journal), Ok(COMMITS));

    // The same calls without the syncs, and with the syncs behind the answers, must not pass.
    let is_sync = |call: &&Call| matches!(call, Call::Synced(_));
    let unsynced: Vec<_> = calls.iter().filter(|call| !is_sync(call)).cloned().collect();
    assert!(answers_after_sync(&unsynced, is_answer, is_journal).is_err());
    let late = [unsynced, calls.iter().filter(is_sync).cloned().collect()].concat();
    assert!(answers_after_sync(&late, is_answer, is_journal).is_err());
}

/// One client that waits for each answer of a real gateway: before the bytes of each reply to
/// `Verify` leave, the database's journal and the record of the last signed head are on the disk.
#[test]
fn each_receipt_leaves_the_gateway_after_it_is_on_the_disk() {
    let home = Home::new();
    let mut gateway = home.serve();
    gateway.tulga_ok(&home, &["terminal", "register", "ATM-1"]);
    assert!(gateway.terminate());
    let Some((traced, trace)) = Trace::of(&home.traceable(&["serve"]), home.path()) else { return };
    let mut gateway = home.serve_as(traced);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    // From after the handshake and the first challenge on.
    let from = runtime.block_on(async {
        let channel = gateway.connect(&home, Role::Terminal, "ATM-1").await;
        let mut terminal = VerificationServiceClient::new(channel);
        terminal.begin_capture(begin("T", "card")).await.unwrap();
        let from = trace.size();
        for number in 0..COMMITS {
            let id = format!("T{number}");
            let opened = terminal.begin_capture(begin(&id, "card")).await.unwrap().into_inner();
            let asked = verify(&id, 1, &opened.challenge, nobody());
            let answer = terminal.verify(asked).await.unwrap().into_inner();
            assert!(answer.receipt_jws.len() > RECEIPT_BYTES_MIN);
        }
        from
    });
    assert!(gateway.terminate());
    let calls = trace.calls_of(gateway.id(), from);
    for is_file in [is_journal, is_head_record] {
        assert_eq!(answers_after_sync(&calls, is_reply_with_receipt, is_file), Ok(COMMITS));
    }
}

/// A picture without a face: decided, and cheap.
fn nobody() -> Bytes {
    let picture = DecodedImage::from_rgb(160, 120, vec![120; 160 * 120 * 3]).unwrap();
    encode_png(&picture).unwrap().into()
}

#[test]
fn a_sync_that_another_thread_interrupts_counts_when_it_returns() {
    let log = "\
7 pwrite64(9</d/t.sqlite-wal>, \"x\"..., 24, 32) = 24
7 fdatasync(9</d/t.sqlite-wal> <unfinished ...>
8 write(1</dev/pts/0>, \"answer 0\\n\", 9) = 9
7 <... fdatasync resumed>) = 0
8 write(1</dev/pts/0>, \"answer 1\\n\", 9) = 9
7 fsync(9</d/t.sqlite-wal>) = -1 EIO (Input/output error)
";
    let calls = parse(log);
    assert_eq!(calls.len(), 4, "a sync that failed is none: {calls:?}");
    assert!(answers_after_sync(&calls, |line| line.contains("answer 0"), is_journal).is_err());
    assert_eq!(answers_after_sync(&calls, |line| line.contains("answer 1"), is_journal), Ok(1));
}

/// Runs alone as the traced process; by itself it shows that the commits can be read back.
#[tokio::test]
#[ignore = "started under strace by the test above"]
async fn a_process_that_commits_and_then_answers() {
    let own = tempfile::tempdir().unwrap();
    let dir = std::env::var_os(DIR).map_or_else(|| own.path().to_owned(), PathBuf::from);
    let store = SqliteStore::open(&dir.join("traced.sqlite")).await.unwrap();
    for number in 0..COMMITS {
        let size = u64::try_from(number).unwrap();
        let row = CheckpointRow { size, text: "note".into(), time: UnixMillis::new(1) };
        let mut unit = store.begin().await.unwrap();
        unit.insert_checkpoint("origin", &row).await.unwrap();
        unit.commit().await.unwrap();
        // Not println!, which the test harness keeps to itself.
        std::io::stdout().write_all(format!("answer {number}\n").as_bytes()).unwrap();
    }
    assert_eq!(store.checkpoints("origin", 0, 100).await.unwrap().len(), COMMITS);
}

/// What strace writes down of a process: writes, syncs and sends.
struct Trace {
    log: PathBuf,
}

/// A system call.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Call {
    /// Bytes went to a file.
    Written(PathBuf),
    /// What was written to this file until the call began is on the disk.
    Synced(PathBuf),
    /// Bytes went elsewhere (a socket, a pipe, a device); the whole line.
    Sent(String),
}

impl Trace {
    /// The command under strace, which writes into `dir`; `None` where there is no strace.
    fn of(command: &Command, dir: &Path) -> Option<(Command, Self)> {
        if !has("strace", &["true"], "get it with: apt-get install strace, and allow ptrace") {
            return None;
        }
        let log = dir.join("strace.log");
        let mut traced = Command::new("strace");
        // -D: the process we start is the command itself, and strace its companion.
        traced.args(["-D", "-f", "-y", "-s", "64", "-e", "signal=none", "-e"]);
        traced.arg(format!("trace={CALLS}")).arg("-o").arg(&log);
        traced.arg(command.get_program()).args(command.get_args());
        traced.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Some((traced, Self { log }))
    }

    /// How many bytes of it there are.
    fn size(&self) -> usize {
        fs::read(&self.log).unwrap().len()
    }

    /// The calls of a process that has ended, from a byte of the log on.
    fn calls_of(&self, pid: u32, from: usize) -> Vec<Call> {
        let until = Instant::now() + Duration::from_secs(10);
        let pid = pid.to_string();
        // Short process ids are padded with blanks.
        let is_end = |line: &str| {
            let mut words = line.split_whitespace();
            words.next() == Some(&pid) && words.next() == Some("+++")
        };
        loop {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            // strace writes the last line a moment after the process is gone.
            if log.lines().any(is_end) {
                return parse(&log[from..]);
            }
            assert!(Instant::now() < until, "strace does not come to an end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// How many lines are answers, if before each of them the file was written and then synced, with no
/// write to it left unsynced; else what is wrong. For one client that waits for each answer: answers
/// that share a commit would be told apart from their sync.
fn answers_after_sync(
    calls: &[Call],
    is_answer: impl Fn(&str) -> bool,
    is_file: impl Fn(&Path) -> bool,
) -> Result<usize, String> {
    let mut answers = 0;
    let mut unsynced = 0;
    let mut synced_since_answer = false;
    for call in calls {
        match call {
            Call::Written(path) if is_file(path) => {
                unsynced += 1;
                synced_since_answer = false;
            }
            Call::Synced(path) if is_file(path) => {
                unsynced = 0;
                synced_since_answer = true;
            }
            Call::Sent(line) if is_answer(line) => {
                if unsynced > 0 || !synced_since_answer {
                    return Err(format!("{unsynced} writes not on the disk before: {line}"));
                }
                answers += 1;
                synced_since_answer = false;
            }
            _ => {}
        }
    }
    Ok(answers)
}

/// The calls in a log of `strace -f -y`, in the order in which they returned; writes at their start.
fn parse(log: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    // A sync tells of what was written before it began, so it is put where it returned, and a write
    // that came in between makes it void.
    let mut under_way: HashMap<&str, (PathBuf, usize)> = HashMap::new();
    for line in log.lines() {
        let Some((pid, call)) = line.split_once(char::is_whitespace) else { continue };
        let call = call.trim_start();
        let succeeded = call.rsplit_once(" = ").is_some_and(|(_, code)| !code.starts_with('-'));
        let synced = call.starts_with("fdatasync(") || call.starts_with("fsync(");
        if call.starts_with("<... fdatasync resumed") || call.starts_with("<... fsync resumed") {
            let Some((path, at)) = under_way.remove(pid) else { continue };
            let void = calls.iter().skip(at).any(|call| *call == Call::Written(path.clone()));
            if succeeded && !void {
                calls.push(Call::Synced(path));
            }
        } else if let Some(path) = path_of(call) {
            if synced && call.contains("<unfinished") {
                under_way.insert(pid, (path, calls.len()));
            } else if synced {
                calls.extend(succeeded.then_some(Call::Synced(path)));
            } else if path.is_absolute() && !path.starts_with("/dev") {
                calls.push(Call::Written(path));
            } else {
                calls.push(Call::Sent(line.to_owned()));
            }
        }
    }
    calls
}

/// The file of a call's first argument: `fdatasync(9</d/t.sqlite-wal>)`.
fn path_of(call: &str) -> Option<PathBuf> {
    let (_, arguments) = call.split_once('(')?;
    let (_, path) = arguments.split_once('<')?;
    path.split_once('>').map(|(path, _)| PathBuf::from(path))
}

fn is_journal(path: &Path) -> bool {
    path.to_string_lossy().ends_with("-wal")
}

fn is_head_record(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "last-signed-head")
}

/// The length tells a reply that carries a receipt from HTTP/2's own frames and from challenges; the
/// bytes are under TLS.
fn is_reply_with_receipt(line: &str) -> bool {
    let is_socket = line.contains("<socket:[") || line.contains("<TCP");
    // writev(9<socket:[7]>, [{iov_base="\27\3\3"..., iov_len=2345}, …], or
    // sendto(9<socket:[7]>, "\27\3\3"..., 2345, …
    let number = |text: &str| {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<usize>().unwrap_or(0)
    };
    let vectored: usize = line.split("iov_len=").skip(1).map(number).sum();
    let plain = line.split_once("\"..., ").map_or(0, |(_, rest)| number(rest));
    is_socket && vectored.max(plain) > RECEIPT_BYTES_MIN
}

/// How many commits the traced process makes.
const COMMITS: usize = 5;
/// Shorter than every receipt, longer than everything else that a gateway sends a terminal.
const RECEIPT_BYTES_MIN: usize = 1000;
const DIR: &str = "TULGA_TEST_DURABILITY_DIR";
const CALLS: &str = "fdatasync,fsync,pwrite64,pwritev,write,writev,sendto,sendmsg";
