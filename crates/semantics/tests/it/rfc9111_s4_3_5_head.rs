//! What the answer to a HEAD tells of a stored GET: RFC 9111 §4.3.5.

use nearside_semantics::conditional::describes;

use crate::heads::head;

#[test]
fn validators_and_length_must_be_the_stored_ones() {
    let stored = "etag: \"a\" | last-modified: $now | content-length: 5";
    let table = [
        (stored, stored, true),
        ("etag: \"a\"", stored, true),
        ("etag: \"a\" | content-length: 5", stored, true),
        ("content-length: 5", stored, true),
        ("etag: \"b\" | content-length: 5", stored, false),
        ("etag: \"a\" | content-length: 6", stored, false),
        ("etag: \"a\" | last-modified: $now-1", stored, false),
        ("etag: \"a\"", "content-length: 5", false),
        ("x: 1", stored, false),
        ("", "", false),
    ];
    for (told, stored, expected) in table {
        assert_eq!(describes(&head(told), &head(stored)), expected, "{told} of {stored}");
    }
}
