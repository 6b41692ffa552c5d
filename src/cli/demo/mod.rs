//! `tulga demo`: a gateway on a loopback port, real certificates, photographs and models, and a
//! scripted day at a terminal by the pack that a fresh clone has, then a day in Almaty by the rules of
//! Kazakhstan, with its reports; then the ledger is exported and verified from outside.

mod almaty;
mod at_the_machine;
mod fingers;
mod phone;
mod pictures;
mod reports;
mod stage;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use indicatif::ProgressBar;
use serde_json::json;

use self::pictures::Album;
use self::reports::Report;
use self::stage::{Place, Row, Stage};
use super::{REFUSED, audit, runtime};
use crate::app::{self, App, DataDir};
use crate::audit::{AuditReport, Options, verify_export};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder to keep the demonstration's data in; by default a temporary one
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Folder of the photographs
    #[arg(long, value_name = "DIR", default_value = "demo")]
    photographs: PathBuf,
    /// Pack of rules of the day in Almaty
    #[arg(long, value_name = "DIR", default_value = "policies/kz-2026")]
    pack: PathBuf,
    /// For machines
    #[arg(long)]
    json: bool,
}

/// Where the demonstration lives, and whether it goes away afterwards.
struct Home {
    path: PathBuf,
    temporary: bool,
}

impl Home {
    fn new(chosen: Option<&Path>) -> Result<Self> {
        let now = SystemClock.now().get();
        let (parent, temporary) = match chosen {
            Some(path) => (path.to_owned(), false),
            None => (std::env::temp_dir(), true),
        };
        // A fresh folder each time: a demonstration begins with an empty ledger.
        let path = parent.join(format!("tulga-demo-{now}-{}", std::process::id()));
        std::fs::create_dir_all(parent)?;
        // Nobody else's, and for nobody else to read.
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self { path, temporary })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.temporary {
            // What cannot be removed stays in the folder for temporary files.
            drop(std::fs::remove_dir_all(&self.path));
        }
    }
}

/// Runs the day; 1 when anything came out otherwise than the script says.
pub(super) fn run(mut config: Config, args: Args) -> Result<ExitCode> {
    let home = Home::new(args.data_dir.as_deref())?;
    config.paths.data_dir = home.path.join("data");
    // The demonstration's cameras show the same few photographs again and again.
    config.capture_seen_ms = 0;
    let data = DataDir::at(&config.paths.data_dir);
    let export = home.path.join("export");
    let progress = ProgressBar::new_spinner();
    if !args.json {
        progress.enable_steady_tick(Duration::from_millis(100));
        progress.set_message("loading the models");
    }
    let played = runtime()?.block_on(play(&config, &args, &export, &progress))?;
    let trust = app::trust_fingerprint(&data)?;
    let report = verify_export(&export, Some(&trust), &Options::default(), &mut |_| ())?;
    progress.finish_and_clear();
    let as_scripted = played.rows.iter().all(Row::as_scripted);
    if args.json {
        let rows: Vec<_> = played.rows.iter().map(Row::to_json).collect();
        let reports: Vec<_> = played.reports.iter().map(Report::to_json).collect();
        let seen = json!({
            "rows": rows,
            "as_scripted": as_scripted,
            "reports": reports,
            "trust": trust.to_string(),
            "ledger_good": report.is_good(),
            "ledger": &report,
        });
        println!("{}", serde_json::to_string_pretty(&seen)?);
    } else {
        print(&played, &report, &trust.to_string())?;
        if !home.temporary {
            println!("kept:    {}", home.path.display());
        }
    }
    Ok(if as_scripted && report.is_good() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

/// What the demonstration leaves.
struct Played {
    rows: Vec<Row>,
    reports: Vec<Report>,
}

async fn play(
    config: &Config,
    args: &Args,
    export: &Path,
    progress: &ProgressBar,
) -> Result<Played> {
    let app = App::open(config).await?;
    let listener = app::bind("127.0.0.1:0".parse()?).await?;
    let address = listener.local_addr()?.to_string();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(app.serve(listener, async {
        // Either told to stop, or the demonstration is gone.
        drop(stopped.await);
    }));
    let data = DataDir::at(&config.paths.data_dir);
    let place = Place {
        pki: data.pki(),
        address,
        pack: args.pack.clone(),
        tenant: config.identity.tenant.clone(),
        zone: config.identity.zone.clone(),
    };
    let mut stage = Stage::new(&place, progress).await?;
    let played = async {
        let album = Album::read(&args.photographs)?;
        let people = at_the_machine::play(&mut stage, &album).await?;
        almaty::play(&mut stage, &album, &people).await?;
        let reports = reports::make(&stage, &app::trust_fingerprint(&data)?).await?;
        audit::export_to(stage.auditor(), export, crate::proto::ExportLedgerRequest::default())
            .await?;
        Ok::<_, anyhow::Error>(reports)
    };
    let played = played.await;
    drop(stop);
    server.await??;
    if played.is_err() && !args.json {
        // How far it came says what went wrong.
        progress.finish_and_clear();
        print_scenes(&stage.rows);
    }
    Ok(Played { reports: played?, rows: stage.rows })
}

fn print_scenes(rows: &[Row]) {
    for scene in rows.chunk_by(|one, next| one.scene == next.scene) {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(["", "what happens", "answer", "public reason", "rule", "ms", "receipt"]);
        table.add_rows(scene.iter().map(Row::cells));
        println!("{}", scene.first().map_or("", |row| row.scene));
        println!("{table}\n");
    }
}

fn print(played: &Played, report: &AuditReport, trust: &str) -> Result<()> {
    print_scenes(&played.rows);
    for report in &played.reports {
        report.print()?;
        println!();
    }
    let entries = report.entries();
    let verdict = if report.is_good() { "every check passed" } else { "FINDINGS" };
    println!("ledger:  {entries} entries exported and verified from outside: {verdict}");
    println!("trust:   {trust}");
    if played.rows.iter().any(|row| !row.as_scripted()) {
        println!("Rows marked ✗ came out otherwise than the script says.");
    }
    Ok(())
}
