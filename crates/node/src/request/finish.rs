//! The end of a request: one record for the access log and the metrics, and the fields that every answer gets anew.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::{StatusCode, Version};
use nearside_semantics::key::Scheme;

use crate::h1::write;
use crate::outcome::Outcome;

/// Everything that is told of a request once it is over.
#[derive(Debug)]
pub(crate) struct Record<'r> {
    pub(crate) method: &'r str,
    pub(crate) scheme: Scheme,
    pub(crate) host: &'r [u8],
    pub(crate) target: &'r [u8],
    pub(crate) version: Version,
    pub(crate) client: SocketAddr,
    pub(crate) status: StatusCode,
    /// Bytes of the body that were sent.
    pub(crate) bytes: u64,
    pub(crate) times: Times,
    pub(crate) age: Option<u64>,
    /// The answer did not reach the client whole.
    pub(crate) cut: Option<&'static str>,
    pub(crate) outcome: &'r Outcome,
}

/// When a request was complete, and when its answer began and ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) start: Instant,
    pub(crate) first_byte: Instant,
    pub(crate) end: Instant,
}

impl Times {
    pub(crate) fn first_byte_after(&self) -> Duration {
        self.first_byte.saturating_duration_since(self.start)
    }

    pub(crate) fn duration(&self) -> Duration {
        self.end.saturating_duration_since(self.start)
    }
}

/// What becomes of the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// HTTP/1.1, stays open: needs no word.
    Stays,
    /// HTTP/1.0, stays open because the client asked for it.
    KeepAlive,
    /// Is closed.
    Closes,
}

/// Ends a prepared head: this node's member of `Cache-Status`, `Age`, and the fields of the connection.
pub(crate) fn end_head(
    id: &str,
    outcome: &Outcome,
    age: Option<u64>,
    persistence: Persistence,
    chunked: bool,
    out: &mut Vec<u8>,
) {
    outcome.member().write(id, out);
    out.extend_from_slice(b"\r\n");
    if let Some(age) = age {
        write::number("age", age, out);
    }
    if chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    match persistence {
        Persistence::Stays => {}
        Persistence::KeepAlive => out.extend_from_slice(b"connection: keep-alive\r\n"),
        Persistence::Closes => out.extend_from_slice(b"connection: close\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}
