//! Listening: where, without IPv6 too, and until it is told to stop.

use std::collections::VecDeque;
use std::future::{Future, IntoFuture, pending};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request};
use axum::serve::{IncomingStream, Listener};
use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// How long a server that stops waits for requests that are under way, and for streams that have no end.
const STOP_MAX: Duration = Duration::from_secs(2);
/// How long connections that were accepted last of all are waited for.
const FIRST_REQUEST: Duration = Duration::from_millis(250);
/// Pause after accepting has failed, for want of file descriptors for example.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Listens on `address`, and where that means all addresses of a machine without IPv6, on those that it has.
///
/// # Errors
///
/// The system refuses the address.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if lacks_ipv6(address, &error) => match ipv4_instead(address) {
            Some(instead) => TcpListener::bind(instead).await,
            None => Err(error),
        },
        bound => bound,
    }
}

/// Whether the system refuses an IPv6 address because it has no IPv6 at all, or none on any interface.
#[must_use]
pub fn lacks_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    let says_so = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    let is_own = matches!(address, SocketAddr::V6(v6) if v6.ip().is_unspecified() || *v6.ip() == Ipv6Addr::LOCALHOST);
    address.is_ipv6()
        && (says_so(Errno::AFNOSUPPORT) || says_so(Errno::PROTONOSUPPORT) || is_own && says_so(Errno::ADDRNOTAVAIL))
}

/// The address for IPv4 only that stands in for one that means every address of the machine; says so in the log.
#[must_use]
pub fn ipv4_instead(address: SocketAddr) -> Option<SocketAddr> {
    let instead = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
    let means_all = address.is_ipv6() && address.ip().is_unspecified();
    means_all.then(|| {
        tracing::warn!(%address, "this machine has no IPv6: listening on {instead} only");
        instead
    })
}

/// What to do about an address that cannot be listened on, to be put behind the error of the system; empty if that says it.
#[must_use]
pub fn advice(address: SocketAddr, error: &io::Error) -> &'static str {
    if lacks_ipv6(address, error) {
        return "; this machine has no IPv6: use an IPv4 address, such as 127.0.0.1 in place of [::1], or enable IPv6 \
                (sysctl net.ipv6.conf.all.disable_ipv6=0)";
    }
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            "; it is not an address of this machine: name one that is, or \":PORT\" for all"
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need a privilege: use a higher port, or grant CAP_NET_BIND_SERVICE"
        }
        _ => "",
    }
}

/// Serves `routes` until `stop`, then what the kernel has accepted already, and the requests that are under way.
///
/// # Errors
///
/// The listener cannot be used.
pub async fn serve(listener: TcpListener, routes: Router, stop: impl Future<Output = ()>) -> io::Result<()> {
    let (stopping, stopped) = watch::channel(false);
    let emptied = Arc::new(Notify::new());
    let address = listener.local_addr()?;
    let queue =
        Queue { socket: Some(listener), address, queued: VecDeque::new(), stopped, emptied: Arc::clone(&emptied) };
    let routes = routes.layer(axum::middleware::map_request(name_peer)).into_make_service_with_connect_info::<Peer>();
    let ends = async move {
        emptied.notified().await;
        tokio::time::sleep(FIRST_REQUEST).await;
    };
    let serving = axum::serve(queue, routes).with_graceful_shutdown(ends).into_future();
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return ended,
        () = stop => {}
    }
    stopping.send_replace(true);
    tokio::time::timeout(STOP_MAX, serving).await.unwrap_or(Ok(()))
}

/// Closes a listening socket, and returns the connections that were in its queue, which the kernel bounds.
#[must_use]
pub fn close(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let mut queued = Vec::new();
    // Not through the runtime, which may not have heard yet of what has just been queued.
    let Ok(socket) = listener.into_std() else { return queued };
    while let Ok((stream, peer)) = socket.accept() {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            queued.push((stream, peer));
        }
    }
    queued
}

