//! `tulga customer unlock|approve-unlock|erase`: two administrators end a lock that failures brought about, or
//! erase a customer.

use std::process::ExitCode;

use anyhow::Result;

use super::client::{ClientArgs, connect, explain};
use super::proposals::waits;
use super::{REFUSED, runtime};
use crate::app::DataDir;
use crate::config::Config;
use crate::pki::Role;
use crate::proto::enrollment_service_client::EnrollmentServiceClient;
use crate::proto::{ApproveUnlockRequest, EraseRequest, ProposeUnlockRequest};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Propose to unlock a biometric that too many failures locked
    Unlock(CustomerArgs),
    /// Unlock what another administrator proposed to unlock
    ApproveUnlock(CustomerArgs),
    /// Erase a customer for ever, or propose it where that takes two people
    Erase(CustomerArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct CustomerArgs {
    /// The customer, as `tulga enroll` names them
    customer: String,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) fn run(config: &Config, command: &Command) -> Result<ExitCode> {
    let (Command::Unlock(args) | Command::ApproveUnlock(args) | Command::Erase(args)) = command;
    let CustomerArgs { customer, client } = args;
    let pki = DataDir::at(&config.paths.data_dir).pki();
    let address = client.gateway.clone().unwrap_or_else(|| config.server.listen.to_string());
    let customer_id = customer.clone();
    runtime()?.block_on(async {
        let channel = connect(&pki, &address, Role::Admin, &client.name).await?;
        let mut desk = EnrollmentServiceClient::new(channel);
        let told = match command {
            Command::Unlock(_) => {
                let asked = desk.propose_unlock(ProposeUnlockRequest { customer_id }).await;
                asked.map(|answer| {
                    let until = answer.into_inner().until;
                    let until = until.map(|until| until.rfc3339).unwrap_or_default();
                    format!("{customer} waits for another administrator until {until}")
                })
            }
            Command::ApproveUnlock(_) => {
                let asked = desk.approve_unlock(ApproveUnlockRequest { customer_id }).await;
                asked.map(|answer| {
                    let index = answer.into_inner().position.map(|position| position.index);
                    let index = index.unwrap_or_default();
                    format!("{customer} is unlocked; the entry at index {index} says so")
                })
            }
            Command::Erase(_) => {
                let asked = desk.erase(EraseRequest { customer_id }).await;
                asked.map(tonic::Response::into_inner).map(|answer| {
                    if let Some(proposal) = &answer.proposal {
                        return waits(proposal);
                    }
                    let index = answer.position.map(|position| position.index);
                    let index = index.unwrap_or_default();
                    format!("{customer} is erased; the entry at index {index} says so")
                })
            }
        };
        match told {
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
