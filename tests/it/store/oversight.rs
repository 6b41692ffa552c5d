//! What reports and the retention clerk look at: decisions, footage with its holds, evidence.

use tulga::domain::decision::SignCode;
use tulga::domain::footage::Footage;
use tulga::domain::id::{CameraId, CaseReference, ClipHash};
use tulga::domain::money::Currency;
use tulga::domain::reason::Reason;
use tulga::domain::time::UnixMillis;
use tulga::domain::transaction::Operation;
use tulga::domain::turnover::Direction;
use tulga::store::{
    ApprovedSum, ClipRow, EntryCount, EvidenceCounts, EvidenceRow, FootageCounts, FootageFilter,
    FootageRow, FootageState, MovementRow, OutcomeCount, Store, StoreError, VerificationRow,
};

use super::ORIGIN;
use super::fixtures::{
    add_customer, customer_id, decision, digest, entry, receipt, terminal, write,
};

fn at(millis: i64) -> UnixMillis {
    UnixMillis::new(millis)
}

fn kzt() -> Currency {
    Currency::try_from("KZT").unwrap()
}

fn decided(index: u64, host: &str, attempt: u32, time: i64) -> VerificationRow {
    VerificationRow {
        index,
        at: at(time),
        key: decision(host, attempt).key,
        operation: Operation::CashWithdrawal,
        amount_minor: 100,
        approved_minor: Some(100),
        currency: kzt(),
        outcome: "APPROVED".into(),
        reasons: vec![],
        signs: vec![],
        subject: "pseudonym-1".into(),
    }
}

fn refused(row: VerificationRow, reasons: &[Reason]) -> VerificationRow {
    VerificationRow {
        approved_minor: None,
        outcome: "DENIED".into(),
        reasons: reasons.to_vec(),
        ..row
    }
}

async fn insert(store: &dyn Store, rows: &[VerificationRow]) {
    write(store, async |unit| {
        for row in rows {
            unit.insert_verification(row).await?;
        }
        Ok(())
    })
    .await
    .unwrap();
}

pub async fn decisions_with_signs_come_by_time_and_page(store: &dyn Store) {
    let signs =
        |codes: &[&str]| codes.iter().map(|code| SignCode::try_from(*code).unwrap()).collect();
    let rows = [
        VerificationRow { signs: signs(&["1035"]), ..decided(0, "0", 1, 99) },
        VerificationRow { signs: signs(&["1035", "1040"]), ..decided(1, "1", 1, 100) },
        decided(2, "2", 1, 100),
        refused(
            VerificationRow { signs: signs(&["1040"]), ..decided(3, "3", 1, 199) },
            &[Reason::MatNoMatch, Reason::PolAmount],
        ),
        VerificationRow { signs: signs(&["1035"]), ..decided(4, "4", 1, 200) },
    ];
    insert(store, &rows).await;
    let page = async |after, limit| store.with_signs(at(100), at(200), after, limit).await.unwrap();
    assert_eq!(page(None, 9).await, [rows[1].clone(), rows[3].clone()]);
    assert_eq!(page(None, 1).await, [rows[1].clone()]);
    assert_eq!(page(Some(1), 9).await, [rows[3].clone()]);
    assert_eq!(page(Some(3), 9).await, []);
    let again = write(store, async |unit| unit.insert_verification(&rows[2]).await).await;
    assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
}

