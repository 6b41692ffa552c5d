//! Composition root: the only room that names every concrete type; start and drain order.
//!
//! Start: configuration, models, data folder (made on the first start), store, gateway, port.
//! Drain: no new call, calls under way, the sequencer's queue, the store. What was promised is
//! durable before the process ends.

mod disk;
mod hardening;
mod keks;
mod keys;
mod outside;
mod people;

use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::net::TcpListener;

use crate::clock::{Clock, SystemClock};
use crate::config::{Config, ReferenceConfig, ReferenceFrom, ReferenceService};
use crate::crypto::{Digest, PublicKey, SystemEntropy, sha256};
use crate::domain::id::PrincipalName;
use crate::domain::time::UnixMillis;
use crate::face::FacePipeline;
use crate::fingerprint::FingerprintPipeline;
use crate::gateway::{
    FileErased, FileGuard, FileReferences, Gateway, HALF_YEARS_AHEAD, HeadGuard as _,
    KeyStore as _, Keyring, Parts, ReferenceSource, Settings, SignedHead, Tasks, VisionLimits,
};
use crate::grpc::limits::Limits;
use crate::grpc::peer::Door;
use crate::grpc::reference::ReferenceEndpoint;
use crate::grpc::server::{Ended, Site, TlsMaterial};
use crate::ledger::{LogOfLogs, Origin, half_years_after};
use crate::pki::{Directory, Role};
use crate::policy::PolicyPack;
use crate::receipt::{
    KeyAlgorithm, KeyRange, KeyRecord, KeyRegister, KeyStatus, KeyUse, TrustFingerprint,
};
use crate::store::sql::SqliteStore;
use crate::store::{FileShelves, HeadRow, LedgerReads as _, Store as _};
use crate::vault::KekName;
use crate::web::{AUDIT, AUDIT_PAGE, HTML};
use disk::{make_private_dir, write_new};
use keks::KekFolder;
use keys::{REGISTER, ROOT, SIGNATURE};

pub use hardening::harden;
pub use keys::{KeyFolder, root_key, trust_fingerprint};
pub use people::{act_of_root, signed_by_root};

/// The files of a data folder.
#[derive(Clone, Debug)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// The folder at `path`, which need not exist yet.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Certificates and their keys.
    #[must_use]
    pub fn pki(&self) -> Directory {
        Directory::at(self.0.join("pki"))
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn database(&self) -> PathBuf {
        self.0.join("tulga.sqlite")
    }

    /// Sealed captures that are kept as evidence.
    fn evidence(&self) -> PathBuf {
        self.0.join("evidence")
    }

    /// Kept apart from the database: it must never be restored from a backup.
    fn guard(&self) -> PathBuf {
        self.0.join("last-signed-head")
    }

    /// Kept apart from the database for the same reason: whoever was erased stays so.
    fn erased(&self) -> PathBuf {
        self.0.join("erased")
    }

    /// Whether everything was made.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.0.join(SIGNATURE).exists()
    }
}

/// The names of the development certificates, by role.
pub const DEVELOPMENT_CLIENTS: [(Role, &str); 10] = [
    (Role::Admin, "dev"),
    // Another person, who approves what the first one proposes.
    (Role::Admin, SECOND_PERSON),
    (Role::Enroller, "dev"),
    (Role::Auditor, "dev"),
    (Role::Host, "dev"),
    (Role::AppBackend, "dev"),
    (Role::Oversight, "dev"),
    (Role::PolicyAuthor, "dev"),
    // Another person: nobody approves what they wrote.
    (Role::PolicyApprover, SECOND_PERSON),
    (Role::KeyCustodian, "dev"),
];

/// The name of the development certificates of a second person.
pub const SECOND_PERSON: &str = "dev-second";

/// Makes a data folder: a development PKI, the key-encryption key, root, receipt and ledger keys, and
/// the key register that the root key signs. Nothing is overwritten.
///
/// # Errors
///
/// When a file is there already or cannot be written.
pub fn init(config: &Config) -> Result<TrustFingerprint> {
    init_at(config, SystemClock.now())
}

