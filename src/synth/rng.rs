//! Chance that a seed decides: `SplitMix64` (Steele, Lea, Flood 2014), in whole numbers.

/// A stream of numbers.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    /// The stream of a seed.
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another stream, the same for the same `label`; this one does not move on.
    pub(super) const fn fork(&self, label: u64) -> Self {
        Self(mixed(self.0 ^ mixed(label.wrapping_add(STEP))))
    }

    /// The next 64 bits.
    pub(super) const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mixed(self.0)
    }

    /// From 0 to below 1, in steps of 2⁻²⁴.
    pub(super) fn unit(&mut self) -> f32 {
        let [.., a, b, c] = self.bits().to_be_bytes();
        // 24 bits: exact in an f32.
        (f32::from(a) * 65_536.0 + f32::from(b) * 256.0 + f32::from(c)) / 16_777_216.0
    }

    /// From `low` to below `high`.
    pub(super) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// True with this probability.
    pub(super) fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }

    /// About normal, of mean 0 and deviation 1, never beyond 3.5: the sum of four.
    pub(super) fn normal(&mut self) -> f32 {
        let sum = self.unit() + self.unit() + self.unit() + self.unit();
        (sum - 2.0) * 1.732_050_8
    }
}

const fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of the reference implementation for the seed 1234567.
    #[test]
    fn the_stream_is_splitmix64() {
        let mut rng = Rng::new(1_234_567);
        let first = [rng.bits(), rng.bits(), rng.bits()];
        assert_eq!(
            first,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn means_and_deviations_are_as_said() {
        let mut rng = Rng::new(5).fork(3);
        let drawn: Vec<f32> = (0..20_000).map(|_| rng.normal()).collect();
        let mean = drawn.iter().sum::<f32>() / 20_000.0;
        let variance = drawn.iter().map(|it| it * it).sum::<f32>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        assert!((0..1000).all(|_| (2.0..3.0).contains(&rng.between(2.0, 3.0))));
    }
}
