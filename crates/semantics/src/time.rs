//! Moments and spans as HTTP caching needs them.
//!
//! RFC 9111 §1.2.2 (delta-seconds). All arithmetic saturates: the numbers come from strangers.

use std::time::Duration;

/// A moment: milliseconds since the Unix epoch.
///
/// HTTP dates have a precision of one second, ages are exact to the second; keeping milliseconds avoids rounding up
/// twice on the way from one to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The end of time: later than any other moment.
    pub const MAX: Self = Self(u64::MAX);

    /// A moment from milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// A moment from whole seconds since the Unix epoch.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down as HTTP dates are.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// How much later `self` is than `earlier`; zero if it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The moment `span` later, or the end of time.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// The moment `span` earlier, or the epoch.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(millis))
    }
}

/// A count of seconds as it stands on the wire, at most 2^31 (RFC 9111 §1.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DeltaSeconds(u32);

impl DeltaSeconds {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// "the value 2147483648 (2^31) or the greatest positive integer it can conveniently represent"
    /// (RFC 9111 §1.2.2).
    pub const MAX: Self = Self(1 << 31);

    /// A span of `secs` seconds, saturating at [`Self::MAX`].
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        if secs > Self::MAX.0 as u64 {
            return Self::MAX;
        }
        #[expect(clippy::cast_possible_truncation, reason = "bounded by MAX one line above")]
        Self(secs as u32)
    }

    /// `1*DIGIT`, leading zeros allowed, saturating; `None` for anything else.
    #[must_use]
    pub fn parse(digits: &[u8]) -> Option<Self> {
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let secs = digits.iter().fold(0_u64, |sum, d| sum.saturating_mul(10).saturating_add(u64::from(d - b'0')));
        Some(Self::from_secs(secs))
    }

    /// The number of seconds.
    #[must_use]
    pub const fn as_secs(self) -> u32 {
        self.0
    }

    /// The same span as a [`Duration`].
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        Duration::from_secs(self.0 as u64)
    }
}
