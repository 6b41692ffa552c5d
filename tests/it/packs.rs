//! The life of a pack of rules through the API: proposed by its author, approved by a second person,
//! activated, rolled back; and what is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tulga::config::Config;
use tulga::crypto::{Digest, Ed25519Key, Signer as _};
use tulga::domain::id::{PrincipalName, TenantId};
use tulga::domain::time::UnixMillis;
use tulga::pki::{Role, Validity, identify};
use tulga::policy::{PackConsent, PackFiles};
use tulga::proto;
use tulga::proto::audit_service_client::AuditServiceClient;
use tulga::proto::policy_service_client::PolicyServiceClient;
use tulga::proto::verification_service_client::VerificationServiceClient;

use crate::process::Home;
use crate::site::{Site, begin, demo, field, reason, verify};

type Desk = PolicyServiceClient<Channel>;

/// The files of the development pack, each changed by some replacements.
pub fn pack_of(replacements: &[(&str, &str)]) -> PackFiles {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/dev");
    let files = PackFiles::read(&dir).unwrap();
    let change = |text: &str| {
        replacements.iter().fold(text.to_owned(), |text, (old, new)| text.replace(old, new))
    };
    PackFiles::new(files.iter().map(|(name, text)| (name.to_owned(), change(text).into_bytes())))
        .unwrap()
}

/// The development pack with another version and a lower greatest amount, and cases that hold.
pub fn stricter(version: u32) -> PackFiles {
    let version = format!("version = {version}");
    pack_of(&[
        ("version = 1", &version),
        ("50_000_000", "1_000_000"),
        ("50_000_001", "1_000_001"),
        ("amount_minor = 50000000", "amount_minor = 1000000"),
    ])
}

pub fn tenant() -> TenantId {
    Config::from_toml("").unwrap().identity.tenant
}

fn key(site: &Site, role: Role, name: &str) -> Ed25519Key {
    let name = PrincipalName::try_from(name).unwrap();
    let pki = site.pki();
    let pem = pki.read_key(&pki.client_key_path(role, &name)).unwrap();
    Ed25519Key::from_pkcs8_pem(&pem).unwrap()
}

pub fn proposal(files: &PackFiles, key: &Ed25519Key) -> proto::ProposePackRequest {
    let pack = files.load().unwrap();
    let message = PackConsent::Propose.message_about(&tenant(), &pack);
    proto::ProposePackRequest {
        files: wire(files),
        public_key: key.public_key().as_bytes().to_vec(),
        signature: key.sign(&message).unwrap(),
    }
}

fn wire(files: &PackFiles) -> Vec<proto::PackFile> {
    let file =
        |(name, text): (&str, &str)| proto::PackFile { name: name.into(), content: text.into() };
    files.iter().map(file).collect()
}

pub fn approval(files: &PackFiles, key: &Ed25519Key) -> proto::ApprovePackRequest {
    let pack = files.load().unwrap();
    let message = PackConsent::Approve.message_about(&tenant(), &pack);
    proto::ApprovePackRequest {
        hash: pack.hash().hex(),
        public_key: key.public_key().as_bytes().to_vec(),
        signature: key.sign(&message).unwrap(),
    }
}

/// Author, approver, and their keys.
struct People {
    author: Desk,
    author_key: Ed25519Key,
    approver: Desk,
    approver_key: Ed25519Key,
}

impl People {
    async fn of(site: &Site) -> Self {
        let (author, approver) = (Role::PolicyAuthor, Role::PolicyApprover);
        Self {
            author: PolicyServiceClient::new(site.staff(author).await),
            author_key: key(site, author, "dev"),
            approver: PolicyServiceClient::new(site.staff_named(approver, "dev-second").await),
            approver_key: key(site, approver, "dev-second"),
        }
    }

    async fn signed(&mut self, files: &PackFiles) -> String {
        let proposed = self.author.propose_pack(proposal(files, &self.author_key)).await.unwrap();
        let pack = proposed.into_inner().pack.unwrap();
        assert_eq!((pack.state(), pack.approver), (proto::PackState::Proposed, None));
        let approved = self.approver.approve_pack(approval(files, &self.approver_key)).await;
        let pack = approved.unwrap().into_inner().pack.unwrap();
        assert_eq!(pack.state(), proto::PackState::Approved);
        assert_eq!(pack.hash, files.hash().hex());
        pack.hash
    }

