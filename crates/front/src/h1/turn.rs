//! A turn of a connection: receive, answer every hit in what was received, write the answers together; until nothing
//! more comes, or something comes that takes longer.
//!
//! A turn works in buffers of its thread. A connection that waits for its next request holds none.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use http::StatusCode;
use nearside_engine::request::hit::Key;
use nearside_engine::request::refusal::Refusal;
use nearside_http1::request::head_end;
use nearside_semantics::Timestamp;
use nearside_telemetry::clock::instant;
use nearside_telemetry::reason::Reason;
use nearside_telemetry::record::Times;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::batch::{Backlog, Batch, Closing, SLICES, Scratch, Whose};
use super::hit::find;
use super::{Connection, READ_BYTES, Wakes, opening};
use crate::FIRST_REQUEST;
use crate::shares::HeldHead;
use crate::transport::Transport;

/// How a turn ended.
#[derive(Debug)]
pub(super) enum Turn {
    /// The head that the first so many bytes of the buffer are takes the long way.
    Request(usize),
    Refused(Refusal),
    /// The client takes its answers slowly.
    Blocked(Box<Backlog>),
    /// The client left, stayed silent too long, or nothing more is to be said.
    Close,
    /// Nothing more is to be said, but the client may still be sending.
    CloseUnread,
}

/// What is to be done with the bytes behind those that were served.
enum Rest {
    /// Nothing before more of them come.
    Wait,
    End(Turn),
}

