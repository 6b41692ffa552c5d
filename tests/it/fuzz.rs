//! What is fuzzed, over the corpus of `fuzz/`: on every build, without a fuzzer.

#[path = "../../fuzz/src/targets.rs"]
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use prost::Message;
use tulga::domain::embedding::ModelId;
use tulga::domain::finger::FingerPosition::{LeftThumb, RightIndex, RightLittle};
use tulga::domain::finger::{FingerPosition, FingerView, Minutia, MinutiaKind};
use tulga::interchange::{ExportedView, MinutiaeRecord};
use tulga::ledger::TlogProof;
use tulga::proto;

use crate::receipts;
use crate::site::{begin, clip, consent, taken, verify};
use targets::TARGETS;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

/// Name and bytes of each file of a target's corpus.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(folder(target)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_target_bears_its_corpus_whole_cut_and_bent() {
    for (name, target) in TARGETS.iter().copied() {
        let corpus = corpus(name);
        let sound = corpus.iter().filter(|(_, bytes)| target(bytes)).count();
        assert!(corpus.len() >= 12, "{name} has only {} files", corpus.len());
        assert!(
            sound >= 4 && sound < corpus.len(),
            "{name}: {sound} of {} are sound",
            corpus.len()
        );
        for (_, bytes) in &corpus {
            for step in 0..16 {
                let at = bytes.len() * step / 16;
                target(&bytes[..at]);
                let mut bent = bytes.clone();
                if let Some(byte) = bent.get_mut(at) {
                    *byte ^= 0x55;
                    target(&bent);
                }
            }
        }
    }
}

/// Where no fuzzer can be built: files of the corpus, damaged without looking at what that reaches.
#[test]
#[ignore = "as many seconds a target as FUZZ_SECONDS says, 60 if it says nothing"]
fn every_target_bears_damage_for_as_long_as_it_is_told() {
    let seconds = std::env::var("FUZZ_SECONDS").map_or(60, |text| text.parse().unwrap());
    let only = std::env::var("FUZZ_TARGET").ok();
    for (name, target) in TARGETS.iter().copied() {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let files: Vec<_> = corpus(name).into_iter().map(|(_, bytes)| bytes).collect();
        let (begun, mut chance) = (Instant::now(), Chance(0x5eed_0001));
        let (mut count, mut sound) = (0_u64, 0_u64);
        while begun.elapsed() < Duration::from_secs(seconds) {
            let mut bytes = files[chance.below(files.len())].clone();
            for _ in 0..=chance.below(6) {
                damage(&mut bytes, &files[chance.below(files.len())], &mut chance);
            }
            let outcome = std::panic::catch_unwind(|| target(&bytes));
            let found = folder(name).join("../../artifacts");
            sound += u64::from(outcome.unwrap_or_else(|_| {
                fs::create_dir_all(&found).unwrap();
                fs::write(found.join(format!("{name}-{count}")), &bytes).unwrap();
                panic!("{name} does not bear damage {count}, kept in {}", found.display());
            }));
            count += 1;
        }
        println!("{name}: {count} damaged files in {seconds} s, {sound} of them sound");
    }
}

/// Numbers without a pattern, the same for the same seed (xorshift64*).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % end.max(1)
    }
}

/// One damage: a bit, a byte, a number, a cut, a doubling, or a piece of another file.
fn damage(bytes: &mut Vec<u8>, other: &[u8], chance: &mut Chance) {
    if bytes.is_empty() {
        bytes.extend_from_slice(other);
        return;
    }
    let at = chance.below(bytes.len());
    let run = (1 + chance.below(24)).min(bytes.len() - at);
    match chance.below(8) {
        0 => bytes[at] ^= 1 << chance.below(8),
        1 => bytes[at] = u8::try_from(chance.below(256)).unwrap(),
        2 => bytes[at] = b"\0\x01\x7f\x80\xff\n. +=-{}[]\"0A"[chance.below(18)],
        3 => bytes[at..at + run].fill(if chance.below(2) == 0 { 0xff } else { 0 }),
        4 => bytes.truncate(at),
        5 => drop(bytes.drain(at..at + run)),
        6 => {
            let piece = bytes[at..at + run].to_vec();
            bytes.splice(at..at, piece);
        }
        _ => {
            let from = chance.below(other.len());
            let piece = other[from..(from + run).min(other.len())].to_vec();
            bytes.splice(at..at + run, piece);
        }
    }
}

