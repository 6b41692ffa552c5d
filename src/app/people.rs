//! The people of a data folder: the first ones, and acts of the root key's holder on a stopped gateway.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::disk::{read_bounded, write_new};
use super::{App, DataDir, KeyFolder, SECOND_PERSON, root_key};
use crate::config::Config;
use crate::crypto::{Digest, Signer};
use crate::domain::four_eyes::StaffRole;
use crate::domain::id::{PrincipalName, TenantId, UnitName};
use crate::gateway::request::Logged;
use crate::gateway::{Gateway, NewPrincipal, RootAct, root_act_message};
use crate::pki::{KeyedCertificate, Role, identify};

/// The first people, with the root key's signature: they are registered by the first start.
const FIRST: &str = "principals.json";

/// Largest file read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The units of the people of the development PKI: two, so that they can approve what the other proposes.
const UNITS: [&str; 2] = ["operations", "control"];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct First {
    people: Vec<FirstPerson>,
    signature: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstPerson {
    role: String,
    name: String,
    unit: String,
    cert: String,
}

/// Somebody of the development PKI, if they are a person.
pub(super) fn development(
    role: Role,
    name: PrincipalName,
    client: &KeyedCertificate,
) -> Result<Option<NewPrincipal>> {
    let Some(role) = StaffRole::from_word(role.as_str()) else { return Ok(None) };
    let [first, second] = UNITS;
    let unit = if name.as_str() == SECOND_PERSON { second } else { first };
    let spki = identify(&client.certificate_der)?.spki;
    Ok(Some(NewPrincipal { role, name, unit: UnitName::try_from(unit)?, spki }))
}

/// Writes who is to be registered by the first start.
pub(super) fn write_first(
    data: &DataDir,
    tenant: &TenantId,
    people: Vec<NewPrincipal>,
    root: &dyn Signer,
) -> Result<()> {
    let signature = root.sign(&root_act_message(tenant, RootAct::Pin, &people))?;
    let first = First {
        people: people.iter().map(FirstPerson::of).collect(),
        signature: STANDARD.encode(signature),
    };
    let json = serde_json::to_vec_pretty(&first)?;
    write_new(&data.path().join(FIRST), &json, 0o600)
}

/// Registers the first people where nobody ever was, once: their file goes then, and where the ledger tells of
/// people who were pinned the root key's word of then counts no more.
pub(super) async fn pin_first(data: &DataDir, gateway: &Gateway) -> Result<()> {
    let path = data.path().join(FIRST);
    if !gateway.principals(None, 1).await?.is_empty() {
        return remove(&path);
    }
    let Some(bytes) = read_bounded(&path, FILE_BYTES_MAX)? else {
        tracing::warn!(
            "nobody is registered, so no person is let in: `tulga principals pin` registers the first ones"
        );
        return Ok(());
    };
    if gateway.was_anybody_pinned().await? {
        tracing::error!(
            "nobody is registered, and the ledger tells of people who were: no person is let in; put the database back, or register them anew by `tulga principals pin`"
        );
        return Ok(());
    }
    let damaged = || format!("{} is damaged", path.display());
    let First { people, signature } = serde_json::from_slice(&bytes).with_context(damaged)?;
    let people = people.into_iter().map(FirstPerson::parsed).collect::<Result<_>>();
    let signature = STANDARD.decode(signature).with_context(damaged)?;
    gateway.pin_principals(people.with_context(damaged)?, &signature).await?;
    remove(&path)
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
            Err(cause).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

impl FirstPerson {
    fn of(person: &NewPrincipal) -> Self {
        let NewPrincipal { role, name, unit, spki } = person;
        Self {
            role: role.as_str().to_owned(),
            name: name.to_string(),
            unit: unit.to_string(),
            cert: spki.labelled(),
        }
    }

    fn parsed(self) -> Result<NewPrincipal> {
        Ok(NewPrincipal {
            role: StaffRole::from_word(&self.role).context("a role that no person has")?,
            name: PrincipalName::try_from(self.name.as_str())?,
            unit: UnitName::try_from(self.unit.as_str())?,
            spki: Digest::from_labelled(&self.cert)?,
        })
    }
}

/// The root key's word on people: from its file, or where the configuration keeps it.
///
/// # Errors
///
/// When the root key is not there, or is another than the register's.
pub fn signed_by_root(
    config: &Config,
    root: Option<&Path>,
    act: RootAct,
    people: &[NewPrincipal],
) -> Result<Vec<u8>> {
    let data = DataDir::at(&config.paths.data_dir);
    let root = root_key(config, root, &KeyFolder::register(&data)?.root)?;
    Ok(root.sign(&root_act_message(&config.identity.tenant, act, people))?)
}

/// Registers people, or revokes their keys, on the root key's word and on a gateway that does not run; the
/// entry that says so.
///
/// # Errors
///
/// When there is no data folder, the root key is not there, or the gateway refuses.
pub async fn act_of_root(
    config: &Config,
    root: Option<&Path>,
    act: RootAct,
    people: Vec<NewPrincipal>,
) -> Result<Logged> {
    let data = DataDir::at(&config.paths.data_dir);
    if !data.is_complete() {
        bail!("there is no data folder yet: `tulga init` makes it");
    }
    let signature = signed_by_root(config, root, act, &people)?;
    let app = App::open(config).await?;
    let done = match act {
        RootAct::Pin => app.gateway.pin_principals(people, &signature).await,
        RootAct::Unpin => app.gateway.unpin_principals(people, &signature).await,
    };
    app.close().await;
    Ok(done?)
}
