//! Receipts: their exact bytes, and that nothing else is taken for one.

use std::fmt::Write as _;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

use tulga::crypto::{Ed25519Key, Signer as _, sha256};
use tulga::domain::id::{Attempt, ReceiptId};
use tulga::domain::time::UnixMillis;
use tulga::ledger::{Checkpoint, Origin, TlogProof, Tree};
use tulga::receipt::{
    Actor, Administration, Bio, Cap, Confirmation, Content, Erasure, Exception, IndexRange,
    KeyAlgorithm, KeyRange, KeyRecord, KeyRegister, KeyStatus, KeyUse, LogBlock, Outcome, Policy,
    ReceiptDraft, ReceiptError, Redemption, Refers, ReportingTerminal, Salt, SignedReceipt,
    Terminal, TransactionFields, Txn, Verification, Witnessed, audit_commit, issue, rid_text,
    transaction_commit, verify,
};

pub const ORIGIN: &str = "cash.bank.example/gw07/2026h2";
/// 2026-11-21T02:03:14.123Z
pub const TIME: UnixMillis = UnixMillis::new(1_795_226_594_123);

/// Keys of a small gateway: root, ledger and receipt.
pub struct Keys {
    pub root: Ed25519Key,
    pub ledger: Ed25519Key,
    pub receipt: Ed25519Key,
}

impl Keys {
    /// Other keys for each seed.
    pub fn new(seed: u8) -> Self {
        let key = |n: u8| Ed25519Key::from_seed([seed.wrapping_add(n); 32]).unwrap();
        Self { root: key(1), ledger: key(2), receipt: key(3) }
    }

    /// The register, with keys good for all of these ledgers.
    pub fn register_of(&self, origins: &[&str]) -> KeyRegister {
        let one = self.register(0, None);
        let records = one.keys().iter().cloned().map(|record| {
            let range = |origin: &&str| KeyRange {
                origin: (*origin).to_owned(),
                first_index: 0,
                last_index: None,
            };
            KeyRecord { origins: origins.iter().map(range).collect(), ..record }
        });
        KeyRegister::new(records.collect()).unwrap()
    }

    /// The register, with the receipt key good for `first..=last`.
    pub fn register(&self, first: u64, last: Option<u64>) -> KeyRegister {
        let record = |kid: &str, usage, key: &Ed25519Key, first_index, last_index| KeyRecord {
            kid: kid.to_owned(),
            algorithm: KeyAlgorithm::EdDsa,
            usage,
            public_key: key.public_key(),
            not_before: UnixMillis::new(1_795_219_200_000),
            not_after: None,
            origins: vec![KeyRange { origin: ORIGIN.to_owned(), first_index, last_index }],
            status: KeyStatus::Active,
        };
        KeyRegister::new(vec![
            record("root-2026", KeyUse::Root, &self.root, 0, None),
            record("gw07-ledger", KeyUse::Ledger, &self.ledger, 0, None),
            record("gw07-2026b", KeyUse::Receipt, &self.receipt, first, last),
        ])
        .unwrap()
    }
}

