//! Connections that are carried over a way: what comes in goes out on the other side, later.

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use nearside_config::HostPort;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, sleep_until};

use crate::accuracy::Accuracy;
use crate::conditions::{Conditions, Way};
use crate::flow::{Flow, PIECE_MAX, WINDOW_MAX};

/// While nothing comes through, it is looked this often whether the client is still there.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Timers of the runtime go by whole milliseconds, and never early: on average half of one late.
const TIMER_LATE: Duration = Duration::from_micros(500);
/// When no connection can be taken, for want of files.
const ACCEPT_AGAIN: Duration = Duration::from_millis(10);

/// Carries connections.
#[derive(Debug, Clone)]
pub(crate) struct Relay {
    pub(crate) conditions: Arc<Conditions>,
    pub(crate) accuracy: Arc<Accuracy>,
}

impl Relay {
    /// Takes connections and carries each to a target, as long as it runs.
    pub(crate) async fn serve(&self, listener: &TcpListener, way: &Arc<Way>, target: &HostPort) {
        let mut carried = tokio::task::JoinSet::new();
        loop {
            match accepted(listener).await {
                Some(near) => {
                    let (relay, way, target, accepted) = (self.clone(), Arc::clone(way), target.clone(), now());
                    carried
                        .spawn(async move { relay.carry(near, BytesMut::new(), &way, &target, None, accepted).await });
                }
                None => sleep(ACCEPT_AGAIN).await,
            }
            while carried.try_join_next().is_some() {}
        }
    }

    /// Carries a connection that was taken at some moment, and of which something may have been read; at the other end it comes
    /// from `from`, if that is given.
    pub(crate) async fn carry(
        &self,
        near: TcpStream,
        read: BytesMut,
        way: &Arc<Way>,
        target: &HostPort,
        from: Option<IpAddr>,
        accepted: Instant,
    ) {
        // Whoever gives up while nothing comes through was never here.
        let state = tokio::select! {
            state = self.conditions.once_whole(way) => state,
            () = given_up(&near) => return,
        };
        // The handshake: the first bytes leave when it is done.
        let begins = accepted + state.round_trip;
        sleep_until((begins - state.round_trip / 2).into()).await;
        let Ok(far) = connect(target, from).await else {
            // Refused: known after a round trip.
            sleep_until(begins.into()).await;
            let _ = near.set_zero_linger();
            return;
        };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let seed = self.conditions.seed ^ u64::from(near.peer_addr().map_or(0, |peer| peer.port()));
        let there = self.direction(&near, &far, read, way, Flow::new(begins, seed));
        let back = self.direction(&far, &near, BytesMut::new(), way, Flow::new(now(), !seed));
        let ended = tokio::try_join!(there, back);
        if ended.is_err() {
            // What ends early must not look as if it had ended well.
            let _ = (near.set_zero_linger(), far.set_zero_linger());
        }
    }

    /// One direction: what is read is sent, and delivered when it has arrived. Ends when all was, or when one side is gone.
    async fn direction(
        &self,
        from: &TcpStream,
        to: &TcpStream,
        read: BytesMut,
        way: &Arc<Way>,
        flow: Flow,
    ) -> Result<(), Aborted> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(WINDOW_MAX));
        let sending = self.send(from, read, way, flow, sender, Arc::clone(&room));
        let delivering = self.deliver(to, way, receiver, room);
        tokio::try_join!(sending, delivering).map(drop)
    }

    async fn send(
        &self,
        from: &TcpStream,
        mut read: BytesMut,
        way: &Arc<Way>,
        mut flow: Flow,
        sender: mpsc::UnboundedSender<(Instant, Option<Bytes>)>,
        room: Arc<Semaphore>,
    ) -> Result<(), Aborted> {
        loop {
            let state = self.conditions.once_whole(way).await;
            let most = match flow.room(now(), &state) {
                Ok(most) => most,
                Err(later) => {
                    sleep_until(later.into()).await;
                    continue;
                }
            };
            if read.is_empty() {
                read.reserve(PIECE_MAX);
                from.readable().await?;
                match from.try_read_buf(&mut read) {
                    Ok(0) => {
                        let _ = sender.send((flow.send(now(), 0, &state), None));
                        return Ok(());
                    }
                    // It may have been waited for: how things are, and whether the connection was idle, is asked anew.
                    Ok(_) => continue,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(error) => return Err(error.into()),
                }
            }
            let piece = read.split_to(most.min(read.len())).freeze();
            // What the other end does not take is not acknowledged.
            let permits = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            let Ok(permit) = room.acquire_many(permits).await else { return Err(Aborted) };
            permit.forget();
            let arrives = flow.send(now(), piece.len(), &state);
            sender.send((arrives, Some(piece))).map_err(|_gone| Aborted)?;
        }
    }

    async fn deliver(
        &self,
        to: &TcpStream,
        way: &Arc<Way>,
        mut receiver: mpsc::UnboundedReceiver<(Instant, Option<Bytes>)>,
        room: Arc<Semaphore>,
    ) -> Result<(), Aborted> {
        while let Some((arrives, piece)) = receiver.recv().await {
            sleep_until((arrives - TIMER_LATE).into()).await;
            if self.conditions.state(way).is_cut {
                let state = self.conditions.once_whole(way).await;
                // Sent again.
                sleep(state.round_trip).await;
            } else {
                self.accuracy.count(now().saturating_duration_since(arrives));
            }
            let Some(mut piece) = piece else {
                SockRef::from(to).shutdown(Shutdown::Write)?;
                return Ok(());
            };
            let length = piece.len();
            while !piece.is_empty() {
                to.writable().await?;
                match to.try_write(&piece) {
                    Ok(written) => piece.advance(written),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            }
            room.add_permits(length);
        }
        Ok(())
    }
}

/// One side is gone before its time.
#[derive(Debug)]
struct Aborted;

impl From<io::Error> for Aborted {
    fn from(error: io::Error) -> Self {
        tracing::trace!(%error, "a connection is aborted");
        Self
    }
}

/// When a client has closed its connection, whatever it has sent.
async fn given_up(near: &TcpStream) {
    loop {
        match near.ready(Interest::READABLE).await {
            Ok(ready) if !ready.is_read_closed() => sleep(LOOK_AGAIN).await,
            _ => return,
        }
    }
}

/// The next connection; nothing if none can be taken now.
pub(crate) async fn accepted(listener: &TcpListener) -> Option<TcpStream> {
    listener.accept().await.ok().map(|(socket, _)| socket)
}

async fn connect(target: &HostPort, from: Option<IpAddr>) -> io::Result<TcpStream> {
    // Named anew each time: what is behind a name may move.
    let mut addresses = lookup_host((target.host.as_str(), target.port)).await?;
    let address = addresses.next().ok_or(io::ErrorKind::NotFound)?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // An address of this machine leads nowhere else.
    if let Some(from) = from.filter(|from| from.is_ipv4() == address.is_ipv4() && address.ip().is_loopback()) {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    socket.connect(address).await
}

#[expect(clippy::disallowed_methods, reason = "it takes real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
