//! How long a message body is (RFC 9112 §6.3).

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};

use super::chunked::{self, Broken};

/// The length of a body, as its head states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// This many bytes.
    Length(u64),
    /// Until the last chunk.
    Chunked,
    /// Until the connection closes; responses only.
    UntilClose,
}

/// The head states a length that cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// `Content-Length` is no number, or there are several, or `Transfer-Encoding` stands beside it.
    #[error("the length of the message is ambiguous")]
    Ambiguous,
    /// A transfer coding other than `chunked`.
    #[error("the transfer coding is not known")]
    UnknownCoding,
}

impl Framing {
    /// The framing of a request's body.
    ///
    /// # Errors
    ///
    /// The length is ambiguous, or the transfer coding unknown.
    pub fn of_request(fields: &HeaderMap, version: Version) -> Result<Self, FramingError> {
        if fields.contains_key(TRANSFER_ENCODING) {
            // RFC 9112 §6.1: in HTTP/1.0 "the message's framing is faulty"; beside a length it is an attack.
            if version == Version::HTTP_10 || fields.contains_key(CONTENT_LENGTH) {
                return Err(FramingError::Ambiguous);
            }
            return if is_chunked(fields) { Ok(Self::Chunked) } else { Err(FramingError::UnknownCoding) };
        }
        Ok(content_length(fields)?.map_or(Self::None, Self::Length))
    }

    /// The framing of the body of a response to `method`.
    ///
    /// # Errors
    ///
    /// The length is ambiguous, or the transfer coding unknown.
    pub fn of_response(method: &Method, status: StatusCode, fields: &HeaderMap) -> Result<Self, FramingError> {
        if method == Method::HEAD || bodiless(status) {
            return Ok(Self::None);
        }
        if fields.contains_key(TRANSFER_ENCODING) {
            if fields.contains_key(CONTENT_LENGTH) {
                return Err(FramingError::Ambiguous);
            }
            return if is_chunked(fields) { Ok(Self::Chunked) } else { Err(FramingError::UnknownCoding) };
        }
        Ok(content_length(fields)?.map_or(Self::UntilClose, Self::Length))
    }
}

/// Statuses that never have a body (RFC 9112 §6.3).
pub fn bodiless(status: StatusCode) -> bool {
    status.is_informational() || matches!(status.as_u16(), 204 | 304)
}

