//! Going on with a body that broke off (RFC 9110 §13.1.5, §14.2, §15.3.7): what asks for the rest, and whether an answer
//! is that rest.
//!
//! A byte of another representation behind the bytes of this one would be a wrong body that looks right. So only a strong
//! validator counts, and an answer must show it itself: that it was asked for under `If-Range` proves nothing about a
//! server that ignores that field.

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::conditional::strong_match;
use crate::date;
use crate::fields::Fields;
use crate::range::{Span, number};
use crate::time::Timestamp;

/// What an answer to a request for the rest of a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// The rest, which ends the body at `length` bytes.
    Continues {
        /// Bytes of the whole.
        length: u64,
    },
    /// The same representation from its start: the bytes that are known already are to be skipped.
    Restarts,
    /// Another representation: what was received is of no use.
    Changed,
    /// Nothing that says anything about the body: an error for example.
    Useless,
}

/// The strong validator of a response: its entity tag; or its modification date, if it is at least a second older than
/// the response (RFC 9110 §8.8.2.2). `None`: a body of it cannot be gone on with.
#[must_use]
pub fn strong_validator(response: &HeaderMap, now: Timestamp) -> Option<&HeaderValue> {
    if let Some(tag) = response.get(ETAG) {
        return Some(tag).filter(|tag| tag.as_bytes().starts_with(b"\""));
    }
    let modified = response.get(LAST_MODIFIED)?;
    is_strong(date::parse(modified.as_bytes(), now)?, response, now).then_some(modified)
}

/// Whether a modification date is strong in a response.
pub(crate) fn is_strong(modified: Timestamp, response: &HeaderMap, now: Timestamp) -> bool {
    crate::age::date(response, now).is_some_and(|born| born.as_secs() > modified.as_secs())
}

/// What is still wanted of a representation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// From this byte on.
    pub start: u64,
    /// To before this one; `None`: to the end.
    pub end: Option<u64>,
    /// Bytes of the whole, as far as is known.
    pub length: Option<u64>,
}

/// What an answer is to the one who has begun to receive `begun` and still wants some of it.
#[must_use]
pub fn rest(status: StatusCode, answer: &HeaderMap, begun: &HeaderMap, wanted: Wanted) -> Rest {
    let Wanted { start, end, length } = wanted;
    let is_same = is_same(answer, begun);
    match status {
        StatusCode::PARTIAL_CONTENT if is_same => match content_range(answer) {
            Some((span, whole))
                if span == (Span { start, end: end.unwrap_or(whole) })
                    && length.is_none_or(|length| length == whole) =>
            {
                Rest::Continues { length: whole }
            }
            _ => Rest::Useless,
        },
        StatusCode::OK if is_same => match stated_length(answer) {
            Some(stated) if length.is_some_and(|length| length != stated) => Rest::Changed,
            _ => Rest::Restarts,
        },
        StatusCode::OK | StatusCode::NOT_FOUND | StatusCode::GONE => Rest::Changed,
        _ => Rest::Useless,
    }
}

/// Whether two answers are shown to be of the same representation, byte for byte.
#[must_use]
pub fn is_same(answer: &HeaderMap, begun: &HeaderMap) -> bool {
    if answer.get(CONTENT_ENCODING) != begun.get(CONTENT_ENCODING) {
        return false;
    }
    match (answer.get(ETAG), begun.get(ETAG)) {
        (Some(new), Some(old)) => strong_match(new.as_bytes(), old.as_bytes()),
        (None, None) => answer.get(LAST_MODIFIED).is_some_and(|new| Some(new) == begun.get(LAST_MODIFIED)),
        _ => false,
    }
}

fn stated_length(answer: &HeaderMap) -> Option<u64> {
    answer.sole(&CONTENT_LENGTH).and_then(number)
}

/// The one range of a 206, and of how many bytes it is, if that is stated.
#[must_use]
pub fn content_range(answer: &HeaderMap) -> Option<(Span, u64)> {
    let line = answer.sole(&CONTENT_RANGE)?;
    let (unit, line) = line.split_at_checked(6)?;
    let slash = line.iter().position(|b| *b == b'/')?;
    let (range, whole) = line.split_at_checked(slash)?;
    let dash = range.iter().position(|b| *b == b'-')?;
    let (first, last) = range.split_at_checked(dash)?;
    let (first, last, whole) = (number(first)?, number(last.get(1..)?)?, number(whole.get(1..)?)?);
    (unit.eq_ignore_ascii_case(b"bytes ") && first <= last && last < whole)
        .then_some((Span { start: first, end: last + 1 }, whole))
}
