//! Where other servers are, and what is theirs: a host and a port, NATS and its streams.

use std::fmt;
use std::str::FromStr;

use super::{ValueError, expected, split_authority};

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl FromStr for HostPort {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let parts =
            split_authority(text).and_then(|(host, port)| Some((host, port.parse().ok().filter(|port| *port != 0)?)));
        let (host, port) = parts.ok_or_else(|| expected("\"HOST:PORT\""))?;
        Ok(Self { host: host.to_owned(), port })
    }
}

/// A NATS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsUrl {
    /// Spoken over TLS.
    pub tls: bool,
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// The port of NATS.
const NATS_PORT: u16 = 4222;

impl FromStr for NatsUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wanted = || expected("\"nats://HOST:PORT\" or \"tls://HOST:PORT\", without a user or a path");
        let (scheme, rest) = text.split_once("://").ok_or_else(wanted)?;
        let tls = match scheme {
            "nats" => false,
            "tls" => true,
            _ => return Err(wanted()),
        };
        let (host, port) = split_authority(rest.strip_suffix('/').unwrap_or(rest)).ok_or_else(wanted)?;
        let port = match port {
            "" => NATS_PORT,
            digits => digits.parse().ok().filter(|port| *port != 0).ok_or_else(wanted)?,
        };
        Ok(Self { tls, host: host.to_owned(), port })
    }
}

impl fmt::Display for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "tls" } else { "nats" };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        write!(f, "{scheme}://{host}:{}", self.port)
    }
}

/// The name of a stream on NATS JetStream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamName(String);

impl StreamName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for StreamName {
    fn default() -> Self {
        Self("nearside".to_owned())
    }
}

impl FromStr for StreamName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if !text.is_empty() && text.len() <= 64 && text.chars().all(part) {
            Ok(Self(text.to_owned()))
        } else {
            Err(expected("a name of at most 64 letters, digits, '-' and '_'"))
        }
    }
}
