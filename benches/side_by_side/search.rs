//! The gallery at the other end of a pipe, for `search.py`, which measures it beside FAISS.
//!
//! It enrols so many people of random templates, then answers one line of standard input at a time;
//! what the lines are is the table in [`answer`]. Rows come from their number and a seed, so that both
//! sides have the same bytes and no file is needed.
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench that fails may panic"
)]

use std::io::{BufWriter, Write, stdin, stdout};
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use tulga::domain::embedding::{Embedding, FaceEmbedding, Making, ModelId};
use tulga::domain::score::FusionTerm;
use tulga::matching::{
    Calibration, Fusion, Gallery, Matcher, MatchingParameters, Snapshot, Strength, Template,
};

/// Probes are numbered from here on, so that nobody enrolled is one.
const PROBES_FROM: u64 = 1 << 40;

/// Bytes that the plain read goes through at the most.
const READ_BYTES_MAX: usize = 1 << 30;

fn main() {
    // `cargo bench` adds a word of its own.
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let [people, width, seed] = numbers[..] else {
        eprintln!("PEOPLE WIDTH SEED expected: this is run by benches/side_by_side/search.py");
        return;
    };
    let people = u32::try_from(people).unwrap();
    let width = usize::try_from(width).unwrap();
    let begun = Instant::now();
    let source = Source { width, seed };
    let mut gallery = Gallery::new(matcher());
    for person in 0..people {
        gallery.insert(person, &source.template(person.into())).unwrap();
    }
    println!("ready {:.1}", begun.elapsed().as_secs_f64());
    let bytes = READ_BYTES_MAX.min(width * usize::try_from(people).unwrap());
    let site = Site { source, people, gallery: RwLock::new(gallery), plain: vec![1; bytes / 8] };
    for line in stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let numbers: Vec<u64> = words[1..].iter().map(|word| word.parse().unwrap()).collect();
        answer(&site, words[0], &numbers);
        stdout().flush().unwrap();
    }
}

struct Site {
    source: Source,
    people: u32,
    gallery: RwLock<Gallery<u32>>,
    plain: Vec<u64>,
}

impl Site {
    /// As the gateway takes it: the lock is held no longer.
    fn everybody(&self) -> Snapshot<u32> {
        self.gallery.read().unwrap().snapshot()
    }
}

/// | line | answer |
/// | --- | --- |
/// | `rows FIRST COUNT` | the rows of these people, in 32-bit floats |
/// | `probes COUNT` | the probes' rows |
/// | `top COUNT THREADS` | the seconds it took, then for each of the first probes the best row and its score |
/// | `read THREADS` | bytes and seconds of a plain read of memory, as many bytes as the codes have or a GiB |
/// | `insert COUNT` | the median and the greatest seconds of an insertion while scans are under way, and how many |
/// | `check COUNT TENTHS` | whether top-1 and all hits above a strength are, to the bit, those of a scan in full |
fn answer(site: &Site, word: &str, numbers: &[u64]) {
    match (word, numbers) {
        ("rows", [first, count]) => site.source.write(*first, *count),
        ("probes", [count]) => site.source.write(PROBES_FROM, *count),
        ("top", [count, threads]) => {
            let probes = site.source.probes(*count);
            let pool = pool(*threads);
            let begun = Instant::now();
            let hits = pool.install(|| site.everybody().search_many(&probes, Strength::NONE, 1));
            print!("{:.9}", begun.elapsed().as_secs_f64());
            hits.unwrap()
                .iter()
                .flatten()
                .for_each(|hit| print!(" {} {}", hit.key, hit.score.get()));
            println!();
        }
        ("read", [threads]) => {
            let begun = Instant::now();
            let sum = pool(*threads).install(|| {
                site.plain.par_chunks(1 << 15).map(plain_sum).reduce(|| 0, u64::wrapping_add)
            });
            let seconds = begun.elapsed().as_secs_f64();
            println!("{} {seconds:.9} {}", site.plain.len() * 8, sum % 10);
        }
        ("insert", [count]) => {
            let (median, greatest, scans) = insert(site, *count);
            println!("{median:.9} {greatest:.9} {scans}");
        }
        ("check", [count, tenths]) => {
            let bar = Strength::from_tenths(u16::try_from(*tenths).unwrap());
            println!("{}", check(site, *count, bar));
        }
        _ => panic!("{word} is no question"),
    }
}

/// Enrols people anew, all over the gallery, while another thread searches without a pause.
fn insert(site: &Site, count: u64) -> (f64, f64, usize) {
    let (is_over, scans) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut seconds = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            let probes = site.source.probes(1);
            while !is_over.load(Ordering::SeqCst) {
                site.everybody().search_many(&probes, Strength::NONE, 1).unwrap();
                scans.fetch_add(1, Ordering::SeqCst);
            }
        });
        for number in 0..count {
            let key = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % u64::from(site.people);
            let template = site.source.template(key);
            // As enrolments come: not one after the other without a breath.
            thread::sleep(Duration::from_millis(3));
            let begun = Instant::now();
            site.gallery.write().unwrap().insert(u32::try_from(key).unwrap(), &template).unwrap();
            seconds.push(begun.elapsed().as_secs_f64());
        }
        is_over.store(true, Ordering::SeqCst);
    });
    seconds.sort_by(f64::total_cmp);
    (seconds[seconds.len() / 2], seconds[seconds.len() - 1], scans.into_inner())
}

