//! Minimum transfer rate of a client that holds a place at an origin while others wait for one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Interval at which a transfer that makes no progress is looked at.
pub const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Longest time that counts between two looks. What is beyond was spent on waiting for something else, or for this machine.
const STEP_MAX: Duration = Duration::from_millis(500);
/// Span over which the rate is measured.
const SPAN: Duration = Duration::from_millis(1500);
/// Bytes that have to move in a span: 21 KiB/s. Below that, a place at the origin serves hardly anybody.
const BYTES_MIN: u64 = 32 << 10;

/// Rate of one transfer, by what it had moved at the moments at which it was looked at.
#[derive(Debug, Default)]
pub struct Pace {
    /// Time for which it was watched, and when it was looked at last.
    watched: Duration,
    last: Option<Instant>,
    /// Looks of the last span, each at its time of watching.
    looks: VecDeque<(Duration, u64)>,
}

impl Pace {
    /// Notes that `moved` bytes have moved in all; whether that was too slow over the last span.
    pub fn is_slow(&mut self, moved: u64, now: Instant) -> bool {
        let step = self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last).min(STEP_MAX));
        self.last = Some(now);
        self.watched += step;
        let watched = self.watched;
        self.looks.push_back((watched, moved));
        while self.looks.get(1).is_some_and(|(at, _)| watched.saturating_sub(*at) >= SPAN) {
            self.looks.pop_front();
        }
        let Some((since, before)) = self.looks.front() else { return false };
        watched.saturating_sub(*since) >= SPAN && moved.saturating_sub(*before) < BYTES_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of the first look at which a transfer is slow, if any of forty. `moved` says how much had moved by a look.
    fn slow_at(every: Duration, moved: impl Fn(u32) -> u64) -> Option<u32> {
        let (start, mut pace) = (nearside_telemetry::clock::instant(), Pace::default());
        (0..40).find(|look| pace.is_slow(moved(*look), start + every * *look))
    }

    #[test]
    fn a_transfer_below_the_minimum_is_slow() {
        for (rate, slow) in [(0, true), (1000, true), (20_000, true), (24_000, false), (1_000_000, false)] {
            assert_eq!(slow_at(LOOK_EVERY, |look| rate * u64::from(look) / 4).is_some(), slow, "{rate}");
        }
    }

    #[test]
    fn a_burst_does_not_hide_a_stall_for_longer_than_the_span() {
        assert_eq!(slow_at(LOOK_EVERY, |look| if look > 0 { 10 << 20 } else { 0 }), Some(7));
    }

    #[test]
    fn a_stall_is_seen_though_the_looks_are_late() {
        assert_eq!(slow_at(Duration::from_secs(1), |_| 0), Some(3));
    }

    #[test]
    fn time_in_which_nobody_looked_hardly_counts() {
        let (start, mut pace) = (nearside_telemetry::clock::instant(), Pace::default());
        assert!(!pace.is_slow(0, start) && !pace.is_slow(0, start + Duration::from_secs(60)));
    }
}
