//! Kill −9 among the acts of the bank's staff: after it each is done or not done, in the registers and in
//! the ledger alike.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tonic::transport::Channel;
use tulga::app::trust_fingerprint;
use tulga::audit::{Options, verify_export};
use tulga::crypto::Ed25519Key;
use tulga::domain::id::PrincipalName;
use tulga::domain::iin::Iin;
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::enrollment_service_client::EnrollmentServiceClient;
use tulga::proto::policy_service_client::PolicyServiceClient;
use tulga::proto::terminal_service_client::TerminalServiceClient;

use crate::packs::{approval, proposal, stricter};
use crate::process::{Gateway, Home};
use crate::site::{consent, demo, payload};

/// By default, and with `TULGA_FAULTS=full`.
const KILLS: (u32, u32) = (10, 100);
/// A first act of each kind may come; no round waits longer for it.
const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn an_act_among_which_the_gateway_is_killed_is_done_or_not_done() {
    let is_full = std::env::var_os("TULGA_FAULTS").is_some_and(|it| it == "full");
    let kills = if is_full { KILLS.1 } else { KILLS.0 };
    let home = Home::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut gateway = home.serve();
    let packs = runtime.block_on(approved_packs(&home, &gateway));
    let said = Arc::new(Said::default());
    for kill in 0..kills {
        runtime.block_on(act_until_killed(&home, &mut gateway, kill, &packs, &said));
        gateway = home.serve();
        let found = runtime.block_on(Registers::read(&home, &gateway));
        let ledger = Ledger::read(&home, &gateway, kill);
        ledger.agrees_with(&found);
        said.is_kept_in(&found, &ledger);
    }
}

/// What the gateway said was done, and whom it may erase.
#[derive(Default)]
struct Said {
    terminals: Mutex<Vec<String>>,
    customers: Mutex<Vec<String>>,
    erased: Mutex<Vec<String>>,
    /// Indices of entries.
    activations: Mutex<Vec<u64>>,
    /// Enrolled before this round, and not erased as far as anybody knows.
    erasable: Mutex<Vec<String>>,
    acts: AtomicUsize,
}

impl Said {
    fn note<T>(&self, kind: &Mutex<Vec<T>>, act: T) {
        kind.lock().unwrap().push(act);
        self.acts.fetch_add(1, Ordering::SeqCst);
    }

    /// Nothing that was answered for is undone.
    fn is_kept_in(&self, found: &Registers, ledger: &Ledger) {
        for terminal in &*self.terminals.lock().unwrap() {
            assert!(found.terminals.contains_key(terminal), "{terminal} was registered");
        }
        for customer in &*self.customers.lock().unwrap() {
            assert!(found.customers.contains_key(customer), "a customer was created");
        }
        for customer in &*self.erased.lock().unwrap() {
            assert_eq!(found.customers[customer], Standing::Erased, "a customer was erased");
        }
        for index in &*self.activations.lock().unwrap() {
            assert!(ledger.activations.contains(index), "entry {index} activated a pack");
        }
    }
}

async fn approved_packs(home: &Home, gateway: &Gateway) -> Vec<String> {
    let key = |role: Role, name: &str| {
        let (pki, name) = (home.data().pki(), PrincipalName::try_from(name).unwrap());
        Ed25519Key::from_pkcs8_pem(&pki.read_key(&pki.client_key_path(role, &name)).unwrap())
    };
    let (author, approver) = (Role::PolicyAuthor, Role::PolicyApprover);
    let (author_key, approver_key) = (key(author, "dev"), key(approver, "dev-second"));
    let author = gateway.connect(home, author, "dev").await;
    let approver = gateway.connect(home, approver, "dev-second").await;
    let mut hashes = Vec::new();
    for version in 2..=3 {
        let files = stricter(version);
        let proposed = proposal(&files, author_key.as_ref().unwrap());
        PolicyServiceClient::new(author.clone()).propose_pack(proposed).await.unwrap();
        let signed = approval(&files, approver_key.as_ref().unwrap());
        PolicyServiceClient::new(approver.clone()).approve_pack(signed).await.unwrap();
        hashes.push(files.hash().hex());
    }
    hashes
}

/// Acts of four kinds at once, each again and again until SIGKILL comes among them.
async fn act_until_killed(
    home: &Home,
    gateway: &mut Gateway,
    kill: u32,
    packs: &[String],
    said: &Arc<Said>,
) {
    let before = said.acts.load(Ordering::SeqCst);
    let admin = gateway.connect(home, Role::Admin, "dev").await;
    let enroller = gateway.connect(home, Role::Enroller, "dev").await;
    let approver = gateway.connect(home, Role::PolicyApprover, "dev-second").await;
    let acts = [
        tokio::spawn(register(admin.clone(), kill, Arc::clone(said))),
        tokio::spawn(enroll(enroller, kill, Arc::clone(said))),
        tokio::spawn(erase(admin, Arc::clone(said))),
        tokio::spawn(activate(approver, packs.to_vec(), Arc::clone(said))),
    ];
    let until = Instant::now() + PATIENCE;
    while said.acts.load(Ordering::SeqCst) < before + 8 {
        assert!(Instant::now() < until, "no acts to kill among");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_micros(u64::from(kill * 7_919 % 40_000))).await;
    gateway.kill();
    for act in acts {
        act.await.unwrap();
    }
}