#[test]
fn every_target_is_built_by_the_fuzzer_and_has_a_corpus() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let named: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let stems = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(fuzz.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(stems("fuzz_targets"), named);
    assert_eq!(stems("corpus"), named);
    let manifest: toml::Table =
        toml::from_str(&fs::read_to_string(fuzz.join("Cargo.toml")).unwrap()).unwrap();
    let built = manifest["bin"].as_array().unwrap();
    let built: BTreeSet<_> =
        built.iter().map(|bin| bin["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(built, named);
}

/// `UPDATE=1` writes them. What the fuzzer found stands beside them under other names.
#[test]
fn the_seeds_are_in_the_corpus() {
    for (target, name, bytes) in seeds() {
        let path = folder(target).join(name);
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(folder(target)).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        let kept = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(kept == bytes, "{} is not the seed; UPDATE=1 writes it", path.display());
    }
}

type Seed = (&'static str, String, Vec<u8>);

fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    seeds.extend(requests());
    seeds.extend(texts());
    seeds.extend(templates());
    seeds
}

fn of<'a>(
    target: &'static str,
    files: impl IntoIterator<Item = (&'a str, Vec<u8>)>,
) -> impl Iterator<Item = Seed> {
    files.into_iter().map(move |(name, bytes)| (target, format!("seed-{name}"), bytes))
}

fn picture() -> Vec<u8> {
    tulga::capture::encode_grey_png(&grey(24, 20)).unwrap()
}

/// A gradient.
fn grey(width: u32, height: u32) -> tulga::capture::GreyImage {
    let rows = (0..height).flat_map(|y| (0..width).map(move |x| (x * 7 + y * 3) % 256));
    let pixels = rows.map(|grey| u8::try_from(grey).unwrap()).collect();
    tulga::capture::GreyImage::from_pixels(width, height, 500, pixels).unwrap()
}

fn captured(change: impl Fn(&mut proto::VerifyRequest)) -> Vec<u8> {
    let mut request = verify("T-1", 1, &[7; 32], picture().into());
    change(&mut request);
    request.encode_to_vec()
}

fn requests() -> Vec<Seed> {
    let verify_requests = [
        ("face", captured(|_| ())),
        (
            "footage",
            captured(|request| {
                request.footage = Some(proto::Footage {
                    from: "2026-11-21T00:00:00Z".into(),
                    to: "2026-11-21T00:01:00Z".into(),
                    ..clip(0, 60)
                });
            }),
        ),
        ("attempt-9", captured(|request| request.attempt = 9)),
        ("language", captured(|request| request.language = "kk".into())),
        (
            "media-type",
            captured(|request| {
                request.capture.as_mut().unwrap().media_type = Some("image/png".into());
            }),
        ),
        (
            "finger",
            captured(|request| {
                request.capture.as_mut().unwrap().pixels_per_inch = Some(500);
            }),
        ),
        (
            "further",
            captured(|request| {
                request.further = vec![request.capture.clone().unwrap()];
            }),
        ),
        (
            "sealed",
            captured(|request| {
                let capture = request.capture.as_mut().unwrap();
                capture.image.clear();
                capture.sealed = Some(sealed());
            }),
        ),
        (
            "sealed-and-open",
            captured(|request| request.capture.as_mut().unwrap().sealed = Some(sealed())),
        ),
        ("signed", captured(|request| request.envelopes = vec![envelope()])),
        ("no-capture", captured(|request| request.capture = None)),
        ("no-challenge", captured(|request| request.challenge.clear())),
        ("long-challenge", captured(|request| request.challenge = vec![1; 200])),
        ("bad-date", captured(|request| request.business_date = "2026-13-41".into())),
        ("bad-name", captured(|request| request.host_transaction_id = "a b".into())),
        ("nested", vec![0x2a, 0x80, 0x80, 0x80, 0x80, 0x08]),
        ("empty", Vec::new()),
    ];
    of("verify_request", verify_requests).chain(of("parse_envelope", envelopes())).collect()
}

fn sealed() -> proto::SealedImage {
    let (key_id, sensor_id) = ("capture-1".into(), "CAM-1".into());
    proto::SealedImage { key_id, sensor_id, sealed: vec![7; 60].into() }
}

fn envelope() -> proto::CaptureEnvelope {
    proto::CaptureEnvelope {
        sensor_id: "CAM-1".into(),
        key_id: "cam-1".into(),
        counter: 7,
        captured_at_ms: 1_795_226_594_123,
        verdict: proto::SensorVerdict::Live.into(),
        signature: vec![7; 64],
    }
}

fn envelopes() -> Vec<(&'static str, Vec<u8>)> {
    let tagged = |which: u8, message: &dyn Fn() -> Vec<u8>| [vec![which], message()].concat();
    let iin = |digits: &str| {
        let reference = proto::customer_reference::Reference::Iin(digits.into());
        let mut request = begin("T-1", "");
        request.customer = Some(proto::CustomerReference { reference: Some(reference) });
        request.encode_to_vec()
    };
    let key = proto::GetDecisionRequest {
        business_date: "2026-11-21".into(),
        host_transaction_id: "T-1".into(),
        attempt: 1,
        language: "ru".into(),
    };
    let exception = proto::RequestExceptionRequest {
        customer: begin("", "card-1").customer,
        transaction: begin("T-1", "").transaction,
        attempt: 1,
        holder_verification: proto::HolderVerification::CardAndPin.into(),
        language: "en".into(),
        bank: Some(proto::BankFacts::default()),
    };
    let redeem = proto::RedeemRequest {
        receipt_jws: b"a.b.c".to_vec(),
        transaction_salt: vec![1; 32],
        host_transaction_id: "T-1".into(),
        business_date: "2026-11-21".into(),
        attempt: 1,
        account: "account-1".into(),
        counterparty: None,
        amount_minor: 5_000_000,
        currency: "KZT".into(),
        operation: proto::Operation::Withdrawal.into(),
    };
    let reverse = proto::ReverseRequest {
        receipt_jws: b"a.b.c".to_vec(),
        host_transaction_id: "T-1".into(),
        business_date: "2026-11-21".into(),
        attempt: 1,
        moved_minor: 0,
        currency: "KZT".into(),
    };
    // Twelve digits of nobody: the month is 00.
    let customer =
        proto::CreateCustomerRequest { iin: "000000300017".into(), consent: Some(consent()) };
    let begin_add = proto::BeginAddCaptureRequest {
        customer_id: "07".repeat(16),
        terminal_id: "DESK-1".into(),
        modality: proto::Modality::Finger.into(),
        finger_position: 2,
    };
    let added = |change: fn(&mut proto::AddCaptureRequest)| {
        let mut request = proto::AddCaptureRequest {
            customer_id: "07".repeat(16),
            language: "en".into(),
            challenge: vec![7; 32],
            sealed: Some(sealed()),
            ..proto::AddCaptureRequest::default()
        };
        change(&mut request);
        request.encode_to_vec()
    };
    vec![
        ("begin", tagged(0, &|| begin("T-1", "card-1").encode_to_vec())),
        ("begin-iin", tagged(0, &|| iin("000000300017"))),
        ("begin-bad-iin", tagged(0, &|| iin("000000300018"))),
        ("begin-nothing", tagged(0, &Vec::new)),
        ("exception", tagged(1, &|| exception.encode_to_vec())),
        ("outcome", tagged(2, &|| taken("T-1", 100).encode_to_vec())),
        ("outcome-negative", tagged(2, &|| taken("T-1", -100).encode_to_vec())),
        ("redeem", tagged(3, &|| redeem.encode_to_vec())),
        ("reverse", tagged(4, &|| reverse.encode_to_vec())),
        ("customer", tagged(5, &|| customer.encode_to_vec())),
        ("import-nothing", tagged(6, &Vec::new)),
        ("decision", tagged(7, &|| key.encode_to_vec())),
        ("begin-add", tagged(8, &|| begin_add.encode_to_vec())),
        ("add", tagged(9, &|| added(|_| ()))),
        ("add-signed", tagged(9, &|| added(|request| request.envelope = Some(envelope())))),
        (
            "add-no-challenge",
            tagged(9, &|| {
                added(|request| {
                    request.challenge.clear();
                    request.envelope = Some(envelope());
                })
            }),
        ),
        ("wrong-kind", tagged(2, &|| key.encode_to_vec())),
        ("empty", Vec::new()),
    ]
}

fn texts() -> Vec<Seed> {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vectors");
    let read = |name: &str| fs::read_to_string(vectors.join(name)).unwrap();
    let checkpoint = read("checkpoint");
    let witnessed = TlogProof::parse(&read("witnessed/receipt.tlog-proof")).unwrap();
    let witnessed = witnessed.checkpoint().to_owned();
    let (receipt, proof) = (read("receipt.jws").trim().to_owned(), read("receipt.tlog-proof"));
    let unsigned: String = checkpoint.split_inclusive('\n').take(3).collect();
    let vkey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let bent = |text: &str, from: &str, to: &str| text.replacen(from, to, 1).into_bytes();
    let notes = [
        ("checkpoint", checkpoint.clone().into_bytes()),
        ("witnessed", witnessed.clone().into_bytes()),
        ("two", format!("{checkpoint}\n{witnessed}").into_bytes()),
        ("unsigned", unsigned.clone().into_bytes()),
        ("no-newline", unsigned.trim_end().as_bytes().to_vec()),
        ("submission", format!("old 0\n\n{checkpoint}").into_bytes()),
        (
            "submission-proof",
            format!("old 1\n{}\n\n{checkpoint}", "A".repeat(43) + "=").into_bytes(),
        ),
        ("policy", format!("log {vkey}\nwitness w1 {vkey}\nquorum w1\n").into_bytes()),
        ("group", format!("witness a {vkey}\ngroup g any a\nquorum g\n").into_bytes()),
        ("none", b"quorum none\n".to_vec()),
        ("log-of-logs", read("export/log-of-logs").into_bytes()),
        ("key", vkey.as_bytes().to_vec()),
        (
            "many-signatures",
            (checkpoint.clone() + &"\u{2014} x AAAAAAAA\n".repeat(70)).into_bytes(),
        ),
        ("other-dash", bent(&checkpoint, "\u{2014}", "-")),
        ("large-size", bent(&checkpoint, "\n", "\n99999999999999999999")),
    ];
    let proofs = [
        ("proof", proof.clone().into_bytes()),
        ("other-index", bent(&proof, "index ", "index 1")),
        ("huge-index", bent(&proof, "index ", "index 18446744073709551615")),
        ("no-checkpoint", proof.split("\n\n").next().unwrap().as_bytes().to_vec()),
        ("crlf", proof.replace('\n', "\r\n").into_bytes()),
        ("twice", proof.repeat(2).into_bytes()),
        ("deep", bent(&proof, "\n\n", &format!("\n{}\n", (("A".repeat(43) + "=\n").repeat(70))))),
        ("empty", Vec::new()),
    ];
    let proofs = proofs.into_iter().chain(longer_proofs());
    of("parse_note", notes)
        .chain(of("parse_proof", proofs))
        .chain(of("parse_receipt", receipts_of(&receipt, &read("keys.json"))))
        .collect()
}

/// Proofs of places in larger trees.
fn longer_proofs() -> Vec<(&'static str, Vec<u8>)> {
    let book = crate::audit::Book::of_size(9, 8);
    let checkpoint = book.checkpoints.last().unwrap();
    [("first", 0), ("second", 1), ("middle", 5), ("last", 7)]
        .map(|(name, index)| {
            let proof = TlogProof::make(&book.tree, index, 8, checkpoint.clone());
            (name, proof.unwrap().to_text().into_bytes())
        })
        .to_vec()
}

fn receipts_of(receipt: &str, keys: &str) -> Vec<(&'static str, Vec<u8>)> {
    let issued = |number, content| receipts::signed(content, number).0.into_string().into_bytes();
    let parts: Vec<&str> = receipt.split('.').collect();
    vec![
        ("verification", receipt.as_bytes().to_vec()),
        ("keys", keys.as_bytes().to_vec()),
        ("keys-twice", keys.replacen("\"kid\"", "\"kid\":\"x\",\"kid\"", 1).into_bytes()),
        ("verification-1", issued(1, receipts::verification())),
        ("outcome", issued(2, receipts::outcome("AAAAAAAAAAAAAAAAAAAABg", 1))),
        ("administration", issued(3, receipts::administration("terminal_revoked"))),
        ("erasure", issued(4, receipts::erasure_of_bodies(1, 2))),
        ("two-parts", format!("{}.{}", parts[0], parts[1]).into_bytes()),
        ("four-parts", format!("{receipt}.AA").into_bytes()),
        ("no-header", format!(".{}.{}", parts[1], parts[2]).into_bytes()),
        ("no-signature", format!("{}.{}.", parts[0], parts[1]).into_bytes()),
        ("padded", format!("{receipt}==").into_bytes()),
        ("other-body", format!("{}.e30.{}", parts[0], parts[2]).into_bytes()),
        ("newline", format!("{receipt}\n").into_bytes()),
    ]
}

fn templates() -> Vec<Seed> {
    let record = |fingers: &[(FingerPosition, u32)], per_cm| {
        let views: Vec<_> = fingers.iter().map(|(_, minutiae)| view(*minutiae)).collect();
        let exported: Vec<_> = fingers
            .iter()
            .zip(&views)
            .map(|((position, _), view)| ExportedView {
                position: Some(*position),
                quality: Some(71),
                view,
            })
            .collect();
        MinutiaeRecord::of_views([300, 400], per_cm, &exported).unwrap().to_bytes().to_vec()
    };
    let one = record(&[(RightIndex, 12)], 197);
    let bent = |at: usize, byte: u8| {
        let mut bytes = one.clone();
        bytes[at] = byte;
        bytes
    };
    let files = [
        ("one", one.clone()),
        ("two", record(&[(RightIndex, 3), (LeftThumb, 40)], 197)),
        ("same-twice", record(&[(RightLittle, 5), (RightLittle, 6)], 197)),
        ("fine", record(&[(RightIndex, 20)], 394)),
        ("none", record(&[(RightIndex, 0)], 197)),
        ("many", record(&[(RightIndex, 200)], 197)),
        ("magic", bent(0, b'G')),
        ("edition", bent(5, b'9')),
        ("length", bent(11, 0xff)),
        ("size", bent(15, 0)),
        ("views", bent(22, 0xff)),
        ("short", one[..one.len() - 1].to_vec()),
        ("long", [one.clone(), vec![0; 4]].concat()),
        ("empty", Vec::new()),
    ];
    of("parse_template", files).collect()
}

/// A view with so many minutiae, in rows.
fn view(minutiae: u32) -> FingerView {
    let places = (0..minutiae).map(|number| {
        let (x, y) = (10 + number % 20 * 12, 10 + number / 20 * 30);
        let kind = [MinutiaKind::Ending, MinutiaKind::Bifurcation][number as usize % 2];
        Minutia::new(x as f32, y as f32, 1.0, kind, 0.5).unwrap()
    });
    FingerView::new(ModelId::new([9; 32]), places.collect())
}
