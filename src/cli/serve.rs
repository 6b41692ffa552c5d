//! `tulga serve` and `tulga init`.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::{INTERNAL, REFUSED, runtime};
use crate::app::{self, App, DataDir};
use crate::config::Config;
use crate::grpc::server::Ended;
use crate::telemetry;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Address to listen on, in place of the configured one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<std::net::SocketAddr>,
    /// Go on from the database's head though the record of the last signed one is missing: only where
    /// this database is surely the latest, for a restored one would sign a second history
    #[arg(long)]
    adopt_head: bool,
    /// Serve though the private half of this key is lost, so that another can take over
    #[arg(long, value_name = "KEY")]
    lost_key: Vec<String>,
}

/// Serves until the process is told to end, then drains.
pub(super) fn run(config: &Config, args: &Args) -> anyhow::Result<ExitCode> {
    telemetry::start(&config.log)?;
    // Before any key is read, and before there is another thread.
    app::harden();
    runtime()?.block_on(async {
        let data = DataDir::at(&config.paths.data_dir);
        if !data.is_complete() {
            let fingerprint = app::init(config)?;
            announce_init(&data, &fingerprint.to_string());
        }
        if args.adopt_head {
            let size = app::adopt_head(config).await?;
            eprintln!("tulga: adopted the database's head, {size} entries");
        }
        let app = App::open_without(config, &args.lost_key).await?;
        let listener = app::bind(args.listen.unwrap_or(config.server.listen)).await?;
        // Before anybody is told that it serves: who stops it then lets it drain.
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        eprintln!("tulga: serving on https://{}", listener.local_addr()?);
        eprintln!("tulga: trust fingerprint {}", app::trust_fingerprint(&data)?);
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            eprintln!("tulga: draining");
        };
        match app.serve(listener, stop).await? {
            Ended::Drained => Ok(ExitCode::SUCCESS),
            Ended::CutOff => {
                eprintln!("tulga: calls that were still under way were cut off");
                Ok(ExitCode::from(INTERNAL))
            }
        }
    })
}

/// Makes the data folder.
pub(super) fn init(config: &Config) -> anyhow::Result<ExitCode> {
    let data = DataDir::at(&config.paths.data_dir);
    if data.is_complete() {
        eprintln!("tulga: {} is made already; nothing was changed", data.path().display());
        eprintln!("tulga: trust fingerprint {}", app::trust_fingerprint(&data)?);
        return Ok(ExitCode::from(REFUSED));
    }
    announce_init(&data, &app::init(config)?.to_string());
    Ok(ExitCode::SUCCESS)
}

fn announce_init(data: &DataDir, fingerprint: &str) {
    let at = data.path().display();
    eprintln!("tulga: made {at}");
    eprintln!("  pki/               development authority, server and client certificates");
    eprintln!(
        "  keys/              root, receipt and ledger keys that are no token's; the key-encryption key (kek)"
    );
    eprintln!("  keys.json(.sig)    the key register, signed by the root key");
    if data.path().join("keys").join("root.pem").exists() {
        eprintln!(
            "  The root key signs the register only: take {at}/keys/root.pem off this machine."
        );
    }
    eprintln!("  Publish this; who verifies receipts needs it: {fingerprint}");
}
