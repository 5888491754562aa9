//! The next hops of a node: who is asked, in which order, and how a request gets there and its answer back.
//!
//! New connections race the addresses of a name ([`connect`]); their TLS is rustls' ([`tls`]), idle ones wait in a pool of ours; the
//! protocol on them is [`nearside_http1`]. Names are resolved here ([`resolve`]), off the serving threads, because pingora's peers
//! resolve blocking and panic on failure.
//!
//! **Invariant:** every wait has a limit, and nothing is asked twice that may have had an effect: only a request
//! without a body is tried again, only while no byte of an answer has come, and within a [`budget`].

mod ask;
mod asked;
pub mod authorities;
mod breaker;
mod budget;
pub mod client_network;
mod connect;
mod enter;
pub mod fields;
mod gate;
mod health;
pub mod interim;
mod local_error;
mod pace;
mod patience;
mod pool;
mod probe;
mod rendezvous;
mod resolve;
mod response_reader;
mod tls;
mod trailers;
pub mod unkeyed;
pub mod upload;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use nearside_config::{Config, Fallback, Role, SiteId, Timeouts, Upstream};
use pingora_core::connectors::{ConnectorOptions, TransportConnector};

pub use ask::Tell;
pub use asked::{Asked, Hold, UpgradeStream};
pub use gate::{Counts, Urgency};
pub use local_error::Lack;
pub use pace::{LOOK_EVERY, Pace};
pub use patience::{Patience, is_event_stream};
pub use probe::watch_shields;

use breaker::Failure;
use connect::ConnectError;
use gate::Gate;
use health::{Health, Kind};
use resolve::{Names, Resolved};
use tls::ClientTls;

use crate::client_network::ClientNetwork;
use nearside_http1::framing::FramingError;
use nearside_http1::response::ResponseError;
use nearside_telemetry::reason::Reason;

/// One place that can be asked.
#[derive(Debug)]
pub struct Hop {
    /// Name in logs and metrics.
    pub name: Arc<str>,
    pub(crate) upstream: Upstream,
    /// Circuit breaker.
    pub health: Health,
    /// Before an origin; shields have one of their own.
    pub gate: Option<Arc<Gate>>,
    resolved: Resolved,
}

impl Hop {
    /// Its name is that of its address, if it has no other.
    fn new(name: Option<&String>, upstream: &Upstream, gate: Option<Arc<Gate>>, names: &mut Names) -> Arc<Self> {
        Arc::new(Self {
            name: name.cloned().unwrap_or_else(|| upstream.to_string()).into(),
            upstream: upstream.clone(),
            health: Health::new(if gate.is_none() { Kind::Shield } else { Kind::Origin }),
            gate,
            resolved: Resolved::new(upstream, names),
        })
    }

    /// Whether this is a shield, not an origin.
    pub fn is_shield(&self) -> bool {
        self.gate.is_none()
    }

    /// How long it may take for a request.
    fn patience(&self, forward: &Forward) -> Patience {
        if self.is_shield() { forward.patience.with_grace() } else { forward.patience }
    }

    /// Notes a response to a request for `url`, or to a probe.
    fn succeeded(&self, url: Option<u64>) {
        self.health.succeeded(url, nearside_telemetry::clock::instant());
        if let Some(gate) = &self.gate {
            gate.widen();
        }
    }

    /// Notes that a request for `url` got no connection, or no response. What this machine lacks is not charged to the hop.
    fn failed(&self, error: &HopError, url: u64) {
        if error.is_local() {
            return local_error::tell(&self.name, error);
        }
        if self.health.failed(error.failure(), url, nearside_telemetry::clock::instant()) {
            tracing::warn!(upstream = %self.name, %error, "upstream marked down");
            self.went_out();
        }
    }

    /// Notes that it has not answered a probe.
    fn probe_failed(&self, error: &HopError) {
        if self.health.probe_failed(nearside_telemetry::clock::instant()) {
            tracing::warn!(upstream = %self.name, %error, "upstream marked down: health probes fail");
            self.went_out();
        }
    }

    fn went_out(&self) {
        if let Some(gate) = &self.gate {
            gate.narrow();
        }
    }

