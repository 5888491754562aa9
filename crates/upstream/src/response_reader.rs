//! Reading the responses of an upstream from a connection.

use std::io;

use bytes::BytesMut;
use http::{HeaderMap, Method};
use nearside_http1::framing::{BodyDecoder, BodyEvent, Framing};
use nearside_http1::request::head_end;
use nearside_http1::response::{HEAD_BYTES_MAX, ResponseError, ResponseHead, framing_lines, parse, status_line};
use tokio::io::{AsyncRead, AsyncReadExt};

/// How much is read at once: large enough for few system calls, small enough to be passed on at once.
const READ_BYTES: usize = 64 << 10;
/// Room for the first read: for most heads, and small bodies with them. Doubled with each read of what has no length.
const FIRST_BYTES: usize = 4 << 10;

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

    /// Reads the next part of the body.
    pub(crate) async fn body(&mut self) -> Result<BodyEvent, ResponseError> {
        loop {
            match self.body.piece(&mut self.buffer)? {
                Some(BodyEvent::Data(bytes)) => return Ok(BodyEvent::Data(bytes)),
                Some(BodyEvent::End(trailers)) => {
                    self.body = BodyDecoder::Ended;
                    return Ok(BodyEvent::End(trailers));
                }
                None => {
                    if self.fill().await? == 0 {
                        if !self.body.ends_with_close() {
                            return Err(ResponseError::Closed);
                        }
                        self.body = BodyDecoder::Ended;
                        return Ok(BodyEvent::End(HeaderMap::new()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::response_reason;
    use nearside_http1::request::FIELDS_MAX;
    use nearside_telemetry::reason::Reason;

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
        assert!(matches!(reader.body().await.unwrap(), BodyEvent::Data(bytes) if bytes == "hello"));
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
            assert_eq!(response_reason(&error), *reason, "{text}");
            assert!(text.contains(says), "{text:?} does not say {says:?}");
            assert!(!text.contains("secret"), "values are not told: {text}");
        }
    }
}
