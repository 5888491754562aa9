//! Responses of a next hop: reading heads and bodies from a connection.

use std::io;
use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::chunked::Broken;
use super::framing::{BodyDecoder, Framing, FramingError, Piece};
use super::request::{FIELDS_MAX, head_end};
use crate::reason::Reason;

/// The largest response head that is read.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How much is read at once: large enough for few system calls, small enough to be passed on at once.
const READ_BYTES: usize = 64 << 10;
/// Room for the first read: for most heads, and small bodies with them. Doubled with each read of what has no length.
const FIRST_BYTES: usize = 4 << 10;

/// Why a response cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResponseError {
    /// The connection ended before the head did.
    #[error("the connection was closed after {received} bytes, before the end of the response head")]
    ClosedInHead {
        /// Bytes of the head that had arrived.
        received: usize,
    },
    /// The connection ended before the body did.
    #[error("the connection was closed before the end of the response")]
    Closed,
    /// The response does not begin with the status line of HTTP/1.
    #[error("the response begins with {line:?}, which is no status line of HTTP/1")]
    StatusLine {
        /// Its first line, shortened.
        line: String,
    },
    /// A line of the head is no field.
    #[error("line {number} of the response head is malformed: {name:?}: {fault}")]
    Field {
        /// Its number, with the status line as the first.
        number: usize,
        /// Its name, shortened; never its value.
        name: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The head is larger than is read.
    #[error("the response head is larger than {} KiB", HEAD_BYTES_MAX >> 10)]
    TooLarge,
    /// The head has more fields than are read.
    #[error("the response head has more than {} fields", FIELDS_MAX)]
    TooManyFields,
    /// The length cannot be trusted.
    #[error("{source}: {lines}")]
    Framing {
        /// Why.
        source: FramingError,
        /// The fields that state it.
        lines: String,
    },
    /// The body is longer than was stated before.
    #[error("the response is longer than was stated")]
    TooLong,
    /// A 101 for a request without `Upgrade`.
    #[error("the response switches protocols, which the request did not ask for")]
    Unasked,
    /// A body that violates its coding.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

impl ResponseError {
    /// The reason.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::ClosedInHead { .. } | Self::Closed | Self::Io(_) => Reason::UpstreamClosed,
            Self::StatusLine { .. } | Self::Unasked => Reason::UpstreamMalformed,
            Self::Field { .. } => Reason::UpstreamField,
            Self::TooLarge | Self::TooManyFields => Reason::UpstreamHeadTooLarge,
            Self::Framing { source: FramingError::Ambiguous, .. } | Self::TooLong => Reason::UpstreamFraming,
            Self::Framing { source: FramingError::UnknownCoding, .. } | Self::Broken(_) => Reason::UpstreamCoding,
        }
    }

    /// Whether the response was broken off; not if it was wrong itself.
    pub(crate) fn is_interruption(&self) -> bool {
        matches!(self, Self::ClosedInHead { .. } | Self::Closed | Self::Io(_))
    }
}

/// The head of a response.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) fields: HeaderMap,
}

/// Reads the responses of one connection.
#[derive(Debug)]
pub(crate) struct ResponseReader<R> {
    pub(crate) io: R,
    buffer: BytesMut,
    room: usize,
    body: BodyDecoder,
    /// A byte of the current response has arrived.
    pub(crate) begun: bool,
}

impl<R: AsyncRead + Unpin> ResponseReader<R> {
    pub(crate) fn new(io: R) -> Self {
        Self { io, buffer: BytesMut::new(), room: FIRST_BYTES, body: BodyDecoder::Ended, begun: false }
    }

    /// The next head, be it interim or final.
    pub(crate) async fn head(&mut self, method: &Method) -> Result<ResponseHead, ResponseError> {
        let mut searched = 0;
        let end = loop {
            let end = head_end(&self.buffer, searched);
            searched = self.buffer.len();
            // However much of it came at once.
            if end.unwrap_or(searched) > HEAD_BYTES_MAX {
                return Err(ResponseError::TooLarge);
            }
            if let Some(end) = end {
                break end;
            }
            if self.fill().await? == 0 {
                return Err(ResponseError::ClosedInHead { received: self.buffer.len() });
            }
            if self.buffer.len() >= 5 && !self.buffer.starts_with(b"HTTP/") {
                return Err(status_line(&self.buffer));
            }
        };
        let head = parse(&self.buffer.split_to(end).freeze())?;
        let framing = Framing::of_response(method, head.status, &head.fields);
        let framing =
            framing.map_err(|source| ResponseError::Framing { source, lines: framing_lines(&head.fields) })?;
        self.body = BodyDecoder::of_response(framing);
        Ok(head)
    }

