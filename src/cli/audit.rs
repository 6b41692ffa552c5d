//! `tulga audit export|verify|show`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use tonic::transport::Channel;

use super::client::{ClientArgs, connect};
use super::runtime;
use super::{audit_reconcile, audit_verify};
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
    /// Compare a journal of cash with an exported ledger
    Reconcile(audit_reconcile::Args),
    /// Print one receipt of an export in plain words
    Show(audit_verify::ShowArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// Folder to write to; it must not hold an export
    dir: PathBuf,
    /// Write the salted audit records too: scores, quality, timings, internal reasons
    #[arg(long)]
    audit_records: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) fn run(config: &Config, command: Command) -> Result<ExitCode> {
    match command {
        Command::Export(args) => export(config, &args),
        Command::Verify(args) => audit_verify::run(args),
        Command::Reconcile(args) => audit_reconcile::run(&args),
        Command::Show(args) => audit_verify::show(&args),
    }
}

fn export(config: &Config, args: &ExportArgs) -> Result<ExitCode> {
    let pki = DataDir::at(&config.paths.data_dir).pki();
    let address = args.client.gateway.clone().unwrap_or_else(|| config.server.listen.to_string());
    runtime()?.block_on(async {
        let channel = connect(&pki, &address, Role::Auditor, &args.client.name).await?;
        let request = ExportLedgerRequest { audit_records: args.audit_records };
        let bytes = export_to(channel, &args.dir, request).await?;
        println!("{bytes} bytes in {}", args.dir.display());
        println!("next: tulga audit verify {} --trust FINGERPRINT", args.dir.display());
        Ok(ExitCode::SUCCESS)
    })
}

/// Writes the export that a gateway streams; how many bytes it was.
pub(super) async fn export_to(
    channel: Channel,
    dir: &std::path::Path,
    request: ExportLedgerRequest,
) -> Result<u64> {
    let writer = ExportWriter::create(dir)?;
    let mut stream = AuditServiceClient::new(channel).export_ledger(request).await?.into_inner();
    let bar = "{wide_bar} {pos} of {len} entries, {msg}, {eta} left";
    let progress = ProgressBar::new(0).with_style(ProgressStyle::with_template(bar)?);
    progress.enable_steady_tick(Duration::from_millis(250));
    let mut written = 0;
    while let Some(chunk) = stream.message().await? {
        writer.append(&chunk.path, &chunk.content)?;
        written += u64::try_from(chunk.content.len())?;
        progress.set_length(chunk.entries_total);
        progress.set_position(chunk.entries_done);
        progress.set_message(HumanBytes(written).to_string());
    }
    progress.finish_and_clear();
    Ok(written)
}
