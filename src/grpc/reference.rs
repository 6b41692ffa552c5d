//! Reference images from a service of the bank's; here the gateway is the client.

use std::error::Error as _;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};
use x509_parser::pem::Pem;
use zeroize::Zeroizing;

use crate::domain::iin::Iin;
use crate::gateway::{ReferenceError, ReferenceSource};
use crate::proto::get_portrait_response::Answer;
use crate::proto::reference_service_client::ReferenceServiceClient;
use crate::proto::{GetPortraitRequest, GetPortraitResponse, NoPortrait};

/// Where the service is, whom the gateway trusts there, and what it shows.
pub struct ReferenceEndpoint {
    /// `https://` and the service's host and port.
    pub url: String,
    /// The gateway's certificate for this service, PEM.
    pub certificate_pem: String,
    /// Its private key, PEM.
    pub key_pem: Zeroizing<String>,
    /// The authority of the service's certificate, PEM.
    pub authority_pem: String,
    /// Longest time for one answer, the connection included.
    pub deadline: Duration,
    /// Largest picture, in bytes.
    pub picture_bytes_max: usize,
}

impl std::fmt::Debug for ReferenceEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReferenceEndpoint").finish_non_exhaustive()
    }
}

/// The endpoint cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceEndpointError {
    /// The transport refuses the url, the certificate or the key.
    #[error("the url, certificate or key of the reference service cannot be used")]
    Transport(#[source] tonic::transport::Error),
    /// Nobody would be trusted.
    #[error("the authority of the reference service is no certificate")]
    Authority,
}

impl ReferenceEndpoint {
    /// Checks what can be checked without a connection.
    ///
    /// # Errors
    ///
    /// [`ReferenceEndpointError`] for a certificate, key or authority that is none.
    pub fn check(&self) -> Result<(), ReferenceEndpointError> {
        self.endpoint().map(drop)
    }

    /// A source that connects when it is first asked, and again when the connection was lost. Called
    /// inside a runtime.
    ///
    /// # Errors
    ///
    /// As [`Self::check`].
    pub fn source(&self) -> Result<GrpcReferences, ReferenceEndpointError> {
        let client = ReferenceServiceClient::new(self.endpoint()?.connect_lazy())
            .max_decoding_message_size(self.picture_bytes_max.saturating_add(ENVELOPE_BYTES));
        let Self { deadline, picture_bytes_max, .. } = *self;
        Ok(GrpcReferences { client, deadline, picture_bytes_max })
    }

    fn endpoint(&self) -> Result<Endpoint, ReferenceEndpointError> {
        // The transport takes a text without any certificate, and then trusts nobody.
        let mut blocks = Pem::iter_from_buffer(self.authority_pem.as_bytes());
        let is_certificate =
            |block: &Pem| block.label == "CERTIFICATE" && block.parse_x509().is_ok();
        if !blocks.any(|block| block.is_ok_and(|block| is_certificate(&block))) {
            return Err(ReferenceEndpointError::Authority);
        }
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.authority_pem))
            .identity(Identity::from_pem(&self.certificate_pem, self.key_pem.as_bytes()));
        Endpoint::from_shared(self.url.clone())
            .and_then(|endpoint| endpoint.tls_config(tls))
            .map(|endpoint| endpoint.connect_timeout(self.deadline))
            .map_err(ReferenceEndpointError::Transport)
    }
}

/// A service of the bank's, or its adapter to an exchange.
#[derive(Clone, Debug)]
pub struct GrpcReferences {
    client: ReferenceServiceClient<Channel>,
    deadline: Duration,
    picture_bytes_max: usize,
}

#[async_trait]
impl ReferenceSource for GrpcReferences {
    async fn portrait(&self, iin: &Iin) -> Result<Option<Bytes>, ReferenceError> {
        let iin = String::from_utf8_lossy(iin.expose()).into_owned();
        let mut request = Request::new(GetPortraitRequest { iin });
        // tonic ends the call by it too, and calls that cancelled.
        request.set_timeout(self.deadline);
        let began = tokio::time::Instant::now();
        // A clone shares the connection.
        let mut client = self.client.clone();
        let answer = tokio::time::timeout(self.deadline, client.get_portrait(request));
        let answer = answer.await.map_err(|_| ReferenceError::Deadline)?.map_err(|status| {
            if began.elapsed() < self.deadline { refusal(status) } else { ReferenceError::Deadline }
        })?;
        let GetPortraitResponse { answer } = answer.into_inner();
        match answer {
            Some(Answer::Portrait(picture)) if picture.len() > self.picture_bytes_max => {
                Err(ReferenceError::TooLarge)
            }
            Some(Answer::Portrait(picture)) if picture.is_empty() => Err(ReferenceError::Malformed),
            Some(Answer::Portrait(picture)) => Ok(Some(picture)),
            Some(Answer::None(NoPortrait {})) => Ok(None),
            None => Err(ReferenceError::Malformed),
        }
    }
}

/// A status in words that the service has no part in: its message may repeat what it was asked.
fn refusal(status: Status) -> ReferenceError {
    match status.code() {
        // tonic's own, for a message over the limit.
        Code::OutOfRange => ReferenceError::TooLarge,
        // Made on this side of the wire: only those have a cause.
        _ if status.source().is_some() => ReferenceError::Unreachable(Box::new(status)),
        code => ReferenceError::Refused(word(code)),
    }
}

const fn word(code: Code) -> &'static str {
    match code {
        Code::Cancelled => "CANCELLED",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
        _ => "UNKNOWN",
    }
}

/// What stands around a picture in its message, generously.
const ENVELOPE_BYTES: usize = 1 << 10;
