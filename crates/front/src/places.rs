//! The number of client connections that may be open at one time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// How long a connection waits for a place before one more idle connection is closed for it: the last one may have been busy.
const SHED_AGAIN: Duration = Duration::from_millis(20);

/// The places for client connections, shared by all threads.
#[derive(Debug)]
pub struct Places {
    free: Arc<Semaphore>,
    total: usize,
    /// Accepted connections that wait for a place.
    waiting: AtomicUsize,
    /// Wakes one connection, which ends if it is idle.
    pub(super) shed: Notify,
    /// How often that was done.
    sheds: AtomicU64,
}

impl Places {
    /// Room for `total` connections.
    pub fn new(total: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(total)),
            total,
            waiting: AtomicUsize::new(0),
            shed: Notify::new(),
            sheds: AtomicU64::new(0),
        }
    }

    /// Waits for a place. It is free again when the permit is dropped.
    pub(crate) async fn take(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return Some(place);
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let place = Arc::clone(&self.free).acquire_owned();
        tokio::pin!(place);
        loop {
            self.sheds.fetch_add(1, Ordering::Relaxed);
            self.shed.notify_one();
            // It is never closed.
            if let Ok(place) = tokio::time::timeout(SHED_AGAIN, place.as_mut()).await {
                return place.ok();
            }
        }
    }

    /// Whether a connection waits for a place, so that others should end as soon as they can.
    pub(crate) fn are_short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// How often an idle connection was asked to make place; as long as this stays the same, none was.
    pub(super) fn sheds(&self) -> u64 {
        self.sheds.load(Ordering::Relaxed)
    }

    /// Number of places that are taken.
    pub fn taken(&self) -> usize {
        self.total.saturating_sub(self.free.available_permits())
    }
}

/// Counts one that waits, also if it stops waiting.
struct Waiting<'p>(&'p AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
