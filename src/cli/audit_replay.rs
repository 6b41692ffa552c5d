//! `tulga audit replay INDEX`: a decision is made again from the captures that were kept of it.

use std::process::ExitCode;

use anyhow::Result;
use comfy_table::Table;
use serde_json::{Value, json};

use super::client::{ClientArgs, connect, explain};
use super::{GONE, REFUSED, runtime};
use crate::app::DataDir;
use crate::config::Config;
use crate::pki::Role;
use crate::proto;
use crate::proto::audit_service_client::AuditServiceClient;
use crate::proto::{Agreement, ReplayEnd, ReplayVerdict};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which entry of the ledger, from 0
    index: u64,
    /// The case for which its captures are read, as the bank's register of cases calls it
    #[arg(long = "case", value_name = "REFERENCE")]
    case_reference: String,
    /// The ledger that the entry stands in, as its receipt names it; by default the one that takes entries now
    #[arg(long, default_value = "")]
    origin: String,
    /// For machines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// 0 for the same decision, 1 for a finding and where the gateway refuses, 66 where the replay ended early.
pub(super) fn run(config: &Config, args: &Args) -> Result<ExitCode> {
    let pki = DataDir::at(&config.paths.data_dir).pki();
    let address = args.client.gateway.clone().unwrap_or_else(|| config.server.listen.to_string());
    runtime()?.block_on(async {
        let channel = connect(&pki, &address, Role::Auditor, &args.client.name).await?;
        let Args { index, case_reference, origin, .. } = args;
        let request = proto::ReplayRequest {
            index: *index,
            case_reference: case_reference.clone(),
            origin: origin.clone(),
        };
        let replay = match AuditServiceClient::new(channel).replay(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                eprintln!("tulga: {}", explain(&status));
                return Ok(ExitCode::from(REFUSED));
            }
        };
        if args.json {
            println!("{}", to_json(args.index, &replay));
        } else {
            print(args.index, &replay);
        }
        Ok(match replay.verdict() {
            ReplayVerdict::Same | ReplayVerdict::Within => ExitCode::SUCCESS,
            ReplayVerdict::Ended => ExitCode::from(GONE),
            // A word that this program does not know is no agreement.
            ReplayVerdict::Different | ReplayVerdict::Unspecified => ExitCode::from(REFUSED),
        })
    })
}

fn print(index: u64, replay: &proto::ReplayResponse) {
    println!("entry {index}, decided again");
    for (when, by) in [("then", &replay.then), ("now", &replay.now)] {
        if let Some(proto::LookedBy { build, isa, manifest }) = by {
            println!("  {when:<4}  build {build}  isa {}  models {}", told(isa), told(manifest));
        }
    }
    let mut table = Table::new();
    table.set_header(["", "what", "recorded", "found"]);
    for it in &replay.compared {
        table.add_row([word(it.agreement()), &it.name, &it.recorded, &it.found]);
    }
    println!("{table}");
    if !replay.as_recorded.is_empty() {
        println!("Taken as recorded, not found out again: {}.", replay.as_recorded.join(", "));
    }
    if let Some(position) = &replay.read_position {
        println!("That the captures were read is entry {}.", position.index);
    }
    println!("{}", conclusion(replay));
}

/// What it came to, in one sentence.
fn conclusion(replay: &proto::ReplayResponse) -> &'static str {
    match replay.verdict() {
        ReplayVerdict::Same => "THE SAME: the same decision from the same scores, bit for bit.",
        ReplayVerdict::Within => {
            "THE SAME DECISION, from scores within the tolerance: another build or other instructions looked."
        }
        ReplayVerdict::Ended => ended(replay.end()),
        ReplayVerdict::Different | ReplayVerdict::Unspecified => {
            "DIFFERENT: what is marked so is not as it was recorded."
        }
    }
}

fn ended(end: ReplayEnd) -> &'static str {
    match end {
        ReplayEnd::Unspecified => "NOT REPLAYED: the gateway does not say why.",
        ReplayEnd::NoDecision => "NOT REPLAYED: the entry is no decision.",
        ReplayEnd::NoCapture => "NOT REPLAYED: the decision was made without a capture.",
        ReplayEnd::NeverKept => {
            "NOT REPLAYED: no captures were kept. The pack had none kept, they could not be used, or they were \
             compared with nobody."
        }
        ReplayEnd::Expired => "NOT REPLAYED: the evidence has expired and was destroyed.",
        ReplayEnd::CustomerErased => "NOT REPLAYED: the customer was erased.",
        ReplayEnd::TemplateGone => "NOT REPLAYED: captures of the template were removed since.",
        ReplayEnd::PackGone => "NOT REPLAYED: the pack of rules that decided is no longer here.",
        ReplayEnd::ModelsGone => {
            "NOT REPLAYED: the models that looked are no longer here, or look with other parameters."
        }
        ReplayEnd::Older => {
            "NOT REPLAYED: an older version kept the captures, without what is needed to run the models again."
        }
    }
}

const fn word(agreement: Agreement) -> &'static str {
    match agreement {
        Agreement::Same => "same",
        Agreement::Within => "within",
        Agreement::Different | Agreement::Unspecified => "DIFFERENT",
    }
}

fn told(text: &str) -> &str {
    if text.is_empty() { "not recorded" } else { text }
}

fn to_json(index: u64, replay: &proto::ReplayResponse) -> Value {
    let looked_by =
        |by: &proto::LookedBy| json!({ "build": by.build, "isa": by.isa, "manifest": by.manifest });
    let compared = replay.compared.iter().map(|it| {
        json!({
            "name": it.name,
            "recorded": it.recorded,
            "found": it.found,
            "agreement": it.agreement().as_str_name().trim_start_matches("AGREEMENT_").to_lowercase(),
        })
    });
    let verdict = replay.verdict().as_str_name().trim_start_matches("REPLAY_VERDICT_");
    let end = replay.end().as_str_name().trim_start_matches("REPLAY_END_");
    json!({
        "index": index,
        "verdict": verdict.to_lowercase(),
        "end": (replay.end() != ReplayEnd::Unspecified).then(|| end.to_lowercase()),
        "compared": compared.collect::<Vec<_>>(),
        "then": replay.then.as_ref().map(looked_by),
        "now": replay.now.as_ref().map(looked_by),
        "as_recorded": replay.as_recorded,
        "read": replay.read_position.as_ref().map(|position| position.index),
    })
}
