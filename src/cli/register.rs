//! `tulga register`: registers from CSV files, and which versions are in force.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use comfy_table::Table;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::client::{ClientArgs, connect, explain};
use super::{REFUSED, runtime};
use crate::app::DataDir;
use crate::config::Config;
use crate::domain::register::Register;
use crate::pki::Role;
use crate::proto;
use crate::proto::import_register_request::Part;
use crate::proto::import_register_response::Answer;
use crate::proto::register_service_client::RegisterServiceClient;

/// Rows in one message.
const ROWS: usize = 1_000;

/// Messages that may wait for the network.
const WAITING: usize = 8;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Replace a register by a CSV file with the columns `value`, `note`, `valid_until`
    Import(Import),
    /// The versions in force
    List(List),
}

#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// The register, such as `dropper` or `hotlist_card`; a wrong one is answered with the list
    #[arg(value_parser = register)]
    kind: Register,
    /// The file; its first line names the columns, of which only `value` must be there
    file: PathBuf,
    /// Only tell what would change
    #[arg(long)]
    dry_run: bool,
    /// Import what can be taken, though some rows cannot
    #[arg(long)]
    skip_bad_rows: bool,
    /// For machines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// For machines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) fn run(config: &Config, command: Command) -> Result<ExitCode> {
    let client = match &command {
        Command::Import(args) => args.client.clone(),
        Command::List(args) => args.client.clone(),
    };
    let pki = DataDir::at(&config.paths.data_dir).pki();
    let address = client.gateway.clone().unwrap_or_else(|| config.server.listen.to_string());
    runtime()?.block_on(async {
        let channel = connect(&pki, &address, Role::Admin, &client.name).await?;
        match command {
            Command::Import(args) => import(channel, args).await,
            Command::List(args) => list(channel, args.json).await,
        }
    })
}

fn register(word: &str) -> Result<Register, String> {
    let known = || Register::ALL.map(Register::as_str).join(", ");
    Register::from_word(word).ok_or_else(|| format!("there are {}", known()))
}

async fn import(channel: Channel, args: Import) -> Result<ExitCode> {
    let name = format!("REGISTER_KIND_{}", args.kind.as_str().to_uppercase());
    let kind = proto::RegisterKind::from_str_name(&name).unwrap_or_default();
    let begin = proto::RegisterImport {
        kind: kind.into(),
        dry_run: args.dry_run,
        skip_bad_rows: args.skip_bad_rows,
    };
    let (parts, stream) = mpsc::channel(WAITING);
    let path = args.file.clone();
    let bar = progress(&path, args.json)?;
    let reading = tokio::task::spawn_blocking(move || read(&path, begin, &parts, &bar));
    let mut client = RegisterServiceClient::new(channel);
    let told = told(&mut client, ReceiverStream::new(stream), args.json).await;
    // A file that cannot be read is the first cause, whatever the gateway said to half of it.
    reading.await.context("reading the file")??;
    match told {
        Ok(diff) => {
            print_diff(&diff, &args);
            Ok(ExitCode::SUCCESS)
        }
        Err(status) => {
            eprintln!("tulga: {}", explain(&status));
            Ok(ExitCode::from(REFUSED))
        }
    }
}

/// Sends the rows and prints those that are refused; what changed in the end.
async fn told(
    client: &mut RegisterServiceClient<Channel>,
    parts: ReceiverStream<proto::ImportRegisterRequest>,
    json: bool,
) -> Result<proto::RegisterDiff, tonic::Status> {
    let mut answers = client.import_register(parts).await?.into_inner();
    let mut diff = proto::RegisterDiff::default();
    while let Some(proto::ImportRegisterResponse { answer }) = answers.message().await? {
        match answer {
            Some(Answer::Diff(last)) => diff = last,
            Some(Answer::BadRow(proto::BadRegisterRow { line, field, problem })) => {
                if json {
                    println!("{}", json!({ "line": line, "field": field, "problem": problem }));
                } else {
                    eprintln!("line {line}: {field}: {problem}");
                }
            }
            None => {}
        }
    }
    Ok(diff)
}

