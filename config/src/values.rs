//! The values that stand in a file or behind a flag: sizes, spans, addresses, hosts, secrets.
//!
//! Each is parsed from text at the border and then is what its type says. The error says what is allowed.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

mod names;
mod network;
mod servers;

pub use names::{CookieName, FieldName, ParameterName};
pub use network::Network;
pub use servers::{HostPort, NatsUrl, StreamName};

/// A text that is not the value it should be: what is allowed in its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(pub String);

fn expected(what: impl Into<String>) -> ValueError {
    ValueError(what.into())
}

/// Splits `512MiB` into its number and its unit.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim()))
}

/// A number of bytes: `4096`, `64KiB`, `512MiB`, `1GiB`, `10MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wanted = || expected("a size with a unit: B, KiB, MiB, GiB, TiB, kB, MB, GB or TB, as in \"512MiB\"");
        let (number, unit) = number_and_unit(text).ok_or_else(wanted)?;
        let factor: u64 = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            "kB" | "KB" => 1000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            _ => return Err(wanted()),
        };
        number.checked_mul(factor).map(Self).ok_or_else(wanted)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.iter().find(|(factor, _)| self.0 >= *factor && self.0.is_multiple_of(*factor)) {
            Some((factor, unit)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// A span of time: `250ms`, `30s`, `5m`, `2h`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wanted = || expected("a time with a unit: ms, s, m, h or d, as in \"30s\"");
        let (number, unit) = number_and_unit(text).ok_or_else(wanted)?;
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wanted()),
        };
        number.checked_mul(millis).map(|ms| Self(Duration::from_millis(ms))).ok_or_else(wanted)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
        match units.iter().find(|(factor, _)| millis >= *factor && millis.is_multiple_of(*factor)) {
            Some((factor, unit)) => write!(f, "{}{unit}", millis / factor),
            None => write!(f, "{millis}ms"),
        }
    }
}

/// A share between 0 and 1, in thousandths: `0.1`, `0.125`, `1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fraction(pub u32);

impl FromStr for Fraction {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wanted = || expected("a number from 0 to 1 with at most three decimals, as in 0.1");
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        if !(1..=3).contains(&decimals.len()) || !decimals.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wanted());
        }
        let decimals: u32 = format!("{decimals:0<3}").parse().map_err(|_no_number| wanted())?;
        match whole {
            "0" => Ok(Self(decimals)),
            "1" if decimals == 0 => Ok(Self(1000)),
            _ => Err(wanted()),
        }
    }
}

/// Where to listen: `127.0.0.1:8080`, `[::1]:8080`, or `:8080` for every address of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddress(pub SocketAddr);

impl FromStr for ListenAddress {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let whole = if text.starts_with(':') { format!("[::]{text}") } else { text.to_owned() };
        let wanted = "an address with a port: \"127.0.0.1:8080\", \"[::1]:8080\", or \":8080\" for all addresses";
        whole.parse().map(Self).map_err(|_refused| expected(wanted))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A next hop: `http://127.0.0.1:9000`, `https://www.example.com`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// Spoken over TLS, with the host's certificate checked.
    pub tls: bool,
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl FromStr for Upstream {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wanted = || expected("a URL without a path: \"http://HOST:PORT\" or \"https://HOST\"");
        let (scheme, rest) = text.split_once("://").ok_or_else(wanted)?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(wanted()),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = split_authority(authority).ok_or_else(wanted)?;
        let port = match port {
            "" => {
                if tls {
                    443
                } else {
                    80
                }
            }
            digits => digits.parse().ok().filter(|port| *port != 0).ok_or_else(wanted)?,
        };
        Ok(Self { tls, host: host.to_owned(), port })
    }
}

fn split_authority(authority: &str) -> Option<(&str, &str)> {
    if let Some(literal) = authority.strip_prefix('[') {
        let (host, rest) = literal.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        return Some((host, if rest.is_empty() { "" } else { rest.strip_prefix(':')? }));
    }
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    is_host(host).then_some((host, port))
}

fn is_host(host: &str) -> bool {
    let label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !host.is_empty() && host.len() <= 253 && host.chars().all(label)
}

impl Upstream {
    /// As it stands in a `Host` field: the port only where it is not the scheme's own.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == if self.tls { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

/// The hosts that a site answers for: `www.example.com`, `*.example.com` (one or more labels before it), or `*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// Any host.
    Any,
    /// Every host that ends with a dot and this name.
    Below(String),
    /// This host.
    Exactly(String),
}

