//! `tulga sensor register|list|rotate|suspend|resume|revoke`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use tonic::transport::Channel;

use super::client::{ClientArgs, connect, explain};
use super::{REFUSED, runtime};
use crate::app::DataDir;
use crate::config::Config;
use crate::pki::Role;
use crate::proto;
use crate::proto::sensor_service_client::SensorServiceClient;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Register a sensor at a terminal, with the public key that it signs captures with
    Register(RegisterArgs),
    /// List sensors and their keys
    List(ClientArgs),
    /// Give a sensor another key
    Rotate(RotateArgs),
    /// Let none of a sensor's keys count until it is resumed
    Suspend(SensorArgs),
    /// Let a suspended sensor's keys count again
    Resume(SensorArgs),
    /// Revoke a sensor's keys, or one of them
    Revoke(RevokeArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct RegisterArgs {
    /// The terminal, such as ATM-004211
    terminal: String,
    /// The sensor, such as CAM-004211
    sensor: String,
    /// What it captures
    #[arg(long, value_name = "KIND", default_value = "face")]
    of: Kind,
    #[command(flatten)]
    key: KeyArgs,
    /// Its firmware, in its maker's words
    #[arg(long, value_name = "TEXT", default_value = "")]
    firmware: String,
    /// The camera or scanner in it, in its maker's words
    #[arg(long, value_name = "TEXT", default_value = "")]
    camera: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct RotateArgs {
    /// The sensor
    sensor: String,
    #[command(flatten)]
    key: KeyArgs,
    /// How long the old keys still count
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    overlap_s: u32,
    /// Its firmware from now on, where it changed
    #[arg(long, value_name = "TEXT", default_value = "")]
    firmware: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct SensorArgs {
    /// The sensor
    sensor: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct RevokeArgs {
    /// The sensor
    sensor: String,
    /// Which of its keys; all of them where it is left out
    #[arg(long, value_name = "NAME")]
    key_id: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
struct KeyArgs {
    /// The key's name
    #[arg(long, value_name = "NAME")]
    key_id: String,
    /// The public key, Ed25519 or P-256: SubjectPublicKeyInfo, PEM
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// How well the sensor keeps it
    #[arg(long, value_name = "LEVEL", default_value = "software-key")]
    level: Level,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Kind {
    Face,
    Finger,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Level {
    SoftwareKey,
    SecureElement,
}

impl Command {
    const fn client(&self) -> &ClientArgs {
        match self {
            Self::Register(args) => &args.client,
            Self::List(client) => client,
            Self::Rotate(args) => &args.client,
            Self::Suspend(args) | Self::Resume(args) => &args.client,
            Self::Revoke(args) => &args.client,
        }
    }
}

pub(super) fn run(config: &Config, command: &Command) -> Result<ExitCode> {
    let pki = DataDir::at(&config.paths.data_dir).pki();
    runtime()?.block_on(async {
        let client = command.client();
        let address = client.gateway.clone().unwrap_or_else(|| config.server.listen.to_string());
        let channel = connect(&pki, &address, Role::Admin, &client.name).await?;
        let mut desk = SensorServiceClient::new(channel);
        let result = match command {
            Command::Register(args) => register(&mut desk, args).await,
            Command::List(_) => list(&mut desk).await,
            Command::Rotate(args) => rotate(&mut desk, args).await,
            Command::Suspend(args) => suspend(&mut desk, &args.sensor).await,
            Command::Resume(args) => resume(&mut desk, &args.sensor).await,
            Command::Revoke(args) => revoke(&mut desk, args).await,
        };
        Ok(match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => match error.downcast_ref::<tonic::Status>() {
                Some(status) => {
                    eprintln!("tulga: {}", explain(status));
                    ExitCode::from(REFUSED)
                }
                None => return Err(error),
            },
        })
    })
}

type Desk = SensorServiceClient<Channel>;

async fn register(desk: &mut Desk, args: &RegisterArgs) -> Result<()> {
    let modality = match args.of {
        Kind::Face => proto::Modality::Face,
        Kind::Finger => proto::Modality::Finger,
    };
    let message = proto::RegisterSensorRequest {
        terminal_id: args.terminal.clone(),
        sensor_id: args.sensor.clone(),
        modality: modality.into(),
        key: Some(args.key.read()?),
        firmware: args.firmware.clone(),
        camera: args.camera.clone(),
    };
    desk.register_sensor(message).await?;
    println!("{} is registered at {}", args.sensor, args.terminal);
    Ok(())
}

async fn rotate(desk: &mut Desk, args: &RotateArgs) -> Result<()> {
    let message = proto::RotateSensorRequest {
        sensor_id: args.sensor.clone(),
        key: Some(args.key.read()?),
        overlap_s: args.overlap_s,
        firmware: args.firmware.clone(),
    };
    desk.rotate_sensor(message).await?;
    println!("{} has the key {}", args.sensor, args.key.key_id);
    Ok(())
}

async fn suspend(desk: &mut Desk, sensor: &str) -> Result<()> {
    desk.suspend_sensor(proto::SuspendSensorRequest { sensor_id: sensor.to_owned() }).await?;
    println!("{sensor} is suspended");
    Ok(())
}

async fn resume(desk: &mut Desk, sensor: &str) -> Result<()> {
    desk.resume_sensor(proto::ResumeSensorRequest { sensor_id: sensor.to_owned() }).await?;
    println!("{sensor} is resumed");
    Ok(())
}

async fn revoke(desk: &mut Desk, args: &RevokeArgs) -> Result<()> {
    let key_id = args.key_id.clone().unwrap_or_default();
    let message = proto::RevokeSensorRequest { sensor_id: args.sensor.clone(), key_id };
    desk.revoke_sensor(message).await?;
    match &args.key_id {
        Some(key) => println!("{key} of {} is revoked", args.sensor),
        None => println!("{} is revoked", args.sensor),
    }
    Ok(())
}

async fn list(desk: &mut Desk) -> Result<()> {
    let mut page_token = String::new();
    loop {
        let message = proto::ListSensorsRequest { page_size: 100, page_token };
        let answer = desk.list_sensors(message).await?.into_inner();
        for sensor in &answer.sensors {
            let key = sensor.key.as_ref();
            let level = key.map(|key| key.level().as_str_name()).unwrap_or_default();
            println!(
                "{:<24} {:<24} {:<24} {:<8} {:<14} {:<10} {}",
                sensor.terminal_id,
                sensor.sensor_id,
                key.map(|key| key.key_id.as_str()).unwrap_or_default(),
                word(sensor.modality().as_str_name(), "MODALITY_"),
                word(level, "SENSOR_LEVEL_"),
                word(sensor.state().as_str_name(), "SENSOR_KEY_STATE_"),
                sensor.counter,
            );
        }
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return Ok(());
        }
    }
}

fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase()
}

impl KeyArgs {
    fn read(&self) -> Result<proto::SensorKey> {
        let level = match self.level {
            Level::SoftwareKey => proto::SensorLevel::SoftwareKey,
            Level::SecureElement => proto::SensorLevel::SecureElement,
        };
        Ok(proto::SensorKey {
            key_id: self.key_id.clone(),
            public_key_pem: read(&self.key)?,
            level: level.into(),
        })
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}
