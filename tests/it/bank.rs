//! A bank whose customers confirm in an application: a gateway by the pack `kz-2026`, and keys of devices.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _};
use serde_json::Value;
use tempfile::TempDir;
use tonic::transport::Channel;
use tulga::app::{DataDir, trust_fingerprint};
use tulga::audit::{ExportWriter, Options, verify_export};
use tulga::clock::{Clock as _, ManualClock, SystemClock};
use tulga::crypto::{Ed25519Key, Signer as _};
use tulga::domain::id::{ConfirmationId, CustomerId};
use tulga::gateway::{Shown, app_key_message, confirmation_message};
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::audit_service_client::AuditServiceClient;
use tulga::proto::confirmation_service_client::ConfirmationServiceClient;
use tulga::proto::customer_reference::Reference;
use tulga::proto::enrollment_service_client::EnrollmentServiceClient;
use tulga::proto::terminal_service_client::TerminalServiceClient;
use tulga::proto::verification_service_client::VerificationServiceClient;

use crate::rules::{SIGNED, UNSIGNED, replace};
use crate::site::{Site, begin, demo, verify};

pub const IIN: &str = "000000300017";
pub const CARD: &str = "card-token-1";
/// One minor unit above the threshold of KZ-01.
pub const LARGE: i64 = 50_000_001;
pub const PLACE: &str = "Абай 10, Алматы";
pub const PAYEE: &str = "payee-canary-77ab20";

pub type Terminal = VerificationServiceClient<Channel>;
pub type App = ConfirmationServiceClient<Channel>;
pub type Desk = EnrollmentServiceClient<Channel>;

/// A gateway by the pack `kz-2026` with lines added to its bars, and its enrolled customer.
pub struct Bank {
    pub site: Site,
    pub clock: Arc<ManualClock>,
    _pack: TempDir,
    pub customer: String,
    pub terminal: Terminal,
    pub app: App,
    pub desk: Desk,
}

impl Bank {
    pub async fn open(bars: &str) -> Self {
        let pack = pack_with(bars);
        let more = format!(
            "policy_dir = '{}'\n[rate]\nper_terminal_per_minute = 10000\n",
            pack.path().display()
        );
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        let site = Site::at(&more, Arc::clone(&clock) as _).await;
        // The receipts' key counts from when it was made, a little after the clock was.
        clock.advance_millis(SystemClock.now().get() - clock.now().get());
        let customer = site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
        let terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
        let app = ConfirmationServiceClient::new(site.staff(Role::AppBackend).await);
        let desk = EnrollmentServiceClient::new(site.staff(Role::Enroller).await);
        let mut admin = TerminalServiceClient::new(site.staff(Role::Admin).await);
        let place =
            proto::SetTerminalPlaceRequest { terminal_id: "ATM-1".into(), place: PLACE.into() };
        admin.set_terminal_place(place).await.unwrap();
        Self { site, clock, _pack: pack, customer, terminal, app, desk }
    }

    /// A verification of the customer, named by their IIN.
    pub async fn ask(&mut self, ask: &Ask<'_>) -> proto::Decision {
        let (opened, asked) = self.opened(ask).await;
        assert_eq!(opened.challenge.len(), 32);
        self.terminal.verify(asked).await.unwrap().into_inner()
    }

    pub async fn opened(
        &mut self,
        ask: &Ask<'_>,
    ) -> (proto::BeginCaptureResponse, proto::VerifyRequest) {
        let mut request = begin(ask.id, CARD);
        let reference = Some(Reference::Iin(IIN.into()));
        request.customer = Some(proto::CustomerReference { reference });
        let transaction = request.transaction.as_mut().unwrap();
        transaction.operation = proto::Operation::Deposit.into();
        transaction.amount_minor = ask.amount_minor;
        transaction.counterparty = Some(PAYEE.into());
        let opened = self.terminal.begin_capture(request).await.unwrap().into_inner();
        let asked = verify(ask.id, ask.attempt, &opened.challenge, demo(ask.photograph));
        (opened, asked)
    }

    pub async fn stepped_up(&mut self, id: &str) -> proto::Decision {
        let decision = self.ask(&Ask::new(id)).await;
        assert_eq!(decision.outcome(), proto::Outcome::StepUp, "{:?}", decision.reasons);
        assert_eq!(decision.step_up(), proto::StepUp::AppConfirmation);
        decision
    }

    pub async fn waiting(&mut self, id: &str, wait_ms: u32) -> proto::AwaitDecisionResponse {
        self.terminal.await_decision(awaiting(id, 1, wait_ms)).await.unwrap().into_inner()
    }

    /// What waits for the customer, by their card.
    pub async fn pending(&mut self) -> Vec<proto::PendingConfirmation> {
        let reference = Some(Reference::CardToken(CARD.into()));
        let customer = Some(proto::CustomerReference { reference });
        let asked = proto::ListPendingRequest { customer };
        self.app.list_pending(asked).await.unwrap().into_inner().pending
    }

    pub async fn bind(&mut self, key: &Device, customer: &str) -> String {
        let request = key.binding(customer);
        self.desk.bind_app_key(request).await.unwrap().into_inner().key_id
    }

    pub async fn ledger_size(&self) -> u64 {
        let mut auditor = AuditServiceClient::new(self.site.staff(Role::Auditor).await);
        let asked = proto::GetCheckpointRequest::default();
        let checkpoint = auditor.get_checkpoint(asked).await.unwrap().into_inner().checkpoint;
        checkpoint.lines().nth(1).unwrap().parse().unwrap()
    }