impl FromStr for HostPattern {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let lower = text.to_ascii_lowercase();
        let wanted = || expected("a host name without port or path, \"*.NAME\", or \"*\" for every host");
        match lower.strip_prefix('*') {
            Some("") => Ok(Self::Any),
            Some(rest) => match rest.strip_prefix('.') {
                Some(name) if is_host(name) => Ok(Self::Below(name.to_owned())),
                _ => Err(wanted()),
            },
            None if is_host(&lower) => Ok(Self::Exactly(lower)),
            None => Err(wanted()),
        }
    }
}

impl HostPattern {
    /// Whether it covers a host, given in lower case without port.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Below(name) => {
                host.strip_suffix(name.as_str()).is_some_and(|head| head.len() > 1 && head.ends_with('.'))
            }
            Self::Exactly(name) => host == name,
        }
    }

    /// Of two patterns that cover a host, the one with the greater number is meant.
    #[must_use]
    pub fn exactness(&self) -> usize {
        match self {
            Self::Any => 0,
            Self::Below(name) => name.len(),
            Self::Exactly(_) => usize::MAX,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Exactly(name) => f.write_str(name),
        }
    }
}

/// The name of a node: a token that stands in `Cache-Status`, `Via` and `CDN-Loop`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeId(String);

impl NodeId {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let rest = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let right = text.len() <= 64 && text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(rest);
        if right {
            Ok(Self(text.to_owned()))
        } else {
            Err(expected("a name of at most 64 letters, digits, '-', '_' and '.', that begins with a letter"))
        }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something that must not be seen: never printed, never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// A secret that is shorter can be guessed.
const SECRET_BYTES_MIN: usize = 16;

impl Secret {
    /// A secret from its text; white space around it does not belong to it.
    ///
    /// # Errors
    ///
    /// It is shorter than 16 bytes, or holds what a header field cannot.
    pub fn new(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        if text.len() < SECRET_BYTES_MIN || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(expected("a secret of at least 16 visible ASCII characters without spaces"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The secret in a file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds no secret.
    pub fn read(path: &Path) -> Result<Self, ValueError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| expected(format!("a readable file; {} is not: {error}", path.display())))?;
        Self::new(&text)
    }

    /// The secret in an environment variable.
    ///
    /// # Errors
    ///
    /// The variable is not set, or holds no secret.
    pub fn from_env(name: &str) -> Result<Self, ValueError> {
        let text = std::env::var(name)
            .map_err(|_unset| expected(format!("an environment variable that is set; {name} is not")))?;
        Self::new(&text)
    }

    /// The bytes, to compare or to send.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans_need_a_unit_that_exists() {
        assert_eq!("1GiB".parse(), Ok(ByteSize(1 << 30)));
        assert_eq!("10MB".parse(), Ok(ByteSize(10_000_000)));
        assert_eq!("250ms".parse(), Ok(Span(Duration::from_millis(250))));
        assert_eq!("2h".parse::<Span>().unwrap().to_string(), "2h");
        for bad in ["", "GiB", "1.5GiB", "-1B", "1GiBs", "99999999TiB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
        for bad in ["", "30", "s", "1.5s", "-1s", "1 week"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn fractions_are_exact_thousandths() {
        for (text, thousandths) in [("0.1", 100), ("0.125", 125), ("0", 0), ("1", 1000), ("1.0", 1000), ("0.0", 0)] {
            assert_eq!(text.parse(), Ok(Fraction(thousandths)), "{text}");
        }
        for bad in ["", "1.1", "2", "-0.1", "0.", ".5", "0.1234", "1e-1", "nan"] {
            assert!(bad.parse::<Fraction>().is_err(), "{bad}");
        }
    }

    #[test]
    fn upstreams_are_urls_without_a_path() {
        let parsed: Upstream = "https://www.example.com/".parse().unwrap();
        assert_eq!((parsed.authority().as_str(), parsed.port), ("www.example.com", 443));
        assert_eq!("http://[::1]:9000".parse::<Upstream>().unwrap().to_string(), "http://[::1]:9000");
        for bad in [
            "",
            "www.example.com",
            "ftp://a",
            "http://",
            "http://a:0",
            "http://a:99999",
            "http://a/b",
            "http://u@a",
            "http://[::1",
        ] {
            assert!(bad.parse::<Upstream>().is_err(), "{bad}");
        }
    }

    #[test]
    fn host_patterns_cover_whole_labels() {
        let below: HostPattern = "*.Example.com".parse().unwrap();
        assert!(below.covers("a.example.com") && below.covers("a.b.example.com"));
        assert!(!below.covers("example.com") && !below.covers("badexample.com") && !below.covers(".example.com"));
        assert!("*".parse::<HostPattern>().unwrap().covers("x"));
        assert!("exa*mple".parse::<HostPattern>().is_err() && "*x".parse::<HostPattern>().is_err());
    }

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new("0123456789abcdef\n").unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert!(Secret::new("short").is_err());
    }
}
