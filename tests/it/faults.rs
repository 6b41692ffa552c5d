//! The gateway on a store that fails as it is told to, and on a clock that is moved by hand: a
//! failure approves nothing, decides nothing twice, gives no free attempt, and leaves a ledger that
//! verifies.

mod acts;
mod confirmed;
mod half_years;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tulga::audit::{ExportWriter, Options, verify_export};
use tulga::capture::{DecodeLimits, DecodedImage, encode_png};
use tulga::clock::ManualClock;
use tulga::crypto::{Digest, PublicKey, SeededEntropy, Signer};
use tulga::domain::decision::Outcome;
use tulga::domain::four_eyes::{FourEyes, StaffRole, TwoPersonAct};
use tulga::domain::id::{
    Attempt, Challenge, CustomerId, HostTransactionId, PrincipalName, TenantId, TerminalId,
    UnitName,
};
use tulga::domain::iin::Iin;
use tulga::domain::modality::Modality;
use tulga::domain::money::{AmountMinor, Currency};
use tulga::domain::time::{BusinessDate, UnixMillis};
use tulga::domain::transaction::{
    CustomerReference, HolderVerification, OpaqueToken, Operation, TokenKind, Transaction,
};
use tulga::domain::turnover::BankZone;
use tulga::face::FacePipeline;
use tulga::gateway::request::{
    Actor, Answer, BeginCapture, BindToken, Capture, Consent, ConsentTerm, CreateCustomer,
    Declared, IssuedChallenge, Verify,
};
use tulga::gateway::{
    CallingTerminal, CertificateAuthority, ExportOptions, FileGuard, Gateway, GatewayError,
    GuardError, HeadGuard, IssueError, KeyEvent, KeyRegisterFiles, KeyStore, KeyStoreError,
    Keyring, NewPrincipal, Parts, Redeem, RootAct, Settings, SignedHead, Tasks,
    TerminalCertificate, VisionLimits, root_act_message,
};
use tulga::ledger::LedgerNames;
use tulga::policy::PolicyPack;
use tulga::receipt::{KeyRecord, KeyRegister, KeyUse, TrustFingerprint};
use tulga::store::memory::{Fault, MemoryStore};
use tulga::vault::Vault;

use self::confirmed::consent;
use crate::receipts::{Keys, ORIGIN, TIME};
use crate::site::demo;
use crate::vision::PIPELINE;

pub const FAULTS: [Fault; 6] = [
    Fault::Begin,
    Fault::Read,
    Fault::Write,
    Fault::BeforeCommit,
    Fault::CommitLost,
    Fault::AfterCommit,
];

pub const CARD: &str = "card-1";

/// Every fault at every step of a `Verify`, then the terminal's recipe: repeat the call, and on
/// `CAP_STALE` begin again with the same attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_at_any_step_of_a_verification_costs_no_more_than_a_repeat() {
    let mut struck = 0;
    for fault in FAULTS {
        for step in 0.. {
            let rig = Rig::new().await;
            let challenge = rig.begin("T1").await.unwrap();
            rig.store.fail_after(step, fault);
            let first = rig.verify("T1", challenge, nobody()).await;
            if !rig.store.script_is_done() {
                first.unwrap();
                break;
            }
            struck += 1;
            let at = format!("{fault:?} at {step}");
            let answer = match rig.verify("T1", challenge, nobody()).await {
                Ok(answer) => answer,
                Err(GatewayError::Stale) => {
                    assert!(first.is_err(), "{at}: an answer was given and lost");
                    let challenge = rig.begin("T1").await.unwrap();
                    rig.verify("T1", challenge, nobody()).await.unwrap()
                }
                Err(error) => panic!("{at}: {error:?}"),
            };
            if let Ok(first) = first {
                assert!(first == answer, "{at}: two answers to one attempt");
            }
            assert_eq!(answer.outcome, Outcome::Inconclusive, "{at}");
            assert_eq!(rig.audited().await, 1, "{at}: one decision, one entry");
        }
    }
    // Reading the decision, the challenge and the template; begin, writes and commits of the debit
    // and of the ledger: fewer would mean that faults stopped striking.
    assert!(struck >= 15, "only {struck} faults struck");
}