/// The gateway refuses none of these calls: only its end may.
fn was_cut(status: &tonic::Status) {
    let reason = crate::site::reason(status);
    assert!(reason.starts_with("no reason"), "refused with {reason}");
}

async fn register(channel: Channel, kill: u32, said: Arc<Said>) {
    let mut desk = TerminalServiceClient::new(channel);
    for number in 0.. {
        let key = rcgen::KeyPair::generate().unwrap();
        let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
        let terminal_id = format!("ATM-{kill}-{number}");
        let csr_pem = request.pem().unwrap();
        let request = proto::RegisterTerminalRequest { terminal_id: terminal_id.clone(), csr_pem };
        match desk.register_terminal(request).await {
            Ok(_) => said.note(&said.terminals, terminal_id),
            Err(status) => return was_cut(&status),
        }
    }
}

/// Creates customers, each with a card and a picture.
async fn enroll(channel: Channel, kill: u32, said: Arc<Said>) {
    let mut desk = EnrollmentServiceClient::new(channel);
    for number in 0..10_000 {
        let iin = iin_of_nobody(kill * 1_000 + number);
        let created = proto::CreateCustomerRequest { iin, consent: Some(consent()) };
        let customer_id = match desk.create_customer(created).await {
            Ok(created) => created.into_inner().customer_id,
            Err(status) => return was_cut(&status),
        };
        said.note(&said.customers, customer_id.clone());
        let card = proto::BindTokenRequest {
            customer_id: customer_id.clone(),
            kind: proto::TokenKind::Card.into(),
            token: format!("card-{kill}-{number}"),
            expires_at: None,
        };
        if let Err(status) = desk.bind_token(card).await {
            return was_cut(&status);
        }
        let picture = proto::AddCaptureRequest {
            customer_id: customer_id.clone(),
            image: demo("obama.jpg"),
            media_type: Some("image/jpeg".into()),
            language: "en".into(),
            ..proto::AddCaptureRequest::default()
        };
        match desk.add_capture(picture).await {
            Ok(added) => assert!(added.into_inner().accepted),
            Err(status) => return was_cut(&status),
        }
        said.note(&said.erasable, customer_id);
    }
}

async fn erase(channel: Channel, said: Arc<Said>) {
    let mut desk = EnrollmentServiceClient::new(channel);
    loop {
        let next = said.erasable.lock().unwrap().pop();
        let Some(customer_id) = next else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            // Where nobody is left to erase, the gateway's end is seen by asking for somebody.
            let nobody = proto::GetCustomerRequest { customer_id: "0".repeat(32) };
            match desk.get_customer(nobody).await {
                Err(status) if crate::site::reason(&status) != "REQ_NOT_FOUND" => {
                    return was_cut(&status);
                }
                _ => continue,
            }
        };
        match desk.erase(proto::EraseRequest { customer_id: customer_id.clone() }).await {
            Ok(_) => said.note(&said.erased, customer_id),
            Err(status) => return was_cut(&status),
        }
    }
}

/// Brings one pack into force after the other.
async fn activate(channel: Channel, packs: Vec<String>, said: Arc<Said>) {
    let mut desk = PolicyServiceClient::new(channel);
    for hash in packs.iter().cycle() {
        let request =
            proto::ActivatePackRequest { hash: hash.clone(), effective_at: String::new() };
        match desk.activate_pack(request).await {
            Ok(done) => {
                let position = done.into_inner().activation.unwrap().position.unwrap();
                said.note(&said.activations, position.index);
            }
            Err(status) => return was_cut(&status),
        }
    }
}

/// Twelve digits that nobody has: the month is 00.
pub fn iin_of_nobody(number: u32) -> String {
    let (day, rest) = (number / 10_000, number % 10_000);
    (10..70)
        .map(|end| format!("0000{day:02}{}{rest:04}{}", end / 10, end % 10))
        .find(|digits| Iin::try_from(digits.as_str()).is_ok())
        .unwrap()
}

/// How far a customer's enrolment has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Standing {
    Kept { tokens: usize, captures: usize },
    Erased,
}

/// What the registers say after a start.
struct Registers {
    /// How many keys each terminal has.
    terminals: BTreeMap<String, usize>,
    customers: BTreeMap<String, Standing>,
    /// The entry that brought the pack in force, if one did.
    active: Option<u64>,
}

