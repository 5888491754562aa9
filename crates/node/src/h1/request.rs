//! The gate for HTTP/1 requests: what passes has one meaning only (RFC 9112 §2–3, §5).
//!
//! Refused with 400: bare CR or LF, obs-fold, white space before a colon, no or several `Host`, a `Host` or target that
//! is no authority or path, `HTTP/1.1` features in `HTTP/1.0`. Refused by size: 414 and 431.

use std::mem::MaybeUninit;

use crate::reason::Reason;
use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use nearside_semantics::key::{Scheme, is_authority};

/// More lines than any limit allows; the limit itself is configured.
pub(crate) const FIELDS_MAX: usize = 256;

/// Why a request is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What the client is told.
    pub(crate) status: StatusCode,
    /// The reason, as a token.
    pub(crate) reason: Reason,
}

impl Refusal {
    pub(crate) const fn bad(reason: Reason) -> Self {
        Self { status: StatusCode::BAD_REQUEST, reason }
    }
}

/// Where the head at the front of a buffer ends, behind its empty line.
pub(crate) fn head_end(buffer: &[u8], searched: usize) -> Option<usize> {
    let from = searched.saturating_sub(3);
    let tail = buffer.get(from..)?;
    let mut at = 0;
    while let Some(feed) = tail.get(at..)?.iter().position(|b| *b == b'\n') {
        at += feed + 1;
        // Also an empty line of bare line feeds ends the head, so that it is refused and not waited for.
        match tail.get(at..) {
            Some([b'\n', ..]) => return Some(from + at + 1),
            Some([b'\r', b'\n', ..]) => return Some(from + at + 2),
            _ => {}
        }
    }
    None
}

/// A request line and its fields, borrowed from the buffer.
pub(crate) struct RawHead<'b> {
    pub(crate) method: &'b str,
    pub(crate) target: &'b [u8],
    pub(crate) version: Version,
    pub(crate) fields: &'b [httparse::Header<'b>],
}

/// Parses a complete head.
pub(crate) fn parse<'b>(
    head: &'b [u8],
    fields: &'b mut [MaybeUninit<httparse::Header<'b>>; FIELDS_MAX],
    fields_max: usize,
) -> Result<RawHead<'b>, Refusal> {
    if !lines_end_well(head) {
        return Err(Refusal::bad(Reason::BareCrOrLf));
    }
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, fields) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Refusal::bad(Reason::Malformed)),
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_MANY_FIELDS),
        Err(httparse::Error::Version) if has_three_words(head) => {
            return Err(Refusal { status: StatusCode::HTTP_VERSION_NOT_SUPPORTED, reason: Reason::Version });
        }
        Err(_) => return Err(Refusal::bad(Reason::Malformed)),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(Refusal::bad(Reason::Malformed));
    };
    if request.headers.len() > fields_max {
        return Err(TOO_MANY_FIELDS);
    }
    let version = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    Ok(RawHead { method, target: target.as_bytes(), version, fields: request.headers })
}

/// Whether the request line has the form of one, whatever the version in it.
fn has_three_words(head: &[u8]) -> bool {
    let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
    line.split(|b| *b == b' ').count() == 3
}

const TOO_MANY_FIELDS: Refusal =
    Refusal { status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, reason: Reason::TooManyFields };

/// Every CR is followed by LF, every LF preceded by CR.
pub(crate) fn lines_end_well(head: &[u8]) -> bool {
    let mut before = 0;
    let mut well = true;
    // Without an early exit: nearly all heads are well, and a branch per byte would gain nothing.
    for byte in head {
        well &= (*byte == b'\n') == (before == b'\r');
        before = *byte;
    }
    well
}

/// The parts of a target.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target<'b> {
    /// Path and query; `*` for the whole server.
    pub(crate) path_and_query: &'b [u8],
    /// In absolute-form, the authority that stands there and overrides `Host` (RFC 9112 §3.2.2).
    pub(crate) authority: Option<&'b [u8]>,
}

/// Whether all bytes may stand in a target.
pub(crate) fn is_target(target: &[u8]) -> bool {
    target.iter().all(|b| b.is_ascii_graphic() && *b != b'#')
}

/// Reads a target in origin-form, absolute-form or asterisk-form.
pub(crate) fn target<'b>(target: &'b [u8], method: &str, scheme: Scheme) -> Result<Target<'b>, Refusal> {
    if !is_target(target) {
        return Err(Refusal::bad(Reason::Target));
    }
    if method == "CONNECT" {
        return Err(Refusal { status: StatusCode::NOT_IMPLEMENTED, reason: Reason::Connect });
    }
    if target.first() == Some(&b'/') {
        return Ok(Target { path_and_query: target, authority: None });
    }
    if target == b"*" && method == "OPTIONS" {
        return Ok(Target { path_and_query: target, authority: None });
    }
    absolute(target, scheme).ok_or(Refusal::bad(Reason::Target))
}

