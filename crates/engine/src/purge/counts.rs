//! Counters of the purges of a node.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Met, Reclaiming};

/// Number of purges that were applied, and what they met.
#[derive(Debug, Default)]
pub struct PurgeCounts {
    pub purges: AtomicU64,
    dry_runs: AtomicU64,
    pub objects: AtomicU64,
    pub fenced_fills: AtomicU64,
    pub(super) reclaiming: Reclaiming,
}

impl PurgeCounts {
    /// Counts a purge that was only counted; returns its number.
    pub(super) fn count_dry_run(&self) -> u64 {
        self.dry_runs.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Counts a purge; returns its number.
    pub(super) fn count(&self, met: Met) -> u64 {
        self.objects.fetch_add(met.matched as u64, Ordering::Relaxed);
        self.fenced_fills.fetch_add(met.fenced_fills as u64, Ordering::Relaxed);
        self.purges.fetch_add(1, Ordering::Relaxed) + 1
    }
}
