//! The time, from one place, so that tests can move it.
//!
//! There are two clocks. [`Clock::now`] never jumps and measures how long responses have been stored: RFC 9111 §4.2.3 asks
//! for "the elapsed time since the response was stored", and a wall clock that is set back two hours would turn a lifetime
//! of three seconds into two hours. [`Clock::wall`] is the wall clock, which `Date` and `Expires` are compared with.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nearside_semantics::Timestamp;

/// Tells the time that ages and lifetimes are counted by.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The clocks of the machine.
    #[default]
    System,
    /// Stands still until it is moved.
    Manual(Arc<Manual>),
}

/// A clock for tests: milliseconds since the Unix epoch.
#[derive(Debug)]
pub struct Manual {
    steady: AtomicU64,
    wall: AtomicU64,
}

impl Clock {
    /// A clock that stands at the present moment.
    #[must_use]
    pub fn manual() -> Self {
        let now = wall().as_millis();
        Self::Manual(Arc::new(Manual { steady: AtomicU64::new(now), wall: AtomicU64::new(now) }))
    }

    /// The present moment by a clock that never jumps. It starts as the wall clock does, and counts on whatever becomes of
    /// that.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => steady(),
            Self::Manual(manual) => Timestamp::from_millis(manual.steady.load(Ordering::Relaxed)),
        }
    }

    /// The present moment by the wall clock, which may be set back or forward at any time.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        match self {
            Self::System => wall(),
            Self::Manual(manual) => Timestamp::from_millis(manual.wall.load(Ordering::Relaxed)),
        }
    }

    /// The wall clock's reading at a moment that [`now`](Self::now) gave, for log lines: cheaper than [`wall`](Self::wall),
    /// and as exact as the last call of [`follow_wall`](Self::follow_wall).
    #[must_use]
    pub fn dated(&self, moment: Timestamp) -> Timestamp {
        let ahead = match self {
            Self::System => WALL_AHEAD_MILLIS.load(Ordering::Relaxed),
            Self::Manual(_) => ahead(self.wall(), self.now()),
        };
        Timestamp::from_millis(moment.as_millis().saturating_add_signed(ahead))
    }

    /// Notes how far the wall clock has moved against [`now`](Self::now).
    pub fn follow_wall(&self) {
        if let Self::System = self {
            WALL_AHEAD_MILLIS.store(ahead(wall(), steady()), Ordering::Relaxed);
        }
    }

    /// Moves a manual clock forward; the machine's cannot be moved.
    pub fn advance(&self, span: Duration) {
        if let Self::Manual(manual) = self {
            let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            manual.steady.fetch_add(millis, Ordering::Relaxed);
            manual.wall.fetch_add(millis, Ordering::Relaxed);
        }
    }

    /// Sets the wall clock of a manual clock back, as an operator or a time server does.
    pub fn set_wall_back(&self, span: Duration) {
        if let Self::Manual(manual) = self {
            manual.wall.fetch_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
}

/// Milliseconds by which the wall clock is ahead of the steady one.
static WALL_AHEAD_MILLIS: AtomicI64 = AtomicI64::new(0);

fn ahead(wall: Timestamp, steady: Timestamp) -> i64 {
    let millis = |moment: Timestamp| i64::try_from(moment.as_millis()).unwrap_or(i64::MAX);
    millis(wall).saturating_sub(millis(steady))
}

/// The machine's wall clock.
fn wall() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The moment at which the process first asked for the time, and what has passed since.
fn steady() -> Timestamp {
    static START: OnceLock<(Timestamp, Duration)> = OnceLock::new();
    let (start, running) = *START.get_or_init(|| (wall(), running()));
    start.after(self::running().saturating_sub(running))
}

/// A count of time that includes the time for which the machine was suspended: a laptop that wakes up after a night must
/// not take what it has stored for a few seconds old.
#[cfg(target_os = "linux")]
fn running() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

/// The same elsewhere, where the standard library's clock counts on or stands still during suspension as the system decides.
#[cfg(not(target_os = "linux"))]
fn running() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    instant().saturating_duration_since(*START.get_or_init(instant))
}

/// The running clock that durations are measured with; no test depends on it.
#[must_use]
pub fn instant() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    Instant::now()
}
