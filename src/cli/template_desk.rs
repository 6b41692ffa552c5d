//! `tulga template import|export`: a finger's records, into the gateway and out of it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::client::{ClientArgs, connect, explain};
use super::proposals::waits;
use super::{REFUSED, runtime};
use crate::app::DataDir;
use crate::config::Config;
use crate::domain::finger::FingerPosition;
use crate::pki::Role;
use crate::proto::enrollment_service_client::EnrollmentServiceClient;
use crate::proto::{ExportTemplateRequest, ImportTemplateRequest};

#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// A record of ISO/IEC 19794-2:2005 or ANSI/INCITS 378-2004
    file: PathBuf,
    /// Whose finger
    #[arg(long, value_name = "ID")]
    customer: String,
    /// Which finger, such as right-index
    #[arg(long, value_name = "POSITION", value_parser = finger)]
    finger: FingerPosition,
    /// Whose extractor made it; the models must have a calibration for it
    #[arg(long, value_name = "MAKER")]
    maker: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct Export {
    /// Where the record goes
    file: PathBuf,
    /// Whose finger
    #[arg(long, value_name = "ID")]
    customer: String,
    /// Which finger, such as right-index
    #[arg(long, value_name = "POSITION", value_parser = finger)]
    finger: FingerPosition,
    #[command(flatten)]
    client: ClientArgs,
}

fn finger(name: &str) -> Result<FingerPosition, String> {
    FingerPosition::from_name(name).ok_or_else(|| {
        let names = FingerPosition::ALL.map(FingerPosition::as_str).join(", ");
        format!("it is one of {names}")
    })
}

pub(super) fn import(config: &Config, args: &Import) -> Result<ExitCode> {
    let pki = DataDir::at(&config.paths.data_dir).pki();
    let address = args.client.gateway.clone().unwrap_or_else(|| config.server.listen.to_string());
    let record = std::fs::read(&args.file)
        .with_context(|| format!("{} cannot be read", args.file.display()))?;
    let request = ImportTemplateRequest {
        customer_id: args.customer.clone(),
        finger_position: args.finger.code().into(),
        record: record.into(),
        maker: args.maker.clone(),
    };
    runtime()?.block_on(async {
        let channel = connect(&pki, &address, Role::Enroller, &args.client.name).await?;
        match EnrollmentServiceClient::new(channel).import_template(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                if let Some(proposal) = &answer.proposal {
                    println!("{}", waits(proposal));
                    return Ok(ExitCode::SUCCESS);
                }
                let captures = answer.capture_ids;
                println!("{} impressions of {} taken over", captures.len(), args.finger.as_str());
                Ok(ExitCode::SUCCESS)
            }
            Err(status) => {
                eprintln!("tulga: {}", explain(&status));
                Ok(ExitCode::from(REFUSED))
            }
        }
    })
}

pub(super) fn export(config: &Config, args: &Export) -> Result<ExitCode> {
    let pki = DataDir::at(&config.paths.data_dir).pki();
    let address = args.client.gateway.clone().unwrap_or_else(|| config.server.listen.to_string());
    let request = ExportTemplateRequest {
        customer_id: args.customer.clone(),
        finger_position: args.finger.code().into(),
    };
    runtime()?.block_on(async {
        let channel = connect(&pki, &address, Role::Admin, &args.client.name).await?;
        match EnrollmentServiceClient::new(channel).export_template(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                std::fs::write(&args.file, &answer.record)
                    .with_context(|| format!("{} cannot be written", args.file.display()))?;
                let index = answer.position.map(|position| position.index).unwrap_or_default();
                println!("wrote {}; the entry at index {index} says so", args.file.display());
                Ok(ExitCode::SUCCESS)
            }
            Err(status) => {
                eprintln!("tulga: {}", explain(&status));
                Ok(ExitCode::from(REFUSED))
            }
        }
    })
}
