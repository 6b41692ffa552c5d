//! Reports to the regulators through the API: a known day, exactly what is reported of it, and what
//! proves it (KZ-12, KZ-14).

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tonic::Code;
use tonic::transport::Channel;
use tulga::app::{DataDir, trust_fingerprint};
use tulga::crypto::sha256;
use tulga::domain::decision::SignCode;
use tulga::domain::id::{Attempt, HostTransactionId, TerminalId};
use tulga::domain::money::Currency;
use tulga::domain::reason::Reason;
use tulga::domain::time::{BusinessDate, UnixMillis};
use tulga::domain::transaction::{DecisionKey, Operation};
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::audit_service_client::AuditServiceClient;
use tulga::proto::receipt_service_client::ReceiptServiceClient;
use tulga::proto::report_service_client::ReportServiceClient;
use tulga::proto::verification_service_client::VerificationServiceClient;
use tulga::report::{Seal, SealError};
use tulga::store::sql::SqliteStore;
use tulga::store::{Store as _, VerificationRow};

use crate::site::{
    SetClock, Site, begin, demo, dev_pack_with, field, payload, reason, taken, verify,
};

const IIN: &str = "000000300017";
const CARD: &str = "card-token-1";

/// An approval and a hold that are suspicious, each by its sign.
const SIGNS: &str = r#"
@id("test.sign.approved") @sign("1035")
permit (principal, action, resource) when {
  context.customer == "active" && context.amount_minor == 3000000
};
@id("test.sign.held") @sign("1040") @outcome("HELD") @reason("POL_NOT_PERMITTED") @hold_hours("120")
forbid (principal, action, resource) when { context.amount_minor == 4000000 };
"#;

type Terminal = VerificationServiceClient<Channel>;

struct Ask {
    id: &'static str,
    attempt: u32,
    operation: proto::Operation,
    amount_minor: i64,
    image: Bytes,
}

impl Ask {
    fn withdrawal(id: &'static str, amount_minor: i64) -> Self {
        let operation = proto::Operation::Withdrawal;
        Self { id, attempt: 1, operation, amount_minor, image: demo("obama2.jpg") }
    }

    async fn decided(self, terminal: &mut Terminal) -> proto::Decision {
        let mut request = begin(self.id, CARD);
        let transaction = request.transaction.as_mut().unwrap();
        transaction.operation = self.operation.into();
        transaction.amount_minor = self.amount_minor;
        let opened = terminal.begin_capture(request).await.unwrap().into_inner();
        let asked = verify(self.id, self.attempt, &opened.challenge, self.image);
        terminal.verify(asked).await.unwrap().into_inner()
    }
}

/// A wall, without anybody before it.
fn wall() -> Bytes {
    let mut png = std::io::Cursor::new(Vec::new());
    let grey = image::GrayImage::from_pixel(640, 480, image::Luma([150]));
    grey.write_to(&mut png, image::ImageFormat::Png).unwrap();
    png.into_inner().into()
}

/// The day of 21 November 2026 in Almaty, and the first moment of the next. Its suspicious decisions.
async fn known_day(site: &Site, clock: &SetClock) -> [proto::Decision; 3] {
    site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    let mut one = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let mut two = VerificationServiceClient::new(site.terminal("ATM-2").await);
    let approved = Ask::withdrawal("T1", 3_000_000).decided(&mut one).await;
    assert_eq!(approved.outcome(), proto::Outcome::Approved);
    one.report_outcome(taken("T1", 3_000_000)).await.unwrap();
    clock.set("2026-11-21T03:00:00.000Z");
    let held = Ask::withdrawal("T2", 4_000_000).decided(&mut one).await;
    assert_eq!(held.outcome(), proto::Outcome::Held);
    let wrong = Ask { image: demo("biden.jpg"), ..Ask::withdrawal("T3", 1_000_000) };
    assert_eq!(wrong.decided(&mut one).await.outcome(), proto::Outcome::Denied);
    let plain = Ask { attempt: 2, ..Ask::withdrawal("T3", 1_000_000) }.decided(&mut one).await;
    assert_eq!(plain.outcome(), proto::Outcome::Approved);
    // The customer is told nothing of a sign.
    assert_eq!(approved.reasons, plain.reasons);
    assert_eq!(approved.next_screen, plain.next_screen);
    let deposit = proto::Operation::Deposit;
    let back = Ask { operation: deposit, ..Ask::withdrawal("T4", 500_000) };
    let back = back.decided(&mut two).await;
    assert_eq!(back.outcome(), proto::Outcome::Approved);
    let mut host = ReceiptServiceClient::new(site.staff(Role::Host).await);
    let reversal = proto::ReverseRequest {
        receipt_jws: back.receipt_jws,
        host_transaction_id: "T4".into(),
        business_date: "2026-11-21".into(),
        attempt: 1,
        moved_minor: 0,
        currency: "KZT".into(),
    };
    host.reverse(reversal).await.unwrap();
    let nobody = Ask { image: wall(), ..Ask::withdrawal("T5", 500_000) };
    assert_eq!(nobody.decided(&mut two).await.outcome(), proto::Outcome::Inconclusive);
    clock.set("2026-11-21T18:59:59.999Z");
    let last = Ask::withdrawal("T6", 3_000_000).decided(&mut one).await;
    clock.set("2026-11-21T19:00:00.000Z");
    let tomorrow = Ask::withdrawal("T7", 3_000_000).decided(&mut one).await;
    assert_eq!(tomorrow.outcome(), proto::Outcome::Approved);
    clock.set("2026-11-22T05:00:00.000Z");
    [approved, held, last]
}