/// Debit, mismatch, and each fault: never more attempts left than after an unharmed attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_gives_an_impostor_a_free_attempt() {
    for fault in FAULTS {
        for step in 0.. {
            let rig = Rig::with_customer().await;
            let challenge = rig.begin("T1").await.unwrap();
            rig.store.fail_after(step, fault);
            let first = rig.verify("T1", challenge, demo("biden.jpg")).await;
            if !rig.store.script_is_done() {
                break;
            }
            let at = format!("{fault:?} at {step}");
            let answer = match rig.verify("T1", challenge, demo("biden.jpg")).await {
                Ok(answer) => answer,
                Err(GatewayError::Stale) => {
                    let challenge = rig.begin("T1").await.unwrap();
                    rig.verify("T1", challenge, demo("biden.jpg")).await.unwrap()
                }
                // A fault that waited for the second call.
                Err(error) => panic!("{at}: {first:?}, then {error:?}"),
            };
            assert_eq!(answer.outcome, Outcome::Denied, "{at}");
            let left = rig.attempts_left("T1").await;
            assert!(left <= 2 && answer.attempts_left <= 2, "{at}: {left} left of 3");
        }
    }
}

/// Each attempt counts, whoever asks and whatever about: the count is the transaction's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_mismatches_end_a_transaction_and_technical_failures_do_not() {
    let rig = Rig::with_customer().await;
    let unreadable = || Bytes::from_static(b"\xff\xd8\xff\xe0 no picture");
    for (image, left) in [
        (demo("biden.jpg"), Some(2)),
        (unreadable(), None),
        (nobody(), Some(2)),
        (demo("biden.jpg"), Some(1)),
        (demo("biden.jpg"), Some(0)),
        // The holder themself, too late: nothing is compared any more.
        (demo("obama2.jpg"), Some(0)),
    ]
    .into_iter()
    .collect::<Vec<_>>()
    {
        let challenge = rig.begin("T1").await.unwrap();
        let attempt = rig.next_attempt();
        match (rig.verify_attempt("T1", attempt, challenge, image).await, left) {
            (Ok(answer), Some(left)) => {
                assert_eq!(answer.attempts_left, left);
                assert_ne!(answer.outcome, Outcome::Approved);
            }
            (Err(GatewayError::Unreadable(_)), None) => {}
            (other, _) => panic!("{other:?}"),
        }
    }
    // Another transaction begins afresh, once the delay after three failures is over.
    rig.clock.advance_millis(30_000);
    let challenge = rig.begin("T2").await.unwrap();
    let answer = rig.verify("T2", challenge, demo("obama2.jpg")).await.unwrap();
    assert_eq!(answer.outcome, Outcome::Approved);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_challenge_and_a_receipt_have_their_time() {
    let rig = Rig::with_customer().await;
    let challenge = rig.begin("LATE").await.unwrap();
    rig.clock.advance_millis(CHALLENGE_TTL_MS + 1);
    let late = rig.verify("LATE", challenge, demo("obama2.jpg")).await;
    assert!(matches!(late, Err(GatewayError::Stale)), "{late:?}");

    let challenge = rig.begin("T1").await.unwrap();
    rig.clock.advance_millis(CHALLENGE_TTL_MS);
    let approved = rig.verify("T1", challenge, demo("obama2.jpg")).await.unwrap();
    assert_eq!(approved.outcome, Outcome::Approved);
    rig.clock.advance_millis(RECEIPT_VALID_MS + 1);
    let over = rig.redeem("T1", &approved).await;
    assert!(matches!(over, Err(GatewayError::Invalid { field: "receipt_jws", .. })), "{over:?}");
    rig.clock.advance_millis(-1);
    assert!(rig.redeem("T1", &approved).await.unwrap());
    // Once redeemed, the answer to a repeat does not depend on the time any more.
    rig.clock.advance_millis(2 * RECEIPT_VALID_MS);
    assert!(!rig.redeem("T1", &approved).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_set_back_stops_the_ledger() {
    let rig = Rig::new().await;
    let challenge = rig.begin("T1").await.unwrap();
    rig.verify("T1", challenge, nobody()).await.unwrap();
    // A step of time synchronisation is bridged: no receipt is dated before an earlier one.
    rig.clock.advance_millis(-4_000);
    let challenge = rig.begin("T2").await.unwrap();
    rig.verify("T2", challenge, nobody()).await.unwrap();
    assert_eq!(rig.audited().await, 2);
    rig.clock.advance_millis(-4_000);
    let challenge = rig.begin("T3").await.unwrap();
    let refused = rig.verify("T3", challenge, nobody()).await;
    assert!(matches!(refused, Err(GatewayError::NotReady(_))), "{refused:?}");
    assert_eq!(rig.audited().await, 2);
}

/// Two host nodes with one receipt, and a terminal that repeats its call before the answer: each act
/// happens once, and both callers learn of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_twice_at_once_happens_once() {
    let rig = Rig::with_customer().await;
    let challenge = rig.begin("T1").await.unwrap();
    let (first, second) = tokio::join!(
        rig.verify("T1", challenge, demo("obama2.jpg")),
        rig.verify("T1", challenge, demo("obama2.jpg")),
    );
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(first == second, "two answers to one attempt");
    assert_eq!((first.outcome, rig.audited().await), (Outcome::Approved, 1));
    for round in 0..5 {
        let (one, other) = tokio::join!(rig.redeem("T1", &first), rig.redeem("T1", &first));
        let redeemed = usize::from(one.unwrap()) + usize::from(other.unwrap());
        assert_eq!(redeemed, usize::from(round == 0), "in round {round}");
    }
    // Another content under the key that is being decided about.
    let challenge = rig.begin("T2").await.unwrap();
    let (first, second) = tokio::join!(
        rig.verify("T2", challenge, demo("obama2.jpg")),
        rig.verify("T2", challenge, demo("biden.jpg")),
    );
    let reused = [&first, &second].map(|it| matches!(it, Err(GatewayError::IdReused)));
    assert!(reused[0] != reused[1], "{first:?} {second:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approved_transaction_is_approved_once() {
    let rig = Rig::with_customer().await;
    for (attempt, image) in [(1, "biden.jpg"), (2, "obama2.jpg")] {
        let challenge = rig.begin("T1").await.unwrap();
        let answer = rig.verify_attempt("T1", attempt, challenge, demo(image)).await.unwrap();
        assert_eq!(answer.outcome == Outcome::Approved, attempt == 2);
    }
    let challenge = rig.begin("T1").await.unwrap();
    let again = rig.verify_attempt("T1", 3, challenge, demo("obama2.jpg")).await;
    assert!(matches!(again, Err(GatewayError::State(_))), "{again:?}");
    assert_eq!(rig.audited().await, 2);
}

/// An act of the office whose commit was unclear, or came to nothing: told as it is, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_act_is_done_once_and_told_as_done() {
    for fault in [Fault::AfterCommit, Fault::CommitLost, Fault::BeforeCommit] {
        let rig = Rig::with_customer().await;
        let gateway = rig.gateway();
        let customer = gateway.customers(None, 1).await.unwrap().pop().unwrap().id;
        rig.store.fail_next(fault);
        gateway.suspend(&enroller(), &customer).await.unwrap();
        rig.store.fail_next(fault);
        gateway.resume(&enroller(), &customer).await.unwrap();
        rig.store.fail_next(fault);
        gateway.erase(&enroller(), &customer).await.unwrap();
        assert!(rig.store.script_is_done());
        let rows = gateway.entries(0, &tulga::gateway::EntryFilter::default(), 100).await.unwrap();
        let kinds = rows.iter().filter(|row| row.kind == "erasure").count();
        assert_eq!((kinds, rig.audited().await), (1, 0), "{fault:?}");
    }
}

/// What the office does between the challenge and the decision counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_was_unbound_opens_nothing_any_more() {
    let rig = Rig::with_customer().await;
    let gateway = rig.gateway();
    let challenge = rig.begin("T1").await.unwrap();
    let token = OpaqueToken::try_from(CARD).unwrap();
    let customer = gateway.customers(None, 1).await.unwrap().pop().unwrap().id;
    gateway.unbind_token(&enroller(), &customer, TokenKind::Card, &token).await.unwrap();
    let answer = rig.verify("T1", challenge, demo("obama2.jpg")).await.unwrap();
    assert_eq!(answer.outcome, Outcome::Denied);
}

