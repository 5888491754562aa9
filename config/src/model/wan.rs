//! A simulated WAN.

use std::net::SocketAddr;
use std::time::Duration;

use nearside_geo::City;

use crate::values::{HostPort, NodeId};

/// Everything that a simulated WAN is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Wan {
    /// Where it is asked how things are, and told to break and heal.
    pub api: Option<SocketAddr>,
    /// Where browsers come in, each as if it sat in the city that its URL names.
    pub listen: Option<SocketAddr>,
    /// The cities in which they may sit.
    pub viewers: Vec<&'static City>,
    /// Who is where.
    pub places: Vec<WanPlace>,
    /// Ways between them.
    pub links: Vec<WanLink>,
    /// Round trips that are known better than from the distance.
    pub round_trips: Vec<RoundTrip>,
    /// How good the ways are.
    pub quality: Quality,
    /// Runs with the same seed lose and delay alike.
    pub seed: u64,
}

/// Somebody who can be reached.
#[derive(Debug, Clone, PartialEq)]
pub struct WanPlace {
    /// Its name.
    pub name: NodeId,
    /// Where it stands.
    pub city: &'static City,
    /// Where it truly listens.
    pub address: HostPort,
    /// As browsers name it before the city; nothing: they cannot. Empty: the city alone.
    pub door: Option<String>,
}

/// A way from one to another.
#[derive(Debug, Clone, PartialEq)]
pub struct WanLink {
    /// Who comes here.
    pub from: NodeId,
    /// Who is reached.
    pub to: NodeId,
    /// Where.
    pub listen: SocketAddr,
}

/// A round trip that is known.
#[derive(Debug, Clone, PartialEq)]
pub struct RoundTrip {
    /// Between these, in both directions.
    pub between: [&'static City; 2],
    /// How long.
    pub time: Duration,
}

/// How good ways are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// Bits a second of one connection, in each direction.
    pub bits_per_second: u64,
    /// Of how much of a round trip a packet may be late, in thousandths.
    pub jitter_thousandths: u64,
    /// How many of a million packets are lost.
    pub loss_per_million: u64,
}

impl Default for Quality {
    /// Of a good line at home.
    fn default() -> Self {
        Self { bits_per_second: 200_000_000, jitter_thousandths: 10, loss_per_million: 0 }
    }
}
