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
    decide(lookup(engine, site, key, request, now), &Looked { engine, site, key, request, now })
}

/// Circumstances of a request, each of which is looked at only where it matters.
trait Circumstances {
    /// Whether a stored response satisfies the request's own conditions.
    fn holds(&self, head: &Head) -> bool;
    /// Whether the client wants nothing but what is stored.
    fn only_if_cached(&self) -> bool;
    /// Whether nobody else can have the response, as the client says.
    fn wants_no_store(&self) -> bool;
    /// Whether credentials or a signature forbid to share or to alter the request.
    fn goes_alone(&self, ask: &Ask) -> bool;
    /// Whether it is the first request for a part far into something that is not stored.
    fn is_first_range(&self, ask: &Ask) -> bool;
    /// Whether responses for the key are known not to be stored.
    fn is_uncacheable(&self) -> bool;
    /// Number of requests for the key that may lead at a time.
    fn lanes(&self) -> u64;
}

/// Decides on a request for which this was found.
fn decide(found: Found, circumstances: &impl Circumstances) -> Way {
    let ask = match found {
        Found::Usable(entry) | Found::Refresh(entry) if !circumstances.holds(&entry.head) => {
            return Way::Alone(Ask {
                because: cache_status::Forward::Request,
                detail: Some(Reason::Precondition),
                ..Ask::nothing()
            });
        }
        Found::Usable(entry) => return Way::Serve(entry),
        Found::Refresh(entry) => return Way::Refresh(entry),
        Found::Ask(_) if circumstances.only_if_cached() => return Way::NotCached,
        Found::Ask(ask) => ask,
    };
    if circumstances.goes_alone(&ask) {
        return Way::Alone(Ask { detail: ask.detail.or(Some(Reason::Unchanged)), ..ask });
    }
    if ask.stored.is_none() && circumstances.is_first_range(&ask) {
        return Way::Alone(Ask { detail: ask.detail.or(Some(Reason::FirstRange)), ..ask });
    }
    let is_shared = ask.stored.is_some()
        || !circumstances.is_uncacheable() && circumstances.lanes() < LANES_MAX && !circumstances.wants_no_store();
    if is_shared { Way::Together(ask) } else { Way::Alone(ask) }
}

/// The circumstances of a request as the engine knows them.
struct Looked<'e> {
    engine: &'e Engine,
    site: SiteId,
    key: &'e CacheKey,
    request: &'e Request,
    now: Timestamp,
}

impl Circumstances for Looked<'_> {
    fn holds(&self, head: &Head) -> bool {
        holds(head, self.request, self.now)
    }

    fn only_if_cached(&self) -> bool {
        // RFC 9111 §5.2.1.7
        self.honours_requests() && RequestDirectives::of(&self.request.fields).only_if_cached
    }

    fn wants_no_store(&self) -> bool {
        // RFC 9111 §5.2.1.5
        self.honours_requests() && RequestDirectives::of(&self.request.fields).no_store
    }

    fn goes_alone(&self, ask: &Ask) -> bool {
        goes_alone(self.engine, self.site, self.key, self.request, ask.stored.as_deref(), self.now)
    }

    fn is_first_range(&self, ask: &Ask) -> bool {
        is_first_range(self.engine, self.key, ask, self.request, self.now)
    }

    fn is_uncacheable(&self) -> bool {
        self.engine.store.negative().uncacheable(&self.key.lookup, self.now).is_some()
    }

    fn lanes(&self) -> u64 {
        lanes(self.engine, self.key, self.now)
    }
}

impl Looked<'_> {
    /// Whether the site honours what clients ask.
    fn honours_requests(&self) -> bool {
        self.engine.rules(self.site).honours_requests
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
        && !engine.store.negative().had_partial_request(&key.lookup, PartialRequest::Range, now)
        && !engine.fills.runs(&key.lookup, &fill_key(key, ask, request, &Method::GET))
}

