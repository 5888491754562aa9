//! A site and its rules.

use std::str::FromStr;
use std::time::Duration;

use super::OnLag;
use crate::values::{CookieName, FieldName, HostPattern, ParameterName, Upstream, ValueError};

/// Index of a site in [`Config::sites`](super::Config::sites), and in every list that is made from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteId(usize);

impl SiteId {
    /// The site at this index.
    #[must_use]
    pub const fn new(index: usize) -> Self {
        Self(index)
    }

    /// The index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }
}

/// A site: hosts that share origins and rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Its name in logs and metrics.
    pub name: String,
    /// The hosts it answers for; never empty.
    pub hosts: Vec<HostPattern>,
    /// Asked in this order; the next one when one cannot be reached. Never empty.
    pub origins: Vec<Upstream>,
    /// All hosts of the site count as this one, in the cache key and for next hops; `None`: each is its own.
    pub canonical_host: Option<String>,
    /// The `Host` that origins see; `None`: the client's.
    pub origin_host: Option<String>,
    /// What becomes of answers that set cookies.
    pub set_cookie: SetCookie,
    /// Whether clients may ask for something newer than what is stored.
    pub honour_request_directives: bool,
    /// How long past freshness an answer is served when the next hop fails and the origin named no span of its own.
    pub serve_stale_on_error: Duration,
    /// What clients get while the node does not know what was purged lately.
    pub on_lag: OnLag,
    /// How long a client waits for the next hop where something stale may be served instead; `None`: as long as it takes.
    pub stale_deadline: Option<Duration>,
    /// How long past its use an answer with a validator is kept, to ask "changed since?".
    pub keep_for_validation: Duration,
    /// Guessed lifetime: thousandths of the time since the last modification.
    pub heuristic_thousandths: u32,
    /// The longest lifetime that is guessed.
    pub heuristic_cap: Duration,
    /// The longest lifetime that anything has; `None`: as long as its origin says.
    pub max_ttl: Option<Duration>,
    /// Fields that are looked for, in this order, before `Cache-Control` (RFC 9213).
    pub targeted_fields: Vec<FieldName>,
    /// Whether `No-Vary-Search` is obeyed.
    pub no_vary_search: bool,
    /// What of a request tells its answer from others.
    pub key: Key,
    /// Which request fields are brought to one form.
    pub normalise: Normalise,
    /// Whether bodies are asked for and stored in blocks.
    pub slice: bool,
    /// Whether answers tell in `Server-Timing` who answered and how, for scripts in the page.
    pub server_timing: bool,
    /// Limits of its requests to next hops, where they differ from those of the node.
    pub timeouts: SiteTimeouts,
}

/// Limits of a site's requests to next hops. What is `None` is as in [`Timeouts`](super::Timeouts).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SiteTimeouts {
    /// From the request to the head of the next hop's answer.
    pub first_byte: Option<Duration>,
    /// Between two pieces of the next hop's answer.
    pub between_bytes: Option<Duration>,
    /// Between two pieces of an event stream.
    pub event_stream: Option<Duration>,
    /// A WebSocket on which nothing moves, in either direction.
    pub websocket: Option<Duration>,
    /// From the head of the next hop's answer to its last byte.
    pub total: Option<Duration>,
}

impl Site {
    /// A site with lawful defaults.
    #[must_use]
    pub fn new(name: &str, hosts: Vec<HostPattern>, origins: Vec<Upstream>) -> Self {
        let hours = |n: u64| Duration::from_secs(n * 3600);
        Self {
            name: name.to_owned(),
            hosts,
            origins,
            canonical_host: None,
            origin_host: None,
            set_cookie: SetCookie::Pass,
            honour_request_directives: false,
            serve_stale_on_error: hours(1),
            on_lag: OnLag::default(),
            stale_deadline: Some(Duration::from_secs(1)),
            keep_for_validation: hours(24),
            heuristic_thousandths: 100,
            heuristic_cap: Duration::from_secs(5 * 60),
            max_ttl: None,
            targeted_fields: vec![FieldName::CDN_CACHE_CONTROL],
            no_vary_search: true,
            key: Key::default(),
            normalise: Normalise::default(),
            slice: false,
            server_timing: false,
            timeouts: SiteTimeouts::default(),
        }
    }
}

/// What of a request, beside scheme, host and path, tells its answer from others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Key {
    /// Parameters of the query that count; `None`: all do. Those that do not are not sent to next hops either.
    pub query_keep: Option<Vec<ParameterName>>,
    /// Of these, the ones that do not.
    pub query_drop: Vec<ParameterName>,
    /// Whether the order of parameters does not matter.
    pub query_sort: bool,
    /// Fields of the request that count.
    pub fields: Vec<FieldName>,
    /// Cookies that count, each by its name, or with a trailing `*` all whose names begin so.
    pub cookies: Vec<CookieName>,
}

/// Which request fields are brought to one form, before they select a variant and go forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Normalise {
    /// `Accept-Encoding`: what it takes of zstd, br and gzip.
    pub accept_encoding: bool,
    /// `Accept-Language`.
    pub accept_language: Languages,
}

impl Default for Normalise {
    fn default() -> Self {
        Self { accept_encoding: true, accept_language: Languages::Order }
    }
}

/// How far values of `Accept-Language` are taken for the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Languages {
    /// Nothing is changed.
    Off,
    /// Case does not matter.
    Case,
    /// Nor does the order of languages with equal weights.
    Order,
}

impl FromStr for Languages {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "off" => Ok(Self::Off),
            "case" => Ok(Self::Case),
            "order" => Ok(Self::Order),
            _ => Err(ValueError("\"off\", \"case\" or \"order\"".to_owned())),
        }
    }
}

/// What becomes of answers that set cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetCookie {
    /// They reach their client and are not stored.
    Pass,
    /// They are stored with all their fields, and everybody gets the same cookie.
    Store,
    /// `Set-Cookie` is removed from responses that may be stored; all others keep it.
    Remove,
}

impl FromStr for SetCookie {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "pass" => Ok(Self::Pass),
            "store" => Ok(Self::Store),
            "remove" => Ok(Self::Remove),
            _ => Err(ValueError("\"pass\", \"store\" or \"remove\"".to_owned())),
        }
    }
}
