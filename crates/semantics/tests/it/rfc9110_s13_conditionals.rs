//! Conditional requests against a stored response: RFC 9110 §13.1, §13.2.2; RFC 9111 §4.3.2.

use nearside_semantics::conditional::{Conditional, evaluate, preconditions_hold};

use crate::heads::{NOW, head};

#[test]
fn in_the_order_of_s13_2_2() {
    use Conditional::*;
    let both = "etag: \"a\" | last-modified: $now-100 | date: $now";
    let weak = "etag: W/\"a\"";
    let table = [
        ("", both, Full),
        ("if-none-match: \"a\"", both, NotModified),
        ("if-none-match: W/\"a\"", both, NotModified),
        ("if-none-match: \"a\"", weak, NotModified),
        ("if-none-match: \"x\", \"a\"", both, NotModified),
        ("if-none-match: \"x\" | if-none-match: \"a\"", both, NotModified),
        ("if-none-match: *", both, NotModified),
        ("if-none-match: *", "", NotModified),
        ("if-none-match: \"x\"", both, Full),
        ("if-none-match: a", both, Full),
        ("if-none-match: a", "etag: a", NotModified),
        ("if-none-match: \"x,y\"", "etag: \"x,y\"", NotModified),
        ("if-none-match: \"x\" | if-modified-since: $now", both, Full),
        ("if-none-match: \"a\" | if-modified-since: $now-500", both, NotModified),
        ("if-modified-since: $now-100", both, NotModified),
        ("if-modified-since: $now", both, NotModified),
        ("if-modified-since: $now-101", both, Full),
        ("if-modified-since: yesterday", both, Full),
        ("if-modified-since: $now-100 | if-modified-since: $now-100", both, Full),
    ];
    for (request, stored, expected) in table {
        assert_eq!(evaluate(&head(request), &head(stored), NOW), expected, "{request} against {stored}");
    }
}

#[test]
fn rfc9111_s4_3_2_if_match_and_if_unmodified_since_are_checked_and_never_answered() {
    let both = "etag: \"a\" | last-modified: $now-100 | date: $now";
    let weak = "etag: W/\"a\"";
    let table = [
        ("", both, true),
        ("if-none-match: \"a\"", both, true),
        ("if-match: \"a\"", both, true),
        ("if-match: \"x\", \"a\"", both, true),
        ("if-match: *", both, true),
        ("if-match: \"x\"", both, false),
        ("if-match: W/\"a\"", weak, false),
        ("if-match: \"a\"", "", false),
        ("if-unmodified-since: $now-100", both, true),
        ("if-unmodified-since: $now-101", both, false),
        ("if-unmodified-since: yesterday", both, true),
        ("if-unmodified-since: $now-101", "etag: \"a\"", true),
        ("if-match: \"a\" | if-unmodified-since: $now-101", both, true),
        ("if-match: \"x\" | if-unmodified-since: $now", both, false),
    ];
    for (request, stored, expected) in table {
        assert_eq!(preconditions_hold(&head(request), &head(stored), NOW), expected, "{request} against {stored}");
        assert_eq!(evaluate(&head("if-match: \"x\""), &head(stored), NOW), Conditional::Full, "{stored}");
    }
}

#[test]
fn rfc9111_s4_3_2_without_last_modified_the_date_counts() {
    let stored = head("date: $now");
    assert_eq!(evaluate(&head("if-modified-since: $now"), &stored, NOW), Conditional::NotModified);
    assert_eq!(evaluate(&head("if-modified-since: $now-1"), &stored, NOW), Conditional::Full);
    let broken = head("date: $now | last-modified: yesterday");
    assert_eq!(evaluate(&head("if-modified-since: $now"), &broken, NOW), Conditional::Full);
}

#[test]
fn s5_6_7_all_three_forms_of_dates() {
    let stored = head("last-modified: Sun, 06 Nov 1994 08:49:37 GMT");
    for since in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
        let request = head(&format!("if-modified-since: {since}"));
        assert_eq!(evaluate(&request, &stored, NOW), Conditional::NotModified, "{since}");
    }
}
