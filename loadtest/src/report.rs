//! What a run has shown.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Latencies in milliseconds, from the moment at which a request should have left to the last byte of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

/// The latency of a share of the answers, at most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentile {
    /// Percent of the answers.
    pub percentile: f64,
    /// Milliseconds.
    pub ms: f64,
}

/// One host of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HostReport {
    /// Whole answers.
    pub answered: u64,
    /// Their latencies.
    pub latency_ms: Latency,
}

/// A short part of a run: of what was due in it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moment {
    /// When it began, in seconds of the run.
    pub at_seconds: f64,
    /// Answers per second.
    pub rate: f64,
    /// Requests without a whole answer.
    pub failed: u64,
    /// Hits among the answers of which a cache has said what they are.
    pub hit_ratio: Option<f64>,
    /// Requests per second that reached the origin.
    pub origin_rate: Option<f64>,
    /// Latencies of whole answers.
    pub latency_ms: Latency,
}

/// What reached the origin meanwhile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct OriginReport {
    /// Requests.
    pub requests: u64,
    /// Bytes of bodies.
    pub bytes: u64,
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Requests that were due; nothing where they left as soon as others were answered.
    pub due: Option<u64>,
    /// Whole answers.
    pub answered: u64,
    /// Requests without a whole answer.
    pub failed: u64,
    /// Whole answers that are not what was to come.
    pub wrong: u64,
    /// Why, for the last that failed or was wrong.
    pub last_failure: Option<String>,
    /// Seconds from the first request to the last answer.
    pub seconds: f64,
    /// Answers per second.
    pub rate: f64,
    /// Bytes of bodies.
    pub bytes: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Answers by what the nearest cache said of them in `Cache-Status`: `hit`, or the reason of the forward.
    pub cache: BTreeMap<String, u64>,
    /// Hits among the answers of which a cache has said what they are.
    pub hit_ratio: Option<f64>,
    /// What reached the origin, if it was asked.
    pub origin: Option<OriginReport>,
    /// Latencies of whole answers.
    pub latency_ms: Latency,
    /// The same in more detail.
    pub percentiles: Vec<Percentile>,
    /// By host, if there are several.
    pub hosts: BTreeMap<String, HostReport>,
    /// How it went over time.
    pub timeline: Vec<Moment>,
}

impl OriginReport {
    /// What came between two looks at a ledger; one that stands lower than before has begun anew in between.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        let since = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        Self { requests: since(self.requests, before.requests), bytes: since(self.bytes, before.bytes) }
    }
}

pub(crate) fn latency(micros: &Histogram<u64>) -> Latency {
    #[expect(clippy::cast_precision_loss, reason = "latencies are far below 2^52 microseconds")]
    let ms = |micros: u64| micros as f64 / 1000.0;
    let at = |quantile| ms(micros.value_at_quantile(quantile));
    Latency { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: ms(micros.max()) }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p90, p99, p999, max } = self;
        write!(f, "p50 {p50:.2}  p90 {p90:.2}  p99 {p99:.2}  p99.9 {p999:.2}  max {max:.2} ms")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: Vec<String>| if counts.is_empty() { "-".to_owned() } else { counts.join("  ") };
        let due = self.due.map_or_else(|| "as many as were answered".to_owned(), |due| format!("{due} due"));
        write!(f, "requests   {due}, {} answered, {} failed", self.answered, self.failed)?;
        if self.wrong > 0 {
            write!(f, ", {} WRONG", self.wrong)?;
        }
        writeln!(f)?;
        if let Some(failure) = &self.last_failure {
            writeln!(f, "           last failure: {failure}")?;
        }
        writeln!(f, "rate       {:.1} answers/s over {:.1} s, {} bytes", self.rate, self.seconds, self.bytes)?;
        writeln!(f, "status     {}", list(self.statuses.iter().map(|(code, n)| format!("{code}: {n}")).collect()))?;
        writeln!(f, "cache      {}", list(self.cache.iter().map(|(word, n)| format!("{word}: {n}")).collect()))?;
        if let Some(OriginReport { requests, bytes }) = self.origin {
            writeln!(f, "origin     {requests} requests, {bytes} bytes")?;
        }
        for (host, HostReport { answered, latency_ms }) in &self.hosts {
            writeln!(f, "host       {host}: {answered} answered, {latency_ms}")?;
        }
        writeln!(f, "latency    {}", self.latency_ms)
    }
}
