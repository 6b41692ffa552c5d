//! `tulga keys list|rotate|revoke|install|rotate-kek|retire-kek|rotate-capture-key`: keys, changed while the
//! gateway serves.
//!
//! The root key is used here, never in the gateway. Before it signs anything the register in force is
//! verified with it, so that a gateway in wrong hands cannot have a register of its own signed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Subcommand, ValueEnum};
use comfy_table::Table;
use serde_json::json;
use tonic::Status;
use tonic::transport::Channel;

use super::client::{ClientArgs, connect, explain, reason_of};
use super::keys_capture::RotateCaptureKey;
use super::keys_kek::{RetireKek, RotateKek};
use super::{REFUSED, runtime};
use crate::app::{DataDir, root_key};
use crate::config::Config;
use crate::crypto::PublicKey;
use crate::domain::time::UnixMillis;
use crate::pki::Role;
use crate::proto;
use crate::proto::key_service_client::KeyServiceClient;
use crate::receipt::{
    KeyRange, KeyRecord, KeyRegister, KeyStatus, KeyUse, LedgerPlace, LedgerState, NewKey,
    TrustFingerprint, parse,
};

/// Entries from the ledger's end to where a new key takes over, in turn as the ledger proves faster.
const MARGINS: [u64; 4] = [64, 1_024, 16_384, 262_144];

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// The keys in force, and where the ledgers stand
    List(List),
    /// Let a new key take over, a few entries ahead of the ledger
    Rotate(Rotate),
    /// Revoke a key; where it signs still, a new one takes over first
    Revoke(Revoke),
    /// Install a register that was signed elsewhere
    Install(Install),
    /// Make a new key-encryption key, and wrap everything anew under it; a run that was cut off goes on
    RotateKek(RotateKek),
    /// Destroy the old key-encryption keys that nothing is wrapped under
    RetireKek(RetireKek),
    /// Make a new key that captures are sealed to
    RotateCaptureKey(RotateCaptureKey),
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Call as an administrator, not as the keys' custodian
    #[arg(long)]
    admin: bool,
    /// For machines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct Rotate {
    /// What the key signs
    #[arg(value_enum)]
    usage: Usage,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, clap::Args)]
pub(super) struct Revoke {
    /// The key's name, such as receipt-1
    kid: String,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, clap::Args)]
pub(super) struct Install {
    /// Folder with keys.json and keys.json.sig
    dir: PathBuf,
    /// For machines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct Change {
    /// The root key's file, in place of the data folder's or the token's
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Entries that the ledger may still make before the new key takes over
    #[arg(long, value_name = "ENTRIES")]
    margin: Option<u64>,
    /// Only write the new keys.json into this folder, to be signed where the root key is
    #[arg(long, value_name = "DIR", requires = "margin", conflicts_with = "root")]
    write: Option<PathBuf>,
    /// For machines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Usage {
    /// Receipts
    Receipt,
    /// Checkpoints
    Ledger,
}

pub(super) fn run(config: &Config, command: Command) -> Result<ExitCode> {
    let client = match &command {
        Command::List(List { client, .. }) | Command::Install(Install { client, .. }) => client,
        Command::Rotate(Rotate { change, .. }) | Command::Revoke(Revoke { change, .. }) => {
            &change.client
        }
        Command::RotateKek(args) => args.client(),
        Command::RetireKek(args) => args.client(),
        Command::RotateCaptureKey(args) => args.client(),
    };
    let role = match &command {
        Command::List(List { admin: true, .. }) => Role::Admin,
        _ => Role::KeyCustodian,
    };
    let pki = DataDir::at(&config.paths.data_dir).pki();
    let address = client.gateway.clone().unwrap_or_else(|| config.server.listen.to_string());
    runtime()?.block_on(async {
        let channel = connect(&pki, &address, role, &client.name).await?;
        let mut desk = Desk { client: KeyServiceClient::new(channel), config };
        let done = match &command {
            Command::List(args) => desk.list(args.json).await,
            Command::Rotate(Rotate { usage, change }) => desk.rotate(*usage, None, change).await,
            Command::Revoke(Revoke { kid, change }) => desk.revoke(kid, change).await,
            Command::Install(args) => desk.install_folder(args).await,
            Command::RotateKek(args) => args.run(&mut desk.client).await,
            Command::RetireKek(args) => args.run(&mut desk.client).await,
            Command::RotateCaptureKey(args) => args.run(&mut desk.client).await,
        };
        match done {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => match error.downcast_ref::<Status>() {
                Some(status) => {
                    eprintln!("tulga: {}", explain(status));
                    Ok(ExitCode::from(REFUSED))
                }
                None => Err(error),
            },
        }
    })
}

