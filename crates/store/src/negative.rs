//! The negative cache: keys whose responses are not stored or not shared, and requests for parts of what is not stored.

use std::time::Duration;

use nearside_semantics::Timestamp;

use crate::table::{self, Op, SMALL_TABLE_SHARDS, Table, Value};

/// Why responses for a key are not shared, or not by all who wait.
#[derive(Debug, Clone, Copy)]
enum Unshared {
    /// They may not be stored.
    Uncacheable(&'static str),
    /// So many requests were answered with an error that may be theirs alone.
    Refused(u32),
}

impl Value for Unshared {}

/// A part of a response that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartialRequest {
    /// The head only.
    Head,
    /// A range of the body.
    Range,
}

/// The parts of something that were requested while it was not stored.
#[derive(Debug, Clone, Copy, Default)]
struct PartialRequests {
    head: bool,
    range: bool,
}

impl PartialRequests {
    fn with(mut self, part: PartialRequest) -> Self {
        match part {
            PartialRequest::Head => self.head = true,
            PartialRequest::Range => self.range = true,
        }
        self
    }

    fn has(self, part: PartialRequest) -> bool {
        match part {
            PartialRequest::Head => self.head,
            PartialRequest::Range => self.range,
        }
    }
}

impl Value for PartialRequests {}

/// How long it is remembered that the answers for a key may not be stored: long enough that a busy key does not
/// queue its clients behind one another again and again, short enough that a corrected origin is noticed.
const UNCACHEABLE_FOR: Duration = Duration::from_secs(120);
/// How long refused requests are remembered after the last of them: a page that refuses all who ask for it has several
/// within one round trip, and what one client brings about does not last.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// How long a key is not refreshed again after a refresh in vain: an origin that is down, or says what is stale already,
/// is asked once a second for it.
const REFRESHED_FOR: Duration = Duration::from_secs(1);

/// What responses to requests with `Authorization` said of others (RFC 9111 §3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// They may be given to others.
    Shared,
    /// They belong to the client that sent the credentials.
    Alone,
}

impl Value for Sharing {}

impl Value for () {}

/// Capacity of each table of the negative cache, in bytes of keys.
const TABLE_BYTES: u64 = 4 << 20;

/// Facts about keys, each remembered for a while.
#[derive(Debug)]
pub struct NegativeCache {
    unshared: Table<Unshared>,
    sharing: Table<Sharing>,
    /// Keys that were refreshed in vain a moment ago.
    refreshed: Table<()>,
    /// Keys of which a part was requested lately, while nothing was stored.
    partial_requests: Table<PartialRequests>,
}

impl Default for NegativeCache {
    fn default() -> Self {
        Self {
            unshared: Table::new(TABLE_BYTES, SMALL_TABLE_SHARDS),
            sharing: Table::new(TABLE_BYTES, SMALL_TABLE_SHARDS),
            refreshed: Table::new(TABLE_BYTES, SMALL_TABLE_SHARDS),
            partial_requests: Table::new(TABLE_BYTES, SMALL_TABLE_SHARDS),
        }
    }
}

impl NegativeCache {
    /// Forgets that responses for a key are not stored or not shared, as one was stored.
    pub(crate) fn forget(&self, key: &[u8], now: Timestamp) {
        self.unshared.remove(key, now);
    }

    /// Remembers for a while that the answers for a key may not be stored, and why.
    pub fn remember_uncacheable(&self, key: &[u8], why: &'static str, now: Timestamp) {
        remember(&self.unshared, key, Unshared::Uncacheable(why), now, UNCACHEABLE_FOR);
    }

    /// Counts a request for this key that was answered with an error which may be its own.
    pub fn remember_refused(&self, key: &[u8], now: Timestamp) {
        let weight = key.len() as u64 + table::OVERHEAD_BYTES;
        self.unshared.compute(key, now, |old| {
            let count = match old {
                Some(Unshared::Uncacheable(_)) => return Op::Keep,
                Some(Unshared::Refused(count)) => count.saturating_add(1),
                None => 1,
            };
            Op::Put { value: Unshared::Refused(count), weight, until: now.after(REFUSED_FOR) }
        });
    }

    /// How many requests for this key were refused lately, one soon after the other, since anything was stored.
    #[must_use]
    pub fn refused(&self, key: &[u8], now: Timestamp) -> u32 {
        match self.unshared.get(key, now) {
            Some(Unshared::Refused(count)) => count,
            Some(Unshared::Uncacheable(_)) | None => 0,
        }
    }

    /// Remembers for a while what a response to a request with `Authorization` for this key said of others.
    pub fn remember_sharing(&self, key: &[u8], sharing: Sharing, now: Timestamp) {
        remember(&self.sharing, key, sharing, now, UNCACHEABLE_FOR);
    }

    /// What is remembered of that.
    #[must_use]
    pub fn sharing(&self, key: &[u8], now: Timestamp) -> Option<Sharing> {
        self.sharing.get(key, now)
    }

    /// Remembers for a moment that a refresh of a key has brought nothing fresh.
    pub fn remember_refreshed(&self, key: &[u8], now: Timestamp) {
        remember(&self.refreshed, key, (), now, REFRESHED_FOR);
    }

    /// Whether a key was refreshed in vain a moment ago.
    #[must_use]
    pub fn was_refreshed(&self, key: &[u8], now: Timestamp) -> bool {
        self.refreshed.get(key, now).is_some()
    }

    /// Remembers for a while that a part of something was requested that is not stored.
    pub fn remember_partial_request(&self, key: &[u8], part: PartialRequest, now: Timestamp) {
        let weight = key.len() as u64 + table::OVERHEAD_BYTES;
        self.partial_requests.compute(key, now, |old| {
            let value = old.copied().unwrap_or_default().with(part);
            Op::Put { value, weight, until: now.after(UNCACHEABLE_FOR) }
        });
    }

    /// Whether this part was requested lately.
    #[must_use]
    pub fn had_partial_request(&self, key: &[u8], part: PartialRequest, now: Timestamp) -> bool {
        self.partial_requests.get(key, now).is_some_and(|parts| parts.has(part))
    }

    /// Why the last answer for this key could not be stored, if that is remembered.
    #[must_use]
    pub fn uncacheable(&self, key: &[u8], now: Timestamp) -> Option<&'static str> {
        match self.unshared.get(key, now) {
            Some(Unshared::Uncacheable(why)) => Some(why),
            Some(Unshared::Refused(_)) | None => None,
        }
    }
}

fn remember<T: Value>(table: &Table<T>, key: &[u8], value: T, now: Timestamp, span: Duration) {
    let weight = key.len() as u64 + table::OVERHEAD_BYTES;
    table.compute(key, now, |_| Op::Put { value, weight, until: now.after(span) });
}
