//! Use cases: verification, enrolment, outcome, audit; the sequencer; the bounded vision pool.
//!
//! Asynchronous and free of any transport. A [`Gateway`] is built by the composition root from its
//! [`Parts`]; the wire speaks to it in the words of [`request`].

mod act;
mod activation;
mod answer;
mod attempts;
mod audit;
mod cases;
mod confirmation;
mod confirming;
mod consent;
mod customer;
mod decoy;
mod enrollment;
mod enrolment_capture;
mod envelope;
mod erased;
mod error;
mod evidence;
mod exception;
mod export;
mod facts;
mod finger_records;
mod footage;
mod guard;
mod guest;
mod import;
mod incidents;
mod kek_rotation;
mod kept_captures;
mod key_change;
mod key_store;
mod keyring;
mod ledger_view;
mod ledgers;
mod locks;
mod look;
mod lookalikes;
mod near_duplicates;
mod outcome;
mod oversight;
mod pack_job;
mod packs;
mod people;
mod policy;
mod postbox;
mod presented;
mod proposal;
mod record;
mod reference;
mod reference_files;
mod register;
mod replay;
mod report;
pub mod request;
mod retention;
mod reversal;
mod roll_over;
mod same_call;
mod sealing;
mod sensor;
mod sequencer;
mod session;
mod teller;
mod templates;
mod terminal;
mod timestamping;
mod under_way;
mod verification;
mod verification_job;
mod vision;
mod witnessing;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::crypto::Entropy;
use crate::domain::four_eyes::FourEyes;
use crate::domain::id::{TenantId, TerminalId};
use crate::domain::turnover::BankZone;
use crate::face::FacePipeline;
use crate::fingerprint::FingerprintPipeline;
use crate::ledger::{LedgerNames, Tree};
use crate::matching::{FingerGallery, FingerMatcher, Gallery, Matcher};
use crate::policy::{PolicyPack, TryLimits};
use crate::store::{Shelves, Store};
use crate::vault::Vault;

pub use crate::ledger::{LogPosition, Origin};
pub use crate::receipt::{KeyUse, LedgerPlace, LedgerState};
pub use crate::store::{
    CaseEvidenceRow, CaseFile, CaseRow, Closure, ConsentCause, ConsentRow, EntryFilter,
    FootageFilter, FootageState, PrincipalRow, ProposalRow, ProposedRow, RegisterRow, SensorKeyRow,
};
pub use activation::{Activation, SecondPerson};
pub use audit::{AuditRecord, Entry, Redeem};
pub use confirmation::{Awaited, Confirmed, Pending, Signed, app_key_message};
pub use confirming::{Shown, confirmation_message};
pub use consent::Withdrawal;
pub use envelope::{Bound, CaptureFor, DeviceFault, Envelope, envelope_message};
pub use erased::{ErasedError, ErasedRecord, FileErased};
pub use error::GatewayError;
pub use evidence::Evidence;
pub use export::{ExportFile, ExportOptions};
pub use finger_records::ExportedTemplate;
pub use footage::{ERASED_AT_ONCE_MAX, OpenedDuty};
pub use guard::{FileGuard, GuardError, HeadGuard, SignedHead};
pub use import::Imported;
pub use kek_rotation::{KekRotation, OldKek, REWRAPPED_AT_ONCE_MAX, Rewrapped};
pub use key_change::{HALF_YEARS_AHEAD, PreparedKey};
pub use key_store::{KeyEvent, KeyRegisterFiles, KeyStore, KeyStoreError};
pub use keyring::{Installed, Keyring, KeyringError};
pub use locks::{BiometricLocks, HolderWish, biometric_lock_message};
pub use people::{NewPrincipal, RootAct, root_act_message};
pub use policy::ActivePack;
pub use postbox::{Postbox, PostboxAnswer, PostboxError};
pub use proposal::{Acted, Proposal};
pub use record::LookedBy;
pub use reference::{ReferenceError, ReferenceSource};
pub use reference_files::{FileReferences, reference_name};
pub use register::{ListedRow, ListedValue, RegisterDiff, RegisterDraft, Repeated};
pub use replay::{Agreement, Compared, Replay, ReplayEnd, Verdict};
pub use report::{MakeReport, ReportFormat, ReportKind, ReportPiece, SealedReport};
pub use retention::{LapsingConsent, RetentionPlan, RetentionRun, RetentionWork};
pub use reversal::Reverse;
pub use sealing::{
    CAPTURE_KEY_OVERLAP_MS_MAX, CaptureKey, SealedFor, capture_key_message, sealing_info,
};
pub use sensor::{NewSensor, NewSensorKey, OVERLAP_MS_MAX};
pub use teller::ExceptionsOf;
pub use terminal::{CertificateAuthority, IssueError, TerminalCertificate};
pub use timestamping::Timestamping;
pub use verification::CallingTerminal;
pub use vision::VisionLimits;
pub use witnessing::Witnesses;