pub async fn approvals_add_up_with_what_moved_in_truth(store: &dyn Store) {
    add_customer(store, 1).await;
    let mut elsewhere = decided(5, "5", 1, 150);
    elsewhere.key.terminal = terminal("ATM-0");
    let rows = [
        decided(1, "1", 1, 100),
        VerificationRow { amount_minor: 900, approved_minor: Some(50), ..decided(2, "2", 1, 199) },
        VerificationRow { operation: Operation::CashDeposit, ..decided(3, "3", 1, 150) },
        refused(decided(4, "4", 1, 150), &[Reason::PolAmount]),
        elsewhere,
        decided(6, "6", 1, 99),
        decided(7, "7", 1, 200),
        VerificationRow { currency: Currency::try_from("USD").unwrap(), ..decided(8, "8", 1, 150) },
    ];
    insert(store, &rows).await;
    let movement = |row: &VerificationRow| MovementRow {
        key: row.key.clone(),
        customer: customer_id(1),
        account: digest(11),
        card: None,
        direction: Direction::Withdrawals,
        approved_minor: row.approved_minor.unwrap(),
        currency: row.currency,
        at: row.at,
    };
    let (first, second) = (movement(&rows[0]), movement(&rows[2]));
    write(store, async |unit| {
        unit.insert_movement(&first).await?;
        unit.insert_movement(&second).await?;
        unit.set_moved(&first.key, 40, 9).await?;
        unit.set_moved(&second.key, 0, 10).await
    })
    .await
    .unwrap();
    let sum = |name: &str, operation, currency: &str, counts: [i64; 4]| ApprovedSum {
        terminal: terminal(name),
        operation,
        currency: Currency::try_from(currency).unwrap(),
        approved: counts[0],
        approved_minor: counts[1],
        moved: counts[2],
        moved_minor: counts[3],
    };
    let withdrawal = Operation::CashWithdrawal;
    assert_eq!(
        store.approved_sums(at(100), at(200)).await.unwrap(),
        [
            sum("ATM-0", withdrawal, "KZT", [1, 100, 1, 100]),
            sum("ATM-1", Operation::CashDeposit, "KZT", [1, 100, 0, 0]),
            sum("ATM-1", withdrawal, "KZT", [2, 150, 2, 90]),
            sum("ATM-1", withdrawal, "USD", [1, 100, 1, 100]),
        ]
    );
}

pub async fn outcomes_are_counted_by_terminal_and_reason(store: &dyn Store) {
    let mismatch = [Reason::MatNoMatch];
    let another = VerificationRow {
        subject: "pseudonym-2".into(),
        ..refused(decided(5, "3", 1, 100), &mismatch)
    };
    let rows = [
        refused(decided(1, "1", 1, 50), &mismatch),
        decided(2, "1", 2, 100),
        refused(decided(3, "2", 1, 100), &[Reason::PolAmount, Reason::MatNoMatch]),
        refused(decided(4, "4", 1, 100), &[Reason::PolAmount]),
        another,
        decided(6, "3", 2, 100),
        // A later refusal precedes nothing.
        decided(7, "7", 1, 100),
        refused(decided(8, "7", 2, 100), &mismatch),
    ];
    insert(store, &rows).await;
    let count = |outcome: &str, reasons: &[Reason], count, after_mismatch| OutcomeCount {
        terminal: terminal("ATM-1"),
        outcome: outcome.into(),
        reasons: reasons.to_vec(),
        count,
        after_mismatch,
    };
    assert_eq!(
        store.outcome_counts(at(100), at(200)).await.unwrap(),
        [
            // The refusal before the span counts to the approval in it; another customer's does not.
            count("APPROVED", &[], 3, 1),
            count("DENIED", &mismatch, 2, 0),
            count("DENIED", &[Reason::PolAmount], 1, 0),
            count("DENIED", &[Reason::PolAmount, Reason::MatNoMatch], 1, 0),
        ]
    );
    assert_eq!(store.outcome_counts(at(200), at(300)).await.unwrap(), []);
}

pub async fn entries_of_a_kind_are_counted_by_terminal(store: &dyn Store) {
    let mut other = entry(3, Some("ATM-1"), 150);
    other.kind = "exception".into();
    let rows = [
        entry(0, Some("ATM-1"), 100),
        entry(1, Some("ATM-1"), 199),
        entry(2, Some("ATM-2"), 150),
        other,
        entry(4, None, 150),
        entry(5, Some("ATM-1"), 200),
    ];
    write(store, async |unit| {
        for row in &rows {
            unit.insert_entry(ORIGIN, row).await?;
        }
        Ok(())
    })
    .await
    .unwrap();
    let counts = store.entry_counts(ORIGIN, "verification", at(100), at(200)).await.unwrap();
    let of = |name, count| EntryCount { terminal: terminal(name), count };
    assert_eq!(counts, [of("ATM-1", 2), of("ATM-2", 1)]);
    assert_eq!(store.entry_counts("other", "verification", at(0), at(999)).await.unwrap(), []);
}

