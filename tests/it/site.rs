//! A gateway in this process on real models behind real TLS, and requests as vendors make them.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_types::StatusExt as _;
use tulga::app::{App, DataDir, Models, load_models, signed_by_root};
use tulga::clock::{Clock, SystemClock};
use tulga::config::Config;
use tulga::domain::four_eyes::StaffRole;
use tulga::domain::id::{PrincipalName, UnitName};
use tulga::domain::time::UnixMillis;
use tulga::gateway::request::Logged;
use tulga::gateway::{Gateway, GatewayError, NewPrincipal, RootAct};
use tulga::grpc::server::Ended;
use tulga::pki::{Directory, KeyedCertificate, Role, identify};
use tulga::proto;
use tulga::proto::enrollment_service_client::EnrollmentServiceClient;
use tulga::proto::terminal_service_client::TerminalServiceClient;

/// A gateway that serves, and its data folder.
pub struct Site {
    dir: TempDir,
    config: Config,
    /// Without a connection; it does not keep the gateway from draining.
    pub gateway: Weak<Gateway>,
    address: String,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<anyhow::Result<Ended>>,
}

/// The project's models: loaded once, for all the gateways of a process.
fn models(config: &Config) -> Models {
    static MODELS: OnceLock<Models> = OnceLock::new();
    MODELS.get_or_init(|| load_models(config).unwrap()).clone()
}

impl Site {
    pub async fn start() -> Self {
        Self::with("[rate]\nper_terminal_per_minute = 10000\n").await
    }

    /// With more of the configuration.
    pub async fn with(more: &str) -> Self {
        Self::at(more, Arc::new(SystemClock)).await
    }

    /// With more of the configuration, and by another clock.
    pub async fn at(more: &str, clock: Arc<dyn Clock>) -> Self {
        Self::again(tempfile::tempdir().unwrap(), more, clock).await
    }

    /// In a folder where another gateway may have been.
    pub async fn again(dir: TempDir, more: &str, clock: Arc<dyn Clock>) -> Self {
        Self::knowing(dir, 0, more, clock).await
    }

    /// As [`Self::again`], where a capture is known again for so many hours: elsewhere the tests show the
    /// same photographs again and again.
    pub async fn knowing(dir: TempDir, hours: u32, more: &str, clock: Arc<dyn Clock>) -> Self {
        // Elsewhere one person erases and adds captures: what takes two has tests of its own.
        Self::by_two(dir, hours, "acts = []", more, clock).await
    }

    /// As [`Self::knowing`], with what the configuration says of acts that take two people.
    pub async fn by_two(
        dir: TempDir,
        hours: u32,
        four_eyes: &str,
        more: &str,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let config = Config::from_toml(&format!(
            "[server]\ndeadline_ms = 60000\n[sensors]\ncapture_seen_hours = {hours}\n[four_eyes]\n{four_eyes}\n[paths]\ndata_dir = '{}'\nmodels_dir = '{}'\n{more}",
            dir.path().join("data").display(),
            root.join("models").display(),
        ))
        .unwrap();
        let app = App::open_with(&config, clock, models(&config)).await.unwrap();
        let gateway = Arc::downgrade(&app.gateway);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(async move {
            let stop = async {
                stopped.await.ok();
            };
            app.serve(listener, stop).await
        });
        Self { dir, config, gateway, address, stop, ended }
    }

    /// The gateway's data folder.
    pub fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    pub async fn connect(&self, certificate: &str, key: &str) -> Channel {
        let pki = DataDir::at(self.dir.path().join("data")).pki();
        let ca = pki.read_certificate(&pki.authority_path()).unwrap();
        let tls = ClientTlsConfig::new()
            .domain_name("localhost")
            .ca_certificate(Certificate::from_pem(ca))
            .identity(Identity::from_pem(certificate, key));
        let endpoint = Endpoint::from_shared(self.address.clone()).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await.unwrap()
    }

    pub async fn staff(&self, role: Role) -> Channel {
        self.staff_named(role, "dev").await
    }

    /// The development PKI and the gateway's address.
    pub fn pki(&self) -> Directory {
        DataDir::at(self.dir.path().join("data")).pki()
    }

    pub async fn staff_named(&self, role: Role, name: &str) -> Channel {
        let pki = self.pki();
        let name = PrincipalName::try_from(name).unwrap();
        let certificate = pki.read_certificate(&pki.client_path(role, &name)).unwrap();
        let key = pki.read_key(&pki.client_key_path(role, &name)).unwrap();
        self.connect(&certificate, &key).await
    }

