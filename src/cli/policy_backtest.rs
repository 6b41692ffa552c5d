//! `tulga policy backtest`: the facts of past decisions under another pack, and what would change.
//!
//! The facts come from the audit records, which name nobody. What one decision changes in the facts of the
//! next is not replayed: sums and counts are what they were.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde::Deserialize;
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::client::{ClientArgs, connect, explain};
use super::policy_look::read;
use super::{REFUSED, USAGE, runtime};
use crate::app::DataDir;
use crate::config::Config;
use crate::domain::decision::RuleId;
use crate::domain::time::UnixMillis;
use crate::pki::Role;
use crate::policy::{Facts, PolicyPack, decide};
use crate::proto;
use crate::proto::audit_service_client::AuditServiceClient;
use crate::receipt::{Content, Salt, audit_commit, parse};

#[derive(Debug, clap::Args)]
pub(super) struct BacktestArgs {
    /// The folder of the pack to try
    dir: PathBuf,
    /// Decisions not before this time, RFC 3339; by default all
    #[arg(long, value_name = "TIME", default_value = "")]
    from: String,
    /// Decisions before this time, RFC 3339; by default all
    #[arg(long, value_name = "TIME", default_value = "")]
    to: String,
    /// For machines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// What an audit record holds that is replayed.
#[derive(Deserialize)]
struct Record {
    time: String,
    sees: BTreeSet<String>,
    facts: Value,
    rules_outcome: String,
    rules: Vec<String>,
}

/// Decisions that would change in one way.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Change {
    before: String,
    after: String,
    /// Rules that hold now and did not, and the other way round.
    rules_added: Vec<String>,
    rules_gone: Vec<String>,
}

/// What a replay came to.
#[derive(Default, Debug)]
struct Replay {
    decisions: u64,
    unchanged: u64,
    /// Records that cannot be opened or replayed.
    unopened: u64,
    /// How many, and the sum of the amounts asked for, by currency.
    changes: BTreeMap<Change, (u64, BTreeMap<String, i64>)>,
    /// Facts that the pack looks at and that were not found out, each with how many decisions lack it.
    lacking: BTreeMap<String, u64>,
}