use customer::Everybody;
use decoy::Decoy;
use incidents::Incidents;
use ledger_view::{LedgerView, keep_checkpoint};
use packs::Packs;
use people::Told;
use roll_over::Signing;
use sequencer::{Sequencer, SequencerHandle};
use under_way::UnderWay;
use vision::VisionPool;
use witnessing::{Office, WitnessTasks, Witnessing};

/// What a gateway is built from.
#[derive(Debug)]
pub struct Parts {
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// Where captures that are evidence lie.
    pub shelves: Arc<dyn Shelves>,
    /// Seals and opens.
    pub vault: Arc<Vault>,
    /// The models for faces.
    pub faces: Arc<FacePipeline>,
    /// The models for fingers, where there are any.
    pub fingers: Option<Arc<FingerprintPipeline>>,
    /// The configured rules: they decide until people activate others.
    pub pack: Arc<PolicyPack>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// The last-signed-head record.
    pub guard: Arc<dyn HeadGuard>,
    /// The record of whoever was erased.
    pub erased: Arc<dyn ErasedRecord>,
    /// Portraits to compare at enrolment, where the bank has a source.
    pub references: Option<Arc<dyn ReferenceSource>>,
    /// Who cosigns the ledger's checkpoints.
    pub witnesses: Option<Witnesses>,
    /// Who puts time-stamps on them.
    pub timestamping: Option<Timestamping>,
    /// Signs terminals' certificates.
    pub authority: Arc<dyn CertificateAuthority>,
    /// The signed key register, and what signs receipts and checkpoints.
    pub keyring: Keyring,
    /// Names and numbers.
    pub settings: Settings,
}

/// Names and numbers of a gateway.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The bank.
    pub tenant: TenantId,
    /// How its ledgers are called.
    pub ledgers: LedgerNames,
    /// `iss` of receipts.
    pub issuer: String,
    /// `aud` of receipts: the host that may act on them.
    pub audience: String,
    /// By which days and months begin.
    pub zone: BankZone,
    /// SHA-256 of the running program.
    pub build: crate::crypto::Digest,
    /// Whether an activation needs two people where no source of references is configured.
    pub two_people: bool,
    /// Which acts are proposed by one person and approved by another.
    pub four_eyes: FourEyes,
    /// How long a challenge may be used.
    pub challenge_ttl_ms: i64,
    /// How long a receipt may be acted on.
    pub receipt_valid_ms: i64,
    /// Longest time for one answer.
    pub deadline: Duration,
    /// Checkpoint interval.
    pub checkpoint_interval: Duration,
    /// Guests that a terminal may enrol in a day.
    pub guests_per_day: u32,
    /// How long a capture that was decided on may not come again; 0: captures are not known again.
    pub capture_seen_ms: i64,
    /// How often the retention clerk looks for what is due.
    pub retention_interval: Duration,
    /// Calls a minute and terminal.
    pub calls_per_terminal_per_minute: NonZeroU32,
    /// The vision pool's bounds.
    pub vision: VisionLimits,
}

/// The gateway.
#[derive(Debug)]
pub struct Gateway {
    store: Arc<dyn Store>,
    shelves: Arc<dyn Shelves>,
    vault: Arc<Vault>,
    decoy: Decoy,
    erased: Arc<dyn ErasedRecord>,
    vision: VisionPool,
    packs: Arc<Packs>,
    people: Told,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    references: Option<Arc<dyn ReferenceSource>>,
    authority: Arc<dyn CertificateAuthority>,
    keyring: Arc<Keyring>,
    matcher: Matcher,
    /// None where the gateway has no model for fingers.
    finger_matcher: Option<FingerMatcher>,
    signing: Arc<Signing>,
    view: Arc<LedgerView>,
    /// The tree of the closed ledger that was asked for last.
    closed_tree: Mutex<Option<(Origin, Tree)>>,
    incidents: Incidents,
    /// What was signed about the key that captures are sealed to.
    signed: sealing::Signed,
    sequencer: SequencerHandle,
    gallery: RwLock<Everybody>,
    /// Held over an activation's search and insertion, so that one person activated twice at one
    /// moment is found.
    activation: Mutex<()>,
    /// Held over a run of the retention clerk.
    retention: Mutex<()>,
    /// Held over a replay: terminals need the models more.
    replay: Mutex<()>,
    /// Reports that may be made at once: each reads much.
    reports: Semaphore,
    /// Held while a key is made, a register installed, or keys are wrapped anew.
    key_change: Mutex<()>,
    /// Held over an import of a register: the rows of one version are staged at a time.
    register_import: Mutex<()>,
    under_way: Arc<UnderWay>,
    /// Told whenever a confirmation may have been asked for or answered.
    confirmations: watch::Sender<()>,
    rate: DefaultKeyedRateLimiter<TerminalId>,
    settings: Settings,
}

