//! Pictures that differ by little from one that was shown before: found among others, an incident and a fact,
//! and no denial.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat};
use serde_json::{Value, json};
use tulga::capture::{DecodeLimits, EncodedImage, decode};
use tulga::clock::{Clock as _, ManualClock, SystemClock};
use tulga::domain::face_print::FacePrint;
use tulga::face::{Acquisition, FacePipeline};
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::audit_service_client::AuditServiceClient;
use tulga::proto::verification_service_client::VerificationServiceClient;

use crate::site::{Site, begin, demo, payload, verify};

const IIN: &str = "000000300017";
const CARD: &str = "card-token-1";
const RATE: &str = "[rate]\nper_terminal_per_minute = 10000\n";
const DAY_MS: i64 = 86_400_000;

static PIPELINE: LazyLock<FacePipeline> = LazyLock::new(|| {
    FacePipeline::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models")).unwrap()
});

/// A picture made of another one.
type Made = fn(&DynamicImage) -> Vec<u8>;

/// What somebody does to a picture who has it and wants other bytes.
const COPIES: [(&str, Made); 8] = [
    ("JPEG at quality 90", |it| jpeg(it, 90)),
    ("JPEG at quality 50", |it| jpeg(it, 50)),
    ("PNG", |it| {
        let mut png = Vec::new();
        it.write_to(&mut Cursor::new(&mut png), ImageFormat::Png).unwrap();
        png
    }),
    ("0.7 of the size", |it| jpeg(&scaled(it, 7), 90)),
    ("1.4 of the size", |it| jpeg(&scaled(it, 14), 90)),
    ("brighter", |it| jpeg(&it.brighten(25), 90)),
    ("more contrast", |it| jpeg(&it.adjust_contrast(15.0), 90)),
    ("a little cut off", |it| {
        let (width, height) = (it.width(), it.height());
        jpeg(&it.crop_imm(width / 50, height / 60, width - width / 25, height - height / 30), 90)
    }),
];

fn jpeg(picture: &DynamicImage, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    picture
        .to_rgb8()
        .write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality))
        .unwrap();
    bytes
}

/// So many tenths of its size.
fn scaled(picture: &DynamicImage, tenths: u32) -> DynamicImage {
    let side = |side: u32| side * tenths / 10;
    picture.resize_exact(side(picture.width()), side(picture.height()), FilterType::Triangle)
}

/// The print of a picture that `Verify` would compare.
fn print_of(picture: impl Into<Bytes>) -> Option<FacePrint> {
    let limits = DecodeLimits { encoded_bytes_max: 24 << 20, ..DecodeLimits::default() };
    let decoded = decode(&EncodedImage::new(picture.into()), &limits).ok()?;
    match PIPELINE.probe(&decoded).unwrap() {
        Acquisition::Usable(probe) => Some(probe.print),
        Acquisition::Refused(_) => None,
    }
}

#[test]
fn a_copy_is_near_and_another_picture_of_the_same_person_is_not() {
    let names = ["obama.jpg", "obama2.jpg", "obama3.jpg", "biden.jpg"];
    let prints = names.map(|name| print_of(demo(name)).unwrap());
    for (name, print) in names.into_iter().zip(&prints) {
        let picture = image::load_from_memory(&demo(name)).unwrap();
        for (how, copy) in COPIES {
            let copied = print_of(copy(&picture)).unwrap();
            assert!(copied.is_near(print), "{name}, {how}: {}", copied.distance(print));
        }
    }
    for (at, one) in prints.iter().enumerate() {
        for other in &prints[at + 1..] {
            assert!(!one.is_near(other), "{at}: {}", one.distance(other));
        }
    }
}

/// Whatever an auditor sees of a decision.
async fn record(site: &Site, decision: &proto::Decision) -> Value {
    let mut auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);
    let index = decision.position.as_ref().unwrap().index;
    let request = proto::GetAuditRecordRequest { index, ..Default::default() };
    let record = auditor.get_audit_record(request).await.unwrap().into_inner().record;
    serde_json::from_slice(&record).unwrap()
}