/// 0 whatever would change, 1 where the gateway refuses.
pub(super) fn backtest(config: &Config, args: &BacktestArgs) -> Result<ExitCode> {
    let Some((_, pack)) = read(&args.dir) else { return Ok(ExitCode::from(USAGE)) };
    let pki = DataDir::at(&config.paths.data_dir).pki();
    let address = args.client.gateway.clone().unwrap_or_else(|| config.server.listen.to_string());
    runtime()?.block_on(async {
        let channel = connect(&pki, &address, Role::Auditor, &args.client.name).await?;
        match replay(AuditServiceClient::new(channel), &pack, args).await {
            Ok(replay) if args.json => println!("{}", replay.json(&pack)),
            Ok(replay) => replay.print(),
            Err(error) => match error.downcast_ref::<tonic::Status>() {
                Some(status) => {
                    eprintln!("tulga: {}", explain(status));
                    return Ok(ExitCode::from(REFUSED));
                }
                None => return Err(error),
            },
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn replay(
    mut auditor: AuditServiceClient<Channel>,
    pack: &PolicyPack,
    args: &BacktestArgs,
) -> Result<Replay> {
    let progress = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    progress.enable_steady_tick(Duration::from_millis(250));
    let mut replay = Replay::default();
    let mut page_token = String::new();
    loop {
        let request = proto::ListReceiptsRequest {
            from: args.from.clone(),
            to: args.to.clone(),
            terminal_id: String::new(),
            page_size: 1000,
            page_token,
        };
        let page = auditor.list_receipts(request).await?.into_inner();
        for receipt in page.receipts.iter().filter(|receipt| receipt.kind == "verification") {
            replay.decisions += 1;
            let index = receipt.position.as_ref().context("a receipt without its place")?.index;
            let request =
                proto::GetAuditRecordRequest { index, ..proto::GetAuditRecordRequest::default() };
            match auditor.get_audit_record(request).await {
                Ok(answer) => {
                    let opened = open(receipt, &answer.into_inner());
                    replay.unopened += u64::from(opened.is_none_or(|it| !replay.add(it, pack)));
                }
                // Erased, or sealed by a key that is gone; anything else ends the replay.
                Err(status)
                    if matches!(status.code(), tonic::Code::NotFound | tonic::Code::Internal) =>
                {
                    replay.unopened += 1;
                }
                Err(status) => return Err(status.into()),
            }
            progress.set_position(replay.decisions);
            progress.set_message(format!("{} decisions replayed", replay.decisions));
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            progress.finish_and_clear();
            return Ok(replay);
        }
    }
}

/// The record, if it is the one that the receipt commits to.
fn open(receipt: &proto::Receipt, answer: &proto::GetAuditRecordResponse) -> Option<Record> {
    let jws = std::str::from_utf8(&receipt.receipt_jws).ok()?;
    let receipt = parse(jws).ok()?;
    let Content::Verification(content) = &receipt.unverified_body().content else { return None };
    let salt = Salt::new(answer.salt.as_slice().try_into().ok()?);
    if audit_commit(&salt, &answer.record) != content.audit {
        return None;
    }
    serde_json::from_slice(&answer.record).ok()
}

impl Replay {
    /// Decides anew; false for a record that cannot be replayed.
    fn add(&mut self, record: Record, pack: &PolicyPack) -> bool {
        let Record { time, sees, facts, rules_outcome: outcome, rules } = record;
        let (Ok(facts), Ok(at)) = (Facts::from_json(facts), UnixMillis::parse_rfc3339(&time))
        else {
            return false;
        };
        for fact in pack.facts_seen().difference(&sees) {
            *self.lacking.entry(fact.clone()).or_default() += 1;
        }
        // A pack that was not yet in force, or no longer, is tried as if it had been.
        let at = if pack.in_force(at) { at } else { pack.effective_from() };
        let facts = facts.judged_by(pack);
        let decision = decide(&facts, pack, at);
        let held: BTreeSet<String> = decision.rules().iter().map(RuleId::to_string).collect();
        let before: BTreeSet<String> = rules.into_iter().collect();
        let after = decision.outcome().as_str();
        if after == outcome {
            self.unchanged += 1;
            return true;
        }
        let change = Change {
            before: outcome,
            after: after.to_owned(),
            rules_added: held.difference(&before).cloned().collect(),
            rules_gone: before.difference(&held).cloned().collect(),
        };
        let (count, amounts) = self.changes.entry(change).or_default();
        *count += 1;
        let sum = amounts.entry(facts.currency.as_str().to_owned()).or_default();
        *sum = sum.saturating_add(facts.amount.get());
        true
    }

    fn json(&self, pack: &PolicyPack) -> Value {
        let Self { decisions, unchanged, unopened, changes, lacking } = self;
        let changes: Vec<_> = changes
            .iter()
            .map(|(change, (count, amounts))| {
                json!({
                    "from": change.before, "to": change.after,
                    "rules_added": change.rules_added, "rules_gone": change.rules_gone,
                    "count": count, "amount_minor": amounts,
                })
            })
            .collect();
        json!({
            "id": pack.id().as_str(), "version": pack.version(), "hash": pack.hash().labelled(),
            "decisions": decisions, "unchanged": unchanged, "unopened": unopened,
            "changes": changes, "facts_lacking": lacking,
        })
    }

    fn print(&self) {
        let Self { decisions, unchanged, unopened, changes, lacking } = self;
        let changed: u64 = changes.values().map(|(count, _)| count).sum();
        println!(
            "{decisions} decisions: {unchanged} the same, {changed} would change, {unopened} cannot be opened"
        );
        for (change, (count, amounts)) in changes {
            let amounts = amounts.iter().map(|(currency, sum)| format!("{sum} {currency}"));
            let rules = change.rules_added.iter().map(|rule| format!("+{rule}"));
            let gone = change.rules_gone.iter().map(|rule| format!("-{rule}"));
            println!(
                "{} -> {}  {count}, {} (minor units)  {}",
                change.before,
                change.after,
                amounts.collect::<Vec<_>>().join(", "),
                rules.chain(gone).collect::<Vec<_>>().join(" "),
            );
        }
        for (fact, count) in lacking {
            println!("The pack looks at {fact}, which was not found out for {count} decisions.");
        }
    }
}
