//! The server: TLS, bounds, the door, health and reflection, and a bounded drain.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio_stream::StreamExt as _;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use zeroize::Zeroizing;

use super::audit::Audit;
use super::caller::PaceLayer;
use super::case::CaseDesk;
use super::confirmation::Confirmations;
use super::cut::Cutter;
use super::enrollment::Enrollment;
use super::footage::{Footage, Retention};
use super::key::KeyDesk;
use super::limits::{EnvelopeLayer, Limits};
use super::peer::{Door, DoorLayer};
use super::policy::PolicyDesk;
use super::principal::PrincipalDesk;
use super::proposal::ProposalDesk;
use super::receipt::Receipts;
use super::register::RegisterDesk;
use super::report::Reports;
use super::sensor::SensorDesk;
use super::teller::TellerDesk;
use super::terminal::TerminalDesk;
use super::verification::Verification;
use crate::crowd::{Crowd, Pace, Peer, Seat};
use crate::gateway::Gateway;
use crate::proto;
use crate::proto::audit_service_server::AuditServiceServer;
use crate::proto::case_service_server::CaseServiceServer;
use crate::proto::confirmation_service_server::ConfirmationServiceServer;
use crate::proto::enrollment_service_server::EnrollmentServiceServer;
use crate::proto::footage_service_server::FootageServiceServer;
use crate::proto::key_service_server::KeyServiceServer;
use crate::proto::policy_service_server::PolicyServiceServer;
use crate::proto::principal_service_server::PrincipalServiceServer;
use crate::proto::proposal_service_server::ProposalServiceServer;
use crate::proto::receipt_service_server::ReceiptServiceServer;
use crate::proto::register_service_server::RegisterServiceServer;
use crate::proto::report_service_server::ReportServiceServer;
use crate::proto::retention_service_server::RetentionServiceServer;
use crate::proto::sensor_service_server::SensorServiceServer;
use crate::proto::teller_service_server::TellerServiceServer;
use crate::proto::terminal_service_server::TerminalServiceServer;
use crate::proto::verification_service_server::VerificationServiceServer;

/// What the server shows to its callers, and whom it trusts. The server never runs without it.
pub struct TlsMaterial {
    /// The server's certificate and the authorities above it, PEM.
    pub certificate_pem: String,
    /// Its private key, PEM.
    pub key_pem: Zeroizing<String>,
    /// The authority of the callers' certificates, PEM.
    pub client_ca_pem: String,
}

impl std::fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsMaterial").finish_non_exhaustive()
    }
}

/// How the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every call that was under way got its answer.
    Drained,
    /// The time for that was up; what was left was cut off, and never answered.
    CutOff,
}