    async fn activated(&mut self, hash: &str) -> Result<proto::Activation, Status> {
        let request = proto::ActivatePackRequest { hash: hash.into(), effective_at: String::new() };
        Ok(self.approver.activate_pack(request).await?.into_inner().activation.unwrap())
    }
}

async fn decided(terminal: &mut VerificationServiceClient<Channel>, id: &str) -> proto::Decision {
    let opened = terminal.begin_capture(begin(id, "card-token-1")).await.unwrap().into_inner();
    let asked = verify(id, 1, &opened.challenge, demo("obama2.jpg"));
    terminal.verify(asked).await.unwrap().into_inner()
}

fn payload(jws: &[u8]) -> Value {
    use base64::Engine as _;
    let text = std::str::from_utf8(jws).unwrap();
    let middle = text.split('.').nth(1).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(middle).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_bring_a_pack_into_force_and_back() {
    let site = Site::start().await;
    site.enroll("000000300017", "card-token-1", &["obama.jpg"]).await;
    let mut people = People::of(&site).await;
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let configured = pack_of(&[]);
    assert_eq!(decided(&mut terminal, "T1").await.outcome(), proto::Outcome::Approved);
    let hash = people.signed(&stricter(2)).await;
    assert_eq!(decided(&mut terminal, "T2").await.outcome(), proto::Outcome::Approved);
    let activation = people.activated(&hash).await.unwrap();
    let denied = decided(&mut terminal, "T3").await;
    assert_eq!(denied.outcome(), proto::Outcome::Denied);
    assert_eq!(denied.reasons[0].code, "POL_AMOUNT");
    let body = payload(&denied.receipt_jws);
    assert_eq!(body["policy"]["hash"], stricter(2).hash().labelled());
    assert_eq!(body["policy"]["version"], 2);

    // The way back: the configured pack was never proposed, and is taken although its version is lower.
    let older = people.signed(&configured).await;
    people.activated(&older).await.unwrap();
    assert_eq!(decided(&mut terminal, "T4").await.outcome(), proto::Outcome::Approved);
    people.activated(&hash).await.unwrap();
    assert_eq!(decided(&mut terminal, "T5").await.outcome(), proto::Outcome::Denied);

    let mut auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);
    let listed = auditor.list_receipts(proto::ListReceiptsRequest::default()).await.unwrap();
    let said: Vec<_> = listed
        .into_inner()
        .receipts
        .iter()
        .map(|receipt| payload(&receipt.receipt_jws))
        .filter(|body| body["act"].as_str().is_some_and(|act| act.starts_with("policy_")))
        .collect();
    let acts: Vec<_> = said
        .iter()
        .map(|body| {
            assert_eq!(body["subject"], "dev");
            assert!(body["details"].as_str().unwrap().starts_with("sha-256:"));
            (body["act"].as_str().unwrap(), body["actor"]["role"].as_str().unwrap())
        })
        .collect();
    let (proposed, approved) =
        (("policy_proposed", "policy-author"), ("policy_approved", "policy-approver"));
    let activated = ("policy_activated", "policy-approver");
    assert_eq!(
        acts,
        [
            ("policy_activated", "gateway"),
            proposed,
            approved,
            activated,
            proposed,
            approved,
            activated,
            activated,
        ]
    );
    shows(&site, &hash, &activation).await;
    drop((people, terminal, auditor));
    site.finish().await;
}

