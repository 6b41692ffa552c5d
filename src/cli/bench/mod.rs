//! `tulga bench load`: verifications against a real gateway, over mutual TLS, with a real picture.

mod figures;
mod gateway;
mod ledger;
mod load;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};

use self::figures::Figures;
use self::gateway::Target;
use self::load::{Arrivals, Load};
use super::{REFUSED, runtime};
use crate::config::Config;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Verify as fast as so many terminals can, or so many times a second
    Load(Args),
    /// Make an export of a ledger that never was, with keys of its own, to measure audits with
    #[command(hide = true)]
    Ledger(ledger::Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Terminals, each with its own connection; each waits for its answer before it asks again
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    clients: u16,
    /// Verifications that begin in a second, whatever became of those before (open loop); times then
    /// count from when each should have begun. Without it terminals pause only where they are told to
    /// (closed loop)
    #[arg(long, value_name = "RATE", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: Option<u32>,
    /// How long, after a second of warming up
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// How long a terminal waits for an answer
    #[arg(long, default_value_t = 8_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    deadline_ms: u32,
    /// The picture that is sent
    #[arg(long, value_name = "FILE", default_value = "demo/obama2.jpg")]
    picture: PathBuf,
    /// Pictures that the person is enrolled from, where a gateway is started for this
    #[arg(long, value_name = "FILE", default_values = ["demo/obama.jpg", "demo/obama3.jpg"])]
    enrol: Vec<PathBuf>,
    /// A gateway that runs, in place of one started for this; its terminals BENCH-1 and so on are
    /// registered, by its certificates in the configured data folder
    #[arg(long, value_name = "HOST:PORT", requires = "card")]
    gateway: Option<String>,
    /// Token of a card at that gateway
    #[arg(long, value_name = "TOKEN")]
    card: Option<String>,
    /// For machines
    #[arg(long)]
    json: bool,
}

pub(super) fn run(config: &Config, command: Command) -> Result<ExitCode> {
    let args = match command {
        Command::Load(args) => args,
        Command::Ledger(args) => return ledger::run(&args),
    };
    let picture = std::fs::read(&args.picture)
        .with_context(|| format!("{} cannot be read", args.picture.display()))?;
    let figures = runtime()?.block_on(async {
        let target = match (&args.gateway, &args.card) {
            (Some(address), Some(card)) => Target::running(config, address, card),
            _ => Target::started(config, &args.enrol).await?,
        };
        let idle = target.usage();
        let load = Load {
            arrivals: match args.rate {
                Some(rate) => Arrivals::Rate(rate),
                None => Arrivals::Closed,
            },
            clients: usize::from(args.clients),
            duration: Duration::from_secs(args.seconds.into()),
            deadline: Duration::from_millis(args.deadline_ms.into()),
            picture: picture.into(),
        };
        let seen = load.run(&target, !args.json).await?;
        Ok::<_, anyhow::Error>(Figures::new(&load, &seen, idle, target.usage()))
    })?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    } else {
        print!("{figures}");
    }
    Ok(if figures.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}
