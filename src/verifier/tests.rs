use std::ffi::{CStr, CString, c_char, c_int};
use std::fs;
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::Barrier;
use std::thread;

use super::*;
use crate::crypto::{Ed25519Key, Signer as _, sha256};
use crate::domain::id::{Attempt, ReceiptId};
use crate::receipt::{
    Bio, Exception, KeyAlgorithm, KeyRange, KeyRecord, KeyStatus, KeyUse, LogBlock, Outcome,
    Policy, ReceiptDraft, Refers, ReportingTerminal, Terminal, Verification, issue, rid_text,
};

const ORIGIN: &str = "cash.bank.example/gw07/2026h2";
const HOST: &str = "host.bank.example";
const TIME: UnixMillis = UnixMillis::new(1_795_226_594_123);
const SALT: [u8; 32] = [7; 32];

fn key(seed: u8) -> Ed25519Key {
    Ed25519Key::from_seed([seed; 32]).unwrap()
}

/// A register with the receipt key good from `first` on, and its signature.
fn register(first: u64) -> (String, String) {
    register_of(first, None, KeyStatus::Active)
}

/// The same with an end of the receipt key's range, and its status.
fn register_of(first: u64, last: Option<u64>, status: KeyStatus) -> (String, String) {
    let record = |kid: &str, usage, seed, first_index| KeyRecord {
        kid: kid.to_owned(),
        algorithm: KeyAlgorithm::EdDsa,
        usage,
        public_key: key(seed).public_key(),
        not_before: TIME.plus_millis(-1000),
        not_after: None,
        origins: vec![KeyRange { origin: ORIGIN.to_owned(), first_index, last_index: None }],
        status: KeyStatus::Active,
    };
    let mut receipt = record("r", KeyUse::Receipt, 3, first);
    receipt.status = status;
    receipt.origins[0].last_index = last;
    let keys = vec![record("root", KeyUse::Root, 1, 0), receipt];
    let json = KeyRegister::new(keys).unwrap().to_json().unwrap();
    let signature = KeyRegister::sign(json.as_bytes(), &key(1)).unwrap();
    (json, signature)
}

fn trust() -> TrustFingerprint {
    TrustFingerprint::of(&key(1).public_key())
}

fn verifier_with(redeemed: Box<dyn ReplayTable>) -> HostVerifier {
    let (json, signature) = register(0);
    HostVerifier::new(json.as_bytes(), &signature, trust(), HOST, redeemed).unwrap()
}

fn verifier() -> HostVerifier {
    verifier_with(Box::new(MemoryTable::default()))
}

fn demand() -> Demand<'static> {
    Demand {
        transaction: TransactionFields {
            host_transaction_id: "417",
            business_date: "2026-11-21",
            attempt: Attempt::try_from(1).unwrap(),
            account: "acct-1",
            counterparty: None,
        },
        terminal: "ATM-1",
        operation: "cash_withdrawal",
        amount_minor: 5_000,
        currency: "KZT",
    }
}

fn approval() -> Verification {
    Verification {
        terminal: Terminal {
            id: "ATM-1".into(),
            cert: sha256(b"certificate").labelled(),
            sensor: None,
            challenge: "c".into(),
            envelope: None,
        },
        txn: Txn {
            commit: transaction_commit(&Salt::new(SALT), &demand().transaction),
            op: "cash_withdrawal".into(),
            amount_minor: 5_000,
            currency: "KZT".into(),
        },
        subject: None,
        guest: None,
        bio: Bio { modality: "face".into(), models: vec![], required_db: 40 },
        policy: Policy { id: "p".into(), version: 1, hash: "h".into(), registers: vec![] },
        build: "b".into(),
        outcome: "APPROVED".into(),
        cap: None,
        reasons: vec![],
        footage: None,
        refers: None,
        confirmation: None,
        audit: "a".into(),
    }
}

/// A receipt of any content, number `number`.
fn receipt_of(
    number: u8,
    content: Content,
    aud: Option<&str>,
    valid_for_ms: Option<i64>,
) -> String {
    let draft = ReceiptDraft {
        rid: rid_text(&ReceiptId::new([number; 16])),
        iss: "cash.bank.example/gw07".into(),
        aud: aud.map(Into::into),
        valid_for_ms,
        tenant: "bank-a".into(),
        content,
    };
    let log = LogBlock::new(ORIGIN, 7, 0, &sha256(b""));
    issue(&draft.complete(TIME, log), "r", &key(3)).unwrap().into_string()
}

fn receipt(number: u8, change: impl FnOnce(&mut Verification)) -> String {
    let mut decision = approval();
    change(&mut decision);
    receipt_of(number, Content::Verification(decision), Some(HOST), Some(90_000))
}

