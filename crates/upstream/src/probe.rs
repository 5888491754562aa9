//! Whether shields live, asked from time to time: one that is frozen takes connections and never answers, and what waits
//! for it would wait long. One that is back is found so, too, without a client that tries it.
//!
//! Origins are probed only when several of their URLs have failed and none was answered, before the breaker opens, and
//! then as its trials.

use std::sync::Arc;
use std::time::Duration;

use http::header::MAX_FORWARDS;
use http::{HeaderMap, HeaderValue, Method};
use nearside_config::SiteTimeouts;
use nearside_diagnostics::WatchedTasks;
use nearside_telemetry::clock::{Clock, instant};
use nearside_telemetry::trace::Trace;
use tokio::time::{sleep, timeout};

use super::{Forward, Hop, HopError, Hops, Patience, Urgency};

/// How often a shield is asked, give or take a fifth, so that the edges do not ask all at once.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Limits of the time that a probe may take; see [`ProbeTime`].
const PROBE_MIN: Duration = Duration::from_secs(1);
const PROBE_FIRST: Duration = Duration::from_secs(3);
const PROBE_MAX: Duration = Duration::from_secs(10);
/// Longest wait for an origin's answer to a probe; one that is far away needs a few round trips for it.
const ORIGIN_PROBE_MAX: Duration = Duration::from_secs(2);
/// After so many probes without an answer, one at once after the other, it is out: one may be lost to a busy moment.
const SILENT_MAX: u32 = 2;

/// Watches each shield in a task of its own, as long as the runtime runs.
pub fn watch_shields(hops: &Arc<Hops>, clock: &Clock, tasks: &WatchedTasks) {
    for shield in &hops.shields {
        let (hops, clock, shield) = (Arc::clone(hops), clock.clone(), Arc::clone(shield));
        tokio::spawn(tasks.clone().watch("health checks of shields", async move {
            let (mut silent, mut probe_time) = (0, ProbeTime::default());
            loop {
                if !(1..SILENT_MAX).contains(&silent) {
                    sleep(jittered(PROBE_EVERY)).await;
                }
                let begun = instant();
                silent = match timeout(probe_time.limit(), hops.probe(&shield, &clock)).await {
                    Ok(Ok(())) => {
                        probe_time.answered(instant().saturating_duration_since(begun));
                        shield.succeeded(None);
                        0
                    }
                    Ok(Err(error)) => {
                        shield.failed(&error, 0);
                        SILENT_MAX
                    }
                    Err(_elapsed) if silent + 1 < SILENT_MAX => silent + 1,
                    Err(_elapsed) => {
                        shield.failed(&HopError::Timeout { hop: Arc::clone(&shield.name) }, 0);
                        probe_time.silent();
                        // Each time: who has come to wait since the last time is told, too.
                        shield.health.silent.notify_waiters();
                        SILENT_MAX
                    }
                };
            }
        }));
    }
}

/// Estimate of the time that a shield takes to answer a probe, computed as TCP computes its retransmission timeout (RFC 6298
/// §2). A probe needs two round trips, three with TLS, so that no single limit suits both a near shield and a far one.
#[derive(Debug, Default)]
struct ProbeTime {
    /// Smoothed time of an answer, and its mean deviation; `None` before the first answer.
    mean_and_deviation: Option<(Duration, Duration)>,
    /// Number of times that the limit is doubled: one for each time that the shield was marked down since its last answer.
    doublings: u32,
}

impl ProbeTime {
    /// Longest time that the next probe may take.
    fn limit(&self) -> Duration {
        let expected = self.mean_and_deviation.map_or(PROBE_FIRST, |(mean, deviation)| mean + 4 * deviation);
        expected.max(PROBE_MIN).saturating_mul(1 << self.doublings.min(8)).min(PROBE_MAX)
    }

    fn answered(&mut self, took: Duration) {
        self.doublings = 0;
        self.mean_and_deviation = Some(match self.mean_and_deviation {
            None => (took, took / 2),
            Some((mean, deviation)) => ((7 * mean + took) / 8, (3 * deviation + mean.abs_diff(took)) / 4),
        });
    }

