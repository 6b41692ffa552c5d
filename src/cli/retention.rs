//! `tulga retention plan|run`: what is due to be ended, erased and destroyed, and doing it.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};

use super::client::{ClientArgs, connect, explain};
use super::{REFUSED, runtime};
use crate::app::DataDir;
use crate::config::Config;
use crate::pki::Role;
use crate::proto::retention_service_client::RetentionServiceClient;
use crate::proto::{PlanRetentionRequest, RetentionPlan, RetentionWork, RunRetentionRequest};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Say what a run would do, now or at a later time, and where the footage stands; change nothing
    #[command(visible_alias = "what-if")]
    Plan(PlanArgs),
    /// Enter consents whose term is over, erase and destroy what must be kept no longer
    Run(Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct PlanArgs {
    /// As of when, such as 2027-01-01T00:00:00Z; without it now
    #[arg(long, value_name = "TIME", default_value = "", hide_default_value = true)]
    at: String,
    /// Ask as an auditor, who may not run it
    #[arg(long)]
    auditor: bool,
    #[command(flatten)]
    args: Args,
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
    let (role, args) = match command {
        Command::Plan(PlanArgs { auditor: true, args, .. }) => (Role::Auditor, args),
        Command::Plan(PlanArgs { args, .. }) | Command::Run(args) => (Role::Admin, args),
    };
    let pki = DataDir::at(&config.paths.data_dir).pki();
    let address = args.client.gateway.clone().unwrap_or_else(|| config.server.listen.to_string());
    runtime()?.block_on(async {
        let channel = connect(&pki, &address, role, &args.client.name).await?;
        let mut client = RetentionServiceClient::new(channel);
        let answered = match command {
            Command::Plan(PlanArgs { at, .. }) => client
                .plan_retention(PlanRetentionRequest { at: at.clone() })
                .await
                .map(|plan| (plan.into_inner(), None)),
            Command::Run(_) => client.run_retention(RunRetentionRequest {}).await.map(|run| {
                let run = run.into_inner();
                let entries = run.positions.iter().map(|position| position.index).collect();
                let did = Did {
                    destroyed: run.evidence_destroyed,
                    files_removed: run.files_removed,
                    entries,
                    work: run.work.unwrap_or_default(),
                };
                (run.plan.unwrap_or_default(), Some(did))
            }),
        };
        match answered {
            Ok((plan, did)) if args.json => {
                println!("{}", as_json(&plan, did.as_ref()));
                Ok(ExitCode::SUCCESS)
            }
            Ok((plan, did)) => {
                say(&plan, did.as_ref());
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
    work: RetentionWork,
}

fn as_json(plan: &RetentionPlan, did: Option<&Did>) -> Value {
    let did = did.map(|did| {
        json!({
            "evidence_destroyed": did.destroyed, "files_removed": did.files_removed,
            "receipt_indices": did.entries, "work": work_as_json(&did.work),
        })
    });
    json!({
        "did": did,
        "time": plan.time.as_ref().map(|time| &time.rfc3339),
        "work": plan.work.as_ref().map(work_as_json),
        "evidence": {
            "due": plan.evidence_due, "on_hold": plan.evidence_on_hold,
            "kept": plan.evidence_kept,
        },
        "footage": {
            "due": plan.footage_due, "missing": plan.footage_missing,
            "on_hold": plan.footage_on_hold,
        },
    })
}

fn work_as_json(work: &RetentionWork) -> Value {
    let consents: Vec<_> = work
        .consents
        .iter()
        .map(|lapsing| {
            json!({
                "customer": lapsing.customer_id,
                "until": lapsing.until.as_ref().map(|at| &at.rfc3339),
                "kept_until": lapsing.kept_until.as_ref().map(|at| &at.rfc3339),
            })
        })
        .collect();
    let evidence = work.evidence.iter();
    let evidence: Vec<_> =
        evidence.map(|at| json!({ "origin": at.origin, "index": at.index })).collect();
    json!({
        "consents": consents, "customers": work.customer_ids, "evidence": evidence,
        "is_cut": work.is_cut,
    })
}

fn say(plan: &RetentionPlan, did: Option<&Did>) {
    if let Some(Did { destroyed, files_removed, entries, work }) = did {
        let entries: Vec<_> = entries.iter().map(u64::to_string).collect();
        say_work("ended", "erased", work);
        println!("destroyed  {destroyed} captures, {files_removed} files; entries: {}", {
            if entries.is_empty() { "none".to_owned() } else { entries.join(", ") }
        });
    } else if let Some(work) = &plan.work {
        say_work("would end", "would erase", work);
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

fn say_work(end: &str, erase: &str, work: &RetentionWork) {
    for lapsing in &work.consents {
        let until = lapsing.until.as_ref().map(|at| at.rfc3339.as_str()).unwrap_or_default();
        println!(
            "{end:<10} the consent of {}, whose term was over on {until}",
            lapsing.customer_id
        );
    }
    for customer in &work.customer_ids {
        println!("{erase:<10} {customer}");
    }
    if work.is_cut {
        println!("and more of the same");
    }
}
