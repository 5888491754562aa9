//! Limits of a listener: numbers of connections, requests and streams, and deadlines.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

/// Checks whether a peer counts against no network's share.
pub type ExemptPeer = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Maximum numbers of one kind of thing, such as connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareLimits {
    /// In all.
    pub total: usize,
    /// The part of `total` that is kept for exempt peers.
    pub reserved: usize,
    /// Of one client network that is not exempt.
    pub per_network: usize,
}

/// Limits of a listener.
#[derive(Clone)]
pub struct ServeLimits {
    /// Open connections. One whose request has shown a token no longer counts against its network.
    pub connections: ShareLimits,
    /// Requests in progress, without streams.
    pub requests: ShareLimits,
    /// Responses of unknown length: events, logs, the purge log of a node.
    pub streams: ShareLimits,
    /// Bodies above [`UNPROVEN_BYTES_MAX`](super::UNPROVEN_BYTES_MAX) that are read at a time.
    pub large_bodies: usize,
    /// Time for a request head, from the beginning of the connection or from the first byte.
    pub head: Duration,
    /// Time for a request body.
    pub body: Duration,
    /// Time for a whole request; streams are exempt.
    pub request: Duration,
    /// Time that a connection may be open without a request.
    pub idle: Duration,
    /// Time in which a client must take some bytes of its response, streams included.
    pub stall: Duration,
    /// Peers without a network's share.
    pub exempt: ExemptPeer,
}

impl ServeLimits {
    /// The limits of a node's admin listener: operators, scrapers, health checks.
    #[must_use]
    pub fn admin() -> Self {
        Self {
            connections: ShareLimits { total: 256, reserved: 32, per_network: 32 },
            requests: ShareLimits { total: 128, reserved: 16, per_network: 16 },
            streams: ShareLimits { total: 64, reserved: 16, per_network: 16 },
            large_bodies: 8,
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            request: Duration::from_secs(120),
            idle: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            exempt: Arc::new(|peer| peer.to_canonical().is_loopback()),
        }
    }

    /// The limits of a control process: the same for operators, with room for nodes, each of which has a stream and a connection.
    #[must_use]
    pub fn control() -> Self {
        Self {
            connections: ShareLimits { total: 4096, reserved: 64, per_network: 64 },
            requests: ShareLimits { total: 512, reserved: 32, per_network: 64 },
            streams: ShareLimits { total: 2048, reserved: 64, per_network: 1024 },
            ..Self::admin()
        }
    }

    /// The limits of a steering router: many clients, each for one short request. Proxies are exempt.
    #[must_use]
    pub fn router(exempt: ExemptPeer) -> Self {
        Self {
            connections: ShareLimits { total: 10_000, reserved: 256, per_network: 1250 },
            requests: ShareLimits { total: 4096, reserved: 256, per_network: 512 },
            streams: ShareLimits { total: 0, reserved: 0, per_network: 0 },
            body: Duration::from_secs(10),
            request: Duration::from_secs(20),
            idle: Duration::from_secs(10),
            stall: Duration::from_secs(20),
            exempt,
            ..Self::admin()
        }
    }
}

impl fmt::Debug for ServeLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeLimits").field("connections", &self.connections).finish_non_exhaustive()
    }
}

/// The network that one client is taken to own: an IPv4 address, or a /64 of IPv6.
pub(super) fn client_network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_address_or_a_slash_64() {
        for (peer, network) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:3:3:4:5:6", "2001:db8:1:3::"),
        ] {
            assert_eq!(client_network(peer.parse().unwrap()), network.parse::<IpAddr>().unwrap(), "{peer}");
        }
    }
}
