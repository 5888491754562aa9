//! The bytes that a node may hold, and who holds them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A fixed number of bytes that charges are taken from and given back to.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    used: AtomicU64,
    /// Of those, the bytes that eviction cannot free at the moment.
    pinned: AtomicU64,
}

impl Budget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0), pinned: AtomicU64::new(0) })
    }

    /// The bytes that are taken now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The bytes that are pinned: of bodies that are fetched or read.
    #[must_use]
    pub fn pinned(&self) -> u64 {
        self.pinned.load(Ordering::Relaxed)
    }

    /// The bytes that may be taken at most.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The bytes that are not taken.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used())
    }

    /// Takes `bytes`, or nothing if they would exceed the limit.
    #[must_use]
    pub fn take(self: &Arc<Self>, bytes: u64) -> Option<Charge> {
        self.add(bytes).then(|| Charge { budget: Arc::clone(self), bytes, is_pinned: AtomicBool::new(false) })
    }

    fn add(&self, bytes: u64) -> bool {
        // Relaxed: the number guards nothing but itself.
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= self.limit)
            })
            .is_ok()
    }
}

/// Bytes taken from a [`Budget`]; they go back when it is dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: u64,
    is_pinned: AtomicBool,
}

impl Charge {
    /// Takes `bytes` more; false, and nothing changes, if they would exceed the limit.
    #[must_use]
    pub fn grow(&mut self, bytes: u64) -> bool {
        let grown = self.budget.add(bytes);
        if grown {
            self.bytes += bytes;
            if *self.is_pinned.get_mut() {
                self.budget.pinned.fetch_add(bytes, Ordering::Relaxed);
            }
        }
        grown
    }

    /// Counts its bytes as pinned from now on.
    pub fn pin(&self) {
        if !self.is_pinned.swap(true, Ordering::Relaxed) {
            self.budget.pinned.fetch_add(self.bytes, Ordering::Relaxed);
        }
    }

    /// Counts its bytes as pinned no more.
    pub fn unpin(&self) {
        if self.is_pinned.swap(false, Ordering::Relaxed) {
            self.budget.pinned.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }

    /// Gives back what it holds beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        let beyond = self.bytes.saturating_sub(bytes);
        self.bytes -= beyond;
        if *self.is_pinned.get_mut() {
            self.budget.pinned.fetch_sub(beyond, Ordering::Relaxed);
        }
        self.budget.used.fetch_sub(beyond, Ordering::Relaxed);
    }

    /// A charge of up to `bytes` of those that it holds, which it holds no longer. It is not pinned.
    #[must_use]
    pub fn split_off(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        if *self.is_pinned.get_mut() {
            self.budget.pinned.fetch_sub(bytes, Ordering::Relaxed);
        }
        Self { budget: Arc::clone(&self.budget), bytes, is_pinned: AtomicBool::new(false) }
    }

    /// The bytes that it holds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.unpin();
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
