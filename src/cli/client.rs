//! A client of the gateway, with one of the certificates of a data folder.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_types::StatusExt as _;

use crate::domain::id::PrincipalName;
use crate::pki::{Directory, Role};

/// Where the gateway is and who calls.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ClientArgs {
    /// The gateway, in place of the configured address
    #[arg(long, value_name = "HOST:PORT")]
    pub gateway: Option<String>,
    /// Name in the client certificate
    #[arg(long = "as", value_name = "NAME", default_value = "dev")]
    pub name: String,
}

/// A connection with mutual TLS.
pub(super) async fn connect(
    pki: &Directory,
    address: &str,
    role: Role,
    name: &str,
) -> Result<Channel> {
    let name = PrincipalName::try_from(name).context("the name in the certificate")?;
    let certificate = pki.read_certificate(&pki.client_path(role, &name));
    let certificate = certificate.with_context(|| {
        let (role, name) = (role.as_str(), name.as_str());
        format!(
            "no certificate for {role} {name}; the bank's authority issues it (`tulga init` those for development)"
        )
    })?;
    let key = pki.read_key(&pki.client_key_path(role, &name))?;
    let authority = pki.read_certificate(&pki.authority_path())?;
    connect_with(address, &authority, &certificate, &key).await
}

/// A connection with a certificate and key in PEM.
pub(super) async fn connect_with(
    address: &str,
    authority: &str,
    certificate: &str,
    key: &str,
) -> Result<Channel> {
    let tls = ClientTlsConfig::new()
        .domain_name("localhost")
        .ca_certificate(Certificate::from_pem(authority))
        .identity(Identity::from_pem(certificate, key));
    Endpoint::from_shared(format!("https://{address}"))?
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(30))
        .tls_config(tls)?
        .connect()
        .await
        .with_context(|| format!("no gateway answers at {address}; is `tulga serve` running?"))
}

/// The reason word of a status, such as `CAP_STALE`.
pub(super) fn reason_of(status: &Status) -> String {
    status
        .get_details_error_info()
        .map_or_else(|| format!("{:?}", status.code()), |info| info.reason)
}

/// A status as a person reads it: the reason, the sentence, the fields.
pub(super) fn explain(status: &Status) -> String {
    let mut text = format!("{}: {}", reason_of(status), status.message());
    if let Some(bad) = status.get_details_bad_request() {
        for violation in bad.field_violations {
            text.extend(["; ", &violation.field, ": ", &violation.description]);
        }
    }
    text
}