/// The head's record cannot be written: nothing is answered, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_answered_while_the_signed_head_cannot_be_recorded() {
    let rig = Rig::new().await;
    let challenge = rig.begin("T1").await.unwrap();
    rig.guard.is_broken.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        let refused = rig.verify("T1", challenge, nobody()).await;
        assert!(refused.is_err(), "{refused:?}");
    }
    let challenge2 = rig.begin("T2").await.unwrap();
    assert!(rig.verify("T2", challenge2, nobody()).await.is_err());
    rig.guard.is_broken.store(false, Ordering::SeqCst);
    // A repeat records the head, and gets the kept answer.
    assert_eq!(rig.verify("T1", challenge, nobody()).await.unwrap().outcome, Outcome::Inconclusive);
    let size = rig.guard.last().unwrap().unwrap().size;
    let (verified, logged) = (rig.audited().await, u64::try_from(rig.audited().await).unwrap());
    assert!((1..=2).contains(&verified), "{verified}");
    // Two entries more: the ledger was opened, and the gateway noted its rules.
    assert_eq!(size, logged + 2);
}

/// Somebody deleted the record, perhaps together with the database's newest entries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_without_the_record_of_its_head_does_not_start() {
    let mut rig = Rig::new().await;
    let challenge = rig.begin("T1").await.unwrap();
    rig.verify("T1", challenge, nobody()).await.unwrap();
    std::fs::remove_file(rig.dir.path().join("head")).unwrap();
    rig.guard = Arc::new(Guard::open(rig.dir.path()));
    let refused = rig.open().await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("--adopt-head"), "{refused}");
}

