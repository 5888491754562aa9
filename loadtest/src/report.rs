//! What a run has shown.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

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

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Requests that were due.
    pub due: u64,
    /// Whole answers.
    pub answered: u64,
    /// Requests without a whole answer.
    pub failed: u64,
    /// Why, for the last that failed.
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
    /// Latencies of whole answers.
    pub latency_ms: Latency,
}

pub(crate) fn latency(micros: &Histogram<u64>) -> Latency {
    #[expect(clippy::cast_precision_loss, reason = "latencies are far below 2^52 microseconds")]
    let ms = |micros: u64| micros as f64 / 1000.0;
    let at = |quantile| ms(micros.value_at_quantile(quantile));
    Latency { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: ms(micros.max()) }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: Vec<String>| if counts.is_empty() { "-".to_owned() } else { counts.join("  ") };
        writeln!(f, "requests   {} due, {} answered, {} failed", self.due, self.answered, self.failed)?;
        if let Some(failure) = &self.last_failure {
            writeln!(f, "           last failure: {failure}")?;
        }
        writeln!(f, "rate       {:.1} answers/s over {:.1} s, {} bytes", self.rate, self.seconds, self.bytes)?;
        writeln!(f, "status     {}", list(self.statuses.iter().map(|(code, n)| format!("{code}: {n}")).collect()))?;
        writeln!(f, "cache      {}", list(self.cache.iter().map(|(word, n)| format!("{word}: {n}")).collect()))?;
        let ms = &self.latency_ms;
        writeln!(
            f,
            "latency    p50 {:.2}  p90 {:.2}  p99 {:.2}  p99.9 {:.2}  max {:.2} ms",
            ms.p50, ms.p90, ms.p99, ms.p999, ms.max
        )
    }
}
