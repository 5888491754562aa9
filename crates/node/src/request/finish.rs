//! The end of a request: one record for the access log and the metrics, and the fields that every answer gets anew.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use http::header::{REFERER, USER_AGENT};
use http::{HeaderMap, HeaderValue, StatusCode, Version};
use nearside_semantics::key::Scheme;

use super::Engine;
use crate::clock::instant;
use crate::h1::write;
use crate::outcome::Outcome;
use crate::server_timing;
use crate::trace::Trace;

/// Everything that is told of a request once it is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'r> {
    pub(crate) method: &'r str,
    pub(crate) scheme: Scheme,
    pub(crate) host: &'r [u8],
    pub(crate) target: &'r [u8],
    pub(crate) version: Version,
    pub(crate) client: Client,
    pub(crate) status: StatusCode,
    /// Bytes of the body that were sent.
    pub(crate) bytes: u64,
    pub(crate) times: Times,
    pub(crate) age: Option<u64>,
    /// The answer did not reach the client whole.
    pub(crate) cut: Option<&'static str>,
    pub(crate) outcome: &'r Outcome,
    /// Of what was not answered from the store at once.
    pub(crate) trace: Option<&'r Trace>,
    pub(crate) said: Said<'r>,
}

/// What a client says of itself, for logs that name it; else nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Said<'r> {
    /// `User-Agent`
    pub(crate) agent: &'r [u8],
    /// `Referer`
    pub(crate) referer: &'r [u8],
}

impl<'r> Said<'r> {
    /// What these fields say, if the log of `engine` names clients.
    pub(crate) fn of(engine: &Engine, fields: &'r HeaderMap) -> Self {
        let value = |name| fields.get(name).map_or(&b""[..], HeaderValue::as_bytes);
        let names = engine.config.access_log.names_clients();
        if names { Self { agent: value(USER_AGENT), referer: value(REFERER) } } else { Self::default() }
    }
}

/// Status in logs and metrics of a request whose client left before its response: "client closed request". No registered
/// status says it, and none is sent.
pub(crate) fn client_gone() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    /// Its address as text.
    text: [u8; IP_BYTES_MAX],
    length: usize,
}

/// The longest address, an IPv6 one without a zero.
const IP_BYTES_MAX: usize = 39;

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let ip = address.ip().to_canonical();
        let mut text = [0; IP_BYTES_MAX];
        let mut room = &mut text[..];
        // No address is longer.
        let _ = write!(room, "{ip}");
        let length = IP_BYTES_MAX - room.len();
        Self { text, length }
    }

    /// The address.
    pub(crate) fn address(&self) -> IpAddr {
        let text = std::str::from_utf8(self.text()).ok().and_then(|text| text.parse().ok());
        text.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// The address as a field value.
    pub(crate) fn value(&self) -> HeaderValue {
        HeaderValue::from_bytes(self.text()).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    }

    pub(crate) fn text(&self) -> &[u8] {
        self.text.get(..self.length).unwrap_or_default()
    }
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

/// What a head gets anew for each client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending<'e> {
    pub(crate) outcome: &'e Outcome,
    pub(crate) age: Option<u64>,
    pub(crate) persistence: Persistence,
    pub(crate) chunked: bool,
    /// When the request was complete.
    pub(crate) start: Instant,
}

impl Engine {
    /// Ends a prepared head: this node's member of `Cache-Status`, `Age`, `Server-Timing` where the site wants it, and
    /// the fields of the connection.
    pub(crate) fn end_head(&self, ending: &Ending<'_>, out: &mut Vec<u8>) {
        ending.outcome.member().write(self.config.id.as_str(), out);
        out.extend_from_slice(b"\r\n");
        if let Some(age) = ending.age {
            write::number("age", age, out);
        }
        if self.shows_timing(ending.outcome) {
            out.extend_from_slice(b"server-timing: ");
            self.write_timing(ending.outcome, ending.start, out);
            out.extend_from_slice(b"\r\n");
        }
        if ending.chunked {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        match ending.persistence {
            Persistence::Stays => {}
            Persistence::KeepAlive => out.extend_from_slice(b"connection: keep-alive\r\n"),
            Persistence::Closes => out.extend_from_slice(b"connection: close\r\n"),
        }
        out.extend_from_slice(b"\r\n");
    }

    pub(crate) fn shows_timing(&self, outcome: &Outcome) -> bool {
        outcome.site.is_some_and(|site| self.rules(site).server_timing)
    }

    /// The value of `Server-Timing` in the answer to a request that was complete at `start`.
    pub(crate) fn write_timing(&self, outcome: &Outcome, start: Instant, out: &mut Vec<u8>) {
        server_timing::write(outcome, &self.place, instant().saturating_duration_since(start), out);
    }
}