/// What incidents of a terminal the ledger tells of.
async fn incidents(site: &Site) -> Vec<Value> {
    let mut auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);
    let request = proto::ListReceiptsRequest::default();
    let entries = auditor.list_receipts(request).await.unwrap().into_inner().receipts;
    let mut found = Vec::new();
    for entry in entries.iter().filter(|it| payload(&it.receipt_jws)["act"] == "incidents") {
        let index = entry.position.as_ref().unwrap().index;
        let request = proto::GetAuditRecordRequest { index, ..Default::default() };
        let record = auditor.get_audit_record(request).await.unwrap().into_inner().record;
        let record: Value = serde_json::from_slice(&record).unwrap();
        found.push(json!([payload(&entry.receipt_jws)["subject"], record["counts"]]));
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_near_duplicate_is_an_incident_and_a_fact_for_a_day_and_denies_nothing() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let dir = tempfile::tempdir().unwrap();
    let site = Site::knowing(dir, 24, RATE, Arc::clone(&clock) as _).await;
    clock.advance_millis(SystemClock.now().get() - clock.now().get());
    site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    site.enroll("000000300029", "card-biden", &["biden.jpg"]).await;
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let photograph = image::load_from_memory(&demo("obama2.jpg")).unwrap();
    let mut shown = async |id: &str, card: &str, image: Vec<u8>| {
        let opened = terminal.begin_capture(begin(id, card)).await.unwrap().into_inner();
        let asked = verify(id, 1, &opened.challenge, image.into());
        terminal.verify(asked).await.unwrap().into_inner()
    };
    let first = shown("T1", CARD, demo("obama2.jpg").to_vec()).await;
    let other = shown("T2", CARD, demo("obama3.jpg").to_vec()).await;
    let copied = shown("T3", CARD, jpeg(&photograph, 80)).await;
    // Of somebody else's face and of nobody nothing is kept: it would crowd out what a copy could be made of.
    let elsewhere = shown("T4", "card-biden", jpeg(&photograph, 81)).await;
    let elsewhere_again = shown("T8", "card-biden", jpeg(&photograph, 85)).await;
    let nobody = shown("T5", "card-of-nobody", jpeg(&photograph, 82)).await;
    let nobody_again = shown("T6", "card-of-nobody", jpeg(&photograph, 83)).await;
    clock.advance_millis(DAY_MS + 1_000);
    let next_day = shown("T7", CARD, jpeg(&photograph, 84)).await;
    for (decision, is_near) in [
        (&first, false),
        (&other, false),
        (&copied, true),
        (&elsewhere, false),
        (&elsewhere_again, false),
        (&nobody, false),
        (&nobody_again, false),
        (&next_day, false),
    ] {
        let fact = &record(&site, decision).await["facts"]["near_duplicate"];
        assert_eq!(fact == &json!(true), is_near, "{fact}");
        assert!(!String::from_utf8_lossy(&decision.receipt_jws).contains("near"));
    }
    // The terminal is told nothing of it.
    for decision in [&first, &other, &copied, &next_day] {
        assert_eq!((decision.outcome(), decision.reasons.len()), (proto::Outcome::Approved, 0));
    }
    drop(terminal);
    let dir = site.stopped().await;
    let site = Site::again(dir, RATE, clock).await;
    assert_eq!(incidents(&site).await, [json!(["ATM-1", { "DEV_NEAR_DUPLICATE": 1 }])]);
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pack_can_ask_the_customer_about_a_near_duplicate() {
    let pack = crate::rules::altered(
        "kz-2026",
        "pack.toml",
        "near_duplicate\"]\nin_force = false",
        "near_duplicate\"]\nin_force = true",
    );
    // Its cases say that the rule is off; one that holds all the same is enough here.
    let cases = pack.path().join("tests/kz-2026.toml");
    let text = std::fs::read_to_string(&cases).unwrap();
    let one = text.split("[[case]]").take(2).collect::<Vec<_>>().join("[[case]]");
    std::fs::write(cases, one).unwrap();
    let more = format!("policy_dir = '{}'\n{RATE}", pack.path().display());
    let dir = tempfile::tempdir().unwrap();
    let site = Site::knowing(dir, 24, &more, Arc::new(SystemClock)).await;
    site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);
    let photograph = image::load_from_memory(&demo("obama2.jpg")).unwrap();
    let mut outcomes = Vec::new();
    for (id, image) in [("T1", demo("obama2.jpg").to_vec()), ("T2", jpeg(&photograph, 80))] {
        let opened = terminal.begin_capture(begin(id, CARD)).await.unwrap().into_inner();
        let asked = verify(id, 1, &opened.challenge, image.into());
        outcomes.push(terminal.verify(asked).await.unwrap().into_inner().outcome());
    }
    assert_eq!(outcomes, [proto::Outcome::ApprovedCapped, proto::Outcome::StepUp]);
    drop(terminal);
    site.finish().await;
}

