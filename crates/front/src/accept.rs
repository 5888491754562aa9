//! Listeners: binding, accepting, and the number of connections.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use nearside_engine::request::refusal::Refusal;
use nearside_semantics::key::Scheme;
use nearside_telemetry::clock::instant;
use nearside_telemetry::reason::Reason;
use nearside_telemetry::record::Client;
use parking_lot::Mutex;
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsAcceptor;

use super::shares::{Applicant, Entry};
use super::transport::Transport;
use super::{FIRST_REQUEST, Worker, h1, h2};

/// Connections that the kernel holds while all threads are busy.
const BACKLOG: i32 = 4096;
/// A pause after accepting has failed, for want of file descriptors for example, so that it is not tried in a loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time between two log lines that say that accepting fails.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {cause}{}", nearside_listen::advice(*address, cause))]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub cause: io::Error,
}

/// A bound address. Each serving thread has a socket of its own, among which the kernel shares out new connections.
#[derive(Debug)]
pub struct Listener {
    /// By thread; gone once the thread has taken its own, so that it is closed as soon as that thread stops accepting.
    sockets: Mutex<Vec<Option<StdListener>>>,
    /// Address of the listener, with the port that the system chose.
    pub address: SocketAddr,
    /// TLS settings; `None` for a listener without TLS.
    pub tls: Option<Arc<ServerConfig>>,
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
            let others = (1..threads).map(|_| listening(bound, shared).map(Some));
            let sockets = std::iter::once(Ok(Some(first))).chain(others).collect::<io::Result<_>>()?;
            Ok(Self { sockets: Mutex::new(sockets), address: bound, tls })
        };
        bind().map_err(|cause| ListenError { address, cause })
    }

    /// The same, and where the address means all of a machine without IPv6, on those that it has.
    ///
    /// # Errors
    ///
    /// The system refuses the address.
    pub fn bind_or_ipv4(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        threads: usize,
    ) -> Result<Self, ListenError> {
        match Self::bind(address, tls.clone(), threads) {
            Ok(listener) => Ok(listener),
            Err(error) => match nearside_listen::ipv4_instead(address, &error.cause) {
                Some(instead) => Self::bind(instead, tls, threads),
                None => Err(error),
            },
        }
    }

    /// Takes the socket of a serving thread, which has one.
    ///
    /// # Errors
    ///
    /// The thread has taken its socket before, or the runtime refuses it.
    pub fn take(&self, thread: usize) -> io::Result<TcpListener> {
        let socket = self.sockets.lock().get_mut(thread).and_then(Option::take);
        TcpListener::from_std(socket.ok_or(io::ErrorKind::NotFound)?)
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

/// Counts the listening sockets that still take connections, or hold some in their queue.
#[derive(Debug)]
pub struct Accepting(Arc<AtomicUsize>);

impl Accepting {
    /// Counts one more accepting listener, until this is dropped.
    pub fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// Accepts connections until the worker drains, then those that the kernel has already accepted, and closes the socket.
///
/// Closing a listening socket resets the connections in its queue, whose clients may have sent a request. `_accepting` is
/// dropped when all of them have a place.
///
/// # Errors
///
/// The thread has no socket of this listener any more, or the runtime refuses it.
pub async fn run(listener: Arc<Listener>, worker: Arc<Worker>, _accepting: Accepting) -> io::Result<()> {
    let socket = listener.take(worker.thread)?;
    let mut door = Door { acceptor: listener.tls.clone().map(TlsAcceptor::from), worker, told: None };
    let worker = Arc::clone(&door.worker);
    let drained = worker.drained.notified();
    tokio::pin!(drained);
    drained.as_mut().enable();
    while !worker.is_draining() {
        tokio::select! {
            accepted = socket.accept() => door.admit(accepted).await,
            () = &mut drained => break,
        }
    }
    // Not through the runtime, which may not have heard yet of what has just been queued.
    let socket = socket.into_std()?;
    loop {
        match socket.accept() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Ok((stream, client)) => {
                let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                door.admit(stream.map(|stream| (stream, client))).await;
            }
            Err(error) => door.admit(Err(error)).await,
        }
    }
}

/// What becomes of accepted connections.
struct Door {
    acceptor: Option<TlsAcceptor>,
    worker: Arc<Worker>,
    /// When it was last told that accepting fails.
    told: Option<Instant>,
}

impl Door {
    /// Gives a connection a place and a task. After an error it waits, so that nothing is tried in a loop.
    async fn admit(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        let (socket, client) = match accepted {
            Ok(accepted) => accepted,
            // The client has left already.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {
                return;
            }
            Err(error) => return self.failed(&error).await,
        };
        let entry = self.worker.shares.enter(client.ip());
        if matches!(entry, Entry::Refused) {
            // Dropped at once: whoever holds all that its network may have costs no more than this.
            return Transport::Clear(socket).abort_on_close();
        }
        // Taken for a connection that is there, so that no thread keeps places for what others could accept.
        let Some(place) = self.worker.places.take().await else { return };
        let (acceptor, worker) = (self.acceptor.clone(), Arc::clone(&self.worker));
        tokio::spawn(connection(socket, client, acceptor, worker, (place, entry)));
    }

    async fn failed(&mut self, error: &io::Error) {
        let now = instant();
        if self.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_AGAIN) {
            tracing::warn!(%error, "cannot accept connections; trying again every {ACCEPT_PAUSE:?}");
            self.told = Some(now);
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

async fn connection(
    socket: TcpStream,
    address: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    worker: Arc<Worker>,
    (place, entry): (OwnedSemaphorePermit, Entry),
) {
    let _open = Open::new(&worker, place);
    let client = Client::new(address);
    // What is rare, and what is large, lives on the heap: a connection must not be as large as a handshake, nor as one that
    // speaks HTTP/2.
    let (socket, member) = match entry {
        Entry::Within(member) => (socket, member),
        Entry::Beyond(applicant) => match Box::pin(applicant.admitted()).await {
            Ok(member) => (socket, member),
            Err(waiting) => return Box::pin(refuse(socket, client, acceptor.is_some(), &worker, &waiting)).await,
        },
        Entry::Refused => return,
    };
    let Some(acceptor) = acceptor else {
        return h1::serve(Transport::Clear(socket), client, Scheme::Http, &worker, &member).await;
    };
    let start = instant();
    let shaken = match Box::pin(first_byte(&socket, &worker)).await {
        Some(byte) if h1::opening::is_token(byte) => {
            worker.metrics.tls_handshake_failures_total.fetch_add(1, Ordering::Relaxed);
            let refusal = Refusal::bad(Reason::HttpOnTls);
            let io = Transport::Clear(socket);
            return Box::pin(h1::refuse(io, client, Scheme::Http, &worker, &member, refusal)).await;
        }
        Some(_) => Box::pin(shake_hands(acceptor, socket, &worker, start)).await,
        None => None,
    };
    match shaken {
        Some((io, true)) => Box::pin(h2::serve(io, client, &worker, Arc::new(member))).await,
        Some((io, false)) => h1::serve(io, client, Scheme::Https, &worker, &member).await,
        None => {
            worker.metrics.tls_handshake_failures_total.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Refuses a connection whose network has too many: with a response where that costs no handshake.
async fn refuse(socket: TcpStream, client: Client, is_tls: bool, worker: &Arc<Worker>, waiting: &Applicant) {
    let io = Transport::Clear(socket);
    if is_tls {
        return io.abort_on_close();
    }
    let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, Reason::ClientConnections);
    h1::refuse(io, client, Scheme::Http, worker, waiting.member(), refusal).await;
}

/// The first byte that a client sends, which stays unread; `None` if none comes in time.
async fn first_byte(socket: &TcpStream, worker: &Worker) -> Option<u8> {
    let mut first = [0];
    let drained = worker.drained.notified();
    tokio::select! {
        peeked = socket.peek(&mut first) => matches!(peeked, Ok(1..)).then_some(first).map(|[byte]| byte),
        () = tokio::time::sleep(worker.engine.config.timeouts.head) => None,
        () = async {
            if !worker.is_draining() {
                drained.await;
            }
            tokio::time::sleep(FIRST_REQUEST).await;
        } => None,
    }
}

/// The encrypted connection, and whether HTTP/2 was agreed on.
async fn shake_hands(
    acceptor: TlsAcceptor,
    socket: TcpStream,
    worker: &Worker,
    start: Instant,
) -> Option<(Transport, bool)> {
    let deadline = start + worker.engine.config.timeouts.head;
    let accepted = tokio::time::timeout_at(deadline.into(), acceptor.accept(socket)).await;
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
