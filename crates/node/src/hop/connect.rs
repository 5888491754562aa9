//! Getting to a next hop: leave to ask it, and a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use pingora_core::protocols::Stream;
use pingora_core::upstreams::peer::HttpPeer;
use tokio::time::timeout;

use super::gate::{Place, Urgency};
use super::{Hop, HopError, Hops, Lack};
use crate::clock::instant;

/// A connection to a hop, with the place there of the request that it is for.
pub(super) struct Connection {
    pub(super) stream: Stream,
    /// It has served before.
    pub(super) reused: bool,
    pub(super) address: SocketAddr,
    pub(super) place: Option<Place>,
}

/// A place at a hop, if it may be asked at all.
pub(super) async fn enter(hop: &Arc<Hop>, urgency: Urgency) -> Result<Option<Place>, HopError> {
    let down = || HopError::Down { hop: Arc::clone(&hop.name) };
    let Some(gate) = &hop.gate else { return if hop.health.admits(instant()) { Ok(None) } else { Err(down()) } };
    if !hop.health.is_in() {
        // A trial does not wait: who cannot make it is answered at once.
        let place = if hop.health.admits(instant()) { gate.try_enter() } else { None };
        return place.map(Some).ok_or_else(down);
    }
    let place = gate.enter(urgency).await.map_err(|_busy| HopError::Busy { hop: Arc::clone(&hop.name) })?;
    // After the wait, in which it may have gone down.
    if hop.health.admits(instant()) { Ok(Some(place)) } else { Err(down()) }
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
        let opened = match Box::pin(self.open(hop, &addresses)).await {
            // Idle connections are no use while new ones cannot be opened.
            Err(HopError::Local { lack: Lack::Descriptors, .. }) if self.pool.clear() => {
                Box::pin(self.open(hop, &addresses)).await
            }
            opened => opened,
        };
        let (stream, address) = opened?;
        Ok(Connection { stream, reused: false, address, place: place.take() })
    }

    /// A new connection, to the first address that there is one to.
    async fn open(&self, hop: &Hop, addresses: &[SocketAddr]) -> Result<(Stream, SocketAddr), HopError> {
        let mut cause = String::from("it has no address");
        let mut lack = None;
        for &address in addresses {
            let sni = if hop.upstream.tls { hop.upstream.host.clone() } else { String::new() };
            let peer = HttpPeer::new(address, hop.upstream.tls, sni);
            // Not by the limits of the peer: for those pingora starts a thread that wakes a hundred times a second.
            match timeout(self.timeouts.connect, self.connector.new_stream(&peer)).await {
                Ok(Ok(stream)) => return Ok((stream, address)),
                Ok(Err(error)) => {
                    cause = error.to_string();
                    lack = Lack::of_connect(&error);
                    if lack == Some(Lack::Descriptors) {
                        break;
                    }
                }
                Err(_elapsed) => {
                    cause = format!("{address} did not take it within {:?}", self.timeouts.connect);
                    lack = None;
                }
            }
        }
        let hop = Arc::clone(&hop.name);
        Err(match lack {
            Some(lack) => HopError::Local { hop, lack, cause },
            None => HopError::Connect { hop, cause },
        })
    }
}