/// The address of a client.
#[derive(Debug, Clone, Copy)]
struct Peer(SocketAddr);

impl Connected<IncomingStream<'_, Queue>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Queue>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// Gives handlers the address of the client as they expect it.
async fn name_peer(mut request: Request) -> Request {
    if let Some(ConnectInfo(Peer(address))) = request.extensions().get::<ConnectInfo<Peer>>().cloned() {
        request.extensions_mut().insert(ConnectInfo::<SocketAddr>(address));
    }
    request
}

/// A listening socket that is closed only once nothing is left in its queue.
///
/// Closing it earlier would reset connections that the kernel has accepted, whose clients may have sent a request.
struct Queue {
    /// `None` once it is closed.
    socket: Option<TcpListener>,
    address: SocketAddr,
    queued: VecDeque<(TcpStream, SocketAddr)>,
    stopped: watch::Receiver<bool>,
    /// Told when the last connection has been handed out.
    emptied: Arc<Notify>,
}

impl Listener for Queue {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        while let Some(socket) = &self.socket {
            let accepted = tokio::select! {
                biased;
                _ = self.stopped.wait_for(|stopped| *stopped) => None,
                accepted = socket.accept() => Some(accepted),
            };
            match accepted {
                Some(Ok(accepted)) => return accepted,
                Some(Err(error)) => {
                    tracing::debug!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
                None => self.queued.extend(self.socket.take().map(close).unwrap_or_default()),
            }
        }
        if let Some(queued) = self.queued.pop_front() {
            return queued;
        }
        self.emptied.notify_one();
        pending().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    use super::*;

    fn refused(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.raw_os_error())
    }

    #[test]
    fn ipv4_stands_in_for_all_addresses_only() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (text, errno, lacks, instead) in [
            ("[::]:80", Errno::AFNOSUPPORT, true, Some("0.0.0.0:80")),
            ("[::]:80", Errno::ADDRNOTAVAIL, true, Some("0.0.0.0:80")),
            ("[::1]:80", Errno::AFNOSUPPORT, true, None),
            ("[::1]:80", Errno::ADDRNOTAVAIL, true, None),
            ("[2001:db8::1]:80", Errno::AFNOSUPPORT, true, None),
            ("[2001:db8::1]:80", Errno::ADDRNOTAVAIL, false, None),
            ("[::]:80", Errno::ADDRINUSE, false, Some("0.0.0.0:80")),
            ("127.0.0.1:80", Errno::AFNOSUPPORT, false, None),
        ] {
            let (found, error) = (address(text), refused(errno));
            assert_eq!(lacks_ipv6(found, &error), lacks, "{text} {errno:?}");
            assert_eq!(ipv4_instead(found), instead.map(address), "{text}");
            assert_eq!(advice(found, &error).contains("no IPv6"), lacks, "{text} {errno:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_stops_answers_whatever_the_kernel_has_accepted() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let peer = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() };
        let routes = Router::new().route("/", get(peer));
        // Nothing is accepted before the server runs, so that all of these wait in the queue. Some have yet to ask.
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let mut clients = Vec::new();
        for late in [false, true].into_iter().cycle().take(40) {
            let mut client = std::net::TcpStream::connect(address).unwrap();
            if !late {
                io::Write::write_all(&mut client, request).unwrap();
            }
            client.set_nonblocking(true).unwrap();
            clients.push((late, TcpStream::from_std(client).unwrap()));
        }
        stop.send(()).unwrap();
        let serving =
            tokio::spawn(
                async move { serve(listener, routes, async move { stopped.await.unwrap_or_default() }).await },
            );
        until_closed(address).await;
        for (late, client) in &mut clients {
            if *late {
                client.write_all(request).await.unwrap();
            }
        }
        for (_, mut client) in clients {
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            assert!(answer.ends_with(&client.local_addr().unwrap().to_string()), "{answer}");
        }
        serving.await.unwrap().unwrap();
    }

    async fn until_closed(address: SocketAddr) {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
