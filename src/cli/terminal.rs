//! `tulga terminal register|revoke|list`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use tonic::transport::Channel;

use super::client::{ClientArgs, connect, explain};
use super::{REFUSED, runtime};
use crate::app::DataDir;
use crate::config::Config;
use crate::domain::id::PrincipalName;
use crate::pki::{Directory, Role, TerminalRequest};
use crate::proto::terminal_service_client::TerminalServiceClient;
use crate::proto::{ListTerminalsRequest, RegisterTerminalRequest, RevokeTerminalRequest};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make a key, have it certified, and keep both in the data folder
    Register(TerminalArgs),
    /// Revoke every key of a terminal
    Revoke(TerminalArgs),
    /// List registered keys
    List(ClientArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct TerminalArgs {
    /// The terminal, such as ATM-004211
    terminal: String,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) fn run(config: &Config, command: &Command) -> Result<ExitCode> {
    let pki = DataDir::at(&config.paths.data_dir).pki();
    runtime()?.block_on(async {
        let client = match command {
            Command::Register(args) | Command::Revoke(args) => &args.client,
            Command::List(client) => client,
        };
        let address = client.gateway.clone().unwrap_or_else(|| config.server.listen.to_string());
        let channel = connect(&pki, &address, Role::Admin, &client.name).await?;
        let result = match command {
            Command::Register(args) => register(&pki, channel, &args.terminal).await.map(|path| {
                println!("{} is registered; its certificate is {}", args.terminal, path.display());
            }),
            Command::Revoke(args) => revoke(channel, &args.terminal).await,
            Command::List(_) => list(channel).await,
        };
        Ok(match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => match error.downcast_ref::<tonic::Status>() {
                Some(status) => {
                    eprintln!("tulga: {}", explain(status));
                    ExitCode::from(REFUSED)
                }
                None => return Err(error),
            },
        })
    })
}

/// Registers a terminal by a fresh key and keeps both in the PKI folder; where the certificate is.
pub(super) async fn register(pki: &Directory, channel: Channel, terminal: &str) -> Result<PathBuf> {
    let request = TerminalRequest::generate()?;
    let message = RegisterTerminalRequest {
        terminal_id: terminal.to_owned(),
        csr_pem: request.csr_pem.clone(),
    };
    let answer = TerminalServiceClient::new(channel).register_terminal(message).await?.into_inner();
    let name = PrincipalName::try_from(terminal).context("the terminal's name")?;
    pki.store_client(Role::Terminal, &name, &answer.certificate_pem, &request.key_pem)?;
    Ok(pki.client_path(Role::Terminal, &name))
}

async fn revoke(channel: Channel, terminal: &str) -> Result<()> {
    let message = RevokeTerminalRequest { terminal_id: terminal.to_owned() };
    TerminalServiceClient::new(channel).revoke_terminal(message).await?;
    println!("{terminal} is revoked");
    Ok(())
}

async fn list(channel: Channel) -> Result<()> {
    let mut client = TerminalServiceClient::new(channel);
    let mut page_token = String::new();
    loop {
        let message = ListTerminalsRequest { page_size: 100, page_token };
        let answer = client.list_terminals(message).await?.into_inner();
        for terminal in &answer.terminals {
            println!("{:<24} {}", terminal.terminal_id, terminal.spki_sha256);
        }
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return Ok(());
        }
    }
}
