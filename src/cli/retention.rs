//! `tulga retention plan|run`: what is due to be destroyed, and destroying it.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use super::client::{ClientArgs, connect, explain};
use super::{REFUSED, runtime};
use crate::app::DataDir;
use crate::config::Config;
use crate::pki::Role;
use crate::proto::retention_service_client::RetentionServiceClient;
use crate::proto::{PlanRetentionRequest, RetentionPlan, RunRetentionRequest};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Say what a run would destroy now, and where the footage stands
    Plan(Args),
    /// Destroy the evidence whose time is over
    Run(Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// For machines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) fn run(config: &Config, command: &Command) -> Result<ExitCode> {
    let (Command::Plan(args) | Command::Run(args)) = command;
    let pki = DataDir::at(&config.paths.data_dir).pki();
    let address = args.client.gateway.clone().unwrap_or_else(|| config.server.listen.to_string());
    runtime()?.block_on(async {
        let channel = connect(&pki, &address, Role::Admin, &args.client.name).await?;
        let mut client = RetentionServiceClient::new(channel);
        let answered = match command {
            Command::Plan(_) => client
                .plan_retention(PlanRetentionRequest {})
                .await
                .map(|plan| (plan.into_inner(), None)),
            Command::Run(_) => client.run_retention(RunRetentionRequest {}).await.map(|run| {
                let run = run.into_inner();
                let entries = run.positions.iter().map(|position| position.index).collect();
                let did = Did {
                    destroyed: run.evidence_destroyed,
                    files_removed: run.files_removed,
                    entries,
                };
                (run.plan.unwrap_or_default(), Some(did))
            }),
        };
        match answered {
            Ok((plan, did)) => {
                say(&plan, did.as_ref(), args.json);
                Ok(ExitCode::SUCCESS)
            }
            Err(status) => {
                eprintln!("tulga: {}", explain(&status));
                Ok(ExitCode::from(REFUSED))
            }
        }
    })
}

/// What a run did.
struct Did {
    destroyed: u64,
    files_removed: u64,
    entries: Vec<u64>,
}

fn say(plan: &RetentionPlan, did: Option<&Did>, json: bool) {
    if json {
        let did = did.map(|did| {
            json!({
                "evidence_destroyed": did.destroyed, "files_removed": did.files_removed,
                "receipt_indices": did.entries,
            })
        });
        println!(
            "{}",
            json!({
                "did": did,
                "time": plan.time.as_ref().map(|time| &time.rfc3339),
                "evidence": {
                    "due": plan.evidence_due, "on_hold": plan.evidence_on_hold,
                    "kept": plan.evidence_kept,
                },
                "footage": {
                    "due": plan.footage_due, "missing": plan.footage_missing,
                    "on_hold": plan.footage_on_hold,
                },
            })
        );
        return;
    }
    if let Some(Did { destroyed, files_removed, entries }) = did {
        let entries: Vec<_> = entries.iter().map(u64::to_string).collect();
        println!("destroyed  {destroyed} captures, {files_removed} files; entries: {}", {
            if entries.is_empty() { "none".to_owned() } else { entries.join(", ") }
        });
    }
    println!(
        "evidence   {} due, {} due but on hold, {} kept",
        plan.evidence_due, plan.evidence_on_hold, plan.evidence_kept
    );
    println!(
        "footage    {} due, {} missing, {} on hold",
        plan.footage_due, plan.footage_missing, plan.footage_on_hold
    );
}