    /// Exports the ledger and verifies it from outside; how many entries it has.
    pub async fn audited(&self) -> u64 {
        let dir = tempfile::tempdir().unwrap();
        let export = dir.path().join("export");
        let writer = ExportWriter::create(&export).unwrap();
        let mut auditor = AuditServiceClient::new(self.site.staff(Role::Auditor).await);
        let asked = proto::ExportLedgerRequest::default();
        let mut pieces = auditor.export_ledger(asked).await.unwrap().into_inner();
        while let Some(piece) = pieces.message().await.unwrap() {
            writer.append(&piece.path, &piece.content).unwrap();
        }
        let trust = trust_fingerprint(&DataDir::at(self.site.data())).unwrap();
        let report =
            verify_export(&export, Some(&trust), &Options::default(), &mut |_| ()).unwrap();
        assert!(report.is_good(), "{:?}", report.findings);
        self.ledger_size().await
    }

    pub async fn close(self) {
        let Self { site, _pack, terminal, app, desk, .. } = self;
        drop((terminal, app, desk));
        site.finish().await;
    }
}

pub struct Ask<'a> {
    pub id: &'a str,
    pub attempt: u32,
    pub amount_minor: i64,
    pub photograph: &'a str,
}

impl<'a> Ask<'a> {
    pub fn new(id: &'a str) -> Self {
        Self { id, attempt: 1, amount_minor: LARGE, photograph: "obama2.jpg" }
    }
}

/// The key of a customer's device.
pub enum Device {
    Ed25519(Ed25519Key),
    P256(EcdsaKeyPair),
}

impl Device {
    pub fn ed25519(seed: u8) -> Self {
        Self::Ed25519(Ed25519Key::from_seed([seed; 32]).unwrap())
    }

    pub fn p256(form: &'static EcdsaSigningAlgorithm) -> Self {
        let chance = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(form, &chance).unwrap();
        Self::P256(EcdsaKeyPair::from_pkcs8(form, der.as_ref(), &chance).unwrap())
    }

    pub fn spki(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => key.public_key().to_spki_der(),
            Self::P256(pair) => {
                let prefix = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
                [unhex(prefix), pair.public_key().as_ref().to_vec()].concat()
            }
        }
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => key.sign(message).unwrap(),
            Self::P256(pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
        }
    }

    pub fn binding(&self, customer: &str) -> proto::BindAppKeyRequest {
        let id = CustomerId::try_from(unhex(customer).as_slice()).unwrap();
        let public_key = self.spki();
        let proof = self.sign(&app_key_message(&id, &public_key));
        proto::BindAppKeyRequest { customer_id: customer.into(), public_key, proof }
    }

    /// Agrees to what was shown.
    pub fn confirms(
        &self,
        key_id: &str,
        pending: &proto::PendingConfirmation,
    ) -> proto::ConfirmRequest {
        let id = ConfirmationId::try_from(unhex(&pending.confirmation_id).as_slice()).unwrap();
        let operation = match pending.operation() {
            proto::Operation::Deposit => "cash_deposit",
            proto::Operation::Withdrawal => "cash_withdrawal",
            other => panic!("{other:?}"),
        };
        let shown = Shown {
            operation: operation.into(),
            amount_minor: pending.amount_minor,
            currency: pending.currency.clone(),
            payee: pending.payee.clone(),
            terminal: pending.terminal_id.clone(),
            place: pending.place.clone(),
            displayed_at: pending.displayed_at.clone(),
        };
        proto::ConfirmRequest {
            confirmation_id: pending.confirmation_id.clone(),
            key_id: key_id.into(),
            signature: self.sign(&confirmation_message(&id, &shown)),
        }
    }
}

/// The pack `kz-2026` with lines added to its bars, which takes unsigned captures.
pub fn pack_with(bars: &str) -> TempDir {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/kz-2026");
    let to = tempfile::tempdir().unwrap();
    copy(&from, to.path());
    replace(to.path(), "pack.toml", SIGNED, UNSIGNED);
    if bars.is_empty() {
        return to;
    }
    let manifest = to.path().join("pack.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let with = text.replacen("[bars]\n", &format!("[bars]\n{bars}\n"), 1);
    assert_ne!(text, with);
    fs::write(&manifest, with).unwrap();
    to
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub fn awaiting(id: &str, attempt: u32, wait_ms: u32) -> proto::AwaitDecisionRequest {
    proto::AwaitDecisionRequest {
        business_date: "2026-11-21".into(),
        host_transaction_id: id.into(),
        attempt,
        wait_ms,
        language: "en".into(),
    }
}

pub fn decided(awaited: proto::AwaitDecisionResponse) -> proto::Decision {
    assert_eq!(awaited.state(), proto::AwaitState::Decided);
    awaited.decision.unwrap()
}

pub fn said(decision: &proto::Decision) -> (proto::Outcome, Vec<&str>) {
    (decision.outcome(), decision.reasons.iter().map(|reason| reason.code.as_str()).collect())
}

/// What a receipt says, as a stranger reads it.
pub fn body(decision: &proto::Decision) -> Value {
    let jws = std::str::from_utf8(&decision.receipt_jws).unwrap();
    tulga::receipt::parse(jws).unwrap();
    let payload = jws.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// How a receipt names another.
pub fn named(decision: &proto::Decision) -> Value {
    let body = body(decision);
    serde_json::json!({ "rid": body["rid"], "index": body["log"]["index"] })
}

pub fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
