//! Fingers beside BOZORTH3 (the crate `fprint-bozorth3`, NIST's matcher in Rust): one comparison, and a
//! search, on one thread, turn by turn in one run.
//!
//! `cargo bench --features test-support --bench finger`. The fingers are synthetic, 40 minutiae each.
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a bench that fails may panic"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use fprint_bozorth3::match_score;
use rayon::ThreadPoolBuilder;
use tulga::domain::finger::FingerView;
use tulga::matching::synthetic::{SyntheticFinger, Wear};
use tulga::matching::{
    Calibration, FingerGallery, FingerMatcher, FingerMatchingParameters, FingerTable,
    FingerTemplate, LikelihoodMap, MatchScore, PreparedView, Scratch, Strength,
};

const MINUTIAE: usize = 40;
const PAIRS: u64 = 200;
const ROUNDS: usize = 5;
const GALLERY: u64 = 20_000;
const SEARCHES: u64 = 7;

fn main() {
    comparisons();
    search();
}

/// Two impressions with all of their finger's minutiae.
fn impressions(finger: u64) -> [FingerView; 2] {
    let wear = Wear { missed: 0.0, false_finds: 0.0, ..Wear::ORDINARY };
    let finger = SyntheticFinger::new(finger, MINUTIAE);
    [1, 2].map(|number| finger.impression(number, wear))
}

/// The same minutiae as BOZORTH3 takes them: y upward, whole degrees, its direction the other way.
fn for_bozorth(view: &FingerView) -> Vec<fprint_bozorth3::Minutia> {
    let minutiae = view.minutiae().iter().map(|minutia| fprint_bozorth3::Minutia {
        x: minutia.x().round() as i32,
        y: 600 - minutia.y().round() as i32,
        theta: (minutia.angle().to_degrees().round() as i32 + 180).rem_euclid(360),
    });
    minutiae.collect()
}

fn comparisons() {
    let views: Vec<_> = (0..PAIRS).map(impressions).collect();
    let prepared: Vec<_> =
        views.iter().map(|views| views.each_ref().map(PreparedView::new)).collect();
    let bozorth: Vec<_> = views.iter().map(|views| views.each_ref().map(for_bozorth)).collect();
    let matcher = matcher();
    let mut scratch = Scratch::default();
    let mut times = [const { Vec::new() }; 5];
    for round in 0..ROUNDS {
        for (at, [one, mate]) in prepared.iter().enumerate() {
            let other = (at + round + 1) % prepared.len();
            let stranger = &prepared[other][1];
            times[0].push(timed(|| matcher.compare_views(one, mate, &mut scratch)));
            times[1].push(timed(|| match_score(&bozorth[at][0], &bozorth[at][1])));
            times[2].push(timed(|| matcher.compare_views(one, stranger, &mut scratch)));
            times[3].push(timed(|| match_score(&bozorth[at][0], &bozorth[other][1])));
            times[4].push(timed(|| PreparedView::new(&views[at][0])));
        }
    }
    let [mates, bozorth_mates, strangers, bozorth_strangers, prepare] =
        times.map(|times| median(times).as_secs_f64() * 1e6);
    println!("median of one comparison, {MINUTIAE} minutiae, one thread, µs");
    println!("  mates      Tulga {mates:8.1}   bozorth3 {bozorth_mates:8.1}");
    println!("  strangers  Tulga {strangers:8.1}   bozorth3 {bozorth_strangers:8.1}");
    println!("  preparing a view {prepare:.1}");
}

fn search() {
    let mut gallery = FingerGallery::new(matcher());
    let mut bozorth = Vec::new();
    for finger in 0..GALLERY {
        let [enrolled, _] = impressions(finger);
        bozorth.push(for_bozorth(&enrolled));
        gallery.insert(finger, FingerTemplate::from_views(&[enrolled]).unwrap()).unwrap();
    }
    let one_thread = ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let (mut times, mut bozorth_times) = (Vec::new(), Vec::new());
    for finger in 0..SEARCHES {
        let [_, view] = impressions(finger * 997);
        let probe = FingerTemplate::from_views(std::slice::from_ref(&view)).unwrap();
        times.push(timed(|| {
            let hits = one_thread.install(|| gallery.search(&probe, 10)).unwrap();
            assert_eq!(hits.first().map(|hit| hit.key), Some(finger * 997));
        }));
        let probe = for_bozorth(&view);
        bozorth_times
            .push(timed(|| bozorth.iter().map(|enrolled| match_score(&probe, enrolled)).max()));
    }
    let rate = |times| GALLERY as f64 / median(times).as_secs_f64();
    println!("search among {GALLERY} fingers, one thread, fingers a second");
    println!("  Tulga {:.0}   bozorth3 {:.0}", rate(times), rate(bozorth_times));
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let begun = Instant::now();
    black_box(work());
    begun.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn matcher() -> FingerMatcher {
    let table = FingerTable {
        calibration: Calibration::new(vec![(0.1, 10.0), (0.3, 40.0)]).unwrap(),
        likelihood: LikelihoodMap::new(vec![(0.0, -3.0), (0.3, 6.0)]).unwrap(),
    };
    FingerMatcher::new(FingerMatchingParameters {
        own: table,
        foreign: std::collections::BTreeMap::new(),
        search_score_min: MatchScore::new(0.3).unwrap(),
        captures_agree_strength_min: Strength::from_db(30),
    })
}