/// The same with keys that sign from `now` on. Certificates hold from the system's present on, by which
/// they are verified.
fn init_at(config: &Config, now: UnixMillis) -> Result<TrustFingerprint> {
    let data = DataDir::at(&config.paths.data_dir);
    let issued = SystemClock.now();
    make_private_dir(data.path())?;
    make_private_dir(&data.path().join("keys"))?;
    let pki = data.pki();
    let tenant = config.identity.tenant.clone();
    let authority = pki.create(tenant, &["localhost", "127.0.0.1", "::1"], issued)?;
    let mut people = Vec::new();
    for (role, name) in DEVELOPMENT_CLIENTS {
        let name = PrincipalName::try_from(name)?;
        let client = pki.create_client(&authority, role, &name, issued)?;
        people.extend(people::development(role, name, &client)?);
    }
    KekFolder::create_first(config)?;
    let keys = KeyFolder::open(config)?;
    let root = keys.create_root()?;
    people::write_first(&data, &config.identity.tenant, people, &*root)?;
    let receipt = keys.create(FIRST_RECEIPT, KeyUse::Receipt)?;
    let ledger = keys.create(FIRST_LEDGER, KeyUse::Ledger)?;
    let origin = config.identity.origin(now);
    let origin = Origin::try_from(origin.as_str()).context("the ledger's origin")?;
    // Named ahead, so that a half-year begins without the root key.
    let mut origins = vec![origin.clone()];
    origins.extend(half_years_after(&origin, HALF_YEARS_AHEAD));
    let log_of_logs = LogOfLogs::origin_of(&config.identity.issuer).context("the issuer's name")?;
    let ledgers = [origins.as_slice(), &[log_of_logs]].concat();
    let register = KeyRegister::new(vec![
        key_record(ROOT, KeyUse::Root, root.public_key(), now, &[]),
        key_record(FIRST_RECEIPT, KeyUse::Receipt, receipt, now, &origins),
        key_record(FIRST_LEDGER, KeyUse::Ledger, ledger, now, &ledgers),
    ])?;
    let json = register.to_json()?;
    let signature = KeyRegister::sign(json.as_bytes(), &*root)?;
    write_new(&data.path().join(REGISTER), json.as_bytes(), 0o644)?;
    write_new(&data.path().join(SIGNATURE), signature.as_bytes(), 0o644)?;
    Ok(TrustFingerprint::of(&root.public_key()))
}

const FIRST_RECEIPT: &str = "receipt-1";
const FIRST_LEDGER: &str = "ledger-1";

fn key_record(
    kid: &str,
    usage: KeyUse,
    public_key: PublicKey,
    now: UnixMillis,
    origins: &[Origin],
) -> KeyRecord {
    let range = |origin: &Origin| {
        let origin = origin.as_str().to_owned();
        KeyRange { origin, first_index: 0, last_index: None }
    };
    KeyRecord {
        kid: kid.to_owned(),
        algorithm: KeyAlgorithm::of(public_key.kind()),
        usage,
        public_key,
        not_before: now,
        not_after: None,
        origins: origins.iter().map(range).collect(),
        status: KeyStatus::Active,
    }
}

/// A gateway with its store, ready to be served.
pub struct App {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    tasks: Tasks,
    store: SqliteStore,
    tls: TlsMaterial,
    door: Arc<Door>,
    limits: Limits,
}

impl App {
    /// Builds everything but the port. The data folder is made if there is none.
    ///
    /// # Errors
    ///
    /// Whatever keeps the gateway from serving honestly: a model with another digest, a key that
    /// others may read, a database behind its last signed head.
    pub async fn open(config: &Config) -> Result<Self> {
        Self::build(config, Arc::new(SystemClock), &[], None).await
    }

