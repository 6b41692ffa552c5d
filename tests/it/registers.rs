//! Registers through the API: import, refusal of bad rows, hits and misses, versions in receipts.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tempfile::TempDir;
use tokio_stream::StreamExt as _;
use tonic::Status;
use tonic::transport::Channel;
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::RegisterKind as Kind;
use tulga::proto::customer_reference::Reference;
use tulga::proto::import_register_request::Part;
use tulga::proto::import_register_response::Answer;
use tulga::proto::register_service_client::RegisterServiceClient;

use crate::rules::{Ask, Bank, CARD, IIN, altered, bind, said};
use crate::site::{consent, field, reason};

pub type Desk = RegisterServiceClient<Channel>;

/// The pack `dev` with more facts and rules.
pub fn dev_with(facts: &str, rules: &str) -> TempDir {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/dev");
    let dir = tempfile::tempdir().unwrap();
    for folder in ["", "tests"] {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
        for entry in fs::read_dir(from.join(folder)).unwrap() {
            let entry = entry.unwrap();
            if entry.path().is_file() {
                let to = dir.path().join(folder).join(entry.file_name());
                fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    let schema = dir.path().join("schema.cedarschema");
    let text = fs::read_to_string(&schema).unwrap();
    let more = text.replace("  amount_minor: Long,\n", &format!("  amount_minor: Long,\n{facts}"));
    assert_ne!(text, more);
    fs::write(schema, more).unwrap();
    fs::write(dir.path().join("90-more.cedar"), rules).unwrap();
    dir
}

fn asks_every_register() -> TempDir {
    let rules: String = [
        "hotlist_person",
        "hotlist_card",
        "hotlist_account",
        "hotlist_device",
        "dropper",
        "unlicensed_platform",
    ]
    .map(|name| {
        format!(
            "@id(\"t.{name}\") @outcome(\"DENIED\") @reason(\"POL_NOT_PERMITTED\")
            forbid (principal, action, resource)
            when {{ context.registers.contains(\"{name}\") }};\n"
        )
    })
    .concat();
    dev_with("  registers: Set<String>,\n", &rules)
}

pub fn row(line: u64, value: &str) -> proto::RegisterRow {
    proto::RegisterRow { line, value: value.into(), ..proto::RegisterRow::default() }
}

/// What an import answers: the bad rows, and the end.
pub async fn import(
    desk: &mut Desk,
    begin: proto::RegisterImport,
    rows: Vec<proto::RegisterRow>,
) -> (Vec<proto::BadRegisterRow>, Result<proto::RegisterDiff, Status>) {
    let parts = [Part::Begin(begin), Part::Rows(proto::RegisterRows { rows })];
    send(desk, parts.into()).await
}

async fn send(
    desk: &mut Desk,
    parts: Vec<Part>,
) -> (Vec<proto::BadRegisterRow>, Result<proto::RegisterDiff, Status>) {
    let parts = parts.into_iter().map(|part| proto::ImportRegisterRequest { part: Some(part) });
    let answers = desk.import_register(tokio_stream::iter(parts.collect::<Vec<_>>())).await;
    let mut answers = answers.unwrap().into_inner();
    let mut bad = Vec::new();
    while let Some(answer) = answers.next().await {
        match answer.map(|answer| answer.answer.unwrap()) {
            Ok(Answer::BadRow(row)) => bad.push(row),
            Ok(Answer::Diff(diff)) => return (bad, Ok(diff)),
            Err(status) => return (bad, Err(status)),
        }
    }
    panic!("the import ended without an answer");
}

pub fn of(kind: Kind) -> proto::RegisterImport {
    proto::RegisterImport { kind: kind.into(), dry_run: false, skip_bad_rows: false }
}

/// Replaces a register.
pub async fn replace(desk: &mut Desk, kind: Kind, values: &[&str]) -> proto::RegisterVersion {
    let rows = values.iter().map(|value| row(1, value)).collect();
    let (bad, diff) = import(desk, of(kind), rows).await;
    assert!(bad.is_empty());
    diff.unwrap().version.unwrap()
}

fn receipt(decision: &proto::Decision) -> serde_json::Value {
    let jws = std::str::from_utf8(&decision.receipt_jws).unwrap();
    let payload = jws.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

fn withdrawal() -> Ask {
    Ask::new(proto::Operation::Withdrawal, 100, "KZT")
}

use proto::Outcome::{Approved, ApprovedCapped, Denied};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_11_and_ru_03_each_register_hits_what_it_lists_and_receipts_name_the_versions() {
    let pack = asks_every_register();
    let mut bank = Bank::new_by(pack.path(), 0).await;
    let mut desk = RegisterServiceClient::new(bank.site.staff(Role::Admin).await);
    let none = bank.decide(withdrawal(), "none").await;
    assert!(receipt(&none)["policy"].get("registers").is_none(), "nothing was imported");
    for (kind, hit, miss) in [
        (Kind::HotlistPerson, IIN, "000000300029"),
        (Kind::HotlistCard, CARD, "card-token-2"),
        (Kind::HotlistAccount, "account-token-1", CARD),
        (Kind::HotlistDevice, "ATM-1", "ATM-2"),
        (Kind::Dropper, IIN, "000000300029"),
        (Kind::UnlicensedPlatform, "account-token-1", "account-token-2"),
    ] {
        let name = kind.as_str_name();
        let version = replace(&mut desk, kind, &[hit, miss]).await;
        let denied = bank.decide(withdrawal(), &format!("hit-{name}")).await;
        assert_eq!(said(&denied), (Denied, vec!["POL_NOT_PERMITTED"]), "{name}");
        let named = receipt(&denied)["policy"]["registers"].clone();
        let of_this: Vec<_> = named.as_array().unwrap().iter().collect();
        assert!(
            of_this.iter().any(|r| r["name"] == version.name && r["hash"] == version.hash),
            "{named}"
        );
        let sorted = of_this.iter().map(|r| r["name"].as_str().unwrap()).is_sorted();
        assert!(sorted, "{named}");
        let next = replace(&mut desk, kind, &[miss]).await;
        assert_eq!((next.version, next.count), (2, 1));
        assert_ne!(next.hash, version.hash);
        let approved = bank.decide(withdrawal(), &format!("miss-{name}")).await;
        assert_eq!(said(&approved), (Approved, vec![]), "{name}");
        let text = String::from_utf8(denied.receipt_jws).unwrap();
        assert!(!text.contains(hit));
    }
    let listed = desk.list_registers(proto::ListRegistersRequest {}).await.unwrap().into_inner();
    assert_eq!(listed.registers.len(), 6);
    drop(desk);
    bank.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_tells_what_changes_and_what_cannot_be_taken() {
    let pack = asks_every_register();
    let bank = Bank::new_by(pack.path(), 0).await;
    let mut desk = RegisterServiceClient::new(bank.site.staff(Role::Admin).await);
    let ask = proto::GetRegisterRequest { kind: Kind::Dropper.into() };
    assert_eq!(reason(&desk.get_register(ask).await.unwrap_err()), "REQ_NOT_FOUND");
    let first = replace(&mut desk, Kind::Dropper, &[IIN, "000000300029"]).await;
    // The same content in another order has the same hash.
    let again = replace(&mut desk, Kind::Dropper, &["000000300029", IIN]).await;
    assert_eq!((again.version, &again.hash), (2, &first.hash));

    let until = proto::RegisterRow {
        valid_until: "2027-01-01T00:00:00Z".into(),
        note: "AFC-7".into(),
        ..row(3, IIN)
    };
    let rows = || vec![until.clone(), row(4, "900101300007")];
    let dry = proto::RegisterImport { dry_run: true, ..of(Kind::Dropper) };
    let (bad, diff) = import(&mut desk, dry, rows()).await;
    let diff = diff.unwrap();
    assert!(bad.is_empty() && diff.version.is_none());
    assert_eq!((diff.added, diff.removed, diff.unchanged, diff.changed), (1, 1, 0, 1));
    let held = desk.get_register(ask).await.unwrap().into_inner();
    assert_eq!(held, again, "a dry run changes nothing");

    let wrong = || {
        let note = |note: &str| proto::RegisterRow { note: note.into(), ..row(7, "900101300811") };
        let date = proto::RegisterRow { valid_until: "soon".into(), ..row(8, "900101300811") };
        let long = "1".repeat(200);
        let bad =
            [row(5, "900101300008"), row(6, ""), note(IIN), date, row(9, IIN), row(10, &long)];
        [rows(), bad.into()].concat()
    };
    let (bad, refused) = import(&mut desk, of(Kind::Dropper), wrong()).await;
    let told: Vec<_> = bad.iter().map(|bad| (bad.line, bad.field.as_str())).collect();
    let expected =
        [(5, "value"), (6, "value"), (7, "note"), (8, "valid_until"), (9, "value"), (10, "value")];
    assert_eq!(told, expected);
    assert!(bad.iter().all(|bad| !bad.problem.contains(IIN)), "{bad:?}");
    assert_eq!(reason(&refused.unwrap_err()), "REQ_STATE");
    assert_eq!(desk.get_register(ask).await.unwrap().into_inner(), again);

    let skip = proto::RegisterImport { skip_bad_rows: true, ..of(Kind::Dropper) };
    let (_, diff) = import(&mut desk, skip, wrong()).await;
    let diff = diff.unwrap();
    assert_eq!((diff.added, diff.removed, diff.changed, diff.bad_rows), (1, 1, 1, 6));
    let version = diff.version.unwrap();
    assert_eq!((version.version, version.count), (3, 2));
    drop(desk);
    bank.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listed_person_counts_until_their_row_ends() {
    let pack = asks_every_register();
    let mut bank = Bank::new_by(pack.path(), 0).await;
    let mut desk = RegisterServiceClient::new(bank.site.staff(Role::Admin).await);
    let until = tulga::clock::Clock::now(&*bank.clock).plus_millis(60_000);
    let listed = proto::RegisterRow { valid_until: until.rfc3339(), ..row(2, IIN) };
    import(&mut desk, of(Kind::Dropper), vec![listed]).await.1.unwrap();
    bank.clock.advance_millis(59_999);
    bank.expect(withdrawal(), "T1", Denied, &["POL_NOT_PERMITTED"]).await;
    bank.clock.advance_millis(1);
    bank.expect(withdrawal(), "T2", Approved, &[]).await;
    drop(desk);
    bank.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_wrong_part_of_an_import_is_named() {
    let pack = asks_every_register();
    let bank = Bank::new_by(pack.path(), 0).await;
    let mut desk = RegisterServiceClient::new(bank.site.staff(Role::Admin).await);
    let rows = |count| Part::Rows(proto::RegisterRows { rows: vec![row(1, IIN); count] });
    let begin = |kind: i32| Part::Begin(proto::RegisterImport { kind, ..of(Kind::Dropper) });
    for (parts, path) in [
        (vec![], "begin"),
        (vec![rows(1)], "begin"),
        (vec![begin(0)], "begin.kind"),
        (vec![begin(99)], "begin.kind"),
        (vec![begin(5), begin(5)], "begin"),
        (vec![begin(5), rows(1_001)], "rows"),
    ] {
        let status = send(&mut desk, parts).await.1.unwrap_err();
        assert_eq!((reason(&status).as_str(), field(&status).as_str()), ("REQ_INVALID", path));
    }
    let ask = proto::GetRegisterRequest { kind: 0 };
    assert_eq!(field(&desk.get_register(ask).await.unwrap_err()), "kind");
    drop(desk);
    bank.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ru_03_somebody_in_the_register_takes_100_000_roubles_a_month() {
    let mut bank = Bank::by("ru-cbr-2025-09").await;
    let mut desk = RegisterServiceClient::new(bank.site.staff(Role::Admin).await);
    let ask = |amount_minor| Ask::new(proto::Operation::Withdrawal, amount_minor, "RUB");
    bank.expect(ask(2_000_000), "T0", Approved, &[]).await;
    replace(&mut desk, Kind::Dropper, &[IIN]).await;
    // What was taken before counts; just under, at and over 100,000 roubles.
    let under = bank.decide(ask(7_999_999), "T1").await;
    assert_eq!(said(&under), (ApprovedCapped, vec!["LIM_MONTHLY_CAP"]));
    assert_eq!(under.cap.unwrap().amount_minor, 8_000_000);
    let at = bank.decide(ask(2), "T2").await;
    assert_eq!((said(&at).0, at.cap.as_ref().unwrap().amount_minor), (ApprovedCapped, 1));
    bank.expect(ask(1), "T3", Denied, &["LIM_MONTHLY_CAP"]).await;
    let deposit = Ask { operation: proto::Operation::Deposit, ..ask(1) };
    bank.expect(deposit, "T4", Approved, &[]).await;
    replace(&mut desk, Kind::Dropper, &["000000300029"]).await;
    bank.expect(ask(1), "T5", Approved, &[]).await;
    drop(desk);
    bank.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_11_an_unlicensed_platform_where_the_bank_switched_the_rule_on() {
    for (state, outcome) in [("in_force = false", Approved), ("in_force = true", Denied)] {
        let pack = altered("kz-2026", "pack.toml", "in_force = false", state);
        // Its cases say that the rule is off; two that hold all the same are enough here.
        let cases = pack.path().join("tests/kz-2026.toml");
        let text = fs::read_to_string(&cases).unwrap();
        let two = text.split("[[case]]").take(2).collect::<Vec<_>>().join("[[case]]");
        fs::write(cases, two).unwrap();
        let mut bank = Bank::new_by(pack.path(), 0).await;
        let mut desk = RegisterServiceClient::new(bank.site.staff(Role::Admin).await);
        replace(&mut desk, Kind::UnlicensedPlatform, &["account-token-1"]).await;
        let deposit = |account: &str| Ask {
            account: account.into(),
            ..Ask::new(proto::Operation::Deposit, 100, "KZT")
        };
        assert_eq!(bank.decide(deposit("account-token-1"), "T1").await.outcome(), outcome);
        assert_eq!(bank.decide(deposit("account-token-2"), "T2").await.outcome(), Approved);
        drop(desk);
        bank.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_whose_number_is_listed_is_refused() {
    const STRANGER: &str = "000000300029";
    let mut bank = Bank::by("kz-2026").await;
    bind(&bank, proto::TokenKind::Account, "owner-account").await;
    let mut desk = RegisterServiceClient::new(bank.site.staff(Role::Admin).await);
    let deposit = || Ask {
        account: "owner-account".into(),
        reference: Reference::Iin(STRANGER.into()),
        face: "biden.jpg",
        consent: Some(consent()),
        ..Ask::new(proto::Operation::DepositThirdParty, 1_000, "KZT")
    };
    replace(&mut desk, Kind::HotlistPerson, &[STRANGER]).await;
    bank.expect(deposit(), "T1", Denied, &["POL_NOT_PERMITTED"]).await;
    replace(&mut desk, Kind::HotlistPerson, &["000000300030"]).await;
    bank.expect(deposit(), "T2", Approved, &[]).await;
    // The account's owner counts as well as who pays in.
    replace(&mut desk, Kind::HotlistPerson, &[IIN]).await;
    bank.expect(deposit(), "T3", Denied, &["POL_NOT_PERMITTED"]).await;
    drop(desk);
    bank.finish().await;
}
