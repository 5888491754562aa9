//! Receiving request bodies, piece by piece.

use std::future::Future;
use std::time::Duration;

use bytes::BytesMut;
use nearside_http1::framing::{BodyDecoder, BodyEvent, Framing};
use nearside_upstream::upload::Upload;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use super::READ_BYTES;
use super::watch::Watch;
use crate::transport::Transport;

/// The body of a request on its way from the connection to the next hop.
pub(super) struct Body {
    decoder: BodyDecoder,
    /// `None` once all was handed on, or nobody wants it.
    sender: Option<mpsc::Sender<BodyEvent>>,
    begun: bool,
    ended: bool,
    left: u64,
    too_large: bool,
}

impl Body {
    /// The body that a head announces, and where its pieces come out. Of at most `limit` bytes.
    pub(super) fn new(framing: Framing, limit: u64) -> (Self, Option<Upload>) {
        let body = |sender, ended| Self {
            decoder: BodyDecoder::new(framing),
            sender,
            begun: false,
            ended,
            left: limit,
            too_large: false,
        };
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

    /// Whether some of it has arrived.
    pub(super) fn has_begun(&self) -> bool {
        self.begun || self.ended
    }

    pub(super) fn too_large(&self) -> bool {
        self.too_large
    }

    /// Whether there is something to pump.
    pub(super) fn is_open(&self) -> bool {
        self.sender.is_some()
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
                tokio::select! {
                    biased;
                    done = &mut work => return Some(done),
                    () = self.pump(io, buffer, stall) => {}
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

    /// Hands one piece on. Can be dropped at any point without losing a byte.
    pub(super) async fn pump(&mut self, io: &mut Transport, buffer: &mut BytesMut, stall: Duration) {
        let Some(sender) = &self.sender else { return };
        let Ok(permit) = sender.reserve().await else {
            self.sender = None;
            return;
        };
        loop {
            match self.decoder.piece(buffer) {
                Ok(Some(BodyEvent::Data(data))) if data.len() as u64 > self.left => {
                    self.too_large = true;
                    break;
                }
                Ok(Some(BodyEvent::Data(data))) => {
                    self.left -= data.len() as u64;
                    self.begun = true;
                    permit.send(BodyEvent::Data(data));
                    return;
                }
                Ok(Some(BodyEvent::End(trailers))) => {
                    permit.send(BodyEvent::End(trailers));
                    self.ended = true;
                    self.sender = None;
                    return;
                }
                Ok(None) => {
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
