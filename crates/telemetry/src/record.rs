//! The record of a request that has ended, from which the access log, the metrics and the traces are written.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use http::header::{REFERER, USER_AGENT};
use http::{HeaderMap, HeaderValue, StatusCode};
use nearside_config::AccessLog;
use nearside_semantics::key::Scheme;

use crate::outcome::Outcome;
use crate::protocol::Protocol;
use crate::trace::Trace;

/// Everything that is told of a request once it is over.
#[derive(Debug, Clone, Copy)]
pub struct Record<'r> {
    /// The request.
    pub requested: Requested<'r>,
    /// Status code of the response.
    pub status: StatusCode,
    /// Value of `Age`, in seconds.
    pub age: Option<u64>,
    /// Outcome.
    pub outcome: &'r Outcome,
    /// Bytes of the body that were sent.
    pub bytes: u64,
    /// Start, first byte and end.
    pub times: Times,
    /// Why the response did not reach its client whole.
    pub truncation: Option<Truncation>,
}

/// The request that a record is about.
#[derive(Debug, Clone, Copy)]
pub struct Requested<'r> {
    /// Method.
    pub method: &'r str,
    /// Scheme of the connection.
    pub scheme: Scheme,
    /// Authority.
    pub host: &'r [u8],
    /// Request target; its query is never logged.
    pub target: &'r [u8],
    /// Protocol that the client speaks.
    pub protocol: Protocol,
    /// Other end of the connection.
    pub client: Client,
    /// Trace, unless it was answered from the store at once.
    pub trace: Option<&'r Trace>,
    /// User agent and referrer, where the log has them.
    pub said: Said<'r>,
}

/// The response that a record is about.
#[derive(Debug, Clone, Copy)]
pub struct Responded<'r> {
    /// Status code.
    pub status: StatusCode,
    /// Value of `Age`, in seconds.
    pub age: Option<u64>,
    /// Outcome of the request.
    pub outcome: &'r Outcome,
}

/// How much of a response was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Bytes of the body.
    pub bytes: u64,
    /// When the first byte of the response was sent; `None`: when the last one was.
    pub first_byte: Option<Instant>,
    /// Why the response did not reach its client whole.
    pub truncation: Option<Truncation>,
}

impl Sent {
    /// Nothing, as the client has left.
    #[must_use]
    pub const fn client_gone() -> Self {
        Self { bytes: 0, first_byte: None, truncation: Some(Truncation::ClientGone) }
    }

    /// The times of a response to a request that was complete at `start`, which was sent up to `end`.
    #[must_use]
    pub fn times(&self, start: Instant, end: Instant) -> Times {
        Times { start, first_byte: self.first_byte.unwrap_or(end), end }
    }
}

impl<'r> Record<'r> {
    /// The record of a request.
    #[must_use]
    pub fn new(requested: Requested<'r>, responded: Responded<'r>, sent: &Sent, times: Times) -> Self {
        let Responded { status, age, outcome } = responded;
        let Sent { bytes, truncation, .. } = *sent;
        Self { requested, status, age, outcome, bytes, times, truncation }
    }
}

/// Cause of a response that did not reach its client whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncation {
    /// The client left, or took the response too slowly.
    ClientGone,
    /// The body from the upstream ended before its stated length, or broke off.
    UpstreamCut,
}

impl Truncation {
    /// Value of `error` in the access log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientGone => "client-gone",
            Self::UpstreamCut => "upstream-cut",
        }
    }
}

/// What a client says of itself, for logs that name it; else nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Said<'r> {
    /// `User-Agent`
    pub agent: &'r [u8],
    /// `Referer`
    pub referer: &'r [u8],
}

impl<'r> Said<'r> {
    /// What these fields say, if `log` names clients.
    pub fn of(log: &AccessLog, fields: &'r HeaderMap) -> Self {
        let value = |name| fields.get(name).map_or(&b""[..], HeaderValue::as_bytes);
        if log.names_clients() { Self { agent: value(USER_AGENT), referer: value(REFERER) } } else { Self::default() }
    }
}

/// Status in logs and metrics of a request whose client left before its response: "client closed request". No registered
/// status says it, and none is sent.
pub fn client_gone() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    /// Its address as text.
    text: [u8; IP_BYTES_MAX],
    length: usize,
    address: IpAddr,
}

/// The longest address, an IPv6 one without a zero.
const IP_BYTES_MAX: usize = 39;

impl Client {
    /// The client at an address.
    pub fn new(address: SocketAddr) -> Self {
        let ip = address.ip().to_canonical();
        let mut text = [0; IP_BYTES_MAX];
        let mut room = &mut text[..];
        // No address is longer.
        let _ = write!(room, "{ip}");
        let length = IP_BYTES_MAX - room.len();
        Self { text, length, address: ip }
    }

    /// The address; IPv4 clients of an IPv6 socket have their IPv4 address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The address as a field value.
    pub fn value(&self) -> HeaderValue {
        HeaderValue::from_bytes(self.text()).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    }

    pub(crate) fn text(&self) -> &[u8] {
        self.text.get(..self.length).unwrap_or_default()
    }
}

/// When a request was complete, and when its answer began and ended.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// When the request was complete.
    pub start: Instant,
    /// When the first byte of the response was sent.
    pub first_byte: Instant,
    /// When the last byte of the response was sent.
    pub end: Instant,
}

impl Times {
    pub(crate) fn first_byte_after(&self) -> Duration {
        self.first_byte.saturating_duration_since(self.start)
    }

    pub(crate) fn duration(&self) -> Duration {
        self.end.saturating_duration_since(self.start)
    }
}
