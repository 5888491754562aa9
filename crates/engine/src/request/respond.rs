//! From a stored response, a fill or a failure to the answer for one request: conditions, ranges, HEAD.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_ORIGIN, AGE, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE,
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, EXPIRES, LAST_MODIFIED, PRAGMA,
    RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use nearside_config::SiteId;
use nearside_http1::write;
use nearside_semantics::Timestamp;
use nearside_semantics::conditional::{self, Conditional};
use nearside_semantics::fields::Fields;
use nearside_semantics::range::{self, Part, Span};
use nearside_store::{Body, BodyReader, Entry, Head};
use nearside_telemetry::outcome::{Outcome, Verdict};
use nearside_telemetry::reason::Reason;
use nearside_upstream::HopError;

use super::parts::{AnswerReader, Parts};
use super::{Answer, AnswerBody, AnswerHead, Engine, Request};
use crate::fill::Fetched;
use crate::request::refusal::Refusal;

/// A response that can be answered with, stored or on its way.
struct Source<'s> {
    head: &'s Arc<Head>,
    body: &'s Arc<Body>,
    /// The length of the body, where it is known already.
    length: Option<u64>,
    now: Timestamp,
    /// Who asks keeps what it gets, and is told all there is to keep.
    for_cache: bool,
}

/// The answer from a stored response.
pub(crate) fn stored(
    engine: &Engine,
    entry: &Entry,
    request: &Request,
    mut outcome: Outcome,
    now: Timestamp,
) -> Answer {
    let for_cache = engine.tier.serves_caches();
    let source = Source { head: &entry.head, body: &entry.body, length: entry.body.len(), now, for_cache };
    // What has been purged since it was chosen is told as it was.
    let freshness = entry.freshness(now).unwrap_or(entry.declared);
    outcome.ttl = Some(freshness.ttl(now));
    let mut answer = selected(&source, None, request, outcome);
    answer.age = Some(freshness.age(now).as_secs());
    answer
}

/// The answer from a fill that is on its way.
pub(crate) fn fetched(
    engine: &Engine,
    fetched: &Fetched,
    reader: Option<BodyReader>,
    request: &Request,
    outcome: Outcome,
    now: Timestamp,
) -> Answer {
    if fetched.stored.is_err() {
        return fetched_whole(fetched, reader, request, outcome, now);
    }
    let for_cache = engine.tier.serves_caches();
    let source = Source { head: &fetched.head, body: &fetched.body, length: fetched.length, now, for_cache };
    let age = fetched.age_to_show(now);
    let mut answer = selected(&source, reader, request, fetched.complete(outcome, now));
    answer.age = age;
    answer
}

/// The answer of the next hop as it is.
pub(crate) fn fetched_whole(
    fetched: &Fetched,
    reader: Option<BodyReader>,
    request: &Request,
    outcome: Outcome,
    now: Timestamp,
) -> Answer {
    Answer {
        status: fetched.head.status,
        head: AnswerHead::Prepared(Arc::clone(&fetched.head)),
        body: body(reader, fetched.length, request, fetched.head.status),
        age: fetched.age_to_show(now),
        outcome: fetched.complete(outcome, now),
    }
}

fn body(reader: Option<BodyReader>, length: Option<u64>, request: &Request, status: StatusCode) -> AnswerBody {
    match reader {
        Some(reader) if request.method != Method::HEAD && !nearside_http1::framing::bodiless(status) => {
            AnswerBody::Reader { reader: AnswerReader::Body(reader), length }
        }
        _ => AnswerBody::None,
    }
}

/// What of a stored response a request gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selected {
    Part(Part),
    NotModified,
}

/// Conditions first, then the range (RFC 9110 §13.2.2); both are for stored successes only. `length` is the body's, if it
/// is known; `gets` says that the method is GET, the only one with ranges (§14.2).
pub(crate) fn select(head: &Head, length: Option<u64>, gets: bool, request: &impl Fields, now: Timestamp) -> Selected {
    if head.status.is_success() {
        match conditional::evaluate(request, &head.fields, now) {
            Conditional::Full => {}
            Conditional::NotModified => return Selected::NotModified,
        }
    }
    Selected::Part(match length {
        Some(length) if head.status == StatusCode::OK && gets => range::evaluate(request, &head.fields, length, now),
        _ => Part::Whole,
    })
}

/// Whether a stored field belongs into a 304: not the description of bytes that are not sent (RFC 9110 §15.4.5); a cache
/// gets what it is to keep of it.
pub fn belongs_in_not_modified(name: &HeaderName, stored: &HeaderMap, for_cache: bool) -> bool {
    let of_bytes = [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE].contains(name);
    let described = [CONTENT_TYPE, CONTENT_LANGUAGE, ACCEPT_RANGES].contains(name)
        || *name == LAST_MODIFIED && stored.contains_key(ETAG);
    !of_bytes && (for_cache || !described)
}