async fn site_with_signs(clock: &Arc<SetClock>) -> (Site, tempfile::TempDir) {
    let pack = dev_pack_with("", SIGNS);
    let more = format!(
        "policy_dir = '{}'\n[rate]\nper_terminal_per_minute = 10000\n",
        pack.path().display()
    );
    (Site::at(&more, Arc::clone(clock) as _).await, pack)
}

struct Report {
    text: String,
    seal: proto::ReportSeal,
}

fn of_day(kind: proto::ReportKind, format: proto::ReportFormat) -> proto::MakeReportRequest {
    proto::MakeReportRequest {
        kind: kind.into(),
        format: format.into(),
        from: "2026-11-21".into(),
        to: "2026-11-21".into(),
    }
}

async fn made(site: &Site, role: Role, request: proto::MakeReportRequest) -> Report {
    let mut client = ReportServiceClient::new(site.staff(role).await);
    let mut stream = client.make_report(request).await.unwrap().into_inner();
    let mut content = Vec::new();
    loop {
        let piece = stream.message().await.unwrap().expect("a report ends with its seal");
        content.extend(piece.content);
        if let Some(seal) = piece.seal {
            assert!(stream.message().await.unwrap().is_none());
            assert_eq!(seal.bytes, u64::try_from(content.len()).unwrap());
            assert_eq!(seal.sha256, sha256(&content).as_bytes());
            return Report { text: String::from_utf8(content).unwrap(), seal };
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_12_and_kz_14_a_known_day_gives_exactly_its_reports() {
    use proto::{ReportFormat as Format, ReportKind as Kind};
    let clock = SetClock::at("2026-11-21T02:00:00.000Z");
    let (site, _pack) = site_with_signs(&clock).await;
    let suspicious = known_day(&site, &clock).await;

    let [one, two, last] = suspicious.each_ref().map(|decision| {
        let receipt = payload(&decision.receipt_jws);
        let text = receipt.to_string() + &format!("{:?}", decision.reasons);
        assert!(
            !text.contains("1035") && !text.contains("1040") && !text.contains("sign"),
            "{text}"
        );
        let subject = receipt["subject"].as_str().unwrap().to_owned();
        (decision.position.as_ref().unwrap().index, subject)
    });
    let report = made(&site, Role::Oversight, of_day(Kind::Suspicious, Format::Csv)).await;
    let expected = [
        "time,terminal,operation,amount_minor,currency,outcome,approved_minor,signs,receipt_index,subject"
            .to_owned(),
        format!(
            "2026-11-21T02:00:00.000Z,ATM-1,cash_withdrawal,3000000,KZT,APPROVED,3000000,1035,{},{}",
            one.0, one.1
        ),
        format!(
            "2026-11-21T03:00:00.000Z,ATM-1,cash_withdrawal,4000000,KZT,HELD,,1040,{},{}",
            two.0, two.1
        ),
        format!(
            "2026-11-21T18:59:59.999Z,ATM-1,cash_withdrawal,3000000,KZT,APPROVED,3000000,1035,{},{}",
            last.0, last.1
        ),
        String::new(),
    ];
    assert_eq!(report.text, expected.join("\r\n"));
    assert_eq!(report.seal.rows, 3);

    let totals = made(&site, Role::Auditor, of_day(Kind::Totals, Format::Csv)).await;
    assert_eq!(
        totals.text,
        "day,terminal,operation,currency,approved,approved_minor,moved,moved_minor\r\n\
         2026-11-21,ATM-1,cash_withdrawal,KZT,3,7000000,3,7000000\r\n\
         2026-11-21,ATM-2,cash_deposit,KZT,1,500000,0,0\r\n"
    );
    let failures = made(&site, Role::Oversight, of_day(Kind::Failures, Format::Csv)).await;
    assert_eq!(
        failures.text,
        "day,terminal,measure,reason,count,of,rate\r\n\
         2026-11-21,ATM-1,attempts,,5,5,1.0000\r\n\
         2026-11-21,ATM-1,approved,,3,5,0.6000\r\n\
         2026-11-21,ATM-1,failure_to_acquire,,0,5,0.0000\r\n\
         2026-11-21,ATM-1,approved_after_mismatch,,1,3,0.3333\r\n\
         2026-11-21,ATM-1,exception,,0,5,0.0000\r\n\
         2026-11-21,ATM-1,denied,MAT_NO_MATCH,1,5,0.2000\r\n\
         2026-11-21,ATM-1,held,POL_NOT_PERMITTED,1,5,0.2000\r\n\
         2026-11-21,ATM-2,attempts,,2,2,1.0000\r\n\
         2026-11-21,ATM-2,approved,,1,2,0.5000\r\n\
         2026-11-21,ATM-2,failure_to_acquire,,1,2,0.5000\r\n\
         2026-11-21,ATM-2,approved_after_mismatch,,0,1,0.0000\r\n\
         2026-11-21,ATM-2,exception,,0,2,0.0000\r\n\
         2026-11-21,ATM-2,inconclusive,CAP_NO_FACE,1,2,0.5000\r\n"
    );
    formats_agree(&site, &report.text).await;
    the_auditor_sees_the_signs(&site, two.0).await;
    seals_prove(&site, &totals).await;
    commands_write_and_verify(&site, &totals).await;
    bad_input(&site).await;
    site.finish().await;
}

/// Python reads the same rows from each format.
async fn formats_agree(site: &Site, csv: &str) {
    use proto::{ReportFormat as Format, ReportKind as Kind};
    const SCRIPT: &str = "
import csv, io, json, sys, xml.etree.ElementTree as tree
of_csv, of_json, of_xml = json.load(sys.stdin)
rows = list(csv.DictReader(io.StringIO(of_csv, newline=''), strict=True))
plain = lambda row: {k: '' if v is None else str(v) for k, v in row.items()}
assert [plain(r) for r in json.loads(of_json)['rows']] == rows, 'json'
root = tree.fromstring(of_xml.encode())
assert root.tag == 'report' and root.get('from') == '2026-11-21', 'root'
assert [{c.tag: c.text or '' for c in r} for r in root] == rows, 'xml'
print(len(rows))
";
    let json = made(site, Role::Oversight, of_day(Kind::Suspicious, Format::Json)).await.text;
    let xml = made(site, Role::Oversight, of_day(Kind::Suspicious, Format::Xml)).await.text;
    let mut python = Command::new("python3")
        .args(["-c", SCRIPT])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("python3 is needed");
    let input = serde_json::to_vec(&[csv, &json, &xml]).unwrap();
    std::io::Write::write_all(&mut python.stdin.take().unwrap(), &input).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"3\n");
}

async fn the_auditor_sees_the_signs(site: &Site, index: u64) {
    let mut auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);
    let record = auditor
        .get_audit_record(proto::GetAuditRecordRequest {
            index,
            ..proto::GetAuditRecordRequest::default()
        })
        .await
        .unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record.into_inner().record).unwrap();
    assert_eq!(record["signs"], serde_json::json!(["1040"]));
}

