//! KZ-06 at its number: a match just stronger than the pack asks, just as strong, and just too weak.

use bytes::Bytes;
use serde_json::Value;
use tempfile::TempDir;
use tulga::capture::{DecodedImage, encode_png};
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::Outcome::{Approved, Denied};
use tulga::proto::audit_service_client::AuditServiceClient;

use crate::rules::{Ask, Bank, CARD, altered, replace, said};
use crate::site::{begin, verify};
use crate::vision::photograph;

/// The strongest match that is ever stated, in dB.
const STRONGEST_DB: i64 = 60;

/// The pack `dev` with another bar, and cases that say so.
fn with_bar(bar: i64) -> TempDir {
    let pack = altered("dev", "tests/dev.toml", "strength_db = 52", "strength_db = 60");
    for (from, to) in [(40, bar), (39, bar - 1)] {
        let (from, to) = (format!("strength_db = {from} }}"), format!("strength_db = {to} }}"));
        replace(pack.path(), "tests/dev.toml", &from, &to);
    }
    replace(pack.path(), "pack.toml", "required_db = 40", &format!("required_db = {bar}"));
    pack
}

/// A photograph of the customer, pressed together to six tenths of its width: still a good picture, and
/// less like the person than any photograph.
fn pressed() -> Bytes {
    let image = photograph("obama2.jpg");
    let (width, height) = (image.width() as usize, image.height() as usize);
    let narrow = width * 6 / 10;
    let at = |row: usize, column: usize| (row * width + column * 10 / 6) * 3;
    let rgb = (0..height).flat_map(|row| (0..narrow).map(move |column| at(row, column)));
    let rgb = rgb.flat_map(|at| image.rgb()[at..at + 3].to_vec()).collect();
    let image = DecodedImage::from_rgb(narrow.try_into().unwrap(), image.height(), rgb).unwrap();
    encode_png(&image).unwrap().into()
}

async fn decided(bank: &mut Bank, id: &str, image: Bytes) -> proto::Decision {
    let mut request = begin(id, CARD);
    request.transaction.as_mut().unwrap().amount_minor = 1_000;
    let opened = bank.terminal.begin_capture(request).await.unwrap().into_inner();
    let asked = verify(id, 1, &opened.challenge, image);
    bank.terminal.verify(asked).await.unwrap().into_inner()
}

/// What the auditors are told of a decision's match.
async fn strength(bank: &Bank, decision: &proto::Decision) -> i64 {
    let mut auditor = AuditServiceClient::new(bank.site.staff(Role::Auditor).await);
    let index = decision.position.as_ref().unwrap().index;
    let record = auditor
        .get_audit_record(proto::GetAuditRecordRequest {
            index,
            ..proto::GetAuditRecordRequest::default()
        })
        .await
        .unwrap();
    let record: Value = serde_json::from_slice(&record.into_inner().record).unwrap();
    record["facts"]["strength_db"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kz_06_a_match_is_as_strong_as_the_pack_says() {
    let image = pressed();
    let mut bank = Bank::new_by(with_bar(STRONGEST_DB).path(), 0).await;
    // As strong as any match is stated: a real photograph of the customer reaches the greatest bar.
    let ask = |face| Ask { face, ..Ask::new(proto::Operation::Withdrawal, 1_000, "KZT") };
    bank.expect(ask("obama2.jpg"), "T1", Approved, &[]).await;
    bank.expect(ask("biden.jpg"), "T2", Denied, &["MAT_NOT_CONFIRMED"]).await;
    let weaker = decided(&mut bank, "T3", image.clone()).await;
    assert_eq!(said(&weaker), (Denied, vec!["MAT_NOT_CONFIRMED"]));
    let measured = strength(&bank, &weaker).await;
    assert!((40..STRONGEST_DB).contains(&measured), "{measured} dB");
    bank.finish().await;

    for (bar, outcome) in [(measured - 1, Approved), (measured, Approved), (measured + 1, Denied)] {
        let mut bank = Bank::new_by(with_bar(bar).path(), 0).await;
        let decision = decided(&mut bank, "T1", image.clone()).await;
        let reasons = if outcome == Denied { vec!["MAT_NOT_CONFIRMED"] } else { vec![] };
        assert_eq!(said(&decision), (outcome, reasons), "a bar of {bar} dB");
        assert_eq!(strength(&bank, &decision).await, measured, "the same pictures, the same match");
        bank.expect(ask("biden.jpg"), "T2", Denied, &["MAT_NOT_CONFIRMED"]).await;
        bank.finish().await;
    }
}
