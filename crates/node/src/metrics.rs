//! What a node counts, and how Prometheus gets it.
//!
//! Serving threads count into cells of their own; a scrape adds them up. No label comes off the wire.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Version;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::access_log::Log;
use crate::hop::Counts;
use crate::outcome::Verdict;
use crate::reason::Reason;
use crate::request::Engine;
use crate::request::finish::Record;

/// The statuses that are told apart; all others are `other`.
const CODES: [u16; 40] = [
    101, 200, 201, 202, 203, 204, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 406, 408, 409, 410,
    411, 412, 413, 414, 415, 416, 421, 422, 425, 429, 431, 500, 501, 502, 503, 504, 508,
];
const PROTOS: [&str; 3] = ["http/1.0", "http/1.1", "http/2"];
/// Upper ends of the buckets of durations, in microseconds: 50 µs to 10 s.
const BUCKETS_MICROS: [u64; 17] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// The cells of one serving thread.
#[derive(Debug)]
struct Cells {
    /// By site, verdict, code and protocol.
    requests: Box<[AtomicU64]>,
    /// By site.
    bytes: Box<[AtomicU64]>,
    /// By verdict.
    durations: Box<[Histogram]>,
    first_bytes: Box<[Histogram]>,
    /// By reason; of hits it is always the same, so that they are not counted here.
    decisions: Box<[AtomicU64]>,
}

#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS_MICROS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    fn add(&self, span: Duration) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_MICROS.partition_point(|end| *end < micros);
        if let Some(bucket) = self.buckets.get(bucket) {
            add(bucket, 1);
        }
        add(&self.micros, micros);
    }
}

/// The counters of a node.
#[derive(Debug)]
pub(crate) struct Metrics {
    threads: Vec<Cells>,
    /// Names of the sites, and `none` at the end for requests that belong to no site.
    sites: Vec<String>,
    pub(crate) connections_open: AtomicU64,
    pub(crate) connections_total: AtomicU64,
    pub(crate) tls_handshake_failures_total: AtomicU64,
}

/// Adds to a cell that only its own thread writes: no locked instruction is needed.
fn add(cell: &AtomicU64, count: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}

fn cells(count: usize) -> Box<[AtomicU64]> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

fn histograms() -> Box<[Histogram]> {
    Verdict::ALL.iter().map(|_| Histogram::default()).collect()
}

impl Metrics {
    pub(crate) fn new(threads: usize, sites: impl Iterator<Item = String>) -> Self {
        let sites: Vec<String> = sites.chain(["none".to_owned()]).collect();
        let thread = |_| Cells {
            requests: cells(sites.len() * Verdict::ALL.len() * (CODES.len() + 1) * PROTOS.len()),
            bytes: cells(sites.len()),
            durations: histograms(),
            first_bytes: histograms(),
            decisions: cells(Reason::ALL.len()),
        };
        Self {
            threads: (0..threads).map(thread).collect(),
            sites,
            connections_open: AtomicU64::new(0),
            connections_total: AtomicU64::new(0),
            tls_handshake_failures_total: AtomicU64::new(0),
        }
    }

    /// Counts a request that thread `thread` has served.
    pub(crate) fn count(&self, thread: usize, record: &Record<'_>) {
        let Some(cells) = self.threads.get(thread) else { return };
        let site = record.outcome.site.unwrap_or(self.sites.len() - 1);
        let verdict = record.outcome.verdict as usize;
        let code = CODES.binary_search(&record.status.as_u16()).unwrap_or(CODES.len());
        let proto = match record.version {
            Version::HTTP_10 => 0,
            Version::HTTP_2 => 2,
            _ => 1,
        };
        if let Some(cell) = cells.requests.get(place(site, verdict, code, proto)) {
            add(cell, 1);
        }
        if let Some(cell) = cells.bytes.get(site) {
            add(cell, record.bytes);
        }
        if record.outcome.verdict != Verdict::Hit
            && let Some(cell) = cells.decisions.get(record.outcome.decision() as usize)
        {
            add(cell, 1);
        }
        if let (Some(duration), Some(first)) = (cells.durations.get(verdict), cells.first_bytes.get(verdict)) {
            duration.add(record.times.duration());
            first.add(record.times.first_byte_after());
        }
    }