/// The stored fields that belong into a 304.
pub fn not_modified_fields(stored: &HeaderMap, for_cache: bool) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(stored.len());
    for (name, value) in stored.iter().filter(|(name, _)| belongs_in_not_modified(name, stored, for_cache)) {
        kept.append(name.clone(), value.clone());
    }
    kept
}

/// The fields of a 206 with one part of something that is `length` bytes long, as far as is known.
pub fn partial_fields(stored: &HeaderMap, span: Span, length: Option<u64>) -> HeaderMap {
    let mut fields = stored.clone();
    fields.insert(CONTENT_LENGTH, HeaderValue::from(span.end - span.start));
    set_content_range(&mut fields, &content_range(span, length));
    fields
}

fn selected(source: &Source<'_>, reader: Option<BodyReader>, request: &Request, outcome: Outcome) -> Answer {
    let gets = request.method == Method::GET;
    let part = match select(source.head, source.length, gets, &request.fields, source.now) {
        Selected::Part(part) => part,
        Selected::NotModified => return not_modified(source, outcome),
    };
    match part {
        Part::Whole => {
            let reader = reader.or_else(|| source.body.reader(0));
            Answer {
                status: source.head.status,
                head: AnswerHead::Prepared(Arc::clone(source.head)),
                body: body(reader, source.length, request, source.head.status),
                age: None,
                outcome,
            }
        }
        Part::Range(span) => partial(source, span, outcome),
        Part::Ranges(spans) => multipart(source, &spans, outcome),
        Part::Unsatisfiable => unsatisfiable(&source.head.fields, source.length, outcome),
    }
}

fn not_modified(source: &Source<'_>, outcome: Outcome) -> Answer {
    let head = AnswerHead::Own(not_modified_fields(&source.head.fields, source.for_cache));
    Answer { status: StatusCode::NOT_MODIFIED, head, body: AnswerBody::None, age: None, outcome }
}

fn partial(source: &Source<'_>, span: Span, outcome: Outcome) -> Answer {
    let Some(reader) = source.body.reader(span.start) else {
        return synth(StatusCode::BAD_GATEWAY, Reason::RangeGone, outcome);
    };
    Answer {
        status: StatusCode::PARTIAL_CONTENT,
        head: AnswerHead::Own(partial_fields(&source.head.fields, span, source.length)),
        body: AnswerBody::Reader { reader: AnswerReader::Body(reader), length: Some(span.end - span.start) },
        age: None,
        outcome,
    }
}

/// Several parts (RFC 9110 §14.6), each with its own place and the type of the whole.
fn multipart(source: &Source<'_>, spans: &[Span], outcome: Outcome) -> Answer {
    let mut fields = source.head.fields.clone();
    let boundary = boundary();
    let content_type = fields.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut parts = Parts::default();
    for (place, span) in spans.iter().enumerate() {
        let Some(reader) = source.body.reader(span.start) else {
            return synth(StatusCode::BAD_GATEWAY, Reason::RangeGone, outcome);
        };
        let mut head = format!("{}--{boundary}\r\n", if place == 0 { "" } else { "\r\n" });
        if let Some(content_type) = &content_type {
            head += &format!("content-type: {content_type}\r\n");
        }
        head += &format!("content-range: {}\r\n\r\n", content_range(*span, source.length));
        parts.push_text(head);
        parts.push_span(reader, span.end - span.start);
    }
    parts.push_text(format!("\r\n--{boundary}--\r\n"));
    let length = parts.length();
    fields.remove(CONTENT_RANGE);
    fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if let Ok(value) = HeaderValue::try_from(format!("multipart/byteranges; boundary={boundary}")) {
        fields.insert(CONTENT_TYPE, value);
    }
    Answer {
        status: StatusCode::PARTIAL_CONTENT,
        head: AnswerHead::Own(fields),
        body: AnswerBody::Reader { reader: AnswerReader::Parts(parts), length: Some(length) },
        age: None,
        outcome,
    }
}

/// A line that no body contains unless it was made by someone who can guess 128 random bits.
fn boundary() -> String {
    let random = || ahash::RandomState::new().hash_one(0_u8);
    format!("nearside-{:016x}{:016x}", random(), random())
}

fn content_range(span: Span, length: Option<u64>) -> String {
    let mut value = Vec::with_capacity(48);
    write::content_range(span, length.unwrap_or(span.end), &mut value);
    String::from_utf8(value).unwrap_or_default()
}

/// No byte of a stored response that is `length` bytes long is in the client's range. It keeps the fields that are not
/// about those bytes: without its CORS fields, a script in a page could not even read the status.
pub(crate) fn unsatisfiable(stored: &HeaderMap, length: Option<u64>, outcome: Outcome) -> Answer {
    let mut answer = synth(StatusCode::RANGE_NOT_SATISFIABLE, Reason::Range, outcome);
    if let AnswerHead::Own(fields) = &mut answer.head {
        for (name, value) in stored.iter().filter(|(name, _)| !describes_bytes(name)) {
            fields.append(name.clone(), value.clone());
        }
        set_content_range(fields, &format!("bytes */{}", length.unwrap_or(0)));
    }
    answer
}