    fn silent(&mut self) {
        self.doublings += 1;
    }
}

impl Hops {
    /// Asks a shield for a word of its own. Any will do: that it knows no such host, for example.
    async fn probe(&self, shield: &Arc<Hop>, clock: &Clock) -> Result<(), HopError> {
        let Ok(authority) = HeaderValue::try_from(shield.upstream.authority()) else { return Ok(()) };
        self.ping(shield, authority, None, clock).await
    }

    /// Probes an origin of which several URLs have failed, under the host of `forward`, and notes the outcome. Returns
    /// whether it has answered.
    ///
    /// `OPTIONS *` concerns no resource ("useful as a \"ping\" or \"no-op\" type of method", RFC 9110 §9.3.7), so that no page
    /// that fails decides about the others.
    pub(super) async fn probe_origin(&self, origin: &Arc<Hop>, forward: &Forward, clock: &Clock) -> bool {
        let ping = self.ping(origin, forward.authority.clone(), forward.origin_host.clone(), clock);
        let silent = |_elapsed| Err(HopError::Timeout { hop: Arc::clone(&origin.name) });
        // On the heap: it is rare, and large.
        match timeout(ORIGIN_PROBE_MAX, Box::pin(ping)).await.unwrap_or_else(silent) {
            Ok(()) => {
                origin.succeeded(None);
                true
            }
            Err(error) => {
                origin.probe_failed(&error);
                false
            }
        }
    }

    async fn ping(
        &self,
        hop: &Arc<Hop>,
        authority: HeaderValue,
        origin_host: Option<HeaderValue>,
        clock: &Clock,
    ) -> Result<(), HopError> {
        let mut fields = HeaderMap::new();
        fields.insert(MAX_FORWARDS, HeaderValue::from_static("0"));
        Trace::unsampled().carry_on(&mut fields);
        let forward = Forward {
            method: Method::OPTIONS,
            target: (*b"*").into(),
            authority,
            origin_host,
            fields,
            urgency: Urgency::Client,
            network: crate::client_network::ClientNetwork::OWN,
            patience: Patience::new(&self.timeouts, &SiteTimeouts::default()),
        };
        // A new connection: that it takes some is part of the question.
        let connection = self.connect(hop, false, &mut None).await?;
        self.send(hop, connection, &forward, instant(), clock, &|_| {}).await.map(drop).map_err(|failed| failed.error)
    }
}

/// A span that is up to a fifth shorter or longer.
fn jittered(span: Duration) -> Duration {
    let drawn = u32::from(u8::try_from(ahash::RandomState::new().hash_one(instant()) & 0xff).unwrap_or(0));
    span * 4 / 5 + span * 2 / 5 * drawn / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_a_probe_follows_the_distance_of_the_shield() {
        let millis = Duration::from_millis;
        let mut probe_time = ProbeTime::default();
        assert_eq!(probe_time.limit(), PROBE_FIRST);
        for _ in 0..50 {
            probe_time.answered(millis(2));
        }
        assert_eq!(probe_time.limit(), PROBE_MIN, "a near one");
        for _ in 0..50 {
            probe_time.answered(millis(840));
            probe_time.answered(millis(1100));
        }
        assert!((millis(1200)..millis(2000)).contains(&probe_time.limit()), "a far one: {:?}", probe_time.limit());
    }

    #[test]
    fn a_silent_shield_is_given_more_time_until_it_answers() {
        let mut probe_time = ProbeTime::default();
        probe_time.answered(Duration::from_millis(1));
        probe_time.silent();
        assert_eq!(probe_time.limit(), 2 * PROBE_MIN);
        for _ in 0..100 {
            probe_time.silent();
        }
        assert_eq!(probe_time.limit(), PROBE_MAX);
        probe_time.answered(Duration::from_millis(1));
        assert_eq!(probe_time.limit(), PROBE_MIN);
    }
}
