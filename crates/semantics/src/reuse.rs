//! Whether a stored response may answer a request now (RFC 9111 §4, §4.2.4; RFC 5861).
//!
//! [`Freshness`] is everything about a stored response that time changes, worked out once when it is stored; the
//! verdict at a later moment is a few comparisons, cheap enough for every hit.
//!
//! **Invariant:** `fresh_until ≤ revalidate_until, error_until ≤ retain_until`.

use std::time::Duration;

use http::HeaderMap;

use crate::age::{self, Exchange};
use crate::directives::{RequestDirectives, ResponseDirectives, Seconds};
use crate::lifetime::Lifetime;
use crate::time::Timestamp;

/// The life of a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// The moment at which its age was zero; ages are counted from here.
    pub born: Timestamp,
    /// Before this moment it is fresh. Not after `born` for what must be validated on every use.
    pub fresh_until: Timestamp,
    /// Before this moment it may be served while it is refreshed behind the client's back (RFC 5861 §3).
    pub revalidate_until: Timestamp,
    /// Before this moment it may be served when the next hop fails (RFC 5861 §4).
    pub error_until: Timestamp,
    /// The response said `no-cache`: every use asks.
    pub no_cache: bool,
    /// The response forbids every use while it is stale.
    pub never_stale: bool,
}

/// How long a site keeps and serves what is no longer fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StalePolicy {
    /// Serve this long past freshness when the next hop fails and the origin said nothing of its own
    /// (RFC 9111 §4.2.4 allows it when disconnected).
    pub on_error: Duration,
    /// Keep a response with a validator this long past its last use, to ask "changed since?" in place of fetching.
    pub keep: Duration,
}

impl StalePolicy {
    /// Nothing is served or kept beyond what the origin says.
    pub const NONE: Self = Self { on_error: Duration::ZERO, keep: Duration::ZERO };
}

/// A response that needs an answer from the next hop before it may be used, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    /// Its age has passed its lifetime.
    Expired,
    /// `no-cache` in the response: every use asks.
    NoCache,
    /// The client asked for something newer than what is stored, and the site honours that.
    Request,
}

/// What may be done with a stored response now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Answer with it.
    Fresh,
    /// It is stale, and the client accepts that (`max-stale`): answer with it.
    StaleAccepted,
    /// Answer with it and refresh it behind the client's back.
    WhileRevalidate,
    /// Ask the next hop first; if that fails, `on_error` says whether it may be served all the same.
    Validate {
        /// Why it is not usable as it is.
        because: Stale,
        /// May be served when the next hop cannot be asked.
        on_error: bool,
    },
}

impl Freshness {
    /// The life of a response that arrived at `exchange.response_time`.
    #[must_use]
    pub fn of(
        fields: &HeaderMap,
        directives: &ResponseDirectives,
        lifetime: Lifetime,
        exchange: Exchange,
        policy: StalePolicy,
    ) -> Self {
        let age = age::initial(fields, exchange);
        let born = exchange.response_time.before(age);
        let never = |fresh_until, no_cache| Self {
            born,
            fresh_until,
            revalidate_until: fresh_until,
            error_until: fresh_until,
            no_cache,
            never_stale: true,
        };
        if directives.no_cache {
            return never(born, true);
        }
        let fresh_until = born.after(lifetime.span);
        if forbids_stale(directives) {
            return never(fresh_until, false);
        }
        let window = |seconds: Seconds| fresh_until.after(seconds.or_zero().as_duration());
        Self {
            born,
            fresh_until,
            revalidate_until: directives.stale_while_revalidate.map_or(fresh_until, window),
            error_until: directives.stale_if_error.map_or_else(|| fresh_until.after(policy.on_error), window),
            no_cache: false,
            never_stale: false,
        }
    }

