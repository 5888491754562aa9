//! What clients have measured: round trips from their networks to edges.
//!
//! Of each network (a /24 of IPv4, a /48 of IPv6) and edge, a sketch of what was reported: counts in buckets whose ends grow by a
//! twentieth, of which older ones weigh less with each report and with time. So the middle of it follows the network within
//! a few reports, and what nobody has measured for long is known no more.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;

/// Each report makes those before it weigh so much less: the last four have half of all weight.
const FADE: f64 = 0.84;
/// After so long without reports all weigh half.
const HALF_LIFE: Duration = Duration::from_secs(600);
/// With less weight than three reports of this moment nothing is believed: 1 + FADE + FADE² is 2.55.
const CONFIDENT: f64 = 2.5;
/// Each bucket ends at so many times the end of the one before.
const GROWTH: f64 = 1.05;
/// Shorter is nothing that goes through a network; longer is no round trip.
const MS_MIN: f64 = 0.05;
const MS_MAX: f64 = 10_000.0;
/// What weighs less than this is let go.
const WEIGHT_MIN: f64 = 0.01;
/// Number of networks of which something is remembered.
const NETWORKS_MAX: u64 = if cfg!(test) { 500 } else { 50_000 };
/// Edges of which a network has measured something.
const EDGES_MAX: usize = 64;

/// What is known of the way from a network to an edge.
#[derive(Debug, Clone, Default)]
struct Sketch {
    /// By bucket: its weight.
    weights: BTreeMap<i32, f64>,
    changed: Option<Instant>,
}

/// What it comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Measured {
    /// In the middle of all that was reported.
    pub(crate) p50_ms: f64,
    /// A tenth was longer.
    pub(crate) p90_ms: f64,
    /// In reports of this moment.
    pub(crate) weight: f64,
}

impl Measured {
    /// Whether it is to be believed.
    pub(crate) fn is_confident(&self) -> bool {
        self.weight >= CONFIDENT
    }
}

impl Sketch {
    fn add(&mut self, ms: f64, now: Instant) {
        let fade = FADE * self.faded(now);
        self.weights.values_mut().for_each(|weight| *weight *= fade);
        self.weights.retain(|_, weight| *weight >= WEIGHT_MIN);
        *self.weights.entry(bucket(ms)).or_default() += 1.0;
        self.changed = Some(now);
    }

    /// How much is left of what it weighed.
    fn faded(&self, now: Instant) -> f64 {
        let since = self.changed.map_or(Duration::ZERO, |changed| now.saturating_duration_since(changed));
        0.5_f64.powf(since.as_secs_f64() / HALF_LIFE.as_secs_f64())
    }

    fn measured(&self, now: Instant) -> Option<Measured> {
        let total: f64 = self.weights.values().sum();
        let weight = total * self.faded(now);
        let (p50_ms, p90_ms) = (self.quantile(total, 0.5)?, self.quantile(total, 0.9)?);
        (weight >= WEIGHT_MIN).then_some(Measured { p50_ms, p90_ms, weight })
    }

    fn quantile(&self, total: f64, part: f64) -> Option<f64> {
        let mut seen = 0.0;
        let reached = self.weights.iter().find(|(_, weight)| {
            seen += **weight;
            seen >= total * part
        });
        let (bucket, _) = reached.or_else(|| self.weights.iter().next_back())?;
        // The middle of the bucket.
        Some(GROWTH.powf(f64::from(*bucket) + 0.5))
    }
}

fn bucket(ms: f64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "of what is clamped there are a few hundred")]
    let bucket = (ms.clamp(MS_MIN, MS_MAX).ln() / GROWTH.ln()).floor() as i32;
    bucket
}

/// The network that a client's reports are of.
pub(crate) fn network_of(address: IpAddr) -> IpNet {
    let address = address.to_canonical();
    let length = if address.is_ipv4() { 24 } else { 48 };
    IpNet::new(address, length).map_or_else(|_| IpNet::from(address), |network| network.trunc())
}

