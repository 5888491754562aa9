//! The answer of a next hop whose head has arrived: what clients are told of it, and the entry that it becomes.

use std::sync::Arc;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, StatusCode};
use nearside_config::SiteId;
use nearside_http1::framing::{bodiless, content_length};
use nearside_http1::write;
use nearside_semantics::lifetime::lifetime;
use nearside_semantics::reuse::Freshness;
use nearside_semantics::storable::NotStorable;
use nearside_semantics::vary::Vary;
use nearside_semantics::{Timestamp, age};
use nearside_store::{Body, BodyReader, Entry, Head, Membership};
use nearside_telemetry::outcome::{Outcome, Verdict};
use nearside_telemetry::reason::Reason;
use nearside_telemetry::server_timing::Wait;
use nearside_upstream::Asked;
use parking_lot::Mutex;

use crate::request::Engine;
use crate::request::key::{CacheKey, UrlKey};

/// What was worked out of an answer before its value is put together.
pub(super) struct Parts {
    pub(super) head: Arc<Head>,
    /// The length of the body, as the head states it.
    pub(super) length: Option<u64>,
    pub(super) freshness: Freshness,
    pub(super) body: Arc<Body>,
    pub(super) stored: Result<(), Unstored>,
    pub(super) groups: Membership,
    pub(super) by_head: bool,
    pub(super) only_for: Option<UrlKey>,
    pub(super) is_refusal: bool,
    pub(super) is_personal: bool,
}

/// Why an answer is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unstored {
    /// HTTP says so.
    Law(NotStorable),
    /// Larger than the site's limit.
    TooLarge,
    /// Too much is on its way already.
    NoRoom,
    /// It came through the pass lane.
    Passed,
    /// The head only was asked for.
    HeadOnly,
    /// It is an error, and a stored response may be served in its place (RFC 5861 §4).
    KeepsStale,
}

impl Unstored {
    pub(crate) fn reason(self) -> Option<Reason> {
        match self {
            Self::Law(reason) => Some(reason.into()),
            Self::TooLarge => Some(Reason::TooLarge),
            Self::NoRoom => Some(Reason::NoRoom),
            Self::HeadOnly => Some(Reason::HeadOnly),
            Self::KeepsStale => Some(Reason::KeepsStale),
            Self::Passed => None,
        }
    }
}

/// A response whose head has arrived.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) head: Arc<Head>,
    pub(crate) body: Arc<Body>,
    pub(crate) length: Option<u64>,
    pub(crate) freshness: Freshness,
    pub(crate) vary: Vary,
    pub(crate) variant: Box<[u8]>,
    pub(crate) stored: Result<(), Unstored>,
    pub(crate) hop: Arc<str>,
    pub(crate) wait: Arc<Wait>,
    pub(crate) groups: Membership,
    /// It is for this exact key only: others who wait were led here by a rule that no longer holds.
    only_for: Option<UrlKey>,
    by_head: bool,
    /// It is an error that may be due to the leader's request.
    pub(crate) is_refusal: bool,
    /// It may be the page of the leader's user.
    pub(crate) is_personal: bool,
    age_stated: bool,
    response_time: Timestamp,
    /// The leader's place at the start, taken before a byte can be dropped.
    first: Mutex<Option<BodyReader>>,
}

impl Fetched {
    /// The response that `asked` has brought, with its body still to come.
    pub(crate) fn new(
        engine: &Engine,
        site: SiteId,
        asked: &mut Asked,
        body: Arc<Body>,
        stored: Result<(), Unstored>,
        request: &HeaderMap,
    ) -> Self {
        let mut fields = asked.take_end_to_end();
        let rules = engine.rules(site);
        let control = rules.control(&fields);
        let policy = rules.lifetime(request);
        let life = lifetime(asked.head.status, &fields, &control, asked.exchange.response_date, policy);
        let freshness = Freshness::of(&fields, &control.directives, life, asked.exchange, rules.stale);
        let length = length_of(&fields);
        let groups = Membership::default();
        engine.strip_for_clients(site, &mut fields);
        let head = Arc::new(head(&engine.via, asked.head.status, fields, length));
        let parts = Parts {
            head,
            length,
            freshness,
            body,
            stored,
            groups,
            by_head: false,
            only_for: None,
            is_refusal: false,
            is_personal: false,
        };
        Self::of(engine, site, asked, parts, request)
    }

