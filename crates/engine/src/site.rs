//! The rules of a site, in the form in which the engine and `semantics` use them; made once from the configuration.

use std::time::Duration;

use http::HeaderMap;
use http::header::{COOKIE, HeaderName, HeaderValue, SET_COOKIE};
use nearside_config::{FieldName, OnLag, SetCookie, Site, Timeouts};
use nearside_semantics::control::Control;
use nearside_semantics::fields::Fields;
use nearside_semantics::lifetime::{Heuristic, LifetimePolicy};
use nearside_semantics::negotiate::{Languages, Rewritten};
use nearside_semantics::query::{ParameterName, QueryRecipe, SearchVariance};
use nearside_semantics::reuse::StalePolicy;
use nearside_semantics::storable::StorePolicy;
use nearside_semantics::vary::{Nominee, Vary};
use nearside_upstream::Patience;

/// The rules of one site.
#[derive(Debug)]
pub struct Rules {
    lifetime: LifetimePolicy,
    pub(crate) stale: StalePolicy,
    pub(crate) store: StorePolicy,
    /// `Set-Cookie` is removed from responses that are stored.
    removes_cookies: bool,
    /// Clients may ask for something newer than what is stored.
    pub(crate) honours_requests: bool,
    pub(crate) query: QueryRecipe,
    /// All hosts of the site count as this one.
    pub(crate) canonical_host: Option<HeaderValue>,
    /// The host that origins see.
    pub(crate) origin_host: Option<HeaderValue>,
    pub(crate) server_timing: bool,
    /// Bodies are stored in blocks.
    pub(crate) slice: bool,
    /// How long a client waits for the next hop where something stale may be served instead.
    pub(crate) stale_deadline: Option<Duration>,
    /// What clients get while it is not known what was purged.
    pub(crate) on_lag: OnLag,
    /// How long next hops may take.
    pub patience: Patience,
    targets: Vec<HeaderName>,
    nominees: Vec<Nominee>,
    no_vary_search: bool,
    accept_encoding: bool,
    languages: Languages,
}

impl Rules {
    /// The rules of a site of a node with these timeouts.
    pub(crate) fn new(site: &Site, timeouts: &Timeouts) -> Self {
        let value = |text: &Option<String>| text.as_deref().and_then(|text| HeaderValue::from_str(text).ok());
        let parameter = |name: &nearside_config::ParameterName| ParameterName::new(name.as_str());
        let fields = site.key.fields.iter().filter_map(field).map(Nominee::Field);
        let cookies = site.key.cookies.iter().map(|cookie| Nominee::cookie(cookie.as_str()));
        Self {
            lifetime: LifetimePolicy {
                heuristic: Heuristic { thousandths: site.heuristic_thousandths, cap: site.heuristic_cap },
                max: site.max_ttl,
            },
            stale: StalePolicy { on_error: site.serve_stale_on_error, keep: site.keep_for_validation },
            store: StorePolicy {
                set_cookie: matches!(site.set_cookie, SetCookie::Store | SetCookie::Remove),
                request_directives: site.honour_request_directives,
            },
            removes_cookies: site.set_cookie == SetCookie::Remove,
            honours_requests: site.honour_request_directives,
            query: QueryRecipe {
                keep: site.key.query_keep.as_ref().map(|names| names.iter().map(parameter).collect()),
                drop: site.key.query_drop.iter().map(parameter).collect(),
                sort: site.key.query_sort,
            },
            canonical_host: value(&site.canonical_host),
            origin_host: value(&site.origin_host),
            server_timing: site.server_timing,
            slice: site.slice,
            stale_deadline: site.stale_deadline,
            on_lag: site.on_lag,
            patience: Patience::new(timeouts, &site.timeouts),
            targets: site.targeted_fields.iter().filter_map(field).collect(),
            nominees: fields.chain(cookies).collect(),
            no_vary_search: site.no_vary_search,
            accept_encoding: site.normalise.accept_encoding,
            languages: match site.normalise.accept_language {
                nearside_config::Languages::Off => Languages::AsSent,
                nearside_config::Languages::Case => Languages::Case,
                nearside_config::Languages::Order => Languages::Order,
            },
        }
    }

    /// How the lifetime of the response to a request is determined. None is guessed where the request had cookies: the page
    /// of a logged-in user that states no lifetime would be served to others.
    pub(crate) fn lifetime(&self, request: &impl Fields) -> LifetimePolicy {
        let heuristic = if request.has(&COOKIE) { Heuristic::NONE } else { self.lifetime.heuristic };
        LifetimePolicy { heuristic, ..self.lifetime }
    }

    /// Removes the cookies from a response that is stored, where the site says so.
    pub(crate) fn remove_cookies(&self, response: &mut HeaderMap) {
        if self.removes_cookies {
            response.remove(SET_COOKIE);
        }
    }

    /// Whether the site's cache key contains a field.
    pub(crate) fn is_in_key(&self, name: &HeaderName) -> bool {
        self.nominees.iter().any(|nominee| matches!(nominee, Nominee::Field(field) if field == name))
    }

    /// The directives that govern a response.
    pub(crate) fn control(&self, response: &HeaderMap) -> Control {
        Control::of(response, &self.targets)
    }

    /// The fields that may govern responses.
    pub(crate) fn targets(&self) -> &[HeaderName] {
        &self.targets
    }

    /// Whether a field may govern responses.
    pub(crate) fn is_target(&self, name: &HeaderName) -> bool {
        self.targets.contains(name)
    }

    /// What a response depends on.
    pub(crate) fn vary(&self, response: &HeaderMap) -> Vary {
        Vary::of(response, &self.nominees)
    }

    /// What a response says of the queries that it answers.
    pub(crate) fn search_variance(&self, response: &HeaderMap) -> Option<SearchVariance> {
        if self.no_vary_search { SearchVariance::of(response) } else { None }
    }

    /// The fields of a request that the site brings to their one form: what then selects a variant is what next hops see.
    pub(crate) fn rewritten(&self, request: &impl Fields) -> Rewritten {
        Rewritten::of(request, self.accept_encoding, self.languages)
    }
}

fn field(name: &FieldName) -> Option<HeaderName> {
    HeaderName::from_bytes(name.as_str().as_bytes()).ok()
}