/// What a network has reported.
#[derive(Debug, Default)]
pub(crate) struct Network {
    edges: BTreeMap<String, Sketch>,
    /// When its last report was counted, and the moment of that report's proof in milliseconds since 1970.
    counted: Option<(Instant, u64)>,
}

impl Network {
    /// Begins a report whose proof was given at `proof_ms`. Returns whether it counts: one report in each `every` does, whoever of the
    /// network it comes from, and none with a proof as old as the last one that counted.
    pub(crate) fn begin(&mut self, proof_ms: u64, every: Duration, now: Instant) -> bool {
        let counts =
            self.counted.is_none_or(|(at, last_ms)| now.saturating_duration_since(at) >= every && proof_ms > last_ms);
        if counts {
            self.counted = Some((now, proof_ms));
        }
        counts
    }

    /// Takes a measurement of the way to an edge. Returns whether it is remembered: not if it can be no round trip, or there is no room.
    pub(crate) fn report(&mut self, edge: &str, ms: f64, now: Instant) -> bool {
        if !(MS_MIN..=MS_MAX).contains(&ms) {
            return false;
        }
        if !self.edges.contains_key(edge) && self.edges.len() >= EDGES_MAX {
            self.edges.retain(|_, sketch| sketch.measured(now).is_some_and(|measured| measured.is_confident()));
            if self.edges.len() >= EDGES_MAX {
                return false;
            }
        }
        self.edges.entry(edge.to_owned()).or_default().add(ms, now);
        true
    }

    /// Returns what the network has measured of an edge.
    pub(crate) fn measured(&self, edge: &str, now: Instant) -> Option<Measured> {
        self.edges.get(edge)?.measured(now)
    }
}

/// What is known of all networks. If there are more than [`NETWORKS_MAX`], those go first that have neither reported nor been sent to an
/// edge for longest.
#[derive(Debug)]
pub(crate) struct Measurements {
    networks: Cache<IpNet, Arc<Mutex<Network>>>,
}

impl Default for Measurements {
    fn default() -> Self {
        // Not TinyLFU: of a network that it turns away, no second report would ever find the first.
        let builder = Cache::builder().max_capacity(NETWORKS_MAX).eviction_policy(EvictionPolicy::lru());
        Self { networks: builder.build() }
    }
}

impl Measurements {
    /// Returns the network of a client that reports; a new one where nothing is known of it.
    pub(crate) fn reporting(&self, client: IpAddr) -> Arc<Mutex<Network>> {
        self.networks.get_with(network_of(client), Arc::default)
    }

