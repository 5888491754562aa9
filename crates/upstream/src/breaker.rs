//! Circuit breaker of one origin.
//!
//! Two kinds of failures are counted apart. *Connect failures* (name, refused, timed out, TLS) concern the whole origin, so a
//! few in a row open the breaker. *Failed exchanges* (no response, a malformed one, none in time) may be the fault of one
//! page. They count once per URL, however often it is requested, and only while no request at all is answered: several
//! different URLs must have failed and none have been answered. Even then the origin is probed with a URL that is nobody's
//! (`OPTIONS *`) before the breaker opens. So pages that crash affect themselves only.
//!
//! While the breaker is open, one trial per second is let through. After connect failures any request will do. After failed
//! exchanges the trial is a probe, or a request for a URL that is not known to fail, in turns; URLs that were answered
//! recently are still let through.
//!
//! **Invariant:** memory is bounded, and every decision is a function of what was reported and of `now`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Connect failures in a row that open the breaker. An origin that restarts has fewer.
pub(super) const CONNECT_FAILURES_MAX: u32 = 5;
/// Number of different URLs that must have failed, with none answered in between, before an origin is probed.
pub(super) const FAILING_URLS_MIN: usize = 5;
/// Failed exchanges and answers older than this say nothing any more.
const WINDOW: Duration = Duration::from_secs(60);
/// An origin that has answered within this span is not suspected.
const ALIVE: Duration = Duration::from_secs(1);
/// Interval between two trials of an open breaker.
pub(super) const TRIAL_EVERY: Duration = Duration::from_secs(1);
/// After this span a probe counts as abandoned: its request was cancelled.
const PROBE_ABANDONED: Duration = Duration::from_secs(3);
/// URLs remembered, of each outcome.
const URLS_MAX: usize = 128;

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection could be made.
    Connect,
    /// A request that was sent got no response.
    Exchange,
}

/// Decision about one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is sent.
    Pass,
    /// It is sent, as the trial of an open breaker.
    Trial,
    /// The origin is to be probed first.
    Probe,
    /// The breaker is open.
    Refused,
}

/// Why the breaker is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Connect,
    /// `probed`: the last trial was a probe, so that the next may be a request.
    Exchange {
        probed: bool,
    },
}

/// State of the breaker.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    open: Option<Cause>,
    /// When the next trial is due.
    trial_at: Option<Instant>,
    connect_failures: u32,
    /// URLs, by hash, that failed since the last answer.
    failing: Urls,
    /// URLs whose last request was answered.
    working: Urls,
    answered_at: Option<Instant>,
    probed_at: Option<Instant>,
}

impl Breaker {
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether a trial is due.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.trial_at.is_none_or(|due| now >= due)
    }

    /// Decides about a request for `url`.
    pub(super) fn admit(&mut self, url: u64, now: Instant) -> Admission {
        let open = self.open;
        match open {
            None if self.is_suspect(now) => {
                self.probed_at = Some(now);
                Admission::Probe
            }
            None => Admission::Pass,
            Some(Cause::Exchange { .. }) if self.working.contains(url, now) => Admission::Pass,
            Some(_) if !self.is_due(now) => Admission::Refused,
            Some(cause) => {
                self.trial_at = Some(now + TRIAL_EVERY);
                match cause {
                    Cause::Connect => Admission::Trial,
                    Cause::Exchange { probed: true } if !self.failing.contains(url, now) => {
                        self.open = Some(Cause::Exchange { probed: false });
                        Admission::Trial
                    }
                    Cause::Exchange { .. } => {
                        self.open = Some(Cause::Exchange { probed: true });
                        Admission::Probe
                    }
                }
            }
        }
    }

    /// Whether a request that has waited since it was admitted may still be sent.
    pub(super) fn still_admits(&self, url: u64, now: Instant) -> bool {
        match self.open {
            None => true,
            Some(Cause::Connect) => false,
            Some(Cause::Exchange { .. }) => self.working.contains(url, now),
        }
    }

    /// Several URLs have failed and none was answered, recently; and nobody probes already.
    fn is_suspect(&mut self, now: Instant) -> bool {
        let within = |at: Option<Instant>, span| at.is_some_and(|at| now.saturating_duration_since(at) < span);
        self.failing.len(now) >= FAILING_URLS_MIN
            && !within(self.answered_at, ALIVE)
            && !within(self.probed_at, PROBE_ABANDONED)
    }

    /// Notes a response to a request for `url`, or to a probe; closes the breaker. Returns whether it was open.
    pub(super) fn answered(&mut self, url: Option<u64>, now: Instant) -> bool {
        self.connect_failures = 0;
        self.failing.clear();
        self.answered_at = Some(now);
        self.probed_at = None;
        self.trial_at = None;
        if let Some(url) = url {
            self.working.add(url, now);
        }
        self.open.take().is_some()
    }

    /// Notes a failure of a request for `url`. Returns whether it opened the breaker.
    pub(super) fn failed(&mut self, failure: Failure, url: u64, now: Instant) -> bool {
        match failure {
            Failure::Connect if self.open.is_some() => false,
            Failure::Connect => {
                self.connect_failures += 1;
                self.connect_failures >= CONNECT_FAILURES_MAX && self.open(Cause::Connect, now)
            }
            Failure::Exchange => {
                self.connect_failures = 0;
                self.working.remove(url);
                self.failing.add(url, now);
                if self.open == Some(Cause::Connect) {
                    // It takes connections again: whether it answers, a page that may crash must not decide.
                    self.open = Some(Cause::Exchange { probed: false });
                    self.trial_at = None;
                }
                false
            }
        }
    }

    /// Notes a probe without a response. Returns whether that opened the breaker.
    pub(super) fn probe_failed(&mut self, now: Instant) -> bool {
        self.probed_at = None;
        self.open.is_none() && self.open(Cause::Exchange { probed: true }, now)
    }

    fn open(&mut self, cause: Cause, now: Instant) -> bool {
        self.open = Some(cause);
        self.trial_at = Some(now + TRIAL_EVERY);
        true
    }
}