/// The gateway's key service, as the holder of the root key calls it.
struct Desk<'a> {
    client: KeyServiceClient<Channel>,
    config: &'a Config,
}

/// The register in force, and where the ledgers stand.
struct InForce {
    json: Vec<u8>,
    signature: String,
    register: KeyRegister,
    places: Vec<LedgerPlace>,
}

impl InForce {
    fn read(json: Vec<u8>, signature: String, ledgers: Vec<proto::LedgerPlace>) -> Result<Self> {
        let register = KeyRegister::parse(&json).context("the gateway's key register")?;
        let places = ledgers.into_iter().map(place).collect::<Result<_>>()?;
        Ok(Self { json, signature, register, places })
    }

    fn root(&self) -> Result<&KeyRecord> {
        let root = self.register.keys().iter().find(|key| key.usage == KeyUse::Root);
        root.context("the gateway's key register names no root key")
    }
}

impl Desk<'_> {
    async fn in_force(&mut self) -> Result<InForce> {
        let answer = self.client.list_keys(proto::ListKeysRequest {}).await?.into_inner();
        let proto::ListKeysResponse { register, signature, ledgers } = answer;
        InForce::read(register, signature, ledgers)
    }

    async fn list(&mut self, json: bool) -> Result<()> {
        let in_force = self.in_force().await?;
        let trust = TrustFingerprint::of(&in_force.root()?.public_key);
        KeyRegister::verify(&in_force.json, &in_force.signature, &trust)?;
        if json {
            let register: serde_json::Value = serde_json::from_slice(&in_force.json)?;
            let ledgers: Vec<_> = in_force.places.iter().map(machine).collect();
            let keys = register.get("keys");
            println!("{}", json!({"trust": trust.to_string(), "keys": keys, "ledgers": ledgers}));
            return Ok(());
        }
        let mut table = Table::new();
        table.set_header(["key", "for", "algorithm", "status", "from", "signs"]);
        for key in in_force.register.keys() {
            let ranges: Vec<_> = key.origins.iter().map(range_text).collect();
            table.add_row([
                key.kid.clone(),
                format!("{:?}", key.usage).to_lowercase(),
                key.algorithm.as_str().to_owned(),
                format!("{:?}", key.status).to_lowercase(),
                key.not_before.rfc3339(),
                ranges.join("\n"),
            ]);
        }
        println!("{table}");
        for place in &in_force.places {
            println!("{}: {}, next index {}", place.origin, word(place.state), place.next_index);
        }
        println!("trust fingerprint {trust}");
        Ok(())
    }

    async fn revoke(&mut self, kid: &str, change: &Change) -> Result<()> {
        let in_force = self.in_force().await?;
        let Some(key) = in_force.register.key(kid) else {
            bail!("the register names no key {kid:?}; `tulga keys list` shows them");
        };
        let usage = match key.usage {
            KeyUse::Receipt => Usage::Receipt,
            KeyUse::Ledger => Usage::Ledger,
            _ => bail!("{kid} is neither a receipt nor a ledger key; docs/keys.md says what then"),
        };
        if key.status == KeyStatus::Active {
            return self.rotate(usage, Some(kid), change).await;
        }
        let next = in_force.register.revoked(kid)?;
        if let Some(dir) = &change.write {
            return write_unsigned(dir, &next);
        }
        let receipts = self.sign_and_install(&in_force, &next, change).await?;
        told(change.json, &json!({ "revoked": kid }), &receipts, &format!("{kid} is revoked"))
    }

    /// Lets a new key take over, and revokes an old one with it.
    async fn rotate(&mut self, usage: Usage, revoke: Option<&str>, change: &Change) -> Result<()> {
        let wire = match usage {
            Usage::Receipt => proto::KeyUse::Receipt,
            Usage::Ledger => proto::KeyUse::Ledger,
        };
        let request = proto::PrepareKeyRequest { r#use: wire.into() };
        let prepared = self.client.prepare_key(request).await?.into_inner();
        let proto::PrepareKeyResponse {
            kid,
            spki_pem,
            not_before,
            home,
            register,
            signature,
            ledgers,
        } = prepared;
        let new = NewKey {
            kid,
            usage: match usage {
                Usage::Receipt => KeyUse::Receipt,
                Usage::Ledger => KeyUse::Ledger,
            },
            public_key: PublicKey::from_spki_pem(&spki_pem)?,
            not_before: UnixMillis::new(not_before.unwrap_or_default().unix_ms),
        };
        let mut in_force = InForce::read(register, signature, ledgers)?;
        let wider = MARGINS.into_iter().filter(|wider| Some(*wider) > change.margin);
        for margin in change.margin.into_iter().chain(wider) {
            let mut next = in_force.register.rotated(new.clone(), &in_force.places, margin)?;
            if let Some(kid) = revoke {
                next = next.revoked(kid)?;
            }
            if let Some(dir) = &change.write {
                return write_unsigned(dir, &next);
            }
            match self.sign_and_install(&in_force, &next, change).await {
                Ok(receipts) => {
                    let key = next.key(&new.kid).context("the new key")?;
                    return told_rotation(key, &home, revoke, &receipts, change.json);
                }
                Err(error) if !is_state(&error) => return Err(error),
                Err(error) => {
                    in_force = self.in_force().await?;
                    if !has_passed(&next, &new, &in_force.places) {
                        return Err(error);
                    }
                    eprintln!("tulga: the ledger was faster; trying further ahead of it");
                }
            }
        }
        bail!("the ledger passes every margin that was tried; give a larger --margin")
    }

    /// Signs a register with the root key and hands it to the gateway; the receipts that say so.
    async fn sign_and_install(
        &mut self,
        in_force: &InForce,
        next: &KeyRegister,
        change: &Change,
    ) -> Result<Vec<String>> {
        let root = root_key(self.config, change.root.as_deref(), &in_force.root()?.public_key)?;
        // What the gateway says is in force: signing on from a register that this key never signed
        // would vouch for whatever stands in it.
        let trust = TrustFingerprint::of(&root.public_key());
        KeyRegister::verify(&in_force.json, &in_force.signature, &trust)
            .context("the register that the gateway says is in force; nothing was signed")?;
        let json = next.to_json()?;
        let signature = KeyRegister::sign(json.as_bytes(), &*root)?;
        self.install(json.into_bytes(), signature).await
    }

    async fn install(&mut self, register: Vec<u8>, signature: String) -> Result<Vec<String>> {
        let request = proto::InstallRegisterRequest { register, signature };
        let answer = self.client.install_register(request).await?.into_inner();
        let receipts = answer.receipt_jws.into_iter().map(String::from_utf8);
        receipts.collect::<Result<_, _>>().context("the gateway's receipts")
    }

    async fn install_folder(&mut self, args: &Install) -> Result<()> {
        let read = |name: &str| {
            let path = args.dir.join(name);
            std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))
        };
        let (register, signature) = (read("keys.json")?, read("keys.json.sig")?);
        let signature = String::from_utf8(signature).context("keys.json.sig")?;
        let receipts = self.install(register, signature).await?;
        told(args.json, &json!({}), &receipts, "the register is in force")
    }
}