    /// Returns the network of a client, if anything is known of it.
    pub(crate) fn find(&self, client: IpAddr) -> Option<Arc<Mutex<Network>>> {
        self.networks.get(&network_of(client))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "the moment from which the others are counted")]
    fn begin() -> Instant {
        Instant::now()
    }

    fn client() -> IpAddr {
        "192.0.2.7".parse().unwrap()
    }

    fn measured(known: &Measurements, client: IpAddr, edge: &str, now: Instant) -> Option<Measured> {
        known.find(client)?.lock().measured(edge, now)
    }

    fn report(known: &Measurements, client: IpAddr, edge: &str, ms: f64, now: Instant) -> bool {
        known.reporting(client).lock().report(edge, ms, now)
    }

    #[test]
    fn quantiles_are_within_a_twentieth_and_follow_within_five_reports() {
        let (known, now) = (Measurements::default(), begin());
        for ms in [20.0, 21.0, 19.5, 20.5, 20.0, 20.2, 19.9, 20.1, 60.0, 20.0] {
            assert!(report(&known, client(), "edge", ms, now));
        }
        let before = measured(&known, client(), "edge", now).unwrap();
        assert!((before.p50_ms - 20.0).abs() <= 1.1 && before.is_confident(), "{before:?}");
        assert!(before.p90_ms > 50.0, "one of the last ten was slow: {before:?}");
        for _ in 0..5 {
            report(&known, client(), "edge", 100.0, now);
        }
        let after = measured(&known, client(), "edge", now).unwrap();
        assert!((after.p50_ms - 100.0).abs() <= 5.0, "{after:?}");
        // Others of the same network know it too, and of another they do not.
        assert!(measured(&known, "192.0.2.200".parse().unwrap(), "edge", now).is_some());
        assert!(measured(&known, "192.0.3.7".parse().unwrap(), "edge", now).is_none());
    }

    #[test]
    fn it_takes_three_reports_and_is_believed_for_some_time() {
        let (known, now) = (Measurements::default(), begin());
        let is_believed =
            |known: &Measurements, now| measured(known, client(), "edge", now).is_some_and(|m| m.is_confident());
        report(&known, client(), "edge", 20.0, now);
        report(&known, client(), "edge", 20.0, now);
        assert!(!is_believed(&known, now));
        report(&known, client(), "edge", 20.0, now);
        assert!(is_believed(&known, now));
        for _ in 0..20 {
            report(&known, client(), "edge", 20.0, now);
        }
        assert!(is_believed(&known, now + HALF_LIFE));
        assert!(!is_believed(&known, now + 2 * HALF_LIFE));
    }

    #[test]
    fn one_report_of_a_network_counts_in_a_while_and_each_proof_once() {
        let (known, now, every) = (Measurements::default(), begin(), Duration::from_secs(60));
        let neighbour: IpAddr = "192.0.2.200".parse().unwrap();
        let begins = |client, proof_ms, every, now| known.reporting(client).lock().begin(proof_ms, every, now);
        assert!(begins(client(), 1000, every, now));
        assert!(!begins(client(), 1000, every, now), "the same once more");
        assert!(!begins(neighbour, 2000, every, now + every / 2), "another client of the network");
        assert!(begins("192.0.3.7".parse().unwrap(), 1000, every, now), "another network");
        assert!(!begins(client(), 1000, every, now + every), "the proof that has counted");
        assert!(!begins(client(), 999, every, now + every), "an older one, kept for later");
        assert!(begins(neighbour, 2000, every, now + every));
        // At this pace it takes four reports until they are believed.
        let mut reports = 0;
        while !measured(&known, client(), "edge", now + every * reports).is_some_and(|measured| measured.is_confident())
        {
            reports += 1;
            assert!(report(&known, client(), "edge", 20.0, now + every * reports));
            assert!(reports <= 5);
        }
        assert_eq!(reports, 4);
    }

    #[test]
    fn what_is_no_round_trip_and_what_is_too_much_is_not_remembered() {
        let (known, now) = (Measurements::default(), begin());
        for ms in [0.0, -1.0, f64::NAN, f64::INFINITY, 10_001.0] {
            assert!(!report(&known, client(), "edge", ms, now), "{ms}");
        }
        for number in 0..EDGES_MAX + 10 {
            report(&known, client(), &format!("edge-{number}"), 1.0, now);
        }
        assert!(known.reporting(client()).lock().edges.len() <= EDGES_MAX);
    }

    #[test]
    fn networks_that_have_not_reported_for_longest_make_room() {
        let (known, now) = (Measurements::default(), begin());
        let network = |number: u64| IpAddr::V4((0x0a00_0000 + u32::try_from(number << 8).unwrap()).into());
        for number in 0..2 * NETWORKS_MAX {
            assert!(report(&known, network(number), "edge", 1.0, now));
            // However often others are asked for, whoever reports is remembered.
            assert!(measured(&known, network(number), "edge", now).is_some());
            assert!(measured(&known, network(0), "edge", now).is_some());
        }
        known.networks.run_pending_tasks();
        assert_eq!(known.networks.entry_count(), NETWORKS_MAX);
        let is_known = |number: u64| measured(&known, network(number), "edge", now).is_some();
        assert!((NETWORKS_MAX + 1..2 * NETWORKS_MAX).all(is_known));
        assert!(!(1..=NETWORKS_MAX).any(is_known));
        assert!(is_known(0), "its clients are still sent to edges");
    }
}