impl<'w> Connection<'w> {
    /// Serves hits until something else is to be done.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>, wakes: &mut Wakes<'_, 'w>) -> Poll<Turn> {
        let mut scratch = self.worker.scratch.lock();
        loop {
            self.skip_empty_lines();
            let (used, rest) = if self.buffer.is_empty() {
                let mut room = ReadBuf::new(&mut scratch.input);
                let received = match Pin::new(&mut self.io).poll_read(cx, &mut room) {
                    Poll::Ready(read) => read.map(|()| room.filled().len()).unwrap_or(0),
                    Poll::Pending => return self.poll_silence(cx, wakes),
                };
                if received == 0 {
                    return Poll::Ready(Turn::Close);
                }
                let Scratch { input, key, batch } = &mut *scratch;
                let received = input.get(..received).unwrap_or_default();
                let (used, rest) = self.serve(cx, received, key, batch);
                // What is left waits in a buffer of the connection.
                self.buffer.extend_from_slice(received.get(used..).unwrap_or_default());
                (0, rest)
            } else if self.holds_head() {
                let received = std::mem::take(&mut self.buffer);
                let Scratch { key, batch, .. } = &mut *scratch;
                let served = self.serve(cx, &received, key, batch);
                self.buffer = received;
                served
            } else if let Some(refusal) = opening::refusal(&self.buffer) {
                return Poll::Ready(Turn::Refused(refusal));
            } else {
                match ready!(self.poll_more(cx, wakes)) {
                    None => continue,
                    Some(turn) => return Poll::Ready(turn),
                }
            };
            self.buffer.advance(used);
            self.searched = 0;
            match rest {
                Rest::End(turn) => {
                    self.head_deadline = None;
                    self.held = None;
                    return Poll::Ready(turn);
                }
                Rest::Wait if self.buffer.is_empty() => self.head_deadline = None,
                Rest::Wait => self.head_deadline = Some(instant() + self.worker.engine.config.timeouts.head),
            }
        }
    }

    fn skip_empty_lines(&mut self) {
        let lines = empty_lines(&self.buffer);
        if lines > 0 {
            self.buffer.advance(lines);
            self.searched = 0;
        }
        if self.buffer.is_empty() {
            self.head_deadline = None;
        }
    }

    /// Whether the buffer holds a whole head, or more than one may be long.
    fn holds_head(&mut self) -> bool {
        let found = head_end(&self.buffer, self.searched).is_some();
        if !found {
            self.searched = self.buffer.len();
        }
        found || self.buffer.len() > self.worker.engine.config.limits.head_bytes
    }

    /// Receives more behind what is in the buffer.
    fn poll_more(&mut self, cx: &mut Context<'_>, wakes: &mut Wakes<'_, 'w>) -> Poll<Option<Turn>> {
        // The first half of an empty line is no beginning of a head.
        if self.head_deadline.is_none() && *self.buffer != *b"\r" {
            self.head_deadline = Some(instant() + self.worker.engine.config.timeouts.head);
        }
        if self.buffer.capacity() == self.buffer.len() {
            self.buffer.reserve(READ_BYTES);
        }
        match poll_read(&mut self.io, &mut self.buffer, cx) {
            Poll::Ready(Ok(1..)) if self.is_affordable() => Poll::Ready(None),
            Poll::Ready(Ok(1..)) => {
                let refusal = Refusal { status: StatusCode::SERVICE_UNAVAILABLE, reason: Reason::RequestMemory };
                Poll::Ready(Some(Turn::Refused(refusal)))
            }
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Some(Turn::Close)),
            Poll::Pending => self.poll_silence(cx, wakes).map(Some),
        }
    }

    /// Whether there is memory for what has come of a head. Short ones are not asked about.
    fn is_affordable(&mut self) -> bool {
        let bytes = self.buffer.capacity() as u64;
        let known = self.held.as_ref().map_or(READ_BYTES as u64, HeldHead::bytes);
        if bytes > known {
            self.held = None;
            self.held = self.member.hold(bytes);
            return self.held.is_some();
        }
        true
    }

    /// Waits for bytes. Idling ends when the node drains; a head that has begun has a deadline of its own, from its
    /// first byte, however slowly it drips.
    fn poll_silence(&mut self, cx: &mut Context<'_>, wakes: &mut Wakes<'_, 'w>) -> Poll<Turn> {
        let Some(deadline) = self.head_deadline else {
            self.forget_buffers();
            // The task stays the same: once told, the drain knows whom to wake, and so does who sheds connections.
            let drains = self.worker.is_draining() || !self.awaits_drain && wakes.drained.as_mut().poll(cx).is_ready();
            self.awaits_drain = true;
            if wakes.sheds.poll(cx, self.requests > 0) {
                return Poll::Ready(Turn::Close);
            }
            let idle = self.worker.engine.config.timeouts.idle;
            let patience = match (drains, self.requests) {
                (false, _) => idle,
                (true, 0) => idle.min(FIRST_REQUEST),
                (true, _) => return Poll::Ready(Turn::Close),
            };
            return self.watchdog.poll(cx, self.idle_since + patience).map(|()| Turn::Close);
        };
        ready!(self.watchdog.poll(cx, deadline));
        let refusal = Refusal { status: StatusCode::REQUEST_TIMEOUT, reason: Reason::HeadTimeout };
        Poll::Ready(Turn::Refused(refusal))
    }

    /// Gives back what only a request that took the long way has needed.
    fn forget_buffers(&mut self) {
        if self.head.capacity() > 0 {
            self.head = Vec::new();
            self.chunks = Vec::new();
        }
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            self.buffer = BytesMut::new();
            self.held = None;
        }
    }

    /// Answers the hits at the front of `input`; how many bytes that took, and what to do with the rest.
    fn serve(&mut self, cx: &mut Context<'_>, input: &[u8], key: &mut Key, batch: &mut Batch) -> (usize, Rest) {
        let start = instant();
        let now = self.worker.engine.clock.now();
        let mut used = 0;
        // There is nothing in it, unless a turn has panicked: whose answers these are, this client must not get.
        batch.clear();
        loop {
            let gathered = self.gather(input, &mut used, key, batch, (start, now));
            if !batch.is_empty() {
                let closing = match gathered {
                    Gathered::Closes { asked: true } if used == input.len() => Closing::Asked,
                    Gathered::Closes { .. } => Closing::Own,
                    Gathered::Full | Gathered::All => Closing::Stays,
                };
                if let Some(turn) = self.write_batch(cx, input, batch, closing, start, now) {
                    return (used, Rest::End(turn));
                }
            }
            match gathered {
                Gathered::Full => {}
                Gathered::All => return (used, self.rest(input.get(used..).unwrap_or_default())),
                Gathered::Closes { .. } => return (used, Rest::End(Turn::Close)),
            }
        }
    }

    /// Puts hits into the batch.
    fn gather(
        &mut self,
        input: &[u8],
        used: &mut usize,
        key: &mut Key,
        batch: &mut Batch,
        (start, now): (Instant, Timestamp),
    ) -> Gathered {
        while !batch.is_full() {
            *used += empty_lines(input.get(*used..).unwrap_or_default());
            let rest = input.get(*used..).unwrap_or_default();
            if rest.is_empty() {
                return Gathered::All;
            }
            let Some(hit) = find(&self.worker.engine, rest, self.scheme, now, key) else {
                return Gathered::All;
            };
            self.requests += 1;
            let limit = self.worker.engine.config.limits.requests_per_connection;
            let asked = hit.closes;
            let closes = asked || self.worker.closes_connections() || self.requests >= limit;
            let offset = *used;
            *used += hit.end;
            batch.push(self.worker, hit, offset, closes, start);
            if closes {
                return Gathered::Closes { asked };
            }
        }
        Gathered::Full
    }

    /// Writes the batch; what to do if that does not succeed at once.
    fn write_batch(
        &mut self,
        cx: &mut Context<'_>,
        input: &[u8],
        batch: &mut Batch,
        closing: Closing,
        start: Instant,
        now: Timestamp,
    ) -> Option<Turn> {
        let (written, result) = write(&mut self.io, cx, batch);
        let end = instant();
        let times = Times { start, first_byte: end, end };
        let whose = Whose { worker: self.worker, client: self.client, scheme: self.scheme, times, now };
        match result {
            Poll::Ready(Ok(())) => {
                batch.finish(&whose, input, u64::MAX);
                self.idle_since = end;
                (closing == Closing::Own).then_some(Turn::CloseUnread)
            }
            Poll::Ready(Err(_)) => {
                batch.finish(&whose, input, written as u64);
                Some(Turn::Close)
            }
            Poll::Pending => Some(Turn::Blocked(Box::new(batch.backlog(written, input, times, closing)))),
        }
    }

    /// What to do with bytes that are no hit.
    fn rest(&self, rest: &[u8]) -> Rest {
        let head_bytes = self.worker.engine.config.limits.head_bytes;
        match head_end(rest, 0) {
            Some(end) if end <= head_bytes => {
                Rest::End(opening::foreign(rest).map_or(Turn::Request(end), Turn::Refused))
            }
            None if rest.len() <= head_bytes => Rest::Wait,
            _ => Rest::End(Turn::Refused(too_large(rest, head_bytes))),
        }
    }
}