    /// The life of the same response once somebody has said at `moment` that it counts as stale from then on: no window
    /// is longer than it was, none that has ended opens again, and its age tells the next cache that it is not fresh.
    #[must_use]
    pub fn stale_from(self, moment: Timestamp) -> Self {
        if self.no_cache {
            return self;
        }
        let cut = self.fresh_until.since(moment);
        let fresh_until = self.fresh_until.min(moment);
        // Before the cut, a window is as long behind the new end as it was behind the old one.
        let window = |until: Timestamp| until.before(cut);
        Self {
            born: self.born.before(cut),
            fresh_until,
            revalidate_until: window(self.revalidate_until).max(fresh_until),
            error_until: window(self.error_until).max(fresh_until),
            ..self
        }
    }

    /// The age at `now`.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Duration {
        now.since(self.born)
    }

    /// The remaining lifetime at `now`, so that it and the `Age` that is shown add up to the lifetime; negative once it
    /// has been stale for a second (RFC 9211 §2.4).
    #[must_use]
    pub fn ttl(&self, now: Timestamp) -> i64 {
        let secs = |secs: u64| i64::try_from(secs).unwrap_or(i64::MAX);
        if self.fresh_until > now {
            let left = self.fresh_until.since(now);
            secs(left.as_secs().saturating_add(u64::from(left.subsec_nanos() > 0)))
        } else {
            -secs(now.since(self.fresh_until).as_secs())
        }
    }

    /// The moment from which on it is of no use: past every window, and past `keep` if it can be validated.
    #[must_use]
    pub fn retain_until(&self, validates: bool, response_time: Timestamp, policy: StalePolicy) -> Timestamp {
        let served = self.fresh_until.max(self.revalidate_until).max(self.error_until);
        if validates { served.max(response_time).after(policy.keep) } else { served }
    }

    /// What may be done with the response at `now`. `request` is `None` where the site ignores what clients ask.
    #[must_use]
    pub fn reuse(&self, now: Timestamp, request: Option<&RequestDirectives>) -> Reuse {
        let because = if self.no_cache { Stale::NoCache } else { Stale::Expired };
        let staleness = now.since(self.fresh_until);
        let accepted = |limit: Option<Seconds>| !self.never_stale && limit.is_some_and(|s| s.covers(staleness));
        let on_error = now < self.error_until || accepted(request.and_then(|asked| asked.stale_if_error));
        if let Some(request) = request
            && self.refused_by(now, request)
        {
            return Reuse::Validate { because: Stale::Request, on_error };
        }
        if now < self.fresh_until {
            Reuse::Fresh
        } else if now < self.revalidate_until {
            Reuse::WhileRevalidate
        } else if accepted(request.and_then(|asked| asked.max_stale)) {
            Reuse::StaleAccepted
        } else {
            Reuse::Validate { because, on_error }
        }
    }

    /// RFC 9111 §5.2.1: the client wants something newer than this. Parts of a second count, so that `max-age=0` asks.
    fn refused_by(&self, now: Timestamp, request: &RequestDirectives) -> bool {
        let age = self.age(now);
        let left = self.fresh_until.since(now);
        // `max-stale` beside `max-age` allows for that much more (§5.2.1.2).
        let grace =
            request.max_stale.filter(|_| !self.never_stale).map_or(Duration::ZERO, |s| s.or_zero().as_duration());
        request.no_cache
            || request.max_age.is_some_and(|s| age > s.or_zero().as_duration().saturating_add(grace))
            || request.min_fresh.is_some_and(|s| left < s.or_zero().as_duration())
    }
}

/// "MUST NOT … reuse that response … until it has been successfully validated" (RFC 9111 §5.2.2.2, §5.2.2.8,
/// §5.2.2.10: `s-maxage` implies `proxy-revalidate`), except that an explicit stale window of the same author stands
/// beside `s-maxage`: it would else say nothing.
fn forbids_stale(directives: &ResponseDirectives) -> bool {
    let window = directives.stale_while_revalidate.is_some() || directives.stale_if_error.is_some();
    directives.must_revalidate || directives.proxy_revalidate || (directives.s_maxage.is_some() && !window)
}
