//! Getting a connection to a next hop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nearside_telemetry::clock::instant;
use parking_lot::Mutex;
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddress;
use pingora_core::protocols::l4::stream::Stream as TcpLayer;
use pingora_core::protocols::l4::virt::VirtualSocketStream;
use pingora_core::upstreams::peer::HttpPeer;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::gate::Place;
use super::{Hop, HopError, Hops, Lack};

/// Time that one address has before the next one is tried beside it (Connection Attempt Delay, RFC 8305 §5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// A connection to a hop, with the place there of the request that it is for.
pub(super) struct Connection {
    pub(super) stream: Stream,
    /// It has served before.
    pub(super) reused: bool,
    pub(super) address: SocketAddr,
    pub(super) place: Option<Place>,
}

/// Reason why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address refuses, or cannot be reached.
    #[error("{address}: {source}")]
    Refused { address: SocketAddr, source: io::Error },
    /// The address takes no connection in time.
    #[error("{address}: no connection within {limit:?}")]
    TimedOut { address: SocketAddr, limit: Duration },
    /// The TLS handshake failed, or took too long.
    #[error("{address}: TLS handshake: {cause}")]
    Tls { address: SocketAddr, cause: String },
    /// This machine cannot open another socket: that says nothing about the next hop.
    #[error("cannot open a socket: {0}")]
    Local(io::Error),
}

impl Hops {
    /// A connection to a hop, which takes over the place there.
    pub(super) async fn connect(
        &self,
        hop: &Arc<Hop>,
        pooled: bool,
        place: &mut Option<Place>,
    ) -> Result<Connection, HopError> {
        // An idle connection needs no name, only to be to an address that the name had when it was last looked up.
        if let Some(known) = hop.resolved.known().filter(|_| pooled)
            && let Some((stream, address)) = self.pool.take(hop, &known, instant())
        {
            return Ok(Connection { stream, reused: true, address, place: place.take() });
        }
        let resolve = |cause| HopError::Resolve { hop: Arc::clone(&hop.name), name: hop.upstream.host.clone(), cause };
        let addresses = hop.resolved.addresses().await.map_err(resolve)?;
        // Rare, and large.
        let opened = match Box::pin(self.open(hop, addresses.clone())).await {
            // Idle connections are no use while new ones cannot be opened.
            Err(ConnectError::Local(error)) if lacks_descriptors(&error) && self.pool.clear() => {
                Box::pin(self.open(hop, addresses)).await
            }
            opened => opened,
        };
        let (stream, address) = opened.map_err(|source| hop.not_connected(source))?;
        hop.resolved.works(address.ip());
        Ok(Connection { stream, reused: false, address, place: place.take() })
    }