/// A bar over the file's bytes; hidden for machines and where there is no terminal.
fn progress(path: &Path, json: bool) -> Result<ProgressBar> {
    let unreadable = || format!("{} cannot be read", path.display());
    let bytes = std::fs::metadata(path).with_context(unreadable)?.len();
    if json {
        return Ok(ProgressBar::hidden());
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {eta}")?;
    Ok(ProgressBar::new(bytes).with_style(style))
}

/// Reads the file and hands its rows on; ends early when nobody takes them.
fn read(
    path: &Path,
    begin: proto::RegisterImport,
    parts: &mpsc::Sender<proto::ImportRegisterRequest>,
    bar: &ProgressBar,
) -> Result<()> {
    let unreadable = || format!("{} cannot be read", path.display());
    let mut file = csv::ReaderBuilder::new()
        .flexible(true)
        .trim(csv::Trim::All)
        .from_path(path)
        .with_context(unreadable)?;
    let header = file.headers().with_context(unreadable)?.clone();
    let column = |name: &str| header.iter().position(|column| column == name);
    let Some(value) = column("value") else {
        bail!("the first line of {} names no column `value`", path.display());
    };
    let (note, valid_until) = (column("note"), column("valid_until"));
    let send = |part| parts.blocking_send(proto::ImportRegisterRequest { part: Some(part) });
    if send(Part::Begin(begin)).is_err() {
        return Ok(());
    }
    let mut rows = Vec::with_capacity(ROWS);
    for record in file.records() {
        let record = record.with_context(unreadable)?;
        let field = |place: Option<usize>| {
            place.and_then(|place| record.get(place)).unwrap_or_default().to_owned()
        };
        let line = record.position().map_or(0, csv::Position::line);
        rows.push(proto::RegisterRow {
            line,
            value: field(Some(value)),
            note: field(note),
            valid_until: field(valid_until),
        });
        if rows.len() == ROWS {
            bar.set_position(record.position().map_or(0, csv::Position::byte));
            let rows = std::mem::replace(&mut rows, Vec::with_capacity(ROWS));
            if send(Part::Rows(proto::RegisterRows { rows })).is_err() {
                return Ok(());
            }
        }
    }
    if !rows.is_empty() {
        send(Part::Rows(proto::RegisterRows { rows })).ok();
    }
    bar.finish_and_clear();
    Ok(())
}

fn print_diff(diff: &proto::RegisterDiff, args: &Import) {
    let proto::RegisterDiff { added, removed, unchanged, changed, bad_rows, version } = diff;
    if args.json {
        let version = version.as_ref().map(machine);
        let diff = json!({
            "added": added, "removed": removed, "unchanged": unchanged, "changed": changed,
            "bad_rows": bad_rows, "version": version,
        });
        println!("{diff}");
        return;
    }
    println!("{added} added, {removed} removed, {changed} changed, {unchanged} unchanged");
    if *bad_rows > 0 {
        println!("{bad_rows} rows could not be taken");
    }
    match version {
        Some(version) => println!(
            "{} version {}: {} values, {}",
            version.name, version.version, version.count, version.hash
        ),
        None => println!("nothing was imported"),
    }
}

async fn list(channel: Channel, json: bool) -> Result<ExitCode> {
    let mut client = RegisterServiceClient::new(channel);
    let registers = match client.list_registers(proto::ListRegistersRequest {}).await {
        Ok(answer) => answer.into_inner().registers,
        Err(status) => {
            eprintln!("tulga: {}", explain(&status));
            return Ok(ExitCode::from(REFUSED));
        }
    };
    if json {
        println!("{}", json!(registers.iter().map(machine).collect::<Vec<_>>()));
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.set_header(["register", "version", "values", "imported", "hash"]);
    for row in registers {
        let imported = row.imported_at.map(|at| at.rfc3339).unwrap_or_default();
        let (version, count) = (row.version.to_string(), row.count.to_string());
        table.add_row([row.name, version, count, imported, row.hash]);
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}

fn machine(row: &proto::RegisterVersion) -> serde_json::Value {
    json!({
        "name": row.name, "version": row.version, "hash": row.hash, "count": row.count,
        "imported_at": row.imported_at.as_ref().map(|at| &at.rfc3339),
        "entry_index": row.entry_index,
    })
}
