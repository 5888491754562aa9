//! Watching for a client that leaves while its response is pending.
//!
//! A reset is certain. The end of what a client sends is not: it may have closed the connection, or only its half of it
//! (`nc -N`), and still read. The two differ in what happens to bytes that are sent: a closed connection answers them with a
//! reset. So an HTTP/1.1 client that has ended its half gets a "100 Continue" after a moment, which every client has to
//! skip ("even if the client does not expect one", RFC 9110 §15.2). Over TLS an end is a good-bye for both directions.

use std::time::Duration;

use bytes::BytesMut;
use nearside_telemetry::Protocol;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::READ_BYTES;
use crate::transport::Transport;

/// Span in which a response may still come before an end is looked into.
const GRACE: Duration = Duration::from_millis(250);
/// Bytes of further requests that are received meanwhile. A client that sends more is not watched until they are served.
const AHEAD_MAX: usize = 16 << 10;
/// Longest pause in a response to a client that has ended its half. What is sent to a closed connection is answered with a
/// reset, so that only a pause can hide that it is closed.
const SILENCE_MAX: Duration = Duration::from_secs(5);
const PROBE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What the end of a client's half of the connection means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtEnd {
    /// Nothing for sure, and an interim response may find out.
    Probe,
    /// Nothing for sure.
    Wait,
    /// Nothing for sure; what is sent next will tell, if it comes soon.
    Silence,
    /// That it has left.
    Gone,
}

/// A client whose response is pending.
#[derive(Debug)]
pub(super) struct Watch {
    at_end: AtEnd,
    ended: Option<Instant>,
    probed: bool,
}

impl Watch {
    pub(super) fn new(at_end: AtEnd) -> Self {
        Self { at_end, ended: None, probed: false }
    }

    /// A client whose response has not begun.
    pub(super) fn before_head(protocol: Protocol) -> Self {
        // "A server MUST NOT send a 1xx response to an HTTP/1.0 client" (RFC 9110 §15.2).
        Self::new(if protocol == Protocol::Http11 { AtEnd::Probe } else { AtEnd::Wait })
    }

    /// Waits until the client has left for sure. What it sends meanwhile comes into `buffer`. Can be dropped at any point
    /// without losing a byte.
    pub(super) async fn gone(&mut self, io: &mut Transport, buffer: &mut BytesMut) {
        let ended = loop {
            if let Some(ended) = self.ended {
                break ended;
            }
            if buffer.len() >= AHEAD_MAX {
                return std::future::pending().await;
            }
            buffer.reserve(READ_BYTES);
            match io.read_buf(buffer).await {
                Ok(1..) => {}
                Ok(0) if io.is_tls() || self.at_end == AtEnd::Gone => return,
                Ok(0) => self.ended = Some(Instant::now()),
                Err(_) => return,
            }
        };
        if self.at_end == AtEnd::Probe && !self.probed {
            tokio::select! {
                biased;
                () = io.failed() => return,
                () = tokio::time::sleep_until(ended + GRACE) => {}
            }
            self.probed = true;
            match io.write_now(PROBE) {
                Ok(count) if count == PROBE.len() => {}
                // Half of it: nothing whole can follow. A client that takes none of so little is watched as before.
                Ok(1..) | Err(_) => return,
                Ok(0) => {}
            }
        }
        if self.at_end == AtEnd::Silence {
            let _ = tokio::time::timeout(SILENCE_MAX, io.failed()).await;
            return;
        }
        io.failed().await;
    }
}
