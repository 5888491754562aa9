//! The primary cache key: scheme, host and target of a request (RFC 9111 §2).
//!
//! Normalised only as far as RFC 9110 §4.2.3 makes two URIs equal for every origin: case of the host, the default
//! port, a trailing dot of the host (the root label), an empty path. Path and query bytes stand as they came:
//! `/a/../b`, `/%2e`, `/A` and `?b&a` are keys of their own. What a site or a response says of the query
//! ([`crate::query`]) is applied to the target before; what else of a request selects is a matter of variants
//! ([`crate::vary`]), so that all of them share one key and go together.

use std::net::Ipv6Addr;

/// The scheme of a request, as the client used it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

impl Scheme {
    /// As it stands in a URI.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that need not be named.
    #[must_use]
    pub const fn default_port(self) -> &'static str {
        match self {
            Self::Http => "80",
            Self::Https => "443",
        }
    }
}

/// Writes the key of a request into `key`, which is cleared first.
///
/// `authority` is a valid `Host` value, `target` a path with an optional query. The parts are set apart by line feeds,
/// which none of them can hold.
pub fn write(scheme: Scheme, authority: &[u8], target: &[u8], key: &mut Vec<u8>) {
    key.clear();
    key.reserve_exact(scheme.as_str().len() + authority.len() + target.len() + 3);
    key.extend_from_slice(scheme.as_str().as_bytes());
    key.push(b'\n');
    write_host(scheme, authority, key);
    key.push(b'\n');
    if target.first() != Some(&b'/') {
        key.push(b'/');
    }
    key.extend_from_slice(target);
}

/// Writes the one form that all spellings of an authority have in the key behind `out`.
pub fn write_host(scheme: Scheme, authority: &[u8], out: &mut Vec<u8>) {
    let (host, port) = split_port(authority);
    let start = out.len();
    out.extend_from_slice(host.strip_suffix(b".").unwrap_or(host));
    if let Some(host) = out.get_mut(start..) {
        host.make_ascii_lowercase();
    }
    if !port.is_empty() && port != scheme.default_port().as_bytes() {
        out.push(b':');
        out.extend_from_slice(port);
    }
}

/// Host and port of an authority; the port is empty where none is given. IPv6 literals keep their brackets.
#[must_use]
pub fn split_port(authority: &[u8]) -> (&[u8], &[u8]) {
    // The first from behind: a colon inside of brackets is not the one that sets the port off.
    let end = authority.iter().rposition(|b| matches!(b, b':' | b']'));
    match end.and_then(|at| authority.split_at_checked(at)) {
        Some((host, [b':', port @ ..])) => (host, port),
        _ => (authority, &[]),
    }
}

/// The host of an authority as patterns are written: without a port or a trailing dot, in lower case.
#[must_use]
pub fn host_of(authority: &str) -> String {
    let (host, _) = split_port(authority.as_bytes());
    String::from_utf8_lossy(host.strip_suffix(b".").unwrap_or(host)).to_ascii_lowercase()
}

/// The bytes of a registered name that stand for themselves (RFC 3986 §3.2.2).
const IN_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        #[expect(clippy::cast_possible_truncation, clippy::indexing_slicing, reason = "below 128")]
        {
            table[byte] = (byte as u8).is_ascii_alphanumeric()
                || matches!(
                    byte as u8,
                    b'-' | b'.'
                        | b'_'
                        | b'~'
                        | b'!'
                        | b'$'
                        | b'&'
                        | b'\''
                        | b'('
                        | b')'
                        | b'*'
                        | b'+'
                        | b','
                        | b';'
                        | b'='
                );
        }
        byte += 1;
    }
    table
};

/// Whether `authority` has the form of RFC 3986 §3.2 without user information: what a `Host` may hold.
#[must_use]
pub fn is_authority(authority: &[u8]) -> bool {
    let (host, port) = split_port(authority);
    let host_is_right = match host {
        [b'[', inner @ .., b']'] => std::str::from_utf8(inner).is_ok_and(|inner| inner.parse::<Ipv6Addr>().is_ok()),
        _ => !host.is_empty() && (host.iter().all(in_name) || is_escaped_name(host)),
    };
    host_is_right && is_port(port)
}

