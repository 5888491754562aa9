use super::*;
use crate::samples::{ARRIVAL, fields, head, status};

fn names(fields: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

fn own(answer: &Answer) -> &HeaderMap {
    answer.head.fields()
}

fn outcome() -> Outcome {
    Outcome::new(Verdict::Hit, None)
}

#[test]
fn conditions_come_before_ranges_and_both_are_for_successes_only() {
    let (condition, range) = (("if-none-match", "\"a\""), ("range", "bytes=1-2"));
    let whole = Selected::Part(Part::Whole);
    let part = Selected::Part(Part::Range(Span { start: 1, end: 3 }));
    for (number, length, gets, lines, expected) in [
        (200, Some(5), true, &[][..], whole.clone()),
        (200, Some(5), true, &[condition], Selected::NotModified),
        (200, Some(5), true, &[range], part),
        (200, Some(5), true, &[condition, range], Selected::NotModified),
        (404, Some(5), true, &[condition, range], whole.clone()),
        // Ranges are for GET, and for bodies whose length is known.
        (200, Some(5), false, &[range], whole.clone()),
        (200, None, true, &[range], whole.clone()),
        (203, Some(5), true, &[range], whole),
        (200, Some(1), true, &[range], Selected::Part(Part::Unsatisfiable)),
    ] {
        let head = head(number, &[("etag", "\"a\"")]);
        let selected = select(&head, length, gets, &fields(lines), ARRIVAL);
        assert_eq!(selected, expected, "{number} {length:?} {gets} {lines:?}");
    }
}

#[test]
fn a_304_describes_the_body_only_to_caches() {
    let stored = fields(&[
        ("etag", "\"a\""),
        ("last-modified", "Mon, 12 Jan 1970 00:00:00 GMT"),
        ("content-type", "text/html"),
        ("content-length", "5"),
        ("content-encoding", "gzip"),
        ("cache-control", "max-age=60"),
        ("vary", "accept-encoding"),
    ]);
    assert_eq!(names(&not_modified_fields(&stored, false)), ["cache-control", "etag", "vary"]);
    let for_cache = ["cache-control", "content-type", "etag", "last-modified", "vary"];
    assert_eq!(names(&not_modified_fields(&stored, true)), for_cache);
}

#[test]
fn a_304_has_the_modification_date_where_it_is_the_only_validator() {
    let stored = fields(&[("last-modified", "Mon, 12 Jan 1970 00:00:00 GMT")]);
    assert_eq!(names(&not_modified_fields(&stored, false)), ["last-modified"]);
}

#[test]
fn a_part_states_its_own_length_and_its_place_in_the_whole() {
    let stored = fields(&[("content-length", "10"), ("etag", "\"a\"")]);
    let part = partial_fields(&stored, Span { start: 2, end: 5 }, Some(10));
    assert_eq!(
        (part.get(CONTENT_LENGTH).unwrap().as_bytes(), part.get(CONTENT_RANGE).unwrap().as_bytes()),
        (&b"3"[..], &b"bytes 2-4/10"[..])
    );
    assert_eq!(part.get(ETAG).unwrap(), "\"a\"");
}

#[test]
fn a_416_keeps_what_is_not_about_the_bytes_and_cannot_be_stored() {
    let stored = fields(&[
        ("access-control-allow-origin", "*"),
        ("content-security-policy", "default-src 'self'"),
        ("content-type", "video/mp4"),
        ("content-length", "10"),
        ("cache-control", "max-age=60"),
        ("cdn-cache-control", "max-age=60"),
        ("set-cookie", "a=b"),
        ("etag", "\"a\""),
    ]);
    let answer = unsatisfiable(&stored, Some(10), outcome());
    let fields = own(&answer);
    assert_eq!(answer.status, status(416));
    assert_eq!(fields.get(CONTENT_RANGE).unwrap(), "bytes */10");
    assert_eq!(fields.get(CACHE_CONTROL).unwrap(), "no-store");
    assert_eq!(fields.get(CONTENT_TYPE).unwrap(), "text/plain; charset=utf-8");
    let expected = [
        "access-control-allow-origin",
        "cache-control",
        "content-length",
        "content-range",
        "content-security-policy",
        "content-type",
    ];
    assert_eq!(names(fields), expected);
}

#[test]
fn a_client_is_told_to_come_back_only_if_the_failure_passes_soon() {
    let hop: Arc<str> = "origin".into();
    for (error, number, comes_back) in [
        (HopError::Down { hop: hop.clone() }, 503, true),
        (HopError::Busy { hop: hop.clone() }, 503, true),
        (HopError::Timeout { hop }, 504, false),
        (HopError::Short, 502, false),
    ] {
        let answer = failure(&error, Outcome { stored: true, ..outcome() });
        assert_eq!((answer.status, own(&answer).contains_key(RETRY_AFTER)), (status(number), comes_back), "{error}");
        assert_eq!((answer.outcome.verdict, answer.outcome.stored), (Verdict::Error, false));
        assert_eq!(answer.outcome.upstream, error.hop());
        assert_eq!(answer.outcome.reason, Some(error.reason()));
    }
}

#[test]
fn an_answer_of_this_node_is_never_stored_and_names_its_reason() {
    let answer = not_cached(SiteId::new(0));
    assert_eq!(own(&answer).get(CACHE_CONTROL).unwrap(), "no-store");
    let AnswerBody::Bytes(text) = &answer.body else { panic!("it has a text") };
    assert_eq!(&text[..], b"504 Gateway Timeout: only-if-cached\n");
    assert_eq!(own(&answer).get(CONTENT_LENGTH).unwrap(), &text.len().to_string()[..]);
}
