//! What is stored for a request, and whether it may be used.

use std::sync::Arc;

use nearside_config::SiteId;
use nearside_semantics::Timestamp;
use nearside_semantics::cache_status::Forward;
use nearside_semantics::directives::RequestDirectives;
use nearside_semantics::reuse::{Freshness, Reuse, Stale};
use nearside_semantics::vary::Vary;
use nearside_store::Entry;
use nearside_telemetry::reason::Reason;
use nearside_upstream::fields::REFRESH;

use super::key::CacheKey;
use super::{Engine, Request};

/// What the store has for a request.
pub(crate) enum Found {
    /// Answer with this.
    Usable(Arc<Entry>),
    /// Answer with this and refresh it.
    Refresh(Arc<Entry>),
    /// Ask the next hop.
    Ask(Ask),
}

/// A request that must go forward.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) because: Forward,
    /// What is stored, to be validated.
    pub(crate) stored: Option<Arc<Entry>>,
    /// It may be served all the same if the next hop fails.
    pub(crate) on_error: bool,
    /// Why, where `because` does not say it.
    pub(crate) detail: Option<Reason>,
    /// What responses for this key are known to depend on.
    pub(crate) vary: Vary,
}

impl Ask {
    /// Whatever is stored, it is not looked at.
    pub(crate) fn nothing() -> Self {
        Self { because: Forward::VaryMiss, stored: None, on_error: false, detail: None, vary: Vary::None }
    }
}

/// Looks a request up at `now`: under the rule about queries that is known for its path, then under its own URL.
pub(crate) fn lookup(engine: &Engine, site: SiteId, key: &CacheKey, request: &Request, now: Timestamp) -> Found {
    let found = under(engine, site, &key.lookup, None, request, now);
    let Some(rule) = key.rule.as_ref().filter(|_| !matches!(found, Found::Usable(_))) else { return found };
    better(found, under(engine, site, &key.url, Some(rule.since), request, now))
}

/// The better of what is found under a rule and what is found under the request's own URL: something fresh is better than
/// something stale; something stale better than nothing.
fn better(found: Found, own: Found) -> Found {
    match (&found, &own) {
        (_, Found::Usable(_)) => own,
        (Found::Ask(Ask { stored: None, .. }), Found::Refresh(_) | Found::Ask(Ask { stored: Some(_), .. })) => own,
        _ => found,
    }
}

/// What may be done with something of this freshness, as far as the site heeds what clients ask.
pub(super) fn reuse(engine: &Engine, site: SiteId, freshness: Freshness, request: &Request, now: Timestamp) -> Reuse {
    let directives = engine.rules(site).honours_requests.then(|| RequestDirectives::of(&request.fields));
    freshness.reuse(now, directives.as_ref())
}

/// Whether a cache of ours asks, for itself.
pub(super) fn refreshes(engine: &Engine, request: &Request) -> bool {
    engine.tier.serves_caches() && request.fields.contains_key(REFRESH)
}

/// What is stored under a key, and came not before `since`.
fn under(
    engine: &Engine,
    site: SiteId,
    key: &[u8],
    since: Option<Timestamp>,
    request: &Request,
    now: Timestamp,
) -> Found {
    let Some(slot) = engine.store.lookup(key, now) else {
        return Found::Ask(Ask {
            because: Forward::UriMiss,
            stored: None,
            on_error: false,
            detail: None,
            vary: Vary::None,
        });
    };
    let vary = slot.newest().map_or(Vary::None, |entry| entry.vary.clone());
    let selected = slot.select(&request.fields);
    let known = selected.filter(|entry| since.is_none_or(|since| entry.response_time >= since));
    let Some((entry, freshness)) = known.and_then(|entry| Some((Arc::clone(entry), entry.freshness(now)?))) else {
        let because = if selected.is_none() { Forward::VaryMiss } else { Forward::UriMiss };
        return Found::Ask(Ask { because, stored: None, on_error: false, detail: None, vary });
    };
    let reuse = reuse(engine, site, freshness, request, now);
    let needs_newer = || refreshes(engine, request) && !engine.store.negative().was_refreshed(key, now);
    decide(entry, vary, reuse, || engine.lags(site), needs_newer)
}

