//! What an unsafe request makes useless: RFC 9111 §4.4, RFC 9110 §8.7, §9.3.3.

use http::{Method, StatusCode};
use nearside_semantics::invalidation::{Target, invalidates, is_own_location, locations};
use nearside_semantics::key::Scheme;

use crate::heads::head;

#[test]
fn successes_of_unsafe_and_unknown_methods_invalidate() {
    let method = |name: &str| Method::from_bytes(name.as_bytes()).unwrap();
    for name in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "FROB", "post"] {
        for (status, expected) in [(200, true), (204, true), (302, true), (404, false), (500, false), (503, false)] {
            let found = invalidates(&method(name), StatusCode::from_u16(status).unwrap());
            assert_eq!(found, expected, "{name} {status}");
        }
    }
    for name in ["GET", "HEAD", "OPTIONS", "TRACE"] {
        assert!(!invalidates(&method(name), StatusCode::OK), "{name}");
    }
}

fn found(target: &str, response: &str) -> Vec<String> {
    let target =
        Target { scheme: Scheme::Http, authority: b"www.example.org", alias: None, path_and_query: target.as_bytes() };
    locations(&target, StatusCode::OK, &head(response))
        .into_iter()
        .map(|path| String::from_utf8(path).unwrap())
        .collect()
}

#[test]
fn locations_of_the_same_origin_are_invalidated_too() {
    let table: [(&str, &str, &[&str]); 23] = [
        ("/a/b?q", "location: /c", &["/c"]),
        ("/a/b?q", "content-location: /c", &["/c"]),
        ("/a/b?q", "location: /c | content-location: /d?x", &["/c", "/d?x"]),
        ("/a/b?q", "location: /c | content-location: /c", &["/c"]),
        ("/a/b?q", "location: c", &["/a/c"]),
        ("/a/b?q", "location: ../c/./d", &["/c/d"]),
        ("/a/b?q", "location: ?other", &["/a/b?other"]),
        ("/a/b?q", "location: /c#part", &["/c"]),
        ("/a/b?q", "location: http://www.example.org/c", &["/c"]),
        ("/a/b?q", "location: HTTP://WWW.example.org:80/c", &["/c"]),
        ("/a/b?q", "location: //www.example.org/c", &["/c"]),
        ("/a/b?q", "location: http://www.example.org", &["/"]),
        ("/a/b", "location: /a/b", &[]),
        ("/a?ids[]=1", "location: /c", &["/c"]),
        ("/a|b/x?{q}", "location: c", &["/a%7Cb/c"]),
        ("/a", "location: /c?ids[]=1", &["/c?ids[]=1"]),
        ("/a", "location: /c?x=\u{fc}", &["/c?x=\u{fc}"]),
        ("/a", "location: //other.org/c?ids[]=1", &[]),
        ("/a?q", "location: #part", &[]),
        ("/a?q", "location:", &[]),
        ("/a/b", "location: http://other.org/c | content-location: https://www.example.org/d", &[]),
        ("/a/b", "location: http://www.example.org:8080/c", &[]),
        ("/a/b", "location: ht tp://broken | content-location: /c | content-location: /d", &[]),
    ];
    for (target, response, expected) in table {
        assert_eq!(found(target, response), expected, "{target} {response}");
    }
}

#[test]
fn a_redirection_names_nothing_that_was_changed() {
    let target = Target { scheme: Scheme::Http, authority: b"example.org", alias: None, path_and_query: b"/login" };
    let response = head("location: / | content-location: /account");
    for (status, count) in [(200, 2), (201, 2), (204, 2), (301, 0), (302, 0), (303, 0), (307, 0), (404, 0), (500, 0)] {
        let found = locations(&target, StatusCode::from_u16(status).unwrap(), &response);
        assert_eq!(found.len(), count, "{status}");
    }
}

#[test]
fn hosts_that_a_site_takes_for_one_are_one_origin() {
    let target = |alias| Target { scheme: Scheme::Http, authority: b"example.org", alias, path_and_query: b"/a" };
    let response = head("location: http://www.example.org/c");
    assert!(locations(&target(None), StatusCode::OK, &response).is_empty());
    assert_eq!(locations(&target(Some(b"www.example.org")), StatusCode::OK, &response), [b"/c".to_vec()]);
}

#[test]
fn own_location() {
    let own = |target: &str, response: &str| {
        let target = Target {
            scheme: Scheme::Https,
            authority: b"www.example.org:443",
            alias: None,
            path_and_query: target.as_bytes(),
        };
        is_own_location(&target, &head(response))
    };
    assert!(own("/a?q", "content-location: /a?q"));
    assert!(own("/a?q", "content-location: https://www.example.org/a?q"));
    assert!(!own("/a?q", "content-location: /a"));
    assert!(!own("/a?q", "content-location: http://www.example.org/a?q"));
    assert!(!own("/a?q", "location: /a?q"));
    assert!(!own("/a?q", ""));
}
