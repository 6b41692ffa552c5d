//! Intervals that say how far the figures would move with other people.
//!
//! Comparisons are not independent: one person's bad picture spoils many of them. So whole
//! identities are drawn, with replacement, as many as there are (the subsets bootstrap of ISO/IEC
//! 19795-1, annex B; Bolle, Ratha, Pankanti 2004), and a draw is no more than a weight for each
//! identity: a genuine comparison counts as often as its identity was drawn, an impostor comparison
//! as often as the product of both. Copies of one identity are not compared with each other, since
//! they would be neither genuine nor impostor.
//!
//! The threshold is chosen anew in each draw, so the intervals include its uncertainty. With the
//! comparisons sorted once, a draw walks only over those impostors that score above the lowest
//! threshold in question, some ten thousand of millions, and the weighted number of all of them is
//! a closed formula ([`super::Pairing`]).
//!
//! Where no genuine comparison fails, no draw can show one that does. The upper end is then by the
//! rule of three over people: with none of n people seen to fail, fewer than 3/n do.

use rayon::prelude::*;

use super::number::{real_len, whole};
use super::rates::{Estimate, FalseMatchRate, Trials};

/// How the draws are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bootstrap {
    /// How many draws.
    pub draws: u32,
    /// Where the pseudo-random numbers start: the same seed gives the same intervals.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { draws: 1_000, seed: 1 }
    }
}

impl Bootstrap {
    /// The numbers of one draw. They start where a mixed number says: two draws that started a few
    /// steps from each other would draw nearly the same people.
    fn chance(self, draw: u32) -> SplitMix64 {
        SplitMix64(SplitMix64(self.seed.wrapping_add(u64::from(draw).wrapping_mul(ODD))).next())
    }
}

/// The middle 95 % of what the draws gave.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize)]
pub struct Interval(pub f64, pub f64);

/// Intervals of the rates.
#[derive(Clone, PartialEq, Debug)]
pub struct Intervals {
    /// Of the equal error rate.
    pub eer: Interval,
    /// Of the false non-match rate at each false match rate, in the order of the targets.
    pub fnmr: Vec<Interval>,
}

/// Draws identities again and again, and takes the middle 95 % of each rate.
#[must_use]
pub fn intervals(
    trials: &Trials,
    targets: &[FalseMatchRate],
    bootstrap: Bootstrap,
) -> Option<Intervals> {
    let estimates: Vec<Estimate> = (0..bootstrap.draws)
        .into_par_iter()
        .filter_map(|draw| {
            // Each draw has its own numbers, so that the answer is the same on any number of cores.
            let weights = draw_weights(trials.identities(), &mut bootstrap.chance(draw));
            trials.estimate_weighted(&weights, targets)
        })
        .collect();
    let eer = middle(estimates.iter().map(|estimate| estimate.eer).collect())?;
    let fnmr = (0..targets.len())
        .map(|at| {
            let rates = estimates.iter().filter_map(|estimate| estimate.points.get(at));
            let drawn = middle(rates.map(|point| point.fnmr).collect())?;
            Some(if drawn.1 > 0.0 { drawn } else { Interval(0.0, rule_of_three(trials)) })
        })
        .collect::<Option<_>>()?;
    Some(Intervals { eer, fnmr })
}

fn rule_of_three(trials: &Trials) -> f64 {
    (3.0 / real_len(trials.genuine_identities().max(1))).min(1.0)
}

/// How often each of `count` identities is drawn in `count` draws.
fn draw_weights(count: usize, chance: &mut SplitMix64) -> Vec<u64> {
    let mut weights = vec![0; count];
    for _ in 0..count {
        if let Some(weight) = weights.get_mut(chance.below(count)) {
            *weight += 1;
        }
    }
    weights
}

/// From the 2.5th to the 97.5th percentile, by nearest rank.
fn middle(mut rates: Vec<f64>) -> Option<Interval> {
    rates.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| {
        let rank = whole((share * real_len(rates.len())).ceil()).max(1);
        rates.get(usize::try_from(rank).ok()? - 1).copied()
    };
    Some(Interval(at(0.025)?, at(0.975)?))
}

/// `SplitMix64` (Steele, Lea, Flood 2014): enough chance for statistics, and none for secrets.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(ODD);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A position below `count`, by the upper half of a wide product.
    fn below(&mut self, count: usize) -> usize {
        let count = u128::try_from(count).unwrap_or(u128::MAX);
        usize::try_from((u128::from(self.next() >> 32) * count) >> 32).unwrap_or(0)
    }
}