    /// The next piece of the body; `Err` with the trailers at its end.
    pub(crate) async fn body(&mut self) -> Result<Result<Bytes, HeaderMap>, ResponseError> {
        loop {
            match self.body.piece(&mut self.buffer)? {
                Piece::Data(bytes) => return Ok(Ok(bytes)),
                Piece::End(trailers) => {
                    self.body = BodyDecoder::Ended;
                    return Ok(Err(trailers));
                }
                Piece::More => {
                    if self.fill().await? == 0 {
                        if !self.body.ends_with_close() {
                            return Err(ResponseError::Closed);
                        }
                        self.body = BodyDecoder::Ended;
                        return Ok(Err(HeaderMap::new()));
                    }
                }
            }
        }
    }

    /// Whether the body has ended, without looking for more bytes.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.body, BodyDecoder::Ended | BodyDecoder::Length(0))
    }

    /// Whether nothing was received beyond the response: else the connection cannot be used again.
    pub(crate) fn is_clean(&self) -> bool {
        self.buffer.is_empty() && self.is_whole()
    }

    /// The connection, and what was read beyond the head.
    pub(crate) fn into_parts(self) -> (R, BytesMut) {
        (self.io, self.buffer)
    }

    async fn fill(&mut self) -> io::Result<usize> {
        let room = match self.body {
            BodyDecoder::Length(left) => usize::try_from(left).unwrap_or(READ_BYTES).clamp(1, READ_BYTES),
            BodyDecoder::Ended | BodyDecoder::Chunked(_) | BodyDecoder::UntilClose => self.room,
        };
        self.room = (self.room * 2).min(READ_BYTES);
        if self.buffer.capacity() - self.buffer.len() < room.min(READ_BYTES / 4) {
            self.buffer.reserve(room);
        }
        let read = self.io.read_buf(&mut self.buffer).await?;
        self.begun |= read > 0;
        Ok(read)
    }
}

/// Bytes of a line that are shown in an error.
const SHOWN_BYTES_MAX: usize = 64;

/// The values share the bytes that they were received in.
///
/// White space between a name and its colon is removed, as RFC 9112 §5.1 demands of a proxy; in requests it is refused.
fn parse(head: &Bytes) -> Result<ResponseHead, ResponseError> {
    let mut lines = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let mut config = httparse::ParserConfig::default();
    config.allow_spaces_after_header_name_in_responses(true);
    match config.parse_response_with_uninit_headers(&mut response, head, &mut lines) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(ResponseError::TooManyFields),
        Err(httparse::Error::HeaderName | httparse::Error::HeaderValue) => return Err(malformed_line(head)),
        Ok(httparse::Status::Partial) | Err(_) => return Err(status_line(head)),
    }
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or_else(|| status_line(head))?;
    let mut fields = HeaderMap::with_capacity(response.headers.len());
    for line in response.headers {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_no_name| malformed_line(head))?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(line.value));
        fields.append(name, value.map_err(|_no_value| malformed_line(head))?);
    }
    let version = if response.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    Ok(ResponseHead { status, version, fields })
}

/// The error of a head that does not begin with a status line.
fn status_line(head: &[u8]) -> ResponseError {
    ResponseError::StatusLine { line: shown(head.split(|b| *b == b'\n').next().unwrap_or_default()) }
}

/// The error of a head with a line that is no field: names the first one.
fn malformed_line(head: &[u8]) -> ResponseError {
    let lines = head.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).enumerate();
    let found = lines.skip(1).find_map(|(place, line)| {
        let (name, fault) = fault(line)?;
        Some(ResponseError::Field { number: place + 1, name: shown(name), fault })
    });
    found.unwrap_or_else(|| status_line(head))
}

/// What is wrong with a field line, and the part of it that may be shown: a value may be a secret.
fn fault(line: &[u8]) -> Option<(&[u8], &'static str)> {
    if line.is_empty() {
        return None;
    }
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Some((b"", "it is folded (RFC 9112 §5.2)"));
    }
    let Some((name, value)) = line.iter().position(|b| *b == b':').and_then(|at| line.split_at_checked(at)) else {
        return Some((line, "it has no colon"));
    };
    let name = name.trim_ascii_end();
    if HeaderName::from_bytes(name).is_err() {
        return Some((name, "this is no field name"));
    }
    let is_wrong = |b: &u8| b.is_ascii_control() && *b != b'\t';
    value.iter().any(is_wrong).then_some((name, "its value has a control character"))
}

