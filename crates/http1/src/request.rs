//! The gate for HTTP/1 requests: what passes has one meaning only (RFC 9112 §2–3, §5).
//!
//! Refused with 400: bare CR or LF, obs-fold, white space before a colon, no or several `Host`, a `Host` or target that
//! is no authority or path, `HTTP/1.1` features in `HTTP/1.0`. Refused by size: 414 and 431.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use nearside_semantics::key::{Scheme, is_authority};

/// More lines than any limit allows; the limit itself is configured.
pub const FIELDS_MAX: usize = 256;

/// Fault of a request head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestError {
    /// A CR without LF, or an LF without CR.
    BareCrOrLf,
    /// No request line, or a line that is no field.
    Malformed,
    /// Another version than HTTP/1.0 and HTTP/1.1.
    Version,
    /// More fields than are accepted.
    TooManyFields,
    /// A target that is neither a path nor a URL of this scheme.
    Target,
    /// `CONNECT`, which is not supported.
    Connect,
    /// A token was expected as the method.
    Method,
    /// No `Host`.
    HostMissing,
    /// More than one `Host`.
    HostRepeated,
    /// A `Host` that is no authority.
    Host,
    /// A name that is no token.
    FieldName,
    /// A value with a control character.
    FieldValue,
}

impl RequestError {
    /// Status of the response to such a request.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Connect => StatusCode::NOT_IMPLEMENTED,
            Self::BareCrOrLf
            | Self::Malformed
            | Self::Target
            | Self::Method
            | Self::HostMissing
            | Self::HostRepeated
            | Self::Host
            | Self::FieldName
            | Self::FieldValue => StatusCode::BAD_REQUEST,
        }
    }
}

/// Where the head at the front of a buffer ends, behind its empty line.
pub fn head_end(buffer: &[u8], searched: usize) -> Option<usize> {
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
pub struct RawHead<'b> {
    /// Method.
    pub method: &'b str,
    /// Request target, in whichever form.
    pub target: &'b [u8],
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// Field lines.
    pub fields: &'b [httparse::Header<'b>],
}

/// Parses a complete head.
///
/// # Errors
///
/// The head is malformed, or has too many fields.
pub fn parse<'b>(
    head: &'b [u8],
    fields: &'b mut [MaybeUninit<httparse::Header<'b>>; FIELDS_MAX],
    fields_max: usize,
) -> Result<RawHead<'b>, RequestError> {
    if !lines_end_well(head) {
        return Err(RequestError::BareCrOrLf);
    }
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, fields) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(RequestError::Malformed),
        Err(httparse::Error::TooManyHeaders) => return Err(RequestError::TooManyFields),
        Err(httparse::Error::Version) if has_three_words(head) => {
            return Err(RequestError::Version);
        }
        Err(_) => return Err(RequestError::Malformed),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(RequestError::Malformed);
    };
    if request.headers.len() > fields_max {
        return Err(RequestError::TooManyFields);
    }
    let version = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    Ok(RawHead { method, target: target.as_bytes(), version, fields: request.headers })
}

/// Whether the request line has the form of one, whatever the version in it.
fn has_three_words(head: &[u8]) -> bool {
    let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
    line.split(|b| *b == b' ').count() == 3
}

/// Every CR is followed by LF, every LF preceded by CR.
pub fn lines_end_well(head: &[u8]) -> bool {
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
pub struct Target<'b> {
    /// Path and query; `*` for the whole server.
    pub path_and_query: &'b [u8],
    /// In absolute-form, the authority that stands there and overrides `Host` (RFC 9112 §3.2.2).
    pub authority: Option<&'b [u8]>,
}

/// Whether all bytes may stand in a target.
pub fn is_target(target: &[u8]) -> bool {
    target.iter().all(|b| b.is_ascii_graphic() && *b != b'#')
}

/// Reads a target in origin-form, absolute-form or asterisk-form.
///
/// # Errors
///
/// The target has none of these forms, or names another scheme.
pub fn target<'b>(target: &'b [u8], method: &str, scheme: Scheme) -> Result<Target<'b>, RequestError> {
    if !is_target(target) {
        return Err(RequestError::Target);
    }
    if method == "CONNECT" {
        return Err(RequestError::Connect);
    }
    if target.first() == Some(&b'/') {
        return Ok(Target { path_and_query: target, authority: None });
    }
    if target == b"*" && method == "OPTIONS" {
        return Ok(Target { path_and_query: target, authority: None });
    }
    absolute(target, scheme).ok_or(RequestError::Target)
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
///
/// # Errors
///
/// There is none, there are several, or it is no authority.
pub fn host(fields: &HeaderMap) -> Result<&[u8], RequestError> {
    let mut lines = fields.get_all(HOST).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Err(RequestError::HostMissing),
        (Some(_), Some(_)) => Err(RequestError::HostRepeated),
        (Some(only), None) if is_authority(only.as_bytes()) => Ok(only.as_bytes()),
        (Some(_), None) => Err(RequestError::Host),
    }
}

/// The fields as a map, whose values share the bytes of the head.
///
/// # Errors
///
/// A name or a value is malformed.
pub fn to_map(head: &Bytes, fields: &[httparse::Header<'_>]) -> Result<HeaderMap, RequestError> {
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_no_name| RequestError::FieldName)?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value))
            .map_err(|_no_value| RequestError::FieldValue)?;
        map.append(name, value);
    }
    Ok(map)
}

/// A method of any name.
///
/// # Errors
///
/// The name is no token.
pub fn method(name: &str) -> Result<Method, RequestError> {
    Method::from_bytes(name.as_bytes()).map_err(|_no_method| RequestError::Method)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(head: &str) -> Result<(String, HeaderMap), RequestError> {
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
        for (head, error) in [
            ("GET / HTTP/1.1\r\n\r\n", RequestError::HostMissing),
            ("GET / HTTP/1.0\r\n\r\n", RequestError::HostMissing),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", RequestError::HostRepeated),
            ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", RequestError::Host),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", RequestError::Host),
            ("GET / HTTP/1.1\r\nHost: \r\n\r\n", RequestError::Host),
            ("GET / HTTP/1.1\nHost: a\n\n", RequestError::BareCrOrLf),
            ("GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", RequestError::BareCrOrLf),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n", RequestError::BareCrOrLf),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", RequestError::Malformed),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", RequestError::Malformed),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", RequestError::Malformed),
            ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", RequestError::Malformed),
            ("GET /#f HTTP/1.1\r\nHost: a\r\n\r\n", RequestError::Target),
            ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", RequestError::Target),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", RequestError::Target),
            ("GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n", RequestError::Target),
            ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", RequestError::Target),
            ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", RequestError::Connect),
            ("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", RequestError::Connect),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", RequestError::Version),
        ] {
            assert_eq!(gate(head).err(), Some(error), "{head:?}");
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
        assert_eq!(gate(&many).err(), Some(RequestError::TooManyFields));
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
