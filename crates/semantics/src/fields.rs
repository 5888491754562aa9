//! Field values as lists, and the fields that belong to one connection only.
//!
//! RFC 9110 §5.6.1 (lists), §5.6.4 (quoted strings), §7.6.1 (`Connection` and hop-by-hop fields); RFC 9111 §3.1
//! (which fields are stored).

use http::header::{ALT_SVC, CONNECTION, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};

/// The fields of a request, however they are held: the rules that every hit needs read a map as well as lines that
/// still stand in the buffer they were received in.
pub trait Fields {
    /// The values of all lines of a field, in their order.
    fn lines<'f>(&'f self, name: &'f HeaderName) -> impl Iterator<Item = &'f [u8]>;

    /// Whether there is any line of a field.
    fn has(&self, name: &HeaderName) -> bool {
        self.lines(name).next().is_some()
    }

    /// The value of a field that stands on one line only.
    fn sole<'f>(&'f self, name: &'f HeaderName) -> Option<&'f [u8]> {
        let mut lines = self.lines(name);
        lines.next().filter(|_| lines.next().is_none())
    }
}

impl Fields for HeaderMap {
    fn lines<'f>(&'f self, name: &'f HeaderName) -> impl Iterator<Item = &'f [u8]> {
        self.get_all(name).iter().map(HeaderValue::as_bytes)
    }
}

/// `Keep-Alive`, obsolete but still sent.
pub const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// `Proxy-Connection`, never a standard but still sent.
pub const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// `Proxy-Authenticate` (RFC 9110 §11.7.1).
pub const PROXY_AUTHENTICATE: HeaderName = HeaderName::from_static("proxy-authenticate");
/// `Proxy-Authorization` (RFC 9110 §11.7.2).
pub const PROXY_AUTHORIZATION: HeaderName = HeaderName::from_static("proxy-authorization");
/// `Proxy-Authentication-Info` (RFC 9110 §11.7.3).
pub const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");

/// The fields that concern one connection and never travel further (RFC 9110 §7.6.1, RFC 9111 §3.1).
pub const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    PROXY_AUTHENTICATION_INFO,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// `Alt-Used` (RFC 7838 §5): the alternative service that the client has connected to.
pub const ALT_USED: HeaderName = HeaderName::from_static("alt-used");
/// `HTTP2-Settings` (RFC 7540 §3.2.1): the settings of a connection that a client offers to upgrade.
pub const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// The fields that describe the server or the connection of the sender, although HTTP does not count them as hop-by-hop.
///
/// `Alt-Svc` tells the client where else the origin answers for the host. Passed on, it would lead the client of an edge
/// past every edge, to an origin that may not even be reachable from there.
pub const OF_THE_SENDER: [HeaderName; 3] = [ALT_SVC, ALT_USED, HTTP2_SETTINGS];

/// Removes every hop-by-hop field, every field that describes the sender's own connection or server, and everything that
/// `Connection` nominates.
pub fn strip_hop_by_hop(fields: &mut HeaderMap) {
    let is_local = |name: &&HeaderName| HOP_BY_HOP.contains(name) || OF_THE_SENDER.contains(name);
    strip_nominated(fields);
    // Looked up by what is there: of thirteen such names hardly two ever are.
    while let Some(name) = fields.keys().find(is_local).cloned() {
        fields.remove(name);
    }
}

/// Removes what `Connection` nominates, but the fields that are hop-by-hop anyway, `Connection` among them.
///
/// A cache does this before it looks at a request: a field that does not go forward must not select a variant either.
pub fn strip_nominated(fields: &mut HeaderMap) {
    let nominated: Vec<HeaderName> = fields
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| members(line.as_bytes()))
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .filter(|name| !HOP_BY_HOP.contains(name))
        .collect();
    for name in nominated {
        fields.remove(name);
    }
}

/// Whether any line of a list field has `token` as a member, compared without case.
#[must_use]
pub fn lists(fields: &HeaderMap, name: &HeaderName, token: &[u8]) -> bool {
    fields.get_all(name).iter().any(|line| members(line.as_bytes()).any(|m| m.eq_ignore_ascii_case(token)))
}

/// The members of one line of a list field: split at commas outside of quoted strings, trimmed, empty ones left out.
///
/// A quoted string that does not end swallows the rest of the line.
pub fn members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    Members { rest: Some(line) }.filter(|m| !m.is_empty())
}

struct Members<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Members<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.rest?;
        let end = member_end(line);
        let (member, rest) = line.split_at_checked(end).unwrap_or((line, &[]));
        self.rest = rest.get(1..);
        Some(member.trim_ascii())
    }
}

/// Where the first member of `line` ends: the place of its comma, or the end.
fn member_end(line: &[u8]) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in line.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return at,
            _ => {}
        }
    }
    line.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_split_outside_of_quotes_only() {
        let found: Vec<&[u8]> = members(b" a , \"b,\\\",c\" ,, d ").collect();
        assert_eq!(found, [&b"a"[..], b"\"b,\\\",c\"", b"d"]);
    }

    #[test]
    fn rfc9110_s7_6_1_nominated_fields_go_with_the_known_ones() {
        let mut fields = HeaderMap::new();
        for (name, value) in [
            ("connection", "X-One, close"),
            ("connection", "x-two"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("keep-alive", "timeout=5"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authentication-info", "rspauth=1"),
            ("proxy-connection", "keep-alive"),
            ("alt-svc", "h3=\":443\""),
            ("alt-used", "origin.example:443"),
            ("http2-settings", "AAMAAABkAAQAAP__"),
            ("upgrade", "h2c"),
            ("x-kept", "3"),
        ] {
            fields.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        strip_hop_by_hop(&mut fields);
        assert_eq!(fields.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-kept"]);
    }
}