fn is_state(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Status>().is_some_and(|status| reason_of(status) == "REQ_STATE")
}

/// Whether a ledger stands behind where the new key was to take over.
fn has_passed(next: &KeyRegister, new: &NewKey, places: &[LedgerPlace]) -> bool {
    let ranges = next.key(&new.kid).map(|key| key.origins.as_slice()).unwrap_or_default();
    let of = |place: &LedgerPlace| ranges.iter().find(|range| range.origin == place.origin);
    places.iter().any(|place| of(place).is_some_and(|it| place.next_index > it.first_index))
}

/// Writes a register that somebody else signs.
fn write_unsigned(dir: &Path, next: &KeyRegister) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let path = dir.join("keys.json");
    std::fs::write(&path, next.to_json()?)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    eprintln!("tulga: {} is to be signed with the root key, and installed:", path.display());
    eprintln!(
        "  openssl pkeyutl -sign -rawin -inkey root.pem -in keys.json | base64 -w0 >keys.json.sig"
    );
    eprintln!("  tulga keys install {}", dir.display());
    Ok(())
}

fn told_rotation(
    key: &KeyRecord,
    home: &str,
    revoked: Option<&str>,
    receipts: &[String],
    json: bool,
) -> Result<()> {
    let starts: Vec<_> = key
        .origins
        .iter()
        .map(|range| json!({"origin": range.origin, "first_index": range.first_index}))
        .collect();
    let machine = json!({
        "kid": key.kid, "alg": key.algorithm.as_str(), "home": home, "origins": starts,
        "spki_sha256": key.public_key.fingerprint().hex(), "revoked": revoked,
    });
    let ranges: Vec<_> = key.origins.iter().map(range_text).collect();
    let revoked = revoked.map(|kid| format!("; {kid} is revoked")).unwrap_or_default();
    let text = format!(
        "{} ({}, in a {home}) takes over{revoked}\n  {}",
        key.kid,
        key.algorithm.as_str(),
        ranges.join("\n  ")
    );
    told(json, &machine, receipts, &text)
}

