//! A stored response.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use nearside_semantics::Timestamp;
use nearside_semantics::fields::Fields;
use nearside_semantics::reuse::Freshness;
use nearside_semantics::vary::Vary;

use crate::body::Body;
use crate::groups::Membership;

/// What an entry costs beyond its key, head and body: entry, slot, body and their reference counts, room in the map of
/// fields, what the allocator adds; some 80 bytes of it are the table's. Measured as what a process grows by with a
/// million bodies of 1 KiB and eight fields each, all hit once (`cargo bench -p nearside-store`): 1,323.
pub const ENTRY_OVERHEAD_BYTES: u64 = 1350;

/// The head of a stored response.
#[derive(Debug)]
pub struct Head {
    /// The status of the response.
    pub status: StatusCode,
    /// The end-to-end fields, as the next hop sent them.
    pub fields: HeaderMap,
    /// The head as it goes to HTTP/1.1 clients, serialised once, without the fields that change from hit to hit.
    pub wire: Bytes,
}

/// A stored response: it never changes. A validation or a purge publishes a new one that shares the body.
#[derive(Debug)]
pub struct Entry {
    /// Status and fields.
    pub head: Arc<Head>,
    /// When it is fresh and stale, before any purge; see [`Entry::freshness`].
    pub declared: Freshness,
    /// When it came, or was last validated.
    pub response_time: Timestamp,
    /// The moment from which on nothing can be done with it.
    pub retain_until: Timestamp,
    /// What of a request it depends on.
    pub vary: Vary,
    /// That part of the request that it answered, as [`Vary::variant_key`] writes them.
    pub variant: Box<[u8]>,
    /// The groups it belongs to.
    pub groups: Membership,
    /// The body, shared with everything that reads it.
    pub body: Arc<Body>,
}

impl Entry {
    /// What it takes from the memory tier, in bytes.
    #[must_use]
    pub fn weight(&self) -> u64 {
        let own = self.variant.len() as u64 + self.groups.weight() + ENTRY_OVERHEAD_BYTES;
        self.body.len().unwrap_or(0) + head_weight(&self.head) + own
    }

    /// When it is fresh and stale, as far as it can still be used at `now`.
    #[must_use]
    pub fn freshness(&self, now: Timestamp) -> Option<Freshness> {
        if now < self.retain_until { self.groups.left_of(self.declared) } else { None }
    }

    /// Whether something can still be done with it at `now`.
    #[must_use]
    pub fn is_alive(&self, now: Timestamp) -> bool {
        now < self.retain_until && !self.groups.is_gone()
    }

    /// The same response, stale from a moment on.
    #[must_use]
    pub fn stale_from(&self, moment: Timestamp) -> Self {
        Self {
            head: Arc::clone(&self.head),
            declared: self.declared.stale_from(moment),
            response_time: self.response_time,
            retain_until: self.retain_until,
            vary: self.vary.clone(),
            variant: self.variant.clone(),
            groups: self.groups.clone(),
            body: Arc::clone(&self.body),
        }
    }

    /// Whether it answers a request with these fields.
    #[must_use]
    pub fn answers(&self, request: &impl Fields) -> bool {
        self.vary.matches(request, &self.variant)
    }
}

/// The bytes that a head takes, serialised and as fields.
#[must_use]
pub fn head_weight(head: &Head) -> u64 {
    head.wire.len() as u64 + fields_weight(&head.fields)
}

/// The bytes that fields take.
#[must_use]
pub fn fields_weight(fields: &HeaderMap) -> u64 {
    // Of each: name, value, and the 96 bytes that `http::HeaderMap` keeps for a bucket and its index.
    fields.iter().map(|(name, value)| (name.as_str().len() + value.len() + 96) as u64).sum()
}
