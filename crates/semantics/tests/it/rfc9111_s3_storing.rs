//! What may be stored: RFC 9111 §3, §3.3, §3.5, §5.2.2.3–§5.2.2.7, §7.3; RFC 9110 §9.3.3.

use nearside_semantics::storable::NotStorable::{self, *};
use nearside_semantics::storable::StorePolicy;

use crate::heads::{store, store_with};

#[test]
fn directives() {
    let table = [
        ("GET", "cache-control: max-age=60", Ok(())),
        ("HEAD", "cache-control: max-age=60", Ok(())),
        ("GET", "cache-control: no-store, max-age=60", Err(NoStore)),
        ("GET", "cache-control: No-Store", Err(NoStore)),
        ("GET", "cache-control: NO-STORE, public, s-maxage=60", Err(NoStore)),
        ("GET", "cache-control: max-age=60 | cache-control: no-store", Err(NoStore)),
        ("GET", "cache-control: extension=\"no-store\", max-age=60", Ok(())),
        ("GET", "cache-control: Private, max-age=60", Err(Private)),
        ("GET", "cache-control: private=\"x\", max-age=60", Err(Private)),
        ("GET", "cache-control: no-cache=\"x\", max-age=60 | etag: \"a\"", Ok(())),
        ("GET", "cache-control: no-cache", Err(Useless)),
        ("GET", "cache-control: no-cache | etag: \"a\"", Ok(())),
        ("GET", "cache-control: max-age=0", Err(Useless)),
        ("GET", "cache-control: max-age=x", Err(Useless)),
        ("GET", "cache-control: max-age=0, stale-while-revalidate=5", Ok(())),
        ("GET", "cache-control: max-age=0, stale-if-error=5", Ok(())),
        ("GET", "expires: $now+60", Ok(())),
        ("GET", "expires: 0 | last-modified: $now-60", Ok(())),
        ("GET", "", Err(NoFreshness)),
        ("GET", "etag: \"a\"", Ok(())),
        ("GET", "cache-control: public | etag: \"a\"", Ok(())),
    ];
    for (method, response, expected) in table {
        assert_eq!(store(method, "", 200, response), expected, "{method} {response}");
    }
}

#[test]
fn any_final_status_with_explicit_freshness() {
    for status in
        [200, 201, 203, 204, 299, 302, 303, 307, 308, 401, 403, 404, 410, 418, 422, 451, 499, 500, 502, 503, 504, 599]
    {
        assert_eq!(store("GET", "", status, "cache-control: max-age=60"), Ok(()), "{status}");
        assert_eq!(store("GET", "", status, "expires: $now+60"), Ok(()), "{status}");
    }
    for status in [201, 202, 302, 403, 500, 502, 503, 504, 599] {
        assert_eq!(store("GET", "", status, "last-modified: $now-1000"), Err(NoFreshness), "{status}");
    }
    for (status, reason) in [(206, Partial), (304, Status), (412, Status), (416, Status), (103, Status)] {
        assert_eq!(store("GET", "", status, "cache-control: max-age=60"), Err(reason), "{status}");
    }
}

#[test]
fn an_error_that_speaks_of_the_request_is_stored_only_if_it_is_said_to_be_for_others() {
    let table = [
        ("cache-control: max-age=60", Err(RequestError)),
        ("cache-control: s-maxage=60", Err(RequestError)),
        ("cache-control: max-age=60, must-revalidate", Err(RequestError)),
        ("expires: $now+60", Err(RequestError)),
        ("last-modified: $now-1000", Err(RequestError)),
        ("etag: \"a\"", Err(RequestError)),
        ("", Err(RequestError)),
        ("cdn-cache-control: ! | cache-control: max-age=60", Err(RequestError)),
        ("cache-control: max-age=60, public", Ok(())),
        ("cdn-cache-control: max-age=60", Ok(())),
        ("cdn-cache-control: max-age=60 | cache-control: no-store", Ok(())),
        ("cdn-cache-control: no-store | cache-control: public, max-age=60", Err(NoStore)),
        ("cache-control: max-age=60, public, private", Err(Private)),
    ];
    let of_one_condition = [412, 416];
    for status in [400, 405, 406, 407, 408, 411, 413, 414, 415, 417, 421, 425, 426, 428, 429, 431, 501] {
        for (response, expected) in table {
            assert_eq!(store("GET", "", status, response), expected, "{status} {response}");
        }
    }
    for status in of_one_condition {
        for (response, _) in table {
            assert_eq!(store("GET", "", status, response), Err(Status), "{status} {response}");
        }
    }
    for status in [401, 402, 403, 404, 409, 410, 418, 422, 451, 500, 502, 503, 504, 505, 511] {
        assert_eq!(store("GET", "", status, "cache-control: max-age=60"), Ok(()), "{status} speaks of the resource");
    }
}