fn duty(index: u64, decision: u64, clip: Option<u8>) -> FootageRow {
    let clip = clip.map(|number| ClipRow {
        footage: Footage::new(
            CameraId::try_from("CAM-1").unwrap(),
            at(1),
            at(2),
            ClipHash::new([number; 32]),
        )
        .unwrap(),
        sealed_salt: vec![number; 60],
    });
    FootageRow {
        index,
        decision,
        terminal: terminal("ATM-1"),
        at: at(100 + i64::try_from(index).unwrap()),
        is_missing: clip.is_none(),
        clip,
        keep_until: at(1_000),
        deleted_at: None,
    }
}

async fn listed(store: &dyn Store, state: FootageState) -> Vec<u64> {
    let filter = FootageFilter { state, from: None, until: None, terminal: None };
    let page = store.footage_page(&filter, None, 100).await.unwrap();
    page.into_iter().map(|duty| duty.row.index).collect()
}

pub async fn footage_is_missing_due_or_on_hold(store: &dyn Store) {
    use FootageState::{Any, Due, Missing, OnHold};
    let case = |text| CaseReference::try_from(text).unwrap();
    let rows = [duty(0, 0, Some(1)), duty(1, 1, None), duty(2, 2, None), duty(3, 1, Some(2))];
    write(store, async |unit| {
        for row in &rows {
            unit.insert_footage(row).await?;
        }
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(listed(store, Any).await, [0, 1, 2, 3]);
    assert_eq!(listed(store, Missing).await, [2], "the outcome named the clip of 1");
    assert_eq!(listed(store, Due(at(999))).await, Vec::<u64>::new());
    assert_eq!(listed(store, Due(at(1_000))).await, [0, 3]);
    let hold = async |name: &'static str| {
        write(store, async |unit| unit.insert_hold(1, &case(name), at(5)).await).await
    };
    hold("B").await.unwrap();
    hold("A").await.unwrap();
    assert!(matches!(hold("A").await, Err(StoreError::Exists)));
    assert_eq!(
        listed(store, OnHold).await,
        [1, 3],
        "a decision's hold is on its outcome's clip, too"
    );
    assert_eq!(listed(store, Due(at(1_000))).await, [0]);
    let counts = FootageCounts { due: 1, missing: 1, on_hold: 2 };
    assert_eq!(store.footage_counts(at(1_000)).await.unwrap(), counts);
    let on_hold = store.footage(3).await.unwrap().unwrap();
    assert_eq!((on_hold.row, on_hold.cases), (rows[3].clone(), vec![case("A"), case("B")]));
    for (name, was_there) in [("A", true), ("A", false), ("B", true)] {
        let lifted = write(store, async |unit| unit.delete_hold(1, &case(name)).await).await;
        assert_eq!(lifted.unwrap(), was_there, "{name}");
    }
    let deleted = async |index| {
        write(store, async |unit| {
            let was_there = unit.delete_footage(index, at(2_000)).await?;
            let deleted_at = unit.footage(index).await?.and_then(|duty| duty.row.deleted_at);
            Ok((was_there, deleted_at))
        })
        .await
        .unwrap()
    };
    assert_eq!(deleted(3).await, (true, Some(at(2_000))));
    assert!(!deleted(3).await.0, "once");
    assert_eq!(deleted(2).await, (false, None), "it names no clip");
    assert_eq!(deleted(77).await, (false, None));
    assert_eq!(listed(store, Due(at(1_000))).await, [0]);
}

pub async fn footage_comes_in_pages_and_by_filter(store: &dyn Store) {
    let mut elsewhere = duty(2, 2, None);
    elsewhere.terminal = terminal("ATM-2");
    write(store, async |unit| {
        for row in [duty(0, 0, None), duty(1, 1, None), elsewhere, duty(3, 3, None)] {
            unit.insert_footage(&row).await?;
        }
        Ok(())
    })
    .await
    .unwrap();
    let all = FootageFilter { state: FootageState::Any, from: None, until: None, terminal: None };
    let page = async |filter: FootageFilter, after, limit| {
        let page = store.footage_page(&filter, after, limit).await.unwrap();
        page.into_iter().map(|duty| duty.row.index).collect::<Vec<_>>()
    };
    assert_eq!(page(all.clone(), Some(0), 2).await, [1, 2]);
    let span = FootageFilter { from: Some(at(101)), until: Some(at(103)), ..all.clone() };
    assert_eq!(page(span, None, 9).await, [1, 2]);
    let there = FootageFilter { terminal: Some(terminal("ATM-2")), ..all };
    assert_eq!(page(there, None, 9).await, [2]);
    let again = write(store, async |unit| unit.insert_footage(&duty(1, 1, None)).await).await;
    assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
}

pub async fn evidence_is_destroyed_when_it_is_due_and_not_held(store: &dyn Store) {
    let kept = |number: u8, keep_until| EvidenceRow {
        index: u64::from(number),
        receipt: receipt(number),
        shelf: "2026-11-21".into(),
        media_type: "image/jpeg".into(),
        wrapped: Some(vec![number; 60]),
        kek_id: Some("00000001".into()),
        keep_until: at(keep_until),
    };
    let rows = [kept(1, 300), kept(2, 200), kept(3, 200), kept(4, 999)];
    let case = CaseReference::try_from("CASE-1").unwrap();
    write(store, async |unit| {
        for row in &rows {
            unit.insert_evidence(row).await?;
        }
        unit.insert_hold(3, &case, at(1)).await
    })
    .await
    .unwrap();
    assert_eq!(store.evidence(2).await.unwrap(), Some(rows[1].clone()));
    assert!(store.has_evidence(&receipt(2)).await.unwrap());
    assert!(!store.has_evidence(&receipt(9)).await.unwrap());
    let counts = EvidenceCounts { due: 2, on_hold: 1, kept: 1 };
    assert_eq!(store.evidence_counts(at(300)).await.unwrap(), counts);
    let due = async |now, limit| {
        write(store, async |unit| unit.evidence_due(at(now), limit).await).await.unwrap()
    };
    assert_eq!(due(300, 9).await, [2, 1], "the oldest first");
    assert_eq!(due(300, 1).await, [2]);
    assert_eq!(due(299, 9).await, [2]);
    let destroy = || write(store, async |unit| unit.destroy_evidence(2).await);
    assert!(destroy().await.unwrap());
    assert!(!destroy().await.unwrap());
    assert_eq!(store.evidence(2).await.unwrap().unwrap().wrapped, None);
    assert!(store.has_evidence(&receipt(2)).await.unwrap(), "its file is not an orphan");
    let files = async |after| {
        let rows = store.evidence_files_to_remove(after, 9).await.unwrap();
        rows.into_iter().map(|row| row.index).collect::<Vec<_>>()
    };
    assert_eq!(files(None).await, [2]);
    assert_eq!(files(Some(2)).await, Vec::<u64>::new());
    write(store, async |unit| {
        unit.note_file_removed(2).await?;
        // One that has its key is not noted.
        unit.note_file_removed(1).await
    })
    .await
    .unwrap();
    write(store, async |unit| unit.destroy_evidence(1).await).await.unwrap();
    assert_eq!(files(None).await, [1]);
    let counts = EvidenceCounts { due: 0, on_hold: 1, kept: 1 };
    assert_eq!(store.evidence_counts(at(300)).await.unwrap(), counts);
}
