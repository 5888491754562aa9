//! One direction of a TCP connection over a long way, as far as it decides when bytes arrive.
//!
//! A new connection may have ten segments on their way (RFC 6928), and one more for each that is acknowledged, so that it doubles
//! with every round trip (RFC 5681 §3.1), up to what the line takes. One that was idle for longer than a retransmission takes
//! begins anew (RFC 5681 §4.1). A loss costs a round trip, and half of what may be on its way (§3.2).
//!
//! **Invariant:** no clock and no socket: moments are passed in, and what was sent later never arrives earlier.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::conditions::State;

/// What a segment carries on a way whose packets have 1500 bytes.
pub(crate) const SEGMENT: usize = 1460;
/// RFC 6928.
const WINDOW_MIN: usize = 10 * SEGMENT;
/// What Linux lets a connection have at most by default (`tcp_rmem`).
pub(crate) const WINDOW_MAX: usize = 6 << 20;
/// So much goes at once, so that what is sent together arrives like segments and not like a block.
pub(crate) const PIECE_MAX: usize = 16 << 10;
/// Shorter waits nobody for what was lost (Linux: 200 ms).
const RETRANSMIT_MIN: Duration = Duration::from_millis(200);

/// What is on its way in one direction.
#[derive(Debug)]
pub(crate) struct Flow {
    /// What may be on its way.
    window: usize,
    /// From here on it grows by one segment with each round trip.
    threshold: usize,
    /// What is on its way: when each is acknowledged, and how much it is.
    unacknowledged: VecDeque<(Instant, usize)>,
    on_its_way: usize,
    /// Until then the line is busy with what was sent before.
    busy_until: Instant,
    arrives_last: Instant,
    sent_last: Instant,
    /// A small generator (SplitMix64): for loss and lateness, alike for each seed.
    random: u64,
}

impl Flow {
    /// Nothing is sent before `begins`.
    pub(crate) fn new(begins: Instant, seed: u64) -> Self {
        Self {
            window: WINDOW_MIN,
            threshold: usize::MAX,
            unacknowledged: VecDeque::new(),
            on_its_way: 0,
            busy_until: begins,
            arrives_last: begins,
            sent_last: begins,
            random: seed,
        }
    }

    /// How much may be sent now; if nothing, when to ask again.
    pub(crate) fn room(&mut self, now: Instant, state: &State) -> Result<usize, Instant> {
        while let Some((_, length)) = self.unacknowledged.pop_front_if(|(moment, _)| *moment <= now) {
            self.on_its_way -= length;
            let grown = if self.window < self.threshold {
                self.window + length
            } else {
                self.window + (SEGMENT * length).div_ceil(self.window)
            };
            self.window = grown.min(WINDOW_MAX);
        }
        let idle = now.saturating_duration_since(self.sent_last);
        if self.on_its_way == 0 && idle > state.round_trip.max(RETRANSMIT_MIN) {
            self.window = self.window.min(WINDOW_MIN);
        }
        let room = self.window.saturating_sub(self.on_its_way);
        match self.unacknowledged.front() {
            Some((moment, _)) if room < SEGMENT => Err(*moment),
            _ => Ok(room.clamp(SEGMENT, PIECE_MAX)),
        }
    }

    /// Sends so much; when it arrives.
    pub(crate) fn send(&mut self, now: Instant, length: usize, state: &State) -> Instant {
        let quality = &state.quality;
        #[expect(clippy::cast_precision_loss, reason = "of pieces of a few KiB and of bits a second")]
        let on_the_line = Duration::from_secs_f64(length as f64 * 8.0 / quality.bits_per_second as f64);
        self.busy_until = self.busy_until.max(now) + on_the_line;
        let late = state.round_trip * u32::try_from(self.draw() % (quality.jitter_thousandths + 1)).unwrap_or(0) / 2000;
        let mut arrives = self.busy_until + state.round_trip / 2 + late;
        if self.is_lost(length, quality.loss_per_million) {
            arrives += state.round_trip;
            self.threshold = (self.window / 2).max(2 * SEGMENT);
            self.window = self.threshold;
        }
        self.arrives_last = self.arrives_last.max(arrives);
        self.unacknowledged.push_back((self.arrives_last + state.round_trip / 2, length));
        self.on_its_way += length;
        self.sent_last = now.max(self.sent_last);
        self.arrives_last
    }

