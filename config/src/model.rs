//! The configuration of a node, checked.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use nearside_geo::Place;

use crate::values::{HostPattern, Network, NodeId, Secret, Upstream, ValueError};

mod control;
mod hook;
mod node;
mod public;
mod site;
mod steering;
mod token;
mod wan;

pub use control::{ControlConfig, Follows, Keep, Nats, NatsLogin, OnLag, PurgeLog};
pub use hook::{EventType, Hook, Part, Signature, Template, Webhook};
pub use node::{NodeCredential, NodeRole};
pub use public::{Public, PublicUrl};
pub use site::{Key, Languages, Normalise, SetCookie, Site, SiteId, SiteTimeouts};
pub use steering::{Answer, Console, Dns, Policy, Steering};
pub use token::{Scope, SecretFile, Token};
pub use wan::{Quality, RoundTrip, Wan, WanLink, WanPlace};

/// Everything that an edge or a shield is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What it is, and what only this role has.
    pub role: Role,
    /// Its name in `Cache-Status`, `Via` and logs.
    pub id: NodeId,
    /// Where it stands, as people know it.
    pub city: Option<String>,
    /// Where that is.
    pub place: Option<Place>,
    /// How clients reach an edge.
    pub public: Public,
    /// Threads that serve clients, each with its own listening socket.
    pub threads: usize,
    /// Where clients reach it in clear.
    pub listen: Vec<SocketAddr>,
    /// Where clients reach it over TLS.
    pub listen_tls: Vec<TlsListener>,
    /// Where operators reach it.
    pub admin: Option<SocketAddr>,
    /// The names under which the admin listener answers, beside addresses and `localhost`.
    pub admin_hosts: Vec<HostPattern>,
    /// What must be shown to them. Without any, whoever reaches the listener may do everything, if it is on the loopback.
    pub tokens: Vec<Token>,
    /// Whose purge log it follows.
    pub control: Option<Follows>,
    /// Networks from which `PURGE` and `BAN` are obeyed on the listeners for clients without a token.
    pub purge_from: Vec<Network>,
    /// How the shields are called, in the order of their addresses; empty: by these.
    pub shield_names: Vec<String>,
    /// The memory tier.
    pub cache: Cache,
    /// What a client may take.
    pub limits: Limits,
    /// How long everything may take.
    pub timeouts: Timeouts,
    /// Where access-log lines go.
    pub access_log: AccessLog,
    /// Where spans of traces go.
    pub traces: Traces,
    /// The file that all this stood in, if it was one.
    pub file: Option<ConfigFile>,
    /// Files that secrets were read from.
    pub secret_files: Vec<SecretFile>,
    /// What may be asked of an origin.
    pub origins: OriginLimits,
    /// The sites it serves; never empty.
    pub sites: Vec<Site>,
}

impl Config {
    /// A configuration of these sites with defaults for everything else: no listener, and the role's default id.
    #[must_use]
    pub fn new(role: Role, sites: Vec<Site>) -> Self {
        Self {
            id: default_id(role.name()),
            role,
            city: None,
            place: None,
            public: Public::default(),
            threads: 1,
            listen: Vec::new(),
            listen_tls: Vec::new(),
            admin: None,
            admin_hosts: Vec::new(),
            tokens: Vec::new(),
            control: None,
            purge_from: Vec::new(),
            shield_names: Vec::new(),
            cache: Cache::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            access_log: AccessLog::default(),
            traces: Traces::default(),
            file: None,
            secret_files: Vec::new(),
            origins: OriginLimits::default(),
            sites,
        }
    }

    /// The name of its city as it may stand in a header field: transliterated to ASCII.
    #[must_use]
    pub fn city_in_ascii(&self) -> Option<String> {
        self.city.as_deref().map(nearside_geo::ascii_name)
    }

    /// The site with an id; `None` for an id of another configuration.
    #[must_use]
    pub fn site(&self, id: SiteId) -> Option<&Site> {
        self.sites.get(id.index())
    }

    /// The ids of all sites.
    pub fn site_ids(&self) -> impl Iterator<Item = SiteId> + use<> {
        (0..self.sites.len()).map(SiteId::new)
    }
}