/// A draft of any content, its id made of `number`.
pub fn draft(number: u64, content: Content) -> ReceiptDraft {
    let mut id = [0u8; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    let is_verification = matches!(content, Content::Verification(_) | Content::Exception(_));
    ReceiptDraft {
        rid: rid_text(&ReceiptId::new(id)),
        iss: "cash.bank.example/gw07".into(),
        aud: is_verification.then(|| "host.bank.example".into()),
        valid_for_ms: is_verification.then_some(90_000),
        tenant: "bank-a".into(),
        content,
    }
}

fn hash(of: &str) -> String {
    sha256(of.as_bytes()).labelled()
}

pub fn actor() -> Actor {
    Actor { role: "admin".into(), name: "teller-7".into(), cert: hash("admin certificate") }
}

pub fn verification() -> Content {
    let salt = Salt::new([7; 32]);
    let fields = TransactionFields {
        host_transaction_id: "20261121000417",
        business_date: "2026-11-21",
        attempt: Attempt::try_from(1).unwrap(),
        account: "acct-4711",
        counterparty: None,
    };
    Content::Verification(Verification {
        terminal: Terminal {
            id: "ATM-004211".into(),
            cert: hash("certificate"),
            sensor: Some("sensor-1".into()),
            challenge: URL_SAFE_NO_PAD.encode([9; 32]),
            envelope: Some(hash("envelope")),
        },
        txn: Txn {
            commit: transaction_commit(&salt, &fields),
            op: "cash_withdrawal".into(),
            amount_minor: 5_000_000,
            currency: "KZT".into(),
        },
        subject: Some(URL_SAFE_NO_PAD.encode([3; 32])),
        guest: None,
        bio: Bio { modality: "face".into(), models: vec![hash("model")], required_db: 40 },
        policy: Policy {
            id: "kz-2026".into(),
            version: 3,
            hash: hash("policy"),
            registers: Vec::new(),
        },
        build: hash("binary"),
        outcome: "APPROVED_CAPPED".into(),
        cap: Some(Cap { amount_minor: 3_000_000, until: "2026-11-21T23:59:59.000Z".into() }),
        reasons: vec!["LIM_DAILY_CAP".into()],
        footage: Some(URL_SAFE_NO_PAD.encode([4; 32])),
        refers: None,
        confirmation: None,
        audit: audit_commit(&salt, br#"{"strength_db":52}"#),
    })
}

/// The final decision after the one that `refers` names.
fn confirmed(refers: &Refers) -> Content {
    let Content::Verification(decision) = verification() else { panic!() };
    let (refers, confirmation) = (Some(refers.clone()), Some(confirmation()));
    Content::Verification(Verification { refers, confirmation, ..decision })
}

/// A final decision without a capture.
fn exception(refers: &Refers) -> Content {
    let Content::Verification(decision) = verification() else { panic!() };
    let Terminal { id, cert, .. } = decision.terminal;
    Content::Exception(Exception {
        terminal: ReportingTerminal { id, cert },
        txn: decision.txn,
        subject: decision.subject,
        policy: decision.policy,
        build: decision.build,
        outcome: decision.outcome,
        cap: decision.cap,
        reasons: decision.reasons,
        refers: Some(refers.clone()),
        confirmation: Some(confirmation()),
        audit: decision.audit,
    })
}

fn confirmation() -> Confirmation {
    let entry = Refers { rid: rid_text(&ReceiptId::new([2; 16])), index: 5, origin: None };
    Confirmation { by: "customer_key".into(), at: TIME.rfc3339(), entry }
}

pub fn outcome(rid: &str, index: u64) -> Content {
    Content::Outcome(Outcome {
        refers: Refers { rid: rid.into(), index, origin: None },
        outcome: "taken".into(),
        dispensed_minor: 3_000_000,
        currency: "KZT".into(),
        terminal: ReportingTerminal { id: "ATM-004211".into(), cert: hash("certificate") },
        footage: None,
    })
}

pub fn administration(act: &str) -> Content {
    let (subject, details) = (Some("kz-2026".into()), Some(hash("details")));
    Content::Administration(Administration { act: act.into(), actor: actor(), subject, details })
}

pub fn erasure_of_bodies(first: u64, last: u64) -> Content {
    Content::Erasure(Erasure {
        actor: actor(),
        subject: None,
        bodies: vec![IndexRange { first, last, origin: None }],
        footage: vec![],
        evidence: vec![],
        reason: "retention".into(),
    })
}

pub fn signed(content: Content, index: u64) -> (SignedReceipt, Keys) {
    let keys = Keys::new(10);
    let log = LogBlock::new(ORIGIN, index, 0, &Tree::new().root());
    let body = draft(index, content).complete(TIME, log);
    (issue(&body, "gw07-2026b", &keys.receipt).unwrap(), keys)
}

fn payload(jws: &str) -> String {
    let part = jws.split('.').nth(1).unwrap();
    String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// Signs any header and payload, as a gateway never would.
fn forge(header: &str, payload: &str, keys: &Keys) -> String {
    let mut jws = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = keys.receipt.sign(jws.as_bytes()).unwrap();
    write!(jws, ".{}", URL_SAFE_NO_PAD.encode(signature)).unwrap();
    jws
}

const HEADER: &str = r#"{"alg":"EdDSA","kid":"gw07-2026b","typ":"tulga-receipt+jwt"}"#;

#[test]
fn a_receipt_of_each_kind_is_read_back_as_it_was_written() {
    let customer = Content::Erasure(Erasure {
        actor: actor(),
        subject: Some("pseudonym".into()),
        bodies: vec![],
        footage: vec![IndexRange { first: 1, last: 2, origin: None }],
        evidence: vec![IndexRange { first: 4, last: 4, origin: None }],
        reason: "customer_request".into(),
    });
    let refers = Refers { rid: rid_text(&ReceiptId::new([1; 16])), index: 4, origin: None };
    let contents = [
        verification(),
        confirmed(&refers),
        exception(&refers),
        outcome(&refers.rid, 4),
        administration("policy_activated"),
        erasure_of_bodies(3, 5),
        customer,
        Content::Redemption(Redemption { refers, actor: actor() }),
    ];
    for content in contents {
        let (receipt, keys) = signed(content.clone(), 7);
        let verified = verify(receipt.as_str(), &keys.register(0, None)).unwrap();
        assert_eq!(verified.body().content, content);
        assert_eq!(verified.time(), TIME);
        assert_eq!(verified.kid(), "gw07-2026b");
        assert_eq!(verified.leaf(), receipt.leaf());
        let is_decision = matches!(content, Content::Verification(_) | Content::Exception(_));
        let until = is_decision.then(|| TIME.plus_millis(90_000));
        assert_eq!(verified.valid_until(), until);
    }
}

#[test]
fn the_keys_of_a_verification_stand_in_the_published_order() {
    let mut log = LogBlock::new(ORIGIN, 700, 640, &Tree::new().root());
    log.witnessed = Some(Witnessed { size: 512, time: TIME.rfc3339() });
    let body = draft(1, verification()).complete(TIME, log);
    let keys = Keys::new(10);
    let json = payload(issue(&body, "gw07-2026b", &keys.receipt).unwrap().as_str());
    let order = [
        "v",
        "rid",
        "kind",
        "iss",
        "aud",
        "time",
        "valid_until",
        "tenant",
        "terminal",
        "id",
        "cert",
        "sensor",
        "challenge",
        "envelope",
        "txn",
        "commit",
        "op",
        "amount_minor",
        "currency",
        "subject",
        "bio",
        "modality",
        "models",
        "required_db",
        "policy",
        "id",
        "version",
        "hash",
        "build",
        "outcome",
        "cap",
        "amount_minor",
        "until",
        "reasons",
        "footage",
        "audit",
        "log",
        "origin",
        "index",
        "prior_size",
        "prior_root",
        "witnessed",
        "size",
        "time",
    ];
    let mut rest = json.as_str();
    for key in order {
        let mark = format!("\"{key}\":");
        let place = rest.find(&mark).unwrap_or_else(|| panic!("{key} is missing in {rest}"));
        rest = &rest[place + mark.len()..];
    }
    assert!(json.starts_with(r#"{"v":1,"rid":"AAAAAAAAAAAAAAAAAAAAAQ","kind":"verification","#));
}

#[test]
fn what_is_absent_is_left_out() {
    let Content::Verification(mut plain) = verification() else { panic!() };
    plain.subject = None;
    plain.cap = None;
    plain.footage = None;
    plain.terminal.sensor = None;
    plain.terminal.envelope = None;
    let (receipt, _) = signed(Content::Verification(plain), 0);
    let json = payload(receipt.as_str());
    for key in ["subject", "cap", "footage", "sensor", "envelope", "witnessed", "null"] {
        assert!(!json.contains(&format!("{key}\"")) && !json.contains("null"), "{key}: {json}");
    }
}

#[test]
fn no_bit_of_a_receipt_may_change() {
    let (receipt, keys) = signed(administration("ledger_opened"), 0);
    let register = keys.register(0, None);
    assert!(verify(receipt.as_str(), &register).is_ok());
    for place in 0..receipt.as_str().len() * 8 {
        let mut bytes = receipt.as_str().as_bytes().to_vec();
        bytes[place / 8] ^= 1 << (place % 8);
        let Ok(altered) = String::from_utf8(bytes) else { continue };
        assert!(verify(&altered, &register).is_err(), "bit {place}");
    }
}

#[test]
fn a_key_signs_only_in_its_range_and_time_and_only_receipts() {
    let (receipt, keys) = signed(verification(), 7);
    let jws = receipt.as_str();
    assert!(verify(jws, &keys.register(7, Some(7))).is_ok());
    for (first, last) in [(8, None), (0, Some(6))] {
        let refused = verify(jws, &keys.register(first, last)).unwrap_err();
        assert!(matches!(refused, ReceiptError::OutsideKeyRange), "{refused}");
    }
    let refused = verify(jws, &Keys::new(50).register(0, None)).unwrap_err();
    assert!(matches!(refused, ReceiptError::Signature), "{refused}");

    let changed = |change: fn(&mut KeyRecord)| {
        let mut records = keys.register(0, None).keys().to_vec();
        change(&mut records[2]);
        verify(jws, &KeyRegister::new(records).unwrap()).unwrap_err()
    };
    assert!(matches!(changed(|key| key.kid = "other".into()), ReceiptError::UnknownKey));
    assert!(matches!(changed(|key| key.usage = KeyUse::Ledger), ReceiptError::KeyUse));
    let other = |key: &mut KeyRecord| key.origins[0].origin = "other.example/log".into();
    assert!(matches!(changed(other), ReceiptError::OutsideKeyRange));
    let later = |key: &mut KeyRecord| key.not_before = TIME.plus_millis(1);
    assert!(matches!(changed(later), ReceiptError::OutsideKeyTime));
    let earlier = |key: &mut KeyRecord| key.not_after = Some(TIME.plus_millis(-1));
    assert!(matches!(changed(earlier), ReceiptError::OutsideKeyTime));
}

#[test]
fn a_header_is_taken_in_two_spellings_of_the_algorithm_and_no_other_form() {
    let (receipt, keys) = signed(administration("ledger_opened"), 0);
    let json = payload(receipt.as_str());
    let register = keys.register(0, None);
    assert_eq!(forge(HEADER, &json, &keys), receipt.as_str());
    assert!(verify(&forge(&HEADER.replace("EdDSA", "Ed25519"), &json, &keys), &register).is_ok());
    let bad = [
        HEADER.replace("EdDSA", "none"),
        HEADER.replace("EdDSA", "HS256"),
        HEADER.replace("tulga-receipt+jwt", "JWT"),
        HEADER.replace(':', ": "),
        HEADER.replace("{\"alg\"", "{\"crit\":[],\"alg\""),
        HEADER.replace("\"typ\"", "\"jwk\":{},\"typ\""),
        HEADER.replace("\"kid\"", "\"kid\":\"gw07-2026b\",\"kid\""),
        r#"{"kid":"gw07-2026b","alg":"EdDSA","typ":"tulga-receipt+jwt"}"#.to_owned(),
        String::new(),
    ];
    for header in bad {
        let refused = verify(&forge(&header, &json, &keys), &register).unwrap_err();
        assert!(matches!(refused, ReceiptError::Header), "{header}: {refused}");
    }
    // Another key's algorithm, not this one's.
    let es256 = forge(&HEADER.replace("EdDSA", "ES256"), &json, &keys);
    let refused = verify(&es256, &register).unwrap_err();
    assert!(matches!(refused, ReceiptError::Algorithm), "{refused}");
}

#[test]
fn a_payload_that_can_be_read_in_two_ways_is_refused_even_when_it_is_signed() {
    let (receipt, keys) = signed(administration("ledger_opened"), 0);
    let json = payload(receipt.as_str());
    let register = keys.register(0, None);
    let reads = |json: &str| verify(&forge(HEADER, json, &keys), &register);
    // Names may grow.
    assert!(reads(&json.replace("{\"v\":1", "{\"new\":{\"x\":[1]},\"v\":1")).is_ok());
    let unknown = reads(&json.replace("administration", "prophecy")).unwrap_err();
    assert!(matches!(unknown, ReceiptError::Kind) && unknown.code() == "RCP_UNKNOWN_KIND");
    assert!(matches!(
        reads(&json.replace("\"v\":1", "\"v\":2")).unwrap_err(),
        ReceiptError::Version
    ));
    let bad = [
        json.replace("{\"v\":1", "{\"v\":1,\"v\":1"),
        json.replace("{\"v\":1", "{\"x\":1,\"x\":2,\"v\":1"),
        json.replace("{\"v\":1", "{\"x\":0.5,\"v\":1"),
        json.replace("\"v\":1", "\"v\":1.0"),
        json.replace("\"v\":1,", ""),
        json.replace("\"act\"", "\"acts\""),
        json.replace("\"index\":0", "\"index\":-1"),
        json.replace("\"prior_size\":0", "\"prior_size\":1"),
        json.replace("02:03:14.123Z", "02:03:14Z"),
        json.replace("\"rid\":\"AAAA", "\"rid\":\"AAA"),
        json.replace("=\"}}", "\"}}"),
        format!("{json}{json}"),
        "[]".to_owned(),
        String::new(),
    ];
    for altered in bad {
        assert_ne!(altered, json, "the change did not take");
        assert!(reads(&altered).is_err(), "{altered}");
    }
    assert!(matches!(
        reads(&json.replace("{\"v\":1", &format!("{{\"x\":\"{}\",\"v\":1", "x".repeat(20_000)))),
        Err(ReceiptError::TooLong)
    ));
}

proptest! {
    #[test]
    fn no_bytes_make_the_verifier_panic(bytes in prop::collection::vec(any::<u8>(), 0..1024)) {
        let register = Keys::new(10).register(0, None);
        let text = String::from_utf8_lossy(&bytes);
        prop_assert!(verify(&text, &register).is_err());
        prop_assert!(KeyRegister::parse(&bytes).is_err());
        prop_assert!(tulga::receipt::parse_erasures(&bytes).is_none());
        let keys = Keys::new(10);
        prop_assert!(verify(&forge(HEADER, &text, &keys), &register).is_err());
        let forged = forge(&text, "[]", &keys);
        prop_assert!(verify(&forged, &register).is_err());
    }

    #[test]
    fn cut_and_spliced_receipts_are_refused(cut in any::<prop::sample::Index>(), with in "[A-Za-z0-9_.-]{0,8}") {
        let (receipt, keys) = signed(administration("ledger_opened"), 0);
        let jws = receipt.as_str();
        let cut = cut.index(jws.len());
        let spliced = format!("{}{with}{}", &jws[..cut], &jws[cut..]);
        prop_assert_eq!(verify(&spliced, &keys.register(0, None)).is_ok(), with.is_empty());
        prop_assert!(verify(&jws[..cut], &keys.register(0, None)).is_err());
    }
}

/// The frozen bytes: a receipt, a checkpoint, a proof, a register and its signature.
fn vectors() -> Vec<(&'static str, String)> {
    let (receipt, keys) = signed(verification(), 2);
    let tree: Tree = [
        signed(administration("ledger_opened"), 0).0,
        signed(administration("policy_activated"), 1).0,
        receipt.clone(),
    ]
    .iter()
    .map(SignedReceipt::leaf)
    .collect();
    let origin = Origin::try_from(ORIGIN).unwrap();
    let checkpoint = Checkpoint { origin, size: 3, root: tree.root() }.sign(&keys.ledger).unwrap();
    let proof = TlogProof::make(&tree, 2, 3, checkpoint.clone()).unwrap().to_text();
    let register = keys.register(0, None).to_json().unwrap();
    let signature = KeyRegister::sign(register.as_bytes(), &keys.root).unwrap();
    vec![
        ("receipt.jws", receipt.into_string()),
        ("checkpoint", checkpoint),
        ("receipt.tlog-proof", proof),
        ("keys.json", register),
        ("keys.json.sig", signature),
    ]
}

fn vector_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vectors").join(name)
}

#[test]
fn receipts_checkpoints_and_proofs_are_the_frozen_bytes() {
    for (name, bytes) in vectors() {
        let frozen = std::fs::read_to_string(vector_path(name)).unwrap();
        assert_eq!(bytes, frozen, "{name}: a receipt that was issued must verify for ever");
    }
}

#[test]
#[ignore = "writes the frozen vectors: run it only when a new version of the format is meant"]
fn freeze_the_vectors() {
    std::fs::create_dir_all(vector_path("")).unwrap();
    for (name, bytes) in vectors() {
        std::fs::write(vector_path(name), bytes).unwrap();
    }
}
