//! A node of a fleet, as it describes itself.

use std::net::{IpAddr, SocketAddr};

use nearside_geo::Place;
use serde::{Deserialize, Serialize};

/// A node, as it tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name; no two nodes of a fleet have the same.
    pub id: String,
    /// `edge` or `shield`.
    pub role: String,
    /// Where it stands.
    pub city: Option<String>,
    /// The version of the program.
    pub version: String,
    /// Its sites.
    pub sites: Vec<Site>,
    /// Where it is on earth.
    #[serde(default)]
    pub place: Option<Place>,
    /// How clients reach it; nothing of a shield.
    #[serde(default)]
    pub reach: Option<Reach>,
    /// Where its admin listener is.
    #[serde(default)]
    pub admin: Option<SocketAddr>,
}

impl Member {
    /// The node as it is seen by who hears of it from the address `from`: an admin listener on all addresses is at that one, and one on
    /// the loopback of another machine is not reached from here.
    #[must_use]
    pub fn seen_from(mut self, from: IpAddr) -> Self {
        let from = from.to_canonical();
        let reached = |admin: SocketAddr| {
            if admin.ip().is_unspecified() {
                return Some(SocketAddr::new(from, admin.port()));
            }
            (from.is_loopback() || !admin.ip().to_canonical().is_loopback()).then_some(admin)
        };
        self.admin = self.admin.and_then(reached);
        self
    }
}

/// How clients reach an edge.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reach {
    /// Its own URL, with `{host}` for the one that the client has asked for.
    pub url: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Requests a second that it is meant for.
    pub capacity: Option<u64>,
}

/// A site of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// The hosts that it answers for, as patterns.
    pub hosts: Vec<String>,
}
