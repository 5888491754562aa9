//! Tables of cases for the verdicts that take a whole exchange: storing and reuse.
//!
//! A case is a request head, a response head, seconds passed and what must come out. Heads are written as
//! `name: value` lines; `$now` and `$now-60` in them stand for HTTP dates around the moment of the response.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::age::Exchange;
use crate::conditional::{self, Conditional};
use crate::directives::{RequestDirectives, ResponseDirectives};
use crate::lifetime::{self, Heuristic, Lifetime, Source};
use crate::reuse::{Freshness, Reuse, Stale, StalePolicy};
use crate::storable::{self, NotStorable, StorePolicy};
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);
const STALE: StalePolicy = StalePolicy { on_error: Duration::ZERO, keep: Duration::from_secs(3600) };

fn head(lines: &str) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in lines.split('|').map(str::trim).filter(|l| !l.is_empty()) {
        let (name, value) = line.split_once(':').unwrap();
        let value = dates(value.trim());
        fields.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(&value).unwrap());
    }
    fields
}

fn dates(value: &str) -> String {
    let Some(offset) = value.strip_prefix("$now") else { return value.to_owned() };
    let secs: i64 = if offset.is_empty() { 0 } else { offset.parse().unwrap() };
    crate::date::format(Timestamp::from_secs(NOW.as_secs().checked_add_signed(secs).unwrap()))
}

fn lifetime_of(status: u16, response: &HeaderMap) -> Lifetime {
    let directives = ResponseDirectives::of(response);
    lifetime::lifetime(StatusCode::from_u16(status).unwrap(), response, &directives, NOW, Heuristic::default())
}

fn store(method: &str, request: &str, status: u16, response: &str) -> Result<(), NotStorable> {
    let response = head(response);
    storable::storable(
        &Method::from_bytes(method.as_bytes()).unwrap(),
        &head(request),
        StatusCode::from_u16(status).unwrap(),
        &response,
        &ResponseDirectives::of(&response),
        lifetime_of(status, &response),
        StorePolicy::default(),
    )
}

fn freshness(response: &str) -> Freshness {
    let response = head(response);
    let exchange = Exchange { request_time: NOW, response_time: NOW };
    Freshness::of(&response, &ResponseDirectives::of(&response), lifetime_of(200, &response), exchange, STALE)
}

#[test]
fn rfc9111_s4_2_1_lifetime() {
    let table = [
        ("cache-control: s-maxage=10, max-age=60", 10, Source::SMaxage),
        ("cache-control: max-age=60, s-maxage=x", 0, Source::SMaxage),
        ("cache-control: max-age=60 | expires: $now-60", 60, Source::MaxAge),
        ("cache-control: max-age=60 | expires: 0", 60, Source::MaxAge),
        ("cache-control: max-age=-5 | expires: $now+60", 0, Source::MaxAge),
        ("date: $now | expires: $now+60", 60, Source::Expires),
        ("date: $now-100 | expires: $now", 100, Source::Expires),
        ("expires: $now+60", 60, Source::Expires),
        ("date: never | expires: $now+60", 60, Source::Expires),
        ("date: $now | expires: $now", 0, Source::Expires),
        ("date: $now | expires: 0", 0, Source::Expires),
        ("date: $now | expires: $now+60 | expires: $now+60", 0, Source::Expires),
        ("date: $now | last-modified: $now-1000", 100, Source::Heuristic),
        ("date: $now | last-modified: $now-100000000", 86_400, Source::Heuristic),
        ("date: $now | last-modified: $now+60", 0, Source::Heuristic),
        ("date: $now", 0, Source::None),
    ];
    for (response, secs, source) in table {
        let expected = Lifetime { span: Duration::from_secs(secs), source };
        assert_eq!(lifetime_of(200, &head(response)), expected, "{response}");
    }
}

#[test]
fn rfc9111_s4_2_2_heuristics_are_for_some_statuses_only() {
    let guessed = |status, extra: &str| {
        lifetime_of(status, &head(&format!("date: $now | last-modified: $now-1000 | {extra}"))).source
            == Source::Heuristic
    };
    for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
        assert!(guessed(status, ""), "{status}");
    }
    for status in [201, 202, 302, 307, 403, 429, 500, 502, 503, 504, 599] {
        assert!(!guessed(status, ""), "{status}");
        assert!(guessed(status, "cache-control: public"), "{status} public");
    }
}

