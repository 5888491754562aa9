//! Listeners: binding, accepting, and the number of connections.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nearside_semantics::key::Scheme;
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use super::transport::Transport;
use super::{Worker, h1, h2};
use crate::clock::instant;
use crate::request::finish::Client;

/// Connections that the kernel holds while all threads are busy.
const BACKLOG: i32 = 4096;
/// A pause after accepting has failed, for want of file descriptors for example, so that it is not tried in a loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {cause}")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub cause: io::Error,
}

/// A bound address. Each serving thread has a socket of its own, among which the kernel shares out new connections.
#[derive(Debug)]
pub(crate) struct Listener {
    sockets: Vec<StdListener>,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

impl Listener {
    pub(crate) fn bind(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        threads: usize,
    ) -> Result<Self, ListenError> {
        let bind = || {
            let shared = threads > 1;
            if shared {
                // Sockets that share would share with those of another process, too: that must fail instead.
                socket(address, false)?;
            }
            let first = listening(address, shared)?;
            let bound = first.local_addr()?;
            let others = (1..threads).map(|_| listening(bound, shared));
            let sockets = std::iter::once(Ok(first)).chain(others).collect::<io::Result<_>>()?;
            Ok(Self { sockets, address: bound, tls })
        };
        bind().map_err(|cause| ListenError { address, cause })
    }

    /// The socket of a serving thread.
    pub(crate) fn socket(&self, thread: usize) -> io::Result<TcpListener> {
        let socket = self.sockets.get(thread).ok_or(io::ErrorKind::NotFound)?;
        TcpListener::from_std(socket.try_clone()?)
    }
}

/// A socket that is bound, and may share its address with others that say the same.
fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listening(address: SocketAddr, shared: bool) -> io::Result<StdListener> {
    let socket = socket(address, shared)?;
    // An answer is written at once; waiting for more to send would only delay it. Connections inherit this.
    socket.set_tcp_nodelay(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts connections until the worker drains. The returned permits show when the last connection has ended.
pub(crate) async fn run(listener: Arc<Listener>, worker: Arc<Worker>, places: Arc<Semaphore>) -> io::Result<()> {
    let socket = listener.socket(worker.thread)?;
    let acceptor = listener.tls.clone().map(TlsAcceptor::from);
    let drained = worker.drained.notified();
    tokio::pin!(drained);
    drained.as_mut().enable();
    while !worker.is_draining() {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = &mut drained => break,
        };
        match accepted {
            Ok((socket, client)) => {
                let worker = Arc::clone(&worker);
                // Taken for a connection that is there, so that no thread keeps places for what others could accept.
                let place = tokio::select! {
                    place = Arc::clone(&places).acquire_owned() => place,
                    () = &mut drained => break,
                };
                let Ok(place) = place else { break };
                let client = Client::new(client);
                tokio::spawn(connection(socket, client, acceptor.clone(), worker, place));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    Ok(())
}

async fn connection(
    socket: TcpStream,
    client: Client,
    acceptor: Option<TlsAcceptor>,
    worker: Arc<Worker>,
    place: OwnedSemaphorePermit,
) {
    let _open = Open::new(&worker, place);
    let Some(acceptor) = acceptor else {
        return h1::serve(Transport::Clear(socket), client, Scheme::Http, &worker).await;
    };
    // On the heap: a connection must not be as large as a handshake, nor as one that speaks HTTP/2.
    match Box::pin(shake_hands(acceptor, socket, &worker)).await {
        Some((io, true)) => Box::pin(h2::serve(io, client, &worker)).await,
        Some((io, false)) => h1::serve(io, client, Scheme::Https, &worker).await,
        None => {
            worker.metrics.tls_handshake_failures_total.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The encrypted connection, and whether HTTP/2 was agreed on.
async fn shake_hands(acceptor: TlsAcceptor, socket: TcpStream, worker: &Worker) -> Option<(Transport, bool)> {
    let start = instant();
    let accepted = tokio::time::timeout(worker.engine.config.timeouts.head, acceptor.accept(socket)).await;
    let stream = accepted.ok()?.ok()?;
    worker.metrics.tls_handshakes.add(start.elapsed());
    let speaks_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Some((Transport::Tls(Box::new(stream)), speaks_h2))
}

/// Counts a connection while it is open.
struct Open<'w> {
    worker: &'w Worker,
    _place: OwnedSemaphorePermit,
}

impl<'w> Open<'w> {
    fn new(worker: &'w Worker, place: OwnedSemaphorePermit) -> Self {
        worker.metrics.connections_total.fetch_add(1, Ordering::Relaxed);
        worker.metrics.connections_open.fetch_add(1, Ordering::Relaxed);
        Self { worker, _place: place }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.worker.metrics.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}
