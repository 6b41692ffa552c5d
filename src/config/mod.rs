//! [`RawConfig`] (serde, exactly as written) is checked into [`Config`]; all faults are reported at
//! once.
//!
//! Every key, with its unit in its name and its default, is in `config/example.toml`. Secrets are
//! never in the configuration: they are files under `data_dir`, and a secret file that others may
//! read is refused ([`refuse_if_exposed`]).

mod four_eyes;
mod keys;
mod outside;
mod raw;
mod reference;
mod secret;
mod witness;

use std::fmt;
use std::io::Read;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use keys::{KeysConfig, Pkcs11Config};
pub use outside::{TsaConfig, WitnessesConfig};
pub use raw::RawConfig;
pub use reference::{ReferenceConfig, ReferenceFrom, ReferenceService};
pub use secret::{SecretFileError, refuse_if_exposed};
pub use witness::WitnessConfig;

use crate::capture::DecodeLimits;
use crate::domain::four_eyes::FourEyes;
use crate::domain::id::TenantId;
use crate::domain::time::UnixMillis;
use crate::domain::turnover::BankZone;
use crate::ledger::LedgerNames;
use raw::{RawCapture, RawIdentity, RawLog, RawLogFormat, RawPaths, RawServer};

/// Longest time in which a capture is known again: 30 days.
const CAPTURE_SEEN_HOURS_MAX: u32 = 720;

/// The checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The gRPC server.
    pub server: ServerConfig,
    /// Where things lie.
    pub paths: PathsConfig,
    /// Under which names the gateway speaks.
    pub identity: IdentityConfig,
    /// Bounds on a picture.
    pub decode_limits: DecodeLimits,
    /// Jobs of decoding and inference at once.
    pub vision_workers: NonZeroUsize,
    /// How long a job waits for its turn before the call is refused as overloaded.
    pub vision_queue_wait: Duration,
    /// Whether an activation needs two people where there is no source of reference images.
    pub two_people: bool,
    /// Which acts are proposed by one person and approved by another.
    pub four_eyes: FourEyes,
    /// The source of reference images, where the bank has one.
    pub reference: Option<ReferenceConfig>,
    /// From the issue of a challenge to the receipt of its capture; positive.
    pub challenge_ttl_ms: i64,
    /// How long a host may act on a receipt; positive.
    pub receipt_valid_ms: i64,
    /// Calls that one terminal may make in a minute; a withdrawal makes three or four.
    pub terminal_rate_per_minute: NonZeroU32,
    /// Calls that may come from one address in a second, whoever makes them.
    pub address_rate_per_second: NonZeroU32,
    /// Guests that one terminal may enrol in a day; none for 0.
    pub guests_per_terminal_per_day: u32,
    /// How long a capture that was decided on may not come again; 0: it may at once.
    pub capture_seen_ms: i64,
    /// From one published checkpoint to the next.
    pub checkpoint_interval: Duration,
    /// Which keys are made, and where they are kept.
    pub keys: KeysConfig,
    /// From one run of the retention clerk to the next.
    pub retention_interval: Duration,
    /// Who cosigns the ledger's checkpoints.
    pub witnesses: Option<WitnessesConfig>,
    /// Who puts time-stamps on them.
    pub tsa: Option<TsaConfig>,
    /// What is logged, and how.
    pub log: LogConfig,
}

/// The gRPC server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// How long a verification may take, whatever the caller allows.
    pub deadline: Duration,
    /// Largest request message, in bytes.
    pub message_bytes_max: usize,
    /// Largest request message of an import, in bytes.
    pub import_message_bytes_max: usize,
    /// Connections at once; further ones wait.
    pub connections_max: usize,
    /// Connections at once from one address; further ones are closed.
    pub connections_per_address_max: usize,
    /// Calls at once on one connection.
    pub concurrent_streams_max: u32,
    /// Age at which a connection is closed gracefully.
    pub connection_age_max: Duration,
    /// How long a connection may stand open before its first call.
    pub first_call_max: Duration,
    /// How long calls may still take after the server was told to stop.
    pub drain_max: Duration,
}

