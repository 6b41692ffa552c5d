//! A half-year ends while the gateway serves: one ledger is closed and the next one opened, whatever
//! fails in between.

use std::sync::atomic::Ordering;

use tulga::domain::decision::Outcome;
use tulga::domain::id::CustomerId;
use tulga::domain::iin::Iin;
use tulga::domain::time::UnixMillis;
use tulga::gateway::request::CreateCustomer;
use tulga::gateway::{EntryFilter, GatewayError, LogPosition};
use tulga::ledger::{Checkpoint, ClosedShard, LogOfLogs, Origin, TlogProof, verify_consistency};
use tulga::receipt::{Content, parse};
use tulga::store::LedgerReads as _;

use super::{FAULTS, Rig, demo, enroller, nobody};
use crate::faults::confirmed::consent;
use crate::receipts::ORIGIN;

const NEXT: &str = "cash.bank.example/gw07/2027h1";
const AFTER: &str = "cash.bank.example/gw07/2027h2";
const LOG_OF_LOGS: &str = "cash.bank.example/gw07/log-of-logs";

impl Rig {
    /// The same, with keys for the half-years to come.
    async fn over_half_years(mut self) -> Self {
        self.origins = vec![ORIGIN, NEXT, AFTER, LOG_OF_LOGS];
        self.restart().await;
        self
    }

    pub(super) async fn restart(&mut self) {
        let (gateway, tasks) = self.running.take().unwrap();
        drop(gateway);
        tasks.finish().await;
        self.running = Some(self.open().await.unwrap());
    }

    fn set_clock(&self, time: &str) {
        let time = UnixMillis::parse_rfc3339(time).unwrap();
        let now = tulga::clock::Clock::now(&*self.clock);
        self.clock.advance_millis(time.get() - now.get());
    }

    /// An act without any picture: one entry.
    async fn act(&self, number: u32) -> Result<CustomerId, GatewayError> {
        // Any number of which the last digit is the check digit.
        let iin = (0..10).find_map(|check| {
            Iin::try_from(format!("0000003{:04}{check}", 7000 + number).as_str()).ok()
        });
        let request = CreateCustomer { iin: iin.unwrap(), consent: consent() };
        self.gateway().create_customer(&enroller(), request).await
    }

    async fn entries_of(&self, origin: &str) -> Vec<tulga::gateway::Entry> {
        let all = self.gateway().entries(0, &EntryFilter::default(), 1000).await.unwrap();
        all.into_iter().filter(|entry| entry.position.origin.as_str() == origin).collect()
    }
}

