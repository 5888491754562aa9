//! Numbers that look drawn and are the same each time: which object, how large.

/// Numbers one after the other (splitmix64, Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    /// Any number.
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1, without 1.
    pub(crate) fn part(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits are what there is room for")]
        let part = (self.number() >> 11) as f64 / (1_u64 << 53) as f64;
        part
    }

    /// A log-normal number of this median; `spread` is that of its logarithm. From 1 to 10^12.
    pub(crate) fn log_normal(&mut self, median: f64, spread: f64) -> u64 {
        // Box and Muller: of two even parts one normal number.
        let normal = (-2.0 * self.part().max(1e-12).ln()).sqrt() * (std::f64::consts::TAU * self.part()).cos();
        let drawn = (median * (spread * normal).exp()).clamp(1.0, 1e12);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10^12")]
        let drawn = drawn as u64;
        drawn
    }
}

/// How popular the first, the second, the n-th is: the sums of their shares.
#[derive(Debug, Clone)]
pub(crate) struct Ranks(Vec<f64>);

impl Ranks {
    /// The n-th in proportion to 1/n to the power of `skew` (Zipf); 0: all alike.
    pub(crate) fn zipf(count: u32, skew: f64) -> Self {
        let weights: Vec<f64> = (1..=count.max(1)).map(|rank| f64::from(rank).powf(-skew)).collect();
        Self::weighted(&weights)
    }

    /// Each in proportion to its weight.
    pub(crate) fn weighted(weights: &[f64]) -> Self {
        let all: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let sums = weights.iter().map(|weight| {
            sum += weight / all;
            sum
        });
        Self(sums.collect())
    }

    /// One of them, from 0.
    pub(crate) fn draw(&self, draw: &mut Draw) -> u32 {
        let part = draw.part();
        let rank = self.0.partition_point(|sum| *sum < part);
        u32::try_from(rank.min(self.0.len().saturating_sub(1))).unwrap_or(0)
    }
}