/// Where things lie. Relative paths count from the working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathsConfig {
    /// Keys, database and ledger.
    pub data_dir: PathBuf,
    /// Models and their manifest.
    pub models_dir: PathBuf,
    /// The policy pack; `None` for the one in the binary.
    pub policy_dir: Option<PathBuf>,
}

/// Under which names the gateway speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityConfig {
    /// The bank.
    pub tenant: TenantId,
    /// Who issues receipts: `iss`.
    pub issuer: String,
    /// Which host may act on receipts: `aud`.
    pub audience: String,
    /// By which the rules' days and months begin.
    pub zone: BankZone,
    origin: Option<String>,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Directives as of `tracing_subscriber`'s `EnvFilter`.
    pub filter: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: the file cannot be read, is not TOML of the right shape, or has faults.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(unreadable)?;
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
        Self::from_toml(&text)
    }

    /// Checks a configuration's text.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: the text is not TOML of the right shape, or has faults.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Ok(Self::check(toml::from_str(text)?)?)
    }

    /// Checks a configuration as written.
    ///
    /// # Errors
    ///
    /// [`ConfigFaults`], all of them.
    pub fn check(raw: RawConfig) -> Result<Self, ConfigFaults> {
        let mut faults = ConfigFaults(Vec::new());
        let server = check_server(&raw.server, &mut faults);
        let paths = check_paths(raw.paths, &mut faults);
        let identity = check_identity(raw.identity, &mut faults);
        let decode_limits = check_decode_limits(&raw.capture, &raw.server, &mut faults);
        let workers = faults.within("vision.workers", raw.vision.workers, 0, 1_024);
        let wait_ms = faults.within("vision.queue_wait_ms", raw.vision.queue_wait_ms, 0, 60_000);
        if wait_ms >= raw.server.deadline_ms {
            faults.add("vision.queue_wait_ms", "must be less than server.deadline_ms");
        }
        let reference = reference::check(raw.reference, raw.server.deadline_ms, &mut faults);
        let four_eyes = four_eyes::check(&raw.four_eyes, &mut faults);
        let ttl_ms = raw.challenge.ttl_ms;
        let challenge_ttl_ms = faults.within("challenge.ttl_ms", ttl_ms, 1_000, 600_000);
        let valid_ms = raw.receipt.valid_ms;
        let receipt_valid_ms = faults.within("receipt.valid_ms", valid_ms, 1_000, 600_000);
        let rate = raw.rate.per_terminal_per_minute;
        let terminal_rate_per_minute = faults.positive("rate.per_terminal_per_minute", rate);
        let rate = raw.rate.per_address_per_second;
        let address_rate_per_second = faults.positive("rate.per_address_per_second", rate);
        let guests_per_terminal_per_day = raw.guests.per_terminal_per_day;
        if guests_per_terminal_per_day > 10_000 {
            faults.add("guests.per_terminal_per_day", "must be at most 10000");
        }
        let seen_hours = raw.sensors.capture_seen_hours;
        if seen_hours > CAPTURE_SEEN_HOURS_MAX {
            faults.add("sensors.capture_seen_hours", "must be at most 720");
        }
        let capture_seen_ms = i64::from(seen_hours) * 3_600_000;
        let interval_ms = raw.ledger.checkpoint_interval_ms;
        let checkpoint_interval =
            faults.millis("ledger.checkpoint_interval_ms", interval_ms, 100, 60_000);
        let keys = keys::check(raw.keys, &mut faults);
        let between_runs_s = raw.retention.interval_s;
        let retention_interval = Duration::from_secs(faults.within(
            "retention.interval_s",
            between_runs_s,
            1,
            7 * 86_400,
        ));
        let witnesses = outside::check_witnesses(raw.witnesses, &mut faults);
        let tsa = outside::check_tsa(raw.tsa, &mut faults);
        let log = check_log(raw.log, &mut faults);
        match identity {
            Some(identity) if faults.0.is_empty() => Ok(Self {
                server,
                paths,
                identity,
                decode_limits,
                vision_workers: count_workers(workers),
                vision_queue_wait: Duration::from_millis(wait_ms),
                two_people: raw.enrolment.two_people,
                four_eyes,
                reference,
                challenge_ttl_ms,
                receipt_valid_ms,
                terminal_rate_per_minute,
                address_rate_per_second,
                guests_per_terminal_per_day,
                capture_seen_ms,
                checkpoint_interval,
                keys,
                retention_interval,
                witnesses,
                tsa,
                log,
            }),
            _ => Err(faults),
        }
    }
}

