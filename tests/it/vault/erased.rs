//! Whoever was erased stays so in a database that is older than their erasure.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use tonic::Code;
use tulga::app::{App, adopt_head};
use tulga::clock::SystemClock;
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::CustomerStatus;

use super::{CARD, Desk, IIN, TERMINAL, Terminal, column, config, create, database, iins};
use crate::site::{Site, begin, payload, reason, verify};

const RATE: &str = "[rate]\nper_terminal_per_minute = 10000\n";

async fn again(dir: TempDir) -> Site {
    Site::again(dir, RATE, Arc::new(SystemClock)).await
}

/// The database's files, put from one folder into another.
fn put(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in ["tulga.sqlite", "tulga.sqlite-wal", "tulga.sqlite-shm"] {
        match fs::copy(from.join(name), to.join(name)) {
            Ok(_) => {}
            Err(_) => drop(fs::remove_file(to.join(name))),
        }
    }
}

async fn erase(site: &Site, customer_id: &str) -> Result<(), tonic::Status> {
    let mut desk = Desk::new(site.staff(Role::Admin).await);
    desk.erase(proto::EraseRequest { customer_id: customer_id.into() }).await.map(drop)
}

async fn status(site: &Site, customer_id: &str) -> CustomerStatus {
    let mut desk = Desk::new(site.staff(Role::Enroller).await);
    let request = proto::GetCustomerRequest { customer_id: customer_id.into() };
    desk.get_customer(request).await.unwrap().into_inner().status()
}

/// How many keys of customers the database has.
fn keys_in(data: &Path) -> i64 {
    column(&database(data), "SELECT COUNT(*) FROM customer_keys").remove(0)
}

fn marks(data: &Path) -> Vec<String> {
    let text = fs::read_to_string(data.join("erased")).unwrap_or_default();
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_customer_stays_erased_in_a_restored_database() {
    let site = Site::start().await;
    let erased = site.enroll(IIN, CARD, &["obama.jpg"]).await;
    let mut desk = Desk::new(site.staff(Role::Enroller).await);
    let other = create(&mut desk, &iins().next().unwrap()).await;
    drop(desk);
    let dir = site.stopped().await;
    let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
    put(&data, &backup);

    let site = again(dir).await;
    assert!(marks(&data).is_empty());
    erase(&site, &erased).await.unwrap();
    let marked = marks(&data);
    assert_eq!(marked.len(), 1, "remembered by the time it is answered");
    assert!(!marked[0].contains(&erased) && marked[0].len() == 64, "by no name of theirs");
    let refused = erase(&site, &erased).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::NotFound, "REQ_NOT_FOUND".into()));
    let dir = site.stopped().await;
    assert_eq!(keys_in(&data), 1);

    // The backup is put back: it has the customer's keys, and is refused.
    put(&backup, &data);
    assert_eq!(keys_in(&data), 2);
    let config = config(&data);
    assert!(App::open(&config).await.is_err(), "it is behind the last signed head");
    fs::remove_file(data.join("last-signed-head")).unwrap();
    adopt_head(&config).await.unwrap();
    assert_eq!(keys_in(&data), 2);

    // Somebody adopts it all the same: whoever was erased is erased again before anything is served.
    let site = again(dir).await;
    assert_eq!(status(&site, &erased).await, CustomerStatus::Erased);
    assert_eq!(status(&site, &other).await, CustomerStatus::Pending);
    let mut terminal = Terminal::new(site.terminal(TERMINAL).await);
    let opened = terminal.begin_capture(begin("T1", CARD)).await.unwrap().into_inner();
    let asked = verify("T1", 1, &opened.challenge, crate::site::demo("obama2.jpg"));
    let decision = terminal.verify(asked).await.unwrap().into_inner();
    assert_eq!(decision.outcome(), proto::Outcome::Denied);
    drop(terminal);
    let said = said_of_it(&site).await;
    assert_eq!(said.len(), 1, "an entry says so: {said:?}");
    let dir = site.stopped().await;
    assert_eq!((keys_in(&data), marks(&data).len()), (1, 1));
    // And once only.
    let site = again(dir).await;
    assert_eq!(said_of_it(&site).await.len(), 1);
    site.finish().await;
}

/// The erasure entries of a restored database.
async fn said_of_it(site: &Site) -> Vec<serde_json::Value> {
    let to = site.data().join("../export");
    drop(fs::remove_dir_all(&to));
    let exported = site.tulga(&["audit", "export", to.to_str().unwrap()]).await;
    assert!(exported.status.success(), "{exported:?}");
    let receipts = fs::read_to_string(to.join("receipts.jws")).unwrap();
    let bodies = receipts.lines().map(|jws| payload(jws.as_bytes()));
    bodies.filter(|body| body["reason"] == "restored_database").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_that_was_not_remembered_yet_is_at_the_next_start_or_the_next_call() {
    let site = Site::start().await;
    let mut desk = Desk::new(site.staff(Role::Enroller).await);
    let mut numbers = iins();
    let one = create(&mut desk, &numbers.next().unwrap()).await;
    let two = create(&mut desk, &numbers.next().unwrap()).await;
    drop(desk);
    erase(&site, &one).await.unwrap();
    let data = site.data();
    let dir = site.stopped().await;
    // As if the process had died between the commit and the record.
    let before = fs::read(data.join("erased")).unwrap();
    fs::write(data.join("erased"), b"").unwrap();
    let site = again(dir).await;
    assert_eq!(fs::read_to_string(data.join("erased")).unwrap().trim(), text(&before));
    assert_eq!(status(&site, &two).await, CustomerStatus::Pending);
    let dir = site.stopped().await;

    // What is no record of ours stops the start, and says what helps.
    fs::write(data.join("erased"), b"spoiled\n").unwrap();
    let refused = format!("{:#}", App::open(&config(&data)).await.err().unwrap());
    assert!(refused.contains("put the file `erased` back"), "{refused}");
    drop(dir);
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap().trim()
}