/// Auditors see what was signed by whom, the files, and what decides.
async fn shows(site: &Site, hash: &str, first: &proto::Activation) {
    let mut reader = PolicyServiceClient::new(site.staff(Role::Auditor).await);
    let page = proto::ListPacksRequest { page_size: 1, page_token: String::new() };
    let one = reader.list_packs(page).await.unwrap().into_inner();
    assert_eq!((one.packs.len(), one.packs[0].hash.as_str()), (1, hash));
    let page = proto::ListPacksRequest { page_size: 1, page_token: one.next_page_token };
    let two = reader.list_packs(page).await.unwrap().into_inner();
    assert_eq!(two.packs[0].version, 1);
    let request = proto::GetPackRequest { hash: hash.into() };
    let found = reader.get_pack(request).await.unwrap().into_inner();
    assert_eq!(found.files, wire(&stricter(2)));
    let pack = found.pack.unwrap();
    let (author, approver) = (pack.author.unwrap(), pack.approver.unwrap());
    assert_eq!((author.name.as_str(), approver.name.as_str()), ("dev", "dev-second"));
    assert_ne!(author.spki_sha256, approver.spki_sha256);
    let active = reader.get_active_pack(proto::GetActivePackRequest {}).await.unwrap();
    let active = active.into_inner().active.unwrap();
    assert_eq!((active.hash.as_str(), active.from_configuration), (hash, false));
    assert!(active.position.unwrap().index > first.position.as_ref().unwrap().index);
    let unknown = proto::GetPackRequest { hash: Digest::new([1; 32]).hex() };
    assert_eq!(reason(&reader.get_pack(unknown).await.unwrap_err()), "REQ_NOT_FOUND");
}

/// Rules nested as deep as a file takes: a parser that follows them down must not fall.
fn nested() -> Vec<String> {
    const DEEP: usize = 50_000;
    let rule = |open: &str, end: &str| {
        let (open, end) = (open.repeat(DEEP), end.repeat(DEEP));
        format!("@id(\"a\") permit(principal, action, resource) when {{ {open}true{end} }};")
    };
    vec![
        "(".repeat(1 << 20),
        rule("(", ")"),
        rule("!", ""),
        rule("-", ""),
        rule("[", "]"),
        rule("{a:", "}"),
        rule("if ", " then true else true"),
        rule("true && ", ""),
        rule("", ".a"),
        rule("", "[\"a\"]"),
        rule("", " + 1"),
        // Just within the bounds: refused for what it says, not for its depth.
        format!("permit(principal, action, resource) when {{ {}true }};", "true && ".repeat(490)),
        format!("permit(principal, action, resource) when {{ {}1 }};", "1 + ".repeat(980)),
        format!("permit(principal, action, resource) when {{ a{} }};", ".a".repeat(980)),
    ]
}

