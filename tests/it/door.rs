//! The door, through real TLS: every method and every role, and certificates that never get that far.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tulga::clock::{Clock as _, SystemClock};
use tulga::crypto::Digest;
use tulga::domain::four_eyes::StaffRole;
use tulga::domain::id::{PrincipalName, TenantId, TerminalId};
use tulga::domain::time::UnixMillis;
use tulga::grpc::limits::Limits;
use tulga::grpc::peer::{ACCESS, Door, Registered, may_call};
use tulga::grpc::server::{Ended, ServeError, Site, TlsMaterial};
use tulga::pki::{Authority, KeyedCertificate, Role, Validity, identify};

/// Whom nobody registered, though a certificate of the authority names them.
const STRANGER: &str = "stranger";

/// One registered terminal key.
struct OneKey(TerminalId, Digest);

#[async_trait::async_trait]
impl Registered for OneKey {
    async fn admits(&self, terminal: &TerminalId, key: Digest) -> Result<bool, &'static str> {
        Ok(*terminal == self.0 && key == self.1)
    }

    async fn admits_person(
        &self,
        _role: StaffRole,
        name: &PrincipalName,
        _key: Digest,
    ) -> Result<bool, &'static str> {
        Ok(name.as_str() != STRANGER)
    }

    fn turned_away(&self, _terminal: Option<&TerminalId>, _reason: &'static str) {}
}

pub struct Running {
    pub authority: Authority,
    terminal: KeyedCertificate,
    pub address: SocketAddr,
    registered: Weak<OneKey>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<Ended, ServeError>>,
}

fn name(text: &str) -> PrincipalName {
    PrincipalName::try_from(text).unwrap()
}

fn now() -> UnixMillis {
    SystemClock.now()
}

fn authority(tenant: &str) -> Authority {
    let tenant = TenantId::try_from(tenant).unwrap();
    Authority::generate(tenant, Validity::of_authority(now())).unwrap()
}

pub async fn start(limits: Limits) -> Running {
    let authority = authority("bank-a");
    let leaf = Validity::of_leaf(now());
    let server = authority.issue_server(&[], leaf).unwrap();
    let terminal = authority.issue_client(Role::Terminal, &name("ATM-1"), leaf).unwrap();
    let key = identify(&terminal.certificate_der).unwrap().spki;
    let terminals = Arc::new(OneKey(TerminalId::try_from("ATM-1").unwrap(), key));
    let registered = Arc::downgrade(&terminals);
    let door = Door::new(authority.tenant().clone(), terminals);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = TlsMaterial {
        certificate_pem: server.certificate_pem,
        key_pem: server.key_pem,
        client_ca_pem: authority.certificate_pem().to_owned(),
    };
    let (stop, stopped) = oneshot::channel();
    let ended = tokio::spawn(async move {
        let site = Site::new()?;
        site.serve(listener, &tls, &limits, door, async {
            stopped.await.ok();
        })
        .await
    });
    Running { authority, terminal, address, registered, stop, ended }
}

impl Running {
    async fn connect(
        &self,
        client: Option<&KeyedCertificate>,
    ) -> Result<Channel, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.authority.certificate_pem()))
            .domain_name("localhost");
        if let Some(client) = client {
            tls = tls
                .identity(Identity::from_pem(&client.certificate_pem, client.key_pem.as_bytes()));
        }
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await
    }

    /// The alert that a caller with this certificate gets, by a TLS client of our own making.
    async fn alert_for(
        &self,
        certificate: Vec<u8>,
        key_pem: &str,
    ) -> Option<tokio_rustls::rustls::AlertDescription> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        use tokio_rustls::rustls::pki_types::pem::PemObject as _;
        use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
        use tokio_rustls::rustls::{ClientConfig, Error, RootCertStore};
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.authority.certificate_pem().as_bytes());
        roots.add(ca.unwrap()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap();
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![CertificateDer::from(certificate)], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let tcp = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let talk = async {
            let mut tls =
                connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await?;
            tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
            // The server's settings, or the alert.
            tls.read_u8().await.map(drop)
        };
        let error = talk.await.err()?;
        match error.get_ref().and_then(|cause| cause.downcast_ref::<Error>()) {
            Some(Error::AlertReceived(alert)) => Some(*alert),
            other => panic!("no alert but {other:?}: {error}"),
        }
    }

    fn client(&self, role: Role) -> KeyedCertificate {
        self.authority.issue_client(role, &name("desk-7"), Validity::of_leaf(now())).unwrap()
    }
}

