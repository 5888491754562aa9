//! Conditional requests against a stored response, and the validation of one (RFC 9110 §13, RFC 9111 §4.3).
//!
//! Entity tags are opaque: one that is malformed is compared byte by byte, and validates as it stands.

use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, LAST_MODIFIED,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::date;
use crate::fields::{Fields, members};
use crate::time::Timestamp;

/// What a conditional request gets from a response that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conditional {
    /// The whole response: there is no condition, or it holds.
    Full,
    /// 304: the client has it already.
    NotModified,
}

/// Evaluates `If-None-Match` and `If-Modified-Since` of a GET or HEAD against a stored 2xx response, in the order of
/// RFC 9110 §13.2.2. Check [`preconditions_hold`] first.
#[must_use]
pub fn evaluate(request: &impl Fields, stored: &HeaderMap, now: Timestamp) -> Conditional {
    if request.has(&IF_NONE_MATCH) {
        return if matches_any(request, &IF_NONE_MATCH, stored, weak_match) {
            Conditional::NotModified
        } else {
            Conditional::Full
        };
    }
    match (one_date(request, &IF_MODIFIED_SINCE, now), modified(stored, now)) {
        (Some(since), Some(modified)) if modified <= since => Conditional::NotModified,
        _ => Conditional::Full,
    }
}

/// Checks that a stored response satisfies `If-Match` and `If-Unmodified-Since` of a request.
///
/// Only the origin server may answer 412: these two conditions "are not applicable to a cache" (RFC 9111 §4.3.2). A cache
/// that ignored them could send a range of another version to a client that assembles a file from ranges. So a stored
/// response is used while they hold, and where they do not, the request goes to the origin server unchanged.
#[must_use]
pub fn preconditions_hold(request: &impl Fields, stored: &HeaderMap, now: Timestamp) -> bool {
    if request.has(&IF_MATCH) {
        return matches_any(request, &IF_MATCH, stored, strong_match);
    }
    if !request.has(&IF_UNMODIFIED_SINCE) {
        return true;
    }
    let Some(since) = one_date(request, &IF_UNMODIFIED_SINCE, now) else {
        // A recipient MUST ignore the field if its value is not a valid date (RFC 9110 §13.1.4).
        return true;
    };
    one_date(stored, &LAST_MODIFIED, now).is_none_or(|modified| modified <= since)
}

/// `Last-Modified`, or where there is none, `Date`: "a cache recipient … SHOULD use the Date field value" (RFC 9111
/// §4.3.2).
fn modified(stored: &HeaderMap, now: Timestamp) -> Option<Timestamp> {
    if stored.contains_key(LAST_MODIFIED) {
        one_date(stored, &LAST_MODIFIED, now)
    } else {
        crate::age::date(stored, now)
    }
}

const CONDITIONS: [HeaderName; 4] = [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_MATCH, IF_UNMODIFIED_SINCE];

/// Whether a request carries any of the four conditions.
#[must_use]
pub fn is_conditional(request: &HeaderMap) -> bool {
    CONDITIONS.iter().any(|name| request.contains_key(name))
}

/// Removes the four conditions, and that of a range.
pub fn strip_conditions(request: &mut HeaderMap) {
    for name in CONDITIONS.iter().chain([&IF_RANGE]) {
        request.remove(name);
    }
}

/// Whether a response can be validated: it has an entity tag or a modification date.
#[must_use]
pub fn has_validator(stored: &HeaderMap) -> bool {
    stored.contains_key(ETAG) || stored.contains_key(LAST_MODIFIED)
}

/// Writes the conditions that validate `stored` into a request that goes forward (RFC 9111 §4.3.1).
pub fn set_validators(request: &mut HeaderMap, stored: &HeaderMap) {
    if let Some(tag) = stored.get(ETAG) {
        request.insert(IF_NONE_MATCH, tag.clone());
    }
    if let Some(modified) = stored.get(LAST_MODIFIED) {
        request.insert(IF_MODIFIED_SINCE, modified.clone());
    }
}

/// Whether a 304 speaks of this stored response (RFC 9111 §4.3.4): the validator that it carries must be the stored one.
#[must_use]
pub fn selects(not_modified: &HeaderMap, stored: &HeaderMap) -> bool {
    match (not_modified.get(ETAG), stored.get(ETAG)) {
        (Some(new), Some(old)) => return opaque(new.as_bytes()) == opaque(old.as_bytes()),
        (Some(_), None) => return false,
        (None, _) => {}
    }
    match (not_modified.get(LAST_MODIFIED), stored.get(LAST_MODIFIED)) {
        (Some(new), Some(old)) => new == old,
        _ => true,
    }
}

/// Whether a 200 to a HEAD describes this stored response (RFC 9111 §4.3.5): every validator that it carries, and its
/// length, must be the stored ones.
#[must_use]
pub fn describes(head: &HeaderMap, stored: &HeaderMap) -> bool {
    let told = [ETAG, LAST_MODIFIED, CONTENT_LENGTH].into_iter().filter(|name| head.contains_key(name));
    let mut agrees = told.map(|name| head.get(&name) == stored.get(&name)).peekable();
    agrees.peek().is_some() && agrees.all(|equal| equal)
}

/// The stored fields after a 304 (RFC 9111 §3.2): every field that it carries replaces the stored one, but those that
/// describe the bytes that are stored.
#[must_use]
pub fn merge(stored: &HeaderMap, not_modified: &HeaderMap) -> HeaderMap {
    let mut merged = stored.clone();
    // The stored age was that of the old answer; without one of its own, the new one has none.
    merged.remove(AGE);
    for name in not_modified.keys() {
        if [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_RANGE].contains(name) {
            continue;
        }
        merged.remove(name);
        for value in not_modified.get_all(name) {
            merged.append(name.clone(), value.clone());
        }
    }
    merged
}

/// Strong comparison (RFC 9110 §8.8.3.2): equal, and neither is weak.
#[must_use]
pub fn strong_match(a: &[u8], b: &[u8]) -> bool {
    a == b && !a.starts_with(b"W/")
}

/// Weak comparison (RFC 9110 §8.8.3.2): equal opaque tags. What is no entity tag is compared as it stands.
#[must_use]
pub fn weak_match(a: &[u8], b: &[u8]) -> bool {
    opaque(a) == opaque(b)
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

fn matches_any(
    request: &impl Fields,
    name: &HeaderName,
    stored: &HeaderMap,
    compare: fn(&[u8], &[u8]) -> bool,
) -> bool {
    let tag = stored.get(ETAG).map(HeaderValue::as_bytes);
    let hits = |line: &[u8]| {
        line.trim_ascii() == b"*" || tag.is_some_and(|tag| members(line).any(|member| compare(member, tag)))
    };
    request.lines(name).any(hits)
}

fn one_date(fields: &impl Fields, name: &HeaderName, now: Timestamp) -> Option<Timestamp> {
    date::parse(fields.sole(name)?, now)
}
