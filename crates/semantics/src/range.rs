//! Ranges of a complete stored response (RFC 9110 §14, §13.1.5).
//!
//! Departure for now: of several ranges in one request the whole response is sent, which §14.2 allows ("A server MAY
//! ignore the Range header field").

use http::HeaderMap;
use http::header::{ETAG, IF_RANGE, LAST_MODIFIED, RANGE};

use crate::conditional::strong_match;
use crate::date;
use crate::time::Timestamp;

/// What part of a body a request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it, as a 200.
    Whole,
    /// The bytes from `start` to before `end`, as a 206; never empty.
    Range {
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
    },
    /// 416: no byte of the representation is in the range.
    Unsatisfiable,
}

/// The part of a stored 200 of `length` bytes that a GET asks for.
#[must_use]
pub fn evaluate(request: &HeaderMap, stored: &HeaderMap, length: u64, now: Timestamp) -> Part {
    let mut lines = request.get_all(RANGE).iter();
    let (Some(only), None) = (lines.next(), lines.next()) else {
        return Part::Whole;
    };
    if !if_range_holds(request, stored, now) {
        return Part::Whole;
    }
    parse(only.as_bytes(), length)
}

/// One `bytes=` range; whatever else stands there is ignored as a whole.
fn parse(line: &[u8], length: u64) -> Part {
    let Some(spec) = strip_unit(line) else { return Part::Whole };
    let mut ends = spec.splitn(2, |b| *b == b'-');
    let (Some(first), Some(last)) = (ends.next(), ends.next()) else { return Part::Whole };
    match (first.is_empty(), last.is_empty()) {
        (true, true) => Part::Whole,
        (true, false) => number(last).map_or(Part::Whole, |n| suffix(n, length)),
        (false, true) => number(first).map_or(Part::Whole, |start| within(start, length, length)),
        (false, false) => match (number(first), number(last)) {
            (Some(start), Some(last)) if start <= last => within(start, last.saturating_add(1), length),
            _ => Part::Whole,
        },
    }
}

fn strip_unit(line: &[u8]) -> Option<&[u8]> {
    let (unit, spec) = line.trim_ascii().split_at_checked(6)?;
    unit.eq_ignore_ascii_case(b"bytes=").then_some(spec.trim_ascii())
}

fn within(start: u64, end: u64, length: u64) -> Part {
    if start >= length { Part::Unsatisfiable } else { Part::Range { start, end: end.min(length) } }
}

fn suffix(count: u64, length: u64) -> Part {
    if count == 0 || length == 0 {
        return Part::Unsatisfiable;
    }
    Part::Range { start: length.saturating_sub(count), end: length }
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |sum: u64, d| sum.saturating_mul(10).saturating_add(u64::from(d - b'0'))))
}

/// RFC 9110 §13.1.5: an entity tag by strong comparison, a date by exact match, and only a strong validator counts.
fn if_range_holds(request: &HeaderMap, stored: &HeaderMap, now: Timestamp) -> bool {
    let Some(condition) = request.get(IF_RANGE).map(|v| v.as_bytes().trim_ascii()) else { return true };
    if condition.starts_with(b"\"") || condition.starts_with(b"W/") {
        return stored.get(ETAG).is_some_and(|tag| strong_match(tag.as_bytes(), condition));
    }
    let Some(modified) = stored.get(LAST_MODIFIED).and_then(|v| date::parse(v.as_bytes(), now)) else { return false };
    // A modification date is strong if it is at least a second older than the response (RFC 9110 §8.8.2.2).
    let born = crate::age::date(stored, now);
    date::parse(condition, now) == Some(modified) && born.is_some_and(|born| born.as_secs() > modified.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_s14_1_2_byte_ranges() {
        let range = |start, end| Part::Range { start, end };
        let table = [
            ("bytes=0-0", 10, range(0, 1)),
            ("bytes=2-5", 10, range(2, 6)),
            ("Bytes=2-5", 10, range(2, 6)),
            ("bytes=2-", 10, range(2, 10)),
            ("bytes=2-99", 10, range(2, 10)),
            ("bytes=-3", 10, range(7, 10)),
            ("bytes=-99", 10, range(0, 10)),
            ("bytes=-0", 10, Part::Unsatisfiable),
            ("bytes=10-", 10, Part::Unsatisfiable),
            ("bytes=-5", 0, Part::Unsatisfiable),
            ("bytes=0-", 0, Part::Unsatisfiable),
            ("bytes=5-2", 10, Part::Whole),
            ("bytes=a-b", 10, Part::Whole),
            ("bytes=-", 10, Part::Whole),
            ("bytes=1", 10, Part::Whole),
            ("bytes=0-1,3-4", 10, Part::Whole),
            ("lines=0-1", 10, Part::Whole),
            ("bytes=0-18446744073709551615", 10, range(0, 10)),
            ("bytes=99999999999999999999999-", 10, Part::Unsatisfiable),
        ];
        for (line, length, expected) in table {
            assert_eq!(parse(line.as_bytes(), length), expected, "{line} of {length}");
        }
    }

    #[test]
    fn rfc9110_s13_1_5_if_range_wants_a_strong_validator() {
        let table = [
            ("\"a\"", "\"a\"", true),
            ("W/\"a\"", "W/\"a\"", false),
            ("\"a\"", "W/\"a\"", false),
            ("\"b\"", "\"a\"", false),
        ];
        for (condition, tag, holds) in table {
            let (mut request, mut stored) = (HeaderMap::new(), HeaderMap::new());
            request.insert(RANGE, "bytes=0-1".parse().unwrap());
            request.insert(IF_RANGE, condition.parse().unwrap());
            stored.insert(ETAG, tag.parse().unwrap());
            let part = evaluate(&request, &stored, 10, Timestamp::from_secs(0));
            assert_eq!(part != Part::Whole, holds, "{condition} {tag}");
        }
    }
}