/// Calls a method with an empty message; every message of the API may be empty on the wire.
async fn call(channel: &Channel, method: &str) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = http::uri::PathAndQuery::try_from(method).unwrap();
    grpc.unary(tonic::Request::new(()), path, codec).await.map(drop)
}

pub fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.map_or_else(|| format!("no reason: {status:?}"), |info| info.reason)
}

#[tokio::test]
async fn every_method_and_every_role_meet_at_the_door() {
    let running = start(Limits::default()).await;
    let mut walked = 0;
    for role in Role::ALL {
        let certificate = running.client(role);
        let certificate = if role == Role::Terminal { &running.terminal } else { &certificate };
        let channel = running.connect(Some(certificate)).await.unwrap();
        for (method, _) in ACCESS.iter().filter(|(method, _)| method.starts_with("/tulga.")) {
            let status = call(&channel, method).await.unwrap_err();
            // No service stands behind this door: whoever passes finds nothing.
            let expected = match may_call(method, Some(role)) {
                Some(true) => (Code::Unimplemented, "REQ_UNKNOWN_METHOD"),
                _ => (Code::PermissionDenied, "ROLE_NOT_ALLOWED"),
            };
            assert_eq!(
                (status.code(), reason(&status).as_str()),
                expected,
                "{role:?} calls {method}"
            );
            walked += 1;
        }
    }
    assert_eq!(walked, 10 * 95);
}

#[tokio::test]
async fn a_certificate_alone_makes_nobody_a_person_of_the_bank() {
    let running = start(Limits::default()).await;
    let leaf = Validity::of_leaf(now());
    for role in Role::ALL.into_iter().filter(|role| *role != Role::Terminal) {
        let stranger = running.authority.issue_client(role, &name(STRANGER), leaf).unwrap();
        let channel = running.connect(Some(&stranger)).await.unwrap();
        let may = |(method, _): &&(&str, _)| {
            method.starts_with("/tulga.") && may_call(method, Some(role)) == Some(true)
        };
        let (method, _) = ACCESS.iter().find(may).unwrap();
        let status = call(&channel, method).await.unwrap_err();
        let expected = match StaffRole::from_word(role.as_str()) {
            Some(_) => (Code::Unauthenticated, "DEV_UNKNOWN"),
            // A system's key opens what its role may.
            None => (Code::Unimplemented, "REQ_UNKNOWN_METHOD"),
        };
        assert_eq!((status.code(), reason(&status).as_str()), expected, "{role:?}");
    }
}

#[tokio::test]
async fn without_a_certificate_only_health_answers() {
    let running = start(Limits::default()).await;
    let channel = running.connect(None).await.unwrap();
    for (method, _) in ACCESS.iter().filter(|(method, _)| method.starts_with("/tulga.")) {
        let status = call(&channel, method).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{method}");
        assert_eq!(reason(&status), "DEV_UNKNOWN", "{method}");
    }
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let answer = health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
    let serving = tonic_health::pb::health_check_response::ServingStatus::Serving;
    assert_eq!(answer.into_inner().status(), serving);
}