/// 2^64 divided by the golden ratio, odd.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::super::rates::{Pairing, Trial};
    use super::*;

    fn target() -> FalseMatchRate {
        FalseMatchRate::new(0.1).unwrap()
    }

    /// `count` identities of two pictures each; every fourth one's genuine comparison fails.
    fn crowd(count: u32) -> Trials {
        let mut chance = SplitMix64(7);
        let mut score = |top: u32| {
            f32::from(u16::try_from(chance.next() % 1000).unwrap()) / 1000.0
                + f32::from(u16::try_from(top).unwrap())
        };
        let genuine = (0..count)
            .map(|at| Trial { score: score(u32::from(at % 4 != 0)), probe: at, reference: at })
            .collect();
        let mut impostor = Vec::new();
        for probe in 0..count {
            for reference in 0..probe {
                impostor.extend((0..4).map(|_| Trial { score: score(0), probe, reference }));
            }
        }
        let pictures = vec![2; usize::try_from(count).unwrap()];
        Trials::new(genuine, impostor, Pairing::EachWithEach { pictures }).unwrap()
    }

    #[test]
    fn the_estimate_lies_in_its_interval_and_more_people_narrow_it() {
        let width = |count| {
            let trials = crowd(count);
            let found = intervals(&trials, &[target()], Bootstrap::default()).unwrap();
            let fnmr = trials.estimate(&[target()]).points[0].fnmr;
            assert!(found.fnmr[0].0 <= fnmr && fnmr <= found.fnmr[0].1, "{found:?} {fnmr}");
            found.fnmr[0].1 - found.fnmr[0].0
        };
        let (few, many) = (width(20), width(160));
        // A share of a quarter among n: 4 · sqrt(0.25 · 0.75 / n), so 0.39 and 0.14 or less.
        assert!(few > 0.2 && few < 0.45, "{few}");
        assert!(many > 0.08 && many < 0.16, "{many}");
    }

    #[test]
    fn nobody_seen_to_fail_is_no_proof_that_nobody_does() {
        let pictures = vec![2; 30];
        let trial = |score, probe, reference| Trial { score, probe, reference };
        let genuine = (0..30).map(|at| trial(2.0, at, at)).collect();
        let pairs = (0..30).flat_map(|a| (0..a).map(move |b| (a, b)));
        let impostor = pairs.flat_map(|(a, b)| [trial(1.0, a, b); 4]).collect();
        let trials = Trials::new(genuine, impostor, Pairing::EachWithEach { pictures }).unwrap();
        let bootstrap = Bootstrap { draws: 40, seed: 1 };
        let found = intervals(&trials, &[target()], bootstrap).unwrap();
        assert_eq!(found.fnmr, [Interval(0.0, 0.1)]);
    }

    #[test]
    fn the_same_seed_gives_the_same_intervals() {
        let trials = crowd(30);
        let found = |seed| intervals(&trials, &[target()], Bootstrap { draws: 200, seed });
        assert_eq!(found(3), found(3));
        let weights = |seed| draw_weights(30, &mut Bootstrap { draws: 1, seed }.chance(0));
        assert_ne!(weights(3), weights(4));
    }

    #[test]
    fn a_draw_draws_as_many_as_there_are_and_favours_none() {
        let mut chance = SplitMix64(1);
        let mut counts = vec![0u64; 10];
        for _ in 0..2_000 {
            let weights = draw_weights(10, &mut chance);
            assert_eq!(weights.iter().sum::<u64>(), 10);
            counts.iter_mut().zip(&weights).for_each(|(count, weight)| *count += weight);
        }
        assert!(counts.iter().all(|count| (1_800..2_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn neighbouring_draws_draw_other_people() {
        let draws: Vec<_> = (0..50)
            .map(|draw| draw_weights(1_000, &mut Bootstrap::default().chance(draw)))
            .collect();
        for (at, a) in draws.iter().enumerate() {
            for b in draws.iter().skip(at + 1) {
                let apart: u64 = a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).sum();
                // Two Poisson numbers of mean one are 1.05 apart.
                assert!((900..1_200).contains(&apart), "{apart}");
            }
        }
    }

    #[test]
    fn the_middle_is_taken_by_nearest_rank() {
        let rates = (1..=1000u16).rev().map(f64::from).collect();
        assert_eq!(middle(rates), Some(Interval(25.0, 975.0)));
        assert_eq!(middle(vec![0.5]), Some(Interval(0.5, 0.5)));
        assert_eq!(middle(Vec::new()), None);
    }
}