    fn sum(&self, cell: impl Fn(&Cells) -> Option<&AtomicU64>) -> u64 {
        self.threads.iter().filter_map(cell).map(|cell| cell.load(Ordering::Relaxed)).sum()
    }

    /// Requests of all sites that have ended so.
    pub(crate) fn requests_where(&self, is_meant: impl Fn(Verdict) -> bool) -> u64 {
        let row = (CODES.len() + 1) * PROTOS.len();
        let of = |place: usize| Verdict::ALL.get(place / row % Verdict::ALL.len());
        let cells = self.threads.iter().flat_map(|cells| cells.requests.iter().enumerate());
        let meant = cells.filter(|(place, _)| of(*place).is_some_and(|verdict| is_meant(*verdict)));
        meant.map(|(_, cell)| cell.load(Ordering::Relaxed)).sum()
    }

    /// Bytes of bodies that were sent to clients.
    pub(crate) fn bytes(&self) -> u64 {
        self.threads.iter().flat_map(|cells| &cells.bytes).map(|cell| cell.load(Ordering::Relaxed)).sum()
    }

    fn encode_requests(&self, mut metric: MetricEncoder<'_>) -> fmt::Result {
        for (site, name) in self.sites.iter().enumerate() {
            for (verdict, cache) in Verdict::ALL.iter().enumerate() {
                for code in 0..=CODES.len() {
                    for (proto, protocol) in PROTOS.iter().enumerate() {
                        let count = self.sum(|cells| cells.requests.get(place(site, verdict, code, proto)));
                        if count == 0 {
                            continue;
                        }
                        let code = CODES.get(code).map_or_else(|| "other".to_owned(), u16::to_string);
                        let labels = [
                            ("site", name.as_str()),
                            ("cache", cache.as_str()),
                            ("code", code.as_str()),
                            ("proto", protocol),
                        ];
                        metric.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(&count, None)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn encode_decisions(&self, mut metric: MetricEncoder<'_>) -> fmt::Result {
        for reason in Reason::ALL {
            let counted = self.sum(|cells| cells.decisions.get(*reason as usize));
            let hits =
                if *reason == Reason::Fresh { self.requests_where(|verdict| verdict == Verdict::Hit) } else { 0 };
            if counted + hits > 0 {
                let labels = [("reason", reason.token())];
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(&(counted + hits), None)?;
            }
        }
        Ok(())
    }

    fn encode_histograms(&self, mut metric: MetricEncoder<'_>, of: impl Fn(&Cells) -> &[Histogram]) -> fmt::Result {
        for (verdict, cache) in Verdict::ALL.iter().enumerate() {
            let cell = |bucket: usize| {
                self.sum(|cells| of(cells).get(verdict).and_then(|histogram| histogram.buckets.get(bucket)))
            };
            let ends = BUCKETS_MICROS.iter().map(|micros| Duration::from_micros(*micros).as_secs_f64());
            let buckets: Vec<(f64, u64)> =
                ends.chain([f64::INFINITY]).enumerate().map(|(bucket, end)| (end, cell(bucket))).collect();
            let count = buckets.iter().map(|(_, count)| count).sum();
            if count == 0 {
                continue;
            }
            let micros = self.sum(|cells| of(cells).get(verdict).map(|histogram| &histogram.micros));
            let sum = Duration::from_micros(micros).as_secs_f64();
            metric
                .encode_family(&[("cache", cache.as_str())])?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

fn place(site: usize, verdict: usize, code: usize, proto: usize) -> usize {
    ((site * Verdict::ALL.len() + verdict) * (CODES.len() + 1) + code) * PROTOS.len() + proto
}

/// The metrics of a node as a Prometheus registry, made for one scrape after the other.
pub(crate) fn registry(engine: Arc<Engine>, metrics: Arc<Metrics>, log: Arc<Log>) -> Registry {
    let mut registry = Registry::with_prefix("nearside");
    registry.register_collector(Box::new(NodeCollector { engine, metrics, log }));
    registry
}

struct NodeCollector {
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    log: Arc<Log>,
}

impl fmt::Debug for NodeCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeCollector").finish_non_exhaustive()
    }
}

impl Collector for NodeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.build_info(&mut encoder)?;
        self.requests(&mut encoder)?;
        self.cache(&mut encoder)?;
        self.upstreams(&mut encoder)
    }
}

impl NodeCollector {
    fn build_info(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Always 1; version and role of the node. When versions differ in a fleet, a roll-out is under way";
        let mut metric = encoder.encode_descriptor("build_info", help, None, MetricType::Gauge)?;
        let labels = [("version", env!("CARGO_PKG_VERSION")), ("role", self.engine.tier.name())];
        ConstGauge::<u64>::new(1).encode(metric.encode_family(&labels)?)
    }

    fn requests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let metrics = &self.metrics;
        let help = "Requests served. When the share of cache=\"hit\" falls, look at the reason in the access log";
        metrics.encode_requests(encoder.encode_descriptor("requests", help, None, MetricType::Counter)?)?;
        let help = "Requests by what decided on them. docs/reasons.md says what each reason means, and what helps";
        metrics.encode_decisions(encoder.encode_descriptor("cache_decisions", help, None, MetricType::Counter)?)?;
        let help = "Seconds from a complete request to the end of its answer. When hits rise, the node is short of CPU";
        let metric = encoder.encode_descriptor("request_duration_seconds", help, None, MetricType::Histogram)?;
        metrics.encode_histograms(metric, |cells| &cells.durations)?;
        let help = "Seconds from a complete request to the first byte of its answer. When misses rise, look upstream";
        let metric = encoder.encode_descriptor("time_to_first_byte_seconds", help, None, MetricType::Histogram)?;
        metrics.encode_histograms(metric, |cells| &cells.first_bytes)?;
        let help = "Bytes of answer bodies sent. Set it against the bytes that the origin sends";
        let mut metric = encoder.encode_descriptor("response_bytes", help, None, MetricType::Counter)?;
        for (site, name) in metrics.sites.iter().enumerate() {
            let bytes = metrics.sum(|cells| cells.bytes.get(site));
            ConstCounter::new(bytes).encode(metric.encode_family(&[("site", name.as_str())])?)?;
        }
        let open = metrics.connections_open.load(Ordering::Relaxed);
        gauge(encoder, "connections_open", "Client connections now. At the limit, new ones wait", open)?;
        let total = metrics.connections_total.load(Ordering::Relaxed);
        counter(encoder, "connections", "Client connections accepted. A rise without requests is an attack", total)?;
        let failures = metrics.tls_handshake_failures_total.load(Ordering::Relaxed);
        let help = "TLS handshakes that failed. A rise after a change of certificate means that clients refuse it";
        counter(encoder, "tls_handshake_failures", help, failures)?;
        let help = "Access-log lines lost because the sink was too slow. Give the log a faster disk";
        counter(encoder, "access_log_dropped", help, self.log.dropped())
    }

    fn cache(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let store = &self.engine.store;
        let help = "Cache keys with something stored. A sudden fall is a purge or a restart";
        gauge(encoder, "cache_objects", help, store.objects())?;
        let help = "Bytes alive: stored, on their way in, lingering with readers. Bounded by cache_capacity_bytes";
        gauge(encoder, "cache_bytes", help, store.resident_bytes())?;
        let help = "Bytes that may be alive. Raise cache.memory when evictions hurt the hit ratio";
        gauge(encoder, "cache_capacity_bytes", help, store.limits().memory_bytes)?;
        let help = "Variants that fell out because their key had too many. Vary on fewer request fields";
        counter(encoder, "cache_variants_dropped", help, store.variants_dropped())?;
        let help = "Fills under way. A number that only grows means that next hops do not answer";
        gauge(encoder, "fills_in_flight", help, self.engine.fills.len() as u64)?;
        let help = "Bodies that broke off: result=\"resumed\" went on, \"changed\" was another by then, \"failed\" was cut. When \
                    they rise, look for what cuts connections upstream";
        let mut metric = encoder.encode_descriptor("fill_resumes", help, None, MetricType::Counter)?;
        let resumes = &self.engine.fills.resumes;
        let results = [("resumed", &resumes.resumed), ("changed", &resumes.changed), ("failed", &resumes.failed)];
        for (result, count) in results {
            let count = ConstCounter::new(count.load(Ordering::Relaxed));
            count.encode(metric.encode_family(&[("result", result)])?)?;
        }
        let desk = &self.engine.desk;
        let count = |counted: &AtomicU64| counted.load(Ordering::Relaxed);
        counter(encoder, "purges", "Purges applied. Each lowers the hit ratio for a while", count(&desk.purges))?;
        let help = "Stored variants that purges have met, and answers on their way";
        counter(encoder, "purge_objects", help, count(&desk.objects))?;
        let help = "Fills under way that store nothing because a purge has overtaken them";
        counter(encoder, "purge_fenced_fills", help, count(&desk.fenced_fills))?;
        let Some(position) = &self.engine.position else { return Ok(()) };
        let (applied, lag) = position.applied_and_lag();
        let help = "The number of the last purge of the log that was applied";
        gauge(encoder, "purge_log_sequence", help, applied)?;
        let help = "Purges of the log that are known and not applied. Above 0 for long, look at the control process";
        gauge(encoder, "purge_log_lag", help, lag)?;
        let help = "Whether the purge log is being followed. Where it is 0, purges do not reach this node";
        gauge(encoder, "purge_log_connected", help, u64::from(position.is_connected()))
    }

    fn upstreams(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests sent to a next hop. The fewer of all requests come here, the better the cache works";
        let mut metric = encoder.encode_descriptor("upstream_requests", help, None, MetricType::Counter)?;
        for hop in self.engine.hops.all() {
            let count = hop.health.requests.load(Ordering::Relaxed);
            ConstCounter::new(count).encode(metric.encode_family(&[("peer", &*hop.name)])?)?;
        }
        let help =
            "1 if a next hop is in use, 0 if it failed and is only tried now and then. At 0, look whether it runs";
        let mut metric = encoder.encode_descriptor("upstream_healthy", help, None, MetricType::Gauge)?;
        for hop in self.engine.hops.all() {
            let healthy = ConstGauge::<u64>::new(u64::from(hop.health.is_in()));
            healthy.encode(metric.encode_family(&[("peer", &*hop.name)])?)?;
        }
        self.gates(encoder)?;
        let budget = &self.engine.hops.budget;
        let help = "Requests sent once more to another next hop. When they rise, next hops leave requests unanswered";
        counter(encoder, "upstream_retries", help, budget.retries.load(Ordering::Relaxed))?;
        let help = "Retries not made because the budget was used up. Next hops fail one after the other";
        counter(encoder, "upstream_retries_refused", help, budget.refused.load(Ordering::Relaxed))
    }

    fn gates(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Part = fn(Counts) -> u64;
        let parts: [(&str, &str, MetricType, Part); 3] = [
            (
                "upstream_in_flight",
                "Requests under way at an origin. At origins.concurrency, others wait",
                MetricType::Gauge,
                |counts| counts.taken as u64,
            ),
            (
                "upstream_waiting",
                "Requests that wait for a place at an origin. When it stays above 0, the origin is too slow",
                MetricType::Gauge,
                |counts| counts.waiting as u64,
            ),
            (
                "upstream_turned_away",
                "Requests that found no place at an origin, nor one to wait in, or waited too long",
                MetricType::Counter,
                |counts| counts.refused,
            ),
        ];
        for (name, help, kind, part) in parts {
            let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
            for hop in self.engine.hops.all() {
                let Some(gate) = &hop.gate else { continue };
                let (labels, value) = ([("peer", &*hop.name)], part(gate.counts()));
                let family = metric.encode_family(&labels)?;
                match kind {
                    MetricType::Counter => ConstCounter::new(value).encode(family)?,
                    _ => ConstGauge::new(value).encode(family)?,
                }
            }
        }
        Ok(())
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstCounter::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}