    /// The same, of which more is known already.
    pub(super) fn of(engine: &Engine, site: SiteId, asked: &Asked, parts: Parts, request: &HeaderMap) -> Self {
        let Parts { head, length, freshness, body, stored, groups, by_head, only_for, is_refusal, is_personal } = parts;
        let vary = engine.rules(site).vary(&head.fields);
        let mut variant = Vec::new();
        vary.variant_key(request, &mut variant);
        let first = Mutex::new(body.reader(0));
        Self {
            age_stated: age::stated(&head.fields).is_some(),
            head,
            body,
            length,
            freshness,
            vary,
            variant: variant.into(),
            stored,
            hop: Arc::clone(&asked.hop.name),
            wait: asked.wait(),
            groups,
            by_head,
            only_for,
            is_refusal,
            is_personal,
            response_time: asked.exchange.response_time,
            first,
        }
    }

    /// The leader's reader; once.
    pub(crate) fn take_first(&self) -> Option<BodyReader> {
        self.first.lock().take()
    }

    /// Whether it is for a request with these fields.
    pub(crate) fn answers(&self, request: &HeaderMap, key: &CacheKey) -> bool {
        self.vary.matches(request, &self.variant) && self.only_for.as_ref().is_none_or(|exact| *exact == key.url)
    }

    /// Whether it is the head alone, of something that others may have.
    pub(crate) fn is_shared_head(&self) -> bool {
        self.stored == Err(Unstored::HeadOnly)
    }

    /// Whether a HEAD was asked, and the next hop does not know that method.
    pub(crate) fn refuses_head(&self) -> bool {
        self.by_head && refuses_head(self.head.status)
    }

    /// What the cache did for the one who led.
    pub(crate) fn verdict(&self, was_stored: bool) -> Verdict {
        match self.stored {
            Err(Unstored::Passed) => Verdict::Bypass,
            Err(_) => Verdict::Uncacheable,
            Ok(()) if was_stored => Verdict::Expired,
            Ok(()) => Verdict::Miss,
        }
    }

    /// The outcome with what this response adds.
    pub(crate) fn complete(&self, mut outcome: Outcome, now: Timestamp) -> Outcome {
        match self.stored {
            Ok(()) => {
                outcome.stored = true;
                outcome.ttl = Some(self.freshness.ttl(now));
            }
            Err(unstored) => outcome.reason = unstored.reason(),
        }
        outcome
    }

    /// The `Age` to show: what the next hop stated, counted on; and for those who join late, what has passed.
    pub(crate) fn age_to_show(&self, now: Timestamp) -> Option<u64> {
        let waited = now.since(self.response_time).as_secs();
        (self.age_stated || waited > 0).then(|| self.freshness.age(now).as_secs())
    }
}

pub(super) fn length_of(fields: &HeaderMap) -> Option<u64> {
    content_length(fields).ok().flatten()
}

/// A head ready to be sent, its length stated if it is known. `via` is this node in the `Via` field.
pub(super) fn head(via: &str, status: StatusCode, mut fields: HeaderMap, length: Option<u64>) -> Head {
    // RFC 9110 §8.6: not in a 1xx or 204.
    let length = length.filter(|_| status != StatusCode::NO_CONTENT && !status.is_informational());
    match length {
        Some(length) => fields.insert(CONTENT_LENGTH, HeaderValue::from(length)),
        None => fields.remove(CONTENT_LENGTH),
    };
    let wire = write::prepared(status, &mut fields, length, via);
    Head { status, fields, wire }
}

impl Fetched {
    /// The entry that it becomes once its body is whole.
    pub(super) fn entry(&self, via: &str, retain_until: Timestamp) -> Entry {
        let length = self.body.len();
        // A response to which a length belongs gets it now, also when it came in chunks.
        let head = if bodiless(self.head.status) || self.length == length {
            Arc::clone(&self.head)
        } else {
            Arc::new(head(via, self.head.status, self.head.fields.clone(), length))
        };
        Entry {
            head,
            declared: self.freshness,
            response_time: self.response_time,
            retain_until,
            vary: self.vary.clone(),
            variant: self.variant.clone(),
            groups: self.groups.clone(),
            body: Arc::clone(&self.body),
        }
    }
}

/// Whether a next hop that answers so does not know HEAD.
pub(crate) fn refuses_head(status: StatusCode) -> bool {
    [StatusCode::METHOD_NOT_ALLOWED, StatusCode::NOT_IMPLEMENTED].contains(&status)
}

#[cfg(test)]
pub(crate) mod tests;
