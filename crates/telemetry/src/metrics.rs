//! What a node counts of its clients and their requests.
//!
//! Serving threads count into cells of their own; a scrape adds them up. No label comes off the wire.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use nearside_config::SiteId;
use prometheus_client::encoding::{MetricEncoder, NoLabelSet};

use crate::histogram::{self, Histogram, add};
use crate::outcome::Verdict;
use crate::protocol::Protocol;
use crate::reason::Reason;
use crate::record::Record;

/// The statuses that are told apart; all others are `other`.
const CODES: [u16; 41] = [
    101, 200, 201, 202, 203, 204, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 406, 408, 409, 410,
    411, 412, 413, 414, 415, 416, 421, 422, 425, 429, 431, 499, 500, 501, 502, 503, 504, 508,
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
    /// By reason; of hits only those that have one. Under `fresh` these once more: it is all hits but these.
    decisions: Box<[AtomicU64]>,
}

/// The counters of a node.
#[derive(Debug)]
pub struct Metrics {
    threads: Vec<Cells>,
    /// Names of the sites, and `none` at the end for requests that belong to no site.
    sites: Vec<String>,
    /// Client connections that are open.
    pub connections_open: AtomicU64,
    /// Client connections since the start.
    pub connections_total: AtomicU64,
    /// TLS handshakes that failed.
    pub tls_handshake_failures_total: AtomicU64,
    /// Duration of the TLS handshakes that succeeded.
    pub tls_handshakes: Histogram,
    /// Requests that are not answered from the store at once.
    in_flight: AtomicU64,
    /// From the moment at which a purge was accepted to that at which it was applied here.
    pub purge_delays: Histogram,
    /// Of each listener that has one: its address, and the second at which its certificate expires.
    pub certificates: Vec<(String, i64)>,
}

/// A request that is under way, for as long as this is held.
pub struct InFlight<'m>(&'m AtomicU64);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn cells(count: usize) -> Box<[AtomicU64]> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

fn histograms() -> Box<[Histogram]> {
    Verdict::ALL.iter().map(|_| Histogram::default()).collect()
}

impl Metrics {
    /// Counters of `threads` serving threads, for sites with these names. `certificates` are the listeners with TLS, each with the
    /// second at which its certificate expires.
    pub fn new(threads: usize, sites: impl Iterator<Item = String>, certificates: Vec<(String, i64)>) -> Self {
        let sites: Vec<String> = sites.chain(["none".to_owned()]).collect();
        let thread = |_| Cells {
            requests: cells(sites.len() * Verdict::ALL.len() * (CODES.len() + 1) * Protocol::ALL.len()),
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
            tls_handshakes: Histogram::default(),
            in_flight: AtomicU64::new(0),
            purge_delays: Histogram::default(),
            certificates,
        }
    }

    /// A request has begun that is not answered from the store at once.
    pub fn enter(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(&self.in_flight)
    }

    /// Number of such requests.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request that thread `thread` has served.
    pub fn count(&self, thread: usize, record: &Record<'_>) {
        let Some(cells) = self.threads.get(thread) else { return };
        let site = record.outcome.site.map_or(self.sites.len() - 1, SiteId::index);
        let verdict = record.outcome.verdict as usize;
        let code = CODES.binary_search(&record.status.as_u16()).unwrap_or(CODES.len());
        let proto = record.requested.protocol as usize;
        if let Some(cell) = cells.requests.get(place(site, verdict, code, proto)) {
            add(cell, 1);
        }
        if let Some(cell) = cells.bytes.get(site) {
            add(cell, record.bytes);
        }
        if (record.outcome.verdict != Verdict::Hit || record.outcome.reason.is_some())
            && let Some(cell) = cells.decisions.get(record.outcome.decision() as usize)
        {
            add(cell, 1);
            // All other hits are fresh.
            if record.outcome.verdict == Verdict::Hit
                && let Some(cell) = cells.decisions.get(Reason::Fresh as usize)
            {
                add(cell, 1);
            }
        }
        if let (Some(duration), Some(first)) = (cells.durations.get(verdict), cells.first_bytes.get(verdict)) {
            duration.add_alone(record.times.duration());
            first.add_alone(record.times.first_byte_after());
        }
    }

    fn sum(&self, cell: impl Fn(&Cells) -> Option<&AtomicU64>) -> u64 {
        self.threads.iter().filter_map(cell).map(|cell| cell.load(Ordering::Relaxed)).sum()
    }