/// The server could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The TLS material cannot be used.
    #[error("the TLS certificate, key or authority cannot be used")]
    Tls(#[source] tonic::transport::Error),
    /// The reflection service cannot be built from the descriptors.
    #[error("the descriptors cannot be served")]
    Reflection(#[source] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("the transport failed")]
    Transport(#[source] tonic::transport::Error),
}

/// Most bytes of a message with a key register in it.
const KEY_MESSAGE_BYTES: usize = 5 << 20;

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Services, and the means to say whether they serve.
#[derive(Debug)]
pub struct Site {
    routes: Routes,
    health: HealthReporter,
}

impl Site {
    /// A site that answers health and reflection, and nothing else yet.
    ///
    /// # Errors
    ///
    /// [`ServeError::Reflection`] when the descriptors are broken.
    pub fn new() -> Result<Self, ServeError> {
        let (health, health_service) = tonic_health::server::health_reporter();
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let routes = Routes::new(health_service)
            .add_service(reflection().build_v1().map_err(ServeError::Reflection)?)
            // Command-line tools still ask for the older one.
            .add_service(reflection().build_v1alpha().map_err(ServeError::Reflection)?);
        Ok(Self { routes, health })
    }

    /// Adds to the services.
    #[must_use]
    pub fn with(mut self, add: impl FnOnce(Routes) -> Routes) -> Self {
        self.routes = add(self.routes);
        self
    }

    /// Adds a page for browsers: anyone may read it, with or without a certificate.
    #[must_use]
    pub fn with_page(self, path: &str, content_type: &'static str, page: &'static str) -> Self {
        let answer = move || std::future::ready(([(CONTENT_TYPE, content_type)], page));
        self.with(|routes| routes.into_axum_router().route(path, get(answer)).into())
    }

    /// Adds the services of a gateway.
    #[must_use]
    pub fn with_gateway(self, gateway: &Arc<Gateway>, limits: &Limits) -> Self {
        let Limits { message_bytes_max, import_message_bytes_max, answer_bytes_max, .. } = *limits;
        let gateway = || Arc::clone(gateway);
        let verification = VerificationServiceServer::new(Verification(gateway()))
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(answer_bytes_max);
        let enrollment = EnrollmentServiceServer::new(Enrollment::new(gateway()))
            .max_decoding_message_size(import_message_bytes_max)
            .max_encoding_message_size(answer_bytes_max);
        // An answer of evidence holds a capture as a request did.
        let audit = AuditServiceServer::new(Audit(gateway()))
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(answer_bytes_max.max(message_bytes_max));
        let receipts = ReceiptServiceServer::new(Receipts(gateway()))
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(answer_bytes_max);
        let confirmations = ConfirmationServiceServer::new(Confirmations(gateway()))
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(answer_bytes_max);
        let tellers = TellerServiceServer::new(TellerDesk(gateway()))
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(answer_bytes_max);
        let terminals = TerminalServiceServer::new(TerminalDesk(gateway()))
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(answer_bytes_max);
        let policies = PolicyServiceServer::new(PolicyDesk(gateway()))
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(answer_bytes_max);
        let footage = FootageServiceServer::new(Footage(gateway()))
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(answer_bytes_max);
        let retention = RetentionServiceServer::new(Retention(gateway()))
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(answer_bytes_max);
        let reports = ReportServiceServer::new(Reports(gateway()))
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(answer_bytes_max);
        let sensors = SensorServiceServer::new(SensorDesk(gateway()))
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(answer_bytes_max);
        let principals = PrincipalServiceServer::new(PrincipalDesk(gateway()))
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(answer_bytes_max);
        let proposals = ProposalServiceServer::new(ProposalDesk(gateway()))
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(answer_bytes_max);
        let registers = RegisterServiceServer::new(RegisterDesk(gateway()))
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(answer_bytes_max);
        let cases = CaseServiceServer::new(CaseDesk(gateway()))
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(answer_bytes_max);
        // A register may be as large as a picture.
        let keys = KeyServiceServer::new(KeyDesk(gateway()))
            .max_decoding_message_size(message_bytes_max.max(KEY_MESSAGE_BYTES))
            .max_encoding_message_size(answer_bytes_max.max(KEY_MESSAGE_BYTES));
        self.with(|routes| {
            routes
                .add_service(keys)
                .add_service(footage)
                .add_service(retention)
                .add_service(reports)
                .add_service(policies)
                .add_service(verification)
                .add_service(enrollment)
                .add_service(audit)
                .add_service(receipts)
                .add_service(confirmations)
                .add_service(tellers)
                .add_service(terminals)
                .add_service(sensors)
                .add_service(principals)
                .add_service(proposals)
                .add_service(registers)
                .add_service(cases)
        })
    }

    /// Serves on `listener` until `stop` is done; then tells health that it no longer serves, takes no
    /// new connection, and gives the calls under way [`Limits::drain_max`] to end.
    ///
    /// # Errors
    ///
    /// [`ServeError`] when the TLS material cannot be used, or the transport fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        tls: &TlsMaterial,
        limits: &Limits,
        door: Arc<Door>,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<Ended, ServeError> {
        let Self { routes, health } = self;
        let router = builder(limits, tls)?
            .layer(EnvelopeLayer { call_max: limits.call_max })
            .layer(PaceLayer(Arc::new(Pace::new(limits.calls_per_address_per_second))))
            .layer(DoorLayer(door))
            .add_routes(routes);
        let incoming = TcpIncoming::from(listener)
            .with_nodelay(Some(true))
            .with_keepalive(Some(limits.keepalive_interval));
        let cutter = Cutter::new();
        let places = Arc::new(Semaphore::new(limits.connections_max));
        let crowd = Crowd::new(limits.connections_per_address_max);
        let (cutter, crowd, first_call_max) = (&cutter, &crowd, limits.first_call_max);
        let incoming = incoming.then(|accepted| {
            let places = Arc::clone(&places);
            async move {
                let (connection, seat) = seated(accepted, crowd).await?;
                // The semaphore is never closed.
                let place = places.acquire_owned().await.map_err(std::io::Error::other)?;
                Ok::<_, std::io::Error>(
                    cutter.watch(connection).holding(place, seat).calling_within(first_call_max),
                )
            }
        });
        let (stopped, stopping) = oneshot::channel();
        let stop = async move {
            stop.await;
            health.set_service_status("", ServingStatus::NotServing).await;
            // Nobody listens once serving has ended by itself.
            stopped.send(()).ok();
        };
        let drain_over = async {
            match stopping.await {
                Ok(()) => tokio::time::sleep(limits.drain_max).await,
                // Serving ended without being told to: the other arm has the answer.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = router.serve_with_incoming_shutdown(incoming, stop) => {
                ended.map(|()| Ended::Drained).map_err(ServeError::Transport)
            }
            () = drain_over => {
                cutter.cut();
                Ok(Ended::CutOff)
            }
        }
    }
}

/// The connection with its caller's seat; one of a caller who has taken all of theirs is closed.
async fn seated(
    accepted: std::io::Result<TcpStream>,
    crowd: &Arc<Crowd>,
) -> std::io::Result<(TcpStream, Seat)> {
    let connection = match accepted {
        Ok(connection) => connection,
        Err(cause) => {
            // Where no file can be opened any more, the next try would fail at once.
            tracing::warn!(error = %cause, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            return Err(cause);
        }
    };
    let address = connection.peer_addr()?;
    let Some(seat) = crowd.enter(Peer::from(address.ip())) else {
        tracing::debug!("a connection of a caller who has too many was closed");
        return Err(std::io::ErrorKind::ConnectionRefused.into());
    };
    Ok((connection, seat))
}

fn builder(limits: &Limits, tls: &TlsMaterial) -> Result<Server, ServeError> {
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(&tls.certificate_pem, tls.key_pem.as_bytes()))
        .client_ca_root(Certificate::from_pem(&tls.client_ca_pem))
        // A caller without a certificate gets an answer that says so; a wrong one fails the handshake.
        .client_auth_optional(true)
        .timeout(limits.handshake_max);
    Ok(Server::builder()
        .tls_config(tls)
        .map_err(ServeError::Tls)?
        .max_concurrent_streams(limits.streams_max)
        .concurrency_limit_per_connection(usize::try_from(limits.streams_max).unwrap_or(1))
        .http2_max_header_list_size(limits.header_bytes_max)
        .http2_max_pending_accept_reset_streams(Some(limits.resets_unseen_max))
        .http2_max_local_error_reset_streams(Some(limits.resets_for_faults_max))
        .http2_keepalive_interval(Some(limits.keepalive_interval))
        .http2_keepalive_timeout(Some(limits.keepalive_timeout))
        .max_connection_age(limits.connection_age_max)
        .max_connection_age_grace(limits.connection_grace))
}