/// The seal holds for exactly its report and its bank's keys; its making is in the ledger.
async fn seals_prove(site: &Site, report: &Report) {
    let trust = trust_fingerprint(&DataDir::at(site.data())).unwrap();
    let content = report.text.as_bytes();
    let length = report.seal.bytes;
    let seal = Seal::parse(&report.seal.seal).unwrap();
    let verified = seal.verify(&sha256(content), length, &trust).unwrap();
    assert_eq!((verified.header.kind.as_str(), verified.header.rows), ("totals", 2));
    assert_eq!(verified.header.since, "2026-11-20T19:00:00.000Z");
    assert_eq!(verified.header.until, "2026-11-21T19:00:00.000Z");
    assert_eq!(verified.made_by, "auditor/dev");
    let index = report.seal.position.as_ref().unwrap().index;
    assert_eq!(verified.index, index);
    let mut auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);
    let selector = Some(proto::get_receipt_request::Selector::Index(index));
    let entry = auditor
        .get_receipt(proto::GetReceiptRequest { selector, ..proto::GetReceiptRequest::default() })
        .await
        .unwrap();
    assert_eq!(entry.into_inner().receipt_jws, seal.receipt.as_bytes());

    let mut other = content.to_vec();
    other[0] ^= 1;
    let refused = seal.verify(&sha256(&other), length, &trust);
    assert!(matches!(refused, Err(SealError::OtherContent)));
    let mut forged = seal.clone();
    forged.header = forged.header.replace(&sha256(content).hex(), &sha256(&other).hex());
    let refused = forged.verify(&sha256(&other), length, &trust);
    assert!(matches!(refused, Err(SealError::OtherHeader)), "{refused:?}");
    let stranger = tulga::receipt::TrustFingerprint::parse(&"ab".repeat(32)).unwrap();
    assert!(matches!(seal.verify(&sha256(content), length, &stranger), Err(SealError::Keys(_))));
    // The receipt of another act is no seal.
    let selector = Some(proto::get_receipt_request::Selector::Index(0));
    let first = auditor
        .get_receipt(proto::GetReceiptRequest { selector, ..proto::GetReceiptRequest::default() })
        .await
        .unwrap();
    let mut swapped = seal.clone();
    swapped.receipt = String::from_utf8(first.into_inner().receipt_jws).unwrap();
    let refused = swapped.verify(&sha256(content), length, &trust);
    assert!(matches!(refused, Err(SealError::OtherAct)), "{refused:?}");
    assert!(matches!(Seal::parse(b"{}"), Err(SealError::Malformed)));
}