fn origin(name: &str) -> Origin {
    Origin::try_from(name).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_batch_of_a_half_year_closes_the_ledger_and_opens_the_next() {
    let mut rig = Rig::with_customer().await.over_half_years().await;
    let challenge = rig.begin("T1").await.unwrap();
    let first = rig.verify("T1", challenge, demo("obama2.jpg")).await.unwrap();
    assert_eq!((first.outcome, first.receipt.origin()), (Outcome::Approved, ORIGIN));
    let last_of_old = rig.entries_of(ORIGIN).await.len();

    rig.set_clock("2026-12-31T23:59:59.999Z");
    rig.act(1).await.unwrap();
    assert_eq!(rig.entries_of(ORIGIN).await.len(), last_of_old + 1, "the old year is not over");
    rig.set_clock("2027-01-01T00:00:00.000Z");
    rig.act(2).await.unwrap();
    let (old, new) = (rig.entries_of(ORIGIN).await, rig.entries_of(NEXT).await);
    assert_eq!((old.len(), new.len()), (last_of_old + 1, 2));

    // The new ledger begins with what closed the old one, and the log of logs has both heads.
    let closed = rig.store.closed_ledgers().await.unwrap();
    let size = u64::try_from(old.len()).unwrap();
    let shard = ClosedShard { origin: origin(ORIGIN), size, root: closed[0].root };
    assert_eq!((closed.len(), closed[0].size), (1, size));
    let opened = parse(&new[0].jws).unwrap();
    let Content::Administration(act) = &opened.unverified_body().content else { panic!() };
    assert_eq!(act.act, "ledger_opened");
    assert_eq!(act.subject.as_deref(), Some(ORIGIN));
    assert_eq!(act.details.as_deref(), Some(shard.labelled_digest().as_str()));
    let very_first = parse(&old[0].jws).unwrap();
    let Content::Administration(act) = &very_first.unverified_body().content else { panic!() };
    assert_eq!((act.act.as_str(), &act.subject), ("ledger_opened", &None));

    // A receipt of the old ledger is found, proved, and answered again with the same bytes.
    let gateway = rig.gateway();
    let ledger_key = rig.keys.register_of(&[ORIGIN]).keys()[1].public_key;
    for entry in old.iter().chain(&new) {
        assert_eq!(gateway.entry_of(&entry.receipt).await.unwrap(), *entry);
        let LogPosition { origin, index } = &entry.position;
        assert_eq!(gateway.place(Some(origin), *index).unwrap(), entry.place);
        let proof = TlogProof::parse(&gateway.proof(entry.place).await.unwrap()).unwrap();
        let checkpoint = proof.verify(&entry.jws, origin, &ledger_key).unwrap();
        assert_eq!(checkpoint.origin, *origin);
    }
    assert_eq!(gateway.place(None, 0).unwrap(), new[0].place);
    assert!(gateway.place(Some(&origin(AFTER)), 0).is_err());
    assert!(gateway.place(Some(&origin(ORIGIN)), size).is_err());
    let challenge = rig.begin("T1").await;
    assert!(challenge.is_ok(), "{challenge:?}");

    // What is said of the old ledger's entry names the ledger; what is said of one's own does not.
    let redeemed = rig.redeem("T1", &first).await;
    assert!(matches!(redeemed, Err(GatewayError::Invalid { .. })), "its time is over");
    let challenge = rig.begin("T2").await.unwrap();
    let second = rig.verify("T2", challenge, demo("obama2.jpg")).await.unwrap();
    assert_eq!(second.receipt.origin(), NEXT);
    assert!(rig.redeem("T2", &second).await.unwrap());
    let redemption = rig.entries_of(NEXT).await.pop().unwrap();
    let body = parse(&redemption.jws).unwrap();
    let Content::Redemption(said) = &body.unverified_body().content else { panic!() };
    assert_eq!((said.refers.index, &said.refers.origin), (second.receipt.index(), &None));
    rig.audited().await;

    // A restart finds the new ledger, and pages walk through both.
    rig.restart().await;
    rig.act(3).await.unwrap();
    let mut places = Vec::new();
    let mut from = 0;
    loop {
        let page = rig.gateway().entries(from, &EntryFilter::default(), 3).await.unwrap();
        let Some(last) = page.last() else { break };
        from = last.place + 1;
        places.extend(page.iter().map(|entry| entry.place));
    }
    assert!(places.iter().copied().eq(0..u64::try_from(places.len()).unwrap()));

    rig.set_clock("2027-08-01T00:00:00.000Z");
    rig.act(4).await.unwrap();
    assert_eq!(rig.entries_of(AFTER).await.len(), 2);
    rig.audited().await;
}

/// Every fault at every step of the batch that closes a ledger: the old state or the new one, never half
/// of each, and the act is entered once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_in_the_batch_between_two_ledgers_leaves_the_old_state_or_the_new_one() {
    let mut struck = 0;
    for fault in FAULTS {
        for step in 0.. {
            let mut rig = Rig::new().await.over_half_years().await;
            rig.act(1).await.unwrap();
            rig.set_clock("2027-01-01T00:00:00.000Z");
            rig.store.fail_after(step, fault);
            let first = rig.act(2).await;
            if !rig.store.script_is_done() {
                first.unwrap();
                break;
            }
            struck += 1;
            let at = format!("{fault:?} at {step}");
            match first {
                Ok(_) | Err(GatewayError::Store(_)) => {}
                Err(error) => panic!("{at}: {error:?}"),
            }
            // Repeated by its caller: entered once, or known to be there.
            let again = rig.act(2).await;
            let is_there = matches!(again, Ok(_) | Err(GatewayError::Exists(_)));
            assert!(is_there, "{at}: {again:?}");
            let new = rig.entries_of(NEXT).await;
            assert_eq!(new.len(), 2, "{at}: one opening, one act");
            assert_eq!(rig.store.closed_ledgers().await.unwrap().len(), 1, "{at}");
            rig.audited().await;
            rig.restart().await;
            rig.act(3).await.unwrap();
            assert_eq!(rig.entries_of(NEXT).await.len(), 3, "{at}");
        }
    }
    assert!(struck >= 10, "only {struck} faults struck");
}

