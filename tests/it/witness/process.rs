//! The processes: a bank's gateway with its configuration, and witnesses with theirs.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tulga::app::trust_fingerprint;
use tulga::ledger::WitnessKey;

use super::{Export, wait_for};
use crate::process::{Gateway, Home};

/// A gateway's home with checkpoints in quick succession.
pub struct Bank {
    pub home: Home,
}

impl Bank {
    pub fn new() -> Self {
        let home = Home::new();
        let bank = Self { home };
        let config = bank.config();
        let slow = "checkpoint_interval_ms = 60000";
        assert!(config.contains(slow));
        bank.set_config(&config.replace(slow, "checkpoint_interval_ms = 200"));
        assert!(bank.home.command(&["init"]).output().unwrap().status.success());
        bank
    }

    fn config(&self) -> String {
        fs::read_to_string(self.home.path().join("tulga.toml")).unwrap()
    }

    fn set_config(&self, text: &str) {
        fs::write(self.home.path().join("tulga.toml"), text).unwrap();
    }

    pub fn configure(&self, more: &str) {
        self.set_config(&format!("{}{more}", self.config()));
    }

    /// Makes these the ledger's witnesses, called w0, w1…
    pub fn trust(
        &self,
        witnesses: &[(&WitnessHome, &WitnessProcess)],
        quorum: &str,
        lapse_max_s: u32,
    ) {
        let line = |(place, (home, process)): (usize, &(&WitnessHome, &WitnessProcess))| {
            format!("witness w{place} {} http://{}/\n", home.key, process.address)
        };
        let policy: String = witnesses.iter().enumerate().map(line).collect();
        let file = self.home.path().join("witnesses.policy");
        fs::write(&file, format!("# who witnesses\n{policy}{quorum}")).unwrap();
        self.configure(&format!(
            "[witnesses]\npolicy = '{}'\nlapse_max_s = {lapse_max_s}\ndeadline_ms = 2000\n",
            file.display()
        ));
    }

    pub fn serve(&self) -> Gateway {
        self.home.serve()
    }

    /// What the gateway says when it does not start.
    pub fn refused_to_start(&self) -> String {
        let output = self.home.command(&["serve"]).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    pub fn export(&self, gateway: &Gateway) -> Export {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("export");
        gateway.tulga_ok(&self.home, &["audit", "export", target.to_str().unwrap()]);
        Export::read(dir)
    }

    pub fn export_until(&self, gateway: &Gateway, is_it: impl Fn(&Export) -> bool) -> Export {
        wait_for("such export", || Some(self.export(gateway)).filter(|export| is_it(export)))
    }

    /// A copy of the data folder, as a snapshot of the machine has it.
    pub fn snapshot(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        let from = self.home.path().join("data");
        let status = Command::new("cp").arg("-a").arg(from).arg(copy.path()).status().unwrap();
        assert!(status.success());
        copy
    }

    pub fn put_back(&self, snapshot: &tempfile::TempDir) {
        let data = self.home.path().join("data");
        fs::remove_dir_all(&data).unwrap();
        let from = snapshot.path().join("data");
        let status = Command::new("cp").arg("-a").arg(from).arg(&data).status().unwrap();
        assert!(status.success());
    }
}

/// A witness's folder, made by `tulga witness init`.
pub struct WitnessHome {
    dir: tempfile::TempDir,
    pub key: WitnessKey,
}

/// A witness that does not outlive its test.
pub struct WitnessProcess {
    child: Child,
    pub address: String,
    pub key: WitnessKey,
}

impl WitnessHome {
    /// A witness of the bank's ledgers.
    pub fn new(name: &str, bank: &Bank) -> Self {
        let home = Self::made(name);
        let register = bank.home.path().join("data/keys.json");
        let trust = trust_fingerprint(&bank.home.data()).unwrap().to_string();
        let output = Command::new(env!("CARGO_BIN_EXE_tulga"))
            .args(["witness", "logs", "--trust", &trust])
            .arg(register)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        home.know(&String::from_utf8(output.stdout).unwrap());
        home
    }

    /// A witness of one ledger.
    pub fn knowing(name: &str, vkey: &str) -> Self {
        let home = Self::made(name);
        home.know(&format!("[[witness.logs]]\nvkey = \"{vkey}\"\n"));
        home
    }

    fn made(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = Command::new(env!("CARGO_BIN_EXE_tulga"))
            .args(["witness", "init", "--name", name])
            .arg(dir.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let key = String::from_utf8(made.stdout).unwrap();
        let home = Self { dir, key: WitnessKey::parse(key.trim()).unwrap() };
        // Tests ask faster than ledgers do.
        let file = home.file();
        let config = fs::read_to_string(&file).unwrap();
        let config = config.replace("[witness]\n", "[witness]\nrequests_per_second_max = 100000\nrequests_per_address_per_second_max = 100000\n");
        fs::write(file, config).unwrap();
        home
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("witness.toml")
    }

    fn know(&self, logs: &str) {
        let config = fs::read_to_string(self.file()).unwrap();
        fs::write(self.file(), config + logs).unwrap();
    }

    /// `tulga witness …`, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tulga"));
        command.arg("--config").arg(self.file()).arg("witness").args(arguments);
        command
    }

    pub fn serve(&self) -> WitnessProcess {
        self.serve_at("127.0.0.1:0")
    }

    /// Starts it and waits until it listens.
    pub fn serve_at(&self, address: &str) -> WitnessProcess {
        let mut child = self
            .command(&["serve", "--listen", address])
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let stream = child.stderr.take().unwrap();
        let (say, heard) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines() {
                let Ok(line) = line else { return };
                if let Some((_, address)) = line.split_once(" ledgers on http://") {
                    // Nobody waits any more when the test has failed.
                    drop(say.send(address.to_owned()));
                }
            }
        });
        let address = heard.recv_timeout(Duration::from_secs(30)).expect("the witness starts");
        WitnessProcess { child, address, key: self.key.clone() }
    }

    /// How many requests it kept as evidence.
    pub fn evidence(&self) -> usize {
        fs::read_dir(Path::new(self.dir.path()).join("state/evidence")).unwrap().count()
    }
}

impl WitnessProcess {
    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for WitnessProcess {
    fn drop(&mut self) {
        // It may have been killed before.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