impl IdentityConfig {
    /// The name of the ledger that takes what happens at `begun`, such as `localhost/tulga/2026h2`.
    #[must_use]
    pub fn origin(&self, begun: UnixMillis) -> String {
        self.ledgers().name_at(begun)
    }

    /// How the gateway calls its ledgers: as was configured, else by the issuer and the half-year.
    #[must_use]
    pub fn ledgers(&self) -> LedgerNames {
        match &self.origin {
            Some(origin) => LedgerNames::Fixed(origin.clone()),
            None => LedgerNames::HalfYears { issuer: self.issuer.clone() },
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {path:?} cannot be read")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, or a value of another kind.
    #[error("the configuration is malformed")]
    Malformed(#[from] toml::de::Error),
    /// Values that cannot be.
    #[error(transparent)]
    Faults(#[from] ConfigFaults),
}

impl ConfigError {
    /// The word for logs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "CONFIG_UNREADABLE",
            Self::Malformed(_) => "CONFIG_MALFORMED",
            Self::Faults(_) => "CONFIG_FAULTY",
        }
    }
}

/// Everything that is wrong with a configuration, in the order of its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFaults(Vec<ConfigFault>);

/// One value that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFault {
    /// The key, with its section: `server.listen`.
    pub key: &'static str,
    /// What the value must be.
    pub problem: String,
}

impl ConfigFaults {
    /// The faults.
    #[must_use]
    pub fn faults(&self) -> &[ConfigFault] {
        &self.0
    }

    fn add(&mut self, key: &'static str, problem: impl Into<String>) {
        self.0.push(ConfigFault { key, problem: problem.into() });
    }

    /// The value, after a fault where it is out of `min..=max`.
    fn within<T: Copy + PartialOrd + fmt::Display>(
        &mut self,
        key: &'static str,
        value: T,
        min: T,
        max: T,
    ) -> T {
        if value < min || value > max {
            self.add(key, format!("must be from {min} to {max}"));
        }
        value
    }

    fn millis(&mut self, key: &'static str, value: u64, min: u64, max: u64) -> Duration {
        Duration::from_millis(self.within(key, value, min, max))
    }