    /// Hash of the URL of a request, by which the breaker tells URLs apart.
    fn url(&self, forward: &Forward) -> u64 {
        self.health.url(forward.authority.as_bytes(), &forward.target)
    }
}

/// A request as it goes forward, before it is known to whom.
#[derive(Debug, Clone)]
pub struct Forward {
    /// Method.
    pub method: Method,
    /// Request target.
    pub target: Box<[u8]>,
    /// The host that the client asked for.
    pub authority: HeaderValue,
    /// The host that origins see instead.
    pub origin_host: Option<HeaderValue>,
    /// Fields.
    pub fields: HeaderMap,
    /// Class in the queue of the concurrency limit.
    pub urgency: Urgency,
    /// Network of the client that it is sent for.
    pub network: ClientNetwork,
    /// How long the next hop may take.
    pub patience: Patience,
}

impl Forward {
    /// The path of its target, shortened, as it may be logged: a query may hold secrets.
    fn path(&self) -> String {
        logged_path(&self.target)
    }

    /// The same for the whole, whatever is stored here.
    pub fn unconditional(&self) -> Self {
        let mut forward = self.clone();
        forward.fields.remove(IF_NONE_MATCH);
        forward.fields.remove(IF_MODIFIED_SINCE);
        forward
    }
}

/// The path of a request target, without its query and not longer than a line of a log should be.
pub fn logged_path(target: &[u8]) -> String {
    /// Bytes of a path that are logged.
    const PATH_BYTES_MAX: usize = 256;
    let path = target.split(|b| *b == b'?').next().unwrap_or_default();
    let (start, rest) = path.split_at_checked(PATH_BYTES_MAX).unwrap_or((path, b""));
    format!("{}{}", String::from_utf8_lossy(start), if rest.is_empty() { "" } else { "…" })
}

/// Why no answer could be had.
#[derive(Debug, thiserror::Error)]
pub enum HopError {
    /// The name of an upstream cannot be resolved.
    #[error("the name {name} cannot be resolved: {cause}")]
    Resolve {
        /// The upstream.
        hop: Arc<str>,
        /// The name.
        name: String,
        /// Error of the resolver.
        cause: Arc<str>,
    },
    /// No connection, because of the upstream or the way to it.
    #[error("cannot connect to {hop}: {source}")]
    Connect {
        /// The upstream.
        hop: Arc<str>,
        /// Error of the connection.
        source: ConnectError,
    },
    /// No connection, because this machine lacks something.
    #[error("no connection to {hop} can be opened here: {cause}")]
    Local {
        /// The upstream.
        hop: Arc<str>,
        /// What is lacking.
        lack: Lack,
        /// Error of the system.
        cause: String,
    },
    /// No response in time.
    #[error("{hop} did not answer in time")]
    Timeout {
        /// The upstream.
        hop: Arc<str>,
    },
    /// A response that cannot be read.
    #[error("{hop}: {source}")]
    Response {
        /// The upstream.
        hop: Arc<str>,
        /// The fault of the response.
        source: ResponseError,
    },
    /// The request body did not arrive whole.
    #[error("the request body could not be sent on")]
    Body,
    /// The client sent its body too slowly, and its place was needed.
    #[error("the client sent its body too slowly, while others waited for a place at {hop}")]
    SlowBody {
        /// The upstream.
        hop: Arc<str>,
    },
    /// The client's network had more than its share, and its place was needed.
    #[error("the client's network had more than its share of the requests to {hop}, while others waited")]
    OverShare {
        /// The upstream.
        hop: Arc<str>,
    },
    /// All clients of a fill have left.
    #[error("nobody waits for the response any more")]
    Unwanted,
    /// A body cannot be resumed, because the resource has changed.
    #[error("the body broke off, and {hop} has another one by now")]
    Changed {
        /// The upstream.
        hop: Arc<str>,
    },
    /// A body that ended before its stated length.
    #[error("the body is shorter than was promised")]
    Short,
    /// The circuit breaker is open.
    #[error("{hop} is down, and not asked before it may be back")]
    Down {
        /// The upstream.
        hop: Arc<str>,
    },
    /// The concurrency limit is reached, and its queue is full or was too slow.
    #[error("{hop} is asked by as many as it may be already")]
    Busy {
        /// The upstream.
        hop: Arc<str>,
    },
}