/// The gateway's own tasks; they end after the last handle to the gateway is gone.
#[derive(Debug)]
pub struct Tasks {
    sequencer: JoinHandle<()>,
    clerk: JoinHandle<()>,
    retention: JoinHandle<()>,
    witnesses: WitnessTasks,
    timestamps: Option<JoinHandle<()>>,
}

/// Reports that may be made at once.
const REPORTS_MAX: usize = 2;

impl Tasks {
    /// Waits until everything that was promised is durable.
    pub async fn finish(self) {
        self.clerk.abort();
        self.retention.abort();
        self.witnesses.abort();
        if let Some(timestamps) = self.timestamps {
            timestamps.abort();
        }
        if let Err(cause) = self.sequencer.await {
            tracing::error!(error = %cause, "the sequencer ended badly");
        }
    }
}

impl Gateway {
    /// Takes the ledger over, loads the gallery and starts the tasks.
    ///
    /// # Errors
    ///
    /// [`GatewayError`] when the store, the ledger or a template cannot be used; the gateway must
    /// not serve then.
    pub async fn open(parts: Parts) -> Result<(Arc<Self>, Tasks), GatewayError> {
        let Parts {
            store,
            shelves,
            vault,
            faces,
            fingers,
            pack,
            clock,
            entropy,
            guard,
            authority,
            ..
        } = parts;
        let keyring = Arc::new(parts.keyring);
        note_ledgers(&*store, &keyring).await?;
        let signing = Arc::new(Signing {
            names: parts.settings.ledgers.clone(),
            issuer: parts.settings.issuer.clone(),
            tenant: parts.settings.tenant.as_str().to_owned(),
            keyring: Arc::clone(&keyring),
            entropy: Arc::clone(&entropy),
            witnessing: Arc::new(Witnessing::new(parts.witnesses, clock.now())),
        });
        let sequencer =
            Sequencer::open(Arc::clone(&store), Arc::clone(&signing), Arc::clone(&clock), guard)
                .await?;
        let view = sequencer.view();
        let (handle, sequencer) = sequencer.spawn();
        let matcher = Matcher::new(faces.manifest().matching.clone());
        let finger_matcher =
            fingers.as_deref().map(|fingers| FingerMatcher::new(fingers.matching().clone()));
        let gallery = Everybody {
            faces: Gallery::new(matcher.clone()),
            fingers: finger_matcher.clone().map(FingerGallery::new),
        };
        let decoy = Decoy::new(&vault, &parts.settings.tenant, &*entropy)?;
        let packs = Packs::new(Arc::clone(&store), Arc::clone(&view), Arc::clone(&keyring), pack);
        let gateway = Arc::new(Self {
            packs: Arc::new(packs),
            people: Told::default(),
            decoy,
            vision: VisionPool::new(faces, fingers, parts.settings.vision)?,
            rate: RateLimiter::keyed(Quota::per_minute(
                parts.settings.calls_per_terminal_per_minute,
            )),
            references: parts.references,
            erased: parts.erased,
            keyring,
            matcher,
            finger_matcher,
            settings: parts.settings,
            gallery: RwLock::new(gallery),
            activation: Mutex::new(()),
            retention: Mutex::new(()),
            replay: Mutex::new(()),
            reports: Semaphore::new(REPORTS_MAX),
            key_change: Mutex::new(()),
            register_import: Mutex::new(()),
            under_way: Arc::default(),
            confirmations: watch::Sender::new(()),
            sequencer: handle,
            store,
            shelves,
            vault,
            clock,
            entropy,
            authority,
            signing,
            view,
            closed_tree: Mutex::new(None),
            incidents: Incidents::default(),
            signed: sealing::Signed::default(),
        });
        gateway.open_vault().await?;
        gateway.apply_erased().await?;
        gateway.settle_capture_keys().await?;
        gateway.load_gallery().await?;
        gateway.open_packs().await?;
        gateway.settle_consents().await?;
        // Signed now, so that no terminal's first question costs more than the next one's.
        drop(gateway.capture_key().await);
        gateway.settle_keys().await?;
        let witnesses = gateway.start_witnesses().await?;
        let timestamps = gateway.start_timestamps(parts.timestamping);
        let clerk = tokio::spawn(clerk(Arc::downgrade(&gateway)));
        let interval = gateway.settings.retention_interval;
        let retention = tokio::spawn(retention::clerk(Arc::downgrade(&gateway), interval));
        Ok((gateway, Tasks { sequencer, clerk, retention, witnesses, timestamps }))
    }

