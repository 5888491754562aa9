//! How clients reach an edge, for those who send them to it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::values::ValueError;

/// How clients reach an edge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Public {
    /// Its own URL.
    pub url: Option<PublicUrl>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Requests a second that it is meant for.
    pub capacity: Option<u64>,
}

/// A scheme and an authority, in which `{host}` stands for the one that the client has asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(String);

impl PublicUrl {
    /// Of a client that has asked for `host`, with its port if there was one.
    #[must_use]
    pub fn of(&self, host: &str) -> String {
        self.0.replace(HOST, host)
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is reached over TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.0.starts_with("https:")
    }
}

const HOST: &str = "{host}";

impl FromStr for PublicUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let text = text.strip_suffix('/').unwrap_or(text);
        let authority = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let authority = authority.map(|authority| authority.replacen(HOST, "h", 1));
        let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '[' | ']');
        if authority.is_some_and(|authority| !authority.is_empty() && authority.chars().all(part)) {
            return Ok(Self(text.to_owned()));
        }
        Err(ValueError(
            "a URL without a path, in which {host} is the host that was asked for: \"https://nrt.{host}\"".to_owned(),
        ))
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
