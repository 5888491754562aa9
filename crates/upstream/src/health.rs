//! Whether a next hop is worth asking.
//!
//! A *shield* that cannot be reached is out at once: others can be asked in its place. It is in again when it answers a
//! probe (see [`super::probe`]); no client tries it. An *origin* has often no other: its [`Breaker`] opens when it cannot be
//! connected to, or answers nothing at all, and then lets one trial a second through; all others fail at once, so that
//! something stale can be served in their place. What comes back comes back slowly: a shield takes a growing share of its
//! keys, an origin a growing number of requests (see [`super::gate`]).
//!
//! An answer is a success, whatever its status: a hop that says 503 lives. That a shield is slow to answer says nothing
//! about it, as it waits for the origin itself.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nearside_telemetry::histogram::Histogram;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::breaker::{Admission, Breaker, Failure};

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
pub struct Health {
    /// Of an origin.
    breaker: Option<Mutex<Breaker>>,
    is_out: AtomicBool,
    /// When it came back, in milliseconds since [`origin`]; 0 if it was never out.
    back_since: AtomicU64,
    /// Those who wait for an answer are told that it is silent. Not if it merely refuses connections: one that stops
    /// does that, and still finishes what it has begun.
    pub(crate) silent: Notify,
    pub requests: AtomicU64,
    /// How long the heads of its answers were waited for.
    pub waits: Histogram,
    hasher: ahash::RandomState,
}

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    // A second before, so that no moment is 0.
    *ORIGIN.get_or_init(|| {
        let now = nearside_telemetry::clock::instant();
        now.checked_sub(Duration::from_secs(1)).unwrap_or(now)
    })
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
            breaker: (kind == Kind::Origin).then(Mutex::default),
            is_out: AtomicBool::new(false),
            back_since: AtomicU64::new(0),
            silent: Notify::new(),
            requests: AtomicU64::new(0),
            waits: Histogram::default(),
            hasher: ahash::RandomState::new(),
        }
    }

    /// Whether it is in use.
    pub fn is_in(&self) -> bool {
        !self.is_out.load(Ordering::Relaxed)
    }

    /// Whether it may be asked: it is in, or a trial is due.
    pub(crate) fn is_up(&self, now: Instant) -> bool {
        self.is_in() || self.breaker.as_ref().is_some_and(|breaker| breaker.lock().is_due(now))
    }

    /// Hash of a URL, by which the breaker tells URLs apart.
    pub(super) fn url(&self, authority: &[u8], target: &[u8]) -> u64 {
        self.hasher.hash_one((authority, target))
    }

    /// Whether a hop that is just coming back takes a key already, of which this number was drawn.
    pub(crate) fn takes(&self, drawn: u16, now: Instant) -> bool {
        let back = self.back_since.load(Ordering::Relaxed);
        let since = at(now).saturating_sub(back);
        back == 0 || since.saturating_mul(1 << 16) >= millis(RETURN).saturating_mul(u64::from(drawn))
    }

    /// Decides whether a request for `url` may be sent.
    pub(super) fn admit(&self, url: u64, now: Instant) -> Admission {
        match &self.breaker {
            Some(breaker) => breaker.lock().admit(url, now),
            None if self.is_in() => Admission::Pass,
            None => Admission::Refused,
        }
    }

    /// Whether a request that has waited since it was admitted may still be sent.
    pub(super) fn still_admits(&self, url: u64, now: Instant) -> bool {
        self.is_in() || self.breaker.as_ref().is_some_and(|breaker| breaker.lock().still_admits(url, now))
    }

    /// Notes a response to a request for `url`, or to a probe.
    pub(super) fn succeeded(&self, url: Option<u64>, now: Instant) {
        let was_out = match &self.breaker {
            Some(breaker) => {
                let mut breaker = breaker.lock();
                let was_open = breaker.answered(url, now);
                self.is_out.store(false, Ordering::Relaxed);
                was_open
            }
            None => self.is_out.swap(false, Ordering::Relaxed),
        };
        if was_out {
            self.back_since.store(at(now), Ordering::Relaxed);
        }
    }

    /// Notes a failure of a request for `url`; returns whether the hop went out by it.
    pub(super) fn failed(&self, failure: Failure, url: u64, now: Instant) -> bool {
        match &self.breaker {
            Some(breaker) => self.put_out(breaker, |breaker| breaker.failed(failure, url, now)),
            None => !self.is_out.swap(true, Ordering::Relaxed),
        }
    }

    /// Notes that an origin has not answered a probe; returns whether it went out by that.
    pub(super) fn probe_failed(&self, now: Instant) -> bool {
        self.breaker.as_ref().is_some_and(|breaker| self.put_out(breaker, |breaker| breaker.probe_failed(now)))
    }

    fn put_out(&self, breaker: &Mutex<Breaker>, note: impl FnOnce(&mut Breaker) -> bool) -> bool {
        let mut breaker = breaker.lock();
        let opened = note(&mut breaker);
        self.is_out.store(breaker.is_open(), Ordering::Relaxed);
        opened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> impl Fn(u64) -> Instant {
        let start = nearside_telemetry::clock::instant();
        move |ms| start + Duration::from_millis(ms)
    }

    #[test]
    fn a_shield_that_fails_is_out_until_it_answers_a_probe() {
        let (health, at) = (Health::new(Kind::Shield), clock());
        let admits = |ms| health.is_up(at(ms)) && health.admit(0, at(ms)) == Admission::Pass;
        assert!(admits(0));
        assert!(health.failed(Failure::Exchange, 0, at(0)), "it goes out");
        assert!(!health.failed(Failure::Exchange, 0, at(0)), "once");
        assert!(!admits(60_000), "no client tries it");
        health.succeeded(None, at(60_000));
        assert!(admits(60_000));
    }

    #[test]
    fn a_shield_that_comes_back_takes_its_keys_little_by_little() {
        let (health, at) = (Health::new(Kind::Shield), clock());
        assert!(health.takes(u16::MAX, at(0)));
        health.failed(Failure::Connect, 0, at(0));
        health.succeeded(None, at(1000));
        let share = |now| (0..=u16::MAX).filter(|drawn| health.takes(*drawn, now)).count() * 100 / 65_536;
        assert_eq!([1000, 2000, 6000, 11_000].map(|ms| share(at(ms))), [0, 10, 50, 100]);
    }

    #[test]
    fn an_origin_is_out_after_a_few_connect_failures_and_in_with_the_next_answer() {
        let (health, at) = (Health::new(Kind::Origin), clock());
        assert!((0..4).all(|_| !health.failed(Failure::Connect, 1, at(0))) && health.is_in());
        assert!(health.failed(Failure::Connect, 1, at(0)) && !health.is_in());
        assert!(!health.is_up(at(999)) && health.is_up(at(1000)));
        health.succeeded(Some(1), at(1000));
        assert!(health.is_in());
    }
}