/// Whether a HEAD goes forward as HEAD: to validate what is stored, and the first one for what is not stored. A fill would cost
/// the origin a body that nobody gets. The next one shows that others want it too, and fills the cache.
pub(crate) fn goes_as_head(engine: &Engine, key: &CacheKey, ask: &Ask, now: Timestamp) -> bool {
    ask.stored.is_some() || !engine.store.negative().had_partial_request(&key.lookup, PartialRequest::Head, now)
}

/// How many may lead for a key at a time: one, or as many as were refused lately, one soon after the other. So clients that
/// are refused on purpose cost those who wait a few round trips, and the origin about as many requests as they send
/// themselves; and where everybody is refused, the number doubles with each round, and soon nobody waits for another.
pub(super) fn lanes(engine: &Engine, key: &CacheKey, now: Timestamp) -> u64 {
    lanes_after(engine.store.negative().refused(&key.lookup, now))
}

/// The same after so many refusals.
fn lanes_after(refusals: u32) -> u64 {
    u64::from(refusals).clamp(1, LANES_MAX)
}

/// Whether a response satisfies the request's `If-Match` and `If-Unmodified-Since`: where it does not, only the origin may
/// say so.
pub(super) fn holds(head: &Head, request: &Request, now: Timestamp) -> bool {
    !head.status.is_success() || preconditions_hold(&request.fields, &head.fields, now)
}

