//! Requests that must never be taken for one another: RFC 9110 §4.2.3, and the recipes on top.

use nearside_semantics::key::{Scheme, write};

fn key(scheme: Scheme, authority: &str, target: &str) -> Vec<u8> {
    let mut key = Vec::new();
    write(scheme, authority.as_bytes(), target.as_bytes(), &mut key);
    key
}

#[test]
fn every_byte_of_path_and_query_counts() {
    let targets = [
        "/",
        "/a",
        "/A",
        "/a/",
        "//a",
        "/./a",
        "/b/../a",
        "/%61",
        "/%2Fa",
        "/%2fa",
        "/a%2F",
        "/a;x",
        "/a?",
        "/a?b",
        "/a?b=",
        "/a?b&b",
        "/a?b=1&c=2",
        "/a?c=2&b=1",
        "/a?b=1&&c=2",
        "/a?b=1&c=2&",
        "/a?B=1&c=2",
        "/a?b=%31&c=2",
        "/a?b=1;c=2",
        "/a?/b",
        "/a%3Fb",
        "/a?b?c",
        "/a|b",
        "/a\"b",
    ];
    for (at, one) in targets.iter().enumerate() {
        for other in &targets[at + 1..] {
            assert_ne!(key(Scheme::Http, "a.org", one), key(Scheme::Http, "a.org", other), "{one} {other}");
        }
    }
}

#[test]
fn scheme_host_and_port_count_and_their_spellings_do_not() {
    let all = [
        (Scheme::Http, "a.org"),
        (Scheme::Https, "a.org"),
        (Scheme::Http, "b.org"),
        (Scheme::Http, "a.org:8080"),
        (Scheme::Http, "a.org:443"),
        (Scheme::Https, "a.org:80"),
        (Scheme::Http, "www.a.org"),
        (Scheme::Http, "a.orgx"),
        (Scheme::Http, "[::1]"),
        (Scheme::Http, "[::1]:1"),
    ];
    for (at, one) in all.iter().enumerate() {
        for other in &all[at + 1..] {
            assert_ne!(key(one.0, one.1, "/"), key(other.0, other.1, "/"), "{one:?} {other:?}");
        }
    }
    for spelling in ["A.ORG", "a.org:80", "a.org.", "a.org:", "A.org.:80"] {
        assert_eq!(key(Scheme::Http, spelling, "/"), key(Scheme::Http, "a.org", "/"), "{spelling}");
    }
}
