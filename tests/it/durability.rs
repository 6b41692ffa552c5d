//! What is answered was on the disk before: seen from outside, in the system calls.
//!
//! A test that kills the process does not see this, since the kernel keeps what a dead process has
//! written: it passes without any sync.

use std::collections::HashMap;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tulga::domain::time::UnixMillis;
use tulga::store::sql::SqliteStore;
use tulga::store::{CheckpointRow, Store as _};

#[test]
fn each_answer_comes_after_its_commit_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["durability::a_process_that_commits_and_then_answers", "--exact", "--ignored"])
        .env(DIR, dir.path())
        .stdout(Stdio::null());
    let Some(mut traced) = Traced::spawn(command, dir.path()) else { return };
    assert!(traced.child.wait().unwrap().success());
    let calls = traced.calls();
    let is_answer = |line: &str| line.contains("\"answer ");
    assert_eq!(answers_after_sync(&calls, is_answer), Ok(COMMITS));

    // The same calls without the syncs, and with the syncs behind the answers, must not pass.
    let is_sync = |call: &&Call| matches!(call, Call::Synced(_));
    let unsynced: Vec<_> = calls.iter().filter(|call| !is_sync(call)).cloned().collect();
    assert!(answers_after_sync(&unsynced, is_answer).is_err());
    let late = [unsynced, calls.iter().filter(is_sync).cloned().collect()].concat();
    assert!(answers_after_sync(&late, is_answer).is_err());
}

/// One client that waits for each answer of a gateway under strace: before the bytes of each reply
/// to `Verify`, the journal and the record of the last signed head are on the disk.
#[test]
fn each_receipt_leaves_the_gateway_after_it_is_on_the_disk() {
    let home = Home::new();
    // What is not traced: making the data folder and registering the terminal.
    let mut gateway = home.serve();
    gateway.tulga_ok(&home, &["terminal", "register", "ATM-1"]);
    assert!(gateway.terminate());
    let Some((mut traced, log)) = Traced::command(&home.command(&["serve"]), home.path()) else {
        return;
    };
    traced.stdout(Stdio::null());
    let mut gateway = home.serve_as(traced);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let receipts = runtime.block_on(async {
        let channel = gateway.connect(&home, Role::Terminal, "ATM-1").await;
        let mut terminal = VerificationServiceClient::new(channel);
        let picture = DecodedImage::from_rgb(160, 120, vec![120; 160 * 120 * 3]).unwrap();
        let picture = encode_png(&picture).unwrap();
        let mut receipts = 0;
        for number in 0..COMMITS {
            let id = format!("T{number}");
            let opened = terminal.begin_capture(begin(&id, "card")).await.unwrap().into_inner();
            mark(number);
            let asked = verify(&id, 1, &opened.challenge, picture.clone().into());
            let answer = terminal.verify(asked).await.unwrap().into_inner();
            receipts += usize::from(!answer.receipt_jws.is_empty());
        }
        receipts
    });
    assert_eq!(receipts, COMMITS);
    gateway.terminate();
    let calls = Traced { child: None, log }.calls();
    let (journal, record) = (answers_after_sync(&calls, is_reply, is_journal), answers_after_sync(&calls, is_reply, is_record));
    assert_eq!((journal, record), (Ok(COMMITS), Ok(COMMITS)));
}

#[test]
fn a_sync_that_another_thread_interrupts_counts_when_it_returns() {
    let log = "\
7 pwrite64(9</d/t.sqlite-wal>, \"x\"..., 24, 32) = 24
7 fdatasync(9</d/t.sqlite-wal> <unfinished ...>
8 write(1</d/out>, \"answer 0\\n\", 9) = 9
7 <... fdatasync resumed>) = 0
8 write(1</d/out>, \"answer 1\\n\", 9) = 9
7 fsync(9</d/t.sqlite-wal>) = -1 EIO (Input/output error)
";
    let calls = parse(log);
    assert_eq!(calls.len(), 4, "a sync that failed is none: {calls:?}");
    assert!(answers_after_sync(&calls, |line| line.contains("answer 0")).is_err());
    assert_eq!(answers_after_sync(&calls, |line| line.contains("answer 1")), Ok(1));
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

/// A process whose writes, syncs and sends are written down by strace.
pub struct Traced {
    /// The process itself (strace stands behind it): to be waited for, signalled or killed.
    pub child: Child,
    log: PathBuf,
}

/// A system call that has returned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Call {
    /// Bytes went to a database file or its journal.
    Written(PathBuf),
    /// What was written to this file until the call began is on the disk.
    Synced(PathBuf),
    /// Bytes went elsewhere (a socket, a terminal); the whole line.
    Sent(String),
}

impl Traced {
    /// Starts the command under strace, which writes into `dir`; `None` where there is no strace,
    /// with a word of how to get it.
    pub fn spawn(command: Command, dir: &Path) -> Option<Self> {
        let log = dir.join("strace.log");
        let mut traced = Command::new("strace");
        // -D: the process we start is the command itself, and strace its companion.
        traced.args(["-D", "-f", "-y", "-s", "64", "-e", "signal=none", "-e"]);
        traced.arg(format!("trace={CALLS}")).arg("-o").arg(&log);
        traced.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => traced.env(name, value),
                None => traced.env_remove(name),
            };
        }
        if let Some(dir) = command.get_current_dir() {
            traced.current_dir(dir);
        }
        match traced.stdout(Stdio::null()).spawn() {
            Ok(child) => Some(Self { child, log }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                eprintln!("skipped: strace is not installed (Debian: apt-get install strace)");
                None
            }
            Err(error) => panic!("strace does not start: {error}"),
        }
    }

    /// The calls so far, all of them once the process has ended.
    pub fn calls(&mut self) -> Vec<Call> {
        let ended = self.child.try_wait().unwrap().is_some();
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            // strace writes the last line a moment after the process is gone.
            let id = self.child.id().to_string();
            // Short process ids are padded with blanks.
            let ends = |line: &str| {
                let mut words = line.split_whitespace();
                words.next() == Some(&id) && words.next() == Some("+++")
            };
            if !ended || log.lines().any(ends) {
                return parse(&log);
            }
            assert!(Instant::now() < until, "strace does not come to an end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        // An ended process cannot be killed, and that is as well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// How many lines are answers, if before each of them the journal was written and then synced, with
/// no write to it left unsynced; else what is wrong. For one client that waits for each answer:
/// answers that share a commit would be told apart from their sync.
pub fn answers_after_sync(
    calls: &[Call],
    is_answer: impl Fn(&str) -> bool,
) -> Result<usize, String> {
    let mut answers = 0;
    let mut unsynced = 0;
    let mut synced_since_answer = false;
    for call in calls {
        match call {
            Call::Written(path) if is_journal(path) => {
                unsynced += 1;
                synced_since_answer = false;
            }
            Call::Synced(path) if is_journal(path) => {
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
            } else if path.to_string_lossy().contains(".sqlite") {
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

/// How many commits the traced process makes.
const COMMITS: usize = 5;
const DIR: &str = "TULGA_TEST_DURABILITY_DIR";
const CALLS: &str = "fdatasync,fsync,pwrite64,pwritev,write,writev,sendto,sendmsg";