fn is_chunked(fields: &HeaderMap) -> bool {
    let mut lines = fields.get_all(TRANSFER_ENCODING).iter();
    matches!((lines.next(), lines.next()), (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

/// The one `Content-Length`; several lines or members are refused even when they agree.
///
/// # Errors
///
/// The field is no number, or its values differ.
pub fn content_length(fields: &HeaderMap) -> Result<Option<u64>, FramingError> {
    let mut lines = fields.get_all(CONTENT_LENGTH).iter();
    let Some(only) = lines.next() else { return Ok(None) };
    let digits = only.as_bytes();
    if lines.next().is_some() || digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(FramingError::Ambiguous);
    }
    Ok(Some(digits.iter().fold(0, |sum, d| sum * 10 + u64::from(d - b'0'))))
}

/// Takes a body from a buffer of received bytes.
#[derive(Debug)]
pub enum BodyDecoder {
    /// Bytes that are still to come.
    Length(u64),
    /// Chunks.
    Chunked(chunked::Decoder),
    /// Everything up to the end of the connection.
    UntilClose,
    /// Nothing more.
    Ended,
}

/// Part of a body that arrives.
#[derive(Debug)]
pub enum BodyEvent {
    /// Bytes of the body.
    Data(Bytes),
    /// The end, with the trailers.
    End(HeaderMap),
}

impl BodyDecoder {
    /// A decoder at the beginning of a body.
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::None => Self::Ended,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(chunked::Decoder::default()),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// The same for a response, of which RFC 9112 §5.1 has a proxy repair what it refuses in requests.
    pub fn of_response(framing: Framing) -> Self {
        match framing {
            Framing::Chunked => Self::Chunked(chunked::Decoder::of_response()),
            other => Self::new(other),
        }
    }

    /// Takes the next piece from the front of `buffer`.
    ///
    /// # Errors
    ///
    /// The bytes violate the transfer coding.
    pub fn piece(&mut self, buffer: &mut BytesMut) -> Result<Option<BodyEvent>, Broken> {
        match self {
            Self::Ended | Self::Length(0) => Ok(Some(BodyEvent::End(HeaderMap::new()))),
            Self::Length(_) | Self::UntilClose if buffer.is_empty() => Ok(None),
            Self::Length(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                *left -= take as u64;
                Ok(Some(BodyEvent::Data(buffer.split_to(take).freeze())))
            }
            Self::UntilClose => Ok(Some(BodyEvent::Data(buffer.split().freeze()))),
            Self::Chunked(decoder) => Ok(match decoder.step(buffer)? {
                chunked::Step::Data(data) => Some(BodyEvent::Data(data)),
                chunked::Step::More => None,
                chunked::Step::End(trailers) => Some(BodyEvent::End(trailers)),
            }),
        }
    }

    /// Whether the close of the connection ends the body well.
    pub fn ends_with_close(&self) -> bool {
        matches!(self, Self::UntilClose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn rfc9112_s6_3_a_request_whose_length_is_ambiguous_is_refused() {
        use FramingError::{Ambiguous, UnknownCoding};
        let table: &[(&[_], Version, _)] = &[
            (&[], Version::HTTP_11, Ok(Framing::None)),
            (&[("content-length", "5")], Version::HTTP_11, Ok(Framing::Length(5))),
            (&[("content-length", "0")], Version::HTTP_11, Ok(Framing::Length(0))),
            (&[("transfer-encoding", "Chunked")], Version::HTTP_11, Ok(Framing::Chunked)),
            (&[("content-length", "5"), ("transfer-encoding", "chunked")], Version::HTTP_11, Err(Ambiguous)),
            (&[("content-length", "5"), ("content-length", "5")], Version::HTTP_11, Err(Ambiguous)),
            (&[("content-length", "5, 5")], Version::HTTP_11, Err(Ambiguous)),
            (&[("content-length", "+5")], Version::HTTP_11, Err(Ambiguous)),
            (&[("content-length", "")], Version::HTTP_11, Err(Ambiguous)),
            (&[("content-length", "99999999999999999999")], Version::HTTP_11, Err(Ambiguous)),
            (&[("transfer-encoding", "chunked")], Version::HTTP_10, Err(Ambiguous)),
            (&[("transfer-encoding", "gzip, chunked")], Version::HTTP_11, Err(UnknownCoding)),
            (&[("transfer-encoding", "chunked"), ("transfer-encoding", "x")], Version::HTTP_11, Err(UnknownCoding)),
        ];
        for (lines, version, expected) in table {
            assert_eq!(Framing::of_request(&head(lines), *version), *expected, "{lines:?}");
        }
    }

    #[test]
    fn rfc9112_s6_3_the_length_of_a_response_depends_on_method_and_status() {
        let length = head(&[("content-length", "5")]);
        let of = |method, status, fields: &HeaderMap| {
            Framing::of_response(&method, StatusCode::from_u16(status).unwrap(), fields)
        };
        assert_eq!(of(Method::HEAD, 200, &length), Ok(Framing::None));
        assert_eq!(of(Method::GET, 304, &length), Ok(Framing::None));
        assert_eq!(of(Method::GET, 204, &HeaderMap::new()), Ok(Framing::None));
        assert_eq!(of(Method::GET, 200, &length), Ok(Framing::Length(5)));
        assert_eq!(of(Method::GET, 200, &HeaderMap::new()), Ok(Framing::UntilClose));
        let both = head(&[("content-length", "5"), ("transfer-encoding", "chunked")]);
        assert_eq!(of(Method::GET, 200, &both), Err(FramingError::Ambiguous));
    }
}