#[tokio::test]
async fn a_terminal_is_its_name_and_its_registered_key() {
    let running = start(Limits::default()).await;
    let leaf = Validity::of_leaf(now());
    let method = "/tulga.v1.VerificationService/GetTime";
    // The right name with another key, and the right key's holder under another name.
    for other in ["ATM-1", "ATM-2"] {
        let stranger = running.authority.issue_client(Role::Terminal, &name(other), leaf).unwrap();
        let channel = running.connect(Some(&stranger)).await.unwrap();
        let status = call(&channel, method).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::Unauthenticated, "DEV_UNKNOWN")
        );
    }
    let channel = running.connect(Some(&running.terminal)).await.unwrap();
    assert_eq!(call(&channel, method).await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_certificate_that_is_expired_early_foreign_or_self_signed_gets_its_alert() {
    use tokio_rustls::rustls::AlertDescription as Alert;
    let running = start(Limits::default()).await;
    let day = 86_400_000;
    let expired = Validity { from: now().plus_millis(-2 * day), until: now().plus_millis(-day) };
    let early = Validity { from: now().plus_millis(day), until: now().plus_millis(2 * day) };
    let leaf = Validity::of_leaf(now());
    let ours = &running.authority;
    let admin = |authority: &Authority, validity| {
        let issued = authority.issue_client(Role::Admin, &name("desk-7"), validity).unwrap();
        (issued.certificate_der, issued.key_pem.to_string())
    };
    let server = ours.issue_server(&[], leaf).unwrap();
    let own = rcgen::generate_simple_self_signed(["desk-7".to_owned()]).unwrap();
    let cases = [
        ("expired", admin(ours, expired), Alert::CertificateExpired),
        ("early", admin(ours, early), Alert::CertificateExpired),
        ("of another authority", admin(&authority("bank-x"), leaf), Alert::UnknownCA),
        // Another authority that bears our authority's name: its signature is not ours.
        ("of a namesake", admin(&authority("bank-a"), leaf), Alert::DecryptError),
        (
            "self-signed",
            (own.cert.der().to_vec(), own.signing_key.serialize_pem()),
            Alert::UnknownCA,
        ),
        // Of the right authority, but made for a server.
        (
            "for servers",
            (server.certificate_der, server.key_pem.to_string()),
            Alert::UnsupportedCertificate,
        ),
    ];
    for (what, (certificate, key), alert) in cases {
        assert_eq!(running.alert_for(certificate, &key).await, Some(alert), "{what}");
    }
    let (certificate, key) = admin(ours, leaf);
    assert_eq!(running.alert_for(certificate, &key).await, None);
}

#[tokio::test]
async fn a_caller_of_another_tenant_is_unknown() {
    let running = start(Limits::default()).await;
    let (ca, key) = (running.authority.certificate_pem(), running.authority.key_pem());
    // The same authority serves two banks: the name in the certificate keeps them apart.
    let other = Authority::from_pem(TenantId::try_from("bank-b").unwrap(), ca, &key).unwrap();
    let admin = other.issue_client(Role::Admin, &name("desk-7"), Validity::of_leaf(now())).unwrap();
    let channel = running.connect(Some(&admin)).await.unwrap();
    let status = call(&channel, "/tulga.v1.TerminalService/ListTerminals").await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "DEV_UNKNOWN"));
}

#[tokio::test]
async fn reflection_names_the_services_to_those_with_a_certificate() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    let running = start(Limits::default()).await;
    let ask = || {
        tokio_stream::iter([ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        }])
    };
    let nobody = running.connect(None).await.unwrap();
    let refused = ServerReflectionClient::new(nobody).server_reflection_info(ask()).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    let auditor = running.connect(Some(&running.client(Role::Auditor))).await.unwrap();
    let mut answers = ServerReflectionClient::new(auditor)
        .server_reflection_info(ask())
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    let named = String::from_utf8_lossy(&answer.encode_to_vec()).into_owned();
    for service in ["AuditService", "EnrollmentService", "ReceiptService", "TerminalService"] {
        assert!(named.contains(&format!("tulga.v1.{service}")), "{service}");
    }
}

#[tokio::test]
async fn a_stop_with_nothing_under_way_drains_and_an_open_stream_is_cut_off() {
    let running = start(Limits::default()).await;
    running.stop.send(()).unwrap();
    assert_eq!(running.ended.await.unwrap().unwrap(), Ended::Drained);

    let limits = Limits { drain_max: Duration::from_millis(200), ..Limits::default() };
    let running = start(limits).await;
    let channel = running.connect(None).await.unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let watch = health.watch(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
    let mut watched = watch.into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status, 1);
    running.stop.send(()).unwrap();
    // Health says so before the connection goes.
    assert_eq!(watched.message().await.unwrap().unwrap().status, 2);
    let Running { ended, registered, .. } = running;
    assert_eq!(ended.await.unwrap().unwrap(), Ended::CutOff);
    // Nothing of a cut connection stays: it would keep the gateway from closing its store.
    let last = tokio::time::timeout(Duration::from_secs(5), watched.message()).await;
    assert!(last.expect("the connection was cut").is_err());
    for _ in 0..100 {
        if registered.upgrade().is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a connection still holds what stands behind the door");
}

#[tokio::test]
async fn headers_over_the_bound_are_refused() {
    let running = start(Limits::default()).await;
    let channel = running.connect(Some(&running.client(Role::Admin))).await.unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let mut request = tonic::Request::new(());
    request.metadata_mut().insert("x-padding", "x".repeat(17 << 10).parse().unwrap());
    let path = http::uri::PathAndQuery::from_static("/tulga.v1.TerminalService/ListTerminals");
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let refused = grpc.unary(request, path, codec).await.map(drop).unwrap_err();
    assert_ne!(refused.code(), Code::Unimplemented, "{refused:?}");
}
