//! `tulga report suspicious|totals|failures|verify`: reports to the regulators, and what proves them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Read as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tonic::Status;
use tonic::transport::Channel;

use super::client::{ClientArgs, connect, explain};
use super::{REFUSED, USAGE, runtime};
use crate::app::DataDir;
use crate::config::Config;
use crate::crypto::{Digest, Sha256};
use crate::pki::Role;
use crate::proto::report_service_client::ReportServiceClient;
use crate::proto::{MakeReportRequest, ReportFormat, ReportKind, ReportSeal};
use crate::receipt::TrustFingerprint;
use crate::report::{SEAL_BYTES_MAX, Seal, VerifiedReport};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Operations with a sign's code, for the financial monitor
    Suspicious(MakeArgs),
    /// Cash turnover by day, terminal, operation and currency
    Totals(MakeArgs),
    /// Failures by day and terminal
    Failures(MakeArgs),
    /// Verify a report by its seal, without a gateway
    Verify(VerifyArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct MakeArgs {
    /// First day, YYYY-MM-DD in the bank's time zone
    #[arg(long, value_name = "DAY")]
    from: String,
    /// Last day, included
    #[arg(long, value_name = "DAY")]
    to: String,
    /// How it is written
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,
    /// File to write to, with its seal in FILE.seal; neither must exist. Without it the report goes to the
    /// standard output, without a seal
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Call as an auditor in place of oversight
    #[arg(long)]
    auditor: bool,
    /// Say for machines what was made; needs --out
    #[arg(long, requires = "out")]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Csv,
    Json,
    Xml,
}

#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    /// The report
    file: PathBuf,
    /// Fingerprint of the root key, as it was published
    #[arg(long, value_name = "FINGERPRINT")]
    trust: TrustFingerprint,
    /// The seal, in place of FILE.seal
    #[arg(long, value_name = "FILE")]
    seal: Option<PathBuf>,
    /// For machines
    #[arg(long)]
    json: bool,
}

pub(super) fn run(config: &Config, command: Command) -> Result<ExitCode> {
    let (kind, args) = match command {
        Command::Suspicious(args) => (ReportKind::Suspicious, args),
        Command::Totals(args) => (ReportKind::Totals, args),
        Command::Failures(args) => (ReportKind::Failures, args),
        Command::Verify(args) => return verify(&args),
    };
    make(config, kind, &args)
}

fn make(config: &Config, kind: ReportKind, args: &MakeArgs) -> Result<ExitCode> {
    let pki = DataDir::at(&config.paths.data_dir).pki();
    let address = args.client.gateway.clone().unwrap_or_else(|| config.server.listen.to_string());
    let role = if args.auditor { Role::Auditor } else { Role::Oversight };
    if let Some(out) = &args.out
        && let Some(there) = [out.clone(), seal_path(out)].into_iter().find(|path| path.exists())
    {
        eprintln!("tulga: {} is there already", there.display());
        return Ok(ExitCode::from(USAGE));
    }
    let request = MakeReportRequest {
        kind: kind.into(),
        format: match args.format {
            Format::Csv => ReportFormat::Csv,
            Format::Json => ReportFormat::Json,
            Format::Xml => ReportFormat::Xml,
        }
        .into(),
        from: args.from.clone(),
        to: args.to.clone(),
    };
    runtime()?.block_on(async {
        let channel = connect(&pki, &address, role, &args.client.name).await?;
        let made = match &args.out {
            Some(out) => to_file(channel, request, out).await?,
            None => fetch(channel, request, &mut io::stdout().lock()).await?,
        };
        match made {
            Ok(seal) => {
                say(args, &seal);
                Ok(ExitCode::SUCCESS)
            }
            Err(status) => {
                eprintln!("tulga: {}", explain(&status));
                Ok(ExitCode::from(REFUSED))
            }
        }
    })
}

fn say(args: &MakeArgs, seal: &ReportSeal) {
    let sha256 = Digest::try_from(seal.sha256.as_slice()).map(|digest| digest.hex());
    let sha256 = sha256.unwrap_or_default();
    let index = seal.position.as_ref().map(|position| position.index);
    match &args.out {
        Some(out) if args.json => println!(
            "{}",
            json!({
                "file": out, "seal": seal_path(out), "rows": seal.rows, "bytes": seal.bytes,
                "sha256": sha256, "receipt_index": index,
            })
        ),
        Some(out) => {
            println!("{} rows, {} bytes in {}", seal.rows, seal.bytes, out.display());
            println!("next: tulga report verify {} --trust FINGERPRINT", out.display());
        }
        None => eprintln!("{} rows; without --out there is no seal", seal.rows),
    }
}