    /// As [`Self::open`], though keys of these names are lost: nothing is signed with them, and others
    /// can be let take over.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub async fn open_without(config: &Config, lost: &[String]) -> Result<Self> {
        Self::build(config, Arc::new(SystemClock), lost, None).await
    }

    /// As [`Self::open`], by another clock, and with models that are loaded already.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub async fn open_with(config: &Config, clock: Arc<dyn Clock>, models: Models) -> Result<Self> {
        Self::build(config, clock, &[], Some(models)).await
    }

    async fn build(
        config: &Config,
        clock: Arc<dyn Clock>,
        lost: &[String],
        models: Option<Models>,
    ) -> Result<Self> {
        let data = DataDir::at(&config.paths.data_dir);
        if !data.is_complete() {
            init_at(config, clock.now())
                .with_context(|| format!("{} cannot be made", data.path().display()))?;
        }
        let models = models.map_or_else(|| load_models(config), Ok);
        let Models { faces, fingers } = models?;
        let pack = load_pack(config)?;
        let files = KeyFolder::register(&data)?;
        let keys = Arc::new(KeyFolder::open(config)?);
        let keyring = Keyring::open(files, keys, lost).context("the keys cannot be used")?;
        let pki = data.pki();
        let authority = Arc::new(pki.load_authority(config.identity.tenant.clone())?);
        let store =
            SqliteStore::open(&data.database()).await.context("the database cannot be opened")?;
        let parts = Parts {
            store: Arc::new(store.clone()),
            shelves: Arc::new(FileShelves::at(data.evidence())),
            vault: Arc::new(KekFolder::vault(config)?),
            faces,
            fingers,
            pack,
            clock,
            entropy: Arc::new(SystemEntropy),
            references: references(config)?,
            witnesses: outside::witnesses(config)?,
            timestamping: outside::timestamping(config)?,
            guard: Arc::new(FileGuard::open(&data.guard())?),
            erased: Arc::new(FileErased::open(&data.erased())?),
            authority,
            keyring,
            settings: settings(config)?,
        };
        let (gateway, tasks) = Gateway::open(parts).await.context("the gateway cannot start")?;
        people::pin_first(&data, &gateway).await.context("the first people")?;
        let tls = TlsMaterial {
            certificate_pem: pki.read_certificate(&pki.server_path())?,
            key_pem: pki.read_key(&pki.server_key_path())?,
            client_ca_pem: pki.read_certificate(&pki.authority_path())?,
        };
        let door = Door::new(config.identity.tenant.clone(), Arc::clone(&gateway) as _);
        Ok(Self { gateway, tasks, store, tls, door, limits: limits(config) })
    }

    /// Serves until `stop` is done, then drains.
    ///
    /// # Errors
    ///
    /// When the transport fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<Ended> {
        let Self { gateway, tasks, store, tls, door, limits } = self;
        let site = Site::new()?.with_gateway(&gateway, &limits).with_page(AUDIT, HTML, AUDIT_PAGE);
        let ended = site.serve(listener, &tls, &limits, door, stop).await?;
        // What was counted since the last minute, or nobody would ever learn of it.
        if let Err(error) = gateway.log_incidents().await {
            tracing::error!(code = error.code(), error = %error, "incidents were not logged");
        }
        drop(gateway);
        tasks.finish().await;
        store.close().await;
        Ok(ended)
    }
}

impl App {
    /// Ends without ever having served.
    async fn close(self) {
        let Self { gateway, tasks, store, tls: _, door, limits: _ } = self;
        // The sequencer ends with the last who may ask it, and the door is one of them.
        drop((gateway, door));
        tasks.finish().await;
        store.close().await;
    }
}

/// Records the database's head as the last signed one, where no record is; how many entries it has.
///
/// # Errors
///
/// When there is a record: it counts, and is never overwritten by hand.
pub async fn adopt_head(config: &Config) -> Result<u64> {
    let data = DataDir::at(&config.paths.data_dir);
    let guard = FileGuard::open(&data.guard())?;
    if guard.last()?.is_some() {
        bail!("there is a record of the last signed head: it counts, and is not replaced");
    }
    let register = KeyRegister::parse(&KeyFolder::register(&data)?.register)?;
    let origin = origin_of(&register)?;
    let store =
        SqliteStore::open(&data.database()).await.context("the database cannot be opened")?;
    let head = signed_head(&store, origin.as_str()).await?;
    store.close().await;
    guard.record(&head)?;
    Ok(head.entries)
}

