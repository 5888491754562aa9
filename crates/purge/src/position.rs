//! How far a node is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::At;

/// How far a node is with the log that it follows.
#[derive(Debug)]
pub struct Position {
    /// The last number that was applied. Written after what it stands for.
    applied: AtomicU64,
    /// The last number that there is known to be.
    head: AtomicU64,
    log: Mutex<Option<String>>,
    /// Written before anything of it is applied.
    needs: Mutex<Option<At>>,
    is_new: AtomicBool,
    /// The control process does not know this node any more.
    pub(crate) forgotten: Notify,
    /// Since when it has not been known to be up to date; nothing if it is.
    behind_since: Mutex<Option<Instant>>,
    /// It has been behind for too long.
    lags: AtomicBool,
    connected: AtomicBool,
    moved: Notify,
}

impl Position {
    /// A node that has not heard of a log yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            applied: AtomicU64::new(0),
            head: AtomicU64::new(0),
            log: Mutex::new(None),
            needs: Mutex::new(None),
            is_new: AtomicBool::new(true),
            forgotten: Notify::new(),
            behind_since: Mutex::new(Some(now)),
            lags: AtomicBool::new(true),
            connected: AtomicBool::new(false),
            moved: Notify::new(),
        }
    }

    /// The last number that was applied.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// How many orders there are known to be that were not applied.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.head.load(Ordering::Relaxed).saturating_sub(self.applied())
    }

    /// Whether the log is being followed.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Whether it has been out of touch, or behind, for longer than is allowed; or was in touch with no log yet.
    #[must_use]
    pub fn lags(&self) -> bool {
        self.lags.load(Ordering::Relaxed)
    }

    /// The place, once there was one.
    #[must_use]
    pub fn at(&self) -> Option<At> {
        let log = self.log.lock();
        log.clone().map(|log| At { log, seq: self.applied() })
    }

    /// What must have been applied by whoever is to tell this node anything new: the last number that is known, applied here
    /// or about to be.
    #[must_use]
    pub fn needs(&self) -> Option<At> {
        self.needs.lock().clone()
    }

    /// Whether it was never in touch with a log.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new.load(Ordering::Relaxed)
    }

    /// Waits until a place was reached, for `patience` at most; whether it was.
    pub async fn reaches(&self, needed: &At, patience: Duration) -> bool {
        let reached = async {
            loop {
                let moved = self.moved.notified();
                tokio::pin!(moved);
                moved.as_mut().enable();
                if self.at().is_some_and(|at| at.log == needed.log && at.seq >= needed.seq) {
                    return;
                }
                moved.await;
            }
        };
        tokio::time::timeout(patience, reached).await.is_ok()
    }

    /// It will be where a log is.
    pub(crate) fn expect(&self, at: &At) {
        *self.needs.lock() = Some(at.clone());
    }

    /// It is where a log is.
    pub(crate) fn start(&self, at: &At, now: Instant) {
        {
            // A place is never that of one log with the name of another.
            let mut log = self.log.lock();
            *log = Some(at.log.clone());
            self.head.store(at.seq, Ordering::Relaxed);
            self.applied.store(at.seq, Ordering::Release);
        }
        self.is_new.store(false, Ordering::Relaxed);
        self.moved.notify_waiters();
        self.look(now);
    }

    /// All up to a number was applied.
    pub(crate) fn advance(&self, seq: u64, now: Instant) {
        self.applied.store(seq, Ordering::Release);
        self.moved.notify_waiters();
        self.look(now);
    }

    /// The log has this many.
    pub(crate) fn hear(&self, head: u64, now: Instant) {
        self.connected.store(true, Ordering::Relaxed);
        self.head.fetch_max(head, Ordering::Relaxed);
        if let Some(needs) = &mut *self.needs.lock() {
            needs.seq = needs.seq.max(head);
        }
        self.look(now);
    }

    /// It is out of touch.
    pub(crate) fn lose(&self, now: Instant) {
        self.connected.store(false, Ordering::Relaxed);
        self.look(now);
    }

    fn look(&self, now: Instant) {
        let is_up_to_date = self.is_connected() && self.lag() == 0 && self.log.lock().is_some();
        let mut behind = self.behind_since.lock();
        if is_up_to_date {
            *behind = None;
            self.lags.store(false, Ordering::Relaxed);
        } else if behind.is_none() {
            *behind = Some(now);
        }
    }

    /// Looks whether it has been behind for longer than `most`.
    pub(crate) fn tick(&self, now: Instant, most: Duration) {
        let behind = *self.behind_since.lock();
        let lags = behind.is_some_and(|since| now.saturating_duration_since(since) > most);
        // A node that was never in touch lags from the first moment on.
        let never = self.log.lock().is_none();
        self.lags.store(lags || never, Ordering::Relaxed);
    }
}