fn code(verifier: &HostVerifier, jws: &str, demand: &Demand<'_>, now: UnixMillis) -> &'static str {
    match verifier.verify(jws, &Salt::new(SALT), demand, now) {
        Ok(authorised) => {
            assert_eq!(authorised.amount_minor(), demand.amount_minor);
            "OK"
        }
        Err(refusal) => refusal.code(),
    }
}

#[test]
fn an_approval_is_authorised_once() {
    let (verifier, jws) = (verifier(), receipt(1, |_| ()));
    let authorised = verifier.verify(&jws, &Salt::new(SALT), &demand(), TIME).unwrap();
    assert_eq!((authorised.amount_minor(), authorised.amount_max_minor()), (5_000, 5_000));
    assert_eq!(authorised.receipt().body().log.index, 7);
    assert_eq!(code(&verifier, &jws, &demand(), TIME), "HOST_REDEEMED");
    assert_eq!(code(&verifier, &receipt(2, |_| ()), &demand(), TIME), "OK");
}

#[test]
fn whatever_does_not_fit_is_refused_and_redeems_nothing() {
    let (verifier, jws) = (verifier(), receipt(1, |_| ()));
    let changed = |change: fn(&mut Demand<'static>)| {
        let mut other = demand();
        change(&mut other);
        code(&verifier, &jws, &other, TIME)
    };
    assert_eq!(changed(|it| it.transaction.host_transaction_id = "418"), "HOST_COMMITMENT");
    assert_eq!(changed(|it| it.transaction.counterparty = Some("x")), "HOST_COMMITMENT");
    assert_eq!(changed(|it| it.terminal = "ATM-2"), "HOST_TRANSACTION");
    assert_eq!(changed(|it| it.operation = "cash_deposit"), "HOST_TRANSACTION");
    assert_eq!(changed(|it| it.currency = "USD"), "HOST_TRANSACTION");
    for amount in [5_001, 0, -1, i64::MIN, i64::MAX] {
        let other = Demand { amount_minor: amount, ..demand() };
        assert_eq!(code(&verifier, &jws, &other, TIME), "HOST_AMOUNT", "{amount}");
    }
    let other_salt = verifier.verify(&jws, &Salt::new([8; 32]), &demand(), TIME).unwrap_err();
    assert_eq!(other_salt.code(), "HOST_COMMITMENT");
    for (at, expected) in [(90_001, "HOST_EXPIRED"), (-SKEW_MS - 1, "HOST_NOT_YET")] {
        assert_eq!(code(&verifier, &jws, &demand(), TIME.plus_millis(at)), expected);
    }
    let decision =
        |aud, valid_for| receipt_of(1, Content::Verification(approval()), aud, valid_for);
    let as_it_is = |jws: &str| code(&verifier, jws, &demand(), TIME);
    assert_eq!(as_it_is(&decision(Some("other.example"), Some(90_000))), "HOST_AUDIENCE");
    assert_eq!(as_it_is(&decision(None, Some(90_000))), "HOST_AUDIENCE");
    assert_eq!(as_it_is(&decision(Some(HOST), None)), "HOST_EXPIRED");
    assert_eq!(as_it_is(&jws.replace('.', "..")), "RCP_MALFORMED");
    // Nothing of all this has used the receipt up.
    assert_eq!(code(&verifier, &jws, &demand(), TIME.plus_millis(90_000)), "OK");
}

#[test]
fn only_what_approves_is_authorised_and_only_as_far() {
    let verifier = verifier();
    for outcome in ["DENIED", "HELD", "STEP_UP", "INCONCLUSIVE", "approved", "APPROVED_CAPPED"] {
        let jws = receipt(1, |decision| decision.outcome = outcome.into());
        assert_eq!(code(&verifier, &jws, &demand(), TIME), "HOST_OUTCOME", "{outcome}");
    }
    let cap = || Some(Cap { amount_minor: 3_000, until: TIME.rfc3339() });
    // A cap beside a plain approval is nothing that a gateway writes.
    let odd = receipt(1, |decision| decision.cap = cap());
    assert_eq!(code(&verifier, &odd, &demand(), TIME), "HOST_OUTCOME");
    let capped = receipt(1, |decision| {
        decision.outcome = "APPROVED_CAPPED".into();
        decision.cap = cap();
    });
    assert_eq!(code(&verifier, &capped, &demand(), TIME), "HOST_AMOUNT");
    let within = Demand { amount_minor: 3_000, ..demand() };
    assert_eq!(code(&verifier, &capped, &within, TIME), "OK");
}

#[test]
fn a_decision_without_a_capture_is_one_and_nothing_else_is() {
    let verifier = verifier();
    let Verification { txn, policy, build, outcome, audit, .. } = approval();
    let terminal = ReportingTerminal { id: "ATM-1".into(), cert: "c".into() };
    let report = Content::Outcome(Outcome {
        refers: Refers { rid: rid_text(&ReceiptId::new([1; 16])), index: 1, origin: None },
        outcome: "taken".into(),
        dispensed_minor: 5_000,
        currency: "KZT".into(),
        terminal: terminal.clone(),
        footage: None,
    });
    let jws = receipt_of(1, report, Some(HOST), Some(90_000));
    assert_eq!(code(&verifier, &jws, &demand(), TIME), "HOST_KIND");
    let exception = Content::Exception(Exception {
        terminal,
        txn,
        subject: None,
        policy,
        build,
        outcome,
        cap: None,
        reasons: vec![],
        refers: None,
        confirmation: None,
        audit,
    });
    let jws = receipt_of(2, exception, Some(HOST), Some(90_000));
    assert_eq!(code(&verifier, &jws, &demand(), TIME), "OK");
}

#[test]
fn a_newer_register_counts_at_once_and_only_a_trusted_one() {
    let (verifier, jws) = (verifier(), receipt(1, |_| ()));
    let (json, signature) = register(8);
    let (other, _) = register(0);
    assert!(verifier.replace_register(other.as_bytes(), &signature).is_err());
    verifier.replace_register(json.as_bytes(), &signature).unwrap();
    assert_eq!(code(&verifier, &jws, &demand(), TIME), "RCP_KEY_RANGE");
}

/// Whoever stole a key can write any instants: an approval that never ends is none.
#[test]
fn no_receipt_may_be_acted_on_for_longer_than_five_minutes() {
    let verifier = verifier();
    let lasting = |number, valid_for| {
        receipt_of(number, Content::Verification(approval()), Some(HOST), Some(valid_for))
    };
    let longest = lasting(1, VALID_FOR_MAX_MS);
    for (valid_for, at) in [(VALID_FOR_MAX_MS + 1, 0), (315_360_000_000, 86_400_000)] {
        let now = TIME.plus_millis(at);
        let jws = lasting(2, valid_for);
        let refusal = verifier.verify(&jws, &Salt::new(SALT), &demand(), now).unwrap_err();
        assert_eq!((refusal.code(), c::number(&refusal)), ("HOST_TOO_LONG", 15));
    }
    let end = TIME.plus_millis(VALID_FOR_MAX_MS);
    assert_eq!(code(&verifier, &longest, &demand(), end.plus_millis(1)), "HOST_EXPIRED");
    assert_eq!(code(&verifier, &longest, &demand(), end), "OK");
}

#[test]
fn what_a_revoked_key_signed_is_refused_and_what_a_retired_one_signed_is_not() {
    let (verifier, jws) = (verifier(), receipt(1, |_| ()));
    let install = |status| {
        let (json, signature) = register_of(0, Some(7), status);
        verifier.replace_register(json.as_bytes(), &signature).unwrap();
    };
    install(KeyStatus::Revoked);
    let refusal = verifier.verify(&jws, &Salt::new(SALT), &demand(), TIME).unwrap_err();
    assert_eq!((refusal.code(), c::number(&refusal)), ("HOST_REVOKED", 16));
    // It has used nothing up.
    install(KeyStatus::Retired);
    assert_eq!(code(&verifier, &jws, &demand(), TIME), "OK");
}

#[test]
fn of_many_calls_at_once_one_is_authorised() {
    let dir = tempfile::tempdir().unwrap();
    let table = FileTable::open(&dir.path().join("redeemed"), TIME).unwrap();
    let (verifier, jws) = (verifier_with(Box::new(table)), receipt(1, |_| ()));
    let start = Barrier::new(8);
    let codes: Vec<_> = thread::scope(|scope| {
        let call = || {
            start.wait();
            code(&verifier, &jws, &demand(), TIME)
        };
        let calls: Vec<_> = (0..8).map(|_| scope.spawn(call)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(codes.iter().filter(|code| **code == "OK").count(), 1);
    assert_eq!(codes.iter().filter(|code| **code == "HOST_REDEEMED").count(), 7);
}

#[test]
fn what_was_redeemed_survives_a_restart_and_is_forgotten_when_nobody_can_act_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("redeemed");
    let open = |now| FileTable::open(&path, now).map(|table| verifier_with(Box::new(table)));
    let jws = receipt(1, |_| ());
    let first = open(TIME).unwrap();
    assert_eq!(code(&first, &jws, &demand(), TIME), "OK");
    let busy = open(TIME).unwrap_err();
    assert!(matches!(busy, ReplayError::Write(_)), "two processes must not share it: {busy}");
    drop(first);
    assert_eq!(code(&open(TIME).unwrap(), &jws, &demand(), TIME), "HOST_REDEEMED");
    // A line that was not finished was never answered.
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{whole}0123")).unwrap();
    assert_eq!(code(&open(TIME).unwrap(), &jws, &demand(), TIME), "HOST_REDEEMED");
    assert_eq!(fs::read_to_string(&path).unwrap(), whole);
    // A day later it is forgotten; its own time has long been over.
    drop(open(TIME.plus_millis(90_000 + replay::KEPT_AFTER_MS)).unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), whole);
    drop(open(TIME.plus_millis(90_001 + replay::KEPT_AFTER_MS)).unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
}

#[test]
fn a_table_that_is_damaged_or_cannot_be_written_authorises_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("redeemed");
    for text in ["", "x\n", "tulga-redeemed-v1\nrubbish\n", "tulga-redeemed-v1\n00 1\n"] {
        fs::write(&path, text).unwrap();
        let refused = FileTable::open(&path, TIME).unwrap_err();
        assert!(matches!(refused, ReplayError::Damaged), "{text:?}: {refused}");
    }
    fs::remove_file(&path).unwrap();
    // On /dev/full each write fails, as on a full disk.
    if Path::new("/dev/full").exists() {
        let table = FileTable::open(&path, TIME).unwrap();
        table.write_to(Path::new("/dev/full"));
        let verifier = verifier_with(Box::new(table));
        assert_eq!(code(&verifier, &receipt(1, |_| ()), &demand(), TIME), "HOST_TABLE");
        assert_eq!(code(&verifier, &receipt(2, |_| ()), &demand(), TIME), "HOST_TABLE");
    }
}

/// What C hands over, kept alive.
struct FromC {
    keys: String,
    signature: CString,
    trust: CString,
    host: CString,
    error: [c_char; 128],
}

impl FromC {
    fn new() -> Self {
        let (keys, signature) = register(0);
        let text = |text: &str| CString::new(text).unwrap();
        Self {
            keys,
            signature: text(&signature),
            trust: text(&trust().to_string()),
            host: text(HOST),
            error: [1; 128],
        }
    }

    #[expect(unsafe_code, reason = "it is the C boundary that is tested")]
    fn make(&mut self, trust: *const c_char, out: *mut *mut HostVerifier) -> c_int {
        let (keys, error) = (self.keys.as_bytes(), self.error.as_mut_ptr());
        // SAFETY: every pointer is null or of a value that `self` keeps.
        unsafe {
            c::tulga_verifier_new(
                keys.as_ptr(),
                keys.len(),
                self.signature.as_ptr(),
                trust,
                self.host.as_ptr(),
                null(),
                TIME.get(),
                out,
                error,
                self.error.len(),
            )
        }
    }

    fn said(&self) -> String {
        let bytes: Vec<u8> = self.error.iter().map(|c| c.to_ne_bytes()[0]).collect();
        CStr::from_bytes_until_nul(&bytes).unwrap().to_str().unwrap().to_owned()
    }
}

#[test]
#[expect(unsafe_code, reason = "it is the C boundary that is tested")]
fn null_and_rubbish_from_c_are_arguments_that_are_refused() {
    let mut from_c = FromC::new();
    let (trust, mut verifier) = (from_c.trust.clone(), null_mut());
    assert_eq!(from_c.make(trust.as_ptr(), null_mut()), 1);
    assert_eq!(from_c.make(null(), &raw mut verifier), 1);
    assert!(verifier.is_null() && from_c.said().contains("trust"), "{}", from_c.said());
    assert_eq!(from_c.make(CString::new([0xff]).unwrap().as_ptr(), &raw mut verifier), 1);
    let other = CString::new("0".repeat(64)).unwrap();
    assert_eq!(from_c.make(other.as_ptr(), &raw mut verifier), 2);
    assert!(from_c.said().contains("trusted fingerprint"), "{}", from_c.said());
    assert_eq!(from_c.make(trust.as_ptr(), &raw mut verifier), 0);
    assert!(!verifier.is_null() && from_c.said().is_empty());
    let (jws, salt) = (receipt(1, |_| ()), SALT);
    // SAFETY: the verifier is the one just made, the others are null or as long as they are said to be.
    unsafe {
        let no_demand = c::tulga_verifier_verify(
            verifier,
            jws.as_ptr(),
            jws.len(),
            salt.as_ptr(),
            null(),
            0,
            null_mut(),
            null_mut(),
            0,
        );
        assert_eq!(no_demand, 1);
        let no_register =
            c::tulga_verifier_replace_register(verifier, null(), 0, null(), null_mut(), 0);
        assert_eq!(no_register, 1);
        c::tulga_verifier_free(verifier);
        c::tulga_verifier_free(null_mut());
    }
}
