//! The server of control, admin and steering listeners: HTTP/1 with deadlines, and with limits for each client network.
//!
//! **Invariants:** a connection that makes no progress is closed ([`Progress`]); no network takes the places of others
//! ([`Shares`]); no more than [`UNPROVEN_BYTES_MAX`] of a body is read before the request has shown that it is admitted
//! ([`UnreadBody`]); no page of another site reads a response by a name that leads here ([`HostRule`]).

mod body;
mod connection;
mod hosts;
mod limits;
mod progress;
mod shares;
mod socket;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub use body::{UNPROVEN_BYTES_MAX, UnreadBody};
pub use hosts::HostRule;
pub use limits::{ExemptPeer, ServeLimits, ShareLimits};
use nearside_protocol::Problem;
use shares::{Full, Share, Shares};

/// Time for requests in progress, and for streams, when a server stops.
const STOP_MAX: Duration = Duration::from_secs(2);
/// Time for the first request on connections that were accepted last.
const FIRST_REQUEST: Duration = Duration::from_millis(250);
/// Pause after accepting has failed, for want of file descriptors for example.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// Refused connections that are told why at a time; others are only closed.
const REFUSALS_MAX: usize = 64;

/// A server, before it listens.
#[derive(Debug, Clone)]
pub struct Server {
    limits: ServeLimits,
    hosts: Option<HostRule>,
    counts: Arc<ServerCounts>,
}

/// What a server counts.
#[derive(Debug, Default)]
pub struct ServerCounts {
    /// Connections that are open.
    pub open: AtomicU64,
    /// Connections, requests and streams that found no place.
    pub refused: AtomicU64,
    /// Connections that were closed because a deadline had passed.
    pub overdue: AtomicU64,
}

/// One number of a server, as metrics tell it.
#[derive(Debug, Clone, Copy)]
pub struct ServerCount {
    /// Its name, without prefix and suffix.
    pub name: &'static str,
    /// Whether it only grows.
    pub is_counter: bool,
    /// What it is, and what to do.
    pub help: &'static str,
    /// The number.
    pub value: u64,
}

impl ServerCounts {
    /// All numbers, for metrics.
    #[must_use]
    pub fn all(&self) -> [ServerCount; 3] {
        let count = |name, is_counter, help, value: &AtomicU64| ServerCount {
            name,
            is_counter,
            help,
            value: value.load(Ordering::Relaxed),
        };
        let open =
            "Connections to a listener for operators, nodes or the router. When it stays high, look who holds them";
        let refused = "Connections, requests and streams of such a listener that found no place. When it rises, one network or all \
                       clients take too much: put a firewall before the listener";
        let overdue = "Connections to such a listener that were closed at a deadline. When it rises, clients begin requests and do \
                       not end them";
        [
            count("listener_connections_open", false, open, &self.open),
            count("listener_refused", true, refused, &self.refused),
            count("listener_overdue", true, overdue, &self.overdue),
        ]
    }
}

impl Server {
    /// A server with limits, for whoever asks under any name.
    #[must_use]
    pub fn new(limits: ServeLimits) -> Self {
        Self { limits, hosts: None, counts: Arc::default() }
    }

    /// The same server, which answers only under the names of a rule.
    #[must_use]
    pub fn under(self, hosts: HostRule) -> Self {
        Self { hosts: Some(hosts), ..self }
    }

    /// What it counts.
    #[must_use]
    pub fn counts(&self) -> Arc<ServerCounts> {
        Arc::clone(&self.counts)
    }

    /// Serves `routes` until `stop`, then connections that the kernel has accepted already, and requests in progress.
    ///
    /// # Errors
    ///
    /// The listener cannot be used.
    pub async fn run(self, listener: TcpListener, routes: Router, stop: impl Future<Output = ()>) -> io::Result<()> {
        // Whatever a handler reads of a body by itself.
        let routes = routes.layer(DefaultBodyLimit::max(UNPROVEN_BYTES_MAX));
        let routes = match self.hosts.clone() {
            Some(rule) => routes.layer(axum::middleware::from_fn_with_state(rule, hosts::check)),
            None => routes,
        };
        let (leave, leaving) = watch::channel(false);
        let office = Arc::new(Office::new(self.limits, self.counts, routes, leaving));
        let mut open = JoinSet::new();
        tokio::pin!(stop);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut stop => break,
                accepted = listener.accept() => accepted,
            };
            while open.try_join_next().is_some() {}
            match accepted {
                Ok((socket, peer)) => office.receive(&mut open, socket, peer),
                Err(error) => {
                    tracing::debug!(%error, "connection not accepted");
                    sleep(ACCEPT_AGAIN).await;
                }
            }
        }
        for (socket, peer) in nearside_listen::close(listener) {
            office.receive(&mut open, socket, peer);
        }
        let ends = async {
            sleep(FIRST_REQUEST).await;
            leave.send_replace(true);
            while open.join_next().await.is_some() {}
        };
        // What takes longer is cut off.
        let _ = timeout(STOP_MAX, ends).await;
        Ok(())
    }
}

/// What all connections of a server share.
struct Office {
    limits: ServeLimits,
    counts: Arc<ServerCounts>,
    routes: Router,
    leaving: watch::Receiver<bool>,
    connections: Arc<Shares>,
    requests: Arc<Shares>,
    streams: Arc<Shares>,
    large_bodies: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

impl Office {
    fn new(limits: ServeLimits, counts: Arc<ServerCounts>, routes: Router, leaving: watch::Receiver<bool>) -> Self {
        Self {
            connections: Shares::new(limits.connections),
            requests: Shares::new(limits.requests),
            streams: Shares::new(limits.streams),
            large_bodies: Arc::new(Semaphore::new(limits.large_bodies)),
            refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
            limits,
            counts,
            routes,
            leaving,
        }
    }

    /// Serves a connection, or refuses it where there is no place for it.
    fn receive(self: &Arc<Self>, open: &mut JoinSet<()>, socket: TcpStream, peer: SocketAddr) {
        match self.take(&self.connections, peer.ip(), "connections") {
            Ok(share) => {
                self.counts.open.store(self.connections.taken() as u64, Ordering::Relaxed);
                open.spawn(connection::serve(Arc::clone(self), socket, peer, share));
            }
            Err(problem) => {
                if let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() {
                    open.spawn(async move {
                        socket::end(socket, Some(&problem)).await;
                        drop(permit);
                    });
                }
            }
        }
    }

    /// Takes a place of a kind.
    fn take(&self, shares: &Arc<Shares>, peer: IpAddr, what: &str) -> Result<Share, Problem> {
        shares.take(peer, (self.limits.exempt)(peer)).map_err(|full| {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            let whose = match full {
                Full::Total => "from all clients",
                Full::Network => "from this client's network",
            };
            let detail = format!("there are too many {what} {whose}: try again later");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail)
        })
    }
}

#[cfg(test)]
mod tests;