/// A database that is older than the last signed head, as one from a backup is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_database_does_not_start() {
    let mut rig = Rig::new().await;
    let challenge = rig.begin("T1").await.unwrap();
    rig.verify("T1", challenge, nobody()).await.unwrap();
    rig.store = MemoryStore::default();
    let refused = rig.open().await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("behind the last signed head"), "{refused}");
}

const CHALLENGE_TTL_MS: i64 = 60_000;
const RECEIPT_VALID_MS: i64 = 90_000;

/// A picture without a face.
pub fn nobody() -> Bytes {
    let picture = DecodedImage::from_rgb(160, 120, vec![120; 160 * 120 * 3]).unwrap();
    encode_png(&picture).unwrap().into()
}

/// The record in a file, on a disk that may be full.
#[derive(Debug)]
struct Guard {
    file: FileGuard,
    is_broken: AtomicBool,
}

impl Guard {
    fn open(dir: &Path) -> Self {
        let file = FileGuard::open(&dir.join("head")).unwrap();
        Self { file, is_broken: AtomicBool::new(false) }
    }
}

impl HeadGuard for Guard {
    fn last(&self) -> Result<Option<SignedHead>, GuardError> {
        self.file.last()
    }

    fn record(&self, head: &SignedHead) -> Result<(), GuardError> {
        if self.is_broken.load(Ordering::SeqCst) {
            return Err(GuardError::Io(std::io::ErrorKind::StorageFull.into()));
        }
        self.file.record(head)
    }
}

/// A gateway without doors, and what it stands on.
pub struct Rig {
    pub store: MemoryStore,
    guard: Arc<Guard>,
    pub clock: Arc<ManualClock>,
    keys: Keys,
    pack: Arc<PolicyPack>,
    pub vault: Arc<Vault>,
    pub faces: Arc<FacePipeline>,
    dir: TempDir,
    pub running: Option<(Arc<Gateway>, Tasks)>,
    attempts: AtomicU32,
    /// The ledgers that the keys may sign.
    origins: Vec<&'static str>,
    /// How long a capture is known again; elsewhere the tests show the same photographs again and again.
    capture_seen_ms: i64,
    /// Who was erased, as it is remembered outside the store.
    pub erased: Arc<Mutex<BTreeSet<Digest>>>,
    /// The acts that take two people, beside those that always do.
    pub two_person_acts: BTreeSet<TwoPersonAct>,
}

/// Keys that never change.
#[derive(Debug)]
pub struct GivenKeys(Vec<Arc<dyn Signer>>);