/// What an edge has and a shield has not, and the other way round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It faces clients.
    Edge {
        /// Asked in place of the origins; empty: the origins are asked.
        shields: Vec<Upstream>,
        /// Shown to the shields.
        secret: Option<Secret>,
        /// Who is asked when no shield is left.
        fallback: Fallback,
    },
    /// It faces edges.
    Shield {
        /// What edges must show; `None` serves anyone.
        secret: Option<Secret>,
    },
}

impl Role {
    /// The name of the subcommand.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Edge { .. } => "edge",
            Self::Shield { .. } => "shield",
        }
    }
}

/// Who is asked when no shield is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fallback {
    /// The origins, within their limits.
    #[default]
    Origin,
    /// Nobody: what is not stored is a 503.
    None,
}

impl FromStr for Fallback {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "origin" => Ok(Self::Origin),
            "none" => Ok(Self::None),
            _ => Err(ValueError("\"origin\" or \"none\"".to_owned())),
        }
    }
}

/// What may be asked of an origin at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OriginLimits {
    /// Requests under way at one origin, of all nodes that share this number.
    pub concurrency: usize,
    /// How many nodes share it; each takes its part.
    pub shared_by: usize,
    /// Requests that wait for a place, on this node.
    pub queue: usize,
    /// How long one waits.
    pub queue_wait: Duration,
}

impl OriginLimits {
    /// Requests that this node may have under way at one origin: rounded down, so that all together keep the limit.
    #[must_use]
    pub fn share(&self) -> usize {
        (self.concurrency / self.shared_by.max(1)).max(1)
    }
}

impl Default for OriginLimits {
    fn default() -> Self {
        Self { concurrency: 512, shared_by: 1, queue: 4096, queue_wait: Duration::from_secs(5) }
    }
}

/// A TLS listener with its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsListener {
    /// Where it listens.
    pub address: SocketAddr,
    /// PEM file: the certificate and its chain.
    pub cert: PathBuf,
    /// PEM file: the private key.
    pub key: PathBuf,
}

/// The memory tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    /// Bytes of all bodies and heads that are alive.
    pub memory_bytes: u64,
    /// The largest body that is stored.
    pub object_bytes_max: u64,
    /// Variants per cache key.
    pub variants_max: usize,
}

impl Cache {
    /// A memory tier of this size, with the defaults that follow from it.
    #[must_use]
    pub fn of(memory_bytes: u64) -> Self {
        Self { memory_bytes, object_bytes_max: memory_bytes / 4, variants_max: 16 }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self::of(1 << 30)
    }
}

/// What a client may take of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections of clients at one time.
    pub connections: usize,
    /// Connections of one client network (/32 of IPv4, /64 of IPv6) at one time.
    pub connections_per_client: usize,
    /// Requests in progress: those that are not answered from the store at once.
    pub requests: usize,
    /// Requests in progress of one client network.
    pub requests_per_client: usize,
    /// Bytes of a request head.
    pub head_bytes: usize,
    /// Fields of a request head.
    pub fields: usize,
    /// Bytes of a request body.
    pub body_bytes: u64,
    /// Requests on one connection; then it is closed.
    pub requests_per_connection: u64,
    /// Concurrent streams of an HTTP/2 connection.
    pub h2_streams: u32,
    /// WebSocket connections at one time, over all clients.
    pub tunnels: usize,
    /// Bytes that are held for the readers of a body that is not stored.
    pub window_bytes: u64,
}

impl Limits {
    /// The default share of one client network: an eighth, but not less than many clients behind one address need.
    #[must_use]
    pub const fn share_of(total: usize) -> usize {
        const LEAST: usize = 1024;
        let eighth = total / 8;
        let share = if eighth < LEAST { LEAST } else { eighth };
        if share < total { share } else { total }
    }
}

