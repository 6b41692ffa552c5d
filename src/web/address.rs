//! Whom to ask by HTTP/1.1: a URL, whom to trust for it, and a connection to it.

use std::sync::Arc;

use http::{HeaderValue, Uri};
use hyper::body::Body;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// A URL `http://` or `https://`, and for the latter the authorities whose certificates are trusted.
pub(super) struct Address {
    pub(super) uri: Uri,
    /// The value of `Host`.
    pub(super) host: HeaderValue,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// What went wrong between two hosts.
pub(super) type Cause = Box<dyn std::error::Error + Send + Sync>;

impl Address {
    /// Reads a URL, and for `https://` the authorities that the server's certificate must lead to, PEM.
    pub(super) fn parse(url: &str, tls_authority_pem: Option<&str>) -> Result<Self, AddressError> {
        let uri: Uri = url.parse().map_err(|_| AddressError::Url)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(AddressError::Url);
        };
        if authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(AddressError::Url);
        }
        let tls = match scheme {
            "http" => None,
            "https" => {
                let pem = tls_authority_pem.ok_or(AddressError::NoAuthority)?;
                let name = ServerName::try_from(bare(authority.host()).to_owned());
                Some((connector(pem)?, name.map_err(|_| AddressError::Url)?))
            }
            _ => return Err(AddressError::Url),
        };
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| AddressError::Url)?;
        Ok(Self { uri, host, tls })
    }

    /// A new connection.
    pub(super) async fn connect<B>(&self) -> Result<SendRequest<B>, Cause>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Cause>,
    {
        let default_port = if self.tls.is_some() { 443 } else { 80 };
        let port = self.uri.port_u16().unwrap_or(default_port);
        let host = bare(self.uri.host().unwrap_or_default());
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => start(stream).await,
            Some((connector, name)) => start(connector.connect(name.clone(), stream).await?).await,
        }
    }
}

async fn start<S, B>(stream: S) -> Result<SendRequest<B>, Cause>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Cause>,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends when the sender is dropped or the other side closes.
    tokio::spawn(async move {
        if let Err(cause) = connection.await {
            tracing::debug!(error = %cause, "a connection ended badly");
        }
    });
    Ok(sender)
}

fn connector(authority_pem: &str) -> Result<TlsConnector, AddressError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority_pem.as_bytes()) {
        let certificate = certificate.map_err(|_| AddressError::Authority)?;
        roots.add(certificate).map_err(|_| AddressError::Authority)?;
    }
    if roots.is_empty() {
        return Err(AddressError::Authority);
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| AddressError::Authority)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// An address of IPv6 stands in brackets in a URL, and nowhere else.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

/// An address that cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Not `http://` or `https://` and a host.
    #[error("it is not http:// or https:// with a host")]
    Url,
    /// Nothing says whom to trust.
    #[error("an https:// address needs the authority of its certificate")]
    NoAuthority,
    /// Nobody would be trusted.
    #[error("the authority is no certificate in PEM")]
    Authority,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_http_or_https_with_its_authority() {
        let fault_of = |url, authority| Address::parse(url, authority).err();
        for good in
            ["http://localhost", "http://127.0.0.1:7480/w1/add-checkpoint", "http://[::1]:1/"]
        {
            let address = Address::parse(good, None).ok().unwrap();
            assert_eq!(address.uri.to_string().trim_end_matches('/'), good.trim_end_matches('/'));
        }
        for bad in ["", "localhost:1", "ftp://localhost", "http://", "http://a@b/", "/path"] {
            assert_eq!(fault_of(bad, None), Some(AddressError::Url), "{bad}");
        }
        let tls = "https://witness.example";
        assert_eq!(fault_of(tls, None), Some(AddressError::NoAuthority));
        assert_eq!(fault_of(tls, Some("rubbish")), Some(AddressError::Authority));
    }
}
