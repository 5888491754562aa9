//! Spans of time in buckets.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, MetricEncoder, NoLabelSet};

/// Upper ends of the buckets, in microseconds: 50 µs to 10 s.
const BUCKETS_MICROS: [u64; 17] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// How many spans were how long. A cell for each bucket, the last one for all that is longer, and one for their sum.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS_MICROS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    /// Counts a span, where one thread only does.
    pub(crate) fn add_alone(&self, span: Duration) {
        self.count(span, add);
    }

    /// Counts a span, whoever else does.
    pub fn add(&self, span: Duration) {
        self.count(span, |cell, count| {
            cell.fetch_add(count, Ordering::Relaxed);
        });
    }

    fn count(&self, span: Duration, add: impl Fn(&AtomicU64, u64)) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_MICROS.partition_point(|end| *end < micros);
        if let Some(bucket) = self.buckets.get(bucket) {
            add(bucket, 1);
        }
        add(&self.micros, micros);
    }
}

/// Writes the sum of histograms, if there is something in them.
///
/// # Errors
///
/// The encoder fails.
pub fn encode<'h>(
    histograms: impl Iterator<Item = &'h Histogram>,
    labels: &impl EncodeLabelSet,
    metric: &mut MetricEncoder<'_>,
) -> fmt::Result {
    let mut counts = [0; BUCKETS_MICROS.len() + 1];
    let mut micros = 0;
    for histogram in histograms {
        for (sum, cell) in counts.iter_mut().zip(&histogram.buckets) {
            *sum += cell.load(Ordering::Relaxed);
        }
        micros += histogram.micros.load(Ordering::Relaxed);
    }
    let count = counts.iter().sum();
    if count == 0 {
        return Ok(());
    }
    // What is not infinite is no last bucket to Prometheus, and no quantile can be computed.
    let ends = BUCKETS_MICROS.iter().map(|micros| Duration::from_micros(*micros).as_secs_f64()).chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = ends.zip(counts).collect();
    let sum = Duration::from_micros(micros).as_secs_f64();
    metric.encode_family(labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}

/// Adds to a cell that only its own thread writes: no locked instruction is needed.
pub(crate) fn add(cell: &AtomicU64, count: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}
