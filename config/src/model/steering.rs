//! How the control process sends clients to edges.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use nearside_geo::Place;

use crate::values::{HostPattern, Secret, Upstream, ValueError};

/// How clients are sent to edges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steering {
    /// Where clients ask over HTTP.
    pub listen: Option<SocketAddr>,
    /// Where resolvers ask.
    pub dns: Option<Dns>,
    /// By what an edge is chosen.
    pub policy: Policy,
    /// What clients are answered over HTTP.
    pub answer: Answer,
    /// A file that says where networks are: a line of a prefix and a city, or of a prefix and two degrees, each.
    pub table: Option<PathBuf>,
    /// A database in MaxMind's format that says where addresses are.
    pub mmdb: Option<PathBuf>,
    /// Proxies in front of the router, whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// What the key of proofs is derived from; control processes with the same accept one another's. Nothing: a key is made at the start.
    pub secret: Option<Secret>,
    /// One report of each network counts in this time.
    pub report_every: Duration,
    /// Hosts of pages whose visitors may measure and report, beside the hosts that sites name.
    pub report_hosts: Vec<HostPattern>,
    /// Where the control process stands itself, for the maps of people.
    pub place: Option<Place>,
}

impl Steering {
    /// One report of each network counts in this time by default: whoever sends false ones is one among all visitors of a minute.
    pub const REPORT_EVERY: Duration = Duration::from_secs(60);
}

/// The name server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Where it listens, over UDP and TCP.
    pub listen: SocketAddr,
    /// The domains that it answers for.
    pub zones: Vec<HostPattern>,
    /// Its own name, in SOA and NS records.
    pub name_server: String,
    /// The addresses of that name, if it is in one of the zones.
    pub addresses: Vec<IpAddr>,
    /// How long an answer holds.
    pub ttl: Duration,
}

impl Dns {
    /// So long an answer holds by default: an edge that is gone is left after this.
    pub const TTL: Duration = Duration::from_secs(20);
}

/// By what an edge is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// The nearest along the great circle.
    Geo,
    /// The one with the shortest round trip, as clients of the same network have measured it; where they have not, the nearest.
    Measured,
    /// The same, and none that has more to do than it is meant for.
    #[default]
    MeasuredLoad,
}

impl Policy {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Geo => "geo",
            Self::Measured => "measured",
            Self::MeasuredLoad => "measured+load",
        }
    }
}

impl FromStr for Policy {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let all = [Self::Geo, Self::Measured, Self::MeasuredLoad];
        let known = all.into_iter().find(|policy| policy.as_str() == text);
        known.ok_or_else(|| ValueError("\"geo\", \"measured\" or \"measured+load\"".to_owned()))
    }
}

/// What a client is answered over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answer {
    /// A redirect to the edge's own URL.
    #[default]
    Redirect,
    /// 200 and `Alt-Svc` (RFC 7838): the client goes on with the same URL, at the edge.
    AltSvc,
}

impl FromStr for Answer {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "redirect" => Ok(Self::Redirect),
            "alt-svc" => Ok(Self::AltSvc),
            _ => Err(ValueError("\"redirect\" or \"alt-svc\"".to_owned())),
        }
    }
}

/// The web page of a control process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Console {
    /// Whether everybody who reaches the listener may look, also where there are tokens.
    pub open: bool,
    /// A demo that it can break and heal.
    pub demo: Option<Upstream>,
    /// A simulated WAN, where there is no demo around it.
    pub wan: Option<Upstream>,
}