/// The fields that state the length of a message.
fn framing_lines(fields: &HeaderMap) -> String {
    let lines = fields.iter().filter(|(name, _)| [CONTENT_LENGTH, TRANSFER_ENCODING].contains(name));
    let lines: Vec<_> = lines.map(|(name, value)| format!("{name}: {}", shown(value.as_bytes()))).take(4).collect();
    lines.join(", ")
}

/// The beginning of a line, as text that can be logged.
fn shown(line: &[u8]) -> String {
    let text = line.strip_suffix(b"\r").unwrap_or(line);
    let (start, rest) = text.split_at_checked(SHOWN_BYTES_MAX).unwrap_or((text, b""));
    format!("{}{}", String::from_utf8_lossy(start), if rest.is_empty() { "" } else { "…" })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn head_of(wire: &[u8]) -> Result<ResponseHead, ResponseError> {
        ResponseReader::new(wire).head(&Method::GET).await
    }

    #[tokio::test]
    async fn rfc9112_s5_1_white_space_before_a_colon_is_removed() {
        let wire = b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\nX-Tab\t: a b \r\nX-Plain: c\r\n\r\nhello";
        let mut reader = ResponseReader::new(&wire[..]);
        let head = reader.head(&Method::GET).await.unwrap();
        assert_eq!(head.fields.get("x-tab").unwrap(), "a b");
        assert_eq!(head.fields.get("x-plain").unwrap(), "c");
        assert_eq!(head.fields.get("content-length").unwrap(), "5", "it counts as the length");
        assert_eq!(&reader.body().await.unwrap().unwrap()[..], b"hello");
        // What is stated twice is ambiguous, however it is written.
        let both = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding : chunked\r\n\r\n";
        assert!(matches!(head_of(both).await, Err(ResponseError::Framing { .. })));
    }

    #[tokio::test]
    async fn each_fault_has_its_reason_and_says_what_it_found() {
        let long = format!("HTTP/1.1 200 OK\r\nx-long: {}", "x".repeat(HEAD_BYTES_MAX));
        let whole = format!("{long}\r\n\r\n");
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(FIELDS_MAX + 1));
        let both = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n";
        let table: &[(&[u8], Reason, &str)] = &[
            (b"", Reason::UpstreamClosed, "after 0 bytes"),
            (b"HTTP/1.1 200 OK\r\nx: y\r\n", Reason::UpstreamClosed, "after 23 bytes, before the end of the response"),
            (b"SSH-2.0-OpenSSH_9.6\r\n", Reason::UpstreamMalformed, "\"SSH-2.0-OpenSSH_9.6\""),
            (b"\x15\x03\x01\x00\x02\x02\x46", Reason::UpstreamMalformed, "no status line"),
            (b"HTTP/1.1 2x0 OK\r\n\r\n", Reason::UpstreamMalformed, "\"HTTP/1.1 2x0 OK\""),
            (b"HTTP/2 200\r\n\r\n", Reason::UpstreamMalformed, "\"HTTP/2 200\""),
            (b"HTTP/1.1 200 OK\r\na: b\r\nno colon here\r\n\r\n", Reason::UpstreamField, "line 3"),
            (b"HTTP/1.1 200 OK\r\nbad name: secret\r\n\r\n", Reason::UpstreamField, "\"bad name\": this is no"),
            (b"HTTP/1.1 200 OK\r\n: secret\r\n\r\n", Reason::UpstreamField, "no field name"),
            (b"HTTP/1.1 200 OK\r\na: b\r\n secret\r\n\r\n", Reason::UpstreamField, "folded"),
            (b"HTTP/1.1 200 OK\r\na: secret\x00\r\n\r\n", Reason::UpstreamField, "\"a\": its value"),
            (long.as_bytes(), Reason::UpstreamHeadTooLarge, "64 KiB"),
            (whole.as_bytes(), Reason::UpstreamHeadTooLarge, "64 KiB"),
            (many.as_bytes(), Reason::UpstreamHeadTooLarge, "256 fields"),
            (both, Reason::UpstreamFraming, "content-length: 5, transfer-encoding: chunked"),
            (
                b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
                Reason::UpstreamFraming,
                "length: 6",
            ),
            (b"HTTP/1.1 200 OK\r\ncontent-length: five\r\n\r\n", Reason::UpstreamFraming, "content-length: five"),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n", Reason::UpstreamCoding, "transfer-encoding: gzip"),
        ];
        for (wire, reason, says) in table {
            let error = head_of(wire).await.unwrap_err();
            let text = error.to_string();
            assert_eq!(error.reason(), *reason, "{text}");
            assert!(text.contains(says), "{text:?} does not say {says:?}");
            assert!(!text.contains("secret"), "values are not told: {text}");
        }
    }
}
