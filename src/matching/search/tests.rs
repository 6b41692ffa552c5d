//! Whatever is enrolled and whatever is asked, the search finds what comparing with everybody finds.

use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use proptest::prelude::*;

use super::super::tests::{face, matcher};
use super::kernels::Kernel;
use super::people::People;
use super::scan::{Found, PARALLEL_ROWS_MIN, Wanted, dot, scan};
use super::*;
use crate::domain::embedding::Making;

fn template(raw: &[f32]) -> Template {
    Template::from_captures(&[face(raw, Making::MirrorAveraged)]).unwrap()
}

/// Directions that spread around a circle in three dimensions.
fn spread(index: u16) -> Template {
    let angle = f32::from(index) * 0.37;
    template(&[angle.cos(), angle.sin(), (angle * 0.5).sin()])
}

#[test]
fn the_scan_scores_as_the_comparison_does() {
    let mut gallery = Gallery::new(matcher());
    for index in 0..50u16 {
        gallery.insert(index, &spread(index)).unwrap();
    }
    let probe = face(&[0.3, 0.9, 0.2], Making::MirrorAveraged);
    let as_template = Template::from_captures(std::slice::from_ref(&probe)).unwrap();
    let hits = gallery.search_from(&as_template, Strength::NONE, 50).unwrap();
    assert_eq!(hits.len(), 50);
    for hit in &hits {
        let expected = matcher().compare(&probe, &spread(hit.key)).unwrap();
        assert!((hit.score.get() - expected.get()).abs() < 1e-4);
    }
    assert!(hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
}

#[test]
fn only_those_above_the_bar_are_found() {
    let mut gallery = Gallery::new(matcher());
    gallery.insert("same", &template(&[1.0, 0.0, 0.0])).unwrap();
    gallery.insert("other", &template(&[0.0, 1.0, 0.0])).unwrap();
    let hits = gallery.search(&template(&[1.0, 0.02, 0.0]), 10).unwrap();
    assert_eq!(hits.iter().map(|hit| hit.key).collect::<Vec<_>>(), ["same"]);
    assert!(gallery.search(&template(&[1.0, 0.0, 0.0]), 0).unwrap().is_empty());
}

#[test]
fn whoever_is_removed_or_replaced_is_no_longer_found() {
    let mut gallery = Gallery::new(matcher());
    for index in 0..100u16 {
        gallery.insert(index, &template(&[1.0, f32::from(index), 0.0])).unwrap();
    }
    assert!(gallery.remove(&0));
    assert!(!gallery.remove(&0));
    gallery.insert(1, &template(&[0.0, 0.0, 1.0])).unwrap();
    assert_eq!(gallery.len(), 99);
    let found = gallery.search_from(&template(&[0.0, 0.0, 1.0]), Strength::MAX, 5).unwrap();
    assert_eq!(found.iter().map(|hit| hit.key).collect::<Vec<_>>(), [1]);
    let everybody = gallery.search_from(&spread(0), Strength::NONE, 200).unwrap();
    let mut keys: Vec<_> = everybody.iter().map(|hit| hit.key).collect();
    keys.sort_unstable();
    assert_eq!(keys, (1..100).collect::<Vec<_>>());
}

#[test]
fn a_large_gallery_is_searched_as_a_small_one() {
    let mut gallery = Gallery::new(matcher());
    let rows = u16::try_from(PARALLEL_ROWS_MIN).unwrap() + 3;
    for index in 0..rows {
        gallery.insert(index, &spread(index % 997)).unwrap();
    }
    let hits = gallery.search_from(&spread(5), Strength::MAX, 20_000).unwrap();
    let expected = (0..rows)
        .filter(|index| {
            let hit = matcher().compare(
                &face(spread(5).sface.values(), Making::MirrorAveraged),
                &spread(index % 997),
            );
            matcher().strength(hit.unwrap(), CalibratedAs::Template) == Strength::MAX
        })
        .count();
    assert!(expected > 8);
    assert_eq!(hits.len(), expected);
}

#[test]
fn a_template_of_another_model_is_refused() {
    let mut gallery = Gallery::new(matcher());
    assert!(gallery.search(&spread(1), 3).unwrap().is_empty());
    gallery.insert(1, &spread(1)).unwrap();
    let other = template(&[1.0, 0.0]);
    assert_eq!(gallery.insert(2, &other), Err(Incomparable));
    assert_eq!(gallery.search(&other, 1), Err(Incomparable));
}

#[test]
fn several_at_once_are_found_as_one_by_one() {
    let mut gallery = Gallery::new(matcher());
    for index in 0..3_000u16 {
        gallery.insert(index, &spread(index)).unwrap();
    }
    let probes: Vec<_> = (0..19).map(|number| spread(number * 7)).collect();
    let bar = Strength::from_db(55);
    let together = gallery.snapshot().search_many(&probes, bar, 40).unwrap();
    for (probe, hits) in probes.iter().zip(&together) {
        assert_eq!(hits, &gallery.search_from(probe, bar, 40).unwrap());
        assert!(!hits.is_empty());
    }
    let other = template(&[1.0, 0.0]);
    let mixed = [spread(1), other];
    assert_eq!(gallery.snapshot().search_many(&mixed, bar, 1), Err(Incomparable));
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let mut gallery = Gallery::new(matcher());
    for index in 0..3_000u16 {
        gallery.insert(index, &spread(index)).unwrap();
    }
    let before = gallery.snapshot();
    let found = before.search_from(&spread(3), Strength::MAX, 5_000).unwrap();
    for index in 0..1_500 {
        gallery.remove(&index);
        gallery.insert(index + 1_500, &template(&[0.0, 0.0, -1.0])).unwrap();
    }
    assert_eq!(before.search_from(&spread(3), Strength::MAX, 5_000).unwrap(), found);
    assert_eq!(gallery.len(), 1_500);
    assert!(gallery.search_from(&spread(3), Strength::MAX, 5_000).unwrap().is_empty());
}

#[test]
fn searches_see_everybody_once_while_people_come_and_go() {
    const STAYING: u16 = 1_200;
    const COMING: u16 = 2_000;
    let gallery = RwLock::new(Gallery::new(matcher()));
    // Those who stay come last at first, so that removals move them from place to place.
    for index in 0..COMING {
        gallery.write().unwrap().insert(STAYING + index, &spread(index)).unwrap();
    }
    for index in 0..STAYING {
        gallery.write().unwrap().insert(index, &spread(index)).unwrap();
    }
    let probe = spread(11);
    let score_of = |key: u16| {
        let now = gallery.read().unwrap().snapshot();
        let spread = spread(if key < STAYING { key } else { key - STAYING });
        let offset = now.matcher.parameters().fusion.offset();
        MatchScore::new(dot(&now.row(&probe), &now.row(&spread)) + offset).unwrap()
    };
    let scores: Vec<_> = (0..STAYING + COMING).map(score_of).collect();
    let (is_over, searches) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let search = || {
            while !is_over.load(Ordering::SeqCst) {
                let everybody = gallery.read().unwrap().snapshot();
                let hits = everybody.search_from(&probe, Strength::NONE, 10_000).unwrap();
                assert!(hits.iter().all(|hit| hit.score == scores[usize::from(hit.key)]));
                let mut keys: Vec<_> = hits.iter().map(|hit| hit.key).collect();
                keys.sort_unstable();
                assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "somebody was seen twice");
                assert!(
                    keys.into_iter().take(STAYING.into()).eq(0..STAYING),
                    "somebody is missing"
                );
                searches.fetch_add(1, Ordering::SeqCst);
            }
        };
        let searching = [scope.spawn(search), scope.spawn(search)];
        while searches.load(Ordering::SeqCst) < 20
            && !searching.iter().any(thread::ScopedJoinHandle::is_finished)
        {
            for index in 0..COMING {
                assert!(gallery.write().unwrap().remove(&(STAYING + index)));
            }
            for index in (0..COMING).rev() {
                gallery.write().unwrap().insert(STAYING + index, &spread(index)).unwrap();
            }
        }
        is_over.store(true, Ordering::SeqCst);
    });
    assert!(searches.into_inner() >= 20);
}

