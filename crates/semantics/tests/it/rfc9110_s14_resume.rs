//! Going on with a body that broke off: RFC 9110 §13.1.5, §14.2, §15.3.7.

use http::StatusCode;
use nearside_semantics::resume::{Rest, Wanted, rest, strong_validator};

use crate::heads::{NOW, head};

#[test]
fn only_a_strong_validator_lets_a_body_go_on() {
    let table = [
        ("etag: \"a\"", Some("\"a\"")),
        ("etag: W/\"a\"", None),
        ("etag: a", None),
        ("etag: W/\"a\" | last-modified: $now-60 | date: $now", None),
        ("last-modified: $now-60 | date: $now", Some("$now-60")),
        ("last-modified: $now | date: $now", None),
        ("last-modified: $now-60", None),
        ("last-modified: yesterday | date: $now", None),
        ("date: $now", None),
    ];
    for (response, expected) in table {
        let (response_head, expected) =
            (head(response), expected.map(|value| head(&format!("x: {value}"))["x"].clone()));
        assert_eq!(strong_validator(&response_head, NOW), expected.as_ref(), "{response}");
    }
}

#[test]
fn the_rest_must_show_that_it_is_of_the_same_bytes() {
    let continues = Rest::Continues { length: 10 };
    let table = [
        (206, "etag: \"a\" | content-range: bytes 4-9/10", continues),
        (206, "etag: \"a\" | content-range: Bytes 4-9/10", continues),
        // Another place, not up to the end, an unknown or another length.
        (206, "etag: \"a\" | content-range: bytes 3-9/10", Rest::Useless),
        (206, "etag: \"a\" | content-range: bytes 4-8/10", Rest::Useless),
        (206, "etag: \"a\" | content-range: bytes 4-9/*", Rest::Useless),
        (206, "etag: \"a\" | content-range: bytes 4-10/11", Rest::Useless),
        (206, "etag: \"a\" | content-range: bytes 4-10/10", Rest::Useless),
        (206, "etag: \"a\" | content-range: bytes 9-4/10", Rest::Useless),
        (206, "etag: \"a\" | content-range: bytes 4-9/10 | content-range: bytes 4-9/10", Rest::Useless),
        (206, "etag: \"a\" | content-type: multipart/byteranges", Rest::Useless),
        // Not shown to be the same.
        (206, "content-range: bytes 4-9/10", Rest::Useless),
        (206, "etag: W/\"a\" | content-range: bytes 4-9/10", Rest::Useless),
        (206, "etag: \"b\" | content-range: bytes 4-9/10", Rest::Useless),
        (206, "etag: \"a\" | content-encoding: gzip | content-range: bytes 4-9/10", Rest::Useless),
        (200, "etag: \"a\" | content-length: 10", Rest::Restarts),
        (200, "etag: \"a\"", Rest::Restarts),
        (200, "etag: \"a\" | content-length: 11", Rest::Changed),
        (200, "etag: \"b\" | content-length: 10", Rest::Changed),
        (200, "content-length: 10", Rest::Changed),
        (404, "", Rest::Changed),
        (410, "", Rest::Changed),
        (416, "content-range: bytes */10", Rest::Useless),
        (304, "etag: \"a\"", Rest::Useless),
        (503, "", Rest::Useless),
    ];
    for (status, answer, expected) in table {
        let (code, begun) = (StatusCode::from_u16(status).unwrap(), head("etag: \"a\""));
        assert_eq!(
            rest(code, &head(answer), &begun, Wanted { start: 4, end: None, length: Some(10) }),
            expected,
            "{status} {answer}"
        );
    }
}

#[test]
fn a_length_that_was_unknown_comes_with_the_rest() {
    let begun = head("etag: \"a\"");
    let answer = head("etag: \"a\" | content-range: bytes 4-9/10");
    assert_eq!(rest(StatusCode::PARTIAL_CONTENT, &answer, &begun, FROM_4), Rest::Continues { length: 10 });
}

#[test]
fn of_a_part_only_the_rest_of_that_part_is_the_rest() {
    let begun = head("etag: \"a\" | content-range: bytes 2-7/10");
    let wanted = Wanted { start: 4, end: Some(8), length: Some(10) };
    for (range, expected) in
        [("4-7/10", Rest::Continues { length: 10 }), ("4-9/10", Rest::Useless), ("4-7/11", Rest::Useless)]
    {
        let answer = head(&format!("etag: \"a\" | content-range: bytes {range}"));
        assert_eq!(rest(StatusCode::PARTIAL_CONTENT, &answer, &begun, wanted), expected, "{range}");
    }
}

const FROM_4: Wanted = Wanted { start: 4, end: None, length: None };

#[test]
fn a_date_stands_for_the_tag_where_there_is_none() {
    let begun = head("last-modified: $now-60");
    let table = [
        ("last-modified: $now-60 | content-range: bytes 4-9/10", Rest::Continues { length: 10 }),
        ("last-modified: $now-50 | content-range: bytes 4-9/10", Rest::Useless),
        ("content-range: bytes 4-9/10", Rest::Useless),
        ("etag: \"a\" | last-modified: $now-60 | content-range: bytes 4-9/10", Rest::Useless),
    ];
    for (answer, expected) in table {
        assert_eq!(rest(StatusCode::PARTIAL_CONTENT, &head(answer), &begun, FROM_4), expected, "{answer}");
    }
}