    /// Somebody else of the bank's staff, registered, in a unit of their own.
    pub async fn named(&self, role: Role, name: &str) -> Channel {
        let stranger = self.certified(role, name);
        self.pinned(&stranger, name).await;
        self.connect(&stranger.certificate_pem, &stranger.key_pem).await
    }

    /// A certificate of the development authority, of somebody who is not registered.
    pub fn certified(&self, role: Role, name: &str) -> KeyedCertificate {
        let pki = self.pki();
        let name = PrincipalName::try_from(name).unwrap();
        let authority = pki.load_authority(self.config.identity.tenant.clone()).unwrap();
        pki.create_client(&authority, role, &name, SystemClock.now()).unwrap()
    }

    /// Registers somebody on the root key's word.
    pub async fn pinned(&self, certificate: &KeyedCertificate, unit: &str) {
        let identity = identify(&certificate.certificate_der).unwrap();
        let person = NewPrincipal {
            role: StaffRole::from_word(identity.principal.role.as_str()).unwrap(),
            name: identity.principal.name,
            unit: UnitName::try_from(unit).unwrap(),
            spki: identity.spki,
        };
        self.root_act(RootAct::Pin, vec![person]).await.unwrap();
    }

    /// What the root key's holder does to people.
    pub async fn root_act(
        &self,
        act: RootAct,
        people: Vec<NewPrincipal>,
    ) -> Result<Logged, GatewayError> {
        let signature = signed_by_root(&self.config, None, act, &people).unwrap();
        let gateway = self.gateway.upgrade().unwrap();
        match act {
            RootAct::Pin => gateway.pin_principals(people, &signature).await,
            RootAct::Unpin => gateway.unpin_principals(people, &signature).await,
        }
    }

    /// Registers a terminal as a vendor does: its own key, a signing request, a certificate back.
    pub async fn terminal(&self, terminal_id: &str) -> Channel {
        let key = rcgen::KeyPair::generate().unwrap();
        let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
        let mut admin = TerminalServiceClient::new(self.staff(Role::Admin).await);
        let issued = admin
            .register_terminal(proto::RegisterTerminalRequest {
                terminal_id: terminal_id.into(),
                csr_pem: request.pem().unwrap(),
            })
            .await
            .unwrap()
            .into_inner();
        self.connect(&issued.certificate_pem, &key.serialize_pem()).await
    }

    pub async fn enroll(&self, iin: &str, card: &str, photographs: &[&str]) -> String {
        let mut desk = EnrollmentServiceClient::new(self.staff(Role::Enroller).await);
        let customer_id = desk
            .create_customer(proto::CreateCustomerRequest {
                iin: iin.into(),
                consent: Some(consent()),
            })
            .await
            .unwrap()
            .into_inner()
            .customer_id;
        desk.bind_token(proto::BindTokenRequest {
            customer_id: customer_id.clone(),
            kind: proto::TokenKind::Card.into(),
            token: card.into(),
            expires_at: None,
        })
        .await
        .unwrap();
        for photograph in photographs {
            let added = desk
                .add_capture(proto::AddCaptureRequest {
                    customer_id: customer_id.clone(),
                    image: demo(photograph),
                    media_type: Some("image/jpeg".into()),
                    language: "en".into(),
                    ..proto::AddCaptureRequest::default()
                })
                .await
                .unwrap()
                .into_inner();
            assert!(added.accepted, "{photograph}: {:?}", added.reasons);
            assert!(!added.quality.is_empty() && added.capture_id.len() == 32);
        }
        let activated = desk
            .activate(proto::ActivateRequest { customer_id: customer_id.clone() })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(activated.status(), proto::CustomerStatus::Active);
        customer_id
    }

    /// Runs the built program against the gateway, with the certificates of its folder.
    pub async fn tulga(&self, arguments: &[&str]) -> Output {
        let config = self.dir.path().join("client.toml");
        let text = format!("[paths]\ndata_dir = '{}'\n", self.data().display());
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tulga"));
        command.arg("--config").arg(config).args(arguments).args(["--gateway", self.address()]);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// Where the gateway listens.
    pub fn address(&self) -> &str {
        self.address.trim_start_matches("https://")
    }

    pub async fn finish(self) {
        drop(self.stopped().await);
    }

    /// Stops the gateway; what it leaves in its folder.
    pub async fn stopped(self) -> TempDir {
        self.stop.send(()).unwrap();
        assert_eq!(self.ended.await.unwrap().unwrap(), Ended::Drained);
        assert!(self.gateway.upgrade().is_none(), "something still holds the gateway");
        self.dir
    }
}

pub fn demo(name: &str) -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo").join(name);
    std::fs::read(path).unwrap().into()
}