/// How near copies are, and how far other pictures of the same people; docs/sensors.md has the figures. Of a
/// folder of one folder a person.
#[test]
#[ignore = "a measurement: TULGA_FACES names a folder of one folder a person"]
fn how_near_copies_are_and_how_far_other_pictures() {
    let Ok(faces) = std::env::var("TULGA_FACES") else {
        println!("skipped: TULGA_FACES names no folder");
        return;
    };
    let mut people: Vec<PathBuf> =
        std::fs::read_dir(faces).unwrap().map(|entry| entry.unwrap().path()).collect();
    people.sort();
    let (mut copies, mut others) = (Vec::new(), Vec::new());
    let mut by_kind = vec![Vec::new(); COPIES.len()];
    let pictures_max = std::env::var("TULGA_PICTURES").ok().map_or(400, |it| it.parse().unwrap());
    let mut pictures = 0;
    for person in people {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(person).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        if files.len() < 2 || pictures >= pictures_max {
            continue;
        }
        let mut prints = Vec::new();
        for file in files.iter().take(4) {
            let bytes = std::fs::read(file).unwrap();
            let picture = image::load_from_memory(&bytes).unwrap();
            let Some(print) = print_of(bytes) else { continue };
            pictures += 1;
            for (kind, (_, copy)) in COPIES.iter().enumerate() {
                if let Some(copied) = print_of(copy(&picture)) {
                    copies.push(copied.distance(&print));
                    by_kind[kind].push(copied.distance(&print));
                }
            }
            others.extend(prints.iter().map(|other: &FacePrint| other.distance(&print)));
            prints.push(print);
        }
    }
    println!("{pictures} pictures, {} copies, {} pairs of one person", copies.len(), others.len());
    copies.sort_unstable();
    others.sort_unstable();
    let quantile = |sorted: &[u32], percent: usize| sorted[(sorted.len() - 1) * percent / 100];
    println!(
        "copies: median {}, 95 % {}, 99 % {}, most {}",
        quantile(&copies, 50),
        quantile(&copies, 95),
        quantile(&copies, 99),
        quantile(&copies, 100)
    );
    println!(
        "others: least {}, 1 % {}, 5 % {}, median {}",
        quantile(&others, 0),
        quantile(&others, 1),
        quantile(&others, 5),
        quantile(&others, 50)
    );
    for (of_kind, (name, _)) in by_kind.iter_mut().zip(COPIES) {
        of_kind.sort_unstable();
        println!(
            "{name:<20} median {:>3}, 95 % {:>3}, most {:>3}",
            quantile(of_kind, 50),
            quantile(of_kind, 95),
            quantile(of_kind, 100)
        );
    }
    for bar in (8..=96).step_by(8) {
        let missed = copies.iter().filter(|it| **it > bar).count() as f64 / copies.len() as f64;
        let alarmed = others.iter().filter(|it| **it <= bar).count() as f64 / others.len() as f64;
        println!(
            "at {bar:>2}: {:>6.2} % of copies missed, {:>6.2} % of other pictures alarm",
            missed * 100.0,
            alarmed * 100.0
        );
    }
}
