//! Protocol events that are refused leave no receipt of their own: they are counted, and the counts are entries.

use std::sync::Arc;

use serde_json::Value;
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::audit_service_client::AuditServiceClient;
use tulga::proto::verification_service_client::VerificationServiceClient;

use crate::site::{SetClock, Site, demo, payload, reason, verify};

const MORNING: &str = "2026-11-21T02:00:00.000Z";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_events_are_entered_when_the_gateway_drains() {
    let clock = SetClock::at(MORNING);
    let site = Site::at("", Arc::clone(&clock) as _).await;
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    for id in ["T1", "T2"] {
        let status = terminal.verify(verify(id, 1, &[7; 32], demo("obama2.jpg"))).await;
        assert_eq!(reason(&status.unwrap_err()), "CAP_STALE");
    }
    drop(terminal);
    let dir = site.stopped().await;

    let site = Site::again(dir, "", clock).await;
    let mut auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);
    let request = proto::ListReceiptsRequest::default();
    let entries = auditor.list_receipts(request).await.unwrap().into_inner().receipts;
    let incidents: Vec<_> =
        entries.iter().filter(|entry| payload(&entry.receipt_jws)["act"] == "incidents").collect();
    let [entry] = incidents.as_slice() else { panic!("one entry a terminal: {incidents:?}") };
    assert_eq!(payload(&entry.receipt_jws)["subject"], "ATM-1");
    let index = entry.position.as_ref().unwrap().index;
    let request = proto::GetAuditRecordRequest { index, ..Default::default() };
    let record = auditor.get_audit_record(request).await.unwrap().into_inner().record;
    let record: Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["counts"], serde_json::json!({ "CAP_STALE": 2 }));
    drop(auditor);
    site.finish().await;
}