impl GivenKeys {
    pub fn of(keys: Keys) -> Arc<Self> {
        Arc::new(Self(vec![Arc::new(keys.receipt), Arc::new(keys.ledger)]))
    }
}

impl KeyStore for GivenKeys {
    fn signer(&self, key: &KeyRecord) -> Result<Option<Arc<dyn Signer>>, KeyStoreError> {
        Ok(self.0.iter().find(|signer| signer.public_key() == key.public_key).cloned())
    }

    fn create(&self, _: &str, _: KeyUse) -> Result<PublicKey, KeyStoreError> {
        panic!("no key is made here")
    }

    fn home(&self, _: KeyUse) -> &'static str {
        "file"
    }

    fn install(&self, _: &KeyRegisterFiles, _: &[KeyEvent]) -> Result<(), KeyStoreError> {
        panic!("no register is installed here")
    }

    fn due(&self) -> Result<Vec<KeyEvent>, KeyStoreError> {
        Ok(Vec::new())
    }

    fn settle(&self) -> Result<(), KeyStoreError> {
        Ok(())
    }
}

impl Rig {
    pub async fn new() -> Self {
        Self::by(PolicyPack::embedded_dev().unwrap()).await
    }

    /// By another pack.
    pub async fn by(pack: PolicyPack) -> Self {
        Self::looking(pack, PIPELINE.clone()).await
    }

    /// By another pack, and with models whose runs are counted apart.
    pub async fn looking(pack: PolicyPack, faces: FacePipeline) -> Self {
        Self::knowing(pack, faces, 0).await
    }

    /// As [`Self::looking`], where a capture is known again for so long.
    pub async fn knowing(pack: PolicyPack, faces: FacePipeline, capture_seen_ms: i64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut rig = Self {
            store: MemoryStore::default(),
            guard: Arc::new(Guard::open(dir.path())),
            clock: Arc::new(ManualClock::new(TIME)),
            keys: Keys::new(9),
            pack: Arc::new(pack),
            vault: Arc::new(Vault::new([3; 32])),
            faces: Arc::new(faces.counted_apart()),
            dir,
            running: None,
            attempts: 0.into(),
            origins: vec![ORIGIN],
            capture_seen_ms,
            erased: Arc::default(),
            two_person_acts: BTreeSet::new(),
        };
        rig.running = Some(rig.open().await.unwrap());
        rig
    }

    /// With one person enrolled, under [`CARD`].
    pub async fn with_customer() -> Self {
        let rig = Self::new().await;
        rig.enrol().await;
        rig
    }

    /// Enrols one person, under [`CARD`].
    pub async fn enrol(&self) -> CustomerId {
        let actor = enroller();
        let iin = Iin::try_from("000000300017").unwrap();
        let gateway = self.gateway();
        let customer: CustomerId = gateway
            .create_customer(&actor, CreateCustomer { iin, consent: consent() })
            .await
            .unwrap();
        let token = OpaqueToken::try_from(CARD).unwrap();
        let bind = BindToken { customer, kind: TokenKind::Card, token, expires_at: None };
        gateway.bind_token(&actor, bind).await.unwrap();
        let added = {
            let capture = Capture { image: demo("obama.jpg"), declared: Declared::default() };
            gateway.add_capture(&actor, &customer, Modality::Face, capture.into()).await.unwrap()
        };
        assert!(added.capture.is_some());
        gateway.activate(&actor, &customer).await.unwrap();
        customer
    }

    pub async fn open(&self) -> Result<(Arc<Gateway>, Tasks), GatewayError> {
        let register = self.keys.register_of(&self.origins).to_json().unwrap().into_bytes();
        let signature = KeyRegister::sign(&register, &self.keys.root).unwrap().into_bytes();
        let root = self.keys.root.public_key();
        let keys = GivenKeys::of(Keys::new(9));
        let files = KeyRegisterFiles { register, signature, root };
        Gateway::open(Parts {
            store: Arc::new(self.store.clone()),
            shelves: Arc::new(tulga::store::FileShelves::at("never-written")),
            vault: Arc::clone(&self.vault),
            faces: Arc::clone(&self.faces),
            fingers: None,
            pack: Arc::clone(&self.pack),
            clock: Arc::clone(&self.clock) as _,
            // Another chance at each start, or challenges would come twice.
            entropy: Arc::new(SeededEntropy::new(
                self.guard.last().unwrap().map_or(1, |it| it.entries + 1),
            )),
            guard: Arc::clone(&self.guard) as _,
            erased: Arc::clone(&self.erased) as _,
            references: None,
            witnesses: None,
            timestamping: None,
            authority: Arc::new(NoAuthority),
            keyring: Keyring::open(files, keys, &[]).unwrap(),
            settings: self.settings(),
        })
        .await
    }

