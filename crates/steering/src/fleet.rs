//! The edges of a fleet, as the process knows them that steers clients.

use std::fmt;

use nearside_config::HostPattern;
use nearside_protocol::Member;

/// Source of the edges that clients can be sent to.
pub trait Fleet: fmt::Debug + Send + Sync {
    /// Calls `visit` for each node that clients can reach: first those of the fleet, then those that have left it, because a
    /// host whose only edge is being restarted still has a name.
    fn for_each_edge(&self, visit: &mut dyn FnMut(&EdgeState<'_>));
}

/// State of one edge.
#[derive(Debug, Clone, Copy)]
pub struct EdgeState<'n> {
    /// The edge, as it describes itself.
    pub member: &'n Member,
    /// Hosts of its sites.
    pub hosts: &'n [HostPattern],
    /// Whether it was heard of lately.
    pub is_alive: bool,
    /// Whether it has left the fleet.
    pub has_left: bool,
    /// Share of its capacity that is in use; `None` if its capacity is unknown.
    pub load: Option<f64>,
}

impl EdgeState<'_> {
    /// Whether one of its sites is of this host.
    pub(crate) fn serves(&self, host: &str) -> bool {
        self.hosts.iter().any(|pattern| pattern.covers(host))
    }

    /// Whether one of its sites names this host, by itself or by a domain above it.
    pub(crate) fn names(&self, host: &str) -> bool {
        self.hosts.iter().any(|pattern| *pattern != HostPattern::Any && pattern.covers(host))
    }

    /// Whether one of its sites is of a host that ends with `end`.
    pub(crate) fn serves_below(&self, end: &str) -> bool {
        self.hosts.iter().any(|pattern| pattern.to_string().ends_with(end))
    }
}

/// Whether `holds` is true for an edge.
pub(crate) fn any(fleet: &dyn Fleet, holds: impl Fn(&EdgeState<'_>) -> bool) -> bool {
    let mut found = false;
    fleet.for_each_edge(&mut |edge| found = found || holds(edge));
    found
}
