//! The gateway that is measured: one that runs, or one that is started for it as a process of its own.

use std::fs::{self, DirBuilder};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use tonic::transport::Channel;

use super::super::client::connect;
use super::super::enroll::{Person, enroll, faces};
use super::super::terminal;
use crate::app::DataDir;
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::pki::{Directory, Role};
use crate::policy::PolicyPack;
use crate::proto::{Consent, consent};

/// A number of nobody: its month is 00.
const IIN: &str = "000000300017";

/// Where to send verifications, and of whom.
pub(super) struct Target {
    pki: Directory,
    address: String,
    pub card: String,
    own: Option<Own>,
}

/// A gateway that ends, with its data, when the bench does.
struct Own {
    process: Child,
    dir: PathBuf,
}

/// What a process has used so far.
#[derive(Clone, Copy)]
pub(super) struct Usage {
    /// Memory that it holds, in bytes.
    pub resident: u64,
    /// Time of processors, in milliseconds.
    pub cpu_ms: u64,
}

impl Target {
    /// A gateway that runs; its card's holder is enrolled there.
    pub fn running(config: &Config, address: &str, card: &str) -> Self {
        let pki = DataDir::at(&config.paths.data_dir).pki();
        Self { pki, address: address.to_owned(), card: card.to_owned(), own: None }
    }

    /// Starts one in a folder for temporary files, and enrols somebody.
    pub async fn started(config: &Config, pictures: &[PathBuf]) -> Result<Self> {
        let name = format!("tulga-bench-{}-{}", SystemClock.now().get(), std::process::id());
        let dir = std::env::temp_dir().join(name);
        // Nobody else's, and for nobody else to read.
        DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .with_context(|| format!("{} cannot be made", dir.display()))?;
        let settings = dir.join("tulga.toml");
        fs::write(&settings, settings_of(&dir, &config.paths.models_dir)?)?;
        write_pack(&dir.join(POLICY))?;
        let mut process = Command::new(std::env::current_exe()?)
            .args(["--config".as_ref(), settings.as_os_str(), "serve".as_ref()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("the gateway cannot be started")?;
        let log = process.stderr.take().context("the gateway has no log")?;
        let target = Self {
            pki: DataDir::at(dir.join("data")).pki(),
            own: Some(Own { process, dir }),
            address: address_from(log)?,
            card: "card-bench".to_owned(),
        };
        target.enrol(pictures).await?;
        Ok(target)
    }

    async fn enrol(&self, pictures: &[PathBuf]) -> Result<()> {
        let read = |path: &PathBuf| {
            fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
        };
        let person = Person {
            iin: IIN.to_owned(),
            card: Some(self.card.clone()),
            consent: Consent {
                operator: "Bench".to_owned(),
                subject: "a person in a public photograph".to_owned(),
                purpose: "measuring".to_owned(),
                given_at: SystemClock.now().rfc3339(),
                evidence_ref: "demo/README.md".to_owned(),
                term: Some(consent::Term::Days(1)),
            },
            captures: faces(pictures.iter().map(read).collect::<Result<Vec<_>>>()?),
        };
        let desk = connect(&self.pki, &self.address, Role::Enroller, "dev").await?;
        let enrolled = enroll(desk, person).await?;
        if !enrolled.is_active() {
            bail!("the person of the pictures could not be enrolled");
        }
        Ok(())
    }

    /// A terminal's connection; it is registered if it is not yet.
    pub async fn terminal(&self, number: usize) -> Result<Channel> {
        let name = format!("BENCH-{number}");
        if let Ok(channel) = connect(&self.pki, &self.address, Role::Terminal, &name).await {
            return Ok(channel);
        }
        let admin = connect(&self.pki, &self.address, Role::Admin, "dev").await?;
        terminal::register(&self.pki, admin, &name).await?;
        connect(&self.pki, &self.address, Role::Terminal, &name).await
    }

    /// What the gateway has used; none for one that this did not start, or where the system does not say.
    pub fn usage(&self) -> Option<Usage> {
        let process = Path::new("/proc").join(self.own.as_ref()?.process.id().to_string());
        let status = fs::read_to_string(process.join("status")).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident: u64 = resident.trim().strip_suffix(" kB")?.parse().ok()?;
        let stat = fs::read_to_string(process.join("stat")).ok()?;
        // Behind the name, which may hold anything, in brackets: user and system time are the 12th and
        // 13th field, in hundredths of a second.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let ticks: u64 =
            fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
        Some(Usage { resident: resident * 1024, cpu_ms: ticks * 10 })
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Nothing of it is wanted any more, and what is gone already needs no end.
        drop(self.process.kill());
        drop(self.process.wait());
        drop(fs::remove_dir_all(&self.dir));
    }
}

/// The defaults, with room for terminals that hardly rest.
fn settings_of(dir: &Path, models: &Path) -> Result<String> {
    let models = fs::canonicalize(models).with_context(|| {
        format!("{} is not there; run this in the project's folder", models.display())
    })?;
    Ok(format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[paths]\ndata_dir = '{}'\nmodels_dir = '{}'\npolicy_dir = '{}'\n\
         [rate]\nper_terminal_per_minute = 1000000\nper_address_per_second = 1000000\n\
         [sensors]\ncapture_seen_hours = 0\n[log]\nfilter = \"warn\"\n",
        dir.join("data").display(),
        models.display(),
        dir.join(POLICY).display(),
    ))
}

/// Writes the pack of the binary with wider limits of tries: all terminals measure with one person, and each of
/// the person's verifications under way counts as a failure until it is decided.
fn write_pack(dir: &Path) -> Result<()> {
    for (name, text) in PolicyPack::embedded_files() {
        let file = dir.join(name);
        fs::create_dir_all(file.parent().unwrap_or(dir))?;
        let tries = if file.ends_with("pack.toml") { TRIES } else { "" };
        fs::write(file, [text, tries].concat())?;
    }
    Ok(())
}

/// The pack's folder.
const POLICY: &str = "policy";

const TRIES: &str = "\n[bars.tries]\ndelay_after_failures = 100\nlock_after_failures = 1000\n\
                     terminal_failures_max = 100000\n";

/// Reads the log until the gateway says where it listens, and goes on reading so that it never waits.
fn address_from(log: impl std::io::Read + Send + 'static) -> Result<String> {
    let mut lines = BufReader::new(log).lines();
    let mut said = Vec::new();
    while let Some(Ok(line)) = lines.next() {
        if let Some(address) = line.strip_prefix("tulga: serving on https://") {
            let address = address.to_owned();
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(address);
        }
        said.push(line);
    }
    bail!("the gateway did not start: {}", said.join("; "))
}
