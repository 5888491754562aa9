//! The fronts: listeners, connections, and the two protocols that clients speak.
//!
//! Each serving thread has a runtime and listening sockets of its own. A connection stays on the thread that accepted
//! it.
//!
//! **Invariant:** nothing a client does or leaves undone keeps a connection without a deadline, and a panic costs one
//! connection.

pub mod accept;
mod body_pump;
mod cork;
mod exchange;
pub mod h1;
pub mod h2;
pub mod places;
pub mod shares;
mod sheds;
mod take_rate;
pub mod tls;
pub mod transport;
mod watchdog;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nearside_engine::request::Engine;
use nearside_semantics::Timestamp;
use nearside_telemetry::access_log::Log;
use nearside_telemetry::metrics::Metrics;
use nearside_telemetry::record::Record;
use nearside_telemetry::trace::Exporter;
use parking_lot::Mutex;
use tokio::sync::Notify;

use places::Places;
use shares::Shares;

/// How long a connection that has sent no request yet is waited for while the node drains: the kernel had accepted it, so that
/// its client has every reason to send one.
pub(crate) const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// What all connections of one serving thread share.
pub struct Worker {
    /// Engine of the node.
    pub engine: Arc<Engine>,
    pub(crate) metrics: Arc<Metrics>,
    /// Access log.
    pub log: Arc<Log>,
    traces: Option<Arc<Exporter>>,
    /// Its number, for the cells that it counts into.
    pub thread: usize,
    scratch: Mutex<h1::Scratch>,
    spare: Arc<cork::Spare>,
    pub(crate) places: Arc<Places>,
    pub(crate) shares: Arc<Shares>,
    leaving: AtomicBool,
    draining: AtomicBool,
    drained: Notify,
}

impl Worker {
    /// The state of serving thread number `thread`.
    pub fn new(
        engine: Arc<Engine>,
        metrics: Arc<Metrics>,
        log: Arc<Log>,
        traces: Option<Arc<Exporter>>,
        (places, shares): (Arc<Places>, Arc<Shares>),
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
            places,
            shares,
            leaving: AtomicBool::new(false),
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

    /// Every HTTP/1 response from now on is the last one of its connection, so that clients go elsewhere.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Whether an HTTP/1 connection is closed after the response that is about to be sent.
    pub(crate) fn closes_connections(&self) -> bool {
        self.leaving.load(Ordering::Acquire) || self.places.are_short()
    }

    /// No new requests from now on: idle connections close, busy ones after their answer.
    pub fn drain(&self) {
        self.leave();
        self.draining.store(true, Ordering::Release);
        self.drained.notify_waiters();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}
