//! Heads of responses, and the errors of responses that cannot be read.

use std::io;
use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};

use super::chunked::Broken;
use super::framing::FramingError;
use super::request::FIELDS_MAX;

/// The largest response head that is read.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// Why a response cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ResponseError {
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
    /// Whether the response was broken off; not if it was wrong itself.
    pub fn is_interruption(&self) -> bool {
        matches!(self, Self::ClosedInHead { .. } | Self::Closed | Self::Io(_))
    }
}

/// The head of a response.
#[derive(Debug)]
pub struct ResponseHead {
    /// Status code.
    pub status: StatusCode,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// Fields.
    pub fields: HeaderMap,
}

/// Bytes of a line that are shown in an error.
const SHOWN_BYTES_MAX: usize = 64;

/// Parses a complete head. The values share the bytes that they were received in.
///
/// White space between a name and its colon is removed, as RFC 9112 §5.1 demands of a proxy; in requests it is refused.
///
/// # Errors
///
/// The head is malformed, or has too many fields.
pub fn parse(head: &Bytes) -> Result<ResponseHead, ResponseError> {
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
pub fn status_line(head: &[u8]) -> ResponseError {
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
pub fn framing_lines(fields: &HeaderMap) -> String {
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
