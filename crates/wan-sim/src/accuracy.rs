//! How far the simulation is from what it simulates: by how much bytes were later than they should have been.

use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;

/// Later than this nothing is counted as.
const LATE_MAX_MICROS: u64 = 60_000_000;

/// By how much pieces were late, in microseconds.
#[derive(Debug)]
pub(crate) struct Accuracy {
    late: Mutex<Option<Histogram<u64>>>,
}

/// The same for people.
#[derive(Debug, Serialize)]
pub(crate) struct Late {
    /// What was delivered.
    pieces: u64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

impl Default for Accuracy {
    fn default() -> Self {
        Self { late: Mutex::new(Histogram::new_with_bounds(1, LATE_MAX_MICROS, 2).ok()) }
    }
}

impl Accuracy {
    pub(crate) fn count(&self, late: Duration) {
        let micros = u64::try_from(late.as_micros()).unwrap_or(u64::MAX).clamp(1, LATE_MAX_MICROS);
        if let Some(histogram) = &mut *self.late.lock() {
            histogram.saturating_record(micros);
        }
    }

    pub(crate) fn late(&self) -> Option<Late> {
        let histogram = self.late.lock();
        let histogram = histogram.as_ref()?;
        #[expect(clippy::cast_precision_loss, reason = "a minute at most")]
        let ms = |micros: u64| micros as f64 / 1000.0;
        Some(Late {
            pieces: histogram.len(),
            p50_ms: ms(histogram.value_at_quantile(0.5)),
            p99_ms: ms(histogram.value_at_quantile(0.99)),
            max_ms: ms(histogram.max()),
        })
    }
}
