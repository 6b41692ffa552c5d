//! Sealed values that somebody swapped in the database: each opens where it was sealed for, and nowhere else.

use std::path::Path;

use rusqlite::{Connection, params};
use tonic::{Code, Status};
use tulga::app::App;
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::audit_service_client::AuditServiceClient;

use super::{CARD, IIN, TERMINAL, Terminal, column, config, database};
use crate::site::{Site, begin, demo, dev_pack_with, reason, verify};

const OTHER_IIN: &str = "000000300029";
const OTHER_CARD: &str = "card-token-2";

/// A sealed value in the database, and the customer (0 or 1) whose use of it is tried.
#[derive(Clone, PartialEq, Debug)]
struct Cell {
    table: &'static str,
    column: &'static str,
    row: i64,
    used_by: Use,
}

/// What opens a value.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Use {
    /// A verification of the customer of this card.
    Verify(&'static str),
    /// Asking for a decision again, under this number.
    Again(&'static str),
    /// Reading the audit record of the entry.
    Record(u64),
    /// Reading the evidence of the entry.
    Evidence(u64),
    /// Nothing opens it while the gateway serves.
    Nothing,
}

struct Bench {
    db: Connection,
    terminal: Terminal,
    auditor: AuditServiceClient<tonic::transport::Channel>,
    asked: u32,
}

/// The sealed values of two customers who were both verified once.
fn cells(db: &Connection, decisions: &[(&'static str, &'static str, u64)]) -> Vec<Cell> {
    let rows = |sql: &str| -> Vec<i64> { column(db, sql) };
    let mut found = Vec::new();
    let mut add = |table, column, rows: Vec<i64>, uses: Vec<Use>| {
        assert_eq!(rows.len(), uses.len(), "{table}.{column}");
        for (row, used_by) in rows.into_iter().zip(uses) {
            found.push(Cell { table, column, row, used_by });
        }
    };
    let of = |make: &dyn Fn(&(&'static str, &'static str, u64)) -> Use| -> Vec<Use> {
        decisions.iter().map(make).collect()
    };
    // In the order of their enrolment, which is that of the decisions.
    let customers = "SELECT rowid FROM customers ORDER BY created_at";
    add("customers", "sealed_record", rows(customers), of(&|_| Use::Nothing));
    let keys = "SELECT k.rowid FROM customer_keys k JOIN customers c ON c.id = k.customer \
                ORDER BY c.created_at";
    add("customer_keys", "wrapped", rows(keys), of(&|it| Use::Verify(it.1)));
    let captures = "SELECT k.rowid FROM captures k JOIN customers c ON c.id = k.customer \
                    ORDER BY c.created_at";
    add("captures", "sealed", rows(captures), of(&|it| Use::Verify(it.1)));
    let answers = "SELECT rowid FROM decisions ORDER BY entry_index";
    add("decisions", "sealed_answer", rows(answers), of(&|it| Use::Again(it.0)));
    let records = "SELECT rowid FROM entries WHERE kind = 'verification' ORDER BY entry_index";
    add("entries", "sealed_audit", rows(records), of(&|it| Use::Record(it.2)));
    let evidence = "SELECT rowid FROM evidence ORDER BY entry_index";
    add("evidence", "wrapped", rows(evidence), of(&|it| Use::Evidence(it.2)));
    found
}

fn value(db: &Connection, cell: &Cell) -> Vec<u8> {
    let sql = format!("SELECT {} FROM {} WHERE rowid = ?1", cell.column, cell.table);
    db.query_row(&sql, [cell.row], |row| row.get(0)).unwrap()
}

fn put(db: &Connection, cell: &Cell, value: &[u8]) {
    let sql = format!("UPDATE {} SET {} = ?2 WHERE rowid = ?1", cell.table, cell.column);
    assert_eq!(db.execute(&sql, params![cell.row, value]).unwrap(), 1);
}

fn swap(db: &Connection, a: &Cell, b: &Cell) {
    let (one, other) = (value(db, a), value(db, b));
    put(db, a, &other);
    put(db, b, &one);
}

impl Bench {
    /// Opens what the cell holds, as the gateway does for somebody; whether it was good.
    async fn use_it(&mut self, used_by: Use) -> Result<bool, Status> {
        match used_by {
            Use::Verify(card) => {
                self.asked += 1;
                let id = format!("USE-{}", self.asked);
                let opened = self.terminal.begin_capture(begin(&id, card)).await?.into_inner();
                let face = if card == CARD { "obama2.jpg" } else { "biden.jpg" };
                let asked = verify(&id, 1, &opened.challenge, demo(face));
                let decision = self.terminal.verify(asked).await?.into_inner();
                Ok(decision.outcome() == proto::Outcome::Approved)
            }
            Use::Again(id) => {
                let request = proto::GetDecisionRequest {
                    business_date: "2026-11-21".into(),
                    host_transaction_id: id.into(),
                    attempt: 1,
                    language: "en".into(),
                };
                self.terminal.get_decision(request).await.map(|_| true)
            }
            Use::Record(index) => {
                let request = proto::GetAuditRecordRequest { index, ..Default::default() };
                self.auditor.get_audit_record(request).await.map(|_| true)
            }
            Use::Evidence(index) => {
                let request = proto::GetEvidenceRequest {
                    index,
                    case_reference: "CASE-1".into(),
                    ..Default::default()
                };
                self.auditor.get_evidence(request).await.map(|_| true)
            }
            Use::Nothing => Err(Status::internal("nothing opens it")),
        }
    }
}

/// Fails closed: no answer of a decision, and the gateway's own fault.
fn is_closed(refused: &Status) -> bool {
    matches!(refused.code(), Code::Internal | Code::Unavailable)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_value_opens_in_its_own_row_column_and_customer_only() {
    let pack = dev_pack_with("evidence_days = 365", "");
    let more = format!(
        "policy_dir = '{}'\n[rate]\nper_terminal_per_minute = 100000\n",
        pack.path().display()
    );
    let site = Site::with(&more).await;
    site.enroll(IIN, CARD, &["obama.jpg"]).await;
    site.enroll(OTHER_IIN, OTHER_CARD, &["biden.jpg"]).await;
    let mut terminal = Terminal::new(site.terminal(TERMINAL).await);
    let mut decisions = Vec::new();
    for (id, card, face) in [("D1", CARD, "obama2.jpg"), ("D2", OTHER_CARD, "biden.jpg")] {
        let opened = terminal.begin_capture(begin(id, card)).await.unwrap().into_inner();
        let asked = verify(id, 1, &opened.challenge, demo(face));
        let decision = terminal.verify(asked).await.unwrap().into_inner();
        assert_eq!(decision.outcome(), proto::Outcome::Approved, "{:?}", decision.reasons);
        decisions.push((id, card, decision.position.unwrap().index));
    }
    let data = site.data();
    let db = database(&data);
    let cells = cells(&db, &decisions);
    let auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);
    let mut bench = Bench { db, terminal, auditor, asked: 0 };
    let mut refused = 0;
    for (place, a) in cells.iter().enumerate() {
        for b in &cells[place + 1..] {
            swap(&bench.db, a, b);
            for cell in [a, b] {
                match bench.use_it(cell.used_by).await {
                    Ok(good) => panic!("{a:?} with {b:?}: {cell:?} opened ({good})"),
                    Err(status) => {
                        assert!(is_closed(&status), "{a:?} with {b:?}: {status:?}");
                        refused += u32::from(cell.used_by != Use::Nothing);
                    }
                }
            }
            swap(&bench.db, a, b);
        }
    }
    assert_eq!((cells.len(), refused), (12, 110), "each of twelve with each of eleven others");
    sessions_do_not_move(&mut bench).await;
    nobodys_key_is_vouched_for(&mut bench).await;
    // Where nothing is swapped everything opens: what was refused was refused for that.
    for cell in cells.iter().filter(|cell| cell.used_by != Use::Nothing) {
        assert!(bench.use_it(cell.used_by).await.unwrap(), "{cell:?}");
    }
    let Bench { db, terminal, auditor, .. } = bench;
    drop((terminal, auditor));
    drop(db);
    let dir = site.stopped().await;
    nothing_starts_on_swapped_keys(&data, &cells).await;
    drop(dir);
}

/// A challenge leads to the transaction that it was issued for, and to no other.
async fn sessions_do_not_move(bench: &mut Bench) {
    let mut opened = Vec::new();
    for (id, card) in [("S1", CARD), ("S2", OTHER_CARD)] {
        let answer = bench.terminal.begin_capture(begin(id, card)).await.unwrap();
        opened.push(answer.into_inner().challenge);
    }
    let sql = "SELECT rowid FROM challenges WHERE state = 'open' ORDER BY rowid DESC LIMIT 2";
    let rows: Vec<i64> = column(&bench.db, sql);
    let cell =
        |row| Cell { table: "challenges", column: "sealed_session", row, used_by: Use::Nothing };
    swap(&bench.db, &cell(rows[0]), &cell(rows[1]));
    for (challenge, id, face) in [(&opened[0], "S1", "obama2.jpg"), (&opened[1], "S2", "biden.jpg")]
    {
        let refused = bench.terminal.verify(verify(id, 1, challenge, demo(face))).await;
        let refused = refused.unwrap_err();
        assert!(is_closed(&refused), "{}: {refused:?}", reason(&refused));
    }
}

/// The gateway signs for no key that it cannot open to, and gives a challenge all the same.
async fn nobodys_key_is_vouched_for(bench: &mut Bench) {
    let rows: Vec<i64> = column(&bench.db, "SELECT rowid FROM capture_keys");
    let cell =
        Cell { table: "capture_keys", column: "public_key", row: rows[0], used_by: Use::Nothing };
    let own = value(&bench.db, &cell);
    for (id, key, is_given) in [("K1", &own, true), ("K2", &vec![9; 32], false), ("K3", &own, true)]
    {
        put(&bench.db, &cell, key);
        let answer = bench.terminal.begin_capture(begin(id, CARD)).await.unwrap().into_inner();
        assert_eq!(answer.challenge.len(), 32);
        let given = answer.capture_key.map(|given| given.public_key);
        assert_eq!(given, is_given.then(|| own.clone()), "{id}");
    }
}

/// Templates and the vault's own keys are opened at the start.
async fn nothing_starts_on_swapped_keys(data: &Path, cells: &[Cell]) {
    let mut pairs = vec![];
    for column in ["captures", "customer_keys"] {
        let of: Vec<_> = cells.iter().filter(|cell| cell.table == column).cloned().collect();
        pairs.push((of[0].clone(), of[1].clone()));
    }
    let config = config(data);
    for (a, b) in &pairs {
        let db = database(data);
        swap(&db, a, b);
        drop(db);
        assert!(App::open(&config).await.is_err(), "{a:?} with {b:?}");
        let db = database(data);
        swap(&db, a, b);
        drop(db);
    }
    // It was that: with everything in its place the gateway starts.
    crate::keys::close(App::open(&config).await.unwrap()).await;
    // A table without row ids: by purpose.
    let db = database(data);
    let exchange =
        "UPDATE own_keys SET purpose = CASE purpose WHEN 'index' THEN 'x' ELSE 'index' END";
    for sql in [exchange, "UPDATE own_keys SET purpose = 'system' WHERE purpose = 'x'"] {
        db.execute(sql, []).unwrap();
    }
    drop(db);
    assert!(App::open(&config).await.is_err(), "the vault's own keys change places");
}