impl Registers {
    async fn read(home: &Home, gateway: &Gateway) -> Self {
        let admin = gateway.connect(home, Role::Admin, "dev").await;
        let active = PolicyServiceClient::new(admin.clone())
            .get_active_pack(proto::GetActivePackRequest {})
            .await
            .unwrap()
            .into_inner()
            .active
            .unwrap();
        Self {
            terminals: terminals(admin.clone()).await,
            customers: customers(admin).await,
            active: active.position.map(|position| position.index),
        }
    }
}

async fn terminals(admin: Channel) -> BTreeMap<String, usize> {
    let (mut desk, mut page_token) = (TerminalServiceClient::new(admin), String::new());
    let mut found = BTreeMap::new();
    loop {
        let request = proto::ListTerminalsRequest { page_size: 1_000, page_token };
        let page = desk.list_terminals(request).await.unwrap().into_inner();
        for terminal in page.terminals {
            *found.entry(terminal.terminal_id).or_default() += 1;
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

async fn customers(admin: Channel) -> BTreeMap<String, Standing> {
    let (mut desk, mut page_token) = (EnrollmentServiceClient::new(admin), String::new());
    let mut found = BTreeMap::new();
    loop {
        let request = proto::ListCustomersRequest { page_size: 1_000, page_token };
        let page = desk.list_customers(request).await.unwrap().into_inner();
        for customer in page.customers {
            let (tokens, captures) = (customer.token_kinds.len(), customer.capture_ids.len());
            let standing = match customer.status() {
                proto::CustomerStatus::Erased => {
                    assert_eq!((tokens, captures), (0, 0), "erased, and something is left");
                    Standing::Erased
                }
                _ => Standing::Kept { tokens, captures },
            };
            found.insert(customer.customer_id, standing);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

/// What the entries say.
struct Ledger {
    terminals: BTreeMap<String, usize>,
    /// By pseudonym.
    customers: BTreeMap<String, Standing>,
    activations: Vec<u64>,
}

impl Ledger {
    fn read(home: &Home, gateway: &Gateway, kill: u32) -> Self {
        let export = home.path().join(format!("export-{kill}"));
        gateway.tulga_ok(home, &["audit", "export", export.to_str().unwrap()]);
        let trust = trust_fingerprint(&home.data()).unwrap();
        let report = verify_export(&export, Some(&trust), &Options::default(), &mut |_| ());
        let report = report.unwrap();
        assert!(report.is_good(), "{:?}", report.findings);
        Self::of(&export)
    }

    fn of(export: &Path) -> Self {
        let lines = std::fs::read_to_string(export.join("receipts.jws")).unwrap();
        let mut ledger = Self {
            terminals: BTreeMap::new(),
            customers: BTreeMap::new(),
            activations: Vec::new(),
        };
        for entry in lines.lines().map(|line| payload(line.as_bytes())) {
            ledger.take(&entry);
        }
        ledger
    }

    fn take(&mut self, entry: &Value) {
        let subject = entry["subject"].as_str().unwrap_or_default().to_owned();
        match (entry["kind"].as_str().unwrap(), entry["act"].as_str().unwrap_or_default()) {
            ("administration", "terminal_registered") => {
                *self.terminals.entry(subject).or_default() += 1;
            }
            ("administration", "policy_activated") => {
                self.activations.push(entry["log"]["index"].as_u64().unwrap());
            }
            ("administration", "customer_created") => {
                let begun = Standing::Kept { tokens: 0, captures: 0 };
                assert_eq!(self.customers.insert(subject, begun), None, "created twice");
            }
            ("administration", act @ ("token_bound" | "capture_added")) => {
                let Some(Standing::Kept { tokens, captures }) = self.customers.get_mut(&subject)
                else {
                    panic!("{act} of somebody who is not there");
                };
                *if act == "token_bound" { tokens } else { captures } += 1;
            }
            ("erasure", _) => {
                let before = self.customers.insert(subject, Standing::Erased);
                assert!(before.is_some_and(|before| before != Standing::Erased), "erased twice");
            }
            _ => {}
        }
    }

    /// Every row has its entry, and every entry its row.
    fn agrees_with(&self, found: &Registers) {
        assert_eq!(self.terminals, found.terminals);
        assert!(found.terminals.values().all(|keys| *keys == 1));
        // A pseudonym does not lead to its customer, so they are compared as a crowd.
        let crowd = |customers: &BTreeMap<String, Standing>| {
            let mut crowd: Vec<_> = customers.values().copied().collect();
            crowd.sort();
            crowd
        };
        assert_eq!(crowd(&self.customers), crowd(&found.customers));
        assert_eq!(self.activations.last().copied(), found.active);
    }
}