    fn positive(&mut self, key: &'static str, value: u32) -> NonZeroU32 {
        NonZeroU32::new(value).unwrap_or_else(|| {
            self.add(key, "must be at least 1");
            NonZeroU32::MIN
        })
    }
}

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration has faults")?;
        for ConfigFault { key, problem } in &self.0 {
            write!(f, "\n  {key}: {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigFaults {}

fn check_server(raw: &RawServer, faults: &mut ConfigFaults) -> ServerConfig {
    let listen = raw.listen.parse().unwrap_or_else(|_| {
        faults.add("server.listen", "must be an address and a port, such as 127.0.0.1:7443");
        SocketAddr::from(([127, 0, 0, 1], 0))
    });
    let age_s = faults.within("server.connection_age_s", raw.connection_age_s, 10, 86_400);
    let (key, streams) = ("server.concurrent_streams_max", raw.concurrent_streams_max);
    ServerConfig {
        listen,
        deadline: faults.millis("server.deadline_ms", raw.deadline_ms, 100, 60_000),
        message_bytes_max: faults.within(
            "server.message_bytes_max",
            raw.message_bytes_max,
            64 << 10,
            128 << 20,
        ),
        import_message_bytes_max: faults.within(
            "server.import_message_bytes_max",
            raw.import_message_bytes_max,
            64 << 10,
            512 << 20,
        ),
        connections_max: faults.within("server.connections_max", raw.connections_max, 1, 1_000_000),
        connections_per_address_max: faults.within(
            "server.connections_per_address_max",
            raw.connections_per_address_max,
            1,
            1_000_000,
        ),
        concurrent_streams_max: faults.within(key, streams, 1, 10_000),
        connection_age_max: Duration::from_secs(age_s),
        first_call_max: faults.millis("server.first_call_ms", raw.first_call_ms, 1_000, 600_000),
        drain_max: faults.millis("server.drain_ms", raw.drain_ms, 0, 300_000),
    }
}

fn check_paths(raw: RawPaths, faults: &mut ConfigFaults) -> PathsConfig {
    let mut given = |key, path: &Path| {
        if path.as_os_str().is_empty() {
            faults.add(key, "must not be empty");
        }
    };
    given("paths.data_dir", &raw.data_dir);
    given("paths.models_dir", &raw.models_dir);
    if let Some(dir) = &raw.policy_dir {
        given("paths.policy_dir", dir);
    }
    let RawPaths { data_dir, models_dir, policy_dir } = raw;
    PathsConfig { data_dir, models_dir, policy_dir }
}

fn check_identity(raw: RawIdentity, faults: &mut ConfigFaults) -> Option<IdentityConfig> {
    let mut name = |key, text: &str| {
        // Names stand in signed notes, where a space or a plus sign would end them.
        let plain = |b: u8| b.is_ascii_graphic() && b != b'+';
        if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(plain) {
            faults.add(key, "must be 1 to 200 printable ASCII characters without spaces or '+'");
        }
    };
    name("identity.issuer", &raw.issuer);
    name("identity.audience", &raw.audience);
    if let Some(origin) = &raw.origin {
        name("identity.origin", origin);
    }
    let tenant = TenantId::try_from(raw.tenant.as_str());
    if tenant.is_err() {
        faults.add("identity.tenant", "must be a plain identifier, such as bank-a");
    }
    let zone = BankZone::try_from(raw.time_zone.as_str());
    if zone.is_err() {
        faults
            .add("identity.time_zone", "must be a name of the IANA database, such as Asia/Almaty");
    }
    let RawIdentity { tenant: _, issuer, audience, origin, time_zone: _ } = raw;
    Some(IdentityConfig { tenant: tenant.ok()?, issuer, audience, zone: zone.ok()?, origin })
}

fn check_decode_limits(
    raw: &RawCapture,
    server: &RawServer,
    faults: &mut ConfigFaults,
) -> DecodeLimits {
    let bytes = raw.encoded_bytes_max;
    if server.message_bytes_max < bytes.saturating_add(MESSAGE_OVERHEAD_BYTES) {
        faults.add(
            "server.message_bytes_max",
            "must exceed capture.encoded_bytes_max by 64 KiB, for what stands around a picture",
        );
    }
    DecodeLimits {
        encoded_bytes_max: faults.within("capture.encoded_bytes_max", bytes, 1 << 10, 64 << 20),
        side_px_max: faults.within("capture.side_px_max", raw.side_px_max, 64, 16_384),
        pixels_max: faults.within("capture.pixels_max", raw.pixels_max, 4_096, 100_000_000),
        ..DecodeLimits::default()
    }
}

fn check_log(raw: RawLog, faults: &mut ConfigFaults) -> LogConfig {
    if raw.filter.is_empty() {
        faults.add("log.filter", "must not be empty; \"off\" is silence");
    }
    let format = match raw.format {
        RawLogFormat::Text => LogFormat::Text,
        RawLogFormat::Json => LogFormat::Json,
    };
    LogConfig { filter: raw.filter, format }
}

/// As many as configured; for 0 as many as the machine runs at once.
fn count_workers(configured: usize) -> NonZeroUsize {
    NonZeroUsize::new(configured)
        .or_else(|| std::thread::available_parallelism().ok())
        .unwrap_or(NonZeroUsize::MIN)
}

/// Far more than any configuration needs.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a request holds besides its picture, generously.
const MESSAGE_OVERHEAD_BYTES: usize = 64 << 10;

const NAME_BYTES_MAX: usize = 200;
