//! A client's HTTP/2 connection (RFC 9113), on the `h2` crate.
//!
//! Hits are answered where they are read ([`hit`]); other streams get a task each ([`stream`]). Whatever a turn of the
//! connection has to say goes out in one write ([`super::cork`]). Not on pingora's session, which rewrites `Date` and
//! drops what it does not know (ADR 0002).

mod head;
mod heads;
mod hit;
mod stream;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use nearside_telemetry::clock::instant;
use nearside_telemetry::record::Client;
use tokio::sync::futures::Notified;

use super::cork::{Corked, Handle};
use super::shares::Member;
use super::sheds::Sheds;
use super::transport::Transport;
use super::watchdog::Watchdog;
use super::{FIRST_REQUEST, Worker};
use heads::{Open, Streams};
use stream::Stream;

/// Bytes of request bodies that a client may send before they are read, per stream and in all.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of answers that are queued per stream beyond what the client's window takes.
const SEND_BUFFER: usize = 256 << 10;
/// Streams that a client has reset and that are still remembered; beyond, the connection is closed (CVE-2023-44487).
const RESETS_MAX: usize = 64;
/// How long an idle connection that was told to make place for another one may take to close.
const SHED_PATIENCE: Duration = Duration::from_secs(1);
/// What is read from a body at once.
const READ_BYTES: u64 = 128 << 10;

/// Serves a connection to its end.
pub(crate) async fn serve(io: Transport, client: Client, worker: &Arc<Worker>, member: Arc<Member>) {
    let limits = worker.engine.config.limits;
    let timeouts = worker.engine.config.timeouts;
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(RESETS_MAX);
    let (io, cork) = Corked::new(io, &worker.spare);
    let Ok(Ok(streams)) = tokio::time::timeout(timeouts.head, builder.handshake::<_, Bytes>(io)).await else {
        return;
    };
    let now = instant();
    let mut connection = Connection {
        streams,
        cork,
        client,
        worker,
        member: Arc::clone(&member),
        open: Arc::default(),
        leaving: false,
        patience: timeouts.idle,
        awaits_drain: false,
        opened: now,
        has_asked: false,
        idle_since: now,
        written: 0,
        watchdog: Watchdog::new(now + timeouts.idle),
    };
    let drained = worker.drained.notified();
    tokio::pin!(drained);
    drained.as_mut().enable();
    let (by_node, by_network) = (worker.places.shed.notified(), member.shed());
    tokio::pin!(by_node, by_network);
    let mut sheds = Sheds::new(&worker.places, &member, by_node, by_network);
    std::future::poll_fn(|cx| connection.poll(cx, drained.as_mut(), &mut sheds)).await;
}

/// A connection with all its streams.
struct Connection<'w> {
    streams: h2::server::Connection<Corked, Bytes>,
    cork: Handle,
    client: Client,
    worker: &'w Arc<Worker>,
    member: Arc<Member>,
    /// Streams that have a task.
    open: Arc<Streams>,
    /// No new streams are taken.
    leaving: bool,
    /// How long it may be without a request.
    patience: Duration,
    /// The drain knows whom to wake.
    awaits_drain: bool,
    opened: Instant,
    /// A request has come.
    has_asked: bool,
    /// When the last request came, or work was last seen to go on.
    idle_since: Instant,
    /// Bytes that the client had taken when that was last looked at.
    written: u64,
    watchdog: Watchdog,
}

type Accepted = Option<Result<(http::Request<RecvStream>, SendResponse<Bytes>), h2::Error>>;

impl Connection<'_> {
    /// Ready when the connection has ended.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut drained: Pin<&mut Notified<'_>>,
        sheds: &mut Sheds<'_, '_>,
    ) -> Poll<()> {
        loop {
            if self.poll_streams(cx).is_ready() {
                return Poll::Ready(());
            }
            if !self.leaving && self.drains(cx, drained.as_mut()) {
                let patience = self.opened + FIRST_REQUEST;
                if !self.has_asked && instant() < patience {
                    ready!(self.watchdog.poll(cx, patience));
                }
                self.leave();
                continue;
            }
            if !self.leaving && sheds.are_due() && !self.has_streams() && sheds.poll(cx, self.has_asked) {
                self.patience = self.patience.min(SHED_PATIENCE);
                self.leave();
                continue;
            }
            ready!(self.watchdog.poll(cx, self.idle_since + self.patience));
            let written = self.cork.written();
            // Answers to PING and SETTINGS are written too: without a stream they are no work.
            let busy = self.open.count() > 0 || self.streams.has_streams() && written > self.written;
            self.written = written;
            match (busy, self.leaving) {
                // Answers that have no task may still be on their way to a slow client.
                (true, _) => self.idle_since = instant(),
                (false, true) => return Poll::Ready(()),
                (false, false) => self.leave(),
            }
        }
    }

    fn drains(&mut self, cx: &mut Context<'_>, drained: Pin<&mut Notified<'_>>) -> bool {
        // The task stays the same: once told, the drain knows whom to wake. It may have begun while hands were shaken.
        let drains = self.worker.is_draining() || !self.awaits_drain && drained.poll(cx).is_ready();
        self.awaits_drain = true;
        drains
    }

    fn has_streams(&self) -> bool {
        self.open.count() > 0 || self.streams.has_streams()
    }

    fn leave(&mut self) {
        self.streams.graceful_shutdown();
        self.leaving = true;
        self.idle_since = instant();
    }

    /// Takes what has come and sends what is ready; ready when the connection has ended.
    fn poll_streams(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.cork.hold();
            while let Poll::Ready(accepted) = self.streams.poll_accept(cx) {
                if !self.accept(accepted) {
                    return Poll::Ready(());
                }
            }
            self.cork.release();
            // This sends what was held back; more may have come meanwhile.
            let accepted = ready!(self.streams.poll_accept(cx));
            if !self.accept(accepted) {
                return Poll::Ready(());
            }
        }
    }

    /// Begins a stream; false at the end of the connection.
    fn accept(&mut self, accepted: Accepted) -> bool {
        let Some(Ok((mut request, mut respond))) = accepted else { return false };
        let now = instant();
        self.idle_since = now;
        self.has_asked = true;
        let limits = &self.worker.engine.config.limits;
        if let Some(refusal) = heads::refusal(request.headers(), limits.fields) {
            self.refuse(refusal, &request, respond, now);
        } else if let Some(hit) = hit::find(self.worker, &request) {
            self.send_hit(hit, &request, respond, now);
        } else if self.open.count() >= limits.h2_streams as usize {
            // Streams that the client has reset are still being worked on, and count.
            respond.send_reset(Reason::REFUSED_STREAM);
        } else {
            heads::compact(request.headers_mut());
            match self.open.enter(request.headers()) {
                Some(open) => drop(tokio::spawn(self.stream(open).serve(request, respond))),
                None => respond.send_reset(Reason::REFUSED_STREAM),
            }
        }
        true
    }

    /// A stream that gets a task.
    fn stream(&self, open: Open) -> Stream {
        Stream { worker: Arc::clone(self.worker), client: self.client, member: Arc::clone(&self.member), open }
    }
}