/// Key of the fill that brings what `ask` asks for by `method`.
pub(super) fn fill_key(key: &CacheKey, ask: &Ask, request: &Request, method: &Method) -> Vec<u8> {
    let mut fill_key = Vec::with_capacity(key.lookup.len() + 1);
    write_fill_key(&key.lookup, method == Method::HEAD, &ask.vary, &request.fields, &mut fill_key);
    fill_key
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use nearside_semantics::vary::Vary;

    use super::*;
    use crate::samples::{ARRIVAL, entry, fields, head, key, life, request};

    /// Circumstances of an ordinary request, with what differs; it notes what was looked at.
    #[derive(Default)]
    struct Case {
        fails: bool,
        only_if_cached: bool,
        no_store: bool,
        alone: bool,
        first_range: bool,
        uncacheable: bool,
        lanes: u64,
        looked: RefCell<Vec<&'static str>>,
    }

    impl Case {
        fn look<T>(&self, at: &'static str, value: T) -> T {
            self.looked.borrow_mut().push(at);
            value
        }
    }

    impl Circumstances for Case {
        fn holds(&self, _head: &Head) -> bool {
            self.look("holds", !self.fails)
        }
        fn only_if_cached(&self) -> bool {
            self.look("only-if-cached", self.only_if_cached)
        }
        fn wants_no_store(&self) -> bool {
            self.look("no-store", self.no_store)
        }
        fn goes_alone(&self, _ask: &Ask) -> bool {
            self.look("alone", self.alone)
        }
        fn is_first_range(&self, _ask: &Ask) -> bool {
            self.look("range", self.first_range)
        }
        fn is_uncacheable(&self) -> bool {
            self.look("uncacheable", self.uncacheable)
        }
        fn lanes(&self) -> u64 {
            self.look("lanes", self.lanes)
        }
    }

    fn stored() -> Arc<Entry> {
        entry(head(200, &[]), life(60, 0))
    }

    fn miss() -> Found {
        Found::Ask(Ask::nothing())
    }

    fn stale() -> Found {
        Found::Ask(Ask { stored: Some(stored()), ..Ask::nothing() })
    }

    /// The way in a word, and the reason that is told with it.
    fn told(found: Found, case: &Case) -> (&'static str, Option<Reason>) {
        match decide(found, case) {
            Way::Serve(_) => ("serve", None),
            Way::Refresh(_) => ("refresh", None),
            Way::NotCached => ("not cached", None),
            Way::Alone(ask) => ("alone", ask.detail),
            Way::Together(ask) => ("together", ask.detail),
        }
    }

    #[test]
    fn what_is_stored_is_served_unless_the_clients_own_condition_fails() {
        for (found, fails, expected) in [
            (Found::Usable(stored()), false, ("serve", None)),
            (Found::Refresh(stored()), false, ("refresh", None)),
            (Found::Usable(stored()), true, ("alone", Some(Reason::Precondition))),
            (Found::Refresh(stored()), true, ("alone", Some(Reason::Precondition))),
        ] {
            let case = Case { fails, only_if_cached: true, alone: true, ..Case::default() };
            assert_eq!(told(found, &case), expected);
            assert_eq!(*case.looked.borrow(), ["holds"], "nothing else matters");
        }
    }

    #[test]
    fn a_client_that_wants_only_what_is_stored_gets_nothing_else() {
        for found in [miss(), stale()] {
            let case = Case { only_if_cached: true, alone: true, ..Case::default() };
            assert_eq!(told(found, &case), ("not cached", None));
        }
    }

    #[test]
    fn a_miss_is_asked_for_by_one_for_all_unless_nobody_else_can_have_the_answer() {
        for (case, expected) in [
            (Case::default(), ("together", None)),
            (Case { uncacheable: true, ..Case::default() }, ("alone", None)),
            (Case { no_store: true, ..Case::default() }, ("alone", None)),
            (Case { lanes: LANES_MAX - 1, ..Case::default() }, ("together", None)),
            (Case { lanes: LANES_MAX, ..Case::default() }, ("alone", None)),
            (Case { alone: true, first_range: true, ..Case::default() }, ("alone", Some(Reason::Unchanged))),
            (Case { first_range: true, ..Case::default() }, ("alone", Some(Reason::FirstRange))),
        ] {
            assert_eq!(told(miss(), &case), expected);
        }
    }

    #[test]
    fn a_validation_is_shared_whatever_is_known_of_the_key() {
        let case = Case { uncacheable: true, no_store: true, first_range: true, lanes: LANES_MAX, ..Case::default() };
        assert_eq!(told(stale(), &case), ("together", None));
        assert_eq!(told(stale(), &Case { alone: true, ..case }), ("alone", Some(Reason::Unchanged)));
    }

    #[test]
    fn a_reason_that_is_known_already_is_not_replaced() {
        let known = || Found::Ask(Ask { detail: Some(Reason::Lagging), ..Ask::nothing() });
        for case in [Case { alone: true, ..Case::default() }, Case { first_range: true, ..Case::default() }] {
            assert_eq!(told(known(), &case), ("alone", Some(Reason::Lagging)));
        }
    }

    #[test]
    fn as_many_lead_for_a_key_as_were_refused_lately_within_bounds() {
        for (refusals, expected) in [(0, 1), (1, 1), (2, 2), (255, 255), (256, 256), (u32::MAX, LANES_MAX)] {
            assert_eq!(lanes_after(refusals), expected, "{refusals}");
        }
    }

    #[test]
    fn preconditions_are_asked_of_successes_only() {
        for (condition, number, expected) in [
            (&[][..], 200, true),
            (&[("if-match", "\"a\"")], 200, true),
            (&[("if-match", "\"b\"")], 200, false),
            (&[("if-match", "\"b\"")], 404, true),
            (&[("if-none-match", "\"a\"")], 200, true),
        ] {
            let request = request(Method::GET, condition);
            assert_eq!(
                holds(&head(number, &[("etag", "\"a\"")]), &request, ARRIVAL),
                expected,
                "{condition:?} {number}"
            );
        }
    }

    #[test]
    fn fills_are_told_apart_by_variant_and_by_whether_a_head_is_enough() {
        let vary = Vary::of(&fields(&[("vary", "accept-language")]), &[]);
        let fill_key = |language: &'static str, method: Method| {
            let ask = Ask { vary: vary.clone(), ..Ask::nothing() };
            fill_key(&key(b"k"), &ask, &request(Method::GET, &[("accept-language", language)]), &method)
        };
        assert_eq!(fill_key("de", Method::GET), fill_key("de", Method::GET));
        assert_ne!(fill_key("de", Method::GET), fill_key("fr", Method::GET));
        assert_ne!(fill_key("de", Method::GET), fill_key("de", Method::HEAD));
    }
}