/// Prints what was done, and which entries of the ledger say so.
fn told(json: bool, machine: &serde_json::Value, receipts: &[String], text: &str) -> Result<()> {
    if json {
        let mut machine = machine.clone();
        if let Some(object) = machine.as_object_mut() {
            object.insert("receipts".to_owned(), json!(receipts));
        }
        println!("{machine}");
        return Ok(());
    }
    println!("{text}");
    for receipt in receipts {
        let log = parse(receipt)?.unverified_body().log.clone();
        println!("entry {} of {} says so", log.index, log.origin);
    }
    Ok(())
}

fn place(wire: proto::LedgerPlace) -> Result<LedgerPlace> {
    let proto::LedgerPlace { origin, state, next_index } = wire;
    let state = match proto::LedgerState::try_from(state) {
        Ok(proto::LedgerState::Closed) => LedgerState::Closed,
        Ok(proto::LedgerState::Current) => LedgerState::Current,
        Ok(proto::LedgerState::Ahead) => LedgerState::Ahead,
        Ok(proto::LedgerState::LogOfLogs) => LedgerState::LogOfLogs,
        Ok(proto::LedgerState::Unspecified) | Err(_) => {
            bail!("the gateway says of ledger {origin} what this program does not know")
        }
    };
    Ok(LedgerPlace { origin, state, next_index })
}

fn machine(place: &LedgerPlace) -> serde_json::Value {
    let LedgerPlace { origin, state, next_index } = place;
    json!({"origin": origin, "state": word(*state), "next_index": next_index})
}

const fn word(state: LedgerState) -> &'static str {
    match state {
        LedgerState::Closed => "closed",
        LedgerState::Current => "current",
        LedgerState::Ahead => "ahead",
        LedgerState::LogOfLogs => "log of logs",
    }
}

fn range_text(range: &KeyRange) -> String {
    let KeyRange { origin, first_index, last_index } = range;
    match last_index {
        Some(last) => format!("{origin} {first_index} to {last}"),
        None => format!("{origin} {first_index} on"),
    }
}
