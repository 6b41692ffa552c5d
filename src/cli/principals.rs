//! `tulga principals list|register|revoke|pin|unpin`: the people who act in the bank's name.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tonic::Status;
use tonic::transport::Channel;

use super::client::{ClientArgs, connect, explain};
use super::proposals::{to_json, waits};
use super::{REFUSED, runtime};
use crate::app::{DataDir, act_of_root};
use crate::config::Config;
use crate::domain::four_eyes::StaffRole;
use crate::domain::id::UnitName;
use crate::gateway::{NewPrincipal, RootAct};
use crate::pki::{Role, identify_pem};
use crate::proto;
use crate::proto::principal_service_client::PrincipalServiceClient;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the registered keys of people
    List(Online),
    /// Propose to register a person by their certificate
    Register(Register),
    /// Propose to revoke a person's key
    Revoke(Revoke),
    /// With the root key, and the gateway stopped: register the first people, or whoever is needed where too
    /// few are left to agree
    Pin(Root),
    /// With the root key, and the gateway stopped: revoke a person's key
    Unpin(Root),
}

#[derive(Debug, clap::Args)]
pub(super) struct Online {
    /// For machines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct Register {
    /// Their certificate, PEM
    certificate: PathBuf,
    /// Where they work, such as operations
    #[arg(long, value_name = "UNIT")]
    unit: String,
    #[command(flatten)]
    online: Online,
}

#[derive(Debug, clap::Args)]
pub(super) struct Revoke {
    /// SHA-256 of the key, as `tulga principals list` shows it
    key: String,
    #[command(flatten)]
    online: Online,
}

#[derive(Debug, clap::Args)]
pub(super) struct Root {
    /// Certificates of people of one unit, PEM
    #[arg(required = true)]
    certificates: Vec<PathBuf>,
    /// Where they work, such as operations
    #[arg(long, value_name = "UNIT")]
    unit: String,
    /// The root key's file, in place of the data folder's or the token's
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
}

pub(super) fn run(config: &Config, command: &Command) -> Result<ExitCode> {
    let online = match command {
        Command::Pin(args) => return of_root(config, RootAct::Pin, args),
        Command::Unpin(args) => return of_root(config, RootAct::Unpin, args),
        Command::List(online) => online,
        Command::Register(args) => &args.online,
        Command::Revoke(args) => &args.online,
    };
    let client = &online.client;
    let pki = DataDir::at(&config.paths.data_dir).pki();
    let address = client.gateway.clone().unwrap_or_else(|| config.server.listen.to_string());
    runtime()?.block_on(async {
        let channel = connect(&pki, &address, Role::Admin, &client.name).await?;
        let mut desk = PrincipalServiceClient::new(channel);
        let done = match command {
            Command::Register(args) => register(&mut desk, args).await?,
            Command::Revoke(args) => revoke(&mut desk, args).await,
            _ => list(&mut desk, online.json).await,
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

fn of_root(config: &Config, act: RootAct, args: &Root) -> Result<ExitCode> {
    let unit = UnitName::try_from(args.unit.as_str()).context("the unit")?;
    let read = |path: &PathBuf| person(config, path, &unit);
    let people = args.certificates.iter().map(read).collect::<Result<Vec<_>>>()?;
    let said: Vec<_> = people.iter().map(NewPrincipal::subject).collect();
    let done = runtime()?.block_on(act_of_root(config, args.root.as_deref(), act, people))?;
    let word = match act {
        RootAct::Pin => "registered",
        RootAct::Unpin => "revoked",
    };
    println!("{word}: {}; the entry at index {} says so", said.join(", "), done.index());
    Ok(ExitCode::SUCCESS)
}

fn person(config: &Config, path: &Path, unit: &UnitName) -> Result<NewPrincipal> {
    let of = || format!("{} is no certificate of a person of this bank", path.display());
    let identity = identify_pem(&read(path)?).with_context(of)?;
    let principal = identity.principal;
    let role = StaffRole::from_word(principal.role.as_str());
    let role = role.filter(|_| principal.tenant == config.identity.tenant).with_context(of)?;
    Ok(NewPrincipal { role, name: principal.name, unit: unit.clone(), spki: identity.spki })
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

type Desk = PrincipalServiceClient<Channel>;

async fn register(desk: &mut Desk, args: &Register) -> Result<Result<(), Status>> {
    let certificate_pem = read(&args.certificate)?;
    let asked = proto::RegisterPrincipalRequest { certificate_pem, unit: args.unit.clone() };
    let answer = desk.register_principal(asked).await;
    Ok(answer.map(|answer| tell(answer.into_inner().proposal, args.online.json)))
}

async fn revoke(desk: &mut Desk, args: &Revoke) -> Result<(), Status> {
    let asked = proto::RevokePrincipalRequest { spki_sha256: args.key.clone() };
    let answer = desk.revoke_principal(asked).await?;
    tell(answer.into_inner().proposal, args.online.json);
    Ok(())
}

fn tell(proposal: Option<proto::Proposal>, as_json: bool) {
    let proposal = proposal.unwrap_or_default();
    if as_json {
        println!("{}", to_json(&proposal));
    } else {
        println!("{}", waits(&proposal));
    }
}

async fn list(desk: &mut Desk, as_json: bool) -> Result<(), Status> {
    let (mut page_token, mut listed) = (String::new(), Vec::new());
    loop {
        let asked = proto::ListPrincipalsRequest { page_size: 0, page_token };
        let answer = desk.list_principals(asked).await?.into_inner();
        listed.extend(answer.principals);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    listed.sort_by_cached_key(|row| (row.unit.clone(), row.name.clone(), row.role.clone()));
    if as_json {
        println!("{}", Value::from(listed.iter().map(row_json).collect::<Vec<_>>()));
        return Ok(());
    }
    for row in &listed {
        let standing = row
            .revoked_at
            .as_ref()
            .map_or_else(|| "registered".to_owned(), |at| format!("revoked {}", at.rfc3339));
        println!(
            "{:<16} {:<24} {:<16} {} {standing}",
            row.unit, row.name, row.role, row.spki_sha256
        );
    }
    Ok(())
}

fn row_json(row: &proto::Principal) -> Value {
    let index = |at: &Option<proto::LogPosition>| at.as_ref().map(|at| at.index);
    json!({
        "role": row.role,
        "name": row.name,
        "unit": row.unit,
        "spki_sha256": row.spki_sha256,
        "registered_at": row.registered_at.as_ref().map(|at| at.rfc3339.clone()),
        "index": index(&row.position),
        "proposal_id": row.proposal_id,
        "revoked_at": row.revoked_at.as_ref().map(|at| at.rfc3339.clone()),
        "revoked_index": index(&row.revoked_position),
    })
}
