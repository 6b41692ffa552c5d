//! `tulga demo`: a gateway on a loopback port, real certificates, photographs and models, and a
//! scripted day at a terminal; then the ledger is exported and verified from outside.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use indicatif::ProgressBar;
use serde_json::json;

use super::demo_day::{Day, Row};
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
    fn new(chosen: Option<PathBuf>) -> Result<Self> {
        let now = SystemClock.now().get();
        let (parent, temporary) = match chosen {
            Some(path) => (path, false),
            None => (std::env::temp_dir(), true),
        };
        // A fresh folder each time: a demonstration begins with an empty ledger.
        let path = parent.join(format!("tulga-demo-{now}-{}", std::process::id()));
        std::fs::create_dir_all(&path)
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
    let home = Home::new(args.data_dir)?;
    config.paths.data_dir = home.path.join("data");
    let data = DataDir::at(&config.paths.data_dir);
    let export = home.path.join("export");
    let progress = ProgressBar::new_spinner();
    if !args.json {
        progress.enable_steady_tick(Duration::from_millis(100));
        progress.set_message("loading the models");
    }
    let rows = runtime()?.block_on(play(&config, &args.photographs, &export, &progress))?;
    let trust = app::trust_fingerprint(&data)?;
    let report = verify_export(&export, Some(&trust), &Options::default(), &mut |_| ())?;
    progress.finish_and_clear();
    let as_scripted = rows.iter().all(Row::as_scripted);
    if args.json {
        let rows: Vec<_> = rows.iter().map(Row::to_json).collect();
        let seen = json!({
            "rows": rows,
            "as_scripted": as_scripted,
            "trust": trust.to_string(),
            "ledger_good": report.is_good(),
            "ledger": &report,
        });
        println!("{}", serde_json::to_string_pretty(&seen)?);
    } else {
        print(&rows, &report, &trust.to_string());
        if !home.temporary {
            println!("kept:    {}", home.path.display());
        }
    }
    Ok(if as_scripted && report.is_good() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

async fn play(
    config: &Config,
    photographs: &Path,
    export: &Path,
    progress: &ProgressBar,
) -> Result<Vec<Row>> {
    let app = App::open(config).await?;
    let listener = app::bind("127.0.0.1:0".parse()?).await?;
    let address = listener.local_addr()?.to_string();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(app.serve(listener, async {
        // Either told to stop, or the demonstration is gone.
        drop(stopped.await);
    }));
    let pki = DataDir::at(&config.paths.data_dir).pki();
    let played = async {
        let mut day = Day::begin(&pki, &address, photographs, progress).await?;
        day.play().await?;
        audit::export_to(day.auditor(), export).await?;
        Ok::<_, anyhow::Error>(day.rows)
    };
    let rows = played.await;
    drop(stop);
    server.await??;
    rows
}

fn print(rows: &[Row], report: &AuditReport, trust: &str) {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["", "what happens", "answer", "public reason", "ms", "receipt"]);
    for row in rows {
        table.add_row(row.cells());
    }
    println!("{table}");
    let entries = report.entries;
    let verdict = if report.is_good() { "every check passed" } else { "FINDINGS" };
    println!("ledger:  {entries} entries exported and verified from outside: {verdict}");
    println!("trust:   {trust}");
    if rows.iter().any(|row| !row.as_scripted()) {
        println!("Rows marked ✗ came out otherwise than the script says.");
    }
}