/// Killed after the commit that opened a ledger and before its head was recorded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_of_the_closed_head_is_enough_to_start_in_the_next_ledger() {
    let mut rig = Rig::new().await.over_half_years().await;
    rig.set_clock("2027-01-01T00:00:00.000Z");
    rig.guard.is_broken.store(true, Ordering::SeqCst);
    assert!(rig.act(1).await.is_err());
    assert_eq!(rig.store.closed_ledgers().await.unwrap().len(), 1);
    rig.guard.is_broken.store(false, Ordering::SeqCst);
    rig.restart().await;
    // It is there: its caller was told nothing, and the entry was committed.
    assert!(matches!(rig.act(1).await, Err(GatewayError::Exists(_))));
    assert_eq!(rig.entries_of(NEXT).await.len(), 2);
    rig.audited().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_key_for_the_next_half_year_the_old_ledger_goes_on() {
    let mut rig = Rig::new().await;
    rig.set_clock("2027-01-01T00:00:00.000Z");
    let challenge = rig.begin("T1").await.unwrap();
    let answer = rig.verify("T1", challenge, nobody()).await.unwrap();
    assert_eq!(answer.receipt.origin(), ORIGIN);
    assert!(rig.store.closed_ledgers().await.unwrap().is_empty());
    // With a register that names it the next batch opens it.
    rig.origins.extend([NEXT, LOG_OF_LOGS]);
    rig.restart().await;
    rig.act(1).await.unwrap();
    assert_eq!(rig.entries_of(NEXT).await.len(), 2);
    rig.audited().await;
}

/// A clock that is set back over the turn does not open the old ledger again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_ledger_stays_closed() {
    let rig = Rig::new().await.over_half_years().await;
    rig.set_clock("2027-01-01T00:00:01.000Z");
    rig.act(1).await.unwrap();
    rig.set_clock("2026-12-31T23:59:59.000Z");
    rig.act(2).await.unwrap();
    assert_eq!(rig.entries_of(NEXT).await.len(), 3);
    rig.audited().await;
}

/// The closed ledger's checkpoints and proofs go on being given, and fit together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_is_shown_to_have_only_grown_open_or_closed() {
    let rig = Rig::new().await.over_half_years().await;
    let mut heads = Vec::new();
    for number in 0..5 {
        rig.act(number).await.unwrap();
        let note = rig.gateway().checkpoint(None).await.unwrap();
        heads.push(Checkpoint::peek(&note).unwrap());
    }
    rig.set_clock("2027-01-01T00:00:00.000Z");
    rig.act(5).await.unwrap();
    let gateway = rig.gateway();
    let closing = gateway.checkpoint(Some(&origin(ORIGIN))).await.unwrap();
    heads.push(Checkpoint::peek(&closing).unwrap());
    for old in &heads {
        for new in heads.iter().filter(|new| new.size >= old.size) {
            let proof =
                gateway.consistency(Some(&origin(ORIGIN)), old.size, new.size).await.unwrap();
            let holds = verify_consistency(old.size, &old.root, new.size, &new.root, &proof);
            assert_eq!(holds, Ok(()), "{} {}", old.size, new.size);
        }
    }
    for (old, new) in [(3, 2), (0, 1000)] {
        let refused = gateway.consistency(Some(&origin(ORIGIN)), old, new).await;
        assert!(matches!(refused, Err(GatewayError::Invalid { .. })), "{refused:?}");
    }
    let unknown = gateway.checkpoint(Some(&origin(AFTER))).await;
    assert!(matches!(unknown, Err(GatewayError::NotFound(_))), "{unknown:?}");
    let open = Checkpoint::peek(&gateway.checkpoint(None).await.unwrap()).unwrap();
    assert_eq!((open.origin.as_str(), open.size), (NEXT, 2));
    // The log of logs of an export is signed by the ledger's key.
    let log = LogOfLogs::new(
        "cash.bank.example/gw07",
        vec![ClosedShard {
            origin: origin(ORIGIN),
            size: heads.last().unwrap().size,
            root: heads.last().unwrap().root,
        }],
    );
    let files = rig.exported().await;
    let note = String::from_utf8(files["log-of-logs"].clone()).unwrap();
    let key = rig.keys.register_of(&[ORIGIN]).keys()[1].public_key;
    assert_eq!(LogOfLogs::open(&note, "cash.bank.example/gw07", &key), log);
    // Each ledger in its folder, with everything that its tree consists of.
    for (name, size) in [(ORIGIN, heads.last().unwrap().size), (NEXT, 2)] {
        for file in ["receipts.jws", "checkpoint", "checkpoints", "erasures.json"] {
            assert!(files.contains_key(&format!("{name}/{file}")), "{name}/{file}");
        }
        for tile in tulga::ledger::TileAddress::all(size) {
            assert!(files.contains_key(&format!("{name}/{}", tile.path())), "{}", tile.path());
        }
    }
    assert!(!files.contains_key("receipts.jws"));
}
