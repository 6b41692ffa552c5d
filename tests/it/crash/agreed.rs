//! Kill −9 while somebody approves: what was proposed is done and its proposal closed, or neither.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tonic::transport::Channel;
use tulga::app::trust_fingerprint;
use tulga::audit::{Options, verify_export};
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::ProposalState;
use tulga::proto::enrollment_service_client::EnrollmentServiceClient;
use tulga::proto::proposal_service_client::ProposalServiceClient;

use super::acts::iin_of_nobody;
use crate::process::{Gateway, Home};
use crate::site::{consent, payload};

/// By default, and with `TULGA_FAULTS=full`.
const KILLS: (u32, u32) = (6, 60);
/// Erasures that wait before each kill.
const PROPOSED: u32 = 30;

#[test]
fn a_proposal_in_whose_approval_the_gateway_is_killed_is_done_or_it_waits() {
    let is_full = std::env::var_os("TULGA_FAULTS").is_some_and(|it| it == "full");
    let kills = if is_full { KILLS.1 } else { KILLS.0 };
    let home = Home::by_two();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut gateway = home.serve();
    // Of each proposal its customer.
    let mut waits: BTreeMap<String, String> = BTreeMap::new();
    let (mut cut, mut all) = (0, 0);
    for kill in 0..kills {
        runtime.block_on(propose(&home, &gateway, kill, &mut waits));
        let said = runtime.block_on(approve_until_killed(&home, &mut gateway, kill, &waits));
        gateway = home.serve();
        let found = runtime.block_on(Found::read(&home, &gateway));
        for (id, customer) in &waits {
            let is_erased = found.erased.contains(customer);
            let state = found.proposals[id];
            assert_eq!(state == ProposalState::Done, is_erased, "half done: {state:?}");
            assert!(is_erased || state == ProposalState::Open, "{state:?}");
            assert!(is_erased || !said.contains(id), "it was answered for, and is undone");
        }
        let done = waits.len();
        waits.retain(|_, customer| !found.erased.contains(customer));
        all += done - waits.len();
        cut += usize::from(!waits.is_empty());
        assert_eq!(erasures(&home, &gateway, kill), all, "each erasure has one entry");
    }
    assert!(cut > 0, "no kill came among approvals");
}

async fn propose(home: &Home, gateway: &Gateway, kill: u32, waits: &mut BTreeMap<String, String>) {
    let admin = gateway.connect(home, Role::Admin, "dev").await;
    let mut desk = EnrollmentServiceClient::new(admin);
    for number in 0..PROPOSED {
        let iin = iin_of_nobody(kill * 1_000 + number);
        let created = proto::CreateCustomerRequest { iin, consent: Some(consent()) };
        let customer_id = desk.create_customer(created).await.unwrap().into_inner().customer_id;
        let asked = proto::EraseRequest { customer_id: customer_id.clone() };
        let proposal = desk.erase(asked).await.unwrap().into_inner().proposal.unwrap();
        waits.insert(proposal.proposal_id, customer_id);
    }
}

/// What was answered before SIGKILL came.
async fn approve_until_killed(
    home: &Home,
    gateway: &mut Gateway,
    kill: u32,
    waits: &BTreeMap<String, String>,
) -> BTreeSet<String> {
    let second = gateway.connect(home, Role::Admin, "dev-second").await;
    let said = Arc::new(Mutex::new(BTreeSet::new()));
    let ids: Vec<_> = waits.keys().cloned().collect();
    let work = ids
        .chunks(ids.len().div_ceil(4))
        .map(|ids| tokio::spawn(approve_all(second.clone(), ids.to_vec(), Arc::clone(&said))));
    let work: Vec<_> = work.collect();
    tokio::time::sleep(Duration::from_micros(1_000 + u64::from(kill) * 7_919 % 60_000)).await;
    gateway.kill();
    for approver in work {
        approver.await.unwrap();
    }
    std::mem::take(&mut *said.lock().unwrap())
}

async fn approve_all(channel: Channel, ids: Vec<String>, said: Arc<Mutex<BTreeSet<String>>>) {
    let mut desk = ProposalServiceClient::new(channel);
    for id in ids {
        let asked = proto::ApproveProposalRequest { proposal_id: id.clone() };
        match desk.approve_proposal(asked).await {
            Ok(_) => {
                said.lock().unwrap().insert(id);
            }
            Err(status) => {
                let reason = crate::site::reason(&status);
                assert!(reason.starts_with("no reason"), "refused with {reason}");
                return;
            }
        }
    }
}

/// What the registers say after a start.
struct Found {
    erased: BTreeSet<String>,
    proposals: BTreeMap<String, ProposalState>,
}

impl Found {
    async fn read(home: &Home, gateway: &Gateway) -> Self {
        let admin = gateway.connect(home, Role::Admin, "dev").await;
        let asked = proto::ListCustomersRequest { page_size: 1_000, ..Default::default() };
        let customers = EnrollmentServiceClient::new(admin.clone()).list_customers(asked).await;
        let customers = customers.unwrap().into_inner().customers.into_iter();
        let erased = customers.filter(|it| it.status() == proto::CustomerStatus::Erased);
        let asked = proto::ListProposalsRequest {
            page_size: 1_000,
            closed_too: true,
            ..Default::default()
        };
        let proposals = ProposalServiceClient::new(admin).list_proposals(asked).await;
        let proposals = proposals.unwrap().into_inner().proposals.into_iter();
        Self {
            erased: erased.map(|it| it.customer_id).collect(),
            proposals: proposals.map(|it| (it.proposal_id.clone(), it.state())).collect(),
        }
    }
}

/// How many erasures the ledger tells of, once it has been verified from outside.
fn erasures(home: &Home, gateway: &Gateway, kill: u32) -> usize {
    let export = home.path().join(format!("export-{kill}"));
    gateway.tulga_ok(home, &["audit", "export", export.to_str().unwrap()]);
    let trust = trust_fingerprint(&home.data()).unwrap();
    let report = verify_export(&export, Some(&trust), &Options::default(), &mut |_| ()).unwrap();
    assert!(report.is_good(), "{:?}", report.findings);
    let lines = std::fs::read_to_string(export.join("receipts.jws")).unwrap();
    let bodies = lines.lines().map(|line| payload(line.as_bytes()));
    let subjects = bodies.filter(|body| body["kind"] == "erasure").map(|it| it["subject"].clone());
    let subjects: Vec<_> = subjects.map(|it| it.as_str().unwrap().to_owned()).collect();
    let once: BTreeSet<_> = subjects.iter().collect();
    assert_eq!(once.len(), subjects.len(), "somebody was erased twice");
    subjects.len()
}