impl Default for Limits {
    fn default() -> Self {
        const CONNECTIONS: usize = 50_000;
        Self {
            connections: CONNECTIONS,
            connections_per_client: Self::share_of(CONNECTIONS),
            requests: CONNECTIONS,
            requests_per_client: Self::share_of(CONNECTIONS),
            head_bytes: 16 << 10,
            fields: 100,
            body_bytes: 1 << 30,
            requests_per_connection: 1_000_000_000,
            h2_streams: 128,
            tunnels: 10_000,
            window_bytes: 256 << 10,
        }
    }
}

/// How long things may take. None of them is without a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first byte of a request head to its last, and for a TLS handshake.
    pub head: Duration,
    /// A connection without a request.
    pub idle: Duration,
    /// A client that takes no byte of its answer, or sends none of its body.
    pub stall: Duration,
    /// Connecting to the next hop, with TLS.
    pub connect: Duration,
    /// From the request to the head of the next hop's answer. A long poll has to be answered within this.
    pub first_byte: Duration,
    /// Between two pieces of the next hop's answer.
    pub between_bytes: Duration,
    /// Between two pieces of an event stream (`text/event-stream`), which has no `total`.
    pub event_stream: Duration,
    /// A WebSocket on which nothing moves, in either direction.
    pub websocket: Duration,
    /// From the head of the next hop's answer to its last byte.
    pub total: Duration,
    /// A connection to the next hop that is kept for the next request.
    pub upstream_idle: Duration,
    /// Time between "not ready" and the close of the listeners, when the node is told to stop.
    pub drain_delay: Duration,
    /// Answers that are still running when the listeners are closed.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self {
            head: secs(10),
            idle: secs(60),
            stall: secs(60),
            connect: secs(3),
            first_byte: secs(60),
            between_bytes: secs(60),
            event_stream: secs(3600),
            websocket: secs(3600),
            total: secs(3600),
            upstream_idle: secs(50),
            drain_delay: Duration::ZERO,
            drain: secs(30),
        }
    }
}

/// A file as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    path: PathBuf,
    digest: u64,
}

impl ConfigFile {
    /// The file at a path that held a text.
    pub(crate) fn new(path: &Path, text: &str) -> Self {
        // Where the process stands may change.
        let path = std::path::absolute(path).unwrap_or_else(|_nowhere| path.to_owned());
        Self { path, digest: digest(text) }
    }

    /// Whether something else stands in it now, or it is gone.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        std::fs::read_to_string(&self.path).map_or(true, |text| digest(&text) != self.digest)
    }
}

fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Traces of requests (W3C Trace Context).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces {
    /// The collector of OpenTelemetry that gets spans; in clear.
    pub otlp: Option<Upstream>,
    /// Of the traces that begin here, one in so many is marked as sampled; at least 1.
    pub one_in: u64,
}

impl Default for Traces {
    fn default() -> Self {
        Self { otlp: None, one_in: 1 }
    }
}

/// Where access-log lines go and how they look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// The form of a line; `Off` writes none.
    pub format: LogFormat,
    /// Where to.
    pub sink: LogSink,
    /// Lines name the client's program and the page that it came from.
    pub clients: bool,
}

impl AccessLog {
    /// Whether lines hold what clients say of themselves.
    #[must_use]
    pub fn names_clients(&self) -> bool {
        self.clients || self.format == LogFormat::Combined
    }
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { format: LogFormat::Json, sink: LogSink::Stdout, clients: false }
    }
}

/// Where access-log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogSink {
    /// Standard output.
    Stdout,
    /// The end of a file.
    File(PathBuf),
}

/// The form of access-log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// None.
    Off,
    /// A JSON object a line.
    Json,
    /// For the eye.
    Pretty,
    /// As Apache and nginx call it, for programs that read theirs.
    Combined,
}

impl FromStr for LogFormat {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "off" => Ok(Self::Off),
            "json" => Ok(Self::Json),
            "pretty" => Ok(Self::Pretty),
            "combined" => Ok(Self::Combined),
            _ => Err(ValueError("\"json\", \"pretty\", \"combined\" or \"off\"".to_owned())),
        }
    }
}

/// The name of a node that was given none.
#[must_use]
pub fn default_id(role: &str) -> NodeId {
    #[expect(clippy::expect_used, reason = "both roles are valid names")]
    role.parse().expect("invariant: a role's name is a node's name")
}