/// The seal's place beside a report.
fn seal_path(report: &Path) -> PathBuf {
    let mut name = report.as_os_str().to_owned();
    name.push(".seal");
    name.into()
}

/// Writes a report and its seal; neither is there under its name unless both are whole.
async fn to_file(
    channel: Channel,
    request: MakeReportRequest,
    out: &Path,
) -> Result<Result<ReportSeal, Status>> {
    let mut name = out.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let new = |path: &Path| OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = new(&part).with_context(|| format!("{} cannot be written", part.display()))?;
    let made = fetch(channel, request, &mut file).await;
    let seal = match made {
        Ok(Ok(seal)) => seal,
        failed => {
            drop(fs::remove_file(&part));
            return failed;
        }
    };
    file.sync_all()?;
    let mut sealed = new(&seal_path(out))?;
    sealed.write_all(&seal.seal)?;
    sealed.sync_all()?;
    fs::rename(&part, out)?;
    Ok(Ok(seal))
}

/// Receives a report; the outer error is this side's, the inner one the gateway's.
pub(super) async fn fetch(
    channel: Channel,
    request: MakeReportRequest,
    out: &mut dyn Write,
) -> Result<Result<ReportSeal, Status>> {
    let answered = ReportServiceClient::new(channel).make_report(request).await;
    let mut stream = match answered {
        Ok(answered) => answered.into_inner(),
        Err(status) => return Ok(Err(status)),
    };
    let bar = progress();
    let (mut hash, mut bytes) = (Sha256::default(), 0u64);
    loop {
        let piece = match stream.message().await {
            Ok(Some(piece)) => piece,
            Ok(None) => bail!("the report ended without its seal: it is none"),
            Err(status) => return Ok(Err(status)),
        };
        bar.set_length(u64::from(piece.days));
        bar.set_position(u64::from(piece.days_done));
        out.write_all(&piece.content)?;
        hash.update(&piece.content);
        bytes += u64::try_from(piece.content.len())?;
        if let Some(seal) = piece.seal {
            bar.finish_and_clear();
            out.flush()?;
            if hash.finish().as_bytes().as_slice() != seal.sha256 || bytes != seal.bytes {
                bail!("the report that arrived is not the one that was sealed");
            }
            return Ok(Ok(seal));
        }
    }
}

fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} days");
    let bar = ProgressBar::no_length();
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn verify(args: &VerifyArgs) -> Result<ExitCode> {
    let seal_file = args.seal.clone().unwrap_or_else(|| seal_path(&args.file));
    let read = || -> io::Result<(Digest, u64, Vec<u8>)> {
        let (digest, bytes) = digest_of(&args.file)?;
        let mut seal = Vec::new();
        let limit = u64::try_from(SEAL_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
        File::open(&seal_file)?.take(limit).read_to_end(&mut seal)?;
        Ok((digest, bytes, seal))
    };
    let (digest, bytes, seal) = match read() {
        Ok(read) => read,
        Err(error) => {
            eprintln!("tulga: the report or its seal cannot be read: {error}");
            return Ok(ExitCode::from(USAGE));
        }
    };
    match Seal::parse(&seal).and_then(|seal| seal.verify(&digest, bytes, &args.trust)) {
        Ok(verified) => {
            say_good(&verified, args.json)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(fault) => {
            if args.json {
                println!("{}", json!({ "good": false, "code": fault.code() }));
            } else {
                println!("bad   {fault} ({})", fault.code());
            }
            Ok(ExitCode::from(REFUSED))
        }
    }
}

fn say_good(verified: &VerifiedReport, json: bool) -> Result<()> {
    let VerifiedReport { header, made_by, made_at, index } = verified;
    if json {
        let header = serde_json::to_value(header)?;
        let seen = json!({
            "good": true, "header": header, "made_by": made_by, "made_at": made_at,
            "receipt_index": index,
        });
        println!("{seen}");
        return Ok(());
    }
    println!("good  {} from {} to {}: {} rows", header.kind, header.from, header.to, header.rows);
    println!("      made {made_at} by {made_by}, entry {index} of {}", header.origin);
    Ok(())
}

fn digest_of(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let (mut hash, mut bytes) = (Sha256::default(), 0u64);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = file.read(&mut buffer)?;
        let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else {
            return Ok((hash.finish(), bytes));
        };
        hash.update(piece);
        bytes += u64::try_from(count).unwrap_or(u64::MAX);
    }
}
