//! The fronts: listeners, connections, and the two protocols that clients speak.
//!
//! Each serving thread has a runtime and listening sockets of its own. A connection stays on the thread that accepted
//! it.
//!
//! **Invariant:** nothing a client does or leaves undone keeps a connection without a deadline, and a panic costs one
//! connection.

pub(crate) mod accept;
mod cork;
pub(crate) mod h1;
pub(crate) mod h2;
pub(crate) mod tls;
pub(crate) mod transport;
mod watchdog;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nearside_semantics::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::access_log::Log;
use crate::metrics::Metrics;
use crate::request::Engine;
use crate::request::finish::Record;
use crate::trace::Exporter;

/// What all connections of one serving thread share.
pub(crate) struct Worker {
    pub(crate) engine: Arc<Engine>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) log: Arc<Log>,
    traces: Option<Arc<Exporter>>,
    /// Its number, for the cells that it counts into.
    pub(crate) thread: usize,
    scratch: Mutex<h1::Scratch>,
    spare: Arc<cork::Spare>,
    draining: AtomicBool,
    drained: Notify,
}

impl Worker {
    pub(crate) fn new(
        engine: Arc<Engine>,
        metrics: Arc<Metrics>,
        log: Arc<Log>,
        traces: Option<Arc<Exporter>>,
        thread: usize,
    ) -> Self {
        Self {
            engine,
            metrics,
            log,
            traces,
            thread,
            scratch: Mutex::default(),
            spare: Arc::default(),
            draining: AtomicBool::new(false),
            drained: Notify::new(),
        }
    }

    /// Ends a request at `now`: counts, logs and traces it.
    pub(crate) fn finish(&self, record: &Record<'_>, now: Timestamp) {
        self.metrics.count(self.thread, record);
        self.log.add(self.thread, record, self.engine.clock.dated(now));
        if let Some(traces) = &self.traces {
            traces.add(record);
        }
    }

    /// No new requests from now on: idle connections close, busy ones after their answer.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.drained.notify_waiters();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}