/// How gathering ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gathered {
    /// The batch is full, there may be more.
    Full,
    /// No hit is left.
    All,
    /// The last one is the last on this connection, because the client asked for that or for a reason of our own.
    Closes { asked: bool },
}

/// Writes all of a batch if the client takes it at once; how much it took.
fn write(io: &mut Transport, cx: &mut Context<'_>, batch: &Batch) -> (usize, Poll<io::Result<()>>) {
    let mut slices = [IoSlice::new(&[]); SLICES];
    let count = batch.slices(&mut slices);
    let mut rest = slices.get_mut(..count).unwrap_or_default();
    let mut written = 0;
    while !rest.is_empty() {
        let step = match rest {
            // The system call for one piece is the cheaper one.
            [only] => Pin::new(&mut *io).poll_write(cx, only),
            _ => Pin::new(&mut *io).poll_write_vectored(cx, rest),
        };
        match step {
            Poll::Ready(Ok(0)) => return (written, Poll::Ready(Err(io::ErrorKind::WriteZero.into()))),
            Poll::Ready(Ok(count)) => {
                written += count;
                IoSlice::advance_slices(&mut rest, count);
            }
            Poll::Ready(Err(error)) => return (written, Poll::Ready(Err(error))),
            Poll::Pending => return (written, Poll::Pending),
        }
    }
    (written, Pin::new(io).poll_flush(cx))
}

/// How many bytes of empty lines stand in front: "a server … SHOULD ignore at least one empty line (CRLF) received prior
/// to the request-line" (RFC 9112 §2.2).
fn empty_lines(bytes: &[u8]) -> usize {
    bytes.chunks_exact(2).take_while(|line| line == b"\r\n").count() * 2
}

fn poll_read(io: &mut Transport, buffer: &mut BytesMut, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut future = std::pin::pin!(tokio::io::AsyncReadExt::read_buf(io, buffer));
    future.as_mut().poll(cx)
}

/// 414 if the request line alone is too long, else 431.
fn too_large(head: &[u8], head_bytes: usize) -> Refusal {
    let line = head.iter().position(|b| *b == b'\n').unwrap_or(head.len());
    if line > head_bytes / 2 {
        Refusal { status: StatusCode::URI_TOO_LONG, reason: Reason::TargetTooLong }
    } else {
        Refusal { status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, reason: Reason::HeadTooLarge }
    }
}