/// The head of the open ledger, which is `first` where none was ever opened.
async fn signed_head(store: &SqliteStore, first: &str) -> Result<SignedHead> {
    let open = store.open_ledgers().await?;
    let open = match open.as_slice() {
        [] => first,
        [open] => open,
        _ => bail!("the database has more than one open ledger"),
    };
    let closed = store.closed_ledgers().await?;
    let before: u64 = closed.iter().map(|ledger| ledger.size).sum();
    let HeadRow { size, root, .. } = store.head(open).await?;
    let origin = Some(Origin::try_from(open)?.digest());
    Ok(SignedHead { origin, entries: before + size, size, root })
}

/// Binds the configured address.
///
/// # Errors
///
/// When the address is taken or not this machine's.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{address} cannot be listened on"))
}

/// The models of the configured folder.
///
/// # Errors
///
/// When a file is missing or has another digest than the manifest's.
pub fn load_models(config: &Config) -> Result<Models> {
    let dir = &config.paths.models_dir;
    let unusable = || {
        format!(
            "the models in {} cannot be used; `paths.models_dir` says where they are",
            dir.display()
        )
    };
    Ok(Models {
        faces: Arc::new(FacePipeline::load(dir).with_context(unusable)?),
        fingers: FingerprintPipeline::load(dir).with_context(unusable)?.map(Arc::new),
    })
}

/// The models of a folder.
#[derive(Clone, Debug)]
pub struct Models {
    /// For faces.
    pub faces: Arc<FacePipeline>,
    /// For fingers, where the manifest has any.
    pub fingers: Option<Arc<FingerprintPipeline>>,
}

/// The configured rules, else the ones in the binary.
///
/// # Errors
///
/// When the pack is not valid or not in force.
pub fn load_pack(config: &Config) -> Result<Arc<PolicyPack>> {
    let pack = match &config.paths.policy_dir {
        Some(dir) => PolicyPack::load(dir)
            .with_context(|| format!("the policy pack in {}", dir.display()))?,
        None => PolicyPack::embedded_dev().context("the policy pack in the binary")?,
    };
    if !pack.in_force(SystemClock.now()) {
        bail!("the policy pack {} is not in force now", pack.id().as_str());
    }
    Ok(Arc::new(pack))
}

/// The ledger: the first one that the register names a receipt key for.
fn origin_of(register: &KeyRegister) -> Result<Origin> {
    let mut receipt_keys = register.keys().iter().filter(|key| key.usage == KeyUse::Receipt);
    let range = receipt_keys.find_map(|key| key.origins.first());
    Ok(Origin::try_from(range.context("no receipt key has a ledger")?.origin.as_str())?)
}

fn settings(config: &Config) -> Result<Settings> {
    Ok(Settings {
        tenant: config.identity.tenant.clone(),
        ledgers: config.identity.ledgers(),
        issuer: config.identity.issuer.clone(),
        audience: config.identity.audience.clone(),
        zone: config.identity.zone.clone(),
        build: own_digest()?,
        two_people: config.two_people,
        four_eyes: config.four_eyes.clone(),
        challenge_ttl_ms: config.challenge_ttl_ms,
        receipt_valid_ms: config.receipt_valid_ms,
        deadline: config.server.deadline,
        checkpoint_interval: config.checkpoint_interval,
        guests_per_day: config.guests_per_terminal_per_day,
        capture_seen_ms: config.capture_seen_ms,
        retention_interval: config.retention_interval,
        calls_per_terminal_per_minute: config.terminal_rate_per_minute,
        vision: VisionLimits {
            workers: config.vision_workers.get(),
            queue_wait: config.vision_queue_wait,
            waiting_max: WAITING_PER_WORKER * config.vision_workers.get(),
            decode: config.decode_limits,
        },
    })
}

/// The configured source of reference images.
fn references(config: &Config) -> Result<Option<Arc<dyn ReferenceSource>>> {
    let Some(ReferenceConfig { from, deadline }) = &config.reference else { return Ok(None) };
    Ok(Some(match from {
        ReferenceFrom::Files { dir } => Arc::new(file_references(config, dir, *deadline)?),
        ReferenceFrom::Service(service) => {
            Arc::new(reference_endpoint(config, service, *deadline)?.source()?)
        }
    }))
}

