//! `tulga customer unlock|approve-unlock|erase|withdraw-consent`: what becomes of one customer.

use std::process::ExitCode;

use anyhow::Result;
use tonic::Status;
use tonic::transport::Channel;

use super::client::{ClientArgs, connect, explain};
use super::proposals::waits;
use super::{REFUSED, runtime};
use crate::app::DataDir;
use crate::config::Config;
use crate::pki::Role;
use crate::proto::enrollment_service_client::EnrollmentServiceClient;
use crate::proto::{
    ApproveUnlockRequest, EraseRequest, ProposeUnlockRequest, WithdrawConsentRequest,
    WithdrawConsentResponse,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Propose to unlock a biometric that too many failures locked
    Unlock(CustomerArgs),
    /// Unlock what another administrator proposed to unlock
    ApproveUnlock(CustomerArgs),
    /// Erase a customer for ever, or propose it where that takes two people
    Erase(CustomerArgs),
    /// End a consent that the customer takes back, and erase what no law wants kept
    WithdrawConsent(WithdrawArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct CustomerArgs {
    /// The customer, as `tulga enroll` names them
    customer: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct WithdrawArgs {
    /// The customer, as `tulga enroll` names them
    customer: String,
    /// Where the customer's written word is kept, such as its number in the archive
    #[arg(long, value_name = "REFERENCE")]
    evidence_ref: String,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) fn run(config: &Config, command: &Command) -> Result<ExitCode> {
    let (role, client) = match command {
        Command::Unlock(args) | Command::ApproveUnlock(args) | Command::Erase(args) => {
            (Role::Admin, &args.client)
        }
        Command::WithdrawConsent(args) => (Role::Enroller, &args.client),
    };
    let pki = DataDir::at(&config.paths.data_dir).pki();
    let address = client.gateway.clone().unwrap_or_else(|| config.server.listen.to_string());
    runtime()?.block_on(async {
        let channel = connect(&pki, &address, role, &client.name).await?;
        match told(EnrollmentServiceClient::new(channel), command).await {
            Ok(told) => {
                println!("{told}");
                Ok(ExitCode::SUCCESS)
            }
            Err(status) => {
                eprintln!("tulga: {}", explain(&status));
                Ok(ExitCode::from(REFUSED))
            }
        }
    })
}

async fn told(
    mut desk: EnrollmentServiceClient<Channel>,
    command: &Command,
) -> Result<String, Status> {
    match command {
        Command::Unlock(CustomerArgs { customer, .. }) => {
            let request = ProposeUnlockRequest { customer_id: customer.clone() };
            let answer = desk.propose_unlock(request).await?.into_inner();
            let until = answer.until.map(|until| until.rfc3339).unwrap_or_default();
            let proposal = answer.proposal.map(|proposal| proposal.proposal_id).unwrap_or_default();
            Ok(format!(
                "{customer} waits for another administrator until {until}:\n  tulga proposals approve {proposal} --as NAME"
            ))
        }
        Command::ApproveUnlock(CustomerArgs { customer, .. }) => {
            let request = ApproveUnlockRequest { customer_id: customer.clone() };
            let position = desk.approve_unlock(request).await?.into_inner().position;
            let index = position.map(|position| position.index).unwrap_or_default();
            Ok(format!("{customer} is unlocked; the entry at index {index} says so"))
        }
        Command::Erase(CustomerArgs { customer, .. }) => {
            let request = EraseRequest { customer_id: customer.clone() };
            let erased = desk.erase(request).await?.into_inner();
            if let Some(proposal) = &erased.proposal {
                return Ok(waits(proposal));
            }
            let index = erased.position.map(|position| position.index).unwrap_or_default();
            Ok(format!("{customer} is erased; the entry at index {index} says so"))
        }
        Command::WithdrawConsent(WithdrawArgs { customer, evidence_ref, .. }) => {
            let request = WithdrawConsentRequest {
                customer_id: customer.clone(),
                evidence_ref: evidence_ref.clone(),
            };
            Ok(ended(customer, &desk.withdraw_consent(request).await?.into_inner()))
        }
    }
}

fn ended(customer: &str, ended: &WithdrawConsentResponse) -> String {
    let index = ended.position.as_ref().map(|position| position.index).unwrap_or_default();
    let end = format!("the consent of {customer} has ended; the entry at index {index} says so");
    let what = match (&ended.erasure_position, &ended.kept_until) {
        (Some(position), _) => {
            format!("{customer} is erased; the entry at index {} says so", position.index)
        }
        (None, Some(_)) if ended.waits_for_case => {
            format!("{customer} is blocked, and is erased once every case about them is released")
        }
        (None, Some(until)) => format!(
            "{customer} is blocked; what the law wants kept of them is erased on {}",
            until.rfc3339
        ),
        (None, None) => format!("{customer} is erased"),
    };
    format!("{end}\n{what}")
}
