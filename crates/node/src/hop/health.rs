//! Whether a next hop is worth asking: out for a moment after it could not be reached, longer each time.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Out for this long after the first failure; doubled with each further one.
const OUT_FIRST: Duration = Duration::from_millis(500);
/// Out for this long at most: a hop that comes back is found again within this time.
const OUT_MAX: Duration = Duration::from_secs(8);

/// The health of one hop, as its requests find it. The counters carry no other data, so that relaxed order will do.
#[derive(Debug, Default)]
pub(crate) struct Health {
    failures: AtomicU32,
    /// Milliseconds since [`origin`].
    out_until: AtomicU64,
    pub(crate) requests: AtomicU64,
}

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(crate::clock::instant)
}

fn millis(now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(origin()).as_millis()).unwrap_or(u64::MAX)
}

impl Health {
    /// Whether it may be asked: it answered last time, or its time out has passed.
    pub(crate) fn is_up(&self, now: Instant) -> bool {
        self.answered() || millis(now) >= self.out_until.load(Ordering::Relaxed)
    }

    /// It is being asked. If it was out, this is the trial, and the others go elsewhere until it has ended.
    pub(crate) fn trying(&self, now: Instant) {
        let failures = self.failures.load(Ordering::Relaxed);
        if failures > 0 {
            self.stay_out(failures, now);
        }
    }

    /// Whether it answered last time.
    pub(crate) fn answered(&self) -> bool {
        self.failures.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn succeeded(&self) {
        if !self.answered() {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn failed(&self, now: Instant) {
        let failures = self.failures.load(Ordering::Relaxed).saturating_add(1);
        self.failures.store(failures, Ordering::Relaxed);
        self.stay_out(failures, now);
    }

    fn stay_out(&self, failures: u32, now: Instant) {
        let span = u64::try_from(Self::span(failures).as_millis()).unwrap_or(u64::MAX);
        self.out_until.store(millis(now).saturating_add(span), Ordering::Relaxed);
    }

    fn span(failures: u32) -> Duration {
        OUT_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(OUT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hop_that_fails_is_out_for_a_while_and_then_gets_one_trial() {
        let (health, start) = (Health::default(), crate::clock::instant());
        let at = |ms| start + Duration::from_millis(ms);
        assert!(health.is_up(at(0)));
        health.failed(at(0));
        assert!(!health.is_up(at(400)));
        assert!(health.is_up(at(600)) && health.is_up(at(600)), "looking is not trying");
        health.trying(at(600));
        assert!(!health.is_up(at(600)), "one trial only");
        health.failed(at(600));
        assert!(!health.is_up(at(1500)), "longer after the second failure");
        assert!(health.is_up(at(1700)));
        health.succeeded();
        assert!(health.is_up(at(1700)) && health.is_up(at(1700)));
    }
}