fn tulga(config: &Path, arguments: &[&str]) -> Output {
    let binary = env!("CARGO_BIN_EXE_tulga");
    Command::new(binary).arg("--config").arg(config).args(arguments).output().unwrap()
}

/// What a person at the command line gets.
async fn commands_write_and_verify(site: &Site, totals: &Report) {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("tulga.toml");
    let text = format!("[paths]\ndata_dir = '{}'\n", site.data().display());
    std::fs::write(&config, text).unwrap();
    let out: PathBuf = dir.path().join("totals.csv");
    let (file, gateway) = (out.to_str().unwrap().to_owned(), site.address().to_owned());
    let trust = trust_fingerprint(&DataDir::at(site.data())).unwrap().to_string();
    let expected = totals.text.clone();
    tokio::task::spawn_blocking(move || {
        let span = ["--from", "2026-11-21", "--to", "2026-11-21", "--gateway", &gateway];
        let make =
            |more: &[&str]| tulga(&config, &[&["report", "totals"], &span[..], more].concat());
        let output = make(&["--out", &file, "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let seen: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(seen["rows"], 2);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), expected);
        let verify = || tulga(&config, &["report", "verify", &file, "--trust", &trust, "--json"]);
        let good: serde_json::Value = serde_json::from_slice(&verify().stdout).unwrap();
        assert_eq!((&good["good"], &good["made_by"]), (&true.into(), &"oversight/dev".into()));
        assert_eq!(make(&["--out", &file]).status.code(), Some(64), "nothing is overwritten");
        assert_eq!(make(&[]).stdout, expected.as_bytes());
        std::fs::write(&file, expected.replace("7000000", "6000000")).unwrap();
        let bad = verify();
        assert_eq!(bad.status.code(), Some(1));
        let bad: serde_json::Value = serde_json::from_slice(&bad.stdout).unwrap();
        assert_eq!(bad["code"], "REPORT_OTHER_CONTENT");
        std::fs::remove_file(format!("{file}.seal")).unwrap();
        assert_eq!(verify().status.code(), Some(64));
        let early = ["report", "totals", "--from", "2026-11-22", "--to", "2026-11-21"];
        let refused = tulga(&config, &[&early[..], &["--gateway", &gateway]].concat());
        assert_eq!(refused.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("REQ_INVALID"));
        let plan = tulga(&config, &["retention", "plan", "--json", "--gateway", &gateway]);
        let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
        assert_eq!(plan["footage"]["missing"], 5);
        let run = tulga(&config, &["retention", "run", "--gateway", &gateway]);
        assert!(run.status.success());
        assert!(String::from_utf8_lossy(&run.stdout).starts_with("destroyed  0 captures"));
    })
    .await
    .unwrap();
}

async fn bad_input(site: &Site) {
    type Spoil = fn(&mut proto::MakeReportRequest);
    let cases: [(&str, Spoil); 9] = [
        ("kind", |r| r.kind = 0),
        ("kind", |r| r.kind = 9),
        ("format", |r| r.format = 0),
        ("format", |r| r.format = -1),
        ("from", |r| r.from.clear()),
        ("to", |r| r.to = "21.11.2026".into()),
        ("to", |r| r.to = "2026-11-20".into()),
        ("to", |r| r.to = "2026-11-23".into()),
        ("to", |r| r.from = "2016-11-01".into()),
    ];
    let mut client = ReportServiceClient::new(site.staff(Role::Oversight).await);
    for (path, spoil) in cases {
        let mut request = of_day(proto::ReportKind::Totals, proto::ReportFormat::Csv);
        spoil(&mut request);
        let status = match client.make_report(request).await {
            Err(status) => status,
            Ok(stream) => stream.into_inner().message().await.unwrap_err(),
        };
        assert_eq!(
            (status.code(), reason(&status).as_str(), field(&status).as_str()),
            (Code::InvalidArgument, "REQ_INVALID", path)
        );
    }
}

/// A row of one of many decisions at one of a hundred terminals, seconds apart.
fn row(number: u32, from: UnixMillis) -> VerificationRow {
    let terminal = format!("ATM-{}", number % 100);
    let is_approved = !number.is_multiple_of(10);
    let outcome = if is_approved { "APPROVED" } else { "DENIED" };
    VerificationRow {
        index: 1_000_000 + u64::from(number),
        at: from.plus_millis(i64::from(number) * 800),
        key: DecisionKey {
            terminal: TerminalId::try_from(terminal.as_str()).unwrap(),
            business_date: BusinessDate::try_from("2026-11-21").unwrap(),
            host_id: HostTransactionId::try_from(format!("M{number}").as_str()).unwrap(),
            attempt: Attempt::try_from(1).unwrap(),
        },
        operation: Operation::CashWithdrawal,
        amount_minor: 5_000_000,
        approved_minor: is_approved.then_some(5_000_000),
        currency: Currency::try_from("KZT").unwrap(),
        outcome: outcome.into(),
        reasons: if is_approved { vec![] } else { vec![Reason::MatNoMatch] },
        signs: vec![SignCode::try_from("1035").unwrap()],
        subject: "pseudonym".into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_decisions_are_reported_in_seconds() {
    use proto::{ReportFormat as Format, ReportKind as Kind};
    const DECISIONS: u32 = 100_000;
    let clock = SetClock::at("2026-11-22T05:00:00.000Z");
    let site = Site::at("", Arc::clone(&clock) as _).await;
    let store = SqliteStore::open(&site.data().join("tulga.sqlite")).await.unwrap();
    let from = UnixMillis::parse_rfc3339("2026-11-20T19:00:00.000Z").unwrap();
    let mut unit = store.begin().await.unwrap();
    for number in 0..DECISIONS {
        unit.insert_verification(&row(number, from)).await.unwrap();
    }
    unit.commit().await.unwrap();
    store.close().await;
    for (kind, rows) in [(Kind::Suspicious, 100_000), (Kind::Totals, 90), (Kind::Failures, 510)] {
        let begun = Instant::now();
        let report = made(&site, Role::Oversight, of_day(kind, Format::Csv)).await;
        let took = begun.elapsed();
        println!("{} of {DECISIONS} decisions: {took:?}", kind.as_str_name());
        assert_eq!(report.seal.rows, rows);
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
    site.finish().await;
}
