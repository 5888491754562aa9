//! Receiving request bodies.

use std::future::Future;
use std::time::Duration;

use bytes::BytesMut;
use nearside_http1::framing::{BodyDecoder, BodyEvent, Framing};
use nearside_upstream::upload::Upload;
use tokio::io::AsyncReadExt;

use super::READ_BYTES;
use super::watch::Watch;
use crate::body_pump::{BodyPump, BodySource};
use crate::exchange::RequestBody;
use crate::transport::Transport;

impl From<Framing> for RequestBody {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::None => Self::Empty,
            Framing::Length(length) => Self::of_length(Some(length)),
            Framing::Chunked | Framing::UntilClose => Self::Unknown,
        }
    }
}

/// The body of a request on its way from the connection to the next hop.
pub(super) struct Body {
    decoder: BodyDecoder,
    pump: BodyPump,
}

/// A body in the bytes of a connection.
struct ConnectionBody<'c> {
    decoder: &'c mut BodyDecoder,
    io: &'c mut Transport,
    buffer: &'c mut BytesMut,
}

impl BodySource for ConnectionBody<'_> {
    async fn next(&mut self, stall: Duration) -> Option<BodyEvent> {
        loop {
            if let Some(event) = self.decoder.piece(self.buffer).ok()? {
                return Some(event);
            }
            self.buffer.reserve(READ_BYTES * 4);
            match tokio::time::timeout(stall, self.io.read_buf(self.buffer)).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) | Err(_) => return None,
            }
        }
    }
}

impl Body {
    /// A request without a body.
    pub(super) fn empty() -> Self {
        Self { decoder: BodyDecoder::Ended, pump: BodyPump::empty() }
    }

    /// The body that a head announces, of at most `limit` bytes, with the end where it comes out.
    pub(super) fn new(framing: Framing, limit: u64) -> (Self, Option<Upload>) {
        let length = match framing {
            Framing::None | Framing::UntilClose => return (Self::empty(), None),
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        };
        let (pump, upload) = BodyPump::new(length, limit);
        (Self { decoder: BodyDecoder::new(framing), pump }, Some(upload))
    }

    /// Whether the client has sent all of it, so that the next request can follow.
    pub(super) fn ended(&self) -> bool {
        self.pump.has_ended()
    }

    /// Whether some of it has arrived.
    pub(super) fn has_begun(&self) -> bool {
        self.pump.has_begun()
    }

    pub(super) fn is_too_large(&self) -> bool {
        self.pump.is_too_large()
    }

    /// Whether there is something to carry.
    pub(super) fn is_open(&self) -> bool {
        self.pump.is_open()
    }

    /// Carries the body along until `work` is done; `None` if the client has left before.
    pub(super) async fn pump_until<F>(
        &mut self,
        work: F,
        io: &mut Transport,
        buffer: &mut BytesMut,
        stall: Duration,
        watch: &mut Watch,
    ) -> Option<F::Output>
    where
        F: Future + Unpin,
    {
        let mut work = work;
        loop {
            if self.is_open() {
                let mut source = ConnectionBody { decoder: &mut self.decoder, io: &mut *io, buffer: &mut *buffer };
                tokio::select! {
                    biased;
                    done = &mut work => return Some(done),
                    () = self.pump.step(&mut source, stall) => {}
                }
            } else {
                tokio::select! {
                    biased;
                    done = &mut work => return Some(done),
                    () = watch.gone(io, buffer) => return None,
                }
            }
        }
    }
}