#[test]
fn rfc9111_s3_what_may_be_stored() {
    use NotStorable::*;
    let table = [
        ("GET", "", 200, "cache-control: max-age=60", Ok(())),
        ("HEAD", "", 200, "cache-control: max-age=60", Ok(())),
        ("POST", "", 200, "cache-control: max-age=60", Err(Method)),
        ("QUERY", "", 200, "cache-control: max-age=60", Err(Method)),
        ("GET", "", 200, "cache-control: no-store, max-age=60", Err(NoStore)),
        ("GET", "", 200, "cache-control: No-Store", Err(NoStore)),
        ("GET", "", 200, "cache-control: Private, max-age=60", Err(Private)),
        ("GET", "", 200, "cache-control: private=\"x\", max-age=60", Err(Private)),
        ("GET", "", 200, "cache-control: no-store, must-understand, max-age=60", Ok(())),
        ("GET", "", 599, "cache-control: no-store, must-understand, max-age=60", Err(NotUnderstood)),
        ("GET", "", 599, "cache-control: max-age=60", Ok(())),
        ("GET", "", 499, "cache-control: max-age=60", Ok(())),
        ("GET", "", 206, "cache-control: max-age=60", Err(Partial)),
        ("GET", "", 304, "cache-control: max-age=60", Err(Status)),
        ("GET", "", 412, "cache-control: max-age=60", Err(Status)),
        ("GET", "", 416, "cache-control: max-age=60", Err(Status)),
        ("GET", "", 503, "", Err(NoFreshness)),
        ("GET", "", 200, "", Err(NoFreshness)),
        ("GET", "", 200, "etag: \"a\"", Ok(())),
        ("GET", "", 200, "cache-control: no-cache", Err(Useless)),
        ("GET", "", 200, "cache-control: no-cache | etag: \"a\"", Ok(())),
        ("GET", "", 200, "cache-control: max-age=0", Err(Useless)),
        ("GET", "", 200, "cache-control: max-age=0, stale-while-revalidate=5", Ok(())),
        ("GET", "", 200, "cache-control: max-age=60 | vary: *", Err(VaryAll)),
        ("GET", "", 200, "cache-control: max-age=60 | vary: x", Ok(())),
        ("GET", "", 200, "cache-control: max-age=60 | set-cookie: a=1", Err(SetCookie)),
        ("GET", "cookie: a=1", 200, "cache-control: max-age=60", Ok(())),
        ("GET", "authorization: x", 200, "cache-control: max-age=60", Err(Authorization)),
        ("GET", "authorization: x", 200, "cache-control: max-age=60, public", Ok(())),
        ("GET", "authorization: x", 200, "cache-control: s-maxage=60", Ok(())),
        ("GET", "authorization: x", 200, "cache-control: max-age=60, must-revalidate", Ok(())),
    ];
    for (method, request, status, response, expected) in table {
        assert_eq!(store(method, request, status, response), expected, "{method} {request} {status} {response}");
    }
}

#[test]
fn rfc9111_s4_2_reuse_by_age() {
    let must_ask = |on_error| Reuse::Validate { because: Stale::Expired, on_error };
    let table = [
        ("cache-control: max-age=60", 0, Reuse::Fresh),
        ("cache-control: max-age=60", 59, Reuse::Fresh),
        ("cache-control: max-age=60", 60, must_ask(false)),
        ("cache-control: max-age=3600 | age: 7200", 0, must_ask(false)),
        ("cache-control: max-age=60 | age: 50", 9, Reuse::Fresh),
        ("cache-control: max-age=60 | age: 50", 10, must_ask(false)),
        ("cache-control: max-age=60 | date: $now-50", 10, must_ask(false)),
        ("cache-control: max-age=60, stale-while-revalidate=30", 60, Reuse::WhileRevalidate),
        ("cache-control: max-age=60, stale-while-revalidate=30", 89, Reuse::WhileRevalidate),
        ("cache-control: max-age=60, stale-while-revalidate=30", 90, must_ask(false)),
        ("cache-control: max-age=60, stale-if-error=30", 60, must_ask(true)),
        ("cache-control: max-age=60, stale-if-error=30", 90, must_ask(false)),
        ("cache-control: max-age=60, must-revalidate, stale-while-revalidate=30", 60, must_ask(false)),
        ("cache-control: max-age=60, proxy-revalidate, stale-if-error=30", 60, must_ask(false)),
        ("cache-control: s-maxage=60", 60, must_ask(false)),
        ("cache-control: s-maxage=60, stale-while-revalidate=30", 60, Reuse::WhileRevalidate),
        (
            "cache-control: max-age=60, no-cache, stale-while-revalidate=30",
            0,
            Reuse::Validate { because: Stale::NoCache, on_error: false },
        ),
    ];
    for (response, secs, expected) in table {
        let later = NOW.after(Duration::from_secs(secs));
        assert_eq!(freshness(response).reuse(later, None), expected, "{response} after {secs} s");
    }
}

