//! `tulga audit export|verify|show|replay`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use indicatif::ProgressBar;
use tonic::transport::Channel;

use super::audit_replay;
use super::audit_verify;
use super::client::{ClientArgs, connect};
use super::runtime;
use crate::app::DataDir;
use crate::audit::ExportWriter;
use crate::config::Config;
use crate::pki::Role;
use crate::proto::ExportLedgerRequest;
use crate::proto::audit_service_client::AuditServiceClient;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Write the whole ledger to a folder
    Export(ExportArgs),
    /// Verify an exported ledger, or one receipt, without a gateway
    Verify(audit_verify::Args),
    /// Print one receipt of an export in plain words
    Show(audit_verify::ShowArgs),
    /// Make a decision again from the captures that were kept of it, and compare
    Replay(audit_replay::Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// Folder to write to; it must not hold an export
    dir: PathBuf,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) fn run(config: &Config, command: Command) -> Result<ExitCode> {
    match command {
        Command::Export(args) => export(config, &args),
        Command::Verify(args) => audit_verify::run(args),
        Command::Show(args) => audit_verify::show(&args),
        Command::Replay(args) => audit_replay::run(config, &args),
    }
}

fn export(config: &Config, args: &ExportArgs) -> Result<ExitCode> {
    let pki = DataDir::at(&config.paths.data_dir).pki();
    let address = args.client.gateway.clone().unwrap_or_else(|| config.server.listen.to_string());
    runtime()?.block_on(async {
        let channel = connect(&pki, &address, Role::Auditor, &args.client.name).await?;
        let bytes = export_to(channel, &args.dir).await?;
        println!("{bytes} bytes in {}", args.dir.display());
        println!("next: tulga audit verify {} --trust FINGERPRINT", args.dir.display());
        Ok(ExitCode::SUCCESS)
    })
}

/// Writes the export that a gateway streams; how many bytes it was.
pub(super) async fn export_to(channel: Channel, dir: &std::path::Path) -> Result<u64> {
    let writer = ExportWriter::create(dir)?;
    let mut stream =
        AuditServiceClient::new(channel).export_ledger(ExportLedgerRequest {}).await?.into_inner();
    let progress = ProgressBar::new_spinner().with_message("exporting");
    progress.enable_steady_tick(Duration::from_millis(250));
    let mut written = 0;
    while let Some(chunk) = stream.message().await? {
        writer.append(&chunk.path, &chunk.content)?;
        written += u64::try_from(chunk.content.len())?;
        progress.set_message(format!("exporting, {written} bytes"));
    }
    progress.finish_and_clear();
    Ok(written)
}