impl HopError {
    /// What the error says of the hop.
    fn failure(&self) -> Failure {
        match self {
            Self::Resolve { .. } | Self::Connect { .. } => Failure::Connect,
            _ => Failure::Exchange,
        }
    }

    /// What a client is told.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::SlowBody { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::Down { .. } | Self::Busy { .. } | Self::OverShare { .. } | Self::Local { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// The reason.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Resolve { .. } => Reason::UpstreamName,
            Self::Connect { source, .. } => match source {
                ConnectError::Refused { .. } | ConnectError::Local(_) => Reason::UpstreamConnect,
                ConnectError::TimedOut { .. } => Reason::UpstreamConnectTimeout,
                ConnectError::Tls { .. } => Reason::UpstreamTls,
            },
            Self::Local { lack: Lack::Descriptors, .. } => Reason::NoDescriptors,
            Self::Local { lack: Lack::Other, .. } => Reason::LocalError,
            Self::Timeout { .. } => Reason::UpstreamTimeout,
            Self::Response { source, .. } => response_reason(source),
            Self::Body => Reason::RequestBody,
            Self::SlowBody { .. } => Reason::ClientSlow,
            Self::Unwanted => Reason::ClientGone,
            Self::Changed { .. } => Reason::UpstreamChanged,
            Self::Short => Reason::UpstreamClosed,
            Self::Down { .. } => Reason::UpstreamDown,
            Self::Busy { .. } => Reason::UpstreamBusy,
            Self::OverShare { .. } => Reason::OverShare,
        }
    }

    /// Who failed, where it is known.
    pub fn hop(&self) -> Option<Arc<str>> {
        match self {
            Self::Resolve { hop, .. }
            | Self::Connect { hop, .. }
            | Self::Local { hop, .. }
            | Self::Timeout { hop }
            | Self::Response { hop, .. }
            | Self::Changed { hop }
            | Self::Down { hop }
            | Self::SlowBody { hop }
            | Self::OverShare { hop }
            | Self::Busy { hop } => Some(Arc::clone(hop)),
            Self::Body | Self::Unwanted | Self::Short => None,
        }
    }

    /// Logs that a request has failed, with its cause. Not where the next hop was not asked, or was not to blame.
    fn log(&self, forward: &Forward) {
        if matches!(
            self,
            Self::Down { .. }
                | Self::Busy { .. }
                | Self::OverShare { .. }
                | Self::Body
                | Self::SlowBody { .. }
                | Self::Unwanted
        ) {
            return;
        }
        tracing::warn!(
            upstream = self.hop().as_deref(),
            reason = self.reason().token(),
            method = %forward.method,
            host = %forward.authority.to_str().unwrap_or_default(),
            path = forward.path(),
            error = %self,
            "upstream request failed"
        );
    }

    /// Whether an answer was broken off from outside; not if it was wrong itself.
    pub fn is_interruption(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Short => true,
            Self::Response { source, .. } => source.is_interruption(),
            _ => false,
        }
    }
}

/// Reason of a response that cannot be read.
fn response_reason(error: &ResponseError) -> Reason {
    match error {
        ResponseError::ClosedInHead { .. } | ResponseError::Closed | ResponseError::Io(_) => Reason::UpstreamClosed,
        ResponseError::StatusLine { .. } | ResponseError::Unasked => Reason::UpstreamMalformed,
        ResponseError::Field { .. } => Reason::UpstreamField,
        ResponseError::TooLarge | ResponseError::TooManyFields => Reason::UpstreamHeadTooLarge,
        ResponseError::Framing { source: FramingError::Ambiguous, .. } | ResponseError::TooLong => {
            Reason::UpstreamFraming
        }
        ResponseError::Framing { source: FramingError::UnknownCoding, .. } | ResponseError::Broken(_) => {
            Reason::UpstreamCoding
        }
    }
}