#[test]
fn rfc9111_s5_2_1_request_directives_where_a_site_honours_them() {
    let fresh = freshness("cache-control: max-age=60");
    // It is fresh, so that it may be served if the next hop cannot be asked.
    let refused = Reuse::Validate { because: Stale::Request, on_error: true };
    let table = [
        ("cache-control: max-age=10", 10, Reuse::Fresh),
        ("cache-control: max-age=10", 11, refused),
        ("cache-control: min-fresh=10", 50, Reuse::Fresh),
        ("cache-control: min-fresh=10", 51, refused),
        ("cache-control: no-cache", 0, refused),
        ("pragma: no-cache", 0, refused),
        ("cache-control: max-stale=100", 61, Reuse::Validate { because: Stale::Expired, on_error: false }),
    ];
    for (request, secs, expected) in table {
        let asked = RequestDirectives::of(&head(request));
        let later = NOW.after(Duration::from_secs(secs));
        assert_eq!(fresh.reuse(later, Some(&asked)), expected, "{request} after {secs} s");
        if secs < 60 {
            assert_eq!(fresh.reuse(later, None), Reuse::Fresh, "ignored unless honoured: {request}");
        }
    }
}

#[test]
fn ttl_counts_down_and_goes_negative() {
    let life = freshness("cache-control: max-age=60 | age: 20");
    let at = |secs| NOW.after(Duration::from_secs(secs));
    assert_eq!((life.ttl(NOW), life.ttl(at(39)), life.ttl(at(43))), (40, 1, -3));
    assert_eq!(life.age(at(5)), Duration::from_secs(25));
    assert_eq!(life.retain_until(true, NOW, STALE), at(40 + 3600));
    assert_eq!(life.retain_until(false, NOW, STALE), at(40));
}

#[test]
fn rfc9110_s13_conditionals_against_a_stored_response() {
    use Conditional::*;
    let stored = head("etag: \"a\" | last-modified: $now-100");
    let weak = head("etag: W/\"a\"");
    let table = [
        ("", &stored, Full),
        ("if-none-match: \"a\"", &stored, NotModified),
        ("if-none-match: W/\"a\"", &stored, NotModified),
        ("if-none-match: \"a\"", &weak, NotModified),
        ("if-none-match: \"x\", \"a\"", &stored, NotModified),
        ("if-none-match: \"x\" | if-none-match: \"a\"", &stored, NotModified),
        ("if-none-match: *", &stored, NotModified),
        ("if-none-match: \"x\"", &stored, Full),
        ("if-none-match: a", &stored, Full),
        ("if-none-match: \"x\" | if-modified-since: $now", &stored, Full),
        ("if-modified-since: $now-100", &stored, NotModified),
        ("if-modified-since: $now", &stored, NotModified),
        ("if-modified-since: $now-101", &stored, Full),
        ("if-modified-since: yesterday", &stored, Full),
        ("if-modified-since: $now", &weak, Full),
        ("if-match: \"a\"", &stored, Full),
        ("if-match: *", &stored, Full),
        ("if-match: \"x\"", &stored, PreconditionFailed),
        ("if-match: W/\"a\"", &weak, PreconditionFailed),
        ("if-unmodified-since: $now-100", &stored, Full),
        ("if-unmodified-since: $now-101", &stored, PreconditionFailed),
    ];
    for (request, response, expected) in table {
        assert_eq!(conditional::evaluate(&head(request), response, NOW), expected, "{request}");
    }
}

#[test]
fn rfc9111_s4_3_4_a_304_replaces_what_it_carries() {
    let stored = head("age: 9 | etag: \"a\" | cache-control: max-age=1 | x: 1 | x: 2 | content-length: 5 | y: 9");
    let fresh = head("etag: \"a\" | cache-control: max-age=60 | x: 3 | content-length: 0");
    assert!(conditional::selects(&fresh, &stored));
    let merged = conditional::merge(&stored, &fresh);
    assert_eq!(merged, head("etag: \"a\" | cache-control: max-age=60 | x: 3 | content-length: 5 | y: 9"));
    assert!(!conditional::selects(&head("etag: \"b\""), &stored));
    assert!(conditional::selects(&head("x: 1"), &stored));
}
