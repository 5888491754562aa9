//! Getting a connection to a next hop.

use std::net::SocketAddr;
use std::sync::Arc;

use pingora_core::protocols::Stream;
use pingora_core::upstreams::peer::HttpPeer;
use tokio::time::timeout;

use super::gate::Place;
use super::{Hop, HopError, Hops};
use crate::clock::instant;

/// A connection to a hop, with the place there of the request that it is for.
pub(super) struct Connection {
    pub(super) stream: Stream,
    /// It has served before.
    pub(super) reused: bool,
    pub(super) address: SocketAddr,
    pub(super) place: Option<Place>,
}

impl Hops {
    /// A connection to a hop, which takes over the place there.
    pub(super) async fn connect(
        &self,
        hop: &Arc<Hop>,
        pooled: bool,
        place: &mut Option<Place>,
    ) -> Result<Connection, HopError> {
        let now = instant();
        let addresses = hop.resolved.addresses(&hop.upstream).await?;
        if let Some((stream, address)) = pooled.then(|| self.pool.take(hop, &addresses, now)).flatten() {
            return Ok(Connection { stream, reused: true, address, place: place.take() });
        }
        // Rare, and large.
        let (stream, address) = Box::pin(self.open(hop, &addresses)).await?;
        Ok(Connection { stream, reused: false, address, place: place.take() })
    }

    /// A new connection, to the first address that there is one to.
    async fn open(&self, hop: &Hop, addresses: &[SocketAddr]) -> Result<(Stream, SocketAddr), HopError> {
        let mut cause = String::from("it has no address");
        for &address in addresses {
            let sni = if hop.upstream.tls { hop.upstream.host.clone() } else { String::new() };
            let peer = HttpPeer::new(address, hop.upstream.tls, sni);
            // Not by the limits of the peer: for those pingora starts a thread that wakes a hundred times a second.
            match timeout(self.timeouts.connect, self.connector.new_stream(&peer)).await {
                Ok(Ok(stream)) => return Ok((stream, address)),
                Ok(Err(error)) => cause = error.to_string(),
                Err(_elapsed) => cause = format!("{address} did not take it within {:?}", self.timeouts.connect),
            }
        }
        Err(HopError::Connect { hop: Arc::clone(&hop.name), cause })
    }
}
