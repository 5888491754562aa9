//! Whether a next hop is worth asking.
//!
//! A *shield* that cannot be reached is out at once: others can be asked in its place. It is in again when it answers a
//! probe (see [`super::probe`]); no client tries it. An *origin* has often no other, and nothing to be probed with: it is
//! down after a few failures in a row, and then gets one request a second to show that it is back, whatever comes in; all
//! others fail at once, so that something stale can be served in their place. What comes back comes back slowly: a
//! shield takes a growing share of its keys, an origin a growing number of requests (see [`super::gate`]).
//!
//! An answer is a success, whatever its status: a hop that says 503 lives. That a shield is slow to answer says nothing
//! about it, as it waits for the origin itself.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::metrics::Histogram;

/// An origin is down after so many failures in a row: one that restarts has a few requests fail and is not down.
const DOWN_AFTER: u32 = 5;
/// An origin that is down is tried this often.
const TRIAL_EVERY: Duration = Duration::from_secs(1);
/// So long after it has come back, a shield has all of its keys again.
const RETURN: Duration = Duration::from_secs(10);

/// What a hop is, for the question how it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Shield,
    Origin,
}

/// The health of one hop, as its requests find it. The numbers guard no other data, so that relaxed order will do.
#[derive(Debug)]
pub(crate) struct Health {
    kind: Kind,
    failures: AtomicU32,
    /// Of an origin that is down: when it is tried next. Milliseconds since [`origin`], as the next.
    trial_at: AtomicU64,
    /// When it came back; 0 if it was never out.
    back_since: AtomicU64,
    /// Those who wait for an answer are told that it is silent. Not if it merely refuses connections: one that stops
    /// does that, and still finishes what it has begun.
    pub(crate) silent: Notify,
    pub(crate) requests: AtomicU64,
    /// How long the heads of its answers were waited for.
    pub(crate) waits: Histogram,
}

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    // A second before, so that no moment is 0.
    *ORIGIN.get_or_init(|| crate::clock::instant().checked_sub(TRIAL_EVERY).unwrap_or_else(crate::clock::instant))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn at(now: Instant) -> u64 {
    millis(now.saturating_duration_since(origin()))
}

impl Health {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            failures: AtomicU32::new(0),
            trial_at: AtomicU64::new(0),
            back_since: AtomicU64::new(0),
            silent: Notify::new(),
            requests: AtomicU64::new(0),
            waits: Histogram::default(),
        }
    }

    /// Whether it is in use: a failure or two do not put an origin out.
    pub(crate) fn is_in(&self) -> bool {
        self.failures.load(Ordering::Relaxed) < self.failures_max()
    }

    fn failures_max(&self) -> u32 {
        match self.kind {
            Kind::Shield => 1,
            Kind::Origin => DOWN_AFTER,
        }
    }

    /// Whether it may be asked: it is in, or a trial is due.
    pub(crate) fn is_up(&self, now: Instant) -> bool {
        self.is_in() || self.kind == Kind::Origin && at(now) >= self.trial_at.load(Ordering::Relaxed)
    }

    /// Whether a hop that is just coming back takes a key already, of which this number was drawn.
    pub(crate) fn takes(&self, drawn: u16, now: Instant) -> bool {
        let back = self.back_since.load(Ordering::Relaxed);
        let since = at(now).saturating_sub(back);
        back == 0 || since.saturating_mul(1 << 16) >= millis(RETURN).saturating_mul(u64::from(drawn))
    }

    /// It is about to be asked. If it is down, only one trial is let through.
    pub(crate) fn admits(&self, now: Instant) -> bool {
        if self.is_in() {
            return true;
        }
        let due = self.trial_at.load(Ordering::Relaxed);
        let next = at(now).saturating_add(millis(TRIAL_EVERY));
        self.is_up(now) && self.trial_at.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// It has answered.
    pub(crate) fn succeeded(&self, now: Instant) {
        if self.failures.load(Ordering::Relaxed) == 0 {
            return;
        }
        if !self.is_in() {
            self.back_since.store(at(now), Ordering::Relaxed);
        }
        self.failures.store(0, Ordering::Relaxed);
    }

    /// It has not; whether it went out by that. What fails while it is out belongs to the same outage.
    pub(crate) fn failed(&self, now: Instant) -> bool {
        if !self.is_in() {
            return false;
        }
        let failures = self.failures.load(Ordering::Relaxed).saturating_add(1);
        self.failures.store(failures, Ordering::Relaxed);
        self.trial_at.store(at(now).saturating_add(millis(TRIAL_EVERY)), Ordering::Relaxed);
        !self.is_in()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> impl Fn(u64) -> Instant {
        let start = crate::clock::instant();
        move |ms| start + Duration::from_millis(ms)
    }

    #[test]
    fn a_shield_that_fails_is_out_until_it_answers_a_probe() {
        let (health, at) = (Health::new(Kind::Shield), clock());
        assert!(health.is_up(at(0)) && health.admits(at(0)));
        assert!(health.failed(at(0)), "it goes out");
        assert!(!health.failed(at(0)), "once");
        assert!(!health.is_up(at(60_000)) && !health.admits(at(60_000)), "no client tries it");
        health.succeeded(at(60_000));
        assert!(health.is_up(at(60_000)) && health.admits(at(60_000)));
    }

    #[test]
    fn a_shield_that_comes_back_takes_its_keys_little_by_little() {
        let (health, at) = (Health::new(Kind::Shield), clock());
        assert!(health.takes(u16::MAX, at(0)));
        health.failed(at(0));
        health.succeeded(at(1000));
        let share = |now| (0..=u16::MAX).filter(|drawn| health.takes(*drawn, now)).count() * 100 / 65_536;
        assert_eq!([1000, 2000, 6000, 11_000].map(|ms| share(at(ms))), [0, 10, 50, 100]);
    }

    #[test]
    fn an_origin_is_down_after_a_few_failures_and_then_asked_once_a_second() {
        let (health, at) = (Health::new(Kind::Origin), clock());
        for _ in 1..DOWN_AFTER {
            assert!(!health.failed(at(0)) && health.admits(at(0)));
        }
        health.succeeded(at(0));
        for _ in 1..DOWN_AFTER {
            assert!(!health.failed(at(0)), "in a row");
        }
        assert!(health.failed(at(0)));
        let mut trials = 0;
        for ms in 0..10_000 {
            if health.admits(at(ms)) {
                trials += 1;
                assert!(!health.failed(at(ms)));
            }
        }
        assert_eq!(trials, 9);
        health.succeeded(at(10_000));
        assert!(health.is_in());
    }
}
