//! A client's HTTP/1 connection: requests in, answers out, in order.
//!
//! A [`turn`] answers all that can be answered with what is stored, from borrowed bytes and in one vectored write; every
//! other request becomes a [`Request`] and takes the way of [`nearside_engine::request`]. Both ways end in the same record.

mod batch;
mod hit;
pub(crate) mod opening;
mod receive;
mod send;
mod turn;
mod watch;

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::header::CONNECTION;
use http::{HeaderValue, Method, StatusCode, Version};
use nearside_engine::pass::Passed;
use nearside_semantics::fields::{lists, strip_nominated};
use nearside_semantics::key::Scheme;
use nearside_telemetry::Protocol;
use tokio::io::AsyncWriteExt;
use tokio::sync::futures::Notified;
use tokio::sync::mpsc;

use super::Worker;
use super::shares::{HeldHead, Member};
use super::sheds::Sheds;
use super::transport::Transport;
use super::watchdog::Watchdog;
use crate::exchange::{Carrier, Exchange, RequestBody};
pub use nearside_engine::request::admit::{Admitted, RequestHead, admit};
use nearside_engine::request::finish::Persistence;
use nearside_engine::request::refusal::Refusal;
use nearside_engine::request::{Request, respond};
use nearside_http1::framing::{Framing, FramingError};
use nearside_http1::request::{self, FIELDS_MAX};
use nearside_http1::write;
use nearside_telemetry::clock::instant;
use nearside_telemetry::reason::Reason;
use nearside_telemetry::record::Client;
use nearside_telemetry::trace::Trace;
use nearside_upstream::interim::{Interim, Interims};
use receive::Body;
use turn::Turn;
use watch::Watch;

pub(crate) use batch::Scratch;

/// The first read of a connection has this much room; most heads fit.
const READ_BYTES: usize = 4096;

/// Bytes of a request body that have come and are not sent on yet, at most.
const UPLOAD_BYTES: u64 = 128 << 10;

/// A connection and what it reuses from request to request.
struct Connection<'w> {
    io: Transport,
    client: Client,
    scheme: Scheme,
    worker: &'w Worker,
    member: &'w Member,
    /// Received and not yet used.
    buffer: BytesMut,
    /// So many bytes of the buffer hold no end of a head.
    searched: usize,
    /// Of a head that has come in part, where that is long.
    held: Option<HeldHead>,
    /// When the head must be there whose first bytes are in the buffer.
    head_deadline: Option<Instant>,
    head: Vec<u8>,
    chunks: Vec<Bytes>,
    watchdog: Watchdog,
    /// The drain knows whom to wake.
    awaits_drain: bool,
    requests: u64,
    /// When the last request ended.
    idle_since: Instant,
}

/// What wakes an idle connection besides its client and its deadline.
struct Wakes<'f, 'w> {
    /// The node stops.
    drained: Pin<&'f mut Notified<'w>>,
    /// Another connection needs the place.
    sheds: Sheds<'f, 'w>,
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Request,
    Close,
    /// Bytes of the client are still to come that nobody will read.
    CloseUnread,
    /// Without a word: the client must not take the end for a good one.
    Abort,
}

/// Serves a connection to its end.
pub(crate) async fn serve(io: Transport, client: Client, scheme: Scheme, worker: &Arc<Worker>, member: &Member) {
    let mut connection = Connection::new(io, client, scheme, worker, member);
    let drained = worker.drained.notified();
    tokio::pin!(drained);
    drained.as_mut().enable();
    let (by_node, by_network) = (worker.places.shed.notified(), member.shed());
    tokio::pin!(by_node, by_network);
    let mut wakes = Wakes { drained, sheds: Sheds::new(&worker.places, member, by_node, by_network) };
    loop {
        // What is rare lives on the heap, so that an idle connection is small.
        let next = match std::future::poll_fn(|cx| connection.poll_turn(cx, &mut wakes)).await {
            Turn::Request(end) => Box::pin(connection.request(end)).await,
            Turn::Refused(refusal) => Box::pin(connection.refuse(refusal, b"", b"")).await,
            Turn::Blocked(backlog) => Box::pin(connection.work_off(*backlog)).await,
            Turn::Close => Next::Close,
            Turn::CloseUnread => Next::CloseUnread,
        };
        match next {
            Next::Request => {}
            Next::Close => break,
            Next::CloseUnread => {
                Box::pin(connection.linger()).await;
                break;
            }
            Next::Abort => return connection.io.abort_on_close(),
        }
    }
    if connection.io.is_tls() {
        // TLS has a good-bye of its own; in clear the close is it. The client may be gone already.
        let _ = Box::pin(tokio::time::timeout(worker.engine.config.timeouts.stall, connection.io.shutdown())).await;
    }
}

