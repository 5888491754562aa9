//! Recognition of clients that do not speak HTTP/1, by the first bytes of their connection.
//!
//! Such a client waits for an answer in its own protocol and sends nothing more, so that waiting for the end of a request
//! head would only hold the connection until its deadline. It is refused as soon as its bytes cannot become a request.

use http::StatusCode;
use nearside_engine::request::refusal::Refusal;
use nearside_telemetry::reason::Reason;

/// Length of the part of a head in which the end of the request line is looked for. Longer lines are judged with the whole
/// head.
const LINE_BYTES: usize = 1024;

/// First byte of a TLS handshake record (RFC 8446 §5.1); no HTTP method contains it.
const TLS_HANDSHAKE: u8 = 0x16;

/// What follows the two empty lines of a PROXY protocol header in its binary version.
const PROXY_BINARY: &[u8] = b"\0\r\nQUIT\n";

/// The refusal for another protocol that announces itself, if `received` begins with one.
pub(super) fn foreign(received: &[u8]) -> Option<Refusal> {
    if received.first() == Some(&TLS_HANDSHAKE) {
        return Some(Refusal::bad(Reason::TlsOnCleartext));
    }
    if received.starts_with(b"PRI * HTTP/2.0\r\n") {
        let status = StatusCode::HTTP_VERSION_NOT_SUPPORTED;
        return Some(Refusal { status, reason: Reason::Http2WithoutAlpn });
    }
    let proxied = [&b"PROXY TCP4 "[..], b"PROXY TCP6 ", b"PROXY UNKNOWN", PROXY_BINARY];
    proxied.iter().any(|start| received.starts_with(start)).then_some(Refusal::bad(Reason::ProxyProtocol))
}

/// The refusal for the beginning of a head that cannot become a request, whatever follows it.
pub(super) fn refusal(received: &[u8]) -> Option<Refusal> {
    if let Some(refusal) = foreign(received) {
        return Some(refusal);
    }
    // The empty lines before a head are skipped elsewhere, one of them may have arrived in part.
    if received == b"\r" || is_part_of(received, PROXY_BINARY) {
        return None;
    }
    let window = received.get(..LINE_BYTES).unwrap_or(received);
    match window.iter().position(|byte| *byte == b'\n') {
        Some(end) => line_refusal(received.get(..end).unwrap_or_default()),
        None => (!begins_with_method(window)).then_some(Refusal::bad(Reason::Malformed)),
    }
}

/// Whether `received` is less than the whole of `start`, and agrees with it so far.
fn is_part_of(received: &[u8], start: &[u8]) -> bool {
    received.len() < start.len() && start.starts_with(received)
}

/// Whether what stands before the first space is, or may become, a method (RFC 9110 §9.1).
fn begins_with_method(received: &[u8]) -> bool {
    let method = received.split(|byte| *byte == b' ').next().unwrap_or_default();
    // A carriage return may end a line that is judged when it is whole.
    let method = method.strip_suffix(b"\r").unwrap_or(method);
    !method.is_empty() && method.iter().all(|byte| is_token(*byte))
}

/// A character of a token (RFC 9110 §5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The refusal for a line, without its line feed, that is no request line (RFC 9112 §3).
fn line_refusal(line: &[u8]) -> Option<Refusal> {
    let Some(line) = line.strip_suffix(b"\r") else { return Some(Refusal::bad(Reason::BareCrOrLf)) };
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(_), Some(_), Some(version), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Some(Refusal::bad(Reason::Malformed));
    };
    match version {
        _ if !begins_with_method(line) => Some(Refusal::bad(Reason::Malformed)),
        b"HTTP/1.1" | b"HTTP/1.0" => None,
        _ if version.starts_with(b"HTTP/") => {
            Some(Refusal { status: StatusCode::HTTP_VERSION_NOT_SUPPORTED, reason: Reason::Version })
        }
        _ => Some(Refusal::bad(Reason::Malformed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_become_a_request_is_refused_with_its_first_bytes() {
        for (received, expected) in [
            (&b"\x16"[..], Some("tls-on-cleartext")),
            (b"\x16\x03\x01\x02\x00\x01\x00", Some("tls-on-cleartext")),
            (b"\x80\x2e\x01\x03\x01", Some("malformed")),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some("prior-knowledge")),
            (b"PRI * HTTP/2.0\r\n", Some("prior-knowledge")),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Some("proxy-protocol")),
            (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\nGET / HTTP/1.1\r\n\r\n", Some("proxy-protocol")),
            (b"PROXY UNKNOWN\r\n", Some("proxy-protocol")),
            (b"\0\r\nQUIT\n\x21\x11", Some("proxy-protocol")),
            (b"SSH-2.0-OpenSSH_9.6\r\n", Some("malformed")),
            (b"EHLO example.org\r\n", Some("malformed")),
            (b"GET /\r\n", Some("malformed")),
            (b"GET / HTTP/1.1\n", Some("bare-cr-or-lf")),
            (b"GET / HTTP/3.0\r\n", Some("version")),
            (b"GET / HTTP/1.2\r\n", Some("version")),
            (b"GET / FTP/1.1\r\n", Some("malformed")),
            (b"{\"jsonrpc\"", Some("malformed")),
            (b"\0", None),
            (b"\0\0", Some("malformed")),
            (b" GET", Some("malformed")),
            (b"\rG", Some("malformed")),
        ] {
            let found = refusal(received).map(|refusal| refusal.reason.token());
            assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(received));
        }
    }

    #[test]
    fn every_beginning_of_a_request_is_waited_for() {
        let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n", "x".repeat(3000));
        for request in ["GET /a?b HTTP/1.1\r\nHost: a\r\n", "M-SEARCH * HTTP/1.0\r\n", "PROXY /a HTTP/1.1\r\n", &long] {
            for end in 0..request.len() {
                assert_eq!(refusal(&request.as_bytes()[..end]), None, "{:?}", &request[..end]);
            }
        }
    }
}