fn file_references(config: &Config, dir: &Path, deadline: Duration) -> Result<FileReferences> {
    let tenant = config.identity.tenant.clone();
    FileReferences::open(dir, tenant, deadline, config.decode_limits.encoded_bytes_max)
        .with_context(|| format!("the reference images in {} cannot be read", dir.display()))
}

fn reference_endpoint(
    config: &Config,
    service: &ReferenceService,
    deadline: Duration,
) -> Result<ReferenceEndpoint> {
    let ReferenceService { url, certificate, key, authority } = service;
    let pki = DataDir::at(&config.paths.data_dir).pki();
    let endpoint = ReferenceEndpoint {
        url: url.clone(),
        certificate_pem: pki.read_certificate(certificate)?,
        key_pem: pki.read_key(key)?,
        authority_pem: pki.read_certificate(authority)?,
        deadline,
        picture_bytes_max: config.decode_limits.encoded_bytes_max,
    };
    endpoint.check()?;
    Ok(endpoint)
}

/// The same without a connection, in a line.
fn check_references(config: &Config) -> Result<String> {
    let Some(ReferenceConfig { from, deadline }) = &config.reference else {
        return Ok("reference none".to_owned());
    };
    Ok(match from {
        ReferenceFrom::Files { dir } => {
            file_references(config, dir, *deadline)?;
            format!("reference the pictures in {}", dir.display())
        }
        ReferenceFrom::Service(service) => {
            reference_endpoint(config, service, *deadline)?;
            format!("reference {}, not asked now", service.url)
        }
    })
}

fn limits(config: &Config) -> Limits {
    Limits {
        message_bytes_max: config.server.message_bytes_max,
        import_message_bytes_max: config.server.import_message_bytes_max,
        connections_max: config.server.connections_max,
        connections_per_address_max: config.server.connections_per_address_max,
        calls_per_address_per_second: config.address_rate_per_second,
        first_call_max: config.server.first_call_max,
        streams_max: config.server.concurrent_streams_max,
        call_max: config.server.deadline,
        connection_age_max: config.server.connection_age_max,
        drain_max: config.server.drain_max,
        ..Limits::default()
    }
}

/// SHA-256 of the running program, for receipts.
fn own_digest() -> Result<Digest> {
    let path = std::env::current_exe().context("the running program cannot be found")?;
    Ok(sha256(&fs::read(path).context("the running program cannot be read")?))
}

/// Pictures that may wait for one worker: what comes in more than that is turned away at once, so that
/// who is let in is soon answered.
const WAITING_PER_WORKER: usize = 12;

/// Loads everything that serving needs, without a port and without opening the database; what was
/// found, a line each.
///
/// # Errors
///
/// The first thing that cannot be used.
pub fn check(config: &Config) -> Result<Vec<String>> {
    let models = load_models(config)?;
    let pack = load_pack(config)?;
    let mut lines = vec![
        format!("models    {} are good", models.faces.manifest().sources().len()),
        format!(
            "policy    {} version {}, {}",
            pack.id().as_str(),
            pack.version(),
            pack.hash().labelled()
        ),
    ];
    lines.push(check_references(config)?);
    lines.extend(outside::check(config)?);
    let data = DataDir::at(&config.paths.data_dir);
    if data.is_complete() {
        let vault = KekFolder::vault(config)?;
        for KekName { id, name, home } in vault.keks() {
            lines.push(format!("kek       {name}, {id}, {home}"));
        }
        let register = KeyRegister::parse(&KeyFolder::register(&data)?.register)?;
        let keys = KeyFolder::open(config)?;
        let active = |key: &&KeyRecord| {
            key.status == KeyStatus::Active && matches!(key.usage, KeyUse::Receipt | KeyUse::Ledger)
        };
        for key in register.keys().iter().filter(active) {
            keys.require(key)?;
            let (kid, home) = (&key.kid, keys.home(key.usage));
            lines.push(format!("key       {kid}, {}, {home}", key.algorithm.as_str()));
        }
        lines.push(format!("ledger    {}", origin_of(&register)?.as_str()));
        lines.push(format!("trust     {}", trust_fingerprint(&data)?));
    } else {
        lines.push(format!("data      {} will be made at the first start", data.path().display()));
    }
    lines.push(format!("address   {}", config.server.listen));
    Ok(lines)
}