fn first_fault(status: &Status) -> String {
    let bad = status.get_details_bad_request().unwrap();
    bad.field_violations[0].description.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_signed_whole_and_good_is_refused() {
    let site = Site::start().await;
    let mut people = People::of(&site).await;
    let good = stricter(2);
    let request = proposal(&good, &people.author_key);
    let own_signature = request.signature.clone();

    // Files that differ from the signed ones by one comment; another's signature; an approval's.
    let mut tampered = request.clone();
    tampered.files[0].content.extend_from_slice(b"\n// x\n");
    let mut foreign = request.clone();
    foreign.signature = approval(&good, &people.author_key).signature;
    let mut not_own = request.clone();
    not_own.public_key = people.approver_key.public_key().as_bytes().to_vec();
    let short = proto::ProposePackRequest { signature: vec![1; 63], ..request.clone() };
    let keyless = proto::ProposePackRequest { public_key: vec![1; 31], ..request.clone() };
    let empty = proto::ProposePackRequest { files: Vec::new(), ..request.clone() };
    let mut elsewhere = request.clone();
    elsewhere.files[0].name = "../pack.toml".into();
    let mut twice = request.clone();
    twice.files.push(twice.files[0].clone());
    let mut no_text = request.clone();
    no_text.files[0].content = vec![0xff, 0xfe];
    for (wrong, expected) in [
        (tampered, "signature"),
        (foreign, "signature"),
        (not_own, "public_key"),
        (short, "signature"),
        (keyless, "public_key"),
        (empty, "files"),
        (elsewhere, "files"),
        (twice, "files"),
        (no_text, "files"),
    ] {
        let refused = people.author.propose_pack(wrong).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::InvalidArgument, "REQ_INVALID")
        );
        assert_eq!(field(&refused), expected);
    }

    for text in nested() {
        let mut deep = request.clone();
        deep.files[0].content = text.into_bytes();
        assert_eq!(field(&people.author.propose_pack(deep).await.unwrap_err()), "files");
    }

    // A lower amount without the cases that say so: the first case that comes out otherwise is told.
    let failing = pack_of(&[("version = 1", "version = 2"), ("KZT = 50_000_000", "KZT = 7")]);
    let failing = proto::ProposePackRequest { files: wire(&failing), ..request.clone() };
    let refused = people.author.propose_pack(failing).await.unwrap_err();
    assert_eq!(field(&refused), "files");
    assert!(first_fault(&refused).contains("a genuine customer withdraws"), "{refused:?}");

    // The configured pack is version 1 of "dev": the same version with other files does not grow.
    let same = proposal(&stricter(1), &people.author_key);
    assert_eq!(reason(&people.author.propose_pack(same).await.unwrap_err()), "REQ_STATE");
    people.author.propose_pack(request.clone()).await.unwrap();
    let again = people.author.propose_pack(request).await.unwrap_err();
    assert_eq!((again.code(), reason(&again).as_str()), (Code::AlreadyExists, "REQ_EXISTS"));

    // Nothing decides before a second person has signed.
    let hash = good.hash().hex();
    assert_eq!(reason(&people.activated(&hash).await.unwrap_err()), "REQ_STATE");
    let mut approve = approval(&good, &people.approver_key);
    approve.signature = own_signature;
    let refused = people.approver.approve_pack(approve).await.unwrap_err();
    assert_eq!((reason(&refused).as_str(), field(&refused).as_str()), ("REQ_INVALID", "signature"));
    people.approver.approve_pack(approval(&good, &people.approver_key)).await.unwrap();
    let twice = people.approver.approve_pack(approval(&good, &people.approver_key)).await;
    assert_eq!(reason(&twice.unwrap_err()), "REQ_STATE");
    for (hash, effective_at, expected) in [
        ("", "", "hash"),
        (hash.to_uppercase().as_str(), "", "hash"),
        (&hash, "tomorrow", "effective_at"),
        (&hash, "2026-01-01T00:00:00.000Z", "effective_at"),
        (&hash, "9999-01-01T00:00:00.000Z", "effective_at"),
    ] {
        let request =
            proto::ActivatePackRequest { hash: hash.into(), effective_at: effective_at.into() };
        let refused = people.approver.activate_pack(request).await.unwrap_err();
        assert_eq!(
            (reason(&refused).as_str(), field(&refused).as_str()),
            ("REQ_INVALID", expected)
        );
    }
    drop(people);
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_approves_alone_or_in_another_role() {
    let site = Site::start().await;
    let mut people = People::of(&site).await;
    let good = stricter(2);
    people.author.propose_pack(proposal(&good, &people.author_key)).await.unwrap();
    // The author's own certificate, an administrator's, and the approver's for a proposal.
    let wrong = people.author.approve_pack(approval(&good, &people.author_key)).await.unwrap_err();
    assert_eq!(
        (wrong.code(), reason(&wrong).as_str()),
        (Code::PermissionDenied, "ROLE_NOT_ALLOWED")
    );
    let mut admin = PolicyServiceClient::new(site.staff(Role::Admin).await);
    let wrong = admin.approve_pack(approval(&good, &people.approver_key)).await.unwrap_err();
    assert_eq!(reason(&wrong), "ROLE_NOT_ALLOWED");
    let request = proposal(&stricter(3), &people.approver_key);
    assert_eq!(
        reason(&people.approver.propose_pack(request).await.unwrap_err()),
        "ROLE_NOT_ALLOWED"
    );

    // The author's name in a certificate of the other role, with another key.
    let pki = site.pki();
    let authority = pki.load_authority(tenant()).unwrap();
    let now = tulga::clock::Clock::now(&tulga::clock::SystemClock);
    let name = PrincipalName::try_from("dev").unwrap();
    let both = authority.issue_client(Role::PolicyApprover, &name, Validity::of_leaf(now)).unwrap();
    let own = Ed25519Key::from_pkcs8_pem(&both.key_pem).unwrap();
    assert_eq!(own.public_key().fingerprint(), identify(&both.certificate_der).unwrap().spki);
    let mut alone =
        PolicyServiceClient::new(site.connect(&both.certificate_pem, &both.key_pem).await);
    let refused = alone.approve_pack(approval(&good, &own)).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unauthenticated, "DEV_UNKNOWN"),
        "whom nobody registered"
    );
    // Registered, it is the author's name still.
    site.pinned(&both, "operations").await;
    let refused = alone.approve_pack(approval(&good, &own)).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "REQ_STATE")
    );
    people.approver.approve_pack(approval(&good, &people.approver_key)).await.unwrap();
    drop((people, admin, alone));
    site.finish().await;
}

