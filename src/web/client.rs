//! Asking one address by HTTP/1.1: a connection that is kept, a deadline, and a bounded answer.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use tokio::sync::Mutex;

use super::address::Address;
pub use super::address::AddressError;
use crate::gateway::{Postbox, PostboxAnswer, PostboxError};

/// An address that messages are posted to.
pub struct HttpPostbox {
    address: Address,
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
        let address = Address::parse(url, tls_authority_pem)?;
        Ok(Self { address, deadline, answer_bytes_max, kept: Mutex::default() })
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
        let connected = self.address.connect().await;
        let mut connection = connected.map_err(PostboxError::Unreachable)?;
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
        let path = self.address.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let request = Request::post(path)
            .header(header::HOST, &self.address.host)
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
}

#[async_trait]
impl Postbox for HttpPostbox {
    fn address(&self) -> String {
        self.address.uri.to_string()
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
        write!(f, "HttpPostbox({})", self.address.uri)
    }
}