fn absolute(target: &[u8], scheme: Scheme) -> Option<Target<'_>> {
    let (name, rest) = target.split_at_checked(scheme.as_str().len())?;
    if !name.eq_ignore_ascii_case(scheme.as_str().as_bytes()) {
        return None;
    }
    let rest = rest.strip_prefix(b"://")?;
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, path_and_query) = rest.split_at_checked(end)?;
    is_authority(authority).then_some(Target { path_and_query, authority: Some(authority) })
}

/// The one valid `Host` (RFC 9112 §3.2).
pub(crate) fn host(fields: &HeaderMap) -> Result<&[u8], Refusal> {
    let mut lines = fields.get_all(HOST).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Err(Refusal::bad(Reason::HostMissing)),
        (Some(_), Some(_)) => Err(Refusal::bad(Reason::HostRepeated)),
        (Some(only), None) if is_authority(only.as_bytes()) => Ok(only.as_bytes()),
        (Some(_), None) => Err(Refusal::bad(Reason::Host)),
    }
}

/// The fields as a map, whose values share the bytes of the head.
pub(crate) fn to_map(head: &Bytes, fields: &[httparse::Header<'_>]) -> Result<HeaderMap, Refusal> {
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_no_name| Refusal::bad(Reason::FieldName))?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value))
            .map_err(|_no_value| Refusal::bad(Reason::FieldValue))?;
        map.append(name, value);
    }
    Ok(map)
}

/// A method of any name.
pub(crate) fn method(name: &str) -> Result<Method, Refusal> {
    Method::from_bytes(name.as_bytes()).map_err(|_no_method| Refusal::bad(Reason::BadMethod))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(head: &str) -> Result<(String, HeaderMap), Refusal> {
        let head = Bytes::copy_from_slice(head.as_bytes());
        assert_eq!(head_end(&head, 0), Some(head.len()), "the head ends where the text does");
        let mut lines = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let raw = parse(&head, &mut lines, 8)?;
        let target = target(raw.target, raw.method, Scheme::Http)?;
        let fields = to_map(&head, raw.fields)?;
        host(&fields)?;
        Ok((String::from_utf8(target.path_and_query.to_vec()).unwrap(), fields))
    }

    #[test]
    fn heads_with_two_meanings_are_refused() {
        for (head, reason) in [
            ("GET / HTTP/1.1\r\n\r\n", "host-missing"),
            ("GET / HTTP/1.0\r\n\r\n", "host-missing"),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "host-repeated"),
            ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "host"),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "host"),
            ("GET / HTTP/1.1\r\nHost: \r\n\r\n", "host"),
            ("GET / HTTP/1.1\nHost: a\n\n", "bare-cr-or-lf"),
            ("GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "bare-cr-or-lf"),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n", "bare-cr-or-lf"),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", "malformed"),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "malformed"),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "malformed"),
            ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "malformed"),
            ("GET /#f HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
            ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
            ("GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
            ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
            ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "connect"),
            ("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", "connect"),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "version"),
        ] {
            let found = gate(head).err().map(|refusal| refusal.reason.token());
            assert_eq!(found, Some(reason), "{head:?}");
        }
    }

    #[test]
    fn lawful_heads_pass() {
        for (head, path) in [
            ("GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n", "/a?b"),
            ("GET http://a/b HTTP/1.1\r\nhost: x\r\n\r\n", "/b"),
            ("GET HTTP://a?b HTTP/1.1\r\nHost: a\r\n\r\n", "?b"),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "*"),
            ("FROB /../%2e HTTP/1.0\r\nHost: a:80\r\nX:\t b \r\n\r\n", "/../%2e"),
        ] {
            assert_eq!(gate(head).map(|(path, _)| path).as_deref(), Ok(path), "{head:?}");
        }
        let repeated = gate("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nY: 2\r\nX: 3\r\n\r\n").unwrap().1;
        assert_eq!(repeated.get_all("x").iter().collect::<Vec<_>>(), ["1", "3"]);
    }

    #[test]
    fn too_many_fields_are_too_many() {
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(8));
        assert_eq!(gate(&many).err(), Some(TOO_MANY_FIELDS));
    }

    #[test]
    fn the_end_of_a_head_is_found_wherever_the_bytes_are_cut() {
        let wire = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
        for cut in 0..wire.len() {
            let (first, _) = wire.split_at(cut);
            let expected = (cut >= 27).then_some(27);
            assert_eq!(head_end(first, 0), expected, "{cut}");
            if expected.is_none() {
                assert_eq!(head_end(wire, cut), Some(27), "searched {cut}");
            }
        }
    }
}
