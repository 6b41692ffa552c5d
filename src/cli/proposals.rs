//! `tulga proposals list|approve|withdraw`: what the second of two people does.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};
use tonic::Status;
use tonic::transport::Channel;

use super::client::{ClientArgs, connect, explain};
use super::{REFUSED, runtime};
use crate::app::DataDir;
use crate::config::Config;
use crate::pki::Role;
use crate::proto;
use crate::proto::proposal_service_client::ProposalServiceClient;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List what waits for another person
    List(List),
    /// Approve what somebody of another unit proposed: it is done at once
    Approve(Named),
    /// Take a proposal back, or stop somebody else's
    Withdraw(Named),
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Those that are done, withdrawn or expired too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    who: Who,
}

#[derive(Debug, clap::Args)]
pub(super) struct Named {
    /// The proposal, 32 hexadecimal digits
    proposal: String,
    #[command(flatten)]
    who: Who,
}

#[derive(Debug, clap::Args)]
struct Who {
    /// As an enroller; without it as an administrator
    #[arg(long)]
    enroller: bool,
    /// For machines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) fn run(config: &Config, command: &Command) -> Result<ExitCode> {
    let who = match command {
        Command::List(List { who, .. })
        | Command::Approve(Named { who, .. })
        | Command::Withdraw(Named { who, .. }) => who,
    };
    let pki = DataDir::at(&config.paths.data_dir).pki();
    let address = who.client.gateway.clone().unwrap_or_else(|| config.server.listen.to_string());
    let role = if who.enroller { Role::Enroller } else { Role::Admin };
    runtime()?.block_on(async {
        let channel = connect(&pki, &address, role, &who.client.name).await?;
        let mut desk = ProposalServiceClient::new(channel);
        let done = match command {
            Command::List(List { all, .. }) => list(&mut desk, *all, who.json).await,
            Command::Approve(Named { proposal, .. }) => {
                approve(&mut desk, proposal, who.json).await
            }
            Command::Withdraw(Named { proposal, .. }) => {
                withdraw(&mut desk, proposal, who.json).await
            }
        };
        Ok(match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(status) => {
                eprintln!("tulga: {}", explain(&status));
                ExitCode::from(REFUSED)
            }
        })
    })
}

/// Says that something waits for another person.
pub(super) fn waits(proposal: &proto::Proposal) -> String {
    let until = proposal.expires_at.as_ref().map(|at| at.rfc3339.as_str()).unwrap_or_default();
    format!(
        "{} of {} waits until {until} for a person of another unit:\n  tulga proposals approve {} --as NAME",
        word(proposal.act().as_str_name(), "TWO_PERSON_ACT_"),
        proposal.subject,
        proposal.proposal_id,
    )
}

type Desk = ProposalServiceClient<Channel>;

async fn list(desk: &mut Desk, all: bool, as_json: bool) -> Result<(), Status> {
    let (mut page_token, mut listed) = (String::new(), Vec::new());
    loop {
        let asked = proto::ListProposalsRequest { page_size: 0, page_token, closed_too: all };
        let answer = desk.list_proposals(asked).await?.into_inner();
        listed.extend(answer.proposals);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if as_json {
        println!("{}", Value::from(listed.iter().map(to_json).collect::<Vec<_>>()));
        return Ok(());
    }
    for proposal in &listed {
        let time =
            |at: &Option<proto::Instant>| at.clone().map(|at| at.rfc3339).unwrap_or_default();
        println!(
            "{} {:<24} {:<10} {:<44} {} by {}, from {} until {}",
            proposal.proposal_id,
            word(proposal.act().as_str_name(), "TWO_PERSON_ACT_"),
            word(proposal.state().as_str_name(), "PROPOSAL_STATE_"),
            proposal.subject,
            proposal.what,
            proposal.proposed_by,
            time(&proposal.not_before),
            time(&proposal.expires_at),
        );
    }
    Ok(())
}

async fn approve(desk: &mut Desk, proposal: &str, as_json: bool) -> Result<(), Status> {
    let asked = proto::ApproveProposalRequest { proposal_id: proposal.to_owned() };
    let answer = desk.approve_proposal(asked).await?.into_inner();
    tell_entry("done", proposal, answer.position.as_ref(), as_json);
    Ok(())
}

async fn withdraw(desk: &mut Desk, proposal: &str, as_json: bool) -> Result<(), Status> {
    let asked = proto::WithdrawProposalRequest { proposal_id: proposal.to_owned() };
    let answer = desk.withdraw_proposal(asked).await?.into_inner();
    tell_entry("withdrawn", proposal, answer.position.as_ref(), as_json);
    Ok(())
}

fn tell_entry(state: &str, proposal: &str, position: Option<&proto::LogPosition>, as_json: bool) {
    let index = position.map(|position| position.index).unwrap_or_default();
    if as_json {
        println!("{}", json!({ "proposal_id": proposal, "state": state, "index": index }));
    } else {
        println!("{proposal} is {state}; the entry at index {index} says so");
    }
}

pub(super) fn to_json(proposal: &proto::Proposal) -> Value {
    let time = |at: &Option<proto::Instant>| at.as_ref().map(|at| at.rfc3339.clone());
    let index = |at: &Option<proto::LogPosition>| at.as_ref().map(|at| at.index);
    json!({
        "proposal_id": proposal.proposal_id,
        "act": word(proposal.act().as_str_name(), "TWO_PERSON_ACT_"),
        "state": word(proposal.state().as_str_name(), "PROPOSAL_STATE_"),
        "customer_id": proposal.customer_id,
        "subject": proposal.subject,
        "what": proposal.what,
        "proposed_by": proposal.proposed_by,
        "proposed_at": time(&proposal.proposed_at),
        "not_before": time(&proposal.not_before),
        "expires_at": time(&proposal.expires_at),
        "closed_by": proposal.closed_by,
        "closed_at": time(&proposal.closed_at),
        "index": index(&proposal.position),
        "closed_index": index(&proposal.closed_position),
    })
}

fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase()
}