    fn settings(&self) -> Settings {
        let settings = settings();
        let acts = self.two_person_acts.clone();
        Settings {
            capture_seen_ms: self.capture_seen_ms,
            four_eyes: FourEyes { acts, ..settings.four_eyes },
            ..settings
        }
    }

    /// Registers people on the root key's word, each in a unit of their own; again for who is there is nothing.
    pub async fn pin(&self, people: &[&Actor]) {
        for person in people {
            let person = NewPrincipal {
                role: StaffRole::from_word(person.role).unwrap(),
                name: person.name.clone(),
                unit: UnitName::try_from(person.name.as_str()).unwrap(),
                spki: person.spki,
            };
            let tenant = TenantId::try_from("bank-a").unwrap();
            let message = root_act_message(&tenant, RootAct::Pin, std::slice::from_ref(&person));
            let signature = self.keys.root.sign(&message).unwrap();
            match self.gateway().pin_principals(vec![person], &signature).await {
                Ok(_) | Err(GatewayError::Exists(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.running.as_ref().unwrap().0
    }

    fn next_attempt(&self) -> u32 {
        self.attempts.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub async fn begin(&self, id: &str) -> Result<Challenge, GatewayError> {
        Ok(self.begun(id).await?.challenge)
    }

    async fn attempts_left(&self, id: &str) -> u32 {
        self.begun(id).await.unwrap().attempts_left
    }

    pub async fn begun(&self, id: &str) -> Result<IssuedChallenge, GatewayError> {
        self.gateway().begin_capture(&terminal(), question(id), |_| Vec::new()).await
    }

    pub async fn verify(
        &self,
        id: &str,
        challenge: Challenge,
        image: Bytes,
    ) -> Result<Answer, GatewayError> {
        self.verify_attempt(id, 1, challenge, image).await
    }

    async fn verify_attempt(
        &self,
        id: &str,
        attempt: u32,
        challenge: Challenge,
        image: Bytes,
    ) -> Result<Answer, GatewayError> {
        let asked = Verify {
            challenge,
            host_id: HostTransactionId::try_from(id).unwrap(),
            business_date: business_date(),
            attempt: Attempt::try_from(attempt).unwrap(),
            captures: vec![Capture { image, declared: Declared::default() }.into()],
            footage: None,
            envelopes: Vec::new(),
        };
        let deadline = Instant::now() + Duration::from_mins(1);
        self.gateway().verify(&terminal(), asked, deadline).await
    }

    /// Whether the host may authorise.
    async fn redeem(&self, id: &str, answer: &Answer) -> Result<bool, GatewayError> {
        let host = Actor {
            role: "host",
            name: PrincipalName::try_from("dev").unwrap(),
            spki: Digest::new([6; 32]),
        };
        let asked = Redeem {
            receipt_jws: answer.receipt.jws().to_owned(),
            transaction_salt: answer.salts.transaction,
            host_transaction_id: id.to_owned(),
            business_date: business_date().as_str().to_owned(),
            attempt: Attempt::try_from(1).unwrap(),
            account: "account-1".into(),
            counterparty: None,
            amount_minor: 5_000_000,
            currency: Currency::try_from("KZT").unwrap(),
            operation: Operation::CashWithdrawal,
        };
        Ok(self.gateway().redeem(&host, asked).await?.redeemed_now)
    }

    /// The files of an export.
    async fn exported(&self) -> std::collections::BTreeMap<String, Vec<u8>> {
        let (out, mut pieces) = mpsc::channel(4);
        let gateway = Arc::clone(self.gateway());
        let sent =
            tokio::spawn(async move { gateway.export(ExportOptions::default(), &out).await });
        let mut files = std::collections::BTreeMap::<String, Vec<u8>>::new();
        while let Some(piece) = pieces.recv().await {
            files.entry(piece.path).or_default().extend(piece.bytes);
        }
        sent.await.unwrap().unwrap();
        files
    }

    /// Exports the ledger and verifies it from outside; how many verifications it holds.
    pub async fn audited(&self) -> usize {
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap();
        let export = dir.path().join("export");
        let writer = ExportWriter::create(&export).unwrap();
        let (out, mut pieces) = mpsc::channel(4);
        let gateway = Arc::clone(self.gateway());
        let sent =
            tokio::spawn(async move { gateway.export(ExportOptions::default(), &out).await });
        while let Some(piece) = pieces.recv().await {
            writer.append(&piece.path, &piece.bytes).unwrap();
        }
        sent.await.unwrap().unwrap();
        let trust = TrustFingerprint::of(&self.keys.root.public_key());
        let report =
            verify_export(&export, Some(&trust), &Options::default(), &mut |_| ()).unwrap();
        assert!(report.is_good(), "{:?}", report.findings);
        let rows = self.gateway().entries(0, &tulga::gateway::EntryFilter::default(), 100).await;
        rows.unwrap().iter().filter(|row| row.kind == "verification").count()
    }
}

/// Nobody asks for certificates here.
#[derive(Debug)]
struct NoAuthority;

impl CertificateAuthority for NoAuthority {
    fn issue(
        &self,
        _csr_pem: &str,
        _terminal: &TerminalId,
        _now: UnixMillis,
    ) -> Result<TerminalCertificate, IssueError> {
        Err(IssueError("there is no authority".into()))
    }
}

pub fn enroller() -> Actor {
    let name = PrincipalName::try_from("dev").unwrap();
    Actor { role: "enroller", name, spki: Digest::new([5; 32]) }
}

pub fn question(id: &str) -> BeginCapture {
    BeginCapture {
        customer: CustomerReference::Token(TokenKind::Card, OpaqueToken::try_from(CARD).unwrap()),
        transaction: Transaction {
            host_id: HostTransactionId::try_from(id).unwrap(),
            business_date: business_date(),
            operation: Operation::CashWithdrawal,
            amount: AmountMinor::try_from(5_000_000).unwrap(),
            currency: Currency::try_from("KZT").unwrap(),
            account_currency: Currency::try_from("KZT").unwrap(),
            account: OpaqueToken::try_from("account-1").unwrap(),
            counterparty: None,
        },
        modalities: vec![Modality::Face],
        holder_verification: HolderVerification::CardAndPin,
        supplied: tulga::domain::supplied::Supplied::default(),
        guest_consent: None,
    }
}

pub fn terminal() -> CallingTerminal {
    CallingTerminal { id: TerminalId::try_from("ATM-1").unwrap(), spki: Digest::new([4; 32]) }
}

pub fn business_date() -> BusinessDate {
    BusinessDate::try_from("2026-11-21").unwrap()
}

fn settings() -> Settings {
    Settings {
        tenant: TenantId::try_from("bank-a").unwrap(),
        ledgers: LedgerNames::HalfYears { issuer: "cash.bank.example/gw07".into() },
        issuer: "cash.bank.example/gw07".into(),
        audience: "cash.bank.example/host".into(),
        zone: BankZone::try_from("Asia/Almaty").unwrap(),
        guests_per_day: 20,
        capture_seen_ms: 0,
        build: Digest::new([8; 32]),
        two_people: false,
        four_eyes: FourEyes {
            acts: BTreeSet::new(),
            delay_ms: std::collections::BTreeMap::new(),
            expires_ms: 72 * 3_600_000,
        },
        challenge_ttl_ms: CHALLENGE_TTL_MS,
        receipt_valid_ms: RECEIPT_VALID_MS,
        deadline: Duration::from_mins(1),
        // The clerk's own commits would meet the faults that are meant for others.
        checkpoint_interval: Duration::from_hours(1),
        retention_interval: Duration::from_hours(1),
        calls_per_terminal_per_minute: NonZeroU32::new(100_000).unwrap(),
        vision: VisionLimits {
            workers: 2,
            queue_wait: Duration::from_secs(20),
            waiting_max: 16,
            decode: DecodeLimits::default(),
        },
    }
}
