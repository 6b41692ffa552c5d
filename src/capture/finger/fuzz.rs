//! Damaged files: whatever is done to them, they are decoded or refused.
//!
//! The mutations are those of a coverage-blind fuzzer: bits, bytes, numbers, cuts, doublings, and
//! pieces of other files; one to eight at a time, on files of every kind. What is decoded must keep
//! to the limits.

use std::time::{Duration, Instant};

use super::samples::{self, Record};
use super::{DecodeLimits, FingerImageDeclaration, FingerImageKind, decode_finger};
use crate::capture::wsq::encoder::{Encoder, waves};

/// Files that are sound, with what is declared of them.
fn seeds() -> Vec<(Vec<u8>, FingerImageDeclaration)> {
    let (grey, metre) = (samples::grey(), (19_685, 19_685));
    let png = samples::png(&grey, metre);
    let restarts = Encoder { restart_every: Some(500), ..Encoder::even() };
    let small = restarts.encode(64, 65, &waves(64, 65));
    let coarse = Encoder { bin: 4.0, unsent: (40..60).collect(), ..Encoder::default() };
    let files = [
        samples::written(&grey, image::ImageFormat::Png),
        samples::written(&samples::rgb(false), image::ImageFormat::Png),
        samples::plain_tiff(&grey),
        samples::plain_tiff(&samples::rgb(false)),
        samples::tiff(true, (500, 500), 2),
        samples::tiff(false, (500, 500), 2),
        samples::bmp(&grey, metre),
        samples::bmp(&samples::rgb(false), metre),
        samples::wsq(),
        small.clone(),
        coarse.encode(100, 70, &waves(100, 70)),
        Record::iso(0, samples::pixels()).bytes(),
        Record::ansi(5, png.clone()).bytes(),
        Record::iso(2, samples::wsq()).bytes(),
        Record::ansi(3, samples::written(&grey, image::ImageFormat::Jpeg)).bytes(),
        Record { views: vec![small.clone(), small], ..Record::iso(2, Vec::new()) }.bytes(),
        png,
    ];
    let declared = FingerImageDeclaration { pixels_per_inch: Some(500), ..Default::default() };
    let mut seeds: Vec<_> = files.into_iter().map(|file| (file, declared)).collect();
    let size_px = Some((samples::WIDTH, samples::HEIGHT));
    let raw = FingerImageDeclaration { kind: Some(FingerImageKind::Raw), size_px, ..declared };
    seeds.push((samples::pixels(), raw));
    seeds
}

/// Numbers without a pattern, the same for the same seed (xorshift64*).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 11).unwrap() % end.max(1)
    }

    /// A place in a file, every other time near its beginning, where the headers are.
    fn place(&mut self, length: usize) -> usize {
        let end = if self.below(2) == 0 { length.min(160) } else { length };
        self.below(end)
    }
}

fn damaged(file: &[u8], other: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut file = file.to_vec();
    for _ in 0..=chance.below(8) {
        if file.is_empty() {
            break;
        }
        let at = chance.place(file.len());
        let run = (chance.below(32) + 1).min(file.len() - at);
        match chance.below(9) {
            0 => file[at] ^= 1 << chance.below(8),
            1 => file[at] = u8::try_from(chance.below(256)).unwrap(),
            2 => file[at] = *[0, 1, 127, 128, 254, 255].get(chance.below(6)).unwrap(),
            3 if run >= 4 => {
                let number = [0, 1, 64, 0xffff, 0x7fff_ffff, u32::MAX, 4_096, 100_000];
                let number = number[chance.below(8)].to_be_bytes();
                let number =
                    if chance.below(2) == 0 { number } else { [3, 2, 1, 0].map(|n| number[n]) };
                let bytes = if chance.below(2) == 0 { &number[..] } else { &number[2..] };
                file[at..at + bytes.len()].copy_from_slice(bytes);
            }
            4 => file.truncate(chance.below(file.len()).max(at)),
            5 => drop(file.drain(at..at + run)),
            6 => {
                let piece = file[at..at + run].to_vec();
                file.splice(at..at, piece);
            }
            7 => {
                let from = chance.place(other.len());
                let piece = &other[from..(from + run).min(other.len())];
                file.splice(at..at + run, piece.iter().copied());
            }
            _ => {
                let to = chance.place(file.len() - run + 1);
                file.copy_within(at..at + run, to);
            }
        }
    }
    file
}

/// Runs until `is_done` and tells how many were run, and how many of them were decoded.
fn run(chance: u64, mut is_done: impl FnMut(usize) -> bool) -> (usize, usize) {
    let (seeds, mut chance) = (seeds(), Chance(chance));
    let limits = DecodeLimits { pixels_max: 1_000_000, ..DecodeLimits::for_fingers() };
    let (mut count, mut sound) = (0, 0);
    while !is_done(count) {
        let (file, declared) = &seeds[chance.below(seeds.len())];
        let (other, _) = &seeds[chance.below(seeds.len())];
        let file = damaged(file, other, &mut chance);
        if let Ok(image) = decode_finger(&file, declared, &limits) {
            let pixels = u64::from(image.width()) * u64::from(image.height());
            assert!(pixels <= limits.pixels_max && image.pixels().len() as u64 == pixels);
            sound += 1;
        }
        count += 1;
    }
    (count, sound)
}

/// Where the corpus of `fuzz/` came from.
#[test]
#[ignore = "writes the seeds into the folder that FUZZ_SEEDS names"]
fn seeds_are_written() {
    let folder = std::path::PathBuf::from(std::env::var_os("FUZZ_SEEDS").unwrap());
    for (number, (file, declared)) in seeds().into_iter().enumerate() {
        let kind =
            declared.kind.or_else(|| FingerImageKind::of(&file)).map(FingerImageKind::as_str);
        let kind = kind.unwrap_or("unknown").rsplit('/').next().unwrap();
        std::fs::write(folder.join(format!("seed-{number:02}-{kind}")), file).unwrap();
    }
}

#[test]
fn no_damage_makes_the_decoder_panic() {
    let (count, sound) = run(1, |count| count == 3_000);
    // Damage that changes grey levels only is not noticed, and some must reach the pixels.
    assert!(sound > count / 20 && sound < count, "{sound} of {count}");
}

#[test]
#[ignore = "as many minutes as FUZZ_MINUTES says, ten if it says nothing"]
fn no_damage_of_ten_minutes_makes_the_decoder_panic() {
    let minutes = std::env::var("FUZZ_MINUTES").map_or(10, |text| text.parse().unwrap());
    let seed = std::env::var("FUZZ_SEED").map_or(2, |text| text.parse().unwrap());
    let start = Instant::now();
    let end = Duration::from_secs(minutes * 60);
    let (count, sound) = run(seed, |count| count % 64 == 0 && start.elapsed() > end);
    println!("{count} damaged files in {minutes} minutes, {sound} of them decoded, 0 panics");
    assert!(count > 0);
}