/// What is to be done with a stored response that may be used so. `lags` tells whether it may have been purged, `needs_newer`
/// whether a cache of ours asks, which has served something stale itself.
fn decide(
    entry: Arc<Entry>,
    vary: Vary,
    reuse: Reuse,
    lags: impl FnOnce() -> bool,
    needs_newer: impl FnOnce() -> bool,
) -> Found {
    let ask =
        |entry, because, detail, on_error| Found::Ask(Ask { because, stored: Some(entry), on_error, detail, vary });
    if !matches!(reuse, Reuse::Validate { .. }) && lags() {
        // What was purged lately is not known: the next hop has to say that it is still right.
        return ask(entry, Forward::Stale, Some(Reason::Lagging), true);
    }
    match reuse {
        Reuse::Validate { because, on_error } => {
            let (because, detail) = match because {
                Stale::Request => (Forward::Request, None),
                Stale::NoCache => (Forward::Stale, Some(Reason::NoCache)),
                Stale::Expired => (Forward::Stale, None),
            };
            ask(entry, because, detail, on_error)
        }
        Reuse::Fresh | Reuse::StaleAccepted => Found::Usable(entry),
        // It needs something newer, if that can be had.
        Reuse::WhileRevalidate if needs_newer() => ask(entry, Forward::Stale, None, true),
        Reuse::WhileRevalidate => Found::Refresh(entry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{entry, head, life};

    fn stored() -> Arc<Entry> {
        entry(head(200, &[]), life(60, 0))
    }

    fn told(found: &Found) -> (&'static str, Option<Forward>, Option<Reason>, bool) {
        match found {
            Found::Usable(_) => ("usable", None, None, false),
            Found::Refresh(_) => ("refresh", None, None, false),
            Found::Ask(ask) if ask.stored.is_none() => ("miss", Some(ask.because), ask.detail, ask.on_error),
            Found::Ask(ask) => ("stale", Some(ask.because), ask.detail, ask.on_error),
        }
    }

    fn decided(reuse: Reuse, lags: bool, needs_newer: bool) -> (&'static str, Option<Forward>, Option<Reason>, bool) {
        told(&decide(stored(), Vary::None, reuse, || lags, || needs_newer))
    }

    #[test]
    fn a_stored_response_is_used_as_far_as_its_life_allows() {
        let validate = |because, on_error| Reuse::Validate { because, on_error };
        let stale = |detail, on_error| ("stale", Some(Forward::Stale), detail, on_error);
        for (reuse, expected) in [
            (Reuse::Fresh, ("usable", None, None, false)),
            (Reuse::StaleAccepted, ("usable", None, None, false)),
            (Reuse::WhileRevalidate, ("refresh", None, None, false)),
            (validate(Stale::Expired, false), stale(None, false)),
            (validate(Stale::Expired, true), stale(None, true)),
            (validate(Stale::NoCache, false), stale(Some(Reason::NoCache), false)),
            (validate(Stale::Request, true), ("stale", Some(Forward::Request), None, true)),
        ] {
            assert_eq!(decided(reuse, false, false), expected, "{reuse:?}");
        }
    }

    #[test]
    fn a_node_that_does_not_know_what_was_purged_validates_before_it_serves() {
        let lagging = ("stale", Some(Forward::Stale), Some(Reason::Lagging), true);
        for reuse in [Reuse::Fresh, Reuse::StaleAccepted, Reuse::WhileRevalidate] {
            assert_eq!(decided(reuse, true, true), lagging, "{reuse:?}");
        }
        let forbids_stale = Reuse::Validate { because: Stale::NoCache, on_error: false };
        assert_eq!(decided(forbids_stale, true, true), decided(forbids_stale, false, false), "it validates anyway");
    }

    #[test]
    fn a_cache_that_has_served_something_stale_itself_gets_no_other_stale_response() {
        assert_eq!(decided(Reuse::WhileRevalidate, false, true), ("stale", Some(Forward::Stale), None, true));
        assert_eq!(decided(Reuse::Fresh, false, true).0, "usable", "what is fresh is new enough");
    }

    #[test]
    fn of_two_keys_the_fresher_answers_and_the_one_of_the_rule_where_they_are_alike() {
        let stale = || Found::Ask(Ask { stored: Some(stored()), ..Ask::nothing() });
        let refresh = || Found::Refresh(stored());
        let usable = || Found::Usable(stored());
        let miss = || Found::Ask(Ask::nothing());
        for (under_rule, own, is_own) in [
            (miss(), usable(), true),
            (stale(), usable(), true),
            (refresh(), usable(), true),
            (miss(), refresh(), true),
            (miss(), stale(), true),
            (miss(), miss(), false),
            (stale(), refresh(), false),
            (stale(), stale(), false),
            (stale(), miss(), false),
            (refresh(), stale(), false),
        ] {
            let (of_rule, of_url) = (told(&under_rule), told(&own));
            let entry = |found: &Found| match found {
                Found::Usable(entry) | Found::Refresh(entry) => Some(Arc::clone(entry)),
                Found::Ask(ask) => ask.stored.clone(),
            };
            let expected = if is_own { entry(&own) } else { entry(&under_rule) };
            let found = entry(&better(under_rule, own));
            assert_eq!(found.map(|e| Arc::as_ptr(&e)), expected.map(|e| Arc::as_ptr(&e)), "{of_rule:?} {of_url:?}");
        }
    }
}