/// URLs, by hash, each with the moment of its last outcome; the oldest are forgotten first.
#[derive(Debug, Default)]
struct Urls(VecDeque<(u64, Instant)>);

impl Urls {
    fn add(&mut self, url: u64, now: Instant) {
        self.remove(url);
        if self.0.len() >= URLS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((url, now));
    }

    fn remove(&mut self, url: u64) {
        if let Some(place) = self.0.iter().position(|(other, _)| *other == url) {
            self.0.remove(place);
        }
    }

    fn contains(&self, url: u64, now: Instant) -> bool {
        self.0.iter().any(|(other, at)| *other == url && now.saturating_duration_since(*at) < WINDOW)
    }

    fn len(&mut self, now: Instant) -> usize {
        while self.0.front().is_some_and(|(_, at)| now.saturating_duration_since(*at) >= WINDOW) {
            self.0.pop_front();
        }
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> impl Fn(u64) -> Instant {
        let start = nearside_telemetry::clock::instant();
        move |ms| start + Duration::from_millis(ms)
    }

    /// A breaker that a failed probe has opened at 0, with URLs 1 to 5 known to fail.
    fn opened(at: &impl Fn(u64) -> Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for url in 1..=5 {
            assert_eq!(breaker.admit(url, at(0)), Admission::Pass);
            breaker.failed(Failure::Exchange, url, at(0));
        }
        assert_eq!(breaker.admit(6, at(0)), Admission::Probe);
        assert!(breaker.probe_failed(at(0)) && breaker.is_open());
        breaker
    }

    #[test]
    fn one_url_never_opens_it_however_often_it_fails() {
        let (mut breaker, at) = (Breaker::default(), clock());
        for n in 0..1000 {
            assert_eq!(breaker.admit(1, at(n)), Admission::Pass);
            assert!(!breaker.failed(Failure::Exchange, 1, at(n)));
        }
        assert_eq!(breaker.admit(2, at(1000)), Admission::Pass);
    }

    #[test]
    fn many_failing_urls_do_not_open_it_while_others_are_answered() {
        let (mut breaker, at) = (Breaker::default(), clock());
        for n in 0..1000 {
            assert_eq!(breaker.admit(n, at(n)), Admission::Pass);
            breaker.failed(Failure::Exchange, n, at(n));
            if n % 100 == 0 {
                breaker.answered(Some(5000), at(n));
            }
        }
    }

    #[test]
    fn a_probe_that_is_answered_keeps_it_closed_for_a_second() {
        let (mut breaker, at) = (Breaker::default(), clock());
        for url in 0..5 {
            breaker.failed(Failure::Exchange, url, at(0));
        }
        assert_eq!(breaker.admit(9, at(0)), Admission::Probe);
        assert_eq!(breaker.admit(9, at(0)), Admission::Pass, "one probe at a time");
        assert!(!breaker.answered(None, at(0)));
        for url in 0..5 {
            breaker.failed(Failure::Exchange, url, at(1));
        }
        assert_eq!(breaker.admit(9, at(999)), Admission::Pass);
        assert_eq!(breaker.admit(9, at(1000)), Admission::Probe);
        assert_eq!(breaker.admit(9, at(3999)), Admission::Pass);
        assert_eq!(breaker.admit(9, at(4000)), Admission::Probe, "the first was abandoned");
    }

    #[test]
    fn failures_outside_the_window_do_not_count() {
        let (mut breaker, at) = (Breaker::default(), clock());
        for url in 0..4 {
            breaker.failed(Failure::Exchange, url, at(0));
        }
        breaker.failed(Failure::Exchange, 4, at(60_000));
        assert_eq!(breaker.admit(9, at(60_000)), Admission::Pass);
    }

    #[test]
    fn trials_of_failed_exchanges_are_probes_and_other_urls_in_turns() {
        let at = clock();
        let mut breaker = opened(&at);
        assert_eq!(breaker.admit(9, at(999)), Admission::Refused);
        assert_eq!(breaker.admit(1, at(1000)), Admission::Probe, "a URL that fails is no trial");
        assert_eq!(breaker.admit(9, at(1001)), Admission::Refused, "one a second");
        assert_eq!(breaker.admit(9, at(2000)), Admission::Trial);
        breaker.failed(Failure::Exchange, 9, at(2000));
        assert_eq!(breaker.admit(10, at(3000)), Admission::Probe);
        breaker.probe_failed(at(3000));
        assert_eq!(breaker.admit(9, at(4000)), Admission::Probe, "it has failed since");
        assert!(breaker.answered(None, at(4000)));
        assert_eq!(breaker.admit(1, at(4000)), Admission::Pass);
    }

    #[test]
    fn urls_that_were_answered_are_let_through() {
        let (mut breaker, at) = (Breaker::default(), clock());
        breaker.answered(Some(50), at(0));
        for url in 1..=5 {
            breaker.failed(Failure::Exchange, url, at(1000));
        }
        assert_eq!(breaker.admit(6, at(2000)), Admission::Probe);
        breaker.probe_failed(at(2000));
        assert_eq!(breaker.admit(50, at(2001)), Admission::Pass);
        assert_eq!(breaker.admit(51, at(2001)), Admission::Refused);
        assert!(breaker.still_admits(50, at(2001)) && !breaker.still_admits(51, at(2001)));
        breaker.failed(Failure::Exchange, 50, at(2002));
        assert_eq!(breaker.admit(50, at(2003)), Admission::Refused);
    }

    #[test]
    fn connect_failures_of_any_url_open_it_and_any_request_is_the_trial() {
        let (mut breaker, at) = (Breaker::default(), clock());
        for _ in 1..CONNECT_FAILURES_MAX {
            assert!(!breaker.failed(Failure::Connect, 1, at(0)));
        }
        breaker.answered(Some(1), at(0));
        for _ in 1..CONNECT_FAILURES_MAX {
            assert!(!breaker.failed(Failure::Connect, 1, at(0)), "in a row");
        }
        assert!(breaker.failed(Failure::Connect, 1, at(0)));
        let mut trials = 0;
        for ms in 0..10_000 {
            match breaker.admit(1, at(ms)) {
                Admission::Trial => {
                    trials += 1;
                    assert!(!breaker.failed(Failure::Connect, 1, at(ms)));
                }
                other => assert_eq!(other, Admission::Refused),
            }
        }
        assert_eq!(trials, 9);
        assert!(breaker.answered(Some(1), at(10_000)) && !breaker.is_open());
    }

    #[test]
    fn a_page_that_crashes_does_not_use_up_the_trials_of_an_origin_that_takes_connections_again() {
        let (mut breaker, at) = (Breaker::default(), clock());
        for _ in 0..CONNECT_FAILURES_MAX {
            breaker.failed(Failure::Connect, 1, at(0));
        }
        assert_eq!(breaker.admit(1, at(1000)), Admission::Trial);
        breaker.failed(Failure::Exchange, 1, at(1000));
        assert_eq!(breaker.admit(1, at(1001)), Admission::Probe, "at once");
    }
}