    /// Requests of all sites that have ended so.
    pub fn requests_where(&self, is_meant: impl Fn(Verdict) -> bool) -> u64 {
        let row = (CODES.len() + 1) * Protocol::ALL.len();
        let of = |place: usize| Verdict::ALL.get(place / row % Verdict::ALL.len());
        let cells = self.threads.iter().flat_map(|cells| cells.requests.iter().enumerate());
        let meant = cells.filter(|(place, _)| of(*place).is_some_and(|verdict| is_meant(*verdict)));
        meant.map(|(_, cell)| cell.load(Ordering::Relaxed)).sum()
    }

    /// Bytes of bodies that were sent to clients.
    pub fn bytes(&self) -> u64 {
        self.threads.iter().flat_map(|cells| &cells.bytes).map(|cell| cell.load(Ordering::Relaxed)).sum()
    }

    /// Writes the counts of requests by site, verdict, status and protocol.
    ///
    /// # Errors
    ///
    /// The encoder fails.
    pub fn encode_requests(&self, mut metric: MetricEncoder<'_>) -> fmt::Result {
        for (site, name) in self.sites.iter().enumerate() {
            for (verdict, cache) in Verdict::ALL.iter().enumerate() {
                for code in 0..=CODES.len() {
                    for (proto, protocol) in Protocol::ALL.iter().enumerate() {
                        let count = self.sum(|cells| cells.requests.get(place(site, verdict, code, proto)));
                        if count == 0 {
                            continue;
                        }
                        let code = CODES.get(code).map_or_else(|| "other".to_owned(), u16::to_string);
                        let labels = [
                            ("site", name.as_str()),
                            ("cache", cache.as_str()),
                            ("code", code.as_str()),
                            ("proto", protocol.label()),
                        ];
                        metric.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(&count, None)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes the counts of requests by what decided on them.
    ///
    /// # Errors
    ///
    /// The encoder fails.
    pub fn encode_decisions(&self, mut metric: MetricEncoder<'_>) -> fmt::Result {
        for reason in Reason::ALL {
            let mut counted = self.sum(|cells| cells.decisions.get(*reason as usize));
            if *reason == Reason::Fresh {
                // Of these the hits that have a reason of their own are counted.
                counted = self.requests_where(|verdict| verdict == Verdict::Hit).saturating_sub(counted);
            }
            if counted > 0 {
                let labels = [("reason", reason.token())];
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(&counted, None)?;
            }
        }
        Ok(())
    }

    /// Writes the times to the end of each response, by verdict.
    ///
    /// # Errors
    ///
    /// The encoder fails.
    pub fn encode_durations(&self, metric: MetricEncoder<'_>) -> fmt::Result {
        self.encode_histograms(metric, |cells| &cells.durations)
    }

    /// Writes the times to the first byte of each response, by verdict.
    ///
    /// # Errors
    ///
    /// The encoder fails.
    pub fn encode_first_bytes(&self, metric: MetricEncoder<'_>) -> fmt::Result {
        self.encode_histograms(metric, |cells| &cells.first_bytes)
    }

    /// Writes the bytes of bodies that were sent, by site.
    ///
    /// # Errors
    ///
    /// The encoder fails.
    pub fn encode_bytes(&self, mut metric: MetricEncoder<'_>) -> fmt::Result {
        for (site, name) in self.sites.iter().enumerate() {
            let bytes = self.sum(|cells| cells.bytes.get(site));
            metric.encode_family(&[("site", name.as_str())])?.encode_counter::<NoLabelSet, u64, u64>(&bytes, None)?;
        }
        Ok(())
    }

    fn encode_histograms(&self, mut metric: MetricEncoder<'_>, of: impl Fn(&Cells) -> &[Histogram]) -> fmt::Result {
        for (verdict, cache) in Verdict::ALL.iter().enumerate() {
            let histograms = self.threads.iter().filter_map(|cells| of(cells).get(verdict));
            histogram::encode(histograms, &[("cache", cache.as_str())], &mut metric)?;
        }
        Ok(())
    }
}

fn place(site: usize, verdict: usize, code: usize, proto: usize) -> usize {
    ((site * Verdict::ALL.len() + verdict) * (CODES.len() + 1) + code) * Protocol::ALL.len() + proto
}