/// Refuses a connection before any request was read from it.
pub(crate) async fn refuse(
    io: Transport,
    client: Client,
    scheme: Scheme,
    worker: &Arc<Worker>,
    member: &Member,
    refusal: Refusal,
) {
    let mut connection = Connection::new(io, client, scheme, worker, member);
    connection.refuse(refusal, b"", b"").await;
    connection.linger().await;
}

impl<'w> Connection<'w> {
    fn new(io: Transport, client: Client, scheme: Scheme, worker: &'w Arc<Worker>, member: &'w Member) -> Self {
        let now = instant();
        Self {
            io,
            client,
            scheme,
            worker,
            member,
            buffer: BytesMut::new(),
            searched: 0,
            held: None,
            head_deadline: None,
            head: Vec::new(),
            chunks: Vec::new(),
            watchdog: Watchdog::new(now + worker.engine.config.timeouts.idle),
            awaits_drain: false,
            requests: 0,
            idle_since: now,
        }
    }
}

/// The connection of a client whose request is in progress.
struct RequestCarrier<'c, 'w> {
    connection: &'c mut Connection<'w>,
    body: &'c mut Body,
    watch: Watch,
}

impl Carrier for RequestCarrier<'_, '_> {
    async fn send_interim(&mut self, interim: &Interim) -> io::Result<()> {
        self.connection.interim(interim).await
    }

    async fn run<F: Future + Unpin>(&mut self, work: F) -> Option<F::Output> {
        let Connection { io, buffer, worker, .. } = &mut *self.connection;
        let stall = worker.engine.config.timeouts.stall;
        self.body.pump_until(work, io, buffer, stall, &mut self.watch).await
    }

    fn has_body_begun(&self) -> bool {
        self.body.has_begun() || !self.connection.buffer.is_empty()
    }
}

/// A request whose head was understood.
struct Parsed {
    request: Request,
    /// How its body is framed; such a fault is answered with the request's host and target in the log.
    framing: Result<Framing, FramingError>,
    /// End where interim responses come out.
    interims: mpsc::Receiver<Arc<Interim>>,
}

