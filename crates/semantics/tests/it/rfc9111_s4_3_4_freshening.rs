//! What a 304 does to a stored response: RFC 9111 §3.2, §4.3.3, §4.3.4.

use http::HeaderMap;
use nearside_semantics::conditional::{merge, selects, set_validators};

use crate::heads::head;

#[test]
fn it_replaces_what_it_carries_but_the_description_of_the_stored_bytes() {
    let stored = head(
        "age: 9 | etag: \"a\" | cache-control: max-age=1 | x: 1 | x: 2 | content-length: 5 | y: 9 | content-encoding: br",
    );
    let fresh = head(
        "etag: \"a\" | cache-control: max-age=60 | x: 3 | content-length: 0 | content-encoding: gzip | content-range: x | new: 1 | new: 2",
    );
    let expected = head(
        "etag: \"a\" | cache-control: max-age=60 | x: 3 | content-length: 5 | y: 9 | content-encoding: br | new: 1 | new: 2",
    );
    assert_eq!(merge(&stored, &fresh), expected);
    assert_eq!(merge(&stored, &head("age: 3"))["age"], "3", "its own age");
}

#[test]
fn it_speaks_of_the_stored_response_only_with_its_validator() {
    let table = [
        ("etag: \"a\"", "etag: \"a\"", true),
        ("etag: W/\"a\"", "etag: \"a\"", true),
        ("etag: \"b\"", "etag: \"a\"", false),
        ("etag: \"b\"", "last-modified: $now", false),
        ("x: 1", "etag: \"a\"", true),
        ("last-modified: $now", "last-modified: $now", true),
        ("last-modified: $now", "last-modified: $now-1", false),
        ("last-modified: $now", "etag: \"a\"", true),
        ("etag: \"a\" | last-modified: $now", "etag: \"a\" | last-modified: $now-1", true),
    ];
    for (fresh, stored, expected) in table {
        assert_eq!(selects(&head(fresh), &head(stored)), expected, "{fresh} for {stored}");
    }
}

#[test]
fn s4_3_1_a_validation_carries_the_validators_as_they_stand() {
    for (stored, expected) in [
        ("etag: \"a\" | last-modified: $now", "if-none-match: \"a\" | if-modified-since: $now"),
        ("etag: W/\"a\"", "if-none-match: W/\"a\""),
        ("etag: abc", "if-none-match: abc"),
        ("last-modified: $now", "if-modified-since: $now"),
        ("x: 1", ""),
    ] {
        let mut request = HeaderMap::new();
        set_validators(&mut request, &head(stored));
        assert_eq!(request, head(expected), "{stored}");
    }
}
