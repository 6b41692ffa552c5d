//! Asking one address by HTTP/1.1: a connection that is kept, a deadline, and a bounded answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::gateway::{Postbox, PostboxAnswer, PostboxError};

/// An address that messages are posted to.
pub struct HttpPostbox {
    uri: Uri,
    host: HeaderValue,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    deadline: Duration,
    answer_bytes_max: usize,
    kept: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

impl HttpPostbox {
    /// An address `http://` or `https://`; for the latter the authorities that the server's certificate
    /// must lead to, PEM. There is no connection yet.
    ///
    /// # Errors
    ///
    /// [`AddressError`] for an address or an authority that is none.
    pub fn new(
        url: &str,
        tls_authority_pem: Option<&str>,
        deadline: Duration,
        answer_bytes_max: usize,
    ) -> Result<Self, AddressError> {
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
                Some((connector(pem)?, server_name(authority.host())?))
            }
            _ => return Err(AddressError::Url),
        };
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| AddressError::Url)?;
        Ok(Self { uri, host, tls, deadline, answer_bytes_max, kept: Mutex::default() })
    }

    async fn ask(
        &self,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<PostboxAnswer, PostboxError> {
        // One message at a time: a witness wants them in order.
        let mut kept = self.kept.lock().await;
        if let Some(mut connection) = kept.take()
            && connection.ready().await.is_ok()
            && let Ok(answer) = self.send(&mut connection, content_type, body.clone()).await
        {
            *kept = Some(connection);
            return Ok(answer);
        }
        // There was none, or it had been closed meanwhile: a message may be posted twice.
        let mut connection = self.connect().await?;
        let answer = self.send(&mut connection, content_type, body).await?;
        *kept = Some(connection);
        Ok(answer)
    }

    async fn send(
        &self,
        connection: &mut SendRequest<Full<Bytes>>,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<PostboxAnswer, PostboxError> {
        let unreachable = |cause| PostboxError::Unreachable(Box::new(cause));
        let path = self.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let request = Request::post(path)
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, content_type)
            .body(Full::new(body))
            .map_err(|cause| PostboxError::Unreachable(Box::new(cause)))?;
        let response = connection.send_request(request).await.map_err(unreachable)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, self.answer_bytes_max).collect().await;
        let body = body.map_err(PostboxError::Unreachable)?.to_bytes().to_vec();
        let content_type = head.headers.get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        Ok(PostboxAnswer { status: head.status.as_u16(), content_type: content_type.into(), body })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, PostboxError> {
        let unreachable = |cause| PostboxError::Unreachable(Box::new(cause));
        let default_port = if self.tls.is_some() { 443 } else { 80 };
        let port = self.uri.port_u16().unwrap_or(default_port);
        let host = bare(self.uri.host().unwrap_or_default());
        let stream = TcpStream::connect((host, port)).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        match &self.tls {
            None => start(stream).await,
            Some((connector, name)) => {
                start(connector.connect(name.clone(), stream).await.map_err(unreachable)?).await
            }
        }
    }
}

#[async_trait]
impl Postbox for HttpPostbox {
    fn address(&self) -> String {
        self.uri.to_string()
    }

    async fn post(
        &self,
        content_type: &'static str,
        body: Vec<u8>,
    ) -> Result<PostboxAnswer, PostboxError> {
        tokio::time::timeout(self.deadline, self.ask(content_type, Bytes::from(body)))
            .await
            .map_err(|_| PostboxError::Deadline)?
    }
}

impl fmt::Debug for HttpPostbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpPostbox({})", self.uri)
    }
}

async fn start<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, PostboxError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|cause| PostboxError::Unreachable(Box::new(cause)))?;
    // It ends when the sender is dropped or the other side closes.
    tokio::spawn(async move {
        if let Err(cause) = connection.await {
            tracing::debug!(error = %cause, "a connection ended badly");
        }
    });
    Ok(sender)
}

pub(super) fn connector(authority_pem: &str) -> Result<TlsConnector, AddressError> {
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

pub(super) fn server_name(host: &str) -> Result<ServerName<'static>, AddressError> {
    ServerName::try_from(bare(host).to_owned()).map_err(|_| AddressError::Url)
}

/// An address of IPv6 stands in brackets in a URL, and nowhere else.
pub(super) fn bare(host: &str) -> &str {
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

    fn postbox(url: &str, authority: Option<&str>) -> Result<HttpPostbox, AddressError> {
        HttpPostbox::new(url, authority, Duration::from_secs(1), 1024)
    }

    #[test]
    fn an_address_is_http_or_https_with_its_authority() {
        for good in
            ["http://localhost", "http://127.0.0.1:7480/w1/add-checkpoint", "http://[::1]:1/"]
        {
            assert_eq!(
                postbox(good, None).unwrap().uri.to_string().trim_end_matches('/'),
                good.trim_end_matches('/')
            );
        }
        for bad in ["", "localhost:1", "ftp://localhost", "http://", "http://a@b/", "/path"] {
            assert_eq!(postbox(bad, None).err(), Some(AddressError::Url), "{bad}");
        }
        let tls = "https://witness.example";
        assert_eq!(postbox(tls, None).err(), Some(AddressError::NoAuthority));
        assert_eq!(postbox(tls, Some("rubbish")).err(), Some(AddressError::Authority));
    }
}
