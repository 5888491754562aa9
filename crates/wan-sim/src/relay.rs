//! Connections that are carried over a way: what comes in goes out on the other side, later.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use nearside_config::HostPort;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until};

use crate::accuracy::Accuracy;
use crate::conditions::{Conditions, Way};
use crate::flow::{Flow, PIECE_MAX};

/// Pieces of one direction that are on their way: the most that a window holds, in pieces as small as a segment.
const PIECES_MAX: usize = 4096;
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

/// What is on its way.
enum Piece {
    Bytes(Bytes),
    End,
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
        let state = self.conditions.once_whole(way).await;
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
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        let there = self.direction(near_read, far_write, read, way, Flow::new(begins, seed));
        let back = self.direction(far_read, near_write, BytesMut::new(), way, Flow::new(now(), !seed));
        tokio::join!(there, back);
    }

    /// One direction: what is read is sent, and delivered when it has arrived.
    async fn direction(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        mut read: BytesMut,
        way: &Arc<Way>,
        mut flow: Flow,
    ) {
        let (sender, mut receiver) = mpsc::channel::<(Instant, Piece)>(PIECES_MAX);
        let sending = async {
            loop {
                let state = self.conditions.once_whole(way).await;
                let room = match flow.room(now(), &state) {
                    Ok(room) => room,
                    Err(later) => {
                        sleep_until(later.into()).await;
                        continue;
                    }
                };
                if read.is_empty() {
                    read.reserve(PIECE_MAX);
                    if from.read_buf(&mut read).await.unwrap_or(0) == 0 {
                        let arrives = flow.send(now(), 0, &state);
                        let _ = sender.send((arrives, Piece::End)).await;
                        return;
                    }
                }
                // What was waited for may have come much later than it was looked how things are.
                let state = self.conditions.once_whole(way).await;
                let piece = read.split_to(room.min(read.len())).freeze();
                let arrives = flow.send(now(), piece.len(), &state);
                if sender.send((arrives, Piece::Bytes(piece))).await.is_err() {
                    return;
                }
            }
        };
        let delivering = async {
            while let Some((arrives, piece)) = receiver.recv().await {
                sleep_until((arrives - TIMER_LATE).into()).await;
                let due = now();
                if self.conditions.state(way).is_cut {
                    let state = self.conditions.once_whole(way).await;
                    // Sent again.
                    sleep(state.round_trip).await;
                } else {
                    self.accuracy.count(due.saturating_duration_since(arrives));
                }
                match piece {
                    Piece::Bytes(bytes) => {
                        if to.write_all(&bytes).await.is_err() {
                            return;
                        }
                    }
                    Piece::End => {
                        let _ = to.shutdown().await;
                        return;
                    }
                }
            }
        };
        tokio::join!(sending, delivering);
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