/// Whether a stored field describes the bytes of a response, or how long it may be stored.
fn describes_bytes(name: &HeaderName) -> bool {
    let of_caching = [AGE, CACHE_CONTROL, EXPIRES, PRAGMA, SET_COOKIE, ETAG, LAST_MODIFIED].contains(name);
    of_caching
        || name.as_str().starts_with("content-") && *name != CONTENT_SECURITY_POLICY
        || name.as_str().ends_with("cache-control")
}

fn set_content_range(fields: &mut HeaderMap, range: &str) {
    if let Ok(value) = HeaderValue::from_str(range) {
        fields.insert(CONTENT_RANGE, value);
    }
}

/// The next hop gave no answer.
pub(crate) fn failure(error: &HopError, mut outcome: Outcome) -> Answer {
    outcome.verdict = Verdict::Error;
    outcome.stored = false;
    outcome.upstream = outcome.upstream.or_else(|| error.hop());
    let mut answer = synth(error.status(), error.reason(), outcome);
    if let (StatusCode::SERVICE_UNAVAILABLE, AnswerHead::Own(fields)) = (answer.status, &mut answer.head) {
        // A hop that is down is tried every second, and a queue is shorter by then.
        fields.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

/// A request that is not accepted.
pub fn refusal(refusal: Refusal) -> Answer {
    let mut answer = synth(refusal.status, refusal.reason, Outcome::new(Verdict::Synth, refusal.site));
    if let (StatusCode::SERVICE_UNAVAILABLE, AnswerHead::Own(fields)) = (answer.status, &mut answer.head) {
        // What is in progress now has ended by then, for the most part.
        fields.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

/// Methods that a node answers without its next hop.
const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// The end of the way that `Max-Forwards` allows to an OPTIONS (RFC 9110 §7.6.2).
pub(crate) fn last_recipient(site: SiteId) -> Answer {
    with_allow(synth(StatusCode::OK, Reason::MaxForwards, Outcome::new(Verdict::Synth, Some(site))))
}

/// The end of every TRACE. An echo would show a script what its browser keeps from it, cookies and credentials among
/// them, and what the nodes tell each other and their origin (RFC 9110 §9.3.8).
pub(crate) fn no_trace(site: SiteId) -> Answer {
    with_allow(synth(StatusCode::NOT_IMPLEMENTED, Reason::Trace, Outcome::new(Verdict::Synth, Some(site))))
}

fn with_allow(mut answer: Answer) -> Answer {
    if let AnswerHead::Own(fields) = &mut answer.head {
        fields.insert(ALLOW, ALLOWED);
    }
    answer
}

/// `only-if-cached`, and nothing is (RFC 9111 §5.2.1.7).
pub(crate) fn not_cached(site: SiteId) -> Answer {
    synth(StatusCode::GATEWAY_TIMEOUT, Reason::OnlyIfCached, Outcome::new(Verdict::Synth, Some(site)))
}

/// As little as can be, for a page of any origin to time (Resource Timing).
pub(crate) fn ping(site: SiteId) -> Answer {
    let mut answer = synth(StatusCode::OK, Reason::Ping, Outcome::new(Verdict::Synth, Some(site)));
    if let AnswerHead::Own(fields) = &mut answer.head {
        fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        fields.insert(HeaderName::from_static("timing-allow-origin"), HeaderValue::from_static("*"));
        fields.insert(CONTENT_LENGTH, HeaderValue::from(PING_BODY.len()));
    }
    answer.body = AnswerBody::Bytes(Bytes::from_static(PING_BODY));
    answer
}

/// The body of what is timed.
const PING_BODY: &[u8] = b"pong\n";

/// An answer of our own, for programs.
pub fn json(status: StatusCode, reason: Reason, value: &serde_json::Value, site: SiteId) -> Answer {
    let mut answer = synth(status, reason, Outcome::new(Verdict::Synth, Some(site)));
    let text = value.to_string();
    let kind = if status.is_success() { "application/json" } else { "application/problem+json" };
    if let AnswerHead::Own(fields) = &mut answer.head {
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        fields.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §15.5.2
            fields.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
    }
    answer.body = AnswerBody::Bytes(Bytes::from(text));
    answer
}

/// An answer of our own: a line of text that says what is wrong.
fn synth(status: StatusCode, reason: Reason, mut outcome: Outcome) -> Answer {
    outcome.reason = Some(reason);
    let text = format!("{} {}: {}\n", status.as_str(), status.canonical_reason().unwrap_or("error"), reason.token());
    let mut fields = HeaderMap::new();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    Answer { status, head: AnswerHead::Own(fields), body: AnswerBody::Bytes(Bytes::from(text)), age: None, outcome }
}

#[cfg(test)]
mod tests;
