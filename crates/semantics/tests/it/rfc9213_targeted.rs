//! Targeted cache control: RFC 9213.

use http::header::HeaderName;
use nearside_semantics::control::{CDN_CACHE_CONTROL, Control};
use nearside_semantics::lifetime::Source;
use nearside_semantics::reuse::Reuse;
use nearside_semantics::storable::NotStorable::*;

use crate::heads::{head, lifetime_of, reuse, store};

#[test]
fn a_valid_field_governs_alone() {
    let table = [
        ("cdn-cache-control: max-age=60", 60, Source::MaxAge),
        ("cdn-cache-control: max-age=60 | cache-control: max-age=1", 60, Source::MaxAge),
        ("cdn-cache-control: max-age=1 | cache-control: max-age=60", 1, Source::MaxAge),
        ("cdn-cache-control: max-age=60 | expires: 0 | date: $now", 60, Source::MaxAge),
        ("cdn-cache-control: max-age=0 | expires: $now+60 | date: $now", 0, Source::MaxAge),
        ("cdn-cache-control: max-age=10, s-maxage=60", 60, Source::SMaxage),
        ("cdn-cache-control: foobar, max-age=60", 60, Source::MaxAge),
        ("cdn-cache-control: max-age=60;ext=1, other=(a b)", 60, Source::MaxAge),
        ("cdn-cache-control: foo | expires: $now+60 | date: $now", 0, Source::None),
        ("cdn-cache-control: max-age=99999999999", 1 << 31, Source::MaxAge),
        ("cdn-cache-control: max-age=1 | cdn-cache-control: max-age=60", 60, Source::MaxAge),
    ];
    for (response, secs, source) in table {
        let found = lifetime_of(200, &head(response));
        assert_eq!((found.span.as_secs(), found.source), (secs, source), "{response}");
    }
}

#[test]
fn s2_1_one_that_is_empty_or_cannot_be_parsed_is_as_good_as_absent() {
    for broken in ["", "max-age =60", "max-age= 60", "MaX-aGe=60", "max-age=60, &&&", "max-age=60,", "max-age", "a b"] {
        let response = head(&format!("cdn-cache-control: {broken} | cache-control: max-age=7"));
        let found = lifetime_of(200, &response).span.as_secs();
        // A key without a value is valid: a boolean where a number belongs, and so stale.
        assert_eq!(found, if broken == "max-age" { 0 } else { 7 }, "{broken}");
    }
}

#[test]
fn numbers_of_another_type_are_not_coerced() {
    for value in ["\"10000\"", "10000.0", "?1", "tok", "(1 2)", "-1"] {
        let response = head(&format!("cdn-cache-control: max-age={value} | cache-control: max-age=60"));
        assert_eq!(lifetime_of(200, &response).span.as_secs(), 0, "{value}");
    }
}

#[test]
fn storing_and_reuse_follow_it() {
    let fresh = "cache-control: max-age=10000 | expires: $now+10000 | date: $now";
    assert_eq!(store("GET", "", 200, &format!("cdn-cache-control: no-store | {fresh}")), Err(NoStore));
    assert_eq!(store("GET", "", 200, &format!("cdn-cache-control: private | {fresh}")), Err(Private));
    assert_eq!(store("GET", "", 200, "cdn-cache-control: max-age=60 | cache-control: no-store"), Ok(()));
    assert_eq!(store("GET", "", 200, "cdn-cache-control: max-age=60 | cache-control: private"), Ok(()));
    assert_eq!(store("GET", "", 200, "cdn-cache-control: no-store=?0, max-age=60"), Ok(()));
    assert_eq!(store("GET", "authorization: x", 200, "cdn-cache-control: max-age=60, public"), Ok(()));
    let invalid = "cdn-cache-control: max-age=\"10000\" | cache-control: no-store";
    assert_eq!(store("GET", "", 200, invalid), Err(Useless));
    assert_eq!(
        reuse("cdn-cache-control: max-age=3600 | age: 7200", 0, None),
        reuse("cache-control: max-age=0", 0, None)
    );
    let windows = "cdn-cache-control: max-age=60, stale-while-revalidate=30 | cache-control: must-revalidate";
    assert_eq!(reuse(windows, 70, None), Reuse::WhileRevalidate);
}

#[test]
fn the_first_of_the_targets_that_is_valid_counts() {
    let own = HeaderName::from_static("nearside-cache-control");
    let targets = [own, CDN_CACHE_CONTROL];
    let max_age = |response: &str, targets: &[HeaderName]| {
        Control::of(&head(response), targets).directives.max_age.map(|s| s.or_zero().as_secs())
    };
    let all = "cdn-cache-control: max-age=2 | nearside-cache-control: max-age=1 | cache-control: max-age=3";
    assert_eq!(max_age(all, &targets), Some(1));
    assert_eq!(max_age(all, &targets[1..]), Some(2));
    assert_eq!(max_age(all, &[]), Some(3));
    let broken = "nearside-cache-control: ! | cdn-cache-control: max-age=2 | cache-control: max-age=3";
    assert_eq!(max_age(broken, &targets), Some(2));
}
