//! The way of a request: answered from the store, sent forward alone, or sent forward for all that want the same.

use std::sync::Arc;

use http::Method;
use nearside_config::SiteId;
use nearside_semantics::conditional::preconditions_hold;
use nearside_semantics::directives::RequestDirectives;
use nearside_semantics::range::begins_beyond;
use nearside_semantics::{Timestamp, cache_status};
use nearside_store::{Entry, Head, PartialRequest};
use nearside_telemetry::reason::Reason;

use super::key::{CacheKey, write_fill_key};
use super::lookup::{Ask, Found, lookup};
use super::unchanged::goes_alone;
use super::{Engine, Request};

/// So many requests for one key are under way at most while it refuses some.
const LANES_MAX: u64 = 256;

/// What is to be done about a request, as things stand.
pub(crate) enum Way {
    /// Answer with what is stored.
    Serve(Arc<Entry>),
    /// The same, and refresh it.
    Refresh(Arc<Entry>),
    /// Only what is stored was wanted.
    NotCached,
    /// Ask the next hop for this request only.
    Alone(Ask),
    /// Ask it for everybody who wants the same.
    Together(Ask),
}

/// Decides on a request that is looked up under `key` at `now`.
pub(crate) fn way(engine: &Engine, site: SiteId, key: &CacheKey, request: &Request, now: Timestamp) -> Way {
    match lookup(engine, site, key, request, now) {
        Found::Usable(entry) | Found::Refresh(entry) if !holds(&entry.head, request, now) => Way::Alone(Ask {
            because: cache_status::Forward::Request,
            detail: Some(Reason::Precondition),
            ..Ask::nothing()
        }),
        Found::Usable(entry) => Way::Serve(entry),
        Found::Refresh(entry) => Way::Refresh(entry),
        Found::Ask(_) if only_if_cached(engine, site, request) => Way::NotCached,
        Found::Ask(ask) => {
            if goes_alone(engine, site, key, request, ask.stored.as_deref(), now) {
                return Way::Alone(Ask { detail: ask.detail.or(Some(Reason::Unchanged)), ..ask });
            }
            if ask.stored.is_none() && is_first_range(engine, key, &ask, request, now) {
                return Way::Alone(Ask { detail: ask.detail.or(Some(Reason::FirstRange)), ..ask });
            }
            let is_shared = ask.stored.is_some()
                || engine.store.uncacheable(&key.bytes, now).is_none()
                    && lanes(engine, key, now) < LANES_MAX
                    && !wants_no_store(engine, site, request);
            if is_shared { Way::Together(ask) } else { Way::Alone(ask) }
        }
    }
}

/// Start of a range from which on its first request goes forward as it is.
const FAR_BYTES: u64 = 1 << 20;

/// Whether a request is the first one for a part far into something that is not stored. It goes forward as it is: a fill would
/// fetch everything before that part, which could cost the origin any multiple of it. The next one shows that others want
/// it too. What is fetched already is followed.
fn is_first_range(engine: &Engine, key: &CacheKey, ask: &Ask, request: &Request, now: Timestamp) -> bool {
    request.block.is_none()
        && begins_beyond(&request.fields, FAR_BYTES)
        && !engine.store.had_partial_request(&key.bytes, PartialRequest::Range, now)
        && !engine.fills.runs(&key.bytes, &fill_key(key, ask, request, &Method::GET))
}

/// Whether a HEAD goes forward as HEAD: to validate what is stored, and the first one for what is not stored. A fill would cost
/// the origin a body that nobody gets. The next one shows that others want it too, and fills the cache.
pub(crate) fn goes_as_head(engine: &Engine, key: &CacheKey, ask: &Ask, now: Timestamp) -> bool {
    ask.stored.is_some() || !engine.store.had_partial_request(&key.bytes, PartialRequest::Head, now)
}

/// How many may lead for a key at a time: one, or as many as were refused lately, one soon after the other. So clients that
/// are refused on purpose cost those who wait a few round trips, and the origin about as many requests as they send
/// themselves; and where everybody is refused, the number doubles with each round, and soon nobody waits for another.
pub(super) fn lanes(engine: &Engine, key: &CacheKey, now: Timestamp) -> u64 {
    u64::from(engine.store.refused(&key.bytes, now)).clamp(1, LANES_MAX)
}

/// Whether a response satisfies the request's `If-Match` and `If-Unmodified-Since`: where it does not, only the origin may
/// say so.
pub(super) fn holds(head: &Head, request: &Request, now: Timestamp) -> bool {
    !head.status.is_success() || preconditions_hold(&request.fields, &head.fields, now)
}

/// Key of the fill that brings what `ask` asks for by `method`.
pub(super) fn fill_key(key: &CacheKey, ask: &Ask, request: &Request, method: &Method) -> Vec<u8> {
    let mut fill_key = Vec::with_capacity(key.bytes.len() + 1);
    write_fill_key(&key.bytes, method == Method::HEAD, &ask.vary, &request.fields, &mut fill_key);
    fill_key
}

/// RFC 9111 §5.2.1.5, where the site honours what clients ask: nobody else can have the answer.
fn wants_no_store(engine: &Engine, site: SiteId, request: &Request) -> bool {
    engine.rules(site).honours_requests && RequestDirectives::of(&request.fields).no_store
}

/// RFC 9111 §5.2.1.7, where the site honours what clients ask.
fn only_if_cached(engine: &Engine, site: SiteId, request: &Request) -> bool {
    engine.rules(site).honours_requests && RequestDirectives::of(&request.fields).only_if_cached
}
