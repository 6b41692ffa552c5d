//! `tulga witness init|key|logs|serve`: an independent witness, whose configuration is a file of its own.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use super::{INTERNAL, REFUSED, runtime};
use crate::clock::SystemClock;
use crate::config::{Config, WitnessConfig, refuse_if_exposed};
use crate::crypto::{Ed25519Key, Signer as _, SystemEntropy};
use crate::ledger::{LogKey, Origin, WitnessKey};
use crate::receipt::{KeyRegister, KeyStatus, KeyUse, TrustFingerprint};
use crate::telemetry;
use crate::web::server::serve;
use crate::web::witness::WitnessPages;
use crate::witness::{StateDir, TrustedLog, Witness};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make a folder with a key and a configuration; prints the verifier key to hand out
    Init {
        /// The folder; it is made
        dir: PathBuf,
        /// The name that the witness cosigns under, such as witness.regulator.example/w1
        #[arg(long)]
        name: String,
    },
    /// Print the verifier key of the configured witness
    Key,
    /// Print the lines of a configuration for the ledgers of a bank's signed key register
    Logs {
        /// The bank's keys.json; keys.json.sig lies beside it
        register: PathBuf,
        /// The fingerprint of the bank's root key, as the bank publishes it
        #[arg(long, value_name = "FINGERPRINT")]
        trust: TrustFingerprint,
    },
    /// Run the witness; `--config` names its file, else witness.toml
    Serve {
        /// Address to listen on, in place of the configured one
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<std::net::SocketAddr>,
    },
}

pub(super) fn run(config: Option<&Path>, command: Command) -> Result<ExitCode> {
    let config = || WitnessConfig::load(config.unwrap_or(Path::new(FILE)));
    match command {
        Command::Init { dir, name } => init(&dir, &name),
        Command::Key => {
            let config = config()?;
            println!("{}", WitnessKey::new(config.name.clone(), read_key(&config)?.public_key()));
            Ok(ExitCode::SUCCESS)
        }
        Command::Logs { register, trust } => logs(&register, &trust),
        Command::Serve { listen } => serve_witness(&config()?, listen),
    }
}

fn init(dir: &Path, name: &str) -> Result<ExitCode> {
    let name = Origin::try_from(name).context("the witness's name")?;
    let key_file = dir.join(KEY_FILE);
    if key_file.exists() {
        eprintln!("tulga: {} exists; nothing was changed", key_file.display());
        return Ok(ExitCode::from(REFUSED));
    }
    let make = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    make.with_context(|| format!("{} cannot be made", dir.display()))?;
    let key = Ed25519Key::generate(&SystemEntropy)?;
    write_new(&key_file, key.to_pkcs8_pem().as_bytes(), 0o600)?;
    let config = format!(
        "[witness]\nlisten = \"127.0.0.1:7480\"\nname = \"{name}\"\nkey = \"{KEY_FILE}\"\n\
         state_dir = \"state\"\n\n\
         # Each ledger to be witnessed: `tulga witness logs keys.json --trust FINGERPRINT` prints these lines.\n\
         # [[witness.logs]]\n# vkey = \"…\"\n# half_years = true\n"
    );
    write_new(&dir.join(FILE), config.as_bytes(), 0o644)?;
    eprintln!("tulga: made {}", dir.display());
    eprintln!(
        "  {KEY_FILE}   the private key: never lend it, never restore it beside an older state"
    );
    eprintln!("  {FILE}  the configuration; add the ledgers to it");
    eprintln!("  Hand this verifier key to the banks and to the auditors:");
    println!("{}", WitnessKey::new(name, key.public_key()));
    Ok(ExitCode::SUCCESS)
}

fn logs(register: &Path, trust: &TrustFingerprint) -> Result<ExitCode> {
    let unreadable = |path: &Path| format!("{} cannot be read", path.display());
    let json = fs::read(register).with_context(|| unreadable(register))?;
    let signature = register.with_extension("json.sig");
    let signature = fs::read_to_string(&signature).with_context(|| unreadable(&signature))?;
    let register = KeyRegister::verify(&json, &signature, trust)?;
    let is_ledgers = |key: &&_| {
        matches!(
            key,
            crate::receipt::KeyRecord { usage: KeyUse::Ledger, status: KeyStatus::Active, .. }
        )
    };
    let mut any = false;
    for key in register.keys().iter().filter(is_ledgers) {
        // One line a key: its other half-years are known by it.
        let Some(range) = key.origins.first() else { continue };
        let origin = Origin::try_from(range.origin.as_str())?;
        let vkey = LogKey::new(origin, key.public_key);
        println!("[[witness.logs]]\nvkey = \"{vkey}\"\nhalf_years = true");
        any = true;
    }
    if !any {
        bail!("the register names no active ledger key");
    }
    Ok(ExitCode::SUCCESS)
}

fn serve_witness(config: &WitnessConfig, listen: Option<std::net::SocketAddr>) -> Result<ExitCode> {
    // A witness logs as a gateway without a configuration does; TULGA_LOG says otherwise.
    telemetry::start(&Config::from_toml("")?.log)?;
    let key = read_key(config)?;
    let state = StateDir::open(&config.state_dir)?;
    let logs = config.logs.iter().cloned();
    let logs: Vec<_> = logs.map(|(key, half_years)| TrustedLog { key, half_years }).collect();
    let known = logs.len();
    let witness = Witness::new(config.name.clone(), Box::new(key), logs, state);
    let vkey = witness.key();
    runtime()?.block_on(async {
        let listener = crate::app::bind(listen.unwrap_or(config.listen)).await?;
        eprintln!("tulga: witnessing {known} ledgers on http://{}", listener.local_addr()?);
        eprintln!("tulga: verifier key {vkey}");
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            eprintln!("tulga: draining");
        };
        let bounds = WitnessPages::bounds(config);
        let pages = Arc::new(WitnessPages::new(witness, Arc::new(SystemClock)));
        let was_cut_off = serve(listener, pages, bounds, stop).await;
        Ok(if was_cut_off { ExitCode::from(INTERNAL) } else { ExitCode::SUCCESS })
    })
}

fn read_key(config: &WitnessConfig) -> Result<Ed25519Key> {
    refuse_if_exposed(&config.key)?;
    let pem = zeroize::Zeroizing::new(
        fs::read_to_string(&config.key)
            .with_context(|| format!("{} cannot be read", config.key.display()))?,
    );
    Ed25519Key::from_pkcs8_pem(&pem)
        .with_context(|| format!("{} holds no key", config.key.display()))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}

const FILE: &str = "witness.toml";
const KEY_FILE: &str = "witness-key.pem";