fn pool(threads: u64) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(usize::try_from(threads).unwrap()).build().unwrap()
}

fn plain_sum(part: &[u64]) -> u64 {
    let (chunks, rest) = part.as_chunks::<32>();
    let mut sums = [0u64; 32];
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum = sum.wrapping_add(*value));
    }
    sums.iter().chain(rest).fold(0, |sum, value| sum.wrapping_add(*value))
}

/// Compares the search with one that reads every row in full.
fn check(site: &Site, count: u64, bar: Strength) -> String {
    let probes = site.source.probes(count);
    let top = site.everybody().search_many(&probes, Strength::NONE, 1).unwrap();
    let above = site.everybody().search_many(&probes, bar, usize::MAX).unwrap();
    let rows: Vec<_> = (0..count).map(|probe| site.source.row(PROBES_FROM + probe)).collect();
    let matcher = matcher();
    let score_min = matcher.parameters().template.score_at(bar).unwrap().get();
    // A few people at a time, so that their rows stay in the cache for all probes.
    let scores = |first: u32| -> Vec<Vec<(f32, u32)>> {
        let people: Vec<_> = (first..site.people.min(first + 256))
            .map(|person| (person, site.source.row(person.into())))
            .collect();
        let of_probe = |probe: &Vec<f32>| {
            let scored: Vec<_> = people.iter().map(|(key, row)| (dot(probe, row), *key)).collect();
            let best = scored.iter().copied().reduce(better).unwrap();
            std::iter::once(best)
                .chain(scored.into_iter().filter(|(score, _)| *score >= score_min))
                .collect()
        };
        rows.iter().map(of_probe).collect()
    };
    let firsts: Vec<u32> = (0..site.people).step_by(256).collect();
    let nothing = || vec![Vec::new(); rows.len()];
    let all = firsts.into_par_iter().map(scores).reduce(nothing, |mut a, b| {
        a.iter_mut().zip(b).for_each(|(a, mut b)| {
            // Best first, then those above the bar; the first of two bests is kept.
            let best = a.first().copied().into_iter().chain(b.first().copied()).reduce(better);
            let rest = a.drain(..).skip(1).chain(b.drain(..).skip(1)).collect::<Vec<_>>();
            a.extend(best.into_iter().chain(rest));
        });
        a
    });
    let mut hits = 0;
    for ((full, top), above) in all.iter().zip(&top).zip(&above) {
        let found: Vec<_> = above.iter().map(|hit| (hit.score.get(), hit.key)).collect();
        let mut expected = full[1..].to_vec();
        expected.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        if (top[0].score.get(), top[0].key) != full[0] || found != expected {
            return "DIFFERENT".to_owned();
        }
        hits += found.len();
    }
    format!("identical {} {hits}", all.len())
}

fn better(a: (f32, u32), b: (f32, u32)) -> (f32, u32) {
    if b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).is_gt() { b } else { a }
}

/// As the gallery defines a score: eight sums side by side.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    sums.iter().sum::<f32>()
}

/// Both models weigh the same and the slopes are 1, so that a row is its two embeddings as they are.
fn matcher() -> Matcher {
    let term = FusionTerm::new(0.5, 0.0, 0.5).unwrap();
    let table = Calibration::new(vec![(-2.0, 0.0), (2.0, 60.0)]).unwrap();
    Matcher::new(MatchingParameters {
        fusion: Fusion { sface: term, dlib: term },
        single: table.clone(),
        template: table,
        search_strength_min: Strength::from_db(45),
        captures_agree_strength_min: Strength::from_db(45),
        likelihood: None,
    })
}

/// Random people, by number.
struct Source {
    width: usize,
    seed: u64,
}

impl Source {
    fn template(&self, number: u64) -> Template {
        let face = self.face(number);
        Template::from_captures(&[face]).unwrap()
    }

    fn probes(&self, count: u64) -> Vec<Template> {
        (0..count).map(|probe| self.template(PROBES_FROM + probe)).collect()
    }

    /// The row as the gallery keeps it: a template is the mean of its one capture.
    fn row(&self, number: u64) -> Vec<f32> {
        let face = self.face(number);
        let parts = [&face.sface, &face.dlib].map(|part| Embedding::mean(&[part]).unwrap());
        parts.iter().flat_map(|part| part.values().iter().copied()).collect()
    }

    fn write(&self, first: u64, count: u64) {
        let mut out = BufWriter::with_capacity(1 << 20, stdout().lock());
        for number in first..first + count {
            for value in self.row(number) {
                out.write_all(&value.to_le_bytes()).unwrap();
            }
        }
        out.flush().unwrap();
    }

    fn face(&self, number: u64) -> FaceEmbedding {
        let mut state = self.seed ^ number.wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let mut embedding = |model: u8| {
            let raw: Vec<f32> = (0..self.width / 2).map(|_| normal(&mut state)).collect();
            Embedding::from_raw(ModelId::new([model; 32]), &raw).unwrap()
        };
        FaceEmbedding { sface: embedding(1), dlib: embedding(2), making: Making::MirrorAveraged }
    }
}

/// Nearly normal: the sum of four uniform numbers, from one step of `SplitMix64`.
fn normal(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^= bits >> 31;
    let part = |shift: u32| f32::from(u16::try_from((bits >> shift) & 0xFFFF).unwrap());
    part(0) + part(16) + part(32) + part(48) - 131_070.0
}
