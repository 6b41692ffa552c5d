//! Kill −9 in a burst of verifications: every receipt that a client holds is in the ledger, and what
//! was counted stays counted.

mod acts;
mod agreed;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tonic::transport::Channel;
use tulga::app::trust_fingerprint;
use tulga::audit::{Options, find_receipt, verify_export};
use tulga::capture::{DecodedImage, encode_png};
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::receipt_service_client::ReceiptServiceClient;
use tulga::proto::verification_service_client::VerificationServiceClient;

use crate::process::{Gateway, Home, photograph};
use crate::site::{begin, dev_pack_with, verify};

/// By default, and with `TULGA_FAULTS=full`.
const KILLS: (u32, u32) = (20, 100);
const CLIENTS: u32 = 4;
const TERMINAL: &str = "ATM-CRASH";
const CARD: &str = "card-token-1";
const IIN: &str = "000000300017";

/// Index to exact bytes of every receipt that came back.
type Held = Arc<Mutex<BTreeMap<u64, Vec<u8>>>>;

/// Calls that were sent and not answered when the gateway was killed.
type Unanswered = Arc<Mutex<Vec<proto::VerifyRequest>>>;

type Terminal = VerificationServiceClient<Channel>;

#[test]
fn every_receipt_that_a_client_holds_survives_every_kill() {
    let is_full = std::env::var_os("TULGA_FAULTS").is_some_and(|it| it == "full");
    let kills = if is_full { KILLS.1 } else { KILLS.0 };
    let home = Home::new();
    let _pack = forbearing(&home);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (held, unanswered) = (Held::default(), Unanswered::default());
    let mut gateway = home.serve();
    gateway.tulga_ok(&home, &["terminal", "register", TERMINAL]);
    enroll(&home, &gateway);
    let paid = runtime.block_on(approve_and_redeem(&home, &gateway, &held));
    let spent = runtime.block_on(two_wrong_tries(&home, &gateway, &held));
    for kill in 0..kills {
        runtime.block_on(burst(&home, &mut gateway, kill, &held, &unanswered));
        gateway = home.serve();
        runtime.block_on(async {
            repeat_the_unanswered(&home, &gateway, &held, &unanswered).await;
        });
    }
    runtime.block_on(async {
        assert_eq!(paid.redeem(&home, &gateway).await, paid.redeemed, "redeemed once, for ever");
        let mut terminal = connect(&home, &gateway).await;
        let opened = terminal.begin_capture(begin(&spent, CARD)).await.unwrap().into_inner();
        assert_eq!(opened.attempts_left, 1, "two of three tries were used before the kills");
        let again = terminal.verify(paid.asked.clone()).await.unwrap().into_inner();
        assert_eq!(again, paid.decision, "the same bytes after every kill");
    });
    let export = home.path().join("export");
    gateway.tulga_ok(&home, &["audit", "export", export.to_str().unwrap()]);
    let held = held.lock().unwrap();
    assert!(held.len() >= usize::try_from(3 * kills).unwrap(), "only {} receipts", held.len());
    for (index, jws) in &*held {
        let found = find_receipt(&export, *index).unwrap().map(String::into_bytes);
        assert_eq!(found.as_ref(), Some(jws), "receipt {index}");
    }
    let trust = trust_fingerprint(&home.data()).unwrap();
    let report = verify_export(&export, Some(&trust), &Options::default(), &mut |_| ()).unwrap();
    assert!(report.is_good(), "{:?}", report.findings);
}

