//! Minimum transfer rate of a client that holds a place at an origin while others wait for one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Interval at which a transfer that makes no progress is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Span over which the rate is measured.
const SPAN: Duration = Duration::from_secs(2);
/// Bytes that have to move in a span: 32 KiB/s. Below that, a place at the origin serves hardly anybody.
const BYTES_MIN: u64 = 64 << 10;

/// Rate of one transfer, by what it had moved at the moments at which it was looked at.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    looks: VecDeque<(Instant, u64)>,
}

impl Pace {
    /// Begins to measure anew if the transfer was not looked at for a while: then it was held up by something else.
    pub(crate) fn resume(&mut self, moved: u64, now: Instant) {
        let paused = |(last, _): &(Instant, u64)| now.saturating_duration_since(*last) > 2 * LOOK_EVERY;
        if self.looks.back().is_none_or(paused) {
            self.looks.clear();
            self.looks.push_back((now, moved));
        }
    }

    /// Notes that `moved` bytes have moved in all; whether that was too slow over the last span.
    pub(crate) fn is_slow(&mut self, moved: u64, now: Instant) -> bool {
        self.looks.push_back((now, moved));
        while self.looks.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= SPAN) {
            self.looks.pop_front();
        }
        let Some((since, before)) = self.looks.front() else { return false };
        now.saturating_duration_since(*since) >= SPAN && moved.saturating_sub(*before) < BYTES_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a transfer of `rate` bytes a second is ever slow, looked at for ten seconds.
    fn is_ever_slow(rate: u64) -> bool {
        let (start, mut pace) = (crate::clock::instant(), Pace::default());
        pace.resume(0, start);
        (1..40).any(|look| pace.is_slow(rate * look / 4, start + LOOK_EVERY * u32::try_from(look).unwrap()))
    }

    #[test]
    fn a_transfer_below_the_minimum_is_slow() {
        assert_eq!([0, 1000, 30_000, 33_000, 1_000_000].map(is_ever_slow), [true, true, true, false, false]);
    }

    #[test]
    fn a_burst_does_not_hide_a_stall_for_longer_than_the_span() {
        let (start, mut pace) = (crate::clock::instant(), Pace::default());
        pace.resume(0, start);
        let slow_at = (1..40).find(|look| pace.is_slow(10 << 20, start + LOOK_EVERY * *look));
        assert_eq!(slow_at, Some(9));
    }

    #[test]
    fn time_in_which_nobody_looked_does_not_count() {
        let (start, mut pace) = (crate::clock::instant(), Pace::default());
        pace.resume(0, start);
        let later = start + Duration::from_secs(60);
        pace.resume(0, later);
        assert!(!pace.is_slow(0, later + LOOK_EVERY));
    }
}