fn written(dir: &Path, name: &str, files: &PackFiles) -> PathBuf {
    let folder = dir.join(name);
    std::fs::create_dir_all(folder.join("tests")).unwrap();
    for (name, text) in files.iter() {
        std::fs::write(folder.join(name), text).unwrap();
    }
    folder
}

fn ok(output: &Output) -> Value {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The command line, from the first look at a pack to its rule, and after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_author_looks_back_signs_and_the_gateway_remembers() {
    let home = Home::new();
    let gateway = home.serve();
    let tulga = |arguments: &[&str]| {
        let output = home.command(&["policy"]).args(arguments).output().unwrap();
        ok(&output)
    };
    let address = gateway.address.clone();
    let at = ["--gateway", address.as_str(), "--json"];
    let run = |arguments: &[&str]| {
        let output = home.command(arguments).args(&at[..2]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let photographs = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
    let photograph = |name: &str| photographs.join(name).to_str().unwrap().to_owned();
    run(&[
        "enroll",
        &photograph("obama.jpg"),
        "--iin",
        "000000300017",
        "--card",
        "c-1",
        "--subject",
        "the customer",
        "--consent-ref",
        "archive/1",
    ]);
    run(&["terminal", "register", "ATM-1"]);
    for amount in ["1000000", "1000001", "2000000"] {
        run(&[
            "verify",
            &photograph("obama2.jpg"),
            "--terminal",
            "ATM-1",
            "--card",
            "c-1",
            "--amount-minor",
            amount,
        ]);
    }
    let before = written(home.path(), "before", &pack_of(&[]));
    let after = written(home.path(), "after", &stricter(2));
    let (before, after) = (before.to_str().unwrap(), after.to_str().unwrap());

    let replayed = tulga(&["backtest", after, at[0], at[1], at[2]]);
    assert_eq!(replayed["decisions"], 3);
    assert_eq!((&replayed["unchanged"], &replayed["unopened"]), (&1.into(), &0.into()));
    let change = &replayed["changes"][0];
    assert_eq!((&change["from"], &change["to"]), (&"APPROVED".into(), &"DENIED".into()));
    assert_eq!((&change["count"], &change["amount_minor"]["KZT"]), (&2.into(), &3_000_001.into()));
    assert_eq!(change["rules_added"], serde_json::json!(["dev.amount"]));
    assert_eq!(replayed["changes"].as_array().unwrap().len(), 1);
    assert_eq!(replayed["facts_lacking"], serde_json::json!({}));
    let none = tulga(&["backtest", after, "--to", "2026-01-01T00:00:00Z", at[0], at[1], at[2]]);
    assert_eq!(none["decisions"], 0);
    let same = tulga(&["backtest", before, at[0], at[1], at[2]]);
    assert_eq!(same["unchanged"], 3);

    let proposed = tulga(&["sign", after, at[0], at[1], at[2]]);
    let hash = proposed["hash"].as_str().unwrap().to_owned();
    let copy = home.path().join("copy");
    let copy = copy.to_str().unwrap();
    tulga(&["fetch", &hash, copy, at[0], at[1], at[2]]);
    tulga(&["approve", copy, at[0], at[1], at[2]]);
    let activated = tulga(&["activate", &hash, at[0], at[1], at[2]]);
    assert_eq!(activated["version"], 2);
    drop(gateway);
    let gateway = home.serve();
    let listed = tulga(&["list", "--gateway", &gateway.address, "--json"]);
    assert_eq!(listed["active"], activated, "after a restart");
    assert_eq!(listed["packs"][0]["state"], "approved");
    drop(gateway);
    altered(&home);
}

/// One letter of the stored pack is another: the gateway does not start.
fn altered(home: &Home) {
    let path = home.path().join("data/tulga.sqlite");
    let (from, to) = (b"a genuine customer withdraws", b"a genuine customer withdrawZ");
    let mut places = 0;
    for path in [path.clone(), path.with_extension("sqlite-wal")] {
        let Ok(mut bytes) = std::fs::read(&path) else { continue };
        while let Some(place) = bytes.windows(from.len()).position(|window| window == from) {
            bytes[place..place + from.len()].copy_from_slice(to);
            places += 1;
        }
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(places > 0, "the pack is not where it was looked for");
    let output = home.command(&["serve"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_ne!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("altered"), "{said}");
}

#[test]
fn packs_are_compared_and_tried_without_a_gateway() {
    let home = Home::new();
    let before = written(home.path(), "before", &pack_of(&[]));
    let changed = pack_of(&[
        ("version = 1", "version = 2"),
        ("attempts_max = 3", "attempts_max = 4"),
        ("attempts_in_transaction = 4", "attempts_in_transaction = 5"),
        ("attempts_in_transaction = 3", "attempts_in_transaction = 4"),
        ("@id(\"dev.currency\")", "@id(\"dev.money\")"),
        ("\"dev.currency\"", "\"dev.money\""),
        ("context.liveness == \"suspect\"", "\"suspect\" == context.liveness"),
    ]);
    let after = written(home.path(), "after", &changed);
    let (before, after) = (before.to_str().unwrap(), after.to_str().unwrap());
    let diff = home.command(&["policy", "diff", before, after, "--json"]).output().unwrap();
    assert_eq!(diff.status.code(), Some(1), "{}", String::from_utf8_lossy(&diff.stderr));
    let found: Value = serde_json::from_slice(&diff.stdout).unwrap();
    assert_eq!(found["added"], serde_json::json!(["dev.money"]));
    assert_eq!(found["removed"], serde_json::json!(["dev.currency"]));
    let rules: Vec<_> = found["changed"].as_array().unwrap().iter().map(|it| &it["rule"]).collect();
    assert_eq!(rules, ["dev.liveness.suspect"]);
    let numbers: BTreeMap<_, _> = found["manifest"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["path"].as_str().unwrap(), (&it["before"], &it["after"])))
        .collect();
    let number = |path| numbers[path];
    assert_eq!(numbers.len(), 2);
    assert_eq!(number("version"), (&"1".into(), &"2".into()));
    assert_eq!(number("bars.attempts_max"), (&"3".into(), &"4".into()));
    let same = home.command(&["policy", "diff", before, before, "--json"]).output().unwrap();
    assert_eq!(same.status.code(), Some(0));

    let facts = home.path().join("facts.toml");
    let base = "operation = \"cash_withdrawal\"\namount_minor = 50_000_001\ncurrency = \"KZT\"\n\
                account_currency = \"KZT\"\ncustomer = \"active\"\nstrength_db = 52\n\
                liveness = \"no_model\"\nattempts_in_transaction = 1\n\
                holder_verification = \"card_and_pin\"\ndevice_level = \"certificate\"\n";
    std::fs::write(&facts, base).unwrap();
    let facts = facts.to_str().unwrap();
    let run = |more: &[&str]| {
        let arguments = ["policy", "dry-run", before, "--facts", facts];
        home.command(&arguments).args(more).output().unwrap()
    };
    let said = ok(&run(&["--json"]));
    assert_eq!((&said["outcome"], &said["in_force"]), (&"DENIED".into(), &true.into()));
    assert_eq!(said["reasons"], serde_json::json!(["POL_AMOUNT"]));
    assert_eq!(said["rules"], serde_json::json!(["dev.amount"]));
    let early = UnixMillis::new(0).rfc3339();
    assert_eq!(ok(&run(&["--at", &early, "--json"]))["outcome"], "INCONCLUSIVE");
    assert_eq!(run(&["--at", "now"]).status.code(), Some(64));
    std::fs::write(facts, "amount_minor = 1\n").unwrap();
    assert_eq!(run(&[]).status.code(), Some(64));
}
