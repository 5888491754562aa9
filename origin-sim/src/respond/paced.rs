//! A body that comes at a pace, and may break off.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::Sleep;

use crate::body;
use crate::connection::Trick;
use crate::ledger::Visit;

/// Bytes that are sent at once, where no rate is asked for.
const PIECE_BYTES: u64 = 64 << 10;
/// Pieces a second, where one is.
const PIECES_PER_SECOND: u64 = 20;

/// Long enough for the connection to write what it holds.
const FLUSH: Duration = Duration::from_millis(20);

/// The body ends here on purpose.
#[derive(Debug)]
pub(crate) struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut on purpose")
    }
}

impl std::error::Error for Cut {}

/// How a body is to come.
#[derive(Debug)]
pub(crate) struct Paced {
    pub(crate) seed: u64,
    pub(crate) at: u64,
    pub(crate) end: u64,
    /// Breaks off at this place.
    pub(crate) cut: Option<u64>,
    /// With a reset.
    pub(crate) reset: Option<Trick>,
    /// Before the first byte.
    pub(crate) pause: Option<Duration>,
    /// Bytes per second.
    pub(crate) rate: Option<u64>,
    /// Its length is not stated.
    pub(crate) chunked: bool,
}

impl Paced {
    /// A body that comes at once.
    pub(crate) fn plain(at: u64, end: u64) -> Self {
        Self { seed: 0, at, end, cut: None, reset: None, pause: None, rate: None, chunked: false }
    }

    pub(crate) fn into_body(self, visit: Visit) -> super::Body {
        PacedBody { paced: self, sleep: None, flushed: false, visit }.boxed()
    }
}

struct PacedBody {
    paced: Paced,
    sleep: Option<Pin<Box<Sleep>>>,
    flushed: bool,
    visit: Visit,
}

impl PacedBody {
    fn next_piece(&mut self) -> Option<Bytes> {
        let paced = &mut self.paced;
        let most = paced.rate.map_or(PIECE_BYTES, |rate| rate.div_ceil(PIECES_PER_SECOND).min(PIECE_BYTES));
        let end = (paced.at + most).min(paced.cut.unwrap_or(u64::MAX)).min(paced.end);
        let piece = body::bytes(paced.seed, paced.at, end);
        paced.at = end;
        self.visit.sent(piece.len() as u64);
        if let Some(rate) = paced.rate {
            let wait = Duration::from_secs_f64(piece.len() as f64 / rate as f64);
            self.sleep = Some(Box::pin(tokio::time::sleep(wait)));
        }
        (!piece.is_empty()).then_some(piece)
    }
}

impl Body for PacedBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(pause) = self.paced.pause.take() {
            self.sleep = Some(Box::pin(tokio::time::sleep(pause)));
        }
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
        }
        if self.paced.cut.is_some_and(|cut| self.paced.at >= cut) {
            if !self.flushed {
                // What was written so far leaves while the body waits; it would be lost with the error.
                self.flushed = true;
                let sleep = self.sleep.insert(Box::pin(tokio::time::sleep(FLUSH)));
                ready!(sleep.as_mut().poll(cx));
            }
            if let Some(trick) = &self.paced.reset {
                trick.reset();
            }
            return Poll::Ready(Some(Err(Cut)));
        }
        if self.paced.at >= self.paced.end {
            return Poll::Ready(None);
        }
        Poll::Ready(self.next_piece().map(|piece| Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        if self.paced.chunked { SizeHint::default() } else { SizeHint::with_exact(self.paced.end - self.paced.at) }
    }
}
