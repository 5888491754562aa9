//! Serialising heads and chunks.

use bytes::Bytes;
use http::header::{AGE, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, VIA};
use http::{Method, StatusCode};
use nearside_semantics::range::Span;

const SEPARATOR: &[u8] = b": ";
const LINE_END: &[u8] = b"\r\n";

/// `Cache-Status` (RFC 9211).
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The request line and fields of a forward.
pub fn request(method: &Method, target: &[u8], host: &[u8], fields: &HeaderMap, out: &mut Vec<u8>) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    if target.first() == Some(&b'?') || target.is_empty() {
        out.push(b'/');
    }
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(host);
    out.extend_from_slice(b"\r\n");
    for (name, value) in fields {
        field(name.as_str(), value.as_bytes(), out);
    }
}

/// The status line.
pub fn status_line(status: StatusCode, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or("").as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// One field line.
pub fn field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(SEPARATOR);
    out.extend_from_slice(value);
    out.extend_from_slice(LINE_END);
}

/// A number as a field line.
pub fn number(name: &str, value: u64, out: &mut Vec<u8>) {
    field(name, itoa::Buffer::new().format(value).as_bytes(), out);
}

/// The head of a response up to an open `cache-status` line, behind which this node's own member goes: the part that
/// is the same for every client. `Age` is left out, it changes; of the length only `length` counts.
///
/// The values of `fields` then share the bytes of the head, so that a stored head holds them once and nothing else.
pub fn prepared(status: StatusCode, fields: &mut HeaderMap, length: Option<u64>, via: &str) -> Bytes {
    let mut out = Vec::with_capacity(512);
    begin(status, fields, |_| true, &mut out);
    end(fields, length, via, &mut out);
    out.shrink_to_fit();
    let wire = Bytes::from(out);
    let mut place = wire.iter().position(|b| *b == b'\n').map_or(0, |end| end + 1);
    for (name, value) in fields.iter_mut() {
        let own = if is_made_anew(name) {
            Bytes::copy_from_slice(value.as_bytes())
        } else {
            let start = place + name.as_str().len() + SEPARATOR.len();
            place = start + value.len() + LINE_END.len();
            wire.slice(start..start + value.len())
        };
        if let Ok(own) = HeaderValue::from_maybe_shared(own) {
            *value = own;
        }
    }
    wire
}

/// Whether a field is not among those that [`begin`] writes.
fn is_made_anew(name: &HeaderName) -> bool {
    [AGE, CONTENT_LENGTH, CACHE_STATUS, VIA].contains(name)
}

/// The status line and the fields that `keeps` says, but those that are made anew.
pub fn begin(status: StatusCode, fields: &HeaderMap, keeps: impl Fn(&HeaderName) -> bool, out: &mut Vec<u8>) {
    status_line(status, out);
    for (name, value) in fields {
        if !is_made_anew(name) && keeps(name) {
            field(name.as_str(), value.as_bytes(), out);
        }
    }
}

/// The fields that are made anew, and the line of `Cache-Status` with what the hops before said, open for this node's own
/// member.
pub fn end(fields: &HeaderMap, length: Option<u64>, via: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"via: ");
    via_value(fields, via, out);
    out.extend_from_slice(b"\r\n");
    if let Some(length) = length {
        number(CONTENT_LENGTH.as_str(), length, out);
    }
    out.extend_from_slice(b"cache-status: ");
    for member in fields.get_all(CACHE_STATUS) {
        out.extend_from_slice(member.as_bytes());
        out.extend_from_slice(b", ");
    }
}

/// `Content-Range` of a part of something `length` bytes long.
pub fn content_range(span: Span, length: u64, out: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(b"bytes ");
    out.extend_from_slice(digits.format(span.start).as_bytes());
    out.push(b'-');
    out.extend_from_slice(digits.format(span.end.saturating_sub(1)).as_bytes());
    out.push(b'/');
    out.extend_from_slice(digits.format(length).as_bytes());
}

/// The `Via` of a response: the hops before, then this node, which received it over HTTP/1.1 (RFC 9110 §7.6.3).
pub fn via_value(fields: &HeaderMap, via: &str, out: &mut Vec<u8>) {
    for before in fields.get_all(VIA) {
        out.extend_from_slice(before.as_bytes());
        out.extend_from_slice(b", ");
    }
    out.extend_from_slice(b"1.1 ");
    out.extend_from_slice(via.as_bytes());
}

/// The size line of a chunk.
pub fn chunk_size(size: usize, out: &mut Vec<u8>) {
    let hex = format!("{size:x}\r\n");
    out.extend_from_slice(hex.as_bytes());
}

/// The last chunk with its trailers.
pub fn last_chunk(trailers: &HeaderMap, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        field(name.as_str(), value.as_bytes(), out);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_a_prepared_head_share_its_bytes() {
        let lines: [(&'static str, &'static str); 8] = [
            ("content-type", "text/html"),
            ("age", "7"),
            ("x-empty", ""),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("via", "1.1 origin"),
            ("content-length", "5"),
            ("x-last", "z"),
        ];
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let before = fields.clone();
        let wire = prepared(StatusCode::OK, &mut fields, Some(5), "edge (nearside)");
        assert_eq!(fields, before);
        let text = std::str::from_utf8(&wire).unwrap();
        assert!(
            text.ends_with("x-last: z\r\nvia: 1.1 origin, 1.1 edge (nearside)\r\ncontent-length: 5\r\ncache-status: ")
        );
        let within = |value: &HeaderValue| wire.as_ptr_range().contains(&value.as_bytes().as_ptr());
        let shared = fields.iter().filter(|(name, value)| !is_made_anew(name) && !value.is_empty() && within(value));
        assert_eq!(shared.count(), 4);
    }
}
