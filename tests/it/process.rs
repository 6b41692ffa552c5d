//! The built binary as a running gateway: a data folder of its own, a free port, and what it logs.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tulga::app::DataDir;
use tulga::domain::id::PrincipalName;
use tulga::pki::Role;

/// A configuration and a data folder; each gateway started here takes a free port.
pub struct Home {
    dir: tempfile::TempDir,
}

/// A gateway that does not outlive its test.
pub struct Gateway {
    child: Child,
    /// `127.0.0.1:40123`.
    pub address: String,
    log: Arc<Mutex<String>>,
}

impl Home {
    /// Where one person erases and adds captures: what takes two has tests of its own.
    pub fn new() -> Self {
        Self::configured("[four_eyes]\nacts = []\n")
    }

    /// Where these take two people, as they do by default.
    pub fn by_two() -> Self {
        Self::configured("")
    }

    fn configured(four_eyes: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\ndeadline_ms = 60000\n\
             [paths]\ndata_dir = \"{}\"\nmodels_dir = \"{}\"\n\
             [rate]\nper_terminal_per_minute = 1000000\n\
             [sensors]\ncapture_seen_hours = 0\n{four_eyes}\
             [ledger]\ncheckpoint_interval_ms = 60000\n",
            dir.path().join("data").display(),
            Path::new(env!("CARGO_MANIFEST_DIR")).join("models").display(),
        );
        std::fs::write(dir.path().join("tulga.toml"), config).unwrap();
        Self { dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn data(&self) -> DataDir {
        DataDir::at(self.dir.path().join("data"))
    }

    /// `tulga --config … ARGUMENTS`, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tulga"));
        command.arg("--config").arg(self.dir.path().join("tulga.toml")).args(arguments);
        command
    }

    /// The same for a gateway whose system calls are looked at from outside.
    pub fn traceable(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command.env("TULGA_TRACEABLE", "1");
        command
    }

    /// Starts the gateway and waits until it listens.
    pub fn serve(&self) -> Gateway {
        self.serve_as(self.command(&["serve"]))
    }

    /// The same, started by `command`: with another environment, or under a tracer that leaves the
    /// standard error stream to it.
    pub fn serve_as(&self, mut command: Command) -> Gateway {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let (log, address) = read_log(child.stderr.take().unwrap());
        let Ok(address) = address.recv_timeout(Duration::from_mins(2)) else {
            panic!("the gateway does not start: {}", log.lock().unwrap());
        };
        Gateway { child, address, log }
    }
}

/// Collects the lines of the standard error stream; the address comes when the gateway says it.
fn read_log(stream: ChildStderr) -> (Arc<Mutex<String>>, mpsc::Receiver<String>) {
    let log = Arc::new(Mutex::new(String::new()));
    let (say, address) = mpsc::channel();
    let lines = Arc::clone(&log);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            if let Some(address) = line.strip_prefix("tulga: serving on https://") {
                // Nobody waits any more when the test has failed.
                drop(say.send(address.to_owned()));
            }
            let mut lines = lines.lock().unwrap();
            lines.push_str(&line);
            lines.push('\n');
        }
    });
    (log, address)
}

impl Gateway {
    /// Fails where it does not log these words. They are waited for: what was logged before an answer may come
    /// through its pipe after it.
    pub fn assert_logs(&self, words: &str) {
        let until = Instant::now() + Duration::from_secs(20);
        while !self.log().contains(words) {
            assert!(Instant::now() < until, "{words:?} is not logged: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and whether it drained and ended well.
    pub fn terminate(&mut self) -> bool {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap().success()
    }

    /// How it ended.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }

    /// Runs a command that speaks to this gateway.
    pub fn tulga(&self, home: &Home, arguments: &[&str]) -> Output {
        home.command(arguments).args(["--gateway", &self.address]).output().unwrap()
    }

    /// The same, which must end well.
    pub fn tulga_ok(&self, home: &Home, arguments: &[&str]) {
        let output = self.tulga(home, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tulga {arguments:?}: {said}");
    }

    /// A connection with a certificate of the data folder.
    pub async fn connect(&self, home: &Home, role: Role, name: &str) -> Channel {
        let (pki, name) = (home.data().pki(), PrincipalName::try_from(name).unwrap());
        let certificate = pki.read_certificate(&pki.client_path(role, &name)).unwrap();
        let key = pki.read_key(&pki.client_key_path(role, &name)).unwrap();
        self.connect_as(home, Some(Identity::from_pem(certificate, key.as_str()))).await
    }

    /// A connection with this certificate, or with none.
    pub async fn connect_as(&self, home: &Home, identity: Option<Identity>) -> Channel {
        let pki = home.data().pki();
        let authority = pki.read_certificate(&pki.authority_path()).unwrap();
        let tls = ClientTlsConfig::new()
            .domain_name("localhost")
            .ca_certificate(Certificate::from_pem(authority));
        let tls = match identity {
            Some(identity) => tls.identity(identity),
            None => tls,
        };
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await.unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have been killed before.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whether a tool is there. Where it is missing the test is skipped, with a word of how to get it;
/// under `CI=true`, which installs them all, that is a failure.
pub fn has(program: &str, arguments: &[&str], how: &str) -> bool {
    let there = Command::new(program).args(arguments).output().is_ok_and(|it| it.status.success());
    if !there {
        let what = format!("{program} {} does not work here; {how}", arguments.join(" "));
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{what}");
        eprintln!("skipped: {what}");
    }
    there
}

/// A photograph of `demo/`.
pub fn photograph(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo").join(name)
}
