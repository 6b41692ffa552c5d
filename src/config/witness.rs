//! The configuration of `tulga witness serve`: a file of its own, since a witness is run by somebody
//! else than the gateway.

use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, ConfigFaults, FILE_BYTES_MAX};
use crate::ledger::{LogKey, Origin};

/// A witness's checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Under which name it cosigns.
    pub name: Origin,
    /// Its private key, PEM; a secret file.
    pub key: PathBuf,
    /// Where it remembers.
    pub state_dir: PathBuf,
    /// The ledgers that it knows: each a key, and whether the key also signs the other half-years of
    /// the issuer.
    pub logs: Vec<(LogKey, bool)>,
    /// Connections at once.
    pub connections_max: usize,
    /// Connections at once from one address.
    pub connections_per_address_max: usize,
    /// Requests that it answers in a second, of all callers together.
    pub requests_per_second_max: NonZeroU32,
    /// Requests that it answers in a second from one address.
    pub requests_per_address_per_second_max: NonZeroU32,
    /// Whether a proxy stands before it, which names each caller in `X-Forwarded-For`.
    pub behind_proxy: bool,
    /// How long one request may take.
    pub deadline: Duration,
}

impl WitnessConfig {
    /// Reads and checks a file. Relative paths in it count from its folder.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: the file cannot be read, is not TOML of the right shape, or has faults.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
        let RawFile { witness } = toml::from_str(&text)?;
        Ok(Self::check(witness, path.parent().unwrap_or(Path::new("")))?)
    }

    fn check(raw: RawWitness, beside: &Path) -> Result<Self, ConfigFaults> {
        let mut faults = ConfigFaults(Vec::new());
        let listen = raw.listen.parse().unwrap_or_else(|_| {
            let problem = "must be an address and a port, such as 127.0.0.1:7480";
            faults.add("witness.listen", problem);
            SocketAddr::from(([127, 0, 0, 1], 0))
        });
        let name = Origin::try_from(raw.name.as_str());
        if let Err(cause) = name {
            faults.add("witness.name", format!("must be a name of a key: {cause}"));
        }
        for (key, path) in [("witness.key", &raw.key), ("witness.state_dir", &raw.state_dir)] {
            if path.as_os_str().is_empty() {
                faults.add(key, "must not be empty");
            }
        }
        if raw.logs.len() > LOGS_MAX {
            faults.add("witness.logs", format!("must be at most {LOGS_MAX}"));
        }
        let mut logs = Vec::new();
        for log in raw.logs {
            match LogKey::parse(&log.vkey) {
                Ok(key) => logs.push((key, log.half_years)),
                Err(cause) => faults.add("witness.logs", format!("{}: {cause}", log.vkey)),
            }
        }
        let connections_max =
            faults.within("witness.connections_max", raw.connections_max, 1, 100_000);
        let requests_per_second_max =
            faults.positive("witness.requests_per_second_max", raw.requests_per_second_max);
        let connections_per_address_max = faults.within(
            "witness.connections_per_address_max",
            raw.connections_per_address_max,
            1,
            100_000,
        );
        let requests_per_address_per_second_max = faults.positive(
            "witness.requests_per_address_per_second_max",
            raw.requests_per_address_per_second_max,
        );
        let deadline = faults.millis("witness.deadline_ms", raw.deadline_ms, 100, 60_000);
        match name {
            Ok(name) if faults.0.is_empty() => Ok(Self {
                listen,
                name,
                key: beside.join(raw.key),
                state_dir: beside.join(raw.state_dir),
                logs,
                connections_max,
                connections_per_address_max,
                requests_per_second_max,
                requests_per_address_per_second_max,
                behind_proxy: raw.behind_proxy,
                deadline,
            }),
            _ => Err(faults),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    witness: RawWitness,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWitness {
    #[serde(default = "default_listen")]
    listen: String,
    name: String,
    key: PathBuf,
    state_dir: PathBuf,
    #[serde(default)]
    logs: Vec<RawLog>,
    #[serde(default = "default_connections_max")]
    connections_max: usize,
    #[serde(default = "default_connections_per_address_max")]
    connections_per_address_max: usize,
    #[serde(default = "default_requests_per_second_max")]
    requests_per_second_max: u32,
    #[serde(default = "default_requests_per_address_per_second_max")]
    requests_per_address_per_second_max: u32,
    #[serde(default)]
    behind_proxy: bool,
    #[serde(default = "default_deadline_ms")]
    deadline_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    vkey: String,
    #[serde(default)]
    half_years: bool,
}

fn default_listen() -> String {
    "127.0.0.1:7480".to_owned()
}

const fn default_connections_max() -> usize {
    256
}

const fn default_connections_per_address_max() -> usize {
    32
}

const fn default_requests_per_second_max() -> u32 {
    50
}

const fn default_requests_per_address_per_second_max() -> u32 {
    20
}

const fn default_deadline_ms() -> u64 {
    10_000
}

/// Far more than one witness serves.
const LOGS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [witness]
        name = "witness.regulator.example/w1"
        key = "witness.pem"
        state_dir = "/var/lib/tulga-witness"
        [[witness.logs]]
        vkey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
        half_years = true
    "#;

    fn load(text: &str) -> Result<WitnessConfig, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("witness.toml");
        std::fs::write(&path, text).unwrap();
        let mut config = WitnessConfig::load(&path)?;
        config.key = config.key.strip_prefix(dir.path()).unwrap().to_owned();
        Ok(config)
    }

    #[test]
    fn paths_count_from_the_files_folder() {
        let config = load(GOOD).unwrap();
        assert_eq!(config.key, Path::new("witness.pem"));
        assert_eq!(config.state_dir, Path::new("/var/lib/tulga-witness"));
        assert_eq!(config.listen.port(), 7480);
        assert!(config.logs[0].1);
    }

    #[test]
    fn each_fault_is_named() {
        for (from, to, key) in [
            ("w1\"", "w 1\"", "witness.name"),
            ("name =", "listen = \"here\"\nname =", "witness.listen"),
            ("\"witness.pem\"", "\"\"", "witness.key"),
            ("c74f20a3", "c74f20a4", "witness.logs"),
            ("name =", "connections_max = 0\nname =", "witness.connections_max"),
            ("name =", "requests_per_second_max = 0\nname =", "witness.requests_per_second_max"),
            (
                "name =",
                "connections_per_address_max = 0\nname =",
                "witness.connections_per_address_max",
            ),
            (
                "name =",
                "requests_per_address_per_second_max = 0\nname =",
                "witness.requests_per_address_per_second_max",
            ),
            ("name =", "deadline_ms = 1\nname =", "witness.deadline_ms"),
        ] {
            let ConfigError::Faults(faults) = load(&GOOD.replacen(from, to, 1)).unwrap_err() else {
                panic!("{key}");
            };
            assert_eq!(faults.faults().iter().map(|it| it.key).collect::<Vec<_>>(), [key]);
        }
        let unknown = load(&GOOD.replace("name =", "nome = 1\nname ="));
        assert!(matches!(unknown, Err(ConfigError::Malformed(_))));
    }
}
