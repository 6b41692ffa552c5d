//! From genuine and impostor scores to the steps of a [`LikelihoodMap`].

use serde::Serialize;

use super::calibrate::FALSE_MATCHES_MIN;
use super::number::{narrow, real_len};
use super::rates::Trials;
use crate::domain::likelihood::LikelihoodMap;

/// The steps, and how many comparisons are behind them.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct LikelihoodReport {
    /// Genuine comparisons.
    pub genuine: usize,
    /// Impostor comparisons.
    pub impostor: usize,
    /// (score from which it holds, nats), rising.
    pub steps: Vec<(f32, f32)>,
}

/// Scores that lie together, and what share of either kind they are.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Block {
    from: f32,
    genuine: f64,
    impostor: f64,
}

impl LikelihoodReport {
    /// The best monotone fit: the ratio of the two kinds' shares among scores that lie together, pooled
    /// wherever it would fall (pool adjacent violators; Brümmer and du Preez, Computer Speech and
    /// Language 20, 2006).
    ///
    /// Nothing is extrapolated. One genuine comparison is added below all and three
    /// impostors above all, so that no ratio claims more than so many comparisons can show; and the mean
    /// ratio of an impostor is at most 1, on which the strength of a sum rests.
    #[must_use]
    pub fn of(trials: &Trials) -> Self {
        let (genuine, impostor) = (trials.genuine(), trials.impostor());
        let genuine_all = real_len(genuine) + 1.0;
        let impostor_all = real_len(impostor) + FALSE_MATCHES_MIN;
        let nats = |block: &Block| {
            narrow(((block.genuine / genuine_all) / (block.impostor / impostor_all)).ln())
        };
        let mut steps: Vec<(f32, f32)> = Vec::new();
        for block in pooled(singles(trials)) {
            // Written down rounded against the claim: a higher score, fewer nats.
            let from = (block.from * 1e3).ceil() / 1e3;
            let nats = ((nats(&block) * 1e3).floor() / 1e3).min(CLAIM_NATS_MAX);
            match steps.last_mut() {
                // The lower claim stands for both.
                Some(last) if last.0 >= from => last.1 = last.1.min(nats),
                _ => steps.push((from, nats)),
            }
        }
        Self { genuine, impostor, steps }
    }

    /// The steps as a value of `manifest.toml`.
    pub(super) fn to_toml(&self, name: &str) -> String {
        let steps: Vec<_> =
            self.steps.iter().map(|(score, nats)| format!("[{score:.3}, {nats:.3}]")).collect();
        let lines: Vec<_> = steps.chunks(6).map(|line| line.join(", ")).collect();
        format!("{name} = [\n  {},\n]\n", lines.join(",\n  "))
    }

    /// The map of these steps.
    ///
    /// # Errors
    ///
    /// `None` when there are more steps than a map takes.
    #[must_use]
    pub fn map(&self) -> Option<LikelihoodMap> {
        LikelihoodMap::new(self.steps.clone()).ok()
    }
}

/// One block for each score, rising, with what is added at both ends.
fn singles(trials: &Trials) -> Vec<Block> {
    let genuine = trials.genuine_scores().map(|from| Block { from, genuine: 1.0, impostor: 0.0 });
    let impostor = trials.impostor_scores().map(|from| Block { from, genuine: 0.0, impostor: 1.0 });
    let mut blocks: Vec<Block> = genuine.chain(impostor).collect();
    blocks.sort_by(|a, b| a.from.total_cmp(&b.from));
    let (lowest, highest) = (blocks.first().copied(), blocks.last().copied());
    if let (Some(lowest), Some(highest)) = (lowest, highest) {
        blocks.insert(0, Block { from: lowest.from, genuine: 1.0, impostor: 0.0 });
        blocks.push(Block { from: highest.from, genuine: 0.0, impostor: FALSE_MATCHES_MIN });
    }
    blocks
}

/// Pools neighbours until the genuine share rises from block to block.
fn pooled(blocks: Vec<Block>) -> Vec<Block> {
    let mut pooled: Vec<Block> = Vec::new();
    for mut block in blocks {
        while let Some(last) = pooled.last().copied() {
            let is_one_score = last.from >= block.from;
            let falls = last.genuine * block.impostor >= block.genuine * last.impostor;
            if !is_one_score && !falls {
                break;
            }
            pooled.pop();
            block = Block {
                from: last.from,
                genuine: last.genuine + block.genuine,
                impostor: last.impostor + block.impostor,
            };
        }
        pooled.push(block);
    }
    pooled
}

/// 60 dB: what a map takes at the most.
const CLAIM_NATS_MAX: f32 = 13.815;

#[cfg(test)]
mod tests {
    use super::super::rates::tests::trials;
    use super::*;
    use crate::domain::score::MatchScore;
    use proptest::prelude::*;

    fn ratio(map: &LikelihoodMap, score: f32) -> f32 {
        map.ratio(MatchScore::new(score).unwrap()).nats()
    }

    #[test]
    fn scores_apart_give_what_the_counts_allow() {
        let impostor: Vec<f32> = (0..1_000u16).map(|step| f32::from(step) / 1e4).collect();
        let report = LikelihoodReport::of(&trials(&[0.9; 99], &impostor));
        let map = report.map().unwrap();
        // 99 of 100 genuine ones against 3 of 1,003 impostors.
        let most = (0.99f32 / (3.0 / 1_003.0)).ln();
        assert!((ratio(&map, 0.95) - most).abs() < 2e-3, "{report:?}");
        assert!((ratio(&map, 0.05) - 0.01f32.ln()).abs() < 1e-2, "{report:?}");
    }

    #[test]
    fn scores_that_tell_nothing_are_no_evidence() {
        let scores: Vec<f32> = (0..500u16).map(f32::from).collect();
        let map = LikelihoodReport::of(&trials(&scores, &scores)).map().unwrap();
        assert!(ratio(&map, 10.0).abs() < 0.1 && ratio(&map, 490.0).abs() < 0.1, "{map:?}");
    }

    proptest! {
        /// The premise of `LogLikelihoodRatio::strength`.
        #[test]
        fn an_impostor_s_mean_ratio_is_at_most_one(
            genuine in prop::collection::vec(0.0f32..1.0, 1..60),
            impostor in prop::collection::vec(0.0f32..0.8, 1..200),
        ) {
            let map = LikelihoodReport::of(&trials(&genuine, &impostor)).map().unwrap();
            let sum: f64 = impostor.iter().map(|score| f64::from(ratio(&map, *score)).exp()).sum();
            let top = map.steps().last().unwrap().1;
            // As if three more, wholly unknown, had scored highest of all.
            let added = 3.0;
            let mean = (sum + added * f64::from(top).exp()) / (real_len(impostor.len()) + added);
            prop_assert!(mean <= 1.0 + 1e-6, "{mean}");
        }
    }
}
