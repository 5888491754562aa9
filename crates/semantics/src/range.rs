//! Ranges of a complete stored response (RFC 9110 §14, §13.1.5).
//!
//! Of several ranges those that touch or overlap become one, which §15.3.7.2 allows; the parts come in the order in which
//! they were asked for. What would then be more than [`RANGES_MAX`] parts is answered with the whole ("A server MAY ignore
//! the Range header field", §14.2).

use http::HeaderMap;
use http::header::{ETAG, IF_RANGE, LAST_MODIFIED, RANGE};

use crate::conditional::strong_match;
use crate::date;
use crate::fields::Fields;
use crate::resume::is_strong;
use crate::time::Timestamp;

/// The most parts of one answer. Each costs a head of its own; clients that read media ask for one or two.
pub const RANGES_MAX: usize = 16;
/// Ranges in one request that are looked at; with more of them, the field is ignored.
const ASKED_MAX: usize = 200;

/// What part of a body a request gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All of it, as a 200.
    Whole,
    /// One part, as a 206.
    Range(Span),
    /// Two to [`RANGES_MAX`] parts, as a 206 of `multipart/byteranges`; as they were asked for, with bytes between them.
    Ranges(Vec<Span>),
    /// 416: no byte of the representation is in the range.
    Unsatisfiable,
}

/// The bytes from `start` to before `end`; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

/// The part of a stored 200 of `length` bytes that a GET asks for.
#[must_use]
pub fn evaluate(request: &impl Fields, stored: &HeaderMap, length: u64, now: Timestamp) -> Part {
    let Some(only) = request.sole(&RANGE) else { return Part::Whole };
    if !if_range_holds(request, stored, now) {
        return Part::Whole;
    }
    parse(only, length).unwrap_or(Part::Whole)
}

/// Where the first of the ranges begins that a request asks for, if that can be told without knowing the length.
#[must_use]
pub fn first_byte(request: &impl Fields) -> Option<u64> {
    let spec = strip_unit(request.sole(&RANGE)?)?;
    number(spec.split(|b| *b == b'-').next()?)
}

/// Whether a range of the request begins behind the first `bytes` bytes, or is counted from the end.
#[must_use]
pub fn begins_beyond(request: &impl Fields, bytes: u64) -> bool {
    let Some(set) = request.sole(&RANGE).and_then(strip_unit) else { return false };
    set.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|spec| !spec.is_empty()).any(|spec| {
        let start = spec.split(|b| *b == b'-').next().unwrap_or_default();
        start.is_empty() || number(start).is_some_and(|start| start >= bytes)
    })
}

/// `None` for what is no set of byte ranges: it is ignored as a whole.
fn parse(line: &[u8], length: u64) -> Option<Part> {
    let set = strip_unit(line)?;
    if !set.contains(&b',') {
        // Nearly all requests ask for one range, and get it without a list being made.
        return span(set, length).map(|span| span.map_or(Part::Unsatisfiable, Part::Range));
    }
    let mut spans = Vec::new();
    for (place, spec) in set.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|spec| !spec.is_empty()).enumerate() {
        if place == ASKED_MAX {
            return None;
        }
        spans.push(span(spec, length)?);
    }
    if spans.is_empty() {
        return None;
    }
    Some(joined(spans.into_iter().flatten().collect()))
}

fn strip_unit(line: &[u8]) -> Option<&[u8]> {
    let (unit, spec) = line.trim_ascii().split_at_checked(6)?;
    unit.eq_ignore_ascii_case(b"bytes=").then_some(spec.trim_ascii())
}

/// One range; the outer `None` is a syntax error, the inner one a range without a byte.
fn span(spec: &[u8], length: u64) -> Option<Option<Span>> {
    let mut ends = spec.splitn(2, |b| *b == b'-');
    let (first, last) = (ends.next()?, ends.next()?);
    match (first.is_empty(), last.is_empty()) {
        (true, true) => None,
        (true, false) => number(last).map(|count| within(length.saturating_sub(count), length, length)),
        (false, true) => number(first).map(|start| within(start, length, length)),
        (false, false) => {
            let (start, last) = (number(first)?, number(last)?);
            (start <= last).then(|| within(start, last.saturating_add(1), length))
        }
    }
}

fn within(start: u64, end: u64, length: u64) -> Option<Span> {
    (start < length).then(|| Span { start, end: end.min(length) })
}

/// What the spans come to when those that touch are one, each in the place of its first.
fn joined(spans: Vec<Span>) -> Part {
    let mut sorted: Vec<(Span, usize)> = spans.into_iter().zip(0..).collect();
    sorted.sort_unstable();
    let mut parts: Vec<(Span, usize)> = Vec::new();
    for (span, place) in sorted {
        match parts.last_mut() {
            Some((last, first)) if span.start <= last.end => {
                last.end = last.end.max(span.end);
                *first = place.min(*first);
            }
            _ => parts.push((span, place)),
        }
    }
    parts.sort_unstable_by_key(|(_, place)| *place);
    match parts.as_slice() {
        [] => Part::Unsatisfiable,
        [(only, _)] => Part::Range(*only),
        // Bytes between the parts are left out, so that together they are less than the whole.
        _ if parts.len() <= RANGES_MAX => Part::Ranges(parts.into_iter().map(|(span, _)| span).collect()),
        _ => Part::Whole,
    }
}

pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |sum: u64, d| sum.saturating_mul(10).saturating_add(u64::from(d - b'0'))))
}

/// RFC 9110 §13.1.5: an entity tag by strong comparison, a date by exact match, and only a strong validator counts.
fn if_range_holds(request: &impl Fields, stored: &HeaderMap, now: Timestamp) -> bool {
    if !request.has(&IF_RANGE) {
        return true;
    }
    let Some(condition) = request.sole(&IF_RANGE).map(<[u8]>::trim_ascii) else { return false };
    if condition.starts_with(b"\"") || condition.starts_with(b"W/") {
        return stored.get(ETAG).is_some_and(|tag| strong_match(tag.as_bytes(), condition));
    }
    let Some(modified) = stored.get(LAST_MODIFIED).and_then(|v| date::parse(v.as_bytes(), now)) else { return false };
    date::parse(condition, now) == Some(modified) && is_strong(modified, stored, now)
}