#[test]
fn s3_3_parts_are_not_stored() {
    let response = "cache-control: max-age=60 | content-range: bytes 0-4/10";
    assert_eq!(store("GET", "range: bytes=0-4", 206, response), Err(Partial));
    assert_eq!(store("GET", "range: bytes=0-4", 200, response), Err(Partial));
    assert_eq!(store("GET", "", 200, response), Ok(()), "an unknown field on a whole answer");
}

#[test]
fn s3_5_authorised_requests() {
    let table: [(&str, Result<(), NotStorable>); 6] = [
        ("cache-control: max-age=60", Err(Authorization)),
        ("expires: $now+60", Err(Authorization)),
        ("cache-control: max-age=60, public", Ok(())),
        ("cache-control: s-maxage=60", Ok(())),
        ("cache-control: max-age=60, must-revalidate", Ok(())),
        ("cache-control: max-age=60, proxy-revalidate", Err(Authorization)),
    ];
    for (response, expected) in table {
        assert_eq!(store("GET", "authorization: Basic x", 200, response), expected, "{response}");
    }
}

#[test]
fn s5_2_2_3_must_understand_overrides_no_store_for_known_statuses_only() {
    let response = "cache-control: no-store, must-understand, max-age=60";
    for status in [200, 203, 204, 301, 308, 404, 410] {
        assert_eq!(store("GET", "", status, response), Ok(()), "{status}");
    }
    assert_eq!(store("GET", "", 501, response), Err(RequestError), "it speaks of one request all the same");
    assert_eq!(store("GET", "", 501, &format!("{response}, public")), Ok(()));
    for status in [299, 499, 599, 999] {
        assert_eq!(store("GET", "", status, response), Err(NotUnderstood), "{status}");
        assert_eq!(store("GET", "", status, "cache-control: must-understand, max-age=60"), Err(NotUnderstood));
    }
}

#[test]
fn rfc9110_s9_3_3_a_post_is_stored_if_it_says_that_it_is_for_later_gets() {
    let fresh = "cache-control: max-age=60";
    let table = [
        (200, format!("{fresh} | content-location: /own"), Ok(())),
        (200, "expires: $now+60 | content-location: /own".to_owned(), Ok(())),
        (200, format!("{fresh} | content-location: /other"), Err(Method)),
        (200, fresh.to_owned(), Err(Method)),
        (201, format!("{fresh} | content-location: /own"), Err(Method)),
        (200, "last-modified: $now-1000 | content-location: /own".to_owned(), Err(Method)),
        (200, "cache-control: max-age=0 | etag: \"a\" | content-location: /own".to_owned(), Err(Method)),
        (200, format!("{fresh}, no-store | content-location: /own"), Err(NoStore)),
    ];
    for (status, response, expected) in table {
        assert_eq!(store("POST", "", status, &response), expected, "{status} {response}");
    }
    for method in ["PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "FROB"] {
        let response = format!("{fresh} | content-location: /own");
        assert_eq!(store(method, "", 200, &response), Err(Method), "{method}");
    }
}

#[test]
fn what_a_site_decides() {
    let cookie = "cache-control: max-age=60 | set-cookie: a=1";
    assert_eq!(store("GET", "", 200, cookie), Err(SetCookie));
    let shares = StorePolicy { set_cookie: true, ..StorePolicy::default() };
    assert_eq!(store_with("GET", "", 200, cookie, shares), Ok(()));
    assert_eq!(store("GET", "cookie: a=1", 200, "cache-control: max-age=60"), Ok(()), "a cookie alone changes nothing");

    let honours = StorePolicy { request_directives: true, ..StorePolicy::default() };
    assert_eq!(store("GET", "cache-control: no-store", 200, "cache-control: max-age=60"), Ok(()));
    let refused = store_with("GET", "cache-control: no-store", 200, "cache-control: max-age=60", honours);
    assert_eq!(refused, Err(RequestNoStore));
}

#[test]
fn vary_all_is_never_stored() {
    for vary in ["*", "a, *", "* | vary: a", "a | vary: *"] {
        let response = format!("cache-control: max-age=60 | vary: {vary}");
        assert_eq!(store("GET", "", 200, &response), Err(VaryAll), "{vary}");
    }
    assert_eq!(store("GET", "", 200, "cache-control: max-age=60 | vary: a"), Ok(()));
}