    /// A new connection: to the first address that takes one, and that TLS can be spoken with.
    async fn open(&self, hop: &Hop, mut addresses: Vec<SocketAddr>) -> Result<(Stream, SocketAddr), ConnectError> {
        loop {
            let begun = instant();
            let (socket, address) = race(&addresses, self.timeouts.connect).await?;
            // The time is for both; the delays of the race are not counted against TLS.
            let left =
                self.timeouts.connect.saturating_sub(instant().saturating_duration_since(begun)).max(ATTEMPT_DELAY);
            match self.handshake(hop, socket, address, left).await {
                Ok(stream) => return Ok((stream, address)),
                Err(error) => {
                    addresses.retain(|other| *other != address);
                    if addresses.is_empty() {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Speaks TLS on a connection, where the hop does, and gives it to pingora.
    async fn handshake(
        &self,
        hop: &Hop,
        socket: TcpStream,
        address: SocketAddr,
        limit: Duration,
    ) -> Result<Stream, ConnectError> {
        let layer = if hop.upstream.tls {
            match timeout(limit, self.tls.handshake(&hop.upstream.host, socket)).await {
                Ok(Ok(encrypted)) => TcpLayer::from(VirtualSocketStream::new(Box::new(encrypted))),
                Ok(Err(error)) => return Err(ConnectError::Tls { address, cause: error.to_string() }),
                Err(_elapsed) => {
                    return Err(ConnectError::Tls { address, cause: format!("not finished within {limit:?}") });
                }
            }
        } else {
            TcpLayer::from(socket)
        };
        // Without limits of the peer: for those pingora starts a thread that wakes a hundred times a second.
        let mut peer = HttpPeer::new(address, false, String::new());
        peer.options.custom_l4 = Some(Arc::new(Connected(Mutex::new(Some(layer)))));
        let refused = |error| ConnectError::Refused { address, source: io::Error::other(describe(&error)) };
        self.connector.new_stream(&peer).await.map_err(refused)
    }
}

/// The text of a pingora error, once. Its own `Display` repeats every layer that it was wrapped in.
fn describe(error: &pingora_core::BError) -> String {
    let cause = match &error.cause {
        Some(cause) => match cause.downcast_ref::<pingora_core::BError>() {
            Some(inner) => return describe(inner),
            // Which of our addresses it was says nothing about the other end.
            None => Some(cause.to_string()).filter(|cause| !cause.starts_with("local address")),
        },
        None => None,
    };
    match (&error.context, cause) {
        (Some(context), Some(cause)) if !context.as_str().contains(&cause) => format!("{context}: {cause}"),
        (Some(context), _) => context.as_str().to_owned(),
        (None, Some(cause)) => cause,
        (None, None) => error.etype.as_str().to_owned(),
    }
}

/// Gives pingora a connection that there is already.
#[derive(Debug)]
struct Connected(Mutex<Option<TcpLayer>>);

#[async_trait]
impl L4Connect for Connected {
    async fn connect(&self, _address: &PeerAddress) -> pingora_core::Result<TcpLayer> {
        self.0.lock().take().ok_or_else(|| pingora_core::Error::new_str("the connection was used already"))
    }
}

/// Connects to the addresses in their order, to the next one when one fails or has not answered for [`ATTEMPT_DELAY`]; the
/// first connection counts (RFC 8305 §5). Each attempt has `limit`.
async fn race(addresses: &[SocketAddr], limit: Duration) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let mut attempts = JoinSet::new();
    let mut waiting = addresses.iter().copied();
    let mut failed = None;
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(attempt(address, limit));
        }
        let next = attempts.join_next();
        let ended = if waiting.len() == 0 { next.await } else { timeout(ATTEMPT_DELAY, next).await.unwrap_or(None) };
        match ended {
            Some(Ok(Ok(connected))) => return Ok(connected),
            Some(Ok(Err(error))) => failed = Some(worse(failed, error)),
            // The attempts are neither cancelled nor do they panic; what else ends with nothing is the delay.
            Some(Err(_)) | None => {}
        }
        if attempts.is_empty() && waiting.len() == 0 {
            let none = || ConnectError::Local(io::Error::other("there is no address"));
            return Err(failed.unwrap_or_else(none));
        }
    }
}

/// Of two failures the one that says more about the next hop; of equals the later one.
fn worse(before: Option<ConnectError>, error: ConnectError) -> ConnectError {
    let weight = |error: &ConnectError| match error {
        ConnectError::Local(_) => 0,
        ConnectError::TimedOut { .. } => 1,
        ConnectError::Refused { .. } | ConnectError::Tls { .. } => 2,
    };
    before.filter(|before| weight(before) > weight(&error)).unwrap_or(error)
}

async fn attempt(address: SocketAddr, limit: Duration) -> Result<(TcpStream, SocketAddr), ConnectError> {
    match timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(socket)) => Ok((socket, address)),
        Ok(Err(error)) if Lack::of_io(&error).is_some() => Err(ConnectError::Local(error)),
        Ok(Err(source)) => Err(ConnectError::Refused { address, source }),
        Err(_elapsed) => Err(ConnectError::TimedOut { address, limit }),
    }
}

/// Whether no file descriptor is left.
fn lacks_descriptors(error: &io::Error) -> bool {
    Lack::of_io(error) == Some(Lack::Descriptors)
}

impl Hop {
    /// The error of a request that no connection could be made for.
    fn not_connected(&self, source: ConnectError) -> HopError {
        let hop = Arc::clone(&self.name);
        if let ConnectError::Local(error) = &source
            && let Some(lack) = Lack::of_io(error)
        {
            return HopError::Local { hop, lack, cause: error.to_string() };
        }
        // Other addresses may be right by now.
        self.resolved.fails();
        HopError::Connect { hop, source }
    }
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};
    use tokio::net::TcpListener;

    use super::*;

    /// An address whose queue of connections is full: to who connects now it says nothing.
    async fn silent() -> (SocketAddr, Socket, Vec<TcpStream>) {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        while let Ok(socket) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            queued.push(socket.unwrap());
            assert!(queued.len() < 64, "the queue has no end");
        }
        (address, listener, queued)
    }

    /// An address at which nothing listens.
    async fn refusing() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn an_address_that_is_silent_does_not_hold_up_the_next_one() {
        let (silent, _listener, _queued) = silent().await;
        let living = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = living.local_addr().unwrap();
        // One after the other they would take an hour.
        let addresses = [silent, refusing().await, address];
        let connected = race(&addresses, Duration::from_secs(3600));
        let (_, winner) = timeout(Duration::from_secs(30), connected).await.expect("in time").unwrap();
        assert_eq!(winner, address);
    }

    #[tokio::test]
    async fn each_way_to_fail_has_an_error_of_its_own() {
        let refusing = refusing().await;
        let error = race(&[refusing], Duration::from_secs(10)).await.unwrap_err();
        assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
        assert_eq!(error.to_string().matches("refused").count(), 1, "{error}");
        let (silent, _listener, _queued) = silent().await;
        let error = race(&[silent], Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.to_string(), format!("{silent}: no connection within 50ms"));
        let error = race(&[refusing, silent], Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
        assert!(matches!(race(&[], Duration::from_secs(1)).await, Err(ConnectError::Local(_))));
    }
}
