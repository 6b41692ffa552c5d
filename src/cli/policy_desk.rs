//! `tulga policy sign|approve|activate|list|fetch`: a pack's life, through the gateway.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tonic::Status;
use tonic::transport::Channel;

use super::client::{ClientArgs, connect, explain};
use super::{REFUSED, runtime};
use crate::app::{DataDir, SECOND_PERSON};
use crate::config::Config;
use crate::crypto::{Ed25519Key, Signer as _};
use crate::domain::id::{PrincipalName, TenantId};
use crate::pki::{Directory, Role};
use crate::policy::{PackConsent, PackFiles, PolicyPack};
use crate::proto;
use crate::proto::policy_service_client::PolicyServiceClient;

type Client = PolicyServiceClient<Channel>;

#[derive(Debug, clap::Args)]
pub(super) struct SignArgs {
    /// The pack's folder
    dir: PathBuf,
    /// The Ed25519 key of the client certificate, PKCS #8 PEM; by default the one beside the certificate
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
    /// Name in the client certificate
    #[arg(long = "as", value_name = "NAME", default_value = "dev")]
    name: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct ApproveArgs {
    /// The pack's folder, as the approver read it: what is signed is the hash of these files
    dir: PathBuf,
    /// The Ed25519 key of the client certificate, PKCS #8 PEM; by default the one beside the certificate
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
    /// Name in the client certificate: another person than the author
    #[arg(long = "as", value_name = "NAME", default_value = SECOND_PERSON)]
    name: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct ActivateArgs {
    /// The approved pack: its hash, as `tulga policy list` prints it
    hash: String,
    /// From when, RFC 3339; by default now
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    #[command(flatten)]
    common: Common,
    /// Name in the client certificate
    #[arg(long = "as", value_name = "NAME", default_value = SECOND_PERSON)]
    name: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// For machines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct FetchArgs {
    /// The pack: its hash, as `tulga policy list` prints it
    hash: String,
    /// Folder to write its files to; it must not exist
    dir: PathBuf,
    #[command(flatten)]
    common: Common,
    /// Name in the client certificate
    #[arg(long = "as", value_name = "NAME", default_value = SECOND_PERSON)]
    name: String,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// The gateway, in place of the configured address
    #[arg(long, value_name = "HOST:PORT")]
    gateway: Option<String>,
    /// For machines
    #[arg(long)]
    json: bool,
}

/// Signs the pack as its author and proposes it.
pub(super) fn sign(config: &Config, args: &SignArgs) -> Result<ExitCode> {
    let SignArgs { dir, key, common, name } = args;
    let (files, pack) = read(dir)?;
    let caller = Caller::new(config, common, Role::PolicyAuthor, name)?;
    let key = caller.key(key.as_deref())?;
    let request = proposal(&files, &pack, &config.identity.tenant, &key)?;
    caller.call(async |mut client: Client| {
        let answer = client.propose_pack(request).await?.into_inner();
        Ok(said(answer.pack.as_ref(), common.json, "proposed; it waits for a second person until"))
    })
}

/// Signs the same pack as a second person.
pub(super) fn approve(config: &Config, args: &ApproveArgs) -> Result<ExitCode> {
    let ApproveArgs { dir, key, common, name } = args;
    let (_, pack) = read(dir)?;
    let caller = Caller::new(config, common, Role::PolicyApprover, name)?;
    let key = caller.key(key.as_deref())?;
    let request = approval(&pack, &config.identity.tenant, &key)?;
    caller.call(async |mut client: Client| {
        let answer = client.approve_pack(request).await?.into_inner();
        Ok(said(answer.pack.as_ref(), common.json, "approved; activate it by"))
    })
}

/// A pack with its author's signature.
pub(super) fn proposal(
    files: &PackFiles,
    pack: &PolicyPack,
    tenant: &TenantId,
    key: &Ed25519Key,
) -> Result<proto::ProposePackRequest> {
    Ok(proto::ProposePackRequest {
        files: files
            .iter()
            .map(|(name, text)| proto::PackFile { name: name.to_owned(), content: text.into() })
            .collect(),
        public_key: key.public_key().as_bytes().to_vec(),
        signature: key.sign(&PackConsent::Propose.message_about(tenant, pack))?,
    })
}

/// A pack's hash with its approver's signature.
pub(super) fn approval(
    pack: &PolicyPack,
    tenant: &TenantId,
    key: &Ed25519Key,
) -> Result<proto::ApprovePackRequest> {
    Ok(proto::ApprovePackRequest {
        hash: pack.hash().hex(),
        public_key: key.public_key().as_bytes().to_vec(),
        signature: key.sign(&PackConsent::Approve.message_about(tenant, pack))?,
    })
}

/// Lets an approved pack decide from a time on.
pub(super) fn activate(config: &Config, args: &ActivateArgs) -> Result<ExitCode> {
    let ActivateArgs { hash, at, common, name } = args;
    let caller = Caller::new(config, common, Role::PolicyApprover, name)?;
    let request = proto::ActivatePackRequest {
        hash: hash.clone(),
        effective_at: at.clone().unwrap_or_default(),
    };
    caller.call(async |mut client: Client| {
        let answer = client.activate_pack(request).await?.into_inner();
        let row = answer.activation.unwrap_or_default();
        Ok(if common.json { activation_json(&row).to_string() } else { activation_line(&row) })
    })
}

/// Lists packs, and what decides.
pub(super) fn list(config: &Config, args: &ListArgs) -> Result<ExitCode> {
    let ListArgs { json, client } = args;
    let common = Common { gateway: client.gateway.clone(), json: *json };
    let caller = Caller::new(config, &common, Role::PolicyAuthor, &client.name)?;
    caller.call(async |mut client: Client| {
        let mut packs = Vec::new();
        let mut page_token = String::new();
        loop {
            let message = proto::ListPacksRequest { page_size: 100, page_token };
            let answer = client.list_packs(message).await?.into_inner();
            packs.extend(answer.packs);
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        let answer = client.get_active_pack(proto::GetActivePackRequest {}).await?.into_inner();
        let active = answer.active.unwrap_or_default();
        if *json {
            let listed = json!({
                "packs": packs.iter().map(pack_json).collect::<Vec<_>>(),
                "active": activation_json(&active),
                "scheduled": answer.scheduled.iter().map(activation_json).collect::<Vec<_>>(),
            });
            return Ok(listed.to_string());
        }
        let mut lines: Vec<_> = packs.iter().map(pack_line).collect();
        lines.push(format!("decides now    {}", activation_line(&active)));
        lines.extend(
            answer.scheduled.iter().map(|row| format!("decides later  {}", activation_line(row))),
        );
        Ok(lines.join("\n"))
    })
}

/// Writes a proposed pack's files to a new folder, for a second person to read.
pub(super) fn fetch(config: &Config, args: &FetchArgs) -> Result<ExitCode> {
    let FetchArgs { hash, dir, common, name } = args;
    let caller = Caller::new(config, common, Role::PolicyApprover, name)?;
    let request = proto::GetPackRequest { hash: hash.clone() };
    caller.call(async |mut client: Client| {
        let answer = client.get_pack(request).await?.into_inner();
        let files = answer.files.into_iter().map(|file| (file.name, file.content));
        let written = PackFiles::new(files).map_err(anyhow::Error::from).and_then(|files| {
            if files.hash().hex() != *hash {
                bail!("the gateway sent other files than these of that hash");
            }
            write(&files, dir)
        });
        match written {
            Ok(()) if common.json => Ok(json!({ "dir": dir, "hash": hash }).to_string()),
            Ok(()) => Ok(format!("{hash} is in {}", dir.display())),
            Err(error) => Err(Status::internal(format!("{error:#}"))),
        }
    })
}

/// Names were checked: none leads out of the folder.
fn write(files: &PackFiles, dir: &Path) -> Result<()> {
    std::fs::create_dir(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    std::fs::create_dir(dir.join("tests")).context("its folder of cases cannot be made")?;
    for (name, text) in files.iter() {
        std::fs::write(dir.join(name), text).with_context(|| name.to_owned())?;
    }
    Ok(())
}

/// A pack's files, and the pack that they are.
pub(super) fn read(dir: &Path) -> Result<(PackFiles, PolicyPack)> {
    let files = PackFiles::read(dir).with_context(|| format!("the pack in {}", dir.display()))?;
    let pack = files.load();
    let pack = pack.map_err(|fault| anyhow::anyhow!("{}", fault.faults().join("; ")));
    Ok((files, pack.with_context(|| format!("the pack in {}", dir.display()))?))
}

/// Who calls which gateway.
struct Caller {
    pki: Directory,
    address: String,
    role: Role,
    name: PrincipalName,
}

impl Caller {
    fn new(config: &Config, common: &Common, role: Role, name: &str) -> Result<Self> {
        Ok(Self {
            pki: DataDir::at(&config.paths.data_dir).pki(),
            address: common.gateway.clone().unwrap_or_else(|| config.server.listen.to_string()),
            role,
            name: PrincipalName::try_from(name).context("the name in the certificate")?,
        })
    }

    /// The key to sign with.
    fn key(&self, path: Option<&Path>) -> Result<Ed25519Key> {
        let beside = self.pki.client_key_path(self.role, &self.name);
        let path = path.unwrap_or(&beside);
        let pem = self.pki.read_key(path)?;
        Ed25519Key::from_pkcs8_pem(&pem)
            .with_context(|| format!("{} holds no Ed25519 key", path.display()))
    }

    /// Calls, and prints what came of it.
    fn call(&self, work: impl AsyncFnOnce(Client) -> Result<String, Status>) -> Result<ExitCode> {
        runtime()?.block_on(async {
            let name = self.name.as_str();
            let channel = connect(&self.pki, &self.address, self.role, name).await?;
            Ok(match work(PolicyServiceClient::new(channel)).await {
                Ok(text) => {
                    println!("{text}");
                    ExitCode::SUCCESS
                }
                Err(status) => {
                    eprintln!("tulga: {}", explain(&status));
                    ExitCode::from(REFUSED)
                }
            })
        })
    }
}

fn said(pack: Option<&proto::Pack>, json: bool, what: &str) -> String {
    let Some(pack) = pack else { return String::new() };
    if json {
        return pack_json(pack).to_string();
    }
    let then = match pack.state() {
        proto::PackState::Approved => format!("`tulga policy activate {}`", pack.hash),
        _ => time(pack.expires_at.as_ref()),
    };
    format!("{} version {} is {what} {then}\n{}", pack.id, pack.version, pack.hash)
}

fn pack_line(pack: &proto::Pack) -> String {
    let by = |signed: Option<&proto::PackSignature>| {
        signed.map_or_else(|| "-".to_owned(), |it| it.name.clone())
    };
    format!(
        "{} {} version {}  {}  author {}, approver {}",
        pack.hash,
        pack.id,
        pack.version,
        word(pack.state()),
        by(pack.author.as_ref()),
        by(pack.approver.as_ref()),
    )
}

fn pack_json(pack: &proto::Pack) -> Value {
    let signed = |signed: Option<&proto::PackSignature>| {
        signed.map(|it| {
            json!({
                "name": it.name, "spki_sha256": it.spki_sha256, "at": time(it.at.as_ref()),
                "index": it.position.as_ref().map(|position| position.index),
            })
        })
    };
    json!({
        "hash": pack.hash, "id": pack.id, "version": pack.version, "state": word(pack.state()),
        "author": signed(pack.author.as_ref()), "approver": signed(pack.approver.as_ref()),
        "expires_at": time(pack.expires_at.as_ref()),
    })
}

fn activation_line(row: &proto::Activation) -> String {
    let by = if row.from_configuration { " (configured)" } else { "" };
    let from = time(row.effective_at.as_ref());
    format!("{} version {}{by} from {from}  {}", row.id, row.version, row.hash)
}

fn activation_json(row: &proto::Activation) -> Value {
    json!({
        "hash": row.hash, "id": row.id, "version": row.version,
        "effective_at": time(row.effective_at.as_ref()),
        "index": row.position.as_ref().map(|position| position.index),
        "from_configuration": row.from_configuration,
    })
}

const fn word(state: proto::PackState) -> &'static str {
    match state {
        proto::PackState::Unspecified => "unknown",
        proto::PackState::Proposed => "proposed",
        proto::PackState::Approved => "approved",
        proto::PackState::Expired => "expired",
    }
}

fn time(instant: Option<&proto::Instant>) -> String {
    instant.map(|instant| instant.rfc3339.clone()).unwrap_or_default()
}
