//! How Prometheus gets what a node counts.

mod process;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nearside_config::ConfigFile;
use nearside_engine::request::Engine;
use nearside_front::shares::Shares;
use nearside_telemetry::access_log::Log;
use nearside_telemetry::histogram;
use nearside_telemetry::metrics::Metrics;
use nearside_telemetry::outcome::Verdict;
use nearside_telemetry::trace::Exporter;
use nearside_upstream::Counts;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Of what is there once.
const NO_LABELS: [(&str, &str); 0] = [];

/// The metrics of a node as a Prometheus registry, made for one scrape after the other.
pub(crate) fn registry(
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    shares: Arc<Shares>,
    log: Arc<Log>,
    traces: Option<Arc<Exporter>>,
) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(process::ProcessCollector));
    registry.sub_registry_with_prefix("nearside").register_collector(Box::new(NodeCollector {
        engine,
        metrics,
        shares,
        log,
        traces,
    }));
    registry
}

struct NodeCollector {
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    shares: Arc<Shares>,
    log: Arc<Log>,
    traces: Option<Arc<Exporter>>,
}

impl fmt::Debug for NodeCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeCollector").finish_non_exhaustive()
    }
}

impl Collector for NodeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.build_info(&mut encoder)?;
        self.config_file(&mut encoder)?;
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

    fn config_file(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "1 if the configuration file is not what the node runs with. Check it with nearside check, and restart the node";
        let has_changed = self.engine.config.file.as_ref().is_some_and(ConfigFile::has_changed);
        gauge(encoder, "config_file_changed", help, u64::from(has_changed))
    }

    fn requests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let metrics = &self.metrics;
        let help = "Requests served. When the share of cache=\"hit\" falls, look at the reason in the access log";
        metrics.encode_requests(encoder.encode_descriptor("requests", help, None, MetricType::Counter)?)?;
        let help = "Requests by what decided on them. docs/reasons.md says what each reason means, and what helps";
        metrics.encode_decisions(encoder.encode_descriptor("cache_decisions", help, None, MetricType::Counter)?)?;
        let help = "Seconds from a complete request to the end of its answer. When hits rise, the node is short of CPU";
        let metric = encoder.encode_descriptor("request_duration_seconds", help, None, MetricType::Histogram)?;
        metrics.encode_durations(metric)?;
        let help = "Seconds from a complete request to the first byte of its answer. When misses rise, look upstream";
        let metric = encoder.encode_descriptor("time_to_first_byte_seconds", help, None, MetricType::Histogram)?;
        metrics.encode_first_bytes(metric)?;
        let help =
            "Requests that were not answered from the store at once and are under way. When they rise, look upstream";
        gauge(encoder, "requests_in_flight", help, metrics.in_flight())?;
        let help = "Bytes that heads and tasks of these requests hold. At an eighth of cache.memory, new ones get 503";
        gauge(encoder, "requests_in_flight_bytes", help, self.shares.head_bytes())?;
        let help = "Bytes of answer bodies sent. Set it against the bytes that the origin sends";
        metrics.encode_bytes(encoder.encode_descriptor("response_bytes", help, None, MetricType::Counter)?)?;
        self.connections(encoder)?;
        let help = "Access-log lines lost because the sink was too slow. Give the log a faster disk";
        counter(encoder, "access_log_dropped", help, self.log.dropped())?;
        let help = "Lines of the diagnostic log lost because standard error was not read in time. Look who reads it: a pipe that is full loses \
                    what comes next";
        counter(encoder, "diagnostics_dropped", help, nearside_diagnostics::dropped())?;
        let help = "Lines of the diagnostic log left out because they repeated others. When they rise, read the log: one line stands for many";
        counter(encoder, "diagnostics_suppressed", help, nearside_diagnostics::suppressed())?;
        let help =
            "Spans of traces that did not reach their collector. Look whether it runs, or sample fewer (traces.one_in)";
        counter(encoder, "trace_spans_dropped", help, self.traces.as_ref().map_or(0, |traces| traces.dropped()))
    }

    fn connections(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let metrics = &self.metrics;
        let open = metrics.connections_open.load(Ordering::Relaxed);
        gauge(encoder, "connections_open", "Client connections now. At limits.connections, new ones wait", open)?;
        let total = metrics.connections_total.load(Ordering::Relaxed);
        counter(encoder, "connections", "Client connections accepted. A rise without requests is an attack", total)?;
        let help = "Client connections refused because their network (/32 of IPv4, /64 of IPv6) had limits.connections_per_client. \
                    Raise that if it is a proxy that many clients share";
        counter(encoder, "connections_refused", help, self.shares.refused())?;
        let failures = metrics.tls_handshake_failures_total.load(Ordering::Relaxed);
        let help = "TLS handshakes that failed. A rise after a change of certificate means that clients refuse it";
        counter(encoder, "tls_handshake_failures", help, failures)?;
        let help = "Seconds that TLS handshakes took which came to their end. When they rise, clients are far, or the node is short of CPU";
        let mut metric =
            encoder.encode_descriptor("tls_handshake_duration_seconds", help, None, MetricType::Histogram)?;
        histogram::encode([&metrics.tls_handshakes].into_iter(), &NO_LABELS, &mut metric)?;
        let help =
            "When the certificate of a listener expires, in seconds since 1970. Renew it before, and restart the node";
        let mut metric =
            encoder.encode_descriptor("tls_certificate_expiry_timestamp_seconds", help, None, MetricType::Gauge)?;
        for (listener, expiry) in &metrics.certificates {
            ConstGauge::new(*expiry).encode(metric.encode_family(&[("listener", listener.as_str())])?)?;
        }
        Ok(())
    }

    fn cache(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let store = &self.engine.store;
        let help = "Cache keys with something stored. A sudden fall is a purge or a restart";
        gauge(encoder, "cache_objects", help, store.objects())?;
        let help = "Bytes alive: stored, on their way in, lingering with readers. Bounded by cache_capacity_bytes";
        gauge(encoder, "cache_bytes", help, store.resident_bytes())?;
        let help = "Bytes that may be alive. Raise cache.memory when evictions hurt the hit ratio";
        gauge(encoder, "cache_capacity_bytes", help, store.limits().memory_bytes)?;
        let evicted = store.evictions();
        let help = "Entries that made room for others: reason=\"room\" could still be used, \"dead\" could not. When room evicts, and \
                    misses rise with it, raise cache.memory";
        let mut metric = encoder.encode_descriptor("cache_evictions", help, None, MetricType::Counter)?;
        for (reason, count) in [("room", evicted.room), ("dead", evicted.dead)] {
            ConstCounter::new(count).encode(metric.encode_family(&[("reason", reason)])?)?;
        }
        let help = "Requests answered from another one's forward: so many the next hop was spared";
        let collapsed = self.metrics.requests_where(|verdict| verdict == Verdict::Collapsed);
        counter(encoder, "cache_collapsed", help, collapsed)?;
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
        self.purges(encoder)
    }

    fn purges(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let purges = &self.engine.purges;
        let count = |counted: &AtomicU64| counted.load(Ordering::Relaxed);
        counter(encoder, "purges", "Purges applied. Each lowers the hit ratio for a while", count(&purges.purges))?;
        let help = "Stored variants that purges have met, and answers on their way. A rise without purge orders of yours: look who has a token";
        counter(encoder, "purge_objects", help, count(&purges.objects))?;
        let help =
            "Fills under way that store nothing because a purge has overtaken them. Many: purge less often, or by tag";
        counter(encoder, "purge_fenced_fills", help, count(&purges.fenced_fills))?;
        let Some(position) = &self.engine.position else { return Ok(()) };
        let help = "Seconds from the moment at which the control process accepted a purge to that at which it was applied here, by the \
                    clocks of both. When they rise, look at the way between";
        let mut metric = encoder.encode_descriptor("purge_apply_delay_seconds", help, None, MetricType::Histogram)?;
        histogram::encode([&self.metrics.purge_delays].into_iter(), &NO_LABELS, &mut metric)?;
        let (applied, lag) = position.applied_and_lag();
        let help = "The number of the last purge of the log that was applied. The same on all nodes, or one is behind";
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
            "Seconds from asking a next hop to the head of its answer. When they rise, it is slow, or the way to it is";
        let mut metric =
            encoder.encode_descriptor("upstream_request_duration_seconds", help, None, MetricType::Histogram)?;
        for hop in self.engine.hops.all() {
            histogram::encode([&hop.health.waits].into_iter(), &[("peer", &*hop.name)], &mut metric)?;
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
        let parts: [(&str, &str, MetricType, Part); 5] = [
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
                "Requests that found no place at an origin, nor one to wait in, or waited too long. Raise origins.concurrency if the origin can bear it",
                MetricType::Counter,
                |counts| counts.refused,
            ),
            (
                "upstream_gave_way",
                "Requests that moved too slowly and lost their place at an origin to one that waited. When it rises, raise origins.concurrency if the origin can bear it, or look for clients that stall",
                MetricType::Counter,
                |counts| counts.gave_way,
            ),
            (
                "upstream_revoked",
                "Requests of a client network with more than an eighth of the places at an origin that lost theirs to a request of another network. When it rises, a few addresses send most of the requests",
                MetricType::Counter,
                |counts| counts.revoked,
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