/// Returns the value of [`PURGES`](fields::PURGES) in requests for shields: the purges that are known here, if any.
pub type KnownPurges = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// All next hops of a node.
pub struct Hops {
    shields: Vec<Arc<Hop>>,
    /// By site.
    origins: Vec<Vec<Arc<Hop>>>,
    secret: Option<HeaderValue>,
    known_purges: KnownPurges,
    connector: TransportConnector,
    tls: ClientTls,
    pool: pool::Pool,
    timeouts: Timeouts,
    /// Whether origins are asked where no shield is left.
    falls_back: bool,
    /// Retry budget.
    pub budget: budget::Budget,
}

impl Hops {
    /// The upstreams of a configuration. `known_purges` returns what shields are told about the purges that are known here.
    pub fn new(config: &Config, known_purges: KnownPurges) -> Self {
        // Sites that share an origin share what is known of it.
        let mut known: HashMap<&Upstream, Arc<Hop>> = HashMap::new();
        let limits = config.origins;
        let gate = || Gate::new(limits.share(), limits.queue, limits.queue_wait);
        let mut names = Names::default();
        let mut origin = |upstream| {
            let new = || Hop::new(None, upstream, Some(gate()), &mut names);
            Arc::clone(known.entry(upstream).or_insert_with(new))
        };
        let origins = config.sites.iter().map(|site| site.origins.iter().map(&mut origin).collect()).collect();
        let (shields, secret, falls_back) = match &config.role {
            Role::Edge { shields, secret, fallback } => {
                (&shields[..], secret.as_ref(), shields.is_empty() || *fallback == Fallback::Origin)
            }
            Role::Shield { .. } => (&[][..], None, true),
        };
        let secret = secret.and_then(|secret| HeaderValue::from_str(secret.reveal()).ok()).map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Self {
            shields: shields
                .iter()
                .enumerate()
                .map(|(place, shield)| Hop::new(config.shield_names.get(place), shield, None, &mut names))
                .collect(),
            origins,
            secret,
            known_purges,
            // Its pool is not used.
            connector: TransportConnector::new(Some(ConnectorOptions::new(0))),
            tls: ClientTls::new(),
            pool: pool::Pool::new(config.timeouts.upstream_idle),
            timeouts: config.timeouts,
            falls_back,
            budget: budget::Budget::default(),
        }
    }

    /// Whom to ask for a key of a site, in this order: the shields that are up, the key's own first, where it has not just
    /// come back; then, if that is wanted, the site's origins, those that are up first.
    pub fn candidates(&self, site: SiteId, key: &[u8]) -> Vec<Arc<Hop>> {
        self.candidates_at(site, key, nearside_telemetry::clock::instant())
    }

    /// The candidates at `now`.
    fn candidates_at(&self, site: SiteId, key: &[u8], now: Instant) -> Vec<Arc<Hop>> {
        let mut shields: Vec<_> = self.shields.iter().filter(|hop| hop.health.is_up(now)).collect();
        shields.sort_by_cached_key(|hop| {
            let comes_back = !hop.health.takes(rendezvous::draw(&hop.name, key), now);
            (comes_back, std::cmp::Reverse(rendezvous::score(&hop.name, key)))
        });
        let origins = self.origins.get(site.index()).filter(|_| self.falls_back).map_or(&[][..], Vec::as_slice);
        let (up, down): (Vec<_>, Vec<_>) = origins.iter().partition(|hop| hop.health.is_up(now));
        shields.into_iter().chain(up).chain(down).cloned().collect()
    }

    /// Whether none that could be asked for a site is in use.
    pub fn are_down(&self, site: SiteId) -> bool {
        self.are_down_at(site, nearside_telemetry::clock::instant())
    }

    fn are_down_at(&self, site: SiteId, now: Instant) -> bool {
        !self.candidates_at(site, b"", now).iter().any(|hop| hop.health.is_up(now))
    }

    /// Closes idle connections that are of no use any more.
    pub fn sweep(&self) {
        self.pool.sweep(nearside_telemetry::clock::instant());
    }

    /// Every hop, for the metrics.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Hop>> {
        let mut seen = HashSet::new();
        self.shields.iter().chain(self.origins.iter().flatten()).filter(move |hop| seen.insert(Arc::as_ptr(hop)))
    }
}

#[cfg(test)]
mod tests;
