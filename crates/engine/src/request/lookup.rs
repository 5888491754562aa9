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
    let found = under(engine, site, &key.bytes, None, request, now);
    let Some(rule) = key.rule.as_ref().filter(|_| !matches!(found, Found::Usable(_))) else { return found };
    let own = under(engine, site, &key.exact, Some(rule.since), request, now);
    match (&found, &own) {
        // Something fresh is better than something stale; something stale better than nothing.
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
    if engine.lags(site) && !matches!(reuse, Reuse::Validate { .. }) {
        // What was purged lately is not known: the next hop has to say that it is still right.
        let detail = Some(Reason::Lagging);
        return Found::Ask(Ask { because: Forward::Stale, stored: Some(entry), on_error: true, detail, vary });
    }
    match reuse {
        Reuse::Fresh | Reuse::StaleAccepted => Found::Usable(entry),
        // A cache of ours has served something stale itself, and needs something newer, if that can be had.
        Reuse::WhileRevalidate if refreshes(engine, request) && !engine.store.was_refreshed(key, now) => {
            Found::Ask(Ask { because: Forward::Stale, stored: Some(entry), on_error: true, detail: None, vary })
        }
        Reuse::WhileRevalidate => Found::Refresh(entry),
        Reuse::Validate { because, on_error } => {
            let (because, detail) = match because {
                Stale::Request => (Forward::Request, None),
                Stale::NoCache => (Forward::Stale, Some(Reason::NoCache)),
                Stale::Expired => (Forward::Stale, None),
            };
            Found::Ask(Ask { because, stored: Some(entry), on_error, detail, vary })
        }
    }
}