impl Connection<'_> {
    /// Serves the request whose head is the first `end` bytes of the buffer.
    async fn request(&mut self, end: usize) -> Next {
        self.requests += 1;
        let worker = self.worker;
        let _in_flight = worker.metrics.enter();
        let start = instant();
        let head = self.buffer.split_to(end).freeze();
        let Parsed { mut request, framing, interims } = match self.parse(&head) {
            Ok(parsed) => parsed,
            Err(refusal) => return self.refuse(refusal, b"", b"").await,
        };
        let framing = match framing {
            Ok(framing) => framing,
            Err(FramingError::Ambiguous) => return self.refuse_request(Refusal::bad(Reason::Framing), &request).await,
            Err(FramingError::UnknownCoding) => {
                let status = StatusCode::NOT_IMPLEMENTED;
                return self.refuse_request(Refusal::new(status, Reason::TransferCoding), &request).await;
            }
        };
        strip_nominated(&mut request.fields);
        let limit = worker.engine.config.limits.body_bytes;
        let exchange = match Exchange::begin(worker, self.member, &mut request, framing.into(), UPLOAD_BYTES) {
            Ok(exchange) => exchange,
            Err(refusal) if RequestBody::from(framing) == RequestBody::Empty => {
                let persistence = self.persistence(&request);
                return self.send(respond::refusal(refusal), &request, start, persistence, &mut Body::empty()).await;
            }
            Err(refusal) => return self.refuse_request(refusal, &request).await,
        };
        // A GET with a length of 0 has no body to carry; of a POST the next hop is told the length.
        let is_empty = framing == Framing::Length(0) && [Method::GET, Method::HEAD].contains(&request.method);
        let (mut body, upload) = if is_empty { (Body::empty(), None) } else { Body::new(framing, limit) };
        let mut carrier =
            RequestCarrier { watch: Watch::before_head(request.protocol), body: &mut body, connection: self };
        let passed = Box::pin(exchange.respond(&request, upload, interims, &mut carrier)).await;
        match passed {
            None => self.lost(&request, &exchange.client_gone(), start),
            Some(Passed::Upgraded { head, stream, outcome, place: _place }) => {
                self.tunnel(&request, &head, stream, outcome, start).await
            }
            Some(Passed::Answer(_)) if body.is_too_large() => self.refuse_request(exchange.too_large(), &request).await,
            Some(Passed::Answer(answer)) => {
                let persistence = if body.ended() { self.persistence(&request) } else { Persistence::Closes };
                match self.send(answer, &request, start, persistence, &mut body).await {
                    Next::Request if body.ended() => Next::Request,
                    Next::Abort => Next::Abort,
                    Next::Close if body.ended() => Next::Close,
                    _ => Next::CloseUnread,
                }
            }
        }
    }

    fn parse(&self, head: &Bytes) -> Result<Parsed, Refusal> {
        let mut lines = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let raw = request::parse(head, &mut lines, self.worker.engine.config.limits.fields)?;
        let target = request::target(raw.target, raw.method, self.scheme)?;
        let fields = request::to_map(head, raw.fields)?;
        let host = request::host(&fields)?;
        let authority = HeaderValue::from_bytes(target.authority.unwrap_or(host));
        let trace = Trace::of(&fields, self.worker.engine.config.traces.one_in);
        let protocol = if raw.version == Version::HTTP_10 { Protocol::Http10 } else { Protocol::Http11 };
        let framing = Framing::of_request(&fields, raw.version);
        let (interims, receiver) = Interims::channel(protocol);
        let request = Request {
            block: None,
            signed_as_sent: Vec::new(),
            method: request::method(raw.method)?,
            scheme: self.scheme,
            authority: authority.map_err(|_no_value| Refusal::bad(Reason::Host))?,
            target: head.slice_ref(target.path_and_query),
            protocol,
            fields,
            client: self.client,
            trace,
            interims,
        };
        Ok(Parsed { request, framing, interims: receiver })
    }

    /// Passes an interim answer on. Where it was not sent whole, nothing may follow it.
    async fn interim(&mut self, interim: &Interim) -> io::Result<()> {
        let mut head = Vec::with_capacity(256);
        write::status_line(interim.status, &mut head);
        for (name, value) in &interim.fields {
            write::field(name.as_str(), value.as_bytes(), &mut head);
        }
        head.extend_from_slice(b"\r\n");
        self.io.write_all(&mut [IoSlice::new(&head)], self.worker.engine.config.timeouts.stall).await
    }

    /// Whether the connection stays open after this request.
    fn persistence(&self, request: &Request) -> Persistence {
        let limit = self.worker.engine.config.limits.requests_per_connection;
        if self.worker.closes_connections() || self.requests >= limit || lists(&request.fields, &CONNECTION, b"close") {
            Persistence::Closes
        } else if request.protocol != Protocol::Http10 {
            Persistence::Stays
        } else if lists(&request.fields, &CONNECTION, b"keep-alive") {
            Persistence::KeepAlive
        } else {
            Persistence::Closes
        }
    }

    /// Refuses a request that was understood so far; what follows on the connection is not.
    async fn refuse_request(&mut self, refusal: Refusal, request: &Request) -> Next {
        self.refuse(refusal, request.authority.as_bytes(), &request.target).await
    }

    /// Reads and forgets for a moment what the client is still sending, so that the close does not become a reset that
    /// takes the answer away (RFC 9112 §9.6).
    async fn linger(&mut self) {
        use tokio::io::AsyncReadExt;
        const LINGER: std::time::Duration = std::time::Duration::from_secs(2);
        let _ = self.io.shutdown().await;
        let drain = async {
            loop {
                self.buffer.clear();
                self.buffer.reserve(READ_BYTES);
                if !matches!(self.io.read_buf(&mut self.buffer).await, Ok(1..)) {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, drain).await;
    }
}
