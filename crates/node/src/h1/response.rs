//! Responses of a next hop: reading heads and bodies from a connection.

use std::io;
use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::chunked::Broken;
use super::framing::{BodyDecoder, Framing, FramingError, Piece};
use super::request::{FIELDS_MAX, head_end};

/// The largest response head that is read.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How much is read at once: large enough for few system calls, small enough to be passed on at once.
const READ_BYTES: usize = 64 << 10;
/// Room for the first read: for most heads, and small bodies with them. Doubled with each read of what has no length.
const FIRST_BYTES: usize = 4 << 10;

/// Why a response cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResponseError {
    /// The connection ended before the response did.
    #[error("the next hop closed the connection too early")]
    Closed,
    /// What came is no HTTP/1 response.
    #[error("the next hop did not speak HTTP")]
    Malformed,
    /// The head is larger than 64 KiB.
    #[error("the head of the response is too large")]
    TooLarge,
    /// The length cannot be trusted.
    #[error(transparent)]
    Framing(#[from] FramingError),
    /// A body that violates its coding.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
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
            if let Some(end) = head_end(&self.buffer, searched) {
                break end;
            }
            searched = self.buffer.len();
            if searched > HEAD_BYTES_MAX {
                return Err(ResponseError::TooLarge);
            }
            if self.fill().await? == 0 {
                return Err(ResponseError::Closed);
            }
            if self.buffer.len() >= 5 && !self.buffer.starts_with(b"HTTP/") {
                return Err(ResponseError::Malformed);
            }
        };
        let head = parse(&self.buffer.split_to(end).freeze())?;
        self.body = BodyDecoder::new(Framing::of_response(method, head.status, &head.fields)?);
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

/// The values share the bytes that they were received in.
fn parse(head: &Bytes) -> Result<ResponseHead, ResponseError> {
    let mut lines = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, head, &mut lines);
    let Ok(httparse::Status::Complete(_)) = parsed else { return Err(ResponseError::Malformed) };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(ResponseError::Malformed)?;
    let mut fields = HeaderMap::with_capacity(response.headers.len());
    for line in response.headers {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_no_name| ResponseError::Malformed)?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(line.value));
        let value = value.map_err(|_no_value| ResponseError::Malformed)?;
        fields.append(name, value);
    }
    let version = if response.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    Ok(ResponseHead { status, version, fields })
}