pub fn consent() -> proto::Consent {
    proto::Consent {
        operator: "Bank A".into(),
        subject: "the customer".into(),
        purpose: "cash at terminals".into(),
        term: Some(proto::consent::Term::Days(36_500)),
        given_at: "2026-01-01T00:00:00Z".into(),
        evidence_ref: "archive/7".into(),
    }
}

pub fn begin(transaction: &str, card: &str) -> proto::BeginCaptureRequest {
    let reference = proto::customer_reference::Reference::CardToken(card.into());
    proto::BeginCaptureRequest {
        customer: Some(proto::CustomerReference { reference: Some(reference) }),
        transaction: Some(proto::Transaction {
            host_transaction_id: transaction.into(),
            business_date: "2026-11-21".into(),
            operation: proto::Operation::Withdrawal.into(),
            amount_minor: 5_000_000,
            currency: "KZT".into(),
            account_currency: "KZT".into(),
            account: "account-token-1".into(),
            counterparty: None,
        }),
        modality: proto::Modality::Face.into(),
        finger_position: 0,
        bank: None,
        consent: None,
        further: Vec::new(),
        holder_verification: proto::HolderVerification::CardAndPin.into(),
        language: "en".into(),
    }
}

pub fn verify(
    transaction: &str,
    attempt: u32,
    challenge: &[u8],
    image: Bytes,
) -> proto::VerifyRequest {
    proto::VerifyRequest {
        challenge: challenge.to_vec(),
        host_transaction_id: transaction.into(),
        business_date: "2026-11-21".into(),
        attempt,
        capture: Some(proto::Capture { image, ..proto::Capture::default() }),
        language: "en".into(),
        footage: None,
        further: Vec::new(),
        envelopes: Vec::new(),
    }
}

/// A clock that stands still until it is set.
#[derive(Debug)]
pub struct SetClock(std::sync::atomic::AtomicI64);

impl SetClock {
    pub fn at(rfc3339: &str) -> Arc<Self> {
        let clock = Arc::new(Self(std::sync::atomic::AtomicI64::new(0)));
        clock.set(rfc3339);
        clock
    }

    pub fn set(&self, rfc3339: &str) {
        let now = UnixMillis::parse_rfc3339(rfc3339).unwrap().get();
        self.0.store(now, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn now(&self) -> UnixMillis {
        UnixMillis::new(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}

/// A copy of the pack `dev` with another manifest and more rules.
pub fn dev_pack_with(retention: &str, rules: &str) -> TempDir {
    let dev = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/dev");
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("tests")).unwrap();
    for from in [dev.clone(), dev.join("tests")] {
        for file in std::fs::read_dir(&from).unwrap().map(Result::unwrap) {
            if file.file_type().unwrap().is_file() {
                let name = file.path().strip_prefix(&dev).unwrap().to_owned();
                std::fs::copy(file.path(), dir.path().join(name)).unwrap();
            }
        }
    }
    let manifest = dir.path().join("pack.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(
        &manifest,
        text.replacen("[bars]\n", &format!("[retention]\n{retention}\n[bars]\n"), 1),
    )
    .unwrap();
    std::fs::write(dir.path().join("90-more.cedar"), rules).unwrap();
    dir
}

/// The payload of a receipt, as JSON.
pub fn payload(jws: &[u8]) -> serde_json::Value {
    let part = jws.split(|byte| *byte == b'.').nth(1).unwrap();
    let engine = &base64::engine::general_purpose::URL_SAFE_NO_PAD;
    serde_json::from_slice(&base64::Engine::decode(engine, part).unwrap()).unwrap()
}

/// A clip that begins so many seconds from now and is so many seconds long.
pub fn clip(begins_s: i64, long_s: i64) -> proto::Footage {
    let from = SystemClock.now().plus_millis(begins_s * 1000);
    proto::Footage {
        camera_id: "CAM-1".into(),
        from: from.rfc3339(),
        to: from.plus_millis(long_s * 1000).rfc3339(),
        clip_sha256: vec![7; 32],
    }
}

/// What became of the cash, all of it taken.
pub fn taken(transaction: &str, minor: i64) -> proto::ReportOutcomeRequest {
    proto::ReportOutcomeRequest {
        business_date: "2026-11-21".into(),
        host_transaction_id: transaction.into(),
        attempt: 1,
        outcome: proto::CashOutcome::Taken.into(),
        dispensed_minor: minor,
        currency: "KZT".into(),
        footage: None,
    }
}

pub fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.map_or_else(|| format!("no reason: {status:?}"), |info| info.reason)
}

pub fn field(status: &Status) -> String {
    let bad = status.get_details_bad_request();
    bad.and_then(|bad| bad.field_violations.into_iter().next())
        .map(|violation| violation.field)
        .unwrap_or_default()
}
