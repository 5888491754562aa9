//! Receiving: heads under a deadline, bodies piece by piece.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use http::StatusCode;
use tokio::io::AsyncReadExt;
use tokio::sync::futures::Notified;
use tokio::sync::mpsc;

use super::{Connection, READ_BYTES};
use crate::clock::instant;
use crate::front::transport::Transport;
use crate::h1::framing::{BodyDecoder, Framing, Piece};
use crate::h1::request::{Refusal, head_end};
use crate::pass::upload::{self, Upload};

/// How waiting for a head ended.
#[derive(Debug)]
pub(super) enum Received {
    /// The head is the first so many bytes of the buffer.
    Head(usize),
    Refused(Refusal),
    /// The client left, stayed silent too long, or the node drains.
    Gone,
}

impl Connection<'_> {
    /// Waits for a whole head. Idling ends when the node drains; a head that has begun has a deadline of its own, from
    /// its first byte, however slowly it drips.
    pub(super) async fn receive_head(&mut self, mut drained: Pin<&mut Notified<'_>>) -> Received {
        let timeouts = self.worker.engine.config.timeouts;
        let head_bytes = self.worker.engine.config.limits.head_bytes;
        let mut searched = 0;
        let mut deadline = self.idle_since + timeouts.idle;
        let mut begun = false;
        loop {
            self.skip_empty_lines();
            if let Some(end) = head_end(&self.buffer, searched) {
                return if end > head_bytes { self.too_large() } else { Received::Head(end) };
            }
            if self.buffer.len() > head_bytes {
                return self.too_large();
            }
            if !begun && !self.buffer.is_empty() {
                begun = true;
                deadline = instant() + timeouts.head;
            }
            searched = self.buffer.len();
            if self.buffer.capacity() == self.buffer.len() {
                self.buffer.reserve(READ_BYTES);
            }
            let read = std::future::poll_fn(|cx| {
                if let Poll::Ready(read) = poll_read(&mut self.io, &mut self.buffer, cx) {
                    return Poll::Ready(Some(read));
                }
                if !begun && (self.worker.is_draining() || drained.as_mut().poll(cx).is_ready()) {
                    return Poll::Ready(None);
                }
                ready!(self.watchdog.poll(cx, deadline));
                Poll::Ready(None)
            });
            match read.await {
                Some(Ok(1..)) => {}
                Some(Ok(0) | Err(_)) => return Received::Gone,
                None if begun => {
                    return Received::Refused(Refusal { status: StatusCode::REQUEST_TIMEOUT, reason: "head-timeout" });
                }
                None => return Received::Gone,
            }
        }
    }

    /// "a server … SHOULD ignore at least one empty line (CRLF) received prior to the request-line" (RFC 9112 §2.2).
    fn skip_empty_lines(&mut self) {
        while self.buffer.starts_with(b"\r\n") {
            self.consume(2);
        }
    }

    /// 414 if the request line alone is too long, else 431.
    fn too_large(&self) -> Received {
        let line = self.buffer.iter().position(|b| *b == b'\n').unwrap_or(self.buffer.len());
        let (status, reason) = if line > self.worker.engine.config.limits.head_bytes / 2 {
            (StatusCode::URI_TOO_LONG, "target-too-long")
        } else {
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large")
        };
        Received::Refused(Refusal { status, reason })
    }
}

fn poll_read(
    io: &mut Transport,
    buffer: &mut BytesMut,
    cx: &mut std::task::Context<'_>,
) -> Poll<std::io::Result<usize>> {
    let mut future = pin!(io.read_buf(buffer));
    future.as_mut().poll(cx)
}

/// The body of a request on its way from the connection to the next hop.
pub(super) struct Body {
    decoder: BodyDecoder,
    /// `None` once all was handed on, or nobody wants it.
    sender: Option<mpsc::Sender<upload::Piece>>,
    ended: bool,
    left: u64,
    too_large: bool,
}

impl Body {
    /// The body that a head announces, and where its pieces come out. Of at most `limit` bytes.
    pub(super) fn new(framing: Framing, limit: u64) -> (Self, Option<Upload>) {
        let body =
            |sender, ended| Self { decoder: BodyDecoder::new(framing), sender, ended, left: limit, too_large: false };
        let length = match framing {
            Framing::None | Framing::UntilClose => return (body(None, true), None),
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        };
        let (sender, upload) = Upload::new(length);
        (body(Some(sender), false), Some(upload))
    }

    /// Whether the client has sent all of it, so that the next request can follow.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    pub(super) fn too_large(&self) -> bool {
        self.too_large
    }

    /// Whether there is something to pump.
    pub(super) fn is_open(&self) -> bool {
        self.sender.is_some()
    }

    /// Carries the body along until `work` is done.
    pub(super) async fn pump_until<F>(
        &mut self,
        work: F,
        io: &mut Transport,
        buffer: &mut BytesMut,
        stall: Duration,
    ) -> F::Output
    where
        F: Future + Unpin,
    {
        let mut work = work;
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = self.pump(io, buffer, stall), if self.is_open() => {}
            }
        }
    }

    /// Hands one piece on. Can be dropped at any point without losing a byte.
    pub(super) async fn pump(&mut self, io: &mut Transport, buffer: &mut BytesMut, stall: Duration) {
        let Some(sender) = &self.sender else { return };
        let Ok(permit) = sender.reserve().await else {
            self.sender = None;
            return;
        };
        loop {
            match self.decoder.piece(buffer) {
                Ok(Piece::Data(data)) if data.len() as u64 > self.left => {
                    self.too_large = true;
                    break;
                }
                Ok(Piece::Data(data)) => {
                    self.left -= data.len() as u64;
                    permit.send(upload::Piece::Data(data));
                    return;
                }
                Ok(Piece::End(trailers)) => {
                    permit.send(upload::Piece::End(trailers));
                    self.ended = true;
                    self.sender = None;
                    return;
                }
                Ok(Piece::More) => {
                    buffer.reserve(READ_BYTES * 4);
                    match tokio::time::timeout(stall, io.read_buf(buffer)).await {
                        Ok(Ok(1..)) => {}
                        Ok(Ok(0) | Err(_)) | Err(_) => break,
                    }
                }
                Err(_broken) => break,
            }
        }
        drop(permit);
        self.sender = None;
    }
}
