//! `tulga activate`: the second person of an enrolment.

use std::process::ExitCode;

use anyhow::Result;

use super::client::{ClientArgs, connect, explain};
use super::enroll::{Enrolled, activate};
use super::{REFUSED, runtime};
use crate::app::DataDir;
use crate::config::Config;
use crate::pki::Role;
use crate::proto::enrollment_service_client::EnrollmentServiceClient;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The customer, as `tulga enroll` names them
    customer: String,
    /// For machines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) fn run(config: &Config, args: &Args) -> Result<ExitCode> {
    let Args { customer, json, client } = args;
    let pki = DataDir::at(&config.paths.data_dir).pki();
    let address = client.gateway.clone().unwrap_or_else(|| config.server.listen.to_string());
    runtime()?.block_on(async {
        let channel = connect(&pki, &address, Role::Enroller, &client.name).await?;
        let mut enrolled = Enrolled::pending(customer.clone(), Vec::new());
        match activate(&mut EnrollmentServiceClient::new(channel), &mut enrolled).await {
            Ok(()) => Ok(enrolled.told(*json)),
            Err(status) => {
                eprintln!("tulga: {}", explain(&status));
                Ok(ExitCode::from(REFUSED))
            }
        }
    })
}