/// Numbers from a seed: `SplitMix64`.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    /// Roughly normal, of deviation 1.
    fn normal(&mut self) -> f32 {
        let uniform = |draws: &mut Self| {
            f32::from(u16::try_from(draws.next() >> 48).unwrap()) / 32_768.0 - 1.0
        };
        (0..6).map(|_| uniform(self)).sum::<f32>() / 2.0f32.sqrt()
    }

    fn unit(&mut self, width: usize, scale: f32) -> Vec<f32> {
        let raw: Vec<f32> = (0..width).map(|_| self.normal()).collect();
        let norm = dot(&raw, &raw).sqrt();
        raw.into_iter().map(|value| value / norm * scale).collect()
    }
}

/// How a gallery of a property is made.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Directions all over.
    Random,
    /// A few people many times over, differing by less than a code's step.
    NearDuplicates,
    /// Both halves as the manifest's models make them: the second about one common direction.
    Fused,
    /// Rows of zeros, of one number, of whole numbers (with equal scores), and of one another's copies.
    Special,
    /// Numbers from the least to the greatest, in one row or in all.
    Extreme,
}

fn rows(kind: Kind, people: usize, width: usize, draws: &mut Draws) -> Vec<Vec<f32>> {
    let common = draws.unit(width, 1.0);
    let few: Vec<_> = (0..4).map(|_| draws.unit(width, 1.0)).collect();
    let mut made: Vec<Vec<f32>> = Vec::new();
    for number in 0..people {
        let mut row = draws.unit(width, 1.0);
        match kind {
            Kind::Random => {}
            Kind::NearDuplicates => {
                let like = &few[number % few.len()];
                row.iter_mut().zip(like).for_each(|(value, like)| *value = like + *value * 1e-4);
            }
            Kind::Fused => {
                let (first, second) = row.split_at_mut(width / 2);
                let slopes = [0.7 / 0.08753f32, 0.3 / 0.03484];
                scale_to(first, slopes[0].sqrt());
                second.iter_mut().zip(&common).for_each(|(value, common)| *value += 2.3 * common);
                scale_to(second, slopes[1].sqrt());
            }
            Kind::Special => match draws.below(4) {
                0 => row.fill(0.0),
                1 => row.iter_mut().skip(1).for_each(|value| *value = 0.0),
                2 => row.iter_mut().for_each(|value| *value = (*value * 20.0).round()),
                _ => row = made.last().cloned().unwrap_or(row),
            },
            Kind::Extreme => {
                let powers = [1e-45f32, 1e-38, 1e-31, 1e-20, 1.0, 1e15, 1e19, 1e30, 3e38];
                let power = powers[draws.below(powers.len())];
                if draws.below(2) == 0 {
                    for value in &mut row {
                        *value *= power;
                    }
                } else {
                    let place = draws.below(width);
                    row[place] *= power;
                }
            }
        }
        made.push(row);
    }
    made
}