fn in_name(byte: &u8) -> bool {
    IN_NAME.get(usize::from(*byte)) == Some(&true)
}

/// Whether a registered name with `%` in it has two hexadecimal digits behind each. Servers that decode names read a
/// malformed one as they like.
fn is_escaped_name(host: &[u8]) -> bool {
    let mut rest = host;
    loop {
        rest = match rest {
            [] => return true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            [byte, rest @ ..] if in_name(byte) => rest,
            _ => return false,
        };
    }
}

/// Whether a port is absent, or a number that TCP has. Larger ones wrap around in some servers, and lead to another port.
fn is_port(port: &[u8]) -> bool {
    let value = port.iter().fold(0_u32, |value, digit| value.saturating_mul(10).saturating_add(u32::from(digit & 15)));
    port.len() <= 5 && port.iter().all(u8::is_ascii_digit) && value <= u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(scheme: Scheme, authority: &str, target: &str) -> Vec<u8> {
        let mut key = vec![1];
        write(scheme, authority.as_bytes(), target.as_bytes(), &mut key);
        key
    }

    #[test]
    fn equal_uris_have_one_key() {
        let plain = key(Scheme::Http, "example.org", "/");
        for (authority, target) in [
            ("EXAMPLE.org", "/"),
            ("example.org:80", "/"),
            ("example.org.", "/"),
            ("example.org:", ""),
            ("example.org.:80", "/"),
        ] {
            assert_eq!(key(Scheme::Http, authority, target), plain, "{authority} {target}");
        }
        assert_eq!(key(Scheme::Https, "[::1]:443", "/"), key(Scheme::Https, "[::1]", "/"));
    }

    #[test]
    fn different_uris_never_share_a_key() {
        let all = [
            key(Scheme::Http, "example.org", "/"),
            key(Scheme::Https, "example.org", "/"),
            key(Scheme::Http, "example.org:443", "/"),
            key(Scheme::Http, "example.org:8080", "/"),
            key(Scheme::Http, "www.example.org", "/"),
            key(Scheme::Http, "example.org", "/?"),
            key(Scheme::Http, "example.org", "/a"),
            key(Scheme::Http, "example.org", "/A"),
            key(Scheme::Http, "example.org", "/a/"),
            key(Scheme::Http, "example.org", "//a"),
            key(Scheme::Http, "example.org", "/b/../a"),
            key(Scheme::Http, "example.org", "/%61"),
            key(Scheme::Http, "example.org", "/a?b&a"),
            key(Scheme::Http, "example.org", "/a?a&b"),
            key(Scheme::Http, "example.org", "/a?a&b&"),
            key(Scheme::Http, "[::1]", "/"),
            key(Scheme::Http, "[::1]:1", "/"),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[at + 1..].contains(one), "{}", String::from_utf8_lossy(one));
        }
    }

    #[test]
    fn rfc9110_s7_2_only_an_authority_is_a_host() {
        for good in [
            "a",
            "a.b",
            "a:80",
            "a:",
            "a:65535",
            "a%2Fb%c3%BC",
            "[::1]",
            "[::1]:80",
            "[::ffff:192.0.2.1]",
            "127.0.0.1:9080",
            "xn--bcher-kva.example",
            "a_b",
        ] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a b",
            "a/b",
            "u@a",
            "a:b",
            "a:123456",
            "a:65536",
            "a:99999",
            "a:+1",
            "[::1",
            "::1",
            "a?b",
            "a#b",
            "a\\b",
            "[]",
            "[:]",
            "[1.2.3.4]",
            "[::1%25lo]",
            "[::1]a",
            "a%zz",
            "a%",
            "a%4",
            "%%41",
            "a%4g:80",
            "a\u{fc}",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn the_host_of_an_authority_has_neither_port_nor_trailing_dot_nor_capitals() {
        for (authority, host) in
            [("WWW.A.org.:80", "www.a.org"), ("a.org", "a.org"), ("[::1]:8080", "[::1]"), ("[::1]", "[::1]")]
        {
            assert_eq!(host_of(authority), host);
        }
    }
}