    fn is_lost(&mut self, length: usize, per_million: u64) -> bool {
        (0..length.div_ceil(SEGMENT)).fold(false, |lost, _| lost | (self.draw() % 1_000_000 < per_million))
    }

    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use nearside_config::Quality;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "the moment from which the others are counted")]
    fn begin() -> Instant {
        Instant::now()
    }

    fn state(ms: u64) -> State {
        let quality = Quality { bits_per_second: 100_000_000_000, jitter_thousandths: 0, loss_per_million: 0 };
        State { round_trip: Duration::from_millis(ms), is_cut: false, quality }
    }

    /// Sends so much as fast as it may; when the last of it arrives, and when the sender is done.
    fn send_all(flow: &mut Flow, mut now: Instant, mut left: usize, state: &State) -> (Instant, Instant) {
        let mut arrives = now;
        while left > 0 {
            match flow.room(now, state) {
                Ok(room) => {
                    let piece = room.min(left);
                    arrives = flow.send(now, piece, state);
                    left -= piece;
                }
                Err(later) => now = later,
            }
        }
        (arrives, now)
    }

    /// How many round trips a new connection needs: each takes twice as many segments as the one before.
    fn rounds(bytes: usize) -> u32 {
        let (mut sent, mut rounds) = (0, 0);
        while sent < bytes.div_ceil(SEGMENT) {
            sent += 10 << rounds;
            rounds += 1;
        }
        rounds
    }

    #[test]
    fn a_new_connection_starts_slowly_as_the_rfcs_have_it() {
        for (bytes, expected) in [(1, 1), (14_600, 1), (14_601, 2), (1 << 20, 7), (10 << 20, 10)] {
            assert_eq!(rounds(bytes), expected);
            let (begins, state) = (begin(), state(80));
            let (arrives, _) = send_all(&mut Flow::new(begins, 1), begins, bytes, &state);
            let took = arrives.duration_since(begins).as_secs_f64() / 0.08;
            // The last round goes half the way only.
            let theory = f64::from(expected) - 0.5;
            let error = (took - theory).abs() / theory;
            assert!(error < 0.06, "{bytes} bytes: {took} round trips, and by theory {theory}");
        }
    }

    #[test]
    fn a_warm_connection_is_faster_and_an_idle_one_begins_anew() {
        let (begins, state) = (begin(), state(80));
        let mut flow = Flow::new(begins, 1);
        let (cold, done) = send_all(&mut flow, begins, 300_000, &state);
        let soon = done + Duration::from_millis(100);
        let (warm, done) = send_all(&mut flow, soon, 300_000, &state);
        assert!(warm.duration_since(soon) * 3 < cold.duration_since(begins));
        let late = done + Duration::from_secs(5);
        let (idle, _) = send_all(&mut flow, late, 300_000, &state);
        assert!(idle.duration_since(late) > 3 * warm.duration_since(soon));
    }

    #[test]
    fn the_line_limits_and_a_loss_costs_a_round_trip() {
        let begins = begin();
        let mut slow = state(20);
        slow.quality.bits_per_second = 8_000_000;
        let (arrives, _) = send_all(&mut Flow::new(begins, 1), begins, 5_000_000, &slow);
        let took = arrives.duration_since(begins).as_secs_f64();
        assert!((4.95..5.3).contains(&took), "a megabyte a second: {took}");
        let mut lossy = state(80);
        lossy.quality.loss_per_million = 20_000;
        let time = |seed| send_all(&mut Flow::new(begins, seed), begins, 1 << 20, &lossy).0.duration_since(begins);
        let (whole, _) = send_all(&mut Flow::new(begins, 1), begins, 1 << 20, &state(80));
        assert!(time(1) > whole.duration_since(begins) + Duration::from_millis(80));
        assert_eq!((time(1), time(7)), (time(1), time(7)), "alike for each seed");
        assert_ne!(time(1), time(7));
    }

    #[test]
    fn nothing_overtakes_what_was_sent_before() {
        let begins = begin();
        let mut wild = state(50);
        (wild.quality.jitter_thousandths, wild.quality.loss_per_million) = (1000, 100_000);
        let mut flow = Flow::new(begins, 3);
        let (mut now, mut last) = (begins, begins);
        for _ in 0..2000 {
            match flow.room(now, &wild) {
                Ok(_) => {
                    let arrives = flow.send(now, 1000, &wild);
                    assert!(arrives >= last);
                    last = arrives;
                }
                Err(later) => {
                    assert!(later > now);
                    now = later;
                }
            }
        }
    }
}