/// Rules by which many tries may be lost: a kill leaves those that are under way debited, as it must.
fn forbearing(home: &Home) -> tempfile::TempDir {
    let pack = dev_pack_with("", "");
    let manifest = pack.path().join("pack.toml");
    let tries = "\n[bars.tries]\ndelay_after_failures = 100\nlock_after_failures = 1000\n\
                 terminal_failures_max = 100000\n";
    let text = std::fs::read_to_string(&manifest).unwrap() + tries;
    std::fs::write(manifest, text).unwrap();
    let config = home.path().join("tulga.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let paths = format!("[paths]\npolicy_dir = '{}'\n", pack.path().display());
    std::fs::write(config, text.replacen("[paths]\n", &paths, 1)).unwrap();
    pack
}

fn enroll(home: &Home, gateway: &Gateway) {
    let pictures = ["obama.jpg", "obama3.jpg"].map(photograph);
    let mut arguments = vec!["enroll"];
    arguments.extend(pictures.iter().map(|path| path.to_str().unwrap()));
    arguments.extend(["--iin", IIN, "--card", CARD]);
    arguments.extend(["--subject", "the customer", "--consent-ref", "archive/7"]);
    gateway.tulga_ok(home, &arguments);
}

async fn connect(home: &Home, gateway: &Gateway) -> Terminal {
    VerificationServiceClient::new(gateway.connect(home, Role::Terminal, TERMINAL).await)
}

/// An approval whose receipt the host has redeemed.
struct Paid {
    asked: proto::VerifyRequest,
    decision: proto::Decision,
    redeemed: proto::RedeemResponse,
}

impl Paid {
    /// Redeems it again: what the host is told.
    async fn redeem(&self, home: &Home, gateway: &Gateway) -> proto::RedeemResponse {
        redeem(home, gateway, &self.asked, &self.decision).await
    }
}

async fn redeem(
    home: &Home,
    gateway: &Gateway,
    asked: &proto::VerifyRequest,
    decision: &proto::Decision,
) -> proto::RedeemResponse {
    let transaction = begin(&asked.host_transaction_id, CARD).transaction.unwrap();
    let request = proto::RedeemRequest {
        receipt_jws: decision.receipt_jws.clone(),
        transaction_salt: decision.salts.as_ref().unwrap().transaction.clone(),
        host_transaction_id: asked.host_transaction_id.clone(),
        business_date: asked.business_date.clone(),
        attempt: asked.attempt,
        account: transaction.account,
        counterparty: None,
        amount_minor: transaction.amount_minor,
        currency: transaction.currency,
        operation: transaction.operation,
    };
    let host = gateway.connect(home, Role::Host, "dev").await;
    ReceiptServiceClient::new(host).redeem(request).await.unwrap().into_inner()
}

async fn approve_and_redeem(home: &Home, gateway: &Gateway, held: &Held) -> Paid {
    let mut terminal = connect(home, gateway).await;
    let picture = std::fs::read(photograph("obama2.jpg")).unwrap();
    let asked = open(&mut terminal, "PAID", 1, &picture).await.unwrap();
    let decision = terminal.verify(asked.clone()).await.unwrap().into_inner();
    assert_eq!(decision.outcome(), proto::Outcome::Approved, "{:?}", decision.reasons);
    hold(held, &decision);
    let first = redeem(home, gateway, &asked, &decision).await;
    assert!(first.redeemed);
    let redeemed = proto::RedeemResponse { redeemed: false, ..first };
    Paid { asked, decision, redeemed }
}

/// Somebody else's face, twice; the transaction's number.
async fn two_wrong_tries(home: &Home, gateway: &Gateway, held: &Held) -> String {
    let mut terminal = connect(home, gateway).await;
    let picture = std::fs::read(photograph("biden.jpg")).unwrap();
    for attempt in 1..=2 {
        let asked = open(&mut terminal, "WRONG", attempt, &picture).await.unwrap();
        let decision = terminal.verify(asked).await.unwrap().into_inner();
        assert_eq!(decision.outcome(), proto::Outcome::Denied);
        hold(held, &decision);
    }
    "WRONG".to_owned()
}

/// Verifications from several clients at once, and SIGKILL among them.
async fn burst(
    home: &Home,
    gateway: &mut Gateway,
    kill: u32,
    held: &Held,
    unanswered: &Unanswered,
) {
    let before = held.lock().unwrap().len();
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let terminal = connect(home, gateway).await;
        let name = format!("{kill}-{client}");
        let (held, unanswered) = (Arc::clone(held), Arc::clone(unanswered));
        clients.push(tokio::spawn(verify_until_killed(terminal, name, held, unanswered)));
    }
    let until = Instant::now() + Duration::from_mins(1);
    while held.lock().unwrap().len() < before + 3 {
        assert!(Instant::now() < until, "no answers to kill among");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(u64::from(kill * 7 % 40))).await;
    gateway.kill();
    for client in clients {
        client.await.unwrap();
    }
}

async fn verify_until_killed(
    mut terminal: Terminal,
    name: String,
    held: Held,
    unanswered: Unanswered,
) {
    let picture = DecodedImage::from_rgb(160, 120, vec![120; 160 * 120 * 3]).unwrap();
    let image = encode_png(&picture).unwrap();
    for number in 0..1000 {
        let id = format!("{name}-{number}");
        let Some(asked) = open(&mut terminal, &id, 1, &image).await else { return };
        let Ok(decided) = terminal.verify(asked.clone()).await else {
            unanswered.lock().unwrap().push(asked);
            return;
        };
        hold(&held, &decided.into_inner());
    }
}

/// The restarted gateway gives a lost answer again, or says that there is none and the challenge is
/// used: never a second decision under the same key.
async fn repeat_the_unanswered(
    home: &Home,
    gateway: &Gateway,
    held: &Held,
    unanswered: &Unanswered,
) {
    let mut terminal = connect(home, gateway).await;
    let asked = std::mem::take(&mut *unanswered.lock().unwrap());
    for asked in asked {
        let kept = terminal.get_decision(proto::GetDecisionRequest {
            business_date: asked.business_date.clone(),
            host_transaction_id: asked.host_transaction_id.clone(),
            attempt: asked.attempt,
            language: "en".into(),
        });
        let kept = kept.await.map(tonic::Response::into_inner);
        let repeated = terminal.verify(asked).await.map(tonic::Response::into_inner);
        match (kept, repeated) {
            (Ok(kept), Ok(repeated)) => {
                assert_eq!(kept, repeated);
                hold(held, &repeated);
            }
            // It died before the decision; the challenge may or may not have been used by then.
            (Err(_), Ok(fresh)) => hold(held, &fresh),
            (Err(_), Err(refused)) => assert_eq!(crate::site::reason(&refused), "CAP_STALE"),
            (Ok(kept), Err(refused)) => panic!("{kept:?} was lost: {refused:?}"),
        }
    }
}

/// Begins a capture and makes the call that shows it; `None` when nobody answers.
async fn open(
    terminal: &mut Terminal,
    id: &str,
    attempt: u32,
    image: &[u8],
) -> Option<proto::VerifyRequest> {
    let opened = terminal.begin_capture(begin(id, CARD)).await.ok()?.into_inner();
    Some(verify(id, attempt, &opened.challenge, image.to_vec().into()))
}

fn hold(held: &Held, decision: &proto::Decision) {
    let index = decision.position.as_ref().unwrap().index;
    let before = held.lock().unwrap().insert(index, decision.receipt_jws.clone());
    assert!(before.is_none_or(|before| before == decision.receipt_jws), "two receipts at {index}");
}