fn scale_to(values: &mut [f32], length: f32) {
    let norm = dot(values, values).sqrt().max(1e-6);
    for value in values {
        *value *= length / norm;
    }
}

/// What comparing with everybody in full gives.
fn everybody(rows: &[Vec<f32>], probe: &[f32], wanted: &Wanted<'_>) -> Vec<Found> {
    let mut found: Vec<_> = rows
        .iter()
        .enumerate()
        .filter_map(|(position, row)| {
            let score = MatchScore::new(dot(probe, row) + wanted.offset).ok()?;
            (wanted.accepts)(score).then_some(Found { score, position })
        })
        .collect();
    // Stable: equal scores stay in the order of their positions.
    found.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap());
    found.truncate(wanted.hits_max);
    found
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop::sample::select(vec![
        Kind::Random,
        Kind::NearDuplicates,
        Kind::Fused,
        Kind::Special,
        Kind::Extreme,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_codes_leave_nobody_out(
        (kind, asked) in (kinds(), kinds()),
        people in 1usize..1_300,
        width in 2usize..70,
        (seed, offset) in (any::<u64>(), prop::sample::select(vec![0.0f32, -7.97, 3.0, 1e9])),
        hits_max in prop::sample::select(vec![1usize, 2, 16, 5_000]),
        probes in 1usize..11,
    ) {
        let mut draws = Draws(seed);
        let rows = rows(kind, people, width, &mut draws);
        let mut held = People::new(width);
        rows.iter().enumerate().for_each(|(key, row)| held.push(key, row));
        // Strangers, and people who are in it.
        let mut probes = self::rows(asked, probes, width, &mut draws);
        probes.push(rows[draws.below(people)].clone());
        // A bar that somebody reaches to the bit, one that they miss by it, and none.
        let some = dot(&probes[0], &rows[draws.below(people)]) + offset;
        let top = dot(&probes[probes.len() - 1], &rows[draws.below(people)]) + offset;
        for bar in [some, some.next_up(), top, top.next_up(), f32::MIN] {
            prop_assume!(bar.is_finite());
            let accepts = |score: MatchScore| score.get() >= bar;
            let wanted = Wanted { offset, score_min: bar, accepts: &accepts, hits_max };
            let expected: Vec<_> =
                probes.iter().map(|probe| everybody(&rows, probe, &wanted)).collect();
            let asked: Vec<&[f32]> = probes.iter().map(Vec::as_slice).collect();
            for kernel in Kernel::all() {
                prop_assert_eq!(&scan(&held, &asked, &wanted, kernel), &expected, "{:?}", kernel);
            }
        }
    }

    #[test]
    fn removals_and_replacements_leave_nobody_out(
        kind in kinds(),
        (seed, width) in (any::<u64>(), 2usize..20),
        steps in prop::collection::vec((0usize..60, any::<bool>()), 1..300),
    ) {
        let mut draws = Draws(seed);
        let mut gallery = People::new(width);
        let mut expected: Vec<Vec<f32>> = Vec::new();
        for (place, is_insertion) in steps {
            let row = rows(kind, 1, width, &mut draws).remove(0);
            if place < expected.len() && is_insertion {
                gallery.replace(place, (), &row);
                expected[place] = row;
            } else if is_insertion {
                gallery.push((), &row);
                expected.push(row);
            } else {
                let popped = gallery.pop().map(|((), row)| row.to_vec());
                prop_assert_eq!(popped, expected.pop());
            }
        }
        prop_assert_eq!(gallery.len(), expected.len());
        let probe = draws.unit(width, 1.0);
        for (hits_max, score_min) in [(1, f32::MIN), (100, 0.1)] {
            let accepts = |score: MatchScore| score.get() >= score_min;
            let wanted = Wanted { offset: 0.0, score_min, accepts: &accepts, hits_max };
            let found = scan(&gallery, &[&probe], &wanted, Kernel::fastest());
            prop_assert_eq!(&found[0], &everybody(&expected, &probe, &wanted));
        }
    }
}

#[test]
fn few_are_compared_in_full() {
    const WIDTH: usize = 256;
    let mut draws = Draws(7);
    let rows = rows(Kind::Fused, PARALLEL_ROWS_MIN + 1_000, WIDTH, &mut draws);
    let mut gallery = People::new(WIDTH);
    for row in &rows {
        gallery.push((), row);
    }
    let probe = &self::rows(Kind::Fused, 1, WIDTH, &mut draws)[0];
    let mut scores: Vec<_> = rows.iter().map(|row| dot(probe, row)).collect();
    scores.sort_by(f32::total_cmp);
    let bar = scores[rows.len() - 10];
    let compared = AtomicUsize::new(0);
    let accepts = |score: MatchScore| {
        compared.fetch_add(1, Ordering::SeqCst);
        score.get() >= bar
    };
    let wanted = Wanted { offset: 0.0, score_min: bar, accepts: &accepts, hits_max: 100 };
    let found = scan(&gallery, &[probe], &wanted, Kernel::fastest());
    assert_eq!(found[0].len(), 10);
    let compared = compared.into_inner();
    assert!(compared < 100, "{compared} of {} were compared in full", rows.len());
}
