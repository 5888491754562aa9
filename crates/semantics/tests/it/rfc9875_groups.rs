//! Groups: RFC 9875 §2, §3.

use http::Method;
use nearside_semantics::groups::{groups, invalidated};

use crate::heads::head;

#[test]
fn groups_are_strings_of_a_list() {
    let table: [(&str, &[&str]); 9] = [
        ("\"a\"", &["a"]),
        ("\"a\", \"b c\"", &["a", "b c"]),
        ("\"a\" | cache-groups: \"b\"", &["a", "b"]),
        ("\"a\";x=1, tok, 5, (\"c\")", &["a"]),
        ("\"A\", \"a\"", &["A", "a"]),
        ("a, b", &[]),
        ("\"a", &[]),
        ("\"a\" \"b\"", &[]),
        ("", &[]),
    ];
    for (value, expected) in table {
        assert_eq!(groups(&head(&format!("cache-groups: {value}"))), expected, "{value}");
    }
    assert!(groups(&head("cache-control: max-age=60")).is_empty());
}

#[test]
fn at_least_32_groups_of_32_characters_and_a_limit() {
    let name = |n: usize| format!("\"{n:032}\"");
    let list = |count: usize| (0..count).map(name).collect::<Vec<_>>().join(", ");
    assert_eq!(groups(&head(&format!("cache-groups: {}", list(32)))).len(), 32);
    assert_eq!(groups(&head(&format!("cache-groups: {}", list(1500)))).len(), 1000);
    assert!(groups(&head(&format!("cache-groups: \"{}\"", "x".repeat(2000)))).is_empty());
}

#[test]
fn s3_invalidation_is_obeyed_for_unsafe_methods_only() {
    let response = head("cache-group-invalidation: \"a\", \"b\"");
    assert_eq!(invalidated(&Method::POST, &response), ["a", "b"]);
    assert_eq!(invalidated(&Method::from_bytes(b"FROB").unwrap(), &response), ["a", "b"]);
    for safe in [Method::GET, Method::HEAD, Method::OPTIONS] {
        assert!(invalidated(&safe, &response).is_empty(), "{safe}");
    }
}
