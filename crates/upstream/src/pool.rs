//! Idle connections to next hops.
//!
//! A connection is used again by the thread whose runtime watches it, so that its readiness need not cross threads.
//! pingora's own pool runs a task for each idle connection; here they are looked at when one is wanted, and by
//! [`Pool::sweep`] from time to time.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pingora_core::protocols::Stream;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::runtime::{Handle, Id};
use tokio::task::unconstrained;

use super::Hop;

/// Idle connections that are kept in all.
const CONNECTIONS_MAX: usize = 512;

/// Connections whose last answer was read to its end; the one that was used last is used first.
pub(super) struct Pool {
    idle: Mutex<Vec<Idle>>,
    /// Older ones are closed: the other side may do so any moment.
    idle_max: Duration,
}

struct Idle {
    hop: Arc<Hop>,
    address: SocketAddr,
    runtime: Id,
    since: Instant,
    stream: Stream,
}

impl Pool {
    pub(super) fn new(idle_max: Duration) -> Self {
        Self { idle: Mutex::default(), idle_max }
    }

    /// A connection to one of these addresses of a hop, as far as can be told still open.
    pub(super) fn take(&self, hop: &Arc<Hop>, addresses: &[IpAddr], now: Instant) -> Option<(Stream, SocketAddr)> {
        let runtime = Handle::current().id();
        let suits = |idle: &Idle| {
            idle.runtime == runtime && Arc::ptr_eq(&idle.hop, hop) && addresses.contains(&idle.address.ip())
        };
        let mut idle = self.idle.lock();
        while let Some(place) = idle.iter().rposition(suits) {
            let mut taken = idle.remove(place);
            if self.is_usable(&mut taken, now) {
                return Some((taken.stream, taken.address));
            }
        }
        None
    }

    /// Keeps a connection for later.
    pub(super) fn give(&self, hop: Arc<Hop>, address: SocketAddr, stream: Stream, now: Instant) {
        let mut idle = self.idle.lock();
        if idle.len() >= CONNECTIONS_MAX {
            idle.remove(0);
        }
        idle.push(Idle { hop, address, runtime: Handle::current().id(), since: now, stream });
    }

    /// Closes all of them; whether there were any.
    pub(super) fn clear(&self) -> bool {
        let idle = std::mem::take(&mut *self.idle.lock());
        !idle.is_empty()
    }

    /// Closes what is too old, or was closed by the other side.
    pub(super) fn sweep(&self, now: Instant) {
        self.idle.lock().retain_mut(|idle| self.is_usable(idle, now));
    }

    fn is_usable(&self, idle: &mut Idle, now: Instant) -> bool {
        now.saturating_duration_since(idle.since) < self.idle_max && is_silent(&mut idle.stream)
    }
}

/// Whether nothing has come, neither an end nor bytes that nobody has asked for.
fn is_silent(stream: &mut Stream) -> bool {
    let mut byte = [0];
    // Whatever of its budget the task has left: else what has come could go unseen.
    let read = std::pin::pin!(unconstrained(std::future::poll_fn(|cx| {
        Pin::new(&mut *stream).poll_read(cx, &mut ReadBuf::new(&mut byte))
    })));
    read.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}
