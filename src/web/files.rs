//! Fetching files below one address by HTTP/1.1: one connection that is kept, bounded answers, and no way
//! to another host: redirections are refused.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;

use super::address::{Address, AddressError};

/// An address with files below it.
pub struct HttpFiles {
    address: Address,
    kept: Option<SendRequest<Empty<Bytes>>>,
}

impl HttpFiles {
    /// An address `http://` or `https://`; for the latter the authorities that the server's certificate
    /// must lead to, PEM. There is no connection yet.
    ///
    /// # Errors
    ///
    /// [`AddressError`] for an address or an authority that is none.
    pub fn new(url: &str, tls_authority_pem: Option<&str>) -> Result<Self, AddressError> {
        let address = Address::parse(url, tls_authority_pem)?;
        if address.uri.query().is_some() {
            return Err(AddressError::Url);
        }
        Ok(Self { address, kept: None })
    }

    /// Writes the file of a name to `out`; how many bytes it has, or none where there is no such file.
    ///
    /// # Errors
    ///
    /// [`FetchError`]; part of the file may have been written then.
    pub async fn fetch(
        &mut self,
        name: &str,
        bytes_max: u64,
        out: &mut (dyn Write + Send),
    ) -> Result<Option<u64>, FetchError> {
        let mut body = match self.ask(name).await? {
            (StatusCode::OK, body) => body,
            (StatusCode::NOT_FOUND | StatusCode::GONE, body) => {
                // What the server says about it is not wanted, and must not stand before the next answer.
                drop(body);
                self.kept = None;
                return Ok(None);
            }
            (status, _) if status.is_redirection() => return Err(FetchError::Redirection),
            (status, _) => return Err(FetchError::Status(status.as_u16())),
        };
        let mut length: u64 = 0;
        while let Some(frame) = within(SILENCE_MAX, body.frame()).await? {
            let frame = frame.map_err(|cause| FetchError::Unreachable(Box::new(cause)))?;
            let Some(piece) = frame.data_ref() else { continue };
            length = length.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            if length > bytes_max {
                return Err(FetchError::TooLong);
            }
            out.write_all(piece).map_err(FetchError::Write)?;
        }
        Ok(Some(length))
    }

    async fn ask(&mut self, name: &str) -> Result<(StatusCode, Incoming), FetchError> {
        if let Some(connection) = self.kept.take() {
            // It may have been closed meanwhile.
            if let Ok(answer) = self.ask_on(connection, name).await {
                return Ok(answer);
            }
        }
        let connected = within(SILENCE_MAX, self.address.connect()).await?;
        let connection = connected.map_err(FetchError::Unreachable)?;
        self.ask_on(connection, name).await
    }

    async fn ask_on(
        &mut self,
        mut connection: SendRequest<Empty<Bytes>>,
        name: &str,
    ) -> Result<(StatusCode, Incoming), FetchError> {
        let unreachable = |cause| FetchError::Unreachable(Box::new(cause));
        within(SILENCE_MAX, connection.ready()).await?.map_err(unreachable)?;
        let path = format!("{}/{name}", self.address.uri.path().trim_end_matches('/'));
        let request = Request::get(path)
            .header(header::HOST, &self.address.host)
            .body(Empty::new())
            .map_err(|cause| FetchError::Unreachable(Box::new(cause)))?;
        let response = within(SILENCE_MAX, connection.send_request(request)).await?;
        let (head, body) = response.map_err(unreachable)?.into_parts();
        self.kept = Some(connection);
        Ok((head.status, body))
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, FetchError> {
    tokio::time::timeout(limit, work).await.map_err(|_| FetchError::Silence)
}

/// A file that was not fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No connection, or a broken one.
    #[error("the address cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server said nothing for half a minute.
    #[error("the server says nothing")]
    Silence,
    /// The server points elsewhere.
    #[error("the server points to another address, which is not followed")]
    Redirection,
    /// Neither the file nor that there is none.
    #[error("the server answers with status {0}")]
    Status(u16),
    /// More than is taken.
    #[error("the file is longer than it can be")]
    TooLong,
    /// The disk.
    #[error("what is fetched cannot be written")]
    Write(#[source] std::io::Error),
}

impl FetchError {
    /// The word in machine-readable output.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "AUDIT_FETCH"
    }
}

const SILENCE_MAX: Duration = Duration::from_secs(30);