    /// Asks the witnesses before anything is served: one may know that this is a restored database.
    async fn start_witnesses(&self) -> Result<WitnessTasks, GatewayError> {
        if !self.signing.witnessing.has_witnesses() {
            return Ok(WitnessTasks::default());
        }
        // There is something to show them from the first start on.
        keep_checkpoint(&*self.store, &self.signing, &self.view, self.clock.now()).await?;
        let office = Office {
            store: Arc::clone(&self.store),
            view: Arc::clone(&self.view),
            clock: Arc::clone(&self.clock),
            witnessing: Arc::clone(&self.signing.witnessing),
            interval: self.settings.checkpoint_interval,
        };
        witnessing::start(Arc::new(office)).await
    }

    fn start_timestamps(&self, timestamping: Option<Timestamping>) -> Option<JoinHandle<()>> {
        let desk = timestamping::Desk {
            asked: timestamping?,
            store: Arc::clone(&self.store),
            view: Arc::clone(&self.view),
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
        };
        Some(tokio::spawn(timestamping::work(desk)))
    }

    /// The present, as receipts will state it.
    #[must_use]
    pub fn now(&self) -> crate::domain::time::UnixMillis {
        self.clock.now()
    }

    /// Names and numbers.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// Tells the ring how far each ledger that its register names is signed.
async fn note_ledgers(store: &dyn Store, keyring: &Keyring) -> Result<(), GatewayError> {
    let installed = keyring.installed()?;
    let named = installed.register.keys().iter().flat_map(|key| &key.origins);
    let origins: BTreeSet<&str> = named.map(|range| range.origin.as_str()).collect();
    for origin in origins {
        keyring.note(origin, store.head(origin).await?.size)?;
    }
    Ok(())
}

/// Keeps a checkpoint at each interval, enters incidents, locks and the ends of proposals, and forgets challenges
/// that nobody can use and tries that count no more.
async fn clerk(gateway: std::sync::Weak<Gateway>) {
    /// A challenge is kept this long after it expired, so that a replay is told from a guess.
    const CHALLENGE_KEPT_MS: i64 = 3_600_000;
    /// A confirmation is kept this long, so that a terminal that was cut off finds its decision.
    const CONFIRMATION_KEPT_MS: i64 = 86_400_000;
    let mut since_sweep = Duration::ZERO;
    loop {
        let Some(interval) = gateway.upgrade().map(|gateway| gateway.settings.checkpoint_interval)
        else {
            return;
        };
        tokio::time::sleep(interval).await;
        let Some(gateway) = gateway.upgrade() else { return };
        let now = gateway.now();
        if let Err(error) =
            keep_checkpoint(&*gateway.store, &gateway.signing, &gateway.view, now).await
        {
            tracing::error!(code = error.code(), error = %error, "no checkpoint was kept");
        }
        since_sweep += interval;
        if since_sweep >= Duration::from_mins(1) {
            since_sweep = Duration::ZERO;
            if let Err(error) = gateway.log_incidents().await {
                tracing::error!(code = error.code(), error = %error, "incidents are not logged yet");
            }
            if let Err(error) = gateway.enter_locks().await {
                tracing::error!(code = error.code(), error = %error, "a lock is not entered yet");
            }
            if let Err(error) = gateway.expire_proposals().await {
                tracing::error!(code = error.code(), error = %error, "a proposal's end is not entered yet");
            }
            gateway.warn_of_missing_ledger(now);
            if let Err(error) = gateway.settle_keys().await {
                tracing::error!(code = error.code(), error = %error, "a change of keys is not logged yet");
            }
            let swept = async {
                let mut unit = gateway.store.begin().await?;
                unit.delete_challenges(now.plus_millis(-CHALLENGE_KEPT_MS)).await?;
                unit.delete_confirmations(now.plus_millis(-CONFIRMATION_KEPT_MS)).await?;
                unit.forget_captures(now).await?;
                unit.forget_capture_keys(now).await?;
                unit.forget_enrolment_challenges(now).await?;
                unit.forget_face_prints(now).await?;
                unit.delete_tries(now.plus_millis(-TryLimits::COUNTS_MAX_MS)).await?;
                unit.delete_locks_of_nobody(now.plus_millis(-TryLimits::COUNTS_MAX_MS)).await?;
                unit.commit().await
            };
            if let Err(error) = swept.await {
                tracing::error!(code = error.code(), error = %error, "old challenges, confirmations and tries were not swept");
            }
        }
    }
}
